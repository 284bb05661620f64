"""What it takes to train on a portfolio's path: its batches, its exposure and its loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alphakeel.models import losses
from alphakeel.models.allocation_network import (
    AllocationNetwork,
    PastData,
    PathData,
    smooth_risks,
)
from alphakeel.models.exposure import Past, composition_risk, exposure_of, own_path
from alphakeel.models.losses import LossParts, ScoreLoss
from alphakeel.models.networks import assemble
from alphakeel.models.sampling import Batch, ChunkSampler
from alphakeel.stats.exposure_rules import CompositionRisk

__all__ = [
    "Exposure",
    "PathBatch",
    "PathObjective",
    "PathSampler",
    "growth_of",
    "past_of",
    "path_risk",
]

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

# Rows whose risk is forecast together.
ROWS_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class PathBatch(Batch):
    """Sequences of the training path, one portfolio each, after the burn-in.

    First axes (n_steps, n_sequences): `log_volatility`, `investable`; and `growth` (n_steps,
    n_days, n_sequences, n_assets), the cumulative simple return since the trade; `past` is what
    was known of the stocks before each step. `held` (n_steps, n_days, n_sequences) is False on the
    days after a shorter step; None where all steps are as long.
    """

    growth: Tensor
    log_volatility: Tensor
    investable: Tensor
    past: Past
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
        self.data, self.past = data, past_of(data)
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
                    self.growth[first:stop, :, assets],
                    self.data.log_volatility[first:stop, assets],
                    self.data.investable[first:stop, assets],
                    *self.past.of_rows(slice(first, stop), assets),
                )
            )
        inputs, targets, growth, log_volatility, investable, *past = zip(*parts, strict=True)

        def side_by_side(pieces: tuple[NDArray[Any], ...], axis: int) -> Tensor:
            return torch.from_numpy(np.stack(pieces, axis=axis)).to(self.device)

        stacked = side_by_side(targets, 1).flatten(0, 1)
        known = torch.isfinite(stacked)
        return PathBatch(
            torch.from_numpy(np.concatenate(inputs, axis=1)).to(self.device),
            torch.where(known, stacked, 0.0),
            known,
            side_by_side(growth, 2),
            side_by_side(log_volatility, 1),
            side_by_side(investable, 1),
            Past(*(side_by_side(_as_long(pieces), 0) for pieces in past)),
            side_by_side(tuple(held), 2) if held else None,
        )


def _as_long(pieces: tuple[NDArray[Any], ...]) -> tuple[NDArray[Any], ...]:
    """Days of several sequences at one length: zeros, which nobody looks at, behind the shorter."""
    longest = max(map(len, pieces))
    return tuple(
        np.concatenate([x, np.zeros((longest - len(x), *x.shape[1:]), dtype=x.dtype)])
        for x in pieces
    )


class PathObjective:
    """Loss of a batch, and the evaluation of the whole path that moves the multipliers.

    `exposure` holds compositions under the limits; `measure` gives the limits' values on the whole
    training path, and further figures; `pace` the pace of the multipliers at evaluation 0, 1, 2,
    ...; `rank_ic` and `validation_value` those of the validation block, as the network stands;
    `select_by` which of the two `evaluate` returns. `records` has one dict per evaluation.
    """

    def __init__(
        self,
        network: AllocationNetwork,
        *,
        exposure: Exposure,
        measure: Callable[[], tuple[dict[str, float], dict[str, float]]],
        ic_weight: float,
        mse_weight: float,
        sharpe_weight: float,
        return_weight: float,
        path_gradient: float,
        pace: Callable[[int], float],
        rank_ic: Callable[[], float] | None,
        validation_value: Callable[[], float] | None,
        select_by: str,
    ) -> None:
        self.network, self.exposure = network, exposure
        self.measure, self.pace = measure, pace
        self.rank_ic, self.validation_value = rank_ic, validation_value
        self.select_by = select_by
        self.scores = ScoreLoss(ic_weight, mse_weight)
        self.sharpe_weight, self.return_weight = sharpe_weight, return_weight
        self.path_gradient = path_gradient
        self.records: list[dict[str, Any]] = []

    def __call__(self, heads: Tensor, batch: PathBatch) -> LossParts:
        """Loss of (n_steps * n_sequences, n_assets, n_horizons) scores."""
        parts = self.scores(heads, batch.targets, batch.known)
        # The same numbers, of which the scores see only a share of the path's slopes.
        seen = heads.detach() + self.path_gradient * (heads - heads.detach())
        shares = self.network.path_shares(
            seen.unflatten(0, batch.investable.shape[:2]), batch.log_volatility, batch.investable
        )
        weights = shares * self.exposure.of_batch(shares, batch).unsqueeze(-1)
        returns, traded = losses.held_path(
            weights, batch.growth, cost_per_side=self.exposure.cost_per_side, from_cash=False
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


@dataclass(frozen=True)
class Exposure:
    """How compositions are held under limits, in training: limits, safety factors, lag and cost."""

    limits: Mapping[str, float]
    factors: Mapping[str, float]
    lag: int
    cost_per_side: float

    def of_batch(self, shares: Tensor, batch: PathBatch) -> Tensor:
        """Exposure of each step and sequence, with slopes; their wealth starts with the batch."""
        if not self.limits:
            return torch.ones(shares.shape[:-1], device=shares.device)
        growth, turnover = own_path(shares, batch.growth)
        risk = composition_risk(shares, batch.past)
        return self._of(risk, growth, turnover, from_cash=False, held=batch.held)

    def of_path(self, shares: Floats, data: PathData) -> Floats:
        """Exposure of each row of a path that starts in cash, (n_dates,)."""
        if not self.limits:
            return np.ones(len(shares))
        risk = path_risk(shares, data)
        own = own_path(torch.from_numpy(shares)[:, None], growth_of(data.returns)[:, :, None])
        held = None if data.held is None else torch.from_numpy(data.held)[:, :, None]
        return np.asarray(self._of(risk, *own, from_cash=True, held=held)[:, 0].numpy())

    def _of(
        self,
        risk: CompositionRisk,
        growth: Tensor,
        turnover: Tensor,
        *,
        from_cash: bool,
        held: Tensor | None,
    ) -> Tensor:
        return exposure_of(
            risk,
            growth,
            turnover,
            limits=self.limits,
            factors=self.factors,
            lag=self.lag,
            cost_per_side=self.cost_per_side,
            from_cash=from_cash,
            held=held,
        )


def past_of(data: PathData) -> PastData:
    """What was known of the stocks; `PathData` has it wherever a portfolio is trained."""
    assert data.past is not None  # noqa: S101  (`fit` gives it)
    return data.past


def growth_of(returns: Floats) -> Tensor:
    """Cumulative returns of stocks since each row's trade, (n_dates, n_days, n_assets)."""
    return torch.from_numpy(np.cumprod(1.0 + returns, axis=1) - 1.0)


@torch.no_grad()
def path_risk(shares: Floats, data: PathData) -> CompositionRisk:
    """Risk of the composition of each row, (n_dates, 1), some rows at a time."""
    past, parts = past_of(data), []
    for start in range(0, len(shares), ROWS_AT_ONCE):
        rows = slice(start, min(start + ROWS_AT_ONCE, len(shares)))
        returns, known, day = (torch.from_numpy(x)[None] for x in past.of_rows(rows))
        own = torch.from_numpy(shares[rows])[:, None]
        parts.append(composition_risk(own, Past(returns.to(own.dtype), known, day)))
    return CompositionRisk(*(torch.cat(part) for part in zip(*parts, strict=True)))
