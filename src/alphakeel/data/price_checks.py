"""What is doubtful in prices and volumes, as masks over dates and stocks with a sentence for each.

The checks may look at the days after a price, which no study may: a bad tick is one that comes
back on the next day.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alphakeel.stats.rolling import lag, last_known

__all__ = ["Bars", "Doubt", "bars_of", "log_returns", "price_checks", "typical_move", "used_again"]

Matrix = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Numbers of new shares for old ones of real splits, reverse ones included.
_SPLITS = np.array([1.5, 2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 50, 100])
_SPLIT_SLACK = 0.03  # relative distance from such a number
_SPLIT_LEAST = 1.9  # smaller factors are too often real moves
_SPLIT_OTHERS = 0.10  # the stock's typical move, and the market's, must be below
_BAD_TICK = 0.25  # log return there and back
_COMES_BACK = 0.2  # share of the move that may be left
_STALE_DAYS = 10
_REUSED_GAP = 250  # dates without a price
_REUSED_JUMP = 3.0
_AROUND = 20  # days before and after that a day is held against
_BLOCK = 63  # days whose median tells which days are looked at closely
# A jump that no news explains: overnight, beyond the stock's and the market's moves, on usual
# volume.
_JUMP, _JUMP_TIMES, _JUMP_MARKET, _JUMP_VOLUME, _JUMP_OVERNIGHT = 0.05, 8.0, 8.0, 3.0, 0.6
_HALF = 0.50  # of the price
_WICK = 0.30  # of the open and the close
_VOLUME_HIGH, _VOLUME_LOW = 20.0, 1 / 50
_A_SHARE = re.compile(r"(?:(sh|sz|bj)\.?)?(\d{6})(?:\.(?:SH|SZ|SS|BJ))?", re.IGNORECASE)
_CHINEXT_WIDER = np.datetime64("2020-08-24")
_FREE_DAYS = 5  # after the listing there is no limit


class Doubt(NamedTuple):
    """Doubtful prices of one kind, and the sentence for each, which follows ticker and date."""

    severity: str
    kind: str
    where: Mask
    text: Callable[[int, int], str]


class Bars(NamedTuple):
    """Fields of some stocks, with what several checks need."""

    dates: NDArray[np.datetime64]
    tickers: NDArray[np.str_]
    fields: Mapping[str, Matrix]
    close: Matrix  # as traded
    close_before: Matrix  # the last one before each date
    adjusted: Matrix
    adjusted_before: Matrix
    gap: Matrix  # dates since the last price
    returns: Matrix  # log, adjusted, since the last price
    raw: Matrix  # log, as traded
    market: NDArray[np.float64]  # (n_dates,) median size of a move


def log_returns(prices: Matrix) -> Matrix:
    """Log return of each price since the last one before it."""
    return _since(prices, lag(last_known(prices)[0], 1))


def _since(prices: Matrix, before: Matrix) -> Matrix:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(prices / before)


def bars_of(
    dates: NDArray[np.datetime64],
    tickers: NDArray[np.str_],
    fields: Mapping[str, Matrix],
    market: NDArray[np.float64],
) -> Bars:
    """The bars of some stocks."""
    adjusted = fields["adj_close"]
    close = fields.get("close", adjusted)
    known, row = last_known(adjusted)
    before = lag(known, 1)
    gap: Matrix = np.arange(len(adjusted), dtype=np.float64)[:, None] - lag(row, 1)
    returns = _since(adjusted, before)
    close_before, raw = before, returns
    if close is not adjusted:
        close_before = lag(last_known(close)[0], 1)
        raw = _since(close, close_before)
    return Bars(dates, tickers, fields, close, close_before, adjusted, before, gap, returns, raw,
                market)  # fmt: skip


def price_checks(bars: Bars) -> Iterator[Doubt]:
    """Every kind in turn; a price that one of the graver kinds names is left out of the milder."""
    returns, raw, close = bars.returns, bars.raw, bars.close
    with np.errstate(invalid="ignore"):
        spurious = (np.abs(returns) > _BAD_TICK) & (np.abs(raw) < _SPLIT_OTHERS)
    yield Doubt("error", "adjustment without a split", spurious,
                lambda t, i: f"moves {_percent(returns[t, i])} adjusted and {_percent(raw[t, i])} "
                "as traded")  # fmt: skip
    split = _missed_splits(bars) & ~spurious
    yield Doubt("warning", "perhaps a split that the adjustment missed", split,
                lambda t, i: f"falls or rises by a factor of {np.exp(-returns[t, i]):.3g}, as at a "
                "split")  # fmt: skip
    bad = _bad_ticks(returns) & ~split
    yield Doubt("error", "bad tick", bad,
                lambda t, i: f"moves {_percent(returns[t, i])} and comes back the day "
                "after")  # fmt: skip
    reused = used_again(bars)
    yield Doubt("error", "ticker used again", reused,
                lambda t, i: f"has a price again after {bars.gap[t, i] - 1:.0f} dates without one, "
                "on another level: perhaps another company")  # fmt: skip
    yield Doubt("warning", "stale price", _stale(close, bars.fields.get("volume")),
                lambda _t, _i: f"has had the same close for {_STALE_DAYS} days of "
                "trading")  # fmt: skip
    yield from _limit_checks(bars)
    jump, typical = _unexplained(bars)
    told = spurious | split | bad | reused | np.vstack([np.zeros_like(bad[:1]), bad[:-1]])
    yield Doubt("warning", "jump overnight on usual volume", jump & ~told,
                lambda t, i: f"opens far off and moves {_percent(returns[t, i])}, "
                f"{abs(returns[t, i]) / typical[t, i]:.0f} times its usual move, on usual volume: "
                "perhaps a spin-off, a split or an adjustment that is wrong")  # fmt: skip
    with np.errstate(invalid="ignore"):
        half = (np.abs(np.expm1(returns)) > _HALF) & ~(told | jump)
    yield Doubt("warning", "move of more than half", half,
                lambda t, i: f"moves {_percent(returns[t, i])}{_after(bars.gap[t, i])}: news, or a "
                "price of something else")  # fmt: skip
    yield from _bar_checks(bars)
    yield from _volume_checks(bars)


def used_again(bars: Bars) -> Mask:
    """First prices after a very long gap, on another level."""
    with np.errstate(invalid="ignore"):
        return (bars.gap > _REUSED_GAP) & (np.abs(bars.returns) > np.log(_REUSED_JUMP))


def typical_move(returns: Matrix, row: int, column: int) -> float:
    """Median size of a stock's moves in the days around one, without it; NaN if none is known."""
    size = np.abs(
        np.concatenate(
            [
                returns[max(row - _AROUND, 0) : row, column],
                returns[row + 1 : row + _AROUND + 1, column],
            ]
        )
    )
    size = size[np.isfinite(size)]
    return _median(size)


