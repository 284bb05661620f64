r"""From scores to a portfolio in torch: the allocation network, its limits and their multipliers.

Minimising f subject to v_k <= l_k is done by an augmented Lagrangian. With the violation g_k =
v_k / l_k - 1 below the limit and log(v_k / l_k) above it (the logarithm, because a risk of five
times its limit should not pull forty times as hard as one of a tenth above it), the loss gains

.. math:: \frac{1}{2 \rho_k} \bigl( \max(0, \lambda_k + \rho_k g_k)^2 - \lambda_k^2 \bigr)

and at every evaluation :math:`\lambda_k \leftarrow \max(0, \lambda_k + \rho_k g_k)` with the
violation of the whole training path. A limit that holds with room to spare has a multiplier of
0 and costs nothing; one that binds gets its shadow price per relative unit. See Hestenes
(1969), https://doi.org/10.1007/BF00927673; Rockafellar (1973),
https://doi.org/10.1007/BF00934777.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Self, TypedDict

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Generator, Tensor, nn

from alphakeel.errors import ConfigError, DataError
from alphakeel.models import losses
from alphakeel.models.composition import smooth_path, smooth_steps
from alphakeel.models.losses import VARIANCE_FLOOR
from alphakeel.models.networks import SequenceNetwork, State
from alphakeel.stats import performance
from alphakeel.stats.cross_section import row_sums
from alphakeel.stats.drawdown_control import PEAK_DAYS, window_drawdown
from alphakeel.stats.exposure_rules import WINDOW

__all__ = [
    "AllocationNetwork",
    "LimitRecord",
    "Multipliers",
    "PastData",
    "PathData",
    "PathLimits",
    "cap_shares",
    "smooth_risks",
    "sparsemax",
]

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

# The threshold of the CVaR has further to go than a weight of the network.
THRESHOLD_PACE = 20.0
CAP_ROUNDS = 4

# How hard a violation is met at first, per relative unit, and at most; where a limit is broken
# by more than 2 % and did not come closer by a tenth since the last evaluation, the next is harder.
FIRST_STIFFNESS = 0.5
GREATEST_STIFFNESS = 4.0
STIFFER = 1.25
ENOUGH_PROGRESS = 0.9
SERIOUS = 0.02
# Multipliers follow where a violation is heading, this many evaluations ahead: weights follow with
# a delay, and without foresight both would swing. (A proportional term in control's words; below 1
# it is stable for weights that follow at once. See Stooke, Achiam, Abbeel, 2020, ICML,
# https://arxiv.org/abs/2007.03964.)
EVALUATIONS_AHEAD = 0.8

_HINTS = {
    "volatility": "an annual fraction: 0.12 is 12 % a year",
    "max_drawdown": "a fraction: 0.1 is 10 %",
    "var_95": "a fraction per day: 0.015 is 1.5 %",
    "cvar_95": "a fraction per day: 0.02 is 2 %",
    "turnover": "multiples of wealth per year, both sides: 12 is twelve times",
}


@dataclass(frozen=True, eq=False)
class PastData:
    """Daily returns of stocks before decisions: what a composition would have earned.

    `returns` (n_days, n_assets) are 0 where not `known`; `days` (n_dates,) is the row of each
    decision's own day, the last that it knows. The first `WINDOW` rows are of days without any.
    """

    returns: Floats32
    known: Bools
    days: NDArray[np.intp]

    @classmethod
    def of(cls, daily: ArrayLike, days: ArrayLike, n_dates: int) -> Self:
        """Check daily returns (n_days, n_assets) and the row of each of `n_dates` decisions."""
        values, rows = np.asarray(daily, dtype=np.float32), np.asarray(days)
        if values.ndim != 2 or rows.shape != (n_dates,) or rows.max(initial=0) >= len(values):
            raise DataError(
                f"daily has shape {values.shape} and days {rows.shape}; give (days, assets), and "
                f"the row of the day of each of {n_dates} decisions"
            )
        none = np.zeros((WINDOW, values.shape[1]), dtype=np.float32)
        known = np.concatenate([none > 0.0, np.isfinite(values)])
        returns = np.where(known, np.concatenate([none, values]), np.float32(0.0))
        return cls(returns, known, np.maximum(rows, -1) + WINDOW)

    @classmethod
    def before(cls, returns: ArrayLike, lag: int) -> Self:
        """The past that `PathData.returns` hold themselves: each row knows the rows before it.

        But for the last `lag` days of the row just before, which are still to come.
        """
        held = np.asarray(returns)
        there = np.isfinite(held).any(axis=2)  # not the days after a step shorter than the longest
        before = np.cumsum(there.sum(axis=1)) - there.sum(axis=1)
        return cls.of(held[there], np.maximum(before - 1 - lag, -1), len(held))

    def of_rows(
        self, rows: slice, assets: slice | NDArray[np.intp] = slice(None)
    ) -> tuple[Floats32, Bools, NDArray[np.intp]]:
        """Returns of the days that some rows know, where known, and each row's place in them."""
        days = self.days[rows]
        first = int(days.min()) - WINDOW + 1
        seen = slice(first, int(days.max()) + 1)
        return self.returns[seen, assets], self.known[seen, assets], days - first


