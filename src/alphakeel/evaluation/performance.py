"""Performance tables of a study: strategies, Rank ICs, importance, seeds, years, costs, sweeps.

Fractions are fractions (0.01 is 1 %), a year has 252 days, VaR is the historical one of one day at
95 %. Sharpe ratios are of returns above those of cash. Their intervals are studentised
block-bootstrap ones (`stats.sharpe`), those of VaR come from the slow waves of its exceedances
(`stats.var_intervals`), the others are percentiles of a block bootstrap. Strategies share the days,
resampled or not, so that differences are paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.backtest.ledger import Ledger
from alphakeel.stats import bootstrap, newey_west
from alphakeel.stats import performance as metrics
from alphakeel.stats.sharpe import SharpeEstimate, sharpe_differences, sharpe_intervals
from alphakeel.stats.var_intervals import value_at_risk_changes, value_at_risk_intervals

if TYPE_CHECKING:
    from alphakeel.models.importance import Drivers  # which imports torch

__all__ = [
    "DominantDay",
    "ReturnSeries",
    "HasReturns",
    "by_year_table",
    "cost_table",
    "decay_table",
    "dominant_days",
    "ic_figures",
    "ic_table",
    "importance_table",
    "return_series",
    "period_table",
    "seed_table",
    "strategy_tables",
    "sweep_table",
]

Floats = npt.NDArray[np.floating[Any]]

# A day with more than this share of a strategy's variance is what its figures are made of.
DOMINANT_SHARE, LEAST_DAYS = 0.1, 60


def strategy_tables(
    ledgers: Mapping[str, HasReturns],
    market_returns: Floats | None,
    *,
    baseline: str,
    level: float,
    n_bootstrap: int,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table I, and every strategy against the baseline.

    Parameters
    ----------
    ledgers : mapping of str to HasReturns
        By strategy, all over the same days.
    market_returns : ndarray of shape (n_days,) or None
        Simple daily returns of the index, for beta; NaN beta without it.
    baseline : str
        The strategy that the others are compared with.
    level : float
        Confidence of the intervals, for example 0.95.
    n_bootstrap, seed : int
        Resamples, and their seed.

    Returns
    -------
    performance : DataFrame, one row a strategy
        annual_return, annual_volatility, sharpe, max_drawdown, var_95 (these three with _low and
        _high; those of the drawdown are the range of other orders of the same days), cvar_95,
        calmar, sortino, turnover (value bought and sold in a year over wealth, halved: 1.0 replaces
        the portfolio once), cost_drag (annual return lost to costs), beta.
    difference : DataFrame, one row a strategy but the baseline
        sharpe_difference with _low, _high and two-sided _p (Ledoit-Wolf: studentised block
        bootstrap); sharpe_change, max_drawdown_change and var_95_change as shares of the
        baseline's (-0.3: 30 % lower), the first NaN where the baseline's is not above 0; the latter
        two with _low, _high and _p (percentiles for the drawdown, slow waves for VaR).
    """
    names = list(ledgers)
    returns = np.column_stack([ledger.net_returns for ledger in ledgers.values()])
    excess = np.column_stack([ledger.excess_returns for ledger in ledgers.values()])
    tails = ((1.0 - level) / 2.0, (1.0 + level) / 2.0)
    drawn = resampled_drawdowns(returns, n_bootstrap=n_bootstrap, seed=seed)
    limits = {
        "sharpe": _limits(
            sharpe_intervals(excess, level=level, n_bootstrap=n_bootstrap, seed=seed)
        ),
        "max_drawdown": np.quantile(drawn, tails, axis=0),
        "var_95": _limits(value_at_risk_intervals(returns, level=level)),
    }
    performance = pd.DataFrame(
        [_performance(ledger, market_returns) for ledger in ledgers.values()],
        index=pd.Index(names, name="strategy"),
    )
    for what, (low, high) in limits.items():
        place = list(performance.columns).index(what)
        performance.insert(place + 1, f"{what}_low", low)
        performance.insert(place + 2, f"{what}_high", high)

    base = names.index(baseline)
    tests = sharpe_differences(
        excess, excess[:, base], level=level, n_bootstrap=n_bootstrap, seed=seed
    )
    sharpe = np.asarray(metrics.sharpe(excess))
    drawdown = np.asarray(metrics.max_drawdown(returns))
    losses = value_at_risk_changes(returns, returns[:, base], level=level)
    rows = []
    for i in (i for i in range(len(names)) if i != base):
        with np.errstate(divide="ignore", invalid="ignore"):
            change = float(drawdown[i] / drawdown[base] - 1.0)
            changes = drawn[:, i] / drawn[:, base] - 1.0
        rows.append(
            _sharpe_gap(float(sharpe[i]), float(sharpe[base]), tests[i])
            | with_interval("max_drawdown_change", change, changes, tails)
            | _var_change(losses[i])
        )
    others = [name for name in names if name != baseline]
    return performance, pd.DataFrame(rows, index=pd.Index(others, name="strategy"))


