"""Settings of a study: small frozen dataclasses, read from TOML, every key explained.

A key is the keyword of the function or class that it sets; those receive plain numbers and never
see these classes. Help text, valid range and default stand together, so that `alphakeel init`,
the checks and the error messages cannot drift apart.
"""

from __future__ import annotations

import datetime as dt
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphakeel.errors import ConfigError
from alphakeel.settings import (
    Section,
    build,
    common_option,
    option,
    plain_values,
    read_toml,
    section,
    to_toml,
)

__all__ = [
    "AllocationConfig",
    "BoostingConfig",
    "CleaningConfig",
    "CostConfig",
    "DataConfig",
    "FactorConfig",
    "LimitsConfig",
    "LinearConfig",
    "NetworkConfig",
    "OverlayConfig",
    "ReportConfig",
    "ScreenConfig",
    "StudyConfig",
    "TargetConfig",
    "WalkForwardConfig",
    "config_from_dict",
    "config_to_dict",
    "config_to_toml",
    "load_config",
]

_LIMITED = ("lstm_limited", "gru_limited", "attention_limited", "cnn_lstm_limited")
_NETWORKS = ("lstm", *_LIMITED, "gru", "attention", "cnn_lstm", "mlp")
MODELS = ("linear", *_NETWORKS, "lightgbm", "svr")

# The questions that a settings file answers, in its order.
_MODELS = "Which models, and how hard are they trained?"
_DATA = "Which data?"
_TEST = "When is it tested?"
_HOLD = "What do I hold?"
_RISK = "What may it risk?"
_COST = "What does trading cost?"
_REPORT = "What is reported?"

# Keys that had another name in an earlier version, and their name now.
RENAMED = {
    "network.seeds": "network.n_seeds",
    "boosting.trees": "boosting.n_trees",
    "allocation.holding": "allocation.holding_period",
    "overlay.volatility": "overlay.target_volatility",
    "overlay.var_95": "overlay.var_cap",
    "costs.per_side": "costs.cost_per_side",
    "report.bootstrap": "report.n_bootstrap",
    "walk_forward.rebalance_every": "walk_forward.rebalance",
}


@dataclass(frozen=True)
class DataConfig(Section):
    """[data] Where prices come from."""

    source: str = common_option(
        "sp500", "bundled data set (sp500, synthetic) or the path of a file or folder of prices"
    )
    start: dt.date | None = common_option(None, "first date to read, as YYYY-MM-DD (default: all)")
    end: dt.date | None = common_option(None, "last date to read, as YYYY-MM-DD (default: all)")
    universe: str = common_option(
        "members",
        "members: stocks in the index at the time, where the data say so; all: every stock",
        choices=("members", "all"),
    )
    top: int = common_option(
        0, "number of stocks kept, those with the largest trailing dollar volume (0: all)", low=0
    )


@dataclass(frozen=True)
class CleaningConfig(Section):
    """[cleaning] What counts as an error in the data, and which stocks are fit for the sample."""

    max_gap: int = option(5, "trading days for which a missing price is filled in", within=(0, 60))
    gap_fill: str = option(
        "carry",
        "how a missing price is filled in; carry: by the last price; interpolate: the paper's way, "
        "which reads the future",
        choices=("carry", "interpolate"),
    )
    spike_sigmas: float = option(
        8.0,
        "trailing robust standard deviations beyond which the move of a price is suspect",
        low=2,
    )
    spike_min_move: float = option(
        0.2, "smallest move of a price, a fraction, that can be suspect", within=(0.01, 10)
    )
    stale_days: int = option(
        10, "trading days at one and the same price that make a stock stale", low=2
    )
    min_history: int = option(
        252, "trading days of record that a stock needs to enter the sample", low=1
    )
    max_missing: float = option(
        0.1,
        "share of the last year's days on which a stock of the sample may lack a price",
        within=(0, 1),
    )
    winsor_limit: float = option(
        10.0,
        "robust standard deviations from the date's median to which valuation ratios are pulled in",
        low=1,
    )
    min_price: float = option(
        0.0,
        "smallest traded close, in the data's currency, at which a stock may enter the sample",
        low=0,
    )
    drop_illiquid: float = option(
        0.0,
        "share of a date's stocks left out, those with the smallest trailing dollar volume",
        within=(0, 0.9),
    )
    drop_small: float = option(
        0.0,
        "share of a date's stocks left out, those with the smallest market value",
        within=(0, 0.9),
    )


