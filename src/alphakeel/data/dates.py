"""Calendar dates from whatever a file or a frame writes: never a guess between two readings."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["looks_like_dates", "parse_dates"]

_CLOCK = r"(?:[T ]+\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)?"
_ZONE = r"\s*(Z|UTC|GMT|[+-]\d{2}:?\d{2})?"
_YEAR_FIRST = re.compile(rf"(\d{{4}})([-/.])(\d{{1,2}})\2(\d{{1,2}}){_CLOCK}{_ZONE}")
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})(?:\.0)?")
_YEAR_LAST = re.compile(rf"(\d{{1,2}})([-/.])(\d{{1,2}})\2(\d{{4}}){_CLOCK}")
_MONTH_NAMED = ("%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%d%b%Y")

Faults = list[tuple[int, str]]


def parse_dates(values: Any) -> tuple[NDArray[np.datetime64], Faults]:
    """Read calendar days from a column of dates, times or text.

    Accepted are datetimes (with a time zone: the day on that zone's wall clock), `2015-01-31`,
    `2015/01/31`, `20150131`, `31.01.2015`, `Jan 31, 2015` and, where at least one day above 12
    settles the order, `31/01/2015` or `01/31/2015`; a time of day is dropped.

    Parameters
    ----------
    values : Series, Index or array of length n
        Dates in any of these forms.

    Returns
    -------
    days : ndarray of shape (n,), datetime64[D]
        NaT where the entry cannot be read.
    faults : list of (int, str)
        Position of each such entry, and what is wrong with it (to follow the word "date").

    Examples
    --------
    >>> parse_dates(pd.Series(["2015-01-31", "31 January"]))
    (array(['2015-01-31',        'NaT'], dtype='datetime64[D]'),
     [(1, "'31 January' cannot be read: write it like 2015-01-31")])
    """
    series = pd.Series(values).reset_index(drop=True)
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        series = series.dt.tz_localize(None)
    if pd.api.types.is_datetime64_dtype(series.dtype):
        days = series.to_numpy().astype("datetime64[D]")
        return days, [(int(row), "is missing") for row in np.flatnonzero(np.isnat(days))]
    # A long table repeats each date once per stock: read every distinct text only once.
    codes, distinct = pd.factorize(series, use_na_sentinel=True)
    texts = [str(value).strip() for value in distinct]
    known, wrong = _parse_texts(texts)
    table = np.append(known, np.datetime64("NaT"))
    days = table[codes]
    reasons = {**wrong, -1: "is missing"}
    bad = np.flatnonzero(np.isnat(days))
    return days, [(int(row), reasons[int(codes[row])]) for row in bad]


def looks_like_dates(values: Any) -> bool:
    """Return whether most of the first entries of a column can be read as dates."""
    sample = pd.Series(values).head(50)
    if pd.api.types.is_float_dtype(sample.dtype) or sample.empty:
        return False
    return len(parse_dates(sample)[1]) <= len(sample) // 2


def _parse_texts(texts: Sequence[str]) -> tuple[NDArray[np.datetime64], dict[int, str]]:
    """Read distinct texts; faults by position."""
    wrong: dict[int, str] = {}
    days: list[dt.date | None] = []
    zones: list[str | None] = []
    day_first = _day_comes_first(texts)
    for position, text in enumerate(texts):
        day, zone, fault = _parse_one(text, day_first)
        days.append(day)
        zones.append(zone)
        if fault:
            wrong[position] = fault
    for position in _foreign_zones(zones):
        if position not in wrong:
            days[position] = None
            wrong[position] = (
                f"{texts[position]!r} is in another time zone than {texts[0]!r}: "
                "write all dates in the exchange's own time"
            )
    return np.array(days, dtype="datetime64[D]"), wrong


def _parse_one(text: str, day_first: bool | None) -> tuple[dt.date | None, str | None, str]:
    """Return day, zone (None: not part of the text's form; '' : none given) and fault."""
    fault = f"{text[:40]!r} cannot be read: write it like 2015-01-31"
    if text.lower() in ("", "nan", "nat", "none", "null", "na"):
        return None, None, "is missing"
    try:
        if match := _YEAR_FIRST.fullmatch(text):
            year, _, month, day, zone = match.groups()
            return dt.date(int(year), int(month), int(day)), zone or "", ""
        if match := _COMPACT.fullmatch(text):
            return dt.date(*map(int, match.groups())), "", ""
        if match := _YEAR_LAST.fullmatch(text):
            first, mark, second, year = match.groups()
            # Dots are the day-first form wherever they are in use.
            order = True if mark == "." else day_first
            if order is None:
                other = f"{text[:40]!r} can be read as two different days: write it like 2015-01-31"
                return None, None, other
            day, month = (first, second) if order else (second, first)
            return dt.date(int(year), int(month), int(day)), "", ""
    except ValueError:
        return None, None, fault
    for form in _MONTH_NAMED:
        try:
            return dt.datetime.strptime(text, form).date(), "", ""
        except ValueError:
            continue
    return None, None, fault


def _day_comes_first(texts: Sequence[str]) -> bool | None:
    """Return the order of day and month if the texts settle it, else None."""
    parts = [match.groups() for text in texts if (match := _YEAR_LAST.fullmatch(text))]
    marked = [(int(first), int(second)) for first, mark, second, _ in parts if mark != "."]
    first_is_day = any(first > 12 for first, _ in marked)
    second_is_day = any(second > 12 for _, second in marked)
    return None if first_is_day == second_is_day else first_is_day


def _foreign_zones(zones: Sequence[str | None]) -> list[int]:
    """Return positions whose zone differs from the first one's by more than summer time."""
    known = [zone for zone in zones if zone is not None]
    if len(set(known)) < 2:
        return []
    offsets = {zone: _minutes(zone) for zone in set(known) if zone}
    # One zone with winter and summer time writes two offsets, one hour apart.
    summer = len(set(offsets.values())) == 2 and np.ptp(list(offsets.values())) == 60
    if "" not in known and (summer or len(set(offsets.values())) == 1):
        return []
    home = known[0]
    return [at for at, zone in enumerate(zones) if zone is not None and zone != home]


def _minutes(zone: str) -> int:
    """Return the offset from Greenwich in minutes."""
    if zone in ("Z", "UTC", "GMT"):
        return 0
    sign = -1 if zone[0] == "-" else 1
    return sign * (int(zone[1:3]) * 60 + int(zone[-2:]))
