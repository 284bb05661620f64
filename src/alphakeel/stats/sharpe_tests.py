r"""Do two Sharpe ratios differ: the test of Ledoit and Wolf, for several strategies at once.

The Sharpe ratio of day t's returns has the influence function

    psi[t] = (r[t] - mean) / std - sharpe / 2 * ((r[t] - mean)^2 / std^2 - 1),

and the estimated difference of two Sharpe ratios is, to first order, the true one plus the mean of
the difference of their influence functions. The delta method of the paper, with its four moments
and its gradient, is the variance of that mean; so one series a strategy is all that is needed.

Arguments and results are annual Sharpe ratios (ddof = 1, as `metrics.sharpe`); inside, they are
per day.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtr, ndtri

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats.blocks import check_returns, optimal_block_length

__all__ = ["SharpeDifference", "long_run_variance", "sharpe_differences", "sharpe_influence"]

Array = NDArray[np.float64]

# Block sums per chunk of resamples: 524 288 doubles are 4 MiB an array.
_CHUNK_VALUES = 524_288
_LEAST_BLOCK = 5
# One influence function has a variance of about 1: below this, two are one up to rounding.
_SAME = 1e-18


@dataclass(frozen=True)
class SharpeDifference:
    """A difference of two annual Sharpe ratios, with its interval and test.

    Attributes
    ----------
    estimate : float
        Strategy less baseline, annual.
    standard_error : float
        Annual, robust to autocorrelation, changing variance and fat tails.
    t : float
        Their ratio; NaN for two strategies that are one up to leverage.
    p_value : float
        Two-sided, of "no difference".
    low, high : float
        Limits of the interval, annual, symmetric about the estimate.
    level : float
        Confidence, for example 0.95.
    method : str
        "hac" or "bootstrap".
    block_length : int or None
        Days in a block of the bootstrap.
    """

    estimate: float
    standard_error: float
    t: float
    p_value: float
    low: float
    high: float
    level: float
    method: str
    block_length: int | None


def sharpe_differences(
    returns: ArrayLike,
    baseline: ArrayLike,
    *,
    method: str = "bootstrap",
    level: float = 0.95,
    n_boot: int = 1000,
    block_length: int | None = None,
    seed: int | np.random.Generator = 0,
    periods_per_year: float = 252,
) -> tuple[SharpeDifference, ...]:
    """Test whether the Sharpe ratios of strategies differ from that of a baseline.

    Parameters
    ----------
    returns : array of shape (n_dates,) or (n_dates, n_strategies)
        Simple returns per day, without NaN; in excess of cash if cash earns something.
    baseline : array of shape (n_dates,)
        The strategy that each is compared with, on the same days.
    method : {"bootstrap", "hac"}, default="bootstrap"
        hac: normal limits with a kernel standard error (prewhitened quadratic spectral, automatic
        bandwidth). bootstrap: the same standard error with critical values from studentised
        circular block resamples, which the authors recommend.
    level : float, default=0.95
    n_boot : int, default=1000
        Resamples; all strategies share their days.
    block_length : int, optional
        Days in a block. By default the longest that `optimal_block_length` finds for any of the
        differences of influence functions, rounded up, and 5 at least: where days are independent
        a week's blocks lose nothing and are five times as fast.
    seed : int or numpy.random.Generator, default=0
    periods_per_year : float, default=252

    Returns
    -------
    tuple of SharpeDifference, one per strategy
        NaN where a strategy or the baseline is constant; limits and p-value NaN where one is
        constant on a resample.

    Raises
    ------
    DataError
        If returns are missing or of different lengths.
    ConfigError
        If a setting is out of range, or fewer than two blocks fit into the days.

    References
    ----------
    Ledoit, O. and Wolf, M. (2008). Robust performance hypothesis testing with the Sharpe ratio.
    Journal of Empirical Finance 15, 850-859. https://doi.org/10.1016/j.jempfin.2008.03.002

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> market = rng.normal(0.0, 0.01, 1500)
    >>> better = market + rng.normal(0.0005, 0.003, 1500)
    >>> (gain,) = sharpe_differences(better, market, n_boot=200)
    >>> gain.low > 0.0, gain.p_value < 0.05
    (True, True)
    """
    r = check_returns(returns, "returns", ndim=(1, 2))
    b = check_returns(baseline, "baseline", ndim=(1,))
    if len(b) != len(r):
        raise DataError(f"returns cover {len(r)} days but the baseline {len(b)}.")
    if method not in ("hac", "bootstrap"):
        raise ConfigError(f"method must be 'hac' or 'bootstrap', got {method!r}.")
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level must lie between 0 and 1 (0.95 is 95 %), got {level!r}.")
    joined = np.column_stack([r, b])
    sharpe, influence = sharpe_influence(joined)
    gap = sharpe[:-1] - sharpe[-1]
    psi = influence[:, :-1] - influence[:, -1:]
    same = (psi * psi).mean(axis=0) <= _SAME
    apart = np.isfinite(gap) & ~same
    error = np.where(same, 0.0, np.nan)
    if apart.any():
        error[apart] = np.sqrt(long_run_variance(psi[:, apart]) / len(psi))
    t = np.divide(gap, error, out=np.full_like(gap, np.nan), where=apart)
    p, critical = np.where(same, 1.0, np.nan), np.where(same, 0.0, np.nan)
    length = None
    if method == "hac":
        p[apart], critical[apart] = 2.0 * ndtr(-np.abs(t[apart])), ndtri((1.0 + level) / 2.0)
    elif apart.any():
        length = block_length
        if length is None:
            own = (optimal_block_length(x, stationary=False) for x in psi[:, apart].T)
            length = int(np.ceil(max(_LEAST_BLOCK, *own)))
        pair = np.append(apart, True)
        drawn = np.abs(_studentised(joined[:, pair], sharpe[pair], length, n_boot, seed))
        above = ((drawn >= np.abs(t[apart])).sum(axis=0) + 1.0) / (n_boot + 1.0)
        p[apart] = np.where(np.isnan(drawn).any(axis=0), np.nan, above)
        critical[apart] = np.quantile(drawn, level, axis=0)
    # Annual, and from ddof = 0 to the library's ddof = 1.
    scale = np.sqrt(periods_per_year * (len(r) - 1) / len(r))
    return tuple(
        SharpeDifference(
            estimate=float(scale * gap[k]),
            standard_error=float(scale * error[k]),
            t=float(t[k]),
            p_value=float(p[k]),
            low=float(scale * (gap[k] - critical[k] * error[k])),
            high=float(scale * (gap[k] + critical[k] * error[k])),
            level=level,
            method=method,
            block_length=length,
        )
        for k in range(len(gap))
    )


def sharpe_influence(returns: ArrayLike) -> tuple[Array, Array]:
    """Sharpe ratios per day, and what each day adds to them.

    Parameters
    ----------
    returns : array of shape (n_dates, n_strategies)
        Simple returns per day, without NaN.

    Returns
    -------
    sharpe : ndarray of shape (n_strategies,)
        Mean over standard deviation (ddof = 0), per day; NaN if constant.
    influence : ndarray of shape (n_dates, n_strategies)
        Mean zero; its long-run variance over n_dates is the variance of `sharpe`.

    Examples
    --------
    >>> sharpe, influence = sharpe_influence(np.array([[0.01], [-0.01], [0.03]]))
    >>> sharpe.round(3), bool(abs(influence.mean()) < 1e-15)
    (array([0.612]), True)
    """
    r = check_returns(returns, "returns", ndim=(2,))
    still = r.max(axis=0) == r.min(axis=0)
    spread = np.where(still, np.nan, r.std(axis=0))
    sharpe = r.mean(axis=0) / spread
    z = (r - r.mean(axis=0)) / spread
    return sharpe, z - 0.5 * sharpe * (z * z - 1.0)


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


def _slope(x: Array) -> Array:
    """Each column on its day before, through the origin; 0 where it does not move."""
    square = (x[:-1] * x[:-1]).sum(axis=0)
    product = (x[1:] * x[:-1]).sum(axis=0)
    return np.divide(product, square, out=np.zeros_like(square), where=square > 0.0)


def _quadratic_spectral(x: Array) -> Array:
    """Kernel weights at positive x; the formula loses its digits below 0.01, where it is 1."""
    y = 1.2 * np.pi * np.maximum(x, 0.01)
    return np.asarray(3.0 / y**2 * (np.sin(y) / y - np.cos(y)))


def _studentised(
    returns: Array,
    sharpe: Array,
    length: int,
    n_boot: int,
    seed: int | np.random.Generator,
) -> Array:
    """Resampled differences from the last column, less the sample's, over their standard error.

    A resample is drawn as whole blocks on a circle of days; everything that it needs are the sums
    of its blocks, which are computed once for all.
    """
    n = len(returns)
    n_blocks = n // length if length >= 1 else 0
    if n_blocks < 2:
        raise ConfigError(f"blocks of {length!r} days: fewer than two fit into {n} days.")
    if n_boot < 1:
        raise ConfigError(f"need at least 1 resample, got {n_boot}.")
    z = (returns - returns.mean(axis=0)) / returns.std(axis=0)
    ones, squares = _circular_sums(z, length), _circular_sums(z * z, length)
    starts = np.random.default_rng(seed).integers(n, size=(n_boot, n_blocks))
    out = np.empty((n_boot, returns.shape[1] - 1))
    step = max(1, _CHUNK_VALUES // (n_blocks * returns.shape[1]))
    for first in range(0, n_boot, step):
        rows = starts[first : first + step]
        s1, s2 = ones[rows], squares[rows]  # (resamples, blocks, columns)
        mean = s1.mean(axis=1) / length
        variance = s2.mean(axis=1) / length - mean * mean
        variance[variance < 1e-12] = np.nan  # of 1 on all days: a resample of equal returns
        ratio = (sharpe + mean) / np.sqrt(variance)
        m, v, q = mean[:, None], variance[:, None], ratio[:, None]
        psi = (s1 - length * m) / np.sqrt(v)
        psi -= 0.5 * q * ((s2 - 2.0 * m * s1 + length * m * m) / v - length)
        psi = psi[..., :-1] - psi[..., -1:]
        error = np.sqrt((psi * psi).mean(axis=1) / length / (n_blocks * length))
        moved = (ratio[:, :-1] - ratio[:, -1:]) - (sharpe[:-1] - sharpe[-1])
        out[first : first + step] = np.divide(
            moved, error, out=np.zeros_like(moved), where=error != 0.0
        )
    return out


def _circular_sums(x: Array, length: int) -> Array:
    """Sum of `length` rows from each row on, past the end from the start again."""
    total = np.concatenate([np.zeros((1, x.shape[1])), x, x[: length - 1]]).cumsum(axis=0)
    return total[length:] - total[:-length]
