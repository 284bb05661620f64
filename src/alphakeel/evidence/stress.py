"""What could go wrong with each strategy of a study: replays, shocks and the fan of drawdowns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.portfolio.backtest import Ledger
from alphakeel.portfolio.forecast import ew_volatility
from alphakeel.portfolio.shocks import book_shock_table, shock_table, spread_returns
from alphakeel.portfolio.stress import DrawdownFan, drawdown_fan, fan_table, replay_table
from alphakeel.stats import timeseries

__all__ = ["Stress", "stress"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stress:
    """The stress tests of all strategies.

    Attributes
    ----------
    tables : dict of str to DataFrame
        ``replay`` (worst stretches of the market), ``market_shocks`` (the book's loss if the
        market fell in a day), ``factor_shocks`` (market, momentum, volatility), ``drawdown_fan``.
        Those that need an index are absent without one, and ``factor_shocks`` where there are
        too few days or the three do not move by themselves.
    fans : dict of str to DrawdownFan
    """

    tables: dict[str, pd.DataFrame]
    fans: dict[str, DrawdownFan]


def stress(
    ledgers: Mapping[str, Ledger],
    returns: Floats,
    market: Floats | None,
    dates: npt.NDArray[np.datetime64],
    days: slice,
    *,
    horizon: int,
    seed: int,
) -> Stress:
    """Run every stress test.

    Parameters
    ----------
    ledgers : mapping of str to Ledger
        By strategy, over the test days.
    returns : ndarray of shape (n_dates, n_assets)
        Simple returns of the stocks, all history.
    market : ndarray of shape (n_dates,) or None
        Simple returns of the index, all history; NaN in row 0.
    dates : ndarray of shape (n_dates,), datetime64[D]
    days : slice
        The test, in rows of `dates`.
    horizon : int
        Days ahead of the fan; shortened to half of the test where that is shorter.
    seed : int

    Returns
    -------
    Stress
    """
    net = {name: ledger.net_returns for name, ledger in ledgers.items()}
    ahead = min(horizon, (days.stop - days.start) // 2)
    fans = {name: drawdown_fan(r, horizon=ahead, seed=seed) for name, r in net.items()}
    tables = {"drawdown_fan": fan_table(fans)}
    if market is None:
        return Stress(tables, fans)
    tested = np.arange(days.start, days.stop)
    tables["replay"] = replay_table(
        net,
        market[days],
        dates[days],
        exposure={name: ledger.weights.sum(axis=1) for name, ledger in ledgers.items()},
    )
    tables["market_shocks"] = book_shock_table(
        {name: ledger.weights for name, ledger in ledgers.items()}, returns, market, tested
    )
    growth = np.log1p(np.where(returns > -1.0, returns, np.nan))
    yearly = timeseries.trailing_sum(growth, 252, min_count=120)
    styles = {
        "momentum": spread_returns(returns, yearly - timeseries.trailing_sum(growth, 21)),
        "volatility": spread_returns(returns, ew_volatility(returns, halflife=63)),
    }
    factors = {"market": market[days], **{name: r[days] for name, r in styles.items()}}
    joint = np.column_stack(list(factors.values()))
    joint = joint[np.isfinite(joint).all(axis=1)]
    if len(joint) > 20 and np.linalg.matrix_rank(joint - joint.mean(axis=0)) == len(factors):
        tables["factor_shocks"] = shock_table(net, factors)
    return Stress(tables, fans)
