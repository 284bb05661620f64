"""What a careful reader of prices would ask about: findings by severity, with ticker and date.

Nothing here refuses or changes anything; what cannot be used at all is refused in `validation`.
The checks themselves are in `price_checks` and `figure_checks`.
"""

from __future__ import annotations

import datetime as dt
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alphakeel.data.adjustment import CorporateActions
from alphakeel.data.figure_checks import (
    Told,
    action_checks,
    amount_checks,
    filing_checks,
    missing_figures,
    newest_filing,
    ratio_jumps,
)
from alphakeel.data.grid import Grid
from alphakeel.data.price_checks import Bars, Doubt, bars_of, log_returns, price_checks, used_again
from alphakeel.errors import ConfigError

__all__ = [
    "SEVERITIES",
    "Beside",
    "QualityFinding",
    "quality_findings",
    "trading_calendar",
]

Matrix = NDArray[np.float64]

SEVERITIES = ("error", "warning", "note")
_BLOCK = 128  # stocks that are looked at together: little memory, also with thousands
_OLD_DAYS = 7
_LONG_GAP_DAYS = 11  # longer than any holiday of the exchanges we know
_GAP = 5  # dates without a price of one stock
_EARLY = 20  # dates before the last one, by which the prices of a stock end


@dataclass(frozen=True)
class QualityFinding:
    """One thing to look at."""

    severity: str  # of `SEVERITIES`
    kind: str
    ticker: str  # empty where it concerns all
    date: str
    message: str  # one sentence that ends with a full stop


@dataclass(frozen=True, eq=False)
class Beside:
    """What lies beside the prices of a source, for the checks that need it."""

    actions: CorporateActions | None = None  # by position on the grid
    own_adjustment: bool = False  # adj_close comes of the source, not of these actions
    amount: Matrix | None = None  # money traded, on the grid
    facts: pd.DataFrame | None = None  # figures of filings, one a row
    estimated: int = 0  # filings whose day is not known but set
    currencies: Mapping[str, int] = field(default_factory=dict)  # stocks by currency
    # Day of the delisting by ticker, empty for stocks that are said to be listed still.
    delisted: Mapping[str, str] = field(default_factory=dict)


def quality_findings(
    grid: Grid,
    *,
    today: dt.date,
    calendar: NDArray[np.datetime64] | None = None,
    beside: Beside | None = None,
) -> tuple[list[QualityFinding], dict[str, int]]:
    """Look for what is doubtful in checked arrays.

    Parameters
    ----------
    grid : Grid
        With `adj_close`, and any other field.
    today : date
    calendar : ndarray of datetime64, optional
        Trading days of the exchange.
    beside : Beside, optional
        Actions, money traded and filings.

    Returns
    -------
    findings : list of QualityFinding
        By severity, then kind and date.
    counts : dict of str to int
        Their number by kind, the gravest kinds first.
    """
    beside = beside or Beside()
    found = _Findings(grid)
    market = _market_moves(grid)
    filed = _filing_days(beside)
    for start in range(0, len(grid.tickers), _BLOCK):
        part = slice(start, start + _BLOCK)
        found.prices(_of_block(grid, part, market, beside, filed))
    found.days(calendar, today)
    found.tell(missing_figures(grid))
    if beside.facts is not None:
        found.tell(filing_checks(beside.facts, beside.estimated))
    found.currencies(beside.currencies)
    findings = found.sorted()
    return findings, dict(Counter(finding.kind for finding in findings))


def _of_block(
    grid: Grid,
    part: slice,
    market: NDArray[np.float64],
    beside: Beside,
    filed: Mapping[str, NDArray[np.int64]],
) -> list[QualityFinding]:
    """What is doubtful about some neighbouring stocks."""
    fields = {name: values[:, part] for name, values in grid.fields.items()}
    bars = bars_of(grid.dates, grid.tickers[part], fields, market)
    found: list[QualityFinding] = []
    doubts: list[Iterable[Doubt]] = []
    if beside.actions is not None:
        own = _within(beside.actions, part.start, len(bars.tickers))
        doubts.append(action_checks(bars, own, own=beside.own_adjustment))
    if beside.amount is not None:
        doubts.append(amount_checks(bars, beside.amount[:, part]))
    if filed:
        doubts.append(ratio_jumps(bars, newest_filing(filed, bars.dates, bars.tickers)))
    for doubt in chain(price_checks(bars), *doubts, _breaks(bars, beside.delisted)):
        found += _marked(doubt, bars)
    return found


def _marked(doubt: Doubt, bars: Bars) -> list[QualityFinding]:
    """A finding for every price that is marked."""
    found = []
    for t, i in np.argwhere(doubt.where).tolist() if doubt.where.any() else ():
        ticker, day = str(bars.tickers[i]), str(bars.dates[t])
        message = f"{ticker} on {day} {doubt.text(t, i)}."
        found.append(QualityFinding(doubt.severity, doubt.kind, ticker, day, message))
    return found


