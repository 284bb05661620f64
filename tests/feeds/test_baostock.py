"""baostock through its own client against a server that speaks its protocol, and breaks."""

from __future__ import annotations

import datetime as dt
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphakeel.data.loading import load_panel
from alphakeel.data.store import DataStore
from alphakeel.feeds.baostock import BaostockFeed
from alphakeel.feeds.fetch import FetchRequest
from feeds.loopback import BaostockServer, Reply, always, columns_and_rows, first_times, serving
from feeds.surviving import Case, contents

pytest.importorskip("baostock", reason="the client of baostock is not installed")

DAYS = [str(day.date()) for day in pd.bdate_range("2015-05-27", "2015-06-16")]
CODES = ["sh.600000", "sh.600010", "sz.000001"]
FIELDS = [
    "date",
    "code",
    "open",
    "high",
    "low",
    "close",
    "preclose",
    "volume",
    "amount",
    "adjustflag",
    "turn",
    "tradestatus",
    "peTTM",
    "pbMRQ",
    "isST",
]
TODAY = dt.date(2015, 6, 20)


def price(code: str, at: int) -> float:
    """A price that depends on the stock; sh.600010 goes ex-dividend, 2 for 1, on the 5th day."""
    if code == "sz.000001" and at == 3:
        at = 2  # suspended: the price of the day before
    base = 10.0 + CODES.index(code) + 0.1 * at
    return base / 2 if code == "sh.600010" and at >= 5 else base


def bar(code: str, at: int) -> dict[str, str]:
    close, before = price(code, at), price(code, at - 1)
    reference = before / 2 if code == "sh.600010" and at == 5 else before
    stopped = code == "sz.000001" and at == 3
    return {
        "date": DAYS[at],
        "code": code,
        **dict.fromkeys(("open", "high", "low", "close"), f"{close:.4f}"),
        "preclose": f"{reference:.4f}",
        "volume": "" if stopped else str(1000 * (at + 1)),
        "amount": "" if stopped else f"{1000 * (at + 1) * close:.4f}",
        "adjustflag": "3",
        "turn": "" if stopped else "0.5",
        "tradestatus": "0" if stopped else "1",
        "peTTM": f"{close / 2:.6f}",
        "pbMRQ": f"{close / 8:.6f}",
        "isST": "0",
    }


def answer(method: str, arguments: list[str]) -> Reply:
    if method == "query_trade_dates":
        every = pd.date_range("2015-05-27", "2015-06-16")
        return columns_and_rows(
            [
                {"calendar_date": str(d.date()), "is_trading_day": "1" if d.weekday() < 5 else "0"}
                for d in every
            ]
        )
    if method == "query_hs300_stocks":
        day = arguments[-1]
        listed = CODES[:2] if day < "2015-06-15" else CODES
        update = "2015-05-25" if day < "2015-06-15" else "2015-06-15"
        return columns_and_rows(
            [{"updateDate": update, "code": c, "code_name": "浦发 银行"} for c in listed]
        )
    if method == "query_stock_industry":
        return columns_and_rows(
            [
                {"updateDate": "2015-06-15", "code": c, "code_name": "x", "industry": "银行",
                 "industryClassification": "证监会行业分类"}
                for c in [*CODES, "sh.600999"]
            ]
        )  # fmt: skip
    if method == "query_stock_basic":
        return columns_and_rows(
            [
                {"code": c, "code_name": "浦发银行", "ipoDate": "1999-11-10",
                 "outDate": "2015-08-20" if c == "sh.600010" else "", "type": "1",
                 "status": "0" if c == "sh.600010" else "1"}
                for c in [*CODES, "sh.600999"]
            ]
        )  # fmt: skip
    if method == "query_daily_history_k_AStock":
        rows = [bar(code, DAYS.index(arguments[-1])) for code in CODES]
        return columns_and_rows([*rows, {**rows[0], "code": "sh.601999"}])
    if method == "query_profit_data":
        return profit(arguments)
    if method == "query_balance_data":
        reply = profit(arguments)
        rows = [[r[0], r[1], r[2], "0.9"] for r in reply.rows]
        return Reply(["code", "pubDate", "statDate", "liabilityToAsset"], rows)
    code, start, end = arguments[3], arguments[5], arguments[6]
    if code == "sh.000300":
        rows = [{"date": d, "code": code, "close": f"{5000 + i}"} for i, d in enumerate(DAYS)]
        return columns_and_rows([r for r in rows if start <= r["date"] <= end])
    rows = [bar(code, at) for at in range(len(DAYS)) if start <= DAYS[at] <= end]
    return columns_and_rows(rows) if rows else Reply(FIELDS, [])


