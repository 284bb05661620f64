"""Sums over trailing windows by doubling, and what follows from sums of powers.

Sums over 2 rows are made from pairs of rows, over 4 from pairs of those, and a window of 20 is
4 + 16. That takes log2(window) additions instead of window, in an order that is the same at
every row, so the value at t is bit for bit a function of the window. A difference of cumulative
sums is neither: what came years earlier (one bad price of 1e30) stays in its rounding for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.errors import ConfigError

__all__ = [
    "COLUMN_BLOCK",
    "check_window",
    "column_blocks",
    "skew_from_sums",
    "trailing_sums",
    "variance_from_sums",
]

Array = NDArray[Any]

# Assets handled together. Eleven years of 16 columns of doubles take a third of a megabyte, so a
# chain of operations on them stays in a core's second-level cache. Constant on purpose: a
# width that followed the number of rows would change the order in which cross-sections are summed,
# and with it the last bit of values at dates long past.
COLUMN_BLOCK = 16

# A variance below this share of the mean square is what rounding leaves of a constant.
_ROUNDING = 1e-13


def column_blocks(n_assets: int) -> Iterator[slice]:
    """Slices of `COLUMN_BLOCK` columns that cover `n_assets`.

    Examples
    --------
    >>> list(column_blocks(20))
    [slice(0, 16, None), slice(16, 20, None)]
    """
    for start in range(0, n_assets, COLUMN_BLOCK):
        yield slice(start, min(start + COLUMN_BLOCK, n_assets))


def trailing_sums(x: Array, windows: tuple[int, ...]) -> dict[int, Array]:
    """Sums over several trailing windows in one pass of doubling; NaN is not skipped.

    The building block of this module: a NaN or an infinity reaches just the windows that hold it.
    Rows before the first full window hold the sum of the rows there are.

    Parameters
    ----------
    x : ndarray of shape (n_dates, ...)
        Values to add up.
    windows : tuple of int
        Window lengths in rows, each at least 1.

    Returns
    -------
    dict of int to ndarray of the shape of `x`
        The sums by window. A window's bits do not depend on what others are asked for.

    Examples
    --------
    >>> trailing_sums(np.array([1.0, 2.0, 3.0, 4.0]), (2, 3))[3]
    array([1., 3., 6., 9.])
    """
    wanted = sorted(set(windows))
    for window in wanted:
        check_window(window)
    sums: dict[int, Array] = {}
    level, spare = x, None
    size = 1
    while True:
        for window in wanted:
            if window & size:
                _add_piece(sums, window, level, covered=window & (size - 1))
        if 2 * size > wanted[-1]:
            return sums
        doubled = np.empty_like(x) if spare is None else spare
        doubled[:size] = level[:size]
        np.add(level[size:], level[:-size], out=doubled[size:])
        # The caller's own array is the first level and is never written to.
        spare = None if level is x else level
        level, size = doubled, 2 * size


def _add_piece(sums: dict[int, Array], window: int, level: Array, covered: int) -> None:
    """Extend a window's sum, which has its latest `covered` rows, by one power of two."""
    if window not in sums:
        sums[window] = level.copy()
    else:
        total = sums[window][covered:]
        np.add(total, level[: len(total)], out=total)


def variance_from_sums(n: Array, total: Array, squares: Array, *, ddof: int = 1) -> Array:
    """Variance from a count, a sum and a sum of squares.

    Meant for returns and the like, whose mean is small beside their spread: the relative error is
    about 1e-16 (1 + (mean / std)^2). What rounding leaves of a constant is returned as 0.

    Parameters
    ----------
    n, total, squares : ndarray
        Number of values, their sum and the sum of their squares; NaN in `n` gives NaN.
    ddof : int
        Degrees of freedom taken off `n`.

    Returns
    -------
    ndarray
        Variance, never negative.

    Examples
    --------
    >>> variance_from_sums(np.array([3.0]), np.array([6.0]), np.array([14.0]))
    array([1.])
    """
    out = total * total
    out /= n
    np.subtract(squares, out, out=out)
    # A multiplication by a 0/1 array keeps NaN where a masked assignment would lose it.
    out *= out > _ROUNDING * squares
    out /= n - ddof if ddof else n
    return out


def skew_from_sums(n: Array, total: Array, squares: Array, cubes: Array) -> Array:
    """Bias-adjusted Fisher-Pearson skewness from sums of powers.

    Parameters
    ----------
    n, total, squares, cubes : ndarray
        Number of values and the sums of their first three powers.

    Returns
    -------
    ndarray
        sqrt(n (n - 1)) / (n - 2) * m3 / m2^1.5; NaN for a constant or for fewer than 3 values.

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 6.0])
    >>> total, squares, cubes = (np.array([np.sum(x**p)]) for p in (1, 2, 3))
    >>> skew_from_sums(np.array([3.0]), total, squares, cubes).round(4)
    array([1.4579])
    """
    mean = total / n
    m2 = variance_from_sums(n, total, squares, ddof=0)
    m3 = cubes / n - 3.0 * mean * (squares / n) + 2.0 * mean * mean * mean
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = np.sqrt(n * (n - 1.0)) / (n - 2.0) * m3 / (m2 * np.sqrt(m2))
    np.copyto(skew, np.nan, where=~((m2 > 0.0) & (n > 2.0)))
    return skew


def check_window(window: int, min_count: int | None = None) -> int:
    """Return the count of known values that a window needs, after checking both.

    Raises
    ------
    ConfigError
        If `window` is below 1 or `min_count` is not within 1 to `window`.

    Examples
    --------
    >>> check_window(20), check_window(20, 16)
    (20, 16)
    """
    if window < 1:
        raise ConfigError(f"window is {window}, but a trailing window has at least 1 row")
    if min_count is None:
        return window
    if not 1 <= min_count <= window:
        raise ConfigError(f"min_count is {min_count}, but it must be within 1 and window={window}")
    return min_count
