"""What the fits of a study return: the forecasts of a model, one fit, and the joined folds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.config import StudyConfig
from alphakeel.models.base import Forecaster, Memory
from alphakeel.models.custom import Fitted

if TYPE_CHECKING:
    from alphakeel.models.importance import Drivers  # which imports torch

__all__ = ["Candidate", "ChosenSettings", "DECAY", "FitResult", "Forecast", "ModelResult"]

Floats = npt.NDArray[np.floating[Any]]

# Horizons in days of the decay of Rank IC.
DECAY = (1, 2, 5, 10, 20, 40, 60)


@dataclass(frozen=True)
class Candidate:
    """Settings of one model that are compared before it is fitted.

    Attributes
    ----------
    unit : str
        Of the target, as `target.unit`.
    method : str or None
        Of the linear model, as `linear.method`; None for another model.
    alpha : float or None
        Of a ridge.
    """

    unit: str
    method: str | None = None
    alpha: float | None = None

    def applied(self, config: StudyConfig) -> StudyConfig:
        """The settings of the study with these in their place."""
        if self.method is None and self.unit == config.target.unit:
            return config  # nothing was open
        linear = config.linear
        if self.method is not None:
            alpha = linear.alpha if self.alpha is None else self.alpha
            linear = replace(linear, method=self.method, alpha=alpha)
        return replace(config, target=replace(config.target, unit=self.unit), linear=linear)


@dataclass(frozen=True, eq=False)
class ChosenSettings:
    """What a model is fitted with on a fold, and what else there was.

    Attributes
    ----------
    candidates : tuple of Candidate
    rank_ics : ndarray of shape (n_candidates,)
        Cross-validated on the training decisions of the fold; NaN where there was no choice.
    best : int
        Position of the one that was chosen.
    """

    candidates: tuple[Candidate, ...]
    rank_ics: Floats
    best: int

    @property
    def chosen(self) -> Candidate:
        """The candidate that was chosen."""
        return self.candidates[self.best]


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
    memory : Memory or None
        Of a network that can go on from there.
    """

    scores: Floats
    weights: Floats | None
    safety: Floats | None = None
    forecaster: Forecaster | None = None
    memory: Memory | None = None


@dataclass(frozen=True, eq=False)
class FitResult:
    """One model, fitted on one fold.

    Attributes
    ----------
    scores : ndarray of shape (n_test, n_assets)
        On the fold's test decisions.
    history : list of dict
        One entry per validation of a network.
    fitted : ModelState or OwnForecaster
        The model itself; of one of ours its state.
    key : str
        Fingerprint of all that the fit read.
    weights : ndarray of shape (n_test, n_assets), optional
        Composition on the test decisions, of a model that allocates by itself.
    safety : ndarray of shape (n_test, 4), optional
        Its safety factors, as in `Forecast`.
    memory : Memory, optional
        As in `Forecast`; of the last fold alone.
    """

    scores: Floats
    history: list[dict[str, Any]]
    fitted: Fitted
    key: str
    weights: Floats | None = None
    safety: Floats | None = None
    memory: Memory | None = None


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
    fitted : tuple of ModelState or OwnForecaster
        The fitted model of each fold, for `alphakeel.models.custom.fitted_model`.
    keys : tuple of str
        Of each fold's fit, a fingerprint of all that it read.
    drivers : tuple of Drivers
        Of the scores of each fold's test decisions.
    weights : ndarray of shape (n_decisions, n_assets), optional
        Fully invested composition of a model that allocates by itself; NaN before the test.
        `strategies.hold_under_limits` says how much of it is held.
    safety : ndarray of shape (n_decisions, 4), optional
        Safety factors of its limits, in the order of `stats.exposure_rules.LIMITED`.
    limits : DataFrame, optional
        Each limit in each fold: limit, trained (the fit's path), promised (out of fold), safety.
    compositions : DataFrame, optional
        Of a model that allocates by itself, what its composition was chosen from in each fold:
        fold, temperature, smoothing, merit, chosen.
    members : ndarray of shape (n_seeds, n_decisions, n_assets), optional
        Scores of each network of an ensemble by itself, with `report.sensitivity`.
    choices : tuple of ChosenSettings
        Of each fold's fit.
    combination : DataFrame, optional
        Of the combined model, which has no fits: the weights of its members in each fold.
    memory : Memory, optional
        Of the last fold's network after `memory.row` of its rows, from which later ones are scored:
        of every stock, and last of one that was not there.
    """

    name: str
    label: str
    scores: Floats
    ic: Floats
    rank_ic: Floats
    decay: Floats
    history: list[dict[str, Any]]
    fitted: tuple[Fitted, ...] = ()
    keys: tuple[str, ...] = ()
    drivers: tuple[Drivers, ...] = ()
    weights: Floats | None = None
    safety: Floats | None = None
    limits: pd.DataFrame | None = None
    members: Floats | None = None
    choices: tuple[ChosenSettings, ...] = ()
    compositions: pd.DataFrame | None = None
    combination: pd.DataFrame | None = None
    memory: Memory | None = None
