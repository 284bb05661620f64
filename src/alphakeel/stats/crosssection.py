"""One date at a time: ranks, scores and information coefficients.

Axis 0 is time, axis 1 is the cross-section of assets. Every result of a date depends on that
date's row alone, bit for bit: nothing here can look ahead, or back. NaN and infinities are
missing values; an optional boolean `mask` removes further entries. Missing entries stay out of
every statistic and are NaN in every output.

The work runs in blocks of dates that fit a processor's second-level cache. Sums of ranks are
sums of integers, hence exact: neither the block size nor the order of the assets can move a
rank correlation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alphakeel.errors import ConfigError
from alphakeel.stats.correlation import ic, rank_ic
from alphakeel.stats.ranks import centred_ranks, order_dates, scaled_ranks
from alphakeel.stats.rows import (
    Bools,
    Floats,
    blocks_of,
    check_values,
    count_valid,
    deviations_of,
)

__all__ = [
    "ic",
    "rank",
    "rank_ic",
    "rank_scaled",
    "winsorize",
    "zscore",
]

# Median absolute deviation to standard deviation, under a normal distribution.
_MAD_TO_SIGMA = 1.4826


def rank(x: ArrayLike, mask: ArrayLike | None = None) -> Floats:
    """Average ranks 1..n of each date's values.

    Parameters
    ----------
    x : array of shape (n_dates, n_assets)
        Any unit. NaN and infinities are missing.
    mask : bool array of shape (n_dates, n_assets), optional
        False removes an entry.

    Returns
    -------
    ndarray of shape (n_dates, n_assets)
        Ranks from 1 (smallest) to n, ties sharing the average of their ranks, as in
        `scipy.stats.rankdata`; NaN where missing. float32 if `x` is, else float64.

    Examples
    --------
    >>> rank([[0.3, 0.1, float("nan"), 0.3]])
    array([[2.5, 1. , nan, 2.5]])
    """
    values, valid = check_values(x, mask, "x")
    out = np.empty_like(values)
    for rows in blocks_of(values):
        ok = valid[rows]
        ranks = (centred_ranks(order_dates(values[rows], ok), ok) + (count_valid(ok) + 1.0)) * 0.5
        out[rows] = np.where(ok, ranks, np.nan)
    return out


def rank_scaled(x: ArrayLike, mask: ArrayLike | None = None) -> Floats:
    """Average ranks of each date, shifted and scaled to mean 0 and variance 1.

    Parameters
    ----------
    x, mask
        As in `rank`.

    Returns
    -------
    ndarray of shape (n_dates, n_assets)
        Mean 0 and population variance (ddof = 0) 1 over the valid entries of a date; 0 for all
        of them where they are all tied, for then the date says nothing; NaN where missing.
        float32 if `x` is, else float64.

    Examples
    --------
    >>> rank_scaled([[10.0, 30.0, 20.0, float("nan")]]).round(3)
    array([[-1.225,  1.225,  0.   ,    nan]])
    """
    values, valid = check_values(x, mask, "x")
    out = np.empty_like(values)
    for rows in blocks_of(values):
        ok = valid[rows]
        ranks = scaled_ranks(order_dates(values[rows], ok), ok)
        out[rows] = np.where(ok, ranks, np.nan)
    return out


def zscore(x: ArrayLike, mask: ArrayLike | None = None) -> Floats:
    """Each date's values, shifted and scaled to mean 0 and variance 1.

    Parameters
    ----------
    x, mask
        As in `rank`.

    Returns
    -------
    ndarray of shape (n_dates, n_assets)
        ``(x - mean) / std`` with the population standard deviation (ddof = 0); 0 where all valid
        values of the date are equal; NaN where missing. float32 if `x` is, else float64.

    Examples
    --------
    >>> zscore([[1.0, 2.0, 3.0]]).round(3)
    array([[-1.225,  0.   ,  1.225]])
    """
    values, valid = check_values(x, mask, "x")
    out = np.empty_like(values)
    for rows in blocks_of(values):
        ok = valid[rows]
        out[rows] = np.where(
            ok, _unit_variance(deviations_of(values[rows], ok), count_valid(ok)), np.nan
        )
    return out


def winsorize(x: ArrayLike, limit: float, mask: ArrayLike | None = None) -> Floats:
    """Pull each date's outliers in to ``median +- limit * 1.4826 * MAD``.

    Parameters
    ----------
    x, mask
        As in `rank`.
    limit : float
        Robust standard deviations allowed either side of the date's median; > 0. The factor
        1.4826 makes the median absolute deviation (MAD) estimate a normal distribution's sigma.

    Returns
    -------
    ndarray of shape (n_dates, n_assets)
        Clipped values; NaN where missing. A date whose MAD is 0 (more than half its values
        equal) has no scale to judge by and is left as it is. float32 if `x` is, else float64.

    Raises
    ------
    ConfigError
        If `limit` is not a positive number.

    References
    ----------
    Hampel, F. R. (1974). The influence curve and its role in robust estimation. JASA 69, 383-393.
    https://doi.org/10.1080/01621459.1974.10482962

    Examples
    --------
    >>> winsorize([[1.0, 2.0, 3.0, 4.0, 100.0]], limit=3.0).round(3)
    array([[1.   , 2.   , 3.   , 4.   , 7.448]])
    """
    if not limit > 0:
        raise ConfigError(f"winsorize limit must be a positive number of sigmas, got {limit!r}.")
    values, valid = check_values(x, mask, "x")
    out = np.empty_like(values)
    for rows in blocks_of(values):
        ok = valid[rows]
        block = np.where(ok, values[rows], np.nan)
        # An overflow here means limits at infinity, which clip nothing: the right answer.
        with np.errstate(over="ignore"):
            centre = _median(block, ok)
            half_width = _MAD_TO_SIGMA * limit * _median(np.abs(block - centre), ok)
            half_width[half_width == 0.0] = np.inf
            out[rows] = np.clip(block, centre - half_width, centre + half_width)
    return out


def _unit_variance(
    deviations: NDArray[np.float64], count: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Deviations divided by their population standard deviation; 0 where that is 0."""
    variance = (deviations * deviations).sum(axis=1, keepdims=True) / np.maximum(count, 1.0)
    return deviations / np.sqrt(np.where(variance > 0.0, variance, 1.0))


def _median(block: Floats, valid: Bools) -> Floats:
    """Median of the valid entries per date, shape (n_dates, 1); NaN with none. Invalid are NaN."""
    ordered = np.sort(block, axis=1)  # NaN last
    count = np.count_nonzero(valid, axis=1, keepdims=True)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=1)
    high = np.take_along_axis(ordered, np.minimum(count // 2, block.shape[1] - 1), axis=1)
    # Halves first: the sum of two huge values would overflow.
    return np.asarray(low * 0.5 + high * 0.5)
