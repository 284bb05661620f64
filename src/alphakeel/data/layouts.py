"""Tables to aligned arrays: long files, wide files, one file per stock."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from alphakeel.data.columns import (
    MOST_COLUMNS,
    NEVER_TICKERS,
    WORDS,
    bars_by_values,
    field_of,
    is_bar,
    normalised_name,
    recognise,
    stock_and_field,
)
from alphakeel.data.grid import Grid, grid_from_long, grid_from_wide
from alphakeel.data.known_shapes import looks_like
from alphakeel.data.parsing import looks_like_dates, parse_dates, read_numbers, refuse_shifted
from alphakeel.data.quotation import CODED, TOLD, hints_in, in_our_units
from alphakeel.data.tables import Table, first_values
from alphakeel.data.tickers import read_tickers
from alphakeel.data.validation import PANEL_FIELDS, Problem, place
from alphakeel.errors import DataError

__all__ = [
    "MoneyTraded",
    "Reading",
    "as_series",
    "kind_of",
    "long_rows",
    "read_long",
    "read_per_ticker",
    "read_wide",
    "refuse_one_stock",
    "rows_of",
]

_NUMERIC = (*PANEL_FIELDS, "pe", "pb", "member")
_COUNTERS = ("", "index", "unnamed0", "rowid")  # names of a column that numbers the rows
_SAMPLE = 400  # rows that are looked at to tell how a table is laid out


@dataclass(eq=False)
class Reading:
    """How a source was understood, before its values are checked."""

    layout: str  # "long", "wide", "per-ticker" or "folder"
    columns: tuple[tuple[str, str], ...]  # column of the file, and the field it stands for
    grid: Grid
    notes: list[str] = field(default_factory=list)  # choices made; sentences without full stop
    cautions: list[str] = field(default_factory=list)  # those that move the numbers of a study
    problems: list[Problem] = field(default_factory=list)
    samples: dict[str, str] = field(default_factory=dict)  # a first value, by column of the file
    adjusted: str = ""  # why the close is adjusted without an `adj_close`; empty: it is as traded
    delisted: dict[str, float] = field(default_factory=dict)  # stated delisting returns by ticker
    money: list[MoneyTraded] = field(default_factory=list)  # held against close x volume by checks


class MoneyTraded(NamedTuple):
    """Money traded by day and stock, one entry a row, in whatever unit the source has."""

    days: NDArray[np.datetime64]
    tickers: pd.Series
    values: NDArray[np.float64]


def kind_of(table: Table) -> str:
    """What one file holds: "long", "wide" or "single" (one stock).

    Names that are also tickers (LOW, LAST, CODE) count as fields only where the numbers agree: a
    high that is the highest, a ticker that repeats or is no price.
    """
    if table.levels:
        return "wide"
    understood, unused = recognise(list(table.columns), where=table.name, own=table.own)
    if "ticker" in understood and understood.keys() & {"date", *PANEL_FIELDS}:
        if _holds_tickers(table, understood):
            return "long"
        understood.pop("ticker")
    if not _is_one_stock(table, understood, unused):
        return "wide"
    _refuse_unnamed_tickers(table, understood, unused)
    return "single"


def _refuse_unnamed_tickers(table: Table, understood: dict[str, str], unused: list[str]) -> None:
    """Refuse the rows of several stocks under a column that is not known to name them."""
    date = understood.get("date", next(iter(table.columns)))
    days = as_series(table.columns[date]).astype(str)
    if not days.duplicated().any():
        return
    for name in unused:
        column = table.columns[name]
        if pa.types.is_nested(column.type) or pa.types.is_floating(column.type):
            continue
        texts = as_series(column).astype(str)
        if 1 < texts.nunique() < len(texts) and not (days + "\n" + texts).duplicated().any():
            raise DataError(
                f"dates of {table.name} occur several times, and {name[:24]!r} tells their rows "
                f"apart ({', '.join(text[:16] for text in texts.unique()[:3])}): if it holds the "
                "tickers, name it ticker."
            )


def _holds_tickers(table: Table, understood: dict[str, str]) -> bool:
    """Whether a column with a ticker's name holds tickers; prices of a stock of that name do not.

    Tickers are words, or one number on all rows, or numbers on dates that occur more than once.
    """
    column = table.columns[understood["ticker"]].slice(0, _SAMPLE)
    numbers = _sampled(table, [understood["ticker"]]).get(understood["ticker"])
    word = normalised_name(understood["ticker"]) in WORDS
    if numbers is None or not len(column) or np.isfinite(numbers).mean() <= 0.5:
        return not word or _repeats(table, understood)
    distinct = len(np.unique(numbers[np.isfinite(numbers)]))
    return len(column) < 2 or distinct == 1 or _repeats(table, understood)


def _repeats(table: Table, understood: dict[str, str]) -> bool:
    """Whether a date occurs more than once in a table."""
    date = understood.get("date", next(iter(table.columns)))
    return bool(as_series(table.columns[date]).duplicated().any())


def _is_one_stock(table: Table, understood: dict[str, str], unused: list[str]) -> bool:
    """Whether columns that are named like fields are those of one stock."""
    closes = [understood[name] for name in ("close", "adj_close") if name in understood]
    of_day = ("open", "high", "low")
    bars: dict[str, str] = {name: understood[name] for name in of_day if name in understood}
    if not closes:
        return False
    if "close" in understood and len(bars) >= 2:
        numbers = _sampled(table, [*bars.values(), understood["close"]])
        if len(numbers) == len(bars) + 1:
            bars["close"] = understood["close"]
            return is_bar({name: numbers[column] for name, column in bars.items()})
        if len(bars) == 3:
            return True  # numbers that can be read in two ways: reading them says so
    if any(normalised_name(column) not in WORDS for column in closes):
        return True
    # "last" or "price" alone: other columns that could be prices make it a ticker.
    others = _sampled(table, unused).values()
    return not any(np.isfinite(v).any() and np.nanmin(v) > 0 for v in others)


def _sampled(
    table: Table, columns: Sequence[str], percents: Sequence[str] = ()
) -> dict[str, NDArray[np.float64]]:
    """The first numbers of columns; without columns that hold mostly text, or can be read twice."""
    chosen = {name: table.columns[name].slice(0, _SAMPLE) for name in columns}
    chosen = {name: c for name, c in chosen.items() if not pa.types.is_nested(c.type)}
    numbers: dict[str, NDArray[np.float64]] = {}
    wrong: dict[str, list[tuple[int, str]]] = {}
    how: dict[str, Any] = {"where": "", "percents": percents, "delimiter": table.delimiter}
    try:  # all of them together: one says how the others are written
        numbers, wrong, _ = read_numbers(chosen, **how)
    except DataError:
        for name, column in chosen.items():
            try:
                one, faults, _ = read_numbers({name: column}, **how)
            except DataError:
                continue
            numbers |= one
            wrong |= faults
    return {
        name: numbers[name]
        for name, column in chosen.items()
        if name in numbers and len(wrong.get(name, ())) <= len(column) // 2
    }


def rows_of(
    table: Table,
    understood: dict[str, str],
    *,
    ticker: str | None = None,
    hints: Mapping[str, str] | None = None,
) -> tuple[pd.DataFrame, list[Problem], list[str]]:
    """Read the understood columns of a table with one row per date (and stock).

    `understood` gives the column by field, `ticker` the stock of a file that holds only one,
    `hints` further columns to keep under their own names if they hold numbers throughout. The
    frame's columns are named by field; rows without a readable date or ticker are left out.
    """
    for needed in ("date",) if ticker else ("date", "ticker"):
        if needed not in understood:
            have = ", ".join(name[:24] for name in list(table.columns)[:12])
            raise DataError(
                f"no column of {table.name} is recognised as the {needed}: {have}"
                f"{looks_like(list(table.columns))}."
            )
    tail = place(table.name)
    problems = list(table.problems)
    days, faults = _daily(table, understood["date"])
    problems += [
        Problem("", "", "date", f"row {row + table.first_row}: date {fault}{tail}.")
        for row, fault in faults
    ]
    frame: dict[str, Any] = {"date": days}
    if ticker is None:
        symbols = table.columns[understood["ticker"]]
        frame["ticker"] = read_tickers(symbols, table.name, table.first_row)
        problems += [
            Problem("", "", "ticker", f"row {row + table.first_row}: ticker is missing{tail}.")
            for row in np.flatnonzero(frame["ticker"].isna())
        ]
    else:
        frame["ticker"] = pd.Series([ticker] * len(days), dtype="category")
    own = set(table.own.values())
    named = {column: name for name, column in understood.items() if name in {*_NUMERIC, *own}}
    told = {column: name for name, column in (hints or {}).items()}
    numbers, wrong, note = read_numbers(
        {column: table.columns[column] for column in (*named, *told)},
        where=table.name,
        flags=[column for column, name in named.items() if name == "st"],
        percents=[column for column, name in named.items() if name in own],
        delimiter=table.delimiter,
        first_row=table.first_row,
        beside={
            column: values
            for column, values in table.columns.items()
            if column not in understood.values()
        },
    )
    for column in told.keys() & wrong.keys():
        if told[column] not in CODED:
            numbers.pop(column)
    for column in named.keys() & wrong.keys():
        for row, text in wrong[column]:
            stock, day = str(frame["ticker"].iloc[row]), str(days[row])
            message = (
                f"row {row + table.first_row}: {named[column]} of {stock} on {day} is "
                f"{text[:40]!r}, not {_kind(named[column], own)}{tail}."
            )
            problems.append(Problem(stock, day, named[column], message))
    frame.update({(named | told)[column]: values for column, values in numbers.items()})
    if normalised_name(understood.get("close", "")) == "prc":
        negative = int((frame["close"] < 0).sum())
        frame["close"] = np.where(frame["close"] == 0, np.nan, np.abs(frame["close"]))
        if negative:
            counted = "1 negative price is a midpoint"
            if negative > 1:
                counted = f"{negative} negative prices are midpoints"
            midpoints = f"{counted} of bid and ask, as CRSP marks them"
            note = f"{note}; {midpoints}" if note else midpoints
    _invert(frame, "pe", "earnings_to_price")
    _invert(frame, "pb", "book_to_price")
    if "sector" in understood:
        frame["sector"] = _labels(table.columns[understood["sector"]])
    rows, said = _main_series(table, pd.DataFrame(frame, copy=False))
    note = "; ".join(filter(None, (note, said)))
    usable = rows["date"].notna() & rows["ticker"].notna()
    return rows if usable.all() else rows[usable], problems, [note] if note else []


def _main_series(table: Table, rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Of several series of one symbol on a date (NSE) the shares, and how many rows are not."""
    name = next((n for n in table.columns if normalised_name(n) == "series"), None)
    if name is None:
        return rows, ""
    series = _labels(table.columns[name]).astype(str)
    twice = rows.duplicated(["date", "ticker"], keep=False)
    other = twice & (series != "EQ") & rows["ticker"].isin(rows["ticker"][series == "EQ"])
    if not other.any():
        return rows, ""
    kinds = ", ".join(sorted(set(series[other]))[:4])
    counted = "1 row" if other.sum() == 1 else f"{other.sum()} rows"
    return rows[~other], f"{counted} of other series than EQ of the same stock left out ({kinds})"


