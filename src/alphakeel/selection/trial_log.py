"""The ledger of trials: every setting ever tried on a data set counts in the selection bias.

One line of JSON a trial, appended in one write and never changed: a killed process leaves at most a
last line half written, which is skipped. The fingerprint of a trial stands for data, settings,
versions and splits; the same trial is written once, however often it is run.

Searches (``tune``, ``degree``) are evaluated on the years before the test, studies (``run``) on the
test itself: whoever runs ten has evaluated on it ten times. A study writes a line for each
portfolio of a model, without and under the overlay; a portfolio that several studies share (the
linear one, where only the network was changed) counts once. Both kinds may share a file, but each
is compared with its own kind only.
"""

from __future__ import annotations

import datetime as dt
import errno
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alphakeel.config import StudyConfig, config_to_dict, fingerprinted
from alphakeel.errors import DataError
from alphakeel.files import regular_file
from alphakeel.model_factory import under_overlay
from alphakeel.models.persistence import fingerprint
from alphakeel.results import Study
from alphakeel.selection.deflation import Deflation, deflate
from alphakeel.stats import performance

__all__ = [
    "RUNS",
    "SEARCHES",
    "TestSetUse",
    "TrialLedger",
    "TrialRecord",
    "record_run",
    "join_returns",
    "rounded_returns",
]

Floats = npt.NDArray[np.float64]

# Kinds of trials, by command.
SEARCHES, RUNS = ("tune", "degree"), ("run",)

# Settings that move no portfolio; the data are known by their hash, not by their place.
_IDLE = ("jobs", "report", "data")


