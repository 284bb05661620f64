"""The settings that a search varies, its plan and its result.

A dimension is named by the setting that it varies (``network.hidden``). One is no setting:
``limits.scale`` multiplies every limit that is set in ``[limits]``, because limits that are to hold
out of sample may need tighter ones in training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from alphakeel.config import COMBINED, StudyConfig, config_to_toml
from alphakeel.data.spreadsheets import write_csv
from alphakeel.errors import ConfigError, DataError
from alphakeel.files import write_atomically
from alphakeel.model_factory import LABELS, LIMITED, NETWORKS
from alphakeel.pipeline.calendar import days_apart
from alphakeel.selection.deflation import Deflation

__all__ = [
    "Choice",
    "OBJECTIVES",
    "SearchPlan",
    "Space",
    "Span",
    "Tuning",
    "default_space",
    "refuse_open_target",
    "sample_point",
    "settings_at",
    "write_tuning",
]

LIMITS_SCALE = "limits.scale"

OBJECTIVES = {"rank_ic": "Rank IC", "sharpe": "Sharpe ratio"}
SPLITTERS = ("kfold", "combinatorial")
PRUNERS = ("median", "hyperband", "none")


@dataclass(frozen=True)
class Choice:
    """One of several values; with `when`, only where another dimension has the value given."""

    name: str
    values: tuple[Any, ...]
    when: tuple[str, Any] | None = None


@dataclass(frozen=True)
class Span:
    """A number from an interval; `log`: uniform in its logarithm; `whole`: an integer."""

    name: str
    low: float
    high: float
    log: bool = False
    whole: bool = False
    when: tuple[str, Any] | None = None


Space = tuple[Choice | Span, ...]


def refuse_open_target(config: StudyConfig) -> None:
    """Refuse a target that each fit would choose by itself: trials have to aim at the same."""
    if config.target.unit == "auto":
        raise ConfigError(
            'target.unit = "auto" leaves the target open, and trials are compared on one: set '
            'target.unit to "volatility" or "return" to tune.'
        )


def default_space(model: str, config: StudyConfig, *, n_rows: int, breadth: int = 0) -> Space:
    """The settings of a model that are searched by default.

    No sequence longer than a third of the training sample (`n_rows` decisions) is tried, and with
    ``network.rows = "days"`` sequences are as long, in days; Fama-MacBeth is tried from a `breadth`
    of 60 stocks on.

    Examples
    --------
    >>> [part.name for part in default_space("linear", StudyConfig(), n_rows=500)]
    ['linear.method', 'linear.alpha']
    """
    if model == "linear":
        methods = ("pooled", "ridge", "fama_macbeth") if breadth >= 60 else ("pooled", "ridge")
        return (
            Choice("linear.method", methods),
            Span("linear.alpha", 1e-4, 1e2, log=True, when=("linear.method", "ridge")),
        )
    if model == "lightgbm" and hasattr(config, "boosting"):
        return (
            Choice("boosting.leaves", (4, 8, 15, 31)),
            Span("boosting.learning_rate", 0.01, 0.2, log=True),
            Span("boosting.n_trees", 50, 600, log=True, whole=True),
        )
    if model not in NETWORKS and model not in LIMITED:
        raise ConfigError(
            f"{model} has no settings to tune; choose linear, "
            f"{', '.join(LIMITED)} or {', '.join(NETWORKS)}."
        )
    longest, unit = max(8, n_rows // 3), 1
    if config.network.rows == "days":
        unit = days_apart(config.walk_forward.rebalance)
    shape: Space = (
        Choice("network.hidden", (8, 16, 32, 64)),
        Choice("network.layers", (1, 2)),
        Span("network.dropout", 0.0, 0.5),
        Span("network.max_steps", 10, 300, log=True, whole=True),
        _at_most("network.burn_in", (13, 26, 52), longest, unit),
        _at_most("network.chunk", (26, 52, 104), longest, unit),
    )
    if model in LIMITED:
        return (
            *shape,
            Span("network.ic_weight", 0.1, 5.0, log=True),
            Span(LIMITS_SCALE, 0.5, 1.0),
        )
    # Gradients are clipped to one norm, so that only the ratio of the two losses matters.
    return (
        *shape,
        Span("network.learning_rate", 3e-4, 2e-2, log=True),
        Span("network.weight_decay", 1e-4, 1e-1, log=True),
        Span("network.mse_weight", 1e-2, 3.0, log=True),
    )


def _at_most(name: str, values: tuple[int, ...], longest: int, unit: int) -> Choice:
    """Numbers of decisions up to the longest, each of so many rows."""
    return Choice(name, tuple(unit * v for v in values if v <= longest) or (unit * longest,))


def sample_point(space: Space, rng: np.random.Generator) -> dict[str, Any]:
    """Draw a point of a space at random, by setting."""
    point: dict[str, Any] = {}
    for part in space:
        if part.when is not None and point.get(part.when[0]) != part.when[1]:
            continue
        if isinstance(part, Choice):
            point[part.name] = part.values[int(rng.integers(len(part.values)))]
            continue
        low, high = np.log([part.low, part.high]) if part.log else (part.low, part.high)
        value = rng.uniform(low, high)
        value = float(np.exp(value) if part.log else value)
        point[part.name] = round(value) if part.whole else value
    return point


def settings_at(config: StudyConfig, params: Mapping[str, Any]) -> StudyConfig:
    """Settings with those of one point of a space put in.

    Examples
    --------
    >>> round(settings_at(StudyConfig(), {"limits.scale": 0.5}).limits.volatility, 3)
    0.06
    """
    changed: dict[str, dict[str, Any]] = {}
    for path, value in params.items():
        section, _, key = path.partition(".")
        if path == LIMITS_SCALE:
            own = {f.name: getattr(config.limits, f.name) for f in fields(config.limits)}
            scaled = {name: x * value for name, x in own.items() if x is not None}
            changed.setdefault(section, {}).update(scaled)
            continue
        if not hasattr(getattr(config, section, None), key):
            raise ConfigError(f"the space names {path!r}, which is no setting.")
        changed.setdefault(section, {})[key] = value
    sections: dict[str, Any] = {
        name: replace(getattr(config, name), **values) for name, values in changed.items()
    }
    return replace(config, **sections)


@dataclass(frozen=True)
class SearchPlan:
    """What a search tries, and how it evaluates a trial.

    Parameters
    ----------
    model : str
        Whose settings are searched.
    n_trials : int
        Trials in all, those of earlier runs of the same search included.
    objective : {"rank_ic", "sharpe"}
        Mean validation Rank IC; or the Sharpe ratio of the validation portfolio, where trials that
        break one of the settings' ``[limits]`` rank behind those that keep them.
    splitter : {"kfold", "combinatorial"}
        Purged, embargoed blocks; or every combination of `held_out` of them.
    blocks, held_out : int
        Blocks of the years before the test; how many a combinatorial split holds out.
    pruner : {"median", "hyperband", "none"}
        Stops a trial after a split where it is behind the median of those before; or by successive
        halving over splits.
    n_seeds : int
        Networks averaged in a trial.
    overlay : bool
        Evaluate the portfolio under the settings' ``[overlay]``.
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
        if self.model == COMBINED:
            raise ConfigError(
                "combined has no fit of its own, and so no settings to tune: tune its members."
            )
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
    """The result of a search.

    Attributes
    ----------
    config : StudyConfig
        The settings given, with those of the best trial.
    plan : SearchPlan
    best : dict
        number, value, rank_ic, sharpe, params, over (excess over each limit), feasible.
    trials : DataFrame
        One row a trial: number, state (complete, pruned, failed), value, rank_ic, sharpe,
        max_excess (over the limits; NaN if there are none), a column for each dimension, reason.
    deflation : Deflation
        The correction for selection bias, over every trial in the ledger.
    data_hash, name : str
    validated : tuple of str
        First and last day of the validation.
    """

    config: StudyConfig
    plan: SearchPlan
    best: dict[str, Any]
    trials: pd.DataFrame
    deflation: Deflation
    data_hash: str
    name: str
    validated: tuple[str, str]

    def describe(self) -> list[str]:
        """The result in sentences, one a line."""
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
                f"No trial kept all limits; this one has the smallest violation (limits.{worst} "
                f"by {self.best['over'][worst]:.0%})."
            )
        return [*lines, *self.deflation.describe()]

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON; None where a number is not known."""
        states = self.trials["state"].value_counts().to_dict()
        return {
            "name": self.name,
            "data_hash": self.data_hash,
            "model": self.plan.model,
            "objective": self.plan.objective,
            "splitter": self.plan.splitter,
            "blocks": self.plan.blocks,
            "overlay": self.plan.overlay,
            "validated": list(self.validated),
            "trials": {"run": len(self.trials), **{str(k): int(v) for k, v in states.items()}},
            "best": self.best,
            "deflation": self.deflation.to_dict(),
        }


def write_tuning(tuning: Tuning, folder: str | Path) -> Path:
    """Write ``best.toml``, ``trials.csv`` and ``tuning.json`` into a folder; path of the first."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        settings = config_to_toml(tuning.config).encode()
        write_atomically(folder / "best.toml", settings, durable=False)
        write_csv(tuning.trials, folder / "trials.csv", index=False)
        text = json.dumps(tuning.summary(), indent=2, allow_nan=False)
        write_atomically(folder / "tuning.json", f"{text}\n".encode(), durable=False)
    except OSError as error:
        raise DataError(f"cannot write the search into {folder}: {error.strerror}.") from error
    return folder / "best.toml"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
