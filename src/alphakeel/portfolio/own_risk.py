"""What a book's own returns say about its risk: the series that the overlay works with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats import timeseries

__all__ = ["book_returns", "book_volatility"]

FloatArray = npt.NDArray[np.float64]

# Past errors count as a correction only once there are this many of them.
MIN_ERRORS = 60
# Of the variance. In 24 book-years of real prices it stayed between 0.77 and 1.76: the bounds
# keep one day like that of October 1987 from setting exposure for months.
CORRECTION_RANGE = (0.5, 2.0)


def book_returns(net_returns: FloatArray, weights: FloatArray) -> FloatArray:
    """Net returns of a book, NaN where it held no stock overnight.

    Parameters
    ----------
    net_returns : ndarray of shape (n_dates,)
        `Ledger.net_returns`.
    weights : ndarray of shape (n_dates, n_assets)
        `Ledger.weights`.

    Returns
    -------
    ndarray of shape (n_dates,)
        Fractions. Days in cash say nothing about the risk of the book: counted as zeros they
        would make it look calm just after it is bought.

    Examples
    --------
    >>> weights = np.array([[0.0], [1.0], [1.0]])
    >>> book_returns(np.array([0.0, -0.001, 0.02]), weights)
    array([ nan,  nan, 0.02])
    """
    invested = np.concatenate([[False], np.asarray(weights)[:-1].any(axis=1)])
    return np.where(invested, net_returns, np.nan)


def book_volatility(
    returns: FloatArray,
    *,
    halflife: float = 10.0,
    correction_halflife: float | None = 60.0,
    lag: int = 1,
    min_count: int = 20,
    history: FloatArray | None = None,
    periods_per_year: float = 252.0,
) -> FloatArray:
    """Forecast of a book's volatility from its own returns, corrected for its own past errors.

    The exponentially weighted variance ``v_t`` of the book's returns, times the exponentially
    weighted mean of ``r_s^2 / v_{s-1-lag}`` over s <= t: how much larger the squares have turned
    out than the forecasts that were in force when they were earned. Without that factor realised
    volatility lies above the target in years in which volatility rises, since a trailing mean lags
    and exposure is the inverse of a noisy forecast.

    Parameters
    ----------
    returns : ndarray of shape (n_dates,)
        Simple returns of the book; NaN is left out (:func:`book_returns`).
    halflife : float, default=10.0
        Half-life of the variance, in rows.
    correction_halflife : float, optional
        Half-life of the correction, in rows, 60 by default; None does not correct.
    lag : int, default=1
        Rows between decision and trade: the forecast is for the day after the trade.
    min_count : int, default=20
        Returns needed before an answer is given. The correction begins after 60 errors.
    history : ndarray of shape (n_earlier,), optional
        Returns of something like the book on the rows before, such as the equal-weight average of
        the stocks: it fills the start, and fades.
    periods_per_year : float, default=252

    Returns
    -------
    ndarray of shape (n_dates,)
        Annual volatility as a fraction; NaN while there are too few returns.

    Raises
    ------
    ConfigError
        If a setting is out of range.
    DataError
        If a series is not one-dimensional or has infinite values.

    References
    ----------
    J.P. Morgan/Reuters (1996), RiskMetrics Technical Document, 4th edition, section 5.2.

    Examples
    --------
    >>> returns = np.tile([0.01, -0.01], 50)
    >>> book_volatility(returns)[-1:].round(4)
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
    variance = timeseries.ewma(squares, halflife, min_count=min_count)
    if correction_halflife is not None:
        forecast = timeseries.lag(variance, 1 + lag)
        errors = np.full(len(squares), np.nan)
        np.divide(squares, forecast, out=errors, where=forecast > 0.0)
        bias = timeseries.ewma(errors, correction_halflife, min_count=MIN_ERRORS)
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
