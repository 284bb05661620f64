"""The backtest: its identities, its timing, its costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skfolio import Portfolio

from alphakeel.backtest.costs import ProportionalCost
from alphakeel.backtest.engine import check_prices, run_backtest
from alphakeel.backtest.ledger import Ledger
from alphakeel.errors import AlphakeelError, ConfigError, DataError
from helpers import ledger_arrays

NONE = np.nan
FREE = ProportionalCost(0.0)


def random_market(
    seed: int, n_dates: int = 30, n_assets: int = 6, *, rough: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, prices and tradable with listings, delistings, suspensions and idle days."""
    rng = np.random.default_rng(seed)
    prices = 20.0 * np.exp(np.cumsum(rng.normal(0.0, 0.05, (n_dates, n_assets)), axis=0))
    targets = rng.dirichlet(np.full(n_assets, 0.5), n_dates)
    targets *= rng.choice([1.0, 1.0, 0.6, 0.0], (n_dates, 1), p=[0.4, 0.3, 0.2, 0.1])
    targets[rng.random(n_dates) < 0.4] = np.nan
    tradable = np.ones(prices.shape, dtype=bool)
    if rough:
        tradable = rng.random(prices.shape) > 0.2
        for column in range(n_assets):
            if rng.random() < 0.4:
                prices[: rng.integers(1, n_dates), column] = np.nan
            if rng.random() < 0.4:
                prices[rng.integers(1, n_dates) :, column] = np.nan
    return targets, prices, tradable


def simple_reference(
    targets: np.ndarray, prices: np.ndarray, tradable: np.ndarray, lag: int, rate: float
) -> np.ndarray:
    """Wealth by plain loops over stocks, the orders of a date found by bisection."""
    n_dates, n_assets = prices.shape
    shares, cash, wealth, last = [0.0] * n_assets, 1.0, [], [np.nan] * n_assets
    for t in range(n_dates):
        for i in range(n_assets):
            if np.isnan(prices[t, i]) and shares[i]:
                cash, shares[i] = cash + shares[i] * last[i] * (1.0 - rate), 0.0
            last[i] = prices[t, i]
        if t >= lag and not np.isnan(targets[t - lag]).all():
            w, p = targets[t - lag], prices[t]
            free = [i for i in range(n_assets) if tradable[t, i] and not np.isnan(p[i])]
            total = cash + sum(shares[i] * p[i] for i in range(n_assets) if shares[i])
            low, high = 0.0, total
            for _ in range(200):
                middle = (low + high) / 2
                fee = sum(rate * abs(w[i] * middle - shares[i] * p[i]) for i in free)
                low, high = (middle, high) if middle + fee <= total else (low, middle)
            orders = {i: w[i] * low - shares[i] * p[i] for i in free}
            sold = sum(-d for d in orders.values() if d < 0)
            budget = cash + sold * (1.0 - rate)
            needed = sum(d for d in orders.values() if d > 0) * (1.0 + rate)
            share = min(1.0, budget / needed) if needed > 0 else 1.0
            for i, d in orders.items():
                d = d if d < 0 else share * d
                cash -= d + rate * abs(d)
                shares[i] += d / p[i]
        held = sum(shares[i] * prices[t, i] for i in range(n_assets) if shares[i])
        wealth.append(cash + held)
    return np.array(wealth)


