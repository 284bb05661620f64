"""Past days as scenarios for a book: what its weights would have earned, and how wild they were.

The machinery of `var_forecast.scenario_var`, whose conventions hold here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from alphakeel.portfolio.tails import TailForecast, quotient, tail_of

__all__ = ["SETTLE", "blocks_of", "filtered_tail", "pasts", "scaled_weights"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Half-lives, in rows, of the two parts of a book's volatility in `scenario_var`, and the weight
# of a fall over that of a rise: chosen on US stocks of 2001 to 2011, see docs/value-at-risk.md.
OWN_HALFLIFE, STOCKS_HALFLIFE = 4.0, 2.0
FALL, RISE = 1.5, 0.5
# Rows before the window in which the volatility settles, ten half-lives; most rows of a block.
SETTLE = 40
BLOCK = 64


def filtered_tail(
    past: FloatArray, squares: FloatArray, window: int, share: float, min_count: int
) -> TailForecast:
    """Tail of each row's scenarios at the volatility of its last column."""
    own = past * past * np.where(past < 0.0, FALL, RISE)
    volatility = (_smooth(own, OWN_HALFLIFE) * _smooth(squares, STOCKS_HALFLIFE)) ** 0.25
    # Half of the rows to settle in have to be there: a volatility of two days scales nothing.
    settled = np.cumsum(~np.isnan(past), axis=1) >= SETTLE // 2
    volatility[~settled] = np.nan
    surprise = quotient(past[:, 1:], volatility[:, :-1])[:, -window:]
    tail = tail_of(surprise, share, min_count)
    return TailForecast(*(part * volatility[:, -1] for part in tail))


def _smooth(x: FloatArray, halflife: float) -> FloatArray:
    """Exponentially weighted mean of the exponentially weighted mean, along the last axis.

    The weights rise for a few rows before they fall: the newest value alone moves it little.
    """
    decay = 0.5 ** (1.0 / halflife)
    for _ in range(2):
        known = ~np.isnan(x)
        total = lfilter([1.0], [1.0, -decay], np.where(known, x, 0.0), axis=-1)
        x = quotient(total, lfilter([1.0], [1.0, -decay], known.astype(np.float64), axis=-1))
    return x


def pasts(weights: FloatArray, x: FloatArray, rows: IntArray, length: int) -> FloatArray:
    """Weighted sums of the stocks over the `length` rows up to each row, (n_rows, length).

    Missing stocks count as the weighted mean of the others; NaN where half of the weight or more
    is missing, and before the first row.
    """
    start = max(0, int(rows.min()) - length + 1)
    held = np.flatnonzero((weights != 0.0).any(axis=0))
    part, w = x[start : int(rows.max()) + 1, held], weights[:, held]
    known = ~np.isnan(part)
    size, total = np.abs(w), np.abs(w).sum(axis=1, keepdims=True)
    covered = size @ known.T.astype(np.float64)
    sums = w @ np.where(known, part, 0.0).T * quotient(total, covered)
    sums[covered <= 0.5 * total] = np.nan
    place = rows[:, None] - start + np.arange(1 - length, 1)
    taken = np.take_along_axis(sums, np.maximum(place, 0), axis=1)
    return np.where(place >= 0, taken, np.nan)


def blocks_of(rows: IntArray) -> Iterator[IntArray]:
    """Positions in `rows` in groups that lie close together in time."""
    order, begin = np.argsort(rows, kind="stable"), 0
    for i in range(1, len(order) + 1):
        far = i < len(order) and rows[order[i]] - rows[order[begin]] >= 5 * BLOCK
        if i == len(order) or i - begin == BLOCK or far:
            yield order[begin:i]
            begin = i


def scaled_weights(weights: FloatArray, volatility: FloatArray) -> FloatArray:
    """Weights times volatility; a stock without one has the mean of the others'."""
    size = np.where(np.isnan(volatility), 0.0, np.abs(weights))
    known = np.where(np.isnan(volatility), 0.0, volatility)
    mean = quotient((size * known).sum(axis=1), size.sum(axis=1))
    return np.where(
        weights == 0.0, 0.0, weights * np.where(np.isnan(volatility), mean[:, None], volatility)
    )
