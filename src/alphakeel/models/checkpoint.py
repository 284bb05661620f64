"""Kept progress: everything that a training loop is made of, taken at a moment and put back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Generator, nn

from alphakeel.models.state import (
    TRANSIENT,
    ModelState,
    Persistent,
    Store,
    fingerprint,
    pack,
    unpack,
)

__all__ = ["Checkpoint", "Prefixed", "Resumable", "Slot", "member_slots"]

# Most of a fit's time that snapshots may take.
SNAPSHOT_SHARE = 0.03


@runtime_checkable
class Resumable(Protocol):
    """A part of a training loop whose numbers change as it runs.

    An objective with multipliers, say: if it has these two methods, its numbers are saved and
    restored with the network's.
    """

    def state(self) -> dict[str, Any]:
        """All that changes, as nested dicts of arrays and plain values."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken; tuples come back as lists, tensors as arrays."""
        ...


_Part: TypeAlias = nn.Module | Generator | Resumable


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

    Attributes
    ----------
    store : Store
    key : str
    origin : str
        `fingerprint` of everything that the result follows from.
    """

    store: Store
    key: str
    origin: str

    def get(self) -> dict[str, Any] | None:
        """What this same computation last kept, or None."""
        state = self.store.get(self.key)
        if state is None or state.meta.get("origin") != self.origin:
            return None
        tree: dict[str, Any] = unpack(state)["kept"]
        return tree

    def put(self, tree: Mapping[str, Any]) -> None:
        """Keep nested dicts of arrays, tensors and plain values."""
        self.store.put(self.key, pack({"origin": self.origin, "kept": tree}))


def member_slots(model: Persistent, *data: object) -> list[Slot | None]:
    """A place for the progress of each member of an ensemble about to be fitted.

    Parameters
    ----------
    model : Persistent
        With `n_seeds`, and perhaps a `store`; without one nothing is kept.
    *data
        All that the fit reads, as arrays and plain values. Together with the parameters it is
        what kept progress must have come from to be gone on from.
    """
    store, n_members = getattr(model, "store", None), model.get_params(deep=False)["n_seeds"]
    if store is None:
        return [None] * n_members
    shaping = {k: v for k, v in model.get_params(deep=False).items() if k not in TRANSIENT}
    origin = fingerprint(type(model).__name__, shaping, *data)
    return [Slot(store, f"member-{member}", origin) for member in range(n_members)]


class Checkpoint:
    """Takes and restores everything that a training loop is made of.

    Parameters
    ----------
    slot : Slot, optional
        Where to keep it; None keeps nothing.
    **parts : Module, Generator or Resumable
        What changes as the loop runs. Parts of another kind (a loss without memory) are constant,
        and left alone.
    """

    def __init__(self, slot: Slot | None, **parts: object) -> None:
        self.slot = slot
        self._rested = -inf  # the moment from which the next snapshot may be taken
        self.parts: dict[str, _Part] = {
            name: part
            for name, part in parts.items()
            if isinstance(part, (nn.Module, Generator, Resumable))
        }

    def save(self, **values: Any) -> None:
        """Keep all parts, and further values of the loop.

        Skipped while too little time has passed since the last snapshot for its cost: a fit that
        evaluates itself every millisecond is quicker trained again than written down.
        """
        begin = monotonic()
        if self.slot is None or begin < self._rested:
            return
        parts = {name: _state_of(part) for name, part in self.parts.items()}
        self.slot.put({"parts": parts, "values": values})
        end = monotonic()
        self._rested = end + (end - begin) * (1.0 / SNAPSHOT_SHARE - 1.0)

    def load(self) -> dict[str, Any] | None:
        """Put all parts back and return the values; None, and nothing touched, if none is kept."""
        kept = None if self.slot is None else self.slot.get()
        if kept is None or set(kept["parts"]) != set(self.parts):
            return None
        for name, part in self.parts.items():
            _restore(part, kept["parts"][name])
        values: dict[str, Any] = kept["values"]
        return values


def _state_of(part: _Part) -> dict[str, Any]:
    # Resumable comes first: an objective may be a module and have numbers of its own besides.
    if isinstance(part, Resumable):
        return part.state()
    if isinstance(part, nn.Module):
        return dict(part.state_dict())
    return {"generator": part.get_state()}


def _restore(part: _Part, state: dict[str, Any]) -> None:
    if isinstance(part, Resumable):
        part.load_state(state)
    elif isinstance(part, nn.Module):
        part.load_state_dict({name: torch.from_numpy(x) for name, x in state.items()})
    else:
        part.set_state(torch.from_numpy(state["generator"]))
