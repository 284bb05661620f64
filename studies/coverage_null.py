"""How often intervals of the Sharpe difference cover, where the truth is known.

The simulator with ``signal=0`` plants nothing: the expected return of every stock is the same. Two
portfolios that follow independent random scores by the same rules are then exchangeable, costs
included, and the true difference of their Sharpe ratios is exactly zero. This script simulates
such a market for each seed, runs pairs of such portfolios through the library's own allocation and
backtest, and counts how often the reported 95 % intervals cover zero; on the same portfolios it
computes the probability of backtest overfitting, which should be one half.

    python studies/coverage_null.py                           # 200 seeds
    python studies/coverage_null.py --seeds 0 50 --out a.csv  # a part, to be joined later
    python studies/coverage_null.py --join a.csv b.csv        # the table of all parts
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

from alphakeel.backtest.costs import ProportionalCost
from alphakeel.backtest.engine import run_backtest
from alphakeel.backtest.ledger import Ledger
from alphakeel.data.cleaning import clean
from alphakeel.data.panel import universe_mask
from alphakeel.data.simulation import simulate_market
from alphakeel.evaluation.performance import strategy_tables
from alphakeel.portfolio.heuristics import equal_weight, top_quantile
from alphakeel.stats.bootstrap import bootstrap_samples, optimal_block_length
from alphakeel.stats.performance import sharpe
from alphakeel.stats.rolling import ew_volatility
from alphakeel.stats.selection_bias import overfitting_probability
from alphakeel.stats.sharpe import sharpe_differences

N_ASSETS, N_DATES, FIRST, EVERY = 60, 1500, 260, 5
N_PORTFOLIOS = 20  # random portfolios a seed: ten pairs that share no portfolio
N_BOOT, LEVEL = 500, 0.95
STYLES = ("Equal weight", "Momentum", "Reversal")


def portfolios_of(seed: int) -> dict[str, Ledger]:
    """Random portfolios and a few with a style, all net of 10 basis points a side."""
    market = simulate_market(n_assets=N_ASSETS, n_dates=N_DATES, seed=seed, signal=0.0)
    cleaning = clean(market.panel)
    price = cleaning.panel["accounting_close"]
    returns = np.full(price.shape, np.nan)
    returns[1:] = price[1:] / price[:-1] - 1.0
    rows = np.arange(FIRST, N_DATES, EVERY)
    eligible = (cleaning.eligible & universe_mask(market.panel))[rows]
    volatility = ew_volatility(returns, 63)[rows]
    rng = np.random.default_rng([seed, 1])
    scores = {f"Random {k}": rng.standard_normal(eligible.shape) for k in range(N_PORTFOLIOS)}
    scores["Momentum"] = price[rows - 21] / price[rows - 252]
    scores["Reversal"] = price[rows - 21] / price[rows]
    weights = {
        name: top_quantile(
            score, volatility, eligible=eligible, quantile=0.25, weight_cap=0.3, smoothing=0.25
        )
        for name, score in scores.items()
    }
    weights["Equal weight"] = equal_weight(eligible)
    portfolios = {}
    for name, decided in weights.items():
        target = np.full((N_DATES - FIRST, N_ASSETS), np.nan)
        target[rows - FIRST] = decided
        portfolios[name] = run_backtest(
            target,
            price[FIRST:],
            tradable=market.panel.estimation_mask[FIRST:],
            cost=ProportionalCost(0.001),
        )
    return portfolios


def study_seed(seed: int) -> list[dict[str, object]]:
    """One row an interval: who was compared, by which method, its limits."""
    portfolios = portfolios_of(seed)
    returns = {name: portfolio.net_returns for name, portfolio in portfolios.items()}
    trials = np.column_stack([returns[f"Random {k}"] for k in range(N_PORTFOLIOS)])
    pbo = overfitting_probability(trials).probability
    rows: list[dict[str, object]] = []

    def add(base: str, other: str, method: str, limits: tuple[float, float]) -> None:
        pair = "random" if other.startswith("Random") else other
        gap = float(sharpe(returns[other]) - sharpe(returns[base]))
        found = {"seed": seed, "pair": pair, "pbo": pbo}
        rows.append(
            {**found, "method": method, "estimate": gap, "low": limits[0], "high": limits[1]}
        )

    null = [(f"Random {2 * k}", f"Random {2 * k + 1}") for k in range(N_PORTFOLIOS // 2)]
    base, other = null[0]
    pair = {name: portfolios[name] for name in (base, other)}
    _, table = strategy_tables(
        pair, None, baseline=base, level=LEVEL, n_bootstrap=N_BOOT, seed=seed
    )
    reported = table.loc[other, ["sharpe_difference_low", "sharpe_difference_high"]]
    add(base, other, "Table I", tuple(reported))

    block = max(optimal_block_length(np.abs(column)) for column in trials.T)
    drawn = bootstrap_samples(sharpe, trials, n_bootstrap=N_BOOT, block_length=block, seed=seed)
    for k, (base, other) in enumerate(null):
        gaps = drawn[:, 2 * k + 1] - drawn[:, 2 * k]
        limits = np.quantile(gaps, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
        add(base, other, "percentile, long blocks", tuple(limits))

    for base, other in (*null, *(("Random 0", style) for style in STYLES)):
        for method in ("hac", "bootstrap"):
            (test,) = sharpe_differences(
                returns[other],
                returns[base],
                method=method,
                level=LEVEL,
                n_bootstrap=N_BOOT,
                seed=seed,
            )
            add(base, other, f"Ledoit-Wolf {method}", (test.low, test.high))
    return rows


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """Coverage of the truth by pair and method, with its standard error over seeds.

    The truth is zero for a pair of random portfolios, else the mean difference over all seeds.
    """
    out = []
    for (pair, method), part in found.groupby(["pair", "method"], sort=False):
        truth = 0.0 if pair == "random" else part["estimate"].mean()
        covers = (part["low"] <= truth) & (truth <= part["high"])
        by_seed = covers.groupby(part["seed"]).mean()
        out.append(
            {
                "pair": pair,
                "method": method,
                "truth": truth,
                "intervals": len(part),
                "coverage": covers.mean(),
                "error": by_seed.std(ddof=1) / np.sqrt(len(by_seed)),
                "below": (part["high"] < truth).mean(),
                "above": (part["low"] > truth).mean(),
                "width": (part["high"] - part["low"]).mean(),
                "needed": 2.0 * 1.96 * part["estimate"].std(),
            }
        )
    return pd.DataFrame(out)


def main() -> None:
    """Run the seeds asked for, or join parts, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seeds", nargs=2, type=int, default=(0, 200), metavar=("FROM", "TO"))
    parser.add_argument("--out", help="write the intervals to this CSV file")
    parser.add_argument("--join", nargs="+", help="read intervals from these files instead")
    options = parser.parse_args()
    if options.join:
        found = pd.concat([pd.read_csv(path) for path in options.join], ignore_index=True)
    else:
        start = time.perf_counter()
        rows = [row for seed in range(*options.seeds) for row in study_seed(seed)]
        found = pd.DataFrame(rows)
        print(f"{time.perf_counter() - start:.0f} s")
    if options.out:
        found.to_csv(options.out, index=False)
    print(summary(found).round(4).to_string(index=False))
    pbo = found.groupby("seed")["pbo"].first()
    error = pbo.std(ddof=1) / np.sqrt(len(pbo))
    print(
        f"PBO over {N_PORTFOLIOS} random portfolios: {pbo.mean():.3f} +- {error:.3f} "
        f"({len(pbo)} seeds)"
    )


if __name__ == "__main__":
    main()
