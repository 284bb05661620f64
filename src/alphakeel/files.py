"""What may be opened, and how files are written: whole or not at all.

Read are regular files, and nothing that waits for a writer or never ends. Readers turn an `OSError`
into one sentence with its `strerror`; what is refused here is one, too.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alphakeel.errors import DataError

__all__ = ["folder_all_or_nothing", "regular_file", "slug", "write_atomically", "write_once"]

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def regular_file(path: Path) -> Path:
    """The path, if it leads to a regular file; links are followed.

    Raises
    ------
    OSError
        If it leads nowhere or to something else, with what that is as `strerror`; for a folder
        in the system's own words.

    Examples
    --------
    >>> regular_file(Path("."))
    Traceback (most recent call last):
    IsADirectoryError: [Errno 21] Is a directory: '.'
    """
    kind = stat.S_IFMT(os.stat(path).st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if kind != stat.S_IFREG:
        named = _KINDS.get(kind, "no file")
        text = f"it is {named}, and only regular files are read"
        raise OSError(errno.EINVAL, text, str(path))
    return path


def write_atomically(path: Path, data: bytes, *, durable: bool) -> None:
    """Write a file whole or not at all; `durable` waits until it would survive a power cut."""
    _clear_leftovers(path.parent)
    handle, scratch = tempfile.mkstemp(prefix=_scratch("writing"), dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def write_once(path: Path, data: bytes) -> bool:
    """Write a file whole, unless there is one: False then. It survives a power cut.

    Of several processes that write the same file at once, one does.
    """
    _clear_leftovers(path.parent)
    handle, scratch = tempfile.mkstemp(prefix=_scratch("writing"), dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(scratch, 0o644)
        try:
            os.link(scratch, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            if path.exists():
                return False
            os.replace(scratch, path)
        return True
    finally:
        Path(scratch).unlink(missing_ok=True)


def _here() -> str:
    """Host and, on Linux, namespace: where a process id stands for one process."""
    host = re.sub(r"[^A-Za-z0-9.]", "_", platform.node())
    # Two containers may share a host's name and a folder, and number their processes alike.
    space = Path("/proc/self/ns/pid")
    return f"{host}-{space.stat().st_ino if space.exists() else 0}"


def _scratch(doing: str) -> str:
    """How the name of a scratch file or folder of this process begins."""
    return f".{doing}-{_here()}-{os.getpid()}-"


def _clear_leftovers(folder: Path) -> None:
    """Clear what killed processes of this host were writing into a folder.

    What another host, or a process that is alive, is writing stays.
    """
    if os.name != "posix":  # elsewhere signal 0 ends the process that it asks for
        return
    ours = re.compile(rf"\.(writing|saving|old)-{re.escape(_here())}-([0-9]{{1,9}})-[a-z0-9_]+")
    with suppress(OSError):  # another process clears it, too, or it may not be listed
        for name in os.listdir(folder):
            match = ours.fullmatch(name)
            if match is None or _is_alive(int(match[2])):
                continue
            if match[1] == "writing":
                (folder / name).unlink(missing_ok=True)
                continue
            if match[1] == "old":
                _put_back(folder / name)
            shutil.rmtree(folder / name, ignore_errors=True)


def _put_back(old: Path) -> None:
    """Give what was put aside its name again, if nothing else has it."""
    for path in old.iterdir():
        target = old.parent / path.name
        if not target.exists():
            os.replace(path, target)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is another user's
    return True


@contextmanager
def folder_all_or_nothing(target: Path, what: str) -> Iterator[Path]:
    """A folder to fill, which is given its name when it is whole.

    Whatever ends the process, there is no half a folder under that name, and one that has it
    already stays until the new one is whole. What killed processes left beside it is cleared.

    Raises
    ------
    DataError
        If it cannot be written; `what` says of what it is.
    """
    root = target.parent
    try:
        root.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(root)
        scratch = Path(tempfile.mkdtemp(prefix=_scratch("saving"), dir=root))
    except OSError as error:
        raise DataError(f"cannot write {what} into {root}: {error.strerror}.") from error
    try:
        yield scratch
        scratch.chmod(0o755)
        _put_in_place(scratch, target)
    except OSError as error:
        raise DataError(f"cannot write {what} into {target}: {error.strerror}.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _put_in_place(scratch: Path, target: Path) -> None:
    """Give a folder its name; what has that name is put aside, and back if anything fails."""
    if not target.exists():
        os.replace(scratch, target)
        return
    old = Path(tempfile.mkdtemp(prefix=_scratch("old"), dir=target.parent))
    try:
        os.replace(target, old / target.name)
        os.replace(scratch, target)
    finally:
        if not target.exists():
            os.replace(old / target.name, target)
        shutil.rmtree(old, ignore_errors=True)


def slug(label: str) -> str:
    """A label as part of a file's name.

    Examples
    --------
    >>> slug("LSTM + overlay")
    'lstm___overlay'
    """
    return "".join(c if c.isalnum() else "_" for c in label.lower())
