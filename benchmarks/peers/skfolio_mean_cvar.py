"""skfolio: one mean-CVaR portfolio of 500 stocks on 500 scenarios, by its HiGHS."""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from _peer import load, report
from skfolio import RiskMeasure
from skfolio.measures import cvar
from skfolio.optimization import MeanRisk, ObjectiveFunction
from skfolio.prior import BasePrior, ReturnDistribution

from _clock import best_cpu_seconds


class GivenMean(BasePrior):
    """The scenarios of the window with expected returns from outside."""

    def __init__(self, mean: np.ndarray) -> None:
        self.mean = mean

    def fit(self, X: np.ndarray, y: object = None, **_: object) -> GivenMean:  # noqa: ARG002, D102
        returns = np.asarray(X)
        self.return_distribution_ = ReturnDistribution(
            mu=self.mean, covariance=np.eye(returns.shape[1]), returns=returns
        )
        return self


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    returns, expected = load(folder, "returns", "expected")
    scenarios = returns[:500]

    def solve(solver: str) -> np.ndarray:
        model = MeanRisk(
            objective_function=ObjectiveFunction.MAXIMIZE_UTILITY,
            risk_measure=RiskMeasure.CVAR,
            risk_aversion=1.0,
            max_weights=0.03,
            prior_estimator=GivenMean(expected[0]),
            solver=solver,
        )
        return np.asarray(model.fit(scenarios).weights_)

    seconds = best_cpu_seconds(lambda: solve("HIGHS"), repeats=2)
    default = best_cpu_seconds(lambda: solve("CLARABEL"), repeats=1, warm_up=False)
    weights = solve("HIGHS")
    value = float(-expected[0] @ weights + cvar(scenarios @ weights, beta=0.95))
    note = f"its default solver, Clarabel: {default:.2f} s"
    report("skfolio MeanRisk", version("skfolio"), seconds, check=[value], note=note)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
