"""Kill it at any moment, run it again: the same bits as if nothing had happened."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alphakeel.cli import app
from alphakeel.config import (
    CleaningConfig,
    DataConfig,
    LinearConfig,
    NetworkConfig,
    ReportConfig,
    StudyConfig,
    WalkForwardConfig,
    config_to_toml,
)
from alphakeel.data.simulation import simulate_market
from alphakeel.errors import DataError, ResumeWarning
from alphakeel.models import persistence
from alphakeel.models.persistence import Checkpoint, ModelState, Resumable, Slot, pack
from alphakeel.models.restore import KNOWN, class_of
from alphakeel.models.risk_network import RiskForecaster
from alphakeel.models.sequence import LSTMForecaster, SequenceForecaster
from alphakeel.pipeline.checkpoints import study_key
from alphakeel.progress import Progress
from alphakeel.provenance import load_data
from alphakeel.report import page
from alphakeel.storage import checkpoints
from alphakeel.storage.checkpoints import DiskStore
from alphakeel.storage.runs import TIMINGS
from alphakeel.study import run_study
from helpers import assert_same_state, model_sample, run_command, tiny_config, write_prices

SMALL: dict[str, Any] = {
    "hidden": 4,
    "burn_in": 4,
    "chunk": 16,
    "max_steps": 7,
    "evaluate_every": 2,
    "n_seeds": 2,
    "dropout": 0.3,
    "batch_assets": 8,
    "device": "cpu",
}


class Killed(BaseException):
    """Stands for the end of the process: nothing may catch it on the way."""


class Memory:
    """A store that loses its process after so many states were put."""

    def __init__(self, lives: int | None = None) -> None:
        self.states: dict[str, ModelState] = {}
        self.lives = lives
        self.puts = 0

    def get(self, key: str) -> ModelState | None:
        return self.states.get(key)

    def put(self, key: str, state: ModelState) -> None:
        self.states[key] = state
        self.puts += 1
        if self.lives is not None and self.puts >= self.lives:
            raise Killed


@pytest.fixture
def every_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take each one, however little time has passed."""
    monkeypatch.setattr(persistence, "SNAPSHOT_SHARE", 1.0)


@pytest.fixture(scope="module")
def sample() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return model_sample(70, seed=5) | {
        "returns": 0.01 * rng.standard_normal((70, 5, 12)),
        "volatility": 0.1 + rng.random((70, 12)),
    }


def fit(model: Any, sample: dict[str, np.ndarray], store: Any = None) -> ModelState:
    takes = model.fit.__code__.co_varnames
    model.store = store
    return model.fit(**{name: x for name, x in sample.items() if name in takes}).state()


NETWORKS = [cls for cls in map(class_of, KNOWN) if issubclass(cls, SequenceForecaster)]


