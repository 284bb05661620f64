"""Which column is which field: by its name, in many languages, and by its numbers.

A name alone is not enough: LOW, LAST and CODE are fields in one file and tickers in another, and a
name in a language that is not listed here must not turn a stock's open and high into two stocks.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from alphakeel.data.validation import place
from alphakeel.errors import DataError

__all__ = [
    "MOST_COLUMNS",
    "NEVER_TICKERS",
    "SPELLINGS",
    "WORDS",
    "bars_by_values",
    "check_unique",
    "field_of",
    "identifier",
    "is_bar",
    "normalised_name",
    "recognise",
    "stock_and_field",
]

# Compared without case, accents, spaces and punctuation; of several columns for one field the
# first spelling in its row wins. English, then Chinese, Japanese, Korean, German, Polish, French,
# Spanish, Portuguese, Italian, Turkish, Russian, Dutch, Swedish.
SPELLINGS: dict[str, tuple[str, ...]] = {
    "date": (
        *("date", "tradedate", "tradingdate", "tradingday", "datetime", "timestamp", "caldt"),
        *("date1", "trddt", "day", "日期", "交易日期", "日付", "날짜", "일자", "datum", "data"),
        *("fecha", "tarih", "дата", "time", "时间", "t"),
    ),
    "ticker": (
        *("ticker", "symbol", "tscode", "code", "tic", "instrument", "secucode", "permno"),
        *("securitiescode", "stkcd", "asset", "stock", "stockcode", "股票代码", "证券代码"),
        *("代码", "證券代號", "股票代號", "종목코드", "銘柄コード", "コード", "kurzel", "symbole"),
        *("simbolo", "codigo", "sembol", "тикер", "symbool", "isin", "name"),
    ),
    "open": (
        *("open", "openprice", "openprc", "opnprc", "开盘", "开盘价", "開盤價", "始値", "시가"),
        *("eroffnung", "eroeffnung", "eroffnungskurs", "erster", "otwarcie", "ouverture", "ouv"),
        *("apertura", "abertura", "acılıs", "acilis", "откр", "открытие", "opening", "oppning"),
        *("oppningskurs", "o"),
    ),
    "high": (
        *("high", "highprice", "askhi", "hiprc", "最高", "最高价", "最高價", "高値", "고가"),
        *("hoch", "tageshoch", "hochst", "najwyzszy", "haut", "plushaut", "maximo", "maxima"),
        *("massimo", "yuksek", "макс", "максимум", "hoog", "hogst", "max", "h"),
    ),
    "low": (
        *("low", "lowprice", "bidlo", "loprc", "最低", "最低价", "最低價", "安値", "저가"),
        *("tief", "tagestief", "tiefst", "najnizszy", "bas", "plusbas", "minimo", "minima"),
        *("dusuk", "мин", "минимум", "laag", "lagst", "min", "l"),
    ),
    "close": (
        *("close", "closeprice", "closingprice", "prc", "clsprc", "收盘", "收盘价", "收盤價"),
        *("終値", "종가", "schluss", "schlusskurs", "zamkniecie", "cloture", "clot", "cierre"),
        *("fechamento", "chiusura", "kapanıs", "kapanis", "закр", "закрытие", "closelast"),
        *("slotkoers", "slot", "stangning", "stangningskurs", "dernier", "ultimo", "letzter"),
        *("simdi", "цена", "settle", "settlement", "last"),
        *("price", "c"),
    ),
    "adj_close": (
        *("adjclose", "adjcloseprice", "adjustedclose", "adjustedcloseprice", "closeadj"),
        *("adjustedclosingprice", "adjprice", "adjustedprice", "adjustmentclose", "adjprcwd"),
        *("調整後終値", "수정종가", "后复权收盘价", "前复权收盘价", "复权收盘价"),
    ),
    "volume": (
        *("volume", "vol", "sharestraded", "tradingvolume", "dnshrtrd", "ttltrdqnty"),
        *("成交量", "成交股數", "出来高", "거래량", "volumen", "stucke", "wolumen", "volym"),
        *("hacim", "объем", "v"),
    ),
    "market_cap": (
        *("marketcap", "mktcap", "marketcapitalization", "marketcapitalisation", "totalmv"),
        *("mcap", "marketvalue", "dsmvtll", "总市值", "시가총액"),
    ),
    "earnings_to_price": ("earningstoprice", "earningsyield", "ep"),
    "book_to_price": ("booktoprice", "booktomarket", "bp", "bm"),
    "st": ("st", "isst", "specialtreatment", "是否st"),
    "pe": ("pe", "pettm", "peratio", "pricetoearnings", "trailingpe", "priceearningsratio"),
    "pb": ("pb", "pbmrq", "pbratio", "pricetobook", "pricebookratio"),
    "sector": ("sector", "gicssector", "industry", "gics", "gicsindustry", "行业", "所属行业"),
}
# Fields only where all four of open, high, low and close are written so.
_LETTERS = {"o", "h", "l", "c", "v", "t"}
# Words that are tickers or text as often as fields: what stands in their column decides.
WORDS = {
    *("last", "price", "settle", "settlement", "цена", "ultimo", "dernier", "letzter", "c"),
    *("max", "min", "bas", "ouv", "clot", "data", "datum", "time", "day", "name", "slot"),
}
_TICKERS_TOO = {"max", "min", "bas", "ouv", "clot", "data", "datum", "name", "slot"}
# Names that no exchange has given to a stock.
NEVER_TICKERS = {
    *("adj_close", "market_cap", "volume", "close"),
}
MOST_COLUMNS, MOST_ROWS = 200, 250  # that are searched for the bars of one stock


def _folded(text: str) -> str:
    """Letters without case and accents."""
    plain = (c for c in unicodedata.normalize("NFKD", text.casefold()) if not _is_accent(c))
    return unicodedata.normalize("NFC", "".join(plain))


def _is_accent(letter: str) -> bool:
    return unicodedata.category(letter) == "Mn"


def normalised_name(column: str) -> str:
    """A column's name without case, accents, spaces and punctuation."""
    if column.isascii():
        return "".join(letter for letter in column.lower() if letter.isalnum())
    return "".join(letter for letter in _folded(column) if letter.isalnum())