@dataclass(frozen=True)
class FactorConfig(Section):
    """[factors] What the models see."""

    exclude: tuple[str, ...] = option((), "factors to leave out, by name")
    custom: str = common_option("", "path of a Python file with factors of your own (empty: none)")


@dataclass(frozen=True)
class ScreenConfig(Section):
    """[screen] Which factors are selected, on training rows only."""

    min_coverage: float = option(
        0.5, "smallest share of stock-days on which a factor has to be known", within=(0, 1)
    )
    min_abs_t: float = option(
        1.0, "smallest Newey-West |t| that a factor's Rank IC has to reach at some horizon", low=0
    )
    max_correlation: float = option(
        0.9,
        "mean rank correlation of two factors above which only the stronger one stays",
        within=(0, 1),
    )
    networks_keep_weak: bool = option(
        True, "networks also see factors that are weak alone: they may count in combination"
    )
    min_keep: int = option(
        5, "number of factors that stay whatever the verdict, the strongest first", low=1
    )
    false_discovery_rate: float | None = option(
        None,
        "expected share of false factors among those that pass, over all that were tried "
        "(default: off)",
        within=(0.001, 0.999),
    )
    discovery_method: str = option(
        "benjamini_hochberg",
        "how the false discovery rate is controlled: benjamini_hochberg, or benjamini_yekutieli, "
        "valid under any dependence",
        choices=("benjamini_hochberg", "benjamini_yekutieli"),
    )


@dataclass(frozen=True)
class TargetConfig(Section):
    """[target] What the models forecast."""

    horizons: tuple[int, ...] = common_option(
        (5, 20),
        "horizons of the forward log returns that are forecast, in trading days",
        within=(1, 252),
    )
    lag: int = option(
        1,
        "trading days between the close that a score is made at and the close it trades at",
        low=1,
    )
    unit: str = option(
        "volatility",
        "unit of a return before it is ranked; volatility: the stock's own; return: none, the "
        "paper's way",
        choices=("volatility", "return"),
    )

    def _check(self) -> None:
        if not self.horizons:
            raise ConfigError("target.horizons is empty: give at least one horizon in days.")
        if len(set(self.horizons)) != len(self.horizons):
            raise ConfigError(f"target.horizons repeats a horizon: {list(self.horizons)}.")


@dataclass(frozen=True)
class WalkForwardConfig(Section):
    """[walk_forward] Which days are tested, and on what the models were trained."""

    test_start: dt.date | None = common_option(
        None,
        "first day of the test, as YYYY-MM-DD (default: a year's first, after 5 years of data; "
        "sp500: 2010-01-01)",
    )
    test_end: dt.date | None = common_option(
        None,
        "last day of the test, as YYYY-MM-DD (default: the end of the data; sp500: 2020-12-31)",
    )
    refit_every: int | str = common_option(
        504,
        "trading days between two fits, from the start of the test on, or yearly or quarterly",
        low=20,
        choices=("yearly", "quarterly"),
    )
    rebalance: int | str = common_option(
        "weekly",
        "when portfolios are decided: weekly, monthly, or weekdays from one decision to the next",
        within=(1, 63),
        choices=("weekly", "monthly"),
    )
    embargo: int = option(
        5, "trading days left out between training and test, besides those of the target", low=0
    )
    train_days: int = option(
        0, "length of the training window, in trading days (0: all the past)", low=0
    )

    def _check(self) -> None:
        if self.test_start and self.test_end and self.test_start >= self.test_end:
            raise ConfigError(
                f"walk_forward.test_start {self.test_start} is not before test_end {self.test_end}."
            )


@dataclass(frozen=True)
class LinearConfig(Section):
    """[linear] The benchmark: linear factor regression."""

    method: str = option(
        "pooled",
        "kind of regression; pooled: ordinary least squares on all rows; ridge; fama_macbeth",
        choices=("pooled", "ridge", "fama_macbeth"),
    )
    alpha: float = option(
        1.0, "strength of the ridge, in units of a factor's variance (read by ridge only)", low=0
    )


