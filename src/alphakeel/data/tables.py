"""One file to one table of its own columns: encoding, delimiter, the lines before the header."""

from __future__ import annotations

import csv
import gzip
import io
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from alphakeel.data.columns import check_unique, field_of, normalised_name
from alphakeel.data.parsing import looks_like_dates
from alphakeel.data.validation import MAX_PROBLEMS, Problem, place
from alphakeel.errors import DataError
from alphakeel.files import regular_file

__all__ = [
    "PACKED_SUFFIXES",
    "SUFFIXES",
    "Table",
    "first_values",
    "is_table",
    "read_table",
    "stem_of",
]

_GZIPPED = (".csv.gz", ".txt.gz", ".tsv.gz")
_ZIPPED = (".csv.zip", ".txt.zip", ".tsv.zip", ".zip")
SUFFIXES = (".csv", ".txt", ".tsv", ".parquet", ".pq", ".xlsx", *_GZIPPED, *_ZIPPED)
PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".7z")
# First bytes of compressed files: what is in them may be a thousand times as long.
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"7z\xbc\xaf\x27\x1c": "7z",
}
# First bytes of files that are often given the name of a table.
_OTHER_FILES = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"%PDF": "a PDF document",
    b"PAR1": "a Parquet file under another name",
    b"\x89HDF": "an HDF5 file",
    b"ARROW1": "an Arrow file",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
}
# A Parquet file is refused if reading it takes more than both: prices take 12 times its size.
MOST_TIMES_ITS_SIZE = 200
ALWAYS_READ = 2**28  # bytes
# And a text in gzip: prices take a third to a twentieth of their size.
MOST_TIMES_GZIP = 60
ALWAYS_UNPACKED = 2**24  # bytes
DELIMITERS = (",", ";", "\t", "|")
# Encodings of text that is not UTF-8: the one in which most column names are known is taken.
ENCODINGS = ("latin-1", "gb18030", "big5", "cp949", "cp932", "cp1250", "cp1251", "cp1254")
MOST_LINES_BEFORE_HEADER = 30
FIRST_ROWS = 400  # that are searched for a first value
_HEADS = ("price", "ticker", "attributes", "symbols", "")


@dataclass(frozen=True, eq=False)
class Table:
    """What a file holds, before anything is understood."""

    name: str  # of the file, for messages
    columns: dict[str, Any]  # pyarrow ChunkedArray by name, in the file's order
    levels: dict[str, tuple[str, str]]  # field and ticker by column, if there are two header rows
    first_row: int  # line of the first data row in the file, for messages
    notes: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()  # rows that do not fit the header, left out of `columns`
    delimiter: str = ""  # between the cells of a text file
    # Fields of the user's own, by the normalised name of the column that they are read from.
    own: Mapping[str, str] = field(default_factory=dict)


def is_table(path: Path) -> bool:
    """Whether a file's name ends like that of a table."""
    return path.name.lower().endswith(SUFFIXES)


def first_values(tables: Sequence[Table]) -> dict[str, str]:
    """The first value of every column, as it stands in the first file that has the column."""
    values: dict[str, str] = {}
    for table in tables:
        for name in [name for name in table.columns if name not in values]:
            some = table.columns[name].slice(0, FIRST_ROWS).drop_null().to_pylist()
            values[name] = next((str(x)[:24] for x in some if str(x).strip()), "")
    return values


def stem_of(name: str) -> str:
    """A file's name without the ending of a table."""
    endings = sorted(SUFFIXES, key=len, reverse=True)
    found = next((ending for ending in endings if name.lower().endswith(ending)), "")
    return name[: len(name) - len(found)] if found else Path(name).stem


def read_table(path: Path, own: Mapping[str, str] | None = None) -> Table:
    """Read a CSV or Parquet file; what is not a table is refused by name.

    `own` are the user's own fields, which the table carries to whoever understands its columns.
    """
    table = _read(path, own or {})
    return replace(table, own=own) if own else table


def _read(path: Path, own: Mapping[str, str]) -> Table:
    try:
        regular_file(path)
        if path.name.lower().endswith(_GZIPPED) and _head(path).startswith(b"\x1f\x8b"):
            return _read_text(path, _unpacked(path), own)
        if path.suffix.lower() in (".zip", ".xlsx") and _head(path).startswith(b"PK\x03\x04"):
            reader = _from_zip if path.suffix.lower() == ".zip" else _from_workbook
            return _read_text(path, reader(path), own)
        _refuse_packed(path)
        if path.suffix.lower() in (".parquet", ".pq"):
            return _read_parquet(path, own)
        return _read_text(path, path.read_bytes(), own)
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        kind = "zip" if path.suffix.lower() in (".zip", ".xlsx") else "gzip"
        raise DataError(f"{path.name} is damaged {kind}: download it again.") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.") from error


