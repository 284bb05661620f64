"""From scores to books: every strategy of a study, bare and under the overlay.

Benchmarks and models meet the same arena and the same overlay, so that a difference between two
books is a difference of decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
from skfolio.containers import AssetPanel

from alphakeel.arena import Arena, Book, borrowing_text, levered, market_of, short_margin
from alphakeel.config import OverlayConfig, StudyConfig
from alphakeel.errors import DataError
from alphakeel.evidence.track import Outcome, outcome_of
from alphakeel.portfolio import allocation
from alphakeel.portfolio.costs import ProportionalCost
from alphakeel.portfolio.limits import Limits
from alphakeel.portfolio.long_short import cap_gross, long_short_quantile
from alphakeel.portfolio.optimise import Record, allocate
from alphakeel.portfolio.overlay import (
    Brake,
    Overlay,
    book_returns,
    book_volatility,
    overlay,
    overlay_targets,
)
from alphakeel.portfolio.rules import Margin
from alphakeel.portfolio.var_forecast import TailForecast, book_var
from alphakeel.results import Books, ModelResult
from alphakeel.roster import BENCHMARKS, EQUAL_WEIGHT, MINIMUM_VARIANCE, under_overlay

__all__ = [
    "compose",
    "forecast_risk",
    "put_under",
    "sweep_costs",
    "sweep_sizes",
    "trade_all",
    "trade_members",
    "unallocated",
]

Floats = npt.NDArray[np.float64]

# Costs of one side as fractions of the traded value: 0 to 50 basis points.
COST_SWEEP = (0.0, 0.0005, 0.001, 0.002, 0.003, 0.005)
# Wealth at the start, in the currency of the prices: from a million to a hundred thousand million.
SIZE_SWEEP = (1e6, 1e7, 1e8, 1e9, 1e10, 1e11)


def trade_all(
    models: Mapping[str, ModelResult],
    volatility: Floats,
    arena: Arena,
    panel: AssetPanel,
    config: StudyConfig,
) -> Books:
    """Every book of a study: strategies, the same under the overlay, rungs and sweeps.

    Parameters
    ----------
    models : mapping of str to ModelResult
    volatility : ndarray of shape (n_decisions of the study, n_assets)
    arena : Arena
    panel : AssetPanel
        The cleaned panel of `arena`.
    config : StudyConfig
    """
    decided, records = compose(models, volatility, arena, config)
    margins = margins_of(models, config)
    bare = {name: arena.trade(weights, margins.get(name)) for name, weights in decided.items()}
    risk = {name: forecast_risk(book, arena) for name, book in bare.items()}
    plans, held = {}, {}
    for name, book in bare.items():
        held[name], plans[name] = put_under(
            book, risk[name], arena, config.overlay, financing_rate=config.costs.financing_rate
        )
    rungs = unallocated(models, arena, config)
    risk |= {under_overlay(name): forecast_risk(book, arena) for name, book in held.items()}
    costs, sizes = {}, {}
    if config.report.sensitivity:
        both = {**bare, **{under_overlay(name): book for name, book in held.items()}}
        costs = sweep_costs(both, arena)
        scored = {name: book for name, book in bare.items() if name in rungs}
        sizes = sweep_sizes(scored, arena, panel, config)
    return Books(
        strategies={name: book.ledger for name, book in bare.items()},
        overlaid={name: book.ledger for name, book in held.items()},
        overlays=plans,
        rungs={name: arena.trade(weights).ledger for name, weights in rungs.items()},
        records=records,
        value_at_risk=risk,
        cost_sweep=costs,
        size_sweep=sizes,
        market_text=(*(arena.market.text if arena.market else ()), *borrowing_text(config)),
    )


def compose(
    models: Mapping[str, ModelResult],
    volatility: Floats,
    arena: Arena,
    config: StudyConfig,
) -> tuple[dict[str, Floats], dict[str, tuple[Record, ...]]]:
    """Weights of benchmarks and models, and what an optimiser noted at each decision.

    Parameters
    ----------
    models : mapping of str to ModelResult
    volatility : ndarray of shape (n_decisions of the study, n_assets)
        Forecast of each stock's volatility, annual.
    arena : Arena
    config : StudyConfig

    Returns
    -------
    weights : dict of str to ndarray of shape (n_decisions of the test, n_assets)
        By label.
    records : dict of str to tuple of Record
        By label; only those whose weights an optimiser found.
    """
    alloc = config.allocation
    weights = {
        EQUAL_WEIGHT: allocation.equal_weight(arena.eligible),
        MINIMUM_VARIANCE: allocation.minimum_variance(
            arena.returns,
            arena.decisions,
            arena.eligible,
            window=alloc.covariance_window,
            weight_cap=alloc.weight_cap,
        ),
    }
    records: dict[str, tuple[Record, ...]] = {}
    for method in alloc.benchmarks:
        found = allocate(
            method,
            returns=arena.returns,
            rows=arena.decisions,
            eligible=arena.eligible,
            limits=Limits(weight_cap=alloc.weight_cap),
            window=alloc.covariance_window,
            smoothing=1.0,
            lag=arena.lag,
        )
        weights[BENCHMARKS[method]] = found.weights
    tested = slice(len(volatility) - len(arena.decisions), None)
    for result in models.values():
        if result.weights is not None:
            weights[result.label] = np.asarray(result.weights[tested], np.float64)
            continue
        own, notes = weigh(result.scores[tested], volatility[tested], arena, config)
        weights[result.label] = own
        if notes:
            records[result.label] = notes
    return weights, records


def weigh(
    scores: npt.NDArray[np.floating[Any]], volatility: Floats, arena: Arena, config: StudyConfig
) -> tuple[Floats, tuple[Record, ...]]:
    """Weights of one model's scores, both (n_decisions of the test, n_assets), and the records."""
    alloc = config.allocation
    known = np.asarray(scores, np.float64)
    if alloc.method == "top_quantile":
        terms: dict[str, Any] = {
            "eligible": arena.eligible,
            "quantile": alloc.quantile,
            "weight_cap": alloc.weight_cap,
            "smoothing": alloc.smoothing,
        }
        if alloc.neutral is None:
            return allocation.top_quantile(known, volatility, **terms), ()
        terms |= {"gross": alloc.gross, "betas": arena.betas}
        return long_short_quantile(known, volatility, **terms), ()
    optimised = allocate(
        alloc.method,
        returns=arena.returns,
        rows=arena.decisions,
        eligible=arena.eligible,
        limits=limits_of(config),
        scores=known,
        volatility=volatility if alloc.volatility == "network" else None,
        tradable=arena.tradable[arena.decisions - arena.start],
        sectors=arena.sectors,
        betas=arena.betas,
        window=alloc.window,
        covariance=alloc.covariance,
        strength=alloc.strength,
        aversion=alloc.aversion,
        cost_per_side=config.costs.cost_per_side,
        holding_period=alloc.holding_period,
        smoothing=alloc.smoothing,
        lag=arena.lag,
    )
    return optimised.weights, optimised.records


