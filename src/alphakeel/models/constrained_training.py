"""What it takes to train on a portfolio's path: its batches, its loss, and its calibration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alphakeel.models import losses
from alphakeel.models.allocation_network import (
    AllocationNetwork,
    PathData,
    PathLimits,
    smooth_risks,
)
from alphakeel.models.losses import LossParts, ScoreLoss
from alphakeel.models.networks import assemble
from alphakeel.models.sampling import Batch, ChunkSampler
from alphakeel.stats.performance import held_path

__all__ = ["PathBatch", "PathObjective", "PathSampler", "calibrate"]

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

# Halvings in the search for the largest share of the learned exposure that keeps the limits.
HALVINGS = 20


@dataclass(frozen=True, eq=False)
class PathBatch(Batch):
    """Sequences of the training path, one portfolio each, after the burn-in.

    First axes (n_steps, n_sequences): scaled `market` series, `log_volatility`, `investable`;
    and `growth` (n_steps, n_days, n_sequences, n_assets), the cumulative simple return since
    the trade. `held` (n_steps, n_days, n_sequences) is False on the days after a shorter step; None
    where all steps are as long.
    """

    market: Tensor
    growth: Tensor
    log_volatility: Tensor
    investable: Tensor
    held: Tensor | None = None

    def loss(self, outputs: Tensor, loss_function: Callable[..., LossParts]) -> LossParts:
        """Loss of the path as well as of the cross-sections."""
        return loss_function(self.cross_sections(outputs), self)


class PathSampler(ChunkSampler):
    """Draws random sequences of the rows whose returns are known; see `ChunkSampler`."""

    def __init__(
        self,
        features: Floats32,
        market: Floats32,
        targets: Floats32,
        data: PathData,
        **settings: Any,
    ) -> None:
        super().__init__(features, market, targets, **settings)
        self.data = data
        self.growth = (np.cumprod(1.0 + data.returns, axis=1) - 1.0).astype(np.float32)

    def draw(self) -> PathBatch:
        """Draw the next batch."""
        parts: list[tuple[NDArray[Any], ...]] = []
        held: list[NDArray[Any]] = []
        for start in self.rng.choice(self.starts, size=self.n_sequences):
            first, stop = start + self.burn_in, start + self.burn_in + self.chunk
            assets = self._assets(slice(first, stop))
            if self.data.held is not None:
                held.append(self.data.held[first:stop])
            parts.append(
                (
                    assemble(self.features[start:stop, assets], self.market[start:stop]),
                    self.targets[first:stop, assets],
                    self.market[first:stop],
                    self.growth[first:stop, :, assets],
                    self.data.log_volatility[first:stop, assets],
                    self.data.investable[first:stop, assets],
                )
            )
        inputs, targets, market, growth, log_volatility, investable = zip(*parts, strict=True)

        def side_by_side(pieces: tuple[NDArray[Any], ...], axis: int) -> Tensor:
            return torch.from_numpy(np.stack(pieces, axis=axis)).to(self.device)

        stacked = side_by_side(targets, 1).flatten(0, 1)
        known = torch.isfinite(stacked)
        return PathBatch(
            torch.from_numpy(np.concatenate(inputs, axis=1)).to(self.device),
            torch.where(known, stacked, 0.0),
            known,
            side_by_side(market, 1),
            side_by_side(growth, 2),
            side_by_side(log_volatility, 1),
            side_by_side(investable, 1),
            side_by_side(tuple(held), 2) if held else None,
        )


class PathObjective:
    """Loss of a batch, and the evaluation of the whole path that moves the multipliers.

    `measure` gives the limits' values on the whole training path, and further figures; `pace`
    the pace of the multipliers at evaluation 0, 1, 2, ...; `rank_ic` and `validation_value`
    those of the validation block, as the network stands; `select_by` which of the two
    `evaluate` returns. `records` has one dict per evaluation.
    """

    def __init__(
        self,
        network: AllocationNetwork,
        *,
        measure: Callable[[], tuple[dict[str, float], dict[str, float]]],
        ic_weight: float,
        mse_weight: float,
        sharpe_weight: float,
        return_weight: float,
        cost_per_side: float,
        pace: Callable[[int], float],
        rank_ic: Callable[[], float] | None,
        validation_value: Callable[[], float] | None,
        select_by: str,
    ) -> None:
        self.network, self.measure, self.pace = network, measure, pace
        self.rank_ic, self.validation_value = rank_ic, validation_value
        self.select_by = select_by
        self.scores = ScoreLoss(ic_weight, mse_weight)
        self.sharpe_weight, self.return_weight = sharpe_weight, return_weight
        self.cost_per_side = cost_per_side
        self.records: list[dict[str, Any]] = []

    def __call__(self, heads: Tensor, batch: PathBatch) -> LossParts:
        """Loss of (n_steps * n_sequences, n_assets, n_horizons) scores."""
        parts = self.scores(heads, batch.targets, batch.known)
        weights = self.network.weights(
            heads.unflatten(0, batch.investable.shape[:2]),
            batch.market,
            batch.log_volatility,
            batch.investable,
        )
        returns, traded = losses.held_path(
            weights, batch.growth, cost_per_side=self.cost_per_side, from_cash=False
        )
        paths = _paths(returns, traded, batch.held)
        sharpe = [losses.negative_sharpe(path).mean() for path, _ in paths]
        earned = [losses.mean_annual_return(path).mean() for path, _ in paths]
        total = parts.total + self.sharpe_weight * _mean(sharpe)
        total = total - self.return_weight * _mean(earned)
        multipliers = self.network.multipliers
        if multipliers.limits:
            threshold = self.network.threshold()
            risks = [smooth_risks(multipliers.limits, *path, threshold) for path in paths]
            total = total + _mean([multipliers.penalty(own) for own in risks])
        return LossParts(total, parts.ic)

    def evaluate(self) -> float:
        """Measure the whole path, move the multipliers, and return what to select a state by.

        NaN without a validation block: no state is better than another, and the last one stays.
        """
        values, figures = self.measure()
        limits = self.network.multipliers.update(values, self.pace(len(self.records)))
        validated = {
            "rank_ic": float("nan") if self.rank_ic is None else self.rank_ic(),
            "objective": float("nan") if self.validation_value is None else self.validation_value(),
        }
        named = {f"validation_{name}": value for name, value in validated.items()}
        self.records.append({**figures, **named, "limits": limits})
        return validated[self.select_by]

    def state(self) -> dict[str, Any]:
        """The records, for a fit that may have to go on from here."""
        return {"records": self.records}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken."""
        self.records = list(state["records"])