class TestByHand:
    """Three stocks, five days, one per cent a side, every number written out."""

    prices = np.array(
        [
            [10.0, 20.0, 50.0],
            [10.0, 20.0, 50.0],
            [11.0, 20.0, 45.0],
            [11.0, 22.0, 45.0],
            [12.1, 22.0, NONE],  # the third stock is delisted
        ]
    )
    targets = np.array([[0.5, 0.3, 0.0], [NONE] * 3, [0.2, 0.2, 0.6], [NONE] * 3, [NONE] * 3])

    def test_every_number(self) -> None:
        ledger = run_backtest(
            self.targets, self.prices, cost=ProportionalCost(0.01), initial=1000.0
        )
        # Day 1: 80 % is bought; what is left after costs solves x + 1 % of 0.8 x = 1000.
        x1 = 1000.0 / 1.008
        a, b, cash = 0.5 * x1, 0.3 * x1, 0.2 * x1
        # Day 2: the first stock gains 10 %; day 3: the second does, then the second rebalance
        # sells a and b down to 20 % each and buys 60 % of the third:
        # x + 1 % of ((a - 0.2 x) + (b - 0.2 x) + 0.6 x) = wealth.
        a, wealth2 = 1.1 * a, 1.1 * a + b + cash
        b = 1.1 * b
        wealth3 = a + b + cash
        x3 = (wealth3 - 0.01 * (a + b)) / 1.002
        # Day 4: the first gains 10 %, the third is paid out at 45 less 1 %.
        x4 = 0.2 * x3 * 1.1 + 0.2 * x3 + 0.6 * x3 * 0.99
        assert (x1, wealth2, wealth3) == pytest.approx((992.063492, 1041.666667, 1071.428571))
        assert (x3, x4) == pytest.approx((1060.577258, 1075.425340))

        np.testing.assert_allclose(ledger.wealth, [1000.0, x1, wealth2, x3, x4], rtol=1e-14)
        np.testing.assert_allclose(
            ledger.costs, [0, 0.008 * x1, 0, wealth3 - x3, 0.006 * x3], rtol=1e-12
        )
        np.testing.assert_allclose(
            ledger.cash, [1000, 0.2 * x1, 0.2 * x1, 0, 0.594 * x3], atol=1e-10
        )
        np.testing.assert_allclose(
            ledger.trades,
            [
                [0, 0, 0],
                [0.5 * x1, 0.3 * x1, 0],
                [0, 0, 0],
                [0.2 * x3 - a, 0.2 * x3 - b, 0.6 * x3],
                [0, 0, -0.6 * x3],
            ],
            rtol=1e-12,
        )
        np.testing.assert_allclose(ledger.weights[3], [0.2, 0.2, 0.6], rtol=1e-14)
        np.testing.assert_allclose(ledger.weights[4] * x4, [0.22 * x3, 0.2 * x3, 0.0], rtol=1e-14)
        np.testing.assert_allclose(ledger.gross_returns[1:3], [0, wealth2 / x1 - 1], atol=1e-15)
        np.testing.assert_allclose(ledger.net_returns[3], x3 / wealth2 - 1)
        np.testing.assert_allclose(ledger.turnover[1], 0.8 * x1 / 1000.0)
        assert ledger.forced_sales.tolist() == [0, 0, 0, 0, 1]
        assert ledger.blocked.sum() == 0

    @pytest.mark.parametrize("lag", [0, 1, 2, 3])
    def test_lag_is_the_rows_between_decision_and_trade(self, lag: int) -> None:
        ledger = run_backtest(self.targets, self.prices, lag=lag)
        assert np.flatnonzero(ledger.trades.any(axis=1))[0] == lag

    def test_weights_decided_at_a_close_do_not_earn_that_day_nor_the_next(self) -> None:
        prices = np.array([[1.0], [2.0], [6.0], [24.0]])
        targets = np.array([[NONE], [1.0], [NONE], [NONE]])
        np.testing.assert_allclose(
            run_backtest(targets, prices, cost=FREE).net_returns, [0.0, 0.0, 0.0, 3.0]
        )


