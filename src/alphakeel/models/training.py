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
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from alphakeel.errors import ConvergenceError
from alphakeel.models.allocator import kept_memory
from alphakeel.models.checkpoint import Checkpoint, Slot
from alphakeel.models.losses import LossParts
from alphakeel.models.networks import SequenceNetwork
from alphakeel.models.optimizer import AdamW, clip, one_cycle
from alphakeel.models.sampling import Batch, ChunkSampler, MarketScale

__all__ = ["Batch", "ChunkSampler", "MarketScale", "Training", "one_thread", "train"]

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


class _States:
    """States of a network to go back to: the best one, and the last that is known to be sound."""

    def __init__(self, network: SequenceNetwork) -> None:
        self.network = network
        self.score = -np.inf
        self.best: dict[str, Tensor] | None = None
        self.sound: dict[str, Tensor] | None = None

    def resume(self, score: float, best: dict[str, Any]) -> None:
        """Take up kept arrays; there are none where nothing was chosen yet."""
        self.score = score
        self.best = {name: torch.from_numpy(x) for name, x in best.items()} or None
        self.sound = self.best

    def keep_best(self, score: float) -> None:
        """The network as it is has this score, and is the one to keep."""
        self.score, self.best = score, self._copied()

    def keep_sound(self) -> None:
        """The network as it is gives finite numbers; a best one that did is kept before it."""
        self.sound = self._copied() if self.best is None else self.best

    def go_back(self, state: dict[str, Tensor] | None) -> None:
        """Put one of the states back, if there is one."""
        if state is not None:
            self.network.load_state_dict(state)

    def _copied(self) -> dict[str, Tensor]:
        return {name: x.detach().clone() for name, x in self.network.state_dict().items()}


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
    states, result = _States(network), Training()
    report = (lambda *_: None) if on_progress is None else on_progress
    losses: list[tuple[float, float]] = []  # with the IC, since the last evaluation
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
        result = Training(kept["history"], kept["best_step"])
        states.resume(kept["best"], kept["best_state"])
        first = max_steps + 1 if kept["finished"] else kept["step"] + 1
        report(member, first - 1, max_steps, result.history[-1]["train_loss"])
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
            states.go_back(states.sound)
            raise _diverged(seed, step, loss, batch, sampler)
        if step == first or (step - 1) % evaluate_every == 0:
            # Only now is it known that the state of the last evaluation gives finite numbers.
            states.keep_sound()
        optimizer.step(one_cycle(step - 1, max_steps, learning_rate))
        losses.append((loss, float(parts.ic)))
        report(member, step, max_steps, loss)
        if step % evaluate_every and step != max_steps:
            continue
        score = float("nan") if validate is None else validate()
        result.history.append(_entry(seed, step, losses, score))
        losses = []
        if validate is None or score > states.score:
            result.best_step = step
            states.keep_best(score)
        waited = step - result.best_step
        stops = patience is not None and waited >= patience * evaluate_every
        finished = stops or step == max_steps
        checkpoint.save(
            step=step,
            finished=finished,
            history=result.history,
            best=states.score,
            best_step=result.best_step,
            best_state=states.best or {},
        )
        if finished:
            break
    states.go_back(states.best)
    return result


def _entry(seed: int, step: int, losses: list[tuple[float, float]], score: float) -> dict[str, Any]:
    """What an evaluation adds to the history."""
    loss, ic = (float(np.mean(column)) for column in zip(*losses, strict=True))
    return {
        "seed": seed,
        "step": step,
        "train_loss": loss,
        "train_ic": ic,
        "validation_rank_ic": score,
    }


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
