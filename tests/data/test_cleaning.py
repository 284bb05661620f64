"""Cleaning: causal, complete on record, and gentle with real moves."""

from __future__ import annotations

import datetime as dt
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from skfolio.containers import AssetPanel, Field2D

from alphakeel.data import cleaning
from alphakeel.data.cleaning import RULES, CleanResult, clean, suspects
from alphakeel.data.panel import panel_from_long
from alphakeel.data.simulation import simulate_market
from alphakeel.errors import ConfigError, LookAheadWarning
from alphakeel.stats.cross_section import winsorize
from helpers import random_walk, with_fields

Floats = NDArray[np.float64]
EVERY_RULE: dict[str, Any] = {
    "min_history": 60,
    "min_price": 15.0,
    "drop_illiquid": 0.1,
    "drop_small": 0.1,
    "winsor_limit": 4.0,
    "max_missing": 0.02,
    "stale_days": 3,
}


def price_panel(prices: Floats, **extra: Floats) -> AssetPanel:
    """A panel of prices; a stock is listed from its first to its last price."""
    known = ~np.isnan(prices)
    rows = np.arange(len(prices))[:, None]
    last = len(prices) - 1 - known[::-1].argmax(axis=0)
    active = (rows >= known.argmax(axis=0)) & (rows <= last)
    fields = {"adj_close": prices, **extra}
    return AssetPanel(
        {name: Field2D(np.where(active, x, np.nan)) for name, x in fields.items()},
        np.arange(len(prices)).astype("datetime64[D]"),
        np.array([f"T{i}" for i in range(prices.shape[1])]),
        active_mask=active,
        estimation_mask=known,
    )


def rows_of(result: CleanResult, **equal: object) -> pd.DataFrame:
    frame = result.ledger.to_frame()
    for column, value in equal.items():
        frame = frame[frame[column] == value]
    return frame.reset_index(drop=True)


@pytest.fixture(scope="module")
def dirty() -> AssetPanel:
    """A simulated market with bad ticks, frozen prices, wild ratios and index membership."""
    panel = simulate_market(n_assets=30, n_dates=420, seed=3, suspension_rate=0.02).panel
    rng = np.random.default_rng(1)
    price = panel["adj_close"].copy()
    ticks = rng.random(price.shape) < 0.002
    price[ticks] *= rng.choice([0.1, 3.0, 10.0], ticks.sum())
    price[200:215, 4] = price[199, 4]
    volume = panel["volume"].copy()
    volume[200:215, 4] = 0.0
    ratio = panel["earnings_to_price"].copy()
    ratio[rng.random(ratio.shape) < 0.005] *= 40.0
    member = np.where(panel.active_mask, 1.0, np.nan)
    member[100:250, 7] = 0.0
    member[~panel.active_mask] = np.nan
    return with_fields(
        panel, adj_close=price, volume=volume, earnings_to_price=ratio, member=member
    )


@pytest.fixture(scope="module")
def cleaned(dirty: AssetPanel) -> CleanResult:
    return clean(dirty, **EVERY_RULE)


