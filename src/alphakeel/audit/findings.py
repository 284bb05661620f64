"""The findings of an audit: one verdict a test, with the evidence in a sentence."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

__all__ = ["Audit", "Finding", "Verdict", "day_text", "leak", "ok", "warn"]

Verdict = Literal["ok", "warning", "leak"]


@dataclass(frozen=True)
class Finding:
    """The verdict of one test.

    Attributes
    ----------
    test : str
        Name of the test.
    verdict : {"ok", "warning", "leak"}
        leak: results rest on what could not be known, or traded, at the time. warning: results
        may be flattered.
    evidence : str
        One sentence.
    factor, date, ticker : str
        At fault; empty where there is none, or where the fault is everywhere. `factor` may also
        name a field of the data.
    """

    test: str
    verdict: Verdict
    evidence: str
    factor: str = ""
    date: str = ""
    ticker: str = ""


def ok(test: str, evidence: str) -> Finding:
    """A test that passed."""
    return Finding(test, "ok", evidence)


def warn(test: str, evidence: str, **at: str) -> Finding:
    """Something that may flatter the results."""
    return Finding(test, "warning", evidence, **at)


def leak(test: str, evidence: str, **at: str) -> Finding:
    """Something that could not be known, or traded, at the time."""
    return Finding(test, "leak", evidence, **at)


def day_text(day: Any) -> str:
    """A date as YYYY-MM-DD."""
    return str(np.datetime64(day, "D"))


@dataclass(frozen=True)
class Audit:
    """The findings of one audit, in the order of the pipeline.

    Attributes
    ----------
    name : str
        Of the data.
    findings : tuple of Finding
    seconds : float
        Wall time.

    Examples
    --------
    >>> Audit("demo", (ok("costs", "10 basis points a side."),), 0.1).verdict
    'ok'
    """

    name: str
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def verdict(self) -> Verdict:
        """The worst of the verdicts."""
        verdicts = {finding.verdict for finding in self.findings}
        return "leak" if "leak" in verdicts else "warning" if "warning" in verdicts else "ok"

    def leaks(self) -> tuple[Finding, ...]:
        """The findings that are leaks."""
        return tuple(finding for finding in self.findings if finding.verdict == "leak")

    def to_frame(self) -> pd.DataFrame:
        """One row a finding."""
        return pd.DataFrame([asdict(finding) for finding in self.findings])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "verdict": self.verdict,
            "seconds": round(self.seconds, 2),
            "findings": [asdict(finding) for finding in self.findings],
        }
