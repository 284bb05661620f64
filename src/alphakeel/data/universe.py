"""Who is in the universe on each date, decided from what was known on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alphakeel.data.assembly import traded_mask
from alphakeel.data.grid import Grid
from alphakeel.errors import DataError

__all__ = ["most_traded", "only_members", "without_empty"]


def only_members(grid: Grid, *, owned: bool = False) -> Grid:
    """Leave out stocks that are never in the index on the grid's dates; `owned` as in `columns`.

    The others keep all their rows, before and after their membership: factors need the history,
    and a position may outlive it.
    """
    if grid.member is None:
        return grid
    keep = ~(grid.member == 0.0).all(axis=0)
    if not keep.any():
        raise DataError(
            "no stock is a member of the index on these dates: choose universe 'all', or other "
            "dates."
        )
    return grid if keep.all() else grid.columns(keep, owned=owned)


def most_traded(grid: Grid, top: int, *, window: int = 60) -> Grid:
    """Make the `top` stocks by money traded the members; stocks never among them are left out.

    On the first date of every month stocks are ranked by the median of close x volume over the
    last `window` dates; they stay until the next ranking. The value at t uses rows up to t.
    """
    if top < 1:
        raise DataError(f"top is {top}, but at least 1 stock must be kept.")
    if "volume" not in grid.fields:
        raise DataError("top needs the volume, which these data do not have: leave top out.")
    price = grid.fields.get("close", grid.fields.get("adj_close"))
    if price is None:
        raise DataError("there are no prices: adj_close or close is needed.")
    money = price * grid.fields["volume"]
    base = np.ones(money.shape) if grid.member is None else np.nan_to_num(grid.member, nan=1.0)
    months = grid.dates.astype("datetime64[M]")
    starts = np.flatnonzero(np.append(True, months[1:] != months[:-1]))
    chosen = np.zeros(money.shape)
    for start, end in zip(starts, np.append(starts[1:], len(months)), strict=True):
        candidates = np.flatnonzero((base[start] == 1.0) & ~np.isnan(price[start]))
        median = _median(money[max(start - window + 1, 0) : start + 1, candidates])
        order = np.argsort(-median, kind="stable")
        best = candidates[order[: min(top, int(np.sum(~np.isnan(median))))]]
        chosen[start:end, best] = 1.0
    ranked = replace(grid, member=chosen * base)
    return ranked.columns(chosen.any(axis=0))


def _median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of each column without its missing values; NaN if all are missing."""
    result = np.full(values.shape[1], np.nan)
    known = (~np.isnan(values)).any(axis=0)
    if known.any():
        result[known] = np.nanmedian(values[:, known], axis=0)
    return result


def without_empty(grid: Grid, notes: list[str], *, least: int = 2) -> Grid:
    """Leave out stocks without a price, and dates on which fewer than `least` stocks traded.

    What was left out is added to `notes`.
    """
    prices = grid.fields["adj_close"]
    priced = (~np.isnan(prices)).any(axis=0)
    if not priced.any():
        raise DataError(f"adj_close has no value at all, for example of {grid.tickers[0]}.")
    if not priced.all():
        names = [str(ticker) for ticker in grid.tickers[~priced]]
        listed = ", ".join(names[:5]) + (" and others" if len(names) > 5 else "")
        counted = "1 stock" if len(names) == 1 else f"{len(names)} stocks"
        verb = "is" if len(names) == 1 else "are"
        notes.append(f"{counted} without any price {verb} left out: {listed}")
        grid = grid.columns(priced)
    if len(grid.tickers) < least:
        return grid
    thin = traded_mask(grid.fields).sum(axis=1) < least
    if thin.any():
        days = [str(day) for day in grid.dates[thin]]
        listed = ", ".join(days[:5]) + (" and others" if len(days) > 5 else "")
        counted = "1 date" if len(days) == 1 else f"{len(days)} dates"
        verb = "is" if len(days) == 1 else "are"
        few = "no stock" if least == 1 else f"fewer than {least} stocks"
        notes.append(f"{counted} on which {few} traded {verb} left out: {listed}")
        grid = grid.rows(~thin)
        # A stock whose only prices lay on such dates is now empty.
        return without_empty(grid, notes, least=least) if len(grid.dates) else grid
    return grid
