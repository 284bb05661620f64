"""What is doubtful is found where it was put, and nowhere else."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from alphakeel.cli import app
from alphakeel.data import quality
from alphakeel.data.adjustment import CorporateActions
from alphakeel.data.entry import check_new_days
from alphakeel.data.figure_checks import filing_checks
from alphakeel.data.grid import Grid
from alphakeel.data.loading import inspect_path
from alphakeel.data.quality import Beside, quality_findings, trading_calendar
from alphakeel.data.store import DataStore
from alphakeel.errors import ConfigError

DATES = pd.bdate_range("2015-01-01", periods=600).to_numpy().astype("datetime64[D]")
TICKERS = np.array(["AAA", "BBB", "CCC", "sh600000"])
TODAY = pd.Timestamp(DATES[-1]).date()


def scaled(fields, rows, column: int, factor: float) -> None:
    """Move the prices of some days, as a vendor's slip does."""
    for name in ("open", "close", "adj_close", "high", "low"):
        if name in fields:
            fields[name][rows, column] *= factor


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
        (lambda f: (f.update(open=f["close"].copy()), scaled(f, np.s_[300:], 1, 0.85)),
         "jump overnight on usual volume"),
        (lambda f: (f.update(open=f["close"].copy()), f["high"].__setitem__((300, 1), 90.0)),
         "high or low far beyond open and close"),
        (lambda f: (f.update(open=f["close"].copy()),
                    [f[n].__setitem__((300, 1), f["close"][299, 1]) for n in
                     ("open", "close", "adj_close", "high", "low")]),
         "bar that repeats the last close"),
        (lambda f: scaled(f, np.s_[300:], 1, 1.75), "move of more than half"),
        (lambda f: f["volume"].__setitem__((300, 1), 3e7), "volume far from usual"),
        (lambda f: [f[n].__setitem__(np.s_[300:307, 1], np.nan) for n in f],
         "gap in the prices of a stock"),
        (lambda f: [f[n].__setitem__(np.s_[500:, 1], np.nan) for n in f],
         "prices that end early"),
        (lambda f: scaled(f, np.s_[300:], 3, 1.12), "move beyond the daily limit"),
        (lambda f: (f.update(st=np.ones(f["close"].shape)), scaled(f, np.s_[300:], 3, 1.065)),
         "move beyond the daily limit"),
    ],
)  # fmt: skip
def test_damage_is_found_and_named(damage, kind: str) -> None:
    fields = market()
    damage(fields)
    assert kinds(fields) == {kind: 1}


def test_prices_that_end_are_told_by_what_the_source_says_of_the_stock() -> None:
    fields = market()
    for values in fields.values():
        values[500:, :3] = np.nan
    beside = Beside(delisted={"AAA": "2016-12-20", "BBB": ""})
    findings, _ = quality_findings(Grid(DATES, TICKERS, fields), today=TODAY, beside=beside)
    assert [(f.ticker, f.severity) for f in findings] == [
        ("BBB", "warning"), ("AAA", "note"), ("CCC", "note"),
    ]  # fmt: skip
    listed, gone, unknown = (finding.message for finding in findings)
    assert "the source lists it still" in listed
    assert gone.endswith("has its last price: delisted on 2016-12-20.")
    assert unknown.endswith("delisted, merged, or no longer delivered.")


def test_blocks_of_stocks_are_told_as_one(monkeypatch) -> None:
    fields = market()
    for column in range(4):
        scaled(fields, np.s_[300 + column :], column, 0.5)
    grid = Grid(DATES, TICKERS, fields)
    whole = quality_findings(grid, today=TODAY)
    assert {finding.ticker for finding in whole[0]} == set(TICKERS)
    monkeypatch.setattr(quality, "_BLOCK", 1)
    assert quality_findings(grid, today=TODAY) == whole


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
    with pytest.raises(ConfigError, match="no days of 'NOWHERE' from 2015-01-01"):
        trading_calendar(DATES, "NOWHERE")


