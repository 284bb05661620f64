"""Did choosing the best of many trials choose luck: combinatorially symmetric cross-validation.

The days are cut into blocks. Every way of giving half of the blocks to one side is a split: the
trial that was best on one half is looked up on the other. If choosing means something, it ranks
high there too; if it chose luck, it ranks anywhere, and below the median half of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alphakeel.errors import ConfigError, DataError

__all__ = ["Overfitting", "overfitting_probability"]

Array = NDArray[np.float64]

# Splits per chunk times trials: 1 048 576 doubles are 8 MiB an array.
_CHUNK_VALUES = 1_048_576


@dataclass(frozen=True, eq=False)
class Overfitting:
    """What choosing the best trial amounts to, over all splits of the days into halves.

    Attributes
    ----------
    probability : float
        Share of the splits in which the trial chosen on one half is below the median of the other
        (a trial exactly at the median counts for one half). 0.5 is pure luck.
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
    is zero and the two agree. With an odd number that count exceeds one half under pure luck,
    which the half weight at the median mends.

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
        _sharpes(r, edges, periods_per_year) if statistic is None else _any(r, edges, statistic)
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
    found, kept = np.concatenate(inside), np.concatenate(outside)
    slope, intercept = _line(found, kept)
    return Overfitting(
        probability=float((logits < 0.0).mean() + 0.5 * (logits == 0.0).mean()),
        logits=logits,
        chosen=np.concatenate(chosen),
        inside=found,
        outside=kept,
        slope=slope,
        intercept=intercept,
        probability_of_loss=float((kept < 0.0).mean()),
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


def _any(
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


def _line(x: Array, y: Array) -> tuple[float, float]:
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
