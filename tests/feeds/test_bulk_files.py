"""Sources that read a folder, and those that are asked over HTTP for a table."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphakeel.data.loading import load_panel
from alphakeel.data.store import DataStore
from alphakeel.errors import ConfigError
from alphakeel.feeds.akshare import AkshareFeed
from alphakeel.feeds.failures import FeedError
from alphakeel.feeds.fetch import FetchRequest, fetch, update_request
from alphakeel.feeds.qlib import QlibFeed
from alphakeel.feeds.stooq import StooqFeed
from feeds.loopback import Answer, HttpServer, always, first_times, serving
from feeds.surviving import Case, FakeTime, contents

DAYS = pd.bdate_range("2015-01-01", "2015-01-14")
TODAY = dt.date(2015, 2, 1)
WHOLE = FetchRequest("all", DAYS[0].date(), DAYS[-1].date())


def run(feed, request, path, **options):
    return fetch(feed, request, path, clock=FakeTime(TODAY).clock(), **options)


# Qlib: A is listed throughout; B from the third day on, and goes 2 for 1 on the sixth.


@pytest.fixture
def qlib(tmp_path: Path) -> Path:
    folder = tmp_path / "qlib"
    (folder / "calendars").mkdir(parents=True)
    (folder / "calendars" / "day.txt").write_text("\n".join(str(d.date()) for d in DAYS) + "\n")
    (folder / "instruments").mkdir()
    spells = ["SH600000\t2015-01-01\t2015-01-14", "SH600001\t2015-01-05\t2015-01-07",
              "SH600001\t2015-01-13\t2015-01-14",
              "SH600002\t2015-01-01\t2015-01-14"]  # fmt: skip
    (folder / "instruments" / "all.txt").write_text("\n".join(spells))
    for number, (ticker, first) in enumerate({"sh600000": 0, "sh600001": 2, "sh600002": 0}.items()):
        raw = 10.0 + number + 0.5 * np.arange(len(DAYS) - first)
        factor = np.full(len(raw), 0.25)
        if number == 1:
            factor[3:] *= 2.0
            raw[3:] /= 2.0
        values = dict.fromkeys(("open", "high", "low", "close"), raw * factor)
        values |= {"volume": 1000.0 / factor, "factor": factor}
        place = folder / "features" / ticker
        place.mkdir(parents=True)
        for name, column in values.items():
            np.append(np.float32(first), column.astype("<f4")).astype("<f4").tofile(
                place / f"{name}.day.bin"
            )
    return folder


@pytest.mark.parametrize("first_part", [4, 5, 6])
def test_a_day_later_nothing_before_it_has_moved_by_a_bit(qlib, tmp_path, first_part) -> None:
    """Through a split, a stock that leaves the universe, and one that comes back."""
    store = tmp_path / "store"
    end = DAYS[first_part - 1].date()
    assert run(QlibFeed(qlib), replace(WHOLE, end=end), store).committed
    before = load_panel(store, universe="all")
    later = update_request(DataStore(store), "qlib", DAYS[first_part].date())
    assert run(QlibFeed(qlib), later, store).committed
    after = load_panel(store, universe="all")
    assert after.n_observations == before.n_observations + 1
    for name in before.fields:
        np.testing.assert_array_equal(after[name][:-1], before[name], err_msg=name)
    np.testing.assert_array_equal(after.estimation_mask[:-1], before.estimation_mask)


def test_a_qlib_folder_gives_raw_and_adjusted_prices(qlib: Path, tmp_path: Path) -> None:
    assert run(QlibFeed(qlib), WHOLE, tmp_path / "store").committed
    panel = load_panel(tmp_path / "store")
    assert list(panel.asset_names) == ["SH600000", "SH600001", "SH600002"]
    close = panel["close"]
    np.testing.assert_allclose(close[:3, 0], [10.0, 10.5, 11.0], rtol=1e-6)
    np.testing.assert_allclose(close[2:6, 1], [11.0, 11.5, 12.0, 6.25], rtol=1e-6)
    assert np.nanmax(np.abs(panel["volume"] - 1000.0)) < 1e-2
    adjusted = panel["adj_close"][2:, 1]
    np.testing.assert_allclose(adjusted / adjusted[0], (11 + 0.5 * np.arange(8)) / 11, rtol=1e-5)
    member = panel["member"]
    assert np.nan_to_num(member[:, 1]).tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "close.day.bin").write_bytes(b"\0" * 7), "wrong data"),
        (lambda f: (f / "close.day.bin").write_bytes((f / "close.day.bin").read_bytes()[:-8]),
         "wrong data"),
        (lambda f: (f / "close.day.bin").unlink(), "not listed"),
        (lambda f: (f / "factor.day.bin").unlink(), "wrong data"),
        (lambda f: np.full(40, 1.0, "<f4").tofile(f / "close.day.bin"), "wrong data"),
        (lambda f: np.append(np.float32(2), np.full(8, -1, "<f4")).astype("<f4").tofile(
            f / "close.day.bin"), "wrong data"),
    ],
)  # fmt: skip
def test_a_damaged_qlib_file_is_named(damage, reason: str, qlib: Path, tmp_path: Path) -> None:
    damage(qlib / "features" / "sh600001")
    report = run(QlibFeed(qlib), WHOLE, tmp_path / "store")
    assert not report.committed
    assert [(entry.ticker, entry.reason) for entry in report.missing] == [("SH600001", reason)]


def test_what_is_no_qlib_folder_is_refused(tmp_path: Path, qlib: Path) -> None:
    with pytest.raises(ConfigError, match="is no Qlib folder"):
        QlibFeed(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="has the universes all"):
        run(QlibFeed(qlib), replace(WHOLE, universe="csi300"), tmp_path / "store")
    (qlib / "instruments" / "bad.txt").write_text("SH600000 today tomorrow")
    with pytest.raises(FeedError, match=r"line 1 of .*bad.txt"):
        run(QlibFeed(qlib), replace(WHOLE, universe="bad"), tmp_path / "store")


# Stooq

HEADER = "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"


@pytest.fixture
def stooq(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "daily" / "us" / "nasdaq stocks" / "1"
    folder.mkdir(parents=True)
    for ticker in ("AAA.US", "BBB.US"):
        lines = [f"{ticker},D,{d:%Y%m%d},000000,10,11,9,{10 + k / 8},100,0" for k, d in
                 enumerate(DAYS)]  # fmt: skip
        (folder / f"{ticker.lower()}.txt").write_text(HEADER + "\n".join(lines) + "\n")
    return folder


def test_stooq_files_are_read_and_called_adjusted(stooq: Path, tmp_path: Path) -> None:
    report = run(StooqFeed(tmp_path / "data"), replace(WHOLE, universe="nasdaq stocks"), tmp_path)
    assert report.committed
    table = contents(tmp_path)["bars"]
    assert len(table) == 2 * len(DAYS)
    assert "adjusted at the source" in StooqFeed.adjustment
    panel = load_panel(tmp_path)
    assert (panel["adj_close"] == panel["close"]).all()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Exceeded the daily hits limit", "blocked"),
        ("", "empty"),
        (HEADER.replace("<CLOSE>", "<LAST>") + "X", "changed format"),
        (HEADER + "BBB.US,D,20150105,000000,10,11", "changed format"),
        (HEADER + "BBB.US,D,2015-01,000000,10,11,9,10,1,0", "changed format"),
        (HEADER + "BBB.US,D,20150105,000000,10,11,9,ten,1,0", "changed format"),
        (HEADER + "CCC.US,D,20150105,000000,10,11,9,10,1,0", "wrong data"),
        (HEADER + "BBB.US,5,20150105,000000,10,11,9,10,1,0", "empty"),
        (HEADER + "BBB.US,D,20150105,000000,10,11,9,0,1,0", "wrong data"),
    ],
)
def test_a_damaged_stooq_file_is_named(text: str, reason: str, stooq: Path, tmp_path) -> None:
    (stooq / "bbb.us.txt").write_text(text)
    report = run(StooqFeed(tmp_path / "data"), WHOLE, tmp_path)
    assert not report.committed
    assert [(entry.ticker, entry.reason) for entry in report.missing] == [("BBB.US", reason)]


# The Treasury's bills


def bills(path: str) -> Answer:
    year = path.partition("rates.csv/")[2][:4]
    head = 'Date,"4 WEEKS BANK DISCOUNT","4 WEEKS COUPON EQUIVALENT","13 WEEKS COUPON EQUIVALENT"'
    rows = [f"{d:%m/%d/%Y},0.02,0.02,0.0{d.day % 9 + 1}" for d in DAYS[::-1] if str(d.year) == year]
    return Answer("\n".join([head, *rows]).encode(), kind="text/csv")


def test_bills_become_fractions_and_faults_are_told_apart(tmp_path: Path) -> None:
    pytest.importorskip("httpx", reason="httpx is not installed")
    from alphakeel.feeds.rates import RatesFeed

    def page(path, answer):
        return Answer(b"<html>Access Denied</html>", 200, "text/html")

    def replaced(old, new):
        return lambda path, answer: replace(answer, body=answer.body.replace(old, new))

    faults = [
        (page, {"blocked"}),
        (lambda p, a: replace(a, cut_at=40), {"unreachable"}),
        (lambda p, a: replace(a, status=500), {"unreachable"}),
        (replaced(b"4 WEEKS COUPON", b"4 WK COUPON"), {"changed format"}),
        (replaced(b"0.02", b"about 2"), {"changed format"}),
        (replaced(b"01/14/2015", b"14.01.2015"), {"changed format"}),
        (replaced(b",0.02,0.02,", b",0.02,200,"), {"wrong data"}),
    ]
    with serving(HttpServer(bills)) as server:
        request = FetchRequest("treasury", WHOLE.start, WHOLE.end, what=("rates",))
        case = Case(lambda: RatesFeed(url=server.url, seconds=0.5), server, request, TODAY)
        for number, (fault, reasons) in enumerate(faults):
            case.survives(tmp_path / str(number), always(fault, lambda path: True), reasons)
        table = contents(tmp_path / "0" / "store")["rates"]
    assert table["rate"].max() < 0.01
    assert set(table["name"]) == {"treasury_4w", "treasury_13w"}


# Tushare: lots of 100 shares, thousands of CNY

TOKEN = "0123456789abcdef"


def pro(body: dict) -> dict:
    assert body["token"] == TOKEN
    if body["api_name"] == "trade_cal":
        days = pd.date_range(DAYS[0], DAYS[-1])
        rows = [[f"{day:%Y%m%d}", int(day in DAYS)] for day in days]
        return {"code": 0, "msg": None, "data": {"fields": ["cal_date", "is_open"], "items": rows}}
    columns = body["fields"].split(",")
    if body["api_name"] == "index_weight":
        rows = [["600000.SH", "20150105"], ["600001.SH", "20150105"]]
        return {"code": 0, "msg": None, "data": {"fields": columns, "items": rows}}
    if body["api_name"] == "stock_basic":
        rows = [["600001.SH", "20150302"], ["600999.SH", "20100104"]]
        assert body["params"] == {"list_status": "D"}
        return {"code": 0, "msg": None, "data": {"fields": columns, "items": rows}}
    code = body["params"]["ts_code"]
    rows = []
    for at, day in enumerate(DAYS):
        split = 2.0 if code.startswith("600001") and at >= 4 else 1.0
        close = (10.0 + at) / split
        ratio = None if at == 2 else 9.0
        whole = {"ts_code": code, "trade_date": f"{day:%Y%m%d}", "open": close, "high": close + 1,
                 "low": close - 1, "close": close, "vol": 50.0, "amount": 50 * 100 * close / 1000,
                 "adj_factor": 7.5 * split, "turnover_rate": 1.5, "pe_ttm": ratio,
                 "pb": 1.5, "total_mv": close * 100}  # fmt: skip
        rows.append([whole[name] for name in columns])
    return {"code": 0, "msg": None, "data": {"fields": columns, "items": rows[::-1]}}


class PostServer(HttpServer):
    """An HTTP server whose answers depend on what was posted."""

    def __init__(self) -> None:
        super().__init__(lambda path: Answer(b""))
        outer, handler = self, self._server.RequestHandlerClass

        def do_post(request) -> None:
            body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
            answer = Answer(json.dumps(pro(body)).encode())
            if outer.fault is not None:
                answer = outer.fault(body["api_name"] + body["params"].get("ts_code", ""), answer)
            outer._send(request, answer)

        handler.do_POST = do_post


def test_tushare_units_factors_and_faults(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("httpx", reason="httpx is not installed")
    from alphakeel.feeds.tushare import TushareFeed

    monkeypatch.delenv("TUSHARE_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="set the environment variable TUSHARE_TOKEN"):
        TushareFeed()
    monkeypatch.setenv("TUSHARE_TOKEN", TOKEN)

    def said(code, text):
        return lambda p, a: Answer(json.dumps({"code": code, "msg": text, "data": None}).encode())

    def edited(edit):
        def fault(path, answer):
            value = json.loads(answer.body)
            edit(value["data"])
            return Answer(json.dumps(value).encode())

        return fault

    def of(api):
        return lambda path: path == f"{api}600001.SH"

    faults = [
        (of("daily"), said(40203, "抱歉，您每分钟最多访问该接口200次"), {"blocked"}),
        (of("daily"), said(40203, f"您的token不对 {TOKEN}"), {"blocked"}),
        (of("daily_basic"), said(40203, "抱歉，您没有接口访问权限"), {"blocked"}),
        (of("daily"), said(50101, "内部错误"), {"unreachable"}),
        (of("daily"), lambda p, a: replace(a, cut_at=30), {"unreachable"}),
        (of("daily"), lambda p, a: replace(a, hang=1.0), {"unreachable"}),
        (of("daily"), lambda p, a: Answer(b"<html>502</html>", 502, "text/html"), {"unreachable"}),
        (of("daily"), edited(lambda d: d["fields"].__setitem__(5, "LAST")), {"changed format"}),
        (of("daily"), edited(lambda d: d["items"][3].pop()), {"changed format"}),
        (of("daily"), edited(lambda d: d["items"][3].__setitem__(2, "x")), {"changed format"}),
        (of("daily"), edited(lambda d: [r.__setitem__(6, r[6] / 100) for r in d["items"]]),
         {"wrong data"}),
        (of("daily"), edited(lambda d: d["items"].extend(d["items"] * 600)), {"wrong data"}),
        (of("adj_factor"), edited(lambda d: d["items"].pop()), {"wrong data"}),
    ]  # fmt: skip
    with serving(PostServer()) as server:
        request = replace(WHOLE, universe="sh600000,sh600001")
        case = Case(lambda: TushareFeed(url=server.url, seconds=0.5), server, request, TODAY)
        for number, (match, fault, reasons) in enumerate(faults):
            case.survives(tmp_path / str(number), always(fault, match), reasons)
        case.heals(tmp_path / "once", first_times(2, faults[0][1], of("daily")))
        server.fault = always(faults[1][1], of("daily"))
        report = case.fetch(tmp_path / "token")
        server.fault = always(faults[2][1], lambda path: path == "trade_cal")
        alone = case.fetch(tmp_path / "no calendar")
        assert alone.committed
        assert any(note.startswith("without a calendar: tushare refuses") for note in alone.notes)
        assert TOKEN not in json.dumps(report.to_dict())
    panel = load_panel(tmp_path / "0" / "store")
    assert (panel["volume"] == 5000.0).all()
    np.testing.assert_allclose(panel["market_cap"], panel["close"] * 100 * 10_000)
    adjusted = panel["adj_close"][:, 1]
    np.testing.assert_allclose(adjusted / adjusted[0], (10 + np.arange(10)) / 10)


def test_tushare_says_which_members_are_delisted(monkeypatch) -> None:
    pytest.importorskip("httpx", reason="httpx is not installed")
    from alphakeel.feeds.tushare import TushareFeed

    monkeypatch.setenv("TUSHARE_TOKEN", TOKEN)
    with serving(PostServer()) as server, TushareFeed(url=server.url) as feed:
        tables = feed.universe("csi300", WHOLE.start, WHOLE.end)
    assert set(tables["members"]["ticker"]) == {"sh600000", "sh600001"}
    stated = tables["securities"].set_index("ticker")
    assert stated["status"].to_dict() == {"sh600000": "listed", "sh600001": "delisted"}
    assert stated["last_date"].dropna().to_dict() == {"sh600001": dt.date(2015, 3, 2)}


# akshare: a stand-in for the library, with the columns of its documentation


class Library:
    """What `akshare` answers for Sina's daily bars."""

    def __init__(self, fault=None) -> None:
        self.fault = fault

    def tool_trade_date_hist_sina(self):
        return pd.DataFrame({"trade_date": DAYS.date})

    def stock_zh_a_daily(self, symbol, start_date, end_date, adjust):
        if adjust == "hfq-factor":
            dates = ["2015-01-08", "1900-01-01"]
            answer = pd.DataFrame({"date": pd.to_datetime(dates), "hfq_factor": ["2.0", "1.0"]})
        else:
            close = np.where(np.arange(len(DAYS)) >= 5, 5.0, 10.0) + 1e-9 * np.arange(len(DAYS))
            answer = pd.DataFrame({"date": DAYS.date, "open": close, "high": close, "low": close,
                                   "close": close, "volume": 100.0, "amount": 1000.0,
                                   "outstanding_share": 1e6, "turnover": 1e-4})  # fmt: skip
        return answer if self.fault is None or adjust else self.fault(answer)