def long_rows(
    tables: Sequence[Table], *, tickers: Sequence[str] | None = None, owned: bool = False
) -> tuple[pd.DataFrame, tuple[tuple[str, str], ...], list[Problem], list[str]]:
    """Read several tables and stack their rows, the file with the earliest date first.

    Of tables that are `owned` the columns are taken out once they are read.
    """
    frames, problems, notes = [], [], []
    columns: dict[str, str] = {}
    ignored: dict[str, None] = {}
    numeric: dict[str, bool] = {}  # whether a column that no field is read from holds numbers
    for position, table in enumerate(tables):
        try:
            understood, unused = recognise(list(table.columns), where=table.name, own=table.own)
            if tickers is not None:
                understood.pop("ticker", None)
            _index_as_date(understood, table)
            stock = None if tickers is None else tickers[position]
            hints = hints_in(unused) if tickers is not None or "ticker" in understood else {}
            if normalised_name(understood.get("close", "")) != "prc":
                hints = {name: column for name, column in hints.items() if name not in CODED}
            frame, unreadable, remarks = rows_of(table, understood, ticker=stock, hints=hints)
            numeric |= _numeric(table, [name for name in unused if name not in numeric])
        except DataError as error:
            problems.append(Problem("", "", "", str(error)))
            continue
        finally:
            if owned:
                table.columns.clear()
                pa.default_memory_pool().release_unused()
        frames.append(frame)
        problems += unreadable
        notes += [*table.notes, *remarks]
        columns |= {column: name for name, column in understood.items()}
        columns |= {hints[name]: told for name, told in TOLD.items() if name in frame}
        ignored |= dict.fromkeys(name for name in unused if name not in columns)
    if ignored:
        notes.append(f"columns not used: {', '.join(name[:24] for name in list(ignored)[:20])}")
        notes += _may_be_kept([name for name in ignored if numeric[name]])
    frames = sorted((f for f in frames if len(f)), key=lambda frame: frame["date"].iloc[0])
    if not frames:
        return pd.DataFrame(), tuple(columns.items()), problems, notes
    stocks = [pd.Categorical(frame.pop("ticker")) for frame in frames]
    names = dict.fromkeys(str(name) for frame in frames for name in frame.columns)
    # A column at a time, each taken out of its frame: the rows are in memory once.
    lengths = [len(frame) for frame in frames]
    parts = {name: _one_below_another(frames, name, lengths) for name in names}
    parts["ticker"] = pd.Series(pd.api.types.union_categoricals(stocks))
    frames.clear()
    stacked = pd.DataFrame(parts, copy=False)
    pa.default_memory_pool().release_unused()
    return stacked, tuple(columns.items()), problems, list(dict.fromkeys(notes))


