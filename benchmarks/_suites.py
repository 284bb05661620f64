"""What is measured: our suites, their inputs, and which peer stands beside which row."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SUITES = ("factors", "screening", "lstm", "backtest", "risk_metrics", "allocation", "study")
MARK = "PEER "


@dataclass(frozen=True)
class Peer:
    """Another library on one of our measurements."""

    suite: str
    row: str  # how the name of our row begins
    label: str
    script: str  # benchmarks/peers/<script>.py
    environment: str | None  # benchmarks/peers/<environment>.txt; None: ours
    more_is_better: bool = False


VALUES, RANK_IC = "factor values per CPU second", "tie-exact Rank IC"
LSTM = "training predictions per CPU second, LSTM 2 x 64 on 6 factors and 60 rows, float32"
RISK = "four risk metrics"
ONE_SOLVE = "mean-CVaR, one cold solve"
PEERS = (
    Peer("factors", VALUES, "Qlib Alpha158", "qlib_alpha158", "qlib", more_is_better=True),
    Peer(
        "screening",
        RANK_IC,
        "alphalens-reloaded",
        "alphalens_rank_ic",
        "alphalens",
    ),
    Peer(
        "screening",
        RANK_IC,
        "skfolio cs_spearman_correlation",
        "skfolio_rank_ic",
        None,
    ),
    Peer("lstm", LSTM, "Qlib LSTM", "qlib_lstm", "qlib", more_is_better=True),
    Peer(
        "backtest", "backtest, daily reb", "vectorbt from_orders", "vectorbt_backtest", "vectorbt"
    ),
    Peer("backtest", "backtest, daily reb", "bt (scaled)", "bt_backtest", "bt"),
    Peer("allocation", ONE_SOLVE, "skfolio MeanRisk (HiGHS)", "skfolio_mean_cvar", None),
    Peer("allocation", ONE_SOLVE, "Riskfolio-Lib", "riskfolio_mean_cvar", "riskfolio"),
    # alphalens-reloaded's environment holds empyrical-reloaded.
    Peer("risk_metrics", RISK, "empyrical-reloaded", "empyrical_risk_metrics", "alphalens"),
    Peer("risk_metrics", RISK, "skfolio.measures", "skfolio_risk_metrics", None),
)


def write_inputs(suite: str, folder: Path) -> None:
    """The arrays that a suite's peers read, as .npy files."""
    if suite == "factors":
        arrays = make_bars(seed=0)
    elif suite == "screening":
        arrays = importlib.import_module("bench_screening").make_inputs(0)
    elif suite == "lstm":
        arrays = importlib.import_module("bench_lstm").make_inputs(6, n_series=0)
    elif suite == "backtest":
        weights, prices = importlib.import_module("bench_backtest").make_inputs(0)
        arrays = {"weights": weights, "prices": prices}
    elif suite == "risk_metrics":
        arrays = importlib.import_module("bench_risk_metrics").make_inputs(0)
    elif suite == "allocation":
        arrays = importlib.import_module("bench_allocation").make_inputs(0)
    else:
        arrays = {}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def make_bars(seed: int, n_dates: int = 2770, n_assets: int = 500) -> dict[str, np.ndarray]:
    """Open, high, low, close and volume of random walks, each of shape (n_dates, n_assets)."""
    rng = np.random.default_rng(seed)
    shape = (n_dates, n_assets)
    close = 50.0 * np.exp(np.cumsum(0.015 * rng.standard_normal(shape), axis=0))
    opened = close * np.exp(0.005 * rng.standard_normal(shape))
    return {
        "open": opened,
        "high": np.maximum(opened, close) * np.exp(0.005 * np.abs(rng.standard_normal(shape))),
        "low": np.minimum(opened, close) * np.exp(-0.005 * np.abs(rng.standard_normal(shape))),
        "close": close,
        "volume": np.exp(13.0 + rng.standard_normal(shape)),
    }
