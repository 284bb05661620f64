"""What a training step learns from: scaled series, and sequences of rows drawn at random.

And which rows an ensemble is fitted on, which choose the state to keep, and by what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alphakeel.errors import ConfigError, DataError
from alphakeel.models.losses import MIN_ASSETS, LossParts
from alphakeel.models.networks import SequenceNetwork, assemble, run
from alphakeel.models.persistence import expect
from alphakeel.stats.cross_section import rank_ic, zscore
from alphakeel.stats.splits import split_validation

__all__ = [
    "Batch",
    "ChunkSampler",
    "MIN_CHUNK",
    "MarketScale",
    "Sample",
    "mean_of_heads",
    "split_rows",
    "validator",
    "with_lead",
]

Floats32 = NDArray[np.float32]

# Small universes put several sequences into a step, up to this many columns (sequences x stocks):
# on a CPU the cost of a step hardly grows below it.
COLUMNS_PER_STEP = 80
# Market series beyond this many training standard deviations count as this many: a state never
# seen in training should look extreme, not drive the cell to its limits.
MARKET_LIMIT = 5.0

# Training on fewer counted rows than this is a mistake in the settings, not a study.
MIN_CHUNK = 8


@dataclass(frozen=True, eq=False)
class MarketScale:
    """Brings market series to training standard deviations, by `mean` and `deviation` (n_series,).

    A series that never moved has a deviation of 1 here: it says nothing, and stays at 0.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def of(cls, market: Floats32) -> Self:
        """Measure training rows (n_dates, n_series); NaN and infinities are unknown."""
        known = np.isfinite(market)
        number = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, market, 0.0).sum(axis=0, dtype=np.float64) / number
        distance = np.where(known, market - mean, 0.0)
        deviation = np.sqrt((distance**2).sum(axis=0) / number)
        return cls(mean, np.where(deviation > 0, deviation, 1.0))

    @classmethod
    def again(cls, name: str, saved: Mapping[str, Any], n_series: int) -> Self:
        """Make a saved scale again, refused where it is not one of so many series."""
        return cls(
            *(
                expect(f"{name} {part}", saved[part], (n_series,), np.float64)
                for part in ("mean", "deviation")
            )
        )

    def apply(self, market: Floats32) -> Floats32:
        """Scaled series within +-5 deviations; 0, the mean, where unknown."""
        with np.errstate(invalid="ignore"):
            scaled = (market - self.mean) / self.deviation
        scaled = np.where(np.isfinite(scaled), scaled, 0.0)
        return np.clip(scaled, -MARKET_LIMIT, MARKET_LIMIT).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step learns from.

    `inputs` (burn_in + n_dates, n_sequences * n_assets, n_inputs) have the sequences side by
    side; `targets` (n_dates * n_sequences, n_assets, n_horizons) follow the burn-in, one
    cross-section per date and sequence, 0 where not `known`.
    """

    inputs: Tensor
    targets: Tensor
    known: Tensor

    def cross_sections(self, outputs: Tensor) -> Tensor:
        """Outputs of a network after the burn-in, arranged as `targets` are."""
        n_assets = self.targets.shape[1]
        burn_in = len(outputs) - len(self.targets) * n_assets // outputs.shape[1]
        return outputs[burn_in:].reshape(-1, n_assets, outputs.shape[2])

    def loss(self, outputs: Tensor, loss_function: Callable[..., LossParts]) -> LossParts:
        """Loss of a network's outputs; a richer batch hands more to its loss than this one."""
        return loss_function(self.cross_sections(outputs), self.targets, self.known)


