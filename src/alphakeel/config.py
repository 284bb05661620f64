"""Settings of a study: small frozen dataclasses, read from TOML, every key explained.

Only `study`, `cli` and the reader of this page know these classes; the wings below receive
plain numbers. Every option carries its help text and its valid range beside its default, so
that `alphakeel init`, the checks and the error messages cannot drift apart.
"""

from __future__ import annotations

import datetime as dt
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alphakeel.errors import ConfigError
from alphakeel.settings import Section, build, option, plain, to_toml

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

MODELS = (
    "linear",
    "lstm",
    "lstm_limited",
    "gru",
    "attention",
    "cnn_lstm",
    "mlp",
    "lightgbm",
    "svr",
)


@dataclass(frozen=True)
class DataConfig(Section):
    """[data] Where prices come from."""

    source: str = option(
        "sp500", "bundled data set (sp500, synthetic) or the path of a file or folder of prices"
    )
    start: dt.date | None = option(None, "first date to read (YYYY-MM-DD)")
    end: dt.date | None = option(None, "last date to read (YYYY-MM-DD)")
    universe: str = option(
        "members",
        "members: stocks in the index at the time, where the data say so; all: every stock",
        choices=("members", "all"),
    )
    top: int = option(
        0, "keep only the stocks with the largest trailing dollar volume (0: all)", low=0
    )


@dataclass(frozen=True)
class CleaningConfig(Section):
    """[cleaning] What counts as an error in the data, and which stocks are fit for the sample."""

    max_gap: int = option(5, "days that a missing price is carried forward", low=0, high=60)
    gap_fill: str = option(
        "carry",
        "carry: the last price (causal); interpolate: the paper's way, which reads the future",
        choices=("carry", "interpolate"),
    )
    spike_sigmas: float = option(
        8.0, "a one-day move beyond this many trailing robust sigmas is provisional", low=2.0
    )
    spike_min_move: float = option(
        0.2, "... provided that it also exceeds this fraction", low=0.01, high=10.0
    )
    stale_days: int = option(10, "days of one and the same price that make a stock stale", low=2)
    min_history: int = option(252, "days of record before a stock may enter the sample", low=1)
    max_missing: float = option(
        0.1, "largest share of missing days over the last year", low=0.0, high=1.0
    )
    winsor_limit: float = option(
        10.0,
        "valuation ratios are pulled in to the date's median +- this many robust sigmas",
        low=1,
    )
    min_price: float = option(
        0.0, "smallest traded close (in the data's currency) at which a stock may enter", low=0.0
    )
    drop_illiquid: float = option(
        0.0, "share of a date's stocks, by trailing dollar volume, left out", low=0.0, high=0.9
    )
    drop_small: float = option(
        0.0, "share of a date's stocks, by market value, left out", low=0.0, high=0.9
    )


@dataclass(frozen=True)
class FactorConfig(Section):
    """[factors] What the models see."""

    exclude: tuple[str, ...] = option((), "factors to leave out, by name")
    custom: str = option("", "a Python file with factors of your own (empty: none)")


@dataclass(frozen=True)
class ScreenConfig(Section):
    """[screen] Which factors survive, judged on training rows only."""

    min_coverage: float = option(
        0.5, "smallest share of stock-days on which a factor is known", low=0.0, high=1.0
    )
    min_abs_t: float = option(
        1.0, "smallest Newey-West |t| of the factor's Rank IC at any horizon", low=0.0
    )
    max_correlation: float = option(
        0.9, "above this mean rank correlation only the stronger factor stays", low=0.0, high=1.0
    )
    networks_keep_weak: bool = option(
        True, "networks also see factors that are weak alone: they may count in combination"
    )
    min_keep: int = option(5, "factors that stay whatever the verdict, the strongest first", low=1)
    false_discovery_rate: float | None = option(
        None,
        "expected share of false factors among those that pass, over all that were tried (off)",
        low=0.001,
        high=0.999,
    )
    discovery_method: str = option(
        "benjamini_hochberg",
        "how it is held: benjamini_hochberg, or benjamini_yekutieli under any dependence",
        choices=("benjamini_hochberg", "benjamini_yekutieli"),
    )


