"""Runs that are saved: found by name, checked, and read; never changed.

`open_run` reads the settings and the description. What else a caller asks for (fits, tables,
series) is read then, and checked against the run's checksums first: a file that was changed since
is refused.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from skfolio.containers import AssetPanel

from alphakeel.config import COMBINED, StudyConfig, load_config
from alphakeel.errors import ConfigError, DataError
from alphakeel.evaluation.recommendation import Recommendation, recommend
from alphakeel.files import regular_file, slug
from alphakeel.model_factory import LABELS, under_overlay
from alphakeel.models.base import Memory
from alphakeel.pipeline.plan import Plan
from alphakeel.pipeline.rows import days_of_rows
from alphakeel.storage.checkpoints import checksum, read_arrays
from alphakeel.storage.runs import CHECKSUMS, RISK_NETWORK, file_hash, memory_file
from alphakeel.storage.saved_models import load_model

__all__ = ["SavedFold", "SavedRun", "find_run", "list_runs", "open_run", "remove_run"]


@dataclass(frozen=True)
class SavedFold:
    """One fit of a run: first and last decision of training and test, and factors by model."""

    train: tuple[np.datetime64, np.datetime64]
    test: tuple[np.datetime64, np.datetime64]
    selected: dict[str, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class SavedRun:
    """A run in its folder.

    Attributes
    ----------
    folder : Path
    config : StudyConfig
        The settings, with the test window filled in.
    about : dict
        ``run.json``: name and hash of the data, versions, test window, folds, notes, seconds.
    sums : dict of str to str
        SHA-256 of every file by its path in the folder.
    """

    folder: Path
    config: StudyConfig
    about: dict[str, Any]
    sums: dict[str, str]

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name

    @cached_property
    def folds(self) -> tuple[SavedFold, ...]:
        """Its fits, in order."""

        def pair(days: list[str]) -> tuple[np.datetime64, np.datetime64]:
            return np.datetime64(days[0], "D"), np.datetime64(days[1], "D")

        return tuple(
            SavedFold(
                pair(fold["train"]),
                pair(fold["test"]),
                {model: tuple(names) for model, names in fold["selected"].items()},
            )
            for fold in self.about["folds"]
        )

    @property
    def models(self) -> tuple[str, ...]:
        """Models of the run, the linear one first, and the combined one last."""
        combined = (COMBINED,) if COMBINED in self.config.models else ()
        return (*self.folds[0].selected, *combined)

    def fitted(self, model: str) -> tuple[str, ...]:
        """The models whose fits make a model's scores: itself, or the members of the combined."""
        return self.config.members if model == COMBINED else (model,)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every strategy, without and then under the overlay."""
        return tuple(map(str, self.table("table_1")["strategy"]))

    def recommendation(self) -> Recommendation:
        """Which strategy to hold, and why."""
        return recommend(self.table("recommendation").set_index("strategy"))

    def label_of(self, text: str) -> str:
        """The strategy that a user means by its label, by a model's name, or by a word.

        ``Linear + overlay``, ``linear+overlay``, ``minimum_variance`` ...

        Raises
        ------
        ConfigError
            If the run has none, with those that it has.
        """
        known = {label.casefold(): label for label in self.labels}
        known |= {key.replace(" + ", "+").replace(" ", "_"): x for key, x in known.items()}
        for name, label in self._model_labels.items():
            known |= {name: label, f"{name}+overlay": under_overlay(label)}
        asked = " ".join(text.split()).casefold()
        for key in (asked, asked.replace(" ", "")):
            if key in known:
                return known[key]
        raise ConfigError(
            f"the run {self.name} has no strategy {text!r}; it has {', '.join(self.labels)}."
        )

    def model_of(self, label: str) -> str | None:
        """The model behind a strategy; None for a benchmark."""
        labels = self._model_labels.items()
        return next((name for name, own in labels if label in (own, under_overlay(own))), None)

    @cached_property
    def _model_labels(self) -> dict[str, str]:
        """What a reader calls each model of the run, by its name."""
        known = {**LABELS, **{name: own["label"] for name, own in self.own_models.items()}}
        return {name: known[name] for name in self.models}

    @property
    def own_models(self) -> dict[str, dict[str, Any]]:
        """The user's own models of the run, by name: label, about, estimator, versions.

        Their fits are not saved. Empty in a run of an earlier version.
        """
        found: dict[str, dict[str, Any]] = self.about.get("own_models", {})
        return found

    def fit(self, model: str, fold: int) -> Any:
        """The fitted model of a fold; its predictions are the same to the bit."""
        self.check_fit(model, fold)
        place = self.folder / "models" / model / f"fold_{fold}"
        return load_model(place, factors=self.folds[fold].selected[model])

    def risk_network(self, fold: int) -> Any | None:
        """The network that forecasts volatility for the allocation of a fold; None without one."""
        place = f"models/{RISK_NETWORK}/fold_{fold}"
        if f"{place}/model.json" not in self.sums:
            return None
        self.check_fit(RISK_NETWORK, fold)
        return load_model(self.folder / place, factors=())

    def memory(self, model: str) -> tuple[Memory, np.datetime64] | None:
        """The memory of a model's last fit, and the last decision that it has read.

        Of every stock of the run and then of one that was not there; None where none was saved.
        """
        file = memory_file(model)
        if file not in self.sums:
            return None
        self.check(file)
        arrays, texts = read_arrays((self.folder / file).read_bytes())
        header = json.loads(texts["memory"])
        return Memory(int(header["rows"]), arrays), np.datetime64(header["last"], "D")

    def memory_on(self, panel: AssetPanel, model: str, plan: Plan) -> Memory | None:
        """The memory by the stocks of a panel that has the run's past, and its plan.

        None where there is none, where the panel ends before it, or where stocks that the run did
        not know have prices of its days: they move the ranks of the others.
        """
        saved = self.memory(model)
        if saved is None:
            return None
        memory, last = saved
        read = days_of_rows(model, plan)
        if len(read) < memory.row or plan.dates[read[memory.row - 1]] != last:
            return None
        places = {name: place for place, name in enumerate(self.about["assets"])}
        columns = np.array([places.get(name, len(places)) for name in plan.assets])
        days = slice(0, int(read[memory.row - 1]) + 1)
        if np.isfinite(panel["adj_close"][days][:, columns == len(places)]).any():
            return None
        return memory.of_stocks(columns)

    def check_fit(self, model: str, fold: int) -> None:
        """Refuse the files of a fit that were changed, without reading the fit."""
        for file in ("model.json", "model.safetensors"):
            self.check(f"models/{model}/fold_{fold}/{file}")

    def table(self, name: str) -> pd.DataFrame:
        """A table by name, its index as columns; DataError if the run has none."""
        tables = self._tables
        if name not in tables:
            raise DataError(
                f"the run {self.name} has no table {name}: it was made by another version of "
                "alphakeel; run the study again."
            )
        frame = pd.DataFrame(tables[name])
        for column in frame.columns:  # null is NaN in a column of numbers
            if frame[column].dtype.kind != "O":
                continue
            if frame[column].map(lambda v: v is None or isinstance(v, (int, float))).all():
                frame[column] = frame[column].astype(float)
        return frame

    @cached_property
    def _tables(self) -> dict[str, Any]:
        self.check("tables/tables.json")
        return _json(self.folder / "tables" / "tables.json")

    def series(self, name: str) -> pd.DataFrame:
        """A series of every strategy by day, such as ``net_returns``."""
        self.check(f"series/{name}.csv")
        return pd.read_csv(self.folder / "series" / f"{name}.csv", index_col=0, parse_dates=True)

    def frame(self, name: str) -> pd.DataFrame:
        """Scores of a model (``scores_lstm``) or weights of a strategy, by day and stock.

        Of a model that allocates by itself also ``composition_`` and, by limit, ``safety_``.
        """
        self.check(f"series/{name}.parquet")
        return pd.read_parquet(self.folder / "series" / f"{name}.parquet")

    def has_frame(self, name: str) -> bool:
        """Whether the run has this frame; one of an earlier version may lack it."""
        return f"series/{name}.parquet" in self.sums

    def weights(self, label: str) -> pd.DataFrame:
        """Weights of a strategy after the trades of each day."""
        return self.frame(f"weights_{slug(label)}")

    def check(self, file: str) -> None:
        """Refuse a file that is missing, was changed, or is not the run's."""
        path = self.folder / file
        if file not in self.sums:
            raise DataError(f"{path} is not part of the run as it was saved: run the study again.")
        try:
            same = file_hash(regular_file(path)) == self.sums[file]
        except OSError as error:
            raise DataError(
                f"cannot read {path}: {error.strerror}; run the study again."
            ) from error
        if not same:
            raise DataError(
                f"{path} was changed after the run was saved: its checksum differs; run the study "
                "again."
            )


