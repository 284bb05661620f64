"""The story: clean, factors, screen, fit, forecast, allocate, test.

Read this file first. A study walks one panel through every wing of the library, always in the
same direction, and each fold sees its own past only:

1. **clean** the panel, causally, with a ledger of every change;
2. compute all **factors**, and rank them across the sample on each decision date;
3. for each fold of the **walk-forward**, on training rows only: **screen** the factors, **fit**
   every model; then **score** the fold's test rows, which no fit has seen;
4. turn scores into **weights**, beside benchmarks that need no scores;
5. **backtest** all of them with the same costs, the same lag and the same market rules.
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
from alphakeel.data.cleaning import CleanResult, clean
from alphakeel.data.panel import market_index, universe_mask
from alphakeel.errors import ConvergenceError
from alphakeel.factors import FACTORS
from alphakeel.factors.base import compute_factors
from alphakeel.models.allocating import AllocatingForecaster
from alphakeel.models.base import Forecaster
from alphakeel.models.explain import Drivers, find_drivers
from alphakeel.models.restore import restore
from alphakeel.models.risk import RiskForecaster
from alphakeel.models.state import Store
from alphakeel.portfolio import allocation
from alphakeel.portfolio.backtest import Ledger, backtest
from alphakeel.portfolio.costs import ProportionalCost
from alphakeel.preparation import (
    Inputs,
    Screens,
    ends,
    find_test_days,
    judge_factors,
    make_folds,
    prepare,
    refuse_unknown_factors,
    simple_returns,
    with_test_dates,
)
from alphakeel.progress import Clock, Progress, Task, Tracker
from alphakeel.provenance import (
    cautions,
    describe_fields,
    hash_panel,
    load_data,
    versions_at_work,
)
from alphakeel.results import FoldResult, ModelResult, Study
from alphakeel.resume import FitResult, KeptFits, study_key
from alphakeel.roster import LABELS, check_models, make_forecaster, work_of
from alphakeel.stats.crosssection import ic, rank_ic
from alphakeel.stats.folds import Fold

__all__ = ["Progress", "load_data", "run_study"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# What a stage weighs on the progress bar, where one LSTM's fit weighs its seeds.
_CLEAN, _FACTORS, _SCREEN, _EXPLAIN, _RISK, _BACKTEST = 1.0, 1.0, 0.2, 1.0, 0.5, 1.0
# Decisions before a fold's test rows from which an explanation warms up the memory of a network.
_MEMORY = 52


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
    refuse_unknown_factors(config)
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
    tracker = Tracker(on_progress, _CLEAN + _FACTORS + fit_work + _EXPLAIN + _RISK + _BACKTEST)
    clock = Clock()

    with clock.stage("clean"), tracker.task("cleaning", _CLEAN):
        data_hash = hash_panel(panel)
        cleaning = clean(panel, **_cleaning_options(config))
        sample = cleaning.eligible & universe_mask(panel)

    versions = versions_at_work(config)
    kept = KeptFits(store, study_key(data_hash, config_to_dict(config), versions))
    begun_before = kept.begin()

    with clock.stage("factors"), tracker.task("factors", _FACTORS):
        wanted = tuple(f for f in FACTORS if f.name not in config.factors.exclude)
        factors = compute_factors(cleaning.panel, wanted)
        inputs = prepare(cleaning, factors, sample, rows, config)

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
                    done = _fit_and_score(inputs, fold, names, model, config, task, number, kept)
                except ConvergenceError as error:
                    raise _named(error, text, names, assets) from error
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
            model: _collect(
                model, inputs, folds, [f for f, p in zip(fits, pairs, strict=True) if p[0] == model]
            )
            for model in models
        }

    def explain(number: int, model: str, result: FitResult) -> Drivers:
        names = screens[number].names(model)
        return _drivers(inputs, folds[number], names, result, config.seed, number)

    with clock.stage("explain"), tracker.task("explaining", _EXPLAIN):
        wanted_fits = zip(pairs, fits, strict=True) if config.report.drivers else ()
        explained = parallel(
            joblib.delayed(explain)(i, model, fit) for (model, i), fit in wanted_fits
        )
        for model, result in results.items():
            own = (d for d, pair in zip(explained, pairs, strict=False) if pair[0] == model)
            results[model] = replace(result, drivers=tuple(own))

    with clock.stage("risk"), tracker.task("forecasting risk", _RISK):
        volatility = _volatility(cleaning, inputs, folds, rows, config)

    with clock.stage("backtest"), tracker.task("backtest", _BACKTEST):
        strategies = _strategies(cleaning, sample, rows, days, results, volatility, config)

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
        strategies=strategies,
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


def _fit_and_score(
    inputs: Inputs,
    fold: Fold,
    names: tuple[str, ...],
    model: str,
    config: StudyConfig,
    task: Task,
    number: int,
    kept: KeptFits,
) -> FitResult:
    """Fit one model on a fold's training rows and score its test rows."""
    forecaster = _forecaster(model, config, task)
    kept.attach(forecaster, model, number)
    keep = [inputs.names.index(name) for name in names]
    features = np.ascontiguousarray(inputs.features[: fold.test.stop, :, keep])
    train, until = fold.train, slice(0, fold.test.stop)
    learnt = {"mask": inputs.sample[train], "market": inputs.market[train]}
    known = {"mask": inputs.sample[until], "market": inputs.market[until]}
    if isinstance(forecaster, AllocatingForecaster):
        paths, volatility = inputs.paths[train], inputs.volatility
        forecaster.fit(
            features[train],
            inputs.targets[train],
            returns=paths,
            volatility=volatility[train],
            **learnt,
        )
        weights = forecaster.predict_weights(features, volatility=volatility[until], **known)
        weights = weights[fold.test]
    else:
        forecaster.fit(features[train], inputs.targets[train], **learnt)
        weights = None
    # The state of a sequence model runs on from the first row, so that it enters the test warm.
    scores = np.asarray(forecaster.predict(features, **known)[fold.test])
    history = [{"fold": number, **_flat(entry)} for entry in getattr(forecaster, "history_", [])]
    return FitResult(scores, history, forecaster.state(), weights)


