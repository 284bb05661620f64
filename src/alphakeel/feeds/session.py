"""Asking a feed for many stocks: one at a time, throttled, tried again, resumed, accounted for."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from alphakeel.data.staging import Staging
from alphakeel.feeds.base import Pace, Tables
from alphakeel.feeds.failures import (
    BlockedError,
    ChangedFormatError,
    FeedError,
    Missing,
    NoDataError,
    NotListedError,
    UnreachableError,
)

__all__ = ["SessionClock", "Session"]

# So many failures of one kind in a row are the service's, not the stocks'.
GIVE_UP_AFTER = 3


@dataclass(frozen=True)
class SessionClock:
    """The time, and waiting: replaced in tests."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    today: Callable[[], dt.date] = dt.date.today


@dataclass
class Session:
    """One worker that asks a service at its pace.

    Parameters
    ----------
    pace : Pace
    clock : SessionClock
    on_progress : callable, optional
        Called with the finished share (0 to 1) and a line of text.
    """

    pace: Pace
    clock: SessionClock = field(default_factory=SessionClock)
    on_progress: Callable[[float, str], None] | None = None
    requests: int = 0
    _last: float = field(default=float("-inf"), repr=False)

    def ask(self, function: Callable[[], Tables]) -> Tables:
        """One request: not sooner than the pace allows, and again after a failure that may pass.

        The wait doubles from try to try; a service that states one is obeyed, up to the longest.
        """
        wait = self.pace.first_wait
        for attempt in range(1, self.pace.tries + 1):
            self._throttle()
            self.requests += 1
            try:
                return function()
            except (UnreachableError, BlockedError) as error:
                if attempt == self.pace.tries:
                    raise
                stated = getattr(error, "retry_after", None) or 0.0
                if stated > self.pace.longest_wait:
                    raise
                self.clock.sleep(min(max(wait, stated), self.pace.longest_wait))
                wait *= 2.0
        raise AssertionError("a pace allows at least one try")

    def collect(
        self,
        items: Sequence[str],
        fetch: Callable[[str], Tables],
        staging: Staging,
        what: str,
        *,
        may_come: bool = False,
    ) -> list[Missing]:
        """Ask for every item that is not there yet, and keep each answer at once.

        That there is none is kept, too, unless it `may_come` later.

        Returns what is missing afterwards. The work ends early when the service blocks us, cannot
        be reached or answers in a new format several times in a row: what was not asked for then
        is missing, too, and the next call goes on there.
        """
        missing: list[Missing] = []
        started, asked = self.clock.now(), 0
        row: list[str] = []
        end: FeedError | None = None
        for position, item in enumerate(items):
            name = f"{what}/{item}"
            if name in staging.done:
                if staging.done[name] != "ok":
                    missing.append(Missing(item, what, *_known(staging.done[name])))
                continue
            if end is not None:
                missing.append(Missing(item, what, "not asked", f"after: {end}"))
                continue
            asked += 1
            try:
                staging.add(name, self.ask(partial(fetch, item)))
                row.clear()
            except FeedError as error:
                missing.append(Missing(item, what, error.reason, str(error)))
                if isinstance(error, (NoDataError, NotListedError)) and not may_come:
                    staging.add(name, {}, f"{error.reason}: {error}")
                    row.clear()
                    continue
                row.append(error.reason)
                same = row[-GIVE_UP_AFTER:] == [error.reason] * GIVE_UP_AFTER
                if isinstance(error, BlockedError) or (
                    same and isinstance(error, (UnreachableError, ChangedFormatError))
                ):
                    end = error
            self._report(position + 1, len(items), asked, started, what, item)
        return missing

    def _throttle(self) -> None:
        """Wait until the pace allows the next request."""
        early = self._last + self.pace.interval - self.clock.now()
        if early > 0:
            self.clock.sleep(early)
        self._last = self.clock.now()

    def _report(
        self, done: int, total: int, asked: int, started: float, what: str, item: str
    ) -> None:
        """Tell how far it is, how quick, and how much time is left."""
        if self.on_progress is None:
            return
        spent = max(self.clock.now() - started, 1e-9)
        left = (total - done) * spent / asked
        rate = 60.0 * asked / spent
        text = f"{what} {done} of {total}, {rate:.0f} a minute, {left / 60:.0f} min left ({item})"
        self.on_progress(done / total, text)


def _known(outcome: str) -> tuple[str, str]:
    """Reason and message of an outcome that an earlier fetch has kept."""
    reason, _, message = outcome.partition(": ")
    return reason, message