def _one_below_another(
    frames: Sequence[pd.DataFrame], name: str, lengths: Sequence[int]
) -> pd.Series:
    """Take a column out of several frames; missing in the rows of those without it."""
    parts = [
        frame.pop(name) if name in frame else pd.Series(np.full(length, np.nan))
        for frame, length in zip(frames, lengths, strict=True)
    ]
    return (
        pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0].reset_index(drop=True)
    )


def read_long(tables: Sequence[Table], *, where: str) -> Reading:
    """Read files with one row per date and stock; the tables are empty then."""
    samples = first_values(tables)
    reading = _stacked("long", long_rows(tables, owned=True), where, _own_of(tables))
    reading.samples = samples
    return reading


def read_per_ticker(tables: Sequence[Table], tickers: Sequence[str], *, where: str) -> Reading:
    """Read one file per stock."""
    own = _own_of(tables)
    reading = _stacked("per-ticker", long_rows(tables, tickers=tickers), where, own)
    reading.samples = first_values(tables)
    return reading


def read_wide(tables: Sequence[Table], names: Sequence[str | None], *, where: str) -> Reading:
    """Read files with dates down and stocks across.

    A table's name in `names` is its field; None: prices, or named in its second header row.
    """
    frames: dict[str, pd.DataFrame] = {}
    problems: list[Problem] = []
    notes: list[str] = []
    cautions: list[str] = []
    columns: dict[str, str] = {}
    samples: dict[str, str] = {}
    for table, name in zip(tables, names, strict=True):
        date, stocks = _wide_axes(table)
        columns[date] = "date"
        if _counts_rows(table, next(iter(table.columns))):
            notes.append(f"the first column of {table.name} numbers its rows and is left out")
        problems += table.problems
        notes += table.notes
        days, faults = _daily(table, date)
        problems += [
            Problem("", "", "date", f"row {row + table.first_row}: date {text}{place(table.name)}.")
            for row, text in faults
        ]
        numbers, wrong, note = read_numbers(
            {column: table.columns[column] for column in stocks},
            where=table.name,
            flags=[column for column in stocks if _field_in(table, column, name) == "st"],
            percents=[c for c in stocks if _field_in(table, c, name) in table.own.values()],
            delimiter=table.delimiter,
            first_row=table.first_row,
        )
        if name is None and not table.levels:
            refuse_one_stock(table)
            notes += _taken_for_tickers(table, stocks)
        notes += [note] if note else []
        problems += _text_cells(table, days, wrong, name)
        values = pd.DataFrame(numbers, index=pd.DatetimeIndex(days))[list(stocks)]
        values = values[~np.isnat(days)]
        if table.levels:
            parts = _by_field(values, table, notes)
            columns |= {column: _field_in(table, column, name) or "" for column in table.levels}
        else:
            parts = {name or "adj_close": values}
            shown = _listed(stocks, table.name)
            columns[shown] = f"{name or 'adj_close'} by ticker"
            samples[shown] = first_values([table])[stocks[0]]
            if name is None:
                cautions.append(
                    "the table is taken as prices adjusted for splits and dividends: nothing in "
                    "it says so"
                )
        for field_name, part in parts.items():
            _join(frames, field_name, part, table.name)
    grid, misplaced = grid_from_wide(frames, where=where, own=_own_of(tables))
    reading = Reading("wide", tuple(columns.items()), grid, list(dict.fromkeys(notes)), cautions)
    reading.samples = {**first_values(tables), **samples}
    if {"open", "high", "low", "close"} <= frames.keys() and all(t.levels for t in tables):
        reading.adjusted = "no Adj Close stands beside it, as where yfinance adjusts by itself"
    _report_order(reading, problems + misplaced)
    return reading


