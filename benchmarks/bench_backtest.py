"""Daily-rebalanced backtest with costs and drift, 500 stocks x 2,770 days; minimum variance.

Run with ``python benchmarks/bench_backtest.py``; prints the measurements as JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from _backtest_stage import stage_seconds
from alphakeel.backtest.costs import ProportionalCost
from alphakeel.backtest.engine import run_backtest
from alphakeel.backtest.market_rules import cn_market
from alphakeel.portfolio.heuristics import minimum_variance

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


def shares_after_costs(
    weights: npt.NDArray[np.float64], prices: npt.NDArray[np.float64], rate: float
) -> npt.NDArray[np.float64]:
    """The same targets as shares of the wealth after costs, if given as shares of that before.

    vectorbt sizes orders on the wealth before the day's costs, which come out of the cash; the
    backtest sizes them on what is left. With cash enough for the costs this is all the
    difference between the two.
    """
    changed = np.empty_like(weights)
    held, cash = np.zeros(weights.shape[1]), 1.0
    for row, target in enumerate(weights):
        if row:
            held = held * prices[row] / prices[row - 1]
        wealth = held.sum() + cash
        left = wealth - rate * np.abs(target * wealth - held).sum()
        held = target * wealth
        changed[row], cash = held / left, left - held.sum()
    return changed


def market_case(
    weights: npt.NDArray[np.float64], prices: npt.NDArray[np.float64], seed: int
) -> Callable[[bool], float]:
    """All rules of the Chinese market on; a call builds them if asked, and runs the backtest."""
    rng = np.random.default_rng(seed)
    dates = np.busday_offset("2010-01-04", np.arange(len(prices))).astype("datetime64[D]")
    arrays = {
        "close": np.maximum(prices.round(2), 0.01),
        "accounting": prices,
        "volume": rng.lognormal(15.0, 1.0, prices.shape),
        "boards": np.array(["main", "chinext", "star"])[rng.integers(0, 3, prices.shape[1])],
    }
    tradable = rng.random(prices.shape) > 0.002
    built = cn_market(dates, **arrays)

    def run(build: bool) -> float:
        market = cn_market(dates, **arrays) if build else built
        ledger = run_backtest(
            weights,
            prices,
            tradable=tradable,
            cost=market.cost,
            constraints=market.constraints,
            initial=1e8,
        )
        return float(ledger.wealth[-1])

    return run


def _line(name: str, value: float, unit: str, **more: object) -> dict[str, object]:
    row: dict[str, object] = {"name": name, "value": round(value, 6), "unit": unit}
    return row | {"peer": None, "peer_value": None, "ratio": None} | more


def measure(seed: int = 0) -> list[dict[str, object]]:
    """CPU time of the backtest (plain, weekly, suspensions, all rules) and of minimum variance."""
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
    rules = market_case(weights, prices, seed + 2)

    def daily() -> tuple[float, npt.NDArray[np.float64]]:
        ledger = run_backtest(weights, prices, lag=0, cost=cost)
        return float(ledger.wealth[-1]), ledger.net_returns

    # What vectorbt must find too: without costs, and with costs sized on the wealth before them.
    matched = shares_after_costs(0.98 * weights, prices, COST_RATE)
    check = [
        float(run_backtest(weights, prices, lag=0, cost=ProportionalCost(0.0)).wealth[-1]),
        float(run_backtest(matched, prices, lag=0, cost=cost).wealth[-1]),
    ]
    size = f"{N_ASSETS} x {N_DATES}"
    lines = [
        _line(
            f"backtest, daily rebalancing, {size}",
            cpu_seconds(daily, repeats=15),
            "CPU s",
            check=check,
            note=f"wealth ends at {daily()[0]:.6f}",
        ),
        _line(
            f"backtest, daily, suspensions and delistings, {size}",
            cpu_seconds(lambda: run_backtest(weights, listed, tradable=tradable, cost=cost)),
            "CPU s",
        ),
        _line(
            f"backtest, weekly rebalancing, {size}",
            cpu_seconds(lambda: run_backtest(weekly, prices, cost=cost)),
            "CPU s",
        ),
        _line(
            f"backtest, daily, all rules of the Chinese market, {size}",
            cpu_seconds(lambda: rules(False)),
            "CPU s",
        ),
        _line(
            f"the same, with the building of costs and rules from prices and volumes, {size}",
            cpu_seconds(lambda: rules(True), repeats=3),
            "CPU s",
        ),
    ]
    for n_assets in (20, 500, 1000, 3000):
        eligible = np.ones((1, n_assets), dtype=np.bool_)
        part = np.ascontiguousarray(returns[:, :n_assets])
        if n_assets > N_ASSETS:
            _, wide = make_inputs(seed, n_dates=253, n_assets=n_assets)
            part, last = np.diff(wide, axis=0) / wide[:-1], np.array([251])
        seconds = cpu_seconds(lambda p=part, d=last, e=eligible: minimum_variance(p, d, e))  # type: ignore[misc]
        lines.append(_line(f"minimum variance, {n_assets} stocks, one solve", seconds, "CPU s"))
    return [*lines, stage_line(seed)]


def stage_line(seed: int, n_assets: int = 3000) -> dict[str, object]:
    """The backtest stage of a study, once: the machine's neighbours are in it."""
    seconds, days, decisions = stage_seconds(seed, N_DATES, n_assets)
    name = f"backtest stage of a study, {n_assets} x {N_DATES}"
    return _line(name, seconds, "CPU s", note=f"{days} days tested, {decisions} decisions")


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
