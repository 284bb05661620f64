"""Stooq's bulk files (https://stooq.com/db/h), unpacked into a folder: one text file a ticker.

A file has the header ``<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>``.
Prices are adjusted for splits and, for most US stocks, for dividends; neither can be told from the
file or undone, so the bars are stored as "adjusted at the source": levels depend on what came
later.
"""

from __future__ import annotations

import csv
import datetime as dt
from pathlib import Path
from typing import ClassVar

import pandas as pd

from alphakeel.errors import ConfigError
from alphakeel.feeds.base import Feed, Pace, Tables, days_of, need_columns, numbers_of
from alphakeel.feeds.failures import BlockedError, ChangedFormatError, NoDataError, NotListedError

__all__ = ["StooqFeed"]

_COLUMNS = {
    "open": "<OPEN>",
    "high": "<HIGH>",
    "low": "<LOW>",
    "close": "<CLOSE>",
    "volume": "<VOL>",
}


class StooqFeed(Feed):
    """A folder of stooq's daily files.

    Parameters
    ----------
    folder : Path
        Searched with its subfolders for ``*.txt``.
    """

    name: ClassVar[str] = "stooq"
    adjustment: ClassVar[str] = "adjusted at the source, for splits and mostly for dividends"
    pace: ClassVar[Pace] = Pace(interval=0.0, tries=1)

    def __init__(self, folder: Path) -> None:
        self._files = {file.stem.upper(): file for file in sorted(Path(folder).rglob("*.txt"))}
        if not self._files:
            raise ConfigError(f"{folder} holds no stooq file (*.txt): unpack the archive there.")

    def universe(self, name: str, start: dt.date, end: dt.date) -> Tables:
        """Every file of a folder of the archive, or "all"."""
        chosen = [
            ticker
            for ticker, file in self._files.items()
            if name == "all" or name in file.as_posix()
        ]
        if not chosen:
            raise ConfigError(f"no file of the stooq folder lies below {name!r}: try 'all'.")
        return {"securities": pd.DataFrame({"as_of": end, "ticker": chosen})}

    def bars(self, ticker: str, start: dt.date, end: dt.date) -> Tables:
        """Bars of one file, adjusted as they are."""
        file = self._files.get(ticker.upper())
        if file is None:
            raise NotListedError(f"the stooq folder has no file of {ticker}.")
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ChangedFormatError(f"{file} cannot be read: {error}.") from error
        if "daily hits limit" in text[:200].lower():
            raise BlockedError(f"{file} holds stooq's refusal, not data: fetch it again tomorrow.")
        if not text.strip():
            raise NoDataError(f"{file} is empty.")
        rows = list(csv.DictReader(text.splitlines()))
        header = next(csv.reader(text.splitlines()), [])
        need_columns(header, ("<TICKER>", "<PER>", "<DATE>", *_COLUMNS.values()), str(file))
        rows = [row for row in rows if row["<PER>"] == "D"]
        if not rows:
            raise NoDataError(f"{file} has no daily row.")
        if any(None in row or None in row.values() for row in rows):
            raise ChangedFormatError(
                f"a row of {file} is not as wide as its header: it was cut off."
            )
        table = pd.DataFrame(
            {
                "date": days_of([row["<DATE>"] for row in rows], str(file), form="%Y%m%d"),
                "ticker": [row["<TICKER>"].upper() for row in rows],
                **{
                    name: numbers_of([row[column] for row in rows], column, str(file))
                    for name, column in _COLUMNS.items()
                },
            }
        )
        return {"bars": table}
