"""From target weights and prices to what a portfolio truly earns, day by day.

Day t is its close. Weights decided on row t are traded at the close of row t + lag, at that
close's price, and earn from then on; between rebalances the holdings drift with the prices. The
conventions, with the hand-computed example, are in ``docs/backtest.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from alphakeel.errors import AlphakeelError, ConfigError, DataError
from alphakeel.portfolio.costs import CostModel, ProportionalCost

__all__ = ["Ledger", "backtest"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# Weights that come from float32 sum to one within about 1e-7: more than this is a mistake.
SUM_TOLERANCE = 1e-6
# Relative to wealth: about 50 roundings of a float64, far below the 1e-10 that the books allow.
SOLVER_TOLERANCE = 1e-14
BLOCKED_TOLERANCE = 1e-12
MAX_SOLVER_STEPS = 50


@dataclass(frozen=True, slots=True, eq=False)
class Ledger:
    """The books of one backtest; every array is read-only, row t is the close of day t.

    Attributes
    ----------
    weights : ndarray of shape (n_dates, n_assets)
        Share of wealth in each stock after the day's trades; the rest is cash.
    trades : ndarray of shape (n_dates, n_assets)
        Signed orders carried out, in currency: positive buys, negative sells.
    costs : ndarray of shape (n_dates,)
        Trading costs paid, in currency.
    gross_returns, net_returns : ndarray of shape (n_dates,)
        Simple returns of the day before and after that day's costs, as fractions. Row 0 is
        measured from `initial`, so it holds only costs.
    cash, wealth : ndarray of shape (n_dates,)
        Cash, and cash plus holdings, after trades and costs, in currency.
    turnover : ndarray of shape (n_dates,)
        Value bought plus value sold over wealth before trading: 2.0 replaces a whole portfolio.
    blocked : ndarray of shape (n_dates,) of int
        Orders that could not be carried out: the stock was suspended or had no price.
    fill : ndarray of shape (n_dates,)
        Share of the wanted buys that was carried out: below 1.0 only where a position that
        could not be sold left too little cash.
    forced_sales : ndarray of shape (n_dates,) of int
        Positions in delisted stocks turned into cash at their last price.
    initial : float
        Wealth in cash before the first row.

    Notes
    -----
    On every date, to rounding, ``cash + sum(weights) * wealth = wealth`` and the change of
    wealth is yesterday's holdings times today's returns, less today's costs.
    """

    weights: FloatArray
    trades: FloatArray
    costs: FloatArray
    gross_returns: FloatArray
    net_returns: FloatArray
    cash: FloatArray
    wealth: FloatArray
    turnover: FloatArray
    blocked: IntArray
    fill: FloatArray
    forced_sales: IntArray
    initial: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    def imbalance(self, prices: FloatArray) -> FloatArray:
        """Error of the books on each date, recomputed from the prices, as a share of wealth.

        Parameters
        ----------
        prices : ndarray of shape (n_dates, n_assets)
            The prices of the backtest.

        Returns
        -------
        ndarray of shape (n_dates,)
            The larger error of the two identities in the notes above; below 1e-10 in order.
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
        flow = np.abs(self.wealth - before - earned + self.costs)
        return np.asarray(np.maximum(stock, flow) / self.wealth)


