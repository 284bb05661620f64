"""CPU seconds and peak memory of this process, the same way for us and for every peer.

Standard library only: peers import it in environments that hold nothing else of ours.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable


def best_cpu_seconds(
    work: Callable[[], object], *, repeats: int = 3, warm_up: bool = True
) -> float:
    """Least CPU time (user and system, all threads) of `repeats` runs, after one to warm up."""
    if warm_up:
        work()
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
