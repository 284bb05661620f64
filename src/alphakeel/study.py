"""A study from start to end: clean, factors, screen, fit, score, allocate, trade.

Read this file first. A study takes one panel through every stage, always in the same direction, and
each fold reads its own past only:

1. **prepare** the panel: clean it causally, with a ledger of every change, compute all factors,
   and rank them across the sample on each decision date;
2. for each fold of the **walk-forward**, on training decisions only: **choose** what each model is
   trained on where the settings leave that open, **screen** the factors, **fit** every model; then
   **score** the fold's test decisions, which no fit has read;
3. turn scores into **weights**, beside benchmarks without scores;
4. **trade** all of them with the same costs, lag and market rules, without and under the same
   **overlay**, and step by step, which shows what each part adds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from skfolio.containers import AssetPanel

from alphakeel.config import StudyConfig, config_to_dict
from alphakeel.evaluation.regimes import MarketRegimes, find_regimes
from alphakeel.evaluation.risk import Stress, stress
from alphakeel.model_factory import work_of
from alphakeel.models.persistence import Store
from alphakeel.pipeline.checkpoints import FitCache, study_key
from alphakeel.pipeline.choices import choose_all, screen_chosen, units_of, work_of_choices
from alphakeel.pipeline.dataset import WORK as PREPARE_WORK
from alphakeel.pipeline.dataset import Dataset, prepare_dataset
from alphakeel.pipeline.fitting import (
    add_members,
    explain_models,
    fit_models,
    fold_text,
    forecast_volatility,
)
from alphakeel.pipeline.plan import Plan
from alphakeel.pipeline.simulator import Simulator
from alphakeel.pipeline.strategies import Portfolios, trade_all
from alphakeel.progress import Clock, Progress, Tracker
from alphakeel.results import Study
from alphakeel.stats.rolling import simple_returns

__all__ = [
    "run_study",
]

# Work of a stage on the progress bar, in fits of one network.
_WORK = {"explain": 1.0, "risk": 0.5, "trade": 2.0, "stress": 0.5}
_SCREEN = 0.2
# Names of stages on the progress bar.
_WORDS = {
    "explain": "explaining",
    "risk": "forecasting risk",
    "trade": "backtest",
    "stress": "stress tests",
}


def run_study(
    panel: AssetPanel,
    config: StudyConfig | None = None,
    *,
    name: str = "panel",
    notes: Sequence[str] = (),
    on_progress: Callable[[Progress], None] | None = None,
    store: Store | None = None,
    finished: Store | None = None,
) -> Study:
    """Run the whole study on a panel.

    Parameters
    ----------
    panel : AssetPanel
        As built by `alphakeel.load_panel` or `alphakeel.data.panel`.
    config : StudyConfig, optional
        Settings; the defaults suit daily data of a few dozen stocks or more.
    name : str
        Of the data, in the report.
    notes : sequence of str
        What a reader must know about the data, before what the study notes itself.
    on_progress : callable, optional
        Called with a `Progress` now and then, possibly from several threads.
    store : Store, optional
        Checkpoints every fit, such as `alphakeel.storage.checkpoints.DiskStore`. A killed study
        resumes from there when it is run again on the same data with the same settings, to the same
        numbers. A fit counts whatever study it was made for if all that it reads is the same, so
        that more days, or a longer test, fit only what is new.
    finished : Store, optional
        Fits of finished runs, such as `alphakeel.storage.saved_models.SavedFits`, which count in
        the same way.

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
    plan = Plan.of(panel, config or StudyConfig(), name)
    run = _Run(plan, on_progress)
    key = study_key(plan.panel_hash, config_to_dict(plan.config), plan.versions)
    cache = FitCache(store, key, finished)
    resumed = cache.begin()

    with run.stage("prepare"):
        dataset = prepare_dataset(panel, plan, run.tracker)
        if notes and dataset.provenance is not None:
            known = replace(dataset.provenance, cautions=(*notes, *dataset.provenance.cautions))
            dataset = replace(dataset, provenance=known)
    with run.stage("screen"):
        datasets = units_of(dataset, plan.config)
        choices = choose_all(datasets, plan, tracker=run.tracker, cache=cache)
        screens = screen_chosen(datasets, plan, choices, run.screening)
    with run.stage("fit"):
        models = fit_models(
            datasets, screens, plan, choices, tracker=run.tracker, cache=cache, resumed=resumed
        )
    with run.stage("explain"):
        if plan.config.report.drivers:
            models = explain_models(models, dataset, screens, plan)
        if plan.config.report.sensitivity:
            models = add_members(models, dataset, screens, plan)
    with run.stage("risk"):
        volatility = forecast_volatility(dataset, plan)
    with run.stage("trade"):
        regimes = _find_regimes(dataset, plan)
        simulator = Simulator.of(dataset, plan.config, plan.test)
        portfolios = trade_all(models, volatility, simulator, dataset, plan.config)
    with run.stage("stress"):
        stressed = _stress(portfolios, dataset, plan)
    return Study(
        plan, dataset, tuple(screens), models, portfolios, regimes, stressed, run.clock.seconds
    )


class _Run:
    """Progress of a study, and the time of its stages."""

    def __init__(self, plan: Plan, on_progress: Callable[[Progress], None] | None) -> None:
        a_fold = _SCREEN + sum(work_of(model, plan.config) for model in plan.fitted)
        a_fold += work_of_choices(plan)
        self.plan = plan
        self.clock = Clock()
        whole = 2.0 * PREPARE_WORK + sum(_WORK.values()) + len(plan.folds) * a_fold
        self.tracker = Tracker(on_progress, whole)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage, and report it unless its parts report themselves."""
        with self.clock.stage(name):
            if name not in _WORK:
                yield
                return
            with self.tracker.task(_WORDS[name], _WORK[name]):
                yield

    @contextmanager
    def screening(self, number: int) -> Iterator[None]:
        """Report that a fold is screened."""
        with self.tracker.task("screening", _SCREEN, fold_text(number, self.plan.folds)):
            yield


def _find_regimes(dataset: Dataset, plan: Plan) -> MarketRegimes | None:
    """Bull, bear and range-bound days; None unless the index is known on every day."""
    if dataset.market_index is None:
        return None
    return find_regimes(
        dataset.market_index,
        plan.dates,
        first=plan.test.start - 1,
        zigzag=plan.config.report.zigzag,
        seed=plan.config.seed,
    )


def _stress(portfolios: Portfolios, dataset: Dataset, plan: Plan) -> Stress:
    index = dataset.market_index
    return stress(
        portfolios.every_ledger(),
        dataset.returns,
        None if index is None else simple_returns(index[:, None])[:, 0],
        plan.dates,
        plan.test,
        horizon=plan.config.report.fan_days,
        seed=plan.config.seed,
    )
