"""Exposure under limits in torch: `portfolio.exposure` with slopes, so that training knows it.

Shapes: decisions first, then sequences side by side, stocks last; days of the past are
(n_sequences, n_days, n_assets). The formulas of the allowances are those of `stats.exposure_rules`,
the recursion through the portfolio's own wealth that of `stats.drawdown_control`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alphakeel.stats.drawdown_control import (
    ControlInputs,
    ControlledPath,
    control_drawdown,
    drawdown_slopes,
)
from alphakeel.stats.exposure_rules import (
    HALFLIFE,
    MIN_DAYS,
    WINDOW,
    CompositionRisk,
    ceiling_of,
    drawdown_rate,
)

__all__ = ["Past", "composition_risk", "exposure_of", "own_path"]

Floats = NDArray[np.float64]

TAIL = 0.05
# Added to a variance of a day before its root: a composition that never moved has a slope.
FLOOR = 1e-18


class Past(NamedTuple):
    """Daily returns of stocks up to the last of some decisions.

    `returns` (n_sequences, n_days, n_assets) are 0 where not `known`; `day` (n_sequences,
    n_decisions) is the place of each decision's own day, which has `WINDOW` - 1 days before it.
    """

    returns: Tensor
    known: Tensor
    day: Tensor


def composition_risk(shares: Tensor, past: Past) -> CompositionRisk:
    """Risk of compositions (n_decisions, n_sequences, n_assets) from their returns on past days.

    VaR and CVaR are volatility times the quantile and tail mean of filtered returns. Slopes go
    through the volatility; the shape of the tail counts as given.
    """
    own, known = _own_returns(shares, past)
    # Mostly all days are known of a composition, and one row serves all.
    weight = torch.ones_like(own[:1, :1]) if bool(known.all()) else known.to(own.dtype)
    count, kernel = weight.cumsum(dim=-1), _decay(own.dtype, own.device)
    squares = own * own
    mass = (weight @ kernel).clamp_min(1e-12)
    today = torch.sqrt((squares @ kernel[:, -1]) / mass[..., -1] + FLOOR)
    with torch.no_grad():
        deviation = torch.sqrt((squares[..., :-1] @ kernel[:-1, :-1]) / mass[..., :-1] + FLOOR)
        settled = count[..., :-1] >= MIN_DAYS
        var, cvar = _tail(own[..., 1:] / deviation, known[..., 1:] & settled)
    enough = count[..., -1] >= MIN_DAYS
    usual = torch.sqrt(squares.sum(dim=-1) / count[..., -1].clamp_min(1.0) + FLOOR)
    # NaN only at the end: times a slope of 0 it would still be NaN.
    settled = enough & torch.isfinite(var)
    tail = (today * torch.nan_to_num(part) for part in (var, cvar))
    unknown = torch.full_like(today, torch.nan)
    known_parts = (torch.where(enough, part, unknown) for part in (today, usual))
    return CompositionRisk(*known_parts, *(torch.where(settled, part, unknown) for part in tail))


def _own_returns(shares: Tensor, past: Past) -> tuple[Tensor, Tensor]:
    """Returns of each composition on its past days, (n_decisions, n_sequences, WINDOW).

    With where they are known; a stock's missing return counts as the weighted mean of the others.
    """
    held = shares.transpose(0, 1)
    sums = held @ past.returns.transpose(1, 2)
    covered = held @ past.known.to(sums.dtype).transpose(1, 2)
    total = held.sum(dim=-1, keepdim=True)
    known = covered > 0.5 * total
    scaled = torch.where(known, sums, 0.0) * total / torch.where(known, covered, 1.0)
    place = past.day.unsqueeze(-1) + torch.arange(1 - WINDOW, 1, device=shares.device)
    taken, seen = scaled.gather(2, place), known.gather(2, place)
    return taken.transpose(0, 1), seen.transpose(0, 1)


@lru_cache(maxsize=8)
def _decay(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Weight of day u (row) in the mean of day v (column): half for each `HALFLIFE` days."""
    days = torch.arange(WINDOW, device=device)
    lag = days[None, :] - days[:, None]
    return torch.where(lag >= 0, 0.5 ** (lag.clamp_min(0) / HALFLIFE), 0.0).to(dtype)


