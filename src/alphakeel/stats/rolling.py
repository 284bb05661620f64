"""Trailing statistics along time: the value at row t is made of the window's rows and nothing else.

Axis 0 is time, axis 1 the assets; NaN is missing. A window of ``window`` rows ends at row t and
includes it. Near the start the window is what rows there are, and ``min_count`` (default: the
whole window) says how many known values a result needs; below it the result is NaN.

Sums are built by doubling, so that the value at t is bit for bit a function of
the window, whatever came before or after it.

Sums over trailing windows by doubling, and what follows from sums of powers.

Sums over 2 rows are made from pairs of rows, over 4 from pairs of those, and a window of 20 is
4 + 16. That takes log2(window) additions instead of window, in an order that is the same at
every row, so the value at t is bit for bit a function of the window. A difference of cumulative
sums is neither: what came years earlier (one bad price of 1e30) stays in its rounding for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    "realised_volatility",
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

# A variance below this share of the mean square is what rounding leaves of a constant.
_ROUNDING = 1e-13


def simple_returns(price: Array) -> NDArray[np.float64]:
    """Simple returns of a row over the one before; NaN in the first, and without either price.

    Examples
    --------
    >>> simple_returns(np.array([[100.0], [110.0], [99.0]])).round(2)[:, 0]
    array([ nan,  0.1, -0.1])
    """
    out = np.full(price.shape, np.nan)
    out[1:] = price[1:] / price[:-1] - 1.0
    return out


def lag(x: Array, rows: int) -> Array:
    """Value of `rows` rows earlier.

    Parameters
    ----------
    x : ndarray of shape (n_dates, ...)
        Any floating series.
    rows : int
        How far back, at least 0: a negative lag would read the future.

    Returns
    -------
    ndarray of the shape of `x`
        NaN in the first `rows` rows.

    Raises
    ------
    ConfigError
        If `rows` is negative.

    Examples
    --------
    >>> lag(np.array([1.0, 2.0, 3.0]), 1)
    array([nan,  1.,  2.])
    """
    if rows < 0:
        raise ConfigError(f"rows is {rows}, but a lag looks back: give 0 or more")
    out = np.empty(x.shape, dtype=np.result_type(x.dtype, np.float32))
    out[:rows] = np.nan
    out[rows:] = x[: max(len(x) - rows, 0)]
    return out


def trailing_sum(x: Array, window: int, *, min_count: int | None = None) -> Array:
    """Sum of the known values among the last `window` rows.

    Parameters
    ----------
    x : ndarray of shape (n_dates,) or (n_dates, n_assets)
        Values; NaN is skipped.
    window : int
        Rows in the window, the current one included.
    min_count : int, optional
        Known values that a result needs; all of `window` by default.

    Returns
    -------
    ndarray of the shape of `x`
        float64, NaN below `min_count`.

    Raises
    ------
    ConfigError
        If `window` is below 1 or `min_count` is not within 1 to `window`.

    Examples
    --------
    >>> trailing_sum(np.array([1.0, 2.0, np.nan, 4.0]), 2, min_count=1)
    array([1., 3., 2., 4.])
    """
    return _by_blocks(lambda n, total: total + 0.0 * n, x, window, min_count)


def trailing_mean(x: Array, window: int, *, min_count: int | None = None) -> Array:
    """Mean of the known values among the last `window` rows; see `trailing_sum`.

    Examples
    --------
    >>> trailing_mean(np.array([1.0, 2.0, 4.0]), 2)
    array([nan, 1.5, 3. ])
    """
    return _by_blocks(lambda n, total: total / n, x, window, min_count)


def trailing_std(x: Array, window: int, *, min_count: int | None = None, ddof: int = 1) -> Array:
    """Standard deviation of the known values among the last `window` rows, in the units of `x`.

    See `trailing_sum` for the window and `variance_from_sums` for the precision.

    Examples
    --------
    >>> trailing_std(np.array([1.0, 3.0, 3.0]), 2).round(4)
    array([   nan, 1.4142, 0.    ])
    """

    def kernel(n: Array, total: Array, squares: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.sqrt(variance_from_sums(n, total, squares, ddof=ddof))

    return _by_blocks(kernel, x, window, min_count, squares=True)


def trailing_beta(y: Array, x: Array, window: int, *, min_count: int | None = None) -> Array:
    """Slope of `y` on `x` (with intercept) over the last `window` rows known in both.

    Parameters
    ----------
    y : ndarray of shape (n_dates,) or (n_dates, n_assets)
        One series per asset.
    x : ndarray of shape (n_dates,) or the shape of `y`
        A series for all assets or one each.
    window, min_count : int
        As in `trailing_sum`; the count is of rows known in both.

    Returns
    -------
    ndarray of the shape of `y`
        NaN where `x` is constant.

    Examples
    --------
    >>> trailing_beta(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]), 3)
    array([nan, nan, 0.5])
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
    """Largest known value among the last `window` rows; see `trailing_sum`.

    Examples
    --------
    >>> trailing_max(np.array([3.0, 1.0, 2.0, 0.0]), 2)
    array([nan, 3., 2., 2.])
    """
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
    """Exponentially weighted mean of all known values so far.

    The weight of a row halves every `halflife` rows, missing rows included; weights add up to one
    over the known values (pandas' ``adjust=True, ignore_na=False``).

    Parameters
    ----------
    x : ndarray of shape (n_dates,) or (n_dates, n_assets)
        Values; on a missing row the mean of before is carried.
    halflife : float
        In rows, above 0.
    min_count : int
        Known values since the first row that a result needs.

    Returns
    -------
    ndarray of the shape of `x`

    Examples
    --------
    >>> ewma(np.array([1.0, 4.0, np.nan]), 1.0)
    array([1., 3., 3.])
    """
    if not halflife > 0.0:
        raise ConfigError(f"halflife is {halflife}, but it must be above 0 rows")
    decay = 0.5 ** (1.0 / halflife)
    known = np.isfinite(x)
    out = np.where(known, x, 0.0).astype(np.float64)
    weights = known.astype(np.float64)
    # Sum and weight share the recursion; rows are whole cross-sections.
    for t in range(1, len(out)):
        out[t] += decay * out[t - 1]
        weights[t] += decay * weights[t - 1]
    enough = np.cumsum(known, axis=0) >= max(min_count, 1)
    return np.divide(out, weights, out=np.full_like(out, np.nan), where=enough & (weights > 0.0))


