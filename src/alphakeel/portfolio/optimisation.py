"""From scores and past returns to weights under limits, decision by decision.

One call for every method: mean-CVaR, mean-variance, enhanced index (mean-variance of the return
over a benchmark), minimum variance, risk parity, inverse volatility, hierarchical risk parity and
equal weight. Between two decisions the weights drift
with the returns, as the backtest's holdings do; a suspended stock keeps the weight that it has.
Each decision leaves a record of what it used of each limit and, where a limit could not be
kept, which one and why. Row t is the close of day t; a decision uses rows up to its own.

Where no portfolio keeps every limit, the conflict is named: limits are left out one at a time
until those that remain are all needed to make the programme impossible. Then the safe portfolio
is looked for in this order:

1. more cash than `invested` allows, as little more as possible;
2. more trading than `turnover` allows, as little more as possible (the safe portfolio nearest
   to what is held), since a limit on trading guards costs and the others guard capital;
3. the least sum of relative breaches: only suspended stocks, which nobody can sell, or limits
   that contradict each other lead here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from alphakeel.errors import AlphakeelError, ConfigError
from alphakeel.portfolio.benchmark import TrackingBias
from alphakeel.portfolio.constraints import (
    RELATIVE,
    TOLERANCE,
    Decision,
    DecisionData,
    Limits,
    bound_of,
    breaches,
    drifted,
    measure,
)
from alphakeel.portfolio.heuristics import CLASSIC, capped_proportional, classic_weights
from alphakeel.portfolio.programmes import Objective, Solution, WarmStart, solve
from alphakeel.risk.covariance import COVARIANCES
from alphakeel.stats.cross_section import row_sums

__all__ = [
    "Allocation",
    "Fallback",
    "METHODS",
    "Record",
    "allocate",
    "conflict_of",
    "expected_returns",
    "safe_portfolio",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SCORED = ("mean_cvar", "mean_variance", "enhanced_index")
METHODS = (*SCORED, "minimum_variance", *CLASSIC, "equal_weight")
# Weights under a basis point that the newest solution does not want are dropped.
MIN_WEIGHT = 1e-4
# Steps from the wanted smoothing to none, where the smoothed portfolio breaks a limit.
SMOOTHING_STEPS = (0.0, 0.25, 0.5, 0.75)

# Who is cleared first: a limit tested early is named only if no later one explains the conflict.
ORDER = (
    "names",
    "style",
    "sector",
    "drawdown",
    "var",
    "cvar",
    "volatility",
    "tracking_error",
    "active_weight",
    "neutral",
    "gross",
    "invested",
    "eligible",
    "weight",
    "turnover",
)
ELASTIC = ("cvar", "var", "drawdown", "sector", "volatility", "neutral", "gross", *RELATIVE)
# Room over a measured breach, so that rounding does not make the second solve impossible.
ROUNDING = 1e-5


@dataclass(frozen=True, slots=True)
class Record:
    """What one decision did with its limits.

    Attributes
    ----------
    row : int
        Row of the decision.
    status : str
        ``"optimal"``; ``"silent"`` without any score (nothing decided); ``"no_history"``
        (cash, for want of returns); ``"less_invested"``,
        ``"more_turnover"`` or ``"least_breach"`` where no portfolio keeps every limit.
    used : dict of str to float
        How much of each limit the weights use; `volatility` and `tracking_error` a year, `cvar`,
        `var` and `drawdown` per day or path of the scenarios, `turnover` both sides.
    binding, conflict : tuple of str
        Limits in use to the last bit; a smallest set that could not be met together.
    breached, reason : dict of str to float, str
        By how much each limit is broken, and why in one sentence; empty when all are kept.
    """

    row: int
    status: str
    used: dict[str, float]
    binding: tuple[str, ...] = ()
    conflict: tuple[str, ...] = ()
    breached: dict[str, float] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Allocation:
    """Target weights of every decision, (n_decisions, n_assets), and a record of each.

    A row of NaN is a decision at which nothing was decided.
    """

    weights: FloatArray
    records: tuple[Record, ...]

    def used(self, name: str) -> FloatArray:
        """One measure, of shape (n_decisions,); NaN where nothing was decided."""
        return np.array([record.used.get(name, np.nan) for record in self.records])


def expected_returns(
    scores: FloatArray, volatility: FloatArray, *, strength: float = 0.025
) -> FloatArray:
    """Annual expected returns from scores: ``strength * z(score) * vol / mean(vol)``.

    `strength` is the annual return of one standard deviation of score. A score of NaN is no
    opinion, which expects zero. R. Grinold (1994), Alpha is volatility times IC times score,
    doi:10.3905/jpm.1994.409482.
    """
    known = np.isfinite(scores)
    if not known.any():
        return np.zeros(len(scores))
    spread = scores[known].std()
    alpha = np.zeros(len(scores))
    if spread > 0.0:
        centred = (scores[known] - scores[known].mean()) / spread
        alpha[known] = strength * centred * volatility[known] / volatility[known].mean()
    return alpha


def allocate(
    method: str,
    *,
    returns: FloatArray,
    decisions: IntArray,
    eligible: BoolArray,
    limits: Limits | None = None,
    scores: FloatArray | None = None,
    volatility: FloatArray | None = None,
    tradable: BoolArray | None = None,
    sectors: IntArray | None = None,
    betas: FloatArray | None = None,
    benchmark: FloatArray | None = None,
    benchmark_returns: FloatArray | None = None,
    styles: FloatArray | None = None,
    window: int = 500,
    min_share: float = 0.8,
    covariance: str = "factor",
    strength: float = 0.025,
    aversion: float = 5.0,
    cvar_price: float = 1.0,
    cost_per_side: float = 0.001,
    holding_period: float = 60.0,
    smoothing: float = 0.25,
    lag: int = 1,
) -> Allocation:
    """Weights under limits, at every decision.

    Parameters
    ----------
    method : str
        One of `METHODS`. ``"mean_cvar"``, ``"mean_variance"`` and ``"enhanced_index"`` use
        `scores`; the others compute a target portfolio, and the nearest one within the limits is
        held. ``"enhanced_index"`` is fully invested, counts risk against the benchmark, and holds
        a stock without an opinion as the benchmark does.
    returns : ndarray of shape (n_dates, n_assets)
        Daily simple returns; NaN where there is none.
    decisions : ndarray of shape (n_decisions,) of int
        Row of `returns` on which each decision is made, rising.
    eligible : ndarray of shape (n_decisions, n_assets) of bool
        Stocks that may be held; any other is sold, unless suspended.
    limits : Limits, optional
        Long-only, 10 % a stock and nothing else by default.
    scores : ndarray of shape (n_decisions, n_assets), optional
        Higher is better. NaN: no opinion; the stock is not added to. A row of NaN decides
        nothing.
    volatility : ndarray of shape (n_decisions, n_assets), optional
        Annual forecasts that replace those of the covariance; NaN keeps it.
    tradable : ndarray of shape (n_decisions, n_assets) of bool, optional
        False where a stock is known to be suspended: its weight stays.
    sectors : ndarray of shape (n_assets,) or (n_decisions, n_assets) of int, optional
        Labels; negative ones share a sector of their own. Needed for the sector limit.
    betas : ndarray of shape (n_decisions, n_assets), optional
        Market betas; needed for a beta-neutral portfolio. NaN counts as 1.
    benchmark : ndarray of shape (n_decisions, n_assets), optional
        Weights of the benchmark, for ``"enhanced_index"``. Stocks that are not eligible, or lack
        history, leave theirs to the others in proportion.
    benchmark_returns : ndarray of shape (n_dates,), optional
        In its place the daily returns of an index, whose weights are not known: only the tracking
        error can be limited.
    styles : ndarray of shape (n_decisions, n_assets, n_styles), optional
        Standardised exposures; needed for the style limit.
    window : int, default=500
        Rows of returns up to the decision: scenarios, and the sample of the covariance.
    min_share : float, default=0.8
        Share of those rows in which a stock needs a return to be bought.
    covariance : {"factor", "clipped", "ledoit_wolf", "ewma"}, default="factor"
        Estimator of :mod:`alphakeel.risk.covariance`.
    strength : float, default=0.025
        See :func:`expected_returns`.
    aversion : float, default=5.0
        Price of half the annual variance, in mean-variance; of half the squared tracking error,
        in the enhanced index.
    cvar_price : float, default=1.0
        Price of the CVaR of a day, in mean-CVaR; 0 leaves risk to the limits.
    cost_per_side : float, default=0.001
        Cost of one side as a fraction of the traded value (0.001 is 10 basis points).
    holding_period : float, default=60.0
        Days for which a position is held: the cost of a decision's trades is charged once and
        spread over them, ``252 / holding_period`` times a year.
    smoothing : float, default=0.25
        Share of the way from the old composition to the new one; 1 goes all the way. Only the
        composition is smoothed, never the exposure, and less so where a limit asks for more.
    lag : int, default=1
        Rows between a decision and its trade, from which on weights drift.

    Returns
    -------
    Allocation

    Raises
    ------
    ConfigError
        If a setting is out of range or an input that it needs is missing.
    DataError
        If shapes do not fit.
    AlphakeelError
        If a solver stops without a solution.

    Examples
    --------
    >>> returns = np.random.default_rng(0).normal(0.0, [0.01, 0.02], (300, 2))
    >>> allocation = allocate(
    ...     "minimum_variance", returns=returns, decisions=np.array([299]),
    ...     eligible=np.ones((1, 2), dtype=bool),
    ...     limits=Limits(weight_cap=1.0, volatility_limit=0.1),
    ... )
    >>> allocation.weights.round(1), allocation.records[0].status
    (array([[0.6, 0.1]]), 'less_invested')
    """
    limits = limits or Limits()
    _check(method, covariance, scores is not None)
    relative = method == "enhanced_index"
    if relative != (benchmark is not None or benchmark_returns is not None):
        raise ConfigError(f"the enhanced index needs a benchmark, and no other method: {method}")
    _check_numbers(
        strength=strength,
        aversion=aversion,
        cvar_price=cvar_price,
        cost_per_side=cost_per_side,
        lag=lag,
    )
    if not (
        0.0 < smoothing <= 1.0 and 0.0 < min_share <= 1.0 and holding_period > 0.0 and window >= 20
    ):
        raise ConfigError(
            f"smoothing is {smoothing!r}, min_share {min_share!r}, holding_period "
            f"{holding_period!r} and window {window!r}; give shares in (0, 1], "
            "a positive number of days and at least 20 rows"
        )
    data = DecisionData(
        returns,
        decisions,
        eligible,
        limits=limits,
        scores=scores,
        volatility=volatility,
        tradable=tradable,
        sectors=sectors,
        betas=betas,
        benchmark=benchmark,
        benchmark_returns=benchmark_returns,
        styles=styles,
    )
    scored = method in SCORED
    yearly = Objective(
        np.zeros(0), cost_per_side * 252.0 / holding_period, cvar_price, aversion, 0.0
    )
    warm, bias, records = WarmStart(), TrackingBias(), []
    weights: FloatArray = np.full(data.eligible.shape, np.nan)
    current, since = np.zeros(data.eligible.shape[1]), 0
    for i, row in enumerate(data.decisions.tolist()):
        held = data.present(i, drifted(current, data.returns[since + 1 : row + 1]))
        data.judge(bias, slice(since + 1, row + 1))
        current, since = held, row
        if scored and data.scores is not None and np.isnan(data.scores[i]).all():
            records.append(Record(row, "silent", {}))
            continue
        decision = data.decision(
            i,
            held,
            window=window,
            min_share=min_share,
            covariance=covariance,
            scored=scored and not relative,
            tracking_scale=bias.scale,
        )
        weights[i] = 0.0
        if decision is None:
            weights[i] = np.where(data.frozen(i), held, 0.0)
            records.append(_short_of_history(row, held, weights[i], limits))
        else:
            opinion = data.scores[i] if data.scores is not None else None
            objective = _objective(method, decision, opinion, yearly, strength)
            invests = relative or method == "minimum_variance"
            bounds = _investing(decision, limits) if invests else limits
            chosen, record = _decide(decision, bounds, objective, smoothing, row, warm)
            weights[i, decision.columns] = chosen
            records.append(record)
            decision.expect(bias, weights[i])
        current, since = weights[i], row + lag
    return Allocation(weights, tuple(records))


def _objective(
    method: str,
    decision: Decision,
    scores: FloatArray | None,
    yearly: Objective,
    strength: float,
) -> Objective:
    """Expected returns of the method for one decision, or the target portfolio to be near to."""
    n = len(decision.held)
    if method == "minimum_variance":
        return Objective(np.zeros(n), aversion=1.0)
    if method in SCORED:
        opinion = np.full(n, np.nan) if scores is None else scores[decision.columns]
        deviation = np.sqrt(decision.covariance.variance)
        alpha = expected_returns(opinion, deviation, strength=strength)
        if method == "mean_cvar":
            return replace(yearly, alpha=alpha, aversion=0.0)
        return replace(yearly, alpha=alpha, cvar_weight=0.0)
    open_to = np.isinf(decision.max_weight) & ~decision.frozen
    target = np.where(decision.frozen, decision.held, 0.0)
    if open_to.any():
        left = max(1.0 - target.sum(), 0.0)
        share = np.full(int(open_to.sum()), 1.0 / open_to.sum())
        if method in CLASSIC:
            share = classic_weights(method, decision.scenarios[:, open_to])
        target[open_to] = left * share
    return Objective(target, ridge=1.0)


def _investing(decision: Decision, limits: Limits) -> Limits:
    """The limits with all money invested, as far as the caps on single stocks allow."""
    if limits.neutral:
        raise ConfigError(
            "minimum variance and the enhanced index are long-only portfolios; leave out neutral"
        )
    _, upper = decision.bounds(limits, frozenset())
    return replace(limits, invested=max(limits.invested, min(1.0, float(upper.sum()) - 1e-9)))


def _decide(
    decision: Decision,
    limits: Limits,
    objective: Objective,
    smoothing: float,
    row: int,
    warm: WarmStart,
) -> tuple[FloatArray, Record]:
    """The optimum, smoothed, or the safe portfolio where there is none."""
    solution = None
    # A target portfolio that keeps every limit is its own nearest portfolio.
    feasible = objective.ridge > 0.0 and not breaches(
        measure(objective.alpha, decision, limits), limits
    )
    if not feasible:
        solution = solve(decision, limits, objective, warm=warm)
    conflict: tuple[str, ...] = ()
    if feasible or solution is not None:
        status = "optimal"
        fresh = objective.alpha if solution is None else solution.weights
        chosen = _smoothed(decision, limits, fresh, smoothing)
    else:
        conflict = conflict_of(decision, limits)
        fallback = safe_portfolio(decision, limits, objective)
        chosen, status = fallback.weights, fallback.status
    used = measure(chosen, decision, limits)
    over = breaches(used, limits)
    record = Record(
        row=row,
        status=status,
        used=used,
        binding=_binding(used, limits),
        conflict=conflict,
        breached=over,
        reason=_reason(conflict, over, bool((decision.frozen & (decision.held != 0.0)).any())),
    )
    return chosen, record


def _smoothed(
    decision: Decision, limits: Limits, fresh: FloatArray, smoothing: float
) -> FloatArray:
    """A share of the way to the fresh composition, or the least more that keeps all limits."""
    lower, upper = decision.bounds(limits, frozenset())
    held = np.clip(decision.held, lower, upper)
    moving = ~decision.frozen
    if smoothing >= 1.0 or not held[moving].any():
        return fresh
    allowed = breaches(measure(fresh, decision, limits), limits)
    budget, before = fresh[moving].sum(), held[moving].sum()
    for step in SMOOTHING_STEPS:
        share = smoothing + step * (1.0 - smoothing)
        blend = fresh.copy()
        if limits.neutral:
            blend[moving] = (1.0 - share) * held[moving] + share * fresh[moving]
        else:
            old = held[moving] * (budget / before)
            part = (1.0 - share) * old + share * fresh[moving]
            part[(part < MIN_WEIGHT) & (fresh[moving] == 0.0)] = 0.0
            # A stock at its largest weight may keep what it has, whatever the others do.
            part = np.minimum(part, upper[moving])
            blend[moving] = capped_proportional(part[None], cap=limits.weight_cap, budget=budget)[0]
            blend = np.minimum(blend, upper)
        over = breaches(measure(blend, decision, limits), limits)
        if all(excess <= allowed.get(name, 0.0) + TOLERANCE for name, excess in over.items()):
            return blend
    return fresh


def _binding(used: dict[str, float], limits: Limits) -> tuple[str, ...]:
    """Limits in use to the last bit; VaR binds where CVaR stands at its bound."""
    binding = []
    for name, bound in bound_of(limits).items():
        value = used["cvar" if name == "var" else name]
        slack = value - bound if name == "invested" else bound - value
        if name not in ("eligible", "neutral") and bound > 0.0 and slack <= 1e-5 * max(bound, 0.1):
            binding.append(name)
    return tuple(binding)


def _reason(conflict: tuple[str, ...], over: dict[str, float], suspended: bool) -> str:
    if not over:
        return ""
    broken = ", ".join(f"{name} by {excess:.2g}" for name, excess in over.items())
    if conflict:
        cause = f"the limits of {' and '.join(conflict)} cannot be met together"
        if len(conflict) == 1:
            cause = f"the limit of {conflict[0]} cannot be met"
        if suspended:
            cause += " with the suspended stocks that are held"
    else:
        cause = "suspended stocks keep their weight"
    return f"{cause}: broken {broken}"


def _short_of_history(row: int, held: FloatArray, weights: FloatArray, limits: Limits) -> Record:
    """The record of a decision that holds cash, but for suspended stocks."""
    used = {
        "turnover": float(row_sums(np.abs(weights - held))),
        "weight": float(np.abs(weights).max(initial=0.0)),
        "invested": float(row_sums(weights)),
    }
    over = breaches(used, limits)
    reason = "no stock has the history that a decision needs" if over else ""
    return Record(row, "no_history", used, breached=over, reason=reason)


def _check(method: str, covariance: str, with_scores: bool) -> None:
    if method not in METHODS:
        raise ConfigError(f"method is {method!r}; give one of {', '.join(METHODS)}")
    if covariance not in COVARIANCES:
        raise ConfigError(f"covariance is {covariance!r}; give one of {', '.join(COVARIANCES)}")
    if method in SCORED and not with_scores:
        raise ConfigError(f"{method} needs scores")


def _check_numbers(**numbers: float) -> None:
    for name, value in numbers.items():
        if not 0.0 <= value < np.inf:
            raise ConfigError(f"{name} is {value!r}; give a number of at least 0")


@dataclass(frozen=True, slots=True, eq=False)
class Fallback:
    """A portfolio in place of the one that does not exist; `status` as in `Record`."""

    weights: FloatArray
    status: str


def conflict_of(decision: Decision, limits: Limits) -> tuple[str, ...]:
    """A smallest set of limits that cannot be met together, by name.

    Leaving out any one of them makes the others possible. Empty where the suspended stocks alone
    are in the way. J. Chinneck, E. Dravnieks (1991), doi:10.1287/ijoc.3.2.157.
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

    `objective` is minimised where more cash alone makes it possible.
    """
    if limits.invested > 0.0:
        most = solve(decision, limits, _least_trading(decision), elastic=("invested",))
        if most is not None:
            reached = max(0.0, min(float(most.weights.sum()), limits.invested) - ROUNDING)
            solution = solve(decision, replace(limits, invested=reached), objective)
            return Fallback((solution or most).weights, "less_invested")
    if limits.turnover_limit is not None:
        solution = _nearest(decision, limits, frozenset({"turnover", "invested"}))
        if solution is not None:
            return Fallback(solution.weights, "more_turnover")
    return Fallback(_least_breach(decision, limits), "least_breach")


def _nearest(decision: Decision, limits: Limits, relaxed: frozenset[str]) -> Solution | None:
    """Least trading under the limits that are not relaxed."""
    return solve(decision, limits, _least_trading(decision), relaxed=relaxed)


def _least_breach(decision: Decision, limits: Limits) -> FloatArray:
    """Least sum of relative breaches, at nearly no regard for trading."""
    rest = replace(limits, invested=0.0, turnover_limit=None)
    # A long-only portfolio cannot borrow, whatever else has to give way.
    elastic = ELASTIC if limits.neutral else tuple(name for name in ELASTIC if name != "gross")
    solution = solve(decision, rest, _least_trading(decision), elastic=elastic)
    if solution is None:
        raise AlphakeelError(
            f"no portfolio of row {decision.rows[-1]} keeps the weights of its suspended stocks: "
            "check the weights and returns for values that are not finite"
        )
    return solution.weights


def _least_trading(decision: Decision) -> Objective:
    return Objective(alpha=np.zeros(len(decision.held)), cost=1.0)
