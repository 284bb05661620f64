"""Total-return prices from raw ones: dividends, splits and reference prices, forward in time.

The first close stays as it is and later ones carry what a holder got: an adjusted close of a day
never changes when a split or a dividend comes after it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alphakeel.data.validation import previous_valid

__all__ = ["CorporateActions", "adjusted_close"]

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
