"""What a fitted model, or a fit half done, comes down to: arrays, and plain values beside them.

Nothing here knows a file. A `ModelState` is what `alphakeel.artifacts` writes and reads; a `Store`
is whatever keeps such states for a fit that may be killed and begun again. Code never travels in
a state: a class is named, and looked up among those that are known (`models.restore`).
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from alphakeel.errors import AlphakeelError, DataError, NotFittedError

__all__ = [
    "ModelState",
    "Persistent",
    "Store",
    "expect",
    "fingerprint",
    "pack",
    "unpack",
]

# Not parameters of a model: whoever runs a fit hands them in, and they change no number.
TRANSIENT = ("on_progress",)


@dataclass(frozen=True, eq=False)
class ModelState:
    """Arrays and plain values; made by `pack`, read by `unpack`.

    Attributes
    ----------
    arrays : dict of str to ndarray
        C-ordered copies; names are paths such as ``"learned/members_/0/head_bias"``.
    meta : dict
        Everything else, as nested dicts and lists of None, bool, int, float and str.
    """

    arrays: dict[str, NDArray[Any]]
    meta: dict[str, Any]


class Store(Protocol):
    """Keeps states under names; a name that is put again is replaced, all or nothing."""

    def get(self, key: str) -> ModelState | None:
        """The state last put under this name; None where there is none that can be trusted."""
        ...

    def put(self, key: str, state: ModelState) -> None:
        """Keep a state."""
        ...


class Persistent(BaseEstimator):
    """An estimator that can say all it has learned, and be made again from that.

    What is learned are the attributes that end in an underscore, by scikit-learn's habit.
    Subclasses whose learned attributes are more than arrays and plain values say how to take
    them apart (`_learned`) and put them together, checked (`_set_learned`).
    """

    def state(self) -> ModelState:
        """Class, parameters and everything learned.

        Raises
        ------
        NotFittedError
            If the model has not been fitted.
        """
        learned = self._learned()
        if not learned:
            raise NotFittedError(f"this {type(self).__name__} is not fitted; call fit first")
        parameters = self.get_params(deep=False)
        return pack(
            {
                "class": type(self).__name__,
                "params": {k: v for k, v in parameters.items() if k not in TRANSIENT},
                "learned": learned,
            }
        )

    @classmethod
    def from_state(cls, state: ModelState, **overrides: Any) -> Self:
        """Make a fitted model again; it predicts what the first one did, to the bit.

        Parameters
        ----------
        state : ModelState
            As given by `state` of the same class.
        **overrides
            Parameters to replace, such as ``device="cpu"``.

        Raises
        ------
        DataError
            If the state does not belong to this class, or its arrays do not fit its description.
        """
        tree = unpack(state)
        if tree.get("class") != cls.__name__:
            raise DataError(f"the state is that of a {tree.get('class')!r}, not a {cls.__name__}")
        known = inspect.signature(cls).parameters
        given = tree.get("params")
        learned = tree.get("learned")
        if not isinstance(given, dict) or not isinstance(learned, dict):
            raise DataError(f"the saved {cls.__name__} has no parameters or nothing learned")
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise DataError(
                f"the saved {cls.__name__} has the unknown parameter {unknown[0]!r}; "
                "it was saved by another version of alphakeel"
            )
        values = {
            name: tuple(value) if isinstance(known[name].default, tuple) else value
            for name, value in given.items()
        }
        model = cls(**values | overrides)
        try:
            model._set_learned(learned)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            if isinstance(error, AlphakeelError):
                raise
            raise DataError(
                f"the saved {cls.__name__} does not fit its own description: "
                f"{type(error).__name__}: {error}"
            ) from error
        return model

    def _learned(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in vars(self).items()
            if name.endswith("_") and not name.startswith("_")
        }

    def _set_learned(self, learned: dict[str, Any]) -> None:
        for name, value in learned.items():
            if not (name.isidentifier() and name.endswith("_")) or name.startswith("_"):
                raise DataError(f"the saved {type(self).__name__} has a strange field {name!r}")
            setattr(self, name, value)


def expect(where: str, array: object, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return an array of a state, or say in one sentence what is wrong with its form.

    Raises
    ------
    DataError
        If it is no array, or has another shape or type.

    Examples
    --------
    >>> expect("coef_", np.zeros(3, np.float32), (2,), np.float64)
    Traceback (most recent call last):
    alphakeel.errors.DataError: the saved coef_ is float32 (3,), but the model needs float64 (2,)
    """
    if not isinstance(array, np.ndarray):
        raise DataError(f"the saved {where} is not an array")
    if array.shape != tuple(shape) or array.dtype != np.dtype(dtype):
        raise DataError(
            f"the saved {where} is {array.dtype} {array.shape}, but the model needs "
            f"{np.dtype(dtype)} {tuple(shape)}"
        )
    return array


