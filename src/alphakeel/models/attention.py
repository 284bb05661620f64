r"""An LSTM that may look back at its own past states: causal attention over a band of rows.

The band keeps memory and work linear in the number of rows: queries go in blocks, and each block
meets the keys of its own rows and of one band before them. A stretch of T rows thus makes
T x (`window` + `BLOCK`) products a sequence, where full attention makes T x T.
"""

from __future__ import annotations

from math import inf, sqrt

import torch
from torch import Generator, Tensor, nn

from alphakeel.models.networks import (
    SequenceNetwork,
    State,
    draw_uniform,
    drop,
    recur,
    recurrent_layers,
    remember_long,
)

__all__ = ["AttentionNetwork", "banded_attention"]

# Rows of queries taken together: of 8 to 64 the fastest on a CPU, for a band of 52.
BLOCK = 32


def banded_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    r"""Softmax attention of each row to itself and the rows before it, within a band.

    .. math:: \mathrm{out}_t = \sum_{j=0}^{w-1} a_{tj} v_{t-j}, \qquad
              a_{t\cdot} = \mathrm{softmax}_j\bigl(q_t^\top k_{t-j} + b_j\bigr)

    over the lags j whose row exists. Later rows are given a weight of exactly 0. See Vaswani et
    al. (2017), "Attention Is All You Need", https://arxiv.org/abs/1706.03762, and for a bias per
    lag Raffel et al. (2020), https://jmlr.org/papers/v21/20-074.html.

    Parameters
    ----------
    query : Tensor of shape (n_sequences, n_dates, width)
        Already scaled.
    key, value : Tensor of shape (n_sequences, n_past + n_dates, width)
        With n_past rows more at the start than `query` has.
    bias : Tensor of shape (window,)
        One number per lag; its length is the band: lags 0 to window - 1.

    Returns
    -------
    Tensor of shape (n_sequences, n_dates, width)

    Examples
    --------
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
    r"""LSTM with causal temporal attention over its last `window` states.

    With h the output of the LSTM, a row s is weighed by :math:`h_t^\top W h_s / \sqrt{H}` plus a
    bias per lag (the "general" score of Luong, Pham, Manning, 2015,
    https://doi.org/10.18653/v1/D15-1166), and the head reads :math:`(h_t, \sum_s a_{ts} h_s)`.
    Separate keys and values would add nothing: W is the product of two matrices already, and what
    would map the values the linear head maps. The biases start at 0, the attention therefore near
    the mean of the last `window` states.

    Parameters
    ----------
    window : int
        Rows attended to, the row itself among them.
    n_inputs, n_heads, hidden, layers, dropout, generator
        As in `RecurrentNetwork`; dropout falls on what the attention returns as well.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> settings = {"hidden": 4, "layers": 1, "dropout": 0.0, "generator": generator}
    >>> network = AttentionNetwork(3, 2, window=5, **settings)
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
        remember_long(self.layers, hidden)

    def forward(
        self, inputs: Tensor, state: State | None = None, noise: Generator | None = None
    ) -> tuple[Tensor, State]:
        """Run over a stretch of rows; see `SequenceNetwork.forward`."""
        x = drop(inputs, self.dropout, noise)
        h, ends = recur(self.layers, x, None if state is None else state[:-1], self.dropout, noise)
        past = h if state is None else torch.cat([state[-1], h])
        # A weight of 0 does not silence a NaN. One in a later row must not reach an earlier one;
        # the row that has it still shows it, through its own h.
        memory = torch.nan_to_num(past).transpose(0, 1)
        query = nn.functional.linear(h, self.score / sqrt(h.shape[2])).transpose(0, 1)
        found = banded_attention(query, memory, memory, self.lag_bias)
        both = torch.cat([h, drop(found.transpose(0, 1), self.dropout, noise)], dim=2)
        ends.append(past[max(0, len(past) - self.window + 1) :])
        return nn.functional.linear(both, self.head_weight, self.head_bias), ends
