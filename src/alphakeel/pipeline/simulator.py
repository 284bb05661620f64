"""The simulator that trades every portfolio: same prices, lag, market rules and costs for all.

It is cut from a data set for some days, so that a difference between two portfolios on these days
is a difference of decisions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from skfolio.containers import AssetPanel

from alphakeel.backtest.costs import CostModel, ProportionalCost
from alphakeel.backtest.engine import CheckedPrices, check_prices, run_backtest
from alphakeel.backtest.ledger import Ledger
from alphakeel.backtest.market_rules import Margin, MarketRules, boards_of, cn_market, us_market
from alphakeel.config import StudyConfig
from alphakeel.data.assembly import RATE_DAYS
from alphakeel.data.panel import riskless_rate
from alphakeel.errors import DataError
from alphakeel.pipeline.benchmark import (
    Benchmark,
    benchmark_of,
    describe_benchmark,
    index_returns,
)
from alphakeel.pipeline.dataset import Dataset
from alphakeel.risk.market_phases import Regime
from alphakeel.risk.regimes import trend_volatility_regimes
from alphakeel.stats.cross_section import row_sums
from alphakeel.stats.performance import PERIODS_PER_YEAR

__all__ = [
    "Portfolio",
    "Simulator",
    "describe_borrowing",
    "describe_cash",
    "levered_margin",
    "market_of",
    "short_margin",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Portfolio:
    """Target weights of every simulated day (rows of NaN decide nothing) and their backtest.

    Attributes
    ----------
    targets : ndarray of shape (n_days, n_assets)
    ledger : Ledger
    margin : Margin
        What the portfolio may borrow; by default nothing.
    """

    targets: Floats
    ledger: Ledger
    margin: Margin = field(default_factory=Margin)


@dataclass(frozen=True, eq=False)
class Simulator:
    """Prices, rules and costs for every portfolio on some days.

    Attributes
    ----------
    returns : ndarray of shape (n_dates, n_assets)
        Simple daily returns of all days, those before the simulated ones included.
    price : ndarray of shape (n_days, n_assets)
        Accounting closes of the simulated days.
    tradable : ndarray of shape (n_days, n_assets) of bool
    eligible : ndarray of shape (n_decisions, n_assets) of bool
        Stocks of the sample on each decision.
    sectors : ndarray of shape (n_decisions, n_assets) of int, or None
    history : ndarray of shape (n_before,)
        Mean return of the sample's stocks on the days before.
    bear : ndarray of shape (n_days,) of bool, or None
        Label of the causal trend rule at the close; None unless the overlay needs it.
    decisions : ndarray of shape (n_decisions,) of int
        Those of the simulated days, as rows of `returns`.
    start : int
        First simulated day, as a row of `returns`.
    lag : int
    market : MarketRules or None
        Dated costs and rules; None with one proportional cost and no rules.
    cost_per_side : float
        That cost.
    wealth : float
        At the start.
    betas : ndarray of shape (n_decisions, n_assets), or None
        Market betas known at each decision; None unless portfolios are to be neutral in them.
    riskless : ndarray of shape (n_days,), or None
        Return of cash from the day before, by the rate known then; None where cash earns nothing.
    benchmark : Benchmark or None
        On the simulated decisions; None unless portfolios are held against it, or it is traded.
    index : ndarray of shape (n_dates,), or None
        Simple daily returns of the market index; None unless portfolios are hedged with it.
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
    market: MarketRules | None
    cost_per_side: float
    wealth: float
    betas: Floats | None = None
    riskless: Floats | None = None
    benchmark: Benchmark | None = None
    index: Floats | None = None

    @classmethod
    def of(cls, dataset: Dataset, config: StudyConfig, days: slice) -> Simulator:
        """Cut a data set to some days; every portfolio starts in cash on the first."""
        panel, returns, sample = dataset.panel, dataset.returns, dataset.sample
        first, last = np.searchsorted(dataset.decisions, (days.start, days.stop))
        decisions = dataset.decisions[first:last]
        known = np.isfinite(returns[: days.start]) & sample[: days.start]
        number = np.maximum(known.sum(axis=1), 1)
        mean = row_sums(returns[: days.start], known) / number
        flat = config.costs.preset == "flat"
        betas = dataset.betas if config.allocation.neutral == "beta" else None
        return cls(
            returns=returns,
            price=dataset.price[days],
            tradable=dataset.tradable[days],
            eligible=sample[decisions],
            sectors=np.asarray(panel["sector"])[decisions] if "sector" in panel.fields else None,
            history=np.where(known.any(axis=1), mean, np.nan),
            bear=_bear_days(dataset, days) if config.overlay.bear_exposure is not None else None,
            decisions=decisions,
            start=days.start,
            lag=dataset.lag,
            market=None if flat else market_of(panel, config.costs.preset, config, days),
            cost_per_side=config.costs.cost_per_side,
            wealth=1.0 if flat else config.costs.wealth,
            betas=None if betas is None else betas[decisions],
            riskless=_cash_returns(dataset, config, days),
            benchmark=benchmark_of(
                dataset, config, slice(int(first), int(last)), sample[decisions]
            ),
            index=index_returns(dataset) if config.allocation.hedge else None,
        )

    @cached_property
    def checked_price(self) -> CheckedPrices:
        """Prices as the backtests need them, checked once for all portfolios."""
        return check_prices(self.price)

    def describe(self, config: StudyConfig) -> tuple[str, ...]:
        """Market rules and costs, what is borrowed, and the benchmark, in sentences."""
        market = self.market.text if self.market else ()
        return (*market, *describe_borrowing(config), *describe_benchmark(config, self.benchmark))

    @property
    def riskless_by_row(self) -> Floats | None:
        """Return of cash on each row of `returns`, 0 on days that are not simulated."""
        if self.riskless is None:
            return None
        rows = np.zeros(len(self.returns))
        rows[self.start : self.start + len(self.riskless)] = self.riskless
        return rows

    def trade(self, decided: Floats, margin: Margin | None = None) -> Portfolio:
        """Backtest weights given by decision, (n_decisions, n_assets)."""
        targets = np.full(self.price.shape, np.nan)
        targets[self.decisions - self.start] = decided
        return self.trade_daily(targets, margin)

    def trade_daily(self, targets: Floats, margin: Margin | None = None) -> Portfolio:
        """Backtest weights given by day, (n_days, n_assets); on margin where it is given."""
        margin = margin or Margin()
        if self.market is None:
            ledger = self.backtest_at_cost(
                targets, cost=ProportionalCost(self.cost_per_side), margin=margin
            )
        else:
            ledger = self.backtest_in_market(targets, self.market, self.wealth, margin=margin)
        return Portfolio(targets, ledger, margin)

    def backtest_at_cost(self, targets: Floats, *, cost: CostModel, margin: Margin) -> Ledger:
        """Backtest at a given cost, without market rules."""
        return run_backtest(
            targets,
            self.checked_price,
            tradable=self.tradable,
            lag=self.lag,
            cost=cost,
            margin=margin,
            riskless=self.riskless,
        )

    def backtest_in_market(
        self, targets: Floats, market: MarketRules, wealth: float, *, margin: Margin
    ) -> Ledger:
        """Backtest in a given market, from a given wealth."""
        return run_backtest(
            targets,
            self.checked_price,
            tradable=self.tradable,
            lag=self.lag,
            cost=market.cost,
            constraints=market.constraints,
            margin=margin,
            initial=wealth,
            riskless=self.riskless,
        )


