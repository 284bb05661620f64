"""Checkpoints: states of fits in safetensors files with a checksum, in a folder.

A file holds arrays, and in its header one JSON text with everything else and a SHA-256 over all of
it; neither can hold code. It is written atomically: a killed process leaves no half a file.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
import warnings
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from alphakeel.errors import DataError, ResumeWarning
from alphakeel.files import regular_file, write_atomically
from alphakeel.models.persistence import ModelState

__all__ = [
    "DiskStore",
    "checksum",
    "from_json",
    "library_versions",
    "made_by",
    "pack_arrays",
    "read_arrays",
    "to_json",
]

Arrays = Mapping[str, NDArray[Any]]

# Raised when the layout of checkpoints changes; those of other layouts do not count.
FORMAT_VERSION = 1
_KEY = re.compile(r"[a-z0-9_-]+(/[a-z0-9_-]+)*")


def to_json(value: Any) -> Any:
    """Plain values for strict JSON: floats that are not finite become tagged text.

    Examples
    --------
    >>> to_json({"best": float("-inf"), "step": 3})
    {'best': {'float': '-inf'}, 'step': 3}
    """
    if isinstance(value, dict):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    return value


def from_json(value: Any) -> Any:
    """Undo `to_json`."""
    if isinstance(value, dict):
        if set(value) == {"float"} and value["float"] in ("nan", "inf", "-inf"):
            return float(value["float"])
        return {name: from_json(item) for name, item in value.items()}
    return [from_json(item) for item in value] if isinstance(value, list) else value


def _canonical(value: Any) -> bytes:
    """The one text of plain values that checksums are taken of."""
    text = json.dumps(
        to_json(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return text.encode()


def pack_arrays(arrays: Arrays, header: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file in memory."""
    # safetensors writes the memory of an array as it lies, so that anything but C order would
    # come back scrambled.
    ordered = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return safetensors.numpy.save(ordered, metadata=dict(header) if header else None)


def read_arrays(data: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Arrays and header of a safetensors file in memory; ValueError if it is not a whole one."""
    try:
        arrays = safetensors.numpy.load(data)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"it is no whole safetensors file: {error}") from error
    length = int.from_bytes(data[:8], "little")
    return arrays, json.loads(data[8 : 8 + length]).get("__metadata__", {})


@cache
def library_versions() -> dict[str, str]:
    """Versions of the packages that a model's numbers depend on."""
    packages = ("alphakeel", "numpy", "scikit-learn", "torch", "safetensors")
    return {package: metadata.version(package) for package in packages}


@cache
def made_by() -> str:
    """Fingerprint of code and library versions: checkpoints of others do not count."""
    digest = hashlib.sha256(_canonical(library_versions()))
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def checksum(header: dict[str, Any], arrays: Arrays | None = None) -> str:
    """SHA-256 of plain values, and of the bits of arrays."""
    digest = hashlib.sha256(_canonical(header))
    arrays = arrays or {}
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\0{name}\0{array.dtype.str}{array.shape}".encode())
        digest.update(np.asarray(array, order="C").tobytes())
    return digest.hexdigest()


class DiskStore:
    """Checkpoints of fits in a folder, one file a name.

    Files are not flushed one by one: one that a power cut leaves half written fails its checksum,
    and that part is computed again.

    Parameters
    ----------
    folder : str or Path
        Made when first needed; several processes may share it.
    fresh : bool, default=False
        Ignore the checkpoints that are there; they are overwritten one by one.

    Examples
    --------
    >>> from alphakeel.models.persistence import pack
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     DiskStore(folder).put("fold-0/linear", pack({"scores": np.ones(2)}))
    ...     DiskStore(folder).get("fold-0/linear").arrays["scores"]
    array([1., 1.])
    """

    def __init__(self, folder: str | Path, *, fresh: bool = False) -> None:
        self.folder = Path(folder)
        self.fresh = fresh

    def get(self, key: str) -> ModelState | None:
        """The last state under a name by the same code, or None; damage is a `ResumeWarning`."""
        path = self._path(key)
        if self.fresh:
            return None
        try:
            data = regular_file(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            _ignore(path, error.strerror or str(error))
            return None
        try:
            arrays, texts = read_arrays(data)
            header = json.loads(texts["alphakeel"])
            digest = header.pop("sha256")
            header = from_json(header)
            whole = digest == checksum(header, arrays)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            _ignore(path, str(error))
            return None
        if not whole or header["key"] != key:
            _ignore(path, "its checksum does not match its content")
            return None
        if header["format_version"] != FORMAT_VERSION or header["made_by"] != made_by():
            return None
        return ModelState(arrays, header["meta"])

    def put(self, key: str, state: ModelState) -> None:
        """Write a state under a name; the one before stays if that fails."""
        path = self._path(key)
        header = {
            "format_version": FORMAT_VERSION,
            "made_by": made_by(),
            "key": key,
            "meta": state.meta,
        }
        header["sha256"] = checksum(header, state.arrays)
        text = json.dumps(to_json(header), allow_nan=False)  # unsorted, unlike the checksum's
        data = pack_arrays(state.arrays, {"alphakeel": text})
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data, durable=False)
        except OSError as error:
            raise DataError(
                f"cannot write the progress of the run into {path.parent}: {error.strerror}; put "
                "that right and run again: it goes on from what was written before."
            ) from error

    def discard(self, prefix: str) -> None:
        """Delete every state whose name begins with `prefix` and a slash."""
        shutil.rmtree(self._path(prefix).with_suffix(""), ignore_errors=True)
        with suppress(OSError):  # it holds another run's checkpoints, or does not exist
            self.folder.rmdir()

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no name: lower-case words joined by slashes")
        return self.folder / f"{key}.safetensors"


def _ignore(path: Path, why: str) -> None:
    warnings.warn(
        f"saved progress in {path} cannot be used ({why}); that part is computed again",
        ResumeWarning,
        stacklevel=4,
    )
