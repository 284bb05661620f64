"""The walk-forward of a saved run, continued on newer data with the fits that were saved.

Nothing here cleans, ranks, allocates or trades by itself: the stages are those of the study, with
its fits put in the place of new ones. So the decision of any day is the one that the backtest made
or would have made, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from skfolio.containers import AssetPanel

from alphakeel.config import COMBINED, StudyConfig
from alphakeel.errors import ConfigError, DataError
from alphakeel.live import own_models
from alphakeel.model_factory import LIMITED, under_overlay
from alphakeel.models.base import (
    AllocatingForecaster,
    Forecaster,
    Memory,
    Prediction,
    RememberingForecaster,
)
from alphakeel.models.linear import LinearForecaster
from alphakeel.pipeline.choices import fit_inputs
from alphakeel.pipeline.combination import combine
from alphakeel.pipeline.dataset import Dataset, prepare_dataset, reach_back
from alphakeel.pipeline.fitting import fit_and_score, fit_risk_networks, forecast_volatility
from alphakeel.pipeline.plan import Plan
from alphakeel.pipeline.rows import ModelRows, days_of_rows
from alphakeel.pipeline.simulator import Portfolio, Simulator, short_margin
from alphakeel.pipeline.strategies import (
    allocate_scores,
    benchmark_labels,
    benchmark_weights,
    hold_under_limits,
    trade_overlaid,
    trade_plain,
)
from alphakeel.portfolio.overlay import Overlay
from alphakeel.provenance import hash_panel
from alphakeel.risk.value_at_risk import TailForecast
from alphakeel.stats.splits import Fold
from alphakeel.storage.runs import RISK_NETWORK, save_risk_network
from alphakeel.storage.saved_models import load_model, read_card, save_model
from alphakeel.storage.saved_runs import SavedRun

__all__ = [
    "MEMORY",
    "LivePlan",
    "Replay",
    "explained_from",
    "later_fits",
    "plan_of",
    "refit",
    "replay",
    "same_past",
]

Floats = npt.NDArray[np.floating[Any]]
# Decisions that warm a network up before one that is explained, and that one.
MEMORY = 104
# Scores of a model, and of one that allocates by itself its compositions and safety factors.
_Scored = tuple[Floats, Floats | None, Floats | None]


@dataclass(frozen=True, eq=False)
class _Fit:
    """A fitted model, the factors that it was given, and what it carries from earlier rows."""

    model: Any
    factors: tuple[str, ...]
    memory: Memory | None = None


@dataclass(frozen=True, eq=False)
class LivePlan:
    """The plan of a run on newer data.

    Attributes
    ----------
    plan : Plan
        The run's own settings and decisions, to the last day of the data; its folds are those with
        a fit, the last of them to the end.
    due : tuple of Fold
        Folds that have begun since and have no fit yet.
    """

    plan: Plan
    due: tuple[Fold, ...]

    @property
    def refit_due(self) -> np.datetime64 | None:
        """The decision from which a newer fit was planned; None while the last one is in time."""
        if not self.due:
            return None
        day: np.datetime64 = self.plan.dates[self.plan.decisions[self.due[0].test.start]]
        return day


@dataclass(frozen=True, eq=False)
class Replay:
    """One strategy of a run, traded from the start of the test to the last day of the data.

    Attributes
    ----------
    run : SavedRun
    live : LivePlan
    dataset : Dataset
        With the factors that the strategy's model was given.
    simulator : Simulator
    label : str
        Of the strategy.
    portfolio : Portfolio
        Target weights by day, and their backtest.
    risk : TailForecast
        VaR and CVaR of the portfolio at each close, about the day after.
    overlay : Overlay or None
        None for a strategy that is not under it.
    model : str or None
        None for a benchmark.
    scores : ndarray of shape (n_decisions, n_assets) or None
    forecaster : Forecaster or None
        The last fit; None for the combined model, which has none of its own.
    factors : tuple of str
        Of the last fit; of the combined model those of any member.
    since : int
        The first decision whose factors the data set has.
    """

    run: SavedRun
    live: LivePlan
    dataset: Dataset
    simulator: Simulator
    label: str
    portfolio: Portfolio
    risk: TailForecast
    overlay: Overlay | None
    model: str | None
    scores: Floats | None
    forecaster: Forecaster | None
    factors: tuple[str, ...]
    since: int = 0

    @property
    def config(self) -> StudyConfig:
        """The settings of the run."""
        return self.live.plan.config

    @property
    def under(self) -> bool:
        """Whether the strategy is under the overlay."""
        return self.overlay is not None

    @property
    def days(self) -> npt.NDArray[np.datetime64]:
        """The days of the portfolio."""
        return self.live.plan.dates[self.live.plan.test]


def later_fits(run: SavedRun, model: str | None, folder: Path) -> dict[str, Path]:
    """Folders of fits made after the run, by the models that a strategy's model needs."""
    return {} if model is None else {name: folder / name for name in run.fitted(model)}


