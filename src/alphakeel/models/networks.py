"""Networks that read factors date by date and carry a state along.

All of them are causal and can be streamed: running a block of rows in two parts, handing the
state from one to the other, gives what one run gives. Nothing here touches torch's global
random state, because fits run side by side in threads: initial weights and dropout masks come
from generators that are handed in.

Attention is banded, which keeps memory and work linear in the number of rows: queries go in
blocks, and each block meets the keys of its own rows and of one band before them, T x (`window`
+ `BLOCK`) products for T rows, where full attention makes T x T.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from math import inf, sqrt
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

__all__ = [
    "AttentionNetwork",
    "CNNLSTMNetwork",
    "CausalConvolution",
    "GRUNetwork",
    "LSTMNetwork",
    "MLPNetwork",
    "RecurrentNetwork",
    "SequenceNetwork",
    "assemble",
    "banded_attention",
    "draw_uniform",
    "apply_dropout",
    "recur",
    "recurrent_layers",
    "set_memory_bias",
    "run",
    "run_from",
    "state_arrays",
    "state_of",
    "widths",
]

Floats32 = NDArray[np.float32]
# What a network carries from one block to the next; only the network itself looks inside.
State = list[Any]

# Prediction goes through so many rows at a time, and stocks in multiples of this many: products of
# one shape round alike, so that no score depends on how many other rows and stocks there are.
ROWS_AT_ONCE, STOCKS_AT_ONCE = 64, 64

# Rows of queries taken together: of 8 to 64 the fastest on a CPU, for a band of 52.
BLOCK = 32


def apply_dropout(x: Tensor, rate: float, noise: Generator | None) -> Tensor:
    """Dropout with its own generator: zero a share `rate` of entries, scale up the rest.

    With ``noise=None`` (prediction) or a rate of 0 the input comes back as it is. The rate is
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
        """Run over a block of rows.

        `inputs` are (n_dates, batch, n_inputs), `state` is where an earlier block ended (None:
        before any row), `noise` the source of dropout masks (None: no dropout). Gives outputs
        (n_dates, batch, n_heads), of which row t depends on rows up to t, and the state for the
        next block.
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
    """Stacked recurrent layers, their weights still to be drawn; then call `set_memory_bias`."""
    return nn.ModuleList(layer(width, hidden) for width in widths(n_inputs, hidden, layers))


def widths(n_inputs: int, hidden: int, layers: int) -> list[int]:
    """Inputs of each of several stacked layers."""
    return [n_inputs] + [hidden] * (layers - 1)


@torch.no_grad()
def set_memory_bias(layers: nn.ModuleList, hidden: int) -> None:
    """Set to 1 the bias of the gate that keeps the state, so that memory starts long.

    Torch has it second in both kinds: input, forget, cell, output; and reset, update, new.
    """
    for layer in layers:
        layer.get_parameter("bias_ih_l0")[hidden : 2 * hidden] = 1.0


def recur(
    layers: nn.ModuleList, x: Tensor, state: State | None, dropout: float, noise: Generator | None
) -> tuple[Tensor, State]:
    """Run stacked recurrent layers over (n_dates, batch, n_inputs), dropping after each."""
    ends: State = []
    for depth, layer in enumerate(layers):
        x, end = layer(x, None if state is None else state[depth])
        x = apply_dropout(x, dropout, noise)
        ends.append(end)
    return x, ends


class RecurrentNetwork(SequenceNetwork):
    """Stacked recurrent layers with a linear head per horizon on the shared last one.

    `dropout` is the share dropped, in training, of the inputs and of the output of each layer.
    The CPU `generator` draws the initial weights: uniform within 1/sqrt(hidden), biases 0,
    except 1 for the gate that keeps the state, so that memory starts long (Jozefowicz et al.,
    2015, ICML).
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
        set_memory_bias(self.layers, hidden)

    def forward(
        self, inputs: Tensor, state: State | None = None, noise: Generator | None = None
    ) -> tuple[Tensor, State]:
        """As `SequenceNetwork.forward`."""
        x = apply_dropout(inputs, self.dropout, noise)
        x, ends = recur(self.layers, x, state, self.dropout, noise)
        return nn.functional.linear(x, self.head_weight, self.head_bias), ends