@dataclass(frozen=True)
class TrialRecord:
    """One trial of one setting.

    Attributes
    ----------
    key, data : str
        Fingerprint of data, settings, versions and splits; `hash_panel` of the data.
    source, model : str
        ``tune``, ``degree`` or ``run``; of a run, the label of the portfolio.
    params : dict
        What the trial changed, by setting; of a run, what differs from the defaults.
    complete : bool
        False where it was pruned before its last split.
    split_rank_ic : list of float
        Validation Rank IC of each split that was run.
    rank_ic, sharpe, gross_sharpe : float
        Mean over splits (of a run over its test); annual, net of costs; of a run, before costs.
    over : dict of str to float
        Excess over each limit, as a share of the limit; above 0 it was broken.
    first, last : str
        First and last day of `returns`, ISO.
    returns : list of float
        Net simple daily returns of the portfolio above those of cash; NaN on days that no split
        validated.
    study, date : str
        Of a run: fingerprint of data, settings and versions, and day of the first run, ISO.
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

    The file and its folder are made at the first `add`; without a path trials are in memory only.
    `unread_lines` are the numbers, from 1, of lines that are no trials: half written by a killed
    process, or damaged. The others count.

    Examples
    --------
    >>> ledger = TrialLedger()
    >>> record = TrialRecord("k", "d", "tune", "linear", {}, True, [0.1], 0.1, 1.0, "", "", [0.0])
    >>> ledger.add(record), ledger.add(record), ledger.count("d")
    (True, False, 1)
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path).expanduser()
        self.unread_lines: list[int] = []
        self._n_lines = 0
        self._records: dict[str, TrialRecord] = {}
        self._read = 0
        self._refresh()

    def add(self, record: TrialRecord) -> bool:
        """Append a trial; False if it was there before, and not pruned."""
        self._refresh()
        before = self._records.get(record.key)
        if before is not None and (before.complete or not record.complete):
            return False
        self._records[record.key] = record
        if self.path is not None:
            _append(self.path, _encoded(record))
        return True

    def check_writable(self) -> None:
        """Refuse a ledger that could not be appended to.

        Raises
        ------
        DataError
        """
        if self.path is None:
            return
        place = self.path if self.path.exists() else self.path.parent
        while not place.exists():
            place = place.parent
        if self.path.parent.exists() and not self.path.parent.is_dir():
            reason = os.strerror(errno.ENOTDIR)
        elif not os.access(place, os.W_OK):
            reason = os.strerror(errno.EACCES)
        else:
            return
        raise DataError(f"cannot write the trial to {self.path}: {reason}.")

    def find(self, key: str) -> TrialRecord | None:
        """The complete trial of this fingerprint, or None."""
        record = self._records.get(key)
        return record if record is not None and record.complete else None

    def of(self, data: str, kind: Sequence[str] = SEARCHES) -> tuple[TrialRecord, ...]:
        """Every trial of a kind on a data set, in the order of writing."""
        return tuple(r for r in self._records.values() if r.data == data and r.source in kind)

    def count(self, data: str) -> int:
        """Number of different settings searched on a data set, pruned ones included."""
        return len(self.of(data))

    def sharpes(self, data: str) -> list[float]:
        """Annual Sharpe ratios of complete trials of searches; a pruned one has too few days."""
        return [r.sharpe for r in self.of(data) if r.complete and math.isfinite(r.sharpe)]

    def returns(self, data: str) -> Floats:
        """Validation returns of complete trials of searches, as `join_returns` joins them."""
        return join_returns([r for r in self.of(data) if r.complete])

    def unread_note(self) -> str:
        """Which lines cannot be read, in words; "" if all can."""
        count = len(self.unread_lines)
        if count == 0:
            return ""
        shown = ", ".join(map(str, self.unread_lines[:_SHOWN])) + (", ..." * (count > _SHOWN))
        if count == 1:
            return f"1 line of {self.path} cannot be read and is ignored (line {shown})"
        return f"{count} lines of {self.path} cannot be read and are ignored (lines {shown})"

    def _refresh(self) -> None:
        """Read the lines that any process has appended since the last reading."""
        if self.path is None:
            return
        try:
            with regular_file(self.path).open("rb") as file:
                file.seek(self._read)
                text = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise DataError(f"cannot read the trials in {self.path}: {error.strerror}.") from error
        whole = text.rfind(b"\n") + 1
        self._read += whole
        lines = text[:whole].split(b"\n")[:-1]
        before = len(self.unread_lines)
        for line in lines:
            self._n_lines += 1
            if line.strip():
                self._take(line)
        ours = self._records or any(line.startswith(_BEGINNING) for line in lines)
        if len(self.unread_lines) > before and not ours:
            raise DataError(f"{self.path} is not a file of trials; name another as the ledger.")

    def _take(self, line: bytes) -> None:
        try:
            record = _decoded(line)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            # Half written by a killed process, ended by the newline of the next trial; or damaged.
            self.unread_lines.append(self._n_lines)
            return
        before = self._records.get(record.key)
        if before is None or record.complete:
            self._records[record.key] = record


def rounded_returns(returns: Floats) -> list[float]:
    """Returns rounded to the nine digits that the ledger stores."""
    return [float(f"{r:.9g}") for r in returns]


def join_returns(records: Sequence[TrialRecord]) -> Floats:
    """Returns of the trials over the span that most share, on their common days: (n_days, n)."""
    spans: dict[tuple[str, str, int], list[TrialRecord]] = {}
    for record in records:
        spans.setdefault((record.first, record.last, len(record.returns)), []).append(record)
    if not spans:
        return np.empty((0, 0))
    widest = max(spans.values(), key=len)
    matrix = np.array([r.returns for r in widest], dtype=np.float64).T
    return matrix[np.isfinite(matrix).all(axis=1)]


# Numbers of a trial that may be unknown, and what must be text.
_NUMBERS = ("rank_ic", "sharpe", "gross_sharpe")
_TEXTS = ("key", "data", "source", "model", "first", "last", "study", "date")
# How every line begins: a file without one is no ledger, be it ever so damaged.
_BEGINNING = b'{"key":'
# Most line numbers in a warning.
_SHOWN = 10


def _append(path: Path, line: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.exists() and not _ends_in_newline(path)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            # One write to a file opened for appending: lines of two processes cannot mix.
            text = b"\n" + line if torn else line
            if os.write(handle, text) < len(text):  # half a line, which says nothing of the rest
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
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
    record = TrialRecord(**plain)
    if not all(isinstance(getattr(record, name), str) for name in _TEXTS):
        raise TypeError(f"{', '.join(_TEXTS)} of a trial are text")
    if not (isinstance(record.params, dict) and isinstance(record.complete, bool)):
        raise TypeError("params of a trial is a table, complete is true or false")
    return record


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


@dataclass(frozen=True)
class TestSetUse:
    """How often the test of these data has been evaluated, and the correction for it.

    Attributes
    ----------
    n_studies : int
        Different studies on these data in the ledger, this one included.
    n_portfolios : int
        Different portfolios of models in them: the number of trials of `deflation`.
    n_comparable : int
        Those of them over the same days as this study's.
    best : str
        This study's portfolio of a model with the highest Sharpe ratio, net of costs.
    deflation : Deflation
        Of that Sharpe ratio, by the spread of the comparable ones.
    """

    n_studies: int
    n_portfolios: int
    n_comparable: int
    best: str
    deflation: Deflation

    def describe(self) -> tuple[str, str]:
        """The result in one sentence, and the details in a few."""
        studies = f"{self.n_studies} different studies" if self.n_studies > 1 else "The first study"
        many = self.n_portfolios > 1
        shown = f"{self.n_portfolios} portfolios of models" if many else "1 portfolio of a model"
        value = self.deflation.deflated_sharpe
        known = f"{value:.2f}" if math.isfinite(value) else "not known"
        result = f"the deflated Sharpe ratio of {self.best} is {known}"
        detail = self.deflation.describe()
        if other := self.n_portfolios - self.n_comparable:
            detail.append(
                f"{other} were tested over other days and only add to the number of trials."
            )
        detail.append(
            "The Sharpe ratio is tested against 0, although a portfolio of stocks also earns the "
            "market premium. Only studies in the same ledger are counted."
        )
        return f"{studies} of these data, {shown}: {result}.", " ".join(detail)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None where a number is not known."""
        return {
            "n_studies": self.n_studies,
            "n_portfolios": self.n_portfolios,
            "n_comparable": self.n_comparable,
            "best": self.best,
            "deflation": self.deflation.to_dict(),
        }