def _named(
    error: ConvergenceError, fit: str, names: tuple[str, ...], assets: tuple[str, ...]
) -> ConvergenceError:
    """The error of a fit with the names of the columns at fault."""
    factor = "" if error.factor is None else f", factor {names[error.factor]}"
    stock = "" if error.asset is None else f", stock {assets[error.asset]}"
    return ConvergenceError(
        f"{fit}{factor}{stock}: {error}", factor=error.factor, asset=error.asset
    )


def _flat(entry: dict[str, Any]) -> dict[str, Any]:
    """One row of a training's history, the records of its limits in columns of their own."""
    flat = {name: value for name, value in entry.items() if name != "limits"}
    for limit, record in entry.get("limits", {}).items():
        flat |= {f"{limit}_{what}": record[what] for what in ("value", "violation", "multiplier")}
    return flat


def limits_table(fits: list[FitResult]) -> pd.DataFrame:
    """Each limit in each fold, as trained: before and after exposure was calibrated."""
    rows = []
    for number, fit in enumerate(fits):
        model = restore(fit.fitted)
        for name, record in model.limits_.items():
            rows.append({"fold": number + 1, "limit_name": name, **record})
    return pd.DataFrame(rows)


def _drivers(
    inputs: Inputs, fold: Fold, names: tuple[str, ...], fit: FitResult, seed: int, number: int
) -> Drivers:
    """Which factors drove the scores of a fold's test rows; nothing is decided by it."""
    first = max(0, fold.test.start - _MEMORY)
    rows = slice(first, fold.test.stop)
    keep = [inputs.names.index(name) for name in names]
    return find_drivers(
        restore(fit.fitted),
        inputs.features[rows][:, :, keep],
        inputs.forward[rows],
        names=names,
        rng=np.random.default_rng([seed, number]),
        rows=slice(fold.test.start - first, None),
        mask=inputs.sample[rows],
        market=inputs.market[rows],
    )


def _forecaster(model: str, config: StudyConfig, task: Task) -> Forecaster:
    seeds = config.network.seeds

    def on_progress(seed: int, step: int, total_steps: int, loss: float) -> None:
        share = (seed * total_steps + step) / (seeds * total_steps)
        task.at(share, f"seed {seed + 1}, step {step}, loss {loss:.3f}")

    return make_forecaster(model, config, on_progress)


