"""The prepared data set: one value, frozen, cut without copies, the same as what its parts give."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pandas as pd
import pytest
from skfolio.containers import AssetPanel

from alphakeel.config import StudyConfig, TargetConfig, WalkForwardConfig
from alphakeel.data.bundled import BUNDLED
from alphakeel.data.cleaning import clean
from alphakeel.data.panel import universe_mask
from alphakeel.data.simulation import simulate_market
from alphakeel.errors import DataError
from alphakeel.factors.base import compute_factors, standardise
from alphakeel.factors.targets import forward_returns, rank_forward
from alphakeel.pipeline.dataset import Dataset, prepare_dataset
from alphakeel.pipeline.plan import Plan, labels_of
from alphakeel.results import Study
from alphakeel.stats.rolling import ew_volatility, simple_returns
from helpers import scrambled_after


@pytest.fixture(scope="module")
def panel() -> AssetPanel:
    return simulate_market(n_assets=12, n_dates=760, seed=5).panel


@pytest.fixture(scope="module")
def dataset(panel: AssetPanel) -> Dataset:
    return prepare_dataset(panel, Plan.of(panel, StudyConfig()))


class TestPrepared:
    def test_it_is_what_its_stages_give(self, panel: AssetPanel, dataset: Dataset) -> None:
        cleaning = clean(panel)
        sample = cleaning.eligible & universe_mask(panel)
        price = cleaning.panel["accounting_close"]
        last = pd.DataFrame(price).ffill().to_numpy()
        rows = dataset.decisions
        eligible = (sample & cleaning.panel.estimation_mask)[rows]
        raw = compute_factors(cleaning.panel).values[rows]
        scale = np.sqrt(252.0) * np.asarray(ew_volatility(simple_returns(price), 63.0))
        ahead = np.stack([forward_returns(last, horizon=h)[rows] for h in (5, 20)], axis=-1)
        np.testing.assert_array_equal(dataset.eligible, eligible)
        np.testing.assert_array_equal(dataset.raw, raw)
        np.testing.assert_array_equal(dataset.features, standardise(raw, eligible))
        np.testing.assert_array_equal(dataset.forward, ahead)
        np.testing.assert_array_equal(dataset.returns, simple_returns(price))
        found = rank_forward(ahead, sample[rows], scale[rows])
        assert (np.isfinite(found) == np.isfinite(dataset.targets)).mean() > 0.99

    def test_shapes_are_those_stated(self, dataset: Dataset) -> None:
        n_dates, n_assets = dataset.price.shape
        n_decisions, n_factors = len(dataset.decisions), len(dataset.names)
        for name in ("sample", "last_price", "returns", "tradable"):
            assert getattr(dataset, name).shape == (n_dates, n_assets)
        for name in ("features", "raw"):
            assert getattr(dataset, name).shape == (n_decisions, n_assets, n_factors)
        for name in ("targets", "forward"):
            assert getattr(dataset, name).shape == (n_decisions, n_assets, 2)
        assert dataset.market.shape == (n_decisions, len(dataset.market_names))

    def test_it_is_frozen(self, dataset: Dataset) -> None:
        with pytest.raises(FrozenInstanceError):
            dataset.lag = 2  # type: ignore[misc]

    def test_a_study_is_nine_values(self) -> None:
        names = [field.name for field in fields(Study)]
        assert names == [
            "plan", "dataset", "screens", "models", "portfolios", "regimes", "stress", "seconds",
            "risk_networks",
        ]  # fmt: skip

    def test_an_empty_sample_is_refused(self, panel: AssetPanel) -> None:
        config = StudyConfig()
        plan = Plan.of(panel, config)
        dear = replace(plan.config, cleaning=replace(config.cleaning, min_price=1e9))
        with pytest.raises(DataError, match=r"at most 0 stocks .* to train on"):
            prepare_dataset(panel, replace(plan, config=dear))
        before = prepare_dataset(panel, replace(plan, config=dear, folds=()))
        with pytest.raises(DataError, match="no stock is fit for the sample"):
            _ = before.first


class TestCautions:
    def test_a_panel_handed_in_is_not_the_bundled_one(self, panel: AssetPanel) -> None:
        """The settings' default source is the bundled prices, whatever panel is studied."""
        own, bundled = (
            prepare_dataset(panel, Plan.of(panel, StudyConfig(), name)).provenance
            for name in ("panel", "sp500")
        )
        assert own is not None
        assert bundled is not None
        assert BUNDLED["sp500"].caution in bundled.cautions
        assert BUNDLED["sp500"].caution not in own.cautions


