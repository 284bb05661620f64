"""One setting fitted for validation and for the test years, and judged in both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from alphakeel.config import StudyConfig, config_to_dict
from alphakeel.degree.curves import PERIODS
from alphakeel.degree.plan import DegreePlan
from alphakeel.errors import DataError
from alphakeel.models.state import fingerprint
from alphakeel.pipeline.dataset import Dataset
from alphakeel.pipeline.fitting import Forecast, fit_and_score, volatility_of_block
from alphakeel.pipeline.plan import Plan, purge_of
from alphakeel.pipeline.screening import screen_factors
from alphakeel.stats import metrics
from alphakeel.stats.folds import split_validation, walk_forward
from alphakeel.tuning.judge import over_limits, rank_ic_of, trade_block
from alphakeel.tuning.space import Space, default_space, drawn, settings_at
from alphakeel.tuning.trials import TrialRecord, written

__all__ = ["CurveRunner", "CurvePoint", "FitOutcome"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CurvePoint:
    """One setting: where it stands on the axes, and the seeds that fit it."""

    places: tuple[tuple[str, int], ...]
    params: dict[str, Any]
    seeds: int
    work: float


@dataclass(frozen=True, eq=False)
class FitOutcome:
    """What one network, or the mean of several, gave by period."""

    forecast: dict[str, Forecast]
    correlations: dict[str, Floats]
    returns: dict[str, Floats]
    turnover: dict[str, Floats]

    def values(self, period: str) -> dict[str, float]:
        """Mean Rank IC, annual Sharpe ratio and annual return; 0 where there is nothing to tell."""
        by_row = self.correlations[period]
        known = by_row[np.isfinite(by_row)]
        sharpe = float(metrics.sharpe(self.returns[period]))
        return {
            "rank_ic": float(known.mean()) if len(known) else 0.0,
            "sharpe": sharpe if np.isfinite(sharpe) else 0.0,
            "annual_return": float(metrics.annual_return(self.returns[period])),
        }


class CurveRunner:
    """Fits one setting for both periods, and judges it in both.

    Parameters
    ----------
    dataset : Dataset
        Of the days up to the end of the test.
    study : Plan
        Of the study: its test, data and versions.
    config : StudyConfig
        Everything that is not turned.
    plan : DegreePlan
    """

    def __init__(
        self, dataset: Dataset, study: Plan, config: StudyConfig, plan: DegreePlan
    ) -> None:
        self.dataset, self.config, self.plan = dataset, config, plan
        self.data_hash, self.versions = study.panel_hash, study.versions
        gaps = purge_of(config)
        n_rows, first_test = len(dataset.decisions), study.tested.start
        # The labels of the last rows before the test reach into it, so they validate nothing.
        before = slice(dataset.first, first_test - gaps["purge"])
        fit, block = split_validation(before, plan.validation_share, sum(gaps.values()))
        size = -(-(n_rows - first_test) // plan.refits)
        tested = walk_forward(n_rows, first_test=first_test, test_size=size, **gaps)
        self.blocks = {PERIODS[0]: block, PERIODS[1]: slice(first_test, n_rows)}
        self.fits = [(PERIODS[0], slice(0, fit.stop), block)]
        self.fits += [(PERIODS[1], fold.train, fold.test) for fold in tested]
        if block.stop - block.start < 10:
            raise DataError(
                f"{block.stop - block.start} decision rows validate, and at least 10 are needed; "
                "start the test later or raise validation_share."
            )
        trains = [train for _, train, _ in self.fits]
        screens = screen_factors(dataset, trains, config, (plan.model,))
        self.names = [screen.names(plan.model) for screen in screens]
        self.volatility = {
            period: np.concatenate(
                [
                    volatility_of_block(dataset, train, test, config)
                    for own, train, test in self.fits
                    if own == period
                ]
            )
            for period in PERIODS
        }

    def points(self, space: Space | None = None) -> list[CurvePoint]:
        """Every setting once, with all the places on the axes that it stands for."""
        plan = self.plan
        if space is None:
            space = default_space(plan.model, self.config, n_rows=self.fits[0][1].stop)
        rng = np.random.default_rng([self.config.seed, 2])
        settings_tried: list[tuple[str, int, dict[str, Any]]] = [("trials", 1, {})]
        settings_tried += [("steps", n, {"network.max_steps": n}) for n in plan.steps]
        settings_tried += [("hidden", n, {"network.hidden": n}) for n in plan.hidden]
        settings_tried += [("trials", n, drawn(space, rng)) for n in range(2, plan.n_trials + 1)]
        places: dict[StudyConfig, list[tuple[str, int]]] = {}
        params: dict[StudyConfig, dict[str, Any]] = {}
        for axis, degree, point in settings_tried:
            settings = settings_at(self.config, point)
            places.setdefault(settings, []).append((axis, degree))
            params.setdefault(settings, point)
        return [
            CurvePoint(
                places=tuple(where),
                params=params[settings],
                seeds=1 if _only_trial(where) else plan.n_seeds,
                work=settings.network.max_steps
                * settings.network.layers
                * (20.0 + 0.7 * settings.network.hidden),
            )
            for settings, where in places.items()
        ]

    def forecast(self, params: dict[str, Any], seed: int) -> dict[str, Forecast]:
        """Fit one network for each part of the time, and join what it says of either period."""
        config = settings_at(self.config, params)
        config = replace(
            config, seed=config.seed + seed, network=replace(config.network, n_seeds=1)
        )
        shape = self.dataset.eligible.shape
        scores = {p: np.full(shape, np.nan, dtype=np.float32) for p in PERIODS}
        weights: dict[str, Floats] = {}
        for (period, train, test), names in zip(self.fits, self.names, strict=True):
            part = fit_and_score(self.dataset, train, test.stop, names, self.plan.model, config)
            scores[period][test] = part.scores[test]
            if part.weights is not None:
                weights.setdefault(period, np.full(shape, np.nan))[test] = part.weights[test]
        return {p: Forecast(scores[p], weights.get(p)) for p in PERIODS}

    def mean(self, outcomes: list[FitOutcome]) -> FitOutcome:
        """Judge the mean score (or weights) of several networks."""
        if len(outcomes) == 1:
            return outcomes[0]
        joined = {}
        for period in PERIODS:
            parts = [outcome.forecast[period] for outcome in outcomes]
            weights = [part.weights for part in parts if part.weights is not None]
            joined[period] = Forecast(
                np.mean([part.scores for part in parts], axis=0, dtype=np.float64),
                np.mean(weights, axis=0) if weights else None,
            )
        return self.judged(joined)

    def record(self, point: CurvePoint, mean: FitOutcome) -> TrialRecord:
        """The setting's line in the ledger: its validation, and nothing of the test."""
        period = PERIODS[0]
        settings = config_to_dict(settings_at(self.config, point.params))
        deciding = {k: v for k, v in settings.items() if k not in ("jobs", "models", "report")}
        way = ["degree", self.plan.model, self.plan.validation_share, point.seeds]
        way += ["overlay"] if self.plan.overlay else []
        values = mean.values(period)
        first, last = self.ends(period)
        return TrialRecord(
            key=fingerprint(self.data_hash, deciding, self.versions, way),
            data=self.data_hash,
            source="degree",
            model=self.plan.model,
            params=point.params,
            complete=True,
            split_rank_ic=[values["rank_ic"]],
            rank_ic=values["rank_ic"],
            sharpe=values["sharpe"],
            over=over_limits(mean.returns[period], mean.turnover[period], settings["limits"]),
            first=first,
            last=last,
            returns=written(mean.returns[period]),
        )

    def ends(self, period: str) -> tuple[str, str]:
        """First and last day of a period."""
        days, dates = self.dataset.days_of(self.blocks[period]), self.dataset.dates
        return str(dates[days.start]), str(dates[days.stop - 1])

    def judged(self, forecast: dict[str, Forecast]) -> FitOutcome:
        """Trade the forecasts of both periods, and measure them."""
        traded = {
            period: trade_block(
                self.dataset,
                forecast[period],
                self.volatility[period],
                block,
                self.config,
                overlay=self.plan.overlay,
            )
            for period, block in self.blocks.items()
        }
        return FitOutcome(
            forecast=forecast,
            correlations={
                p: rank_ic_of(self.dataset, forecast[p].scores, block)
                for p, block in self.blocks.items()
            },
            returns={p: own.returns for p, own in traded.items()},
            turnover={p: own.turnover for p, own in traded.items()},
        )


def _only_trial(places: list[tuple[str, int]]) -> bool:
    """A drawn setting has one seed; the settings as they are give the noise of a fit."""
    return all(axis == "trials" and degree > 1 for axis, degree in places)
