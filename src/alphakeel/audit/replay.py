"""The same study on other pasts and other futures: panels cut, scrambled, or with holes in them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.config import StudyConfig
from alphakeel.data.cleaning import CleanResult, clean
from alphakeel.data.panel import universe_mask
from alphakeel.errors import LookAheadWarning
from alphakeel.factors.base import Factor, FactorSet, compute_factors
from alphakeel.preparation import Inputs, find_test_days, prepare, with_test_dates

__all__ = ["Prepared", "cut", "linear_only", "prepare_study", "punched", "scrambled", "until"]

Floats = NDArray[np.floating[Any]]
_HOLE_ROWS = 3
_HOLE_SHARE = 0.3


@dataclass(frozen=True, eq=False)
class Prepared:
    """A panel on its way through a study, up to what the fits read."""

    panel: Any
    config: StudyConfig  # with the test window filled in
    dates: NDArray[np.datetime64]
    days: slice
    rows: NDArray[np.intp]
    cleaning: CleanResult
    factors: FactorSet
    inputs: Inputs


def prepare_study(panel: Any, config: StudyConfig, factors: Sequence[Factor]) -> Prepared:
    """Clean, compute and prepare, as `run_study` does before its first fit."""
    dates = np.asarray(panel.observations, dtype="datetime64[D]")
    days = find_test_days(dates, config)
    step = config.walk_forward.rebalance_every
    rows = np.arange(days.start % step, days.stop, step)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LookAheadWarning)  # a finding of its own
        cleaning = clean(panel, **config.cleaning.keywords())
    computed = compute_factors(cleaning.panel, factors)
    sample = cleaning.eligible & universe_mask(panel)
    return Prepared(
        panel=panel,
        config=with_test_dates(config, dates[days]),
        dates=dates,
        days=days,
        rows=rows,
        cleaning=cleaning,
        factors=computed,
        inputs=prepare(cleaning, computed, sample, rows, config),
    )


def cut(panel: Any, row: int) -> Any:
    """The panel as it was at the close of a row: nothing later."""
    return panel[np.arange(row + 1)].to_panel()


def linear_only(config: StudyConfig) -> StudyConfig:
    """The study with its cheap model: the machinery is the same."""
    report = replace(config.report, drivers=False, sensitivity=False)
    return replace(config, models=("linear",), report=report)


def until(config: StudyConfig, day: np.datetime64) -> StudyConfig:
    """Settings whose test ends on a day."""
    walk = replace(config.walk_forward, test_end=day.astype("datetime64[D]").astype(object))
    return replace(config, walk_forward=walk)


def scrambled(panel: Any, row: int, rng: np.random.Generator) -> Any:
    """The panel with every number after a row replaced by another; masks and gaps are kept.

    Numbers are multiplied by log-normal noise, memberships and ST flags are drawn anew.
    """
    copy = panel.copy(deep=True)
    for name, field in copy.fields.items():
        values = field.values.copy()
        if not np.issubdtype(values.dtype, np.floating):
            continue
        future = values[row + 1 :]
        if name in ("member", "st"):
            drawn = rng.integers(0, 2, future.shape).astype(np.float64)
            values[row + 1 :] = np.where(np.isnan(future), np.nan, drawn)
        else:
            noise = np.exp(rng.normal(0.0, 1.0, future.shape))
            if name == "market_index":
                noise[:] = noise[:, :1]
            values[row + 1 :] = future * noise
        copy.fields[name] = field.with_values(values)
    return copy


def punched(panel: Any, row: int, rng: np.random.Generator) -> Any:
    """The panel with gaps: some stocks lose their numbers on a row and the two before it."""
    copy = panel.copy(deep=True)
    holes = np.zeros(copy.active_mask.shape, dtype=np.bool_)
    chosen = rng.random(holes.shape[1]) < _HOLE_SHARE
    chosen[rng.integers(len(chosen))] = True
    holes[max(0, row + 1 - _HOLE_ROWS) : row + 1, chosen] = True
    for name, field in copy.fields.items():
        if np.issubdtype(field.values.dtype, np.floating) and name not in (
            "market_index",
            "member",
        ):
            copy.fields[name] = field.with_values(np.where(holes, np.nan, field.values))
    return copy
