"""Fits on a part of some training decisions, and scores of the block that was left out.

Two things are made of them: the choice among settings (`choices`), and what the linear model leaves
of the targets for networks to learn (`residual_targets`). Both read training decisions only: no day
after the last of their labels can move either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from alphakeel.config import StudyConfig
from alphakeel.errors import ConfigError
from alphakeel.models.linear import LinearForecaster
from alphakeel.pipeline.dataset import Dataset
from alphakeel.pipeline.plan import labels_of
from alphakeel.pipeline.screening import screened_names
from alphakeel.stats.cross_section import rank_scaled
from alphakeel.stats.splits import purged_kfold

__all__ = ["purged_parts", "residual_targets", "score_linear"]

Floats = npt.NDArray[np.floating[Any]]
Rows = slice | npt.NDArray[np.intp]
Part = tuple[npt.NDArray[np.intp], slice]

# A part with fewer decisions to fit on says nothing.
LEAST_DECISIONS = 20
# Blocks of the residuals: each linear fit sees four fifths of the decisions.
RESIDUAL_BLOCKS = 5


def purged_parts(
    dataset: Dataset, train: Rows, config: StudyConfig, blocks: int, purpose: str
) -> list[Part]:
    """Cut training decisions into blocks: those to fit on, purged, and the block that they score.

    Decisions before the first with a stock do not count. ConfigError, with the purpose in words, if
    a part leaves fewer than `LEAST_DECISIONS`.
    """
    rows = np.arange(len(dataset.decisions))[train]
    rows = rows[rows >= dataset.first]
    parts: list[Part] = []
    if len(rows) >= blocks:
        labels, embargo = labels_of(dataset.decisions[rows], config)
        for fold in purged_kfold(labels, blocks, embargo):
            block = rows[fold.test]
            parts.append((rows[fold.train_rows()], slice(int(block[0]), int(block[-1]) + 1)))
    shortest = min((len(fitted) for fitted, _ in parts), default=0)
    if shortest < LEAST_DECISIONS:
        last = "" if not len(rows) else f" up to {dataset.dates[dataset.decisions[rows[-1]]]}"
        raise ConfigError(
            f"{len(rows)} training decisions{last} are too few to {purpose}: a part of them leaves "
            f"{shortest} to fit on, and at least {LEAST_DECISIONS} are needed; start the test "
            "later, or leave that setting at its default."
        )
    return parts


def score_linear(
    forecasters: Sequence[LinearForecaster],
    dataset: Dataset,
    fitted: npt.NDArray[np.intp],
    block: slice,
    names: Sequence[str],
) -> list[Floats]:
    """Scores of a block by linear models that are fitted on other decisions, all at once."""
    columns = dataset.columns(names)
    stocks = np.flatnonzero(dataset.eligible[fitted].any(axis=0))  # as every fit of a study
    LinearForecaster.fit_all(
        forecasters,
        np.ascontiguousarray(dataset.features[fitted][:, stocks][:, :, columns]),
        dataset.targets[fitted][:, stocks],
        mask=dataset.eligible[fitted][:, stocks],
    )
    features = np.ascontiguousarray(dataset.features[block][:, :, columns])
    return [one.predict(features, mask=dataset.eligible[block]) for one in forecasters]


def residual_targets(dataset: Dataset, train: Rows, config: StudyConfig) -> npt.NDArray[np.float32]:
    """What the linear model leaves of the targets, (n_train, n_assets, n_horizons), ranked again.

    Each block of the training decisions is scored by a linear model that was fitted, with factors
    screened, on the others: what a model has learned by heart is not left out of the residuals of
    its own fit. From the targets of a horizon those ranks are taken, times their pooled coefficient
    over all blocks. NaN where a target or a score is unknown.

    Examples
    --------
    >>> import alphakeel as ak
    >>> from alphakeel.pipeline.dataset import prepare_dataset
    >>> from alphakeel.pipeline.plan import Plan
    >>> panel = ak.load_bundled("synthetic", n_assets=12, n_dates=900, seed=1)
    >>> plan = Plan.of(panel, ak.StudyConfig(target=ak.TargetConfig(horizons=(5,))))
    >>> train = plan.folds[-1].train
    >>> residual_targets(prepare_dataset(panel, plan), train, plan.config).shape == (
    ...     train.stop, 12, 1
    ... )
    True
    """
    predicted = np.full(dataset.eligible.shape, np.nan)
    purpose = "find what the linear model leaves (target.networks)"
    for fitted, block in purged_parts(dataset, train, config, RESIDUAL_BLOCKS, purpose):
        names = screened_names(dataset, fitted, "linear", config)
        own = LinearForecaster(**config.linear.keywords())
        (scores,) = score_linear([own], dataset, fitted, block, names)
        predicted[block] = rank_scaled(np.asarray(scores, np.float64))
    ranks, targets = predicted[train], dataset.targets[train].astype(np.float64)
    layers = []
    for target in np.moveaxis(targets, -1, 0):
        known = np.isfinite(target) & np.isfinite(ranks)
        explained = float(np.sum(target[known] * ranks[known]))
        coefficient = explained / max(float(np.sum(ranks[known] ** 2)), 1.0)
        layers.append(rank_scaled(target - coefficient * ranks, known))
    return np.stack(layers, axis=-1).astype(np.float32)
