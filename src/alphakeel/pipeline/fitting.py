"""The fits of a study: models on the training decisions of folds, their scores and drivers.

A finished fit is kept under a fingerprint of all that it read: the features, targets and masks of
its training decisions, its factors and parameters, and the versions of the libraries. So a killed
study resumes, and a study with more days fits only what is new; scores are computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.config import COMBINED, StudyConfig
from alphakeel.errors import ConvergenceError
from alphakeel.model_factory import NETWORKS, make_forecaster, work_of
from alphakeel.models.base import (
    AllocatingForecaster,
    EnsembleForecaster,
    Forecaster,
    Memory,
    RememberingForecaster,
)
from alphakeel.models.custom import Fitted, OwnForecaster, OwnModel, fitted_model
from alphakeel.models.persistence import TRANSIENT, ModelState, fingerprint
from alphakeel.pipeline.calendar import days_apart
from alphakeel.pipeline.checkpoints import FitCache, KeptFits
from alphakeel.pipeline.combination import combine_models, combine_networks
from alphakeel.pipeline.cross_fits import residual_targets
from alphakeel.pipeline.dataset import Dataset
from alphakeel.pipeline.model_results import (
    DECAY,
    ChosenSettings,
    FitResult,
    Forecast,
    ModelResult,
)
from alphakeel.pipeline.own_models import refuse_reading_ahead
from alphakeel.pipeline.plan import Plan
from alphakeel.pipeline.rows import ModelRows
from alphakeel.pipeline.screening import Screens
from alphakeel.progress import Task, Tracker, run_in_threads
from alphakeel.provenance import versions_at_work
from alphakeel.stats.cross_section import ic, rank_ic
from alphakeel.stats.exposure_rules import LIMITED, WINDOW
from alphakeel.stats.splits import Fold

if TYPE_CHECKING:  # torch takes more than a second to import
    from alphakeel.models.importance import Drivers

__all__ = [
    "LAGS",
    "RISK_HORIZON",
    "add_members",
    "explain_models",
    "fit_and_score",
    "fit_key",
    "fit_models",
    "fit_risk_networks",
    "fold_text",
    "forecast_volatility",
    "volatility_of_block",
]

Floats = npt.NDArray[np.floating[Any]]
Rows = slice | npt.NDArray[np.intp]
Listener = Callable[[int, int, int, float], object]

# Days ahead that the risk network forecasts.
RISK_HORIZON = 20

# Decisions before a fold's test rows from which an explanation warms up the memory of a network,
# and those that scores are traced back over.
_MEMORY, LAGS = 52, 26


def fit_and_score(
    dataset: Dataset,
    train: Rows,
    until: int,
    names: Sequence[str],
    model: str,
    config: StudyConfig,
    *,
    on_progress: Listener | None = None,
    prepare: Callable[[Forecaster], object] | None = None,
    own: OwnModel | None = None,
) -> Forecast:
    """Fit a model on some decisions, and score every decision before `until`.

    A model that reads days (`ModelRows`) is fitted on those between the training decisions, too.
    The state of a sequence model runs on from the first row, so that it enters the test warm.
    Training decisions on both sides of a block are joined: the state crosses one seam in training,
    and no gap in prediction.

    Parameters
    ----------
    dataset : Dataset
    train : slice or ndarray of int
        Decisions to fit on, in order.
    until : int
        First decision that is not scored.
    names : sequence of str
        Factors that the model is given.
    model : str
        One of `alphakeel.config.MODELS`.
    config : StudyConfig
    on_progress : callable, optional
        Called with (member, step, max_steps, loss) by networks.
    prepare : callable, optional
        Called with the forecaster before it is fitted, to attach a store, for example.
    own : OwnModel, optional
        The model itself where it is the user's.

    Raises
    ------
    ConvergenceError
        If a loss is not finite, with the numbers of factor and stock at fault.
    """
    rows = ModelRows.of(dataset, model, config)
    read, learned = rows.dataset, rows.training(train)
    forecaster = _unfitted(read, learned, model, config, on_progress or _ignore_progress, own)
    if prepare is not None:
        prepare(forecaster)
    last = train.stop if isinstance(train, slice) else int(train[-1]) + 1
    features = read.features[: rows.until(max(last, until)), :, read.columns(names)]
    features = np.ascontiguousarray(features)
    targets = _targets_of(forecaster, read, learned, config)
    _fit(forecaster, read, features[learned], targets, learned)
    return _score(forecaster, rows, features, until)


def _score(forecaster: Forecaster, rows: ModelRows, features: Floats, stop: int) -> Forecast:
    """Scores of a fitted model, and its weights, on the first `stop` decisions.

    `features` are those of the rows that the model reads, from the first one on.
    """
    dataset, until = rows.dataset, slice(0, rows.until(stop))
    features = features[until]
    known = {"mask": dataset.eligible[until], "market": dataset.market[until]}
    if not isinstance(forecaster, RememberingForecaster):
        return Forecast(forecaster.predict(features, **known), None, None, forecaster)
    volatility = dataset.volatility[until]
    made = forecaster.predict_from(None, features, volatility=volatility, **known)
    safety = None
    if isinstance(forecaster, AllocatingForecaster):
        safety = forecaster.factor_rows(len(features))
    scores = rows.on_decisions(made.scores, stop)
    return Forecast(scores, made.weights, safety, forecaster, made.memory)


def fit_key(
    dataset: Dataset,
    train: Rows,
    names: Sequence[str],
    model: str,
    config: StudyConfig,
    own: OwnModel | None = None,
) -> str:
    """Sixteen characters that stand for all that a fit reads, and for nothing else.

    Days after the training decisions and their labels, stocks that are in none of them, and
    settings of other parts of the study do not count. Arguments as in `fit_and_score`.
    """
    rows = ModelRows.of(dataset, model, config)
    dataset, train = rows.dataset, rows.training(train)
    forecaster: Any = _unfitted(dataset, train, model, config, _ignore_progress, own)
    params = forecaster.get_params(deep=False)
    stocks = np.flatnonzero(dataset.eligible[train].any(axis=0))
    read = _labels_and_masks(forecaster, dataset, train, stocks)
    targets = _targets_of(forecaster, dataset, train, config)
    return fingerprint(
        type(forecaster).__name__,
        {name: value for name, value in params.items() if name not in TRANSIENT},
        list(names),
        versions_at_work(replace(config, models=(model,))),
        dataset.features[train][:, stocks[:, None], dataset.columns(names)],
        targets[:, stocks],
        *(part for name in sorted(read) for part in (name, read[name])),
    )[:16]


def _unfitted(
    dataset: Dataset,
    train: Rows,
    model: str,
    config: StudyConfig,
    on_progress: Listener,
    own: OwnModel | None,
) -> Forecaster:
    """A model still to be fitted, with the purge that the labels of its training rows need."""
    reach = dataset.lag + max(dataset.horizons)
    purge, apart = dataset.rows_ahead(reach, train), days_apart(config.walk_forward.rebalance)
    return make_forecaster(model, config, on_progress, purge=purge, days_apart=apart, own=own)


def _targets_of(
    forecaster: Forecaster, dataset: Dataset, train: Rows, config: StudyConfig
) -> Floats:
    """What a model learns of its training rows: ranks of returns, or of residuals."""
    network = type(forecaster).__name__ in NETWORKS.values()
    if config.target.networks == "residuals" and network:
        return residual_targets(dataset, train, config)
    return dataset.targets[train]


def _fit(
    forecaster: Forecaster, dataset: Dataset, features: Floats, targets: Floats, train: Rows
) -> None:
    """Fit on the stocks that are eligible on some training row.

    The others would teach nothing, and yet move random draws and last bits: a stock that is listed
    later must not.
    """
    stocks = np.flatnonzero(dataset.eligible[train].any(axis=0))
    own = _labels_and_masks(forecaster, dataset, train, stocks)
    try:
        forecaster.fit(features[:, stocks], targets[:, stocks], **own)
    except ConvergenceError as error:
        stock = None if error.asset is None else int(stocks[error.asset])
        raise ConvergenceError(str(error), factor=error.factor, asset=stock) from error


def _labels_and_masks(
    forecaster: Forecaster, dataset: Dataset, train: Rows, stocks: npt.NDArray[np.intp]
) -> dict[str, npt.NDArray[Any]]:
    """What a fit reads beside features and targets, as its keywords."""
    own: dict[str, npt.NDArray[Any]] = {
        "mask": dataset.eligible[train][:, stocks],
        "market": dataset.market[train],
    }
    if isinstance(forecaster, AllocatingForecaster):
        own["returns"] = dataset.holding_returns(train)[..., stocks]
        own["volatility"] = dataset.volatility[train][:, stocks]
        days = dataset.decisions[train]
        first = max(0, int(days[0]) - WINDOW + 1)  # what the first row's forecast of risk reads
        own["daily"] = dataset.returns[first : int(days[-1]) + 1, stocks]
        own["days"] = days - first
    return own


def fit_models(
    datasets: Mapping[str, Dataset],
    screens: Sequence[Screens],
    plan: Plan,
    choices: Sequence[Mapping[str, ChosenSettings]],
    *,
    tracker: Tracker,
    cache: FitCache,
    resumed: bool,
) -> dict[str, ModelResult]:
    """Fit every model on every fold whose fit is not known, and measure the joined scores.

    A model is fitted with what it has chosen on the fold, on the data set in that unit. The
    combined model is built from the scores of its members.
    """
    folds, dataset = plan.folds, next(iter(datasets.values()))
    settled = [{name: own.chosen for name, own in by_model.items()} for by_model in choices]

    def read_by(model: str, number: int) -> tuple[Dataset, StudyConfig]:
        chosen = settled[number][model]
        return datasets[chosen.unit], chosen.applied(plan.config)

    pairs = [(model, number) for model in plan.fitted for number in range(len(folds))]
    keys = {}
    for model, number in pairs:
        names = screens[number].names(model)
        read, config = read_by(model, number)
        own = plan.custom_models.get(model)
        keys[model, number] = fit_key(read, folds[number].train, names, model, config, own)
    known = {pair: cache.find_fit(key) for pair, key in keys.items()}
    finished = sum(fit is not None for fit in known.values())
    if resumed or finished:
        with tracker.task("resuming", 0.0, f"{finished} of {len(pairs)} fits done"):
            pass
    kept = KeptFits(cache, tracker, len(pairs), finished)

    def fit(model: str, number: int) -> FitResult:
        text = f"{plan.labels[model]}, {fold_text(number, folds)}"
        with tracker.task("fitting", work_of(model, plan.config), text) as task:
            key, done = keys[model, number], known[model, number]
            names = screens[number].names(model)
            if done is not None:
                rows = ModelRows.of(dataset, model, plan.config)
                return of_place(_score_fold(rows, names, folds[number], key, *done), number)
            try:
                read, config = read_by(model, number)
                own = plan.custom_models.get(model)
                result = _fit_fold(read, names, model, folds[number], config, task, cache, key, own)
            except ConvergenceError as error:
                raise _named(error, text, names, plan.assets) from error
            if cache.keep_fit(result):
                kept.add_one()
            return of_place(result, number)

    def of_place(result: FitResult, number: int) -> FitResult:
        """Decisions after the test go on from the last fold alone."""
        return result if number == len(folds) - 1 else replace(result, memory=None)

    done = run_in_threads([partial(fit, *pair) for pair in pairs], plan.config.jobs)
    fits = _by_model(plan.fitted, done)
    results = {
        name: replace(
            _collect(name, plan, dataset, own),
            choices=tuple(by_model[name] for by_model in choices),
        )
        for name, own in fits.items()
    }
    return _with_decay(combine_models(results, dataset, folds, plan.config), dataset)


def _fit_fold(
    dataset: Dataset,
    names: tuple[str, ...],
    model: str,
    fold: Fold,
    config: StudyConfig,
    task: Task,
    cache: FitCache,
    key: str,
    own: OwnModel | None,
) -> FitResult:
    """Fit one model on the training decisions of a fold, and score its test decisions."""
    seeds = config.network.n_seeds

    def on_progress(seed: int, step: int, total_steps: int, loss: float) -> None:
        share = (seed * total_steps + step) / (seeds * total_steps)
        task.at(share, f"seed {seed + 1}, step {step}, loss {loss:.3f}")

    forecast = fit_and_score(
        dataset,
        fold.train,
        fold.test.stop,
        names,
        model,
        config,
        on_progress=on_progress,
        prepare=lambda forecaster: cache.attach(forecaster, key),
        own=own,
    )
    fitted = forecast.forecaster
    assert fitted is not None  # noqa: S101  (fit_and_score gives the model that it fitted)
    if isinstance(fitted, OwnForecaster):
        refuse_reading_ahead(fitted, dataset, names, fold.test, forecast.scores)
        return _on_test(forecast, fold, key, fitted, [])
    history = [_flat(entry) for entry in getattr(fitted, "history_", [])]
    return _on_test(forecast, fold, key, fitted.state(), history)


def _score_fold(
    rows: ModelRows,
    names: tuple[str, ...],
    fold: Fold,
    key: str,
    fitted: ModelState,
    history: list[dict[str, Any]],
) -> FitResult:
    """Score a fold's test decisions by a model that was fitted before."""
    stop = fold.test.stop
    features = rows.dataset.features_of(names, slice(0, rows.until(stop)))
    forecast = _score(fitted_model(fitted), rows, features, stop)
    return _on_test(forecast, fold, key, fitted, history)