def _own_of(tables: Sequence[Table]) -> tuple[str, ...]:
    """The fields of the user's own that tables are searched for."""
    return tuple(dict.fromkeys(name for table in tables for name in table.own.values()))


def _numeric(table: Table, names: Sequence[str]) -> dict[str, bool]:
    """Whether columns hold numbers, and do not just count the rows."""
    numbers = _sampled(table, [n for n in names if normalised_name(n) not in _COUNTERS], names)
    return {name: name in numbers and bool(np.isfinite(numbers[name]).any()) for name in names}


def _may_be_kept(names: Sequence[str]) -> list[str]:
    """A note on columns of numbers that are not used."""
    names = [name for name in names if not hints_in([name])]  # these have a use elsewhere
    if not names:
        return []
    verb, it = ("holds", "it") if len(names) == 1 else ("hold", "them")
    hint = f"add {it} to data.columns of the settings to keep {it} as fields and factors"
    return [f"{', '.join(name[:24] for name in names[:20])} {verb} numbers: {hint}"]


def _stacked(layout: str, read: tuple[Any, ...], where: str, own: Sequence[str]) -> Reading:
    """Place stacked rows; rows out of order are a note, not a problem."""
    frame, columns, problems, notes = read
    del read
    cautions, adjusted = [], ""
    amount = frame.get("amount")
    if len(frame):
        frame, found = in_our_units(frame, where)
        cautions, adjusted = found.notes, found.adjusted
    if not len(frame):
        empty = Grid(np.empty(0, dtype="datetime64[D]"), np.empty(0, dtype=np.str_))
        return Reading(layout, columns, empty, notes, problems=problems)
    money = []
    if amount is not None:
        days = frame["date"].to_numpy().astype("datetime64[D]")
        money = [MoneyTraded(days, frame["ticker"], amount.to_numpy(np.float64))]
    grid, misplaced = grid_from_long(frame, where=where, owned=True, own=own)
    del frame
    reading = Reading(layout, columns, grid, notes, cautions, adjusted=adjusted)
    reading.money += money
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


