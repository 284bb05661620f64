"""The journal: every decision in a file of its own, written once and never changed.

``live/<run>/journal/<strategy>/<day>.json`` holds one decision with its SHA-256. A file appears
under its name when it is whole, and only if there is none yet: whatever ends a process at whatever
moment, the journal has no half a decision and no two for one day. What was decided first stands.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alphakeel.errors import DataError
from alphakeel.files import regular_file, slug, write_once
from alphakeel.live.decision import DailyDecision
from alphakeel.storage.checkpoints import checksum

__all__ = ["Entry", "Journal"]

FORMAT = "alphakeel decision"
FORMAT_VERSION = 1
# Days after the decision on which it may be written and still count as made at the time.
IN_TIME = 7


@dataclass(frozen=True)
class Entry:
    """One decision of the journal.

    Attributes
    ----------
    decision : dict
        As `DailyDecision.to_dict` gives it.
    written : datetime64[D]
        The day on which it was written.
    """

    decision: dict[str, Any]
    written: np.datetime64

    @property
    def day(self) -> np.datetime64:
        """The last day of the data that it was made on."""
        return np.datetime64(self.decision["day"], "D")

    @property
    def decided(self) -> np.datetime64:
        """The day of the decision in force then."""
        return np.datetime64(self.decision["decided"], "D")

    @property
    def weights(self) -> dict[str, float]:
        """Target weights by ticker."""
        return {row["ticker"]: row["weight"] for row in self.decision["targets"]}

    @property
    def scores(self) -> dict[str, float]:
        """Scores by ticker."""
        return dict(self.decision["scores"])

    @property
    def in_hindsight(self) -> bool:
        """Whether it was written long after its day."""
        return bool((self.written - self.day).astype(int) > IN_TIME)


class Journal:
    """The decisions of a run, in a folder.

    Parameters
    ----------
    folder : str or Path
        Made when the first decision is written.

    Examples
    --------
    >>> Journal("no/such/folder").strategies()
    ()
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def record(self, decision: DailyDecision, written: dt.date) -> str:
        """Write a decision; the one of that day and strategy that is there already stays.

        Returns
        -------
        str
            Empty, or in one sentence how the decision differs from the one that is there.

        Raises
        ------
        DataError
            If it cannot be written, or the one that is there is damaged.
        """
        content: dict[str, Any] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "written": written.isoformat(),
            "decision": decision.to_dict(),
        }
        content["sha256"] = checksum(content)
        path = self._path(decision.strategy, decision.day)
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if write_once(path, text.encode()):
                return ""
        except OSError as error:
            raise DataError(f"cannot write the journal {path}: {error.strerror}.") from error
        return _difference(_read(path), decision)

    def strategies(self) -> tuple[str, ...]:
        """Labels of the strategies that have decisions."""
        if not self.folder.is_dir():
            return ()
        firsts = (sorted(place.glob("*.json")) for place in sorted(self.folder.iterdir()))
        return tuple(_read(files[0]).decision["strategy"] for files in firsts if files)

    def entries(self, strategy: str) -> tuple[Entry, ...]:
        """Every decision of a strategy, in order of its days; DataError if one is damaged."""
        return tuple(_read(path) for path in sorted((self.folder / slug(strategy)).glob("*.json")))

    def _path(self, strategy: str, day: np.datetime64) -> Path:
        return self.folder / slug(strategy) / f"{day}.json"


def _difference(there: Entry, decision: DailyDecision) -> str:
    """How a decision differs from the one of its day that was written first."""
    before, now = there.weights, decision.weights
    if before == now:
        return ""
    names = sorted({*before, *now})
    most = max(names, key=lambda name: abs(before.get(name, 0.0) - now.get(name, 0.0)))
    return (
        f"the journal has another decision of {decision.day} for {decision.strategy}, written on "
        f"{there.written}: {most} weighs {before.get(most, 0.0):.2%} there and "
        f"{now.get(most, 0.0):.2%} now (the data or the fits have changed since); the first stands."
    )


def _read(path: Path) -> Entry:
    try:
        content: Mapping[str, Any] = json.loads(regular_file(path).read_text(encoding="utf-8"))
        body = {name: value for name, value in content.items() if name != "sha256"}
        if content["format_version"] != FORMAT_VERSION or content["format"] != FORMAT:
            raise DataError(
                f"{path} is of format {content['format_version']}, and this version of alphakeel "
                f"reads {FORMAT_VERSION}: read it with the version that wrote it."
            )
        if content["sha256"] != checksum(body):
            raise DataError(
                f"{path} was changed after it was written: its checksum differs; restore it from a "
                "copy, or move it away."
            )
        return Entry(dict(content["decision"]), np.datetime64(content["written"], "D"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} is no decision that alphakeel wrote ({error}); move it away."
        ) from error
