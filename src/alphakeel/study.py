"""The story: clean, factors, screen, fit, forecast, allocate, test.

Read this file first. A study walks one panel through every wing of the library, always in the
same direction, and each fold sees its own past only:

1. **clean** the panel, causally, with a ledger of every change;
2. compute all **factors**, and rank them across the sample on each decision date;
3. for each fold of the **walk-forward**, on training rows only: **screen** the factors, **fit**
   every model; then **score** the fold's test rows, which no fit has seen;
4. turn scores into **weights**, beside benchmarks that need no scores;
5. **backtest** all of them with the same costs, the same lag and the same market rules, bare and
   under the same **overlay**, and rung by rung, so that it shows what each part has added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
from skfolio.containers import AssetPanel

from alphakeel.arena import Arena
from alphakeel.config import StudyConfig, config_to_dict
from alphakeel.custom_factors import check_factors
from alphakeel.data.cleaning import CleanResult, clean
from alphakeel.data.panel import market_index, universe_mask
from alphakeel.evidence.recognition import MarketRegimes, find_regimes
from alphakeel.evidence.stress import Stress, stress
from alphakeel.evidence.track import Outcome
from alphakeel.factors.base import FactorSet, compute_factors
from alphakeel.fitting import (
    DECAY,
    collect,
    explain_all,
    fit_all,
    fold_text,
    forecast_volatility,
    measure_decay,
    member_scores,
)
from alphakeel.models.state import Store
from alphakeel.plan import Plan
from alphakeel.preparation import (
    Inputs,
    Screens,
    ends,
    judge_factors,
    prepare,
    refuse_thin_sample,
    simple_returns,
)
from alphakeel.progress import Clock, Progress, Tracker
from alphakeel.provenance import (
    cautions,
    describe_fields,
    hash_panel,
    load_data,
)
from alphakeel.results import Books, FoldResult, ModelResult, Study
from alphakeel.resume import KeptFits, study_key
from alphakeel.roster import work_of
from alphakeel.stats.crosssection import rank_ic
from alphakeel.stats.folds import Fold
from alphakeel.strategies import trade_all, trade_members

__all__ = ["Progress", "load_data", "run_study"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# What a stage weighs on the progress bar, where one LSTM's fit weighs its seeds.
_CLEAN, _FACTORS, _SCREEN, _EXPLAIN, _RISK = 1.0, 1.0, 0.2, 1.0, 0.5
_BACKTEST, _STRESS = 2.0, 0.5


def run_study(
    panel: AssetPanel,
    config: StudyConfig | None = None,
    *,
    name: str = "panel",
    on_progress: Callable[[Progress], None] | None = None,
    store: Store | None = None,
) -> Study:
    """Run the whole study on a panel.

    Parameters
    ----------
    panel : AssetPanel
        As built by `alphakeel.load_panel` or `alphakeel.data.panel`.
    config : StudyConfig, optional
        Settings; the defaults suit daily data of a few dozen stocks or more.
    name : str
        What the report calls the data.
    on_progress : callable, optional
        Called with a `Progress` now and then, possibly from several threads.
    store : Store, optional
        Keeps the progress of every fit, such as `alphakeel.checkpoints.DiskStore`. A study that
        was killed goes on from there when it is run again on the same data with the same
        settings, to the same numbers; what others left in the store does not count.

    Returns
    -------
    Study

    Raises
    ------
    DataError
        If the panel is too short or too thin for the settings.
    ConfigError
        If settings contradict the data.

    Notes
    -----
    A score made at the close of day t uses rows up to t and is traded at the close of
    t + lag. The same panel, settings and seed give the same numbers to the bit on the same
    machine, whatever `config.jobs` is.

    Examples
    --------
    >>> import alphakeel as ak
    >>> panel = ak.load_bundled("synthetic", n_assets=12, n_dates=900, seed=1)
    >>> config = ak.StudyConfig(models=("linear",), report=ak.ReportConfig(n_bootstrap=100))
    >>> study = ak.run_study(panel, config)
    >>> list(study.strategies)
    ['Equal weight', 'Minimum variance', 'Linear']
    """
    plan = Plan.of(panel, config or StudyConfig())
    config, folds = plan.config, plan.folds
    tracker, clock = Tracker(on_progress, _work_of(plan)), Clock()

    with clock.stage("clean"), tracker.task("cleaning", _CLEAN):
        data = _clean(panel, config)

    kept = KeptFits(store, study_key(data.hash, config_to_dict(config), plan.versions))
    resumed = kept.begin()

    with clock.stage("factors"), tracker.task("factors", _FACTORS):
        factors, inputs = _measure(data, plan)

    with clock.stage("screen"):
        screens = _screen(inputs, plan, tracker)

    with clock.stage("fit"):
        fits = fit_all(
            inputs, folds, screens, plan.models, config,
            assets=plan.assets, tracker=tracker, kept=kept, resumed=resumed,
        )  # fmt: skip
        models = {name: collect(name, inputs, folds, own) for name, own in fits.items()}

    with clock.stage("explain"), tracker.task("explaining", _EXPLAIN):
        if config.report.drivers:
            drivers = explain_all(inputs, folds, screens, fits, config)
            models = {n: replace(own, drivers=tuple(drivers[n])) for n, own in models.items()}

    with clock.stage("risk"), tracker.task("forecasting risk", _RISK):
        volatility = forecast_volatility(data.cleaning, inputs, folds, plan.rows, config)

    with clock.stage("backtest"), tracker.task("backtest", _BACKTEST):
        members = {}
        if config.report.sensitivity:
            members = member_scores(inputs, folds, screens, fits)
        traded = _trade(panel, plan, data, inputs, models, members, volatility)

    with clock.stage("stress"), tracker.task("stress tests", _STRESS):
        stressed = _stress(traded, plan)

    return _assembled(panel, name, plan, data, factors, screens, models, traded, stressed, clock)


@dataclass(frozen=True, eq=False)
class _Data:
    """A cleaned panel, the stocks fit for the sample each day, the hash of what was handed in."""

    cleaning: CleanResult
    sample: Bools
    hash: str


@dataclass(frozen=True, eq=False)
class _Traded:
    """What the backtests gave, and what they were run in."""

    market: Floats | None
    regimes: MarketRegimes | None
    arena: Arena
    books: Books
    seeds: dict[tuple[str, int], Outcome]
    seed_ics: dict[tuple[str, int], npt.NDArray[np.floating[Any]]]
    decay: dict[str, npt.NDArray[np.floating[Any]]]


def _work_of(plan: Plan) -> float:
    """All work of a study, as the progress bar counts it."""
    a_fold = _SCREEN + sum(work_of(model, plan.config) for model in plan.models)
    ending = _EXPLAIN + _RISK + _BACKTEST + _STRESS
    return _CLEAN + _FACTORS + len(plan.folds) * a_fold + ending


def _clean(panel: AssetPanel, config: StudyConfig) -> _Data:
    data_hash = hash_panel(panel)
    cleaning = clean(panel, **config.cleaning.keywords())
    return _Data(cleaning, cleaning.eligible & universe_mask(panel), data_hash)


def _measure(data: _Data, plan: Plan) -> tuple[FactorSet, Inputs]:
    """All factors, and what every fit reads of them."""
    factors = compute_factors(data.cleaning.panel, plan.library)
    check_factors(plan.custom, data.cleaning.panel, factors)
    inputs = prepare(data.cleaning, factors, data.sample, plan.rows, plan.config)
    refuse_thin_sample(inputs, plan.folds)
    return factors, inputs


def _screen(inputs: Inputs, plan: Plan, tracker: Tracker) -> list[Screens]:
    """Judge the factors on each fold's training rows."""

    def screen(number: int, fold: Fold) -> Screens:
        with tracker.task("screening", _SCREEN, fold_text(number, plan.folds)):
            return judge_factors(inputs, fold, plan.config)

    parallel = joblib.Parallel(n_jobs=plan.config.jobs, prefer="threads")
    screens: list[Screens] = parallel(
        joblib.delayed(screen)(number, fold) for number, fold in enumerate(plan.folds)
    )
    return screens


