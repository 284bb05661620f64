"""The four figures in one call against the functions that make them one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats import metrics
from alphakeel.stats.risk_metrics import risk_metrics

ONE_BY_ONE = (
    metrics.annual_volatility,
    metrics.max_drawdown,
    metrics.value_at_risk,
    metrics.conditional_value_at_risk,
)


def expected(returns: np.ndarray, level: float = 0.95) -> list[np.ndarray]:
    return [
        np.asarray(f(returns, **({"level": level} if "value" in f.__name__ else {})))
        for f in ONE_BY_ONE
    ]


@pytest.mark.parametrize("n_portfolios", [1, 7, 100, 101, 300])
def test_equals_the_functions_for_few_and_for_many(n_portfolios: int) -> None:
    rng = np.random.default_rng(n_portfolios)
    returns = rng.standard_t(4, (501, n_portfolios)) * 0.01
    for got, want in zip(risk_metrics(returns), expected(returns), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-15)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 90),
    columns=st.integers(1, 130),
    level=st.floats(0.02, 0.99),
    seed=st.integers(0, 10_000),
    step=st.sampled_from([0.0, 0.01, 0.1]),
)
def test_equals_the_functions_on_ties_short_samples_and_any_level(
    n: int, columns: int, level: float, seed: int, step: float
) -> None:
    returns = np.random.default_rng(seed).normal(0.0, 0.1, (n, columns)).clip(-0.9, 0.9)
    if step:
        returns = np.round(returns / step) * step
    for got, want in zip(risk_metrics(returns, level=level), expected(returns, level), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def test_one_series_gives_numbers_and_a_constant_has_no_volatility() -> None:
    risk = risk_metrics([0.1] * 7)
    assert risk.annual_volatility.shape == ()
    assert risk.annual_volatility == 0.0
    assert risk.max_drawdown == 0.0
    assert risk.value_at_risk == pytest.approx(-0.1)
    assert risk.conditional_value_at_risk == pytest.approx(-0.1)


def test_no_confidence_takes_every_day() -> None:
    returns = np.random.default_rng(2).normal(0.0, 0.01, (30, 4))
    risk = risk_metrics(returns, level=1e-13)
    np.testing.assert_allclose(risk.value_at_risk, -returns.max(axis=0))
    np.testing.assert_allclose(risk.conditional_value_at_risk, -returns.mean(axis=0))
    for got, want in zip(risk, expected(returns, 1e-13), strict=True):
        np.testing.assert_allclose(got, want)


def test_ruin_is_a_drawdown_of_everything() -> None:
    returns = np.full((3, 150), 0.1)
    returns[1, 20] = -1.0
    assert risk_metrics(returns).max_drawdown[20] == 1.0


def test_refusals_and_no_change_to_the_input() -> None:
    returns = np.random.default_rng(0).normal(0.0, 0.01, (50, 3))
    before = returns.copy()
    risk_metrics(returns)
    np.testing.assert_array_equal(returns, before)
    with pytest.raises(ConfigError, match="level"):
        risk_metrics(returns, level=1.0)
    returns[4, 1] = np.nan
    with pytest.raises(DataError, match="row 4, column 1"):
        risk_metrics(returns)
    for ruined in ([0.0, -1.5], np.full((2, 150), -1.5)):
        with pytest.raises(DataError, match="below -1"):
            risk_metrics(ruined)