def _on_test(
    forecast: Forecast, fold: Fold, key: str, fitted: Fitted, history: list[dict[str, Any]]
) -> FitResult:
    weights, safety = (
        None if x is None else x[fold.test] for x in (forecast.weights, forecast.safety)
    )
    scores = np.asarray(forecast.scores[fold.test])
    return FitResult(scores, history, fitted, key, weights, safety, forecast.memory)


def fold_text(number: int, folds: Sequence[Fold]) -> str:
    """Name of a fold in messages."""
    return f"fold {number + 1} of {len(folds)}"


def _ignore_progress(*_: Any) -> None:
    """Ignore the steps of a fit."""


def _by_model(models: Sequence[str], done: list[Any]) -> dict[str, list[Any]]:
    """Split a list over models and folds by model."""
    size = len(done) // len(models)
    return {model: done[i * size : (i + 1) * size] for i, model in enumerate(models)}


def _named(
    error: ConvergenceError, fit: str, names: tuple[str, ...], assets: tuple[str, ...]
) -> ConvergenceError:
    """The error of a fit, with the names of factor and stock."""
    factor = "" if error.factor is None else f", factor {names[error.factor]}"
    stock = "" if error.asset is None else f", stock {assets[error.asset]}"
    return ConvergenceError(
        f"{fit}{factor}{stock}: {error}", factor=error.factor, asset=error.asset
    )