def open_run(folder: str | Path) -> SavedRun:
    """Open the folder of a run, and check its settings and its description.

    Parameters
    ----------
    folder : str or Path
        As `save_run` wrote it.

    Raises
    ------
    DataError
        If it is no run, is not whole, was made by a version without checksums, or was changed.
    """
    root = Path(folder)
    if not (root / "run.json").is_file():
        raise DataError(
            f"{root} is no run: it has no run.json; name a folder that `alphakeel run` made."
        )
    if not (root / CHECKSUMS).is_file():
        raise DataError(
            f"{root} has no {CHECKSUMS}: it was saved by a version of alphakeel that could not "
            "read it again; run the study again."
        )
    sums = _json(root / CHECKSUMS)
    files = sums.get("files")
    if not isinstance(files, dict) or sums.get("sha256") != checksum(files):
        raise DataError(f"{root / CHECKSUMS} was changed after the run was saved; run it again.")
    run = SavedRun(root, StudyConfig(), {}, files)
    run.check("run.json")
    run.check("study.toml")
    about = _json(root / "run.json")
    try:
        opened = SavedRun(root, load_config(root / "study.toml"), about, files)
        complete = bool(opened.folds) and {"versions", "data_hash", "name"} <= set(about)
    except (KeyError, TypeError, IndexError) as error:
        raise DataError(f"{root / 'run.json'} lacks {error}; run the study again.") from error
    if not complete:
        raise DataError(f"{root / 'run.json'} is of another version; run the study again.")
    return opened


