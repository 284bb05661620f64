"""Cross-validation of one setting on the years before the test.

The scores of a validation block are traded as the study trades them (`[allocation]`, `[costs]`,
and `[overlay]` on request), from the block's first day to the day before the decision after its
last. Every block starts in cash and pays for its own entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from alphakeel.config import StudyConfig, config_to_dict, fingerprinted
from alphakeel.errors import ConfigError
from alphakeel.models.persistence import fingerprint
from alphakeel.pipeline.dataset import Dataset
from alphakeel.pipeline.fitting import RISK_HORIZON, fit_and_score, volatility_of_block
from alphakeel.pipeline.model_results import Forecast
from alphakeel.pipeline.plan import Plan, labels_of
from alphakeel.pipeline.screening import screen_factors
from alphakeel.pipeline.simulator import Simulator
from alphakeel.pipeline.strategies import trade_scores
from alphakeel.progress import run_in_threads
from alphakeel.selection.search_space import SearchPlan, settings_at
from alphakeel.selection.trial_log import TrialLedger, TrialRecord, rounded_returns
from alphakeel.stats import performance
from alphakeel.stats import splits as folds
from alphakeel.stats.cross_section import rank_ic
from alphakeel.stats.drawdown_control import window_drawdown

__all__ = [
    "BlockReturns",
    "CrossValidation",
    "Split",
    "deciding_settings",
    "make_splits",
    "mean_rank_ic",
    "limit_excess",
    "rank_ic_of",
    "sharpe_or_zero",
    "trade_block",
]

# Fewer training decisions make no split.
LEAST_DECISIONS = 20

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Split:
    """Decisions to train on, in order, and one or more blocks of decisions to validate on."""

    train: npt.NDArray[np.intp]
    test: tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class BlockReturns:
    """A block's portfolio: its days, net simple returns, those above cash, and turnover a day."""

    days: slice
    returns: Floats
    excess: Floats
    turnover: Floats


def make_splits(dataset: Dataset, config: StudyConfig, plan: SearchPlan) -> tuple[Split, ...]:
    """Purged, embargoed splits of the decisions, from the first that has a stock."""
    shift = dataset.first
    # Training rows lie before a block too, so that labels of the risk network are purged as well.
    risk = (RISK_HORIZON,) if config.allocation.volatility == "network" else ()
    labels, embargo = labels_of(dataset.decisions[shift:], config, *risk)
    n_decisions = len(labels)
    made: Sequence[folds.PurgedFold | folds.CombinatorialFold]
    if plan.splitter == "kfold":
        made = folds.purged_kfold(labels, plan.blocks, embargo)
    else:
        made = folds.combinatorial_purged(labels, plan.blocks, plan.held_out, embargo)
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
    if shortest < LEAST_DECISIONS:
        raise ConfigError(
            f"a split leaves {shortest} of {n_decisions} decisions to train on, and at least "
            f"{LEAST_DECISIONS} are needed; use fewer blocks, hold out fewer, or start the test "
            "later."
        )
    return splits


def rank_ic_of(dataset: Dataset, scores: npt.NDArray[np.floating[Any]], block: slice) -> Floats:
    """Rank IC of each decision of a block, the mean over horizons; NaN where there is none."""
    by_horizon = rank_ic(scores[block], dataset.forward[block])
    known = np.isfinite(by_horizon)
    total = np.where(known, by_horizon, 0.0).sum(axis=-1)
    count = known.sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def mean_rank_ic(daily: Floats) -> float:
    """Mean of the known Rank ICs; 0 if there is none."""
    known = daily[np.isfinite(daily)]
    return float(known.mean()) if len(known) else 0.0


def sharpe_or_zero(returns: Floats) -> float:
    """Annual Sharpe ratio of returns above cash; 0 where it is not defined."""
    value = float(performance.sharpe(returns))
    return value if np.isfinite(value) else 0.0


def deciding_settings(config: StudyConfig) -> dict[str, Any]:
    """The settings that can move the numbers of a trial, for its fingerprint."""
    return fingerprinted(config_to_dict(config), without=("jobs", "models", "report"))


def trade_block(
    dataset: Dataset,
    forecast: Forecast,
    volatility: npt.NDArray[np.floating[Any]],
    block: slice,
    config: StudyConfig,
    *,
    overlay: bool,
) -> BlockReturns:
    """Trade the forecast of a block of decisions as the study does; volatility as of that block."""
    days = dataset.days_of(block)
    ledger = trade_scores(
        forecast.scores[block],
        None if forecast.weights is None else forecast.weights[block],
        volatility,
        Simulator.of(dataset, config, days),
        config,
        safety=None if forecast.safety is None else forecast.safety[block],
        under=overlay,
    )
    return BlockReturns(days, ledger.net_returns, ledger.excess_returns, ledger.turnover)


def limit_excess(
    returns: Floats, turnover: Floats, limits: Mapping[str, float | None]
) -> dict[str, float]:
    """By how much a portfolio exceeds each limit: realised over allowed, less 1; <= 0 keeps it.

    Limits are fractions (volatility and turnover a year, var_95 and cvar_95 a day); None is none.

    Examples
    --------
    >>> days = np.array([0.0, -0.1, 0.0, 0.05])
    >>> over = limit_excess(days, np.zeros(4), {"max_drawdown": 0.2, "var_95": None})
    >>> {name: round(value, 6) for name, value in over.items()}
    {'max_drawdown': -0.5}
    """
    realised = {
        "volatility": lambda: performance.annual_volatility(returns),
        "max_drawdown": lambda: window_drawdown(returns).max(),
        "var_95": lambda: performance.value_at_risk(returns),
        "cvar_95": lambda: performance.conditional_value_at_risk(returns),
        "turnover": lambda: turnover.mean() * performance.PERIODS_PER_YEAR,
    }
    return {
        name: float(realised[name]()) / limit - 1.0
        for name, limit in limits.items()
        if limit is not None
    }


