"""Frames to a validated panel and back, and the questions a panel is asked.

A panel is a `skfolio.containers.AssetPanel`: dates x assets fields, `active_mask` from listing
to delisting, `estimation_mask` where a stock really traded. Day t means its close.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skfolio.containers import AssetPanel, FieldCategorical

from alphakeel.data.assembly import (
    index_on_dates,
    member_grid,
    panel_from_grid,
    sector_grid,
)
from alphakeel.data.columns import normalised_name
from alphakeel.data.grid import Grid, check_grid, grid_from_long, grid_from_wide
from alphakeel.data.own_columns import own_fields
from alphakeel.data.tickers import match_tickers
from alphakeel.data.validation import PANEL_FIELDS, raise_first
from alphakeel.errors import DataError

__all__ = [
    "market_index",
    "panel_from_long",
    "panel_from_wide",
    "panel_to_long",
    "panel_to_wide",
    "riskless_rate",
    "sector_codes",
    "universe_mask",
    "validate",
]


def panel_from_long(
    frame: pd.DataFrame,
    *,
    securities: pd.DataFrame | None = None,
    index: pd.Series | None = None,
    membership: pd.DataFrame | None = None,
    columns: Sequence[str] = (),
    delisting_gap: int = 20,
    min_dates: int = 2,
    min_assets: int = 2,
    today: dt.date | None = None,
    source: str = "",
) -> AssetPanel:
    """Build a panel from a table with one row per date and stock.

    Parameters
    ----------
    frame : DataFrame
        Columns `date`, `ticker`, `adj_close` (or `close`) and any other of `open`, `high`, `low`,
        `close`, `volume`, `market_cap`, `earnings_to_price`, `book_to_price`, `st` (true or 1 on
        days of special treatment), `sector`, `member`, `market_index`, `riskless_rate` (annual, a
        fraction). Dates increase within each stock. Missing rows mean not traded.
    securities : DataFrame, optional
        Columns `ticker` and `sector`: one label per stock for all dates.
    index : Series, optional
        Market index level by date.
    membership : DataFrame, optional
        Spells: `ticker`, `start_date`, `end_date` (first day outside; missing: not ended).
    columns : sequence of str
        Further columns that are kept as fields: "Short Interest" as `short_interest`.
    delisting_gap : int
        A stock whose last price lies more than this many dates before the panel's end counts as
        delisted after it, else as suspended.
    min_dates, min_assets : int
        Fewer than these are refused.
    today : date, optional
        Later dates are refused; the machine's date by default.
    source : str
        File name for messages.

    Returns
    -------
    AssetPanel
        Tickers in alphabetical order; prices in float64, NaN where missing or outside
        `active_mask`.

    Raises
    ------
    DataError
        One sentence that names field, ticker and date of the first thing that is wrong.

    Examples
    --------
    >>> frame = pd.DataFrame({
    ...     "date": ["2015-01-02", "2015-01-02", "2015-01-05", "2015-01-05"],
    ...     "ticker": ["AAPL", "MSFT", "AAPL", "MSFT"],
    ...     "adj_close": [100.0, 40.0, 101.0, 41.0],
    ... })
    >>> panel_from_long(frame)
    AssetPanel(n_observations=2, n_assets=2, n_fields=1)
    """
    own = own_fields(columns)
    if own:
        held = {name: own.get(normalised_name(str(name)), str(name)) for name in frame.columns}
        frame = frame.rename(columns=held)
        _refuse_lacking(own, frame.columns, "the frame")
    known = {*PANEL_FIELDS, "date", "ticker", "sector", "member", "market_index", "riskless_rate"}
    known |= set(own.values())
    strange = [str(name) for name in frame.columns if name not in known]
    if strange:
        raise DataError(
            f"column {strange[0]!r} is not a field of a panel: drop it, name it in columns= to "
            f"keep it, or rename it to one of {', '.join(sorted(known))}."
        )
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise DataError(f"column {twice!r} occurs twice: keep one.")
    grid, problems = grid_from_long(frame, where=source, own=tuple(own.values()))
    raise_first(problems)
    labels = None
    if securities is not None:
        for needed in ("ticker", "sector"):
            if needed not in securities.columns:
                raise DataError(f"column {needed!r} is missing in the table of securities.")
        labels = dict(zip(securities["ticker"].astype(str), securities["sector"], strict=True))
    grid = _completed(grid, labels, index, membership)
    return panel_from_grid(
        grid,
        delisting_gap=delisting_gap,
        min_dates=min_dates,
        min_assets=min_assets,
        today=today,
        source=source,
    )


def panel_from_wide(
    frames: Mapping[str, pd.DataFrame],
    *,
    sector: Mapping[str, str] | None = None,
    index: pd.Series | None = None,
    membership: pd.DataFrame | None = None,
    columns: Sequence[str] = (),
    delisting_gap: int = 20,
    min_dates: int = 2,
    min_assets: int = 2,
    today: dt.date | None = None,
    source: str = "",
) -> AssetPanel:
    """Build a panel from one table of dates x tickers per field.

    Parameters
    ----------
    frames : mapping of str to DataFrame
        By field name, `adj_close` (or `close`) among them; sorted dates in the index.
    sector : mapping of str to str, optional
        Sector by ticker.
    index, membership, columns, delisting_gap, min_dates, min_assets, today, source
        As for `panel_from_long`; `columns` are keys of `frames`.

    Returns
    -------
    AssetPanel
        Dates and tickers are the union over the tables; tickers in alphabetical order.

    Raises
    ------
    DataError
        One sentence that names field, ticker and date of the first thing that is wrong.

    Examples
    --------
    >>> days = pd.to_datetime(["2015-01-02", "2015-01-05"])
    >>> prices = pd.DataFrame({"MSFT": [40.0, 41.0], "AAPL": [100.0, 101.0]}, index=days)
    >>> panel_from_wide({"adj_close": prices})["adj_close"]
    array([[100.,  40.],
           [101.,  41.]])
    """
    own = own_fields(columns)
    if own:
        frames = {own.get(normalised_name(name), name): frame for name, frame in frames.items()}
        _refuse_lacking(own, frames, "the mapping")
    grid, problems = grid_from_wide(frames, where=source, own=tuple(own.values()))
    raise_first(problems)
    return panel_from_grid(
        _completed(grid, sector, index, membership),
        delisting_gap=delisting_gap,
        min_dates=min_dates,
        min_assets=min_assets,
        today=today,
        source=source,
    )


def _refuse_lacking(own: Mapping[str, str], names: Collection[str], what: str) -> None:
    """Refuse a column that is to be kept and is not there."""
    for field in own.values():
        if field not in names:
            have = ", ".join(list(map(str, names))[:12])
            raise DataError(f"columns names {field!r}, which {what} has not: it has {have}.")


def panel_to_long(panel: AssetPanel) -> pd.DataFrame:
    """One row per date and stock with at least one number, sorted by date and ticker.

    Columns are `date`, `ticker` and the fields, `sector` as text; `panel_from_long` reads it back,
    fields of your own with their names in `columns`.
    """
    fields = {name: panel.get_field(name) for name in panel.keys()}  # noqa: SIM118
    shared = ("sector", "member", "market_index", "riskless_rate", "st")
    per_stock = [name for name in fields if name not in shared]
    known = np.zeros(panel.active_mask.shape, dtype=bool)
    for name in per_stock:
        known |= ~fields[name].missing_mask
    known &= panel.active_mask
    rows, columns = np.nonzero(known)
    table: dict[str, Any] = {
        "date": panel.observations[rows].astype("datetime64[s]"),
        "ticker": panel.asset_names[columns],
    }
    for name, field in fields.items():
        values = field.values[rows, columns]
        if isinstance(field, FieldCategorical):
            values = pd.Categorical.from_codes(values, categories=field.levels).astype(object)
        table[name] = values
    return pd.DataFrame(table)


def panel_to_wide(panel: AssetPanel, field: str) -> pd.DataFrame:
    """One field as dates x tickers; a sector as text."""
    if field not in panel:
        raise DataError(f"the panel has no field {field!r}; it has {', '.join(panel.keys())}.")
    stored = panel.get_field(field)
    days = pd.DatetimeIndex(panel.observations.astype("datetime64[s]"), name="date")
    tickers = pd.Index(panel.asset_names, name="ticker")
    values = stored.values
    if isinstance(stored, FieldCategorical):
        labels = np.array([*stored.levels, None], dtype=object)
        values = labels[values]
    return pd.DataFrame(values, index=days, columns=tickers)


def universe_mask(panel: AssetPanel) -> NDArray[np.bool_]:
    """Where a stock is listed and, where membership is known, in the index; (n_dates, n_assets)."""
    if "member" not in panel:
        return np.array(panel.active_mask)
    return panel.active_mask & (panel["member"] != 0.0)


def market_index(panel: AssetPanel) -> NDArray[np.float64] | None:
    """Market index level of shape (n_dates,), NaN where missing; None if absent."""
    return np.array(panel["market_index"][:, 0]) if "market_index" in panel else None


def riskless_rate(panel: AssetPanel) -> NDArray[np.float64] | None:
    """Annual rate of cash of shape (n_dates,), NaN where not known; None if absent."""
    return np.array(panel["riskless_rate"][:, 0]) if "riskless_rate" in panel else None


def sector_codes(panel: AssetPanel) -> NDArray[np.int32] | None:
    """Sector codes of shape (n_dates, n_assets), -1 where unknown; None if absent."""
    return np.asarray(panel["sector"]) if "sector" in panel else None


def validate(panel: AssetPanel, *, today: dt.date | None = None) -> None:
    """Check a panel that was built elsewhere by the rules of `panel_from_long`.

    Dates after `today` (the machine's date by default) are refused.
    """
    if "adj_close" not in panel:
        raise DataError(f"the panel has no field 'adj_close'; it has {', '.join(panel.keys())}.")
    if not np.issubdtype(panel.observations.dtype, np.datetime64):
        raise DataError(f"the panel's observations are {panel.observations.dtype}, not dates.")
    fields = {name: panel[name] for name in PANEL_FIELDS if name in panel}
    grid = Grid(
        panel.observations.astype("datetime64[D]"),
        panel.asset_names,
        fields,
        index=market_index(panel),
        riskless=riskless_rate(panel),
    )
    raise_first(check_grid(grid, today=today or dt.date.today(), where=""))


def _completed(
    grid: Grid,
    labels: Mapping[str, Any] | None,
    index: pd.Series | None,
    membership: pd.DataFrame | None,
) -> Grid:
    """Add sectors, market index and membership given beside the prices."""
    levels, sectors = grid.sector_levels, grid.sectors
    if labels is not None:
        names = match_tickers(labels, grid.tickers, what="the table of securities").ticker_of
        labels = {names[key]: label for key, label in labels.items() if key in names}
        levels, sectors = sector_grid(grid.tickers, labels, len(grid.dates))
    level = grid.index if index is None else index_on_dates(index, grid.dates)
    member = grid.member
    if membership is not None:
        if "ticker" in membership.columns:
            keys = membership["ticker"].astype(str)
            names = match_tickers(keys, grid.tickers, what="the table of membership").ticker_of
            membership = membership.assign(ticker=keys.map(names).where(keys.isin(names), keys))
        member = member_grid(membership, grid.dates, grid.tickers)
    own = (levels, sectors, level, member, grid.riskless)
    return Grid(grid.dates, grid.tickers, grid.fields, *own)
