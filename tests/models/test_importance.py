"""What drives the scores: attributions add up, importance finds what was planted, no future."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from alphakeel.errors import ConfigError, DataError, NotFittedError
from alphakeel.evaluation import performance
from alphakeel.models.attribution import (
    attribute,
    integrated_gradients,
    linear_in_heads,
    shapley_values,
)
from alphakeel.models.base import Forecaster
from alphakeel.models.importance import Drivers, explain_score, find_drivers, permutation_importance
from alphakeel.models.linear import LinearForecaster
from alphakeel.models.networks import run
from alphakeel.models.sequence import (
    AttentionForecaster,
    CNNLSTMForecaster,
    GRUForecaster,
    LSTMForecaster,
    MLPForecaster,
    SequenceForecaster,
)
from alphakeel.models.tabular import SupportVectorForecaster
from alphakeel.stats.cross_section import rank_ic

NAMES = ["now", "before", "noise"]
LAG = 3
SMALL = {"hidden": 8, "burn_in": 6, "chunk": 40, "device": "cpu", "n_seeds": 2}

NETWORKS: dict[str, Callable[..., SequenceForecaster]] = {
    "lstm": LSTMForecaster,
    "gru": GRUForecaster,
    "attention": AttentionForecaster,
    "cnn_lstm": CNNLSTMForecaster,
    "mlp": MLPForecaster,
}

Sample = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def sample() -> Sample:
    """Targets follow the first factor of the day, and the second of `LAG` rows ago."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((140, 15, 3)).astype(np.float32)
    targets = np.stack([features[..., 0]] * 2, axis=-1).astype(np.float64)
    targets[LAG:] += features[:-LAG, :, 1, None]
    mask = rng.random((140, 15)) > 0.1
    mask[:, :4] = True
    return {
        "features": features,
        "targets": targets,
        "mask": mask,
        "market": rng.standard_normal((140, 2)),
    }


def inputs_of(sample: Sample) -> dict[str, np.ndarray]:
    return {name: sample[name] for name in ("features", "mask", "market")}


@pytest.fixture(scope="module")
def trained(sample: Sample) -> LSTMForecaster:
    model = LSTMForecaster(**SMALL | {"n_seeds": 1, "hidden": 16}, max_steps=150, patience=None)
    return model.fit(**sample)


