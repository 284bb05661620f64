"""A store of market data: a folder of Parquet, partitioned by year, with a manifest.

Each table is a folder (``bars/year=2015/part-000007.parquet``) that DuckDB, Polars and pandas read
as it lies. ``manifest.json`` names every part with its source, adjustment, time, rows and SHA-256,
and is checksummed itself. A commit writes the parts under hidden names, replaces the manifest (the
one step that counts) and then gives the parts their names; whatever a crash leaves, the next
reader finds the old state or the new one, and the next writer clears up. Many may read, one may
write.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from alphakeel.data.store_lock import write_lock
from alphakeel.errors import DataError

__all__ = [
    "TABLES",
    "Part",
    "DataStore",
    "StoreTable",
    "StoreWriter",
    "is_store",
    "read_part",
    "table_of",
    "tickers_of",
    "write_durably",
]

MANIFEST = "manifest.json"
FORMAT = 1
# Parts of one year beyond which a commit puts them together.
MOST_PARTS = 40
_PART = re.compile(r"\.?part-\d{6}\.parquet(\.new(\.scratch)?)?")


@dataclass(frozen=True)
class StoreTable:
    """What a table of a store holds: columns by type, the date it is partitioned by, its key."""

    dated_by: str
    key: tuple[str, ...]
    text: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns, in the order they are stored in."""
        return tuple(dict.fromkeys((*self.key, *self.dates, *self.text, *self.numbers)))

    def type_of(self, column: str) -> pa.DataType:
        """Arrow type of a column."""
        if column in self.dates or column == self.dated_by:
            return pa.date32()
        return pa.string() if column in (*self.text, "ticker") else pa.float64()


TABLES: Mapping[str, StoreTable] = {
    # As traded; `previous_close` is the exchange's reference price where it states one.
    "bars": StoreTable(
        "date",
        ("date", "ticker"),
        numbers=(
            *("open", "high", "low", "close", "volume", "amount", "previous_close", "turnover"),
            *("pe", "pb", "market_cap", "st"),
        ),
    ),
    # `split` new shares for one old; `dividend` cash per old share; `ratio` a factor as stated by
    # a source that tells neither. Known on `date`, the first day without the right.
    "actions": StoreTable("date", ("date", "ticker"), numbers=("split", "dividend", "ratio")),
    # All members of an index on a date: they stay so until the next date of that index.
    "members": StoreTable("date", ("date", "index", "ticker"), text=("index",)),
    "industry": StoreTable("date", ("date", "ticker"), text=("industry", "classification")),
    # One figure of one filing a row, every vintage.
    "fundamentals": StoreTable(
        "available_date",
        ("available_date", "ticker", "item", "period_start", "period_end", "filing"),
        dates=("period_start", "period_end"),
        text=("item", "filing", "form", "tag", "unit"),
        numbers=("value",),
    ),
    "index": StoreTable("date", ("date", "ticker"), numbers=("close",)),
    "rates": StoreTable("date", ("date", "name"), text=("name",), numbers=("rate",)),
    "calendar": StoreTable("date", ("date",)),
    "securities": StoreTable(
        "as_of",
        ("as_of", "ticker"),
        dates=("first_date", "last_date"),
        text=("name", "sector", "currency", "status"),
        numbers=("delisting_return",),
    ),
}


_RESTORE = "take the folder from a backup, or fetch into a new one"
# `status` of a security, where a source states it.
LISTED, DELISTED = "listed", "delisted"


@dataclass(frozen=True)
class Part:
    """One Parquet file of a store."""

    table: str
    year: int
    file: str  # below the store, with the name it ends up under
    rows: int
    sha256: str
    source: str
    adjustment: str
    fetched: str  # UTC, ISO 8601
    first: str  # dates, ISO
    last: str