class CrossValidation:
    """Cross-validates settings on the days before the test, and logs every trial.

    A trial starts from `config`; the data and versions of `study` are in its fingerprint.
    """

    def __init__(
        self,
        dataset: Dataset,
        splits: tuple[Split, ...],
        config: StudyConfig,
        plan: SearchPlan,
        study: Plan,
        ledger: TrialLedger,
    ) -> None:
        self.dataset, self.splits = dataset, splits
        self.config, self.plan = config, plan
        self.data_hash, self.versions, self.ledger = study.panel_hash, study.versions, ledger
        screens = screen_factors(dataset, [s.train for s in splits], config, (plan.model,))
        self.names = [screen.names(plan.model) for screen in screens]

    def settings(self, params: dict[str, Any]) -> StudyConfig:
        """Settings of a trial: those of the point, with the plan's number of networks."""
        config = settings_at(self.config, params)
        return replace(config, network=replace(config.network, n_seeds=self.plan.n_seeds))

    def key(self, params: dict[str, Any]) -> str:
        """Fingerprint of a trial."""
        deciding = deciding_settings(self.settings(params))
        way: list[Any] = [self.plan.model, self.plan.splitter, self.plan.blocks, self.plan.held_out]
        way += ["overlay"] if self.plan.overlay else []
        return fingerprint(self.data_hash, deciding, self.versions, way)

    def run(
        self, params: dict[str, Any], report: Callable[[int, float], bool]
    ) -> tuple[TrialRecord, bool]:
        """Run splits until `report(split, value so far)` says to stop.

        Returns the trial, and False if it was in the ledger and was not fitted again; a new one
        is not written into it.
        """
        key = self.key(params)
        known = self.ledger.find(key)
        if known is not None:
            return known, False
        config = self.settings(params)
        done = _Validated(self.dataset, len(self.splits))
        jobs = self.config.jobs
        stopped = False
        for start in range(0, len(self.splits), jobs):
            batch = range(start, min(start + jobs, len(self.splits)))
            fits = [partial(self._run_split, number, config) for number in batch]
            for number, (correlation, blocks) in zip(
                batch, run_in_threads(fits, jobs), strict=True
            ):
                done.add(correlation, blocks)
                last = number == len(self.splits) - 1
                pruned = report(number, done.value(self.plan.objective))
                stopped = pruned and not last and not self._may_be_feasible(done)
                if stopped:
                    break
            if stopped:
                break
        record = done.record(key, self.data_hash, self.plan.model, params, self.config)
        return record, True

    def _may_be_feasible(self, done: _Validated) -> bool:
        """Under limits a trial that keeps them so far is not pruned for a lower value."""
        return self.plan.objective == "sharpe" and max([0.0, *done.over(self.config).values()]) == 0

    def _run_split(self, number: int, config: StudyConfig) -> tuple[float, list[BlockReturns]]:
        split, dataset = self.splits[number], self.dataset
        until = max(block.stop for block in split.test)
        names, model = self.names[number], self.plan.model
        forecast = fit_and_score(dataset, split.train, until, names, model, config)
        daily = np.concatenate([rank_ic_of(dataset, forecast.scores, b) for b in split.test])
        return mean_rank_ic(daily), [
            self._trade(split, forecast, block, config) for block in split.test
        ]

    def _trade(
        self, split: Split, forecast: Forecast, block: slice, config: StudyConfig
    ) -> BlockReturns:
        volatility = volatility_of_block(self.dataset, split.train, block, config)
        return trade_block(
            self.dataset, forecast, volatility, block, config, overlay=self.plan.overlay
        )


class _Validated:
    """The splits of a trial that were run; a day in several blocks counts with their mean."""

    def __init__(self, dataset: Dataset, n_splits: int) -> None:
        self.dates, self.n_splits = dataset.dates, n_splits
        self.correlations: list[float] = []
        self.total, self.above, self.turnover, self.count = np.zeros((4, len(self.dates)))

    def add(self, correlation: float, blocks: list[BlockReturns]) -> None:
        self.correlations.append(correlation)
        for block in blocks:
            self.total[block.days] += block.returns
            self.above[block.days] += block.excess
            self.turnover[block.days] += block.turnover
            self.count[block.days] += 1

    def returns(self) -> Floats:
        return self.total[self.count > 0] / self.count[self.count > 0]

    def excess(self) -> Floats:
        return self.above[self.count > 0] / self.count[self.count > 0]

    def value(self, objective: str) -> float:
        if objective == "rank_ic":
            return float(np.mean(self.correlations))
        return sharpe_or_zero(self.excess())

    def over(self, config: StudyConfig) -> dict[str, float]:
        """Excess over the limits of the settings."""
        turnover = self.turnover[self.count > 0] / self.count[self.count > 0]
        return limit_excess(self.returns(), turnover, config_to_dict(config)["limits"])

    def record(
        self, key: str, data: str, model: str, params: dict[str, Any], config: StudyConfig
    ) -> TrialRecord:
        validated = self.count > 0
        days = np.flatnonzero(validated)
        span = slice(int(days[0]), int(days[-1]) + 1)
        daily = np.full(len(validated), np.nan)
        daily[validated] = self.excess()
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
            returns=rounded_returns(daily[span]),
        )
