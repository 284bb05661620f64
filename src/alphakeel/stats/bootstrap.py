"""How sure is a figure: intervals of any statistic by block bootstrap.

All columns of a call share the same resampled days; the same seed gives the same days, whatever
is measured on them. Which days are drawn, and in blocks of what length, is in `stats.blocks`.

A `statistic` is a function of returns of shape (n_dates, n_columns) that gives one value per
column, shape (n_columns,): the functions of `stats.metrics`, or a `functools.partial` of one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alphakeel.errors import ConfigError
from alphakeel.stats.blocks import bootstrap_indices, check_returns, default_block_length

__all__ = [
    "Interval",
    "bootstrap_interval",
    "bootstrap_intervals",
    "bootstrap_samples",
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
        The statistic on the days as they were.
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
    """Values of a statistic on block-bootstrap resamples of the days.

    Parameters
    ----------
    statistic : callable
        From an array of shape (n_dates, n_columns) to one of shape (n_columns,).
    returns : array of shape (n_dates, n_columns)
        One column per strategy, without NaN; all columns share the resampled days.
    n_bootstrap : int, default=1000
        Resamples.
    block_length : float, optional
        Mean block length in days. By default the longest that `optimal_block_length` finds for
        any column or the size of its deviations from the mean, for the clusters of volatility.
    seed : int or numpy.random.Generator, default=0
    stationary : bool, default=True
        As in `bootstrap_indices`.

    Returns
    -------
    ndarray of shape (n_bootstrap, n_columns)

    Examples
    --------
    >>> days = np.random.default_rng(0).standard_normal((250, 2))
    >>> bootstrap_samples(lambda r: r.mean(axis=0), days, n_bootstrap=100).shape
    (100, 2)
    """
    r = check_returns(returns, "returns", ndim=(2,))
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
    """Percentile interval of a statistic of one strategy; see `bootstrap_intervals`.

    Parameters
    ----------
    returns : array of shape (n_dates,)
        Without NaN. The other parameters are those of `bootstrap_intervals`.

    Returns
    -------
    Interval

    Examples
    --------
    >>> days = np.random.default_rng(0).normal(0.001, 0.01, 500)
    >>> mean = bootstrap_interval(lambda r: r.mean(axis=0), days, n_bootstrap=200)
    >>> mean.low < mean.estimate < mean.high
    True
    """
    r = check_returns(returns, "returns", ndim=(1,))
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
    statistic, returns, n_bootstrap, block_length, seed, stationary
        As in `bootstrap_samples`.
    level : float, default=0.95
        Confidence in (0, 1): the limits are the (1 - level) / 2 and (1 + level) / 2 quantiles of
        the resampled values.

    Returns
    -------
    tuple of Interval, one per column

    Examples
    --------
    >>> days = np.random.default_rng(0).normal(0.001, 0.01, (500, 3))
    >>> len(bootstrap_intervals(lambda r: r.mean(axis=0), days, n_bootstrap=100))
    3
    """
    r = check_returns(returns, "returns", ndim=(2,))
    values = bootstrap_samples(
        statistic,
        r,
        n_bootstrap=n_bootstrap,
        block_length=block_length,
        seed=seed,
        stationary=stationary,
    )
    estimates = np.asarray(statistic(r), dtype=np.float64)
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level must lie between 0 and 1 (0.95 is 95 %), got {level!r}.")
    low, high = np.quantile(values, ((1.0 - level) / 2.0, (1.0 + level) / 2.0), axis=0)
    return tuple(
        Interval(estimate=float(e), low=float(a), high=float(b), level=level)
        for e, a, b in zip(estimates, low, high, strict=True)
    )
