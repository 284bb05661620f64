"""A store to aligned arrays: raw bars, adjusted close, members, industries, reports by their day.

Parts are placed one after the other, so that the largest thing in memory is the result.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from alphakeel.data.adjustment import CorporateActions, adjusted_close
from alphakeel.data.fundamentals import known_figures, on_dates, report_ratios
from alphakeel.data.grid import Grid, Matrix
from alphakeel.data.layouts import Reading
from alphakeel.data.store import DataStore, Part, read_part, tickers_of
from alphakeel.errors import ConfigError, DataError

__all__ = [
    "amount_of",
    "grid_from_store",
    "price_ratios",
    "read_store",
    "report_fields",
    "store_actions",
]

_PLACED = (
    *("open", "high", "low", "close", "volume", "previous_close", "pe", "pb", "market_cap", "st"),
)


def read_store(path: str | Path, universe: str | None = None) -> Reading:
    """Read a store as `alphakeel check` and `load_panel` do: its arrays, and how they were made.

    `universe`: of several indices whose members the store lists, this one.
    """
    store = DataStore(path)
    notes: list[str] = []
    grid = grid_from_store(store, notes, universe=universe)
    columns = tuple((name, name) for name in grid.fields)
    reading = Reading("store", columns, grid, notes)
    table = store.read("securities", ["ticker", "delisting_return"]).to_pandas().dropna()
    reading.delisted = dict(zip(table["ticker"], table["delisting_return"], strict=True))
    return reading


def grid_from_store(
    store: DataStore,
    notes: list[str],
    *,
    years: tuple[int, int] | None = None,
    universe: str | None = None,
) -> Grid:
    """The aligned arrays of a store; choices made on the way are added to `notes`.

    `years`: bars of these only, both ends included.
    """
    if not _parts(store, years):
        raise DataError(f"the store {store.path} holds no bars: fetch them first.")
    dates, tickers, fields = _bars(store, years)
    reference = fields.pop("previous_close", None)
    if reference is not None and np.isnan(reference).all():
        reference = None
    actions = store_actions(store, dates, tickers)
    fields["adj_close"] = adjusted_close(fields["close"], actions, reference)
    _invert(fields, "pe", "earnings_to_price")
    _invert(fields, "pb", "book_to_price")
    for name in [name for name, values in fields.items() if np.isnan(values).all()]:
        if name != "close":
            del fields[name]
    fields |= _reported(store, dates, tickers, fields, actions)
    levels, sectors = _sectors(store, dates, tickers, notes)
    grid = Grid(
        dates,
        tickers,
        fields,
        levels,
        sectors,
        _index(store, dates, notes),
        _members(store, dates, tickers, notes, universe),
    )
    newest = max(part.fetched for part in store.parts_of("bars"))
    sources = sorted({f"{p.source} ({p.adjustment})" for p in store.parts_of("bars")})
    notes.append(f"bars are of {', '.join(sources)}; the last day is {dates[-1]}, fetched {newest}")
    notes.append("adj_close is recomputed from raw prices, dividends and splits, forward in time")
    return grid


def _parts(store: DataStore, years: tuple[int, int] | None) -> list[Part]:
    """The parts of the bars, all or those of some years."""
    parts = store.parts_of("bars")
    return [p for p in parts if years is None or years[0] <= p.year <= years[1]]


def _bars(
    store: DataStore, years: tuple[int, int] | None
) -> tuple[NDArray[np.datetime64], NDArray[np.str_], dict[str, Matrix]]:
    """Place the bars of all parts on the union of their dates and tickers."""
    parts = _parts(store, years)
    keys = [_keys(read_part(store.location(p), ["date", "ticker"], codes=True)) for p in parts]
    calendar = np.unique(np.concatenate([np.unique(days) for days, _, _ in keys]))
    tickers = np.unique(np.concatenate([names for _, _, names in keys]))
    shape = (len(calendar), len(tickers))
    fields: dict[str, Matrix] = {}
    for number, part in enumerate(parts):
        days, codes, names = keys[number]
        keys[number] = days[:0], codes[:0], names  # no longer needed
        cells = np.searchsorted(calendar, days) * shape[1]
        cells += np.searchsorted(tickers, names)[codes]
        table = read_part(store.location(part), _PLACED)
        for name in _PLACED:
            values = table.column(name)
            if values.null_count == len(values):
                continue
            if name not in fields:
                fields[name] = np.full(shape, np.nan)
            fields[name].ravel()[cells] = values.to_numpy()
    return calendar.astype("datetime64[D]"), tickers, fields


def _keys(
    table: pa.Table,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.str_]]:
    """Days since 1970, codes of the tickers and their names, of one part."""
    names, codes = tickers_of(table)
    days = table.column("date").cast(pa.int32()).to_numpy()
    return days, codes, np.asarray(names, dtype=np.str_)


def store_actions(
    store: DataStore, dates: NDArray[np.datetime64], tickers: NDArray[np.str_]
) -> CorporateActions:
    """Splits and dividends of the store by position on the grid."""
    table = store.read("actions").to_pandas()
    if not len(table):
        return CorporateActions.none()
    return CorporateActions.placed(table, dates, tickers)


def amount_of(
    store: DataStore, grid: Grid, *, years: tuple[int, int] | None = None
) -> Matrix | None:
    """Money traded on a grid that was read from the store; None where the store has none."""
    result: Matrix | None = None
    for part in _parts(store, years):
        values = read_part(store.location(part), ["amount"]).column("amount")
        if values.null_count == len(values):
            continue
        days, codes, names = _keys(read_part(store.location(part), ["date", "ticker"], codes=True))
        column = pd.Index(grid.tickers).get_indexer(pd.Index(names))[codes]
        row = np.searchsorted(grid.dates, days.astype("datetime64[D]"))
        row = np.minimum(row, len(grid.dates) - 1)
        use = (column >= 0) & (grid.dates[row] == days.astype("datetime64[D]"))
        if result is None:
            result = np.full((len(grid.dates), len(grid.tickers)), np.nan)
        result[row[use], column[use]] = values.to_numpy()[use]
    return result


def _invert(fields: dict[str, Matrix], ratio: str, name: str) -> None:
    """Replace price over something by something over price; 0 is missing."""
    if ratio in fields:
        values = fields.pop(ratio)
        with np.errstate(divide="ignore"):
            np.divide(1.0, values, out=values)
        values[np.isinf(values)] = np.nan
        fields[name] = values


def _reported(
    store: DataStore,
    dates: NDArray[np.datetime64],
    tickers: NDArray[np.str_],
    fields: dict[str, Matrix],
    actions: CorporateActions,
) -> dict[str, Matrix]:
    """Fields of the filings, and the yields that the bars lack."""
    facts = store.read("fundamentals")
    if not facts.num_rows:
        return {}
    table = facts.to_pandas()
    figures = known_figures(table[table["ticker"].isin(set(tickers.tolist()))])
    made = report_fields(figures, dates, tickers)
    if not {"market_cap", "earnings_to_price", "book_to_price"} <= fields.keys():
        growth = _split_growth(actions, fields)
        made |= price_ratios(figures, dates, tickers, fields["close"], growth)
    return {name: values for name, values in made.items() if name not in fields}


def report_fields(
    figures: pd.DataFrame,
    dates: NDArray[np.datetime64],
    tickers: NDArray[np.str_],
) -> dict[str, Matrix]:
    """Margins, growth, accruals and leverage on a grid, from the day after each filing on."""
    ratios = report_ratios(figures)
    made = pd.concat([figures[["ticker", "available_date"]], ratios], axis=1)
    return on_dates(made, list(ratios.columns), dates, tickers)


def price_ratios(
    figures: pd.DataFrame,
    dates: NDArray[np.datetime64],
    tickers: NDArray[np.str_],
    close: Matrix,
    split_growth: Matrix,
) -> dict[str, Matrix]:
    """Market value, earnings yield and book yield as filings and the day's close give them.

    `split_growth` is the number of shares that one share of the first day has become: a share
    count is that of its filing day, and is carried through later splits.
    """
    names = ("shares", "shares_filed", "net_income", "equity")
    known = on_dates(figures, names, dates, tickers)
    if "shares" not in known:
        return {}
    value = known["shares"] * _since_filing(split_growth, known["shares_filed"], dates) * close
    value[~(value > 0)] = np.nan
    fields = {"market_cap": value}
    for name, figure in (("earnings_to_price", "net_income"), ("book_to_price", "equity")):
        if figure in known:
            fields[name] = known[figure] / value
    return fields


def _split_growth(actions: CorporateActions, fields: dict[str, Matrix]) -> Matrix:
    """How many shares one share of the first day has become."""
    growth = np.ones(fields["close"].shape)
    split = ~np.isnan(actions.splits)
    np.multiply.at(growth, (actions.rows[split], actions.columns[split]), actions.splits[split])
    return np.cumprod(growth, axis=0, out=growth)


def _since_filing(growth: Matrix, filed: Matrix, dates: NDArray[np.datetime64]) -> Matrix:
    """Growth of the number of shares since the filing that stated it, by its day in `filed`."""
    known = ~np.isnan(filed)
    day = np.where(known, filed, 0.0).astype(np.int64).astype("datetime64[D]")
    # The newest date on or before the filing; before the first date no split is known.
    row = np.maximum(np.searchsorted(dates, day, side="right") - 1, 0)
    base = np.take_along_axis(growth, row, axis=0)
    return np.asarray(growth / base)


def _sectors(
    store: DataStore, dates: NDArray[np.datetime64], tickers: NDArray[np.str_], notes: list[str]
) -> tuple[NDArray[np.str_], NDArray[np.int32] | None]:
    """Industries by date; where there are none, the one label of the list of securities."""
    table = store.read("industry").to_pandas()
    if not len(table):
        table = store.read("securities").to_pandas()
        table = table.rename(columns={"sector": "industry", "as_of": "date"})
        if table["industry"].notna().any():
            notes.append("sector is the label of the list of securities, one for all dates")
        table["date"] = dates[0].astype("datetime64[s]")
    table = table[table["industry"].notna()]
    if not len(table):
        return np.empty(0, dtype=np.str_), None
    levels = np.unique(table["industry"].to_numpy(dtype=np.str_))
    columns = pd.Index(tickers).get_indexer(pd.Index(table["ticker"]))
    days = pd.to_datetime(table["date"]).to_numpy().astype("datetime64[D]")
    early = days > dates[0]
    first = table.assign(day=days).groupby("ticker")["day"].transform("min").to_numpy()
    if early.any() and (first.astype("datetime64[D]") > dates[0]).any():
        notes.append("an industry is carried back to the dates before its first list")
    codes = np.full((len(dates), len(tickers)), -1, dtype=np.int32)
    order = np.argsort(days, kind="stable")
    label = np.searchsorted(levels, table["industry"].to_numpy(dtype=np.str_))
    for at in order:
        if columns[at] >= 0:
            row = np.searchsorted(dates, days[at])
            begin = 0 if days[at] == first[at].astype("datetime64[D]") else row
            codes[begin:, columns[at]] = label[at]
    return levels, codes


def _index(
    store: DataStore, dates: NDArray[np.datetime64], notes: list[str]
) -> NDArray[np.float64] | None:
    """The level of the first index of the store on the grid's dates."""
    table = store.read("index").to_pandas()
    if not len(table):
        return None
    names = sorted(table["ticker"].unique())
    if len(names) > 1:
        notes.append(f"market index is {names[0]}, the first of {', '.join(names)}")
    own = table[table["ticker"] == names[0]]
    days = pd.to_datetime(own["date"]).to_numpy().astype("datetime64[D]")
    level = pd.Series(own["close"].to_numpy(dtype=np.float64), index=days)
    return np.asarray(level.reindex(dates), dtype=np.float64)


