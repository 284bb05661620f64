"""Many days of plain rebalancing at once: proportional costs, no order stopped.

A day on which every order is carried out and costs are proportional starts from the weights of
the rebalance before and the returns since, whatever the wealth: so the days of a stretch are solved
together, a few passes over a block that fits the processor's cache, and wealth is the running
product of their growth. Each row of a block is computed by itself, in the same order of
operations, so that a result does not depend on the rows that follow.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alphakeel.errors import AlphakeelError
from alphakeel.portfolio.book import MAX_SOLVER_STEPS, SOLVER_TOLERANCE, Book

__all__ = ["Stretch"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Values of one buffer (256 KiB): the five arrays of a block stay in a second-level cache.
BLOCK_VALUES = 32_768


class Stretch:
    """Trades a book to the targets of many rows; `rate` is the cost of a side, a fraction."""

    def __init__(self, book: Book, rate: float) -> None:
        self.book, self.rate = book, rate
        n_assets = book.values.shape[1]
        self.size = max(1, BLOCK_VALUES // n_assets)
        self.buffers = np.empty((3, self.size, n_assets))

    def run(self, rows: IntArray, targets: FloatArray, lag: int, until: int) -> None:
        """Rebalance on all `rows` to the targets decided `lag` rows before.

        Parameters
        ----------
        rows : ndarray of shape (n_rows,) of int
            Increasing; no order of these rows is stopped.
        targets : ndarray of shape (n_dates, n_assets)
            Weights decided, long-only, summing to at most 1.
        lag : int
            Rows between decision and trade.
        until : int
            Row of the next event after the last of `rows`; the shares drift until then.
        """
        for start in range(0, len(rows), self.size):
            block = rows[start : start + self.size]
            end = until if start + self.size >= len(rows) else int(rows[start + self.size])
            self._block(block, _rows_of(targets, block - lag), end)

    def _block(self, rows: IntArray, target: FloatArray, until: int) -> None:
        book, ones, n = self.book, self.book.ones, len(rows)
        price = _rows_of(book.values, rows)
        held, order, size = self.buffers[:, :n]
        initial = book.wealth_path[rows[0] - 1] if rows[0] else book.initial

        # Everything as a share of the wealth after the rebalance before.
        np.multiply(book.now, price[0] / initial, out=held[0])
        np.divide(price[1:], price[:-1], out=held[1:])
        held[1:] *= target[:-1]
        invested = np.vecdot(target, ones)
        wealth = np.vecdot(held, ones)
        wealth[0] += book.cash / initial
        idle = np.maximum(1.0 - invested, 0.0)
        wealth[1:] += idle[:-1]
        growth, fee = self._solve(target, held, wealth, order, size, int(rows[0]))

        after = initial * np.multiply.accumulate(growth)
        before = np.concatenate([[initial], after[:-1]])
        where = _index(rows)
        book.weights[where] = target
        if isinstance(where, slice):
            np.multiply(order, before[:, None], out=book.trades[where])
        else:
            book.trades[where] = order * before[:, None]
        book.wealth_path[where] = after
        book.cash_path[where] = cash = after * idle
        book.costs[where] = fee * before
        np.abs(order, out=size)
        book.turnover[where] = np.vecdot(size, ones) / wealth

        gaps = np.append(rows[1:], until) - rows - 1
        if gaps.any():
            self._drift(rows, gaps, target, price, after, cash)
        np.divide(target[-1] * after[-1], price[-1], out=book.now)
        book.cash = float(cash[-1])

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

        The secant of :meth:`Book._solve`, on all rows; a row that has settled stays as it is.
        """
        ones, rate = self.book.ones, self.rate
        x, last_x, last_fee = wealth.copy(), np.full(len(wealth), np.inf), np.zeros(len(wealth))
        going = np.ones(len(wealth), dtype=np.bool_)
        for _ in range(MAX_SOLVER_STEPS):
            np.multiply(target, x[:, None], out=order)
            order -= held
            np.abs(order, out=size)
            fee = rate * np.vecdot(size, ones)
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
        """The days between the rebalances of a block, a block's worth at a time."""
        shares = target / price
        shares *= wealth[:, None]
        source = np.repeat(np.arange(len(rows)), gaps)
        first = np.cumsum(gaps) - gaps
        quiet = rows[source] + 1 + np.arange(len(source)) - first[source]
        for start in range(0, len(quiet), self.size):
            part = slice(start, start + self.size)
            self.book.drift(quiet[part], shares[source[part]], cash[source[part]])


def _index(rows: IntArray) -> slice | IntArray:
    """Rows as a slice where they are consecutive: a view, not a copy."""
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first == len(rows) - 1 else rows


def _rows_of(values: FloatArray, rows: IntArray) -> FloatArray:
    return values[_index(rows)]
