"""One file to one table of its own columns, and which column is which field.

Encoding, delimiter and shape are read here; fields are known by the spellings that vendors use.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from alphakeel.data.parsing import looks_like_dates
from alphakeel.data.validation import MAX_PROBLEMS, Problem, place
from alphakeel.errors import DataError
from alphakeel.files import regular_file

__all__ = [
    "PACKED_SUFFIXES",
    "SPELLINGS",
    "SUFFIXES",
    "Table",
    "check_unique",
    "field_of",
    "normalised_name",
    "read_table",
    "recognise",
    "stock_and_field",
]

SUFFIXES = (".csv", ".txt", ".tsv", ".parquet", ".pq")
PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".7z")
# First bytes of compressed files: what is in them may be a thousand times as long.
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"7z\xbc\xaf\x27\x1c": "7z",
}
# A Parquet file is refused if reading it takes more than both: prices take 12 times its size.
MOST_TIMES_ITS_SIZE = 200
ALWAYS_READ = 2**28  # bytes
DELIMITERS = (",", ";", "\t", "|")
_HEADS = ("price", "ticker", "attributes", "symbols", "")

# Compared without case, spaces and punctuation; of several columns for one field the first
# spelling in its row wins.
SPELLINGS: dict[str, tuple[str, ...]] = {
    "date": (
        *("date", "tradedate", "tradingdate", "tradingday", "datetime", "timestamp"),
        *("caldt", "day", "time", "日期", "交易日期"),
    ),
    "ticker": (
        *("ticker", "symbol", "tscode", "code", "tic", "instrument", "secucode", "permno"),
        *("asset", "stock", "stockcode", "股票代码", "证券代码", "代码"),
    ),
    "open": ("open", "openprice", "openprc", "开盘", "开盘价"),
    "high": ("high", "highprice", "askhi", "最高", "最高价"),
    "low": ("low", "lowprice", "bidlo", "最低", "最低价"),
    "close": ("close", "closeprice", "closingprice", "prc", "last", "price", "收盘", "收盘价"),
    "adj_close": (
        *("adjclose", "adjcloseprice", "adjustedclose", "adjustedcloseprice", "closeadj"),
        *("adjustedclosingprice", "adjprice", "adjustedprice"),
    ),
    "volume": ("volume", "vol", "sharestraded", "tradingvolume", "成交量"),
    "market_cap": (
        *("marketcap", "mktcap", "marketcapitalization", "marketcapitalisation", "totalmv"),
        *("mcap", "marketvalue", "总市值"),
    ),
    "earnings_to_price": ("earningstoprice", "earningsyield", "ep"),
    "book_to_price": ("booktoprice", "booktomarket", "bp", "bm"),
    "st": ("st", "isst", "specialtreatment", "是否st"),
    "pe": ("pe", "pettm", "peratio", "pricetoearnings", "trailingpe", "priceearningsratio"),
    "pb": ("pb", "pbmrq", "pbratio", "pricetobook", "pricebookratio"),
    "sector": ("sector", "gicssector", "industry", "gics", "gicsindustry", "行业", "所属行业"),
}
_FIELD_OF = {spelling: name for name, row in SPELLINGS.items() for spelling in row}


@dataclass(frozen=True, eq=False)
class Table:
    """What a file holds, before anything is understood."""

    name: str  # of the file, for messages
    columns: dict[str, Any]  # pyarrow ChunkedArray by name, in the file's order
    levels: dict[str, tuple[str, str]]  # field and ticker by column, if there are two header rows
    first_row: int  # line of the first data row in the file, for messages
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()  # rows that do not fit the header, left out of `columns`


def read_table(path: Path) -> Table:
    """Read a CSV or Parquet file; what is not a table is refused by name."""
    try:
        regular_file(path)
        _refuse_packed(path)
        if path.suffix.lower() in (".parquet", ".pq"):
            return _read_parquet(path)
        return _read_text(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.") from error


def _refuse_packed(path: Path) -> None:
    """Refuse a compressed file by its first bytes, before anything of it is unpacked."""
    with path.open("rb") as file:
        head = file.read(8)
    for mark, kind in _PACKED.items():
        if head.startswith(mark):
            raise DataError(
                f"{path.name} is compressed ({kind}), and only uncompressed text and Parquet are "
                "read: unpack it."
            )


def _refuse_bomb(path: Path, about: pq.FileMetaData) -> None:
    """Refuse a Parquet file that states to hold far more than its size allows for."""
    groups = [about.row_group(i) for i in range(about.num_row_groups)]
    values = sum(group.column(j).num_values for group in groups for j in range(group.num_columns))
    needed = max(8 * values, sum(group.total_byte_size for group in groups))
    size = path.stat().st_size
    if needed > max(MOST_TIMES_ITS_SIZE * size, ALWAYS_READ):
        raise DataError(
            f"{path.name} unpacks from {size:,} to {needed:,} bytes, over {MOST_TIMES_ITS_SIZE} "
            "times its size: it cannot hold prices; write it again from the data."
        )


def _read_parquet(path: Path) -> Table:
    try:
        about = pq.read_metadata(path)
        _refuse_bomb(path, about)
        schema = about.schema.to_arrow_schema()
        texts = [
            name
            for name, kind in zip(schema.names, schema.types, strict=True)
            if pa.types.is_string(kind)
        ]
        table = pq.read_table(path, read_dictionary=texts)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{path.name} is not a readable Parquet file: write it again.") from error
    names = list(table.column_names)
    check_unique(names, where=path.name)
    if table.num_rows == 0:
        raise DataError(f"{path.name} has columns but no rows: export the data again.")
    if any(name.startswith("('") for name in names):
        raise DataError(
            f"columns of {path.name} are pairs such as {names[1]}: write one row per date and "
            "stock instead."
        )
    columns = {name: table.column(name) for name in names}
    # A frame's unnamed index: its dates, or just row numbers.
    index = next((name for name in names if name.startswith("__index_level_")), None)
    if index is not None:
        values = columns.pop(index)
        if not any(field_of(name) == "date" for name in columns) and looks_like_dates(
            values.to_pandas(date_as_object=False)
        ):
            columns = {"date": values, **columns}
    return Table(path.name, columns, {}, 1)


def _read_text(path: Path) -> Table:
    text, notes = _decoded(path.read_bytes(), path.name)
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\n")
    if not text.strip():
        raise DataError(f"{path.name} is empty: export the data again.")
    _refuse_other_formats(text, path.name)
    try:
        delimiter = _sniffed(text, path.name)
        cells = csv.reader(io.StringIO(text[:200_000]), delimiter=delimiter)
        first_rows = [row for row in cells if row][:4]
    except csv.Error as error:
        raise DataError(f"{path.name} cannot be read as a table: {error}.") from error
    header = [cell.strip() for cell in first_rows[0]]
    levels, skip = _two_header_rows(first_rows)
    if levels:
        header = ["date", *(f"{name} {ticker}" for name, ticker in levels[1:])]
    elif looks_like_dates([header[0]]):
        raise DataError(
            f"{path.name} has no header: its first row {header[0]!r} is data; name the columns."
        )
    _refuse_odd_names(header, path.name)
    check_unique(header, where=path.name)
    table, problems = _arrow_csv(text, header, delimiter, skip, path.name)
    if table.num_rows == 0 and not problems:
        raise DataError(f"{path.name} has a header but no rows: export the data again.")
    columns = {name: table.column(name) for name in header}
    pairs = dict(zip(header[1:], levels[1:], strict=True)) if levels else {}
    if delimiter != ",":
        notes += (f"cells of {path.name} are separated by {delimiter!r}",)
    return Table(path.name, columns, pairs, skip + 1, notes, tuple(problems))


def _decoded(raw: bytes, name: str) -> tuple[str, tuple[str, ...]]:
    """The text of a file, and a note where its encoding was inferred."""
    if not raw.strip():
        raise DataError(f"{name} is empty: export the data again.")
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif len(raw) > 1 and raw[:4000].count(0) > len(raw[:4000]) // 4:
        encoding = "utf-16-le" if raw[1] == 0 else "utf-16-be"
    else:
        encoding = "utf-8-sig"
    try:
        return raw.decode(encoding), ()
    except UnicodeDecodeError as error:
        if encoding.startswith("utf-16") or b"\0" in raw[:4000]:
            raise DataError(f"{name} is not text: save it as CSV in UTF-8.") from error
    return raw.decode("latin-1"), (f"{name} is not UTF-8; it is read as Latin-1",)


def _refuse_other_formats(text: str, name: str) -> None:
    """Name formats that are often saved under a wrong ending."""
    head = text[:2000].lstrip().lower()
    if head.startswith("<"):
        kind = "an HTML page" if "<html" in head or "<!doctype html" in head else "markup"
        raise DataError(f"{name} holds {kind}, not a table: download the data again as CSV.")
    if head.startswith(("{", "[")):
        raise DataError(f"{name} holds JSON, not a table: save it as CSV.")
    if head.startswith(("pk\x03\x04", "par1")) or "\0" in head:
        raise DataError(f"{name} is not text: save it as CSV in UTF-8, or name it .parquet.")


def _refuse_odd_names(header: Sequence[str], name: str) -> None:
    """Refuse column names with line breaks or control characters: a quote is open somewhere."""
    for cell in header:
        if not cell.isprintable():
            raise DataError(
                f"the header of {name} holds characters that cannot be printed ({cell[:24]!r}): "
                "check its quotes."
            )


def _sniffed(text: str, name: str) -> str:
    """The delimiter that splits the first lines most evenly."""
    lines = text[:50_000].splitlines()[:30]
    best, score = "", (0.0, 0)
    for delimiter in DELIMITERS:
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        even = sum(width == widths[0] for width in widths) / len(widths)
        if widths[0] > 1 and (even, widths[0]) > score:
            best, score = delimiter, (even, widths[0])
    if not best:
        raise DataError(
            f"{name} has no columns: separate them by a comma, semicolon, tab or vertical bar."
        )
    return best


def _two_header_rows(rows: Sequence[Sequence[str]]) -> tuple[list[tuple[str, str]], int]:
    """(field, ticker) per column of a yfinance download, and the rows to skip."""
    if len(rows) < 3 or rows[0][0].strip().lower() not in _HEADS:
        return [], 1
    heads = [row[0].strip().lower() for row in rows[:3]]
    if heads[1] not in _HEADS or heads[2] not in ("date", "datetime"):
        return [], 1
    upper, lower = ([cell.strip() for cell in row] for row in rows[:2])
    if heads[0] in ("ticker", "symbols"):
        upper, lower = lower, upper
    return list(zip(upper, lower, strict=False)), 3


def _arrow_csv(
    text: str, header: list[str], delimiter: str, skip: int, name: str
) -> tuple[Any, list[Problem]]:
    """Read every cell as text; rows of the wrong width become problems."""
    problems: list[Problem] = []

    def ragged(row: Any) -> str:
        if len(problems) < MAX_PROBLEMS:
            line = f"row {row.number}" if row.number else f"the row {row.text[:40]!r}"
            plural = "" if row.actual_columns == 1 else "s"
            problems.append(
                Problem(
                    "",
                    "",
                    "",
                    f"{line} has {row.actual_columns} cell{plural} where the header has "
                    f"{row.expected_columns}: complete it or remove it{place(name)}.",
                )
            )
        return "skip"

    try:
        table = pacsv.read_csv(
            io.BytesIO(text.encode("utf-8", errors="replace")),
            read_options=pacsv.ReadOptions(column_names=header, skip_rows=skip, use_threads=False),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter, newlines_in_values='"' in text, invalid_row_handler=ragged
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            raise DataError(f"{name} has a header but no rows: export the data again.") from error
        raise DataError(f"{name} cannot be read as a table: {str(error)[:120]!r}.") from error
    return table, problems


def normalised_name(column: str) -> str:
    """A column's name without case, spaces and punctuation."""
    return "".join(letter for letter in column.casefold() if letter.isalnum())


