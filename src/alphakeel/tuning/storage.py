"""Where a search is kept: Optuna's study in an SQLite file, held by one search at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage

from alphakeel.errors import DataError
from alphakeel.models.state import fingerprint
from alphakeel.tuning.plan import SearchPlan
from alphakeel.tuning.space import Space

__all__ = ["STARTUP", "alone", "open_study", "study_name"]

# Trials drawn at random, and never pruned, before anything is learned from them.
STARTUP = 5


def study_name(key: str, plan: SearchPlan, space: Space) -> str:
    """The same search, the same name: whatever decides it is in it, the number of trials apart."""
    parts = [repr(part) for part in space]
    mark = fingerprint(key, plan.objective, plan.pruner, parts)[:12]
    return f"{plan.model}-{plan.objective}-{plan.splitter}-{mark}"


def open_study(
    folder: str | Path | None, name: str, plan: SearchPlan, n_splits: int
) -> optuna.Study:
    """Open the study of this name, or begin it.

    Raises
    ------
    DataError
        If the file is there but is no study.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruners: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(
            min_resource=1, max_resource=n_splits, reduction_factor=2
        ),
        "none": optuna.pruners.NopPruner,
    }
    storage: BaseStorage = InMemoryStorage()
    try:
        if folder is not None:
            storage = RDBStorage(f"sqlite:///{Path(folder).resolve() / 'study.db'}")
        return optuna.create_study(
            study_name=name,
            storage=storage,
            direction="maximize",
            pruner=pruners[plan.pruner](),
            load_if_exists=True,
        )
    except Exception as error:  # whatever the libraries below make of a file that is no study
        raise DataError(
            f"{folder}/study.db cannot be used as a search's file ({type(error).__name__}); move "
            "it away, or give another folder."
        ) from error


@contextmanager
def alone(folder: str | Path | None) -> Iterator[None]:
    """Hold the folder for one search; a process that dies lets go of it."""
    if folder is None:
        yield
        return
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = sqlite3.connect(folder / ".lock", timeout=0.0, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise DataError(f"cannot use the folder {folder} for the search: {error}.") from error
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        lock.close()
        raise DataError(
            f"another search is at work in {folder}; wait for it, or give another folder."
        ) from error
    try:
        yield
    finally:
        lock.close()
