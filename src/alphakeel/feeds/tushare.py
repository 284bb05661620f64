"""A shares from Tushare Pro by its HTTP interface: bars, adjustment factors, valuation.

The token is read from the environment (TUSHARE_TOKEN) and nowhere else, and is in no message.
Tushare counts volume in lots of 100 shares, money in thousands of CNY and market value in tens of
thousands; the store holds shares and CNY. The steps of `adj_factor` become the ratios of actions.
"""

from __future__ import annotations

import datetime as dt
import os
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from alphakeel.data.store import DELISTED, LISTED
from alphakeel.errors import ConfigError
from alphakeel.feeds.base import Feed, Pace, Tables, days_of, need_columns, numbers_of
from alphakeel.feeds.failures import (
    BlockedError,
    ChangedFormatError,
    FeedError,
    NoDataError,
    NotListedError,
    UnreachableError,
    WrongDataError,
)
from alphakeel.feeds.http import HttpClient

__all__ = ["TushareFeed"]

TOKEN = "TUSHARE_TOKEN"  # noqa: S105 - the name of the variable
_LOT, _THOUSAND, _TEN_THOUSAND = 100.0, 1_000.0, 10_000.0
_INDEXES = {"csi300": "000300.SH", "csi500": "000905.SH", "sse50": "000016.SH"}
# Rows that one answer holds at most: one that has as many may have been cut.
_MOST_ROWS = 5_000
_YEARS = 15
_STEP = 1e-6
_REFUSED = ("每分钟", "每天", "每小时", "权限", "积分", "token", "频率", "ip")