def _sharpe_gap(own: float, base: float, test: SharpeEstimate) -> dict[str, float]:
    return {
        "sharpe_difference": own - base,
        "sharpe_difference_low": test.low,
        "sharpe_difference_high": test.high,
        "sharpe_difference_p": test.p_value,
        # A share of a ratio that is not above 0 has no meaning.
        "sharpe_change": (own - base) / base if base > 0.0 else np.nan,
    }


def _var_change(test: bootstrap.Interval) -> dict[str, float]:
    p = np.nan if test.p_value is None else test.p_value
    ends = (test.estimate, test.low, test.high, p)
    names = (f"var_95_change{end}" for end in ("", "_low", "_high", "_p"))
    return dict(zip(names, ends, strict=True))


def _limits(intervals: Sequence[SharpeEstimate] | Sequence[bootstrap.Interval]) -> Floats:
    """Lower and upper limits, (2, n_strategies)."""
    return np.array([[one.low for one in intervals], [one.high for one in intervals]])


def _performance(ledger: HasReturns, market_returns: Floats | None) -> dict[str, float]:
    figures = metrics.summary(ledger.net_returns, market_returns, riskless=ledger.riskless)
    names = ("annual_return", "annual_volatility", "sharpe", "max_drawdown", "var_95", "cvar_95")
    return {
        **{name: figures[name] for name in (*names, "calmar", "sortino")},
        "turnover": float(ledger.turnover.mean() * metrics.PERIODS_PER_YEAR / 2.0),
        "cost_drag": float(metrics.annual_return(ledger.gross_returns)) - figures["annual_return"],
        "beta": figures.get("beta", np.nan),
    }


def resampled_drawdowns(returns: Floats, *, n_bootstrap: int, seed: int) -> Floats:
    """Maximum drawdowns of resampled histories, (n_bootstrap, n_strategies); all share the days."""
    block = max(bootstrap.optimal_block_length(np.abs(column)) for column in returns.T)
    return bootstrap.bootstrap_samples(
        metrics.max_drawdown, returns, n_bootstrap=n_bootstrap, block_length=block, seed=seed
    )


def with_interval(
    name: str, estimate: float, drawn: Floats, tails: tuple[float, float]
) -> dict[str, float]:
    """An estimate with its percentile interval and two-sided p of `no difference`.

    NaN where the estimate is not finite; interval and p also where a resample is not.
    """
    row = dict.fromkeys((name, f"{name}_low", f"{name}_high", f"{name}_p"), np.nan)
    if not np.isfinite(estimate):
        return row
    if not np.isfinite(drawn).all():
        return row | {name: estimate}
    low, high = np.quantile(drawn, tails)
    fewer = min((drawn <= 0.0).sum(), (drawn >= 0.0).sum())
    p = min(1.0, 2.0 * (float(fewer) + 1.0) / (len(drawn) + 1.0))
    return {name: estimate, f"{name}_low": low, f"{name}_high": high, f"{name}_p": p}


