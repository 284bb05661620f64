"""EDGAR's company facts from a server that has its quirks, and breaks."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphakeel.data.fundamentals import known_figures
from alphakeel.data.loading import load_panel
from alphakeel.data.store import DataStore
from alphakeel.errors import ConfigError
from alphakeel.feeds.edgar import EdgarFeed
from alphakeel.feeds.failures import FeedError
from alphakeel.feeds.fetch import FetchRequest
from feeds.loopback import Answer, HttpServer, always, first_times, serving
from feeds.surviving import Case, contents

pytest.importorskip("httpx", reason="httpx, the client of edgar, is not installed")

TODAY = dt.date(2016, 6, 30)
COMPANIES = {"AAA": 1, "BBB": 2, "BRK-A": 3, "BRK-B": 3, "JPM-PC": 2, "OLD": 9}


def fact(end: str, value: float, filed: str, start: str | None = None, form: str = "10-Q"):
    entry = {"end": end, "val": value, "accn": f"0000-{filed}", "fy": 2015, "fp": "Q1",
             "form": form, "filed": filed}  # fmt: skip
    return entry if start is None else {"start": start, **entry}


def company(number: int) -> dict:
    """Two years of filings; the second 10-K restates the first year, as they do."""
    k = float(number)
    income = [
        fact("2014-03-31", 10 * k, "2014-04-30", "2014-01-01"),
        fact("2014-06-30", 21 * k, "2014-07-30", "2014-01-01"),
        fact("2014-06-30", 11 * k, "2014-07-30", "2014-04-01"),
        fact("2014-09-30", 33 * k, "2014-10-30", "2014-01-01"),
        fact("2014-12-31", 46 * k, "2015-02-20", "2014-01-01", "10-K"),
        fact("2015-03-31", 14 * k, "2015-04-30", "2015-01-01"),
        fact("2014-03-31", 10 * k, "2015-04-30", "2014-01-01"),
        fact("2015-12-31", 60 * k, "2016-02-20", "2015-01-01", "10-K"),
        fact("2014-12-31", 44 * k, "2016-02-20", "2014-01-01", "10-K"),
    ]
    revenue_old = [fact("2014-12-31", 100 * k, "2015-02-20", "2014-01-01", "10-K")]
    revenue_new = [fact("2015-12-31", 150 * k, "2016-02-20", "2015-01-01", "10-K")]
    equity = [fact("2014-12-31", 200 * k, "2015-02-20"), fact("2015-12-31", 250 * k, "2016-02-20")]
    shares = [fact("2015-02-10", 1000, "2015-02-20"), fact("2016-02-10", 1_000_000, "2016-02-20")]
    average = [
        fact("2014-12-31", 1010, "2015-02-20", "2014-01-01"),
        fact("2015-12-31", 1020, "2016-02-20", "2015-01-01"),
    ]
    slip = fact("2015-12-31", 9e9, "2015-02-20")  # filed before its period ends
    return {
        "cik": number,
        "entityName": f"Company {number}",
        "facts": {
            "dei": {"EntityCommonStockSharesOutstanding": {"units": {"shares": shares}}},
            "us-gaap": {
                "NetIncomeLoss": {"label": "", "units": {"USD": income}},
                "SalesRevenueNet": {"units": {"USD": revenue_old}},
                "RevenueFromContractWithCustomerExcludingAssessedTax": {
                    "units": {"USD": revenue_new, "EUR": revenue_new}
                },
                "StockholdersEquity": {"units": {"USD": [*equity, slip]}},
                "WeightedAverageNumberOfDilutedSharesOutstanding": {"units": {"shares": average}},
            },
        },
    }


def encoded(value: object) -> Answer:
    return Answer(json.dumps(value).encode())


def answer(path: str) -> Answer:
    if path == "/files/company_tickers.json":
        rows = {
            str(i): {"cik_str": cik, "ticker": ticker, "title": f"Company {cik}"}
            for i, (ticker, cik) in enumerate(COMPANIES.items())
        }
        return encoded(rows)
    number = int(path.removesuffix(".json").rpartition("CIK")[2])
    if number == 9:
        return Answer(b"<Error><Code>NoSuchKey</Code></Error>", 404, "application/xml")
    return encoded(company(number))


@pytest.fixture
def case():
    with serving(HttpServer(answer)) as server:
        yield Case(
            lambda: EdgarFeed(
                "Jane Doe jane@example.org", data_url=server.url, site_url=server.url, seconds=0.5
            ),
            server,
            FetchRequest(
                "AAA,BBB", dt.date(2015, 1, 1), dt.date(2016, 6, 30), what=("fundamentals",)
            ),
            TODAY,
        )


def of_b(path: str) -> bool:
    return path.endswith("CIK0000000002.json")


def change(edit):
    def fault(path, answer):
        value = json.loads(answer.body)
        edited = edit(value)
        return encoded(value if edited is None else edited)

    return fault


def page(status: int, text: str, **headers: str):
    body = f"<html><head><title>SEC.gov</title></head><body><h1>{text}</h1></body></html>".encode()
    return lambda path, answer: Answer(body, status, "text/html", headers)


def with_(**entries):
    return lambda path, answer: replace(answer, **entries)


def income(value) -> list:
    return value["facts"]["us-gaap"]["NetIncomeLoss"]["units"]["USD"]


FAULTS = {
    "hangs": (with_(hang=1.2), {"unreachable"}),
    "drips": (with_(drip=0.05), {"unreachable"}),
    "cut in the middle": (with_(cut_at=200), {"unreachable"}),
    "cut at once": (with_(cut_at=0), {"unreachable"}),
    "half of it, called whole": (
        lambda path, answer: replace(answer, body=answer.body[:300]),
        {"unreachable"},
    ),
    "429": (page(429, "Request Rate Threshold Exceeded", **{"Retry-After": "5"}), {"blocked"}),
    "429 for an hour": (page(429, "Too many", **{"Retry-After": "3600"}), {"blocked"}),
    "403": (
        page(403, "Your Request Originates from an Undeclared Automated Tool"),
        {"blocked"},
    ),
    "a page that refuses, called 200": (page(200, "Request Rate Threshold Exceeded"), {"blocked"}),
    "another page, called 200": (page(200, "We have a new website"), {"changed format"}),
    "500": (page(500, "Internal Server Error"), {"unreachable"}),
    "503": (page(503, "Service Unavailable"), {"unreachable"}),
    "410": (page(410, "Gone"), {"changed format"}),
    "empty": (with_(body=b""), {"changed format", "unreachable"}),
    "a list for a table": (change(lambda v: [1, 2]), {"changed format"}),
    "facts renamed": (change(lambda v: {"cik": 2, "data": v["facts"]}), {"changed format"}),
    "another company": (change(lambda v: {**v, "cik": 77}), {"wrong data"}),
    "a column renamed": (
        change(lambda v: [f.update(value=f.pop("val")) for f in income(v)] and None),
        {"changed format"},
    ),
    "no date": (change(lambda v: income(v)[2].update(end="Q2 2014")), {"changed format"}),
    "text for a number": (change(lambda v: income(v)[2].update(val="n/a")), {"changed format"}),
    "a clock in the future": (
        change(lambda v: income(v)[4].update(filed="2017-02-20")),
        {"wrong data"},
    ),
}
PASSING = ["hangs", "cut in the middle", "cut at once", "half of it, called whole", "429", "403",
           "500", "503"]  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_stays_stores_nothing_and_says_why(name: str, case: Case, tmp_path) -> None:
    fault, reasons = FAULTS[name]
    case.survives(tmp_path, always(fault, of_b), reasons)


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_is_healed(name: str, case: Case, tmp_path) -> None:
    case.heals(tmp_path, first_times(2, FAULTS[name][0], of_b))


def test_facts_in_disorder_and_twice_are_put_right(case: Case, tmp_path) -> None:
    def edit(value):
        facts = income(value)
        facts.reverse()
        facts.extend([dict(facts[0]), dict(facts[3])])

    case.heals(tmp_path, always(change(edit), of_b))


def test_a_figure_that_a_filing_states_twice_is_not_believed(case: Case, tmp_path) -> None:
    def edit(value):
        facts = income(value)
        facts.append({**facts[4], "val": -5.0})
        facts.append({**facts[5], "val": facts[5]["val"] * 1.001})  # rounding

    case.server.fault = always(change(edit), of_b)
    assert case.fetch(tmp_path).committed
    own = contents(tmp_path)["fundamentals"].query("ticker == 'BBB' and item == 'net_income'")
    filed = own[own["form"] == "10-K"]["available_date"].astype(str)
    assert "2015-02-20" not in set(filed)
    assert 28.0 in own["value"].tolist()


def test_a_stated_wait_is_obeyed(case: Case, tmp_path: Path) -> None:
    from alphakeel.feeds.fetch import fetch
    from feeds.surviving import FakeTime

    time = FakeTime(TODAY)
    case.server.fault = first_times(1, FAULTS["429"][0], of_b)
    assert fetch(case.make(), case.request, tmp_path, clock=time.clock()).committed
    assert 5.0 in time.waits
    assert all(wait <= 5.0 for wait in time.waits)


@pytest.mark.parametrize(
    ("ticker", "reason", "text"),
    [
        ("OLD", "empty", "no tagged filings"),
        ("GONE", "not listed", "has no GONE"),
        ("JPM-PC", "not listed", "preferred share"),
    ],
)
def test_what_is_not_there_is_told_apart(case: Case, ticker: str, reason: str, text: str) -> None:
    with case.make() as feed, pytest.raises(FeedError, match=text) as caught:
        feed.fundamentals(ticker, dt.date(2010, 1, 1), TODAY)
    assert caught.value.reason == reason


def test_a_contact_is_needed_and_sent(case: Case) -> None:
    with pytest.raises(ConfigError, match="--contact"):
        EdgarFeed("nobody")
    with case.make() as feed:
        feed.fundamentals("AAA", dt.date(2010, 1, 1), TODAY)
    agents = {headers["User-Agent"] for _, headers in case.server.requests}
    assert agents == {"Jane Doe jane@example.org"}


def test_every_vintage_is_kept_and_counts_from_its_filing(case: Case, tmp_path: Path) -> None:
    assert case.fetch(tmp_path).committed
    facts = contents(tmp_path)["fundamentals"]
    own = facts[(facts["ticker"] == "AAA") & (facts["item"] == "net_income")]
    year = own[own["period_end"].astype(str) == "2014-12-31"]
    assert year[["available_date", "value"]].astype(str).values.tolist() == [
        ["2015-02-20", "46.0"],
        ["2016-02-20", "44.0"],
    ]
    figures = known_figures(facts[facts["ticker"] == "AAA"])
    known = figures.set_index(figures["available_date"].astype(str))["net_income"]
    # The quarter of 2015 less that of 2014, on top of the fiscal year.
    assert known.loc[["2015-02-20", "2015-04-30", "2016-02-20"]].tolist() == [46.0, 50.0, 60.0]
    first = figures[figures["available_date"].astype(str) == "2016-02-20"].iloc[0]
    assert first["net_income_year_ago"] == 44.0
    assert first["revenue_year_ago"] == 100.0  # under another tag


def test_a_count_in_wrong_units_gives_way_to_the_average(case: Case) -> None:
    with case.make() as feed:
        table = feed.fundamentals("AAA", dt.date(2015, 1, 1), TODAY)["fundamentals"]
    shares = table[table["item"] == "shares"].set_index(
        table.loc[table["item"] == "shares", "available_date"].astype(str)
    )
    assert shares.loc["2015-02-20", "value"] == 1000.0
    assert shares.loc["2016-02-20", "value"] == 1020.0
    assert shares.loc["2016-02-20", "tag"].startswith("WeightedAverage")
    assert not (table["value"] == 9e9).any()


def test_share_classes_are_counted_in_their_own_shares(case: Case) -> None:
    with case.make() as feed:
        counts = [
            feed.fundamentals(name, dt.date(2015, 1, 1), TODAY)["fundamentals"]
            .query("item == 'shares'")["value"]
            .iloc[0]
            for name in ("BRK-A", "BRK.B")
        ]
    assert counts == [1000.0, 1_500_000.0]


def test_price_ratios_are_those_of_the_day_and_survive_a_split(case: Case, tmp_path: Path) -> None:
    days = pd.bdate_range("2015-02-16", "2015-05-15").date
    bars = pd.DataFrame(
        {"date": list(days) * 2, "ticker": ["AAA"] * len(days) + ["BBB"] * len(days)}
    )
    split = dt.date(2015, 3, 16)
    bars["close"] = np.where((bars["ticker"] == "AAA") & (bars["date"] >= split), 5.0, 10.0)
    bars["close"] += np.arange(len(bars)) * 1e-6
    actions = pd.DataFrame({"date": [split], "ticker": ["AAA"], "split": [2.0]})
    with DataStore(tmp_path).writer() as writer:
        writer.append("bars", bars, source="by hand", adjustment="raw")
        writer.append("actions", actions, source="by hand", adjustment="raw")
        writer.commit()
    case.request = replace(case.request, universe="store")
    assert case.fetch(tmp_path).committed
    panel = load_panel(tmp_path)
    at = [str(day) for day in panel.observations.astype("datetime64[D]")].index
    book, earnings = panel["book_to_price"][:, 0], panel["earnings_to_price"][:, 0]
    assert np.isnan(book[at("2015-02-20")])  # known after that day's close only
    np.testing.assert_allclose(book[at("2015-02-23")], 200 / (1000 * 10), rtol=1e-4)
    np.testing.assert_allclose(book[at("2015-03-17")], 200 / (2000 * 5), rtol=1e-4)
    np.testing.assert_allclose(earnings[at("2015-03-17")], 46 / (2000 * 5), rtol=1e-4)
    np.testing.assert_allclose(earnings[at("2015-05-04")], 50 / (2000 * 5), rtol=1e-4)


@pytest.mark.live
def test_the_real_service_answers() -> None:
    import os

    with EdgarFeed(os.environ["ALPHAKEEL_CONTACT"]) as feed:
        table = feed.fundamentals("AAPL", dt.date(2015, 1, 1), dt.date(2016, 1, 1))["fundamentals"]
    assert {"net_income", "equity", "shares"} <= set(table["item"])
