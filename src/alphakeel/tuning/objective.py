"""What a trial is judged by: fit on the training rows of a split, score and trade its test rows.

A split's test rows are decision rows; their book is decided with the scores made there, traded
`lag` days later, and its days run from the first test row to the day before the row after the
last. All blocks start in cash and pay for their own entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from skfolio.containers import AssetPanel

from alphakeel.config import StudyConfig
from alphakeel.custom_factors import check_factors, load_factors
from alphakeel.data.cleaning import clean
from alphakeel.data.panel import universe_mask
from alphakeel.errors import DataError
from alphakeel.factors import FACTORS
from alphakeel.factors.base import compute_factors
from alphakeel.models.allocating import AllocatingForecaster
from alphakeel.portfolio import allocation
from alphakeel.portfolio.backtest import backtest
from alphakeel.portfolio.costs import ProportionalCost
from alphakeel.preparation import Inputs, judge_factors, prepare, refuse_unknown_factors
from alphakeel.roster import make_forecaster
from alphakeel.stats import metrics
from alphakeel.stats.crosssection import rank_ic
from alphakeel.stats.folds import Fold

__all__ = [
    "Book",
    "Forecast",
    "Problem",
    "Split",
    "book_of",
    "fit_and_score",
    "names_for",
    "over_limits",
    "prepare_problem",
    "rank_ic_of",
]

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything that trials on one panel share.

    Attributes
    ----------
    inputs : Inputs
        On decision rows.
    rows : ndarray of shape (n_rows,)
        Day of each decision row.
    first : int
        First decision row with a stock in the sample.
    dates : ndarray of shape (n_dates,), datetime64[D]
    price : ndarray of shape (n_dates, n_assets)
    tradable : ndarray of shape (n_dates, n_assets) of bool
    versions : dict of str to str
        Fingerprints of the user's own factors.
    """

    inputs: Inputs
    rows: Rows
    first: int
    dates: npt.NDArray[np.datetime64]
    price: Floats
    tradable: npt.NDArray[np.bool_]
    versions: dict[str, str]


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to train on, in order, and one or more blocks of rows that judge."""

    train: Rows
    test: tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class Forecast:
    """Scores of shape (n_rows, n_assets), and weights of a model that allocates by itself."""

    scores: npt.NDArray[np.floating[Any]]
    weights: Floats | None


@dataclass(frozen=True, eq=False)
class Book:
    """A block's portfolio: its days, net simple returns and turnover a day."""

    days: slice
    returns: Floats
    turnover: Floats


def prepare_problem(panel: AssetPanel, config: StudyConfig, *, anchor: int) -> Problem:
    """Clean a panel and compute what every fit reads.

    Parameters
    ----------
    panel : AssetPanel
        No day after its last one is read: cut it where the search must not look.
    config : StudyConfig
    anchor : int
        A day on which there is (or would be) a decision; the others follow from it.

    Raises
    ------
    DataError
        If no stock is ever in the sample.
    """
    cleaning = clean(panel, **config.cleaning.keywords())
    sample = cleaning.eligible & universe_mask(panel)
    step = config.walk_forward.rebalance_every
    rows = np.arange(anchor % step, len(panel.observations), step)
    custom = load_factors(config.factors.custom)
    library = (*FACTORS, *custom.factors)
    refuse_unknown_factors(config, library)
    wanted = tuple(f for f in library if f.name not in config.factors.exclude)
    factors = compute_factors(cleaning.panel, wanted)
    check_factors(custom, cleaning.panel, factors)
    inputs = prepare(cleaning, factors, sample, rows, config)
    filled = np.flatnonzero(inputs.sample.any(axis=1))
    if not len(filled):
        raise DataError(
            "no stock is fit for the sample before the test: give more history, or lower "
            "cleaning.min_history."
        )
    return Problem(
        inputs=inputs,
        rows=rows,
        first=int(filled[0]),
        dates=np.asarray(panel.observations, dtype="datetime64[D]"),
        price=cleaning.panel["accounting_close"],
        tradable=cleaning.panel.estimation_mask,
        versions=dict(custom.versions),
    )


def names_for(problem: Problem, train: Rows, model: str, config: StudyConfig) -> tuple[str, ...]:
    """Factors that the screen leaves to a model, judged on the training rows alone."""
    own = _taken(problem.inputs, train)
    fold = Fold(train=slice(0, len(train)), test=slice(len(train), len(train)), purge=0)
    return judge_factors(own, fold, replace(config, models=(model,))).names(model)


