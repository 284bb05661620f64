"""The combined model: a mean of ranks, with weights that know earlier folds only."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from alphakeel.config import CombinedConfig, StudyConfig
from alphakeel.data.bundled import load_bundled
from alphakeel.errors import ConfigError
from alphakeel.pipeline.combination import combine
from alphakeel.progress import Progress
from alphakeel.report import models as report_models
from alphakeel.results import Study
from alphakeel.selection.search_space import SearchPlan
from alphakeel.stats.cross_section import rank_ic, rank_scaled
from alphakeel.stats.splits import Fold
from alphakeel.study import run_study
from helpers import TINY_NETWORK, tiny_config

FOLDS = (
    Fold(slice(0, 8), slice(10, 30)),
    Fold(slice(0, 25), slice(30, 50)),
    Fold(slice(5, 45), slice(50, 60)),
)


def example(seed: int = 0) -> tuple[dict[str, np.ndarray], Any]:
    """Three members: one that knows something, noise, and one that is wrong."""
    rng = np.random.default_rng(seed)
    forward = rng.standard_normal((60, 12, 2))
    signal = forward[..., 1]
    scores = {
        "linear": signal + rng.standard_normal((60, 12)),
        "lstm": rng.standard_normal((60, 12)),
        "gru": rng.standard_normal((60, 12)) - signal,
    }
    for own in scores.values():
        own[:10] = np.nan
    scores["lstm"][:, 3] = np.nan
    return scores, SimpleNamespace(horizons=(5, 20), forward=forward)


def settings(weights: str, shrinkage: int = 10) -> StudyConfig:
    return StudyConfig(combined=CombinedConfig(weights=weights, shrinkage=shrinkage))


class TestWeights:
    def test_equal_weights_are_the_mean_of_ranks(self) -> None:
        scores, dataset = example()
        made = combine(scores, dataset, FOLDS, settings("equal"))
        both = np.isfinite(np.stack(list(scores.values()))).all(axis=0)
        mean = np.mean([rank_scaled(own, both) for own in scores.values()], axis=0)
        np.testing.assert_allclose(made.scores, mean, rtol=1e-6, atol=1e-7)
        assert np.isnan(made.scores[:, 3]).all(), "a stock that one member does not score"
        assert np.isnan(made.scores[:10]).all()
        assert made.weights["weight"].tolist() == [1.0 / 3.0] * 9

    def test_learned_weights_are_drawn_to_equal_ones(self) -> None:
        scores, dataset = example()
        weights = combine(scores, dataset, FOLDS, settings("learned")).weights
        assert weights[weights.fold == 0]["weight"].tolist() == [1.0 / 3.0] * 3
        both = np.isfinite(np.stack(list(scores.values()))).all(axis=0)
        for fold, rows in ((1, slice(10, 25)), (2, slice(10, 45))):
            own = weights[weights.fold == fold]
            ics = [rank_ic(s, dataset.forward[..., 1], both)[rows].mean() for s in scores.values()]
            count = rows.stop - rows.start
            assert own["decisions"].tolist() == [count] * 3
            assert own["rank_ic"].tolist() == pytest.approx(ics)
            skill = np.maximum(ics, 0.0)
            expected = (10 / 3 + count * skill / skill.sum()) / (10 + count)
            assert own["weight"].tolist() == pytest.approx(expected)
            assert own["weight"].iloc[0] > own["weight"].iloc[2] > 0.0
            assert own["weight"].sum() == pytest.approx(1.0)

    def test_nobody_with_skill_leaves_equal_weights(self) -> None:
        scores, dataset = example()
        scores = {name: own for name, own in scores.items() if name == "gru"} | {
            "svr": scores["gru"] - 0.5 * dataset.forward[..., 1]
        }
        weights = combine(scores, dataset, FOLDS, settings("learned")).weights
        assert (weights["rank_ic"].dropna() < 0).all()
        assert (weights["weight"] == 0.5).all()

    def test_weights_of_a_fold_know_its_training_decisions_only(self) -> None:
        scores, dataset = example()
        one = combine(scores, dataset, FOLDS, settings("learned"))
        dataset.forward[25:] = np.random.default_rng(7).standard_normal((35, 12, 2))
        other = combine(scores, dataset, FOLDS, settings("learned"))
        np.testing.assert_array_equal(one.scores[:50], other.scores[:50])
        assert not np.array_equal(one.scores[50:], other.scores[50:])


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"models": ["combined"]}, "nothing to combine with linear"),
            ({"models": ["lstm_limited", "combined"]}, "name models under limits"),
            ({"models": ["lstm", "combined"], "combined": {"members": ["lstm", "gru"]}},
             'names "gru", which is not in models'),
            ({"combined": {"members": ["lstm"]}}, "two different models"),
            ({"combined": {"members": ["lstm", "lstm"]}}, "two different models"),
            ({"combined": {"members": ["combined", "lstm"]}}, "must be one of"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_combined(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            tiny_config(**changes)

    def test_members_by_default_are_the_models_that_only_score(self) -> None:
        config = tiny_config(models=["lstm", "lstm_limited", "combined", "mlp"])
        assert config.members == ("linear", "lstm", "mlp")
        assert replace(config, models=("lstm",)).members == ()

    def test_it_has_nothing_to_tune(self) -> None:
        with pytest.raises(ConfigError, match="tune its members"):
            SearchPlan(model="combined")


FITTED: list[str] = []


@pytest.fixture(scope="module")
def study() -> Study:
    config = tiny_config(
        models=["linear", "lstm", "combined"],
        network={**TINY_NETWORK, "n_seeds": 2},
        report={"sensitivity": True, "drivers": True},
    )
    panel = load_bundled("synthetic", n_assets=8, n_dates=560, seed=1)

    def hear(told: Progress) -> None:
        if told.stage == "fitting":
            FITTED.append(told.detail)

    return run_study(panel, config, on_progress=hear)


class TestStudy:
    def test_it_goes_through_the_whole_study(self, study: Study) -> None:
        assert list(study.strategies)[-1] == "Combined"
        own = study.models["combined"]
        assert own.fitted == own.keys == own.drivers == ()
        assert {text.split(",")[0] for text in FITTED if "fold" in text} == {"Linear", "LSTM"}
        tested = study.plan.tested
        assert np.isfinite(own.scores[tested]).any(axis=1).all()
        tables = study.tables()
        assert {"Linear", "LSTM", "Combined"} == set(tables["ic"].index.get_level_values(0))
        assert {"LSTM", "Combined"} == set(tables["ic_differences"].index.get_level_values(0))
        assert tables["combined"]["member"].tolist() == ["Linear", "LSTM"]
        assert "Combined" not in tables["drivers"].index.get_level_values(0)
        seeds = tables["seeds"].set_index(["model", "seed"])
        assert {("Combined", 0), ("Combined", 1)} <= set(seeds.index)

    def test_one_seed_of_it_is_one_network_of_each_member(self, study: Study) -> None:
        own, lstm = study.models["combined"], study.models["lstm"]
        assert own.members is not None
        assert lstm.members is not None
        one = {"linear": study.models["linear"].scores, "lstm": lstm.members[1]}
        made = combine(one, study.dataset, study.plan.folds, study.config)
        np.testing.assert_array_equal(own.members[1], made.scores)

    def test_the_report_says_that_it_has_no_drivers(self, study: Study) -> None:
        view: Any = SimpleNamespace(study=study, tables=study.tables())
        *_, said, weights, _, _ = report_models.drivers(view).blocks
        assert "no drivers of its own" in said.items[0]
        assert weights.caption == "Weights of the members of the combined model"
