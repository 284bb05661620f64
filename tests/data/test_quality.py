"""What is doubtful is found where it was put, and nowhere else."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from alphakeel.cli import app
from alphakeel.data.grid import Grid
from alphakeel.data.loading import inspect_path
from alphakeel.data.quality import quality_findings, trading_calendar

DATES = pd.bdate_range("2015-01-01", periods=600).to_numpy().astype("datetime64[D]")
TICKERS = np.array(["AAA", "BBB", "CCC", "sh600000"])
TODAY = pd.Timestamp(DATES[-1]).date()


def market() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    close = 20 * np.exp(np.cumsum(rng.normal(0, 0.01, (len(DATES), len(TICKERS))), axis=0))
    return {"close": close, "adj_close": close.copy(), "high": close * 1.01, "low": close * 0.99,
            "volume": np.full(close.shape, 1e6)}  # fmt: skip


def kinds(fields, *, today: dt.date = TODAY, dates=DATES, **options) -> dict[str, int]:
    grid = Grid(dates, TICKERS, fields)
    findings, counts = quality_findings(grid, today=today, **options)
    for finding in findings:
        assert finding.message.endswith(".")
    return counts


def test_nothing_is_doubted_in_plain_prices() -> None:
    assert kinds(market()) == {}


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda f: [f[n].__setitem__(np.s_[300:, 1], f[n][300:, 1] / 2) for n in
                    ("close", "adj_close", "high", "low")],
         "perhaps a split that the adjustment missed"),
        (lambda f: f["adj_close"].__setitem__(np.s_[300:, 1], f["adj_close"][300:, 1] / 2),
         "adjustment without a split"),
        (lambda f: [f[n].__setitem__((300, 1), f[n][300, 1] * 1.6) for n in
                    ("close", "adj_close", "high", "low")], "bad tick"),
        (lambda f: [f[n].__setitem__(np.s_[300:312, 1], f[n][300, 1]) for n in
                    ("close", "adj_close", "high", "low")], "stale price"),
        (lambda f: f["volume"].__setitem__((300, 1), 0.0), "price that moves on no volume"),
        (lambda f: f["high"].__setitem__((300, 1), 1.0), "close outside high and low"),
        (lambda f: [f[n].__setitem__(np.s_[300:, 3], f[n][300:, 3] * 1.3) for n in
                    ("close", "adj_close", "high", "low")], "move beyond the daily limit"),
        (lambda f: [(f[n].__setitem__(np.s_[200:500, 1], np.nan),
                     f[n].__setitem__(np.s_[500:, 1], f[n][500:, 1] * 9.3)) for n in f],
         "ticker used again"),
    ],
)  # fmt: skip
def test_damage_is_found_and_named(damage, kind: str) -> None:
    fields = market()
    damage(fields)
    assert kinds(fields) == {kind: 1}


def test_a_crash_of_all_stocks_is_no_split() -> None:
    fields = market()
    for name in ("close", "adj_close", "high", "low"):
        fields[name][300:, :3] /= 2.0
    assert "perhaps a split that the adjustment missed" not in kinds(fields)


def test_old_data_and_gaps_in_the_dates_are_told() -> None:
    fields = {name: np.delete(values, np.s_[100:110], axis=0) for name, values in market().items()}
    dates = np.delete(DATES, np.s_[100:110])
    later = TODAY + dt.timedelta(days=30)
    assert kinds(fields, today=later, dates=dates) == {"gap in the dates": 1, "old data": 1}


def test_trading_days_are_compared_with_the_exchange() -> None:
    fields = market()
    calendar = np.append(np.delete(DATES, 50), np.datetime64("2016-01-02"))
    found = kinds(fields, calendar=np.sort(calendar))
    assert found == {"trading day missing": 1, "day without trading": 1}


def test_the_calendar_of_an_exchange() -> None:
    pytest.importorskip("exchange_calendars", reason="exchange_calendars is not installed")
    days = trading_calendar(DATES[:260], "XNYS")
    assert days is not None
    assert np.datetime64("2015-07-03") not in days
    assert np.datetime64("2015-07-02") in days
    assert trading_calendar(DATES, "NOWHERE") is None


def test_check_prints_and_writes_what_is_doubtful(tmp_path: Path) -> None:
    fields = market()
    fields["close"][300, 1] *= 1.6
    rows = [(str(day), ticker, fields["close"][t, i]) for t, day in enumerate(DATES)
            for i, ticker in enumerate(TICKERS)]  # fmt: skip
    file = tmp_path / "prices.csv"
    pd.DataFrame(rows, columns=["date", "ticker", "adj_close"]).to_csv(file, index=False)
    report = inspect_path(file)
    assert not report.problems
    assert report.counts["bad tick"] == 1
    table = tmp_path / "doubtful.csv"
    result = CliRunner().invoke(app, ["check", str(file), "--csv", str(table)])
    assert result.exit_code == 0, result.output
    assert "bad tick" in result.output
    written = pd.read_csv(table)
    assert written["ticker"].tolist()[0] == "BBB"


def test_the_quirks_of_real_prices_are_found(shared_data: Path) -> None:
    """Those that the description of the data names, among the worst of them."""
    found = {(f.ticker, f.date) for f in inspect_path(shared_data / "us").findings}
    known = {("GNRC", "2010-02-12"), ("ANTM", "2002-03-18"), ("KSU", "2000-07-13"),
             ("ZBRA", "2004-08-25"), ("TRMB", "2007-02-23"), ("TRMB", "2007-02-26")}  # fmt: skip
    assert known <= found
    found = {(f.ticker, f.date) for f in inspect_path(shared_data / "cn").findings}
    assert {("sh600688", "2013-08-20"), ("sh600871", "2013-08-20")} <= found
