"""A prepared data set, saved and opened again: the same numbers, on the disk until touched."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skfolio.containers import AssetPanel

from alphakeel.config import StudyConfig
from alphakeel.data.simulation import simulate_market
from alphakeel.errors import DataError
from alphakeel.pipeline.dataset import Dataset, prepare_dataset
from alphakeel.pipeline.fitting import fit_and_score
from alphakeel.pipeline.plan import Plan
from alphakeel.pipeline.screening import screen_fold
from alphakeel.pipeline.simulator import Simulator
from alphakeel.pipeline.strategies import trade_scores
from alphakeel.storage.datasets import load_dataset, save_dataset

CONFIG = StudyConfig(models=("linear",))


@pytest.fixture(scope="module")
def panel() -> AssetPanel:
    return simulate_market(n_assets=14, n_dates=800, seed=2).panel


@pytest.fixture(scope="module")
def plan(panel: AssetPanel) -> Plan:
    return Plan.of(panel, CONFIG)


@pytest.fixture(scope="module")
def dataset(panel: AssetPanel, plan: Plan) -> Dataset:
    return prepare_dataset(panel, plan)


@pytest.fixture
def saved(dataset: Dataset, tmp_path: Path) -> Path:
    return save_dataset(dataset, tmp_path / "prepared")


def traded(dataset: Dataset, plan: Plan) -> np.ndarray:
    """Screen, fit, score and trade the first fold."""
    fold = plan.folds[0]
    names = screen_fold(dataset, fold.train, plan.config, plan.models).names("linear")
    forecast = fit_and_score(dataset, fold.train, fold.test.stop, names, "linear", plan.config)
    simulator = Simulator.of(dataset, plan.config, dataset.days_of(fold.test))
    own = forecast.scores[fold.test], None, dataset.volatility[fold.test]
    return trade_scores(*own, simulator, plan.config).net_returns


class TestRoundTrip:
    def test_every_number_comes_back_and_stays_on_the_disk(
        self, saved: Path, dataset: Dataset
    ) -> None:
        again = load_dataset(saved)
        for name in ("sample", "price", "last_price", "returns", "features", "raw", "market",
                     "targets", "forward", "volatility", "eligible", "decisions"):  # fmt: skip
            assert isinstance(getattr(again, name), np.memmap), name
            assert not getattr(again, name).flags.writeable
            np.testing.assert_array_equal(getattr(again, name), getattr(dataset, name))
        np.testing.assert_array_equal(again.tradable, dataset.tradable)
        np.testing.assert_array_equal(again.dates, dataset.dates)
        assert again.names == dataset.names
        assert again.horizons == dataset.horizons

    def test_what_cleaning_did_comes_back(self, saved: Path, dataset: Dataset) -> None:
        own, again = dataset.provenance, load_dataset(saved).provenance
        assert own is not None
        assert again is not None
        assert again.ledger.to_frame().equals(own.ledger.to_frame())
        assert again.ledger.counts().equals(own.ledger.counts())
        assert again.quality.equals(own.quality)
        assert (again.panel_hash, again.cautions) == (own.panel_hash, own.cautions)

    def test_fits_and_trades_on_it_are_the_same_to_the_bit(
        self, saved: Path, dataset: Dataset, plan: Plan
    ) -> None:
        np.testing.assert_array_equal(traded(load_dataset(saved), plan), traded(dataset, plan))

    def test_a_part_of_it_is_a_view_of_the_file(self, saved: Path) -> None:
        whole = load_dataset(saved)
        part = whole.cut(slice(0, 500), slice(0, 5))
        assert np.shares_memory(part.features, whole.features)
        assert isinstance(part.features, np.memmap)


class TestFaults:
    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"is no whole data set .* prepare it again"):
            load_dataset(tmp_path / "absent")

    def test_a_file_cut_short(self, saved: Path) -> None:
        file = saved / "features.npy"
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(DataError, match="is no whole data set"):
            load_dataset(saved)

    def test_an_array_of_another_shape(self, saved: Path) -> None:
        np.save(saved / "price.npy", np.zeros((3, 2)))
        with pytest.raises(DataError, match="price has shape"):
            load_dataset(saved)

    def test_objects_are_never_read(self, saved: Path) -> None:
        np.save(saved / "price.npy", np.array([{}], dtype=object), allow_pickle=True)
        with pytest.raises(DataError, match="no whole data set"):
            load_dataset(saved)

    def test_another_version(self, saved: Path) -> None:
        about = json.loads((saved / "dataset.json").read_text())
        (saved / "dataset.json").write_text(json.dumps({**about, "format_version": 99}))
        with pytest.raises(DataError, match="format 99"):
            load_dataset(saved)

    def test_what_stands_there_stays_until_the_new_one_is_whole(
        self, saved: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "save", full)
        with pytest.raises(DataError, match="No space left"):
            save_dataset(dataset, saved)
        monkeypatch.undo()
        assert load_dataset(saved).lag == dataset.lag
        assert [p.name for p in saved.parent.iterdir()] == [saved.name]

    def test_without_provenance(self, dataset: Dataset, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="without provenance"):
            save_dataset(replace(dataset, provenance=None), tmp_path / "x")
