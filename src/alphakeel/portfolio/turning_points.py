"""Peaks and troughs of an index, in hindsight.

Everything here reads the future: a peak is known to be one only after the fall. Nothing that
decides a weight may use it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError, DataError

__all__ = [
    "TurningPoints",
    "check_prices",
    "filter_turning_points",
    "monthly_turning_points",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
DateArray = npt.NDArray[np.datetime64]


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


def monthly_turning_points(
    prices: FloatArray,
    dates: DateArray,
    *,
    window: int = 8,
    censor: int = 6,
    least_cycle: int = 16,
    least_phase: int = 4,
    large: float = 0.20,
) -> TurningPoints:
    """Turning points of Pagan and Sossounov, dated on the last close of each month.

    A peak is the highest month-end level within `window` months on either side, a trough the
    lowest; of two peaks in a row the higher stays, of two troughs the lower. Then go, in this
    order: points within `censor` months of either end; a first or last point beyond which the
    series lies higher (peak) or lower (trough); cycles under `least_cycle` months (of two peaks
    the lower, of two troughs the higher goes); phases under `least_phase` months, unless the
    move is larger than `large`.

    Parameters
    ----------
    prices : ndarray of shape (n_dates,)
        Level of the index, daily, above 0.
    dates : ndarray of shape (n_dates,), datetime64
        Strictly ascending.
    window, censor, least_cycle, least_phase : int
        Months; the published values by default.
    large : float, default=0.20
        Fraction.

    Returns
    -------
    TurningPoints
        Rows of daily data on which the months end.

    Raises
    ------
    ConfigError
        If a length is negative or `window` is below 1.
    DataError
        If dates do not ascend or prices are unusable.

    Notes
    -----
    A crash that is made good within the window leaves no peak: the one of February and March
    2020 is not found, which is why this is not the labelling used by default.

    References
    ----------
    A. R. Pagan, K. A. Sossounov (2003), A simple framework for analysing bull and bear markets,
    Journal of Applied Econometrics 18(1), 23-46, doi:10.1002/jae.664.

    Examples
    --------
    >>> days = np.arange("2000-01", "2006-01", dtype="datetime64[M]").astype("datetime64[D]")
    >>> wave = 100.0 + 20.0 * np.sin(np.arange(72) * 2 * np.pi / 36)
    >>> monthly_turning_points(wave, days).rows
    array([ 9, 27, 45, 63])
    """
    values, days = check_prices(prices), np.asarray(dates)
    if days.shape != values.shape or not (days[1:] > days[:-1]).all():
        raise DataError(f"dates have shape {days.shape}; give one ascending date for each price.")
    if window < 1 or min(censor, least_cycle, least_phase) < 0:
        raise ConfigError("window has to be 1 month or more, and no length may be negative.")
    months = days.astype("datetime64[M]")
    ends = np.append(np.flatnonzero(months[1:] != months[:-1]), len(days) - 1)
    x = values[ends]
    padded = np.pad(x, window, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * window + 1)
    peaks = np.flatnonzero(x == np.nanmax(around, axis=1))
    troughs = np.flatnonzero(x == np.nanmin(around, axis=1))
    points = _alternate([*((int(t), True) for t in peaks), *((int(t), False) for t in troughs)], x)
    last = len(x) - 1
    points = _alternate([p for p in points if censor <= p[0] <= last - censor], x)
    points = _drop_beaten_ends(points, x)
    points = _merge_cycles(points, x, least_cycle)
    points = _merge_phases(points, x, least_phase, large)
    rows = ends[[t for t, _ in points]] if points else np.empty(0)
    return TurningPoints(rows.astype(np.int64), np.array([p for _, p in points], dtype=np.bool_))


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


Point = tuple[int, bool]


def _beats(a: int, b: int, peak: bool, x: FloatArray) -> bool:
    """Whether month a is the higher peak, or the lower trough."""
    return bool(x[a] > x[b]) if peak else bool(x[a] < x[b])


def _alternate(points: list[Point], x: FloatArray) -> list[Point]:
    """Of turning points of one kind in a row keep the most extreme."""
    kept: list[Point] = []
    for t, peak in sorted(points):
        if kept and kept[-1][1] == peak:
            if _beats(t, kept[-1][0], peak, x):
                kept[-1] = (t, peak)
        else:
            kept.append((t, peak))
    return kept


def _drop_beaten_ends(points: list[Point], x: FloatArray) -> list[Point]:
    """Drop a first or last turning point while a value between it and the end goes beyond it."""
    points = list(points)
    while points and any(_beats(t, points[0][0], points[0][1], x) for t in range(points[0][0])):
        points.pop(0)
    while points and any(
        _beats(t, points[-1][0], points[-1][1], x) for t in range(points[-1][0], len(x))
    ):
        points.pop()
    return points


def _merge_cycles(points: list[Point], x: FloatArray, least: int) -> list[Point]:
    """Remove cycles (peak to peak, trough to trough) of fewer than `least` months."""
    k = 0
    while k + 2 < len(points):
        (a, peak), (b, _) = points[k], points[k + 2]
        if b - a < least:
            points.pop(k + 2 if not _beats(b, a, peak, x) else k)
            points, k = _alternate(points, x), 0
        else:
            k += 1
    return points


def _merge_phases(points: list[Point], x: FloatArray, least: int, large: float) -> list[Point]:
    """Remove phases of fewer than `least` months whose move is not larger than `large`."""
    k = 0
    while k + 1 < len(points):
        (a, _), (b, _) = points[k], points[k + 1]
        if b - a < least and abs(x[b] / x[a] - 1.0) <= large:
            points, k = points[:k] + points[k + 2 :], 0
        else:
            k += 1
    return points
