"""alphalens-reloaded: Rank IC of one factor for every horizon."""

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
    from alphalens.performance import factor_information_coefficient

    factor, forward = load(folder, "factor", "forward")
    n_dates, n_assets, n_horizons = forward.shape
    index = pd.MultiIndex.from_product(
        [pd.bdate_range("2010-01-04", periods=n_dates), range(n_assets)], names=["date", "asset"]
    )
    # The frame that alphalens' own get_clean_factor_and_forward_returns makes: a row per known
    # pair, a column per horizon. Making it is not timed.
    table = pd.DataFrame(forward.reshape(-1, n_horizons), index=index, columns=["1D", "5D", "20D"])
    table["factor"] = factor.ravel()
    table = table.dropna()
    results: list[pd.DataFrame] = []
    seconds = best_cpu_seconds(
        lambda: results.append(factor_information_coefficient(table)), repeats=1, warm_up=False
    )
    mean = np.asarray(results[0].mean())
    report("alphalens-reloaded", version("alphalens-reloaded"), seconds, check=mean.tolist())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
