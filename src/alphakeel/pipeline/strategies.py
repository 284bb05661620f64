"""From scores to portfolios: every strategy of a study, without and under the overlay.

Benchmarks and models are traded by the same simulator under the same overlay, so that a difference
between two portfolios is a difference of decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from alphakeel.backtest.costs import ProportionalCost
from alphakeel.backtest.ledger import Ledger
from alphakeel.backtest.market_rules import Margin
from alphakeel.config import OverlayConfig, StudyConfig
from alphakeel.evaluation.performance import ReturnSeries, return_series
from alphakeel.model_factory import (
    BENCHMARKS,
    CAP_WEIGHT,
    EQUAL_WEIGHT,
    MINIMUM_VARIANCE,
    under_overlay,
)
from alphakeel.pipeline.dataset import Dataset
from alphakeel.pipeline.model_results import ModelResult
from alphakeel.pipeline.simulator import (
    Portfolio,
    Simulator,
    levered_margin,
    market_of,
    short_margin,
)
from alphakeel.portfolio import heuristics
from alphakeel.portfolio.constraints import RELATIVE, Limits
from alphakeel.portfolio.exposure import limit_exposure
from alphakeel.portfolio.hedging import (
    HedgedPortfolio,
    composition_betas,
    hedge_portfolio,
)
from alphakeel.portfolio.heuristics import cap_gross, long_short_quantile
from alphakeel.portfolio.optimisation import Record, allocate
from alphakeel.portfolio.overlay import Brake, Overlay, overlay, overlay_targets
from alphakeel.risk.value_at_risk import TailForecast, portfolio_var
from alphakeel.risk.volatility import portfolio_returns, portfolio_volatility
from alphakeel.stats.cross_section import row_sums
from alphakeel.stats.exposure_rules import LIMITED

__all__ = [
    "Portfolios",
    "Traded",
    "benchmark_labels",
    "benchmark_weights",
    "compute_weights",
    "forecast_hedged_risk",
    "forecast_risk",
    "hedge",
    "apply_overlay",
    "trade_all",
    "trade_scores",
    "trade_overlaid",
    "trade_plain",
    "trade_weights",
    "allocate_scores",
    "hold_under_limits",
]

Floats = npt.NDArray[np.float64]
Real = npt.NDArray[np.floating[Any]]

# Costs of one side as fractions of the traded value: 0 to 50 basis points.
COST_SWEEP = (0.0, 0.0005, 0.001, 0.002, 0.003, 0.005)
# Wealth at the start, in the currency of the prices: from a million to a hundred thousand million.
SIZE_SWEEP = (1e6, 1e7, 1e8, 1e9, 1e10, 1e11)


@dataclass(frozen=True, eq=False)
class Portfolios:
    """Every portfolio of a study, each over the test days.

    Attributes
    ----------
    strategies : dict of str to Ledger
        Benchmarks and models without the overlay, by label.
    overlaid : dict of str to Ledger
        The same under the overlay, by the same labels.
    overlays : dict of str to Overlay
        Exposure of each under the overlay.
    scores_only : dict of str to Ledger
        Each model's best stocks with equal weights: scores without an allocation, by label.
    records : dict of str to tuple of Record
        Of an optimiser at each decision, for the strategies that have one.
    value_at_risk : dict of str to TailForecast
        One-day 95 % VaR and CVaR of every strategy, without and under the overlay: row t is about
        the day after it.
    members : dict of (str, int) to ReturnSeries
        Each network of an ensemble traded by itself, by label and seed, without the overlay.
    cost_sweep, size_sweep : dict of (str, float) to ReturnSeries
        The same decisions at other costs of one side, and with more money; empty where the
        settings or the data exclude them.
    market_text : tuple of str
        The market rules and costs in words; empty with one flat cost.
    hedged : dict of str to HedgedPortfolio
        Equal weight and the models without the overlay, with the market index sold short against
        them, by label; empty unless the settings ask for it.
    hedged_risk : dict of str to TailForecast
        One-day 95 % VaR and CVaR of these, by the same labels.
    """

    strategies: dict[str, Ledger]
    overlaid: dict[str, Ledger]
    overlays: dict[str, Overlay]
    scores_only: dict[str, Ledger]
    records: dict[str, tuple[Record, ...]]
    value_at_risk: dict[str, TailForecast]
    members: dict[tuple[str, int], ReturnSeries]
    cost_sweep: dict[tuple[str, float], ReturnSeries]
    size_sweep: dict[tuple[str, float], ReturnSeries]
    market_text: tuple[str, ...]
    hedged: dict[str, HedgedPortfolio] = field(default_factory=dict)
    hedged_risk: dict[str, TailForecast] = field(default_factory=dict)

    def every_ledger(self) -> dict[str, Ledger]:
        """The strategies without the overlay, and then under it, by label."""
        overlaid = {under_overlay(name): ledger for name, ledger in self.overlaid.items()}
        return {**self.strategies, **overlaid}


@dataclass(frozen=True, eq=False)
class Traded:
    """One strategy, traded without and under the overlay, with the risk forecast of each."""

    plain: Portfolio
    risk: TailForecast
    held: Portfolio
    overlay: Overlay
    held_risk: TailForecast


def trade_weights(
    weights: Floats, margin: Margin | None, simulator: Simulator, config: StudyConfig
) -> Traded:
    """Trade decided weights, (n_decisions, n_assets), as a study does; under the overlay too."""
    plain, risk = trade_plain(weights, margin, simulator)
    return Traded(plain, risk, *trade_overlaid(plain, risk, simulator, config))


def trade_plain(
    weights: Floats, margin: Margin | None, simulator: Simulator
) -> tuple[Portfolio, TailForecast]:
    """The part of `trade_weights` without the overlay."""
    plain = simulator.trade(weights, margin)
    return plain, forecast_risk(plain, simulator)


def trade_overlaid(
    plain: Portfolio, risk: TailForecast, simulator: Simulator, config: StudyConfig
) -> tuple[Portfolio, Overlay, TailForecast]:
    """The part under the overlay, from what `trade_plain` gives."""
    rate = config.costs.financing_rate
    held, plan = apply_overlay(plain, risk, simulator, config.overlay, financing_rate=rate)
    return held, plan, forecast_risk(held, simulator)


def trade_all(
    models: Mapping[str, ModelResult],
    volatility: Real,
    simulator: Simulator,
    dataset: Dataset,
    config: StudyConfig,
) -> Portfolios:
    """Trade every portfolio of a study: strategies, the same under the overlay, parts and sweeps.

    Parameters
    ----------
    models : mapping of str to ModelResult
    volatility : ndarray of shape (n_decisions of the study, n_assets)
        Annual, for the allocation.
    simulator : Simulator
        Of the test.
    dataset : Dataset
        That `simulator` was cut from.
    config : StudyConfig
    """
    tested = slice(len(volatility) - len(simulator.decisions), None)
    decided, records = compute_weights(models, volatility[tested], simulator, config)
    margins = _margins_of(models, config)
    traded = {
        name: trade_weights(weights, margins.get(name), simulator, config)
        for name, weights in decided.items()
    }
    plain = {name: own.plain for name, own in traded.items()}
    held = {name: own.held for name, own in traded.items()}
    risk = {name: own.risk for name, own in traded.items()}
    chosen = _scores_only(models, simulator, config)
    risk |= {under_overlay(name): own.held_risk for name, own in traded.items()}
    costs, sizes = {}, {}
    if config.report.sensitivity:
        both = {**plain, **{under_overlay(name): own for name, own in held.items()}}
        costs = _sweep_costs(both, simulator)
        scored = {name: own for name, own in plain.items() if name in chosen}
        sizes = _sweep_sizes(scored, simulator, dataset, config)
    return Portfolios(
        strategies={name: own.ledger for name, own in plain.items()},
        overlaid={name: own.ledger for name, own in held.items()},
        overlays={name: own.overlay for name, own in traded.items()},
        scores_only={name: simulator.trade(weights).ledger for name, weights in chosen.items()},
        records=records,
        value_at_risk=risk,
        members=_trade_members(models, volatility[tested], simulator, config),
        cost_sweep=costs,
        size_sweep=sizes,
        market_text=simulator.describe(config),
        **_hedge_all(plain, models, simulator, config),
    )


def trade_scores(
    scores: Real,
    weights: Real | None,
    volatility: Real,
    simulator: Simulator,
    config: StudyConfig,
    *,
    safety: Real | None = None,
    under: bool = False,
) -> Ledger:
    """Trade the scores or weights of one model on the simulator's decisions, as a study does.

    Parameters
    ----------
    scores : ndarray of shape (n_decisions, n_assets)
    weights : ndarray of shape (n_decisions, n_assets) or None
        Composition of a model that allocates by itself; scores are allocated otherwise.
    volatility : ndarray of shape (n_decisions, n_assets)
    simulator : Simulator
    config : StudyConfig
    safety : ndarray of shape (n_decisions, 4), optional
        Safety factors of that model's limits; by default 1.
    under : bool, default=False
        Under the overlay.
    """
    margin = None
    if weights is None:
        margin = short_margin(config)
        weights = allocate_scores(scores, volatility, simulator, config)[0]
    else:
        weights = hold_under_limits(weights, safety, simulator, config)
    portfolio = simulator.trade(np.asarray(weights, np.float64), margin)
    if under:
        risk, rate = forecast_risk(portfolio, simulator), config.costs.financing_rate
        portfolio, _ = apply_overlay(
            portfolio, risk, simulator, config.overlay, financing_rate=rate
        )
    return portfolio.ledger


def compute_weights(
    models: Mapping[str, ModelResult],
    volatility: Real,
    simulator: Simulator,
    config: StudyConfig,
) -> tuple[dict[str, Floats], dict[str, tuple[Record, ...]]]:
    """Weights of benchmarks and models, (n_decisions, n_assets), and the optimiser's records.

    Both by label. Volatility is an annual forecast of each stock on the simulator's decisions.
    """
    weights = {
        label: benchmark_weights(label, simulator, config) for label in benchmark_labels(config)
    }
    records: dict[str, tuple[Record, ...]] = {}
    tested = slice(-len(simulator.decisions), None)
    for result in models.values():
        if result.weights is not None:
            own_factors = None if result.safety is None else result.safety[tested]
            weights[result.label] = hold_under_limits(
                result.weights[tested], own_factors, simulator, config
            )
            continue
        own, notes = allocate_scores(result.scores[tested], volatility, simulator, config)
        weights[result.label] = own
        if notes:
            records[result.label] = notes
    return weights, records


def hold_under_limits(
    shares: Real, safety: Real | None, simulator: Simulator, config: StudyConfig
) -> Floats:
    """Weights of a model that allocates by itself: its composition at the exposure of its limits.

    The exposure follows the portfolio's own wealth from the first decision on, over the joined
    compositions of all folds; what is in cash earns the rate of the settings. `safety` are factors
    (n_decisions, 4) in the order of `LIMITED`.
    """
    own = np.asarray(shares, np.float64)
    factors = None
    if safety is not None:
        factors = {name: np.asarray(safety[:, k], np.float64) for k, name in enumerate(LIMITED)}
    limits = {name: x for name, x in config.limits.keywords().items() if x is not None}
    path = limit_exposure(
        own,
        simulator.returns,
        simulator.decisions,
        limits=limits,
        factors=factors,
        lag=simulator.lag,
        cost_per_side=config.costs.cost_per_side,
        end=simulator.start + len(simulator.price) - 1,
        riskless=simulator.riskless_by_row,
    )
    return own * path.exposure[:, None]


def benchmark_labels(config: StudyConfig) -> tuple[str, ...]:
    """The strategies without scores, equal weight first."""
    further = (BENCHMARKS[method] for method in config.allocation.benchmarks)
    by_value = (CAP_WEIGHT,) if config.allocation.benchmark == "cap_weight" else ()
    return (EQUAL_WEIGHT, *by_value, MINIMUM_VARIANCE, *further)


def benchmark_weights(label: str, simulator: Simulator, config: StudyConfig) -> Floats:
    """Weights of one of `benchmark_labels`, (n_decisions, n_assets)."""
    alloc = config.allocation
    if label == EQUAL_WEIGHT:
        return heuristics.equal_weight(simulator.eligible)
    if label == CAP_WEIGHT:
        assert simulator.benchmark is not None  # noqa: S101  (cut with the same settings)
        assert simulator.benchmark.weights is not None  # noqa: S101
        return simulator.benchmark.weights
    if label == MINIMUM_VARIANCE:
        return heuristics.minimum_variance(
            simulator.returns,
            simulator.decisions,
            simulator.eligible,
            window=alloc.covariance_window,
            weight_cap=alloc.weight_cap,
        )
    method = next(name for name in alloc.benchmarks if BENCHMARKS[name] == label)
    return allocate(
        method,
        returns=simulator.returns,
        decisions=simulator.decisions,
        eligible=simulator.eligible,
        limits=Limits(weight_cap=alloc.weight_cap),
        window=alloc.covariance_window,
        smoothing=1.0,
        lag=simulator.lag,
    ).weights


def allocate_scores(
    scores: Real,
    volatility: Real,
    simulator: Simulator,
    config: StudyConfig,
) -> tuple[Floats, tuple[Record, ...]]:
    """Weights of one model's scores, both (n_decisions, n_assets), and an optimiser's records."""
    alloc = config.allocation
    known = np.asarray(scores, np.float64)
    risk = np.asarray(volatility, np.float64)
    if alloc.method == "top_quantile":
        terms: dict[str, Any] = {
            "eligible": simulator.eligible,
            "quantile": alloc.quantile,
            "weight_cap": alloc.weight_cap,
            "smoothing": alloc.smoothing,
        }
        if alloc.neutral is None:
            return heuristics.top_quantile(known, risk, **terms), ()
        terms |= {"gross": alloc.gross, "betas": simulator.betas}
        return long_short_quantile(known, risk, **terms), ()
    relative: dict[str, Any] = {}
    if alloc.method == "enhanced_index":
        assert simulator.benchmark is not None  # noqa: S101  (cut with the same settings)
        relative = simulator.benchmark.keywords()
    optimised = allocate(
        alloc.method,
        returns=simulator.returns,
        decisions=simulator.decisions,
        eligible=simulator.eligible,
        limits=_limits_of(config),
        scores=known,
        # Tracking errors follow the stocks' volatility of today, not that of the whole window.
        volatility=risk if relative or alloc.volatility == "network" else None,
        tradable=simulator.tradable[simulator.decisions - simulator.start],
        sectors=simulator.sectors,
        betas=simulator.betas,
        window=alloc.window,
        covariance=alloc.covariance,
        strength=alloc.strength,
        aversion=alloc.aversion,
        cost_per_side=config.costs.cost_per_side,
        holding_period=alloc.holding_period,
        smoothing=alloc.smoothing,
        lag=simulator.lag,
        **relative,
    )
    return optimised.weights, optimised.records


def _trade_members(
    models: Mapping[str, ModelResult],
    volatility: Real,
    simulator: Simulator,
    config: StudyConfig,
) -> dict[tuple[str, int], ReturnSeries]:
    """Trade each network of an ensemble by itself: by label and seed."""
    tested = slice(-len(simulator.decisions), None)
    return {
        (result.label, seed): return_series(
            trade_scores(scores[tested], None, volatility, simulator, config)
        )
        for result in models.values()
        if result.members is not None
        for seed, scores in enumerate(result.members)
    }


def _limits_of(config: StudyConfig) -> Limits:
    """The limits of the optimised methods."""
    relative = config.allocation.method == "enhanced_index"
    names = [spec.name for spec in fields(Limits)]
    if not relative:
        names = [name for name in names if name.removesuffix("_limit") not in RELATIVE]
    return Limits(**config.allocation.keywords(only=names))


def _margins_of(models: Mapping[str, ModelResult], config: StudyConfig) -> dict[str, Margin]:
    """The margin of each model that sells short, by label: those whose scores are allocated."""
    margin = short_margin(config)
    scored = [result.label for result in models.values() if result.weights is None]
    return {} if margin is None else dict.fromkeys(scored, margin)


def forecast_risk(portfolio: Portfolio, simulator: Simulator) -> TailForecast:
    """Forecast the 95 % VaR and CVaR of a portfolio: on row t, of the day after it."""
    ledger = portfolio.ledger
    return portfolio_var(
        ledger.weights, simulator.returns, ledger.net_returns, first=simulator.start
    )


def apply_overlay(
    portfolio: Portfolio,
    risk: TailForecast,
    simulator: Simulator,
    settings: OverlayConfig,
    *,
    financing_rate: float = 0.0,
) -> tuple[Portfolio, Overlay]:
    """Put a portfolio under the overlay: the same composition at the exposure that risk allows."""
    throttle = None
    if simulator.bear is not None and settings.bear_exposure is not None:
        throttle = np.where(simulator.bear, settings.bear_exposure, np.nan)
    margin = levered_margin(portfolio.margin, settings.max_exposure, financing_rate)
    earned = portfolio_returns(portfolio.ledger.net_returns, portfolio.ledger.weights)
    plan = overlay(
        earned,
        decided=np.asarray(~np.isnan(portfolio.targets).all(axis=1)),
        target_volatility=settings.target_volatility,
        volatility=_volatility_of(portfolio, earned, simulator),
        var_cap=settings.var_cap,
        # Below 0 it forecasts a gain even in the tail: there is no risk to cap.
        value_at_risk=np.maximum(risk.var, 0.0),
        throttle=throttle,
        brake=None if settings.brake_start is None else Brake(**settings.keywords(prefix="brake_")),
        max_exposure=settings.max_exposure,
        band=settings.band,
        lag=simulator.lag,
        cost_per_side=simulator.cost_per_side,
        invested=row_sums(portfolio.ledger.weights),
        financing_rate=financing_rate,
        riskless=simulator.riskless,
    )
    targets = overlay_targets(portfolio.targets, portfolio.ledger.weights, plan, lag=simulator.lag)
    if margin.short:  # shorts that lost have grown over wealth: a decision never adds to that
        targets = cap_gross(targets, margin.max_gross)
    return simulator.trade_daily(targets, margin), plan


def _volatility_of(portfolio: Portfolio, earned: Floats, simulator: Simulator) -> Floats:
    """Forecast of a portfolio's volatility at each close, from its own returns.

    The returns before its first day are those of the mean stock; for a portfolio that sells short,
    those of its first holdings, and there is no forecast before these are decided.
    """
    if not portfolio.margin.short:
        return portfolio_volatility(earned, lag=simulator.lag, history=simulator.history)
    decided = np.flatnonzero(np.nan_to_num(portfolio.targets).any(axis=1))
    if not len(decided):
        return np.full(len(earned), np.nan)
    first = portfolio.targets[decided[0]]
    held = np.flatnonzero(first)
    past = np.nan_to_num(simulator.returns[: simulator.start, held]) @ first[held]
    forecast = portfolio_volatility(earned, lag=simulator.lag, history=past)
    forecast[: decided[0]] = np.nan
    return forecast


def _scores_only(
    models: Mapping[str, ModelResult], simulator: Simulator, config: StudyConfig
) -> dict[str, Floats]:
    """Each model's best stocks with equal weights, by label: scores without an allocation.

    A model that allocates by itself has none.
    """
    return {
        result.label: heuristics.top_quantile(
            np.asarray(result.scores[-len(simulator.decisions) :], np.float64),
            np.ones(simulator.eligible.shape),
            eligible=simulator.eligible,
            quantile=config.allocation.quantile,
            weight_cap=1.0,
            smoothing=1.0,
        )
        for result in models.values()
        if result.weights is None
    }


def _hedge_all(
    portfolios: Mapping[str, Portfolio],
    models: Mapping[str, ModelResult],
    simulator: Simulator,
    config: StudyConfig,
) -> dict[str, Any]:
    """Equal weight and every model with the market sold against it, and its risk, by label."""
    if not config.allocation.hedge:
        return {}
    labels = [EQUAL_WEIGHT, *(result.label for result in models.values())]
    own = {label: hedge(portfolios[label], simulator, config) for label in labels}
    risk = {
        label: forecast_hedged_risk(portfolios[label], own[label], simulator) for label in labels
    }
    return {"hedged": own, "hedged_risk": risk}


def hedge(portfolio: Portfolio, simulator: Simulator, config: StudyConfig) -> HedgedPortfolio:
    """Sell the beta of a portfolio short; the beta is that of each decided composition."""
    assert simulator.index is not None  # noqa: S101  (cut with the same settings)
    ledger, start = portfolio.ledger, simulator.start
    rows = simulator.decisions - start
    betas = np.full(len(ledger.net_returns), np.nan)
    betas[rows] = composition_betas(
        portfolio.targets[rows], simulator.returns, simulator.index, simulator.decisions
    )
    index = simulator.index[start : start + len(betas)].copy()
    index[0] = 0.0  # nothing is sold before the first close
    return hedge_portfolio(
        ledger.net_returns,
        ledger.gross_returns,
        turnover=ledger.turnover,
        invested=ledger.invested,
        index=index,
        riskless=ledger.riskless,
        betas=betas,
        lag=simulator.lag,
        stock_cost=simulator.cost_per_side,
        **config.costs.keywords(prefix="hedge_"),
    )


def forecast_hedged_risk(
    portfolio: Portfolio, own: HedgedPortfolio, simulator: Simulator
) -> TailForecast:
    """Forecast of a hedged portfolio's VaR and CVaR, the index being one more stock sold short."""
    assert simulator.index is not None  # noqa: S101  (cut with the same settings)
    weights = np.column_stack([portfolio.ledger.weights * own.scale[:, None], -own.hedge])
    returns = np.column_stack([simulator.returns, simulator.index])
    return portfolio_var(weights, returns, own.net_returns, first=simulator.start)