def _labels(column: Any) -> pd.Series:
    """Text as it stands, trimmed, missing where empty."""
    codes, distinct = pd.factorize(as_series(column))
    texts = [str(value).strip() for value in pd.Index(distinct).astype(object)]
    names = sorted({text for text in texts if text})
    places = {text: place for place, text in enumerate(names)}
    code_of = np.array([*(places.get(text, -1) for text in texts), -1])  # the last: missing
    return pd.Series(pd.Categorical.from_codes(code_of[codes], pd.Index(names, dtype=object)))


def _daily(table: Table, column: str) -> tuple[NDArray[np.datetime64], list[tuple[int, str]]]:
    """The days of a column of dates; refused if most of them hold several times of day."""
    series = as_series(table.columns[column])
    days, faults = parse_dates(series)
    refuse_shifted(series, days, table.name)
    times = pd.DataFrame({"day": days[:_SAMPLE], "time": series[:_SAMPLE]}).dropna()
    if len(times) and (":" in str(times["time"].iloc[0])):
        times = times.drop_duplicates()
        several = times["day"].duplicated(keep=False)
        if times["day"][several].nunique() >= 0.5 * times["day"].nunique():
            first, second = times["time"][several][:2]
            raise DataError(
                f"{table.name} holds intraday prices, several rows a day ({first} and {second}), "
                "but a study counts days: give one row per date and stock, the last of the day."
            )
    return days, faults


