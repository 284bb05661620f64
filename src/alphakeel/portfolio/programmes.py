"""One decision as a linear programme on HiGHS, or as a conic one on Clarabel.

Both minimise ``-alpha'w + cost * |w - held| + c CVaR(w) + a/2 w'Sw + r/2 |w|^2`` under the
limits. A scenario's row enters only once the solution needs it (its loss passes the quantile),
and so does a stretch of the path whose fall passes the drawdown limit: the optimum is the one
of the full programme, at a tenth of the work. From one decision to the next HiGHS keeps its
basis: the newest day takes the place of the one that dropped out of the window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from alphakeel.errors import AlphakeelError
from alphakeel.portfolio.limits import PERIODS, TOLERANCE, Decision, Limits, bound_of
from alphakeel.portfolio.solvers import Answer, Key, Programme, Row, WarmStart, conic, linear

__all__ = ["Objective", "Solution", "solve"]

FloatArray = npt.NDArray[np.float64]
Solver = Callable[[Programme, WarmStart], Answer | None]

# A scenario or stretch joins the programme when it is this far beyond the solution.
LAZY_TOLERANCE = 1e-9
MAX_ROUNDS = 200
ZETA: Key = ("zeta", 0)
# Scenarios to start with, over those in the tail: fewer means more rounds.
TAIL_MARGIN = 2.4


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """What is minimised, in units of a year's return.

    Attributes
    ----------
    alpha : ndarray of shape (n,)
        Expected returns.
    cost : float
        Cost of trading one unit of wealth, counted once for this decision.
    cvar_weight : float
        Price of one unit of CVaR.
    aversion : float
        Price of half a unit of annual variance.
    ridge : float
        Price of half a unit of squared weight: with alpha the wish itself and 1 here, the
        answer is the portfolio nearest to the wish.
    """

    alpha: FloatArray
    cost: float = 0.0
    cvar_weight: float = 0.0
    aversion: float = 0.0
    ridge: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """Weights, objective and, of an elastic programme, what each limit had to give way."""

    weights: FloatArray
    objective: float
    slack: dict[str, float]


@dataclass(slots=True)
class _Frame:
    """One round: which scenarios and stretches are in, and the elastic columns."""

    tail: list[int]
    stretches: list[tuple[int, int]]
    with_tail: bool
    elastic: dict[str, float]

    def give(self, name: str, sign: float) -> dict[Key, float]:
        """The coefficient by which a limit can give way, where the programme is elastic."""
        return {("e:" + name, 0): sign} if name in self.elastic else {}


def solve(
    decision: Decision,
    limits: Limits,
    objective: Objective,
    *,
    relaxed: frozenset[str] = frozenset(),
    elastic: tuple[str, ...] = (),
    warm: WarmStart | None = None,
) -> Solution | None:
    """Best portfolio of a decision, or None where no portfolio keeps the limits.

    Parameters
    ----------
    decision : Decision
    limits : Limits
    objective : Objective
    relaxed : frozenset of str
        Limits to leave out, by name.
    elastic : tuple of str, optional
        Limits that may give way: instead of the objective, the sum of what they give is
        minimised, each relative to its size.
    warm : WarmStart, optional
        State of the decision before; updated in place.

    Returns
    -------
    Solution or None

    Raises
    ------
    AlphakeelError
        If a solver stops without an answer.

    Notes
    -----
    The number of names is kept by a heuristic: the stocks with the largest weights of the
    programme without that limit (suspended ones first), and where that cannot be reached the
    largest of those already held, are kept and the programme is solved again on them.
    """
    answer = _relaxation(decision, limits, objective, relaxed, elastic, warm)
    if answer is None or limits.max_names is None or "names" in relaxed:
        return answer
    if np.count_nonzero(np.abs(answer.weights) > TOLERANCE) <= limits.max_names:
        return answer
    must = decision.frozen & (decision.held != 0.0)
    for wish in (np.abs(answer.weights), np.abs(decision.held)):
        order = np.lexsort((-wish, ~must))
        chosen = must.copy()
        chosen[order[: limits.max_names]] = True
        narrow = decision.keeping(chosen)
        answer = _relaxation(narrow, limits, objective, relaxed, elastic, None)
        few = int(must.sum()) <= limits.max_names or bool(elastic)
        if answer is not None and few:
            return answer
    return None


def _relaxation(
    decision: Decision,
    limits: Limits,
    objective: Objective,
    relaxed: frozenset[str],
    elastic: tuple[str, ...],
    warm: WarmStart | None,
) -> Solution | None:
    """The programme without the limit of names: linear first, conic where that is not enough."""
    quadratic = (objective.aversion > 0.0 or objective.ridge > 0.0) and not elastic
    bound = limits.volatility_limit if "volatility" not in relaxed else None
    if not quadratic and limits.neutral is None and not (elastic and bound is not None):
        answer = _rounds(linear, decision, limits, objective, relaxed, elastic, warm)
        if answer is None or bound is None:
            return answer
        variance = decision.covariance.portfolio_variance(answer.weights)
        if np.sqrt(PERIODS * variance) <= bound:
            return answer
    return _rounds(conic, decision, limits, objective, relaxed, elastic, warm)


def _rounds(
    solver: Solver,
    decision: Decision,
    limits: Limits,
    objective: Objective,
    relaxed: frozenset[str],
    elastic: tuple[str, ...],
    warm: WarmStart | None,
) -> Solution | None:
    """Solve, add the scenarios and stretches that the solution breaks, and solve again."""
    bounded = limits.tail is not None and limits.tail_name not in relaxed
    with_tail = bounded or (objective.cvar_weight > 0.0 and not elastic)
    n_tail = int(np.ceil(TAIL_MARGIN * (1.0 - limits.confidence) * len(decision.rows)))
    guess = decision.held if decision.held.any() else np.ones(len(decision.held))
    order = np.argsort(decision.scenarios @ guess, kind="stable")
    warm = warm if warm is not None else WarmStart()
    frame = _Frame(
        tail=np.sort(order[:n_tail]).tolist() if with_tail else [],
        stretches=sorted(s for s in warm.stretches if s[0] >= decision.rows[0]),
        with_tail=with_tail,
        elastic=_scales(limits, elastic, relaxed),
    )
    drawdown = limits.drawdown_limit if "drawdown" not in relaxed else None
    for _ in range(MAX_ROUNDS):
        answer = solver(_programme(decision, limits, objective, relaxed, frame), warm)
        if answer is None:
            return None
        weights, aux = answer.weights, answer.aux
        earned = decision.scenarios @ weights
        slack = {name: max(aux[("e:" + name, 0)], 0.0) for name in frame.elastic}
        missed = False
        if with_tail:
            beyond = np.flatnonzero(-earned - aux[ZETA] > LAZY_TOLERANCE)
            new = np.setdiff1d(beyond, frame.tail)
            frame.tail = np.union1d(frame.tail, new).astype(int).tolist()
            missed |= new.size > 0
        if drawdown is not None:
            falls = _deep_falls(earned, drawdown + slack.get("drawdown", 0.0), decision.rows)
            fresh = falls - set(frame.stretches)
            frame.stretches = sorted({*frame.stretches, *fresh})
            missed |= bool(fresh)
        if not missed:
            warm.stretches = set(frame.stretches)
            return Solution(weights, answer.objective, slack)
    raise AlphakeelError(
        f"the programme of row {decision.rows[-1]} did not settle in {MAX_ROUNDS} rounds: check "
        "its returns for extreme values"
    )


def _deep_falls(earned: FloatArray, limit: float, rows: npt.NDArray) -> set[tuple[int, int]]:
    """From each peak, the stretch of the path to its lowest point if that is too low."""
    path = np.concatenate([[0.0], np.cumsum(earned)])
    peak = np.maximum.accumulate(path)
    too_low = np.flatnonzero(peak - path > limit + LAZY_TOLERANCE)
    falls: dict[int, int] = {}
    for trough in too_low[np.argsort((path - peak)[too_low])].tolist():
        start = int(np.flatnonzero(path[:trough] == peak[trough])[-1])
        falls.setdefault(start, trough)
    return {(int(rows[a]), int(rows[b - 1])) for a, b in falls.items()}


def _scales(limits: Limits, elastic: tuple[str, ...], relaxed: frozenset[str]) -> dict[str, float]:
    """Price of breaking each elastic limit that is on: one over its size."""
    on = bound_of(limits)
    if limits.tail is not None:
        on.pop("cvar" if limits.tail_name == "var" else "var", None)
    names = [name for name in elastic if name in on and name not in relaxed]
    return {name: 1.0 / max(on[name], 0.01) for name in names}


def _programme(
    decision: Decision,
    limits: Limits,
    objective: Objective,
    relaxed: frozenset[str],
    frame: _Frame,
) -> Programme:
    """Everything of one round, in the solvers' terms."""
    rows = _book_rows(decision, limits, relaxed, frame)
    rows += _scenario_rows(decision, limits, relaxed, frame)
    free = not frame.elastic
    # Where slack is minimised, trades cost nearly nothing and returns count for nothing.
    alpha = objective.alpha if free else np.zeros_like(objective.alpha)
    lower, upper = decision.bounds(limits, relaxed)
    bound = limits.volatility_limit if "volatility" not in relaxed else None
    return Programme(
        columns=decision.columns,
        held=decision.held,
        lower=lower,
        upper=upper,
        alpha=alpha,
        cost=objective.cost if free else 1e-6,
        rows=rows,
        aux=_aux_columns(decision, limits, objective, frame),
        covariance=decision.covariance.over(PERIODS),
        aversion=objective.aversion if free else 0.0,
        ridge=objective.ridge if free else 0.0,
        volatility=bound,
    )


