"""Settings of the forecasts: their target, the walk-forward, and each kind of model."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from alphakeel.errors import ConfigError
from alphakeel.settings import Section, common_option, option

__all__ = [
    "BoostingConfig",
    "COMBINED",
    "CombinedConfig",
    "LimitsConfig",
    "LinearConfig",
    "MODELS",
    "NetworkConfig",
    "TargetConfig",
    "WalkForwardConfig",
]

LIMITED = ("lstm_limited", "gru_limited", "attention_limited", "cnn_lstm_limited")
NETWORKS = ("lstm", *LIMITED, "gru", "attention", "cnn_lstm", "mlp")
# Models that are fitted, and the one that is built from their scores.
MODELS = ("linear", *NETWORKS, "lightgbm", "svr")
COMBINED = "combined"


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
        "unit of a ranked return; volatility: the stock's own; return: none, as in the paper; "
        "auto: cross-validated",
        choices=("volatility", "return", "auto"),
    )

    networks: str = option(
        "returns",
        "what networks not under limits learn; returns: as all models; residuals: what the linear "
        "one leaves",
        choices=("returns", "residuals"),
    )

    def _check(self) -> None:
        if self.networks == "residuals" and self.unit == "auto":
            raise ConfigError(
                'target.networks = "residuals" needs one target for the linear model and the '
                'networks: set target.unit to "volatility" or "return".'
            )
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
        "kind of regression; pooled: ordinary least squares; ridge; fama_macbeth; auto: "
        "cross-validated",
        choices=("pooled", "ridge", "fama_macbeth", "auto"),
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
    rows: str = option(
        "decisions",
        "rows that networks not under limits learn from; decisions; days: every trading day "
        "(burn_in and chunk in days)",
        choices=("decisions", "days"),
    )
    burn_in: int = option(
        26, "rows of a sequence that warm the state up before the loss counts", low=0
    )
    chunk: int = option(104, "rows of a sequence on which the loss counts", low=2)
    batch_assets: int = option(120, "stocks in one batch", low=2)
    max_steps: int = common_option(75, "gradient steps at most", low=1)
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
class CombinedConfig(Section):
    """[combined] The model combined: a mean of the ranks that other models give the stocks."""

    members: tuple[str, ...] = option(
        (),
        "models that are combined, each among models (default: linear and all that are not under "
        "limits)",
    )
    weights: str = option(
        "equal",
        "weights of the members; equal; learned: by their Rank IC in earlier folds of the test",
        choices=("equal", "learned"),
    )
    shrinkage: int = option(
        104,
        "decisions that equal weights count for against those that weights are learned from",
        low=1,
    )

    def _check(self) -> None:
        if len(self.members) == 1 or len(set(self.members)) != len(self.members):
            raise ConfigError(
                f"combined.members is {list(self.members)}: name two different models or more."
            )