_FIELD_OF = {normalised_name(word): name for name, row in SPELLINGS.items() for word in row}
_RANK_OF = {normalised_name(word): k for row in SPELLINGS.values() for k, word in enumerate(row)}


def field_of(column: str) -> str | None:
    """The field that a column's name stands for, or None."""
    name = normalised_name(column)
    return None if name in _LETTERS else _FIELD_OF.get(name)


def identifier(column: str) -> str:
    """A column's name as that of a field: lower case without accents, words joined by _.

    Examples
    --------
    >>> identifier("Analyst Revision (%)"), identifier("52w high")
    ('analyst_revision', '_52w_high')
    """
    words = "".join(letter if letter.isalnum() else " " for letter in _folded(column)).split()
    name = "_".join(words)
    return f"_{name}" if name[:1].isdecimal() else name


def recognise(
    columns: Sequence[str], *, where: str, own: Mapping[str, str] | None = None
) -> tuple[dict[str, str], list[str]]:
    """Assign columns to fields by name: the column by field, and the other columns.

    `own` are fields of the user's own, by the normalised name of their column.
    """
    own = own or {}
    check_unique(columns, where=where)
    names = {column: normalised_name(column) for column in columns}
    letters = set("ohlc") <= set(names.values())
    found: dict[str, list[tuple[int, str]]] = {}
    for column, name in names.items():
        if name in own:
            found.setdefault(own[name], []).append((0, column))
        elif name in _FIELD_OF and (letters or name not in _LETTERS):
            found.setdefault(_FIELD_OF[name], []).append((_RANK_OF[name], column))
    understood: dict[str, str] = {}
    for name in (*SPELLINGS, *own.values()):
        candidates = sorted(found.get(name, ()))
        if len(candidates) > 1 and candidates[0][0] == candidates[1][0]:
            raise DataError(
                f"columns {candidates[0][1]!r} and {candidates[1][1]!r} both stand for {name}: "
                f"keep one{place(where)}."
            )
        if candidates:
            understood[name] = candidates[0][1]
    taken = set(understood.values())
    return understood, [column for column in columns if column not in taken]


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
            if first and last and (_surely(first) or _surely(last)):
                matching.append(column)
                break
    return matching


