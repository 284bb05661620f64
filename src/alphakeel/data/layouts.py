"""Tables to aligned arrays: long files, wide files, one file per stock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from alphakeel.data.grid import Grid, grid_from_long, grid_from_wide
from alphakeel.data.parsing import looks_like_dates, parse_dates, read_numbers
from alphakeel.data.tables import Table, field_of, normalised_name, recognise, stock_and_field
from alphakeel.data.validation import PANEL_FIELDS, Problem, place
from alphakeel.errors import DataError

__all__ = [
    "Reading",
    "as_series",
    "kind_of",
    "long_rows",
    "read_long",
    "read_per_ticker",
    "read_wide",
    "rows_of",
]

_NUMERIC = (*PANEL_FIELDS, "pe", "pb", "member")
_INDEX_NAMES = ("", "index", "unnamed0", "date")


@dataclass(eq=False)
class Reading:
    """How a source was understood, before its values are checked."""

    layout: str  # "long", "wide", "per-ticker" or "folder"
    columns: tuple[tuple[str, str], ...]  # column of the file, and the field it stands for
    grid: Grid
    notes: list[str] = field(default_factory=list)  # choices made; sentences without full stop
    problems: list[Problem] = field(default_factory=list)


def kind_of(table: Table) -> str:
    """What one file holds: "long", "wide" or "single" (one stock)."""
    if table.levels:
        return "wide"
    understood, unused = recognise(list(table.columns), where=table.name)
    if "ticker" in understood and understood.keys() & {"date", *PANEL_FIELDS}:
        return "long"
    priced = understood.keys() & {"close", "adj_close"}
    numeric = len(understood.keys() & set(_NUMERIC))
    return "single" if priced and len(unused) <= 3 * numeric else "wide"


def rows_of(
    table: Table, understood: dict[str, str], *, ticker: str | None = None
) -> tuple[pd.DataFrame, list[Problem], list[str]]:
    """Read the understood columns of a table with one row per date (and stock).

    `understood` gives the column by field, `ticker` the stock of a file that holds only one. The
    frame's columns are named by field; rows without a readable date or ticker are left out.
    """
    for needed in ("date",) if ticker else ("date", "ticker"):
        if needed not in understood:
            have = ", ".join(name[:24] for name in list(table.columns)[:12])
            raise DataError(f"no column of {table.name} is recognised as the {needed}: {have}.")
    tail = place(table.name)
    problems = list(table.problems)
    days, faults = parse_dates(as_series(table.columns[understood["date"]]))
    problems += [
        Problem("", "", "date", f"row {row + table.first_row}: date {fault}{tail}.")
        for row, fault in faults
    ]
    frame: dict[str, Any] = {"date": days}
    if ticker is None:
        frame["ticker"] = _tickers(table.columns[understood["ticker"]])
        problems += [
            Problem("", "", "ticker", f"row {row + table.first_row}: ticker is missing{tail}.")
            for row in np.flatnonzero(frame["ticker"].isna())
        ]
    else:
        frame["ticker"] = pd.Series([ticker] * len(days), dtype="category")
    named = {column: name for name, column in understood.items() if name in _NUMERIC}
    numbers, wrong, note = read_numbers(
        {column: table.columns[column] for column in named},
        where=table.name,
        flags=[column for column, name in named.items() if name == "st"],
    )
    for column, entries in wrong.items():
        for row, text in entries:
            stock, day = str(frame["ticker"].iloc[row]), str(days[row])
            message = (
                f"row {row + table.first_row}: {named[column]} of {stock} on {day} is "
                f"{text[:40]!r}, not {_kind(named[column])}{tail}."
            )
            problems.append(Problem(stock, day, named[column], message))
    frame.update({named[column]: values for column, values in numbers.items()})
    _invert(frame, "pe", "earnings_to_price")
    _invert(frame, "pb", "book_to_price")
    if "sector" in understood:
        frame["sector"] = _tickers(table.columns[understood["sector"]])
    rows = pd.DataFrame(frame)
    usable = rows["date"].notna() & rows["ticker"].notna()
    return rows if usable.all() else rows[usable], problems, [note] if note else []


def long_rows(
    tables: Sequence[Table], *, tickers: Sequence[str] | None = None
) -> tuple[pd.DataFrame, tuple[tuple[str, str], ...], list[Problem], list[str]]:
    """Read several tables and stack their rows, the file with the earliest date first."""
    frames, problems, notes = [], [], []
    columns: dict[str, str] = {}
    ignored: dict[str, None] = {}
    for position, table in enumerate(tables):
        try:
            understood, unused = recognise(list(table.columns), where=table.name)
            if tickers is not None:
                understood.pop("ticker", None)
            _index_as_date(understood, table)
            stock = None if tickers is None else tickers[position]
            frame, unreadable, remarks = rows_of(table, understood, ticker=stock)
        except DataError as error:
            problems.append(Problem("", "", "", str(error)))
            continue
        frames.append(frame)
        problems += unreadable
        notes += [*table.notes, *remarks]
        columns |= {column: name for name, column in understood.items()}
        ignored |= dict.fromkeys(name for name in unused if name not in columns)
    if ignored:
        notes.append(f"columns not used: {', '.join(name[:24] for name in list(ignored)[:20])}")
    frames = sorted((f for f in frames if len(f)), key=lambda frame: frame["date"].iloc[0])
    if not frames:
        return pd.DataFrame(), tuple(columns.items()), problems, notes
    stacked = pd.concat([frame.drop(columns="ticker") for frame in frames], ignore_index=True)
    stocks = [pd.Categorical(frame["ticker"]) for frame in frames]
    stacked["ticker"] = pd.api.types.union_categoricals(stocks)
    return stacked, tuple(columns.items()), problems, list(dict.fromkeys(notes))


def read_long(tables: Sequence[Table], *, where: str) -> Reading:
    """Read files with one row per date and stock."""
    return _stacked("long", long_rows(tables), where)


def read_per_ticker(tables: Sequence[Table], tickers: Sequence[str], *, where: str) -> Reading:
    """Read one file per stock."""
    return _stacked("per-ticker", long_rows(tables, tickers=tickers), where)


def read_wide(tables: Sequence[Table], names: Sequence[str | None], *, where: str) -> Reading:
    """Read files with dates down and stocks across.

    A table's name in `names` is its field; None: prices, or named in its second header row.
    """
    frames: dict[str, pd.DataFrame] = {}
    problems: list[Problem] = []
    notes: list[str] = []
    columns: dict[str, str] = {}
    for table, name in zip(tables, names, strict=True):
        date, stocks = _wide_axes(table)
        columns[date] = "date"
        problems += table.problems
        notes += table.notes
        days, faults = parse_dates(as_series(table.columns[date]))
        problems += [
            Problem("", "", "date", f"row {row + table.first_row}: date {text}{place(table.name)}.")
            for row, text in faults
        ]
        numbers, wrong, note = read_numbers(
            {column: table.columns[column] for column in stocks},
            where=table.name,
            flags=[column for column in stocks if _field_in(table, column, name) == "st"],
        )
        notes += [note] if note else []
        problems += _text_cells(table, days, wrong, name)
        values = pd.DataFrame(numbers, index=pd.DatetimeIndex(days))[list(stocks)]
        values = values[~np.isnat(days)]
        if table.levels:
            parts = _by_field(values, table, notes)
            columns |= {column: field_of(level[0]) or "" for column, level in table.levels.items()}
        else:
            parts = {name or "adj_close": values}
            columns[f"{len(stocks)} other columns"] = f"{name or 'adj_close'} by ticker"
            if name is None:
                notes.append(
                    "the table is taken as prices adjusted for splits and dividends: nothing in "
                    "it says so"
                )
        frames |= parts
    grid, misplaced = grid_from_wide(frames, where=where)
    reading = Reading("wide", tuple(columns.items()), grid, list(dict.fromkeys(notes)))
    _report_order(reading, problems + misplaced)
    return reading


def _stacked(layout: str, read: tuple[Any, ...], where: str) -> Reading:
    """Place stacked rows; rows out of order are a note, not a problem."""
    frame, columns, problems, notes = read
    if not len(frame):
        empty = Grid(np.empty(0, dtype="datetime64[D]"), np.empty(0, dtype=np.str_))
        return Reading(layout, columns, empty, notes, problems)
    grid, misplaced = grid_from_long(frame, where=where)
    reading = Reading(layout, columns, grid, notes)
    _report_order(reading, problems + misplaced)
    return reading


def _report_order(reading: Reading, problems: list[Problem]) -> None:
    """Turn rows out of order into one note: their dates give the order."""
    order = [problem for problem in problems if problem.field == "order"]
    reading.problems += [problem for problem in problems if problem.field != "order"]
    if order:
        reading.notes.append(f"rows are sorted by date here ({order[0].message.split(':')[0]})")


def as_series(column: Any) -> pd.Series:
    """An arrow column as pandas, dates as datetimes."""
    if pa.types.is_nested(column.type):
        raise DataError(f"a column holds {column.type} where one value a row is needed.")
    return pd.Series(column.to_pandas(date_as_object=False))


def _tickers(column: Any) -> pd.Series:
    """Text as categories, trimmed, missing where empty."""
    if pa.types.is_floating(column.type):
        column = column.cast(pa.int64(), safe=False)
    if not pa.types.is_dictionary(column.type):
        try:
            column = column.cast(pa.string()).dictionary_encode()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(f"a column holds {column.type} where text is needed.") from error
    series = pd.Series(column.to_pandas())
    categories = [str(name) for name in series.cat.categories]
    if all(name and name == name.strip() for name in categories):
        return series
    trimmed = np.array([name.strip() or None for name in categories] + [None], dtype=object)
    return pd.Series(pd.Categorical(trimmed[series.cat.codes]))


def _invert(frame: dict[str, Any], ratio: str, name: str) -> None:
    """Replace price over something by something over price; 0 is missing."""
    if ratio not in frame:
        return
    values = frame.pop(ratio)
    if name not in frame:
        inverse = np.divide(1.0, values, out=np.full(len(values), np.nan), where=values != 0)
        frame[name] = np.where(np.isinf(values), values, inverse)


def _index_as_date(understood: dict[str, str], table: Table) -> None:
    """Take a first column without a telling name as the date, if it holds dates."""
    first = next(iter(table.columns))
    unnamed = "date" not in understood and normalised_name(first) in _INDEX_NAMES
    if unnamed and looks_like_dates(as_series(table.columns[first])):
        understood["date"] = first


def _wide_axes(table: Table) -> tuple[str, list[str]]:
    """The date column and the stock columns of a wide table."""
    names = list(table.columns)
    date = next((name for name in names if field_of(name) == "date"), names[0])
    stocks = [name for name in names if name != date]
    if not looks_like_dates(as_series(table.columns[date])):
        kinds = ", ".join(name[:24] for name in names[:12])
        raise DataError(
            f"the columns of {table.name} are not understood ({kinds}): name a date, a ticker "
            "and a close, or dates in the first column and one column per stock."
        )
    mixed = stock_and_field(stocks)
    if len(mixed) > 1 and not table.levels:
        raise DataError(
            f"columns of {table.name} name stock and field at once ({mixed[0][:40]!r}): write "
            "one row per date and stock, or one file per field."
        )
    if not stocks:
        raise DataError(f"{table.name} has dates but no prices.")
    return date, stocks


def _field_in(table: Table, column: str, name: str | None) -> str | None:
    """The field of a column of a wide table: in its header, or that of the whole table."""
    return field_of(table.levels[column][0]) if column in table.levels else name


def _kind(name: str | None) -> str:
    """What the entries of a field have to be, in words."""
    return "1 or 0" if name == "st" else "a number"


def _text_cells(
    table: Table,
    days: NDArray[np.datetime64],
    wrong: dict[str, list[tuple[int, str]]],
    name: str | None,
) -> list[Problem]:
    """Describe the cells of a wide table that are not numbers."""
    faults = []
    for column, entries in wrong.items():
        _, stock = table.levels.get(column, ("", column))
        own = _field_in(table, column, name)
        what = "st" if own == "st" else "price"
        for row, text in entries:
            day = str(days[row])
            message = (
                f"row {row + table.first_row}: {what} of {stock} on {day} is {text[:40]!r}, not "
                f"{_kind(own)}{place(table.name)}."
            )
            faults.append(Problem(stock, day, what, message))
    return faults


def _by_field(values: pd.DataFrame, table: Table, notes: list[str]) -> dict[str, pd.DataFrame]:
    """Split a table with two header rows into one table per field."""
    parts = {}
    for label in dict.fromkeys(level[0] for level in table.levels.values()):
        name = field_of(label)
        if name not in PANEL_FIELDS:
            notes.append(f"columns not used: {label}")
            continue
        chosen = {column: level[1] for column, level in table.levels.items() if level[0] == label}
        parts[name] = values[list(chosen)].rename(columns=chosen)
    if not parts:
        raise DataError(f"no column of {table.name} is recognised as a price.")
    return parts