class TestIntegratedGradients:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_add_up_to_the_score_less_that_of_the_middle(self, name: str, sample: Sample) -> None:
        model = NETWORKS[name](**SMALL, max_steps=12).fit(**sample)
        found = integrated_gradients(model, **inputs_of(sample), row=70, assets=[0, 2])
        assert found.values.shape == (2, 71, 3)
        np.testing.assert_allclose(found.gap, 0.0, atol=1e-3)
        np.testing.assert_allclose(
            found.scores, model.predict(**inputs_of(sample))[70, [0, 2]], atol=1e-5
        )

    def test_the_baseline_is_the_score_with_all_factors_in_the_middle(self, sample: Sample) -> None:
        model = LSTMForecaster(**SMALL, max_steps=12).fit(**sample)
        found = integrated_gradients(model, **inputs_of(sample), row=40, assets=[1])
        # Against a large cross-section one stock more does not move mean and deviation.
        wide = {
            "features": np.repeat(sample["features"], 200, axis=1),
            "mask": np.repeat(sample["mask"], 200, axis=1),
            "market": sample["market"],
        }
        wide["features"][:, 200] = 0.0
        np.testing.assert_allclose(model.predict(**wide)[40, 200], found.baselines[0], atol=5e-3)

    @pytest.mark.parametrize("warm_up", [None, 5])
    @pytest.mark.parametrize("row", [0, 39, 40, 97])
    def test_explain_the_score_that_predict_gives(
        self, sample: Sample, row: int, warm_up: int | None
    ) -> None:
        model = LSTMForecaster(**SMALL, max_steps=3, warm_up=warm_up).fit(**sample)
        found = integrated_gradients(model, **inputs_of(sample), row=row, assets=[0])
        score = model.predict(**inputs_of(sample))[row, 0]
        np.testing.assert_allclose(found.scores[0], score, atol=1e-5)
        np.testing.assert_allclose(found.gap, 0.0, atol=1e-3)
        before = row if warm_up is None else row % model.chunk_ + min(row - row % model.chunk_, 5)
        assert found.values.shape[1] == before + 1

    def test_find_factor_and_lag(self, trained: LSTMForecaster, sample: Sample) -> None:
        listed = np.flatnonzero(sample["mask"][130])
        given = inputs_of(sample)
        size = integrated_gradients(trained, **given, row=130, assets=listed, lags=12)
        by = size.mean_absolute()
        assert by.shape == (12, 3)
        assert by[:, 0].argmax() == 0
        assert by[:, 1].argmax() == LAG
        assert by[:, 2].sum() < 0.5 * min(by[:, 0].sum(), by[:, 1].sum())

    def test_lags_before_the_first_row_are_zero(
        self, trained: LSTMForecaster, sample: Sample
    ) -> None:
        found = integrated_gradients(trained, **inputs_of(sample), row=4, assets=[0], lags=12)
        assert found.values.shape == (1, 12, 3)
        assert (found.values[:, 5:] == 0.0).all()
        np.testing.assert_allclose(found.gap, 0.0, atol=1e-3)

    def test_a_network_without_memory_has_all_at_lag_0(self, sample: Sample) -> None:
        model = MLPForecaster(**SMALL, max_steps=5).fit(**sample)
        found = integrated_gradients(model, **inputs_of(sample), row=60, assets=[0], lags=8)
        assert (found.values[:, 1:] == 0.0).all()
        assert np.abs(found.values[:, 0]).sum() > 0.0

    def test_do_not_see_the_future(self, trained: LSTMForecaster, sample: Sample) -> None:
        given = inputs_of(sample)
        before = integrated_gradients(trained, **given, row=80, assets=[0, 1])
        rng = np.random.default_rng(1)
        other = {name: x.copy() for name, x in given.items()}
        other["features"][81:] = 1e3 * rng.standard_normal((59, 15, 3))
        other["market"][81:] = np.nan
        other["mask"][81:] = rng.random((59, 15)) > 0.5
        after = integrated_gradients(trained, **other, row=80, assets=[0, 1])
        np.testing.assert_array_equal(before.values, after.values)

    def test_same_bits_again_and_nothing_changed(
        self, trained: LSTMForecaster, sample: Sample
    ) -> None:
        given = inputs_of(sample)
        copies = {name: x.copy() for name, x in given.items()}
        weights = [p.clone() for p in trained.members_[0].parameters()]
        first = integrated_gradients(trained, **given, row=80, assets=[0, 1])
        again = integrated_gradients(trained, **given, row=80, assets=[0, 1])
        np.testing.assert_array_equal(first.values, again.values)
        for name, x in given.items():
            np.testing.assert_array_equal(x, copies[name])
        for weight, p in zip(weights, trained.members_[0].parameters(), strict=True):
            assert torch.equal(weight, p)
            assert p.grad is None

    def test_agree_with_captum(self, trained: LSTMForecaster, sample: Sample) -> None:
        captum = pytest.importorskip("captum.attr")
        row, asset = 60, 1
        network = trained.members_[0]
        series = trained.market_scale_.apply(sample["market"][: row + 1].astype(np.float32))
        x = np.concatenate([sample["features"][: row + 1, asset], series], axis=1)
        start = x.copy()
        start[:, :3] = 0.0
        heads = run(network, sample["features"][: row + 1], series)[-1].astype(np.float64)
        weights = torch.from_numpy(linear_in_heads(heads, sample["mask"][row])[0]).float()
        tool = captum.IntegratedGradients(lambda z: network(z.transpose(0, 1))[0][-1] @ weights)
        theirs = tool.attribute(
            torch.from_numpy(x)[None], torch.from_numpy(start)[None], n_steps=64
        )[0, :, :3].numpy()
        ours = integrated_gradients(trained, **inputs_of(sample), row=row, assets=[asset])
        np.testing.assert_allclose(ours.values[0][::-1], theirs, atol=1e-5)


