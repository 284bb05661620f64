"""What factors are made of: the fields of some assets, and the sums that several factors share.

A panel is worked through a few assets at a time (`stats.rolling.COLUMN_BLOCK`). What factors
share about a block (log returns, their trailing sums, their moments with the index) is computed
when a factor first asks for it, stays in the processor's cache while the other factors use it,
and is freed with the block. What belongs to a date rather than to an asset is summed block by
block before any factor is computed, in a `CrossSection`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.stats.cross_section import row_sums
from alphakeel.stats.rolling import lag, simple_returns, trailing_sums, variance_from_sums

__all__ = [
    "CrossSection",
    "IndexMoments",
    "Moments",
    "PanelArrays",
    "cross_section",
    "positive",
    "required",
]

Array = NDArray[Any]

RETURN_WINDOWS = (14, 20, 60, 252)

# A window has a value when four fifths of its rows are known: enough to bridge a suspension of
# some weeks in a year, too much for a stock listed last spring.
_MIN_SHARE = 0.8
INDEX_WINDOWS = (60, 252)


@dataclass(frozen=True, eq=False)
class CrossSection:
    """What is the same for all stocks on a date; every array has shape (n_dates,) or is a table."""

    index_returns: Array  # log; of the equal-weight universe where the panel has no index
    equal_weight_returns: Array  # log of one plus the mean simple return of the universe's stocks
    dispersion: Array  # standard deviation over the universe's stocks of the day's simple returns
    rising_share: Array  # of the universe's stocks, those with a 20-day return above 0
    above_mean_share: Array  # ... and those with a price above its 200-day mean
    mean_variance: Array  # mean over stocks of the variance of 60 daily log returns
    mean_volatility: Array  # ... and of their standard deviation
    volatility_count: Array  # stocks in those two means
    # Simple returns per sector, (n_dates, n_sectors + 1): the last column is for stocks of none,
    # and there are no columns where no factor asks for sectors.
    sector_total: Array
    sector_count: Array


class PanelArrays:
    """Fields of a block of assets and the intermediates that factors share, each computed once.

    Fields are float64 of shape (n_dates, n_assets), NaN where missing; factors read them and never
    write. `universe` are the stocks that count in aggregates over a date's stocks.
    """

    def __init__(
        self,
        fields: Mapping[str, Array],
        universe: Array,
        sectors: Array | None = None,
        cross_section: CrossSection | None = None,
    ) -> None:
        self.fields = fields
        self.universe = universe
        self._sectors = sectors
        self._cross_section = cross_section

    def __getitem__(self, name: str) -> Array:
        """Field `name`, of shape (n_dates, n_assets)."""
        return self.fields[name]

    @property
    def cross_section(self) -> CrossSection:
        """What is the same for all stocks on a date."""
        if self._cross_section is None:
            raise ValueError("these arrays were built without their CrossSection; pass it in")
        return self._cross_section

    @property
    def sectors(self) -> Array:
        """Sector codes of shape (n_dates, n_assets), -1 where unknown."""
        if self._sectors is None:
            raise ValueError("these arrays were built without sector codes; pass them in")
        return self._sectors

    @cached_property
    def log_price(self) -> Array:
        """Logarithm of the adjusted close: only its differences over time mean anything."""
        return np.log(self["adj_close"])

    @cached_property
    def log_returns(self) -> Array:
        """Daily log returns of the adjusted close; NaN on the first row and beside gaps."""
        return self.log_price - lag(self.log_price, 1)

    @cached_property
    def simple_returns(self) -> Array:
        """Daily simple returns of the adjusted close; NaN on the first row and beside gaps."""
        return simple_returns(self["adj_close"])

    @cached_property
    def returns(self) -> Moments:
        """Trailing sums of the log returns."""
        return Moments(self.log_returns, RETURN_WINDOWS)

    @cached_property
    def prices(self) -> Moments:
        """Trailing sums of the adjusted close, for ratios of a price to its own mean."""
        return Moments(self["adj_close"], (20, 200))

    @cached_property
    def with_index(self) -> IndexMoments:
        """Joint trailing sums of the log returns with the index's."""
        return IndexMoments(self.log_returns, self.cross_section.index_returns)

    @cached_property
    def dollar_volume(self) -> Array:
        """Raw close times raw volume: splits cancel, as they do not in volume alone."""
        return self["close"] * self["volume"]

    @cached_property
    def dollar_volumes(self) -> Moments:
        """Trailing sums of the dollar volume."""
        return Moments(self.dollar_volume, (5, 20, 60, 252))

    @cached_property
    def intraday_returns(self) -> Array:
        """Log return from the open to the close of the same day."""
        return np.log(self["close"] / self["open"])

    def change(self, start: int, end: int = 0) -> Array:
        """Log return of the adjusted close from `start` rows ago to `end` rows ago."""
        return lag(self.log_price, end) - lag(self.log_price, start)

    @cached_property
    def in_sector(self) -> Array:
        """Whether the stock's simple return is part of its sector's sum."""
        return self.universe & np.isfinite(self.simple_returns) & (self.sectors >= 0)

    @cached_property
    def industry_returns(self) -> Array:
        """Log of one plus the mean simple return of the sector's other stocks; NaN without any."""
        table = self.cross_section
        cell = self.sector_cells(table.sector_total.shape[1])
        others = table.sector_count.ravel()[cell]
        others -= self.in_sector
        rest = table.sector_total.ravel()[cell]
        own = self.simple_returns.copy()
        np.copyto(own, 0.0, where=~self.in_sector)
        rest -= own
        rest /= others
        np.copyto(rest, np.nan, where=(others < 1.0) | (self.sectors < 0))
        return np.log1p(rest)

    @cached_property
    def industry(self) -> Moments:
        """Trailing sums of the industry returns."""
        return Moments(self.industry_returns, (20, 126))

    def sector_cells(self, width: int) -> Array:
        """Flat position of each stock's sector in a (n_dates, `width`) table."""
        code = np.where(self.sectors < 0, width - 1, self.sectors)
        return np.arange(len(code))[:, None] * width + code


