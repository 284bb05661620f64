"""The one interface of all sources, and the checks that every answer passes before it is kept.

A source turns a service's answers into tables of the store (`alphakeel.data.store.TABLES`), in
plain units (currency, shares, fractions), and every failure into one of `alphakeel.feeds.failures`.
It writes nothing.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from alphakeel.data.validation import ticker_fault
from alphakeel.feeds.failures import ChangedFormatError, FeedError, WrongDataError

__all__ = [
    "Feed",
    "Pace",
    "Tables",
    "check_day",
    "check_rows",
    "days_of",
    "need_columns",
    "numbers_of",
]

Tables = dict[str, pd.DataFrame]
PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Pace:
    """How a service is asked: seconds between requests, tries, and waiting between them."""

    interval: float = 0.5
    tries: int = 4
    first_wait: float = 2.0
    longest_wait: float = 120.0


class Feed:
    """Base of all sources: what is not overridden is not offered.

    Every method returns tables of the store by name and raises a `FeedError` otherwise. A feed is
    a context manager: entering logs in, leaving logs out.
    """

    name: ClassVar[str] = ""
    extra: ClassVar[str] = ""  # of pyproject.toml, where it needs a client
    adjustment: ClassVar[str] = "raw"  # of the bars as they are stored
    pace: ClassVar[Pace] = Pace()
    steady_lists: ClassVar[bool] = True  # an index keeps its size from list to list
    every_day: ClassVar[bool] = False  # a row for each trading day, suspended or not

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Log out; called once, whatever happened."""

    def universe(self, name: str, start: dt.date, end: dt.date) -> Tables:
        """Who belongs to a universe: `securities`, and `members` and `industry` by date."""
        raise self._not_offered("a universe")

    def bars(self, ticker: str, start: dt.date, end: dt.date) -> Tables:
        """Daily `bars` as traded, and the `actions` beside them."""
        raise self._not_offered("bars")

    def day(self, day: dt.date) -> Tables:
        """The `bars` of every stock on one day, in one answer: what an update asks for."""
        raise self._not_offered("all stocks of a day")

    def fundamentals(self, ticker: str, start: dt.date, end: dt.date) -> Tables:
        """Figures of the filings that became public between the dates, every vintage."""
        raise self._not_offered("fundamentals")

    def index(self, name: str, start: dt.date, end: dt.date) -> Tables:
        """Daily levels of the index that goes with a universe."""
        raise self._not_offered("an index")

    def calendar(self, start: dt.date, end: dt.date) -> Tables:
        """Trading days."""
        raise self._not_offered("a calendar")

    def rates(self, name: str, start: dt.date, end: dt.date) -> Tables:
        """A riskless rate by date, as a fraction per year."""
        raise self._not_offered("rates")

    def offers(self, what: str) -> bool:
        """Whether a method is overridden."""
        return getattr(type(self), what) is not getattr(Feed, what)

    def _not_offered(self, what: str) -> FeedError:
        return FeedError(f"{self.name} does not offer {what}: take another source for it.")


def need_columns(columns: Any, wanted: tuple[str, ...], where: str) -> None:
    """Refuse an answer that lacks a column: the service has renamed or dropped it."""
    lacking = [name for name in wanted if name not in columns]
    if lacking:
        have = ", ".join(map(str, list(columns)[:12])) or "none"
        raise ChangedFormatError(
            f"{where} has no column {lacking[0]!r} (it has {have}): its format has changed, update "
            "alphakeel."
        )


def numbers_of(column: Any, name: str, where: str) -> np.ndarray:
    """Numbers from text, missing where empty; refuses anything else."""
    text = pd.Series(column)
    if not pd.api.types.is_numeric_dtype(text.dtype):
        text = text.replace({"": None, "--": None, "None": None})
    values = pd.to_numeric(text, errors="coerce")
    bad = np.flatnonzero((values.isna() & text.notna()).to_numpy())
    if len(bad):
        shown = str(text.iloc[bad[0]])[:40]
        raise ChangedFormatError(f"{name} of {where} is {shown!r}, which is no number.")
    return values.to_numpy(dtype=np.float64, na_value=np.nan)


def days_of(column: Any, where: str, *, form: str | None = None) -> pd.Series:
    """Dates from text; refuses anything else."""
    text = pd.Series(column)
    days = pd.to_datetime(text, format=form, errors="coerce")
    if days.isna().any():
        shown = str(text[days.isna()].iloc[0])[:40]
        raise ChangedFormatError(f"a date of {where} is {shown!r}, which is no date.")
    return days.dt.date


