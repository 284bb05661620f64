"""Bars, dividends and splits of Yahoo Finance through yfinance, worldwide.

The adjustment is pinned: prices are asked for without dividends taken out (`auto_adjust=False`).
Yahoo still divides them, the volumes and the dividends by later splits; that is undone here, so
that the store holds what was traded and paid on the day. Answers that yfinance keeps in memory are
dropped before another try, because it also keeps the broken ones.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from alphakeel.feeds.base import Feed, Pace, Tables, need_columns
from alphakeel.feeds.failures import (
    BlockedError,
    ChangedFormatError,
    FeedError,
    NoDataError,
    NotInstalledError,
    NotListedError,
    UnreachableError,
    WrongDataError,
)

__all__ = ["YahooFeed"]

_COLUMNS = ("Open", "High", "Low", "Close", "Volume", "Dividends", "Stock Splits")
# Prices in hundredths of the currency, and how many.
_HUNDREDTHS = {"GBp": "GBP", "ZAc": "ZAR", "ILA": "ILS"}
_NOT_LISTED = ("no data found, symbol may be delisted", "not found", "no timezone found")
_NO_DATA = ("data doesn't exist for startdate", "no price data found")


class YahooFeed(Feed):
    """Yahoo Finance.

    Parameters
    ----------
    session : object, optional
        A session of `requests` or `curl_cffi` to go through; yfinance's own by default.
    seconds : float
        Longest time for one answer.
    """

    name: ClassVar[str] = "yahoo"
    extra: ClassVar[str] = "yahoo"
    adjustment: ClassVar[str] = "raw: splits undone, dividends kept beside"
    pace: ClassVar[Pace] = Pace(interval=1.0, tries=4, first_wait=15.0, longest_wait=900.0)

    def __init__(self, *, session: Any = None, seconds: float = 30.0) -> None:
        try:
            import yfinance
            from yfinance import exceptions
        except ImportError as error:
            raise NotInstalledError(self.name, self.extra) from error
        self._client, self._errors = yfinance, exceptions
        self._session, self._seconds = session, seconds

    def bars(self, ticker: str, start: dt.date, end: dt.date) -> Tables:
        """Daily bars as traded, with dividends and splits on their ex-dates.

        All splits up to today are asked for, whatever the end: they are needed to undo Yahoo's.
        """
        # A share class is BRK-B there; other letters behind a dot are exchanges.
        symbol = ticker[:-2] + "-" + ticker[-1] if ticker[-2:] in (".A", ".B") else ticker
        frame, meta = self._history(symbol, start)
        need_columns(frame.columns, _COLUMNS, f"Yahoo's history of {ticker}")
        answered = str(meta.get("symbol", symbol))
        if answered.upper() != symbol.upper():
            raise WrongDataError(f"Yahoo was asked for {ticker} and answered with {answered[:24]}.")
        if not len(frame):
            raise NoDataError(f"Yahoo has no bars of {ticker} from {start} on.")
        bars, actions = _undone(frame, ticker, str(meta.get("currency") or ""))
        if not len(bars):
            raise NoDataError(f"Yahoo has no bars of {ticker} from {start} on.")
        return {"bars": bars, "actions": actions}

    def index(self, name: str, start: dt.date, end: dt.date) -> Tables:
        """Daily closes of an index: of a name that begins with ^, else of the S&P 500."""
        symbol = name if name.startswith("^") else "^GSPC"
        tables = self.bars(symbol, start, end)
        return {"index": tables["bars"][["date", "ticker", "close"]]}

    def _history(self, symbol: str, start: dt.date) -> tuple[pd.DataFrame, dict[str, Any]]:
        """One answer through yfinance, its failures told apart."""
        from yfinance.data import YfData

        transport = YfData(session=self._session)
        transport.cache_get.cache_clear()
        last = dt.date.today() + dt.timedelta(days=1)
        with self._loud(), _watched(transport, symbol):
            try:
                stock = self._client.Ticker(symbol, session=self._session)
                stock._tz = "America/New_York"  # known from the answer; saves a request
                frame = stock.history(
                    start=str(start),
                    end=str(last),
                    auto_adjust=False,
                    actions=True,
                    repair=False,
                    keepna=True,
                    timeout=self._seconds,
                )
                # Taking more than these would make it ask once more.
                meta = stock.get_history_metadata()
                return frame, {name: meta[name] for name in ("symbol", "currency") if name in meta}
            except Exception as error:
                raise self._failure(error, symbol) from error

    @contextlib.contextmanager
    def _loud(self) -> Iterator[None]:
        """Let yfinance raise what it would otherwise log, and print nothing."""
        debug, logger = self._client.config.debug, logging.getLogger("yfinance")
        hidden, level = debug.hide_exceptions, logger.level
        debug.hide_exceptions = False
        logger.setLevel(logging.CRITICAL)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            debug.hide_exceptions = hidden
            logger.setLevel(level)

    def _failure(self, error: Exception, symbol: str) -> FeedError:
        """What an exception of yfinance or of its transport stands for."""
        text = " ".join(str(error).split())[:160]
        kind = type(error).__name__
        lowered = text.lower()
        if isinstance(error, FeedError):
            return error
        if isinstance(error, self._errors.YFRateLimitError):
            return BlockedError(f"Yahoo refuses us ({text}): wait, and ask less.")
        if isinstance(error, self._errors.YFTickerMissingError):
            if "status_code" in lowered:
                return UnreachableError(f"Yahoo failed on {symbol}: {text}.")
            if any(words in lowered for words in _NO_DATA):
                return NoDataError(f"Yahoo has nothing of {symbol}: {text}.")
            if any(words in lowered for words in _NOT_LISTED):
                return NotListedError(f"Yahoo does not know {symbol}: {text}.")
            return UnreachableError(f"Yahoo failed on {symbol}: {text}.")
        if "currently down" in lowered:
            return UnreachableError("Yahoo says that it is down.")
        if isinstance(error, (OSError, TimeoutError)) and "json" not in kind.lower():
            return UnreachableError(f"Yahoo cannot be reached ({kind}: {text}).")
        if "json" in kind.lower() or (isinstance(error, ValueError) and "Expecting" in text):
            return ChangedFormatError(
                f"Yahoo answers for {symbol} something that is no JSON ({text})."
            )
        return ChangedFormatError(
            f"Yahoo's answer for {symbol} cannot be read ({kind}: {text}): update yfinance."
        )


@contextlib.contextmanager
def _watched(transport: Any, symbol: str) -> Iterator[None]:
    """See every answer before yfinance does, which takes most faults for a delisting."""
    ask = transport._make_request

    def watch(url: str, *arguments: Any, **options: Any) -> Any:
        answer = ask(url, *arguments, **options)
        if "/chart/" in url:
            _refuse_answer(answer.status_code, answer.text, symbol)
        return answer

    transport._make_request = watch
    try:
        yield
    finally:
        del transport._make_request


def _refuse_answer(status: int, text: str, symbol: str) -> None:
    """Refuse what is no chart, and a chart that is not whole."""
    if status in (401, 403):
        raise BlockedError(f"Yahoo refuses us (HTTP {status}): wait, and ask less.")
    if status >= 500 or "Will be right back" in text:
        raise UnreachableError(f"Yahoo is in trouble (HTTP {status}): try again later.")
    try:
        chart = json.loads(text)["chart"]
        result = chart.get("result")
        if not result:
            return  # yfinance tells the reason
        stamps = result[0].get("timestamp") or []
        (quote,) = result[0]["indicators"]["quote"]
        sizes = {name: len(values) for name, values in quote.items()}
    except ValueError as error:
        raise ChangedFormatError(
            f"Yahoo answers for {symbol} no JSON, but {' '.join(text.split())[:60]!r}."
        ) from error
    except (AttributeError, KeyError, TypeError) as error:
        raise ChangedFormatError(
            f"Yahoo's chart of {symbol} is not built as it was ({type(error).__name__}: {error}): "
            "update alphakeel."
        ) from error
    short = [name for name, size in sizes.items() if size != len(stamps)]
    if short and stamps:
        raise ChangedFormatError(
            f"Yahoo gives {sizes[short[0]]} values of {short[0]} for {len(stamps)} days of "
            f"{symbol}: its answer is not whole."
        )


def _undone(frame: pd.DataFrame, ticker: str, currency: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bars and actions as of the day: later splits undone, hundredths made whole."""
    days = pd.Series(pd.DatetimeIndex(frame.index).date, name="date")
    number = {name: frame[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in _COLUMNS}
    splits = number["Stock Splits"]
    splits = np.where((splits > 0) & np.isfinite(splits), splits, 1.0)
    # Shares that one share of the day has become since: the product of the splits after it.
    later = np.append(np.cumprod(splits[::-1])[::-1][1:], 1.0)
    scale = later / (100.0 if currency in _HUNDREDTHS else 1.0)
    bars = pd.DataFrame(
        {
            "date": days,
            "ticker": ticker,
            **{name.lower(): number[name] * scale for name in ("Open", "High", "Low", "Close")},
            "volume": number["Volume"] / later,
        }
    )
    bars = bars[bars["close"].notna()]
    # A dividend of a day with a split is per new share; ours are per old share.
    paid = number["Dividends"] * scale * splits
    has = (splits != 1.0) | (paid > 0)
    actions = pd.DataFrame(
        {
            "date": days[has],
            "ticker": ticker,
            "split": np.where(splits[has] != 1.0, splits[has], np.nan),
            "dividend": np.where(paid[has] > 0, paid[has], np.nan),
        }
    )
    return bars, actions
