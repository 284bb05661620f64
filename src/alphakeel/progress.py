"""Progress of a long computation, reported from any thread; and the threads themselves.

A thread cannot be ended from outside. One that goes on computing while the interpreter shuts down
aborts the process, so a failure asks the other threads to end, and waits for them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import joblib

__all__ = [
    "KEPT",
    "CancelledError",
    "Clock",
    "Progress",
    "Task",
    "Tracker",
    "raise_if_cancelled",
    "run_in_threads",
]

T = TypeVar("T")

# The stage of a `Progress` that says how much would outlive the process.
KEPT = "kept"

# Seconds that a failure waits for threads that do not ask whether to end.
_PATIENCE = 10.0


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

    def tell_kept(self, detail: str) -> None:
        """Report what would outlive the process, in words."""
        self._moved(KEPT, 0.0, detail)

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
        raise_if_cancelled()
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


class CancelledError(Exception):
    """Ends a thread whose result nobody wants any more; never seen outside of `run_in_threads`."""


class _Crew:
    """Threads that work for one result: the first failure, and how many are at work."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self.cancelled = False
        self._at_work = 0
        self._changed = threading.Condition()

    def run(self, call: Callable[[], T]) -> T:
        """Run one call in this thread."""
        with self._changed:
            if self.cancelled:
                raise CancelledError
            self._at_work += 1
        before = getattr(_of_thread, "crew", None)
        _of_thread.crew = self
        try:
            return call()
        except BaseException as error:
            self.fail(error)
            raise
        finally:
            _of_thread.crew = before
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Remember the first failure, and ask every thread to end."""
        with self._changed:
            if self.failure is None:
                self.failure = error
            self.cancelled = True

    def wait(self) -> None:
        """Wait until no thread is at work, or patience ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._at_work == 0, _PATIENCE)


_of_thread = threading.local()


def raise_if_cancelled() -> None:
    """End this thread if another one of its `run_in_threads` has failed; cheap, for loops."""
    crew = getattr(_of_thread, "crew", None)
    if crew is not None and crew.cancelled:
        raise CancelledError


def run_in_threads(calls: Iterable[Callable[[], T]], jobs: int) -> list[T]:
    """Results of calls in their order, `jobs` at a time.

    Where one fails, the others end at their next report of progress or `raise_if_cancelled`; they
    are waited for, some seconds at most, and then the first failure is raised.

    Examples
    --------
    >>> run_in_threads([lambda: 1, lambda: 2], jobs=2)
    [1, 2]
    """
    crew, todo = _Crew(), list(calls)
    try:
        parallel = joblib.Parallel(n_jobs=min(jobs, max(1, len(todo))), prefer="threads")
        return list(parallel(joblib.delayed(crew.run)(call) for call in todo))
    except BaseException as error:
        crew.fail(error)
        crew.wait()
        first = crew.failure
        if first is None or first is error or not isinstance(error, Exception):
            raise
        raise first from None
