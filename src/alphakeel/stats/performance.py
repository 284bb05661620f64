"""Performance and risk of a strategy, one formula each, with its convention.

The conventions, everywhere: `returns` are simple returns per day as fractions (0.01 is 1 %), of
shape (n_dates,) for one strategy or (n_dates, n_strategies) for several side by side; a year has
252 days; sample moments have ddof = 1; wealth is compounded from 1; losses (drawdown, VaR, CVaR)
are positive fractions. One strategy gives a number, several give an array of shape
(n_strategies,). The return of a strategy is known on every day, so a NaN is a fault upstream and
is refused. What is undefined (the Sharpe ratio of a constant) is NaN, never infinite.

Paths of wealth and of weights: drawdowns, trades, and what holding a portfolio earns.

Losses of bad days: value at risk and its conditional kin, by the conventions above.

What figures of daily returns share: the form returns have to have, and a safe quotient.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

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
    """Compound annual growth rate, ``prod(1 + r) ** (252 / n) - 1``.

    Examples
    --------
    >>> round(float(annual_return([0.001] * 252)), 4)
    0.2864
    """
    r = check_returns(returns, least=1)
    refuse_ruin(r)
    with np.errstate(divide="ignore"):  # a return of -1 ends at zero wealth: -100 % a year
        growth = np.log1p(r).sum(axis=0)
    return np.expm1(growth * (periods_per_year / len(r)))


def annual_volatility(
    returns: ArrayLike, *, periods_per_year: float = PERIODS_PER_YEAR
) -> Statistic:
    """Sample standard deviation (ddof = 1) times the square root of 252.

    Examples
    --------
    >>> round(float(annual_volatility([0.01, -0.01, 0.01, -0.01])), 4)
    0.1833
    """
    return _std(check_returns(returns)) * np.sqrt(periods_per_year)


def sharpe(
    returns: ArrayLike, *, risk_free: float = 0.0, periods_per_year: float = PERIODS_PER_YEAR
) -> Statistic:
    """Annual Sharpe ratio: mean over standard deviation (ddof = 1) times the square root of 252.

    Parameters
    ----------
    returns : array of shape (n_dates,) or (n_dates, n_strategies)
        Simple returns per day, fractions.
    risk_free : float, default=0.0
        Return of cash per day, fraction.
    periods_per_year : float, default=252

    Returns
    -------
    float or ndarray of shape (n_strategies,)
        NaN where the returns are constant.

    References
    ----------
    Sharpe, W. F. (1994). The Sharpe ratio. Journal of Portfolio Management 21(1), 49-58.
    https://doi.org/10.3905/jpm.1994.409501

    Examples
    --------
    >>> round(float(sharpe([0.01, -0.005, 0.01, 0.005])), 3)
    11.225
    """
    r = check_returns(returns)
    return ratio(r.mean(axis=0) - risk_free, _std(r)) * np.sqrt(periods_per_year)


def sortino(
    returns: ArrayLike, *, target: float = 0.0, periods_per_year: float = PERIODS_PER_YEAR
) -> Statistic:
    """Annual Sortino ratio: mean above the target over downside deviation.

    The downside deviation is the root of the mean square shortfall under the target over all
    days, ``sqrt(mean(min(r - target, 0) ** 2))``. NaN if no day falls short.

    Examples
    --------
    >>> round(float(sortino([0.01, -0.005, 0.01, 0.005])), 3)
    31.749
    """
    excess = check_returns(returns, least=1) - target
    shortfall = np.minimum(excess, 0.0)
    downside = np.sqrt((shortfall * shortfall).mean(axis=0))
    return ratio(excess.mean(axis=0), downside) * np.sqrt(periods_per_year)


def calmar(returns: ArrayLike, *, periods_per_year: float = PERIODS_PER_YEAR) -> Statistic:
    """Compound annual return over the maximum drawdown; NaN without a drawdown.

    Examples
    --------
    >>> round(float(calmar([0.10, -0.50, 0.90], periods_per_year=3)), 3)
    0.09
    """
    growth = annual_return(returns, periods_per_year=periods_per_year)
    return ratio(growth, max_drawdown(returns))


def hit_rate(returns: ArrayLike) -> Statistic:
    """Share of the days with a return above zero.

    Examples
    --------
    >>> float(hit_rate([0.01, 0.0, -0.01, 0.02]))
    0.5
    """
    return (check_returns(returns, least=1) > 0.0).mean(axis=0)


def skewness(returns: ArrayLike) -> Statistic:
    """Third central moment over the cubed standard deviation (both ddof = 0); NaN if constant.

    Examples
    --------
    >>> round(float(skewness([-0.03, 0.01, 0.01, 0.01])), 3)
    -1.155
    """
    r = check_returns(returns)
    deviation = r - r.mean(axis=0)
    variance = np.where(_constant(r), 0.0, (deviation * deviation).mean(axis=0))
    return ratio((deviation * deviation * deviation).mean(axis=0), variance**1.5)


def beta(returns: ArrayLike, benchmark: ArrayLike) -> Statistic:
    """Slope of the returns on the benchmark's, ``cov(r, b) / var(b)``; NaN if b is constant.

    Parameters
    ----------
    returns : array of shape (n_dates,) or (n_dates, n_strategies)
    benchmark : array of shape (n_dates,)
        Both simple returns per day on the same days.

    Examples
    --------
    >>> round(float(beta([0.02, -0.01, 0.03], [0.01, -0.005, 0.015])), 6)
    2.0
    """
    r, b = check_returns(returns), _benchmark(benchmark, returns)
    deviation = b - b.mean()
    square = 0.0 if _constant(b) else float(deviation @ deviation)
    return ratio(deviation @ (r - r.mean(axis=0)), square)


def information_ratio(
    returns: ArrayLike, benchmark: ArrayLike, *, periods_per_year: float = PERIODS_PER_YEAR
) -> Statistic:
    """Annual Sharpe ratio of the returns less the benchmark's, day by day.

    Examples
    --------
    >>> round(float(information_ratio([0.02, 0.0, 0.01], [0.01, 0.0, 0.0])), 3)
    18.33
    """
    r, b = check_returns(returns), _benchmark(benchmark, returns)
    return sharpe(r - (b if r.ndim == 1 else b[:, None]), periods_per_year=periods_per_year)


def summary(
    returns: ArrayLike, benchmark: ArrayLike | None = None, turnover: ArrayLike | None = None
) -> dict[str, float]:
    """Every figure of one strategy.

    Parameters
    ----------
    returns : array of shape (n_dates,)
        Simple returns per day, fractions.
    benchmark : array of shape (n_dates,), optional
        Adds `beta` and `information_ratio`.
    turnover : array of shape (n_dates,), optional
        Share of wealth traded per day; adds `annual_turnover`, its mean times 252.

    Returns
    -------
    dict of str to float
        annual_return, annual_volatility, sharpe, sortino, max_drawdown, calmar, var_95, cvar_95,
        skewness, hit_rate, and what the options add.

    Examples
    --------
    >>> figures = summary([0.01, -0.02, 0.015, 0.0])
    >>> round(figures["max_drawdown"], 3), round(figures["hit_rate"], 3)
    (0.02, 0.5)
    """
    r = check_returns(returns)
    if r.ndim != 1:
        raise DataError(f"summary takes the returns of one strategy, got shape {r.shape}.")
    figures: dict[str, Statistic] = {
        "annual_return": annual_return(r),
        "annual_volatility": annual_volatility(r),
        "sharpe": sharpe(r),
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

    Returns
    -------
    ndarray of the shape of `returns`
        Positive fractions, 0 at a new high. The value of a day depends on the past alone.

    Examples
    --------
    >>> drawdown_series([0.10, -0.50, 0.20])
    array([0. , 0.5, 0.4])
    """
    r = check_returns(returns, least=1)
    refuse_ruin(r)
    wealth = np.cumprod(1.0 + r, axis=0)
    peak = np.maximum.accumulate(np.maximum(wealth, 1.0), axis=0)
    return 1.0 - wealth / peak