class TestSuspension:
    def test_a_suspended_position_keeps_its_shares_and_the_buys_share_what_cash_there_is(
        self,
    ) -> None:
        prices = np.ones((3, 4))
        targets = np.array([[0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.6, 0.4], [NONE] * 4])
        tradable = np.ones((3, 4), dtype=bool)
        tradable[2, 0] = False
        ledger = run_backtest(targets, prices, tradable=tradable, cost=FREE)
        np.testing.assert_allclose(ledger.weights[2], [0.5, 0.0, 0.3, 0.2])
        assert ledger.blocked.tolist() == [0, 0, 1]
        assert ledger.fill[2] == pytest.approx(0.5)
        assert abs(ledger.cash[2]) < 1e-12

    def test_nothing_can_be_bought_when_all_money_is_stuck(self) -> None:
        targets = np.array([[1.0, 0.0], [0.0, 1.0], [NONE, NONE]])
        tradable = np.array([[True, True], [True, True], [False, True]])
        ledger = run_backtest(targets, np.ones((3, 2)), tradable=tradable)
        np.testing.assert_allclose(ledger.weights[2], [1.0, 0.0])
        assert ledger.costs[2] == 0.0
        assert ledger.fill[2] == 0.0

    def test_a_blocked_order_is_not_retried_before_the_next_rebalance(self) -> None:
        targets = np.array([[1.0], [NONE], [NONE], [1.0], [NONE]])
        tradable = np.array([[True], [False], [True], [True], [True]])
        ledger = run_backtest(targets, np.ones((5, 1)), tradable=tradable, cost=FREE)
        np.testing.assert_allclose(ledger.weights[:, 0], [0, 0, 0, 0, 1])

    def test_a_stock_without_a_price_is_not_bought_and_its_weight_stays_in_cash(self) -> None:
        prices = np.array([[1.0, NONE], [1.0, NONE], [1.0, 5.0]])
        ledger = run_backtest(np.full((3, 2), 0.5), prices, cost=FREE)
        np.testing.assert_allclose(ledger.weights, [[0, 0], [0.5, 0.0], [0.5, 0.5]])
        assert ledger.blocked.tolist() == [0, 1, 0]


class TestAgainstSkfolio:
    returns = np.random.default_rng(0).normal(0.0005, 0.02, (250, 5))
    prices = np.vstack([np.ones(5), np.cumprod(1.0 + returns, axis=0)])
    weights = np.array([0.1, 0.2, 0.3, 0.15, 0.25])

    def test_daily_rebalancing_without_costs_is_constant_weights(self) -> None:
        ledger = run_backtest(np.tile(self.weights, (251, 1)), self.prices, lag=0, cost=FREE)
        expected = Portfolio(self.returns, self.weights).returns
        np.testing.assert_allclose(ledger.net_returns[1:], expected, atol=1e-14)
        np.testing.assert_allclose(expected, self.returns @ self.weights, atol=1e-15)

    def test_one_purchase_is_buy_and_hold(self) -> None:
        targets = np.full((251, 5), np.nan)
        targets[0] = self.weights
        ledger = run_backtest(targets, self.prices, lag=0, cost=FREE)
        expected = Portfolio(self.returns, self.weights, weight_drift=True).returns
        np.testing.assert_allclose(ledger.net_returns[1:], expected, atol=1e-14)
        np.testing.assert_allclose(ledger.wealth, self.prices @ self.weights, rtol=1e-13)


