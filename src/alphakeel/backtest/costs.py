"""What trading costs: one call prices the orders of one date.

:meth:`CostModel.charge` prices the orders of one date, in currency, one cost a stock. It is
handed the row of the date, so that a dated schedule (commission, stamp tax) or one that depends
on that day's volume (impact) looks its own numbers up by row.

The schedules say what trading has cost in China and in the United States. Rates are fractions of
the traded value. A schedule is a tuple of (first day, rate), in order; before its first day its
first rate holds. Where a rate is no law but a habit of the market, its name begins with
``ASSUMED`` and the comment says what it rests on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError, DataError

__all__ = [
    "ASSUMED_CN_COMMISSION",
    "ASSUMED_CN_SLIPPAGE",
    "ASSUMED_US_COMMISSION",
    "ASSUMED_US_SLIPPAGE",
    "CN_STAMP_TAX_BUY",
    "CN_STAMP_TAX_SELL",
    "CN_TRANSFER_FEE",
    "CostModel",
    "MarketCost",
    "ProportionalCost",
    "US_SECTION_31",
    "rates_on",
    "square_root_impact",
]

FloatArray = npt.NDArray[np.float64]
Dates = npt.NDArray[np.datetime64]
Schedule = tuple[tuple[str, float], ...]

# Stamp tax on A shares. Ministry of Finance and State Taxation Administration: both sides until
# 2008-09-18, the seller alone from 2008-09-19 (announced 2008-09-18), halved on 2023-08-28
# (announcement 2023 No. 39 of the two offices). Dates up to 2008 rest on one secondary list.
_CN_BOTH_SIDES: Schedule = (
    ("1992-06-12", 0.003),
    ("1997-05-12", 0.005),
    ("1998-06-12", 0.004),
    ("2001-11-16", 0.002),
    ("2005-01-24", 0.001),
    ("2007-05-30", 0.003),
    ("2008-04-24", 0.001),
)
CN_STAMP_TAX_SELL: Schedule = (*_CN_BOTH_SIDES, ("2023-08-28", 0.0005))
CN_STAMP_TAX_BUY: Schedule = (*_CN_BOTH_SIDES, ("2008-09-19", 0.0))

# Transfer fee, both sides, China Securities Depository and Clearing: by value on both exchanges
# from 2015-08-01, halved on 2022-04-29. Before, Shanghai charged by face value and Shenzhen
# nothing of its own; the first rate stands in for both.
CN_TRANSFER_FEE: Schedule = (("2015-08-01", 0.000_02), ("2022-04-29", 0.000_01))

# Commission: at most 0.3 % from 2002-05-01 with a minimum of CNY 5 (notice of the CSRC and two
# other offices, 2002); 0.35 % fixed before. Paid rates fell well below the cap: the steps are
# round numbers for an institution, the last one from when one person could hold accounts with
# several brokers (2015-04-13).
ASSUMED_CN_COMMISSION: Schedule = (
    ("1992-01-01", 0.0035),
    ("2002-05-01", 0.0015),
    ("2008-01-01", 0.0008),
    ("2015-04-13", 0.0003),
)
# Half the spread and the slip to the close: one tick is CNY 0.01, about 0.1 % of a price of 10.
ASSUMED_CN_SLIPPAGE: Schedule = (("1992-01-01", 0.001),)

# SEC fee on sales, Section 31 of the Securities Exchange Act of 1934: dollars a million, from the
# SEC's fee rate advisories and the notices of NASD and FINRA that pass them on. Where only the
# appropriation is dated, the day is 30 days after it, as the Act then said.
US_SECTION_31: Schedule = tuple(
    (day, dollars * 1e-6)
    for day, dollars in (
        ("1996-01-01", 33.30),
        ("2001-12-28", 15.00),
        ("2002-04-01", 30.10),
        ("2003-03-22", 25.20),
        ("2003-04-01", 46.80),
        ("2004-02-22", 39.00),
        ("2004-04-01", 23.40),
        ("2005-01-07", 32.90),
        ("2005-04-01", 41.80),
        ("2005-12-22", 30.70),
        ("2007-03-17", 15.30),
        ("2008-01-25", 11.00),
        ("2008-04-01", 5.60),
        ("2009-04-10", 25.70),
        ("2010-01-15", 12.70),
        ("2010-04-01", 16.90),
        ("2011-01-21", 19.20),
        ("2012-02-21", 18.00),
        ("2012-04-01", 22.40),
        ("2013-05-25", 17.40),
        ("2014-03-18", 22.10),
        ("2015-02-14", 18.40),
        ("2016-02-16", 21.80),
        ("2017-07-04", 23.10),
        ("2018-05-22", 13.00),
        ("2019-04-16", 20.70),
        ("2020-02-18", 22.10),
        ("2021-02-25", 5.10),
        ("2022-05-14", 22.90),
        ("2023-02-27", 8.00),
        ("2024-05-22", 27.80),
        ("2025-05-14", 0.00),
    )
)
# Commission of an institution, as cents a share on a share of some 40 dollars: 5 cents, then 2,
# then half a cent by computer; none at the retail brokers from October 2019 on.
ASSUMED_US_COMMISSION: Schedule = (
    ("1996-01-01", 0.001_2),
    ("2001-04-09", 0.000_5),
    ("2007-07-09", 0.000_15),
    ("2019-10-07", 0.0),
)
# Half the quoted spread and the slip of large companies: quotes in sixteenths of a dollar until
# 2001-04-09 (decimal prices on all stocks of NYSE and Nasdaq), then cents; narrower once the
# trade-through rule of Regulation NMS was in force (2007-07-09).
ASSUMED_US_SLIPPAGE: Schedule = (
    ("1996-01-01", 0.001),
    ("2001-04-09", 0.000_5),
    ("2007-07-09", 0.000_3),
)


class CostModel(Protocol):
    """The cost of a date's orders.

    The backtest asks several times a date while it sizes the orders, so a cost may depend
    on nothing but the arguments. An order of zero costs zero, and the cost of an order grows
    by less than its size.
    """

    def charge(self, trades: FloatArray, row: int, *, out: FloatArray | None = None) -> FloatArray:
        """Cost of every order of one date in currency, never negative.

        `trades` are signed orders in currency, positive buys, and are not changed; `row` is that of
        the date on the time axis of the backtest. Costs are written to `out` if it is given, so
        that a loop over dates allocates nothing.
        """
        ...


@dataclass(frozen=True, slots=True)
class ProportionalCost:
    """The same share of the traded value for every buy and every sell.

    `cost_per_side` is a fraction in [0, 0.1]: 0.001 is 10 basis points.

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

    An order of value q costs this times q to the power 1.5: as a share of its value,
    ``coefficient * volatility * sqrt(q / ADV)``, with `volatility` a day as a fraction and ADV the
    average `traded_value` a day in currency. The coefficient is empirically about 1 for the peak of
    the impact and about two thirds of it for the average price paid. 0 where volatility or traded
    value is missing or 0: give such stocks a capacity of 0.

    Almgren, Thum, Hauptmann and Li (2005), Direct estimation of equity market impact, Risk 18(7);
    Toth et al. (2011), doi:10.1103/PhysRevX.1.021006.

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


def rates_on(schedule: Schedule, dates: Dates) -> FloatArray:
    """Rate of a schedule on each date, a fraction of the traded value."""
    dates = np.asarray(dates)
    if not np.issubdtype(dates.dtype, np.datetime64) or np.isnat(dates).any():
        raise DataError(f"dates have type {dates.dtype}; give datetime64 without gaps")
    days = np.array([day for day, _ in schedule], dtype="datetime64[D]")
    rates = np.array([rate for _, rate in schedule])
    latest = np.searchsorted(days, dates.astype("datetime64[D]"), side="right") - 1
    return np.asarray(rates[np.maximum(latest, 0)])
