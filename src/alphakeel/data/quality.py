"""What a careful reader of prices would ask about: findings by severity, with ticker and date.

Nothing here refuses or changes anything; what cannot be used at all is refused in `validation`.
The checks may look at the days after a price, which no study may: a bad tick is one that comes
back on the next day.
"""

from __future__ import annotations

import datetime as dt
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alphakeel.data.grid import Grid
from alphakeel.stats.rolling import lag, last_known

__all__ = ["SEVERITIES", "QualityFinding", "quality_findings", "trading_calendar"]

Matrix = NDArray[np.float64]

SEVERITIES = ("error", "warning", "note")
# Findings of one kind beyond which only their number is told.
MOST_OF_A_KIND = 200
# Numbers of new shares for old ones of real splits, reverse ones included.
_SPLITS = np.array([2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 50, 100])
_SPLIT_SLACK = 0.03  # relative distance from such a number
_SPLIT_OTHERS = 0.10  # the stock's typical move, and the market's, must be below
_BAD_TICK = 0.25  # log return there and back
_COMES_BACK = 0.2  # share of the move that may be left
_STALE_DAYS = 10
_A_SHARE = re.compile(r"(sh|sz)\d{6}|\d{6}\.(SH|SZ|SS)", re.IGNORECASE)
_WIDEST_LIMIT = 0.21
_FREE_DAYS = 5  # after the listing there is no limit
_REUSED_GAP = 250  # dates without a price
_REUSED_JUMP = 3.0
_OLD_DAYS = 7
_LONG_GAP_DAYS = 11  # longer than any holiday of the exchanges we know


@dataclass(frozen=True)
class QualityFinding:
    """One thing to look at."""

    severity: str  # of `SEVERITIES`
    kind: str
    ticker: str  # empty where it concerns all
    date: str
    message: str  # one sentence that ends with a full stop


def quality_findings(
    grid: Grid, *, today: dt.date, calendar: NDArray[np.datetime64] | None = None
) -> tuple[list[QualityFinding], dict[str, int]]:
    """Look for what is doubtful in checked arrays.

    Parameters
    ----------
    grid : Grid
        With `adj_close`, and `close`, `open`, `high`, `low`, `volume` where there are any.
    today : date
    calendar : ndarray of datetime64, optional
        Trading days of the exchange.

    Returns
    -------
    findings : list of QualityFinding
        By severity, then kind and date; at most 200 of a kind.
    counts : dict of str to int
        All findings, by kind.
    """
    close = grid.fields.get("close", grid.fields["adj_close"])
    adjusted = grid.fields["adj_close"]
    found = _Findings(grid)
    returns = _log_returns(adjusted)
    raw = returns if close is adjusted else _log_returns(close)
    spurious = (np.abs(returns) > _BAD_TICK) & (np.abs(raw) < _SPLIT_OTHERS)
    found.add("error", "adjustment without a split", spurious,
              lambda t, i: f"moves {100 * np.expm1(returns[t, i]):+.0f} % adjusted and "
              f"{100 * np.expm1(raw[t, i]):+.0f} % as traded")  # fmt: skip
    raw = np.empty((0, 0))  # large, and no longer needed
    split = _missed_splits(returns) & ~spurious
    found.add("warning", "perhaps a split that the adjustment missed", split,
              lambda t, i: f"falls or rises by a factor of {np.exp(-returns[t, i]):.3g}, as at a "
              "split")  # fmt: skip
    bad = _bad_ticks(returns) & ~split
    found.add("error", "bad tick", bad,
              lambda t, i: f"moves {100 * np.expm1(returns[t, i]):+.0f} % and comes back the day "
              "after")  # fmt: skip
    reused, gap = _reused(adjusted)
    found.add("error", "ticker used again", reused,
              lambda t, i: f"has a price again after {gap[t, i]:.0f} dates without one, on another "
              "level: perhaps another company")  # fmt: skip
    found.add("warning", "stale price", _stale(close, grid.fields.get("volume")),
              lambda _t, _i: f"has had the same close for {_STALE_DAYS} days of "
              "trading")  # fmt: skip
    found.add("warning", "move beyond the daily limit", _beyond_limit(grid.tickers, returns),
              lambda t, i: f"moves {100 * np.expm1(returns[t, i]):+.0f} %, more than the limit of "
              "its exchange")  # fmt: skip
    if "volume" in grid.fields:
        moved = (grid.fields["volume"] == 0) & (np.abs(returns) > 1e-9)
        found.add("warning", "price that moves on no volume", moved,
                  lambda t, i: f"moves {100 * np.expm1(returns[t, i]):+.1f} % on no "
                  "volume")  # fmt: skip
    bounds = _outside_range(grid.fields)
    if bounds is not None:
        found.add("warning", "close outside high and low", bounds,
                  lambda t, i: f"closes at {close[t, i]:.6g}, outside its high and "
                  "low")  # fmt: skip
    found.days(calendar, today)
    return found.sorted(), found.counts