def plan_of(
    run: SavedRun,
    panel: AssetPanel,
    day: np.datetime64 | None = None,
    extra: Mapping[str, Path] | None = None,
    *,
    panel_hash: str | None = None,
) -> tuple[LivePlan, AssetPanel]:
    """Plan a run on newer data: its settings, the decisions and folds up to a day.

    Parameters
    ----------
    run : SavedRun
    panel : AssetPanel
        Of later days than `day`, if there are any, the dates are read: trading days are known
        beforehand.
    day : datetime64, optional
        The last day of the data by default.
    extra : mapping of str to Path, optional
        `later_fits`, see `refit`: a fold counts as fitted if every model there has its fit.
    panel_hash : str, optional
        Of the whole panel, where it is known.

    Returns
    -------
    LivePlan, and the panel up to the day.

    Raises
    ------
    ConfigError
        If the run was made with other versions.
    DataError
        If the data end before the test began, or their days do not lead to the run's own fits.
    """
    settings = replace(
        own_models.settings_of(run, extra or ()),
        walk_forward=replace(run.config.walk_forward, test_end=None),
        report=replace(run.config.report, confirm_from=None),
    )
    panel = _whole(panel)
    whole = Plan.of(panel, settings, run.about["name"], panel_hash=panel_hash)
    _refuse_other_versions(run, whole)
    n_days = len(whole.dates)
    if day is not None:
        n_days = int(np.searchsorted(whole.dates, day, side="right"))
        if n_days <= whole.test.start:
            raise DataError(
                f"the data end on {whole.dates[max(n_days, 1) - 1]}, before the test of the run "
                f"{run.name} began on {whole.dates[whole.test.start]}: there is no decision."
            )
        if n_days < len(whole.dates):
            panel = panel.isel(observations=slice(0, n_days), assets=slice(None))
    plan = _cut(whole, n_days)
    _refuse_other_folds(run, plan)
    n_fits = min(len(run.folds), len(plan.folds))
    while extra and n_fits < len(plan.folds) and _all_fitted(extra, n_fits, plan):
        n_fits += 1
    known, due = list(plan.folds[:n_fits]), plan.folds[n_fits:]
    last = known[-1]
    known[-1] = replace(last, test=slice(last.test.start, len(plan.decisions)))
    return LivePlan(replace(plan, folds=tuple(known)), due), panel


def _cut(plan: Plan, n_days: int) -> Plan:
    """The plan up to a day, whose row is the last."""
    decisions = plan.decisions[plan.decisions < n_days]
    folds = tuple(
        replace(fold, test=slice(fold.test.start, min(fold.test.stop, len(decisions))))
        for fold in plan.folds
        if fold.test.start < len(decisions)
    )
    if not folds:
        raise DataError(
            f"the first decision of the test is after {plan.dates[n_days - 1]}, the last day of "
            "the data."
        )
    return replace(
        plan,
        dates=plan.dates[:n_days],
        test=slice(plan.test.start, n_days),
        decisions=decisions,
        folds=folds,
    )


def _refuse_other_versions(run: SavedRun, plan: Plan) -> None:
    then = run.about["versions"]
    for name in sorted({*then, *plan.versions} - own_models.ignored_versions(run, plan)):
        if then.get(name) != plan.versions.get(name):
            raise ConfigError(
                f"the run {run.name} was made with {name} {then.get(name, 'absent')}, and this is "
                f"{plan.versions.get(name, 'absent')}: its decisions might differ; use the "
                "versions of the run, or run the study again."
            )