def max_drawdown(returns: ArrayLike) -> Statistic:
    """Largest loss from a peak of compounded wealth, a positive fraction.

    Examples
    --------
    >>> float(max_drawdown([0.10, -0.50, 0.20]))
    0.5
    """
    return np.max(drawdown_series(returns), axis=0)


def turnover(weights: ArrayLike, previous: ArrayLike | None = None) -> Array:
    """Share of wealth traded at each step of a path of weights: the sum of absolute changes.

    Both sides count: replacing the whole portfolio is a turnover of 2. Drift of the weights by
    returns is not undone here; the ledger of a backtest does that.

    Parameters
    ----------
    weights : array of shape (n_dates, n_assets)
        Fractions of wealth; the rest is cash.
    previous : array of shape (n_assets,), optional
        Weights before the first step; cash by default.

    Returns
    -------
    ndarray of shape (n_dates,)

    Examples
    --------
    >>> turnover([[0.5, 0.5], [1.0, 0.0], [1.0, 0.0]])
    array([1., 1., 0.])
    """
    w = check_returns(weights, least=1, name="weights")
    if w.ndim != 2:
        raise DataError(f"weights must have shape (n_dates, n_assets), got {w.shape}.")
    before = np.zeros(w.shape[1]) if previous is None else np.asarray(previous, dtype=np.float64)
    if before.shape != w.shape[1:]:
        raise DataError(f"previous weights have shape {before.shape}; expected {w.shape[1:]}.")
    return np.abs(np.diff(w, axis=0, prepend=before[None])).sum(axis=1)


