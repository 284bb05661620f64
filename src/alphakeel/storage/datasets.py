"""A prepared data set on disk: written once, memory-mapped by every process that reads it.

Preparing takes minutes on a whole market, reading takes no time: arrays stay on the disk until a
fit touches them, and processes on one machine share the pages. Arrays are ``.npy`` files, what
describes them is one JSON file; neither can hold code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skfolio.containers import AssetPanel

from alphakeel.data.cleaning import CleaningLedger
from alphakeel.errors import DataError
from alphakeel.files import folder_all_or_nothing, regular_file
from alphakeel.pipeline.dataset import Dataset, Provenance

__all__ = ["load_dataset", "save_dataset"]

FORMAT_VERSION = 2
_ARRAYS = (
    "sample",
    "price",
    "last_price",
    "returns",
    "decisions",
    "features",
    "raw",
    "market",
    "targets",
    "forward",
    "volatility",
    "eligible",
)
# Of the rows of every day, where there are any; the others are those of the data set.
_DAILY_ARRAYS = _ARRAYS[_ARRAYS.index("decisions") :]
_LEDGER_ARRAYS = ("row", "column", "field_code", "rule_code", "before", "after", "days_out")


def save_dataset(dataset: Dataset, folder: str | Path) -> Path:
    """Write a prepared data set into a folder, all or nothing.

    Parameters
    ----------
    dataset : Dataset
        As `prepare_dataset` gives it.
    folder : str or Path
        A data set that is there is replaced when the new one is whole.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    DataError
        If it cannot be written, or the data set has no provenance.

    Examples
    --------
    >>> import tempfile
    >>> import alphakeel as ak
    >>> from alphakeel.pipeline.dataset import prepare_dataset
    >>> from alphakeel.pipeline.plan import Plan
    >>> panel = ak.load_bundled("synthetic", n_assets=12, n_dates=900, seed=1)
    >>> dataset = prepare_dataset(panel, Plan.of(panel, ak.StudyConfig()))
    >>> with tempfile.TemporaryDirectory() as place:
    ...     again = load_dataset(save_dataset(dataset, f"{place}/prepared"))
    ...     bool((again.features == dataset.features).all()), type(again.features).__name__
    (True, 'memmap')
    """
    target, provenance = Path(folder), dataset.provenance
    if provenance is None:
        raise DataError("a data set without provenance cannot be saved: prepare it from a panel.")
    about = {
        "format_version": FORMAT_VERSION,
        "names": list(dataset.names),
        "families": list(dataset.families),
        "market_names": list(dataset.market_names),
        "lag": dataset.lag,
        "horizons": list(dataset.horizons),
        "shapes": {name: list(getattr(dataset, name).shape) for name in _ARRAYS},
        **_shapes_of_days(dataset),
        "provenance": {
            "panel_hash": provenance.panel_hash,
            "omitted": dict(provenance.omitted),
            "cautions": list(provenance.cautions),
            "quality": provenance.quality.to_dict("list"),
            "field_names": list(provenance.ledger.field_names),
            "rule_names": list(provenance.ledger.rule_names),
        },
    }
    with folder_all_or_nothing(target, "the data set") as scratch:
        dataset.panel.save(scratch / "panel")
        (scratch / "ledger").mkdir()
        for name in _ARRAYS:
            np.save(scratch / f"{name}.npy", getattr(dataset, name), allow_pickle=False)
        if dataset.daily is not None:
            (scratch / "daily").mkdir()
            for name in _DAILY_ARRAYS:
                values = getattr(dataset.daily, name)
                np.save(scratch / "daily" / f"{name}.npy", values, allow_pickle=False)
        for name in _LEDGER_ARRAYS:
            values = getattr(provenance.ledger, name)
            np.save(scratch / "ledger" / f"{name}.npy", values, allow_pickle=False)
        text = json.dumps(about, indent=1, ensure_ascii=False)
        (scratch / "dataset.json").write_text(text, encoding="utf-8")
    return target


def _shapes_of_days(dataset: Dataset) -> dict[str, Any]:
    """The shapes of the arrays of every day; nothing without them."""
    if dataset.daily is None:
        return {}
    return {"daily": {name: list(getattr(dataset.daily, name).shape) for name in _DAILY_ARRAYS}}


def load_dataset(folder: str | Path) -> Dataset:
    """Open a saved data set without reading its arrays: they are memory-mapped, read-only.

    Parameters
    ----------
    folder : str or Path
        As written by `save_dataset`.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If there is no such data set, or it is damaged or of another version.
    """
    root = Path(folder)
    try:
        for path in root.rglob("*"):
            if not path.is_dir():
                regular_file(path)
        about = json.loads(regular_file(root / "dataset.json").read_text(encoding="utf-8"))
        if about["format_version"] != FORMAT_VERSION:
            raise DataError(
                f"{root} holds a data set of format {about['format_version']}, and this version "
                f"reads {FORMAT_VERSION}: prepare it again."
            )
        arrays = _opened_all(root, _ARRAYS, about["shapes"])
        days = (
            _opened_all(root / "daily", _DAILY_ARRAYS, about["daily"]) if "daily" in about else {}
        )
        panel = AssetPanel.load(root / "panel", mmap_mode="r")
        provenance = _provenance(root, about["provenance"], panel)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{root} is no whole data set ({error}): prepare it again.") from error
    dataset = Dataset(
        panel=panel,
        provenance=provenance,
        names=tuple(about["names"]),
        families=tuple(about["families"]),
        market_names=tuple(about["market_names"]),
        horizons=tuple(about["horizons"]),
        lag=about["lag"],
        **arrays,
    )
    return replace(dataset, daily=replace(dataset, provenance=None, **days)) if days else dataset


def _opened_all(
    folder: Path, names: Sequence[str], shapes: Mapping[str, list[int]]
) -> dict[str, Any]:
    """Arrays of a folder by name, each of the shape that it should have."""
    arrays = {name: _opened(folder / f"{name}.npy") for name in names}
    for name, shape in shapes.items():
        if list(arrays[name].shape) != shape:
            raise ValueError(f"{name} has shape {arrays[name].shape} and should have {shape}")
    return arrays


def _opened(path: Path) -> NDArray[Any]:
    """An array that stays on the disk; an empty one cannot, and is read."""
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(values, np.ndarray):
        raise ValueError(f"{path.name} is an archive, not an array")
    return np.asarray(values) if values.size == 0 else values


def _provenance(root: Path, about: dict[str, Any], panel: AssetPanel) -> Provenance:
    ledger = CleaningLedger(
        **{name: _opened(root / "ledger" / f"{name}.npy") for name in _LEDGER_ARRAYS},
        dates=np.asarray(panel.observations, dtype="datetime64[D]"),
        asset_names=np.asarray(panel.asset_names),
        field_names=tuple(about["field_names"]),
        rule_names=tuple(about["rule_names"]),
    )
    return Provenance(
        panel_hash=about["panel_hash"],
        ledger=ledger,
        quality=pd.DataFrame(about["quality"]),
        omitted=about["omitted"],
        cautions=tuple(about["cautions"]),
    )
