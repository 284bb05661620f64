"""Settings that each model chooses by itself, so that none loses by one that suits another.

On the training decisions of a fold, and on nothing else, every candidate is fitted on two thirds of
them and scored on the third that is left, three times, purged and with an embargo on both sides.
Chosen is the one with the highest mean Rank IC of these scores with *plain* forward returns over
the longest horizon: the yardstick that all models are compared by, whatever they are trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.config import StudyConfig
from alphakeel.errors import DataError
from alphakeel.model_factory import LABELS, LIMITED, work_of
from alphakeel.models.custom import OwnModel
from alphakeel.models.linear import LinearForecaster
from alphakeel.pipeline.checkpoints import Checkpoints
from alphakeel.pipeline.cross_fits import purged_parts, score_linear
from alphakeel.pipeline.dataset import Dataset
from alphakeel.pipeline.fitting import fit_and_score, fold_text
from alphakeel.pipeline.model_results import Candidate, ChosenSettings, ModelResult
from alphakeel.pipeline.plan import Plan
from alphakeel.pipeline.screening import Screens, screen_factors, screened_names
from alphakeel.progress import Tracker, run_in_threads
from alphakeel.stats.cross_section import rank_ic

__all__ = [
    "AUTO",
    "FitInputs",
    "candidates",
    "choice_table",
    "choose",
    "choose_all",
    "fit_inputs",
    "screen_chosen",
    "units_of",
    "work_of_choices",
]

Floats = npt.NDArray[np.floating[Any]]
Rows = slice | npt.NDArray[np.intp]

AUTO = "auto"
UNITS = ("volatility", "return")
# Strengths of a ridge: from next to none to coefficients in proportion to each factor's own.
ALPHAS = (0.01, 0.1, 1.0, 10.0)
BLOCKS = 3
# Networks are compared after a third of their steps: the ranking of targets shows by then.
STEPS_SHARE = 3


def candidates(model: str, config: StudyConfig) -> tuple[Candidate, ...]:
    """What a model may choose from, the defaults first; one where the settings leave no choice.

    Examples
    --------
    >>> from alphakeel.config import TargetConfig
    >>> [c.unit for c in candidates("lstm", StudyConfig(target=TargetConfig(unit="auto")))]
    ['volatility', 'return']
    """
    units = UNITS if config.target.unit == AUTO else (config.target.unit,)
    if model != "linear" or config.linear.method != AUTO:
        return tuple(Candidate(unit) for unit in units)
    ridges = [("ridge", alpha) for alpha in ALPHAS]
    return tuple(
        Candidate(unit, method, alpha)
        for unit in units
        for method, alpha in (("pooled", None), *ridges)
    )


def units_of(dataset: Dataset, config: StudyConfig) -> dict[str, Dataset]:
    """The data set by the unit of its targets: one, or each that can be chosen."""
    if config.target.unit != AUTO:
        return {config.target.unit: dataset}
    return {unit: dataset.in_unit(unit) for unit in UNITS}


def choose(
    datasets: Mapping[str, Dataset],
    train: Rows,
    model: str,
    config: StudyConfig,
    own: OwnModel | None = None,
) -> ChosenSettings:
    """Choose the settings of one model on the training decisions of a fold.

    Parameters
    ----------
    datasets : mapping of str to Dataset
        As `units_of` gives them.
    train : slice or ndarray of int
        Nothing after the labels of these decisions is read.
    model : str
        Networks are compared by one seed with a third of their steps; one under limits chooses as
        the same network without limits does.
    config : StudyConfig
    own : OwnModel, optional
        The model itself where it is the user's.

    Raises
    ------
    ConfigError
        If there are too few training decisions to choose by.
    """
    trunk = _trunk(model)
    offered = candidates(trunk, config)
    if len(offered) == 1:
        return ChosenSettings(offered, np.array([np.nan]), 0)
    purpose = "choose target.unit or linear.method by"
    parts = purged_parts(next(iter(datasets.values())), train, config, BLOCKS, purpose)
    values = np.empty(len(offered))
    scored: dict[Candidate, list[Floats]] = {candidate: [] for candidate in offered}
    for unit in dict.fromkeys(candidate.unit for candidate in offered):
        alike = [candidate for candidate in offered if candidate.unit == unit]
        for fitted, block in parts:
            names = screened_names(datasets[unit], fitted, trunk, config)
            made = _score(datasets[unit], fitted, block, names, trunk, alike, config, own)
            for candidate, scores in zip(alike, made, strict=True):
                scored[candidate].append(_rank_ics(datasets[unit], scores, block))
    for k, candidate in enumerate(offered):
        daily = np.concatenate(scored[candidate])
        values[k] = daily[np.isfinite(daily)].mean() if np.isfinite(daily).any() else -np.inf
    if not np.isfinite(values).any():
        raise DataError(
            f"{LABELS.get(model, model)}: no candidate setting has a Rank IC on the training "
            "decisions; give more stocks or days, or choose target.unit and linear.method by hand."
        )
    return ChosenSettings(
        offered, np.where(np.isfinite(values), values, np.nan), int(values.argmax())
    )


def _trunk(model: str) -> str:
    """The model whose choice a model takes over: of networks under limits that of their trunk."""
    return model.removesuffix("_limited") if model in LIMITED else model


def _score(
    dataset: Dataset,
    fitted: npt.NDArray[np.intp],
    block: slice,
    names: Sequence[str],
    model: str,
    alike: Sequence[Candidate],
    config: StudyConfig,
    own: OwnModel | None,
) -> list[Floats]:
    """Scores of a block by each candidate of one unit, fitted on other training decisions."""
    if model == "linear":
        linear = [LinearForecaster(**c.applied(config).linear.keywords()) for c in alike]
        return score_linear(linear, dataset, fitted, block, names)
    quick = replace(
        config.network, n_seeds=1, max_steps=max(1, config.network.max_steps // STEPS_SHARE)
    )
    return [
        fit_and_score(
            dataset,
            fitted,
            block.stop,
            names,
            model,
            replace(c.applied(config), network=quick),
            own=own,
        ).scores[block]
        for c in alike
    ]


def _rank_ics(dataset: Dataset, scores: Floats, block: slice) -> Floats:
    """Rank IC with plain forward returns over the longest horizon, decision by decision."""
    longest = dataset.horizons.index(max(dataset.horizons))
    return np.asarray(rank_ic(scores, dataset.forward[block, :, longest]))


def choose_all(
    datasets: Mapping[str, Dataset],
    plan: Plan,
    *,
    tracker: Tracker | None = None,
    cache: Checkpoints | None = None,
) -> list[dict[str, ChosenSettings]]:
    """Choose the settings of every model on every fold: for each fold, by model."""
    config, folds = plan.config, plan.folds
    trunks = tuple(dict.fromkeys(map(_trunk, plan.fitted)))
    tracker, store = tracker or Tracker(None, 1.0), cache or Checkpoints(None, "")

    def one(trunk: str, number: int) -> ChosenSettings:
        offered = candidates(trunk, config)
        own = plan.custom_models.get(trunk)
        if len(offered) == 1:
            return choose(datasets, folds[number].train, trunk, config, own)
        known = store.find(f"choice-{trunk}-{number}")
        text = f"{plan.labels[trunk]}, {fold_text(number, folds)}"
        with tracker.task("choosing settings", _work(trunk, config), text):
            if known is not None:
                return ChosenSettings(offered, known["rank_ics"], int(known["best"]))
            found = choose(datasets, folds[number].train, trunk, config, own)
        store.keep(f"choice-{trunk}-{number}", {"rank_ics": found.rank_ics, "best": found.best})
        return found

    if any(len(candidates(trunk, config)) > 1 for trunk in trunks):
        for dataset in datasets.values():
            _ = dataset.sections  # computed before there are threads that would each compute them
    pairs = [(trunk, number) for number in range(len(folds)) for trunk in trunks]
    done = dict(
        zip(pairs, run_in_threads([partial(one, *p) for p in pairs], config.jobs), strict=True)
    )
    return [
        {model: done[_trunk(model), number] for model in plan.fitted}
        for number in range(len(folds))
    ]


def _work(trunk: str, config: StudyConfig) -> float:
    """Rough work of choosing once, in fits of one network: each candidate, block by block."""
    number = len(candidates(trunk, config))
    seeds = config.network.n_seeds if trunk != "linear" else 1
    return 0.0 if number == 1 else number * BLOCKS / STEPS_SHARE * work_of(trunk, config) / seeds


def work_of_choices(plan: Plan) -> float:
    """Work of all choices of a fold on the progress bar."""
    return sum(_work(trunk, plan.config) for trunk in dict.fromkeys(map(_trunk, plan.fitted)))


def screen_chosen(
    datasets: Mapping[str, Dataset],
    plan: Plan,
    choices: Sequence[Mapping[str, ChosenSettings]],
    task: Any = None,
) -> list[Screens]:
    """The screens of every fold, each model's by the target that it chose."""
    trains = [fold.train for fold in plan.folds]
    by_unit = {
        unit: screen_factors(dataset, trains, plan.config, plan.fitted, task if k == 0 else None)
        for k, (unit, dataset) in enumerate(datasets.items())
    }
    return [
        _joined({unit: screens[number] for unit, screens in by_unit.items()}, own)
        for number, own in enumerate(choices)
    ]


