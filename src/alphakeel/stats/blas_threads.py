"""One thread for matrix products: many small ones are quicker so, and repeat to the bit.

Threads that share a small product wait for each other longer than they work, the more so beside
other work; and the last bits of a sum depend on the number of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

__all__ = ["one_blas_thread"]

# The number of BLAS threads is a setting of the process: two blocks at once would put back each
# other's.
_lock = threading.RLock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Give BLAS one thread until the block ends; one such block runs at a time."""
    with _lock, threadpool_limits(limits=1, user_api="blas"):
        yield
