"""What is turned how far, and what came of it: two frozen values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from alphakeel.errors import ConfigError, DataError
from alphakeel.roster import NETWORKS
from alphakeel.tuning.luck import Luck

__all__ = ["AXES", "DegreePlan", "DegreeStudy", "write_degrees"]

AXES = {"steps": "gradient steps", "trials": "trials", "hidden": "hidden units"}


@dataclass(frozen=True)
class DegreePlan:
    """What is turned, and how far.

    Parameters
    ----------
    model : str
        A network.
    steps, hidden : tuple of int
        Gradient steps and units of the recurrent layer, rising. A model trained under limits
        takes twice the steps, as in a study.
    n_trials : int
        Settings tried: the settings as they are, and random ones of the model's default space.
    n_seeds : int
        Single networks at each degree; at least 2, for there is no standard error of one. A trial
        has one.
    validation_share : float
        Share of the decision rows before the test that validates.
    refits : int
        Walk-forward fits of the test years.
    overlay : bool
        Trade every portfolio under the settings' ``[overlay]``.

    Raises
    ------
    ConfigError
        If a number is out of range or the model is no network.
    """

    model: str = "lstm"
    steps: tuple[int, ...] = (5, 10, 25, 50, 75, 150, 300)
    hidden: tuple[int, ...] = (4, 8, 16, 32, 64, 128)
    n_trials: int = 12
    n_seeds: int = 3
    validation_share: float = 0.25
    refits: int = 2
    overlay: bool = False

    def __post_init__(self) -> None:
        if self.model not in NETWORKS and self.model != "lstm_limited":
            raise ConfigError(
                f"{self.model} is not trained by degrees; choose lstm_limited or "
                f"{', '.join(NETWORKS)}."
            )
        for name, least in (("n_trials", 2), ("n_seeds", 2), ("refits", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        for name in ("steps", "hidden"):
            values = getattr(self, name)
            if len(values) < 2 or sorted(set(values)) != list(values) or values[0] < 1:
                raise ConfigError(
                    f"{name} must be two or more rising whole numbers, not {list(values)}."
                )
        if not 0.0 < self.validation_share < 1.0:
            raise ConfigError(
                f"validation_share must lie between 0 and 1, not {self.validation_share:g}."
            )


@dataclass(frozen=True, eq=False)
class DegreeStudy:
    """What optimising further gave, in validation and out of sample.

    Attributes
    ----------
    table : DataFrame
        One row an axis, degree and period. Of each of rank_ic, sharpe (annual) and annual_return
        (a fraction): the mean over single networks, ``_low`` and ``_high`` (the least and the
        greatest of them; for trials the middle 90 % of the orders), ``_se`` (standard error over
        seeds); and ``ensemble_`` of each, of the networks' mean score, with its block-bootstrap
        interval ``_low`` and ``_high`` (NaN for trials).
    points : DataFrame
        One row an axis and metric: ``diminishing`` (the degree where returns diminish), ``best``
        (the degree that validated best), both by validation, and ``best_out_of_sample``: for
        reading, never for choosing.
    runs : DataFrame
        One row a fit and period: axis, degree (of a trial its number), seed, and the metrics.
    luck : dict of str to Luck
        By axis, of the degree or trial that validated best by its Sharpe ratio.
    plan : DegreePlan
    label, name, data_hash : str
    validated, tested : tuple of str
        First and last day of either period.
    key : str
        Stands for data, settings, plan and versions; its progress is kept under this name.
    """

    table: pd.DataFrame
    points: pd.DataFrame
    runs: pd.DataFrame
    luck: dict[str, Luck]
    plan: DegreePlan
    label: str
    name: str
    data_hash: str
    validated: tuple[str, str]
    tested: tuple[str, str]
    key: str

    def in_words(self) -> list[str]:
        """What was found, one finding a line."""
        lines = [
            (
                f"{self.label} on {self.name}: validated {self.validated[0]} to "
                f"{self.validated[1]}, out of sample {self.tested[0]} to {self.tested[1]}, "
                f"{self.plan.n_seeds} seeds."
            )
        ]
        for axis, unit in AXES.items():
            own = self.points[self.points["axis"] == axis].set_index("metric")
            lines += [
                (
                    f"More {unit}: returns diminish at {own['diminishing']['rank_ic']} by Rank IC, "
                    f"at {own['diminishing']['sharpe']} by Sharpe ratio."
                ),
                *(f"  {line}" for line in self.luck[axis].in_words()),
            ]
        return lines

    def summary(self) -> dict[str, Any]:
        """The study in plain values, ready for JSON; None where a number is not known."""
        return {
            "name": self.name,
            "data_hash": self.data_hash,
            "model": self.plan.model,
            "seeds": self.plan.n_seeds,
            "validated": list(self.validated),
            "tested": list(self.tested),
            "points": _records(self.points),
            "luck": {axis: found.plain() for axis, found in self.luck.items()},
            "degrees": _records(self.table),
        }


def write_degrees(study: DegreeStudy, folder: str | Path) -> Path:
    """Write ``degrees.csv``, ``degree_runs.csv``, ``degree_points.csv`` and ``degrees.json``.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    DataError
        If it cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        study.table.to_csv(folder / "degrees.csv", index=False)
        study.runs.to_csv(folder / "degree_runs.csv", index=False)
        study.points.to_csv(folder / "degree_points.csv", index=False)
        text = json.dumps(study.summary(), indent=2, allow_nan=False)
        (folder / "degrees.json").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write the figures into {folder}: {error.strerror}.") from error
    return folder


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(k): None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()}
        for row in table.to_dict("records")
    ]
