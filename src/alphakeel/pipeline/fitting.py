"""The fits of a study: models on the training decisions of folds, their scores and drivers.

A killed study resumes: every finished fit is a checkpoint under a fingerprint of data, settings and
versions, so that none is shared with a study that differs in anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.config import StudyConfig
from alphakeel.errors import ConvergenceError
from alphakeel.factors.targets import forward_returns
from alphakeel.model_factory import LABELS, make_forecaster, work_of
from alphakeel.models.base import Forecaster
from alphakeel.models.constrained import ConstrainedForecaster
from alphakeel.models.importance import Drivers, find_drivers
from alphakeel.models.persistence import (
    ModelState,
    Prefixed,
    Slot,
    Store,
    fingerprint,
    pack,
    unpack,
)
from alphakeel.models.restore import restore
from alphakeel.models.risk_network import RiskForecaster
from alphakeel.models.sequence import SequenceForecaster
from alphakeel.pipeline.dataset import Dataset
from alphakeel.pipeline.plan import Plan
from alphakeel.pipeline.screening import Screens
from alphakeel.progress import Task, Tracker
from alphakeel.stats.cross_section import ic, rank_ic
from alphakeel.stats.exposure_rules import LIMITED
from alphakeel.stats.splits import Fold

__all__ = [
    "DECAY",
    "RISK_HORIZON",
    "Checkpoints",
    "FitCache",
    "FitResult",
    "Forecast",
    "ModelResult",
    "add_members",
    "explain_models",
    "fit_and_score",
    "fit_models",
    "fold_text",
    "forecast_volatility",
    "study_key",
    "volatility_of_block",
]

Floats = npt.NDArray[np.floating[Any]]
Rows = slice | npt.NDArray[np.intp]
Listener = Callable[[int, int, int, float], object]

# Horizons in days of the decay of Rank IC.
DECAY = (1, 2, 5, 10, 20, 40, 60)

# Days ahead that the risk network forecasts.
RISK_HORIZON = 20

# Decisions before a fold's test rows from which an explanation warms up the memory of a network.
_MEMORY = 52


@dataclass(frozen=True, eq=False)
class Forecast:
    """Scores of a fitted model, and its target weights if it allocates by itself.

    Attributes
    ----------
    scores : ndarray of shape (n_decisions, n_assets)
        NaN where none can be made.
    weights : ndarray of shape (n_decisions, n_assets) or None
        Composition of a model that allocates by itself, fully invested.
    safety : ndarray of shape (n_decisions, 4) or None
        Its safety factors, in the order of `stats.exposure_rules.LIMITED`.
    forecaster : Forecaster or None
        None for the mean of several.
    """

    scores: Floats
    weights: Floats | None
    safety: Floats | None = None
    forecaster: Forecaster | None = None


@dataclass(frozen=True, eq=False)
class FitResult:
    """One model, fitted on one fold.

    Attributes
    ----------
    scores : ndarray of shape (n_test, n_assets)
        On the fold's test decisions.
    history : list of dict
        One entry per validation of a network.
    fitted : ModelState
        The model itself.
    weights : ndarray of shape (n_test, n_assets), optional
        Composition on the test decisions, of a model that allocates by itself.
    """

    scores: Floats
    history: list[dict[str, Any]]
    fitted: ModelState
    weights: Floats | None = None


@dataclass(frozen=True, eq=False)
class ModelResult:
    """Out-of-sample scores of one model, and their evaluation.

    Attributes
    ----------
    name, label : str
        ``"lstm"``, and its name in tables.
    scores : ndarray of shape (n_decisions, n_assets)
        NaN before the first test date and where no score was made.
    ic, rank_ic : ndarray of shape (n_decisions, n_horizons)
        Cross-sectional correlation of scores with forward log returns; NaN outside the test.
    decay : ndarray of shape (n_decisions, len(DECAY))
        Rank IC with the returns of each of `DECAY` days.
    history : list of dict
        For networks, one entry per validation: fold, seed, step, losses, validation Rank IC.
    fitted : tuple of ModelState
        The fitted model of each fold, for `alphakeel.models.restore`.
    drivers : tuple of Drivers
        Of the scores of each fold's test decisions.
    weights : ndarray of shape (n_decisions, n_assets), optional
        Composition of a model that allocates by itself, fully invested; NaN before the test. How
        much of it is held depends on the wealth of its own path (`strategies.hold_under_limits`).
    safety : ndarray of shape (n_decisions, 4), optional
        Safety factors of its limits, in the order of `stats.exposure_rules.LIMITED`.
    limits : DataFrame, optional
        Each limit in each fold: limit, trained (on the path of the fit), promised (out of fold),
        safety (factor on the forecast of its risk).
    members : ndarray of shape (n_seeds, n_decisions, n_assets), optional
        Scores of each network of an ensemble by itself, with `report.sensitivity`.
    """

    name: str
    label: str
    scores: Floats
    ic: Floats
    rank_ic: Floats
    decay: Floats
    history: list[dict[str, Any]]
    fitted: tuple[ModelState, ...] = ()
    drivers: tuple[Drivers, ...] = ()
    weights: Floats | None = None
    safety: Floats | None = None
    limits: pd.DataFrame | None = None
    members: Floats | None = None


def study_key(data_hash: str, settings: dict[str, Any], versions: dict[str, str]) -> str:
    """Sixteen characters that stand for data, settings (but `jobs`) and versions.

    Examples
    --------
    >>> study_key("d", {"seed": 0, "jobs": 1}, {}) == study_key("d", {"seed": 0, "jobs": 2}, {})
    True
    """
    deciding = {name: value for name, value in settings.items() if name != "jobs"}
    return fingerprint(data_hash, deciding, versions)[:16]


class Checkpoints:
    """Checkpoints of one computation, under a `study_key`; without a store there are none."""

    def __init__(self, store: Store | None, key: str) -> None:
        self._store = None if store is None else Prefixed(store, key)
        self._key = key

    def begin(self) -> bool:
        """Mark the computation as begun; True if it was before."""
        before = self.find("begun") is not None
        self.keep("begun", {})
        return before

    def find(self, name: str) -> dict[str, Any] | None:
        """The checkpoint under a name, or None."""
        return None if self._store is None else Slot(self._store, name, self._key).get()

    def keep(self, name: str, tree: dict[str, Any]) -> None:
        """Write arrays and plain values under a name."""
        if self._store is not None:
            Slot(self._store, name, self._key).put(tree)


class FitCache(Checkpoints):
    """Checkpoints of the finished fits of a study, and of those in progress."""

    def find_fit(self, model: str, fold: int) -> FitResult | None:
        """The finished fit of a model on a fold, or None."""
        tree = self.find(f"{model}-{fold}/fitted")
        if tree is None:
            return None
        weights = tree["weights"] if tree["allocates"] else None
        return FitResult(tree["scores"], tree["history"], pack(tree["fitted"]), weights)

    def keep_fit(self, model: str, fold: int, result: FitResult) -> None:
        """Write a finished fit."""
        tree = {
            "scores": result.scores,
            "history": result.history,
            "fitted": unpack(result.fitted),
            "allocates": result.weights is not None,
            "weights": np.empty(0) if result.weights is None else result.weights,
        }
        self.keep(f"{model}-{fold}/fitted", tree)

    def attach(self, forecaster: Forecaster, model: str, fold: int) -> None:
        """Give a forecaster that trains step by step a store for its progress."""
        if self._store is not None and hasattr(forecaster, "store"):
            forecaster.store = Prefixed(self._store, f"{model}-{fold}")


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
) -> Forecast:
    """Fit a model on some decisions, and score every decision before `until`.

    The state of a sequence model runs on from the first decision, so that it enters the test
    warm. Training decisions on both sides of a block are joined: the state crosses one seam in
    training, and no gap in prediction.

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

    Raises
    ------
    ConvergenceError
        If a loss is not finite, with the numbers of factor and stock at fault.
    """
    forecaster = make_forecaster(model, config, on_progress or _ignore_progress)
    if prepare is not None:
        prepare(forecaster)
    last = train.stop if isinstance(train, slice) else int(train[-1]) + 1
    features = dataset.features[: max(last, until), :, dataset.columns(names)]
    features = np.ascontiguousarray(features)
    known = {"mask": dataset.eligible[:until], "market": dataset.market[:until]}
    _fit(forecaster, dataset, features[train], train)
    weights = safety = None
    if isinstance(forecaster, ConstrainedForecaster):
        weights = forecaster.predict_weights(
            features[:until], volatility=dataset.volatility[:until], **known
        )
        safety = _factor_rows(forecaster, until)
    return Forecast(forecaster.predict(features[:until], **known), weights, safety, forecaster)


def _factor_rows(forecaster: ConstrainedForecaster, n_rows: int) -> Floats:
    """A fit's safety factors on so many decisions, in the order of `LIMITED`; 1 without a limit."""
    factors = [forecaster.safety_factors_.get(name, 1.0) for name in LIMITED]
    return np.tile(np.asarray(factors, dtype=np.float64), (n_rows, 1))