def _invert(frame: dict[str, Any], ratio: str, name: str) -> None:
    """Replace price over something by something over price; 0 is missing."""
    if ratio not in frame:
        return
    values = frame.pop(ratio)
    if name not in frame:
        inverse = np.divide(1.0, values, out=np.full(len(values), np.nan), where=values != 0)
        np.copyto(inverse, values, where=np.isinf(values))
        frame[name] = inverse


def _index_as_date(understood: dict[str, str], table: Table) -> None:
    """Take a first column without a telling name as the date, if it holds dates."""
    first = next(iter(table.columns))
    unknown = "date" not in understood and first not in understood.values()
    if unknown and looks_like_dates(as_series(table.columns[first])):
        understood["date"] = first


def _wide_axes(table: Table) -> tuple[str, list[str]]:
    """The date column and the stock columns of a wide table."""
    names = list(table.columns)
    date = names[0]
    if not looks_like_dates(as_series(table.columns[date])):
        date = next((name for name in names if field_of(name) == "date"), date)
    stocks = [name for name in names if name != date and not _counts_rows(table, name)]
    faults = parse_dates(as_series(table.columns[date].slice(0, 50)))[1]
    if 2 * len(faults) > min(50, len(table.columns[date])):
        if field_of(date) == "date" and len(stocks) > 1:
            row, fault = faults[0]
            raise DataError(f"row {row + table.first_row}: date {fault}{place(table.name)}.")
        kinds = ", ".join(name[:24] for name in names[:12])
        raise DataError(
            f"the columns of {table.name} are not understood ({kinds}): name a date, a ticker "
            "and a close, or dates in the first column and one column per stock"
            f"{looks_like(names) or _like_returns(table, stocks)}."
        )
    mixed = stock_and_field(stocks)
    if len(mixed) > 1 and not table.levels:
        if hint := looks_like(names):
            raise DataError(f"the columns of {table.name} are not understood{hint}.")
        raise DataError(
            f"columns of {table.name} name stock and field at once ({mixed[0][:40]!r}): write "
            "one row per date and stock, or one file per field."
        )
    if not stocks:
        raise DataError(f"{table.name} has dates but no prices.")
    return date, stocks


def _like_returns(table: Table, stocks: Sequence[str]) -> str:
    """What a table with about as many numbers below zero as above seems to hold, for a message."""
    values = np.concatenate([np.empty(0), *_sampled(table, stocks).values()])
    values = values[np.isfinite(values) & (values != 0.0)]
    if not values.size or not 0.25 < np.mean(values < 0.0) < 0.75:
        return ""
    unit = "per cent" if np.median(np.abs(values)) > 0.2 else "fractions"
    return (
        f"; the table begins in line {table.first_row - 1} and seems to hold returns in {unit}: a "
        "study needs prices"
    )


def _counts_rows(table: Table, name: str) -> bool:
    """Whether a first column without a name numbers the rows from 0 or 1, as pandas writes it."""
    if name != next(iter(table.columns)) or normalised_name(name) not in _COUNTERS:
        return False
    numbers = _sampled(table, [name]).get(name)
    if numbers is None or not len(numbers):
        return False
    return bool(np.array_equal(numbers - numbers[0], np.arange(len(numbers))))


