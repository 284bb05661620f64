"""The ledger of trials: every setting ever tried on a data set is written down, and counts.

One line of JSON a trial, appended in one write and never changed: a process that is killed leaves
at most a last line half written, which is passed over. A trial is known by a fingerprint of data,
settings, versions and splits; the same one is written once, however often it is run.

Searches (``tune``, ``degree``) are judged on the years before the test and studies (``run``) on the
test itself. They may share a file, but each is held against its own kind only.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alphakeel.errors import DataError

__all__ = ["RUNS", "SEARCHES", "TrialLedger", "TrialRecord", "side_by_side", "written"]

Floats = npt.NDArray[np.float64]

# Kinds of trials, by the work that made them.
SEARCHES, RUNS = ("tune", "degree"), ("run",)


@dataclass(frozen=True)
class TrialRecord:
    """One setting, tried once.

    Attributes
    ----------
    key : str
        Fingerprint of data, settings, versions and splits.
    data : str
        `hash_panel` of the data set as handed in.
    source : str
        Which work tried it: ``tune``, ``degree`` or ``run``.
    model : str
        Of a run the portfolio: the model's label, bare or under the overlay.
    params : dict
        What this trial changed, by setting; of a run, what differs from the defaults.
    complete : bool
        False where it was pruned before its last split.
    split_rank_ic : list of float
        Validation Rank IC of each split that was run, in order.
    rank_ic, sharpe : float
        Mean over splits (of a run over its test); annual, of `returns`.
    over : dict of str to float
        Excess over each limit, as a share of the limit; above 0 it was broken.
    first, last : str
        First and last day of `returns`, ISO.
    returns : list of float
        Net simple returns of the book, a day; NaN on days that no split had judged.
    gross_sharpe : float
        Of a run, annual, before costs.
    study, date : str
        Of a run: fingerprint of data, settings and versions, and the day on which it was first
        run, ISO.
    """

    key: str
    data: str
    source: str
    model: str
    params: dict[str, Any]
    complete: bool
    split_rank_ic: list[float]
    rank_ic: float
    sharpe: float
    first: str
    last: str
    returns: list[float] = field(repr=False)
    over: dict[str, float] = field(default_factory=dict)
    gross_sharpe: float = math.nan
    study: str = ""
    date: str = ""


class TrialLedger:
    """Trials in a file of JSON lines.

    Parameters
    ----------
    path : str or Path, optional
        The file; it and its folder are made at the first `add`. None keeps trials in memory only.

    Attributes
    ----------
    unread : int
        Lines of the file that are no trials: what a killed process left half written, or damage.

    Raises
    ------
    DataError
        If the file cannot be read, or no line of it is a trial.

    Examples
    --------
    >>> ledger = TrialLedger()
    >>> record = TrialRecord("k", "d", "tune", "linear", {}, True, [0.1], 0.1, 1.0, "", "", [0.0])
    >>> ledger.add(record), ledger.add(record), ledger.count("d")
    (True, False, 1)
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path).expanduser()
        self.unread = 0
        self._records: dict[str, TrialRecord] = {}
        self._read = 0
        self._refresh()

    def add(self, record: TrialRecord) -> bool:
        """Write a trial down; False if it was there before.

        A trial that had been pruned is written again once it is complete.

        Raises
        ------
        DataError
            If the file cannot be written.
        """
        self._refresh()
        before = self._records.get(record.key)
        if before is not None and (before.complete or not record.complete):
            return False
        self._records[record.key] = record
        if self.path is not None:
            _append(self.path, _encoded(record))
        return True

    def find(self, key: str) -> TrialRecord | None:
        """The complete trial of this fingerprint, if there is one."""
        record = self._records.get(key)
        return record if record is not None and record.complete else None

    def of(self, data: str, kind: Sequence[str] = SEARCHES) -> tuple[TrialRecord, ...]:
        """Every trial of a kind on a data set, in the order in which they were first written."""
        return tuple(r for r in self._records.values() if r.data == data and r.source in kind)

    def count(self, data: str) -> int:
        """Number of different settings ever searched on a data set, pruned ones included."""
        return len(self.of(data))

    def sharpes(self, data: str) -> list[float]:
        """Sharpe ratios of complete searched trials, annual.

        A pruned trial counts, but its Sharpe ratio is that of fewer days: its spread would mislead.
        """
        return [r.sharpe for r in self.of(data) if r.complete and math.isfinite(r.sharpe)]

    def returns(self, data: str) -> Floats:
        """Validation returns of complete searched trials side by side, (n_days, n_trials).

        Of the trials that cover the span of days which most of them share, on the days that all
        of these know.
        """
        complete = [r for r in self.of(data) if r.complete]
        return side_by_side(complete)

    def _refresh(self) -> None:
        """Read what was appended since the last look, by whomever."""
        if self.path is None:
            return
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                text = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise DataError(f"cannot read the trials in {self.path}: {error.strerror}.") from error
        whole = text.rfind(b"\n") + 1
        self._read += whole
        lines = [line for line in text[:whole].splitlines() if line.strip()]
        for line in lines:
            self._take(line)
        if lines and not self._records:
            raise DataError(f"{self.path} is not a file of trials; name another as the ledger.")

    def _take(self, line: bytes) -> None:
        try:
            record = _decoded(line)
        except (ValueError, TypeError, KeyError, RecursionError):
            # What a killed process left half written, closed by the newline of the next trial.
            self.unread += 1
            return
        before = self._records.get(record.key)
        if before is None or record.complete:
            self._records[record.key] = record


def written(returns: Floats) -> list[float]:
    """Returns with the nine digits that the ledger keeps of them.

    Examples
    --------
    >>> written(np.array([0.01234567891234, np.nan]))
    [0.0123456789, nan]
    """
    return [float(f"{r:.9g}") for r in returns]


def side_by_side(records: Sequence[TrialRecord]) -> Floats:
    """Returns of the trials over the span that most share, on days that all of them know."""
    spans: dict[tuple[str, str, int], list[TrialRecord]] = {}
    for record in records:
        spans.setdefault((record.first, record.last, len(record.returns)), []).append(record)
    if not spans:
        return np.empty((0, 0))
    widest = max(spans.values(), key=len)
    matrix = np.array([r.returns for r in widest], dtype=np.float64).T
    return matrix[np.isfinite(matrix).all(axis=1)]


# Numbers of a trial that may not be known.
_NUMBERS = ("rank_ic", "sharpe", "gross_sharpe")


def _append(path: Path, line: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.exists() and not _ends_in_newline(path)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            # One write to a file opened for appending: lines of two processes cannot mix.
            os.write(handle, b"\n" + line if torn else line)
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise DataError(f"cannot write the trial to {path}: {error.strerror}.") from error


def _encoded(record: TrialRecord) -> bytes:
    plain = asdict(record)
    plain["returns"] = [None if math.isnan(r) else r for r in record.returns]
    plain["split_rank_ic"] = [None if math.isnan(r) else r for r in record.split_rank_ic]
    for name in _NUMBERS:
        plain[name] = plain[name] if math.isfinite(plain[name]) else None
    return json.dumps(plain, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _decoded(line: bytes) -> TrialRecord:
    plain = json.loads(line)
    for name in ("returns", "split_rank_ic"):
        plain[name] = [math.nan if r is None else float(r) for r in plain[name]]
    for name in _NUMBERS:
        plain[name] = math.nan if plain.get(name) is None else float(plain[name])
    if not isinstance(plain["key"], str):
        raise TypeError("the key of a trial is text")
    return TrialRecord(**plain)


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