class TestAccounting:
    @given(
        seed=st.integers(0, 10**6),
        rate=st.sampled_from([0.0, 0.001, 0.05]),
        lag=st.integers(0, 3),
        initial=st.sampled_from([1.0, 1e7]),
        rough=st.booleans(),
    )
    @settings(max_examples=60, deadline=None)
    def test_balance_every_day(
        self, seed: int, rate: float, lag: int, initial: float, rough: bool
    ) -> None:
        targets, prices, tradable = random_market(seed, rough=rough)
        ledger = run_backtest(
            targets,
            prices,
            tradable=tradable,
            lag=lag,
            cost=ProportionalCost(rate),
            initial=initial,
        )
        wealth, holdings = ledger.wealth, ledger.weights * ledger.wealth[:, None]
        np.testing.assert_allclose(holdings.sum(axis=1) + ledger.cash, wealth, rtol=1e-12)
        before = np.concatenate([[initial], wealth[:-1]])
        ratio = np.nan_to_num(prices[1:] / prices[:-1], nan=1.0)  # a delisted stock earns nothing
        earned = np.concatenate([[0.0], (holdings[:-1] * (ratio - 1.0)).sum(axis=1)])
        np.testing.assert_allclose(wealth - before, earned - ledger.costs, atol=1e-10 * initial)
        assert ledger.imbalance(prices).max() < 1e-10

        assert (ledger.cash >= -1e-12 * wealth).all()
        assert (ledger.weights >= 0.0).all()
        np.testing.assert_allclose(
            ledger.costs, rate * np.abs(ledger.trades).sum(axis=1), atol=1e-12 * initial
        )
        np.testing.assert_allclose(ledger.turnover * (wealth + ledger.costs) * rate, ledger.costs)
        np.testing.assert_allclose(
            ledger.gross_returns - ledger.net_returns, ledger.costs / before, atol=1e-12
        )
        shut = ~tradable & ~np.isnan(prices)
        assert not ledger.trades[shut].any()
        assert not ledger.weights[np.isnan(prices)].any()
        if not rough:
            for row in np.flatnonzero(~np.isnan(targets[: len(targets) - lag, 0])):
                np.testing.assert_allclose(ledger.weights[row + lag], targets[row], atol=1e-13)

    @given(seed=st.integers(0, 10**6), lag=st.integers(0, 2))
    @settings(max_examples=25, deadline=None)
    def test_equals_a_plain_loop(self, seed: int, lag: int) -> None:
        targets, prices, tradable = random_market(seed, n_dates=15)
        ledger = run_backtest(
            targets, prices, tradable=tradable, lag=lag, cost=ProportionalCost(0.01)
        )
        expected = simple_reference(targets, prices, tradable, lag, 0.01)
        np.testing.assert_allclose(ledger.wealth, expected, rtol=1e-10)

    def test_the_fast_path_equals_the_careful_one(self) -> None:
        targets, prices, _ = random_market(3, rough=False)
        idle = np.column_stack([prices, np.full(len(prices), 7.0)])
        tradable = np.ones(idle.shape, dtype=bool)
        tradable[:, -1] = False  # forces the careful path, touches nothing
        wide = np.column_stack([targets, np.where(np.isnan(targets[:, 0]), np.nan, 0.0)])
        careful = run_backtest(wide, idle, tradable=tradable)
        fast = run_backtest(targets, prices)
        np.testing.assert_allclose(careful.wealth, fast.wealth, rtol=1e-13)
        np.testing.assert_allclose(careful.weights[:, :-1], fast.weights, atol=1e-13)

    @pytest.mark.parametrize("rough", [False, True])
    def test_prices_checked_once_serve_every_backtest(self, rough: bool) -> None:
        targets, prices, tradable = random_market(4, rough=rough)
        checked = check_prices(prices)
        for rate in (0.0, 0.002, 0.001):
            terms = {"tradable": tradable, "cost": ProportionalCost(rate)}
            one, other = (run_backtest(targets, p, **terms) for p in (prices, checked))
            for name in ("weights", "trades", "wealth", "costs", "forced_sales"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))

    def test_initial_wealth_is_only_a_unit(self) -> None:
        targets, prices, tradable = random_market(5)
        one = run_backtest(targets, prices, tradable=tradable)
        many = run_backtest(targets, prices, tradable=tradable, initial=3e6)
        np.testing.assert_allclose(many.net_returns, one.net_returns, atol=1e-13)

    def test_prices_in_float32_are_booked_in_float64(self) -> None:
        targets, prices, tradable = random_market(9)
        prices = prices.astype(np.float32)
        ledger = run_backtest(targets, prices, tradable=tradable)
        assert ledger.wealth.dtype == np.float64
        assert ledger.imbalance(prices).max() < 1e-10

    def test_asset_order_does_not_matter(self) -> None:
        targets, prices, tradable = random_market(6)
        order = np.random.default_rng(0).permutation(prices.shape[1])
        one = run_backtest(targets, prices, tradable=tradable)
        other = run_backtest(targets[:, order], prices[:, order], tradable=tradable[:, order])
        np.testing.assert_allclose(other.wealth, one.wealth, rtol=1e-13)
        np.testing.assert_allclose(other.weights, one.weights[:, order], atol=1e-13)

    def test_inputs_stay_and_the_ledger_is_read_only(self) -> None:
        targets, prices, tradable = random_market(7)
        copies = targets.copy(), prices.copy(), tradable.copy()
        ledger = run_backtest(targets, prices, tradable=tradable)
        for mine, copy in zip((targets, prices, tradable), copies, strict=True):
            np.testing.assert_array_equal(mine, copy)
            mine.flags.writeable = True
        with pytest.raises(ValueError, match="read-only"):
            ledger.weights[0, 0] = 1.0
        with pytest.raises(FrozenInstanceError):
            ledger.initial = 2.0  # type: ignore[misc]