def _book_rows(
    decision: Decision, limits: Limits, relaxed: frozenset[str], frame: _Frame
) -> list[Row]:
    """Money, turnover and sectors."""
    ones, rows = np.ones(len(decision.held)), []
    give = frame.give
    on = {"neutral", "gross", "invested", "turnover", "sector"} - relaxed
    if limits.neutral:
        g = ones if limits.neutral == "dollar" else decision.betas
        if "neutral" in on:
            rows.append(Row(("net", 0), -np.inf, 0.0, g, aux=give("neutral", -1.0)))
            rows.append(Row(("net", 1), 0.0, np.inf, g, aux=give("neutral", 1.0)))
        if "gross" in on:
            rows.append(Row(("gross", 0), -np.inf, limits.gross, size=1.0, aux=give("gross", -1.0)))
    else:
        if "gross" in on:
            rows.append(Row(("gross", 0), -np.inf, 1.0, ones, aux=give("gross", -1.0)))
        if "invested" in on and limits.invested > 0.0:
            low = limits.invested
            rows.append(Row(("invested", 0), low, np.inf, ones, aux=give("invested", 1.0)))
    if limits.turnover_limit is not None and "turnover" in on:
        high, aux = limits.turnover_limit, give("turnover", -1.0)
        rows.append(Row(("turnover", 0), -np.inf, high, trades=1.0, aux=aux))
    if limits.sector_limit is not None and "sector" in on:
        for k, g in enumerate(decision.sectors):
            rows.append(Row(("over", k), -np.inf, limits.sector_limit, g, aux=give("sector", -1.0)))
            rows.append(Row(("under", k), -limits.sector_limit, np.inf, g, aux=give("sector", 1.0)))
    return rows


