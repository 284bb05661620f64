"""How sure is a mean over dates, and which of many findings are likely false."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import false_discovery_control

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats.bootstrap import (
    Interval,
    bootstrap_interval,
    optimal_block_length,
)

__all__ = [
    "ICSummary",
    "MeanInterval",
    "TStatistic",
    "default_lags",
    "false_discovery_q_values",
    "ic_summary",
    "newey_west_interval",
    "newey_west_tstat",
]

Array = NDArray[np.float64]


class TStatistic(NamedTuple):
    """A mean with its t-statistic and two-sided p-value; t and p NaN where there is no spread."""

    mean: float
    t: float
    p: float


class MeanInterval(NamedTuple):
    """A mean over dates, its interval, t and two-sided p; all but n NaN where nothing varies."""

    n: int  # dates with a value
    mean: float
    low: float
    high: float
    t: float
    p: float


@dataclass(frozen=True)
class ICSummary:
    """What a series of daily information coefficients amounts to."""

    n_dates: int  # with a coefficient
    mean: float
    std: float  # over dates, ddof = 1
    icir: float  # ``mean / std`` per date, not annualised
    t: float  # Newey-West, of the mean
    p: float  # two-sided
    hit_rate: float  # share of the dates with a coefficient above zero
    interval: Interval  # block bootstrap, of the mean


def default_lags(n_dates: int) -> int:
    """Newey and West's rule of thumb, ``floor(4 * (n / 100) ** (2 / 9))``."""
    return int(4.0 * (n_dates / 100.0) ** (2.0 / 9.0))


def newey_west_tstat(series: ArrayLike, lags: int | None = None) -> TStatistic:
    """T-statistic of a mean that allows for autocorrelation and changing variance.

    NaN are dates without a value: they are left out and the series closes up. `lags` are the
    autocovariances counted, with Bartlett weights: at least ``horizon - 1`` for labels of
    overlapping horizons, by default `default_lags`. t and p are NaN for fewer
    than two values or a constant; p is two-sided under a normal distribution. Newey and West
    (1987), https://doi.org/10.2307/1913610.
    """
    x = _series(series)
    n = len(x)
    mean = float(x.mean()) if n else float("nan")
    if n < 2 or x.max() == x.min():
        return TStatistic(mean, float("nan"), float("nan"))
    t = mean / _standard_error(x - mean, lags)
    return TStatistic(mean, float(t), float(2.0 * ndtr(-abs(t))))


def newey_west_interval(
    series: ArrayLike, lags: int | None = None, *, level: float = 0.95
) -> MeanInterval:
    """Interval of a mean with the error of `newey_west_tstat`, under a normal distribution.

    Examples
    --------
    >>> found = newey_west_interval([0.1, 0.3, 0.2, 0.4], lags=0)
    >>> found.n, round(found.mean, 3), round(found.low, 3), round(found.high, 3)
    (4, 0.25, 0.14, 0.36)
    """
    if not 0.0 < level < 1.0:
        raise ConfigError(f"the level of an interval lies between 0 and 1, got {level!r}.")
    x = _series(series)
    mean, t, p = newey_west_tstat(x, lags)
    if np.isnan(t):
        return MeanInterval(len(x), mean, t, t, t, p)
    half = float(ndtri(0.5 + level / 2.0) * _standard_error(x - mean, lags))
    return MeanInterval(len(x), mean, mean - half, mean + half, t, p)


def _standard_error(deviation: Array, lags: int | None) -> float:
    """Newey-West error of the mean of a series, by its deviations from that mean."""
    n = len(deviation)
    if lags is None:
        lags = default_lags(n)
    if lags < 0:
        raise ConfigError(f"lags must be 0 or more, got {lags}.")
    long_run = float(deviation @ deviation)
    for k in range(1, min(lags, n - 1) + 1):
        long_run += 2.0 * (1.0 - k / (lags + 1.0)) * float(deviation[k:] @ deviation[:-k])
    return float(np.sqrt(long_run) / n)


def ic_summary(
    ic: ArrayLike,
    *,
    lags: int | None = None,
    level: float = 0.95,
    n_bootstrap: int = 1000,
    seed: int | np.random.Generator = 0,
) -> ICSummary:
    """Sum up a series of information coefficients, one per date; NaN are left out.

    `lags` are those of `newey_west_tstat`, and hold the bootstrap's blocks to ``lags + 1`` dates at
    least; `level`, `n_bootstrap` and `seed` are those of `bootstrap_intervals`.
    """
    x = _series(ic)
    if len(x) < 2:
        raise DataError(f"{len(x)} of {np.size(ic)} dates have a coefficient; at least 2 needed.")
    mean, t, p = newey_west_tstat(x, lags)
    std = 0.0 if x.max() == x.min() else float(x.std(ddof=1))
    return ICSummary(
        n_dates=len(x),
        mean=mean,
        std=std,
        icir=mean / std if std > 0.0 else float("nan"),
        t=t,
        p=p,
        hit_rate=float((x > 0.0).mean()),
        interval=bootstrap_interval(
            lambda sample: sample.mean(axis=0),
            x,
            level=level,
            n_bootstrap=n_bootstrap,
            block_length=max(optimal_block_length(x), float((lags or 0) + 1)),
            seed=seed,
        ),
    )


def false_discovery_q_values(
    p_values: ArrayLike, method: Literal["bh", "by"] = "bh"
) -> NDArray[np.float64]:
    """Smallest false discovery rate at which each hypothesis is rejected, its q-value.

    ``q <= 0.1`` are the discoveries of which a tenth at most is expected to be false.

    Parameters
    ----------
    p_values : array of shape (n_tests,)
        In [0, 1]; NaN is a hypothesis that was not tested: it stays NaN and does not count.
    method : {"bh", "by"}, default="bh"
        Benjamini and Hochberg (1995), for tests that are independent or positively dependent; or
        Benjamini and Yekutieli (2001), under any dependence. See
        `scipy.stats.false_discovery_control`, which does the work.

    Returns
    -------
    ndarray of shape (n_tests,)

    Raises
    ------
    DataError
        If a p-value lies outside [0, 1].

    Examples
    --------
    >>> false_discovery_q_values([0.01, 0.04, float("nan"), 0.03, 0.8]).round(4)
    array([0.04  , 0.0533,    nan, 0.0533, 0.8   ])
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1:
        raise DataError(f"p-values must have shape (n_tests,), got {p.shape}.")
    bad = np.flatnonzero((p < 0.0) | (p > 1.0))
    if bad.size:
        raise DataError(f"p-value {bad[0]} is {p[bad[0]]}; p-values lie between 0 and 1.")
    known = ~np.isnan(p)
    q = np.full(p.shape, np.nan)
    q[known] = false_discovery_control(p[known], method=method)
    return q


def _series(values: ArrayLike) -> Array:
    """Drop the NaN of a series; infinities are refused."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1:
        raise DataError(f"the series must have shape (n_dates,), got {x.shape}.")
    x = x[~np.isnan(x)]
    if np.isinf(x).any():
        raise DataError("the series holds infinite values; remove their cause before testing it.")
    return x
