"""Fitted models as files: the same bits back, and a plain refusal of anything else."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import pkgutil
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import alphakeel.models
from alphakeel.errors import ConfigError, DataError, NotFittedError
from alphakeel.models.custom import OwnForecaster
from alphakeel.models.ensemble import Ensemble
from alphakeel.models.linear import LinearForecaster
from alphakeel.models.persistence import Persistent, fingerprint, pack, unpack
from alphakeel.models.restore import KNOWN, class_of, restore
from alphakeel.models.risk_network import RiskForecaster
from alphakeel.models.sequence import AttentionForecaster, CNNLSTMForecaster, LSTMForecaster
from alphakeel.storage.saved_models import load_model, read_card, save_model
from helpers import assert_same_state, model_sample

SMALL = {
    "hidden": 5,
    "burn_in": 4,
    "chunk": 20,
    "max_steps": 4,
    "evaluate_every": 2,
    "n_seeds": 2,
    "window": 6,
    "components": 16,
    "n_trees": 8,
    "device": "cpu",
}
ABOUT = {"factors": ("a", "b", "c"), "train_window": ("2001-01-02", "2009-12-31"), "data_hash": "d"}


def small(cls: type[Any], **further: Any) -> Any:
    takes = inspect.signature(cls).parameters
    return cls(**{k: v for k, v in {**SMALL, **further}.items() if k in takes})


def all_classes() -> list[type[Any]]:
    """Every estimator that can be fitted and saved: code of the user's cannot."""
    for module in pkgutil.iter_modules(alphakeel.models.__path__):
        importlib.import_module(f"alphakeel.models.{module.name}")
    found, todo = [], [Persistent]
    while todo:
        for cls in todo.pop().__subclasses__():
            todo.append(cls)
            saved = not inspect.isabstract(cls) and not issubclass(cls, OwnForecaster)
            if saved and cls.__module__.startswith("alphakeel."):
                found.append(cls)
    return found


@pytest.fixture(scope="module")
def sample() -> dict[str, Any]:
    return model_sample(80, seed=3)


def fit(model: Any, sample: dict[str, Any]) -> Any:
    return model.fit(**sample)


def predict(model: Any, sample: dict[str, Any]) -> np.ndarray:
    return model.predict(sample["features"], mask=sample["mask"], market=sample["market"])


RISK = {"HARForecaster", "RiskForecaster"}
SCORERS = [class_of(name) for name in KNOWN if name not in RISK]


def values(forecast: Any) -> np.ndarray:
    """All numbers of a forecast, be it an array or a record of arrays."""
    if isinstance(forecast, np.ndarray):
        return forecast
    return np.concatenate([np.ravel(x) for x in vars(forecast).values() if x is not None])


