"""Rank IC for three horizons, and the whole screen, on 500 stocks and 2,770 dates.

The screens of a walk-forward study are timed on `--folds-stocks` stocks (0 leaves them out).
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from _clock import best_cpu_seconds
from alphakeel.factors.screening import FactorScreen
from alphakeel.factors.screening_statistics import cross_sections
from alphakeel.stats.cross_section import rank_ic

N_DATES, N_ASSETS, N_FACTORS = 2770, 500, 35
HORIZONS = (1, 5, 20)
FOLD_DATES, FOLD_STOCKS, N_FOLDS = 2900, 3000, 7


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


def measure_folds(n_assets: int) -> dict[str, Any]:
    """Two screens a fold, for linear models and for networks, on training rows that grow.

    Timed once, unlike the rest: it is long enough.
    """
    rng = np.random.default_rng(2)
    values = rng.standard_normal((FOLD_DATES, n_assets, N_FACTORS), dtype=np.float32)
    targets = rng.standard_normal((FOLD_DATES, n_assets, 2), dtype=np.float32)
    for rows in (*values, *targets):  # a date at a time: no second array of the size of the first
        rows[rng.random(rows.shape, dtype=np.float32) < 0.2] = np.nan
    screens = FactorScreen(), FactorScreen(min_abs_t=0.0, min_sign_stability=0.0)

    start = time.process_time()
    sections = cross_sections(values, targets)
    for stop in np.linspace(0.6 * FOLD_DATES, FOLD_DATES, N_FOLDS, endpoint=False).astype(int):
        for screen in screens:
            screen.fit_cross_sections(sections.on(slice(0, stop)), horizons=HORIZONS[1:])
    seconds = time.process_time() - start
    size = f"{n_assets} stocks x {FOLD_DATES} dates"
    return {
        "name": f"{len(screens)} screens of {N_FOLDS} folds, {N_FACTORS} factors, {size}",
        "value": seconds,
        "unit": "CPU s",
    }


def measure(fold_stocks: int = FOLD_STOCKS) -> list[dict[str, Any]]:
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
    folds = [measure_folds(fold_stocks)] if fold_stocks else []
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
        *folds,
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds-stocks", type=int, default=FOLD_STOCKS)
    print(json.dumps(measure(parser.parse_args().folds_stocks)))