def _percent(log_return: float) -> str:
    return f"{100 * np.expm1(log_return):+.0f} %"


def _missed_splits(bars: Bars) -> Mask:
    """Moves by just the factor of a split, for good, on a day that is quiet for the others."""
    size = np.abs(bars.returns)
    result = np.zeros(size.shape, dtype=bool)
    with np.errstate(invalid="ignore"):
        candidates = np.argwhere(size > np.log(_SPLIT_LEAST))
    for t, i in candidates:
        if np.min(np.abs(_SPLITS / np.exp(size[t, i]) - 1.0)) > _SPLIT_SLACK:
            continue
        typical = np.nan_to_num(typical_move(bars.returns, t, i))
        result[t, i] = typical < _SPLIT_OTHERS and bars.market[t] < _SPLIT_OTHERS
    return result


def _bad_ticks(returns: Matrix) -> Mask:
    """Moves that the next day undoes."""
    following = np.vstack([returns[1:], np.full((1, returns.shape[1]), np.nan)])
    with np.errstate(invalid="ignore"):
        left = np.abs(returns + following) < _COMES_BACK * np.abs(returns)
        return np.asarray((np.abs(returns) > _BAD_TICK) & left)


def _stale(close: Matrix, volume: Matrix | None) -> Mask:
    """The day on which a close has been the same for ten days, on volume."""
    same = close == lag(close, 1)
    if volume is not None:
        same &= volume > 0
    result = np.zeros(close.shape, dtype=bool)
    least = _STALE_DAYS - 1  # days on which it repeats the day before
    if len(close) <= least:
        return result
    # The first close repeats nothing, so a run ends before row 0 at the latest.
    result[least:] = ~same[:-least]
    for back in range(least):
        result[least:] &= same[least - back : len(same) - back]
    return result