@dataclass(frozen=True)
class TargetConfig(Section):
    """[target] What the models forecast."""

    horizons: tuple[int, ...] = option(
        (5, 20), "forward log returns to forecast, in trading days", low=1, high=252
    )
    lag: int = option(
        1, "days between the close that a score is made at and the close it trades at", low=1
    )
    unit: str = option(
        "volatility",
        "what a return is measured in before it is ranked; volatility: the stock's own, so that "
        "a score is one of return for risk; return: as it is, the paper's way",
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

    test_start: dt.date | None = option(
        None, "first day of the test (default: 2010-01-01, or 60 % into shorter data)"
    )
    test_end: dt.date | None = option(
        None, "last day of the test (default: 2020-12-31, or the end of the data)"
    )
    refit_every: int = option(504, "trading days between two fits", low=20)
    rebalance_every: int = option(5, "trading days between two decisions", low=1, high=63)
    embargo: int = option(5, "further days left out between training and test", low=0)
    train_days: int = option(0, "length of the training window (0: all the past)", low=0)

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
        "pooled: ordinary least squares; ridge; fama_macbeth",
        choices=("pooled", "ridge", "fama_macbeth"),
    )
    alpha: float = option(
        1.0, "strength of the ridge, in units of a factor's variance (read by ridge only)", low=0.0
    )


@dataclass(frozen=True)
class NetworkConfig(Section):
    """[network] Every network (lstm, gru, attention, cnn_lstm, mlp); a row is a decision date."""

    hidden: int = option(32, "units of the recurrent layer", low=1, high=1024)
    layers: int = option(1, "recurrent layers", low=1, high=4)
    dropout: float = option(0.2, "dropout on input and output", low=0.0, high=0.95)
    burn_in: int = option(26, "steps that warm the state up before the loss counts", low=0)
    chunk: int = option(104, "steps on which the loss counts, in one batch", low=2)
    batch_assets: int = option(120, "stocks in one batch", low=2)
    max_steps: int = option(75, "gradient steps at most", low=1)
    learning_rate: float = option(3e-3, "peak of the one-cycle schedule", low=1e-6, high=1.0)
    weight_decay: float = option(1e-2, "AdamW's decay", low=0.0)
    ic_weight: float = option(1.0, "weight of 1 - IC in the loss", low=0.0)
    mse_weight: float = option(0.1, "weight of the mean squared error in the loss", low=0.0)
    validation_share: float = option(
        0.0,
        "last part of the training rows kept to choose the state by; 0: train on all of them",
        low=0.0,
        high=0.5,
    )
    evaluate_every: int = option(10, "steps between two validations", low=1)
    patience: int = option(5, "validations without a better one before a fit stops", low=1)
    n_seeds: int = option(3, "networks averaged", low=1, high=100)
    device: str = option("auto", "auto, cpu or cuda")
    precision: str = option(
        "float32",
        "type of the matrix products of training; auto depends on the machine",
        choices=("float32", "bfloat16", "auto"),
    )
    input_noise: float = option(
        0.0, "standard deviation of noise added to the factors in training; 0: none", low=0.0
    )

    def _check(self) -> None:
        if self.ic_weight + self.mse_weight <= 0:
            raise ConfigError(
                "network.ic_weight and network.mse_weight are both zero: the loss would be empty."
            )


@dataclass(frozen=True)
class LimitsConfig(Section):
    """[limits] What lstm_limited may risk, trained with these limits inside its loss."""

    volatility: float | None = option(
        0.12, 'largest volatility, a fraction a year ("none": no limit)', low=0.001, high=2.0
    )
    max_drawdown: float | None = option(
        0.2, 'deepest loss from a peak, a fraction ("none": no limit)', low=0.001, high=0.999
    )
    var_95: float | None = option(
        0.015, 'largest 95 % VaR of one day, a fraction ("none": no limit)', low=1e-4, high=0.5
    )
    cvar_95: float | None = option(
        None, "largest 95 % CVaR of one day, a fraction", low=1e-4, high=0.5
    )
    turnover: float | None = option(
        None, "most value traded in a year over wealth, both sides", low=0.01, high=1000.0
    )


@dataclass(frozen=True)
class BoostingConfig(Section):
    """[boosting] LightGBM, a reference; seeds and steps come from [network]."""

    n_trees: int = option(300, "trees at most", low=1, high=5000)
    learning_rate: float = option(0.05, "share of each tree's answer", low=0.001, high=1.0)
    leaves: int = option(15, "leaves of a tree", low=2, high=255)


