"""Losses of cross-sectional scores, and risk of a portfolio's path, differentiable in torch.

Scores: time first, the cross-section second, horizons last. A batch of several sequences is
just more dates. What is unknown is masked, never filled: a mask of the targets' shape says
which entries count; entries that do not may hold any finite number.

Paths: simple net returns per day, as fractions, days first: (n_days, ...), and one number per
path. Losses (drawdown, VaR, CVaR) are positive fractions, a year has 252 days, and each measure
but the value at risk equals its NumPy twin in `alphakeel.stats.performance`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from alphakeel.errors import ConfigError
from alphakeel.stats.performance import PERIODS_PER_YEAR, harrell_davis_weights

__all__ = [
    "LossParts",
    "ScoreLoss",
    "annual_volatility",
    "centred_ranks",
    "conditional_value_at_risk",
    "daily_ic",
    "drawdowns",
    "held_path",
    "max_drawdown",
    "mean_annual_return",
    "mean_daily_ic",
    "mean_daily_rank_ic",
    "mean_square",
    "negative_sharpe",
    "soft_ranks",
    "value_at_risk",
]

# Fewer stocks than this give no usable correlation; as in stats.cross_section.ic.
MIN_ASSETS = 5
# Added to the variance of the scores: a network that gives all stocks one score has slope, not
# an infinite one. With scores of variance 1 it moves an IC by 5e-9.
VARIANCE_FLOOR = 1e-8
# Pairs of stocks are compared in blocks of about this many, so that a block stays in cache.
BLOCK_PAIRS = 131_072

# Added to the variance of daily returns (a volatility of 0.0016 % a year): a portfolio that is all
# cash has slope, not an infinite one.
RETURN_VARIANCE_FLOOR = 1e-12


def daily_ic(scores: Tensor, targets: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    r"""Pearson correlation of scores and targets across the stocks of each date.

    .. math:: \mathrm{IC}_t = \frac{\sum_i (s_{ti} - \bar s_t)(y_{ti} - \bar y_t)}
              {\sqrt{\sum_i (s_{ti} - \bar s_t)^2 \sum_i (y_{ti} - \bar y_t)^2}}

    Scores and targets are (n_dates, n_assets, ...), the IC and where it is defined (n_dates,
    ...): with at least five known pairs whose targets are not all equal. Elsewhere the IC is 0.
    """
    weight = known.to(scores.dtype)
    number = weight.sum(dim=1)
    share = weight / number.clamp_min(1.0).unsqueeze(1)
    score = (scores - (scores * share).sum(dim=1, keepdim=True)) * weight
    target = (targets - (targets * share).sum(dim=1, keepdim=True)) * weight
    score_variance = (score * score * share).sum(dim=1) + VARIANCE_FLOOR
    target_variance = (target * target * share).sum(dim=1)
    # Equal targets leave a residue of rounding, which must not pass for a spread.
    residue = (16 * torch.finfo(targets.dtype).eps) ** 2 * (targets * targets * share).sum(dim=1)
    defined = (number >= MIN_ASSETS) & (target_variance > residue)
    # An undefined date divides by 1, not by 0: its gradient must be 0, and 0 times infinity is not.
    scale = torch.sqrt(score_variance * torch.where(defined, target_variance, 1.0))
    ic = (score * target * share).sum(dim=1) / scale
    return torch.where(defined, ic, 0.0), defined


def mean_daily_ic(scores: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """Mean of `daily_ic` over its dates, one per horizon; 0 (and no slope) without any."""
    ic, defined = daily_ic(scores, targets, known)
    return ic.sum(dim=0) / defined.sum(dim=0).clamp_min(1)


def soft_ranks(scores: Tensor, known: Tensor, temperature: float) -> Tensor:
    r"""Ranks of each date that move smoothly with the scores, less their mean; 0 where not known.

    .. math:: R_{ti} = \tfrac12 \sum_{j \text{ known}} \tanh\frac{z_{ti} - z_{tj}}{2 \tau}

    with z the scores scaled to standard deviation 1 within the date, and :math:`\tau` the
    temperature: scores closer than this share a rank in part. See Qin, Liu, Li (2010),
    https://doi.org/10.1007/s10791-009-9124-x.

    >>> scores, known = torch.tensor([[3.0, 1.0, 8.0]]), torch.ones(1, 3, dtype=torch.bool)
    >>> soft_ranks(scores, known, temperature=1e-3)
    tensor([[ 0., -1.,  1.]])
    """
    weight = known.to(scores.dtype)
    share = weight / weight.sum(dim=1, keepdim=True).clamp_min(1.0)
    centred = (scores - (scores * share).sum(dim=1, keepdim=True)) * weight
    variance = (centred * centred * share).sum(dim=1, keepdim=True) + VARIANCE_FLOOR
    z = centred / (variance.sqrt() * (2.0 * temperature))
    return 0.5 * _over_pairs(z, weight, torch.tanh)


@torch.no_grad()
def centred_ranks(values: Tensor, known: Tensor) -> Tensor:
    """Exact average ranks of each date less their mean; 0 where not known. Has no slope."""
    return 0.5 * _over_pairs(values, known.to(values.dtype), torch.sign)


def _over_pairs(x: Tensor, weight: Tensor, compare: Callable[[Tensor], Tensor]) -> Tensor:
    """Sum over known j of compare(x_i - x_j), for each known i of each date."""
    shape = x.shape
    # Horizons become rows of their own: (dates x horizons, assets).
    x, weight = (v.reshape(*shape[:2], -1).transpose(1, 2).flatten(0, 1) for v in (x, weight))
    size = max(1, BLOCK_PAIRS // shape[1] ** 2)
    pieces = [
        torch.bmm(compare(a.unsqueeze(2) - a.unsqueeze(1)), w.unsqueeze(2)).squeeze(2) * w
        for a, w in zip(x.split(size), weight.split(size), strict=True)
    ]
    return torch.cat(pieces).unflatten(0, (shape[0], -1)).transpose(1, 2).reshape(shape)


def mean_daily_rank_ic(
    scores: Tensor, targets: Tensor, known: Tensor, *, temperature: float = 0.1
) -> Tensor:
    """Mean daily correlation of soft ranks of scores with ranks of targets, per horizon.

    It tends to Spearman's correlation, `stats.cross_section.rank_ic`, as the temperature tends
    to 0.
    """
    ranks = soft_ranks(scores, known, temperature)
    return mean_daily_ic(ranks, centred_ranks(targets, known), known)


def mean_square(errors: Tensor, known: Tensor) -> Tensor:
    """Mean square over the known entries: of ``scores - targets`` this is the MSE."""
    weight = known.to(errors.dtype)
    return (errors * errors * weight).sum() / weight.sum().clamp_min(1.0)


@dataclass(frozen=True)
class LossParts:
    """The loss to be minimised, and the mean daily IC over horizons, detached: for the record."""

    total: Tensor
    ic: Tensor


@dataclass(frozen=True)
class ScoreLoss:
    r"""Loss of scores, by their ranking and, a little, by their level.

    .. math:: \lambda_{ic} \sum_h \bigl(1 - \overline{\mathrm{IC}}_h\bigr)
              + \lambda_{rank} \sum_h \bigl(1 - \overline{\mathrm{RankIC}}_h\bigr)
              + \lambda_{mse} \, \mathrm{MSE} + \lambda_2 \, \overline{p^2}

    The IC is blind to the scale of the scores p; the last term, `size_weight`, ties it down.
    """

    ic_weight: float
    mse_weight: float
    size_weight: float = 1e-3
    rank_ic_weight: float = 0.0

    def __call__(self, scores: Tensor, targets: Tensor, known: Tensor) -> LossParts:
        """Loss of (n_dates, n_assets, n_horizons) scores; see `daily_ic` for the arguments."""
        ic = mean_daily_ic(scores, targets, known)
        total = self.size_weight * mean_square(scores, known)
        if self.ic_weight:
            total = total + self.ic_weight * (1.0 - ic).sum()
        if self.rank_ic_weight:
            rank_ic = mean_daily_rank_ic(scores, targets, known)
            total = total + self.rank_ic_weight * (1.0 - rank_ic).sum()
        if self.mse_weight:
            total = total + self.mse_weight * mean_square(scores - targets, known)
        return LossParts(total, ic.detach().mean())


def held_path(
    weights: Tensor, growth: Tensor, *, cost_per_side: float, from_cash: bool = True
) -> tuple[Tensor, Tensor]:
    r"""Daily net returns of weights that are set at each step and drift until the next.

    With :math:`G_{tdi}` the growth of stock i from the trade of step t to the end of its day d,
    the value of a unit of wealth, the drifted weights and the share traded are

    .. math:: V_{td} = 1 + \sum_i w_{ti} (G_{tdi} - 1), \qquad
              \tilde w_{ti} = w_{ti} G_{tDi} / V_{tD}, \qquad
              \tau_t = \sum_i |w_{ti} - \tilde w_{t-1,i}|

    and the return of a day is :math:`V_{td} / V_{t,d-1} - 1`, the first of a step with
    :math:`V_{t0} = 1 / (1 - c \tau_t)`, c the `cost_per_side`. Weights (n_steps, ..., n_assets)
    are fractions of wealth, the rest is cash, which earns nothing; `growth` is G - 1 with days
    as its second axis, which after a shorter step stays as on its last day: the returns there are
    0, and no days of the path. Without `from_cash` the first weights are held already, as in a
    piece of a longer path. Gives returns (n_steps * n_days, ...) and turnover (n_steps, ...), both
    sides. Twin: `alphakeel.stats.performance.held_path`.
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
    """Sample deviation (ddof = 1) times the root of 252; 1e-12 is added to the variance."""
    return torch.sqrt((returns.var(dim=0) + RETURN_VARIANCE_FLOOR) * PERIODS_PER_YEAR)


