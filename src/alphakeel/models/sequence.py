"""Forecasters with memory: a network run along time, for every stock at once, by one trainer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Generator

from alphakeel.errors import ConfigError, DataError
from alphakeel.models.base import (
    Features,
    Memory,
    Prediction,
    check_columns,
    check_features,
    check_fitted,
    check_integer,
    check_integers,
    check_number,
    check_targets,
)
from alphakeel.models.ensemble import Ensemble, choose_device, shows_shared_parameters
from alphakeel.models.losses import ScoreLoss
from alphakeel.models.networks import (
    ROWS_AT_ONCE,
    AttentionNetwork,
    CNNLSTMNetwork,
    GRUNetwork,
    LSTMNetwork,
    MLPNetwork,
    SequenceNetwork,
    run,
    run_from,
    state_arrays,
    state_of,
)
from alphakeel.models.sampling import (
    ChunkSampler,
    MarketScale,
    Sample,
    mean_of_heads,
    split_rows,
    validator,
)
from alphakeel.models.training import one_thread, training_dtype
from alphakeel.stats.cross_section import zscore

__all__ = [
    "AttentionForecaster",
    "CNNLSTMForecaster",
    "GRUForecaster",
    "LSTMForecaster",
    "MLPForecaster",
    "SequenceForecaster",
    "mean_score",
]

Floats32 = NDArray[np.float32]


class SequenceForecaster(Ensemble):
    """Base of the forecasters built on a `SequenceNetwork`; subclasses say which one.

    See `LSTMForecaster` for parameters and attributes.
    """

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

    def fit(
        self,
        features: ArrayLike,
        targets: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
    ) -> Self:
        """Train the ensemble; arguments as in `Forecaster.fit`.

        ConfigError if the sample is too short for the settings, DataError if too little is
        known to train or to validate, ConvergenceError if a loss is not finite.
        """
        device = self._check_settings()
        dtype = training_dtype(self.precision, device)
        inputs = check_features(features, mask, market)
        targets = check_targets(targets, inputs)
        sample = self._sample(inputs, targets, len(targets))
        data = (inputs.values, inputs.present, sample.series, targets)
        with one_thread():
            for member in self._new_members(device, *data):
                sampler = ChunkSampler(
                    *sample.fitted, rng=member.rng, **self._sampler_settings(device)
                )
                network = self._new_network(member, device)
                result = self._train(
                    network,
                    sampler,
                    ScoreLoss(self.ic_weight, self.mse_weight),
                    member,
                    evaluate_every=self.evaluate_every,
                    patience=self.patience,
                    validate=validator(network, sample, self.burn_in),
                    dtype=dtype,
                    input_noise=self.input_noise,
                )
                self._add_member(network, result.history)
                self.best_steps_.append(result.best_step)
        return self

    def predict(
        self,
        features: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
    ) -> Floats32:
        """Mean score of the members, (n_dates, n_assets), float32; NaN where masked."""
        return mean_score(self.predict_members(features, mask=mask, market=market))

    def predict_members(
        self,
        features: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
    ) -> Floats32:
        """Score of each member, of shape (n_seeds, n_dates, n_assets); NaN where masked.

        On each date a member's score has mean 0 and variance 1 over the stocks: the heads are
        made so, averaged, and made so again.
        """
        inputs = self._check_call(features, mask, market)
        scores = self._empty_scores(inputs)
        with one_thread():
            for member, (_, heads, _) in enumerate(self._run_members(inputs)):
                scores[member] = zscore(mean_of_heads(heads, inputs.present), inputs.present)
        return scores

    def predict_from(
        self,
        memory: Memory | None,
        features: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
        volatility: ArrayLike | None = None,
    ) -> Prediction:
        """Predictions of rows that follow a memory, as `RememberingForecaster.predict_from`.

        The memory is that after the last whole block of `ROWS_AT_ONCE` rows; there is none with
        `warm_up`. Weights are None, and `volatility` is not read, without limits.
        """
        inputs = self._check_call(features, mask, market)
        with one_thread():
            return self._predict(memory, inputs, volatility)

    def _predict(
        self,
        memory: Memory | None,
        inputs: Features,
        volatility: ArrayLike | None,  # noqa: ARG002  (of those that allocate)
    ) -> Prediction:
        scores = self._empty_scores(inputs)
        arrays: dict[str, NDArray[Any]] = {}
        for member, (_, heads, parts) in enumerate(self._run_members(inputs, memory)):
            scores[member] = zscore(mean_of_heads(heads, inputs.present), inputs.present)
            arrays |= parts
        return Prediction(mean_score(scores), None, self._memory(memory, inputs, arrays))

    def _empty_scores(self, inputs: Features) -> Floats32:
        """Room for the score of each member."""
        return np.empty((len(self.members_), *inputs.present.shape), dtype=np.float32)

    def _run_members(
        self, inputs: Features, memory: Memory | None = None
    ) -> Iterator[tuple[SequenceNetwork, Floats32, dict[str, Floats32]]]:
        """Each member's network and outputs, and the parts of its state after the last block."""
        series, n_assets = self.market_scale_.apply(inputs.market), inputs.present.shape[1]
        for member, network in enumerate(self.members_):
            if self.warm_up is not None:
                block = {"warm_up": self.warm_up, "block": self.chunk_}
                yield network, run(network, inputs.values, series, **block), {}
                continue
            device = next(network.parameters()).device
            before = None if memory is None else state_of(_of_member(memory, member), device)
            heads, after = run_from(network, inputs.values, series, before)
            parts = {} if after is None else state_arrays(after, n_assets)
            yield network, heads, {f"{member}/{name}": part for name, part in parts.items()}

    def _memory(
        self, before: Memory | None, inputs: Features, arrays: Mapping[str, NDArray[Any]]
    ) -> Memory | None:
        """The memory after the last whole block of the rows; None where there is none."""
        whole = len(inputs.present) // ROWS_AT_ONCE * ROWS_AT_ONCE
        if self.warm_up is not None or (before is None and not whole):
            return None
        return Memory(whole + (0 if before is None else before.row), dict(arrays))

    def _check_call(
        self, features: ArrayLike, mask: ArrayLike | None, market: ArrayLike | None
    ) -> Features:
        """Features of a prediction: of a fitted model, with as many columns as the fit's."""
        check_fitted(self, "members_")
        inputs = check_features(features, mask, market)
        check_columns(inputs, self.n_factors_in_, self.n_market_in_)
        return inputs

    def _check_settings(self) -> torch.device:
        self._check_shared_settings()
        check_integers(self, "evaluate_every", at_least=1)
        check_integers(self, "purge", at_least=0)
        if self.patience is not None:
            check_integer("patience", self.patience, at_least=1)
        if self.warm_up is not None:
            check_integer("warm_up", self.warm_up, at_least=0)
        for name in ("ic_weight", "mse_weight", "input_noise"):
            check_number(name, getattr(self, name), low=0.0)
        if self.ic_weight == 0 and self.mse_weight == 0:
            raise ConfigError("ic_weight and mse_weight are both 0; there is nothing to learn for")
        check_number("validation_share", self.validation_share, low=0.0, high=0.5, high_open=False)
        return choose_device(self.device)

    def _set_learned(self, learned: dict[str, Any]) -> None:
        scale, members = learned.pop("market_scale_"), learned.pop("members_")
        super()._set_learned(learned)
        n_market = check_integer("n_market_in_", self.n_market_in_, at_least=0)
        check_integers(self, "n_factors_in_", "n_horizons_", "chunk_", at_least=1)
        self.market_scale_ = MarketScale.again("market", scale, n_market)
        self._set_members(members)

    def _blank(self, generator: Generator) -> SequenceNetwork:
        n_inputs = self.n_factors_in_ + self.n_market_in_
        return self._network(n_inputs, self.n_horizons_, generator)

    def _sample(self, inputs: Features, targets: Floats32, n_known: int) -> Sample:
        """Learn the shapes and the scale, and cut the first `n_known` rows for fit and block."""
        self.n_horizons_ = targets.shape[2]
        self.n_factors_in_, self.n_market_in_ = inputs.values.shape[2], inputs.market.shape[1]
        self.market_scale_ = MarketScale.of(inputs.market)
        series = self.market_scale_.apply(inputs.market)
        n_fit, block = split_rows(
            n_known,
            burn_in=self.burn_in,
            validation_share=self.validation_share,
            purge=self.purge,
        )
        self.chunk_ = min(self.chunk, n_fit - self.burn_in)
        self.best_steps_: list[int] = []
        return Sample(inputs.values, series, targets, n_fit, block)

    def _sampler_settings(self, device: torch.device) -> dict[str, Any]:
        """What every sampler of this ensemble is made with."""
        return super()._sampler_settings(device) | {"chunk": self.chunk_}


