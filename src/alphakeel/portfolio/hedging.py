"""A portfolio with the market sold short against it: beta times the index, by futures or a fund.

Wealth is divided between the stocks and the cash that secures the hedge. At each decision the
value of the stocks S and of the index sold short H are set so that ``H = beta S`` and the cash is
``margin * H``; until the next one both drift, and what the hedge gains or loses is settled in cash
every day. Where the cash falls below half of what secures the hedge there is a margin call: S and H
are set anew, a lag later. A hedge that loses all wealth ends the portfolio: a return of -1, then 0.
The stocks are a fund of the portfolio that is hedged: its composition, costs and market rules are
in its own returns. Row t is the close of day t.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alphakeel.errors import DataError

__all__ = ["HedgedPortfolio", "composition_betas", "hedge_portfolio"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

# Days of the regression behind a beta, and those that it needs.
WINDOW, LEAST = 252, 60
PERIODS = 252.0
# Share of the margin below which more cash is asked for.
CALL = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class HedgedPortfolio:
    """A hedged portfolio day by day; every array is of shape (n_days,).

    Attributes
    ----------
    net_returns, gross_returns : ndarray
        Simple returns after and before costs, those of the stocks and of the hedge.
    riskless : ndarray
        Return of cash.
    turnover : ndarray
        Value traded over wealth, of stocks and index, both sides.
    invested : ndarray
        Share of wealth in stocks after the day's trades.
    scale : ndarray
        Share of wealth in the fund of stocks after the day's trades.
    hedge : ndarray
        Value of the index sold short over wealth after the day's trades.
    beta : ndarray
        Forecast at each decision; NaN on other days.
    hedge_costs : ndarray
        What the hedge cost on the day, a share of wealth: carry, its trades, and the trades of
        stocks that move wealth between the two.
    """

    net_returns: FloatArray
    gross_returns: FloatArray
    riskless: FloatArray
    turnover: FloatArray
    invested: FloatArray
    scale: FloatArray
    hedge: FloatArray
    beta: FloatArray
    hedge_costs: FloatArray

    @property
    def excess_returns(self) -> FloatArray:
        """Net returns less those of cash: what a Sharpe ratio is of."""
        return np.asarray(self.net_returns - self.riskless)


def composition_betas(
    weights: FloatArray, returns: FloatArray, index: FloatArray, rows: IntArray
) -> FloatArray:
    """Market beta of each decided composition, from its own past returns, (n_decisions,).

    Slope of a regression over the last `WINDOW` days of today's weights on past returns, where more
    than half of the weight has a return (the others count as these do). With fewer than `LEAST`
    such days a stock counts as the market: beta is what is invested.

    Parameters
    ----------
    weights : ndarray of shape (n_decisions, n_assets)
        NaN: nothing was decided, and the beta is NaN.
    returns : ndarray of shape (n_dates, n_assets)
    index : ndarray of shape (n_dates,)
        Simple daily returns.
    rows : ndarray of shape (n_decisions,) of int
        Row of `returns` at whose close each was decided; later ones are not read for it.
    """
    betas = np.full(len(weights), np.nan)
    for i, row in enumerate(rows.tolist()):
        held = np.flatnonzero(np.nan_to_num(weights[i]))
        if np.isnan(weights[i]).any() or not len(held):
            betas[i] = np.nan if np.isnan(weights[i]).any() else 0.0
            continue
        own, days = weights[i, held], slice(max(0, row - WINDOW + 1), row + 1)
        past, market = returns[days][:, held], index[days]
        known = ~np.isnan(past)
        covered, total = known @ own, float(own.sum())
        usable = (covered > 0.5 * total) & np.isfinite(market)
        betas[i] = total
        if usable.sum() >= LEAST:
            earned = np.where(known, past, 0.0) @ own
            y = earned[usable] * total / covered[usable]
            x = market[usable] - market[usable].mean()
            square = float(x @ x)
            betas[i] = float(x @ (y - y.mean())) / square if square > 0.0 else total
    return betas


def hedge_portfolio(
    net_returns: FloatArray,
    gross_returns: FloatArray,
    *,
    turnover: FloatArray,
    invested: FloatArray,
    index: FloatArray,
    riskless: FloatArray,
    betas: FloatArray,
    lag: int,
    rate: float,
    cost_per_side: float,
    stock_cost: float,
    margin: float,
) -> HedgedPortfolio:
    """Hold a portfolio against its beta times the index.

    Parameters
    ----------
    net_returns, gross_returns, turnover, invested : ndarray of shape (n_days,)
        Of the portfolio, such as those of a `Ledger`.
    index, riskless : ndarray of shape (n_days,)
        Simple daily returns of the index and of cash. A future is without money down: short, it
        earns the return of cash less that of the index.
    betas : ndarray of shape (n_days,)
        Known at each close; NaN where nothing was decided. Below 0 there is no hedge.
    lag : int
        Days from a decision to its trade.
    rate : float
        Cost of the hedge a year, a share of its value: what the future is cheaper than the index by
        and loses until it ends, dividends that a price index does not have, or the fee on a
        borrowed fund.
    cost_per_side, stock_cost : float
        Of trades of the index, and of stocks that are bought or sold to move wealth between the
        two, shares of the traded value.
    margin : float
        Cash that secures the hedge, a share of its value.

    Raises
    ------
    DataError
        If the index has no return on a day.

    Examples
    --------
    >>> market = np.random.default_rng(0).normal(0.0, 0.01, 250)
    >>> own = hedge_portfolio(
    ...     market, market, turnover=0 * market, invested=np.ones(250), index=market,
    ...     riskless=0 * market, betas=np.ones(250), lag=1, rate=0.0, cost_per_side=0.0,
    ...     stock_cost=0.0, margin=0.1,
    ... )
    >>> bool(np.abs(own.net_returns[2:]).max() < 1e-15), own.scale[-1].round(3)
    (True, np.float64(0.909))
    """
    n = len(net_returns)
    if not np.isfinite(index).all():
        gap = int(np.flatnonzero(~np.isfinite(index))[0])
        raise DataError(f"the index has no return on day {gap}, and a hedge needs it every day")
    names = ("net", "gross", "turnover", "scale", "hedge", "costs")
    out = {name: np.zeros(n) for name in names}
    stocks, cash, short, wealth = 1.0, 0.0, 0.0, 1.0
    due: dict[int, float] = {}
    latest = np.nan
    for t in range(n):
        carry = short * rate / PERIODS
        paid = stocks * (gross_returns[t] - net_returns[t])
        stocks *= 1.0 + net_returns[t]
        cash += cash * riskless[t] - short * (index[t] - riskless[t]) - carry
        short *= 1.0 + index[t]
        cost = traded = 0.0
        if t in due:
            beta = due.pop(t)
            total = stocks + cash
            wanted = total / (1.0 + margin * beta)
            moved = abs(wanted - stocks) * (invested[t - 1] if t else 0.0)
            traded = moved + abs(beta * wanted - short)
            cost = stock_cost * moved + cost_per_side * abs(beta * wanted - short)
            stocks, short, cash = wanted, beta * wanted, total - wanted - cost
        before, wealth = wealth, stocks + cash
        if not wealth > 0.0:  # closed out: nothing is left to hold or to sell
            out["net"][t], out["gross"][t] = -1.0, -1.0 + (cost + carry + paid) / before
            break
        out["net"][t] = wealth / before - 1.0
        out["gross"][t] = out["net"][t] + (cost + carry + paid) / before
        out["costs"][t] = (cost + carry) / before
        out["turnover"][t] = (traded + stocks * turnover[t]) / wealth
        out["scale"][t], out["hedge"][t] = stocks / wealth, short / wealth
        decided = np.isfinite(betas[t])
        latest = max(float(betas[t]), 0.0) if decided else latest
        called = short > 0.0 and cash < CALL * margin * short
        if decided or called:
            due[t + lag] = latest
    return HedgedPortfolio(
        net_returns=out["net"],
        gross_returns=out["gross"],
        riskless=np.asarray(riskless, np.float64),
        turnover=out["turnover"],
        invested=np.asarray(out["scale"] * invested),
        scale=out["scale"],
        hedge=out["hedge"],
        beta=np.asarray(betas, np.float64),
        hedge_costs=out["costs"],
    )
