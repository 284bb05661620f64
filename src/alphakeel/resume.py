"""A study that was killed goes on: what is kept of each fit, and under which name.

A study is known by a fingerprint of its data, its settings and the versions at work. Progress is
kept under that name, and so none is ever shared with a study that differs in anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.models.base import Forecaster
from alphakeel.models.checkpoint import Prefixed, Slot
from alphakeel.models.state import ModelState, Store, fingerprint, pack, unpack

__all__ = ["FitResult", "Kept", "KeptFits", "study_key"]


def study_key(data_hash: str, settings: dict[str, Any], versions: dict[str, str]) -> str:
    """Sixteen characters that stand for data, settings and versions.

    `jobs` is left out: it changes no number, and a killed study may go on with another.

    Examples
    --------
    >>> study_key("d", {"seed": 0, "jobs": 1}, {}) == study_key("d", {"seed": 0, "jobs": 2}, {})
    True
    >>> study_key("d", {"seed": 0}, {}) == study_key("d", {"seed": 1}, {})
    False
    """
    deciding = {name: value for name, value in settings.items() if name != "jobs"}
    return fingerprint(data_hash, deciding, versions)[:16]


@dataclass(frozen=True, eq=False)
class FitResult:
    """One model, fitted on one fold.

    Attributes
    ----------
    scores : ndarray of shape (n_test, n_assets)
        On the fold's test rows.
    history : list of dict
        One entry per validation of a network.
    fitted : ModelState
        The model itself.
    weights : ndarray of shape (n_test, n_assets), optional
        Target weights on the test rows, of a model that allocates by itself.
    """

    scores: NDArray[np.floating[Any]]
    history: list[dict[str, Any]]
    fitted: ModelState
    weights: NDArray[np.floating[Any]] | None = None


class Kept:
    """What is kept of one computation, under a name that stands for all it follows from.

    Parameters
    ----------
    store : Store, optional
        None keeps nothing and finds nothing.
    key : str
        As `study_key` gives it.
    """

    def __init__(self, store: Store | None, key: str) -> None:
        self._store = None if store is None else Prefixed(store, key)
        self._key = key

    def begin(self) -> bool:
        """Leave word that the computation was begun; True if it had been before."""
        before = self._get("begun") is not None
        self._put("begun", {})
        return before

    def _get(self, name: str) -> dict[str, Any] | None:
        return None if self._store is None else Slot(self._store, name, self._key).get()

    def _put(self, name: str, tree: dict[str, Any]) -> None:
        if self._store is not None:
            Slot(self._store, name, self._key).put(tree)


class KeptFits(Kept):
    """What is kept of one study's fits."""

    def find(self, model: str, fold: int) -> FitResult | None:
        """The finished fit of a model on a fold, if it is kept."""
        kept = self._get(f"{model}-{fold}/fitted")
        if kept is None:
            return None
        weights = kept["weights"] if kept["allocates"] else None
        return FitResult(kept["scores"], kept["history"], pack(kept["fitted"]), weights)

    def keep(self, model: str, fold: int, result: FitResult) -> None:
        """Keep a finished fit."""
        tree = {
            "scores": result.scores,
            "history": result.history,
            "fitted": unpack(result.fitted),
            "allocates": result.weights is not None,
            "weights": np.empty(0) if result.weights is None else result.weights,
        }
        self._put(f"{model}-{fold}/fitted", tree)

    def attach(self, forecaster: Forecaster, model: str, fold: int) -> None:
        """Let a forecaster that trains step by step keep its progress too."""
        if self._store is not None and hasattr(forecaster, "store"):
            forecaster.store = Prefixed(self._store, f"{model}-{fold}")