def _collect(
    model: str,
    inputs: Inputs,
    folds: tuple[Fold, ...],
    fits: list[FitResult],
) -> ModelResult:
    """Join a model's folds and measure its scores against what came after."""
    scores = np.full(inputs.sample.shape, np.nan, dtype=np.float32)
    weights = np.full(inputs.sample.shape, np.nan) if fits[0].weights is not None else None
    for fold, fit in zip(folds, fits, strict=True):
        scores[fold.test] = fit.scores
        if weights is not None and fit.weights is not None:
            weights[fold.test] = fit.weights
    return ModelResult(
        name=model,
        label=LABELS[model],
        scores=scores,
        ic=np.stack(
            [ic(scores, inputs.forward[..., h]) for h in range(inputs.forward.shape[-1])], axis=-1
        ),
        rank_ic=rank_ic(scores, inputs.forward),
        history=[entry for fit in fits for entry in fit.history],
        fitted=tuple(fit.fitted for fit in fits),
        weights=weights,
        limits=limits_table(fits) if weights is not None else None,
    )


def _volatility(
    cleaning: CleanResult,
    inputs: Inputs,
    folds: tuple[Fold, ...],
    rows: npt.NDArray[np.intp],
    config: StudyConfig,
) -> Floats:
    """Volatility forecasts that inverse-volatility weights go by, (n_decisions, n_assets)."""
    if config.allocation.volatility == "ewma":
        return inputs.volatility
    returns = simple_returns(cleaning.panel["accounting_close"])
    out = inputs.volatility.copy()
    for fold in folds:
        model = RiskForecaster(
            max_steps=2 * config.network.max_steps, seed=config.seed, device=config.network.device
        )
        train, until = fold.train, slice(0, fold.test.stop)
        # Fitting reads no day after its last decision row, so that it needs no purge.
        model.fit(returns, rows=rows[train], mask=inputs.sample[train], market=inputs.market[train])
        forecast = model.predict(
            returns, rows=rows[until], mask=inputs.sample[until], market=inputs.market[until]
        )
        out[fold.test] = forecast.volatility[fold.test]
    return out


def _strategies(
    cleaning: CleanResult,
    sample: Bools,
    rows: npt.NDArray[np.intp],
    days: slice,
    models: dict[str, ModelResult],
    volatility: Floats,
    config: StudyConfig,
) -> dict[str, Ledger]:
    """Weights of benchmarks and models, all run through the same backtest."""
    alloc = config.allocation
    panel = cleaning.panel
    price = panel["accounting_close"]
    returns = simple_returns(price)
    decisions = rows[rows >= days.start]
    eligible = sample[decisions]
    weights = {
        "Equal weight": allocation.equal_weight(eligible),
        "Minimum variance": allocation.minimum_variance(
            returns,
            decisions,
            eligible,
            window=alloc.covariance_window,
            weight_cap=alloc.weight_cap,
        ),
    }
    for result in models.values():
        if result.weights is not None:
            weights[result.label] = result.weights[rows >= days.start]
            continue
        weights[result.label] = allocation.top_quantile(
            result.scores[rows >= days.start],
            volatility[rows >= days.start],
            eligible=eligible,
            quantile=alloc.quantile,
            weight_cap=alloc.weight_cap,
            smoothing=alloc.smoothing,
        )
    ledgers = {}
    for label, decided in weights.items():
        target = np.full((days.stop - days.start, price.shape[1]), np.nan)
        target[decisions - days.start] = decided
        ledgers[label] = backtest(
            target,
            price[days],
            tradable=panel.estimation_mask[days],
            lag=config.target.lag,
            cost=ProportionalCost(config.costs.per_side),
        )
    return ledgers


def _fold_text(number: int, folds: tuple[Fold, ...]) -> str:
    return f"fold {number + 1} of {len(folds)}"


def _cleaning_options(config: StudyConfig) -> dict[str, Any]:
    return {f.name: getattr(config.cleaning, f.name) for f in fields(config.cleaning)}


def _market_returns(panel: AssetPanel, days: slice) -> Floats | None:
    index = market_index(panel)
    if index is None:
        return None
    return np.asarray(simple_returns(index[:, None])[days, 0])
