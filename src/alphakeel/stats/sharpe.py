"""How sure is a Sharpe ratio, and do two differ: Ledoit and Wolf, for several strategies at once.

The Sharpe ratio of day t's returns has the influence function

    psi[t] = (r[t] - mean) / std - sharpe / 2 * ((r[t] - mean)^2 / std^2 - 1),

and the estimated difference of two Sharpe ratios is, to first order, the true one plus the mean of
the difference of their influence functions. The delta method of the paper, with its four moments
and its gradient, is the variance of that mean; so one series a strategy is all that is needed. One
Sharpe ratio alone goes the same way, with nothing taken off.

Arguments and results are annual Sharpe ratios (ddof = 1, as `performance.sharpe`); inside, they are
per day.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtr, ndtri

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats.bootstrap import check_series, optimal_block_length
from alphakeel.stats.performance import check_labels, check_level

__all__ = [
    "SharpeEstimate",
    "cosine_variance",
    "long_run_variance",
    "sharpe_differences",
    "sharpe_influence",
    "sharpe_intervals",
]

Array = NDArray[np.float64]

# Block sums per chunk of resamples: 524 288 doubles are 4 MiB an array.
_CHUNK_VALUES = 524_288
_LEAST_BLOCK = 5
# One influence function has a variance of about 1: below this, two are one up to rounding.
_SAME = 1e-18


@dataclass(frozen=True)
class SharpeEstimate:
    """An annual Sharpe ratio, or the difference of two, with its interval and test.

    Attributes
    ----------
    estimate : float
        Annual; a difference is strategy less baseline.
    standard_error : float
        Annual, robust to autocorrelation, changing variance and fat tails.
    t : float
        Their ratio; NaN for two strategies that are one up to leverage.
    p_value : float
        Two-sided, of a true value of zero.
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


def sharpe_intervals(
    returns: ArrayLike,
    *,
    method: str = "bootstrap",
    level: float = 0.95,
    n_bootstrap: int = 1000,
    block_length: int | None = None,
    seed: int | np.random.Generator = 0,
    periods_per_year: float = 252,
) -> tuple[SharpeEstimate, ...]:
    """Each strategy's own Sharpe ratio, with its interval.

    The test of `sharpe_differences` applied to one ratio: a standard error that knows of
    autocorrelation, changing variance and fat tails, and critical values from studentised block
    resamples. For independent normal returns the standard error is that of Lo.

    Parameters
    ----------
    returns : array of shape (n_dates,) or (n_dates, n_strategies)
        Simple returns per day, without NaN; in excess of cash if cash earns something.
    method, level, n_bootstrap, seed, periods_per_year
        As in `sharpe_differences`.
    block_length : int, optional
        Days in a block. By default the longest that `optimal_block_length` finds for any of the
        influence functions, rounded up, and 5 at least.

    Returns
    -------
    tuple of SharpeEstimate, one per strategy
        The p-value is of a true Sharpe ratio of zero. NaN where a strategy is constant; limits
        and p-value NaN where it is constant on a resample.

    Raises
    ------
    DataError
        If returns are missing, or are of fewer than 10 days.
    ConfigError
        If a setting is out of range, or fewer than two blocks fit into the days.

    References
    ----------
    Ledoit, O. and Wolf, M. (2008). Robust performance hypothesis testing with the Sharpe ratio.
    Journal of Empirical Finance 15, 850-859. https://doi.org/10.1016/j.jempfin.2008.03.002
    Lo, A. W. (2002). The statistics of Sharpe ratios. Financial Analysts Journal 58(4), 36-52.
    https://doi.org/10.2469/faj.v58.n4.2453

    Examples
    --------
    >>> days = np.random.default_rng(0).normal(0.0005, 0.01, 2520)
    >>> (own,) = sharpe_intervals(days, n_bootstrap=200)
    >>> round(own.estimate, 2), round(own.standard_error, 2), own.low < 0.79 < own.high
    (0.31, 0.31, True)
    """
    r = check_series(returns, "returns", ndim=(1, 2))
    columns = r.reshape(len(r), -1)
    return _estimates(
        columns, _each_column, method, level, n_bootstrap, block_length, seed, periods_per_year
    )


