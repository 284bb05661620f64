"""Performance and risk of a strategy, one formula each, with its convention.

`returns` are simple returns per day as fractions (0.01 is 1 %), of shape (n_dates,) for one
strategy, which gives a number, or (n_dates, n_strategies), which give an array of shape
(n_strategies,). A year has 252 days; sample moments have ddof = 1; wealth is compounded from 1;
losses (drawdown, VaR, CVaR) are positive fractions. The return of a strategy is known on every
day, so a NaN is a fault upstream and is refused. What is undefined (the Sharpe ratio of a
constant) is NaN, never infinite.
"""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc

from alphakeel.errors import ConfigError, DataError

__all__ = [
    "Array",
    "PERIODS_PER_YEAR",
    "Statistic",
    "annual_return",
    "annual_volatility",
    "beta",
    "calmar",
    "check_labels",
    "check_labels_at",
    "check_level",
    "check_returns",
    "conditional_value_at_risk",
    "days_last",
    "drawdown_series",
    "harrell_davis_weights",
    "held_path",
    "hit_rate",
    "information_ratio",
    "max_drawdown",
    "ratio",
    "refuse_ruin",
    "sharpe",
    "skewness",
    "sortino",
    "summary",
    "tail_share",
    "turnover",
    "value_at_risk",
]

Array = NDArray[np.float64]

PERIODS_PER_YEAR = 252

Statistic: TypeAlias = np.float64 | Array


def annual_return(returns: ArrayLike, *, periods_per_year: float = PERIODS_PER_YEAR) -> Statistic:
    """Compound annual growth rate, ``prod(1 + r) ** (252 / n) - 1``."""
    r = check_returns(returns, least=1)
    refuse_ruin(r)
    with np.errstate(divide="ignore"):  # a return of -1 ends at zero wealth: -100 % a year
        growth = np.log1p(r).sum(axis=0)
    return np.expm1(growth * (periods_per_year / len(r)))


def annual_volatility(
    returns: ArrayLike, *, periods_per_year: float = PERIODS_PER_YEAR
) -> Statistic:
    """Sample standard deviation (ddof = 1) times the square root of 252."""
    return _std(check_returns(returns)) * np.sqrt(periods_per_year)


def sharpe(
    returns: ArrayLike, *, risk_free: float = 0.0, periods_per_year: float = PERIODS_PER_YEAR
) -> Statistic:
    """Annual Sharpe ratio: mean over standard deviation (ddof = 1) times the square root of 252.

    `risk_free` is the return of cash per day. Sharpe (1994),
    https://doi.org/10.3905/jpm.1994.409501.
    """
    r = check_returns(returns)
    return ratio(r.mean(axis=0) - risk_free, _std(r)) * np.sqrt(periods_per_year)


def sortino(
    returns: ArrayLike, *, target: float = 0.0, periods_per_year: float = PERIODS_PER_YEAR
) -> Statistic:
    """Annual Sortino ratio: mean above the target over downside deviation.

    NaN if no day falls short. The downside deviation is ``sqrt(mean(min(r - target, 0) ** 2))``
    over all days.
    """
    excess = check_returns(returns, least=1) - target
    shortfall = np.minimum(excess, 0.0)
    downside = np.sqrt((shortfall * shortfall).mean(axis=0))
    return ratio(excess.mean(axis=0), downside) * np.sqrt(periods_per_year)


def calmar(returns: ArrayLike, *, periods_per_year: float = PERIODS_PER_YEAR) -> Statistic:
    """Compound annual return over the maximum drawdown; NaN without a drawdown."""
    growth = annual_return(returns, periods_per_year=periods_per_year)
    return ratio(growth, max_drawdown(returns))


def hit_rate(returns: ArrayLike) -> Statistic:
    """Share of the days with a return above zero."""
    return (check_returns(returns, least=1) > 0.0).mean(axis=0)


def skewness(returns: ArrayLike) -> Statistic:
    """Third central moment over the cubed standard deviation (both ddof = 0); NaN if constant."""
    r = check_returns(returns)
    deviation = r - r.mean(axis=0)
    variance = np.where(_constant(r), 0.0, (deviation * deviation).mean(axis=0))
    return ratio((deviation * deviation * deviation).mean(axis=0), variance**1.5)


def beta(returns: ArrayLike, benchmark: ArrayLike) -> Statistic:
    """Slope of the returns on the benchmark's, ``cov(r, b) / var(b)``; NaN if b is constant."""
    r, b = check_returns(returns), _benchmark(benchmark, returns)
    deviation = b - b.mean()
    square = 0.0 if _constant(b) else float(deviation @ deviation)
    return ratio(deviation @ (r - r.mean(axis=0)), square)


