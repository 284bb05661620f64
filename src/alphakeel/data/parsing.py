"""Numbers and dates as people write them: read rightly or refused, never guessed.

A file has one decimal sign, and a date that can be read as two different days is none.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from alphakeel.data.validation import MAX_PROBLEMS, place
from alphakeel.errors import DataError

__all__ = [
    "MISSING",
    "as_flags",
    "looks_like_dates",
    "parse_dates",
    "read_numbers",
    "refuse_shifted",
]

MISSING = (
    *("", "-", "--", ".", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "<na>"),
    *("\u2013", "\u2014"),
)

# What stands for 1 and 0 in a column of yes and no, besides 1 and 0.
YES, NO = ("true", "t", "yes", "y"), ("false", "f", "no", "n")

_SPACES = "[\\s\u00a0\u202f'\u2019]"
_PLAIN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
# "1,234,567", "1,234.5": certainly commas between thousands, points before decimals.
_POINT_STYLE = r"^[+-]?(\d{1,3}(,\d{3})+\.\d*|\d{1,3}(,\d{3}){2,})$"
# "12.5", "1234.567", "0.123", "1e5": no thousands can be meant by the point.
_POINT_DECIMAL = r"^[+-]?(\d*\.(\d{0,2}|\d{4,})|\d{4,}\.\d{3}|0+\.\d+)$"
# "12,5", "1.234,56", "1.234.567": certainly the other way round.
_COMMA_STYLE = (
    r"^[+-]?(\d*,(\d{1,2}|\d{4,})|\d{4,},\d{3}|0+,\d+|\d{1,3}(\.\d{3})+,\d*|\d{1,3}(\.\d{3}){2,})$"
)
# "1,234" alone: either.
_EITHER = r"^[+-]?[1-9]\d{0,2},\d{3}$"
_EITHER_POINT = r"^[+-]?[1-9]\d{0,2}\.\d{3}$"
_EITHER_POINT_MARKED = r"(?i)^[+-]?[$€£¥₹₩]?\s*[1-9]\d{0,2}\.\d{3}\s?[KMBT]?$"

# "103.27M": thousands, millions, (US) billions and trillions, as investing.com writes them.
_SCALED = r"(?i)^([+-]?[\d.,]*\d)\s?[KMBT]$"

Numbers = dict[str, NDArray[np.float64]]
Faults = list[tuple[int, str]]  # row, and its text or what is wrong with it

_CLOCK = r"(?:[T ]+\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)?"
_ZONE = r"\s*(Z|UTC|GMT|[+-]\d{2}:?\d{2})?"
_YEAR_FIRST = re.compile(rf"(\d{{4}})([-/.])(\d{{1,2}})\2(\d{{1,2}}){_CLOCK}{_ZONE}")
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})(?:\.0)?")
_YEAR_LAST = re.compile(rf"(\d{{1,2}})([-/.])(\d{{1,2}})\2(\d{{4}}){_CLOCK}")
_CHINESE = re.compile(r"(\d{4})\s?[年년]\s?(\d{1,2})\s?[月월]\s?(\d{1,2})\s?[日일]")
_SHORT = re.compile(r"(\d{2})([-/.])(\d{2})\2(\d{2})")
# Positions of year, month and day where all are of two digits.
_SHORT_ORDERS = ((2, 1, 0), (2, 0, 1), (0, 1, 2))
_LEAST_SHORT = 5  # dates that tell an order
_MONTH_NAMED = ("%b %d, %Y", "%B %d, %Y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%d%b%Y")


def read_numbers(
    columns: Mapping[str, Any],
    *,
    where: str,
    flags: Collection[str] = (),
    percents: Collection[str] = (),
    delimiter: str = ",",
    first_row: int = 1,
    beside: Mapping[str, Any] | None = None,
) -> tuple[Numbers, dict[str, Faults], str]:
    """Read all numeric columns of one file: numbers, faults, and how decimals were read.

    Numbers are NaN where missing ("", "NA", "null", "-" and the like) or faulty. Faults are row and
    text of every entry that is not a number, by column. The note is empty unless the file has a
    decimal comma. Columns in `flags` say yes or no: the words of `as_flags` are read as 1 and 0.
    In columns of `percents` every number may have the sign %, and 5 % is 0.05. A
    file that writes decimals in two ways, or so that they can be read in two, is refused. So is
    `5.000` in a file whose cells no comma separates, unless another number of the file, in these
    columns or in those `beside` them, says whether it is five or five thousand.

    Examples
    --------
    >>> read_numbers({"close": pa.chunked_array([["1.234,50", "99,5", "-"]])}, where="")[0]
    {'close': array([1234.5,   99.5,    nan])}
    """
    numbers: Numbers = {}
    faults: dict[str, Faults] = {}
    texts: dict[str, Any] = {}
    hard = False
    for name, given in columns.items():
        column = as_flags(given) if name in flags else given
        try:
            if _is_text(column.type):
                texts[name] = _without_missing(column.cast(pa.string()))
                numbers[name] = _floats(texts[name])
            else:
                numbers[name] = _floats(column)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            if name not in texts:
                raise DataError(
                    f"column {name!r} holds {column.type} where numbers are needed{place(where)}."
                ) from error
            hard = True
    doubtful = _thousands_in_doubt(texts, delimiter)
    if not hard and not doubtful:
        return numbers, faults, ""
    # One odd column decides how all text in the file is read.
    texts = {name: _closed_up(text) for name, text in texts.items()}
    in_percent = {name for name in percents if name in texts and _all_percent(texts[name])}
    for name in in_percent:
        texts[name] = pc.replace_substring_regex(texts[name], r"\s?%$", "")
    scales = {name: _scale(text) for name, text in texts.items()}
    texts = {
        name: pc.replace_substring_regex(text, _SCALED, r"\1") if scales[name] is not None else text
        for name, text in texts.items()
    }
    comma = _decimal_comma(texts, where) if hard else False
    if doubtful and not comma:
        comma = _points_are_thousands(texts, beside or {}, where, first_row)
    for name, text in texts.items():
        numbers[name], bad = _converted(text, comma)
        scale = scales[name]
        if scale is not None:
            numbers[name] = numbers[name] * scale
        if name in in_percent:
            numbers[name] = numbers[name] / 100.0
        if len(bad):
            originals = columns[name].take(pa.array(bad[:MAX_PROBLEMS])).to_pylist()
            faults[name] = [
                (int(row), str(value)) for row, value in zip(bad, originals, strict=False)
            ]
    note = "numbers are read with a decimal comma (1.234,56)" if comma else ""
    return numbers, faults, note


def as_flags(column: Any) -> Any:
    """Write the words for yes and no of a column, in any case, as "1" and "0"."""
    if not _is_text(column.type):
        return column
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    lower = pc.utf8_lower(text)
    for words, digit in ((YES, "1"), (NO, "0")):
        matches = pc.fill_null(pc.is_in(lower, value_set=pa.array(words)), fill_value=False)
        text = pc.if_else(matches, pa.scalar(digit), text)
    return text


def _is_text(kind: Any) -> bool:
    """Whether entries are words, or truth values, which are no numbers either."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind)
    )