def _sweep_costs(
    portfolios: Mapping[str, Portfolio], simulator: Simulator
) -> dict[tuple[str, float], ReturnSeries]:
    """Repeat the same decisions at other costs of one side: by label and rate."""

    def at(own: Portfolio, rate: float) -> Ledger:
        if simulator.market is None and rate == simulator.cost_per_side:
            return own.ledger  # what it was traded at
        cost = ProportionalCost(rate)
        return simulator.backtest_at_cost(own.targets, cost=cost, margin=own.margin)

    return {
        (name, rate): return_series(at(own, rate))
        for name, own in portfolios.items()
        for rate in COST_SWEEP
    }


def _sweep_sizes(
    portfolios: Mapping[str, Portfolio],
    simulator: Simulator,
    dataset: Dataset,
    config: StudyConfig,
) -> dict[tuple[str, float], ReturnSeries]:
    """Repeat the same decisions with more and more money, in a market where size matters.

    The rules are those of the settings' preset, or of the US where it is flat. Empty where the
    data have no volumes.
    """
    if not {"close", "volume"} <= set(dataset.panel.fields):
        return {}
    preset = "us" if config.costs.preset == "flat" else config.costs.preset
    days = slice(simulator.start, simulator.start + len(simulator.price))
    market = market_of(dataset.panel, preset, config, days)
    return {
        (name, size): return_series(
            simulator.backtest_in_market(own.targets, market, size, margin=own.margin)
        )
        for name, own in portfolios.items()
        for size in SIZE_SWEEP
    }
