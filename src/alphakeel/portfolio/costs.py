"""What trading costs: one call prices the orders of one date.

A cost model answers :meth:`CostModel.charge` for the orders of one date, in currency, one cost
a stock. It is handed the row of the date, so that a dated schedule (commission, stamp tax) or
one that depends on that day's volume (impact) looks its own numbers up by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError

__all__ = ["CostModel", "MarketCost", "ProportionalCost", "square_root_impact"]

FloatArray = npt.NDArray[np.float64]


class CostModel(Protocol):
    """The cost of a date's orders.

    The backtest asks several times a date while it sizes the orders, so an answer may depend
    on nothing but the arguments. An order of zero costs zero, and the cost of an order grows
    by less than its size.
    """

    def charge(self, trades: FloatArray, row: int, *, out: FloatArray | None = None) -> FloatArray:
        """Cost of every order of one date.

        Parameters
        ----------
        trades : ndarray of shape (n_assets,)
            Signed orders in currency: positive buys, negative sells. Not changed.
        row : int
            Row of the date on the time axis of the backtest.
        out : ndarray of shape (n_assets,), optional
            Where to write the answer, so that a loop over dates allocates nothing.

        Returns
        -------
        ndarray of shape (n_assets,)
            Costs in currency, never negative.
        """
        ...


@dataclass(frozen=True, slots=True)
class ProportionalCost:
    """The same share of the traded value for every buy and every sell.

    Parameters
    ----------
    cost_per_side : float, default=0.001
        Cost of one side as a fraction of the traded value (0.001 is 10 basis points), in
        [0, 0.1].

    Raises
    ------
    ConfigError
        If `cost_per_side` is out of range, as when basis points are given for a fraction.

    Examples
    --------
    >>> ProportionalCost(0.001).charge(np.array([100.0, -50.0, 0.0]), row=0)
    array([0.1 , 0.05, 0.  ])
    """

    cost_per_side: float = 0.001

    def __post_init__(self) -> None:
        if not 0.0 <= self.cost_per_side <= 0.1:
            raise ConfigError(
                f"cost rate {self.cost_per_side!r} is outside [0, 0.1]; give a fraction of the "
                "traded value a side (10 basis points are 0.001)"
            )

    def charge(self, trades: FloatArray, row: int, *, out: FloatArray | None = None) -> FloatArray:  # noqa: ARG002
        """`cost_per_side` times the absolute value of every order; see :meth:`CostModel.charge`."""
        costs = np.abs(trades, out=out)
        costs *= self.cost_per_side
        return costs


# Most that impact takes of an order, as a share of its value.
MAX_IMPACT = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class MarketCost:
    """Commission, taxes, slippage and market impact, by date.

    Parameters
    ----------
    commission : ndarray of shape (n_dates,)
        Broker's share of the traded value, both sides, as a fraction.
    buy, sell : ndarray of shape (n_dates,)
        All else that is proportional (tax, exchange fees, half the spread) a side, as a fraction.
    minimum : float, default=0.0
        Least commission of an order, in currency. An order smaller than that costs its value.
    impact : ndarray of shape (n_dates, n_assets), optional
        Impact of an order of one unit of currency, see :func:`square_root_impact`; its cost
        grows with the order to the power 1.5, up to half of the order (`MAX_IMPACT`): the law is
        about orders that a market can take. NaN where unknown: no such order may be given.

    Raises
    ------
    ConfigError
        If a rate is outside [0, 0.1] or `minimum` is negative.

    Examples
    --------
    A minimum of 5 and a tax of 0.1 % on sales:

    >>> rate, none = np.array([0.0003]), np.array([0.0])
    >>> cost = MarketCost(rate, none, np.array([0.001]), minimum=5.0)
    >>> cost.charge(np.array([100_000.0, -1000.0, 0.0, 2.0]), row=0)
    array([30.,  6.,  0.,  2.])
    """

    commission: FloatArray
    buy: FloatArray
    sell: FloatArray
    minimum: float = 0.0
    impact: FloatArray | None = None

    def __post_init__(self) -> None:
        for name in ("commission", "buy", "sell"):
            rates = np.asarray(getattr(self, name))
            if rates.ndim != 1 or not np.all((rates >= 0.0) & (rates <= 0.1)):
                raise ConfigError(
                    f"{name} is not one rate a date in [0, 0.1]; give fractions of the traded value"
                )
        if not 0.0 <= self.minimum < np.inf:
            raise ConfigError(f"minimum is {self.minimum!r}; give an amount of currency")

    def charge(self, trades: FloatArray, row: int, *, out: FloatArray | None = None) -> FloatArray:
        """Cost of every order; see :meth:`CostModel.charge`."""
        size = np.abs(trades)
        if self.minimum:
            costs = np.multiply(size, self.commission[row], out=out)
            np.maximum(costs, self.minimum, out=costs)
            np.minimum(costs, size, out=costs)
            both = 0.5 * (self.buy[row] + self.sell[row])
        else:
            both = 0.5 * (self.buy[row] + self.sell[row]) + self.commission[row]
            costs = np.multiply(size, both, out=out)
            both = 0.0
        more = 0.5 * (self.buy[row] - self.sell[row])  # buys pay it on top, sales less
        if self.impact is None:
            if both:
                size *= both
                costs += size
        else:
            rate = np.sqrt(size)
            rate *= self.impact[row]
            np.minimum(rate, MAX_IMPACT, out=rate)
            if both:
                rate += both
            rate *= size
            costs += rate
        if more:
            costs += np.multiply(trades, more, out=size)
        return costs


def square_root_impact(
    volatility: FloatArray, traded_value: FloatArray, *, coefficient: float = 1.0
) -> FloatArray:
    """Impact of an order of one unit of currency under the square-root law.

    Parameters
    ----------
    volatility : ndarray of shape (n_dates, n_assets)
        Standard deviation of daily returns, as a fraction.
    traded_value : ndarray of shape (n_dates, n_assets)
        Average traded value a day (ADV), in currency.
    coefficient : float, default=1.0
        Cost as a share of ``volatility * sqrt(order / ADV)``; empirically about 1 for the peak
        of the impact and about two thirds of it for the average price paid.

    Returns
    -------
    ndarray of shape (n_dates, n_assets)
        An order of value q costs this times q to the power 1.5. 0 where volatility or traded
        value is missing or 0: give such stocks a capacity of 0.

    References
    ----------
    Almgren, Thum, Hauptmann and Li (2005), Direct estimation of equity market impact, Risk 18(7).
    Toth, Lemperiere, Deremble, de Lataillade, Kockelkoren and Bouchaud (2011), Anomalous price
    impact and the critical nature of liquidity in financial markets, Physical Review X 1, 021006,
    doi:10.1103/PhysRevX.1.021006.

    Examples
    --------
    An order of 1 % of the daily volume in a stock of 2 % a day costs 0.02 * sqrt(0.01) = 0.2 %:

    >>> rate = square_root_impact(np.array([[0.02]]), np.array([[1e8]]))
    >>> float((rate * 1e6**1.5 / 1e6)[0, 0].round(6))
    0.002
    """
    if not 0.0 <= coefficient <= 10.0:
        raise ConfigError(f"impact coefficient is {coefficient!r}; give 0 to 10 (1 is usual)")
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.sqrt(traded_value)
        np.divide(volatility, rate, out=rate)
    rate *= coefficient
    rate[~np.isfinite(rate)] = 0.0
    return np.asarray(rate)
