"""Total-return prices from raw ones: dividends, splits and reference prices, forward in time.

The first close stays as it is and later ones carry what a holder got: an adjusted close of a day
never changes when a split or a dividend comes after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alphakeel.data.grid import Grid
from alphakeel.data.validation import MIN_GROWTH, previous_valid

__all__ = ["DELISTING_GAP", "CorporateActions", "adjusted_close", "with_delisting_returns"]

# Dates without a price after which a stock counts as delisted.
DELISTING_GAP = 20

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CorporateActions:
    """Splits and dividends, one entry each, by position of date and stock.

    A date without a price counts from the stock's next price on; `rows` may be that of any date.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    splits: NDArray[np.float64]  # new shares for one old; NaN: none
    dividends: NDArray[np.float64]  # cash per old share; NaN: none
    ratios: NDArray[np.float64]  # what a holder's value per new price is multiplied by; NaN: none

    @classmethod
    def none(cls) -> CorporateActions:
        """No action at all."""
        empty = np.empty(0)
        return cls(empty.astype(np.int64), empty.astype(np.int64), empty, empty, empty)

    @classmethod
    def placed(
        cls, table: pd.DataFrame, dates: NDArray[np.datetime64], tickers: NDArray[np.str_]
    ) -> CorporateActions:
        """Rows of `date`, `ticker`, `split`, `dividend` and `ratio` by position on two axes.

        Those of other stocks, or of days outside the dates, are left out.
        """
        columns = pd.Index(tickers).get_indexer(pd.Index(table["ticker"]))
        days = pd.to_datetime(table["date"]).to_numpy().astype("datetime64[D]")
        rows = np.searchsorted(dates, days)
        use = (columns >= 0) & (rows < len(dates)) & (days >= dates[0])
        values = table.loc[use, ["split", "dividend", "ratio"]].to_numpy(dtype=np.float64)
        return cls(
            rows[use], columns[use].astype(np.int64), values[:, 0], values[:, 1], values[:, 2]
        )


def adjusted_close(
    close: Matrix, actions: CorporateActions, previous_close: Matrix | None = None
) -> Matrix:
    """Close times what one share of the first day has become, (n_dates, n_assets).

    The return over a day with split s and dividend d is (close s + d) / close before - 1. Where the
    exchange states a reference price, it is close / reference - 1, whatever the actions say.

    Parameters
    ----------
    close : ndarray of shape (n_dates, n_assets)
        As traded; NaN where there was no trade.
    actions : CorporateActions
    previous_close : ndarray of shape (n_dates, n_assets), optional
        The exchange's reference price for the day; NaN where it states none.

    Examples
    --------
    A 2:1 split on the second day, and 1.00 in cash on the third:

    >>> close = np.array([[10.0], [5.0], [4.0]])
    >>> one = np.array([2.0, np.nan]), np.array([np.nan, 1.0])
    >>> paid = CorporateActions(np.array([1, 2]), np.array([0, 0]), *one, np.full(2, np.nan))
    >>> adjusted_close(close, paid).ravel()
    array([10., 10., 10.])
    """
    growth = np.ones(close.shape)
    stated = np.zeros(close.shape, dtype=bool)
    if previous_close is not None:
        before = previous_valid(close)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = before / previous_close
        stated = np.isfinite(ratio) & (previous_close > 0) & ~np.isnan(close)
        growth[stated] = ratio[stated]
    rows = _next_priced(close, actions)
    use = rows < len(close)
    row, column = rows[use], actions.columns[use]
    use_here = ~stated[row, column]
    row, column = row[use_here], column[use_here]
    split, dividend, factor = (
        values[use][use_here] for values in (actions.splits, actions.dividends, actions.ratios)
    )
    split = np.where(np.isnan(split), 1.0, split)
    paid = np.where(np.isnan(dividend), 0.0, dividend) / close[row, column]
    multiple = np.where(np.isnan(factor), split + paid, factor)
    np.multiply.at(growth, (row, column), multiple)
    np.cumprod(growth, axis=0, out=growth)
    return close * growth


def _next_priced(close: Matrix, actions: CorporateActions) -> NDArray[np.int64]:
    """Row of the first price on or after each action; n_dates where there is none.

    An action before or on the first price of a stock changes nothing and gets n_dates, too.
    """
    n_dates = len(close)
    result = np.full(len(actions.rows), n_dates, dtype=np.int64)
    order = np.argsort(actions.columns, kind="stable")
    starts = np.flatnonzero(np.diff(actions.columns[order], prepend=-1))
    for entries in np.split(order, starts[1:]) if len(order) else []:
        priced = np.flatnonzero(~np.isnan(close[:, actions.columns[entries[0]]]))
        at = np.searchsorted(priced, actions.rows[entries])
        inside = (at > 0) & (at < len(priced))
        result[entries[inside]] = priced[at[inside]]
    return result


def with_delisting_returns(
    grid: Grid, stated: Mapping[str, float], assumed: float = 0.0
) -> tuple[Grid, list[str]]:
    """The grid with what holders got at last where prices end, and notes on it.

    A stated return is that of the first date after the last price. The assumed one is for stocks
    that state none; it comes `DELISTING_GAP` dates later, when it is known that no price follows.
    Nobody can trade at these prices where the data have a volume: it is 0 there.

    Examples
    --------
    >>> days = np.arange("2015-01-05", "2015-01-09", dtype="datetime64[D]")
    >>> prices = np.array([[9.0, 5.0], [10.0, 5.0], [11.0, np.nan], [12.0, np.nan]])
    >>> grid = Grid(days, np.array(["A", "B"]), {"adj_close": prices})
    >>> with_delisting_returns(grid, {"B": -0.4})[0].fields["adj_close"][:, 1]
    array([ 5.,  5.,  3., nan])
    """
    known = ~np.isnan(grid.fields["adj_close"])
    last = len(known) - 1 - np.argmax(known[::-1], axis=0)
    booked, told = [], 0
    for column, ticker in enumerate(grid.tickers):
        final = stated.get(str(ticker), np.nan)
        told += bool(np.isfinite(final))
        row = last[column] + 1 if np.isfinite(final) else last[column] + 1 + DELISTING_GAP
        if row < len(known) and known[:, column].any() and (np.isfinite(final) or assumed != 0.0):
            booked.append((row, column, final if np.isfinite(final) else assumed))
    fields = dict(grid.fields)
    for name in {"adj_close", "close", "volume"} & fields.keys() if booked else ():
        fields[name] = fields[name].copy()
    for row, column, final in booked:
        before = last[column]
        growth = max(1.0 + final, MIN_GROWTH)
        fields["adj_close"][row, column] = fields["adj_close"][before, column] * growth
        if "volume" in fields:
            fields["volume"][row, column] = 0.0
        if "close" in fields:
            fields["close"][row, column] = fields["close"][before, column]
    notes = []
    if told:
        used = sum(np.isfinite(stated.get(str(grid.tickers[c]), np.nan)) for _, c, _ in booked)
        notes.append(
            f"a delisting return is stated for {told} stocks: it is the return of a holder on the "
            f"date after the last price ({used} end before the last date)"
        )
    if assumed != 0.0:
        n = len(booked) - (used if told else 0)
        notes.append(
            f"{n} stocks end without a stated delisting return: {assumed:+.0%} is assumed, "
            f"{DELISTING_GAP} dates after the last price"
        )
    return replace(grid, fields=fields), notes
