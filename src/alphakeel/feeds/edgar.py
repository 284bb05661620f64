"""Filings of US companies from the SEC's EDGAR: every figure of every filing, by filing date.

The service is https://data.sec.gov/api/xbrl/companyfacts, free and without a key; it asks callers
to name a contact and to stay below ten requests a second.

Traps that are handled here: a figure has many tags over the years (the first that a filing uses
counts); later filings repeat earlier periods, restated (each is a row of its own); share counts
of companies with several classes are not in the service (the weighted average of the filing
stands in); a ticker may stand for a preferred share, whose company's earnings are not its own.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from alphakeel.errors import ConfigError
from alphakeel.feeds.base import Feed, Pace, Tables
from alphakeel.feeds.failures import ChangedFormatError, NoDataError, NotListedError, WrongDataError
from alphakeel.feeds.http import HttpClient

__all__ = ["EdgarFeed"]

_TAGS: dict[str, tuple[str, ...]] = {
    "net_income": (
        "NetIncomeLoss",
        "NetIncomeLossAvailableToCommonStockholdersBasic",
        "ProfitLoss",
    ),
    "revenue": (
        "RevenueFromContractWithCustomerExcludingAssessedTax",
        "Revenues",
        "SalesRevenueNet",
        "RevenueFromContractWithCustomerIncludingAssessedTax",
        "SalesRevenueGoodsNet",
    ),
    "gross_profit": ("GrossProfit",),
    "operating_cash_flow": (
        "NetCashProvidedByUsedInOperatingActivities",
        "NetCashProvidedByUsedInOperatingActivitiesContinuingOperations",
    ),
    "equity": (
        "StockholdersEquity",
        "StockholdersEquityIncludingPortionAttributableToNoncontrollingInterest",
    ),
    "assets": ("Assets",),
    "liabilities": ("Liabilities",),
    "eps_diluted": ("EarningsPerShareDiluted", "EarningsPerShareBasicAndDiluted"),
    "shares": ("EntityCommonStockSharesOutstanding", "CommonStockSharesOutstanding"),
}
_AVERAGES = (
    "WeightedAverageNumberOfDilutedSharesOutstanding",
    "WeightedAverageNumberOfSharesOutstandingBasic",
)
_UNITS = {"shares": "shares", "eps_diluted": "USD/shares"}
# Shares of this class that one share of the counted class is worth.
_CLASS_RATIO = {"BRK-B": 1500.0}
# A share count this many times off the filing's own average is in wrong units.
_WRONG_UNITS = 50.0
# Relative difference of a figure in thousands from the same in dollars.
_ROUNDING = 0.01
_PREFERRED = re.compile(r".+-P[A-Z]?$")


class EdgarFeed(Feed):
    """Company facts of the SEC.

    Parameters
    ----------
    contact : str
        Name and e-mail address of who asks, as the SEC requires.
    data_url, site_url : str
        Of the two hosts; for tests.
    seconds : float
        Longest time for one answer.
    """

    name: ClassVar[str] = "edgar"
    extra: ClassVar[str] = "edgar"
    adjustment: ClassVar[str] = "as filed"
    pace: ClassVar[Pace] = Pace(interval=0.15, tries=4, first_wait=2.0, longest_wait=600.0)

    def __init__(
        self,
        contact: str,
        *,
        data_url: str = "https://data.sec.gov",
        site_url: str = "https://www.sec.gov",
        seconds: float = 60.0,
    ) -> None:
        if "@" not in contact or "\n" in contact:
            raise ConfigError(
                "the SEC asks every caller for a contact: give a name and an e-mail address with "
                "--contact."
            )
        self._http = HttpClient("EDGAR", self.extra, {"User-Agent": contact}, seconds)
        self._data, self._site = data_url.rstrip("/"), site_url.rstrip("/")
        self._companies: dict[str, tuple[int, str]] | None = None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def universe(self, name: str, start: dt.date, end: dt.date) -> Tables:
        """Every company with a ticker today ("sec"): no list of a day in the past."""
        if name != "sec":
            raise ConfigError(
                f"edgar knows the universe 'sec' (all tickers of today), not {name!r}: name "
                "tickers, or take 'store'."
            )
        rows = [
            {"as_of": end, "ticker": ticker, "name": title}
            for ticker, (_, title) in self._tickers().items()
            if not _PREFERRED.match(ticker)
        ]
        return {"securities": pd.DataFrame(rows)}

    def fundamentals(self, ticker: str, start: dt.date, end: dt.date) -> Tables:
        """Every figure of every filing from the start on."""
        known = ticker.upper().replace(".", "-")
        if _PREFERRED.match(known):
            raise NotListedError(
                f"{ticker} is a preferred share: the figures of its company are not its own."
            )
        company = self._tickers().get(known)
        if company is None:
            raise NotListedError(
                f"the SEC's list of tickers has no {ticker}: it is delisted, renamed or foreign."
            )
        number = company[0]
        url = f"{self._data}/api/xbrl/companyfacts/CIK{number:010d}.json"
        answer = self._http.json(url)
        if answer is None:
            raise NoDataError(f"EDGAR has no tagged filings of {ticker} (CIK {number}).")
        facts = _facts_of(answer, number, ticker)
        rows = _rows(facts, ticker)
        table = pd.DataFrame(rows)
        if len(table):
            table = _without_wrong_counts(table)
            table = _first_tag(table)
            scale = _CLASS_RATIO.get(known, 1.0)
            shares = table["item"] == "shares"
            table.loc[shares, "value"] *= scale
            table.loc[table["item"] == "eps_diluted", "value"] /= scale
            table = table[table["available_date"] >= start]
        if not len(table):
            raise NoDataError(f"EDGAR has no figure of {ticker} filed from {start} on.")
        return {"fundamentals": table.reset_index(drop=True)}

    def _tickers(self) -> dict[str, tuple[int, str]]:
        """CIK and name by ticker, asked for once."""
        if self._companies is None:
            answer = self._http.json(f"{self._site}/files/company_tickers.json")
            try:
                self._companies = {
                    str(row["ticker"]).upper(): (int(row["cik_str"]), str(row["title"]))
                    for row in answer.values()
                }
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise ChangedFormatError(
                    f"EDGAR's list of tickers is not built as it was ({type(error).__name__}: "
                    f"{error}): update alphakeel."
                ) from error
            if not self._companies:
                raise WrongDataError("EDGAR's list of tickers is empty: try again later.")
        return self._companies


def _facts_of(answer: Any, number: int, ticker: str) -> dict[str, dict[str, Any]]:
    """The facts of an answer by tag; refuses another company's and another form."""
    try:
        answered = int(answer["cik"])
        merged: dict[str, dict[str, Any]] = {}
        for taxonomy in ("us-gaap", "dei"):
            merged |= answer["facts"].get(taxonomy, {})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ChangedFormatError(
            f"EDGAR's facts of {ticker} are not built as they were ({type(error).__name__}: "
            f"{error}): update alphakeel."
        ) from error
    if answered != number:
        raise WrongDataError(
            f"EDGAR was asked for {ticker} (CIK {number}) and answered with CIK {answered} "
            f"({str(answer.get('entityName'))[:40]})."
        )
    return merged


