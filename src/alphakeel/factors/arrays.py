"""What factors are made of: the fields of some assets, and the sums that several factors share.

A panel is worked through a few assets at a time (`stats.doubling.COLUMN_BLOCK`). What factors
share about a block (log returns, their trailing sums, their moments with the index) is computed
when a factor first asks for it, stays in the processor's cache while the other factors use it,
and is freed with the block. What belongs to a date rather than to an asset is computed once,
before the factors, and kept in a `CrossSection`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.factors.moments import IndexMoments, Moments
from alphakeel.stats.timeseries import lag

__all__ = ["CrossSection", "PanelArrays"]

Array = NDArray[Any]

RETURN_WINDOWS = (14, 20, 60, 252)


@dataclass(frozen=True, eq=False)
class CrossSection:
    """What is the same for all stocks on a date; every array has shape (n_dates,) or is a table.

    Attributes
    ----------
    index_returns : ndarray of shape (n_dates,)
        Log returns of the index, or of the equal-weight universe where the panel has no index.
    equal_weight_returns : ndarray of shape (n_dates,)
        Log of one plus the mean simple return of the universe's stocks.
    dispersion : ndarray of shape (n_dates,)
        Standard deviation over the universe's stocks of the day's simple returns.
    rising_share, above_mean_share : ndarray of shape (n_dates,)
        Share of the universe's stocks with a 20-day return above 0, and with a price above its
        200-day mean.
    mean_variance, mean_volatility : ndarray of shape (n_dates,)
        Means over the universe's stocks of the variance and of the standard deviation of 60 daily
        log returns.
    volatility_count : ndarray of shape (n_dates,)
        Stocks in those two means.
    sector_total, sector_count : ndarray of shape (n_dates, n_sectors + 1)
        Sum and number of simple returns per sector; the last column is for stocks of none.
        No columns where no factor asks for sectors.
    """

    index_returns: Array
    equal_weight_returns: Array
    dispersion: Array
    rising_share: Array
    above_mean_share: Array
    mean_variance: Array
    mean_volatility: Array
    volatility_count: Array
    sector_total: Array
    sector_count: Array


class PanelArrays:
    """Fields of a block of assets and the intermediates that factors share, each computed once.

    Parameters
    ----------
    fields : mapping of str to ndarray of shape (n_dates, n_assets)
        Numeric fields by name, float64, NaN where missing. Factors read them and never write.
    universe : boolean ndarray of shape (n_dates, n_assets)
        Stocks that count in cross-sectional aggregates.
    sectors : integer ndarray of shape (n_dates, n_assets), optional
        Sector codes, -1 where unknown.
    cross_section : CrossSection, optional
        What is known of the dates; absent only while it is being computed.
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
        return self["adj_close"] / lag(self["adj_close"], 1) - 1.0

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
        """Log of one plus the mean simple return of the sector's other stocks.

        NaN where the sector is unknown or has no other stock that day.
        """
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