def ic_table(
    series: Mapping[str, tuple[Floats, Floats]],
    horizons: tuple[int, ...],
    *,
    lags: Sequence[int],
    level: float,
    n_bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """How well scores rank forward returns, by model and horizon.

    Parameters
    ----------
    series : mapping of str to (ic, rank_ic)
        Each of shape (n_decisions, n_horizons); NaN where there is none.
    horizons : tuple of int
        In trading days.
    lags : sequence of int
        Of each horizon the number of decisions whose labels overlap: the t statistic and the
        bootstrap blocks allow for them.
    level, n_bootstrap, seed
        As in `strategy_tables`.

    Returns
    -------
    DataFrame indexed by (model, horizon)
        ic, rank_ic with _low and _high, nw_t (Newey-West t of the mean Rank IC), icir (mean over
        standard deviation of the Rank IC, per decision), hit_rate (share of decisions with a
        positive Rank IC), n (decisions); NaN with fewer than two decisions.
    """
    rows = {}
    for model, (pearson, spearman) in series.items():
        for h, horizon in enumerate(horizons):
            known = pearson[np.isfinite(pearson[:, h]), h]
            rows[model, horizon] = {
                "ic": float(known.mean()) if len(known) else np.nan,
                **ic_figures(
                    spearman[:, h],
                    lags=lags[h],
                    level=level,
                    n_bootstrap=n_bootstrap,
                    seed=seed,
                ),
            }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["model", "horizon"])
    return table


def ic_figures(
    series: Floats, *, lags: int, level: float, n_bootstrap: int, seed: int
) -> dict[str, float]:
    """Mean, interval, t, ICIR and hit rate of a series of Rank ICs; NaN with fewer than two."""
    n = int(np.isfinite(series).sum())
    if n < 2:
        names = ("rank_ic", "rank_ic_low", "rank_ic_high", "nw_t", "icir", "hit_rate")
        return {**dict.fromkeys(names, np.nan), "n": n}
    figures = newey_west.ic_summary(
        series, lags=lags, level=level, n_bootstrap=n_bootstrap, seed=seed
    )
    return {
        "rank_ic": figures.mean,
        "rank_ic_low": figures.interval.low,
        "rank_ic_high": figures.interval.high,
        "nw_t": figures.t,
        "icir": figures.icir,
        "hit_rate": figures.hit_rate,
        "n": n,
    }


def importance_table(
    parts: Mapping[str, Sequence[Drivers]],
    *,
    lags: int,
    level: float,
    n_bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """Which factors drive each model's scores, over the folds in which it was given them.

    Parameters
    ----------
    parts : mapping of str to sequence of Drivers
        By model, one a fold, in order of time.
    lags : int
        Decisions by which two labels can overlap: the bootstrap's blocks are longer.
    level, n_bootstrap, seed
        As in `strategy_tables`.

    Returns
    -------
    DataFrame indexed by (model, factor), per model the largest drop first
        rank_ic_drop with _low and _high (mean Rank IC lost with the factor shuffled across stocks;
        NaN with fewer than two dates), score_share (mean absolute contribution to the scores, as a
        share of all factors'; NaN where the model cannot be split), top_lag and mean_lag (rows back
        from which most of it came, and on average), folds (in which the model was given it).
    """
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for model, folds in parts.items():
        by_factor: dict[tuple[str, str], dict[str, float]] = {}
        for factor in dict.fromkeys(name for fold in folds for name in fold.names):
            given = [(fold, fold.names.index(factor)) for fold in folds if factor in fold.names]
            drop = np.concatenate([fold.drop[:, k] for fold, k in given])
            figures = ic_figures(drop, lags=lags, level=level, n_bootstrap=n_bootstrap, seed=seed)
            row = {f"rank_ic_drop{end}": figures[f"rank_ic{end}"] for end in ("", "_low", "_high")}
            by_lag = _mean_by_lag([fold.attribution[:, k] for fold, k in given])
            total = by_lag.sum()
            by_factor[model, factor] = row | {
                "score_share": float(total),
                "top_lag": int(by_lag.argmax()) if np.isfinite(total) else np.nan,
                "mean_lag": float(np.arange(len(by_lag)) @ by_lag / total) if total else np.nan,
                "folds": len(given),
            }
        order = sorted(by_factor, key=lambda key: -np.nan_to_num(by_factor[key]["rank_ic_drop"]))
        rows |= {key: by_factor[key] for key in order}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["model", "factor"])
    return table


def _mean_by_lag(parts: list[Floats]) -> Floats:
    """Mean over folds, lag by lag; a fold with fewer lags counts as 0 at the others."""
    mean = np.zeros(max(len(part) for part in parts))
    for part in parts:
        mean[: len(part)] += part / len(parts)
    return mean


