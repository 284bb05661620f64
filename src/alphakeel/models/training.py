"""The one training loop: random stretches of time in, the best state out.

Sequence to sequence: the network runs once over a long stretch of dates for many stocks, and
every date after a burn-in gives a cross-section to the loss. One pass serves thousands of
predictions, where a window per sample would compute each of them from scratch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from alphakeel.errors import ConvergenceError, DataError
from alphakeel.models.allocator import kept_memory
from alphakeel.models.checkpoint import Checkpoint, Slot
from alphakeel.models.losses import MIN_ASSETS, LossParts
from alphakeel.models.networks import SequenceNetwork, assemble
from alphakeel.models.optimizer import AdamW, clip, one_cycle

__all__ = ["Batch", "ChunkSampler", "MarketScale", "Training", "one_thread", "train"]

Floats32 = NDArray[np.float32]

# Small universes put several stretches of time into a step, up to this many sequences: on a CPU
# the cost of a step hardly grows below it.
SEQUENCES_PER_STEP = 80
# Market series beyond this many training standard deviations count as this many: a state never
# seen in training should look extreme, not drive the cell to its limits.
MARKET_LIMIT = 5.0

_thread_lock = threading.Lock()
_thread_holders = 0
_threads_before = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch's kernels on one thread, in memory that is kept, and put both back afterwards.

    A kernel split over threads adds in another order, so results would depend on the number of
    cores; and folds fitted side by side would fight over them. The number is a setting of the
    process: it is put back when the last of several fits running in threads leaves. So are the
    thresholds of `kept_memory`.
    """
    global _thread_holders, _threads_before
    with _thread_lock:
        if _thread_holders == 0:
            _threads_before = torch.get_num_threads()
        _thread_holders += 1
        torch.set_num_threads(1)
    try:
        with kept_memory():
            yield
    finally:
        with _thread_lock:
            _thread_holders -= 1
            if _thread_holders == 0:
                torch.set_num_threads(_threads_before)


