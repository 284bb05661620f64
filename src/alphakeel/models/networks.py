"""Networks that read factors date by date and carry a state along.

All of them are causal and can be streamed: running a stretch of rows in two parts, handing the
state from one to the other, gives what one run gives. Nothing here touches torch's global random
state, because fits run side by side in threads: initial weights and dropout masks come from
generators that are handed in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from math import sqrt
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

__all__ = [
    "GRUNetwork",
    "LSTMNetwork",
    "MLPNetwork",
    "RecurrentNetwork",
    "SequenceNetwork",
    "assemble",
    "draw_uniform",
    "drop",
    "recur",
    "recurrent_layers",
    "remember_long",
    "run",
    "widths",
]

Floats32 = NDArray[np.float32]
# What a network carries from one stretch to the next; only the network itself looks inside.
State = list[Any]

# Prediction goes through rows in blocks of about this many stock-dates.
BLOCK_ENTRIES = 32_768


def drop(x: Tensor, rate: float, noise: Generator | None) -> Tensor:
    """Dropout with its own generator: zero a share `rate` of entries, scale up the rest.

    With ``noise=None`` (prediction) or a rate of 0 the input is returned as it is. The rate is
    rounded to 1/65536. See Srivastava et al. (2014), "Dropout", JMLR 15.
    """
    if noise is None or rate == 0.0:
        return x
    # Sixteen random bits an entry are plenty, and one draw of 64 serves four of them: uniform
    # numbers would cost as much as the network's own elementwise work.
    dropped = min(round(rate * 65536), 65535)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
    words.random_(-(2**63), None, generator=noise)
    keep = words.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - 32768
    return x * keep.to(x.dtype).mul_(65536 / (65536 - dropped))


class SequenceNetwork(nn.Module, ABC):
    """What the trainer and the forecasters ask of a network."""

    @abstractmethod
    def forward(
        self, inputs: Tensor, state: State | None = None, noise: Generator | None = None
    ) -> tuple[Tensor, State]:
        """Run over a stretch of rows.

        Parameters
        ----------
        inputs : Tensor of shape (n_dates, n_sequences, n_inputs)
            Factors and market series of each date.
        state : optional
            Where an earlier stretch ended; by default the state before any row.
        noise : Generator, optional
            Source of dropout masks, on the device of `inputs`. None switches dropout off.

        Returns
        -------
        outputs : Tensor of shape (n_dates, n_sequences, n_heads)
            Row t depends on rows up to t.
        state
            To be handed to the next stretch.
        """


class _Undrawn:
    """Keeps the constructor of a recurrent layer from drawing from the global generator."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are; `RecurrentNetwork` and its like fill them."""


class _LSTMLayer(_Undrawn, nn.LSTM):
    """One layer of `torch.nn.LSTM`."""


class _GRULayer(_Undrawn, nn.GRU):
    """One layer of `torch.nn.GRU`."""


@torch.no_grad()
def draw_uniform(
    parameters: Iterable[tuple[str, nn.Parameter]], bound: float, generator: Generator
) -> None:
    """Fill weights uniformly within +-`bound`, in the order given; whatever is a bias becomes 0."""
    for name, parameter in parameters:
        if "bias" in name:
            parameter.zero_()
        else:
            parameter.uniform_(-bound, bound, generator=generator)


def recurrent_layers(
    n_inputs: int, hidden: int, layers: int, *, layer: Callable[[int, int], nn.RNNBase] = _LSTMLayer
) -> nn.ModuleList:
    """Stacked recurrent layers, their weights still to be drawn; then call `remember_long`."""
    return nn.ModuleList(layer(width, hidden) for width in widths(n_inputs, hidden, layers))


def widths(n_inputs: int, hidden: int, layers: int) -> list[int]:
    """Inputs of each of several stacked layers."""
    return [n_inputs] + [hidden] * (layers - 1)


