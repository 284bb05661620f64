"""The degree of optimisation: what more steps, more trials and more units give (Figure 2)."""

from __future__ import annotations

from alphakeel.degree.experiment import run_degree_study
from alphakeel.degree.plan import AXES, DegreePlan, DegreeStudy, write_degrees

__all__ = ["AXES", "DegreePlan", "DegreeStudy", "run_degree_study", "write_degrees"]
