"""Progress of a long computation, reported from any thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Clock", "Progress", "Task", "Tracker"]


@dataclass(frozen=True)
class Progress:
    """Where a running study stands.

    Attributes
    ----------
    stage : str
        What is being done, in words.
    share : float
        Finished share of the whole work, 0 to 1; it never falls.
    detail : str
        Fold, seed, step and loss, where there are any.
    """

    stage: str
    share: float
    detail: str = ""


class Tracker:
    """Adds up the progress of tasks that may run at the same time.

    Parameters
    ----------
    listener : callable, optional
        Called with a `Progress`, one call at a time. None: not reported.
    total : float
        All work, in any unit.

    Examples
    --------
    >>> tracker = Tracker(lambda p: print(p.stage, round(p.share, 2)), total=4)
    >>> with tracker.task("clean", 1):
    ...     pass
    clean 0.0
    clean 0.25
    """

    def __init__(self, listener: Callable[[Progress], None] | None, total: float) -> None:
        self._listener = listener
        self._total = total
        self._done = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def task(self, stage: str, units: float, detail: str = "") -> Iterator[Task]:
        """Run a piece of work of so many `units`; whatever it reports, it ends with all of them."""
        task = Task(self, stage, units, detail)
        task.at(0.0)
        yield task
        task.at(1.0)

    def _moved(self, stage: str, units: float, detail: str) -> None:
        with self._lock:
            self._done += units
            if self._listener is not None:
                self._listener(Progress(stage, min(1.0, self._done / self._total), detail))


class Task:
    """One piece of work; made by `Tracker.task`."""

    def __init__(self, tracker: Tracker, stage: str, units: float, detail: str) -> None:
        self._tracker = tracker
        self._stage = stage
        self._units = units
        self._detail = detail
        self._share = 0.0

    def at(self, share: float, detail: str = "") -> None:
        """Report the finished share of this task; a smaller one than before counts as none."""
        gained = max(0.0, share - self._share)
        self._share += gained
        text = ", ".join(part for part in (self._detail, detail) if part)
        self._tracker._moved(self._stage, gained * self._units, text)


class Clock:
    """Wall seconds by stage, in the order in which the stages ended."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; a name used twice adds up."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
