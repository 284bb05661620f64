"""Sources by their names on the command line; each client is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from alphakeel.errors import ConfigError
from alphakeel.feeds.base import Feed

__all__ = ["SOURCES", "open_feed"]

# Name: what it is good for.
SOURCES: Mapping[str, str] = {
    "baostock": "A shares: bars, P/E, P/B, ST, index members by date, reports; no key",
    "yahoo": "stocks worldwide: bars, dividends, splits",
    "edgar": "US companies: figures of every filing by filing date; names a contact",
    "rates": "riskless rates: US Treasury bills",
    "qlib": "a folder in Qlib's .bin format",
    "stooq": "stooq's bulk files, unpacked",
    "akshare": "A shares: raw bars from Eastmoney, adjusted by Sina's factors",
    "tushare": "A shares: bars, adjustment factors, valuation; token in TUSHARE_TOKEN",
}


def open_feed(name: str, *, contact: str | None = None, folder: Path | None = None) -> Feed:
    """The feed of a name.

    Raises
    ------
    ConfigError
        If there is none of that name, or it lacks what it needs.
    """
    if name == "baostock":
        from alphakeel.feeds.baostock import BaostockFeed

        return BaostockFeed()
    if name == "yahoo":
        from alphakeel.feeds.yahoo import YahooFeed

        return YahooFeed()
    if name == "edgar":
        from alphakeel.feeds.edgar import EdgarFeed

        return EdgarFeed(contact or "")
    if name == "rates":
        from alphakeel.feeds.rates import RatesFeed

        return RatesFeed()
    if name == "akshare":
        from alphakeel.feeds.akshare import AkshareFeed

        return AkshareFeed()
    if name == "tushare":
        from alphakeel.feeds.tushare import TushareFeed

        return TushareFeed()
    if name in ("qlib", "stooq"):
        if folder is None:
            raise ConfigError(f"{name} reads a folder on this machine: name it with --folder.")
        if name == "qlib":
            from alphakeel.feeds.qlib import QlibFeed

            return QlibFeed(folder)
        from alphakeel.feeds.stooq import StooqFeed

        return StooqFeed(folder)
    raise ConfigError(f"{name!r} is no source: choose from {', '.join(SOURCES)}.")
