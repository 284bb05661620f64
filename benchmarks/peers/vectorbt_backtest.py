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

    def run(scale: float = 1.0, fees: float = 0.001) -> vbt.Portfolio:
        return vbt.Portfolio.from_orders(
            prices,
            size=weights * scale if scale != 1.0 else weights,
            size_type="targetpercent",
            group_by=True,
            cash_sharing=True,
            call_seq="auto",  # sell first, so that the cash is there to buy with
            fees=fees,
            init_cash=1e6,
            freq="D",
        )

    def work() -> tuple[float, object]:
        portfolio = run()
        return float(portfolio.final_value()), portfolio.returns()

    # After a warm-up, so that compilation is not timed. vectorbt computes results when asked:
    # the final value and the daily returns are what both of us are asked for.
    seconds = best_cpu_seconds(work, repeats=5)
    orders_only = best_cpu_seconds(run, repeats=3)
    growth = float(run().total_return()) + 1.0
    # Without costs, and with costs but cash enough to pay them: see bench_backtest.py.
    check = [float(run(fees=0.0).total_return()) + 1.0, float(run(0.98).total_return()) + 1.0]
    note = f"simulation without returns: {orders_only:.3f} s; wealth ends at {growth:.6f}"
    report("vectorbt from_orders", version("vectorbt"), seconds, note=note, check=check)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