def _trade(
    panel: AssetPanel,
    plan: Plan,
    data: _Data,
    inputs: Inputs,
    models: dict[str, ModelResult],
    members: Mapping[str, npt.NDArray[np.float32]],
    volatility: Floats,
) -> _Traded:
    """Every book, those of single networks, and how long scores go on ranking stocks."""
    config, cleaning = plan.config, data.cleaning
    market, regimes = market_history(panel), None
    if market is not None:
        first, zigzag = plan.days.start - 1, config.report.zigzag
        regimes = find_regimes(market, plan.dates, first=first, zigzag=zigzag, seed=config.seed)
    arena = Arena.of(cleaning, data.sample, plan.rows, plan.days, config, regimes=regimes)
    price = cleaning.panel["accounting_close"]
    return _Traded(
        market=market,
        regimes=regimes,
        arena=arena,
        books=trade_all(models, volatility, arena, cleaning.panel, config),
        seeds=trade_members(members, volatility, arena, config),
        seed_ics={
            (label, seed): np.asarray(rank_ic(scores, inputs.forward[..., -1]))
            for label, own in members.items()
            for seed, scores in enumerate(own)
        },
        decay=measure_decay(models, price, plan.rows, config.target.lag),
    )


def _stress(traded: _Traded, plan: Plan) -> Stress:
    market, config = traded.market, plan.config
    return stress(
        traded.books.every_ledger(),
        traded.arena.returns,
        None if market is None else simple_returns(market[:, None])[:, 0],
        plan.dates,
        plan.days,
        horizon=config.report.fan_days,
        seed=config.seed,
    )


