"""Saved runs side by side: a list of them, and what two or more differ in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from alphakeel.config import config_to_dict
from alphakeel.errors import AlphakeelError, ConfigError
from alphakeel.storage.saved_runs import SavedRun, list_runs, open_run, remove_run

__all__ = ["curves_of", "differing_settings", "prune", "runs_table", "side_by_side"]

FIGURES = ("annual_return", "annual_volatility", "sharpe", "max_drawdown", "var_95", "turnover")
COLUMNS = ["run", "data", "test", "stocks", "models", "recommended", "sharpe", "note"]


def runs_table(runs: str | Path) -> pd.DataFrame:
    """One row a run, the newest last; a run that cannot be read says why."""
    return pd.DataFrame([_row(folder) for folder in list_runs(runs)], columns=COLUMNS)


def _row(folder: Path) -> dict[str, Any]:
    empty: dict[str, Any] = {**dict.fromkeys(COLUMNS, ""), "run": folder.name}
    try:
        run = open_run(folder)
        best = run.recommendation().strategy
        table = run.table("table_1").set_index("strategy")
    except AlphakeelError as error:
        return {**empty, "sharpe": float("nan"), "note": str(error)}
    return {
        **empty,
        "data": run.about["name"],
        "test": f"{run.about['test_start']} to {run.about['test_end']}",
        "stocks": run.about["n_assets"],
        "models": ", ".join(run.models),
        "recommended": best,
        "sharpe": float(table["sharpe"].astype(float).get(best, float("nan"))),
    }


def differing_settings(opened: Sequence[SavedRun]) -> pd.DataFrame:
    """Settings, data and versions that are not the same in all runs: one row each, a column a run.

    Raises
    ------
    ConfigError
        If fewer than two runs are given.
    """
    if len(opened) < 2:
        raise ConfigError("comparing needs two runs or more: name them.")
    flat = [_flat(run) for run in opened]
    names = sorted({name for one in flat for name in one})
    columns = _names(opened)
    rows = [
        {
            "setting": name,
            **{c: str(one.get(name, "")) for c, one in zip(columns, flat, strict=True)},
        }
        for name in names
        if len({str(one.get(name, "")) for one in flat}) > 1
    ]
    return pd.DataFrame(rows, columns=["setting", *columns])


def _flat(run: SavedRun) -> dict[str, Any]:
    flat: dict[str, Any] = {"data": run.about["name"], "data_hash": run.about["data_hash"][:12]}
    for section, values in config_to_dict(run.config).items():
        own = values if isinstance(values, Mapping) else {"": values}
        flat |= {f"{section}.{key}".rstrip("."): value for key, value in own.items()}
    return flat | {f"version of {name}": text for name, text in run.about["versions"].items()}


def _names(opened: Sequence[SavedRun]) -> list[str]:
    """Names of runs, with a number where two are alike."""
    names = [run.name for run in opened]
    return [name if names.count(name) == 1 else f"{name} ({k + 1})" for k, name in enumerate(names)]


def side_by_side(opened: Sequence[SavedRun]) -> dict[str, pd.DataFrame]:
    """Table I of the runs, one table a figure: strategy, and a column a run; then their Rank IC."""
    columns = _names(opened)
    tables = [run.table("table_1").set_index("strategy") for run in opened]
    labels = list(dict.fromkeys(label for table in tables for label in table.index))
    out = {}
    for figure in FIGURES:
        frame = pd.DataFrame({"strategy": labels})
        for column, table in zip(columns, tables, strict=True):
            frame[column] = table[figure].reindex(labels).astype(float).to_numpy()
        out[figure] = frame
    ics = [run.table("ic").set_index(["model", "horizon"])["rank_ic"] for run in opened]
    joined = pd.concat(ics, axis=1, keys=columns).reset_index()
    joined["horizon"] = joined["horizon"].astype(str) + " days"
    return {**out, "rank_ic": joined}


def curves_of(opened: Sequence[SavedRun], strategy: str | None = None) -> dict[str, pd.Series]:
    """Wealth of each run's strategy by day: the one asked for, or the recommended one.

    Where nothing is recommended it is the strategy with the highest Sharpe ratio.
    """
    curves = {}
    for name, run in zip(_names(opened), opened, strict=True):
        label = run.recommendation().strategy if strategy is None else run.label_of(strategy)
        wealth = run.series("wealth")
        if label not in wealth.columns:
            table = run.table("table_1").set_index("strategy")["sharpe"].astype(float)
            label = str(table.idxmax())
        own = wealth[label]
        curves[f"{name}: {label}"] = own / own.iloc[0]
    return curves


def prune(runs: str | Path, keep: int) -> tuple[str, ...]:
    """Delete all runs but the newest `keep`; those with a journal stay.

    Returns
    -------
    tuple of str
        Names of the runs that were deleted.

    Raises
    ------
    ConfigError
        If `keep` is negative.
    DataError
        If a folder cannot be deleted.
    """
    if keep < 0:
        raise ConfigError(f"keep is {keep}; give the number of runs to keep, at least 0.")
    folders = list_runs(runs)
    old = folders[: max(len(folders) - keep, 0)]
    gone = []
    for folder in old:
        if (folder.parent / "live" / folder.name / "journal").is_dir():
            continue
        remove_run(folder)
        gone.append(folder.name)
    return tuple(gone)