@dataclass(frozen=True)
class NetworkConfig(Section):
    """[network] Every network; those under limits have some options of their own."""

    hidden: int = option(32, "units of the recurrent layer", within=(1, 1024))
    layers: int = option(1, "number of recurrent layers", within=(1, 4))
    dropout: float = option(0.2, "dropout rate on input and output", within=(0, 0.95))
    burn_in: int = option(
        26, "decision dates of a sequence that warm the state up before the loss counts", low=0
    )
    chunk: int = option(104, "decision dates of a sequence on which the loss counts", low=2)
    batch_assets: int = option(120, "stocks in one batch", low=2)
    max_steps: int = common_option(
        75, "gradient steps at most; networks under limits take twice as many", low=1
    )
    learning_rate: float = option(
        3e-3, "peak of the one-cycle schedule of the learning rate", within=(1e-6, 1)
    )
    weight_decay: float = option(1e-2, "weight decay of AdamW", low=0)
    ic_weight: float = option(1.0, "weight of 1 - IC in the loss", low=0)
    mse_weight: float = option(0.1, "weight of the mean squared error in the loss", low=0)
    validation_share: float = option(
        0.0,
        "last share of the training dates, on which the best step is chosen (0: train on all)",
        within=(0, 0.5),
    )
    evaluate_every: int = option(10, "gradient steps between two validations", low=1)
    patience: int = option(5, "validations without an improvement after which a fit stops", low=1)
    n_seeds: int = common_option(
        3, "networks, alike but for their seed, whose scores are averaged", within=(1, 100)
    )
    device: str = option("auto", "where networks are trained: auto, cpu or cuda")
    precision: str = option(
        "float32",
        "number type of the matrix products in training; auto: depends on the machine",
        choices=("float32", "bfloat16", "auto"),
    )
    input_noise: float = option(
        0.0, "standard deviation of noise added to the factors in training (0: none)", low=0
    )

    def _check(self) -> None:
        if self.ic_weight + self.mse_weight <= 0:
            raise ConfigError(
                "network.ic_weight and network.mse_weight are both zero: the loss would be empty."
            )


@dataclass(frozen=True)
class LimitsConfig(Section):
    """[limits] What lstm_limited, gru_limited, ... may risk: exposure keeps it, in training too."""

    volatility: float | None = option(
        0.12, 'largest volatility, a fraction a year ("none": no limit)', within=(0.001, 2)
    )
    max_drawdown: float | None = option(
        0.2,
        'deepest loss from the highest wealth of the last 252 days, a fraction ("none": no limit)',
        within=(0.001, 0.999),
    )
    var_95: float | None = option(
        0.015, 'largest 95 % VaR of one day, a fraction ("none": no limit)', within=(1e-4, 0.5)
    )
    cvar_95: float | None = option(
        None, "largest 95 % CVaR of one day, a fraction (default: no limit)", within=(1e-4, 0.5)
    )
    turnover: float | None = option(
        None,
        "largest value traded in a year, buys and sells, over wealth (default: no limit)",
        within=(0.01, 1000),
    )


@dataclass(frozen=True)
class BoostingConfig(Section):
    """[boosting] LightGBM, a reference; network.n_seeds is the number of its members."""

    n_trees: int = option(300, "number of trees at most", within=(1, 5000))
    learning_rate: float = option(
        0.05, "share of each tree's output that is added to the forecast", within=(0.001, 1)
    )
    leaves: int = option(15, "number of leaves of a tree", within=(2, 255))


@dataclass(frozen=True)
class AllocationConfig(Section):
    """[allocation] From scores to weights; what the method does not use is ignored."""

    method: str = common_option(
        "top_quantile",
        "top_quantile: the best stocks by inverse volatility; mean_variance and mean_cvar: "
        "optimised under limits",
        choices=("top_quantile", "mean_variance", "mean_cvar"),
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
        "trading days of scenarios and covariance behind mean_variance and mean_cvar",
        within=(60, 2000),
    )
    covariance: str = option(
        "factor",
        "estimator of the covariance for mean_variance: factor, clipped, ledoit_wolf or ewma",
        choices=("factor", "clipped", "ledoit_wolf", "ewma"),
    )
    strength: float = option(
        0.025,
        "expected annual return, a fraction, of one standard deviation of score",
        within=(0, 1),
    )
    aversion: float = option(
        5.0, "price of half the annual variance in mean_variance", within=(0, 100)
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
        "largest deviation of a sector's weight from its share of the sample (default: no limit)",
        within=(0, 1),
    )
    turnover_limit: float | None = option(
        None,
        "largest sum of buys and sells at one decision, over wealth (default: no limit)",
        within=(0.001, 2),
    )
    max_names: int | None = option(
        None,
        "largest number of stocks held by mean_variance and mean_cvar (default: no limit)",
        low=1,
    )

    def _check(self) -> None:
        if self.neutral is None:
            return
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


