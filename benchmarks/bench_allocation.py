"""A year of daily mean-CVaR allocations: 500 stocks, 500 rolling scenarios, total turnover.

Run with ``python benchmarks/bench_allocation.py``; prints the measurements as JSON.
"""

from __future__ import annotations

import json
import time

import numpy as np
import numpy.typing as npt

from alphakeel.portfolio.constraints import Decision, Limits, drifted
from alphakeel.portfolio.optimisation import allocate
from alphakeel.portfolio.programmes import Objective, WarmStart, solve
from alphakeel.risk.covariance import FactorCovariance

N_ASSETS, N_SCENARIOS, N_DAYS = 500, 500, 252
CAP, TURNOVER, COST, CVAR_PRICE = 0.03, 0.2, 0.0002, 1.0

FloatArray = npt.NDArray[np.float64]


def make_inputs(seed: int = 0) -> dict[str, FloatArray]:
    """Fat-tailed returns with ten factors, and slowly changing expected returns, a day."""
    rng = np.random.default_rng(seed)
    n_dates = N_SCENARIOS + N_DAYS
    loadings = rng.normal(0.0, 0.004, (N_ASSETS, 10))
    loadings[:, 0] = 0.01 * rng.uniform(0.5, 1.5, N_ASSETS)
    returns = 0.8 * rng.standard_t(5, (n_dates, 10)) @ loadings.T
    returns += 0.012 * rng.standard_t(5, (n_dates, N_ASSETS))
    expected = np.empty((N_DAYS, N_ASSETS))
    opinion = rng.normal(size=N_ASSETS)
    for day in range(N_DAYS):
        opinion = 0.95 * opinion + np.sqrt(1.0 - 0.95**2) * rng.normal(size=N_ASSETS)
        expected[day] = 4e-4 * opinion
    return {"returns": returns, "expected": expected}


def decision_of(returns: FloatArray, day: int, held: FloatArray) -> Decision:
    """The decision after `day` days, with the 500 scenarios before it."""
    return Decision(
        columns=np.arange(N_ASSETS),
        held=held,
        max_weight=np.full(N_ASSETS, np.inf),
        frozen=np.zeros(N_ASSETS, dtype=np.bool_),
        scenarios=returns[day : day + N_SCENARIOS],
        rows=np.arange(day, day + N_SCENARIOS),
        covariance=FactorCovariance(
            np.zeros((N_ASSETS, 1)), np.ones(N_ASSETS), np.ones(N_ASSETS, dtype=np.bool_)
        ),
        sectors=np.zeros((0, N_ASSETS)),
        betas=np.ones(N_ASSETS),
    )


def year(inputs: dict[str, FloatArray]) -> tuple[float, float, float]:
    """CPU seconds of the year, the slowest day's and the first day's."""
    returns, expected = inputs["returns"], inputs["expected"]
    held, warm, seconds = np.full(N_ASSETS, 1.0 / N_ASSETS), WarmStart(), []
    limits = Limits(weight_cap=CAP, invested=1.0, turnover_limit=TURNOVER)
    for day in range(N_DAYS):
        decision = decision_of(returns, day, held)
        start = time.process_time()
        objective = Objective(expected[day], cost=COST, cvar_weight=CVAR_PRICE)
        answer = solve(decision, limits, objective, warm=warm)
        seconds.append(time.process_time() - start)
        if answer is None:
            raise RuntimeError(f"day {day} has no portfolio")
        after = drifted(answer.weights, returns[day + N_SCENARIOS : day + N_SCENARIOS + 1])
        held = after / max(after.sum(), 1.0)
    return sum(seconds), max(seconds[1:]), seconds[0]


def one_solve(inputs: dict[str, FloatArray]) -> tuple[float, float]:
    """CPU seconds and objective of the peers' problem: one day, cold, no turnover limit.

    (skfolio's limit of turnover is a stock's own, not the portfolio's.)
    """
    decision = decision_of(inputs["returns"], 0, np.zeros(N_ASSETS))
    limits = Limits(weight_cap=CAP, invested=1.0)
    objective = Objective(inputs["expected"][0], cvar_weight=CVAR_PRICE)
    best, value = np.inf, np.nan
    for _ in range(3):
        start = time.process_time()
        answer = solve(decision, limits, objective)
        best = min(best, time.process_time() - start)
        value = answer.objective if answer is not None else np.nan
    return best, value


def weekly_mean_variance(inputs: dict[str, FloatArray]) -> float:
    """CPU seconds of one weekly mean-variance decision, covariance and smoothing included."""
    decisions = np.arange(N_SCENARIOS, N_SCENARIOS + N_DAYS, 10)
    start = time.process_time()
    allocate(
        "mean_variance",
        returns=inputs["returns"],
        decisions=decisions,
        eligible=np.ones((len(decisions), N_ASSETS), dtype=np.bool_),
        scores=inputs["expected"][decisions - N_SCENARIOS],
        limits=Limits(weight_cap=CAP),
    )
    return (time.process_time() - start) / len(decisions)


def measure(seed: int = 0) -> list[dict[str, object]]:
    inputs = make_inputs(seed)
    total, slowest, first = year(inputs)
    cold, value = one_solve(inputs)
    quadratic = weekly_mean_variance(inputs)
    rows: list[dict[str, object]] = [
        {"name": "mean-CVaR, 252 daily allocations, 500 x 500, turnover limit", "value": total},
        {"name": "mean-CVaR, a day of that year on average", "value": total / N_DAYS},
        {"name": "mean-CVaR, the slowest day after the first", "value": slowest},
        {"name": "mean-CVaR, the first day", "value": first},
        {"name": "mean-CVaR, one cold solve without turnover", "value": cold, "check": [value]},
        {
            "name": "mean-variance, one decision of 500 stocks",
            "value": quadratic,
        },
    ]
    return [row | {"value": round(float(str(row["value"])), 6), "unit": "CPU s"} for row in rows]


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
