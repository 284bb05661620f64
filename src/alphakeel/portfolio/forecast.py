"""Forecasts of risk: what is known at each close about the risk of the next days.

Everything is causal: the value on row t is computed from rows up to t. Missing returns are
NaN and are left out, never filled with zero.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats import timeseries

__all__ = ["ew_volatility", "portfolio_volatility"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def ew_volatility(
    returns: FloatArray,
    *,
    halflife: float = 30.0,
    min_count: int = 20,
    annualise: float | None = 252.0,
) -> FloatArray:
    """Exponentially weighted volatility of every stock, known at each close.

    The root of the weighted mean of squared returns (the mean return is taken as zero, as in
    RiskMetrics), ``sum_k d^k r_{t-k}^2 / sum_k d^k`` over the returns that exist, with
    ``d = 0.5^(1 / halflife)`` a row.

    Parameters
    ----------
    returns : ndarray of shape (n_dates, n_assets)
        Simple or log returns as fractions; NaN where there is none.
    halflife : float, default=30.0
        Rows after which a return weighs half.
    min_count : int, default=20
        Returns needed before an answer is given.
    annualise : float, optional
        Periods a year; None leaves the volatility per period.

    Returns
    -------
    ndarray of shape (n_dates, n_assets)
        Volatility as a fraction; NaN before `min_count` returns. Where a return is missing, the
        last estimate stands.

    Raises
    ------
    ConfigError
        If `halflife` or `min_count` is out of range.
    DataError
        If `returns` is not two-dimensional or has infinite values.

    References
    ----------
    J.P. Morgan/Reuters (1996), RiskMetrics Technical Document, 4th edition, section 5.2.

    Examples
    --------
    >>> returns = np.array([[0.01], [-0.01], [np.nan], [0.01]])
    >>> ew_volatility(returns, halflife=2, min_count=2, annualise=None).ravel()
    array([ nan, 0.01, 0.01, 0.01])
    """
    returns = _check_returns(returns)
    if not halflife > 0.0 or min_count < 1:
        raise ConfigError(
            f"halflife is {halflife!r} and min_count {min_count!r}; both have to be positive"
        )
    per_row = timeseries.ew_volatility(returns, halflife, min_count=min_count)
    return np.asarray(per_row * np.sqrt(1.0 if annualise is None else annualise))


def portfolio_volatility(
    weights: FloatArray,
    returns: FloatArray,
    rows: IntArray,
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
    weights : ndarray of shape (n_rows, n_assets)
        Weights by decision; a row of NaN gives NaN.
    returns : ndarray of shape (n_dates, n_assets)
        Simple returns as fractions; NaN where there is none. A missing return counts as the
        weighted mean of the others on that day.
    rows : ndarray of shape (n_rows,) of int
        Row of `returns` on which each decision is made: the last one that it may use.
    halflife : float, default=20.0
        Rows after which a return weighs half.
    window : int, default=252
        Rows of returns used.
    min_count : int, default=20
        Portfolio returns needed before an answer is given.
    annualise : float, optional
        Periods a year; None leaves the volatility per period.

    Returns
    -------
    ndarray of shape (n_rows,)
        Volatility as a fraction; NaN where fewer than `min_count` returns are known; 0 for a
        portfolio in cash.

    Raises
    ------
    ConfigError
        If a length is out of range.
    DataError
        If shapes do not fit or `returns` has infinite values.

    Examples
    --------
    >>> returns = np.tile([[0.01], [-0.01]], (20, 2))
    >>> portfolio_volatility(np.array([[0.3, 0.2]]), returns, np.array([39]), annualise=None)
    array([0.005])
    """
    returns = _check_returns(returns)
    rows = check_rows(rows, len(weights), len(returns))
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
    variance = np.full(len(rows), np.nan)
    for i, row in enumerate(rows.tolist()):
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


def check_rows(rows: IntArray, n_rows: int, n_dates: int) -> IntArray:
    """Decision rows as an array, refused where they do not point into the dates."""
    rows = np.asarray(rows)
    if rows.shape != (n_rows,) or not np.issubdtype(rows.dtype, np.integer):
        raise DataError(
            f"rows has shape {rows.shape}; give one whole number for {n_rows} decisions"
        )
    if rows.size and (rows.min() < 0 or rows.max() >= n_dates):
        raise DataError(f"rows run from {rows.min()} to {rows.max()} but there are {n_dates} dates")
    return rows


def _check_returns(returns: FloatArray) -> FloatArray:
    returns = np.asarray(returns, dtype=np.float64)
    if returns.ndim != 2:
        raise DataError(f"returns have shape {returns.shape}; give (n_dates, n_assets)")
    if np.isinf(returns).any():
        row, column = np.argwhere(np.isinf(returns))[0]
        raise DataError(f"returns[{row}, {column}] is infinite; mark a missing return with NaN")
    return returns
