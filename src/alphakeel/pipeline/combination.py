"""The combined forecast: a weighted mean of the ranks that several models give the stocks.

It has no fit of its own. On each decision the scores of every member become ranks of mean 0 and
variance 1 over the stocks that all of them score, and their weighted mean is the score. Weights are
equal, or learned fold by fold from what the members' scores were worth before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.config import COMBINED, StudyConfig
from alphakeel.model_factory import LABELS
from alphakeel.pipeline.dataset import Dataset
from alphakeel.pipeline.model_results import DECAY, ModelResult
from alphakeel.stats.cross_section import ic, rank_ic, rank_scaled
from alphakeel.stats.splits import Fold

__all__ = ["Combination", "combine", "combine_models", "combine_networks"]

Floats = npt.NDArray[np.floating[Any]]

COLUMNS = ("fold", "member", "weight", "rank_ic", "decisions")


@dataclass(frozen=True, eq=False)
class Combination:
    """The combined scores, (n_decisions, n_assets), and the weights of members in each fold.

    `weights` has one row a fold and member: weight, rank_ic (its mean over the decisions that
    weights were learned from; NaN without) and the number of these decisions.
    """

    scores: npt.NDArray[np.float32]
    weights: pd.DataFrame


def combine(
    members: Mapping[str, Floats], dataset: Dataset, folds: Sequence[Fold], config: StudyConfig
) -> Combination:
    """Combine scores, (n_decisions, n_assets) by member, on the test decisions of every fold.

    Learned weights of a fold come from the decisions of earlier folds' tests that it trains on:
    their returns, over the longest horizon, were known before it begins. They are in proportion to
    the mean Rank IC of each member, zero where it is below zero, and drawn to equal ones as if
    these had been seen for `combined.shrinkage` decisions. The first fold has equal weights.

    Examples
    --------
    >>> import alphakeel as ak
    >>> from alphakeel.pipeline.dataset import prepare_dataset
    >>> from alphakeel.pipeline.plan import Plan
    >>> panel = ak.load_bundled("synthetic", n_assets=12, n_dates=900, seed=1)
    >>> plan = Plan.of(panel, ak.StudyConfig())
    >>> dataset = prepare_dataset(panel, plan)
    >>> members = {name: dataset.raw[..., k] for k, name in enumerate(("linear", "lstm"))}
    >>> combine(members, dataset, plan.folds, plan.config).weights["weight"].unique()
    array([0.5])
    """
    stacked = np.stack([np.asarray(scores) for scores in members.values()])
    scored: npt.NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(stacked), axis=0)
    first = folds[0].test.start
    scores = np.full(scored.shape, np.nan, dtype=np.float32)
    ranks = [np.asarray(rank_scaled(own[first:], scored[first:]), np.float64) for own in stacked]
    known = _known_rank_ic(stacked, scored, dataset, folds) if _learns(config) else None
    rows: list[tuple[Any, ...]] = []
    for number, fold in enumerate(folds):
        earlier = (
            None if known is None else known[:, max(first, fold.train.start) : fold.train.stop]
        )
        weights, means, count = _weights(earlier, len(stacked), config.combined.shrinkage)
        within = slice(fold.test.start - first, fold.test.stop - first)
        total = np.zeros(ranks[0][within].shape)
        for weight, own in zip(weights, ranks, strict=True):  # one by one: the order of a sum
            total += weight * own[within]
        scores[fold.test] = total
        for name, weight, mean in zip(members, weights, means, strict=True):
            rows.append((number, name, weight, mean, count))
    return Combination(scores, pd.DataFrame(rows, columns=list(COLUMNS)))


def _learns(config: StudyConfig) -> bool:
    return config.combined.weights == "learned"


def _known_rank_ic(
    stacked: Floats, scored: npt.NDArray[np.bool_], dataset: Dataset, folds: Sequence[Fold]
) -> Floats:
    """Rank IC of every member at the longest horizon, (n_members, n_decisions).

    NaN after the training decisions of the last fold: nothing later can be known in any.
    """
    until = max(fold.train.stop for fold in folds)
    longest = dataset.horizons.index(max(dataset.horizons))
    forward = dataset.forward[:until, :, longest]
    out = np.full((len(stacked), len(scored)), np.nan)
    for k, own in enumerate(stacked):
        out[k, :until] = rank_ic(own[:until], forward, scored[:until])
    return out


def _weights(
    earlier: Floats | None, n_members: int, shrinkage: int
) -> tuple[list[float], list[float], int]:
    """Weights of a fold, the mean Rank ICs that they come from, and the number of decisions."""
    equal = 1.0 / n_members
    seen = np.empty((n_members, 0)) if earlier is None else earlier
    seen = seen[:, np.isfinite(seen).all(axis=0)]
    count = seen.shape[1]
    if not count:
        return [equal] * n_members, [np.nan] * n_members, 0
    means = seen.mean(axis=1)
    skill = np.maximum(means, 0.0)
    learned = skill / skill.sum() if skill.any() else np.full(n_members, equal)
    weights = (shrinkage * equal + count * learned) / (shrinkage + count)
    return weights.tolist(), means.tolist(), count


def combine_models(
    models: Mapping[str, ModelResult],
    dataset: Dataset,
    folds: Sequence[Fold],
    config: StudyConfig,
) -> dict[str, ModelResult]:
    """The results of the fits, and of the combined model where the settings have one."""
    if not config.members:
        return dict(models)
    made = combine({name: models[name].scores for name in config.members}, dataset, folds, config)
    by_horizon = np.moveaxis(dataset.forward, -1, 0)
    result = ModelResult(
        name=COMBINED,
        label=LABELS[COMBINED],
        scores=made.scores,
        ic=np.stack([ic(made.scores, forward) for forward in by_horizon], axis=-1),
        rank_ic=rank_ic(made.scores, dataset.forward),
        decay=np.full((len(made.scores), len(DECAY)), np.nan),
        history=[],
        combination=made.weights,
    )
    return {**models, COMBINED: result}


def combine_networks(
    models: Mapping[str, ModelResult],
    dataset: Dataset,
    folds: Sequence[Fold],
    config: StudyConfig,
) -> npt.NDArray[np.float32] | None:
    """Scores combined seed by seed, (n_seeds, n_decisions, n_assets); None without networks.

    Networks enter with one seed, all other members as they are.
    """
    own = {name: models[name] for name in config.members}
    seeds = min((len(m.members) for m in own.values() if m.members is not None), default=0)
    if not seeds:
        return None
    return np.stack(
        [
            combine(
                {n: m.scores if m.members is None else m.members[s] for n, m in own.items()},
                dataset,
                folds,
                config,
            ).scores
            for s in range(seeds)
        ]
    )