def _fit(forecaster: Forecaster, dataset: Dataset, features: Floats, train: Rows) -> None:
    """Fit on the stocks that are eligible on some training decision.

    The others would teach nothing, and yet move random draws and last bits: a stock that is listed
    later must not.
    """
    stocks = np.flatnonzero(dataset.eligible[train].any(axis=0))
    own = {"mask": dataset.eligible[train][:, stocks], "market": dataset.market[train]}
    if isinstance(forecaster, ConstrainedForecaster):
        own["returns"] = dataset.holding_returns(train)[..., stocks]
        own["volatility"] = dataset.volatility[train][:, stocks]
        own["days"] = dataset.decisions[train]
        own["daily"] = dataset.returns[: int(own["days"][-1]) + 1, stocks]
    try:
        forecaster.fit(features[:, stocks], dataset.targets[train][:, stocks], **own)
    except ConvergenceError as error:
        stock = None if error.asset is None else int(stocks[error.asset])
        raise ConvergenceError(str(error), factor=error.factor, asset=stock) from error


def fit_models(
    dataset: Dataset,
    screens: Sequence[Screens],
    plan: Plan,
    *,
    tracker: Tracker,
    cache: FitCache,
    resumed: bool,
) -> dict[str, ModelResult]:
    """Fit every model on every fold without a checkpoint, and measure the joined scores."""
    folds = plan.folds
    pairs = [(model, number) for model in plan.models for number in range(len(folds))]
    known = {pair: cache.find_fit(*pair) for pair in pairs}
    if resumed:
        finished = sum(fit is not None for fit in known.values())
        with tracker.task("resuming", 0.0, f"{finished} of {len(pairs)} fits done"):
            pass

    def fit(model: str, number: int) -> FitResult:
        text = f"{LABELS[model]}, {fold_text(number, folds)}"
        with tracker.task("fitting", work_of(model, plan.config), text) as task:
            done = known[model, number]
            if done is None:
                names = screens[number].names(model)
                try:
                    done = _fit_fold(dataset, names, model, number, plan, task, cache)
                except ConvergenceError as error:
                    raise _named(error, text, names, plan.assets) from error
                cache.keep_fit(model, number, done)
            return done

    parallel = joblib.Parallel(n_jobs=plan.config.jobs, prefer="threads")
    fits = _by_model(plan.models, parallel(joblib.delayed(fit)(*pair) for pair in pairs))
    results = {name: _collect(name, dataset, folds, own) for name, own in fits.items()}
    return _with_decay(results, dataset)