def _without_missing(column: Any) -> Any:
    """Trimmed text with null for what means missing."""
    text = pc.utf8_trim_whitespace(column)
    missing = pc.is_in(pc.utf8_lower(text), value_set=pa.array(MISSING, type=text.type))
    return pc.if_else(missing, pa.scalar(None, type=text.type), text)


def _closed_up(text: Any) -> Any:
    """Take out spaces and apostrophes between digits, and the sign of a currency before them."""
    text = pc.replace_substring_regex(text, r"^([+-]?)[$€£¥₹₩]\s*([\d.,])", r"\1\2")
    inner = pc.match_substring_regex(text, rf"^[+-]?\d{{1,3}}({_SPACES}\d{{3}})+([.,]\d*)?$")
    return pc.if_else(inner, pc.replace_substring_regex(text, _SPACES, ""), text)


def _scale(text: Any) -> NDArray[np.float64] | None:
    """What the letter behind each number stands for (`1.5M`); None if there is none."""
    scale = None
    for letter, factor in (("K", 1e3), ("M", 1e6), ("B", 1e9), ("T", 1e12)):
        pattern = rf"(?i)^[+-]?[\d.,]*\d\s?{letter}$"
        hits = pc.fill_null(pc.match_substring_regex(text, pattern), False).to_numpy()
        if hits.any():
            scale = np.ones(len(hits)) if scale is None else scale
            scale[hits] = factor
    return scale


def _all_percent(text: Any) -> bool:
    """Whether every entry that is not missing ends in the sign %."""
    signed = pc.sum(pc.match_substring_regex(text, r"^[^%]*\d\s?%$")).as_py()
    return bool(signed) and signed == len(text) - text.null_count


