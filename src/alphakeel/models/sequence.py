"""Forecasters that remember: a network run along time, for every stock at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Generator

from alphakeel.errors import ConfigError, DataError, NotFittedError
from alphakeel.models.base import check_inputs, check_integer, check_number, check_targets
from alphakeel.models.checkpoint import Slot, member_slots
from alphakeel.models.losses import MIN_ASSETS, ScoreLoss
from alphakeel.models.networks import LSTMNetwork, SequenceNetwork, run
from alphakeel.models.precision import training_dtype
from alphakeel.models.state import Persistent, Store, expect
from alphakeel.models.training import ChunkSampler, MarketScale, one_thread, train
from alphakeel.stats.crosssection import rank_ic, zscore
from alphakeel.stats.folds import split_validation

__all__ = ["LSTMForecaster", "SequenceForecaster"]

Floats32 = NDArray[np.float32]

# Training on fewer counted rows than this is a mistake in the settings, not a study.
MIN_CHUNK = 8


class SequenceForecaster(Persistent, ABC):
    """Base of the forecasters built on a `SequenceNetwork`; subclasses say which one.

    See `LSTMForecaster` for parameters and attributes.
    """

    # Where fits keep their progress, to go on from after a crash: whoever runs them sets it on
    # the instance. It is no parameter: it changes no number, and a clone does not inherit it.
    store: Store | None = None

    label: ClassVar[str]

    def __init__(
        self,
        *,
        hidden: int = 32,
        layers: int = 1,
        dropout: float = 0.2,
        burn_in: int = 26,
        chunk: int = 104,
        batch_assets: int = 120,
        max_steps: int = 75,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        ic_weight: float = 1.0,
        mse_weight: float = 0.1,
        validation_share: float = 0.0,
        purge: int = 5,
        evaluate_every: int = 10,
        patience: int | None = 5,
        n_seeds: int = 3,
        seed: int = 0,
        warm_up: int | None = None,
        device: str = "auto",
        precision: str = "float32",
        input_noise: float = 0.0,
        on_progress: Callable[[int, int, int, float], object] | None = None,
    ) -> None:
        self.hidden = hidden
        self.layers = layers
        self.dropout = dropout
        self.burn_in = burn_in
        self.chunk = chunk
        self.batch_assets = batch_assets
        self.max_steps = max_steps
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.ic_weight = ic_weight
        self.mse_weight = mse_weight
        self.validation_share = validation_share
        self.purge = purge
        self.evaluate_every = evaluate_every
        self.patience = patience
        self.n_seeds = n_seeds
        self.seed = seed
        self.warm_up = warm_up
        self.device = device
        self.precision = precision
        self.input_noise = input_noise
        self.on_progress = on_progress

    @abstractmethod
    def _network(self, n_inputs: int, n_heads: int, generator: Generator) -> SequenceNetwork:
        """Build a network with weights drawn from `generator`."""

    def _shape(self) -> dict[str, Any]:
        """What every network is built with."""
        return {"hidden": self.hidden, "layers": self.layers, "dropout": self.dropout}

    def fit(
        self,
        features: ArrayLike,
        targets: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
    ) -> Self:
        """Train the ensemble; arguments as in `Forecaster.fit`.

        Raises
        ------
        ConfigError
            If a setting is out of range, the sample is too short for it, or there is no factor.
        DataError
            If shapes do not fit, or too little is known to train or to validate.
        ConvergenceError
            If a loss is not finite.
        """
        device = self._check_settings()
        dtype = training_dtype(self.precision, device)
        inputs = check_inputs(features, mask, market)
        goals = check_targets(targets, inputs)
        n_dates, _, self.n_horizons_ = goals.shape
        self.n_factors_in_, self.n_market_in_ = inputs.features.shape[2], inputs.market.shape[1]
        self.market_scale_ = MarketScale.of(inputs.market)
        series = self.market_scale_.apply(inputs.market)
        n_fit, validation = self._split(n_dates)
        self.chunk_ = min(self.chunk, n_fit - self.burn_in)
        self.members_: list[SequenceNetwork] = []
        self.history_: list[dict[str, Any]] = []
        self.best_steps_: list[int] = []
        slots = self._slots(inputs.features, inputs.present, series, goals)
        with one_thread():
            for member in range(self.n_seeds):
                seed = self.seed + member
                rng, initial, noise = self._generators(seed, device)
                sampler = ChunkSampler(
                    inputs.features[:n_fit],
                    series[:n_fit],
                    goals[:n_fit],
                    burn_in=self.burn_in,
                    chunk=self.chunk_,
                    batch_assets=self.batch_assets,
                    rng=rng,
                    device=device,
                )
                n_inputs = self.n_factors_in_ + self.n_market_in_
                network = self._network(n_inputs, self.n_horizons_, initial).to(device)
                result = train(
                    network,
                    sampler,
                    ScoreLoss(self.ic_weight, self.mse_weight),
                    seed=seed,
                    member=member,
                    noise=noise,
                    max_steps=self.max_steps,
                    learning_rate=self.learning_rate,
                    weight_decay=self.weight_decay,
                    evaluate_every=self.evaluate_every,
                    patience=self.patience,
                    validate=self._validator(network, inputs.features, series, goals, validation),
                    on_progress=self.on_progress,
                    slot=slots[member],
                    dtype=dtype,
                    input_noise=self.input_noise,
                )
                self.members_.append(network)
                self.history_ += result.history
                self.best_steps_.append(result.best_step)
        return self

    def predict(
        self,
        features: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
    ) -> Floats32:
        """Mean score of the members, of shape (n_dates, n_assets); NaN where masked.

        Raises
        ------
        NotFittedError
            If the model has not been fitted.
        DataError
            If the factors or market series differ in number from the fit's.
        """
        members = self.predict_members(features, mask=mask, market=market)
        return members.mean(axis=0, dtype=np.float64).astype(np.float32)

    def predict_members(
        self,
        features: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
    ) -> Floats32:
        """Score of each member, of shape (n_seeds, n_dates, n_assets); NaN where masked.

        On each date a member's score has mean 0 and variance 1 over the stocks: the heads are
        made so, averaged, and made so again. Raises as `predict` does.
        """
        if not hasattr(self, "members_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted; call fit first")
        inputs = check_inputs(features, mask, market)
        given = (inputs.features.shape[2], inputs.market.shape[1])
        if given != (self.n_factors_in_, self.n_market_in_):
            raise DataError(
                f"the model was fitted on {self.n_factors_in_} factors and {self.n_market_in_} "
                f"market series, but predict was given {given[0]} and {given[1]}"
            )
        series = self.market_scale_.apply(inputs.market)
        scores = np.empty((len(self.members_), *inputs.present.shape), dtype=np.float32)
        with one_thread():
            for member, network in enumerate(self.members_):
                heads = run(
                    network, inputs.features, series, warm_up=self.warm_up, stretch=self.chunk_
                )
                scores[member] = zscore(_score(heads, inputs.present), inputs.present)
        return scores

    def _slots(self, *data: object) -> list[Slot | None]:
        """A place for each member's progress, tied to the data and to all that shapes the fit."""
        return member_slots(self, *data)

    def _learned(self) -> dict[str, Any]:
        learned = super()._learned()
        if learned:
            scale = self.market_scale_
            learned["market_scale_"] = {"mean": scale.mean, "deviation": scale.deviation}
            learned["members_"] = {
                str(member): dict(network.state_dict())
                for member, network in enumerate(self.members_)
            }
        return learned

    def _set_learned(self, learned: dict[str, Any]) -> None:
        device = self._check_settings()
        scale, members = learned.pop("market_scale_"), learned.pop("members_")
        super()._set_learned(learned)
        n_market = check_integer("n_market_in_", self.n_market_in_, at_least=0)
        check_integer("n_factors_in_", self.n_factors_in_, at_least=1)
        check_integer("n_horizons_", self.n_horizons_, at_least=1)
        check_integer("chunk_", self.chunk_, at_least=1)
        self.market_scale_ = MarketScale(
            expect("market mean", scale["mean"], (n_market,), np.float64),
            expect("market deviation", scale["deviation"], (n_market,), np.float64),
        )
        if sorted(members) != sorted(map(str, range(self.n_seeds))):
            raise DataError(f"the saved model holds {len(members)} of its {self.n_seeds} networks")
        self.members_ = [
            self._network_from(members[str(member)], member, device)
            for member in range(self.n_seeds)
        ]

    def _network_from(
        self, saved: dict[str, Any], member: int, device: torch.device
    ) -> SequenceNetwork:
        n_inputs = self.n_factors_in_ + self.n_market_in_
        network = self._network(n_inputs, self.n_horizons_, Generator().manual_seed(0))
        own = {name: x.numpy() for name, x in network.state_dict().items()}
        if set(own) != set(saved):
            name = sorted(set(own) ^ set(saved))[0]
            raise DataError(f"the saved network {member} has no {name!r}, or should have none")
        for name, x in own.items():
            expect(f"{name} of network {member}", saved[name], x.shape, x.dtype)
        network.load_state_dict({name: torch.from_numpy(x) for name, x in saved.items()})
        return network.to(device)

    def _check_settings(self) -> torch.device:
        for name in ("hidden", "layers", "chunk", "batch_assets", "max_steps", "evaluate_every"):
            check_integer(name, getattr(self, name), at_least=1)
        check_integer("n_seeds", self.n_seeds, at_least=1)
        for name in ("burn_in", "purge", "seed"):
            check_integer(name, getattr(self, name), at_least=0)
        if self.patience is not None:
            check_integer("patience", self.patience, at_least=1)
        if self.warm_up is not None:
            check_integer("warm_up", self.warm_up, at_least=0)
        check_number("dropout", self.dropout, low=0.0, high=1.0)
        check_number("learning_rate", self.learning_rate, low=0.0, low_open=True)
        for name in ("weight_decay", "ic_weight", "mse_weight", "input_noise"):
            check_number(name, getattr(self, name), low=0.0)
        if self.ic_weight == 0 and self.mse_weight == 0:
            raise ConfigError("ic_weight and mse_weight are both 0; there is nothing to learn for")
        check_number("validation_share", self.validation_share, low=0.0, high=0.5, high_open=False)
        return _device(self.device)

    def _split(self, n_dates: int) -> tuple[int, slice | None]:
        """Rows to fit on, and the validation block at the end, with the purge between them."""
        fit, block = slice(0, n_dates), None
        if self.validation_share > 0:
            fit, block = split_validation(fit, self.validation_share, self.purge)
        if fit.stop - self.burn_in < MIN_CHUNK:
            raise ConfigError(
                f"burn_in of {self.burn_in} rows leaves fewer than {MIN_CHUNK} of the {fit.stop} "
                f"rows to fit on (of {n_dates}, less validation_share {self.validation_share:g} "
                f"and purge {self.purge}); shorten it or give more rows"
            )
        return fit.stop, block

    def _generators(
        self, seed: int, device: torch.device
    ) -> tuple[np.random.Generator, Generator, Generator]:
        """Sources of draws, initial weights and noise (dropout, inputs) of one member."""
        children = np.random.SeedSequence(seed).spawn(3)
        first, second = (int(child.generate_state(1, np.uint64)[0]) >> 1 for child in children[1:])
        return (
            np.random.default_rng(children[0]),
            Generator().manual_seed(first),
            Generator(device=device).manual_seed(second),
        )

    def _validator(
        self,
        network: SequenceNetwork,
        features: Floats32,
        series: Floats32,
        goals: Floats32,
        block: slice | None,
    ) -> Callable[[], float] | None:
        if block is None:
            return None
        if np.isfinite(goals[block]).any(axis=2).sum(axis=1).max() < MIN_ASSETS:
            raise DataError(
                f"no date of the validation block (the last {block.stop - block.start} rows) has "
                f"{MIN_ASSETS} stocks with a known target; set validation_share to 0 to do without"
            )
        # The rows before the block build up the state; the purge is about targets, not features.
        first = max(0, block.start - self.burn_in)
        rows = slice(first, block.stop)

        def rank_ic_now() -> float:
            heads = run(network, features[rows], series[rows])[block.start - first :]
            known: NDArray[np.bool_] = np.any(np.isfinite(goals[block]), axis=2)
            by_date = rank_ic(_score(heads, known), goals[block])
            return float(np.nanmean(by_date)) if np.isfinite(by_date).any() else 0.0

        return rank_ic_now