def ew_volatility(returns: Array, halflife: float, *, min_count: int = 20) -> Array:
    """Exponentially weighted volatility about a mean of zero, per row (not annualised).

    Parameters
    ----------
    returns : ndarray of shape (n_dates,) or (n_dates, n_assets)
        Returns as fractions; NaN where unknown.
    halflife : float
        In rows.
    min_count : int
        Known returns that a result needs.

    Returns
    -------
    ndarray of the shape of `returns`
        Fractions per row.

    References
    ----------
    J.P. Morgan/Reuters, RiskMetrics Technical Document, 4th ed., 1996.

    Examples
    --------
    >>> ew_volatility(np.array([0.01, -0.01, 0.01]), 10.0, min_count=2).round(4)
    array([ nan, 0.01, 0.01])
    """
    return np.sqrt(ewma(np.square(returns), halflife, min_count=min_count))


def realised_volatility(returns: Array, window: int, *, min_count: int | None = None) -> Array:
    """Root mean square of the known returns of the last `window` rows, per row (not annualised).

    Parameters
    ----------
    returns : ndarray of shape (n_dates,) or (n_dates, n_assets)
        Returns as fractions; NaN is skipped.
    window, min_count : int
        As in `trailing_sum`.

    Returns
    -------
    ndarray of the shape of `returns`
        Fractions per row.

    References
    ----------
    Andersen, Bollerslev, Diebold, Labys (2003), "Modeling and Forecasting Realized Volatility",
    Econometrica 71, https://doi.org/10.1111/1468-0262.00418.

    Examples
    --------
    >>> realised_volatility(np.array([0.01, -0.03, 0.03]), 2).round(4)
    array([   nan, 0.0224, 0.03  ])
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
