"""The models of a study by name: what a reader calls each, and how the settings make it."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from alphakeel.config import COMBINED, StudyConfig
from alphakeel.errors import ConfigError
from alphakeel.files import slug
from alphakeel.models.base import Forecaster
from alphakeel.models.custom import CustomModels, OwnModel, package_versions
from alphakeel.models.linear import LinearForecaster
from alphakeel.models.restore import class_of
from alphakeel.user_code import run_file

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
    "load_models",
    "make_forecaster",
    "models_asked_for",
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
    own: OwnModel | None = None,
    days_apart: int = 1,
) -> Forecaster:
    """Build a model that is still to be fitted, by its name in `alphakeel.config.MODELS`.

    `own` is the model itself where it is the user's: of the settings it takes the seed.

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
    if own is not None:
        return _of_user(own, config.seed)
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
        limited = config.network.keywords(without=("rows", *_NOT_OF_LIMITED))
        if config.network.rows == "days":
            limited["burn_in"] = -(-limited["burn_in"] // days_apart)
            limited["chunk"] = max(2, -(-limited["chunk"] // days_apart))
        limited |= {
            "lag": config.target.lag,
            "purge": purge,
            "limits": {name: x for name, x in config.limits.keywords().items() if x is not None},
            "weight_cap": config.allocation.weight_cap,
            "cost_per_side": config.costs.cost_per_side,
            "seed": config.seed,
            "on_progress": on_progress,
        }
        return _made(LIMITED[model], limited)
    network |= {"purge": purge, "seed": config.seed, "on_progress": on_progress}
    return _made(NETWORKS[model], network)


def _made(name: str, options: dict[str, Any]) -> Forecaster:
    made: Any = class_of(name)(**options)
    forecaster: Forecaster = made
    return forecaster


def _of_user(own: OwnModel, seed: int) -> Forecaster:
    from alphakeel.models.custom_forecasters import SequenceModel, TableModel  # which need torch

    if own.takes_sequences(own.estimator(seed)):
        return SequenceModel(own, seed)
    return TableModel(own, seed)


def load_models(path: str | Path) -> CustomModels:
    """Load the models of a Python file.

    Parameters
    ----------
    path : str or Path
        Of the file; "" for none. The file is run, as a module of its own.

    Returns
    -------
    CustomModels

    Raises
    ------
    ConfigError
        If the file cannot be read or run, holds no model, or a model has the name or the label of
        another one or of ours; with file and line.

    Examples
    --------
    >>> load_models("").models
    ()
    """
    if not str(path):
        return CustomModels()
    file = run_file(path, "models")
    marked = [replace(own, digest=file.digest) for own in file.marked(OwnModel)]
    if not marked:
        raise ConfigError(
            f"{file.name} holds no model: mark a function of the seed with @model(label=...)."
        )
    _check_names(marked)
    return CustomModels(tuple(marked), {f"models.custom {file.name}": f"sha256:{file.digest}"})


def models_asked_for(config: StudyConfig) -> CustomModels:
    """The user's models that the settings name, each tried once; without any no file is run.

    Their versions are those of the file, and of the packages that their estimators come from.
    """
    wanted = config.own_models
    if not wanted:
        return CustomModels()
    custom = load_models(config.custom_models)
    known = [own.name for own in custom.models]
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, [*known, *LABELS], 1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}."
            raise ConfigError(
                f"models names {name!r}, which is no model of ours nor of "
                f"{Path(config.custom_models).name}; {hint}"
            )
    chosen = tuple(own for own in custom.models if own.name in wanted)
    packages = package_versions(own.check(config.seed) for own in chosen)
    return CustomModels(chosen, custom.versions | packages)


def _check_names(marked: list[OwnModel]) -> None:
    """Refuse names and labels in use: by our models and strategies, or by another of the file."""
    labels = [*LABELS.values(), EQUAL_WEIGHT, MINIMUM_VARIANCE, CAP_WEIGHT, INDEX, _CASH]
    labels += BENCHMARKS.values()
    names = dict.fromkeys([*LABELS, *map(slug, labels), "risk_network"], "one of ours")
    told = {key: "one of ours" for label in labels for key in _files(label)}
    for own in marked:
        if own.name in names:
            raise ConfigError(f"{own.place} has the name of {names[own.name]}: choose another.")
        for key in _files(own.label):
            if key in told:
                raise ConfigError(
                    f"{own.place} has the label {own.label!r}, which is or looks like that of "
                    f"{told[key]}: choose another."
                )
        names[own.name] = "another model of the file"
        told |= dict.fromkeys(_files(own.label), "another model of the file")


# What `evaluation.recommendation` calls a portfolio of nothing.
_CASH = "Cash"


def _files(label: str) -> tuple[str, ...]:
    """A label, and those of its portfolios, as parts of a file's name: two must differ in these."""
    return tuple(map(slug, (label, under_overlay(label), hedged(label))))