def _fit_fold(
    dataset: Dataset,
    names: tuple[str, ...],
    model: str,
    number: int,
    plan: Plan,
    task: Task,
    cache: FitCache,
) -> FitResult:
    """Fit one model on the training decisions of a fold, and score its test decisions."""
    fold, seeds = plan.folds[number], plan.config.network.n_seeds

    def on_progress(seed: int, step: int, total_steps: int, loss: float) -> None:
        share = (seed * total_steps + step) / (seeds * total_steps)
        task.at(share, f"seed {seed + 1}, step {step}, loss {loss:.3f}")

    forecast = fit_and_score(
        dataset,
        fold.train,
        fold.test.stop,
        names,
        model,
        plan.config,
        on_progress=on_progress,
        prepare=lambda forecaster: cache.attach(forecaster, model, number),
    )
    fitted = forecast.forecaster
    assert fitted is not None  # noqa: S101  (fit_and_score gives the model that it fitted)
    history = [{"fold": number, **_flat(entry)} for entry in getattr(fitted, "history_", [])]
    weights = None if forecast.weights is None else forecast.weights[fold.test]
    return FitResult(np.asarray(forecast.scores[fold.test]), history, fitted.state(), weights)


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


def _collect(
    model: str, dataset: Dataset, folds: tuple[Fold, ...], fits: list[FitResult]
) -> ModelResult:
    """Join the folds of a model, and measure its scores against forward returns."""
    shape, forward = dataset.eligible.shape, dataset.forward
    scores = np.full(shape, np.nan, dtype=np.float32)
    weights = safety = None
    if fits[0].weights is not None:
        weights, safety = np.full(shape, np.nan), np.full((shape[0], len(LIMITED)), np.nan)
    for fold, fit in zip(folds, fits, strict=True):
        scores[fold.test] = fit.scores
        if weights is not None and safety is not None:
            weights[fold.test] = fit.weights
            safety[fold.test] = _factor_rows(restore(fit.fitted), len(fit.scores))
    return ModelResult(
        name=model,
        label=LABELS[model],
        scores=scores,
        ic=np.stack([ic(scores, forward[..., h]) for h in range(forward.shape[-1])], axis=-1),
        rank_ic=rank_ic(scores, forward),
        decay=np.full((len(scores), len(DECAY)), np.nan),
        history=[entry for fit in fits for entry in fit.history],
        fitted=tuple(fit.fitted for fit in fits),
        weights=weights,
        safety=safety,
        limits=_limits_table(fits) if weights is not None else None,
    )


