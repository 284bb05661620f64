"""The one training loop: random sequences of rows in, the best state out.

Sequence to sequence: the network runs once over many dates for many stocks, and every date
after a burn-in gives a cross-section to the loss. One pass serves thousands of predictions,
where a window per sample would compute each of them from scratch.

With it the optimiser, the precision, and how memory is reused: a training step allocates and
frees the same buffers of some ten megabytes again and again. By default glibc returns them to
the system each time, and every page of them is cleared and mapped anew at the next step: that
was about half of the processor time of an LSTM's training. Torch has no pool of its own on a
CPU.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import cos, isfinite, pi, sqrt
from typing import Any, cast

import numpy as np
import torch
from torch import Generator, Tensor

from alphakeel.errors import ConfigError, ConvergenceError
from alphakeel.models.losses import LossParts
from alphakeel.models.networks import SequenceNetwork
from alphakeel.models.persistence import Checkpoint, Slot
from alphakeel.models.sampling import Batch, ChunkSampler
from alphakeel.progress import raise_if_cancelled

__all__ = [
    "AdamW",
    "PRECISIONS",
    "Training",
    "clip_gradients",
    "one_cycle",
    "one_thread",
    "reuse_memory",
    "train",
    "training_dtype",
]

_thread_lock = threading.Lock()
_thread_holders = 0
_threads_before = 1

CLIP_NORM = 1.0

PRECISIONS = ("float32", "bfloat16", "auto")

MEBIBYTE = 1 << 20
# Names in glibc's malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
# Blocks below 1 GiB come from the heap, which shrinks only when as much lies free at its end, and
# grows by 256 MiB of address space (memory is taken page by page, when it is first used).
WHILE_FITTING = {MMAP_THRESHOLD: 1024, TRIM_THRESHOLD: 1024, TOP_PAD: 256}
# What glibc's own rule tends to in a process that frees large blocks; its starting point, 128 KiB,
# would slow down everything that comes later, because setting a threshold disables that rule.
AFTERWARDS = {MMAP_THRESHOLD: 32, TRIM_THRESHOLD: 64, TOP_PAD: 0}

_lock = threading.Lock()
_holders = 0


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch's kernels on one thread, with `reuse_memory`, and put both back afterwards.

    A kernel split over threads adds in another order, so results would depend on the number of
    cores; and folds fitted side by side would fight over them. The number is a setting of the
    process: it is put back when the last of several fits running in threads leaves.
    """
    global _thread_holders, _threads_before
    with _thread_lock:
        if _thread_holders == 0:
            _threads_before = torch.get_num_threads()
        _thread_holders += 1
        torch.set_num_threads(1)
    try:
        with reuse_memory():
            yield
    finally:
        with _thread_lock:
            _thread_holders -= 1
            if _thread_holders == 0:
                torch.set_num_threads(_threads_before)