def _refuse_other_folds(run: SavedRun, plan: Plan) -> None:
    """Refuse data whose days do not lead to the fits that were saved."""
    days = plan.dates[plan.decisions]
    for number, (fold, saved) in enumerate(zip(plan.folds, run.folds, strict=False)):
        own = (days[fold.train][0], days[fold.train][-1], days[fold.test.start])
        then = (*saved.train, saved.test[0])
        for what, a, b in zip(("trains from", "trains to", "tests from"), own, then, strict=True):
            if a != b:
                raise DataError(
                    f"fit {number + 1} of the run {run.name} {what} {b}, and with these data it "
                    f"would be {a}: days were added or lost before; give the data of the run and "
                    "what came after, or run the study again."
                )


def _whole(panel: Any) -> AssetPanel:
    """A panel that can be cut further, also where it is a part of another."""
    return panel if isinstance(panel, AssetPanel) else panel.to_panel()


def same_past(
    run: SavedRun, panel: AssetPanel, whole_hash: Callable[[], str] | None = None
) -> bool:
    """Whether the data of the run are in the panel unchanged.

    `whole_hash` gives the hash of the whole panel, where that is known already.
    """
    dates = np.asarray(panel.observations, dtype="datetime64[D]")
    first, last = (np.datetime64(run.about[name], "D") for name in ("data_start", "data_end"))
    rows = slice(int(np.searchsorted(dates, first)), int(np.searchsorted(dates, last, "right")))
    names = [str(name) for name in panel.asset_names]
    wanted = run.about["assets"]
    if not set(wanted) <= set(names):
        return False
    if names == wanted and rows == slice(0, len(dates)) and whole_hash is not None:
        return whole_hash() == run.about["data_hash"]
    columns: Any = slice(None)
    if names != wanted:
        place = {name: k for k, name in enumerate(names)}
        columns = np.array([place[name] for name in wanted])
    own = _whole(panel).isel(observations=rows, assets=columns)
    return hash_panel(own) == run.about["data_hash"]


def replay(
    run: SavedRun,
    live: LivePlan,
    panel: AssetPanel,
    label: str,
    extra: Mapping[str, Path] | None = None,
    *,
    same: bool = False,
    recent: bool = False,
    owned: bool = False,
) -> Replay:
    """Trade one strategy of a run to the last day of a panel, with the saved fits.

    Parameters
    ----------
    run : SavedRun
    live : LivePlan
        Of the panel, from `plan_of`.
    panel : AssetPanel
    label : str
        A strategy of the run, as `SavedRun.label_of` gives it.
    extra : mapping of str to Path, optional
        `later_fits` of the strategy's model.
    same : bool, default=False
        The panel has the data of the run unchanged (`same_past`): the scores that the run has saved
        are taken, and only later decisions are scored.
    recent : bool, default=False
        Of decisions whose scores are known the factors are not asked for, where no later score
        hangs on them: the data set has those that the other scores and the reasons for the last
        decision read.
    owned : bool, default=False
        Fields are taken out of the panel as they are used, where it is `recent`.
    """
    plan, model = live.plan, run.model_of(label)
    sources = {
        name: _source(run, name, plan, panel, extra or {}, same=same)
        for name in (() if model is None else run.fitted(model))
    }
    fits = [fit for own in sources.values() for fit in own.fits]
    needed = {name for fit in fits if fit is not None for name in fit.factors}
    since = 0
    if recent:
        since = min(_first_needed(plan, own) for own in sources.values() or (None,))
    # Decisions read ranks: the values are for the monitor.
    chosen = _lean(plan, tuple(sources), needed, panel, market=_reads_market(plan, fits))
    dataset = prepare_dataset(panel, chosen, since=since, lean=recent, owned=owned)
    simulator = Simulator.of(dataset, plan.config, plan.test)
    margin, scores = None, None
    if model is None:
        plain = (
            label.removesuffix(under_overlay(""))
            if label not in benchmark_labels(plan.config)
            else label
        )
        weights = np.asarray(benchmark_weights(plain, simulator, plan.config))
    else:
        forecasts = {
            name: _score(ModelRows.of(dataset, name, plan.config), plan, own)
            for name, own in sources.items()
        }
        scores, decided, safety = _of_model(model, forecasts, dataset, plan)
        tested = slice(len(scores) - len(simulator.decisions), None)
        if decided is None:
            margin = short_margin(plan.config)
            networks = _risk_networks(run, plan, extra)
            volatility = forecast_volatility(dataset, plan, networks)[tested]
            weights, _ = allocate_scores(scores[tested], volatility, simulator, plan.config)
        else:
            factors_of = None if safety is None else safety[tested]
            weights = hold_under_limits(decided[tested], factors_of, simulator, plan.config)
    portfolio, risk = trade_plain(weights, margin, simulator)
    overlay = None
    if _is_under(label):
        portfolio, overlay, risk = trade_overlaid(portfolio, risk, simulator, plan.config)
    last = [own.fits[-1] for own in sources.values()]
    forecaster = last[0].model if len(last) == 1 and last[0] is not None else None
    factors = tuple(dict.fromkeys(name for fit in last if fit is not None for name in fit.factors))
    return Replay(
        run=run,
        live=live,
        dataset=dataset,
        simulator=simulator,
        label=label,
        portfolio=portfolio,
        risk=risk,
        overlay=overlay,
        model=model,
        scores=scores,
        forecaster=forecaster,
        factors=factors,
        since=since,
    )