def raising(error):
    def fault(answer):
        raise error

    return fault


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (raising(ConnectionError("reset by peer")), "unreachable"),
        (raising(TimeoutError("timed out")), "unreachable"),
        (raising(KeyError("date")), "changed format"),
        (raising(TypeError("'NoneType' object is not subscriptable")), "changed format"),
        (lambda a: None, "changed format"),
        (lambda a: a.rename(columns={"close": "收盘"}), "changed format"),
        (lambda a: a.iloc[:0], "empty"),
        (lambda a: a.assign(close=-1.0), "wrong data"),
    ],
)
def test_akshare_faults_are_told_apart(fault, reason: str, tmp_path: Path) -> None:
    request = replace(WHOLE, universe="sh600000,sh600001")
    report = run(AkshareFeed(client=Library(fault)), request, tmp_path)
    assert not report.committed
    assert {entry.reason for entry in report.missing} == {reason}
    assert run(AkshareFeed(client=Library()), request, tmp_path, fresh=True).committed
    panel = load_panel(tmp_path)
    np.testing.assert_allclose(panel["adj_close"], 10.0, rtol=1e-6)
    assert DataStore(tmp_path).read("calendar").num_rows == len(DAYS)


def test_akshare_still_has_what_we_ask_for() -> None:
    akshare = pytest.importorskip("akshare", reason="akshare is not installed")
    import inspect

    asked = set(inspect.signature(akshare.stock_zh_a_daily).parameters)
    assert {"symbol", "start_date", "end_date", "adjust"} <= asked
