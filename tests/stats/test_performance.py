"""Metrics against hand sums and skfolio, their limits and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skfolio.measures as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats as scipy_stats
from skfolio.measures import _measures as skfolio_functions

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats import performance
from alphakeel.stats.performance import harrell_davis_weights, tail_share
from references import cvar_rockafellar_uryasev

Array = NDArray[np.float64]

FUNCTIONS: list[Callable[..., Any]] = [
    performance.annual_return,
    performance.annual_volatility,
    performance.calmar,
    performance.conditional_value_at_risk,
    performance.hit_rate,
    performance.max_drawdown,
    performance.sharpe,
    performance.skewness,
    performance.sortino,
    performance.value_at_risk,
]


@pytest.fixture
def returns() -> Array:
    return np.random.default_rng(0).standard_t(4, (503, 4)) * 0.01 + 0.0005


class TestReferences:
    def test_by_hand(self) -> None:
        r = [0.10, -0.20, 0.05, 0.15]
        wealth = [1.1, 0.88, 0.924, 1.0626]
        mean = 0.1 / 4
        variance = sum((x - mean) ** 2 for x in r) / 3
        year = 252
        assert performance.annual_return(r) == pytest.approx(1.0626 ** (year / 4) - 1)
        assert performance.annual_volatility(r) == pytest.approx((variance * year) ** 0.5)
        assert performance.sharpe(r) == pytest.approx(mean / variance**0.5 * year**0.5)
        assert performance.sharpe(r, risk_free=0.01) == pytest.approx(
            (mean - 0.01) / variance**0.5 * year**0.5
        )
        assert performance.sortino(r) == pytest.approx(mean / (0.04 / 4) ** 0.5 * year**0.5)
        assert performance.max_drawdown(r) == pytest.approx(1 - wealth[1] / 1.1)
        np.testing.assert_allclose(
            performance.drawdown_series(r), [0, 0.2, 1 - 0.924 / 1.1, 1 - 1.0626 / 1.1]
        )
        assert performance.calmar(r) == pytest.approx((1.0626**63 - 1) / 0.2)
        assert performance.hit_rate(r) == 0.75
        assert performance.value_at_risk(r, level=0.5) == pytest.approx(-(0.05 + 0.10) / 2)
        assert performance.value_at_risk(r, level=0.9) == pytest.approx(-(0.7 * -0.2 + 0.3 * 0.05))
        # Worst 30 % of four days: one day and a fifth of the next.
        assert performance.conditional_value_at_risk(r, level=0.7) == pytest.approx(
            (0.2 - 0.2 * 0.05) / 1.2
        )

    def test_skfolio_agrees_where_the_definition_does(self, returns: Array) -> None:
        drawdowns = skfolio_functions.get_drawdowns(returns, compounded=True)
        pairs = [
            (performance.drawdown_series(returns), -drawdowns),
            (performance.max_drawdown(returns), sm.max_drawdown(drawdowns)),
            (performance.conditional_value_at_risk(returns), sm.cvar(returns)),
            (
                performance.conditional_value_at_risk(returns, level=0.99),
                sm.cvar(returns, beta=0.99),
            ),
            (performance.annual_volatility(returns), sm.standard_deviation(returns) * 252**0.5),
            (
                performance.sharpe(returns),
                sm.mean(returns) / sm.standard_deviation(returns) * 252**0.5,
            ),
        ]
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-14)

    def test_numpy_and_scipy_agree(self, returns: Array) -> None:
        for level in (0.5, 0.9, 0.95, 0.99, 0.999):
            np.testing.assert_allclose(
                performance.value_at_risk(returns, level=level),
                -np.quantile(returns, 1 - level, axis=0),
                rtol=1e-11,
            )
        np.testing.assert_allclose(
            performance.skewness(returns), scipy_stats.skew(returns, axis=0), rtol=1e-12
        )

    def test_beta_is_the_regression_slope(self, returns: Array) -> None:
        benchmark = returns[:, 0]
        expected = [scipy_stats.linregress(benchmark, column).slope for column in returns.T]
        np.testing.assert_allclose(performance.beta(returns, benchmark), expected, rtol=1e-12)
        active = returns[:, 1] - benchmark
        assert performance.information_ratio(returns[:, 1], benchmark) == performance.sharpe(active)
        together = np.asarray(performance.information_ratio(returns[:, 1:], benchmark))
        assert together[0] == pytest.approx(performance.sharpe(active), rel=1e-12)

    def test_turnover_by_hand(self) -> None:
        path = [[0.6, 0.4], [0.5, 0.2], [0.5, 0.2]]
        np.testing.assert_allclose(performance.turnover(path), [1.0, 0.3, 0.0], atol=1e-15)
        np.testing.assert_allclose(performance.turnover(path, [0.6, 0.4])[0], 0.0)


class TestTailMinimum:
    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=40),
        st.sampled_from([0.5, 0.7, 0.71, 0.9, 0.95, 0.99]),
    )
    def test_the_minimum_is_the_cvar(self, returns: list[float], level: float) -> None:
        least = cvar_rockafellar_uryasev(returns, level=level)
        assert least == pytest.approx(
            performance.conditional_value_at_risk(returns, level=level), rel=1e-9, abs=1e-12
        )
        for threshold in [-r for r in returns]:
            value = cvar_rockafellar_uryasev(returns, level=level, threshold=threshold)
            assert value >= least - 1e-12

    def test_the_weights_are_shared_and_cannot_be_changed(self) -> None:
        weights = harrell_davis_weights(9, 0.05)
        assert weights is harrell_davis_weights(9, 0.05)
        with pytest.raises(ValueError, match="read-only"):
            weights[0] = 0.0

    def test_a_share_has_no_rounding_error(self) -> None:
        """1 - 0.9 is below 0.1 in floating point, 1 - 0.95 above 0.05."""
        assert [tail_share(level) for level in (0.9, 0.95, 0.99)] == [0.1, 0.05, 0.01]

    def test_one_day_is_its_own_tail(self) -> None:
        for figure in (performance.value_at_risk, performance.conditional_value_at_risk):
            assert figure([-0.02]) == pytest.approx(0.02)

    def test_order_of_the_tail_measures(self, returns: Array) -> None:
        var, cvar = (
            performance.value_at_risk(returns),
            performance.conditional_value_at_risk(returns),
        )
        assert (cvar >= var).all()


class TestProperties:
    @pytest.mark.parametrize("func", FUNCTIONS, ids=lambda f: f.__name__)
    def test_columns_are_strategies(self, func: Callable[..., Any], returns: Array) -> None:
        before = returns.copy()
        together = func(returns)
        assert together.shape == (4,)
        for column, value in zip(returns.T, together, strict=True):
            alone = func(column)
            assert isinstance(alone, float)
            assert alone == pytest.approx(value, rel=1e-12)
        np.testing.assert_array_equal(returns, before)

    def test_the_future_cannot_reach_back(self, returns: Array) -> None:
        noisy = returns.copy()
        noisy[300:] = np.random.default_rng(1).uniform(-0.9, 2.0, noisy[300:].shape)
        noisy[400] = 1e100
        np.testing.assert_array_equal(
            performance.drawdown_series(returns)[:300], performance.drawdown_series(noisy)[:300]
        )
        weights = np.abs(returns)
        np.testing.assert_array_equal(
            performance.turnover(weights)[:300], performance.turnover(np.abs(noisy[:300]))
        )

    def test_summary_is_its_parts(self, returns: Array) -> None:
        r, b = returns[:, 0], returns[:, 1]
        figures = performance.summary(r, benchmark=b, turnover=np.full(503, 0.1))
        assert list(figures) == [
            "annual_return",
            "annual_volatility",
            "sharpe",
            "sortino",
            "max_drawdown",
            "calmar",
            "var_95",
            "cvar_95",
            "skewness",
            "hit_rate",
            "beta",
            "information_ratio",
            "annual_turnover",
        ]
        assert all(type(value) is float for value in figures.values())
        assert figures["sharpe"] == performance.sharpe(r)
        assert figures["beta"] == performance.beta(r, b)
        assert figures["annual_turnover"] == pytest.approx(25.2)
        assert "beta" not in performance.summary(r)


class TestDegenerate:
    def test_a_constant_has_no_ratio(self) -> None:
        flat = np.full(7, 0.1)
        for func in (
            performance.sharpe,
            performance.sortino,
            performance.calmar,
            performance.skewness,
        ):
            assert np.isnan(func(flat))
        assert performance.annual_volatility(flat) == 0.0
        assert np.isnan(performance.beta([0.1, 0.2], [0.1, 0.1]))

    def test_total_loss(self) -> None:
        r = [0.1, -1.0, 0.5]
        assert performance.max_drawdown(r) == 1.0
        assert performance.annual_return(r) == -1.0

    def test_a_loss_on_the_first_day_counts(self) -> None:
        assert performance.max_drawdown([-0.2, 0.1]) == pytest.approx(0.2)


class TestValidation:
    @pytest.mark.parametrize("func", FUNCTIONS, ids=lambda f: f.__name__)
    def test_unknown_days_are_refused_by_index(
        self, func: Callable[..., Any], returns: Array
    ) -> None:
        returns[17, 2] = np.nan
        with pytest.raises(DataError, match="nan at row 17, column 2"):
            func(returns)
        with pytest.raises(DataError, match="inf at row 1;"):
            func([0.1, np.inf])

    def test_shapes_and_limits(self) -> None:
        with pytest.raises(DataError, match="0 days; at least 2"):
            performance.sharpe([])
        with pytest.raises(DataError, match="must have shape"):
            performance.sharpe(np.zeros((2, 2, 2)))
        with pytest.raises(DataError, match="below -1 at row 1"):
            performance.max_drawdown([0.0, -1.5])
        with pytest.raises(DataError, match="cover 3 days"):
            performance.beta([0.1, 0.2, 0.3], [0.1, 0.2])
        with pytest.raises(DataError, match="one strategy"):
            performance.summary(np.zeros((5, 2)))
        with pytest.raises(DataError, match="n_dates, n_assets"):
            performance.turnover([0.5, 0.5])
        with pytest.raises(DataError, match="previous weights"):
            performance.turnover([[0.5, 0.5]], [1.0])
        for level in (0.0, 1.0, 95.0):
            with pytest.raises(ConfigError, match=r"0\.95 is 95 %"):
                performance.value_at_risk([0.1, 0.2], level=level)


class TestLabels:
    """Numbers of pandas are taken by position: other labels are refused, not dropped."""

    days = pd.bdate_range("2015-01-01", periods=30)
    returns = pd.Series(np.random.default_rng(0).normal(0, 0.01, 30), days)

    def test_the_same_dates_give_what_arrays_give(self) -> None:
        other = self.returns * 0.5
        assert performance.beta(self.returns, other) == performance.beta(
            self.returns.to_numpy(), other.to_numpy()
        )
        assert performance.beta(self.returns, other.to_numpy()) == pytest.approx(2.0)

    @pytest.mark.parametrize("name", ["beta", "information_ratio", "summary"])
    def test_a_day_apart_is_refused(self, name: str) -> None:
        with pytest.raises(DataError, match=r"same rows \(29 and 29, first 2015-01-02.* reindex"):
            getattr(performance, name)(self.returns[1:], self.returns[:-1])

    def test_previous_weights_of_other_stocks_are_refused(self) -> None:
        weights = pd.DataFrame([[0.5, 0.5]], columns=["A", "B"])
        with pytest.raises(DataError, match="name other stocks"):
            performance.turnover(weights, pd.Series([0.5, 0.5], index=["B", "A"]))
