"""Settings that each model chooses by itself: on training decisions, by the common yardstick."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from alphakeel.config import StudyConfig
from alphakeel.data.simulation import simulate_market
from alphakeel.errors import ConfigError
from alphakeel.live.decision import decide
from alphakeel.live.replay import later_fits, plan_of, refit
from alphakeel.models.linear import LinearForecaster
from alphakeel.models.restore import restore
from alphakeel.pipeline import choices as choices_module
from alphakeel.pipeline.checkpoints import Checkpoints
from alphakeel.pipeline.choices import (
    ALPHAS,
    _trunk,
    candidates,
    choose,
    choose_all,
    fit_inputs,
    units_of,
)
from alphakeel.pipeline.cross_fits import purged_parts
from alphakeel.pipeline.dataset import Dataset, prepare_dataset
from alphakeel.pipeline.fitting import fit_and_score, fit_key
from alphakeel.pipeline.model_results import Candidate
from alphakeel.pipeline.plan import Plan
from alphakeel.pipeline.screening import screen_fold
from alphakeel.report import performance as performance_section
from alphakeel.results import Study
from alphakeel.selection.search import tune
from alphakeel.selection.validation_curve import run_validation_curve
from alphakeel.stats.cross_section import rank_ic
from alphakeel.storage.checkpoints import DiskStore
from alphakeel.storage.runs import save_run
from alphakeel.storage.saved_runs import open_run
from alphakeel.study import run_study
from helpers import TINY_NETWORK, tiny_config

PANEL = simulate_market(n_assets=14, n_dates=700, seed=3).panel
SETTINGS: dict[str, Any] = {
    "models": ["linear", "lstm"],
    "target": {"unit": "auto", "horizons": [5]},
    "linear": {"method": "auto"},
    "network": TINY_NETWORK,
    "walk_forward": {"test_start": str(PANEL.observations[560])[:10], "refit_every": 70},
}
CONFIG = tiny_config(**SETTINGS)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan.of(PANEL, CONFIG)


@pytest.fixture(scope="module")
def dataset(plan: Plan) -> Dataset:
    return prepare_dataset(PANEL, plan)


@pytest.fixture(scope="module")
def study() -> Study:
    return run_study(PANEL, CONFIG, name="simulated")


class TestCandidates:
    def test_nothing_is_open_by_default(self, dataset: Dataset) -> None:
        assert candidates("linear", StudyConfig()) == (Candidate("volatility"),)
        assert units_of(dataset, StudyConfig()) == {"volatility": dataset}
        own = choose({"volatility": dataset}, slice(0, 3), "lstm", StudyConfig())
        assert (own.chosen, np.isnan(own.rank_ics).all()) == (Candidate("volatility"), True)

    def test_the_linear_model_has_its_regularisation_too(self) -> None:
        own = candidates("linear", CONFIG)
        assert len(own) == 2 * (1 + len(ALPHAS))
        assert own[0] == Candidate("volatility", "pooled")
        one = own[-1].applied(CONFIG)
        assert (one.target.unit, one.linear.method, one.linear.alpha) == ("return", "ridge", 10.0)
        assert _trunk("lstm_limited") == "lstm", "a network under limits chooses as its trunk does"
        assert candidates("mlp", CONFIG) == (Candidate("volatility"), Candidate("return"))

    @pytest.mark.parametrize("unit", ["volatility", "return"])
    def test_either_target_is_that_of_its_own_study(
        self, unit: str, plan: Plan, dataset: Dataset
    ) -> None:
        fixed = replace(plan.config, target=replace(plan.config.target, unit=unit))
        own = prepare_dataset(PANEL, replace(plan, config=fixed))
        np.testing.assert_array_equal(dataset.in_unit(unit).targets, own.targets)

    def test_fits_on_the_same_moments_are_the_fits(self, dataset: Dataset) -> None:
        rows, given = slice(60, 100), {"mask": dataset.eligible[60:100]}
        alike = [LinearForecaster(c.method or "", alpha=c.alpha or 1.0)
                 for c in candidates("linear", CONFIG)]  # fmt: skip
        data = (dataset.features[rows], dataset.targets[rows])
        for one in LinearForecaster.fit_all(alike, *data, **given):
            alone = LinearForecaster(one.method, alpha=one.alpha).fit(*data, **given)
            np.testing.assert_array_equal(one.coef_, alone.coef_)
            np.testing.assert_array_equal(one.standard_error_, alone.standard_error_)


class TestChoice:
    @pytest.mark.parametrize("model", ["linear", "lstm"])
    def test_the_value_is_the_rank_ic_of_blocks_that_were_not_fitted_on(
        self, model: str, plan: Plan, dataset: Dataset
    ) -> None:
        datasets, train = units_of(dataset, plan.config), plan.folds[0].train
        found = choose(datasets, train, model, plan.config)
        assert found.best == int(np.argmax(found.rank_ics))
        own = found.candidates[1]
        config = own.applied(plan.config)
        config = replace(config, network=replace(config.network, n_seeds=1, max_steps=2))
        daily = []
        for fitted, block in purged_parts(dataset, train, plan.config, 3, ""):
            assert block.stop <= train.stop
            assert not set(range(block.start - 1, block.stop + 1)) & set(fitted.tolist())
            names = screen_fold(datasets[own.unit], fitted, plan.config, plan.fitted).names(model)
            scores = fit_and_score(
                datasets[own.unit], fitted, block.stop, names, model, config
            ).scores
            daily.append(rank_ic(scores[block], dataset.forward[block, :, -1]))
        assert found.rank_ics[1] == pytest.approx(np.nanmean(np.concatenate(daily)))

    def test_nothing_after_the_training_labels_is_read(self, plan: Plan, dataset: Dataset) -> None:
        train, rng = plan.folds[0].train, np.random.default_rng(0)
        after = slice(train.stop, None)
        changed = {
            name: np.concatenate([own[: train.stop], rng.permutation(own[after])])
            for name in ("features", "raw", "market", "targets", "forward", "volatility")
            for own in [getattr(dataset, name)]
        }
        other = replace(dataset, **changed)
        assert not np.array_equal(other.forward, dataset.forward, equal_nan=True)
        for model in ("linear", "lstm"):
            one, two = (
                choose(units_of(own, plan.config), train, model, plan.config)
                for own in (dataset, other)
            )
            np.testing.assert_array_equal(one.rank_ics, two.rank_ics)

    def test_too_few_decisions(self, plan: Plan, dataset: Dataset) -> None:
        with pytest.raises(ConfigError, match=r"training decisions up to 20.* are too few"):
            choose(units_of(dataset, CONFIG), slice(0, 70), "linear", CONFIG)

    def test_trials_are_compared_on_one_target(self) -> None:
        for search in (tune, run_validation_curve):
            with pytest.raises(ConfigError, match="leaves the target open"):
                search(PANEL, CONFIG)


class TestStudy:
    def test_each_model_is_fitted_with_what_it_chose(self, study: Study) -> None:
        table = study.tables()["choices"]
        assert table.groupby(["model", "fold"])["chosen"].sum().eq(1).all()
        assert len(table) == 2 * (10 + 2)
        linear = study.models["linear"]
        for number, own in enumerate(linear.choices):
            fitted = restore(linear.fitted[number])
            assert fitted.method == own.chosen.method
            config, names = own.chosen.applied(CONFIG), study.folds[number].selected["linear"]
            dataset = units_of(study.dataset, CONFIG)[own.chosen.unit]
            train = study.plan.folds[number].train
            assert fit_key(dataset, train, names, "linear", config) == linear.keys[number]
            inputs = fit_inputs(study.dataset, train, "linear", CONFIG)
            assert (inputs.names, inputs.config) == (names, config)

    def test_a_choice_is_not_made_twice(
        self, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache = Checkpoints(DiskStore(tmp_path), "key")
        datasets = units_of(study.dataset, CONFIG)
        first = choose_all(datasets, study.plan, cache=cache)
        monkeypatch.setattr(choices_module, "_score", None)
        again = choose_all(datasets, study.plan, cache=cache)
        for one, two in zip(first, again, strict=True):
            for name, own in one.items():
                np.testing.assert_array_equal(own.rank_ics, two[name].rank_ics)
                assert own.best == two[name].best

    def test_the_report_has_the_choices(self, study: Study) -> None:
        view: Any = SimpleNamespace(tables=study.tables())
        chosen, every = performance_section._choices(view)
        assert (len(chosen.rows), len(every.rows)) == (4, 24)
        assert "one seed with a third of their steps" in chosen.caption

    def test_today_and_a_new_fit(self, tmp_path: Path) -> None:
        config = tiny_config(**{**SETTINGS, "models": ["linear"]})
        whole = run_study(PANEL, config, name="simulated")
        starts = [fold.test.start for fold in whole.plan.folds]
        early = PANEL.isel(observations=slice(0, int(whole.decisions[starts[1]]))).to_panel()
        run = open_run(save_run(run_study(early, config, name="simulated"), tmp_path))
        extra = later_fits(run, "linear", tmp_path / "later")
        live, cut = plan_of(run, PANEL, None, extra)
        (told,) = refit(live, cut, extra)
        assert "linear, fit 2" in told
        own = decide(run, PANEL, strategy="linear", refit_now=True)
        np.testing.assert_array_equal(
            list(own.scores.values()),
            [x for x in whole.models["linear"].scores[-1].tolist() if np.isfinite(x)],
        )
