"""Yahoo through yfinance against a server that answers as Yahoo's charts do, and breaks."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest

from alphakeel.data.loading import load_panel
from alphakeel.data.store import DataStore
from alphakeel.feeds.fetch import FetchRequest, update_request
from alphakeel.feeds.yahoo import YahooFeed
from feeds.loopback import Answer, HttpServer, always, first_times, serving
from feeds.surviving import Case, contents

pytest.importorskip("yfinance", reason="yfinance is not installed")
requests = pytest.importorskip("requests", reason="requests is not installed")

TODAY = dt.date(2015, 7, 10)
DAYS = [day.date() for day in pd.bdate_range("2015-06-01", "2015-07-09")]
SPLIT_AT, DIVIDEND_AT = 15, 8  # BBB: 4 for 1, and 2.00 in cash per share of that day


class ToLoopback(requests.adapters.HTTPAdapter):
    """Sends what is meant for Yahoo to this machine."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def send(self, request, **options):
        parts = urlsplit(request.url)
        request.headers["X-Host"] = parts.netloc
        request.url = f"{self._url}{parts.path}?{parts.query}"
        return super().send(request, **options)


def stamp(day: dt.date) -> int:
    """New York's opening bell."""
    return int(pd.Timestamp(f"{day} 09:30", tz="America/New_York").timestamp())


def raw_price(symbol: str, at: int) -> float:
    base = 100.0 + at + (50.0 if symbol == "BBB" else 0.0)
    return base / 4 if symbol == "BBB" and at >= SPLIT_AT else base


def chart(symbol: str, start: int, end: int) -> dict:
    """As Yahoo answers: prices and dividends divided by later splits, volumes multiplied."""
    chosen = [at for at, day in enumerate(DAYS) if start <= stamp(day) < end]
    split = {at: 4.0 if symbol == "BBB" and at < SPLIT_AT else 1.0 for at in chosen}
    close = [raw_price(symbol, at) / split[at] for at in chosen]
    events: dict = {}
    if symbol == "BBB" and chosen and chosen[0] <= DIVIDEND_AT:
        when = stamp(DAYS[DIVIDEND_AT])
        events["dividends"] = {str(when): {"amount": 0.5, "date": when}}
    if symbol == "BBB" and chosen and chosen[0] <= SPLIT_AT:
        when = stamp(DAYS[SPLIT_AT])
        events["splits"] = {
            str(when): {"date": when, "numerator": 4, "denominator": 1, "splitRatio": "4:1"}
        }
    quote = {
        "open": close,
        "high": [c * 1.01 for c in close],
        "low": [c * 0.99 for c in close],
        "close": close,
        "volume": [int(1000 * split[at]) for at in chosen],
    }
    meta = {
        "currency": "GBp" if symbol == "LON.L" else "USD",
        "symbol": symbol,
        "instrumentType": "EQUITY",
        "exchangeTimezoneName": "America/New_York",
        "timezone": "EDT",
        "gmtoffset": -14400,
        "firstTradeDate": stamp(DAYS[0]),
        "regularMarketTime": stamp(DAYS[-1]),
        "priceHint": 2,
        "dataGranularity": "1d",
        "range": "",
        "validRanges": ["1d", "5d", "1mo", "max"],
    }
    result = {
        "meta": meta,
        "timestamp": [stamp(DAYS[at]) for at in chosen],
        "events": events,
        "indicators": {"quote": [quote], "adjclose": [{"adjclose": close}]},
    }
    return {"chart": {"result": [result], "error": None}}


def encoded(value: object, status: int = 200) -> Answer:
    return Answer(json.dumps(value).encode(), status)


def answer(path: str) -> Answer:
    parts = urlsplit(path)
    if not parts.path.startswith("/v8/finance/chart/"):
        return Answer(b"crumb", 200, "text/plain")
    symbol = parts.path.rpartition("/")[2]
    if symbol == "OLD":
        why = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
        return encoded({"chart": {"result": None, "error": why}}, 404)
    asked = parse_qs(parts.query)
    return encoded(chart(symbol, int(asked["period1"][0]), int(asked["period2"][0])))


