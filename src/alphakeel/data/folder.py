"""Our own folder format: prices, and beside them securities, valuations, index, membership."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alphakeel.data.checks import Problem
from alphakeel.data.grid import Grid
from alphakeel.data.layouts import Reading, as_series, read_long, rows_of
from alphakeel.data.names import recognise
from alphakeel.data.reference import index_on_dates, member_grid, place_rows, sector_grid
from alphakeel.data.tables import SUFFIXES, Table, read_table
from alphakeel.errors import DataError

__all__ = ["is_folder_format", "read_folder_format"]

_YIELDS = ("market_cap", "earnings_to_price", "book_to_price")
_KNOWN = (
    "prices",
    "securities",
    "valuation_daily",
    "fundamentals",
    "index",
    "index_membership",
    "corporate_actions",
)


def is_folder_format(path: Path) -> bool:
    """Return whether a folder holds `prices*.parquet` or `prices*.csv`."""
    return bool(_files(path, "prices"))


def read_folder_format(path: Path) -> Reading:
    """Read a folder in our format.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Reading

    Raises
    ------
    DataError
        If the prices cannot be read; other files become problems.
    """
    tables = [read_table(file) for file in _files(path, "prices")]
    reading = read_long(tables, where=path.name)
    reading.layout = "folder"
    if not len(reading.grid.dates):
        return reading
    steps = (
        ("valuation_daily", _add_valuations),
        ("securities", _add_sectors),
        ("index", _add_index),
        ("index_membership", _add_members),
    )
    for stem, add in steps:
        file = _file(path, stem)
        if file is None:
            continue
        try:
            add(reading, read_table(file))
        except DataError as error:
            reading.problems.append(Problem("", "", stem, str(error)))
    _note_unused(reading, path)
    return reading


def _add_valuations(reading: Reading, table: Table) -> None:
    """Place market value, earnings yield and book yield on the dates they are stated for."""
    understood, _ = recognise(list(table.columns), where=table.name)
    wanted = ("date", "ticker", *_YIELDS, "pe", "pb")
    understood = {name: column for name, column in understood.items() if name in wanted}
    frame, problems, notes = rows_of(table, understood)
    reading.problems += problems
    reading.notes += notes
    reading.columns += tuple(
        (column, name) for name, column in understood.items() if name not in ("date", "ticker")
    )
    days = frame["date"].to_numpy().astype("datetime64[D]")
    twice = frame.duplicated(["date", "ticker"])
    if twice.any():
        at = int(np.flatnonzero(twice)[0])
        raise DataError(
            f"{table.name} has two rows for {frame['ticker'].iloc[at]} on {days[at]}: keep one."
        )
    values = {name: frame[name].to_numpy() for name in _YIELDS if name in frame.columns}
    placed = place_rows(values, days, frame["ticker"], reading.grid)
    reading.grid = replace(reading.grid, fields={**reading.grid.fields, **placed})


def _add_sectors(reading: Reading, table: Table) -> None:
    """Label each stock; an older dated list goes before a newer one, which knows more."""
    understood, _ = recognise(list(table.columns), where=table.name)
    if "ticker" not in understood:
        raise DataError(f"no column of {table.name} is recognised as the ticker.")
    tickers = as_series(table.columns[understood["ticker"]]).astype(str)
    dated = sorted(name for name in table.columns if re.fullmatch(r"sector_\d{4}", name))
    sources = [*dated, *([understood["sector"]] if "sector" in understood else [])]
    labels: dict[str, str] = {}
    for column in sources:
        listed = dict(zip(tickers, as_series(table.columns[column]).astype(object), strict=True))
        new = {
            ticker: str(label)
            for ticker, label in listed.items()
            if ticker not in labels and not pd.isna(label) and str(label).strip()
        }
        labels |= new
        reading.columns += ((column, "sector"),)
        reading.notes.append(
            f"sector of {len(new)} stocks is column {column} of {table.name}, one label for all "
            "dates"
        )
    if labels:
        grid = reading.grid
        levels, codes = sector_grid(grid.tickers, labels, len(grid.dates))
        reading.grid = replace(grid, sector_levels=levels, sectors=codes)


def _add_index(reading: Reading, table: Table) -> None:
    """Put the index level on the panel's dates."""
    understood, _ = recognise(list(table.columns), where=table.name)
    wanted: dict[str, str] = {}
    wanted |= {name: understood[name] for name in ("date", "close") if name in understood}
    if "close" not in wanted and "adj_close" in understood:
        wanted["close"] = understood["adj_close"]
    if "close" not in wanted:
        raise DataError(f"no column of {table.name} is recognised as the close.")
    frame, problems, notes = rows_of(table, wanted, ticker="index")
    reading.problems += problems
    reading.notes += notes
    if "ticker" in understood:
        symbols = as_series(table.columns[understood["ticker"]]).astype(str)
        first = str(symbols.iloc[0])
        if symbols.nunique() > 1:
            reading.notes.append(f"market index is {first}, the first of several in {table.name}")
        frame = frame[symbols.loc[frame.index] == first]
    level = index_on_dates(frame.set_index("date")["close"], reading.grid.dates)
    if np.isnan(level).all():
        raise DataError(f"{table.name} has no date in common with the prices.")
    reading.grid = replace(reading.grid, index=level)
    reading.columns += ((wanted["close"], "market_index"),)


