"""Information coefficients: how scores and what followed go together, date by date."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alphakeel.errors import DataError
from alphakeel.stats.ranks import (
    centred_ranks,
    centred_ranks_among,
    doubled_positions,
    order_dates,
)
from alphakeel.stats.rows import (
    Bools,
    Floats,
    blocks_of,
    check_values,
    count_valid,
    deviations_of,
)

__all__ = ["ic", "rank_ic"]


def ic(
    scores: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None, min_assets: int = 5
) -> NDArray[np.float64]:
    """Information coefficient: the Pearson correlation of scores and targets on each date.

    Parameters
    ----------
    scores : array of shape (n_dates, n_assets)
        Forecasts or factor values, any unit. NaN and infinities are missing.
    targets : array of shape (n_dates, n_assets) or (n_dates, n_assets, n_horizons)
        What they try to forecast, on the row of the date of the forecast.
    mask : bool array of shape (n_dates, n_assets), optional
        False removes an entry.
    min_assets : int, default=5
        A date with fewer jointly valid pairs has no coefficient.

    Returns
    -------
    ndarray of shape (n_dates,) or (n_dates, n_horizons)
        Correlations in [-1, 1]; NaN with too few pairs, or where either side is constant.

    Examples
    --------
    >>> ic([[1.0, 2.0, 3.0, 4.0, 5.0]], [[1.0, 2.0, 3.0, 4.0, 10.0]]).round(3)
    array([0.894])
    """
    values, valid, goals, min_assets = _pair_inputs(scores, targets, mask, min_assets)
    out = np.full((len(values), goals.shape[2]), np.nan)
    for rows in blocks_of(values):
        for h in range(goals.shape[2]):
            goal = np.ascontiguousarray(goals[rows, :, h])
            ok = valid[rows] & np.isfinite(goal)
            a, b = deviations_of(values[rows], ok), deviations_of(goal, ok)
            out[rows, h] = _correlation(
                (a * b).sum(axis=1),
                (a * a).sum(axis=1) * (b * b).sum(axis=1),
                np.count_nonzero(ok, axis=1) >= min_assets,
            )
    return out if np.ndim(targets) == 3 else out[:, 0]


def rank_ic(
    scores: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None, min_assets: int = 5
) -> NDArray[np.float64]:
    """Rank information coefficient: the Spearman correlation on each date, exact under ties.

    Both sides are ranked among their jointly valid pairs, with average ranks for ties, and the
    ranks are correlated; `scipy.stats.spearmanr` of the same pairs gives the same number.

    Parameters
    ----------
    scores, targets, mask, min_assets
        As in `ic`. Ranks of the scores are shared by the horizons that have the same pairs.

    Returns
    -------
    ndarray of shape (n_dates,) or (n_dates, n_horizons)
        Correlations in [-1, 1]; NaN with too few pairs, or where either side is constant.

    Examples
    --------
    >>> rank_ic([[1.0, 2.0, 3.0, 4.0, 5.0]], [[1.0, 2.0, 3.0, 4.0, 10.0]])
    array([1.])
    """
    values, valid, goals, min_assets = _pair_inputs(scores, targets, mask, min_assets)
    out = np.full((len(values), goals.shape[2]), np.nan)
    for rows in blocks_of(values):
        alone = valid[rows]
        ordering = order_dates(values[rows], alone)
        ranks_alone = centred_ranks(ordering, alone)
        for h in range(goals.shape[2]):
            goal = np.ascontiguousarray(goals[rows, :, h])
            ok = alone & np.isfinite(goal)
            same_pairs = np.array_equal(ok, alone)
            a = ranks_alone if same_pairs else centred_ranks_among(ordering, ok)
            # The scores' ranks walk in the order of the goal, where the goal's own are at hand.
            goal_ordering = order_dates(goal, ok)
            a = a.ravel()[goal_ordering.order.ravel()].reshape(a.shape)
            count = count_valid(ok)
            b = doubled_positions(goal_ordering) - (count - 1.0)
            b *= np.arange(b.shape[1]) < count
            out[rows, h] = _correlation(
                np.vecdot(a, b),
                np.vecdot(a, a) * np.vecdot(b, b),
                count[:, 0] >= min_assets,
            )
    return out if np.ndim(targets) == 3 else out[:, 0]


def _pair_inputs(
    scores: ArrayLike, targets: ArrayLike, mask: ArrayLike | None, min_assets: int
) -> tuple[Floats, Bools, Floats, int]:
    """Scores, their validity and targets of shape (n_dates, n_assets, n_horizons)."""
    values, valid = check_values(scores, mask, "scores")
    goals = np.asarray(targets)
    if goals.dtype != np.float32:
        goals = goals.astype(np.float64, copy=False)
    if goals.shape[:2] != values.shape or goals.ndim not in (2, 3):
        raise DataError(
            f"targets have shape {goals.shape}; scores of shape {values.shape} need "
            "(n_dates, n_assets) or (n_dates, n_assets, n_horizons)."
        )
    # A correlation of one pair is undefined and of two is always +-1.
    return values, valid, goals[:, :, None] if goals.ndim == 2 else goals, max(int(min_assets), 2)


def _correlation(
    covariance: NDArray[np.float64], variances: NDArray[np.float64], enough: Bools
) -> NDArray[np.float64]:
    """``covariance / sqrt(variances)``, NaN where undefined."""
    defined = enough & (variances > 0.0)
    ratio = covariance / np.sqrt(np.where(defined, variances, 1.0))
    return np.where(defined, np.clip(ratio, -1.0, 1.0), np.nan)