def pack(tree: Mapping[str, Any]) -> ModelState:
    """Take nested dicts apart into arrays and plain values; everything is copied.

    Parameters
    ----------
    tree : mapping of str
        Values are dicts, arrays, tensors (of any device), or lists and tuples of plain values.
        Names hold no slash.

    Raises
    ------
    TypeError
        If a value is none of these: an object has no place in a state.

    Examples
    --------
    >>> state = pack({"step": 3, "mean": {"weight": np.zeros(2)}})
    >>> state.meta, list(state.arrays)
    ({'step': 3, 'mean': {}}, ['mean/weight'])
    >>> unpack(state)
    {'step': 3, 'mean': {'weight': array([0., 0.])}}
    """
    arrays: dict[str, NDArray[Any]] = {}
    return ModelState(arrays, _pack(tree, "", arrays))


def unpack(state: ModelState) -> dict[str, Any]:
    """The nested dicts that a state was packed from; tensors come back as arrays.

    Raises
    ------
    DataError
        If an array's path leads nowhere.
    """
    tree: dict[str, Any] = copy.deepcopy(state.meta)
    for path, array in state.arrays.items():
        *branches, name = path.split("/")
        node: Any = tree
        for branch in branches:
            node = node.get(branch) if isinstance(node, dict) else None
        if not isinstance(node, dict) or name in node:
            raise DataError(f"the array {path!r} of a saved state has no place in it")
        node[name] = array
    return tree


def _pack(value: Any, path: str, arrays: dict[str, NDArray[Any]] | None) -> Any:
    if isinstance(value, Mapping):
        out = {}
        for name, item in value.items():
            if not isinstance(name, str) or "/" in name:
                raise TypeError(f"{path or 'a state'} has the name {name!r}; give text, no slash")
            inner = f"{path}/{name}" if path else name
            if isinstance(item, torch.Tensor):
                item = item.detach().cpu().numpy()
            if isinstance(item, np.ndarray) and arrays is not None:
                if item.dtype.kind not in "biuf":
                    raise TypeError(f"{inner} is an array of {item.dtype}, which cannot be saved")
                arrays[inner] = np.array(item, order="C")
            else:
                out[name] = _pack(item, inner, arrays)
        return out
    if isinstance(value, (list, tuple)):  # of plain values: an array in one would have no name
        return [_pack(item, path, None) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{path} is a {type(value).__name__}, which cannot be saved as plain values")


def fingerprint(*parts: Any) -> str:
    """SHA-256 over arrays and plain values: equal inputs, equal text.

    Examples
    --------
    >>> fingerprint(np.zeros(3), "a") == fingerprint(np.zeros(3), "a")
    True
    >>> fingerprint(np.zeros(3), "a") == fingerprint(np.zeros(3, np.float32), "a")
    False
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            for row in part if part.ndim > 1 else part[None]:
                digest.update(np.ascontiguousarray(row).tobytes())
        else:
            digest.update(json.dumps(part, sort_keys=True, default=repr).encode())
        digest.update(b"\0")
    return digest.hexdigest()