class TestNoLookAhead:
    @pytest.mark.parametrize("seed", range(12))
    @pytest.mark.parametrize("huge", [False, True])
    def test_scrambled_future_leaves_the_past_to_the_bit(self, seed: int, huge: bool) -> None:
        targets, prices, tradable = random_market(seed)
        base = ledger_arrays(run_backtest(targets, prices, tradable=tradable))
        rng = np.random.default_rng(seed + 1000)
        for t in (3, 11, 20, 28):
            noise, shape = [x.copy() for x in (targets, prices, tradable)], prices[t + 1 :].shape
            noise[0][t + 1 :] = rng.dirichlet(np.ones(shape[1]), shape[0])
            alive = ~np.isnan(prices[t])
            level = np.exp(rng.normal(0.0, 20.0 if huge else 1.0, shape))
            # Listed stocks are delisted at random and unlisted ones never come: no holes.
            gone = (rng.random(shape) < 0.1).cumsum(axis=0) > 0
            noise[1][t + 1 :] = np.where(alive & ~gone, level, np.nan)
            noise[2][t + 1 :] = rng.random(shape) < 0.5
            other = ledger_arrays(run_backtest(noise[0], noise[1], tradable=noise[2]))
            for name, value in base.items():
                np.testing.assert_array_equal(value[: t + 1], other[name][: t + 1], err_msg=name)

    def test_a_longer_history_continues_a_shorter_one(self) -> None:
        targets, prices, tradable = random_market(2)
        whole = ledger_arrays(run_backtest(targets, prices, tradable=tradable))
        part = ledger_arrays(run_backtest(targets[:17], prices[:17], tradable=tradable[:17]))
        for name, value in part.items():
            np.testing.assert_array_equal(value, whole[name][:17], err_msg=name)


class TestCosts:
    def test_another_schedule_plugs_in(self) -> None:
        class SellTax:
            """A tax on sells alone, from row 2 on, plus square-root impact on everything."""

            def charge(
                self, trades: np.ndarray, row: int, *, out: np.ndarray | None = None
            ) -> np.ndarray:
                tax = 0.01 * np.maximum(-trades, 0.0) * (row >= 2)
                return np.add(tax, 1e-3 * np.abs(trades) ** 1.5, out=out)

        targets, prices, tradable = random_market(8)
        ledger = run_backtest(targets, prices, tradable=tradable, cost=SellTax())
        assert ledger.imbalance(prices).max() < 1e-10
        assert (ledger.cash >= -1e-12).all()
        expected = [SellTax().charge(row, t).sum() for t, row in enumerate(ledger.trades)]
        np.testing.assert_allclose(ledger.costs, expected, atol=1e-13)

    def test_a_cost_without_a_solution_is_reported(self) -> None:
        class Jumpy:
            def charge(
                self, trades: np.ndarray, row: int, *, out: np.ndarray | None = None
            ) -> np.ndarray:
                return np.multiply(1.9 * np.abs(trades), np.abs(trades) > 0.3, out=out)

        with pytest.raises(AlphakeelError, match="row 1 do not settle"):
            run_backtest(np.array([[0.5], [NONE]]), np.ones((2, 1)), cost=Jumpy())

    @pytest.mark.parametrize("rate", [-0.001, 10.0, np.nan])
    def test_a_rate_out_of_range_is_refused(self, rate: float) -> None:
        with pytest.raises(ConfigError, match="cost rate"):
            ProportionalCost(rate)


