"""A user's files or folders to a panel, with an account of how they were understood.

`inspect_path` lists everything that is wrong; `load_panel` refuses at the first of it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skfolio.containers import AssetPanel

from alphakeel.data.assembly import assemble, check_counts, with_adjusted_close
from alphakeel.data.checks import MAX_PROBLEMS, Problem, raise_first
from alphakeel.data.dates import parse_dates
from alphakeel.data.folder import is_folder_format, read_folder_format
from alphakeel.data.grid import Grid, check_grid
from alphakeel.data.layouts import Reading, kind_of, read_long, read_per_ticker, read_wide
from alphakeel.data.names import field_of
from alphakeel.data.tables import SUFFIXES, Table, read_table
from alphakeel.data.universe import most_traded, only_members, without_empty
from alphakeel.errors import ConfigError, DataError

__all__ = ["DataReport", "inspect_path", "load_panel"]


@dataclass(frozen=True, eq=False)
class DataReport:
    """How a file or folder was understood, and what is wrong with it.

    Parameters
    ----------
    path : str
    layout : str
        "long", "wide", "per-ticker" or "folder"; empty if nothing could be read.
    columns : tuple of (str, str)
        Column of the file, and the field it was understood as.
    n_dates, n_assets : int
    first_date, last_date : str
        ISO dates; empty if there are none.
    notes : tuple of str
        Choices made on the way that a careful reader should know.
    problems : tuple of Problem
        At most 1000; the data are usable if there is none.
    panel : AssetPanel or None
        None if there are problems.
    """

    path: str
    layout: str
    columns: tuple[tuple[str, str], ...]
    n_dates: int
    n_assets: int
    first_date: str
    last_date: str
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]
    panel: AssetPanel | None

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the panel, ready for JSON."""
        return {
            "path": self.path,
            "layout": self.layout,
            "columns": [list(pair) for pair in self.columns],
            "n_dates": self.n_dates,
            "n_assets": self.n_assets,
            "first_date": self.first_date,
            "last_date": self.last_date,
            "notes": list(self.notes),
            "problems": [asdict(problem) for problem in self.problems],
        }


def load_panel(
    path: str | Path,
    *,
    start: str | dt.date | None = None,
    end: str | dt.date | None = None,
    universe: str = "members",
    top: int | None = None,
) -> AssetPanel:
    r"""Read a file or folder of prices.

    Parameters
    ----------
    path : str or Path
        A CSV or Parquet file (one row per date and stock, or dates down and stocks across), a
        folder of such files, a folder with one file per stock, or a folder in our own format
        (`docs/data-format.md`).
    start, end : str or date, optional
        First and last date to keep; nothing after `end` has any influence.
    universe : str
        "members": stocks in the index at the time, where the data say so; "all": every stock.
    top : int, optional
        Keep this many stocks at a time, those with the most money traded: median of close x
        volume over the last 60 dates, ranked on the first date of every month.

    Returns
    -------
    AssetPanel
        Prices in float64, earnings and book as fractions of price, NaN where missing.

    Raises
    ------
    DataError
        One sentence that names the first thing that is wrong, and how many more there are.
    ConfigError
        If `universe` is neither "members" nor "all".

    Examples
    --------
    >>> import tempfile
    >>> lines = ["date,ticker,adj_close", "2015-01-02,A,10", "2015-01-02,B,20",
    ...          "2015-01-05,A,11", "2015-01-05,B,19"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "prices.csv"
    ...     _ = file.write_text("\n".join(lines), encoding="utf-8")
    ...     load_panel(file)["adj_close"]
    array([[10., 20.],
           [11., 19.]])
    """
    if universe not in ("members", "all"):
        raise ConfigError(f"universe is {universe!r}, but must be 'members' or 'all'.")
    reading = _judged(Path(path))
    raise_first(reading.problems, hint=f": run `alphakeel check {path}`")
    grid = _between(reading.grid, start, end)
    if universe == "all":
        grid = replace(grid, member=None)
    grid = only_members(grid)
    if top is not None:
        grid = most_traded(grid, top)
    # Dates on which nobody in this universe traded say nothing about it.
    grid = without_empty(grid, [], least=1)
    check_counts(grid, 2, 2, Path(path).name)
    return assemble(grid, source=Path(path).name)


def inspect_path(path: str | Path) -> DataReport:
    """Say how a file or folder is understood and list what is wrong with it.

    Parameters
    ----------
    path : str or Path
        As for `load_panel`.

    Returns
    -------
    DataReport

    Raises
    ------
    DataError
        If there is nothing at `path`; bad data are listed, never raised.
    """
    path = Path(path)
    _refuse_nothing(path)
    try:
        reading = _judged(path)
    except DataError as error:
        problem = Problem("", "", "", str(error))
        return DataReport(str(path), "", (), 0, 0, "", "", (), (problem,), None)
    panel, problems, grid = None, reading.problems, reading.grid
    if not problems:
        try:
            panel = assemble(grid, source=path.name)
        except DataError as error:
            problems = [Problem("", "", "", str(error))]
    return DataReport(
        path=str(path),
        layout=reading.layout,
        columns=reading.columns,
        n_dates=len(grid.dates),
        n_assets=len(grid.tickers),
        first_date=str(grid.dates[0]) if len(grid.dates) else "",
        last_date=str(grid.dates[-1]) if len(grid.dates) else "",
        notes=tuple(reading.notes),
        problems=tuple(problems[:MAX_PROBLEMS]),
        panel=panel,
    )


