"""A shares through akshare, from Sina: raw bars, and the steps of Sina's adjustment factor.

Volume is in shares, money in CNY. akshare asks many sites and changes often; its answers are
checked by their columns, and an error inside it counts as one of the site.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from alphakeel.feeds.base import Feed, Pace, Tables, days_of, need_columns, numbers_of
from alphakeel.feeds.failures import (
    ChangedFormatError,
    NoDataError,
    NotInstalledError,
    NotListedError,
    UnreachableError,
)

__all__ = ["AkshareFeed"]

_PRICES = ("open", "high", "low", "close", "volume", "amount")
_STEP = 1e-6


class AkshareFeed(Feed):
    """The library akshare.

    Parameters
    ----------
    client : module, optional
        The library; for tests.
    """

    name: ClassVar[str] = "akshare"
    extra: ClassVar[str] = "akshare"
    adjustment: ClassVar[str] = "raw, with the steps of Sina's factor"
    pace: ClassVar[Pace] = Pace(interval=3.0, tries=3, first_wait=30.0, longest_wait=600.0)

    def __init__(self, *, client: Any = None) -> None:
        self._client = client if client is not None else self._library()

    def bars(self, ticker: str, start: dt.date, end: dt.date) -> Tables:
        """Raw bars with the market value of tradable shares, and the steps of the factor."""
        if len(ticker) != 8 or ticker[:2] not in ("sh", "sz", "bj"):
            raise NotListedError(f"{ticker} is no A share: write sh600000 or sz000001.")
        where = f"akshare's bars of {ticker}"
        daily = self._ask(ticker, start, end, "")
        if not len(daily):
            raise NoDataError(f"akshare has no bars of {ticker} from {start} to {end}.")
        need_columns(daily.columns, ("date", *_PRICES, "outstanding_share", "turnover"), where)
        number = {
            name: numbers_of(daily[name], name, where)
            for name in (*_PRICES, "outstanding_share", "turnover")
        }
        bars = pd.DataFrame(
            {
                "date": days_of(daily["date"], where).to_numpy(),
                "ticker": ticker,
                **{name: number[name] for name in _PRICES},
                "turnover": number["turnover"],
                "market_cap": number["outstanding_share"] * number["close"],
            }
        )
        factors = self._ask(ticker, start, end, "hfq-factor")
        need_columns(factors.columns, ("date", "hfq_factor"), f"akshare's factors of {ticker}")
        table = pd.DataFrame(
            {
                "date": days_of(factors["date"], where).to_numpy(),
                "factor": numbers_of(factors["hfq_factor"], "hfq_factor", where),
            }
        ).sort_values("date", kind="stable")
        step = table["factor"].to_numpy()[1:] / table["factor"].to_numpy()[:-1]
        use = np.abs(step - 1.0) > _STEP
        actions = pd.DataFrame(
            {"date": table["date"].to_numpy()[1:][use], "ticker": ticker, "ratio": step[use]}
        )
        return {"bars": bars, "actions": actions}

    def calendar(self, start: dt.date, end: dt.date) -> Tables:
        """Trading days of Shanghai and Shenzhen, by Sina."""
        answer = self._call("the calendar", lambda: self._client.tool_trade_date_hist_sina())
        need_columns(answer.columns, ("trade_date",), "akshare's calendar")
        days = days_of(answer["trade_date"], "akshare's calendar")
        days = days[(days >= start) & (days <= end)]
        if not len(days):
            raise NoDataError(f"akshare has no trading day from {start} to {end}.")
        return {"calendar": pd.DataFrame({"date": sorted(set(days))})}

    def _library(self) -> Any:
        """The library itself: importing it takes seconds."""
        try:
            import akshare
        except ImportError as error:
            raise NotInstalledError(self.name, self.extra) from error
        return akshare

    def _ask(self, ticker: str, start: dt.date, end: dt.date, adjust: str) -> pd.DataFrame:
        """Bars or factors of one stock."""
        return self._call(
            ticker,
            lambda: self._client.stock_zh_a_daily(
                symbol=ticker,
                start_date=f"{start:%Y%m%d}",
                end_date=f"{end:%Y%m%d}",
                adjust=adjust,
            ),
        )

    def _call(self, what: str, function: Callable[[], Any]) -> pd.DataFrame:
        """One answer of the library, its failures told apart as far as it lets us."""
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                answer = function()
        except OSError as error:  # requests and urllib derive theirs from it
            text = " ".join(str(error).split())[:120]
            raise UnreachableError(f"Sina cannot be reached through akshare: {text}.") from error
        except Exception as error:
            text = " ".join(str(error).split())[:120]
            raise ChangedFormatError(
                f"akshare fails on {what} ({type(error).__name__}: {text}): Sina refuses us, or "
                "its format has changed; update akshare, and wait."
            ) from error
        if not isinstance(answer, pd.DataFrame):
            raise ChangedFormatError(f"akshare gives no table for {what}: update alphakeel.")
        return answer