def _members(
    store: DataStore,
    dates: NDArray[np.datetime64],
    tickers: NDArray[np.str_],
    notes: list[str],
    universe: str | None,
) -> Matrix | None:
    """Who was in the index, by the last list on or before each date; unknown before the first."""
    table = store.read("members").to_pandas()
    names = sorted(table["index"].unique())
    if universe is not None and universe not in names:
        others = f", or one of {', '.join(names)}" if names else ""
        raise ConfigError(
            f"universe is {universe!r}, but the store {store.path.name} does not list its members: "
            f"give 'members', 'all'{others}."
        )
    if not len(table):
        return None
    if universe is None and len(names) > 1:
        notes.append(f"universe is {names[0]}, the first of {', '.join(names)}")
    table = table[table["index"] == (universe or names[0])]
    days = pd.to_datetime(table["date"]).to_numpy().astype("datetime64[D]")
    member = np.full((len(dates), len(tickers)), np.nan)
    columns = pd.Index(tickers).get_indexer(pd.Index(table["ticker"]))
    lists = np.unique(days)
    starts = np.append(np.searchsorted(dates, lists), len(dates))
    for number, day in enumerate(lists):
        rows = slice(int(starts[number]), int(starts[number + 1]))
        member[rows] = 0.0
        listed = columns[(days == day) & (columns >= 0)]
        member[rows, listed] = 1.0
    priced = int(np.nansum(member[-1])) if len(member) else 0
    total = int((days == lists[-1]).sum())
    notes.append(
        f"{names[0]} by {len(lists)} dated lists; {priced} of {total} members of the last have "
        "prices"
    )
    return member