class LSTMNetwork(RecurrentNetwork):
    """Long short-term memory; parameters as `RecurrentNetwork`.

    Torch's own cell stays: on a CPU its oneDNN kernel was the fastest of those that were tried
    (several seeds in one batched product came to 0.8 to 2 times its cost per seed).
    """

    layer = _LSTMLayer


class GRUNetwork(RecurrentNetwork):
    """Gated recurrent units; parameters as `RecurrentNetwork`.

    Three quarters of the LSTM's weights. See Cho et al. (2014),
    https://doi.org/10.3115/v1/D14-1179.
    """

    layer = _GRULayer


class MLPNetwork(SequenceNetwork):
    r"""Layers :math:`\mathrm{SiLU}(W z_t + b)` on the row alone: the control without memory.

    Parameters as `RecurrentNetwork`, `layers` hidden layers; weights within :math:`\sqrt{6 /
    n_{in}}` (He et al., 2015, https://doi.org/10.1109/ICCV.2015.123), the head's within
    1/sqrt(hidden).
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
        """As `SequenceNetwork.forward`. The state is empty."""
        x = apply_dropout(inputs, self.dropout, noise)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = nn.functional.silu(nn.functional.linear(x, weight, bias))
            x = apply_dropout(x, self.dropout, noise)
        return nn.functional.linear(x, self.head_weight, self.head_bias), []


def assemble(features: Floats32, market: Floats32) -> Floats32:
    """Inputs of a block, (n_dates, n_assets, n_factors + n_series); NaN and infinities are 0.

    Market series are spread over the stocks here, one block at a time: over a whole panel they
    would need more memory than the factors.
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
    block: int = 1,
) -> Floats32:
    """Outputs of a network at every row; the inputs of all rows are never held at once.

    `features` are (n_dates, n_assets, n_factors), `series` (n_dates, n_series) and scaled; the
    outputs (n_dates, n_assets, n_heads). With `warm_up` the state starts anew this many rows
    before each `block` of rows; by default it runs from row 0.
    """
    if warm_up is None:
        return run_from(network, features, series)[0]
    pieces: list[Floats32] = []
    for start in range(0, len(features), block):
        rows = slice(max(0, start - warm_up), start + block)
        pieces.append(run_from(network, features[rows], series[rows])[0][start - rows.start :])
    return np.concatenate(pieces)


def run_from(
    network: SequenceNetwork, features: Floats32, series: Floats32, state: State | None = None
) -> tuple[Floats32, State | None]:
    """Outputs of a network at rows that follow a state, and its state after the last whole block.

    A block has `ROWS_AT_ONCE` rows: to go on from its end gives what one run gives, to the bit.
    Without a whole block the state comes back as it was.
    """
    n_dates, n_assets, _ = features.shape
    device = next(network.parameters()).device
    pieces: list[Floats32] = []
    after = state
    with torch.inference_mode():
        for first in range(0, n_dates, ROWS_AT_ONCE):
            rows = slice(first, min(first + ROWS_AT_ONCE, n_dates))
            inputs = _padded(assemble(features[rows], series[rows]))
            outputs, state = network(torch.from_numpy(inputs).to(device), state)
            pieces.append(outputs[: rows.stop - first, :n_assets].cpu().numpy())
            if rows.stop - first == ROWS_AT_ONCE:
                after = state
    return np.concatenate(pieces), after


def state_arrays(state: State, n_assets: int) -> dict[str, Floats32]:
    """The parts of a state by place (``"0"``, or ``"0.1"`` in a pair), (..., n_assets, ...).

    Stocks are on axis 1 of every part.
    """
    parts: dict[str, Floats32] = {}
    for k, own in enumerate(state):
        pair = own if isinstance(own, tuple) else (own,)
        for j, part in enumerate(pair):
            name = f"{k}.{j}" if isinstance(own, tuple) else str(k)
            parts[name] = part[:, :n_assets].cpu().numpy()
    return parts


def state_of(parts: Mapping[str, Floats32], device: torch.device) -> State:
    """The state of `state_arrays`, with the stocks that `run_from` fills up with."""
    by_place: dict[int, list[tuple[str, Tensor]]] = {}
    for name in sorted(parts):
        place, _, second = name.partition(".")
        columns = _columns(parts[name].shape[1])
        filled = np.zeros((len(parts[name]), columns, *parts[name].shape[2:]), dtype=np.float32)
        filled[:, : parts[name].shape[1]] = parts[name]
        tensor = torch.from_numpy(filled).to(device)
        by_place.setdefault(int(place), []).append((second, tensor))
    return [
        tuple(tensor for _, tensor in own) if own[0][0] else own[0][1]
        for _, own in sorted(by_place.items())
    ]


