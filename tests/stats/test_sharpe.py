"""Ledoit and Wolf's test against the paper's formulas written out, statsmodels and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy.stats import kstest, norm

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats import performance
from alphakeel.stats.bootstrap import optimal_block_length
from alphakeel.stats.sharpe import (
    SharpeEstimate,
    long_run_variance,
    sharpe_differences,
    sharpe_influence,
    sharpe_intervals,
)
from helpers import autoregression

Array = NDArray[np.float64]


def _pair(n: int = 400, seed: int = 0) -> tuple[Array, Array]:
    """Fat-tailed, correlated, autocorrelated returns of unequal spread."""
    shocks = np.random.default_rng(seed).standard_t(5, (n + 1, 3))
    x = 0.01 * (shocks[1:, 0] + 0.6 * shocks[1:, 2] + 0.2 * shocks[:-1, 0]) + 0.0006
    y = 0.02 * (shocks[1:, 1] + 0.6 * shocks[1:, 2]) + 0.0002
    return x, y


def _moments(x: Array, y: Array) -> tuple[Array, Array, float]:
    """Section 3 of the paper: the four moment series, their gradient, the Sharpe difference."""
    m1, m2, g1, g2 = x.mean(), y.mean(), (x * x).mean(), (y * y).mean()
    v1, v2 = g1 - m1**2, g2 - m2**2
    gradient = np.array([g1 / v1**1.5, -g2 / v2**1.5, -m1 / (2 * v1**1.5), m2 / (2 * v2**1.5)])
    series = np.column_stack([x - m1, y - m2, x * x - g1, y * y - g2])
    return series, gradient, m1 / v1**0.5 - m2 / v2**0.5


def _studentised_by_hand(x: Array, y: Array, starts: NDArray[np.int_], length: int) -> float:
    """Section 3.2: one resample, day by day, with the block standard error of formula (9)."""
    days = np.concatenate([(s + np.arange(length)) % len(x) for s in starts])
    _, _, original = _moments(x, y)
    series, gradient, gap = _moments(x[days], y[days])
    psi = np.zeros((4, 4))
    for j in range(len(starts)):
        zeta = series[j * length : (j + 1) * length].sum(axis=0) / np.sqrt(length)
        psi += np.outer(zeta, zeta) / len(starts)
    error = np.sqrt(gradient @ psi @ gradient / len(days))
    return (gap - original) / error


def _andrews_monahan(x: Array) -> float:
    """Andrews and Monahan (1992) with loops over days and lags."""
    n = len(x)
    rho = sum(x[t] * x[t - 1] for t in range(1, n)) / sum(v * v for v in x[:-1])
    rho = min(max(rho, -0.97), 0.97)
    e = [x[t] - rho * x[t - 1] for t in range(1, n)]
    again = sum(e[t] * e[t - 1] for t in range(1, n - 1)) / sum(v * v for v in e[:-1])
    again = min(max(again, -0.97), 0.97)
    bandwidth = 1.3221 * (4 * again**2 / (1 - again) ** 4 * (n - 1)) ** 0.2
    total = sum(v * v for v in e) / (n - 1)
    for lag in range(1, n - 1):
        z = 6 * np.pi * lag / bandwidth / 5
        weight = 3 / z**2 * (np.sin(z) / z - np.cos(z))
        total += 2 * weight * sum(e[t] * e[t - lag] for t in range(lag, n - 1)) / (n - 1)
    return total / (1 - rho) ** 2 * n / (n - 4)


class TestStandardError:
    def test_influence_is_the_delta_method(self) -> None:
        x, y = _pair()
        series, gradient, gap = _moments(x, y)
        sharpe, influence = sharpe_influence(np.column_stack([x, y]))
        assert sharpe[0] - sharpe[1] == pytest.approx(gap, rel=1e-12)
        np.testing.assert_allclose(
            influence[:, 0] - influence[:, 1], series @ gradient, rtol=1e-9, atol=1e-12
        )

    @pytest.mark.parametrize("kind", ["returns", "walk", "walk of a walk", "swing"])
    def test_long_run_variance_by_hand(self, kind: str) -> None:
        """The last three reach the limits on the two autoregressions and wide bandwidths."""
        x = sharpe_influence(np.column_stack(_pair(150)))[1][:, 0]
        if kind.startswith("walk"):
            x = np.cumsum(x) if kind == "walk" else np.cumsum(np.cumsum(x))
        elif kind == "swing":
            x = np.cumsum(x) * (-1.0) ** np.arange(150)
        assert long_run_variance(x[:, None])[0] == pytest.approx(_andrews_monahan(x), rel=1e-9)

    def test_ten_days_are_enough(self) -> None:
        x = sharpe_influence(np.column_stack(_pair(10)))[1]
        assert (long_run_variance(x) > 0.0).all()
        with pytest.raises(DataError, match="9 days are too few"):
            long_run_variance(x[:9])

    def test_long_run_variance_of_an_autoregression(self) -> None:
        x = autoregression(0.5, 40_000)
        assert long_run_variance(x[:, None])[0] == pytest.approx(1 / (1 - 0.5) ** 2, rel=0.04)

    def test_near_statsmodels_newey_west(self) -> None:
        x, y = _pair(4000)
        series, gradient, _ = _moments(x, y)
        fit = sm.OLS(series @ gradient, np.ones(len(x))).fit(
            cov_type="HAC", cov_kwds={"maxlags": 10}
        )
        (ours,) = sharpe_differences(x, y, method="hac")
        assert ours.standard_error == pytest.approx(fit.bse[0] * np.sqrt(252), rel=0.03)

    def test_independent_normal_returns_have_a_closed_form(self) -> None:
        """Memmel (2003): the variance of Jobson and Korkie, corrected."""
        rng = np.random.default_rng(3)
        n, rho = 60_000, 0.7
        z = rng.standard_normal((n, 2))
        x = 0.02 * z[:, 0] + 0.004
        y = 0.01 * (rho * z[:, 0] + np.sqrt(1 - rho**2) * z[:, 1]) + 0.001
        s1, s2 = 0.2, 0.1
        variance = 2 - 2 * rho + 0.5 * (s1**2 + s2**2 - 2 * s1 * s2 * rho**2)
        (ours,) = sharpe_differences(x, y, method="hac", periods_per_year=1)
        assert ours.standard_error == pytest.approx(np.sqrt(variance / n), rel=0.02)


class TestBootstrap:
    @pytest.mark.parametrize("length", [1, 4, 7])
    def test_resamples_by_hand(self, length: int) -> None:
        x, y = _pair(120)
        n_bootstrap, n_blocks = 60, 120 // length
        starts = np.random.default_rng(5).integers(120, size=(n_bootstrap, n_blocks))
        drawn = np.abs([_studentised_by_hand(x, y, row, length) for row in starts])
        (ours,) = sharpe_differences(x, y, n_bootstrap=n_bootstrap, block_length=length, seed=5)
        expected = (np.sum(drawn >= abs(ours.t)) + 1) / (n_bootstrap + 1)
        assert ours.p_value == pytest.approx(expected)
        half = np.quantile(drawn, 0.95) * ours.standard_error
        assert (ours.low, ours.high) == pytest.approx((ours.estimate - half, ours.estimate + half))
        assert (ours.method, ours.block_length) == ("bootstrap", length)

    def test_block_length(self) -> None:
        """A week, or what Politis and White find for the influence function, if that is more."""
        _, y = _pair(1500)
        (own,) = sharpe_intervals(y, n_bootstrap=9)
        assert optimal_block_length(sharpe_influence(y[:, None])[1][:, 0], stationary=False) < 4
        assert own.block_length == 5
        slow = np.convolve(y, np.ones(9), "valid")
        (own,) = sharpe_intervals(slow, n_bootstrap=9)
        best = optimal_block_length(sharpe_influence(slow[:, None])[1][:, 0], stationary=False)
        assert own.block_length == math.ceil(best) > 10

    def test_two_blocks_are_enough(self) -> None:
        (own,) = sharpe_intervals(_pair(50)[0], block_length=25, n_bootstrap=99)
        assert own.low < own.estimate < own.high

    def test_several_strategies_are_each_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        x, y = _pair()
        many = np.column_stack([x, y + 0.001, 0.5 * x + 0.5 * y])
        together = sharpe_differences(many, y, n_bootstrap=80, block_length=5, seed=2)
        alone = [
            sharpe_differences(c, y, n_bootstrap=80, block_length=5, seed=2)[0] for c in many.T
        ]
        for a, b in zip(together, alone, strict=True):
            assert (a.low, a.high, a.p_value) == pytest.approx((b.low, b.high, b.p_value))
        monkeypatch.setattr("alphakeel.stats.sharpe._CHUNK_VALUES", 1)
        assert sharpe_differences(many, y, n_bootstrap=80, block_length=5, seed=2) == together

    def test_size_of_the_test_and_coverage(self) -> None:
        """Equal Sharpe ratios, fat tails, clustered volatility: p-values are uniform."""
        p = {"hac": [], "bootstrap": []}
        rng = np.random.default_rng(8)
        for number in range(250):
            calm = np.exp(0.4 * np.sin(np.arange(300) / 25 + rng.uniform(0, 6)))
            z = calm[:, None] * rng.standard_t(6, (300, 3))
            x, y = z[:, 0] + z[:, 2] + 0.1, 3 * (z[:, 1] + z[:, 2] + 0.1)
            for method, found in p.items():
                (test,) = sharpe_differences(x, y, method=method, n_bootstrap=99, seed=number)
                found.append(test.p_value)
                assert (test.low <= 0 <= test.high) == (test.p_value > 0.05) or (
                    abs(test.p_value - 0.05) < 0.011
                )
        for found in p.values():
            assert kstest(found, "uniform").pvalue > 0.001
            # 5 % of 250 is 12.5, with a standard deviation of 3.4.
            assert 3 <= np.sum(np.array(found) <= 0.05) <= 23


def _garch(n_dates: int, n_histories: int, seed: int) -> Array:
    """Student shocks, clustered variance, autocorrelation 0.05; true Sharpe ratio 0.05 a day."""
    rng = np.random.default_rng(seed)
    variance, away = np.ones(n_histories), np.zeros(n_histories)
    out = np.empty((200 + n_dates, n_histories))
    for row in out:
        shock = np.sqrt(variance) * rng.standard_t(7, n_histories) * np.sqrt(5 / 7)
        away = 0.05 * away + shock
        variance = 0.02 + 0.9 * variance + 0.08 * shock**2
        row[:] = away
    return 0.05 + out[200:] * np.sqrt(1 - 0.05**2)


class TestOwnRatio:
    def test_lo_for_independent_returns(self) -> None:
        """Lo (2002), equation (9): the variance is (1 + SR^2 / 2) / T for normal returns."""
        z = np.random.default_rng(4).standard_normal(200_000)
        x = 0.01 * (0.8 + (z - z.mean()) / z.std())
        (ours,) = sharpe_intervals(x, method="hac", periods_per_year=1)
        assert ours.estimate == pytest.approx(0.8, rel=1e-5)
        lo = np.sqrt((1 + 0.5 * 0.8**2) / len(x))
        assert ours.standard_error == pytest.approx(lo, rel=0.01)

    def test_skewed_and_fat_tailed_returns(self) -> None:
        """Mertens (2002): 1 - skewness SR + (kurtosis - 1) SR^2 / 4, here of the exponential."""
        x = 1.5 - np.random.default_rng(5).exponential(size=400_000)  # skewness -2, kurtosis 9
        (ours,) = sharpe_intervals(x, method="hac", periods_per_year=1)
        expected = np.sqrt((1 + 2 * 0.5 + 2 * 0.5**2) / len(x))
        assert ours.standard_error == pytest.approx(expected, rel=0.03)

    def test_autocorrelation_widens_as_the_mean_does(self) -> None:
        """At a Sharpe ratio of zero the deviation does not matter: the long-run variance does."""
        x = autoregression(0.3, 60_000, seed=6)
        x -= x.mean()
        (ours,) = sharpe_intervals(x, method="hac", periods_per_year=1)
        expected = np.sqrt((1 + 0.3) / (1 - 0.3) / len(x))
        assert ours.standard_error == pytest.approx(expected, rel=0.03)

    @pytest.mark.parametrize("length", [1, 4, 7])
    def test_resamples_by_hand(self, length: int) -> None:
        """Day by day, with the two moments of one series and their gradient."""
        x, _ = _pair(120)
        n_bootstrap, n_blocks = 60, 120 // length
        starts = np.random.default_rng(5).integers(120, size=(n_bootstrap, n_blocks))
        drawn = []
        for row in starts:
            days = np.concatenate([(s + np.arange(length)) % 120 for s in row])
            y = x[days]
            m, g = y.mean(), (y * y).mean()
            gradient = np.array([g, -m / 2]) / (g - m * m) ** 1.5
            moved = m / y.std() - x.mean() / x.std()
            sums = np.column_stack([y - m, y * y - g]).reshape(n_blocks, length, 2).sum(axis=1)
            psi = sums.T @ sums / length / n_blocks
            drawn.append(abs(moved) / np.sqrt(gradient @ psi @ gradient / len(days)))
        drawn = np.array(drawn)
        (ours,) = sharpe_intervals(x, n_bootstrap=n_bootstrap, block_length=length, seed=5)
        assert ours.p_value == pytest.approx((np.sum(drawn >= abs(ours.t)) + 1) / (n_bootstrap + 1))
        half = np.quantile(drawn, 0.95) * ours.standard_error
        assert (ours.low, ours.high) == pytest.approx((ours.estimate - half, ours.estimate + half))
        assert (ours.method, ours.block_length, ours.level) == ("bootstrap", length, 0.95)

    @pytest.mark.parametrize("method", ["hac", "bootstrap"])
    def test_coverage_with_fat_tails_and_clusters(self, method: str) -> None:
        """`studies/coverage_own.py` in small."""
        held = 0
        for number, x in enumerate(_garch(1250, 300, seed=9).T):
            (own,) = sharpe_intervals(
                x, method=method, n_bootstrap=99, seed=number, periods_per_year=1
            )
            held += own.low <= 0.05 <= own.high
        # 95 % of 300 is 285, with a standard deviation of 3.8.
        assert 273 <= held <= 297

    def test_several_are_each_alone_and_scale_does_not_matter(self) -> None:
        x, y = _pair()
        together = sharpe_intervals(
            np.column_stack([x, 7 * y]), n_bootstrap=80, block_length=5, seed=2
        )
        for one, column in zip(together, (x, y), strict=True):
            (alone,) = sharpe_intervals(column, n_bootstrap=80, block_length=5, seed=2)
            assert (one.low, one.high, one.t) == pytest.approx((alone.low, alone.high, alone.t))
            assert one.estimate == pytest.approx(performance.sharpe(column))

    def test_a_constant_has_none(self) -> None:
        x, _ = _pair()
        none, some = sharpe_intervals(
            np.column_stack([np.full_like(x, 0.001), x]), n_bootstrap=50, block_length=2
        )
        assert np.isnan([none.estimate, none.low, none.high, none.p_value, none.t]).all()
        (alone,) = sharpe_intervals(x, n_bootstrap=50, block_length=2)
        assert (some.low, some.high) == pytest.approx((alone.low, alone.high))

    def test_nothing_earned_is_no_test_of_skill(self) -> None:
        """A mean of exactly zero: estimate 0, p-value 1, limits on either side."""
        x, _ = _pair()
        (own,) = sharpe_intervals(x - x.mean(), n_bootstrap=99)
        assert own.estimate == pytest.approx(0.0, abs=1e-12)
        assert own.p_value == 1.0
        assert own.low < 0.0 < own.high

    def test_refusals(self) -> None:
        x, _ = _pair(50)
        with pytest.raises(ConfigError, match="'hac' or 'bootstrap'"):
            sharpe_intervals(x, method="lo")
        with pytest.raises(ConfigError, match="fewer than two fit into 50 days"):
            sharpe_intervals(x, block_length=26)
        with pytest.raises(DataError, match="at least 10 needed"):
            sharpe_intervals(x[:8])


class TestProperties:
    def test_estimate_is_the_difference_of_annual_sharpe_ratios(self) -> None:
        x, y = _pair()
        (ours,) = sharpe_differences(x, y, method="hac")
        assert ours.estimate == pytest.approx(
            performance.sharpe(x) - performance.sharpe(y), rel=1e-12
        )
        assert ours.t == pytest.approx(ours.estimate / ours.standard_error)
        assert ours.p_value == pytest.approx(2 * norm.sf(abs(ours.t)))
        assert ours.high - ours.estimate == pytest.approx(1.959964 * ours.standard_error, rel=1e-6)

    def test_scale_does_not_matter_and_order_changes_the_sign(self) -> None:
        x, y = _pair()
        (one,) = sharpe_differences(x, y, seed=1, n_bootstrap=100, block_length=3)
        (two,) = sharpe_differences(y, 10 * x, seed=1, n_bootstrap=100, block_length=3)
        assert (two.low, two.high) == pytest.approx((-one.high, -one.low))
        assert two.p_value == one.p_value

    @pytest.mark.parametrize("method", ["hac", "bootstrap"])
    @pytest.mark.parametrize("leverage", [1.0, 0.7])
    def test_one_strategy_with_and_without_leverage_is_one(
        self, method: str, leverage: float
    ) -> None:
        x, y = _pair()
        same, other = sharpe_differences(
            np.column_stack([leverage * y, x]), y, method=method, n_bootstrap=50
        )
        assert isinstance(same, SharpeEstimate)
        assert same.p_value == 1.0
        assert (same.estimate, same.low, same.high) == pytest.approx((0, 0, 0), abs=1e-12)
        assert np.isnan(same.t)
        assert other.high > other.low

    def test_what_counts_as_one(self) -> None:
        """Rounding at a ratio of 100 a day is one strategy; a two-hundredth of noise makes two."""
        x, y = _pair()
        steady = 1.0 + 0.01 * y / y.std()
        (same,) = sharpe_differences(0.7 * steady, steady, method="hac")
        assert (same.p_value, same.low, same.high) == pytest.approx((1.0, 0.0, 0.0), abs=1e-9)
        (near,) = sharpe_differences(y + 0.005 * x, y, method="hac")
        assert 0.0 < near.standard_error < 0.05
        assert near.p_value < 1.0

    @pytest.mark.parametrize("method", ["hac", "bootstrap"])
    def test_a_constant_has_no_sharpe_ratio(self, method: str) -> None:
        x, y = _pair()
        still = np.full_like(x, 0.001)
        both = np.column_stack([still, x])
        none, some = sharpe_differences(both, y, method=method, n_bootstrap=50, block_length=2)
        assert np.isnan([none.estimate, none.low, none.high, none.p_value, none.t]).all()
        (alone,) = sharpe_differences(x, y, method=method, n_bootstrap=50, block_length=2)
        assert (some.low, some.high) == pytest.approx((alone.low, alone.high))
        for result in sharpe_differences(both, still, method=method, n_bootstrap=50):
            assert np.isnan(result.estimate)

    def test_a_resample_without_movement_leaves_no_limits(self) -> None:
        x = np.zeros(30)
        x[:2] = 0.01, -0.01
        (ours,) = sharpe_differences(x, _pair(30)[1], n_bootstrap=200, block_length=1)
        assert np.isfinite(ours.estimate)
        assert np.isnan([ours.low, ours.high, ours.p_value]).all()

    def test_a_large_difference_is_found(self) -> None:
        x, y = _pair(1500)
        (gain,) = sharpe_differences(x + 0.002, y, n_bootstrap=200)
        assert gain.low > 0
        assert gain.p_value == pytest.approx(1 / 201)


def test_refusals() -> None:
    x, y = _pair(50)
    with pytest.raises(DataError, match="baseline 49"):
        sharpe_differences(x, y[1:])
    with pytest.raises(ConfigError, match="'hac' or 'bootstrap'"):
        sharpe_differences(x, y, method="jackknife")
    with pytest.raises(ConfigError, match=r"0\.95 is 95 %"):
        sharpe_differences(x, y, level=95)
    with pytest.raises(ConfigError, match="fewer than two fit into 50 days"):
        sharpe_differences(x, y, block_length=26)
    with pytest.raises(ConfigError, match="at least 1 resample"):
        sharpe_differences(x, y, n_bootstrap=0)
    with pytest.raises(DataError, match="at least 10 needed"):
        sharpe_differences(x[:8], y[:8])
    with pytest.raises(DataError, match="nan at row 3"):
        sharpe_differences(np.where(np.arange(50) == 3, np.nan, x), y)