def backtest(
    target_weights: FloatArray,
    prices: FloatArray,
    *,
    tradable: BoolArray | None = None,
    lag: int = 1,
    cost: CostModel | None = None,
    initial: float = 1.0,
) -> Ledger:
    """Trade target weights against prices and keep the books.

    Parameters
    ----------
    target_weights : ndarray of shape (n_dates, n_assets)
        Long-only weights decided at each close, as fractions of the wealth that is left after
        costs; a row sums to at most 1 and the rest is cash (earning nothing). A row of NaN
        decides nothing: holdings drift.
    prices : ndarray of shape (n_dates, n_assets)
        Accounting closes: total-return prices, NaN before listing and from delisting on. A
        missing price in between is refused; carry the last one over it.
    tradable : ndarray of shape (n_dates, n_assets) of bool, optional
        False where a stock could not be traded at that close (suspended): its shares are kept
        and the order is dropped, not retried until the next rebalance. All True by default.
    lag : int, default=1
        Rows between decision and trade. 0 trades at the very close that the decision used.
    cost : CostModel, optional
        Cost of the orders; 10 basis points a side by default.
    initial : float, default=1.0
        Wealth before the first row, all in cash.

    Returns
    -------
    Ledger
        Weights, trades, costs, returns, cash and wealth by date.

    Raises
    ------
    DataError
        If prices or weights have the wrong shape or impossible values; names row and column.
    ConfigError
        If `lag` or `initial` is out of range.

    Notes
    -----
    Orders of a date solve ``x + C(w x - h) = W``: from wealth `W` in holdings `h` and cash, the
    orders that leave exactly the weights `w` of the wealth `x` that remains after their own
    cost `C`. So costs never push cash below zero. If a position that cannot be sold leaves too
    little cash, sells are carried out in full and all buys are scaled by one factor (`fill`).
    A stock whose price ends is turned into cash at its last price on the first date without
    one, at the cost of an ordinary sale.

    Examples
    --------
    >>> prices = np.array([[10.0, 5.0], [10.0, 5.0], [11.0, 5.0]])
    >>> weights = np.array([[0.5, 0.5], [np.nan, np.nan], [np.nan, np.nan]])
    >>> backtest(weights, prices, cost=ProportionalCost(0.0)).wealth
    array([1.  , 1.  , 1.05])
    """
    if lag != int(lag) or lag < 0:
        raise ConfigError(f"lag is {lag!r}; give a whole number of rows, at least 0")
    if not 0.0 < initial < np.inf:
        raise ConfigError(f"initial wealth is {initial!r}; give a positive amount")
    values, priced = _check_prices(np.asarray(prices, dtype=np.float64))
    targets, decided = _check_targets(np.asarray(target_weights, dtype=np.float64), values.shape)
    free = _check_tradable(tradable, priced, values.shape)
    exits = _exits(priced)

    book = _Book(values, cost or ProportionalCost(), float(initial))
    trade_rows = np.flatnonzero(decided) + int(lag)
    trade_rows = trade_rows[trade_rows < len(values)]
    trades_on = np.zeros(len(values), dtype=np.bool_)
    trades_on[trade_rows] = True
    whole = np.ones(len(values), dtype=np.bool_) if free is None else np.asarray(free.all(axis=1))
    events = np.union1d(trade_rows, np.fromiter(exits, dtype=np.intp, count=len(exits)))
    for row in events.tolist():
        book.open(row)
        if row in exits:
            book.pay_out(row, exits[row])
        if trades_on[row]:
            if free is None or whole[row]:
                book.rebalance(row, targets[row - lag])
            else:
                book.rebalance_around(row, targets[row - lag], free[row])
        book.close(row)
    return book.ledger(events)


