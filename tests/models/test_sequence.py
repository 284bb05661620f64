"""The LSTM: what it learns, that it repeats to the bit, and what it refuses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from alphakeel.config import NetworkConfig, StudyConfig
from alphakeel.errors import ConfigError, ConvergenceError, DataError
from alphakeel.model_factory import NETWORKS, make_forecaster
from alphakeel.models.linear import LinearForecaster
from alphakeel.models.losses import ScoreLoss
from alphakeel.models.networks import LSTMNetwork, apply_dropout
from alphakeel.models.restore import class_of
from alphakeel.models.sampling import ChunkSampler, MarketScale
from alphakeel.models.sequence import LSTMForecaster
from alphakeel.models.training import AdamW, one_cycle, one_thread, train
from alphakeel.stats.cross_section import rank_ic, rank_scaled
from helpers import TINY_NETWORK


def make_sample(
    n_dates: int = 120, n_assets: int = 12, n_factors: int = 3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n_dates, n_assets, n_factors)).astype(np.float32)
    return features, rank_scaled(features[..., 0] + rng.standard_normal((n_dates, n_assets)))


def make_nonlinear() -> tuple[np.ndarray, np.ndarray]:
    """Ranks that follow from one factor now times another one row ago: no line through that."""
    rng = np.random.default_rng(0)
    features = rank_scaled(rng.standard_normal((400, 60 * 4)))
    features = np.stack(np.split(features, 4, axis=1), axis=2).astype(np.float32)
    signal = np.zeros((400, 60))
    signal[1:] = features[1:, :, 0] * features[:-1, :, 1]
    return features, rank_scaled(signal + 0.5 * rng.standard_normal(signal.shape))


class TestLearning:
    def test_finds_a_nonlinear_signal_with_memory_where_a_line_finds_nothing(self) -> None:
        features, targets = make_nonlinear()
        train, test = slice(0, 300), slice(300, 400)
        lstm = LSTMForecaster(
            hidden=16,
            dropout=0.0,
            burn_in=5,
            chunk=60,
            max_steps=120,
            learning_rate=2e-2,
            n_seeds=1,
            device="cpu",
        )
        found = {}
        for name, model in {"linear": LinearForecaster(), "lstm": lstm}.items():
            model.fit(features[train], targets[train])
            found[name] = np.nanmean(rank_ic(model.predict(features)[test], targets[test]))
        assert abs(found["linear"]) < 0.04  # two and a half standard errors of 100 dates
        assert found["lstm"] > 0.3

    def test_loss_falls_without_dropout(self) -> None:
        model = LSTMForecaster(
            **TINY_NETWORK | {"dropout": 0.0, "max_steps": 40, "learning_rate": 1e-2}
        )
        history = model.fit(*make_sample()).history_
        assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
        assert history[-1]["train_ic"] > history[0]["train_ic"]

    def test_keeps_the_state_that_validated_best(self) -> None:
        model = LSTMForecaster(
            **TINY_NETWORK
            | {"max_steps": 20, "evaluate_every": 2, "n_seeds": 2, "patience": None}
            | {"validation_share": 0.2}
        )
        model.fit(*make_sample())
        for seed, best_step in enumerate(model.best_steps_):
            mine = [entry for entry in model.history_ if entry["seed"] == seed]
            assert [entry["step"] for entry in mine] == list(range(2, 21, 2))
            assert max(mine, key=lambda entry: entry["validation_rank_ic"])["step"] == best_step

    def test_patience_stops_early(self) -> None:
        features, _ = make_sample()
        noise = np.random.default_rng(5).standard_normal(features.shape[:2])
        settings = TINY_NETWORK | {"max_steps": 60, "evaluate_every": 1, "patience": 3}
        settings |= {"validation_share": 0.2}
        model = LSTMForecaster(**settings).fit(features, noise)
        assert model.history_[-1]["step"] == model.best_steps_[0] + 3 < 60

    def test_market_state_can_turn_a_signal_round(self) -> None:
        """The sign of the factor depends on a series that all stocks share."""
        rng = np.random.default_rng(2)
        features = rng.standard_normal((300, 20, 1)).astype(np.float32)
        state = np.repeat(rng.choice([-1.0, 1.0], 30), 10)[:, None]
        targets = rank_scaled(features[..., 0] * state)
        settings = TINY_NETWORK | {"dropout": 0.0, "max_steps": 80, "learning_rate": 2e-2}
        model = LSTMForecaster(**settings).fit(features[:200], targets[:200], market=state[:200])
        found = model.predict(features, market=state)
        assert np.nanmean(rank_ic(found[200:], targets[200:])) > 0.7


class TestRepeats:
    def test_side_by_side_in_threads_to_the_bit(self) -> None:
        sample = make_sample()

        def fitted(seed: int) -> np.ndarray:
            model = LSTMForecaster(**TINY_NETWORK | {"seed": seed})
            return model.fit(*sample).predict(sample[0])

        alone = [fitted(seed) for seed in range(4)]
        before = torch.get_num_threads()
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(fitted, range(4)))
        assert torch.get_num_threads() == before
        np.testing.assert_array_equal(together, alone)

    def test_members_are_the_networks_of_their_seeds(self) -> None:
        sample = make_sample()
        both = LSTMForecaster(**TINY_NETWORK | {"seed": 5, "n_seeds": 2}).fit(*sample)
        second = LSTMForecaster(**TINY_NETWORK | {"seed": 6}).fit(*sample)
        members = both.predict_members(sample[0])
        np.testing.assert_array_equal(members[1], second.predict(sample[0]))
        assert not np.array_equal(members[0], members[1])
        np.testing.assert_allclose(both.predict(sample[0]), members.mean(axis=0), atol=1e-6)

    def test_the_global_generators_are_left_alone(self) -> None:
        sample = make_sample()
        torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
        first = LSTMForecaster(**TINY_NETWORK).fit(*sample).predict(sample[0])
        assert torch.equal(torch.random.get_rng_state(), torch_state)
        np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
        torch.rand(3)
        np.testing.assert_array_equal(
            LSTMForecaster(**TINY_NETWORK).fit(*sample).predict(sample[0]), first
        )

    @pytest.mark.parametrize("name", sorted(NETWORKS))
    def test_goes_on_from_its_memory_to_the_bit(self, name: str) -> None:
        features, targets = make_sample(n_dates=170)
        settings = TINY_NETWORK | {"n_seeds": 2, "max_steps": 2}
        model: Any = class_of(NETWORKS[name])(**settings).fit(features, targets)
        whole = model.predict_from(None, features)
        np.testing.assert_array_equal(whole.scores, model.predict(features))
        begun = model.predict_from(None, features[:100]).memory
        assert begun.row == 64
        rest = model.predict_from(begun, features[64:])
        np.testing.assert_array_equal(rest.scores, whole.scores[64:])
        assert rest.memory.row == whole.memory.row == 128
        for part, values in whole.memory.arrays.items():
            np.testing.assert_array_equal(rest.memory.arrays[part], values)
        backwards = np.arange(features.shape[1])[::-1]
        turned = model.predict_from(begun.of_stocks(backwards), features[64:, backwards])
        np.testing.assert_allclose(turned.scores[:, backwards], rest.scores, atol=1e-5)

    def test_no_memory_before_a_whole_block_or_where_it_starts_anew(self) -> None:
        features, targets = make_sample()
        model = LSTMForecaster(**TINY_NETWORK | {"max_steps": 2}).fit(features, targets)
        assert model.predict_from(None, features[:63]).memory is None
        model.set_params(warm_up=10)
        assert model.predict_from(None, features).memory is None

    def test_rows_after_the_training_rows_cannot_matter(self) -> None:
        features, targets = make_sample()
        first = (
            LSTMForecaster(**TINY_NETWORK)
            .fit(features[:100], targets[:100])
            .predict(features[:100])
        )
        features[100:], targets[100:] = 1e30, -1e30
        again = LSTMForecaster(**TINY_NETWORK).fit(features[:100], targets[:100])
        np.testing.assert_array_equal(again.predict(features)[:100], first)

    def test_purged_targets_and_validation_rows_train_nothing(self) -> None:
        """Validation chooses a state; without a choice, its rows have no influence at all."""
        features, targets = make_sample()
        settings = TINY_NETWORK | {"evaluate_every": 8, "purge": 6, "validation_share": 0.2}
        first = LSTMForecaster(**settings).fit(features, targets).predict(features)
        targets = targets.copy()
        targets[120 - 24 - 6 :] = np.random.default_rng(1).standard_normal((30, 12))
        np.testing.assert_array_equal(
            LSTMForecaster(**settings).fit(features, targets).predict(features), first
        )

    def test_threads_are_put_back_after_an_error(self) -> None:
        before = torch.get_num_threads()

        def failing_fit() -> None:
            with one_thread():
                assert torch.get_num_threads() == 1
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            failing_fit()
        assert torch.get_num_threads() == before


class TestParts:
    def test_a_network_can_be_streamed(self) -> None:
        generator = torch.Generator().manual_seed(0)
        network = LSTMNetwork(3, 2, hidden=4, layers=2, dropout=0.5, generator=generator)
        inputs = torch.randn(20, 5, 3, generator=generator)
        whole, _ = network(inputs)
        first, state = network(inputs[:13])
        second, _ = network(inputs[13:], state)
        torch.testing.assert_close(torch.cat([first, second]), whole)

    def test_gradients_of_the_network(self) -> None:
        generator = torch.Generator().manual_seed(0)
        network = LSTMNetwork(2, 1, hidden=3, layers=1, dropout=0.0, generator=generator).double()
        inputs = torch.randn(4, 2, 2, generator=generator, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: network(x)[0], inputs)

    def test_initial_weights_remember(self) -> None:
        generator = torch.Generator().manual_seed(0)
        network = LSTMNetwork(3, 2, hidden=4, layers=1, dropout=0.0, generator=generator)
        layer = network.layers[0]
        bias = (layer.bias_ih_l0 + layer.bias_hh_l0).detach().numpy()
        np.testing.assert_array_equal(bias, np.repeat([0, 1, 0, 0], 4))
        assert float(layer.weight_hh_l0.detach().abs().max()) <= 0.5

    def test_dropout_keeps_the_mean(self) -> None:
        dropped = apply_dropout(torch.ones(4, 25_001), 0.2, torch.Generator().manual_seed(0))
        assert sorted(set(dropped.flatten().tolist())) == pytest.approx([0.0, 1.25], rel=1e-4)
        np.testing.assert_allclose(dropped.mean(dim=1), 1.0, atol=0.015)
        neighbours = np.corrcoef(dropped.flatten()[:-4], dropped.flatten()[4:])[0, 1]
        assert abs(neighbours) < 0.015
        assert apply_dropout(dropped, 0.2, None) is dropped

    def test_adamw_and_one_cycle_are_those_of_torch(self) -> None:
        generator = torch.Generator().manual_seed(0)
        ours = [torch.nn.Parameter(torch.randn(5, generator=generator))]
        theirs = [torch.nn.Parameter(ours[0].detach().clone())]
        optimizer = AdamW(ours, 0.01)
        reference = torch.optim.AdamW(theirs, lr=1e-2, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            reference, max_lr=0.1, total_steps=12, cycle_momentum=False
        )
        for step in range(12):
            gradient = torch.randn(5, generator=generator)
            ours[0].grad, theirs[0].grad = gradient.clone(), gradient.clone()
            assert one_cycle(step, 12, 0.1) == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
            optimizer.step(one_cycle(step, 12, 0.1))
            reference.step()
            if step < 11:
                schedule.step()
        torch.testing.assert_close(ours[0], theirs[0])

    def test_batches_line_up_with_the_sample(self) -> None:
        """Features carry their date and stock, targets the same: they must meet again."""
        code = np.arange(40 * 3, dtype=np.float32).reshape(40, 3)
        code = np.repeat(code, 5, axis=1)[:, ::2]  # 8 stocks
        sampler = ChunkSampler(
            code[..., None],
            np.arange(40, dtype=np.float32)[:, None],
            np.stack([code, -code], axis=2),
            burn_in=3,
            chunk=10,
            batch_assets=24,
            rng=np.random.default_rng(0),
            device=torch.device("cpu"),
        )
        batch = sampler.draw()
        assert batch.inputs.shape == (13, 3 * 8, 2)
        assert batch.targets.shape == (10 * 3, 8, 2)
        found = batch.cross_sections(torch.cat([batch.inputs[..., :1], -batch.inputs[..., :1]], 2))
        assert torch.equal(found, batch.targets)
        dates = batch.inputs[..., 1].reshape(13, 3, 8)
        assert (dates.diff(dim=0) == 1).all()
        assert (dates == dates[:, :, :1]).all()

    def test_large_universes_are_sampled_among_stocks_with_targets(self) -> None:
        features, targets = make_sample(n_assets=30)
        targets[:, ::2] = np.nan
        sampler = ChunkSampler(
            features,
            np.empty((120, 0), np.float32),
            targets[..., None].astype(np.float32),
            burn_in=3,
            chunk=10,
            batch_assets=10,
            rng=np.random.default_rng(0),
            device=torch.device("cpu"),
        )
        batch = sampler.draw()
        assert batch.targets.shape == (10, 10, 1)
        assert batch.known.all()

    def test_market_series_are_scaled_by_training_rows(self) -> None:
        market = np.array([[1, 5, np.nan], [3, 5, 2], [np.nan, 5, np.nan]], dtype=np.float32)
        scale = MarketScale.of(market)
        np.testing.assert_array_equal(scale.mean, [2, 5, 2])
        np.testing.assert_array_equal(scale.deviation, [1, 1, 1])
        later = np.array([[4, 5, np.inf], [1e9, 6, -1e9]], dtype=np.float32)
        np.testing.assert_array_equal(scale.apply(later), [[2, 0, 0], [5, 1, -5]])

    def test_progress_is_told_after_each_step(self) -> None:
        calls: list[tuple[int, int, int, float]] = []

        def on_progress(member: int, step: int, n_steps: int, loss: float) -> None:
            calls.append((member, step, n_steps, loss))

        settings = TINY_NETWORK | {"n_seeds": 2, "seed": 9, "on_progress": on_progress}
        LSTMForecaster(**settings).fit(*make_sample())
        assert [call[:3] for call in calls] == [(m, s, 8) for m in (0, 1) for s in range(1, 9)]
        assert np.isfinite([call[3] for call in calls]).all()


class TestInputNoise:
    def test_none_is_the_default_and_draws_nothing(self) -> None:
        sample = make_sample()
        assert LSTMForecaster().input_noise == 0.0
        first = LSTMForecaster(**TINY_NETWORK).fit(*sample).predict(sample[0])
        again = LSTMForecaster(**TINY_NETWORK, input_noise=0.0).fit(*sample).predict(sample[0])
        np.testing.assert_array_equal(again, first)

    def test_it_repeats_and_stays_out_of_prediction(self) -> None:
        sample = make_sample()
        model = LSTMForecaster(**TINY_NETWORK, input_noise=0.5).fit(*sample)
        first = model.predict(sample[0])
        np.testing.assert_array_equal(model.predict(sample[0]), first)
        again = LSTMForecaster(**TINY_NETWORK, input_noise=0.5).fit(*sample)
        np.testing.assert_array_equal(again.predict(sample[0]), first)
        quiet = LSTMForecaster(**TINY_NETWORK).fit(*sample).predict(sample[0])
        assert not np.array_equal(first, quiet)

    def test_factors_are_disturbed_by_so_much_and_the_market_is_not(self) -> None:
        seen: list[torch.Tensor] = []

        class Watched(LSTMForecaster):
            def _network(self, *given: Any) -> Any:
                network = super()._network(*given)
                network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
                return network

        features, targets = make_sample()
        features[:] = 0.0
        settings = TINY_NETWORK | {"max_steps": 2, "input_noise": 0.3}
        Watched(**settings).fit(features, targets, market=np.arange(120.0)[:, None])
        factors, market = seen[0][..., :3], seen[0][..., 3]
        assert float(factors.std()) == pytest.approx(0.3, rel=0.05)
        assert abs(float(factors.mean())) < 0.02
        assert (market == market.unflatten(1, (-1, 12))[:, :, :1].repeat(1, 1, 12).flatten(1)).all()
        assert not torch.equal(seen[0][..., :3], seen[1][..., :3])

    def test_the_settings_reach_every_network(self) -> None:
        network = NetworkConfig(precision="auto", input_noise=0.2)
        for name in [*NETWORKS, "lstm_limited"]:
            model: Any = make_forecaster(name, StudyConfig(network=network), print)
            assert (model.precision, model.input_noise) == ("auto", 0.2)
        assert (NetworkConfig().precision, NetworkConfig().input_noise) == ("float32", 0.0)

    @pytest.mark.parametrize("setting", [{"precision": "float16"}, {"input_noise": -0.1}], ids=str)
    def test_bad_settings_of_a_study(self, setting: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=rf"network\.{next(iter(setting))}"):
            NetworkConfig(**setting)


class TestRefusals:
    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ({"dropout": -0.1}, "dropout must be a number in [0, 1), not -0.1"),
            ({"dropout": 1.0}, "dropout must be a number in [0, 1), not 1.0"),
            ({"burn_in": 90}, "burn_in of 90 rows leaves fewer than 8 of the 91 rows to fit on"),
            ({"burn_in": -1}, "burn_in must be a whole number of at least 0, not -1"),
            ({"chunk": 0}, "chunk must be a whole number of at least 1, not 0"),
            ({"hidden": 2.5}, "hidden must be a whole number of at least 1, not 2.5"),
            ({"layers": True}, "layers must be a whole number of at least 1, not True"),
            ({"n_seeds": 0}, "n_seeds must be a whole number of at least 1, not 0"),
            ({"max_steps": 0}, "max_steps must be a whole number"),
            ({"batch_assets": 0}, "batch_assets must be a whole number"),
            ({"patience": 0}, "patience must be a whole number"),
            ({"warm_up": -3}, "warm_up must be a whole number"),
            ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
            ({"learning_rate": 0.0}, "learning_rate must be a number in (0, inf), not 0.0"),
            ({"learning_rate": float("nan")}, "learning_rate must be a number in (0, inf)"),
            ({"mse_weight": -1.0}, "mse_weight must be a number in [0, inf), not -1.0"),
            ({"ic_weight": 0.0, "mse_weight": 0.0}, "there is nothing to learn for"),
            ({"validation_share": 0.6}, "validation_share must be a number in [0, 0.5], not 0.6"),
            ({"input_noise": -0.1}, "input_noise must be a number in [0, inf), not -0.1"),
            ({"input_noise": float("nan")}, "input_noise must be a number in [0, inf)"),
            ({"purge": 100}, "100"),
            ({"device": "gpu"}, "device must be 'auto', 'cpu' or 'cuda', not 'gpu'"),
            ({"device": "meta"}, "device must be 'auto', 'cpu' or 'cuda', not 'meta'"),
            ({"device": "cuda:99"}, "device 'cuda:99' is not on this machine"),
        ],
        ids=str,
    )
    def test_bad_settings(self, setting: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            LSTMForecaster(**TINY_NETWORK | {"validation_share": 0.2} | setting).fit(*make_sample())
        assert message in str(caught.value)

    def test_a_loss_that_explodes_names_seed_step_and_factor(self) -> None:
        features, targets = make_sample()
        features[:, :, 1] *= 1e4
        model = LSTMForecaster(**TINY_NETWORK | {"seed": 3, "learning_rate": 1e30})
        with pytest.raises(ConvergenceError, match=r"seed 3 at step \d+ .* in factor column 1"):
            model.fit(features, targets)

    @pytest.mark.parametrize("batch_assets", [5, 12, 60], ids=["some", "all", "stretches"])
    def test_a_loss_that_explodes_names_the_stock_among_all(self, batch_assets: int) -> None:
        features, targets = make_sample()
        features[:, 9, 2] = 1e6
        targets = targets.copy()
        targets[:, [0, 1, 2, 3, 5, 6, 7]] = np.nan  # the batch holds stocks 4, 8, 9, 10, 11
        settings = TINY_NETWORK | {"batch_assets": batch_assets, "learning_rate": 1e30}
        model = LSTMForecaster(**settings)
        with pytest.raises(ConvergenceError, match="factor column 2, stock column 9: ") as caught:
            model.fit(features, targets, market=np.arange(120.0)[:, None])
        assert (caught.value.factor, caught.value.asset) == (2, 9)

    @pytest.mark.parametrize("bad_step", [1, 3, 5, 6, 7])
    @pytest.mark.parametrize("validated", [False, True])
    def test_a_network_that_diverges_keeps_its_last_good_state(
        self, bad_step: int, validated: bool
    ) -> None:
        """States: initial, then those of the evaluations at 2 and 4 once a step followed them."""
        features, targets = make_sample()
        sampler = ChunkSampler(
            features,
            np.empty((120, 0), np.float32),
            targets[..., None].astype(np.float32),
            burn_in=4,
            chunk=24,
            batch_assets=12,
            rng=np.random.default_rng(0),
            device=torch.device("cpu"),
        )
        generator = torch.Generator().manual_seed(0)
        network = LSTMNetwork(3, 1, hidden=4, layers=1, dropout=0.0, generator=generator)
        seen = [network.head_weight.detach().clone()]
        score, steps = ScoreLoss(1.0, 0.1), iter(range(1, 20))

        def loss(*given: torch.Tensor) -> Any:
            step = next(steps)
            if step > 1:
                seen.append(network.head_weight.detach().clone())
            return score(given[0] * (float("nan") if step == bad_step else 1.0), *given[1:])

        scores = iter([0.3, 0.1, 0.2])
        with pytest.raises(ConvergenceError, match=f"seed 0 at step {bad_step} is not finite"):
            train(
                network,
                sampler,
                loss,
                seed=0,
                member=0,
                noise=generator,
                max_steps=8,
                learning_rate=1e-2,
                weight_decay=0.0,
                evaluate_every=2,
                patience=None,
                validate=(lambda: next(scores)) if validated else None,
            )
        # The state after step 2 is in use, and so proven, at step 3; the best is that of step 2.
        proven = {1: 0, 3: 0, 5: 2, 6: 4, 7: 4}[bad_step]
        expected = min(proven, 2) if validated else proven
        assert torch.equal(network.head_weight.detach(), seen[expected])

    def test_market_series_must_come_back_at_prediction(self) -> None:
        features, targets = make_sample()
        model = LSTMForecaster(**TINY_NETWORK).fit(features, targets, market=np.zeros((120, 2)))
        with pytest.raises(DataError, match=r"3 factors and 2 market series, but .* 3 and 0"):
            model.predict(features)

    def test_four_stocks_have_no_correlation(self) -> None:
        with pytest.raises(DataError, match="5 stocks with a known target"):
            LSTMForecaster(**TINY_NETWORK | {"validation_share": 0.0}).fit(*make_sample(n_assets=4))

    def test_nothing_known_in_the_validation_block(self) -> None:
        features, targets = make_sample()
        targets = targets.copy()
        targets[90:] = np.nan
        with pytest.raises(DataError, match="validation block"):
            LSTMForecaster(**TINY_NETWORK | {"validation_share": 0.2}).fit(features, targets)

    def test_a_short_sample_shortens_the_chunk(self) -> None:
        features, targets = make_sample()
        model = LSTMForecaster(**TINY_NETWORK | {"chunk": 500, "validation_share": 0.0})
        assert model.fit(features, targets).chunk_ == 116
