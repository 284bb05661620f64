"""Validation curves of the paper's Figure 2: gradient steps, trials, size of the network.

One of the three is varied at a time, all else as in the settings, and single networks of several
seeds are evaluated in two periods:

- **validation**, the last part of the years before the test, scored by a fit on the decisions
  before it (no label of it reaches into the test);
- **out of sample**, the test years, scored by walk-forward fits. Nothing is chosen by them.

Each degree is a fit of its own: the learning rate follows one cycle over all steps, so that a
longer training is no continuation of a shorter one.

**Where returns diminish**: the first degree from which the next one's validation gain, the mean of
the gains seed by seed, is no larger than its standard error over the seeds; the last degree if
there is none. For trials (the best of the first k, k doubling, averaged over random orders) the
gain has to exceed the standard error over seeds of the settings as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from skfolio.containers import AssetPanel

from alphakeel.config import StudyConfig, config_to_dict
from alphakeel.model_factory import LABELS
from alphakeel.models.persistence import Store
from alphakeel.pipeline.checkpoints import Checkpoints, KeptFits, study_key
from alphakeel.pipeline.dataset import prepare_dataset
from alphakeel.pipeline.model_results import Forecast
from alphakeel.pipeline.plan import Plan
from alphakeel.progress import Progress, Tracker, run_in_threads
from alphakeel.selection.deflation import Deflation, deflate
from alphakeel.selection.search_space import Space, refuse_open_target
from alphakeel.selection.trial_log import TrialLedger
from alphakeel.selection.validation_curve_fits import (
    AXES,
    METRICS,
    PERIODS,
    CurvePlan,
    CurvePoint,
    CurveRunner,
    FitOutcome,
    ValidationCurve,
    best_of,
    by_degree,
    diminishing,
    ensemble,
    paired_gains,
)

__all__ = ["run_validation_curve"]

Listener = Callable[[Progress], None]


def run_validation_curve(
    panel: AssetPanel,
    config: StudyConfig | None = None,
    plan: CurvePlan | None = None,
    *,
    space: Space | None = None,
    ledger: TrialLedger | None = None,
    name: str = "panel",
    on_progress: Listener | None = None,
    store: Store | None = None,
) -> ValidationCurve:
    """Vary steps, trials and hidden units one at a time, and measure the effect.

    Parameters
    ----------
    panel : AssetPanel
    config : StudyConfig, optional
        Everything that is not varied; ``jobs`` fits run at the same time and change no number.
    plan : CurvePlan, optional
    space : tuple of Choice and Span, optional
        Of the trials; the model's `default_space` by default.
    ledger : TrialLedger, optional
        Every setting that is validated here is a trial, and is logged in it.
    name : str
        Of the data.
    on_progress : callable, optional
    store : Store, optional
        Checkpoints every finished network, such as `alphakeel.storage.checkpoints.DiskStore`: a
        killed run resumes from there, to the same numbers.

    Raises
    ------
    ConfigError, DataError
        If the settings or the data leave too little to train, validate or test on.
    """
    config, plan = config or StudyConfig(), plan or CurvePlan()
    refuse_open_target(config)
    ledger = TrialLedger() if ledger is None else ledger
    study_plan = Plan.of(panel, replace(config, models=(plan.model,)), name)
    config = replace(study_plan.config, models=config.models)
    known = panel[: study_plan.test.stop].to_panel()
    runner = CurveRunner(prepare_dataset(known, study_plan), study_plan, config, plan)
    points = runner.points(space)
    key = _key(runner, points)
    members = _fit_points(runner, points, Checkpoints(store, key), on_progress)
    means = [runner.mean(outcomes) for outcomes in members]

    for point, mean in zip(points, means, strict=True):
        ledger.add(runner.record(point, mean))
    runs = _runs(points, members)
    boot = {
        "level": config.report.level,
        "n_bootstrap": config.report.n_bootstrap,
        "seed": config.seed,
    }
    table = pd.concat(
        [_axis_table(axis, points, means, runs[runs["axis"] == axis], boot) for axis in AXES],
        ignore_index=True,
    )
    return ValidationCurve(
        table=table,
        points=_points(table, runs),
        runs=runs,
        deflation={
            axis: _deflation(axis, points, means, members, ledger, runner.data_hash)
            for axis in AXES
        },
        plan=plan,
        label=LABELS[plan.model],
        name=name,
        data_hash=runner.data_hash,
        validated=runner.ends(PERIODS[0]),
        tested=runner.ends(PERIODS[1]),
        key=key,
    )


def _key(runner: CurveRunner, points: list[CurvePoint]) -> str:
    """Fingerprint of everything that the forecasts depend on."""
    wanted = {"plan": asdict(runner.plan), "params": [point.params for point in points]}
    return study_key(runner.data_hash, config_to_dict(runner.config) | wanted, runner.versions)


def _fit_points(
    runner: CurveRunner,
    points: list[CurvePoint],
    checkpoints: Checkpoints,
    on_progress: Listener | None,
) -> list[list[FitOutcome]]:
    """Every network of every point, fitted now or before the run was killed."""
    tracker = Tracker(on_progress, sum(point.work * point.seeds for point in points))
    # The longest first, so that no core waits at the end for a fit begun late.
    pairs = [(i, s) for i, point in enumerate(points) for s in range(point.seeds)]
    pairs.sort(key=lambda pair: -points[pair[0]].work)
    resumed = checkpoints.begin()
    known = {pair: _load_fit(checkpoints, *pair) for pair in pairs}
    finished = sum(forecasts is not None for forecasts in known.values())
    if resumed:
        with tracker.task("resuming", 0.0, f"{finished} of {len(pairs)} fits done"):
            pass
    kept = KeptFits(checkpoints, tracker, len(pairs), finished)

    def run(number: int, seed: int) -> FitOutcome:
        point = points[number]
        axis, degree = point.places[0]
        text = f"{AXES[axis]} {degree}, seed {seed + 1} of {point.seeds}"
        with tracker.task("fitting", point.work, text):
            forecasts = known[number, seed]
            if forecasts is None:
                forecasts = runner.forecast(point.params, seed)
                _save_fit(checkpoints, number, seed, forecasts)
                kept.add_one()
            return runner.evaluate(forecasts)

    done = run_in_threads([partial(run, *pair) for pair in pairs], runner.config.jobs)
    outcomes = dict(zip(pairs, done, strict=True))
    return [[outcomes[i, s] for s in range(point.seeds)] for i, point in enumerate(points)]


def _load_fit(checkpoints: Checkpoints, point: int, seed: int) -> dict[str, Forecast] | None:
    """Forecasts of a finished network by period, or None without a checkpoint of it."""
    tree = checkpoints.find(f"{point}-{seed}")
    if tree is None:
        return None
    weights, safety = tree["weights"], tree["safety"]
    return {p: Forecast(x, weights.get(p), safety.get(p)) for p, x in tree["scores"].items()}


def _save_fit(
    checkpoints: Checkpoints, point: int, seed: int, forecasts: dict[str, Forecast]
) -> None:
    """Write the forecasts of a finished network."""
    weights = {p: own.weights for p, own in forecasts.items() if own.weights is not None}
    safety = {p: own.safety for p, own in forecasts.items() if own.safety is not None}
    scores = {period: own.scores for period, own in forecasts.items()}
    found = {"scores": scores, "weights": weights, "safety": safety}
    checkpoints.keep(f"{point}-{seed}", found)


def _runs(points: list[CurvePoint], members: list[list[FitOutcome]]) -> pd.DataFrame:
    rows = [
        {"axis": axis, "degree": degree, "seed": seed, "period": period, **outcome.values(period)}
        for point, outcomes in zip(points, members, strict=True)
        for axis, degree in point.places
        for seed, outcome in enumerate(outcomes)
        for period in PERIODS
    ]
    return pd.DataFrame(rows).sort_values(["axis", "degree", "seed"], ignore_index=True)


def _axis_table(
    axis: str,
    points: list[CurvePoint],
    means: list[FitOutcome],
    runs: pd.DataFrame,
    boot: dict[str, Any],
) -> pd.DataFrame:
    if axis == "trials":
        return best_of(runs[runs["seed"] == 0], seed=boot["seed"]).assign(axis=axis)
    own = _outcomes_on(axis, points, means)
    parts = []
    for period in PERIODS:
        bands = ensemble(
            np.stack([mean.returns[period] for mean in own.values()], axis=1),
            np.stack([mean.excess[period] for mean in own.values()], axis=1),
            np.stack([mean.correlations[period] for mean in own.values()], axis=1),
            **boot,
        )
        parts.append(bands.assign(degree=list(own), period=period))
    return by_degree(runs).merge(pd.concat(parts), on=["degree", "period"]).assign(axis=axis)


def _outcomes_on(
    axis: str, points: list[CurvePoint], means: list[FitOutcome]
) -> dict[int, FitOutcome]:
    """Outcome at each degree of an axis, in order."""
    at = {
        degree: mean
        for point, mean in zip(points, means, strict=True)
        for own, degree in point.places
        if own == axis
    }
    return dict(sorted(at.items()))


def _points(table: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    rows = []
    own = runs[(runs["axis"] == "trials") & (runs["degree"] == 1) & (runs["period"] == PERIODS[0])]
    for axis in AXES:
        for metric in METRICS:
            curve = table[table["axis"] == axis].pivot(
                index="degree", columns="period", values=metric
            )
            validated, tested = (curve[period].sort_index() for period in PERIODS)
            if axis == "trials":
                degrees = [int(d) for d in validated.index]
                gains = np.diff(validated.to_numpy(dtype=np.float64))
                noise = own[metric].std(ddof=1) / np.sqrt(len(own))
                errors = np.full(len(gains), noise)
            else:
                degrees, gains, errors = paired_gains(runs[runs["axis"] == axis], metric)
            rows.append(
                {
                    "axis": axis,
                    "metric": metric,
                    "diminishing": diminishing(degrees, gains, errors),
                    "best": int(str(validated.idxmax())),
                    "best_out_of_sample": int(str(tested.idxmax())),
                }
            )
    return pd.DataFrame(rows)


def _deflation(
    axis: str,
    points: list[CurvePoint],
    means: list[FitOutcome],
    members: list[list[FitOutcome]],
    ledger: TrialLedger,
    data: str,
) -> Deflation:
    """Correct the best of an axis; trials have one network each, and are compared by one."""
    own = _outcomes_on(axis, points, [m[0] for m in members] if axis == "trials" else means)
    returns = np.stack([outcome.excess[PERIODS[0]] for outcome in own.values()], axis=1)
    sharpes = [outcome.values(PERIODS[0])["sharpe"] for outcome in own.values()]
    return deflate(
        returns[:, int(np.argmax(sharpes))],
        returns,
        n_trials=ledger.count(data),
        sharpes=ledger.sharpes(data),
    )
