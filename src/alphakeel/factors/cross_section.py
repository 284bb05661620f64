"""Aggregates over the stocks of a date, gathered block by block before any factor is computed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.factors.arrays import CrossSection, PanelArrays
from alphakeel.stats.timeseries import lag

__all__ = ["cross_section"]

Array = NDArray[Any]


def cross_section(
    blocks: Iterable[PanelArrays], index: Array | None, n_sectors: int | None = None
) -> CrossSection:
    """Aggregate the universe's stocks of each date.

    Parameters
    ----------
    blocks : iterable of PanelArrays
        The panel, some assets at a time; at least one block.
    index : ndarray of shape (n_dates,) or None
        Index level; None makes the market the equal-weight universe.
    n_sectors : int, optional
        Number of sector codes; None where sectors are unknown or not asked for.

    Returns
    -------
    CrossSection
        A date with no stock to average over has NaN.
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

    def _add(self, name: str, values: Array) -> None:
        if name in self.totals:
            self.totals[name] += values
        else:
            self.totals[name] = values

    def _add_mean(self, name: str, values: Array, known: Array) -> None:
        """Add to the sum and to the count of a mean over the known stocks of the universe."""
        known = known & np.isfinite(values)
        self._add(name, _row_sums(values, known))
        self._add(f"{name} count", np.count_nonzero(known, axis=1).astype(np.float64))

    def add_returns(self, arrays: PanelArrays) -> None:
        returns = arrays.simple_returns
        self._add_mean("returns", returns, arrays.universe)
        self._add("squares", _row_sums(returns * returns, arrays.universe & np.isfinite(returns)))

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
        self._add("variance", _row_sums(variance, arrays.universe & np.isfinite(variance)))

    def add_sectors(self, arrays: PanelArrays, n_sectors: int) -> None:
        width = n_sectors + 1
        counted = arrays.in_sector
        cells = arrays.sector_cells(width)[counted]
        size = len(counted) * width
        for name, weights in (("sector", arrays.simple_returns[counted]), ("sector count", None)):
            total = np.bincount(cells, weights, minlength=size).astype(np.float64)
            self._add(name, total.reshape(-1, width))

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


def _row_sums(values: Array, known: Array) -> Array:
    """Sum of each row's known values."""
    filled = values.copy()
    np.copyto(filled, 0.0, where=~known)
    return filled.sum(axis=1)