class TestRoundTrip:
    def test_every_estimator_of_the_package_is_known(self) -> None:
        assert {cls.__name__ for cls in all_classes()} == set(KNOWN)

    @pytest.mark.parametrize("cls", SCORERS, ids=lambda cls: cls.__name__)
    def test_a_loaded_model_predicts_the_same_bits(
        self, cls: type[Any], sample: dict[str, Any], tmp_path: Path
    ) -> None:
        if cls.__name__ == "LightGBMForecaster" and find_spec("lightgbm") is None:
            pytest.skip("LightGBM is not installed")
        takes = inspect.signature(cls.fit).parameters
        given = dict(sample)
        if "returns" in takes:
            rng = np.random.default_rng(4)
            given["returns"] = 0.01 * rng.standard_normal((80, 5, 12))
            given["volatility"] = 0.1 + rng.random((80, 12))
        model = fit(small(cls), given)
        save_model(model, tmp_path / "model", **ABOUT)
        again = load_model(tmp_path / "model", factors=("a", "b", "c"))
        assert type(again) is cls
        np.testing.assert_array_equal(predict(again, sample), predict(model, sample))
        assert_same_state(again.state(), model.state())
        rewritten = {"on_progress", "limits"}  # limits come back as a plain mapping
        before, after = model.get_params(), again.get_params()
        assert {k: v for k, v in before.items() if k not in rewritten} == {
            k: v for k, v in after.items() if k not in rewritten
        }

    @pytest.mark.parametrize("name", sorted(RISK))
    def test_a_loaded_risk_model_too(self, name: str, tmp_path: Path) -> None:
        cls = class_of(name)
        daily = np.random.default_rng(0).normal(0.0, 0.01, (400, 10))
        decisions = np.arange(100, 400, 5)
        model = small(cls).fit(daily, decisions=decisions)
        save_model(model, tmp_path, **ABOUT | {"factors": ()})
        again = load_model(tmp_path)
        found, wanted = (values(m.predict(daily, decisions=decisions)) for m in (again, model))
        np.testing.assert_array_equal(found, wanted)
        assert_same_state(again.state(), model.state())

    @pytest.mark.parametrize(
        "model",
        [
            LinearForecaster("ridge", alpha=0.1),
            LinearForecaster("fama_macbeth"),
            small(LSTMForecaster, layers=2, dropout=0.5),
            small(LSTMForecaster, warm_up=5),
            small(LSTMForecaster, validation_share=0.0),
        ],
        ids=["ridge", "fama_macbeth", "two_layers", "warm_up", "no_validation"],
    )
    def test_variants(self, model: Any, sample: dict[str, Any]) -> None:
        fit(model, sample)
        again = restore(model.state())
        np.testing.assert_array_equal(predict(again, sample), predict(model, sample))
        assert_same_state(again.state(), model.state())

    def test_without_market_series(self, sample: dict[str, Any]) -> None:
        model = small(LSTMForecaster).fit(sample["features"], sample["targets"])
        again = restore(model.state())
        np.testing.assert_array_equal(
            again.predict(sample["features"]), model.predict(sample["features"])
        )

    def test_a_state_is_a_copy(self, sample: dict[str, Any]) -> None:
        model = fit(LinearForecaster(), sample)
        state = model.state()
        before = state.arrays["learned/coef_"].copy()
        model.coef_ += 1.0
        np.testing.assert_array_equal(state.arrays["learned/coef_"], before)

    def test_the_card(self, sample: dict[str, Any], tmp_path: Path) -> None:
        save_model(fit(LinearForecaster("ridge"), sample), tmp_path, **ABOUT)
        card = read_card(tmp_path)
        assert card.class_name == "LinearForecaster"
        assert card.parameters == {"method": "ridge", "alpha": 1.0, "lags": None}
        assert card.factors == ("a", "b", "c")
        assert card.train_window == ("2001-01-02", "2009-12-31")
        assert card.data_hash == "d"
        assert {"alphakeel", "numpy", "torch"} <= set(card.versions)

    def test_saving_again_replaces_and_leaves_other_files(
        self, sample: dict[str, Any], tmp_path: Path
    ) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        save_model(fit(LinearForecaster(), sample), tmp_path, **ABOUT)
        save_model(fit(LinearForecaster("ridge"), sample), tmp_path, **ABOUT)
        assert load_model(tmp_path).get_params()["method"] == "ridge"  # type: ignore[attr-defined]
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == ["model.json", "model.safetensors", "notes.txt"]

    def test_a_device_may_be_chosen(self, sample: dict[str, Any]) -> None:
        model = fit(small(LSTMForecaster, device="auto"), sample)
        assert restore(model.state(), device="cpu").device == "cpu"  # type: ignore[attr-defined]
        with pytest.raises(ConfigError, match="device"):
            restore(model.state(), device="abacus")


def says_the_same(changed: bytes, whole: bytes) -> bool:
    """White space, and the last digit of a number that still reads as the same float."""
    try:
        return bool(json.loads(changed) == json.loads(whole))
    except ValueError:
        return False


