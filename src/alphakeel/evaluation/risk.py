"""Was the risk right? Forecasts against what came, exposures, and limits of every decision.

What could go wrong with each strategy of a study: replays, shocks and the fan of drawdowns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.backtest.ledger import Ledger
from alphakeel.evaluation.performance import Track
from alphakeel.portfolio.optimisation import Record
from alphakeel.portfolio.overlay import Overlay
from alphakeel.risk.stress import (
    DrawdownFan,
    drawdown_fan,
    fan_table,
    portfolio_shock_table,
    replay_table,
    shock_table,
    spread_returns,
)
from alphakeel.risk.value_at_risk import TailForecast
from alphakeel.risk.volatility import ew_volatility
from alphakeel.stats import performance, rolling
from alphakeel.stats.var_backtests import evaluate

__all__ = [
    "Stress",
    "decision_table",
    "overlay_table",
    "stress",
    "var_table",
    "volatility_table",
]

Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]

_VALUE_AT_RISK = (
    "days",
    "exceedances",
    "rate",
    "kupiec_p",
    "independence_p",
    "conditional_p",
    "dynamic_p",
    "tick_loss",
    "mean_var",
    "verdict",
)
# The dynamic quantile test looks at a day beside the four before it.
_DAYS_IN_A_ROW = 5
_IN_CASH = "never in stocks for five days in a row: nothing to judge."


def var_table(ledgers: Mapping[str, Track], forecasts: Mapping[str, TailForecast]) -> pd.DataFrame:
    """How often losses went beyond their forecast, and whether that is chance.

    Parameters
    ----------
    ledgers : mapping of str to Track
    forecasts : mapping of str to TailForecast
        One-day 95 % VaR of each, on row t of the day after it.

    Returns
    -------
    DataFrame indexed by strategy
        days, exceedances, rate (share of the days; 0.05 is right), kupiec_p, independence_p,
        conditional_p (Christoffersen), dynamic_p (dynamic quantile), tick_loss (mean, in units
        of return), mean_var, verdict (in words). Of a book that is in cash (nearly) always, only
        days and verdict are known.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, ledger in ledgers.items():
        # A book in cash has no risk to forecast; the cost of its first trade is none either.
        forecast = np.where(forecasts[name].var > 0.0, forecasts[name].var, np.nan)
        known = np.isfinite(forecast[:-1])
        if np.convolve(known, np.ones(_DAYS_IN_A_ROW)).max() < _DAYS_IN_A_ROW:
            rows[name] = {"days": int(known.sum()), "verdict": _IN_CASH}
            continue
        found = evaluate(ledger.net_returns, forecast)
        rows[name] = {
            "days": found.coverage.n,
            "exceedances": found.coverage.exceedances,
            "rate": found.coverage.rate,
            "kupiec_p": found.coverage.p_value,
            "independence_p": found.independence.p_value,
            "conditional_p": found.conditional.p_value,
            "dynamic_p": found.dynamic.p_value,
            "tick_loss": found.tick_loss,
            "mean_var": float(np.nanmean(forecast)),
            "verdict": found.verdict(),
        }
    table = pd.DataFrame(list(rows.values()), index=list(rows), columns=list(_VALUE_AT_RISK))
    return table.rename_axis("strategy")


def volatility_table(
    ledgers: Mapping[str, Track], dates: npt.NDArray[np.datetime64], *, target: float | None
) -> pd.DataFrame:
    """Realised volatility of every calendar year, beside the target.

    Parameters
    ----------
    ledgers : mapping of str to Track
    dates : ndarray of shape (n_days,), datetime64[D]
    target : float or None
        Annual volatility that was aimed at.

    Returns
    -------
    DataFrame
        strategy, year, days, annual_volatility, ratio (to the target; NaN without one). Years of
        fewer than 60 days are left out.
    """
    years = dates.astype("datetime64[Y]").astype(int) + 1970
    rows = []
    for name, ledger in ledgers.items():
        for year in np.unique(years):
            r = ledger.net_returns[years == year]
            if len(r) < 60:
                continue
            realised = float(performance.annual_volatility(r))
            ratio = realised / target if target else np.nan
            rows.append((name, int(year), len(r), realised, ratio))
    columns = ["strategy", "year", "days", "annual_volatility", "ratio"]
    return pd.DataFrame(rows, columns=columns)


def overlay_table(overlays: Mapping[str, Overlay]) -> pd.DataFrame:
    """How much of each book was held, and what held it down.

    Returns
    -------
    DataFrame indexed by strategy
        mean_exposure, least_exposure, changes (days a year on which exposure was decided anew),
        and the share of days on which each rule was the one that bound: volatility, var,
        throttle, leverage (no other rule asked for less), brake (wherever it was below 1).
    """
    rows = {}
    for name, plan in overlays.items():
        bound = plan.bound()
        rows[name] = {
            "mean_exposure": float(plan.exposure.mean()),
            "least_exposure": float(plan.exposure.min()),
            "changes": float(plan.decided.mean() * performance.PERIODS_PER_YEAR),
            **{rule: float(days.mean()) for rule, days in bound.items()},
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")


def decision_table(records: Mapping[str, Sequence[Record]]) -> pd.DataFrame:
    """What the optimiser could and could not keep.

    Returns
    -------
    DataFrame
        strategy, status, decisions (how many had it), conflict (the limits most often in each
        other's way), example (the first reason in words). No rows without an optimiser.
    """
    rows = []
    for name, own in records.items():
        for status, number in Counter(record.status for record in own).most_common():
            some = [record for record in own if record.status == status]
            conflicts = Counter(record.conflict for record in some if record.conflict)
            common = conflicts.most_common(1)
            conflict = ", ".join(common[0][0]) if common else ""
            reason = next((record.reason for record in some if record.reason), "")
            rows.append((name, status, number, conflict, reason))
    columns = ["strategy", "status", "decisions", "conflict", "example"]
    return pd.DataFrame(rows, columns=columns)


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
    returns: Doubles,
    market: Doubles | None,
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
    tables["market_shocks"] = portfolio_shock_table(
        {name: ledger.weights for name, ledger in ledgers.items()}, returns, market, tested
    )
    growth = np.log1p(np.where(returns > -1.0, returns, np.nan))
    yearly = rolling.trailing_sum(growth, 252, min_count=120)
    styles = {
        "momentum": spread_returns(returns, yearly - rolling.trailing_sum(growth, 21)),
        "volatility": spread_returns(returns, ew_volatility(returns, halflife=63)),
    }
    factors = {"market": market[days], **{name: r[days] for name, r in styles.items()}}
    joint = np.column_stack(list(factors.values()))
    joint = joint[np.isfinite(joint).all(axis=1)]
    if len(joint) > 20 and np.linalg.matrix_rank(joint - joint.mean(axis=0)) == len(factors):
        tables["factor_shocks"] = shock_table(net, factors)
    return Stress(tables, fans)