def _padded(inputs: Floats32) -> Floats32:
    """Inputs of `ROWS_AT_ONCE` rows and a multiple of `STOCKS_AT_ONCE`, filled up with zeros."""
    n_dates, n_assets, n_inputs = inputs.shape
    columns = _columns(n_assets)
    if (n_dates, n_assets) == (ROWS_AT_ONCE, columns):
        return inputs
    padded = np.zeros((ROWS_AT_ONCE, columns, n_inputs), dtype=np.float32)
    padded[:n_dates, :n_assets] = inputs
    return padded


def _columns(n_assets: int) -> int:
    """Stocks of a product that has so many."""
    return -(-n_assets // STOCKS_AT_ONCE) * STOCKS_AT_ONCE


def banded_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    r"""Softmax attention of each row to itself and the rows before it, within a band.

    .. math:: \mathrm{out}_t = \sum_{j=0}^{w-1} a_{tj} v_{t-j}, \qquad
              a_{t\cdot} = \mathrm{softmax}_j\bigl(q_t^\top k_{t-j} + b_j\bigr)

    over the lags j whose row exists. Later rows are given a weight of exactly 0. Queries
    (batch, n_dates, width) are scaled already; keys and values (batch, n_past + n_dates, width)
    have n_past rows more at the start; `bias` has one number per lag, and its length w is the
    band. See Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, and for a bias per lag
    Raffel et al. (2020), https://jmlr.org/papers/v21/20-074.html.

    >>> value = torch.tensor([[[1.0], [3.0], [5.0]]])
    >>> banded_attention(torch.zeros(1, 3, 1), torch.zeros(1, 3, 1), value, torch.zeros(2)).ravel()
    tensor([1., 2., 4.])
    """
    n_dates, window = query.shape[1], len(bias)
    n_past = key.shape[1] - n_dates
    blocks = []
    step = min(window, BLOCK)
    for start in range(0, n_dates, step):
        stop = min(start + step, n_dates)
        first, last = max(0, start + n_past - window + 1), stop + n_past
        rows = torch.arange(start + n_past, last, device=bias.device)
        lag = rows[:, None] - torch.arange(first, last, device=bias.device)
        seen = (lag >= 0) & (lag < window)
        shift = torch.where(seen, bias[lag.clamp(0, window - 1)], -inf)
        logits = torch.baddbmm(shift, query[:, start:stop], key[:, first:last].transpose(1, 2))
        blocks.append(torch.softmax(logits, dim=2) @ value[:, first:last])
    return torch.cat(blocks, dim=1)


class AttentionNetwork(SequenceNetwork):
    r"""LSTM with causal attention over its last `window` states, the row itself among them.

    With h the output of the LSTM, a row s counts by :math:`h_t^\top W h_s / \sqrt{H}` plus a
    bias per lag (the "general" score of Luong, Pham, Manning, 2015,
    https://doi.org/10.18653/v1/D15-1166), and the head reads :math:`(h_t, \sum_s a_{ts} h_s)`.
    Separate keys and values would add nothing: W is the product of two matrices already, and
    what would map the values the linear head maps. The biases start at 0, the attention
    therefore near the mean of the last `window` states. Dropout falls on what the attention
    returns as well.
    """

    def __init__(
        self,
        n_inputs: int,
        n_heads: int,
        *,
        hidden: int,
        layers: int,
        dropout: float,
        window: int,
        generator: Generator,
    ) -> None:
        super().__init__()
        self.dropout, self.window = dropout, window
        self.layers = recurrent_layers(n_inputs, hidden, layers)
        self.score = nn.Parameter(torch.empty(hidden, hidden))
        self.lag_bias = nn.Parameter(torch.empty(window))
        self.head_weight = nn.Parameter(torch.empty(n_heads, 2 * hidden))
        self.head_bias = nn.Parameter(torch.empty(n_heads))
        draw_uniform(self.named_parameters(), 1.0 / sqrt(hidden), generator)
        set_memory_bias(self.layers, hidden)

    def forward(
        self, inputs: Tensor, state: State | None = None, noise: Generator | None = None
    ) -> tuple[Tensor, State]:
        """As `SequenceNetwork.forward`."""
        x = apply_dropout(inputs, self.dropout, noise)
        h, ends = recur(self.layers, x, None if state is None else state[:-1], self.dropout, noise)
        past = h if state is None else torch.cat([state[-1], h])
        # A weight of 0 does not silence a NaN. One in a later row must not reach an earlier one;
        # the row that has it still shows it, through its own h.
        memory = torch.nan_to_num(past).transpose(0, 1)
        query = nn.functional.linear(h, self.score / sqrt(h.shape[2])).transpose(0, 1)
        attended = banded_attention(query, memory, memory, self.lag_bias)
        both = torch.cat([h, apply_dropout(attended.transpose(0, 1), self.dropout, noise)], dim=2)
        ends.append(past[max(0, len(past) - self.window + 1) :])
        return nn.functional.linear(both, self.head_weight, self.head_bias), ends


class CausalConvolution(nn.Module):
    r"""Causal convolution along time.

    :math:`y_t = b + \sum_{k=0}^{K-1} W_k \, x_{t - k d}`, d the dilation. Rows before the first
    are 0. Time is the first axis here, so each term is one product with a contiguous slice, and
    nothing is transposed or copied into windows. Weights are uniform within sqrt(6 / (K
    n_inputs)).
    """

    def __init__(
        self, n_inputs: int, n_outputs: int, *, kernel: int, dilation: int, generator: Generator
    ) -> None:
        super().__init__()
        self.dilation = dilation
        self.reach = (kernel - 1) * dilation
        self.weight = nn.Parameter(torch.empty(kernel, n_outputs, n_inputs))
        self.bias = nn.Parameter(torch.empty(n_outputs))
        draw_uniform(self.named_parameters(), sqrt(6.0 / (kernel * n_inputs)), generator)

    def forward(self, x: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """Outputs of (n_dates, batch, n_outputs), and the last `reach` rows of input."""
        if past is None:
            past = x.new_zeros(self.reach, *x.shape[1:])
        rows = torch.cat([past, x])
        total = nn.functional.linear(rows[self.reach :], self.weight[0], self.bias)
        for k in range(1, len(self.weight)):
            start = self.reach - k * self.dilation
            total = total + nn.functional.linear(rows[start : start + len(x)], self.weight[k])
        return total, rows[len(x) :]


class CNNLSTMNetwork(RecurrentNetwork):
    """Causal dilated convolutions with `hidden` channels, then an LSTM.

    Layer l has dilation 2^l, so that the LSTM's input at a row sums up the last
    ``1 + (kernel - 1)(2^convolutions - 1)`` rows (7 by default). Layers after the first add to
    their input, as in Bai, Kolter, Koltun (2018), https://arxiv.org/abs/1803.01271.
    """

    layer = LSTMNetwork.layer

    def __init__(
        self,
        n_inputs: int,
        n_heads: int,
        *,
        hidden: int,
        layers: int,
        dropout: float,
        kernel: int,
        convolutions: int,
        generator: Generator,
    ) -> None:
        super().__init__(
            hidden, n_heads, hidden=hidden, layers=layers, dropout=dropout, generator=generator
        )
        self.convolutions = nn.ModuleList(
            CausalConvolution(width, hidden, kernel=kernel, dilation=2**depth, generator=generator)
            for depth, width in enumerate(widths(n_inputs, hidden, convolutions))
        )

    def forward(
        self, inputs: Tensor, state: State | None = None, noise: Generator | None = None
    ) -> tuple[Tensor, State]:
        """As `SequenceNetwork.forward`."""
        x = apply_dropout(inputs, self.dropout, noise)
        pasts: State = []
        for depth, layer in enumerate(self.convolutions):
            y, past = layer(x, None if state is None else state[depth])
            y = apply_dropout(torch.relu(y), self.dropout, noise)
            x = x + y if depth else y
            pasts.append(past)
        x, ends = recur(
            self.layers, x, None if state is None else state[len(pasts) :], self.dropout, noise
        )
        return nn.functional.linear(x, self.head_weight, self.head_bias), pasts + ends