@pytest.fixture
def case():
    with serving(HttpServer(answer)) as server:

        def make() -> YahooFeed:
            session = requests.Session()
            session.mount("https://", ToLoopback(server.url))
            return YahooFeed(session=session, seconds=0.5)

        request = FetchRequest("AAA,BBB,CCC", DAYS[0], DAYS[-1])
        yield Case(make, server, request, TODAY)


def of_b(path: str) -> bool:
    return "/chart/BBB" in path


def change(edit):
    def fault(path, answer):
        value = json.loads(answer.body)
        edited = edit(value["chart"]["result"][0])
        return encoded(value if edited is None else edited)

    return fault


def quote(result) -> dict:
    return result["indicators"]["quote"][0]


def with_(**entries):
    return lambda path, answer: replace(answer, **entries)


def said(status: int, text: str, kind: str = "text/html"):
    return lambda path, answer: Answer(text.encode(), status, kind)


def no_bars(code: str, text: str, status: int):
    why = {"code": code, "description": text}
    return lambda path, answer: encoded({"chart": {"result": None, "error": why}}, status)


FAULTS = {
    "hangs": (with_(hang=1.2), {"unreachable"}),
    "cut in the middle": (with_(cut_at=200), {"unreachable"}),
    "cut at once": (with_(cut_at=0), {"unreachable"}),
    "429": (said(429, "Edge: Too Many Requests"), {"blocked"}),
    "429 without a word": (said(429, ""), {"blocked"}),
    "403": (said(403, "<html>Access denied</html>"), {"blocked"}),
    "500": (said(500, "<html>error</html>"), {"unreachable"}),
    "down": (said(200, "<html>Will be right back...</html>"), {"unreachable"}),
    "a page for JSON": (said(200, "<html>Welcome to Yahoo</html>"), {"changed format"}),
    "half of it, called whole": (
        lambda path, answer: replace(answer, body=answer.body[:300]),
        {"unreachable", "changed format"},
    ),
    "empty": (with_(body=b""), {"changed format", "unreachable"}),
    "a list for a table": (lambda path, answer: encoded([1]), {"changed format", "unreachable"}),
    "indicators renamed": (
        change(lambda r: r.update(prices=r.pop("indicators"))),
        {"changed format"},
    ),
    "a column renamed": (
        change(lambda r: quote(r).update(last=quote(r).pop("close"))),
        {"changed format"},
    ),
    "columns of unequal length": (
        change(lambda r: quote(r)["close"].pop()),
        {"changed format"},
    ),
    "text for a number": (
        change(lambda r: quote(r)["close"].__setitem__(3, "n/a")),
        {"changed format", "wrong data"},
    ),
    "another stock": (change(lambda r: r["meta"].update(symbol="ZZZ")), {"wrong data"}),
    "a negative price": (change(lambda r: quote(r)["low"].__setitem__(3, -1.0)), {"wrong data"}),
    "a price of nothing": (change(lambda r: quote(r)["close"].__setitem__(3, 0.0)), {"wrong data"}),
    "a high below the low": (
        change(lambda r: quote(r)["high"].__setitem__(3, 1.0)),
        {"wrong data"},
    ),
    "a clock in the future": (
        change(lambda r: r["timestamp"].__setitem__(-1, stamp(dt.date(2015, 8, 3)))),
        {"wrong data"},
    ),
    "no rows": (
        no_bars("Bad Request", "Data doesn't exist for startDate = 1, endDate = 2", 400),
        {"empty"},
    ),
    "unknown": (
        no_bars("Not Found", "No data found, symbol may be delisted", 404),
        {"not listed"},
    ),
}
KNOWN_FOR_GOOD = ("no rows", "unknown")


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in KNOWN_FOR_GOOD])
def test_a_fault_that_stays_stores_nothing_and_says_why(name: str, case: Case, tmp_path) -> None:
    fault, reasons = FAULTS[name]
    case.survives(tmp_path, always(fault, of_b), reasons)


@pytest.mark.parametrize("name", KNOWN_FOR_GOOD)
def test_a_stock_without_data_is_told_from_a_failure(name: str, case: Case, tmp_path) -> None:
    fault, reasons = FAULTS[name]
    case.server.fault = always(fault, of_b)
    report = case.fetch(tmp_path)
    assert not report.committed
    assert [(e.ticker, {e.reason}) for e in report.missing] == [("BBB", reasons)]