def _prices(value: float) -> Callable[[], Ledger]:
    prices = np.ones((4, 2))
    prices[2, 1] = value
    return lambda: run_backtest(np.full((4, 2), 0.5), prices)


def _targets(*row: float) -> Callable[[], Ledger]:
    targets = np.full((4, 2), np.nan)
    targets[2] = row
    return lambda: run_backtest(targets, np.ones((4, 2)))


class TestRefusals:
    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (_prices(0.0), r"prices\[2, 1\] is 0.0"),
            (_prices(-1.0), r"prices\[2, 1\] is -1.0"),
            (_prices(np.inf), r"prices\[2, 1\] is infinite"),
            (_prices(-np.inf), r"prices\[2, 1\] is -inf"),
            (_prices(np.nan), r"prices\[2, 1\] is missing between two prices"),
            (_targets(0.5, np.nan), r"target_weights\[2, 1\] is nan in a row with weights"),
            (_targets(np.inf, -np.inf), r"target_weights\[2, 0\] is inf"),
            (_targets(0.5, -0.1), r"target_weights\[2, 1\] is -0.1; the backtest is long-only"),
            (_targets(0.7, 0.7), r"target_weights\[2\] sum to 1.4"),
            (lambda: run_backtest(np.ones((2, 1)), np.ones((2, 2))), "but prices have"),
            (lambda: run_backtest(np.ones(2), np.ones(2)), r"give \(n_dates, n_assets\)"),
            (
                lambda: run_backtest(np.ones((2, 1)), np.ones((2, 1)), tradable=np.ones((2, 1))),
                "give bool",
            ),
        ],
    )
    def test_impossible_data(self, call: Callable[[], Ledger], message: str) -> None:
        with pytest.raises(DataError, match=message):
            call()

    @pytest.mark.parametrize("kwargs", [{"lag": -1}, {"lag": 1.5}, {"initial": 0.0}])
    def test_impossible_settings(self, kwargs: dict[str, float]) -> None:
        with pytest.raises(ConfigError, match=r"lag is|initial wealth is"):
            run_backtest(np.ones((2, 1)), np.ones((2, 1)), **kwargs)  # type: ignore[arg-type]

    def test_weights_that_sum_to_one_in_float32_are_scaled(self) -> None:
        targets = np.tile(np.array([0.1] * 10, dtype=np.float32).astype(np.float64), (3, 1))
        assert targets.sum(axis=1)[0] > 1.0
        assert (run_backtest(targets, np.ones((3, 10))).cash >= -1e-12).all()

    def test_no_stock_ever_listed_and_no_decision(self) -> None:
        ledger = run_backtest(np.full((3, 1), np.nan), np.full((3, 1), np.nan))
        np.testing.assert_array_equal(ledger.wealth, 1.0)


def test_frames_with_other_stocks_or_dates_are_refused() -> None:
    days = pd.bdate_range("2015-01-01", periods=3)
    prices = pd.DataFrame(10.0, days, ["A", "B"])
    weights = pd.DataFrame(0.5, days, ["A", "B"])
    assert run_backtest(weights, prices).wealth[-1] == pytest.approx(0.999, abs=1e-5)
    with pytest.raises(DataError, match=r"target_weights and prices .* same columns"):
        run_backtest(weights[["B", "A"]], prices)
    with pytest.raises(DataError, match=r"target_weights and prices .* same rows"):
        run_backtest(weights, prices.shift(freq="B"))
