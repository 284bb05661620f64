"""The risk head: a network that forecasts volatility and the loss of a bad day, beside HAR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Generator

from alphakeel.errors import ConfigError, DataError
from alphakeel.models.base import check_fitted, check_integer, check_integers, check_number
from alphakeel.models.distribution import N_HEADS, RiskForecast, RiskLoss, decode, encode
from alphakeel.models.ensemble import Ensemble, choose_device
from alphakeel.models.har import HAR_INPUTS, HARForecaster, check_returns, har_inputs
from alphakeel.models.networks import LSTMNetwork, SequenceNetwork, run
from alphakeel.models.sampling import ChunkSampler, MarketScale
from alphakeel.models.state import expect
from alphakeel.models.training import one_thread
from alphakeel.models.validation import MIN_CHUNK

__all__ = ["RiskForecaster"]

Floats32 = NDArray[np.float32]


class RiskForecaster(Ensemble):
    r"""Volatility, Student-t law and lower quantile of each stock, from an LSTM on top of HAR.

    Inputs are the `har_inputs` and, if given, market series. The network says how far log
    volatility will lie from HAR's forecast, and gives the law of a daily return in HAR's daily
    deviations; see `alphakeel.models.distribution` for heads and loss. It is trained sequence to
    sequence by the one training loop, on all rows for a fixed number of steps, and several
    networks that differ in their seeds are averaged.

    Parameters
    ----------
    horizon : int, default=20
        Days ahead, t+1 to t+horizon, of the volatility.
    days : int, default=5
        Days ahead whose daily returns teach the t law and the quantile.
    level : float, default=0.05
        Probability of the quantile, in (0, 0.5].
    hidden, layers, dropout : default=32, 1, 0.2
        Of the LSTM; see `LSTMNetwork`.
    burn_in, chunk : int, default=26, 104
        Rows of a training stretch that only build up the state, and rows that count.
    batch_assets : int, default=120
        Most stocks of a step.
    max_steps : int, default=150
        Gradient steps.
    learning_rate, weight_decay : float, default=3e-3, 1e-2
        Peak of the one-cycle schedule, and AdamW's decay.
    n_seeds, seed : int, default=2, 0
        Member k is the network of seed ``seed + k``.
    device : str, default="auto"
        As in `LSTMForecaster`.
    on_progress : callable, optional
        Called after each step with (member, step, max_steps, loss).

    Attributes
    ----------
    har_coef_ : float64 ndarray of shape (4,)
        Of the `HARForecaster` fitted on the same rows, the base forecast.
    input_scale_, market_scale_ : MarketScale
        Means and standard deviations over the training rows.
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
    >>> rows = np.arange(100, 400, 5)
    >>> model = RiskForecaster(hidden=4, burn_in=5, chunk=20, max_steps=2, n_seeds=1)
    >>> forecast = model.fit(daily, rows=rows).predict(daily, rows=rows)
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
        rows: ArrayLike,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
    ) -> Self:
        """Train on the decisions `rows`, from days up to the last of them and none after it.

        So the training is purged by itself: a decision whose days ahead end after the last row
        has no target.

        Parameters
        ----------
        returns : array of shape (n_days, n_assets)
            Simple daily returns as fractions; NaN where there is none.
        rows : int array of shape (n_rows,)
            Days of the training decisions, increasing, evenly spaced as in prediction.
        mask : bool array of shape (n_rows, n_assets), optional
            Which stock-decisions count; those outside still build up the state.
        market : array of shape (n_rows, n_series), optional
            Further series equal for all stocks; NaN is unknown.

        Raises
        ------
        ConfigError
            If a setting is out of range, or the sample is too short for it.
        DataError
            If the arrays do not fit, or hold too little to learn from.
        ConvergenceError
            If a loss is not finite.
        """
        device = self._check_settings()
        daily, chosen, allowed = check_returns(returns, rows, mask)
        daily = daily[: chosen[-1] + 1]
        extra = _check_market(market, len(chosen))
        if len(chosen) - self.burn_in < MIN_CHUNK:
            raise ConfigError(
                f"burn_in of {self.burn_in} rows leaves fewer than {MIN_CHUNK} of the "
                f"{len(chosen)} training rows; shorten it or give more rows"
            )
        har = HARForecaster(self.horizon).fit(daily, rows=chosen, mask=allowed)
        self.har_coef_ = har.coef_
        base = har.predict(daily, rows=chosen)
        targets = encode(daily, chosen, base, allowed, horizon=self.horizon, days=self.days)
        inputs = har_inputs(daily, chosen).astype(np.float32)
        self.input_scale_ = MarketScale.of(inputs[allowed & np.isfinite(base)])
        self.market_scale_ = MarketScale.of(extra)
        features = self.input_scale_.apply(inputs)
        series = self.market_scale_.apply(extra)
        stretches = self._stretches(device)
        stretches["chunk"] = min(self.chunk, len(chosen) - self.burn_in)
        with one_thread():
            for member in self._new_members(device, features, series, targets):
                sampler = ChunkSampler(features, series, targets, rng=member.rng, **stretches)
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
                self._keep(network, result.history)
        return self

    def predict(
        self,
        returns: ArrayLike,
        *,
        rows: ArrayLike,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
    ) -> RiskForecast:
        """Forecast at each of `rows`; row t reads days up to t.

        The state runs along `rows` from the first one: begin well before the decisions that
        matter, with the spacing of the training. Arguments as in `fit`. Heads are averaged over
        the members. NaN outside the mask, and where HAR knows too few of the last 60 returns.

        Raises
        ------
        NotFittedError
            If the model has not been fitted.
        DataError
            If the arrays do not fit one another, or the fit.
        """
        check_fitted(self, "members_")
        daily, chosen, allowed = check_returns(returns, rows, mask)
        extra = _check_market(market, len(chosen))
        if extra.shape[1] != len(self.market_scale_.mean):
            raise DataError(
                f"the model was fitted on {len(self.market_scale_.mean)} market series, but "
                f"predict was given {extra.shape[1]}"
            )
        features = self.input_scale_.apply(har_inputs(daily, chosen).astype(np.float32))
        series = self.market_scale_.apply(extra)
        har = HARForecaster(self.horizon)
        har.coef_ = self.har_coef_
        base = har.predict(daily, rows=chosen, mask=allowed)
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


def _check_market(market: ArrayLike | None, n_rows: int) -> Floats32:
    if market is None:
        return np.empty((n_rows, 0), dtype=np.float32)
    series = np.asarray(market, dtype=np.float32)
    if series.ndim != 2 or len(series) != n_rows:
        raise DataError(f"market has shape {series.shape}; give (rows, series) with {n_rows} rows")
    return series