def _refuse_packed(path: Path) -> None:
    """Refuse a compressed file by its first bytes, before anything of it is unpacked."""
    head = _head(path)
    for mark, kind in _PACKED.items():
        if head.startswith(mark):
            raise DataError(
                f"{path.name} is compressed ({kind}), and of compressed files only .csv.gz, .zip "
                "and Parquet are read: unpack it."
            )


def _head(path: Path) -> bytes:
    """The first bytes of a file, by which its kind is known."""
    with path.open("rb") as file:
        return file.read(8)


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


def _read_parquet(path: Path, own: Mapping[str, str]) -> Table:
    try:
        about = pq.read_metadata(path)
        _refuse_bomb(path, about)
        schema = about.schema.to_arrow_schema()
        texts = [
            name
            for name, kind in zip(schema.names, schema.types, strict=True)
            if pa.types.is_string(kind)
        ]
        table = pq.read_table(path, read_dictionary=texts, pre_buffer=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{path.name} is not a readable Parquet file: write it again.") from error
    names = list(table.column_names)
    check_unique(names, where=path.name)
    if table.num_rows == 0:
        raise DataError(f"{path.name} has columns but no rows: export the data again.")
    columns = {name: table.column(name) for name in names}
    levels = _pairs_of_names(names, path.name, own)
    if levels:
        pairs = {column: f"{' '.join(levels[column])}" for column in levels}
        columns = {pairs.get(name, name): values for name, values in columns.items()}
        levels = {pairs[column]: level for column, level in levels.items()}
    # A frame's unnamed index: its dates, or just row numbers.
    index = next((name for name in names if name.startswith("__index_level_")), None)
    if index is not None:
        values = columns.pop(index)
        if not any(field_of(name) == "date" for name in columns) and looks_like_dates(
            values.to_pandas(date_as_object=False)
        ):
            columns = {"date": values, **columns}
    return Table(path.name, columns, levels, 1)


def _pairs_of_names(
    names: Sequence[str], where: str, own: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Field and ticker by column of a frame with two rows of names, as pandas stores it."""
    levels = {}
    for name in names:
        found = re.fullmatch(r"\('(.*)', '(.+)'\)", name)
        if not found:
            continue
        first, second = found.groups()
        if field_of(first) not in (None, "date") or normalised_name(first) in own:
            levels[name] = (first, second)
        elif field_of(second) is not None or normalised_name(second) in own:
            levels[name] = (second, first)
        else:
            raise DataError(
                f"columns of {where} are pairs such as {name}, neither part of which is a field: "
                "write one row per date and stock instead."
            )
    return levels


def _unpacked(path: Path) -> bytes:
    """The text in a gzip file, as far as it is no longer than prices can be."""
    with gzip.open(path) as file:
        return _bounded(file, path)


def _bounded(file: IO[bytes] | gzip.GzipFile, path: Path) -> bytes:
    """What is in a compressed file; refused if it is longer than prices can be."""
    most = max(MOST_TIMES_GZIP * path.stat().st_size, ALWAYS_UNPACKED)
    raw = file.read(most + 1)
    if len(raw) > most:
        raise DataError(
            f"{path.name} unpacks to more than {MOST_TIMES_GZIP} times its size: it cannot hold "
            "prices; write it again from the data."
        )
    return raw


def _from_zip(path: Path) -> bytes:
    """The one text table in a zip archive, as far as it is no longer than prices can be."""
    with zipfile.ZipFile(path) as archive:
        names = [
            member.filename
            for member in archive.infolist()
            if member.filename.lower().endswith((".csv", ".txt", ".tsv"))
            and not member.filename.startswith("__MACOSX")
        ]
        if len(names) != 1:
            held = f"{len(names)} tables ({', '.join(names[:3])})" if names else "no CSV file"
            raise DataError(
                f"{path.name} holds {held}, but one is read from a zip file: unpack it."
            )
        try:
            with archive.open(names[0]) as file:
                return _bounded(file, path)
        except (RuntimeError, NotImplementedError) as error:  # a password, or another method
            raise DataError(f"{path.name} cannot be unpacked here: unpack it yourself.") from error


def _from_workbook(path: Path) -> bytes:
    """The one sheet with cells of an Excel workbook, as CSV."""
    with zipfile.ZipFile(path) as archive:
        needed = sum(member.file_size for member in archive.infolist())
    if needed > max(MOST_TIMES_GZIP * path.stat().st_size, ALWAYS_UNPACKED):
        raise DataError(f"{path.name} unpacks to {needed:,} bytes: save the sheet as CSV.")
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise DataError(
            f"{path.name} is an Excel workbook, which needs openpyxl: pip install "
            "'alphakeel[excel]', or save the sheet as CSV in UTF-8."
        ) from error
    try:
        book = load_workbook(path, read_only=True, data_only=True)
        sheets = {sheet.title: list(sheet.iter_rows(values_only=True)) for sheet in book.worksheets}
        book.close()
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path.name} is no readable workbook: save it as CSV.") from error
    filled = {
        name: rows for name, rows in sheets.items() if any(c is not None for r in rows for c in r)
    }
    if len(filled) != 1:
        held = f"{len(filled)} sheets ({', '.join(list(filled)[:3])})" if filled else "no cells"
        raise DataError(f"{path.name} holds {held}, but one is read: save that sheet as CSV.")
    text = io.StringIO()
    csv.writer(text).writerows(_written(row) for row in next(iter(filled.values())))
    return text.getvalue().encode("utf-8")


def _written(row: Sequence[Any]) -> list[str]:
    """The cells of a sheet as text; a day without its midnight, a number as Python writes it."""
    texts = ["" if cell is None else str(cell) for cell in row]
    return [text.removesuffix(" 00:00:00") for text in texts]


def _read_text(path: Path, raw: bytes, own: Mapping[str, str]) -> Table:
    text, notes = _decoded(raw, path.name, own)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise DataError(f"{path.name} is empty: export the data again.")
    _refuse_other_formats(text, path.name)
    text, above, remark = _from_header(text, path.name)
    try:
        delimiter = _sniffed(text, path.name)
        _refuse_open_quote(text, delimiter, above, path.name)
        cells = csv.reader(io.StringIO(text[:200_000]), delimiter=delimiter)
        first_rows = [row for row in cells if row][:4]
    except csv.Error as error:
        raise DataError(f"{path.name} cannot be read as a table: {error}.") from error
    header = [unicodedata.normalize("NFC", cell.strip()) for cell in first_rows[0]]
    levels, skip = _two_header_rows(first_rows)
    if levels:
        header = ["date", *(f"{name} {ticker}" for name, ticker in levels[1:])]
    elif looks_like_dates([header[0]]) or _are_numbers(header):
        raise DataError(
            f"{path.name} has no header: its first row {header[0]!r} is data; name the columns."
        )
    _refuse_odd_names(header, path.name)
    check_unique(header, where=path.name)
    table, problems = _arrow_csv(text, header, delimiter, skip, above, path.name)
    if table.num_rows == 0 and not problems:
        raise DataError(f"{path.name} has a header but no rows: export the data again.")
    columns = {name: table.column(name) for name in header}
    pairs = dict(zip(header[1:], levels[1:], strict=True)) if levels else {}
    notes += remark
    if delimiter != ",":
        notes += (f"cells of {path.name} are separated by {delimiter!r}",)
    first_row = above + skip + 1
    return Table(path.name, columns, pairs, first_row, notes, tuple(problems), delimiter)


def _decoded(raw: bytes, name: str, own: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """The text of a file, and a note where its encoding was inferred."""
    if not raw.strip():
        raise DataError(f"{name} is empty: export the data again.")
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif len(raw) > 1 and raw[:4000].count(0) > len(raw[:4000]) // 4:
        encoding = "utf-16-le" if raw[1] == 0 else "utf-16-be"
    else:
        encoding = "utf-8-sig"
    for mark, kind in _OTHER_FILES.items():
        if raw.startswith(mark):
            raise DataError(f"{name} is {kind}, not text: save the table in it as CSV in UTF-8.")
    try:
        return raw.decode(encoding), ()
    except UnicodeDecodeError as error:
        if encoding.startswith("utf-16") or b"\0" in raw[:4000]:
            raise DataError(f"{name} is not text: save it as CSV in UTF-8.") from error
    best, text, most = "latin-1", raw.decode("latin-1"), 0
    for encoding in ENCODINGS:
        try:
            decoded = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        known = _known_names(decoded, own)
        if known > most:
            best, text, most = encoding, decoded, known
    label = "Latin-1" if best == "latin-1" else best.upper()
    return text, (f"{name} is not UTF-8; it is read as {label}",)


def _known_names(text: str, own: Collection[str]) -> int:
    """How many column names beyond ASCII in the first lines are known, or the user's own."""
    lines = text[:20_000].splitlines()[:3]
    cells = (cell for line in lines for mark in DELIMITERS for cell in line.split(mark))
    beyond = [cell for cell in cells if not cell.isascii()]
    return sum(field_of(cell) is not None or normalised_name(cell) in own for cell in beyond)


def _refuse_other_formats(text: str, name: str) -> None:
    """Name formats that are often saved under a wrong ending."""
    head = text[:2000].lstrip().lower()
    if head.startswith("<") and not head.startswith(("<ticker>", "<date>", "<dtyyyymmdd>")):
        kind = "an HTML page" if "<html" in head or "<!doctype html" in head else "markup"
        raise DataError(f"{name} holds {kind}, not a table: download the data again as CSV.")
    if head.startswith(("{", "[")):
        raise DataError(f"{name} holds JSON, not a table: save it as CSV.")
    if "\0" in head:
        raise DataError(f"{name} is not text: save it as CSV in UTF-8, or name it .parquet.")


def _from_header(text: str, name: str) -> tuple[str, int, tuple[str, ...]]:
    """The text from its header on, the lines above it, and a note where some of them say something.

    Above a header may stand blank lines, comments (`# ...`), and lines of one cell, or of fewer
    than the table: a title, the address that the file came from. A comment of as many cells as the
    row below it is the header.
    """
    lines = text.split("\n", MOST_LINES_BEFORE_HEADER + 1)[: MOST_LINES_BEFORE_HEADER + 1]
    above, comment = 0, ""
    while above < len(lines) and (lines[above].startswith("#") or _cells(lines[above]) < 2):
        comment = lines[above] if lines[above].startswith("#") else ""
        above += 1
    above += _title_lines(lines[above:])
    if above == len(lines) or not above:
        return text.lstrip("\n"), len(text) - len(text.lstrip("\n")), ()
    said = [line for line in lines[:above] if line.strip(" ,;|\t")]
    offset = sum(len(line) + 1 for line in lines[:above])
    if _cells(comment) == _cells(lines[above]) and _starts_with_date(lines[above]):
        offset -= len(comment) + 1
        return text[offset:].lstrip("# "), above - 1, ()
    if not said:
        return text[offset:], above, ()
    lines_above = f"the first {above} lines stand" if above > 1 else "the first line stands"
    note = f"in {name} {lines_above} above the header, not read: {said[0][:60]!r}"
    return text[offset:], above, (note,)


def _title_lines(lines: Sequence[str]) -> int:
    """How many first lines are narrower than a header further down that is as wide as its rows.

    A title with a comma has two cells, as a table may: the rows below tell. Where the first line of
    their width is itself a row, with a date in it, nothing is skipped: the header is what is wrong.
    """
    found = []
    for mark in DELIMITERS:
        widths = [len(next(csv.reader([line], delimiter=mark), ())) for line in lines]
        filled = [width for width in widths if width > 1]
        common = max(set(filled), key=filled.count, default=0)
        first = widths.index(common) if common else 0
        below = sum(bool(line.strip()) for line in lines[first:])
        if common and filled.count(common) >= max(3, 0.8 * below):
            if not first:
                return 0
            if common > 2 and max(widths[:first]) < common:
                found.append((first, mark))
    if not found:
        return 0
    first, mark = min(found)
    cells = [cell.strip('" ') for cell in lines[first].split(mark)]
    return 0 if any(looks_like_dates([cell]) for cell in cells) else first


def _are_numbers(header: Sequence[str]) -> bool:
    """Whether half of the cells are decimal numbers, which are no names."""
    numbers = [re.fullmatch(r"[$€£¥]?\d[\d.,' \u00a0]*[.,]\d+", cell) for cell in header]
    decimal = sum(found is not None and not found[0].endswith(".0") for found in numbers)
    return decimal >= 2 and 2 * decimal >= len(header) - 1


def _cells(line: str) -> int:
    """The most cells with something in them that any delimiter makes of a line."""
    return max(sum(1 for cell in line.split(mark) if cell.strip()) for mark in DELIMITERS)


def _starts_with_date(line: str) -> bool:
    return any(looks_like_dates([line.split(mark)[0].strip('" ')]) for mark in DELIMITERS)


def _refuse_open_quote(text: str, delimiter: str, above: int, name: str) -> None:
    """Refuse a quote that opens a cell and is never closed: it would swallow the rows below."""
    if text.count('"') % 2 == 0:
        return
    for number, line in enumerate(text.split("\n"), start=above + 1):
        opened = line.startswith('"') or f'{delimiter}"' in line
        if line.count('"') % 2 and opened:
            raise DataError(
                f"row {number} of {name} opens a quote that is never closed "
                f"({line.strip()[:40]!r}): close it or take it out."
            )


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
    text: str, header: list[str], delimiter: str, skip: int, above: int, name: str
) -> tuple[Any, list[Problem]]:
    """Read every cell as text; rows of the wrong width become problems."""
    problems: list[Problem] = []

    def ragged(row: Any) -> str:
        if len(problems) < MAX_PROBLEMS:
            line = f"row {row.number + above}" if row.number else f"the row {row.text[:40]!r}"
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