def check_rows(
    tables: Tables,
    ticker: str,
    start: dt.date,
    end: dt.date,
    *,
    today: dt.date,
    where: str,
    trading_days: np.ndarray | None = None,
) -> Tables:
    """Refuse rows that cannot be right; sort them, and drop repetitions and what was not asked for.

    With `trading_days` (sorted dates), every one between the first and the last row must be there.
    """
    checked: Tables = {}
    for name, frame in tables.items():
        if not len(frame):
            checked[name] = frame
            continue
        rows = _own_rows(frame, ticker, where)
        dated = "available_date" if name == "fundamentals" else "date"
        if dated not in rows.columns:
            checked[name] = rows
            continue
        late = rows[dated] > today + dt.timedelta(days=1)
        if late.any():
            day = rows.loc[late, dated].iloc[0]
            raise WrongDataError(
                f"{where} gives {name} of {ticker} for {day}, but today is {today}: check the "
                "clock of this machine."
            )
        rows = rows[(rows[dated] >= start) & (rows[dated] <= end)]
        rows = _once(rows, name, ticker, where)
        if name == "bars":
            _check_prices(rows, where)
            if trading_days is not None and len(rows):
                _check_days(rows, trading_days, ticker, where)
        checked[name] = rows
    return checked


def check_day(bars: pd.DataFrame, day: dt.date, *, where: str) -> pd.DataFrame:
    """Refuse the bars of a day that cannot be right; each stock may be there once."""
    rows = bars.drop_duplicates()
    twice = rows.duplicated("ticker")
    if twice.any():
        ticker = rows.loc[twice, "ticker"].iloc[0]
        raise WrongDataError(f"{where} gives two different bars of {ticker} for {day}.")
    rows = rows.reset_index(drop=True)
    _check_prices(rows, where)
    return rows


def _own_rows(frame: pd.DataFrame, ticker: str, where: str) -> pd.DataFrame:
    """Refuse rows of another stock."""
    if "ticker" in frame.columns:
        others = frame.loc[frame["ticker"] != ticker, "ticker"]
        if len(others):
            other = str(others.iloc[0])
            shown = "an unusable name" if ticker_fault(other) else other
            raise WrongDataError(f"{where} was asked for {ticker} and answered with {shown}.")
        return frame
    return frame.assign(ticker=ticker)


def _once(rows: pd.DataFrame, name: str, ticker: str, where: str) -> pd.DataFrame:
    """Drop rows that are there twice; refuse two that differ."""
    rows = rows.drop_duplicates()
    if name in ("bars", "actions"):
        twice = rows.duplicated("date")
        if twice.any():
            day = rows.loc[twice, "date"].iloc[0]
            raise WrongDataError(f"{where} gives two different {name} of {ticker} for {day}.")
        rows = rows.sort_values("date", kind="stable")
    return rows.reset_index(drop=True)


def _check_prices(rows: pd.DataFrame, where: str) -> None:
    """Refuse prices that are not positive numbers, and a negative volume."""
    for name in (*PRICES, "volume"):
        if name not in rows.columns:
            continue
        values = rows[name].to_numpy(dtype=np.float64, na_value=np.nan)
        bad = np.isinf(values) | (values < 0) | ((values == 0) & (name != "volume"))
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            stock, day = rows["ticker"].iloc[at], rows["date"].iloc[at]
            raise WrongDataError(f"{where} gives {name} of {stock} on {day} as {values[at]:g}.")
    if {"high", "low"} <= set(rows.columns):
        crossed = (rows["high"] < rows["low"] * (1 - 1e-6)).to_numpy()
        if crossed.any():
            stock, day = rows.loc[crossed, ["ticker", "date"]].iloc[0]
            raise WrongDataError(f"{where} gives a high of {stock} on {day} below its low.")
    if rows["close"].isna().any():
        stock, day = rows.loc[rows["close"].isna(), ["ticker", "date"]].iloc[0]
        raise WrongDataError(f"{where} gives no close of {stock} on {day}.")


def _check_days(rows: pd.DataFrame, trading_days: np.ndarray, ticker: str, where: str) -> None:
    """Refuse bars with a trading day missing between the first and the last."""
    days = rows["date"].to_numpy().astype("datetime64[D]")
    inside = trading_days[(trading_days >= days[0]) & (trading_days <= days[-1])]
    lost = np.setdiff1d(inside, days)
    if len(lost):
        raise WrongDataError(
            f"{where} gives {len(days)} of {len(inside)} trading days of {ticker}: {lost[0]} is "
            "the first that is missing."
        )
