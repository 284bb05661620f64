"""Panels: frames in and out, listing and suspension, point-in-time joins."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from skfolio.containers import AssetPanel

from alphakeel.data.assembly import join_asof
from alphakeel.data.grid import Grid
from alphakeel.data.panel import (
    market_index,
    panel_from_long,
    panel_from_wide,
    panel_to_long,
    panel_to_wide,
    sector_codes,
    universe_mask,
    validate,
)
from alphakeel.data.universe import most_traded
from alphakeel.data.validation import previous_valid
from alphakeel.errors import DataError
from helpers import random_walk

DAYS = pd.bdate_range("2015-01-01", periods=60)


def walk(n_dates: int = 60, n_assets: int = 4, seed: int = 0) -> pd.DataFrame:
    prices = random_walk(n_dates, n_assets, seed=seed, scale=0.02)
    return pd.DataFrame(prices, index=DAYS[:n_dates], columns=[f"S{i}" for i in range(n_assets)])


def long_of(**wide: pd.DataFrame) -> pd.DataFrame:
    columns = {name: frame.stack(future_stack=True) for name, frame in wide.items()}
    return pd.DataFrame(columns).rename_axis(["date", "ticker"]).reset_index()


def assert_equal(one: AssetPanel, two: AssetPanel) -> None:
    np.testing.assert_array_equal(one.observations, two.observations)
    np.testing.assert_array_equal(one.asset_names, two.asset_names)
    np.testing.assert_array_equal(one.active_mask, two.active_mask)
    np.testing.assert_array_equal(one.estimation_mask, two.estimation_mask)
    assert set(one.keys()) == set(two.keys())
    for name in one.keys():  # noqa: SIM118
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


class TestShapes:
    def test_wide_and_long_agree(self) -> None:
        prices, volume = walk(), walk(seed=1).round()
        wide = panel_from_wide({"adj_close": prices, "volume": volume})
        assert_equal(panel_from_long(long_of(adj_close=prices, volume=volume)), wide)
        np.testing.assert_array_equal(wide["adj_close"], prices.to_numpy())
        assert wide.observations.dtype == np.dtype("datetime64[D]")

    def test_close_stands_in_for_adj_close(self) -> None:
        panel = panel_from_wide({"close": walk()})
        np.testing.assert_array_equal(panel["adj_close"], panel["close"])

    def test_union_of_dates_and_tickers(self) -> None:
        prices = walk()
        volume = prices.iloc[10:, [0]].rename(columns={"S0": "S0"})
        panel = panel_from_wide({"adj_close": prices, "volume": volume})
        assert panel["volume"].shape == (60, 4)
        assert np.isnan(panel["volume"][:10]).all()
        assert np.isnan(panel["volume"][:, 1:]).all()

    def test_round_trip_with_everything(self) -> None:
        prices = walk()
        prices.iloc[:5, 0] = np.nan
        prices.iloc[30:33, 1] = np.nan
        prices.iloc[35:, 2] = np.nan
        spells = pd.DataFrame(
            {"ticker": ["S0", "S3"], "start_date": [DAYS[0]] * 2, "end_date": [None, DAYS[20]]}
        )
        panel = panel_from_wide(
            {"adj_close": prices, "close": prices, "market_cap": prices * 1e6},
            sector={"S0": "Energy", "S1": "Tech", "S2": "Tech"},
            index=walk(seed=3)["S0"],
            membership=spells,
        )
        assert_equal(panel_from_long(panel_to_long(panel)), panel)

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def test_round_trip_over_any_pattern_of_gaps(self, data: st.DataObject) -> None:
        n_dates, n_assets = data.draw(st.integers(2, 12)), data.draw(st.integers(2, 5))
        price = st.one_of(st.just(np.nan), st.floats(1.0, 50.0))
        rows = data.draw(
            st.lists(
                st.lists(price, min_size=n_assets, max_size=n_assets),
                min_size=n_dates,
                max_size=n_dates,
            )
        )
        prices = pd.DataFrame(rows, DAYS[:n_dates], [f"S{i}" for i in range(n_assets)])
        prices.iloc[:, 0] = 5.0
        prices = prices.loc[:, prices.notna().any()]
        if prices.shape[1] < 2:
            return
        panel = panel_from_wide({"adj_close": prices}, delisting_gap=data.draw(st.integers(0, 5)))
        gap = 0 if not panel.active_mask[-1].all() else 20
        again = panel_from_long(panel_to_long(panel), delisting_gap=gap)
        pd.testing.assert_frame_equal(panel_to_long(again), panel_to_long(panel))
        # Every price is kept, and none lies outside the listing.
        np.testing.assert_array_equal(
            panel["adj_close"], prices[panel.asset_names.tolist()].to_numpy()
        )

    @settings(max_examples=10, deadline=None)
    @given(order=st.permutations(range(4)), seed=st.integers(0, 5))
    def test_order_of_assets_and_rows_is_irrelevant(self, order: list[int], seed: int) -> None:
        prices = walk(20, seed=seed)
        panel = panel_from_wide({"adj_close": prices})
        assert_equal(panel_from_wide({"adj_close": prices.iloc[:, order]}), panel)
        by_stock = long_of(adj_close=prices.iloc[:, order]).sort_values("ticker", kind="stable")
        assert_equal(panel_from_long(by_stock), panel)
        labelled = by_stock.assign(
            ticker=pd.Categorical(by_stock["ticker"], ["S3", "S1", "S2", "S0"])
        )
        assert_equal(panel_from_long(labelled), panel)

    def test_input_is_not_changed(self) -> None:
        frame = long_of(adj_close=walk(), volume=walk(seed=1))
        before = frame.copy(deep=True)
        panel_from_long(frame)
        pd.testing.assert_frame_equal(frame, before)

    def test_wide_out(self) -> None:
        prices = walk()
        panel = panel_from_wide({"adj_close": prices}, sector={"S1": "Tech"})
        np.testing.assert_array_equal(panel_to_wide(panel, "adj_close"), prices)
        assert panel_to_wide(panel, "sector").iloc[0].tolist() == [None, "Tech", None, None]
        with pytest.raises(DataError, match="'volume'"):
            panel_to_wide(panel, "volume")


class TestMasks:
    def test_listing_delisting_suspension(self) -> None:
        prices = walk()
        prices.iloc[:7, 0] = np.nan  # lists on day 7
        prices.iloc[50:, 1] = np.nan  # last price 10 dates before the end
        prices.iloc[20:25, 2] = np.nan  # suspended
        panel = panel_from_wide({"adj_close": prices}, delisting_gap=9)
        assert np.flatnonzero(panel.active_mask[:, 0])[0] == 7
        assert np.flatnonzero(panel.active_mask[:, 1])[-1] == 49
        assert panel.active_mask[:, 2].all()
        assert not panel.estimation_mask[20:25, 2].any()
        assert np.isnan(panel["adj_close"][20:25, 2]).all()
        longer = panel_from_wide({"adj_close": prices}, delisting_gap=10)
        assert longer.active_mask[-1, 1]
        assert not longer.estimation_mask[-1, 1]

    def test_a_repeated_close_on_no_volume_is_not_a_trade(self) -> None:
        prices, volume = walk(), walk(seed=1)
        prices.iloc[10, 0] = prices.iloc[9, 0]
        prices.iloc[11, 1] = prices.iloc[10, 1]
        volume.iloc[[10, 12], 0] = 0.0
        panel = panel_from_wide({"adj_close": prices, "volume": volume})
        assert not panel.estimation_mask[10, 0]
        assert panel.estimation_mask[12, 0], "the price moved"
        assert panel.estimation_mask[11, 1], "there was volume"

    def test_previous_valid_against_pandas(self) -> None:
        values = walk().to_numpy().copy()
        values[np.random.default_rng(0).random(values.shape) < 0.5] = np.nan
        expected = pd.DataFrame(values).ffill().shift().to_numpy()
        np.testing.assert_array_equal(previous_valid(values), expected)

    def test_membership_and_universe(self) -> None:
        spells = pd.DataFrame(
            {
                "ticker": ["S0", "S0", "S1", "ELSEWHERE"],
                "start_date": [DAYS[5], DAYS[40], DAYS[5], DAYS[2]],
                "end_date": [DAYS[20], pd.NaT, pd.NaT, pd.NaT],
            }
        )
        panel = panel_from_wide({"adj_close": walk()}, membership=spells)
        member = panel["member"]
        assert np.isnan(member[:2]).all(), "unknown before the first spell"
        assert universe_mask(panel)[:2].all()
        np.testing.assert_array_equal(
            np.flatnonzero(member[:, 0] == 1), [*range(5, 20), *range(40, 60)]
        )
        assert (member[5:, 1] == 1).all()
        assert (member[2:, 2:] == 0).all()
        assert not universe_mask(panel)[2:, 2:].any()
        assert universe_mask(panel_from_wide({"adj_close": walk()})).all()

    def test_index_and_sector(self) -> None:
        level = pd.Series(np.arange(1.0, 60.0), index=DAYS[1:])
        panel = panel_from_wide({"adj_close": walk()}, sector={"S1": "Tech"}, index=level)
        np.testing.assert_array_equal(market_index(panel), [np.nan, *range(1, 60)])
        np.testing.assert_array_equal(sector_codes(panel)[0], [-1, 0, -1, -1])
        prices_only = panel_from_wide({"adj_close": walk()})
        assert market_index(prices_only) is None
        assert sector_codes(prices_only) is None

    def test_a_sector_lasts_through_a_suspension(self) -> None:
        prices = walk(10)
        prices.iloc[4, 0] = np.nan
        frame = long_of(adj_close=prices).dropna()
        frame["sector"] = np.where(frame["date"] < DAYS[7], "Old", "New")
        codes = sector_codes(panel_from_long(frame))
        np.testing.assert_array_equal(codes[:, 0], [1] * 7 + [0] * 3)


def replaced(row: int, column: int, value: float) -> pd.DataFrame:
    prices = walk()
    prices.iloc[row, column] = value
    return prices


REFUSED = {
    "zero": (lambda: {"adj_close": replaced(3, 1, 0.0)}, r"adj_close of S1 on 2015-01-06 is 0"),
    "negative": (lambda: {"adj_close": replaced(3, 1, -2.0)}, r"adj_close of S1 on 2015-01-06"),
    "infinite": (lambda: {"adj_close": replaced(3, 1, np.inf)}, r"adj_close of S1 on 2015-01-06"),
    "huge": (lambda: {"adj_close": replaced(3, 1, 1e30)}, r"adj_close of S1 on 2015-01-06"),
    "absurd": (lambda: {"adj_close": replaced(3, 1, 1e6)}, r"adj_close of S1 .* on 2015-01-06"),
    "volume": (
        lambda: {"adj_close": walk(), "volume": replaced(3, 1, -1.0)},
        r"volume of S1 on 2015-01-06 is -1",
    ),
    "yield": (
        lambda: {"adj_close": walk(), "book_to_price": replaced(3, 1, np.inf)},
        r"book_to_price of S1 on 2015-01-06",
    ),
    "value": (
        lambda: {"adj_close": walk(), "market_cap": replaced(3, 1, 0.0)},
        r"market_cap of S1 on 2015-01-06",
    ),
    "unsorted": (lambda: {"adj_close": walk().iloc[::-1]}, r"not sorted: 2015-03-24"),
    "date twice": (
        lambda: {"adj_close": pd.concat([walk(), walk().iloc[-1:]])},
        r"2015-03-25 occurs more than once",
    ),
    "ticker twice": (
        lambda: {"adj_close": pd.concat([walk(), walk()], axis=1)},
        r"ticker S0 occurs more than once",
    ),
    "early": (
        lambda: {"adj_close": walk().set_axis([pd.Timestamp("1899-12-29"), *DAYS[1:]])},
        r"1899-12-29 lies before 1900",
    ),
    "future": (
        lambda: {"adj_close": walk().set_axis([*DAYS[:-1], pd.Timestamp("2199-01-01")])},
        r"2199-01-01 lies in the future",
    ),
    "one date": (lambda: {"adj_close": walk().iloc[:1]}, r"there is 1 date, but at least 2"),
    "one stock": (lambda: {"adj_close": walk()[["S0"]]}, r"there is 1 stock, but at least 2"),
    "empty stock": (lambda: {"adj_close": walk().assign(S9=np.nan)}, r"adj_close of S9"),
    "idle date": (
        lambda: {"adj_close": walk().where(walk().index.to_series() != DAYS[4])},
        r"no stock traded on 2015-01-07",
    ),
    "text": (lambda: {"adj_close": walk().astype(object).replace(walk().iloc[3, 1], "x")}, r"'x'"),
    "unknown field": (lambda: {"prices": walk()}, r"'prices' is not a field"),
    "no price": (lambda: {"volume": walk()}, r"adj_close or close is needed"),
    "no table": (dict, r"adj_close is needed"),
}


class TestRefusals:
    @pytest.mark.parametrize("name", REFUSED)
    def test_wide(self, name: str) -> None:
        build, words = REFUSED[name]
        with pytest.raises(DataError, match=words) as caught:
            panel_from_wide(build())
        assert str(caught.value).endswith(".")
        assert ". " not in str(caught.value)

    def test_long(self) -> None:
        frame = long_of(adj_close=walk())
        with pytest.raises(DataError, match="dates of S0 are not sorted: 2015-03-24"):
            panel_from_long(frame.iloc[::-1].sort_values("ticker", kind="stable"))
        with pytest.raises(DataError, match="S1 has 2 rows for 2015-01-06"):
            panel_from_long(pd.concat([frame, frame.iloc[[13]]]).sort_values("date", kind="stable"))
        with pytest.raises(DataError, match="column 'ticker' is missing"):
            panel_from_long(frame.drop(columns="ticker"))
        with pytest.raises(DataError, match="'name' is not a field"):
            panel_from_long(frame.assign(name="x"))
        with pytest.raises(DataError, match="row 3: date is missing"):
            panel_from_long(frame.assign(date=frame["date"].where(frame.index != 2)))
        mixed = frame["date"].astype(object)
        mixed[9] = pd.Timestamp("2015-01-05", tz="Asia/Tokyo")
        with pytest.raises(DataError, match="time zone"):
            panel_from_long(frame.assign(date=mixed))

    def test_one_time_zone_gives_its_own_days(self) -> None:
        frame = long_of(adj_close=walk())
        local = frame.assign(date=frame["date"].dt.tz_localize("America/New_York"))
        assert_equal(panel_from_long(local), panel_from_long(frame))

    def test_today_can_be_set(self) -> None:
        with pytest.raises(DataError, match="future"):
            panel_from_wide({"adj_close": walk()}, today=dt.date(2015, 2, 1))

    def test_ids_in_place_of_tickers(self) -> None:
        n = 4000
        frame = pd.DataFrame(
            {
                "date": pd.date_range("2000-01-03", periods=n).repeat(1),
                "ticker": [f"order-{i}" for i in range(n)],
                "adj_close": 1.0,
            }
        )
        with pytest.raises(DataError, match="4000 different tickers"):
            panel_from_long(frame)

    def test_validate_a_panel_built_elsewhere(self) -> None:
        panel = panel_from_wide({"adj_close": walk()})
        validate(panel)
        values = panel["adj_close"].copy()
        values[3, 1] = np.inf
        bad = AssetPanel({"adj_close": values}, panel.observations, panel.asset_names)
        with pytest.raises(DataError, match="adj_close of S1 on 2015-01-06"):
            validate(bad)
        back = AssetPanel({"adj_close": values[::-1]}, panel.observations[::-1], panel.asset_names)
        with pytest.raises(DataError, match="not sorted"):
            validate(back)
        with pytest.raises(DataError, match="'adj_close'"):
            validate(AssetPanel({"x": values}, panel.observations, panel.asset_names))
        with pytest.raises(DataError, match="not dates"):
            validate(AssetPanel({"adj_close": values}, np.arange(60), panel.asset_names))


def reports(seed: int = 0, n: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "ticker": rng.choice(["S0", "S1", "S2", "XX"], n),
            "available_date": DAYS[0] + pd.to_timedelta(rng.integers(-30, 95, n), unit="D"),
            "eps": np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n)),
        }
    )


def asof_by_hand(panel: AssetPanel, table: pd.DataFrame, max_age: int) -> np.ndarray:
    result = np.full(panel.active_mask.shape, np.nan)
    table = table.dropna(subset="eps").sort_values("available_date", kind="stable")
    for t, day in enumerate(pd.to_datetime(panel.observations)):
        for i, ticker in enumerate(panel.asset_names):
            known = table[(table["ticker"] == ticker) & (table["available_date"] < day)]
            if len(known) and (day - known["available_date"].iloc[-1]).days <= max_age:
                result[t, i] = known["eps"].iloc[-1]
    return result


class TestJoinAsof:
    def test_known_from_the_next_date_on(self) -> None:
        panel = panel_from_wide({"adj_close": walk()})
        table = pd.DataFrame({"ticker": ["S1"], "available_date": [DAYS[10]], "eps": [2.0]})
        values = join_asof(panel, table, ["eps"], max_age_days=400)["eps"]
        assert np.isnan(values[:11]).all(), "not on the day itself"
        assert (values[11:, 1] == 2.0).all()
        assert np.isnan(values[:, [0, 2, 3]]).all()

    def test_published_on_a_weekend(self) -> None:
        panel = panel_from_wide({"adj_close": walk()})
        friday = int(np.flatnonzero(DAYS.day_of_week == 4)[0])
        table = pd.DataFrame(
            {"ticker": ["S1"], "available_date": [DAYS[friday] + pd.Timedelta("1D")], "eps": [2.0]}
        )
        values = join_asof(panel, table, ["eps"], max_age_days=400)["eps"][:, 1]
        assert np.flatnonzero(values == 2.0)[0] == friday + 1

    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("max_age", [400, 10])
    def test_against_a_plain_loop(self, seed: int, max_age: int) -> None:
        panel = panel_from_wide({"adj_close": walk()})
        table = reports(seed)
        values = join_asof(panel, table, ["eps"], max_age_days=max_age)["eps"]
        np.testing.assert_array_equal(values, asof_by_hand(panel, table, max_age))

    def test_scramble_the_future(self) -> None:
        panel = panel_from_wide({"adj_close": walk()})
        table = reports(7, n=80)
        base = join_asof(panel, table, ["eps"], max_age_days=60)["eps"]
        rng = np.random.default_rng(1)
        for t in (5, 17, 30, 58):
            noisy = table.copy()
            later = noisy["available_date"] >= DAYS[t]
            noisy.loc[later, "eps"] = rng.normal(0, 1e12, later.sum())
            noisy.loc[later, "available_date"] += pd.to_timedelta(
                rng.integers(0, 20, later.sum()), unit="D"
            )
            noisy = pd.concat([noisy, reports(9).assign(available_date=DAYS[t])])
            moved = join_asof(panel, noisy, ["eps"], max_age_days=60)["eps"]
            np.testing.assert_array_equal(moved[: t + 1], base[: t + 1])
            assert not np.array_equal(moved[t + 1 :], base[t + 1 :], equal_nan=True)

    def test_a_late_filing_for_an_old_period_does_not_replace_a_new_one(self) -> None:
        panel = panel_from_wide({"adj_close": walk()})
        table = pd.DataFrame(
            {
                "ticker": "S0",
                "available_date": [DAYS[5], DAYS[10]],
                "period_end": ["2014-12-31", "2014-09-30"],
                "eps": [3.0, 1.0],
            }
        )
        values = join_asof(panel, table, ["eps"], max_age_days=400)["eps"][:, 0]
        assert (values[6:] == 3.0).all()
        without = join_asof(panel, table.drop(columns="period_end"), ["eps"], max_age_days=400)
        assert without["eps"][-1, 0] == 1.0

    def test_nothing_outside_the_listing(self) -> None:
        prices = walk()
        prices.iloc[:20, 1] = np.nan
        panel = panel_from_wide({"adj_close": prices})
        table = pd.DataFrame({"ticker": ["S1"], "available_date": [DAYS[3]], "eps": [2.0]})
        values = join_asof(panel, table, ["eps"], max_age_days=400)["eps"][:, 1]
        np.testing.assert_array_equal(np.flatnonzero(values == 2.0), np.arange(20, 60))

    def test_refusals(self) -> None:
        panel = panel_from_wide({"adj_close": walk()})
        table = reports()
        with pytest.raises(DataError, match="'sales'"):
            join_asof(panel, table, ["sales"], max_age_days=400)
        bad = table.assign(eps=["n/v", *[1.0] * 39])
        with pytest.raises(DataError, match=r"eps in row 1 .*'n/v'"):
            join_asof(panel, bad, ["eps"], max_age_days=400)
        with pytest.raises(DataError, match="infinite"):
            join_asof(panel, table.assign(eps=np.inf), ["eps"], max_age_days=400)
        with pytest.raises(DataError, match="available_date in row 1"):
            join_asof(panel, table.assign(available_date="soon"), ["eps"], max_age_days=400)


class TestMostTraded:
    def grid(self, seed: int = 0) -> Grid:
        rng = np.random.default_rng(seed)
        prices = walk(seed=seed).to_numpy()
        volume = rng.lognormal(5, 1, prices.shape)
        volume[rng.random(prices.shape) < 0.1] = np.nan
        return Grid(
            DAYS.to_numpy().astype("datetime64[D]"),
            np.array(["S0", "S1", "S2", "S3"]),
            {"adj_close": prices, "close": prices, "volume": volume},
        )

    def test_against_pandas(self) -> None:
        grid = self.grid()
        money = pd.DataFrame(grid.fields["close"] * grid.fields["volume"])
        median = money.rolling(60, min_periods=1).median().to_numpy()
        chosen = most_traded(grid, 2)
        wide = np.zeros((60, 4))
        wide[:, np.isin(grid.tickers, chosen.tickers)] = chosen.member
        for t in range(60):
            start = np.flatnonzero(DAYS.month == DAYS[t].month)[0]
            best = np.argsort(-median[start])[:2]
            np.testing.assert_array_equal(np.flatnonzero(wide[t]), np.sort(best))

    def test_scramble_the_future(self) -> None:
        grid = self.grid(3)
        base = most_traded(grid, 4)
        t = 33
        rng = np.random.default_rng(0)
        fields = {name: values.copy() for name, values in grid.fields.items()}
        for values in fields.values():
            values[t + 1 :] = rng.lognormal(0, 20, values[t + 1 :].shape)
        noisy = Grid(grid.dates, grid.tickers, fields)
        for top in (1, 2, 3):
            one, two = most_traded(grid, top), most_traded(noisy, top)
            for ticker in base.tickers:
                before = [
                    g.member[: t + 1, g.tickers == ticker].sum() if ticker in g.tickers else 0.0
                    for g in (one, two)
                ]
                assert before[0] == before[1]

    def test_refusals(self) -> None:
        grid = self.grid()
        with pytest.raises(DataError, match="volume"):
            most_traded(Grid(grid.dates, grid.tickers, {"close": grid.fields["close"]}), 2)
        with pytest.raises(DataError, match="at least 1"):
            most_traded(grid, 0)


class TestJoinsOfFrames:
    days = pd.bdate_range("2015-01-01", periods=3)
    prices = pd.DataFrame(10.0, days, ["000001", "600000"]) + np.arange(3.0)[:, None]

    def test_keys_without_zeros_and_with_exchanges_are_found(self) -> None:
        sector = {"1": "Banks", "600000.SH": "Banks"}
        panel = panel_from_wide({"adj_close": self.prices}, sector=sector)
        assert (panel["sector"] >= 0).all()
        spells = pd.DataFrame({"ticker": ["1"], "start_date": [self.days[1]], "end_date": [None]})
        panel = panel_from_wide({"adj_close": self.prices}, membership=spells)
        assert panel["member"][-1].tolist() == [1.0, 0.0]

    def test_keys_of_no_stock_are_refused(self) -> None:
        with pytest.raises(DataError, match="securities names 0 of the 2 stocks"):
            panel_from_wide({"adj_close": self.prices}, sector={"AAPL": "x", "MSFT": "y"})
        spells = pd.DataFrame({"ticker": ["X"], "start_date": [self.days[1]], "end_date": [None]})
        with pytest.raises(DataError, match="membership names 0 of the 2 stocks"):
            panel_from_wide({"adj_close": self.prices}, membership=spells)