def _rows(facts: dict[str, dict[str, Any]], ticker: str) -> list[dict[str, Any]]:
    """Every figure that we know a tag of, and the weighted share counts, one row each."""
    rows = []
    tags = [(item, tag) for item, names in _TAGS.items() for tag in names]
    for item, tag in [*tags, *(("average_shares", tag) for tag in _AVERAGES)]:
        unit = "shares" if item == "average_shares" else _UNITS.get(item, "USD")
        units = facts.get(tag, {}).get("units", {})
        if not isinstance(units, dict):
            raise ChangedFormatError(
                f"the units of {tag} of {ticker} are no table: update alphakeel."
            )
        for fact in units.get(unit, []):
            row = _row(fact, ticker, item, tag, unit)
            if row is not None:
                rows.append(row)
    return rows


def _row(fact: Any, ticker: str, item: str, tag: str, unit: str) -> dict[str, Any] | None:
    """One fact; None where it is filed before its period ends, a slip of the filer."""
    try:
        start = fact.get("start")
        row: dict[str, Any] = {
            "ticker": ticker,
            "item": item,
            "tag": tag,
            "unit": unit,
            "period_start": None if start is None else dt.date.fromisoformat(start),
            "period_end": dt.date.fromisoformat(fact["end"]),
            "available_date": dt.date.fromisoformat(fact["filed"]),
            "filing": str(fact["accn"]),
            "form": str(fact["form"]),
            "value": float(fact["val"]),
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ChangedFormatError(
            f"a fact {tag} of {ticker} is not built as it was ({type(error).__name__}: {error}): "
            "update alphakeel."
        ) from error
    if row["available_date"] < row["period_end"] and tag != "EntityCommonStockSharesOutstanding":
        return None
    return row


def _first_tag(table: pd.DataFrame) -> pd.DataFrame:
    """Of several tags for one item, period and filing keep the first of our list.

    A filing that states one figure twice, differing by more than its rounding, says nothing.
    """
    own = ["tag", "period_start", "period_end", "filing"]
    values = table.groupby(own, dropna=False)["value"]
    low, high = values.transform("min"), values.transform("max")
    table = table[(high - low) <= _ROUNDING * np.maximum(high.abs(), low.abs())]
    order = {tag: at for names in (*_TAGS.values(), _AVERAGES) for at, tag in enumerate(names)}
    ranked = table.assign(rank=table["tag"].map(order)).sort_values("rank", kind="stable")
    key = ["item", "period_start", "period_end", "filing"]
    ranked = ranked.drop_duplicates(key).drop(columns="rank")
    return ranked.sort_values(["available_date", "item", "period_end"], kind="stable")


def _without_wrong_counts(table: pd.DataFrame) -> pd.DataFrame:
    """Drop share counts in wrong units; where a filing has none, its weighted average stands in."""
    averages = table[table["item"] == "average_shares"]
    rest = table[table["item"] != "average_shares"]
    if not len(averages):
        return rest
    newest = averages.sort_values("period_end", kind="stable").drop_duplicates(
        "filing", keep="last"
    )
    average = newest.set_index("filing")["value"]
    ratio = rest["value"] / rest["filing"].map(average)
    off = (ratio > _WRONG_UNITS) | (ratio < 1 / _WRONG_UNITS)
    rest = rest[~((rest["item"] == "shares") & off)]
    counted = set(rest.loc[rest["item"] == "shares", "filing"])
    stand_in = newest[~newest["filing"].isin(counted)].assign(item="shares", period_start=None)
    return pd.concat([rest, stand_in], ignore_index=True)
