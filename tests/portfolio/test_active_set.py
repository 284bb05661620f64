"""The least variance under a cap: certified by its conditions, equal to an interior point's."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphakeel.portfolio.active_set import MIN_SPECIFIC, _Programme, least_variance
from alphakeel.risk.covariance import FactorCovariance


def model_of(loadings: np.ndarray, specific: np.ndarray) -> FactorCovariance:
    return FactorCovariance(loadings, specific, np.ones(len(specific), dtype=bool))


def draw(seed: int, n: int, n_factors: int, specific: float = 0.1) -> FactorCovariance:
    """A strong common factor, volatilities that differ by an order of magnitude."""
    rng = np.random.default_rng(seed)
    loadings = rng.standard_t(3, (n, n_factors)) + rng.choice([0.0, 3.0])
    loadings *= np.exp(rng.normal(0.0, 0.7, (n, 1)))
    return model_of(loadings, specific * np.exp(rng.normal(size=n)))


def drawn_cap(seed: int, n: int) -> float:
    """A cap that leaves room; often one that spends the whole on a round number of stocks."""
    rng = np.random.default_rng(seed)
    if rng.random() < 0.3:
        return 1.0 / int(rng.integers(1, n))
    return float(min(1.0, (1.001 / n) ** rng.uniform(0.0, 1.0)))


def residual(covariance: FactorCovariance, cap: float, weights: np.ndarray) -> float:
    """Largest violation of the conditions of an optimum, over the largest marginal variance."""
    least = MIN_SPECIFIC * covariance.variance.mean()
    marginal = (
        model_of(covariance.loadings, np.maximum(covariance.specific, least)).matrix @ weights
    )
    free = (weights > 0.0) & (weights < cap)
    low = marginal[weights == 0.0].min(initial=np.inf)
    high = marginal[weights == cap].max(initial=-np.inf)
    level = marginal[free].mean() if free.any() else max(min(low, 1e9), high)
    spread = np.abs(marginal[free] - level).max(initial=0.0)
    return float(max(spread, level - low, high - level) / np.abs(marginal).max())


class TestReferences:
    @pytest.mark.parametrize(("n", "n_factors"), [(8, 3), (30, 60), (120, 40)])
    @pytest.mark.parametrize("cap", [1.0, 0.2, 0.13])
    def test_clarabel_finds_the_same(self, n: int, n_factors: int, cap: float) -> None:
        covariance = draw(n + n_factors, n, n_factors)
        ours = least_variance(covariance, cap)
        assert ours is not None
        w = cp.Variable(n)
        variance = cp.sum_squares(covariance.loadings.T @ w)
        variance += cp.sum_squares(cp.multiply(np.sqrt(covariance.specific), w))
        programme = cp.Problem(cp.Minimize(variance), [cp.sum(w) == 1.0, w >= 0.0, w <= cap])
        programme.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
        assert covariance.portfolio_variance(ours) <= programme.value * (1.0 + 1e-9)
        np.testing.assert_allclose(ours, w.value, atol=1e-5)

    def test_uncorrelated_stocks_by_inverse_variance(self) -> None:
        covariance = model_of(np.zeros((4, 2)), np.array([1.0, 2.0, 4.0, 4.0]))
        np.testing.assert_allclose(least_variance(covariance, 1.0), [0.5, 0.25, 0.125, 0.125])

    def test_cap_that_spends_the_whole_on_the_safest(self) -> None:
        covariance = model_of(1.5 ** np.arange(30.0)[:, None], np.full(30, 1.0))
        weights = least_variance(covariance, 0.1)
        np.testing.assert_allclose(weights, [0.1] * 10 + [0.0] * 20, atol=1e-15)

    def test_equal_stocks_share_equally(self) -> None:
        covariance = model_of(np.ones((7, 3)), np.full(7, 0.2))
        np.testing.assert_allclose(least_variance(covariance, 0.5), np.full(7, 1 / 7), rtol=1e-12)


class TestProperties:
    @given(
        seed=st.integers(0, 10**6),
        n=st.integers(2, 60),
        n_factors=st.integers(1, 80),
        specific=st.sampled_from([1e-3, 0.1, 10.0]),
    )
    @settings(max_examples=150, deadline=None)
    def test_conditions_of_an_optimum(
        self, seed: int, n: int, n_factors: int, specific: float
    ) -> None:
        covariance, cap = draw(seed, n, n_factors, specific), drawn_cap(seed, n)
        weights = least_variance(covariance, cap)
        assert weights is not None
        assert (weights >= 0.0).all()
        assert (weights <= cap).all()
        assert weights.sum() == pytest.approx(1.0, abs=1e-13)
        assert residual(covariance, cap, weights) < 1e-9

    @pytest.mark.parametrize("seed", range(8))
    def test_one_stock_at_a_time_leads_to_the_same(
        self, seed: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without a single step of many stocks the classical method has to do it all."""
        n, cap = 40, 0.06
        covariance = draw(seed, n, 15)
        expected = least_variance(covariance, cap)
        assert expected is not None
        bind, walk, walks = _Programme.bind, _Programme.walk, []

        def first_only(self: _Programme, free: np.ndarray, high: np.ndarray):
            found = bind(self, free, high)
            if free.all():  # the start: some twenty stocks at bounds that are not the right ones
                order = np.argsort(np.random.default_rng(seed).random(n))
                high, free = np.isin(np.arange(n), order[:16]), np.isin(np.arange(n), order[16:20])
                return found._replace(
                    weights=np.where(high, cap, 0.01 * free), free=free, high=high
                )
            return found._replace(weights=np.full(n, 1.0))  # of more variance: not taken

        def counted(self: _Programme, *args: np.ndarray):
            walks.append(1)
            return walk(self, *args)

        monkeypatch.setattr(_Programme, "bind", first_only)
        monkeypatch.setattr(_Programme, "walk", counted)
        np.testing.assert_allclose(least_variance(covariance, cap), expected, atol=1e-12)
        assert len(walks) > 5

    def test_order_of_the_stocks_does_not_matter(self) -> None:
        covariance, order = draw(3, 50, 20), np.random.default_rng(0).permutation(50)
        weights = least_variance(covariance, 0.1)
        assert weights is not None
        turned = model_of(covariance.loadings[order], covariance.specific[order])
        np.testing.assert_allclose(least_variance(turned, 0.1), weights[order], atol=1e-13)

    def test_scale_does_not_matter_and_input_is_left_alone(self) -> None:
        covariance = draw(4, 30, 50)
        copies = covariance.loadings.copy(), covariance.specific.copy()
        small = model_of(covariance.loadings * 2.0**-20, covariance.specific * 2.0**-40)
        np.testing.assert_array_equal(least_variance(small, 0.2), least_variance(covariance, 0.2))
        np.testing.assert_array_equal(covariance.loadings, copies[0])
        np.testing.assert_array_equal(covariance.specific, copies[1])

    def test_without_specific_variance_there_is_a_least_one(self) -> None:
        """Copies of one stock: every split has the same variance, equal parts are chosen."""
        loadings = np.repeat([[1.0], [2.0]], 20, axis=0)
        weights = least_variance(model_of(loadings, np.zeros(40)), 1.0)
        np.testing.assert_allclose(weights, np.repeat([0.05, 0.0], 20), atol=1e-9)
        assert 0.0 < MIN_SPECIFIC < 1e-4


class TestNoAnswer:
    @pytest.mark.parametrize("value", [0.0, np.inf, np.nan])
    def test_no_variance_no_portfolio(self, value: float) -> None:
        assert least_variance(model_of(np.zeros((3, 1)), np.full(3, value)), 0.5) is None