def record_run(study: Study, ledger: TrialLedger, *, date: dt.date | None = None) -> TestSetUse:
    """Write a finished study into the ledger, and compare its best portfolio with all there.

    Examples
    --------
    >>> import alphakeel as ak
    >>> panel = ak.load_bundled("synthetic", n_assets=12, n_dates=900, seed=1)
    >>> config = ak.StudyConfig(models=("linear",), report=ak.ReportConfig(n_bootstrap=100))
    >>> ledger = TrialLedger()
    >>> study = ak.run_study(panel, config)
    >>> use = record_run(study, ledger)
    >>> use.n_studies, use.n_portfolios, record_run(study, ledger) == use
    (1, 2, True)
    """
    own = _records(study, (date or dt.date.today()).isoformat())
    for record in own:
        ledger.add(record)
    every = ledger.of(study.data_hash, RUNS)
    different = list({tuple(record.returns): record for record in every}.values())
    best = max(own, key=lambda r: r.sharpe if math.isfinite(r.sharpe) else -math.inf)
    comparable = [
        r
        for r in different
        if (r.first, r.last, len(r.returns)) == (best.first, best.last, len(best.returns))
    ]
    return TestSetUse(
        n_studies=len({record.study for record in every}),
        n_portfolios=len(different),
        n_comparable=len(comparable),
        best=best.model,
        deflation=deflate(
            np.array(best.returns),
            join_returns(comparable),
            n_trials=len(different),
            sharpes=[r.sharpe for r in comparable if math.isfinite(r.sharpe)],
        ),
    )


def _records(study: Study, date: str) -> list[TrialRecord]:
    """A trial for each portfolio of a model: without, then under the overlay."""
    settings, days = config_to_dict(study.config), study.dates[study.test]
    deciding = fingerprinted(settings, without=_IDLE)
    whole = fingerprint(study.data_hash, deciding, study.versions)
    changed = _changed(study.config)
    records = []
    for model in study.models.values():
        correlation = _mean(model.rank_ic)
        for label, ledger in (
            (model.label, study.strategies[model.label]),
            (under_overlay(model.label), study.overlaid[model.label]),
        ):
            records.append(
                TrialRecord(
                    key=fingerprint(whole, label),
                    data=study.data_hash,
                    source=RUNS[0],
                    model=label,
                    params=changed,
                    complete=True,
                    split_rank_ic=[correlation],
                    rank_ic=correlation,
                    sharpe=float(performance.sharpe(ledger.excess_returns)),
                    first=str(days[0]),
                    last=str(days[-1]),
                    returns=rounded_returns(ledger.excess_returns),
                    gross_sharpe=float(performance.sharpe(ledger.gross_returns - ledger.riskless)),
                    study=whole,
                    date=date,
                )
            )
    return records


def _mean(values: npt.NDArray[np.floating[Any]]) -> float:
    """Mean of the finite values; NaN without any."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _changed(config: StudyConfig) -> dict[str, Any]:
    """Settings that are not the defaults, by dotted name."""
    own, defaults = _flat(config_to_dict(config)), _flat(config_to_dict(StudyConfig()))
    return {name: value for name, value in own.items() if value != defaults[name]}


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Sections joined to their keys by a dot."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": item for key, item in value.items()}
        else:
            flat[name] = value
    return flat
