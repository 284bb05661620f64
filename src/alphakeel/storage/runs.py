"""Run folders: settings, versions, data hash, tables, series and fitted models; never code.

Two equal runs give the same bytes in every file but `TIMINGS`, whatever interrupted them and
however many fits ran at a time.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from alphakeel.config import config_to_dict, config_to_toml, fingerprinted
from alphakeel.data.spreadsheets import write_csv
from alphakeel.files import folder_all_or_nothing, slug
from alphakeel.model_factory import hedged
from alphakeel.models.persistence import ModelState
from alphakeel.pipeline.checkpoints import IDLE, study_key
from alphakeel.pipeline.model_results import ModelResult
from alphakeel.pipeline.rows import days_of_rows
from alphakeel.results import Study
from alphakeel.stats.exposure_rules import LIMITED
from alphakeel.storage.checkpoints import DiskStore, checksum, pack_arrays
from alphakeel.storage.saved_models import save_model

__all__ = [
    "TIMINGS",
    "CHECKSUMS",
    "RISK_NETWORK",
    "file_hash",
    "forget_progress",
    "memory_file",
    "run_id",
    "save_risk_network",
    "save_run",
    "summary_json",
    "write_checksums",
]

# Folder of the networks that forecast volatility for the allocation, beside those of the models.
RISK_NETWORK = "risk_network"
# The one file that differs between equal runs.
TIMINGS = "timings.json"
# The file with the SHA-256 of the other files of a run.
CHECKSUMS = "checksums.json"


def run_id(study: Study) -> str:
    """Name of a run: the date, and eight characters of a hash of data, settings and versions."""
    settings = fingerprinted(config_to_dict(study.config), without=IDLE)
    key = json.dumps([study.data_hash, settings, study.versions])
    return f"{dt.date.today().isoformat()}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def save_run(
    study: Study,
    folder: str | Path = "runs",
    *,
    more: Callable[[Path], object] | None = None,
) -> Path:
    """Write a study's numbers into a folder of its own, all or nothing.

    The folder is filled under another name and then renamed: a killed process leaves no half a run
    under its name, and an older run of that name stays until the new one is whole.

    Parameters
    ----------
    study : Study
    folder : str or Path
        Of all runs; made if it does not exist. A run of the same name (the same day, data and
        settings) is replaced.
    more : callable, optional
        Called with the folder before it is renamed, to write the report into it, for example.

    Returns
    -------
    Path
        The folder of the run: ``study.toml`` (the settings, ready to run again), ``run.json``
        (versions, data hash, dates, notes), ``timings.json`` (seconds of each stage, fits at a
        time: the one file in which equal runs differ), ``tables/`` (CSV, and one ``tables.json``),
        ``series/`` (daily returns, wealth and weights of each strategy; scores and IC of each
        model), ``models/`` (every fit, as `load_model` reads it, and of networks the memory from
        which later decisions are scored; of the user's own models nothing),
        ``cleaning_ledger.csv`` and ``checksums.json`` (SHA-256 of every other file, which
        `storage.saved_runs` checks).

    Raises
    ------
    DataError
        If the folder cannot be written.
    """
    target = Path(folder) / run_id(study)
    with folder_all_or_nothing(target, "the run") as scratch:
        _write(study, scratch)
        if more is not None:
            more(scratch)
        write_checksums(scratch)
    return target


def forget_progress(study: Study, store: DiskStore) -> None:
    """Delete the checkpoints of a study whose run is saved: it has the fits itself."""
    for model in study.models.values():
        for key in model.keys:
            store.discard(f"fit-{key}")
    store.discard(study_key(study.data_hash, config_to_dict(study.config), study.versions))


def summary_json(study: Study) -> dict[str, Any]:
    """The study in plain values for JSON: fractions, ISO dates, null for NaN."""
    return {
        "name": study.name,
        "settings": _settings(study),
        "data_hash": study.data_hash,
        "versions": study.versions,
        "test_start": str(study.dates[study.test][0]),
        "test_end": str(study.dates[study.test][-1]),
        "n_assets": len(study.asset_names),
        "folds": [
            {
                "train": [str(day) for day in fold.train],
                "test": [str(day) for day in fold.test],
                "selected": {model: list(names) for model, names in fold.selected.items()},
            }
            for fold in study.folds
        ],
        "tables": {name: _records(table) for name, table in study.tables().items()},
        "notes": list(study.notes),
        "own_models": _own_models(study),
    }


def _own_models(study: Study) -> dict[str, dict[str, Any]]:
    """The user's models by name: what they are called and are, and that no fit of them is saved."""
    return {
        own.name: {
            "label": own.label,
            "about": own.about,
            "estimator": _estimator(study.models[own.name]),
            "fits_saved": False,
            "versions": study.plan.custom_models.versions,
        }
        for own in study.plan.custom_models.models
    }


def _estimator(model: ModelResult) -> str:
    """Name of the class that a model of the user's is an object of."""
    fitted: Any = model.fitted[-1]
    return type(fitted.estimator_).__name__


def _settings(study: Study) -> dict[str, Any]:
    """The settings in plain values, without those that nothing but timings depend on."""
    settings = config_to_dict(study.config)
    return {name: value for name, value in settings.items() if name not in IDLE}


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    named = any(name is not None for name in table.index.names)
    frame = table.reset_index() if named else table
    return [{str(k): _plain(v) for k, v in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    if isinstance(value, (np.bool_, bool)):
        return bool(value)
    if isinstance(value, (np.integer, int)):
        return int(value)
    if isinstance(value, (np.floating, float)):
        return float(value) if np.isfinite(value) else None
    return value if isinstance(value, str) or value is None else str(value)


def _write(study: Study, folder: Path) -> None:
    text = config_to_toml(study.config, without=IDLE)
    (folder / "study.toml").write_text(text, encoding="utf-8")
    (folder / "tables").mkdir()
    (folder / "series").mkdir()
    summary = summary_json(study)
    records = summary.pop("tables")
    data = {
        "data_start": str(study.dates[0]),
        "data_end": str(study.dates[-1]),
        "assets": [str(name) for name in study.asset_names],
    }
    _write_json({**summary, **data}, folder / "run.json")
    _write_json({"jobs": study.config.jobs, "seconds": study.seconds}, folder / TIMINGS)
    _write_json(records, folder / "tables" / "tables.json")
    for name, table in study.tables().items():
        named = any(level is not None for level in table.index.names)
        write_csv(table, folder / "tables" / f"{name}.csv", index=named)
    write_csv(study.cleaning.to_frame(), folder / "cleaning_ledger.csv", index=False)
    _write_portfolios(study, folder / "series")
    for model in study.models.values():
        _write_model(study, model, folder)
    for number, (fold, state) in enumerate(zip(study.folds, study.risk_networks, strict=False)):
        save_risk_network(
            state,
            folder / "models" / RISK_NETWORK / f"fold_{number}",
            train_window=fold.train,
            data_hash=study.data_hash,
        )


def _write_portfolios(study: Study, folder: Path) -> None:
    """Daily series of every strategy side by side, and the weights of each."""
    days = pd.DatetimeIndex(study.dates[study.test], name="date")
    ledgers = study.every_ledger()
    for what in ("net_returns", "gross_returns", "wealth", "turnover", "costs", "cash"):
        frame = pd.DataFrame({k: getattr(v, what) for k, v in ledgers.items()}, index=days)
        write_csv(frame, folder / f"{what}.csv", index=True)
    if study.portfolios.hedged:
        own = {hedged(name): series for name, series in study.portfolios.hedged.items()}
        for what in ("net_returns", "hedge"):
            frame = pd.DataFrame({k: getattr(v, what) for k, v in own.items()}, index=days)
            place = "hedged_returns" if what == "net_returns" else what
            write_csv(frame, folder / f"{place}.csv", index=True)
    exposure = {name: plan.exposure for name, plan in study.portfolios.overlays.items()}
    write_csv(pd.DataFrame(exposure, index=days), folder / "exposure.csv", index=True)
    for label, ledger in ledgers.items():
        weights = pd.DataFrame(ledger.weights, index=days, columns=study.asset_names)
        weights.to_parquet(folder / f"weights_{slug(label)}.parquet")


def _write_model(study: Study, model: ModelResult, folder: Path) -> None:
    """A model's fits (the combined one has none), scores, Rank IC and training by decision.

    Of a model that allocates by itself also compositions and safety factors.
    """
    decisions = pd.DatetimeIndex(study.dates[study.decisions], name="date")
    for number, (fold, fitted) in enumerate(zip(study.folds, model.fitted, strict=False)):
        if not isinstance(fitted, ModelState):  # code of the user's, which is never saved
            continue
        entries = (entry for entry in model.history if entry["fold"] == number)
        own = [{name: x for name, x in entry.items() if name != "fold"} for entry in entries]
        save_model(
            fitted,
            folder / "models" / model.name / f"fold_{number}",
            factors=fold.selected[model.name],
            train_window=fold.train,
            data_hash=study.data_hash,
            fit=(model.keys[number], own),
        )
    series, horizons = folder / "series", study.config.target.horizons
    scores = pd.DataFrame(model.scores, index=decisions, columns=study.asset_names)
    scores.dropna(how="all").to_parquet(series / f"scores_{model.name}.parquet")
    if model.weights is not None and model.safety is not None:
        shares = pd.DataFrame(model.weights, index=decisions, columns=study.asset_names)
        shares.dropna(how="all").to_parquet(series / f"composition_{model.name}.parquet")
        factors = pd.DataFrame(model.safety, index=decisions, columns=list(LIMITED))
        factors.dropna(how="all").to_parquet(series / f"safety_{model.name}.parquet")
    if model.memory is not None:
        last = study.dates[days_of_rows(model.name, study.plan)[model.memory.row - 1]]
        # One text: several would come in an order that changes from run to run.
        header = json.dumps({"rows": model.memory.row, "last": str(last)})
        kept = pack_arrays(model.memory.arrays, {"memory": header})
        (folder / memory_file(model.name)).write_bytes(kept)
    daily = pd.DataFrame(model.rank_ic, index=decisions, columns=[f"{h}d" for h in horizons])
    write_csv(daily.dropna(how="all"), series / f"rank_ic_{model.name}.csv", index=True)
    if model.history:
        history = pd.DataFrame(model.history)
        write_csv(history, series / f"training_{model.name}.csv", index=False)


def save_risk_network(
    network: Any, folder: Path, *, train_window: tuple[Any, Any], data_hash: str
) -> None:
    """Save the risk network of a fold, or its state: it reads returns, and no factor."""
    save_model(network, folder, factors=(), train_window=train_window, data_hash=data_hash)


def memory_file(model: str) -> str:
    """Where a run keeps the memory of a model's last fit."""
    return f"models/{model}/memory.safetensors"


def write_checksums(folder: Path) -> None:
    """Write the SHA-256 of every file of a run but its timings, and their own."""
    apart = (CHECKSUMS, TIMINGS)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in apart)
    own = {path.relative_to(folder).as_posix(): file_hash(path) for path in files}
    _write_json({"files": own, "sha256": checksum(own)}, folder / CHECKSUMS)


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(value: Any, path: Path) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")
