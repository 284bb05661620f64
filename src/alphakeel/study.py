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

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
from skfolio.containers import AssetPanel

from alphakeel.config import StudyConfig, config_to_dict
from alphakeel.custom_factors import check_factors, load_factors
from alphakeel.data.cleaning import clean
from alphakeel.data.panel import market_index, universe_mask
from alphakeel.errors import ConvergenceError
from alphakeel.evidence.recognition import find_regimes
from alphakeel.evidence.stress import stress
from alphakeel.factors import FACTORS
from alphakeel.factors.base import compute_factors
from alphakeel.fitting import (
    DECAY,
    collect,
    explain_fit,
    fit_and_score,
    forecast_volatility,
    measure_decay,
    member_scores,
    named,
)
from alphakeel.models.explain import Drivers
from alphakeel.models.state import Store
from alphakeel.preparation import (
    Screens,
    ends,
    find_test_days,
    judge_factors,
    make_folds,
    prepare,
    refuse_thin_sample,
    refuse_unknown_factors,
    simple_returns,
    with_test_dates,
)
from alphakeel.progress import Clock, Progress, Tracker
from alphakeel.provenance import (
    cautions,
    describe_fields,
    hash_panel,
    load_data,
    versions_at_work,
)
from alphakeel.results import FoldResult, Study
from alphakeel.resume import FitResult, KeptFits, study_key
from alphakeel.roster import LABELS, check_models, work_of
from alphakeel.stats.crosssection import rank_ic
from alphakeel.stats.folds import Fold
from alphakeel.strategies import Arena, trade_all, trade_members

__all__ = ["Progress", "load_data", "run_study"]

