"""Aligned arrays to a panel: listing, delisting and suspension are read off the prices."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skfolio.containers import AssetPanel, Field2D, FieldCategorical, InactivePolicy

from alphakeel.data.checks import PANEL_FIELDS, place, previous_valid, raise_first
from alphakeel.data.grid import Grid, check_grid
from alphakeel.errors import DataError

__all__ = [
    "active_from_prices",
    "assemble",
    "check_counts",
    "panel_from_grid",
    "traded_mask",
    "with_adjusted_close",
]


def panel_from_grid(
    grid: Grid,
    *,
    delisting_gap: int = 20,
    min_dates: int = 2,
    min_assets: int = 2,
    today: dt.date | None = None,
    source: str = "",
) -> AssetPanel:
    """Check aligned arrays and derive listing, delisting and suspension from them.

    Parameters
    ----------
    grid : Grid
        With `adj_close` or `close`.
    delisting_gap, min_dates, min_assets, today, source
        As for `panel_from_long`.

    Returns
    -------
    AssetPanel

    Raises
    ------
    DataError
        One sentence that names field, ticker and date of the first thing that is wrong.
    """
    grid = with_adjusted_close(grid, source)
    check_counts(grid, min_dates, min_assets, source)
    raise_first(check_grid(grid, today=today or dt.date.today(), where=source))
    return assemble(grid, delisting_gap=delisting_gap, source=source)


def assemble(grid: Grid, *, delisting_gap: int = 20, source: str = "") -> AssetPanel:
    """Derive listing, delisting and suspension from checked arrays and fill a panel."""
    fields, tail = grid.fields, place(source)
    active = active_from_prices(fields["adj_close"], delisting_gap)
    empty = np.flatnonzero(~active.any(axis=0))
    if len(empty):
        ticker = grid.tickers[empty[0]]
        raise DataError(f"adj_close of {ticker} has no value on any date: leave it out{tail}.")
    traded = traded_mask(fields) & active
    idle = np.flatnonzero(~traded.any(axis=1))
    if len(idle):
        day = grid.dates[idle[0]]
        raise DataError(f"no stock traded on {day}: remove that date{tail}.")
    contents: dict[str, Any] = {
        name: Field2D(np.where(active, fields[name], np.nan))
        for name in PANEL_FIELDS
        if name in fields
    }
    if grid.sectors is not None and len(grid.sector_levels):
        codes = np.where(active, grid.sectors, np.int32(-1))
        contents["sector"] = FieldCategorical(codes, levels=grid.sector_levels)
    if grid.index is not None:
        level = np.broadcast_to(grid.index[:, None], active.shape)
        contents["market_index"] = Field2D(level, inactive_policy=InactivePolicy.IGNORE)
    if grid.member is not None:
        contents["member"] = Field2D(np.where(active, grid.member, np.nan))
    return AssetPanel(
        fields=contents,
        observations=grid.dates,
        asset_names=grid.tickers,
        active_mask=active,
        estimation_mask=traded,
    )


def active_from_prices(prices: NDArray[np.float64], delisting_gap: int = 20) -> NDArray[np.bool_]:
    """Return True from the first to the last price of each stock.

    Parameters
    ----------
    prices : ndarray of shape (n_dates, n_assets)
        NaN where there is none.
    delisting_gap : int
        A last price within this many dates of the end does not end the listing.

    Returns
    -------
    ndarray of bool of shape (n_dates, n_assets)

    Notes
    -----
    That a suspended stock never came back is known with hindsight only: what could be traded on
    a date is in the estimation mask, which does not depend on later rows.

    Examples
    --------
    >>> prices = np.array([[1.0, np.nan], [np.nan, 2.0], [1.0, 2.0]])
    >>> active_from_prices(prices)[:, 1]
    array([False,  True,  True])
    """
    known = ~np.isnan(prices)
    n_dates = len(prices)
    rows = np.arange(n_dates)[:, None]
    first = np.where(known.any(axis=0), np.argmax(known, axis=0), n_dates)
    last = n_dates - 1 - np.argmax(known[::-1], axis=0)
    last = np.where(last >= n_dates - 1 - delisting_gap, n_dates - 1, last)
    return (rows >= first) & (rows <= last)


def traded_mask(fields: Mapping[str, NDArray[np.float64]]) -> NDArray[np.bool_]:
    """Return where a stock really traded: a price, and not a repeated one on no volume."""
    priced = ~np.isnan(fields["adj_close"])
    if "volume" in fields:
        price = fields.get("close", fields["adj_close"])
        priced &= ~((fields["volume"] == 0) & (price == previous_valid(price)))
    return priced


def with_adjusted_close(grid: Grid, source: str = "") -> Grid:
    """Return the grid with `adj_close`; where there is none, `close` stands in for it."""
    if "adj_close" in grid.fields:
        return grid
    if "close" not in grid.fields:
        raise DataError(f"there are no prices: adj_close or close is needed{place(source)}.")
    return replace(grid, fields={**grid.fields, "adj_close": grid.fields["close"]})


def check_counts(grid: Grid, min_dates: int, min_assets: int, source: str = "") -> None:
    """Refuse a grid with too few dates or stocks."""
    for count, least, what in (
        (len(grid.dates), min_dates, "date"),
        (len(grid.tickers), min_assets, "stock"),
    ):
        if count < least:
            found = f"there is 1 {what}" if count == 1 else f"there are {count} {what}s"
            raise DataError(f"{found}, but at least {least} are needed{place(source)}.")
