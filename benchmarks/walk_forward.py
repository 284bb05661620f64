"""The whole walk-forward of the default LSTM: `python benchmarks/walk_forward.py [weekly|daily]`.

500 stocks, eleven years, 25 factors, 10 market series, 2 horizons, 5 seeds, 6 yearly refits on all
the past, two fits at a time as a study runs them. Simulated factors, of which two carry a little.
Prints one JSON line: wall and CPU seconds of fits and predictions, and peak memory.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import joblib
import numpy as np

from _clock import peak_memory_mb
from alphakeel.models.sequence import LSTMForecaster
from alphakeel.stats.cross_section import rank_ic

N_DAYS, N_ASSETS, N_FACTORS, N_SERIES, N_FOLDS, SEEDS, JOBS = 2770, 500, 25, 10, 6, 5, 2


def measure(every: int, precision: str = "float32") -> dict[str, Any]:
    """Run it with a decision `every` so many days."""
    rng = np.random.default_rng(0)
    n_rows = N_DAYS // every
    features = rng.standard_normal((n_rows, N_ASSETS, N_FACTORS), dtype=np.float32)
    targets = rng.standard_normal((n_rows, N_ASSETS, 2), dtype=np.float32)
    targets += 0.05 * features[..., :2].sum(axis=2, keepdims=True)
    market = rng.standard_normal((n_rows, N_SERIES), dtype=np.float32)
    year, reach = 252 // every, -(-21 // every)

    def fold(number: int) -> tuple[int, np.ndarray]:
        start = n_rows - (N_FOLDS - number) * year
        model = LSTMForecaster(n_seeds=SEEDS, purge=reach, device="cpu", precision=precision)
        train = slice(0, start - reach)
        model.fit(features[train], targets[train], market=market[train])
        scores = model.predict(features[: start + year], market=market[: start + year])
        return start, scores[start:]

    wall, cpu = time.perf_counter(), time.process_time()
    jobs = joblib.Parallel(n_jobs=JOBS, prefer="threads")
    found = jobs(joblib.delayed(fold)(number) for number in range(N_FOLDS))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    scores = [np.nanmean(rank_ic(s, targets[at : at + len(s)])) for at, s in found]
    return {
        "every": every,
        "precision": precision,
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1),
        "peak_mb": round(peak_memory_mb()),
        "rank_ic": round(float(np.mean(scores)), 4),
    }


if __name__ == "__main__":
    choice = sys.argv[1] if len(sys.argv) > 1 else "weekly"
    if choice not in ("weekly", "daily"):
        raise SystemExit(f"choose weekly or daily, not {choice!r}")
    print(json.dumps(measure(5 if choice == "weekly" else 1, *sys.argv[2:3])))
