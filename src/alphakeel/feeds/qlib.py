"""A folder in Qlib's .bin format, read as it lies: calendar, instruments, features.

``calendars/day.txt`` has a date a line; ``instruments/NAME.txt`` has ``TICKER  START  END`` a line,
several for one that left and came back; ``features/ticker/FIELD.day.bin`` is float32, the first
number being the position in the calendar of the second. Prices there are adjusted: raw price
times `$factor`, and volume divided by it. Both are undone; the factor's steps become the `ratio`
of the store's actions, so that raw and adjusted prices both exist.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alphakeel.errors import ConfigError
from alphakeel.feeds.base import Feed, Pace, Tables
from alphakeel.feeds.failures import ChangedFormatError, NoDataError, NotListedError, WrongDataError

__all__ = ["QlibFeed"]

# Relative step of the factor that is an action, not the rounding of float32.
_STEP = 1e-5


class QlibFeed(Feed):
    """A Qlib data folder.

    Parameters
    ----------
    folder : Path
        With `calendars`, `instruments` and `features`.
    """

    name: ClassVar[str] = "qlib"
    adjustment: ClassVar[str] = "raw: $factor undone, its steps kept as ratios"
    pace: ClassVar[Pace] = Pace(interval=0.0, tries=1)
    steady_lists: ClassVar[bool] = False  # instruments may be all stocks there are

    def __init__(self, folder: Path) -> None:
        self._folder = Path(folder)
        file = self._folder / "calendars" / "day.txt"
        try:
            lines = file.read_text(encoding="utf-8").split()
            self._days = np.array(lines, dtype="datetime64[D]")
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise ConfigError(f"{folder} is no Qlib folder: {file} cannot be read.") from error
        if not len(self._days) or (np.diff(self._days).astype(int) <= 0).any():
            raise ConfigError(f"the calendar {file} is empty or not sorted.")

    def universe(self, name: str, start: dt.date, end: dt.date) -> Tables:
        """An instruments file as lists of members, one for each date on which it changes."""
        file = self._folder / "instruments" / f"{name}.txt"
        if not file.is_file():
            have = sorted(path.stem for path in file.parent.glob("*.txt"))
            raise ConfigError(
                f"{self._folder} has the universes {', '.join(have)}, not {name!r}; stocks are "
                "named with commas."
            )
        spells = []
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            words = line.split()
            try:
                ticker, first, last = words[0], np.datetime64(words[1]), np.datetime64(words[2])
            except (IndexError, ValueError) as error:
                raise ChangedFormatError(
                    f"line {number} of {file} is {line[:40]!r}, not a ticker and two dates."
                ) from error
            spells.append((ticker.upper(), first, last))
        days = self._days[(self._days >= np.datetime64(start)) & (self._days <= np.datetime64(end))]
        if not len(days):
            raise NoDataError(f"the Qlib calendar has no day from {start} to {end}.")
        begin = np.array([spell[1] for spell in spells])
        finish = np.array([spell[2] for spell in spells])
        changes = {days[0]}
        changes |= {day for day in begin if days[0] < day <= days[-1]}
        changes |= {day + 1 for day in finish if days[0] <= day < days[-1]}
        rows = [
            (day.item(), ticker)
            for day in sorted(changes)
            for ticker in sorted({s[0] for s, b, f in zip(spells, begin, finish, strict=True)
                                  if b <= day <= f})
        ]  # fmt: skip
        table = pd.DataFrame(rows, columns=["date", "ticker"]).assign(index=name)
        if not len(table):
            raise NoDataError(f"no instrument of {name} is listed from {start} to {end}.")
        return {"members": table}

    def bars(self, ticker: str, start: dt.date, end: dt.date) -> Tables:
        """Raw bars, and the steps of the factor."""
        close, first = self._feature(ticker, "close")
        days = self._days[first : first + len(close)]
        fields = {"close": close}
        for name in ("open", "high", "low", "volume", "factor"):
            if (self._place(ticker, name)).is_file():
                values, at = self._feature(ticker, name)
                if at != first or len(values) != len(close):
                    raise WrongDataError(f"{name} of {ticker} covers other days than its close.")
                fields[name] = values
        if "factor" not in fields:
            raise WrongDataError(
                f"the Qlib folder has no factor of {ticker}, so its prices as traded are not "
                "known: dump the field factor (1.0 where prices are as traded)."
            )
        factor = fields.pop("factor")
        usable = np.isfinite(close) & np.isfinite(factor) & (factor > 0)
        if not usable.any():
            raise NoDataError(f"{ticker} has no close in the Qlib folder.")
        table = pd.DataFrame({"date": pd.Series(days).dt.date, "ticker": ticker})
        for name, values in fields.items():
            table[name] = values * factor if name == "volume" else values / factor
        known = np.flatnonzero(usable)
        step = factor[known[1:]] / factor[known[:-1]]
        moved = np.abs(step - 1.0) > _STEP
        actions = pd.DataFrame(
            {
                "date": table["date"].to_numpy()[known[1:][moved]],
                "ticker": ticker,
                "ratio": step[moved],
            }
        )
        return {"bars": table[usable], "actions": actions}

    def calendar(self, start: dt.date, end: dt.date) -> Tables:
        """Days of the folder's calendar."""
        days = pd.Series(self._days).dt.date
        return {"calendar": pd.DataFrame({"date": days[(days >= start) & (days <= end)]})}

    def _place(self, ticker: str, field: str) -> Path:
        return self._folder / "features" / ticker.lower() / f"{field}.day.bin"

    def _feature(self, ticker: str, field: str) -> tuple[NDArray[np.float64], int]:
        """Values of one field, and the position of the first in the calendar."""
        file = self._place(ticker, field)
        try:
            raw = np.fromfile(file, dtype="<f4")
        except FileNotFoundError as error:
            raise NotListedError(f"the Qlib folder has no {field} of {ticker}.") from error
        except OSError as error:
            raise WrongDataError(f"{file} cannot be read: {error.strerror}.") from error
        if file.stat().st_size % 4 or len(raw) < 2 or not float(raw[0]).is_integer() or raw[0] < 0:
            raise WrongDataError(f"{file} is no Qlib file, or was cut off.")
        first = int(raw[0])
        if first + len(raw) - 1 > len(self._days):
            raise WrongDataError(f"{file} reaches beyond the calendar: one of both was cut off.")
        return raw[1:].astype(np.float64), first