class LSTMForecaster(SequenceForecaster):
    r"""Scores from an LSTM over each stock's factors and the state of the market.

    Trained sequence to sequence on random stretches of ``burn_in + chunk`` rows, on
    :math:`\sum_h (1 - \overline{IC}_h)` with a little MSE: what counts is the ranking of the
    stocks of a date. Several networks that differ in their seeds are averaged.

    Parameters
    ----------
    hidden, layers : int, default=32, 1
        Width and depth of the LSTM.
    dropout : float, default=0.2
        Share dropped of the inputs and of each layer's output in training, in [0, 1).
    burn_in : int, default=26
        Rows at the start of each stretch that build up the state and give nothing to the loss.
    chunk : int, default=104
        Rows of a stretch that do; shortened to what is there if the sample has fewer (`chunk_`).
    batch_assets : int, default=120
        Most stocks of a step; of a larger universe each step draws others. With few stocks a
        step takes several stretches.
    max_steps : int, default=75
        Gradient steps, the degree of optimisation.
    learning_rate, weight_decay : float, default=3e-3, 1e-2
        Peak of the one-cycle schedule, and AdamW's decay.
    ic_weight, mse_weight : float, default=1.0, 0.1
        Weights in the loss; see `ScoreLoss`. ``ic_weight=0`` is plain regression on the targets.
    validation_share : float, default=0.0
        Share of the rows, at the end, that choose the state to keep by their Rank IC, in
        [0, 0.5]; 0 keeps the last state and trains on all rows.
    purge : int, default=5
        Rows left out before the validation block; at least the horizon plus the lag, in rows.
    evaluate_every : int, default=10
        Steps between validations.
    patience : int, optional, default=5
        Validations without a better one before training stops. None runs to the end, so that
        early stopping is the choice of the best state alone.
    n_seeds : int, default=3
        Members of the ensemble.
    seed : int, default=0
        Member k is the network of seed ``seed + k``, whatever the size of the ensemble.
    warm_up : int, optional
        Start the state this many rows before each stretch of `chunk_` rows that is predicted. By
        default it runs from row 0.
    device : str, default="auto"
        ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...
    precision : {"float32", "bfloat16", "auto"}, default="float32"
        Type of the matrix products of training, see `training_dtype`. Fits in bfloat16 repeat to
        the bit as well, and take about half the time where the processor has it, but their scores
        are other ones than float32's. ``"auto"`` depends on the machine.
    input_noise : float, default=0.0
        Standard deviation, in the units of the factors, of Gaussian noise added to every factor
        of a batch in training, and never in prediction (Bishop, 1995, "Training with Noise is
        Equivalent to Tikhonov Regularization", Neural Computation 7,
        https://doi.org/10.1162/neco.1995.7.1.108). 0 draws nothing.
    on_progress : callable, optional
        Called after each step with (member, step, max_steps, loss); members count from 0.

    Attributes
    ----------
    members_ : list of SequenceNetwork
        The trained networks.
    history_ : list of dict
        Per evaluation: seed, step, train_loss, train_ic, validation_rank_ic.
    best_steps_ : list of int
        The step whose state each member keeps.
    market_scale_ : MarketScale
        Mean and standard deviation of each market series over the rows of the fit.
    chunk_ : int
        Counted rows of a stretch in this fit.

    Notes
    -----
    With several horizons each has a linear head on the shared LSTM, and the score is the mean of
    the heads, each made mean 0 and variance 1 over the stocks of the date.

    The same seed gives the same scores to the bit on the same machine (CPU), also when several
    fits run in threads at once: nothing is drawn from global generators, and kernels run on one
    thread.

    References
    ----------
    Hochreiter, Schmidhuber (1997), "Long Short-Term Memory", Neural Computation 9.
    https://doi.org/10.1162/neco.1997.9.8.1735

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> features = rng.standard_normal((80, 10, 2)).astype(np.float32)
    >>> targets = features[..., 0]
    >>> model = LSTMForecaster(hidden=4, burn_in=5, chunk=20, max_steps=2, n_seeds=1)
    >>> model.fit(features, targets).predict(features).shape
    (80, 10)
    """

    label = "LSTM"

    def _network(self, n_inputs: int, n_heads: int, generator: Generator) -> SequenceNetwork:
        return LSTMNetwork(n_inputs, n_heads, **self._shape(), generator=generator)


def _device(name: str) -> torch.device:
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


def _score(heads: Floats32, present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over heads of their z-scores per date, (n_dates, n_assets); NaN where not present."""
    total = np.zeros(present.shape)
    for head in range(heads.shape[2]):
        total += zscore(heads[..., head], present)
    return total / heads.shape[2]
