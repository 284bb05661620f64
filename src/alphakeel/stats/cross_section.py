"""One date at a time: ranks, scores and information coefficients.

Axis 0 is time, axis 1 is the cross-section of assets. Every result of a date depends on that
date's row alone, bit for bit: nothing here can look ahead, or back. NaN and infinities are
missing values; an optional boolean `mask` removes further entries. Missing entries stay out of
every statistic and are NaN in every output. Outputs are float32 if the input is, else float64.

The work runs in blocks of dates that fit a processor's second-level cache. Ranks are found with
one sort, shared by subsets of a date's values, and handled as ``2 * rank - (n + 1)``: sums of
whole numbers are exact, so neither the block size nor the order of the assets can move a rank
correlation. Other sums are `row_sums`: stocks that do not count on a date change no bit of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats.performance import check_labels

__all__ = [
    "Bools",
    "Floats",
    "Ordering",
    "centred_ranks",
    "centred_ranks_among",
    "column_sums",
    "check_values",
    "count_valid",
    "date_blocks",
    "deviations_of",
    "doubled_positions",
    "ic",
    "order_dates",
    "rank",
    "rank_ic",
    "rank_scaled",
    "row_sums",
    "scaled_ranks",
    "winsorize",
    "zscore",
]

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]

# Median absolute deviation to standard deviation, under a normal distribution.
_MAD_TO_SIGMA = 1.4826

# 32 768 doubles are 256 KiB: a block and the temporaries in use fit an L2 cache of 1 MiB.
BLOCK_VALUES = 32_768


def rank(x: ArrayLike, mask: ArrayLike | None = None) -> Floats:
    """Average ranks 1..n of each date's values, smallest first, as in `scipy.stats.rankdata`."""
    values, valid = check_values(x, mask, "x")
    out = np.empty_like(values)
    for dates in date_blocks(values):
        ok = valid[dates]
        ranks = (centred_ranks(order_dates(values[dates], ok), ok) + (count_valid(ok) + 1.0)) * 0.5
        out[dates] = np.where(ok, ranks, np.nan)
    return out


def rank_scaled(x: ArrayLike, mask: ArrayLike | None = None) -> Floats:
    """Average ranks of each date, shifted and scaled to mean 0 and population variance 1.

    All 0 on a date whose values are all tied, for then the date says nothing.
    """
    values, valid = check_values(x, mask, "x")
    out = np.empty_like(values)
    for dates in date_blocks(values):
        ok = valid[dates]
        ranks = scaled_ranks(order_dates(values[dates], ok), ok)
        out[dates] = np.where(ok, ranks, np.nan)
    return out


def zscore(x: ArrayLike, mask: ArrayLike | None = None) -> Floats:
    """Each date's values with mean 0 and population variance 1; 0 where all are equal."""
    values, valid = check_values(x, mask, "x")
    out = np.empty_like(values)
    for dates in date_blocks(values):
        ok = valid[dates]
        out[dates] = np.where(
            ok, _unit_variance(deviations_of(values[dates], ok), count_valid(ok)), np.nan
        )
    return out


def winsorize(
    x: ArrayLike, limit: float, mask: ArrayLike | None = None, *, among: Bools | None = None
) -> Floats:
    """Pull each date's outliers in to ``median +- limit * 1.4826 * MAD``.

    `among` are the entries whose median and MAD they are, by default all that count; a date with
    none of them is left as it is.

    1.4826 makes the median absolute deviation (MAD) estimate a normal distribution's sigma. A date
    whose MAD is 0 (more than half its values equal) has no scale to judge by and is left as it is.
    Hampel (1974), https://doi.org/10.1080/01621459.1974.10482962.
    """
    if not limit > 0:
        raise ConfigError(f"winsorize limit must be a positive number of sigmas, got {limit!r}.")
    values, valid = check_values(x, mask, "x")
    out = np.empty_like(values)
    for dates in date_blocks(values):
        ok = valid[dates]
        block = np.where(ok, values[dates], np.nan)
        judged = ok if among is None else ok & among[dates]
        # An overflow here means limits at infinity, which clip nothing: the right answer.
        with np.errstate(over="ignore"):
            centre = _median(block, judged)
            half_width = _MAD_TO_SIGMA * limit * _median(np.abs(block - centre), judged)
            half_width[~(half_width > 0.0)] = np.inf
            centre[np.isnan(centre)] = 0.0
            out[dates] = np.clip(block, centre - half_width, centre + half_width)
    return out