class TushareFeed(Feed):
    """Tushare Pro.

    Parameters
    ----------
    url : str
        Of the service; for tests.
    seconds : float
        Longest time for one answer.
    """

    name: ClassVar[str] = "tushare"
    extra: ClassVar[str] = "tushare"
    adjustment: ClassVar[str] = "raw, with the steps of adj_factor"
    pace: ClassVar[Pace] = Pace(interval=0.4, tries=4, first_wait=20.0, longest_wait=300.0)

    def __init__(self, *, url: str = "http://api.tushare.pro", seconds: float = 60.0) -> None:
        token = os.environ.get(TOKEN, "")
        if not token:
            raise ConfigError(f"tushare needs a token: set the environment variable {TOKEN}.")
        self._token, self._url = token, url
        self._http = HttpClient(self.name, self.extra, seconds=seconds)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def universe(self, name: str, start: dt.date, end: dt.date) -> Tables:
        """The members of an index by Tushare's monthly lists of weights."""
        if name not in _INDEXES:
            raise ConfigError(
                f"tushare knows the universes {', '.join(_INDEXES)}, not {name!r}; stocks are "
                "named with commas: sh600000,sz000001."
            )
        lists, first = [], start
        while first <= end:
            last = min(end, first + dt.timedelta(days=180))
            lists.append(
                self._query(
                    "index_weight",
                    ("con_code", "trade_date"),
                    index_code=_INDEXES[name],
                    **_between(first, last),
                )
            )
            first = last + dt.timedelta(days=1)
        table = pd.concat(lists, ignore_index=True)
        if not len(table):
            raise NoDataError(f"tushare has no list of {name} from {start} to {end}.")
        members = pd.DataFrame(
            {
                "date": days_of(table["trade_date"], "tushare's list of members", form="%Y%m%d"),
                "index": name,
                "ticker": table["con_code"].map(_ticker),
            }
        )
        listed = self._securities(sorted(set(members["ticker"])), end)
        return {"members": members.drop_duplicates(), "securities": listed}

    def _securities(self, tickers: list[str], end: dt.date) -> pd.DataFrame:
        """Which stocks are delisted, and since when."""
        gone = self._query("stock_basic", ("ts_code", "delist_date"), list_status="D")
        days = days_of(gone["delist_date"], "tushare's list of delisted stocks", form="%Y%m%d")
        last = dict(zip(gone["ts_code"].map(_ticker), days, strict=True))
        return pd.DataFrame(
            {
                "as_of": end,
                "ticker": tickers,
                "last_date": [last.get(ticker) for ticker in tickers],
                "currency": "CNY",
                "status": [DELISTED if ticker in last else LISTED for ticker in tickers],
            }
        )

    def bars(self, ticker: str, start: dt.date, end: dt.date) -> Tables:
        """Raw bars with P/E, P/B and market value, and the steps of the factor."""
        pieces = []
        first = start
        while first <= end:
            last = min(end, dt.date(first.year + _YEARS, 1, 1))
            pieces.append(self._stretch(ticker, first, last))
            first = last + dt.timedelta(days=1)
        bars = pd.concat([bars for bars, _ in pieces], ignore_index=True)
        factors = pd.concat([factors for _, factors in pieces], ignore_index=True)
        if not len(bars):
            raise NoDataError(f"tushare has no bars of {ticker} from {start} to {end}.")
        factor = factors.drop_duplicates("date").set_index("date")["factor"]
        bars = bars.drop_duplicates().sort_values("date", kind="stable").reset_index(drop=True)
        known = factor.reindex(bars["date"]).to_numpy(dtype=np.float64)
        if np.isnan(known).any() or (known <= 0).any():
            day = bars["date"].iloc[int(np.flatnonzero(~(known > 0))[0])]
            raise WrongDataError(f"tushare has no adj_factor of {ticker} on {day}.")
        step = known[1:] / known[:-1]
        moved = np.abs(step - 1.0) > _STEP
        actions = pd.DataFrame(
            {"date": bars["date"].to_numpy()[1:][moved], "ticker": ticker, "ratio": step[moved]}
        )
        return {"bars": bars, "actions": actions}

    def index(self, name: str, start: dt.date, end: dt.date) -> Tables:
        """Daily closes of the index that a universe follows; the CSI 300 for all others."""
        code = _INDEXES.get(name, _INDEXES["csi300"])
        table = self._query(
            "index_daily", ("ts_code", "trade_date", "close"), ts_code=code, **_between(start, end)
        )
        if not len(table):
            raise NoDataError(f"tushare has no levels of {code} from {start} to {end}.")
        levels = pd.DataFrame(
            {
                "date": days_of(table["trade_date"], code, form="%Y%m%d"),
                "ticker": _ticker(code),
                "close": numbers_of(table["close"], "close", code),
            }
        )
        return {"index": levels.drop_duplicates()}

    def calendar(self, start: dt.date, end: dt.date) -> Tables:
        """Trading days of Shanghai, which are those of Shenzhen."""
        asked = {"exchange": "SSE", **_between(start, end)}
        table = self._query("trade_cal", ("cal_date", "is_open"), **asked)
        days = table.loc[table["is_open"].astype(str) == "1", "cal_date"]
        if not len(days):
            raise NoDataError(f"tushare has no trading day from {start} to {end}.")
        dates = days_of(days, "tushare's calendar", form="%Y%m%d")
        return {"calendar": pd.DataFrame({"date": sorted(set(dates))})}

    def _stretch(
        self, ticker: str, start: dt.date, end: dt.date
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Bars and factors of some years."""
        code, where = _code(ticker), f"tushare's bars of {ticker}"
        asked = {"ts_code": code, **_between(start, end)}
        prices = ("open", "high", "low", "close", "vol", "amount")
        daily = self._query("daily", ("ts_code", "trade_date", *prices), **asked)
        factor = self._query("adj_factor", ("ts_code", "trade_date", "adj_factor"), **asked)
        basic = self._query(
            "daily_basic",
            ("ts_code", "trade_date", "turnover_rate", "pe_ttm", "pb", "total_mv"),
            **asked,
        )
        number = {name: numbers_of(daily[name], name, where) for name in prices}
        bars = pd.DataFrame(
            {
                "date": days_of(daily["trade_date"], where, form="%Y%m%d"),
                "ticker": daily["ts_code"].map(_ticker),
                **{name: number[name] for name in prices[:4]},
                "volume": number["vol"] * _LOT,
                "amount": number["amount"] * _THOUSAND,
            }
        )
        ratios = pd.DataFrame(
            {
                "date": days_of(basic["trade_date"], where, form="%Y%m%d"),
                "turnover": numbers_of(basic["turnover_rate"], "turnover_rate", where) / 100.0,
                "pe": numbers_of(basic["pe_ttm"], "pe_ttm", where),
                "pb": numbers_of(basic["pb"], "pb", where),
                "market_cap": numbers_of(basic["total_mv"], "total_mv", where) * _TEN_THOUSAND,
            }
        ).drop_duplicates("date")
        factors = pd.DataFrame(
            {
                "date": days_of(factor["trade_date"], where, form="%Y%m%d"),
                "factor": numbers_of(factor["adj_factor"], "adj_factor", where),
            }
        )
        _check_units(bars, ticker)
        return bars.merge(ratios, on="date", how="left"), factors

    def _query(self, api: str, columns: tuple[str, ...], **params: Any) -> pd.DataFrame:
        """Ask one question."""
        body = {"api_name": api, "token": self._token, "params": params}
        body["fields"] = ",".join(columns)
        answer = self._http.json(self._url, post=body)
        try:
            code, said = int(answer["code"]), str(answer.get("msg") or "")
            data = answer.get("data") or {}
            fields, items = data.get("fields", []), data.get("items", [])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ChangedFormatError(
                f"tushare's answer to {api} is not built as it was ({type(error).__name__}: "
                f"{error}): update alphakeel."
            ) from error
        if code != 0:
            raise self._refusal(code, said)
        need_columns(fields, columns, f"tushare's {api}")
        if len(items) >= _MOST_ROWS:
            raise WrongDataError(
                f"tushare's {api} gives {len(items)} rows, its limit: some are cut off."
            )
        if any(len(row) != len(fields) for row in items):
            raise ChangedFormatError(f"rows of tushare's {api} are not as wide as its header.")
        return pd.DataFrame(items, columns=fields)

    def _refusal(self, code: int, said: str) -> FeedError:
        """What an error code stands for; the token is never repeated."""
        text = said.replace(self._token, "...")[:80]
        if any(word in said.lower() for word in _REFUSED):
            return BlockedError(
                f"tushare refuses us (code {code}: {text}): wait, or get more points."
            )
        return UnreachableError(f"tushare failed (code {code}: {text}).")


def _check_units(bars: pd.DataFrame, ticker: str) -> None:
    """Refuse volume and money that do not go together: the units have changed."""
    price = bars["amount"] / bars["volume"]
    ratio = (price / bars["close"]).replace([np.inf, -np.inf], np.nan).dropna()
    if len(ratio) and not 0.5 < float(ratio.median()) < 2.0:
        raise WrongDataError(
            f"volume and amount of {ticker} from tushare do not go together (money over volume is "
            f"{float(ratio.median()):.3g} times the close): its units have changed."
        )


def _between(start: dt.date, end: dt.date) -> dict[str, str]:
    return {"start_date": f"{start:%Y%m%d}", "end_date": f"{end:%Y%m%d}"}


def _ticker(code: str) -> str:
    """Our name of a stock: sh600000 for 600000.SH."""
    number, _, exchange = code.partition(".")
    return f"{exchange.lower()}{number}"


def _code(ticker: str) -> str:
    """The service's name of a stock."""
    if len(ticker) != 8 or ticker[:2] not in ("sh", "sz", "bj") or not ticker[2:].isdigit():
        raise NotListedError(f"{ticker} is no A share: write sh600000 or sz000001.")
    return f"{ticker[2:]}.{ticker[:2].upper()}"