@dataclass(frozen=True, eq=False)
class MarketScale:
    """Brings market series to training standard deviations.

    Attributes
    ----------
    mean, deviation : float64 ndarray of shape (n_series,)
        Over the known training rows. A series that never moved has a deviation of 1 here: it
        says nothing, and stays at 0.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def of(cls, market: Floats32) -> Self:
        """Measure training rows of shape (n_dates, n_series); NaN and infinities are unknown."""
        known = np.isfinite(market)
        number = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, market, 0.0).sum(axis=0, dtype=np.float64) / number
        distance = np.where(known, market - mean, 0.0)
        deviation = np.sqrt((distance**2).sum(axis=0) / number)
        return cls(mean, np.where(deviation > 0, deviation, 1.0))

    def apply(self, market: Floats32) -> Floats32:
        """Scaled series within +-5 deviations; 0, the mean, where unknown."""
        with np.errstate(invalid="ignore"):
            scaled = (market - self.mean) / self.deviation
        scaled = np.where(np.isfinite(scaled), scaled, 0.0)
        return np.clip(scaled, -MARKET_LIMIT, MARKET_LIMIT).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step learns from.

    Attributes
    ----------
    inputs : Tensor of shape (burn_in + n_dates, n_stretches * n_assets, n_inputs)
        The stretches side by side.
    targets : Tensor of shape (n_dates * n_stretches, n_assets, n_horizons)
        After the burn-in; one cross-section per date and stretch; 0 where not known.
    known : bool Tensor of the shape of `targets`
        Which targets count.
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
        """Have the outputs of a network judged; a richer batch hands over more than this one."""
        return loss_function(self.cross_sections(outputs), self.targets, self.known)


class ChunkSampler:
    """Draws random stretches of rows, and of stocks where there are many.

    Parameters
    ----------
    features : float32 ndarray of shape (n_dates, n_assets, n_factors)
        Only read, one stretch at a time: it may be mapped from a file.
    market : float32 ndarray of shape (n_dates, n_series)
        Scaled market series.
    targets : float32 ndarray of shape (n_dates, n_assets, n_horizons)
        NaN where not known.
    burn_in, chunk : int
        Rows that only build up the state, and rows that count, of each stretch; together at most
        n_dates.
    batch_assets : int
        Most stocks of a stretch. Where there are more, each draw takes others, among those
        with a known target in it.
    rng : numpy Generator
        Source of the draws.
    device : torch.device
        Where batches are put.

    Raises
    ------
    DataError
        If no stretch holds a date with enough known targets for an IC.
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
        in_stretch = dates_before[starts + burn_in + chunk] - dates_before[starts + burn_in]
        self.starts = starts[in_stretch > 0]
        if len(self.starts) == 0:
            raise DataError(
                f"no date after the burn-in of {burn_in} rows has {MIN_ASSETS} stocks with a known "
                f"target; give more stocks or more rows than {len(features)}"
            )
        n_assets = features.shape[1]
        self.n_stretches = max(1, min(SEQUENCES_PER_STEP, batch_assets) // n_assets)
        # Several stretches hold all stocks each, so one record serves whatever was last drawn.
        self._drawn: NDArray[np.intp] = np.arange(n_assets)

    def draw(self) -> Batch:
        """Draw the next batch."""
        starts = self.rng.choice(self.starts, size=self.n_stretches)
        inputs, targets = [], []
        for start in starts:
            stop = start + self.burn_in + self.chunk
            assets = self._assets(slice(start + self.burn_in, stop))
            inputs.append(assemble(self.features[start:stop, assets], self.market[start:stop]))
            targets.append(self.targets[start + self.burn_in : stop, assets])
        goals = torch.from_numpy(np.stack(targets, axis=1)).flatten(0, 1)
        known = torch.isfinite(goals)
        return Batch(
            torch.from_numpy(np.concatenate(inputs, axis=1)).to(self.device),
            torch.where(known, goals, 0.0).to(self.device),
            known.to(self.device),
        )

    def asset_of(self, sequence: int) -> int:
        """Column among all stocks of a sequence of the last batch drawn."""
        return int(self._drawn[sequence % len(self._drawn)])

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


@dataclass
class Training:
    """How one network was trained.

    Attributes
    ----------
    history : list of dict
        One entry per evaluation: seed, step, train_loss and train_ic (means over the steps since
        the entry before), validation_rank_ic (NaN without a validation block).
    best_step : int
        The step whose state was kept.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    best_step: int = 0


def train(
    network: SequenceNetwork,
    sampler: ChunkSampler,
    loss_function: Callable[..., LossParts],
    *,
    seed: int,
    member: int,
    noise: Generator,
    max_steps: int,
    learning_rate: float,
    weight_decay: float,
    evaluate_every: int,
    patience: int | None,
    validate: Callable[[], float] | None,
    on_progress: Callable[[int, int, int, float], object] | None = None,
    slot: Slot | None = None,
    dtype: torch.dtype = torch.float32,
    input_noise: float = 0.0,
) -> Training:
    """Train a network in place and leave it in its best state.

    Parameters
    ----------
    network, sampler, loss_function
        What is trained, on what, and for what.
    seed, member : int
        Name of this network in the history and in errors, and its place in the ensemble.
    noise : Generator
        Source of the dropout masks and of the input noise.
    max_steps, learning_rate, weight_decay
        Steps, peak of `one_cycle`, and decay of `AdamW`. Gradients are clipped to a norm of 1.
    evaluate_every : int
        Steps between two evaluations; the last step is one as well.
    patience : int, optional
        Stop after this many evaluations without a better one; by default only the choice of the
        best state stops early, and the schedule runs to its end.
    validate : callable, optional
        Gives the validation Rank IC of the network as it is. None keeps the last state.
    on_progress : callable, optional
        Called after each step with (member, step, max_steps, loss).
    slot : Slot, optional
        Where to keep progress at each evaluation, and to go on from if there is some: the result
        is the same to the bit. The network, the optimizer, the sources of draws, and a loss or
        validation that is `Resumable` are kept.
    dtype : torch.dtype, default=torch.float32
        Type of the network's matrix products in training; see `training_dtype`.
    input_noise : float, default=0.0
        Standard deviation of the Gaussian noise added to the factors of each batch, in the units
        of the factors; 0 draws nothing.

    Raises
    ------
    ConvergenceError
        If a loss or gradient is not finite; with the factor and stock of the largest input. The
        network is left in its last good state: the best one, or without a choice the one of the
        last evaluation, from which a step is known to have been finite.
    """
    parameters = list(network.parameters())
    optimizer = AdamW(parameters, weight_decay)
    result = Training()
    best, best_state = -np.inf, None
    good_state: dict[str, Tensor] | None = None
    losses: list[float] = []
    ics: list[float] = []
    checkpoint = Checkpoint(
        slot,
        network=network,
        optimizer=optimizer,
        sampler=sampler,
        noise=noise,
        loss=loss_function,
        validation=validate,
    )
    first = 1
    kept = checkpoint.load()
    if kept is not None:
        result.history, result.best_step, best = kept["history"], kept["best_step"], kept["best"]
        best_state = {name: torch.from_numpy(x) for name, x in kept["best_state"].items()} or None
        good_state = best_state
        first = max_steps + 1 if kept["finished"] else kept["step"] + 1
        if on_progress is not None:
            on_progress(member, first - 1, max_steps, result.history[-1]["train_loss"])
    for step in range(first, max_steps + 1):
        batch = sampler.draw()
        with torch.autocast(batch.inputs.device.type, dtype, enabled=dtype != torch.float32):
            inputs = _disturbed(batch.inputs, sampler.features.shape[2], input_noise, noise)
            outputs, _ = network(inputs, noise=noise)
        parts = batch.loss(outputs.float(), loss_function)
        parts.total.backward()
        norm = clip(parameters)
        loss = float(parts.total.detach())
        if not (isfinite(loss) and isfinite(norm)):
            if good_state is not None:
                network.load_state_dict(good_state)
            raise _diverged(seed, step, loss, batch, sampler)
        if step == first or (step - 1) % evaluate_every == 0:
            # Only now is it known that the state of the last evaluation gives finite numbers.
            good_state = _copied(network) if best_state is None else best_state
        optimizer.step(one_cycle(step - 1, max_steps, learning_rate))
        losses.append(loss)
        ics.append(float(parts.ic))
        if on_progress is not None:
            on_progress(member, step, max_steps, loss)
        if step % evaluate_every and step != max_steps:
            continue
        score = float("nan") if validate is None else validate()
        result.history.append(
            {
                "seed": seed,
                "step": step,
                "train_loss": float(np.mean(losses)),
                "train_ic": float(np.mean(ics)),
                "validation_rank_ic": score,
            }
        )
        losses, ics = [], []
        if validate is None or score > best:
            best, result.best_step = score, step
            best_state = _copied(network)
        finished = step == max_steps or (
            patience is not None and step - result.best_step >= patience * evaluate_every
        )
        checkpoint.save(
            step=step,
            finished=finished,
            history=result.history,
            best=best,
            best_step=result.best_step,
            best_state=best_state or {},
        )
        if finished:
            break
    if best_state is not None:
        network.load_state_dict(best_state)
    return result


def _copied(network: SequenceNetwork) -> dict[str, Tensor]:
    return {name: x.detach().clone() for name, x in network.state_dict().items()}


def _disturbed(inputs: Tensor, n_factors: int, deviation: float, noise: Generator) -> Tensor:
    """Add Gaussian noise to the factors, and none to the market series after them."""
    if deviation == 0.0:
        return inputs
    factors = inputs[..., :n_factors]
    shift = torch.empty_like(factors).normal_(0.0, deviation, generator=noise)
    return torch.cat([factors + shift, inputs[..., n_factors:]], dim=-1)


def _diverged(
    seed: int, step: int, loss: float, batch: Batch, sampler: ChunkSampler
) -> ConvergenceError:
    # Market series are limited to MARKET_LIMIT, so what stands out is sought among the factors.
    n_factors = sampler.features.shape[2]
    largest = batch.inputs[..., :n_factors].abs().amax(dim=0)
    sequence, factor = divmod(int(largest.argmax()), n_factors)
    asset = sampler.asset_of(sequence)
    problem = "gradient" if isfinite(loss) else f"loss ({loss})"
    return ConvergenceError(
        f"training diverged: the {problem} of seed {seed} at step {step} is not finite; the "
        f"largest input is {float(largest[sequence, factor]):.3g} in factor column {factor}, "
        f"stock column {asset}: check that series, or lower the learning rate",
        factor=factor,
        asset=asset,
    )
