"""The audit from start to end, and its tests of settings and timing: gaps, purge, lag, costs."""

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
from alphakeel.audit.adjustment import adjusted_when, check_fields, check_levels
from alphakeel.audit.coverage import (
    DateCoverage,
    check_every_date,
    coverage_text,
    panels_for,
)
from alphakeel.audit.evidence import (
    check_duplicates,
    check_lag,
    check_own_models,
    check_shuffled_labels,
    check_targets,
)
from alphakeel.audit.findings import Audit, Finding, day_text, leak, ok, warn
from alphakeel.audit.lookahead import Prepared, linear_only, prepare_study, without_models
from alphakeel.audit.messages import check_joins, check_missing, check_sectors
from alphakeel.audit.survivorship import check_members, check_publication, check_restated
from alphakeel.config import StudyConfig
from alphakeel.data.cleaning import INTERPOLATED, CleanResult, clean
from alphakeel.data.jumps import describe_jumps
from alphakeel.errors import LookAheadWarning
from alphakeel.factors.base import Factor
from alphakeel.factors.custom import CustomFactors, fault_of, own_values, source_location
from alphakeel.model_factory import reads_days
from alphakeel.pipeline.plan import Plan
from alphakeel.progress import Progress, Tracker
from alphakeel.results import Study
from alphakeel.study import run_study

__all__ = [
    "check_costs",
    "check_execution",
    "check_gaps",
    "check_jumps",
    "check_purge",
    "run_audit",
]

Floats = NDArray[np.floating[Any]]

