"""How sure is a figure: intervals of any statistic by block bootstrap.

A `statistic` is a function of returns of shape (n_dates, n_columns) that gives one value per
column, shape (n_columns,): the functions of `stats.performance`, or a `functools.partial` of one.

Returns are nearly uncorrelated from day to day, but their size is not: volatility clusters, and
drawdowns and VaR feel it. So days are resampled in blocks. All columns of a call share the same
resampled days; the same seed gives the same days, whatever is measured on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats.performance import check_level

__all__ = [
    "Interval",
    "bootstrap_indices",
    "bootstrap_interval",
    "bootstrap_intervals",
    "bootstrap_samples",
    "check_series",
    "default_block_length",
    "optimal_block_length",
]

Array = NDArray[np.float64]
StatisticFunction = Callable[[Array], Any]

# Values per resampled chunk: 262 144 doubles are 2 MiB, a few dozen resamples of one strategy;
# smaller chunks cost more in calls than they save in cache misses.
_CHUNK_VALUES = 262_144


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval, in the unit of the statistic.

    Attributes
    ----------
    estimate : float
        The statistic on the original days.
    low, high : float
        Limits; NaN where undefined, as percentiles are if the statistic is on any resample.
    level : float
        Confidence, for example 0.95.
    p_value : float or None
        For differences: two-sided p-value of "no difference".
    """

    estimate: float
    low: float
    high: float
    level: float
    p_value: float | None = None


