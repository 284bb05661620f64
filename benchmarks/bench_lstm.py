"""Training of LSTMs: how fast, and how good against the usual way of a window per prediction."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from _clock import best_cpu_seconds, peak_memory_mb
from _windows import plant, train_on_windows
from alphakeel.errors import ConfigError
from alphakeel.models.sequence import LSTMForecaster
from alphakeel.stats.cross_section import rank_ic

N_DATES, N_ASSETS, N_FACTORS, N_SERIES = 2770, 500, 25, 10
N_STEPS = 15
SAME_LSTM = "training predictions per CPU second, LSTM 2 x 64 on 6 factors and 60 rows"
# Qlib's shape: 6 factors, 60 rows of history before the first prediction, no dropout.
SAME: dict[str, Any] = {"hidden": 64, "layers": 2, "dropout": 0.0, "burn_in": 60}
WIDE: dict[str, Any] = {**SAME, "chunk": 256, "batch_assets": 128}
SEEDS, WINDOW_CPU = 5, 4.0
LEARNING: dict[str, Any] = {
    **SAME,
    "chunk": 192,
    "batch_assets": 64,
    "max_steps": 160,
    "learning_rate": 1e-2,
    "validation_share": 0.0,
    "n_seeds": 1,
    "device": "cpu",
}


def make_inputs(
    n_factors: int = N_FACTORS, *, n_series: int = N_SERIES, seed: int = 0
) -> dict[str, np.ndarray]:
    """Random features, market series and targets of two horizons: time does not depend on them."""
    rng = np.random.default_rng(seed)
    return {
        "features": rng.standard_normal((N_DATES, N_ASSETS, n_factors), dtype=np.float32),
        "targets": rng.standard_normal((N_DATES, N_ASSETS, 2), dtype=np.float32),
        "market": rng.standard_normal((N_DATES, n_series), dtype=np.float32),
    }


def step_seconds(inputs: dict[str, np.ndarray], **settings: Any) -> tuple[float, LSTMForecaster]:
    """CPU seconds of a training step (the median of a fit, the least of three) and the model."""
    best = float("inf")
    for _ in range(3):
        ends: list[float] = []

        def note_time(*_progress: float, ends: list[float] = ends) -> None:
            ends.append(time.process_time())

        model = LSTMForecaster(
            max_steps=N_STEPS,
            n_seeds=1,
            validation_share=0.0,
            device="cpu",
            on_progress=note_time,
            **settings,
        )
        model.fit(**inputs)
        best = min(best, float(np.median(np.diff(ends))))
    return best, model


def measure() -> list[dict[str, Any]]:
    """Throughput and accuracy; only dates after the burn-in count as predictions."""
    return [*measure_same_shape(), *measure_accuracy(), *measure_default()]


def measure_same_shape() -> list[dict[str, Any]]:
    """Qlib's network on its shape, one horizon, in both precisions."""
    inputs = make_inputs(6, n_series=0)
    inputs["targets"] = inputs["targets"][..., 0]
    rows = []
    for precision in ("float32", "bfloat16"):
        try:
            step, model = step_seconds(inputs, precision=precision, **WIDE)
        except ConfigError:  # this processor has no bfloat16: no such row
            continue
        rate = model.chunk * model.batch_assets / step
        rows.append(_row(f"{SAME_LSTM}, {precision}", rate, "1/s"))
    return rows


def measure_accuracy() -> list[dict[str, Any]]:
    """Validation Rank IC of our training, and of windows that got four times its CPU seconds.

    The same network, loss, optimizer, peak learning rate and targets; five planted panels, each
    with other initial weights; the last state is judged, so that nothing was chosen on the
    validation rows.
    """
    ours: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    windows, rates, ceilings, seconds = [], [], [], []
    for seed in range(SEEDS):
        panel = plant(seed)
        ceilings.append(panel.ceiling)
        for precision, scores in ours.items():
            model = LSTMForecaster(**LEARNING, seed=seed, precision=precision)
            start = time.process_time()
            try:
                model.fit(panel.features[: panel.n_fit], panel.targets[: panel.n_fit])
            except ConfigError:
                continue
            if precision == "float32":
                seconds.append(time.process_time() - start)
            predicted = model.predict(panel.features)[panel.validation]
            goals = panel.targets[panel.validation, :, None]
            scores.append(float(np.nanmean(rank_ic(predicted, goals))))
        found = train_on_windows(panel, seed=seed, cpu_seconds=WINDOW_CPU * seconds[-1])
        windows.append(found["rank_ic"])
        rates.append(found["per_second"])
    ceiling = f"the planted signal itself: {np.mean(ceilings):.4f}"
    name = "validation Rank IC, LSTM 2 x 64, 5 seeds"
    rows = [_row("training predictions per CPU second, windows", float(np.median(rates)), "1/s")]
    for label, scores in (*ours.items(), (f"windows, {WINDOW_CPU:g} times the CPU", windows)):
        if scores:
            each = ", ".join(f"{score:.4f}" for score in scores)
            rows.append(_row(f"{name}, {label}", float(np.mean(scores)), "", note=each))
    rows[1]["note"] += f"; {ceiling}; {np.mean(seconds):.1f} CPU s a seed"
    return rows


def measure_default() -> list[dict[str, Any]]:
    """A step, an epoch (as many predictions as the panel has stock-dates) and a prediction."""
    inputs = make_inputs()
    step, model = step_seconds(inputs)
    per_step = model.chunk * model.batch_assets
    predict = best_cpu_seconds(
        lambda: model.predict(inputs["features"], market=inputs["market"]), repeats=2
    )
    size = f"{N_ASSETS} stocks x {N_DATES} dates"
    return [
        _row("LSTM training predictions per CPU second", per_step / step, "1/s"),
        _row("LSTM training step, default network", step, "CPU s"),
        _row(f"LSTM epoch, {size}", step * N_DATES * N_ASSETS / per_step, "CPU s"),
        _row(f"LSTM prediction, one member, {size}", predict, "CPU s"),
    ]


def _row(name: str, value: float, unit: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "value": round(value, 6),
        "unit": unit,
        "peer": None,
        "peer_value": None,
        "ratio": None,
        "peak_mb": round(peak_memory_mb(), 1),
        **more,
    }


if __name__ == "__main__":
    print(json.dumps(measure()))