class _Book:
    """Holdings, cash and buffers of one run; a day without suspensions allocates no arrays."""

    def __init__(self, values: FloatArray, cost: CostModel, initial: float) -> None:
        n_dates, n_assets = values.shape
        self.values, self.charge, self.initial = values, cost.charge, initial
        self.cash = self.wealth = initial
        self.shares = np.zeros((n_dates, n_assets))
        self.trades = np.zeros((n_dates, n_assets))
        self.costs, self.cash_path = np.zeros(n_dates), np.full(n_dates, initial)
        self.turnover, self.fill = np.zeros(n_dates), np.ones(n_dates)
        self.blocked = np.zeros(n_dates, dtype=np.int64)
        self.forced_sales = np.zeros(n_dates, dtype=np.int64)
        self.ones = np.ones(n_assets)
        self.now = np.zeros(n_assets)  # shares, before and then after the date's trades
        self.held = np.zeros(n_assets)  # value of the shares before trading, currency
        self.wanted = np.zeros(n_assets)  # value after trading
        self.paid = np.zeros(n_assets)  # costs by stock
        self.price, self.order = self.values[0], self.trades[0]

    def open(self, row: int) -> None:
        """Value the holdings at the day's close, before any trade."""
        self.price, self.order = self.values[row], self.trades[row]
        np.multiply(self.now, self.price, out=self.held)
        self.wealth = float(self.held.dot(self.ones)) + self.cash

    def close(self, row: int) -> None:
        """Write down shares, cash and turnover, and carry the shares to the next event."""
        self.shares[row] = self.now
        self.cash_path[row] = self.cash
        np.abs(self.order, out=self.paid)
        self.turnover[row] = float(self.paid.dot(self.ones)) / self.wealth

    def pay_out(self, row: int, columns: IntArray) -> None:
        """Turn delisted positions into cash at their last price, less the cost of a sale."""
        columns = columns[self.held[columns] > 0.0]
        if columns.size:
            self.order[columns] = -self.held[columns]
            fee = float(self.charge(self.order, row, out=self.paid).sum())
            self.cash += float(self.held[columns].sum()) - fee
            self.costs[row] = fee
            self.now[columns] = self.held[columns] = 0.0
            self.forced_sales[row] = columns.size

    def rebalance(self, row: int, target: FloatArray) -> None:
        """Trade to the target weights on a date when every stock can be traded."""
        after, fee = self._wealth_after(target, self.wealth, row)
        self.cash = after - float(self.wanted.dot(self.ones))
        self.costs[row] = fee
        np.divide(self.wanted, self.price, out=self.now)

    def rebalance_around(self, row: int, target: FloatArray, free: BoolArray) -> None:
        """Trade to the target weights around stocks whose shares have to stay."""
        # What was paid out on the same date has no price, so it is among the fixed columns.
        fixed = np.flatnonzero(~free)
        sold, kept, stuck = self.order[fixed], self.now[fixed], self.held[fixed]
        wealth = self.wealth - self.costs[row]
        self.held[fixed] = 0.0
        after, fee = self._wealth_after(np.where(free, target, 0.0), wealth, row)
        miss = np.abs(target[fixed] * after - stuck) > BLOCKED_TOLERANCE * wealth
        self.blocked[row] = np.count_nonzero(miss)
        cash = after - float(stuck.sum()) - float(self.wanted.dot(self.ones))
        if cash < 0.0:
            fee = self._scale_buys(row)
            cash = self.cash - float(self.order.dot(self.ones)) - fee
        self.cash = cash
        self.costs[row] += fee
        np.divide(self.wanted, self.price, out=self.now)
        self.now[fixed] = kept
        self.order[fixed] = sold

    def _wealth_after(self, target: FloatArray, wealth: float, row: int) -> tuple[float, float]:
        """Wealth `x` left after costs, the root of x + C(target x - held) = wealth, and C.

        Costs are linear between kinks, so a secant step is exact but for the few orders that
        change sign on the way. Leaves orders and holdings in the buffers.
        """
        charge, ones, paid = self.charge, self.ones, self.paid
        wanted, held, order = self.wanted, self.held, self.order
        x, last_x, last_fee = wealth, np.inf, 0.0
        for _ in range(MAX_SOLVER_STEPS):
            np.multiply(target, x, out=wanted)
            np.subtract(wanted, held, out=order)
            fee = float(charge(order, row, out=paid).dot(ones))
            gap = x + fee - wealth
            if abs(gap) <= SOLVER_TOLERANCE * wealth:
                return x, fee
            slope = 1.0 + (fee - last_fee) / (x - last_x)
            last_x, last_fee = x, fee
            x -= gap / slope
        raise AlphakeelError(
            f"the costs of the orders on row {row} do not settle: the cost of an order has to "
            "grow steadily and by less than its size; check the cost model"
        )

    def _scale_buys(self, row: int) -> float:
        """Carry the sells out in full and as large a share of the buys as the cash pays for."""
        sells, buys = np.minimum(self.order, 0.0), np.maximum(self.order, 0.0)
        available = self.cash - float(sells.sum()) - float(self.charge(sells, row).sum())
        bought = float(buys.sum())
        share = 1.0
        for _ in range(MAX_SOLVER_STEPS):
            needed = share * bought + float(self.charge(share * buys, row).sum())
            if needed <= available * (1.0 + SOLVER_TOLERANCE):
                break
            share *= available / needed
        else:
            share = 0.0
        self.fill[row] = share
        np.add(sells, share * buys, out=self.order)
        np.add(self.held, self.order, out=self.wanted)
        return float(self.charge(self.order, row, out=self.paid).sum())

    def ledger(self, events: IntArray) -> Ledger:
        """Fill the days between events and derive weights and returns for all dates at once."""
        n_dates = len(self.shares)
        latest = np.searchsorted(events, np.arange(n_dates), side="right") - 1
        quiet = np.flatnonzero((latest >= 0) & ~np.isin(np.arange(n_dates), events))
        source = events[latest[quiet]]
        self.shares[quiet] = self.shares[source]
        self.cash_path[quiet] = self.cash_path[source]
        holdings = np.multiply(self.shares, self.values, out=self.shares)
        wealth = holdings.sum(axis=1) + self.cash_path
        before = np.concatenate([[self.initial], wealth[:-1]])
        return Ledger(
            weights=np.divide(holdings, wealth[:, None], out=holdings),
            trades=self.trades,
            costs=self.costs,
            gross_returns=(wealth + self.costs) / before - 1.0,
            net_returns=wealth / before - 1.0,
            cash=self.cash_path,
            wealth=wealth,
            turnover=self.turnover,
            blocked=self.blocked,
            fill=self.fill,
            forced_sales=self.forced_sales,
            initial=self.initial,
        )


