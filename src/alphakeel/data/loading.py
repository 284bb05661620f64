"""A user's files or folders to a panel, with an account of how they were understood.

`inspect_path` lists everything that is wrong; `load_panel` refuses at the first of it. Our own
folder format has prices and, beside them, securities, valuations, index, membership and company
reports as filed, each with the day it became public.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from skfolio.containers import AssetPanel

from alphakeel.data.adjustment import with_delisting_returns
from alphakeel.data.assembly import (
    assemble,
    check_counts,
    with_adjusted_close,
)
from alphakeel.data.cleaning import find_jumps
from alphakeel.data.columns import WORDS, field_of, normalised_name
from alphakeel.data.entry import check_entry
from alphakeel.data.grid import Grid, check_grid
from alphakeel.data.jumps import describe_ends, describe_gaps, describe_jumps
from alphakeel.data.known_shapes import looks_like
from alphakeel.data.layouts import (
    Reading,
    as_series,
    kind_of,
    read_long,
    read_per_ticker,
    read_wide,
    refuse_one_stock,
)
from alphakeel.data.own_columns import (
    add_columns,
    coverage_notes,
    is_beside_prices,
    lacking_columns,
    own_fields,
    tables_beside,
)
from alphakeel.data.panel import universe_mask
from alphakeel.data.parsing import parse_dates
from alphakeel.data.plausibility import (
    market_value_faults,
    moves_like_no_price,
    only_trading_days,
    spacing_fault,
    without_index,
)
from alphakeel.data.quality import QualityFinding
from alphakeel.data.side_files import (
    add_index,
    add_members,
    add_reports,
    add_riskless,
    add_sectors,
    add_valuations,
)
from alphakeel.data.store import is_store
from alphakeel.data.store_panel import read_store
from alphakeel.data.tables import (
    PACKED_SUFFIXES,
    SUFFIXES,
    Table,
    first_values,
    is_table,
    read_table,
    stem_of,
)
from alphakeel.data.tickers import tickers_alike
from alphakeel.data.universe import most_traded, only_members, without_empty
from alphakeel.data.validation import MAX_PROBLEMS, PANEL_FIELDS, Problem, raise_first
from alphakeel.errors import ConfigError, DataError

__all__ = [
    "DataReport",
    "inspect_path",
    "is_folder_format",
    "load_panel",
    "read_folder_format",
    "read_panel",
    "read_reports",
]

OLD = 31  # days since the last date that are said
_KNOWN = (
    "prices",
    "securities",
    "sectors",
    "valuation_daily",
    "fundamentals",
    "index",
    "index_membership",
    "members",
    "riskless",
    "corporate_actions",
)
# What may lie beside prices of any layout, under the first of its names that is there.
_SIDE_FILES = (
    (("valuation_daily",), add_valuations),
    (("securities", "sectors"), add_sectors),
    (("index",), add_index),
    (("index_membership", "members"), add_members),
    (("riskless",), add_riskless),
    (("fundamentals",), add_reports),
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
    samples: dict[str, str] = field(default_factory=dict)  # a first value, by column of the file

    @property
    def unknown(self) -> tuple[str, ...]:
        """Columns of the file that are taken for nothing."""
        known = {column for column, _ in self.columns}
        wide = any(meaning.endswith(" by ticker") for _, meaning in self.columns)
        return () if wide else tuple(name for name in self.samples if name not in known)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the panel, ready for JSON."""
        return {
            "path": self.path,
            "layout": self.layout,
            "columns": [list(pair) for pair in self.columns],
            "samples": {name: self.samples.get(name, "") for name, _ in self.columns},
            "unknown_columns": list(self.unknown),
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
    delisting_return: float = 0.0,
    columns: Sequence[str] = (),
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
        "members": stocks in the index at the time, where the data say so; "all": every stock; or
        the name of one of several indices: of the file `members_<name>`, or in the store.
    top : int, optional
        Keep this many stocks at a time, those with the most money traded: median of close x
        volume over the last 60 dates, ranked on the first date of every month.
    delisting_return : float
        Return assumed for stocks whose prices end and whose last one no file states; 0: holders
        get the last price.
    columns : sequence of str
        Columns of no known name that are kept as fields: "Short Interest" as `short_interest`,
        "si = Short Interest" as `si`.

    Returns
    -------
    AssetPanel
        Prices in float64, earnings and book as fractions of price, NaN where missing.

    Raises
    ------
    DataError
        One sentence that names the first thing that is wrong, and how many more there are.
    ConfigError
        If `universe` is neither "members" nor "all", nor an index whose members the data list, or
        a name in `columns` is that of a known field.

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
    options: dict[str, Any] = {"universe": universe, "delisting_return": delisting_return}
    return read_panel(path, start=start, end=end, top=top, columns=columns, **options)[0]


def read_panel(
    path: str | Path,
    *,
    start: str | dt.date | None = None,
    end: str | dt.date | None = None,
    universe: str = "members",
    top: int | None = None,
    delisting_return: float = 0.0,
    columns: Sequence[str] = (),
) -> tuple[AssetPanel, tuple[str, ...]]:
    """What `load_panel` returns, and what a reader of its numbers must know about the files."""
    reading = _read_checked(Path(path), own_fields(columns), universe)
    raise_first(reading.problems, hint=f": run `alphakeel check {path}`")
    grid, notes = with_delisting_returns(reading.grid, reading.delisted, delisting_return)
    grid, cautions = _between(grid, start, end), (*reading.cautions, *notes)
    del reading
    if universe == "all":
        grid = replace(grid, member=None)
    grid = only_members(grid, owned=True)
    if top is not None:
        grid = most_traded(grid, top)
    # Dates on which nobody in this universe traded say nothing about it.
    grid = without_empty(grid, [], least=1)
    check_counts(grid, 2, 2, Path(path).name)
    panel = assemble(grid, source=Path(path).name, owned=True)
    # What Arrow has read and keeps for its next table may be more than the panel.
    pa.default_memory_pool().release_unused()
    return panel, cautions


def inspect_path(
    path: str | Path, *, market: str | None = None, columns: Sequence[str] = ()
) -> DataReport:
    """Say how a file or folder is understood and list what is wrong with it; bad data never raise.

    Parameters
    ----------
    path : str or Path
    market : str, optional
        Exchange whose trading days are expected, as exchange_calendars names it: XNYS, XSHG, ...
    columns : sequence of str
        Columns of no known name that are kept as fields.

    Raises
    ------
    DataError
        If there is nothing at `path`.
    ConfigError
        If the trading days of `market` cannot be had, or a name in `columns` is that of a known
        field.
    """
    path, own = Path(path), own_fields(columns)
    _refuse_nothing(path)
    try:
        reading = _read_checked(path, own)
    except DataError as error:
        problem = Problem("", "", "", str(error))
        return DataReport(str(path), "", (), 0, 0, "", "", (), (problem,), None)
    panel, problems, grid = None, reading.problems, reading.grid
    findings: list[QualityFinding] = []
    counts: dict[str, int] = {}
    told: list[str] = []
    if not problems:
        try:
            panel = assemble(grid, source=path.name, owned=True)
        except DataError as error:
            problems = [Problem("", "", "", str(error))]
        else:
            told = [*coverage_notes(panel, own), *_doubts(panel)]
            findings, counts = check_entry(
                grid, path, today=dt.date.today(), market=market, money=reading.money
            )
    return DataReport(
        path=str(path),
        layout=reading.layout,
        columns=reading.columns,
        n_dates=len(grid.dates),
        n_assets=len(grid.tickers),
        first_date=str(grid.dates[0]) if len(grid.dates) else "",
        last_date=str(grid.dates[-1]) if len(grid.dates) else "",
        notes=(*reading.notes, *reading.cautions, *told),
        problems=tuple(problems[:MAX_PROBLEMS]),
        panel=panel,
        findings=tuple(findings),
        counts=counts,
        samples=reading.samples,
    )


def _doubts(panel: AssetPanel) -> list[str]:
    """What cleaning with the default settings would suspect, gaps, and lines that end."""
    prices, dates = panel["adj_close"], panel.observations.astype("datetime64[D]")
    jumps = find_jumps(prices, 8.0, 0.2, universe_mask(panel), max_gap=5)
    tickers = panel.asset_names
    return [
        *describe_jumps(prices, jumps, dates, tickers),
        *describe_gaps(prices, dates, tickers),
        *describe_ends(prices, dates, tickers),
        *_age(dates[-1]),
    ]


def _age(last: np.datetime64) -> list[str]:
    """A note on data that do not reach the present."""
    days = int((np.datetime64(dt.date.today()) - last).astype(np.int64))
    if days <= OLD:
        return []
    age = f"{days} days" if days < 730 else f"{days / 365.25:.1f} years"
    return [f"the last date is {last}, {age} ago: nothing later is in the data"]


def _refuse_nothing(path: Path) -> None:
    """Refuse a path that leads nowhere."""
    try:
        exists = path.exists()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from error
    if not exists:
        raise DataError(f"there is no file or folder {path}.")


def _read_checked(path: Path, own: Mapping[str, str], universe: str = "members") -> Reading:
    """Read a path and collect everything that is wrong with what it holds."""
    _refuse_nothing(path)
    try:
        reading = _read_path(path, own, universe)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from error
    if not len(reading.grid.dates) or not len(reading.grid.tickers):
        if not reading.problems:
            raise DataError(f"{path.name} holds no row that can be used.")
        return reading
    if "adj_close" not in reading.grid.fields and "close" in reading.grid.fields:
        why = reading.adjusted
        reading.cautions.append(
            f"close is taken as adjusted already ({why}): returns are those of the close, and "
            "prices as traded are not known"
            if why
            else "there is no adjusted close: returns are those of the close, without dividends, "
            "and wrong at splits"
        )
    if not reading.grid.fields.keys() & {"adj_close", "close"}:
        raise DataError(
            f"there are no prices: adj_close or close is needed{looks_like(list(reading.samples))} "
            f"(in {path.name})."
        )
    reading.grid = with_adjusted_close(reading.grid, path.name)
    reading.problems += lacking_columns(reading, own, path)
    reading.problems += check_grid(reading.grid, today=dt.date.today(), where=path.name)
    if not reading.problems:
        reading.grid = without_index(reading.grid, reading.cautions)
        _drop_and_note(reading, path.name)
    if not reading.problems:
        reading.problems += spacing_fault(reading.grid, path.name)
        _doubt_prices(reading, path.name)
        reading.problems += market_value_faults(reading.grid, path.name, reading.cautions)
        reading.grid = only_trading_days(reading.grid, reading.cautions)
        problems, notes = tickers_alike(reading.grid, path.name)
        reading.problems += problems
        reading.cautions += notes
    return reading


def _read_path(path: Path, own: Mapping[str, str], universe: str) -> Reading:
    """Read a store, a folder of files or a file."""
    named = None if universe in ("members", "all") else universe
    if path.is_dir() and is_store(path):
        reading = read_store(path, named)
        files = sorted(file for file in path.iterdir() if is_table(file)) if own else []
        add_columns(reading, tables_beside(files, own, reading))
        return reading
    if named is not None:
        _refuse_unknown_universe(path, named)
    return _read_folder(path, own, named) if path.is_dir() else _read_one(read_table(path, own))


def _refuse_unknown_universe(path: Path, name: str) -> None:
    """Refuse an index of which no file beside the prices lists the members."""
    lists = _files(path, "members_") if path.is_dir() else []
    known = sorted(stem_of(file.name).removeprefix("members_") for file in lists)
    if name not in known:
        others = f", or one of {', '.join(known)}" if known else ""
        raise ConfigError(
            f"universe is {name!r}, but {path.name} has no file members_{name}: give 'members', "
            f"'all'{others}."
        )


def _read_one(table: Table) -> Reading:
    """Read one file by its layout."""
    kind, stem = kind_of(table), stem_of(table.name)
    if kind == "wide":
        return read_wide([table], [_field_named(stem, table)], where=table.name)
    if kind == "single":
        return read_per_ticker([table], [_stock_named(stem)], where=table.name)
    return read_long([table], where=table.name)


def _field_named(stem: str, table: Table) -> str | None:
    """The field that a file of dates and stocks is named after; None: prices, or two headers."""
    name = field_of(stem)
    known = name in PANEL_FIELDS and normalised_name(stem) not in WORDS
    return name if known and not table.levels else None


def _stock_named(stem: str) -> str:
    """The stock that a file is named after, without what investing.com adds."""
    stock = unicodedata.normalize("NFC", stem)
    return re.sub(r" Historical Data( \(\d+\))?$", "", stock)


def _read_folder(path: Path, own: Mapping[str, str], universe: str | None = None) -> Reading:
    """Read a folder by what its files have in common; `universe` names one index of several."""
    if is_folder_format(path):
        return read_folder_format(path, universe, own)
    beside = {stem for stems, _ in _SIDE_FILES for stem in stems} | {"fundamentals"}
    files = sorted(
        file
        for file in path.iterdir()
        if is_table(file)
        and not file.is_dir()
        and not file.name.startswith(".")
        and stem_of(file.name) not in beside
        and not file.name.startswith("members_")
    )
    if not files:
        raise DataError(_no_table(path))
    if len(files) == 1:
        reading = _read_one(read_table(files[0], own))
    else:
        reading = _read_together(files, path, own)
    if len(reading.grid.dates):
        _add_side_files(reading, path, universe, own)
    return reading


def _read_together(files: list[Path], path: Path, own: Mapping[str, str]) -> Reading:
    """Read the files of a folder that hold the prices, and those of the user's own columns."""
    tables: list[Table] = []
    problems: list[Problem] = []
    for file in files:
        try:
            table = read_table(file, own)
            kind_of(table)
        except DataError as error:
            problems.append(Problem("", "", "", str(error)))
        else:
            tables.append(table)
    if not tables:
        raise DataError(problems[0].message)
    beside = [table for table in tables if is_beside_prices(table)]
    prices = [table for table in tables if table not in beside] if beside else tables
    if beside and not prices:
        raise DataError(f"there are no prices in {path.name}, only {beside[0].name} and its like.")
    reading = _read_one(prices[0]) if len(prices) == 1 < len(tables) else _by_kind(prices, path)
    reading.problems = problems + reading.problems
    add_columns(reading, beside)
    return reading


def _no_table(path: Path) -> str:
    """Say that a folder holds no table, and which files might be one if they were unpacked."""
    packed = sorted(file.name for file in path.iterdir() if file.suffix.lower() in PACKED_SUFFIXES)
    text = f"folder {path} holds no CSV or Parquet file"
    if is_store(path.parent):
        return f"{text}: it is a part of a store, give {path.parent}."
    return f"{text}; {packed[0]} is compressed: unpack it." if packed else f"{text}."


def _by_kind(tables: list[Table], path: Path) -> Reading:
    """Read several tables that must be of one kind."""
    kinds = {table.name: kind_of(table) for table in tables}
    stems = [stem_of(table.name) for table in tables]
    if set(kinds.values()) == {"long"}:
        return read_long(tables, where=path.name)
    if set(kinds.values()) == {"single"}:
        return read_per_ticker(tables, [_stock_named(stem) for stem in stems], where=path.name)
    named = [field_of(stem) for stem in stems]
    fields = [name if name in PANEL_FIELDS else None for name in named]
    if set(kinds.values()) == {"wide"}:
        if all(fields):
            return read_wide(tables, fields, where=path.name)
        if all(table.levels for table in tables):
            return read_wide(tables, [None] * len(tables), where=path.name)
        for table in tables:
            if not table.levels:
                refuse_one_stock(table)
        unknown = next(t.name for t, name in zip(tables, fields, strict=True) if name is None)
        raise DataError(
            f"the {len(tables)} files in {path.name} hold dates and several columns each, and the "
            f"name of {unknown} is no field: name each file after what it holds (adj_close.csv, "
            "volume.csv), put all prices into one, or name a column of your own in data.columns."
        )
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
        if not len(grid.dates):
            raise DataError(_never_together(reading.grid, where))
        reading.grid = grid
        check_counts(grid, 2, 2, where)
    except DataError as error:
        text = str(error)
        close = [column for column, name in reading.columns if name == "close"]
        if reading.layout == "per-ticker" and len(reading.grid.tickers) == 1 and close:
            unused = [
                n.split(": ", 1)[1] for n in reading.notes if n.startswith("columns not used")
            ]
            rest = f" ({unused[0]} not used)" if unused else ""
            text = text.replace(
                " are needed",
                f" are needed, and column {close[0]!r} was taken for its close{rest}",
            )
        reading.problems.append(Problem("", "", "adj_close", text))
        return
    prices = grid.fields["adj_close"]
    constant = np.fmax.reduce(prices, axis=0) == np.fmin.reduce(prices, axis=0)
    names = [str(ticker) for ticker in grid.tickers[constant]]
    if len(names) == len(grid.tickers):
        text = f"no price ever changes, for example that of {names[0]} (in {where})."
        reading.problems.append(Problem(names[0], "", "adj_close", text))
    elif names:
        listed = ", ".join(names[:5]) + (" and others" if len(names) > 5 else "")
        reading.notes.append(f"the price of {listed} never changes")
    if "volume" in grid.fields and not (grid.fields["volume"] > 0).any():
        reading.notes.append("volume is zero or missing throughout")


def _never_together(grid: Grid, where: str) -> str:
    """Say that no two stocks have a price on one date, and when the first two have theirs."""
    told = []
    for column, ticker in enumerate(grid.tickers[:2]):
        days = grid.dates[np.isfinite(grid.fields["adj_close"][:, column])]
        told.append(f"{ticker} from {days[0]} to {days[-1]}" if len(days) else f"{ticker} never")
    return (
        f"no two stocks trade on the same date ({', '.join(told)}): give prices of one period "
        f"(in {where})."
    )


def _doubt_prices(reading: Reading, where: str) -> None:
    """Refuse numbers that move like no price where nothing calls them one; else note it."""
    fault = moves_like_no_price(reading.grid)
    if not fault:
        return
    if reading.layout == "wide" and any(
        name == "adj_close by ticker" for _, name in reading.columns
    ):
        text = (
            f"the table {fault}, and nothing in it says that it holds prices: if it does, name the "
            f"file adj_close (in {where})."
        )
        named = field_of(stem_of(where)) == "adj_close"
        if not named:
            reading.problems.append(Problem("", "", "adj_close", text))
            return
    reading.cautions.append(f"adj_close {fault}: make sure that it holds prices")


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


def read_folder_format(
    path: Path, universe: str | None = None, own: Mapping[str, str] | None = None
) -> Reading:
    """Read a folder in our format; faults of files beside the prices become problems."""
    own = own or {}
    tables = [read_table(file, own) for file in _files(path, "prices")]
    if len(tables) == 1 and kind_of(tables[0]) == "wide":
        reading = read_wide(tables, [None], where=path.name)
    else:
        reading = read_long(tables, where=path.name)
    del tables
    pa.default_memory_pool().release_unused()
    reading.layout = "folder"
    if not len(reading.grid.dates):
        return reading
    _add_side_files(reading, path, universe, own)
    _note_unused(reading, path, own)
    return reading


def _add_side_files(
    reading: Reading, path: Path, universe: str | None, own: Mapping[str, str]
) -> None:
    """Join what lies beside the prices; faults of these files become problems."""
    for usual, add in _SIDE_FILES:
        stems = (f"members_{universe}",) if universe and "members" in usual else usual
        for file in filter(None, (_file(path, stem) for stem in stems)):
            try:
                table = read_table(file, own)
                reading.samples = {**first_values([table]), **reading.samples}
                add(reading, table)
                del table
                pa.default_memory_pool().release_unused()
            except DataError as error:
                reading.problems.append(Problem("", "", stems[0], str(error)))
            break


def _note_unused(reading: Reading, path: Path, own: Mapping[str, str]) -> None:
    """Take the user's own columns from what else lies in the folder, and name what is not used."""
    if _files(path, "corporate_actions") and "adj_close" in reading.grid.fields:
        reading.notes.append("corporate_actions is not used: adj_close holds splits and dividends")
    known = {file for stem in _KNOWN for file in _files(path, stem)}
    others = [file for file in sorted(path.iterdir()) if is_table(file) and file not in known]
    if own:
        beside = tables_beside(others, own, reading)
        add_columns(reading, beside)
        others = [file for file in others if file.name not in {table.name for table in beside}]
    if others:
        reading.notes.append(f"files not used: {', '.join(f.name for f in others[:20])}")


def _files(path: Path, stem: str) -> list[Path]:
    """The tables whose name begins with a word, sorted."""
    matching = [file for file in path.iterdir() if file.name.startswith(stem) and is_table(file)]
    return sorted(file for file in matching if not file.is_dir())


def _file(path: Path, stem: str) -> Path | None:
    """The one table of a name."""
    return next((file for file in _files(path, stem) if stem_of(file.name) == stem), None)


def read_reports(source: str | Path) -> pd.DataFrame | None:
    """The table `fundamentals.parquet` (or `.csv`, ...) of a folder, unchecked; None if absent."""
    files = (Path(source) / f"fundamentals{suffix}" for suffix in SUFFIXES)
    file = next((path for path in files if path.exists()), None)
    if file is None:
        return None
    columns = read_table(file).columns
    return pd.DataFrame({name: as_series(values) for name, values in columns.items()})
