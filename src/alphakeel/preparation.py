"""What every fit of a study reads: decision rows, folds, features, labels, and screened factors."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone

from alphakeel.config import StudyConfig
from alphakeel.data.cleaning import CleanResult
from alphakeel.errors import ConfigError, DataError
from alphakeel.factors import FACTORS
from alphakeel.factors.base import Factor, FactorSet, standardise
from alphakeel.factors.screening import FactorScreen
from alphakeel.factors.targets import forward_returns, holding_returns, ranked_targets
from alphakeel.portfolio.forecast import ew_volatility
from alphakeel.stats.folds import Fold, walk_forward

__all__ = [
    "Inputs",
    "Screens",
    "ends",
    "find_test_days",
    "judge_factors",
    "make_folds",
    "prepare",
    "refuse_thin_sample",
    "refuse_unknown_factors",
    "simple_returns",
    "with_test_dates",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# Fewer days have no standard error of a Sharpe ratio.
_LEAST_DAYS = 10
# Fewer stocks on a date have no correlation worth the name.
_LEAST_STOCKS = 5


@dataclass(frozen=True, eq=False)
class Inputs:
    """What every fit reads, on decision rows; the targets alone look past their row."""

    features: npt.NDArray[np.float32]  # (R, N, K) ranks with unit variance, 0 where missing
    raw: npt.NDArray[np.float32]  # (R, N, K) factor values, NaN where missing
    market: npt.NDArray[np.float32]  # (R, M)
    targets: npt.NDArray[np.float32]  # (R, N, H) ranks of what came after, NaN where unknown
    forward: Floats  # (R, N, H) forward log returns
    sample: Bools  # (R, N)
    paths: Floats  # (R, step, N) daily returns from a row's trade to the next row's
    volatility: Floats  # (R, N) known at the row
    names: tuple[str, ...]
    families: tuple[str, ...]


def prepare(
    cleaning: CleanResult,
    factors: FactorSet,
    eligible: Bools,
    rows: npt.NDArray[np.intp],
    config: StudyConfig,
) -> Inputs:
    """Cut factors and targets down to the decision rows."""
    raw = factors.values[rows]
    sample = (eligible & cleaning.panel.estimation_mask)[rows]
    # A holder of a delisted stock is paid its last price, so that is what a label ends with.
    price = pd.DataFrame(cleaning.panel["accounting_close"]).ffill().to_numpy()
    lag, horizons = config.target.lag, config.target.horizons
    forward = np.stack(
        [forward_returns(price, lag=lag, horizon=h)[rows] for h in horizons], axis=-1
    )
    returns = simple_returns(cleaning.panel["accounting_close"])
    volatility = ew_volatility(returns, halflife=config.allocation.volatility_halflife)
    unit = volatility if config.target.unit == "volatility" else None
    targets = ranked_targets(price, lag=lag, horizons=horizons, mask=eligible, scale=unit)
    return Inputs(
        paths=holding_returns(returns, rows, lag=lag, days=config.walk_forward.rebalance_every),
        volatility=volatility[rows],
        features=standardise(raw, sample),
        raw=raw,
        market=factors.market[rows],
        targets=targets[rows],
        forward=forward,
        sample=sample,
        names=factors.names,
        families=factors.families,
    )


def simple_returns(price: Floats) -> Floats:
    """Simple daily returns, NaN in the first row and where a price is missing."""
    out = np.full(price.shape, np.nan)
    out[1:] = price[1:] / price[:-1] - 1.0
    return out


def find_test_days(dates: npt.NDArray[np.datetime64], config: StudyConfig) -> slice:
    """Rows of the test window; by default the last two fifths of the data.

    Raises
    ------
    ConfigError
        If the settings leave too few days to test or to confirm.
    DataError
        If too few days precede the test.
    """
    walk = config.walk_forward
    start = int(0.6 * len(dates))
    if walk.test_start is not None:
        start = int(np.searchsorted(dates, np.datetime64(walk.test_start)))
    stop = len(dates)
    if walk.test_end is not None:
        stop = int(np.searchsorted(dates, np.datetime64(walk.test_end), side="right"))
    least = max(_LEAST_DAYS, 2 * walk.rebalance_every)
    if stop - start < least:
        raise ConfigError(
            f"walk_forward leaves {max(0, stop - start)} test days between "
            f"{walk.test_start or 'the default start'} and {walk.test_end or 'the end'}, and at "
            f"least {least} are needed; the data run from {dates[0]} to {dates[-1]}."
        )
    confirm = config.report.confirm_from
    if confirm is not None:
        left = stop - max(start, int(np.searchsorted(dates, np.datetime64(confirm))))
        if left < _LEAST_DAYS:
            raise ConfigError(
                f"report.confirm_from {confirm} leaves {max(0, left)} days of the test, and at "
                f"least {_LEAST_DAYS} are needed; the test runs from {dates[start]} to "
                f"{dates[stop - 1]}."
            )
    shortest = config.cleaning.min_history + 2 * (config.target.lag + max(config.target.horizons))
    if start < shortest:
        raise DataError(
            f"only {start} days precede the test start {dates[start]}, and at least {shortest} "
            f"are needed to train on (data start {dates[0]}); start the test later or add history."
        )
    return slice(start, stop)


def with_test_dates(config: StudyConfig, tested: npt.NDArray[np.datetime64]) -> StudyConfig:
    """Settings with the test window filled in, so that a run folder records it."""
    first, last = (day.astype(dt.date) for day in ends(tested))
    walk = replace(config.walk_forward, test_start=first, test_end=last)
    return replace(config, walk_forward=walk)


def ends(dates: npt.NDArray[np.datetime64]) -> tuple[np.datetime64, np.datetime64]:
    """First and last of some dates."""
    return dates[0], dates[-1]


def make_folds(rows: npt.NDArray[np.intp], days: slice, config: StudyConfig) -> tuple[Fold, ...]:
    """Walk-forward folds in decision rows, purged by the longest label and the embargo."""
    step = config.walk_forward.rebalance_every
    walk = config.walk_forward
    reach = config.target.lag + max(config.target.horizons)
    return walk_forward(
        len(rows),
        first_test=int(np.searchsorted(rows, days.start)),
        test_size=max(1, walk.refit_every // step),
        purge=-(-reach // step),
        embargo=-(-walk.embargo // step),
        train_size=walk.train_days // step or None,
    )


def refuse_thin_sample(inputs: Inputs, folds: Sequence[Fold]) -> None:
    """Refuse a sample with too few stocks to train on, or to test on.

    Raises
    ------
    DataError
        If fewer than two decision dates of the first fold's training rows, or of the test, have
        five stocks.
    """
    breadth, first = inputs.sample.sum(axis=1), folds[0]
    parts = {"to train on": breadth[first.train], "of the test": breadth[first.test.start :]}
    for where, number in parts.items():
        if (number >= _LEAST_STOCKS).sum() < 2:
            raise DataError(
                f"the sample has at most {number.max(initial=0)} stocks on the {len(number)} "
                f"decision dates {where}, and at least {_LEAST_STOCKS} are needed: give more "
                "stocks, or a longer history of them, or loosen [cleaning]."
            )


@dataclass(frozen=True, eq=False)
class Screens:
    """The factors that each kind of model is given, judged on one fold's training rows."""

    linear: FactorScreen
    network: FactorScreen

    def names(self, model: str) -> tuple[str, ...]:
        """Give the factors that a model of this name sees."""
        chosen = self.linear if model == "linear" else self.network
        return tuple(chosen.selected_)

    def verdicts(self) -> pd.DataFrame:
        """The linear model's verdicts, and whether networks were given the factor."""
        table = self.linear.verdicts_
        return table.assign(network=table["factor"].isin(self.network.selected_))