@dataclass(frozen=True)
class StudyConfig(Section):
    """Everything that decides a study's numbers, the data apart.

    Parameters
    ----------
    models : tuple of str
        Any of `MODELS`. The linear benchmark always runs; ``"lightgbm"`` needs an extra package.
    seed : int
        The one seed from which every random draw follows.
    jobs : int
        Fits run at the same time; it does not change any number.
    target, linear, network, boosting, data, cleaning, factors, screen, walk_forward : sections
    allocation, limits, overlay, costs, report : sections
        Each a frozen dataclass of its own.

    Raises
    ------
    ConfigError
        If a value has the wrong type, is out of range, or contradicts another.

    Examples
    --------
    >>> config = StudyConfig(models=("linear",), costs=CostConfig(cost_per_side=0.0005))
    >>> config.costs.cost_per_side
    0.0005
    """

    models: tuple[str, ...] = common_option(
        ("linear", "lstm", "lstm_limited"),
        "models to compare: linear (always), lstm, gru, attention, cnn_lstm (each also with "
        "_limited), mlp, lightgbm, svr",
        choices=MODELS,
        question=_MODELS,
    )
    seed: int = option(0, "seed of every random draw", low=0, question=_MODELS)
    jobs: int = common_option(
        2, "fits that run at the same time; it changes no number", low=1, question=_MODELS
    )
    target: TargetConfig = section(TargetConfig, _MODELS)
    linear: LinearConfig = section(LinearConfig, _MODELS)
    network: NetworkConfig = section(NetworkConfig, _MODELS)
    boosting: BoostingConfig = section(BoostingConfig, _MODELS)
    data: DataConfig = section(DataConfig, _DATA)
    cleaning: CleaningConfig = section(CleaningConfig, _DATA)
    factors: FactorConfig = section(FactorConfig, _DATA)
    screen: ScreenConfig = section(ScreenConfig, _DATA)
    walk_forward: WalkForwardConfig = section(WalkForwardConfig, _TEST)
    allocation: AllocationConfig = section(AllocationConfig, _HOLD)
    limits: LimitsConfig = section(LimitsConfig, _RISK)
    overlay: OverlayConfig = section(OverlayConfig, _RISK)
    costs: CostConfig = section(CostConfig, _COST)
    report: ReportConfig = section(ReportConfig, _REPORT)

    def _check(self) -> None:
        if not self.models:
            raise ConfigError(f"models is empty: name at least one of {', '.join(MODELS)}.")
        if self.costs.preset == "cn":
            self._check_china()

    def _check_china(self) -> None:
        """Which A shares may be bought on margin or sold short is a dated list that we lack."""
        borrows = None
        if self.allocation.neutral is not None:
            borrows = f'allocation.neutral = "{self.allocation.neutral}"'
        elif self.overlay.max_exposure > 1.0:
            borrows = f"overlay.max_exposure = {self.overlay.max_exposure:g}"
        if borrows is not None:
            raise ConfigError(
                f'{borrows} borrows, and costs.preset = "cn" does not know which A shares may be '
                "bought on margin or sold short on which day: leave it out, or take another preset."
            )


def load_config(path: str | Path) -> StudyConfig:
    """Read settings from a TOML file.

    Keys that the file leaves out keep their defaults. ConfigError if it cannot be read or parsed,
    or a key is unknown, mistyped or out of range.
    """
    return config_from_dict(read_toml(path))


def config_from_dict(raw: typing.Mapping[str, Any]) -> StudyConfig:
    """Build settings from nested mappings, refusing unknown and renamed keys by name."""
    return typing.cast(StudyConfig, build(StudyConfig, raw, RENAMED))


def config_to_dict(config: StudyConfig) -> dict[str, Any]:
    """Settings as nested plain values (dates as ISO text), ready for JSON."""
    return typing.cast("dict[str, Any]", plain_values(config))


def config_to_toml(
    config: StudyConfig | None = None, *, every: bool = True, without: tuple[str, ...] = ()
) -> str:
    """Settings as a TOML file in which every key is explained; by default all defaults.

    `every=False` leaves out the keys that few people change, unless they are not at their default.
    Reading the text back gives the same settings; keys without a value are commented out, keys of
    the root `without` which it is wanted are left out.
    """
    title = ["Settings of an alphakeel study."]
    if every:
        title[0] += " Every key is shown with its default or chosen value."
    else:
        title[0] += " These are the keys that most people change."
        title.append(
            "A key that is left out keeps its default. All keys: alphakeel init --all all.toml"
        )
    return to_toml(config or StudyConfig(), title, every=every, without=without)
