"""Keeps memory between training steps, where the C library would hand it back at each one.

A training step allocates and frees the same buffers of some ten megabytes again and again. By
default glibc returns them to the system each time, and every page of them is cleared and mapped
anew at the next step: that was about half of the processor time of an LSTM's training. Torch has
no pool of its own on a CPU.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

__all__ = ["kept_memory"]

MEBIBYTE = 1 << 20
# Names in glibc's malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
# Blocks below 1 GiB come from the heap, which shrinks only when as much lies free at its end, and
# grows by 256 MiB of address space (memory is taken page by page, when it is first used).
WHILE_FITTING = {MMAP_THRESHOLD: 1024, TRIM_THRESHOLD: 1024, TOP_PAD: 256}
# What glibc's own rule tends to in a process that frees large blocks; its starting point, 128 KiB,
# would slow down everything that comes later, for to set a threshold switches the rule off.
AFTERWARDS = {MMAP_THRESHOLD: 32, TRIM_THRESHOLD: 64, TOP_PAD: 0}

_lock = threading.Lock()
_holders = 0


@contextmanager
def kept_memory() -> Iterator[None]:
    """Let the C library keep freed memory for the next step; hand it back when the last one leaves.

    The thresholds are settings of the whole process. They are raised when the first of several
    fits running in threads enters; when the last leaves, what is free goes back to the system and
    the thresholds fall to 32 and 64 MiB, where glibc's own rule would have taken them. They
    concern speed and resident memory, never a result. It has an effect with glibc (Linux) only:
    elsewhere, and with another allocator preloaded, nothing happens. In a thread other than the
    main one, glibc still hands back single buffers above 64 MiB.

    See mallopt(3), https://man7.org/linux/man-pages/man3/mallopt.3.html.

    Examples
    --------
    >>> with kept_memory():
    ...     pass
    """
    global _holders
    with _lock:
        _holders += 1
        if _holders == 1:
            _set(WHILE_FITTING)
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                _set(AFTERWARDS)
                _trim()


def _set(sizes: dict[int, int]) -> None:
    change = _glibc("mallopt")
    if change is not None:
        for name, mebibytes in sizes.items():
            change(name, mebibytes * MEBIBYTE)


def _trim() -> None:
    give_back = _glibc("malloc_trim")
    if give_back is not None:
        give_back(ctypes.c_size_t(0))


def _glibc(name: str) -> Callable[..., int] | None:
    """A function of glibc, or None where the C library is another one."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  (raises where it is not glibc)
        return cast("Callable[..., int]", getattr(library, name))
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library None
        return None
