"""Training and prediction of the default LSTM on 500 stocks x 2,770 daily rows."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from _clock import best_cpu_seconds, peak_memory_mb
from alphakeel.models.sequence import LSTMForecaster

N_DATES, N_ASSETS, N_FACTORS, N_SERIES = 2770, 500, 25, 10
N_STEPS = 15


def make_inputs(seed: int = 0) -> dict[str, np.ndarray]:
    """Random features, market series and targets of two horizons: time does not depend on them."""
    rng = np.random.default_rng(seed)
    return {
        "features": rng.standard_normal((N_DATES, N_ASSETS, N_FACTORS), dtype=np.float32),
        "targets": rng.standard_normal((N_DATES, N_ASSETS, 2), dtype=np.float32),
        "market": rng.standard_normal((N_DATES, N_SERIES), dtype=np.float32),
    }


def measure() -> list[dict[str, Any]]:
    """CPU time of a training step (the median one), of an epoch, and of a prediction.

    Only dates after the burn-in are counted as predictions. An epoch is as many of them as the
    panel has stock-dates.
    """
    inputs = make_inputs()
    ends: list[float] = []

    def note_time(*_progress: float) -> None:
        ends.append(time.process_time())

    model = LSTMForecaster(
        max_steps=N_STEPS,
        n_seeds=1,
        validation_share=0.0,
        device="cpu",
        on_progress=note_time,
    )
    model.fit(**inputs)
    step = float(np.median(np.diff(ends)))
    per_step = model.chunk * model.batch_assets
    predict = best_cpu_seconds(
        lambda: model.predict(inputs["features"], market=inputs["market"]), repeats=2
    )
    size = f"{N_ASSETS} stocks x {N_DATES} dates"
    rows = [
        ("LSTM training predictions per CPU second", per_step / step, "1/s"),
        ("LSTM training step, default network", step, "CPU s"),
        (f"LSTM epoch, {size}", step * N_DATES * N_ASSETS / per_step, "CPU s"),
        (f"LSTM prediction, one member, {size}", predict, "CPU s"),
    ]
    return [
        {
            "name": name,
            "value": round(value, 6),
            "unit": unit,
            "peer": None,
            "peer_value": None,
            "ratio": None,
            "peak_mb": round(peak_memory_mb(), 1),
        }
        for name, value, unit in rows
    ]


if __name__ == "__main__":
    print(json.dumps(measure()))
