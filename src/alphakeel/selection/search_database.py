"""The file of a search: Optuna's study in SQLite, held by one process at a time.

Optuna stores numbers and JSON there, and nothing is unpickled. But whoever can write the file can
change what the next trial is proposed from, and what counts as the best. So before Optuna opens it,
its kind, size and structure are checked; and before a trial of it is believed, its settings are
held against the space, and its value against the ledger.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from alphakeel.errors import DataError
from alphakeel.files import regular_file
from alphakeel.models.persistence import fingerprint
from alphakeel.selection.cross_validation import CrossValidation
from alphakeel.selection.search_space import Choice, SearchPlan, Space, Span
from alphakeel.selection.trial_log import TrialRecord

__all__ = [
    "STARTUP",
    "check_trials",
    "distribution",
    "is_finished",
    "lock_folder",
    "open_study",
    "plain_database_errors",
    "study_name",
    "value_of",
]

# Trials drawn at random, and never pruned, before anything is learned from them.
STARTUP = 5

# A file beyond these is no search of ours: a trial takes about two kilobytes.
MOST_BYTES, MOST_TRIALS, LONGEST_TEXT = 256 * 2**20, 100_000, 2**16

_FILE = "study.db"
# Columns of text that Optuna reads as JSON, by table.
_TEXTS = {
    "study_user_attributes": "value_json",
    "study_system_attributes": "value_json",
    "trial_user_attributes": "value_json",
    "trial_system_attributes": "value_json",
    "trial_params": "distribution_json",
}


def study_name(key: str, plan: SearchPlan, space: Space) -> str:
    """Name of a search: a fingerprint of all that decides it but the number of trials."""
    parts = [repr(part) for part in space]
    digest = fingerprint(key, plan.objective, plan.pruner, parts)[:12]
    return f"{plan.model}-{plan.objective}-{plan.splitter}-{digest}"


def open_study(
    folder: str | Path | None, name: str, plan: SearchPlan, n_splits: int
) -> optuna.Study:
    """Open the study of this name, or create it; DataError for a file that is no search's."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruners: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(
            min_resource=1, max_resource=n_splits, reduction_factor=2
        ),
        "none": optuna.pruners.NopPruner,
    }
    storage: BaseStorage = InMemoryStorage()
    if folder is not None:
        _check_file(Path(folder) / _FILE)
    try:
        if folder is not None:
            storage = RDBStorage(f"sqlite:///{Path(folder).resolve() / _FILE}")
        return optuna.create_study(
            study_name=name,
            storage=storage,
            direction="maximize",
            pruner=pruners[plan.pruner](),
            load_if_exists=True,
        )
    except Exception as error:  # SQLite and Optuna raise many kinds on a file that is no study
        raise _unusable(Path(folder or "") / _FILE, type(error).__name__) from error


def _check_file(path: Path) -> None:
    """Refuse what is no SQLite file of tables of a bounded size; an absent file is fine."""
    try:
        size = regular_file(path).stat().st_size
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    if size > MOST_BYTES:
        raise _unusable(path, f"it has {size / 2**20:.0f} MiB, more than {MOST_BYTES >> 20}")
    try:
        # As plain text and with no option of its own, whatever its name holds.
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True)) as file:
            file.execute("PRAGMA trusted_schema = OFF")
            fault = _fault_of(file)
    except sqlite3.Error as error:
        raise _unusable(path, str(error)) from error
    if fault:
        raise _unusable(path, fault)


def _fault_of(file: sqlite3.Connection) -> str:
    """What is wrong with a database, in words; "" if it can be handed to Optuna."""
    found = file.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    # A view or trigger would be run by Optuna's own reading and writing.
    odd = [name for kind, name, _ in found if kind not in ("table", "index")]
    odd += [name for _, name, sql in found if str(sql).upper().startswith("CREATE VIRTUAL")]
    if odd:
        return f"it holds {odd[0]!r}, which is no table of a search"
    ((verdict,), *_) = file.execute("PRAGMA quick_check(1)").fetchall()
    if verdict != "ok":
        return f"it is damaged: {str(verdict).splitlines()[0]}"
    tables = {name for kind, name, _ in found if kind == "table"}
    if "trials" in tables:
        (count,) = file.execute("SELECT count(*) FROM trials").fetchone()
        if count > MOST_TRIALS:
            return f"it holds {count} trials, more than {MOST_TRIALS}"
    for table, column in _TEXTS.items():
        if table in tables:
            query = f"SELECT max(length({column})) FROM {table}"  # noqa: S608  (names of ours)
            (longest,) = file.execute(query).fetchone()
            if (longest or 0) > LONGEST_TEXT:
                return f"a text of {longest} characters stands in {table}"
    return ""


