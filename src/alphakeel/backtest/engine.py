"""From target weights and prices to what a portfolio truly earns, day by day.

Day t is its close. Weights decided on row t are traded at the close of row t + lag, at that
close's price, and earn from then on; between rebalances the holdings drift with the prices. The
conventions, with the hand-computed example, are in ``docs/backtest.md``.

A day on which every order is carried out and costs are proportional starts from the weights of
the rebalance before and the returns since, whatever the wealth: so consecutive days of that kind
are solved together, a few passes over a block that fits the processor's cache, and wealth is the
running product of their growth. Each row of a block is computed by itself, in the same order of
operations, so that a result does not depend on the rows that follow.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from alphakeel.backtest.costs import CostModel, ProportionalCost
from alphakeel.backtest.holdings import MAX_SOLVER_STEPS, SOLVER_TOLERANCE, Holdings
from alphakeel.backtest.ledger import Ledger
from alphakeel.backtest.market_rules import Margin, TradingConstraints
from alphakeel.errors import AlphakeelError, ConfigError, DataError
from alphakeel.stats.cross_section import column_sums, row_sums
from alphakeel.stats.performance import check_labels

__all__ = ["CheckedPrices", "check_prices", "run_backtest"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# Weights that come from float32 sum to one within about 1e-7: more than this is a mistake.
SUM_TOLERANCE = 1e-6
# Weights of float64 that were divided by their sum: not scaled again.
ROUNDING = 1e-14
BLOCK = 256

# Rows of a block: with 500 stocks its five arrays stay in a second-level cache.
ROWS_AT_ONCE = 64


def run_backtest(
    target_weights: FloatArray,
    prices: FloatArray | CheckedPrices,
    *,
    tradable: BoolArray | None = None,
    lag: int = 1,
    cost: CostModel | None = None,
    constraints: TradingConstraints | None = None,
    margin: Margin | None = None,
    initial: float = 1.0,
    riskless: FloatArray | None = None,
) -> Ledger:
    """Trade target weights against prices and record every date.

    Parameters
    ----------
    target_weights : ndarray of shape (n_dates, n_assets)
        Long-only weights decided at each close, as fractions of the wealth that is left after
        costs; a row sums to at most 1 and the rest is cash. A row of NaN decides nothing:
        holdings drift.
    prices : ndarray of shape (n_dates, n_assets)
        Accounting closes: total-return prices, NaN before listing and from delisting on. A
        missing price in between is refused; carry the last one over it. For many backtests on
        the same prices, give :func:`check_prices` of them.
    tradable : ndarray of shape (n_dates, n_assets) of bool, optional
        False where a stock could not be traded at that close (suspended): its shares are kept
        and the order is dropped, not retried until the next rebalance. All True by default.
    lag : int, default=1
        Rows between decision and trade. 0 trades at the very close that the decision used.
    cost : CostModel, optional
        Cost of the orders; 10 basis points a side by default.
    constraints : TradingConstraints, optional
        Price limits, lots, volume and same-day sales; none by default.
    margin : Margin, optional
        Leave to borrow cash and stock; long-only without leverage by default.
    initial : float, default=1.0
        Wealth before the first row, all in cash.
    riskless : ndarray of shape (n_dates,), optional
        Return of cash from the row before to each row, a fraction known on the row before: cash
        earns it, and borrowed cash costs it besides the margin's financing rate. The first is 0.
        By default cash earns nothing.

    Returns
    -------
    Ledger
        Weights, trades, costs, returns, cash and wealth by date.

    Raises
    ------
    DataError
        If prices or weights have the wrong shape or impossible values; names row and column. Or
        if they are DataFrames that do not have the same dates and stocks in the same order.
    ConfigError
        If `lag` or `initial` is out of range, or `riskless` is not one return for each row.

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
    >>> run_backtest(weights, prices, cost=ProportionalCost(0.0)).wealth
    array([1.  , 1.  , 1.05])
    """
    if lag != int(lag) or lag < 0:
        raise ConfigError(f"lag is {lag!r}; give a whole number of rows, at least 0")
    if not 0.0 < initial < np.inf:
        raise ConfigError(f"initial wealth is {initial!r}; give a positive amount")
    constraints, margin = constraints or TradingConstraints(), margin or Margin()
    check_labels(target_weights=target_weights, prices=prices, tradable=tradable)
    values, priced = prices if isinstance(prices, CheckedPrices) else check_prices(prices)
    targets, decided = _check_targets(
        np.ascontiguousarray(target_weights, dtype=np.float64), values.shape, margin
    )
    free = _check_tradable(tradable, priced, values.shape)
    constraints.check(values.shape)
    cost = cost or ProportionalCost()
    riskless = None if riskless is None else _check_riskless(riskless, len(values))
    holdings = Holdings(values, cost, constraints, margin, float(initial), riskless)
    plain = isinstance(cost, ProportionalCost) and margin.default and not constraints.binds
    plain = plain and not holdings.earns
    blocks = (
        _BlockRebalancer(holdings, cost.cost_per_side)
        if plain and isinstance(cost, ProportionalCost)
        else None
    )
    _trade(holdings, blocks, targets, decided, free, _exits(priced, targets, int(lag)), int(lag))
    return holdings.ledger()


def _trade(
    holdings: Holdings,
    blocks: _BlockRebalancer | None,
    targets: FloatArray,
    decided: BoolArray,
    free: BoolArray | None,
    exits: dict[int, IntArray],
    lag: int,
) -> None:
    """Walk through the rows on which something happens, in blocks where nothing hinders."""
    n_dates = len(targets)
    trades_on = np.zeros(n_dates, dtype=np.bool_)
    trades_on[lag:] = decided[: n_dates - lag] if lag < n_dates else False
    events = np.union1d(np.flatnonzero(trades_on), np.fromiter(exits, dtype=np.int64))
    if holdings.margin.carries or holdings.earns:
        events = np.arange(n_dates)
    holdings.begin(events)
    bounds = [*events.tolist(), n_dates]
    alone = np.array([len(events)])  # events that need a day of their own
    if blocks:
        hindered = _hindered(targets, events, trades_on, free, lag)
        alone = np.append(np.flatnonzero(hindered), len(events))
    here = 0
    while here < len(events):
        row = bounds[here]
        stop = int(alone[np.searchsorted(alone, here)]) if blocks else here
        if blocks and stop > here and (free is None or not holdings.now[~free[row]].any()):
            blocks.rebalance_in_blocks(events[here:stop], targets, lag, bounds[stop])
            here = stop
            continue
        holdings.open(row)
        if row in exits:
            holdings.pay_out(row, exits[row])
        if trades_on[row]:
            open_to = None if free is None or free[row].all() else free[row]
            holdings.rebalance(row, targets[row - lag], open_to)
        here += 1
        holdings.close(row, bounds[here])


def _hindered(
    targets: FloatArray,
    events: IntArray,
    trades_on: BoolArray,
    free: BoolArray | None,
    lag: int,
) -> BoolArray:
    """Events without a trade, or with one in a stock that cannot be traded.

    Holdings are taken to be the targets of the event before, which is so in a block.
    """
    hindered = ~trades_on[events]
    trades = events[trades_on[events]]
    if free is None or not len(trades):
        return hindered
    stopped = np.empty(len(trades), dtype=np.bool_)
    before = np.zeros((1, targets.shape[1]), dtype=np.bool_)
    for start in range(0, len(trades), BLOCK):
        rows = trades[start : start + BLOCK]
        wanted = targets[rows - lag] != 0.0
        touched = np.concatenate([before, wanted[:-1]])
        before = wanted[-1:]
        touched |= wanted
        touched &= ~free[rows]
        stopped[start : start + BLOCK] = touched.any(axis=1)
    hindered[trades_on[events]] = stopped
    return hindered


class CheckedPrices(NamedTuple):
    """Finite values for every cell, and where a true price stands (None: everywhere)."""

    values: FloatArray
    priced: BoolArray | None


def check_prices(prices: FloatArray) -> CheckedPrices:
    """Prices as every backtest on them needs them, refused as by :func:`run_backtest`."""
    prices = np.ascontiguousarray(prices, dtype=np.float64)
    if prices.ndim != 2 or prices.shape[0] < 1 or prices.shape[1] < 1:
        raise DataError(f"prices have shape {prices.shape}; give (n_dates, n_assets)")
    if prices.min() > 0.0 and prices.max() < np.inf:
        return CheckedPrices(prices, None)
    priced = prices > 0.0
    if np.fmax.reduce(prices, axis=None) == np.inf:
        row, column = np.argwhere(np.isposinf(prices))[0]
        raise DataError(f"prices[{row}, {column}] is infinite; mark a missing price with NaN")
    wrong = np.fmin.reduce(prices, axis=None) <= 0.0
    if wrong:
        row, column = np.argwhere(prices <= 0.0)[0]
        raise DataError(
            f"prices[{row}, {column}] is {prices[row, column]}; prices are positive, "
            "mark a missing one with NaN"
        )
    values = prices.copy()
    for column in np.flatnonzero(~priced.all(axis=0)).tolist():
        values[:, column] = _fill_ends(prices[:, column], priced[:, column], column)
    return CheckedPrices(values, priced)


def _fill_ends(prices: FloatArray, priced: BoolArray, column: int) -> FloatArray:
    """One stock's prices with a finite number before the first and after the last."""
    if not priced.any():
        return np.ones_like(prices)
    first, last = int(priced.argmax()), len(prices) - 1 - int(priced[::-1].argmax())
    if not priced[first : last + 1].all():
        row = first + int((~priced[first:]).argmax())
        raise DataError(
            f"prices[{row}, {column}] is missing between two prices of that stock; carry the "
            "last close over the gap and mark the days as not tradable"
        )
    # Before listing no shares are held, so any number does; after delisting the last price counts.
    filled = prices.copy()
    filled[:first], filled[last + 1 :] = 1.0, prices[last]
    return filled