@pytest.mark.usefixtures("every_snapshot")
class TestTraining:
    @pytest.mark.parametrize("cls", NETWORKS, ids=lambda cls: cls.__name__)
    def test_killed_after_any_snapshot(self, cls: type[Any], sample: dict[str, np.ndarray]) -> None:
        whole = fit(cls(**SMALL), sample)
        for lives in (3, 5):  # of eight: two members, four evaluations each
            store = Memory(lives)
            with pytest.raises(Killed):
                fit(cls(**SMALL), sample, store)
            store.lives = None
            assert_same_state(fit(cls(**SMALL), sample, store), whole)
            assert store.puts == 8, "what was finished must not be done again"

    def test_the_risk_model_too(self) -> None:
        daily, decisions = (
            np.random.default_rng(0).normal(0.0, 0.01, (400, 8)),
            np.arange(100, 400, 5),
        )

        def fit_risk(store: Any = None) -> ModelState:
            model = RiskForecaster(hidden=4, burn_in=4, chunk=20, max_steps=5, n_seeds=2)
            model.store = store
            return model.fit(daily, decisions=decisions).state()

        whole, watched = fit_risk(), Memory()
        assert_same_state(fit_risk(watched), whole)
        for lives in range(1, watched.puts + 1):
            store = Memory(lives)
            with pytest.raises(Killed):
                fit_risk(store)
            store.lives = None
            assert_same_state(fit_risk(store), whole)

    def test_killed_again_and_again(self, sample: dict[str, np.ndarray]) -> None:
        whole = fit(LSTMForecaster(**SMALL), sample)
        store = Memory()
        for _ in range(8):
            store.puts, store.lives = 0, 1
            with pytest.raises(Killed):
                fit(LSTMForecaster(**SMALL), sample, store)
        store.lives = None
        assert_same_state(fit(LSTMForecaster(**SMALL), sample, store), whole)

    @pytest.mark.parametrize(
        "change",
        [{"patience": 1}, {"validation_share": 0.0}, {"layers": 2}, {"evaluate_every": 100}],
        ids=str,
    )
    def test_variants(self, sample: dict[str, np.ndarray], change: dict[str, Any]) -> None:
        make = lambda: LSTMForecaster(**SMALL | change)  # noqa: E731
        whole = fit(make(), sample)
        watched = Memory()
        assert_same_state(fit(make(), sample, watched), whole)
        for lives in range(1, watched.puts + 1, 2):
            store = Memory(lives)
            with pytest.raises(Killed):
                fit(make(), sample, store)
            store.lives = None
            assert_same_state(fit(make(), sample, store), whole)

    @pytest.mark.parametrize(
        "change", [{"learning_rate": 1e-3}, {"seed": 1}, {"max_steps": 8}, {"hidden": 5}], ids=str
    )
    def test_a_changed_setting_reuses_nothing(
        self, sample: dict[str, np.ndarray], change: dict[str, Any]
    ) -> None:
        store = Memory()
        fit(LSTMForecaster(**SMALL), sample, store)
        whole = fit(LSTMForecaster(**SMALL | change), sample)
        assert_same_state(fit(LSTMForecaster(**SMALL | change), sample, store), whole)

    @pytest.mark.parametrize("name", ["features", "targets", "mask", "market"])
    def test_changed_data_reuse_nothing(self, sample: dict[str, np.ndarray], name: str) -> None:
        store = Memory()
        fit(LSTMForecaster(**SMALL), sample, store)
        other = {k: x.copy() for k, x in sample.items()}
        other[name][30] = ~other[name][30] if name == "mask" else other[name][30] * 1.5
        assert_same_state(
            fit(LSTMForecaster(**SMALL), other, store), fit(LSTMForecaster(**SMALL), other)
        )

    def test_progress_starts_where_it_was(self, sample: dict[str, np.ndarray]) -> None:
        store = Memory(2)
        with pytest.raises(Killed):
            fit(LSTMForecaster(**SMALL), sample, store)
        store.lives, seen = None, []
        model = LSTMForecaster(**SMALL, on_progress=lambda *where: seen.append(where[:2]))
        fit(model, sample, store)
        assert seen[:3] == [(0, 4), (0, 5), (0, 6)]


class Multiplier:
    """A loss with numbers of its own, as a Lagrangian has."""

    def __init__(self) -> None:
        self.value, self.path = 1.0, torch.zeros(2)

    def state(self) -> dict[str, Any]:
        return {"value": self.value, "path": self.path}

    def load_state(self, state: dict[str, Any]) -> None:
        self.value, self.path = state["value"], torch.as_tensor(state["path"])


