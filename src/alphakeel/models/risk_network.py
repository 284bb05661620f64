r"""The risk head: a network that forecasts volatility and the loss of a bad day, beside HAR.

The base forecast is HAR's: a volatility of :math:`b_{ti}` a year, so :math:`\sigma_{ti} =
b_{ti} / \sqrt{252}` a day. Of its five heads :math:`h`, per stock and date,

.. math:: \log v = \log b + h_1, \quad m = \sigma h_2, \quad s = \sigma e^{h_3}, \quad
          \nu = 2.1 + \log(1 + e^{h_4 + 2}), \quad q = -1.6 \, \sigma e^{h_5}

v is the annual volatility of the days ahead; m, s and :math:`\nu` are location, scale and
degrees of freedom of a Student t for a daily return, and q its lower quantile without a law.
The quantile that is forecast is the mean of q and of the t's. With all heads at 0 the
volatility is HAR's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit
from torch import Generator, Tensor

from alphakeel.errors import ConfigError, DataError
from alphakeel.models.base import check_fitted, check_integer, check_integers, check_number
from alphakeel.models.ensemble import Ensemble, choose_device
from alphakeel.models.har import (
    DAYS_PER_YEAR,
    HAR_INPUTS,
    HARForecaster,
    check_returns,
    har_inputs,
    returns_ahead,
    volatility_target,
)
from alphakeel.models.losses import LossParts, mean_daily_ic, mean_square
from alphakeel.models.networks import LSTMNetwork, SequenceNetwork, run
from alphakeel.models.persistence import expect
from alphakeel.models.sampling import MIN_CHUNK, ChunkSampler, MarketScale
from alphakeel.models.training import one_thread

__all__ = [
    "N_HEADS",
    "RiskForecast",
    "RiskForecaster",
    "RiskLoss",
    "decode",
    "encode",
    "pinball",
    "student_t_nll",
]

Floats32 = NDArray[np.float32]
Floats = NDArray[np.float64]

N_HEADS = 5
LEAST_DOF = 2.1  # the variance exists above 2
DOF_START = 2.0
QUANTILE_START = 1.6
# A daily return further out than this many of HAR's daily deviations counts as this many: one
# wrong price must not own the location and the tail of a year.
FARTHEST_RETURN = 15.0


class RiskForecaster(Ensemble):
    """Volatility, Student-t law and lower quantile of each stock, from an LSTM on top of HAR.

    Inputs are the `har_inputs` and, if given, market series. The network says how far log
    volatility will lie from HAR's forecast, and gives the law of a daily return in HAR's daily
    deviations; see `alphakeel.models.risk_network` for heads and loss. It is trained sequence
    to sequence by the one training loop, on all decisions for a fixed number of steps, and
    several networks that differ in their seeds are averaged.

    Parameters
    ----------
    horizon : int, default=20
        Days ahead, t+1 to t+horizon, of the volatility.
    days : int, default=5
        Days ahead whose daily returns teach the t law and the quantile.
    level : float, default=0.05
        Probability of the quantile, in (0, 0.5].
    hidden, layers, dropout, burn_in, chunk, batch_assets, learning_rate, weight_decay, seed, device
        As in `LSTMForecaster`; so `on_progress`.
    max_steps, n_seeds : int, default=150, 2
        As there, with other defaults.

    Attributes
    ----------
    har_coef_ : float64 ndarray of shape (4,)
        Of the `HARForecaster` fitted on the same decisions, the base forecast.
    input_scale_, market_scale_ : MarketScale
        Means and standard deviations over the training decisions.
    members_ : list of SequenceNetwork
        The trained networks.
    history_ : list of dict
        Per evaluation: seed, step, train_loss, train_ic (of the volatility residual).

    Notes
    -----
    No validation block: the target is far less noisy than a return, and the last months teach
    more than they would choose. The same seed gives the same forecast to the bit on the same
    machine (CPU).

    Examples
    --------
    >>> daily = np.random.default_rng(0).normal(0.0, 0.01, (400, 10))
    >>> decisions = np.arange(100, 400, 5)
    >>> model = RiskForecaster(hidden=4, burn_in=5, chunk=20, max_steps=2, n_seeds=1)
    >>> forecast = model.fit(daily, decisions=decisions).predict(daily, decisions=decisions)
    >>> forecast.volatility.shape, bool((forecast.quantile < 0).all())
    ((60, 10), True)
    """

    def __init__(
        self,
        *,
        horizon: int = 20,
        days: int = 5,
        level: float = 0.05,
        hidden: int = 32,
        layers: int = 1,
        dropout: float = 0.2,
        burn_in: int = 26,
        chunk: int = 104,
        batch_assets: int = 120,
        max_steps: int = 150,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        n_seeds: int = 2,
        seed: int = 0,
        device: str = "auto",
        on_progress: Callable[[int, int, int, float], object] | None = None,
    ) -> None:
        self.horizon = horizon
        self.days = days
        self.level = level
        self.hidden = hidden
        self.layers = layers
        self.dropout = dropout
        self.burn_in = burn_in
        self.chunk = chunk
        self.batch_assets = batch_assets
        self.max_steps = max_steps
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.n_seeds = n_seeds
        self.seed = seed
        self.device = device
        self.on_progress = on_progress

    def fit(
        self,
        returns: ArrayLike,
        *,
        decisions: ArrayLike,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
        universe: ArrayLike | None = None,
    ) -> Self:
        """Train on `decisions`, from days up to the last of them and none after it.

        So the training is purged by itself: a decision whose days ahead end after the last one
        has no target. Decisions are evenly spaced, as in prediction; those outside the mask
        (n_decisions, n_assets) still build up the state; `market` (n_decisions, n_series) is
        NaN where unknown. `universe` (n_days, n_assets) are the stocks of each day that means
        over stocks are made of, by default all.
        """
        device = self._check_settings()
        daily, chosen, allowed = check_returns(returns, decisions, mask)
        daily = daily[: chosen[-1] + 1]
        extra = _check_market(market, len(chosen))
        if len(chosen) - self.burn_in < MIN_CHUNK:
            raise ConfigError(
                f"burn_in of {self.burn_in} rows leaves fewer than {MIN_CHUNK} of the "
                f"{len(chosen)} training rows; shorten it or give more rows"
            )
        har = HARForecaster(self.horizon).fit(daily, decisions=chosen, mask=allowed)
        self.har_coef_ = har.coef_
        base = har.predict(daily, decisions=chosen)
        targets = encode(daily, chosen, base, allowed, horizon=self.horizon, days=self.days)
        inputs = har_inputs(daily, chosen, universe).astype(np.float32)
        self.input_scale_ = MarketScale.of(inputs[allowed & np.isfinite(base)])
        self.market_scale_ = MarketScale.of(extra)
        features = self.input_scale_.apply(inputs)
        series = self.market_scale_.apply(extra)
        sampling = self._sampler_settings(device)
        sampling["chunk"] = min(self.chunk, len(chosen) - self.burn_in)
        with one_thread():
            for member in self._new_members(device, features, series, targets):
                sampler = ChunkSampler(features, series, targets, rng=member.rng, **sampling)
                network = self._new_network(member, device)
                result = self._train(
                    network,
                    sampler,
                    RiskLoss(self.level),
                    member,
                    evaluate_every=10,
                    patience=None,
                    validate=None,
                )
                self._add_member(network, result.history)
        return self

    def predict(
        self,
        returns: ArrayLike,
        *,
        decisions: ArrayLike,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
        universe: ArrayLike | None = None,
    ) -> RiskForecast:
        """Forecast at each of `decisions`, from days up to each.

        The state runs along `decisions` from the first one: begin well before those that
        matter, with the spacing of the training. Arguments as in `fit`. Heads are averaged over
        the members. NaN outside the mask, and where HAR knows too few of the last 60 returns.
        """
        check_fitted(self, "members_")
        daily, chosen, allowed = check_returns(returns, decisions, mask)
        extra = _check_market(market, len(chosen))
        if extra.shape[1] != len(self.market_scale_.mean):
            raise DataError(
                f"the model was fitted on {len(self.market_scale_.mean)} market series, but "
                f"predict was given {extra.shape[1]}"
            )
        features = self.input_scale_.apply(har_inputs(daily, chosen, universe).astype(np.float32))
        series = self.market_scale_.apply(extra)
        har = HARForecaster(self.horizon)
        har.coef_ = self.har_coef_
        base = har.predict(daily, decisions=chosen, mask=allowed)
        with one_thread():
            heads = [run(network, features, series) for network in self.members_]
        return decode(np.mean(heads, axis=0), base, self.level)

    def _check_settings(self) -> torch.device:
        check_integer("horizon", self.horizon, at_least=2)
        check_integers(self, "days", at_least=1)
        self._check_shared_settings()
        check_number("level", self.level, low=0.0, low_open=True, high=0.5, high_open=False)
        return choose_device(self.device)

    def _blank(self, generator: Generator) -> SequenceNetwork:
        n_inputs = len(HAR_INPUTS) + len(self.market_scale_.mean)
        return LSTMNetwork(n_inputs, N_HEADS, **self._shape(), generator=generator)

    def _set_learned(self, learned: dict[str, Any]) -> None:
        inputs, market = learned.pop("input_scale_"), learned.pop("market_scale_")
        members = learned.pop("members_")
        super()._set_learned(learned)
        expect("har_coef_", self.har_coef_, (4,), np.float64)
        self.input_scale_ = MarketScale.again("input_scale_", inputs, len(HAR_INPUTS))
        self.market_scale_ = MarketScale.again("market_scale_", market, len(market["mean"]))
        self._set_members(members)


def _check_market(market: ArrayLike | None, n_decisions: int) -> Floats32:
    if market is None:
        return np.empty((n_decisions, 0), dtype=np.float32)
    series = np.asarray(market, dtype=np.float32)
    if series.ndim != 2 or len(series) != n_decisions:
        raise DataError(
            f"market has shape {series.shape}; give (decisions, series) with {n_decisions} rows"
        )
    return series


@dataclass(frozen=True, eq=False)
class RiskForecast:
    """Forecast at each decision, in arrays of shape (n_decisions, n_assets); NaN where unknown.

    Attributes
    ----------
    volatility
        Annual volatility, a fraction, of the `horizon` days ahead: the exponential of its expected
        logarithm, so about its median.
    quantile
        Daily return, a fraction, that a day ahead undercuts with the probability `level`: the
        mean of what the Student t and the tick loss say. The value at risk is its negative.
    dof
        Degrees of freedom of a daily return, above 2.
    location, scale
        Of that Student t, daily fractions. `scale` is not the standard deviation, which is
        ``scale * sqrt(dof / (dof - 2))``.
    """

    volatility: Floats
    quantile: Floats
    dof: Floats
    location: Floats
    scale: Floats


def student_t_nll(values: Tensor, location: Tensor, log_scale: Tensor, dof: Tensor) -> Tensor:
    r"""Negative log likelihood of each value under a Student t with location m and scale s.

    .. math:: \log s + \tfrac12 \log(\pi \nu) + \log\Gamma(\tfrac\nu2)
              - \log\Gamma(\tfrac{\nu+1}{2})
              + \tfrac{\nu+1}{2} \log\Bigl(1 + \frac{(x - m)^2}{\nu s^2}\Bigr)

    See Bollerslev (1987), Review of Economics and Statistics 69,
    https://doi.org/10.2307/1925546.
    """
    ratio = (values - location) * torch.exp(-log_scale)
    constant = torch.lgamma(dof / 2.0) - torch.lgamma((dof + 1.0) / 2.0)
    constant = constant + 0.5 * (torch.log(dof) + log(pi)) + log_scale
    return constant + 0.5 * (dof + 1.0) * torch.log1p(ratio * ratio / dof)


def pinball(values: Tensor, quantile: Tensor, level: float) -> Tensor:
    r"""Tick loss :math:`(x - q)(\alpha - 1[x < q])` of each value, least at its quantile.

    See Koenker, Bassett (1978), Econometrica 46, https://doi.org/10.2307/1913643.
    """
    error = values - quantile
    return torch.maximum(level * error, (level - 1.0) * error)


@dataclass(frozen=True)
class RiskLoss:
    r"""Loss of the five heads.

    .. math:: \overline{(h_1 - e)^2} + \lambda_t \, \overline{\mathrm{NLL}}
              + \lambda_q \, \overline{\mathrm{tick}}

    e is the log volatility that came, less the base forecast; the likelihood and the tick loss
    are those of the daily returns that came, in daily deviations of the base forecast. Their
    weights are small: the returns of a few days say far less of risk than the realised
    volatility of many, and should not drown it.
    """

    level: float
    t_weight: float = 0.1
    quantile_weight: float = 0.5

    def __call__(self, heads: Tensor, targets: Tensor, known: Tensor) -> LossParts:
        """Loss of heads (n_dates, n_assets, 5) over the known targets.

        The targets (n_dates, n_assets, 1 + n_days) are e, then the returns.
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
    decisions: NDArray[np.intp],
    base: Floats,
    allowed: NDArray[np.bool_],
    *,
    horizon: int,
    days: int,
) -> Floats32:
    """Targets of the heads: what follows each decision, in units of the base forecast.

    `base` (n_decisions, n_assets) is HAR's annual volatility. Float32 (n_decisions, n_assets, 1
    + days): the residual of log volatility, then the returns of days t+1 to t+days in daily
    deviations, within +-15; NaN where unknown or not allowed.
    """
    residual = volatility_target(returns, decisions, horizon) - np.log(base)
    ahead = returns_ahead(returns, decisions, days) / (base / np.sqrt(DAYS_PER_YEAR))[..., None]
    ahead = np.clip(ahead, -FARTHEST_RETURN, FARTHEST_RETURN)
    targets = np.concatenate([residual[..., None], ahead], axis=2)
    targets[~allowed] = np.nan
    return targets.astype(np.float32)


def decode(heads: Floats32, base: Floats, level: float) -> RiskForecast:
    """Forecast from heads (n_decisions, n_assets, 5) and HAR's volatility; NaN where that is.

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