def _check_targets(
    weights: FloatArray, shape: tuple[int, ...], margin: Margin
) -> tuple[FloatArray, BoolArray]:
    """Weights within the margin, and the rows on which something was decided."""
    if weights.shape != shape:
        raise DataError(f"target weights have shape {weights.shape} but prices have {shape}")
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, and refused below
        total = row_sums(weights)
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
    negative = bool(np.fmin.reduce(weights, axis=None) < 0.0)
    if negative and not margin.short:
        row, column = np.argwhere(weights < 0.0)[0]
        raise DataError(
            f"target_weights[{row}, {column}] is {weights[row, column]}; the backtest is long-only"
        )
    gross, most = row_sums(np.abs(weights)) if negative else total, margin.max_gross
    over = decided & ~(gross <= most + SUM_TOLERANCE)
    if over.any():
        row = int(over.argmax())
        raise DataError(
            f"target_weights[{row}] sum to {gross[row]}; "
            + (
                "a row sums to at most 1 (no leverage)"
                if most == 1.0
                else f"their sizes sum to at most max_gross, which is {most}"
            )
        )
    above = np.flatnonzero(decided & (gross > most * (1.0 + ROUNDING)))
    if above.size:
        weights = weights.copy()
        weights[above] *= most / gross[above, None]
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


