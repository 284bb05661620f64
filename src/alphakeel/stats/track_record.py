"""How much a Sharpe ratio proves: given its length, its tails, and how many trials it was best of.

Sharpe ratios are annual on the way in and on the way out; `periods_per_year` says how often
returns were taken. Kurtosis is the plain one: 3 for a normal distribution. All formulas take the
returns as independent over time, as their authors do; where they are not, `sharpe_tests` helps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats import metrics
from alphakeel.stats.blocks import check_returns

__all__ = [
    "TrackRecord",
    "deflated_sharpe",
    "expected_maximum_sharpe",
    "minimum_track_record",
    "probabilistic_sharpe",
    "track_record",
]

Array = NDArray[np.float64]

_EULER = 0.5772156649015329


@dataclass(frozen=True)
class TrackRecord:
    """What the returns of one strategy prove.

    Attributes
    ----------
    sharpe : float
        Annual.
    n_dates : int
    skewness, kurtosis : float
        Of the daily returns; kurtosis 3 is normal.
    probabilistic : float
        Probability that the true Sharpe ratio exceeds `benchmark`.
    benchmark : float
        Annual Sharpe ratio to beat.
    n_trials : float
        Trials among which this was the best.
    expected_maximum : float
        Annual Sharpe ratio that the best of so many worthless trials is expected to show.
    deflated : float
        Probability that the true Sharpe ratio exceeds `expected_maximum`.
    minimum_days : float
        Days needed to show that the Sharpe ratio exceeds `benchmark` at `level`; infinite if it
        does not.
    level : float
    """

    sharpe: float
    n_dates: int
    skewness: float
    kurtosis: float
    probabilistic: float
    benchmark: float
    n_trials: float
    expected_maximum: float
    deflated: float
    minimum_days: float
    level: float


def probabilistic_sharpe(
    sharpe: float,
    n_dates: float,
    *,
    benchmark: float = 0.0,
    skewness: float = 0.0,
    kurtosis: float = 3.0,
    periods_per_year: float = 252,
) -> float:
    """Probability that the true Sharpe ratio exceeds a benchmark, given the estimated one.

    Parameters
    ----------
    sharpe, benchmark : float
        Annual Sharpe ratios: the estimate, and the one to beat.
    n_dates : float
        Returns behind the estimate, more than 1.
    skewness, kurtosis : float
        Of the returns as they were taken; kurtosis 3 is normal.
    periods_per_year : float, default=252

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    ConfigError
        If there are too few returns, or moments that no distribution has.

    References
    ----------
    Bailey, D. H. and López de Prado, M. (2012). The Sharpe ratio efficient frontier. Journal of
    Risk 15(2), 3-44. https://doi.org/10.21314/JOR.2012.255

    Examples
    --------
    >>> round(probabilistic_sharpe(1.0, 504), 3)
    0.921
    """
    if not n_dates > 1:
        raise ConfigError(f"n_dates must exceed 1, got {n_dates!r}.")
    per_day = sharpe / np.sqrt(periods_per_year)
    spread = np.sqrt(_spread(per_day, skewness, kurtosis) / (n_dates - 1.0))
    return float(ndtr((per_day - benchmark / np.sqrt(periods_per_year)) / spread))


def minimum_track_record(
    sharpe: float,
    *,
    benchmark: float = 0.0,
    level: float = 0.95,
    skewness: float = 0.0,
    kurtosis: float = 3.0,
    periods_per_year: float = 252,
) -> float:
    """Returns needed before an estimated Sharpe ratio exceeds a benchmark with confidence.

    Parameters
    ----------
    sharpe, benchmark, skewness, kurtosis, periods_per_year
        As in `probabilistic_sharpe`.
    level : float, default=0.95
        Wanted probability, from 0.5 to below 1.

    Returns
    -------
    float
        In returns (days for daily ones), not in years; infinite if `sharpe` does not exceed
        `benchmark`.

    References
    ----------
    Bailey and López de Prado (2012), as in `probabilistic_sharpe`.

    Examples
    --------
    >>> round(minimum_track_record(1.0) / 252, 1)
    2.7
    """
    if not 0.5 <= level < 1.0:
        raise ConfigError(f"level must lie from 0.5 to below 1, got {level!r}.")
    if not sharpe > benchmark:
        return float("inf")
    per_day = sharpe / np.sqrt(periods_per_year)
    excess = (sharpe - benchmark) / np.sqrt(periods_per_year)
    return float(1.0 + _spread(per_day, skewness, kurtosis) * (ndtri(level) / excess) ** 2)


def deflated_sharpe(
    sharpe: float,
    n_dates: float,
    *,
    n_trials: float,
    trial_variance: float,
    skewness: float = 0.0,
    kurtosis: float = 3.0,
    periods_per_year: float = 252,
) -> float:
    """Probability that the best of several trials is better than luck would make the best.

    Parameters
    ----------
    sharpe, n_dates, skewness, kurtosis, periods_per_year
        As in `probabilistic_sharpe`, of the best trial.
    n_trials, trial_variance
        As in `expected_maximum_sharpe`: of all trials that were run.

    Returns
    -------
    float
        The probabilistic Sharpe ratio against `expected_maximum_sharpe`, in [0, 1].

    References
    ----------
    Bailey and López de Prado (2014), as in `expected_maximum_sharpe`.

    Examples
    --------
    >>> round(deflated_sharpe(1.5, 2520, n_trials=50, trial_variance=0.1), 3)
    0.993
    """
    return probabilistic_sharpe(
        sharpe,
        n_dates,
        benchmark=expected_maximum_sharpe(n_trials, trial_variance),
        skewness=skewness,
        kurtosis=kurtosis,
        periods_per_year=periods_per_year,
    )


def expected_maximum_sharpe(n_trials: float, trial_variance: float) -> float:
    """Sharpe ratio that the best of some worthless trials is expected to show.

    Parameters
    ----------
    n_trials : float
        Independent trials, at least 1; one trial was not chosen and is expected to show 0.
    trial_variance : float
        Variance of the trials' Sharpe ratios among each other, annual.

    Returns
    -------
    float
        Annual, like ``sqrt(trial_variance)``.

    References
    ----------
    Bailey, D. H. and López de Prado, M. (2014). The deflated Sharpe ratio: correcting for selection
    bias, backtest overfitting and non-normality. Journal of Portfolio Management 40(5), 94-107.
    https://doi.org/10.3905/jpm.2014.40.5.094

    Examples
    --------
    >>> round(expected_maximum_sharpe(100, 0.25), 3)
    1.265
    """
    if not n_trials >= 1:
        raise ConfigError(f"n_trials must be at least 1, got {n_trials!r}.")
    if not trial_variance >= 0:
        raise ConfigError(f"trial_variance must be at least 0, got {trial_variance!r}.")
    if n_trials == 1:
        return 0.0
    first, second = ndtri(1.0 - 1.0 / n_trials), ndtri(1.0 - 1.0 / (n_trials * np.e))
    # The expansion is for many trials; between one and two it may fall below zero.
    best = max(0.0, (1.0 - _EULER) * first + _EULER * second)
    return float(np.sqrt(trial_variance) * best)


def track_record(
    returns: ArrayLike,
    *,
    trial_sharpes: ArrayLike | None = None,
    n_trials: float | None = None,
    benchmark: float = 0.0,
    level: float = 0.95,
    periods_per_year: float = 252,
) -> TrackRecord:
    """What the returns of one strategy prove, after all the trials that led to it.

    Parameters
    ----------
    returns : array of shape (n_dates,)
        Simple returns per day of the chosen strategy, without NaN.
    trial_sharpes : array of shape (n_run,), optional
        Annual Sharpe ratios of all trials ever run on these days, the chosen one included.
        Without them nothing was chosen.
    n_trials : float, optional
        How many independent trials they amount to; by default all of them, which errs on the side
        of doubt.
    benchmark : float, default=0.0
        Annual Sharpe ratio to beat.
    level : float, default=0.95
    periods_per_year : float, default=252

    Returns
    -------
    TrackRecord

    Raises
    ------
    DataError
        If returns are missing or constant, or a trial's Sharpe ratio is.

    Examples
    --------
    >>> days = np.random.default_rng(0).normal(0.0008, 0.01, 1000)
    >>> alone = track_record(days)
    >>> chosen = track_record(days, trial_sharpes=np.linspace(-0.8, 0.8, 30))
    >>> alone.probabilistic == alone.deflated, chosen.deflated < alone.deflated
    (True, True)
    """
    r = check_returns(returns, "returns", ndim=(1,))
    if r.max() == r.min():
        raise DataError("the returns are constant: there is no Sharpe ratio to judge.")
    trials = np.atleast_1d(np.asarray([] if trial_sharpes is None else trial_sharpes, np.float64))
    if not np.isfinite(trials).all():
        bad = int(np.flatnonzero(~np.isfinite(trials))[0])
        raise DataError(f"the Sharpe ratio of trial {bad} is {trials[bad]}; every trial counts.")
    count = float(max(1, trials.size) if n_trials is None else n_trials)
    if count > 1 and trials.size < 2:
        raise DataError(f"{count:g} trials, but {trials.size} Sharpe ratios; give all of them.")
    # Copies do not add to what is known of the variance: n / (n - 1) with the effective number.
    variance = float(trials.var()) * count / (count - 1.0) if count > 1 else 0.0
    sharpe = float(metrics.sharpe(r, periods_per_year=periods_per_year))
    deviation = r - r.mean()
    kurtosis = float((deviation**4).mean() / (deviation**2).mean() ** 2)
    skewness = float(metrics.skewness(r))
    moments = {"skewness": skewness, "kurtosis": kurtosis, "periods_per_year": periods_per_year}
    return TrackRecord(
        sharpe=sharpe,
        n_dates=len(r),
        skewness=skewness,
        kurtosis=kurtosis,
        probabilistic=probabilistic_sharpe(sharpe, len(r), benchmark=benchmark, **moments),
        benchmark=benchmark,
        n_trials=count,
        expected_maximum=expected_maximum_sharpe(count, variance),
        deflated=deflated_sharpe(
            sharpe, len(r), n_trials=count, trial_variance=variance, **moments
        ),
        minimum_days=minimum_track_record(sharpe, benchmark=benchmark, level=level, **moments),
        level=level,
    )


def _spread(per_day: float, skewness: float, kurtosis: float) -> float:
    """Variance of the root of n times an estimated Sharpe ratio per period (Mertens 2002)."""
    value = 1.0 - skewness * per_day + (kurtosis - 1.0) / 4.0 * per_day**2
    if not value > 0.0:
        raise ConfigError(
            f"no distribution has skewness {skewness:g} with kurtosis {kurtosis:g}; kurtosis 3 is "
            "normal and must be at least 1 + skewness squared."
        )
    return float(value)
