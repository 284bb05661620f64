"""Filed figures to what was known on each date: trailing years, growth, margins, leverage.

A store keeps every figure of every filing. Here they are read in the order in which they became
public: on each filing day the newest trailing year, the newest balance sheet and share count are
made of what was filed up to then, later restatements excluded.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["FIGURES", "FLOWS", "LEVELS", "STATED", "known_figures", "on_dates"]

# Sums over a period, of which a trailing year is made.
FLOWS = ("net_income", "revenue", "operating_cash_flow", "gross_profit")
# Values at a period's end.
LEVELS = ("equity", "assets", "liabilities", "shares")
# Ratios as a source states them, where it does not give what they are made of.
STATED = ("liabilities_to_assets", "net_margin", "gross_margin", "roe")
FIGURES = (
    "shares_filed",  # day of the filing that the share count is of, in days since 1970
    *FLOWS,
    "net_income_year_ago",
    "revenue_year_ago",
    *LEVELS,
    *STATED,
)
_DAY = 86_400_000_000_000
_YEAR = (345, 385)  # days of a fiscal year: of 52 or 53 weeks, or a calendar's
_SLACK = 10  # days by which ends of the same quarter may differ from one year to the next

Periods = dict[tuple[int, int], float]


def known_figures(facts: pd.DataFrame) -> pd.DataFrame:
    """What was known after each filing day, one row per stock and day.

    Parameters
    ----------
    facts : DataFrame
        The table `fundamentals` of a store: `ticker`, `item`, `period_start` (missing for values
        at a period's end), `period_end`, `available_date`, `value`.

    Returns
    -------
    DataFrame
        `ticker`, `available_date`, `period_end` (of the newest figure) and `FIGURES`; flows are
        those of the trailing year.

    Examples
    --------
    >>> facts = pd.DataFrame({
    ...     "ticker": "A", "item": "net_income", "available_date": ["2015-02-20", "2015-04-20"],
    ...     "period_start": ["2014-01-01", "2015-01-01"], "period_end": ["2014-12-31",
    ...     "2015-03-31"], "value": [100.0, 30.0]})
    >>> earlier = facts.iloc[:1].assign(period_start="2014-01-01", period_end="2014-03-31",
    ...                                 available_date="2014-04-20", value=20.0)
    >>> known_figures(pd.concat([earlier, facts]))[["available_date", "net_income"]]
      available_date  net_income
    0     2014-04-20         NaN
    1     2015-02-20       100.0
    2     2015-04-20       110.0
    """
    columns = ["ticker", "available_date", "period_end", *FIGURES]
    if not len(facts):
        return pd.DataFrame({name: pd.Series(dtype="float64") for name in columns})
    table = pd.DataFrame(
        {
            "ticker": facts["ticker"].astype(str).to_numpy(),
            "item": facts["item"].astype(str).to_numpy(),
            "start": _days(facts["period_start"]),
            "end": _days(facts["period_end"]),
            "known": _days(facts["available_date"]),
            "value": facts["value"].to_numpy(dtype=np.float64, na_value=np.nan),
        }
    )
    table = table[table["item"].isin({*FLOWS, *LEVELS, *STATED}) & table["value"].notna()]
    table = table.sort_values(["ticker", "known"], kind="stable")
    rows: list[dict[str, Any]] = []
    for ticker, own in table.groupby("ticker", sort=False):
        rows += _of_one(str(ticker), own)
    result = pd.DataFrame(rows, columns=columns)
    for name in ("available_date", "period_end"):
        days = result[name].to_numpy(dtype=np.int64).astype("datetime64[D]")
        result[name] = days.astype("datetime64[s]")
    return result


def on_dates(
    figures: pd.DataFrame,
    dates: NDArray[np.datetime64],
    tickers: NDArray[np.str_],
    *,
    max_age_days: int = 400,
) -> dict[str, NDArray[np.float64]]:
    """Carry figures forward on a grid, from the first date after they were public.

    A figure counts for `max_age_days` after its filing.
    """
    columns = pd.Index(tickers).get_indexer(pd.Index(figures["ticker"].astype(str)))
    available = figures["available_date"].to_numpy().astype("datetime64[D]")
    start = np.searchsorted(dates, available, side="right")
    use = np.flatnonzero((columns >= 0) & (start < len(dates)))
    latest = np.full((len(dates), len(tickers)), -1, dtype=np.int32)
    # Sorted by day within each stock: the last write to a cell is the newest.
    latest[start[use], columns[use]] = use
    np.maximum.accumulate(latest, axis=0, out=latest)
    known = latest >= 0
    if not len(figures):
        return {name: np.full(latest.shape, np.nan) for name in FIGURES}
    known &= (dates[:, None] - available[latest]) <= np.timedelta64(max_age_days, "D")
    return {
        name: np.where(known, figures[name].to_numpy(dtype=np.float64)[latest], np.nan)
        for name in FIGURES
    }


def _of_one(ticker: str, facts: pd.DataFrame) -> list[dict[str, Any]]:
    """Walk through the filings of one company in the order in which they became public."""
    flows: dict[str, Periods] = {name: {} for name in FLOWS}
    levels: dict[str, dict[int, float]] = {name: {} for name in (*LEVELS, *STATED)}
    counted: dict[int, float] = {}
    rows = []
    known = facts["known"].to_numpy()
    entries = list(zip(facts["item"], facts["start"], facts["end"], facts["value"], strict=True))
    for begin, finish in _runs(known):
        for item, start, end, value in entries[begin:finish]:
            if item in flows:
                flows[item][(start, end)] = value
            else:
                levels[item][end] = value
                if item == "shares":
                    counted[end] = float(known[begin])
        ends = [end for periods in flows.values() for _, end in periods]
        ends += [end for values in levels.values() for end in values]
        row: dict[str, Any] = {
            "ticker": ticker,
            "available_date": int(known[begin]),
            "period_end": max(ends),
            "shares_filed": counted[max(counted)] if counted else np.nan,
        }
        for name, periods in flows.items():
            newest = max((end for _, end in periods), default=0)
            row[name] = trailing_year(periods, newest)
            if name in ("net_income", "revenue"):
                row[f"{name}_year_ago"] = trailing_year(periods, _year_before(periods, newest))
        for name, values in levels.items():
            row[name] = values[max(values)] if values else np.nan
        rows.append(row)
    return rows


def trailing_year(periods: Mapping[tuple[int, int], float], end: int) -> float:
    """The sum over the year up to `end`, of a fiscal year and the part years around it; or NaN.

    Periods are (first day, last day) in days. In this order: a fiscal year that ends there; the
    last fiscal year plus the part year since, less the same part of the year before; four quarters.
    """
    mine = {start: value for (start, last), value in periods.items() if last == end}
    for start, value in mine.items():
        if _YEAR[0] <= end - start + 1 <= _YEAR[1]:
            return value
    for start, value in sorted(mine.items()):  # the longest part year first
        for (first, last), annual in periods.items():
            if not (_YEAR[0] <= last - first + 1 <= _YEAR[1] and abs(start - 1 - last) <= _SLACK):
                continue
            for (other, finish), part in periods.items():
                if abs(other - first) <= _SLACK and abs(end - finish - 365) <= _SLACK:
                    return annual + value - part
    total, at = 0.0, end
    for _ in range(4):
        quarter = [
            (first, value)
            for (first, last), value in periods.items()
            if 80 <= last - first + 1 <= 100 and abs(last - at) <= _SLACK
        ]
        if not quarter:
            return np.nan
        total += quarter[-1][1]
        at = quarter[-1][0] - 1
    return total


def _year_before(periods: Mapping[tuple[int, int], float], end: int) -> int:
    """The end of a period about a year before another; 0 if there is none."""
    near = [last for _, last in periods if abs(end - last - 365) <= _SLACK]
    return min(near, key=lambda last: abs(end - last - 365), default=0)


def _runs(values: NDArray[np.int64]) -> list[tuple[int, int]]:
    """First and next position of each run of equal values."""
    cuts = np.flatnonzero(np.diff(values)) + 1
    edges = [0, *cuts.tolist(), len(values)]
    return list(pairwise(edges))


def _days(column: pd.Series) -> NDArray[np.int64]:
    """Dates as days since 1970; a missing one is the smallest number."""
    days = pd.to_datetime(column).to_numpy().astype("datetime64[D]")
    return days.astype(np.int64)
