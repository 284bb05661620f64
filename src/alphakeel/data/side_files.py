"""Files beside the prices: valuations, sectors, the market index, membership.

Each is joined by ticker, counted and noted; one that finds fewer than half of its stocks is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alphakeel.data.assembly import (
    index_on_dates,
    member_grid,
    place_rows,
    rates_on_dates,
    sector_grid,
)
from alphakeel.data.columns import recognise
from alphakeel.data.fundamentals import facts_of_reports, known_figures
from alphakeel.data.grid import MAX_CELLS, Grid
from alphakeel.data.layouts import Reading, as_series, rows_of
from alphakeel.data.parsing import parse_dates
from alphakeel.data.store_panel import report_fields
from alphakeel.data.tables import Table
from alphakeel.data.tickers import match_tickers, read_tickers
from alphakeel.data.validation import REPORT_FIELDS
from alphakeel.errors import DataError

__all__ = [
    "add_index",
    "add_members",
    "add_reports",
    "add_riskless",
    "add_rows",
    "add_sectors",
    "add_valuations",
    "add_values",
]

_YIELDS = ("market_cap", "earnings_to_price", "book_to_price")


def add_valuations(reading: Reading, table: Table) -> None:
    """Place market value, earnings yield and book yield on the dates they are stated for."""
    add_rows(reading, table, (*_YIELDS, *table.own.values()), ("pe", "pb"))


def add_rows(
    reading: Reading, table: Table, names: tuple[str, ...], inverted: tuple[str, ...] = ()
) -> None:
    """Place fields of a file with one row per date and stock; `inverted` are read for others."""
    understood, _ = recognise(list(table.columns), where=table.name, own=table.own)
    wanted = ("date", "ticker", *names, *inverted)
    understood = {name: column for name, column in understood.items() if name in wanted}
    frame, problems, notes = rows_of(table, understood)
    reading.problems += problems
    reading.notes += notes
    reading.columns += tuple(
        (column, name) for name, column in understood.items() if name not in ("date", "ticker")
    )
    days = frame["date"].to_numpy().astype("datetime64[D]")
    if _any_twice(days, frame["ticker"].cat.codes.to_numpy()):
        at = int(np.flatnonzero(frame.duplicated(["date", "ticker"]))[0])
        raise DataError(
            f"{table.name} has two rows for {frame['ticker'].iloc[at]} on {days[at]}: keep one."
        )
    match = match_tickers(frame["ticker"].cat.categories, reading.grid.tickers, what=table.name)
    reading.cautions.append(match.note)
    stocks = frame["ticker"].map(match.ticker_of)
    values = {name: frame[name].to_numpy() for name in names if name in frame.columns}
    add_values(reading, values, days, stocks, table)


def add_values(
    reading: Reading,
    values: Mapping[str, NDArray[np.float64]],
    days: NDArray[np.datetime64],
    stocks: pd.Series,
    table: Table,
) -> None:
    """Place numbers by date and stock; of the user's own fields nothing is lost without a word."""
    grid = reading.grid
    for name in values.keys() & set(table.own.values()):
        if name in grid.fields:
            raise DataError(f"{name} is in two files, {table.name} one of them: keep one.")
        lost = ~np.isnan(values[name]) & ~np.isin(days, grid.dates) & stocks.notna().to_numpy()
        if lost.any():
            reading.cautions.append(
                f"{int(lost.sum())} of {int((~np.isnan(values[name])).sum())} values of {name} in "
                f"{table.name} are of dates without prices and are left out, the first of "
                f"{days[lost].min()}: give each the trading day on which it is known"
            )
    placed = place_rows(values, days, stocks, grid)
    reading.grid = replace(grid, fields={**grid.fields, **placed})


def _any_twice(days: NDArray[np.datetime64], codes: NDArray[np.integer[Any]]) -> bool:
    """Whether a day and a stock occur together more than once."""
    if not len(days):
        return False
    width = int(codes.max()) + 1
    cells = (days - days.min()).astype(np.int64) * width + codes
    if cells.max() > MAX_CELLS:
        return len(np.unique(cells)) < len(cells)
    seen = np.zeros(int(cells.max()) + 1, dtype=np.bool_)
    seen[cells] = True
    return int(seen.sum()) < len(cells)


