"""Bull, bear and range-bound markets in hindsight: labels that may only sort results.

They come from the turning points of an index. Everything here reads the future: a peak is known
to be one only after the fall. Nothing that decides a weight may use it; what can be known at a
close is in :mod:`.regimes`.

The label of row t describes the return of day t: the days after a peak up to and including the
trough are one falling leg.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError, DataError

__all__ = [
    "Regime",
    "TurningPoints",
    "check_prices",
    "filter_turning_points",
    "legs",
    "market_phases",
]

LabelArray = npt.NDArray[np.int8]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# Relative: far above the rounding of a sum of daily moves, far below any move.
ROUNDING = 1e-9


class Regime(IntEnum):
    """State of the market; arrays of labels hold these numbers as int8."""

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

    `Regime.BULL` from the day after a trough up to the peak, `Regime.BEAR` from the day after a
    peak up to the trough. The days up to the first turning point belong to the leg that it ends;
    the days after the last one, provisionally, to the leg that it begins. Without any turning point
    all are `Regime.UNKNOWN`.
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
    """Bull, bear and range-bound markets in hindsight: the default labels of reports.

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


class TurningPoints(NamedTuple):
    """Peaks and troughs in turn: the row of each, in order of time, and whether it is a peak."""

    rows: IntArray
    peak: BoolArray


def filter_turning_points(
    prices: FloatArray, *, rise: float = 0.20, fall: float = 0.15
) -> TurningPoints:
    """Turning points of the Lunde-Timmermann filter: moves of at least `rise` and `fall`.

    In a rising leg the highest price so far becomes a peak once a price lies `fall` (a fraction)
    below it; in a falling leg the lowest becomes a trough once a price lies `rise` above it. Equal
    thresholds make what chartists call a zigzag; 0.20 and 0.20 is the common definition of bull and
    bear markets. Only confirmed points are returned: the last leg has no end yet. Of equal extremes
    the last counts. A. Lunde, A. Timmermann (2004), doi:10.1198/073500104000000136.

    Examples
    --------
    >>> filter_turning_points(np.array([100, 110, 90, 80, 85, 100, 98.0]))
    TurningPoints(rows=array([1, 3]), peak=array([ True, False]))
    """
    values = check_prices(prices)
    if not rise > 0.0 or not 0.0 < fall < 1.0:
        raise ConfigError(f"rise is {rise!r} and fall {fall!r}; give fractions, 0.2 for 20 %.")
    rows: list[int] = []
    peak: list[bool] = []
    high = low = 0
    rising: bool | None = None
    for t, price in enumerate(values.tolist()):
        if rising is not False and price >= values[high]:
            high = t
        if rising is not True and price <= values[low]:
            low = t
        if rising is not False and price <= (1.0 - fall) * values[high]:
            rows.append(high)
            peak.append(True)
            rising, low = False, t
        elif rising is not True and price >= (1.0 + rise) * values[low]:
            rows.append(low)
            peak.append(False)
            rising, high = True, t
    return TurningPoints(np.array(rows, dtype=np.int64), np.array(peak, dtype=np.bool_))


def check_prices(prices: FloatArray) -> FloatArray:
    """An index level as float64, refused where it is too short, missing or not above 0."""
    values = np.asarray(prices, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise DataError(f"the index has shape {values.shape}; give one level for each of the days.")
    bad = ~(np.isfinite(values) & (values > 0.0))
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"the index is {values[row]} at row {row}; every day needs a level above 0."
        )
    return values
