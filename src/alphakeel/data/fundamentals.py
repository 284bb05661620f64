"""Filed figures to what was known on each date: trailing years, growth, margins, leverage.

A store keeps every figure of every filing. Here they are read in the order in which they became
public: on each filing day the newest trailing year, the newest balance sheet and share count are
made of what was filed up to then, later restatements excluded.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = [
    "FIGURES",
    "FLOWS",
    "LEVELS",
    "STATED",
    "facts_of_reports",
    "known_figures",
    "on_dates",
    "report_ratios",
]

# Sums over a period, of which a trailing year is made.
FLOWS = ("net_income", "revenue", "operating_cash_flow", "gross_profit")
# Values at a period's end.
LEVELS = ("equity", "assets", "liabilities", "shares")
# Ratios as a source states them, where it does not give what they are made of.
STATED = ("liabilities_to_assets", "net_margin", "gross_margin", "roe")
FIGURES = (
    "shares_filed",  # day of the filing that the share count is of, in days since 1970
    *FLOWS,
    "net_income_of_revenue",
    "net_income_of_operating_cash_flow",
    "net_income_year_ago",
    "revenue_year_ago",
    *LEVELS,
    *STATED,
)
_LEVEL_COLUMNS = {
    "equity": ("equity",),
    "assets": ("assets", "total_assets"),
    "liabilities": ("liabilities", "total_liabilities"),
}
_YEAR = (345, 385)  # days of a fiscal year: of 52 or 53 weeks, or a calendar's
_KEPT_DAYS = 1200
_SLACK = 10  # days by which ends of the same quarter may differ from one year to the next

Periods = dict[int, dict[int, float]]


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
    known = table["known"].to_numpy()
    facts_in_order = [table[name].tolist() for name in ("item", "start", "end", "value")]
    names = table["ticker"].to_numpy(dtype=object)
    made: dict[str, list[Any]] = {name: [] for name in columns}
    for begin, finish in _runs(pd.factorize(names)[0]):
        own = list(zip(*(column[begin:finish] for column in facts_in_order), strict=True))
        _of_one(str(names[begin]), known[begin:finish], own, made)
    result = pd.DataFrame(made)
    for name in ("available_date", "period_end"):
        days = result[name].to_numpy(dtype=np.int64).astype("datetime64[D]")
        result[name] = days.astype("datetime64[s]")
    return result


def report_ratios(figures: pd.DataFrame) -> pd.DataFrame:
    """Margins, growth, accruals and leverage of what was known after each filing day."""
    above = {
        name: figures[name].where(figures[name] > 0)
        for name in ("equity", "assets", "revenue", "revenue_year_ago")
    }
    margin = figures["net_income_of_revenue"] / above["revenue"]
    debt = figures["liabilities"].fillna(figures["assets"] - figures["equity"]) / above["assets"]
    cash = figures["net_income_of_operating_cash_flow"] - figures["operating_cash_flow"]
    growth = figures["net_income"] - figures["net_income_year_ago"]
    return pd.DataFrame(
        {
            "net_margin": margin.fillna(figures["net_margin"]),
            "earnings_growth": growth / above["equity"],
            "revenue_growth": figures["revenue"] / above["revenue_year_ago"] - 1.0,
            "accruals": cash / above["assets"],
            "gross_profitability": figures["gross_profit"] / above["assets"],
            "leverage": debt.fillna(figures["liabilities_to_assets"]),
        }
    )


def on_dates(
    figures: pd.DataFrame,
    names: Sequence[str],
    dates: NDArray[np.datetime64],
    tickers: NDArray[np.str_],
    *,
    max_age_days: int = 400,
) -> dict[str, NDArray[np.float64]]:
    """Carry figures forward on a grid, from the first date after they were public.

    A figure counts for `max_age_days` after its filing. Names without any value are left out.
    """
    columns = pd.Index(tickers).get_indexer(pd.Index(figures["ticker"].astype(str)))
    available = figures["available_date"].to_numpy().astype("datetime64[D]")
    start = np.searchsorted(dates, available, side="right")
    use = np.flatnonzero((columns >= 0) & (start < len(dates)))
    if not len(figures):
        return {}
    latest = np.full((len(dates), len(tickers)), -1, dtype=np.intp)
    # Sorted by day within each stock: the last write to a cell is the newest.
    latest[start[use], columns[use]] = use
    # Rows of the first dates on which a figure is too old; -1: the NaN that is put behind a column.
    ends = np.searchsorted(dates, available + np.timedelta64(max_age_days, "D"), side="right")
    ends = np.append(ends, len(dates))
    for t, row in enumerate(latest):
        if t:
            np.maximum(latest[t - 1], row, out=row)
        row[ends[row] <= t] = -1
    return {
        name: np.take(np.append(figures[name].to_numpy(dtype=np.float64), np.nan), latest)
        for name in names
        if figures[name].notna().any()
    }


def _of_one(
    ticker: str,
    known: NDArray[np.int64],
    entries: Sequence[tuple[str, int, int, float]],
    made: dict[str, list[Any]],
) -> None:
    """Walk through the filings of one company in the order in which they became public.

    `known` are the days of its entries: item, first and last day of the period, value. What was
    known after each day is added to the columns of `made`.
    """
    flows: dict[str, Periods] = {name: {} for name in FLOWS}
    levels: dict[str, dict[int, float]] = {name: {} for name in (*LEVELS, *STATED)}
    counted: dict[int, float] = {}
    newest = 0
    for begin, finish in _runs(known):
        for item, start, end, value in entries[begin:finish]:
            newest = max(newest, end)
            if item in flows:
                flows[item].setdefault(end, {})[start] = value
                _forget(flows[item], newest - _KEPT_DAYS)
            else:
                levels[item][end] = value
                if item == "shares":
                    counted[end] = float(known[begin])
        made["ticker"].append(ticker)
        made["available_date"].append(int(known[begin]))
        made["period_end"].append(newest)
        made["shares_filed"].append(counted[max(counted)] if counted else np.nan)
        for name, periods in flows.items():
            last = max(periods, default=0)
            made[name].append(trailing_year(periods, last))
            if name in ("net_income", "revenue"):
                year_ago = trailing_year(periods, _near(periods, last - 365))
                made[f"{name}_year_ago"].append(year_ago)
        income = flows["net_income"]
        for name in ("revenue", "operating_cash_flow"):
            # Of the same year as that figure, whose reports may be older.
            of_same_year = trailing_year(income, max(flows[name], default=0))
            made[f"net_income_of_{name}"].append(of_same_year)
        for name, values in levels.items():
            made[name].append(values[max(values)] if values else np.nan)


def trailing_year(periods: Periods, end: int) -> float:
    """The sum over the year up to `end`, of a fiscal year and the part years around it; or NaN.

    `periods` are values by last and first day. In this order: a fiscal year that ends there; four
    quarters; the last fiscal year plus the part year since, less the same part a year before.
    """
    if end not in periods:
        return np.nan
    for start, value in periods[end].items():
        if _YEAR[0] <= end - start + 1 <= _YEAR[1]:
            return value
    mine = _parts(periods, end)
    for start, value in mine.items():
        if _YEAR[0] <= end - start + 1 <= _YEAR[1]:
            return value
    earlier = _parts(periods, _near(periods, end - 365))
    for start, value in sorted(mine.items()):  # the longest part year first
        for first, annual in periods.get(_near(periods, start - 1), {}).items():
            if _YEAR[0] <= start - first <= _YEAR[1]:
                for other, part in earlier.items():
                    if abs(other - first) <= _SLACK:
                        return annual + value - part
    return np.nan


def _parts(periods: Periods, end: int) -> dict[int, float]:
    """Sums up to a day by their first day: as filed, and of up to four quarters in a row."""
    parts = dict(periods.get(end, {}))
    total, at = 0.0, end
    for _ in range(4):
        last = _near(periods, at)
        quarters = periods.get(last, {}).items()
        found = [(first, value) for first, value in quarters if 80 <= last - first + 1 <= 100]
        if not found:
            break
        first, value = found[-1]
        total += value
        parts.setdefault(first, total)
        at = first - 1
    return parts


def _forget(periods: Periods, before: int) -> None:
    """Drop periods that no trailing year of today is made of."""
    for end in [end for end in periods if end < before]:
        del periods[end]


def _near(periods: Periods, day: int) -> int:
    """The last day of a period that lies next to a day; 0 if none is near."""
    if day in periods:
        return day
    near = [last for last in periods if abs(last - day) <= _SLACK]
    return min(near, key=lambda last: abs(last - day), default=0)


def facts_of_reports(reports: pd.DataFrame) -> pd.DataFrame:
    """Rows of company reports, one column a figure, as facts, one row a figure.

    `reports` has `ticker` or `symbol`, `available_date`, `period_end`, `period_type` and figures.
    A flow's period is the trailing year where its name ends with ``_ttm``, the year so far where it
    ends with ``_ytd``, else what `period_type` says: FY, or Q, Q1 to Q4 for a single quarter. Where
    a trailing year is given, other columns of that flow are not read. In a table with any such
    name the quarters of the other flows may be single or not, and only their FY is read.
    """
    names = {name: name for name in reports.columns}
    ticker = names.get("ticker", names.get("symbol"))
    if ticker is None or not {"available_date", "period_end"} <= names.keys():
        return pd.DataFrame()
    end = pd.to_datetime(reports["period_end"])
    kind = (
        reports["period_type"].astype(str) if "period_type" in names else pd.Series("", end.index)
    )
    base = pd.DataFrame(
        {
            "ticker": reports[ticker].astype(str),
            "available_date": reports["available_date"],
            "period_end": end,
        }
    )
    unclear = any(name.endswith(("_ttm", "_ytd")) for name in names)
    pieces = []
    for item in FLOWS:
        for suffix in ("_ttm", "_ytd", ""):
            if f"{item}{suffix}" in names:
                start = _start_of(end, suffix, kind)
                if unclear and not suffix:
                    start = start.where(kind == "FY")
                value = pd.to_numeric(reports[f"{item}{suffix}"], errors="coerce")
                pieces.append(
                    base.assign(item=item, period_start=start, value=value)[start.notna()]
                )
                break
    for item, columns in _LEVEL_COLUMNS.items():
        for column in columns:
            if column in names:
                value = pd.to_numeric(reports[column], errors="coerce")
                pieces.append(base.assign(item=item, period_start=None, value=value))
                break
    return pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame()


def _start_of(end: pd.Series, suffix: str, kind: pd.Series) -> pd.Series:
    """First day of a flow's period; missing where it is not known."""
    year = end - pd.Timedelta(days=364)
    if suffix == "_ttm":
        return year
    if suffix == "_ytd":
        return end.dt.to_period("Y").dt.start_time
    quarter = end - pd.Timedelta(days=89)
    return year.where(kind == "FY", quarter.where(kind.str.startswith("Q")))


def _runs(values: NDArray[np.int64]) -> list[tuple[int, int]]:
    """First and next position of each run of equal values."""
    if not len(values):
        return []
    cuts = np.flatnonzero(np.diff(values)) + 1
    edges = [0, *cuts.tolist(), len(values)]
    return list(pairwise(edges))


def _days(column: pd.Series) -> NDArray[np.int64]:
    """Dates as days since 1970; a missing one is the smallest number."""
    days = pd.to_datetime(column).to_numpy().astype("datetime64[D]")
    return days.astype(np.int64)
