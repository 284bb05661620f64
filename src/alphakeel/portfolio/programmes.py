"""One decision as a linear programme on HiGHS, or as a conic one on Clarabel.

Both minimise ``-alpha'w + cost * |w - held| + c CVaR(w) + a/2 w'Sw + r/2 |w|^2`` under the
limits. A scenario's row enters only once the solution needs it (its loss passes the quantile),
and so does a window of the path whose fall passes the drawdown limit: the optimum is the one
of the full programme, at a tenth of the work. From one decision to the next HiGHS keeps its
basis: the newest day takes the place of the one that dropped out of the window.

In the solvers' terms (`Programme`): minimise
``-alpha'w + cost * sum|w - held| + prices'aux + w'Qw / 2`` subject to rows
``low <= g'w + trades * sum|w - held| + size * sum|w| + coefficients'aux <= high`` and bounds on
each weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import clarabel
import highspy
import numpy as np
import numpy.typing as npt
from scipy import sparse

from alphakeel.errors import AlphakeelError
from alphakeel.portfolio.benchmark import Active
from alphakeel.portfolio.constraints import PERIODS, TOLERANCE, Decision, Limits, bound_of
from alphakeel.risk.covariance import FactorCovariance

__all__ = [
    "Objective",
    "Solution",
    "WarmStart",
    "solve",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Key = tuple[str, int]

# Interior-point solutions carry dust of this size where the optimum is zero or no trade.
DUST = 1e-7
# A lower bound this far above the upper one cannot be met; less is rounding.
CONTRADICTION = 1e-9
SOLVED = (clarabel.SolverStatus.Solved, clarabel.SolverStatus.AlmostSolved)
INFEASIBLE = (clarabel.SolverStatus.PrimalInfeasible, clarabel.SolverStatus.AlmostPrimalInfeasible)

# A scenario or window joins the programme when it is this far beyond the solution.
LAZY_TOLERANCE = 1e-9
MAX_ROUNDS = 200
ZETA: Key = ("zeta", 0)
# Scenarios to start with, over those in the tail: fewer means more rounds.
TAIL_MARGIN = 2.4


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One linear limit; `g` None stands for zeros."""

    key: Key
    low: float
    high: float
    g: FloatArray | None = None
    trades: float = 0.0
    size: float = 0.0
    aux: dict[Key, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Programme:
    """Everything that a solver needs to know, per candidate stock and per helper column (`aux`).

    `columns` name the stocks for the warm start; `held`, `lower`, `upper` and `alpha` are weights
    before trading, bounds after it and expected returns. `aux` has the price and the lower bound of
    each helper column. ``Q = aversion * S + ridge * I`` with S the covariance; `volatility` bounds
    the root of ``w'Sw``, in its units, and ``("e:volatility", 0)`` adds to it. With `active`, the
    benchmark b, the aversion is to ``(w - b)'S(w - b)``, whose root `tracking_error` bounds alike.
    """

    columns: IntArray
    held: FloatArray
    lower: FloatArray
    upper: FloatArray
    alpha: FloatArray
    cost: float
    rows: list[Row]
    aux: dict[Key, tuple[float, float]]
    covariance: FactorCovariance | None = None
    aversion: float = 0.0
    ridge: float = 0.0
    volatility: float | None = None
    active: Active | None = None
    tracking_error: float | None = None

    def keeps_risk(self, weights: FloatArray) -> bool:
        """Whether weights keep the bounds on volatility and tracking error."""
        risk, active = self.covariance, self.active
        used = [] if risk is None else [(self.volatility, risk.portfolio_variance(weights))]
        if risk is not None and active is not None:
            used.append((self.tracking_error, active.tracking_variance(weights, risk)))
        return all(bound is None or np.sqrt(variance) <= bound for bound, variance in used)


@dataclass(slots=True)
class WarmStart:
    """What the next decision takes over: HiGHS's basis and the windows of the path."""

    columns: dict[Key, highspy.HighsBasisStatus] = field(default_factory=dict)
    rows: dict[Key, highspy.HighsBasisStatus] = field(default_factory=dict)
    windows: set[tuple[int, int]] = field(default_factory=set)


@dataclass(frozen=True, slots=True, eq=False)
class SolverResult:
    """Weights, objective and helper columns of a solved programme."""

    weights: FloatArray
    objective: float
    aux: dict[Key, float]


def linear(programme: Programme, warm: WarmStart) -> SolverResult | None:
    """Solve without quadratic terms by the dual simplex method, from the basis in `warm`.

    Weights are bought and sold from what is held, ``w = held + b - s``, so that trades need no
    rows of their own. Updates `warm`; None where the limits cannot be met.
    """
    p, n = programme, len(programme.held)
    aux = list(p.aux)
    place = {key: 2 * n + j for j, key in enumerate(aux)}
    matrix = np.zeros((len(p.rows), 2 * n + len(aux)))
    shift = np.zeros(len(p.rows))
    for i, row in enumerate(p.rows):
        if row.g is not None:
            matrix[i, :n], matrix[i, n : 2 * n] = row.g, -row.g
            shift[i] = row.g @ p.held
        matrix[i, : 2 * n] += row.trades
        for key, value in row.aux.items():
            matrix[i, place[key]] = value
    filled = sparse.csr_matrix(matrix)

    prices = np.array([price for price, _ in p.aux.values()])
    floors = np.array([floor for _, floor in p.aux.values()])
    up, down = p.upper - p.held, p.held - p.lower
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = matrix.shape[1], matrix.shape[0]
    lp.col_cost_ = np.concatenate([p.cost - p.alpha, p.cost + p.alpha, prices])
    lp.col_lower_ = np.concatenate([np.maximum(-down, 0.0), np.maximum(-up, 0.0), floors])
    ceilings = np.full(len(aux), highspy.kHighsInf)
    lp.col_upper_ = np.concatenate([np.maximum(up, 0.0), np.maximum(down, 0.0), ceilings])
    lp.row_lower_ = np.array([row.low for row in p.rows]) - shift
    lp.row_upper_ = np.array([row.high for row in p.rows]) - shift
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_ = filled.indptr, filled.indices
    lp.a_matrix_.value_ = filled.data

    names: list[Key] = [(side, c) for side in ("buy", "sell") for c in p.columns.tolist()]
    names += aux
    keys = [row.key for row in p.rows]
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.passModel(lp)
    if warm.rows:
        lower, basic = highspy.HighsBasisStatus.kLower, highspy.HighsBasisStatus.kBasic
        basis = highspy.HighsBasis()
        basis.col_status = [warm.columns.get(name, lower) for name in names]
        basis.row_status = [warm.rows.get(key, basic) for key in keys]
        solver.setBasis(basis)
    solver.run()
    status = solver.getModelStatus()
    if status in (
        highspy.HighsModelStatus.kInfeasible,
        highspy.HighsModelStatus.kUnboundedOrInfeasible,
    ):
        return None
    if status != highspy.HighsModelStatus.kOptimal:
        raise AlphakeelError(
            f"HiGHS stopped with '{solver.modelStatusToString(status)}': check the returns and "
            "expected returns for extreme values"
        )
    basis = solver.getBasis()
    warm.columns = dict(zip(names, basis.col_status, strict=True))
    warm.rows = dict(zip(keys, basis.row_status, strict=True))
    x = np.asarray(solver.getSolution().col_value)
    weights = np.clip(p.held + x[:n] - x[n : 2 * n], p.lower, p.upper)
    value = float(solver.getInfo().objective_function_value - p.alpha @ p.held)
    return SolverResult(weights, value, dict(zip(aux, x[2 * n :].tolist(), strict=True)))


def conic(programme: Programme, warm: WarmStart) -> SolverResult | None:
    """Solve with quadratic terms and a volatility bound by an interior-point method.

    Columns are the weights, sizes of trades, sizes of weights (where a row asks for them),
    factor exposures ``L'w`` and the helpers. None where the limits cannot be met.
    """
    p, n = programme, len(programme.held)
    loadings, specific, unit, exposure, apart = _scaled_risk(p)
    centre = p.active.weights if p.active is not None else np.zeros(n)
    k, sized = loadings.shape[1], any(row.size for row in p.rows)
    # Without a price or a limit trades would be columns without an upper end.
    traded = p.cost > 0.0 or any(row.trades for row in p.rows)
    aux = list(p.aux)
    starts = np.cumsum([0, n, n if traded else 0, n if sized else 0, k, len(aux)])
    w, t, a, y = (slice(starts[i], starts[i + 1]) for i in range(4))
    place = {key: int(starts[4]) + j for j, key in enumerate(aux)}
    width = int(starts[5])

    zero, positive = _Block(width), _Block(width)
    eye = sparse.identity(n, format="csr")
    fixed = p.upper <= p.lower
    zero.add([(w, eye[fixed])], p.lower[fixed])
    if k:
        zero.add([(w, loadings.T), (y, -sparse.identity(k))], np.zeros(k))
    free = ~fixed
    positive.add([(w, eye[free])], p.upper[free])
    positive.add([(w, -eye[free])], -p.lower[free])
    if traded:
        positive.add([(w, eye), (t, -eye)], p.held)
        positive.add([(w, -eye), (t, -eye)], -p.held)
    if sized:
        positive.add([(w, eye), (a, -eye)], np.zeros(n))
        positive.add([(w, -eye), (a, -eye)], np.zeros(n))
    floors = np.array([floor for _, floor in p.aux.values()])
    bounded = np.isfinite(floors)
    helpers = slice(int(starts[4]), width)
    positive.add([(helpers, -sparse.identity(len(aux), format="csr")[bounded])], -floors[bounded])
    dense = np.zeros((len(p.rows), width))
    for i, row in enumerate(p.rows):
        dense[i, w] = row.g if row.g is not None else 0.0
        dense[i, t] = row.trades
        if sized:
            dense[i, a] = row.size
        for key, value in row.aux.items():
            dense[i, place[key]] = value
    low, high = np.array([r.low for r in p.rows]), np.array([r.high for r in p.rows])
    everything = slice(0, width)
    positive.add([(everything, dense[np.isfinite(high)])], high[np.isfinite(high)])
    positive.add([(everything, -dense[np.isfinite(low)])], -low[np.isfinite(low)])

    parts, sides = [zero.matrix, positive.matrix], [zero.side, positive.side]
    cones = [clarabel.ZeroConeT(len(zero.side)), clarabel.NonnegativeConeT(len(positive.side))]
    if p.volatility is not None:
        _add_ball(
            (parts, sides, cones),
            width,
            bound=p.volatility / unit,
            slack=(place.get(("e:volatility", 0)), unit),
            rows=[(y, -sparse.identity(k)), (w, -sparse.diags(np.sqrt(specific)))],
            away=[np.zeros(k), np.zeros(n)],
        )
    if p.active is not None and p.tracking_error is not None:
        _add_ball(
            (parts, sides, cones),
            width,
            bound=p.tracking_error / (p.active.scale * unit),
            slack=(place.get(("e:tracking_error", 0)), p.active.scale * unit),
            rows=[
                (y, -sparse.identity(k)),
                (w, -sparse.diags(np.sqrt(specific))),
                (w, sparse.csr_matrix((1, n))),
            ],
            away=[-exposure, -np.sqrt(specific) * centre, np.array([np.sqrt(apart)])],
        )

    diagonal = np.zeros(width)
    diagonal[w] = p.ridge + p.aversion * unit**2 * specific
    diagonal[y] = p.aversion * unit**2
    price = np.zeros(width)
    price[w], price[t] = -p.alpha, p.cost
    if p.active is not None:  # the quadratic term is about the benchmark, not about cash
        price[w] -= p.aversion * unit**2 * specific * centre
        price[y] -= p.aversion * unit**2 * exposure
    price[helpers] = [value for value, _ in p.aux.values()]
    status, x, value = _clarabel(diagonal, price, sparse.vstack(parts, format="csc"), sides, cones)
    if status in INFEASIBLE:
        return None
    if status not in SOLVED:
        # Next to the border of what is possible Clarabel may find neither solution nor proof.
        loose = replace(p, volatility=None, tracking_error=None)
        if not sized and linear(loose, WarmStart()) is None:
            return None
        bounded = p.volatility is not None or p.tracking_error is not None
        if bounded and p.aversion != 1.0:
            least = conic(replace(loose, aversion=1.0, ridge=0.0, alpha=0.0 * p.alpha), warm)
            # Where there is hardly any choice left, the calmest portfolio is the solution.
            return least if least is not None and p.keeps_risk(least.weights) else None
        raise AlphakeelError(
            f"Clarabel stopped with '{status}': check the returns and expected returns for "
            "extreme values"
        )
    weights = np.clip(x[w], p.lower, p.upper)
    weights[(np.abs(weights) < DUST) & (p.lower <= 0.0) & (p.upper >= 0.0)] = 0.0
    return SolverResult(weights, value, dict(zip(aux, x[helpers].tolist(), strict=True)))


class _Block:
    """Rows of one cone, gathered piece by piece: ``matrix x + s = side``, s in the cone."""

    def __init__(self, width: int) -> None:
        self.width, self.pieces, self.sides = width, [sparse.csr_matrix((0, width))], [np.zeros(0)]

    def add(self, parts: list[tuple[slice, Any]], side: FloatArray) -> None:
        if not len(side):
            return
        row = []
        at = 0
        for columns, part in sorted(parts, key=lambda item: item[0].start):
            row.append(sparse.csr_matrix((len(side), columns.start - at)))
            row.append(sparse.csr_matrix(part))
            at = columns.stop
        row.append(sparse.csr_matrix((len(side), self.width - at)))
        self.pieces.append(sparse.hstack(row, format="csr"))
        self.sides.append(np.asarray(side, np.float64))

    @property
    def matrix(self) -> sparse.csr_matrix:
        return sparse.vstack(self.pieces, format="csr")

    @property
    def side(self) -> FloatArray:
        return np.concatenate(self.sides)


def _add_ball(
    into: tuple[list[Any], list[FloatArray], list[object]],
    width: int,
    *,
    bound: float,
    slack: tuple[int | None, float],
    rows: list[tuple[slice, Any]],
    away: list[FloatArray],
) -> None:
    """Add ``|s| <= bound + slack`` with ``s = away - rows x``, as a second-order cone.

    `slack` is the helper column that adds to the bound, if any, and the unit that it is in.
    """
    parts, sides, cones = into
    scale = max(bound, 1e-3)
    second, top = _Block(width), np.zeros((1, width))
    column, unit = slack
    if column is not None:
        top[0, column] = -1.0 / (unit * scale)
    second.add([(slice(0, width), top)], np.array([bound / scale]))
    for (columns, matrix), off in zip(rows, away, strict=True):
        second.add([(columns, matrix / scale)], off / scale)
    parts.append(second.matrix)
    sides.append(second.side)
    cones.append(clarabel.SecondOrderConeT(len(second.side)))


def _scaled_risk(p: Programme) -> tuple[FloatArray, FloatArray, float, FloatArray, float]:
    """Risk in units of the typical volatility, at most n factors.

    Loadings, specific variances, the unit, and of the benchmark the exposure to these factors and
    the variance apart from them and from its weights.
    """
    n = len(p.held)
    bounded = p.volatility is not None or p.tracking_error is not None
    if p.covariance is None or (p.aversion == 0.0 and not bounded):
        return np.zeros((n, 0)), np.zeros(n), 1.0, np.zeros(0), 0.0
    unit = float(np.sqrt(max(p.covariance.variance.mean(), 1e-12)))
    loadings, specific = p.covariance.loadings / unit, p.covariance.specific / unit**2
    exposure, apart = np.zeros(loadings.shape[1]), 0.0
    if p.active is not None:
        exposure, apart = p.active.exposure / unit, p.active.variance / unit**2
    if loadings.shape[1] > n:  # a triangular root of the same matrix has n columns only
        turn, root = np.linalg.qr(loadings.T)
        loadings, turned = root.T, exposure @ turn
        exposure, apart = turned, apart + max(exposure @ exposure - turned @ turned, 0.0)
    return loadings, specific, unit, exposure, apart


def _clarabel(
    diagonal: FloatArray,
    price: FloatArray,
    matrix: sparse.csc_matrix,
    sides: list[FloatArray],
    cones: list[object],
) -> tuple[object, FloatArray, float]:
    """Status, columns and objective."""
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-9
    quadratic = sparse.diags(diagonal, format="csc")
    solver = clarabel.DefaultSolver(
        quadratic, price, matrix, np.concatenate(sides), cones, settings
    )
    solution = solver.solve()
    return solution.status, np.asarray(solution.x), float(solution.obj_val)


Solver = Callable[[Programme, WarmStart], SolverResult | None]


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
        Price of half a unit of squared weight: with a target portfolio as alpha and 1 here, the
        solution is the portfolio nearest to the target.
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
    """One round: which scenarios and windows are in, and the elastic columns."""

    tail: list[int]
    windows: list[tuple[int, int]]
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

    `relaxed` limits are left out. `elastic` ones may give way: instead of the objective, the sum of
    what they give is minimised, each relative to its size. `warm` is updated in place.

    The number of names is kept by a heuristic: the stocks with the largest weights of the
    programme without that limit (suspended ones first), and where that cannot be reached the
    largest of those already held, are kept and the programme is solved again on them.
    """
    solution = _relaxation(decision, limits, objective, relaxed, elastic, warm)
    if solution is None or limits.max_names is None or "names" in relaxed:
        return solution
    if np.count_nonzero(np.abs(solution.weights) > TOLERANCE) <= limits.max_names:
        return solution
    must = decision.frozen & (decision.held != 0.0)
    for size in (np.abs(solution.weights), np.abs(decision.held)):
        order = np.lexsort((-size, ~must))
        chosen = must.copy()
        chosen[order[: limits.max_names]] = True
        narrow = decision.keeping(chosen)
        solution = _relaxation(narrow, limits, objective, relaxed, elastic, None)
        few = int(must.sum()) <= limits.max_names or bool(elastic)
        if solution is not None and few:
            return solution
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
    bounded = bool({"volatility", "tracking_error"} & set(bound_of(limits)) - relaxed)
    if not quadratic and limits.neutral is None and not (elastic and bounded):
        solution = _rounds(linear, decision, limits, objective, relaxed, elastic, warm)
        if solution is None or not bounded:
            return solution
        frame = _Frame([], [], with_tail=False, elastic={})
        if _programme(decision, limits, objective, relaxed, frame).keeps_risk(solution.weights):
            return solution
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
    """Solve, add the scenarios and windows that the solution breaks, and solve again."""
    bounded = limits.tail is not None and limits.tail_name not in relaxed
    with_tail = bounded or (objective.cvar_weight > 0.0 and not elastic)
    n_tail = int(np.ceil(TAIL_MARGIN * (1.0 - limits.confidence) * len(decision.rows)))
    guess = decision.held if decision.held.any() else np.ones(len(decision.held))
    order = np.argsort(decision.scenarios @ guess, kind="stable")
    warm = warm if warm is not None else WarmStart()
    frame = _Frame(
        tail=np.sort(order[:n_tail]).tolist() if with_tail else [],
        windows=sorted(s for s in warm.windows if s[0] >= decision.rows[0]),
        with_tail=with_tail,
        elastic=_scales(limits, elastic, relaxed),
    )
    drawdown = limits.drawdown_limit if "drawdown" not in relaxed else None
    for _ in range(MAX_ROUNDS):
        programme = _programme(decision, limits, objective, relaxed, frame)
        contradicted = (programme.lower > programme.upper + CONTRADICTION).any()
        solution = None if contradicted else solver(programme, warm)
        if solution is None:
            return None
        weights, aux = solution.weights, solution.aux
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
            fresh = falls - set(frame.windows)
            frame.windows = sorted({*frame.windows, *fresh})
            missed |= bool(fresh)
        if not missed:
            warm.windows = set(frame.windows)
            return Solution(weights, solution.objective, slack)
    raise AlphakeelError(
        f"the programme of row {decision.rows[-1]} did not settle in {MAX_ROUNDS} rounds: check "
        "its returns for extreme values"
    )


def _deep_falls(earned: FloatArray, limit: float, rows: npt.NDArray) -> set[tuple[int, int]]:
    """From each peak, the window of the path to its lowest point if that is too low."""
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
    rows = _portfolio_rows(decision, limits, relaxed, frame)
    rows += _scenario_rows(decision, limits, relaxed, frame)
    free = not frame.elastic
    # Where slack is minimised, trades cost nearly nothing and returns count for nothing.
    alpha = objective.alpha if free else np.zeros_like(objective.alpha)
    # As bounds the active weights cannot give way: then they are rows.
    soft = relaxed | ({"active_weight"} & set(frame.elastic))
    lower, upper = decision.bounds(limits, soft)
    active = decision.active
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
        aversion=objective.aversion * (active.scale**2 if active else 1.0) if free else 0.0,
        ridge=objective.ridge if free else 0.0,
        volatility=limits.volatility_limit if "volatility" not in relaxed else None,
        active=None if active is None else active.over(PERIODS),
        tracking_error=limits.tracking_error_limit if "tracking_error" not in relaxed else None,
    )


def _portfolio_rows(
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
    return rows + _active_rows(decision, limits, relaxed, frame)


def _active_rows(
    decision: Decision, limits: Limits, relaxed: frozenset[str], frame: _Frame
) -> list[Row]:
    """Deviations from the benchmark: styles, and weights where these may give way."""
    active, rows = decision.active, []
    if active is None:
        return []

    def between(key: str, k: int, limit: float, g: FloatArray, name: str) -> None:
        at, give = float(g @ active.weights), frame.give
        rows.append(Row((f"{key} over", k), -np.inf, at + limit, g, aux=give(name, -1.0)))
        rows.append(Row((f"{key} under", k), at - limit, np.inf, g, aux=give(name, 1.0)))

    if limits.style_limit is not None and "style" not in relaxed:
        for k, g in enumerate(active.styles):
            between("style", k, limits.style_limit, g, "style")
    if limits.active_weight_limit is not None and "active_weight" in frame.elastic:
        for k, g in enumerate(np.eye(len(decision.held))):
            between("active", k, limits.active_weight_limit, g, "active_weight")
    return rows


def _scenario_rows(
    decision: Decision, limits: Limits, relaxed: frozenset[str], frame: _Frame
) -> list[Row]:
    """The scenarios and windows that are in so far; a scenario is named by its slot."""
    rows, n_scenarios = [], len(decision.rows)
    first = int(decision.rows[0])
    slots = (decision.rows % n_scenarios).tolist()
    if frame.with_tail:
        if limits.tail is not None and limits.tail_name not in relaxed:
            share = 1.0 / ((1.0 - limits.confidence) * n_scenarios)
            aux = {ZETA: 1.0} | {("z", slots[i]): share for i in frame.tail}
            aux |= frame.give(limits.tail_name, -1.0)
            rows.append(Row(("tail", 0), -np.inf, limits.tail, aux=aux))
        for i in frame.tail:
            aux = {ZETA: 1.0, ("z", slots[i]): 1.0}
            rows.append(Row(("scenario", slots[i]), 0.0, np.inf, decision.scenarios[i], aux=aux))
    if limits.drawdown_limit is not None and "drawdown" not in relaxed:
        for a, b in frame.windows:
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
        n_scenarios = len(decision.rows)
        price = 0.0 if frame.elastic else objective.cvar_weight
        columns[ZETA] = (price, -np.inf)
        share = price / ((1.0 - limits.confidence) * n_scenarios)
        columns |= {("z", int(decision.rows[i] % n_scenarios)): (share, 0.0) for i in frame.tail}
    return columns | {("e:" + name, 0): (scale, 0.0) for name, scale in frame.elastic.items()}
