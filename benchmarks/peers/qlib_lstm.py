"""Qlib: `pytorch_lstm`, its own training epoch on windows, batches of 2,000 (its default)."""

from __future__ import annotations

import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np

warnings.filterwarnings("ignore")

import pandas as pd  # noqa: E402
import torch  # noqa: E402
from _peer import load, report  # noqa: E402
from qlib.contrib.model.pytorch_lstm import LSTM  # noqa: E402

ROWS, WINDOWS, EPOCHS = 60, 8_000, 3


def main(folder: Path) -> None:
    """Best of three epochs, after one to warm up; cutting the windows out is not timed."""
    features, targets = load(folder, "features", "targets")
    n_dates, n_assets, n_factors = features.shape
    rng = np.random.default_rng(0)
    last = rng.integers(ROWS - 1, n_dates, WINDOWS)
    stock = rng.integers(0, n_assets, WINDOWS)
    # One line a window, factor by factor, as Qlib's model reads it.
    cut = features[last[:, None] + np.arange(1 - ROWS, 1), stock[:, None]]
    windows = pd.DataFrame(cut.transpose(0, 2, 1).reshape(WINDOWS, n_factors * ROWS))
    labels = pd.DataFrame(targets[last, stock, :1])
    torch.set_num_threads(1)
    model = LSTM(d_feat=n_factors, hidden_size=64, num_layers=2, seed=0, GPU=-1)
    model.train_epoch(windows, labels)
    seconds = []
    for _ in range(EPOCHS):
        start = time.process_time()
        model.train_epoch(windows, labels)
        seconds.append(time.process_time() - start)
    note = f"torch {version('torch')}, {WINDOWS} windows an epoch, batches of {model.batch_size}"
    report("Qlib pytorch_lstm", version("pyqlib"), WINDOWS / min(seconds), note=note)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
