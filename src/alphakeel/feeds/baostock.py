"""A shares from baostock: raw bars, reference prices, P/E, P/B, ST, members by date, reports.

The client speaks a protocol of its own over a socket and needs no key. Four of its habits are
undone here: it waits for ever when the line is cut, prints to the console, ends a result quietly
when a later page is lost, and knows no time-out.

`previous_close` is the exchange's reference price, which holds dividends, bonus shares and rights
issues: close / previous_close - 1 is what a holder earned. Volume is in shares, money in CNY.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import socket
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from alphakeel.data.store import DELISTED, LISTED
from alphakeel.errors import ConfigError
from alphakeel.feeds.base import Feed, Pace, Tables, days_of, need_columns, numbers_of
from alphakeel.feeds.failures import (
    BlockedError,
    ChangedFormatError,
    NoDataError,
    NotInstalledError,
    NotListedError,
    UnreachableError,
    WrongDataError,
)

__all__ = ["BaostockFeed"]

_BARS = (
    *("date", "code", "open", "high", "low", "close", "preclose", "volume", "amount"),
    *("adjustflag", "turn", "tradestatus", "peTTM", "pbMRQ", "isST"),
)
_LISTS = {
    "sse50": ("query_sz50_stocks", "sh.000016"),
    "csi300": ("query_hs300_stocks", "sh.000300"),
    "csi500": ("query_zz500_stocks", "sh.000905"),
}
# Codes of the client (its contants.py) by what they mean for us.
_BLOCKED = {"10001002", "10001005", "10001006", "10001007", "10001011", "10001012"}
_UNKNOWN = {"10004011", "10004014", "10004015"}
_OLD_CLIENT = {"10001004", "10004012", "10004019", "10004020"}
_PAGE = 2000
# Rows of one answer: more pages than this is a server that repeats itself.
_MOST_PAGES = 500


class BaostockFeed(Feed):
    """The service of baostock.com through its own client.

    Parameters
    ----------
    host, port : str, int, optional
        Of the server; those of the client by default.
    seconds : float
        Longest time for one answer.
    """

    name: ClassVar[str] = "baostock"
    extra: ClassVar[str] = "baostock"
    adjustment: ClassVar[str] = "raw, with the exchange's reference price"
    pace: ClassVar[Pace] = Pace(interval=0.2, tries=4, first_wait=5.0, longest_wait=300.0)
    every_day: ClassVar[bool] = True

    def __init__(
        self, *, host: str | None = None, port: int | None = None, seconds: float = 30.0
    ) -> None:
        try:
            import baostock
            from baostock.common import contants, context
        except ImportError as error:
            raise NotInstalledError(self.name, self.extra) from error
        self._client, self._context = baostock, context
        self._address = (
            host or contants.BAOSTOCK_SERVER_IP,
            port or contants.BAOSTOCK_SERVER_PORT,
        )
        self._seconds = seconds
        self._line: _Line | None = None

    def close(self) -> None:
        """Log out, if the line still stands."""
        if self._line is not None and self._line.failure is None:
            with contextlib.redirect_stdout(io.StringIO()):
                self._client.logout()
        self._hang_up()

    def universe(self, name: str, start: dt.date, end: dt.date) -> Tables:
        """An index by its monthly lists, or every A share ("ashares")."""
        if name == "ashares":
            return self._all_stocks(start, end)
        if name not in _LISTS:
            raise ConfigError(
                f"baostock knows the universes ashares, {', '.join(_LISTS)}, not {name!r}; stocks "
                "are named with commas: sh600000,sz000001."
            )
        lists = []
        for day in _months(start, end):
            frame = self._query(_LISTS[name][0], ("updateDate", "code"), date=str(day))
            if len(frame):
                lists.append(frame[["updateDate", "code"]])
        if not lists:
            raise NoDataError(f"baostock has no list of {name} from {start} to {end}.")
        members = pd.concat(lists).drop_duplicates()
        table = pd.DataFrame(
            {
                "date": days_of(members["updateDate"], "baostock's list of members"),
                "index": name,
                "ticker": members["code"].map(_ticker),
            }
        )
        codes = set(members["code"])
        basic = self._basics()
        listed = self._securities(basic[basic["code"].isin(codes)], end)
        return {"members": table, **listed, **self._industries(codes, start)}

    def bars(self, ticker: str, start: dt.date, end: dt.date) -> Tables:
        """Raw daily bars; days of suspension have a volume of 0."""
        code = _code(ticker)
        frame = self._query(
            "query_history_k_data_plus",
            _BARS,
            code,
            ",".join(_BARS),
            start_date=str(start),
            end_date=str(end),
            frequency="d",
            adjustflag="3",
        )
        if not len(frame):
            raise NoDataError(f"baostock has no bars of {ticker} from {start} to {end}.")
        return {"bars": _bars_of(frame, f"baostock's bars of {ticker}")}

    def day(self, day: dt.date) -> Tables:
        """Raw bars of every A share on one day."""
        frame = self._query("query_daily_history_k_AStock", _BARS, date=str(day))
        if not len(frame):
            raise NoDataError(f"baostock has no bars of {day} yet: it has them in the evening.")
        return {"bars": _bars_of(frame, f"baostock's bars of {day}")}

    def fundamentals(self, ticker: str, start: dt.date, end: dt.date) -> Tables:
        """Figures of the quarterly reports by their day of publication; one request a quarter."""
        rows: list[dict[str, Any]] = []
        for year, quarter in _quarters(start, end):
            rows += self._report(ticker, year, quarter)
        kept = [row for row in rows if start <= row["available_date"] <= end]
        if not kept:
            raise NoDataError(f"baostock has no report of {ticker} from {start} to {end}.")
        return {"fundamentals": pd.DataFrame(kept)}

    def index(self, name: str, start: dt.date, end: dt.date) -> Tables:
        """Daily closes of the index that a universe follows; the CSI 300 for all others."""
        code = _LISTS.get(name, _LISTS["csi300"])[1]
        frame = self._query(
            "query_history_k_data_plus",
            ("date", "code", "close"),
            code,
            "date,code,close",
            start_date=str(start),
            end_date=str(end),
            frequency="d",
            adjustflag="3",
        )
        if not len(frame):
            raise NoDataError(f"baostock has no levels of {code} from {start} to {end}.")
        table = pd.DataFrame(
            {
                "date": days_of(frame["date"], f"baostock's {code}"),
                "ticker": _ticker(code),
                "close": numbers_of(frame["close"], "close", code),
            }
        )
        return {"index": table.drop_duplicates()}

    def calendar(self, start: dt.date, end: dt.date) -> Tables:
        """Trading days of Shanghai and Shenzhen."""
        frame = self._query(
            "query_trade_dates",
            ("calendar_date", "is_trading_day"),
            start_date=str(start),
            end_date=str(end),
        )
        days = frame.loc[frame["is_trading_day"] == "1", "calendar_date"]
        if not len(days):
            raise NoDataError(f"baostock has no trading day from {start} to {end}.")
        table = pd.DataFrame({"date": days_of(days, "baostock's calendar")})
        return {"calendar": table.drop_duplicates()}

    def _all_stocks(self, start: dt.date, end: dt.date) -> Tables:
        """Every A share, delisted ones included."""
        frame = self._basics()
        frame = frame[frame["type"] == "1"]
        out = frame["outDate"].replace("", None)
        frame = frame[(frame["ipoDate"] <= str(end)) & (out.isna() | (out >= str(start)))]
        if not len(frame):
            raise NoDataError(f"baostock lists no A share from {start} to {end}.")
        listed = self._securities(frame, end)
        return {**listed, **self._industries(set(frame["code"]), start)}

    def _basics(self) -> pd.DataFrame:
        """The list of all securities, with the days of their listing and delisting."""
        columns = ("code", "code_name", "ipoDate", "outDate", "type", "status")
        return self._query("query_stock_basic", columns)

    def _securities(self, frame: pd.DataFrame, end: dt.date) -> Tables:
        """Listing, delisting and name of the stocks; none where the list has none of them."""
        if not len(frame):
            return {}
        out = frame["outDate"].replace("", None)
        table = pd.DataFrame(
            {
                "as_of": end,
                "ticker": frame["code"].map(_ticker),
                "name": frame["code_name"],
                "first_date": days_of(frame["ipoDate"], "baostock's list of stocks"),
                "last_date": pd.to_datetime(out).dt.date,
                "currency": "CNY",
                "status": np.where(out.isna(), LISTED, DELISTED),
            }
        )
        return {"securities": table.drop_duplicates("ticker")}

    def _industries(self, codes: set[str], start: dt.date) -> Tables:
        """Industries of the stocks as listed today: one label, dated back to the start."""
        columns = ("code", "industry", "industryClassification")
        frame = self._query("query_stock_industry", columns)
        frame = frame[frame["code"].isin(codes) & (frame["industry"] != "")]
        if not len(frame):
            return {}
        table = pd.DataFrame(
            {
                "date": start,
                "ticker": frame["code"].map(_ticker),
                "industry": frame["industry"],
                "classification": frame["industryClassification"],
            }
        )
        return {"industry": table.drop_duplicates("ticker")}

    def _report(self, ticker: str, year: int, quarter: int) -> list[dict[str, Any]]:
        """The figures of one report, one row each."""
        code, rows = _code(ticker), []
        asked = {"code": code, "year": year, "quarter": quarter}
        columns = ("code", "pubDate", "statDate", "npMargin", "netProfit", "MBRevenue",
                   "totalShare", "gpMargin", "roeAvg")  # fmt: skip
        profit = self._query("query_profit_data", columns, **asked)
        balance = self._query(
            "query_balance_data", ("code", "pubDate", "statDate", "liabilityToAsset"), **asked
        )
        names = {
            "netProfit": "net_income",
            "MBRevenue": "revenue",
            "totalShare": "shares",
            "npMargin": "net_margin",
            "gpMargin": "gross_margin",
            "roeAvg": "roe",
            "liabilityToAsset": "liabilities_to_assets",
        }
        for frame in (profit, balance):
            for at in range(len(frame)):
                row = frame.iloc[at]
                known, end = (days_of([row[k]], f"a report of {ticker}").iloc[0]
                              for k in ("pubDate", "statDate"))  # fmt: skip
                if _ticker(row["code"]) != ticker:
                    raise WrongDataError(
                        f"baostock was asked for {ticker} and answered {row['code']}."
                    )
                for column in [column for column in frame.columns if column in names]:
                    value = numbers_of([row[column]], column, f"a report of {ticker}")[0]
                    flow = names[column] in ("net_income", "revenue")
                    if np.isfinite(value):
                        rows.append(
                            {
                                "ticker": ticker,
                                "item": names[column],
                                "period_start": dt.date(end.year, 1, 1) if flow else None,
                                "period_end": end,
                                "available_date": known,
                                "filing": f"{end.year}Q{(end.month + 2) // 3}",
                                "form": "quarterly report",
                                "tag": column,
                                "unit": "CNY" if flow else "",
                                "value": float(value),
                            }
                        )
        return rows

    def _query(
        self, function: str, columns: Sequence[str], *arguments: Any, **options: Any
    ) -> pd.DataFrame:
        """Ask one question and read every page of the answer."""
        line = self._log_in()
        with contextlib.redirect_stdout(io.StringIO()):
            result = self._guarded(lambda: getattr(self._client, function)(*arguments, **options))
            rows: list[list[str]] = []
            self._refuse(result, function)
            for page in range(_MOST_PAGES):
                if not isinstance(result.data, list):
                    raise ChangedFormatError(f"baostock's {function} has no list of rows.")
                rows += result.data
                if len(result.data) != _PAGE:
                    break
                result.cur_row_num = len(result.data)
                number = result.cur_page_num
                more = self._guarded(result.next)
                self._refuse(result, function)
                if not more:
                    if result.cur_page_num == number:
                        self._hang_up()
                        raise UnreachableError(f"baostock lost page {page + 2} of {function}.")
                    break
            else:
                raise ChangedFormatError(
                    f"baostock's {function} has more than {_MOST_PAGES} pages."
                )
        if line.failure is not None:
            raise self._lost(line)
        fields = list(result.fields)
        need_columns(fields, tuple(columns), f"baostock's {function}")
        if any(len(row) != len(fields) for row in rows):
            raise ChangedFormatError(
                f"rows of baostock's {function} are not as wide as its header."
            )
        return pd.DataFrame(rows, columns=fields)

    def _guarded(self, call: Callable[[], Any]) -> Any:
        """Call the client; what it makes of a broken answer is an error of ours."""
        try:
            return call()
        except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
            line, self._line = self._line, None
            if line is not None:
                line.close()
                if line.failure is not None:
                    raise self._lost(line) from error
            raise ChangedFormatError(
                f"baostock's answer cannot be read ({type(error).__name__}: {str(error)[:80]}): "
                "update its client, or try again."
            ) from error

    def _refuse(self, result: Any, function: str) -> None:
        """Turn an error code into the failure that it stands for."""
        line = self._line
        if line is not None and line.failure is not None:
            raise self._lost(line)
        if result is None:
            raise ConfigError(f"baostock's client refuses the arguments of {function}.")
        code, text = str(result.error_code), str(result.error_msg)[:80]
        if code == "0":
            return
        if code in _BLOCKED:
            self._hang_up()
            raise BlockedError(f"baostock refuses us (code {code}: {text}): wait, and ask less.")
        if code in _UNKNOWN:
            raise NotListedError(f"baostock does not know this code ({code}: {text}).")
        if code in _OLD_CLIENT:
            raise ChangedFormatError(f"baostock's client is out of date (code {code}: {text}).")
        self._hang_up()
        raise UnreachableError(f"baostock failed (code {code}: {text}).")

    def _log_in(self) -> _Line:
        """Open the line, unless it stands."""
        if self._line is not None and self._line.failure is None:
            return self._line
        self._hang_up()
        from baostock.util import socketutil

        line = self._line = _Line(self._address, self._seconds)

        def connect(_self: Any, _key: Any) -> None:
            self._context.default_socket = line

        kept = socketutil.SocketUtil.connect
        socketutil.SocketUtil.connect = connect
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                result = self._guarded(self._client.login)
        finally:
            socketutil.SocketUtil.connect = kept
        self._refuse(result, "login")
        return line

    def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def _lost(self, line: _Line) -> UnreachableError:
        """What became of the line."""
        self._hang_up()
        return UnreachableError(f"the line to baostock was lost: {line.failure}.")


class _Line:
    """A socket that the client may use: it fails instead of waiting, and remembers why."""

    def __init__(self, address: tuple[str, int], seconds: float) -> None:
        self.failure: str | None = None
        self._deadline_seconds = seconds
        self._received = 0
        try:
            self._socket = socket.create_connection(address, timeout=seconds)
        except OSError as error:
            raise UnreachableError(f"baostock cannot be reached: {error}.") from error

    def send(self, data: bytes) -> int:
        """Send all of it, and start the time of the answer."""
        self._until = _now() + self._deadline_seconds
        try:
            self._socket.sendall(data)
        except OSError as error:
            self._fail(str(error) or type(error).__name__)
        return len(data)

    def recv(self, size: int) -> bytes:
        """Some bytes; never none, never later than the time allows."""
        left = self._until - _now()
        if left <= 0:
            self._fail(f"no whole answer in {self._deadline_seconds:g} s")
        self._socket.settimeout(left)
        try:
            data = self._socket.recv(size)
        except TimeoutError:
            self._fail(f"no whole answer in {self._deadline_seconds:g} s")
        except OSError as error:
            self._fail(str(error) or type(error).__name__)
        if not data:
            self._fail("it was cut in the middle of an answer")
        return data

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _fail(self, why: str) -> None:
        self.failure = self.failure or why
        raise ConnectionError(why)


def _bars_of(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Rows of an answer in our names and units."""
    if (frame["adjustflag"] != "3").any():
        raise WrongDataError(f"{where} are adjusted where raw ones were asked for.")
    number = {
        name: numbers_of(frame[name], name, where)
        for name in _BARS[2:]
        if name not in ("adjustflag", "tradestatus")
    }
    traded = frame["tradestatus"].to_numpy() == "1"
    volume = np.where(traded, number["volume"], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = volume / (number["turn"] / 100.0)
    shares = np.where(traded & np.isfinite(shares) & (shares > 0), shares, np.nan)
    table = pd.DataFrame(
        {
            "date": days_of(frame["date"], where),
            "ticker": frame["code"].map(_ticker),
            **{name: number[name] for name in ("open", "high", "low", "close", "amount")},
            "volume": volume,
            "previous_close": np.where(number["preclose"] > 0, number["preclose"], np.nan),
            "turnover": number["turn"] / 100.0,
            "pe": number["peTTM"],
            "pb": number["pbMRQ"],
            "market_cap": shares * number["close"],
            "st": number["isST"],
        }
    )
    # Before its first trade a stock may have rows without prices.
    return table[table["close"].notna() & (table["close"] != 0)]


def _now() -> float:
    import time

    return time.monotonic()


def _ticker(code: str) -> str:
    """Our name of a stock: sh600000 for sh.600000."""
    return code.replace(".", "", 1)


def _code(ticker: str) -> str:
    """The service's name of a stock."""
    if len(ticker) != 8 or ticker[:2] not in ("sh", "sz", "bj") or not ticker[2:].isdigit():
        raise NotListedError(f"{ticker} is no A share: write sh600000 or sz000001.")
    return f"{ticker[:2]}.{ticker[2:]}"


def _months(start: dt.date, end: dt.date) -> list[dt.date]:
    """The start, the first of every month after it, and the end."""
    days, day = [start], start.replace(day=1)
    while (day := (day + dt.timedelta(days=32)).replace(day=1)) <= end:
        days.append(day)
    return [*days, end] if end not in days else days


def _quarters(start: dt.date, end: dt.date) -> list[tuple[int, int]]:
    """Quarters whose reports may have come out between two dates."""
    first = start - dt.timedelta(days=210)
    quarters = []
    for year in range(first.year, end.year + 1):
        for quarter in (1, 2, 3, 4):
            last = dt.date(year, 3 * quarter, 28)
            if first <= last <= end:
                quarters.append((year, quarter))
    return quarters
