"""Short patterns first, memory second: causal convolutions along time, then an LSTM."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Generator, Tensor, nn

from alphakeel.models.networks import (
    LSTMNetwork,
    RecurrentNetwork,
    State,
    draw_uniform,
    drop,
    recur,
    widths,
)

__all__ = ["CNNLSTMNetwork", "CausalConvolution"]


class CausalConvolution(nn.Module):
    r"""Convolution along time that reads the row and rows before it.

    .. math:: y_t = b + \sum_{k=0}^{K-1} W_k \, x_{t - k d}

    with dilation d and rows before the first taken as 0. Time is the first axis here, so each
    term is one product with a contiguous slice, and nothing is transposed or copied into windows.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Channels.
    kernel, dilation : int
        K >= 1 terms, d >= 1 rows apart.
    generator : Generator
        Source of the weights, uniform within sqrt(6 / (K n_inputs)).

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> layer = CausalConvolution(3, 4, kernel=3, dilation=2, generator=generator)
    >>> outputs, past = layer(torch.zeros(10, 7, 3), None)
    >>> outputs.shape, past.shape
    (torch.Size([10, 7, 4]), torch.Size([4, 7, 3]))
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
        """Outputs of (n_dates, n_sequences, n_outputs), and the last `reach` rows of input."""
        if past is None:
            past = x.new_zeros(self.reach, *x.shape[1:])
        rows = torch.cat([past, x])
        total = nn.functional.linear(rows[self.reach :], self.weight[0], self.bias)
        for k in range(1, len(self.weight)):
            start = self.reach - k * self.dilation
            total = total + nn.functional.linear(rows[start : start + len(x)], self.weight[k])
        return total, rows[len(x) :]


class CNNLSTMNetwork(RecurrentNetwork):
    """Causal dilated convolutions, then an LSTM over what they found.

    Layer l has dilation 2^l, so that the LSTM's input at a row sums up the last
    ``1 + (kernel - 1)(2^convolutions - 1)`` rows (7 by default). Layers after the first add to
    their input, as in Bai, Kolter, Koltun (2018), https://arxiv.org/abs/1803.01271.

    Parameters
    ----------
    kernel, convolutions : int
        Terms of each convolution, and their number.
    n_inputs, n_heads, hidden, layers, dropout, generator
        As in `RecurrentNetwork`; the convolutions have `hidden` channels, and dropout after each.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> settings = {"hidden": 4, "layers": 1, "dropout": 0.0, "generator": generator}
    >>> network = CNNLSTMNetwork(3, 2, kernel=3, convolutions=2, **settings)
    >>> network(torch.zeros(10, 7, 3))[0].shape
    torch.Size([10, 7, 2])
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
        """Run over a stretch of rows; see `SequenceNetwork.forward`."""
        x = drop(inputs, self.dropout, noise)
        pasts: State = []
        for depth, layer in enumerate(self.convolutions):
            y, past = layer(x, None if state is None else state[depth])
            y = drop(torch.relu(y), self.dropout, noise)
            x = x + y if depth else y
            pasts.append(past)
        x, ends = recur(
            self.layers, x, None if state is None else state[len(pasts) :], self.dropout, noise
        )
        return nn.functional.linear(x, self.head_weight, self.head_bias), pasts + ends
