"""Rules of cleaning on plain arrays: (n_dates, n_assets) in, masks or values out, all causal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alphakeel.stats.crosssection import rank
from alphakeel.stats.timeseries import trailing_mean

__all__ = ["last_known", "liquidity", "smallest", "stale", "suspects", "too_many_missing"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_RECORD_WINDOW = 252
_LIQUIDITY_WINDOW = 60
_KNOWN_SCALE = 20  # returns before a stock's own scale is trusted
_SCALE_STEP = 0.02  # weight of the newest return: half-life of 34 days
_MEAN_TO_SIGMA = np.sqrt(np.pi / 2.0)  # mean |x| to standard deviation, under a normal
_CAP = 4.0  # sigmas that one return may contribute to the scale


def suspects(prices: Floats, sigmas: float, min_move: float) -> Bools:
    """Prices that jump too far to be believed before they are confirmed.

    Parameters
    ----------
    prices : ndarray of shape (n_dates, n_assets)
        Positive; NaN where missing.
    sigmas : float
        Robust standard deviations, per square root of days since the last good price ...
    min_move : float
        ... and fraction of that price, both of which a suspect move exceeds.

    Returns
    -------
    bool ndarray of shape (n_dates, n_assets)
        Never two suspect prices of a stock in succession.

    Examples
    --------
    >>> prices = np.tile([[100.0, 50.0, 20.0]], (30, 1))
    >>> prices[1::2] *= 1.01
    >>> prices[25, 0] = 1000.0
    >>> np.argwhere(suspects(prices, 8.0, 0.2)).tolist()
    [[25, 0]]
    """
    n_dates, n_assets = prices.shape
    logs = np.log(prices)
    suspect = np.zeros(prices.shape, dtype=bool)
    up = np.log1p(min_move)
    down = np.log1p(-min_move) if min_move < 1.0 else -np.inf

    last = np.full(n_assets, np.nan)  # last good log price
    last_row = np.zeros(n_assets)
    seen = np.zeros(n_assets, dtype=np.int32)  # returns that made the scale
    scale = np.zeros(n_assets)
    doubted = np.zeros(n_assets, dtype=bool)  # the stock's newest price was suspect
    for row in range(n_dates):
        now = logs[row]
        known = ~np.isnan(now)
        move = now - last
        root_days = np.sqrt(np.maximum(row - last_row, 1.0))
        own = seen >= _KNOWN_SCALE
        yardstick = scale
        if not own.all():
            typical = np.median(scale[own]) if own.any() else np.inf
            yardstick = np.where(own, scale, typical)
        jump = ((move > up) | (move < down)) & ~doubted
        if jump.any():
            jump &= np.abs(move) > sigmas * yardstick * root_days
            if 2 * np.count_nonzero(jump) > np.count_nonzero(known):
                jump[:] = False
            suspect[row] = jump
        good = known & ~jump
        size = np.minimum(_MEAN_TO_SIGMA * np.abs(move) / root_days, _CAP * yardstick)
        measured = good & ~np.isnan(size)
        step = np.maximum(_SCALE_STEP, 1.0 / (seen + 1.0))
        scale = np.where(measured, scale + step * (size - scale), scale)
        seen += measured
        last = np.where(good, now, last)
        last_row[good] = row
        doubted = np.where(known, jump, doubted)
    return suspect


def last_known(values: Floats) -> tuple[Floats, NDArray[np.int32]]:
    """Last value that is not NaN, the row itself included, and its row (-1: none).

    Examples
    --------
    >>> values, source = last_known(np.array([[np.nan], [2.0], [np.nan]]))
    >>> values.ravel(), source.ravel()
    (array([nan,  2.,  2.]), array([-1,  1,  1], dtype=int32))
    """
    rows = np.arange(len(values), dtype=np.int32)[:, None]
    source = np.where(np.isnan(values), np.int32(-1), rows)
    np.maximum.accumulate(source, axis=0, out=source)
    # Rows without any known value point at row 0 of their column, which is NaN there.
    return np.take_along_axis(values, np.maximum(source, 0), axis=0), source


def too_many_missing(missing: Bools, active: Bools, max_missing: float) -> Bools:
    """Share of days without a price among the listed days of the trailing year."""
    lost, listed = (np.cumsum(mask, axis=0, dtype=np.int32) for mask in (missing, active))
    for total in (lost, listed):
        total[_RECORD_WINDOW:] -= total[:-_RECORD_WINDOW].copy()
    return lost > max_missing * listed


def stale(prices: Floats, volume: Floats | None, stale_days: int) -> Bools:
    """`stale_days` rows in a row whose price is not new and comes without volume.

    Parameters
    ----------
    prices : ndarray of shape (n_dates, n_assets)
        With gaps carried forward.
    volume : ndarray of shape (n_dates, n_assets), optional
        NaN or None: unknown, which cannot vouch for a repeated price.
    stale_days : int

    Returns
    -------
    bool ndarray of shape (n_dates, n_assets)

    Examples
    --------
    >>> stale(np.array([[5.0], [5.0], [5.0], [6.0]]), None, 2).ravel()
    array([False, False,  True, False])
    """
    idle = np.zeros(prices.shape, dtype=bool)
    idle[1:] = prices[1:] == prices[:-1]
    if volume is not None:
        idle &= ~(volume > 0.0)
    rows = np.arange(len(idle), dtype=np.int32)[:, None]
    awake = np.where(idle, np.int32(-1), rows)
    np.maximum.accumulate(awake, axis=0, out=awake)
    # A column idle since row 0 would start at -1, but row 0 is never idle.
    return rows - awake >= stale_days


def liquidity(prices: Floats, volume: Floats) -> Floats:
    """Mean of price x volume over the last 60 days, in the data's currency; NaN if none known."""
    # Absurd numbers may overflow to infinity: the top of any ranking, which is what they are.
    with np.errstate(over="ignore"):
        return trailing_mean(prices * volume, _LIQUIDITY_WINDOW, min_count=1)


def smallest(values: Floats, share: float, active: Bools) -> Bools:
    """Lowest `share` of each date's known values."""
    ranks = rank(values, active)
    known = np.count_nonzero(~np.isnan(ranks), axis=1)[:, None]
    return ranks <= share * known
