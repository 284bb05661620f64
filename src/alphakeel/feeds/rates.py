"""A riskless rate by date: Treasury bills of the United States, from the Treasury itself.

The service is https://home.treasury.gov, one CSV file a year, without a key. The coupon equivalent
is taken (per cent a year); the store holds fractions. A day's rate is published that evening.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
from typing import ClassVar

import pandas as pd

from alphakeel.feeds.base import Feed, Pace, Tables, days_of, need_columns, numbers_of
from alphakeel.feeds.failures import NoDataError, WrongDataError
from alphakeel.feeds.http import HttpClient

__all__ = ["RatesFeed"]

_URL = "/resource-center/data-chart-center/interest-rates/daily-treasury-rates.csv/{year}/all"
_COLUMNS = {
    "treasury_4w": "4 WEEKS COUPON EQUIVALENT",
    "treasury_13w": "13 WEEKS COUPON EQUIVALENT",
}
# Beyond these a rate is in the wrong unit.
_LOWEST, _HIGHEST = -0.05, 0.30


class RatesFeed(Feed):
    """Daily rates of Treasury bills.

    Parameters
    ----------
    url : str
        Of the host; for tests.
    seconds : float
        Longest time for one answer.
    """

    name: ClassVar[str] = "rates"
    extra: ClassVar[str] = "rates"
    adjustment: ClassVar[str] = "coupon equivalent, fraction a year"
    pace: ClassVar[Pace] = Pace(interval=1.0)

    def __init__(self, *, url: str = "https://home.treasury.gov", seconds: float = 60.0) -> None:
        self._http = HttpClient("the Treasury", self.extra, seconds=seconds)
        self._url = url.rstrip("/")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def rates(self, name: str, start: dt.date, end: dt.date) -> Tables:
        """Rates of 4 and 13 weeks; `name` is not used."""
        pieces = [self._year(year) for year in range(start.year, end.year + 1)]
        table = pd.concat(pieces, ignore_index=True)
        table = table[(table["date"] >= start) & (table["date"] <= end)].drop_duplicates()
        if not len(table):
            raise NoDataError(f"the Treasury has no rates from {start} to {end}.")
        twice = table.duplicated(["date", "name"])
        if twice.any():
            day = table.loc[twice, "date"].iloc[0]
            raise WrongDataError(f"the Treasury gives two different rates for {day}.")
        return {"rates": table}

    def _year(self, year: int) -> pd.DataFrame:
        """One file."""
        text = self._http.text(
            self._url + _URL.format(year=year),
            type="daily_treasury_bill_rates",
            field_tdr_date_value=str(year),
            page="",
            _format="csv",
        )
        where = f"the Treasury's file of {year}"
        rows = list(csv.DictReader(io.StringIO(text or "")))
        if not rows:
            return pd.DataFrame({"date": [], "name": [], "rate": []})
        need_columns(rows[0], ("Date", *_COLUMNS.values()), where)
        days = days_of([row["Date"] for row in rows], where, form="%m/%d/%Y")
        pieces = []
        for name, column in _COLUMNS.items():
            rate = numbers_of([row[column] for row in rows], column, where) / 100.0
            frame = pd.DataFrame({"date": days, "name": name, "rate": rate}).dropna()
            wrong = frame[(frame["rate"] < _LOWEST) | (frame["rate"] > _HIGHEST)]
            if len(wrong):
                day, value = wrong.iloc[0][["date", "rate"]]
                raise WrongDataError(f"{column} on {day} is {100 * value:g} %, which no bill pays.")
            pieces.append(frame)
        return pd.concat(pieces)
