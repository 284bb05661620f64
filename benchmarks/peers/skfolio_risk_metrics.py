"""skfolio.measures: the four risk figures of many portfolios."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import skfolio.measures as sm
from _peer import load, report

from _clock import best_cpu_seconds


def main(folder: Path) -> None:
    (returns,) = load(folder, "returns")
    columns = np.ascontiguousarray(returns.T)

    def run() -> list[tuple[float, float]]:
        figures = []
        for r in columns:
            sm.value_at_risk(r, beta=0.95)
            sm.cvar(r, beta=0.95)
            drawdown = sm.get_drawdowns(r, compounded=True).min()
            figures.append((float(sm.standard_deviation(r)) * 252**0.5, -float(drawdown)))
        return figures

    seconds = best_cpu_seconds(run, repeats=3)
    check = [float(x) for x in np.mean(run(), axis=0)]
    report("skfolio.measures", version("skfolio"), 1e6 * seconds / len(columns), check=check)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
