"""Which column of a file is which field: the spellings that vendors use."""

from __future__ import annotations

from collections.abc import Sequence

from alphakeel.data.checks import place
from alphakeel.errors import DataError

__all__ = ["SPELLINGS", "check_unique", "field_of", "plain", "recognise", "stock_and_field"]

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


def plain(column: str) -> str:
    """Return a column's name without case, spaces and punctuation."""
    return "".join(letter for letter in column.casefold() if letter.isalnum())


def field_of(column: str) -> str | None:
    """Return the field that a column's name stands for, or None.

    Examples
    --------
    >>> field_of("Adj Close"), field_of("P/E"), field_of("AAPL")
    ('adj_close', 'pe', None)
    """
    return _FIELD_OF.get(plain(column))


def recognise(columns: Sequence[str], *, where: str) -> tuple[dict[str, str], list[str]]:
    """Assign columns to fields.

    Parameters
    ----------
    columns : sequence of str
        Names as the file has them.
    where : str
        File name for messages.

    Returns
    -------
    understood : dict of str to str
        Column by field.
    unused : list of str
        The other columns.

    Raises
    ------
    DataError
        If two columns are named alike.

    Examples
    --------
    >>> recognise(["Date", "Symbol", "Adj Close", "Name"], where="")
    ({'date': 'Date', 'ticker': 'Symbol', 'adj_close': 'Adj Close'}, ['Name'])
    """
    check_unique(columns, where=where)
    understood: dict[str, str] = {}
    for name, spellings in SPELLINGS.items():
        ranked = {spelling: rank for rank, spelling in enumerate(spellings)}
        candidates = sorted(
            (ranked[plain(column)], column) for column in columns if plain(column) in ranked
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
    """Return columns such as `AAPL_volume` or `Close AAPL`, which name stock and field at once."""
    found = []
    for column in columns:
        for mark in ("_", " ", ":", "|", "/"):
            first, _, last = column.rpartition(mark)
            if first and last and (field_of(first) or field_of(last)):
                found.append(column)
                break
    return found