def _limits_table(fits: list[FitResult]) -> pd.DataFrame:
    """Each limit in each fold: allowed, trained, promised out of fold, and its safety factor."""
    rows = []
    for number, fit in enumerate(fits):
        model = restore(fit.fitted)
        for name, record in model.limits_.items():
            rows.append({"fold": number + 1, "limit_name": name, **record})
    return pd.DataFrame(rows)


def _with_decay(models: dict[str, ModelResult], dataset: Dataset) -> dict[str, ModelResult]:
    """The results, with the Rank IC of every model's scores at each horizon of `DECAY`."""
    by_model = {name: np.empty_like(result.decay) for name, result in models.items()}
    for h, horizon in enumerate(DECAY):
        whole = forward_returns(dataset.last_price, lag=dataset.lag, horizon=horizon)
        forward = whole[dataset.decisions]
        for name, result in models.items():
            by_model[name][:, h] = rank_ic(result.scores, forward)
    return {name: replace(result, decay=by_model[name]) for name, result in models.items()}


def explain_models(
    models: Mapping[str, ModelResult], dataset: Dataset, screens: Sequence[Screens], plan: Plan
) -> dict[str, ModelResult]:
    """The results, with the drivers of the scores of every fold."""
    parallel = joblib.Parallel(n_jobs=plan.config.jobs, prefer="threads")
    explained = parallel(
        joblib.delayed(_explain_fit)(dataset, screens, plan, result, number)
        for result in models.values()
        for number in range(len(plan.folds))
    )
    drivers = _by_model(tuple(models), explained)
    return {n: replace(result, drivers=tuple(drivers[n])) for n, result in models.items()}


