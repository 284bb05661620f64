"""Attribution of a result, step by step: equal weight, scores, allocation, overlay, costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.evaluation.performance import HasReturns
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
    steps: Mapping[str, Sequence[tuple[str, HasReturns]]],
    *,
    level: float,
    n_bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """Every model at every step, with what the step added to the one before.

    Parameters
    ----------
    steps : mapping of str to sequence of (str, HasReturns)
        By model, the names and backtests of its steps, in order.
    level, n_bootstrap, seed
        As in `strategy_tables`.

    Returns
    -------
    DataFrame indexed by (model, rung), a rung being a step
        annual_return, annual_volatility, sharpe, max_drawdown and var_95 net of costs;
        cost_drag (annual return lost to costs); the same five with ``_added`` (this step less the
        one before, NaN at the first); sharpe_added_low, _high and _p (Ledoit and Wolf).
    """
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for model, own in steps.items():
        before: HasReturns | None = None
        for step, ledger in own:
            figures = _figures(ledger)
            gross = float(performance.annual_return(ledger.gross_returns))
            row = figures | {"cost_drag": gross - figures["annual_return"]}
            lower = dict.fromkeys(figures, np.nan) if before is None else _figures(before)
            row |= {f"{name}_added": figures[name] - lower[name] for name in figures}
            ends = dict.fromkeys(("low", "high", "p"), np.nan)
            if before is not None:
                (test,) = sharpe_differences(
                    ledger.excess_returns,
                    before.excess_returns,
                    level=level,
                    n_bootstrap=n_bootstrap,
                    seed=seed,
                )
                ends = {"low": test.low, "high": test.high, "p": test.p_value}
            row |= {f"sharpe_added_{end}": value for end, value in ends.items()}
            rows[model, step] = row
            before = ledger
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["model", "rung"])
    return table


def _figures(ledger: HasReturns) -> dict[str, float]:
    figures = {name: float(figure(ledger.net_returns)) for name, figure in _FIGURES.items()}
    return figures | {"sharpe": float(performance.sharpe(ledger.excess_returns))}


def attribution_table(ladder: pd.DataFrame) -> pd.DataFrame:
    """What scores, allocation, overlay and costs each added to a model's result.

    Made of a `ladder_table`, indexed by (model, part): ``equal weight`` (the level itself), each
    further step (what it added, net of its own costs), ``costs`` (of all trading of the last step:
    in the other parts already), ``total`` (the last step). Parts but costs add up to the total.
    """
    columns = list(_FIGURES)
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for model, steps in ladder.groupby(level="model", sort=False):
        steps = steps.droplevel("model")
        for k, (step, row) in enumerate(steps.iterrows()):
            suffix = "_added" if k else ""
            rows[str(model), str(step)] = {c: float(row[f"{c}{suffix}"]) for c in columns}
        last = steps.iloc[-1]
        costs = dict.fromkeys(columns, np.nan) | {"annual_return": -float(last["cost_drag"])}
        rows[str(model), "costs"] = costs
        rows[str(model), "total"] = {c: float(last[c]) for c in columns}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["model", "part"])
    return table