def _unit_variance(
    deviations: NDArray[np.float64], count: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Deviations divided by their population standard deviation; 0 where that is 0."""
    variance = row_sums(deviations * deviations)[:, None] / np.maximum(count, 1.0)
    return deviations / np.sqrt(np.where(variance > 0.0, variance, 1.0))


def _median(block: Floats, valid: Bools) -> Floats:
    """Median of the valid entries per date, shape (n_dates, 1); NaN with none."""
    ordered = np.sort(np.where(valid, block, np.nan), axis=1)  # NaN last
    count = np.count_nonzero(valid, axis=1, keepdims=True)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=1)
    high = np.take_along_axis(ordered, np.minimum(count // 2, block.shape[1] - 1), axis=1)
    # Halves first: the sum of two huge values would overflow.
    return np.asarray(low * 0.5 + high * 0.5)


class Ordering(NamedTuple):
    """The sorted order of each date's valid values; the others come last."""

    order: NDArray[np.intp]  # (n_dates, n_assets) indices into the raveled block
    runs: NDArray[np.intp] | None  # where in it each run of equal values begins; None: no ties


def order_dates(values: Floats, valid: Bools) -> Ordering:
    """Sort each date."""
    n_dates, n_assets = values.shape
    keys = np.where(valid, values, np.nan).astype(np.float64, copy=False)
    count = np.count_nonzero(valid, axis=1)
    # A plain vectorised sort is twice as fast as an argsort. So the lowest bits of the mantissa
    # make room for the index of the asset (exact for float32, which leaves them empty) and the
    # order found is checked: values that differ in those bits alone can come out swapped.
    index_bits = np.int64((1 << (n_assets - 1).bit_length()) - 1)
    greatest = np.float64(np.finfo(np.float64).max)
    labelled = np.fmin(keys, greatest).view(np.int64)
    labelled &= ~index_bits
    labelled |= np.arange(n_assets)
    labelled.view(np.float64).sort(axis=1)
    labelled &= index_bits
    starts = np.arange(n_dates) * n_assets
    order = labelled.astype(np.intp, copy=False)
    order += starts[:, None]
    ordered = keys.ravel()[order.ravel()].reshape(keys.shape)
    flat = ordered[:, 1:] <= ordered[:, :-1]  # a tie, or a swap to put right; never at a NaN
    # A NaN sorts as the greatest number does; values next to that one could change places with it.
    last = ordered[np.arange(n_dates), count - 1]
    swapped = (count > 0) & ~(last < (greatest.view(np.int64) & ~index_bits).view(np.float64))
    if flat.any():
        swapped |= (ordered[:, 1:] < ordered[:, :-1]).any(axis=1)
    if swapped.any():
        order[swapped] = np.argsort(keys[swapped], axis=1) + starts[swapped, None]
        ordered = keys.ravel()[order]
        flat = ordered[:, 1:] == ordered[:, :-1]
    if not flat.any():
        return Ordering(order, None)
    begins = np.ones(keys.shape, dtype=np.bool_)
    np.logical_not(flat, out=begins[:, 1:])
    return Ordering(order, np.flatnonzero(begins))


def centred_ranks(ordering: Ordering, valid: Bools) -> NDArray[np.float64]:
    """``2 * rank - (n + 1)`` per date: whole numbers that sum to zero; 0 where not valid."""
    doubled = doubled_positions(ordering)
    doubled -= count_valid(valid) - 1.0
    ranks = np.empty(valid.shape)
    ranks.reshape(-1)[ordering.order.ravel()] = doubled.ravel()
    ranks *= valid
    return ranks


def scaled_ranks(ordering: Ordering, valid: Bools, dtype: type[np.floating] = np.float64) -> Floats:
    """Ranks of mean 0 and population variance 1 per date; 0 where not valid, or all are tied."""
    count = count_valid(valid)
    doubled = doubled_positions(ordering)
    doubled -= count - 1.0
    doubled *= np.arange(valid.shape[1]) < count
    variance = np.vecdot(doubled, doubled)[:, None] / np.maximum(count, 1.0)
    doubled /= np.sqrt(np.where(variance > 0.0, variance, 1.0))
    ranks = np.empty(valid.shape, dtype=dtype)
    ranks.reshape(-1)[ordering.order.ravel()] = doubled.astype(dtype, copy=False).ravel()
    return ranks


def centred_ranks_among(ordering: Ordering, subset: Bools) -> NDArray[np.float64]:
    """`centred_ranks` among a subset of the valid entries, without sorting again."""
    order, runs = ordering
    n_assets = order.shape[1]
    # How many of the subset stand at or before each position, from position -1 on.
    upto = np.zeros((len(order), n_assets + 1))
    np.cumsum(subset.ravel()[order], axis=1, out=upto[:, 1:])
    total = upto[:, -1:].copy()
    if runs is None:
        doubled = upto[:, 1:] * 2.0
        doubled -= total + 1.0
    else:
        lengths = np.diff(runs, append=order.size)
        before = runs + runs // n_assets  # each row of `upto` is one longer
        counts = upto.ravel()
        both_ends = counts[before] + counts[before + lengths]
        doubled = np.repeat(both_ends, lengths).reshape(order.shape)
        doubled -= total
    ranks = np.empty(order.shape)
    ranks.reshape(-1)[order.ravel()] = doubled.ravel()
    ranks *= subset
    return ranks


def doubled_positions(ordering: Ordering) -> NDArray[np.float64]:
    """Twice the average position, from 0, of each sorted entry's run of ties."""
    order, runs = ordering
    n_dates, n_assets = order.shape
    if runs is None:
        return np.tile(2.0 * np.arange(n_assets), (n_dates, 1))
    lengths = np.diff(runs, append=order.size)
    both_ends = (2 * (runs % n_assets) + lengths - 1).astype(np.float64)
    return np.repeat(both_ends, lengths).reshape(order.shape)


def check_values(x: ArrayLike, mask: ArrayLike | None, name: str) -> tuple[Floats, Bools]:
    """Values as contiguous float32 or float64, and which of them count."""
    check_labels(**{name: x, "mask": mask})
    values = np.asarray(x)
    if values.ndim != 2:
        raise DataError(f"{name} must have shape (n_dates, n_assets), got {values.shape}.")
    dtype = np.float32 if values.dtype == np.float32 else np.float64
    # Contiguity fixes the order of summation, and with it the last bit.
    values = np.ascontiguousarray(values, dtype=dtype)
    valid = np.isfinite(values)
    if mask is not None:
        keep = np.asarray(mask)
        if keep.dtype != np.bool_ or keep.shape != values.shape:
            raise DataError(
                f"mask must be boolean of shape {values.shape}, got {keep.dtype} {keep.shape}."
            )
        valid &= keep
    return values, valid


def date_blocks(values: Floats) -> Iterator[slice]:
    """Slices of consecutive dates whose block of values fits in cache."""
    n_dates, n_assets = values.shape
    step = max(1, BLOCK_VALUES // max(n_assets, 1))
    for start in range(0, n_dates if n_assets else 0, step):
        yield slice(start, min(start + step, n_dates))


def count_valid(valid: Bools) -> NDArray[np.float64]:
    """Entries that count on each date, (n_dates, 1)."""
    return np.count_nonzero(valid, axis=1, keepdims=True).astype(np.float64)


def row_sums(x: NDArray[Any], valid: Bools | None = None) -> NDArray[np.float64]:
    """Sum of each row, along the last axis, in the order of the assets.

    Each value is added to the sum of those before it, so that zeros between them change no bit:
    the sum of a date does not depend on how many other stocks the panel has. `valid` are the
    entries that count, by default all.
    """
    if x.shape[-1] == 0:
        return np.zeros(x.shape[:-1])
    counted = x if valid is None else np.where(valid, x, 0.0)
    return np.asarray(np.cumsum(counted, axis=-1, dtype=np.float64)[..., -1])


def column_sums(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over the first axis of (n_assets, n_rows): to the bit those of `row_sums`, quicker.

    NumPy adds whole rows of a contiguous block, one after the other; a single column is summed
    pairwise, and so is not left to it.
    """
    if x.shape[1] == 1:
        return row_sums(x.T)
    return np.asarray(np.add.reduce(x, axis=0))


def deviations_of(values: Floats, valid: Bools) -> NDArray[np.float64]:
    """Deviations from each date's mean in units of its largest value; 0 where not valid."""
    filled = np.where(valid, values, 0.0).astype(np.float64, copy=False)
    # In units of the largest value no square can overflow, or vanish.
    largest = np.abs(filled).max(axis=1, keepdims=True)
    filled = filled / np.where(largest > 0.0, largest, 1.0)
    mean = row_sums(filled)[:, None] / np.maximum(count_valid(valid), 1.0)
    # The mean of equal values may miss them by a rounding error: constants are found by range.
    low = np.where(valid, filled, np.inf).min(axis=1, keepdims=True)
    high = np.where(valid, filled, -np.inf).max(axis=1, keepdims=True)
    deviations: NDArray[np.float64] = np.where(valid & (high > low), filled - mean, 0.0)
    return deviations


def ic(
    scores: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None, min_assets: int = 5
) -> NDArray[np.float64]:
    """Information coefficient: the Pearson correlation of scores and targets on each date.

    Parameters
    ----------
    scores : array of shape (n_dates, n_assets)
        Forecasts or factor values, any unit.
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
    values, valid, layers, min_assets = _pair_inputs(scores, targets, mask, min_assets)
    out = np.full((len(values), layers.shape[2]), np.nan)
    for dates in date_blocks(values):
        for h in range(layers.shape[2]):
            target = np.ascontiguousarray(layers[dates, :, h])
            ok = valid[dates] & np.isfinite(target)
            a, b = deviations_of(values[dates], ok), deviations_of(target, ok)
            out[dates, h] = _correlation(
                row_sums(a * b),
                row_sums(a * a) * row_sums(b * b),
                np.count_nonzero(ok, axis=1) >= min_assets,
            )
    return out if np.ndim(targets) == 3 else out[:, 0]


def rank_ic(
    scores: ArrayLike, targets: ArrayLike, mask: ArrayLike | None = None, min_assets: int = 5
) -> NDArray[np.float64]:
    """Rank information coefficient: the Spearman correlation on each date, exact under ties.

    Arguments and result are those of `ic`. Both sides are ranked among their jointly valid pairs,
    with average ranks for ties, as in `scipy.stats.spearmanr`.

    Examples
    --------
    >>> rank_ic([[1.0, 2.0, 3.0, 4.0, 5.0]], [[1.0, 2.0, 3.0, 4.0, 10.0]])
    array([1.])
    """
    values, valid, layers, min_assets = _pair_inputs(scores, targets, mask, min_assets)
    out = np.full((len(values), layers.shape[2]), np.nan)
    for dates in date_blocks(values):
        alone = valid[dates]
        ordering = order_dates(values[dates], alone)
        ranks_alone = centred_ranks(ordering, alone)
        for h in range(layers.shape[2]):
            target = np.ascontiguousarray(layers[dates, :, h])
            ok = alone & np.isfinite(target)
            same_pairs = np.array_equal(ok, alone)
            a = ranks_alone if same_pairs else centred_ranks_among(ordering, ok)
            # The scores' ranks in the order of the target, in which the target's own are known.
            target_order = order_dates(target, ok)
            a = a.ravel()[target_order.order.ravel()].reshape(a.shape)
            count = count_valid(ok)
            b = doubled_positions(target_order) - (count - 1.0)
            b *= np.arange(b.shape[1]) < count
            out[dates, h] = _correlation(
                np.vecdot(a, b),
                np.vecdot(a, a) * np.vecdot(b, b),
                count[:, 0] >= min_assets,
            )
    return out if np.ndim(targets) == 3 else out[:, 0]


def _pair_inputs(
    scores: ArrayLike, targets: ArrayLike, mask: ArrayLike | None, min_assets: int
) -> tuple[Floats, Bools, Floats, int]:
    """Scores, their validity and targets of shape (n_dates, n_assets, n_horizons)."""
    check_labels(scores=scores, targets=targets)
    values, valid = check_values(scores, mask, "scores")
    layers = np.asarray(targets)
    if layers.dtype != np.float32:
        layers = layers.astype(np.float64, copy=False)
    if layers.shape[:2] != values.shape or layers.ndim not in (2, 3):
        raise DataError(
            f"targets have shape {layers.shape}; scores of shape {values.shape} need "
            "(n_dates, n_assets) or (n_dates, n_assets, n_horizons)."
        )
    if layers.ndim == 2:
        layers = layers[:, :, None]
    # A correlation of one pair is undefined and of two is always +-1.
    return values, valid, layers, max(int(min_assets), 2)


def _correlation(
    covariance: NDArray[np.float64], variances: NDArray[np.float64], enough: Bools
) -> NDArray[np.float64]:
    """``covariance / sqrt(variances)``, NaN where undefined."""
    defined = enough & (variances > 0.0)
    ratio = covariance / np.sqrt(np.where(defined, variances, 1.0))
    return np.where(defined, np.clip(ratio, -1.0, 1.0), np.nan)