def trading_calendar(dates: NDArray[np.datetime64], market: str) -> NDArray[np.datetime64]:
    """Trading days of an exchange (a code of exchange_calendars) over some dates.

    Raises
    ------
    ConfigError
        If that library is not installed, or does not know the exchange or the years.
    """
    try:
        import exchange_calendars
    except ImportError as error:
        raise ConfigError(
            f"the trading days of {market} come from exchange_calendars, which is not installed: "
            "pip install 'alphakeel[calendar]'."
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own use of pandas
            sessions = exchange_calendars.get_calendar(
                market, start=str(dates[0]), end=str(dates[-1])
            ).sessions
    except (ValueError, KeyError, exchange_calendars.errors.CalendarError) as error:
        raise ConfigError(
            f"exchange_calendars has no days of {market!r} from {dates[0]} to {dates[-1]} "
            f"({str(error).splitlines()[0]}): give a code it knows, XNYS or XSHG for example."
        ) from error
    return np.asarray(sessions.tz_localize(None).to_numpy(), dtype="datetime64[D]")


def _market_moves(grid: Grid) -> NDArray[np.float64]:
    """Median size of the adjusted moves of each date; 0 where there is none."""
    sizes = np.empty(grid.fields["adj_close"].shape, dtype=np.float32)
    for start in range(0, len(grid.tickers), _BLOCK):
        part = slice(start, start + _BLOCK)
        sizes[:, part] = np.abs(log_returns(grid.fields["adj_close"][:, part]))
    result = np.zeros(len(grid.dates))
    for t, row in enumerate(sizes):
        known = row[np.isfinite(row)]
        if len(known):
            result[t] = np.median(known)
    return result


def _filing_days(beside: Beside) -> dict[str, NDArray[np.int64]]:
    """Sorted days of the filings by stock, in days since 1970."""
    if beside.facts is None or not len(beside.facts):
        return {}
    days = pd.to_datetime(beside.facts["available_date"]).to_numpy().astype("datetime64[D]")
    table = pd.DataFrame({"ticker": beside.facts["ticker"], "day": days.astype(np.int64)})
    table = table.drop_duplicates().sort_values(["ticker", "day"])
    return {str(name): own.to_numpy() for name, own in table.groupby("ticker")["day"]}


def _within(actions: CorporateActions, start: int, count: int) -> CorporateActions:
    """The actions of some neighbouring stocks, by position among them."""
    use = (actions.columns >= start) & (actions.columns < start + count)
    return CorporateActions(
        actions.rows[use],
        actions.columns[use] - start,
        actions.splits[use],
        actions.dividends[use],
        actions.ratios[use],
    )


def _breaks(bars: Bars, delisted: Mapping[str, str]) -> list[Doubt]:
    """Gaps in the prices of a stock, and prices that end before those of the others."""
    said = [delisted.get(str(ticker)) for ticker in bars.tickers]
    listed = np.array([day == "" for day in said])
    known = np.isfinite(bars.adjusted)
    last = len(known) - 1 - np.argmax(known[::-1], axis=0)
    ends = np.zeros(known.shape, dtype=bool)
    early = np.flatnonzero(known.any(axis=0) & (last < len(known) - 1 - _EARLY))
    ends[last[early], early] = True
    gaps = np.isfinite(bars.returns) & (bars.gap > _GAP + 1) & ~used_again(bars)
    return [
        Doubt("note", "gap in the prices of a stock", gaps,
              lambda t, i: f"has a price again after {bars.gap[t, i] - 1:.0f} dates without one"),
        Doubt("note", "prices that end early", ends & ~listed,
              lambda _t, i: f"has its last price: delisted on {said[i]}" if said[i] else
              "has its last price: delisted, merged, or no longer delivered"),
        Doubt("warning", "prices that end while the stock is listed", ends & listed,
              lambda _t, _i: "has its last price, and the source lists it still: suspended, or "
              "bars are missing"),
    ]  # fmt: skip


class _Findings:
    """Collects findings."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._found: list[QualityFinding] = []

    def prices(self, found: list[QualityFinding]) -> None:
        """Add findings about single prices."""
        self._found += found

    def tell(self, told: list[Told]) -> None:
        """Add findings that are sentences already."""
        self._found += [QualityFinding(*entry) for entry in told]

    def days(self, calendar: NDArray[np.datetime64] | None, today: dt.date) -> None:
        """Look for trading days that are missing, for long gaps, and for old data."""
        dates = self._grid.dates
        if calendar is not None:
            lost = np.setdiff1d(calendar[(calendar >= dates[0]) & (calendar <= dates[-1])], dates)
            surplus = np.setdiff1d(dates, calendar)
            self._dates("trading day missing", lost, "is a trading day of the exchange, and no "
                        "stock has a row")  # fmt: skip
            self._dates("day without trading", surplus, "has rows, and the exchange was closed")
        else:
            gaps = np.flatnonzero(np.diff(dates).astype(int) > _LONG_GAP_DAYS)
            self._dates("gap in the dates", dates[gaps], "is followed by no date for more than "
                        f"{_LONG_GAP_DAYS} days")  # fmt: skip
        age = (np.datetime64(today, "D") - dates[-1]).astype(int)
        if age > _OLD_DAYS:
            text = f"the last date is {dates[-1]}, {age} days ago."
            self._found.append(QualityFinding("note", "old data", "", str(dates[-1]), text))

    def currencies(self, stocks: Mapping[str, int]) -> None:
        """Say it where prices are in several currencies."""
        if len(stocks) > 1:
            listed = ", ".join(f"{name} ({count})" for name, count in sorted(stocks.items()))
            text = f"prices are in several currencies by stock, {listed}: returns mix them."
            self._found.append(QualityFinding("warning", "several currencies", "", "", text))

    def _dates(self, kind: str, days: NDArray[np.datetime64], text: str) -> None:
        self._found += [
            QualityFinding("warning", kind, "", str(day), f"{day} {text}.") for day in days
        ]

    def sorted(self) -> list[QualityFinding]:
        """All findings, the gravest first."""
        return sorted(
            self._found, key=lambda f: (SEVERITIES.index(f.severity), f.kind, f.date, f.ticker)
        )