def fit_and_score(
    problem: Problem, train: Rows, until: int, names: Sequence[str], model: str, config: StudyConfig
) -> Forecast:
    """Fit a model on some rows and score every row before `until`.

    Where training rows lie on both sides of a block, they are put side by side: the state of a
    network runs over that one seam in training, and over no gap in prediction.
    """
    inputs = problem.inputs
    keep = [inputs.names.index(name) for name in names]
    features = np.ascontiguousarray(inputs.features[:until, :, keep])
    forecaster = make_forecaster(model, config, _unheard)
    learnt = {"mask": inputs.sample[train], "market": inputs.market[train]}
    known = {"mask": inputs.sample[:until], "market": inputs.market[:until]}
    weights = None
    if isinstance(forecaster, AllocatingForecaster):
        forecaster.fit(
            inputs.features[train][:, :, keep],
            inputs.targets[train],
            returns=inputs.paths[train],
            volatility=inputs.volatility[train],
            **learnt,
        )
        weights = forecaster.predict_weights(
            features, volatility=inputs.volatility[:until], **known
        )
    else:
        forecaster.fit(inputs.features[train][:, :, keep], inputs.targets[train], **learnt)
    return Forecast(forecaster.predict(features, **known), weights)


def rank_ic_of(problem: Problem, scores: npt.NDArray[np.floating[Any]], block: slice) -> Floats:
    """Rank IC of each row of a block, the mean over horizons; NaN where none can be had."""
    by_horizon = rank_ic(scores[block], problem.inputs.forward[block])
    known = np.isfinite(by_horizon)
    total = np.where(known, by_horizon, 0.0).sum(axis=-1)
    count = known.sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def book_of(problem: Problem, forecast: Forecast, block: slice, config: StudyConfig) -> Book:
    """Trade the forecast of a block of rows as the study trades scores."""
    rows = problem.rows[block]
    stop = problem.rows[block.stop] if block.stop < len(problem.rows) else len(problem.price)
    days = slice(int(rows[0]), int(stop))
    decided = forecast.weights[block] if forecast.weights is not None else None
    if decided is None:
        decided = allocation.top_quantile(
            np.asarray(forecast.scores[block], dtype=np.float64),
            problem.inputs.volatility[block],
            eligible=problem.inputs.sample[block],
            quantile=config.allocation.quantile,
            weight_cap=config.allocation.weight_cap,
            smoothing=config.allocation.smoothing,
        )
    target = np.full((days.stop - days.start, problem.price.shape[1]), np.nan)
    target[rows - days.start] = decided
    ledger = backtest(
        target,
        problem.price[days],
        tradable=problem.tradable[days],
        lag=config.target.lag,
        cost=ProportionalCost(config.costs.cost_per_side),
    )
    return Book(days, ledger.net_returns, ledger.turnover)


def over_limits(
    returns: Floats, turnover: Floats, limits: Mapping[str, float | None]
) -> dict[str, float]:
    """By how much a book exceeds each limit: realised over allowed, less 1; 0 or less keeps it.

    Parameters
    ----------
    returns, turnover : ndarray of shape (n_days,)
        Simple returns, and value traded over wealth, a day.
    limits : mapping of str to float or None
        volatility and turnover a year, max_drawdown, var_95 and cvar_95 of one day, as fractions;
        None is no limit.

    Examples
    --------
    >>> days = np.array([0.0, -0.1, 0.0, 0.05])
    >>> over = over_limits(days, np.zeros(4), {"max_drawdown": 0.2, "var_95": None})
    >>> {name: round(value, 6) for name, value in over.items()}
    {'max_drawdown': -0.5}
    """
    realised = {
        "volatility": lambda: metrics.annual_volatility(returns),
        "max_drawdown": lambda: metrics.max_drawdown(returns),
        "var_95": lambda: metrics.value_at_risk(returns),
        "cvar_95": lambda: metrics.conditional_value_at_risk(returns),
        "turnover": lambda: turnover.mean() * metrics.PERIODS_PER_YEAR,
    }
    return {
        name: float(realised[name]()) / limit - 1.0
        for name, limit in limits.items()
        if limit is not None
    }


def _taken(inputs: Inputs, rows: Rows) -> Inputs:
    """The same inputs on some of the rows."""
    per_row = {
        name: getattr(inputs, name)[rows]
        for name in Inputs.__dataclass_fields__
        if name not in ("names", "families")
    }
    return replace(inputs, **per_row)


def _unheard(*_: Any) -> None:
    """Take no notice of the steps of a fit."""