# Work of the parts on the progress bar, about in seconds on the bundled data.
_PREPARE, _FACTOR_CUT, _STUDY, _EVIDENCE = 1.0, 2.0, 3.0, 4.0
# Panels on which the built-in factors are tried on further dates: their code does not change.
_BUILT_IN_PANELS = 8


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
    """Test a study for look-ahead.

    Parameters
    ----------
    panel : AssetPanel
        The study's data.
    config : StudyConfig, optional
        The study's settings; ``factors.custom`` and ``custom_models`` name the files of the
        user's own factors and models.
    name : str
        Of the data.
    fundamentals : DataFrame, optional
        Reports with `ticker` (or `symbol`), `period_end`, `available_date` and their figures.
    earlier : AssetPanel, optional
        The same data as downloaded earlier, to find values that were restated since.
    full : bool
        Rerun the study with all of its models; by default with the linear one, which goes through
        the same stages in seconds, and those of the user's own. Try every factor on every date,
        where by default the finding says on what share of the dates a read of the future would
        show.
    on_progress : callable, optional
        Called with a `Progress` now and then.

    Returns
    -------
    Audit
        The findings in the order of the pipeline. A clean study has warnings at most.

    Raises
    ------
    ConfigError
        If settings contradict the data, or a file of factors or models cannot be used.
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
    asked = config = config or StudyConfig()
    if not full:
        config = linear_only(config)
    plan = Plan.of(panel, config, name)
    custom, factors = plan.custom, plan.library
    rng = np.random.default_rng([config.seed, 0xA0D17])
    plans = 5
    tracker = Tracker(
        on_progress, _PREPARE + 7 * _FACTOR_CUT + (1 + plans) * _STUDY + 3 * _EVIDENCE
    )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LookAheadWarning)  # a finding of its own
        with tracker.task("preparing", _PREPARE):
            everything = prepare_study(panel, config, factors)
        findings = [check_members(panel), *check_joins(panel), *check_sectors(panel)]
        findings += check_missing(panel)
        findings += check_publication(panel, fundamentals)
        if earlier is not None:
            findings += check_restated(panel, earlier)
        findings += _cleaning(everything, rng)
        dataset = everything.dataset
        names = (*dataset.names, *dataset.market_names)
        used = tuple(f for f in factors if f.name in names)
        values = lookahead.all_values(dataset.panel, used, names)
        leaky = _factors(everything, used, values, custom, rng, tracker)
        others, coverage = _other_dates(
            everything, used, values, custom, leaky, full=full, rng=rng, tracker=tracker
        )
        leaky |= others
        findings += leaky.values() or [
            ok(
                "factors",
                f"{len(names)} factors do not depend on later data: cut at 5 dates; {coverage}.",
            )
        ]
        findings += _levels(everything, used, values, rng)
        with tracker.task("targets", _EVIDENCE):
            findings += check_targets(everything, values) + check_duplicates(everything)
        with tracker.task("models", _EVIDENCE):
            faulty = check_own_models(everything)
        if faulty:
            findings += faulty.values()
            everything = without_models(everything, faulty)
            config = everything.plan.config
        known = frozenset(f.test for f in findings if f.verdict == "leak")
        models = () if full else asked.models
        findings += _check_stages(
            panel, config, factors, leaky, everything, rng, tracker, known, models
        )
    findings.append(check_costs(config))
    return Audit(name, tuple(findings), time.perf_counter() - begun)


def _cleaning(base: Prepared, rng: np.random.Generator) -> list[Finding]:
    """Gaps, and cleaning with other futures, unless the settings interpolate."""
    findings = [check_gaps(base), *check_jumps(base)]
    settings, test = base.plan.config.cleaning, base.plan.test
    if settings.gap_fill == "interpolate":
        return findings

    def cleaned(panel: Any) -> CleanResult:
        return clean(panel, **settings.keywords())

    whole = cleaned(base.panel)
    for row in (test.start, (test.start + test.stop) // 2):
        fault = lookahead.check_cleaning(whole, base.panel, row, cleaned, rng)
        if fault is not None:
            return [*findings, fault]
    return [*findings, lookahead.unchanged("cleaning", "cleaned data and sample", 2)]


def check_jumps(base: Prepared) -> list[Finding]:
    """A warning on every kind of jump that nobody can have earned; none without such jumps."""
    panel, dates = base.panel, base.plan.dates
    jumps = clean(panel, **base.plan.config.cleaning.keywords()).jumps
    notes = describe_jumps(panel["adj_close"], jumps, dates, panel.asset_names)
    return [warn("jumps", f"{note}.") for note in notes]


def _factors(
    base: Prepared,
    used: tuple[Factor, ...],
    values: Floats,
    custom: CustomFactors,
    rng: np.random.Generator,
    tracker: Tracker,
) -> dict[str, Finding]:
    """Findings on factors by name; a factor with one is left out of the study's reruns."""
    panel, dates = base.dataset.panel, base.plan.dates
    names = (*base.dataset.names, *base.dataset.market_names)
    findings: dict[str, Finding] = {}
    for row in lookahead.factor_cuts(len(dates), base.plan.test.start):
        with tracker.task("factors", _FACTOR_CUT, str(dates[row])):
            moved = lookahead.check_factor_values(panel, used, values, names, row, rng)
            findings = moved | findings
    for own in custom.factors:
        if own.name in names and own.name not in findings:
            fault = fault_of(own, panel, values[..., names.index(own.name)])
            if fault is not None:
                text = f"{own.name} ({source_location(own)}) {fault.sentence}"
                found = leak if fault.kind == "future" else warn
                findings[own.name] = found(
                    "factors", text, factor=own.name, date=fault.day, ticker=fault.ticker
                )
    return {name: findings[name] for name in names if name in findings}


def _other_dates(
    base: Prepared,
    used: tuple[Factor, ...],
    values: Floats,
    custom: CustomFactors,
    leaky: dict[str, Finding],
    *,
    full: bool,
    rng: np.random.Generator,
    tracker: Tracker,
) -> tuple[dict[str, Finding], str]:
    """Findings on factors that read the future on a few dates only, and the dates covered."""
    panel, names = base.dataset.panel, (*base.dataset.names, *base.dataset.market_names)
    findings: dict[str, Finding] = {}
    parts: dict[str, DateCoverage] = {}
    mine = {f.name for f in custom.factors}
    fine = [f for f in used if f.name not in leaky]
    groups: list[tuple[str, tuple[Factor, ...]]]
    groups = [("your own", (f,)) for f in fine if f.name in mine]
    groups += [("the built-in ones", tuple(f for f in fine if f.name not in mine))]
    for whose, group in groups:
        with tracker.task("factors", 2.0 * _FACTOR_CUT / len(groups), f"{whose} on every date"):
            if not group:
                continue
            found, covered = _on_every_date(panel, group, names, values, whose, full, rng)
        findings |= found
        parts[whose] = parts.get(whose, covered).with_less(covered)
    shares = ", and ".join(f"on {coverage_text(c)} in {whose}" for whose, c in parts.items())
    return findings, (f"a read of 1, 5 or 21 days ahead on a single date would show {shares}")


