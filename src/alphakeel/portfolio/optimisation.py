"""From scores and past returns to weights under limits, decision by decision.

One call for every method: mean-CVaR, mean-variance, minimum variance, risk parity, inverse
volatility, hierarchical risk parity and equal weight. Between two decisions the weights drift
with the returns, as the backtest's holdings do; a suspended stock keeps the weight that it has.
Each decision leaves a record of what it used of each limit and, where a limit could not be
kept, which one and why. Row t is the close of day t; a decision uses rows up to its own.

What happens where no portfolio keeps every limit: name the conflict, then break the least.

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

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from alphakeel.errors import AlphakeelError, ConfigError
from alphakeel.portfolio.constraints import (
    TOLERANCE,
    Decision,
    Inputs,
    Limits,
    bound_of,
    breaches,
    drifted,
    measure,
)
from alphakeel.portfolio.heuristics import CLASSIC, capped_proportional, classic_weights
from alphakeel.portfolio.programmes import Objective, Solution, WarmStart, solve
from alphakeel.risk.covariance import COVARIANCES

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

SCORED = ("mean_cvar", "mean_variance")
METHODS = (*SCORED, "minimum_variance", *CLASSIC, "equal_weight")
# Weights under a basis point that the newest solution does not want are dropped.
MIN_WEIGHT = 1e-4
# Steps from the wanted smoothing to none, where the smoothed book breaks a limit.
SMOOTHING_STEPS = (0.0, 0.25, 0.5, 0.75)

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
        How much of each limit the weights use; `volatility` a year, `cvar`, `var` and
        `drawdown` per day or path of the scenarios, `turnover` both sides.
    binding : tuple of str
        Limits in use to the last bit.
    conflict : tuple of str
        A smallest set of limits that could not be met together.
    breached : dict of str to float
        By how much each limit is broken. Empty when all are kept.
    reason : str
        Why, in one sentence; empty when all limits are kept.
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
    """Weights of every decision and their records.

    Attributes
    ----------
    weights : ndarray of shape (n_rows, n_assets)
        Target weights; a row of NaN where nothing was decided.
    records : tuple of Record
        One a decision.
    """

    weights: FloatArray
    records: tuple[Record, ...]

    def used(self, name: str) -> FloatArray:
        """One measure over the decisions, of shape (n_rows,); NaN where nothing was decided."""
        return np.array([record.used.get(name, np.nan) for record in self.records])


def expected_returns(
    scores: FloatArray, volatility: FloatArray, *, strength: float = 0.025
) -> FloatArray:
    """Annual expected returns from scores: ``strength * z(score) * vol / mean(vol)``.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Higher is better; NaN for no opinion, which expects zero.
    volatility : ndarray of shape (n,)
        Any unit; positive.
    strength : float, default=0.025
        Expected annual return of one standard deviation of score.

    Returns
    -------
    ndarray of shape (n,)

    References
    ----------
    R. Grinold (1994), Alpha is volatility times IC times score, Journal of Portfolio
    Management 20(4), doi:10.3905/jpm.1994.409482.

    Examples
    --------
    >>> expected_returns(np.array([1.0, -1.0, np.nan]), np.array([0.2, 0.2, 0.2]), strength=0.05)
    array([ 0.05, -0.05,  0.  ])
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
    rows: IntArray,
    eligible: BoolArray,
    limits: Limits | None = None,
    scores: FloatArray | None = None,
    volatility: FloatArray | None = None,
    tradable: BoolArray | None = None,
    sectors: IntArray | None = None,
    betas: FloatArray | None = None,
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
        One of `METHODS`. ``"mean_cvar"`` and ``"mean_variance"`` use `scores`; the others wish
        for their own portfolio and hold the nearest one within the limits.
    returns : ndarray of shape (n_dates, n_assets)
        Daily simple returns; NaN where there is none.
    rows : ndarray of shape (n_rows,) of int
        Row of `returns` on which each decision is made, rising.
    eligible : ndarray of shape (n_rows, n_assets) of bool
        Stocks that may be held; any other is sold, unless suspended.
    limits : Limits, optional
        Long-only, 10 % a stock and nothing else by default.
    scores : ndarray of shape (n_rows, n_assets), optional
        Higher is better. NaN: no opinion; the stock is not added to. A row of NaN decides
        nothing.
    volatility : ndarray of shape (n_rows, n_assets), optional
        Annual forecasts that replace those of the covariance; NaN keeps it.
    tradable : ndarray of shape (n_rows, n_assets) of bool, optional
        False where a stock is known to be suspended: its weight stays.
    sectors : ndarray of shape (n_assets,) or (n_rows, n_assets) of int, optional
        Labels; negative ones share a sector of their own. Needed for the sector limit.
    betas : ndarray of shape (n_rows, n_assets), optional
        Market betas; needed for a beta-neutral book. NaN counts as 1.
    window : int, default=500
        Rows of returns up to the decision: scenarios, and the sample of the covariance.
    min_share : float, default=0.8
        Share of those rows in which a stock needs a return to be bought.
    covariance : {"factor", "clipped", "ledoit_wolf", "ewma"}, default="factor"
        Estimator of :mod:`alphakeel.risk.covariance`.
    strength : float, default=0.025
        See :func:`expected_returns`.
    aversion : float, default=5.0
        Price of half the annual variance, in mean-variance.
    cvar_price : float, default=1.0
        Price of the CVaR of a day, in mean-CVaR; 0 leaves risk to the limits.
    cost_per_side : float, default=0.001
        Cost of one side as a fraction of the traded value (0.001 is 10 basis points).
    holding_period : float, default=60.0
        Days that a position is kept: the cost of a decision's trades is charged once and
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
        If a solver stops without an answer.

    Examples
    --------
    >>> returns = np.random.default_rng(0).normal(0.0, [0.01, 0.02], (300, 2))
    >>> book = allocate(
    ...     "minimum_variance", returns=returns, rows=np.array([299]),
    ...     eligible=np.ones((1, 2), dtype=bool),
    ...     limits=Limits(weight_cap=1.0, volatility_limit=0.1),
    ... )
    >>> book.weights.round(1), book.records[0].status
    (array([[0.6, 0.1]]), 'less_invested')
    """
    limits = limits or Limits()
    _check(method, covariance, scores is not None)
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
    inputs = Inputs(
        returns,
        rows,
        eligible,
        limits=limits,
        scores=scores,
        volatility=volatility,
        tradable=tradable,
        sectors=sectors,
        betas=betas,
    )
    scored = method in SCORED
    yearly = Objective(
        np.zeros(0), cost_per_side * 252.0 / holding_period, cvar_price, aversion, 0.0
    )
    warm, records = WarmStart(), []
    weights: FloatArray = np.full(inputs.eligible.shape, np.nan)
    book, since = np.zeros(inputs.eligible.shape[1]), 0
    for i, row in enumerate(inputs.rows.tolist()):
        held = inputs.present(i, drifted(book, inputs.returns[since + 1 : row + 1]))
        book, since = held, row
        if scored and inputs.scores is not None and np.isnan(inputs.scores[i]).all():
            records.append(Record(row, "silent", {}))
            continue
        decision = inputs.decision(
            i, held, window=window, min_share=min_share, covariance=covariance, scored=scored
        )
        weights[i] = 0.0
        if decision is None:
            weights[i] = np.where(inputs.frozen(i), held, 0.0)
            records.append(_short_of_history(row, held, weights[i], limits))
        else:
            opinion = inputs.scores[i] if inputs.scores is not None else None
            objective = _objective(method, decision, opinion, yearly, strength)
            bounds = _investing(decision, limits) if method == "minimum_variance" else limits
            chosen, record = _decide(decision, bounds, objective, smoothing, row, warm)
            weights[i, decision.columns] = chosen
            records.append(record)
        book, since = weights[i], row + lag
    return Allocation(weights, tuple(records))


def _objective(
    method: str,
    decision: Decision,
    scores: FloatArray | None,
    yearly: Objective,
    strength: float,
) -> Objective:
    """What the method wants of one decision."""
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
    open_to = np.isinf(decision.room) & ~decision.frozen
    wish = np.where(decision.frozen, decision.held, 0.0)
    if open_to.any():
        left = max(1.0 - wish.sum(), 0.0)
        share = np.full(int(open_to.sum()), 1.0 / open_to.sum())
        if method in CLASSIC:
            share = classic_weights(method, decision.scenarios[:, open_to])
        wish[open_to] = left * share
    return Objective(wish, ridge=1.0)


def _investing(decision: Decision, limits: Limits) -> Limits:
    """The limits with all money invested, as far as the caps on single stocks allow."""
    if limits.neutral:
        raise ConfigError("minimum variance is a long-only book; leave out neutral")
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
    answer = None
    # A wish that keeps every limit is its own nearest portfolio.
    kept = objective.ridge > 0.0 and not breaches(
        measure(objective.alpha, decision, limits), limits
    )
    if not kept:
        answer = solve(decision, limits, objective, warm=warm)
    conflict: tuple[str, ...] = ()
    if kept or answer is not None:
        status = "optimal"
        fresh = objective.alpha if answer is None else answer.weights
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
            # A stock without room for more may keep what it has, whatever the others do.
            part = np.minimum(part, upper[moving])
            blend[moving] = capped_proportional(part[None], cap=limits.weight_cap, budget=budget)[0]
            blend = np.minimum(blend, upper)
        over = breaches(measure(blend, decision, limits), limits)
        if all(excess <= allowed.get(name, 0.0) + TOLERANCE for name, excess in over.items()):
            return blend
    return fresh


def _binding(used: dict[str, float], limits: Limits) -> tuple[str, ...]:
    """Limits in use to the last bit; VaR binds where CVaR stands at its bound."""
    found = []
    for name, bound in bound_of(limits).items():
        value = used["cvar" if name == "var" else name]
        slack = value - bound if name == "invested" else bound - value
        if name not in ("eligible", "neutral") and bound > 0.0 and slack <= 1e-5 * max(bound, 0.1):
            found.append(name)
    return tuple(found)


def _reason(conflict: tuple[str, ...], over: dict[str, float], suspended: bool) -> str:
    if not over:
        return ""
    broken = ", ".join(f"{name} by {excess:.2g}" for name, excess in over.items())
    if conflict:
        cause = f"the limits of {' and '.join(conflict)} cannot be met together"
        if suspended:
            cause += " with the suspended stocks that are held"
    else:
        cause = "suspended stocks keep their weight"
    return f"{cause}: broken {broken}"


def _short_of_history(row: int, held: FloatArray, kept: FloatArray, limits: Limits) -> Record:
    """The record of a decision that holds cash, but for suspended stocks."""
    used = {
        "turnover": float(np.abs(kept - held).sum()),
        "weight": float(np.abs(kept).max(initial=0.0)),
        "invested": float(kept.sum()),
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
