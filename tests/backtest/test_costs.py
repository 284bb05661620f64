"""Cost models, dated schedules, price limits and the presets of two markets."""

from __future__ import annotations

from dataclasses import fields
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphakeel.backtest import costs
from alphakeel.backtest.costs import MarketCost, ProportionalCost, rates_on, square_root_impact
from alphakeel.backtest.market_rules import (
    Margin,
    TradingConstraints,
    board_limits,
    cn_market,
    price_limits,
    reference_prices,
    us_market,
)
from alphakeel.errors import ConfigError, DataError


def days(*text: str) -> np.ndarray:
    return np.array(text, dtype="datetime64[D]")


class TestMarketCost:
    def test_a_chinese_order_by_hand(self) -> None:
        # 0.03 % commission, at least 5; 0.102 % a side; 0.1 % tax on the sale.
        cost = MarketCost(np.array([0.0003]), np.array([0.00102]), np.array([0.00202]), minimum=5.0)
        paid = cost.charge(np.array([100_000.0, -100_000.0, 10_000.0, 0.0]), row=0)
        np.testing.assert_allclose(paid, [30 + 102, 30 + 202, 5 + 10.2, 0.0], rtol=1e-12)

    def test_impact_by_hand(self) -> None:
        # 4 % of the daily volume in a stock of 3 % a day: 0.03 x sqrt(0.04) = 0.6 %.
        impact = square_root_impact(np.array([[0.03]]), np.array([[5e6]]))
        none = np.zeros(1)
        paid = MarketCost(none, none, none, impact=impact).charge(np.array([-2e5]), row=0)
        assert paid[0] == pytest.approx(0.006 * 2e5)

    @given(
        seed=st.integers(0, 10**6), minimum=st.sampled_from([0.0, 5.0]), with_impact=st.booleans()
    )
    @settings(max_examples=40, deadline=None)
    def test_equals_the_sum_of_its_parts(
        self, seed: int, minimum: float, with_impact: bool
    ) -> None:
        rng = np.random.default_rng(seed)
        trades = rng.normal(0.0, 1e4, 8) * rng.integers(0, 2, 8)
        rates = rng.uniform(0.0, 0.003, (3, 4))
        impact = square_root_impact(np.full((4, 8), 0.02), rng.uniform(1e6, 1e8, (4, 8)))
        cost = MarketCost(*rates, minimum=minimum, impact=impact if with_impact else None)
        row = int(rng.integers(4))
        expected = []
        for i, order in enumerate(trades):
            size = abs(order)
            fee = min(max(rates[0, row] * size, minimum), size)
            fee += size * (rates[1, row] if order > 0 else rates[2, row])
            expected.append(fee + (impact[row, i] * size**1.5 if with_impact else 0.0))
        copy, out = trades.copy(), np.full(8, np.nan)
        np.testing.assert_allclose(cost.charge(trades, row), expected, rtol=1e-10, atol=1e-9)
        assert cost.charge(trades, row, out=out) is out
        np.testing.assert_array_equal(out, cost.charge(trades, row))
        np.testing.assert_array_equal(trades, copy)
        assert (out >= 0.0).all()
        assert not out[trades == 0.0].any()

    def test_no_impact_where_volume_or_volatility_is_unknown(self) -> None:
        rate = square_root_impact(np.array([[np.nan, 0.02, 0.02]]), np.array([[1.0, 0.0, np.nan]]))
        np.testing.assert_array_equal(rate, 0.0)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda r: MarketCost(r + 0.2, r, r), "commission"),
            (lambda r: MarketCost(r, r - 0.1, r), "buy"),
            (lambda r: MarketCost(r, r, np.zeros((2, 2))), "sell"),
            (lambda r: MarketCost(r, r, r, minimum=-1.0), "minimum"),
            (lambda r: square_root_impact(r, r, coefficient=-1.0), "coefficient"),
        ],
    )
    def test_refusals(self, call: object, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            call(np.zeros(2))  # type: ignore[operator]


class TestSchedules:
    @pytest.mark.parametrize(
        ("day", "buy", "sell"),
        [
            ("1990-12-19", 0.003, 0.003),
            ("1997-05-12", 0.005, 0.005),
            ("1998-06-12", 0.004, 0.004),
            ("2001-11-16", 0.002, 0.002),
            ("2005-01-24", 0.001, 0.001),
            ("2007-05-29", 0.001, 0.001),
            ("2007-05-30", 0.003, 0.003),
            ("2008-04-24", 0.001, 0.001),
            ("2008-09-18", 0.001, 0.001),
            ("2008-09-19", 0.0, 0.001),
            ("2023-08-27", 0.0, 0.001),
            ("2023-08-28", 0.0, 0.0005),
        ],
    )
    def test_stamp_tax(self, day: str, buy: float, sell: float) -> None:
        assert rates_on(costs.CN_STAMP_TAX_BUY, days(day))[0] == buy
        assert rates_on(costs.CN_STAMP_TAX_SELL, days(day))[0] == sell

    @pytest.mark.parametrize(
        ("day", "dollars"),
        [  # the notices of FINRA and the SEC's advisories of these days
            ("2001-12-27", 33.3),
            ("2001-12-28", 15.0),
            ("2003-03-22", 25.2),
            ("2003-04-01", 46.8),
            ("2008-04-01", 5.6),
            ("2010-01-15", 12.7),
            ("2010-04-01", 16.9),
            ("2011-01-21", 19.2),
            ("2014-03-17", 17.4),
            ("2014-03-18", 22.1),
            ("2018-05-21", 23.1),
            ("2018-05-22", 13.0),
            ("2019-04-16", 20.7),
            ("2020-02-18", 22.1),
            ("2021-02-25", 5.1),
            ("2025-05-13", 27.8),
            ("2025-05-14", 0.0),
        ],
    )
    def test_section_31(self, day: str, dollars: float) -> None:
        assert rates_on(costs.US_SECTION_31, days(day))[0] == pytest.approx(dollars * 1e-6)

    def test_days_are_in_order_and_rates_are_fractions(self) -> None:
        every = {name: getattr(costs, name) for name in costs.__all__}
        dated = {name: found for name, found in every.items() if isinstance(found, tuple)}
        assert {"CN_STAMP_TAX_SELL", "US_SECTION_31"} < dated.keys()
        for name, schedule in dated.items():
            first = days(*(day for day, _ in schedule))
            assert (np.diff(first) > np.timedelta64(0)).all(), name
            assert all(0.0 <= rate < 0.006 for _, rate in schedule), name

    def test_dates_have_to_be_dates(self) -> None:
        with pytest.raises(DataError, match="datetime64"):
            rates_on(costs.CN_TRANSFER_FEE, np.arange(3))


class TestPriceLimits:
    @given(
        cents=st.integers(1, 10**6),
        per_cent=st.sampled_from([5, 10, 20, 30]),
        move=st.integers(-3, 3),
        up=st.booleans(),
    )
    @settings(max_examples=200, deadline=None)
    def test_equal_decimal_arithmetic(self, cents: int, per_cent: int, move: int, up: bool) -> None:
        before = Decimal(cents) / 100
        cent = Decimal("0.01")
        top = (before * (100 + per_cent) / 100).quantize(cent, ROUND_HALF_UP)
        low = (before * (100 - per_cent) / 100).quantize(cent, ROUND_HALF_UP)
        close = max((top if up else low) + move * cent, cent)
        at_up, at_down = price_limits(np.array([[float(before)], [float(close)]]), per_cent / 100)
        assert at_up[1, 0] == (close >= top)
        assert at_down[1, 0] == (close <= low)

    def test_by_hand_and_without_a_price(self) -> None:
        # 10.05 x 1.1 = 11.055, to 11.06; x 0.9 = 9.045, to 9.05; x 1.05 = 10.5525, to 10.55.
        close = np.array([[10.05] * 5, [11.06, 11.05, 9.05, 9.06, np.nan]])
        up, down = price_limits(close, 0.1)
        assert up[1].tolist() == [True, False, False, False, False]
        assert down[1].tolist() == [False, False, True, False, False]
        assert not up[0].any()
        up, _ = price_limits(close, np.array([0.05, 0.05, 0.05, np.nan, 0.05]))
        assert up[1].tolist() == [True, True, False, False, False]

    def test_an_ex_day_starts_from_the_price_without_the_dividend(self) -> None:
        close = np.array([[10.0, 10.0], [5.5, 9.5]])  # a split in two and 10 %; a dividend of 0.5
        accounting = np.array([[10.0, 10.0], [11.0, 10.0]])
        reference = reference_prices(close, accounting)
        np.testing.assert_allclose(reference[1], [5.0, 9.5])
        up, down = price_limits(close, 0.1, reference=reference)
        assert up[1].tolist() == [True, False]
        assert not down[1].any()
        assert price_limits(close, 0.1)[1][1].tolist() == [True, False]  # else a crash

    def test_ordinary_days_start_from_the_close_before_to_the_bit(self) -> None:
        rng = np.random.default_rng(0)
        close = np.round(20.0 * np.exp(np.cumsum(rng.normal(0, 0.02, (200, 5)), axis=0)), 2)
        reference = reference_prices(close, close * 3.7)
        np.testing.assert_array_equal(reference[1:], close[:-1])

    def test_boards(self) -> None:
        dates = days("2020-08-21", "2020-08-24")
        special = np.array([[True, True, True, False]] * 2)
        limits = board_limits(
            dates, 4, boards=np.array(["main", "chinext", "star", "main"]), special=special
        )
        np.testing.assert_array_equal(limits, [[0.05, 0.05, 0.2, 0.1], [0.05, 0.2, 0.2, 0.1]])
        with pytest.raises(DataError, match="boards have"):
            board_limits(dates, 1, boards=np.array(["nasdaq"]))
        with pytest.raises(DataError, match="special has"):
            board_limits(dates, 1, special=np.ones((1, 1), dtype=bool))

    def test_refusals(self) -> None:
        with pytest.raises(DataError, match="whole per cent"):
            price_limits(np.ones((2, 1)), 0.123)
        with pytest.raises(DataError, match="at_up_limit has type"):
            TradingConstraints(at_up_limit=np.ones((2, 1)))  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="max_gross"):
            Margin(max_gross=0.5)
        with pytest.raises(ConfigError, match="borrow_rate"):
            Margin(borrow_rate=3.0)


