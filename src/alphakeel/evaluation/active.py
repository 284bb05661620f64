"""Active returns: every portfolio over its benchmark, and one model's over another's.

The active return of a day is the portfolio's simple net return less the benchmark's. Of a year it
is 252 times their mean, the tracking error is their standard deviation (ddof = 1) times the root
of 252, and the information ratio is the first over the second. Intervals of active return and
tracking error are percentiles of a block bootstrap, the p-value of the former is Newey-West;
information ratios and their differences go the way of Sharpe ratios (Ledoit and Wolf,
`stats.sharpe`). All portfolios share the days, resampled or not, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.evaluation.performance import HasReturns
from alphakeel.stats import performance as metrics
from alphakeel.stats.bootstrap import bootstrap_samples, default_block_length
from alphakeel.stats.newey_west import newey_west_tstat
from alphakeel.stats.sharpe import sharpe_differences, sharpe_intervals

__all__ = [
    "MEASURES",
    "active_by_year",
    "active_differences",
    "active_steps",
    "active_table",
    "hedge_table",
]

Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]

YEAR = metrics.PERIODS_PER_YEAR
# Columns that other tables take over, with their intervals.
MEASURES = tuple(
    f"{name}{end}"
    for name in ("active_return", "tracking_error", "information_ratio")
    for end in ("", "_low", "_high")
)
# A year of fewer days says nothing about a tracking error.
LEAST_DAYS = 20


def active_table(
    ledgers: Mapping[str, HasReturns],
    benchmarks: Mapping[str, Floats],
    *,
    level: float,
    n_bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """Active return, tracking error and information ratio of every portfolio.

    Parameters
    ----------
    ledgers : mapping of str to HasReturns
        By strategy, all over the same days.
    benchmarks : mapping of str to ndarray of shape (n_days,)
        Simple daily returns by name; a strategy is not compared with the benchmark of its name.
    level : float
        Confidence of the intervals, for example 0.95.
    n_bootstrap, seed : int
        Resamples, and their seed.

    Returns
    -------
    DataFrame indexed by (benchmark, strategy)
        active_return and information_ratio with _low, _high and two-sided _p (of zero),
        tracking_error with _low and _high, relative_drawdown (largest fall of wealth over the
        benchmark's), beta (to the benchmark).
    """
    parts = []
    for benchmark, base in benchmarks.items():
        names = [name for name in ledgers if name != benchmark]
        net = _net(ledgers, names)
        rows = _figures(net, np.asarray(base, np.float64), level, n_bootstrap, seed)
        index = pd.MultiIndex.from_product([[benchmark], names], names=["benchmark", "strategy"])
        parts.append(pd.DataFrame(rows, index=index))
    return pd.concat(parts)


def active_steps(
    steps: Mapping[str, Sequence[tuple[str, HasReturns]]],
    base: Floats,
    *,
    level: float,
    n_bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """The measures of every step of `attribution.ladder_table` over one benchmark.

    Indexed by (model, rung); NaN at a step that is the benchmark itself.
    """
    own = {
        (model, step): np.asarray(ledger.net_returns, np.float64)
        for model, parts in steps.items()
        for step, ledger in parts
    }
    apart = [key for key, net in own.items() if not np.array_equal(net, base)]
    table = pd.DataFrame(index=pd.MultiIndex.from_tuples(own, names=["model", "rung"]))
    if not apart:
        return table.reindex(columns=list(MEASURES))
    net = np.column_stack([own[key] for key in apart])
    rows = _figures(net, np.asarray(base, np.float64), level, n_bootstrap, seed)
    index = pd.MultiIndex.from_tuples(apart, names=["model", "rung"])
    return table.join(pd.DataFrame(rows, index=index)[list(MEASURES)])


def _net(ledgers: Mapping[str, HasReturns], names: Sequence[str]) -> Doubles:
    return np.column_stack([ledgers[name].net_returns for name in names]).astype(np.float64)


def _figures(
    net: Doubles, base: Doubles, level: float, n_bootstrap: int, seed: int
) -> list[dict[str, float]]:
    """A row of `active_table` for each column of returns."""
    active = net - base[:, None]
    mean, spread = YEAR * active.mean(axis=0), _tracking_error(active)
    ends = _percentiles(active, level, n_bootstrap, seed)
    ratios = sharpe_intervals(active, level=level, n_bootstrap=n_bootstrap, seed=seed)
    relative = (1.0 + net) / (1.0 + base[:, None]) - 1.0
    falls = np.atleast_1d(metrics.max_drawdown(relative))
    betas = np.atleast_1d(metrics.beta(net, base))
    return [
        {
            "active_return": float(mean[k]),
            "active_return_low": float(ends[0, 0, k]),
            "active_return_high": float(ends[0, 1, k]),
            "active_return_p": newey_west_tstat(active[:, k]).p,
            "tracking_error": float(spread[k]),
            "tracking_error_low": float(ends[1, 0, k]),
            "tracking_error_high": float(ends[1, 1, k]),
            "information_ratio": own.estimate,
            "information_ratio_low": own.low,
            "information_ratio_high": own.high,
            "information_ratio_p": own.p_value,
            "relative_drawdown": float(falls[k]),
            "beta": float(betas[k]),
        }
        for k, own in enumerate(ratios)
    ]


def _tracking_error(active: Doubles) -> Doubles:
    return np.asarray(active.std(axis=0, ddof=1) * np.sqrt(YEAR))


def _percentiles(active: Doubles, level: float, n_bootstrap: int, seed: int) -> Doubles:
    """Ends of the intervals of mean and tracking error, (2, 2, n_columns), on the same days."""
    n_columns = active.shape[1]

    def both(x: Doubles) -> Doubles:
        # A statistic gives one value a column: there is a copy of each for the second.
        first = np.arange(x.shape[1]) % (2 * n_columns) < n_columns
        out = np.empty(x.shape[1])
        out[first] = YEAR * x[:, first].mean(axis=0)
        out[~first] = _tracking_error(x[:, ~first])
        return out

    drawn = bootstrap_samples(
        both,
        np.column_stack([active, active]),
        n_bootstrap=n_bootstrap,
        block_length=default_block_length(active),
        seed=seed,
    )
    tails = ((1.0 - level) / 2.0, (1.0 + level) / 2.0)
    return np.stack([np.quantile(part, tails, axis=0) for part in np.split(drawn, 2, axis=1)])


def active_differences(
    ledgers: Mapping[str, HasReturns],
    benchmarks: Mapping[str, Floats],
    pairs: Sequence[tuple[str, str]],
    *,
    level: float,
    n_bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """Active return and information ratio of strategies less those of a baseline.

    Parameters
    ----------
    ledgers, benchmarks, level, n_bootstrap, seed
        As in `active_table`.
    pairs : sequence of (str, str)
        Strategy, and the baseline that it is compared with.

    Returns
    -------
    DataFrame indexed by (benchmark, strategy)
        baseline; active_return_difference and information_ratio_difference with _low, _high and
        _p. The former is the same whatever the benchmark, which cancels.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for name, baseline in pairs:
        own, other = (np.asarray(ledgers[k].net_returns, np.float64) for k in (name, baseline))
        gap = own - other
        low, high = _percentiles(gap[:, None], level, n_bootstrap, seed)[0, :, 0]
        shared = {
            "baseline": baseline,
            "active_return_difference": float(YEAR * gap.mean()),
            "active_return_difference_low": float(low),
            "active_return_difference_high": float(high),
            "active_return_difference_p": newey_west_tstat(gap).p,
        }
        for benchmark, base in benchmarks.items():
            (test,) = sharpe_differences(
                own - base, other - base, level=level, n_bootstrap=n_bootstrap, seed=seed
            )
            rows[benchmark, name] = shared | {
                "information_ratio_difference": test.estimate,
                "information_ratio_difference_low": test.low,
                "information_ratio_difference_high": test.high,
                "information_ratio_difference_p": test.p_value,
            }
    order = sorted(rows, key=lambda key: list(benchmarks).index(key[0]))
    table = pd.DataFrame([rows[key] for key in order])
    table.index = pd.MultiIndex.from_tuples(order, names=["benchmark", "strategy"])
    return table


def active_by_year(
    ledgers: Mapping[str, HasReturns],
    benchmarks: Mapping[str, Floats],
    dates: npt.NDArray[np.datetime64],
    *,
    limits: Mapping[tuple[str, str], float],
) -> pd.DataFrame:
    """Active return and tracking error of each calendar year, beside the limit of the latter.

    `limits` has the tracking error that was allowed, by benchmark and strategy.
    """
    years = dates.astype("datetime64[Y]").astype(int) + 1970
    rows = []
    for benchmark, base in benchmarks.items():
        for name, ledger in ledgers.items():
            if name == benchmark:
                continue
            active = np.asarray(ledger.net_returns - base, np.float64)
            for year in np.unique(years):
                own = active[years == year]
                mean = float(YEAR * own.mean())
                error = np.nan
                if len(own) >= LEAST_DAYS:
                    error = float(_tracking_error(own[:, None])[0])
                ratio = mean / error if error > 0.0 else np.nan
                allowed = limits.get((benchmark, name), np.nan)
                rows.append((benchmark, name, int(year), len(own), mean, error, allowed, ratio))
    columns = ["benchmark", "strategy", "year", "days", "active_return", "tracking_error"]
    return pd.DataFrame(rows, columns=[*columns, "tracking_error_limit", "information_ratio"])


def hedge_table(
    hedges: Mapping[str, Floats], costs: Mapping[str, Floats], betas: Mapping[str, Floats]
) -> pd.DataFrame:
    """What each hedge was: its mean and largest value over wealth, forecast betas, annual cost.

    All by strategy: value of the index sold short and cost of the hedge over wealth by day, and
    the beta forecast at each decision (NaN on other days).
    """
    rows = {
        name: {
            "mean_hedge": float(short.mean()),
            "largest_hedge": float(short.max()),
            "least_beta": float(np.nanmin(betas[name])),
            "largest_beta": float(np.nanmax(betas[name])),
            "hedge_cost": float(costs[name].mean() * YEAR),
        }
        for name, short in hedges.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")