def _add_members(reading: Reading, table: Table) -> None:
    """Mark who was in the index on each date, and say how many of them have no prices."""
    names = {name.lower(): name for name in table.columns}
    # Where both are given, `symbol` is the name used in the prices.
    ticker = names.get("symbol", names.get("ticker"))
    if ticker is None or not {"start_date", "end_date"} <= names.keys():
        raise DataError(f"{table.name} needs the columns symbol, start_date and end_date.")
    spells = pd.DataFrame(
        {
            "ticker": as_series(table.columns[ticker]),
            "start_date": as_series(table.columns[names["start_date"]]),
            "end_date": as_series(table.columns[names["end_date"]]),
        }
    )
    grid = reading.grid
    member = member_grid(spells, grid.dates, grid.tickers)
    reading.grid = replace(grid, member=member)
    reading.columns += ((ticker, "member"),)
    everyone = spells.assign(ticker=[f"spell {row}" for row in range(len(spells))])
    crowd = member_grid(everyone, grid.dates, np.asarray(everyone["ticker"], dtype=np.str_))
    reading.notes.append(_survivors(grid, member, crowd))


def _survivors(grid: Grid, member: NDArray[np.float64], crowd: NDArray[np.float64]) -> str:
    """Say how many members have prices at the start and at the end."""
    price = grid.fields.get("adj_close", grid.fields.get("close"))
    parts = []
    for row in (0, len(grid.dates) - 1):
        total = int(np.nansum(crowd[row]))
        priced = (
            member[row] == 1.0 if price is None else (member[row] == 1.0) & ~np.isnan(price[row])
        )
        parts.append(f"{int(priced.sum())} of {total} members on {grid.dates[row]}")
    return f"prices are there for {' and '.join(parts)}: missing ones bias results upwards"


def _note_unused(reading: Reading, path: Path) -> None:
    """Name what lies in the folder and is not used."""
    if _file(path, "fundamentals") is not None:
        reading.notes.append(
            "fundamentals is not used by itself: yields come from valuation_daily, and "
            "alphakeel.data.panel.join_asof joins further figures"
        )
    if _files(path, "corporate_actions") and "adj_close" in reading.grid.fields:
        reading.notes.append("corporate_actions is not used: adj_close holds splits and dividends")
    known = {file for stem in _KNOWN for file in _files(path, stem)}
    others = [
        file.name
        for file in sorted(path.iterdir())
        if file.suffix.lower() in SUFFIXES and file not in known
    ]
    if others:
        reading.notes.append(f"files not used: {', '.join(others[:20])}")


def _files(path: Path, stem: str) -> list[Path]:
    """Return the tables whose name begins with a word, sorted."""
    found = (file for suffix in SUFFIXES for file in path.glob(f"{stem}*{suffix}"))
    return sorted(file for file in found if file.is_file())


def _file(path: Path, stem: str) -> Path | None:
    """Return the one table of a name."""
    return next((file for file in _files(path, stem) if file.stem == stem), None)
