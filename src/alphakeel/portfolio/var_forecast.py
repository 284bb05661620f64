"""Forecasts of value at risk and expected shortfall, known at each close, about the next day.

Row t of every forecast uses rows up to t and is about the return of row t + 1. Returns are simple
daily returns as fractions; NaN is missing and left out, never zero. Forecasts are losses as
positive fractions. Quantiles and tail means follow `stats.metrics`: linear interpolation for VaR,
the last day in part for CVaR. The formulas and what was tried are in ``docs/value-at-risk.md``.

`scenario_var` gives today's weights the returns of the past; `book_var` is the default: scenarios,
kept honest by `conformal`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alphakeel.errors import DataError
from alphakeel.portfolio.conformal import check_level, tracking_scale
from alphakeel.portfolio.forecast import check_rows
from alphakeel.portfolio.scenarios import (
    SETTLE,
    blocks_of,
    filtered_tail,
    pasts,
    scaled_weights,
)
from alphakeel.portfolio.tails import (
    TailForecast,
    check_window,
    quotient,
    tail_of,
)
from alphakeel.stats import timeseries

__all__ = ["TailForecast", "book_var", "scenario_var"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def scenario_var(
    weights: FloatArray,
    returns: FloatArray,
    rows: IntArray,
    *,
    level: float = 0.95,
    window: int = 500,
    min_count: int = 100,
    volatility: FloatArray | None = None,
) -> TailForecast:
    """Tail of given weights: what they would have earned on past days, at today's volatility.

    Without `volatility` the book as a whole is filtered: its past returns under today's weights
    are divided by the volatility of the day before and multiplied by today's. That volatility is
    the geometric mean of two: of the book's own squared returns, where a fall weighs three times
    as much as a rise, and of the mean squared return of the stocks in it, each smoothed twice.

    With `volatility`, each stock's past returns are scaled by its own, before the weights.

    Parameters
    ----------
    weights : ndarray of shape (n_rows, n_assets)
        Weights held over the day after each row, shares of wealth, the rest in cash (such as
        ``Ledger.weights``, any exposure included); a row with NaN gives NaN.
    returns : ndarray of shape (n_dates, n_assets)
        Simple returns per day, fractions; NaN where there is none. A missing return counts as
        the weighted mean of the others on that day; a day with half of the book or less is left
        out.
    rows : ndarray of shape (n_rows,) of int
        Row of `returns` at the close of which each forecast is made.
    level : float, default=0.95
        Confidence, in (0, 1).
    window : int, default=500
        Past days used as scenarios.
    min_count : int, default=100
        Scenarios needed.
    volatility : ndarray of shape (n_dates, n_assets), optional
        Forecast of each stock's volatility known at each close, in any unit; NaN or 0 where
        there is none. A stock without one today counts as the others.

    Returns
    -------
    TailForecast
        Arrays of shape (n_rows,); 0 for a portfolio in cash.

    Raises
    ------
    ConfigError
        If a setting is out of range.
    DataError
        If shapes do not fit or `returns` has infinite values.

    References
    ----------
    Hull, J. and White, A. (1998). Incorporating volatility updating into the historical
    simulation method for value-at-risk. Journal of Risk 1(1), 5-19.
    https://doi.org/10.21314/JOR.1998.001

    Barone-Adesi, G., Giannopoulos, K. and Vosper, L. (1999). VaR without correlations for
    portfolios of derivative securities. Journal of Futures Markets 19(5), 583-602.

    Examples
    --------
    >>> returns = np.random.default_rng(0).normal(0.0, 0.01, (600, 4))
    >>> weights = np.array([[0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 0.0, 0.0]])
    >>> scenario_var(weights, returns, np.array([599, 599])).var.round(4)
    array([0.0092, 0.    ])
    """
    w, r = np.asarray(weights, dtype=np.float64), np.asarray(returns, dtype=np.float64)
    share = check_level(level)
    check_window(window, min_count)
    if w.ndim != 2 or r.ndim != 2 or w.shape[1] != r.shape[1]:
        raise DataError(
            f"weights {w.shape} and returns {r.shape} do not fit: give (n_rows, n_assets) and "
            "(n_dates, n_assets)"
        )
    if np.isinf(r).any():
        raise DataError("returns hold an infinite value; mark a missing return with NaN")
    rows = check_rows(rows, len(w), len(r))
    if volatility is not None:
        today = _check_volatility(volatility, r.shape)
        surprise = quotient(r, timeseries.lag(today, 1))
    var, cvar = np.full(len(w), np.nan), np.full(len(w), np.nan)
    length = window + SETTLE
    for members in blocks_of(rows):
        held = w[members]
        if volatility is None:
            past = pasts(held, r, rows[members], length)
            squares = pasts(np.abs(held), r * r, rows[members], length)
            tail = filtered_tail(past, squares, window, share, min_count)
        else:
            scaled = scaled_weights(held, today[rows[members]])
            past = pasts(scaled, surprise, rows[members], window)
            tail = tail_of(past, share, min_count)
        var[members], cvar[members] = tail
    var[(w == 0.0).all(axis=1)] = cvar[(w == 0.0).all(axis=1)] = 0.0
    return TailForecast(var, cvar)


def book_var(
    weights: FloatArray,
    returns: FloatArray,
    earned: FloatArray,
    *,
    first: int = 0,
    level: float = 0.95,
    window: int = 500,
    min_count: int = 100,
    rate: float = 0.01,
) -> TailForecast:
    """The default forecast for a portfolio that is held and changed day by day.

    `scenario_var` of the weights at every close, times the factor of
    `conformal.tracking_scale`, which keeps the exceedances of what the portfolio truly earned at
    ``1 - level``.

    Parameters
    ----------
    weights : ndarray of shape (n_days, n_assets)
        Weights after the trades of each close, such as ``Ledger.weights``, any exposure
        included.
    returns : ndarray of shape (n_dates, n_assets)
        Simple returns of the stocks, fractions; NaN where there is none. They may begin before
        and end after the days of the weights.
    earned : ndarray of shape (n_days,)
        Simple returns of the portfolio, such as ``Ledger.net_returns``.
    first : int, default=0
        Row of `returns` that is the first row of `weights` and `earned`.
    level : float, default=0.95
        Confidence, in (0, 1).
    window, min_count : int
        As in `scenario_var`.
    rate : float, default=0.01
        As in `conformal.tracking_scale`.

    Returns
    -------
    TailForecast
        Arrays of shape (n_days,); the last row is about the day after the last.

    Raises
    ------
    ConfigError
        If a setting is out of range.
    DataError
        If shapes do not fit or a value is infinite.

    Examples
    --------
    >>> returns = np.random.default_rng(0).normal(0.0, 0.01, (700, 4))
    >>> weights = np.full((200, 4), 0.25)
    >>> forecast = book_var(weights, returns, returns[500:].mean(axis=1), first=500)
    >>> forecast.var[[0, -1]].round(4), forecast.cvar[[0, -1]].round(4)
    (array([0.0097, 0.0072]), array([0.012 , 0.0101]))
    """
    days = np.arange(first, first + len(weights))
    base = scenario_var(weights, returns, days, level=level, window=window, min_count=min_count)
    scale = tracking_scale(earned, base.var, level=level, rate=rate)
    return TailForecast(base.var * scale, base.cvar * scale)


def _check_volatility(volatility: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    v = np.asarray(volatility, dtype=np.float64)
    if v.shape != shape or (v < 0.0).any() or np.isinf(v).any():
        raise DataError(
            f"volatility {v.shape} has to be finite, not negative, and of shape {shape}"
        )
    return np.where(v > 0.0, v, np.nan)
