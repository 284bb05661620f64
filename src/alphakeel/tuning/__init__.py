"""Tuning: which settings validate best on years before the test, and how far to believe it."""

from __future__ import annotations

from alphakeel.tuning.plan import SearchPlan, Tuning, write_tuning
from alphakeel.tuning.runs import Seen, record_run
from alphakeel.tuning.search import tune
from alphakeel.tuning.trials import TrialLedger

__all__ = [
    "SearchPlan",
    "Seen",
    "TrialLedger",
    "Tuning",
    "record_run",
    "tune",
    "write_tuning",
]