def negative_sharpe(returns: Tensor) -> Tensor:
    """Minus the annual Sharpe ratio, mean over standard deviation (ddof = 1); cash earns 0."""
    return -mean_annual_return(returns) / annual_volatility(returns)


def conditional_value_at_risk(
    returns: Tensor, threshold: Tensor | None = None, *, level: float = 0.95
) -> Tensor:
    r"""Expected shortfall, the objective of Rockafellar and Uryasev (2000), `level` :math:`\alpha`.

    .. math:: c + \frac{1}{1 - \alpha} \, \overline{\max(-r - c, 0)}

    For any loss c, the `threshold`, which may be learned along with the weights, this is an
    upper bound of the CVaR, and minimising over c closes the gap. By default c is the minimiser
    itself, an order statistic of the losses: then the value is the CVaR.
    """
    losses, share = -returns, _share(level)
    if threshold is None:
        place = min(int(round(share * len(losses), 9)) + 1, len(losses))
        threshold = losses.topk(place, dim=0).values[-1]
    return threshold + (losses - threshold).clamp_min(0.0).mean(dim=0) / share


def value_at_risk(returns: Tensor, *, level: float = 0.95) -> Tensor:
    """Value at risk of one day by the smooth quantile of Harrell and Davis (1982).

    A historical quantile hangs on two returns, and moves by jumps. This one averages all order
    statistics by a beta distribution around the quantile, as `scipy.stats.mstats.hdquantiles`
    does.
    """
    share = _share(level)
    weights = torch.tensor(harrell_davis_weights(len(returns), share)).to(returns)
    return -torch.tensordot(weights, returns.sort(dim=0).values, dims=1)