def _limit_checks(bars: Bars) -> Iterator[Doubt]:
    """Moves of A shares beyond the limit of their board, after their first days."""
    returns = bars.returns
    limits = _daily_limits(bars)
    if limits is None:
        return
    priced = np.isfinite(returns)
    first = np.argmax(priced, axis=0)
    seen = np.arange(len(returns))[:, None] - first
    with np.errstate(invalid="ignore", divide="ignore"):
        # The exchange rounds the limit to a fen of its reference price.
        slack = 0.001 + 0.0055 / (bars.close * np.exp(-returns))
        far = np.abs(np.expm1(returns)) > limits + slack
    yield Doubt("warning", "move beyond the daily limit", far & (seen > _FREE_DAYS),
                lambda t, i: f"moves {_percent(returns[t, i])}, more than the limit of "
                f"{100 * limits[t, i]:.0f} %{_after(bars.gap[t, i])}")  # fmt: skip


def _after(gap: float) -> str:
    return f", after {gap - 1:.0f} dates without a price" if gap > 1 else ""


def _daily_limits(bars: Bars) -> Matrix | None:
    """How far an A share may move in a day by its code, date and ST mark; NaN for other stocks."""
    names = [_A_SHARE.fullmatch(str(ticker)) for ticker in bars.tickers]
    if not any(names):
        return None
    limits = np.full(bars.returns.shape, np.nan)
    special = bars.fields.get("st")
    for i, name in enumerate(names):
        if name is None:
            continue
        code = name[2]
        limits[:, i] = 0.10
        if special is not None:
            limits[special[:, i] == 1, i] = 0.05
        if code.startswith(("688", "689")):
            limits[:, i] = 0.20
        elif code.startswith(("300", "301")):
            limits[bars.dates >= _CHINEXT_WIDER, i] = 0.20
        elif code.startswith(("43", "83", "87", "92")):
            limits[:, i] = 0.30
    return limits


def _unexplained(bars: Bars) -> tuple[Mask, Matrix]:
    """Jumps overnight far beyond usual moves on usual volume; and the usual moves there."""
    returns, volume = bars.returns, bars.fields.get("volume")
    found = np.zeros(returns.shape, dtype=bool)
    typical = np.full(returns.shape, np.nan)
    if volume is None or "open" not in bars.fields:
        return found, typical
    size = np.abs(returns)
    with np.errstate(invalid="ignore"):
        large = (size > _JUMP) & (size > _JUMP_MARKET * bars.market[:, None])
        large &= size > _JUMP_TIMES / 2 * _block_median(size)
    for t, i in np.argwhere(large):
        typical[t, i] = typical_move(returns, t, i)
        usual = _median_around(volume, t, i)
        own = bars.adjusted[t, i] / bars.close[t, i]
        overnight = np.log(bars.fields["open"][t, i] * own / bars.adjusted_before[t, i])
        overnight /= returns[t, i]
        found[t, i] = (
            size[t, i] > _JUMP_TIMES * typical[t, i]
            and volume[t, i] < _JUMP_VOLUME * usual
            and overnight > _JUMP_OVERNIGHT
        )
    return found, typical


