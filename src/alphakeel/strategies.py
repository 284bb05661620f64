"""From scores to books: every strategy of a study, bare and under the overlay.

A *book* is what a strategy decided and what became of it: target weights and the ledger of their
backtest. Benchmarks and models meet the same arena: the same prices, the same lag, the same
market rules and costs and the same overlay, so that a difference between two books is a
difference of decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from skfolio.containers import AssetPanel

from alphakeel.config import OverlayConfig, StudyConfig
from alphakeel.data.cleaning import CleanResult
from alphakeel.errors import DataError
from alphakeel.evidence.recognition import TREND_RULE, MarketRegimes
from alphakeel.evidence.track import Outcome, outcome_of
from alphakeel.portfolio import allocation
from alphakeel.portfolio.backtest import Ledger, backtest
from alphakeel.portfolio.costs import CostModel, ProportionalCost
from alphakeel.portfolio.limits import Limits
from alphakeel.portfolio.optimise import Record, allocate
from alphakeel.portfolio.overlay import (
    Brake,
    Overlay,
    book_returns,
    book_volatility,
    overlay,
    overlay_targets,
)
from alphakeel.portfolio.phases import Regime
from alphakeel.portfolio.presets import Market, boards_of, cn_market, us_market
from alphakeel.portfolio.var_forecast import TailForecast, book_var
from alphakeel.preparation import simple_returns
from alphakeel.results import Books, ModelResult
from alphakeel.roster import BENCHMARKS, EQUAL_WEIGHT, MINIMUM_VARIANCE, under_overlay

__all__ = [
    "Arena",
    "Book",
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
Bools = npt.NDArray[np.bool_]

# Costs of one side as fractions of the traded value: 0 to 50 basis points.
COST_SWEEP = (0.0, 0.0005, 0.001, 0.002, 0.003, 0.005)
# Wealth at the start, in the currency of the prices: from a million to a hundred thousand million.
SIZE_SWEEP = (1e6, 1e7, 1e8, 1e9, 1e10, 1e11)


@dataclass(frozen=True, eq=False)
class Book:
    """Target weights of every test day (rows of NaN decide nothing) and their backtest."""

    targets: Floats
    ledger: Ledger


@dataclass(frozen=True, eq=False)
class Arena:
    """What every book of a study meets.

    Attributes
    ----------
    returns : ndarray of shape (n_dates, n_assets)
        Simple daily returns of all days, those before the test included.
    price : ndarray of shape (n_test, n_assets)
        Accounting closes of the test days.
    tradable : ndarray of shape (n_test, n_assets) of bool
    eligible : ndarray of shape (n_decisions, n_assets) of bool
        Stocks of the sample on each decision row of the test.
    sectors : ndarray of shape (n_decisions, n_assets) of int, or None
    history : ndarray of shape (n_before,)
        Mean return of the sample's stocks on the days before the test.
    bear : ndarray of shape (n_test,) of bool, or None
        Where the causal trend rule says bear at the close; None without an index.
    decisions : ndarray of shape (n_decisions,) of int
        Decision rows of the test, as rows of `returns`.
    start : int
        First test day, as a row of `returns`.
    lag : int
    market : Market or None
        Dated costs and rules; None with one proportional cost and no rules.
    per_side : float
        That cost.
    wealth : float
        At the start.
    """

    returns: Floats
    price: Floats
    tradable: Bools
    eligible: Bools
    sectors: npt.NDArray[np.int64] | None
    history: Floats
    bear: Bools | None
    decisions: npt.NDArray[np.intp]
    start: int
    lag: int
    market: Market | None
    per_side: float
    wealth: float

    @classmethod
    def of(
        cls,
        cleaning: CleanResult,
        sample: Bools,
        rows: npt.NDArray[np.intp],
        days: slice,
        config: StudyConfig,
        *,
        regimes: MarketRegimes | None = None,
    ) -> Arena:
        """Cut a cleaned panel to the days of the test."""
        panel = cleaning.panel
        price = panel["accounting_close"]
        returns = simple_returns(price)
        decisions = rows[rows >= days.start]
        known = np.isfinite(returns[: days.start]) & sample[: days.start]
        number = np.maximum(known.sum(axis=1), 1)
        mean = np.where(known, returns[: days.start], 0.0).sum(axis=1) / number
        flat = config.costs.preset == "flat"
        return cls(
            returns=returns,
            price=price[days],
            tradable=panel.estimation_mask[days],
            eligible=sample[decisions],
            sectors=np.asarray(panel["sector"])[decisions] if "sector" in panel.fields else None,
            history=np.where(known.any(axis=1), mean, np.nan),
            bear=None if regimes is None else regimes.causal[TREND_RULE][days] == Regime.BEAR,
            decisions=decisions,
            start=days.start,
            lag=config.target.lag,
            market=None if flat else market_of(panel, config.costs.preset, config).between(days),
            per_side=config.costs.per_side,
            wealth=1.0 if flat else config.costs.wealth,
        )

    def trade(self, decided: Floats) -> Book:
        """Backtest weights given by decision row, (n_decisions, n_assets)."""
        targets = np.full(self.price.shape, np.nan)
        targets[self.decisions - self.start] = decided
        return self.follow(targets)

    def follow(self, targets: Floats) -> Book:
        """Backtest weights given by test day, (n_test, n_assets)."""
        if self.market is None:
            return Book(targets, self.run(targets, cost=ProportionalCost(self.per_side)))
        return Book(targets, self.run_in(targets, self.market, self.wealth))

    def run(self, targets: Floats, *, cost: CostModel) -> Ledger:
        """Backtest at a cost of one's own, without market rules."""
        return backtest(targets, self.price, tradable=self.tradable, lag=self.lag, cost=cost)

    def run_in(self, targets: Floats, market: Market, wealth: float) -> Ledger:
        """Backtest in a market of one's own, from a wealth."""
        return backtest(
            targets,
            self.price,
            tradable=self.tradable,
            lag=self.lag,
            cost=market.cost,
            rules=market.rules,
            initial=wealth,
        )