def information_ratio(
    returns: ArrayLike, benchmark: ArrayLike, *, periods_per_year: float = PERIODS_PER_YEAR
) -> Statistic:
    """Annual Sharpe ratio of the returns less the benchmark's, day by day."""
    r, b = check_returns(returns), _benchmark(benchmark, returns)
    return sharpe(r - (b if r.ndim == 1 else b[:, None]), periods_per_year=periods_per_year)


def summary(
    returns: ArrayLike,
    benchmark: ArrayLike | None = None,
    turnover: ArrayLike | None = None,
    *,
    riskless: ArrayLike | None = None,
) -> dict[str, float]:
    """Every figure of one strategy, by name; a benchmark adds `beta` and `information_ratio`.

    `turnover` (the share of wealth traded per day) adds `annual_turnover`, its mean times 252.
    The Sharpe ratio is of the returns less `riskless`, the return of cash of each day.
    """
    check_labels(returns=returns, benchmark=benchmark, turnover=turnover, riskless=riskless)
    r = check_returns(returns)
    if r.ndim != 1:
        raise DataError(f"summary takes the returns of one strategy, got shape {r.shape}.")
    figures: dict[str, Statistic] = {
        "annual_return": annual_return(r),
        "annual_volatility": annual_volatility(r),
        "sharpe": sharpe(r if riskless is None else r - np.asarray(riskless)),
        "sortino": sortino(r),
        "max_drawdown": max_drawdown(r),
        "calmar": calmar(r),
        "var_95": value_at_risk(r),
        "cvar_95": conditional_value_at_risk(r),
        "skewness": skewness(r),
        "hit_rate": hit_rate(r),
    }
    if benchmark is not None:
        figures["beta"] = beta(r, benchmark)
        figures["information_ratio"] = information_ratio(r, benchmark)
    if turnover is not None:
        traded = check_returns(turnover, least=1, name="turnover")
        figures["annual_turnover"] = traded.mean(axis=0) * PERIODS_PER_YEAR
    return {name: float(value) for name, value in figures.items()}


def _benchmark(benchmark: ArrayLike, returns: ArrayLike) -> Array:
    check_labels(returns=returns, benchmark=benchmark)
    b = check_returns(benchmark, name="benchmark")
    if b.shape != (len(np.asarray(returns)),):
        raise DataError(
            f"benchmark has shape {b.shape}; the returns cover {len(np.asarray(returns))} days."
        )
    return b


def _constant(r: Array) -> NDArray[np.bool_]:
    # By range: the standard deviation of equal numbers may come out as a rounding error.
    return np.asarray(r.max(axis=0) == r.min(axis=0))


def _std(r: Array) -> Array:
    return np.where(_constant(r), 0.0, r.std(axis=0, ddof=1))


def drawdown_series(returns: ArrayLike) -> Array:
    """Loss since the highest wealth so far, day by day; the start counts as wealth 1.

    A positive fraction, 0 at a new high. The value of a day depends on the past alone.
    """
    r = check_returns(returns, least=1)
    refuse_ruin(r)
    wealth = np.cumprod(1.0 + r, axis=0)
    peak = np.maximum.accumulate(np.maximum(wealth, 1.0), axis=0)
    return 1.0 - wealth / peak


def max_drawdown(returns: ArrayLike) -> Statistic:
    """Largest loss from a peak of compounded wealth, a positive fraction."""
    return np.max(drawdown_series(returns), axis=0)


def turnover(weights: ArrayLike, previous: ArrayLike | None = None) -> Array:
    """Sum of absolute changes of weights at each step, from `previous` (cash by default).

    Both sides count: replacing the whole portfolio is a turnover of 2. Drift of the weights by
    returns is not undone here; the ledger of a backtest does that.
    """
    w = check_returns(weights, least=1, name="weights")
    if w.ndim != 2:
        raise DataError(f"weights must have shape (n_dates, n_assets), got {w.shape}.")
    names: Any = getattr(weights, "columns", None)
    known: Any = getattr(previous, "index", None)
    if hasattr(names, "equals") and hasattr(known, "equals") and not names.equals(known):
        raise DataError("weights and previous weights name other stocks, or in another order.")
    before = np.zeros(w.shape[1]) if previous is None else np.asarray(previous, dtype=np.float64)
    if before.shape != w.shape[1:]:
        raise DataError(f"previous weights have shape {before.shape}; expected {w.shape[1:]}.")
    return np.abs(np.diff(w, axis=0, prepend=before[None])).sum(axis=1)


