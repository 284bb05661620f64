"""Trailing sums of powers that several factors of a block share, each computed once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.stats.doubling import trailing_sums, variance_from_sums

__all__ = ["IndexMoments", "Moments", "positive", "required"]

Array = NDArray[Any]

# A window speaks when four fifths of its rows are known: enough to bridge a suspension of
# some weeks in a year, too much for a stock listed last spring.
_MIN_SHARE = 0.8
INDEX_WINDOWS = (60, 252)


def required(window: int) -> int:
    """Known values that a trailing window needs: four fifths of its rows, rounded up.

    Examples
    --------
    >>> required(20), required(252)
    (16, 202)
    """
    return math.ceil(_MIN_SHARE * window)


def positive(x: Array) -> Array:
    """Values above zero, NaN elsewhere: a divisor, or the argument of a logarithm."""
    out = x.astype(np.float64)
    np.copyto(out, np.nan, where=~(out > 0.0))
    return out


class Moments:
    """Trailing sums of powers of one series, over windows that are declared together.

    Parameters
    ----------
    x : ndarray of shape (n_dates, n_assets)
        The series; NaN and infinities are skipped.
    windows : tuple of int
        Rows of each window.
    known : boolean ndarray of the shape of `x`, optional
        Restricts the rows that count.
    """

    def __init__(self, x: Array, windows: tuple[int, ...], known: Array | None = None) -> None:
        usable = np.isfinite(x)
        if known is not None:
            usable &= known
        self.windows = windows
        self.known = usable.astype(np.float64)
        self.values = x.copy()
        np.copyto(self.values, 0.0, where=~usable)

    @cached_property
    def count(self) -> dict[int, Array]:
        """Known values per window, NaN where there are too few to speak."""
        counts = trailing_sums(self.known, self.windows)
        for window, n in counts.items():
            np.copyto(n, np.nan, where=n < required(window))
        return counts

    @cached_property
    def total(self) -> dict[int, Array]:
        """Sums per window."""
        return trailing_sums(self.values, self.windows)

    @cached_property
    def absolute(self) -> dict[int, Array]:
        """Sums of magnitudes per window."""
        return trailing_sums(np.abs(self.values), self.windows)

    @cached_property
    def squares(self) -> dict[int, Array]:
        """Sums of squares per window."""
        return trailing_sums(self.values * self.values, self.windows)

    def cubes(self, window: int) -> Array:
        """Sum of cubes over one window."""
        return trailing_sums(self.values * self.values * self.values, (window,))[window]

    def mean(self, window: int) -> Array:
        """Mean over one window."""
        return self.total[window] / self.count[window]

    def std(self, window: int) -> Array:
        """Standard deviation (divisor n - 1) over one window."""
        n = self.count[window]
        return np.sqrt(variance_from_sums(n, self.total[window], self.squares[window]))


class IndexMoments:
    """Joint trailing sums of a block's returns (b) and the index's (a), over the same rows.

    Parameters
    ----------
    returns : ndarray of shape (n_dates, n_assets)
        Log returns of the stocks; NaN where unknown.
    index_returns : ndarray of shape (n_dates,)
        Log returns of the index; NaN where unknown.
    """

    def __init__(self, returns: Array, index_returns: Array) -> None:
        column = index_returns[:, None]
        self.b = Moments(returns, INDEX_WINDOWS, known=np.isfinite(column))
        a = np.repeat(column, returns.shape[1], axis=1)
        self.a = Moments(a, INDEX_WINDOWS, known=self.b.known > 0.0)

    @cached_property
    def products(self) -> dict[int, Array]:
        """Sums of b * a per window."""
        return trailing_sums(self.a.values * self.b.values, INDEX_WINDOWS)

    @cached_property
    def slope(self) -> dict[int, Array]:
        """Beta to the index per window; NaN where the index is constant."""
        return {w: self.cross(w) / positive(self.index_squares[w]) for w in INDEX_WINDOWS}

    @cached_property
    def index_squares(self) -> dict[int, Array]:
        """Sums of squares of the index about its mean, per window."""
        return {w: _about_mean(self.b.count[w], self.a, w) for w in INDEX_WINDOWS}

    @cached_property
    def stock_squares(self) -> dict[int, Array]:
        """Sums of squares of the stocks about their means, per window."""
        return {w: _about_mean(self.b.count[w], self.b, w) for w in INDEX_WINDOWS}

    def cross(self, window: int) -> Array:
        """Sum of products about the means."""
        n = self.b.count[window]
        return self.products[window] - self.a.total[window] * self.b.total[window] / n

    @cached_property
    def residual_squares(self) -> dict[int, Array]:
        """Sums of squares of what the regression on the index leaves, per window.

        Exactly 0 where the stock is the index, for the difference would then be rounding.
        """
        out = {}
        for window in INDEX_WINDOWS:
            total = self.stock_squares[window]
            left = total - self.slope[window] * self.cross(window)
            left *= left > 1e-12 * total
            out[window] = left
        return out

    @cached_property
    def third(self) -> tuple[Array, Array, Array, Array]:
        """Third moments about the means over 252 rows: bbb, bba, baa, aaa (sums, not means)."""
        a, b = self.a.values, self.b.values
        n = self.b.count[252]
        sums = {name: m.total[252] / n for name, m in (("a", self.a), ("b", self.b))}
        pairs = {"bb": self.b.squares[252], "ba": self.products[252], "aa": self.a.squares[252]}
        raw = {"bbb": b * b * b, "bba": b * b * a, "baa": b * a * a, "aaa": a * a * a}
        return tuple(  # type: ignore[return-value]
            _centred_third(trailing_sums(raw[name], (252,))[252], name, n, sums, pairs)
            for name in ("bbb", "bba", "baa", "aaa")
        )


def _centred_third(
    raw: Array, name: str, n: Array, means: Mapping[str, Array], pairs: Mapping[str, Array]
) -> Array:
    """Sum of x y z about the means, for the three series that the letters of `name` say.

    Parameters
    ----------
    raw : ndarray
        Sum of x y z about zero.
    name : str
        Three letters such as ``"bba"``, a key of `means` each.
    n : ndarray
        Number of rows.
    means : mapping of str to ndarray
        Means by letter.
    pairs : mapping of str to ndarray
        Sums of products about zero, by two letters in the order of `name`.
    """
    x, y, z = (means[letter] for letter in name)
    out = 2.0 * n * x * y * z + raw
    out -= x * pairs[name[1] + name[2]]
    out -= y * pairs[name[0] + name[2]]
    out -= z * pairs[name[0] + name[1]]
    return out


def _about_mean(n: Array, moments: Moments, window: int) -> Array:
    return variance_from_sums(n, moments.total[window], moments.squares[window], ddof=0) * n
