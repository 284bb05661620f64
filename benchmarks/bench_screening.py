"""Rank IC for three horizons, and the whole screen, on 500 stocks and 2,770 dates."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from _clock import best_cpu_seconds
from alphakeel.factors.screening import FactorScreen
from alphakeel.stats.crosssection import rank_ic

N_DATES, N_ASSETS, N_FACTORS = 2770, 500, 35
HORIZONS = (1, 5, 20)


def make_inputs(seed: int = 0) -> dict[str, np.ndarray]:
    """One factor and three forward returns with 5 % of stock-days missing, and rounding ties."""
    rng = np.random.default_rng(seed)
    daily = 0.02 * rng.standard_normal((N_DATES + max(HORIZONS), N_ASSETS))
    path = np.vstack([np.zeros(N_ASSETS), np.cumsum(daily, axis=0)])
    forward = np.stack([path[h : h + N_DATES] - path[:N_DATES] for h in HORIZONS], axis=2)
    factor = np.round(0.1 * forward[..., 1] + 0.02 * rng.standard_normal((N_DATES, N_ASSETS)), 4)
    absent = rng.random((N_DATES, N_ASSETS)) < 0.05
    factor[absent], forward[absent] = np.nan, np.nan
    return {"factor": factor, "forward": forward}


def measure() -> list[dict[str, Any]]:
    inputs = make_inputs()
    factor, forward = inputs["factor"], inputs["forward"]
    exact = best_cpu_seconds(lambda: rank_ic(factor, forward), repeats=5)

    rng = np.random.default_rng(1)
    shape = (N_DATES, N_ASSETS, N_FACTORS)
    values = rng.standard_normal(shape, dtype=np.float32)
    values[np.isnan(factor)] = np.nan
    names = [f"factor_{k}" for k in range(N_FACTORS)]
    targets = forward[..., 1:]
    whole = best_cpu_seconds(
        lambda: FactorScreen().fit(values, targets, names=names, horizons=HORIZONS[1:]), repeats=2
    )
    size = f"{N_ASSETS} stocks x {N_DATES} dates"
    return [
        {
            "name": f"tie-exact Rank IC, {len(HORIZONS)} horizons, {size}",
            "value": exact,
            "unit": "CPU s",
            "check": np.nanmean(rank_ic(factor, forward), axis=0).tolist(),
        },
        {
            "name": f"factor screen, {N_FACTORS} factors, 2 horizons, {size}",
            "value": whole,
            "unit": "CPU s",
        },
    ]


if __name__ == "__main__":
    print(json.dumps(measure()))
