"""Aligned arrays to a panel, and the fields beside the prices.

Listing, delisting and suspension are read off the prices; sectors, the market index and membership
are placed on the panel's dates; a published figure is known from the first close after its day on.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skfolio.containers import AssetPanel, Field2D, FieldCategorical, InactivePolicy

from alphakeel.data.grid import Grid, Matrix, check_grid, numeric
from alphakeel.data.parsing import parse_dates
from alphakeel.data.tickers import match_tickers
from alphakeel.data.validation import PANEL_FIELDS, place, raise_first
from alphakeel.errors import DataError
from alphakeel.stats.rolling import last_known_before

__all__ = [
    "active_from_prices",
    "assemble",
    "check_counts",
    "index_on_dates",
    "join_asof",
    "member_grid",
    "panel_from_grid",
    "place_rows",
    "rates_on_dates",
    "sector_grid",
    "traded_mask",
    "with_adjusted_close",
]

# A rate of cash counts for so many days after its date: a quarter, and no longer.
RATE_DAYS = 92


def panel_from_grid(
    grid: Grid,
    *,
    delisting_gap: int = 20,
    min_dates: int = 2,
    min_assets: int = 2,
    today: dt.date | None = None,
    source: str = "",
) -> AssetPanel:
    """Check aligned arrays and fill a panel; the options are those of `panel_from_long`."""
    grid = with_adjusted_close(grid, source)
    check_counts(grid, min_dates, min_assets, source)
    raise_first(check_grid(grid, today=today or dt.date.today(), where=source))
    return assemble(grid, delisting_gap=delisting_gap, source=source)


def assemble(
    grid: Grid, *, delisting_gap: int = 20, source: str = "", owned: bool = False
) -> AssetPanel:
    """Derive listing, delisting and suspension from checked arrays and fill a panel.

    Of a grid that is `owned` the arrays become those of the panel, and are no longer the grid's: a
    large one is not in memory twice.
    """
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
    shared = _shared(fields)
    contents: dict[str, Any] = {
        name: Field2D(_while_listed(fields[name], active, owned and name not in shared))
        for name in dict.fromkeys((*PANEL_FIELDS, *fields))  # those of the user's own come last
        if name in fields
    }
    if grid.sectors is not None and len(grid.sector_levels):
        codes = np.where(active, grid.sectors, np.int32(-1))
        contents["sector"] = FieldCategorical(codes, levels=grid.sector_levels)
    if grid.index is not None:
        level = np.broadcast_to(grid.index[:, None], active.shape)
        contents["market_index"] = Field2D(level, inactive_policy=InactivePolicy.IGNORE)
    if grid.riskless is not None:
        rate = np.broadcast_to(grid.riskless[:, None], active.shape)
        contents["riskless_rate"] = Field2D(rate, inactive_policy=InactivePolicy.IGNORE)
    if grid.member is not None:
        contents["member"] = Field2D(_while_listed(grid.member, active, owned))
    return AssetPanel(
        fields=contents,
        observations=grid.dates,
        asset_names=grid.tickers,
        active_mask=active,
        estimation_mask=traded,
    )


def _while_listed(values: Matrix, active: NDArray[np.bool_], owned: bool) -> Matrix:
    """Values with NaN where a stock is not listed, in place where the array may be changed."""
    if not (owned and values.flags.writeable):
        return np.where(active, values, np.nan)
    np.copyto(values, np.nan, where=~active)
    return values


def _shared(fields: Mapping[str, Matrix]) -> set[str]:
    """Fields whose memory another one also has, as a close that stands in for `adj_close`."""
    owners: dict[int, str] = {}
    shared = set()
    for name, values in fields.items():
        base = values if values.base is None else values.base
        if owners.setdefault(id(base), name) != name:
            shared |= {name, owners[id(base)]}
    return shared


def active_from_prices(prices: NDArray[np.float64], delisting_gap: int = 20) -> NDArray[np.bool_]:
    """True from the first to the last price of each stock, (n_dates, n_assets).

    A last price within `delisting_gap` dates of the end does not end the listing. That a suspended
    stock never came back is known with hindsight only: what could be traded on a date is in the
    estimation mask, which does not depend on later rows.
    """
    known = ~np.isnan(prices)
    n_dates = len(prices)
    rows = np.arange(n_dates)[:, None]
    first = np.where(known.any(axis=0), np.argmax(known, axis=0), n_dates)
    last = n_dates - 1 - np.argmax(known[::-1], axis=0)
    last = np.where(last >= n_dates - 1 - delisting_gap, n_dates - 1, last)
    return (rows >= first) & (rows <= last)


def traded_mask(fields: Mapping[str, NDArray[np.float64]]) -> NDArray[np.bool_]:
    """Where a stock really traded: a price, and not a repeated one on no volume."""
    priced = ~np.isnan(fields["adj_close"])
    if "volume" in fields:
        price = fields.get("close", fields["adj_close"])
        idle = np.nonzero((fields["volume"] == 0) & ~np.isnan(price))
        priced[idle] &= price[idle] != last_known_before(price, *idle)
    return priced


def with_adjusted_close(grid: Grid, source: str = "") -> Grid:
    """The grid with `adj_close`; where there is none, `close` stands in for it."""
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
            counted = f"there is 1 {what}" if count == 1 else f"there are {count} {what}s"
            raise DataError(f"{counted}, but at least {least} are needed{place(source)}.")


def sector_grid(
    tickers: NDArray[np.str_], labels: Mapping[str, str], n_dates: int
) -> tuple[NDArray[np.str_], NDArray[np.int32]]:
    """Sector names, and codes (n_dates, n_assets) from one label per ticker; -1 where unknown."""
    known = [labels.get(str(ticker)) for ticker in tickers]
    names = [None if pd.isna(name) or not str(name).strip() else str(name) for name in known]
    levels = np.unique([name for name in names if name is not None]).astype(np.str_)
    positions = {str(level): code for code, level in enumerate(levels)}
    codes = np.array([-1 if name is None else positions[name] for name in names], dtype=np.int32)
    return levels, np.tile(codes, (n_dates, 1))


def index_on_dates(index: pd.Series, dates: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Index level per panel date, NaN where the index has none."""
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