def trade_members(
    members: Mapping[str, npt.NDArray[np.float32]],
    volatility: Floats,
    arena: Arena,
    config: StudyConfig,
) -> dict[tuple[str, int], Outcome]:
    """Trade each network of an ensemble as if it stood alone: by label and seed, bare."""
    tested = slice(len(volatility) - len(arena.decisions), None)
    return {
        (label, seed): outcome_of(
            arena.trade(
                weigh(own[tested], volatility[tested], arena, config)[0], short_margin(config)
            ).ledger
        )
        for label, scores in members.items()
        for seed, own in enumerate(scores)
    }


def limits_of(config: StudyConfig) -> Limits:
    """The limits of the optimised methods."""
    names = [spec.name for spec in fields(Limits)]
    return Limits(**config.allocation.keywords(only=names))


def margins_of(models: Mapping[str, ModelResult], config: StudyConfig) -> dict[str, Margin]:
    """The margin of each model that sells short, by label: those whose scores are allocated."""
    margin = short_margin(config)
    scored = [result.label for result in models.values() if result.weights is None]
    return {} if margin is None else dict.fromkeys(scored, margin)


def forecast_risk(book: Book, arena: Arena) -> TailForecast:
    """Forecast the 95 % VaR and CVaR of a book: on row t, of the day after it."""
    ledger = book.ledger
    return book_var(ledger.weights, arena.returns, ledger.net_returns, first=arena.start)


