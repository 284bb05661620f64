"""Studies count as trials too: whoever runs ten on the same data has looked at its test ten times.

Every finished study is written into the ledger of trials, one line for each portfolio of a model,
bare and under the overlay. A study is known by a fingerprint of data, settings and versions, so
that the same one counts once, however often it is run; a portfolio that several studies share (the
linear one, where only the network was changed) is one portfolio.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alphakeel.config import StudyConfig, config_to_dict
from alphakeel.models.state import fingerprint
from alphakeel.results import Study
from alphakeel.roster import under_overlay
from alphakeel.stats import metrics
from alphakeel.tuning.luck import Luck, luck_of
from alphakeel.tuning.trials import RUNS, TrialLedger, TrialRecord, side_by_side, written

__all__ = ["Seen", "record_run"]

# Settings that move no portfolio; where the data lie is not what they are.
_IDLE = ("jobs", "report", "data")


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
                    sharpe=float(metrics.sharpe(ledger.net_returns)),
                    first=str(days[0]),
                    last=str(days[-1]),
                    returns=written(ledger.net_returns),
                    gross_sharpe=float(metrics.sharpe(ledger.gross_returns)),
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
