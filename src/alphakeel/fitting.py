"""The fits of a study: models on folds' training rows, their scores, and what drove them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.config import StudyConfig
from alphakeel.data.cleaning import CleanResult
from alphakeel.errors import ConvergenceError
from alphakeel.factors.targets import forward_returns
from alphakeel.models.allocating import AllocatingForecaster
from alphakeel.models.base import Forecaster
from alphakeel.models.explain import Drivers, find_drivers
from alphakeel.models.restore import restore
from alphakeel.models.risk import RiskForecaster
from alphakeel.models.sequence import SequenceForecaster
from alphakeel.preparation import Inputs, Screens, simple_returns
from alphakeel.progress import Task, Tracker
from alphakeel.results import ModelResult
from alphakeel.resume import FitResult, KeptFits
from alphakeel.roster import LABELS, make_forecaster, work_of
from alphakeel.stats.crosssection import ic, rank_ic
from alphakeel.stats.folds import Fold

__all__ = [
    "DECAY",
    "collect",
    "explain_all",
    "fit_all",
    "fit_and_score",
    "fold_text",
    "forecast_volatility",
    "measure_decay",
    "member_scores",
]

Floats = npt.NDArray[np.float64]

# Days ahead at which it is measured how long scores go on ranking stocks.
DECAY = (1, 2, 5, 10, 20, 40, 60)

# Decisions before a fold's test rows from which an explanation warms up the memory of a network.
_MEMORY = 52


def fit_all(
    inputs: Inputs,
    folds: tuple[Fold, ...],
    screens: Sequence[Screens],
    models: tuple[str, ...],
    config: StudyConfig,
    *,
    assets: tuple[str, ...],
    tracker: Tracker,
    kept: KeptFits,
    resumed: bool,
) -> dict[str, list[FitResult]]:
    """Every model on every fold, those that were kept apart: by model, in the order of folds."""
    pairs = [(model, number) for model in models for number in range(len(folds))]
    found = {pair: kept.find(*pair) for pair in pairs}
    if resumed:
        finished = sum(fit is not None for fit in found.values())
        with tracker.task("resuming", 0.0, f"{finished} of {len(pairs)} fits done"):
            pass

    def fit(model: str, number: int) -> FitResult:
        text = f"{LABELS[model]}, {fold_text(number, folds)}"
        with tracker.task("fitting", work_of(model, config), text) as task:
            done = found[model, number]
            if done is None:
                names = screens[number].names(model)
                try:
                    done = fit_and_score(
                        inputs, folds[number], names, model, config, task, number, kept
                    )
                except ConvergenceError as error:
                    raise _named(error, text, names, assets) from error
                kept.keep(model, number, done)
            return done

    parallel = joblib.Parallel(n_jobs=config.jobs, prefer="threads")
    return _by_model(models, parallel(joblib.delayed(fit)(*pair) for pair in pairs))


def fold_text(number: int, folds: Sequence[Fold]) -> str:
    """What a reader calls a fold."""
    return f"fold {number + 1} of {len(folds)}"


def _by_model(models: Sequence[str], done: list[Any]) -> dict[str, list[Any]]:
    """What was computed model by model and fold by fold, apart again.

    Examples
    --------
    >>> _by_model(("linear", "lstm"), [1, 2, 3, 4])
    {'linear': [1, 2], 'lstm': [3, 4]}
    """
    size = len(done) // len(models)
    return {model: done[i * size : (i + 1) * size] for i, model in enumerate(models)}


def fit_and_score(
    inputs: Inputs,
    fold: Fold,
    names: tuple[str, ...],
    model: str,
    config: StudyConfig,
    task: Task,
    number: int,
    kept: KeptFits,
) -> FitResult:
    """Fit one model on a fold's training rows and score its test rows."""
    forecaster = _forecaster(model, config, task)
    kept.attach(forecaster, model, number)
    keep = [inputs.names.index(name) for name in names]
    features = np.ascontiguousarray(inputs.features[: fold.test.stop, :, keep])
    train, until = fold.train, slice(0, fold.test.stop)
    learnt = {"mask": inputs.sample[train], "market": inputs.market[train]}
    known = {"mask": inputs.sample[until], "market": inputs.market[until]}
    if isinstance(forecaster, AllocatingForecaster):
        paths, volatility = inputs.paths[train], inputs.volatility
        forecaster.fit(
            features[train],
            inputs.targets[train],
            returns=paths,
            volatility=volatility[train],
            **learnt,
        )
        weights = forecaster.predict_weights(features, volatility=volatility[until], **known)
        weights = weights[fold.test]
    else:
        forecaster.fit(features[train], inputs.targets[train], **learnt)
        weights = None
    # The state of a sequence model runs on from the first row, so that it enters the test warm.
    scores = np.asarray(forecaster.predict(features, **known)[fold.test])
    history = [{"fold": number, **_flat(entry)} for entry in getattr(forecaster, "history_", [])]
    return FitResult(scores, history, forecaster.state(), weights)


