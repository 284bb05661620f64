"""What a portfolio may be, what one decision knows, and by how much weights break a limit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError
from alphakeel.portfolio.covariance import FactorCovariance

__all__ = [
    "PERIODS",
    "TOLERANCE",
    "Decision",
    "Limits",
    "bound_of",
    "breaches",
    "measure",
    "scenario_tail",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# Trading days a year: volatility limits are annual, everything else is per day.
PERIODS = 252.0
# Solvers stop within 1e-7 of a bound; more than this is a broken limit.
TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of every decision; None switches one off.

    Attributes
    ----------
    weight_cap : float, default=0.1
        Largest weight of a stock (its size, for shorts).
    volatility_limit : float, optional
        Largest forecast volatility of the portfolio, a year.
    cvar_limit, var_limit : float, optional
        Largest loss of a day in the tail of the scenarios, as a positive fraction: its mean
        beyond, and at, the `confidence` quantile. VaR is held by holding CVaR (never smaller)
        under the same number.
    confidence : float, default=0.95
        Level of both.
    drawdown_limit : float, optional
        Largest fall from a peak of the running sum of the scenarios' returns in their order.
    sector_limit : float, optional
        Largest deviation of a sector from its share among the eligible stocks, scaled to what
        is invested (so that cash deviates from nothing).
    max_names : int, optional
        Most stocks held.
    turnover_limit : float, optional
        Most bought plus sold at one decision, as a share of wealth: 2 replaces everything.
    invested : float, default=0.0
        Least share of wealth in stocks; the rest is cash. Long-only.
    neutral : {"dollar", "beta"}, optional
        Allow shorts: longs equal shorts in money, or in market beta.
    gross : float, default=2.0
        Longs plus shorts over wealth, where `neutral` is given.

    Raises
    ------
    ConfigError
        If a limit is out of range.
    """

    weight_cap: float = 0.1
    volatility_limit: float | None = None
    cvar_limit: float | None = None
    var_limit: float | None = None
    confidence: float = 0.95
    drawdown_limit: float | None = None
    sector_limit: float | None = None
    max_names: int | None = None
    turnover_limit: float | None = None
    invested: float = 0.0
    neutral: str | None = None
    gross: float = 2.0

    def __post_init__(self) -> None:
        for name in ("volatility", "cvar", "var", "drawdown", "sector", "turnover"):
            value = getattr(self, f"{name}_limit")
            if value is not None and not 0.0 <= value < np.inf:
                raise ConfigError(f"the {name} limit is {value!r}; give a fraction of at least 0")
        if not 0.0 < self.weight_cap <= 1.0 or not 0.0 <= self.invested <= 1.0:
            raise ConfigError(
                f"weight_cap is {self.weight_cap!r} and invested {self.invested!r}; give "
                "fractions up to 1"
            )
        if not 0.0 < self.confidence < 1.0 or not self.gross > 0.0:
            raise ConfigError(
                f"confidence is {self.confidence!r} and gross {self.gross!r}; give a level "
                "between 0 and 1 and a positive sum"
            )
        if self.max_names is not None and self.max_names < 1:
            raise ConfigError(f"max_names is {self.max_names!r}; give at least 1")
        if self.neutral not in (None, "dollar", "beta"):
            raise ConfigError(f"neutral is {self.neutral!r}; give 'dollar', 'beta' or None")
        if self.neutral and self.invested:
            raise ConfigError("invested limits long-only portfolios; leave it out with neutral")

    @property
    def tail(self) -> float | None:
        """The bound on CVaR: the tighter of `cvar_limit` and `var_limit`."""
        given = [value for value in (self.cvar_limit, self.var_limit) if value is not None]
        return min(given) if given else None

    @property
    def tail_name(self) -> str:
        """Which of the two limits that bound stands for."""
        return "var" if self.var_limit is not None and self.tail == self.var_limit else "cvar"


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """What is known at one decision, about the candidates and the stocks held.

    Attributes
    ----------
    columns : ndarray of shape (n,) of int
        Which stocks of the whole they are.
    held : ndarray of shape (n,)
        Weights before trading.
    room : ndarray of shape (n,)
        Most that each may weigh by itself (infinite: only the limits bind; zero: to be sold).
    frozen : ndarray of shape (n,) of bool
        Suspended: the weight stays.
    scenarios : ndarray of shape (n_scenarios, n)
        Past returns without gaps, oldest first.
    rows : ndarray of shape (n_scenarios,) of int
        Row of each scenario in the whole history.
    covariance : FactorCovariance
        Forecast covariance per day.
    sectors : ndarray of shape (n_sectors, n)
        One row a sector: 1 for its stocks less its share among the eligible.
    betas : ndarray of shape (n,)
        Market betas.
    """

    columns: IntArray
    held: FloatArray
    room: FloatArray
    frozen: BoolArray
    scenarios: FloatArray
    rows: IntArray
    covariance: FactorCovariance
    sectors: FloatArray
    betas: FloatArray

    def bounds(self, limits: Limits, relaxed: frozenset[str]) -> tuple[FloatArray, FloatArray]:
        """Least and largest weight of each stock under the limits that are not relaxed."""
        cap = np.full(len(self.held), limits.weight_cap)
        if "weight" in relaxed:
            cap = np.maximum(cap, np.abs(self.held))
        room = self.room if "eligible" not in relaxed else np.maximum(self.room, np.abs(self.held))
        upper = np.minimum(cap, room)
        lower = -upper if limits.neutral else np.zeros_like(upper)
        return np.where(self.frozen, self.held, lower), np.where(self.frozen, self.held, upper)

    def keeping(self, chosen: BoolArray) -> Decision:
        """The same decision in which all but the chosen stocks have to be sold."""
        return replace(self, room=np.where(chosen, self.room, 0.0))


