"""Tickers: read as text, held against each other, and found again in other files.

The same stock is 000001 in one file, 1 in another and 000001.SZ in a third. A join says how many it
found, and refuses to go on with fewer than half.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from alphakeel.data.grid import Grid
from alphakeel.data.validation import Problem, place
from alphakeel.errors import DataError

__all__ = ["Match", "bare_symbol", "match_tickers", "read_tickers", "tickers_alike"]

# What vendors put before or behind a symbol to name its exchange.
_EXCHANGES = (
    *("sh", "sz", "ss", "bj", "sse", "szse", "xshg", "xshe", "bse", "hk", "hkg", "xhkg", "hkex"),
    *("us", "nasdaq", "nyse", "amex", "arca", "bats", "oq", "o", "n", "un", "uw", "uq", "l", "lse"),
    *("ln", "xlon", "de", "gy", "xetra", "f", "pa", "fp", "mi", "im", "as", "na", "mc", "sm"),
    *("t", "jp", "jt", "tse", "tyo", "tw", "two", "ks", "kq", "krx", "ns", "nse", "bo", "to"),
    *("tsx", "sw", "ax", "asx", "sa", "bvmf", "st", "co", "he", "ol", "is", "me", "moex", "wa"),
)
_NAMES = "|".join(sorted(_EXCHANGES, key=len, reverse=True))
_SUFFIX = re.compile(rf"(.+?)(?:[.:]|\s+)(?:{_NAMES})(?:\s+equity)?", re.IGNORECASE)
_PREFIX = re.compile(rf"(?:{_NAMES}):(.+)|(?:sh|sz|bj|hk)[._]?(\d+)", re.IGNORECASE)
LEAST_SHARE = 0.5  # of the stocks, or of the file's keys, that a join must find


@dataclass(frozen=True)
class Match:
    """Which stock each key of another file is."""

    ticker_of: dict[str, str]  # by key; keys of no stock are not in it
    n_found: int  # stocks that have a key
    note: str  # how many were found, and how


def read_tickers(column: Any, where: str = "", first_row: int = 1) -> pd.Series:
    """Text as categories, trimmed and in one Unicode form, missing where empty."""
    if pa.types.is_floating(column.type):
        column = _whole(column, where, first_row)
    if not pa.types.is_dictionary(column.type):
        try:
            column = column.cast(pa.string()).dictionary_encode()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DataError(f"a column holds {column.type} where text is needed.") from error
    series = pd.Series(column.to_pandas())
    categories = [str(name) for name in series.cat.categories]
    # A leading apostrophe is how a spreadsheet marks digits as text.
    plain = [unicodedata.normalize("NFC", name.strip()).removeprefix("'") for name in categories]
    if plain and all(name.endswith(".0") and name[:-2].isdecimal() for name in plain if name):
        plain = [name.removesuffix(".0") for name in plain]  # whole numbers that were read as float
    if all(name and name == old for name, old in zip(plain, categories, strict=True)):
        return series
    trimmed = np.array([*(name or None for name in plain), None], dtype=object)
    return pd.Series(pd.Categorical(trimmed[series.cat.codes]))


def _whole(column: Any, where: str, first_row: int) -> Any:
    """Tickers that are stored as decimals, as whole numbers; refused if one of them is none."""
    values = pc.cast(column, pa.float64())
    numbers = np.asarray(pc.fill_null(values, 0.0).to_numpy())
    wrong = ~np.isfinite(numbers) | (numbers != np.round(numbers)) | (np.abs(numbers) >= 2.0**53)
    wrong &= ~np.isnan(numbers)
    for row in np.flatnonzero(wrong)[:1]:
        raise DataError(
            f"row {row + first_row}: ticker {numbers[row]:g} is a decimal number, which is no "
            f"stock's symbol: check which column holds the ticker{place(where)}."
        )
    missing = pa.array(np.isnan(numbers))
    return pc.if_else(
        missing,
        pa.scalar(None, pa.int64()),
        pc.cast(pc.if_else(missing, pa.scalar(0.0), values), pa.int64()),
    )


def same_letters(ticker: str) -> str:
    """A ticker as text in which case and Unicode form make no difference."""
    return unicodedata.normalize("NFKC", ticker).casefold()


def tickers_alike(grid: Grid, where: str) -> tuple[list[Problem], list[str]]:
    """Tickers that differ in case or Unicode form only: one stock, if never traded together.

    With prices on one date they are two stocks (BACpK is a preferred share, BACPK is none), which a
    note names; without, one stock was written in two ways, which is refused.
    """
    alike: dict[str, list[int]] = defaultdict(list)
    for position, ticker in enumerate(grid.tickers):
        alike[same_letters(str(ticker))].append(position)
    problems, together = [], []
    priced = np.isfinite(grid.fields["adj_close"])
    for group in alike.values():
        for first, second in pairwise(group):
            names = f"{grid.tickers[first]} and {grid.tickers[second]}"
            if (priced[:, first] & priced[:, second]).any():
                together.append(names)
            else:
                text = (
                    f"{names} differ in case or form of letters only and have no price on the same "
                    f"date: write one of them throughout, if they are one stock, or rename one"
                    f"{place(where)}."
                )
                problems.append(Problem(str(grid.tickers[first]), "", "ticker", text))
    if not together:
        return problems, []
    listed = "; ".join(together[:5])
    return problems, [f"{listed} are taken as two stocks, though their letters differ in case only"]


def bare_symbol(ticker: str) -> str:
    """A symbol without exchange, `.0` and leading zeros, in lower case: 000001.SZ is 1."""
    text = same_letters(ticker.strip().removeprefix("'"))
    for pattern in (_PREFIX, _SUFFIX):
        found = pattern.fullmatch(text)
        if found:
            text = next(part for part in found.groups() if part)
    if re.fullmatch(r"\d+\.0", text):
        text = text[:-2]
    return text.lstrip("0") or "0" if text.isdecimal() else text


def match_tickers(
    keys: Iterable[str], tickers: Sequence[str] | NDArray[np.str_], *, what: str
) -> Match:
    """Find the stocks that the keys of another file mean.

    Keys are taken as they are, and what is left over without exchange and lost zeros, where that
    means one key and one stock only. `what` names the file in the note and in the refusal.
    """
    given = list(dict.fromkeys(map(str, keys)))
    known = {str(ticker) for ticker in tickers}
    ticker_of = {key: key for key in given if key in known}
    n_exact = len(ticker_of)
    free: dict[str, list[str]] = defaultdict(list)
    for ticker in sorted(known - ticker_of.keys()):
        free[bare_symbol(ticker)].append(ticker)
    taken = {bare_symbol(key) for key in ticker_of}
    left = [key for key in given if key not in ticker_of]
    bare = {key: bare_symbol(key) for key in left}
    counts = Counter(bare.values())
    for key, symbol in bare.items():
        stocks = free.get(symbol, [])
        if len(stocks) == 1 and counts[symbol] == 1 and symbol not in taken:
            ticker_of[key] = stocks[0]
    n_found = len(ticker_of)
    if n_found < LEAST_SHARE * min(len(known), len(given)):
        other = next((key for key in given if key not in ticker_of), "")
        raise DataError(
            f"{what} names {n_found} of the {len(known)} stocks with prices: it has {other[:24]!r} "
            f"where the prices have {min(known)[:24]!r}; write tickers in one way."
        )
    note = f"{what} names {n_found} of {len(known)} stocks"
    if n_found > n_exact:
        key = next(key for key in ticker_of if key != ticker_of[key])
        note += f", {n_found - n_exact} of them in another spelling ({key} for {ticker_of[key]})"
    return Match(ticker_of, n_found, note)