class TestCheckpoint:
    def test_all_kinds_of_parts(self) -> None:
        def parts() -> dict[str, Any]:
            torch_rng = torch.Generator().manual_seed(1)
            network = torch.nn.Linear(2, 1)
            return {"network": network, "noise": torch_rng, "loss": Multiplier(), "other": print}

        store, first = Memory(), parts()
        slot = Slot(store, "x", "origin")
        first["loss"].value, first["loss"].path = 1 / 3, torch.tensor([0.1, 0.2])
        torch.rand(5, generator=first["noise"])
        Checkpoint(slot, **first).save(step=3, best=float("-inf"))
        wanted = torch.rand(5, generator=first["noise"])
        again = parts()
        assert isinstance(again["loss"], Resumable)
        assert Checkpoint(slot, **again).load() == {"step": 3, "best": float("-inf")}
        assert again["loss"].value == 1 / 3
        assert torch.equal(again["loss"].path, first["loss"].path)
        assert torch.equal(again["network"].weight, first["network"].weight)
        assert torch.equal(torch.rand(5, generator=again["noise"]), wanted)

    def test_another_origin_or_other_parts_are_not_gone_on_from(self) -> None:
        store = Memory()
        Checkpoint(Slot(store, "x", "a"), loss=Multiplier()).save(step=1)
        assert Checkpoint(Slot(store, "x", "b"), loss=Multiplier()).load() is None
        assert Checkpoint(Slot(store, "y", "a"), loss=Multiplier()).load() is None
        assert Checkpoint(Slot(store, "x", "a"), loss=print).load() is None
        assert Checkpoint(Slot(store, "x", "a"), loss=Multiplier()).load() == {"step": 1}
        assert Checkpoint(None, loss=Multiplier()).load() is None

    def test_snapshots_keep_to_their_share_of_the_time(self) -> None:
        class Slow(Memory):
            def put(self, key: str, state: ModelState) -> None:
                time.sleep(0.01)
                super().put(key, state)

        store = Slow()
        taken = Checkpoint(Slot(store, "x", "a"))
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            taken.save()
        assert store.puts == 1


class TestDiskStore:
    STATE = pack({"x": np.arange(6.0).reshape(2, 3), "best": float("nan"), "word": "é"})

    def test_there_and_back(self, tmp_path: Path) -> None:
        store = DiskStore(tmp_path / "new" / "folder")
        assert store.get("run/lstm-0/member-1") is None
        store.put("run/lstm-0/member-1", self.STATE)
        found = store.get("run/lstm-0/member-1")
        assert found is not None
        assert_same_state(found, self.STATE)
        assert list(found.meta) == list(self.STATE.meta), "tables follow the order of the names"
        assert DiskStore(store.folder, fresh=True).get("run/lstm-0/member-1") is None
        store.discard("run")
        assert not store.folder.exists()

    def test_discarding_one_run_leaves_the_others(self, tmp_path: Path) -> None:
        store = DiskStore(tmp_path)
        store.put("one/x", self.STATE)
        store.put("two/x", self.STATE)
        store.discard("one")
        assert store.get("one/x") is None
        assert store.get("two/x") is not None
        store.discard("none")

    def test_any_damage_is_told_of_and_counts_as_nothing(self, tmp_path: Path) -> None:
        store = DiskStore(tmp_path)
        store.put("x", self.STATE)
        path = tmp_path / "x.safetensors"
        whole = path.read_bytes()
        rng = np.random.default_rng(0)
        flips = [
            whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :] for i in range(0, len(whole), 7)
        ]
        cuts = [whole[:n] for n in rng.integers(len(whole), size=20)]
        for bad in (*flips, *cuts, b"", b"garbage", whole + b"\0", rng.bytes(500)):
            path.write_bytes(bad)
            with pytest.warns(ResumeWarning, match=r"x.safetensors cannot be used .*again"):
                assert store.get("x") is None
        path.write_bytes(whole)
        assert store.get("x") is not None

    def test_a_file_under_another_name(self, tmp_path: Path) -> None:
        store = DiskStore(tmp_path)
        store.put("x", self.STATE)
        (tmp_path / "x.safetensors").rename(tmp_path / "y.safetensors")
        with pytest.warns(ResumeWarning, match="checksum"):
            assert store.get("y") is None

    def test_other_code_reuses_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = DiskStore(tmp_path)
        store.put("x", self.STATE)
        monkeypatch.setattr("alphakeel.storage.checkpoints.made_by", lambda: "other code")
        assert store.get("x") is None

    @pytest.mark.parametrize("key", ["", "..", "a/../b", "/a", "a b", "A", "a/"])
    def test_names_that_lead_elsewhere(self, tmp_path: Path, key: str) -> None:
        with pytest.raises(ValueError, match="is no name"):
            DiskStore(tmp_path).put(key, self.STATE)

    def test_a_folder_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "wall").write_text("")
        store = DiskStore(tmp_path / "wall")
        assert store.get("x") is None
        with pytest.raises(DataError, match="cannot write the progress of the run"):
            store.put("x", self.STATE)


