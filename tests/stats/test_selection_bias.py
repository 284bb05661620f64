"""Deflated Sharpe ratios against the numbers in the papers, overfitting against plain loops."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats import performance
from alphakeel.stats.selection_bias import (
    Overfitting,
    deflated_sharpe,
    expected_maximum_sharpe,
    minimum_track_record,
    overfitting_probability,
    probabilistic_sharpe,
    track_record,
)

Array = NDArray[np.float64]


class TestPublishedSharpe:
    def test_deflated_sharpe_ratio(self) -> None:
        """Bailey and López de Prado (2014), numerical example: 2.5 a year over five years."""
        tails = {"skewness": -3.0, "kurtosis": 10.0, "periods_per_year": 250}
        best = expected_maximum_sharpe(100, 0.5) / np.sqrt(250)
        assert best == pytest.approx(0.1132, abs=5e-5)
        dsr = deflated_sharpe(2.5, 1250, n_trials=100, trial_variance=0.5, **tails)
        assert dsr == pytest.approx(0.9004, abs=5e-5)
        # With 46 trials it would have passed 0.95; with normal returns, with 88.
        dsr = deflated_sharpe(2.5, 1250, n_trials=46, trial_variance=0.5, **tails)
        assert dsr == pytest.approx(0.9505, abs=5e-5)
        dsr = deflated_sharpe(2.5, 1250, n_trials=88, trial_variance=0.5, periods_per_year=250)
        assert dsr == pytest.approx(0.9505, abs=5e-5)

    def test_probabilistic_sharpe_ratio(self) -> None:
        """Bailey and López de Prado (2012): two years of months, 0.458 a month."""
        annual = 0.458 * np.sqrt(12)
        normal = probabilistic_sharpe(annual, 24, periods_per_year=12)
        assert normal == pytest.approx(0.982, abs=5e-4)
        fat = probabilistic_sharpe(
            annual, 24, skewness=-2.448, kurtosis=10.164, periods_per_year=12
        )
        assert fat == pytest.approx(0.913, abs=5e-4)

    @pytest.mark.parametrize(("periods", "years"), [(252, 2.73), (52, 2.83), (12, 3.24)])
    def test_minimum_track_record(self, periods: int, years: float) -> None:
        """The same paper: years to show that a Sharpe ratio of 2 exceeds 1 with 95 %."""
        length = minimum_track_record(2.0, benchmark=1.0, periods_per_year=periods)
        assert length / periods == pytest.approx(years, abs=0.005)

    def test_minimum_track_record_with_tails(self) -> None:
        length = minimum_track_record(
            2.0, benchmark=1.0, skewness=-0.72, kurtosis=5.78, periods_per_year=12
        )
        assert length / 12 == pytest.approx(4.99, abs=0.005)


class TestSharpe:
    @settings(max_examples=50, deadline=None)
    @given(
        sharpe=st.floats(0.3, 3.0),
        benchmark=st.floats(-1.0, 0.2),
        level=st.floats(0.55, 0.99),
        skewness=st.floats(-2.0, 2.0),
    )
    def test_the_minimum_length_just_reaches_the_level(
        self, sharpe: float, benchmark: float, level: float, skewness: float
    ) -> None:
        tails = {"benchmark": benchmark, "skewness": skewness, "kurtosis": 8.0}
        length = minimum_track_record(sharpe, level=level, **tails)
        assert probabilistic_sharpe(sharpe, length, **tails) == pytest.approx(level, abs=1e-9)

    def test_coverage_of_the_probabilistic_sharpe_ratio(self) -> None:
        """At the true Sharpe ratio it is uniform, whatever the skewness of the returns."""
        r = np.random.default_rng(0).gamma(4.0, 0.01, (2000, 600)) - 0.035
        true = 0.005 / 0.02
        found = [track_record(x, benchmark=true, periods_per_year=1).probabilistic for x in r]
        assert scipy_stats.kstest(found, "uniform").pvalue > 0.001

    @pytest.mark.parametrize("n_trials", [5, 20, 100])
    def test_the_best_of_worthless_trials(self, n_trials: int) -> None:
        drawn = np.random.default_rng(1).standard_normal((20_000, n_trials)) * 0.7
        expected = drawn.max(axis=1).mean()
        assert expected_maximum_sharpe(n_trials, 0.49) == pytest.approx(expected, rel=0.035)

    @pytest.mark.parametrize(
        ("build", "independent"),
        [
            (lambda z: z, 12),  # independent
            (lambda z: np.repeat(z[:, :4], 3, axis=1), 4),  # four trials, three times each
            (lambda z: z + 3.0 * z[:, :1] * np.ones(12), 12),  # equal correlations of 0.9
            (lambda z: np.repeat(z[:, :1], 12, axis=1), 1),  # one trial
        ],
    )
    def test_independent_trials_predict_the_best(self, build: object, independent: int) -> None:
        """With the variance among the trials, the number gives the mean of the best Sharpe."""
        rng = np.random.default_rng(4)
        best, predicted = [], []
        for _ in range(150):
            r = 0.01 * build(rng.standard_normal((400, 12)))
            sharpes = performance.sharpe(r)
            best.append(sharpes.max() - sharpes.mean())
            record = track_record(r[:, 0], trial_sharpes=sharpes, n_trials=independent)
            predicted.append(record.expected_maximum)
        assert np.mean(predicted) == pytest.approx(np.mean(best), rel=0.1, abs=1e-9)

    def test_all_in_one(self) -> None:
        r = np.random.default_rng(0).standard_t(5, 900) * 0.01 + 0.0006
        trials = np.linspace(-0.5, 1.0, 16)
        ours = track_record(r, trial_sharpes=trials, benchmark=0.2, level=0.9)
        moments = {
            "skewness": scipy_stats.skew(r),
            "kurtosis": scipy_stats.kurtosis(r, fisher=False),
        }
        sharpe = float(performance.sharpe(r))
        assert ours.sharpe == sharpe
        assert ours.probabilistic == pytest.approx(
            probabilistic_sharpe(sharpe, 900, benchmark=0.2, **moments)
        )
        assert ours.deflated == pytest.approx(
            deflated_sharpe(sharpe, 900, n_trials=16, trial_variance=trials.var(ddof=1), **moments)
        )
        assert ours.minimum_days == pytest.approx(
            minimum_track_record(sharpe, benchmark=0.2, level=0.9, **moments)
        )
        fewer = track_record(r, trial_sharpes=trials, n_trials=4.5)
        assert fewer.deflated > ours.deflated
        assert track_record(r).expected_maximum == 0.0


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


class TestOverfittingByBruteForce:
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


class TestOverfitting:
    @pytest.mark.parametrize("n_trials", [10, 11])
    def test_worthless_trials_give_one_half(self, n_trials: int) -> None:
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


class TestRefusals:
    def test_overfitting_probability(self) -> None:
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

    def test_sharpe_ratios(self) -> None:
        r = np.random.default_rng(0).standard_normal(50)
        assert minimum_track_record(0.5, benchmark=0.5) == float("inf")
        with pytest.raises(ConfigError, match="n_dates"):
            probabilistic_sharpe(1.0, 1)
        with pytest.raises(ConfigError, match="no distribution has skewness"):
            probabilistic_sharpe(20.0, 100, skewness=3.0, kurtosis=3.0)
        with pytest.raises(ConfigError, match="skewness 2 with kurtosis 5"):
            probabilistic_sharpe(1.0, 100, skewness=2.0, kurtosis=5.0, periods_per_year=1)
        with pytest.raises(ConfigError, match="level"):
            minimum_track_record(1.0, level=0.4)
        with pytest.raises(ConfigError, match="n_trials"):
            expected_maximum_sharpe(0.5, 1.0)
        with pytest.raises(ConfigError, match="trial_variance"):
            expected_maximum_sharpe(5, -1.0)
        with pytest.raises(DataError, match="constant"):
            track_record(np.zeros(50))
        with pytest.raises(DataError, match="trial 1 is nan"):
            track_record(r, trial_sharpes=[0.1, np.nan])
        with pytest.raises(DataError, match="9 trials, but 0"):
            track_record(r, n_trials=9)
        with pytest.raises(DataError, match="9 trials, but 1"):
            track_record(r, trial_sharpes=[0.3], n_trials=9)
