"""How a result depends on what nobody knows for sure: costs, size, horizon, period."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.evidence.tables import ic_figures
from alphakeel.evidence.track import Track
from alphakeel.stats import metrics

__all__ = ["decay_table", "period_table", "sweep_table"]

Floats = npt.NDArray[np.floating[Any]]


def sweep_table(runs: Mapping[tuple[str, float], Track], *, over: str) -> pd.DataFrame:
    """Performance of every strategy at every value of one assumption.

    Parameters
    ----------
    runs : mapping of (str, float) to Track
        Backtests of the same decisions, by strategy and value.
    over : str
        What was varied: the name of the column, such as ``cost_per_side`` or ``wealth``.

    Returns
    -------
    DataFrame
        strategy, the value, annual_return, sharpe, max_drawdown, cost_drag (annual return lost
        to costs), annual_turnover (value bought and sold in a year over wealth, halved),
        mean_invested (share of wealth in stocks: a book whose orders are cut stays in cash).
    """
    rows = []
    for (strategy, value), run in runs.items():
        net = float(metrics.annual_return(run.net_returns))
        rows.append(
            {
                "strategy": strategy,
                over: value,
                "annual_return": net,
                "sharpe": float(metrics.sharpe(run.net_returns)),
                "max_drawdown": float(metrics.max_drawdown(run.net_returns)),
                "cost_drag": float(metrics.annual_return(run.gross_returns)) - net,
                "annual_turnover": float(run.turnover.mean() * metrics.PERIODS_PER_YEAR / 2.0),
                "mean_invested": float(run.invested.mean()),
            }
        )
    return pd.DataFrame(rows)


def decay_table(
    series: Mapping[str, Floats],
    horizons: tuple[int, ...],
    *,
    step: int,
    level: float,
    n_bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """How far ahead scores rank stocks: the mean Rank IC at each horizon.

    Parameters
    ----------
    series : mapping of str to ndarray of shape (n_decisions, n_horizons)
        Rank IC of each model; NaN where there is none.
    horizons : tuple of int
        In trading days from the trade on.
    step : int
        Trading days between two decisions.
    level, n_bootstrap, seed
        As in `strategy_tables`.

    Returns
    -------
    DataFrame
        model, horizon, rank_ic with _low and _high, nw_t (Newey-West t); NaN with fewer than two
        decisions whose horizon has passed.
    """
    rows = []
    for model, rank_ics in series.items():
        for h, horizon in enumerate(horizons):
            figures = ic_figures(
                rank_ics[:, h],
                lags=-(-horizon // step),
                level=level,
                n_bootstrap=n_bootstrap,
                seed=seed,
            )
            rows.append({"model": model, "horizon": horizon, **figures})
    columns = ["model", "horizon", "rank_ic", "rank_ic_low", "rank_ic_high", "nw_t"]
    return pd.DataFrame(rows, columns=columns)


def period_table(
    ledgers: Mapping[str, Track],
    dates: npt.NDArray[np.datetime64],
    *,
    cuts: Sequence[np.datetime64] = (),
) -> pd.DataFrame:
    """Every strategy in parts of the test, one after the other.

    Parameters
    ----------
    ledgers : mapping of str to Track
    dates : ndarray of shape (n_days,), datetime64[D]
    cuts : sequence of datetime64, optional
        First days of the parts but the first, ascending; by default three equal parts.

    Returns
    -------
    DataFrame
        strategy, first and last day, annual_return, annual_volatility, sharpe, var_95,
        max_drawdown (the deepest point reached in the period below the highest wealth so far,
        earlier periods included).
    """
    ends: Any = np.searchsorted(dates, np.array(cuts, dtype=dates.dtype)) if cuts else 3
    parts = [days for days in np.array_split(np.arange(len(dates)), ends) if len(days) > 1]
    rows = []
    for name, ledger in ledgers.items():
        falls = metrics.drawdown_series(ledger.net_returns)
        for days in parts:
            r = ledger.net_returns[days]
            rows.append(
                {
                    "strategy": name,
                    "first": str(dates[days[0]]),
                    "last": str(dates[days[-1]]),
                    "annual_return": float(metrics.annual_return(r)),
                    "annual_volatility": float(metrics.annual_volatility(r)),
                    "sharpe": float(metrics.sharpe(r)),
                    "var_95": float(metrics.value_at_risk(r)),
                    "max_drawdown": float(falls[days].max()),
                }
            )
    return pd.DataFrame(rows)