def seed_table(
    runs: Mapping[tuple[str, int], HasReturns], rank_ics: Mapping[tuple[str, int], Floats]
) -> pd.DataFrame:
    """Each network of an ensemble by itself, without the overlay: the spread over seeds.

    Backtests, and Rank ICs (n_decisions,) at the longest horizon, are given by model and seed.
    """
    columns = ("annual_return", "annual_volatility", "sharpe", "max_drawdown", "var_95")
    rows = []
    for (model, seed), run in runs.items():
        known = rank_ics[model, seed][np.isfinite(rank_ics[model, seed])]
        figures = metrics.summary(run.net_returns, riskless=run.riskless)
        rows.append(
            {"model": model, "seed": seed, "rank_ic": float(known.mean()) if known.size else np.nan}
            | {name: figures[name] for name in columns}
        )
    return pd.DataFrame(rows, columns=["model", "seed", "rank_ic", *columns])


def by_year_table(
    ledgers: Mapping[str, HasReturns], dates: npt.NDArray[np.datetime64]
) -> pd.DataFrame:
    """Return, volatility, Sharpe ratio and deepest drawdown of each calendar year.

    The drawdown is below the highest wealth so far, earlier years included.
    """
    years = dates.astype("datetime64[Y]").astype(int) + 1970
    rows = []
    for name, ledger in ledgers.items():
        falls = metrics.drawdown_series(ledger.net_returns)
        for year in np.unique(years):
            days = years == year
            r = ledger.net_returns[days]
            rows.append(
                {
                    "year": int(year),
                    "strategy": name,
                    "days": int(days.sum()),
                    "total_return": float(np.prod(1.0 + r) - 1.0),
                    "annual_volatility": _if_long(metrics.annual_volatility, r),
                    "sharpe": _if_long(metrics.sharpe, ledger.excess_returns[days]),
                    "max_drawdown": float(falls[days].max()),
                }
            )
    return pd.DataFrame(rows).sort_values(["year", "strategy"], kind="stable", ignore_index=True)


def _if_long(statistic: Any, r: Floats) -> float:
    """A statistic of a year; NaN for a year of fewer than 20 days."""
    return float(statistic(r)) if len(r) >= 20 else float("nan")


def cost_table(ledgers: Mapping[str, Ledger]) -> pd.DataFrame:
    """Turnover, costs, and orders that were not carried out in full, by reason.

    Reasons: blocked (suspended, no price), limit (at a price limit), cut (to the allowed share of
    the volume), small (less than one lot).
    """
    rows = [
        {
            "annual_turnover": float(ledger.turnover.mean() * metrics.PERIODS_PER_YEAR / 2.0),
            "cost_share_of_initial_wealth": float(ledger.costs.sum() / ledger.initial),
            "gross_annual_return": float(metrics.annual_return(ledger.gross_returns)),
            "net_annual_return": float(metrics.annual_return(ledger.net_returns)),
            "trading_days": int((ledger.turnover > 0).sum()),
            "blocked_orders": int(ledger.blocked.sum()),
            "limit_orders": int(ledger.up_limit.sum() + ledger.down_limit.sum()),
            "cut_orders": int(ledger.cut.sum()),
            "small_orders": int(ledger.small.sum()),
            "forced_sales": int(ledger.forced_sales.sum()),
            "mean_cash": float((ledger.cash / ledger.wealth).mean()),
        }
        for ledger in ledgers.values()
    ]
    return pd.DataFrame(rows, index=pd.Index(list(ledgers), name="strategy"))