@pytest.mark.parametrize(
    "name", ["hangs", "cut in the middle", "cut at once", "429", "500", "down"]
)
def test_a_fault_that_passes_is_healed(name: str, case: Case, tmp_path) -> None:
    case.heals(tmp_path, first_times(3, FAULTS[name][0], of_b))


def test_rows_in_disorder_and_twice_are_put_right(case: Case, tmp_path) -> None:
    def edit(result):
        order = [*range(len(result["timestamp"]))][::-1]
        order += order[:2]
        result["timestamp"] = [result["timestamp"][k] for k in order]
        for values in (*result["indicators"]["quote"], *result["indicators"]["adjclose"]):
            for name in values:
                values[name] = [values[name][k] for k in order]

    case.heals(tmp_path, always(change(edit), of_b))


def test_a_blocked_service_is_asked_no_more(case: Case, tmp_path: Path) -> None:
    case.server.fault = always(FAULTS["429"][0], of_b)
    report = case.fetch(tmp_path)
    assert [(e.ticker, e.reason) for e in report.missing] == [
        ("BBB", "blocked"),
        ("CCC", "not asked"),
    ]
    assert not any("/chart/CCC" in path for path, _ in case.server.requests)
    case.server.fault = None
    asked = len(case.server.requests)
    assert case.fetch(tmp_path).committed
    assert not any("/chart/AAA" in path for path, _ in case.server.requests[asked:])


def test_what_was_traded_and_paid_on_the_day_is_stored(case: Case, tmp_path: Path) -> None:
    assert case.fetch(tmp_path).committed
    tables = contents(tmp_path)
    own = tables["bars"].query("ticker == 'BBB'")
    np.testing.assert_allclose(own["close"], [raw_price("BBB", at) for at in range(len(DAYS))])
    assert own["volume"].unique().tolist() == [1000.0]
    actions = tables["actions"].query("ticker == 'BBB'")
    assert actions["dividend"].tolist()[0] == 2.0
    assert actions["split"].tolist()[1] == 4.0
    panel = load_panel(tmp_path)
    adjusted = panel["adj_close"][:, list(panel.asset_names).index("BBB")]
    growth = adjusted[1:] / adjusted[:-1]
    price = 150.0 + np.arange(len(DAYS))
    expected = price[1:] / price[:-1]
    expected[DIVIDEND_AT - 1] = (price[DIVIDEND_AT] + 2.0) / price[DIVIDEND_AT - 1]
    np.testing.assert_allclose(growth, expected)


def test_an_update_after_a_split_keeps_the_prices_of_the_day(case: Case, tmp_path: Path) -> None:
    """Stored before the split, when Yahoo's prices were not yet divided."""
    full = case.request
    case.request = replace(full, end=DAYS[SPLIT_AT - 3])
    assert case.fetch(tmp_path / "a").committed
    request = update_request(DataStore(tmp_path / "a"), "yahoo", full.end)
    assert request.update
    case.request = request
    assert case.fetch(tmp_path / "a").committed
    case.request = full
    assert case.fetch(tmp_path / "b").committed
    left, right = contents(tmp_path / "a"), contents(tmp_path / "b")
    for table in ("bars", "actions"):
        pd.testing.assert_frame_equal(left[table], right[table])


def test_prices_in_pence_become_pounds(case: Case) -> None:
    with case.make() as feed:
        bars = feed.bars("LON.L", DAYS[0], DAYS[-1])["bars"]
    assert bars["close"].iloc[0] == pytest.approx(1.0)


def test_the_adjustment_is_stated(case: Case, tmp_path: Path) -> None:
    assert case.fetch(tmp_path).committed
    assert {p.adjustment for p in DataStore(tmp_path).parts} == {YahooFeed.adjustment}


@pytest.mark.live
def test_the_real_service_answers() -> None:
    with YahooFeed() as feed:
        tables = feed.bars("AAPL", dt.date(2014, 6, 2), dt.date(2014, 6, 30))
    assert tables["actions"]["split"].dropna().tolist() == [7.0]
    assert tables["bars"]["close"].iloc[0] == pytest.approx(628.65, rel=1e-3)