def test_a_market_that_was_asked_for_is_never_left_out(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    with pytest.raises(ConfigError, match=r"pip install 'alphakeel\[calendar\]'"):
        trading_calendar(DATES, "XNYS")


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
    table, page = tmp_path / "doubtful.csv", tmp_path / "doubtful.html"
    words = ["check", str(file), "--csv", str(table), "--html", str(page)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "bad tick" in result.output
    written = pd.read_csv(table)
    assert written["ticker"].tolist()[0] == "BBB"
    assert len(written) == len(report.findings)
    text = page.read_text(encoding="utf-8")
    assert text.index("Errors: wrong") < text.index("bad tick: 1") < text.index("Notes: good")
    refused = CliRunner().invoke(app, [*words[:-1], str(tmp_path)])
    assert refused.exit_code == 2
    assert "it is a folder; name a file in it" in refused.output


def test_text_of_the_data_is_escaped_in_a_page_and_a_table(tmp_path: Path) -> None:
    days = pd.bdate_range("2015-01-01", periods=40)
    close = 20 + np.sin(np.arange(40.0))
    close[30] *= 2
    names = ("<script>alert(1)</script>", "=cmd|x")
    rows = [(str(d.date()), n, c) for n in names for d, c in zip(days, close, strict=True)]
    file = tmp_path / "p.csv"
    pd.DataFrame(rows, columns=["date", "ticker", "adj_close"]).to_csv(file, index=False)
    table, page = tmp_path / "rows.csv", tmp_path / "page.html"
    CliRunner().invoke(app, ["check", str(file), "--csv", str(table), "--html", str(page)])
    text = page.read_text(encoding="utf-8")
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert "\n=cmd" not in table.read_text(encoding="utf-8")
    assert ",=cmd" not in table.read_text(encoding="utf-8")


def beside_kinds(fields, **beside) -> set[str]:
    grid = Grid(DATES, TICKERS, fields)
    return set(quality_findings(grid, today=TODAY, beside=Beside(**beside))[1])


def actions(day: int, split: float = np.nan, dividend: float = np.nan) -> CorporateActions:
    one = np.array([day]), np.array([1])
    return CorporateActions(*one, np.array([split]), np.array([dividend]), np.full(1, np.nan))


def test_actions_are_held_against_prices() -> None:
    split = market()
    for name in ("close", "high", "low"):
        split[name][300:, 1] /= 2.0
    assert beside_kinds(split, actions=actions(300, split=2.0), own_adjustment=True) == set()
    assert beside_kinds(market(), actions=actions(300, split=2.0)) == {
        "split that the price does not show"
    }
    assert beside_kinds(market(), actions=actions(300, split=1.05)) == {"split of an unusual ratio"}
    paid = actions(300, dividend=4.0)
    assert beside_kinds(market(), actions=paid) == {"dividend far above the others"}
    assert beside_kinds(market(), actions=paid, own_adjustment=True) == {
        "dividend far above the others", "adjusted close that the actions do not give",
    }  # fmt: skip
    moved = market()
    scaled(moved, np.s_[300:], 1, 1.1)
    found = beside_kinds(moved, actions=actions(300, dividend=4.0))
    assert "move on the day of a split or spin-off" in found


def test_money_traded_is_held_against_close_times_volume() -> None:
    fields = market()
    amount = fields["close"] * fields["volume"]
    assert beside_kinds(fields, amount=amount) == set()
    amount[:, 2] /= 100.0
    amount[300, 1] *= 7.0
    assert beside_kinds(fields, amount=amount) == {
        "amount in another unit", "amount that is not close x volume",
    }  # fmt: skip


def test_ratios_jump_only_with_a_filing() -> None:
    fields = market()
    income = np.full(fields["close"].shape, 2.0)
    income[300:] = 3.0
    fields["earnings_to_price"] = income / fields["close"]
    filing = {"item": "net_income", "value": 3.0, "period_start": DATES[200],
              "period_end": DATES[270], "available_date": DATES[299]}  # fmt: skip
    filed = pd.DataFrame([{"ticker": name, **filing} for name in TICKERS])
    assert beside_kinds(fields, facts=filed) == set()
    assert beside_kinds(fields, facts=filed.iloc[1:]) == set(), "of one stock nothing is known"
    early = filed.iloc[:1].assign(available_date=DATES[100], period_end=DATES[80])
    assert beside_kinds(fields, facts=pd.concat([early, filed.iloc[1:]])) == {
        "P/E that jumps without a filing"
    }


def test_filings_that_cannot_be_or_repeat_are_told() -> None:
    day = np.array(["2015-03-31", "2015-06-30", "2015-09-30", "2015-12-31"], dtype="datetime64[D]")
    facts = pd.DataFrame({"ticker": "A", "item": "equity", "value": [5.0, 5.0, 5.0, 0.0],
                          "period_start": pd.NaT, "period_end": day,
                          "available_date": day + np.array([30, 30, 200, -5])})  # fmt: skip
    again = facts.iloc[:1].assign(value=9.0, available_date=day[1])
    told = filing_checks(pd.concat([facts, again]), estimated=3)
    assert {entry.kind: entry.severity for entry in told} == {
        "filed before its period ended": "error", "figure that repeats": "warning",
        "filed late": "note", "figure of zero": "note", "filings that disagree": "note",
        "filing day estimated": "note",
    }  # fmt: skip


def test_missing_figures_that_tell_of_the_end_are_told() -> None:
    rng = np.random.default_rng(3)
    close = 20 * np.exp(np.cumsum(rng.normal(0, 0.01, (600, 12)), axis=0))
    close[400:, :6] = np.nan
    yields = np.where(np.isnan(close), np.nan, 0.05)
    names = np.array([f"S{i:02d}" for i in range(12)])
    grid = Grid(DATES, names, {"adj_close": close, "earnings_to_price": yields})
    kind = "missing figures that tell of the end"
    assert kind not in quality_findings(grid, today=TODAY)[1]
    yields[:, :5] = np.nan
    assert quality_findings(grid, today=TODAY)[1][kind] == 1


def test_a_file_with_money_traded_is_checked(tmp_path: Path) -> None:
    fields = market()
    rows = [(day, ticker, fields["close"][t, i], 1000 + t, fields["close"][t, i] * (1000 + t) / 1e3)
            for t, day in enumerate(DATES[:80]) for i, ticker in enumerate(TICKERS)]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["date", "ticker", "close", "volume", "amount"])
    frame.loc[50, "amount"] *= 10
    frame.to_csv(tmp_path / "p.csv", index=False)
    found = [f for f in inspect_path(tmp_path / "p.csv").findings if f.kind.startswith("amount")]
    assert [(f.kind, f.ticker, f.date) for f in found] == [
        ("amount that is not close x volume", "CCC", str(DATES[12]))
    ]


def test_a_store_is_held_against_its_own_calendar_amounts_and_currencies(tmp_path: Path) -> None:
    fields, days = market(), [pd.Timestamp(day).date() for day in DATES[:60]]
    rows = pd.DataFrame(
        [(day, name, fields["close"][t, i], 1e6, fields["close"][t, i] * (1e6 if i else 1e4))
         for t, day in enumerate(days) for i, name in enumerate(TICKERS) if t != 30],
        columns=["date", "ticker", "close", "volume", "amount"])  # fmt: skip
    store = DataStore(tmp_path / "store")
    ended = (rows["ticker"] == "CCC") & (rows["date"] >= days[25])
    rows = rows[~ended]
    listed = {"as_of": days[-1], "ticker": TICKERS, "currency": ["USD", "USD", "USD", "CNY"],
              "status": ["listed", "listed", "delisted", None],
              "last_date": [None, None, days[26], None]}  # fmt: skip
    with store.writer() as writer:
        for name, table in (("bars", rows), ("calendar", pd.DataFrame({"date": days})),
                            ("securities", pd.DataFrame(listed))):  # fmt: skip
            writer.append(name, table, source="by hand", adjustment="raw")
        writer.commit()
    report = inspect_path(store.path)
    found = {(f.kind, f.ticker) for f in report.findings}
    assert found == {("trading day missing", ""), ("amount in another unit", "AAA"),
                     ("several currencies", ""), ("old data", ""),
                     ("prices that end early", "CCC")}  # fmt: skip
    assert any(f.message.endswith(f"delisted on {days[26]}.") for f in report.findings)
    since, counts = check_new_days(store, days[31], today=days[-1])
    assert (since, counts) == ([], {})
    _, counts = check_new_days(store, days[30], today=days[-1])
    assert counts == {"trading day missing": 1}


def test_the_quirks_of_real_prices_are_found(shared_data: Path) -> None:
    """Those that the description of the data names, each under a kind that says what it is."""
    report = inspect_path(shared_data / "us")
    found: dict[tuple[str, str], set[str]] = {}
    for finding in report.findings:
        found.setdefault((finding.ticker, finding.date), set()).add(finding.kind)
    jump, wick = "jump overnight on usual volume", "high or low far beyond open and close"
    large, missed = "dividend far above the others", "perhaps a split that the adjustment missed"
    unseen, half = "split that the price does not show", "move of more than half"
    known = {
        jump: ["SO 2001-04-03", "EQIX 2001-04-09", "MSI 2011-01-04", "HBI 2015-03-04",
               "APD 2016-10-03", "PEAK 2016-11-01"],
        wick: ["ARE 2009-02-27", "ARE 2009-03-19", "C 2009-04-27", "MNST 2010-05-06",
               "OKE 2010-05-06", "HCA 2015-08-24", "ENPH 2015-12-16"],
        large: ["KSU 2000-07-13", "HBI 2015-03-04", "ROST 2015-06-12", "HWM 2016-11-01",
                "HPQ 2015-11-02", "NI 2015-07-02", "GOOGL 2014-04-03"],
        missed: ["KSU 2000-07-13", "TRMB 2007-02-26"],
        unseen: ["ANTM 2002-03-18", "GNRC 2010-02-12"],
        half: ["ANTM 2001-10-30"],
        "adjustment without a split": ["ZBRA 2004-08-25", "TRMB 2007-02-23"],
        "bad tick": ["IRM 2006-02-02"],
        "split of an unusual ratio": ["EL 2011-11-23", "GNRC 2010-02-12"],
        "bar that repeats the last close": ["DPZ 2016-02-25", "TRMB 2007-02-23"],
        "move on the day of a split or spin-off": ["HWM 2016-11-01", "MSI 2011-01-04"],
    }  # fmt: skip
    for kind, places in known.items():
        for place in places:
            assert kind in found.get(tuple(place.split()), set()), (kind, place)
    since = [f for f in report.findings if f.date >= "2009-01-01"]
    assert sum(f.kind == wick for f in since) == 7
    assert sum(f.kind == "no volume" for f in since) == 32
    assert "figures missing in a sector" in report.counts
    china = inspect_path(shared_data / "cn")
    beyond = [(f.ticker, f.date) for f in china.findings if f.kind == "move beyond the daily limit"]
    assert beyond == [("sh600688", "2013-08-20"), ("sh600871", "2013-08-20")]
    assert "missing figures that tell of the end" in china.counts


def test_only_a_made_up_jump_of_earnings_is_told_in_real_figures(
    shared_data: Path, tmp_path: Path
) -> None:
    """Annual reports of May and switches from fiscal to trailing years move P/E rightly."""
    source = shared_data / "cn_all"
    if not source.is_dir():
        pytest.skip("the A shares of 2005 to 2016 are not on this machine")
    stocks = ["sh600009", "sh600519", "sz000002", "sz000858", "sz002024", "sz300027"]
    mine = [("symbol", "in", stocks), ("date", ">=", dt.date(2013, 6, 3))]
    prices = pd.read_parquet(source / "prices_2014_2016.parquet", filters=mine)
    ratios = pd.read_parquet(source / "valuation_daily.parquet", filters=mine)
    ratios = ratios[ratios["date"].isin(prices["date"])].sort_values(["symbol", "date"])
    figure = ratios["market_cap"] / ratios["pe"]
    jumps = (figure / figure.groupby(ratios["symbol"]).shift() - 1.0).abs() > 0.2
    switched = ratios["pe_source"] != ratios.groupby("symbol")["pe_source"].shift()
    assert (jumps & switched).sum() >= 3
    reports = pd.read_parquet(source / "fundamentals.parquet", filters=mine[:1])
    prices.to_parquet(tmp_path / "prices.parquet")
    reports.to_parquet(tmp_path / "fundamentals.parquet")
    made_up = (ratios["symbol"] == "sh600519") & (ratios["date"] >= dt.date(2015, 7, 15))
    for factor, told in ((1.0, []), (1.5, [("sh600519", "2015-07-15")])):
        changed = ratios.assign(pe=ratios["pe"].where(~made_up, ratios["pe"] * factor))
        changed.to_parquet(tmp_path / "valuation_daily.parquet")
        findings = inspect_path(tmp_path).findings
        assert [(f.ticker, f.date) for f in findings if "jumps without" in f.kind] == told