class TestCut:
    def test_every_array_is_a_view_of_the_same_numbers(self, dataset: Dataset) -> None:
        part = dataset.cut(slice(103, 500), slice(2, 9))
        inside = (dataset.decisions >= 103) & (dataset.decisions < 500)
        assert part.dates[0] == dataset.dates[103]
        assert list(part.assets) == list(dataset.assets[2:9])
        np.testing.assert_array_equal(part.decisions + 103, dataset.decisions[inside])
        for name in ("price", "returns", "sample", "last_price"):
            own, whole = getattr(part, name), getattr(dataset, name)
            assert np.shares_memory(own, whole)
            np.testing.assert_array_equal(own, whole[103:500, 2:9])
        for name in ("features", "raw", "targets", "forward", "volatility", "eligible"):
            own, whole = getattr(part, name), getattr(dataset, name)
            assert np.shares_memory(own, whole)
            np.testing.assert_array_equal(own, whole[inside][:, 2:9])
        field = "accounting_close"
        assert np.shares_memory(part.panel[field], dataset.panel[field])

    def test_holding_returns_are_those_of_the_whole(self, dataset: Dataset) -> None:
        part, rows = dataset.cut(slice(0, 500)), slice(0, 90)
        np.testing.assert_array_equal(part.holding_returns(rows), dataset.holding_returns(rows))
        first = dataset.decisions[3] + dataset.lag + 1
        np.testing.assert_array_equal(
            dataset.holding_returns(slice(3, 4))[0],
            dataset.returns[first : dataset.decisions[4] + dataset.lag + 1],
        )

    def test_days_of_a_block_end_before_the_next_decision(self, dataset: Dataset) -> None:
        days = dataset.days_of(slice(10, 12))
        assert (days.start, days.stop) == (dataset.decisions[10], dataset.decisions[12])
        last = dataset.days_of(slice(10, len(dataset.decisions)))
        assert last.stop == len(dataset.price)


class TestNoLookAhead:
    def test_later_noise_moves_only_targets(self, panel: AssetPanel, dataset: Dataset) -> None:
        row = 600
        noisy = scrambled_after(panel, row, how="multiply", sigma=0.3)
        other = prepare_dataset(noisy, Plan.of(noisy, StudyConfig()))
        past = int(np.searchsorted(dataset.decisions, row, side="right"))
        for name in ("features", "raw", "market", "volatility", "eligible"):
            np.testing.assert_array_equal(
                getattr(dataset, name)[:past], getattr(other, name)[:past], err_msg=name
            )
        for name in ("price", "returns", "sample"):
            np.testing.assert_array_equal(
                getattr(dataset, name)[: row + 1], getattr(other, name)[: row + 1], err_msg=name
            )
        reach = dataset.decisions[:past] + dataset.lag + max(dataset.horizons) <= row
        np.testing.assert_array_equal(dataset.forward[:past][reach], other.forward[:past][reach])
        assert not np.array_equal(dataset.forward[:past], other.forward[:past], equal_nan=True)


class TestPurge:
    @pytest.mark.parametrize(
        ("lag", "horizons", "days"), [(1, (5, 20), 21), (1, (20,), 21), (2, (3,), 7)]
    )
    def test_it_is_the_reach_of_the_longest_label_and_of_the_holding(
        self, lag: int, horizons: tuple[int, ...], days: int
    ) -> None:
        config = StudyConfig(
            target=TargetConfig(lag=lag, horizons=horizons),
            walk_forward=WalkForwardConfig(embargo=7),
        )
        labels, embargo = labels_of(np.arange(0, 100, 5), config)
        assert (labels.ends - labels.days)[:-1].tolist() == [days] * 19
        assert embargo == 7

    def test_further_labels_lengthen_it(self) -> None:
        labels, _ = labels_of(np.arange(0, 100, 5), StudyConfig(), 60)
        assert (labels.ends - labels.days).tolist() == [61] * 20