def held_path(
    weights: ArrayLike, returns: ArrayLike, *, cost_per_side: float = 0.0
) -> tuple[Array, Array]:
    """Daily net returns of a portfolio that is rebalanced every few days and drifts in between.

    Parameters
    ----------
    weights : array of shape (n_steps, n_assets)
        Fractions of wealth after each step's trade; the rest is cash, which earns nothing.
    returns : array of shape (n_steps, n_days, n_assets)
        Simple returns per day from each trade to the next, fractions; NaN counts as 0 (a stock
        that is not priced keeps its value).
    cost_per_side : float, default=0.0
        Share of the value traded, taken from wealth before the first day of the step.

    Returns
    -------
    returns : ndarray of shape (n_steps * n_days,)
        Simple net returns per day.
    turnover : ndarray of shape (n_steps,)
        Sum of absolute trades over wealth, both sides, against the weights as they drifted; the
        first trade comes from cash.

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
    return (gains - 1.0).ravel(), traded


def tail_share(level: float) -> float:
    """Share of the days beyond a confidence, ``1 - level``."""
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level must lie between 0 and 1 (0.95 is 95 %), got {level!r}.")
    # Twelve digits: 1 - 0.95 is 0.05 and a bit, which would shift the order statistic.
    return round(1.0 - level, 12)


def value_at_risk(returns: ArrayLike, *, level: float = 0.95) -> Statistic:
    """Historical value at risk of one day: minus the (1 - level) quantile of the returns.

    Parameters
    ----------
    returns : array of shape (n_dates,) or (n_dates, n_strategies)
        Simple returns per day, fractions.
    level : float, default=0.95
        Confidence, in (0, 1).

    Returns
    -------
    float or ndarray of shape (n_strategies,)
        A loss as a positive fraction (negative if even the quantile is a gain). The quantile is
        interpolated linearly between order statistics, type 7 of Hyndman and Fan and NumPy's
        default; `skfolio.measures.value_at_risk` takes the order statistic above instead.

    References
    ----------
    Hyndman, R. J. and Fan, Y. (1996). Sample quantiles in statistical packages. The American
    Statistician 50, 361-365. https://doi.org/10.1080/00031305.1996.10473566

    Examples
    --------
    >>> round(float(value_at_risk([-0.03, -0.02, -0.01, 0.0, 0.01], level=0.75)), 6)
    0.02
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
    value, and so has a slope to learn from.

    References
    ----------
    Harrell, F. E. and Davis, C. E. (1982). A new distribution-free quantile estimator. Biometrika
    69(3), 635-640. https://doi.org/10.1093/biomet/69.3.635

    Examples
    --------
    >>> harrell_davis_weights(3, 0.5).round(3)
    array([0.259, 0.481, 0.259])
    """
    edges = np.arange(n + 1) / n
    weights = np.diff(betainc((n + 1) * share, (n + 1) * (1.0 - share), edges))
    weights.setflags(write=False)  # the cache hands the same array to everybody
    return weights


def conditional_value_at_risk(returns: ArrayLike, *, level: float = 0.95) -> Statistic:
    """Historical expected shortfall: the mean of the worst ``1 - level`` share of the days.

    A share that is not a whole number of days takes the next day in part, so the figure is
    coherent and equals the minimum of Rockafellar and Uryasev's (2000) objective, as
    `skfolio.measures.cvar` does.

    Returns
    -------
    float or ndarray of shape (n_strategies,)
        A loss as a positive fraction.

    References
    ----------
    Acerbi, C. and Tasche, D. (2002). On the coherence of expected shortfall. Journal of Banking &
    Finance 26, 1487-1503. https://doi.org/10.1016/S0378-4266(02)00283-2

    Examples
    --------
    >>> round(float(conditional_value_at_risk([-0.03, -0.02, 0.0, 0.01, 0.02], level=0.7)), 6)
    0.026667
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
