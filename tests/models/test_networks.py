"""The networks behind the one trainer, and the references beside them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.svm import SVR

from alphakeel.config import COMBINED, MODELS, NetworkConfig, StudyConfig
from alphakeel.errors import ConfigError, DataError
from alphakeel.model_factory import LABELS, NETWORKS, check_models, make_forecaster, work_of
from alphakeel.models.base import Forecaster
from alphakeel.models.constrained import ConstrainedForecaster, RiskLimitedLSTM
from alphakeel.models.linear import LinearForecaster
from alphakeel.models.networks import (
    AttentionNetwork,
    CausalConvolution,
    CNNLSTMNetwork,
    GRUNetwork,
    LSTMNetwork,
    MLPNetwork,
    SequenceNetwork,
    banded_attention,
    run,
)
from alphakeel.models.restore import restore
from alphakeel.models.sequence import (
    AttentionForecaster,
    CNNLSTMForecaster,
    GRUForecaster,
    LSTMForecaster,
    MLPForecaster,
)
from alphakeel.models.tabular import LightGBMForecaster, SupportVectorForecaster
from alphakeel.stats.cross_section import rank_ic, rank_scaled
from helpers import TINY_NETWORK

MAKERS: dict[str, Callable[..., SequenceNetwork]] = {
    "lstm": LSTMNetwork,
    "gru": GRUNetwork,
    "attention": lambda *sizes, **more: AttentionNetwork(*sizes, window=6, **more),
    "cnn_lstm": lambda *sizes, **more: CNNLSTMNetwork(*sizes, kernel=3, convolutions=2, **more),
    "mlp": MLPNetwork,
}
FORECASTERS = [LSTMForecaster, GRUForecaster, AttentionForecaster, CNNLSTMForecaster, MLPForecaster]
needs_lightgbm = pytest.mark.skipif(find_spec("lightgbm") is None, reason="no lightgbm here")


def make_network(name: str, *, layers: int = 1, seed: int = 0, dropout: float = 0.0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return MAKERS[name](3, 2, hidden=5, layers=layers, dropout=dropout, generator=generator)


def noise(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", MAKERS)
class TestEveryNetwork:
    @pytest.mark.parametrize("cuts", [[13], [1, 2], [4, 5, 19]], ids=str)
    def test_can_be_streamed(self, name: str, layers: int, cuts: list[int]) -> None:
        network, inputs = make_network(name, layers=layers), noise(20, 4, 3)
        whole, _ = network(inputs)
        state, parts = None, []
        for piece in torch.tensor_split(inputs, cuts):
            outputs, state = network(piece, state)
            parts.append(outputs)
        torch.testing.assert_close(torch.cat(parts), whole)

    def test_later_rows_do_not_count_whatever_they_are(self, name: str, layers: int) -> None:
        network, inputs = make_network(name, layers=layers), noise(20, 4, 3)
        whole, _ = network(inputs)
        for bad in (1e30, float("inf"), float("nan")):
            changed = inputs.clone()
            changed[11:] = bad
            outputs, _ = network(changed)
            assert torch.equal(outputs[:11], whole[:11])

    def test_a_diverged_row_shows(self, name: str, layers: int) -> None:
        """Nothing may hide a loss that is not a number."""
        inputs = noise(20, 4, 3)
        inputs[11, 2, 0] = float("nan")
        outputs, _ = make_network(name, layers=layers)(inputs)
        assert torch.isnan(outputs[11, 2]).all()
        assert torch.isfinite(outputs[:, [0, 1, 3]]).all()

    def test_gradients(self, name: str, layers: int) -> None:
        network = make_network(name, layers=layers).double()
        inputs = noise(9, 2, 3, dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(lambda x: network(x)[0], inputs)

    def test_weights_come_from_the_generator_alone(self, name: str, layers: int) -> None:
        before = torch.random.get_rng_state()
        first = make_network(name, layers=layers).state_dict()
        assert torch.equal(torch.random.get_rng_state(), before)
        torch.rand(3)
        again = make_network(name, layers=layers).state_dict()
        other = make_network(name, layers=layers, seed=1).state_dict()
        assert all(torch.equal(first[key], again[key]) for key in first)
        assert not all(torch.equal(first[key], other[key]) for key in first)
        assert all(torch.isfinite(x).all() for x in first.values())

    def test_dropout_is_its_own_and_off_in_prediction(self, name: str, layers: int) -> None:
        network, inputs = make_network(name, layers=layers, dropout=0.5), noise(20, 4, 3)
        generators = [torch.Generator().manual_seed(seed) for seed in (0, 0, 1)]
        one, same, other = (network(inputs, noise=generator)[0] for generator in generators)
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
        assert torch.equal(network(inputs)[0], network(inputs)[0])

    def test_all_weights_are_trained(self, name: str, layers: int) -> None:
        network = make_network(name, layers=layers)
        outputs, _ = network(noise(20, 4, 3))
        outputs.square().sum().backward()
        for key, parameter in network.named_parameters():
            assert parameter.grad is not None, key
            assert bool(parameter.grad.abs().sum() > 0), key


class TestMemory:
    def test_what_each_network_can_remember(self) -> None:
        """A change of row 0 lasts on in a recurrent state, and not at all without one."""
        inputs = noise(30, 1, 3)
        changed = inputs.clone()
        changed[0] += 1.0
        for name in MAKERS:
            network = make_network(name)
            moved = (network(inputs)[0] - network(changed)[0]).abs().sum(dim=(1, 2)) > 0
            assert moved[0]
            assert bool(moved[1:20].all()) == (name != "mlp"), name
            assert bool(moved[1:].any()) == (name != "mlp"), name

    def test_convolution_is_the_sum_it_says(self) -> None:
        generator = torch.Generator().manual_seed(0)
        layer = CausalConvolution(3, 4, kernel=3, dilation=2, generator=generator)
        inputs = noise(12, 2, 3)
        found, past = layer(inputs, None)
        padded = torch.nn.functional.pad(inputs.permute(1, 2, 0), (4, 0))
        kernel = layer.weight.flip(0).permute(1, 2, 0)
        wanted = torch.nn.functional.conv1d(padded, kernel, layer.bias, dilation=2)
        torch.testing.assert_close(found, wanted.permute(2, 0, 1))
        assert torch.equal(past, inputs[-4:])

    @pytest.mark.parametrize("window", [1, 3, 7, 40])
    @pytest.mark.parametrize("n_past", [0, 2, 11])
    def test_attention_is_that_of_the_dense_formula(self, window: int, n_past: int) -> None:
        n_dates = 23
        query = noise(4, n_dates, 5, seed=2)
        key, value = noise(4, n_past + n_dates, 5, seed=3), noise(4, n_past + n_dates, 5, seed=4)
        bias = noise(window, seed=5)
        lag = torch.arange(n_dates)[:, None] + n_past - torch.arange(n_past + n_dates)
        seen = (lag >= 0) & (lag < window)
        shift = torch.where(seen, bias[lag.clamp(0, window - 1)], -torch.inf)
        wanted = torch.softmax(query @ key.transpose(1, 2) + shift, dim=2) @ value
        torch.testing.assert_close(banded_attention(query, key, value, bias), wanted)

    def test_attention_does_not_reach_beyond_its_window(self) -> None:
        value = noise(1, 30, 2)
        query, key, bias = torch.zeros(1, 30, 2), torch.zeros(1, 30, 2), torch.zeros(5)
        before = banded_attention(query, key, value, bias)
        value[0, 10] += 1.0
        moved = (banded_attention(query, key, value, bias) != before).any(dim=2)[0]
        assert moved.nonzero().flatten().tolist() == [10, 11, 12, 13, 14]

    def test_long_samples_are_attended_in_blocks(self) -> None:
        """12,000 daily rows: a full table of lags would take 0.6 GB for each stock."""
        network = make_network("attention")
        features = np.random.default_rng(0).standard_normal((12_000, 3, 3)).astype(np.float32)
        series = np.empty((12_000, 0), np.float32)
        outputs = run(network, features, series)
        assert outputs.shape == (12_000, 3, 2)
        alone, _ = network(torch.from_numpy(features[:50]))
        np.testing.assert_allclose(outputs[:50], alone.detach().numpy(), atol=1e-5)

    def test_window_is_held_to_what_training_can_show(self) -> None:
        features = np.random.default_rng(0).standard_normal((80, 8, 2)).astype(np.float32)
        model = AttentionForecaster(**TINY_NETWORK | {"window": 1000}).fit(
            features, features[..., 0]
        )
        assert model.members_[0].window == 4 + 24
        with pytest.raises(ConfigError, match="window must be a whole number of at least 1"):
            AttentionForecaster(**TINY_NETWORK | {"window": 0}).fit(features, features[..., 0])
        with pytest.raises(ConfigError, match="kernel must be a whole number of at least 1"):
            CNNLSTMForecaster(**TINY_NETWORK | {"kernel": 0}).fit(features, features[..., 0])


def interaction(lag: int) -> tuple[np.ndarray, np.ndarray]:
    """Ranks that follow from one factor now times another `lag` rows ago, half of it noise."""
    rng = np.random.default_rng(0)
    draws = rank_scaled(rng.standard_normal((360, 40 * 3)))
    features = np.stack(np.split(draws, 3, axis=1), axis=2).astype(np.float32)
    signal = np.zeros((360, 40))
    signal[lag:] = features[lag:, :, 0] * features[: len(features) - lag, :, 1]
    return features, rank_scaled(signal + 0.5 * rng.standard_normal(signal.shape))


def out_of_sample(model: Forecaster, features: np.ndarray, targets: np.ndarray) -> float:
    model.fit(features[:280], targets[:280])
    return float(np.nanmean(rank_ic(model.predict(features)[280:], targets[280:])))


LEARNS: dict[str, Any] = {
    "hidden": 16,
    "dropout": 0.0,
    "burn_in": 5,
    "chunk": 60,
    "max_steps": 70,
    "learning_rate": 2e-2,
    "n_seeds": 1,
    "device": "cpu",
}


class TestLearning:
    @pytest.mark.parametrize("network", FORECASTERS, ids=lambda x: x.__name__)
    def test_memory_is_what_tells_them_apart(self, network: type[Any]) -> None:
        found = out_of_sample(network(**LEARNS), *interaction(lag=1))
        if network is MLPForecaster:
            assert abs(found) < 0.06  # three standard errors of 80 dates x 40 stocks
        else:
            assert found > 0.25

    @pytest.mark.parametrize(
        "make",
        [
            lambda: MLPForecaster(**LEARNS),
            lambda: SupportVectorForecaster(components=100),
            pytest.param(lambda: LightGBMForecaster(n_trees=60, min_leaf=20), marks=needs_lightgbm),
        ],
        ids=["mlp", "svr", "lightgbm"],
    )
    def test_without_memory_an_interaction_of_today_is_found(self, make: Callable[[], Any]) -> None:
        features, targets = interaction(lag=0)
        assert out_of_sample(make(), features, targets) > 0.25
        assert abs(out_of_sample(LinearForecaster(), features, targets)) < 0.06


class TestReferences:
    def test_support_vectors_are_near_the_exact_machine(self) -> None:
        rng = np.random.default_rng(0)
        features = rng.standard_normal((20, 15, 2)).astype(np.float32)
        targets = np.sin(2 * features[..., 0]) + features[..., 1] ** 2
        model = SupportVectorForecaster(C=10.0, components=300, epsilon=0.05, gamma=0.5)
        exact = SVR(C=10.0, epsilon=0.05, gamma=0.5)
        exact.fit(features.reshape(-1, 2), targets.ravel())
        wanted = exact.predict(features.reshape(-1, 2)).reshape(20, 15)
        found = model.fit(features, targets).predict(features)
        assert np.abs(found - wanted).mean() < 0.05 * targets.std()

    def test_support_vectors_keep_to_their_cap(self) -> None:
        rng = np.random.default_rng(0)
        features = rng.standard_normal((40, 20, 2)).astype(np.float32)
        capped = SupportVectorForecaster(components=500, max_entries=100, n_seeds=2)
        capped.fit(features, features[..., 0])
        assert capped.landmarks_.shape == (2, 100, 2)
        assert not np.array_equal(capped.landmarks_[0], capped.landmarks_[1])

    def test_wild_factors_and_market_series_give_numbers(self) -> None:
        rng = np.random.default_rng(0)
        features = rng.standard_normal((40, 20, 2)).astype(np.float32)
        market = 1e6 + rng.standard_normal((40, 1))
        model = SupportVectorForecaster(components=20)
        model.fit(features, features[..., 0], market=market)
        features[30:] *= 1e30
        market[35:] = np.nan
        assert np.isfinite(model.predict(features, market=market)).all()

    def test_lightgbm_absent_is_one_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "lightgbm", None)
        wanted = r"needs the package lightgbm; pip install alphakeel\[boosting\]"
        with pytest.raises(ConfigError, match=wanted):
            LightGBMForecaster().fit(np.ones((9, 9, 1)), np.ones((9, 9)))
        with pytest.raises(ConfigError, match=wanted):
            check_models(StudyConfig(models=("lightgbm",)))
        check_models(StudyConfig(models=("svr", "mlp")))

    @needs_lightgbm
    def test_trees_are_cut_where_validation_was_best(self) -> None:
        features, targets = interaction(lag=0)
        model = LightGBMForecaster(n_trees=50, n_seeds=2, patience=None, min_leaf=20)
        model.fit(features, targets)
        for seed, best in enumerate(model.best_trees_):
            mine = [entry for entry in model.history_ if entry["seed"] == seed]
            assert [entry["step"] for entry in mine] == [10, 20, 30, 40, 50]
            assert max(mine, key=lambda e: e["validation_rank_ic"])["step"] == best
            assert mine[-1]["train_loss"] < mine[0]["train_loss"]
        hasty = LightGBMForecaster(n_trees=500, patience=1, min_leaf=20)
        rng = np.random.default_rng(3)
        hasty.fit(features, rng.standard_normal(targets.shape))
        assert hasty.history_[-1]["step"] == hasty.best_trees_[0] + 10 < 500

    @needs_lightgbm
    def test_purged_and_validation_targets_grow_no_tree(self) -> None:
        features, targets = interaction(lag=0)
        settings = {"n_trees": 10, "min_leaf": 20, "purge": 6}
        first = LightGBMForecaster(**settings).fit(features, targets).boosters_
        changed = targets.copy()
        changed[360 - 72 - 6 :] = np.random.default_rng(1).standard_normal((78, 40))
        assert LightGBMForecaster(**settings).fit(features, changed).boosters_ == first

    @needs_lightgbm
    def test_nothing_known_in_the_validation_block(self) -> None:
        features, targets = interaction(lag=0)
        targets[200:] = np.nan
        with pytest.raises(DataError, match="in the validation block"):
            LightGBMForecaster().fit(features, targets)
        LightGBMForecaster(validation_share=0.0, n_trees=2).fit(features, targets)

    @pytest.mark.parametrize(
        ("model", "message"),
        [
            (SupportVectorForecaster(C=0.0), "C must be a number in (0, inf), not 0.0"),
            (SupportVectorForecaster(epsilon=-1.0), "epsilon must be a number in [0, inf)"),
            (SupportVectorForecaster(gamma=0.0), "gamma must be a number in (0, inf)"),
            (SupportVectorForecaster(max_entries=1), "max_entries must be a whole number"),
            (SupportVectorForecaster(n_seeds=0), "n_seeds must be a whole number"),
            (LightGBMForecaster(leaves=1), "leaves must be a whole number of at least 2"),
            (LightGBMForecaster(feature_share=0.0), "feature_share must be a number in (0, 1]"),
            (LightGBMForecaster(validation_share=0.7), "validation_share must be a number"),
            (LightGBMForecaster(seed=-1), "seed must be a whole number of at least 0"),
        ],
        ids=str,
    )
    def test_bad_settings(self, model: Any, message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            model.fit(np.ones((30, 9, 1)), np.ones((30, 9)))
        assert message in str(caught.value)


class TestModelFactory:
    def test_every_model_has_a_name_and_a_label(self) -> None:
        assert set(LABELS) == {*MODELS, COMBINED}
        assert len(set(LABELS.values())) == len(LABELS)
        config = StudyConfig(seed=4, network=NetworkConfig(hidden=9, n_seeds=2))
        for name in MODELS:
            model = make_forecaster(name, config, print)
            assert isinstance(model, Forecaster)
            assert model.label == LABELS[name]
            assert work_of(name, config) > 0
            if name != "linear":
                assert (model.n_seeds, model.seed) == (2, 4)
            if name in NETWORKS or name == "lstm_limited":
                assert model.hidden == 9

    def test_every_option_of_the_section_reaches_a_network(self) -> None:
        """A limited network takes all but six, which have other values of its own.

        `rows` says what a network is handed, and is none of its options.
        """
        chosen = NetworkConfig(
            hidden=9, layers=2, dropout=0.3, burn_in=7, chunk=31, batch_assets=11, max_steps=13,
            learning_rate=0.02, weight_decay=0.03, ic_weight=0.7, mse_weight=0.4,
            validation_share=0.2, evaluate_every=3, patience=4, n_seeds=2, device="cpu",
            precision="bfloat16", input_noise=0.1,
        )  # fmt: skip
        usual = NetworkConfig()
        options = chosen.keywords(without=("rows",))
        for key, value in options.items():
            assert value != getattr(usual, key), key
        config = StudyConfig(network=chosen)
        assert options.items() <= make_forecaster("gru", config, print).get_params().items()
        own = make_forecaster("lstm_limited", config, print).get_params()
        other = {"learning_rate", "weight_decay", "mse_weight", "validation_share"}
        other |= {"evaluate_every", "patience"}
        taken = chosen.keywords(without={*other, "rows"})
        assert taken.items() <= own.items()
        untouched = RiskLimitedLSTM().get_params()
        assert {name: own[name] for name in other} == {name: untouched[name] for name in other}

    @pytest.mark.parametrize("name", [name for name in MODELS if name != "lightgbm"])
    def test_what_was_saved_predicts_the_same_bits(self, name: str) -> None:
        network = NetworkConfig(hidden=4, burn_in=4, chunk=20, max_steps=4, n_seeds=2)
        self._round_trip(make_forecaster(name, StudyConfig(network=network), print))

    @needs_lightgbm
    def test_what_was_saved_predicts_the_same_bits_lightgbm(self) -> None:
        self._round_trip(LightGBMForecaster(n_trees=20, n_seeds=2))

    def _round_trip(self, model: Any) -> None:
        rng = np.random.default_rng(0)
        features = rng.standard_normal((90, 12, 3)).astype(np.float32)
        model.set_params(**{"on_progress": None} if hasattr(model, "on_progress") else {})
        market = rng.standard_normal((90, 2))
        paths: dict[str, Any] = {}
        if isinstance(model, ConstrainedForecaster):
            paths["returns"] = 0.01 * rng.standard_normal((90, 5, 12))
            paths["volatility"] = np.full((90, 12), 0.2)
        model.fit(features, features[..., 0], market=market, **paths)
        again = restore(model.state())
        assert again.get_params() == model.get_params()
        np.testing.assert_array_equal(
            again.predict(features, market=market), model.predict(features, market=market)
        )