@dataclass(frozen=True)
class _Manifest:
    """The state of a store: its parts, and what was asked of the feeds."""

    parts: tuple[Part, ...] = ()
    requests: Mapping[str, Any] = field(default_factory=dict)
    next_part: int = 1

    def to_bytes(self) -> bytes:
        body = {
            "format": FORMAT,
            "next_part": self.next_part,
            "requests": dict(self.requests),
            "parts": [asdict(part) for part in self.parts],
        }
        body["sha256"] = _digest(json.dumps(body, sort_keys=True).encode())
        return json.dumps(body, indent=1).encode()


def is_store(path: str | Path) -> bool:
    """Whether a folder is a store, by its manifest."""
    file = Path(path) / MANIFEST
    try:
        with file.open("rb") as handle:
            return b'"next_part"' in handle.read(4096)
    except OSError:
        return False


def table_of(frame: pd.DataFrame | pa.Table, name: str, *, where: str = "") -> pa.Table:
    """Rows in the schema of a table, sorted by its key; refuses what does not fit.

    Columns that are absent are null; unknown ones, a null in the key and two rows of one key are
    refused.
    """
    kind, tail = TABLES[name], f" (in {where})" if where else ""
    if isinstance(frame, pd.DataFrame):
        frame = pa.Table.from_pandas(frame, preserve_index=False)
    raw: Any = frame
    strange = [column for column in raw.column_names if column not in kind.columns]
    if strange:
        raise DataError(f"column {strange[0]!r} is not one of the table {name}{tail}.")
    columns = {}
    for column in kind.columns:
        wanted = kind.type_of(column)
        if column not in raw.column_names:
            columns[column] = pa.nulls(raw.num_rows, wanted)
            continue
        try:
            columns[column] = raw.column(column).cast(wanted)
        except pa.ArrowInvalid as error:
            text = str(error).splitlines()[0]
            raise DataError(f"column {column!r} of {name} is no {wanted}: {text}{tail}.") from error
    table = pa.table(columns)
    required = [column for column in kind.key if column not in ("period_start", "filing")]
    for column in required:
        if table.column(column).null_count:
            raise DataError(f"{column} is missing in a row of the table {name}{tail}.")
    table = table.sort_by([(column, "ascending") for column in kind.key])
    twice = _first_repeat(table, kind.key)
    if twice is not None:
        row = {column: str(table.column(column)[twice]) for column in kind.key}
        named = ", ".join(f"{column} {value}" for column, value in row.items())
        raise DataError(f"the table {name} has two rows for {named}{tail}: keep one.")
    return table


