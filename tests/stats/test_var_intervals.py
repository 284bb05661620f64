"""How sure a VaR is: the formula by loops, closed forms, and what the limits promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats import performance
from alphakeel.stats.sharpe import cosine_variance
from alphakeel.stats.var_intervals import value_at_risk_changes, value_at_risk_intervals

Array = NDArray[np.float64]


def _spells(n: int, n_columns: int, seed: int) -> Array:
    """Normal days whose log volatility is an autoregression of half-life 34 days."""
    rng = np.random.default_rng(seed)
    log, out = np.zeros(n_columns), np.empty((n, n_columns))
    log = rng.standard_normal(n_columns)
    for row in out:
        log = 0.98 * log + math.sqrt(1 - 0.98**2) * rng.standard_normal(n_columns)
        row[:] = 0.01 * np.exp(0.35 * log) * rng.standard_normal(n_columns)
    return out


class TestCosineVariance:
    def test_by_loops(self) -> None:
        x = np.random.default_rng(0).standard_normal((50, 2)).cumsum(axis=0)
        for column, found in zip(x.T, cosine_variance(x, 3), strict=True):
            total = 0.0
            for j in (1, 2, 3):
                wave = [math.cos(math.pi * j * (t + 0.5) / 50) for t in range(50)]
                total += 2.0 / 50 * sum(w * v for w, v in zip(wave, column, strict=True)) ** 2
            assert found == pytest.approx(total / 3)

    def test_a_level_does_not_matter(self) -> None:
        x = np.random.default_rng(1).standard_normal((200, 1))
        np.testing.assert_allclose(cosine_variance(x + 5.0, 6), cosine_variance(x, 6), rtol=1e-9)

    def test_autoregression(self) -> None:
        """Its long-run variance is 1 / (1 - 0.5)^2; 3,000 estimates of six waves are averaged."""
        rng = np.random.default_rng(2)
        x = np.zeros((600, 3000))
        for t in range(1, 600):
            x[t] = 0.5 * x[t - 1] + rng.standard_normal(3000)
        assert cosine_variance(x, 6).mean() == pytest.approx(4.0, rel=0.04)

    @pytest.mark.parametrize("n_waves", [0, 20])
    def test_waves_out_of_range(self, n_waves: int) -> None:
        with pytest.raises(ConfigError, match="n_waves"):
            cosine_variance(np.ones((20, 1)), n_waves)


class TestOneVar:
    def test_the_formula(self) -> None:
        x = _spells(800, 1, seed=3)[:, 0]
        low, var, high = (-np.quantile(x, q) for q in (0.08, 0.05, 0.02))
        psi = (high - low) / 0.06 / var * ((x <= -var) - np.mean(x <= -var))
        error = math.sqrt(cosine_variance(psi[:, None], 6)[0] / 800)
        reach = stats.t(6).ppf(0.95) * error
        (own,) = value_at_risk_intervals(x, level=0.9)
        assert own.estimate == pytest.approx(performance.value_at_risk(x))
        assert (own.low, own.high) == pytest.approx((var * math.exp(-reach), var * math.exp(reach)))

    def test_independent_days(self) -> None:
        """The mean squared error of the log is p (1 - p) / n / (f q)^2, of the normal here."""
        p, n = 0.05, 2000
        x = np.random.default_rng(4).standard_normal((n, 1500))
        q = stats.norm.ppf(p)
        known = math.sqrt(p * (1 - p) / n) / (stats.norm.pdf(q) * -q)
        found = value_at_risk_intervals(x)
        reach = np.array([math.log(own.high / own.estimate) for own in found])
        errors = reach / stats.t(6).ppf(0.975)
        # The chord from 2 % to 8 % is steeper than the tangent, which errs on the safe side.
        chord = (stats.norm.ppf(0.08) - stats.norm.ppf(0.02)) / 0.06 * stats.norm.pdf(q)
        assert math.sqrt((errors**2).mean()) == pytest.approx(known * chord, rel=0.04)
        assert 1.0 < chord < 1.12

    def test_spells_of_volatility(self) -> None:
        """Limits at 95 % hold the true VaR in 92 to 97 of 100 histories, as they promise."""
        true = performance.value_at_risk(_spells(1250, 4000, seed=5).ravel())
        found = value_at_risk_intervals(_spells(1250, 1000, seed=6))
        held = np.mean([own.low <= true <= own.high for own in found])
        assert 0.92 <= held <= 0.97

    def test_leverage_moves_all_alike(self) -> None:
        x = _spells(500, 1, seed=7)
        (one,), (three,) = value_at_risk_intervals(x), value_at_risk_intervals(3.0 * x)
        assert (three.low, three.high) == pytest.approx((3.0 * one.low, 3.0 * one.high))

    def test_several_are_each_alone(self) -> None:
        x = _spells(500, 3, seed=8)
        x[:, 1] = 0.001
        first, still, last = value_at_risk_intervals(x)
        for one, column in ((first, 0), (last, 2)):
            (alone,) = value_at_risk_intervals(x[:, column])
            assert (one.low, one.high) == pytest.approx((alone.low, alone.high))
        assert still.estimate == -0.001
        assert math.isnan(still.low)
        assert math.isnan(still.high)

    def test_refusals(self) -> None:
        with pytest.raises(DataError, match="9 days are too few"):
            value_at_risk_intervals(np.arange(9.0))
        with pytest.raises(ConfigError, match="level"):
            value_at_risk_intervals(np.arange(20.0), level=1.0)
        with pytest.raises(ConfigError, match="var_level"):
            value_at_risk_intervals(np.arange(20.0), var_level=0.3)


class TestTwoVars:
    def test_size_of_a_pair_with_equal_var(self) -> None:
        """Exchangeable portfolios: `no difference` is true and refused in no more than 6 of 100."""
        market, own, other = (_spells(1250, 800, seed=seed) for seed in (9, 10, 11))
        first, second = market + 0.5 * own, market + 0.5 * other
        tests = [value_at_risk_changes(a, b)[0] for a, b in zip(first.T, second.T, strict=True)]
        assert 0.02 <= np.mean([test.p_value < 0.05 for test in tests]) <= 0.06
        for test in tests:
            assert (test.p_value < 0.05) == (not test.low < 0.0 < test.high)

    def test_there_and_back(self) -> None:
        a, b = _spells(900, 2, seed=12).T
        (there,), (back,) = value_at_risk_changes(a, b), value_at_risk_changes(b, a)
        assert (1 + there.low) * (1 + back.high) == pytest.approx(1.0)
        assert (1 + there.estimate) * (1 + back.estimate) == pytest.approx(1.0)
        assert there.p_value == pytest.approx(back.p_value)

    def test_itself_and_cash(self) -> None:
        x = _spells(400, 1, seed=13)[:, 0]
        same, cash = value_at_risk_changes(np.column_stack([x, 0.0 * x]), x)
        assert (same.estimate, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)
        assert cash.estimate == -1.0
        assert np.isnan([cash.low, cash.high, cash.p_value]).all()
        (none,) = value_at_risk_changes(x, 0.0 * x)
        assert np.isnan([none.estimate, none.low, none.high, none.p_value]).all()

    def test_lengths(self) -> None:
        with pytest.raises(DataError, match="20 days but the baseline 19"):
            value_at_risk_changes(np.ones(20), np.ones(19))
