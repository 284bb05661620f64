"""Where a result comes from, rung by rung: equal weight, scores, allocation, overlay, costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.evaluation.performance import Track
from alphakeel.stats import performance
from alphakeel.stats.sharpe import sharpe_differences

__all__ = ["attribution_table", "ladder_table"]

Floats = npt.NDArray[np.floating[Any]]

_FIGURES = {
    "annual_return": performance.annual_return,
    "annual_volatility": performance.annual_volatility,
    "sharpe": performance.sharpe,
    "max_drawdown": performance.max_drawdown,
    "var_95": performance.value_at_risk,
}


def ladder_table(
    rungs: Mapping[str, Sequence[tuple[str, Track]]], *, level: float, n_bootstrap: int, seed: int
) -> pd.DataFrame:
    """Every model on every rung, with what the rung added to the one below it.

    Parameters
    ----------
    rungs : mapping of str to sequence of (str, Track)
        By model, the names and backtests of its rungs from the lowest to the highest.
    level, n_bootstrap, seed
        As in `strategy_tables`.

    Returns
    -------
    DataFrame indexed by (model, rung)
        annual_return, annual_volatility, sharpe, max_drawdown and var_95 net of costs;
        cost_drag (annual return lost to costs); the same five with ``_added`` (this rung less the
        one below, NaN on the lowest); sharpe_added_low, _high and _p (Ledoit and Wolf).
    """
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for model, steps in rungs.items():
        below: Track | None = None
        for rung, ledger in steps:
            found = _figures(ledger)
            gross = float(performance.annual_return(ledger.gross_returns))
            row = found | {"cost_drag": gross - found["annual_return"]}
            lower = dict.fromkeys(found, np.nan) if below is None else _figures(below)
            row |= {f"{name}_added": found[name] - lower[name] for name in found}
            ends = dict.fromkeys(("low", "high", "p"), np.nan)
            if below is not None:
                (test,) = sharpe_differences(
                    ledger.net_returns,
                    below.net_returns,
                    level=level,
                    n_bootstrap=n_bootstrap,
                    seed=seed,
                )
                ends = {"low": test.low, "high": test.high, "p": test.p_value}
            row |= {f"sharpe_added_{end}": value for end, value in ends.items()}
            rows[model, rung] = row
            below = ledger
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["model", "rung"])
    return table


def _figures(ledger: Track) -> dict[str, float]:
    return {name: float(figure(ledger.net_returns)) for name, figure in _FIGURES.items()}


def attribution_table(ladder: pd.DataFrame) -> pd.DataFrame:
    """What scores, allocation, overlay and costs each added to a model's result.

    Parameters
    ----------
    ladder : DataFrame
        As from `ladder_table`.

    Returns
    -------
    DataFrame indexed by (model, part)
        part: ``equal weight`` (the level itself), each further rung (what it added, net of its
        own costs), ``costs`` (what all trading of the top rung cost: already in the others, and
        so not to be added), ``total`` (the top rung). Columns annual_return, annual_volatility,
        sharpe, max_drawdown, var_95. Parts but costs add up to the total.
    """
    columns = list(_FIGURES)
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for model, steps in ladder.groupby(level="model", sort=False):
        steps = steps.droplevel("model")
        for k, (rung, row) in enumerate(steps.iterrows()):
            suffix = "_added" if k else ""
            rows[str(model), str(rung)] = {c: float(row[f"{c}{suffix}"]) for c in columns}
        top = steps.iloc[-1]
        costs = dict.fromkeys(columns, np.nan) | {"annual_return": -float(top["cost_drag"])}
        rows[str(model), "costs"] = costs
        rows[str(model), "total"] = {c: float(top[c]) for c in columns}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["model", "part"])
    return table