class TestShapleyValues:
    def test_linear_is_coefficient_times_factor(self, sample: Sample) -> None:
        model = LinearForecaster().fit(**sample)
        found = shapley_values(
            model, **inputs_of(sample), row=50, assets=[0, 3], rng=np.random.default_rng(0)
        )
        expected = sample["features"][50, [0, 3]] * model.coef_
        np.testing.assert_allclose(found.values[:, 0], expected, atol=1e-6)
        np.testing.assert_allclose(found.baselines, 0.0, atol=1e-7)

    def test_sum_holds_for_any_number_of_orders_of_a_curved_model(self, sample: Sample) -> None:
        model = SupportVectorForecaster(components=40).fit(**sample)
        for permutations in (1, 3):
            found = shapley_values(
                model,
                **inputs_of(sample),
                row=50,
                assets=[0],
                rng=np.random.default_rng(0),
                permutations=permutations,
            )
            np.testing.assert_allclose(found.gap, 0.0, atol=1e-5)

    def test_a_model_with_memory_is_refused(self, trained: LSTMForecaster, sample: Sample) -> None:
        with pytest.raises(ConfigError, match="for models that do neither"):
            shapley_values(
                trained, **inputs_of(sample), row=50, assets=[0], rng=np.random.default_rng(0)
            )


class TestPermutationImportance:
    def test_finds_what_was_planted(self, trained: LSTMForecaster, sample: Sample) -> None:
        rng = np.random.default_rng(0)
        found = permutation_importance(trained, **sample, rng=rng, rows=slice(60, 140), repeats=3)
        assert found.base.shape == (80,)
        assert found.shuffled.shape == (3, 80, 3)
        drop = np.nanmean(found.drop, axis=0)
        assert drop[0] > 0.1
        assert drop[1] > 0.1
        assert abs(drop[2]) < 0.05

    def test_base_is_the_rank_ic_of_the_scores(
        self, trained: LSTMForecaster, sample: Sample
    ) -> None:
        found = permutation_importance(
            trained, **sample, rng=np.random.default_rng(0), rows=slice(100, 110), repeats=1
        )
        scores = trained.predict(**inputs_of(sample))[100:110]
        expected = rank_ic(scores, sample["targets"][100:110]).mean(axis=1)
        np.testing.assert_array_equal(found.base, expected)

    def test_a_factor_is_shuffled_among_the_present_of_its_date(self, sample: Sample) -> None:
        class Spy(LinearForecaster):
            seen: list[np.ndarray]

            def predict(self, features, *, mask=None, market=None):  # type: ignore[no-untyped-def]
                self.seen.append(np.array(features))
                return super().predict(features, mask=mask, market=market)

        model = Spy().fit(**sample)
        model.seen = []
        permutation_importance(model, **sample, rng=np.random.default_rng(3), repeats=1)
        real, mask = sample["features"], sample["mask"]
        assert len(model.seen) == 1 + 3
        np.testing.assert_array_equal(model.seen[0], real)
        for k, cube in enumerate(model.seen[1:]):
            others = [j for j in range(3) if j != k]
            np.testing.assert_array_equal(cube[..., others], real[..., others])
            np.testing.assert_array_equal(cube[~mask], real[~mask])
            for t in (0, 70, 139):
                np.testing.assert_array_equal(
                    np.sort(cube[t, mask[t], k]), np.sort(real[t, mask[t], k])
                )
            moved = cube[..., k][mask] != real[..., k][mask]
            assert 0.8 < moved.mean() < 1.0

    def test_one_generator_one_result(self, trained: LSTMForecaster, sample: Sample) -> None:
        results = [
            permutation_importance(
                trained, **sample, rng=np.random.default_rng(seed), repeats=1
            ).shuffled
            for seed in (5, 5, 6)
        ]
        np.testing.assert_array_equal(results[0], results[1])
        assert not np.array_equal(results[0], results[2])


class TestExplainScore:
    @pytest.mark.parametrize("network", [True, False])
    def test_table_of_one_stock_on_one_day(
        self, trained: LSTMForecaster, sample: Sample, network: bool
    ) -> None:
        model: Forecaster = trained if network else LinearForecaster().fit(**sample)
        table = explain_score(
            model, sample["features"], sample["market"], sample["mask"], 120, 2, NAMES
        )
        assert sorted(table["factor"]) == sorted(NAMES)
        assert table["contribution"].abs().is_monotonic_decreasing
        score = model.predict(**inputs_of(sample))[120, 2]
        assert table.attrs["score"] == pytest.approx(score, abs=1e-5)
        total = table.attrs["score"] - table.attrs["baseline"]
        assert table["contribution"].sum() == pytest.approx(total, abs=1e-3)
        own = table.set_index("factor")
        assert own.loc["before", "value"] == pytest.approx(sample["features"][120, 2, 1])
        if network:
            assert str(LAG) in own.loc["before", "top_lags"].split(", ")
        else:
            assert set(own["top_lags"]) == {"0"}


