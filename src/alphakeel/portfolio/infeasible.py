"""What happens where no portfolio keeps every limit: name the conflict, then break the least.

First the limits are left out one at a time until those that remain are all needed to make the
programme impossible: a smallest set of limits in conflict. Then the safe portfolio is looked
for in this order:

1. more cash than `invested` allows, as little more as possible;
2. more trading than `turnover` allows, as little more as possible (the safe portfolio nearest
   to what is held), since a limit on trading guards costs and the others guard capital;
3. the least sum of relative breaches: only suspended stocks, which nobody can sell, or limits
   that contradict each other lead here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from alphakeel.errors import AlphakeelError
from alphakeel.portfolio.limits import Decision, Limits, bound_of
from alphakeel.portfolio.programmes import Objective, Solution, solve

__all__ = ["Fallback", "conflict_of", "safe_portfolio"]

FloatArray = npt.NDArray[np.float64]

# Who is cleared first: a limit tested early is named only if no later one explains the conflict.
ORDER = (
    "names",
    "sector",
    "drawdown",
    "var",
    "cvar",
    "volatility",
    "neutral",
    "gross",
    "invested",
    "eligible",
    "weight",
    "turnover",
)
ELASTIC = ("cvar", "var", "drawdown", "sector", "volatility", "neutral", "gross")
# Room over a measured breach, so that rounding does not make the second solve impossible.
ROUNDING = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Fallback:
    """A portfolio in place of the one that does not exist.

    Attributes
    ----------
    weights : ndarray of shape (n,)
    status : str
        ``"less_invested"``, ``"more_turnover"`` or ``"least_breach"``.
    """

    weights: FloatArray
    status: str


def conflict_of(decision: Decision, limits: Limits) -> tuple[str, ...]:
    """A smallest set of limits that cannot be met together.

    Parameters
    ----------
    decision : Decision
    limits : Limits
        Limits under which the decision has no portfolio.

    Returns
    -------
    tuple of str
        Names; leaving out any one of them makes the others possible. Empty where the suspended
        stocks alone are in the way.

    References
    ----------
    J. Chinneck, E. Dravnieks (1991), Locating minimal infeasible constraint sets in linear
    programs, ORSA Journal on Computing 3(2), doi:10.1287/ijoc.3.2.157.
    """
    on = bound_of(limits)
    out: frozenset[str] = frozenset()
    named = []
    for name in ORDER:
        if name not in on:
            continue
        if _nearest(decision, limits, out | {name}) is None:
            out |= {name}
        else:
            named.append(name)
    return tuple(named)


def safe_portfolio(decision: Decision, limits: Limits, objective: Objective) -> Fallback:
    """The portfolio that keeps the limits as far as they can be kept.

    Parameters
    ----------
    decision : Decision
    limits : Limits
        Limits under which the decision has no portfolio.
    objective : Objective
        What to minimise where more cash alone makes it possible.

    Returns
    -------
    Fallback

    Raises
    ------
    AlphakeelError
        If a solver stops without an answer.
    """
    if limits.invested > 0.0:
        most = solve(decision, limits, _least_trading(decision), elastic=("invested",))
        if most is not None:
            reached = max(0.0, min(float(most.weights.sum()), limits.invested) - ROUNDING)
            answer = solve(decision, replace(limits, invested=reached), objective)
            return Fallback((answer or most).weights, "less_invested")
    if limits.turnover_limit is not None:
        answer = _nearest(decision, limits, frozenset({"turnover", "invested"}))
        if answer is not None:
            return Fallback(answer.weights, "more_turnover")
    return Fallback(_least_breach(decision, limits), "least_breach")


def _nearest(decision: Decision, limits: Limits, relaxed: frozenset[str]) -> Solution | None:
    """Least trading under the limits that are not relaxed."""
    return solve(decision, limits, _least_trading(decision), relaxed=relaxed)


def _least_breach(decision: Decision, limits: Limits) -> FloatArray:
    """Least sum of relative breaches, at nearly no regard for trading."""
    rest = replace(limits, invested=0.0, turnover_limit=None)
    # A long-only book cannot borrow, whatever else has to give way.
    elastic = ELASTIC if limits.neutral else tuple(name for name in ELASTIC if name != "gross")
    answer = solve(decision, rest, _least_trading(decision), elastic=elastic)
    if answer is None:
        raise AlphakeelError(
            f"no portfolio of row {decision.rows[-1]} keeps the weights of its suspended stocks: "
            "check the weights and returns for values that are not finite"
        )
    return answer.weights


def _least_trading(decision: Decision) -> Objective:
    return Objective(alpha=np.zeros(len(decision.held)), cost=1.0)