def explained_from(own: Replay, since: int) -> Replay:
    """The same replay with its factors from an earlier decision on."""
    plan, names = own.live.plan, {*own.dataset.names, *own.dataset.market_names}
    plan = replace(plan, library=tuple(f for f in plan.library if f.name in names))
    return replace(own, dataset=reach_back(own.dataset, plan, since), since=since)


def _is_under(label: str) -> bool:
    return label == under_overlay(label.removesuffix(under_overlay("")))


@dataclass(frozen=True, eq=False)
class _Source:
    """Where a model's scores come from: the fit of each fold, or scores that the run has saved.

    `days` are those of the rows that it reads.
    """

    fits: list[_Fit | None]
    stored: _Stored | None
    days: npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class _Stored:
    """What a run has saved of a model, by decision of a plan; NaN on those that came later."""

    scores: Floats
    composition: Floats | None = None  # of a model that allocates, and its safety factors
    safety: Floats | None = None

    @classmethod
    def of(cls, run: SavedRun, model: str, plan: Plan) -> _Stored | None:
        """Read it; None for a model that allocates, in a run of a version that kept its scores."""
        if model in LIMITED and not run.has_frame(f"composition_{model}"):
            return None
        days = pd.DatetimeIndex(plan.dates[plan.decisions].astype("datetime64[ns]"))

        def read(name: str, columns: list[Any] | None) -> Floats:
            frame = run.frame(f"{name}_{model}")
            return frame.reindex(index=days, columns=columns).to_numpy()

        scores = read("scores", list(plan.assets)).astype(np.float32)
        if model not in LIMITED:
            return cls(scores)
        return cls(scores, read("composition", list(plan.assets)), read("safety", None))

    def covers(self, fold: Fold) -> bool:
        """Whether every decision of a fold has saved scores."""
        return not np.isnan(self.scores[fold.test]).all(axis=1).any()


def _source(
    run: SavedRun,
    model: str,
    plan: Plan,
    panel: AssetPanel,
    extra: Mapping[str, Path],
    *,
    same: bool,
) -> _Source:
    """The fits of a model; those of folds with saved scores are checked, and the last is read."""
    own = model in run.own_models
    stored = _Stored.of(run, model, plan) if same or own else None
    fits: list[_Fit | None] = []
    if own and stored is not None:
        made = own_models.refitted(run, model, plan, panel, stored.scores, same=same)
        fits = [*[None] * (len(plan.folds) - 1), _Fit(*made[1:])]
        return _Source(fits, _Stored(made[0]), days_of_rows(model, plan))
    for number, fold in enumerate(plan.folds):
        if stored is not None and stored.covers(fold) and fold is not plan.folds[-1]:
            if number < len(run.folds):
                run.check_fit(model, number)
            fits.append(None)
            continue
        fit = _fit(run, model, number, extra.get(model))
        if stored is not None and number == len(run.folds) - 1 and not stored.covers(fold):
            fit = replace(fit, memory=run.memory_on(panel, model, plan))
        fits.append(fit)
    return _Source(fits, stored, days_of_rows(model, plan))


def _of_model(
    model: str, forecasts: Mapping[str, _Scored], dataset: Dataset, plan: Plan
) -> _Scored:
    """The forecast of the model, or the combination of its members' scores."""
    if model != COMBINED:
        return forecasts[model]
    members = {name: scores for name, (scores, _, _) in forecasts.items()}
    return combine(members, dataset, plan.folds, plan.config).scores, None, None


def _reads_market(plan: Plan, fits: list[_Fit | None]) -> bool:
    """Whether a model reads the series of the market."""
    known = [fit.model for fit in fits if fit is not None]
    networks = not all(isinstance(model, LinearForecaster) for model in known)
    return networks or plan.config.allocation.volatility == "network"


