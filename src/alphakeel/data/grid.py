"""From tables to aligned arrays: every field becomes (n_dates, n_assets), NaN where missing.

Rows are placed by integer codes into arrays made once, so that millions of rows cost little
more than reading them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alphakeel.data.parsing import parse_dates
from alphakeel.data.validation import (
    MAX_PROBLEMS,
    PANEL_FIELDS,
    Problem,
    check_dates,
    check_tickers,
    check_values,
    place,
)
from alphakeel.errors import DataError

__all__ = [
    "Grid",
    "check_grid",
    "grid_from_long",
    "grid_from_wide",
    "numeric",
]

Matrix = NDArray[np.float64]
# A rate above it was given in per cent.
MAX_RATE = 0.5
MAX_CELLS = 400_000_000  # 3 GB a field


@dataclass(frozen=True, eq=False)
class Grid:
    """Aligned arrays that are not yet checked."""

    dates: NDArray[np.datetime64]  # (n_dates,) days, increasing
    tickers: NDArray[np.str_]  # (n_assets,) sorted, unique
    fields: dict[str, Matrix] = field(default_factory=dict)  # as in the source; NaN where missing
    sector_levels: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, dtype=np.str_))
    sectors: NDArray[np.int32] | None = None  # codes into `sector_levels`, -1 where unknown
    index: NDArray[np.float64] | None = None  # (n_dates,) level of the market index
    member: Matrix | None = None  # 1.0 in the index, 0.0 not, NaN unknown
    riskless: NDArray[np.float64] | None = None  # (n_dates,) annual rate of cash, a fraction

    def rows(self, keep: slice | NDArray[np.bool_]) -> Grid:
        """The grid with some of its dates; a slice copies nothing."""
        return Grid(
            self.dates[keep],
            self.tickers,
            {name: values[keep] for name, values in self.fields.items()},
            self.sector_levels,
            None if self.sectors is None else self.sectors[keep],
            None if self.index is None else self.index[keep],
            None if self.member is None else self.member[keep],
            None if self.riskless is None else self.riskless[keep],
        )

    def columns(self, keep: Any, *, owned: bool = False) -> Grid:
        """The grid with some of its assets (positions or a mask).

        One that is `owned`, which is needed no longer, gives its fields away one by one, so that
        they are not all in memory twice.
        """
        names = list(self.fields)
        return Grid(
            self.dates,
            self.tickers[keep],
            {n: (self.fields.pop(n) if owned else self.fields[n])[:, keep] for n in names},
            self.sector_levels,
            None if self.sectors is None else self.sectors[:, keep],
            self.index,
            None if self.member is None else self.member[:, keep],
            self.riskless,
        )


def check_grid(grid: Grid, *, today: dt.date, where: str) -> list[Problem]:
    """Collect everything that is wrong with a grid; an empty list means it can be a panel."""
    problems = check_tickers(grid.tickers, where=where)
    problems += check_dates(grid.dates, today=today, where=where)
    problems += check_values(grid.dates, grid.tickers, grid.fields, where=where)
    if grid.index is not None:
        wrong = (grid.index <= 0) | np.isinf(grid.index)
        for row in np.flatnonzero(wrong)[:MAX_PROBLEMS]:
            day = str(grid.dates[row])
            text = (
                f"market_index on {day} is {grid.index[row]:.6g}, but an index level must be "
                f"positive and finite: correct it or leave it empty{place(where)}."
            )
            problems.append(Problem("", day, "market_index", text))
    if grid.riskless is not None:
        wrong = (np.abs(grid.riskless) > MAX_RATE) | np.isinf(grid.riskless)
        for row in np.flatnonzero(wrong)[:MAX_PROBLEMS]:
            day = str(grid.dates[row])
            text = (
                f"riskless_rate on {day} is {grid.riskless[row]:.6g}, but an annual rate is a "
                f"fraction (5.25 % is 0.0525), at most {MAX_RATE:g}: correct it{place(where)}."
            )
            problems.append(Problem("", day, "riskless_rate", text))
    return problems[:MAX_PROBLEMS]


def grid_from_long(
    frame: pd.DataFrame, *, where: str, owned: bool = False, own: Sequence[str] = ()
) -> tuple[Grid, list[Problem]]:
    """Place the rows of a long table (one per date and stock).

    Columns are `date`, `ticker` and any of `PANEL_FIELDS`, `member`, `market_index`,
    `riskless_rate`, `sector`, and fields of the user's `own`; `where` names the source in
    messages. The problems are rows that
    could not be placed, or that were placed twice (the last one stays). Rows out of order are in
    their place, and reported with ``field="order"``. Of a frame that is `owned` the columns are
    taken out one by one, which keeps a large one from being in memory twice.
    """
    for needed in ("date", "ticker"):
        if needed not in frame.columns:
            have = ", ".join(map(str, frame.columns[:12]))
            raise DataError(f"column {needed!r} is missing{place(where)}, which has: {have}.")
    days, faults = parse_dates(frame["date"])
    problems = [_row_problem(where, row, f"date {fault}", "date") for row, fault in faults]
    ticker_codes, names = pd.factorize(frame["ticker"])
    nameless = np.flatnonzero(ticker_codes < 0)
    problems += [_row_problem(where, int(row), "ticker is missing", "ticker") for row in nameless]
    usable = ~np.isnat(days) & (ticker_codes >= 0)
    if not usable.all():
        days, ticker_codes, frame = days[usable], ticker_codes[usable], frame[usable]
    calendar, date_codes = _calendar(days)
    # Sorted as text: the order of categories in the source must not matter.
    tickers, ranks = np.unique(np.asarray([str(n) for n in names], np.str_), return_inverse=True)
    ticker_codes = ranks[ticker_codes]
    shape = (len(calendar), len(tickers))
    _refuse_sparse(len(days), calendar, tickers, where)
    cells = date_codes.astype(np.int64) * shape[1] + ticker_codes
    problems += _disorder(date_codes, ticker_codes, calendar, tickers, where)
    problems += _repeats(cells, calendar, tickers, where)

    fields: dict[str, Matrix] = {}
    for name in (*PANEL_FIELDS, *own, "member", "market_index", "riskless_rate"):
        if name in frame.columns:
            values, bad = numeric(frame.pop(name) if owned else frame[name])
            problems += [_row_problem(where, row, text, name) for row, text in bad]
            fields[name] = np.full(shape, np.nan)
            fields[name].ravel()[cells] = values
    member, level = fields.pop("member", None), fields.pop("market_index", None)
    rate = fields.pop("riskless_rate", None)
    if member is not None:
        member = _carried(member, ~np.isnan(member))
    levels, codes = np.empty(0, dtype=np.str_), None
    if "sector" in frame.columns:
        sector_codes, labels = pd.factorize(frame["sector"])
        levels, ranks = np.unique(
            np.asarray([str(n) for n in labels], np.str_), return_inverse=True
        )
        sector_codes = np.append(ranks, -1)[sector_codes]
        codes = np.full(shape, -1, dtype=np.int32)
        codes.ravel()[cells] = sector_codes
        codes = _carried(codes, codes >= 0)
    index = None if level is None else _one_per_date(level)
    riskless = None if rate is None else _one_per_date(rate)
    grid = Grid(calendar, tickers, fields, levels, codes, index, member, riskless)
    return grid, problems[:MAX_PROBLEMS]


def grid_from_wide(
    frames: Mapping[str, pd.DataFrame], *, where: str, own: Sequence[str] = ()
) -> tuple[Grid, list[Problem]]:
    """Align wide tables (dates down, stocks across), one per field, which may be the user's `own`.

    The grid's dates and tickers are the union over all tables; it is empty if an axis is not
    usable. Problems are those of `grid_from_long`.
    """
    if not frames:
        raise DataError(f"no table of prices was given{place(where)}: adj_close is needed.")
    problems: list[Problem] = []
    axes: dict[str, tuple[NDArray[np.datetime64], NDArray[np.str_]]] = {}
    for name, frame in frames.items():
        if name not in (*PANEL_FIELDS, *own, "member"):
            known = ", ".join((*PANEL_FIELDS, *own, "member"))
            raise DataError(
                f"{name!r} is not a field of a panel{place(where)}: use one of {known}."
            )
        days, faults = parse_dates(frame.index)
        names = np.asarray([str(column) for column in frame.columns], dtype=np.str_)
        axes[name] = days, names
        problems += [_row_problem(where, row, f"date {fault}", "date") for row, fault in faults]
        problems += check_tickers(names, where=where) + _date_axis(days, where)
    if any(problem.field != "order" for problem in problems):
        return Grid(np.empty(0, dtype="datetime64[D]"), np.empty(0, dtype=np.str_)), problems
    calendar = np.unique(np.concatenate([days for days, _ in axes.values()]))
    tickers = np.unique(np.concatenate([names for _, names in axes.values()]))
    fields = {}
    for name, frame in frames.items():
        days, names = axes[name]
        fields[name] = np.full((len(calendar), len(tickers)), np.nan)
        cells = np.ix_(np.searchsorted(calendar, days), np.searchsorted(tickers, names))
        columns = [numeric(frame.iloc[:, j]) for j in range(len(names))]
        if columns:
            fields[name][cells] = np.column_stack([values for values, _ in columns])
        for ticker, (_, bad) in zip(names, columns, strict=True):
            for row, text in bad:
                message = f"{name} of {ticker} on {days[row]} is {text}{place(where)}."
                problems.append(Problem(str(ticker), str(days[row]), name, message))
    member = fields.pop("member", None)
    return Grid(calendar, tickers, fields, member=member), problems[:MAX_PROBLEMS]


def numeric(column: pd.Series) -> tuple[NDArray[np.float64], list[tuple[int, str]]]:
    """Numbers, and the entries (row and what it is) that are neither numbers nor missing."""
    if pd.api.types.is_numeric_dtype(column.dtype) and column.dtype != bool:
        return column.to_numpy(dtype=np.float64, na_value=np.nan), []
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = np.isnan(values) & column.notna().to_numpy()
    return values, [
        (int(row), f"{str(column.iloc[row])[:40]!r}, which is not a number")
        for row in np.flatnonzero(bad)[:MAX_PROBLEMS]
    ]


def _calendar(
    days: NDArray[np.datetime64],
) -> tuple[NDArray[np.datetime64], NDArray[np.int64]]:
    """The distinct days in order, and the place of each row's day among them."""
    numbers = days.astype("datetime64[D]").astype(np.int64)
    first = int(numbers.min(initial=0))
    span = int(numbers.max(initial=first)) - first + 1
    if span > MAX_CELLS // 100:  # nonsense, which the checks refuse
        distinct, codes = np.unique(numbers, return_inverse=True)
        return distinct.astype("datetime64[D]"), codes
    present = np.zeros(span, dtype=np.bool_)
    numbers -= first
    present[numbers] = True
    distinct = np.flatnonzero(present) + first
    return distinct.astype("datetime64[D]"), (np.cumsum(present) - 1)[numbers]