class TestPresets:
    rng = np.random.default_rng(1)
    accounting = 20.0 * np.exp(np.cumsum(rng.normal(0, 0.03, (120, 3)), axis=0))
    close = np.round(accounting, 2)
    volume = np.exp(rng.normal(12, 1, (120, 3)))
    dates = np.busday_offset("2023-06-01", np.arange(120))

    def arrays(self, close: np.ndarray, accounting: np.ndarray, volume: np.ndarray) -> dict:
        market = cn_market(self.dates, close=close, accounting=accounting, volume=volume)
        constraints, cost = market.constraints, market.cost
        return {
            "up": constraints.at_up_limit,
            "down": constraints.at_down_limit,
            "lot": constraints.lot_value,
            "capacity": constraints.capacity,
            "impact": cost.impact,
            "sell": cost.sell,
        }

    def test_china_by_hand(self) -> None:
        market = cn_market(
            self.dates, close=self.close, accounting=self.accounting, volume=self.volume
        )
        t = 100
        np.testing.assert_allclose(market.constraints.lot_value[t], 100 * self.close[t])
        traded = self.close * self.volume
        np.testing.assert_allclose(market.constraints.capacity[t], 0.1 * traded[t])
        returns = self.accounting[1:] / self.accounting[:-1] - 1.0
        volatility = returns[t - 61 : t - 1].std(axis=0, ddof=1)  # of rows t-60 to t-1
        expected = volatility / np.sqrt(traded[t - 20 : t].mean(axis=0))
        np.testing.assert_allclose(market.cost.impact[t], expected, rtol=1e-6)
        before, after = np.searchsorted(self.dates, days("2023-08-25", "2023-08-28"))
        assert market.cost.sell[before] - market.cost.sell[after] == pytest.approx(0.0005)
        assert market.cost.buy[before] == market.cost.buy[after] == pytest.approx(0.00101)
        assert market.cost.minimum == 5.0
        assert any("Stamp tax 0.05 to 0.1 % on sales" in line for line in market.text)

    def test_what_is_not_known_cannot_be_traded(self) -> None:
        market = us_market(
            self.dates, close=self.close, volume=self.volume, accounting=self.accounting
        )
        assert not market.constraints.capacity[:3].any()  # no volatility yet
        assert market.constraints.capacity[3:].all()
        assert not market.constraints.binds or market.constraints.lot_value is None

    def test_scrambled_future_leaves_the_past_to_the_bit(self) -> None:
        base = self.arrays(self.close, self.accounting, self.volume)
        rng = np.random.default_rng(5)
        for t in (40, 63, 64, 90):
            noisy = [x.copy() for x in (self.close, self.accounting, self.volume)]
            for x in noisy:
                x[t + 1 :] *= np.exp(rng.normal(0.0, 1.0, x[t + 1 :].shape))
            for name, value in self.arrays(*noisy).items():
                np.testing.assert_array_equal(value[: t + 1], base[name][: t + 1], err_msg=name)

    def test_a_part_of_the_days_keeps_what_the_days_before_taught(self) -> None:
        market = us_market(
            self.dates, close=self.close, volume=self.volume, accounting=self.accounting
        )
        part = market.between(slice(70, 90))
        np.testing.assert_array_equal(part.constraints.capacity, market.constraints.capacity[70:90])
        np.testing.assert_array_equal(part.cost.impact, market.cost.impact[70:90])
        np.testing.assert_array_equal(part.cost.sell, market.cost.sell[70:90])
        assert part.constraints.lot_value is None

    @pytest.mark.parametrize("country", [us_market, cn_market])
    def test_the_rules_of_some_days_are_those_of_all_cut_to_them(self, country: Any) -> None:
        given = {"close": self.close, "volume": self.volume, "accounting": self.accounting}
        whole = country(self.dates, **given)
        for rows in (slice(0, 50), slice(70, 90), slice(100, 120)):
            cut, own = whole.between(rows), country(self.dates, **given, rows=rows)
            assert own.text == whole.text
            for part in ("cost", "constraints"):
                for field in fields(getattr(cut, part)):
                    np.testing.assert_array_equal(
                        getattr(getattr(own, part), field.name),
                        getattr(getattr(cut, part), field.name),
                    )

    def test_without_volumes(self) -> None:
        market = us_market(self.dates)
        assert not market.constraints.binds
        assert market.cost.impact is None
        assert any("no volumes" in line for line in market.text)

    @pytest.mark.parametrize(
        ("kwargs", "error"),
        [
            ({"participation": 0.0}, ConfigError),
            ({"impact": -1.0}, ConfigError),
            ({"volume": np.ones((120, 3))}, DataError),
        ],
    )
    def test_refusals(self, kwargs: dict, error: type[Exception]) -> None:
        with pytest.raises(error):
            us_market(self.dates, **kwargs)
        with pytest.raises(ConfigError, match="lot"):
            cn_market(self.dates, close=self.close, lot=0)


def test_a_proportional_cost_is_a_market_cost_with_equal_sides() -> None:
    trades = np.array([100.0, -50.0, 0.0])
    flat = MarketCost(np.full(1, 0.001), np.zeros(1), np.zeros(1))
    np.testing.assert_allclose(flat.charge(trades, 0), ProportionalCost(0.001).charge(trades, 0))
