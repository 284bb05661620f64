"""One writer at a time: a lock on a folder that names its owner and since when.

The lock belongs to the open file, so that it ends with the process that holds it, killed or not.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alphakeel.errors import DataError

__all__ = ["LOCK", "write_lock"]

LOCK = ".lock"


@contextmanager
def write_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; refused in one sentence where another process has it."""
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DataError(
            f"the store {folder} cannot be written ({error.strerror}): name another folder, or get "
            "the right to write there."
        ) from error
    try:
        if not _locked(handle):
            raise DataError(_refusal(folder))
        owner = {
            "pid": os.getpid(),
            "host": platform.node(),
            "since": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        }
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(owner).encode(), 0)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    """Try to lock an open file; the system lets go of it when the process ends."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _refusal(folder: Path) -> str:
    """Who holds the lock, and for how long."""
    try:
        owner = json.loads((folder / LOCK).read_text(encoding="utf-8"))
        age = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(owner["since"])
        minutes = int(age.total_seconds() // 60)
        who = f"process {owner['pid']} on {owner['host']}, for {minutes} minutes"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process"
    return (
        f"the store {folder} is being written by {who}: wait for it, or stop it (reading is free)."
    )