def _row_problem(where: str, row: int, text: str, name: str) -> Problem:
    """Describe a fault by its row, when date or ticker are not known."""
    text = text if text.startswith(("date", "ticker")) else f"{name} is {text}"
    return Problem("", "", name, f"row {row + 1}: {text}{place(where)}.")


def _refuse_sparse(
    n_rows: int, dates: NDArray[np.datetime64], tickers: NDArray[np.str_], where: str
) -> None:
    """Refuse a table whose arrays would be nearly empty and larger than memory."""
    cells = len(dates) * len(tickers)
    if cells > MAX_CELLS or (cells > 10_000_000 and n_rows < cells * 0.002):
        raise DataError(
            f"{n_rows} rows name {len(tickers)} different tickers on {len(dates)} dates, for "
            f"example {str(tickers[0])[:24]!r}: check which column holds the ticker{place(where)}."
        )


def _date_axis(days: NDArray[np.datetime64], where: str) -> list[Problem]:
    """Find repeated dates, and the first one that is out of order, on the axis of a table."""
    known = days[~np.isnat(days)]
    distinct, counts = np.unique(known, return_counts=True)
    problems = [
        Problem(
            "",
            str(day),
            "date",
            f"date {day} occurs more than once: keep one row per date{place(where)}.",
        )
        for day in distinct[counts > 1]
    ]
    for row in np.flatnonzero(np.diff(known).astype(np.int64) < 0)[:1]:
        before, day = str(known[row]), str(known[row + 1])
        text = f"dates are not sorted: {day} comes after {before}: sort the rows{place(where)}."
        problems.append(Problem("", day, "order", text))
    return problems


