"""Exposure that a forecast of risk allows under a limit: the formulas, for NumPy and for torch.

The array library comes as the argument `xp`, so that a backtest and the training of a network
cannot go by different rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from alphakeel.stats.performance import PERIODS_PER_YEAR

__all__ = [
    "HALFLIFE",
    "LIMITED",
    "MIN_DAYS",
    "WINDOW",
    "CompositionRisk",
    "ceiling_of",
    "drawdown_rate",
]

# Days of past returns of a composition; half-life of its volatility; days needed for a forecast.
WINDOW, HALFLIFE, MIN_DAYS = 250, 15.0, 40
# The cushion of a drawdown limit bears a loss of this many standard deviations of so many days: the
# exposure is cut at every decision, but prices may gap, and the cut itself comes late.
CUSHION_SIGMAS, CUSHION_DAYS = 4.0, 20
# Limits that an allowance keeps, in this order.
LIMITED = ("volatility", "var_95", "cvar_95", "max_drawdown")


class CompositionRisk(NamedTuple):
    """Daily risk of fully held compositions: arrays of one shape; NaN where too little is known.

    Attributes
    ----------
    volatility : ndarray or Tensor
        Standard deviation of a day, exponentially weighted.
    usual : ndarray or Tensor
        The same with equal weights over the window.
    var, cvar : ndarray or Tensor
        95 % value at risk and expected shortfall of a day.
    """

    volatility: Any
    usual: Any
    var: Any
    cvar: Any


def ceiling_of(
    xp: Any, risk: CompositionRisk, limits: Mapping[str, float], factors: Mapping[str, Any]
) -> Any:
    """Largest exposure in [0, 1] with which the forecast of every limited risk meets its limit.

    0 where the risk is unknown (NaN). A factor says how much larger than forecast a risk is.
    """
    forecasts = {
        "volatility": risk.volatility * PERIODS_PER_YEAR**0.5,
        "var_95": risk.var,
        "cvar_95": risk.cvar,
    }
    ceiling = xp.where(xp.isnan(risk.volatility), 0.0, xp.ones_like(risk.volatility))
    for name, forecast in forecasts.items():
        if name in limits:
            # A forecast of a gain even in the tail, or of no risk at all, limits nothing.
            positive = forecast > 0.0
            allowed = limits[name] / (factors[name] * xp.where(positive, forecast, 1.0))
            known = xp.where(positive, allowed, xp.ones_like(ceiling))
            allowed = xp.where(xp.isnan(forecast), xp.zeros_like(ceiling), known)
            ceiling = xp.minimum(ceiling, allowed)
    return ceiling


def drawdown_rate(xp: Any, risk: CompositionRisk, factor: Any) -> Any:
    """Exposure that each unit of cushion bears: 0 where the risk is unknown.

    One over the loss that the composition may make until the exposure is cut, by the larger of
    today's volatility and the usual one, since gaps come out of calm days as well.
    """
    sigma = xp.maximum(risk.volatility, risk.usual)
    positive = sigma > 0.0
    loss = factor * CUSHION_SIGMAS * CUSHION_DAYS**0.5 * xp.where(positive, sigma, 1.0)
    return xp.where(positive, 1.0 / loss, xp.where(xp.isnan(sigma), 0.0, 1e3))
