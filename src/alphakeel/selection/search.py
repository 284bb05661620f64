"""The search: Optuna proposes settings, purged cross-validation evaluates them, a ledger logs them.

Only days before the test are read. Optuna's study is an SQLite file that one search holds at a
time. Trial k is proposed from the trials before it and a seed of its own, so that a search that was
killed and run again ends where an uninterrupted one does. `jobs` fits the splits of a trial side by
side; they are evaluated in order, and no number depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, Trial, TrialState
from skfolio.containers import AssetPanel

from alphakeel.config import StudyConfig
from alphakeel.errors import ConfigError, ConvergenceError, DataError
from alphakeel.pipeline.dataset import prepare_dataset
from alphakeel.pipeline.plan import Plan
from alphakeel.progress import KEPT, Progress
from alphakeel.selection.cross_validation import CrossValidation, make_splits
from alphakeel.selection.deflation import deflate
from alphakeel.selection.search_database import (
    STARTUP,
    check_trials,
    is_finished,
    lock_folder,
    open_study,
    plain_database_errors,
    study_name,
    value_of,
)
from alphakeel.selection.search_space import (
    OBJECTIVES,
    Choice,
    SearchPlan,
    Space,
    Tuning,
    default_space,
    refuse_open_target,
    settings_at,
)
from alphakeel.selection.trial_log import TrialLedger

__all__ = ["tune"]

Listener = Callable[[Progress], None]


def tune(
    panel: AssetPanel,
    config: StudyConfig | None = None,
    plan: SearchPlan | None = None,
    *,
    space: Space | None = None,
    folder: str | Path | None = None,
    ledger: TrialLedger | None = None,
    name: str = "panel",
    on_progress: Listener | None = None,
) -> Tuning:
    """Search a model's settings on the days before the test.

    Parameters
    ----------
    panel : AssetPanel
        The whole data set: it is cut at ``walk_forward.test_start`` before anything is computed.
    config : StudyConfig, optional
        Settings to start from; ``jobs`` splits are fitted at the same time.
    plan : SearchPlan, optional
    space : tuple of Choice and Span, optional
        Settings to search; `default_space` by default.
    folder : str or Path, optional
        Of the study (``study.db``), to resume from; None keeps it in memory.
    ledger : TrialLedger, optional
        By default ``trials.jsonl`` in the folder.
    name : str
        Of the data.
    on_progress : callable, optional
        Called with a `Progress` after each trial, with the best so far.

    Raises
    ------
    ConfigError, DataError
        If plan and data do not fit, no trial could be fitted, or the folder cannot be used.

    Examples
    --------
    >>> import alphakeel as ak
    >>> panel = ak.load_bundled("synthetic", n_assets=12, n_dates=900, seed=1)
    >>> tuning = tune(panel, plan=SearchPlan(model="linear", n_trials=2, blocks=3))
    >>> len(tuning.trials), tuning.config.linear.method in ("pooled", "ridge")
    (2, True)
    """
    config, plan = config or StudyConfig(), plan or SearchPlan()
    refuse_open_target(config)
    study_plan = Plan.of(panel, replace(config, models=(plan.model,)), name)
    config = replace(study_plan.config, models=config.models)
    before = panel[: study_plan.test.start].to_panel()
    dataset = prepare_dataset(before, study_plan.before_test())
    splits = make_splits(dataset, config, plan)
    if space is None:
        shortest = min(len(split.train) for split in splits)
        breadth = int(np.median(dataset.eligible[dataset.first :].sum(axis=1)))
        space = default_space(plan.model, config, n_rows=shortest, breadth=breadth)
    settings_at(config, {part.name: _any_value(part) for part in space})
    if ledger is None:
        ledger = TrialLedger(None if folder is None else Path(folder) / "trials.jsonl")
    cv = CrossValidation(dataset, splits, config, plan, study_plan, ledger)
    with lock_folder(folder):
        study = open_study(folder, study_name(cv.key({}), plan, space), plan, len(splits))
        if folder is not None:
            check_trials(study, cv, space, Path(folder) / "study.db")
        with plain_database_errors(folder):
            trials = _run(study, cv, space, on_progress, outlives=folder is not None)
    return _result(trials, cv, space, name)


def _run(
    study: optuna.Study,
    cv: CrossValidation,
    space: Space,
    on_progress: Listener | None,
    *,
    outlives: bool,
) -> list[FrozenTrial]:
    """Propose, run and report until the plan's number of trials is done."""
    plan = cv.plan
    for stale in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(stale.number, state=TrialState.FAIL)
    while len(finished := _finished(study)) < plan.n_trials:
        _tell_progress(on_progress, finished, plan, outlives=outlives)
        seed = np.random.SeedSequence([cv.config.seed, len(finished)]).generate_state(1)[0]
        study.sampler = optuna.samplers.TPESampler(
            seed=int(seed), n_startup_trials=STARTUP, multivariate=False
        )
        trial = study.ask()
        params = _suggest(trial, space)

        def report(split: int, value: float, trial: Trial = trial) -> bool:
            trial.report(value, split)
            return trial.should_prune()

        try:
            record, fitted = cv.run(params, report)
        except (DataError, ConfigError, ConvergenceError) as error:
            trial.set_user_attr("reason", str(error))
            study.tell(trial, state=TrialState.FAIL)
            continue
        if fitted:
            cv.ledger.add(record)
        trial.set_user_attr("key", record.key)
        trial.set_user_attr("reason", "" if fitted else "known from the ledger")
        if not record.complete:
            study.tell(trial, state=TrialState.PRUNED)
            continue
        if plan.objective == "sharpe":
            for limit, excess in record.over.items():
                trial.set_constraint(limit, excess)
        study.tell(trial, value_of(record, plan))
    _tell_progress(on_progress, finished, plan, outlives=outlives)
    return finished


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that were not killed; one that was is proposed again."""
    return [t for t in study.get_trials(deepcopy=False) if is_finished(t)]


def _suggest(trial: Trial, space: Space) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for part in space:
        if part.when is not None and params.get(part.when[0]) != part.when[1]:
            continue
        if isinstance(part, Choice):
            params[part.name] = trial.suggest_categorical(part.name, list(part.values))
        elif part.whole:
            params[part.name] = trial.suggest_int(
                part.name, int(part.low), int(part.high), log=part.log
            )
        else:
            params[part.name] = trial.suggest_float(part.name, part.low, part.high, log=part.log)
    return params


def _any_value(part: Any) -> Any:
    if isinstance(part, Choice):
        return part.values[0]
    return int(part.low) if part.whole else part.low


def _tell_progress(
    on_progress: Listener | None,
    finished: list[FrozenTrial],
    plan: SearchPlan,
    *,
    outlives: bool,
) -> None:
    if on_progress is None:
        return
    detail = f"{len(finished)} of {plan.n_trials} trials"
    complete = [t for t in finished if t.state == TrialState.COMPLETE]
    if complete:
        best = max(complete, key=_rank)
        detail += f", best {OBJECTIVES[plan.objective]} {best.value:.3f} (trial {best.number})"
    share = min(1.0, len(finished) / plan.n_trials)
    on_progress(Progress("tuning", share, detail))
    if outlives:
        on_progress(Progress(KEPT, share, f"{len(finished)} of {plan.n_trials} trials"))


def _rank(trial: FrozenTrial) -> tuple[float, float]:
    """Sort key: trials that keep all limits first, then the higher value."""
    excess = max([0.0, *trial.constraints.values()])
    return -excess, float(trial.value or 0.0)


def _result(trials: list[FrozenTrial], cv: CrossValidation, space: Space, name: str) -> Tuning:
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    if not complete:
        reasons = [t.user_attrs["reason"] for t in trials if t.state == TrialState.FAIL]
        raise ConfigError(f"no trial of {cv.plan.model} could be fitted: {reasons[0]}")
    best = max(complete, key=_rank)
    record = cv.ledger.find(best.user_attrs["key"])
    if record is None:
        raise DataError(
            f"trial {best.number} is in the study but not in the ledger {cv.ledger.path}; give "
            "the ledger that it was written to, or another folder."
        )
    config = replace(
        settings_at(cv.config, record.params),
        models=tuple(dict.fromkeys(("linear", cv.plan.model))),
    )
    limited = cv.plan.objective == "sharpe"
    returns = np.array(record.returns)
    return Tuning(
        config=config,
        plan=cv.plan,
        best={
            "number": best.number,
            "value": best.value,
            "rank_ic": record.rank_ic,
            "sharpe": record.sharpe,
            "params": record.params,
            "over": record.over if limited else {},
            "feasible": not limited or max([0.0, *record.over.values()]) <= 0.0,
        },
        trials=_trials_table(trials, cv, space),
        deflation=deflate(
            returns[np.isfinite(returns)],
            cv.ledger.returns(cv.data_hash),
            n_trials=cv.ledger.count(cv.data_hash),
            sharpes=cv.ledger.sharpes(cv.data_hash),
        ),
        data_hash=cv.data_hash,
        name=name,
        validated=(record.first, record.last),
    )


def _trials_table(trials: list[FrozenTrial], cv: CrossValidation, space: Space) -> pd.DataFrame:
    by_key = {r.key: r for r in cv.ledger.of(cv.data_hash)}
    rows = []
    for trial in trials:
        record = by_key.get(trial.user_attrs.get("key", ""))
        state = {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())
        row: dict[str, Any] = {"number": trial.number, "state": state, "value": trial.value}
        row["rank_ic"] = record.rank_ic if record else np.nan
        row["sharpe"] = record.sharpe if record else np.nan
        row["max_excess"] = max(record.over.values()) if record and record.over else np.nan
        row |= {part.name: trial.params.get(part.name) for part in space}
        rows.append({**row, "reason": trial.user_attrs["reason"]})
    return pd.DataFrame(rows)