def add_sectors(reading: Reading, table: Table) -> None:
    """Label each stock; a newer dated list overrides an older one."""
    understood, _ = recognise(list(table.columns), where=table.name)
    if "ticker" not in understood:
        raise DataError(f"no column of {table.name} is recognised as the ticker.")
    tickers = read_tickers(table.columns[understood["ticker"]], table.name, table.first_row)
    match = match_tickers(tickers.cat.categories, reading.grid.tickers, what=table.name)
    tickers = tickers.map(match.ticker_of)
    reading.cautions.append(match.note)
    dated = sorted(name for name in table.columns if re.fullmatch(r"sector_\d{4}", name))
    sources = [*dated, *([understood["sector"]] if "sector" in understood else [])]
    labels: dict[str, str] = {}
    for column in sources:
        listed = dict(zip(tickers, as_series(table.columns[column]).astype(object), strict=True))
        new = {
            ticker: str(label)
            for ticker, label in listed.items()
            if ticker not in labels and not pd.isna([ticker, label]).any() and str(label).strip()
        }
        labels |= new
        reading.columns += ((column, "sector"),)
        reading.notes.append(
            f"sector of {len(new)} stocks is column {column} of {table.name}, one label for all "
            "dates"
        )
    _add_delisting_returns(reading, table, tickers)
    if labels:
        grid = reading.grid
        levels, codes = sector_grid(grid.tickers, labels, len(grid.dates))
        reading.grid = replace(grid, sector_levels=levels, sectors=codes)


def _add_delisting_returns(reading: Reading, table: Table, tickers: pd.Series) -> None:
    """Take what holders got at last, where the list of securities states it."""
    for name in ("delisting_return", "dlret"):
        column = next((key for key in table.columns if key.casefold() == name), None)
        if column is None:
            continue
        values = pd.to_numeric(as_series(table.columns[column]), errors="coerce")
        known = values.notna().to_numpy() & tickers.notna().to_numpy()
        for ticker, value in zip(tickers[known].astype(str), values[known], strict=True):
            if not -1.0 <= value <= 10.0:
                raise DataError(
                    f"{column} of {ticker} in {table.name} is {value:g}, but a return is a "
                    "fraction from -1 on: -0.3 is a loss of 30 %."
                )
            reading.delisted[ticker] = float(value)
        reading.columns += ((column, "delisting return"),)
        return


def add_index(reading: Reading, table: Table) -> None:
    """Put the index level on the panel's dates."""
    understood, _ = recognise(list(table.columns), where=table.name)
    wanted: dict[str, str] = {}
    wanted |= {name: understood[name] for name in ("date", "close") if name in understood}
    if "close" not in wanted and "adj_close" in understood:
        wanted["close"] = understood["adj_close"]
    if "close" not in wanted:
        raise DataError(f"no column of {table.name} is recognised as the close.")
    frame, problems, notes = rows_of(table, wanted, ticker="index")
    reading.problems += problems
    reading.notes += notes
    if "ticker" in understood:
        symbols = as_series(table.columns[understood["ticker"]]).astype(str)
        first = str(symbols.iloc[0])
        if symbols.nunique() > 1:
            reading.notes.append(f"market index is {first}, the first of several in {table.name}")
        frame = frame[symbols.loc[frame.index] == first]
    level = index_on_dates(frame.set_index("date")["close"], reading.grid.dates)
    if np.isnan(level).all():
        raise DataError(f"{table.name} has no date in common with the prices.")
    missing = np.flatnonzero(np.isnan(level))
    if len(missing):
        reading.cautions.append(
            f"{table.name} is missing on {len(missing)} of {len(level)} dates of the prices, the "
            f"first {reading.grid.dates[missing[0]]}: no level is made up, and what needs all of "
            "them (regimes, market shocks, beta of the test) is left out"
        )
    reading.grid = replace(reading.grid, index=level)
    reading.columns += ((wanted["close"], "market_index"),)


