"""What stands beside the prices: sectors, the market index, membership in the universe."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alphakeel.data.dates import parse_dates
from alphakeel.data.grid import Grid, Matrix, numeric
from alphakeel.errors import DataError

__all__ = ["index_on_dates", "member_grid", "place_rows", "sector_grid"]


def sector_grid(
    tickers: NDArray[np.str_], labels: Mapping[str, str], n_dates: int
) -> tuple[NDArray[np.str_], NDArray[np.int32]]:
    """Return sector names and codes (n_dates, n_assets) from one label per ticker."""
    known = [labels.get(str(ticker)) for ticker in tickers]
    names = [None if pd.isna(name) or not str(name).strip() else str(name) for name in known]
    levels = np.unique([name for name in names if name is not None]).astype(np.str_)
    positions = {str(level): code for code, level in enumerate(levels)}
    codes = np.array([-1 if name is None else positions[name] for name in names], dtype=np.int32)
    return levels, np.tile(codes, (n_dates, 1))


def index_on_dates(index: pd.Series, dates: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Return an index level per panel date, NaN where the index has none."""
    days, faults = parse_dates(index.index)
    if faults:
        raise DataError(
            f"the market index has a date in row {faults[0][0] + 1} that {faults[0][1]}."
        )
    if len(np.unique(days)) < len(days):
        raise DataError("the market index has two values for one date: keep one row per date.")
    values, bad = numeric(index)
    if bad:
        raise DataError(f"the market index has in row {bad[0][0] + 1} {bad[0][1]}.")
    return np.asarray(pd.Series(values, index=days).reindex(dates), dtype=np.float64)


def member_grid(
    spells: pd.DataFrame, dates: NDArray[np.datetime64], tickers: NDArray[np.str_]
) -> Matrix:
    """Return membership per date and stock from spells.

    Parameters
    ----------
    spells : DataFrame
        Columns `ticker`, `start_date`, `end_date` (first day outside; missing: not ended).
    dates : ndarray of shape (n_dates,), datetime64[D]
    tickers : ndarray of shape (n_assets,)

    Returns
    -------
    ndarray of shape (n_dates, n_assets)
        1.0 or 0.0; NaN on dates before the first spell, when membership is unknown.

    Raises
    ------
    DataError
        If a column is missing or a date cannot be read.
    """
    for needed in ("ticker", "start_date", "end_date"):
        if needed not in spells.columns:
            raise DataError(f"column {needed!r} is missing in the table of index membership.")
    starts, faults = parse_dates(spells["start_date"])
    ends, end_faults = parse_dates(spells["end_date"])
    faults += [(row, fault) for row, fault in end_faults if fault != "is missing"]
    if faults:
        row, fault = faults[0]
        raise DataError(f"index membership has a date in row {row + 1} that {fault}.")
    codes = pd.Index(tickers).get_indexer(pd.Index(spells["ticker"].astype(str)))
    known = (codes >= 0) & spells["ticker"].notna().to_numpy()
    first = np.searchsorted(dates, starts)
    last = np.where(np.isnat(ends), len(dates), np.searchsorted(dates, ends))
    steps = np.zeros((len(dates) + 1, len(tickers)), dtype=np.int32)
    np.add.at(steps, (first[known], codes[known]), 1)
    np.add.at(steps, (np.maximum(last, first)[known], codes[known]), -1)
    member = (np.cumsum(steps[:-1], axis=0) > 0).astype(np.float64)
    if len(starts):
        member[dates < starts.min()] = np.nan
    return member


def place_rows(
    values: Mapping[str, NDArray[np.float64]],
    days: NDArray[np.datetime64],
    row_tickers: pd.Series,
    grid: Grid,
) -> dict[str, Matrix]:
    """Place further columns (one entry per date and stock) on the axes of a grid.

    Parameters
    ----------
    values : mapping of str to ndarray of shape (n_rows,)
    days : ndarray of shape (n_rows,), datetime64[D]
    row_tickers : Series of length n_rows
    grid : Grid
        Rows for other dates and stocks are left out.

    Returns
    -------
    dict of str to ndarray of shape (n_dates, n_assets)
        NaN where there is no row.
    """
    codes, names = pd.factorize(row_tickers)
    columns = np.append(
        pd.Index(grid.tickers).get_indexer(pd.Index([str(name) for name in names])), -1
    )
    column = columns[codes]
    row = np.minimum(np.searchsorted(grid.dates, days), len(grid.dates) - 1)
    inside = (column >= 0) & (grid.dates[row] == days)
    cells = row[inside] * len(grid.tickers) + column[inside]
    placed = {}
    for name, entries in values.items():
        placed[name] = np.full((len(grid.dates), len(grid.tickers)), np.nan)
        placed[name].ravel()[cells] = entries[inside]
    return placed
