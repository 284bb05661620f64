"""A book of stocks: what it meets in the market, and the network that decides its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Generator, Tensor, nn

from alphakeel.errors import DataError
from alphakeel.models.limits import Limits, Multipliers
from alphakeel.models.losses import VARIANCE_FLOOR
from alphakeel.models.networks import SequenceNetwork, State

__all__ = ["AllocatingNetwork", "Market", "cap_shares", "sparsemax"]

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

# The gate starts almost open: sigmoid(3) is 0.95.
OPEN_GATE = 3.0
# The gate's level has a longer way to go than its slopes: from 0.95 to a fifth, if limits say so.
LEVEL_PACE = 6.0
CAP_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class Market:
    """What a portfolio meets: returns between trades, and which stocks it may hold.

    Attributes
    ----------
    returns : float64 ndarray of shape (n_priced, n_days, n_assets)
        Simple returns per day; 0 where a stock is not priced. No rows where only weights are
        asked for.
    log_volatility : float32 ndarray of shape (n_dates, n_assets)
        0 where a stock may not be held.
    investable : bool ndarray of shape (n_dates, n_assets)
        Present, with a known volatility.
    n_priced : int
        Rows whose returns are known.
    """

    returns: Floats
    log_volatility: Floats32
    investable: Bools
    n_priced: int

    @classmethod
    def of(cls, returns: ArrayLike | None, volatility: ArrayLike, present: Bools) -> Self:
        """Check returns (n_dates, n_days, n_assets) and volatilities (n_dates, n_assets).

        Raises
        ------
        DataError
            If shapes do not fit, a return is below -1, or rows in the middle have no returns.
        """
        known = np.asarray(volatility, dtype=np.float64)
        if known.shape != present.shape:
            raise DataError(
                f"volatility has shape {known.shape}, but the features have {present.shape[0]} "
                f"dates and {present.shape[1]} assets"
            )
        investable = present & np.isfinite(known) & (known > 0.0)
        log_volatility = np.log(np.where(investable, known, 1.0)).astype(np.float32)
        if returns is None:
            empty = np.empty((0, 1, present.shape[1]))
            return cls(empty, log_volatility, investable, 0)
        gains = np.asarray(returns, dtype=np.float64)
        if gains.ndim != 3 or (gains.shape[0], gains.shape[2]) != present.shape or not gains.size:
            raise DataError(
                f"returns have shape {gains.shape}; give (dates, days of a step, assets) with "
                f"{present.shape[0]} dates and {present.shape[1]} assets"
            )
        finite = np.isfinite(gains)
        priced: Bools = np.all(np.any(finite, axis=2), axis=1)
        n_priced = int(priced.sum())
        if not priced[:n_priced].all() or n_priced == 0:
            raise DataError(
                f"row {int(np.argmin(priced))} has a day on which no stock has a return; only the "
                "last rows may be unknown"
            )
        gains = np.where(finite, gains, 0.0)[:n_priced]
        if gains.min() < -1.0:
            row = int(np.argwhere(gains < -1.0)[0][0])
            raise DataError(f"returns fall below -1 at row {row}: a stock cannot lose more")
        return cls(gains, log_volatility, investable, n_priced)

    def cut(self, rows: slice) -> Self:
        """The same market on some of its rows."""
        returns = self.returns[rows]
        return type(self)(returns, self.log_volatility[rows], self.investable[rows], len(returns))


class AllocatingNetwork(SequenceNetwork):
    """A network that scores, and what turns its scores into weights.

    Parameters
    ----------
    trunk : SequenceNetwork
        Gives scores; its state is the state.
    n_market : int
        Market series that the gate reads; without any its level alone is learned.
    limits : Limits
        Their multipliers travel with the network's state.
    weighting : {"softmax", "sparsemax"}
    weight_cap : float
        Largest share of the book in one stock.
    temperature : float, optional
        None learns it.
    gate_pace : float
        Learning rate of the gate over that of the rest.
    """

    def __init__(
        self,
        trunk: SequenceNetwork,
        n_market: int,
        limits: Limits,
        *,
        weighting: str,
        weight_cap: float,
        temperature: float | None,
        gate_pace: float,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.weighting, self.weight_cap = weighting, weight_cap
        self.temperature, self.gate_pace = temperature, gate_pace
        self.gate_weight = nn.Parameter(torch.zeros(n_market))
        self.gate_level = nn.Parameter(torch.zeros(()))
        self.log_sharpness = nn.Parameter(torch.zeros(()))
        self.log_tilt = nn.Parameter(torch.zeros(()))
        self.log_threshold = nn.Parameter(torch.zeros(()))
        self.multipliers = Multipliers(limits)

    def forward(
        self, inputs: Tensor, state: State | None = None, noise: Generator | None = None
    ) -> tuple[Tensor, State]:
        """Scores of the trunk; see `SequenceNetwork.forward`."""
        outputs: tuple[Tensor, State] = self.trunk(inputs, state, noise)
        return outputs

    def exposure(self, market: Tensor) -> Tensor:
        """Share of wealth at risk, (...,), given scaled market series (..., n_series)."""
        level = OPEN_GATE + _paced(self.gate_level, LEVEL_PACE * self.gate_pace)
        return torch.sigmoid(market @ _paced(self.gate_weight, self.gate_pace) + level)

    def threshold(self) -> Tensor:
        """Learned threshold of the CVaR: a daily loss, 2 % at first."""
        return 0.02 * torch.exp(_paced(self.log_threshold, LEVEL_PACE * self.gate_pace))

    def weights(
        self, heads: Tensor, market: Tensor, log_volatility: Tensor, investable: Tensor
    ) -> Tensor:
        """Weights of shape (..., n_assets).

        Parameters
        ----------
        heads : Tensor of shape (..., n_assets, n_heads)
        market : Tensor of shape (..., n_series)
        log_volatility : Tensor of shape (..., n_assets)
        investable : bool Tensor of shape (..., n_assets)
            Elsewhere the weight is 0. A date without any is all cash.
        """
        score = _standardise(heads, investable.unsqueeze(-1), dim=-2).mean(dim=-1)
        score = _standardise(score, investable, dim=-1)
        if self.temperature is None:
            sharpness = torch.exp(self.log_sharpness)
        else:
            sharpness = torch.as_tensor(1.0 / self.temperature).to(score)
        tilt = torch.exp(self.log_tilt)
        merit = sharpness * score - tilt * log_volatility
        spread = sparsemax if self.weighting == "sparsemax" else torch.softmax
        # Far below any merit, yet finite: a date without a stock then has slopes of 0, not NaN.
        shares = spread(merit.masked_fill(~investable, -1e4), dim=-1) * investable
        if self.weight_cap < 1.0:
            shares = cap_shares(shares, self.weight_cap)
        return shares * self.exposure(market).unsqueeze(-1)

    @torch.inference_mode()
    def weigh(self, heads: Floats32, series: Floats32, found: Market) -> Floats:
        """Weights of the first ``len(heads)`` rows of a market, in NumPy."""
        rows, device = slice(0, len(heads)), self.gate_weight.device
        given = (heads, series, found.log_volatility[rows], found.investable[rows])
        weights = self.weights(*(torch.from_numpy(x).to(device) for x in given))
        return weights.cpu().numpy().astype(np.float64)


def sparsemax(x: Tensor, dim: int = -1) -> Tensor:
    """Euclidean projection onto the simplex: like softmax, but with exact zeros.

    See Martins, Astudillo (2016), "From Softmax to Sparsemax", ICML,
    https://arxiv.org/abs/1602.02068.

    Examples
    --------
    >>> sparsemax(torch.tensor([1.0, 0.8, -1.0]))
    tensor([0.6000, 0.4000, 0.0000])
    """
    x = x.movedim(dim, -1)
    ordered = x.sort(dim=-1, descending=True).values
    place = torch.arange(1, x.shape[-1] + 1, device=x.device, dtype=x.dtype)
    excess = ordered.cumsum(dim=-1) - 1.0
    size = (ordered * place > excess).sum(dim=-1, keepdim=True)
    cut = excess.gather(-1, size - 1) / size
    return (x - cut).clamp_min(0.0).movedim(-1, dim)


def cap_shares(shares: Tensor, cap: float) -> Tensor:
    """Hold shares down to a cap, and hand what is cut to the others in proportion.

    A few rounds of handing on: what is still over the cap then, or finds no taker because there
    are too few stocks, is left out.

    Examples
    --------
    >>> cap_shares(torch.tensor([0.7, 0.2, 0.1]), 0.5)
    tensor([0.5000, 0.3333, 0.1667])
    >>> cap_shares(torch.tensor([0.9, 0.1]), 0.3)
    tensor([0.3000, 0.3000])
    """
    for _ in range(CAP_ROUNDS):
        cut = (shares - cap).clamp_min(0.0).sum(dim=-1, keepdim=True)
        shares = shares.clamp_max(cap)
        takers = torch.where(shares < cap, shares, 0.0)
        shares = shares + takers * (cut / takers.sum(dim=-1, keepdim=True).clamp_min(1e-12))
    return shares.clamp_max(cap)


def _paced(parameter: Tensor, pace: float) -> Tensor:
    """`pace` times a parameter, with the slope of the parameter itself.

    The optimiser moves every parameter by about the learning rate; this one then counts as if
    its own were `pace` times that.
    """
    return parameter + (pace - 1.0) * parameter.detach()


def _standardise(x: Tensor, known: Tensor, dim: int) -> Tensor:
    """Mean 0 and variance 1 over the known entries of a dimension; 0 elsewhere."""
    weight = known.to(x.dtype)
    share = weight / weight.sum(dim=dim, keepdim=True).clamp_min(1.0)
    centred = (x - (x * share).sum(dim=dim, keepdim=True)) * weight
    variance = (centred * centred * share).sum(dim=dim, keepdim=True)
    return centred / torch.sqrt(variance + VARIANCE_FLOOR)
