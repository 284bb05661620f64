"""Saved models: arrays in safetensors, everything else in JSON, never code."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from alphakeel.errors import ConfigError, DataError, ResumeWarning
from alphakeel.files import regular_file, write_atomically
from alphakeel.models.base import Forecaster
from alphakeel.models.persistence import ModelState, Persistent, pack, unpack
from alphakeel.models.restore import restore
from alphakeel.storage.checkpoints import (
    checksum,
    from_json,
    library_versions,
    made_by,
    pack_arrays,
    read_arrays,
    to_json,
)

__all__ = ["ModelCard", "SavedFits", "load_model", "read_card", "save_model"]

# What every description has beside its checksum, with its type in JSON.
_FIELDS: dict[str, type] = {
    "class": object,
    "params": dict,
    "learned": dict,
    "factors": list,
    "train_window": list,
    "data_hash": str,
    "versions": dict,
    "arrays_sha256": str,
}
# Raised when the layout of a saved model changes; files of another version are refused.
FORMAT_VERSION = 1


@dataclass(frozen=True)
class ModelCard:
    """Description of a saved model.

    Factors in the order of its columns; train_window: first and last training date, ISO;
    data_hash: SHA-256 of the panel.
    """

    class_name: str
    parameters: dict[str, Any]
    factors: tuple[str, ...]
    train_window: tuple[str, str]
    data_hash: str
    versions: dict[str, str]


def save_model(
    model: Persistent | Forecaster | ModelState,
    folder: str | Path,
    *,
    factors: Sequence[str],
    train_window: tuple[Any, Any],
    data_hash: str,
    fit: tuple[str, list[dict[str, Any]]] | None = None,
) -> Path:
    """Write a fitted model as ``model.safetensors`` (arrays) and ``model.json`` (the rest).

    Parameters
    ----------
    model : estimator or ModelState
        Fitted, or its `state`.
    folder : str or Path
        Made if it does not exist; other files in it are left alone. A model in it is replaced,
        the description last: if that is interrupted, a mixture is refused when read.
    factors : sequence of str
        Names of the features, in the order of their columns.
    train_window : pair of dates
        First and last training date.
    data_hash : str
        SHA-256 of the panel, as in `Study.data_hash`.
    fit : tuple of (str, list of dict), optional
        Fingerprint of all that the fit read, and its history: `SavedFits` finds it by that.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    NotFittedError
        If the model has not been fitted.
    DataError
        If the folder cannot be written, or `factors` has another length than the model's.
    """
    state = model if isinstance(model, ModelState) else model.state()
    n_factors = state.meta["learned"].get("n_factors_in_", len(factors))
    if n_factors != len(factors):
        raise DataError(
            f"the model was fitted on {n_factors} factors, but {len(factors)} are named"
        )
    arrays = pack_arrays(state.arrays)
    card: dict[str, Any] = {
        "format": "alphakeel model",
        "format_version": FORMAT_VERSION,
        **state.meta,
        "factors": list(factors),
        "train_window": [str(day) for day in train_window],
        "data_hash": data_hash,
        "versions": library_versions(),
        "arrays": {k: [str(x.dtype), list(x.shape)] for k, x in sorted(state.arrays.items())},
        "arrays_sha256": hashlib.sha256(arrays).hexdigest(),
    }
    if fit is not None:
        card |= {"fit_key": fit[0], "made_by": made_by(), "history": fit[1]}
    card["sha256"] = checksum(card)
    text = json.dumps(to_json(card), indent=1, ensure_ascii=False, allow_nan=False)
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        write_atomically(target / "model.safetensors", arrays, durable=True)
        write_atomically(target / "model.json", text.encode(), durable=True)
    except OSError as error:
        raise DataError(f"cannot write the model into {target}: {error.strerror}.") from error
    return target


def load_model(
    folder: str | Path, *, factors: Sequence[str] | None = None, device: str | None = None
) -> Any:
    """Read a model that `save_model` wrote; its predictions are the same to the bit.

    Parameters
    ----------
    folder : str or Path
    factors : sequence of str, optional
        Of the features to predict with: refused if they are not those of the fit, in order.
    device : str, optional
        Of a network, if another than it was made with.

    Returns
    -------
    Forecaster
        Or another class of `alphakeel.models.restore.KNOWN`.

    Raises
    ------
    DataError
        If a file is missing, truncated, changed, of another format version, of an unknown class,
        or with arrays that do not fit its description.
    ConfigError
        If the device is not on this machine.

    Notes
    -----
    The checksums find damage and mistakes; they are no signature. The files hold numbers only:
    nothing in them is ever run.
    """
    target = Path(folder)
    card = _read_card(target)
    if factors is not None and list(factors) != card["factors"]:
        known = ", ".join(map(str, card["factors"]))
        raise DataError(
            f"the model in {target} was fitted on the factors {known}, in this order, "
            f"but is given {', '.join(factors)}"
        )
    return _restored(target, card, device)[0]


def _restored(target: Path, card: dict[str, Any], device: str | None) -> tuple[Any, ModelState]:
    """The model of a folder, by its checked description, and the state that it was made of."""
    path = target / "model.safetensors"
    data = _read(path)
    if hashlib.sha256(data).hexdigest() != card["arrays_sha256"]:
        raise DataError(f"{path} is not the file that was saved: its checksum differs")
    try:
        arrays, _ = read_arrays(data)
        state = ModelState(arrays, {name: card[name] for name in ("class", "params", "learned")})
        return restore(state, device=device), state
    except ConfigError:
        raise  # of this machine, not of the file
    except (KeyError, ValueError) as error:
        raise DataError(f"cannot load the model of {target / 'model.json'}: {error}") from error


class SavedFits:
    """The fits of finished runs, by their fingerprints: a `Store` that is only read.

    A fit counts if its two files are whole and by the same code; one that is not is reported as a
    `ResumeWarning` and made again.

    Parameters
    ----------
    folder : str or Path
        Of the runs: their models are looked for when a fit is first asked for.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @cached_property
    def _places(self) -> dict[str, Path]:
        """Folder of each fit, of the newest run that has it."""
        places: dict[str, Path] = {}
        for path in sorted(self.folder.glob("*/models/*/fold_*/model.json")):
            with suppress(OSError):
                found = _FIT_KEY.search(regular_file(path).read_bytes())
                if found is not None:
                    places[found[1].decode()] = path.parent
        return places

    def get(self, key: str) -> ModelState | None:
        """The fit under a name of `FitCache`, or None."""
        wanted = _FIT_NAME.fullmatch(key)
        place = None if wanted is None else self._places.get(wanted[1])
        if wanted is None or place is None:
            return None
        try:
            card = _read_card(place)
            if card.get("fit_key") != wanted[1] or card.get("made_by") != made_by():
                return None
            _, state = _restored(place, card, None)
        except (DataError, ConfigError) as error:
            warnings.warn(
                f"a saved fit cannot be used ({error}); it is fitted again",
                ResumeWarning,
                stacklevel=2,
            )
            return None
        tree = {"history": card["history"], "fitted": unpack(state)}
        return pack({"origin": wanted[1], "kept": tree})

    def put(self, key: str, state: ModelState) -> None:  # noqa: ARG002
        """Refuse: a run is saved as a whole."""
        raise TypeError(f"fits of finished runs are only read, and {key} is not written")


