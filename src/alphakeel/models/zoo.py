"""The other networks, each behind the one trainer: what differs is the network alone."""

from __future__ import annotations

from typing import Any

from torch import Generator

from alphakeel.models.attention import AttentionNetwork
from alphakeel.models.base import check_integer
from alphakeel.models.convolution import CNNLSTMNetwork
from alphakeel.models.ensemble import shows_shared_parameters
from alphakeel.models.networks import GRUNetwork, MLPNetwork, SequenceNetwork
from alphakeel.models.sequence import SequenceForecaster

__all__ = ["AttentionForecaster", "CNNLSTMForecaster", "GRUForecaster", "MLPForecaster"]


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
        of a stretch, beyond which nothing could be learned.
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
        # A lag that no stretch holds would reach prediction untrained.
        window = min(check_integer("window", self.window, at_least=1), self.burn_in + self.chunk_)
        return AttentionNetwork(
            n_inputs, n_heads, **self._shape(), window=window, generator=generator
        )


class CNNLSTMForecaster(SequenceForecaster):
    """Scores from causal dilated convolutions and an LSTM over what they found.

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
