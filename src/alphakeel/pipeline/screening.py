"""The factors that each kind of model is given, screened on the training decisions of a fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone

from alphakeel.config import StudyConfig
from alphakeel.factors.screening import FactorScreen
from alphakeel.pipeline.dataset import Dataset
from alphakeel.progress import run_in_threads

__all__ = ["Screens", "screen_factors", "screen_fold", "screened_names"]


@dataclass(frozen=True, eq=False)
class Screens:
    """The factor screens of one fold, for the linear model and for networks.

    `own` are those of networks that chose targets of their own, by model.
    """

    linear: FactorScreen
    network: FactorScreen
    own: Mapping[str, FactorScreen] = field(default_factory=dict)

    def names(self, model: str) -> tuple[str, ...]:
        """Factors that a model is given."""
        chosen = self.linear if model == "linear" else self.own.get(model, self.network)
        return tuple(chosen.selected_)

    def verdicts(self) -> pd.DataFrame:
        """The linear model's verdicts, and whether networks were given the factor."""
        table = self.linear.verdicts_
        return table.assign(network=table["factor"].isin(self.network.selected_))


def screen_fold(
    dataset: Dataset,
    train: slice | npt.NDArray[np.intp],
    config: StudyConfig,
    models: tuple[str, ...],
) -> Screens:
    """Screen the factors on training decisions; without networks there is one screen for all.

    A factor whose own Rank IC is noise cannot help a linear model, but it may be one half of an
    interaction; so the screen for networks has no rule on strength.
    """
    linear = _fitted(_for_linear(config), dataset, train)
    if not config.screen.networks_keep_weak or models == ("linear",):
        return Screens(linear, linear)
    return Screens(linear, _fitted(_for_networks(config), dataset, train))


def screened_names(
    dataset: Dataset, train: slice | npt.NDArray[np.intp], model: str, config: StudyConfig
) -> tuple[str, ...]:
    """Factors that one model is given: those of `screen_fold`, at half its work."""
    weak = config.screen.networks_keep_weak and model != "linear"
    screen = _for_networks(config) if weak else _for_linear(config)
    return tuple(_fitted(screen, dataset, train).selected_)


def _for_linear(config: StudyConfig) -> FactorScreen:
    return FactorScreen(**config.screen.keywords(without=("networks_keep_weak",)))


def _for_networks(config: StudyConfig) -> FactorScreen:
    screen: FactorScreen = clone(_for_linear(config)).set_params(
        min_abs_t=0.0, min_sign_stability=0.0, false_discovery_rate=None
    )
    return screen


def _fitted(
    screen: FactorScreen, dataset: Dataset, train: slice | npt.NDArray[np.intp]
) -> FactorScreen:
    return screen.fit_cross_sections(
        sections=dataset.sections.on(train),
        names=dataset.names,
        families=dataset.families,
        horizons=tuple(dataset.rows_ahead(horizon, train) for horizon in dataset.horizons),
    )


def screen_factors(
    dataset: Dataset,
    trains: Sequence[slice | npt.NDArray[np.intp]],
    config: StudyConfig,
    models: tuple[str, ...],
    task: Callable[[int], AbstractContextManager[object]] | None = None,
) -> list[Screens]:
    """Screen the factors on the training decisions of every fold, in parallel.

    `task`, given the number of a fold, is a context that reports progress.
    """

    def screen(number: int) -> Screens:
        if task is None:
            return screen_fold(dataset, trains[number], config, models)
        with task(number):
            return screen_fold(dataset, trains[number], config, models)

    _ = dataset.sections  # computed before there are threads that would each compute them
    return run_in_threads([partial(screen, n) for n in range(len(trains))], config.jobs)
