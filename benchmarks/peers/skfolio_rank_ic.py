"""skfolio: tie-exact cross-sectional Spearman correlation for every horizon."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from _peer import load, report
from skfolio.utils.stats import cs_spearman_correlation

from _clock import best_cpu_seconds


def main(folder: Path) -> None:
    factor, forward = load(folder, "factor", "forward")
    targets = [np.ascontiguousarray(forward[..., h]) for h in range(forward.shape[2])]

    def rank_ic() -> list[np.ndarray]:
        return [cs_spearman_correlation(factor, target, axis=1) for target in targets]

    seconds = best_cpu_seconds(rank_ic, repeats=3)
    check = [float(np.nanmean(series)) for series in rank_ic()]
    report("skfolio cs_spearman_correlation", version("skfolio"), seconds, check=check)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
