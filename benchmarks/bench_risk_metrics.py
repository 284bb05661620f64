"""Volatility, drawdown, VaR and CVaR of 1,000 portfolios x 2,770 days, and tests of VaR forecasts.

Run with ``python benchmarks/bench_risk_metrics.py``; prints the measurements as JSON.
"""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt

from _clock import best_cpu_seconds
from alphakeel.risk.value_at_risk import portfolio_var
from alphakeel.stats import performance

N_DATES, N_PORTFOLIOS = 2770, 1000
FOUR = (
    performance.annual_volatility,
    performance.max_drawdown,
    performance.value_at_risk,
    performance.conditional_value_at_risk,
)


def make_inputs(seed: int = 0) -> dict[str, npt.NDArray[np.float64]]:
    """Daily returns of the portfolios, heavy-tailed, (n_dates, n_portfolios)."""
    rng = np.random.default_rng(seed)
    return {"returns": 0.0003 + 0.01 * rng.standard_t(4, (N_DATES, N_PORTFOLIOS)).clip(-40, 40)}


def measure(seed: int = 0) -> list[dict[str, object]]:
    """CPU time of the four figures a portfolio, and of the default VaR forecast of one."""
    returns = make_inputs(seed)["returns"]
    seconds = best_cpu_seconds(lambda: [figure(returns) for figure in FOUR], repeats=7)
    check = [float(np.mean(figure(returns))) for figure in FOUR[:2]]
    rng = np.random.default_rng(seed + 1)
    stocks = 0.02 * rng.standard_t(5, (N_DATES, 500))
    weights = np.where(rng.random((N_DATES, 500)) < 0.2, 0.01, 0.0)
    earned = (weights * stocks).sum(axis=1)
    forecast = best_cpu_seconds(lambda: portfolio_var(weights, stocks, earned), repeats=3)
    return [
        {
            "name": "four risk metrics, 1000 portfolios x 2770",
            "value": round(1e6 * seconds / N_PORTFOLIOS, 2),
            "unit": "CPU microseconds a portfolio",
            "check": check,
        },
        {
            "name": "default VaR and CVaR forecast on every day, 500 stocks x 2770",
            "value": round(forecast, 3),
            "unit": "CPU s",
        },
    ]


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
