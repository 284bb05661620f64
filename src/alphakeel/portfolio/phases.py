"""Bull, bear and range-bound markets in hindsight: labels that may only sort results.

They come from turning points that are known only later. Nothing that decides a weight may use
them; what can be known at a close is in :mod:`.regimes`.

The label of row t describes the return of day t: the days after a peak up to and including the
trough are one falling leg.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError
from alphakeel.portfolio.turning_points import (
    FloatArray,
    TurningPoints,
    check_prices,
    filter_turning_points,
)

__all__ = ["Regime", "legs", "market_phases"]

LabelArray = npt.NDArray[np.int8]

# Relative: far above the rounding of a sum of daily moves, far below any move.
ROUNDING = 1e-9


class Regime(IntEnum):
    """State of the market; arrays of labels hold these numbers as int8.

    Examples
    --------
    >>> [regime.text for regime in Regime]
    ['not labelled', 'bear', 'range-bound', 'bull']
    """

    UNKNOWN = -2
    BEAR = -1
    RANGE_BOUND = 0
    BULL = 1

    @property
    def text(self) -> str:
        """The name as a reader of a table sees it."""
        return ("not labelled", "bear", "range-bound", "bull")[self + 2]


def legs(points: TurningPoints, n_dates: int) -> LabelArray:
    """Rising (bull) and falling (bear) legs between turning points, one label a day.

    Parameters
    ----------
    points : TurningPoints
    n_dates : int

    Returns
    -------
    ndarray of shape (n_dates,) of int8
        `Regime.BULL` from the day after a trough up to the peak, `Regime.BEAR` from the day after
        a peak up to the trough. The days up to the first turning point belong to the leg that it
        ends; the days after the last one to the leg that it begins, provisionally. Without any
        turning point all are `Regime.UNKNOWN`.

    Examples
    --------
    >>> legs(TurningPoints(np.array([1, 3]), np.array([True, False])), 6)
    array([ 1,  1, -1, -1,  1,  1], dtype=int8)
    """
    if not len(points.rows):
        return np.full(n_dates, Regime.UNKNOWN, dtype=np.int8)
    behind = np.searchsorted(points.rows, np.arange(n_dates), side="left")
    falling = np.append(~points.peak, points.peak[-1])[behind]
    return np.where(falling, Regime.BEAR, Regime.BULL).astype(np.int8)


def market_phases(
    prices: FloatArray,
    *,
    rise: float = 0.10,
    fall: float = 0.10,
    window: int = 40,
    efficiency: float = 1.0,
) -> LabelArray:
    """Bull, bear and range-bound markets in hindsight: the labelling of reports by default.

    Bear: the falling legs of a zigzag. Range-bound: days of rising legs around which the index
    went nowhere: over `window` days on either side, as far as they belong to the same leg, its
    efficiency ratio (Kaufman's: net move over the sum of daily moves, in logs) is below
    `efficiency` times that of a random walk of as many steps, ``sqrt(1 / n_steps)``. Bull: the
    rest. Without the bound at the turning points a rebound would count as range-bound, since it
    undoes the fall before it.

    Parameters
    ----------
    prices : ndarray of shape (n_dates,)
        Level of the index, above 0.
    rise, fall : float, default=0.10
        Thresholds of the zigzag, as in `filter_turning_points`.
    window : int, default=40
        Days on either side; near turning points and the ends what days there are.
    efficiency : float, default=1.0
        0 labels no day range-bound.

    Returns
    -------
    ndarray of shape (n_dates,) of int8
        `Regime.BEAR`, `Regime.RANGE_BOUND` or `Regime.BULL`.

    Raises
    ------
    ConfigError
        If a threshold or `window` is out of range.
    DataError
        If prices are too few, missing or not above 0.

    References
    ----------
    P. J. Kaufman (1995), Smarter Trading, McGraw-Hill (efficiency ratio).

    Examples
    --------
    >>> flat = 100.0 + np.tile([0.0, 1.0], 100)
    >>> crash = np.linspace(100.0, 70.0, 30)
    >>> labels = market_phases(np.concatenate([flat, crash, np.linspace(70.0, 90.0, 60)]))
    >>> [Regime(label).text for label in labels[[50, 220, 280]]]
    ['range-bound', 'bear', 'bull']
    """
    values = check_prices(prices)
    if window < 1 or not efficiency >= 0.0:
        raise ConfigError(
            f"window is {window!r} and efficiency {efficiency!r}; give 1 or more and 0 or more."
        )
    level = np.log(values)
    travelled = np.append(0.0, np.cumsum(np.abs(np.diff(level))))
    rows = np.arange(len(level))
    points = filter_turning_points(values, rise=rise, fall=fall)
    edges = np.concatenate([[0], points.rows, [len(level) - 1]])
    behind = np.searchsorted(points.rows, rows, side="left")
    first = np.maximum(rows - window, edges[behind])
    last = np.minimum(rows + window, edges[behind + 1])
    net, steps = np.abs(level[last] - level[first]), np.maximum(last - first, 1)
    usual = efficiency * (travelled[last] - travelled[first]) / np.sqrt(steps)
    # A leg of one day has the ratio of a random walk of one step: no rounding may tip it.
    aimless = net < (1.0 - ROUNDING) * usual
    falling = legs(points, len(level)) == Regime.BEAR
    labels = np.where(aimless, Regime.RANGE_BOUND, Regime.BULL)
    return np.where(falling, Regime.BEAR, labels).astype(np.int8)
