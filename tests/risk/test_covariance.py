"""Covariances in factor form: equal to references, positive, robust to gaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skfolio.moments import EWCovariance
from sklearn.covariance import LedoitWolf

from alphakeel.errors import ConfigError, DataError
from alphakeel.risk.covariance import (
    COVARIANCES,
    clipped_covariance,
    ewma_covariance,
    factor_covariance,
    ledoit_wolf_covariance,
    wide_ledoit_wolf_covariance,
)


def correlated(seed: int, n_dates: int = 300, n_assets: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    market = rng.normal(0.0, 0.01, (n_dates, 1))
    return market * rng.uniform(0.5, 1.5, n_assets) + rng.normal(0.0, 0.012, (n_dates, n_assets))


class TestAgainstReferences:
    def test_ledoit_wolf_is_scikit_learns_and_our_own_with_gaps(self) -> None:
        window = correlated(0)
        np.testing.assert_allclose(
            ledoit_wolf_covariance(window).matrix, LedoitWolf().fit(window).covariance_, atol=1e-15
        )
        window[np.random.default_rng(1).random(window.shape) < 0.1] = np.nan
        ours, wide = ledoit_wolf_covariance(window), wide_ledoit_wolf_covariance(window)
        np.testing.assert_allclose(ours.matrix, wide.matrix, atol=1e-15)
        np.testing.assert_array_equal(ours.kept, wide.kept)

    @pytest.mark.parametrize("n_assets", [1, 2, 59, 60, 61, 500])
    def test_sums_over_dates_are_those_over_stocks(self, n_assets: int) -> None:
        window = correlated(3, 60, n_assets)
        ours, wide = ledoit_wolf_covariance(window), wide_ledoit_wolf_covariance(window)
        np.testing.assert_allclose(wide.specific, ours.specific, rtol=1e-12, atol=1e-20)
        np.testing.assert_allclose(wide.loadings, ours.loadings, rtol=1e-12)

    def test_nothing_to_shrink(self) -> None:
        """Two dates with opposite returns: the sample matrix has no error and is kept."""
        model = wide_ledoit_wolf_covariance(np.array([[0.5, 0.25, 0.5], [-0.5, -0.25, -0.5]]))
        assert not model.specific.any()

    def test_ewma_by_a_loop(self) -> None:
        window = correlated(2, 60, 4)
        centred, total, weight_sum = window - window.mean(axis=0), np.zeros((4, 4)), 0.0
        for age, row in enumerate(centred[::-1]):
            total += 0.5 ** (age / 20.0) * np.outer(row, row)
            weight_sum += 0.5 ** (age / 20.0)
        matrix = ewma_covariance(window, halflife=20.0).matrix
        np.testing.assert_allclose(matrix, total / weight_sum, rtol=1e-12)

    def test_ewma_is_skfolios(self) -> None:
        window = correlated(2, 400, 4)
        window -= window.mean(axis=0)
        peer = EWCovariance(half_life=20.0, assume_centered=True).fit(window).covariance_
        matrix = ewma_covariance(window, halflife=20.0).matrix
        np.testing.assert_allclose(matrix, peer, rtol=1e-3, atol=1e-9)

    def test_clipping_removes_noise_and_keeps_variances(self) -> None:
        """A matrix of pure noise loses all its correlations; a market's one factor stays."""
        noise = np.random.default_rng(0).normal(0.0, 0.01, (1000, 100))
        model = clipped_covariance(noise)
        assert model.loadings.shape[1] <= 1
        np.testing.assert_allclose(model.variance, noise.var(axis=0), rtol=1e-10)
        assert clipped_covariance(correlated(1)).loadings.shape[1] == 1

    def test_clipping_by_hand(self) -> None:
        window = correlated(3, 200, 10)
        values, vectors = np.linalg.eigh(np.corrcoef(window.T))
        kept = values > (1.0 + np.sqrt(10 / 200)) ** 2
        values[~kept] = values[~kept].mean()
        expected = vectors @ np.diag(values) @ vectors.T
        np.fill_diagonal(expected, 1.0)
        scale = window.std(axis=0)
        matrix = clipped_covariance(window).matrix
        np.testing.assert_allclose(matrix, expected * np.outer(scale, scale), atol=1e-14)

    def test_all_factors_give_the_sample_covariance(self) -> None:
        window = correlated(4, 200, 12)
        model = factor_covariance(window, n_factors=12)
        np.testing.assert_allclose(model.matrix, np.cov(window.T, bias=True), atol=1e-15)

    def test_shrinkage_is_nearer_to_the_truth_than_the_sample(self) -> None:
        rng = np.random.default_rng(5)
        beta = rng.uniform(0.5, 1.5, 100)
        truth = 1e-4 * np.outer(beta, beta) + np.eye(100) * 1.44e-4
        window = rng.normal(0, 0.01, (150, 1)) * beta + rng.normal(0, 0.012, (150, 100))
        error = np.linalg.norm(np.cov(window.T) - truth)
        for estimate in (clipped_covariance, ledoit_wolf_covariance):
            assert np.linalg.norm(estimate(window).matrix - truth) < error