def field_of(column: str) -> str | None:
    """The field that a column's name stands for, or None."""
    return _FIELD_OF.get(normalised_name(column))


def recognise(columns: Sequence[str], *, where: str) -> tuple[dict[str, str], list[str]]:
    """Assign columns to fields: the column by field, and the other columns."""
    check_unique(columns, where=where)
    understood: dict[str, str] = {}
    for name, spellings in SPELLINGS.items():
        ranked = {spelling: rank for rank, spelling in enumerate(spellings)}
        candidates = sorted(
            (ranked[normalised_name(column)], column)
            for column in columns
            if normalised_name(column) in ranked
        )
        if len(candidates) > 1 and candidates[0][0] == candidates[1][0]:
            raise DataError(
                f"columns {candidates[0][1]!r} and {candidates[1][1]!r} both stand for {name}: "
                f"keep one{place(where)}."
            )
        if candidates:
            understood[name] = candidates[0][1]
    unused = [column for column in columns if column not in understood.values()]
    return understood, unused


def check_unique(columns: Sequence[str], *, where: str) -> None:
    """Refuse two columns of one name."""
    seen: set[str] = set()
    for column in columns:
        if column in seen:
            short = column if len(column) <= 40 else f"{column[:40]}..."
            raise DataError(f"column {short!r} occurs twice: keep one{place(where)}.")
        seen.add(column)


def stock_and_field(columns: Sequence[str]) -> list[str]:
    """Columns such as `AAPL_volume` or `Close AAPL`, which name stock and field at once."""
    matching = []
    for column in columns:
        for mark in ("_", " ", ":", "|", "/"):
            first, _, last = column.rpartition(mark)
            if first and last and (field_of(first) or field_of(last)):
                matching.append(column)
                break
    return matching