def _surely(name: str) -> bool:
    """Whether a name is a field's, and no ticker's."""
    return field_of(name) is not None and normalised_name(name) not in _TICKERS_TOO


def is_bar(numbers: Mapping[str, NDArray[np.float64]]) -> bool:
    """Whether in most rows `high` is the highest and `low` the lowest of what is there."""
    values = np.column_stack(list(numbers.values()))
    rows = values[np.isfinite(values).all(axis=1)]
    if not len(rows):
        return True  # nothing to hold against the names
    names = list(numbers)
    fits = np.ones(len(rows), dtype=np.bool_)
    if "high" in names:
        fits &= rows[:, names.index("high")] >= rows.max(axis=1) * (1 - 1e-6)
    if "low" in names:
        fits &= rows[:, names.index("low")] <= rows.min(axis=1) * (1 + 1e-6)
    return bool(fits.mean() >= 0.8)


def bars_by_values(numbers: Mapping[str, NDArray[np.float64]]) -> tuple[str, ...]:
    """Columns that are the open, high, low and close of one stock by their numbers; or none.

    Row by row one of them is the highest and one the lowest, two others lie between and cross
    each other, and all are as close as a day's trading is: what stocks, even of one price, are not.
    Three are enough beside a column of another magnitude, the volume. Highest first, then lowest.
    """
    names = list(numbers)
    if not 3 <= len(names) <= MOST_COLUMNS:
        return ()
    values = np.column_stack([numbers[name][:MOST_ROWS] for name in names])
    if len(values) < 5:
        return ()
    usable = np.isfinite(values).mean(axis=0) > 0.5
    if usable.sum() < 3:
        return ()
    with np.errstate(invalid="ignore", divide="ignore"):
        at_least = np.array(
            [np.mean((c[:, None] >= values) | np.isnan(values), axis=0) for c in values.T]
        )
        centre = np.nanmedian(np.where(usable, values, 1.0), axis=0)
        near = np.abs(np.log(centre[:, None] / centre)) < np.log(1.25)
        above = (at_least >= 0.99) & near & usable & usable[:, None] & (values > 0).any(axis=0)
        for high, low in np.argwhere(above & ~above.T):
            between = np.flatnonzero(above[high] & above[:, low])
            between = between[(between != high) & (between != low)]
            group = _traded_together(values, int(high), int(low), between, centre)
            if group:
                return tuple(names[k] for k in group)
    return ()


def _traded_together(
    values: NDArray[np.float64],
    high: int,
    low: int,
    between: NDArray[np.intp],
    centre: NDArray[np.float64],
) -> tuple[int, ...]:
    """The bar that a highest and a lowest column make with those between, if they make one."""
    top, bottom = values[:, high], values[:, low]
    span = np.nanmedian(top / bottom - 1)
    for k, first in enumerate(between):
        a = values[:, first]
        move = np.nanmedian(np.abs(a[1:] / a[:-1] - 1))
        if not 0 < span <= 6 * move:
            continue
        volume = bool((np.abs(np.log(centre / centre[first])) > np.log(1000)).any())
        # A few rows of many stocks hold any pattern.
        if not volume and len(values) < 15 and values.shape[1] > 12:
            continue
        for second in between[k + 1 :]:
            b = values[:, second]
            crossing = min(np.mean(a > b), np.mean(b > a)) >= 0.1
            hugs = _hug(top, np.fmax(a, b)) and _hug(bottom, np.fmin(a, b))
            if crossing and (hugs or (volume and len(values) < 15)):
                return high, low, int(first), int(second)
        alone = len(between) == 1 and volume and len(values) >= 10 and span <= 4 * move
        if alone and _hug(top, a) and _hug(bottom, a):
            return high, low, int(first)
    return ()


def _hug(edge: NDArray[np.float64], inner: NDArray[np.float64]) -> bool:
    """Whether the day's edge moves with what it encloses, as no stock moves with another."""
    known = np.isfinite(edge) & np.isfinite(inner) & (edge > 0) & (inner > 0)
    moves = np.diff(np.log(np.stack([edge[known], inner[known]])), axis=1)
    return (
        moves.shape[1] >= 4
        and bool(moves.std(axis=1).min() > 0)
        and bool(np.corrcoef(moves)[0, 1] >= 0.75)
    )