def required(window: int) -> int:
    """Known values that a trailing window needs: four fifths of its rows, rounded up."""
    return math.ceil(_MIN_SHARE * window)


def positive(x: Array) -> Array:
    """Values above zero, NaN elsewhere: a divisor, or the argument of a logarithm."""
    out = x.astype(np.float64)
    np.copyto(out, np.nan, where=~(out > 0.0))
    return out


class Moments:
    """Trailing sums of powers of one series, over windows that are declared together.

    NaN and infinities are skipped; `known` restricts the rows that count further.
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
        """Known values per window, NaN where there are too few."""
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
    """Joint trailing sums of a block's log returns (b) and the index's (a), over the same rows."""

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

    `raw` is that sum about zero, `pairs` the sums of products about zero by two letters.
    """
    x, y, z = (means[letter] for letter in name)
    out = 2.0 * n * x * y * z + raw
    out -= x * pairs[name[1] + name[2]]
    out -= y * pairs[name[0] + name[2]]
    out -= z * pairs[name[0] + name[1]]
    return out


def _about_mean(n: Array, moments: Moments, window: int) -> Array:
    return variance_from_sums(n, moments.total[window], moments.squares[window], ddof=0) * n


def cross_section(
    blocks: Iterable[PanelArrays], index: Array | None, n_sectors: int | None = None
) -> CrossSection:
    """Aggregate the universe's stocks of each date; NaN on a date with no stock to average over.

    Without an index level the market is the equal-weight universe; without `n_sectors` there are no
    sums of sectors.
    """
    sums = _Sums()
    for arrays in blocks:
        sums.add_returns(arrays)
        sums.add_breadth(arrays)
        sums.add_volatility(arrays)
        if n_sectors is not None:
            sums.add_sectors(arrays, n_sectors)
    return sums.finish(index)


class _Sums:
    """Running totals of shape (n_dates,), by name."""

    def __init__(self) -> None:
        self.totals: dict[str, Array] = {}

    def _add(self, name: str, values: Array, known: Array) -> None:
        """Add each row's known values to its sum, one after the other, across the blocks."""
        before = self.totals.get(name, np.zeros(len(values)))[:, None]
        counted = np.where(known, values, 0.0)
        self.totals[name] = row_sums(np.concatenate([before, counted], axis=1))

    def _add_mean(self, name: str, values: Array, known: Array) -> None:
        """Add to the sum and to the count of a mean over the known stocks of the universe."""
        known = known & np.isfinite(values)
        self._add(name, values, known)
        self._add(f"{name} count", known.astype(np.float64), known)

    def add_returns(self, arrays: PanelArrays) -> None:
        returns = arrays.simple_returns
        self._add_mean("returns", returns, arrays.universe)
        self._add("squares", returns * returns, arrays.universe & np.isfinite(returns))

    def add_breadth(self, arrays: PanelArrays) -> None:
        past = lag(arrays["adj_close"], 20)
        known = arrays.universe & np.isfinite(past) & np.isfinite(arrays["adj_close"])
        self._add_mean("rising", (arrays["adj_close"] > past).astype(np.float64), known)
        mean = arrays.prices.mean(200)
        known = arrays.universe & np.isfinite(mean) & np.isfinite(arrays["adj_close"])
        self._add_mean("above", (arrays["adj_close"] > mean).astype(np.float64), known)

    def add_volatility(self, arrays: PanelArrays) -> None:
        volatility = arrays.returns.std(60)
        self._add_mean("volatility", volatility, arrays.universe)
        variance = volatility * volatility
        self._add("variance", variance, arrays.universe & np.isfinite(variance))

    def add_sectors(self, arrays: PanelArrays, n_sectors: int) -> None:
        width = n_sectors + 1
        counted = arrays.in_sector
        cells = arrays.sector_cells(width)[counted]
        shape = (len(counted), width)
        for name, values in (("sector", arrays.simple_returns[counted]), ("sector count", 1.0)):
            total = self.totals.setdefault(name, np.zeros(shape))
            np.add.at(total.reshape(-1), cells, values)  # one after the other, as `row_sums`

    def finish(self, index: Array | None) -> CrossSection:
        equal_weight = np.log1p(self._mean("returns"))
        n = self.totals["returns count"]
        mean = self.totals["returns"] / n
        variance = (self.totals["squares"] - mean * self.totals["returns"]) / (n - 1.0)
        no_columns = np.empty((len(n), 0))
        if index is None:
            index_returns = equal_weight
        else:
            level = np.log(index)
            index_returns = level - lag(level, 1)
        return CrossSection(
            index_returns=index_returns,
            equal_weight_returns=equal_weight,
            dispersion=np.sqrt(np.maximum(variance, 0.0)),
            rising_share=self._mean("rising"),
            above_mean_share=self._mean("above"),
            mean_variance=self.totals["variance"] / self.totals["volatility count"],
            mean_volatility=self._mean("volatility"),
            volatility_count=self.totals["volatility count"],
            sector_total=self.totals.get("sector", no_columns),
            sector_count=self.totals.get("sector count", no_columns),
        )

    def _mean(self, name: str) -> Array:
        return self.totals[name] / self.totals[f"{name} count"]
