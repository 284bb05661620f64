"""How a search goes about it, and what it found: two frozen values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from alphakeel.config import StudyConfig, config_to_toml
from alphakeel.errors import ConfigError, DataError
from alphakeel.roster import LABELS
from alphakeel.tuning.luck import Luck

__all__ = ["OBJECTIVES", "SearchPlan", "Tuning", "write_tuning"]

OBJECTIVES = {"rank_ic": "Rank IC", "sharpe": "Sharpe ratio"}
SPLITTERS = ("kfold", "combinatorial")
PRUNERS = ("median", "hyperband", "none")


@dataclass(frozen=True)
class SearchPlan:
    """How a search goes about it.

    Parameters
    ----------
    model : str
        The model whose settings are searched.
    n_trials : int
        Trials in all, those of earlier runs of the same search included.
    objective : {"rank_ic", "sharpe"}
        Mean validation Rank IC; or the Sharpe ratio of the validation portfolio, where a trial that
        breaks one of the settings' ``[limits]`` ranks behind every one that keeps them.
    splitter : {"kfold", "combinatorial"}
        Purged, embargoed blocks; or every choice of `held_out` of them.
    blocks, held_out : int
        Blocks that the years before the test are cut into; how many of them a combinatorial split
        holds out.
    pruner : {"median", "hyperband", "none"}
        Gives a trial up after a split where it is behind the median of those before; or by
        successive halving over splits.
    n_seeds : int
        Networks averaged in a trial.
    overlay : bool
        Trade a trial's portfolio under the settings' ``[overlay]``: a study shows both, and a
        search judges the one without it unless it is told.
    """

    model: str = "lstm"
    n_trials: int = 20
    objective: str = "rank_ic"
    splitter: str = "kfold"
    blocks: int = 4
    held_out: int = 2
    pruner: str = "median"
    n_seeds: int = 1
    overlay: bool = False

    def __post_init__(self) -> None:
        known = {
            "model": tuple(LABELS),
            "objective": tuple(OBJECTIVES),
            "splitter": SPLITTERS,
            "pruner": PRUNERS,
        }
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise ConfigError(
                    f"{name} must be one of {', '.join(values)}, not {getattr(self, name)!r}."
                )
        for name, least in (("n_trials", 1), ("blocks", 2), ("held_out", 1), ("n_seeds", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        if self.splitter == "combinatorial" and self.held_out >= self.blocks:
            raise ConfigError(
                f"held_out {self.held_out} of {self.blocks} blocks leaves none to train on."
            )


@dataclass(frozen=True, eq=False)
class Tuning:
    """What a search found.

    Attributes
    ----------
    config : StudyConfig
        The settings given, with the best trial's put in.
    plan : SearchPlan
    best : dict
        number, value, rank_ic, sharpe, params, over (excess over each limit), feasible.
    trials : DataFrame
        One row a trial: number, state (complete, pruned, failed), value, rank_ic, sharpe,
        max_excess (over the limits; NaN if there are none), a column for each dimension, reason.
    luck : Luck
        How much of the best is luck, over every trial in the ledger.
    data_hash, name : str
    validated : tuple of str
        First and last day that judged a trial.
    """

    config: StudyConfig
    plan: SearchPlan
    best: dict[str, Any]
    trials: pd.DataFrame
    luck: Luck
    data_hash: str
    name: str
    validated: tuple[str, str]

    def in_words(self) -> list[str]:
        """What was found, one finding a line."""
        states = self.trials["state"].value_counts()
        counted = ", ".join(f"{int(states[k])} {k}" for k in states.index)
        lines = [
            (
                f"{LABELS[self.plan.model]} on {self.name}, validated {self.validated[0]} to "
                f"{self.validated[1]}: {len(self.trials)} trials ({counted})."
            ),
            (
                f"Best: trial {self.best['number']}, Rank IC {self.best['rank_ic']:+.4f}, Sharpe "
                f"ratio {self.best['sharpe']:.2f}."
            ),
            *(f"  {key} = {_shown(value)}" for key, value in self.best["params"].items()),
        ]
        if not self.best["feasible"]:
            worst = max(self.best["over"], key=self.best["over"].__getitem__)
            lines.append(
                f"No trial kept all limits; this one breaks them least (limits.{worst} by "
                f"{self.best['over'][worst]:.0%})."
            )
        return [*lines, *self.luck.in_words()]

    def summary(self) -> dict[str, Any]:
        """The search in plain values, ready for JSON; None where a number is not known."""
        states = self.trials["state"].value_counts().to_dict()
        return {
            "name": self.name,
            "data_hash": self.data_hash,
            "model": self.plan.model,
            "objective": self.plan.objective,
            "splitter": self.plan.splitter,
            "blocks": self.plan.blocks,
            "validated": list(self.validated),
            "trials": {"run": len(self.trials), **{str(k): int(v) for k, v in states.items()}},
            "best": self.best,
            "luck": self.luck.plain(),
        }


def write_tuning(found: Tuning, folder: str | Path) -> Path:
    """Write ``best.toml``, ``trials.csv`` and ``tuning.json`` into a folder.

    Returns
    -------
    Path
        The settings file, complete, for ``alphakeel run --config``.

    Raises
    ------
    DataError
        If the folder cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "best.toml").write_text(config_to_toml(found.config), encoding="utf-8")
        found.trials.to_csv(folder / "trials.csv", index=False)
        text = json.dumps(found.summary(), indent=2, allow_nan=False)
        (folder / "tuning.json").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write the search into {folder}: {error.strerror}.") from error
    return folder / "best.toml"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