def _check_riskless(riskless: FloatArray, n_dates: int) -> FloatArray:
    """A copy of the returns of cash, which is nothing on the first row."""
    values = np.array(riskless, dtype=np.float64)
    if values.shape != (n_dates,) or not np.isfinite(values).all() or (values <= -1.0).any():
        raise ConfigError(
            f"riskless has shape {values.shape}; give a return above -1 for each of the "
            f"{n_dates} rows"
        )
    if values[0] != 0.0:
        raise ConfigError(f"riskless[0] is {values[0]}; cash earns nothing before the first row")
    return values


def _exits(priced: BoolArray | None, targets: FloatArray, lag: int) -> dict[int, IntArray]:
    """Columns whose price ended the row before, by row; of stocks that were wanted by then."""
    if priced is None:
        return {}
    rows, columns = np.nonzero(priced[:-1] & ~priced[1:])
    asked = np.nan_to_num(targets[:, columns]) != 0.0
    held = asked.any(axis=0) & (asked.argmax(axis=0) + lag <= rows)
    rows, columns = rows[held], columns[held]
    return {int(row) + 1: columns[rows == row] for row in np.unique(rows)}


class _BlockRebalancer:
    """Trades holdings to the targets of many rows; `rate` is the cost of a side, a fraction."""

    def __init__(self, holdings: Holdings, rate: float) -> None:
        self.holdings, self.rate = holdings, rate
        n_assets = holdings.values.shape[1]
        self.size = ROWS_AT_ONCE  # whatever the number of stocks: rounding depends on it
        # Stocks first: their sums are then over the first axis, many rows at a time.
        self.buffers = np.empty((4, n_assets, self.size))

    def rebalance_in_blocks(
        self, rows: IntArray, targets: FloatArray, lag: int, until: int
    ) -> None:
        """Rebalance on all `rows` to the long-only targets decided `lag` rows before.

        No order of these rows is stopped. After the last of them the shares drift until the row of
        the next event, `until`.
        """
        for start in range(0, len(rows), self.size):
            block = rows[start : start + self.size]
            end = until if start + self.size >= len(rows) else int(rows[start + self.size])
            self._block(block, _rows_of(targets, block - lag), end)

    def _block(self, rows: IntArray, target: FloatArray, until: int) -> None:
        holdings, n = self.holdings, len(rows)
        price = _rows_of(holdings.values, rows)
        held, order, size, wanted = (buffer[:, :n] for buffer in self.buffers)
        initial = holdings.wealth_path[rows[0] - 1] if rows[0] else holdings.initial

        # Everything as a share of the wealth after the rebalance before.
        wanted[:] = target.T
        np.multiply(holdings.now, price[0] / initial, out=held[:, 0])
        held[:, 1:] = (price[1:] / price[:-1]).T
        held[:, 1:] *= wanted[:, :-1]
        invested = column_sums(wanted)
        wealth = column_sums(held)
        wealth[0] += holdings.cash / initial
        idle = np.maximum(1.0 - invested, 0.0)
        wealth[1:] += idle[:-1]
        growth, fee = self._solve(wanted, held, wealth, order, size, int(rows[0]))

        after = initial * np.multiply.accumulate(growth)
        before = np.concatenate([[initial], after[:-1]])
        where = _index(rows)
        holdings.weights[where] = target
        if isinstance(where, slice):
            np.multiply(order.T, before[:, None], out=holdings.trades[where])
        else:
            holdings.trades[where] = order.T * before[:, None]
        holdings.wealth_path[where] = after
        holdings.cash_path[where] = cash = after * idle
        holdings.costs[where] = fee * before
        np.abs(order, out=size)
        holdings.turnover[where] = column_sums(size) / wealth

        gaps = np.append(rows[1:], until) - rows - 1
        if gaps.any():
            self._drift(rows, gaps, target, price, after, cash)
        np.divide(target[-1] * after[-1], price[-1], out=holdings.now)
        holdings.cash = float(cash[-1])

    def _solve(
        self,
        target: FloatArray,
        held: FloatArray,
        wealth: FloatArray,
        order: FloatArray,
        size: FloatArray,
        row: int,
    ) -> tuple[FloatArray, FloatArray]:
        """Root x of x + rate sum|target x - held| = wealth on every row, and the cost.

        Arrays of (n_assets, n_rows).

        The secant of :meth:`Holdings._solve`, on all rows; a row that has settled stays as it is.
        """
        rate = self.rate
        x, last_x, last_fee = wealth.copy(), np.full(len(wealth), np.inf), np.zeros(len(wealth))
        going = np.ones(len(wealth), dtype=np.bool_)
        for _ in range(MAX_SOLVER_STEPS):
            np.multiply(target, x, out=order)
            order -= held
            np.abs(order, out=size)
            fee = rate * column_sums(size)
            gap = x + fee - wealth
            going &= np.abs(gap) > SOLVER_TOLERANCE * wealth
            if not going.any():
                return x, fee
            step, rise = x - last_x, fee - last_fee
            slope = 1.0 + np.divide(rise, step, out=np.zeros_like(x), where=going)
            last_x, last_fee = np.where(going, x, last_x), np.where(going, fee, last_fee)
            x = np.where(going, x - gap / slope, x)
        raise AlphakeelError(f"the costs of the orders from row {row} on do not settle")

    def _drift(
        self,
        rows: IntArray,
        gaps: IntArray,
        target: FloatArray,
        price: FloatArray,
        wealth: FloatArray,
        cash: FloatArray,
    ) -> None:
        """The days between the rebalances of a block, one block at a time."""
        shares = target / price
        shares *= wealth[:, None]
        source = np.repeat(np.arange(len(rows)), gaps)
        first = np.cumsum(gaps) - gaps
        quiet = rows[source] + 1 + np.arange(len(source)) - first[source]
        for start in range(0, len(quiet), self.size):
            part = slice(start, start + self.size)
            self.holdings.drift(quiet[part], shares[source[part]], cash[source[part]])


def _index(rows: IntArray) -> slice | IntArray:
    """Rows as a slice where they are consecutive: a view, not a copy."""
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first == len(rows) - 1 else rows


def _rows_of(values: FloatArray, rows: IntArray) -> FloatArray:
    return values[_index(rows)]