@dataclass(frozen=True, eq=False)
class PathData:
    """What a portfolio earns and may hold.

    `returns` (n_priced, n_days, n_assets) are simple and per day, 0 where not priced, without
    rows where only weights are asked for; `log_volatility` (n_dates, n_assets) is 0 where not
    `investable` (present, with a known volatility); `held` (n_priced, n_days) is False on the days
    after a step that is shorter than the longest, and None where all are as long; `past` is what
    exposure is decided by.
    """

    returns: Floats
    log_volatility: Floats32
    investable: Bools
    n_priced: int
    held: Bools | None = None
    past: PastData | None = None

    @classmethod
    def of(
        cls,
        returns: ArrayLike | None,
        volatility: ArrayLike,
        present: Bools,
        past: PastData | None = None,
    ) -> Self:
        """Check returns (n_dates, n_days, n_assets) and volatilities (n_dates, n_assets)."""
        level = np.asarray(volatility, dtype=np.float64)
        if level.shape != present.shape:
            raise DataError(
                f"volatility has shape {level.shape}, but the features have {present.shape[0]} "
                f"dates and {present.shape[1]} assets"
            )
        investable = present & np.isfinite(level) & (level > 0.0)
        log_volatility = np.log(np.where(investable, level, 1.0)).astype(np.float32)
        if returns is None:
            empty = np.empty((0, 1, present.shape[1]))
            return cls(empty, log_volatility, investable, 0)
        daily = np.asarray(returns, dtype=np.float64)
        if daily.ndim != 3 or (daily.shape[0], daily.shape[2]) != present.shape or not daily.size:
            raise DataError(
                f"returns have shape {daily.shape}; give (dates, days of a step, assets) with "
                f"{present.shape[0]} dates and {present.shape[1]} assets"
            )
        finite = np.isfinite(daily)
        known: Bools = np.any(finite, axis=2)
        held: Bools = np.logical_and.accumulate(known, axis=1)
        priced: Bools = held[:, 0] & (held == known).all(axis=1)
        n_priced = int(priced.sum())
        if not priced[:n_priced].all() or n_priced == 0 or known[n_priced:].any():
            raise DataError(
                f"row {int(np.argmin(priced))} has a day on which no stock has a return, before "
                "one that has; only the last rows, and the days after a shorter step, may be "
                "unknown"
            )
        held = held[:n_priced]
        daily = np.where(finite, daily, 0.0)[:n_priced]
        if daily.min() < -1.0:
            row = int(np.argwhere(daily < -1.0)[0][0])
            raise DataError(f"returns fall below -1 at row {row}: a stock cannot lose more")
        shorter = None if held.all() else held
        return cls(daily, log_volatility, investable, n_priced, shorter, past)

    def cut(self, rows: slice) -> Self:
        """The same data on some of its rows."""
        returns, held = self.returns[rows], None if self.held is None else self.held[rows]
        past = None if self.past is None else replace(self.past, days=self.past.days[rows])
        own = (self.log_volatility[rows], self.investable[rows])
        return type(self)(returns, *own, len(returns), held, past)


