"""Trailing statistics along time: the value at row t is made of the window's rows and nothing else.

Axis 0 is time, axis 1 the assets; NaN is missing. A window of ``window`` rows ends at row t and
includes it. Near the start the window is what rows there are, and ``min_count`` (default: the
whole window) says how many known values a result needs; below it the result is NaN.

Sums over 2 rows are made from pairs of rows, over 4 from pairs of those, and a window of 20 is
4 + 16. That takes log2(window) additions instead of window, in an order that is the same at
every row, so the value at t is bit for bit a function of the window. A difference of cumulative
sums is neither: what came years earlier (one bad price of 1e30) stays in its rounding for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.errors import ConfigError

__all__ = [
    "COLUMN_BLOCK",
    "check_window",
    "column_blocks",
    "ew_volatility",
    "ewma",
    "lag",
    "last_known",
    "last_known_before",
    "realised_volatility",
    "simple_returns",
    "skew_from_sums",
    "trailing_beta",
    "trailing_max",
    "trailing_mean",
    "trailing_std",
    "trailing_sum",
    "trailing_sums",
    "variance_from_sums",
]

Array = NDArray[Any]
Kernel = Callable[..., Array]

# Assets handled together. Eleven years of 16 columns of doubles take a third of a megabyte, so a
# chain of operations on them stays in a core's second-level cache. Constant on purpose: a
# width that followed the number of rows would change the order in which cross-sections are summed,
# and with it the last bit of values at dates long past.
COLUMN_BLOCK = 16

# From so many columns on, rows in turn are faster than NumPy's accumulation down the columns.
_WIDE = 128

# A variance below this share of the mean square is what rounding leaves of a constant.
_ROUNDING = 1e-13

# Rows that are gone back one by one, where there are few cells a row: longer gaps are few.
_SHORT_GAP, _FEW = 16, 8


def simple_returns(price: Array) -> NDArray[np.float64]:
    """Simple returns of a row over the one before; NaN in the first, and without either price."""
    out = np.full(price.shape, np.nan)
    np.divide(price[1:], price[:-1], out=out[1:])
    out[1:] -= 1.0
    return out


def lag(x: Array, rows: int) -> Array:
    """Value of `rows` rows earlier, at least 0; NaN in the first `rows` rows."""
    if rows < 0:
        raise ConfigError(f"rows is {rows}, but a lag looks back: give 0 or more")
    out = np.empty(x.shape, dtype=np.result_type(x.dtype, np.float32))
    out[:rows] = np.nan
    out[rows:] = x[: max(len(x) - rows, 0)]
    return out


def last_known(x: Array) -> tuple[Array, NDArray[np.int32]]:
    """Last value that is not NaN, the row itself included, and its row (-1: none)."""
    rows = np.arange(len(x), dtype=np.int32)[:, None]
    missing = np.isnan(x)
    source = np.where(missing, np.int32(-1), rows)
    if x.shape[1] >= _WIDE:
        values = x.copy(order="C")
        for t in range(1, len(x)):
            np.copyto(values[t], values[t - 1], where=missing[t])
            np.maximum(source[t - 1], source[t], out=source[t])
        return values, source
    np.maximum.accumulate(source, axis=0, out=source)
    # Rows without any known value point at row 0 of their column, which is NaN there.
    cells = np.maximum(source, 0).astype(np.intp)
    cells *= x.shape[1]
    cells += np.arange(x.shape[1])
    return np.take(x, cells), source


def last_known_before(x: Array, rows: Array, columns: Array, *, most: int | None = None) -> Array:
    """Last known value before some cells, at most `most` rows earlier; NaN where there is none.

    `rows` increase. What `last_known` has on the row before, in less time and memory.
    """
    out = np.full(len(rows), np.nan)
    left, back = np.arange(len(rows)), 0
    longest = len(x) if most is None else most
    while 0 < len(left) < _FEW * len(x) and back < min(longest, _SHORT_GAP):
        back += 1
        left = left[rows[left] >= back]
        out[left] = x[rows[left] - back, columns[left]]
        left = left[np.isnan(out[left])]
    if not len(left) or back == longest:
        return out
    last, source = np.full(x.shape[1], np.nan), np.full(x.shape[1], -1, dtype=np.int32)
    begins = np.searchsorted(rows[left], np.arange(rows[left[-1]] + 2))
    for t, (begin, end) in enumerate(pairwise(begins)):
        own, column = left[begin:end], columns[left[begin:end]]
        out[own] = np.where(t - source[column] <= longest, last[column], np.nan)
        known = ~np.isnan(x[t])
        np.copyto(last, x[t], where=known)
        np.copyto(source, t, where=known)
    return out


def trailing_sum(x: Array, window: int, *, min_count: int | None = None) -> Array:
    """Sum of the known values among the last `window` rows, float64; NaN below `min_count`."""
    return _by_blocks(lambda n, total: total + 0.0 * n, x, window, min_count)


def trailing_mean(x: Array, window: int, *, min_count: int | None = None) -> Array:
    """Mean of the known values among the last `window` rows; see `trailing_sum`."""
    return _by_blocks(lambda n, total: total / n, x, window, min_count)


def trailing_std(x: Array, window: int, *, min_count: int | None = None, ddof: int = 1) -> Array:
    """Standard deviation of the known values among the last `window` rows, in the units of `x`."""

    def kernel(n: Array, total: Array, squares: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.sqrt(variance_from_sums(n, total, squares, ddof=ddof))

    return _by_blocks(kernel, x, window, min_count, squares=True)


def trailing_beta(y: Array, x: Array, window: int, *, min_count: int | None = None) -> Array:
    """Slope of `y` on `x` (with intercept) over the last `window` rows known in both.

    `x` is one series for all assets or one each; NaN where it is constant.
    """
    needed = check_window(window, min_count)
    left = y.reshape(len(y), -1)
    right = np.broadcast_to(x.reshape(len(x), -1), left.shape)
    out = np.empty(left.shape)
    for block in column_blocks(left.shape[1]):
        known = np.isfinite(left[:, block]) & np.isfinite(right[:, block])
        b, a = np.where(known, left[:, block], 0.0), np.where(known, right[:, block], 0.0)
        n = _enough(known.astype(np.float64), window, needed)
        sb, sa, sab, saa = (
            trailing_sums(values, (window,))[window] for values in (b, a, a * b, a * a)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = variance_from_sums(n, sa, saa, ddof=0) * n
            # NaN where x is constant: a divisor that cannot make an infinity.
            out[:, block] = (sab - sa * sb / n) / np.where(spread > 0.0, spread, np.nan)
    return out.reshape(y.shape)


def trailing_max(x: Array, window: int, *, min_count: int | None = None) -> Array:
    """Largest known value among the last `window` rows; see `trailing_sum`."""
    needed = check_window(window, min_count)
    columns = x.reshape(len(x), -1).astype(np.float64)
    out = np.empty(columns.shape)
    for block in column_blocks(columns.shape[1]):
        level = np.ascontiguousarray(columns[:, block])
        n = _enough((level == level).astype(np.float64), window, needed)
        size = 1  # two overlapping powers of two cover any window
        while size < window:
            step = min(size, window - size)
            doubled = level.copy()
            np.fmax(level[step:], level[:-step], out=doubled[step:])
            level, size = doubled, size + step
        out[:, block] = level + 0.0 * n
    return out.reshape(x.shape)


def ewma(x: Array, halflife: float, *, min_count: int = 1) -> Array:
    """Exponentially weighted mean of all known values so far, carried over missing rows.

    A row's weight halves every `halflife` rows, missing rows included; weights add up to one over
    the known values (pandas' ``adjust=True, ignore_na=False``).
    """
    if not halflife > 0.0:
        raise ConfigError(f"halflife is {halflife}, but it must be above 0 rows")
    decay = 0.5 ** (1.0 / halflife)
    columns = x.reshape(len(x), -1)
    out = np.full(columns.shape, np.nan)
    total, weight, count = np.zeros((3, columns.shape[1]))
    for t, row in enumerate(columns):  # sum and weight share the recursion
        known = np.isfinite(row)
        total *= decay
        total += np.where(known, row, 0.0)
        weight *= decay
        weight += known
        count += known
        enough = (count >= max(min_count, 1)) & (weight > 0.0)
        np.divide(total, weight, out=out[t], where=enough)
    return out.reshape(x.shape)


def ew_volatility(returns: Array, halflife: float, *, min_count: int = 20) -> Array:
    """Exponentially weighted volatility about a mean of zero, a fraction per row (not annual).

    J.P. Morgan/Reuters, RiskMetrics Technical Document, 4th ed., 1996.
    """
    mean = ewma(np.square(returns), halflife, min_count=min_count)
    return np.sqrt(mean, out=mean)


def realised_volatility(returns: Array, window: int, *, min_count: int | None = None) -> Array:
    """Root mean square of the known returns of the last `window` rows, per row (not annual).

    Andersen, Bollerslev, Diebold and Labys (2003), https://doi.org/10.1111/1468-0262.00418.
    """
    return np.sqrt(trailing_mean(np.square(returns), window, min_count=min_count))


def _enough(known: Array, window: int, min_count: int) -> Array:
    """Known values per window, NaN where there are fewer than `min_count`."""
    n = trailing_sums(known, (window,))[window]
    np.copyto(n, np.nan, where=n < min_count)
    return n


def _by_blocks(
    kernel: Kernel, x: Array, window: int, min_count: int | None, *, squares: bool = False
) -> Array:
    """Apply `kernel(n, sum[, sum of squares])` to `x`, a few columns at a time."""
    needed = check_window(window, min_count)
    columns = x.reshape(len(x), -1)
    out = np.empty(columns.shape)
    for block in column_blocks(columns.shape[1]):
        values = columns[:, block]
        known = (values == values).astype(np.float64)
        filled = np.where(known > 0.0, values, 0.0)
        sums = [trailing_sums(filled, (window,))[window]]
        if squares:
            sums.append(trailing_sums(filled * filled, (window,))[window])
        with np.errstate(divide="ignore", invalid="ignore"):
            out[:, block] = kernel(_enough(known, window, needed), *sums)
    return out.reshape(x.shape)


def column_blocks(n_assets: int) -> Iterator[slice]:
    """Slices of `COLUMN_BLOCK` columns that cover `n_assets`."""
    for start in range(0, n_assets, COLUMN_BLOCK):
        yield slice(start, min(start + COLUMN_BLOCK, n_assets))


def trailing_sums(x: Array, windows: tuple[int, ...]) -> dict[int, Array]:
    """Sums over several trailing windows in one pass, by window; NaN is not skipped.

    A NaN or an infinity reaches just the windows that hold it. Rows before the first full window
    hold the sum of the rows there are. A window's bits do not depend on what others are asked for.
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
    """Variance from a count, a sum and a sum of squares, never negative; NaN in `n` gives NaN.

    Meant for returns and the like, whose mean is small beside their spread: the relative error is
    about 1e-16 (1 + (mean / std)^2). What rounding leaves of a constant is returned as 0.
    """
    out = total * total
    out /= n
    np.subtract(squares, out, out=out)
    # A multiplication by a 0/1 array keeps NaN where a masked assignment would lose it.
    out *= out > _ROUNDING * squares
    out /= n - ddof if ddof else n
    return out


def skew_from_sums(n: Array, total: Array, squares: Array, cubes: Array) -> Array:
    """Bias-adjusted skewness ``sqrt(n (n - 1)) / (n - 2) * m3 / m2^1.5`` from sums of powers.

    NaN for a constant or for fewer than 3 values.
    """
    mean = total / n
    m2 = variance_from_sums(n, total, squares, ddof=0)
    m3 = cubes / n - 3.0 * mean * (squares / n) + 2.0 * mean * mean * mean
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = np.sqrt(n * (n - 1.0)) / (n - 2.0) * m3 / (m2 * np.sqrt(m2))
    np.copyto(skew, np.nan, where=~((m2 > 0.0) & (n > 2.0)))
    return skew


def check_window(window: int, min_count: int | None = None) -> int:
    """Known values that a window needs: `min_count`, or all of `window`; both are checked."""
    if window < 1:
        raise ConfigError(f"window is {window}, but a trailing window has at least 1 row")
    if min_count is None:
        return window
    if not 1 <= min_count <= window:
        raise ConfigError(f"min_count is {min_count}, but it must be within 1 and window={window}")
    return min_count
