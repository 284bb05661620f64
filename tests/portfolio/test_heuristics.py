"""Allocators: inside their limits, equal to references, blind to the future."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from skfolio import RiskMeasure
from skfolio.moments import LedoitWolf
from skfolio.optimization import MeanRisk, ObjectiveFunction
from skfolio.prior import EmpiricalPrior
from threadpoolctl import threadpool_limits

from alphakeel.errors import AlphakeelError, ConfigError, DataError
from alphakeel.portfolio.heuristics import (
    cap_gross,
    capped_proportional,
    equal_weight,
    long_short_quantile,
    minimum_variance,
    scale_to_volatility,
    top_quantile,
)
from alphakeel.risk.covariance import ledoit_wolf_covariance
from alphakeel.risk.volatility import ex_ante_volatility
from helpers import noise_after, with_future_of


def random_decisions(seed: int, n_decisions: int = 15, n_assets: int = 20) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n_decisions, n_assets)).cumsum(axis=0)
    scores[rng.random(scores.shape) < 0.1] = np.nan
    scores[rng.random(n_decisions) < 0.1] = np.nan
    volatility = rng.uniform(0.1, 0.6, scores.shape)
    volatility[rng.random(scores.shape) < 0.05] = np.nan
    return {
        "scores": scores,
        "volatility": volatility,
        "eligible": rng.random(scores.shape) < 0.8,
        "tradable": rng.random(scores.shape) < 0.9,
    }


def long_short_decisions(seed: int) -> dict[str, np.ndarray]:
    """As above, with betas in place of what is tradable, and every volatility known."""
    rng, inputs = np.random.default_rng(seed), random_decisions(seed, n_decisions=12)
    betas = rng.normal(1.0, 0.5, inputs["scores"].shape)
    betas[rng.random(betas.shape) < 0.1] = np.nan
    return {
        "scores": inputs["scores"],
        "volatility": rng.uniform(0.1, 0.6, betas.shape),
        "eligible": inputs["eligible"],
        "betas": betas,
    }


class TestWaterFilling:
    @given(seed=st.integers(0, 10**6), cap=st.floats(0.02, 1.0), budget=st.floats(0.1, 1.0))
    @settings(max_examples=60, deadline=None)
    def test_is_the_capped_multiple_that_spends_the_budget(
        self, seed: int, cap: float, budget: float
    ) -> None:
        rng = np.random.default_rng(seed)
        raw = np.exp(rng.normal(0.0, 2.0, (4, 12))) * (rng.random((4, 12)) < 0.7)
        for row, weights in zip(raw, capped_proportional(raw, cap=cap, budget=budget), strict=True):
            most = cap * np.count_nonzero(row)
            if most <= budget:
                expected = np.where(row > 0.0, cap, 0.0)
            else:

                def over(scale: float, row: np.ndarray = row) -> float:
                    return float(np.minimum(cap, scale * row).sum() - budget)

                expected = np.minimum(cap, brentq(over, 0.0, 1e6, xtol=1e-15, rtol=1e-14) * row)
            np.testing.assert_allclose(weights, expected, atol=1e-9)
            assert weights.max() <= cap
            assert weights.sum() == pytest.approx(min(budget, most), abs=1e-12)

    def test_tiny_and_huge_numbers(self) -> None:
        raw = np.array([[1e-300, 1e300, 0.0], [0.0, 0.0, 0.0]])
        np.testing.assert_allclose(capped_proportional(raw, cap=1.0), [[0, 1, 0], [0, 0, 0]])
        assert not capped_proportional(np.ones((1, 3)), cap=0.5, budget=0.0).any()


class TestTopQuantile:
    def test_inverse_volatility_within_the_best_by_hand(self) -> None:
        scores = np.array([[5.0, 4.0, 3.0, 2.0, 1.0, 9.0]])
        volatility = np.array([[0.1, 0.2, 0.4, 0.1, 0.1, 0.1]])
        eligible = np.array([[True, True, True, True, True, False]])
        weights = top_quantile(scores, volatility, eligible=eligible, quantile=0.6, weight_cap=1.0)
        np.testing.assert_allclose(weights, [[4 / 7, 2 / 7, 1 / 7, 0, 0, 0]])
        capped = top_quantile(scores, volatility, eligible=eligible, quantile=0.6, weight_cap=0.5)
        np.testing.assert_allclose(capped, [[0.5, 1 / 3, 1 / 6, 0, 0, 0]])

    def test_a_fifth_of_twenty_stocks_is_four_and_the_cap_leaves_cash(self) -> None:
        scores, eligible = np.arange(20.0)[None], np.ones((1, 20), dtype=bool)
        volatility = np.full((1, 20), 0.2)
        weights = top_quantile(scores, volatility, eligible=eligible, weight_cap=0.1)
        np.testing.assert_allclose(weights[0, -4:], 0.1)
        assert weights.sum() == pytest.approx(0.4)
        full = top_quantile(scores, volatility, eligible=eligible, weight_cap=0.25)
        np.testing.assert_allclose(full[0, -4:], 0.25)

    def test_composition_is_smoothed_and_exposure_is_not(self) -> None:
        scores = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
        settings_ = {"quantile": 0.3, "weight_cap": 1.0, "smoothing": 0.25}
        weights = top_quantile(
            scores, np.ones((3, 3)), eligible=np.ones((3, 3), dtype=bool), **settings_
        )
        np.testing.assert_allclose(
            weights, [[1, 0, 0], [0.75, 0, 0.25], [0.5625, 0, 0.4375]], atol=1e-15
        )
        gone = np.array([[True] * 3, [False, True, True], [True] * 3])
        weights = top_quantile(scores, np.ones((3, 3)), eligible=gone, **settings_)
        np.testing.assert_allclose(weights, [[1, 0, 0], [0, 0, 1], [0, 0, 1]], atol=1e-15)

    def test_a_suspended_stock_keeps_its_weight_and_is_not_newly_selected(self) -> None:
        scores = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
        tradable = np.array([[True] * 3, [False, True, True], [True, True, False]])
        weights = top_quantile(
            scores,
            np.ones((3, 3)),
            eligible=np.ones((3, 3), dtype=bool),
            tradable=tradable,
            quantile=0.4,
            weight_cap=0.4,
            smoothing=1.0,
        )
        np.testing.assert_allclose(weights, [[0.4, 0.4, 0], [0.4, 0, 0.4], [0, 0.4, 0.4]])

    @given(
        seed=st.integers(0, 10**6),
        quantile=st.floats(0.05, 1.0),
        cap=st.floats(0.02, 1.0),
        smoothing=st.floats(0.05, 1.0),
        min_names=st.integers(1, 10),
    )
    @settings(max_examples=80, deadline=None)
    def test_stays_inside_its_limits(
        self, seed: int, quantile: float, cap: float, smoothing: float, min_names: int
    ) -> None:
        inputs = random_decisions(seed)
        copies = {name: value.copy() for name, value in inputs.items()}
        weights = top_quantile(
            **inputs, quantile=quantile, weight_cap=cap, smoothing=smoothing, min_names=min_names
        )
        for name, value in copies.items():
            np.testing.assert_array_equal(inputs[name], value)
        silent = np.isnan(inputs["scores"]).all(axis=1)
        np.testing.assert_array_equal(np.isnan(weights), np.repeat(silent[:, None], 20, axis=1))
        held = weights[~silent]
        assert (held >= 0.0).all()
        assert (held <= cap + 1e-12).all()
        assert (held.sum(axis=1) <= 1.0 + 1e-12).all()
        assert not held[~inputs["eligible"][~silent]].any()
        before = np.zeros(20)
        for row, now in zip(np.flatnonzero(~silent), held, strict=True):
            stuck = ~inputs["tradable"][row] & inputs["eligible"][row]
            np.testing.assert_array_equal(now[stuck], before[stuck])
            usable = inputs["eligible"][row] & inputs["tradable"][row]
            usable &= np.isfinite(inputs["scores"][row]) & np.isfinite(inputs["volatility"][row])
            if usable.sum() >= min_names:
                names = max(np.ceil(quantile * usable.sum() - 1e-9), min_names)
                exposure = min(1.0, names * cap, 1.0 - now[stuck].sum())
                invested = now[~stuck].sum()
                assert invested == pytest.approx(exposure, abs=1e-9) or now.max() >= cap - 1e-9
            before = now

    def test_a_small_step_still_enters_a_portfolio_of_many_names(self) -> None:
        scores = np.tile(np.arange(1000.0), (2, 1))
        scores[1] *= -1.0
        weights = top_quantile(
            scores,
            np.ones(scores.shape),
            eligible=np.ones(scores.shape, dtype=bool),
            quantile=0.5,
            smoothing=0.01,
        )
        assert weights[1, :500].sum() == pytest.approx(0.01)

    def test_asset_order_does_not_matter(self) -> None:
        inputs = random_decisions(1)
        order = np.random.default_rng(0).permutation(20)
        mixed = {name: value[:, order] for name, value in inputs.items()}
        np.testing.assert_allclose(
            top_quantile(**mixed), top_quantile(**inputs)[:, order], atol=1e-14
        )

    @pytest.mark.parametrize("seed", range(5))
    def test_scrambled_future_leaves_the_past_to_the_bit(self, seed: int) -> None:
        inputs, rng = random_decisions(seed), np.random.default_rng(seed)
        returns, decisions = rng.normal(0.0, 0.02, (100, 20)), np.arange(25, 100, 5)
        base = top_quantile(**inputs, target_volatility=0.1, returns=returns, decisions=decisions)
        assert (np.nansum(base, axis=1) < 0.95).any()
        for i in (0, 6, 13):
            other = {name: value.copy() for name, value in inputs.items()}
            for name in ("scores", "volatility"):
                other[name][i + 1 :] = rng.normal(0.0, 1e9, other[name][i + 1 :].shape)
            for name in ("eligible", "tradable"):
                other[name][i + 1 :] = rng.random(other[name][i + 1 :].shape) < 0.5
            future = noise_after(returns, decisions[i], seed=i, sigma=1e6)
            again = top_quantile(
                **other, target_volatility=0.1, returns=future, decisions=decisions
            )
            np.testing.assert_array_equal(again[: i + 1], base[: i + 1])

    @pytest.mark.parametrize(
        "wrong",
        [
            {"quantile": 0.0},
            {"quantile": 1.2},
            {"weight_cap": -0.1},
            {"weight_cap": 25.0},
            {"smoothing": 0.0},
            {"min_names": 0},
            {"target_volatility": 0.1},
        ],
    )
    def test_settings_out_of_range(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            top_quantile(**random_decisions(0), **wrong)  # type: ignore[arg-type]

    def test_shapes(self) -> None:
        inputs = random_decisions(0)
        for name in ("volatility", "eligible", "tradable"):
            with pytest.raises(DataError, match=f"{name} has shape"):
                top_quantile(**{**inputs, name: inputs[name][:, 1:]})


class TestVolatilityTarget:
    def test_forecast_volatility_never_exceeds_the_target(self) -> None:
        rng = np.random.default_rng(0)
        returns, decisions = rng.normal(0.0, 0.02, (200, 8)), np.arange(30, 200, 10)
        weights = rng.dirichlet(np.ones(8), len(decisions))
        forecast = ex_ante_volatility(weights, returns, decisions)
        target = float(np.median(forecast))
        scaled = scale_to_volatility(weights, forecast, target=target)
        after = ex_ante_volatility(scaled, returns, decisions)
        np.testing.assert_allclose(after, np.minimum(forecast, target), rtol=1e-12)
        calm = forecast <= target
        np.testing.assert_array_equal(scaled[calm], weights[calm])

    def test_unknown_risk_is_not_held(self) -> None:
        scaled = scale_to_volatility(np.array([[0.5], [np.nan]]), np.full(2, np.nan), target=0.1)
        np.testing.assert_array_equal(scaled, [[0.0], [np.nan]])
        with pytest.raises(ConfigError, match="target volatility"):
            scale_to_volatility(np.ones((1, 1)), np.ones(1), target=0.0)


class TestEqualWeight:
    @given(seed=st.integers(0, 10**6))
    @settings(max_examples=20, deadline=None)
    def test_same_weight_for_the_eligible_only(self, seed: int) -> None:
        eligible = np.random.default_rng(seed).random((6, 5)) < 0.3
        weights = equal_weight(eligible)
        assert not weights[~eligible].any()
        np.testing.assert_allclose(weights.sum(axis=1), eligible.any(axis=1))
        assert all(len(np.unique(w[e])) <= 1 for w, e in zip(weights, eligible, strict=True))


class TestMinimumVariance:
    @staticmethod
    def market(seed: int, n_dates: int = 150, n_assets: int = 20) -> np.ndarray:
        rng = np.random.default_rng(seed)
        beta, noise = rng.uniform(0.5, 1.5, n_assets), rng.uniform(0.005, 0.03, n_assets)
        market = rng.normal(0.0, 0.01, (n_dates, 1))
        return np.asarray(market * beta + rng.normal(0.0, noise, (n_dates, n_assets)))

    @pytest.mark.parametrize(("seed", "cap"), [(0, 1.0), (1, 0.2), (2, 0.1), (3, 0.06)])
    def test_same_objective_as_skfolio(self, seed: int, cap: float) -> None:
        returns = self.market(seed)
        ours = minimum_variance(
            returns, np.array([149]), np.ones((1, 20), dtype=bool), window=150, weight_cap=cap
        )[0]
        model = MeanRisk(
            objective_function=ObjectiveFunction.MINIMIZE_RISK,
            risk_measure=RiskMeasure.VARIANCE,
            prior_estimator=EmpiricalPrior(covariance_estimator=LedoitWolf()),
            min_weights=0.0,
            max_weights=cap,
        ).fit(returns)
        matrix = ledoit_wolf_covariance(returns).matrix
        assert abs(ours @ matrix @ ours - model.weights_ @ matrix @ model.weights_) < 1e-8
        assert ours @ matrix @ ours <= (model.weights_ @ matrix @ model.weights_) * (1 + 1e-6)
        np.testing.assert_allclose(ours, model.weights_, atol=1e-4)

    @given(seed=st.integers(0, 10**6), cap=st.floats(0.04, 1.0))
    @settings(max_examples=15, deadline=None)
    def test_limits_and_no_feasible_portfolio_beats_it(self, seed: int, cap: float) -> None:
        rng = np.random.default_rng(seed)
        returns = self.market(seed, n_assets=12)
        returns[rng.random(returns.shape) < 0.05] = np.nan
        eligible = rng.random((1, 12)) < 0.8
        weights = minimum_variance(returns, np.array([149]), eligible, window=150, weight_cap=cap)[
            0
        ]
        kept = np.flatnonzero(eligible[0])
        assert not weights[~eligible[0]].any()
        assert (weights >= 0.0).all()
        assert (weights <= cap).all()
        assert weights.sum() == pytest.approx(min(1.0, cap * kept.size), abs=1e-7)
        if cap * kept.size > 1.0:
            matrix = ledoit_wolf_covariance(returns[:, kept]).matrix
            best = weights[kept] @ matrix @ weights[kept]
            raw = rng.exponential(size=(200, kept.size))
            other = capped_proportional(raw, cap=cap)
            assert (np.einsum("ri,ij,rj->r", other, matrix, other) >= best * (1 - 1e-6)).all()

    def test_closed_form_for_two_stocks(self) -> None:
        returns = self.market(5, n_assets=2)
        matrix = ledoit_wolf_covariance(returns).matrix
        share = (matrix[1, 1] - matrix[0, 1]) / (matrix[0, 0] + matrix[1, 1] - 2 * matrix[0, 1])
        weights = minimum_variance(
            returns, np.array([149]), np.ones((1, 2), dtype=bool), window=150, weight_cap=1.0
        )
        np.testing.assert_allclose(weights, [[share, 1 - share]], atol=1e-7)

    def test_scrambled_future_leaves_the_past_to_the_bit(self) -> None:
        returns, decisions = self.market(6), np.array([80, 110, 140])
        eligible = np.random.default_rng(0).random((3, 20)) < 0.9
        base = minimum_variance(returns, decisions, eligible, window=60, weight_cap=0.2)
        for i, row in enumerate(decisions):
            other, flags = noise_after(returns, row, seed=i, sigma=10.0), eligible.copy()
            flags[i + 1 :] = ~flags[i + 1 :]
            again = minimum_variance(other, decisions, flags, window=60, weight_cap=0.2)
            np.testing.assert_array_equal(again[: i + 1], base[: i + 1])

    @pytest.mark.parametrize("n_assets", [20, 300])
    def test_stocks_that_are_not_there_change_no_bit(self, n_assets: int) -> None:
        returns, decisions = self.market(9, n_assets=n_assets), np.array([120, 149])
        eligible = np.random.default_rng(0).random((2, n_assets)) < 0.9
        base = minimum_variance(returns, decisions, eligible, window=100, weight_cap=0.08)
        absent = np.sort(np.random.default_rng(1).permutation(n_assets + 61)[:61])
        present = np.setdiff1d(np.arange(n_assets + 61), absent)
        wider = np.full((150, n_assets + 61), np.nan)
        wider[:, present] = returns
        wider[:, absent[:20]] = 0.01 * np.random.default_rng(2).normal(size=(150, 20))
        flags = np.zeros((2, n_assets + 61), dtype=bool)
        flags[:, present], flags[:, absent[20:]] = eligible, True
        again = minimum_variance(wider, decisions, flags, window=100, weight_cap=0.08)
        np.testing.assert_array_equal(again[:, present], base)
        assert not again[:, absent].any()

    def test_number_of_threads_changes_no_bit(self) -> None:
        returns, eligible = self.market(10, n_assets=400), np.ones((1, 400), dtype=bool)
        found = []
        for threads in (1, 2, 4):
            with threadpool_limits(limits=threads, user_api="blas"):
                found.append(minimum_variance(returns, np.array([149]), eligible, window=120))
        np.testing.assert_array_equal(found[0], found[1])
        np.testing.assert_array_equal(found[0], found[2])

    def test_stocks_that_never_move_are_refused(self) -> None:
        still, eligible = np.zeros((150, 20)), np.ones((1, 20), dtype=bool)
        with pytest.raises(AlphakeelError, match=r"row 149: .* some return other than zero"):
            minimum_variance(still, np.array([149]), eligible, window=100)

    def test_stocks_without_history_are_left_out(self) -> None:
        returns = self.market(7)
        returns[:100, :15] = np.nan
        decisions, eligible = np.array([20, 149]), np.ones((2, 20), dtype=bool)
        weights = minimum_variance(returns, decisions, eligible, window=120, weight_cap=0.3)
        assert not weights[0].any()
        assert not weights[1, :15].any()
        assert weights[1].sum() == pytest.approx(1.0)

    def test_refusals(self) -> None:
        returns, eligible = self.market(8), np.ones((1, 20), dtype=bool)
        with pytest.raises(ConfigError, match="weight_cap"):
            minimum_variance(returns, np.array([149]), eligible, weight_cap=0.0)
        with pytest.raises(ConfigError, match="window"):
            minimum_variance(returns, np.array([149]), eligible, window=1)
        with pytest.raises(DataError, match="rows run from 150 to 150"):
            minimum_variance(returns, np.array([150]), eligible)
        with pytest.raises(DataError, match="eligible has shape"):
            minimum_variance(returns, np.array([149]), eligible[:, 1:])


class TestLongShortByHand:
    def test_three_against_three_by_inverse_volatility(self) -> None:
        scores = np.array([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]])
        volatility = np.array([[0.1, 0.2, 0.2, 0.4, 0.4, 0.2]])
        eligible = np.ones((1, 6), dtype=bool)
        found = long_short_quantile(
            scores, volatility, eligible=eligible, quantile=0.5, weight_cap=1.0, smoothing=1.0
        )
        # 1 / volatility: 10, 5, 5 long and 2.5, 2.5, 5 short, each side worth all the wealth.
        np.testing.assert_allclose(found, [[0.5, 0.25, 0.25, -0.25, -0.25, -0.5]], rtol=1e-14)
        half = long_short_quantile(
            scores, volatility, eligible=eligible, quantile=0.5, weight_cap=1.0, gross=1.0
        )
        np.testing.assert_allclose(half, found / 2.0, rtol=1e-14)

    def test_in_beta_the_heavier_side_gives_way(self) -> None:
        scores, volatility = np.array([[4.0, 3.0, 2.0, 1.0]]), np.full((1, 4), 0.2)
        betas = np.array([[0.5, 0.7, 1.2, np.nan]])  # unknown counts as 1
        found = long_short_quantile(
            scores,
            volatility,
            eligible=np.ones((1, 4), dtype=bool),
            betas=betas,
            quantile=0.5,
            weight_cap=1.0,
        )
        # Longs carry 0.6 and shorts 1.1: the shorts shrink to 6 / 11.
        np.testing.assert_allclose(found, [[0.5, 0.5, -3.0 / 11.0, -3.0 / 11.0]], rtol=1e-14)

    @pytest.mark.parametrize("betas", [[-1.0, 1.0], [0.0, 1.0]])
    def test_betas_that_no_scale_can_balance_are_not_held(self, betas: list[float]) -> None:
        found = long_short_quantile(
            np.array([[2.0, 1.0]]),
            np.full((1, 2), 0.2),
            eligible=np.ones((1, 2), dtype=bool),
            betas=np.array([betas]),
            quantile=0.5,
            weight_cap=1.0,
        )
        np.testing.assert_array_equal(found, 0.0)

    def test_the_gross_is_scaled_down_only_where_it_is_too_large(self) -> None:
        weights = np.array([[1.2, -1.2], [0.3, -0.2], [np.nan, np.nan]])
        found = cap_gross(weights, 2.0)
        np.testing.assert_allclose(found[0], [1.0, -1.0])
        np.testing.assert_array_equal(found[1:], weights[1:])


class TestLongShort:
    @given(
        seed=st.integers(0, 10**6),
        gross=st.floats(0.3, 4.0),
        cap=st.floats(0.05, 1.0),
        smoothing=st.floats(0.1, 1.0),
        in_beta=st.booleans(),
    )
    @settings(max_examples=60, deadline=None)
    def test_neutral_and_inside_every_limit(
        self, seed: int, gross: float, cap: float, smoothing: float, in_beta: bool
    ) -> None:
        inputs = long_short_decisions(seed)
        betas = inputs.pop("betas")
        found = long_short_quantile(
            **inputs,
            betas=betas if in_beta else None,
            gross=gross,
            weight_cap=cap,
            smoothing=smoothing,
        )
        silent = np.isnan(inputs["scores"]).all(axis=1)
        np.testing.assert_array_equal(np.isnan(found).all(axis=1), silent)
        made = found[~silent]
        load = np.nan_to_num(betas, nan=1.0)[~silent] if in_beta else np.ones(made.shape)
        assert np.abs((made * load).sum(axis=1)).max(initial=0.0) < 1e-12
        assert np.abs(made).sum(axis=1).max(initial=0.0) <= gross * (1.0 + 1e-12)
        assert np.abs(made).max(initial=0.0) <= cap * (1.0 + 1e-12)
        assert not made[~inputs["eligible"][~silent]].any()

    def test_full_steps_are_the_difference_of_two_long_portfolios(self) -> None:
        inputs = long_short_decisions(3)
        del inputs["betas"]
        settled = {"quantile": 0.2, "weight_cap": 1.0, "smoothing": 1.0}
        found = long_short_quantile(**inputs, **settled)
        best = top_quantile(**inputs, **settled)
        worst = top_quantile(**{**inputs, "scores": -inputs["scores"]}, **settled)
        np.testing.assert_allclose(found, best - worst, rtol=1e-13, atol=1e-16)
        assert (np.nan_to_num(found) < 0.0).any()

    @pytest.mark.parametrize("seed", range(3))
    def test_scrambled_future_leaves_the_past_to_the_bit(self, seed: int) -> None:
        inputs, other = long_short_decisions(seed), long_short_decisions(seed + 100)
        base = long_short_quantile(**inputs)
        for i in (0, 5, 10):
            mixed = with_future_of(inputs, other, i)
            np.testing.assert_array_equal(long_short_quantile(**mixed)[: i + 1], base[: i + 1])

    @pytest.mark.parametrize("wrong", [{"gross": 0.0}, {"quantile": 0.6}, {"weight_cap": 0.0}])
    def test_settings_out_of_range(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ConfigError):
            long_short_quantile(**long_short_decisions(0), **wrong)

    def test_shapes(self) -> None:
        inputs = long_short_decisions(0)
        with pytest.raises(DataError, match="betas have shape"):
            long_short_quantile(**{**inputs, "betas": inputs["betas"][:-1]})
