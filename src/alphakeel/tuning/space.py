"""What a search may change of each model: a default space by name, and settings at a point of it.

A dimension is named by the setting that it moves (``network.hidden``). One is no setting of its
own: ``limits.scale`` multiplies every limit that is set in ``[limits]``, for a model trained under
limits that are to hold out of sample may have to be trained under tighter ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from alphakeel.config import StudyConfig
from alphakeel.errors import ConfigError
from alphakeel.roster import NETWORKS

__all__ = ["Choice", "Space", "Span", "default_space", "drawn", "settings_at"]

LIMITS_SCALE = "limits.scale"


@dataclass(frozen=True)
class Choice:
    """One of some values; with `when`, only where another dimension has the value given there."""

    name: str
    values: tuple[Any, ...]
    when: tuple[str, Any] | None = None


@dataclass(frozen=True)
class Span:
    """A number between two, both included; `log`: even in its logarithm; `whole`: an integer."""

    name: str
    low: float
    high: float
    log: bool = False
    whole: bool = False
    when: tuple[str, Any] | None = None


Space = tuple[Choice | Span, ...]


def default_space(model: str, config: StudyConfig, *, n_rows: int, breadth: int = 0) -> Space:
    """What is searched of a model by default.

    Parameters
    ----------
    model : str
        One of `alphakeel.config.MODELS`.
    config : StudyConfig
        Settings that the search starts from; what the space does not name stays as it is there.
    n_rows : int
        Decision rows of the smallest training sample: no stretch longer than a third of it is
        tried.
    breadth : int, default=0
        Stocks of a typical date; Fama-MacBeth is tried from 60 on.

    Raises
    ------
    ConfigError
        If the model has no settings of its own.

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
    if model not in NETWORKS and model != "lstm_limited":
        raise ConfigError(
            f"{model} has no settings to tune; choose linear, lstm_limited or "
            f"{', '.join(NETWORKS)}."
        )
    longest = max(8, n_rows // 3)
    shape: Space = (
        Choice("network.hidden", (8, 16, 32, 64)),
        Choice("network.layers", (1, 2)),
        Span("network.dropout", 0.0, 0.5),
        Span("network.max_steps", 10, 300, log=True, whole=True),
        _at_most("network.burn_in", (13, 26, 52), longest),
        _at_most("network.chunk", (26, 52, 104), longest),
    )
    if model == "lstm_limited":
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


def _at_most(name: str, values: tuple[int, ...], longest: int) -> Choice:
    return Choice(name, tuple(v for v in values if v <= longest) or (longest,))


def drawn(space: Space, rng: np.random.Generator) -> dict[str, Any]:
    """Draw a point of a space at random.

    Examples
    --------
    >>> drawn((Span("network.hidden", 4, 4, whole=True),), np.random.default_rng(0))
    {'network.hidden': 4}
    """
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

    Raises
    ------
    ConfigError
        If a name is no setting, or a value is out of its range.

    Examples
    --------
    >>> settings_at(StudyConfig(), {"network.hidden": 8}).network.hidden
    8
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
