r"""Safety factors of limits from out-of-fold paths: conformal risk control.

Exposure under a limit is the limit over a forecast of risk (`models.exposure`). How far forecasts
fall short is measured on blocks of the training rows, each held by networks that were fitted on the
others: never on the path that was fitted. A loss :math:`\ell_i(c)` that falls with the factor c is
watched on n days; the factor taken is the smallest with

.. math:: \frac{1}{n + 1} \Bigl( \sum_i \ell_i(c) + B \Bigr) \le \alpha

where B is the largest that a loss can be. Its expectation on a further day, exchangeable with
those, is then at most :math:`\alpha` (Angelopoulos, Bates, Fisch, Lei, Schuster, 2022,
https://arxiv.org/abs/2208.02814). Volatility has that bound on squared returns, and no
out-of-fold year above its limit by more than a twentieth; for the drawdown, of which there are
too few to bound an expectation, the factor is the smallest with which the whole path keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from alphakeel.models.allocation_network import PathData, PathLimits
from alphakeel.models.constrained_training import Exposure, growth_of, path_risk
from alphakeel.stats.drawdown_control import window_drawdown
from alphakeel.stats.exposure_rules import LIMITED, CompositionRisk
from alphakeel.stats.performance import annual_volatility, held_path

__all__ = ["by_limit", "find_factors", "smallest_factor"]

Floats = NDArray[np.float64]

# A factor never makes a limit looser than the forecast does; above the largest it says nothing.
LEAST, MOST = 1.0, 3.0
HALVINGS = 12
TAIL = 0.05
# The volatility of every year of the out-of-fold path stays within this multiple of its limit.
YEAR, YEARLY_SLACK = 252, 1.05
# Largest loss of one day: squares of 5 standard deviations, and 3 times the expected shortfall.
LARGEST_SQUARE, LARGEST_SHORTFALL = 25.0, 3.0


def find_factors(
    shares: Floats, data: PathData, limits: PathLimits, *, lag: int, cost_per_side: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Safety factors of an out-of-fold path, and what it realises with them, both by limit.

    `shares` (n_dates, n_assets) are compositions of networks that were not fitted on their row.
    """
    active = limits.active()
    factors = {name: 1.0 for name in LIMITED if name in active}
    risk = CompositionRisk(*(part[:, 0] for part in path_risk(shares, data)))
    daily = _fully_held(shares, data)
    for name in factors:
        if name != "max_drawdown":
            factors[name] = _tail_factor(name, daily, risk, data.held)

    def realised(**changed: float) -> tuple[Floats, Floats]:
        exposure = Exposure(active, {**factors, **changed}, lag, cost_per_side)
        weights = shares * exposure.of_path(shares, data)[:, None]
        return held_path(weights, data.returns, cost_per_side=cost_per_side, held=data.held)

    def worst_year(factor: float) -> float:
        path = realised(volatility=factor)[0]
        starts = range(0, max(1, len(path) - YEAR // 2), YEAR)
        return max(float(annual_volatility(path[k : k + YEAR])) for k in starts)

    def worst_fall(factor: float) -> float:
        return float(window_drawdown(realised(max_drawdown=factor)[0]).max())

    if "volatility" in factors:
        most = YEARLY_SLACK * active["volatility"]
        factors["volatility"] = _smallest(
            lambda c: worst_year(c) <= most, least=factors["volatility"]
        )
    if "max_drawdown" in factors:
        factors["max_drawdown"] = _smallest(lambda c: worst_fall(c) <= active["max_drawdown"])
    return factors, limits.measure(*realised())


def _fully_held(shares: Floats, data: PathData) -> Floats:
    """Daily returns of the compositions without exposure or cost, (n_dates, n_days).

    0 on the days after a shorter step.
    """
    value = 1.0 + np.einsum("tdn,tn->td", growth_of(data.returns).numpy(), shares)
    before = np.concatenate([np.ones((len(value), 1)), value[:, :-1]], axis=1)
    return np.asarray(value / np.where(before > 0.0, before, 1.0) - 1.0)


def _tail_factor(
    name: str, daily: Floats, risk: CompositionRisk, held: NDArray[np.bool_] | None
) -> float:
    """Factor of a limit on volatility, VaR or CVaR, from returns in units of their forecast."""
    volatility, _, var, cvar = (np.asarray(part, dtype=np.float64)[:, None] for part in risk)
    known = np.isfinite(volatility) & (volatility > 0.0) & (var > 0.0) & (cvar > 0.0)
    days = np.repeat(known, daily.shape[1], axis=1)
    if held is not None:
        days &= held
    if not days.any():
        return LEAST

    def over(forecast: Floats) -> Floats:
        return np.asarray(daily[days] / np.broadcast_to(forecast, daily.shape)[days])

    if name == "volatility":
        squares = np.square(over(volatility))
        return smallest_factor(lambda c: squares / (c * c), LARGEST_SQUARE, 1.0)
    if name == "var_95":
        return smallest_factor(lambda c: over(var) < -c, 1.0, TAIL)
    exceeded = over(var)
    shortfall = -over(cvar)
    return smallest_factor(
        lambda c: np.where(exceeded < -c, shortfall / c, 0.0) / TAIL, LARGEST_SHORTFALL / TAIL, 1.0
    )


def smallest_factor(
    losses: Callable[[float], NDArray[np.generic]], largest: float, target: float
) -> float:
    """Smallest factor in [`LEAST`, `MOST`] whose bound on the expected loss is at most `target`.

    `losses` gives those of all days at a factor; they count up to `largest`.

    Examples
    --------
    >>> squares = np.full(99, 1.5)
    >>> round(smallest_factor(lambda c: squares / c, largest=2.0, target=1.0), 2)
    1.52
    """

    def holds(factor: float) -> bool:
        own = np.minimum(losses(factor).astype(np.float64), largest)
        return bool((own.sum() + largest) / (len(own) + 1) <= target)

    return _smallest(holds)


def _smallest(holds: Callable[[float], bool], least: float = LEAST) -> float:
    """Smallest factor at which a condition holds that stays true from there on; else `MOST`."""
    if holds(least):
        return least
    low, high = least, MOST
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def by_limit(
    limits: PathLimits,
    trained: Mapping[str, float],
    promised: Mapping[str, float] | None,
    factors: Mapping[str, float],
) -> dict[str, dict[str, float]]:
    """One record for each limit: what is allowed, trained, promised, and the safety factor."""
    nan = float("nan")
    return {
        name: {
            "limit": limit,
            "trained": trained[name],
            "promised": nan if promised is None else promised[name],
            "safety": factors.get(name, nan),
        }
        for name, limit in limits.active().items()
    }