class TestSuspectPrices:
    def test_bad_tick_never_reaches_research_prices(self) -> None:
        good = random_walk(120, 5, start=50.0)
        bad = good.copy()
        bad[80, 2] *= 10.0
        result = clean(price_panel(bad), min_history=1)
        research = result.panel["adj_close"]
        assert research[80, 2] == good[79, 2]
        np.testing.assert_array_equal(np.delete(research, 80, axis=0), np.delete(good, 80, axis=0))
        assert not result.panel.estimation_mask[80, 2]
        assert result.filled[80, 2]
        assert result.filled.sum() == 1
        row = rows_of(result, field="adj_close")
        assert row["ticker"].tolist() == ["T2"]
        assert row["before"].tolist() == [bad[80, 2]]
        assert row["after"].tolist() == [good[79, 2]]
        np.testing.assert_array_equal(result.panel["accounting_close"], bad)

    def test_real_jump_arrives_a_day_late_and_is_earned_at_once(self) -> None:
        """Like AIG on 2008-09-15: down 61 %, and no way back."""
        prices = random_walk(120, 5, start=50.0)
        prices[80:, 1] *= 0.39
        result = clean(price_panel(prices), min_history=1)
        research, earned = result.panel["adj_close"], result.panel["accounting_close"]
        assert research[80, 1] == prices[79, 1]
        assert research[81, 1] == prices[81, 1]
        assert earned[80, 1] == prices[80, 1]
        assert result.panel.estimation_mask[81:, 1].all()

    def test_two_bad_days_cost_one_more_day_on_the_way_back(self) -> None:
        good = random_walk(120, 5, start=50.0)
        bad = good.copy()
        bad[80:82, 0] *= 5.0
        research = clean(price_panel(bad), min_history=1).panel["adj_close"]
        np.testing.assert_array_equal(
            research[80:84, 0], [good[79, 0], bad[81, 0], bad[81, 0], good[83, 0]]
        )

    def test_the_next_price_is_believed_across_a_gap(self) -> None:
        prices = random_walk(120, 5, start=50.0)
        prices[80:, 0] *= 2.0
        prices[81:83, 0] = np.nan
        result = clean(price_panel(prices), min_history=1)
        np.testing.assert_array_equal(
            result.panel["adj_close"][79:84, 0], [*[prices[79, 0]] * 4, prices[83, 0]]
        )

    def test_both_limits_must_be_exceeded(self) -> None:
        prices = random_walk(120, 5, start=50.0)
        prices[80:, 0] *= 1.15  # 14 sigmas, but below 20 %
        prices[:, 1] = 50.0 * np.exp(
            np.cumsum(0.08 * np.random.default_rng(1).standard_normal(120))
        )
        prices[80:, 1] *= 1.0 + 0.3 * prices[79, 1] / prices[80, 1]  # 30 %, but few sigmas
        assert not suspects(prices, 8.0, 0.2).any()

    def test_a_market_that_moves_as_one_is_believed(self) -> None:
        prices = random_walk(120, 5, start=50.0)
        prices[80:, :3] *= 0.7
        assert not suspects(prices, 8.0, 0.2).any()
        prices = random_walk(120, 5, start=50.0)
        prices[80:, :2] *= 0.7
        assert suspects(prices, 8.0, 0.2).sum() == 2

    def test_a_newcomer_is_judged_by_its_peers(self) -> None:
        prices = random_walk(120, 5, start=50.0)
        prices[:70, 4] = np.nan
        prices[75, 4] *= 10.0
        assert np.argwhere(suspects(prices, 8.0, 0.2)).tolist() == [[75, 4]]

    def test_a_long_suspension_widens_the_limit(self) -> None:
        prices = random_walk(120, 5, start=50.0)
        prices[30:110, 0] = np.nan
        prices[110:, 0] = prices[29, 0] * 1.5  # 0.41 is 41 sigmas of a day but 4.6 of 81 days
        assert not suspects(prices, 8.0, 0.2).any()

    def test_other_fields_of_the_day_are_carried_too(self, dirty: AssetPanel) -> None:
        result = clean(dirty)
        wrong = suspects(dirty["adj_close"], 8.0, 0.2)
        for name in ("open", "high", "low", "close", "market_cap"):
            t, i = np.argwhere(wrong & ~np.isnan(dirty[name]))[0]
            known = dirty[name][:t, i][~np.isnan(dirty["adj_close"][:t, i]) & ~wrong[:t, i]]
            assert result.panel[name][t, i] == known[-1]
        np.testing.assert_array_equal(result.panel["volume"], dirty["volume"])

    def test_recursion_against_plain_python(self, dirty: AssetPanel) -> None:
        prices = dirty["adj_close"][:150, :12]
        np.testing.assert_array_equal(suspects(prices, 5.0, 0.1), slow_suspects(prices, 5.0, 0.1))