# How a description names its fit, and how `FitCache` asks for one.
_FIT_KEY = re.compile(rb'"fit_key": "([0-9a-f]{16})"')
_FIT_NAME = re.compile(r"fit-([0-9a-f]{16})/fitted")


def read_card(folder: str | Path) -> ModelCard:
    """The checked description of a saved model, without its arrays."""
    card = _read_card(Path(folder))
    return ModelCard(
        class_name=card["class"],
        parameters=card["params"],
        factors=tuple(card["factors"]),
        train_window=(card["train_window"][0], card["train_window"][1]),
        data_hash=card["data_hash"],
        versions=card["versions"],
    )


def _read_card(folder: Path) -> dict[str, Any]:
    path = folder / "model.json"
    try:
        card = from_json(json.loads(_read(path)))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not whole: {error}") from error
    if not isinstance(card, dict) or card.get("format") != "alphakeel model":
        raise DataError(f"{path} does not describe a model of alphakeel")
    if card.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"{path} is of format version {card.get('format_version')!r}, and this alphakeel "
            f"reads version {FORMAT_VERSION}: load it with the version that wrote it "
            f"({_made_with(card)}), or fit again"
        )
    if card.pop("sha256", None) != checksum(card):
        raise DataError(f"{path} was changed after it was saved: its checksum differs")
    for name, kind in _FIELDS.items():
        if not (name in card and isinstance(card[name], kind)):
            raise DataError(
                f"{path} has no field {name} of the right type: it is no description that "
                "alphakeel wrote; save the model again"
            )
    return card


def _made_with(card: dict[str, Any]) -> str:
    versions = card.get("versions")
    return str(versions.get("alphakeel", "unknown")) if isinstance(versions, dict) else "unknown"


def _read(path: Path) -> bytes:
    try:
        return regular_file(path).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