def judge_factors(inputs: Inputs, fold: Fold, config: StudyConfig) -> Screens:
    """Judge the factors on one fold's training rows.

    A factor whose own Rank IC is noise cannot help a linear model, but it may be one half of an
    interaction; so a network is spared the question of strength, and asked the others.
    """
    screen = config.screen
    step = config.walk_forward.rebalance_every
    rows: dict[str, Any] = {
        "values": inputs.raw[fold.train],
        "targets": inputs.targets[fold.train],
        "mask": inputs.sample[fold.train],
        "names": inputs.names,
        "families": inputs.families,
        "horizons": tuple(-(-horizon // step) for horizon in config.target.horizons),
    }
    linear = FactorScreen(**screen.keywords(without=("networks_keep_weak",)))
    linear.fit(**rows)
    if not screen.networks_keep_weak or config.models == ("linear",):
        return Screens(linear, linear)
    network = clone(linear).set_params(
        min_abs_t=0.0, min_sign_stability=0.0, false_discovery_rate=None
    )
    return Screens(linear, network.fit(**rows))


def refuse_unknown_factors(config: StudyConfig, library: Sequence[Factor] = FACTORS) -> None:
    """Refuse an excluded factor that does not exist, naming the nearest, and to exclude all."""
    known = {factor.name for factor in library}
    for name in config.factors.exclude:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise ConfigError(
                f"factors.exclude names {name!r}, which is no factor"
                + (f"; did you mean {near[0]}?" if near else ".")
            )
    if known <= set(config.factors.exclude):
        raise ConfigError("factors.exclude leaves no factor: keep at least one.")
