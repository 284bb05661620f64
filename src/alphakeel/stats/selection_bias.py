"""How much a Sharpe ratio proves: given its length, its tails, and how many trials it was best of.

Sharpe ratios are annual on the way in and on the way out; `periods_per_year` says how often
returns were taken. Kurtosis is the plain one: 3 for a normal distribution. All formulas take the
returns as independent over time, as their authors do; where they are not, `stats.sharpe` helps.

`overfitting_probability` asks whether choosing the best trial means anything, by combinatorially
symmetric cross-validation: the days are cut into blocks, and for every way of giving half of the
blocks to one side the trial that was best there is ranked on the other. If choosing means
something, it ranks high there too; if not, it ranks below the median half of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats import performance
from alphakeel.stats.bootstrap import check_series

__all__ = [
    "Overfitting",
    "TrackRecord",
    "deflated_sharpe",
    "expected_maximum_sharpe",
    "minimum_track_record",
    "overfitting_probability",
    "probabilistic_sharpe",
    "track_record",
]

Array = NDArray[np.float64]

_EULER = 0.5772156649015329

# Splits per chunk times trials: 1 048 576 doubles are 8 MiB an array.
_CHUNK_VALUES = 1_048_576


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
        Annual Sharpe ratio that the best of so many trials without skill is expected to show.
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
    """Probability that the best of several trials is better than chance would make the best.

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
    Bailey and López de Prado (2014), https://doi.org/10.3905/jpm.2014.40.5.094.

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
    """Annual Sharpe ratio that the best of `n_trials` independent trials without skill would show.

    ``sqrt(V) ((1 - g) Phi^-1(1 - 1/N) + g Phi^-1(1 - 1/(N e)))`` with g Euler's constant and V the
    variance of the trials' annual Sharpe ratios among each other; 0 for one trial, which was not
    chosen. Bailey and López de Prado (2014), https://doi.org/10.3905/jpm.2014.40.5.094.
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
    r = check_series(returns, "returns", ndim=(1,))
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
    sharpe = float(performance.sharpe(r, periods_per_year=periods_per_year))
    deviation = r - r.mean()
    kurtosis = float((deviation**4).mean() / (deviation**2).mean() ** 2)
    skewness = float(performance.skewness(r))
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


@dataclass(frozen=True, eq=False)
class Overfitting:
    """What choosing the best trial amounts to, over all splits of the days into halves.

    Attributes
    ----------
    probability : float
        Share of the splits in which the trial chosen on one half is below the median of the other
        (a trial exactly at the median counts for one half). 0.5 is pure chance.
    logits : ndarray of shape (n_splits,)
        ``log(w / (1 - w))`` with w the rank of the chosen trial on the other half over
        n_trials + 1; negative below the median.
    chosen : int ndarray of shape (n_splits,)
        Column of the trial that was best on the choosing half.
    inside, outside : ndarray of shape (n_splits,)
        Its statistic on the half that chose it and on the other half; Sharpe ratios are annual.
    slope, intercept : float
        Of the regression of `outside` on `inside`: a slope below zero says that the better a trial
        looked, the worse it was. NaN if `inside` is constant.
    probability_of_loss : float
        Share of the splits in which the chosen trial's statistic is below zero on the other half.
    n_trials, n_blocks : int
    """

    probability: float
    logits: Array
    chosen: NDArray[np.intp]
    inside: Array
    outside: Array
    slope: float
    intercept: float
    probability_of_loss: float
    n_trials: int
    n_blocks: int


def overfitting_probability(
    returns: ArrayLike,
    *,
    n_blocks: int = 16,
    statistic: Callable[[Array], Any] | None = None,
    periods_per_year: float = 252,
) -> Overfitting:
    """Probability of backtest overfitting, by combinatorially symmetric cross-validation (CSCV).

    Parameters
    ----------
    returns : array of shape (n_dates, n_trials)
        Simple returns per day of every trial that was run, not of the best ones only; without NaN.
    n_blocks : int, default=16
        Consecutive blocks of days, an even number; their sizes differ by a day at most. 16 give
        12 870 splits. A block should be longer than the trials' returns remember.
    statistic : callable, optional
        From returns of shape (n_days, n_trials) to shape (n_trials,), higher is better. By default
        the annual Sharpe ratio, computed from the sums of each block: seconds for a thousand
        trials. Any other is called once a split.
    periods_per_year : float, default=252
        For the Sharpe ratio.

    Returns
    -------
    Overfitting

    Raises
    ------
    ConfigError
        If `n_blocks` is odd, below 2, or above 20 (more than 184 756 splits).
    DataError
        If there are fewer than two trials or two days a block, a return is missing, or the
        statistic is undefined on a half of the days.

    Notes
    -----
    The published estimator counts logits at or below zero; with an even number of trials no logit
    is zero and the two agree. With an odd number that count exceeds one half under pure chance,
    which the half weight at the median corrects.

    References
    ----------
    Bailey, D. H., Borwein, J. M., López de Prado, M. and Zhu, Q. J. (2017). The probability of
    backtest overfitting. Journal of Computational Finance 20(4), 39-69.
    https://doi.org/10.21314/JCF.2016.322

    Examples
    --------
    >>> days = np.random.default_rng(0).normal(0.0, 0.01, (800, 20))
    >>> days[:, 3] += 0.003
    >>> result = overfitting_probability(days, n_blocks=8)
    >>> len(result.logits), result.probability < 0.05
    (70, True)
    """
    r = _check(returns, n_blocks)
    n_dates, n_trials = r.shape
    edges = np.array([n_dates * k // n_blocks for k in range(n_blocks + 1)])
    picks = _halves(n_blocks)
    chosen, inside, outside, ranks = [], [], [], []
    step = max(1, _CHUNK_VALUES // n_trials)
    scores = (
        _sharpes(r, edges, periods_per_year)
        if statistic is None
        else _statistic_of_blocks(r, edges, statistic)
    )
    for start in range(0, len(picks), step):
        part = picks[start : start + step]
        here, there = scores(part), scores(~part)
        _refuse_undefined(here, there)
        best = here.argmax(axis=1)
        rows = np.arange(len(part))
        chosen.append(best)
        inside.append(here[rows, best])
        outside.append(there[rows, best])
        mine = outside[-1][:, None]
        # Average rank from 1; the chosen trial is among its own ties.
        ranks.append((there < mine).sum(axis=1) + 0.5 * ((there == mine).sum(axis=1) + 1))
    rank = np.concatenate(ranks)
    logits = np.log(rank / (n_trials + 1 - rank))
    before, after = np.concatenate(inside), np.concatenate(outside)
    slope, intercept = _least_squares_line(before, after)
    return Overfitting(
        probability=float((logits < 0.0).mean() + 0.5 * (logits == 0.0).mean()),
        logits=logits,
        chosen=np.concatenate(chosen),
        inside=before,
        outside=after,
        slope=slope,
        intercept=intercept,
        probability_of_loss=float((after < 0.0).mean()),
        n_trials=n_trials,
        n_blocks=n_blocks,
    )


def _halves(n_blocks: int) -> NDArray[np.bool_]:
    """Every choice of half the blocks, (n_splits, n_blocks); each appears with its complement."""
    half = n_blocks // 2
    picks = np.zeros((comb(n_blocks, half), n_blocks), dtype=np.bool_)
    places = np.array(list(combinations(range(n_blocks), half)))
    np.put_along_axis(picks, places, True, axis=1)
    return picks


def _sharpes(r: Array, edges: NDArray[np.intp], periods: float) -> Callable[..., Array]:
    """Annual Sharpe ratios of unions of blocks, from each block's count, sum and sum of squares."""
    centre = r.mean(axis=0)  # sums of squares about the mean of all days keep their digits
    deviation = r - centre
    size = np.diff(edges).astype(np.float64)
    total = np.add.reduceat(deviation, edges[:-1], axis=0)
    squares = np.add.reduceat(deviation * deviation, edges[:-1], axis=0)
    scale = squares.sum(axis=0) / len(r)

    def score(picks: NDArray[np.bool_]) -> Array:
        mask = picks.astype(np.float64)
        count = (mask @ size)[:, None]
        mean = (mask @ total) / count
        variance = (mask @ squares - count * mean * mean) / (count - 1.0)
        # Rounding leaves a constant with a variance of a few units in the last place.
        known = variance > 1e-12 * scale
        spread = np.sqrt(np.where(known, variance, np.nan))
        return np.asarray((mean + centre) / spread * np.sqrt(periods))

    return score


