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

import datetime as dt
import difflib
import hashlib
import platform
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from importlib import metadata
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
from skfolio.containers import AssetPanel
from sklearn.base import clone

from alphakeel.config import StudyConfig, config_to_dict
from alphakeel.data.bundled import BUNDLED, load_bundled
from alphakeel.data.cleaning import CleanResult, clean
from alphakeel.data.files import load_panel
from alphakeel.data.panel import market_index, universe_mask
from alphakeel.errors import ConfigError, DataError
from alphakeel.factors import FACTORS
from alphakeel.factors.base import FactorSet, compute_factors, standardise
from alphakeel.factors.screening import FactorScreen
from alphakeel.factors.targets import forward_returns, holding_returns, ranked_targets
from alphakeel.models.allocating import AllocatingForecaster
from alphakeel.models.base import Forecaster
from alphakeel.models.explain import Drivers, find_drivers
from alphakeel.models.restore import restore
from alphakeel.models.state import Store
from alphakeel.portfolio import allocation
from alphakeel.portfolio.backtest import Ledger, backtest
from alphakeel.portfolio.costs import ProportionalCost
from alphakeel.portfolio.forecast import ew_volatility
from alphakeel.progress import Clock, Progress, Task, Tracker
from alphakeel.results import FoldResult, ModelResult, Study
from alphakeel.resume import FitResult, KeptFits, study_key
from alphakeel.roster import LABELS, check_models, make_forecaster, work_of
from alphakeel.stats.crosssection import ic, rank_ic
from alphakeel.stats.folds import Fold, walk_forward

__all__ = ["Progress", "load_data", "run_study"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# What a stage weighs on the progress bar, where one LSTM's fit weighs its seeds.
_CLEAN, _FACTORS, _SCREEN, _EXPLAIN, _BACKTEST = 1.0, 1.0, 0.2, 1.0, 1.0
# Decisions before a fold's test rows from which an explanation warms up the memory of a network.
_MEMORY = 52


def load_data(config: StudyConfig) -> tuple[AssetPanel, StudyConfig, str]:
    """Load the panel that the settings name, and complete the settings with its test window.

    Returns
    -------
    panel : AssetPanel
    config : StudyConfig
        With `walk_forward.test_start` and `test_end` filled in for bundled data.
    name : str

    Raises
    ------
    DataError
        If the data cannot be read or are wrong.
    """
    data = config.data
    if data.source in BUNDLED:
        panel = _between(load_bundled(data.source), data.start, data.end)
        if data.top:
            raise ConfigError(f"data.top applies to files; {data.source} is taken whole.")
        window = BUNDLED[data.source].test_window
        if window is not None and data.start is None and data.end is None:
            start, end = (dt.date.fromisoformat(day) for day in window)
            walk = config.walk_forward
            walk = replace(walk, test_start=walk.test_start or start, test_end=walk.test_end or end)
            config = replace(config, walk_forward=walk)
        return panel, config, data.source
    panel = load_panel(
        data.source, start=data.start, end=data.end, universe=data.universe, top=data.top or None
    )
    return panel, config, data.source.rstrip("/").rsplit("/", 1)[-1]


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
    _refuse_unknown_factors(config)
    check_models(config)
    dates = np.asarray(panel.observations, dtype="datetime64[D]")
    days = _test_days(dates, config)
    config = _with_test_dates(config, dates[days])
    models = ("linear", *(model for model in config.models if model != "linear"))
    # The grid of decisions is anchored at the first test day, so that testing starts with one.
    step = config.walk_forward.rebalance_every
    rows = np.arange(days.start % step, days.stop, step)
    folds = _folds(rows, days, config)
    weight = {model: work_of(model, config) for model in models}
    fit_work = len(folds) * (_SCREEN + sum(weight[model] for model in models))
    tracker = Tracker(on_progress, _CLEAN + _FACTORS + fit_work + _EXPLAIN + _BACKTEST)
    clock = Clock()

    with clock.stage("clean"), tracker.task("cleaning", _CLEAN):
        data_hash = hash_panel(panel)
        cleaning = clean(panel, **_cleaning_options(config))
        sample = cleaning.eligible & universe_mask(panel)

    versions = _versions(config)
    kept = KeptFits(store, study_key(data_hash, config_to_dict(config), versions))
    begun_before = kept.begin()

    with clock.stage("factors"), tracker.task("factors", _FACTORS):
        wanted = tuple(f for f in FACTORS if f.name not in config.factors.exclude)
        factors = compute_factors(cleaning.panel, wanted)
        inputs = _prepare(cleaning, factors, sample, rows, config)

    def screen(number: int, fold: Fold) -> _Screens:
        with tracker.task("screening", _SCREEN, _fold_text(number, folds)):
            return _screen(inputs, fold, config)

    def fit(number: int, fold: Fold, model: str) -> FitResult:
        text = f"{LABELS[model]}, {_fold_text(number, folds)}"
        with tracker.task("fitting", weight[model], text) as task:
            done = found[model, number]
            if done is None:
                names = screens[number].names(model)
                done = _fit_and_score(inputs, fold, names, model, config, task, number, kept)
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

    with clock.stage("backtest"), tracker.task("backtest", _BACKTEST):
        strategies = _strategies(cleaning, sample, rows, days, results, config)

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
                train=_ends(dates[rows][fold.train]),
                test=_ends(dates[rows][fold.test]),
                selected={model: judged.names(model) for model in models},
                verdicts=judged.verdicts(),
            )
            for fold, judged in zip(folds, screens, strict=True)
        ),
        strategies=strategies,
        market_returns=_market_returns(panel, days),
        cleaning=cleaning,
        cleaning_counts=cleaning.ledger.counts(),
        data_quality=_data_quality(panel),
        left_out=pd.DataFrame(
            {"factor": list(factors.omitted), "reason": list(factors.omitted.values())}
        ),
        notes=_notes(panel, factors, config),
        seconds=clock.seconds,
        versions=versions,
        data_hash=data_hash,
    )