def refuse_one_stock(table: Table) -> None:
    """Refuse a table whose columns are the prices and volume of one stock, not several stocks."""
    escape = "or, if they are several stocks, name the file adj_close and put it in a folder"
    date, stocks = _wide_axes(table)
    days, _ = parse_dates(as_series(table.columns[date].slice(0, _SAMPLE)))
    order = np.argsort(days, kind="stable")
    numbers = _sampled(table, stocks) if len(stocks) <= MOST_COLUMNS else {}
    bars = bars_by_values({name: values[order] for name, values in numbers.items()})
    if bars:
        rest = sorted(bars[2:], key=list(stocks).index)
        raise DataError(
            f"the columns of {table.name} look like the prices of one stock, in every row "
            f"{bars[0][:24]!r} the highest and {bars[1][:24]!r} the lowest of them beside "
            f"{' and '.join(repr(name[:24]) for name in rest)}: name them high, low, open and "
            f"close, {escape}{looks_like([date, *stocks])}."
        )
    named = [name for name in stocks if field_of(name) in NEVER_TICKERS]
    named = [name for name in named if normalised_name(name) not in WORDS]
    if named:
        others = [name[:24] for name in stocks if name not in named][:4]
        raise DataError(
            f"column {named[0]!r} of {table.name} is no ticker, so this is not a table of several "
            f"stocks, but {', '.join(map(repr, others)) or 'nothing beside it'} is not understood: "
            "name the columns date, open, high, low, close and volume"
            f"{looks_like([date, *stocks])}."
        )


def _listed(stocks: Sequence[str], where: str) -> str:
    """The stock columns of a table in a few words."""
    first = ", ".join(name[:24] for name in stocks[:3])
    more = ", ..." if len(stocks) > 3 else ""
    counted = "1 column" if len(stocks) == 1 else f"{len(stocks)} columns"
    return f"{counted} of {where} ({first}{more})"


def _taken_for_tickers(table: Table, stocks: Sequence[str]) -> list[str]:
    """A note on columns that have a field's name and were taken for stocks."""
    words = [name for name in stocks if field_of(name) not in (None, "date")]
    if not words:
        return []
    one = len(words) == 1
    named = f"column {words[0]}" if one else f"columns {', '.join(words[:6])}"
    taken = "is taken for the ticker of a stock" if one else "are taken for the tickers of stocks"
    return [f"{named} of {table.name} {taken}, as the numbers in the table say"]


def _join(frames: dict[str, pd.DataFrame], name: str, part: pd.DataFrame, where: str) -> None:
    """Put a field's further stocks beside those that other files hold."""
    if name in frames:
        for frame in (frames[name], part):
            for day in frame.index[frame.index.duplicated()][:1]:
                raise DataError(f"date {day:%Y-%m-%d} occurs more than once (in {where}).")
        twice = frames[name].columns.intersection(part.columns)
        if len(twice):
            raise DataError(f"{name} of {twice[0]} is in two files, {where} one of them: keep one.")
        part = pd.concat([frames[name], part], axis=1)
    frames[name] = part


def _field_in(table: Table, column: str, name: str | None) -> str | None:
    """The field of a column of a wide table: in its header, or that of the whole table."""
    return _field_of_block(table, table.levels[column][0]) if column in table.levels else name


def _field_of_block(table: Table, label: str) -> str | None:
    """The field, known or the user's own, that a label in the first of two header rows names."""
    return table.own.get(normalised_name(label)) or field_of(label)


def _kind(name: str | None, own: Collection[str]) -> str:
    """What the entries of a field have to be, and what to do with others, in words."""
    if name in own:
        return "a number: correct it, or take the column out of data.columns"
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
        what = own if own is not None and own in {"st", *table.own.values()} else "price"
        for row, text in entries:
            day = str(days[row])
            message = (
                f"row {row + table.first_row}: {what} of {stock} on {day} is {text[:40]!r}, not "
                f"{_kind(own, table.own.values())}{place(table.name)}."
            )
            faults.append(Problem(stock, day, what, message))
    return faults


def _by_field(values: pd.DataFrame, table: Table, notes: list[str]) -> dict[str, pd.DataFrame]:
    """Split a table with two header rows into one table per field."""
    parts = {}
    for label in dict.fromkeys(level[0] for level in table.levels.values()):
        name = _field_of_block(table, label)
        if name is None or name not in {*PANEL_FIELDS, *table.own.values()}:
            notes += [f"columns not used: {label}", *_may_be_kept([label])]
            continue
        chosen = {column: level[1] for column, level in table.levels.items() if level[0] == label}
        parts[name] = values[list(chosen)].rename(columns=chosen)
    if not parts:
        raise DataError(f"no column of {table.name} is recognised as a price.")
    return parts
