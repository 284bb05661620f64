"""Limits of a portfolio, the data of one decision, and by how much weights break a limit.

`DecisionData` cuts what each decision knows from the whole history, without looking past its row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError, DataError
from alphakeel.portfolio.benchmark import Active, TrackingBias
from alphakeel.risk.covariance import COVARIANCES, FactorCovariance
from alphakeel.risk.volatility import check_rows
from alphakeel.stats.cross_section import row_sums

__all__ = [
    "Decision",
    "DecisionData",
    "Limits",
    "PERIODS",
    "TOLERANCE",
    "bound_of",
    "breaches",
    "drifted",
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

# Limits that are measured against a benchmark.
RELATIVE = ("tracking_error", "active_weight", "style")

# Fewer scenarios do not estimate a tail: the portfolio stays in cash until there are so many.
MIN_SCENARIOS = 20


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
        is invested (so that cash deviates from nothing); with a benchmark from its weight there.
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
    tracking_error_limit : float, optional
        Largest forecast volatility of the return less the benchmark's, a year.
    active_weight_limit : float, optional
        Largest deviation of a stock's weight from that in the benchmark.
    style_limit : float, optional
        Largest deviation of the exposure to a style from the benchmark's, in standard deviations
        of the stocks of the date.
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
    tracking_error_limit: float | None = None
    active_weight_limit: float | None = None
    style_limit: float | None = None

    def __post_init__(self) -> None:
        names = ("volatility", "cvar", "var", "drawdown", "sector", "turnover", *RELATIVE)
        for name in names:
            value = getattr(self, f"{name}_limit")
            if value is not None and not 0.0 <= value < np.inf:
                words = name.replace("_", " ")
                raise ConfigError(f"the {words} limit is {value!r}; give a fraction of at least 0")
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
    max_weight : ndarray of shape (n,)
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
        One row a sector: 1 for its stocks less its share among the eligible (with a benchmark:
        less its weight there).
    betas : ndarray of shape (n,)
        Market betas.
    active : Active or None
        The benchmark; None for a portfolio that has none.
    """

    columns: IntArray
    held: FloatArray
    max_weight: FloatArray
    frozen: BoolArray
    scenarios: FloatArray
    rows: IntArray
    covariance: FactorCovariance
    sectors: FloatArray
    betas: FloatArray
    active: Active | None = None

    def bounds(self, limits: Limits, relaxed: frozenset[str]) -> tuple[FloatArray, FloatArray]:
        """Least and largest weight of each stock under the limits that are not relaxed."""
        cap = np.full(len(self.held), limits.weight_cap)
        if "weight" in relaxed:
            cap = np.maximum(cap, np.abs(self.held))
        most = self.max_weight
        if "eligible" in relaxed:
            most = np.maximum(most, np.abs(self.held))
        upper = np.minimum(cap, most)
        lower = -upper if limits.neutral else np.zeros_like(upper)
        away = limits.active_weight_limit
        if self.active is not None and away is not None and "active_weight" not in relaxed:
            lower = np.maximum(lower, self.active.weights - away)
            upper = np.minimum(upper, self.active.weights + away)
        return np.where(self.frozen, self.held, lower), np.where(self.frozen, self.held, upper)

    def expect(self, bias: TrackingBias, weights: FloatArray) -> None:
        """Keep weights of all stocks with the forecast of their tracking error, if there is one."""
        if self.active is None:
            return
        benchmark = np.zeros_like(weights)
        benchmark[self.columns] = self.active.weights
        raw = replace(self.active, scale=1.0)
        variance = raw.tracking_variance(weights[self.columns], self.covariance)
        bias.expect(weights.copy(), benchmark, variance)

    def keeping(self, chosen: BoolArray) -> Decision:
        """The same decision in which all but the chosen stocks have to be sold."""
        return replace(self, max_weight=np.where(chosen, self.max_weight, 0.0))