def mean_score(members: Floats32) -> Floats32:
    """Mean score of the members."""
    return members.mean(axis=0, dtype=np.float64).astype(np.float32)


def _of_member(memory: Memory, member: int) -> dict[str, Floats32]:
    """The parts of a member's state in a memory."""
    own = f"{member}/"
    return {
        k.removeprefix(own): x.astype(np.float32, copy=False)
        for k, x in memory.arrays.items()
        if k.startswith(own)
    }


class LSTMForecaster(SequenceForecaster):
    r"""Scores from an LSTM over each stock's factors and the state of the market.

    Trained sequence to sequence on random sequences of ``burn_in + chunk`` rows, on
    :math:`\sum_h (1 - \overline{IC}_h)` with a little MSE: what counts is the ranking of the
    stocks of a date. Several networks that differ in their seeds are averaged.

    Parameters
    ----------
    hidden, layers : int, default=32, 1
        Width and depth of the LSTM.
    dropout : float, default=0.2
        Share dropped of the inputs and of each layer's output in training, in [0, 1).
    burn_in : int, default=26
        Rows at the start of each sequence that build up the state and give nothing to the loss.
    chunk : int, default=104
        Rows of a sequence that do; shortened to what is there if the sample has fewer (`chunk_`).
    batch_assets : int, default=120
        Most stocks of a step; of a larger universe each step draws others. With few stocks a
        step takes several sequences.
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
        Start the state this many rows before each block of `chunk_` rows that is predicted. By
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
        Counted rows of a sequence in this fit.

    Notes ----- With several horizons each has a linear head on the shared LSTM, and the score
    is the mean of the heads, each made mean 0 and variance 1 over the stocks of the date.

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


class GRUForecaster(SequenceForecaster):
    """Scores from gated recurrent units: the LSTM with two gates, and no cell beside the state.

    Parameters and attributes are those of `LSTMForecaster`.

    References
    ----------
    Cho et al. (2014), "Learning Phrase Representations using RNN Encoder-Decoder for Statistical
    Machine Translation", EMNLP. https://doi.org/10.3115/v1/D14-1179

    Examples
    --------
    >>> GRUForecaster(hidden=64).get_params()["hidden"]
    64
    """

    label = "GRU"

    def _network(self, n_inputs: int, n_heads: int, generator: Generator) -> SequenceNetwork:
        return GRUNetwork(n_inputs, n_heads, **self._shape(), generator=generator)


class MLPForecaster(SequenceForecaster):
    """Scores from a perceptron on each row alone: the control without memory.

    It sees the factors and the market of row t and nothing before, with the same loss, batches
    and ensemble as the others: what they find beyond it comes from the past. Parameters and
    attributes are those of `LSTMForecaster`; `layers` counts hidden layers, and burn-in and
    warm-up change nothing but the batches drawn.

    Examples
    --------
    >>> MLPForecaster(layers=2).get_params()["layers"]
    2
    """

    label = "MLP"

    def _network(self, n_inputs: int, n_heads: int, generator: Generator) -> SequenceNetwork:
        return MLPNetwork(n_inputs, n_heads, **self._shape(), generator=generator)


class AttentionForecaster(SequenceForecaster):
    """Scores from an LSTM that also attends to its own states of the last `window` rows.

    At row t it attends to rows t - window + 1 to t and to no later one (`banded_attention`).

    Parameters
    ----------
    window : int, default=52
        Rows attended to: a year of weekly decisions. Lowered to the ``burn_in + chunk_`` rows
        of a sequence, beyond which nothing could be learned.
    **settings
        The parameters of `LSTMForecaster`.

    Notes
    -----
    Attributes are those of `LSTMForecaster`.

    References
    ----------
    Vaswani et al. (2017), "Attention Is All You Need", NeurIPS.
    https://arxiv.org/abs/1706.03762
    Qin et al. (2017), "A Dual-Stage Attention-Based Recurrent Neural Network for Time Series
    Prediction", IJCAI. https://doi.org/10.24963/ijcai.2017/366

    Examples
    --------
    >>> AttentionForecaster(window=26, hidden=64).get_params()["window"]
    26
    """

    label = "LSTM + attention"

    @shows_shared_parameters(SequenceForecaster)
    def __init__(self, *, window: int = 52, **settings: Any) -> None:
        super().__init__(**settings)
        self.window = window

    def _network(self, n_inputs: int, n_heads: int, generator: Generator) -> SequenceNetwork:
        return AttentionNetwork(
            n_inputs, n_heads, **self._shape(), window=self._rows_attended(), generator=generator
        )

    def _rows_attended(self) -> int:
        # A lag that no sequence holds would reach prediction untrained.
        return min(check_integer("window", self.window, at_least=1), self.burn_in + self.chunk_)

    def _check_saved_sizes(self, weights: Mapping[str, Any]) -> None:
        super()._check_saved_sizes(weights)
        rows = len(weights.get("lag_bias", ()))
        if self._rows_attended() > rows:
            raise DataError(
                f"window is {self.window}, but the saved networks attend to {rows} rows"
            )


class CNNLSTMForecaster(SequenceForecaster):
    """Scores from causal dilated convolutions and an LSTM over their outputs.

    Parameters
    ----------
    kernel : int, default=3
        Rows that a convolution combines.
    convolutions : int, default=2
        Layers of convolution, with dilations 1, 2, 4, ...: by default they see 7 rows.
    **settings
        The parameters of `LSTMForecaster`; the convolutions have `hidden` channels.

    Notes
    -----
    Attributes are those of `LSTMForecaster`.

    References
    ----------
    Bai, Kolter, Koltun (2018), "An Empirical Evaluation of Generic Convolutional and Recurrent
    Networks for Sequence Modeling". https://arxiv.org/abs/1803.01271

    Examples
    --------
    >>> CNNLSTMForecaster(kernel=5).get_params()["convolutions"]
    2
    """

    label = "CNN-LSTM"

    @shows_shared_parameters(SequenceForecaster)
    def __init__(self, *, kernel: int = 3, convolutions: int = 2, **settings: Any) -> None:
        super().__init__(**settings)
        self.kernel = kernel
        self.convolutions = convolutions

    def _network(self, n_inputs: int, n_heads: int, generator: Generator) -> SequenceNetwork:
        return CNNLSTMNetwork(
            n_inputs,
            n_heads,
            **self._shape(),
            kernel=check_integer("kernel", self.kernel, at_least=1),
            convolutions=check_integer("convolutions", self.convolutions, at_least=1),
            generator=generator,
        )