def scenario_tail(losses: FloatArray, confidence: float) -> tuple[float, float]:
    """VaR and CVaR of equally likely losses: the quantile, and the mean beyond it.

    Parameters
    ----------
    losses : ndarray of shape (n_scenarios,)
        Positive for a loss.
    confidence : float
        Level, such as 0.95.

    Returns
    -------
    (float, float)

    References
    ----------
    R. T. Rockafellar, S. Uryasev (2002), Conditional value-at-risk for general loss
    distributions, Journal of Banking & Finance 26, doi:10.1016/S0378-4266(02)00271-6.

    Examples
    --------
    >>> scenario_tail(np.array([0.04, 0.02, 0.0, -0.01]), 0.5)
    (0.02, 0.03)
    """
    size = (1.0 - confidence) * len(losses)
    worst = -np.sort(-losses)
    # The slack keeps 0.05 * 500 at 25 scenarios whatever its last bit.
    whole = min(int(np.floor(size + 1e-9)), len(losses))
    part = max(size - whole, 0.0) * worst[min(whole, len(losses) - 1)]
    at = max(int(np.ceil(size - 1e-9)) - 1, 0)
    return float(worst[at]), float((worst[:whole].sum() + part) / size)


def measure(weights: FloatArray, decision: Decision, limits: Limits) -> dict[str, float]:
    """How much of each limit weights use, in the limit's own unit, recomputed from the data.

    Parameters
    ----------
    weights : ndarray of shape (n,)
        Weights of the decision's stocks.
    decision : Decision
    limits : Limits

    Returns
    -------
    dict of str to float
        Every measure, whether limited or not.
    """
    earned = decision.scenarios @ weights
    var, cvar = scenario_tail(-earned, limits.confidence)
    path = np.concatenate([[0.0], np.cumsum(earned)])
    return {
        "weight": float(np.abs(weights).max(initial=0.0)),
        "eligible": float(np.maximum(np.abs(weights) - decision.room, 0.0).max(initial=0.0)),
        "volatility": float(np.sqrt(PERIODS * decision.covariance.portfolio_variance(weights))),
        "cvar": cvar,
        "var": var,
        "drawdown": float((np.maximum.accumulate(path) - path).max()),
        "sector": float(np.abs(decision.sectors @ weights).max(initial=0.0)),
        "names": float(np.count_nonzero(np.abs(weights) > TOLERANCE)),
        "turnover": float(np.abs(weights - decision.held).sum()),
        "invested": float(weights.sum()),
        "gross": float(np.abs(weights).sum()),
        "neutral": float(
            abs(weights.sum() if limits.neutral == "dollar" else decision.betas @ weights)
        ),
    }


def bound_of(limits: Limits) -> dict[str, float]:
    """The limits that are on, by name; `eligible` (nothing beyond a stock's room) always is."""
    on = {"weight": limits.weight_cap, "eligible": 0.0}
    for name in ("volatility", "cvar", "var", "drawdown", "sector", "names", "turnover"):
        value = limits.max_names if name == "names" else getattr(limits, f"{name}_limit")
        if value is not None:
            on[name] = float(value)
    if limits.neutral:
        on |= {"gross": limits.gross, "neutral": 0.0}
    else:
        on |= {"invested": limits.invested, "gross": 1.0}
    return on


def breaches(used: dict[str, float], limits: Limits) -> dict[str, float]:
    """By how much each limit is broken, beyond what a solver's rounding explains.

    Examples
    --------
    >>> breaches({"turnover": 0.5, "weight": 0.05}, Limits(weight_cap=0.1, turnover_limit=0.25))
    {'turnover': 0.25}
    """
    over = {}
    for name, bound in bound_of(limits).items():
        if name in used:
            excess = bound - used[name] if name == "invested" else used[name] - bound
            if excess > TOLERANCE:
                over[name] = excess
    return over
