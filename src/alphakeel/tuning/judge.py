"""The judge: one setting over all splits, and its line in the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt

from alphakeel.config import StudyConfig, config_to_dict
from alphakeel.errors import ConfigError
from alphakeel.models.state import fingerprint
from alphakeel.provenance import versions_at_work
from alphakeel.stats import folds, metrics
from alphakeel.tuning.objective import (
    Book,
    Problem,
    Split,
    book_of,
    fit_and_score,
    names_for,
    over_limits,
    rank_ic_of,
)
from alphakeel.tuning.plan import SearchPlan
from alphakeel.tuning.space import settings_at
from alphakeel.tuning.trials import TrialLedger, TrialRecord, written

__all__ = ["Judge", "make_splits"]

# Training rows of a split, below which nothing can be judged.
LEAST_ROWS = 20

Floats = npt.NDArray[np.float64]


def make_splits(problem: Problem, config: StudyConfig, plan: SearchPlan) -> tuple[Split, ...]:
    """Purged, embargoed splits of the decision rows from the first with a stock on."""
    step = config.walk_forward.rebalance_every
    reach = config.target.lag + max(config.target.horizons)
    numbers = {"purge": -(-reach // step), "embargo": -(-config.walk_forward.embargo // step)}
    n_rows = len(problem.rows) - problem.first
    shift = problem.first
    made: Sequence[folds.PurgedFold | folds.CombinatorialFold]
    if plan.splitter == "kfold":
        made = folds.purged_kfold(n_rows, plan.blocks, **numbers)
    else:
        made = folds.combinatorial_purged(n_rows, plan.blocks, plan.held_out, **numbers)
    splits = tuple(
        Split(
            fold.train_rows() + shift,
            tuple(
                slice(block.start + shift, block.stop + shift)
                for block in (fold.test if isinstance(fold.test, tuple) else (fold.test,))
            ),
        )
        for fold in made
    )
    shortest = min(len(split.train) for split in splits)
    if shortest < LEAST_ROWS:
        raise ConfigError(
            f"a split leaves {shortest} of {n_rows} decision rows to train on, and {LEAST_ROWS} "
            "are the least; use fewer blocks, or hold out fewer of them, or start the test later."
        )
    return splits


class Judge:
    """Runs one setting over the splits, and writes down what came out."""

    def __init__(
        self,
        problem: Problem,
        splits: tuple[Split, ...],
        config: StudyConfig,
        plan: SearchPlan,
        data_hash: str,
        ledger: TrialLedger,
    ) -> None:
        self.problem, self.splits = problem, splits
        self.config, self.plan = config, plan
        self.data_hash, self.ledger = data_hash, ledger
        at_work = versions_at_work(replace(config, models=(plan.model,)))
        self.versions = at_work | problem.versions
        train = (joblib.delayed(names_for)(problem, s.train, plan.model, config) for s in splits)
        self.names = self._parallel()(train)

    def settings(self, params: dict[str, Any]) -> StudyConfig:
        """Settings of a trial: the point's, and the plan's number of networks."""
        config = settings_at(self.config, params)
        return replace(config, network=replace(config.network, n_seeds=self.plan.n_seeds))

    def key(self, params: dict[str, Any]) -> str:
        """Fingerprint of a trial."""
        settings = config_to_dict(self.settings(params))
        deciding = {k: v for k, v in settings.items() if k not in ("jobs", "models", "report")}
        plan = [self.plan.model, self.plan.splitter, self.plan.blocks, self.plan.held_out]
        return fingerprint(self.data_hash, deciding, self.versions, plan)

    def judge(
        self, params: dict[str, Any], report: Callable[[int, float], bool]
    ) -> tuple[TrialRecord, bool]:
        """Run splits until `report(split, value so far)` says to stop; a known trial is not run.

        Returns
        -------
        record : TrialRecord
        fitted : bool
            False if the ledger knew the trial.
        """
        key = self.key(params)
        known = self.ledger.find(key)
        if known is not None:
            return known, False
        config = self.settings(params)
        done = _Done(self.problem, len(self.splits))
        jobs = self.config.jobs
        stopped = False
        for start in range(0, len(self.splits), jobs):
            wave = range(start, min(start + jobs, len(self.splits)))
            fits = (joblib.delayed(self._one)(number, config) for number in wave)
            for number, (correlation, books) in zip(wave, self._parallel()(fits), strict=True):
                done.add(correlation, books)
                last = number == len(self.splits) - 1
                behind = report(number, done.value(self.plan.objective))
                stopped = behind and not last and not self._may_be_feasible(done)
                if stopped:
                    break
            if stopped:
                break
        record = done.record(key, self.data_hash, self.plan.model, params, self.config)
        self.ledger.add(record)
        return record, True

    def _may_be_feasible(self, done: _Done) -> bool:
        """Under limits a trial that keeps them so far is not given up for a lower value."""
        return self.plan.objective == "sharpe" and max([0.0, *done.over(self.config).values()]) == 0

    def _one(self, number: int, config: StudyConfig) -> tuple[float, list[Book]]:
        split = self.splits[number]
        until = max(block.stop for block in split.test)
        forecast = fit_and_score(
            self.problem, split.train, until, self.names[number], self.plan.model, config
        )
        rows = [rank_ic_of(self.problem, forecast.scores, block) for block in split.test]
        by_row = np.concatenate(rows)
        known = by_row[np.isfinite(by_row)]
        correlation = float(known.mean()) if len(known) else 0.0
        return correlation, [book_of(self.problem, forecast, b, config) for b in split.test]

    def _parallel(self) -> joblib.Parallel:
        return joblib.Parallel(n_jobs=self.config.jobs, prefer="threads")


class _Done:
    """The splits of a trial that were run; a day that several judged counts with their mean."""

    def __init__(self, problem: Problem, n_splits: int) -> None:
        self.dates, self.n_splits = problem.dates, n_splits
        self.correlations: list[float] = []
        self.total, self.turnover = np.zeros(len(problem.dates)), np.zeros(len(problem.dates))
        self.count = np.zeros(len(problem.dates))

    def add(self, correlation: float, books: list[Book]) -> None:
        self.correlations.append(correlation)
        for book in books:
            self.total[book.days] += book.returns
            self.turnover[book.days] += book.turnover
            self.count[book.days] += 1

    def returns(self) -> Floats:
        return self.total[self.count > 0] / self.count[self.count > 0]

    def value(self, objective: str) -> float:
        if objective == "rank_ic":
            return float(np.mean(self.correlations))
        value = float(metrics.sharpe(self.returns()))
        return value if np.isfinite(value) else 0.0

    def over(self, config: StudyConfig) -> dict[str, float]:
        """Excess over the limits of the settings."""
        turnover = self.turnover[self.count > 0] / self.count[self.count > 0]
        return over_limits(self.returns(), turnover, config_to_dict(config)["limits"])

    def record(
        self, key: str, data: str, model: str, params: dict[str, Any], config: StudyConfig
    ) -> TrialRecord:
        judged = self.count > 0
        days = np.flatnonzero(judged)
        span = slice(int(days[0]), int(days[-1]) + 1)
        spread = np.full(len(judged), np.nan)
        spread[judged] = self.returns()
        return TrialRecord(
            key=key,
            data=data,
            source="tune",
            model=model,
            params=params,
            complete=len(self.correlations) == self.n_splits,
            split_rank_ic=self.correlations,
            rank_ic=self.value("rank_ic"),
            sharpe=self.value("sharpe"),
            over=self.over(config),
            first=str(self.dates[span.start]),
            last=str(self.dates[span.stop - 1]),
            returns=written(spread[span]),
        )