def rates_on_dates(rates: pd.Series, dates: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Annual rate of cash per panel date: the last one known by then, at most `RATE_DAYS` old.

    NaN before the first and beyond that age. Dates of the rates are those on which they are known.

    Examples
    --------
    >>> rates = pd.Series([0.05, 0.04], index=["2024-01-01", "2024-01-04"])
    >>> days = np.array(["2023-12-29", "2024-01-03", "2024-01-04"], dtype="datetime64[D]")
    >>> rates_on_dates(rates, days)
    array([ nan, 0.05, 0.04])
    """
    days, faults = parse_dates(rates.index)
    if faults:
        raise DataError(
            f"the riskless rate has a date in row {faults[0][0] + 1} that {faults[0][1]}."
        )
    days = days.astype("datetime64[D]")
    if (np.diff(days.astype(np.int64)) <= 0).any():
        row = int(np.argmax(np.diff(days.astype(np.int64)) <= 0)) + 1
        raise DataError(
            f"the riskless rate has {days[row]} in row {row + 1} after {days[row - 1]}: keep one "
            "row per date, in order."
        )
    values, bad = numeric(rates)
    if bad:
        raise DataError(f"the riskless rate has in row {bad[0][0] + 1} {bad[0][1]}.")
    known = ~np.isnan(values)
    days, values = days[known], values[known]
    latest = np.searchsorted(days, dates, side="right") - 1
    out = np.full(len(dates), np.nan)
    found = latest >= 0
    age = (dates[found] - days[latest[found]]).astype(np.int64)
    out[found] = np.where(age <= RATE_DAYS, values[latest[found]], np.nan)
    return out


def member_grid(
    spells: pd.DataFrame, dates: NDArray[np.datetime64], tickers: NDArray[np.str_]
) -> Matrix:
    """Membership (n_dates, n_assets) from spells of `ticker`, `start_date` and `end_date`.

    `end_date` is the first day outside; missing: not ended. 1.0 or 0.0; NaN on dates before the
    first spell, when membership is unknown.
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
    """Place further columns, one entry per date and stock, on a grid's axes; NaN without a row."""
    codes, names = pd.factorize(row_tickers)
    columns = np.append(
        pd.Index(grid.tickers).get_indexer(pd.Index([str(name) for name in names])), -1
    )
    column = columns[codes]
    row = np.minimum(np.searchsorted(grid.dates, days), len(grid.dates) - 1)
    inside = (column >= 0) & (grid.dates[row] == days)
    cells = row[inside] * len(grid.tickers) + column[inside]
    del row, column, codes
    placed = {}
    for name, entries in values.items():
        placed[name] = np.full((len(grid.dates), len(grid.tickers)), np.nan)
        placed[name].ravel()[cells] = entries if len(cells) == len(entries) else entries[inside]
    return placed


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
        the same date (and period) the last one counts. Stocks not in the panel are left out;
        tickers may be written without the exchange or leading zeros, and a table in which fewer
        than half of the stocks (or of its own tickers) are found is refused.
    columns : sequence of str
        Names of numeric columns.
    max_age_days : int
        A figure is used for at most this many calendar days after `available_date`.

    Returns
    -------
    dict of str to ndarray of shape (n_dates, n_assets)
        NaN where nothing is known, where it is too old, and outside `active_mask`.

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
    symbols = fundamentals["ticker"].astype(str)
    match = match_tickers(symbols, panel.asset_names, what="the table of fundamentals")
    table["code"] = pd.Index(panel.asset_names).get_indexer(
        pd.Index(symbols.map(match.ticker_of).astype(str))
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
