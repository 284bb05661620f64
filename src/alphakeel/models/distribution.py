r"""What the risk network says of a stock, and the loss that teaches it to.

The base forecast is HAR's: a volatility of :math:`b_{ti}` a year, so :math:`\sigma_{ti} =
b_{ti} / \sqrt{252}` a day. Of its five heads :math:`h`, per stock and date,

.. math:: \log v = \log b + h_1, \quad m = \sigma h_2, \quad s = \sigma e^{h_3}, \quad
          \nu = 2.1 + \log(1 + e^{h_4 + 2}), \quad q = -1.6 \, \sigma e^{h_5}

v is the annual volatility of the days ahead; m, s and :math:`\nu` are location, scale and degrees
of freedom of a Student t for a daily return, and q its lower quantile without a law. The quantile
that is forecast is the mean of q and of the t's. With all heads at 0 the volatility is HAR's.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch import Tensor

from alphakeel.models.har import DAYS_PER_YEAR, returns_ahead, volatility_target
from alphakeel.models.losses import LossParts, mean_daily_ic, mean_square

__all__ = ["N_HEADS", "RiskForecast", "RiskLoss", "decode", "encode", "pinball", "student_t_nll"]

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

N_HEADS = 5
LEAST_DOF = 2.1  # the variance exists above 2
DOF_START = 2.0
QUANTILE_START = 1.6
# A daily return further out than this many of HAR's daily deviations counts as this many: one
# wrong price must not own the location and the tail of a year.
FARTHEST_RETURN = 15.0


@dataclass(frozen=True, eq=False)
class RiskForecast:
    """Forecast at each decision, in arrays of shape (n_rows, n_assets); NaN where unknown.

    Attributes
    ----------
    volatility : float64 ndarray
        Annual volatility, a fraction, of the `horizon` days ahead: the exponential of its expected
        logarithm, so about its median.
    quantile : float64 ndarray
        Daily return, a fraction, that a day ahead undercuts with the probability `level`: the
        mean of what the Student t and the tick loss say. The value at risk is its negative.
    dof : float64 ndarray
        Degrees of freedom of a daily return, above 2.
    location, scale : float64 ndarray
        Of that Student t, daily fractions. `scale` is not the standard deviation, which is
        ``scale * sqrt(dof / (dof - 2))``.
    """

    volatility: Floats
    quantile: Floats
    dof: Floats
    location: Floats
    scale: Floats


def student_t_nll(values: Tensor, location: Tensor, log_scale: Tensor, dof: Tensor) -> Tensor:
    r"""Negative log likelihood of each value under a Student t with location and scale.

    .. math:: \log s + \tfrac12 \log(\pi \nu) + \log\Gamma(\tfrac\nu2)
              - \log\Gamma(\tfrac{\nu+1}{2})
              + \tfrac{\nu+1}{2} \log\Bigl(1 + \frac{(x - m)^2}{\nu s^2}\Bigr)

    See Bollerslev (1987), Review of Economics and Statistics 69, https://doi.org/10.2307/1925546.

    Parameters
    ----------
    values, location, log_scale, dof : Tensor
        Of shapes that broadcast; `values` and `location` in one unit, `log_scale` the logarithm
        of one in it, `dof` above 0.

    Examples
    --------
    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> round(float(student_t_nll(zero, zero, zero, one)), 4)  # Cauchy: log(pi)
    1.1447
    """
    ratio = (values - location) * torch.exp(-log_scale)
    constant = torch.lgamma(dof / 2.0) - torch.lgamma((dof + 1.0) / 2.0)
    constant = constant + 0.5 * (torch.log(dof) + log(pi)) + log_scale
    return constant + 0.5 * (dof + 1.0) * torch.log1p(ratio * ratio / dof)


def pinball(values: Tensor, quantile: Tensor, level: float) -> Tensor:
    r"""Tick loss :math:`(x - q)(\alpha - 1[x < q])` of each value, least at its quantile.

    See Koenker, Bassett (1978), Econometrica 46, https://doi.org/10.2307/1913643.

    Examples
    --------
    >>> values = torch.tensor([-3.0, 1.0])
    >>> pinball(values, torch.tensor(-2.0), 0.05)
    tensor([0.9500, 0.1500])
    """
    error = values - quantile
    return torch.maximum(level * error, (level - 1.0) * error)


@dataclass(frozen=True)
class RiskLoss:
    r"""Loss of the five heads.

    .. math:: \overline{(h_1 - e)^2} + \lambda_t \, \overline{\mathrm{NLL}}
              + \lambda_q \, \overline{\mathrm{tick}}

    e is the log volatility that came, less the base forecast; the likelihood and the tick loss are
    those of the daily returns that came, in daily deviations of the base forecast.

    Parameters
    ----------
    level : float
        Probability of the quantile.
    t_weight, quantile_weight : float
        :math:`\lambda_t` and :math:`\lambda_q`. The returns of a few days say far less of risk
        than the realised volatility of many: they should not drown it.
    """

    level: float
    t_weight: float = 0.1
    quantile_weight: float = 0.5

    def __call__(self, heads: Tensor, targets: Tensor, known: Tensor) -> LossParts:
        """Loss over the known targets.

        Parameters
        ----------
        heads : Tensor of shape (n_dates, n_assets, 5)
        targets, known : Tensor of shape (n_dates, n_assets, 1 + n_days)
            e, then the returns; which of them count.
        """
        level, returns = heads[..., :1], targets[..., 1:]
        counted = known[..., 1:].to(heads.dtype)
        number = counted.sum().clamp_min(1.0)
        _, location, log_scale, dof, quantile = _parameters(heads)
        likelihood = student_t_nll(returns, location, log_scale, dof)
        tick = pinball(returns, quantile, self.level)
        total = (
            mean_square(level - targets[..., :1], known[..., :1])
            + self.t_weight * (likelihood * counted).sum() / number
            + self.quantile_weight * (tick * counted).sum() / number
        )
        ic = mean_daily_ic(level, targets[..., :1], known[..., :1])
        return LossParts(total, ic.detach().mean())


def _parameters(heads: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Residual, location, log scale, degrees of freedom and quantile, in daily deviations."""
    residual, location, log_scale, dof, quantile = heads.split(1, dim=-1)
    dof = LEAST_DOF + torch.nn.functional.softplus(dof + DOF_START)
    return residual, location, log_scale, dof, -QUANTILE_START * torch.exp(quantile)