def drawdowns(returns: Tensor, *, days: int | None = None) -> Tensor:
    """Loss of compounded wealth since its highest point so far; the start counts as wealth 1.

    With `days` only the highest of the last so many closes counts, this one among them. A return
    of -1 or less counts as -0.999999: the path goes on, and ruin has a slope.
    """
    log_wealth = torch.cumsum(torch.log1p(returns.clamp_min(-0.999999)), dim=0)
    if days is None or days > len(returns):
        peak = torch.cummax(log_wealth, dim=0).values.clamp_min(0.0)
    else:
        never = torch.full_like(returns[:1], -torch.inf).expand(days - 2, *returns.shape[1:])
        begun = torch.cat([never, torch.zeros_like(returns[:1]), log_wealth])
        peak = _window_max(begun, days)
    return -torch.expm1(log_wealth - peak)


def _window_max(x: Tensor, size: int) -> Tensor:
    """Largest of each window of so many rows: the end of one block and the start of the next.

    Two running maxima whatever the size (van Herk, 1992, doi:10.1016/0167-8655(92)90069-C).
    """
    n_windows, n_blocks = len(x) - size + 1, -(-len(x) // size)
    fill = torch.full_like(x[:1], -torch.inf).expand(n_blocks * size - len(x), *x.shape[1:])
    blocks = torch.cat([x, fill]).unflatten(0, (n_blocks, size))
    from_start = blocks.cummax(dim=1).values.flatten(0, 1)
    to_end = blocks.flip(1).cummax(dim=1).values.flip(1).flatten(0, 1)
    return torch.maximum(to_end[:n_windows], from_start[size - 1 : size - 1 + n_windows])


def max_drawdown(returns: Tensor, *, days: int | None = None) -> Tensor:
    """Largest of the `drawdowns`."""
    return drawdowns(returns, days=days).amax(dim=0)


def _share(level: float) -> float:
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level must lie between 0 and 1 (0.95 is 95 %), got {level!r}")
    return round(1.0 - level, 12)
