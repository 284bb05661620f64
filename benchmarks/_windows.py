"""The usual way to train a sequence model, for comparison: a window of rows for each prediction.

Written as well as can be: time first, a whole cross-section for each date of a batch, the network,
loss, optimizer, schedule and reused memory of the package. Only the batches differ.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from alphakeel.models.losses import ScoreLoss
from alphakeel.models.networks import LSTMNetwork, run
from alphakeel.models.training import AdamW, clip_gradients, one_cycle, one_thread
from alphakeel.stats.cross_section import rank_ic


@dataclass(frozen=True)
class Panel:
    """Features (n_dates, n_assets, n_factors), targets (n_dates, n_assets), and the split."""

    features: np.ndarray
    targets: np.ndarray
    ceiling: float  # Rank IC of the planted signal itself in the validation rows
    n_fit: int
    validation: slice


def plant(
    seed: int, n_dates: int = 1500, n_assets: int = 100, n_factors: int = 6, noise: float = 2.0
) -> Panel:
    """Ranks that follow from the past: a fading memory of one factor, and one times an old other.

    No row alone tells the first part from noise, or anything of the second.
    """
    rng = np.random.default_rng(seed)
    shape = (n_dates, n_assets)
    features = rng.standard_normal((*shape, n_factors)).astype(np.float32)
    memory = np.zeros(shape)
    for row in range(1, n_dates):
        memory[row] = 0.9 * memory[row - 1] + features[row, :, 0]
    signal = memory * 0.19**0.5
    signal[3:] += features[3:, :, 1] * features[:-3, :, 2]
    targets = signal + noise * rng.standard_normal(shape)
    targets = targets.argsort(axis=1).argsort(axis=1) / (n_assets - 1) - 0.5
    targets = (targets / targets.std()).astype(np.float32)
    n_fit = int(0.8 * n_dates)
    validation = slice(n_fit + 5, n_dates)
    ceiling = float(rank_ic(signal, targets[..., None])[validation].mean())
    return Panel(features, targets, ceiling, n_fit, validation)


def train_on_windows(
    panel: Panel,
    *,
    seed: int,
    cpu_seconds: float,
    rows: int = 60,
    dates: int = 5,
    hidden: int = 64,
    layers: int = 2,
    learning_rate: float = 1e-2,
) -> dict[str, float]:
    """Train on windows until the CPU seconds are spent; the schedule ends with them.

    Returns
    -------
    dict
        ``rank_ic`` in the validation rows, each predicted from its own window; ``predictions``
        trained on, and ``per_second``, how many of them a CPU second.
    """
    generator = torch.Generator().manual_seed(seed)
    network = LSTMNetwork(
        panel.features.shape[2],
        1,
        hidden=hidden,
        layers=layers,
        dropout=0.0,
        generator=generator,
    )
    rng = np.random.default_rng(seed)
    score_loss = ScoreLoss(1.0, 0.1)
    parameters = list(network.parameters())
    optimizer = AdamW(parameters, 1e-2)
    # (n_windows, n_assets, n_factors, rows): a view.
    windows = np.lib.stride_tricks.sliding_window_view(panel.features[: panel.n_fit], rows, axis=0)
    n_assets, spent, done = panel.features.shape[1], 0.0, 0
    known = torch.ones((dates, n_assets, 1), dtype=torch.bool)
    with one_thread():
        while spent < cpu_seconds:
            start = time.process_time()
            last = rng.integers(rows - 1, panel.n_fit, dates)
            inputs = np.ascontiguousarray(windows[last - rows + 1].transpose(3, 0, 1, 2))
            outputs, _ = network(torch.from_numpy(inputs.reshape(rows, dates * n_assets, -1)))
            targets = torch.from_numpy(panel.targets[last][..., None])
            score_loss(outputs[-1].view(dates, n_assets, 1), targets, known).total.backward()
            clip_gradients(parameters)
            optimizer.step(one_cycle(int(1000 * spent / cpu_seconds), 1000, learning_rate))
            spent += time.process_time() - start
            done += dates * n_assets
        first = panel.validation.start - rows + 1
        heads = run(
            network,
            panel.features[first:],
            np.zeros((len(panel.features) - first, 0), np.float32),
            warm_up=rows - 1,
            block=1,
        )[rows - 1 :]
    score = rank_ic(heads[..., 0], panel.targets[panel.validation, :, None])
    return {
        "rank_ic": float(np.nanmean(score)),
        "predictions": float(done),
        "per_second": done / spent,
    }