@dataclass(frozen=True, eq=False)
class _Inputs:
    """What every fit reads, on decision rows; the targets alone look past their row."""

    features: npt.NDArray[np.float32]  # (R, N, K) ranks with unit variance, 0 where missing
    raw: npt.NDArray[np.float32]  # (R, N, K) factor values, NaN where missing
    market: npt.NDArray[np.float32]  # (R, M)
    targets: npt.NDArray[np.float32]  # (R, N, H) ranks of forward log returns, NaN where unknown
    forward: Floats  # (R, N, H) forward log returns
    sample: Bools  # (R, N)
    paths: Floats  # (R, step, N) daily returns from a row's trade to the next row's
    volatility: Floats  # (R, N) known at the row
    names: tuple[str, ...]
    families: tuple[str, ...]


def _prepare(
    cleaning: CleanResult,
    factors: FactorSet,
    eligible: Bools,
    rows: npt.NDArray[np.intp],
    config: StudyConfig,
) -> _Inputs:
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
    halflife = config.allocation.volatility_halflife
    return _Inputs(
        paths=holding_returns(returns, rows, lag=lag, days=config.walk_forward.rebalance_every),
        volatility=ew_volatility(returns, halflife=halflife)[rows],
        features=standardise(raw, sample),
        raw=raw,
        market=factors.market[rows],
        targets=ranked_targets(price, lag=lag, horizons=horizons, mask=eligible)[rows],
        forward=forward,
        sample=sample,
        names=factors.names,
        families=factors.families,
    )


def _folds(rows: npt.NDArray[np.intp], days: slice, config: StudyConfig) -> tuple[Fold, ...]:
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


@dataclass(frozen=True, eq=False)
class _Screens:
    """The factors that each kind of model is given, judged on one fold's training rows."""

    linear: FactorScreen
    network: FactorScreen

    def names(self, model: str) -> tuple[str, ...]:
        chosen = self.linear if model == "linear" else self.network
        return tuple(chosen.selected_)

    def verdicts(self) -> pd.DataFrame:
        """The linear model's verdicts, and whether networks were given the factor."""
        table = self.linear.verdicts_
        return table.assign(network=table["factor"].isin(self.network.selected_))


def _screen(inputs: _Inputs, fold: Fold, config: StudyConfig) -> _Screens:
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
    linear = FactorScreen(
        min_coverage=screen.min_coverage,
        min_abs_t=screen.min_abs_t,
        max_correlation=screen.max_correlation,
        min_keep=screen.min_keep,
    )
    linear.fit(**rows)
    if not screen.networks_keep_weak or config.models == ("linear",):
        return _Screens(linear, linear)
    network = clone(linear).set_params(min_abs_t=0.0, min_sign_stability=0.0)
    return _Screens(linear, network.fit(**rows))