def _paths(returns: Tensor, traded: Tensor, held: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    """Paths of daily returns, each with what it trades: one by one where they differ in length."""
    if held is None:
        return [(returns, traded)]
    days = held.flatten(0, 1)
    return [(returns[days[:, k], k], traded[:, k]) for k in range(days.shape[1])]


def _mean(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(values).mean()


def calibrate(
    weights: Floats,
    returns: Floats,
    limits: PathLimits,
    *,
    cost_per_side: float,
    held: NDArray[np.bool_] | None = None,
) -> tuple[float, dict[str, dict[str, float]]]:
    """Reduce a portfolio's exposure by the least factor that keeps every limit on its path.

    Arguments as in `stats.performance.held_path`. Returns the scale, from 0 to 1 (1 where the
    limits hold already), and a dict as `RiskLimitedLSTM.limits_`.

    >>> returns = np.random.default_rng(0).normal(0.0, 0.01, (60, 1, 2))
    >>> scale, limits = calibrate(
    ...     np.full((60, 2), 0.5), returns, PathLimits(volatility=0.06), cost_per_side=0.0
    ... )
    >>> scale < 1.0, limits["volatility"]["trained"] > 0.06 >= limits["volatility"]["value"]
    (True, True)
    """
    active = limits.active()

    def realised(scale: float) -> dict[str, float]:
        path, traded = held_path(scale * weights, returns, cost_per_side=cost_per_side, held=held)
        return limits.measure(path, traded)

    def holds(scale: float) -> bool:
        return all(value <= active[name] for name, value in realised(scale).items())

    before, scale = realised(1.0), 1.0
    if not holds(1.0):
        scale, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = 0.5 * (scale + high)
            scale, high = (middle, high) if holds(middle) else (scale, middle)
    after = realised(scale)
    return scale, {
        name: {
            "limit": limit,
            "trained": before[name],
            "value": after[name],
            "violation": max(0.0, after[name] / limit - 1.0),
        }
        for name, limit in active.items()
    }
