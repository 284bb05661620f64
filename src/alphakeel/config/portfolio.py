"""Settings of what is held: allocation, overlay, costs, and how results are stated."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from alphakeel.errors import ConfigError
from alphakeel.settings import Section, common_option, option

__all__ = [
    "AllocationConfig",
    "CostConfig",
    "OverlayConfig",
    "ReportConfig",
]


@dataclass(frozen=True)
class AllocationConfig(Section):
    """[allocation] From scores to weights; what the method does not use is ignored."""

    method: str = common_option(
        "top_quantile",
        "top_quantile: the best stocks; mean_variance, mean_cvar: optimised; enhanced_index: "
        "against the benchmark",
        choices=("top_quantile", "mean_variance", "mean_cvar", "enhanced_index"),
    )
    benchmark: str = common_option(
        "equal_weight",
        "active returns are over it; cap_weight: by market_cap; index: known by returns alone",
        choices=("equal_weight", "cap_weight", "index"),
    )
    tracking_error_limit: float | None = common_option(
        0.05,
        'largest forecast tracking error a year, a fraction (enhanced_index; "none": no limit)',
        within=(0.001, 1),
    )
    active_weight_limit: float | None = option(
        None,
        "largest deviation of a stock from the benchmark (enhanced_index; default: no limit)",
        within=(1e-4, 1),
    )
    style_limit: float | None = option(
        None,
        "largest deviation of a style, in standard deviations (enhanced_index; default: no limit)",
        within=(0, 10),
    )
    hedge: bool = option(
        False, "also report models with their beta to the market index sold short, by futures"
    )
    neutral: str | None = common_option(
        None,
        "sell short as well; dollar: longs equal shorts in money; beta: in market beta (default: "
        "long only)",
        choices=("dollar", "beta"),
    )
    gross: float = option(
        2.0, "largest sum of longs and shorts over wealth (read with neutral only)", within=(1, 3)
    )
    benchmarks: tuple[str, ...] = option(
        (),
        "benchmarks beside equal weight and minimum variance, which always run: "
        "inverse_volatility, risk_parity, hrp",
        choices=("inverse_volatility", "risk_parity", "hrp"),
    )
    quantile: float = common_option(
        0.25, "share of the sample's stocks held by top_quantile, a side", within=(0.01, 1)
    )
    weight_cap: float = common_option(
        0.3,
        "largest weight of one stock, a fraction; the overlay multiplies it by the exposure",
        within=(0.001, 1),
    )
    smoothing: float = option(
        0.25, "share of the way to the new portfolio that one rebalance trades", within=(0.01, 1)
    )
    volatility: str = option(
        "ewma",
        "forecast of a stock's volatility; ewma: exponentially weighted; network: the risk "
        "network, refitted in every fold",
        choices=("ewma", "network"),
    )
    volatility_halflife: int = option(
        63, "half-life of the ewma forecast of a stock's volatility, in trading days", low=2
    )
    covariance_window: int = option(
        252, "trading days of returns behind the benchmarks' covariance", low=20
    )
    window: int = option(
        500,
        "trading days of scenarios and covariance behind mean_variance, mean_cvar and "
        "enhanced_index",
        within=(60, 2000),
    )
    covariance: str = option(
        "factor",
        "estimator of the covariance for mean_variance and enhanced_index: factor, clipped, "
        "ledoit_wolf or ewma",
        choices=("factor", "clipped", "ledoit_wolf", "ewma"),
    )
    strength: float = option(
        0.025,
        "expected annual return, a fraction, of one standard deviation of score",
        within=(0, 1),
    )
    aversion: float = option(
        5.0,
        "price of half the annual variance in mean_variance, of half the squared tracking error "
        "in enhanced_index",
        within=(0, 100),
    )
    holding_period: float = option(
        60.0, "trading days over which an optimiser spreads the cost of a trade", low=1
    )
    invested: float = option(
        0.0, "smallest share of wealth in stocks (mean_variance, mean_cvar)", within=(0, 1)
    )
    volatility_limit: float | None = option(
        None,
        "largest forecast volatility of the portfolio, a fraction a year (default: no limit)",
        within=(0.001, 2),
    )
    var_limit: float | None = option(
        None,
        "largest 95 % VaR of a day over the scenarios, a fraction (default: no limit)",
        within=(1e-4, 0.5),
    )
    cvar_limit: float | None = option(
        None,
        "largest 95 % CVaR of a day over the scenarios, a fraction (default: no limit)",
        within=(1e-4, 0.5),
    )
    drawdown_limit: float | None = option(
        None,
        "largest drawdown along the scenarios in their order, a fraction (default: no limit)",
        within=(0.001, 1),
    )
    sector_limit: float | None = option(
        None,
        "largest deviation of a sector from its share of sample or benchmark (default: no limit)",
        within=(0, 1),
    )
    turnover_limit: float | None = option(
        None,
        "largest sum of buys and sells at one decision, over wealth (default: no limit)",
        within=(0.001, 2),
    )
    max_names: int | None = option(
        None,
        "largest number of stocks held by an optimiser (default: no limit)",
        low=1,
    )

    def _check(self) -> None:
        if self.method == "enhanced_index":
            self._check_enhanced_index()
        if self.neutral is None:
            return
        if self.hedge:
            raise ConfigError(
                f'allocation.neutral is "{self.neutral}" and allocation.hedge sells the market '
                "short once more: leave one of them out."
            )
        if self.invested > 0.0:
            raise ConfigError(
                f"allocation.invested {self.invested:g} is a limit of long-only portfolios and "
                f'allocation.neutral is "{self.neutral}": leave one of them out.'
            )
        if self.method == "top_quantile" and self.quantile > 0.5:
            raise ConfigError(
                f"allocation.quantile {self.quantile:g} with allocation.neutral would buy and "
                "sell short the same stocks: give at most 0.5."
            )

    def _check_enhanced_index(self) -> None:
        if self.neutral is not None:
            raise ConfigError(
                f'allocation.neutral is "{self.neutral}" and allocation.method "enhanced_index" '
                "holds what its benchmark holds, long only: leave one of them out."
            )
        by_stock = [
            name
            for name in ("active_weight_limit", "sector_limit", "style_limit")
            if getattr(self, name) is not None
        ]
        if self.benchmark == "index" and by_stock:
            raise ConfigError(
                f"allocation.{by_stock[0]} limits deviations from the benchmark's weights, and of "
                'allocation.benchmark = "index" only the returns are known: leave the limit out, '
                'or take "cap_weight" or "equal_weight".'
            )


@dataclass(frozen=True)
class OverlayConfig(Section):
    """[overlay] How much of each portfolio is held: the same rules for every strategy."""

    max_exposure: float = common_option(
        1.0, "largest exposure, 1 being all wealth; above 1 cash may be borrowed", within=(0.01, 3)
    )
    target_volatility: float | None = common_option(
        0.08,
        'volatility at which the portfolio is held, a fraction a year ("none": off)',
        within=(0.001, 2),
    )
    var_cap: float | None = common_option(
        0.01,
        'largest forecast of the one-day 95 % VaR, a fraction ("none": off)',
        within=(1e-4, 0.5),
    )
    brake_start: float | None = common_option(
        0.1,
        'drawdown at which exposure begins to be cut, a fraction ("none": off)',
        within=(0, 0.999),
    )
    brake_full: float = option(
        0.2, "drawdown at which exposure is cut to brake_floor, a fraction", within=(0, 0.999)
    )
    brake_floor: float = option(
        0.25, "share of the exposure that the drawdown brake leaves at its fullest", within=(0, 1)
    )
    brake_halflife: float = option(
        126.0, "trading days in which the drawdown brake forgets half of a drawdown", low=1
    )
    bear_exposure: float | None = option(
        None,
        "largest exposure while the trend rule says bear (default: off, for it costs rebounds)",
        low=0,
    )
    band: float = option(
        0.1, "relative change of exposure, a fraction, up to which none is traded", within=(0, 0.9)
    )

    def _check(self) -> None:
        if self.brake_start is not None and self.brake_start >= self.brake_full:
            raise ConfigError(
                f"overlay.brake_start {self.brake_start:g} is not below overlay.brake_full "
                f"{self.brake_full:g}."
            )


@dataclass(frozen=True)
class CostConfig(Section):
    """[costs] What a trade costs, and which orders a market carries out."""

    preset: str = common_option(
        "flat",
        "flat: cost_per_side and no other rule; us, cn: dated costs and trading rules of the "
        "United States or China",
        choices=("flat", "us", "cn"),
    )
    cost_per_side: float = common_option(
        0.001,
        "cost of a buy or a sell, a fraction of the traded value (0.001: 10 basis points)",
        within=(0, 0.1),
    )
    wealth: float = option(
        1e7, "wealth at the start, in the currency of the prices (us, cn)", low=1
    )
    participation: float = option(
        0.1, "largest order, as a share of the day's traded value (us, cn)", within=(1e-4, 1)
    )
    impact: float = option(1.0, "strength of the square-root impact (us, cn)", within=(0, 10))
    cash_rate: float | str = common_option(
        0.0,
        "annual interest on cash, a fraction, or data: the rate of each day that the data carry",
        within=(-0.05, 0.5),
        choices=("data",),
    )
    financing_rate: float = option(
        0.03, "annual interest on borrowed cash above cash_rate, a fraction", within=(0, 0.5)
    )
    borrow_rate: float = option(
        0.01, "annual fee on stocks sold short, a fraction (allocation.neutral)", within=(0, 1)
    )
    hedge_rate: float = option(
        0.03,
        "cost of a hedge a year, a fraction of its value: basis of the futures, or a fee on loan",
        within=(-0.2, 1),
    )
    hedge_cost_per_side: float = option(
        0.0002,
        "cost of a trade of the hedge, a fraction of the traded value (allocation.hedge)",
        within=(0, 0.1),
    )
    hedge_margin: float = option(
        0.15,
        "cash that secures a hedge, a fraction of its value (allocation.hedge)",
        within=(0, 1),
    )


@dataclass(frozen=True)
class ReportConfig(Section):
    """[report] How results are stated."""

    level: float = option(0.95, "confidence level of the intervals", within=(0.5, 0.999))
    drivers: bool = common_option(True, "explain which factors drive the scores, after the fits")
    n_bootstrap: int = option(1000, "block-bootstrap resamples behind each interval", low=100)
    mlflow: str = option("", "SQLite database of MLflow that runs are logged in (empty: none)")
    zigzag: float = option(
        0.1,
        "fall of the index, a fraction, that makes a bear market in hindsight (Table II)",
        within=(0.02, 0.5),
    )
    confirm_from: dt.date | None = common_option(
        None,
        "first day unseen while settings were chosen, as YYYY-MM-DD; further tables start there "
        "(default: none)",
    )
    fan_days: int = option(252, "trading days ahead of the drawdown forecast", within=(20, 1000))
    sensitivity: bool = option(
        True,
        "repeat the backtests at other costs and sizes, and with the network of each seed alone",
    )