NETWORKS = [cls for cls in map(class_of, KNOWN) if issubclass(cls, Ensemble)]


@pytest.fixture(scope="module")
def networks(sample: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved model of every class of networks."""
    root = tmp_path_factory.mktemp("networks")
    rng = np.random.default_rng(4)
    paths = {"returns": 0.01 * rng.standard_normal((80, 5, 12))}
    paths["volatility"] = 0.1 + rng.random((80, 12))
    daily, decisions = rng.normal(0.0, 0.01, (400, 10)), np.arange(100, 400, 5)
    folders = {}
    for cls in NETWORKS:
        model, about = small(cls), ABOUT
        if cls is RiskForecaster:
            model.fit(daily, decisions=decisions)
            about = ABOUT | {"factors": ()}
        else:
            takes_paths = "returns" in inspect.signature(cls.fit).parameters
            fit(model, {**sample, **(paths if takes_paths else {})})
        folders[cls.__name__] = save_model(model, root / cls.__name__, **about)
    return folders


class TestRefusals:
    @pytest.fixture
    def saved(self, sample: dict[str, Any], tmp_path: Path) -> Path:
        return save_model(fit(small(LSTMForecaster), sample), tmp_path / "model", **ABOUT)

    def refused(self, folder: Path, why: str) -> None:
        with pytest.raises(DataError, match=why) as caught:
            load_model(folder)
        assert "\n" not in str(caught.value)

    def rewrite(
        self, folder: Path, change: Callable[[dict[str, Any]], None], *, arrays_too: bool = True
    ) -> None:
        """Change the description, and seal it again as its author would have."""
        path = folder / "model.json"
        card = json.loads(path.read_text())
        change(card)
        if arrays_too:
            card["arrays_sha256"] = hashlib.sha256(
                (folder / "model.safetensors").read_bytes()
            ).hexdigest()
        card.pop("sha256")
        card["sha256"] = hashlib.sha256(
            json.dumps(card, sort_keys=True, separators=(",", ":")).encode()
        ).hexdigest()
        path.write_text(json.dumps(card))

    def replace_array(self, folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
        path = folder / "model.safetensors"
        arrays = safetensors.numpy.load(path.read_bytes())
        change(arrays)
        path.write_bytes(safetensors.numpy.save(arrays))
        self.rewrite(folder, lambda card: None)

    def test_resealing_alone_changes_nothing(self, saved: Path) -> None:
        before = (saved / "model.json").read_text()
        whole = load_model(saved).state()
        self.rewrite(saved, lambda card: None)
        assert json.loads((saved / "model.json").read_text()) == json.loads(before)
        assert_same_state(load_model(saved).state(), whole)

    def test_any_changed_byte_of_the_arrays(self, saved: Path) -> None:
        path = saved / "model.safetensors"
        whole = path.read_bytes()
        for at in np.random.default_rng(0).integers(len(whole), size=40):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            self.refused(saved, "its checksum differs")

    def test_any_changed_byte_of_the_description(self, saved: Path) -> None:
        path = saved / "model.json"
        whole = path.read_bytes()
        for at in np.random.default_rng(1).integers(len(whole), size=80):
            changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
            if says_the_same(changed, whole):
                continue
            path.write_bytes(changed)
            self.refused(saved, "model.json")

    @pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
    def test_truncated(self, saved: Path, name: str, share: float) -> None:
        whole = (saved / name).read_bytes()
        (saved / name).write_bytes(whole[: int(share * len(whole))])
        self.refused(saved, name)

    @pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
    def test_missing(self, saved: Path, name: str) -> None:
        (saved / name).unlink()
        self.refused(saved, f"cannot read .*{name}: No such file")

    @pytest.mark.parametrize("text", ["[]", "3", '"x"', "{}", "\x00\xff", "[" * 50_000])
    def test_garbage_for_a_description(self, saved: Path, text: str) -> None:
        (saved / "model.json").write_text(text)
        self.refused(saved, "not whole|does not describe")

    def test_another_format_version(self, saved: Path) -> None:
        self.rewrite(saved, lambda card: card.update(format_version=99))
        self.refused(saved, "format version 99.*reads version 1.*or fit again")

    @pytest.mark.parametrize("name", ["Popen", "os.system", "SequenceForecaster", "", None, 3])
    def test_an_unknown_class(self, saved: Path, name: Any) -> None:
        self.rewrite(saved, lambda card: card.update({"class": name}))
        self.refused(saved, "unknown class")

    def test_an_unknown_parameter(self, saved: Path) -> None:
        self.rewrite(saved, lambda card: card["params"].update(colour="red"))
        self.refused(saved, "unknown parameter 'colour'")

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"hidden": 7}, "of network 0 is float32"),
            ({"hidden": -1}, "hidden must be"),
            ({"hidden": "5"}, "hidden must be"),
            ({"n_seeds": 3}, "2 of its 3 networks"),
            ({"layers": 2}, "has no '"),
            ({"dropout": 2.0}, "dropout must be"),
        ],
    )
    def test_parameters_that_do_not_fit_the_arrays(
        self, saved: Path, change: dict[str, Any], why: str
    ) -> None:
        self.rewrite(saved, lambda card: card["params"].update(change))
        with pytest.raises((DataError, ConfigError), match=why):
            load_model(saved)

    @pytest.mark.parametrize(
        ("cls", "field"),
        [
            *((cls, "layers") for cls in NETWORKS),
            *((LSTMForecaster, f) for f in ("hidden", "n_seeds", "n_horizons_", "n_factors_in_")),
            (AttentionForecaster, "window"),
            (CNNLSTMForecaster, "kernel"),
            (CNNLSTMForecaster, "convolutions"),
        ],
    )
    @pytest.mark.parametrize("value", [10**5, 10**9, 10**30])
    def test_sizes_far_beyond_the_arrays_are_refused_at_once(
        self, networks: dict[str, Path], cls: type[Any], field: str, value: int, tmp_path: Path
    ) -> None:
        folder = Path(shutil.copytree(networks[cls.__name__], tmp_path / "model"))
        card = json.loads((folder / "model.json").read_text())
        part = "learned" if field.endswith("_") else "params"
        assert field in card[part]
        if field == "window":  # else it is lowered to the rows of a sequence
            self.rewrite(folder, lambda card: card["learned"].update(chunk_=value))
        self.rewrite(folder, lambda card: card[part].update({field: value}))
        # Built before it is checked, 10**30 of anything ends in a MemoryError or not at all.
        with pytest.raises(DataError, match=rf"model\.json.*{field.strip('_')}") as caught:
            load_model(folder)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("class", "absent"),
            *product(
                ("params", "learned", "factors", "data_hash", "versions", "arrays_sha256"),
                ("absent", 3),
            ),
        ],
    )
    def test_fields_of_the_description_that_are_absent_or_of_another_type(
        self, saved: Path, field: str, value: Any
    ) -> None:
        def change(card: dict[str, Any]) -> None:
            card[field] = value
            if value == "absent":
                del card[field]

        self.rewrite(saved, change, arrays_too=False)
        self.refused(saved, rf"model\.json.* {field}")
        with pytest.raises(DataError, match=field):
            read_card(saved)

    @pytest.mark.parametrize("field", ["n_factors_in_", "n_horizons_", "n_market_in_"])
    @pytest.mark.parametrize("value", [0, 9, -1, "2", None, [1]])
    def test_sizes_that_do_not_fit_the_arrays(self, saved: Path, field: str, value: Any) -> None:
        self.rewrite(saved, lambda card: card["learned"].update({field: value}))
        with pytest.raises((DataError, ConfigError)):
            load_model(saved)

    @pytest.mark.parametrize(
        "change",
        [
            lambda x: x.update({"learned/members_/0/head_bias": np.zeros(7, np.float32)}),
            lambda x: x.update({"learned/members_/0/head_bias": np.zeros(2)}),
            lambda x: x.pop("learned/members_/1/head_bias"),
            lambda x: x.update({"learned/members_/1/more": np.zeros(2)}),
            lambda x: x.update({"nowhere/at/all": np.zeros(2)}),
            lambda x: x.update({"learned/market_scale_/mean": np.zeros(3)}),
            lambda x: x.clear(),
        ],
    )
    def test_arrays_of_the_wrong_form(
        self, saved: Path, change: Callable[[dict[str, Any]], None]
    ) -> None:
        self.replace_array(saved, change)
        self.refused(saved, "saved")

    def test_linear_arrays_of_the_wrong_form(self, sample: dict[str, Any], tmp_path: Path) -> None:
        save_model(fit(LinearForecaster("fama_macbeth"), sample), tmp_path, **ABOUT)
        for name in ("coef_", "standard_error_", "premia_"):
            whole = (tmp_path / "model.safetensors").read_bytes()
            self.replace_array(
                tmp_path, lambda x, name=name: x.update({f"learned/{name}": np.zeros((2, 2))})
            )
            self.refused(tmp_path, f"saved {name} is")
            (tmp_path / "model.safetensors").write_bytes(whole)

    def test_other_factors(self, saved: Path) -> None:
        with pytest.raises(DataError, match="fitted on the factors a, b, c, in this order"):
            load_model(saved, factors=("b", "a", "c"))

    def test_saving_under_the_wrong_names(self, sample: dict[str, Any], tmp_path: Path) -> None:
        with pytest.raises(DataError, match="3 factors, but 1 are named"):
            save_model(fit(LinearForecaster(), sample), tmp_path, **ABOUT | {"factors": ("a",)})

    def test_not_fitted(self, tmp_path: Path) -> None:
        for model in (LinearForecaster(), LSTMForecaster()):
            with pytest.raises(NotFittedError, match="call fit first"):
                save_model(model, tmp_path, **ABOUT)

    def test_a_folder_that_cannot_be(self, sample: dict[str, Any], tmp_path: Path) -> None:
        (tmp_path / "wall").write_text("")
        with pytest.raises(DataError, match="cannot write the model into"):
            save_model(fit(LinearForecaster(), sample), tmp_path / "wall", **ABOUT)


class TestStates:
    def test_arrays_keep_their_order_in_memory_or_not(self) -> None:
        table = np.arange(12.0).reshape(3, 4)
        for array in (table, table.T, table[:, ::2], np.asfortranarray(table), np.array(2.0)):
            state = pack({"x": array})
            found = safetensors.numpy.load(safetensors.numpy.save(state.arrays))["x"]
            np.testing.assert_array_equal(found, array)
            assert found.shape == array.shape

    def test_plain_values_come_back(self) -> None:
        tree = {"a": {"b": [1, 2.5, None, {"c": "d"}], "e": {}}, "big": 2**100, "f": True}
        assert unpack(pack(tree)) == tree

    @pytest.mark.parametrize(
        "value",
        [
            object(),
            [np.zeros(2)],
            [{"x": np.zeros(2)}],
            np.array([object()]),
            {1: 2},
            {"a/b": 1},
            b"x",
        ],
    )
    def test_what_is_not_plain_is_refused(self, value: Any) -> None:
        with pytest.raises(TypeError):
            pack({"x": value})

    def test_fingerprints(self) -> None:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((4, 5, 3))
        assert fingerprint(x) == fingerprint(np.asfortranarray(x))
        other = x.copy()
        other[3, 2, 1] += 1e-12
        assert len({fingerprint(y) for y in (x, other, x[:3], x.reshape(5, 4, 3), x[..., 0])}) == 5
        assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