def _cash_returns(dataset: Dataset, config: StudyConfig, days: slice) -> Floats | None:
    """Return of cash of each day: a 252nd part of the annual rate known the day before."""
    rate = config.costs.cash_rate
    if rate == 0.0:
        return None
    if isinstance(rate, float):
        annual = np.full(days.stop - days.start, rate)
    else:
        known = riskless_rate(dataset.panel)
        annual = np.empty(0) if known is None else known[days]
        missing = np.flatnonzero(~np.isfinite(annual[:-1]))
        if known is None or len(missing):
            day = dataset.dates[days.start + (int(missing[0]) if len(missing) else 0)]
            raise DataError(
                f'costs.cash_rate = "data" needs a rate of cash on every day, and on {day} none is '
                f"known that is at most {RATE_DAYS} days old: complete riskless.csv, or start the "
                "test later."
            )
    returns = np.zeros(len(annual))
    returns[1:] = annual[:-1] / PERIODS_PER_YEAR
    return returns


def describe_cash(config: StudyConfig) -> str:
    """A sentence on what cash earns, and what Sharpe ratios are of; empty where it is nothing."""
    rate = config.costs.cash_rate
    if rate == 0.0:
        return ""
    earned = f"{100.0 * rate:g} % a year" if isinstance(rate, float) else "the rate of each day"
    return f"Cash earns {earned} in every portfolio, and Sharpe ratios are of returns above it."


