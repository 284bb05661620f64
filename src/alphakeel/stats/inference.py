"""How sure is a figure: block bootstrap and Newey-West.

Returns are nearly uncorrelated from day to day, but their size is not: volatility clusters, and
drawdowns and VaR feel it. So days are resampled in blocks. All columns of a call share the same
resampled days, which makes differences between strategies paired; the same seed gives the same
days, whatever is measured on them.

A `statistic` is a function of returns of shape (n_dates, n_columns) that gives one value per
column, shape (n_columns,): the functions of `stats.metrics`, or a `functools.partial` of one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from alphakeel.errors import ConfigError, DataError

__all__ = [
    "ICSummary",
    "Interval",
    "TStatistic",
    "bootstrap_indices",
    "bootstrap_interval",
    "bootstrap_intervals",
    "bootstrap_samples",
    "ic_summary",
    "newey_west_tstat",
    "optimal_block_length",
    "paired_difference",
    "paired_differences",
]

Array = NDArray[np.float64]
StatisticFunction = Callable[[Array], Any]

# Values per resampled chunk: 262 144 doubles are 2 MiB, a few dozen resamples of one strategy;
# smaller chunks cost more in calls than they save in cache misses.
_CHUNK_VALUES = 262_144


@dataclass(frozen=True)
class Interval:
    """An estimate and its bootstrap interval, in the unit of the statistic.

    Attributes
    ----------
    estimate : float
        The statistic on the days as they were.
    low, high : float
        Percentile limits; NaN if the statistic is undefined on any resample.
    level : float
        Confidence, for example 0.95.
    p_value : float or None
        For differences: two-sided bootstrap p-value of "no difference".
    """

    estimate: float
    low: float
    high: float
    level: float
    p_value: float | None = None


class TStatistic(NamedTuple):
    """A mean with its t-statistic and two-sided p-value."""

    mean: float
    t: float
    p: float


@dataclass(frozen=True)
class ICSummary:
    """What a series of daily information coefficients amounts to.

    Attributes
    ----------
    n_dates : int
        Dates with a coefficient.
    mean, std : float
        Mean and standard deviation (ddof = 1) over dates.
    icir : float
        ``mean / std`` per date, not annualised.
    t, p : float
        Newey-West t-statistic of the mean and its two-sided p-value.
    hit_rate : float
        Share of the dates with a coefficient above zero.
    interval : Interval
        Block-bootstrap interval of the mean.
    """

    n_dates: int
    mean: float
    std: float
    icir: float
    t: float
    p: float
    hit_rate: float
    interval: Interval


def bootstrap_indices(
    n_dates: int,
    block_length: float,
    n_boot: int,
    seed: int | np.random.Generator = 0,
    *,
    stationary: bool = True,
) -> NDArray[np.intp]:
    """Rows of block-bootstrap resamples; the rows form a circle, so that all are equally likely.

    Parameters
    ----------
    n_dates : int
        Rows to draw from, and rows per resample.
    block_length : float
        Mean length of a block, >= 1; rounded up for blocks of fixed length.
    n_boot : int
        Resamples.
    seed : int or numpy.random.Generator, default=0
    stationary : bool, default=True
        Blocks of geometric length, which keep a stationary series stationary; else blocks of
        fixed length (circular bootstrap).

    Returns
    -------
    ndarray of int of shape (n_boot, n_dates)

    References
    ----------
    Politis, D. N. and Romano, J. P. (1994). The stationary bootstrap. JASA 89, 1303-1313.
    https://doi.org/10.1080/01621459.1994.10476870
    Politis, D. N. and Romano, J. P. (1992). A circular block-resampling procedure for stationary
    data. In: Exploring the Limits of Bootstrap, 263-270. Wiley.

    Examples
    --------
    >>> bootstrap_indices(100, 10, n_boot=5, seed=1).shape
    (5, 100)
    """
    if n_dates < 1 or n_boot < 1:
        raise ConfigError(f"need at least 1 date and 1 resample, got {n_dates} and {n_boot}.")
    if not block_length >= 1:
        raise ConfigError(f"block_length must be at least 1 day, got {block_length!r}.")
    rng = np.random.default_rng(seed)
    if not stationary:
        length = min(int(np.ceil(block_length)), n_dates)
        starts = rng.integers(n_dates, size=(n_boot, -(-n_dates // length), 1))
        rows = starts + np.arange(length)
        return np.asarray(rows.reshape(n_boot, -1)[:, :n_dates] % n_dates, dtype=np.intp)
    fresh = rng.random((n_boot, n_dates)) < 1.0 / block_length
    fresh[:, 0] = True
    # A block begun at draw j with row s continues s, s + 1, ...: keep s - j until the next begins.
    begins = np.flatnonzero(fresh)
    offsets = rng.integers(n_dates, size=begins.size) - begins % n_dates
    rows = np.repeat(offsets, np.diff(begins, append=fresh.size)).reshape(fresh.shape)
    rows += np.arange(n_dates)
    return np.asarray(rows % n_dates, dtype=np.intp)


def optimal_block_length(series: ArrayLike, *, stationary: bool = True) -> float:
    """Mean block length with the least mean square error for the variance of a series' mean.

    Parameters
    ----------
    series : array of shape (n_dates,)
        Any stationary series, without NaN.
    stationary : bool, default=True
        For the stationary bootstrap; else for the circular one.

    Returns
    -------
    float
        At least 1, at most ``min(3 * sqrt(n), n / 3)``; 1 for a constant series.

    Notes
    -----
    With R(k) the autocovariances, lambda the flat-top window up to lag M, g = sum lambda |k| R(k)
    and s = sum lambda R(k), the length is ``(g**2 / s**2 * n) ** (1/3)``, times ``1.5 ** (1/3)``
    for the circular bootstrap. M is twice the lag after which max(5, log10 n) autocorrelations
    in a row are within ``2 sqrt(log10(n) / n)``; if there is none, twice the last beyond it.

    References
    ----------
    Politis, D. N. and White, H. (2004). Automatic block-length selection for the dependent
    bootstrap. Econometric Reviews 23, 53-70. https://doi.org/10.1081/ETC-120028836
    Patton, A., Politis, D. N. and White, H. (2009). Correction. Econometric Reviews 28, 372-375.
    https://doi.org/10.1080/07474930802459016

    Examples
    --------
    >>> steps = np.random.default_rng(0).standard_normal(4000)
    >>> bool(optimal_block_length(steps) < 5 < optimal_block_length(np.cumsum(steps)))
    True
    """
    x = _known(series, "series", ndim=(1,))
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


def bootstrap_samples(
    statistic: StatisticFunction,
    returns: ArrayLike,
    *,
    n_boot: int = 1000,
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
    n_boot : int, default=1000
        Resamples.
    block_length : float, optional
        Mean block length in days. By default the longest that `optimal_block_length` finds for
        any column or the size of its deviations from the mean, for the clusters of volatility.
    seed : int or numpy.random.Generator, default=0
    stationary : bool, default=True
        As in `bootstrap_indices`.

    Returns
    -------
    ndarray of shape (n_boot, n_columns)

    Examples
    --------
    >>> days = np.random.default_rng(0).standard_normal((250, 2))
    >>> bootstrap_samples(lambda r: r.mean(axis=0), days, n_boot=100).shape
    (100, 2)
    """
    r = _known(returns, "returns", ndim=(2,))
    n_dates, n_columns = r.shape
    if block_length is None:
        block_length = _default_block(r, stationary)
    rows = bootstrap_indices(n_dates, block_length, n_boot, seed, stationary=stationary)
    out = np.empty((n_boot, n_columns))
    step = max(1, _CHUNK_VALUES // (n_dates * n_columns))
    for start in range(0, n_boot, step):
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
    n_boot: int = 1000,
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
    >>> mean = bootstrap_interval(lambda r: r.mean(axis=0), days, n_boot=200)
    >>> mean.low < mean.estimate < mean.high
    True
    """
    r = _known(returns, "returns", ndim=(1,))
    return bootstrap_intervals(
        statistic,
        r[:, None],
        level=level,
        n_boot=n_boot,
        block_length=block_length,
        seed=seed,
        stationary=stationary,
    )[0]


def bootstrap_intervals(
    statistic: StatisticFunction,
    returns: ArrayLike,
    *,
    level: float = 0.95,
    n_boot: int = 1000,
    block_length: float | None = None,
    seed: int | np.random.Generator = 0,
    stationary: bool = True,
) -> tuple[Interval, ...]:
    """Percentile intervals of a statistic of several strategies on the same resampled days.

    Parameters
    ----------
    statistic, returns, n_boot, block_length, seed, stationary
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
    >>> len(bootstrap_intervals(lambda r: r.mean(axis=0), days, n_boot=100))
    3
    """
    r = _known(returns, "returns", ndim=(2,))
    values = bootstrap_samples(
        statistic,
        r,
        n_boot=n_boot,
        block_length=block_length,
        seed=seed,
        stationary=stationary,
    )
    return _intervals(np.asarray(statistic(r), dtype=np.float64), values, level)


def paired_difference(
    statistic: StatisticFunction,
    returns: ArrayLike,
    baseline: ArrayLike,
    *,
    level: float = 0.95,
    n_boot: int = 1000,
    block_length: float | None = None,
    seed: int | np.random.Generator = 0,
    stationary: bool = True,
) -> Interval:
    """Difference of a statistic between two strategies on the same days.

    Parameters
    ----------
    returns, baseline : arrays of shape (n_dates,)
        Without NaN. The other parameters are those of `paired_differences`.

    Returns
    -------
    Interval
        Of ``statistic(returns) - statistic(baseline)``, with its `p_value`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> market = rng.normal(0.0, 0.01, 500)
    >>> better = market + rng.normal(0.001, 0.002, 500)
    >>> gain = paired_difference(lambda r: r.mean(axis=0), better, market, n_boot=200)
    >>> gain.low > 0.0 and gain.p_value < 0.05
    True
    """
    r = _known(returns, "returns", ndim=(1,))
    return paired_differences(
        statistic,
        r[:, None],
        baseline,
        level=level,
        n_boot=n_boot,
        block_length=block_length,
        seed=seed,
        stationary=stationary,
    )[0]


def paired_differences(
    statistic: StatisticFunction,
    returns: ArrayLike,
    baseline: ArrayLike,
    *,
    level: float = 0.95,
    n_boot: int = 1000,
    block_length: float | None = None,
    seed: int | np.random.Generator = 0,
    stationary: bool = True,
) -> tuple[Interval, ...]:
    """Differences of a statistic between several strategies and one baseline, on the same days.

    Parameters
    ----------
    statistic, n_boot, block_length, seed, stationary
        As in `bootstrap_samples`.
    returns : array of shape (n_dates, n_columns)
        One column per strategy, without NaN.
    baseline : array of shape (n_dates,)
        The strategy that each is compared with, without NaN.
    level : float, default=0.95
        Confidence in (0, 1).

    Returns
    -------
    tuple of Interval, one per column
        Percentile intervals of ``statistic(column) - statistic(baseline)``. The two-sided
        `p_value` is twice the smaller share of the resampled differences on either side of zero,
        each count plus one: it is small when the interval stays clear of zero. NaN if undefined.

    Examples
    --------
    >>> days = np.random.default_rng(0).normal(0.001, 0.01, (500, 1))
    >>> strategies = np.hstack([days + 0.001, days - 0.001])
    >>> pairs = paired_differences(lambda r: r.mean(axis=0), strategies, days[:, 0], n_boot=100)
    >>> [round(pair.estimate, 6) for pair in pairs]
    [0.001, -0.001]
    """
    r = _known(returns, "returns", ndim=(2,))
    b = _known(baseline, "baseline", ndim=(1,))
    if len(b) != len(r):
        raise DataError(f"returns cover {len(r)} days but the baseline {len(b)}.")
    joined = np.column_stack([r, b])
    values = bootstrap_samples(
        statistic,
        joined,
        n_boot=n_boot,
        block_length=block_length,
        seed=seed,
        stationary=stationary,
    )
    estimates = np.asarray(statistic(joined), dtype=np.float64)
    differences = values[:, :-1] - values[:, -1:]
    return _intervals(estimates[:-1] - estimates[-1], differences, level, test=True)


def newey_west_tstat(series: ArrayLike, lags: int | None = None) -> TStatistic:
    """T-statistic of a mean that allows for autocorrelation and changing variance.

    Parameters
    ----------
    series : array of shape (n_dates,)
        NaN are dates without a value: they are left out and the series closes up.
    lags : int, optional
        Autocovariances counted, with Bartlett weights. At least ``horizon - 1`` for labels
        of overlapping horizons; by default ``floor(4 * (n / 100) ** (2 / 9))``.

    Returns
    -------
    TStatistic
        ``(mean, t, p)``; p is two-sided under a normal distribution. t and p are NaN for fewer
        than two values or a constant.

    References
    ----------
    Newey, W. K. and West, K. D. (1987). A simple, positive semi-definite, heteroskedasticity and
    autocorrelation consistent covariance matrix. Econometrica 55, 703-708.
    https://doi.org/10.2307/1913610

    Examples
    --------
    >>> result = newey_west_tstat([0.02, 0.01, 0.03, -0.01, 0.02, 0.01], lags=1)
    >>> round(result.mean, 4), round(result.t, 3)
    (0.0133, 4.707)
    """
    x = _series(series)
    n = len(x)
    mean = float(x.mean()) if n else float("nan")
    if n < 2 or x.max() == x.min():
        return TStatistic(mean, float("nan"), float("nan"))
    if lags is None:
        lags = int(4.0 * (n / 100.0) ** (2.0 / 9.0))
    if lags < 0:
        raise ConfigError(f"lags must be 0 or more, got {lags}.")
    deviation = x - mean
    long_run = float(deviation @ deviation)
    for k in range(1, min(lags, n - 1) + 1):
        long_run += 2.0 * (1.0 - k / (lags + 1.0)) * float(deviation[k:] @ deviation[:-k])
    t = mean / (np.sqrt(long_run) / n)
    return TStatistic(mean, float(t), float(2.0 * ndtr(-abs(t))))


def ic_summary(
    ic: ArrayLike,
    *,
    lags: int | None = None,
    level: float = 0.95,
    n_boot: int = 1000,
    seed: int | np.random.Generator = 0,
) -> ICSummary:
    """Sum up a series of information coefficients.

    Parameters
    ----------
    ic : array of shape (n_dates,)
        One coefficient per date; NaN where undefined, left out.
    lags : int, optional
        As in `newey_west_tstat`; give ``horizon - 1`` or more where horizons overlap. It also
        holds the bootstrap's blocks to ``lags + 1`` dates at least.
    level, n_boot, seed
        As in `bootstrap_intervals`.

    Returns
    -------
    ICSummary

    Raises
    ------
    DataError
        With fewer than two coefficients.

    Examples
    --------
    >>> daily = 0.03 + 0.1 * np.random.default_rng(0).standard_normal(500)
    >>> result = ic_summary(daily, n_boot=200)
    >>> round(result.mean, 3), result.t > 2, result.interval.low > 0
    (0.027, True, True)
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
            n_boot=n_boot,
            block_length=max(optimal_block_length(x), float((lags or 0) + 1)),
            seed=seed,
        ),
    )


