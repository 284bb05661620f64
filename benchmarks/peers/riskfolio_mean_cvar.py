"""Riskfolio-Lib: one mean-CVaR portfolio of 500 stocks on 500 scenarios."""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from _peer import load, report

from _clock import best_cpu_seconds


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    import riskfolio as rp

    returns, expected = load(folder, "returns", "expected")
    scenarios = returns[:500]
    names = [f"s{i}" for i in range(scenarios.shape[1])]

    def solve() -> np.ndarray:
        portfolio = rp.Portfolio(returns=pd.DataFrame(scenarios, columns=names), alpha=0.05)
        portfolio.mu = pd.DataFrame(expected[:1], columns=names)
        portfolio.cov = pd.DataFrame(np.eye(len(names)), index=names, columns=names)
        portfolio.upperlng = 0.03
        portfolio.solvers = ["CLARABEL"]
        # Its utility is return less l times the risk.
        weights = portfolio.optimization(
            model="Classic", rm="CVaR", obj="Utility", rf=0, l=1, hist=True
        )
        return np.asarray(weights).ravel()

    seconds = best_cpu_seconds(solve, repeats=1, warm_up=False)
    weights = solve()
    worst = np.sort(scenarios @ weights)[:25]
    value = float(-expected[0] @ weights - worst.mean())
    report("Riskfolio-Lib", version("riskfolio-lib"), seconds, check=[value])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
