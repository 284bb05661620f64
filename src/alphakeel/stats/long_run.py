"""Variance of a mean over days that depend on each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import irfft, next_fast_len, rfft

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats.blocks import check_returns

__all__ = ["cosine_variance", "long_run_variance"]

Array = NDArray[np.float64]


def long_run_variance(series: ArrayLike) -> Array:
    """Variance of the root of n times the mean, of each column, by Andrews and Monahan.

    A first-order autoregression (coefficient within 0.97) is taken out, the variance of what is
    left is estimated with the quadratic spectral kernel and its automatic bandwidth, and the
    autoregression is put back. Scaled by ``n / (n - 4)`` as in Ledoit and Wolf (2008).

    Parameters
    ----------
    series : array of shape (n_dates, n_series)
        Mean zero.

    Returns
    -------
    ndarray of shape (n_series,)

    References
    ----------
    Andrews, D. W. K. and Monahan, J. C. (1992). An improved heteroskedasticity and autocorrelation
    consistent covariance matrix estimator. Econometrica 60, 953-966.
    https://doi.org/10.2307/2951574

    Examples
    --------
    >>> noise = np.random.default_rng(0).standard_normal((5000, 1))
    >>> long_run_variance(noise).round(1)
    array([1.])
    """
    x = check_returns(series, "series", ndim=(2,))
    n = len(x)
    if n < 10:
        raise DataError(f"{n} days are too few for a robust standard error; at least 10 needed.")
    own = np.clip(_slope(x), -0.97, 0.97)
    left = x[1:] - own * x[:-1]
    again = np.clip(_slope(left), -0.97, 0.97)
    bandwidth = 1.3221 * (4.0 * again**2 / (1.0 - again) ** 4 * len(left)) ** 0.2
    width = next_fast_len(2 * len(left))
    spectrum = rfft(left, width, axis=0)
    lags = np.arange(1, len(left))[:, None]
    products = irfft(np.abs(spectrum) ** 2, width, axis=0)[: len(left)] / len(left)
    weights = _quadratic_spectral(lags / np.maximum(bandwidth, 1e-12))
    total = products[0] + 2.0 * (weights * products[1:]).sum(axis=0)
    return np.asarray(total / (1.0 - own) ** 2 * (n / (n - 4.0)))


def cosine_variance(series: ArrayLike, n_waves: int) -> Array:
    """Variance of the root of n times the mean, of each column, from its slowest waves.

    The mean square of the projections on the first `n_waves` cosines, ``sqrt(2 / n) cos(pi j (t +
    1/2) / n)``. It sees dependence that lasts for a good part of the days, as spells of volatility
    do; with it a mean over its standard error follows Student's t of `n_waves` degrees of freedom.

    Parameters
    ----------
    series : array of shape (n_dates, n_series)
    n_waves : int
        At least 1, below n_dates. Fewer waves: a rougher variance with less bias.

    Returns
    -------
    ndarray of shape (n_series,)

    References
    ----------
    Lazarus, E., Lewis, D. J., Stock, J. H. and Watson, M. W. (2018). HAR inference: recommendations
    for practice. Journal of Business and Economic Statistics 36, 541-559.
    https://doi.org/10.1080/07350015.2018.1506926

    Examples
    --------
    >>> noise = np.random.default_rng(0).standard_normal((5000, 1))
    >>> cosine_variance(noise, 400).round(1)
    array([1.])
    """
    x = check_returns(series, "series", ndim=(2,))
    n = len(x)
    if not 1 <= n_waves < n:
        raise ConfigError(f"n_waves must be at least 1 and below the {n} days, got {n_waves}.")
    waves = np.cos(np.pi / n * np.outer(np.arange(1, n_waves + 1), np.arange(n) + 0.5))
    return np.asarray(2.0 / n * np.square(waves @ x).mean(axis=0))


def _slope(x: Array) -> Array:
    """Each column on its day before, through the origin; 0 where it does not move."""
    square = (x[:-1] * x[:-1]).sum(axis=0)
    product = (x[1:] * x[:-1]).sum(axis=0)
    return np.divide(product, square, out=np.zeros_like(square), where=square > 0.0)


def _quadratic_spectral(x: Array) -> Array:
    """Kernel weights at positive x; the formula loses its digits below 0.01, where it is 1."""
    y = 1.2 * np.pi * np.maximum(x, 0.01)
    return np.asarray(3.0 / y**2 * (np.sin(y) / y - np.cos(y)))