class ChunkSampler:
    """Draws random sequences of rows, and of stocks where there are many.

    A sequence has `burn_in` rows that only build up the state, and `chunk` rows that count. Of
    more than `batch_assets` stocks each draw takes others, among those with a known target in
    it. `features` are only read, one sequence at a time: they may be mapped from a file.
    `targets` are NaN where not known; a DataError if no sequence holds a date with enough of
    them for an IC.
    """

    def __init__(
        self,
        features: Floats32,
        market: Floats32,
        targets: Floats32,
        *,
        burn_in: int,
        chunk: int,
        batch_assets: int,
        rng: np.random.Generator,
        device: torch.device,
    ) -> None:
        self.features, self.market, self.targets = features, market, targets
        self.burn_in, self.chunk = burn_in, chunk
        self.batch_assets, self.rng, self.device = batch_assets, rng, device
        self.has_target: NDArray[np.bool_] = np.any(np.isfinite(targets), axis=2)
        usable = self.has_target.sum(axis=1) >= MIN_ASSETS
        dates_before = np.concatenate([[0], np.cumsum(usable)])
        n_starts = len(features) - burn_in - chunk + 1
        starts = np.arange(n_starts)
        in_sequence = dates_before[starts + burn_in + chunk] - dates_before[starts + burn_in]
        self.starts = starts[in_sequence > 0]
        if len(self.starts) == 0:
            raise DataError(
                f"no date after the burn-in of {burn_in} rows has {MIN_ASSETS} stocks with a known "
                f"target; give more stocks or more rows than {len(features)}"
            )
        n_assets = features.shape[1]
        self.n_sequences = max(1, min(COLUMNS_PER_STEP, batch_assets) // n_assets)
        # Several sequences hold all stocks each, so one record serves whatever was last drawn.
        self._drawn: NDArray[np.intp] = np.arange(n_assets)

    def draw(self) -> Batch:
        """Draw the next batch."""
        starts = self.rng.choice(self.starts, size=self.n_sequences)
        inputs, targets = [], []
        for start in starts:
            stop = start + self.burn_in + self.chunk
            assets = self._assets(slice(start + self.burn_in, stop))
            inputs.append(assemble(self.features[start:stop, assets], self.market[start:stop]))
            targets.append(self.targets[start + self.burn_in : stop, assets])
        stacked = torch.from_numpy(np.stack(targets, axis=1)).flatten(0, 1)
        known = torch.isfinite(stacked)
        return Batch(
            torch.from_numpy(np.concatenate(inputs, axis=1)).to(self.device),
            torch.where(known, stacked, 0.0).to(self.device),
            known.to(self.device),
        )

    def asset_of(self, column: int) -> int:
        """Column among all stocks of a column of the last batch drawn."""
        return int(self._drawn[column % len(self._drawn)])

    def state(self) -> dict[str, Any]:
        """Where the source of draws stands."""
        return {"rng": dict(self.rng.bit_generator.state)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken."""
        self.rng.bit_generator.state = state["rng"]

    def _assets(self, rows: slice) -> slice | NDArray[np.intp]:
        if self.features.shape[1] <= self.batch_assets:
            return slice(None)
        candidates = np.flatnonzero(self.has_target[rows].any(axis=0))
        if len(candidates) > self.batch_assets:
            candidates = np.sort(self.rng.choice(candidates, size=self.batch_assets, replace=False))
        self._drawn = candidates
        return candidates


@dataclass(frozen=True, eq=False)
class Sample:
    """What an ensemble is fitted and validated on.

    Market `series` are scaled, targets NaN where unknown. The first `n_fit` rows are to fit on,
    those of `block` (if any) to validate on.
    """

    features: Floats32
    series: Floats32
    targets: Floats32
    n_fit: int
    block: slice | None

    @property
    def fitted(self) -> tuple[Floats32, Floats32, Floats32]:
        """Features, series and targets of the rows to fit on."""
        rows = slice(0, self.n_fit)
        return self.features[rows], self.series[rows], self.targets[rows]


def split_rows(
    n_dates: int, *, burn_in: int, validation_share: float, purge: int
) -> tuple[int, slice | None]:
    """Rows to fit on, and the validation block at the end, with the purge between them.

    >>> split_rows(100, burn_in=10, validation_share=0.2, purge=5)
    (75, slice(80, 100, None))
    """
    fit, block = slice(0, n_dates), None
    if validation_share > 0:
        fit, block = split_validation(fit, validation_share, purge)
    if fit.stop - burn_in < MIN_CHUNK:
        raise ConfigError(
            f"burn_in of {burn_in} rows leaves fewer than {MIN_CHUNK} of the {fit.stop} rows to "
            f"fit on (of {n_dates}, less validation_share {validation_share:g} and purge {purge}); "
            "shorten it or give more rows"
        )
    return fit.stop, block


def with_lead(rows: slice, burn_in: int) -> slice:
    """Rows together with those before them that build up the state.

    >>> with_lead(slice(30, 40), 26), with_lead(slice(10, 40), 26)
    (slice(4, 40, None), slice(0, 40, None))
    """
    return slice(max(0, rows.start - burn_in), rows.stop)


def validator(network: SequenceNetwork, sample: Sample, burn_in: int) -> Callable[[], float] | None:
    """What gives the mean Rank IC of a network over the validation block, as the network stands.

    None without a block; a DataError if no date of the block can have one.
    """
    block = sample.block
    if block is None:
        return None
    targets = sample.targets[block]
    known: NDArray[np.bool_] = np.any(np.isfinite(targets), axis=2)
    if known.sum(axis=1).max() < MIN_ASSETS:
        raise DataError(
            f"no date of the validation block (the last {block.stop - block.start} rows) has "
            f"{MIN_ASSETS} stocks with a known target; set validation_share to 0 to do without"
        )
    # The purge is about targets, not features: the rows before the block may be seen.
    seen = with_lead(block, burn_in)

    def rank_ic_now() -> float:
        heads = run(network, sample.features[seen], sample.series[seen])
        by_date = rank_ic(mean_of_heads(heads[block.start - seen.start :], known), targets)
        return float(np.nanmean(by_date)) if np.isfinite(by_date).any() else 0.0

    return rank_ic_now


def mean_of_heads(heads: Floats32, present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over heads of their z-scores per date, (n_dates, n_assets); NaN where not present."""
    total = np.zeros(present.shape)
    for head in range(heads.shape[2]):
        total += zscore(heads[..., head], present)
    return total / heads.shape[2]
