"""vectorbt: daily rebalancing to target weights, one cash account, 10 basis points a side."""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import version
from pathlib import Path

from _peer import load, report

from _clock import best_cpu_seconds


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    import vectorbt as vbt

    weights, prices = load(folder, "weights", "prices")

    def run() -> vbt.Portfolio:
        return vbt.Portfolio.from_orders(
            prices,
            size=weights,
            size_type="targetpercent",
            group_by=True,
            cash_sharing=True,
            call_seq="auto",  # sell first, so that the cash is there to buy with
            fees=0.001,
            init_cash=1e6,
            freq="D",
        )

    # After a warm-up, so that compilation is not timed. vectorbt computes results when asked:
    # our ledger holds the returns, so they are asked for here.
    seconds = best_cpu_seconds(lambda: run().returns(), repeats=3)
    orders_only = best_cpu_seconds(run, repeats=3)
    growth = float(run().total_return()) + 1.0
    note = f"simulation without returns: {orders_only:.3f} s; wealth ends at {growth:.6f}"
    report("vectorbt from_orders", version("vectorbt"), seconds, note=note)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