CONFIG = StudyConfig(
    models=("linear", "lstm"),
    report=ReportConfig(n_bootstrap=100),
    network=NetworkConfig(
        hidden=4, max_steps=40, evaluate_every=2, burn_in=4, chunk=16, n_seeds=2, patience=50
    ),
    cleaning=CleaningConfig(min_history=60),
    walk_forward=WalkForwardConfig(refit_every=200),
    jobs=2,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prices and settings of a study of two folds."""
    folder = tmp_path_factory.mktemp("study")
    panel = simulate_market(n_assets=10, n_dates=560, seed=2, signal=0.1).panel
    write_prices(panel, folder)
    (folder / "study.toml").write_text(config_to_toml(CONFIG))
    return folder


def command(place: Path, out: Path) -> list[str]:
    return [
        *("run", "--data", str(place / "prices.csv"), "--config", str(place / "study.toml")),
        *("--out", str(out), "--json"),
    ]


def run_in_child(args: list[str], made_by: str, writes: int, delay: float) -> None:
    """Run the command, output to nowhere, and die `delay` seconds after so many writes.

    It takes the code to be that of the tests, also when somebody saves a file while they run.
    """
    checkpoints.made_by = lambda: made_by  # type: ignore[assignment]
    put, left = DiskStore.put, itertools.count(writes - 1, -1)
    death = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL))
    death.daemon = True

    def counted(self: DiskStore, key: str, state: ModelState) -> None:
        put(self, key, state)
        if next(left) == 0:
            death.start()

    DiskStore.put = counted  # type: ignore[method-assign]
    if writes == 0:
        death.start()
    with open(os.devnull, "w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        app(args)


def run_interrupted_in_the_report(args: list[str], made_by: str) -> None:
    """Run the command, and press Ctrl-C when half of the report is written."""
    checkpoints.made_by = lambda: made_by  # type: ignore[assignment]
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted(target: Path, data: bytes, *, durable: bool) -> None:
        target.write_bytes(data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60.0)

    page.write_atomically = interrupted
    with open(os.devnull, "w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        app(args)


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a run but its timings."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != TIMINGS
    }


@pytest.fixture(scope="module")
def uninterrupted(place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    done = run_command(*command(place, tmp_path_factory.mktemp("whole")))
    assert done.exit_code == 0, done.output
    return contents(Path(json.loads(done.stdout)["run"]))


@pytest.fixture(scope="module")
def spawner() -> Callable[..., Any]:
    """Starts the command in a fresh process; the libraries are imported once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["alphakeel.report.page", "alphakeel.storage.runs", __name__])
    made_by = checkpoints.made_by()
    return lambda target, args, *when: context.Process(target=target, args=(args, made_by, *when))