class TestProperties:
    @given(st.integers(0, 10**6), st.sampled_from(sorted(COVARIANCES)), st.floats(0.0, 0.3))
    @settings(max_examples=40, deadline=None)
    def test_positive_whatever_is_missing(self, seed: int, name: str, missing: float) -> None:
        window = correlated(seed, 50, 30)
        window[np.random.default_rng(seed).random(window.shape) < missing] = np.nan
        before = window.copy()
        model = COVARIANCES[name](window)
        np.testing.assert_array_equal(window, before)
        assert model.kept.shape == (30,)
        assert (model.specific >= 0.0).all()
        assert np.isfinite(model.matrix).all()
        if model.kept.any():
            assert np.linalg.eigvalsh(model.matrix).min() >= -1e-15
            np.testing.assert_allclose(model.variance, np.diag(model.matrix), atol=1e-18)
            w = np.random.default_rng(0).normal(size=len(model.specific))
            assert model.portfolio_variance(w) == pytest.approx(w @ model.matrix @ w, rel=1e-9)

    @pytest.mark.parametrize("name", sorted(COVARIANCES))
    def test_order_of_stocks_is_irrelevant(self, name: str) -> None:
        window = correlated(7, 120, 9)
        order = np.random.default_rng(0).permutation(9)
        matrix, shuffled = (
            COVARIANCES[name](window).matrix,
            COVARIANCES[name](window[:, order]).matrix,
        )
        np.testing.assert_allclose(shuffled, matrix[np.ix_(order, order)], atol=1e-15)

    def test_new_volatilities_keep_the_correlations(self) -> None:
        model = factor_covariance(correlated(8, 120, 5), n_factors=2)
        wanted = np.array([0.01, 0.02, np.nan, -1.0, 0.03])
        scaled = model.rescaled(wanted)
        own = np.sqrt(model.variance)
        expected = np.where(np.isfinite(wanted) & (wanted > 0), wanted, own)
        np.testing.assert_allclose(np.sqrt(scaled.variance), expected, rtol=1e-12)
        before = model.matrix / np.outer(own, own)
        np.testing.assert_allclose(scaled.matrix / np.outer(expected, expected), before, atol=1e-12)

    def test_a_stock_without_enough_returns_is_left_out(self) -> None:
        window = correlated(9, 100, 4)
        window[:30, 2] = np.nan
        for estimate in COVARIANCES.values():
            np.testing.assert_array_equal(estimate(window).kept, [True, True, False, True])


class TestValidation:
    def test_refusals(self) -> None:
        with pytest.raises(ConfigError, match="halflife"):
            ewma_covariance(correlated(0), halflife=0.0)
        with pytest.raises(ConfigError, match="n_factors"):
            factor_covariance(correlated(0), n_factors=0)
        with pytest.raises(ConfigError, match="min_share"):
            clipped_covariance(correlated(0), min_share=0.0)
        with pytest.raises(DataError, match="two rows"):
            ledoit_wolf_covariance(np.zeros((1, 3)))
        with pytest.raises(DataError, match=r"returns\[1, 0\] is infinite"):
            ledoit_wolf_covariance(np.array([[0.0, 0.1], [np.inf, 0.0]]))