def _on_every_date(
    panel: Any,
    group: tuple[Factor, ...],
    names: tuple[str, ...],
    values: Floats,
    whose: str,
    full: bool,
    rng: np.random.Generator,
) -> tuple[dict[str, Finding], DateCoverage]:
    """A user's factor, or the built-in ones together, on as many panels as they are worth."""
    labels = tuple(f.name for f in group)
    n_panels = panels_for(panel.active_mask.shape, full=full)
    if whose == "your own":

        def compute(other: Any) -> Floats:
            return own_values(group[0], other)[..., None]

    else:
        n_panels = n_panels if full else _BUILT_IN_PANELS

        def compute(other: Any) -> Floats:
            return lookahead.all_values(other, group, labels)

    columns = [names.index(label) for label in labels]
    lookback = max(f.lookback for f in group)
    return check_every_date(panel, compute, values[..., columns], labels, lookback, n_panels, rng)


def _levels(
    base: Prepared, used: tuple[Factor, ...], values: Floats, rng: np.random.Generator
) -> list[Finding]:
    """Findings on factors and fields of the level of adjusted prices."""
    names = (*base.dataset.names, *base.dataset.market_names)
    findings = check_levels(
        base.dataset.panel,
        lambda p: lookahead.all_values(p, used, names),
        values,
        names,
        adjusted_when(base.panel),
        rng,
    )
    faults = [*findings.values(), *check_fields(base.panel)]
    return [f for f in faults if f.verdict != "ok"] or [
        ok("levels", "no factor or field is made of the level of adjusted prices.")
    ]


def _check_stages(
    panel: Any,
    config: StudyConfig,
    factors: tuple[Factor, ...],
    leaky: dict[str, Finding],
    everything: Prepared,
    rng: np.random.Generator,
    tracker: Tracker,
    known: frozenset[str],
    models: tuple[str, ...],
) -> list[Finding]:
    """Tests of the whole study, without the factors that are known to be at fault.

    `known` are tests that have found a leak already; of `models`, which are not fitted here, the
    days that they read between decisions are compared as well.
    """
    base = everything
    if leaky:
        exclude = (*config.factors.exclude, *leaky)
        config = replace(config, factors=replace(config.factors, exclude=exclude))
        factors = tuple(f for f in factors if f.name not in leaky)
        base = prepare_study(panel, config, factors)
    with tracker.task("study", _STUDY):
        study = run_study(panel, base.plan.config)
        linear = study
        if study.plan.custom_models.models:  # what they make of a last bit is their own affair
            linear = run_study(panel, replace(base.plan.config, models=("linear",)))
    plans = lookahead.study_cuts(study)
    if base.plan.config.cleaning.gap_fill == "interpolate":
        plans = ()  # interpolation itself reads the future
    moved: dict[str, Finding] = {}
    days = None
    if plans and any(reads_days(model, config) for model in models):
        days = prepare_study(panel, replace(base.plan.config, models=models), factors)
    for how, row in plans:
        with tracker.task("study", 5 * _STUDY / len(plans), f"{how} at {base.plan.dates[row]}"):
            rounding = lookahead.rounding_of(study)
            rerun = linear if how == "split" else study
            fault = lookahead.check_study(rerun, panel, how, row, rng, rounding=rounding)
            if fault is None and days is not None:
                fault = lookahead.check_days(days, how, row, rng, rounding=rounding)
            if fault is not None:
                moved.setdefault(fault.test, fault)
    findings = _stage_verdicts(moved, len(plans), known) if plans else []
    findings += [check_purge(study), check_execution(study)]
    with tracker.task("labels", _EVIDENCE):
        findings.append(check_shuffled_labels(base, rng))
        for own in base.plan.custom_models.models:
            findings.append(check_shuffled_labels(base, rng, 1, own))
    if study.config.target.lag >= 1:
        findings += check_lag(study)
    else:
        findings.append(ok("lag", "not tested: trades are made at the close of the decision."))
    return findings


