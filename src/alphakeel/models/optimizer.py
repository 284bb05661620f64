"""How a network's weights move: the step, its size over time, and its limit."""

from __future__ import annotations

from math import cos, pi, sqrt
from typing import Any

import torch

__all__ = ["AdamW", "clip", "one_cycle"]

CLIP_NORM = 1.0


def one_cycle(step: int, n_steps: int, peak: float) -> float:
    """Learning rate of a step: up from peak / 25 over 30 % of the steps, then down to peak / 25e4.

    Both halves follow a cosine. See Smith, Topin (2019), "Super-convergence",
    https://doi.org/10.1117/12.2520589; the constants are those of torch's `OneCycleLR`.

    Examples
    --------
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
    """Adam with decoupled weight decay (Loshchilov, Hutter, 2019, https://arxiv.org/abs/1711.05101).

    The same arithmetic as `torch.optim.AdamW` (a test compares them). Written out because
    torch's imports a compiler, for more than a second of every process, that is not used here
    (docs/decisions/0009-own-adamw.md).

    Parameters
    ----------
    parameters : list of Parameter
        Updated in place.
    weight_decay : float
        Share of a weight removed per unit of learning rate.
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
            kept = state["moments"][str(i)]
            mean.copy_(torch.as_tensor(kept["mean"]))
            square.copy_(torch.as_tensor(kept["square"]))


def clip(parameters: list[torch.nn.Parameter]) -> float:
    """Scale gradients down to a joint norm of `CLIP_NORM`; return the norm that they had."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = float(torch.sqrt(sum(((g * g).sum() for g in gradients), torch.zeros(()))))
    if norm > CLIP_NORM:
        for gradient in gradients:
            gradient.mul_(CLIP_NORM / norm)
    return norm
