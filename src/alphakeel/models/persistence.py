"""What a fitted model, or a fit half done, comes down to: arrays, and plain values beside them.

Nothing here knows a file. A `ModelState` is what `alphakeel.storage.runs` writes and reads; a
`Store` holds such states for a fit that may be killed and begun again, and a `Checkpoint` takes
and restores all that a training loop is made of. Code never travels in a state: a class is
named, and looked up among those that are known (`models.restore`).
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from alphakeel.errors import AlphakeelError, DataError, NotFittedError

if TYPE_CHECKING:
    from torch import Generator, nn

__all__ = [
    "Checkpoint",
    "ModelState",
    "Persistent",
    "Prefixed",
    "Resumable",
    "Slot",
    "Store",
    "expect",
    "fingerprint",
    "member_slots",
    "pack",
    "unpack",
]

# Not parameters of a model: whoever runs a fit hands them in, and they change no number.
TRANSIENT = ("on_progress",)

# Most of a fit's time that snapshots may take.
SNAPSHOT_SHARE = 0.03


@dataclass(frozen=True, eq=False)
class ModelState:
    """Arrays and plain values; made by `pack`, read by `unpack`.

    `arrays` are C-ordered copies under paths such as ``"learned/members_/0/head_bias"``; `meta`
    has the rest, as nested dicts and lists of None, bool, int, float and str.
    """

    arrays: dict[str, NDArray[Any]]
    meta: dict[str, Any]


class Store(Protocol):
    """Holds states under names; a name that is put again is replaced, all or nothing."""

    def get(self, key: str) -> ModelState | None:
        """The state last put under this name; None where there is none that can be trusted."""
        ...

    def put(self, key: str, state: ModelState) -> None:
        """Save a state."""
        ...


class Persistent(BaseEstimator):
    """An estimator whose learned state can be saved, and that can be restored from it.

    What is learned are the attributes that end in an underscore, by scikit-learn's habit.
    Subclasses whose learned attributes are more than arrays and plain values say how to take
    them apart (`_learned`) and put them together, checked (`_set_learned`).
    """

    def state(self) -> ModelState:
        """Class, parameters and everything learned; NotFittedError before the fit."""
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

        `overrides` are parameters to replace, such as ``device="cpu"``. DataError if the state
        does not belong to this class, or its arrays do not fit its description.
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
        except (
            AttributeError,
            KeyError,
            OverflowError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
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
    """Return an array of a state, or raise a DataError on a wrong type or shape.

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

    Values are dicts, arrays, tensors (of any device), or lists and tuples of plain values (an
    object is a TypeError). Names hold no slash.

    >>> state = pack({"step": 3, "mean": {"weight": np.zeros(2)}})
    >>> state.meta, list(state.arrays)
    ({'step': 3, 'mean': {}}, ['mean/weight'])
    """
    arrays: dict[str, NDArray[Any]] = {}
    return ModelState(arrays, _pack(tree, "", arrays))


def unpack(state: ModelState) -> dict[str, Any]:
    """The nested dicts that a state was packed from; tensors come back as arrays."""
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
            if hasattr(item, "detach"):  # a tensor: torch takes a second to import
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
    """SHA-256 over arrays and plain values: equal inputs, equal text."""
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


@runtime_checkable
class Resumable(Protocol):
    """A part of a training loop whose numbers change: an objective with multipliers, say.

    With these two methods its numbers are saved and restored with the network's.
    """

    def state(self) -> dict[str, Any]:
        """All that changes, as nested dicts of arrays and plain values."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken; tuples come back as lists, tensors as arrays."""
        ...


_Part: TypeAlias = "nn.Module | Generator | Resumable"


@dataclass(frozen=True)
class Prefixed:
    """A part of a store: every name begins with the same words."""

    store: Store
    prefix: str

    def get(self, key: str) -> ModelState | None:
        """As `Store.get`."""
        return self.store.get(f"{self.prefix}/{key}")

    def put(self, key: str, state: ModelState) -> None:
        """As `Store.put`."""
        self.store.put(f"{self.prefix}/{key}", state)


@dataclass(frozen=True)
class Slot:
    """One name in a store, for one computation: what another one left there does not count.

    `origin` is the `fingerprint` of everything that the result follows from.
    """

    store: Store
    key: str
    origin: str

    def get(self) -> dict[str, Any] | None:
        """What this same computation last saved, or None."""
        state = self.store.get(self.key)
        if state is None or state.meta.get("origin") != self.origin:
            return None
        tree: dict[str, Any] = unpack(state)["kept"]
        return tree

    def put(self, tree: Mapping[str, Any]) -> None:
        """Save nested dicts of arrays, tensors and plain values."""
        self.store.put(self.key, pack({"origin": self.origin, "kept": tree}))


def member_slots(model: Persistent, *data: object) -> list[Slot | None]:
    """A place for the progress of each of a model's `n_seeds` members; None without a `store`.

    `data` is all that the fit reads, as arrays and plain values: saved progress counts only if
    it came from the same data and parameters.
    """
    store, n_members = getattr(model, "store", None), model.get_params(deep=False)["n_seeds"]
    if store is None:
        return [None] * n_members
    shaping = {k: v for k, v in model.get_params(deep=False).items() if k not in TRANSIENT}
    origin = fingerprint(type(model).__name__, shaping, *data)
    return [Slot(store, f"member-{member}", origin) for member in range(n_members)]


class Checkpoint:
    """Takes and restores everything that a training loop is made of; saves nothing without a slot.

    Parts that are no Module, Generator or Resumable (a loss without memory) are constant, and
    left alone.
    """

    def __init__(self, slot: Slot | None, **parts: object) -> None:
        from torch import Generator, nn

        self.slot = slot
        self._rested = -inf  # the moment from which the next snapshot may be taken
        self.parts: dict[str, _Part] = {
            name: part
            for name, part in parts.items()
            if isinstance(part, (nn.Module, Generator, Resumable))
        }

    def save(self, **values: Any) -> None:
        """Save all parts, and further values of the loop.

        Skipped while too little time has passed since the last snapshot for its cost: a fit
        that evaluates itself every millisecond is quicker trained again than written down.
        """
        begin = monotonic()
        if self.slot is None or begin < self._rested:
            return
        parts = {name: _state_of(part) for name, part in self.parts.items()}
        self.slot.put({"parts": parts, "values": values})
        end = monotonic()
        self._rested = end + (end - begin) * (1.0 / SNAPSHOT_SHARE - 1.0)

    def load(self) -> dict[str, Any] | None:
        """Put all parts back and return the values; None, and nothing touched, if none is saved."""
        saved = None if self.slot is None else self.slot.get()
        if saved is None or set(saved["parts"]) != set(self.parts):
            return None
        for name, part in self.parts.items():
            _restore(part, saved["parts"][name])
        values: dict[str, Any] = saved["values"]
        return values


def _state_of(part: _Part) -> dict[str, Any]:
    # Resumable comes first: an objective may be a module and have numbers of its own besides.
    from torch import nn

    if isinstance(part, Resumable):
        return part.state()
    if isinstance(part, nn.Module):
        return dict(part.state_dict())
    return {"generator": part.get_state()}


def _restore(part: _Part, state: dict[str, Any]) -> None:
    import torch

    if isinstance(part, Resumable):
        part.load_state(state)
    elif isinstance(part, torch.nn.Module):
        part.load_state_dict({name: torch.from_numpy(x) for name, x in state.items()})
    else:
        part.set_state(torch.from_numpy(state["generator"]))
