"""Networks alike but for their seeds: how several of them are fitted, saved and restored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from inspect import Parameter, signature
from typing import Any

import numpy as np
import torch
from torch import Generator

from alphakeel.errors import ConfigError, DataError
from alphakeel.models.base import check_integers, check_number
from alphakeel.models.losses import LossParts
from alphakeel.models.networks import SequenceNetwork
from alphakeel.models.persistence import Persistent, Slot, Store, expect, member_slots
from alphakeel.models.sampling import ChunkSampler, MarketScale
from alphakeel.models.training import Training, train

__all__ = ["Ensemble", "Member", "choose_device", "shows_shared_parameters"]


# Sizes of a saved network: each layer has an array or more, and each width is that of an array.
_COUNTS = ("layers", "convolutions")
_WIDTHS = ("hidden", "kernel", "n_horizons_", "n_factors_in_", "n_market_in_")


@dataclass(frozen=True, eq=False)
class Member:
    """One member about to be trained: its place (from 0) and seed, its sources of draws, its slot.

    `rng` draws batches, `initial` the weights, `noise` dropout and input noise.
    """

    number: int
    seed: int
    rng: np.random.Generator
    initial: Generator
    noise: Generator
    slot: Slot | None

    @classmethod
    def of(cls, number: int, seed: int, device: torch.device, slot: Slot | None) -> Member:
        """Make the sources of a seed, which depend on it alone."""
        children = np.random.SeedSequence(seed).spawn(3)
        first, second = (int(child.generate_state(1, np.uint64)[0]) >> 1 for child in children[1:])
        return cls(
            number,
            seed,
            np.random.default_rng(children[0]),
            Generator().manual_seed(first),
            Generator(device=device).manual_seed(second),
            slot,
        )


class Ensemble(Persistent, ABC):
    """Base of the estimators that train networks by the one training loop and average them.

    `members_` are the trained networks, `history_` what `train` noted, one member after the
    other.
    """

    # Where fits keep their progress, to go on from after a crash: whoever runs them sets it on
    # the instance. It is no parameter: it changes no number, and a clone does not inherit it.
    store: Store | None = None

    hidden: int
    layers: int
    dropout: float
    burn_in: int
    chunk: int
    batch_assets: int
    max_steps: int
    learning_rate: float
    weight_decay: float
    n_seeds: int
    seed: int
    device: str
    on_progress: Callable[[int, int, int, float], object] | None

    @abstractmethod
    def _check_settings(self) -> torch.device:
        """Refuse settings out of range; the device to run on."""

    @abstractmethod
    def _blank(self, generator: Generator) -> SequenceNetwork:
        """A network of the fit's shapes, with weights drawn from `generator`."""

    def _check_shared_settings(self) -> None:
        sizes = ("hidden", "layers", "chunk", "batch_assets", "max_steps", "n_seeds")
        check_integers(self, *sizes, at_least=1)
        check_integers(self, "burn_in", "seed", at_least=0)
        check_number("dropout", self.dropout, low=0.0, high=1.0)
        check_number("learning_rate", self.learning_rate, low=0.0, low_open=True)
        check_number("weight_decay", self.weight_decay, low=0.0)

    def _shape(self) -> dict[str, Any]:
        """What every network is built with."""
        return {"hidden": self.hidden, "layers": self.layers, "dropout": self.dropout}

    def _sampler_settings(self, device: torch.device) -> dict[str, Any]:
        """What every sampler is made with."""
        return {
            "burn_in": self.burn_in,
            "chunk": self.chunk,
            "batch_assets": self.batch_assets,
            "device": device,
        }

    def _new_members(self, device: torch.device, *data: object) -> Iterator[Member]:
        """Begin an ensemble anew; `data` is all that its fit reads, as for `member_slots`."""
        self.members_: list[SequenceNetwork] = []
        self.history_: list[dict[str, Any]] = []
        for number, slot in enumerate(member_slots(self, *data)):
            yield Member.of(number, self.seed + number, device, slot)

    def _new_network(self, member: Member, device: torch.device) -> SequenceNetwork:
        return self._blank(member.initial).to(device)

    def _train(
        self,
        network: SequenceNetwork,
        sampler: ChunkSampler,
        loss: Callable[..., LossParts],
        member: Member,
        **settings: Any,
    ) -> Training:
        """Train one member by its own sources and the shared settings."""
        return train(
            network,
            sampler,
            loss,
            seed=member.seed,
            member=member.number,
            noise=member.noise,
            max_steps=self.max_steps,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            on_progress=self.on_progress,
            slot=member.slot,
            **settings,
        )

    def _add_member(self, network: SequenceNetwork, history: list[dict[str, Any]]) -> None:
        self.members_.append(network)
        self.history_ += history

    def _learned(self) -> dict[str, Any]:
        learned = super()._learned()
        for name, value in learned.items():
            if isinstance(value, MarketScale):
                learned[name] = asdict(value)
        if learned:
            learned["members_"] = {
                str(member): dict(network.state_dict())
                for member, network in enumerate(self.members_)
            }
        return learned

    def _set_members(self, saved: Mapping[str, Any]) -> None:
        """Make saved networks again, refused where they are not the ones of this ensemble."""
        device = self._check_settings()
        names = list(map(str, range(len(saved))))
        if len(saved) != self.n_seeds or set(names) != set(saved):
            raise DataError(
                f"the saved model holds {len(saved)} of its {self.n_seeds} networks (n_seeds)"
            )
        self._check_saved_shapes(saved)
        self.members_ = []
        for name in names:
            network = self._blank(Generator().manual_seed(0))
            network.load_state_dict({k: torch.from_numpy(x) for k, x in saved[name].items()})
            self.members_.append(network.to(device))

    def _check_saved_shapes(self, saved: Mapping[str, Any]) -> None:
        """Compare saved networks with the one that the sizes describe, before it takes memory."""
        self._check_saved_sizes(saved["0"])
        with torch.device("meta"):  # shapes without values
            described = self._blank(Generator().manual_seed(0)).state_dict()
        for member, weights in saved.items():
            if set(described) != set(weights):
                name = sorted(set(described) ^ set(weights))[0]
                raise DataError(f"the saved network {member} has no {name!r}, or should have none")
            for name, x in described.items():
                dtype = torch.empty(0, dtype=x.dtype, device="cpu").numpy().dtype
                expect(f"{name} of network {member}", weights[name], tuple(x.shape), dtype)

    def _check_saved_sizes(self, weights: Mapping[str, Any]) -> None:
        """Refuse counts and widths that the arrays of a network cannot have."""
        arrays = [x for x in weights.values() if isinstance(x, np.ndarray)]
        widest = max((n for x in arrays for n in x.shape), default=0)
        for names, most in ((_COUNTS, len(arrays)), (_WIDTHS, widest)):
            for name in names:
                size = getattr(self, name, 0)
                if size > most:
                    raise DataError(
                        f"{name} is {size}, but the saved networks are of {len(arrays)} arrays "
                        f"at most {widest} wide"
                    )


def choose_device(name: str) -> torch.device:
    """The device of a name; ``"auto"`` is a GPU if there is one. Refused where it is absent."""
    gpu = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if gpu else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"device must be 'auto', 'cpu' or 'cuda', not {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device must be 'auto', 'cpu' or 'cuda', not {name!r}")
    if device.type == "cuda" and (not gpu or (device.index or 0) >= torch.cuda.device_count()):
        raise ConfigError(f"device {name!r} is not on this machine; use 'auto' or 'cpu'")
    return device


def shows_shared_parameters(
    base: type,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Show a base's parameters behind ``**settings`` one by one: scikit-learn and help() read them.

    A parameter that the decorated `__init__` names itself is its own.
    """

    def show(init: Callable[..., None]) -> Callable[..., None]:
        own = signature(init)
        first = [p for p in own.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
        shared = signature(base.__init__).parameters.values()  # type: ignore[misc]
        rest = [
            p for p in shared if p.kind is Parameter.KEYWORD_ONLY and p.name not in own.parameters
        ]
        init.__signature__ = own.replace(parameters=first + rest)  # type: ignore[attr-defined]
        return init

    return show
