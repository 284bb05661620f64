"""The overlay: exposure that keeps its limits, decided without the future, traded with a lag."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphakeel.backtest.costs import ProportionalCost
from alphakeel.backtest.engine import run_backtest
from alphakeel.backtest.ledger import Ledger
from alphakeel.backtest.market_rules import Margin
from alphakeel.errors import ConfigError, DataError
from alphakeel.portfolio.overlay import Brake, Overlay, overlay, overlay_targets
from alphakeel.risk.volatility import portfolio_returns, portfolio_volatility
from helpers import noise_after, with_future_of

NONE = np.nan
FREE = ProportionalCost(0.0)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "overlay.md"
SERIES = ("exposure", "effective", "wealth", "leverage", "volatility", "var", "throttle", "brake")


def plain(n_dates: int) -> np.ndarray:
    return np.zeros(n_dates, dtype=bool)


def random_portfolio(
    seed: int, n_dates: int = 80, n_assets: int = 5, *, lag: int = 1, rate: float = 0.001
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Ledger]:
    """Targets, prices, tradable and the ledger of a rough market with idle days."""
    rng = np.random.default_rng(seed)
    shocks = rng.normal(0.0, 0.02, (n_dates, n_assets)) * np.exp(rng.normal(0.0, 0.7, (n_dates, 1)))
    prices = 20.0 * np.exp(np.cumsum(shocks, axis=0))
    targets = rng.dirichlet(np.full(n_assets, 0.5), n_dates)
    targets *= rng.choice([1.0, 0.6, 0.0], (n_dates, 1), p=[0.7, 0.2, 0.1])
    targets[rng.random(n_dates) < 0.7] = NONE
    tradable = rng.random(prices.shape) > 0.1
    prices[rng.integers(n_dates // 2, n_dates) :, 0] = NONE
    prices[: rng.integers(1, n_dates // 2), 1] = NONE
    ledger = run_backtest(targets, prices, tradable=tradable, lag=lag, cost=ProportionalCost(rate))
    return targets, prices, tradable, ledger


def random_inputs(seed: int, n_dates: int = 80) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    returns = rng.normal(0.0, 0.03, n_dates)
    returns[rng.random(n_dates) < 0.1] = NONE
    volatility = np.exp(rng.normal(-2.0, 0.5, n_dates))
    value_at_risk = np.exp(rng.normal(-4.0, 0.5, n_dates))
    throttle = rng.uniform(0.0, 1.5, n_dates)
    for series in (volatility, value_at_risk, throttle):
        series[rng.random(n_dates) < 0.05] = NONE
    return {
        "returns": returns,
        "decided": rng.random(n_dates) < 0.2,
        "volatility": volatility,
        "value_at_risk": value_at_risk,
        "throttle": throttle,
    }


ALL_ON = {
    "target_volatility": 0.1,
    "var_cap": 0.015,
    "brake": Brake(start=0.02, full=0.1, floor=0.2, halflife=20.0),
}


class TestByHand:
    def test_a_composition_that_is_not_traded_yet_is_not_pulled_back(self) -> None:
        # Lag 2. A decided on row 0, B on row 3 (traded on row 5). Volatility doubles on row 4, when
        # the portfolio still holds A: that row's target is traded on row 6 and has to be half of B.
        targets = np.full((8, 2), NONE)
        targets[0] = 1.0, 0.0
        targets[3] = 0.0, 1.0
        prices = np.full((8, 2), 10.0)
        portfolio = run_backtest(targets, prices, lag=2, cost=FREE)
        np.testing.assert_array_equal(portfolio.weights[4], [1.0, 0.0])
        plan = overlay(
            portfolio_returns(portfolio.net_returns, portfolio.weights),
            decided=~np.isnan(targets).all(axis=1),
            target_volatility=0.1,
            volatility=np.array([0.1, 0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2]),
            lag=2,
        )
        out = overlay_targets(targets, portfolio.weights, plan, lag=2)
        np.testing.assert_array_equal(np.flatnonzero(plan.decided), [0, 3, 4])
        np.testing.assert_array_equal(out[[0, 3, 4]], [[1.0, 0.0], [0.0, 1.0], [0.0, 0.5]])
        final = run_backtest(out, prices, lag=2, cost=FREE)
        held = [[0, 0], [0, 0], [1, 0], [1, 0], [1, 0], [0, 1], [0, 0.5], [0, 0.5]]
        np.testing.assert_array_equal(final.weights, held)
        np.testing.assert_array_equal(plan.effective, [1, 1, 1, 1, 1, 1, 0.5, 0.5])

    def test_between_decisions_the_drifted_weights_are_scaled(self) -> None:
        # 50/50 bought on row 1; the first stock doubles on row 2: weights 2/3, 1/3, and the
        # portfolio earned 50 %. Volatility doubles on row 2: half of them, traded on row 3.
        targets = np.full((5, 2), NONE)
        targets[0] = 0.5, 0.5
        prices = np.array([[10.0, 10], [10, 10], [20, 10], [20, 10], [20, 20]])
        portfolio = run_backtest(targets, prices, cost=FREE)
        plan = overlay(
            portfolio_returns(portfolio.net_returns, portfolio.weights),
            decided=~np.isnan(targets).all(axis=1),
            target_volatility=0.1,
            volatility=np.array([0.1, 0.1, 0.2, 0.2, 0.2]),
        )
        out = overlay_targets(targets, portfolio.weights, plan)
        np.testing.assert_allclose(out[2], [1 / 3, 1 / 6])
        assert np.isnan(out[[1, 3]]).all()
        final = run_backtest(out, prices, cost=FREE)
        # Wealth 1.5 from row 2; on row 4 the second stock doubles at a weight of 1/6.
        np.testing.assert_allclose(final.wealth, [1.0, 1.0, 1.5, 1.5, 1.75])

    def test_an_order_that_was_dropped_is_not_tried_again(self) -> None:
        # B cannot be bought on row 2, when the portfolio moves from A to half A, half B. The
        # exposure is halved on that very row: half of what it holds, not of what it wanted.
        targets = np.full((5, 2), NONE)
        targets[0] = 1.0, 0.0
        targets[1] = 0.5, 0.5
        prices, tradable = np.full((5, 2), 10.0), np.ones((5, 2), dtype=bool)
        tradable[2, 1] = False
        portfolio = run_backtest(targets, prices, tradable=tradable, cost=FREE)
        plan = overlay(
            portfolio_returns(portfolio.net_returns, portfolio.weights),
            decided=~np.isnan(targets).all(axis=1),
            target_volatility=0.1,
            volatility=np.array([0.1, 0.1, 0.2, 0.2, 0.2]),
        )
        out = overlay_targets(targets, portfolio.weights, plan)
        np.testing.assert_array_equal(out[2], [0.25, 0.0])

    def test_the_brake_watches_wealth_at_the_exposure_in_effect(self) -> None:
        # Infinite half-life: the true peak. The portfolio falls 10 % a day.
        brake = Brake(start=0.0, full=0.2, floor=0.0, halflife=np.inf)
        plan = overlay(
            np.array([0.0, -0.1, -0.1, -0.1]),
            decided=plain(4),
            brake=brake,
            band=0.0,
            cost_per_side=0.0,
        )
        # Row 1: down 10 %, factor 0.5, traded on row 2. Row 2: 0.81 (full exposure still), factor
        # 0.05. Row 3 earns at 0.5: 0.7695, below 20 %: factor 0.
        np.testing.assert_allclose(plan.wealth, [1.0, 0.9, 0.81, 0.7695])
        np.testing.assert_allclose(plan.brake, [1.0, 0.5, 0.05, 0.0], atol=1e-12)
        np.testing.assert_allclose(plan.exposure, plan.brake)
        np.testing.assert_allclose(plan.effective, [1.0, 1.0, 0.5, 0.05])

    def test_costs_of_exposure_lower_the_wealth_that_the_brake_sees(self) -> None:
        plan = overlay(
            np.zeros(4),
            decided=plain(4),
            target_volatility=0.1,
            volatility=np.array([0.1, 0.2, 0.2, 0.2]),
            cost_per_side=0.01,
        )
        np.testing.assert_allclose(plan.wealth, [1.0, 1.0, 1.0, 1.0 - 0.5 * 0.01])

    def test_example_of_the_page(self) -> None:
        result = doctest.testfile(
            str(PAGE),
            module_relative=False,
            optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS,
        )
        assert result.attempted > 3
        assert result.failed == 0


class TestOff:
    @pytest.mark.parametrize("lag", [0, 1, 2, 3])
    @pytest.mark.parametrize("seed", range(4))
    def test_off_is_the_plain_backtest(self, seed: int, lag: int) -> None:
        targets, prices, tradable, portfolio = random_portfolio(seed, lag=lag)
        plan = overlay(
            portfolio_returns(portfolio.net_returns, portfolio.weights),
            decided=~np.isnan(targets).all(axis=1),
            lag=lag,
        )
        np.testing.assert_array_equal(plan.exposure, 1.0)
        np.testing.assert_array_equal(plan.effective, 1.0)
        out = overlay_targets(targets, portfolio.weights, plan, lag=lag)
        np.testing.assert_array_equal(out, targets)
        again = run_backtest(out, prices, tradable=tradable, lag=lag, cost=ProportionalCost(0.001))
        np.testing.assert_array_equal(again.wealth, portfolio.wealth)

    def test_wealth_without_components_is_the_portfolio(self) -> None:
        _, _, _, portfolio = random_portfolio(5)
        returns = portfolio_returns(portfolio.net_returns, portfolio.weights)
        plan = overlay(returns, decided=plain(len(returns)))
        np.testing.assert_allclose(plan.wealth, np.cumprod(1.0 + np.nan_to_num(returns)))


class TestAgainstTheBacktest:
    @pytest.mark.parametrize("lag", [0, 1, 2])
    def test_one_stock_without_costs_is_exact(self, lag: int) -> None:
        # One stock: no composition to go stale, so model and backtest have to agree to rounding.
        rng = np.random.default_rng(lag)
        prices = 10.0 * np.cumprod(1.0 + rng.normal(0.0, 0.03, (120, 1)), axis=0)
        targets = np.full(prices.shape, NONE)
        targets[0] = 1.0
        portfolio = run_backtest(targets, prices, lag=lag, cost=FREE)
        plan = overlay(
            portfolio_returns(portfolio.net_returns, portfolio.weights),
            decided=~np.isnan(targets).all(axis=1),
            target_volatility=0.15,
            volatility=np.exp(rng.normal(-1.5, 0.4, 120)),
            brake=Brake(start=0.02, full=0.1, floor=0.1, halflife=20.0),
            band=0.15,
            lag=lag,
            cost_per_side=0.0,
        )
        final = run_backtest(
            overlay_targets(targets, portfolio.weights, plan, lag=lag), prices, lag=lag, cost=FREE
        )
        assert 20 < plan.decided.sum() < 119
        np.testing.assert_allclose(plan.wealth, final.wealth, rtol=1e-12)
        np.testing.assert_allclose(plan.effective[lag:], final.weights[lag:, 0], rtol=1e-12)

    @pytest.mark.parametrize("lag", [0, 1, 2])
    @pytest.mark.parametrize("seed", range(5))
    def test_wealth_adds_up_in_rough_markets(self, seed: int, lag: int) -> None:
        targets, prices, tradable, portfolio = random_portfolio(seed, lag=lag)
        returns = portfolio_returns(portfolio.net_returns, portfolio.weights)
        plan = overlay(
            returns,
            decided=~np.isnan(targets).all(axis=1),
            target_volatility=0.2,
            volatility=portfolio_volatility(returns, lag=lag, min_count=5),
            brake=Brake(),
            lag=lag,
        )
        out = overlay_targets(targets, portfolio.weights, plan, lag=lag)
        final = run_backtest(out, prices, tradable=tradable, lag=lag, cost=ProportionalCost(0.001))
        assert final.imbalance(prices).max() < 1e-10
        # What is decided scales the composition and never changes it.
        rows = np.flatnonzero(~np.isnan(targets).all(axis=1))
        np.testing.assert_allclose(out[rows], plan.exposure[rows, None] * targets[rows])

    def test_modelled_wealth_is_close_to_the_true_one(self) -> None:
        targets, prices, _, _ = random_portfolio(11, n_dates=250)
        prices = np.where(np.isnan(prices), 20.0, prices)
        portfolio = run_backtest(targets, prices, cost=ProportionalCost(0.001))
        returns = portfolio_returns(portfolio.net_returns, portfolio.weights)
        plan = overlay(
            returns,
            decided=~np.isnan(targets).all(axis=1),
            target_volatility=0.1,
            volatility=portfolio_volatility(returns),
            brake=Brake(),
        )
        final = run_backtest(overlay_targets(targets, portfolio.weights, plan), prices)
        np.testing.assert_allclose(plan.wealth, final.wealth, rtol=0.02)


class TestProperties:
    @given(seed=st.integers(0, 10**6), band=st.sampled_from([0.0, 0.1, 0.3]), lag=st.integers(0, 3))
    @settings(max_examples=60, deadline=None)
    def test_exposure_keeps_every_limit_every_day(self, seed: int, band: float, lag: int) -> None:
        inputs = random_inputs(seed)
        plan = overlay(**inputs, **ALL_ON, band=band, lag=lag, max_exposure=1.2)
        for name in SERIES:
            assert not np.isnan(getattr(plan, name)).any(), name
        assert (plan.exposure >= 0.0).all()
        for cap in (plan.leverage, plan.var, plan.throttle):
            assert (plan.exposure <= cap).all()
        risk = inputs["value_at_risk"]
        known = ~np.isnan(risk)
        assert (plan.exposure[known] * risk[known] <= 0.015 * (1.0 + 1e-12)).all()
        unknown = ~known | np.isnan(inputs["volatility"])
        np.testing.assert_array_equal(plan.exposure[unknown], 0.0)
        # The band excuses distance from what is wanted, and no more than itself.
        wanted = np.minimum.reduce([plan.leverage, plan.volatility, plan.var, plan.throttle])
        gap = np.abs(plan.brake * wanted - plan.exposure)
        assert (gap <= band * plan.exposure + 1e-15).all()

    @given(seed=st.integers(0, 10**6))
    @settings(max_examples=40, deadline=None)
    def test_the_joint_answer_is_the_smallest_times_the_brake(self, seed: int) -> None:
        inputs = random_inputs(seed)
        both = overlay(**inputs, **ALL_ON, band=0.0)
        series = {"returns": inputs["returns"], "decided": inputs["decided"]}
        alone = [
            overlay(**series, volatility=inputs["volatility"], target_volatility=0.1, band=0.0),
            overlay(**series, value_at_risk=inputs["value_at_risk"], var_cap=0.015, band=0.0),
            overlay(**series, throttle=inputs["throttle"], band=0.0),
        ]
        for one, name in zip(alone, ("volatility", "var", "throttle"), strict=True):
            np.testing.assert_array_equal(one.exposure, np.minimum(getattr(both, name), 1.0))
            assert (both.exposure <= one.exposure).all()
        unbraked = np.minimum.reduce([one.exposure for one in alone])
        np.testing.assert_array_equal(both.exposure, unbraked * both.brake)
        # So the brake never raises exposure.
        no_brake = overlay(**inputs, **{**ALL_ON, "brake": None}, band=0.0)
        np.testing.assert_array_equal(no_brake.exposure, unbraked)
        assert (both.exposure <= no_brake.exposure).all()

    @given(seed=st.integers(0, 10**6), cut=st.integers(0, 78))
    @settings(max_examples=40, deadline=None)
    def test_scrambling_the_future_moves_nothing(self, seed: int, cut: int) -> None:
        inputs, other = random_inputs(seed), random_inputs(seed + 1)
        mixed = with_future_of(inputs, other, cut)
        first, second = overlay(**inputs, **ALL_ON), overlay(**mixed, **ALL_ON)
        for name in (*SERIES, "decided"):
            np.testing.assert_array_equal(
                getattr(first, name)[: cut + 1], getattr(second, name)[: cut + 1], err_msg=name
            )

    @given(drawdown=st.floats(0.0, 0.99), more=st.floats(0.0, 0.99), floor=st.floats(0.0, 1.0))
    def test_the_brake_falls_from_one_to_its_floor(
        self, drawdown: float, more: float, floor: float
    ) -> None:
        brake = Brake(start=0.05, full=0.25, floor=floor)
        assert floor - 1e-15 <= brake.factor(drawdown) <= 1.0
        assert brake.factor(max(drawdown, more)) <= brake.factor(min(drawdown, more))
        assert brake.factor(0.05) == 1.0
        assert brake.factor(0.25) == pytest.approx(floor)

    def test_scrambled_future_of_targets(self) -> None:
        targets, _, _, portfolio = random_portfolio(3)
        inputs = random_inputs(3)
        inputs["decided"] = ~np.isnan(targets).all(axis=1)
        plan = overlay(**inputs, **ALL_ON)
        out = overlay_targets(targets, portfolio.weights, plan)
        cut = 40
        later, weights = targets.copy(), portfolio.weights.copy()
        later[cut + 1 :] = np.where(plan.decided[cut + 1 :, None], 0.2, NONE)
        weights[cut + 1 :] = 0.1
        again = overlay_targets(later, weights, plan)
        np.testing.assert_array_equal(again[: cut + 1], out[: cut + 1])
        assert not np.array_equal(again[cut + 1 :], out[cut + 1 :], equal_nan=True)

    def test_inputs_stay_and_results_are_read_only(self) -> None:
        inputs = random_inputs(0)
        before = {name: value.copy() for name, value in inputs.items()}
        plan = overlay(**inputs, **ALL_ON)
        for name, value in before.items():
            np.testing.assert_array_equal(inputs[name], value)
        with pytest.raises(ValueError, match="read-only"):
            plan.exposure[0] = 2.0
        with pytest.raises(FrozenInstanceError):
            plan.exposure = np.ones(3)  # type: ignore[misc]


class TestLeverage:
    def test_interest_by_hand_and_in_the_backtest(self) -> None:
        prices = np.array([[10.0], [10.0], [10.1], [9.898]])
        targets = np.array([[1.0], [NONE], [NONE], [NONE]])
        portfolio = run_backtest(targets, prices, cost=FREE)
        plan = overlay(
            portfolio_returns(portfolio.net_returns, portfolio.weights),
            decided=np.array([True, False, False, False]),
            target_volatility=0.15,
            volatility=np.full(4, 0.1),
            max_exposure=2.0,
            cost_per_side=0.0,
            invested=portfolio.weights.sum(axis=1),
            financing_rate=0.252,
        )
        # Half of wealth is borrowed at row 1 and costs 0.1 % a row: 1 + 1.5 % - 0.05 %.
        up = 1.0145
        held = 1.5 * 1.01 / up
        down = 1.0 - 0.02 * held - 0.001 * (held - 1.0)
        np.testing.assert_allclose(plan.exposure[:2], 1.5)
        np.testing.assert_allclose(plan.wealth, [1.0, 1.0, up, up * down], rtol=1e-14)
        final = run_backtest(
            overlay_targets(targets, portfolio.weights, plan),
            prices,
            cost=FREE,
            margin=Margin(max_gross=2.0, financing_rate=0.252),
        )
        np.testing.assert_allclose(final.wealth, plan.wealth, rtol=1e-14)
        np.testing.assert_allclose(final.carry[2], 0.0005, rtol=1e-12)

    @pytest.mark.parametrize("seed", range(5))
    def test_wealth_is_that_of_a_backtest_on_margin(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        prices = 10.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, (120, 4)), axis=0))
        targets = rng.dirichlet(np.ones(4), 120) * rng.choice([1.0, 0.6, 0.9], (120, 1))
        targets[np.arange(120) % 7 != 0] = NONE
        portfolio = run_backtest(
            targets, prices, lag=0, cost=FREE
        )  # so that no composition is stale
        terms = {
            "decided": ~np.isnan(targets).all(axis=1),
            "target_volatility": 0.2,
            "volatility": rng.uniform(0.08, 0.3, 120),
            "max_exposure": 1.5,
            "cost_per_side": 0.0,
            "lag": 0,
            "invested": portfolio.weights.sum(axis=1),
        }
        earned = portfolio_returns(portfolio.net_returns, portfolio.weights)
        plan = overlay(earned, **terms, financing_rate=0.1)
        margin = Margin(max_gross=1.5, financing_rate=0.1)
        goals = overlay_targets(targets, portfolio.weights, plan, lag=0)
        final = run_backtest(goals, prices, lag=0, cost=FREE, margin=margin)
        assert (final.carry > 0.0).any()
        assert np.abs(goals[~np.isnan(goals).all(axis=1)]).sum(axis=1).max() <= 1.5 + 1e-12
        np.testing.assert_allclose(final.wealth, plan.wealth, rtol=1e-12)
        free = overlay(earned, **terms)
        assert (free.wealth >= plan.wealth).all()
        assert free.wealth[-1] > plan.wealth[-1]

    def test_a_portfolio_with_cash_uses_that_before_it_borrows(self) -> None:
        terms = {
            "decided": np.array([True, False, False]),
            "throttle": np.full(3, 1.5),
            "max_exposure": 1.5,
            "cost_per_side": 0.0,
            "financing_rate": 0.5,
        }
        returns = np.array([NONE, NONE, 0.01])
        quiet = overlay(returns, **terms, invested=np.array([0.0, 0.6, 0.6]))
        assert quiet.wealth[-1] == 1.0 + 1.5 * 0.01
        full = overlay(returns, **terms, invested=np.array([0.0, 1.0, 1.0]))
        np.testing.assert_allclose(full.wealth[-1], 1.0 + 1.5 * 0.01 - 0.5 * 0.5 / 252, rtol=1e-14)

    def test_without_leverage_no_rate_moves_anything(self) -> None:
        inputs = random_inputs(5)
        wanting = {**ALL_ON, "target_volatility": 5.0, "var_cap": 5.0}
        without = overlay(**inputs, **wanting)
        rated = overlay(**inputs, **wanting, invested=np.full(80, 0.9), financing_rate=0.5)
        assert 0.99 < without.exposure.max() <= 1.0
        for name in SERIES:
            np.testing.assert_array_equal(getattr(rated, name), getattr(without, name))

    @given(seed=st.integers(0, 10**6), cut=st.integers(0, 78))
    @settings(max_examples=20, deadline=None)
    def test_scrambling_the_future_moves_nothing(self, seed: int, cut: int) -> None:
        inputs, other = random_inputs(seed), random_inputs(seed + 1)
        rng = np.random.default_rng(seed)
        inputs["invested"], other["invested"] = rng.uniform(0.0, 1.0, (2, 80))
        mixed = with_future_of(inputs, other, cut)
        terms = {**ALL_ON, "max_exposure": 2.0, "target_volatility": 0.4, "financing_rate": 0.1}
        first, second = overlay(**inputs, **terms), overlay(**mixed, **terms)
        for name in (*SERIES, "decided"):
            np.testing.assert_array_equal(
                getattr(first, name)[: cut + 1], getattr(second, name)[: cut + 1], err_msg=name
            )

    def test_what_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="financing_rate"):
            overlay(np.zeros(3), decided=plain(3), financing_rate=-0.1)
        with pytest.raises(DataError, match="invested"):
            overlay(np.zeros(3), decided=plain(3), invested=np.ones(2))


class TestBand:
    def test_small_moves_are_not_traded_and_large_ones_are(self) -> None:
        volatility = np.array([0.2, 0.19, 0.185, 0.21, 0.22, 0.25, 0.24])
        plan = overlay(
            np.zeros(7), decided=plain(7), target_volatility=0.1, volatility=volatility, band=0.1
        )
        # 0.5 stands until 0.1 / 0.25 = 0.4 is wanted, more than a tenth away.
        np.testing.assert_array_equal(np.flatnonzero(plan.decided), [5])
        np.testing.assert_allclose(plan.exposure, [0.5] * 5 + [0.4] * 2)

    def test_a_composition_day_takes_the_wanted_exposure(self) -> None:
        decided = plain(4)
        decided[2] = True
        plan = overlay(
            np.zeros(4),
            decided=decided,
            target_volatility=0.1,
            volatility=np.array([0.2, 0.2, 0.205, 0.205]),
        )
        np.testing.assert_allclose(plan.exposure, [0.5, 0.5, 0.1 / 0.205, 0.1 / 0.205])

    def test_the_band_does_not_excuse_a_broken_cap(self) -> None:
        risk = np.array([0.02, 0.0201, 0.0199])
        plan = overlay(np.zeros(3), decided=plain(3), var_cap=0.01, value_at_risk=risk, band=0.3)
        np.testing.assert_array_equal(plan.decided, [False, True, False])
        np.testing.assert_allclose(plan.exposure[1:], 0.01 / 0.0201)

    def test_drift_alone_can_leave_the_band(self) -> None:
        # At an exposure of one half a portfolio that doubles is 2/3 of wealth.
        plan = overlay(
            np.array([0.0, 0.0, 1.0, 0.0]),
            decided=plain(4),
            target_volatility=0.1,
            volatility=np.full(4, 0.2),
        )
        np.testing.assert_allclose(plan.effective, [0.5, 0.5, 2 / 3, 0.5])
        np.testing.assert_array_equal(np.flatnonzero(plan.decided), [2])

    def test_a_wider_band_trades_on_fewer_days(self) -> None:
        inputs = random_inputs(4, 400)
        inputs["decided"][:] = False
        inputs["volatility"] = 0.2 * np.exp(
            np.cumsum(np.random.default_rng(0).normal(0.0, 0.03, 400))
        )
        days = [
            overlay(
                inputs["returns"] * 0.2,
                decided=inputs["decided"],
                target_volatility=0.05,
                volatility=inputs["volatility"],
                band=band,
            ).decided.sum()
            for band in (0.0, 0.05, 0.1, 0.2)
        ]
        assert days == sorted(days, reverse=True)
        assert days[-1] < days[0] / 10


class TestBrake:
    def test_exposure_returns_with_time_though_wealth_does_not(self) -> None:
        # Down 20 % in a day, then nothing: what is left of the distance to the peak is
        # 0.2 * 2 ** (-k / 10), and the brake lets go at a drawdown of 5 %.
        returns = np.zeros(60)
        returns[1] = -0.2
        brake = Brake(start=0.05, full=0.15, floor=0.0, halflife=10.0)
        plan = overlay(returns, decided=plain(60), brake=brake, band=0.0, cost_per_side=0.0)
        assert plan.brake[1] == 0.0
        gap = 0.2 * 0.5 ** (np.arange(59) / 10 + 0.1)
        expected = np.clip(1.0 - (gap / (0.8 + gap) - 0.05) / 0.1, 0.0, 1.0)
        np.testing.assert_allclose(plan.brake[1:], expected, atol=1e-12)
        assert plan.brake[-1] == 1.0

    def test_a_true_peak_locks_a_brake_with_floor_zero(self) -> None:
        returns = np.full(300, 0.001)
        returns[1] = -0.2
        shut = Brake(start=0.05, full=0.15, floor=0.0, halflife=np.inf)
        open_again = Brake(start=0.05, full=0.15, floor=0.0, halflife=60.0)
        ends = [
            overlay(returns, decided=plain(300), brake=b, band=0.0).exposure[-1]
            for b in (shut, open_again)
        ]
        assert ends[0] == 0.0
        assert ends[1] == pytest.approx(1.0)

    def test_a_v_costs_the_less_the_faster_the_peak_fades(self) -> None:
        # Five days down and five days back up: the brake sells low and buys back later.
        returns = np.zeros(60)
        returns[1:6], returns[6:11] = -0.04, 1.0 / 0.96 - 1.0
        ends = [
            overlay(
                returns, decided=plain(60), brake=Brake(0.05, 0.2, floor=0.1, halflife=halflife)
            ).wealth[-1]
            for halflife in (2.0, 10.0, np.inf)
        ]
        assert ends == sorted(ends, reverse=True)
        assert ends[-1] < 0.95 < 0.97 < ends[0] < 1.0

    def test_it_stops_part_of_a_slide(self) -> None:
        returns = np.full(250, -0.005)
        plan = overlay(returns, decided=plain(250))
        braked = overlay(returns, decided=plain(250), brake=Brake())
        assert plan.wealth[-1] < 0.3
        assert braked.wealth[-1] > 0.55


class TestBound:
    def test_it_names_the_tightest(self) -> None:
        plan = overlay(
            np.zeros(5),
            decided=plain(5),
            target_volatility=0.1,
            volatility=np.array([0.05, 0.2, 0.2, 0.2, 0.1]),
            var_cap=0.01,
            value_at_risk=np.array([0.001, 0.01, 0.05, 0.01, 0.01]),
            throttle=np.array([NONE, NONE, NONE, 0.1, NONE]),
        )
        bound = plan.bound()
        rows = {name: np.flatnonzero(days).tolist() for name, days in bound.items()}
        assert rows == {
            "leverage": [0, 4],
            "volatility": [1, 4],
            "var": [2, 4],
            "throttle": [3],
            "brake": [],
        }

    def test_the_brake_binds_where_it_brakes(self) -> None:
        returns = np.array([0.0, -0.3, 0.0, 0.0])
        plan = overlay(returns, decided=plain(4), brake=Brake())
        np.testing.assert_array_equal(plan.bound()["brake"], [False, True, True, True])
        assert plan.bound()["leverage"].all()


class TestVolatility:
    def test_uncorrected_is_the_average_of_pandas(self) -> None:
        returns = np.random.default_rng(0).normal(0.0, 0.01, 200)
        returns[[5, 70]] = NONE
        ours = portfolio_volatility(returns, halflife=8.0, correction_halflife=None)
        squares = pd.Series(returns**2)
        theirs = np.sqrt(252 * squares.ewm(halflife=8.0, min_periods=20).mean())
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)

    @pytest.mark.parametrize("lag", [0, 1, 3])
    def test_the_correction_is_that_of_plain_loops(self, lag: int) -> None:
        rng = np.random.default_rng(1)
        returns = rng.normal(0.0, 0.01, 160) * np.exp(np.cumsum(rng.normal(0, 0.05, 160)))
        variance = np.full(160, NONE)
        for t in range(19, 160):
            w = 0.5 ** (np.arange(t, -1, -1) / 10.0)
            variance[t] = (w @ returns[: t + 1] ** 2) / w.sum()
        expected = np.full(160, NONE)
        for t in range(19, 160):
            top = bottom = count = 0.0
            for s in range(20 + lag, t + 1):
                weight = 0.5 ** ((t - s) / 60.0)
                top += weight * returns[s] ** 2 / variance[s - 1 - lag]
                bottom += weight
                count += 1
            bias = np.clip(top / bottom, 0.5, 2.0) if count >= 60 else 1.0
            expected[t] = np.sqrt(252 * variance[t] * bias)
        np.testing.assert_allclose(portfolio_volatility(returns, lag=lag), expected, rtol=1e-10)

    def test_one_enormous_day_corrects_within_bounds(self) -> None:
        returns = np.tile([0.01, -0.01], 100)
        returns[150] = -0.5
        uncorrected = portfolio_volatility(returns, correction_halflife=None)
        ours = portfolio_volatility(returns)
        np.testing.assert_allclose(ours[150:190], np.sqrt(2.0) * uncorrected[150:190])
        np.testing.assert_allclose(ours[79:150], uncorrected[79:150])

    def test_realised_volatility_meets_the_target_in_every_year(self) -> None:
        # Three markets of ten years each: GARCH(1, 1) with fat tails.
        n_dates = 2520 + 252
        ratios: dict[str, list[np.ndarray]] = {"corrected": [], "uncorrected": []}
        for seed in (7, 8, 9):
            rng = np.random.default_rng(seed)
            shocks = rng.standard_t(6, n_dates) * np.sqrt(4 / 6)
            variance, returns = 0.0002, np.empty(n_dates)
            for t in range(n_dates):
                returns[t] = np.sqrt(variance) * shocks[t]
                variance = 0.0002 * 0.01 + 0.08 * returns[t] ** 2 + 0.91 * variance
            for name, halflife in {"corrected": 60.0, "uncorrected": None}.items():
                plan = overlay(
                    returns,
                    decided=plain(n_dates),
                    target_volatility=0.08,
                    volatility=portfolio_volatility(returns, correction_halflife=halflife),
                )
                years = (plan.effective[:-1] * returns[1:])[251:].reshape(10, 252)
                ratios[name].append(years.std(axis=1) * np.sqrt(252) / 0.08)
        corrected, uncorrected = np.stack(ratios["corrected"]), np.stack(ratios["uncorrected"])
        assert np.abs(corrected - 1.0).max() < 0.15
        assert np.abs(uncorrected - 1.0).max() > 0.2
        assert abs(corrected.mean() - 1.0) < 0.01 < 0.04 < uncorrected.mean() - 1.0

    def test_scale_and_history(self) -> None:
        rng = np.random.default_rng(2)
        history, returns = rng.normal(0.0, 0.01, 100), rng.normal(0.0, 0.01, 150)
        joined = portfolio_volatility(np.concatenate([history, returns]))
        split = portfolio_volatility(returns, history=history)
        np.testing.assert_array_equal(split, joined[100:])
        assert not np.isnan(split).any()
        assert np.isnan(portfolio_volatility(returns)[:19]).all()
        np.testing.assert_allclose(
            portfolio_volatility(3.0 * returns), 3.0 * portfolio_volatility(returns)
        )

    @pytest.mark.parametrize("cut", [30, 100, 148])
    def test_scrambling_the_future_moves_nothing(self, cut: int) -> None:
        returns = np.random.default_rng(3).normal(0.0, 0.01, 150)
        other = noise_after(returns, cut, sigma=0.1)
        np.testing.assert_array_equal(
            portfolio_volatility(returns)[: cut + 1], portfolio_volatility(other)[: cut + 1]
        )

    def test_days_in_cash_do_not_count(self) -> None:
        targets, _, _, portfolio = random_portfolio(8)
        returns = portfolio_returns(portfolio.net_returns, portfolio.weights)
        held = portfolio.weights.sum(axis=1) > 0.0
        np.testing.assert_array_equal(np.isnan(returns[1:]), ~held[:-1])
        np.testing.assert_array_equal(returns[1:][held[:-1]], portfolio.net_returns[1:][held[:-1]])
        assert np.isnan(returns[0])
        assert np.isnan(targets).any()


class TestValidation:
    @pytest.mark.parametrize(
        ("change", "error", "words"),
        [
            ({"target_volatility": 0.1}, ConfigError, "needs `volatility`"),
            ({"var_cap": 0.1}, ConfigError, "needs `value_at_risk`"),
            ({"target_volatility": 0.0, "volatility": np.ones(4)}, ConfigError, "target_vol.* 0.0"),
            ({"var_cap": -0.1, "value_at_risk": np.ones(4)}, ConfigError, "var_cap is -0.1"),
            ({"max_exposure": 0.0}, ConfigError, "max_exposure is 0.0"),
            ({"band": -0.1}, ConfigError, "band is -0.1"),
            ({"cost_per_side": 1.0}, ConfigError, "cost_per_side is 1.0"),
            ({"lag": -1}, ConfigError, "lag is -1"),
            ({"lag": 0.5}, ConfigError, "lag is 0.5"),
            ({"returns": np.zeros((4, 1))}, DataError, "returns have shape"),
            ({"returns": np.array([0, np.inf, 0, 0])}, DataError, r"returns\[1\] is infinite"),
            ({"returns": np.array([0, 0, -1.0, 0])}, DataError, r"returns\[2\]"),
            ({"decided": np.zeros(4)}, DataError, "decided has shape"),
            ({"throttle": np.array([0, 0, 0, -1.0])}, DataError, r"throttle\[3\] is -1.0"),
            ({"throttle": np.zeros(3)}, DataError, "throttle have shape"),
            (
                {"target_volatility": 0.1, "volatility": np.array([0.1, -0.1, 0.1, 0.1])},
                DataError,
                r"volatility\[1\] is -0.1",
            ),
            (
                {
                    "returns": np.array([0, 0, -0.6, 0]),
                    "max_exposure": 2.0,
                    "throttle": np.full(4, 2.0),
                },
                DataError,
                "row 2 loses all wealth",
            ),
        ],
    )
    def test_what_is_refused(
        self, change: dict[str, object], error: type[Exception], words: str
    ) -> None:
        arguments = {"returns": np.zeros(4), "decided": plain(4), **change}
        with pytest.raises(error, match=words):
            overlay(**arguments)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "change",
        [
            {"start": 0.2, "full": 0.2},
            {"start": -0.1},
            {"full": 1.0},
            {"floor": 1.1},
            {"floor": NONE},
            {"halflife": 0.0},
        ],
    )
    def test_brakes_that_are_refused(self, change: dict[str, float]) -> None:
        with pytest.raises(ConfigError):
            Brake(**change)

    @pytest.mark.parametrize(
        "call",
        [
            lambda: portfolio_volatility(np.zeros(5), halflife=0.0),
            lambda: portfolio_volatility(np.zeros(5), correction_halflife=0.0),
            lambda: portfolio_volatility(np.zeros(5), min_count=0),
            lambda: portfolio_volatility(np.zeros(5), lag=-1),
        ],
    )
    def test_forecast_settings_that_are_refused(self, call: Callable[[], object]) -> None:
        with pytest.raises(ConfigError):
            call()

    def test_targets_that_do_not_fit(self) -> None:
        plan: Overlay = overlay(np.zeros(4), decided=plain(4))
        with pytest.raises(DataError, match="with the 4 rows"):
            overlay_targets(np.zeros((3, 2)), np.zeros((3, 2)), plan)
        with pytest.raises(DataError, match="not marked in `decided`"):
            overlay_targets(np.zeros((4, 2)), np.zeros((4, 2)), plan)