def add_members(reading: Reading, table: Table) -> None:
    """Mark who was in the index on each date, and note how many of them have no prices."""
    names = {name.lower(): name for name in table.columns}
    # Where both are given, `symbol` is the name used in the prices.
    ticker = names.get("symbol", names.get("ticker"))
    if ticker is None or not {"start_date", "end_date"} <= names.keys():
        raise DataError(f"{table.name} needs the columns symbol, start_date and end_date.")
    spells = pd.DataFrame(
        {
            "ticker": read_tickers(table.columns[ticker], table.name, table.first_row),
            "start_date": as_series(table.columns[names["start_date"]]),
            "end_date": as_series(table.columns[names["end_date"]]),
        }
    )
    grid = reading.grid
    match = match_tickers(spells["ticker"].cat.categories, grid.tickers, what=table.name)
    reading.cautions.append(match.note)
    spells["ticker"] = spells["ticker"].map(match.ticker_of)
    member = member_grid(spells, grid.dates, grid.tickers)
    reading.grid = replace(grid, member=member)
    reading.columns += ((ticker, "member"),)
    everyone = spells.assign(ticker=[f"spell {row}" for row in range(len(spells))])
    ends = grid.dates[[0, -1]]
    all_members = member_grid(everyone, ends, np.asarray(everyone["ticker"], dtype=np.str_))
    reading.cautions.append(_survivors(grid, member, all_members))


def add_riskless(reading: Reading, table: Table) -> None:
    """Put the annual rate of cash on the panel's dates, carried forward."""
    names = {name.lower(): name for name in table.columns}
    if not {"date", "rate"} <= names.keys():
        raise DataError(f"{table.name} needs the columns date and rate (annual, a fraction).")
    rates = as_series(table.columns[names["rate"]])
    rates.index = pd.Index(as_series(table.columns[names["date"]]))
    known = rates_on_dates(rates, reading.grid.dates)
    if np.isnan(known).all():
        raise DataError(f"{table.name} has no rate that is known on a date of the prices.")
    reading.grid = replace(reading.grid, riskless=known)
    reading.columns += ((names["rate"], "riskless_rate"),)


def add_reports(reading: Reading, table: Table) -> None:
    """Turn company reports into ratios as known on each date, from the day after each report."""
    columns = {name: as_series(values) for name, values in table.columns.items()}
    facts = facts_of_reports(pd.DataFrame(columns))
    grid = reading.grid
    if len(facts):
        match = match_tickers(facts["ticker"].unique(), grid.tickers, what=table.name)
        reading.cautions.append(match.note)
        facts = facts.assign(ticker=facts["ticker"].map(match.ticker_of))
        facts = facts[facts["ticker"].notna()]
    if not len(facts):
        reading.notes.append(
            f"{table.name} is not used: it needs symbol, available_date, period_end and figures"
        )
        return
    days, faults = parse_dates(facts["available_date"])
    if faults:
        raise DataError(f"available_date in a row of {table.name} {faults[0][1]}.")
    figures = known_figures(facts.assign(available_date=days))
    made = report_fields(figures, grid.dates, grid.tickers)
    fields = {name: made[name] for name in REPORT_FIELDS if name in made}
    reading.grid = replace(grid, fields={**grid.fields, **fields})
    reading.columns += tuple((table.name, name) for name in fields)
    if fields:
        reading.notes.append(
            f"{', '.join(fields)} are of {table.name}, from the day after each report on"
        )


def _survivors(grid: Grid, member: NDArray[np.float64], all_members: NDArray[np.float64]) -> str:
    """Say how many members have prices at the start and at the end.

    `all_members` has these two rows, for every spell.
    """
    price = grid.fields.get("adj_close", grid.fields.get("close"))
    parts = []
    for row, everyone in zip((0, len(grid.dates) - 1), all_members, strict=True):
        total = int(np.nansum(everyone))
        priced = (
            member[row] == 1.0 if price is None else (member[row] == 1.0) & ~np.isnan(price[row])
        )
        parts.append(f"{int(priced.sum())} of {total} members on {grid.dates[row]}")
    return f"prices are there for {' and '.join(parts)}: missing ones bias results upwards"