def _refuse_nothing(path: Path) -> None:
    """Refuse a path that leads nowhere."""
    try:
        found = path.exists()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from error
    if not found:
        raise DataError(f"there is no file or folder {path}.")


def _judged(path: Path) -> Reading:
    """Read a path and collect everything that is wrong with what it holds."""
    _refuse_nothing(path)
    try:
        reading = _read_folder(path) if path.is_dir() else _read_file(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from error
    if not len(reading.grid.dates) or not len(reading.grid.tickers):
        if not reading.problems:
            raise DataError(f"{path.name} holds no row that can be used.")
        return reading
    if "adj_close" not in reading.grid.fields and "close" in reading.grid.fields:
        reading.notes.append(
            "there is no adjusted close: returns are those of the close, without dividends, and "
            "wrong at splits"
        )
    reading.grid = with_adjusted_close(reading.grid, path.name)
    reading.problems += check_grid(reading.grid, today=dt.date.today(), where=path.name)
    if not reading.problems:
        _drop_and_note(reading, path.name)
    return reading


def _read_file(path: Path) -> Reading:
    """Read one file by its layout."""
    table = read_table(path)
    kind = kind_of(table)
    if kind == "wide":
        return read_wide([table], [None], where=path.name)
    if kind == "single":
        return read_per_ticker([table], [path.stem], where=path.name)
    return read_long([table], where=path.name)


def _read_folder(path: Path) -> Reading:
    """Read a folder by what its files have in common."""
    if is_folder_format(path):
        return read_folder_format(path)
    files = sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in SUFFIXES and file.is_file() and not file.name.startswith(".")
    )
    if not files:
        raise DataError(f"folder {path} holds no CSV or Parquet file.")
    if len(files) == 1:
        return _read_file(files[0])
    tables: list[Table] = []
    problems: list[Problem] = []
    for file in files:
        try:
            table = read_table(file)
            kind_of(table)
        except DataError as error:
            problems.append(Problem("", "", "", str(error)))
        else:
            tables.append(table)
    if not tables:
        raise DataError(problems[0].message)
    reading = _by_kind(tables, path)
    reading.problems = problems + reading.problems
    return reading


def _by_kind(tables: list[Table], path: Path) -> Reading:
    """Read several tables that must be of one kind."""
    kinds = {table.name: kind_of(table) for table in tables}
    stems = [Path(table.name).stem for table in tables]
    if set(kinds.values()) == {"long"}:
        return read_long(tables, where=path.name)
    if set(kinds.values()) == {"single"}:
        return read_per_ticker(tables, stems, where=path.name)
    fields = [field_of(stem) for stem in stems]
    if set(kinds.values()) == {"wide"} and all(fields):
        return read_wide(tables, fields, where=path.name)
    described = {
        "long": "has a ticker column",
        "single": "holds one stock",
        "wide": "has dates and unknown columns",
    }
    first = tables[0].name
    other = next((name for name in kinds if kinds[name] != kinds[first]), tables[-1].name)
    raise DataError(
        f"the files in {path.name} are not of one kind: {first} {described[kinds[first]]}, {other} "
        f"{described[kinds[other]]}; keep one kind in a folder."
    )


def _drop_and_note(reading: Reading, where: str) -> None:
    """Leave out stocks and dates without prices, and say so; refuse what has no life at all."""
    try:
        grid = without_empty(reading.grid, reading.notes)
        reading.grid = grid
        check_counts(grid, 2, 2, where)
    except DataError as error:
        reading.problems.append(Problem("", "", "adj_close", str(error)))
        return
    prices = grid.fields["adj_close"]
    constant = np.nanmax(prices, axis=0) == np.nanmin(prices, axis=0)
    names = [str(ticker) for ticker in grid.tickers[constant]]
    if len(names) == len(grid.tickers):
        text = f"no price ever changes, for example that of {names[0]} (in {where})."
        reading.problems.append(Problem(names[0], "", "adj_close", text))
    elif names:
        listed = ", ".join(names[:5]) + (" and others" if len(names) > 5 else "")
        reading.notes.append(f"the price of {listed} never changes")
    if "volume" in grid.fields and not (grid.fields["volume"] > 0).any():
        reading.notes.append("volume is zero or missing throughout")


def _between(grid: Grid, start: str | dt.date | None, end: str | dt.date | None) -> Grid:
    """Keep the dates from start to end, ends included."""
    first = grid.dates[0] if start is None else _day(start, "start")
    last = grid.dates[-1] if end is None else _day(end, "end")
    low, high = np.searchsorted(grid.dates, first), np.searchsorted(grid.dates, last, side="right")
    if low >= high:
        raise DataError(
            f"there is no date from {first} to {last}: the data run from {grid.dates[0]} to "
            f"{grid.dates[-1]}."
        )
    return grid.rows(slice(int(low), int(high)))


def _day(value: str | dt.date, name: str) -> NDArray[np.datetime64]:
    """Read one date."""
    days, faults = parse_dates([value])
    if faults:
        raise DataError(f"{name} {faults[0][1]}.")
    return days[0]
