"""Forward returns, which forecasts are measured by. The only file of the library that looks ahead.

A score at the close of day t is traded at the close of t + lag and earns from there on, so the
target at t for horizon h is ``log P(t+lag+h) - log P(t+lag)``. Training rows must end `lag + h`
rows before the first test row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats.cross_section import rank_scaled

__all__ = ["forward_returns", "holding_returns", "rank_forward"]

Array = NDArray[Any]


def forward_returns(
    price: Array, *, lag: int = 1, horizon: int, rows: NDArray[np.intp] | None = None
) -> NDArray[np.float64]:
    """Log return from the trade of a day's score until `horizon` days later, a fraction.

    `price` is what a holder earns by (`accounting_close` of a cleaned panel, or an adjusted close).
    NaN where either price is unknown or not above zero, and in the last ``lag + horizon`` rows.
    `rows` are the days that are asked for, all by default.

    Examples
    --------
    >>> price = np.exp(np.array([[0.0], [0.1], [0.3], [0.6]]))
    >>> forward_returns(price, lag=1, horizon=1)[:, 0].round(3)
    array([0.2, 0.3, nan, nan])
    """
    if lag < 0:
        raise ConfigError(f"lag is {lag}, but a trade cannot come before its score: give 0 or more")
    if horizon < 1:
        raise ConfigError(f"horizon is {horizon}, but a position is held for at least 1 row")
    if price.ndim != 2:
        raise DataError(f"price has shape {price.shape}; give (n_dates, n_assets)")
    days = np.arange(len(price)) if rows is None else rows
    out = np.full((len(days), price.shape[1]), np.nan)
    known = np.flatnonzero(days < len(price) - lag - horizon)
    traded = days[known] + lag
    out[known] = _log_price(price[traded + horizon]) - _log_price(price[traded])
    return out


def rank_forward(
    forward: Array, mask: Array | None = None, scale: Array | None = None
) -> NDArray[np.float32]:
    """Forward returns as per-date ranks of mean 0 and variance 1, float32, one layer per horizon.

    `forward` are `forward_returns` of any dates, (n_dates, n_assets, n_horizons): a date is ranked
    by itself. `mask` are the stocks to rank on each date, by what is known on that date; NaN where
    masked or unknown. `scale` is what a return is divided by before it is ranked, known on that
    date: with each stock's own volatility the rank is one of return for risk, and calm stocks are
    not crowded into the middle. A scale of zero, below zero or NaN is unknown.

    Examples
    --------
    >>> price = np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]])
    >>> forward = forward_returns(price, lag=0, horizon=1)[..., None]
    >>> rank_forward(forward)[0, :, 0].round(2)
    array([-1.22,  0.  ,  1.22], dtype=float32)
    >>> risk = np.array([[0.1, 0.1, 0.5], [0.1, 0.1, 0.5]])
    >>> rank_forward(forward, scale=risk)[0, :, 0].round(2)
    array([-1.22,  1.22,  0.  ], dtype=float32)
    """
    if scale is not None and scale.shape != forward.shape[:2]:
        raise DataError(
            f"scale has shape {scale.shape} and the returns {forward.shape}; give one each"
        )
    unit = None if scale is None else np.where(scale > 0.0, scale, np.nan)
    layers = [
        rank_scaled(layer if unit is None else layer / unit, mask)
        for layer in np.moveaxis(forward, -1, 0)
    ]
    return np.stack(layers, axis=2).astype(np.float32)


def holding_returns(
    returns: Array, decisions: NDArray[np.intp], until: NDArray[np.intp], *, lag: int = 1
) -> NDArray[np.float64]:
    """Daily returns of each decision's holding period, (n_decisions, longest period, n_assets).

    ``returns[decision + lag + 1 : until + lag + 1]``, `until` being the day of the next decision;
    NaN on the days after a shorter period, and throughout where a period ends after the last date.

    Examples
    --------
    >>> daily = np.array([[np.nan], [0.1], [0.2], [0.3]])
    >>> holding_returns(daily, np.array([0, 1]), np.array([1, 2]), lag=0)[..., 0]
    array([[0.1],
           [0.2]])
    >>> holding_returns(daily, np.array([0, 2]), np.array([2, 3]), lag=0)[..., 0]
    array([[0.1, 0.2],
           [0.3, nan]])
    """
    longest = int(np.max(until - decisions, initial=1))
    days_held = decisions[:, None] + lag + 1 + np.arange(longest)
    out = np.asarray(returns, dtype=np.float64)[np.minimum(days_held, len(returns) - 1)]
    last = until + lag
    out[(days_held > last[:, None]) | (last >= len(returns))[:, None]] = np.nan
    return out


def _log_price(price: Array) -> NDArray[np.float64]:
    out = np.full(price.shape, np.nan)
    np.log(price, out=out, where=price > 0.0)
    return out
