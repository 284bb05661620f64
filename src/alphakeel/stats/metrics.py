"""Performance and risk of a strategy, one formula each, with its convention.

The conventions, everywhere: `returns` are simple returns per day as fractions (0.01 is 1 %), of
shape (n_dates,) for one strategy or (n_dates, n_strategies) for several side by side; a year has
252 days; sample moments have ddof = 1; wealth is compounded from 1; losses (drawdown, VaR, CVaR)
are positive fractions. One strategy gives a number, several give an array of shape
(n_strategies,). The return of a strategy is known on every day, so a NaN is a fault upstream and
is refused. What is undefined (the Sharpe ratio of a constant) is NaN, never infinite.

Losses of bad days are in `tail_risk`, drawdowns and the path of a held portfolio in `wealth`; all
of them have their names here as well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alphakeel.errors import DataError
from alphakeel.stats.series import Array, Statistic, check_returns, ratio, refuse_ruin
from alphakeel.stats.tail_risk import (
    conditional_value_at_risk,
    harrell_davis_weights,
    tail_share,
    value_at_risk,
)
from alphakeel.stats.wealth import drawdown_series, held_path, max_drawdown, turnover

__all__ = [
    "PERIODS_PER_YEAR",
    "annual_return",
    "annual_volatility",
    "beta",
    "calmar",
    "check_returns",
    "conditional_value_at_risk",
    "drawdown_series",
    "harrell_davis_weights",
    "held_path",
    "hit_rate",
    "information_ratio",
    "max_drawdown",
    "refuse_ruin",
    "sharpe",
    "skewness",
    "sortino",
    "summary",
    "tail_share",
    "turnover",
    "value_at_risk",
]

PERIODS_PER_YEAR = 252


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