def held_path(
    weights: ArrayLike,
    returns: ArrayLike,
    *,
    cost_per_side: float = 0.0,
    held: NDArray[np.bool_] | None = None,
) -> tuple[Array, Array]:
    """Daily net returns of a portfolio that is rebalanced every few days and drifts in between.

    `weights` (n_steps, n_assets) are held after each step's trade, the rest is cash that earns
    nothing; `returns` are (n_steps, n_days, n_assets), NaN counts as 0. `cost_per_side` is taken
    from wealth before the first day of a step. Of a step that is shorter than the longest the last
    days do not count: there `held` (n_steps, n_days) is False, and returns are 0. The turnover of a
    step is the sum of absolute trades over wealth, both sides, against the weights as they drifted;
    the first trade comes from cash.

    Examples
    --------
    >>> net, traded = held_path([[1.0], [0.5]], [[[0.1], [0.0]], [[0.2], [0.2]]])
    >>> net.round(4), traded
    (array([0.1   , 0.    , 0.1   , 0.1091]), array([1. , 0.5]))
    """
    w, r = np.asarray(weights, dtype=np.float64), np.asarray(returns, dtype=np.float64)
    if w.ndim != 2 or r.ndim != 3 or w.shape != (r.shape[0], r.shape[2]):
        raise DataError(
            f"weights {w.shape} and returns {r.shape} do not fit: give (n_steps, n_assets) and "
            "(n_steps, n_days, n_assets)."
        )
    growth = np.cumprod(1.0 + np.where(np.isfinite(r), r, 0.0), axis=1)
    # Matrix products, date by date; the cash beside the stocks keeps its value.
    value = 1.0 + np.matmul(growth - 1.0, w[:, :, None])[..., 0]
    drifted = w * growth[:, -1] / np.where(value[:, -1:] > 0.0, value[:, -1:], 1.0)
    before = np.concatenate([np.zeros((1, w.shape[1])), drifted[:-1]])
    traded = np.abs(w - before).sum(axis=1)
    previous = np.concatenate([np.ones((len(value), 1)), value[:, :-1]], axis=1)
    gains = value / np.where(previous > 0.0, previous, 1.0)
    gains[:, 0] *= 1.0 - cost_per_side * traded
    net = gains - 1.0
    return (net.ravel() if held is None else net[held]), traded


def check_labels(**values: Any) -> None:
    """Refuse pandas arguments whose rows, or whose columns, are not the same, in the same order.

    Numbers are taken by position: labels that differ would be dropped without a word. What is no
    Series or DataFrame has no labels.

    Examples
    --------
    >>> import pandas as pd
    >>> returns = pd.Series([0.1, 0.2], index=["2015-01-02", "2015-01-05"])
    >>> check_labels(returns=returns, benchmark=returns.to_numpy())
    """
    for axis in ("index", "columns"):
        given: dict[str, Any] = {name: getattr(v, axis, None) for name, v in values.items()}
        labelled = {name: labels for name, labels in given.items() if hasattr(labels, "equals")}
        names = list(labelled)
        for other in names[1:]:
            one, two = labelled[names[0]], labelled[other]
            if one.equals(two):
                continue
            rows = "rows" if axis == "index" else "columns"
            differ = [k for k, (a, b) in enumerate(zip(one, two, strict=False)) if a != b]
            at = f", first {one[differ[0]]} and {two[differ[0]]}" if differ else ""
            raise DataError(
                f"{names[0]} and {other} do not have the same {rows} ({len(one)} and "
                f"{len(two)}{at}): give both on the same labels, as reindex does."
            )


def check_labels_at(rows: ArrayLike, returns: Any, **decided: Any) -> None:
    """Refuse pandas arguments by decision whose days are not those `rows` of `returns`.

    As `check_labels`, stocks too; of rows that do not exist the caller speaks.

    Examples
    --------
    >>> import pandas as pd
    >>> returns = pd.DataFrame({"A": [0.1, 0.2]}, index=["2015-01-02", "2015-01-05"])
    >>> check_labels_at([1], returns, weights=returns.iloc[[1]])
    """
    at = np.asarray(rows)
    labels = SimpleNamespace(columns=getattr(returns, "columns", None))
    days: Any = getattr(returns, "index", None)
    if hasattr(days, "equals") and at.dtype.kind in "iu" and at.size and at.max() < len(days):
        labels.index = days[at]
    check_labels(returns=labels, **decided)


