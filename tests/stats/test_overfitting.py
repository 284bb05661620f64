"""Probability of backtest overfitting against plain loops over the splits."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats import performance
from alphakeel.stats.selection_bias import Overfitting, overfitting_probability

Array = NDArray[np.float64]


def _days(n_dates: int, n_trials: int, seed: int = 0, scale: float = 0.01) -> Array:
    return scale * np.random.default_rng(seed).standard_normal((n_dates, n_trials)) + 0.0002


def _brute_force(r: Array, n_blocks: int, statistic: object) -> dict[str, Array]:
    """CSCV as the paper words it: rows of blocks put together, ranks by sorting."""
    blocks = [r[len(r) * k // n_blocks : len(r) * (k + 1) // n_blocks] for k in range(n_blocks)]
    logits, inside, outside = [], [], []
    for pick in combinations(range(n_blocks), n_blocks // 2):
        here = statistic(np.concatenate([blocks[k] for k in pick]))
        there = statistic(np.concatenate([blocks[k] for k in range(n_blocks) if k not in pick]))
        best = int(np.argmax(here))
        w = scipy_stats.rankdata(there)[best] / (r.shape[1] + 1)
        logits.append(np.log(w / (1 - w)))
        inside.append(here[best])
        outside.append(there[best])
    return {"logits": np.array(logits), "in": np.array(inside), "out": np.array(outside)}


def _agree(ours: Overfitting, expected: dict[str, Array]) -> None:
    np.testing.assert_allclose(ours.logits, expected["logits"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.inside, expected["in"], rtol=1e-9)
    np.testing.assert_allclose(ours.outside, expected["out"], rtol=1e-9)
    line = scipy_stats.linregress(expected["in"], expected["out"])
    assert ours.slope == pytest.approx(line.slope, rel=1e-8)
    assert ours.intercept == pytest.approx(line.intercept, rel=1e-8)
    assert ours.probability_of_loss == (expected["out"] < 0).mean()


class TestAgainstBruteForce:
    @pytest.mark.parametrize(("n_dates", "n_trials", "n_blocks"), [(120, 10, 6), (103, 12, 8)])
    def test_sharpe(self, n_dates: int, n_trials: int, n_blocks: int) -> None:
        r = _days(n_dates, n_trials)
        before = r.copy()
        ours = overfitting_probability(r, n_blocks=n_blocks)
        expected = _brute_force(r, n_blocks, performance.sharpe)
        _agree(ours, expected)
        # With an even number of trials: the paper's estimator itself.
        assert ours.probability == (expected["logits"] <= 0).mean()
        np.testing.assert_array_equal(r, before)

    def test_any_statistic(self) -> None:
        r = _days(90, 6)

        def calm(x: Array) -> Array:
            return -performance.max_drawdown(x)

        _agree(overfitting_probability(r, n_blocks=4, statistic=calm), _brute_force(r, 4, calm))

    def test_chunks_do_not_matter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        r = _days(120, 10)
        whole = overfitting_probability(r, n_blocks=6)
        monkeypatch.setattr("alphakeel.stats.selection_bias._CHUNK_VALUES", 1)
        parts = overfitting_probability(r, n_blocks=6)
        np.testing.assert_array_equal(whole.logits, parts.logits)

    def test_a_tiny_spread_on_a_large_mean_keeps_its_digits(self) -> None:
        r = _days(200, 6, scale=1e-7) + 0.01
        ours = overfitting_probability(r, n_blocks=4)
        expected = _brute_force(r, 4, performance.sharpe)
        np.testing.assert_allclose(ours.outside, expected["out"], rtol=1e-6)


class TestMeaning:
    @pytest.mark.parametrize("n_trials", [10, 11])
    def test_pure_luck_is_one_half(self, n_trials: int) -> None:
        found = [
            overfitting_probability(_days(240, n_trials, seed), n_blocks=6).probability
            for seed in range(300)
        ]
        error = np.std(found) / np.sqrt(len(found))
        assert error < 0.02
        assert abs(np.mean(found) - 0.5) < 3.5 * error

    def test_skill_is_found_again(self) -> None:
        r = _days(600, 10)
        r[:, 4] += 0.003
        result = overfitting_probability(r, n_blocks=8)
        assert (result.chosen == 4).mean() > 0.95
        assert result.probability < 0.05
        assert result.probability_of_loss < 0.05

    def test_sixteen_blocks_are_12870_splits(self) -> None:
        result = overfitting_probability(_days(160, 5))
        assert len(result.logits) == 12_870
        assert (result.n_trials, result.n_blocks) == (5, 16)

    def test_copies_share_their_rank(self) -> None:
        r = np.repeat(_days(100, 1), 4, axis=1)
        result = overfitting_probability(r, n_blocks=4)
        np.testing.assert_allclose(result.logits, 0.0, atol=1e-12)
        assert result.probability == 0.5


class TestValidation:
    def test_refusals(self) -> None:
        r = _days(40, 3)
        with pytest.raises(ConfigError, match="even number"):
            overfitting_probability(r, n_blocks=5)
        with pytest.raises(ConfigError, match="even number"):
            overfitting_probability(r, n_blocks=22)
        with pytest.raises(DataError, match="31 days are too few for 16"):
            overfitting_probability(r[:31], n_blocks=16)
        with pytest.raises(DataError, match="n_trials >= 2"):
            overfitting_probability(r[:, :1])
        bad, still = r.copy(), r.copy()
        bad[7, 1] = np.nan
        still[:20, 2] = 0.001
        with pytest.raises(DataError, match=r"trial 1 hold nan at row 7"):
            overfitting_probability(bad, n_blocks=4)
        with pytest.raises(DataError, match="trial 2 is undefined on a half"):
            overfitting_probability(still, n_blocks=4)
        with pytest.raises(ConfigError, match="one value per column"):
            overfitting_probability(r, n_blocks=2, statistic=lambda x: x.mean(axis=0)[:2])
