"""Where every book of a study is traded: the same prices, lag, market rules and costs for all.

A *book* is what a strategy decided and what became of it: target weights and the ledger of their
backtest. The arena cuts a cleaned panel to the days of the test once, so that a difference
between two books is a difference of decisions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from skfolio.containers import AssetPanel

from alphakeel.config import StudyConfig
from alphakeel.data.cleaning import CleanResult
from alphakeel.data.panel import market_index
from alphakeel.errors import ConfigError, DataError
from alphakeel.evidence.recognition import TREND_RULE, MarketRegimes
from alphakeel.portfolio.backtest import Ledger, backtest
from alphakeel.portfolio.costs import CostModel, ProportionalCost
from alphakeel.portfolio.phases import Regime
from alphakeel.portfolio.presets import Market, boards_of, cn_market, us_market
from alphakeel.portfolio.rules import Margin
from alphakeel.preparation import simple_returns
from alphakeel.stats import timeseries

__all__ = [
    "Arena",
    "Book",
    "betas_of",
    "borrowing_text",
    "levered",
    "market_of",
    "refuse_lacking",
    "short_margin",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# Days of a market beta, and those it needs.
BETA_WINDOW, BETA_LEAST = 252, 120


@dataclass(frozen=True, eq=False)
class Book:
    """Target weights of every test day (rows of NaN decide nothing) and their backtest.

    Attributes
    ----------
    targets : ndarray of shape (n_test, n_assets)
    ledger : Ledger
    margin : Margin
        What the book may borrow; by default nothing.
    """

    targets: Floats
    ledger: Ledger
    margin: Margin = field(default_factory=Margin)


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
    cost_per_side : float
        That cost.
    wealth : float
        At the start.
    betas : ndarray of shape (n_decisions, n_assets), or None
        Market betas known at each decision; None unless a book is to be neutral in them.
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
    cost_per_side: float
    wealth: float
    betas: Floats | None = None

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
        betas = betas_of(panel, returns) if config.allocation.neutral == "beta" else None
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
            cost_per_side=config.costs.cost_per_side,
            wealth=1.0 if flat else config.costs.wealth,
            betas=None if betas is None else betas[decisions],
        )

    def trade(self, decided: Floats, margin: Margin | None = None) -> Book:
        """Backtest weights given by decision row, (n_decisions, n_assets)."""
        targets = np.full(self.price.shape, np.nan)
        targets[self.decisions - self.start] = decided
        return self.follow(targets, margin)

    def follow(self, targets: Floats, margin: Margin | None = None) -> Book:
        """Backtest weights given by test day, (n_test, n_assets); on margin where it is given."""
        margin = margin or Margin()
        if self.market is None:
            ledger = self.run(targets, cost=ProportionalCost(self.cost_per_side), margin=margin)
        else:
            ledger = self.run_in(targets, self.market, self.wealth, margin=margin)
        return Book(targets, ledger, margin)

    def run(self, targets: Floats, *, cost: CostModel, margin: Margin) -> Ledger:
        """Backtest at a cost of one's own, without market rules."""
        return backtest(
            targets, self.price, tradable=self.tradable, lag=self.lag, cost=cost, margin=margin
        )

    def run_in(self, targets: Floats, market: Market, wealth: float, *, margin: Margin) -> Ledger:
        """Backtest in a market of one's own, from a wealth."""
        return backtest(
            targets,
            self.price,
            tradable=self.tradable,
            lag=self.lag,
            cost=market.cost,
            rules=market.rules,
            margin=margin,
            initial=wealth,
        )


def refuse_lacking(panel: AssetPanel, config: StudyConfig) -> None:
    """Refuse settings that need what the data lack, before anything is fitted.

    Raises
    ------
    ConfigError
        If a book is to be neutral in beta and there is no market index.
    DataError
        If the rules of China are asked for and there are no closes as traded.
    """
    if config.allocation.neutral == "beta" and market_index(panel) is None:
        raise ConfigError(
            'allocation.neutral = "beta" needs a market index, and the data have none: give one '
            '(docs/data-format.md), or set allocation.neutral to "dollar".'
        )
    if config.costs.preset == "cn" and "close" not in panel.fields:
        raise DataError(
            'costs.preset = "cn" needs the closes as traded, for price limits and lots: give the '
            'data a column `close` beside the adjusted one, or set costs.preset to "flat".'
        )


def betas_of(panel: AssetPanel, returns: Floats) -> Floats | None:
    """Market betas of the last `BETA_WINDOW` days, (n_dates, n_assets); None without an index.

    NaN where fewer than `BETA_LEAST` of these days are known.
    """
    index = market_index(panel)
    if index is None:
        return None
    market = simple_returns(index[:, None])
    return timeseries.trailing_beta(returns, market, BETA_WINDOW, min_count=BETA_LEAST)


def market_of(panel: AssetPanel, preset: str, config: StudyConfig) -> Market:
    """Build the dated costs and rules of a market on the whole history of a panel.

    Raises
    ------
    ConfigError, DataError
        As `refuse_lacking`.
    """
    refuse_lacking(panel, config)
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
    boards = boards_of(np.asarray(panel.asset_names).astype(str))
    # Announced before the day begins: the flag of a day is known at its close. Blank is not ST.
    special = panel["st"] == 1.0 if "st" in panel.fields else None
    return cn_market(dates, close=panel["close"], boards=boards, special=special, **terms)


def short_margin(config: StudyConfig) -> Margin | None:
    """What a book of scored stocks may borrow; None where the settings sell nothing short."""
    if config.allocation.neutral is None:
        return None
    return Margin(
        max_gross=config.allocation.gross,
        short=True,
        financing_rate=config.costs.financing_rate,
        borrow_rate=config.costs.borrow_rate,
    )


def levered(margin: Margin, exposure: float, financing_rate: float) -> Margin:
    """What a book may borrow when it is held at up to an exposure."""
    if exposure <= 1.0:
        return margin
    most = margin.max_gross * exposure
    return replace(margin, max_gross=most, financing_rate=financing_rate)


def borrowing_text(config: StudyConfig) -> tuple[str, ...]:
    """What is borrowed and what it costs, one sentence each; none where nothing is."""
    alloc, costs, text = config.allocation, config.costs, []
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
            f"costs {100.0 * costs.financing_rate:g} % a year, and a stock may weigh up to the "
            "weight cap times the exposure."
        )
    return tuple(text)
