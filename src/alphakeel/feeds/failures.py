"""Why a feed gave nothing, told apart: what can be tried again, what ends the work, what is so."""

from __future__ import annotations

from dataclasses import dataclass

from alphakeel.errors import DataError

__all__ = [
    "BlockedError",
    "ChangedFormatError",
    "FeedError",
    "Missing",
    "NoDataError",
    "NotInstalledError",
    "NotListedError",
    "UnreachableError",
    "WrongDataError",
]


class FeedError(DataError):
    """A feed did not give what it was asked for; the message says what, and what to do."""

    reason = "failed"


class UnreachableError(FeedError):
    """No whole answer: no connection, too slow, cut off, an error of the server. Tried again."""

    reason = "unreachable"


class BlockedError(FeedError):
    """The feed refuses us: too many requests, a ban, no right. Asking on would make it worse."""

    reason = "blocked"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotListedError(FeedError):
    """The feed does not know this ticker: delisted long ago, renamed or misspelt."""

    reason = "not listed"


class NoDataError(FeedError):
    """The ticker is known, and has nothing between the dates."""

    reason = "empty"


class ChangedFormatError(FeedError):
    """The answer is not built as it was: a page for JSON, a column renamed, a code unknown."""

    reason = "changed format"


class WrongDataError(FeedError):
    """The answer is built as it should be, and its values cannot be right."""

    reason = "wrong data"


class NotInstalledError(FeedError):
    """The client library of a source is missing."""

    reason = "not installed"

    def __init__(self, source: str, extra: str) -> None:
        super().__init__(
            f"{source} needs a client that is not installed: pip install 'alphakeel[{extra}]'."
        )


@dataclass(frozen=True)
class Missing:
    """What was asked for and is not there."""

    ticker: str
    what: str  # "bars", "fundamentals", ...
    reason: str  # `FeedError.reason`, or "not asked" after the work had to end
    message: str  # one sentence