def profit(arguments: list[str]) -> Reply:
    code, year, quarter = arguments[3], int(arguments[4]), int(arguments[5])
    columns = ["code", "pubDate", "statDate", "roeAvg", "npMargin", "gpMargin", "netProfit",
               "epsTTM", "MBRevenue", "totalShare", "liqaShare"]  # fmt: skip
    ends = {1: "03-31", 2: "06-30", 3: "09-30", 4: "12-31"}
    published = {1: f"{year}-04-25", 2: f"{year}-08-25", 3: f"{year}-10-25", 4: f"{year + 1}-03-25"}
    row = [code, published[quarter], f"{year}-{ends[quarter]}", "0.1", "0.3", "",
           str(100.0 * quarter), "1.9", "" if quarter % 2 else "700", "1000", "900"]  # fmt: skip
    return Reply(columns, [row])


@pytest.fixture
def case():
    with serving(BaostockServer(answer)) as server:
        yield Case(
            lambda: BaostockFeed(host="127.0.0.1", port=server.port, seconds=0.5),
            server,
            FetchRequest(
                "csi300", dt.date(2015, 5, 27), dt.date(2015, 6, 16), what=("bars", "index")
            ),
            TODAY,
        )


def of_b(method: str, arguments: list[str]) -> bool:
    return method == "query_history_k_data_plus" and arguments[3] == "sh.600010"


def rows(change):
    return lambda method, arguments, reply: replace(reply, rows=change(reply.rows, reply.columns))


def cell(at: int, column: str, value: str):
    def change(table, columns):
        changed = [list(row) for row in table]
        changed[at][columns.index(column)] = value
        return changed

    return rows(change)


def reply(**entries):
    return lambda method, arguments, reply: replace(reply, **entries)


def bad_zlib(method, arguments, reply):
    return replace(reply, raw=b"00.9.40\x0196\x010000000009notzlib!!<![CDATA[]]>\n")


def html(method, arguments, reply):
    page = zlib.compress(b"<html><body>502 Bad Gateway</body></html>\n")
    head = f"00.9.40\x0196\x01{len(page):010d}".encode()
    return replace(reply, raw=head + page + b"<![CDATA[]]>\n")


FAULTS = {
    "hangs": (reply(hang=1.0), {"unreachable"}),
    "cut in the middle": (reply(cut_at=40), {"unreachable"}),
    "cut at once": (reply(cut_at=0), {"unreachable"}),
    "server error": (reply(code="10005001", text="系统级别错误"), {"unreachable"}),
    "session lost": (reply(code="10001001", text="用户未登陆"), {"unreachable"}),
    "black list": (reply(code="10001011", text="黑名单用户"), {"blocked"}),
    "too many logins": (reply(code="10001005", text="账号登陆数达到上限"), {"blocked"}),
    "old client": (reply(code="10001004", text="客户端版本号过期"), {"changed format"}),
    "unknown code": (reply(code="10004011", text="无效的证券代码"), {"not listed"}),
    "not zlib": (bad_zlib, {"unreachable", "changed format"}),
    "a page": (html, {"changed format"}),
    "a column renamed": (
        reply(columns=["date", "code", *FIELDS[2:5], "CLOSE", *FIELDS[6:]]),
        {"changed format"},
    ),
    "rows too short": (rows(lambda t, c: [r[:-1] for r in t]), {"changed format"}),
    "text for a number": (cell(2, "close", "n/a"), {"changed format"}),
    "no date": (cell(2, "date", "yesterday"), {"changed format"}),
    "a negative price": (cell(2, "low", "-1"), {"wrong data"}),
    "adjusted prices": (cell(2, "adjustflag", "2"), {"wrong data"}),
    "another stock": (cell(2, "code", "sz.000001"), {"wrong data"}),
    "a day twice, different": (
        rows(lambda t, c: [*t, [*t[3][:5], "99.0", *t[3][6:]]]),
        {"wrong data"},
    ),
    "a day missing": (rows(lambda t, c: t[:4] + t[6:]), {"wrong data"}),
    "a clock in the future": (cell(-1, "date", "2015-07-30"), {"wrong data"}),
    "no rows": (rows(lambda t, c: []), {"empty"}),
}
KNOWN_FOR_GOOD = {"unknown code", "no rows"}


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in KNOWN_FOR_GOOD])
def test_a_fault_that_stays_stores_nothing_and_says_why(name: str, case: Case, tmp_path) -> None:
    fault, reasons = FAULTS[name]
    case.survives(tmp_path, always(fault, of_b), reasons)