@dataclass
class Training:
    """How one network was trained: the step whose state it has, and one entry per evaluation.

    An entry has seed, step, train_loss and train_ic (means over the steps since the entry
    before) and validation_rank_ic (NaN without a validation block).
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
        """Take up saved arrays; there are none where nothing was chosen yet."""
        self.score = score
        self.best = {name: torch.from_numpy(x) for name, x in best.items()} or None
        self.sound = self.best

    def mark_best(self, score: float) -> None:
        """The network as it is has this score, and is the one to go back to."""
        self.score, self.best = score, self._copied()

    def mark_sound(self) -> None:
        """The network as it is gives finite numbers; a best one that did comes before it."""
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
        Gives the validation Rank IC of the network as it is. None ends with the last state.
    on_progress : callable, optional
        Called after each step with (member, step, max_steps, loss).
    slot : Slot, optional
        Where to save progress at each evaluation, and to go on from if there is some: the result
        is the same to the bit. The network, the optimizer, the sources of draws, and a loss or
        validation that is `Resumable` are saved.
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
    saved = checkpoint.load()
    if saved is not None:
        result = Training(saved["history"], saved["best_step"])
        states.resume(saved["best"], saved["best_state"])
        first = max_steps + 1 if saved["finished"] else saved["step"] + 1
        report(member, first - 1, max_steps, result.history[-1]["train_loss"])
    for step in range(first, max_steps + 1):
        raise_if_cancelled()
        batch = sampler.draw()
        with torch.autocast(batch.inputs.device.type, dtype, enabled=dtype != torch.float32):
            inputs = _disturbed(batch.inputs, sampler.features.shape[2], input_noise, noise)
            outputs, _ = network(inputs, noise=noise)
        parts = batch.loss(outputs.float(), loss_function)
        parts.total.backward()
        norm = clip_gradients(parameters)
        loss = float(parts.total.detach())
        if not (isfinite(loss) and isfinite(norm)):
            states.go_back(states.sound)
            raise _diverged(seed, step, loss, batch, sampler)
        if step == first or (step - 1) % evaluate_every == 0:
            # Only now is it known that the state of the last evaluation gives finite numbers.
            states.mark_sound()
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
            states.mark_best(score)
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
    column, factor = divmod(int(largest.argmax()), n_factors)
    asset = sampler.asset_of(column)
    problem = "gradient" if isfinite(loss) else f"loss ({loss})"
    return ConvergenceError(
        f"training diverged: the {problem} of seed {seed} at step {step} is not finite; the "
        f"largest input is {float(largest[column, factor]):.3g} in factor column {factor}, "
        f"stock column {asset}: check that series, or lower the learning rate",
        factor=factor,
        asset=asset,
    )


def one_cycle(step: int, n_steps: int, peak: float) -> float:
    """Learning rate of a step: up from peak / 25 over 30 % of the steps, then down to peak / 25e4.

    Both halves follow a cosine. See Smith, Topin (2019), "Super-convergence",
    https://doi.org/10.1117/12.2520589; the constants are those of torch's `OneCycleLR`.

    >>> [round(one_cycle(step, 10, 1.0), 3) for step in (0, 2, 9)]
    [0.04, 1.0, 0.0]
    """
    top = max(0.3 * n_steps - 1.0, 0.0)
    low, high = peak / 25.0, peak
    if step <= top:
        share = step / top if top else 1.0
        start, end = low, high
    else:
        share = (step - top) / max(n_steps - 1.0 - top, 1.0)
        start, end = high, low / 1e4
    return end + (start - end) * (1.0 + cos(pi * min(share, 1.0))) / 2.0


class AdamW:
    """Adam with decoupled weight decay (Loshchilov, Hutter, 2019, arXiv:1711.05101).

    The same arithmetic as `torch.optim.AdamW` (a test compares them). Written out because
    torch's imports a compiler, for more than a second of every process, that is not used here
    (docs/decisions/0009-own-adamw.md).
    """

    def __init__(self, parameters: list[torch.nn.Parameter], weight_decay: float) -> None:
        self.parameters = parameters
        self.weight_decay = weight_decay
        self.steps = 0
        self.mean = [torch.zeros_like(p) for p in parameters]
        self.square = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move by the gradients held in the parameters, then drop them."""
        self.steps += 1
        first, second = 1.0 - 0.9**self.steps, 1.0 - 0.999**self.steps
        for p, mean, square in zip(self.parameters, self.mean, self.square, strict=True):
            if p.grad is None:
                continue
            p.mul_(1.0 - learning_rate * self.weight_decay)
            mean.lerp_(p.grad, 0.1)
            square.mul_(0.999).addcmul_(p.grad, p.grad, value=0.001)
            p.addcdiv_(
                mean, (square.sqrt() / sqrt(second)).add_(1e-8), value=-learning_rate / first
            )
            p.grad = None

    def state(self) -> dict[str, Any]:
        """Number of steps and both moments, for a fit that may have to go on from here."""
        moments = enumerate(zip(self.mean, self.square, strict=True))
        return {
            "steps": self.steps,
            "moments": {str(i): {"mean": mean, "square": square} for i, (mean, square) in moments},
        }

    @torch.no_grad()
    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken."""
        self.steps = state["steps"]
        for i, (mean, square) in enumerate(zip(self.mean, self.square, strict=True)):
            moments = state["moments"][str(i)]
            mean.copy_(torch.as_tensor(moments["mean"]))
            square.copy_(torch.as_tensor(moments["square"]))


def clip_gradients(parameters: list[torch.nn.Parameter]) -> float:
    """Scale gradients down to a joint norm of `CLIP_NORM`; return the norm that they had."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = float(torch.sqrt(sum(((g * g).sum() for g in gradients), torch.zeros(()))))
    if norm > CLIP_NORM:
        for gradient in gradients:
            gradient.mul_(CLIP_NORM / norm)
    return norm


def training_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Type of the matrix products of training; weights, losses and predictions stay float32.

    ``"bfloat16"`` keeps 8 bits of the factors of a product and adds in float32; the exponent is
    float32's, so that gradients need no scaling. ``"auto"`` takes it where the processor
    multiplies in it (GPU from Ampere on, CPU with AVX512-BF16 or AMX), where it is nearly twice
    as fast. Elsewhere it would be emulated, and slower: there ``"bfloat16"`` is refused.
    """
    if precision not in PRECISIONS:
        raise ConfigError(
            f"precision must be one of {', '.join(map(repr, PRECISIONS))}, not {precision!r}"
        )
    if precision == "float32":
        return torch.float32
    if _is_native(device):
        return torch.bfloat16
    if precision == "bfloat16":
        raise ConfigError(
            f"device {str(device)!r} does not multiply in bfloat16, which would be slower than "
            "float32; set precision to 'float32' or 'auto'"
        )
    return torch.float32


def _is_native(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@contextmanager
def reuse_memory() -> Iterator[None]:
    """Let the C library hold freed memory for the next step, until the last fit leaves.

    The thresholds are settings of the whole process. They are raised when the first of several
    fits running in threads enters; when the last leaves, what is free goes back to the system
    and the thresholds fall to 32 and 64 MiB, where glibc's own rule would have taken them. They
    concern speed and resident memory, never a result. It has an effect with glibc (Linux) only:
    elsewhere, and with another allocator preloaded, nothing happens. In a thread other than the
    main one, glibc still hands back single buffers above 64 MiB. See mallopt(3),
    https://man7.org/linux/man-pages/man3/mallopt.3.html.
    """
    global _holders
    with _lock:
        _holders += 1
        if _holders == 1:
            _set(WHILE_FITTING)
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                _set(AFTERWARDS)
                _trim()


def _set(sizes: dict[int, int]) -> None:
    change = _glibc("mallopt")
    if change is not None:
        for name, mebibytes in sizes.items():
            change(name, mebibytes * MEBIBYTE)


def _trim() -> None:
    give_back = _glibc("malloc_trim")
    if give_back is not None:
        give_back(ctypes.c_size_t(0))


def _glibc(name: str) -> Callable[..., int] | None:
    """A function of glibc, or None where the C library is another one."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  (raises where it is not glibc)
        return cast("Callable[..., int]", getattr(library, name))
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library None
        return None