class TestStudy:
    def test_interrupted_in_the_report(
        self,
        place: Path,
        tmp_path: Path,
        uninterrupted: dict[str, bytes],
        spawner: Callable[..., Any],
    ) -> None:
        args = command(place, tmp_path)
        process = spawner(run_interrupted_in_the_report, args)
        process.start()
        process.join()
        assert process.exitcode == 130
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {".resume", "trials.jsonl"}, "half a run looks like a run"
        done = run_command(*args)
        assert done.exit_code == 0, done.output
        assert done.stderr == "resuming: 4 of 4 fits done\n"
        document = json.loads(done.stdout)
        assert Path(document["report"]).read_text(encoding="utf-8").endswith("</html>")
        assert contents(Path(document["run"])) == uninterrupted
        assert document["trials"]["n_studies"] == 1, "one study, though it was written down twice"

    def test_killed_at_random_moments(
        self,
        place: Path,
        tmp_path: Path,
        uninterrupted: dict[str, bytes],
        spawner: Callable[..., Any],
    ) -> None:
        rng = np.random.default_rng(11)
        args = command(place, tmp_path)
        checkpoints = tmp_path / ".resume"
        killed = 0
        for writes in rng.permutation([0, 2, 5, 9]):
            process = spawner(run_in_child, args, int(writes), float(rng.uniform(0.0, 0.05)))
            process.start()
            process.join()
            killed += process.exitcode == -signal.SIGKILL
        assert killed >= 2, "a machine this quick needs a longer study"
        done = run_command(*args)
        assert done.exit_code == 0, done.output
        assert "resuming: " in done.stderr
        assert "of 4 fits done" in done.stderr
        found = contents(Path(json.loads(done.stdout)["run"]))
        assert found.keys() == uninterrupted.keys()
        for name, data in found.items():
            assert data == uninterrupted[name], name
        assert not checkpoints.exists()
        assert not list(tmp_path.glob(".saving-*"))

    @pytest.fixture
    def half(self, place: Path, tmp_path: Path) -> Path:
        """What is left of a study that was killed with its linear fits done."""
        store, put = DiskStore(tmp_path / ".resume"), DiskStore.put

        def until_the_first_network(self: DiskStore, key: str, state: ModelState) -> None:
            put(self, key, state)
            if key.endswith("/member-1"):
                raise Killed

        source = DataConfig(source=str(place / "prices.csv"))
        panel, config, name, _ = load_data(replace(CONFIG, jobs=1, data=source))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DiskStore, "put", until_the_first_network)
            with pytest.raises(Killed):
                run_study(panel, config, name=name, store=store)
        return tmp_path

    def test_says_what_is_done(self, place: Path, half: Path) -> None:
        done = run_command(*command(place, half))
        assert done.exit_code == 0, done.output
        assert done.stderr.splitlines() == ["resuming: 2 of 4 fits done"]
        assert not (half / ".resume").exists()
        again = run_command(*command(place, half))
        assert again.stderr.splitlines() == ["resuming: 4 of 4 fits done"], "of the finished run"

    def test_begins_anew_when_told_to(
        self, place: Path, half: Path, uninterrupted: dict[str, bytes]
    ) -> None:
        done = run_command(*[*command(place, half), "--fresh"])
        assert done.exit_code == 0, done.output
        assert done.stderr == ""
        assert contents(Path(json.loads(done.stdout)["run"])) == uninterrupted
        assert not (half / ".resume").exists()

    def test_damaged_progress_is_computed_again(
        self, place: Path, half: Path, uninterrupted: dict[str, bytes]
    ) -> None:
        paths = sorted((half / ".resume").rglob("*.safetensors"))
        rng = np.random.default_rng(0)
        for path in paths:
            path.write_bytes(path.read_bytes()[: rng.integers(0, 300)])
        done = run_command(*command(place, half))
        assert done.exit_code == 0, done.output
        told = done.stderr.splitlines()
        assert len(told) == len(paths)
        assert all(line.startswith("warning: saved progress in ") for line in told)
        assert contents(Path(json.loads(done.stdout)["run"])) == uninterrupted

    def test_a_changed_setting_reuses_nothing(self, place: Path, half: Path) -> None:
        changed = replace(CONFIG, linear=LinearConfig(method="ridge"), models=("linear",))
        (half / "other.toml").write_text(config_to_toml(changed))
        args = command(place, half)
        args[args.index("--config") + 1] = str(half / "other.toml")
        done = run_command(*args)
        assert done.exit_code == 0, done.output
        assert "resuming" not in done.stderr
        assert (half / ".resume").exists(), "the progress of the other study is not ours to drop"

    def test_every_setting_counts_but_the_number_of_jobs(self) -> None:
        settings = {"seed": 0, "jobs": 2, "network": {"hidden": 4}}
        key = study_key("data", settings, {"torch": "1"})
        assert study_key("data", settings | {"jobs": 3}, {"torch": "1"}) == key
        for other in (
            study_key("other", settings, {"torch": "1"}),
            study_key("data", settings | {"network": {"hidden": 5}}, {"torch": "1"}),
            study_key("data", settings, {"torch": "2"}),
        ):
            assert other != key


def test_progress_is_told_once_per_study(place: Path) -> None:
    seen: list[Progress] = []
    panel = simulate_market(n_assets=8, n_dates=560, seed=2).panel
    store, quick = Memory(), tiny_config()
    run_study(panel, quick, store=store)
    run_study(panel, quick, store=store, on_progress=seen.append)
    assert {p.detail for p in seen if p.stage == "resuming"} == {"1 of 1 fits done"}
    assert seen[-1].share == pytest.approx(1.0)