@pytest.mark.parametrize("name", sorted(KNOWN_FOR_GOOD))
def test_a_stock_without_data_is_told_from_a_failure(name: str, case: Case, tmp_path) -> None:
    fault, reasons = FAULTS[name]
    case.server.fault = always(fault, of_b)
    report = case.fetch(tmp_path)
    assert not report.committed
    assert [entry.ticker for entry in report.missing] == ["sh600010"]
    assert {entry.reason for entry in report.missing} == reasons
    case.request = replace(case.request, allow_partial=True)
    asked = len(case.server.requests)
    assert case.fetch(tmp_path).committed
    again = [method for method, _ in case.server.requests[asked:]]
    assert "query_history_k_data_plus" not in again  # answered already
    assert set(contents(tmp_path)["bars"]["ticker"]) == {"sh600000", "sz000001"}
    missing = DataStore(tmp_path).requests["baostock"]["missing"]
    assert [entry["ticker"] for entry in missing] == ["sh600010"]


@pytest.mark.parametrize(
    "name",
    ["hangs", "cut in the middle", "cut at once", "server error", "session lost", "black list"],
)
def test_a_fault_that_passes_is_healed(name: str, case: Case, tmp_path) -> None:
    case.heals(tmp_path, first_times(2, FAULTS[name][0], of_b))


def test_rows_in_disorder_and_twice_are_put_right(case: Case, tmp_path) -> None:
    case.heals(tmp_path, always(rows(lambda t, c: [*t[::-1], t[0], t[4]]), of_b))


def test_a_list_of_members_that_is_not_whole_is_refused(case: Case, tmp_path) -> None:
    def match(method, arguments):
        return method == "query_hs300_stocks" and arguments[-1] >= "2015-06-15"

    fault = always(rows(lambda t, c: t[:1]), match)
    case.survives(tmp_path, fault, {"wrong data"})


def test_a_login_that_fails_ends_the_work(case: Case, tmp_path) -> None:
    fault = always(
        reply(code="10001011", text="黑名单用户，请与管理员联系"),
        lambda method, _: method == "login",
    )
    case.survives(tmp_path, fault, {"blocked"})


def test_an_answer_of_many_pages_is_read_to_the_end(case: Case) -> None:
    days = pd.bdate_range("2003-01-01", periods=4100)

    def many(method, arguments, reply):
        if method != "query_history_k_data_plus":
            return reply
        table = [{**bar("sh.600010", 1), "date": str(d.date())} for d in days]
        return columns_and_rows(table)

    case.server.fault = many
    with case.make() as feed:
        bars = feed.bars("sh600010", dt.date(2003, 1, 1), dt.date(2020, 1, 1))["bars"]
    assert len(bars) == 4100
    assert bars["date"].is_monotonic_increasing


def test_a_lost_page_is_no_end_of_the_answer(case: Case) -> None:
    days = pd.bdate_range("2003-01-01", periods=4100)

    def torn(method, arguments, reply):
        if method != "query_history_k_data_plus":
            return reply
        table = [{**bar("sh.600010", 1), "date": str(d.date())} for d in days]
        whole = columns_and_rows(table)
        return replace(whole, cut_at=100) if arguments[1] == "2" else whole

    case.server.fault = torn
    with case.make() as feed, pytest.raises(Exception, match="the line to baostock was lost"):
        feed.bars("sh600010", dt.date(2003, 1, 1), dt.date(2020, 1, 1))


