"""Peaks and troughs of an index, in hindsight.

Everything here reads the future: a peak is known to be one only after the fall. Nothing that
decides a weight may use it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError, DataError

__all__ = ["TurningPoints", "check_prices", "filter_turning_points"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class TurningPoints(NamedTuple):
    """Peaks and troughs in turn.

    Attributes
    ----------
    rows : ndarray of shape (n_points,) of int
        Row of each, in order of time.
    peak : ndarray of shape (n_points,) of bool
        True for a peak, False for a trough; they alternate.
    """

    rows: IntArray
    peak: BoolArray


def filter_turning_points(
    prices: FloatArray, *, rise: float = 0.20, fall: float = 0.15
) -> TurningPoints:
    """Turning points of the Lunde-Timmermann filter: moves of at least `rise` and `fall`.

    In a rising leg the highest price so far becomes a peak once a price lies `fall` below it;
    in a falling leg the lowest becomes a trough once a price lies `rise` above it. Equal
    thresholds make what chartists call a zigzag.

    Parameters
    ----------
    prices : ndarray of shape (n_dates,)
        Level of the index, above 0.
    rise, fall : float, default=0.20 and 0.15
        Fractions of the trough's and of the peak's level. 0.20 and 0.20 is the common
        definition of bull and bear markets.

    Returns
    -------
    TurningPoints
        Confirmed ones; the last leg has no end yet. Of equal extremes the last counts.

    Raises
    ------
    ConfigError
        If a threshold is not positive, or `fall` is not below 1.
    DataError
        If prices are too few, missing or not above 0.

    References
    ----------
    A. Lunde, A. Timmermann (2004), Duration dependence in stock prices, Journal of Business &
    Economic Statistics 22(3), 253-273, doi:10.1198/073500104000000136.

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
