"""One suite for every forecaster: what the study may count on, whichever model it was given."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pytest
from sklearn.base import clone

from alphakeel.errors import ConfigError, DataError, NotFittedError
from alphakeel.models.base import Forecaster
from alphakeel.models.linear import LinearForecaster
from alphakeel.models.sequence import (
    AttentionForecaster,
    CNNLSTMForecaster,
    GRUForecaster,
    LSTMForecaster,
    MLPForecaster,
)
from alphakeel.models.tabular import LightGBMForecaster, SupportVectorForecaster
from helpers import model_sample

SMALL = {"hidden": 6, "burn_in": 4, "chunk": 20, "max_steps": 6, "evaluate_every": 3}

FORECASTERS: dict[str, Callable[[], Forecaster]] = {
    "pooled": lambda: LinearForecaster("pooled"),
    "ridge": lambda: LinearForecaster("ridge"),
    "fama_macbeth": lambda: LinearForecaster("fama_macbeth"),
    "lstm": lambda: LSTMForecaster(**SMALL, n_seeds=2, device="cpu"),
    "lstm_warm_up": lambda: LSTMForecaster(**SMALL, n_seeds=1, warm_up=5, device="cpu"),
    "lstm_two_layers": lambda: LSTMForecaster(**SMALL, n_seeds=1, layers=2, device="cpu"),
    "lstm_subsets": lambda: LSTMForecaster(**SMALL, n_seeds=1, batch_assets=7, device="cpu"),
    "gru": lambda: GRUForecaster(**SMALL, n_seeds=2, device="cpu"),
    "attention": lambda: AttentionForecaster(**SMALL, n_seeds=2, window=7, device="cpu"),
    "cnn_lstm": lambda: CNNLSTMForecaster(**SMALL, n_seeds=2, device="cpu"),
    "mlp": lambda: MLPForecaster(**SMALL, n_seeds=2, layers=2, device="cpu"),
    "svr": lambda: SupportVectorForecaster(components=20, n_seeds=2),
    "svr_capped": lambda: SupportVectorForecaster(components=20, max_entries=200),
}
if find_spec("lightgbm") is not None:
    FORECASTERS["lightgbm"] = lambda: LightGBMForecaster(n_trees=20, n_seeds=2, patience=1)


@pytest.fixture(params=FORECASTERS)
def forecaster(request: pytest.FixtureRequest) -> Forecaster:
    return FORECASTERS[request.param]()


@pytest.fixture
def sample() -> dict[str, np.ndarray]:
    found, rng = model_sample(90, seed=1), np.random.default_rng(2)
    found["targets"][-2:] = np.nan
    found["features"][~found["mask"] & (rng.random((90, 12)) < 0.5)] = np.nan
    return found


def fit(model: Forecaster, sample: dict[str, np.ndarray]) -> Forecaster:
    return model.fit(**sample)


def scores(model: Forecaster, sample: dict[str, np.ndarray]) -> np.ndarray:
    return model.predict(sample["features"], mask=sample["mask"], market=sample["market"])


def test_is_a_forecaster(forecaster: Forecaster) -> None:
    assert isinstance(forecaster, Forecaster)


def test_fit_returns_itself_and_scores_exactly_what_it_may(
    forecaster: Forecaster, sample: dict[str, np.ndarray]
) -> None:
    assert fit(forecaster, sample) is forecaster
    found = scores(forecaster, sample)
    assert found.shape == (90, 12)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.isfinite(found), sample["mask"])


def test_an_entry_without_all_factors_has_no_score(
    forecaster: Forecaster, sample: dict[str, np.ndarray]
) -> None:
    fit(forecaster, sample)
    sample["mask"][50] = True
    sample["features"][50] = 0.5
    sample["features"][50, :, 1] = np.arange(12)
    sample["features"][50, 3, 1] = np.nan
    sample["features"][50, 4, 2] = np.inf
    found = scores(forecaster, sample)[50]
    assert np.flatnonzero(np.isnan(found)).tolist() == [3, 4]


def test_one_horizon_and_no_mask_and_no_market(
    forecaster: Forecaster, sample: dict[str, np.ndarray]
) -> None:
    features = np.nan_to_num(sample["features"])
    found = forecaster.fit(features, sample["targets"][..., 0]).predict(features)
    assert np.isfinite(found).all()


def test_refitting_gives_the_same_bits(
    forecaster: Forecaster, sample: dict[str, np.ndarray]
) -> None:
    once = scores(fit(forecaster, sample), sample)
    np.testing.assert_array_equal(scores(fit(forecaster, sample), sample), once)
    np.testing.assert_array_equal(scores(fit(clone(forecaster), sample), sample), once)


@pytest.mark.parametrize("t", [10, 45, 88])
def test_scores_do_not_see_the_future(
    forecaster: Forecaster, sample: dict[str, np.ndarray], t: int
) -> None:
    fit(forecaster, sample)
    before = scores(forecaster, sample)
    rng = np.random.default_rng(t)
    later = 89 - t
    sample["features"][t + 1 :] = 1e6 * rng.standard_normal((later, 12, 3))
    sample["features"][t + 1 :, ::5] = np.nan
    sample["features"][-1, 0] = 1e30
    sample["mask"][t + 1 :] = rng.random((later, 12)) > 0.5
    sample["market"][t + 1 :] = 1e9 * rng.standard_normal((later, 2))
    np.testing.assert_array_equal(scores(forecaster, sample)[: t + 1], before[: t + 1])


def test_masked_entries_and_unknown_targets_teach_nothing(
    forecaster: Forecaster, sample: dict[str, np.ndarray]
) -> None:
    fit(forecaster, sample)
    before = scores(forecaster, sample)
    sample["targets"][~sample["mask"]] = 1e9
    fit(forecaster, sample)
    np.testing.assert_array_equal(scores(forecaster, sample), before)


def test_inputs_are_not_changed(forecaster: Forecaster, sample: dict[str, np.ndarray]) -> None:
    copies = {name: x.copy() for name, x in sample.items()}
    for x in sample.values():
        x.flags.writeable = False
    scores(fit(forecaster, sample), sample)
    for name, x in sample.items():
        np.testing.assert_array_equal(x, copies[name])


def test_the_order_of_stocks_does_not_matter_to_scores(
    forecaster: Forecaster, sample: dict[str, np.ndarray]
) -> None:
    fit(forecaster, sample)
    before = scores(forecaster, sample)
    order = np.random.default_rng(0).permutation(12)
    sample["features"], sample["mask"] = sample["features"][:, order], sample["mask"][:, order]
    np.testing.assert_allclose(scores(forecaster, sample), before[:, order], atol=2e-5)


def test_parameters_are_kept_as_given(forecaster: Forecaster) -> None:
    parameters = forecaster.get_params()  # type: ignore[attr-defined]
    assert clone(forecaster).get_params() == parameters
    assert not [name for name in vars(forecaster) if name.endswith("_")]


def test_predict_before_fit(forecaster: Forecaster, sample: dict[str, np.ndarray]) -> None:
    with pytest.raises(NotFittedError, match="call fit first"):
        scores(forecaster, sample)


def test_another_number_of_factors(forecaster: Forecaster, sample: dict[str, np.ndarray]) -> None:
    fit(forecaster, sample)
    sample["features"] = sample["features"][..., :2]
    with pytest.raises(DataError, match=r"fitted on 3 factors .*was given 2|was given 2"):
        scores(forecaster, sample)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"features": np.zeros((90, 12, 0))}, ConfigError, "no factor is left"),
        ({"features": np.zeros((90, 12))}, DataError, "2 axes"),
        ({"features": np.zeros((90, 0, 3)), "mask": None}, DataError, "no entry"),
        ({"mask": np.ones((90, 11), bool)}, DataError, "mask has shape"),
        ({"market": np.zeros((80, 2))}, DataError, "market has shape"),
        ({"targets": np.zeros((80, 12))}, DataError, "targets have shape"),
        ({"targets": np.full((90, 12), np.nan)}, DataError, "no target is known"),
        ({"mask": np.zeros((90, 12), bool)}, DataError, "no target is known"),
    ],
)
def test_inputs_that_cannot_be_used(
    forecaster: Forecaster,
    sample: dict[str, np.ndarray],
    change: dict[str, np.ndarray],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        fit(forecaster, sample | change)