def test_what_is_stored_is_what_a_holder_earned(case: Case, tmp_path: Path) -> None:
    assert case.fetch(tmp_path).committed
    panel = load_panel(tmp_path, universe="all")
    column = list(panel.asset_names).index("sh600010")
    adjusted = panel["adj_close"][:, column]
    at = np.arange(len(DAYS))
    np.testing.assert_allclose(adjusted / adjusted[0], (11 + 0.1 * at) / 11, rtol=1e-4)
    stopped = list(panel.asset_names).index("sz000001")
    assert not panel.estimation_mask[3, stopped]
    np.testing.assert_allclose(panel["earnings_to_price"][0, 0], 2 / price(CODES[0], 0))
    np.testing.assert_allclose(panel["market_cap"][0, 0], 1000 / 0.005 * price(CODES[0], 0))
    member = load_panel(tmp_path)["member"]
    assert member[0].tolist() == [1, 1, 0]
    assert member[-1].tolist() == [1, 1, 1]
    assert panel["market_index"][0, 0] == 5000


def test_the_day_of_a_delisting_is_stored(case: Case, tmp_path: Path) -> None:
    assert case.fetch(tmp_path).committed
    stated = contents(tmp_path)["securities"].set_index("ticker")
    assert sorted(stated.index) == ["sh600000", "sh600010", "sz000001"]  # members only
    assert stated["status"].to_dict() == {
        "sh600000": "listed", "sh600010": "delisted", "sz000001": "listed"
    }  # fmt: skip
    assert stated["last_date"].dropna().to_dict() == {"sh600010": dt.date(2015, 8, 20)}


def test_reports_count_from_their_publication(case: Case, tmp_path: Path) -> None:
    case.request = replace(case.request, what=("bars", "fundamentals"))
    assert case.fetch(tmp_path).committed
    facts = contents(tmp_path)["fundamentals"]
    assert {"net_income", "shares", "liabilities_to_assets"} <= set(facts["item"])
    assert facts["available_date"].max() == dt.date(2015, 4, 25)
    panel = load_panel(tmp_path, universe="all")
    # 400 of the year before, plus 100 of the first quarter, less 100 of that a year ago.
    np.testing.assert_allclose(panel["leverage"], 0.9)
    np.testing.assert_allclose(panel["revenue_growth"], 0.0)


def test_an_update_asks_for_the_newest_days_only(case: Case, tmp_path: Path) -> None:
    full = case.request
    case.request = replace(full, end=dt.date(2015, 6, 12))
    assert case.fetch(tmp_path / "a").committed
    asked = len(case.server.requests)
    case.request = replace(full, update=True)
    report = case.fetch(tmp_path / "a")
    assert report.committed
    asked_of = [m for m, a in case.server.requests[asked:] if a[3:4] != ["sh.000300"]]
    assert asked_of.count("query_daily_history_k_AStock") == 3  # the newest day, and two new ones
    one_by_one = {a[3] for m, a in case.server.requests[asked:]
                  if m == "query_history_k_data_plus" and a[3] != "sh.000300"}  # fmt: skip
    assert one_by_one == {"sz.000001"}  # new in the index
    case.request = full
    assert case.fetch(tmp_path / "b").committed
    left, right = contents(tmp_path / "a"), contents(tmp_path / "b")
    pd.testing.assert_frame_equal(left["bars"], right["bars"])
    as_of = left["securities"].set_index("ticker")["as_of"]  # what is known is not stored again
    assert as_of.to_dict() == {"sh600000": dt.date(2015, 6, 12), "sh600010": dt.date(2015, 6, 12),
                               "sz000001": dt.date(2015, 6, 16)}  # fmt: skip