def _flat(entry: dict[str, Any]) -> dict[str, Any]:
    """One row of a training history, with a column for each number of each limit."""
    flat = {name: value for name, value in entry.items() if name != "limits"}
    for limit, record in entry.get("limits", {}).items():
        flat |= {f"{limit}_{what}": record[what] for what in ("value", "violation", "multiplier")}
    return flat


def _collect(model: str, plan: Plan, dataset: Dataset, fits: list[FitResult]) -> ModelResult:
    """Join the folds of a model, and measure its scores against forward returns."""
    shape, forward = dataset.eligible.shape, dataset.forward
    scores = np.full(shape, np.nan, dtype=np.float32)
    weights = safety = None
    if fits[0].weights is not None:
        weights, safety = np.full(shape, np.nan), np.full((shape[0], len(LIMITED)), np.nan)
    for fold, fit in zip(plan.folds, fits, strict=True):
        scores[fold.test] = fit.scores
        if weights is not None and safety is not None:
            weights[fold.test] = fit.weights
            safety[fold.test] = fit.safety
    return ModelResult(
        name=model,
        label=plan.labels[model],
        scores=scores,
        ic=np.stack([ic(scores, forward[..., h]) for h in range(forward.shape[-1])], axis=-1),
        rank_ic=rank_ic(scores, forward),
        decay=np.full((len(scores), len(DECAY)), np.nan),
        history=[{"fold": k, **entry} for k, fit in enumerate(fits) for entry in fit.history],
        fitted=tuple(fit.fitted for fit in fits),
        keys=tuple(fit.key for fit in fits),
        weights=weights,
        safety=safety,
        limits=_limits_table(fits) if weights is not None else None,
        compositions=_compositions_table(fits) if weights is not None else None,
        memory=_whole_memory(fits[-1], ModelRows.of(dataset, model, plan.config).dataset),
    )