def _intervals(
    estimates: Array, values: Array, level: float, *, test: bool = False
) -> tuple[Interval, ...]:
    """Percentile limits per column of resampled values, and p-values if asked for."""
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level must lie between 0 and 1 (0.95 is 95 %), got {level!r}.")
    low, high = np.quantile(values, ((1.0 - level) / 2.0, (1.0 + level) / 2.0), axis=0)
    p_values: list[float | None] = [None] * len(estimates)
    if test:
        fewer = np.minimum((values <= 0.0).sum(axis=0), (values >= 0.0).sum(axis=0))
        p = np.minimum(1.0, 2.0 * (fewer + 1.0) / (len(values) + 1.0))
        p_values = np.where(np.isnan(values).any(axis=0), np.nan, p).tolist()
    return tuple(
        Interval(estimate=float(e), low=float(a), high=float(b), level=level, p_value=p)
        for e, a, b, p in zip(estimates, low, high, p_values, strict=True)
    )


def _default_block(r: Array, stationary: bool) -> float:
    """Longest optimal block of any column, and of the size of its deviations."""
    sizes = np.abs(r - r.mean(axis=0))
    return max(
        optimal_block_length(column, stationary=stationary)
        for column in np.column_stack([r, sizes]).T
    )


def _known(values: ArrayLike, name: str, *, ndim: tuple[int, ...]) -> Array:
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


def _series(values: ArrayLike) -> Array:
    """Drop the NaN of a series; infinities are refused."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1:
        raise DataError(f"the series must have shape (n_dates,), got {x.shape}.")
    x = x[~np.isnan(x)]
    if np.isinf(x).any():
        raise DataError("the series holds infinite values; remove their cause before testing it.")
    return x