@torch.no_grad()
def remember_long(layers: nn.ModuleList, hidden: int) -> None:
    """Set to 1 the bias of the gate that keeps the state, so that memory starts long.

    Torch has it second in both kinds: input, forget, cell, output; and reset, update, new.
    """
    for layer in layers:
        layer.get_parameter("bias_ih_l0")[hidden : 2 * hidden] = 1.0


def recur(
    layers: nn.ModuleList, x: Tensor, state: State | None, dropout: float, noise: Generator | None
) -> tuple[Tensor, State]:
    """Run stacked recurrent layers over (n_dates, n_sequences, n_inputs), dropping after each."""
    ends: State = []
    for depth, layer in enumerate(layers):
        x, end = layer(x, None if state is None else state[depth])
        x = drop(x, dropout, noise)
        ends.append(end)
    return x, ends


class RecurrentNetwork(SequenceNetwork):
    """Stacked recurrent layers with a linear head per horizon on the shared last one.

    Parameters
    ----------
    n_inputs, n_heads : int
        Inputs per date, and outputs per date.
    hidden, layers : int
        Width and number of recurrent layers.
    dropout : float
        Share dropped, in training, of the inputs and of the output of each layer.
    generator : Generator
        CPU generator of the initial weights: uniform within 1/sqrt(hidden), biases 0, except
        1 for the gate that keeps the state, so that memory starts long (Jozefowicz et al., 2015,
        "An Empirical Exploration of Recurrent Network Architectures", ICML).
    """

    layer: ClassVar[type[nn.RNNBase]]

    def __init__(
        self,
        n_inputs: int,
        n_heads: int,
        *,
        hidden: int,
        layers: int,
        dropout: float,
        generator: Generator,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.layers = recurrent_layers(n_inputs, hidden, layers, layer=self.layer)
        self.head_weight = nn.Parameter(torch.empty(n_heads, hidden))
        self.head_bias = nn.Parameter(torch.empty(n_heads))
        draw_uniform(self.named_parameters(), 1.0 / sqrt(hidden), generator)
        remember_long(self.layers, hidden)

    def forward(
        self, inputs: Tensor, state: State | None = None, noise: Generator | None = None
    ) -> tuple[Tensor, State]:
        """Run over a stretch of rows; see `SequenceNetwork.forward`."""
        x = drop(inputs, self.dropout, noise)
        x, ends = recur(self.layers, x, state, self.dropout, noise)
        return nn.functional.linear(x, self.head_weight, self.head_bias), ends


class LSTMNetwork(RecurrentNetwork):
    """Long short-term memory; parameters as `RecurrentNetwork`.

    Torch's own cell is kept: on a CPU its oneDNN kernel was the fastest of those that were tried
    (several seeds in one batched product came to 0.8 to 2 times its cost per seed).

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> network = LSTMNetwork(3, 2, hidden=4, layers=1, dropout=0.0, generator=generator)
    >>> outputs, _ = network(torch.zeros(10, 7, 3))
    >>> outputs.shape
    torch.Size([10, 7, 2])
    """

    layer = _LSTMLayer


class GRUNetwork(RecurrentNetwork):
    """Gated recurrent units; parameters as `RecurrentNetwork`.

    Two gates for the LSTM's three and no cell beside the state: three quarters of its weights. See
    Cho et al. (2014), "Learning Phrase Representations using RNN Encoder-Decoder", EMNLP,
    https://doi.org/10.3115/v1/D14-1179.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> network = GRUNetwork(3, 2, hidden=4, layers=1, dropout=0.0, generator=generator)
    >>> network(torch.zeros(10, 7, 3))[0].shape
    torch.Size([10, 7, 2])
    """

    layer = _GRULayer


class MLPNetwork(SequenceNetwork):
    r"""Layers :math:`\mathrm{SiLU}(W z_t + b)` on the row alone: the control without memory.

    What a recurrent network finds beyond this one, it finds in the past of the stock. Parameters
    as `RecurrentNetwork`, `layers` hidden layers; weights within :math:`\sqrt{6 / n_{in}}` (He et
    al., 2015, https://doi.org/10.1109/ICCV.2015.123), the head's within 1/sqrt(hidden).

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> network = MLPNetwork(3, 2, hidden=4, layers=1, dropout=0.0, generator=generator)
    >>> network(torch.zeros(10, 7, 3))[0].shape
    torch.Size([10, 7, 2])
    """

    def __init__(
        self,
        n_inputs: int,
        n_heads: int,
        *,
        hidden: int,
        layers: int,
        dropout: float,
        generator: Generator,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        fan_in = widths(n_inputs, hidden, layers)
        self.weights = nn.ParameterList(torch.empty(hidden, width) for width in fan_in)
        self.biases = nn.ParameterList(torch.zeros(hidden) for _ in fan_in)
        self.head_weight = nn.Parameter(torch.empty(n_heads, hidden))
        self.head_bias = nn.Parameter(torch.zeros(n_heads))
        for width, weight in zip(fan_in, self.weights, strict=True):
            draw_uniform([("weight", weight)], sqrt(6.0 / width), generator)
        draw_uniform([("weight", self.head_weight)], 1.0 / sqrt(hidden), generator)

    def forward(
        self,
        inputs: Tensor,
        state: State | None = None,  # noqa: ARG002  (there is none)
        noise: Generator | None = None,
    ) -> tuple[Tensor, State]:
        """Run over a stretch of rows; see `SequenceNetwork.forward`. The state is empty."""
        x = drop(inputs, self.dropout, noise)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = nn.functional.silu(nn.functional.linear(x, weight, bias))
            x = drop(x, self.dropout, noise)
        return nn.functional.linear(x, self.head_weight, self.head_bias), []


def assemble(features: Floats32, market: Floats32) -> Floats32:
    """Inputs of a stretch, (n_dates, n_assets, n_factors + n_series); NaN and infinities are 0.

    Market series are spread over the stocks here, for one stretch at a time: spread over a whole
    panel they would need more memory than the factors.
    """
    n_dates, n_assets, n_factors = features.shape
    inputs = np.empty((n_dates, n_assets, n_factors + market.shape[1]), dtype=np.float32)
    inputs[..., :n_factors] = features
    inputs[..., n_factors:] = market[:, None]
    if not np.isfinite(inputs.sum(dtype=np.float64)):
        np.nan_to_num(inputs, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return inputs


def run(
    network: SequenceNetwork,
    features: Floats32,
    series: Floats32,
    *,
    warm_up: int | None = None,
    stretch: int = 1,
) -> Floats32:
    """Outputs of a network at every row, without ever holding the inputs of all rows.

    Parameters
    ----------
    network : SequenceNetwork
        On any device; dropout is off.
    features : float32 ndarray of shape (n_dates, n_assets, n_factors)
        NaN and infinities count as 0.
    series : float32 ndarray of shape (n_dates, n_series)
        Scaled market series.
    warm_up, stretch : int, optional
        Start the state anew this many rows before each `stretch` of rows; by default it runs
        from row 0.

    Returns
    -------
    float32 ndarray of shape (n_dates, n_assets, n_heads)
    """
    n_dates, n_assets, _ = features.shape
    device = next(network.parameters()).device
    size = max(1, BLOCK_ENTRIES // n_assets)
    stretch = n_dates if warm_up is None else stretch
    pieces: list[Floats32] = []
    with torch.inference_mode():
        for start in range(0, n_dates, stretch):
            stop, state = min(start + stretch, n_dates), None
            for first in range(max(0, start - (warm_up or 0)), stop, size):
                rows = slice(first, min(first + size, stop))
                inputs = torch.from_numpy(assemble(features[rows], series[rows])).to(device)
                outputs, state = network(inputs, state)
                pieces.append(outputs[max(0, start - first) :].cpu().numpy())
    return np.concatenate(pieces)
