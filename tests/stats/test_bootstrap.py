"""Bootstrap against closed forms and coverage."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats import bootstrap, performance
from helpers import autoregression

Array = NDArray[np.float64]


def _mean(r: Array) -> Array:
    return r.mean(axis=0)


class TestIndices:
    def test_stationary_blocks_are_geometric_and_wrap(self) -> None:
        rows = bootstrap.bootstrap_indices(500, 10, 400, seed=3)
        steps = np.diff(rows, axis=1) % 500
        assert rows.min() == 0
        assert rows.max() == 499
        # A new block starts with probability 1/10, and continues by chance 1 time in 500.
        assert (steps == 1).mean() == pytest.approx(1 - 0.1 * (1 - 1 / 500), abs=0.003)
        counts = np.bincount(rows.ravel(), minlength=500)
        assert counts.std() / counts.mean() < 0.3

    def test_circular_blocks_have_one_length(self) -> None:
        rows = bootstrap.bootstrap_indices(100, 6.2, 50, seed=3, stationary=False)
        assert rows.shape == (50, 100)
        steps = np.diff(rows, axis=1) % 100
        inside = np.arange(1, 100) % 7 != 0
        assert (steps[:, inside] == 1).all()
        assert (steps[:, ~inside] != 1).any()

    @pytest.mark.parametrize("stationary", [True, False])
    def test_the_seed_decides(self, stationary: bool) -> None:
        draw = partial(bootstrap.bootstrap_indices, 60, 5, 20, stationary=stationary)
        np.testing.assert_array_equal(draw(1), draw(1))
        np.testing.assert_array_equal(draw(1), draw(np.random.default_rng(1)))
        assert (draw(1) != draw(2)).any()

    def test_blocks_of_one_day_are_the_plain_bootstrap(self) -> None:
        rows = bootstrap.bootstrap_indices(50, 1, 200, seed=0)
        assert (np.diff(rows, axis=1) % 50 == 1).mean() < 0.04

    def test_refusals(self) -> None:
        with pytest.raises(ConfigError, match="block_length must be at least 1"):
            bootstrap.bootstrap_indices(10, 0.5, 10)
        with pytest.raises(ConfigError, match="got 10 and 0"):
            bootstrap.bootstrap_indices(10, 2, 0)


class TestBlockLength:
    @pytest.mark.parametrize("rho", [0.3, 0.6, -0.4])
    def test_autoregression_has_a_closed_form(self, rho: float) -> None:
        n = 60_000
        x = autoregression(rho, n)
        expected = (2 * abs(rho) / (1 - rho**2)) ** (2 / 3) * n ** (1 / 3)
        assert bootstrap.optimal_block_length(x) == pytest.approx(expected, rel=0.15)
        ratio = bootstrap.optimal_block_length(x, stationary=False) / (
            bootstrap.optimal_block_length(x)
        )
        assert ratio == pytest.approx(1.5 ** (1 / 3))

    def test_limits(self) -> None:
        noise = np.random.default_rng(0).standard_normal(3000)
        assert 1.0 <= bootstrap.optimal_block_length(noise) < 6.0
        assert bootstrap.optimal_block_length(np.arange(400.0)) <= 60.0
        assert bootstrap.optimal_block_length(np.full(50, 0.1)) == 1.0
        assert bootstrap.optimal_block_length([1.0, 2.0]) == 1.0


class TestIntervals:
    def test_width_of_a_mean_is_known(self) -> None:
        x = np.random.default_rng(0).standard_normal(2000)
        ours = bootstrap.bootstrap_interval(_mean, x, n_bootstrap=2000, block_length=1)
        half = 1.96 / np.sqrt(2000)
        assert ours.estimate == x.mean()
        assert (ours.high - ours.low) / 2 == pytest.approx(half, rel=0.1)
        assert ours.level == 0.95
        assert ours.p_value is None

    def test_blocks_widen_the_interval_of_a_dependent_series(self) -> None:
        x = autoregression(0.6, 3000)
        plain = bootstrap.bootstrap_interval(_mean, x, n_bootstrap=500, block_length=1)
        blocks = bootstrap.bootstrap_interval(_mean, x, n_bootstrap=500)
        # The standard error of the mean of an AR(1) is sqrt((1 + rho) / (1 - rho)) = 2 times.
        widening = (blocks.high - blocks.low) / (plain.high - plain.low)
        assert widening == pytest.approx(2.0, rel=0.2)

    def test_columns_share_days_and_chunks_do_not_matter(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        x = np.random.default_rng(1).standard_normal((300, 3)) * 0.01
        draw = partial(
            bootstrap.bootstrap_samples, performance.max_drawdown, n_bootstrap=40, seed=5
        )
        together = draw(x, block_length=8)
        np.testing.assert_array_equal(together[:, [1]], draw(x[:, [1]], block_length=8))
        np.testing.assert_array_equal(together[:, ::-1], draw(x[:, ::-1], block_length=8))
        monkeypatch.setattr(bootstrap, "_CHUNK_VALUES", 1)
        np.testing.assert_array_equal(together, draw(x, block_length=8))

    def test_samples_are_the_statistic_of_resampled_days(self) -> None:
        x = np.random.default_rng(1).standard_normal((120, 2)) * 0.01
        before = x.copy()
        rows = bootstrap.bootstrap_indices(120, 7, 15, seed=2)
        for statistic in (performance.sharpe, performance.max_drawdown, performance.value_at_risk):
            ours = bootstrap.bootstrap_samples(statistic, x, n_bootstrap=15, block_length=7, seed=2)
            expected = [statistic(x[draw]) for draw in rows]
            np.testing.assert_allclose(ours, expected, rtol=1e-12)
        np.testing.assert_array_equal(x, before)

    def test_several_strategies_at_once(self) -> None:
        x = np.random.default_rng(1).standard_normal((200, 2)) * 0.01
        both = bootstrap.bootstrap_intervals(performance.sharpe, x, n_bootstrap=100, block_length=5)
        for column, interval in zip(x.T, both, strict=True):
            alone = bootstrap.bootstrap_interval(
                performance.sharpe, column, n_bootstrap=100, block_length=5
            )
            assert interval.low == pytest.approx(alone.low, rel=1e-12)
            assert interval.low <= interval.estimate <= interval.high

    def test_an_undefined_resample_leaves_no_limits(self) -> None:
        x = np.zeros(30)
        x[:2] = 0.01, -0.01
        ours = bootstrap.bootstrap_interval(performance.sharpe, x, n_bootstrap=200, block_length=1)
        assert ours.estimate == 0.0
        assert np.isnan(ours.low)
        assert np.isnan(ours.high)

    def test_refusals(self) -> None:
        x = np.zeros((10, 2))
        with pytest.raises(DataError, match="nan at row 3"):
            bootstrap.bootstrap_interval(_mean, [0.0, 1.0, 2.0, np.nan])
        with pytest.raises(DataError, match="must have shape"):
            bootstrap.bootstrap_interval(_mean, x)
        with pytest.raises(DataError, match="at least 2 dates"):
            bootstrap.bootstrap_interval(_mean, [1.0])
        with pytest.raises(ConfigError, match="one value per column"):
            bootstrap.bootstrap_intervals(lambda r: r, x, block_length=2, n_bootstrap=5)
        with pytest.raises(ConfigError, match=r"0\.95 is 95 %"):
            bootstrap.bootstrap_intervals(_mean, x, block_length=2, n_bootstrap=5, level=95)