def _explain_fit(
    dataset: Dataset, screens: Sequence[Screens], plan: Plan, result: ModelResult, number: int
) -> Drivers:
    """Drivers of the scores on a fold's test decisions; nothing is decided by them."""
    test, names = plan.folds[number].test, screens[number].names(result.name)
    first = max(0, test.start - _MEMORY)
    rows = slice(first, test.stop)
    stocks = np.flatnonzero(dataset.eligible[rows].any(axis=0))  # the shuffles draw for these
    return find_drivers(
        restore(result.fitted[number]),
        dataset.features[rows][:, stocks][:, :, dataset.columns(names)],
        dataset.forward[rows][:, stocks],
        names=names,
        rng=np.random.default_rng([plan.config.seed, number]),
        rows=slice(test.start - first, None),
        mask=dataset.eligible[rows][:, stocks],
        market=dataset.market[rows],
    )


def add_members(
    models: Mapping[str, ModelResult], dataset: Dataset, screens: Sequence[Screens], plan: Plan
) -> dict[str, ModelResult]:
    """The results, with the scores of each network of an ensemble by itself.

    A model that allocates by itself has none: its members have no portfolio of scores.
    """
    return {
        name: replace(result, members=_members(result, dataset, screens, plan))
        if result.weights is None
        else result
        for name, result in models.items()
    }


def _members(
    result: ModelResult, dataset: Dataset, screens: Sequence[Screens], plan: Plan
) -> npt.NDArray[np.float32] | None:
    """Scores of each network of an ensemble; None for another model."""
    members = None
    for fold, screen, fitted in zip(plan.folds, screens, result.fitted, strict=True):
        forecaster = restore(fitted)
        if not isinstance(forecaster, SequenceForecaster):
            return None
        until = slice(0, fold.test.stop)
        columns = dataset.columns(screen.names(result.name))
        features = np.ascontiguousarray(dataset.features[until][:, :, columns])
        own = forecaster.predict_members(
            features, mask=dataset.eligible[until], market=dataset.market[until]
        )
        if members is None:
            members = np.full((len(own), *dataset.eligible.shape), np.nan, dtype=np.float32)
        members[:, fold.test] = own[:, fold.test]
    return members


def forecast_volatility(dataset: Dataset, plan: Plan) -> Floats:
    """Annual volatility for the allocation, (n_decisions, n_assets), by the fit of each fold."""
    if plan.config.allocation.volatility == "ewma":
        return dataset.volatility
    out = dataset.volatility.copy()
    for fold in plan.folds:
        out[fold.test] = volatility_of_block(dataset, fold.train, fold.test, plan.config)
    return out


def volatility_of_block(dataset: Dataset, train: Rows, block: slice, config: StudyConfig) -> Floats:
    """Annual volatility for the allocation of a block, (n_block, n_assets).

    The risk network is fitted on the training decisions, and reads no day after the last of them.
    """
    if config.allocation.volatility == "ewma":
        return dataset.volatility[block]
    days, until = dataset.decisions, slice(0, block.stop)
    last = days[train][-1]
    stocks = np.flatnonzero(dataset.sample[: last + 1].any(axis=0))  # as in `_fit`
    model = RiskForecaster(
        horizon=RISK_HORIZON,
        max_steps=2 * config.network.max_steps,
        seed=config.seed,
        device=config.network.device,
    )
    model.fit(
        dataset.returns[:, stocks],
        decisions=days[train],
        mask=dataset.eligible[train][:, stocks],
        market=dataset.market[train],
        universe=dataset.sample[:, stocks],
    )
    forecast = model.predict(
        dataset.returns,
        decisions=days[until],
        mask=dataset.eligible[until],
        market=dataset.market[until],
        universe=dataset.sample,
    )
    return np.asarray(forecast.volatility[block])
