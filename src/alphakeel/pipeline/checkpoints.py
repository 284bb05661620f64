"""Steps of a computation, kept so that a killed study goes on, and fits by what they read."""

from __future__ import annotations

import threading
from typing import Any

from alphakeel.config import fingerprinted
from alphakeel.models.base import Forecaster
from alphakeel.models.persistence import (
    ModelState,
    Prefixed,
    Slot,
    Store,
    fingerprint,
    pack,
    unpack,
)
from alphakeel.pipeline.model_results import FitResult
from alphakeel.progress import Tracker

__all__ = ["IDLE", "Checkpoints", "FitCache", "KeptFits", "study_key"]

# Settings that no number and no file of a run depends on, but its timings.
IDLE = ("jobs",)


def study_key(data_hash: str, settings: dict[str, Any], versions: dict[str, str]) -> str:
    """Sixteen characters that stand for data, settings (but `jobs`) and versions.

    Examples
    --------
    >>> study_key("d", {"seed": 0, "jobs": 1}, {}) == study_key("d", {"seed": 0, "jobs": 2}, {})
    True
    """
    return fingerprint(data_hash, fingerprinted(settings, without=IDLE), versions)[:16]


class Checkpoints:
    """Checkpoints of one computation, under a `study_key`; without a store there are none."""

    def __init__(self, store: Store | None, key: str) -> None:
        self._store = None if store is None else Prefixed(store, key)
        self._key = key

    @property
    def outlive(self) -> bool:
        """Whether there is a store."""
        return self._store is not None

    def begin(self) -> bool:
        """Mark the computation as begun; True if it was before."""
        before = self.find("begun") is not None
        self.keep("begun", {})
        return before

    def find(self, name: str) -> dict[str, Any] | None:
        """The checkpoint under a name, or None."""
        return None if self._store is None else Slot(self._store, name, self._key).get()

    def keep(self, name: str, tree: dict[str, Any]) -> None:
        """Write arrays and plain values under a name."""
        if self._store is not None:
            Slot(self._store, name, self._key).put(tree)


class KeptFits:
    """Tells how many of the fits of a computation have a checkpoint, if it has a store."""

    def __init__(self, store: Checkpoints, tracker: Tracker, total: int, finished: int) -> None:
        self._store, self._tracker = store, tracker
        self._total, self._finished = total, finished
        self._lock = threading.Lock()
        self._tell()

    def add_one(self) -> None:
        """Count one more, from any thread."""
        with self._lock:
            self._finished += 1
            self._tell()

    def _tell(self) -> None:
        if self._store.outlive:
            self._tracker.tell_kept(f"{self._finished} of {self._total} fits")


class FitCache(Checkpoints):
    """Fits by their `fit_key`: checkpoints of this study, and the fits of finished runs.

    `finished` is only read: a `Store` whose names are those of `keep_fit`.
    """

    def __init__(self, store: Store | None, key: str, finished: Store | None = None) -> None:
        super().__init__(store, key)
        self._fits, self._finished = store, finished

    def find_fit(self, key: str) -> tuple[ModelState, list[dict[str, Any]]] | None:
        """A fitted model and its history, or None."""
        for store in (self._fits, self._finished):
            tree = None if store is None else Slot(store, f"fit-{key}/fitted", key).get()
            if tree is not None:
                return pack(tree["fitted"]), tree["history"]
        return None

    def keep_fit(self, result: FitResult) -> bool:
        """Write a finished fit, and say whether there is one: of the user's models is none."""
        if not isinstance(result.fitted, ModelState):
            return False
        if self._fits is not None:
            tree = {"history": result.history, "fitted": unpack(result.fitted)}
            Slot(self._fits, f"fit-{result.key}/fitted", result.key).put(tree)
        return True

    def attach(self, forecaster: Forecaster, key: str) -> None:
        """Give a forecaster that trains step by step a store for its progress."""
        if self._fits is not None and hasattr(forecaster, "store"):
            forecaster.store = Prefixed(self._fits, f"fit-{key}")