def _joined(by_unit: Mapping[str, Screens], choices: Mapping[str, ChosenSettings]) -> Screens:
    """The screens of one fold: of the linear model, and of each other by its own unit."""
    if len(by_unit) == 1:
        return next(iter(by_unit.values()))
    of_model = {name: by_unit[own.chosen.unit] for name, own in choices.items()}
    networks = {name: own.network for name, own in of_model.items() if name != "linear"}
    linear = of_model["linear"]
    return Screens(linear.linear, next(iter(networks.values()), linear.network), networks)


@dataclass(frozen=True, eq=False)
class FitInputs:
    """What `fit_and_score` reads for one model: nothing is left to choose.

    Attributes
    ----------
    dataset : Dataset
        With targets in the unit that was chosen.
    names : tuple of str
        Factors of the model.
    config : StudyConfig
    """

    dataset: Dataset
    names: tuple[str, ...]
    config: StudyConfig


def fit_inputs(
    dataset: Dataset,
    train: Rows,
    model: str,
    config: StudyConfig,
    own: OwnModel | None = None,
) -> FitInputs:
    """Choose, and screen, for one model on some training decisions, as a study does for a fold."""
    datasets = units_of(dataset, config)
    chosen = choose(datasets, train, model, config, own).chosen
    read = datasets[chosen.unit]
    names = screened_names(read, train, model, config)
    return FitInputs(read, names, chosen.applied(config))


def choice_table(models: Mapping[str, ModelResult]) -> pd.DataFrame:
    """Every candidate of every model in each fold, from 1; no rows where nothing was chosen.

    Columns: model, fold, unit, method and alpha (of the linear model), rank_ic (cross-validated on
    training decisions), chosen.
    """
    rows = [
        (result.label, number, c.unit, c.method or "", c.alpha, float(value), k == own.best)
        for result in models.values()
        for number, own in enumerate(result.choices, start=1)
        if len(own.candidates) > 1
        for k, (c, value) in enumerate(zip(own.candidates, own.rank_ics, strict=True))
    ]
    columns = ["model", "fold", "unit", "method", "alpha", "rank_ic", "chosen"]
    return pd.DataFrame(rows, columns=columns).astype({"alpha": float})
