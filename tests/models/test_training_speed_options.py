"""Settings that buy speed: they must change nothing but speed, or only what they say."""

from __future__ import annotations

import ctypes
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from alphakeel.errors import ConfigError
from alphakeel.models import training
from alphakeel.models.sequence import LSTMForecaster
from alphakeel.models.training import one_thread, reuse_memory, training_dtype
from alphakeel.stats.cross_section import rank_ic

CPU = torch.device("cpu")
HAS_BFLOAT16 = training_dtype("auto", CPU) == torch.bfloat16
needs_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason="this processor has no bfloat16")

SMALL: dict[str, Any] = {
    "hidden": 8,
    "layers": 2,
    "burn_in": 4,
    "chunk": 24,
    "max_steps": 30,
    "learning_rate": 2e-2,
    "n_seeds": 1,
    "device": "cpu",
}


def make_sample() -> tuple[np.ndarray, np.ndarray]:
    """What follows is the sum of a factor over three rows, and noise."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((160, 20, 3)).astype(np.float32)
    targets = features[..., 0].copy()
    targets[1:] += features[:-1, :, 0]
    targets[2:] += features[:-2, :, 0]
    return features, (targets + rng.standard_normal(targets.shape)).astype(np.float32)


def scores_of(**settings: Any) -> np.ndarray:
    features, targets = make_sample()
    return LSTMForecaster(**SMALL, **settings).fit(features, targets).predict(features)


class TestKeptMemory:
    def test_raises_thresholds_while_held_and_lowers_them_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[tuple[Any, ...]] = []
        monkeypatch.setattr(
            training, "_glibc", lambda name: lambda *values: calls.append((name, *values)) or 1
        )
        with reuse_memory(), reuse_memory():
            assert len(calls) == 3
            assert min(size for _, _, size in calls) >= 256 * 2**20
        assert [name for name, *_ in calls[3:]] == ["mallopt"] * 3 + ["malloc_trim"]

    def test_lowers_them_after_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[str] = []
        monkeypatch.setattr(training, "_glibc", lambda name: lambda *_: calls.append(name) or 1)
        with pytest.raises(ZeroDivisionError), reuse_memory():
            raise ZeroDivisionError
        assert calls[-1] == "malloc_trim"
        with reuse_memory():
            pass
        assert calls.count("malloc_trim") == 2

    def test_last_of_several_threads_lowers_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[str] = []
        monkeypatch.setattr(training, "_glibc", lambda name: lambda *_: calls.append(name) or 1)
        together = threading.Barrier(4)

        def hold() -> None:
            with one_thread():
                together.wait()

        with ThreadPoolExecutor(4) as pool:
            for future in [pool.submit(hold) for _ in range(4)]:
                future.result()
        assert calls == ["mallopt"] * 6 + ["malloc_trim"]

    @pytest.mark.parametrize("library", [OSError, TypeError, object])
    def test_does_nothing_where_the_c_library_is_another(
        self, monkeypatch: pytest.MonkeyPatch, library: type
    ) -> None:
        def load(_name: None) -> object:
            if issubclass(library, Exception):
                raise library
            return library()

        monkeypatch.setattr(ctypes, "CDLL", load)
        with reuse_memory():
            assert np.ones(10).sum() == 10

    def test_changes_no_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kept = scores_of()
        monkeypatch.setattr(training, "_glibc", lambda _name: None)
        np.testing.assert_array_equal(kept, scores_of())


class TestPrecision:
    def test_default_is_float32(self) -> None:
        assert LSTMForecaster().precision == "float32"
        np.testing.assert_array_equal(scores_of(), scores_of(precision="float32"))

    @needs_bfloat16
    def test_bfloat16_repeats_to_the_bit_also_in_threads(self) -> None:
        alone = scores_of(precision="bfloat16", dropout=0.3)
        with ThreadPoolExecutor(3) as pool:
            fits = [pool.submit(scores_of, precision="bfloat16", dropout=0.3) for _ in range(3)]
            for fit in fits:
                np.testing.assert_array_equal(alone, fit.result())

    @needs_bfloat16
    def test_bfloat16_learns_what_float32_learns(self) -> None:
        _, targets = make_sample()
        found = {
            kind: float(np.nanmean(rank_ic(scores_of(precision=kind), targets[..., None])[5:]))
            for kind in ("float32", "bfloat16")
        }
        assert found["float32"] > 0.5
        assert abs(found["bfloat16"] - found["float32"]) < 0.02

    @needs_bfloat16
    def test_weights_gradients_and_predictions_stay_float32(self) -> None:
        features, targets = make_sample()
        model = LSTMForecaster(**SMALL, precision="bfloat16").fit(features, targets)
        assert {x.dtype for x in model.members_[0].state_dict().values()} == {torch.float32}
        assert model.predict(features).dtype == np.float32
        assert len(np.unique(model.predict(features)[-1])) == features.shape[1]

    def test_auto_takes_what_the_processor_has(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(training, "_is_native", lambda _device: True)
        assert training_dtype("auto", CPU) == torch.bfloat16
        monkeypatch.setattr(training, "_is_native", lambda _device: False)
        assert training_dtype("auto", CPU) == torch.float32

    def test_refuses_what_the_processor_has_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(training, "_is_native", lambda _device: False)
        features, targets = make_sample()
        with pytest.raises(ConfigError, match=r"'cpu' does not multiply in bfloat16"):
            LSTMForecaster(**SMALL, precision="bfloat16").fit(features, targets)

    @pytest.mark.parametrize("value", ["float16", "half", "", None, 32])
    def test_refuses_other_names(self, value: Any) -> None:
        features, targets = make_sample()
        with pytest.raises(ConfigError, match="precision must be one of 'float32'"):
            LSTMForecaster(**SMALL, precision=value).fit(features, targets)
