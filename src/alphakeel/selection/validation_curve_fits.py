"""Validation curves: the plan, the fits of each point, their means by degree, and the result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.config import StudyConfig, config_to_dict
from alphakeel.data.spreadsheets import write_csv
from alphakeel.errors import ConfigError, DataError
from alphakeel.files import write_atomically
from alphakeel.model_factory import LIMITED, NETWORKS
from alphakeel.models.persistence import fingerprint
from alphakeel.pipeline.dataset import Dataset
from alphakeel.pipeline.fitting import fit_and_score, volatility_of_block
from alphakeel.pipeline.model_results import Forecast
from alphakeel.pipeline.plan import Plan, labels_of
from alphakeel.pipeline.screening import screen_factors
from alphakeel.selection.cross_validation import (
    deciding_settings,
    limit_excess,
    mean_rank_ic,
    rank_ic_of,
    sharpe_or_zero,
    trade_block,
)
from alphakeel.selection.deflation import Deflation
from alphakeel.selection.search_space import Space, default_space, sample_point, settings_at
from alphakeel.selection.trial_log import TrialRecord, rounded_returns
from alphakeel.stats import bootstrap, performance
from alphakeel.stats.sharpe import SharpeEstimate, sharpe_intervals
from alphakeel.stats.splits import split_validation, walk_forward

__all__ = [
    "AXES",
    "CurvePoint",
    "CurveRunner",
    "CurvePlan",
    "ValidationCurve",
    "FitOutcome",
    "METRICS",
    "PERIODS",
    "best_of",
    "by_degree",
    "diminishing",
    "doublings",
    "ensemble",
    "paired_gains",
    "write_degrees",
]

Floats = npt.NDArray[np.float64]

PERIODS = ("validation", "out of sample")
METRICS = ("rank_ic", "sharpe", "annual_return")
# The validation metric that picks the best trial, for the curve of each metric.
PICKED_BY = {"rank_ic": "rank_ic", "sharpe": "sharpe", "annual_return": "sharpe"}
_ORDERS = 500

AXES = {"steps": "gradient steps", "trials": "trials", "hidden": "hidden units"}


@dataclass(frozen=True)
class CurvePoint:
    """One setting: its degrees on the axes, its number of seeds, and the work of one fit."""

    places: tuple[tuple[str, int], ...]
    params: dict[str, Any]
    seeds: int
    work: float


@dataclass(frozen=True, eq=False)
class FitOutcome:
    """Results of one network, or of the mean score of several, by period."""

    forecast: dict[str, Forecast]
    correlations: dict[str, Floats]
    returns: dict[str, Floats]
    excess: dict[str, Floats]
    turnover: dict[str, Floats]

    def values(self, period: str) -> dict[str, float]:
        """Mean Rank IC, annual Sharpe ratio and annual return; 0 where they are not defined."""
        return {
            "rank_ic": mean_rank_ic(self.correlations[period]),
            "sharpe": sharpe_or_zero(self.excess[period]),
            "annual_return": float(performance.annual_return(self.returns[period])),
        }


class CurveRunner:
    """Fits settings for both periods, and evaluates them in both; `dataset` ends with the test."""

    def __init__(self, dataset: Dataset, study: Plan, config: StudyConfig, plan: CurvePlan) -> None:
        self.dataset, self.config, self.plan = dataset, config, plan
        self.data_hash, self.versions = study.panel_hash, study.versions
        labels, embargo = labels_of(dataset.decisions, config)
        n_decisions, first_test = len(dataset.decisions), study.tested.start
        # Labels of the last decisions before the test reach into it, so these validate nothing.
        before = slice(dataset.first, labels.known_before(labels.days[first_test]))
        reach = dataset.lag + max(dataset.horizons) + embargo
        fit, block = split_validation(
            before, plan.validation_share, dataset.rows_ahead(reach, before)
        )
        size = -(-(n_decisions - first_test) // plan.refits)
        starts = range(first_test, n_decisions, size)
        tested = walk_forward(labels, starts=starts, embargo=embargo)
        self.blocks = {PERIODS[0]: block, PERIODS[1]: slice(first_test, n_decisions)}
        self.fits = [(PERIODS[0], slice(0, fit.stop), block)]
        self.fits += [(PERIODS[1], fold.train, fold.test) for fold in tested]
        if block.stop - block.start < 10:
            raise DataError(
                f"the validation has {block.stop - block.start} decisions, and at least 10 are "
                "needed; start the test later or raise validation_share."
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
        """Every setting once, with all its degrees on the axes."""
        plan = self.plan
        if space is None:
            space = default_space(plan.model, self.config, n_rows=self.fits[0][1].stop)
        rng = np.random.default_rng([self.config.seed, 2])
        settings_tried: list[tuple[str, int, dict[str, Any]]] = [("trials", 1, {})]
        settings_tried += [("steps", n, {"network.max_steps": n}) for n in plan.steps]
        settings_tried += [("hidden", n, {"network.hidden": n}) for n in plan.hidden]
        settings_tried += [
            ("trials", n, sample_point(space, rng)) for n in range(2, plan.n_trials + 1)
        ]
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
        """Fit one network for each block, and join its forecasts by period."""
        config = settings_at(self.config, params)
        config = replace(
            config, seed=config.seed + seed, network=replace(config.network, n_seeds=1)
        )
        shape = self.dataset.eligible.shape
        scores = {p: np.full(shape, np.nan, dtype=np.float32) for p in PERIODS}
        weights: dict[str, Floats] = {}
        safety: dict[str, Floats] = {}
        for (period, train, test), names in zip(self.fits, self.names, strict=True):
            part = fit_and_score(self.dataset, train, test.stop, names, self.plan.model, config)
            scores[period][test] = part.scores[test]
            for joined, own in ((weights, part.weights), (safety, part.safety)):
                if own is not None:
                    whole = np.full((shape[0], own.shape[1]), np.nan)
                    joined.setdefault(period, whole)[test] = own[test]
        return {p: Forecast(scores[p], weights.get(p), safety.get(p)) for p in PERIODS}

    def mean(self, outcomes: list[FitOutcome]) -> FitOutcome:
        """Evaluate the mean score (or weights) of several networks."""
        if len(outcomes) == 1:
            return outcomes[0]
        joined = {}
        for period in PERIODS:
            parts = [outcome.forecast[period] for outcome in outcomes]
            weights = [part.weights for part in parts if part.weights is not None]
            safety = [part.safety for part in parts if part.safety is not None]
            joined[period] = Forecast(
                np.mean([part.scores for part in parts], axis=0, dtype=np.float64),
                np.mean(weights, axis=0) if weights else None,
                np.mean(safety, axis=0) if safety else None,
            )
        return self.evaluate(joined)

    def record(self, point: CurvePoint, mean: FitOutcome) -> TrialRecord:
        """The trial of a point for the ledger: its validation, and nothing of the test."""
        period = PERIODS[0]
        config = settings_at(self.config, point.params)
        way = ["degree", self.plan.model, self.plan.validation_share, point.seeds]
        way += ["overlay"] if self.plan.overlay else []
        values, limits = mean.values(period), config_to_dict(config)["limits"]
        first, last = self.ends(period)
        return TrialRecord(
            key=fingerprint(self.data_hash, deciding_settings(config), self.versions, way),
            data=self.data_hash,
            source="degree",
            model=self.plan.model,
            params=point.params,
            complete=True,
            split_rank_ic=[values["rank_ic"]],
            rank_ic=values["rank_ic"],
            sharpe=values["sharpe"],
            over=limit_excess(mean.returns[period], mean.turnover[period], limits),
            first=first,
            last=last,
            returns=rounded_returns(mean.excess[period]),
        )

    def ends(self, period: str) -> tuple[str, str]:
        """First and last day of a period."""
        days, dates = self.dataset.days_of(self.blocks[period]), self.dataset.dates
        return str(dates[days.start]), str(dates[days.stop - 1])

    def evaluate(self, forecast: dict[str, Forecast]) -> FitOutcome:
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
            excess={p: own.excess for p, own in traded.items()},
            turnover={p: own.turnover for p, own in traded.items()},
        )


def _only_trial(places: list[tuple[str, int]]) -> bool:
    """Is a point a drawn setting? It has one seed; the settings as they are have several."""
    return all(axis == "trials" and degree > 1 for axis, degree in places)


def by_degree(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean, band and standard error over seeds of single fits, one row a degree and period.

    Examples
    --------
    >>> runs = pd.DataFrame({"degree": [5, 5], "seed": [0, 1], "period": ["validation"] * 2,
    ...                      "rank_ic": [0.1, 0.3], "sharpe": [1, 1], "annual_return": [0, 0]})
    >>> by_degree(runs)[["rank_ic", "rank_ic_low", "rank_ic_high"]].round(2).to_numpy().tolist()
    [[0.2, 0.1, 0.3]]
    """
    rows = []
    for (degree, period), group in runs.groupby(["degree", "period"], sort=False):
        row: dict[str, object] = {"degree": degree, "period": period}
        for metric in METRICS:
            values = group[metric].to_numpy(dtype=np.float64)
            row |= {
                metric: values.mean(),
                f"{metric}_low": values.min(),
                f"{metric}_high": values.max(),
                f"{metric}_se": _standard_error(values),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def best_of(trials: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """The best of the first k trials by validation, k doubling, over random orders of them.

    As `by_degree`, but the band holds the middle 90 % of the orders, and the standard error is NaN:
    the orders are not independent.
    """
    wide = {p: trials[trials["period"] == p].sort_values("degree") for p in PERIODS}
    n_trials = len(wide[PERIODS[0]])
    rng = np.random.default_rng(seed)
    orders = np.array([rng.permutation(n_trials) for _ in range(_ORDERS)])
    rows = []
    for k in doublings(n_trials):
        for period in PERIODS:
            row: dict[str, object] = {"degree": k, "period": period}
            for metric in METRICS:
                validated = wide[PERIODS[0]][PICKED_BY[metric]].to_numpy(dtype=np.float64)
                picked = orders[np.arange(_ORDERS), validated[orders[:, :k]].argmax(axis=1)]
                values = wide[period][metric].to_numpy(dtype=np.float64)[picked]
                row[metric] = values.mean()
                row[f"{metric}_low"], row[f"{metric}_high"] = np.quantile(values, [0.05, 0.95])
                row[f"{metric}_se"] = np.nan
            rows.append(row)
    return pd.DataFrame(rows)


def doublings(n: int) -> list[int]:
    """1, 2, 4, ... and n.

    Examples
    --------
    >>> doublings(12)
    [1, 2, 4, 8, 12]
    """
    return sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | {n})


def diminishing(degrees: list[int], gains: Floats, errors: Floats) -> int:
    """The first degree after which the mean gain to the next is within its standard error.

    Examples
    --------
    >>> diminishing([5, 10, 25], np.array([0.02, 0.001]), np.array([0.004, 0.004]))
    10
    """
    for degree, gain, error in zip(degrees, gains, errors, strict=False):
        if not gain > error:
            return degree
    return degrees[-1]


def paired_gains(runs: pd.DataFrame, metric: str) -> tuple[list[int], Floats, Floats]:
    """Degrees, and the validation gain from each to the next with its standard error over seeds."""
    wide = runs[runs["period"] == PERIODS[0]].pivot(index="degree", columns="seed", values=metric)
    wide = wide.sort_index()
    steps = np.diff(wide.to_numpy(dtype=np.float64), axis=0)
    errors = np.array([_standard_error(step) for step in steps])
    return [int(d) for d in wide.index], steps.mean(axis=1), errors


def ensemble(
    returns: Floats,
    excess: Floats,
    correlations: Floats,
    *,
    level: float,
    n_bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """Block-bootstrap intervals of the ensembles' metrics, one row a degree.

    Studentised for Sharpe ratios, which are of the excess returns; percentiles for Rank IC and
    annual return. Simple returns are (n_days, n_degrees), Rank ICs (n_decisions, n_degrees);
    decisions with a NaN are left out.
    """
    known = correlations[np.isfinite(correlations).all(axis=1)]
    draws: dict[str, Any] = {"level": level, "n_bootstrap": n_bootstrap, "seed": seed}
    by_metric: dict[str, Sequence[bootstrap.Interval | SharpeEstimate]] = {
        "rank_ic": bootstrap.bootstrap_intervals(_mean, known, **draws),
        "sharpe": sharpe_intervals(excess, **draws),
        "annual_return": bootstrap.bootstrap_intervals(performance.annual_return, returns, **draws),
    }
    columns: dict[str, list[float]] = {}
    for metric, intervals in by_metric.items():
        columns[f"ensemble_{metric}"] = [i.estimate for i in intervals]
        columns[f"ensemble_{metric}_low"] = [i.low for i in intervals]
        columns[f"ensemble_{metric}_high"] = [i.high for i in intervals]
    return pd.DataFrame(columns)


def _mean(values: Floats) -> Floats:
    return np.asarray(values.mean(axis=0))


def _standard_error(values: Floats) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


@dataclass(frozen=True)
class CurvePlan:
    """What a validation curve varies, and how far.

    Parameters
    ----------
    model : str
        A network.
    steps, hidden : tuple of int
        Gradient steps and units of the recurrent layer, rising. A model trained under limits
        takes twice the steps, as in a study.
    n_trials : int
        The settings as they are, and random ones of the model's default space.
    n_seeds : int
        Single networks at each degree, at least 2 for a standard error. A trial has one.
    validation_share : float
        Share of the decisions before the test.
    refits : int
        Walk-forward fits of the test years.
    overlay : bool
        Evaluate every portfolio under the settings' ``[overlay]``.

    Raises
    ------
    ConfigError
        If a number is out of range or the model is no network.
    """

    model: str = "lstm"
    steps: tuple[int, ...] = (5, 10, 25, 50, 75, 150, 300)
    hidden: tuple[int, ...] = (4, 8, 16, 32, 64, 128)
    n_trials: int = 12
    n_seeds: int = 3
    validation_share: float = 0.25
    refits: int = 2
    overlay: bool = False

    def __post_init__(self) -> None:
        if self.model not in NETWORKS and self.model not in LIMITED:
            raise ConfigError(
                f"{self.model} has no validation curve; choose "
                f"{', '.join(LIMITED)} or {', '.join(NETWORKS)}."
            )
        for name, least in (("n_trials", 2), ("n_seeds", 2), ("refits", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        for name in ("steps", "hidden"):
            values = getattr(self, name)
            if len(values) < 2 or sorted(set(values)) != list(values) or values[0] < 1:
                raise ConfigError(
                    f"{name} must be two or more rising whole numbers, not {list(values)}."
                )
        if not 0.0 < self.validation_share < 1.0:
            raise ConfigError(
                f"validation_share must lie between 0 and 1, not {self.validation_share:g}."
            )


@dataclass(frozen=True, eq=False)
class ValidationCurve:
    """The effect of optimising further, in validation and out of sample.

    Attributes
    ----------
    table : DataFrame
        One row an axis, degree and period. Of each of rank_ic, sharpe (annual) and annual_return
        (a fraction): the mean over single networks, ``_low`` and ``_high`` (the least and the
        greatest of them; for trials the middle 90 % of the orders), ``_se`` (standard error over
        seeds); and ``ensemble_`` of each, of the networks' mean score, with its block-bootstrap
        interval ``_low`` and ``_high`` (NaN for trials).
    points : DataFrame
        One row an axis and metric, by validation: ``diminishing`` (the degree where returns
        diminish) and ``best``; and ``best_out_of_sample``, for reading, never for choosing.
    runs : DataFrame
        One row a fit and period: axis, degree (of a trial its number), seed, and the metrics.
    deflation : dict of str to Deflation
        By axis, of the degree or trial with the best Sharpe ratio in validation.
    plan : CurvePlan
    label, name, data_hash : str
    validated, tested : tuple of str
        First and last day of either period.
    key : str
        Fingerprint of data, settings, plan and versions: the name of its checkpoints.
    """

    table: pd.DataFrame
    points: pd.DataFrame
    runs: pd.DataFrame
    deflation: dict[str, Deflation]
    plan: CurvePlan
    label: str
    name: str
    data_hash: str
    validated: tuple[str, str]
    tested: tuple[str, str]
    key: str

    def describe(self) -> list[str]:
        """The result in sentences, one a line."""
        lines = [
            (
                f"{self.label} on {self.name}: validated {self.validated[0]} to "
                f"{self.validated[1]}, out of sample {self.tested[0]} to {self.tested[1]}, "
                f"{self.plan.n_seeds} seeds."
            )
        ]
        for axis, unit in AXES.items():
            own = self.points[self.points["axis"] == axis].set_index("metric")
            lines += [
                (
                    f"More {unit}: returns diminish at {own['diminishing']['rank_ic']} by Rank IC, "
                    f"at {own['diminishing']['sharpe']} by Sharpe ratio."
                ),
                *(f"  {line}" for line in self.deflation[axis].describe()),
            ]
        return lines

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON; None where a number is not known."""
        return {
            "name": self.name,
            "data_hash": self.data_hash,
            "model": self.plan.model,
            "seeds": self.plan.n_seeds,
            "overlay": self.plan.overlay,
            "validated": list(self.validated),
            "tested": list(self.tested),
            "points": _records(self.points),
            "deflation": {axis: own.to_dict() for axis, own in self.deflation.items()},
            "degrees": _records(self.table),
        }


def write_degrees(curve: ValidationCurve, folder: str | Path) -> Path:
    """Write ``degrees.csv``, ``degree_runs.csv``, ``degree_points.csv`` and ``degrees.json``."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(curve.table, folder / "degrees.csv", index=False)
        write_csv(curve.runs, folder / "degree_runs.csv", index=False)
        write_csv(curve.points, folder / "degree_points.csv", index=False)
        text = json.dumps(curve.summary(), indent=2, allow_nan=False)
        write_atomically(folder / "degrees.json", f"{text}\n".encode(), durable=False)
    except OSError as error:
        raise DataError(f"cannot write the figures into {folder}: {error.strerror}.") from error
    return folder


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(k): None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()}
        for row in table.to_dict("records")
    ]
