"""A user's files or folders to a panel, with an account of how they were understood.

`inspect_path` lists everything that is wrong; `load_panel` refuses at the first of it. Our own
folder format has prices and, beside them, securities, valuations, index, membership and company
reports as filed, each with the day it became public.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skfolio.containers import AssetPanel

from alphakeel.data.assembly import (
    assemble,
    check_counts,
    index_on_dates,
    member_grid,
    place_rows,
    sector_grid,
    with_adjusted_close,
)
from alphakeel.data.fundamentals import facts_of_reports, known_figures
from alphakeel.data.grid import Grid, check_grid
from alphakeel.data.layouts import (
    Reading,
    as_series,
    kind_of,
    read_long,
    read_per_ticker,
    read_wide,
    rows_of,
)
from alphakeel.data.parsing import parse_dates
from alphakeel.data.quality import QualityFinding, quality_findings, trading_calendar
from alphakeel.data.store import is_store
from alphakeel.data.store_panel import read_store, report_fields
from alphakeel.data.tables import (
    PACKED_SUFFIXES,
    SUFFIXES,
    Table,
    field_of,
    read_table,
    recognise,
)
from alphakeel.data.universe import most_traded, only_members, without_empty
from alphakeel.data.validation import MAX_PROBLEMS, REPORT_FIELDS, Problem, raise_first
from alphakeel.errors import ConfigError, DataError

__all__ = [
    "DataReport",
    "inspect_path",
    "is_folder_format",
    "load_panel",
    "read_folder_format",
    "read_reports",
]

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


@dataclass(frozen=True, eq=False)
class DataReport:
    """How a file or folder was understood, and what is wrong with it."""

    path: str
    layout: str  # "long", "wide", "per-ticker", "folder" or "store"; empty if nothing could be read
    columns: tuple[tuple[str, str], ...]  # column of the file, and the field it stands for
    n_dates: int
    n_assets: int
    first_date: str  # ISO dates; empty if there are none
    last_date: str
    notes: tuple[str, ...]  # choices made on the way that a careful reader should know
    problems: tuple[Problem, ...]  # at most 1000; the data are usable if there is none
    panel: AssetPanel | None  # None if there are problems
    findings: tuple[QualityFinding, ...] = ()  # doubtful, but usable; the gravest first
    counts: Mapping[str, int] = field(default_factory=dict)  # findings by kind, all of them

    def to_dict(self) -> dict[str, Any]:
        """Everything but the panel, ready for JSON."""
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
            "findings": [asdict(finding) for finding in self.findings],
            "finding_counts": dict(self.counts),
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
        (`docs/data-format.md`), or a store made by `alphakeel fetch` (`docs/data.md`).
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
    reading = _read_checked(Path(path))
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


def inspect_path(path: str | Path, *, market: str | None = None) -> DataReport:
    """Say how a file or folder is understood and list what is wrong with it; bad data never raise.

    Parameters
    ----------
    path : str or Path
    market : str, optional
        Exchange whose trading days are expected, as exchange_calendars names it: XNYS, XSHG, ...

    Raises
    ------
    DataError
        If there is nothing at `path`.
    """
    path = Path(path)
    _refuse_nothing(path)
    try:
        reading = _read_checked(path)
    except DataError as error:
        problem = Problem("", "", "", str(error))
        return DataReport(str(path), "", (), 0, 0, "", "", (), (problem,), None)
    panel, problems, grid = None, reading.problems, reading.grid
    findings: list[QualityFinding] = []
    counts: dict[str, int] = {}
    if not problems:
        try:
            panel = assemble(grid, source=path.name)
        except DataError as error:
            problems = [Problem("", "", "", str(error))]
        else:
            calendar = None if market is None else trading_calendar(grid.dates, market)
            findings, counts = quality_findings(grid, today=dt.date.today(), calendar=calendar)
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
        findings=tuple(findings),
        counts=counts,
    )


def _refuse_nothing(path: Path) -> None:
    """Refuse a path that leads nowhere."""
    try:
        exists = path.exists()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from error
    if not exists:
        raise DataError(f"there is no file or folder {path}.")


def _read_checked(path: Path) -> Reading:
    """Read a path and collect everything that is wrong with what it holds."""
    _refuse_nothing(path)
    try:
        reading = _read_path(path)
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


def _read_path(path: Path) -> Reading:
    """Read a store, a folder of files or a file."""
    if not path.is_dir():
        return _read_file(path)
    return read_store(path) if is_store(path) else _read_folder(path)


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
        if file.suffix.lower() in SUFFIXES and not file.is_dir() and not file.name.startswith(".")
    )
    if not files:
        raise DataError(_no_table(path))
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


def _no_table(path: Path) -> str:
    """Say that a folder holds no table, and which files might be one if they were unpacked."""
    packed = sorted(file.name for file in path.iterdir() if file.suffix.lower() in PACKED_SUFFIXES)
    text = f"folder {path} holds no CSV or Parquet file"
    return f"{text}; {packed[0]} is compressed: unpack it." if packed else f"{text}."


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
    """Leave out stocks and dates without prices, with a note; refuse prices that never change."""
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


def is_folder_format(path: Path) -> bool:
    """Whether a folder holds `prices*.parquet` or `prices*.csv`."""
    return bool(_files(path, "prices"))


def read_folder_format(path: Path) -> Reading:
    """Read a folder in our format; faults of files beside the prices become problems."""
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
        ("fundamentals", _add_reports),
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
    """Label each stock; a newer dated list overrides an older one."""
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
    """Mark who was in the index on each date, and note how many of them have no prices."""
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
    all_members = member_grid(everyone, grid.dates, np.asarray(everyone["ticker"], dtype=np.str_))
    reading.notes.append(_survivors(grid, member, all_members))


def _add_reports(reading: Reading, table: Table) -> None:
    """Turn company reports into ratios as known on each date, from the day after each report."""
    columns = {name: as_series(values) for name, values in table.columns.items()}
    facts = facts_of_reports(pd.DataFrame(columns))
    grid = reading.grid
    if len(facts):
        facts = facts[facts["ticker"].isin(set(grid.tickers.tolist()))]
    if not len(facts):
        reading.notes.append(
            f"{table.name} is not used: it needs symbol, available_date, period_end and figures"
        )
        return
    days, faults = parse_dates(facts["available_date"])
    if faults:
        raise DataError(f"available_date in a row of {table.name} {faults[0][1]}.")
    figures = known_figures(facts.assign(available_date=days))
    made = report_fields(figures, grid.dates, grid.tickers)
    fields = {name: made[name] for name in REPORT_FIELDS if name in made}
    reading.grid = replace(grid, fields={**grid.fields, **fields})
    reading.columns += tuple((table.name, name) for name in fields)
    if fields:
        reading.notes.append(
            f"{', '.join(fields)} are of {table.name}, from the day after each report on"
        )


def _survivors(grid: Grid, member: NDArray[np.float64], all_members: NDArray[np.float64]) -> str:
    """Say how many members have prices at the start and at the end."""
    price = grid.fields.get("adj_close", grid.fields.get("close"))
    parts = []
    for row in (0, len(grid.dates) - 1):
        total = int(np.nansum(all_members[row]))
        priced = (
            member[row] == 1.0 if price is None else (member[row] == 1.0) & ~np.isnan(price[row])
        )
        parts.append(f"{int(priced.sum())} of {total} members on {grid.dates[row]}")
    return f"prices are there for {' and '.join(parts)}: missing ones bias results upwards"


def _note_unused(reading: Reading, path: Path) -> None:
    """Name what lies in the folder and is not used."""
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
    """The tables whose name begins with a word, sorted."""
    matching = (file for suffix in SUFFIXES for file in path.glob(f"{stem}*{suffix}"))
    return sorted(file for file in matching if not file.is_dir())


def _file(path: Path, stem: str) -> Path | None:
    """The one table of a name."""
    return next((file for file in _files(path, stem) if file.stem == stem), None)


def read_reports(source: str | Path) -> pd.DataFrame | None:
    """The table `fundamentals.parquet` (or `.csv`, ...) of a folder, unchecked; None if absent."""
    files = (Path(source) / f"fundamentals{suffix}" for suffix in SUFFIXES)
    file = next((path for path in files if path.exists()), None)
    if file is None:
        return None
    columns = read_table(file).columns
    return pd.DataFrame({name: as_series(values) for name, values in columns.items()})