def _check_prices(prices: FloatArray) -> tuple[FloatArray, BoolArray | None]:
    """Finite values for every cell, and where a true price stands (None: everywhere)."""
    if prices.ndim != 2 or prices.shape[0] < 1 or prices.shape[1] < 1:
        raise DataError(f"prices have shape {prices.shape}; give (n_dates, n_assets)")
    priced = prices > 0.0
    if np.max(prices, initial=0.0, where=priced) == np.inf:
        row, column = np.argwhere(np.isposinf(prices))[0]
        raise DataError(f"prices[{row}, {column}] is infinite; mark a missing price with NaN")
    if priced.all():
        return prices, None
    wrong = ~priced & ~np.isnan(prices)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise DataError(
            f"prices[{row}, {column}] is {prices[row, column]}; prices are positive, "
            "mark a missing one with NaN"
        )
    n_dates = len(prices)
    first = priced.argmax(axis=0)
    last = n_dates - 1 - priced[::-1].argmax(axis=0)
    count = priced.sum(axis=0)
    holes = np.flatnonzero((count > 0) & (count != last - first + 1))
    if holes.size:
        column = holes[0]
        row = first[column] + int((~priced[first[column] :, column]).argmax())
        raise DataError(
            f"prices[{row}, {column}] is missing between two prices of that stock; carry the "
            "last close over the gap and mark the days as not tradable"
        )
    # Before listing no shares are held, so any number does; after delisting the last price counts.
    after = np.arange(n_dates)[:, None] > last
    final = prices[last, np.arange(prices.shape[1])]
    return np.where(priced, prices, np.where(after & (count > 0), final, 1.0)), priced


def _check_targets(weights: FloatArray, shape: tuple[int, ...]) -> tuple[FloatArray, BoolArray]:
    """Weights whose rows sum to at most 1, and the rows on which something was decided."""
    if weights.shape != shape:
        raise DataError(f"target weights have shape {weights.shape} but prices have {shape}")
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, and refused below
        total = weights.sum(axis=1)
    decided = ~np.isnan(total)
    if not decided.all():
        partial = ~decided & ~np.isnan(weights).all(axis=1)
        if partial.any():
            row = int(partial.argmax())
            column = int(np.isfinite(weights[row]).argmin())
            raise DataError(
                f"target_weights[{row}, {column}] is {weights[row, column]} in a row with "
                "weights; give 0.0 for a stock that is not wanted, or a whole row of NaN for "
                "no rebalance"
            )
    chosen = weights if decided.all() else weights[decided]
    if chosen.size and chosen.min() < 0.0:
        row, column = np.argwhere(weights < 0.0)[0]
        raise DataError(
            f"target_weights[{row}, {column}] is {weights[row, column]}; the backtest is long-only"
        )
    over = decided & (total > 1.0 + SUM_TOLERANCE)
    if over.any():
        row = int(over.argmax())
        raise DataError(
            f"target_weights[{row}] sum to {total[row]}; a row sums to at most 1 (no leverage)"
        )
    above = np.flatnonzero(decided & (total > 1.0))
    if above.size:
        weights = weights.copy()
        weights[above] /= total[above, None]
    return weights, decided


def _check_tradable(
    tradable: BoolArray | None, priced: BoolArray | None, shape: tuple[int, ...]
) -> BoolArray | None:
    """Where an order can be carried out; None means everywhere."""
    if tradable is None:
        return priced
    tradable = np.asarray(tradable)
    if tradable.shape != shape or tradable.dtype != np.bool_:
        raise DataError(
            f"tradable has shape {tradable.shape} and type {tradable.dtype}; give bool of {shape}"
        )
    return tradable if priced is None else tradable & priced


def _exits(priced: BoolArray | None) -> dict[int, IntArray]:
    """Columns whose price ended the row before, by row."""
    if priced is None:
        return {}
    rows, columns = np.nonzero(priced[:-1] & ~priced[1:])
    return {int(row) + 1: columns[rows == row] for row in np.unique(rows)}