def sharpe_differences(
    returns: ArrayLike,
    baseline: ArrayLike,
    *,
    method: str = "bootstrap",
    level: float = 0.95,
    n_bootstrap: int = 1000,
    block_length: int | None = None,
    seed: int | np.random.Generator = 0,
    periods_per_year: float = 252,
) -> tuple[SharpeEstimate, ...]:
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
    n_bootstrap : int, default=1000
        Resamples; all strategies share their days.
    block_length : int, optional
        Days in a block. By default the longest that `optimal_block_length` finds for any of the
        differences of influence functions, rounded up, and 5 at least: where days are independent
        a week's blocks lose nothing and are five times as fast.
    seed : int or numpy.random.Generator, default=0
    periods_per_year : float, default=252

    Returns
    -------
    tuple of SharpeEstimate, one per strategy
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
    >>> (gain,) = sharpe_differences(better, market, n_bootstrap=200)
    >>> gain.low > 0.0, gain.p_value < 0.05
    (True, True)
    """
    check_labels(returns=returns, baseline=baseline)
    r = check_series(returns, "returns", ndim=(1, 2))
    b = check_series(baseline, "baseline", ndim=(1,))
    if len(b) != len(r):
        raise DataError(f"returns cover {len(r)} days but the baseline {len(b)}.")
    joined = np.column_stack([r, b])
    return _estimates(
        joined, _less_last_column, method, level, n_bootstrap, block_length, seed, periods_per_year
    )


def sharpe_influence(returns: ArrayLike) -> tuple[Array, Array]:
    """Sharpe ratios per day (ddof = 0; NaN if constant), and what each day adds to them.

    The influence has mean zero; its long-run variance over n_dates is the variance of the ratio.
    """
    r = check_series(returns, "returns", ndim=(2,))
    still = r.max(axis=0) == r.min(axis=0)
    spread = np.where(still, np.nan, r.std(axis=0))
    sharpe = r.mean(axis=0) / spread
    z = (r - r.mean(axis=0)) / spread
    return sharpe, z - 0.5 * sharpe * (z * z - 1.0)


def _each_column(x: Array) -> Array:
    return x


def _less_last_column(x: Array) -> Array:
    return x[..., :-1] - x[..., -1:]


def _estimates(
    returns: Array,
    contrast: Callable[[Array], Array],
    method: str,
    level: float,
    n_bootstrap: int,
    block_length: int | None,
    seed: int | np.random.Generator,
    periods_per_year: float,
) -> tuple[SharpeEstimate, ...]:
    """Estimate, standard error and limits of what `contrast` makes of the columns."""
    if method not in ("hac", "bootstrap"):
        raise ConfigError(f"method must be 'hac' or 'bootstrap', got {method!r}.")
    check_level(level)
    sharpe, influence = sharpe_influence(returns)
    value, psi = contrast(sharpe), contrast(influence)
    same = (psi * psi).mean(axis=0) <= _SAME
    apart = np.isfinite(value) & ~same
    error = np.where(same, 0.0, np.nan)
    if apart.any():
        error[apart] = np.sqrt(long_run_variance(psi[:, apart]) / len(psi))
    t = np.divide(value, error, out=np.full_like(value, np.nan), where=apart)
    p, critical = np.where(same, 1.0, np.nan), np.where(same, 0.0, np.nan)
    length = None
    if method == "hac":
        p[apart], critical[apart] = 2.0 * ndtr(-np.abs(t[apart])), ndtri((1.0 + level) / 2.0)
    elif apart.any():
        length = _block_length(psi[:, apart]) if block_length is None else block_length
        used = np.ones(len(sharpe), dtype=np.bool_)
        used[: len(apart)] = apart
        drawn = _studentised(returns[:, used], sharpe[used], contrast, length, n_bootstrap, seed)
        p[apart], critical[apart] = _beyond(np.abs(drawn), np.abs(t[apart]), level)
    # Annual, and from ddof = 0 to the library's ddof = 1.
    scale = np.sqrt(periods_per_year * (len(returns) - 1) / len(returns))
    low, high = value - critical * error, value + critical * error
    rows = np.column_stack([scale * value, scale * error, t, p, scale * low, scale * high])
    return tuple(
        SharpeEstimate(ratio, spread, size, chance, bottom, top, level, method, length)
        for ratio, spread, size, chance, bottom, top in rows.tolist()
    )


def _block_length(psi: Array) -> int:
    own = (optimal_block_length(series, stationary=False) for series in psi.T)
    return int(np.ceil(max(_LEAST_BLOCK, *own)))


def _beyond(drawn: Array, t: Array, level: float) -> tuple[Array, Array]:
    """P-value of t among resampled sizes, and their quantile; NaN where one is undefined."""
    above = ((drawn >= t).sum(axis=0) + 1.0) / (len(drawn) + 1.0)
    p = np.where(np.isnan(drawn).any(axis=0), np.nan, above)
    return p, np.quantile(drawn, level, axis=0)


def _studentised(
    returns: Array,
    sharpe: Array,
    contrast: Callable[[Array], Array],
    length: int,
    n_bootstrap: int,
    seed: int | np.random.Generator,
) -> Array:
    """Resampled contrasts of Sharpe ratios, less the sample's, over their standard errors.

    A resample is drawn as whole blocks on a circle of days; everything that it needs are the sums
    of its blocks, which are computed once for all.
    """
    n = len(returns)
    n_blocks = n // length if length >= 1 else 0
    if n_blocks < 2:
        raise ConfigError(f"blocks of {length!r} days: fewer than two fit into {n} days.")
    if n_bootstrap < 1:
        raise ConfigError(f"need at least 1 resample, got {n_bootstrap}.")
    z = (returns - returns.mean(axis=0)) / returns.std(axis=0)
    ones, squares = _circular_sums(z, length), _circular_sums(z * z, length)
    starts = np.random.default_rng(seed).integers(n, size=(n_bootstrap, n_blocks))
    centre = contrast(sharpe)
    out = np.empty((n_bootstrap, len(centre)))
    step = max(1, _CHUNK_VALUES // (n_blocks * returns.shape[1]))
    for first in range(0, n_bootstrap, step):
        rows = starts[first : first + step]
        s1, s2 = ones[rows], squares[rows]  # (resamples, blocks, columns)
        mean = s1.mean(axis=1) / length
        variance = s2.mean(axis=1) / length - mean * mean
        variance[variance < 1e-12] = np.nan  # of 1 on all days: a resample of equal returns
        ratio = (sharpe + mean) / np.sqrt(variance)
        m, v, q = mean[:, None], variance[:, None], ratio[:, None]
        psi = (s1 - length * m) / np.sqrt(v)
        psi -= 0.5 * q * ((s2 - 2.0 * m * s1 + length * m * m) / v - length)
        psi = contrast(psi)
        error = np.sqrt((psi * psi).mean(axis=1) / length / (n_blocks * length))
        moved = contrast(ratio) - centre
        out[first : first + step] = np.divide(
            moved, error, out=np.zeros_like(moved), where=error != 0.0
        )
    return out


def _circular_sums(x: Array, length: int) -> Array:
    """Sum of `length` rows from each row on, past the end from the start again."""
    total = np.concatenate([np.zeros((1, x.shape[1])), x, x[: length - 1]]).cumsum(axis=0)
    return total[length:] - total[:-length]


def long_run_variance(series: ArrayLike) -> Array:
    """Variance of the root of n times the mean, of each column, by Andrews and Monahan.

    Columns have mean zero. A first-order autoregression (coefficient within 0.97) is taken out, the
    variance of what is left is estimated with the quadratic spectral kernel and its automatic
    bandwidth, and the autoregression is put back. Scaled by ``n / (n - 4)`` as in Ledoit and Wolf
    (2008). Andrews and Monahan (1992), https://doi.org/10.2307/2951574.
    """
    x = check_series(series, "series", ndim=(2,))
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
    Fewer waves: a rougher variance with less bias. Lazarus, Lewis, Stock and Watson (2018),
    https://doi.org/10.1080/07350015.2018.1506926.
    """
    x = check_series(series, "series", ndim=(2,))
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
