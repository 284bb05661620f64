"""Forecasts of value at risk: by brute force, without the future, and right on known markets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphakeel.errors import ConfigError, DataError
from alphakeel.risk.value_at_risk import (
    FALL,
    OWN_HALFLIFE,
    RISE,
    SETTLE,
    STOCKS_HALFLIFE,
    portfolio_var,
    scenario_var,
    tail_of,
    tracking_scale,
)
from alphakeel.stats import performance
from alphakeel.stats.var_backtests import evaluate, exceedances

Array = npt.NDArray[np.float64]


@pytest.fixture
def returns() -> Array:
    """Ten stocks with a common, changing volatility, gaps and a late listing, 400 days."""
    rng = np.random.default_rng(0)
    volatility = 0.01 * np.exp(0.5 * np.sin(np.arange(400) / 30.0))[:, None]
    r = volatility * (rng.standard_normal((400, 1)) + rng.standard_t(5, (400, 10)))
    r[rng.random(r.shape) < 0.02] = np.nan
    r[:150, 9] = np.nan
    return r


@pytest.fixture
def weights(returns: Array) -> Array:
    w = np.random.default_rng(1).random((len(returns), 10))
    return w / w.sum(axis=1, keepdims=True)


def garch(n: int, seed: int, jump: float = 1.0) -> Array:
    """Returns with clustered volatility, which rises `jump` times for good half-way."""
    rng = np.random.default_rng(seed)
    r, variance = np.ones(n), 1.0
    for t in range(1, n):
        variance = 0.02 + 0.08 * r[t - 1] ** 2 + 0.9 * variance
        r[t] = np.sqrt(variance) * rng.standard_t(6) / np.sqrt(1.5)
    return 0.01 * r * np.where(np.arange(n) < n // 2, 1.0, jump)


class TestTail:
    @settings(max_examples=100, deadline=None)
    @given(
        n=st.integers(1, 60),
        gaps=st.integers(0, 20),
        level=st.floats(0.01, 0.995),
        seed=st.integers(0, 999),
    )
    def test_is_that_of_metrics_on_the_known_values(
        self, n: int, gaps: int, level: float, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        known = np.round(rng.normal(0.0, 0.02, n), 3)
        x = rng.permutation(np.concatenate([known, np.full(gaps, np.nan)]))
        tail = tail_of(x, round(1.0 - level, 12), 1)
        assert tail.var == pytest.approx(
            float(performance.value_at_risk(known, level=level)), abs=1e-12
        )
        cvar = performance.conditional_value_at_risk(known, level=level)
        assert tail.cvar == pytest.approx(float(cvar), abs=1e-12)
        assert np.isnan(tail_of(x, 0.05, n + 1).var)


class TestScenarios:
    def test_own_filter_by_hand(self, returns: Array) -> None:
        """One decision, every step with loops over days and stocks."""
        w = np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.2])
        row, window = 380, 250
        days = range(row - window - SETTLE + 1, row + 1)
        past, squares = [], []
        for t in days:
            known = [i for i in (0, 2, 9) if not np.isnan(returns[t, i])]
            covered = sum(w[i] for i in known)
            if covered <= 0.5:
                past.append(np.nan)
                squares.append(np.nan)
                continue
            past.append(sum(w[i] * returns[t, i] for i in known) / covered)
            squares.append(sum(w[i] * returns[t, i] ** 2 for i in known) / covered)
        own = [p * p * (FALL if p < 0.0 else RISE) for p in past]

        def smooth(x: list[float], halflife: float) -> list[float]:
            out = []
            for t in range(len(x)):
                pairs = [
                    (0.5 ** ((t - s) / halflife), x[s]) for s in range(t + 1) if not np.isnan(x[s])
                ]
                total = sum(d for d, _ in pairs)
                out.append(sum(d * v for d, v in pairs) / total if pairs else np.nan)
            return out

        for _ in range(2):
            own, squares = smooth(own, OWN_HALFLIFE), smooth(squares, STOCKS_HALFLIFE)
        volatility = [(a * b) ** 0.25 for a, b in zip(own, squares, strict=True)]
        surprise = [past[t] / volatility[t - 1] for t in range(SETTLE, len(past))]
        surprise = [s for s in surprise if not np.isnan(s)]
        forecast = scenario_var(w[None], returns, np.array([row]), window=window)
        assert forecast.var[0] == pytest.approx(
            float(performance.value_at_risk(surprise)) * volatility[-1], rel=1e-9
        )
        assert forecast.cvar[0] == pytest.approx(
            float(performance.conditional_value_at_risk(surprise)) * volatility[-1], rel=1e-9
        )

    def test_stock_volatilities_by_hand(self, returns: Array, weights: Array) -> None:
        rng = np.random.default_rng(4)
        volatility = rng.uniform(0.1, 0.6, returns.shape)
        row, w = 300, weights[300]
        forecast = scenario_var(
            w[None], returns, np.array([row]), window=200, volatility=volatility
        )
        earned = []
        for t in range(row - 199, row + 1):
            known = ~np.isnan(returns[t])
            risk = w * volatility[row]
            if risk[known].sum() <= 0.5 * risk.sum():
                continue
            scaled = returns[t, known] / volatility[t - 1, known]
            earned.append((risk[known] * scaled).sum() * risk.sum() / risk[known].sum())
        assert forecast.var[0] == pytest.approx(float(performance.value_at_risk(earned)), rel=1e-9)
        # In another unit the forecasts say the same.
        again = scenario_var(
            w[None], returns, np.array([row]), window=200, volatility=9 * volatility
        )
        assert again.var[0] == pytest.approx(forecast.var[0], rel=1e-9)

    def test_a_stock_without_volatility_today_counts_as_the_others(self, returns: Array) -> None:
        returns = np.nan_to_num(returns)
        volatility = np.full(returns.shape, 0.3)
        volatility[:, 3] = np.nan
        w = np.full((1, 10), 0.1)
        without = w.copy()
        without[0, 3] = 0.0
        rows = np.array([399])
        got = scenario_var(w, returns, rows, volatility=volatility).var
        want = scenario_var(without / 0.9, returns, rows, volatility=volatility).var
        np.testing.assert_allclose(got, want, rtol=1e-12)

    def test_exposure_scales_and_cash_has_no_risk(self, returns: Array, weights: Array) -> None:
        rows = np.arange(300, 400)
        w = weights[rows].copy()
        full = scenario_var(w, returns, rows)
        half = scenario_var(0.5 * w, returns, rows)
        np.testing.assert_allclose(half.var, 0.5 * full.var, rtol=1e-12)
        w[3], w[4] = 0.0, np.nan
        odd = scenario_var(w, returns, rows)
        assert odd.var[3] == odd.cvar[3] == 0.0
        assert np.isnan(odd.var[4])
        np.testing.assert_allclose(np.delete(odd.var, [3, 4]), np.delete(full.var, [3, 4]))

    def test_neither_order_of_rows_nor_of_stocks_matters(
        self, returns: Array, weights: Array
    ) -> None:
        rng = np.random.default_rng(5)
        rows = np.concatenate([np.arange(150, 400), [250, 399]])
        straight = scenario_var(weights[rows], returns, rows, window=150)
        order, stocks = rng.permutation(len(rows)), rng.permutation(10)
        mixed = scenario_var(
            weights[rows][order][:, stocks], returns[:, stocks], rows[order], window=150
        )
        np.testing.assert_allclose(mixed.cvar, straight.cvar[order], rtol=1e-9)

    def test_short_history_has_no_answer(self, returns: Array, weights: Array) -> None:
        rows = np.arange(400)
        var = scenario_var(weights, returns, rows, min_count=100).var
        assert np.isnan(var[:100]).all()
        assert not np.isnan(var[150:]).any()


class TestConformal:
    @settings(max_examples=50, deadline=None)
    @given(seed=st.integers(0, 999), rate=st.floats(0.001, 0.5), level=st.floats(0.5, 0.99))
    def test_rate_of_exceedances_follows_from_the_last_factor(
        self, seed: int, rate: float, level: float
    ) -> None:
        """The share of exceedances follows from the last factor, whatever the returns are."""
        rng = np.random.default_rng(seed)
        r = np.cumsum(rng.standard_normal(300)) * 0.01
        base = np.exp(rng.standard_normal(300))
        base[rng.random(300) < 0.1] = np.nan
        scale = tracking_scale(r, base, level=level, rate=rate)
        hits = exceedances(r, scale * base)
        want = (1.0 - level) + (scale[-1] - 1.0) / (rate * np.count_nonzero(~np.isnan(hits)))
        assert np.nanmean(hits) == pytest.approx(want, abs=1e-9)

    def test_coverage_through_a_change_of_regime(self) -> None:
        """A base that is right at first and half of what it should be afterwards."""
        r = np.random.default_rng(7).normal(0.0, 0.01, 3000)
        r[1500:] *= 2.0
        base = np.full(3000, 0.01645)
        plain = evaluate(r, base).coverage
        assert plain.rate > 0.10
        kept = evaluate(r, base * tracking_scale(r, base, rate=0.05)).coverage
        assert 0.04 < kept.rate < 0.06

    def test_series_side_by_side_and_days_without_forecast(self) -> None:
        r = np.stack([garch(300, 8), garch(300, 9)], axis=1)
        base = np.full((300, 2), 0.02)
        base[50:60, 0] = np.nan
        base[70:80, 0] = 0.0
        both = tracking_scale(r, base)
        np.testing.assert_array_equal(both[:, 0], tracking_scale(r[:, 0], base[:, 0]))
        np.testing.assert_array_equal(both[51:61, 0], both[50, 0])
        np.testing.assert_array_equal(both[71:81, 0], both[70, 0])

    def test_rate_zero_is_the_base(self) -> None:
        np.testing.assert_array_equal(tracking_scale(garch(99, 1), np.ones(99), rate=0.0), 1.0)


class TestDefault:
    def test_is_scenarios_times_tracking(self, returns: Array, weights: Array) -> None:
        earned = np.nansum(weights[:250] * returns[150:], axis=1)
        got = portfolio_var(weights[:250], returns, earned, first=150)
        base = scenario_var(weights[:250], returns, np.arange(150, 400))
        scale = tracking_scale(earned, base.var)
        np.testing.assert_array_equal(got.var, scale * base.var)
        np.testing.assert_array_equal(got.cvar, scale * base.cvar)

    def test_right_on_clustered_returns(self) -> None:
        r = garch(2600, 10, jump=2.0)
        stocks = r[:, None] + 0.01 * np.random.default_rng(11).standard_normal((2600, 20))
        earned = stocks.mean(axis=1)[600:]
        forecast = portfolio_var(np.full((2000, 20), 0.05), stocks, earned, first=600)
        result = evaluate(earned, forecast.var)
        assert 0.04 < result.coverage.rate < 0.06
        assert result.coverage.p_value > 0.05
        assert result.conditional.p_value > 0.05
        assert (forecast.cvar >= forecast.var).all()


def _scrambled(x: Array, row: int) -> Array:
    y = x.copy()
    y[row + 1 :] = np.random.default_rng(12).permuted(-3.0 * x[row + 1 :], axis=0)
    return y


@pytest.mark.parametrize("row", [199, 263, 320])
def test_the_future_moves_nothing(returns: Array, weights: Array, row: int) -> None:
    later, known = _scrambled(returns, row), slice(0, row + 1)
    earned, earned_later = np.nansum(weights * returns, axis=1), np.nansum(weights * later, axis=1)
    days, volatility = np.arange(400), np.abs(np.nan_to_num(returns)) + 0.01
    changed = _scrambled(volatility, row)
    changed[row + 1 :] = np.abs(changed[row + 1 :])
    w_later = np.abs(_scrambled(weights, row))
    pairs = [
        (
            scenario_var(weights, returns, days, volatility=volatility),
            scenario_var(w_later, later, days, volatility=changed),
        ),
        (portfolio_var(weights, returns, earned), portfolio_var(w_later, later, earned_later)),
    ]
    for before, after in pairs:
        for a, b in zip(before, after, strict=True):
            assert not np.isnan(a[known]).all()
            np.testing.assert_allclose(b[known], a[known], rtol=1e-9, equal_nan=True)
            assert not np.allclose(b[row + 1 :], a[row + 1 :], equal_nan=True)
    base = np.full(400, 0.02)
    np.testing.assert_array_equal(
        tracking_scale(earned, base)[known], tracking_scale(earned_later, base)[known]
    )


def test_refusals(returns: Array, weights: Array) -> None:
    rows = np.arange(400)
    with pytest.raises(ConfigError, match="level"):
        scenario_var(weights, returns, rows, level=95.0)
    with pytest.raises(ConfigError, match="min_count"):
        scenario_var(weights, returns, rows, window=100, min_count=101)
    with pytest.raises(DataError, match="do not fit"):
        scenario_var(weights[:, :4], returns, rows)
    with pytest.raises(DataError, match="whole number"):
        scenario_var(weights[:9], returns, rows)
    with pytest.raises(DataError, match="volatility"):
        scenario_var(weights, returns, rows, volatility=-np.ones(returns.shape))
    broken = returns.copy()
    broken[5, 5] = np.inf
    with pytest.raises(DataError, match="infinite"):
        scenario_var(weights, broken, rows)
    with pytest.raises(DataError, match="infinite"):
        tracking_scale(broken, broken)
    with pytest.raises(DataError, match="one shape"):
        tracking_scale(returns, returns[:-1])
    with pytest.raises(ConfigError, match="rate"):
        tracking_scale(returns, returns, rate=-0.1)
    with pytest.raises(DataError, match="rows run"):
        portfolio_var(weights, returns, np.zeros(400), first=5)


@pytest.mark.parametrize("n_days", [1, 63, 64, 65, 66, 129])
def test_a_day_that_is_alone_in_its_block_has_the_same_bits(n_days: int) -> None:
    """Forecasts are made for 64 days at a time; the last block may have a single one."""
    rng = np.random.default_rng(7)
    returns = rng.normal(0.0, 0.01, (800, 8))
    weights = rng.dirichlet(np.ones(8), 200)
    earned = (weights * returns[600:]).sum(axis=1)
    whole = portfolio_var(weights, returns, earned, first=600)
    part = portfolio_var(weights[:n_days], returns[: 600 + n_days], earned[:n_days], first=600)
    for name in ("var", "cvar"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[:n_days])


@pytest.mark.parametrize("n_rows", [1, 2, 5, 63])
def test_later_rows_and_stocks_change_no_bit(n_rows: int) -> None:
    """Of many stocks: a product of other shape could add them up in another order."""
    rng = np.random.default_rng(n_rows)
    returns = rng.normal(0.0, 0.02, (700, 340))
    weights = rng.random((64, 340))
    weights[:n_rows, 300:] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.arange(630, 694)
    whole = scenario_var(weights, returns, rows)
    part = scenario_var(
        weights[:n_rows, :300], returns[: rows[n_rows - 1] + 1, :300], rows[:n_rows]
    )
    np.testing.assert_array_equal(part.var, whole.var[:n_rows])
    np.testing.assert_array_equal(part.cvar, whole.cvar[:n_rows])