class AllocationNetwork(SequenceNetwork):
    """A network that scores (`trunk`), and the layers that turn its scores into weights.

    The multipliers of `limits` travel with the network's state; `weight_cap` is the largest share
    of the portfolio in one stock, a `temperature` of None is learned, `smoothing` is the share of
    the way to a new composition that a decision trades.
    """

    def __init__(
        self,
        trunk: SequenceNetwork,
        limits: PathLimits,
        *,
        weighting: str,
        weight_cap: float,
        temperature: float | None,
        smoothing: float = 1.0,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.weighting, self.weight_cap = weighting, weight_cap
        self.temperature, self.smoothing = temperature, smoothing
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

    def threshold(self) -> Tensor:
        """Learned threshold of the CVaR: a daily loss, 2 % at first."""
        return 0.02 * torch.exp(_paced(self.log_threshold, THRESHOLD_PACE))

    def shares(self, heads: Tensor, log_volatility: Tensor, investable: Tensor) -> Tensor:
        """Shares of the composition, (..., n_assets): 0 where not investable.

        `heads` are (..., n_assets, n_heads), the others (..., n_assets). They sum to 1, or to less
        where `weight_cap` leaves too few stocks; a date without any stock is all cash.
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
        return shares

    def path_shares(self, heads: Tensor, log_volatility: Tensor, investable: Tensor) -> Tensor:
        """Shares of decisions that follow each other, (n_steps, n_sequences, n_assets)."""
        own = self.shares(heads, log_volatility, investable)
        return smooth_steps(own, investable, self.smoothing)

    def numpy_shares(self, heads: Floats32, data: PathData) -> Floats:
        """Shares of the first ``len(heads)`` rows of the data, in NumPy, smoothed from there on."""
        wanted = self.wanted_shares(heads, data)
        return smooth_path(wanted, data.investable[: len(heads)], self.smoothing, self.weight_cap)

    @torch.inference_mode()
    def wanted_shares(self, heads: Floats32, data: PathData) -> Floats:
        """The same before they are smoothed: each row by itself."""
        investable = data.investable[: len(heads)]
        number, device = investable.sum(axis=1), self.log_tilt.device
        weights = np.zeros(investable.shape)
        # The rows with so many stocks together, without the other stocks: what is no part of a
        # row's portfolio is no part of its sums, and cannot move their last bit.
        for n in np.unique(number[number > 0]):
            rows = np.flatnonzero(number == n)[:, None]
            columns = np.nonzero(investable[rows[:, 0]])[1].reshape(-1, n)
            own = (x[rows, columns] for x in (data.log_volatility, investable))
            given = (heads[rows, columns], *own)
            found = self.shares(*(torch.from_numpy(x).to(device) for x in given))
            weights[rows, columns] = found.cpu().numpy()
        weights /= np.maximum(row_sums(weights), 1.0)[:, None]  # float32 may sum to a little more
        return weights


def sparsemax(x: Tensor, dim: int = -1) -> Tensor:
    """Euclidean projection onto the simplex: like softmax, but with exact zeros.

    See Martins, Astudillo (2016), "From Softmax to Sparsemax",
    https://arxiv.org/abs/1602.02068.

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

    A few rounds: what is still over the cap then, or finds no taker because there are too few
    stocks, is left out.

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

    The optimiser then moves it as if its learning rate were `pace` times that of the rest.
    """
    return parameter + (pace - 1.0) * parameter.detach()


def _standardise(x: Tensor, known: Tensor, dim: int) -> Tensor:
    """Mean 0 and variance 1 over the known entries of a dimension; 0 elsewhere."""
    weight = known.to(x.dtype)
    share = weight / weight.sum(dim=dim, keepdim=True).clamp_min(1.0)
    centred = (x - (x * share).sum(dim=dim, keepdim=True)) * weight
    variance = (centred * centred * share).sum(dim=dim, keepdim=True)
    return centred / torch.sqrt(variance + VARIANCE_FLOOR)


class LimitRecord(TypedDict):
    """One limit at one evaluation: its value on the training path, and its multiplier."""

    value: float
    limit: float
    violation: float
    multiplier: float


@dataclass(frozen=True)
class PathLimits:
    """What a portfolio may risk, in the units of the person who bears it; None is no limit.

    Parameters
    ----------
    volatility : float, optional
        Annual standard deviation of daily returns, a fraction: 0.12 is 12 % a year.
    max_drawdown : float, optional
        Largest loss from the highest compounded wealth of the last 252 days, a fraction.
    var_95, cvar_95 : float, optional
        Historical value at risk and expected shortfall of one day at 95 %, fractions.
    turnover : float, optional
        Value traded per year over wealth, both sides: 12 is twelve times.

    Examples
    --------
    >>> PathLimits(volatility=0.12, max_drawdown=0.1).active()
    {'volatility': 0.12, 'max_drawdown': 0.1}
    """

    volatility: float | None = None
    max_drawdown: float | None = None
    var_95: float | None = None
    cvar_95: float | None = None
    turnover: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be a limit."""
        for name, limit in self._given().items():
            most = np.inf if name == "turnover" else 1.0
            real = isinstance(limit, Real) and not isinstance(limit, bool)
            number = float(limit) if real else np.nan  # type: ignore[arg-type]
            if not (0.0 < number <= most and np.isfinite(number)):
                bounds = "a number above 0" if name == "turnover" else "above 0 and at most 1"
                raise ConfigError(
                    f"limit {name} must be {bounds}, not {limit!r} ({_HINTS[name]}); leave it out "
                    "for no limit"
                )

    def active(self) -> dict[str, float]:
        """The limits that are set, by name."""
        return {name: float(limit) for name, limit in self._given().items()}  # type: ignore[arg-type]

    def measure(
        self,
        returns: NDArray[np.float64],
        turnover: NDArray[np.float64],
    ) -> dict[str, float]:
        """Realised value of each active limit on a path, by `stats.performance`.

        `returns` are simple and net, one a day; `turnover` is the share of wealth traded, one a
        step.
        """
        measures = {
            "volatility": performance.annual_volatility,
            "max_drawdown": lambda path: window_drawdown(path).max(),
            "var_95": performance.value_at_risk,
            "cvar_95": performance.conditional_value_at_risk,
        }
        per_year = performance.PERIODS_PER_YEAR * len(turnover) / len(returns)
        return {
            name: float(
                turnover.mean() * per_year if name == "turnover" else measures[name](returns)
            )
            for name in self.active()
        }

    def violation_cost(self, values: Mapping[str, float]) -> float:
        """Half the greatest stiffness times each squared violation of the measured values.

        0 while every limit holds. Unlike the multipliers it is the same at every step, so that
        states of one training can be compared by it.

        >>> round(PathLimits(volatility=0.10).violation_cost({"volatility": 0.12}), 4)
        0.0665
        """
        ratios = torch.tensor([values[name] / limit for name, limit in self.active().items()])
        excess = _violation(ratios).clamp_min(0.0)
        return float(0.5 * GREATEST_STIFFNESS * (excess * excess).sum())

    def _given(self) -> dict[str, object]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def smooth_risks(
    names: Mapping[str, float], returns: Tensor, turnover: Tensor, threshold: Tensor
) -> Tensor:
    """What `PathLimits.measure` measures, differentiable: (n_limits, ...) in the order of `names`.

    Returns are (n_days, ...), turnover (n_steps, ...); `threshold` is the learned one of the
    CVaR.
    """
    per_year = performance.PERIODS_PER_YEAR * len(turnover) / len(returns)

    def risk(name: str) -> Tensor:
        if name == "volatility":
            return losses.annual_volatility(returns)
        if name == "max_drawdown":
            return losses.max_drawdown(returns, days=PEAK_DAYS)
        if name == "var_95":
            return losses.value_at_risk(returns)
        if name == "cvar_95":
            return losses.conditional_value_at_risk(returns, threshold)
        return turnover.mean(dim=0) * per_year

    return torch.stack([risk(name) for name in names])


class Multipliers(nn.Module):
    r"""Multipliers :math:`\lambda` of some limits and their stiffness :math:`\rho`.

    Both are buffers, in relative units, and so are saved and restored with the network's state.
    """

    multiplier: Tensor
    stiffness: Tensor
    violation: Tensor
    limit: Tensor

    def __init__(self, limits: PathLimits) -> None:
        super().__init__()
        self.limits = limits.active()
        n = len(self.limits)
        self.register_buffer("limit", torch.tensor(list(self.limits.values())))
        self.register_buffer("multiplier", torch.zeros(n))
        self.register_buffer("stiffness", torch.full((n,), FIRST_STIFFNESS))
        self.register_buffer("violation", torch.full((n,), torch.inf))

    def penalty(self, risks: Tensor) -> Tensor:
        """Terms of the augmented Lagrangian, summed over limits, averaged over paths."""
        shape = (-1,) + (1,) * (risks.ndim - 1)
        limit, multiplier, stiffness = (
            x.to(risks.dtype).view(shape) for x in (self.limit, self.multiplier, self.stiffness)
        )
        pressed = (multiplier + stiffness * _violation(risks / limit)).clamp_min(0.0)
        terms = (pressed * pressed - multiplier * multiplier) / (2.0 * stiffness)
        return terms.sum(dim=0).mean()

    @torch.no_grad()
    def update(self, values: Mapping[str, float], pace: float = 1.0) -> dict[str, LimitRecord]:
        """Move by what the whole training path realised; return it for the record.

        `pace` in [0, 1] is the share of the full step: multipliers that run ahead of weights
        that cannot follow yet would have to come back later. A record's `violation` is
        relative, 0 if the limit holds.
        """
        if not self.limits:
            return {}
        realised = torch.tensor([values[name] for name in self.limits], dtype=torch.float64)
        limits = torch.tensor(list(self.limits.values()), dtype=torch.float64)
        excess = _violation(realised / limits).to(self.limit)
        before = torch.where(torch.isfinite(self.violation), self.violation, excess)
        stuck = (excess > SERIOUS) & (excess > ENOUGH_PROGRESS * self.violation)
        self.stiffness.mul_(torch.where(stuck, 1.0 + (STIFFER - 1.0) * pace, 1.0))
        self.stiffness.clamp_max_(GREATEST_STIFFNESS)
        heading = excess + EVALUATIONS_AHEAD * (excess - before)
        self.multiplier.add_(pace * self.stiffness * heading).clamp_min_(0.0)
        self.violation.copy_(excess)
        return {
            name: LimitRecord(
                value=values[name],
                limit=limit,
                violation=max(0.0, round(values[name] / limit - 1.0, 12)),
                multiplier=float(self.multiplier[k]),
            )
            for k, (name, limit) in enumerate(self.limits.items())
        }


def _violation(ratio: Tensor) -> Tensor:
    """Violation of risks given over their limits; 0 is at the limit, slope 1 on both sides."""
    above = torch.log(ratio.clamp_min(1.0))
    return above + ratio.clamp_max(1.0) - 1.0