Floats = npt.NDArray[np.float64]

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
    >>> config = ak.StudyConfig(models=("linear",), report=ak.ReportConfig(bootstrap=100))
    >>> study = ak.run_study(panel, config)
    >>> list(study.strategies)
    ['Equal weight', 'Minimum variance', 'Linear']
    """
    config = config or StudyConfig()
    custom = load_factors(config.factors.custom)
    library = (*FACTORS, *custom.factors)
    refuse_unknown_factors(config, library)
    check_models(config)
    dates = np.asarray(panel.observations, dtype="datetime64[D]")
    days = find_test_days(dates, config)
    config = with_test_dates(config, dates[days])
    models = ("linear", *(model for model in config.models if model != "linear"))
    # The grid of decisions is anchored at the first test day, so that testing starts with one.
    step = config.walk_forward.rebalance_every
    rows = np.arange(days.start % step, days.stop, step)
    folds = make_folds(rows, days, config)
    weight = {model: work_of(model, config) for model in models}
    fit_work = len(folds) * (_SCREEN + sum(weight[model] for model in models))
    ending = _EXPLAIN + _RISK + _BACKTEST + _STRESS
    tracker = Tracker(on_progress, _CLEAN + _FACTORS + fit_work + ending)
    clock = Clock()

    with clock.stage("clean"), tracker.task("cleaning", _CLEAN):
        data_hash = hash_panel(panel)
        cleaning = clean(panel, **_cleaning_options(config))
        sample = cleaning.eligible & universe_mask(panel)

    versions = versions_at_work(config) | custom.versions
    kept = KeptFits(store, study_key(data_hash, config_to_dict(config), versions))
    begun_before = kept.begin()

    with clock.stage("factors"), tracker.task("factors", _FACTORS):
        wanted = tuple(f for f in library if f.name not in config.factors.exclude)
        factors = compute_factors(cleaning.panel, wanted)
        check_factors(custom, cleaning.panel, factors)
        inputs = prepare(cleaning, factors, sample, rows, config)
        refuse_thin_sample(inputs, folds)

    def screen(number: int, fold: Fold) -> Screens:
        with tracker.task("screening", _SCREEN, _fold_text(number, folds)):
            return judge_factors(inputs, fold, config)

    assets = tuple(map(str, panel.asset_names))

    def fit(number: int, fold: Fold, model: str) -> FitResult:
        text = f"{LABELS[model]}, {_fold_text(number, folds)}"
        with tracker.task("fitting", weight[model], text) as task:
            done = found[model, number]
            if done is None:
                names = screens[number].names(model)
                try:
                    done = fit_and_score(inputs, fold, names, model, config, task, number, kept)
                except ConvergenceError as error:
                    raise named(error, text, names, assets) from error
                kept.keep(model, number, done)
            return done

    parallel = joblib.Parallel(n_jobs=config.jobs, prefer="threads")
    with clock.stage("screen"):
        screens = parallel(joblib.delayed(screen)(i, fold) for i, fold in enumerate(folds))
    with clock.stage("fit"):
        pairs = [(model, i) for model in models for i in range(len(folds))]
        found = {pair: kept.find(*pair) for pair in pairs}
        if begun_before:
            finished = sum(fit is not None for fit in found.values())
            with tracker.task("resuming", 0.0, f"{finished} of {len(pairs)} fits done"):
                pass
        fits = parallel(joblib.delayed(fit)(i, folds[i], model) for model, i in pairs)
        results = {
            model: collect(
                model, inputs, folds, [f for f, p in zip(fits, pairs, strict=True) if p[0] == model]
            )
            for model in models
        }

    def explain(number: int, model: str, result: FitResult) -> Drivers:
        names = screens[number].names(model)
        return explain_fit(inputs, folds[number], names, result, config.seed, number)

    def judged_alone(model: str) -> npt.NDArray[np.float32] | None:
        own = [fit for (name, _), fit in zip(pairs, fits, strict=True) if name == model]
        return member_scores(inputs, folds, [screen.names(model) for screen in screens], own)

    with clock.stage("explain"), tracker.task("explaining", _EXPLAIN):
        wanted_fits = zip(pairs, fits, strict=True) if config.report.drivers else ()
        explained = parallel(
            joblib.delayed(explain)(i, model, fit) for (model, i), fit in wanted_fits
        )
        for model, result in results.items():
            own = (d for d, pair in zip(explained, pairs, strict=False) if pair[0] == model)
            results[model] = replace(result, drivers=tuple(own))

    with clock.stage("risk"), tracker.task("forecasting risk", _RISK):
        volatility = forecast_volatility(cleaning, inputs, folds, rows, config)

    with clock.stage("backtest"), tracker.task("backtest", _BACKTEST):
        market = market_history(panel)
        regimes = None
        if market is not None:
            zigzag = config.report.zigzag
            regimes = find_regimes(
                market, dates, first=days.start - 1, zigzag=zigzag, seed=config.seed
            )
        arena = Arena.of(cleaning, sample, rows, days, config, regimes=regimes)
        books = trade_all(results, volatility, arena, cleaning.panel, config)
        scored = [model for model in models if results[model].weights is None]
        alone = {model: judged_alone(model) for model in scored if config.report.sensitivity}
        members = {LABELS[model]: found for model, found in alone.items() if found is not None}
        seeds = trade_members(members, volatility, arena, config)
        decay = measure_decay(results, cleaning.panel["accounting_close"], rows, config.target.lag)

    with clock.stage("stress"), tracker.task("stress tests", _STRESS):
        stressed = stress(
            books.every_ledger(),
            arena.returns,
            None if market is None else simple_returns(market[:, None])[:, 0],
            dates,
            days,
            horizon=config.report.fan_days,
            seed=config.seed,
        )

    return Study(
        config=config,
        name=name,
        dates=dates,
        asset_names=np.asarray(panel.asset_names),
        decision_rows=rows,
        test=days,
        models=results,
        folds=tuple(
            FoldResult(
                train=ends(dates[rows][fold.train]),
                test=ends(dates[rows][fold.test]),
                selected={model: judged.names(model) for model in models},
                verdicts=judged.verdicts(),
            )
            for fold, judged in zip(folds, screens, strict=True)
        ),
        books=books,
        regimes=regimes,
        stress=stressed,
        seeds=seeds,
        seed_ics={
            (label, seed): np.asarray(rank_ic(scores, inputs.forward[..., -1]))
            for label, own in members.items()
            for seed, scores in enumerate(own)
        },
        decay=decay,
        decay_horizons=DECAY,
        market_returns=_market_returns(panel, days),
        cleaning=cleaning,
        cleaning_counts=cleaning.ledger.counts(),
        data_quality=describe_fields(panel),
        left_out=pd.DataFrame(
            {"factor": list(factors.omitted), "reason": list(factors.omitted.values())}
        ),
        notes=cautions(panel, factors, config),
        seconds=clock.seconds,
        versions=versions,
        data_hash=data_hash,
    )


def _fold_text(number: int, folds: tuple[Fold, ...]) -> str:
    return f"fold {number + 1} of {len(folds)}"


def _cleaning_options(config: StudyConfig) -> dict[str, Any]:
    return {f.name: getattr(config.cleaning, f.name) for f in fields(config.cleaning)}


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