def encode(
    returns: Floats,
    rows: NDArray[np.intp],
    base: Floats,
    allowed: NDArray[np.bool_],
    *,
    horizon: int,
    days: int,
) -> Floats32:
    """Targets of the heads: what came after each decision, in units of the base forecast.

    Parameters
    ----------
    returns : float64 ndarray of shape (n_days, n_assets)
        Daily returns as far as training may see.
    rows : int ndarray of shape (n_rows,)
    base : float64 ndarray of shape (n_rows, n_assets)
        HAR's annual volatility; NaN where unknown.
    allowed : bool ndarray of shape (n_rows, n_assets)
    horizon, days : int
        Days ahead of the volatility, and of the daily returns.

    Returns
    -------
    float32 ndarray of shape (n_rows, n_assets, 1 + days)
        The residual of log volatility, then the returns of days t+1 to t+days in daily deviations,
        within +-15; NaN where unknown or not allowed.
    """
    residual = volatility_target(returns, rows, horizon) - np.log(base)
    ahead = returns_ahead(returns, rows, days) / (base / np.sqrt(DAYS_PER_YEAR))[..., None]
    ahead = np.clip(ahead, -FARTHEST_RETURN, FARTHEST_RETURN)
    targets = np.concatenate([residual[..., None], ahead], axis=2)
    targets[~allowed] = np.nan
    return targets.astype(np.float32)


def decode(heads: Floats32, base: Floats, level: float) -> RiskForecast:
    """Forecast from heads of shape (n_rows, n_assets, 5) and HAR's annual volatility.

    Parameters
    ----------
    heads : float32 ndarray of shape (n_rows, n_assets, 5)
    base : float64 ndarray of shape (n_rows, n_assets)
        NaN where there is to be no forecast.
    level : float
        Probability of the quantile.

    Examples
    --------
    >>> forecast = decode(np.zeros((1, 1, 5), np.float32), np.array([[np.sqrt(252) * 0.01]]), 0.05)
    >>> [round(float(x[0, 0]), 4) for x in (forecast.volatility, forecast.quantile, forecast.dof)]
    [0.1587, -0.0185, 4.2269]
    """
    raw = _parameters(torch.from_numpy(heads.astype(np.float64)))
    residual, location, log_scale, dof, quantile = (part[..., 0].numpy() for part in raw)
    daily, scale = base / np.sqrt(DAYS_PER_YEAR), np.exp(log_scale)
    of_t = location + scale * stdtrit(dof, level)
    return RiskForecast(
        volatility=base * np.exp(residual),
        quantile=daily * (quantile + of_t) / 2.0,
        dof=np.where(np.isfinite(base), dof, np.nan),
        location=daily * location,
        scale=daily * scale,
    )
