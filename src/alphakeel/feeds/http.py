"""Answers over HTTP: whole, in time, of the kind that was asked for; or the reason why not."""

from __future__ import annotations

import email.utils
import json
import time
from typing import Any

from alphakeel.feeds.failures import (
    BlockedError,
    ChangedFormatError,
    NotInstalledError,
    UnreachableError,
)

__all__ = ["HttpClient"]

# What pages say that are served in place of data, in any status.
_REFUSALS = (
    "undeclared automated tool",
    "request rate threshold",
    "too many requests",
    "access denied",
    "rate limit",
    "exceeded the daily hits limit",
    "captcha",
    "verify you are human",
    "unusual traffic",
    "temporarily blocked",
)
LARGEST = 256 << 20  # bytes


class HttpClient:
    """A session with one service.

    Parameters
    ----------
    name : str
        Of the service, for messages.
    extra : str
        Extra of pyproject.toml that brings the client library.
    headers : dict
    seconds : float
        Longest time for one answer, however slowly it drips.
    """

    def __init__(
        self, name: str, extra: str, headers: dict[str, str] | None = None, seconds: float = 60.0
    ) -> None:
        try:
            import httpx
        except ImportError as error:
            raise NotInstalledError(name, extra) from error
        self._httpx, self._name, self._seconds = httpx, name, seconds
        self._client = httpx.Client(
            headers=headers, timeout=min(seconds, 30.0), follow_redirects=True
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def text(self, url: str, **params: str) -> str | None:
        """Text of an answer; None where the service has nothing under this address (404)."""
        return self._text(url, params, None)

    def _text(self, url: str, params: dict[str, str], post: Any) -> str | None:
        """Text of an answer that is no web page."""
        body, kind = self._read(url, params, post)
        if body is None:
            return None
        text = body.decode("utf-8-sig", errors="replace")
        if "html" in kind or text.lstrip()[:1] == "<":
            raise self._page(text, url)
        if any(refusal in text[:400].lower() for refusal in _REFUSALS):
            raise BlockedError(
                f"{self._name} refuses to answer: {_short(text)}; wait, and ask less."
            )
        return text

    def json(self, url: str, *, post: Any = None, **params: str) -> Any:
        """JSON of an answer; None where the service has nothing under this address (404).

        `post` is sent as JSON, where the service wants that.
        """
        text = self._text(url, params, post)
        if text is None:
            return None
        try:
            return json.loads(text)
        except ValueError as error:
            if text.lstrip()[:1] in ("{", "["):
                raise UnreachableError(
                    f"{self._name} cut its answer off after {len(text)} characters."
                ) from error
            raise ChangedFormatError(
                f"{self._name} answered {_short(text)} where JSON is expected."
            ) from error

    def _read(self, url: str, params: dict[str, str], post: Any) -> tuple[bytes | None, str]:
        """Body and content type, read to the end within the time."""
        started = time.monotonic()
        method = "GET" if post is None else "POST"
        try:
            with self._client.stream(method, url, params=params or None, json=post) as answer:
                pieces, size = [], 0
                for piece in answer.iter_bytes():
                    pieces.append(piece)
                    size += len(piece)
                    if time.monotonic() - started > self._seconds:
                        raise UnreachableError(
                            f"{self._name} took more than {self._seconds:g} s for one answer."
                        )
                    if size > LARGEST:
                        raise ChangedFormatError(
                            f"{self._name} sends more than {LARGEST >> 20} MiB."
                        )
        except (self._httpx.HTTPError, self._httpx.StreamError) as error:
            text = " ".join(str(error).split())[:120] or type(error).__name__
            raise UnreachableError(f"{self._name} cannot be reached: {text}.") from error
        body = b"".join(pieces)
        self._refuse_status(answer.status_code, answer.headers, body)
        kind = answer.headers.get("content-type", "").lower()
        return (None if answer.status_code == 404 else body), kind

    def _refuse_status(self, status: int, headers: Any, body: bytes) -> None:
        """Turn a status into the failure that it stands for."""
        if status == 404 or 200 <= status < 300:
            return
        said = _short(body[:2000].decode("utf-8", errors="replace"))
        if status in (401, 403, 429):
            wait = _seconds_of(headers.get("retry-after"))
            raise BlockedError(
                f"{self._name} refuses us (HTTP {status}): {said}; wait, ask less, and check the "
                "contact or key.",
                retry_after=wait,
            )
        if status >= 500 or status == 408:
            raise UnreachableError(f"{self._name} is in trouble (HTTP {status}): {said}.")
        raise ChangedFormatError(f"{self._name} answers HTTP {status}: {said}.")

    def _page(self, text: str, url: str) -> BlockedError | ChangedFormatError:
        """Tell a refusal from a change, where a web page came and data was expected."""
        if any(refusal in text.lower() for refusal in _REFUSALS):
            return BlockedError(f"{self._name} shows a page instead of data: {_short(text)}.")
        where = url.split("?")[0]
        return ChangedFormatError(
            f"{self._name} answers {where} with a web page: {_short(text)}; its address or format "
            "has changed."
        )


def _short(text: str) -> str:
    """The words of a page or message, on one line."""
    words, inside = [], False
    for character in text[:2000]:
        if character in "<>":
            inside = character == "<"
            words.append(" ")
        elif not inside:
            words.append(character if character.isprintable() else " ")
    line = " ".join("".join(words).split())
    return repr(line[:80]) if line else "an empty answer"


def _seconds_of(stated: str | None) -> float | None:
    """Seconds of a Retry-After header, in either of its forms."""
    if not stated:
        return None
    try:
        return max(0.0, float(stated))
    except ValueError:
        moment = email.utils.parsedate_to_datetime(stated) if "," in stated else None
        return None if moment is None else max(0.0, moment.timestamp() - time.time())
