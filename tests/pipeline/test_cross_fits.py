"""What the linear model leaves: found out of fold, on training decisions only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from alphakeel.data.simulation import simulate_market
from alphakeel.errors import ConfigError
from alphakeel.pipeline.cross_fits import RESIDUAL_BLOCKS, purged_parts, residual_targets
from alphakeel.pipeline.dataset import Dataset, prepare_dataset
from alphakeel.pipeline.fitting import fit_key
from alphakeel.pipeline.plan import Plan
from alphakeel.stats.cross_section import ic
from helpers import TINY_NETWORK, tiny_config

FACTOR = "reversal_5"
PANEL = simulate_market(n_assets=14, n_dates=560, seed=3).panel
CONFIG = tiny_config(
    models=["linear", "mlp"],
    target={"networks": "residuals", "horizons": [5]},
    network=TINY_NETWORK,
    cleaning={"min_history": 60},
    walk_forward={"test_start": str(PANEL.observations[480])[:10]},
)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan.of(PANEL, CONFIG)


@pytest.fixture(scope="module")
def dataset(plan: Plan) -> Dataset:
    """Prepared, with targets that are half a factor and half noise."""
    prepared = prepare_dataset(PANEL, plan)
    rng = np.random.default_rng(0)
    column = prepared.columns([FACTOR])
    signal = prepared.features[..., column] + rng.standard_normal((*prepared.eligible.shape, 1))
    unknown = ~prepared.eligible[..., None] | np.isnan(prepared.targets)
    return replace(prepared, targets=np.where(unknown, np.nan, signal).astype(np.float32))


class TestResiduals:
    def test_what_the_linear_model_knows_is_gone(self, plan: Plan, dataset: Dataset) -> None:
        train = plan.folds[0].train
        left, known = residual_targets(dataset, train, plan.config), dataset.targets[train]
        factor = dataset.features[train][..., dataset.columns([FACTOR])[0]]
        before, after = (np.nanmean(ic(factor, own[..., 0])) for own in (known, left))
        assert before > 0.5
        assert abs(after) < 0.2 * before
        scored = np.isfinite(left[..., 0])
        assert (scored <= np.isfinite(known[..., 0])).all()
        np.testing.assert_allclose(np.nanmean(left[scored.any(axis=1)], axis=1), 0.0, atol=1e-5)

    def test_nothing_after_the_training_labels_is_read(self, plan: Plan, dataset: Dataset) -> None:
        train, rng = plan.folds[0].train, np.random.default_rng(0)
        after = slice(train.stop, None)
        changed: dict[str, Any] = {
            name: np.concatenate([own[: train.stop], rng.permutation(own[after])])
            for name in ("features", "raw", "targets", "forward")
            for own in [getattr(dataset, name)]
        }
        np.testing.assert_array_equal(
            residual_targets(dataset, train, plan.config),
            residual_targets(replace(dataset, **changed), train, plan.config),
        )

    def test_networks_are_fitted_on_them(self, plan: Plan, dataset: Dataset) -> None:
        train, names = plan.folds[0].train, dataset.names[:4]
        other = replace(CONFIG, target=replace(CONFIG.target, networks="returns"))
        for model, moves in (("mlp", True), ("linear", False), ("lstm_limited", False)):
            one, two = (fit_key(dataset, train, names, model, own) for own in (CONFIG, other))
            assert (one != two) == moves, model


class TestParts:
    def test_blocks_are_apart_from_what_is_fitted(self, plan: Plan, dataset: Dataset) -> None:
        train = plan.folds[0].train
        parts = purged_parts(dataset, train, CONFIG, RESIDUAL_BLOCKS, "")
        blocks = np.concatenate([np.arange(train.stop)[block] for _, block in parts])
        assert blocks.tolist() == list(range(dataset.first, train.stop))
        for fitted, block in parts:
            gap = np.abs(fitted[:, None] - np.arange(train.stop)[block]).min()
            assert gap * 5 > CONFIG.target.lag + max(CONFIG.target.horizons)

    def test_too_few_decisions(self, dataset: Dataset) -> None:
        with pytest.raises(ConfigError, match=r"too few to do this: a part of them leaves \d+ to"):
            purged_parts(dataset, slice(0, 30), CONFIG, 3, "do this")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"target": {"networks": "residuals", "unit": "auto"}}, "one target"),
            ({"target": {"networks": "residuals"}, "linear": {"method": "auto"}}, "which linear"),
        ],
    )
    def test_what_is_left_open_leaves_no_residual(
        self, changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            tiny_config(**changes)