def find_run(name: str | None, runs: str | Path = "runs") -> SavedRun:
    """Open a run by its path, by its name (or the beginning of it), or the newest.

    Raises
    ------
    DataError
        If there is none, or several begin like that.
    """
    root = Path(runs)
    if name is not None and (Path(name) / "run.json").is_file():
        return open_run(name)
    folders = list_runs(root)
    if name is None:
        if not folders:
            raise DataError(f"there is no run in {root}: make one with `alphakeel run`.")
        return open_run(folders[-1])
    alike = [path for path in folders if path.name.startswith(name) or path.name.endswith(name)]
    if len(alike) == 1:
        return open_run(alike[0])
    if not alike:
        has = ", ".join(path.name for path in folders[-5:]) or "none"
        raise DataError(f"there is no run {name!r} in {root}; the latest there: {has}.")
    raise DataError(
        f"{len(alike)} runs are called {name}..., {', '.join(path.name for path in alike)}: give "
        "more of the name."
    )


def list_runs(runs: str | Path) -> list[Path]:
    """Folders of runs, the oldest first."""
    root = Path(runs)
    if not root.is_dir():
        return []
    found = [path for path in root.iterdir() if (path / "run.json").is_file()]
    visible = [path for path in found if not path.name.startswith(".")]
    return sorted(visible, key=lambda path: ((path / "run.json").stat().st_mtime_ns, path.name))


def remove_run(folder: Path) -> None:
    """Delete the folder of a run: first hidden under another name, so that no half is left."""
    hidden = folder.with_name(f".removed-{folder.name}")
    try:
        shutil.rmtree(hidden, ignore_errors=True)
        folder.rename(hidden)
        shutil.rmtree(hidden)
    except OSError as error:
        raise DataError(f"cannot delete {folder}: {error.strerror}.") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(regular_file(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; run the study again.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not whole ({error}); run the study again.") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} is not what alphakeel wrote; run the study again.")
    return value
