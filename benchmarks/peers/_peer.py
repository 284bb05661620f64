"""What every peer script shares: arrays in from .npy files, one JSON line out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for _clock

from _clock import peak_memory_mb

MARK = "PEER "


def load(folder: Path, *names: str) -> list[np.ndarray]:
    """Arrays of these names, as the harness wrote them."""
    return [np.load(folder / f"{name}.npy", allow_pickle=False) for name in names]


def report(name: str, version: str, value: float, **more: Any) -> None:
    """Print the one line that the harness reads."""
    line = {"peer": f"{name} {version}", "value": value, "peak_mb": peak_memory_mb(), **more}
    print(MARK + json.dumps(line), flush=True)
