"""Trials of the user's own models: whether a score moves with what came later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError
from alphakeel.factors.custom import differs
from alphakeel.models.custom import OwnForecaster
from alphakeel.pipeline.dataset import Dataset

__all__ = ["ModelFault", "fault_of_model", "refuse_reading_ahead"]

Floats = npt.NDArray[np.floating[Any]]

# Decisions of a test at which scores are made again without what came later.
_TRIALS = 3


@dataclass(frozen=True)
class ModelFault:
    """What is wrong with a model; the sentence lacks its subject, day and stock are "" if none."""

    kind: Literal["silent", "future"]
    sentence: str
    day: str = ""
    ticker: str = ""


def refuse_reading_ahead(
    forecaster: OwnForecaster,
    dataset: Dataset,
    names: tuple[str, ...],
    test: slice,
    scores: Floats,
) -> None:
    """Refuse a fitted model with a fault; `alphakeel audit` tries it in more ways."""
    fault = fault_of_model(forecaster, dataset, names, test, scores)
    if fault is not None:
        raise ConfigError(f"{forecaster.own.place} {fault.sentence}")


def fault_of_model(
    forecaster: OwnForecaster,
    dataset: Dataset,
    names: tuple[str, ...],
    test: slice,
    scores: Floats,
) -> ModelFault | None:
    """What is wrong with the scores, (n_decisions, n_assets), of a fitted model on a test.

    A few of its decisions are scored again: by a model of tables among noise, by one of sequences
    with what came before them, and with noise in the place of what comes after them.
    """
    if dataset.eligible[test].any() and np.isnan(scores[test]).all():
        return ModelFault(
            "silent",
            "has no score for any stock on any decision of the test: its predict returns NaN only.",
        )
    features = np.ascontiguousarray(dataset.features[: test.stop, :, dataset.columns(names)])
    market, mask = dataset.market[: test.stop], dataset.eligible[: test.stop]
    model: Any = forecaster

    def again(rows: slice, cube: Floats, series: Floats) -> Floats:
        own: Floats = model.predict(cube[rows], mask=mask[rows], market=series[rows])
        return own

    last = max(test.start, test.stop - 2)  # after the last decision nothing can be removed
    for row in np.unique(np.linspace(test.start, last, _TRIALS).astype(int)).tolist():
        if forecaster.reads == "row":
            made = _among_others(model, features[row], mask[row], market[row])
            what = (
                "when the other rows of its table, those of later days too, are replaced by noise: "
                "let predict score each row by itself."
            )
            fault = _moved(dataset, row, scores[row], made, what)
        else:
            made = again(slice(0, row + 1), features, market)[-1]
            fault = _moved(dataset, row, scores[row], made, "when later days are removed.")
            if fault is None:
                noise = np.random.default_rng(row)
                cube, series = features.copy(), np.array(market)
                cube[row + 1 :] = noise.standard_normal(cube[row + 1 :].shape)
                series[row + 1 :] = noise.standard_normal(series[row + 1 :].shape)
                made = again(slice(0, test.stop), cube, series)[row]
                what = "when later days are replaced by noise."
                fault = _moved(dataset, row, scores[row], made, what)
        if fault is not None:
            return fault
    return None


def _among_others(
    model: Any, features: Floats, mask: npt.NDArray[np.bool_], market: Floats
) -> Floats:
    """Scores of one decision, (n_assets,), in a table that is filled up with noise."""
    from alphakeel.models.tabular import TABLE_ROWS  # torch is slow to import, and is there by now

    noise, n_more = np.random.default_rng(len(mask)), TABLE_ROWS // len(mask) + 1
    cube = 3.0 + noise.standard_normal((1 + n_more, *features.shape))
    series = 3.0 + noise.standard_normal((1 + n_more, len(market)))
    wanted = np.ones((1 + n_more, len(mask)), dtype=bool)
    cube[0], series[0], wanted[0] = features, market, mask
    own: Floats = model.predict(cube, mask=wanted, market=series)[0]
    return own


def _moved(
    dataset: Dataset, row: int, before: Floats, after: Floats, what: str
) -> ModelFault | None:
    """The fault of a score that is another one, with its day and its stock."""
    moved = differs(before, after)
    if not moved.any():
        return None
    day = str(dataset.dates[dataset.decisions[row]])
    ticker = str(dataset.assets[int(np.argmax(moved))])
    return ModelFault(
        "future", f"reads the future: its score for {ticker} on {day} changes {what}", day, ticker
    )