def _scenario_rows(
    decision: Decision, limits: Limits, relaxed: frozenset[str], frame: _Frame
) -> list[Row]:
    """The scenarios and stretches that are in so far; a scenario is named by its slot."""
    rows, window = [], len(decision.rows)
    first = int(decision.rows[0])
    slots = (decision.rows % window).tolist()
    if frame.with_tail:
        if limits.tail is not None and limits.tail_name not in relaxed:
            share = 1.0 / ((1.0 - limits.confidence) * window)
            aux = {ZETA: 1.0} | {("z", slots[i]): share for i in frame.tail}
            aux |= frame.give(limits.tail_name, -1.0)
            rows.append(Row(("tail", 0), -np.inf, limits.tail, aux=aux))
        for i in frame.tail:
            aux = {ZETA: 1.0, ("z", slots[i]): 1.0}
            rows.append(Row(("scenario", slots[i]), 0.0, np.inf, decision.scenarios[i], aux=aux))
    if limits.drawdown_limit is not None and "drawdown" not in relaxed:
        for a, b in frame.stretches:
            g = decision.scenarios[a - first : b + 1 - first].sum(axis=0)
            aux = frame.give("drawdown", 1.0)
            rows.append(Row((f"from {a}", b), -limits.drawdown_limit, np.inf, g, aux=aux))
    return rows


def _aux_columns(
    decision: Decision, limits: Limits, objective: Objective, frame: _Frame
) -> dict[Key, tuple[float, float]]:
    """Helper columns by key: price and lower bound."""
    columns: dict[Key, tuple[float, float]] = {}
    if frame.with_tail:
        window = len(decision.rows)
        price = 0.0 if frame.elastic else objective.cvar_weight
        columns[ZETA] = (price, -np.inf)
        share = price / ((1.0 - limits.confidence) * window)
        columns |= {("z", int(decision.rows[i] % window)): (share, 0.0) for i in frame.tail}
    return columns | {("e:" + name, 0): (scale, 0.0) for name, scale in frame.elastic.items()}