def _floats(column: Any) -> NDArray[np.float64]:
    """float64 with NaN for null; fails on text that is not a plain number."""
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        column = pc.cast(column, pa.float64(), safe=False)
    values = np.empty(len(column))
    at = 0
    for chunk in column.chunks:  # each in its place: a whole column is in memory once
        values[at : at + len(chunk)] = chunk.to_numpy(zero_copy_only=False)
        at += len(chunk)
    return values


def _decimal_comma(texts: Mapping[str, Any], where: str) -> bool:
    """Decide from every column of a file whether the comma is its decimal sign."""
    tail = place(where)
    point = _first_match(texts, _POINT_STYLE) or _first_match(texts, _POINT_DECIMAL)
    comma = _first_match(texts, _COMMA_STYLE)
    if point and comma:
        raise DataError(
            f"numbers are written in two ways, {point!r} and {comma!r}: use one decimal sign{tail}."
        )
    either = _first_match(texts, _EITHER)
    if either and not point and not comma:
        raise DataError(
            f"{either!r} can mean a thousand or a decimal: write numbers without marks between "
            f"thousands{tail}."
        )
    return bool(comma)


def _thousands_in_doubt(texts: Mapping[str, Any], delimiter: str) -> bool:
    """Whether a number like `5.000` occurs where a comma could be the decimal sign."""
    return delimiter != "," and bool(_first_match(texts, _EITHER_POINT_MARKED))


def _points_are_thousands(
    texts: Mapping[str, Any], beside: Mapping[str, Any], where: str, first_row: int
) -> bool:
    """Decide from all numbers of a file what `5.000` means; refuse it where none of them tells."""
    other = {}
    for name, column in beside.items():
        if _is_text(column.type):
            text = _closed_up(_without_missing(column.cast(pa.string())))
            number = pc.match_substring_regex(text, r"^[+-]?[\d.,]+$")
            if pc.sum(number).as_py() == len(text) - text.null_count:
                other[name] = text
    everything = {**texts, **other}
    decimal = (
        _first_match(texts, _POINT_STYLE)
        or _first_match(texts, _POINT_DECIMAL)
        or _first_match(other, _POINT_STYLE)
        or _first_match(other, _POINT_DECIMAL)
    )
    if decimal:
        return False
    if _first_match(everything, _COMMA_STYLE):
        return True
    # Who writes points between thousands writes them in 51252600 as well.
    if _first_match(texts, r"^[+-]?\d{4,}$"):
        return False
    for name, text in texts.items():
        hits = pc.fill_null(pc.match_substring_regex(text, _EITHER_POINT), False).to_numpy()
        for row in np.flatnonzero(hits)[:1]:
            raise DataError(
                f"row {row + first_row}: {name} {text[int(row)].as_py()!r} can mean a decimal or "
                "thousands, and no other number of the file tells which: write numbers without "
                f"marks between thousands{place(where)}."
            )
    return False


def _first_match(texts: Mapping[str, Any], pattern: str) -> str:
    """The first entry that matches, or an empty string."""
    for text in texts.values():
        hits = text.filter(pc.fill_null(pc.match_substring_regex(text, pattern), False))
        if len(hits):
            return str(hits[0].as_py())
    return ""


