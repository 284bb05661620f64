"""Dates in blocks that fit in the cache, which of their values count, and how far from the mean.

What `crosssection`, `ranks` and `correlation` are built on.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alphakeel.errors import DataError

__all__ = ["Bools", "Floats", "blocks_of", "check_values", "count_valid", "deviations_of"]

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]

# 32 768 doubles are 256 KiB: a block and the temporaries in use fit an L2 cache of 1 MiB.
BLOCK_VALUES = 32_768


def check_values(x: ArrayLike, mask: ArrayLike | None, name: str) -> tuple[Floats, Bools]:
    """Values as contiguous float32 or float64, and which of them count."""
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


def blocks_of(values: Floats) -> Iterator[slice]:
    """Slices of consecutive dates whose block of values fits in cache."""
    n_dates, n_assets = values.shape
    step = max(1, BLOCK_VALUES // max(n_assets, 1))
    for start in range(0, n_dates if n_assets else 0, step):
        yield slice(start, min(start + step, n_dates))


def count_valid(valid: Bools) -> NDArray[np.float64]:
    """Entries that count on each date, (n_dates, 1)."""
    return np.count_nonzero(valid, axis=1, keepdims=True).astype(np.float64)


def deviations_of(values: Floats, valid: Bools) -> NDArray[np.float64]:
    """Deviations from each date's mean in units of its largest value; 0 where not valid."""
    filled = np.where(valid, values, 0.0).astype(np.float64, copy=False)
    # In units of the largest value no square can overflow, or vanish.
    largest = np.abs(filled).max(axis=1, keepdims=True)
    filled = filled / np.where(largest > 0.0, largest, 1.0)
    mean = filled.sum(axis=1, keepdims=True) / np.maximum(count_valid(valid), 1.0)
    # The mean of equal values may miss them by a rounding error: constants are found by range.
    low = np.where(valid, filled, np.inf).min(axis=1, keepdims=True)
    high = np.where(valid, filled, -np.inf).max(axis=1, keepdims=True)
    deviations: NDArray[np.float64] = np.where(valid & (high > low), filled - mean, 0.0)
    return deviations