def _whole_memory(fit: FitResult, dataset: Dataset) -> Memory | None:
    """The memory of a fit, with that of a stock that was not there: one listed later has it."""
    if fit.memory is None:
        return None
    model: Any = fitted_model(fit.fitted)
    rows = slice(0, fit.memory.row)
    absent = model.predict_from(
        None,
        np.zeros((fit.memory.row, 1, model.n_factors_in_), dtype=np.float32),
        mask=np.zeros((fit.memory.row, 1), dtype=bool),
        market=dataset.market[rows],
        volatility=np.full((fit.memory.row, 1), np.nan),
    )
    return fit.memory.beside(absent.memory)


def _limits_table(fits: list[FitResult]) -> pd.DataFrame:
    """Each limit in each fold: allowed, trained, promised out of fold, and its safety factor."""
    return pd.DataFrame(
        {"fold": number, "limit_name": name, **record}
        for number, fit in enumerate(fits, start=1)
        for name, record in fitted_model(fit.fitted).limits_.items()
    )


def _compositions_table(fits: list[FitResult]) -> pd.DataFrame:
    """Temperature and pace of the composition in each fold, with those that were tried."""
    columns = ["fold", "temperature", "smoothing", "merit", "chosen"]
    rows = []
    for number, fit in enumerate(fits, start=1):
        model = fitted_model(fit.fitted)
        taken = (model.temperature_, model.smoothing_)
        rows += [
            {"fold": number, **own, "chosen": (own["temperature"], own["smoothing"]) == taken}
            for own in model.compositions_
        ]
    return pd.DataFrame(rows, columns=columns)