def scenario_tail(losses: FloatArray, confidence: float) -> tuple[float, float]:
    """VaR and CVaR of equally likely losses (positive): the quantile, and the mean beyond it.

    R. T. Rockafellar, S. Uryasev (2002), doi:10.1016/S0378-4266(02)00271-6.
    """
    size = (1.0 - confidence) * len(losses)
    worst = -np.sort(-losses)
    # The slack keeps 0.05 * 500 at 25 scenarios whatever its last bit.
    whole = min(int(np.floor(size + 1e-9)), len(losses))
    part = max(size - whole, 0.0) * worst[min(whole, len(losses) - 1)]
    at = max(int(np.ceil(size - 1e-9)) - 1, 0)
    return float(worst[at]), float((worst[:whole].sum() + part) / size)


def measure(weights: FloatArray, decision: Decision, limits: Limits) -> dict[str, float]:
    """How much of each limit weights use, in the limit's own unit, whether it is limited or not."""
    earned = decision.scenarios @ weights
    var, cvar = scenario_tail(-earned, limits.confidence)
    path = np.concatenate([[0.0], np.cumsum(earned)])
    return _measure_active(weights, decision) | {
        "weight": float(np.abs(weights).max(initial=0.0)),
        "eligible": float(np.maximum(np.abs(weights) - decision.max_weight, 0.0).max(initial=0.0)),
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


def _measure_active(weights: FloatArray, decision: Decision) -> dict[str, float]:
    """The same of the limits that are measured against a benchmark; nothing without one."""
    active = decision.active
    if active is None:
        return {}
    variance = active.tracking_variance(weights, decision.covariance)
    used = {"tracking_error": float(np.sqrt(PERIODS * variance))}
    if active.by_weights:
        off = np.abs(weights - active.weights)
        used["active_weight"] = float(off.max(initial=0.0))
        used["style"] = float(np.abs(active.style_deviations(weights)).max(initial=0.0))
    return used


def bound_of(limits: Limits) -> dict[str, float]:
    """The limits that are on, by name; `eligible` (nothing beyond `max_weight`) always is."""
    on = {"weight": limits.weight_cap, "eligible": 0.0}
    own = ("volatility", "cvar", "var", "drawdown", "sector", "names", "turnover", *RELATIVE)
    for name in own:
        value = limits.max_names if name == "names" else getattr(limits, f"{name}_limit")
        if value is not None:
            on[name] = float(value)
    if limits.neutral:
        on |= {"gross": limits.gross, "neutral": 0.0}
    else:
        on |= {"invested": limits.invested, "gross": 1.0}
    return on


def breaches(used: dict[str, float], limits: Limits) -> dict[str, float]:
    """By how much each limit is broken, beyond what a solver's rounding explains."""
    over = {}
    for name, bound in bound_of(limits).items():
        if name in used:
            excess = bound - used[name] if name == "invested" else used[name] - bound
            if excess > TOLERANCE:
                over[name] = excess
    return over


def drifted(weights: FloatArray, returns: FloatArray) -> FloatArray:
    """Weights after days of simple returns without trades; NaN counts as 0, cash earns nothing."""
    values = weights * np.prod(1.0 + np.nan_to_num(returns, nan=0.0), axis=0)
    return np.asarray(values / (1.0 + row_sums(values) - row_sums(weights)))


class DecisionData:
    """Checked data of all decisions; the parameters are those of :func:`.optimisation.allocate`."""

    def __init__(
        self,
        returns: FloatArray,
        decisions: IntArray,
        eligible: BoolArray,
        *,
        limits: Limits,
        scores: FloatArray | None,
        volatility: FloatArray | None,
        tradable: BoolArray | None,
        sectors: IntArray | None,
        betas: FloatArray | None,
        benchmark: FloatArray | None = None,
        benchmark_returns: FloatArray | None = None,
        styles: FloatArray | None = None,
    ) -> None:
        self.returns = np.asarray(returns, np.float64)
        self.eligible = np.asarray(eligible)
        if self.returns.ndim != 2 or np.isinf(self.returns).any():
            raise DataError("returns have to be finite or NaN, of shape (n_dates, n_assets)")
        n_decisions, n_assets = len(np.atleast_1d(decisions)), self.returns.shape[1]
        if self.eligible.shape != (n_decisions, n_assets) or self.eligible.dtype != np.bool_:
            raise DataError(
                f"eligible has shape {self.eligible.shape} and type {self.eligible.dtype}; give "
                f"bool of {(n_decisions, n_assets)}"
            )
        self.decisions = check_rows("decision rows", decisions, n_decisions, len(self.returns))
        if (np.diff(self.decisions) <= 0).any():
            raise DataError("decision rows have to rise from one decision to the next")
        if limits.sector_limit is not None and sectors is None:
            raise ConfigError("the sector limit needs the stocks' sectors")
        if limits.neutral == "beta" and betas is None:
            raise ConfigError("a beta-neutral portfolio needs the stocks' betas")
        shape = self.eligible.shape
        self.scores = _fitting("scores", scores, shape)
        self.volatility = _fitting("volatility", volatility, shape)
        self.betas = _fitting("betas", betas, shape)
        self.tradable = _fitting("tradable", tradable, shape)
        if sectors is not None and np.ndim(sectors) == 1:
            sectors = np.tile(sectors, (n_decisions, 1))
        self.sectors = _fitting("sectors", sectors, shape)
        self.benchmark = _fitting("benchmark weights", benchmark, shape)
        self.benchmark_returns = _fitting(
            "benchmark returns", benchmark_returns, (len(self.returns),)
        )
        self.styles = styles
        if styles is not None and np.shape(styles)[:-1] != shape:
            raise DataError(f"styles have shape {np.shape(styles)}; give {(*shape, 'n_styles')}")
        _check_benchmark(limits, benchmark, benchmark_returns, styles)

    def judge(self, bias: TrackingBias, days: slice) -> None:
        """Hold the last forecast of a tracking error against some days since."""
        index = None if self.benchmark_returns is None else self.benchmark_returns[days]
        bias.realise(self.returns[days], index)

    def present(self, i: int, held: FloatArray) -> FloatArray:
        """What is held without stocks that have ended: those are paid out in cash."""
        ended = np.isnan(self.returns[self.decisions[i]]) & ~self.eligible[i]
        return np.where(ended, 0.0, held)

    def frozen(self, i: int) -> BoolArray:
        """Stocks that cannot be traded."""
        if self.tradable is None:
            return np.zeros(self.eligible.shape[1], dtype=np.bool_)
        return np.asarray(~self.tradable[i])

    def decision(
        self,
        i: int,
        held: FloatArray,
        *,
        window: int,
        min_share: float,
        covariance: str,
        scored: bool,
        tracking_scale: float = 1.0,
    ) -> Decision | None:
        """Everything about decision `i`, or None without a candidate or enough history."""
        row = int(self.decisions[i])
        start = max(0, row - window + 1)
        past = self.returns[start : row + 1]
        if len(past) < MIN_SCENARIOS:
            return None
        enough = (~np.isnan(past)).sum(axis=0) >= min_share * len(past)
        can_hold, stuck = self.eligible[i] & enough, self.frozen(i)
        wanted = (can_hold & ~stuck) | (held != 0.0)
        if self.benchmark is not None:  # what cannot be bought is a risk against the benchmark
            wanted |= can_hold & (self.benchmark[i] > 0.0)
        columns = np.flatnonzero(wanted)
        if columns.size == 0:
            return None
        mine, can_hold, stuck = held[columns], can_hold[columns], stuck[columns]
        max_weight = np.where(can_hold, np.inf, 0.0)
        if scored and self.scores is not None:
            max_weight[can_hold & np.isnan(self.scores[i, columns])] = -1.0
            max_weight = np.where(max_weight < 0.0, np.abs(mine), max_weight)
        max_weight = np.where(stuck & self.eligible[i, columns], np.abs(mine), max_weight)
        scenarios = _without_gaps(past[:, columns])
        estimate, active = self._risk(i, columns, can_hold, scenarios, start, covariance)
        betas = np.ones(columns.size) if self.betas is None else self.betas[i, columns]
        return Decision(
            columns=columns,
            held=mine,
            max_weight=max_weight,
            frozen=stuck,
            scenarios=scenarios,
            rows=np.arange(start, row + 1),
            covariance=estimate,
            sectors=self._sector_rows(i, columns, can_hold, active),
            betas=np.where(np.isnan(betas), 1.0, betas),
            active=None if active is None else replace(active, scale=tracking_scale),
        )

    def _risk(
        self,
        i: int,
        columns: IntArray,
        can_hold: BoolArray,
        scenarios: FloatArray,
        start: int,
        covariance: str,
    ) -> tuple[FactorCovariance, Active | None]:
        """Forecast covariance of the candidates, and the benchmark in its terms.

        Benchmark stocks that are no candidates leave their weight to the others, in proportion.
        """
        forecast = None if self.volatility is None else self.volatility[i, columns] / PERIODS**0.5
        if self.benchmark_returns is not None:
            index = self.benchmark_returns[start : self.decisions[i] + 1]
            joint = COVARIANCES[covariance](_without_gaps(np.column_stack([scenarios, index])))
            if forecast is not None:
                joint = joint.rescaled(np.append(forecast, np.nan))
            return Active.of_last_column(joint)
        estimate = COVARIANCES[covariance](scenarios)
        if forecast is not None:
            estimate = estimate.rescaled(forecast)
        if self.benchmark is None:
            return estimate, None
        weights = np.where(can_hold, self.benchmark[i, columns], 0.0)
        total = float(weights.sum())
        if total <= 0.0:
            raise DataError(
                f"no stock of the benchmark has the history that the decision of row "
                f"{self.decisions[i]} needs: start later, or shorten allocation.window"
            )
        n = columns.size
        styles = np.zeros((0, n)) if self.styles is None else self.styles[i, columns].T
        return estimate, Active.of_weights(weights / total, estimate, np.asarray(styles))

    def _sector_rows(
        self, i: int, columns: IntArray, can_hold: BoolArray, active: Active | None
    ) -> FloatArray:
        if self.sectors is None:
            return np.zeros((0, columns.size))
        labels = self.sectors[i, columns]
        member = (labels[None, :] == np.unique(labels)[:, None]).astype(np.float64)
        share = member @ can_hold / max(int(can_hold.sum()), 1)
        if active is not None and active.by_weights:
            share = member @ active.weights
        return np.asarray(member - share[:, None])


def _check_benchmark(
    limits: Limits,
    weights: FloatArray | None,
    returns: FloatArray | None,
    styles: FloatArray | None,
) -> None:
    """Refuse limits that are measured against what was not given."""
    on = [name for name in RELATIVE if getattr(limits, f"{name}_limit") is not None]
    if on and weights is None and returns is None:
        raise ConfigError(f"the {on[0].replace('_', ' ')} limit needs a benchmark")
    if weights is not None and returns is not None:
        raise ConfigError("a benchmark is given by its weights or by its returns, not by both")
    if returns is not None:
        by_stock = [name for name in on if name != "tracking_error"]
        if limits.sector_limit is not None:
            by_stock.append("sector")
        if by_stock:
            raise ConfigError(
                f"the {by_stock[0].replace('_', ' ')} limit needs the weights of the benchmark, "
                "and of an index only its returns are known"
            )
    if limits.style_limit is not None and styles is None:
        raise ConfigError("the style limit needs the stocks' styles")


def _without_gaps(past: FloatArray) -> FloatArray:
    """Returns whose gaps hold the mean of the others on that day (zero if there are none)."""
    known = ~np.isnan(past)
    filled = np.where(known, past, 0.0)
    if known.all():
        return filled
    mean = filled.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.where(known, filled, mean[:, None])


def _fitting(name: str, values: npt.ArrayLike | None, shape: tuple[int, ...]) -> FloatArray | None:
    if values is None:
        return None
    array = np.asarray(values)
    if array.shape != shape:
        raise DataError(f"{name} have shape {array.shape}; give {shape}")
    return array