def _fit_and_score(
    inputs: _Inputs,
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
    inputs: _Inputs, fold: Fold, names: tuple[str, ...], fit: FitResult, seed: int, number: int
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
    inputs: _Inputs,
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


def _strategies(
    cleaning: CleanResult,
    sample: Bools,
    rows: npt.NDArray[np.intp],
    days: slice,
    models: dict[str, ModelResult],
    config: StudyConfig,
) -> dict[str, Ledger]:
    """Weights of benchmarks and models, all run through the same backtest."""
    alloc = config.allocation
    panel = cleaning.panel
    price = panel["accounting_close"]
    returns = simple_returns(price)
    decisions = rows[rows >= days.start]
    volatility = ew_volatility(returns, halflife=alloc.volatility_halflife)[decisions]
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
            volatility,
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


def simple_returns(price: Floats) -> Floats:
    """Simple daily returns, NaN in the first row and where a price is missing."""
    out = np.full(price.shape, np.nan)
    out[1:] = price[1:] / price[:-1] - 1.0
    return out


def _between(panel: AssetPanel, start: dt.date | None, end: dt.date | None) -> AssetPanel:
    """The part of a panel between two dates, both included."""
    dates = np.asarray(panel.observations, dtype="datetime64[D]")
    keep = np.ones(len(dates), dtype=np.bool_)
    if start is not None:
        keep &= dates >= np.datetime64(start)
    if end is not None:
        keep &= dates <= np.datetime64(end)
    if keep.sum() < 2:
        raise ConfigError(
            f"data.start {start} and data.end {end} leave {keep.sum()} dates; "
            f"the data run from {dates[0]} to {dates[-1]}."
        )
    return panel if keep.all() else panel[np.flatnonzero(keep)].to_panel()


def _test_days(dates: npt.NDArray[np.datetime64], config: StudyConfig) -> slice:
    """Rows of the test window; by default the last two fifths of the data."""
    walk = config.walk_forward
    start = int(0.6 * len(dates))
    if walk.test_start is not None:
        start = int(np.searchsorted(dates, np.datetime64(walk.test_start)))
    stop = len(dates)
    if walk.test_end is not None:
        stop = int(np.searchsorted(dates, np.datetime64(walk.test_end), side="right"))
    if stop - start < 2 * walk.rebalance_every:
        raise ConfigError(
            f"walk_forward leaves {max(0, stop - start)} test days between "
            f"{walk.test_start or 'the default start'} and {walk.test_end or 'the end'}; "
            f"the data run from {dates[0]} to {dates[-1]}."
        )
    shortest = config.cleaning.min_history + 2 * (config.target.lag + max(config.target.horizons))
    if start < shortest:
        raise DataError(
            f"only {start} days precede the test start {dates[start]}, and at least {shortest} "
            f"are needed to train on (data start {dates[0]}); start the test later or add history."
        )
    return slice(start, stop)


def _with_test_dates(config: StudyConfig, tested: npt.NDArray[np.datetime64]) -> StudyConfig:
    first, last = (day.astype(dt.date) for day in _ends(tested))
    walk = replace(config.walk_forward, test_start=first, test_end=last)
    return replace(config, walk_forward=walk)


def _ends(dates: npt.NDArray[np.datetime64]) -> tuple[np.datetime64, np.datetime64]:
    return dates[0], dates[-1]


def _fold_text(number: int, folds: tuple[Fold, ...]) -> str:
    return f"fold {number + 1} of {len(folds)}"


def _refuse_unknown_factors(config: StudyConfig) -> None:
    known = {factor.name for factor in FACTORS}
    for name in config.factors.exclude:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise ConfigError(
                f"factors.exclude names {name!r}, which is no factor"
                + (f"; did you mean {near[0]}?" if near else ".")
            )


def _cleaning_options(config: StudyConfig) -> dict[str, Any]:
    return {f.name: getattr(config.cleaning, f.name) for f in fields(config.cleaning)}


def _market_returns(panel: AssetPanel, days: slice) -> Floats | None:
    index = market_index(panel)
    if index is None:
        return None
    return np.asarray(simple_returns(index[:, None])[days, 0])


def _data_quality(panel: AssetPanel) -> pd.DataFrame:
    """Coverage of each field over listed stock-days, as fractions."""
    active = panel.active_mask
    rows = []
    for name, field in panel.fields.items():
        known = ~field.missing_mask & active
        days = np.flatnonzero(known.any(axis=1))
        rows.append(
            {
                "field": name,
                "coverage": known.sum() / active.sum(),
                "tickers": int(known.any(axis=0).sum()),
                "first_date": str(panel.observations[days[0]]) if len(days) else "",
                "last_date": str(panel.observations[days[-1]]) if len(days) else "",
            }
        )
    return pd.DataFrame(rows)


def _notes(panel: AssetPanel, factors: FactorSet, config: StudyConfig) -> tuple[str, ...]:
    """What a reader must know before believing a number."""
    source = config.data.source
    known = [BUNDLED[source].caution] if source in BUNDLED else []
    notes = [*known, *factors.notes]
    if factors.omitted:
        notes.append(
            f"{len(factors.omitted)} of {len(factors.omitted) + len(factors.names)} factors need "
            "fields that these data lack; the report lists them."
        )
    if not known and bool(panel.active_mask[-1].all()):
        notes.append(
            "Every stock of this panel is still listed on its last day: companies that failed or "
            "were bought are missing, so levels of return are too high for all strategies alike "
            "(survivorship bias)."
        )
    return tuple(notes)


def hash_panel(panel: AssetPanel) -> str:
    """SHA-256 over dates, tickers, masks and fields: the same data, the same hash."""
    digest = hashlib.sha256()
    digest.update(np.asarray(panel.observations, dtype="datetime64[D]").tobytes())
    digest.update("\n".join(map(str, panel.asset_names)).encode())
    for name in sorted(panel.fields):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(panel[name]).tobytes())
    digest.update(np.ascontiguousarray(panel.active_mask).tobytes())
    digest.update(np.ascontiguousarray(panel.estimation_mask).tobytes())
    return digest.hexdigest()


def _versions(config: StudyConfig) -> dict[str, str]:
    packages = ["alphakeel", "numpy", "scipy", "pandas", "scikit-learn", "skfolio", "torch"]
    packages += ["lightgbm"] if "lightgbm" in config.models else []
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{package: metadata.version(package) for package in packages},
    }
