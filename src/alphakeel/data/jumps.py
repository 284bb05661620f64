"""Jumps that nobody can have earned, in sentences: what they look like, and where lines end.

A split that was not adjusted for, a price in cents, a symbol that another company has now: cleaning
keeps them from factors, but what a portfolio earns holds them. So whoever reads data is told.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from alphakeel.data.cleaning import Jumps
from alphakeel.stats.rolling import lag, last_known

__all__ = ["describe_ends", "describe_gaps", "describe_jumps", "likely_cause"]

Floats = NDArray[np.float64]
Dates = NDArray[np.datetime64]
Tickers = NDArray[np.str_]

EXAMPLES = 3
# Splits that companies make, as new shares for one old; also the other way round.
_SPLITS = (1.5, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50)
_CLOSE = 0.04  # of a log ratio: a day's own return beside the split
MOST_GAP = 5  # dates without a price that need no word
_TOGETHER = 256  # stocks that are looked at together, to hold no large copies
FAILED, FAILED_OVER = 0.5, 60  # a fall of so much in so many dates before the last price


def describe_jumps(prices: Floats, jumps: Jumps, dates: Dates, tickers: Tickers) -> list[str]:
    """What an analyst must know of the moves that cleaning does not believe, in at most two notes.

    Parameters
    ----------
    prices : ndarray of shape (n_dates, n_assets)
        Adjusted closes as delivered.
    jumps : Jumps
        As `data.cleaning.find_jumps` gives them.
    dates, tickers : ndarray
        Of the two axes.
    """
    own = jumps.suspect.any(axis=0) | jumps.closed.any(axis=0)
    if not own.any():
        return []
    prices, tickers = prices[:, own], tickers[own]
    suspect, closed = jumps.suspect[:, own], jumps.closed[:, own]
    before = lag(last_known(prices)[0], 1)
    notes = []
    if suspect.any():
        after = lag(last_known(prices[::-1])[0], 1)[::-1]
        cells = np.argwhere(suspect)
        moves = np.array([prices[t, i] / before[t, i] for t, i in cells])
        order = np.argsort(-np.abs(np.log(moves)), kind="stable")[:EXAMPLES]
        told = []
        for k in order:
            t, i = cells[k]
            cause = likely_cause(float(moves[k]), float(after[t, i] / before[t, i]))
            looks = f" {cause}" if cause else ""
            told.append(f"{tickers[i]} {_move(moves[k])} on {dates[t]}{looks}")
        one = len(cells) == 1
        notes.append(
            f"{'1 jump is' if one else f'{len(cells)} jumps are'} suspect ({_listed(told, cells)}):"
            f" factors do not see {'it' if one else 'them'} before the next price, but what a "
            "portfolio earns does; correct prices that are wrong"
        )
    if closed.any():
        cells = np.argwhere(closed)
        told = [
            f"{tickers[i]} {_move(prices[t, i] / before[t, i])} on {dates[t]}"
            for t, i in cells[:EXAMPLES]
        ]
        one = len(cells) == 1
        notes.append(
            f"{'1 gap ends' if one else f'{len(cells)} gaps end'} at a much higher price "
            f"({_listed(told, cells)}), as where another company has the ticker: the old line is "
            "closed at its last price, and nobody earns the jump"
        )
    return notes


def likely_cause(move: float, later: float) -> str:
    """What a jump looks like, in words to follow its date; empty if like nothing known.

    `move` is the price over the last one before it, `later` the next price over that one.
    """
    size = abs(np.log(move))
    if abs(size - np.log(100.0)) < _CLOSE * 2:
        unit = "prices in hundredths" if move > 1 else "prices in hundreds"
        back = np.isfinite(later) and abs(np.log(later)) < np.log(1.5)
        return f"(as {unit}{' on one day' if back else ''})"
    if np.isfinite(later) and abs(np.log(later)) < 0.25 * size:
        return "(and back, as an error)"
    for ratio in _SPLITS:
        if abs(size - np.log(ratio)) < _CLOSE:
            return (
                f"(as a split of {ratio:g}:1)"
                if move < 1
                else f"(as a reverse split of 1:{ratio:g})"
            )
    return ""


def describe_gaps(prices: Floats, dates: Dates, tickers: Tickers) -> list[str]:
    """A note on dates without a price between two prices of a stock, where there are many."""
    gaps: list[tuple[int, int, int]] = []  # length, row of the price after it, column
    for start in range(0, prices.shape[1], _TOGETHER):
        block = prices[:, start : start + _TOGETHER]
        source = last_known(block)[1]
        length = np.diff(source, axis=0) - 1
        ends = (length > MOST_GAP) & (source[:-1] >= 0)
        gaps += [(int(length[t, i]), int(t) + 1, start + int(i)) for t, i in np.argwhere(ends)]
    if not gaps:
        return []
    n_gaps = len(gaps)
    longest, t, i = min(gaps, key=lambda gap: (-gap[0], *gap[1:]))
    first = dates[t - longest]
    counted = "1 gap" if n_gaps == 1 else f"{n_gaps} gaps"
    which = "of" if n_gaps == 1 else "the longest of"
    note = (
        f"{counted} of more than {MOST_GAP} dates without a price, {which} {tickers[i]} from "
        f"{first} to {dates[t - 1]} ({longest} dates): who held the stock then keeps it "
        "at its last price"
    )
    return [note]


def describe_ends(prices: Floats, dates: Dates, tickers: Tickers) -> list[str]:
    """A note on stocks whose prices end before the data do, and on those that fell before."""
    known = ~np.isnan(prices)
    last = len(prices) - 1 - np.argmax(known[::-1], axis=0)
    ended = np.flatnonzero(known.any(axis=0) & (last < len(prices) - 1 - MOST_GAP))
    if not len(ended):
        return []
    ended = ended[np.argsort(last[ended], kind="stable")]
    told = [f"{tickers[i]} on {dates[last[i]]}" for i in ended[:EXAMPLES]]
    one = len(ended) == 1
    note = (
        f"{'1 stock ends' if one else f'{len(ended)} stocks end'} before the last date "
        f"({_listed(told, ended)}): who holds {'it' if one else 'one'} then gets its last price"
    )
    fallen = []
    for i in ended:
        line = prices[max(0, last[i] - FAILED_OVER) : last[i] + 1, i]
        if prices[last[i], i] < (1.0 - FAILED) * np.nanmax(line):
            fallen.append(str(tickers[i]))
    if fallen:
        note += (
            f"; {_listed(fallen[:EXAMPLES], fallen)} had lost more than half in {FAILED_OVER} "
            "dates: if shares became worthless, their last price has to say so"
        )
    return [note]


def _move(ratio: float) -> str:
    return f"{ratio - 1.0:+,.0%}"


def _listed(told: Sequence[str], whole: Sequence[object] | NDArray[np.int64]) -> str:
    more = len(whole) - len(told)
    return ", ".join(told) + (f" and {more} more" if more > 0 else "")