def check_level(level: float) -> None:
    """Refuse a confidence outside (0, 1)."""
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level must lie between 0 and 1 (0.95 is 95 %), got {level!r}.")


def tail_share(level: float) -> float:
    """Share of the days beyond a confidence, ``1 - level``."""
    check_level(level)
    # Twelve digits: 1 - 0.95 is 0.05 and a bit, which would shift the order statistic.
    return round(1.0 - level, 12)


def value_at_risk(returns: ArrayLike, *, level: float = 0.95) -> Statistic:
    """Historical value at risk of one day: minus the ``1 - level`` quantile of the returns.

    Interpolated linearly between order statistics, type 7 of Hyndman and Fan (1996),
    https://doi.org/10.1080/00031305.1996.10473566; `skfolio.measures.value_at_risk` takes the order
    statistic above instead.
    """
    columns = days_last(check_returns(returns, least=1))
    position = tail_share(level) * (columns.shape[-1] - 1)
    low = int(position)
    high = min(low + 1, columns.shape[-1] - 1)
    ordered = np.partition(columns, (low, high), axis=-1)
    # Two weights rather than one difference: a + w * (b - a) loses its last bits to cancellation.
    weight = position - low
    quantile = (1.0 - weight) * ordered[..., low] + weight * ordered[..., high]
    return -quantile


@lru_cache(maxsize=64)
def harrell_davis_weights(n: int, share: float) -> Array:
    """Weights of n order statistics, smallest first, in the quantile below which `share` lies.

    The mass of a beta distribution with parameters ``(n + 1) * share`` and
    ``(n + 1) * (1 - share)`` on each n-th of [0, 1]. Such a quantile moves smoothly with every
    value, and so has a slope to learn from. Harrell and Davis (1982),
    https://doi.org/10.1093/biomet/69.3.635.
    """
    edges = np.arange(n + 1) / n
    weights = np.diff(betainc((n + 1) * share, (n + 1) * (1.0 - share), edges))
    weights.setflags(write=False)  # the cache hands the same array to everybody
    return weights


def conditional_value_at_risk(returns: ArrayLike, *, level: float = 0.95) -> Statistic:
    """Historical expected shortfall: the mean of the worst ``1 - level`` share of the days.

    A share that is not a whole number of days takes the next day in part, so the figure is coherent
    (Acerbi and Tasche 2002, https://doi.org/10.1016/S0378-4266(02)00283-2), as
    `skfolio.measures.cvar`.
    """
    losses = -days_last(check_returns(returns, least=1))
    n = losses.shape[-1]
    mass = tail_share(level) * n
    whole = min(int(mass), n)
    if whole == n:
        return losses.mean(axis=-1)
    first = n - 1 - whole
    worst = np.sort(np.partition(losses, first, axis=-1)[..., first:], axis=-1)
    return (worst[..., 1:].sum(axis=-1) + (mass - whole) * worst[..., 0]) / mass


def check_returns(values: ArrayLike, *, least: int = 2, name: str = "returns") -> Array:
    """One or several series as finite float64, long enough; refused where a value is missing."""
    r = np.asarray(values, dtype=np.float64)
    if r.ndim not in (1, 2):
        raise DataError(
            f"{name} must have shape (n_dates,) or (n_dates, n_columns), got {r.shape}."
        )
    if len(r) < least:
        raise DataError(f"{name} cover {len(r)} days; at least {least} are needed.")
    known = np.isfinite(r)
    if not known.all():
        where = tuple(int(i) for i in np.argwhere(~known)[0])
        raise DataError(
            f"{name} hold {r[where]} at row {where[0]}"
            + (f", column {where[1]}" if r.ndim == 2 else "")
            + "; every day of a strategy must be known: fill or cut it before measuring."
        )
    return r


def refuse_ruin(r: Array) -> None:
    """Refuse a loss of more than everything, through which wealth cannot be compounded."""
    if r.size and r.min() < -1.0:
        row = int(np.argwhere(r < -1.0)[0][0])
        raise DataError(
            f"returns fall below -1 at row {row} ({r.min()}): wealth cannot be compounded "
            "through a loss of more than everything."
        )


def ratio(numerator: Statistic, denominator: Statistic | float) -> Statistic:
    """Quotient, NaN over a zero."""
    bottom = np.asarray(denominator, dtype=np.float64)
    safe = np.where(bottom != 0.0, bottom, 1.0)
    return np.where(bottom != 0.0, numerator / safe, np.nan)[()]


def days_last(r: Array) -> Array:
    """Days last and contiguous: NumPy sorts that axis several times as fast."""
    return np.ascontiguousarray(r.T)