def market_of(panel: AssetPanel, preset: str, config: StudyConfig) -> Market:
    """Build the dated costs and rules of a market on the whole history of a panel.

    Raises
    ------
    DataError
        If the rules of China are asked for and the data have no closes as traded.
    """
    dates = np.asarray(panel.observations, dtype="datetime64[D]")
    close = panel["close"] if "close" in panel.fields else None
    terms = {
        "volume": panel["volume"] if close is not None and "volume" in panel.fields else None,
        "accounting": panel["accounting_close"],
        "participation": config.costs.participation,
        "impact": config.costs.impact,
    }
    if preset == "us":
        return us_market(dates, close=close, **terms)
    if close is None:
        raise DataError(
            'costs.preset = "cn" needs the closes as traded, for price limits and lots: give the '
            'data a column `close` beside the adjusted one, or set costs.preset to "flat".'
        )
    boards = boards_of(np.asarray(panel.asset_names).astype(str))
    return cn_market(dates, close=close, boards=boards, **terms)


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
    bare = {name: arena.trade(weights) for name, weights in decided.items()}
    risk = {name: forecast_risk(book, arena) for name, book in bare.items()}
    plans, held = {}, {}
    for name, book in bare.items():
        held[name], plans[name] = put_under(book, risk[name], arena, config.overlay)
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
        market_text=arena.market.text if arena.market else (),
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
            limits=Limits(weight=alloc.weight_cap),
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
        weights = allocation.top_quantile(
            known,
            volatility,
            eligible=arena.eligible,
            quantile=alloc.quantile,
            weight_cap=alloc.weight_cap,
            smoothing=alloc.smoothing,
        )
        return weights, ()
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
        window=alloc.window,
        covariance=alloc.covariance,
        strength=alloc.strength,
        aversion=alloc.aversion,
        cost=config.costs.per_side,
        holding=alloc.holding,
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
            arena.trade(weigh(own[tested], volatility[tested], arena, config)[0]).ledger
        )
        for label, scores in members.items()
        for seed, own in enumerate(scores)
    }


def limits_of(config: StudyConfig) -> Limits:
    """The limits of the optimised methods."""
    alloc = config.allocation
    return Limits(
        weight=alloc.weight_cap,
        volatility=alloc.volatility_limit,
        cvar=alloc.cvar_limit,
        var=alloc.var_limit,
        drawdown=alloc.drawdown_limit,
        sector=alloc.sector_limit,
        names=alloc.max_names,
        turnover=alloc.turnover_limit,
        invested=alloc.invested,
    )


def forecast_risk(book: Book, arena: Arena) -> TailForecast:
    """Forecast the 95 % VaR and CVaR of a book: on row t, of the day after it."""
    ledger = book.ledger
    return book_var(ledger.weights, arena.returns, ledger.net_returns, first=arena.start)


def put_under(
    book: Book, risk: TailForecast, arena: Arena, settings: OverlayConfig
) -> tuple[Book, Overlay]:
    """Put a book under the overlay: its composition, held at the exposure that its risk allows."""
    earned = book_returns(book.ledger.net_returns, book.ledger.weights)
    throttle = None
    if settings.bear_exposure is not None:
        if arena.bear is None:
            raise DataError(
                "overlay.bear_exposure needs a market index with a value on every day, and the "
                "data have none: give one, or leave the setting out."
            )
        throttle = np.where(arena.bear, settings.bear_exposure, np.nan)
    plan = overlay(
        earned,
        decided=np.asarray(~np.isnan(book.targets).all(axis=1)),
        target_volatility=settings.volatility,
        volatility=book_volatility(earned, lag=arena.lag, history=arena.history),
        var_cap=settings.var_95,
        # Below 0 the forecast expects a gain on the worst day but few: nothing to hold down.
        value_at_risk=np.maximum(risk.var, 0.0),
        throttle=throttle,
        brake=None
        if settings.brake_start is None
        else Brake(
            start=settings.brake_start,
            full=settings.brake_full,
            floor=settings.brake_floor,
            halflife=settings.brake_halflife,
        ),
        band=settings.band,
        lag=arena.lag,
        cost_rate=arena.per_side,
    )
    targets = overlay_targets(book.targets, book.ledger.weights, plan, lag=arena.lag)
    return arena.follow(targets), plan


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
        (name, rate): outcome_of(arena.run(book.targets, cost=ProportionalCost(rate)))
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
        (name, size): outcome_of(arena.run_in(book.targets, market, size))
        for name, book in books.items()
        for size in SIZE_SWEEP
    }
