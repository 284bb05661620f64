"""The models of a study by name: what a reader calls each, and how the settings make it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alphakeel.config import COMBINED, StudyConfig
from alphakeel.models.base import Forecaster
from alphakeel.models.linear import LinearForecaster
from alphakeel.models.restore import class_of

__all__ = [
    "BENCHMARKS",
    "CAP_WEIGHT",
    "EQUAL_WEIGHT",
    "INDEX",
    "LABELS",
    "LIMITED",
    "MINIMUM_VARIANCE",
    "NETWORKS",
    "check_models",
    "hedged",
    "make_forecaster",
    "reads_days",
    "under_overlay",
    "work_of",
]

EQUAL_WEIGHT, MINIMUM_VARIANCE = "Equal weight", "Minimum variance"
# Further ones that portfolios are measured against.
CAP_WEIGHT, INDEX = "Cap weight", "Market index"
# Further benchmarks: names of `portfolio.optimisation` and what a reader calls them.
BENCHMARKS = {
    "inverse_volatility": "Inverse volatility",
    "risk_parity": "Risk parity",
    "hrp": "Hierarchical risk parity",
}

# Classes of the networks by the name of the model; `models.restore` imports them when asked.
NETWORKS = {
    "lstm": "LSTMForecaster",
    "gru": "GRUForecaster",
    "attention": "AttentionForecaster",
    "cnn_lstm": "CNNLSTMForecaster",
    "mlp": "MLPForecaster",
}
# Networks that allocate by themselves, under the limits of section [limits].
LIMITED = {
    "lstm_limited": "RiskLimitedLSTM",
    "gru_limited": "RiskLimitedGRU",
    "attention_limited": "RiskLimitedAttention",
    "cnn_lstm_limited": "RiskLimitedCNNLSTM",
}
# The `label` of each class, which a test compares: known before torch is imported.
LABELS = {
    "linear": "Linear",
    "lstm": "LSTM",
    "gru": "GRU",
    "attention": "LSTM + attention",
    "cnn_lstm": "CNN-LSTM",
    "mlp": "MLP",
    "lstm_limited": "LSTM with limits",
    "gru_limited": "GRU with limits",
    "attention_limited": "LSTM + attention with limits",
    "cnn_lstm_limited": "CNN-LSTM with limits",
    "lightgbm": "LightGBM",
    "svr": "SVR",
    COMBINED: "Combined",
}
# CPU time of one member's fit, where that of an LSTM is 1 (measured on 500 x 550 x 25): the
# progress bar goes by it.
_WORK = {
    "lstm_limited": 3.1,
    "gru_limited": 5.3,
    "attention_limited": 7.0,
    "cnn_lstm_limited": 5.0,
    "gru": 1.7,
    "attention": 2.3,
    "cnn_lstm": 1.6,
    "mlp": 0.4,
    "lightgbm": 1.3,
    "svr": 0.5,
}
# Options of [network] that networks under limits do not take: they have values of their own.
_NOT_OF_LIMITED = (
    "learning_rate",
    "weight_decay",
    "mse_weight",
    "validation_share",
    "evaluate_every",
    "patience",
)


def check_models(config: StudyConfig) -> None:
    """Refuse a model whose package is absent before a long study begins."""
    if "lightgbm" in config.models:
        from alphakeel.models.tabular import import_lightgbm

        import_lightgbm()


def under_overlay(label: str) -> str:
    """What a reader calls a strategy under the overlay: 'LSTM' becomes 'LSTM + overlay'."""
    return f"{label} + overlay"


def hedged(label: str) -> str:
    """What a reader calls a strategy with the market sold against it: 'LSTM + hedge'."""
    return f"{label} + hedge"


def reads_days(model: str, config: StudyConfig) -> bool:
    """Whether a model reads days between decisions: ``network.rows = "days"``, if there are any.

    Networks under limits do not: their loss is of the portfolio's path from decision to decision.
    """
    between = config.walk_forward.rebalance != 1
    return model in NETWORKS and config.network.rows == "days" and between


def work_of(model: str, config: StudyConfig) -> float:
    """Rough CPU time of one fit, in those of one LSTM of one seed."""
    return 0.1 if model == "linear" else _WORK.get(model, 1.0) * config.network.n_seeds


def make_forecaster(
    model: str,
    config: StudyConfig,
    on_progress: Callable[[int, int, int, float], object],
    *,
    purge: int = 0,
    days_apart: int = 1,
) -> Forecaster:
    """Build a model that is still to be fitted, by its name in `alphakeel.config.MODELS`.

    Section ``[network]`` makes every network; of it LightGBM (with ``[boosting]``) and support
    vectors take the number of seeds. Networks under limits ignore six of its options
    (`learning_rate`, `weight_decay`, `mse_weight`, `validation_share`, `evaluate_every`,
    `patience`): `RiskLimitedLSTM` has values of its own. Networks report (member, step,
    max_steps, loss) to `on_progress`. `purge` is the number of rows between training and
    validation, for the models that validate. With ``network.rows = "days"`` sequences are given in
    days, and networks under limits, which read decisions, take as many as lie in them, `days_apart`
    from one to the next.

    Examples
    --------
    >>> make_forecaster("gru", StudyConfig(), print).hidden
    32
    """
    if model == "linear":
        return LinearForecaster(**config.linear.keywords())
    network = config.network.keywords(without=("rows",))
    seeds: dict[str, Any] = {"n_seeds": network["n_seeds"], "seed": config.seed}
    if model == "svr":
        return _made("SupportVectorForecaster", seeds)
    if model == "lightgbm":
        options = {**config.boosting.keywords(), "purge": purge, **seeds}
        return _made("LightGBMForecaster", options)
    if model in LIMITED:
        own = config.network.keywords(without=("rows", *_NOT_OF_LIMITED))
        if config.network.rows == "days":
            own["burn_in"] = -(-own["burn_in"] // days_apart)
            own["chunk"] = max(2, -(-own["chunk"] // days_apart))
        own |= {
            "lag": config.target.lag,
            "purge": purge,
            "limits": {name: x for name, x in config.limits.keywords().items() if x is not None},
            "weight_cap": config.allocation.weight_cap,
            "cost_per_side": config.costs.cost_per_side,
            "seed": config.seed,
            "on_progress": on_progress,
        }
        return _made(LIMITED[model], own)
    network |= {"purge": purge, "seed": config.seed, "on_progress": on_progress}
    return _made(NETWORKS[model], network)


def _made(name: str, options: dict[str, Any]) -> Forecaster:
    made: Any = class_of(name)(**options)
    forecaster: Forecaster = made
    return forecaster
