"""Losses of bad days: value at risk and its conditional kin, by the conventions of `metrics`."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc

from alphakeel.errors import ConfigError
from alphakeel.stats.series import Array, Statistic, check_returns, days_last

__all__ = [
    "conditional_value_at_risk",
    "harrell_davis_weights",
    "tail_share",
    "value_at_risk",
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