def _lean(
    plan: Plan, models: tuple[str, ...], needed: set[str], panel: AssetPanel, *, market: bool
) -> Plan:
    """The plan with only the models and factors that are needed, and one target."""
    chosen = tuple(f for f in plan.library if market or f.scope != "market")
    chosen = tuple(f for f in chosen if f.scope == "market" or f.name in needed)
    if not any(f.scope == "stock" for f in chosen):  # a data set has at least one
        fed = (f for f in plan.library if f.scope == "stock" and set(f.fields) <= set(panel.fields))
        chosen = (*chosen, min(fed, key=lambda f: f.lookback))
    longest = (max(plan.config.target.horizons),)  # targets are for the monitor alone
    config = replace(plan.config, target=replace(plan.config.target, horizons=longest))
    # Without folds: the sample was checked by the run.
    return replace(plan, config=config, models=models, library=chosen, folds=())


def _first_needed(plan: Plan, source: _Source | None) -> int:
    """The first decision whose factors a replay needs.

    Where a score is not known, a network reads what follows its memory, or all that came before.
    The scores of a linear model are sums by stock, and no other row moves a bit of them.
    """
    last = len(plan.decisions) - 1
    if plan.custom.factors or (source and plan.config.allocation.volatility == "network"):
        return 0
    if source is None:
        return last
    linear = all(isinstance(fit.model, LinearForecaster) for fit in source.fits if fit is not None)
    firsts = [last if linear else max(0, last + 1 - MEMORY)]  # what explains the last decision
    for fold, fit in zip(plan.folds, source.fits, strict=True):
        if fit is not None and not (source.stored and source.stored.covers(fold)):
            day = source.days[_first_read(fit, fold, source.stored)]
            firsts.append(int(np.searchsorted(plan.decisions, day, side="right")) - 1)
    return max(0, min(firsts))


def _first_read(fit: _Fit, fold: Fold, stored: _Stored | None) -> int:
    """The first row that the scores of a fold read, where not all of them are stored."""
    if not isinstance(fit.model, LinearForecaster):
        return 0 if fit.memory is None else fit.memory.row
    if stored is None:
        return fold.test.start
    return fold.test.start + int(np.isnan(stored.scores[fold.test]).all(axis=1).argmax())


def _score(rows: ModelRows, plan: Plan, source: _Source) -> _Scored:
    """Scores on every decision, as `fit_and_score` makes them.

    Of a model that allocates by itself also compositions and safety factors.
    """
    shape = (len(plan.decisions), rows.dataset.eligible.shape[1])
    stored = source.stored
    scores = np.full(shape, np.nan, dtype=np.float32)
    weights: Floats | None = None
    safety: Floats | None = None
    for fold, fit in zip(plan.folds, source.fits, strict=True):
        scored = stored is not None and stored.covers(fold)
        begin, until = 0, fold.test.stop
        if fit is not None and not scored:
            begin = _first_read(fit, fold, stored)
            until = rows.decision_from(begin)
        known = slice(fold.test.start, max(fold.test.start, until))
        if stored is not None:
            scores[known] = stored.scores[known]
            if stored.composition is not None and stored.safety is not None:
                weights = _placed(weights, stored.composition[known], known, shape[0])
                safety = _placed(safety, stored.safety[known], known, shape[0])
        if scored or fit is None:  # `_source` reads the fit of every other fold
            continue
        read = slice(begin, rows.until(fold.test.stop))
        fresh = slice(known.stop, fold.test.stop)
        own = rows.at(fresh, begin)
        made = _predict(rows.dataset, fit, read)
        scores[fresh] = made.scores[own]
        if isinstance(fit.model, AllocatingForecaster) and made.weights is not None:
            factors = fit.model.factor_rows(fresh.stop - fresh.start)
            weights = _placed(weights, made.weights[own], fresh, shape[0])
            safety = _placed(safety, factors, fresh, shape[0])
    return scores, weights, safety


def _predict(dataset: Dataset, fit: _Fit, rows: slice) -> Prediction:
    """What a fitted model says on some rows, the last that it has read being before them."""
    features = dataset.features_of(fit.factors, rows)
    known = {"mask": dataset.eligible[rows], "market": dataset.market[rows]}
    if not isinstance(fit.model, RememberingForecaster):
        return Prediction(np.asarray(fit.model.predict(features, **known)), None, None)
    volatility = dataset.volatility[rows]
    return fit.model.predict_from(fit.memory, features, volatility=volatility, **known)


