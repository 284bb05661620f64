"""Point-in-time joins: a published figure is known from the first close after its day on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skfolio.containers import AssetPanel

from alphakeel.data.dates import parse_dates
from alphakeel.data.grid import numeric
from alphakeel.errors import DataError

__all__ = ["join_asof"]


def join_asof(
    panel: AssetPanel,
    fundamentals: pd.DataFrame,
    columns: Sequence[str],
    *,
    max_age_days: int,
) -> dict[str, NDArray[np.float64]]:
    """Bring published figures to the dates on which they were known.

    A row that becomes public on day d is taken as public after that day's close: it is used on
    the panel's next date and later, never on d itself. For each column the latest known number
    counts; a missing one does not replace an older one. With a column `period_end`, a late
    filing for an older period does not replace the figures of a newer one.

    Parameters
    ----------
    panel : AssetPanel
    fundamentals : DataFrame
        `ticker`, `available_date` and the columns asked for, in any order of rows; of rows with
        the same date (and period) the last one counts. Stocks not in the panel are left out.
    columns : sequence of str
        Names of numeric columns.
    max_age_days : int
        A figure is used for at most this many calendar days after `available_date`.

    Returns
    -------
    dict of str to ndarray of shape (n_dates, n_assets)
        NaN where nothing is known, where it is too old, and outside `active_mask`.

    Raises
    ------
    DataError
        If a column is missing, a date cannot be read, or a number is infinite.

    Examples
    --------
    >>> from alphakeel.data.panel import panel_from_wide
    >>> days = pd.to_datetime(["2015-01-02", "2015-01-05", "2015-01-06"])
    >>> panel = panel_from_wide({"adj_close": pd.DataFrame(1.0, index=days, columns=["A", "B"])})
    >>> report = pd.DataFrame({"ticker": ["A"], "available_date": ["2015-01-05"], "eps": [3.0]})
    >>> join_asof(panel, report, ["eps"], max_age_days=400)["eps"][:, 0]
    array([nan, nan,  3.])
    """
    for needed in ("ticker", "available_date", *columns):
        if needed not in fundamentals.columns:
            raise DataError(f"column {needed!r} is missing in the table of fundamentals.")
    available, faults = parse_dates(fundamentals["available_date"])
    if faults:
        row, fault = faults[0]
        raise DataError(f"available_date in row {row + 1} of the fundamentals {fault}.")
    table = pd.DataFrame(index=range(len(fundamentals)))
    for name in columns:
        table[name], bad = numeric(fundamentals[name])
        if bad:
            raise DataError(f"{name} in row {bad[0][0] + 1} of the fundamentals is {bad[0][1]}.")
    table["code"] = pd.Index(panel.asset_names).get_indexer(
        pd.Index(fundamentals["ticker"].astype(str))
    )
    table["available"] = available.astype(np.int64)
    keys = ["code", "available"]
    if "period_end" in fundamentals.columns:
        table["period"] = parse_dates(fundamentals["period_end"])[0].astype(np.int64)
        keys.append("period")
    table = table[table["code"] >= 0].sort_values(keys, kind="stable")
    if "period" in table.columns:
        table = table[table["period"] >= table.groupby("code")["period"].cummax()]
    result = {}
    for name in columns:
        rows = table[table[name].notna()]
        if np.isinf(rows[name]).any():
            raise DataError(f"column {name!r} of the fundamentals holds an infinite number.")
        result[name] = _spread(panel, rows, name, max_age_days)
    return result


def _spread(
    panel: AssetPanel, rows: pd.DataFrame, name: str, max_age_days: int
) -> NDArray[np.float64]:
    """Carry each stock's sorted rows forward from the first date after they were public."""
    dates = panel.observations.astype("datetime64[D]")
    available = rows["available"].to_numpy().astype("datetime64[D]")
    start = np.searchsorted(dates, available, side="right")
    inside = start < len(dates)
    latest = np.full(panel.active_mask.shape, -1, dtype=np.int64)
    # Rows are sorted by date within each stock, so the last write to a cell is the newest.
    latest[start[inside], rows["code"].to_numpy()[inside]] = np.flatnonzero(inside)
    latest = np.maximum.accumulate(latest, axis=0)
    if not len(rows):
        return np.full(latest.shape, np.nan)
    age = dates[:, None] - available[latest]
    fresh = (latest >= 0) & (age <= np.timedelta64(max_age_days, "D")) & panel.active_mask
    return np.where(fresh, rows[name].to_numpy(dtype=np.float64)[latest], np.nan)
