"""The backtest under market rules, with margin, and in long blocks of plain days."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphakeel.backtest import engine
from alphakeel.backtest.costs import MarketCost, ProportionalCost, square_root_impact
from alphakeel.backtest.engine import run_backtest
from alphakeel.backtest.ledger import REASONS
from alphakeel.backtest.market_rules import (
    Margin,
    TradingConstraints,
    board_limits,
    boards_of,
    price_limits,
)
from alphakeel.errors import ConfigError, DataError
from helpers import ledger_arrays

NONE = np.nan
FREE = ProportionalCost(0.0)
WEALTH = 1e6


def flags(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=bool)


def market(seed: int, n_dates: int = 40, n_assets: int = 8) -> dict[str, Any]:
    """A Chinese market: targets, prices in cents with limit moves, volumes, suspensions."""
    rng = np.random.default_rng(seed)
    moves = np.clip(rng.normal(0.0, 0.06, (n_dates, n_assets)), -0.1, 0.1)
    prices = np.empty((n_dates, n_assets))
    prices[0] = np.round(rng.uniform(3.0, 60.0, n_assets), 2)
    for t in range(1, n_dates):
        cents = np.rint(100 * prices[t - 1])
        lower, upper = np.ceil(cents * 0.9), np.floor(cents * 1.1 + 0.5)
        prices[t] = np.clip(np.rint(cents * (1 + moves[t])), lower, upper) / 100
    targets = rng.dirichlet(np.full(n_assets, 0.4), n_dates)
    targets *= rng.choice([1.0, 0.7, 0.0], (n_dates, 1), p=[0.7, 0.2, 0.1])
    targets[rng.random(n_dates) < 0.2] = np.nan
    tradable = rng.random(prices.shape) > 0.1
    for column in range(n_assets):
        if rng.random() < 0.3:
            prices[rng.integers(2, n_dates) :, column] = np.nan
    traded = rng.lognormal(np.log(WEALTH), 1.0, prices.shape)
    up, down = price_limits(prices, 0.1)
    impact = square_root_impact(np.full(prices.shape, 0.03), traded)
    rates = np.array([0.0003, 0.0005, 0.0015])[:, None] * np.ones(n_dates)
    return {
        "target_weights": targets,
        "prices": prices,
        "tradable": tradable,
        "constraints": TradingConstraints(
            at_up_limit=up,
            at_down_limit=down,
            lot_value=100.0 * prices,
            capacity=0.1 * traded,
            day=np.arange(n_dates),
        ),
        "cost": MarketCost(*rates, minimum=5.0, impact=impact),
        "initial": WEALTH,
    }


def order_cost(cost: MarketCost, row: int, i: int, order: float) -> float:
    size = abs(order)
    fee = min(max(cost.commission[row] * size, cost.minimum), size)
    fee += size * (cost.buy[row] if order > 0 else cost.sell[row])
    return float(fee + cost.impact[row, i] * size**1.5)


def simple_reference(case: dict[str, Any], lag: int) -> np.ndarray:
    """Wealth by plain loops over stocks, all rules but lots, everything by bisection."""
    targets, prices, cost, constraints = (
        case[k] for k in ("target_weights", "prices", "cost", "constraints")
    )
    n_dates, n_assets = prices.shape
    shares, cash, wealth = [0.0] * n_assets, case["initial"], []
    for t in range(n_dates):
        p = prices[t]
        for i in range(n_assets):
            if np.isnan(p[i]) and shares[i]:
                value = shares[i] * prices[t - 1, i]
                cash, shares[i] = cash + value - order_cost(cost, t, i, -value), 0.0
        held = [shares[i] * p[i] if shares[i] else 0.0 for i in range(n_assets)]
        if t >= lag and not np.isnan(targets[t - lag]).all():
            w, total = targets[t - lag], cash + sum(held)
            high = [
                0.0
                if np.isnan(p[i]) or not case["tradable"][t, i] or constraints.at_up_limit[t, i]
                else constraints.capacity[t, i]
                for i in range(n_assets)
            ]
            low = [
                0.0
                if np.isnan(p[i]) or not case["tradable"][t, i] or constraints.at_down_limit[t, i]
                else -constraints.capacity[t, i]
                for i in range(n_assets)
            ]

            def orders(x: float, w=w, held=held, low=low, high=high) -> list[float]:
                return [min(max(w[i] * x - held[i], low[i]), high[i]) for i in range(n_assets)]

            def paid(some: list[float], t=t) -> float:
                return sum(order_cost(cost, t, i, d) for i, d in enumerate(some))

            below, above = 0.0, total
            for _ in range(100):
                middle = (below + above) / 2
                fits = middle + paid(orders(middle)) <= total
                below, above = (middle, above) if fits else (below, middle)
            wanted = orders(below)
            share, most = 0.0, 1.0
            for step in range(100):
                trial = most if step == 0 else (share + most) / 2
                part = [trial * d if d > 0 else d for d in wanted]
                if sum(part) + paid(part) <= cash + 1e-9 * total:
                    share = trial
                else:
                    most = trial
                if share == 1.0:
                    break
            done = [share * d if d > 0 else d for d in wanted]
            cash -= sum(done) + paid(done)
            for i, d in enumerate(done):
                held[i] += d
                shares[i] += d / p[i] if d else 0.0
        wealth.append(cash + sum(held))
    return np.array(wealth)


class TestAgainstAPlainLoop:
    @given(seed=st.integers(0, 10**6), lag=st.integers(0, 2))
    @settings(max_examples=15, deadline=None)
    def test_every_rule_but_lots(self, seed: int, lag: int) -> None:
        case = market(seed, n_dates=15, n_assets=5)
        case["constraints"] = replace(case["constraints"], lot_value=None)
        wealth = run_backtest(**case, lag=lag).wealth
        np.testing.assert_allclose(wealth, simple_reference(case, lag), rtol=1e-7)


class TestPriceLimits:
    def test_no_buy_at_the_upper_and_no_sale_at_the_lower(self) -> None:
        prices = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.1, 0.9, 1.0], [1.1, 0.9, 1.0]])
        targets = np.array([[0.5, 0.5, 0.0], [0.9, 0.0, 0.1], [NONE] * 3, [NONE] * 3])
        up, down = price_limits(prices, 0.1)
        ledger = run_backtest(
            targets,
            prices,
            cost=FREE,
            constraints=TradingConstraints(at_up_limit=up, at_down_limit=down),
        )
        # Row 2: 0.55 and 0.45 are held. The first cannot be bought up to 0.9, nor the second
        # sold, and so there is no cash for the third.
        np.testing.assert_allclose(ledger.weights[2], [0.55, 0.45, 0.0])
        assert ledger.up_limit.tolist() == [0, 0, 1, 0]
        assert ledger.down_limit.tolist() == [0, 0, 1, 0]
        assert ledger.fill[2] == 0.0
        assert ledger.hindrances()[REASONS["up_limit"]] == 1

    def test_the_upper_limit_may_be_sold_and_the_lower_bought(self) -> None:
        prices = np.array([[1.0, 1.0], [1.0, 1.0], [1.1, 0.9]])
        targets = np.array([[0.5, 0.5], [0.0, 1.0], [NONE, NONE]])
        up, down = price_limits(prices, 0.1)
        ledger = run_backtest(
            targets,
            prices,
            cost=FREE,
            constraints=TradingConstraints(at_up_limit=up, at_down_limit=down),
        )
        np.testing.assert_allclose(ledger.weights[2], [0.0, 1.0])
        assert not any(ledger.hindrances().values())


class TestLots:
    def test_orders_are_whole_lots_and_odd_shares_go_with_the_whole_position(self) -> None:
        prices = np.array([[7.0, 30.0]] * 4)
        targets = np.array([[0.5, 0.3], [0.45, 0.0], [NONE, NONE], [NONE, NONE]])
        ledger = run_backtest(
            targets,
            prices,
            cost=FREE,
            constraints=TradingConstraints(lot_value=100 * prices),
            initial=10_000.0,
        )
        # 5000 / 700 is 7 lots; 3000 / 3000 is 1. Then 0.45 is 4500: 400 less is not one lot.
        np.testing.assert_allclose(ledger.trades[1], [4900.0, 3000.0])
        np.testing.assert_allclose(ledger.trades[2], [0.0, -3000.0])
        assert ledger.small.tolist() == [0, 0, 1, 0]
        assert ledger.cash[1] == pytest.approx(2100.0)

    def test_shares_left_by_a_split_are_sold_whole(self) -> None:
        # The accounting price doubles by a bonus share; 150 shares for 100 at 2/3 of the price.
        prices = np.array([[10.0], [10.0], [10.0], [10.0], [10.0]])
        raw = np.array([[10.0], [10.0], [10.0 / 1.5], [10.0 / 1.5], [10.0 / 1.5]])
        constraints = TradingConstraints(lot_value=100 * raw)
        targets = np.array([[1.0], [0.6], [0.0], [NONE], [NONE]])
        ledger = run_backtest(targets, prices, cost=FREE, constraints=constraints, initial=1000.0)
        # 150 shares worth 1000; 0.6 sells 400 of value: 60 shares, less than a lot.
        assert ledger.trades[:, 0].tolist() == [0.0, 1000.0, 0.0, -1000.0, 0.0]
        assert ledger.small.tolist() == [0, 0, 1, 0, 0]

    def test_the_smallest_commission_is_paid_by_every_order(self) -> None:
        prices, none = np.full((3, 2), 10.0), np.zeros(3)
        cost = MarketCost(np.full(3, 0.0003), none, none, minimum=5.0)
        targets = np.array([[0.5, 0.1], [NONE, NONE], [NONE, NONE]])
        constraints = TradingConstraints(lot_value=100 * prices)
        ledger = run_backtest(
            targets, prices, cost=cost, constraints=constraints, initial=100_000.0
        )
        np.testing.assert_allclose(ledger.trades[1], [49_000.0, 9000.0])  # of 49990 and 9998
        assert ledger.costs[1] == pytest.approx(49_000 * 0.0003 + 5.0)


class TestVolume:
    def test_large_orders_are_cut_and_counted(self) -> None:
        prices = np.ones((4, 2))
        capacity = np.array([[9.0, 9.0], [0.2, 9.0], [0.2, NONE], [9.0, 9.0]])
        targets = np.array([[0.5, 0.5], [0.5, 0.2], [0.5, 0.2], [NONE, NONE]])
        ledger = run_backtest(
            targets, prices, cost=FREE, constraints=TradingConstraints(capacity=capacity)
        )
        np.testing.assert_allclose(
            ledger.weights, [[0, 0], [0.2, 0.5], [0.4, 0.5], [0.5, 0.2]], atol=1e-15
        )
        assert ledger.cut.tolist() == [0, 1, 2, 0]


class TestSameDay:
    def test_t_plus_1_binds_only_between_rows_of_one_day(self) -> None:
        prices = np.array([[1.0], [1.0], [1.0], [1.0]])
        targets = np.array([[0.6], [0.2], [0.2], [NONE]])
        free = run_backtest(
            targets, prices, cost=FREE, constraints=TradingConstraints(day=np.arange(4))
        )
        np.testing.assert_allclose(free.weights[:, 0], [0.0, 0.6, 0.2, 0.2])
        assert not free.locked.any()
        tied = run_backtest(
            targets, prices, cost=FREE, constraints=TradingConstraints(day=np.array([0, 1, 1, 2]))
        )
        np.testing.assert_allclose(tied.weights[:, 0], [0.0, 0.6, 0.6, 0.2])
        assert tied.locked.tolist() == [0, 0, 1, 0]

    def test_older_shares_may_be_sold_beside_new_ones(self) -> None:
        targets = np.array([[0.3], [0.5], [0.0], [NONE]])
        constraints = TradingConstraints(day=np.array([0, 1, 2, 2]))
        ledger = run_backtest(targets, np.ones((4, 1)), cost=FREE, constraints=constraints)
        np.testing.assert_allclose(ledger.weights[:, 0], [0.0, 0.3, 0.5, 0.2])

    def test_yesterdays_shares_are_free_though_this_row_is_not_the_days_first(self) -> None:
        targets = np.array([[0.5], [NONE], [0.0], [NONE]])
        constraints = TradingConstraints(day=np.array([0, 1, 2, 2]))
        ledger = run_backtest(targets, np.ones((4, 1)), cost=FREE, constraints=constraints)
        np.testing.assert_allclose(ledger.weights[:, 0], [0.0, 0.5, 0.5, 0.0])


class TestMargin:
    def test_a_short_position_by_hand(self) -> None:
        prices = np.array([[1.0, 1.0], [1.0, 1.0], [1.1, 1.2], [1.1, 1.2]])
        targets = np.array([[1.0, -0.5], [NONE, NONE], [0.0, 0.0], [NONE, NONE]])
        margin = Margin(max_gross=1.5, short=True, borrow_rate=0.0252)
        ledger = run_backtest(targets, prices, cost=FREE, margin=margin)
        assert ledger.cash[1] == pytest.approx(0.5)
        # A fee of 2.52 % / 252 on 0.5, then a gain of 0.1 and a loss of 0.1; then on 0.6.
        assert ledger.carry.tolist() == pytest.approx([0.0, 0.0, 0.00005, 0.00006])
        assert ledger.wealth.tolist() == pytest.approx([1.0, 1.0, 0.99995, 0.99989])
        np.testing.assert_allclose(ledger.weights[3], 0.0, atol=1e-15)
        assert ledger.gross_returns[2] == pytest.approx(0.0)
        assert ledger.imbalance(prices).max() < 1e-15

    def test_leverage_pays_for_its_debt(self) -> None:
        prices = np.array([[1.0], [1.0], [1.1]])
        targets = np.array([[2.0], [NONE], [NONE]])
        margin = Margin(max_gross=2.0, financing_rate=0.0504)
        ledger = run_backtest(targets, prices, cost=FREE, margin=margin)
        assert ledger.cash[1] == pytest.approx(-1.0)
        assert ledger.wealth[2] == pytest.approx(1.2 - 0.0002)

    def test_costs_come_out_of_a_dollar_neutral_portfolio(self) -> None:
        targets = np.array([[0.5, -0.5], [NONE, NONE]])
        ledger = run_backtest(
            targets, np.ones((2, 2)), cost=ProportionalCost(0.01), margin=Margin(1.0, short=True)
        )
        assert ledger.wealth[1] == pytest.approx(1 / 1.01)  # x + 0.01 x = 1
        np.testing.assert_allclose(ledger.weights[1], [0.5, -0.5])

    def test_a_stuck_position_leaves_less_for_the_others(self) -> None:
        targets = np.array([[1.0, 0.0], [0.0, 1.5], [NONE, NONE]])
        tradable = flags([1, 1], [1, 1], [0, 1])
        ledger = run_backtest(
            targets, np.ones((3, 2)), tradable=tradable, cost=FREE, margin=Margin(max_gross=1.5)
        )
        np.testing.assert_allclose(ledger.weights[2], [1.0, 0.5])
        assert ledger.fill[2] == pytest.approx(1 / 3)

    def test_a_stuck_position_above_the_limit_is_left_alone(self) -> None:
        prices = np.array([[1.0, 1.0], [1.0, 1.0], [0.8, 1.0]])
        targets = np.array([[1.5, 0.0], [0.0, 0.0], [NONE, NONE]])
        tradable = flags([1, 1], [1, 1], [0, 1])
        ledger = run_backtest(
            targets, prices, tradable=tradable, cost=FREE, margin=Margin(max_gross=1.5)
        )
        np.testing.assert_allclose(ledger.weights[2], [1.2 / 0.7, 0.0])
        assert ledger.blocked[2] == 1

    def test_a_delisted_short_is_bought_back(self) -> None:
        prices = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, NONE]])
        targets = np.array([[0.0, -0.5], [NONE, NONE], [NONE, NONE]])
        ledger = run_backtest(targets, prices, cost=FREE, margin=Margin(short=True))
        assert (ledger.trades[2, 1], ledger.cash[2]) == (0.5, 1.0)
        assert ledger.forced_sales[2] == 1

    def test_a_lost_portfolio_is_reported(self) -> None:
        prices = np.array([[1.0], [1.0], [0.4], [0.4]])
        targets = np.array([[2.0], [NONE], [2.0], [NONE]])
        with pytest.raises(DataError, match="has lost all it had"):
            run_backtest(targets, prices, margin=Margin(max_gross=2.0))

    @pytest.mark.parametrize(
        ("row", "margin", "message"),
        [
            ([0.5, -0.5], None, "long-only"),
            ([0.8, -0.8], Margin(1.5, short=True), "max_gross, which is 1.5"),
            ([1.5, -0.0], Margin(1.2), "max_gross, which is 1.2"),
        ],
    )
    def test_weights_outside_the_margin_are_refused(
        self, row: list[float], margin: Margin | None, message: str
    ) -> None:
        with pytest.raises(DataError, match=message):
            run_backtest(np.array([row, [NONE] * 2]), np.ones((2, 2)), margin=margin)

    @given(seed=st.integers(0, 10**6), rules_on=st.booleans())
    @settings(max_examples=25, deadline=None)
    def test_the_ledger_balances(self, seed: int, rules_on: bool) -> None:
        case = market(seed)
        rng = np.random.default_rng(seed)
        signs = rng.choice([-1.0, 1.0], case["prices"].shape)
        case["target_weights"] = case["target_weights"] * signs * 0.9
        if not rules_on:
            case |= {"constraints": None, "cost": ProportionalCost(0.002)}
        margin = Margin(1.3, short=True, financing_rate=0.05, borrow_rate=0.03)
        ledger = run_backtest(**case, margin=margin)
        assert ledger.imbalance(case["prices"]).max() < 1e-10
        if not rules_on:
            gross = np.abs(ledger.weights).sum(axis=1)
            traded = ledger.trades.any(axis=1)
            assert (ledger.fill <= 1.0).all()
            stuck = traded & (ledger.fill > 0.0)
            assert (gross[stuck] <= 1.3 + 1e-9).all()


class TestNoRuleIsBroken:
    @given(seed=st.integers(0, 10**6), lag=st.integers(0, 2))
    @settings(max_examples=60, deadline=None)
    def test_on_any_day(self, seed: int, lag: int) -> None:
        case = market(seed)
        ledger = run_backtest(**case, lag=lag)
        constraints, prices, trades = case["constraints"], case["prices"], ledger.trades
        forced = np.isnan(prices) & (trades != 0.0)
        orders = np.where(forced, 0.0, trades)
        assert not (orders[constraints.at_up_limit] > 0.0).any()
        assert not (orders[constraints.at_down_limit] < 0.0).any()
        assert not orders[~case["tradable"]].any()
        assert (np.abs(orders) <= np.nan_to_num(constraints.capacity) * (1 + 1e-9)).all()

        holdings = ledger.weights * ledger.wealth[:, None]
        assert (holdings >= 0.0).all()
        assert (ledger.cash >= -1e-9 * ledger.wealth).all()
        lots = np.nan_to_num(orders / constraints.lot_value)
        odd = np.abs(lots - np.rint(lots)) > 1e-6
        assert not (odd & (orders > 0.0)).any()
        assert not holdings[odd & (orders < 0.0)].any()  # only with the whole position

        assert ledger.imbalance(prices).max() < 1e-10
        expected = [case["cost"].charge(order, t).sum() for t, order in enumerate(trades)]
        np.testing.assert_allclose(ledger.costs, expected, atol=1e-6)
        assert (ledger.fill >= 0.0).all()
        assert (ledger.fill <= 1.0).all()

    def test_the_reasons_all_occur(self) -> None:
        total = dict.fromkeys(REASONS, 0)
        for seed in range(8):
            ledger = run_backtest(**market(seed))
            for name in REASONS:
                total[name] += int(getattr(ledger, name).sum())
        assert all(total[name] for name in REASONS if name != "locked"), total

    @pytest.mark.parametrize("seed", range(6))
    def test_scrambled_future_leaves_the_past_to_the_bit(self, seed: int) -> None:
        case = market(seed)
        base = ledger_arrays(run_backtest(**case))
        rng = np.random.default_rng(seed + 100)
        for t in (5, 18, 33):
            later = slice(t + 1, None)
            noisy = {k: case[k].copy() for k in ("target_weights", "prices", "tradable")}
            shape = noisy["prices"][later].shape
            noisy["target_weights"][later] = rng.dirichlet(np.ones(shape[1]), shape[0])
            noisy["prices"][later] *= np.exp(rng.normal(0.0, 1.0, shape))
            noisy["tradable"][later] = rng.random(shape) < 0.5
            noise = {}
            for name in ("at_up_limit", "at_down_limit", "lot_value", "capacity"):
                noise[name] = getattr(case["constraints"], name).copy()
                noise[name][later] = noise[name][later][::-1]
            impact = case["cost"].impact.copy()
            impact[later] *= 3.0
            noisy["constraints"] = replace(case["constraints"], **noise)
            noisy["cost"] = replace(case["cost"], impact=impact)
            other = ledger_arrays(run_backtest(**(case | noisy)))
            for name, value in base.items():
                np.testing.assert_array_equal(value[: t + 1], other[name][: t + 1], err_msg=name)


class TestRulesThatDoNotBind:
    @pytest.mark.parametrize("seed", range(4))
    def test_off_is_the_plain_engine_exactly(self, seed: int) -> None:
        case = market(seed) | {"cost": ProportionalCost(0.001)}
        plain = ledger_arrays(run_backtest(**(case | {"constraints": None})))
        off = ledger_arrays(
            run_backtest(**(case | {"constraints": TradingConstraints(), "margin": Margin()}))
        )
        for name, value in plain.items():
            np.testing.assert_array_equal(value, off[name], err_msg=name)

    @pytest.mark.parametrize("seed", range(4))
    def test_wide_open_rules_change_nothing_but_roundings(self, seed: int) -> None:
        case = market(seed) | {"cost": ProportionalCost(0.001)}
        shape = case["prices"].shape
        plain = run_backtest(**(case | {"constraints": None}))
        none = np.zeros(shape, dtype=bool)
        wide = TradingConstraints(
            none, none, capacity=np.full(shape, 1e30), day=np.arange(shape[0])
        )
        other = run_backtest(**(case | {"constraints": wide}))
        np.testing.assert_allclose(other.wealth, plain.wealth, rtol=1e-12)
        np.testing.assert_allclose(other.weights, plain.weights, atol=1e-12)
        np.testing.assert_array_equal(other.blocked, plain.blocked)
        tiny = TradingConstraints(lot_value=np.full(shape, 1e-6))
        np.testing.assert_allclose(
            run_backtest(**(case | {"constraints": tiny})).wealth, plain.wealth, rtol=1e-6
        )

    def test_arrays_of_another_shape_are_refused(self) -> None:
        targets, prices = np.full((2, 1), NONE), np.ones((2, 1))
        for constraints, message in (
            (
                TradingConstraints(capacity=np.ones((3, 1))),
                "capacity of the market rules has shape",
            ),
            (TradingConstraints(day=np.arange(3)), "day of the market rules"),
            (TradingConstraints(capacity=-prices), r"capacity\[0, 0\] is negative"),
            (TradingConstraints(lot_value=0.0 * prices), r"lot_value\[0, 0\] is not positive"),
        ):
            with pytest.raises(DataError, match=message):
                run_backtest(targets, prices, constraints=constraints)


class TestBlocksOfDays:
    """Days solved in blocks are the days solved one by one."""

    @staticmethod
    def plain(seed: int, every: int, n_dates: int = 300) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        prices = 20.0 * np.exp(np.cumsum(rng.normal(0.0, 0.03, (n_dates, 12)), axis=0))
        targets = rng.dirichlet(np.full(12, 0.3), n_dates) * rng.choice([1.0, 0.5], (n_dates, 1))
        targets[np.arange(n_dates) % every != 0] = np.nan
        return targets, prices

    @pytest.mark.parametrize("every", [1, 5])
    def test_equals_the_day_loop(self, every: int) -> None:
        targets, prices = self.plain(1, every)
        rate = np.full(len(prices), 0.002)
        slow = ledger_arrays(
            run_backtest(targets, prices, cost=MarketCost(rate, 0 * rate, 0 * rate))
        )
        fast = ledger_arrays(run_backtest(targets, prices, cost=ProportionalCost(0.002)))
        for name, value in slow.items():
            np.testing.assert_allclose(fast[name], value, rtol=1e-10, atol=1e-12, err_msg=name)

    @pytest.mark.parametrize("every", [1, 3])
    def test_the_size_of_a_block_leaves_growth_to_rounding(
        self, every: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        targets, prices = self.plain(2, every)
        base = run_backtest(targets, prices).wealth
        for rows in (1, 7, 1000):
            monkeypatch.setattr(engine, "ROWS_AT_ONCE", rows)
            np.testing.assert_allclose(run_backtest(targets, prices).wealth, base, rtol=1e-13)

    @pytest.mark.parametrize("every", [1, 4])
    def test_what_comes_later_leaves_a_block_of_days_to_the_bit(
        self, every: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engine, "ROWS_AT_ONCE", 16)
        targets, prices = self.plain(3, every)
        base = ledger_arrays(run_backtest(targets, prices))
        rng = np.random.default_rng(0)
        for t in (1, 15, 16, 17, 40, 100, 299):
            part = ledger_arrays(run_backtest(targets[: t + 1], prices[: t + 1]))
            noisy = prices.copy()
            noisy[t + 1 :] *= np.exp(rng.normal(0.0, 1.0, noisy[t + 1 :].shape))
            noisy[t + 5 :, 3] = np.nan
            tradable = np.ones(prices.shape, dtype=bool)
            tradable[t + 1 :] = rng.random(noisy[t + 1 :].shape) < 0.5
            other = ledger_arrays(run_backtest(targets, noisy, tradable=tradable))
            for name, value in base.items():
                np.testing.assert_array_equal(value[: t + 1], part[name], err_msg=name)
                np.testing.assert_array_equal(value[: t + 1], other[name][: t + 1], err_msg=name)

    @pytest.mark.parametrize("seed", range(5))
    def test_rare_suspensions_break_it_without_a_trace(self, seed: int) -> None:
        targets, prices = self.plain(seed, 1, 120)
        rng = np.random.default_rng(seed)
        tradable = rng.random(prices.shape) > 0.02
        prices[60:, 5] = np.nan
        rate = np.full(len(prices), 0.001)
        slow = ledger_arrays(
            run_backtest(
                targets, prices, tradable=tradable, cost=MarketCost(rate, 0 * rate, 0 * rate)
            )
        )
        fast = ledger_arrays(run_backtest(targets, prices, tradable=tradable))
        for name, value in slow.items():
            np.testing.assert_allclose(fast[name], value, rtol=1e-9, atol=1e-12, err_msg=name)

    def test_an_extreme_cost_is_still_paid_in_full(self) -> None:
        targets, prices = self.plain(4, 1)
        ledger = run_backtest(targets, prices, cost=ProportionalCost(0.1))
        assert ledger.imbalance(prices).max() < 1e-10
        with pytest.raises(ConfigError):
            ProportionalCost(0.2)


def test_beijing_has_a_limit_of_thirty_per_cent() -> None:
    names = ["830799", "bj430047", "920002.BJ", "871981.BJ", "600519", "900901", "688981.SH"]
    boards = boards_of(np.array(names))
    assert boards.tolist() == [*["beijing"] * 4, "main", "main", "star"]
    days = np.array(["2021-11-16", "2023-01-04"], dtype="datetime64[D]")
    special = np.zeros((2, 7), dtype=np.bool_)
    special[:, [0, 4]] = True
    limits = board_limits(days, 7, boards=boards, special=special)
    assert limits[1].tolist() == [0.3, 0.3, 0.3, 0.3, 0.05, 0.1, 0.2]
