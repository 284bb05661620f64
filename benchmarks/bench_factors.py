"""How many factor values a CPU second makes: ``python benchmarks/bench_factors.py``.

One thread, eleven years of 500 simulated stocks with every field. Prints one JSON line (a list of
figures) to standard output and the same for people to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

import numpy as np  # noqa: E402  (the thread count must be set before)

from alphakeel.data.simulation import simulate_market  # noqa: E402
from alphakeel.factors import compute_factors, standardise  # noqa: E402

N_DATES, N_ASSETS = 2770, 500
REPEATS = 3


def measure() -> dict[str, float]:
    """Best of three, by CPU time of this process.

    Returns
    -------
    dict of str to float
        ``n_factors`` and ``n_market_series`` (counts), ``seconds`` (CPU seconds of
        `compute_factors`, market-wide series included), ``values_per_second`` (stock factor values
        per CPU second), ``rank_seconds`` and ``ranks_per_second`` (the same of `standardise`).
    """
    panel = simulate_market(n_assets=N_ASSETS, n_dates=N_DATES, seed=0).panel
    mask = np.asarray(panel.active_mask)
    seconds = rank_seconds = float("inf")
    for _ in range(REPEATS):
        start = time.process_time()
        found = compute_factors(panel)
        between = time.process_time()
        standardise(found.values, mask)
        seconds = min(seconds, between - start)
        rank_seconds = min(rank_seconds, time.process_time() - between)
    return {
        "n_factors": float(len(found.names)),
        "n_market_series": float(len(found.market_names)),
        "seconds": seconds,
        "values_per_second": found.values.size / seconds,
        "rank_seconds": rank_seconds,
        "ranks_per_second": found.values.size / rank_seconds,
    }


def main() -> None:
    figures = measure()
    units = {
        "values_per_second": ("factor values per CPU second", "1/s"),
        "ranks_per_second": ("standardised values per CPU second", "1/s"),
    }
    lines = [
        {
            "name": name,
            "value": figures[key],
            "unit": unit,
            "peer": None,
            "peer_value": None,
            "ratio": None,
        }
        for key, (name, unit) in units.items()
    ]
    print(
        f"{N_DATES} dates x {N_ASSETS} stocks, {figures['n_factors']:.0f} factors and "
        f"{figures['n_market_series']:.0f} market series, one thread\n"
        f"compute_factors {figures['seconds']:.2f} s CPU, "
        f"{figures['values_per_second'] / 1e6:.1f} million values a second\n"
        f"standardise     {figures['rank_seconds']:.2f} s CPU, "
        f"{figures['ranks_per_second'] / 1e6:.1f} million values a second",
        file=sys.stderr,
    )
    print(json.dumps(lines))


if __name__ == "__main__":
    main()