def test_a_rewritten_history_is_not_mixed_with_the_old(case: Case, tmp_path: Path) -> None:
    full = case.request
    case.request = replace(full, end=dt.date(2015, 6, 12))
    assert case.fetch(tmp_path).committed
    before = contents(tmp_path)

    def halved(table, columns):
        at = [columns.index(name) for name in ("open", "high", "low", "close", "preclose")]
        return [[str(float(v) / 2) if k in at else v for k, v in enumerate(r)] for r in table]

    def match(method, arguments):
        return method == "query_daily_history_k_AStock" or of_b(method, arguments)

    def fault(method, arguments, reply):
        own = [row for row in reply.rows if row[1] == "sh.600010"]
        others = [row for row in reply.rows if row[1] != "sh.600010"]
        return replace(reply, rows=others + halved(own, reply.columns))

    case.server.fault = always(fault, match)
    case.request = replace(full, update=True)
    report = case.fetch(tmp_path)
    assert not report.committed
    assert report.missing[0].reason == "wrong data"
    assert "another scale" in report.missing[0].message
    pd.testing.assert_frame_equal(contents(tmp_path)["bars"], before["bars"])


DAY_FAULTS = {
    "cut": (reply(cut_at=30), {"unreachable"}),
    "black list": (reply(code="10001011", text="黑名单用户"), {"blocked"}),
    "a column renamed": (reply(columns=["day", *FIELDS[1:]]), {"changed format"}),
    "another day": (rows(lambda t, c: [["2015-06-09", *r[1:]] for r in t]), {"wrong data"}),
    "a stock twice": (rows(lambda t, c: [*t, [*t[0][:5], "99", *t[0][6:]]]), {"wrong data"}),
    "a negative price": (cell(1, "close", "-3"), {"wrong data"}),
    "not there yet": (rows(lambda t, c: []), {"empty"}),
    "adjusted": (cell(1, "adjustflag", "1"), {"wrong data"}),
}


@pytest.mark.parametrize("name", DAY_FAULTS)
def test_a_fault_in_an_update_leaves_the_store_as_it_was(name: str, case: Case, tmp_path) -> None:
    full = case.request
    case.request = replace(full, end=dt.date(2015, 6, 12))
    assert case.fetch(tmp_path / "a").committed
    before = contents(tmp_path / "a")
    fault, reasons = DAY_FAULTS[name]
    case.server.fault = always(
        fault, lambda m, a: m == "query_daily_history_k_AStock" and a[-1] == "2015-06-15"
    )
    case.request = replace(full, update=True)
    report = case.fetch(tmp_path / "a")
    assert not report.committed
    assert {entry.reason for entry in report.missing} - {"not asked"} == reasons
    assert report.last_day == "2015-06-12"
    assert report.age_days == 8
    pd.testing.assert_frame_equal(contents(tmp_path / "a")["bars"], before["bars"])
    case.server.fault = None
    assert case.fetch(tmp_path / "a").committed
    case.request = full
    assert case.fetch(tmp_path / "b").committed
    pd.testing.assert_frame_equal(
        contents(tmp_path / "a")["bars"], contents(tmp_path / "b")["bars"]
    )


def test_a_stock_that_a_day_lacks_is_asked_for_by_itself(case: Case, tmp_path) -> None:
    full = case.request
    case.request = replace(full, end=dt.date(2015, 6, 12))
    assert case.fetch(tmp_path / "a").committed
    asked = len(case.server.requests)
    case.server.fault = always(
        rows(lambda t, c: t[1:]), lambda m, a: m == "query_daily_history_k_AStock"
    )
    case.request = replace(full, update=True)
    assert case.fetch(tmp_path / "a").committed
    by_stock = [a[3] for m, a in case.server.requests[asked:]
                if m == "query_history_k_data_plus" and a[3] != "sh.000300"]  # fmt: skip
    assert by_stock == ["sh.600000", "sz.000001"]  # the second is new in the index


@pytest.mark.live
def test_the_real_service_answers(tmp_path: Path) -> None:
    with BaostockFeed() as feed:
        bars = feed.bars("sh600000", dt.date(2024, 1, 2), dt.date(2024, 1, 31))["bars"]
    assert len(bars) == 22
