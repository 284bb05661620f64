"""Reads of the future on a few dates, and what the audit says of the dates that it covers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import alphakeel as ak
from alphakeel import factor
from alphakeel.audit.coverage import DateCoverage, check_every_date, coverage_text, panels_for
from alphakeel.audit.messages import check_joins, check_missing
from alphakeel.data.panel import panel_from_long
from alphakeel.factors.custom import own_values
from helpers import with_fields

N_DATES = 300
PANEL = ak.simulate_market(n_assets=12, n_dates=N_DATES, seed=1).panel


def reader(row: int, days: int, lookback: int = 6) -> Any:
    """A factor that reads some days ahead on one date, and only the past on all others."""

    @factor(lookback=lookback, fields=("adj_close",))
    def mine(adj_close):
        price = pd.DataFrame(np.log(adj_close))
        out, later = price.diff(5).to_numpy(copy=True), price.shift(-days).to_numpy()
        out[row] = later[row] - price.to_numpy()[row]
        return out

    return mine


def every_date(own: Any, n_panels: int = N_DATES) -> tuple[dict[str, Any], DateCoverage]:
    def compute(panel: Any) -> Any:
        return own_values(own, panel)[..., None]

    rng = np.random.default_rng(0)
    return check_every_date(
        PANEL, compute, compute(PANEL), (own.name,), own.lookback, n_panels, rng
    )


@pytest.mark.parametrize("days", [1, 2, 5, 21, 63])
@pytest.mark.parametrize("row", [7, 100, 163, 230])
def test_a_read_on_any_one_date_is_found(row: int, days: int) -> None:
    findings, _ = every_date(reader(row, days))
    finding = findings["mine"]
    assert finding.verdict == "leak"
    assert finding.date == str(PANEL.observations[row].astype("datetime64[D]"))
    assert "at least 1 day ahead" in finding.evidence


def test_all_dates_are_covered_and_less_with_fewer_panels() -> None:
    honest = reader(50, 0)
    findings, whole = every_date(honest)
    assert not findings
    assert (whole.nearest == 1).all()
    assert coverage_text(whole) == "100 %, 100 % and 100 % of the dates"
    findings, part = every_date(honest, 8)
    assert not findings
    assert 0.02 < part.share(1) < 0.2
    assert part.share(1) < part.share(5) < part.share(21)


def test_stated_coverage_is_what_is_found() -> None:
    """With 20 panels: a read of 2 days ahead is found on exactly the dates that are covered."""
    _, stated = every_date(reader(50, 0), 20)
    rows = range(60, 110)
    found = [bool(every_date(reader(row, 2), 20)[0]) for row in rows]
    assert found == [bool(stated.nearest[row] <= 2) for row in rows]
    assert 0 < sum(found) < len(found)


def test_an_understated_lookback_is_no_read_of_the_future() -> None:
    @factor(lookback=3, fields=("adj_close",))
    def longer(adj_close):
        return pd.DataFrame(adj_close).pct_change(40, fill_method=None)

    findings, covered = every_date(longer, 40)
    assert not findings
    assert 0.1 < covered.share(1) < 0.5, "cuts at some dates, and it says so"


def test_a_read_is_found_where_the_lookback_is_understated_too() -> None:
    findings, _ = every_date(reader(150, 10, lookback=2))
    assert findings["mine"].verdict == "leak"


def test_no_more_panels_than_a_budget_of_cells() -> None:
    assert panels_for((2770, 100), full=False) == 108
    assert panels_for((2770, 3000), full=False) == 8
    assert panels_for((2770, 3000), full=True) == 2770


def test_figures_that_begin_late_for_all_are_no_message() -> None:
    """Stocks that left before a figure was collected lack it all their life, and that is fine."""
    panel = ak.simulate_market(n_assets=60, n_dates=1500, seed=3, delisting_rate=0.1).panel
    late = np.arange(1500)[:, None] < 1200
    without = np.where(late, np.nan, panel["earnings_to_price"])
    found = check_missing(with_fields(panel, earnings_to_price=without))
    assert not [f for f in found if f.verdict == "leak"]
    gone = np.where(panel.active_mask[-1], panel["earnings_to_price"], np.nan)
    (leak,) = check_missing(with_fields(panel, earnings_to_price=gone))
    assert (leak.verdict, leak.factor) == ("leak", "earnings_to_price")


def test_figures_that_vanish_before_a_delisting_are_a_warning() -> None:
    """They were known once: no snapshot of survivors, yet their absence tells."""
    panel = ak.simulate_market(n_assets=80, n_dates=1500, seed=3, delisting_rate=0.1).panel
    last = 1499 - panel.active_mask[::-1].argmax(axis=0)
    vanished = (last < 1499) & (np.arange(1500)[:, None] > last - 200)
    earnings = np.where(vanished, np.nan, panel["earnings_to_price"])
    (finding,) = check_missing(with_fields(panel, earnings_to_price=earnings))
    assert (finding.verdict, finding.factor) == ("warning", "earnings_to_price")
    assert "are delisted within 250 days" in finding.evidence


def test_members_that_are_never_delisted_are_a_warning() -> None:
    panel = ak.simulate_market(n_assets=60, n_dates=1500, seed=3, delisting_rate=0.1).panel
    rows, stocks = np.arange(1500)[:, None], np.arange(60)
    joined = rows >= 10 * stocks
    found = check_joins(with_fields(panel, member=joined & panel.active_mask[-1]))
    assert [(f.verdict, f.factor) for f in found] == [("warning", "member")]
    assert "none of the 6 stocks" in found[0].evidence
    assert [f.verdict for f in check_joins(with_fields(panel, member=joined * 1.0))] == ["ok"]


def test_missing_earnings_tell_of_delistings_in_real_data(shared_data: Path) -> None:
    """Chinese fundamentals collected in 2021 lack the stocks that had left the exchange."""
    folder = shared_data / "cn_all"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    securities = pd.read_parquet(folder / "securities.parquet")
    left = pd.to_datetime(securities["last_date"]) < pd.Timestamp("2016-01-01")
    chosen = [*securities.loc[left, "symbol"], *securities.loc[~left, "symbol"].iloc[::12]]
    only = [("symbol", "in", chosen)]
    prices = pd.concat(
        pq.read_table(file, columns=["date", "symbol", "adj_close"], filters=only).to_pandas()
        for file in sorted(folder.glob("prices_*.parquet"))
    )
    ratios = pq.read_table(
        folder / "valuation_daily.parquet", columns=["date", "symbol", "pe"], filters=only
    )
    frame = prices.merge(ratios.to_pandas(), on=["date", "symbol"], how="left")
    frame["earnings_to_price"] = 1.0 / frame.pop("pe")
    panel = panel_from_long(frame.rename(columns={"symbol": "ticker"}))
    assert 250 < panel.n_assets < 400
    (finding,) = check_missing(panel)
    assert (finding.verdict, finding.factor) == ("leak", "earnings_to_price")
    assert "collected from survivors" in finding.evidence
