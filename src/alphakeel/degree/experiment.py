"""The degree of optimisation, three ways: gradient steps, trials, size of the network.

The paper's Figure 2 asks how far a model should be optimised. Three knobs turn the same way: more
steps, more settings tried, more units. Each is turned while all else stays as in the settings, and
single networks of several seeds are judged on two stretches of time:

- **validation**, the last part of the years before the test, scored by a fit on the rows before it
  (no label of it reaches into the test);
- **out of sample**, the test years, scored by walk-forward fits on all rows before each.

Nothing is chosen by the second. Each degree is a fit of its own: the learning rate follows one
cycle over all steps, so that a longer training is no continuation of a shorter one.

**Where returns diminish**: the first degree from which the next one's validation gain, the mean of
the gains seed by seed, is no larger than its standard error over the seeds; the last degree if
there is none. For trials (the best of the first k, k doubling, averaged over random orders) the
gain has to exceed the standard error over seeds of the settings as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import joblib
import numpy as np
import pandas as pd
from skfolio.containers import AssetPanel

from alphakeel.config import StudyConfig, config_to_dict
from alphakeel.degree.bench import Bench, Job, Outcome
from alphakeel.degree.curves import (
    METRICS,
    PERIODS,
    best_of,
    by_degree,
    diminishing,
    ensemble,
    paired_gains,
)
from alphakeel.degree.kept import KeptForecasts
from alphakeel.degree.plan import AXES, DegreePlan, DegreeStudy
from alphakeel.models.state import Store
from alphakeel.preparation import find_test_days, with_test_dates
from alphakeel.progress import Progress, Tracker
from alphakeel.provenance import hash_panel
from alphakeel.resume import study_key
from alphakeel.roster import LABELS
from alphakeel.tuning.luck import Luck, luck_of
from alphakeel.tuning.objective import prepare_problem
from alphakeel.tuning.space import Space
from alphakeel.tuning.trials import TrialLedger

__all__ = ["run_degree_study"]

Listener = Callable[[Progress], None]


def run_degree_study(
    panel: AssetPanel,
    config: StudyConfig | None = None,
    plan: DegreePlan | None = None,
    *,
    space: Space | None = None,
    ledger: TrialLedger | None = None,
    name: str = "panel",
    on_progress: Listener | None = None,
    store: Store | None = None,
) -> DegreeStudy:
    """Turn the three knobs one at a time, and measure what it gives.

    Parameters
    ----------
    panel : AssetPanel
    config : StudyConfig, optional
        Everything that is not turned; ``jobs`` fits run at the same time and change no number.
    plan : DegreePlan, optional
    space : tuple of Choice and Span, optional
        What the trials are drawn from; the model's `default_space` by default.
    ledger : TrialLedger, optional
        Every setting that is validated here is a trial, and is written down in it.
    name : str
        What the data are called.
    on_progress : callable, optional
    store : Store, optional
        Keeps every finished network, such as `alphakeel.checkpoints.DiskStore`: work that was
        killed goes on from there when it is run again on the same, to the same numbers.

    Returns
    -------
    DegreeStudy

    Raises
    ------
    ConfigError, DataError
        If the settings or the data leave too little to train, validate or test on.
    """
    config, plan = config or StudyConfig(), plan or DegreePlan()
    ledger = TrialLedger() if ledger is None else ledger
    dates = np.asarray(panel.observations, dtype="datetime64[D]")
    days = find_test_days(dates, config)
    config = with_test_dates(config, dates[days])
    problem = prepare_problem(panel[: days.stop].to_panel(), config, anchor=days.start)
    bench = Bench(problem, days.start, config, plan)
    jobs = bench.jobs(space)
    data_hash = hash_panel(panel)
    key = _key(bench, jobs, data_hash)
    members = _fitted(bench, jobs, KeptForecasts(store, key), on_progress)
    means = [bench.mean(outcomes) for outcomes in members]

    for job, mean in zip(jobs, means, strict=True):
        ledger.add(bench.record(job, mean, data_hash))
    runs = _runs(jobs, members)
    boot = {
        "level": config.report.level,
        "n_bootstrap": config.report.n_bootstrap,
        "seed": config.seed,
    }
    table = pd.concat(
        [_axis_table(axis, jobs, means, runs[runs["axis"] == axis], boot) for axis in AXES],
        ignore_index=True,
    )
    return DegreeStudy(
        table=table,
        points=_points(table, runs),
        runs=runs,
        luck={axis: _luck(axis, jobs, means, members, ledger, data_hash) for axis in AXES},
        plan=plan,
        label=LABELS[plan.model],
        name=name,
        data_hash=data_hash,
        validated=bench.ends(PERIODS[0]),
        tested=bench.ends(PERIODS[1]),
        key=key,
    )


def _key(bench: Bench, jobs: list[Job], data_hash: str) -> str:
    """What the forecasts of all networks follow from."""
    wanted = {"plan": asdict(bench.plan), "params": [job.params for job in jobs]}
    return study_key(data_hash, config_to_dict(bench.config) | wanted, bench.versions)


def _fitted(
    bench: Bench, jobs: list[Job], kept: KeptForecasts, on_progress: Listener | None
) -> list[list[Outcome]]:
    """Every network of every job, fitted now or before the work was killed."""
    tracker = Tracker(on_progress, sum(job.work * job.seeds for job in jobs))
    # The longest first, so that no core waits at the end for a fit begun late.
    pairs = [(i, s) for i, job in enumerate(jobs) for s in range(job.seeds)]
    pairs.sort(key=lambda pair: -jobs[pair[0]].work)
    begun_before = kept.begin()
    known = {pair: kept.find(*pair) for pair in pairs}
    if begun_before:
        finished = sum(forecasts is not None for forecasts in known.values())
        with tracker.task("resuming", 0.0, f"{finished} of {len(pairs)} fits done"):
            pass

    def run(number: int, seed: int) -> Outcome:
        job = jobs[number]
        axis, degree = job.places[0]
        text = f"{AXES[axis]} {degree}, seed {seed + 1} of {job.seeds}"
        with tracker.task("fitting", job.work, text):
            forecasts = known[number, seed]
            if forecasts is None:
                forecasts = bench.forecast(job.params, seed)
                kept.keep(number, seed, forecasts)
            return bench.judged(forecasts)

    parallel = joblib.Parallel(n_jobs=bench.config.jobs, prefer="threads")
    done = parallel(joblib.delayed(run)(*pair) for pair in pairs)
    found = dict(zip(pairs, done, strict=True))
    return [[found[i, s] for s in range(job.seeds)] for i, job in enumerate(jobs)]


def _runs(jobs: list[Job], members: list[list[Outcome]]) -> pd.DataFrame:
    rows = [
        {"axis": axis, "degree": degree, "seed": seed, "period": period, **outcome.values(period)}
        for job, outcomes in zip(jobs, members, strict=True)
        for axis, degree in job.places
        for seed, outcome in enumerate(outcomes)
        for period in PERIODS
    ]
    return pd.DataFrame(rows).sort_values(["axis", "degree", "seed"], ignore_index=True)


def _axis_table(
    axis: str,
    jobs: list[Job],
    means: list[Outcome],
    runs: pd.DataFrame,
    boot: dict[str, Any],
) -> pd.DataFrame:
    if axis == "trials":
        return best_of(runs[runs["seed"] == 0], seed=boot["seed"]).assign(axis=axis)
    own = _on(axis, jobs, means)
    parts = []
    for period in PERIODS:
        bands = ensemble(
            np.stack([mean.returns[period] for mean in own.values()], axis=1),
            np.stack([mean.correlations[period] for mean in own.values()], axis=1),
            **boot,
        )
        parts.append(bands.assign(degree=list(own), period=period))
    return by_degree(runs).merge(pd.concat(parts), on=["degree", "period"]).assign(axis=axis)


def _on(axis: str, jobs: list[Job], means: list[Outcome]) -> dict[int, Outcome]:
    """What stands at each degree of an axis, in order."""
    at = {
        degree: mean
        for job, mean in zip(jobs, means, strict=True)
        for own, degree in job.places
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


def _luck(
    axis: str,
    jobs: list[Job],
    means: list[Outcome],
    members: list[list[Outcome]],
    ledger: TrialLedger,
    data: str,
) -> Luck:
    """Weigh the best of an axis; trials have one network each, and so are compared by one."""
    own = _on(axis, jobs, [m[0] for m in members] if axis == "trials" else means)
    returns = np.stack([outcome.returns[PERIODS[0]] for outcome in own.values()], axis=1)
    sharpes = [outcome.values(PERIODS[0])["sharpe"] for outcome in own.values()]
    return luck_of(
        returns[:, int(np.argmax(sharpes))],
        returns,
        n_trials=ledger.count(data),
        sharpes=ledger.sharpes(data),
    )