def _bar_checks(bars: Bars) -> Iterator[Doubt]:
    """Closes outside the range of their day, ranges that no trade explains, bars of one price."""
    fields, close = bars.fields, bars.close
    if not {"close", "high", "low"} <= fields.keys():
        return
    high, low, slack = fields["high"], fields["low"], 1e-3
    with np.errstate(invalid="ignore"):
        outside = (close > high * (1 + slack)) | (close < low * (1 - slack))
    yield Doubt("warning", "close outside high and low", outside,
                lambda t, i: f"closes at {close[t, i]:.6g}, outside its high and "
                "low")  # fmt: skip
    if "open" not in fields:
        return
    first = fields["open"]
    with np.errstate(invalid="ignore"):
        wick = high > (1 + _WICK) * np.fmax(first, close)
        wick |= low < (1 - _WICK) * np.fmin(first, close)
        one = (high == low) & (first == close) & (close == high)
        same = one & (close == bars.close_before)
    yield Doubt("warning", "high or low far beyond open and close", wick,
                lambda t, i: f"has a range of {low[t, i]:.6g} to {high[t, i]:.6g}, and opens at "
                f"{first[t, i]:.6g} and closes at {close[t, i]:.6g}")  # fmt: skip
    if "volume" in fields:
        same &= fields["volume"] > 0
        yield Doubt("warning", "bar that repeats the last close", same,
                    lambda t, i: f"opens, trades and closes at {close[t, i]:.6g}, its last close, "
                    "on volume: perhaps filled in")  # fmt: skip
        one &= fields["volume"] > 0
    yield Doubt("note", "bar of one price", one & ~same,
                lambda t, i: f"has one price all day, {close[t, i]:.6g}")  # fmt: skip


def _volume_checks(bars: Bars) -> Iterator[Doubt]:
    """No volume, with and without a move, and volume far from what is usual."""
    if "volume" not in bars.fields:
        return
    volume, returns = bars.fields["volume"], bars.returns
    with np.errstate(invalid="ignore"):
        none = volume == 0
        moved = none & (np.abs(returns) > 1e-9)
    yield Doubt("warning", "price that moves on no volume", moved,
                lambda t, i: f"moves {100 * np.expm1(returns[t, i]):+.1f} % on no "
                "volume")  # fmt: skip
    yield Doubt("note", "no volume", none & ~moved & np.isfinite(bars.adjusted),
                lambda _t, _i: "has a price and no volume")  # fmt: skip
    usual = _block_median(np.where(none, np.nan, volume))
    found = np.zeros(volume.shape, dtype=bool)
    times = np.full(volume.shape, np.nan)
    with np.errstate(invalid="ignore"):
        far = (volume > _VOLUME_HIGH / 2 * usual) | (~none & (volume < 2 * _VOLUME_LOW * usual))
    for t, i in np.argwhere(far):
        times[t, i] = volume[t, i] / _median_around(volume, t, i)
        found[t, i] = times[t, i] > _VOLUME_HIGH or times[t, i] < _VOLUME_LOW
    yield Doubt("note", "volume far from usual", found,
                lambda t, i: f"has {times[t, i]:.3g} times its usual volume")  # fmt: skip


def _median_around(values: Matrix, row: int, column: int) -> float:
    """Median of a stock's values in the days around one, without it; zeros left out."""
    near = np.concatenate(
        [
            values[max(row - _AROUND, 0) : row, column],
            values[row + 1 : row + _AROUND + 1, column],
        ]
    )
    near = near[near > 0]
    return _median(near)


def _median(values: NDArray[np.float64]) -> float:
    """Median of a few numbers; NaN of none. `np.median` takes ten times as long for forty."""
    if not len(values):
        return np.nan
    values.sort()
    middle = len(values) // 2
    return float(values[middle] + values[~middle]) / 2.0


def _block_median(values: Matrix) -> Matrix:
    """Median of the known values in blocks of days, repeated for each day of the block."""
    result = np.empty(values.shape)
    for start in range(0, len(values), _BLOCK):
        # Missing values sort last; a last block that is short is filled up from before it.
        piece = np.sort(values[min(start, max(len(values) - _BLOCK, 0)) :][:_BLOCK], axis=0)
        known = np.isfinite(piece).sum(axis=0)
        middle = piece[np.maximum(known - 1, 0) // 2, np.arange(values.shape[1])]
        result[start : start + _BLOCK] = np.where(known > 0, middle, np.nan)
    return result
