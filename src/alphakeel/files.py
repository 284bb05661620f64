"""What may be opened: regular files, and nothing that waits for a writer or never ends.

Readers turn an `OSError` into one sentence with its `strerror`; what is refused here is one, too.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["regular_file"]

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