def _with_decay(models: dict[str, ModelResult], dataset: Dataset) -> dict[str, ModelResult]:
    """The results, with the Rank IC of every model's scores at each horizon of `DECAY`."""
    by_model = {name: np.empty_like(result.decay) for name, result in models.items()}
    for h, horizon in enumerate(DECAY):
        forward = dataset.forward_of(horizon)
        for name, result in models.items():
            by_model[name][:, h] = rank_ic(result.scores, forward)
    return {name: replace(result, decay=by_model[name]) for name, result in models.items()}


def explain_models(
    models: Mapping[str, ModelResult], dataset: Dataset, screens: Sequence[Screens], plan: Plan
) -> dict[str, ModelResult]:
    """The results, with the drivers of the scores of every fold of those that are fitted."""
    explained = run_in_threads(
        [
            partial(_explain_fit, dataset, screens, plan, result, number)
            for result in (models[name] for name in plan.fitted)
            for number in range(len(plan.folds))
        ],
        plan.config.jobs,
    )
    drivers = _by_model(plan.fitted, explained)
    return {
        name: replace(result, drivers=tuple(drivers.get(name, ())))
        for name, result in models.items()
    }


def _explain_fit(
    dataset: Dataset, screens: Sequence[Screens], plan: Plan, result: ModelResult, number: int
) -> Drivers:
    """Drivers of the scores on a fold's test decisions; nothing is decided by them."""
    from alphakeel.models.importance import find_drivers

    test, names = plan.folds[number].test, screens[number].names(result.name)
    own = ModelRows.of(dataset, result.name, plan.config)
    read, rows = own.dataset, own.span(slice(max(0, test.start - _MEMORY), test.stop))
    stocks = np.flatnonzero(read.eligible[rows].any(axis=0))  # the shuffles draw for these
    return find_drivers(
        fitted_model(result.fitted[number]),
        read.features[rows][:, stocks][:, :, read.columns(names)],
        read.forward[rows][:, stocks],
        names=names,
        rng=np.random.default_rng([plan.config.seed, number]),
        rows=own.at(test, rows.start),
        mask=read.eligible[rows][:, stocks],
        market=read.market[rows],
        lags=LAGS * own.step,
    )