def _bear_days(dataset: Dataset, days: slice) -> Bools:
    """Days that the causal trend rule calls bear at the close."""
    if dataset.market_index is None:
        raise DataError(
            "overlay.bear_exposure needs a market index with a value on every day, and the "
            "data have none: give one, or leave the setting out."
        )
    return np.asarray(trend_volatility_regimes(dataset.market_index)[days] == Regime.BEAR)


def market_of(panel: AssetPanel, preset: str, config: StudyConfig, days: slice) -> MarketRules:
    """Build the dated costs and rules of a market on some days of a panel."""
    dates = np.asarray(panel.observations, dtype="datetime64[D]")
    close = panel["close"] if "close" in panel.fields else None
    terms = {
        "volume": panel["volume"] if close is not None and "volume" in panel.fields else None,
        "accounting": panel["accounting_close"],
        "participation": config.costs.participation,
        "impact": config.costs.impact,
        "rows": days,
    }
    if preset == "us":
        return us_market(dates, close=close, **terms)
    boards = boards_of(np.asarray(panel.asset_names).astype(str))
    # ST is announced before the day begins, so the flag of a day is known at its close; NaN: no.
    special = panel["st"] == 1.0 if "st" in panel.fields else None
    return cn_market(dates, close=panel["close"], boards=boards, special=special, **terms)


def short_margin(config: StudyConfig) -> Margin | None:
    """What a portfolio of scored stocks may borrow; None where the settings sell nothing short."""
    if config.allocation.neutral is None:
        return None
    return Margin(
        max_gross=config.allocation.gross,
        short=True,
        financing_rate=config.costs.financing_rate,
        borrow_rate=config.costs.borrow_rate,
    )


def levered_margin(margin: Margin, exposure: float, financing_rate: float) -> Margin:
    """What a portfolio may borrow when it is held at up to an exposure."""
    if exposure <= 1.0:
        return margin
    most = margin.max_gross * exposure
    return replace(margin, max_gross=most, financing_rate=financing_rate)


def describe_borrowing(config: StudyConfig) -> tuple[str, ...]:
    """Sentences on what is borrowed and what it costs; none where nothing is."""
    alloc, costs, text = config.allocation, config.costs, []
    above = "" if costs.cash_rate == 0.0 else " above what cash earns"
    if alloc.neutral is not None:
        equal = {"dollar": "money", "beta": "market beta"}[alloc.neutral]
        text.append(
            f"Scored stocks are also sold short: longs equal shorts in {equal}, together at most "
            f"{alloc.gross:g} times wealth; the fee on shorts is {100.0 * costs.borrow_rate:g} % a "
            "year. Benchmarks, and models that allocate by themselves, stay long only."
        )
    if config.overlay.max_exposure > 1.0:
        text.append(
            f"Under the overlay exposure goes up to {config.overlay.max_exposure:g}; borrowed cash "
            f"costs {100.0 * costs.financing_rate:g} % a year{above}, and a stock may weigh "
            "up to the weight cap times the exposure."
        )
    return tuple(text)
