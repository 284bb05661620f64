"""The real panels in our folder format load as they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from skfolio.containers import AssetPanel

from alphakeel.audit.lookahead import check_study, cut_off
from alphakeel.data.assembly import join_asof
from alphakeel.data.loading import inspect_path, load_panel
from alphakeel.data.panel import market_index, universe_mask
from alphakeel.study import run_study
from helpers import tiny_config


@pytest.fixture(scope="module")
def us(shared_data: Path) -> AssetPanel:
    return load_panel(shared_data / "us", universe="all")


def cell(panel: AssetPanel, name: str, day: str, ticker: str) -> float:
    row = np.searchsorted(panel.observations, np.datetime64(day))
    return float(panel[name][row, np.flatnonzero(panel.asset_names == ticker)[0]])


def test_us_values(us: AssetPanel) -> None:
    assert (us.n_observations, us.n_assets) == (4320, 491)
    assert us.estimation_mask.sum() <= 1_864_053
    assert np.isfinite(us["adj_close"]).sum() == 1_864_053, "every row is in its place"
    assert cell(us, "close", "2014-06-06", "AAPL") == pytest.approx(645.57, abs=1e-4)
    assert cell(us, "close", "2014-06-09", "AAPL") == pytest.approx(93.70, abs=1e-4)
    assert 1 / cell(us, "earnings_to_price", "2014-06-09", "AAPL") == pytest.approx(16.21)
    assert 1 / cell(us, "book_to_price", "2014-06-06", "AAPL") == pytest.approx(5.00, abs=0.01)
    assert cell(us, "market_cap", "2014-06-09", "AAPL") == pytest.approx(611e9, rel=1e-3)
    index = market_index(us)
    assert index is not None
    assert not np.isnan(index).any()


def test_us_against_pandas(us: AssetPanel, shared_data: Path) -> None:
    rows = pd.read_parquet(shared_data / "us" / "prices.parquet").sample(500, random_state=0)
    days = pd.to_datetime(rows["date"]).to_numpy().astype("datetime64[D]")
    at = np.searchsorted(us.observations, days)
    column = np.searchsorted(us.asset_names, rows["symbol"].to_numpy().astype(str))
    for name in ("open", "high", "low", "close", "adj_close", "volume"):
        np.testing.assert_array_equal(us[name][at, column], rows[name].to_numpy(np.float64))


def test_us_members(shared_data: Path) -> None:
    panel = load_panel(shared_data / "us", start="2009-01-01")
    priced = universe_mask(panel) & ~np.isnan(panel["adj_close"])
    counts = {"2010-01-04": 312, "2012-01-03": 332, "2014-01-02": 354, "2016-01-04": 385}
    for day, members in counts.items():
        row = np.searchsorted(panel.observations, np.datetime64(day))
        assert priced[row].sum() == members, day


def test_us_notes(shared_data: Path) -> None:
    report = inspect_path(shared_data / "us")
    assert not report.problems
    notes = " | ".join(report.notes)
    assert "sector of 412 stocks is column sector_2016" in notes
    assert "sector of 79 stocks is column sector of" in notes
    assert "members" in notes


def test_us_most_traded(shared_data: Path) -> None:
    panel = load_panel(shared_data / "us", start="2010-01-01", end="2011-12-31", top=100)
    members = np.nansum(panel["member"], axis=1)
    assert members.max() <= 100
    assert members.min() >= 95
    assert panel.n_assets < 200


def test_us_fundamentals_join(us: AssetPanel, shared_data: Path) -> None:
    table = pd.read_parquet(shared_data / "us" / "fundamentals.parquet")
    table = table[table["source"] == "edgar_q"].rename(columns={"symbol": "ticker"})
    values = join_asof(us, table, ["equity"], max_age_days=400)["equity"]
    first = pd.to_datetime(table["available_date"]).min().to_datetime64()
    assert np.isnan(values[us.observations <= first]).all()
    assert np.isfinite(values).mean() > 0.2


def test_cn(shared_data: Path) -> None:
    panel = load_panel(shared_data / "cn")
    assert (panel.n_observations, panel.n_assets) == (1700, 300)
    assert np.isfinite(panel["close"]).sum() == 487_679
    assert "member" not in panel
    assert "银行" in panel.fields["sector"].levels
    filled = np.isfinite(panel["adj_close"]).sum() / panel.active_mask.sum()
    assert 0.94 < filled < 0.98, "suspended days are active but have no price"


def test_us_stocks_that_join_later_move_nothing(shared_data: Path) -> None:
    part = load_panel(shared_data / "us", start="2008-06-01", end="2010-12-31")
    member = part["member"] != 0.0
    late = np.flatnonzero(~member[:-80].any(axis=0) & member.any(axis=0))
    early = np.flatnonzero(member[0])[:50]
    panel = part.isel(assets=np.sort(np.concatenate([late, early])))
    assert len(late) >= 2
    test_start = str(panel.observations[400])[:10]
    study = run_study(panel, tiny_config(walk_forward={"test_start": test_start}))
    row = len(panel.observations) - 81
    assert len(cut_off(panel, row)[1]) < panel.n_assets
    assert check_study(study, panel, "cut", row, np.random.default_rng(0)) is None
