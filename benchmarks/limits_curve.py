"""Tighten a limit, train anew, and see what risk is realised: the table of risk-in-the-loss.md.

    python benchmarks/limits_curve.py                        # the simulator, a minute or two
    python benchmarks/limits_curve.py ../shared/data/us      # a folder of real prices
    python benchmarks/limits_curve.py --limit max_drawdown 0.3 0.2 0.15 0.1
    python benchmarks/limits_curve.py --figure curve.svg

The first 60 % of the rows are trained on, the rest is out of sample. Weekly rows, weights decided
at a close and traded at the next one, 10 basis points a side.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from _chart import write_chart
from alphakeel.data.bundled import load_bundled
from alphakeel.data.cleaning import clean
from alphakeel.data.loading import load_panel
from alphakeel.data.panel import universe_mask
from alphakeel.factors import FACTORS
from alphakeel.factors.base import compute_factors, standardise
from alphakeel.factors.targets import forward_returns, holding_returns, rank_forward
from alphakeel.models.allocation_network import PathLimits
from alphakeel.models.constrained import RiskLimitedLSTM
from alphakeel.portfolio.exposure import limit_exposure
from alphakeel.risk.volatility import ew_volatility
from alphakeel.stats.performance import held_path, sharpe
from alphakeel.stats.rolling import simple_returns

STEP, LAG, HORIZONS, COST = 5, 1, (5, 20), 0.001
TRAIN_SHARE = 0.6
PURGE = -(-(LAG + max(HORIZONS)) // STEP)


def make_inputs(source: str) -> dict[str, NDArray[Any]]:
    """Everything on weekly rows; only targets and returns look past their row."""
    if source == "synthetic":
        panel = load_bundled("synthetic", n_assets=60, n_dates=2770, seed=1)
    else:
        panel = load_panel(source)
    cleaned = clean(panel)
    eligible = cleaned.eligible & universe_mask(panel)
    factors = compute_factors(cleaned.panel, FACTORS)
    rows = np.arange(252, panel.n_observations, STEP)
    sample = (eligible & cleaned.panel.estimation_mask)[rows]
    price = pd.DataFrame(cleaned.panel["accounting_close"]).ffill().to_numpy()
    daily = simple_returns(price)
    returns = holding_returns(daily, rows, lag=LAG, days=STEP)
    forward = [forward_returns(price, lag=LAG, horizon=h)[rows] for h in HORIZONS]
    return {
        "features": standardise(factors.values[rows], sample),
        "market": factors.market[rows],
        "mask": sample,
        "targets": rank_forward(np.stack(forward, axis=-1), eligible[rows]),
        "returns": returns,
        "volatility": ew_volatility(daily, halflife=30)[rows],
        "daily": daily,
        "days": rows,
    }


def realise(inputs: dict[str, NDArray[Any]], limits: PathLimits, seeds: int) -> dict[str, Any]:
    """Train under limits; measure them on the rows trained on and on those after the purge."""
    inputs = dict(inputs)
    daily, days = inputs.pop("daily"), inputs["days"]
    n_priced = int(np.isfinite(inputs["returns"]).any(axis=2).all(axis=1).sum())
    n_train = int(TRAIN_SHARE * len(inputs["mask"]))
    start = time.process_time()
    model = RiskLimitedLSTM(limits=limits, n_seeds=seeds, device="cpu")
    own = {name: values[:n_train] for name, values in inputs.items()}
    model.fit(**own, daily=daily[: days[n_train - 1] + 1])
    seconds = time.process_time() - start
    given = {k: v for k, v in inputs.items() if k not in ("targets", "returns", "days")}
    shares = model.predict_weights(**given)
    (name,) = limits.active()
    found: dict[str, Any] = {"seconds": seconds, **model.limits_[name]}
    for part, rows in (
        ("in", slice(0, n_train)),
        ("out", slice(n_train + PURGE, n_priced)),
    ):
        exposure = limit_exposure(
            shares[rows],
            daily,
            days[rows],
            limits=limits.active(),
            factors=model.safety_factors_,
            lag=LAG,
            cost_per_side=COST,
        ).exposure
        weights = shares[rows] * exposure[:, None]
        path, traded = held_path(weights, inputs["returns"][rows], cost_per_side=COST)
        found[part] = limits.measure(path, traded)
        found[part]["sharpe"] = float(sharpe(path))
        found[part]["exposure"] = float(weights.sum(axis=1).mean())
    return found


def main() -> None:
    """Print one line per limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="?", default="synthetic")
    parser.add_argument(
        "--limit", nargs="+", default=["volatility", "0.20", "0.16", "0.12", "0.08"]
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--figure", type=Path, help="SVG file to draw")
    options = parser.parse_args()
    name, *values = options.limit
    inputs = make_inputs(options.source)
    print(f"| {name} at most | promised | safety factor | in sample | out of sample ", end="")
    print("| mean exposure in, out | Sharpe in, out | CPU s |")
    print("|---|---|---|---|---|---|---|---|")
    drawn: dict[str, list[float]] = {"in sample": [], "out of sample": []}
    for value in values:
        found = realise(inputs, PathLimits(**{name: float(value)}), options.seeds)
        inside, outside = found["in"], found["out"]
        drawn["in sample"].append(inside[name])
        drawn["out of sample"].append(outside[name])
        print(
            f"| {float(value):.3g} | {found['promised']:.4f} | {found['safety']:.3f} "
            f"| {inside[name]:.4f} | {outside[name]:.4f} "
            f"| {inside['exposure']:.2f}, {outside['exposure']:.2f} "
            f"| {inside['sharpe']:.2f}, {outside['sharpe']:.2f} | {found['seconds']:.0f} |",
            flush=True,
        )
    if options.figure is not None:
        words = name.replace("_", " ")
        write_chart(
            options.figure,
            [float(value) for value in values],
            drawn,
            x_title=f"{words} at most",
            y_title=f"realised {words}",
            limit="the limit",
        )


if __name__ == "__main__":
    main()