def _disorder(
    date_codes: NDArray[np.int64],
    ticker_codes: NDArray[np.int64],
    dates: NDArray[np.datetime64],
    tickers: NDArray[np.str_],
    where: str,
) -> list[Problem]:
    """Find rows whose date lies before that of the same stock's previous row."""
    if not (np.diff(date_codes) < 0).any():
        return []
    order = np.argsort(ticker_codes, kind="stable")  # keeps each stock's rows as they came
    same = np.diff(ticker_codes[order]) == 0
    back = np.flatnonzero(same & (np.diff(date_codes[order]) < 0))[:MAX_PROBLEMS]
    problems = []
    for at in back:
        ticker = str(tickers[ticker_codes[order[at + 1]]])
        before, day = (str(dates[date_codes[order[k]]]) for k in (at, at + 1))
        text = (
            f"dates of {ticker} are not sorted: {day} comes after {before}: sort the rows by "
            f"date{place(where)}."
        )
        problems.append(Problem(ticker, day, "order", text))
    return problems


def _repeats(
    cells: NDArray[np.int64],
    dates: NDArray[np.datetime64],
    tickers: NDArray[np.str_],
    where: str,
) -> list[Problem]:
    """Find stocks with more than one row on a date."""
    counts = np.bincount(cells, minlength=1)
    problems = []
    for cell in np.flatnonzero(counts > 1)[:MAX_PROBLEMS]:
        row, column = divmod(int(cell), len(tickers))
        ticker, day = str(tickers[column]), str(dates[row])
        text = (
            f"{ticker} has {counts[cell]} rows for {day}: keep one row per stock and "
            f"date{place(where)}."
        )
        problems.append(Problem(ticker, day, "date", text))
    return problems


def _carried(table: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[Any]:
    """Carry the last known entry forward: a stock keeps its sector while it is suspended."""
    rows = np.where(known, np.arange(len(table), dtype=np.int32)[:, None], 0)
    return np.take_along_axis(table, np.maximum.accumulate(rows, axis=0), axis=0)


def _one_per_date(level: Matrix) -> NDArray[np.float64]:
    """First known value of each row."""
    known = ~np.isnan(level)
    first = np.argmax(known, axis=1)
    return np.where(known.any(axis=1), level[np.arange(len(level)), first], np.nan)
