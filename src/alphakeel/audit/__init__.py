"""The audit: tests a study for look-ahead, and names the factor and the date at fault."""

from __future__ import annotations

from alphakeel.audit.findings import Audit, Finding
from alphakeel.audit.run import run_audit

__all__ = ["Audit", "Finding", "run_audit"]