def put_under(
    book: Book,
    risk: TailForecast,
    arena: Arena,
    settings: OverlayConfig,
    *,
    financing_rate: float = 0.0,
) -> tuple[Book, Overlay]:
    """Put a book under the overlay: its composition, held at the exposure that its risk allows."""
    throttle = None
    if settings.bear_exposure is not None:
        if arena.bear is None:
            raise DataError(
                "overlay.bear_exposure needs a market index with a value on every day, and the "
                "data have none: give one, or leave the setting out."
            )
        throttle = np.where(arena.bear, settings.bear_exposure, np.nan)
    margin = levered(book.margin, settings.max_exposure, financing_rate)
    earned = book_returns(book.ledger.net_returns, book.ledger.weights)
    plan = overlay(
        earned,
        decided=np.asarray(~np.isnan(book.targets).all(axis=1)),
        target_volatility=settings.target_volatility,
        volatility=_volatility_of(book, earned, arena),
        var_cap=settings.var_cap,
        # Below 0 the forecast expects a gain on the worst day but few: nothing to hold down.
        value_at_risk=np.maximum(risk.var, 0.0),
        throttle=throttle,
        brake=None if settings.brake_start is None else Brake(**settings.keywords(prefix="brake_")),
        max_exposure=settings.max_exposure,
        band=settings.band,
        lag=arena.lag,
        cost_per_side=arena.cost_per_side,
        invested=book.ledger.weights.sum(axis=1),
        financing_rate=financing_rate,
    )
    targets = overlay_targets(book.targets, book.ledger.weights, plan, lag=arena.lag)
    if margin.short:  # shorts that lost have grown over wealth: a decision never adds to that
        targets = cap_gross(targets, margin.max_gross)
    return arena.follow(targets, margin), plan


def _volatility_of(book: Book, earned: Floats, arena: Arena) -> Floats:
    """Forecast of a book's volatility, known at each close: from its own returns.

    Before its first days stand returns of something like it: for a long-only book the mean of the
    stocks; for one that sells short, whose risk is another, what its first holdings would have
    earned, and no forecast before those are decided.
    """
    if not book.margin.short:
        return book_volatility(earned, lag=arena.lag, history=arena.history)
    decided = np.flatnonzero(np.nan_to_num(book.targets).any(axis=1))
    if not len(decided):
        return np.full(len(earned), np.nan)
    past = np.nan_to_num(arena.returns[: arena.start]) @ book.targets[decided[0]]
    forecast = book_volatility(earned, lag=arena.lag, history=past)
    forecast[: decided[0]] = np.nan
    return forecast


def unallocated(
    models: Mapping[str, ModelResult], arena: Arena, config: StudyConfig
) -> dict[str, Floats]:
    """Each model's best stocks with equal weights: scores without an allocation, by label.

    It is the rung between equal weight (no scores) and the model's own strategy. A model that
    allocates by itself has none.
    """
    return {
        result.label: allocation.top_quantile(
            np.asarray(result.scores[-len(arena.decisions) :], np.float64),
            np.ones(arena.eligible.shape),
            eligible=arena.eligible,
            quantile=config.allocation.quantile,
            weight_cap=1.0,
            smoothing=1.0,
        )
        for result in models.values()
        if result.weights is None
    }


def sweep_costs(books: Mapping[str, Book], arena: Arena) -> dict[tuple[str, float], Outcome]:
    """Repeat the same decisions at other costs of one side: by label and rate."""
    return {
        (name, rate): outcome_of(
            arena.run(book.targets, cost=ProportionalCost(rate), margin=book.margin)
        )
        for name, book in books.items()
        for rate in COST_SWEEP
    }


def sweep_sizes(
    books: Mapping[str, Book], arena: Arena, panel: AssetPanel, config: StudyConfig
) -> dict[tuple[str, float], Outcome]:
    """Repeat the same decisions with more and more money, in a market where size matters.

    The rules are those of the settings' preset, or of the US where it is flat. Empty where the
    data have no volumes.
    """
    if not {"close", "volume"} <= set(panel.fields):
        return {}
    preset = "us" if config.costs.preset == "flat" else config.costs.preset
    days = slice(arena.start, arena.start + len(arena.price))
    market = market_of(panel, preset, config).between(days)
    return {
        (name, size): outcome_of(arena.run_in(book.targets, market, size, margin=book.margin))
        for name, book in books.items()
        for size in SIZE_SWEEP
    }
