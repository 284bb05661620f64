"""Orders: whole lots, within the cash there is, and never for what cannot be traded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_study import save_small

from alphakeel.errors import ConfigError, DataError
from alphakeel.live.decision import decide
from alphakeel.live.orders import (
    OrderTerms,
    alpaca_basket,
    ib_basket,
    order_shares,
    read_account,
    split_notes,
)


def ordered(weights, held, price, cash, *, rate=0.001, tradable=None, **terms):
    weights, held, price = (np.asarray(x, dtype=float) for x in (weights, held, price))
    free = np.ones(len(price), dtype=bool) if tradable is None else np.asarray(tradable)
    return order_shares(
        weights,
        held,
        price,
        cash,
        terms=OrderTerms(**terms),
        charge=lambda trades: rate * np.abs(trades),
        tradable=free,
    )


class TestOrders:
    def test_by_hand(self) -> None:
        # 0.5 of 1000 less the cost of 1 is 499.5 each: 9 shares of 50 and 16 of 30.
        assert ordered([0.5, 0.5], [0, 0], [50.0, 30.0], 1000.0).tolist() == [9.0, 16.0]

    def test_a_position_that_is_given_up_is_sold_with_its_odd_shares(self) -> None:
        assert ordered([0.0, 0.0], [150, 7], [10.0, 9.0], 0.0, lot=100).tolist() == [-150.0, -7.0]

    def test_lots(self) -> None:
        orders = ordered([0.4, 0.6], [0, 350], [10.0, 20.0], 10_000.0, lot=100)
        assert (orders % 100 == 0).all()
        # Wealth 17,000: 680 shares and 510 are wanted.
        assert orders.tolist() == [600.0, 100.0]

    def test_what_cannot_be_traded_stays(self) -> None:
        orders = ordered([0.0, 1.0], [100, 0], [10.0, 10.0], 0.0, tradable=[False, True])
        assert orders.tolist() == [0.0, 0.0]
        orders = ordered([0.0, 1.0], [100, 0], [10.0, 10.0], 500.0, tradable=[False, True])
        assert orders.tolist() == [0.0, 49.0]  # only the cash buys

    def test_small_trades_are_left_out(self) -> None:
        orders = ordered([0.5, 0.5], [99, 100], [10.0, 10.0], 20.0, min_trade=50.0)
        assert orders.tolist() == [0.0, 0.0]

    def test_cash_is_kept(self) -> None:
        orders = ordered([1.0], [0], [1.0], 1000.0, keep_cash=300.0, rate=0.0)
        assert orders.tolist() == [700.0]

    def test_fractions(self) -> None:
        orders = ordered([0.5, 0.5], [0, 0], [300.0, 7.0], 1000.0, fractional=True, rate=0.0)
        assert orders == pytest.approx([500 / 300, 500 / 7])
        with pytest.raises(ConfigError, match="lots of 100"):
            OrderTerms(lot=100, fractional=True)

    @settings(max_examples=200, deadline=None)
    @given(
        st.integers(1, 8),
        st.integers(0, 2**32 - 1),
        st.sampled_from([1, 100]),
        st.floats(0.0, 0.02),
    )
    def test_cash_is_never_overdrawn(self, n: int, seed: int, lot: int, rate: float) -> None:
        rng = np.random.default_rng(seed)
        weights = rng.dirichlet(np.ones(n + 1))[:n] * (rng.random(n) > 0.3)
        held = np.floor(rng.random(n) * 300) * (rng.random(n) > 0.4)
        price, cash = rng.uniform(1.0, 200.0, n), float(rng.uniform(0.0, 1e5))
        tradable = rng.random(n) > 0.2
        keep = cash * 0.1
        orders = ordered(
            weights, held, price, cash, rate=rate, tradable=tradable, lot=lot, keep_cash=keep
        )
        assert (held + orders >= 0.0).all()
        assert (orders[~tradable] == 0.0).all()
        given_up = (weights == 0.0) & (orders < 0.0)
        assert (orders[~given_up] % lot == 0.0).all()
        value = orders * price
        left = cash - value.sum() - rate * np.abs(value).sum()
        # Without a buy the sales may not be enough to keep what should be kept.
        assert left >= keep - 1e-6 or not (orders > 0.0).any()


class TestFiles:
    def orders(self) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "ticker": ["A", "B", "C"],
                "side": ["sell", "buy", ""],
                "shares": [10.0, 2.5, 0.0],
            }
        )

    def test_baskets(self) -> None:
        assert ib_basket(self.orders(), "tag").splitlines()[1:] == [
            "SELL,10,A,STK,SMART,USD,DAY,MOC,tag",
            "BUY,2.5,B,STK,SMART,USD,DAY,MOC,tag",
        ]
        assert alpaca_basket(self.orders(), "tag").splitlines()[1:] == [
            "A,10,sell,market,cls,tag-A",
            "B,2.5,buy,market,day,tag-B",
        ]

    def test_holdings(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.csv"
        path.write_text('\ufeffSymbol,Quantity,Note\nA,"1,200",x\n\nCASH,50.5,\n', "utf-8")
        account = read_account(path)
        assert (dict(account.shares), account.cash) == ({"A": 1200.0}, 50.5)
        with pytest.raises(DataError, match="cannot read"):
            read_account(tmp_path / "none.csv")


def test_a_split_of_what_is_held_is_said() -> None:
    days = np.arange("2014-06-02", "2014-06-12", dtype="datetime64[D]")
    adjusted = np.linspace(90.0, 95.0, 10)[:, None] * np.ones(4)
    traded = adjusted.copy()
    traded[:5, 0] *= 7.0  # split on the sixth day, which has no price of its own
    traded[5, 0] = np.nan
    traded[:3, 1] /= 10.0  # ten shares became one
    traded[:5, 2] *= 1.05  # a large dividend
    traded[:5, 3] *= 2.0  # not held
    notes = split_notes(np.array([70.0, 3.0, 1.0, 0.0]), traded, adjusted, days, list("ABCD"))
    assert notes[0].startswith("The shares of A were split 7:1 on 2014-06-08:")
    assert "B were joined 1:10 on 2014-06-05" in notes[1]
    assert len(notes) == 2


def test_lots_and_notes_of_the_chinese_market(tmp_path: Path) -> None:
    saved = save_small(tmp_path, "linear", costs={"preset": "cn"})
    decision = decide(saved.run, saved.panel, cash=1e6, strategy="linear")
    assert decision.orders is not None
    assert (decision.orders["shares"] % 100 == 0.0).all()
    assert (decision.orders["cost"] >= 5.0).all()
    assert 0.0 <= decision.account["cash_after"] < 1e6
    with pytest.raises(ConfigError, match="lots of 100"):
        decide(saved.run, saved.panel, cash=1e6, strategy="linear", fractional=True)
    # A stock that is suspended on the last day gets no order, and is named.
    ticker = decision.orders["ticker"].iloc[0]
    column = list(saved.study.asset_names).index(ticker)
    halted = saved.panel.copy(deep=True)
    for name in ("adj_close", "close", "open", "high", "low", "volume"):
        if name in halted.fields:
            halted.fields[name].values[-1, column] = np.nan
    mask = np.array(halted.estimation_mask)
    mask[-1, column] = False
    halted.estimation_mask = mask
    there = decide(saved.run, halted, {str(ticker): 100}, cash=1e6, strategy="linear").orders
    assert there is not None
    (row,) = there[there["ticker"] == ticker].to_dict("records")
    assert row["shares"] == 0.0
    assert "suspended" in row["note"]


def test_longs_and_shorts(tmp_path: Path) -> None:
    saved = save_small(tmp_path, "linear", allocation={"neutral": "dollar"})
    decision = decide(saved.run, saved.panel, cash=1e6, strategy="linear")
    assert decision.orders is not None
    assert {"buy", "sell"} <= set(decision.orders["side"])
    assert abs(sum(decision.weights.values())) < 0.2
    assert decision.risk["volatility"] > 0.0
    held = {row["ticker"]: row["shares"] * (1 if row["side"] == "buy" else -1)
            for row in decision.orders.to_dict("records")}  # fmt: skip
    again = decide(
        saved.run, saved.panel, held, cash=decision.account["cash_after"], strategy="linear"
    )
    assert again.account["turnover"] < 0.01
