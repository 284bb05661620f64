"""bt: daily rebalancing to target weights, 10 basis points a side, on the first dates only."""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from _peer import load, report

from _clock import best_cpu_seconds

N_DATES = 100  # the whole panel takes minutes; the cost per date hardly changes after the first


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    import bt

    all_weights, all_prices = load(folder, "weights", "prices")
    n_assets = all_prices.shape[1]
    dates = pd.bdate_range("2010-01-04", periods=N_DATES)
    names = [f"stock_{i}" for i in range(n_assets)]
    prices = pd.DataFrame(all_prices[:N_DATES], index=dates, columns=names)
    weights = pd.DataFrame(all_weights[:N_DATES], index=dates, columns=names)

    def run() -> None:
        algos = [bt.algos.RunDaily(), bt.algos.WeighTarget(weights), bt.algos.Rebalance()]
        test = bt.Backtest(
            bt.Strategy("daily", algos),
            prices,
            initial_capital=1e9,
            commissions=lambda quantity, price: abs(quantity) * price * 0.001,
            integer_positions=False,
            progress_bar=False,
        )
        bt.run(test)

    seconds = best_cpu_seconds(run, repeats=1, warm_up=False)
    scaled = seconds * len(all_prices) / N_DATES
    note = f"{N_DATES} dates took {seconds:.1f} s; scaled to {len(all_prices)} by dates"
    report("bt (scaled)", version("bt"), scaled, note=note)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