def bootstrap_samples(
    statistic: StatisticFunction,
    returns: ArrayLike,
    *,
    n_bootstrap: int = 1000,
    block_length: float | None = None,
    seed: int | np.random.Generator = 0,
    stationary: bool = True,
) -> Array:
    """Values of a statistic on block-bootstrap resamples of the days, (n_bootstrap, n_columns)."""
    r = check_series(returns, "returns", ndim=(2,))
    n_dates, n_columns = r.shape
    if block_length is None:
        block_length = default_block_length(r, stationary=stationary)
    rows = bootstrap_indices(n_dates, block_length, n_bootstrap, seed, stationary=stationary)
    out = np.empty((n_bootstrap, n_columns))
    step = max(1, _CHUNK_VALUES // (n_dates * n_columns))
    for start in range(0, n_bootstrap, step):
        chunk = rows[start : start + step]
        resampled = r.take(np.ascontiguousarray(chunk.T), axis=0).reshape(n_dates, -1)
        values = np.asarray(statistic(resampled), dtype=np.float64)
        if values.shape != resampled.shape[1:]:
            raise ConfigError(
                f"the statistic gave shape {values.shape} for returns of shape {resampled.shape}; "
                "it must give one value per column."
            )
        out[start : start + step] = values.reshape(len(chunk), n_columns)
    return out


def bootstrap_interval(
    statistic: StatisticFunction,
    returns: ArrayLike,
    *,
    level: float = 0.95,
    n_bootstrap: int = 1000,
    block_length: float | None = None,
    seed: int | np.random.Generator = 0,
    stationary: bool = True,
) -> Interval:
    """Percentile interval of a statistic of one strategy, returns of shape (n_dates,)."""
    r = check_series(returns, "returns", ndim=(1,))
    return bootstrap_intervals(
        statistic,
        r[:, None],
        level=level,
        n_bootstrap=n_bootstrap,
        block_length=block_length,
        seed=seed,
        stationary=stationary,
    )[0]


def bootstrap_intervals(
    statistic: StatisticFunction,
    returns: ArrayLike,
    *,
    level: float = 0.95,
    n_bootstrap: int = 1000,
    block_length: float | None = None,
    seed: int | np.random.Generator = 0,
    stationary: bool = True,
) -> tuple[Interval, ...]:
    """Percentile intervals of a statistic of several strategies on the same resampled days.

    Parameters
    ----------
    statistic : callable
        From an array of shape (n_dates, n_columns) to one of shape (n_columns,).
    returns : array of shape (n_dates, n_columns)
        One column per strategy, without NaN; all columns share the resampled days.
    level : float, default=0.95
        Confidence in (0, 1): the limits are the (1 - level) / 2 and (1 + level) / 2 quantiles of
        the resampled values.
    n_bootstrap : int, default=1000
        Resamples.
    block_length : float, optional
        Mean block length in days. By default the longest that `optimal_block_length` finds for
        any column or the size of its deviations from the mean, for the clusters of volatility.
    seed : int or numpy.random.Generator, default=0
    stationary : bool, default=True
        Blocks of geometric length; else of fixed length. See `bootstrap_indices`.

    Returns
    -------
    tuple of Interval, one per column

    Examples
    --------
    >>> days = np.random.default_rng(0).normal(0.001, 0.01, (500, 3))
    >>> len(bootstrap_intervals(lambda r: r.mean(axis=0), days, n_bootstrap=100))
    3
    """
    r = check_series(returns, "returns", ndim=(2,))
    values = bootstrap_samples(
        statistic,
        r,
        n_bootstrap=n_bootstrap,
        block_length=block_length,
        seed=seed,
        stationary=stationary,
    )
    estimates = np.asarray(statistic(r), dtype=np.float64)
    check_level(level)
    low, high = np.quantile(values, ((1.0 - level) / 2.0, (1.0 + level) / 2.0), axis=0)
    return tuple(
        Interval(estimate=float(e), low=float(a), high=float(b), level=level)
        for e, a, b in zip(estimates, low, high, strict=True)
    )


def bootstrap_indices(
    n_dates: int,
    block_length: float,
    n_bootstrap: int,
    seed: int | np.random.Generator = 0,
    *,
    stationary: bool = True,
) -> NDArray[np.intp]:
    """Rows of block-bootstrap resamples; the rows form a circle, so that all are equally likely.

    `stationary`: blocks of geometric length with mean `block_length`, which keep a stationary
    series stationary (Politis and Romano 1994, https://doi.org/10.1080/01621459.1994.10476870);
    else blocks of fixed length, rounded up (circular bootstrap; Politis and Romano 1992, in:
    Exploring the Limits of Bootstrap, 263-270, Wiley).
    """
    if n_dates < 1 or n_bootstrap < 1:
        raise ConfigError(f"need at least 1 date and 1 resample, got {n_dates} and {n_bootstrap}.")
    if not block_length >= 1:
        raise ConfigError(f"block_length must be at least 1 day, got {block_length!r}.")
    rng = np.random.default_rng(seed)
    if not stationary:
        length = min(int(np.ceil(block_length)), n_dates)
        starts = rng.integers(n_dates, size=(n_bootstrap, -(-n_dates // length), 1))
        rows = starts + np.arange(length)
        return np.asarray(rows.reshape(n_bootstrap, -1)[:, :n_dates] % n_dates, dtype=np.intp)
    fresh = rng.random((n_bootstrap, n_dates)) < 1.0 / block_length
    fresh[:, 0] = True
    # A block begun at draw j with row s continues s, s + 1, ...: keep s - j until the next begins.
    begins = np.flatnonzero(fresh)
    offsets = rng.integers(n_dates, size=begins.size) - begins % n_dates
    rows = np.repeat(offsets, np.diff(begins, append=fresh.size)).reshape(fresh.shape)
    rows += np.arange(n_dates)
    return np.asarray(rows % n_dates, dtype=np.intp)


def optimal_block_length(series: ArrayLike, *, stationary: bool = True) -> float:
    """Mean block length with the least mean square error for the variance of a series' mean.

    At least 1, at most ``min(3 * sqrt(n), n / 3)``; 1 for a constant series. With R(k) the
    autocovariances, lambda the flat-top window up to lag M, g = sum lambda |k| R(k) and
    s = sum lambda R(k), the length is ``(g**2 / s**2 * n) ** (1/3)``, times ``1.5 ** (1/3)`` for
    the circular bootstrap. M is twice the lag after which max(5, log10 n) autocorrelations in a row
    are within ``2 sqrt(log10(n) / n)``; if there is none, twice the last beyond it.

    References
    ----------
    Politis, D. N. and White, H. (2004), https://doi.org/10.1081/ETC-120028836, as corrected by
    Patton, A., Politis, D. N. and White, H. (2009), https://doi.org/10.1080/07474930802459016.
    """
    x = check_series(series, "series", ndim=(1,))
    n = len(x)
    longest = float(max(1.0, min(3.0 * np.sqrt(n), n / 3.0)))
    if n < 9 or x.max() == x.min():
        return 1.0
    run = max(5, int(np.log10(n)))
    n_lags = min(int(np.ceil(np.sqrt(n))) + run, n - 1)
    deviation = x - x.mean()
    covariance = np.array([deviation[k:] @ deviation[: n - k] for k in range(n_lags + 1)]) / n
    small = np.abs(covariance[1:] / covariance[0]) < 2.0 * np.sqrt(np.log10(n) / n)
    quiet = np.convolve(small, np.ones(run), mode="valid") == run
    if quiet.any():
        last_lag = int(np.argmax(quiet))
    else:
        last_lag = int(np.flatnonzero(~small).max(initial=-1)) + 1
    width = min(2 * max(last_lag, 1), n_lags)
    lags = np.arange(1, width + 1)
    window = np.minimum(1.0, 2.0 * (1.0 - lags / width))
    weighted = 2.0 * window * covariance[1 : width + 1]
    slope, spectrum = float(lags @ weighted), float(covariance[0] + weighted.sum())
    if spectrum == 0.0:
        return longest
    ratio = (slope / spectrum) ** 2 * (1.0 if stationary else 1.5)
    return float(np.clip((ratio * n) ** (1.0 / 3.0), 1.0, longest))


def default_block_length(r: Array, *, stationary: bool = True) -> float:
    """Longest optimal block of any column, and of the size of its deviations."""
    sizes = np.abs(r - r.mean(axis=0))
    return max(
        optimal_block_length(column, stationary=stationary)
        for column in np.column_stack([r, sizes]).T
    )


def check_series(values: ArrayLike, name: str, *, ndim: tuple[int, ...]) -> Array:
    """Finite float64 of the right number of axes and at least two dates."""
    x = np.ascontiguousarray(values, dtype=np.float64)
    if x.ndim not in ndim or np.ndim(values) not in ndim:
        shape = "(n_dates,)" if ndim == (1,) else "(n_dates, n_columns)"
        raise DataError(f"{name} must have shape {shape}, got {np.shape(values)}.")
    if len(x) < 2 or x.size == 0:
        raise DataError(f"{name} of shape {x.shape} are too few; at least 2 dates are needed.")
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        where = tuple(int(i) for i in bad[0])
        raise DataError(
            f"{name} hold {x[where]} at row {where[0]}"
            + (f", column {where[1]}" if x.ndim == 2 else "")
            + "; resampling needs every day."
        )
    return x