def slow_suspects(prices: Floats, sigmas: float, min_move: float) -> NDArray[np.bool_]:
    """The rule as its docstring tells it, one stock and date at a time."""
    n_dates, n_assets = prices.shape
    out = np.zeros(prices.shape, dtype=bool)
    last: list[float | None] = [None] * n_assets
    last_row, seen, scale = [0] * n_assets, [0] * n_assets, [0.0] * n_assets
    doubted = [False] * n_assets
    for t in range(n_dates):
        own = [scale[i] for i in range(n_assets) if seen[i] >= 20]
        typical = float(np.median(own)) if own else np.inf
        yard = [scale[i] if seen[i] >= 20 else typical for i in range(n_assets)]
        known = [i for i in range(n_assets) if not np.isnan(prices[t, i])]
        moves = {i: np.log(prices[t, i]) - last[i] for i in known if last[i] is not None}
        jump = []
        for i, move in moves.items():
            far = move > np.log1p(min_move) or move < np.log1p(-min_move)
            root = np.sqrt(t - last_row[i])
            if far and not doubted[i] and abs(move) > sigmas * yard[i] * root:
                jump.append(i)
        if 2 * len(jump) > len(known):
            jump = []
        for i in known:
            doubted[i] = i in jump
            if i in jump:
                out[t, i] = True
                continue
            if i in moves:
                size = np.sqrt(np.pi / 2) * abs(moves[i]) / np.sqrt(t - last_row[i])
                size = min(size, 4.0 * yard[i])
                step = max(0.02, 1.0 / (seen[i] + 1.0))
                scale[i] = scale[i] + step * (size - scale[i])
                seen[i] += 1
            last[i], last_row[i] = np.log(prices[t, i]), t
    return out