def _placed(values: Floats | None, own: Floats, rows: slice, n_decisions: int) -> Floats:
    """Values by decision, with those of some; NaN where there are none yet."""
    if values is None:
        values = np.full((n_decisions, own.shape[1]), np.nan)
    values[rows] = own
    return values


def _fit(run: SavedRun, model: str, number: int, extra: Path | None) -> _Fit:
    """The fit of a fold with the names of its factors."""
    if number < len(run.folds):
        return _Fit(run.fit(model, number), run.folds[number].selected[model])
    assert extra is not None  # noqa: S101  (`plan_of` gives later folds only with their fits)
    place = extra / f"fold_{number}"
    return _Fit(load_model(place), read_card(place).factors)


def _risk_networks(run: SavedRun, plan: Plan, extra: Mapping[str, Path] | None) -> list[Any | None]:
    """The saved risk network of each fold; None where there is none."""
    if plan.config.allocation.volatility == "ewma":
        return []
    found = [run.risk_network(number) for number in range(min(len(run.folds), len(plan.folds)))]
    for number in range(len(found), len(plan.folds)):
        assert extra  # noqa: S101  (`plan_of` gives later folds only with their fits)
        place = _risk_folder(extra)
        known = _has(place, number, plan.folds[number], plan)
        found.append(load_model(place / f"fold_{number}") if known else None)
    return found


def _risk_folder(extra: Mapping[str, Path]) -> Path:
    """Where risk networks that were fitted after the run lie: beside the models."""
    return next(iter(extra.values())).parent / RISK_NETWORK


def _needs_risk_network(extra: Mapping[str, Path], plan: Plan) -> bool:
    """Whether the weights of these models read a risk network."""
    return plan.config.allocation.volatility == "network" and not set(extra) <= set(LIMITED)


def _all_fitted(extra: Mapping[str, Path], number: int, plan: Plan) -> bool:
    """Whether a later fold has a fit of each of these models, and its risk network."""
    fold = plan.folds[number]
    risk = not _needs_risk_network(extra, plan) or _has(_risk_folder(extra), number, fold, plan)
    return risk and all(_has(folder, number, fold, plan) for folder in extra.values())


def _has(folder: Path, number: int, fold: Fold, plan: Plan) -> bool:
    """Whether a folder has a fit on the training decisions of a fold."""
    if not (folder / f"fold_{number}" / "model.json").is_file():
        return False
    train = plan.dates[plan.decisions][fold.train]
    return read_card(folder / f"fold_{number}").train_window == (str(train[0]), str(train[-1]))


def refit(live: LivePlan, panel: AssetPanel, extra: Mapping[str, Path]) -> tuple[str, ...]:
    """Fit models anew on the folds that have no fit of theirs yet, and save the fits.

    Parameters
    ----------
    live : LivePlan
    panel : AssetPanel
    extra : mapping of str to Path
        `later_fits`: the models, and where each keeps its fits, as ``fold_<n>``.

    Returns
    -------
    tuple of str
        One text a fit: on what it was trained.
    """
    if not live.due:
        return ()
    plan = live.plan
    own_models.refuse_refit(plan, extra)
    dataset, done = prepare_dataset(panel, plan), []
    days = dataset.dates[plan.decisions]
    for number, fold in enumerate(live.due, start=len(plan.folds)):
        window = (days[fold.train][0], days[fold.train][-1])
        for model, folder in extra.items():
            if _has(folder, number, fold, plan):
                continue
            own = fit_inputs(dataset, fold.train, model, plan.config)
            fitted = fit_and_score(
                own.dataset, fold.train, fold.test.stop, own.names, model, own.config
            ).forecaster
            assert fitted is not None  # noqa: S101  (fit_and_score gives the model that it fitted)
            save_model(
                fitted,
                folder / f"fold_{number}",
                factors=own.names,
                train_window=window,
                data_hash=plan.panel_hash,
            )
            done.append(f"{model}, fit {number + 1}, on {window[0]} to {window[1]}")
        if _needs_risk_network(extra, plan):
            (network,) = fit_risk_networks(dataset, replace(plan, folds=(fold,)))
            save_risk_network(
                network,
                _risk_folder(extra) / f"fold_{number}",
                train_window=window,
                data_hash=plan.panel_hash,
            )
    return tuple(done)