class DataStore:
    """A store that is read; `writer` opens it for writing.

    Parameters
    ----------
    path : str or Path
        Its folder. Without a manifest there it is empty, until something is committed.

    Examples
    --------
    >>> import tempfile
    >>> rows = pd.DataFrame({"date": [dt.date(2015, 1, 2)], "ticker": ["A"], "close": [10.0]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = DataStore(folder)
    ...     with store.writer() as writer:
    ...         _ = writer.append("bars", rows, source="by hand", adjustment="raw")
    ...         writer.commit()
    ...     store.read("bars", ["date", "close"]).to_pylist()
    [{'date': datetime.date(2015, 1, 2), 'close': 10.0}]
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every part, in the order of the commits."""
        return self._manifest().parts

    @property
    def requests(self) -> Mapping[str, Any]:
        """What `fetch` was asked for last, by source."""
        return self._manifest().requests

    def parts_of(self, table: str) -> list[Part]:
        """The parts of one table by year."""
        return sorted(
            (p for p in self._manifest().parts if p.table == table), key=lambda p: (p.year, p.file)
        )

    def last_date(self, table: str) -> dt.date | None:
        """The newest date of a table; None if it is empty."""
        days = [part.last for part in self.parts_of(table)]
        return dt.date.fromisoformat(max(days)) if days else None

    def newest(self, table: str) -> dict[str, dt.date]:
        """The last date of each ticker of a table; older years are read for those that ended."""
        found: dict[str, dt.date] = {}
        parts = self.parts_of(table)
        for year in sorted({part.year for part in parts}, reverse=True):
            own: dict[str, int] = {}
            for part in [part for part in parts if part.year == year]:
                names, codes = tickers_of(read_part(self.location(part), ["ticker"], codes=True))
                if all(name in found for name in names):
                    continue
                days = read_part(self.location(part), [TABLES[table].dated_by]).column(0)
                last = np.zeros(len(names), dtype=np.int32)
                np.maximum.at(last, codes, days.cast(pa.int32()).to_numpy())
                for name, day in zip(names, last.tolist(), strict=True):
                    own[name] = max(own.get(name, day), day)
            epoch = dt.date(1970, 1, 1)
            found |= {n: epoch + dt.timedelta(d) for n, d in own.items() if n not in found}
        return found

    def read(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        *,
        years: tuple[int, int] | None = None,
    ) -> pa.Table:
        """A table, or some of its columns and years (both ends included), sorted by year only."""
        schema = pa.schema([(c, TABLES[table].type_of(c)) for c in TABLES[table].columns])
        wanted = list(columns or schema.names)
        pieces = list(self.read_parts(table, wanted, years=years))
        return pa.concat_tables(pieces) if pieces else schema.empty_table().select(wanted)

    def read_parts(
        self,
        table: str,
        columns: Sequence[str],
        *,
        years: tuple[int, int] | None = None,
    ) -> Iterator[pa.Table]:
        """The parts of a table one by one, by year."""
        for part in self.parts_of(table):
            if years is None or years[0] <= part.year <= years[1]:
                yield read_part(self.location(part), columns)

    def verify(self) -> list[str]:
        """Recompute every checksum; one sentence for each part that is absent or changed."""
        faults = []
        for part in self.parts:
            try:
                data = self.location(part).read_bytes()
            except DataError as error:
                faults.append(str(error))
                continue
            if _digest(data) != part.sha256:
                faults.append(
                    f"{part.file} is not what was written on {part.fetched}: its checksum differs; "
                    f"fetch {part.table} of {part.year} again."
                )
        return faults

    @contextmanager
    def writer(self) -> Iterator[StoreWriter]:
        """Open the store for writing; refused while another process writes.

        Nothing is kept of what was not committed.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = "it is a file" if self.path.is_file() else error.strerror
            raise DataError(
                f"no store can be made at {self.path} ({why}): name another folder."
            ) from error
        with write_lock(self.path):
            writer = StoreWriter(self)
            writer.recover()
            try:
                yield writer
            finally:
                writer.drop_pending()

    def _manifest(self) -> _Manifest:
        """Read and check the manifest."""
        file = self.path / MANIFEST
        try:
            body = json.loads(file.read_bytes())
        except FileNotFoundError:
            return _Manifest()
        except (OSError, ValueError) as error:
            raise DataError(f"the manifest {file} cannot be read: {error}.") from error
        stated = body.pop("sha256", None) if isinstance(body, dict) else None
        if stated != _digest(json.dumps(body, sort_keys=True).encode()):
            raise DataError(
                f"the manifest {file} was changed by hand or damaged: its checksum differs; take "
                "the folder from a backup, or fetch into a new one."
            )
        if body["format"] != FORMAT:
            raise DataError(f"{file} has format {body['format']}; this version reads {FORMAT}.")
        parts = tuple(Part(**part) for part in body["parts"])
        return _Manifest(parts, body["requests"], body["next_part"])

    def location(self, part: Part) -> Path:
        """Where a part lies: under its name or, in the middle of a commit, a hidden one."""
        final = self.path / part.file
        for place in (final, _hidden(final), final):
            if place.exists():
                return place
        raise DataError(f"{part.file} is missing from the store {self.path}: {_RESTORE}.")


class StoreWriter:
    """Collects rows and commits them all or none; made by `DataStore.writer`."""

    def __init__(self, store: DataStore) -> None:
        self._store = store
        self._base = store._manifest()
        self._added: list[Part] = []
        self._removed: list[Part] = []
        self._requests = dict(self._base.requests)
        self._number = self._base.next_part

    def append(
        self,
        table: str,
        rows: pd.DataFrame | pa.Table,
        *,
        source: str,
        adjustment: str,
        fetched: dt.datetime | None = None,
    ) -> int:
        """Add rows; returns how many were new.

        A row that the store has already is left out if it is the same, and takes the place of the
        older one if it differs.
        """
        kind = TABLES[table]
        data = table_of(rows, table, where=source)
        stamp = (fetched or dt.datetime.now(dt.UTC)).isoformat(timespec="seconds")
        years = pc.year(data.column(kind.dated_by))
        count = 0
        for year in sorted(y for y in pc.unique(years).to_pylist() if y is not None):
            fresh = self._unknown(table, year, data.filter(pc.equal(years, year)))
            if fresh.num_rows:
                count += fresh.num_rows
                self._write(table, year, fresh, source, adjustment, stamp)
        return count

    def remember(self, source: str, request: Mapping[str, Any]) -> None:
        """Keep what was asked of a source, for the next update."""
        self._requests[source] = dict(request)

    def commit(self) -> None:
        """Make everything added part of the store, in one step."""
        self._gather()
        gone = {part.file for part in self._removed}
        kept = [part for part in self._base.parts if part.file not in gone]
        added = [part for part in self._added if part.file not in gone]
        manifest = _Manifest((*kept, *added), self._requests, self._number)
        write_durably(self._store.path / MANIFEST, manifest.to_bytes())
        self._base, self._added, self._removed = manifest, [], []
        self.recover()

    def recover(self) -> None:
        """Give committed parts their names and clear what no manifest names."""
        named = {self._store.path / part.file for part in self._base.parts}
        for file in named:
            if _hidden(file).exists():
                os.replace(_hidden(file), file)
        for table in TABLES:
            for file in self._store.path.glob(f"{table}/year=*/*part-*.parquet*"):
                if file not in named and _PART.fullmatch(file.name):
                    file.unlink(missing_ok=True)
        (self._store.path / f".{MANIFEST}.scratch").unlink(missing_ok=True)

    def drop_pending(self) -> None:
        """Clear parts that were written and never committed."""
        for part in self._added:
            _hidden(self._store.path / part.file).unlink(missing_ok=True)
        self._added, self._removed = [], []

    def _unknown(self, table: str, year: int, rows: pa.Table) -> pa.Table:
        """Rows that the store lacks; where it has others of the same key, those parts are redone.

        The last day of a part tells most updates from a repetition without reading anything.
        """
        kind = TABLES[table]
        first = pc.min(rows.column(kind.dated_by))
        fresh = rows
        for part in self._of_year(table, year):
            if part.last < str(first.as_py()):
                continue
            old = self._read(part)
            late = pc.greater_equal(old.column(kind.dated_by), first)
            newer, older = old.filter(late), old.filter(pc.invert(late))
            fresh = fresh.filter(pc.invert(_rows_in(fresh, newer, kind.columns)))
            replaced = _rows_in(newer, fresh, kind.key)
            if pc.any(replaced).as_py():
                self._removed.append(part)
                kept = pa.concat_tables([older, newer.filter(pc.invert(replaced))])
                if kept.num_rows:
                    self._write(table, year, kept, part.source, part.adjustment, part.fetched)
        return fresh

    def _gather(self) -> None:
        """Put the parts of a year together where there are many of one kind."""
        groups: dict[tuple[str, int], list[Part]] = {}
        gone = {part.file for part in self._removed}
        for part in (*self._base.parts, *self._added):
            if part.file not in gone:
                groups.setdefault((part.table, part.year), []).append(part)
        for (table, year), parts in groups.items():
            if len(parts) <= MOST_PARTS:
                continue
            kinds: dict[tuple[str, str], list[Part]] = {}
            for part in parts:
                kinds.setdefault((part.source, part.adjustment), []).append(part)
            for (source, adjustment), members in kinds.items():
                rows = pa.concat_tables([self._read(part) for part in members])
                newest = max(part.fetched for part in members)
                self._removed += members
                self._write(table, year, table_of(rows, table), source, adjustment, newest)

    def _of_year(self, table: str, year: int) -> list[Part]:
        gone = {part.file for part in self._removed}
        both = (*self._base.parts, *self._added)
        return [p for p in both if p.table == table and p.year == year and p.file not in gone]

    def _read(self, part: Part) -> pa.Table:
        return read_part(self._store.location(part))

    def _write(
        self, table: str, year: int, rows: pa.Table, source: str, adjustment: str, fetched: str
    ) -> None:
        """Write one part under its hidden name."""
        name = f"{table}/year={year}/part-{self._number:06d}.parquet"
        self._number += 1
        file = self._store.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, compression="zstd", row_group_size=1 << 18)
        data = sink.getvalue()
        write_durably(_hidden(file), data)
        days = rows.column(TABLES[table].dated_by)
        ends = pc.min_max(days).as_py()
        self._added.append(
            Part(
                table,
                year,
                name,
                rows.num_rows,
                _digest(data),
                source,
                adjustment,
                fetched,
                str(ends["min"]),
                str(ends["max"]),
            )
        )


def tickers_of(table: pa.Table) -> tuple[list[str], NDArray[np.int32]]:
    """Names and codes of a column of tickers that was read as codes."""
    coded = table.column("ticker").unify_dictionaries().combine_chunks()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.chunk(0)
    return coded.dictionary.to_pylist(), np.asarray(coded.indices, dtype=np.int32)


def read_part(file: Path, columns: Sequence[str] | None = None, *, codes: bool = False) -> pa.Table:
    """Read one part, the tickers as codes where asked for; a damaged one is named."""
    try:
        with pq.ParquetFile(file, read_dictionary=["ticker"] if codes else None) as part:
            return part.read(columns=None if columns is None else list(columns))
    except (OSError, pa.ArrowException) as error:
        text = str(error).splitlines()[0].split(". ")[0].rstrip(".")
        raise DataError(f"{file} cannot be read: {text}; {_RESTORE}.") from error


def write_durably(file: Path, data: bytes | pa.Buffer) -> None:
    """Replace a file whole or not at all, and wait until it would survive a power cut."""
    scratch = file.with_name(f".{file.name.removeprefix('.')}.scratch")
    with open(scratch, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(scratch, file)
    if os.name == "posix":
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _hidden(file: Path) -> Path:
    """The name of a part until it is committed: no reader of ``*.parquet`` sees it."""
    return file.with_name(f".{file.name}.new")


def _digest(data: bytes | pa.Buffer) -> str:
    return hashlib.sha256(data).hexdigest()


def _codes(tables: Sequence[pa.Table], columns: Sequence[str]) -> list[NDArray[np.int64]]:
    """One number per row of each table, equal where all columns are equal."""
    total = np.zeros(sum(table.num_rows for table in tables), dtype=np.int64)
    room = 1
    for column in columns:
        coded = pa.chunked_array(
            [chunk for table in tables for chunk in table.column(column).chunks],
            type=tables[0].column(column).type,
        )
        coded = coded.combine_chunks().dictionary_encode(null_encoding="encode")
        size = len(coded.dictionary) + 1
        if room > (1 << 62) // size:
            _, total = np.unique(total, return_inverse=True)
            room = len(total) + 1
        total = total * size + np.asarray(coded.indices, dtype=np.int64)
        room *= size
    cuts = np.cumsum([table.num_rows for table in tables])[:-1]
    return np.split(total, cuts)


def _rows_in(rows: pa.Table, others: pa.Table, columns: Sequence[str]) -> pa.BooleanArray:
    """Which rows have their like among others, by some columns."""
    if not rows.num_rows or not others.num_rows:
        return pa.array(np.zeros(rows.num_rows, dtype=bool))
    mine, theirs = _codes([rows, others], columns)
    return pa.array(np.isin(mine, theirs))


def _first_repeat(table: pa.Table, key: Sequence[str]) -> int | None:
    """Position of the first row of a sorted table whose key is that of the row before."""
    if table.num_rows < 2:
        return None
    (codes,) = _codes([table], key)
    same = np.flatnonzero(codes[1:] == codes[:-1])
    return int(same[0]) + 1 if len(same) else None
