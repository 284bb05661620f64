"""The record of one backtest: what was held, traded and paid, and what stood in the way."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

__all__ = ["REASONS", "Ledger"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Fields of the ledger that count orders stopped or made smaller, with the words for a reader.
REASONS = {
    "blocked": "suspended or without a price",
    "up_limit": "a buy at the upper price limit",
    "down_limit": "a sale at the lower price limit",
    "locked": "a sale of shares bought on the same day",
    "cut": "larger than the allowed share of the volume, cut to it",
    "small": "smaller than one lot",
}


@dataclass(frozen=True, slots=True, eq=False)
class Ledger:
    """The record of one backtest; every array is read-only, row t is the close of day t.

    Attributes
    ----------
    weights : ndarray of shape (n_dates, n_assets)
        Share of wealth in each stock after the day's trades; the rest is cash.
    trades : ndarray of shape (n_dates, n_assets)
        Signed orders carried out, in currency: positive buys, negative sells.
    costs : ndarray of shape (n_dates,)
        Trading costs paid, in currency.
    carry : ndarray of shape (n_dates,)
        Interest on borrowed cash and fees for borrowed stock since the row before, in currency.
    interest : ndarray of shape (n_dates,)
        What cash earned since the row before, in currency.
    riskless : ndarray of shape (n_dates,)
        Return of cash since the row before, a fraction: 0 where cash earns nothing.
    gross_returns, net_returns : ndarray of shape (n_dates,)
        Simple returns of the day before and after that day's costs and carry, as fractions, with
        the interest on cash. Row 0 is measured from `initial`, so it holds only costs.
    cash, wealth : ndarray of shape (n_dates,)
        Cash, and cash plus holdings, after trades and costs, in currency.
    turnover : ndarray of shape (n_dates,)
        Value bought plus value sold over wealth before trading: 2.0 replaces a whole portfolio.
    blocked : ndarray of shape (n_dates,) of int
        Orders that could not be carried out: the stock was suspended or had no price.
    up_limit, down_limit : ndarray of shape (n_dates,) of int
        Buys dropped at the upper and sales dropped at the lower price limit.
    locked : ndarray of shape (n_dates,) of int
        Sales made smaller because the shares were bought on the same day.
    cut : ndarray of shape (n_dates,) of int
        Orders cut to the allowed share of the volume.
    small : ndarray of shape (n_dates,) of int
        Orders of less than one lot, dropped.
    fill : ndarray of shape (n_dates,)
        Share of the wanted buys that was carried out: below 1.0 only where the cash, or with
        leverage the limit on gross exposure, fell short: a position could not be sold, or a sale
        was rounded down to whole lots.
    forced_sales : ndarray of shape (n_dates,) of int
        Positions in delisted stocks turned into cash at their last price.
    initial : float
        Wealth in cash before the first row.

    Notes
    -----
    On every date, to rounding, ``cash + sum(weights) * wealth = wealth`` and the change of
    wealth is yesterday's holdings times today's returns and the interest that yesterday's cash
    earned, less today's costs and carry.
    """

    weights: FloatArray
    trades: FloatArray
    costs: FloatArray
    carry: FloatArray
    interest: FloatArray
    riskless: FloatArray
    gross_returns: FloatArray
    net_returns: FloatArray
    cash: FloatArray
    wealth: FloatArray
    turnover: FloatArray
    blocked: IntArray
    up_limit: IntArray
    down_limit: IntArray
    locked: IntArray
    cut: IntArray
    small: IntArray
    fill: FloatArray
    forced_sales: IntArray
    initial: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    @property
    def invested(self) -> FloatArray:
        """Share of wealth in stocks after each day's trades, shape (n_dates,)."""
        return np.asarray(1.0 - self.cash / self.wealth)

    @property
    def excess_returns(self) -> FloatArray:
        """Net returns less those of cash: what a Sharpe ratio is of, shape (n_dates,)."""
        return np.asarray(self.net_returns - self.riskless)

    def hindrances(self) -> dict[str, int]:
        """Orders stopped or made smaller over all dates, by reason in words; see `REASONS`."""
        return {words: int(getattr(self, name).sum()) for name, words in REASONS.items()}

    def imbalance(self, prices: FloatArray) -> FloatArray:
        """Error of each date, recomputed from the backtest's prices, as a share of wealth.

        The larger error of the two identities in the notes of the class; below 1e-10 in order.
        """
        prices = np.asarray(prices, dtype=np.float64)
        holdings = self.weights * self.wealth[:, None]
        returns = np.zeros_like(holdings)
        np.divide(prices[1:], prices[:-1], out=returns[1:], where=holdings[:-1] != 0.0)
        returns[1:] -= holdings[:-1] != 0.0
        # A delisted stock earns nothing on the day on which its last price is paid out.
        np.nan_to_num(returns, copy=False, nan=0.0)
        before = np.concatenate([[self.initial], self.wealth[:-1]])
        earned = np.concatenate([[0.0], np.sum(holdings[:-1] * returns[1:], axis=1)])
        stock = np.abs(holdings.sum(axis=1) + self.cash - self.wealth)
        flow = np.abs(self.wealth - before - earned - self.interest + self.costs + self.carry)
        return np.asarray(np.maximum(stock, flow) / self.wealth)
