"""Models of the user's own in a saved run: fitted again, since code is never saved."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from skfolio.containers import AssetPanel

from alphakeel.config import COMBINED, StudyConfig
from alphakeel.errors import DataError
from alphakeel.models.base import Forecaster
from alphakeel.pipeline.choices import fit_inputs
from alphakeel.pipeline.dataset import prepare_dataset
from alphakeel.pipeline.fitting import fit_and_score
from alphakeel.pipeline.plan import Plan
from alphakeel.storage.saved_runs import SavedRun

__all__ = ["ignored_versions", "refuse_refit", "refitted", "settings_of"]

Floats = npt.NDArray[np.floating[Any]]

# Scores of one fit, made twice, may differ by rounding: as a share of the largest of their day.
_ROUNDING = 1e-6


def settings_of(run: SavedRun, models: Collection[str]) -> StudyConfig:
    """The settings of a run for some of its models: the file of others is not run for nothing."""
    config = run.config
    if not config.own_models or not set(run.own_models).isdisjoint(models):
        return config
    left = tuple(name for name in config.models if name not in {*config.own_models, COMBINED})
    return replace(config, models=left or ("linear",))


def ignored_versions(run: SavedRun, plan: Plan) -> set[str]:
    """Versions of the run that only its own models hang on, where the plan has none of them."""
    own = {name for entry in run.own_models.values() for name in entry["versions"]}
    return set() if plan.custom_models.models else own - set(plan.versions)


def refuse_refit(plan: Plan, models: Collection[str]) -> None:
    """Refuse a fit after the run, which would have to be kept."""
    for name in models:
        own = plan.custom_models.get(name)
        if own is not None:
            raise DataError(
                f"{own.label} is a model of your own, whose fits are not saved: a newer fit than "
                "those of the run is made by running the study again."
            )


def refitted(
    run: SavedRun, model: str, plan: Plan, panel: AssetPanel, saved: Floats, *, same: bool
) -> tuple[Floats, Forecaster, tuple[str, ...]]:
    """Scores of every decision, the fit of the last fold, made again, and its factors.

    `saved` are the scores of the run, (n_decisions, n_assets), NaN on later decisions: they stay,
    and the new fit scores what follows. Where the data up to there are the `same`, the fit is held
    against them; where they were revised, it is one on the data as they are now.
    """
    own, label = plan.custom_models.get(model), run.own_models[model]["label"]
    assert own is not None  # noqa: S101  (`plan_of` loads the models that a strategy needs)
    number, fold = len(plan.folds) - 1, plan.folds[-1]
    read = fit_inputs(prepare_dataset(panel, plan), fold.train, model, plan.config, own)
    made = fit_and_score(
        read.dataset, fold.train, fold.test.stop, read.names, model, read.config, own=own
    )
    scores, test = np.array(saved), fold.test
    before, after = saved[test], made.scores[test]
    known: npt.NDArray[np.bool_] = np.logical_or.reduce(np.isfinite(before), axis=1)
    other = read.names != run.folds[number].selected[model]
    if same and (other or _differ(before[known], after[known])):
        raise DataError(
            f"{label}, fitted again, does not give the scores that the run {run.name} has saved "
            f"for fit {number + 1}: it is not determined by its data and its seed (pass the seed "
            "to everything that draws random numbers), or what its file reads was changed; run "
            "the study again."
        )
    scores[test] = np.where(known[:, None], before, after)
    assert made.forecaster is not None  # noqa: S101  (fit_and_score gives the model that it fitted)
    return scores, made.forecaster, read.names


def _differ(before: Floats, after: Floats) -> bool:
    """Whether scores, (n_decisions, n_assets), are other ones, beyond rounding."""
    if not np.array_equal(np.isfinite(before), np.isfinite(after)):
        return True
    largest = np.nanmax(np.abs(before), axis=1, initial=0.0, keepdims=True)
    return bool(np.any(np.nan_to_num(np.abs(before - after)) > _ROUNDING * largest))
