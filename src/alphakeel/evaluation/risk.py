"""Risk tables: VaR forecasts and volatility against what was realised, limits, stress tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.backtest.ledger import Ledger
from alphakeel.evaluation.performance import HasReturns
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
from alphakeel.stats.cross_section import row_sums
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


def var_table(
    ledgers: Mapping[str, HasReturns], forecasts: Mapping[str, TailForecast]
) -> pd.DataFrame:
    """VaR backtests by strategy: how often losses exceeded their forecast, and is that chance.

    Forecasts are one-day 95 % VaR, row t for the day after it. rate is the share of exceedances
    (0.05 is right), tick_loss a mean in units of return. Of a portfolio that is (nearly) always in
    cash only days and verdict are known.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, ledger in ledgers.items():
        # A portfolio in cash has no risk to forecast, and the cost of its first trade is none.
        forecast = np.where(forecasts[name].var > 0.0, forecasts[name].var, np.nan)
        known = np.isfinite(forecast[:-1])
        if np.convolve(known, np.ones(_DAYS_IN_A_ROW)).max() < _DAYS_IN_A_ROW:
            rows[name] = {"days": int(known.sum()), "verdict": _IN_CASH}
            continue
        tests = evaluate(ledger.net_returns, forecast)
        rows[name] = {
            "days": tests.coverage.n,
            "exceedances": tests.coverage.exceedances,
            "rate": tests.coverage.rate,
            "kupiec_p": tests.coverage.p_value,
            "independence_p": tests.independence.p_value,
            "conditional_p": tests.conditional.p_value,
            "dynamic_p": tests.dynamic.p_value,
            "tick_loss": tests.tick_loss,
            "mean_var": float(np.nanmean(forecast)),
            "verdict": tests.verdict(),
        }
    table = pd.DataFrame(list(rows.values()), index=list(rows), columns=list(_VALUE_AT_RISK))
    return table.rename_axis("strategy")


def volatility_table(
    ledgers: Mapping[str, HasReturns], dates: npt.NDArray[np.datetime64], *, target: float | None
) -> pd.DataFrame:
    """Realised annual volatility of calendar years of 60 days or more, beside the target."""
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
    """Exposure under the overlay, changes of it a year, and the share of days each rule bound.

    leverage: no other rule asked for less; brake: wherever it was below 1.
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
    """Decisions of the optimiser by status, with the limits most often in conflict and a reason."""
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
        ``replay`` (worst windows of the market), ``market_shocks`` (the portfolio's loss if the
        market fell in a day), ``factor_shocks`` (market, momentum, volatility), ``drawdown_fan``.
        Those that need an index are absent without one, and ``factor_shocks`` where there are
        too few days or the three factors are collinear.
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
        Of the fan, in days; at most half of the test.
    seed : int
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
        exposure={name: row_sums(ledger.weights) for name, ledger in ledgers.items()},
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