class TestDrivers:
    def test_both_measures_of_both_kinds_of_model(
        self, trained: LSTMForecaster, sample: Sample
    ) -> None:
        for model, n_lags in ((trained, 10), (LinearForecaster().fit(**sample), 1)):
            found = find_drivers(
                model, **sample, names=NAMES, rng=np.random.default_rng(0), rows=slice(60, None),
                lags=10,
            )  # fmt: skip
            assert found.drop.shape == (80, 3)
            assert found.attribution.shape == (n_lags, 3)
            assert found.attribution.sum() == pytest.approx(1.0)
            assert found.attribution[:, 2].sum() < 0.2

    def test_a_large_universe_is_sampled(self, trained: LSTMForecaster, sample: Sample) -> None:
        wide = {
            name: x if name == "market" else np.repeat(x, 4, axis=1) for name, x in sample.items()
        }
        found = find_drivers(
            trained, **wide, names=NAMES, rng=np.random.default_rng(0), rows=slice(100, None),
            max_assets=30, explained_assets=3,
        )  # fmt: skip
        assert np.nanmean(found.drop[:, 0]) > 0.1

    def test_table(self) -> None:
        rng = np.random.default_rng(0)
        drop = np.column_stack([0.05 + 0.1 * rng.standard_normal(60), np.zeros(60)])
        first = Drivers(("a", "b"), drop, np.array([[0.2, 0.1], [0.5, 0.2]]))
        second = Drivers(("b",), np.full((60, 1), np.nan), np.array([[1.0]]))
        table = performance.importance_table(
            {"LSTM": [first, second]}, lags=4, level=0.95, n_bootstrap=200, seed=0
        )
        a, b = table.loc[("LSTM", "a")], table.loc[("LSTM", "b")]
        assert a["rank_ic_drop"] == pytest.approx(drop[:, 0].mean())
        assert a["rank_ic_drop_low"] < a["rank_ic_drop"] < a["rank_ic_drop_high"]
        assert (a["top_lag"], a["folds"], b["folds"]) == (1, 1, 2)
        assert a["mean_lag"] == pytest.approx(0.5 / 0.7)
        assert b["score_share"] == pytest.approx((0.3 + 1.0) / 2)
        assert b["rank_ic_drop"] == 0.0
        assert isinstance(table, pd.DataFrame)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"row": 140}, ConfigError, "end with row 139"),
        ({"row": -1}, ConfigError, "row must be"),
        ({"assets": [15]}, ConfigError, "columns from 0 to 14"),
        ({"assets": []}, ConfigError, "columns from 0 to 14"),
        ({"lags": 0}, ConfigError, "lags must be"),
        ({"steps": 0}, ConfigError, "steps must be"),
        ({"features": np.zeros((140, 15, 2))}, DataError, "fitted on 3 factors"),
        ({"mask": np.zeros((140, 15), bool)}, DataError, "no score in row 50"),
    ],
)
def test_questions_that_have_no_answer(
    trained: LSTMForecaster, sample: Sample, change: dict, error: type[Exception], message: str
) -> None:
    given = {**inputs_of(sample), "row": 50, "assets": [0], "rng": np.random.default_rng(0)}
    with pytest.raises(error, match=message):
        attribute(trained, **given | change)


def test_other_mistakes(trained: LSTMForecaster, sample: Sample) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(NotFittedError, match="call fit first"):
        integrated_gradients(LSTMForecaster(), **inputs_of(sample), row=5, assets=[0])
    with pytest.raises(ConfigError, match="2 factor names for 3 factors"):
        explain_score(trained, sample["features"], None, None, 5, 0, NAMES[:2])
    with pytest.raises(ConfigError, match="repeats"):
        permutation_importance(trained, **sample, rng=rng, repeats=0)
    with pytest.raises(DataError, match="targets have shape"):
        permutation_importance(trained, **sample | {"targets": np.zeros((3, 3))}, rng=rng)
    with pytest.raises(ConfigError, match="2 names for 3 factors"):
        find_drivers(trained, **sample, names=NAMES[:2], rng=rng, rows=slice(60, None))
