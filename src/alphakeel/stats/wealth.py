"""Paths of wealth and of weights: drawdowns, trades, and what holding a portfolio earns."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from alphakeel.errors import DataError
from alphakeel.stats.series import Array, Statistic, check_returns, refuse_ruin

__all__ = ["drawdown_series", "held_path", "max_drawdown", "turnover"]


def drawdown_series(returns: ArrayLike) -> Array:
    """Loss since the highest wealth so far, day by day; the start counts as wealth 1.

    Returns
    -------
    ndarray of the shape of `returns`
        Positive fractions, 0 at a new high. The value of a day depends on the past alone.

    Examples
    --------
    >>> drawdown_series([0.10, -0.50, 0.20])
    array([0. , 0.5, 0.4])
    """
    r = check_returns(returns, least=1)
    refuse_ruin(r)
    wealth = np.cumprod(1.0 + r, axis=0)
    peak = np.maximum.accumulate(np.maximum(wealth, 1.0), axis=0)
    return 1.0 - wealth / peak


def max_drawdown(returns: ArrayLike) -> Statistic:
    """Largest loss from a peak of compounded wealth, a positive fraction.

    Examples
    --------
    >>> float(max_drawdown([0.10, -0.50, 0.20]))
    0.5
    """
    return np.max(drawdown_series(returns), axis=0)


def turnover(weights: ArrayLike, previous: ArrayLike | None = None) -> Array:
    """Share of wealth traded at each step of a path of weights: the sum of absolute changes.

    Both sides count: replacing the whole portfolio is a turnover of 2. Drift of the weights by
    returns is not undone here; the ledger of a backtest does that.

    Parameters
    ----------
    weights : array of shape (n_dates, n_assets)
        Fractions of wealth; the rest is cash.
    previous : array of shape (n_assets,), optional
        Weights before the first step; cash by default.

    Returns
    -------
    ndarray of shape (n_dates,)

    Examples
    --------
    >>> turnover([[0.5, 0.5], [1.0, 0.0], [1.0, 0.0]])
    array([1., 1., 0.])
    """
    w = check_returns(weights, least=1, name="weights")
    if w.ndim != 2:
        raise DataError(f"weights must have shape (n_dates, n_assets), got {w.shape}.")
    before = np.zeros(w.shape[1]) if previous is None else np.asarray(previous, dtype=np.float64)
    if before.shape != w.shape[1:]:
        raise DataError(f"previous weights have shape {before.shape}; expected {w.shape[1:]}.")
    return np.abs(np.diff(w, axis=0, prepend=before[None])).sum(axis=1)


def held_path(
    weights: ArrayLike, returns: ArrayLike, *, cost_per_side: float = 0.0
) -> tuple[Array, Array]:
    """Daily net returns of a portfolio that is rebalanced every few days and drifts in between.

    Parameters
    ----------
    weights : array of shape (n_steps, n_assets)
        Fractions of wealth after each step's trade; the rest is cash, which earns nothing.
    returns : array of shape (n_steps, n_days, n_assets)
        Simple returns per day from each trade to the next, fractions; NaN counts as 0 (a stock
        that is not priced keeps its value).
    cost_per_side : float, default=0.0
        Share of the value traded, taken from wealth before the first day of the step.

    Returns
    -------
    returns : ndarray of shape (n_steps * n_days,)
        Simple net returns per day.
    turnover : ndarray of shape (n_steps,)
        Sum of absolute trades over wealth, both sides, against the weights as they drifted; the
        first trade comes from cash.

    Examples
    --------
    >>> net, traded = held_path([[1.0], [0.5]], [[[0.1], [0.0]], [[0.2], [0.2]]])
    >>> net.round(4), traded
    (array([0.1   , 0.    , 0.1   , 0.1091]), array([1. , 0.5]))
    """
    w, r = np.asarray(weights, dtype=np.float64), np.asarray(returns, dtype=np.float64)
    if w.ndim != 2 or r.ndim != 3 or w.shape != (r.shape[0], r.shape[2]):
        raise DataError(
            f"weights {w.shape} and returns {r.shape} do not fit: give (n_steps, n_assets) and "
            "(n_steps, n_days, n_assets)."
        )
    growth = np.cumprod(1.0 + np.where(np.isfinite(r), r, 0.0), axis=1)
    # Matrix products, date by date; the cash beside the stocks keeps its value.
    value = 1.0 + np.matmul(growth - 1.0, w[:, :, None])[..., 0]
    drifted = w * growth[:, -1] / np.where(value[:, -1:] > 0.0, value[:, -1:], 1.0)
    before = np.concatenate([np.zeros((1, w.shape[1])), drifted[:-1]])
    traded = np.abs(w - before).sum(axis=1)
    previous = np.concatenate([np.ones((len(value), 1)), value[:, :-1]], axis=1)
    gains = value / np.where(previous > 0.0, previous, 1.0)
    gains[:, 0] *= 1.0 - cost_per_side * traded
    return (gains - 1.0).ravel(), traded
