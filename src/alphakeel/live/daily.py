"""The daily job: one at a time, and nothing twice on data that have not changed."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from alphakeel.errors import AlphakeelError, ConfigError, DataError
from alphakeel.files import write_atomically
from alphakeel.storage.checkpoints import checksum
from alphakeel.storage.saved_runs import SavedRun

__all__ = ["LockedError", "locked", "read_state", "run_update", "state_key", "write_state"]

LOCK, STATE = "daily.lock", "daily.json"


class LockedError(AlphakeelError):
    """Another process is doing the job."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Do the job alone: the lock names its owner, and ends with the process, however it ends.

    Raises
    ------
    LockedError
        If another process holds it, with who and since when.
    DataError
        If the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write into {folder}: {error.strerror}.") from error
    with file:
        if not _take(file):
            raise LockedError(f"the daily job of {folder} is being done by {_owner(file)}.")
        file.seek(0)
        file.truncate()
        owner = {"host": platform.node(), "process": os.getpid(), "since": _now()}
        file.write(json.dumps(owner))
        file.flush()
        yield


def _take(file: IO[str]) -> bool:
    """Lock an open file; False if another process has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _owner(file: IO[str]) -> str:
    """Who holds the lock, and for how long."""
    file.seek(0)
    try:
        owner = json.loads(file.read())
        since = dt.datetime.fromisoformat(owner["since"])
        minutes = (dt.datetime.now(dt.UTC) - since).total_seconds() / 60.0
        return f"process {owner['process']} on {owner['host']}, for {minutes:.0f} minutes"
    except (ValueError, KeyError, TypeError):
        return "another process"


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def state_key(run: SavedRun, source: str, options: Mapping[str, Any]) -> str:
    """What the job depends on: the files of the data by size and time, the run, the options.

    Bundled data and a folder alike; the day of the calendar is among the options where it matters.
    """
    place = Path(source)
    files: list[Path] = []
    if place.is_dir():
        files = sorted(path for path in place.rglob("*") if path.is_file())
    elif place.is_file():
        files = [place]
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return checksum(
        {"files": [list(map(str, one)) for one in stats], "source": source, "run": run.sums}
        | {name: str(value) for name, value in options.items()}
    )


def read_state(folder: Path) -> dict[str, Any]:
    """What the last job left: its key, page, sentence and exit code; empty if there was none."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Remember a finished job."""
    text = json.dumps(dict(state), indent=1, ensure_ascii=False)
    try:
        write_atomically(folder / STATE, text.encode(), durable=True)
    except OSError as error:
        raise DataError(f"cannot write {folder / STATE}: {error.strerror}.") from error


def run_update(command: str) -> None:
    """Run the user's own command that brings newer data, without a shell.

    Raises
    ------
    ConfigError
        If there is no such command.
    DataError
        If it fails, with its exit code.
    """
    words = shlex.split(command)
    if not words:
        raise ConfigError("--update is empty: give a command that brings newer data.")
    try:
        done = subprocess.run(words, check=False)  # noqa: S603  (the user's own command)
    except OSError as error:
        raise ConfigError(f"--update cannot run {words[0]}: {error.strerror}.") from error
    if done.returncode:
        raise DataError(
            f"--update: {words[0]} ended with exit code {done.returncode}; nothing was decided."
        )