def sweep_table(runs: Mapping[tuple[str, float], HasReturns], *, over: str) -> pd.DataFrame:
    """Performance of every strategy at every value of one assumption.

    Backtests of the same decisions are given by strategy and value; `over` names the column of the
    values, such as ``cost_per_side`` or ``wealth``. cost_drag is the annual return lost to costs,
    mean_invested the share of wealth in stocks.
    """
    rows = []
    for (strategy, value), run in runs.items():
        net = float(metrics.annual_return(run.net_returns))
        rows.append(
            {
                "strategy": strategy,
                over: value,
                "annual_return": net,
                "sharpe": float(metrics.sharpe(run.excess_returns)),
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
    lags: Sequence[int],
    level: float,
    n_bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """Decay of the scores: mean Rank IC at each horizon, in trading days from the trade on.

    Arguments as in `ic_table`; Rank ICs are (n_decisions, n_horizons), by model.
    """
    rows = []
    for model, rank_ics in series.items():
        for h, horizon in enumerate(horizons):
            figures = ic_figures(
                rank_ics[:, h],
                lags=lags[h],
                level=level,
                n_bootstrap=n_bootstrap,
                seed=seed,
            )
            rows.append({"model": model, "horizon": horizon, **figures})
    columns = ["model", "horizon", "rank_ic", "rank_ic_low", "rank_ic_high", "nw_t"]
    return pd.DataFrame(rows, columns=columns)


def period_table(
    ledgers: Mapping[str, HasReturns],
    dates: npt.NDArray[np.datetime64],
    *,
    cuts: Sequence[np.datetime64] = (),
) -> pd.DataFrame:
    """Every strategy in consecutive periods of the test, by default three equal ones.

    `cuts` are the first days of all periods but the first, ascending. max_drawdown is below the
    highest wealth so far, earlier periods included.
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
                    "sharpe": float(metrics.sharpe(ledger.excess_returns[days])),
                    "var_95": float(metrics.value_at_risk(r)),
                    "max_drawdown": float(falls[days].max()),
                }
            )
    return pd.DataFrame(rows)


class HasReturns(Protocol):
    """What a table reads of a backtest: a `Ledger` or a `ReturnSeries`."""

    @property
    def net_returns(self) -> Floats:
        """Simple returns of each day after costs."""
        ...

    @property
    def gross_returns(self) -> Floats:
        """The same before that day's costs."""
        ...

    @property
    def riskless(self) -> Floats:
        """Return of cash of each day."""
        ...

    @property
    def excess_returns(self) -> Floats:
        """Net returns less those of cash: what a Sharpe ratio is of."""
        ...

    @property
    def turnover(self) -> Floats:
        """Value bought plus sold, over wealth."""
        ...

    @property
    def invested(self) -> Floats:
        """Share of wealth in stocks after each day's trades."""
        ...


@dataclass(frozen=True, eq=False)
class ReturnSeries:
    """Returns, of cash as well, turnover and share invested, (n_days,) each: no holdings."""

    net_returns: Floats
    gross_returns: Floats
    riskless: Floats
    turnover: Floats
    invested: Floats

    @property
    def excess_returns(self) -> Floats:
        """Net returns less those of cash: what a Sharpe ratio is of."""
        return np.asarray(self.net_returns - self.riskless)


def return_series(ledger: HasReturns, days: slice = slice(None)) -> ReturnSeries:
    """The series of a backtest on some of its days."""
    return ReturnSeries(
        ledger.net_returns[days],
        ledger.gross_returns[days],
        ledger.riskless[days],
        ledger.turnover[days],
        ledger.invested[days],
    )


@dataclass(frozen=True)
class DominantDay:
    """A day that makes more than a tenth of the variance of some strategies."""

    row: int  # of the tested days
    share: float  # of the variance of the first strategy, the largest
    strategies: tuple[str, ...]
    column: int  # the stock that made most of that strategy's return on the day
    move: float  # its return, a fraction


def dominant_days(ledgers: Mapping[str, Ledger], returns: Floats) -> tuple[DominantDay, ...]:
    """Days on which the result of a strategy hangs, the largest share first.

    Parameters
    ----------
    ledgers : mapping of str to Ledger
        By strategy, all over the same days.
    returns : ndarray of shape (n_days, n_assets)
        Simple returns of the stocks on these days; NaN where unknown.

    Returns
    -------
    tuple of DominantDay
        Empty where no day has more than `DOMINANT_SHARE`, or there are under `LEAST_DAYS` days.
    """
    found: dict[int, list[tuple[float, str]]] = {}
    for name, ledger in ledgers.items():
        away = (ledger.net_returns - ledger.net_returns.mean()) ** 2
        row, total = int(away.argmax()), float(away.sum())
        if len(away) >= LEAST_DAYS and row > 0 and away[row] > DOMINANT_SHARE * total:
            found.setdefault(row, []).append((float(away[row] / total), name))
    days = []
    for row, shares in found.items():
        shares.sort(key=lambda pair: -pair[0])
        share, first = shares[0]
        parts = np.nan_to_num(ledgers[first].weights[row - 1] * returns[row])
        column = int(np.abs(parts).argmax())
        names = tuple(name for _, name in shares)
        days.append(DominantDay(row, share, names, column, float(returns[row, column])))
    return tuple(sorted(days, key=lambda day: -day.share))