def _named(
    error: ConvergenceError, fit: str, names: tuple[str, ...], assets: tuple[str, ...]
) -> ConvergenceError:
    """The error of a fit with the names of the columns at fault."""
    factor = "" if error.factor is None else f", factor {names[error.factor]}"
    stock = "" if error.asset is None else f", stock {assets[error.asset]}"
    return ConvergenceError(
        f"{fit}{factor}{stock}: {error}", factor=error.factor, asset=error.asset
    )


def _flat(entry: dict[str, Any]) -> dict[str, Any]:
    """One row of a training's history, the records of its limits in columns of their own."""
    flat = {name: value for name, value in entry.items() if name != "limits"}
    for limit, record in entry.get("limits", {}).items():
        flat |= {f"{limit}_{what}": record[what] for what in ("value", "violation", "multiplier")}
    return flat


def limits_table(fits: list[FitResult]) -> pd.DataFrame:
    """Each limit in each fold, as trained: before and after exposure was calibrated."""
    rows = []
    for number, fit in enumerate(fits):
        model = restore(fit.fitted)
        for name, record in model.limits_.items():
            rows.append({"fold": number + 1, "limit_name": name, **record})
    return pd.DataFrame(rows)


def explain_all(
    inputs: Inputs,
    folds: tuple[Fold, ...],
    screens: Sequence[Screens],
    fits: Mapping[str, list[FitResult]],
    config: StudyConfig,
) -> dict[str, list[Drivers]]:
    """Which factors drove the scores of every fit: by model, in the order of folds."""
    parallel = joblib.Parallel(n_jobs=config.jobs, prefer="threads")
    explained = parallel(
        joblib.delayed(_explain_fit)(
            inputs, folds[number], screens[number].names(model), fit, config.seed, number
        )
        for model, own in fits.items()
        for number, fit in enumerate(own)
    )
    return _by_model(tuple(fits), explained)


def _explain_fit(
    inputs: Inputs, fold: Fold, names: tuple[str, ...], fit: FitResult, seed: int, number: int
) -> Drivers:
    """Which factors drove the scores of a fold's test rows; nothing is decided by it."""
    first = max(0, fold.test.start - _MEMORY)
    rows = slice(first, fold.test.stop)
    keep = [inputs.names.index(name) for name in names]
    return find_drivers(
        restore(fit.fitted),
        inputs.features[rows][:, :, keep],
        inputs.forward[rows],
        names=names,
        rng=np.random.default_rng([seed, number]),
        rows=slice(fold.test.start - first, None),
        mask=inputs.sample[rows],
        market=inputs.market[rows],
    )


def _forecaster(model: str, config: StudyConfig, task: Task) -> Forecaster:
    seeds = config.network.n_seeds

    def on_progress(seed: int, step: int, total_steps: int, loss: float) -> None:
        share = (seed * total_steps + step) / (seeds * total_steps)
        task.at(share, f"seed {seed + 1}, step {step}, loss {loss:.3f}")

    return make_forecaster(model, config, on_progress)


