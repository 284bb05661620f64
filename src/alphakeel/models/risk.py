"""The risk head: a network that forecasts volatility and the loss of a bad day, beside HAR."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Generator

from alphakeel.errors import ConfigError, DataError, NotFittedError
from alphakeel.models.base import check_integer, check_number
from alphakeel.models.checkpoint import Slot
from alphakeel.models.distribution import N_HEADS, RiskForecast, RiskLoss, decode, encode
from alphakeel.models.har import HAR_INPUTS, HARForecaster, check_returns, har_inputs
from alphakeel.models.networks import LSTMNetwork, run
from alphakeel.models.sequence import MIN_CHUNK, _device
from alphakeel.models.state import TRANSIENT, Persistent, Store, expect, fingerprint
from alphakeel.models.training import ChunkSampler, MarketScale, one_thread, train

__all__ = ["RiskForecaster"]

Floats32 = NDArray[np.float32]


class RiskForecaster(Persistent):
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

    # Where a fit keeps its progress, to go on from after a crash; as in `SequenceForecaster`.
    store: Store | None = None

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
        slots = self._slots(features, series, targets)
        self.members_: list[LSTMNetwork] = []
        self.history_: list[dict[str, Any]] = []
        with one_thread():
            for member in range(self.n_seeds):
                rng, initial, noise = _generators(self.seed + member, device)
                sampler = ChunkSampler(
                    features,
                    series,
                    targets,
                    burn_in=self.burn_in,
                    chunk=min(self.chunk, len(chosen) - self.burn_in),
                    batch_assets=self.batch_assets,
                    rng=rng,
                    device=device,
                )
                network = self._network(features.shape[2] + series.shape[1], initial).to(device)
                result = train(
                    network,
                    sampler,
                    RiskLoss(self.level),
                    seed=self.seed + member,
                    member=member,
                    noise=noise,
                    max_steps=self.max_steps,
                    learning_rate=self.learning_rate,
                    weight_decay=self.weight_decay,
                    evaluate_every=10,
                    patience=None,
                    validate=None,
                    on_progress=self.on_progress,
                    slot=slots[member],
                )
                self.members_.append(network)
                self.history_ += result.history
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
        if not hasattr(self, "members_"):
            raise NotFittedError("this RiskForecaster is not fitted; call fit first")
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

    def _network(self, n_inputs: int, generator: Generator) -> LSTMNetwork:
        return LSTMNetwork(
            n_inputs,
            N_HEADS,
            hidden=self.hidden,
            layers=self.layers,
            dropout=self.dropout,
            generator=generator,
        )

    def _slots(self, *data: object) -> list[Slot | None]:
        """A place for each member's progress, tied to the data and to all that shapes the fit."""
        if self.store is None:
            return [None] * self.n_seeds
        shaping = {k: v for k, v in self.get_params(deep=False).items() if k not in TRANSIENT}
        origin = fingerprint(type(self).__name__, shaping, *data)
        return [Slot(self.store, f"member-{member}", origin) for member in range(self.n_seeds)]

    def _check_settings(self) -> torch.device:
        check_integer("horizon", self.horizon, at_least=2)
        for name in ("days", "hidden", "layers", "chunk", "batch_assets", "max_steps", "n_seeds"):
            check_integer(name, getattr(self, name), at_least=1)
        for name in ("burn_in", "seed"):
            check_integer(name, getattr(self, name), at_least=0)
        check_number("level", self.level, low=0.0, low_open=True, high=0.5, high_open=False)
        check_number("dropout", self.dropout, low=0.0, high=1.0)
        check_number("learning_rate", self.learning_rate, low=0.0, low_open=True)
        check_number("weight_decay", self.weight_decay, low=0.0)
        return _device(self.device)

    def _learned(self) -> dict[str, Any]:
        learned = super()._learned()
        if learned:
            for name in ("input_scale_", "market_scale_"):
                scale = learned[name]
                learned[name] = {"mean": scale.mean, "deviation": scale.deviation}
            learned["members_"] = {
                str(member): dict(network.state_dict())
                for member, network in enumerate(self.members_)
            }
        return learned

    def _set_learned(self, learned: dict[str, Any]) -> None:
        device = self._check_settings()
        scales = {name: learned.pop(name) for name in ("input_scale_", "market_scale_")}
        saved = learned.pop("members_")
        super()._set_learned(learned)
        expect("har_coef_", self.har_coef_, (4,), np.float64)
        n_series = len(scales["market_scale_"]["mean"])
        for name, size in (("input_scale_", len(HAR_INPUTS)), ("market_scale_", n_series)):
            parts = {
                part: expect(f"{name} {part}", scales[name][part], (size,), np.float64)
                for part in ("mean", "deviation")
            }
            setattr(self, name, MarketScale(**parts))
        if sorted(saved) != sorted(map(str, range(self.n_seeds))):
            raise DataError(f"the saved model holds {len(saved)} of its {self.n_seeds} networks")
        self.members_ = []
        for member in range(self.n_seeds):
            network = self._network(len(HAR_INPUTS) + n_series, Generator().manual_seed(0))
            weights = saved[str(member)]
            for name, own in network.state_dict().items():
                dtype = own.numpy().dtype
                expect(f"{name} of network {member}", weights[name], tuple(own.shape), dtype)
            network.load_state_dict({name: torch.from_numpy(x) for name, x in weights.items()})
            self.members_.append(network.to(device))


def _generators(
    seed: int, device: torch.device
) -> tuple[np.random.Generator, Generator, Generator]:
    """Sources of draws, initial weights and dropout of one member, and of nothing else."""
    children = np.random.SeedSequence(seed).spawn(3)
    first, second = (int(child.generate_state(1, np.uint64)[0]) >> 1 for child in children[1:])
    return (
        np.random.default_rng(children[0]),
        Generator().manual_seed(first),
        Generator(device=device).manual_seed(second),
    )


def _check_market(market: ArrayLike | None, n_rows: int) -> Floats32:
    if market is None:
        return np.empty((n_rows, 0), dtype=np.float32)
    series = np.asarray(market, dtype=np.float32)
    if series.ndim != 2 or len(series) != n_rows:
        raise DataError(f"market has shape {series.shape}; give (rows, series) with {n_rows} rows")
    return series