def _converted(text: Any, comma: bool) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Numbers, and the rows that hold none though they are not missing."""
    if comma:
        grouped = r"^[+-]?(\d{1,3}(\.\d{3})+|\d*)(,\d*)?$"
        fits = pc.match_substring_regex(text, grouped)
        swapped = pc.replace_substring(pc.replace_substring(text, ".", ""), ",", ".")
    else:
        fits = pc.match_substring_regex(text, r"^[+-]?\d{1,3}(,\d{3})+(\.\d*)?$")
        swapped = pc.replace_substring(text, ",", "")
    ready = pc.if_else(fits, swapped, text)
    infinite = pc.match_substring_regex(pc.utf8_lower(ready), r"^[+-]?inf(inity)?$")
    good = pc.fill_null(pc.or_(pc.match_substring_regex(ready, _PLAIN), infinite), True)
    bad = np.flatnonzero(~np.asarray(good.to_numpy()))
    return _floats(pc.if_else(good, ready, pa.scalar(None, type=ready.type))), bad


def parse_dates(values: Any) -> tuple[NDArray[np.datetime64], Faults]:
    """Read calendar days from a column of dates, times or text; NaT where an entry cannot be read.

    Accepted are datetimes (with a time zone: the day on that zone's wall clock), `2015-01-31`,
    `2015/01/31`, `20150131`, `31.01.2015`, `Jan 31, 2015`, `2015年1月31日` and, where at least one
    day above 12 settles the order, `31/01/2015` or `01/31/2015`; a time of day is dropped. A column
    of whole numbers may count seconds (or thousandths, ...) from 1970, or days as Excel does, and
    years may have two digits where the dates can be read in one order only. A fault is the position
    of an entry and what is wrong with it (to follow the word "date").

    Examples
    --------
    >>> parse_dates(pd.Series(["2015-01-31", "31 January"]))
    (array(['2015-01-31',        'NaT'], dtype='datetime64[D]'),
     [(1, "'31 January' cannot be read: write it like 2015-01-31")])
    """
    series = pd.Series(values).reset_index(drop=True)
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        series = series.dt.tz_localize(None)
    if pd.api.types.is_datetime64_dtype(series.dtype):
        days = series.to_numpy().astype("datetime64[D]")
        return days, [(int(row), "is missing") for row in np.flatnonzero(np.isnat(days))]
    # A long table repeats each date once per stock: read every distinct text only once.
    codes, distinct = pd.factorize(series, use_na_sentinel=True)
    texts = [str(value).strip() for value in distinct]
    known, wrong = _parse_texts(texts)
    table = np.append(known, np.datetime64("NaT"))
    days = table[codes]
    reasons = {**wrong, -1: "is missing"}
    bad = np.flatnonzero(np.isnat(days))
    return days, [(int(row), reasons[int(codes[row])]) for row in bad]


def looks_like_dates(values: Any) -> bool:
    """Whether most of the first entries of a column can be read as dates."""
    sample = pd.Series(values).head(50)
    if pd.api.types.is_float_dtype(sample.dtype) or sample.empty:
        return False
    if _counted_days([str(value).strip() for value in sample.dropna()]) is not None:
        return False  # prices may look like that as well; a column called date is taken as one
    return len(parse_dates(sample)[1]) <= len(sample) // 2


def refuse_shifted(series: pd.Series, days: NDArray[np.datetime64], where: str) -> None:
    """Refuse midnights of another zone that were converted to UTC: they are read a day early.

    Sundays without Fridays, at an hour of the afternoon or evening, give them away.
    """
    first_rows = ~np.isnat(days)
    first_rows[1:] &= days[1:] != days[:-1]  # a day has a row for each of many stocks
    weekday = (days[first_rows].astype(np.int64) + 3) % 7
    if not (weekday == 6).any() or (weekday == 4).any():
        return
    first = str(series.dropna().iloc[0])
    if re.search(r"[T ](1[2-9]|2[0-3]):00(:00)?(\.0+)?([+]00:?00|Z| UTC)$", first):
        raise DataError(
            f"the dates of {where} are midnights of another time zone in UTC ({first}), by which "
            "Mondays are Sundays: write the dates of the exchange itself."
        )


def _parse_texts(texts: Sequence[str]) -> tuple[NDArray[np.datetime64], dict[int, str]]:
    """Read distinct texts; faults by position."""
    wrong: dict[int, str] = {}
    days: list[dt.date | None] = []
    zones: list[str | None] = []
    plain = _iso_days(texts)
    if plain is not None:
        return plain, wrong
    counted = _counted_days(texts)
    if counted is None:
        counted = _short_years(texts)
    if counted is not None:
        return counted, wrong
    day_first = _day_comes_first(texts)
    for position, text in enumerate(texts):
        day, zone, fault = _parse_one(text, day_first)
        days.append(day)
        zones.append(zone)
        if fault:
            wrong[position] = fault
    for position in _foreign_zones(zones):
        if position not in wrong:
            days[position] = None
            wrong[position] = (
                f"{texts[position]!r} is in another time zone than {texts[0]!r}: "
                "write all dates in the exchange's own time"
            )
    return np.array(days, dtype="datetime64[D]"), wrong


def _iso_days(texts: Sequence[str]) -> NDArray[np.datetime64] | None:
    """Days of a column that has nothing but `2015-01-31`, read at once; else None."""
    if not texts or any(len(t) != 10 or t[0] not in "12" or t[4] != "-" for t in texts):
        return None
    try:
        return np.array(texts, dtype="datetime64[D]")
    except ValueError:
        return None


def _counted_days(texts: Sequence[str]) -> NDArray[np.datetime64] | None:
    """Days of a column that counts from 1970 in (milli-, micro-, nano-) seconds, or as Excel does.

    Excel's days are taken only where none is a Saturday or Sunday: another base would show there.
    """
    if not texts or not all(
        re.fullmatch(r"\d{5}|\d{9,10}|\d{12,13}|\d{15,16}|\d{18,19}", t) for t in texts
    ):
        return None
    counts = np.array([int(text) for text in texts], dtype=np.int64)
    if (counts < 100_000).all():
        days = np.datetime64("1899-12-30") + counts
        weekend = (days.astype(np.int64) + 3) % 7 >= 5
        plausible = len(days) >= 5 and not weekend.any() and (counts > 20_000).all()
        return days if plausible else None
    digits = {len(text) for text in texts}
    for low, unit in ((9, "s"), (12, "ms"), (15, "us"), (18, "ns")):
        if digits <= {low, low + 1}:
            days = counts.astype(f"datetime64[{unit}]").astype("datetime64[D]")
            return days if (days >= np.datetime64("1973-01-01")).all() else None
    return None


def _short_years(texts: Sequence[str]) -> NDArray[np.datetime64] | None:
    """Days of a column with years of two digits, where one order alone can be meant.

    The others give dates that do not exist, lie in the future or fall on weekends.
    """
    found = [_SHORT.fullmatch(text) for text in texts]
    if len(texts) < _LEAST_SHORT or not all(found):
        return None
    parts = [[int(m[1]), int(m[3]), int(m[4])] for m in found if m is not None]
    latest = dt.date.today() + dt.timedelta(days=1)
    readings = []
    for year, month, day in _SHORT_ORDERS:
        try:
            days = [dt.date(_century(p[year], latest.year), p[month], p[day]) for p in parts]
        except ValueError:
            continue
        if max(days) <= latest and all(d.weekday() < 5 for d in days):
            readings.append(days)
    return np.array(readings[0], dtype="datetime64[D]") if len(readings) == 1 else None


def _century(year: int, this_year: int) -> int:
    """The year that two digits mean: the last one that has begun."""
    return year + (2000 if year + 2000 <= this_year else 1900)


def _parse_one(text: str, day_first: bool | None) -> tuple[dt.date | None, str | None, str]:
    """Day, zone (None: not part of the text's form; '' : none given) and fault."""
    fault = f"{text[:40]!r} cannot be read: write it like 2015-01-31"
    if text.lower() in ("", "nan", "nat", "none", "null", "na"):
        return None, None, "is missing"
    try:
        if match := _YEAR_FIRST.fullmatch(text):
            year, _, month, day, zone = match.groups()
            return dt.date(int(year), int(month), int(day)), zone or "", ""
        if match := _COMPACT.fullmatch(text) or _CHINESE.fullmatch(text):
            return dt.date(*map(int, match.groups())), "", ""
        if match := _YEAR_LAST.fullmatch(text):
            first, mark, second, year = match.groups()
            # Dots are the day-first form wherever they are in use.
            order = True if mark == "." else day_first
            if order is None:
                other = f"{text[:40]!r} can be read as two different days: write it like 2015-01-31"
                return None, None, other
            day, month = (first, second) if order else (second, first)
            return dt.date(int(year), int(month), int(day)), "", ""
    except ValueError:
        return None, None, fault
    for form in _MONTH_NAMED:
        try:
            return dt.datetime.strptime(text, form).date(), "", ""
        except ValueError:
            continue
    return None, None, fault


def _day_comes_first(texts: Sequence[str]) -> bool | None:
    """Order of day and month if the texts settle it, else None."""
    parts = [match.groups() for text in texts if (match := _YEAR_LAST.fullmatch(text))]
    marked = [(int(first), int(second)) for first, mark, second, _ in parts if mark != "."]
    first_is_day = any(first > 12 for first, _ in marked)
    second_is_day = any(second > 12 for _, second in marked)
    return None if first_is_day == second_is_day else first_is_day


def _foreign_zones(zones: Sequence[str | None]) -> list[int]:
    """Positions whose zone differs from the first one's by more than summer time."""
    known = [zone for zone in zones if zone is not None]
    if len(set(known)) < 2:
        return []
    offsets = {zone: _minutes(zone) for zone in set(known) if zone}
    # One zone with winter and summer time writes two offsets, one hour apart.
    summer = len(set(offsets.values())) == 2 and np.ptp(list(offsets.values())) == 60
    if "" not in known and (summer or len(set(offsets.values())) == 1):
        return []
    home = known[0]
    return [at for at, zone in enumerate(zones) if zone is not None and zone != home]


def _minutes(zone: str) -> int:
    """Offset from Greenwich in minutes."""
    if zone in ("Z", "UTC", "GMT"):
        return 0
    sign = -1 if zone[0] == "-" else 1
    return sign * (int(zone[1:3]) * 60 + int(zone[-2:]))