# The stages of a study, and what of them must not depend on later data.
_STAGES = {
    "cleaning": "cleaned data and sample",
    "factors": "factors on decisions",
    "scaling": "scaled features",
    "screen": "the screen's figures",
    "scores": "fits and scores",
    "weights": "weights, trades, returns and risk forecasts",
    "regimes": "causal regimes",
}


def _stage_verdicts(moved: dict[str, Finding], times: int, known: frozenset[str]) -> list[Finding]:
    """One finding a stage, from the stages that moved first in each of the reruns.

    `known` are tests that have found a leak already. What comes after a stage that moves repeats
    its fault, and is not judged.
    """
    found = []
    for stage, what in _STAGES.items():
        own = stage in ("cleaning", "factors")
        if stage in moved and stage not in known:
            found.append(moved[stage])
        elif not own and moved and list(_STAGES).index(stage) > _first(moved):
            found.append(ok(stage, f"not judged: {what} repeat the fault of an earlier stage."))
        elif not own:
            found.append(lookahead.unchanged(stage, what, times))
    return found


def _first(moved: dict[str, Finding]) -> int:
    """Place of the first stage that moved."""
    return min(list(_STAGES).index(stage) for stage in moved)


def check_gaps(base: Prepared) -> Finding:
    """Interpolation across gaps reads the later end."""
    if base.plan.config.cleaning.gap_fill != "interpolate":
        return ok("gaps", "gaps are filled from the past (cleaning.gap_fill = carry).")
    changes = base.ledger.to_frame()
    drawn = changes[changes["rule"] == INTERPOLATED]
    text = "cleaning.gap_fill = interpolate draws gaps from later values"
    if drawn.empty:
        return warn("gaps", f"{text}; these data have no gap that it could fill: use carry.")
    first = drawn.sort_values("date").iloc[0]
    return leak(
        "gaps",
        f"{text}: {len(drawn)} values, the first {first['field']} of {first['ticker']} on "
        f"{day_text(first['date'])}; use carry.",
        factor=str(first["field"]),
        date=day_text(first["date"]),
        ticker=str(first["ticker"]),
    )


def check_purge(study: Study) -> Finding:
    """The label of a training row must be known before the first test row."""
    target = study.config.target
    reach = target.lag + max(target.horizons)
    slack = []
    for number, fold in enumerate(study.folds, start=1):
        last = int(np.searchsorted(study.dates, fold.train[1]))
        first = int(np.searchsorted(study.dates, fold.test[0]))
        slack.append(first - last - reach)
        if last + reach >= first:
            known = day_text(study.dates[min(last + reach, len(study.dates) - 1)])
            return leak(
                "purge",
                f"fold {number} trains on labels of {day_text(fold.train[1])} that are known on "
                f"{known} only, and tests from {day_text(fold.test[0])}: purge at least {reach} "
                "days between them.",
                date=day_text(fold.train[1]),
            )
    return ok(
        "purge",
        f"the last training label of every fold is known {min(slack)} days or more before its "
        f"test begins (labels reach {reach} days).",
    )


def check_execution(study: Study) -> Finding:
    """Trades come after the close that the decision reads, and on trading days only."""
    lag = study.config.target.lag
    decisions = study.decisions[study.decisions >= study.test.start] - study.test.start
    if lag < 1:
        day = day_text(study.dates[study.test.start])
        return leak(
            "execution",
            f"target.lag is {lag}: trades are made at the very close that the decision reads.",
            date=day,
        )
    for label, ledger in study.strategies.items():
        traded = np.flatnonzero(ledger.turnover > 0.0)
        early = traded[~np.isin(traded, decisions + lag) & (ledger.forced_sales[traded] == 0)]
        if len(early):
            day = day_text(study.dates[study.test][early[0]])
            return leak(
                "execution",
                f"{label} trades on {day}, which is not {lag} day after any decision: "
                "the backtest trades before it can.",
                date=day,
            )
    return ok("execution", f"every trade is made at the close {lag} day after its decision.")


def check_costs(config: StudyConfig) -> Finding:
    """A study without costs flatters strategies with high turnover."""
    side = config.costs.cost_per_side
    if side == 0.0:
        return warn(
            "costs",
            "costs.cost_per_side is 0: strategies with high turnover look better than they are.",
        )
    return ok("costs", f"trades cost {1e4 * side:g} basis points a side.")