def collect(
    model: str,
    inputs: Inputs,
    folds: tuple[Fold, ...],
    fits: list[FitResult],
) -> ModelResult:
    """Join a model's folds and measure its scores against what came after."""
    scores = np.full(inputs.sample.shape, np.nan, dtype=np.float32)
    weights = np.full(inputs.sample.shape, np.nan) if fits[0].weights is not None else None
    for fold, fit in zip(folds, fits, strict=True):
        scores[fold.test] = fit.scores
        if weights is not None and fit.weights is not None:
            weights[fold.test] = fit.weights
    return ModelResult(
        name=model,
        label=LABELS[model],
        scores=scores,
        ic=np.stack(
            [ic(scores, inputs.forward[..., h]) for h in range(inputs.forward.shape[-1])], axis=-1
        ),
        rank_ic=rank_ic(scores, inputs.forward),
        history=[entry for fit in fits for entry in fit.history],
        fitted=tuple(fit.fitted for fit in fits),
        weights=weights,
        limits=limits_table(fits) if weights is not None else None,
    )


def forecast_volatility(
    cleaning: CleanResult,
    inputs: Inputs,
    folds: tuple[Fold, ...],
    rows: npt.NDArray[np.intp],
    config: StudyConfig,
) -> Floats:
    """Volatility forecasts that inverse-volatility weights go by, (n_decisions, n_assets)."""
    if config.allocation.volatility == "ewma":
        return inputs.volatility
    returns = simple_returns(cleaning.panel["accounting_close"])
    out = inputs.volatility.copy()
    for fold in folds:
        model = RiskForecaster(
            max_steps=2 * config.network.max_steps, seed=config.seed, device=config.network.device
        )
        train, until = fold.train, slice(0, fold.test.stop)
        # Fitting reads no day after its last decision row, so that it needs no purge.
        model.fit(returns, rows=rows[train], mask=inputs.sample[train], market=inputs.market[train])
        forecast = model.predict(
            returns, rows=rows[until], mask=inputs.sample[until], market=inputs.market[until]
        )
        out[fold.test] = forecast.volatility[fold.test]
    return out


def member_scores(
    inputs: Inputs,
    folds: tuple[Fold, ...],
    screens: Sequence[Screens],
    fits: Mapping[str, list[FitResult]],
) -> dict[str, npt.NDArray[np.float32]]:
    """Scores of each network of an ensemble by itself, (n_seeds, n_decisions, n_assets).

    By the model's label, NaN before the test; of models that are an ensemble of networks, and
    leave the weights to others.
    """
    found = {}
    for model, own in fits.items():
        if own[0].weights is None:
            scores = _members(inputs, folds, screens, model, own)
            if scores is not None:
                found[LABELS[model]] = scores
    return found


def _members(
    inputs: Inputs,
    folds: tuple[Fold, ...],
    screens: Sequence[Screens],
    model: str,
    fits: list[FitResult],
) -> npt.NDArray[np.float32] | None:
    """Scores of each network of one ensemble; None for a model that is none."""
    members = None
    for fold, screen, fit in zip(folds, screens, fits, strict=True):
        forecaster = restore(fit.fitted)
        if not isinstance(forecaster, SequenceForecaster):
            return None
        keep = [inputs.names.index(name) for name in screen.names(model)]
        until = slice(0, fold.test.stop)
        features = np.ascontiguousarray(inputs.features[until][:, :, keep])
        own = forecaster.predict_members(
            features, mask=inputs.sample[until], market=inputs.market[until]
        )
        if members is None:
            members = np.full((len(own), *inputs.sample.shape), np.nan, dtype=np.float32)
        members[:, fold.test] = own[:, fold.test]
    return members


def measure_decay(
    models: dict[str, ModelResult], price: Floats, rows: npt.NDArray[np.intp], lag: int
) -> dict[str, npt.NDArray[np.floating[Any]]]:
    """Rank IC of every model's scores at each horizon of `DECAY`, (n_decisions, n_horizons)."""
    found: dict[str, npt.NDArray[np.floating[Any]]] = {
        result.label: np.empty((len(rows), len(DECAY))) for result in models.values()
    }
    # A holder of a delisted stock is paid its last price, so that is what a label ends with.
    last = pd.DataFrame(price).ffill().to_numpy()
    for h, horizon in enumerate(DECAY):
        forward = forward_returns(last, lag=lag, horizon=horizon)[rows]
        for result in models.values():
            found[result.label][:, h] = rank_ic(result.scores, forward)
    return found