def _assembled(
    panel: AssetPanel,
    name: str,
    plan: Plan,
    data: _Data,
    factors: FactorSet,
    screens: Sequence[Screens],
    models: dict[str, ModelResult],
    traded: _Traded,
    stressed: Stress,
    clock: Clock,
) -> Study:
    """All of it in one frozen value."""
    omitted = factors.omitted
    return Study(
        config=plan.config,
        name=name,
        dates=plan.dates,
        asset_names=np.asarray(panel.asset_names),
        decision_rows=plan.rows,
        test=plan.days,
        models=models,
        folds=_folds(plan, screens),
        books=traded.books,
        regimes=traded.regimes,
        stress=stressed,
        seeds=traded.seeds,
        seed_ics=traded.seed_ics,
        decay=traded.decay,
        decay_horizons=DECAY,
        market_returns=_market_returns(panel, plan.days),
        cleaning=data.cleaning,
        cleaning_counts=data.cleaning.ledger.counts(),
        data_quality=describe_fields(panel),
        left_out=pd.DataFrame({"factor": list(omitted), "reason": list(omitted.values())}),
        notes=cautions(panel, factors, plan.config),
        seconds=clock.seconds,
        versions=plan.versions,
        data_hash=data.hash,
    )


def _folds(plan: Plan, screens: Sequence[Screens]) -> tuple[FoldResult, ...]:
    days = plan.dates[plan.rows]
    return tuple(
        FoldResult(
            train=ends(days[fold.train]),
            test=ends(days[fold.test]),
            selected={model: judged.names(model) for model in plan.models},
            verdicts=judged.verdicts(),
        )
        for fold, judged in zip(plan.folds, screens, strict=True)
    )


def market_history(panel: AssetPanel) -> Floats | None:
    """Level of the market index on every day, (n_dates,); None without one, or with gaps."""
    index = market_index(panel)
    if index is None or not np.isfinite(index).all():
        return None
    return np.asarray(index, dtype=np.float64)


def _market_returns(panel: AssetPanel, days: slice) -> Floats | None:
    """Returns of the market index on the days of the test; None unless all are known."""
    index = market_index(panel)
    if index is None:
        return None
    returns = np.asarray(simple_returns(index[:, None])[days, 0])
    return returns if np.isfinite(returns).all() else None
