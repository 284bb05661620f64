"""The checks on entry: what lies beside the prices of a source is gathered, and all is looked at.

`alphakeel check` and `alphakeel fetch` come here, the one with all of a source, the other with the
days that are new in a store.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alphakeel.data.adjustment import CorporateActions
from alphakeel.data.assembly import place_rows
from alphakeel.data.fundamentals import facts_of_reports
from alphakeel.data.grid import Grid, check_grid
from alphakeel.data.layouts import MoneyTraded, as_series
from alphakeel.data.quality import Beside, QualityFinding, quality_findings, trading_calendar
from alphakeel.data.store import DELISTED, LISTED, DataStore, is_store
from alphakeel.data.store_panel import amount_of, grid_from_store, store_actions
from alphakeel.data.tables import is_table, read_table, stem_of
from alphakeel.data.tickers import match_tickers
from alphakeel.data.validation import raise_first
from alphakeel.errors import ConfigError, DataError

__all__ = ["check_entry", "check_new_days"]

Findings = tuple[list[QualityFinding], dict[str, int]]

_QUARTER = dt.timedelta(days=92)
_SPLIT_NAMES = ("split", "split_coefficient", "split_factor", "splits")
_DIVIDEND_NAMES = ("dividend", "dividend_amount", "dividends")
# The exchange whose days are expected, by what all tickers begin with.
_A_SHARES = ("sh6", "sz0", "sz3", "bj")


def check_entry(
    grid: Grid,
    path: Path,
    *,
    today: dt.date,
    market: str | None = None,
    money: Sequence[MoneyTraded] = (),
) -> Findings:
    """Everything that is doubtful in a source that has been read into a grid.

    `market` is the exchange whose trading days are expected; without it those of the store count,
    or those of Shanghai for A shares where exchange_calendars is installed.
    """
    store = DataStore(path) if is_store(path) else None
    beside = _of_files(grid, path, money) if store is None else _of_store(store, grid)
    return quality_findings(
        grid, today=today, calendar=_expected_days(grid, market, store), beside=beside
    )


def check_new_days(store: DataStore, since: dt.date, *, today: dt.date) -> Findings:
    """What is doubtful in the days of a store from one on, held against the quarter before it.

    Raises
    ------
    DataError
        If the store cannot be read into a panel.
    """
    years = ((since - _QUARTER).year, today.year + 1)
    grid = grid_from_store(store, [], years=years)
    raise_first(check_grid(grid, today=today, where=store.path.name))
    beside = _of_store(store, grid, years)
    calendar = _expected_days(grid, None, store)
    findings, _ = quality_findings(grid, today=today, calendar=calendar, beside=beside)
    new = [finding for finding in findings if finding.date >= str(since)]
    counts: dict[str, int] = {}
    for finding in new:
        counts[finding.kind] = counts.get(finding.kind, 0) + 1
    return new, counts


def _expected_days(
    grid: Grid, market: str | None, store: DataStore | None
) -> NDArray[np.datetime64] | None:
    """Trading days to hold the dates against; None where nobody states them."""
    if market is not None:
        return trading_calendar(grid.dates, market)
    if store is not None:
        days = store.read("calendar", ["date"]).column("date").to_numpy()
        if len(days):
            stated = np.unique(days.astype("datetime64[D]"))
            return stated if stated[-1] >= grid.dates[-1] else None
    if all(str(ticker).startswith(_A_SHARES) for ticker in grid.tickers):
        try:
            return trading_calendar(grid.dates, "XSHG")
        except ConfigError:
            return None  # nobody asked for it: long gaps are told instead
    return None


def _of_store(store: DataStore, grid: Grid, years: tuple[int, int] | None = None) -> Beside:
    """Actions, money traded, filings and currencies of a store."""
    facts = store.read("fundamentals").to_pandas()
    wanted = ["as_of", "ticker", "currency", "status", "last_date"]
    securities = store.read("securities", wanted).to_pandas().sort_values("as_of", kind="stable")
    securities = securities.drop_duplicates("ticker", keep="last")
    money = securities["currency"].dropna().value_counts()
    stated = securities[securities["status"].isin((LISTED, DELISTED))]
    last = stated["last_date"].where(stated["status"] == DELISTED, "").astype(str)
    return Beside(
        actions=store_actions(store, grid.dates, grid.tickers),
        amount=amount_of(store, grid, years=years),
        facts=facts if len(facts) else None,
        currencies={str(name): int(count) for name, count in money.items()},
        delisted=dict(zip(stated["ticker"], last, strict=True)),
    )


def _of_files(grid: Grid, path: Path, money: Sequence[MoneyTraded]) -> Beside:
    """Actions, money traded and filings of a file or a folder."""
    actions = facts = None
    estimated = 0
    if path.is_dir():
        actions = _actions_in(path, grid)
        facts, estimated = _facts_in(path, grid)
    return Beside(
        actions=actions,
        own_adjustment="close" in grid.fields,
        amount=_placed(grid, money),
        facts=facts,
        estimated=estimated,
    )


def _placed(grid: Grid, money: Sequence[MoneyTraded]) -> NDArray[np.float64] | None:
    """Money traded on the grid, in units of the prices whatever unit the whole source has."""
    if not money or not {"close", "volume"} <= grid.fields.keys():
        return None
    total = np.full(grid.fields["close"].shape, np.nan)
    for part in money:
        values = place_rows({"amount": part.values}, part.days, part.tickers, grid)["amount"]
        total = np.where(np.isnan(total), values, total)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.log10(total / (grid.fields["volume"] * grid.fields["close"]))
    ratio = ratio[np.isfinite(ratio)]
    if not len(ratio):
        return None
    return np.asarray(total / 10.0 ** np.round(np.median(ratio)))


def _tables(path: Path, stem: str) -> list[Path]:
    """The tables of a folder whose name begins with a word, sorted."""
    return sorted(
        file
        for file in path.iterdir()
        if file.name.startswith(stem) and is_table(file) and not file.is_dir()
    )


def _actions_in(path: Path, grid: Grid) -> CorporateActions | None:
    """Splits and dividends of the files `corporate_actions*`; None where there are none."""
    frames = []
    for file in _tables(path, "corporate_actions"):
        columns = {name.lower(): as_series(v) for name, v in read_table(file).columns.items()}
        split = next((columns[name] for name in _SPLIT_NAMES if name in columns), None)
        paid = next((columns[name] for name in _DIVIDEND_NAMES if name in columns), None)
        ticker = columns.get("symbol", columns.get("ticker"))
        if ticker is None or "date" not in columns or (split is None and paid is None):
            continue
        parts = {"ticker": ticker.astype(str), "date": columns["date"]}
        for name, values in (("split", split), ("dividend", paid)):
            known = np.nan if values is None else pd.to_numeric(values, errors="coerce")
            parts[name] = pd.Series(known, index=ticker.index)
        frames.append(pd.DataFrame(parts))
    if not frames:
        return None
    table = pd.concat(frames).drop_duplicates(["ticker", "date"])
    return CorporateActions.placed(table.assign(ratio=np.nan), grid.dates, grid.tickers)


def _facts_in(path: Path, grid: Grid) -> tuple[pd.DataFrame | None, int]:
    """Figures of the file `fundamentals` by the tickers of the grid, and how many are estimated."""
    file = next(
        (f for f in _tables(path, "fundamentals") if stem_of(f.name) == "fundamentals"), None
    )
    if file is None:
        return None, 0
    columns = {name: as_series(values) for name, values in read_table(file).columns.items()}
    reports = pd.DataFrame(columns)
    facts = facts_of_reports(reports)
    if not len(facts):
        return None, 0
    estimated = 0
    if "available_is_estimated" in reports:
        estimated = int((reports["available_is_estimated"] == True).sum())  # noqa: E712
    try:
        match = match_tickers(facts["ticker"].unique(), grid.tickers, what=file.name)
    except DataError:
        return None, 0  # refused, and told, where the file was read
    facts = facts.assign(ticker=facts["ticker"].map(match.ticker_of))
    return facts[facts["ticker"].notna()], estimated