def _tail(shocks: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """VaR and CVaR of the known shocks along the last axis; 0 where fewer than `MIN_DAYS`."""
    n = known.sum(dim=-1, keepdim=True)
    enough = n >= MIN_DAYS
    n = torch.where(enough, n, MIN_DAYS)
    # The lowest few are all that counts; unknown ones sort behind every number.
    deepest = int(TAIL * shocks.shape[-1]) + 2
    filled = torch.where(known, shocks, torch.inf)
    worst = filled.topk(deepest, dim=-1, largest=False).values
    worst = torch.where(torch.isfinite(worst), worst, 0.0)
    position, mass = TAIL * (n - 1), TAIL * n
    low, whole = (position + 1e-9).long(), (mass + 1e-9).long()
    between = (position - low).to(shocks.dtype)
    quantile = (1.0 - between) * worst.gather(-1, low) + between * worst.gather(-1, low + 1)
    sums = torch.cat([torch.zeros_like(worst[..., :1]), worst.cumsum(dim=-1)], dim=-1)
    part = (mass - whole).to(shocks.dtype)
    mean = (sums.gather(-1, whole) + part * worst.gather(-1, whole)) / mass
    return tuple(torch.where(enough, -x, torch.nan).squeeze(-1) for x in (quantile, mean))  # type: ignore[return-value]


def own_path(shares: Tensor, growth: Tensor) -> tuple[Tensor, Tensor]:
    """Growth of held compositions since their trade, by day, and what each decision trades.

    `growth` (n_decisions, n_days, n_sequences, n_assets) is that of the stocks; the results
    are without the stocks. The first decision comes from cash.
    """
    value = (shares.unsqueeze(1) * growth).sum(dim=-1)
    drifted = shares * (1.0 + growth[:, -1]) / (1.0 + value[:, -1]).clamp_min(1e-6).unsqueeze(-1)
    before = torch.cat([torch.zeros_like(shares[:1]), drifted[:-1]])
    return value, (shares - before).abs().sum(dim=-1)


def exposure_of(
    risk: CompositionRisk,
    growth: Tensor,
    turnover: Tensor,
    *,
    limits: Mapping[str, float],
    factors: Mapping[str, float],
    lag: int,
    cost_per_side: float,
    from_cash: bool = False,
) -> Tensor:
    """Exposure of each decision, (n_decisions, n_sequences), with slopes in everything.

    `growth` and `turnover` as `own_path` gives them; the rest as in
    `portfolio.exposure.limit_exposure`. The portfolio's wealth starts with the first decision.
    """
    ceiling = ceiling_of(torch, risk, limits, factors)
    limit = limits.get("max_drawdown")
    if limit is None:
        return ceiling
    rate = drawdown_rate(torch, risk, factors.get("max_drawdown", 1.0))
    terms = (limit, lag, cost_per_side, from_cash)
    return cast(Tensor, _Control.apply(ceiling, rate, growth, turnover, terms))


class _Control(torch.autograd.Function):
    """`control_drawdown` as a step of torch, with `drawdown_slopes` as its way back."""

    @staticmethod
    def forward(
        ctx: Any,
        ceiling: Tensor,
        rate: Tensor,
        growth: Tensor,
        turnover: Tensor,
        terms: tuple[float, int, float, bool],
    ) -> Tensor:
        """Exposures; see `exposure_of`."""
        limit, lag, cost_per_side, from_cash = terms
        n_decisions, n_days, _ = growth.shape
        first = np.arange(n_decisions + 1) * n_days
        inputs = ControlInputs(
            ceiling=_array(ceiling),
            rate=_array(rate),
            growth=_array(growth.flatten(0, 1)),
            turnover=_array(turnover),
            first=first,
            seen=np.maximum(first[:-1] - lag, 0),
        )
        path = control_drawdown(inputs, limit, cost_per_side=cost_per_side, from_cash=from_cash)
        ctx.run, ctx.terms, ctx.like, ctx.n_days = (inputs, path), terms, ceiling, n_days
        return torch.from_numpy(path.exposure).to(ceiling)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        """Slopes in the four arrays."""
        inputs, path = cast("tuple[ControlInputs, ControlledPath]", ctx.run)
        limit, _, cost_per_side, from_cash = ctx.terms
        found = drawdown_slopes(
            inputs, path, _array(slopes[0]), limit, cost_per_side=cost_per_side, from_cash=from_cash
        )
        ceiling, rate, growth, turnover = (torch.from_numpy(x).to(ctx.like) for x in found)
        return ceiling, rate, growth.unflatten(0, (-1, ctx.n_days)), turnover, None


def _array(x: Tensor) -> Floats:
    return x.detach().cpu().numpy().astype(np.float64)
