"""Tests of value at risk against published examples, brute force and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats import var_backtests
from alphakeel.stats.var_backtests import (
    christoffersen_independence,
    conditional_coverage,
    dynamic_quantile,
    evaluate,
    exceedances,
    kupiec,
    tick_loss,
)


def with_pairs(n00: int, n01: int, n10: int, n11: int) -> np.ndarray:
    """A series that starts with 0 and has that many pairs of neighbours."""
    hits, left_alone, left_row = [0], n00, n11
    for i in range(n01):
        if i == 0:
            hits += [0] * left_alone
        hits += [1]
        if i == 0:
            hits += [1] * left_row
        if i < n10:
            hits += [0]
    return np.array(hits)


class TestPublished:
    def test_jp_morgan_1998(self) -> None:
        """Jorion, Value at Risk, 3rd edition, section 6.3: 20 exceptions in 252 days at 95 %,
        LR_uc = 3.91; with 14 of 232 after a quiet day and 6 of 20 after an exception,
        LR_ind = 9.53 and LR_cc = 13.44."""
        hits = with_pairs(218, 14, 14, 6)
        assert len(hits) == 253  # 252 pairs: the days that the book counts
        assert kupiec(hits[1:]).statistic == pytest.approx(3.91, abs=0.005)
        assert christoffersen_independence(hits).statistic == pytest.approx(9.53, abs=0.005)
        both = kupiec(hits[1:]).statistic + christoffersen_independence(hits).statistic
        assert both == pytest.approx(13.44, abs=0.005)

    @pytest.mark.parametrize(
        ("level", "n", "above", "below"),
        [
            (0.99, 252, -1, 7),
            (0.99, 510, 1, 11),
            (0.99, 1000, 4, 17),
            (0.95, 252, 6, 20),
            (0.95, 510, 16, 36),
            (0.95, 1000, 37, 65),
            (0.90, 252, 16, 36),
            (0.90, 510, 38, 65),
            (0.90, 1000, 81, 120),
        ],
    )
    def test_region_of_kupiec_1995(self, level: float, n: int, above: int, below: int) -> None:
        """Numbers of failures N that are not rejected at 5 %: Kupiec (1995), as in Jorion's
        table 6-2. At 99 % and 252 days even N = 0 has a statistic of 5.07, which the table
        lets pass (N < 7) because the test cannot reject on that side."""
        passes = [
            x
            for x in range(max(above, 0), below + 3)
            if kupiec(np.arange(n) < x, level=level).p_value > 0.05
        ]
        assert passes[-1] == below - 1
        assert passes[0] == (above + 1 if above > 0 else 1)


class TestAgainstOtherComputations:
    def test_kupiec_is_the_ratio_of_binomial_likelihoods(self) -> None:
        for n, x, level in ((100, 9, 0.95), (750, 30, 0.975), (60, 0, 0.9), (5, 5, 0.99)):
            likely = stats.binom.logpmf(x, n, x / n) - stats.binom.logpmf(x, n, 1.0 - level)
            result = kupiec(np.arange(n) < x, level=level)
            assert result.statistic == pytest.approx(2.0 * likely, rel=1e-9)
            assert result.p_value == pytest.approx(stats.chi2.sf(2.0 * likely, 1), rel=1e-9)
            assert (result.n, result.exceedances, result.rate) == (n, x, x / n)

    def test_independence_is_the_g_test_of_the_table_of_pairs(self) -> None:
        hits = np.random.default_rng(3).random(400) < 0.15
        table = np.zeros((2, 2))
        np.add.at(table, (hits[:-1].astype(int), hits[1:].astype(int)), 1.0)
        g = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood")
        result = christoffersen_independence(hits)
        assert result.statistic == pytest.approx(g.statistic, rel=1e-9)
        assert result.p_value == pytest.approx(g.pvalue, rel=1e-9)

    def test_dynamic_quantile_is_a_wald_test_of_statsmodels_least_squares(self) -> None:
        rng = np.random.default_rng(4)
        returns = rng.standard_t(5, 800) * 0.01
        forecast = 0.015 * np.exp(0.3 * rng.standard_normal(800))
        hits = exceedances(returns, forecast, lag=0)
        y = hits - 0.05
        x = np.column_stack([np.ones(796), *(y[4 - k : -k] for k in range(1, 5)), forecast[4:]])
        b = sm.OLS(y[4:], x).fit().params
        wald = b @ (x.T @ x) @ b / (0.05 * 0.95)
        result = dynamic_quantile(hits, forecast, lag=0)
        assert result.statistic == pytest.approx(wald, rel=1e-8)
        assert result.degrees_of_freedom == 6
        assert result.p_value == pytest.approx(stats.chi2.sf(wald, 6), rel=1e-8)

    def test_tick_loss_is_least_at_the_quantile_and_as_in_scikit_learn(self) -> None:
        from sklearn.metrics import mean_pinball_loss

        returns = np.random.default_rng(5).standard_t(4, 999) * 0.01
        forecast = np.full(999, 0.02)
        assert tick_loss(returns, forecast, lag=0) == pytest.approx(
            mean_pinball_loss(returns, -forecast, alpha=0.05), rel=1e-12
        )
        tries = np.linspace(0.0, 0.06, 601)
        best = tries[np.argmin([tick_loss(returns, np.full(999, v), lag=0) for v in tries])]
        assert best == pytest.approx(-np.quantile(returns, 0.05), abs=2e-4)


class TestSize:
    """A right forecast is rejected at 5 % about one time in twenty."""

    HITS = np.random.default_rng(6).random((1500, 1500)) < 0.05

    @pytest.mark.parametrize(
        ("test", "low", "high"),
        [
            (kupiec, 0.035, 0.07),
            # About 3.7 pairs are expected: the chi-squared limit rejects none at all too soon.
            (christoffersen_independence, 0.04, 0.11),
            (conditional_coverage, 0.035, 0.08),
            (dynamic_quantile, 0.035, 0.09),
        ],
    )
    def test_size(self, test, low: float, high: float) -> None:  # type: ignore[no-untyped-def]
        rejected = np.mean([test(row).p_value < 0.05 for row in self.HITS])
        assert low < rejected < high

    def test_power(self) -> None:
        """Twice too many, and clusters, are found."""
        rng = np.random.default_rng(7)
        assert kupiec(rng.random(1000) < 0.10).p_value < 1e-4
        state, hits = False, []
        for u in rng.random(1500):
            state = bool(u < (0.35 if state else 0.035))
            hits.append(state)
        assert kupiec(hits).p_value > 0.05
        for test in (christoffersen_independence, conditional_coverage, dynamic_quantile):
            assert test(hits).p_value < 1e-4


class TestEdges:
    def test_timing(self) -> None:
        returns, forecast = [-0.05, -0.01, -0.05], [0.02, 0.04, 0.02]
        np.testing.assert_array_equal(exceedances(returns, forecast), [np.nan, 0, 1])
        np.testing.assert_array_equal(exceedances(returns, forecast, lag=0), [1, 0, 1])

    def test_no_exceedance_and_nothing_but_exceedances(self) -> None:
        none, every = np.zeros(250), np.ones(250)
        assert kupiec(none).statistic == pytest.approx(-2 * 250 * math.log(0.95))
        assert kupiec(every).statistic == pytest.approx(-2 * 250 * math.log(0.05))
        for hits in (none, every, np.array([1.0]), np.array([0.0, 1.0])):
            result = christoffersen_independence(hits)
            assert (result.statistic, result.p_value) == (0.0, 1.0)
            assert conditional_coverage(hits).statistic == kupiec(hits).statistic
        assert dynamic_quantile(none).degrees_of_freedom == 1
        assert dynamic_quantile(none).statistic == pytest.approx(246 * 0.05**2 / (0.05 * 0.95))

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.sampled_from([0.0, 1.0, float("nan")]), min_size=1, max_size=40))
    def test_never_nan(self, hits: list[float]) -> None:
        if all(math.isnan(h) for h in hits):
            with pytest.raises(DataError, match="known day"):
                kupiec(hits)
            return
        for test in (kupiec, christoffersen_independence, conditional_coverage):
            result = test(hits)
            assert result.statistic >= 0.0
            assert 0.0 <= result.p_value <= 1.0

    def test_a_missing_day_is_left_out_and_not_bridged(self) -> None:
        hits = np.array([0, 1, np.nan, 1, 0, 0, 1, 0])
        known = hits[~np.isnan(hits)]
        assert kupiec(hits) == kupiec(known)
        pairs = christoffersen_independence(hits)
        assert pairs.statistic != christoffersen_independence(known).statistic
        assert (pairs.n, pairs.exceedances) == (7, 3)

    def test_evaluate_is_its_parts_and_speaks(self) -> None:
        rng = np.random.default_rng(8)
        returns = rng.normal(0.0, 0.01, 1200)
        forecast = np.full(1200, 0.01645)
        result = evaluate(returns, forecast)
        hits = exceedances(returns, forecast)
        assert result.coverage == kupiec(hits)
        assert result.independence == christoffersen_independence(hits)
        assert result.conditional == conditional_coverage(hits)
        assert result.dynamic == dynamic_quantile(hits, forecast)
        assert result.tick_loss == tick_loss(returns, forecast)
        assert "too often" in evaluate(returns, forecast / 2).verdict()
        assert "too rarely" in evaluate(returns, forecast * 2).verdict()
        slow = np.repeat([0.004, 0.02], 600) * rng.standard_normal(1200)
        bound = np.full(1200, -np.quantile(slow, 0.05))
        assert "more or less likely" in evaluate(slow, bound).verdict()

    def test_refusals(self) -> None:
        with pytest.raises(DataError, match="one length"):
            exceedances([0.0, 0.1], [0.1])
        with pytest.raises(DataError, match="infinite"):
            tick_loss([0.0, np.inf], [0.1, 0.1])
        with pytest.raises(ConfigError, match="lag"):
            exceedances([0.0], [0.1], lag=-1)
        with pytest.raises(ConfigError, match="level"):
            kupiec([0, 1], level=95)
        with pytest.raises(ConfigError, match="lags"):
            dynamic_quantile([0, 1], lags=-1)
        with pytest.raises(DataError, match="4 days before"):
            dynamic_quantile([0, 1, 0])
        with pytest.raises(DataError, match="0, 1 and NaN"):
            kupiec([0.2, 0.5])
        assert math.isnan(var_backtests.tick_loss([np.nan], [0.1], lag=0))