def add_members(
    models: Mapping[str, ModelResult], dataset: Dataset, screens: Sequence[Screens], plan: Plan
) -> dict[str, ModelResult]:
    """The results, with the scores of each network of an ensemble by itself.

    A model that allocates by itself has none: its members have no portfolio of scores. Of the
    combined model they are the combinations of one network of each ensemble.
    """
    found = {
        name: replace(result, members=_members(result, dataset, screens, plan))
        if result.weights is None
        else result
        for name, result in models.items()
        if result.fitted
    }
    if COMBINED in models:
        own = combine_networks(found, dataset, plan.folds, plan.config)
        found[COMBINED] = replace(models[COMBINED], members=own)
    return found


def _members(
    result: ModelResult, dataset: Dataset, screens: Sequence[Screens], plan: Plan
) -> npt.NDArray[np.float32] | None:
    """Scores of each network of an ensemble; None for another model."""
    members = None
    for fold, screen, fitted in zip(plan.folds, screens, result.fitted, strict=True):
        forecaster = fitted_model(fitted)
        if not isinstance(forecaster, EnsembleForecaster):
            return None
        rows = ModelRows.of(dataset, result.name, plan.config)
        read, until = rows.dataset, slice(0, rows.until(fold.test.stop))
        own = forecaster.predict_members(
            read.features_of(screen.names(result.name), until),
            mask=read.eligible[until],
            market=read.market[until],
        )
        if members is None:
            members = np.full((len(own), *dataset.eligible.shape), np.nan, dtype=np.float32)
        members[:, fold.test] = own[:, rows.at(fold.test)]
    return members


def forecast_volatility(
    dataset: Dataset, plan: Plan, networks: Sequence[Any | None] = ()
) -> Floats:
    """Annual volatility for the allocation, (n_decisions, n_assets), by the fit of each fold.

    `networks` are those of `fit_risk_networks`; one that is missing is fitted.
    """
    if plan.config.allocation.volatility == "ewma":
        return dataset.volatility
    out = dataset.volatility.copy()
    for number, fold in enumerate(plan.folds):
        known = networks[number] if number < len(networks) else None
        model = _risk_network(dataset, fold.train, plan.config) if known is None else known
        out[fold.test] = _volatility_by(model, dataset, fold.test)
    return out


def fit_risk_networks(dataset: Dataset, plan: Plan) -> tuple[Any, ...]:
    """The fitted risk network of each fold; none where the settings ask for none."""
    if plan.config.allocation.volatility == "ewma":
        return ()
    return tuple(_risk_network(dataset, fold.train, plan.config) for fold in plan.folds)


def volatility_of_block(dataset: Dataset, train: Rows, block: slice, config: StudyConfig) -> Floats:
    """Annual volatility for the allocation of a block, (n_block, n_assets).

    The risk network is fitted on the training decisions, and reads no day after the last of them.
    """
    if config.allocation.volatility == "ewma":
        return dataset.volatility[block]
    return _volatility_by(_risk_network(dataset, train, config), dataset, block)


def _risk_network(dataset: Dataset, train: Rows, config: StudyConfig) -> Any:
    """A risk network, fitted on the training decisions; it reads no day after the last of them."""
    from alphakeel.models.risk_network import RiskForecaster

    days = dataset.decisions[train]
    stocks = np.flatnonzero(dataset.sample[: days[-1] + 1].any(axis=0))  # as in `_fit`
    model = RiskForecaster(
        horizon=RISK_HORIZON,
        max_steps=2 * config.network.max_steps,
        seed=config.seed,
        device=config.network.device,
    )
    return model.fit(
        dataset.returns[:, stocks],
        decisions=days,
        mask=dataset.eligible[train][:, stocks],
        market=dataset.market[train],
        universe=dataset.sample[:, stocks],
    )


def _volatility_by(model: Any, dataset: Dataset, block: slice) -> Floats:
    """What a fitted risk network forecasts for the decisions of a block, (n_block, n_assets)."""
    until = slice(0, block.stop)
    forecast = model.predict(
        dataset.returns,
        decisions=dataset.decisions[until],
        mask=dataset.eligible[until],
        market=dataset.market[until],
        universe=dataset.sample,
    )
    return np.asarray(forecast.volatility[block])