class TestGaps:
    def test_carried_to_the_limit_and_marked(self) -> None:
        prices = random_walk(40, 3, start=50.0)
        prices[10:18, 0] = np.nan
        result = clean(price_panel(prices), max_gap=5, min_history=1, max_missing=1.0)
        research = result.panel["adj_close"][:, 0]
        np.testing.assert_array_equal(research[10:15], prices[9, 0])
        assert np.isnan(research[15:18]).all()
        assert result.filled[:, 0].nonzero()[0].tolist() == [10, 11, 12, 13, 14]
        np.testing.assert_array_equal(result.panel["accounting_close"][10:18, 0], prices[9, 0])
        assert not result.panel.estimation_mask[10:18, 0].any()
        assert result.eligible[:, 0].nonzero()[0].tolist() == [*range(19 - 4), *range(18, 40)]
        changes = rows_of(result, rule=cleaning.NO_PRICE)
        assert changes["after"].tolist() == [0.0, 1.0]
        assert changes["date"].tolist() == [pd.Timestamp("1970-01-16"), pd.Timestamp("1970-01-19")]

    def test_no_carry(self) -> None:
        prices = random_walk(40, 3, start=50.0)
        prices[10, 0] = np.nan
        result = clean(price_panel(prices), max_gap=0, min_history=1)
        assert np.isnan(result.panel["adj_close"][10, 0])
        assert not result.filled.any()

    def test_nothing_before_listing_or_after_delisting(self) -> None:
        prices = random_walk(40, 3, start=50.0)
        prices[:5, 0] = np.nan
        prices[30:, 1] = np.nan
        result = clean(price_panel(prices), min_history=1)
        for name in ("adj_close", "accounting_close"):
            np.testing.assert_array_equal(result.panel[name], prices)

    def test_interpolation_warns_and_draws_a_line(self) -> None:
        prices = random_walk(40, 3, start=50.0)
        prices[9, 0], prices[10:12, 0], prices[12, 0] = 50.0, np.nan, 53.0
        with pytest.warns(LookAheadWarning, match="look ahead"):
            result = clean(price_panel(prices), gap_fill="interpolate", min_history=1)
        np.testing.assert_allclose(result.panel["adj_close"][9:13, 0], [50, 51, 52, 53])
        np.testing.assert_array_equal(result.panel["accounting_close"][9:13, 0], [50, 50, 50, 53])
        assert set(rows_of(result, field="adj_close")["rule"]) == {cleaning.INTERPOLATED}

    def test_carry_does_not_warn(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            prices = random_walk(40, 3, start=50.0)
            prices[9, 0], prices[10:12, 0] = 50.0, np.nan
            result = clean(price_panel(prices), min_history=1)
        np.testing.assert_array_equal(result.panel["accounting_close"][9:12, 0], 50.0)


def test_a_panel_given_away_is_cleaned_alike_and_without_a_record() -> None:
    prices = random_walk(300, 4, start=50.0)
    prices[100, 0], prices[200:203, 1] = 200.0, np.nan
    panel = price_panel(prices, close=prices, volume=np.ones(prices.shape))
    whole, own = clean(panel), clean(panel, record=False, owned=True)
    assert len(whole.ledger) > 0
    assert len(own.ledger) == 0
    assert list(panel.fields) == ["volume"]
    assert list(own.panel.fields) == list(whole.panel.fields)
    for name in whole.panel.fields:
        np.testing.assert_array_equal(own.panel[name], whole.panel[name])
    np.testing.assert_array_equal(own.eligible, whole.eligible)


class TestSample:
    def test_history(self) -> None:
        result = clean(price_panel(random_walk(40, 3, start=50.0)), min_history=30)
        assert not result.eligible[:29].any()
        assert result.eligible[29:].all()

    def test_missing_share_of_the_trailing_year(self) -> None:
        prices = random_walk(600, 3, start=50.0)
        prices[300:340:2, 0] = np.nan  # 20 of 252 days
        for limit, out in ((20 / 252, False), (19.5 / 252, True)):
            result = clean(price_panel(prices), max_missing=limit)
            assert bool((~result.eligible[252:, 0]).any()) is out
        out_days = (~result.eligible[:, 0]).nonzero()[0]
        assert out_days[-1] == 300 + 252 - 1

    @pytest.mark.parametrize(
        ("volume", "stale_from"), [(None, 15), (0.0, 15), (np.nan, 15), (9.0, 99)]
    )
    def test_stale_price(self, volume: float | None, stale_from: int) -> None:
        prices = random_walk(40, 3, start=50.0)
        prices[6:31, 0] = prices[5, 0]
        extra = {} if volume is None else {"volume": np.full(prices.shape, volume)}
        result = clean(price_panel(prices, **extra), stale_days=10, min_history=1)
        expected = list(range(stale_from, 31))
        assert (~result.eligible[:, 0]).nonzero()[0].tolist() == expected
        assert len(rows_of(result, rule=cleaning.STALE)) == (2 if expected else 0)

    def test_price_size_liquidity_membership(self) -> None:
        prices = random_walk(70, 10, start=50.0)
        prices[40:45, 0] *= 0.9
        cap = np.tile(np.arange(1.0, 11.0), (70, 1))
        volume = np.tile(np.arange(10.0, 0.0, -1.0) * 100, (70, 1))
        member = np.ones((70, 10))
        member[20:30, 5] = 0.0
        panel = price_panel(prices, market_cap=cap, volume=volume, member=member)
        free = clean(panel, min_history=1)
        assert (~free.eligible).sum() == 10
        bound = clean(panel, min_history=1, drop_small=0.2, drop_illiquid=0.1, min_price=1e6)
        assert not bound.eligible.any()
        counts = bound.ledger.counts().set_index("rule")["cells"]
        # Of ten members the two smallest; of the nine while one is out, the smallest.
        assert counts[cleaning.SMALL] == 2 * 60 + 10
        assert counts[cleaning.ILLIQUID] == 1 * 60
        assert counts[cleaning.NOT_MEMBER] == 10
        assert counts[cleaning.LOW_PRICE] == 700

    def test_ratios_are_winsorised_per_date_and_prices_are_not(self) -> None:
        rng = np.random.default_rng(0)
        ratio = rng.normal(0.05, 0.01, (30, 40))
        ratio[10, 3] = 5.0
        panel = price_panel(random_walk(30, 40, start=50.0), earnings_to_price=ratio)
        result = clean(panel, winsor_limit=6.0)
        np.testing.assert_array_equal(result.panel["earnings_to_price"], winsorize(ratio, 6.0))
        assert rows_of(result, rule=cleaning.WINSORISED)["before"].tolist() == [5.0]
        assert result.panel["adj_close"] is panel["adj_close"]


class TestLedger:
    def test_every_changed_cell_is_on_record_exactly(
        self, dirty: AssetPanel, cleaned: CleanResult
    ) -> None:
        """Applying the ledger to the raw data gives the cleaned data, and nothing else moved."""
        ledger = cleaned.ledger
        unused = [RULES.index(rule) for rule in (cleaning.INTERPOLATED, cleaning.CLOSED)]
        assert ledger.counts()["cells"].drop(unused).all()
        for name in cleaned.panel.keys():  # noqa: SIM118
            source = "adj_close" if name == "accounting_close" else name
            values = dirty[source].copy()
            mine = np.flatnonzero(ledger.field_code == ledger.field_names.index(name))
            for k in mine:
                cell = (ledger.row[k], ledger.column[k])
                np.testing.assert_equal(values[cell], ledger.before[k])
                values[cell] = ledger.after[k]
            np.testing.assert_array_equal(values, cleaned.panel[name])

    def test_every_exclusion_is_on_record_exactly(
        self, dirty: AssetPanel, cleaned: CleanResult
    ) -> None:
        ledger, active = cleaned.ledger, dirty.active_mask
        eligible = active.copy()
        for code in range(len(RULES)):
            on = (ledger.rule_code == code) & (
                ledger.field_code == ledger.field_names.index("eligible")
            )
            change = np.zeros(active.shape)
            change[ledger.row[on], ledger.column[on]] = ledger.before[on] - ledger.after[on]
            out = (np.cumsum(change, axis=0) == 1) & active
            assert out.sum() == ledger.days_out[code]
            eligible &= ~out
        np.testing.assert_array_equal(eligible, cleaned.eligible)

    def test_frame_and_counts(self, cleaned: CleanResult) -> None:
        frame = cleaned.ledger.to_frame()
        assert list(frame.columns) == ["ticker", "date", "field", "before", "after", "rule"]
        assert len(frame) == len(cleaned.ledger)
        assert frame["date"].is_monotonic_increasing
        counts = cleaned.ledger.counts()
        assert counts["rule"].tolist() == list(RULES)
        by_ticker = cleaned.ledger.counts_by_ticker()
        assert (by_ticker > 0).sum().tolist() == counts["tickers"].tolist()
        changed = counts["cells"] - cleaned.ledger.days_out
        numbers = counts["rule"][changed > 0]
        assert by_ticker[numbers].sum().tolist() == changed[changed > 0].tolist()

    def test_clean_data_leave_an_empty_record(self) -> None:
        result = clean(price_panel(random_walk(120, 5, start=50.0)), min_history=1)
        assert len(result.ledger) == 0
        assert result.ledger.to_frame().empty
        assert result.eligible.all()


def scrambled(panel: AssetPanel, row: int, seed: int) -> AssetPanel:
    """Overwrite every value after `row` with noise, absurd magnitudes and holes included."""
    rng = np.random.default_rng(seed)
    later = panel.active_mask.copy()
    later[: row + 1] = False
    values = {}
    for name in panel.keys():  # noqa: SIM118
        if name in ("sector", "market_index"):
            continue
        noise = 10.0 ** rng.uniform(-100, 100, later.shape)
        noise[rng.random(later.shape) < 0.2] = np.nan
        if name in ("volume", "member"):
            noise[rng.random(later.shape) < 0.5] = 0.0
        if name in ("earnings_to_price", "book_to_price"):
            noise *= rng.choice([-1.0, 1.0], later.shape)
        values[name] = np.where(later, noise, panel[name])
    return with_fields(panel, **values)


class TestCausality:
    @pytest.mark.parametrize("row", [30, 210, 300, 418])
    def test_scrambled_future_changes_nothing_before(
        self, dirty: AssetPanel, cleaned: CleanResult, row: int
    ) -> None:
        other = clean(scrambled(dirty, row, seed=row), **EVERY_RULE)
        past = slice(0, row + 1)
        for name in cleaned.panel.keys():  # noqa: SIM118
            np.testing.assert_array_equal(
                other.panel[name][past], cleaned.panel[name][past], err_msg=name
            )
        np.testing.assert_array_equal(
            other.panel.estimation_mask[past], cleaned.panel.estimation_mask[past]
        )
        np.testing.assert_array_equal(other.eligible[past], cleaned.eligible[past])
        np.testing.assert_array_equal(other.filled[past], cleaned.filled[past])
        last = dirty.observations[row]
        frames = [r.ledger.to_frame() for r in (other, cleaned)]
        before = [f[f["date"].to_numpy() <= last].reset_index(drop=True) for f in frames]
        pd.testing.assert_frame_equal(before[0], before[1], check_exact=True)

    def test_input_is_not_mutated(self, dirty: AssetPanel) -> None:
        copy = dirty.copy(deep=True)
        clean(dirty, **EVERY_RULE)
        assert list(dirty.keys()) == list(copy.keys())
        for name in copy.keys():  # noqa: SIM118
            np.testing.assert_array_equal(dirty[name], copy[name])
        np.testing.assert_array_equal(dirty.active_mask, copy.active_mask)
        np.testing.assert_array_equal(dirty.estimation_mask, copy.estimation_mask)

    def test_order_of_assets_is_irrelevant(self, dirty: AssetPanel, cleaned: CleanResult) -> None:
        order = np.random.default_rng(0).permutation(dirty.n_assets)
        moved = clean(dirty.isel(assets=order), **EVERY_RULE)
        for name in ("adj_close", "accounting_close", "earnings_to_price"):
            np.testing.assert_array_equal(moved.panel[name], cleaned.panel[name][:, order])
        np.testing.assert_array_equal(moved.eligible, cleaned.eligible[:, order])

    def test_research_prices_need_no_second_cleaning(self, dirty: AssetPanel) -> None:
        once = clean(dirty)
        again = clean(once.panel)
        changed = again.panel["adj_close"] != once.panel["adj_close"]
        changed &= ~np.isnan(once.panel["adj_close"])
        # A real jump that was believed a day late may be doubted again, nothing else.
        assert changed.sum() <= suspects(dirty["adj_close"], 8.0, 0.2).sum()
        assert not (np.isnan(again.panel["adj_close"]) & ~np.isnan(once.panel["adj_close"])).any()


class TestValidation:
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("max_gap", -1),
            ("spike_sigmas", 0.0),
            ("spike_min_move", float("nan")),
            ("stale_days", 0),
            ("winsor_limit", -1.0),
            ("min_history", 0),
            ("max_missing", 1.5),
            ("min_price", -1.0),
            ("drop_small", 2.0),
            ("gap_fill", "spline"),
        ],
    )
    def test_out_of_range(self, option: str, value: Any) -> None:
        with pytest.raises(ConfigError, match=option):
            clean(price_panel(random_walk(10, 2, start=50.0)), **{option: value})

    def test_missing_field(self) -> None:
        with pytest.raises(ConfigError, match="drop_small needs the field 'market_cap'"):
            clean(price_panel(random_walk(10, 2, start=50.0)), drop_small=0.1)


def test_aig_in_september_2008(shared_data: Path) -> None:
    """The fall of 2008-09-15 reaches factors a day late and the portfolio at once."""
    frame = pd.read_parquet(
        shared_data / "us" / "prices_1999_2008.parquet",
        columns=["date", "symbol", "adj_close"],
        filters=[
            ("symbol", "in", ["AIG", "XOM", "KO"]),
            ("date", ">=", dt.date(2007, 1, 2)),
        ],
    )
    frame = frame.rename(columns={"symbol": "ticker"}).sort_values(["ticker", "date"])
    panel = panel_from_long(frame)
    result = clean(panel)
    stock = panel.asset_names.tolist().index("AIG")
    day = int(np.searchsorted(panel.observations, np.datetime64("2008-09-15")))
    raw, research = panel["adj_close"][:, stock], result.panel["adj_close"][:, stock]
    assert raw[day] / raw[day - 1] < 0.45
    assert research[day] == raw[day - 1]
    assert research[day + 1] == raw[day + 1]
    assert not result.panel.estimation_mask[day, stock]
    np.testing.assert_array_equal(result.panel["accounting_close"][:, stock], raw)
