"""Losses of bad days: value at risk and its conditional kin, by the conventions of `metrics`."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc

from alphakeel.errors import ConfigError
from alphakeel.stats.series import Array, Statistic, check_returns, days_last
from alphakeel.stats.wealth import drawdown_series

__all__ = [
    "conditional_drawdown",
    "conditional_value_at_risk",
    "cvar_rockafellar_uryasev",
    "harrell_davis_weights",
    "tail_share",
    "value_at_risk",
    "value_at_risk_harrell_davis",
]


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


def value_at_risk_harrell_davis(returns: ArrayLike, *, level: float = 0.95) -> Statistic:
    """Value at risk of one day by the quantile of Harrell and Davis.

    Minus a weighted mean of all order statistics, most of it from those near the quantile: it
    estimates the same as `value_at_risk`, moves smoothly with every return, and so has a slope
    to learn from.

    Returns
    -------
    float or ndarray of shape (n_strategies,)
        A loss as a positive fraction.

    References
    ----------
    Harrell, F. E. and Davis, C. E. (1982). A new distribution-free quantile estimator. Biometrika
    69(3), 635-640. https://doi.org/10.1093/biomet/69.3.635

    Examples
    --------
    >>> round(float(value_at_risk_harrell_davis([-0.03, -0.02, -0.01, 0.0, 0.01], level=0.75)), 4)
    0.0223
    """
    ordered = np.sort(days_last(check_returns(returns, least=1)), axis=-1)
    return -(ordered * harrell_davis_weights(ordered.shape[-1], tail_share(level))).sum(axis=-1)


@lru_cache(maxsize=64)
def harrell_davis_weights(n: int, share: float) -> Array:
    """Weights of n order statistics, smallest first, in the quantile below which `share` lies.

    The mass of a beta distribution with parameters ``(n + 1) * share`` and
    ``(n + 1) * (1 - share)`` on each n-th of [0, 1]; see `value_at_risk_harrell_davis`.

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
    coherent and equals the minimum in `cvar_rockafellar_uryasev` and `skfolio.measures.cvar`.

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
    return _tail_mean(-days_last(check_returns(returns, least=1)), level)


def cvar_rockafellar_uryasev(
    returns: ArrayLike, *, level: float = 0.95, threshold: float | None = None
) -> Statistic:
    """Objective of Rockafellar and Uryasev, ``c + mean(max(-r - c, 0)) / (1 - level)``.

    Parameters
    ----------
    returns : array of shape (n_dates,) or (n_dates, n_strategies)
        Simple returns per day, fractions.
    level : float, default=0.95
        Confidence, in (0, 1).
    threshold : float, optional
        The loss c. By default the minimiser, which is an order statistic of the losses; the
        minimum is the CVaR.

    Returns
    -------
    float or ndarray of shape (n_strategies,)
        A loss as a positive fraction, never below the CVaR.

    References
    ----------
    Rockafellar, R. T. and Uryasev, S. (2000). Optimization of conditional value-at-risk. Journal
    of Risk 2(3), 21-41. https://doi.org/10.21314/JOR.2000.038

    Examples
    --------
    >>> r = [-0.03, -0.02, 0.0, 0.01, 0.02]
    >>> round(float(cvar_rockafellar_uryasev(r, level=0.7)), 6)
    0.026667
    >>> round(float(cvar_rockafellar_uryasev(r, level=0.7, threshold=0.01)), 6)
    0.03
    """
    losses = -days_last(check_returns(returns, least=1))
    share = tail_share(level)
    n = losses.shape[-1]
    cut: Array
    if threshold is None:
        # The slope in c is 1 - P(loss > c) / (1 - level): it turns where that share is reached.
        above = min(int(share * n), n - 1)
        cut = np.partition(losses, n - 1 - above, axis=-1)[..., n - 1 - above]
    else:
        cut = np.full(losses.shape[:-1], float(threshold))
    return cut + np.maximum(losses - cut[..., None], 0.0).mean(axis=-1) / share


def conditional_drawdown(returns: ArrayLike, *, level: float = 0.95) -> Statistic:
    """Conditional drawdown at risk: the mean of the worst ``1 - level`` share of the drawdowns.

    The drawdowns are those of `drawdown_series`, one a day; level -> 1 gives the maximum.

    References
    ----------
    Chekhlov, A., Uryasev, S. and Zabarankin, M. (2005). Drawdown measure in portfolio
    optimization. International Journal of Theoretical and Applied Finance 8, 13-58.
    https://doi.org/10.1142/S0219024905002767

    Examples
    --------
    >>> round(float(conditional_drawdown([0.10, -0.50, 0.20], level=0.5)), 4)
    0.4667
    """
    return _tail_mean(days_last(drawdown_series(returns)), level)


def _tail_mean(losses: Array, level: float) -> Statistic:
    """Mean of the largest ``1 - level`` share along the last axis, the last day in part."""
    n = losses.shape[-1]
    mass = tail_share(level) * n
    whole = min(int(mass), n)
    if whole == n:
        return losses.mean(axis=-1)
    first = n - 1 - whole
    worst = np.sort(np.partition(losses, first, axis=-1)[..., first:], axis=-1)
    return (worst[..., 1:].sum(axis=-1) + (mass - whole) * worst[..., 0]) / mass
