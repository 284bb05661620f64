"""Holdings and cash of one run, and one day's trades within the rules.

Days without any hindrance and with proportional costs are done many at a time by
:mod:`alphakeel.backtest.engine`; all others come here, one by one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alphakeel.backtest.costs import CostModel
from alphakeel.backtest.ledger import REASONS, Ledger
from alphakeel.backtest.market_rules import Margin, TradingConstraints
from alphakeel.errors import AlphakeelError, DataError
from alphakeel.stats.cross_section import row_sums

__all__ = ["Holdings"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# Relative to wealth: about 50 roundings of a float64, far below the 1e-10 of `Ledger.imbalance`.
SOLVER_TOLERANCE = 1e-14
# With lots the orders are rounded by far more than this.
LOT_TOLERANCE = 1e-5
# The cost of cut buys may have kinks; `Ledger.imbalance` allows 1e-10.
FILL_TOLERANCE = 1e-12
# An order smaller than this share of wealth is rounding, and no order at all.
DUST = 1e-12
# So that a float64 just below a whole number of lots is that number.
LOT_SLACK = 1.0 + 1e-12
MAX_SOLVER_STEPS = 120
DAYS_PER_YEAR = 252


class Holdings:
    """Holdings, cash and arrays of one run; the day loop allocates next to nothing."""

    def __init__(
        self,
        values: FloatArray,
        cost: CostModel,
        constraints: TradingConstraints,
        margin: Margin,
        initial: float,
        riskless: FloatArray | None = None,
    ) -> None:
        n_dates, n_assets = values.shape
        self.values, self.charge, self.initial = values, cost.charge, initial
        self.constraints, self.margin = constraints, margin
        self.weights, self.trades = np.empty(values.shape), np.empty(values.shape)
        self.wealth_path, self.cash_path = np.full(n_dates, initial), np.full(n_dates, initial)
        self.costs, self.carry, self.interest, self.turnover = np.zeros((4, n_dates))
        self.earns = riskless is not None
        self.riskless = np.zeros(n_dates) if riskless is None else riskless
        self.fill = np.ones(n_dates)
        self.counts = {name: np.zeros(n_dates, dtype=np.int64) for name in REASONS}
        self.forced_sales = np.zeros(n_dates, dtype=np.int64)

        self.cash = self.wealth = initial  # wealth: before the day's trades
        self.now = np.zeros(n_assets)  # shares, before and then after the day's trades
        self.held = np.zeros(n_assets)  # value of the shares before trading, currency
        self.wanted, self.paid = np.zeros(n_assets), np.zeros(n_assets)
        self.low, self.high = np.zeros(n_assets), np.zeros(n_assets)  # bounds of the orders
        self.price, self.order = values[0], self.trades[0]
        self.fresh, self.today = np.zeros(n_assets), -1  # shares bought on this trading day

    def begin(self, events: IntArray) -> None:
        """Zero what no event writes: weights before the first one, trades between them."""
        self.weights[: events[0] if len(events) else None] = 0.0
        if len(events) < len(self.trades):
            quiet = np.ones(len(self.trades), dtype=np.bool_)
            quiet[events] = False
            self.trades[quiet] = 0.0

    def open(self, row: int) -> None:
        """Pay what the debts cost since the row before and value the holdings at the close."""
        if row and (self.margin.carries or self.earns):
            debt = np.maximum(-self.now * self.price, 0.0)
            fee = float(row_sums(debt * self.margin.borrow_rate)) if self.margin.short else 0.0
            borrowed = max(-self.cash, 0.0)
            fee += borrowed * self.margin.financing_rate
            self.carry[row] = fee / DAYS_PER_YEAR
            if self.earns:
                self.carry[row] += borrowed * self.riskless[row]
                # Proceeds of short sales lie with the lender of the stock.
                free = self.cash - (float(row_sums(debt)) if self.margin.short else 0.0)
                self.interest[row] = max(free, 0.0) * self.riskless[row]
                self.cash += self.interest[row]
            self.cash -= self.carry[row]
        self.price, self.order = self.values[row], self.trades[row]
        self.order.fill(0.0)
        np.multiply(self.now, self.price, out=self.held)
        self.wealth = float(row_sums(self.held)) + self.cash
        if self.wealth <= 0.0 and not self.margin.default:
            raise DataError(
                f"wealth is {self.wealth:.6g} on row {row}: a portfolio with short positions or "
                "leverage has lost all it had; lower max_gross"
            )

    def close(self, row: int, until: int) -> None:
        """Write down the day, and the days up to `until` on which the shares only drift."""
        np.multiply(self.now, self.price, out=self.wanted)
        wealth = float(row_sums(self.wanted)) + self.cash
        np.multiply(self.wanted, 1.0 / wealth, out=self.weights[row])
        self.wealth_path[row], self.cash_path[row] = wealth, self.cash
        np.abs(self.order, out=self.paid)
        self.turnover[row] = float(row_sums(self.paid)) / self.wealth
        if until > row + 1:
            self.drift(slice(row + 1, until), self.now, self.cash)

    def drift(self, rows: slice | IntArray, shares: FloatArray, cash: FloatArray | float) -> None:
        """Write down days without trades, on which these shares and this cash are held."""
        holdings = shares * self.values[rows]
        wealth = row_sums(holdings) + cash
        if wealth.min() <= 0.0 and not self.margin.default:
            raise DataError("a portfolio with short positions or leverage has lost all it had")
        holdings /= wealth[:, None]
        self.weights[rows] = holdings
        self.wealth_path[rows], self.cash_path[rows] = wealth, cash

    def pay_out(self, row: int, columns: IntArray) -> None:
        """Close delisted positions at their last price, at the cost of an ordinary order."""
        columns = columns[self.held[columns] != 0.0]
        if columns.size:
            self.order[columns] = -self.held[columns]
            fee = float(self.charge(self.order, row, out=self.paid).sum())
            self.cash += float(self.held[columns].sum()) - fee
            self.costs[row] = fee
            self.now[columns] = self.held[columns] = 0.0
            self.forced_sales[row] = columns.size

    def rebalance(self, row: int, target: FloatArray, free: BoolArray | None) -> None:
        """Trade to the target weights, as far as suspensions (`free` False) and rules allow."""
        wealth = self.wealth - self.costs[row]
        forced = self.order.copy() if self.forced_sales[row] else None
        hindered = self._bound(row, free, (target != 0.0) | (self.now != 0.0))
        after, fee = self._solve(target, wealth, row, hindered=hindered)
        lots = None if self.constraints.lot_value is None else self.constraints.lot_value[row]
        if not hindered and lots is None:
            self.cash = after - float(row_sums(self.wanted))
            np.divide(self.wanted, self.price, out=self.now)
        else:
            if hindered:
                np.subtract(self.wanted, self.held, out=self.paid)
                self._count(row, self.paid, free, DUST * wealth)
            if lots is not None:
                self._round(lots, row, DUST * wealth)
                fee = float(row_sums(self.charge(self.order, row, out=self.paid)))
            fee = self._fit(row, wealth, fee, lots)
            self.cash -= float(row_sums(self.order)) + fee
            np.add(self.held, self.order, out=self.wanted)
            np.divide(self.wanted, self.price, out=self.now)
        if self.cash < 0.0 and self.margin.default:
            self.cash = 0.0  # a rounding, far below what counts as an imbalance
        if self.constraints.day is not None:
            self.fresh += np.maximum(self.order, 0.0) / self.price
        if forced is not None:
            self.order += forced
        self.costs[row] += fee

    def _bound(self, row: int, free: BoolArray | None, concerned: BoolArray) -> bool:
        """Set the smallest and the largest order of every stock; whether there is any bound.

        Bounds of stocks that are neither held nor wanted are none.
        """
        constraints, low, high = self.constraints, self.low, self.high
        same_day = self._unlock(row)
        up = constraints.at_up_limit is not None and bool(
            (constraints.at_up_limit[row] & concerned).any()
        )
        down = constraints.at_down_limit is not None and bool(
            (constraints.at_down_limit[row] & concerned).any()
        )
        if free is not None and not (~free & concerned).any():
            free = None
        if not (same_day or up or down or free is not None or constraints.capacity is not None):
            return False
        if constraints.capacity is None:
            high.fill(np.inf)
        else:
            np.fmax(constraints.capacity[row], 0.0, out=high)  # NaN: nothing
        np.negative(high, out=low)
        if up and constraints.at_up_limit is not None:
            np.copyto(high, 0.0, where=constraints.at_up_limit[row])
        if down and constraints.at_down_limit is not None:
            np.copyto(low, 0.0, where=constraints.at_down_limit[row])
        if same_day:
            old = -np.maximum(self.now - self.fresh, 0.0) * self.price
            np.maximum(low, old, out=low, where=self.fresh > 0.0)
        if free is not None:
            shut = ~free
            np.copyto(high, 0.0, where=shut)
            np.copyto(low, 0.0, where=shut)
        return True

    def _unlock(self, row: int) -> bool:
        """Forget what was bought on an earlier day; whether anything bought today is held."""
        if self.constraints.day is None:
            return False
        if self.constraints.day[row] != self.today:
            self.today = int(self.constraints.day[row])
            self.fresh.fill(0.0)
        return bool(self.fresh.any())

    def _solve(
        self, target: FloatArray, wealth: float, row: int, *, hindered: bool
    ) -> tuple[float, float]:
        """Wealth `x` left after costs, the root of x + C(target x - held) = wealth, and C.

        Costs are linear between kinks, so a secant step is exact but for the few orders that
        change sign on the way; a step that leaves the bracket of the root is replaced by half of
        the bracket. Leaves orders and holdings in the buffers.
        """
        charge, paid = self.charge, self.paid
        wanted, held, order, low, high = self.wanted, self.held, self.order, self.low, self.high
        tolerance = SOLVER_TOLERANCE if self.constraints.lot_value is None else LOT_TOLERANCE
        x, last_x, last_fee = wealth, np.inf, 0.0
        least, most = 0.0, wealth
        for _ in range(MAX_SOLVER_STEPS):
            np.multiply(target, x, out=wanted)
            np.subtract(wanted, held, out=order)
            if hindered:
                np.minimum(order, high, out=order)
                np.maximum(order, low, out=order)
            fee = float(row_sums(charge(order, row, out=paid)))
            gap = x + fee - wealth
            if abs(gap) <= tolerance * wealth:
                return x, fee
            if x == last_x:  # the bracket has closed around a jump
                break
            slope = 1.0 + (fee - last_fee) / (x - last_x)
            last_x, last_fee = x, fee
            least, most = (least, x) if gap > 0.0 else (x, most)
            x -= gap / slope
            if not least < x < most:
                x = 0.5 * (least + most)
        raise AlphakeelError(
            f"the costs of the orders on row {row} do not settle: the cost of an order has to "
            "grow steadily and by less than its size; check the cost model"
        )

    def _count(self, row: int, asked: FloatArray, free: BoolArray | None, dust: float) -> None:
        """Count the orders that the constraints stop, each under the first reason that does."""
        constraints, counts = self.constraints, self.counts

        def stop(name: str, columns: IntArray, signed: float | None) -> None:
            size = np.abs(asked[columns]) if signed is None else signed * asked[columns]
            counts[name][row] = np.count_nonzero(size > dust)
            asked[columns] = (
                0.0 if signed is None else np.minimum(signed * asked[columns], 0.0) * signed
            )

        if free is not None:
            stop("blocked", np.flatnonzero(~free), None)
        if constraints.at_up_limit is not None:
            stop("up_limit", np.flatnonzero(constraints.at_up_limit[row]), 1.0)
        if constraints.at_down_limit is not None:
            stop("down_limit", np.flatnonzero(constraints.at_down_limit[row]), -1.0)
        if constraints.day is not None and self.fresh.any():
            old = np.maximum(self.now - self.fresh, 0.0) * self.price
            late = np.flatnonzero((self.fresh > 0.0) & (-asked > old + dust))
            stop("locked", late, -1.0)
        if constraints.capacity is not None:
            np.abs(asked, out=asked)
            asked -= dust
            np.fmax(constraints.capacity[row], 0.0, out=self.wanted)
            counts["cut"][row] = np.count_nonzero(asked > self.wanted)

    def _round(self, lots: FloatArray, row: int | None, dust: float = 0.0) -> None:
        """Round the orders towards zero to whole lots; a position given up goes in one piece."""
        order, shares = self.order, self.paid
        asked = np.abs(order) > dust
        whole = np.flatnonzero(asked & (order == -self.held))
        np.divide(order, lots, out=shares)
        shares *= LOT_SLACK
        np.trunc(shares, out=shares)
        shares *= lots
        # A float64 just below a whole number of lots stays as it is: no position is oversold.
        np.copyto(order, shares, where=~(np.abs(shares) > np.abs(order)))
        if np.isnan(order.sum()):  # no lot, no order
            np.nan_to_num(order, copy=False, nan=0.0)
        order[whole] = -self.held[whole]
        if row is not None:
            self.counts["small"][row] = np.count_nonzero(asked) - np.count_nonzero(
                asked & (order != 0.0)
            )

    def _fit(self, row: int, wealth: float, fee: float, lots: FloatArray | None) -> float:
        """Cut what adds to positions to what cash and leverage pay for; the cost of the orders.

        Orders that reduce positions are carried out in full, the others by one common share.
        """
        order, held = self.order, self.held
        spare = self._buying_power(wealth, fee)
        if spare >= -SOLVER_TOLERANCE * wealth:
            return fee
        less = np.minimum(np.maximum(order, np.minimum(-held, 0.0)), np.maximum(-held, 0.0))
        more = order - less
        np.copyto(order, less)
        base = self._buying_power(wealth, float(row_sums(self.charge(order, row, out=self.paid))))
        share, needed = 1.0, base - spare
        for step in range(MAX_SOLVER_STEPS):
            share = share * base / needed if min(base, needed) > 0.0 else 0.0
            if lots is not None and step > 1:  # whole lots come off in steps
                share *= max(1.0 - 1e-4 * 2.0**step, 0.0)
            if step == MAX_SOLVER_STEPS - 1:
                share = 0.0  # which always fits
            np.multiply(more, share, out=order)
            order += less
            if lots is not None:
                self._round(lots, None)
            fee = float(row_sums(self.charge(order, row, out=self.paid)))
            needed = base - self._buying_power(wealth, fee)
            short = needed - base if lots is not None else abs(needed - base)
            if share == 0.0 or short <= FILL_TOLERANCE * wealth:
                break
        self.fill[row] = share
        return fee

    def _buying_power(self, wealth: float, fee: float) -> float:
        """Value that could still be added to positions, after these orders and their cost."""
        np.add(self.held, self.order, out=self.wanted)
        np.abs(self.wanted, out=self.wanted)
        return self.margin.max_gross * (wealth - fee) - float(row_sums(self.wanted))

    def ledger(self) -> Ledger:
        """The finished record."""
        wealth = self.wealth_path
        before = np.concatenate([[self.initial], wealth[:-1]])
        return Ledger(
            weights=self.weights,
            trades=self.trades,
            costs=self.costs,
            carry=self.carry,
            interest=self.interest,
            riskless=self.riskless,
            gross_returns=(wealth + self.costs + self.carry) / before - 1.0,
            net_returns=wealth / before - 1.0,
            cash=self.cash_path,
            wealth=wealth,
            turnover=self.turnover,
            fill=self.fill,
            forced_sales=self.forced_sales,
            initial=self.initial,
            **self.counts,
        )
