"""The ledger of trials: every setting ever tried on a data set is written down, and counts.

One line of JSON a trial, appended in one write and never changed: a process that is killed leaves
at most a last line half written, which is passed over. A trial is known by a fingerprint of data,
settings, versions and splits; the same one is written once, however often it is run.

Searches (``tune``, ``degree``) are judged on the years before the test and studies (``run``) on the
test itself. They may share a file, but each is held against its own kind only.

Studies count as trials too: whoever runs ten on the same data has looked at its test ten times.

Every finished study is written into the ledger of trials, one line for each portfolio of a model,
bare and under the overlay. A study is known by a fingerprint of data, settings and versions, so
that the same one counts once, however often it is run; a portfolio that several studies share (the
linear one, where only the network was changed) is one portfolio.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from alphakeel.config import StudyConfig, config_to_dict
from alphakeel.errors import DataError
from alphakeel.model_factory import under_overlay
from alphakeel.models.persistence import fingerprint
from alphakeel.results import Study
from alphakeel.selection.deflation import Luck, luck_of
from alphakeel.stats import performance

__all__ = [
    "RUNS",
    "SEARCHES",
    "Seen",
    "TrialLedger",
    "TrialRecord",
    "record_run",
    "side_by_side",
    "written",
]

Floats = npt.NDArray[np.float64]

# Kinds of trials, by the work that made them.
SEARCHES, RUNS = ("tune", "degree"), ("run",)

# Settings that move no portfolio; where the data lie is not what they are.
_IDLE = ("jobs", "report", "data")


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


@dataclass(frozen=True)
class Seen:
    """How often the test of these data has been looked at, and what that leaves of the best.

    Attributes
    ----------
    n_studies : int
        Different studies on these data in the ledger, this one included.
    n_portfolios : int
        Different portfolios of models that they have shown; `luck` deflates by this number.
    n_comparable : int
        Those of them over the same days as this study's.
    best : str
        This study's portfolio of a model with the highest Sharpe ratio, net of costs.
    luck : Luck
        What that Sharpe ratio is worth. The spread among trials is that of comparable ones.
    """

    n_studies: int
    n_portfolios: int
    n_comparable: int
    best: str
    luck: Luck

    def in_words(self) -> tuple[str, str]:
        """What was found in one sentence, and what stands behind it in a few."""
        studies = f"{self.n_studies} different studies" if self.n_studies > 1 else "The first study"
        many = self.n_portfolios > 1
        shown = f"{self.n_portfolios} portfolios of models" if many else "1 portfolio of a model"
        value = self.luck.deflated_sharpe
        known = f"{value:.2f}" if math.isfinite(value) else "not known"
        found = f"the deflated Sharpe ratio of {self.best} is {known}"
        detail = self.luck.in_words()
        if other := self.n_portfolios - self.n_comparable:
            detail.append(f"{other} were tested over other days and only add to the number.")
        detail.append(
            "The Sharpe ratio is held against 0: a portfolio of stocks earns the market's premium "
            "besides. Only studies in the same ledger are known."
        )
        return f"{studies} of these data, {shown}: {found}.", " ".join(detail)

    def plain(self) -> dict[str, Any]:
        """Plain values, None where a number is not known."""
        return {
            "n_studies": self.n_studies,
            "n_portfolios": self.n_portfolios,
            "n_comparable": self.n_comparable,
            "best": self.best,
            "luck": self.luck.plain(),
        }


def record_run(study: Study, ledger: TrialLedger, *, date: dt.date | None = None) -> Seen:
    """Write a finished study into the ledger, and weigh its best portfolio against all there.

    Parameters
    ----------
    study : Study
    ledger : TrialLedger
    date : date, optional
        The day of the run; today by default.

    Returns
    -------
    Seen

    Raises
    ------
    DataError
        If the ledger cannot be read or written.

    Examples
    --------
    >>> import alphakeel as ak
    >>> panel = ak.load_bundled("synthetic", n_assets=12, n_dates=900, seed=1)
    >>> config = ak.StudyConfig(models=("linear",), report=ak.ReportConfig(n_bootstrap=100))
    >>> ledger = TrialLedger()
    >>> study = ak.run_study(panel, config)
    >>> seen = record_run(study, ledger)
    >>> seen.n_studies, seen.n_portfolios, record_run(study, ledger) == seen
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
    return Seen(
        n_studies=len({record.study for record in every}),
        n_portfolios=len(different),
        n_comparable=len(comparable),
        best=best.model,
        luck=luck_of(
            np.array(best.returns),
            side_by_side(comparable),
            n_trials=len(different),
            sharpes=[r.sharpe for r in comparable if math.isfinite(r.sharpe)],
        ),
    )


def _records(study: Study, date: str) -> list[TrialRecord]:
    """A line for each portfolio of a model: bare, then under the overlay."""
    settings, days = config_to_dict(study.config), study.dates[study.test]
    deciding = {name: value for name, value in settings.items() if name not in _IDLE}
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
                    sharpe=float(performance.sharpe(ledger.net_returns)),
                    first=str(days[0]),
                    last=str(days[-1]),
                    returns=written(ledger.net_returns),
                    gross_sharpe=float(performance.sharpe(ledger.gross_returns)),
                    study=whole,
                    date=date,
                )
            )
    return records


def _mean(values: npt.NDArray[np.floating[Any]]) -> float:
    """Mean of what is known; NaN of nothing."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _changed(config: StudyConfig) -> dict[str, Any]:
    """Settings that are not the defaults, by dotted name.

    Examples
    --------
    >>> _changed(StudyConfig(models=("linear",), seed=3))
    {'models': ['linear'], 'seed': 3}
    """
    own, usual = _flat(config_to_dict(config)), _flat(config_to_dict(StudyConfig()))
    return {name: value for name, value in own.items() if value != usual[name]}


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Sections joined to their keys by a dot."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": item for key, item in value.items()}
        else:
            flat[name] = value
    return flat
