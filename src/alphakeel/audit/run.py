"""The audit from start to end: the user's own data, settings and factors against every test."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alphakeel.audit import lookahead
from alphakeel.audit.evidence import (
    check_duplicates,
    check_lag,
    check_shuffled_labels,
    check_targets,
)
from alphakeel.audit.findings import Audit, Finding, ok, warn
from alphakeel.audit.replay import Prepared, linear_only, prepare_study
from alphakeel.audit.setup import check_costs, check_execution, check_gaps, check_purge
from alphakeel.audit.universe import check_members, check_publication, check_restated
from alphakeel.config import StudyConfig
from alphakeel.custom_factors import CustomFactors, fault_of
from alphakeel.data.cleaning import CleanResult, clean
from alphakeel.errors import LookAheadWarning
from alphakeel.factors.base import Factor
from alphakeel.factors.custom import where
from alphakeel.pipeline.plan import Plan
from alphakeel.progress import Progress, Tracker
from alphakeel.study import run_study

__all__ = ["run_audit"]

Floats = NDArray[np.floating[Any]]

# Work of the parts on the progress bar, about in seconds on the bundled data.
_PREPARE, _FACTOR_CUT, _STUDY, _EVIDENCE = 1.0, 2.0, 3.0, 4.0


def run_audit(
    panel: Any,
    config: StudyConfig | None = None,
    *,
    name: str = "panel",
    fundamentals: pd.DataFrame | None = None,
    earlier: Any = None,
    full: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Audit:
    """Try to catch a study looking ahead.

    Parameters
    ----------
    panel : AssetPanel
        The study's data.
    config : StudyConfig, optional
        The study's settings; ``factors.custom`` names the file of its own factors.
    name : str
        What the audit calls the data.
    fundamentals : DataFrame, optional
        Reports with `ticker` (or `symbol`), `period_end`, `available_date` and their figures.
    earlier : AssetPanel, optional
        The same data as downloaded at an earlier time, to find what was rewritten since.
    full : bool
        Rerun the study with its own models; by default with the linear one, which goes through
        the same machinery in seconds.
    on_progress : callable, optional
        Called with a `Progress` now and then.

    Returns
    -------
    Audit
        The findings in the order of the pipeline. A clean study has warnings at most.

    Raises
    ------
    ConfigError
        If settings contradict the data, or the file of factors cannot be used.
    DataError
        If the panel is too short or too thin for the settings.

    Examples
    --------
    >>> import alphakeel as ak
    >>> panel = ak.simulate_market(n_assets=12, n_dates=900, seed=1).panel
    >>> audit = run_audit(panel)
    >>> audit.leaks()
    ()
    """
    begun = time.perf_counter()
    config = config or StudyConfig()
    if not full:
        config = linear_only(config)
    plan = Plan.of(panel, config, name)
    custom, factors = plan.custom, plan.library
    rng = np.random.default_rng([config.seed, 0xA0D17])
    plans = 4
    tracker = Tracker(
        on_progress, _PREPARE + 5 * _FACTOR_CUT + (1 + plans) * _STUDY + 2 * _EVIDENCE
    )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LookAheadWarning)  # a finding of its own
        with tracker.task("preparing", _PREPARE):
            everything = prepare_study(panel, config, factors)
        findings = [check_members(panel), *check_publication(panel, fundamentals)]
        if earlier is not None:
            findings += check_restated(panel, earlier)
        findings += _cleaning(everything, rng)
        dataset = everything.dataset
        names = (*dataset.names, *dataset.market_names)
        used = tuple(f for f in factors if f.name in names)
        values = lookahead.all_values(dataset.panel, used, names)
        leaky = _factors(everything, used, values, custom, rng, tracker)
        findings += leaky.values() or [
            lookahead.nothing_moved("factors", f"{len(names)} factors", 5)
        ]
        with tracker.task("targets", _EVIDENCE):
            findings += check_targets(everything, values) + check_duplicates(everything)
        findings += _of_the_study(panel, config, factors, leaky, everything, rng, tracker)
    findings.append(check_costs(config))
    return Audit(name, tuple(findings), time.perf_counter() - begun)


def _cleaning(base: Prepared, rng: np.random.Generator) -> list[Finding]:
    """Gaps, and cleaning on other futures; a chosen interpolation is told once."""
    found = [check_gaps(base)]
    settings, test = base.plan.config.cleaning, base.plan.test
    if settings.gap_fill == "interpolate":
        return found

    def cleaned(panel: Any) -> CleanResult:
        return clean(panel, **settings.keywords())

    whole = cleaned(base.panel)
    for row in (test.start, (test.start + test.stop) // 2):
        fault = lookahead.check_cleaning(whole, base.panel, row, cleaned, rng)
        if fault is not None:
            return [*found, fault]
    return [*found, lookahead.nothing_moved("cleaning", "cleaned data and sample", 2)]


def _factors(
    base: Prepared,
    used: tuple[Factor, ...],
    values: Floats,
    custom: CustomFactors,
    rng: np.random.Generator,
    tracker: Tracker,
) -> dict[str, Finding]:
    """Findings about factors by name; a factor with one is kept out of the study's reruns."""
    panel, dates = base.dataset.panel, base.plan.dates
    names = (*base.dataset.names, *base.dataset.market_names)
    found: dict[str, Finding] = {}
    for row in lookahead.factor_cuts(len(dates), base.plan.test.start):
        with tracker.task("factors", _FACTOR_CUT, str(dates[row])):
            moved = lookahead.check_factor_values(panel, used, values, names, row, rng)
            found = moved | found
    for own in custom.factors:
        if own.name in names and own.name not in found:
            fault = fault_of(own, panel, values[..., names.index(own.name)])
            if fault:
                say = f"{own.name} ({where(own)}) {fault}"
                found[own.name] = warn("factors", say, factor=own.name)
    return {name: found[name] for name in names if name in found}


def _of_the_study(
    panel: Any,
    config: StudyConfig,
    factors: tuple[Factor, ...],
    leaky: dict[str, Finding],
    everything: Prepared,
    rng: np.random.Generator,
    tracker: Tracker,
) -> list[Finding]:
    """Tests of the whole machinery, without the factors that are known to be at fault."""
    base = everything
    if leaky:
        exclude = (*config.factors.exclude, *leaky)
        config = replace(config, factors=replace(config.factors, exclude=exclude))
        factors = tuple(f for f in factors if f.name not in leaky)
        base = prepare_study(panel, config, factors)
    with tracker.task("study", _STUDY):
        study = run_study(panel, base.plan.config)
    plans = lookahead.study_cuts(study)
    if base.plan.config.cleaning.gap_fill == "interpolate":
        plans = ()  # whatever would move, moves for that reason
    found: dict[str, Finding] = {}
    for how, row in plans:
        with tracker.task("study", 4 * _STUDY / len(plans), f"{how} at {base.plan.dates[row]}"):
            for fault in lookahead.check_study(study, base, factors, how, row, rng):
                found.setdefault(fault.test, fault)
    findings = [
        found.get(test) or lookahead.nothing_moved(test, what, len(plans))
        for test, what in (
            ("scaling", "scaled features"),
            ("screen", "the screen's figures"),
            ("scores", "scores"),
            ("weights", "weights"),
        )
        if plans
    ]
    findings += [check_purge(study), check_execution(study)]
    with tracker.task("labels", _EVIDENCE):
        findings.append(check_shuffled_labels(base, rng))
    if study.config.target.lag >= 1:
        findings += check_lag(study)
    else:
        findings.append(ok("lag", "not judged: trades are made at once."))
    return findings
