"""Tails of samples that lie along the last axis, with gaps.

VaR and CVaR follow `stats.metrics`: linear interpolation between order statistics for the one,
the last day in part for the other; losses are positive. NaN is missing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError

__all__ = ["TailForecast", "check_window", "quotient", "tail_of"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class TailForecast(NamedTuple):
    """Forecast tail of the next day's return.

    Attributes
    ----------
    var, cvar : ndarray
        Value at risk and expected shortfall, positive fractions; NaN where there is not enough
        history.
    """

    var: FloatArray
    cvar: FloatArray


def tail_of(x: FloatArray, share: float, min_count: int) -> TailForecast:
    """VaR and CVaR of the known values along the last axis.

    Parameters
    ----------
    x : ndarray of shape (..., n)
        Samples; NaN is left out.
    share : float
        Share of the days beyond the VaR, ``1 - level``, in (0, 1).
    min_count : int
        Known values needed, at least 1; NaN below.

    Returns
    -------
    TailForecast
        Arrays of the leading shape of `x`.

    Examples
    --------
    >>> tail = tail_of(np.array([-0.03, -0.02, -0.01, 0.0, 0.01, np.nan]), 0.25, 3)
    >>> round(float(tail.var), 4), round(float(tail.cvar), 4)
    (0.02, 0.028)
    """
    width = x.shape[-1]
    count = width - np.isnan(x).sum(axis=-1)
    enough = count >= min_count
    n = np.where(enough, count, 1)
    deepest = min(int(share * width) + 1, width - 1)
    # The lowest order statistics; NaN sorts behind every number.
    worst = np.sort(np.partition(x, deepest, axis=-1)[..., : deepest + 1], axis=-1)
    position, mass = share * (n - 1), share * n
    low = position.astype(np.int64)
    between = position - low
    at_low, at_high = _pick(worst, low), _pick(worst, np.minimum(low + 1, n - 1))
    quantile = (1.0 - between) * at_low + between * at_high
    whole = mass.astype(np.int64)
    sums = np.cumsum(np.concatenate([np.zeros((*worst.shape[:-1], 1)), worst], axis=-1), axis=-1)
    mean = (_pick(sums, whole) + (mass - whole) * _pick(worst, whole)) / mass
    return TailForecast(np.where(enough, -quantile, np.nan), np.where(enough, -mean, np.nan))


def _pick(x: FloatArray, place: IntArray) -> FloatArray:
    return np.asarray(np.take_along_axis(x, place[..., None], axis=-1)[..., 0])


def check_window(window: int, min_count: int) -> None:
    """Refuse a window that cannot hold the known days asked for."""
    if not 1 <= min_count <= window:
        raise ConfigError(
            f"min_count is {min_count!r}; give a number of known days from 1 to the window of "
            f"{window!r} rows"
        )


def quotient(top: FloatArray, bottom: FloatArray) -> FloatArray:
    """Quotient, NaN over anything but a positive number."""
    out = np.full(np.broadcast(top, bottom).shape, np.nan)
    np.divide(top, bottom, out=out, where=np.greater(bottom, 0.0))
    return out