def _unusable(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} cannot be used as a search's file ({why}); move it away, or give another folder."
    )


def distribution(part: Choice | Span) -> BaseDistribution:
    """A dimension of the space, as Optuna writes it."""
    if isinstance(part, Choice):
        return CategoricalDistribution(list(part.values))
    if part.whole:
        return IntDistribution(int(part.low), int(part.high), log=part.log)
    return FloatDistribution(part.low, part.high, log=part.log)


def is_finished(trial: FrozenTrial) -> bool:
    """Whether a trial was not killed; one that was is proposed again.

    One that fails has a reason and no key. One with both that is not marked as done was killed in
    between, after it was fitted: the ledger knows its values.
    """
    given = trial.user_attrs
    return "reason" in given and (
        "key" not in given or trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    )


def value_of(record: TrialRecord, plan: SearchPlan) -> float:
    """What a trial is ranked by; 0 where it is not known."""
    value = record.rank_ic if plan.objective == "rank_ic" else record.sharpe
    return value if np.isfinite(value) else 0.0


def check_trials(study: optuna.Study, cv: CrossValidation, space: Space, path: Path) -> None:
    """Refuse a study that holds a trial which no search of this space and ledger has written.

    Raises
    ------
    DataError
        With the number of the trial.
    """
    try:
        trials = study.get_trials(deepcopy=False)
    except Exception as error:  # whatever JSON and Optuna raise on what somebody wrote there
        raise _unusable(path, type(error).__name__) from error
    known = {part.name: distribution(part) for part in space}
    for trial in trials:
        fault = _fault_of_trial(trial, cv, known)
        if fault:
            raise DataError(
                f"trial {trial.number} in {path} was changed, or belongs to another ledger than "
                f"{cv.ledger.path}: {fault}; move the file away, or give the ledger that it was "
                "written with: trials in the ledger are not fitted again."
            )


def _fault_of_trial(
    trial: FrozenTrial, cv: CrossValidation, known: dict[str, BaseDistribution]
) -> str:
    """What no search would have written, in words; "" if there is nothing."""
    for name, own in trial.distributions.items():
        if known.get(name) != own:
            return f"{name} is no setting of this search, or had another range"
    if not is_finished(trial):
        return ""
    if not isinstance(trial.user_attrs["reason"], str):
        return "its reason is no text"
    if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
        return ""
    key = trial.user_attrs.get("key")
    if not isinstance(key, str) or cv.key(dict(trial.params)) != key:
        return "its settings are not those that were fitted"
    record = cv.ledger.find(key)
    if record is None:
        return "" if trial.state == TrialState.PRUNED else "the ledger has no such trial"
    if trial.state == TrialState.COMPLETE and trial.value != value_of(record, cv.plan):
        return f"its value is {trial.value}, and {value_of(record, cv.plan)} in the ledger"
    if cv.plan.objective == "sharpe" and dict(trial.constraints) != _limits(record, trial):
        return "its excess over the limits is not that of the ledger"
    return _fault_of_reports(trial, record, cv.plan)


def _limits(record: TrialRecord, trial: FrozenTrial) -> dict[str, Any]:
    return record.over if trial.state == TrialState.COMPLETE else dict(trial.constraints)


def _fault_of_reports(trial: FrozenTrial, record: TrialRecord, plan: SearchPlan) -> str:
    """Whether the values by which trials are pruned are the means over splits of the ledger."""
    if plan.objective != "rank_ic":
        return ""
    for split, value in trial.intermediate_values.items():
        if not 0 <= split < len(record.split_rank_ic):
            return f"it reports a split {split + 1}, which the ledger does not know"
        expected = float(np.mean(record.split_rank_ic[: split + 1]))
        if not np.isclose(value, expected, rtol=0.0, atol=1e-12, equal_nan=True):
            return f"it reports {value} after split {split + 1}, and the ledger {expected}"
    return ""


@contextmanager
def plain_database_errors(folder: str | Path | None) -> Iterator[None]:
    """Turn what SQLite raises in the middle of a search, on a full disk, into one sentence."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        cause = (
            getattr(error, "orig", None)
            or getattr(error.__cause__, "orig", error.__cause__)
            or error
        )
        raise DataError(
            f"cannot write the search into {folder}/{_FILE}: {cause}; put that right and run "
            "again: it goes on from the trials that were finished."
        ) from error


@contextmanager
def lock_folder(folder: str | Path | None) -> Iterator[None]:
    """Lock the folder for one search; a process that dies releases it."""
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
