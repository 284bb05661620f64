"""The numerics of integrated gradients: a score as a function of its inputs, and its integral."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from alphakeel.models.networks import SequenceNetwork

__all__ = ["integrate", "linear_in_heads"]

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

# Stock-dates that one pass forward and backward holds.
BLOCK_ENTRIES = 65_536
# Most points of the integral.
MAX_STEPS = 2048


def linear_in_heads(heads: Floats, present: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Score of the date as a linear function of its heads: slope of each head, and the score."""
    centred = heads - heads[present].mean(axis=0)
    deviation = heads[present].std(axis=0)
    weights = np.where(deviation > 0, 1.0 / np.where(deviation > 0, deviation, 1.0), 0.0)
    score = centred @ weights
    spread = score[present].std()
    if spread == 0:
        return np.zeros_like(weights), np.zeros_like(score)
    return weights / spread, score / spread


def integrate(
    network: SequenceNetwork,
    inputs: Floats32,
    weights: Floats,
    n_lags: int,
    n_factors: int,
    *,
    steps: int,
    tolerance: float | None,
) -> tuple[Floats, Floats]:
    """Values of shape (n_stocks, n_lags, n_factors), and the change of the score that they make.

    Parameters
    ----------
    inputs : float32 ndarray of shape (n_rows, n_stocks, n_inputs)
        The score is ``outputs[-1] @ weights``.
    steps, tolerance
        Points of the sum, doubled while a stock's values miss its change by more than
        `tolerance`, up to `MAX_STEPS`.
    """
    while True:
        values, change = _integrate(network, inputs, weights, n_lags, n_factors, steps)
        missed = float(np.abs(change - values.sum(axis=(1, 2))).max())
        if tolerance is None or not missed > tolerance or 2 * steps > MAX_STEPS:
            return values, change
        steps *= 2


def _integrate(
    network: SequenceNetwork,
    inputs: Floats32,
    weights: Floats,
    n_lags: int,
    n_factors: int,
    steps: int,
) -> tuple[Floats, Floats]:
    """`integrate` with a fixed number of points."""
    device = next(network.parameters()).device
    x = torch.from_numpy(inputs).to(device)
    base = x.clone()
    base[-n_lags:, :, :n_factors] = 0.0
    slope = torch.as_tensor(weights, dtype=x.dtype, device=device)
    nodes, shares = np.polynomial.legendre.leggauss(steps)
    n_rows, n_stocks, _ = x.shape
    stock, node = (grid.ravel() for grid in np.indices((n_stocks, steps)))
    size = max(1, BLOCK_ENTRIES // n_rows)
    mean = np.zeros((n_stocks, n_lags, n_factors))
    with torch.enable_grad():
        for first in range(0, len(stock), size):
            which, where = stock[first : first + size], node[first : first + size]
            place = torch.as_tensor((nodes[where] + 1.0) / 2.0, dtype=x.dtype, device=device)
            point = torch.lerp(base[:, which], x[:, which], place[None, :, None])
            point.requires_grad_()
            outputs = network(point)[0][-1, :, : len(weights)]
            gradient = torch.autograd.grad((outputs @ slope).sum(), point)[0]
            part = gradient[-n_lags:, :, :n_factors].flip(0).transpose(0, 1)
            share = shares[where] / 2.0
            np.add.at(mean, which, part.cpu().numpy() * share[:, None, None])
    with torch.inference_mode():
        ends = network(torch.cat([x, base], dim=1))[0][-1, :, : len(weights)].double().cpu()
    change = (ends[:n_stocks] - ends[n_stocks:]).numpy() @ weights
    distance = (x - base)[-n_lags:, :, :n_factors].flip(0).transpose(0, 1).cpu().numpy()
    return mean * distance, change
