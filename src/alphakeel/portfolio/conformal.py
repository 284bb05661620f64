"""Keeping a value-at-risk forecast honest by its own record, whatever the market turns into.

`tracking_scale` gives a factor by which to multiply a base forecast (its VaR, and its CVaR with
it), from how often the product was exceeded so far. It assumes nothing about the returns: over
a long run the share of exceedances comes to ``1 - level`` by construction. Row t of a forecast is
about the return of row t + 1, so the factor on row t knows the returns up to row t.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError, DataError

__all__ = ["tracking_scale"]

FloatArray = npt.NDArray[np.float64]


def tracking_scale(
    returns: FloatArray, forecast: FloatArray, *, level: float = 0.95, rate: float = 0.01
) -> FloatArray:
    """Factor that follows the quantile: a step up at an exceedance, a small one down otherwise.

    ``c <- c + rate * (exceeded - (1 - level))``, starting from 1: quantile tracking, the
    proportional part of conformal PID control, on losses in units of the base forecast. After n
    judged days the share of exceedances is ``1 - level + (c - 1) / (rate * n)``, exactly.

    Parameters
    ----------
    returns : ndarray of shape (n_dates,) or (n_dates, n_series)
        Simple returns per day, fractions; NaN where there is none.
    forecast : ndarray of the shape of `returns`
        Base forecast of the value at risk, a positive fraction, on the row before the day that
        it is about. A day without a forecast, or with 0 (all cash), is not judged.
    level : float, default=0.95
        Confidence, in (0, 1).
    rate : float, default=0.01
        Size of a step, in units of the base forecast: 0.01 adds 0.95 % of it after an
        exceedance and takes 0.05 % away on each other day. 0 leaves the base as it is.

    Returns
    -------
    ndarray of the shape of `returns`
        The factor known at each close.

    Raises
    ------
    ConfigError
        If `level` or `rate` is out of range.
    DataError
        If the shapes differ or a value is infinite.

    References
    ----------
    Angelopoulos, A. N., Candes, E. J. and Tibshirani, R. J. (2023). Conformal PID control for
    time series prediction. NeurIPS 36. https://doi.org/10.48550/arXiv.2307.16895

    Examples
    --------
    >>> returns = np.array([0.0, -0.03, 0.01])
    >>> tracking_scale(returns, np.full(3, 0.02), rate=0.1)
    array([1.   , 1.095, 1.09 ])
    """
    r, base = check_pair(returns, forecast)
    share = check_level(level)
    if not 0.0 <= rate < np.inf:
        raise ConfigError(f"rate is {rate!r}; give a step of 0 or more")
    scale = np.ones_like(r)
    for t in range(1, len(r)):
        with np.errstate(invalid="ignore"):
            exceeded = r[t] < -scale[t - 1] * base[t - 1]
        judged = ~np.isnan(r[t]) & (base[t - 1] > 0.0)
        scale[t] = scale[t - 1] + np.where(judged, rate * (exceeded - share), 0.0)
    return scale


def check_pair(returns: FloatArray, forecast: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns and forecasts as float64 of one shape, refused where infinite."""
    r, base = np.asarray(returns, dtype=np.float64), np.asarray(forecast, dtype=np.float64)
    if r.ndim not in (1, 2) or r.shape != base.shape:
        raise DataError(
            f"returns {r.shape} and forecast {base.shape} have to be of one shape, (n_dates,) or "
            "(n_dates, n_series)"
        )
    if np.isinf(r).any() or np.isinf(base).any():
        raise DataError("returns or forecast hold an infinite value; mark a missing day with NaN")
    return r, base


def check_level(level: float) -> float:
    """Share of the days beyond the forecast, ``1 - level``."""
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level must lie between 0 and 1 (0.95 is 95 %), got {level!r}.")
    return round(1.0 - level, 12)
