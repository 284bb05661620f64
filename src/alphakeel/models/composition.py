r"""How concentrated a composition is and how slowly it follows its scores, chosen out of fold.

A network learns scores; how far a portfolio should lean on them, and how much of the way to a new
composition it should trade, shows only on rows that were not fitted: in training, concentration
always pays. So both are chosen on the out-of-fold path, of which there is one already, for the
safety factors (`models.safety_factors`).

With a fraction h of the way traded at each decision, the composition is the exponentially weighted
mean of what the network wanted,

.. math:: s_t \propto \sum_{u \le t} h (1 - h)^{t - u} \hat s_u

over the stocks that may be held at t: smoothed is the composition, never its exposure.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alphakeel.stats.cross_section import row_sums
from alphakeel.stats.performance import PERIODS_PER_YEAR

__all__ = [
    "CANDIDATES",
    "SLOW_CANDIDATES",
    "Composition",
    "best_composition",
    "merit",
    "smooth_path",
    "smooth_steps",
    "trail",
]

Floats = NDArray[np.float64]

ROUNDS = 4
# What a market is taken to earn in a year, above cash.
PREMIUM = 0.05


class Composition(NamedTuple):
    """`temperature` of the softmax, None where it is learned, and share of the way traded."""

    temperature: float | None
    smoothing: float


# From calm to concentrated: at a temperature of 2 a stock one standard deviation of score above
# another gets 1.6 times its share, at one of a quarter 55 times.
TEMPERATURES, SMOOTHINGS = (2.0, 1.0, 0.5, 0.25), (0.25, 0.5, 1.0)
CANDIDATES = tuple(Composition(*pair) for pair in product(TEMPERATURES, SMOOTHINGS))
# For a limit on turnover, which the others may all break.
SLOW_CANDIDATES = tuple(Composition(*pair) for pair in product(TEMPERATURES, (0.05, 0.1)))


def best_composition(
    candidates: tuple[Composition, ...], merit_of: Callable[[Composition], float]
) -> tuple[Composition, list[dict[str, Any]]]:
    """The candidate of most merit out of fold, the calmer of equals, and all that were tried.

    Examples
    --------
    >>> calm, bold = Composition(1.0, 0.25), Composition(0.25, 1.0)
    >>> best_composition((calm, bold), lambda c: 1.0 - c.smoothing)[0]
    Composition(temperature=1.0, smoothing=0.25)
    """
    merits = [merit_of(candidate) for candidate in candidates]
    known = [-np.inf if np.isnan(x) else x for x in merits]
    tried = [
        {**candidate._asdict(), "merit": merit}
        for candidate, merit in zip(candidates, merits, strict=True)
    ]
    return candidates[int(np.argmax(known))], tried


def merit(own: Floats, market: Floats) -> float:
    """Annual Sharpe ratio of daily net returns, had the market earned `PREMIUM` a year.

    In the few years out of fold the market's own direction, which no composition chose, moves a
    Sharpe ratio more than anything else does: its mean is replaced, what was earned beside it and
    all of the risk are as they were. NaN where nothing moved.

    Examples
    --------
    >>> days = np.random.default_rng(0).normal(-0.002, 0.01, 500)  # a market that fell
    >>> round(merit(days, days), 2), round(merit(days + 0.0004, days), 2)
    (0.31, 0.94)
    """
    spread = market - market.mean()
    variance = float(spread @ spread)
    risk = float(own.std(ddof=1))
    if variance <= 0.0 or risk <= 0.0:
        return float("nan")
    beta = float(spread @ (own - own.mean())) / variance
    earned = own.mean() + beta * (PREMIUM / PERIODS_PER_YEAR - market.mean())
    return float(earned / risk * PERIODS_PER_YEAR**0.5)


def trail(shares: Floats, smoothing: float, start: Floats | None = None) -> Floats:
    """Where a portfolio is that trades a share of the way to each row, from `start` or nothing."""
    if smoothing >= 1.0:
        return shares
    out, state = np.empty_like(shares), np.zeros(shares.shape[1]) if start is None else start
    for t, wanted in enumerate(shares):  # a recursion along time
        out[t] = state = state + smoothing * (wanted - state)
    return out


def smooth_path(
    shares: Floats,
    investable: NDArray[np.bool_],
    smoothing: float,
    cap: float,
    start: Floats | None = None,
) -> Floats:
    """Compositions (n_dates, n_assets) that trade a share of the way at each row, see `trail`.

    Each row has the sum that it was given, within `cap`. Row t reads no later one.
    """
    if smoothing >= 1.0:
        return shares
    out = np.where(investable, trail(shares, smoothing, start), 0.0)
    total = row_sums(shares)
    out *= _ratio(total, row_sums(out))[:, None]
    for _ in range(ROUNDS if cap < 1.0 else 0):
        cut = row_sums(np.maximum(out - cap, 0.0))
        out = np.minimum(out, cap)
        takers = np.where(out < cap, out, 0.0)
        out += takers * _ratio(cut, row_sums(takers))[:, None]
    return np.minimum(out, cap)


def smooth_steps(shares: Tensor, investable: Tensor, smoothing: float) -> Tensor:
    """`smooth_path` with slopes, (n_steps, n_sequences, n_assets), before the cap."""
    if smoothing >= 1.0:
        return shares
    steps = torch.arange(len(shares), device=shares.device)
    lag = steps[:, None] - steps[None, :]
    kernel = torch.where(lag >= 0, smoothing * (1.0 - smoothing) ** lag.clamp_min(0), 0.0)
    mixed = torch.einsum("ts,sbn->tbn", kernel.to(shares.dtype), shares) * investable
    total = shares.sum(dim=-1, keepdim=True)
    return mixed * (total / mixed.sum(dim=-1, keepdim=True).clamp_min(1e-12))


def _ratio(over: Floats, under: Floats) -> Floats:
    """Quotient of two rows of sums; 0 where there is nothing to divide by."""
    return np.asarray(np.where(under > 1e-12, over / np.where(under > 1e-12, under, 1.0), 0.0))
