r"""Risk limits in the user's units, and the multipliers that make a training keep them.

Minimising f subject to :math:`v_k \le l_k` is done by an augmented Lagrangian: with the violation

.. math:: g_k = \begin{cases} v_k / l_k - 1 & v_k \le l_k \\
          \log (v_k / l_k) & v_k > l_k \end{cases}

(the logarithm, because a risk of five times its limit should not pull forty times as hard as one
of a tenth above it) the loss gains

.. math:: \frac{1}{2 \rho_k} \bigl( \max(0, \lambda_k + \rho_k g_k)^2 - \lambda_k^2 \bigr)

and every few steps :math:`\lambda_k \leftarrow \max(0, \lambda_k + \rho_k g_k)` with the violation
of the whole training path. A limit that holds with room to spare has a multiplier of 0 and costs
nothing; one that binds gets just the weight that holds it, its shadow price per relative unit.

References
----------
Hestenes (1969), "Multiplier and gradient methods", J. Optim. Theory Appl. 4,
https://doi.org/10.1007/BF00927673; Rockafellar (1973), "The multiplier method of Hestenes and
Powell applied to convex programming", J. Optim. Theory Appl. 12,
https://doi.org/10.1007/BF00934777.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alphakeel.errors import ConfigError
from alphakeel.models import risk_losses
from alphakeel.stats import metrics

__all__ = ["LimitRecord", "Limits", "Multipliers", "smooth_risks"]

# How hard a violation is met at first, per relative unit, and at most; where a limit is broken
# by more than 2 % and did not come closer by a tenth since the last look, the next is harder.
FIRST_STIFFNESS = 0.5
GREATEST_STIFFNESS = 4.0
STIFFER = 1.25
ENOUGH_PROGRESS = 0.9
SERIOUS = 0.02
# Multipliers answer where a violation is heading, this many looks ahead: weights follow them with
# a delay, and without foresight both would swing. (A proportional term in control's words; below 1
# it is stable for weights that follow at once. See Stooke, Achiam, Abbeel, 2020, ICML,
# https://arxiv.org/abs/2007.03964.)
LOOKS_AHEAD = 0.8

_HINTS = {
    "volatility": "an annual fraction: 0.12 is 12 % a year",
    "max_drawdown": "a fraction: 0.1 is 10 %",
    "var_95": "a fraction per day: 0.015 is 1.5 %",
    "cvar_95": "a fraction per day: 0.02 is 2 %",
    "turnover": "multiples of wealth per year, both sides: 12 is twelve times",
}


class LimitRecord(TypedDict):
    """One limit at one look: what was realised on the training path, and what answers it."""

    value: float
    limit: float
    violation: float
    multiplier: float


@dataclass(frozen=True)
class Limits:
    """What a portfolio may risk, in the units of the person who bears it; None is no limit.

    Parameters
    ----------
    volatility : float, optional
        Annual standard deviation of daily returns, a fraction: 0.12 is 12 % a year.
    max_drawdown : float, optional
        Largest loss from a peak of compounded wealth, a fraction.
    var_95, cvar_95 : float, optional
        Historical value at risk and expected shortfall of one day at 95 %, fractions.
    turnover : float, optional
        Value traded per year over wealth, both sides: 12 is twelve times.

    Raises
    ------
    ConfigError
        If a limit is not above 0, or a share of wealth is above 1.

    Examples
    --------
    >>> Limits(volatility=0.12, max_drawdown=0.1).active()
    {'volatility': 0.12, 'max_drawdown': 0.1}
    >>> Limits(volatility=0.0)
    Traceback (most recent call last):
        ...
    alphakeel.errors.ConfigError: limit volatility must be above 0 and at most 1, not 0.0 (an \
annual fraction: 0.12 is 12 % a year); leave it out for no limit
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
        """Realised value of each active limit on a path, by `alphakeel.stats.metrics`.

        Parameters
        ----------
        returns : float64 ndarray of shape (n_days,)
            Simple net returns per day.
        turnover : float64 ndarray of shape (n_steps,)
            Share of wealth traded per step; the steps divide the days evenly.
        """
        found = {
            "volatility": metrics.annual_volatility,
            "max_drawdown": metrics.max_drawdown,
            "var_95": metrics.value_at_risk,
            "cvar_95": metrics.conditional_value_at_risk,
        }
        per_year = metrics.PERIODS_PER_YEAR * len(turnover) / len(returns)
        return {
            name: float(turnover.mean() * per_year if name == "turnover" else found[name](returns))
            for name in self.active()
        }

    def price(self, values: Mapping[str, float]) -> float:
        """What broken limits cost: half the greatest stiffness times each squared violation.

        0 while every limit holds. Unlike the multipliers it is the same at every step, so that
        states of one training can be compared by it.

        Parameters
        ----------
        values : mapping
            As from `measure`.

        Examples
        --------
        >>> round(Limits(volatility=0.10).price({"volatility": 0.12}), 4)
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
    """What `Limits.measure` measures, differentiable: (n_limits, ...) in the order of `names`.

    Parameters
    ----------
    names : mapping
        Names of active limits.
    returns : Tensor of shape (n_days, ...)
        Simple net returns per day.
    turnover : Tensor of shape (n_steps, ...)
        Share of wealth traded per step.
    threshold : Tensor
        Learned threshold of the CVaR.
    """
    per_year = metrics.PERIODS_PER_YEAR * len(turnover) / len(returns)

    def risk(name: str) -> Tensor:
        if name == "volatility":
            return risk_losses.annual_volatility(returns)
        if name == "max_drawdown":
            return risk_losses.max_drawdown(returns)
        if name == "var_95":
            return risk_losses.value_at_risk(returns)
        if name == "cvar_95":
            return risk_losses.conditional_value_at_risk(returns, threshold)
        return turnover.mean(dim=0) * per_year

    return torch.stack([risk(name) for name in names])


class Multipliers(nn.Module):
    r"""Multipliers :math:`\lambda` of some limits and their stiffness :math:`\rho`.

    Both are buffers, in relative units, and so are saved and restored with the network's state.

    Parameters
    ----------
    limits : Limits

    Examples
    --------
    >>> multipliers = Multipliers(Limits(volatility=0.10))
    >>> multipliers.update({"volatility": 0.12})["volatility"]["violation"]
    0.2
    >>> round(float(multipliers.penalty(torch.tensor([0.12]))), 3)
    0.025
    """

    multiplier: Tensor
    stiffness: Tensor
    violation: Tensor
    limit: Tensor

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.limits = limits.active()
        n = len(self.limits)
        self.register_buffer("limit", torch.tensor(list(self.limits.values())))
        self.register_buffer("multiplier", torch.zeros(n))
        self.register_buffer("stiffness", torch.full((n,), FIRST_STIFFNESS))
        self.register_buffer("violation", torch.full((n,), torch.inf))

    def penalty(self, risks: Tensor) -> Tensor:
        """Terms of the augmented Lagrangian, summed over limits, averaged over paths.

        Parameters
        ----------
        risks : Tensor of shape (n_limits, ...)
            As from `smooth_risks`.
        """
        shape = (-1,) + (1,) * (risks.ndim - 1)
        limit, multiplier, stiffness = (
            x.to(risks.dtype).view(shape) for x in (self.limit, self.multiplier, self.stiffness)
        )
        pressed = (multiplier + stiffness * _violation(risks / limit)).clamp_min(0.0)
        terms = (pressed * pressed - multiplier * multiplier) / (2.0 * stiffness)
        return terms.sum(dim=0).mean()

    @torch.no_grad()
    def update(self, values: Mapping[str, float], pace: float = 1.0) -> dict[str, LimitRecord]:
        """Answer what was realised on the whole training path; return it for the record.

        Parameters
        ----------
        values : mapping
            As from `Limits.measure`.
        pace : float, default=1.0
            Share of the full step, in [0, 1]: multipliers that run ahead of weights that cannot
            follow yet would have to come back later.

        Returns
        -------
        dict of str to LimitRecord
            `violation` is the excess over the limit as a share of it, 0 if the limit holds.
        """
        if not self.limits:
            return {}
        found = torch.tensor([values[name] for name in self.limits], dtype=torch.float64)
        limits = torch.tensor(list(self.limits.values()), dtype=torch.float64)
        excess = _violation(found / limits).to(self.limit)
        before = torch.where(torch.isfinite(self.violation), self.violation, excess)
        stuck = (excess > SERIOUS) & (excess > ENOUGH_PROGRESS * self.violation)
        self.stiffness.mul_(torch.where(stuck, 1.0 + (STIFFER - 1.0) * pace, 1.0))
        self.stiffness.clamp_max_(GREATEST_STIFFNESS)
        heading = excess + LOOKS_AHEAD * (excess - before)
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
