"""Networks that read every day: the same decisions, no day that a purge leaves out, no future."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from skfolio.containers import AssetPanel

from alphakeel.audit.lookahead import Prepared, check_days
from alphakeel.config import StudyConfig, config_to_dict, fingerprinted
from alphakeel.data.simulation import simulate_market
from alphakeel.errors import ConfigError, DataError
from alphakeel.model_factory import make_forecaster, reads_days
from alphakeel.pipeline.choices import fit_inputs
from alphakeel.pipeline.dataset import Dataset, prepare_dataset
from alphakeel.pipeline.fitting import LAGS, _explain_fit, fit_and_score, fit_key
from alphakeel.pipeline.plan import Plan, labels_of
from alphakeel.pipeline.rows import ModelRows
from alphakeel.report.method import conventions
from alphakeel.selection.search import tune
from alphakeel.selection.search_space import SearchPlan, default_space
from alphakeel.stats.splits import combinatorial_purged, purged_kfold
from alphakeel.storage.datasets import load_dataset, save_dataset
from helpers import TINY_NETWORK, tiny_config

BY_DECISION = ("features", "raw", "market", "targets", "forward", "volatility", "eligible")


def config_of(**network: Any) -> StudyConfig:
    return tiny_config(
        models=["linear", "lstm", "lstm_limited"],
        network={**TINY_NETWORK, "hidden": 16, **network},
        cleaning={"min_history": 100},
    )


DECISIONS, DAYS = config_of(), config_of(rows="days", burn_in=20, chunk=60)


@pytest.fixture(scope="module")
def panel() -> AssetPanel:
    return simulate_market(n_assets=14, n_dates=560, seed=3, listing_rate=0.1).panel


@pytest.fixture(scope="module")
def plan(panel: AssetPanel) -> Plan:
    return Plan.of(panel, DAYS)


@pytest.fixture(scope="module")
def dataset(panel: AssetPanel, plan: Plan) -> Dataset:
    return prepare_dataset(panel, plan)


@pytest.fixture(scope="module")
def without(panel: AssetPanel) -> Dataset:
    """The data set of the same study on decisions only."""
    return prepare_dataset(panel, Plan.of(panel, DECISIONS))


def assert_same(one: Dataset, other: Dataset, *without: str) -> None:
    np.testing.assert_array_equal(one.decisions, other.decisions)
    for name in BY_DECISION:
        if name not in without:
            np.testing.assert_array_equal(
                getattr(one, name), getattr(other, name), err_msg=name, strict=True
            )


class TestArrays:
    def test_those_of_decisions_are_the_same_to_the_bit(
        self, dataset: Dataset, without: Dataset
    ) -> None:
        assert without.daily is None
        assert_same(dataset, without)
        assert_same(dataset.in_unit("return"), without.in_unit("return"))

    def test_those_of_days_are_of_a_study_that_decides_daily(
        self, panel: AssetPanel, plan: Plan, dataset: Dataset
    ) -> None:
        config = replace(DAYS, walk_forward=replace(DAYS.walk_forward, rebalance=1))
        every = prepare_dataset(panel, Plan.of(panel, config))
        assert every.daily is None  # all rows are decisions already
        daily = dataset.daily
        assert daily is not None
        known = slice(0, int(plan.decisions[-1]) + 1)
        assert_same(daily, every.on(np.arange(known.stop)), "raw")
        assert daily.raw.size == 0
        moved = dataset.in_unit("return").daily
        assert moved is not None
        assert not np.array_equal(moved.targets, daily.targets, equal_nan=True)

    def test_a_part_and_a_saved_one_have_the_days_with_them(
        self, dataset: Dataset, tmp_path: Path
    ) -> None:
        part = dataset.cut(slice(103, 400), slice(2, 9))
        assert part.daily is not None
        np.testing.assert_array_equal(part.daily.decisions, np.arange(297))
        rows = part.daily.on(part.decisions)
        assert_same(replace(rows, raw=part.raw), part)
        again = load_dataset(save_dataset(dataset, tmp_path / "prepared"))
        assert again.daily is not None
        assert dataset.daily is not None
        assert isinstance(again.daily.features, np.memmap)
        assert_same(again.daily, dataset.daily)

    def test_from_a_decision_on(self, panel: AssetPanel, plan: Plan, dataset: Dataset) -> None:
        """What `today` asks for: nothing before the days that are needed."""
        since = len(plan.decisions) - 6
        recent = prepare_dataset(panel, plan, since=since, lean=True)
        first = int(plan.decisions[since])
        for own, whole, row in (
            (recent, dataset, since),
            (recent.daily, dataset.daily, first),
        ):
            assert own is not None
            assert whole is not None
            np.testing.assert_array_equal(own.features[row:], whole.features[row:])
            np.testing.assert_array_equal(own.market[row:], whole.market[row:])
            assert not own.features[:row].any()


class TestTrainingDays:
    """No day is learned from whose label, or place, the purge and the embargo keep out."""

    def test_one_sided(self, plan: Plan, dataset: Dataset) -> None:
        reach = dataset.lag + max(dataset.horizons)
        for fold in plan.folds:
            days = np.arange(560)[ModelRows.of(dataset, "lstm", DAYS).training(fold.train)]
            decided = plan.decisions[fold.train]
            assert days[0] == decided[0]
            assert days[-1] == decided[-1]
            assert (np.diff(days) == 1).all()
            first = plan.decisions[fold.test.start]
            assert days[-1] + reach + DAYS.walk_forward.embargo < first

    @pytest.mark.parametrize("held_out", [1, 2])
    def test_two_sided(self, plan: Plan, dataset: Dataset, held_out: int) -> None:
        labels, embargo = labels_of(plan.decisions, DAYS)
        reach = dataset.lag + max(dataset.horizons)
        own = ModelRows.of(dataset, "lstm", DAYS)
        made: Any = purged_kfold(labels, 4, embargo)
        if held_out > 1:
            made = combinatorial_purged(labels, 4, held_out, embargo)
        for fold in made:
            train = fold.train_rows()
            days = own.training(train)
            days = np.arange(days.start, days.stop) if isinstance(days, slice) else days
            assert set(plan.decisions[train]) <= set(days.tolist())
            assert len(days) > 3 * len(train)
            for block in fold.test if held_out > 1 else [fold.test]:
                first, last = plan.decisions[[block.start, block.stop - 1]]
                before, after = days[days < first], days[days > last]
                assert len(before) + len(after) == len(days)
                assert (before + reach < first).all()
                assert (after > last + reach + embargo).all()

    def test_without_the_days_it_is_refused(self, without: Dataset) -> None:
        with pytest.raises(DataError, match="was prepared without them"):
            ModelRows.of(without, "lstm", DAYS)
        assert ModelRows.of(without, "lstm_limited", DAYS).dataset is without


class TestFits:
    def test_keys_stand_for_what_is_read(
        self, panel: AssetPanel, plan: Plan, dataset: Dataset, without: Dataset
    ) -> None:
        """Only networks not under limits read other rows; the others keep their fits."""
        train, names = plan.folds[0].train, dataset.names[:4]

        def key(data: Dataset, model: str, config: StudyConfig, rows: Any = train) -> str:
            return fit_key(data, rows, names, model, config)

        longer = config_of(burn_in=20, chunk=60)
        shorter = config_of(burn_in=4, chunk=12)
        for model in ("linear", "lstm_limited"):
            assert key(dataset, model, DAYS) == key(without, model, shorter), model
        for model in ("lstm", "lstm_limited"):
            assert key(dataset, model, longer) == key(without, model, longer), model
        assert key(dataset, "lstm", DAYS) != key(without, "lstm", longer)
        # It is the fit of a study that decides daily, on the same days.
        daily = replace(DAYS, walk_forward=replace(DAYS.walk_forward, rebalance=1))
        every = prepare_dataset(panel, Plan.of(panel, daily))
        days = ModelRows.of(dataset, "lstm", DAYS).training(train)
        assert key(dataset, "lstm", DAYS) == key(every, "lstm", daily, days)

    def test_keys_of_earlier_versions_stay(self) -> None:
        own = fingerprinted(config_to_dict(DECISIONS))
        assert "rows" not in own["network"]
        assert own["network"] | {"rows": "decisions"} == config_to_dict(DECISIONS)["network"]
        assert fingerprinted(config_to_dict(DAYS))["network"]["rows"] == "days"

    def test_scores_are_of_decisions_and_read_nothing_later(
        self, plan: Plan, dataset: Dataset
    ) -> None:
        """Training on both sides of a block too, and whatever comes after the last label."""
        train = np.r_[0:40, 62:75]
        block, names = slice(50, 55), dataset.names
        made = fit_and_score(dataset, train, block.stop, names, "lstm", DAYS)
        assert made.scores.shape == (block.stop, 14)
        np.testing.assert_array_equal(np.isfinite(made.scores), dataset.eligible[: block.stop])
        daily, rng = dataset.daily, np.random.default_rng(0)
        assert daily is not None
        hidden = np.ones(len(daily.decisions), dtype=bool)
        hidden[ModelRows.of(dataset, "lstm", DAYS).training(train)] = False
        features, targets = daily.features.copy(), daily.targets.copy()
        targets[hidden] = rng.standard_normal(targets[hidden].shape)
        hidden[: plan.decisions[block.stop - 1] + 1] = False
        features[hidden] = rng.standard_normal(features[hidden].shape)
        other = replace(dataset, daily=replace(daily, features=features, targets=targets))
        again = fit_and_score(other, train, block.stop, names, "lstm", DAYS)
        np.testing.assert_array_equal(made.scores, again.scores)

    def test_drivers_are_measured_on_decisions(self, plan: Plan, dataset: Dataset) -> None:
        """And traced back over as many days as decisions otherwise."""
        fold, names = plan.folds[0], dataset.names[:3]
        fit = fit_and_score(dataset, fold.train, fold.test.stop, names, "lstm", DAYS)
        assert fit.forecaster is not None
        result: Any = SimpleNamespace(name="lstm", fitted=[fit.forecaster.state()])
        screens: Any = [SimpleNamespace(names=lambda _: names)]
        found = _explain_fit(dataset, screens, plan, result, 0)
        assert found.drop.shape == (fold.test.stop - fold.test.start, 3)
        assert found.attribution.shape == (5 * LAGS, 3)
        assert found.attribution[LAGS:].any()

    def test_choices_and_their_fits_go_through_the_same_rows(
        self, panel: AssetPanel, plan: Plan
    ) -> None:
        config = replace(DAYS, target=replace(DAYS.target, unit="auto", horizons=(5,)))
        dataset = prepare_dataset(panel, replace(plan, config=config))
        own = fit_inputs(dataset, plan.folds[0].train, "lstm", config)
        daily = own.dataset.daily
        assert daily is not None
        np.testing.assert_array_equal(daily.targets[plan.decisions], own.dataset.targets)


class TestSettings:
    def test_who_reads_days(self) -> None:
        assert [reads_days(name, DAYS) for name in ("lstm", "mlp", "lstm_limited", "linear")] == [
            True,
            True,
            False,
            False,
        ]
        assert not reads_days("lstm", DECISIONS)

    def test_networks_under_limits_take_as_many_decisions_as_lie_in_the_days(self) -> None:
        made: Any = make_forecaster("lstm_limited", DAYS, print, days_apart=5)
        assert (made.burn_in, made.chunk) == (4, 12)

    def test_residuals_are_of_decisions(self) -> None:
        with pytest.raises(ConfigError, match="known on decisions only"):
            replace(DAYS, target=replace(DAYS.target, networks="residuals"))

    def test_a_search_tries_sequences_in_days(self, panel: AssetPanel) -> None:
        sizes = {part.name: part for part in default_space("lstm", DAYS, n_rows=400)}
        assert sizes["network.burn_in"].values == (65, 130, 260)  # type: ignore[union-attr]
        assert sizes["network.chunk"].values == (130, 260, 520)  # type: ignore[union-attr]
        space = tuple(part for name, part in sizes.items() if name == "network.dropout")
        found = tune(panel, DAYS, SearchPlan(n_trials=1, blocks=4), space=space)
        assert found.config.network.rows == "days"
        assert np.isfinite(found.best["rank_ic"])


def test_the_audit_compares_days_where_nothing_reads_them(panel: AssetPanel, plan: Plan) -> None:
    """By default it fits the linear model alone; a fault on one day between decisions is found."""
    dataset = prepare_dataset(panel, plan)
    base, rng = Prepared(panel, plan, dataset), np.random.default_rng(0)
    row = int(plan.decisions[plan.folds[0].test.start + 3]) + 2
    for how in ("cut", "scramble"):
        assert check_days(base, how, row, rng) is None
    daily = dataset.daily
    assert daily is not None
    features = daily.features.copy()
    features[row - 4, int(np.argmax(daily.eligible[row - 4])), 0] += 1.0
    wrong = replace(dataset, daily=replace(daily, features=features))
    found = check_days(replace(base, dataset=wrong), "scramble", row, rng)
    assert found is not None
    assert found.evidence.startswith(f"the scaled {daily.names[0]} of every day of ")


def test_the_report_says_which_rows_networks_read() -> None:
    said, before = (dict(conventions(config))["Rows"] for config in (DAYS, DECISIONS))
    assert said.startswith("LSTM: every trading day")
    assert "decisions only" in said
    assert before.startswith("All models learn from decisions")
    assert "Rows" not in dict(conventions(replace(DAYS, models=("linear",))))
