"""Forecasts of volatility: what is known at each close about the risk of the next days.

Everything is causal: the value on row t is computed from rows up to t. Missing returns are
NaN and are left out, never filled with zero.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats import rolling
from alphakeel.stats.performance import check_labels, check_labels_at

__all__ = [
    "portfolio_returns",
    "portfolio_volatility",
    "ew_volatility",
    "ex_ante_volatility",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Past errors count as a correction only once there are this many of them.
MIN_ERRORS = 60
# Of the variance. In 24 portfolio years of real prices it stayed between 0.77 and 1.76: the bounds
# keep one day like that of October 1987 from setting exposure for months.
CORRECTION_RANGE = (0.5, 2.0)


def ew_volatility(
    returns: FloatArray,
    *,
    halflife: float = 30.0,
    min_count: int = 20,
    annualise: float | None = 252.0,
) -> FloatArray:
    """Exponentially weighted volatility of every stock, known at each close, as a fraction.

    The root of the weighted mean of squared returns (the mean return is taken as zero, as in
    RiskMetrics), ``sum_k d^k r_{t-k}^2 / sum_k d^k`` over the returns that exist, with ``d = 0.5^(1
    / halflife)`` a row. `annualise` is in periods a year; None leaves the volatility per period.
    NaN before `min_count` returns; where a return is missing, the last estimate stands. RiskMetrics
    Technical Document (1996), section 5.2.
    """
    returns = _check_returns(returns)
    if not halflife > 0.0 or min_count < 1:
        raise ConfigError(
            f"halflife is {halflife!r} and min_count {min_count!r}; both have to be positive"
        )
    per_row = rolling.ew_volatility(returns, halflife, min_count=min_count)
    return np.asarray(per_row * np.sqrt(1.0 if annualise is None else annualise))


def ex_ante_volatility(
    weights: FloatArray,
    returns: FloatArray,
    decisions: IntArray,
    *,
    halflife: float = 20.0,
    window: int = 252,
    min_count: int = 20,
    annualise: float | None = 252.0,
) -> FloatArray:
    """Volatility of each decision's portfolio, from the past returns of those very weights.

    The weights of a decision are applied to the `window` rows of returns up to it and the
    portfolio's own squared returns are averaged with exponential weights. Correlations are in
    it without a matrix to estimate.

    Parameters
    ----------
    weights : ndarray of shape (n_decisions, n_assets)
        Weights by decision; a row of NaN gives NaN.
    returns : ndarray of shape (n_dates, n_assets)
        Simple returns as fractions; NaN where there is none. A missing return counts as the
        weighted mean of the others on that day.
    decisions : ndarray of shape (n_decisions,) of int
        Row of `returns` on which each decision is made: the last one that it may use.
    halflife, window, min_count
        In rows: after which a return weighs half, used at most, and needed.
    annualise : float, optional
        Periods a year; None leaves the volatility per period.

    Returns
    -------
    ndarray of shape (n_decisions,)
        Volatility as a fraction; NaN where fewer than `min_count` returns are known; 0 for a
        portfolio in cash.
    """
    check_labels_at(decisions, returns, weights=weights)
    returns, weights = _check_returns(returns), np.asarray(weights, dtype=np.float64)
    decisions = check_rows("decision rows", decisions, len(weights), len(returns))
    if not halflife > 0.0 or window < 1 or min_count < 1:
        raise ConfigError(
            f"halflife {halflife!r}, window {window!r} and min_count {min_count!r} "
            "have to be positive"
        )
    if weights.shape[1] != returns.shape[1]:
        raise DataError(f"weights are about {weights.shape[1]} stocks, returns {returns.shape[1]}")
    known = ~np.isnan(returns)
    filled = np.where(known, returns, 0.0)
    decay = 0.5 ** (np.arange(window)[::-1] / halflife)
    variance = np.full(len(decisions), np.nan)
    for i, row in enumerate(decisions.tolist()):
        held = np.flatnonzero(weights[i])
        total = weights[i, held].sum()
        if np.isnan(total) or held.size == 0:
            variance[i] = total
            continue
        past = slice(max(0, row - window + 1), row + 1)
        covered = known[past, held] @ weights[i, held]
        usable = covered > 0.5 * total
        if usable.sum() < min_count:
            continue
        earned = (filled[past, held] @ weights[i, held])[usable] * (total / covered[usable])
        weight = decay[-len(covered) :][usable]
        variance[i] = (weight @ earned**2) / weight.sum()
    return np.asarray(np.sqrt(variance * (1.0 if annualise is None else annualise)))


def check_rows(name: str, rows: IntArray, n_rows: int, n_dates: int) -> IntArray:
    """Rows as an array, `n_rows` of them, refused where they do not point into the dates."""
    rows = np.asarray(rows)
    if rows.shape != (n_rows,) or not np.issubdtype(rows.dtype, np.integer):
        raise DataError(
            f"{name} have shape {rows.shape}; give one whole number for each of the {n_rows}"
        )
    if rows.size and (rows.min() < 0 or rows.max() >= n_dates):
        raise DataError(
            f"{name} run from {rows.min()} to {rows.max()} but there are {n_dates} dates"
        )
    return rows


def _check_returns(returns: FloatArray) -> FloatArray:
    returns = np.asarray(returns, dtype=np.float64)
    if returns.ndim != 2:
        raise DataError(f"returns have shape {returns.shape}; give (n_dates, n_assets)")
    if np.isinf(returns).any():
        row, column = np.argwhere(np.isinf(returns))[0]
        raise DataError(f"returns[{row}, {column}] is infinite; mark a missing return with NaN")
    return returns


def portfolio_returns(net_returns: FloatArray, weights: FloatArray) -> FloatArray:
    """Net returns of a ledger as fractions, NaN where its weights held no stock overnight.

    Days in cash say nothing about the risk of the portfolio: counted as zeros they would make it
    look calm just after it is bought.
    """
    check_labels(net_returns=net_returns, weights=weights)
    invested = np.concatenate([[False], np.asarray(weights)[:-1].any(axis=1)])
    return np.where(invested, net_returns, np.nan)


def portfolio_volatility(
    returns: FloatArray,
    *,
    halflife: float = 10.0,
    correction_halflife: float | None = 60.0,
    lag: int = 1,
    min_count: int = 20,
    history: FloatArray | None = None,
    periods_per_year: float = 252.0,
) -> FloatArray:
    """Forecast of a portfolio's volatility from its own returns, corrected for its own past errors.

    The exponentially weighted variance ``v_t`` of the portfolio's returns, times the exponentially
    weighted mean of ``r_s^2 / v_{s-1-lag}`` over s <= t: how much larger the squares have turned
    out than the forecasts that were in force when they were earned. Without that factor realised
    volatility lies above the target in years in which volatility rises, since a trailing mean lags
    and exposure is the inverse of a noisy forecast.

    Parameters
    ----------
    returns : ndarray of shape (n_dates,)
        Simple returns of the portfolio; NaN is left out (:func:`portfolio_returns`).
    halflife : float, default=10.0
        Half-life of the variance, in rows.
    correction_halflife : float, optional
        Half-life of the correction, in rows, 60 by default; None does not correct.
    lag : int, default=1
        Rows between decision and trade: the forecast is for the day after the trade.
    min_count : int, default=20
        Returns needed for a forecast. The correction begins after 60 errors.
    history : ndarray of shape (n_earlier,), optional
        Returns of something like the portfolio on the rows before, such as the equal-weight average
        of the stocks: it fills the start, and fades.
    periods_per_year : float, default=252

    Returns
    -------
    ndarray of shape (n_dates,)
        Annual volatility as a fraction; NaN while there are too few returns.

    Examples
    --------
    >>> returns = np.tile([0.01, -0.01], 50)
    >>> portfolio_volatility(returns)[-1:].round(4)
    array([0.1587])
    """
    if not halflife > 0.0 or min_count < 1:
        raise ConfigError(
            f"halflife is {halflife!r} and min_count {min_count!r}; both have to be positive"
        )
    if lag != int(lag) or lag < 0:
        raise ConfigError(f"lag is {lag!r}; give a whole number of rows, at least 0")
    returns = check_series("returns", returns, len(np.atleast_1d(returns)))
    earlier = np.empty(0)
    if history is not None:
        earlier = check_series("history", history, len(np.atleast_1d(history)))
    squares = np.square(np.concatenate([earlier, returns]))
    variance = rolling.ewma(squares, halflife, min_count=min_count)
    if correction_halflife is not None:
        forecast = rolling.lag(variance, 1 + lag)
        errors = np.full(len(squares), np.nan)
        np.divide(squares, forecast, out=errors, where=forecast > 0.0)
        bias = rolling.ewma(errors, correction_halflife, min_count=MIN_ERRORS)
        variance = variance * np.where(np.isnan(bias), 1.0, np.clip(bias, *CORRECTION_RANGE))
    return np.asarray(np.sqrt(variance[len(earlier) :] * periods_per_year))


def check_series(name: str, values: FloatArray, n_dates: int) -> FloatArray:
    """One finite number or NaN a date, as float64."""
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (n_dates,) or n_dates < 1:
        raise DataError(f"{name} have shape {values.shape}; give one number for {n_dates} dates")
    if np.isinf(values).any():
        row = int(np.isinf(values).argmax())
        raise DataError(f"{name}[{row}] is infinite; mark an unknown value with NaN")
    return values