@dataclass(frozen=True)
class AllocationConfig(Section):
    """[allocation] From scores to weights; what the method does not use is ignored."""

    method: str = option(
        "top_quantile",
        "top_quantile: the best stocks by inverse volatility; mean_variance and mean_cvar: "
        "optimised under the limits below",
        choices=("top_quantile", "mean_variance", "mean_cvar"),
    )
    neutral: str | None = option(
        None,
        "also sell short (top_quantile: the worst stocks); dollar: longs equal shorts in money; "
        "beta: in market beta. Benchmarks and lstm_limited stay long only (off)",
        choices=("dollar", "beta"),
    )
    gross: float = option(
        2.0, "most longs plus shorts over wealth (read with neutral only)", low=1.0, high=3.0
    )
    benchmarks: tuple[str, ...] = option(
        (),
        "benchmarks beside equal weight and minimum variance, which always run",
        choices=("inverse_volatility", "risk_parity", "hrp"),
    )
    quantile: float = option(
        0.25, "share of the eligible stocks held (top_quantile), a side", low=0.01, high=1.0
    )
    weight_cap: float = option(
        0.3,
        "largest weight of one stock, times the exposure under the overlay",
        low=0.001,
        high=1.0,
    )
    smoothing: float = option(
        0.25, "share of the way to the new portfolio that one rebalance trades", low=0.01, high=1.0
    )
    volatility: str = option(
        "ewma",
        "forecast of a stock's volatility; ewma: exponentially weighted; network: the risk "
        "network, refitted in every fold",
        choices=("ewma", "network"),
    )
    volatility_halflife: int = option(63, "half-life in days of a stock's volatility", low=2)
    covariance_window: int = option(252, "days of return behind minimum variance", low=20)
    window: int = option(
        500, "days of scenarios and covariance behind the optimised methods", low=60, high=2000
    )
    covariance: str = option(
        "factor",
        "estimator behind mean_variance",
        choices=("factor", "clipped", "ledoit_wolf", "ewma"),
    )
    strength: float = option(
        0.025, "expected annual return of one standard deviation of score", low=0.0, high=1.0
    )
    aversion: float = option(5.0, "price of half the annual variance", low=0.0, high=100.0)
    holding_period: float = option(60.0, "days over which the cost of a trade is spread", low=1.0)
    invested: float = option(0.0, "least share of wealth in stocks", low=0.0, high=1.0)
    volatility_limit: float | None = option(
        None, "largest forecast volatility, a fraction a year", low=0.001, high=2.0
    )
    var_limit: float | None = option(
        None, "largest 95 % VaR of a day over the scenarios, a fraction", low=1e-4, high=0.5
    )
    cvar_limit: float | None = option(
        None, "largest 95 % CVaR of a day over the scenarios, a fraction", low=1e-4, high=0.5
    )
    drawdown_limit: float | None = option(
        None, "largest drawdown of the path of the scenarios", low=0.001, high=1.0
    )
    sector_limit: float | None = option(
        None, "largest deviation from a sector's share of the sample", low=0.0, high=1.0
    )
    turnover_limit: float | None = option(
        None, "most bought plus sold at one decision, over wealth", low=0.001, high=2.0
    )
    max_names: int | None = option(None, "most stocks held", low=1)

    def _check(self) -> None:
        if self.neutral is None:
            return
        if self.invested > 0.0:
            raise ConfigError(
                f"allocation.invested {self.invested:g} is a limit of long-only books and "
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

    max_exposure: float = option(
        1.0,
        "largest exposure; above 1 cash may be borrowed, at costs.financing_rate",
        low=0.01,
        high=3.0,
    )
    target_volatility: float | None = option(
        0.08, 'volatility to hold, a fraction a year ("none": off)', low=0.001, high=2.0
    )
    var_cap: float | None = option(
        0.01, 'largest forecast of the one-day 95 % VaR ("none": off)', low=1e-4, high=0.5
    )
    brake_start: float | None = option(
        0.1, 'drawdown at which exposure begins to fall ("none": off)', low=0.0, high=0.999
    )
    brake_full: float = option(0.2, "drawdown at which it has fallen", low=0.0, high=0.999)
    brake_floor: float = option(0.25, "... to this share", low=0.0, high=1.0)
    brake_halflife: float = option(126.0, "days in which a drawdown is half forgotten", low=1.0)
    bear_exposure: float | None = option(
        None, "largest exposure while the trend rule says bear (off: it costs rebounds)", low=0.0
    )
    band: float = option(
        0.1, "exposure is left alone within this share of what it is", low=0.0, high=0.9
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

    preset: str = option(
        "flat",
        "flat: cost_per_side and no other rule; us, cn: dated commission, taxes, slippage, impact, "
        "participation and, for China, lots and price limits",
        choices=("flat", "us", "cn"),
    )
    cost_per_side: float = option(
        0.001,
        "fraction of the traded value, each side (0.001: 10 basis points; flat, and the guess "
        "of every optimiser)",
        low=0,
        high=0.1,
    )
    wealth: float = option(
        1e7, "wealth at the start, in the currency of the prices (us, cn)", low=1.0
    )
    participation: float = option(
        0.1, "largest order, as a share of the day's traded value (us, cn)", low=1e-4, high=1.0
    )
    impact: float = option(1.0, "strength of the square-root impact (us, cn)", low=0.0, high=10.0)
    financing_rate: float = option(
        0.03,
        "annual interest on borrowed cash, a fraction (overlay.max_exposure)",
        low=0.0,
        high=0.5,
    )
    borrow_rate: float = option(
        0.01, "annual fee on stocks sold short, a fraction (allocation.neutral)", low=0.0, high=1
    )


@dataclass(frozen=True)
class ReportConfig(Section):
    """[report] How results are stated."""

    level: float = option(0.95, "level of the intervals", low=0.5, high=0.999)
    drivers: bool = option(True, "explain which factors drive the scores, after the fits")
    n_bootstrap: int = option(1000, "block-bootstrap resamples behind each interval", low=100)
    zigzag: float = option(
        0.1, "fall that makes a bear market in hindsight, for Table II", low=0.02, high=0.5
    )
    confirm_from: dt.date | None = option(
        None, "first day whose results nobody saw while settings were chosen: tables of its own"
    )
    fan_days: int = option(252, "days ahead of the drawdown forecast", low=20, high=1000)
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
    data, cleaning, factors, screen, target, walk_forward : sections
    linear, network, limits, boosting, allocation, overlay, costs, report : sections
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

    models: tuple[str, ...] = option(
        ("linear", "lstm", "lstm_limited"),
        "models to compare; the linear benchmark always runs",
        choices=MODELS,
    )
    seed: int = option(0, "seed of every random draw", low=0)
    jobs: int = option(2, "fits that run at the same time (no effect on the numbers)", low=1)
    data: DataConfig = field(default_factory=DataConfig)
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    factors: FactorConfig = field(default_factory=FactorConfig)
    screen: ScreenConfig = field(default_factory=ScreenConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    walk_forward: WalkForwardConfig = field(default_factory=WalkForwardConfig)
    linear: LinearConfig = field(default_factory=LinearConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    boosting: BoostingConfig = field(default_factory=BoostingConfig)
    allocation: AllocationConfig = field(default_factory=AllocationConfig)
    overlay: OverlayConfig = field(default_factory=OverlayConfig)
    costs: CostConfig = field(default_factory=CostConfig)
    report: ReportConfig = field(default_factory=ReportConfig)

    def _check(self) -> None:
        if not self.models:
            raise ConfigError(f"models is empty: name at least one of {', '.join(MODELS)}.")
        if self.costs.preset == "cn":
            self._check_china()

    def _check_china(self) -> None:
        """Which A shares may be bought on margin or sold short is a dated list that we lack."""
        wish = None
        if self.allocation.neutral is not None:
            wish = f'allocation.neutral = "{self.allocation.neutral}"'
        elif self.overlay.max_exposure > 1.0:
            wish = f"overlay.max_exposure = {self.overlay.max_exposure:g}"
        if wish is not None:
            raise ConfigError(
                f'{wish} borrows, and costs.preset = "cn" does not know which A shares may be '
                "bought on margin or sold short on which day: leave it out, or take another preset."
            )


def load_config(path: str | Path) -> StudyConfig:
    """Read settings from a TOML file.

    Parameters
    ----------
    path : str or Path
        The file; keys that it leaves out keep their defaults.

    Returns
    -------
    StudyConfig

    Raises
    ------
    ConfigError
        If the file cannot be read or parsed, or a key is unknown, mistyped or out of range.
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read settings file {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"settings file {path} is not UTF-8 text.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"settings file {path} is not valid TOML: {error}.") from error
    return config_from_dict(raw)


def config_from_dict(raw: typing.Mapping[str, Any]) -> StudyConfig:
    """Build settings from nested mappings, refusing every unknown key by name.

    Examples
    --------
    >>> config_from_dict({"costs": {"cost_per_side": 0.002}}).costs.cost_per_side
    0.002
    >>> config_from_dict({"network": {"drop_out": 0.1}})
    Traceback (most recent call last):
    alphakeel.errors.ConfigError: unknown setting network.drop_out; did you mean network.dropout?
    """
    return typing.cast(StudyConfig, build(StudyConfig, raw))


def config_to_dict(config: StudyConfig) -> dict[str, Any]:
    """Settings as nested plain values (dates as ISO text), ready for JSON."""
    return typing.cast("dict[str, Any]", plain(config))


def config_to_toml(config: StudyConfig | None = None) -> str:
    """Settings as a TOML file in which every key is explained.

    Reading the text back gives the same settings; keys without a value are commented out.

    Examples
    --------
    >>> print(config_to_toml()[:65])
    # Settings of an alphakeel study. Every key is shown with its ...
    """
    return to_toml(
        config or StudyConfig(),
        "Settings of an alphakeel study. Every key is shown with its default or chosen value.",
    )