def _statistic_of_blocks(
    r: Array, edges: NDArray[np.intp], statistic: Callable[[Array], Any]
) -> Callable[..., Array]:
    """Any statistic of unions of blocks, on the rows themselves."""
    block = np.repeat(np.arange(len(edges) - 1), np.diff(edges))

    def score(picks: NDArray[np.bool_]) -> Array:
        values = np.stack([np.asarray(statistic(r[pick[block]]), dtype=float) for pick in picks])
        if values.shape != (len(picks), r.shape[1]):
            raise ConfigError(
                f"the statistic gave shape {values.shape[1:]} for {r.shape[1]} trials; it must "
                "give one value per column."
            )
        return values

    return score


def _least_squares_line(x: Array, y: Array) -> tuple[float, float]:
    """Slope and intercept of least squares; NaN if x is constant."""
    deviation = x - x.mean()
    square = float(deviation @ deviation)
    if square <= 1e-24 * max(1.0, float(x @ x)):
        return float("nan"), float("nan")
    slope = float(deviation @ y) / square
    return slope, float(y.mean() - slope * x.mean())


def _check(returns: ArrayLike, n_blocks: int) -> Array:
    if n_blocks % 2 or not 2 <= n_blocks <= 20:
        raise ConfigError(f"n_blocks must be an even number from 2 to 20, got {n_blocks!r}.")
    r = np.asarray(returns, dtype=np.float64)
    if r.ndim != 2 or r.shape[1] < 2:
        raise DataError(f"returns must have shape (n_dates, n_trials >= 2), got {r.shape}.")
    if len(r) < 2 * n_blocks:
        raise DataError(
            f"{len(r)} days are too few for {n_blocks} blocks of at least 2; use fewer blocks."
        )
    bad = np.argwhere(~np.isfinite(r))
    if len(bad):
        row, trial = (int(i) for i in bad[0])
        raise DataError(f"returns of trial {trial} hold {r[row, trial]} at row {row}.")
    return r


def _refuse_undefined(here: Array, there: Array) -> None:
    for values in (here, there):
        bad = np.argwhere(np.isnan(values))
        if len(bad):
            raise DataError(
                f"the statistic of trial {int(bad[0][1])} is undefined on a half of the days (a "
                "constant return?); leave the trial out, or use fewer blocks."
            )