def _log_returns(prices: Matrix) -> Matrix:
    """Log returns from one known price to the next, in two arrays at a time."""
    before = lag(last_known(prices)[0], 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        np.log(before, out=before)
        return np.subtract(np.log(prices), before, out=before)


def trading_calendar(dates: NDArray[np.datetime64], market: str) -> NDArray[np.datetime64] | None:
    """Trading days of an exchange (a code of exchange_calendars) over some dates.

    None where that library is not installed, or does not know the exchange or the years.
    """
    try:
        import exchange_calendars
    except ImportError:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own use of pandas
            sessions = exchange_calendars.get_calendar(
                market, start=str(dates[0]), end=str(dates[-1])
            ).sessions
    except (ValueError, KeyError, exchange_calendars.errors.CalendarError):
        return None
    return np.asarray(sessions.tz_localize(None).to_numpy(), dtype="datetime64[D]")


class _Findings:
    """Collects findings, and counts those beyond the limit."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._found: list[QualityFinding] = []
        self.counts: dict[str, int] = {}

    def add(
        self,
        severity: str,
        kind: str,
        where: NDArray[np.bool_],
        text: Callable[[int, int], str],
    ) -> None:
        """Add a finding for every marked price."""
        rows, columns = np.nonzero(where)
        if len(rows):
            self.counts[kind] = len(rows)
        pairs = zip(rows[:MOST_OF_A_KIND], columns[:MOST_OF_A_KIND], strict=True)
        for t, i in pairs:
            ticker, day = str(self._grid.tickers[i]), str(self._grid.dates[t])
            message = f"{ticker} on {day} {text(int(t), int(i))}."
            self._found.append(QualityFinding(severity, kind, ticker, day, message))

    def days(self, calendar: NDArray[np.datetime64] | None, today: dt.date) -> None:
        """Look for trading days that are missing, for long gaps, and for old data."""
        dates = self._grid.dates
        if calendar is not None:
            lost = np.setdiff1d(calendar[(calendar >= dates[0]) & (calendar <= dates[-1])], dates)
            surplus = np.setdiff1d(dates, calendar)
            self._dates("trading day missing", lost, "is a trading day of the exchange, and no "
                        "stock has a row")  # fmt: skip
            self._dates("day without trading", surplus, "has rows, and the exchange was closed")
        else:
            gaps = np.flatnonzero(np.diff(dates).astype(int) > _LONG_GAP_DAYS)
            self._dates("gap in the dates", dates[gaps], "is followed by no date for more than "
                        f"{_LONG_GAP_DAYS} days")  # fmt: skip
        age = (np.datetime64(today, "D") - dates[-1]).astype(int)
        if age > _OLD_DAYS:
            text = f"the last date is {dates[-1]}, {age} days ago."
            self.counts["old data"] = 1
            self._found.append(QualityFinding("note", "old data", "", str(dates[-1]), text))

    def _dates(self, kind: str, days: NDArray[np.datetime64], text: str) -> None:
        if len(days):
            self.counts[kind] = len(days)
        for day in days[:MOST_OF_A_KIND]:
            self._found.append(QualityFinding("warning", kind, "", str(day), f"{day} {text}."))

    def sorted(self) -> list[QualityFinding]:
        """All findings, the gravest first."""
        return sorted(
            self._found, key=lambda f: (SEVERITIES.index(f.severity), f.kind, f.date, f.ticker)
        )


def _missed_splits(returns: Matrix) -> NDArray[np.bool_]:
    """Moves by just the factor of a split, for good, on a day that is quiet for the others."""
    size = np.abs(returns)
    candidate = size > np.log(1.9)
    result = np.zeros(returns.shape, dtype=bool)
    for t, i in np.argwhere(candidate):
        factor = np.exp(size[t, i])
        if np.min(np.abs(_SPLITS / factor - 1.0)) > _SPLIT_SLACK:
            continue
        around = np.concatenate([size[max(t - 20, 0) : t, i], size[t + 1 : t + 21, i]])
        around, others = around[np.isfinite(around)], size[t][np.isfinite(size[t])]
        typical = float(np.median(around)) if len(around) else 0.0
        result[t, i] = typical < _SPLIT_OTHERS and float(np.median(others)) < _SPLIT_OTHERS
    return result


def _beyond_limit(tickers: NDArray[np.str_], returns: Matrix) -> NDArray[np.bool_]:
    """Moves of A shares beyond 20 %, the widest limit, after their first days."""
    ours = np.array([bool(_A_SHARE.fullmatch(str(ticker))) for ticker in tickers])
    first = np.argmax(np.isfinite(returns), axis=0)
    seen = np.arange(len(returns), dtype=np.int32)[:, None] - first.astype(np.int32)
    with np.errstate(invalid="ignore"):
        far = np.abs(np.expm1(returns)) > _WIDEST_LIMIT
    return np.asarray(far & ours & (seen > _FREE_DAYS))


def _bad_ticks(returns: Matrix) -> NDArray[np.bool_]:
    """Moves that the next day undoes."""
    t, i = np.nonzero(np.abs(returns[:-1]) > _BAD_TICK)
    left = np.abs(returns[t, i] + returns[t + 1, i]) < _COMES_BACK * np.abs(returns[t, i])
    found = np.zeros(returns.shape, dtype=np.bool_)
    found[t[left], i[left]] = True
    return found


def _reused(prices: Matrix) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """First prices after a very long gap, on another level; and the lengths of the gaps."""
    row = last_known(prices)[1]
    before = np.full(row.shape, -1, dtype=np.int32)
    before[1:] = row[:-1]
    gap = np.arange(len(prices), dtype=np.int32)[:, None] - before
    t, i = np.nonzero((gap > _REUSED_GAP) & (before >= 0) & ~np.isnan(prices))
    with np.errstate(invalid="ignore", divide="ignore"):
        far = np.abs(np.log(prices[t, i] / prices[before[t, i], i])) > np.log(_REUSED_JUMP)
    found = np.zeros(prices.shape, dtype=np.bool_)
    found[t[far], i[far]] = True
    return found, gap


def _stale(close: Matrix, volume: Matrix | None) -> NDArray[np.bool_]:
    """The day on which a close has been the same for ten days, on volume."""
    same = close == lag(close, 1)
    if volume is not None:
        same &= volume > 0
    run = np.zeros(close.shape[1], dtype=np.int64)
    result = np.zeros(close.shape, dtype=bool)
    for t in range(len(close)):
        run = np.where(same[t], run + 1, 0)
        result[t] = run == _STALE_DAYS - 1
    return result


def _outside_range(fields: Mapping[str, Matrix]) -> NDArray[np.bool_] | None:
    """Closes above the high or below the low by more than rounding."""
    if not {"close", "high", "low"} <= fields.keys():
        return None
    close, slack = fields["close"], 1e-3
    with np.errstate(invalid="ignore"):
        above = close > fields["high"] * (1 + slack)
        return np.asarray(above | (close < fields["low"] * (1 - slack)))
