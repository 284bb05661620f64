"""Daily-rebalanced backtest with costs and drift, 500 stocks x 2,770 days.

Run with ``python benchmarks/bench_backtest.py``; prints the measurements as JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from alphakeel.portfolio.allocation import minimum_variance
from alphakeel.portfolio.backtest import backtest
from alphakeel.portfolio.costs import ProportionalCost

N_DATES, N_ASSETS = 2770, 500
COST_RATE = 0.001


def make_inputs(
    seed: int = 0, n_dates: int = N_DATES, n_assets: int = N_ASSETS
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Target weights (top fifth of slowly changing scores, fully invested) and prices."""
    rng = np.random.default_rng(seed)
    market = rng.normal(0.0003, 0.01, (n_dates, 1))
    returns = 1.2 * market + rng.standard_t(5, (n_dates, n_assets)) * 0.015
    prices = 50.0 * np.exp(np.cumsum(np.clip(returns, -0.3, 0.3), axis=0))
    scores = np.empty((n_dates, n_assets))
    score = rng.normal(size=n_assets)
    for row in range(n_dates):
        score = 0.9 * score + rng.normal(size=n_assets) * 0.19**0.5
        scores[row] = score
    chosen = scores.argsort(axis=1).argsort(axis=1) >= n_assets - n_assets // 5
    weights = chosen * rng.uniform(0.5, 1.5, (n_dates, n_assets))
    return weights / weights.sum(axis=1, keepdims=True), prices


def cpu_seconds(call: Callable[[], object], repeats: int = 7) -> float:
    """Least CPU time of a call: the other runs measure the machine's neighbours."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def _line(name: str, value: float, unit: str) -> dict[str, str | float | None]:
    return {
        "name": name,
        "value": round(value, 6),
        "unit": unit,
        "peer": None,
        "peer_value": None,
        "ratio": None,
    }


def measure(seed: int = 0) -> list[dict[str, str | float | None]]:
    """CPU time of the backtest (daily, weekly, with suspensions) and of one minimum variance."""
    weights, prices = make_inputs(seed)
    cost = ProportionalCost(COST_RATE)
    rng = np.random.default_rng(seed + 1)
    tradable = rng.random(prices.shape) > 0.002
    listed = prices.copy()
    for column in range(0, N_ASSETS, 10):
        listed[: rng.integers(1, N_DATES // 2), column] = np.nan
        listed[rng.integers(N_DATES // 2, N_DATES) :, column + 1] = np.nan
    weekly = weights.copy()
    weekly[np.arange(N_DATES) % 5 != 0] = np.nan
    returns = np.diff(prices, axis=0) / prices[:-1]
    last = np.array([len(returns) - 1])
    lines = [
        _line(
            "backtest, daily rebalancing, 500 x 2770",
            cpu_seconds(lambda: backtest(weights, prices, cost=cost)),
            "CPU s",
        ),
        _line(
            "backtest, daily, suspensions and delistings, 500 x 2770",
            cpu_seconds(lambda: backtest(weights, listed, tradable=tradable, cost=cost)),
            "CPU s",
        ),
        _line(
            "backtest, weekly rebalancing, 500 x 2770",
            cpu_seconds(lambda: backtest(weekly, prices, cost=cost)),
            "CPU s",
        ),
    ]
    for n_assets in (20, 500):
        eligible = np.ones((1, n_assets), dtype=np.bool_)
        part = np.ascontiguousarray(returns[:, :n_assets])
        seconds = cpu_seconds(lambda p=part, e=eligible: minimum_variance(p, last, e))  # type: ignore[misc]
        lines.append(_line(f"minimum variance, {n_assets} stocks, one solve", seconds, "CPU s"))
    return lines


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
