r"""Risk of a portfolio, differentiable in the returns of its path.

Every measure takes simple net returns per day, as fractions, days first: (n_days, ...), and gives
one number per path. Losses (drawdown, VaR, CVaR) are positive fractions, a year has 252 days, and
each measure but the value at risk equals its NumPy twin in `alphakeel.stats.metrics`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alphakeel.errors import ConfigError
from alphakeel.stats.metrics import PERIODS_PER_YEAR, harrell_davis_weights

__all__ = [
    "annual_volatility",
    "conditional_value_at_risk",
    "drawdowns",
    "held_path",
    "max_drawdown",
    "mean_annual_return",
    "negative_sharpe",
    "value_at_risk",
]

# Added to the variance of daily returns (a volatility of 0.0016 % a year): a portfolio that is all
# cash has slope, not an infinite one.
VARIANCE_FLOOR = 1e-12


def held_path(
    weights: Tensor, growth: Tensor, *, cost_per_side: float, from_cash: bool = True
) -> tuple[Tensor, Tensor]:
    r"""Daily net returns of weights that are set at each step and drift until the next.

    With :math:`G_{tdi}` the growth of stock i from the trade of step t to the end of its day d, the
    value of a unit of wealth, the drifted weights and the share traded are

    .. math:: V_{td} = 1 + \sum_i w_{ti} (G_{tdi} - 1), \qquad
              \tilde w_{ti} = w_{ti} G_{tDi} / V_{tD}, \qquad
              \tau_t = \sum_i |w_{ti} - \tilde w_{t-1,i}|

    and the return of a day is :math:`V_{td} / V_{t,d-1} - 1`, the first of a step with
    :math:`V_{t0} = 1 / (1 - c \tau_t)`. Twin: `alphakeel.stats.metrics.held_path`.

    Parameters
    ----------
    weights : Tensor of shape (n_steps, ..., n_assets)
        Fractions of wealth after each trade; the rest is cash, which earns nothing.
    growth : Tensor of shape (n_steps, n_days, ..., n_assets)
        Cumulative simple return since the trade, :math:`G - 1`.
    cost_per_side : float
        c, a share of the value traded.
    from_cash : bool, default=True
        Whether the first step buys everything. Otherwise it is held already, as in a piece of a
        longer path, and trades nothing.

    Returns
    -------
    returns : Tensor of shape (n_steps * n_days, ...)
    turnover : Tensor of shape (n_steps, ...)
        :math:`\tau`, both sides.
    """
    # Clamped: a portfolio that lost everything has no weights, but must not stop a training.
    value = (1.0 + (weights.unsqueeze(1) * growth).sum(dim=-1)).clamp_min(1e-6)
    drifted = weights * (1.0 + growth[:, -1]) / value[:, -1].unsqueeze(-1)
    first = weights[:1] if from_cash else torch.zeros_like(weights[:1])
    traded = torch.cat([first, weights[1:] - drifted[:-1]]).abs().sum(dim=-1)
    before = torch.cat([1.0 / (1.0 - cost_per_side * traded.unsqueeze(1)), value[:, :-1]], dim=1)
    return (value / before - 1.0).flatten(0, 1), traded


def mean_annual_return(returns: Tensor) -> Tensor:
    """Mean return per day times 252: a fraction per year, not compounded."""
    return returns.mean(dim=0) * PERIODS_PER_YEAR


def annual_volatility(returns: Tensor) -> Tensor:
    """Sample standard deviation (ddof = 1) times the root of 252; 1e-12 is added to the variance.

    Examples
    --------
    >>> round(float(annual_volatility(torch.tensor([0.01, -0.01, 0.01, -0.01]))), 4)
    0.1833
    """
    return torch.sqrt((returns.var(dim=0) + VARIANCE_FLOOR) * PERIODS_PER_YEAR)


def negative_sharpe(returns: Tensor) -> Tensor:
    """Minus the annual Sharpe ratio, mean over standard deviation (ddof = 1); cash earns 0."""
    return -mean_annual_return(returns) / annual_volatility(returns)


def conditional_value_at_risk(
    returns: Tensor, threshold: Tensor | None = None, *, level: float = 0.95
) -> Tensor:
    r"""Expected shortfall as the objective of Rockafellar and Uryasev (2000).

    .. math:: c + \frac{1}{1 - \alpha} \, \overline{\max(-r - c, 0)}

    Parameters
    ----------
    returns : Tensor of shape (n_days, ...)
    threshold : Tensor, optional
        The loss c, learned along with the weights: for any c this is an upper bound of the CVaR,
        and minimising over c closes the gap. By default the minimiser itself, an order statistic
        of the losses: then the value is the CVaR.
    level : float, default=0.95
        :math:`\alpha`.

    Examples
    --------
    >>> r = torch.tensor([-0.03, -0.02, 0.0, 0.01, 0.02])
    >>> round(float(conditional_value_at_risk(r, level=0.7)), 6)
    0.026667
    """
    losses, share = -returns, _share(level)
    if threshold is None:
        place = min(int(round(share * len(losses), 9)) + 1, len(losses))
        threshold = losses.topk(place, dim=0).values[-1]
    return threshold + (losses - threshold).clamp_min(0.0).mean(dim=0) / share


def value_at_risk(returns: Tensor, *, level: float = 0.95) -> Tensor:
    """Value at risk of one day by the smooth quantile of Harrell and Davis (1982).

    A historical quantile hangs on two returns, and moves by jumps as others take their place.
    This one weighs all order statistics by a beta distribution around the quantile, as
    `scipy.stats.mstats.hdquantiles` does.
    """
    share = _share(level)
    weights = torch.tensor(harrell_davis_weights(len(returns), share)).to(returns)
    return -torch.tensordot(weights, returns.sort(dim=0).values, dims=1)


def drawdowns(returns: Tensor) -> Tensor:
    """Loss of compounded wealth since its highest point so far; the start counts as wealth 1.

    A return of -1 or less counts as -0.999999: the path goes on, and ruin has a slope.
    """
    log_wealth = torch.cumsum(torch.log1p(returns.clamp_min(-0.999999)), dim=0)
    peak = torch.cummax(log_wealth, dim=0).values.clamp_min(0.0)
    return -torch.expm1(log_wealth - peak)


def max_drawdown(returns: Tensor) -> Tensor:
    """Largest of the `drawdowns`.

    Examples
    --------
    >>> round(float(max_drawdown(torch.tensor([0.10, -0.50, 0.20]))), 6)
    0.5
    """
    return drawdowns(returns).amax(dim=0)


def _share(level: float) -> float:
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level must lie between 0 and 1 (0.95 is 95 %), got {level!r}")
    return round(1.0 - level, 12)
