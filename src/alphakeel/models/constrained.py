"""From scores to weights in one piece: forecasters trained on the portfolio's path and its limits.

The network scores the stocks; a softmax turns scores and volatilities into shares of a
long-only portfolio; a gate that reads the state of the market says how much of the wealth is
invested, and the rest is cash. All of it learns from the net returns of the path under the
limits.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Generator

from alphakeel.errors import ConfigError, DataError
from alphakeel.models.allocation_network import AllocationNetwork, PathData, PathLimits
from alphakeel.models.base import check_features, check_number, check_targets
from alphakeel.models.constrained_training import PathObjective, PathSampler, calibrate
from alphakeel.models.ensemble import shows_shared_parameters
from alphakeel.models.networks import LSTMNetwork, SequenceNetwork, run
from alphakeel.models.sampling import Sample, validator, with_lead
from alphakeel.models.sequence import SequenceForecaster
from alphakeel.models.training import one_cycle, one_thread, training_dtype
from alphakeel.stats.performance import PERIODS_PER_YEAR, held_path, sharpe

__all__ = [
    "ConstrainedForecaster",
    "RiskLimitedLSTM",
]

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]


class ConstrainedForecaster(SequenceForecaster):
    """Base of the forecasters that give weights as well; subclasses name the network.

    See `RiskLimitedLSTM` for parameters and attributes.
    """

    @shows_shared_parameters(SequenceForecaster)
    def __init__(
        self,
        *,
        limits: PathLimits | Mapping[str, float] | None = None,
        weighting: str = "softmax",
        weight_cap: float = 0.1,
        temperature: float | None = None,
        sharpe_weight: float = 1.0,
        return_weight: float = 1.0,
        cost_per_side: float = 0.001,
        gate_learning_rate: float = 1e-2,
        select_by: str = "objective",
        max_steps: int = 150,
        mse_weight: float = 0.0,
        patience: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(max_steps=max_steps, mse_weight=mse_weight, patience=patience, **settings)
        self.limits = limits
        self.weighting = weighting
        self.weight_cap = weight_cap
        self.temperature = temperature
        self.sharpe_weight = sharpe_weight
        self.return_weight = return_weight
        self.cost_per_side = cost_per_side
        self.gate_learning_rate = gate_learning_rate
        self.select_by = select_by

    @abstractmethod
    def _trunk(self, n_inputs: int, n_heads: int, generator: Generator) -> SequenceNetwork:
        """Build the network that scores, with weights drawn from `generator`."""

    def _network(self, n_inputs: int, n_heads: int, generator: Generator) -> AllocationNetwork:
        return AllocationNetwork(
            self._trunk(n_inputs, n_heads, generator),
            self.n_market_in_,
            self._limits(),
            weighting=self.weighting,
            weight_cap=self.weight_cap,
            temperature=self.temperature,
            gate_pace=self.gate_learning_rate / self.learning_rate,
        )

    def fit(
        self,
        features: ArrayLike,
        targets: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
        returns: ArrayLike | None = None,
        volatility: ArrayLike | None = None,
    ) -> Self:
        """Train the ensemble and calibrate its exposure.

        Parameters
        ----------
        features, targets, mask, market
            As in `Forecaster.fit`; the targets feed the IC term.
        returns : array of shape (n_dates, n_days, n_assets)
            Simple returns per day, fractions, of the days from the trade that row t decides to the
            trade that row t + 1 decides: labels, like the targets. All risk is measured on daily
            returns, whatever the steps: of a step shorter than n_days the last days are NaN for
            all stocks, and do not count. Elsewhere a stock's NaN counts as 0 (not priced: it keeps
            its value). The last rows may be NaN throughout: they are not known yet, and are not
            trained on.
        volatility : array of shape (n_dates, n_assets)
            Volatility of each stock known at each row, any unit; a stock whose volatility is not
            a number above 0 gets no weight on that row.
        """
        device = self._check_settings()
        dtype = training_dtype(self.precision, device)
        inputs = check_features(features, mask, market)
        targets = check_targets(targets, inputs)
        if returns is None or volatility is None:
            raise DataError(
                f"{type(self).__name__}.fit needs returns and volatility beside the targets: it is "
                "trained on the path of a portfolio"
            )
        data = PathData.of(returns, volatility, inputs.present)
        sample = self._sample(inputs, targets, min(len(targets), data.n_priced))
        fit_data = (sample.features, sample.series, targets, sample.n_fit)
        priced = slice(0, data.n_priced)
        weights = np.zeros((data.n_priced, inputs.present.shape[1]))
        with one_thread():
            path_data = (data.returns, data.log_volatility, data.held)
            for member in self._new_members(device, *fit_data, *path_data):
                sampler = PathSampler(
                    *sample.fitted, data, rng=member.rng, **self._sampler_settings(device)
                )
                network = cast(AllocationNetwork, self._new_network(member, device))
                objective = self._objective(network, sample, data)
                result = self._train(
                    network,
                    sampler,
                    objective,
                    member,
                    evaluate_every=self.evaluate_every,
                    patience=None if sample.block is None else self.patience,
                    validate=objective.evaluate,
                    dtype=dtype,
                    input_noise=self.input_noise,
                )
                pairs = zip(result.history, objective.records, strict=True)
                self._add_member(network, [{**entry, **record} for entry, record in pairs])
                self.best_steps_.append(result.best_step or self.history_[-1]["step"])
                weights += self._member_weights(
                    network, sample.features[priced], sample.series[priced], data
                )
        self.exposure_scale_, self.limits_ = calibrate(
            weights / self.n_seeds,
            data.returns,
            self._limits(),
            cost_per_side=self.cost_per_side,
            held=data.held,
        )
        return self

    def predict_weights(
        self,
        features: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
        volatility: ArrayLike,
    ) -> Floats:
        """Target weights after the trade that each row decides; row t reads rows 0 to t only.

        Arguments as in `fit`. Float64 of shape (n_dates, n_assets), at least 0, with a sum of
        at most 1 per row; the rest is cash. 0 where masked, or where the volatility is not
        known.
        """
        inputs = self._check_call(features, mask, market)
        data = PathData.of(None, volatility, inputs.present)
        series = self.market_scale_.apply(inputs.market)
        weights = np.zeros(inputs.present.shape)
        with one_thread():
            for network in self.members_:
                weights += self._member_weights(network, inputs.values, series, data)
        return weights * (self.exposure_scale_ / len(self.members_))

    def predict_exposure(self, market: ArrayLike) -> Floats:
        """Share of wealth that the gate puts at risk on each row, (n_dates,), in [0, 1]."""
        n_dates = len(np.asarray(market))
        inputs = self._check_call(
            np.zeros((n_dates, 1, getattr(self, "n_factors_in_", 1))), None, market
        )
        series = torch.from_numpy(self.market_scale_.apply(inputs.market))
        gates = []
        with one_thread(), torch.inference_mode():
            for network in cast(list[AllocationNetwork], self.members_):
                gate = network.exposure(series.to(network.gate_weight.device))
                gates.append(gate.cpu().numpy())
        mean: Floats = np.asarray(gates, dtype=np.float64).mean(axis=0)
        return self.exposure_scale_ * mean

    def state(self) -> Any:
        """Class, parameters and everything learned; limits as a plain mapping."""
        plain = copy.copy(self)
        plain.limits = self._limits().active()
        return super(ConstrainedForecaster, plain).state()

    def _limits(self) -> PathLimits:
        if self.limits is None:
            return PathLimits()
        if isinstance(self.limits, PathLimits):
            return self.limits
        unknown = sorted(set(self.limits) - set(PathLimits.__dataclass_fields__))
        if unknown:
            raise ConfigError(
                f"limits names {unknown[0]!r}, which is no limit; choose among "
                f"{', '.join(PathLimits.__dataclass_fields__)}"
            )
        return PathLimits(**self.limits)

    def _check_settings(self) -> torch.device:
        device = super()._check_settings()
        self._limits()
        if self.select_by not in ("objective", "rank_ic"):
            raise ConfigError(f"select_by must be 'objective' or 'rank_ic', not {self.select_by!r}")
        if self.weighting not in ("softmax", "sparsemax"):
            raise ConfigError(f"weighting must be 'softmax' or 'sparsemax', not {self.weighting!r}")
        check_number(
            "weight_cap", self.weight_cap, low=0.0, high=1.0, low_open=True, high_open=False
        )
        if self.temperature is not None:
            check_number("temperature", self.temperature, low=0.0, low_open=True)
        for name in ("sharpe_weight", "return_weight"):
            check_number(name, getattr(self, name), low=0.0)
        if self.sharpe_weight == 0 and self.return_weight == 0:
            raise ConfigError("sharpe_weight and return_weight are both 0; the path has no aim")
        check_number("cost_per_side", self.cost_per_side, low=0.0, high=0.1)
        check_number("gate_learning_rate", self.gate_learning_rate, low=0.0, low_open=True)
        return device

    def _member_weights(
        self, network: SequenceNetwork, features: Floats32, series: Floats32, data: PathData
    ) -> Floats:
        """Weights of one member at every row."""
        heads = run(network, features, series, warm_up=self.warm_up, block=self.chunk_)
        return cast(AllocationNetwork, network).numpy_weights(heads, series, data)

    def _objective(
        self, network: AllocationNetwork, sample: Sample, data: PathData
    ) -> PathObjective:
        given = (network, sample, data)
        return PathObjective(
            network,
            measure=partial(self._measure_path, *given),
            ic_weight=self.ic_weight,
            mse_weight=self.mse_weight,
            sharpe_weight=self.sharpe_weight,
            return_weight=self.return_weight,
            cost_per_side=self.cost_per_side,
            pace=self._pace,
            rank_ic=validator(network, sample, self.burn_in),
            validation_value=None
            if sample.block is None
            else partial(self._validation_value, *given, sample.block),
            select_by=self.select_by,
        )

    def _measure_path(
        self, network: AllocationNetwork, sample: Sample, data: PathData
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Limits and figures of the whole training path, as the network stands."""
        rows = slice(0, sample.n_fit)
        weights, path, traded = self._held(network, sample, data, rows)
        figures = {"sharpe": float(sharpe(path)), "exposure": float(weights.sum(axis=1).mean())}
        return self._limits().measure(path, traded), figures

    def _validation_value(
        self, network: AllocationNetwork, sample: Sample, data: PathData, block: slice
    ) -> float:
        """What the portfolio of the validation block earns by the aims, less its broken limits."""
        _, path, traded = self._held(network, sample, data, block)
        annual = float(path.mean()) * PERIODS_PER_YEAR
        aims = self.sharpe_weight * float(sharpe(path)) + self.return_weight * annual
        limits = self._limits()
        return aims - limits.violation_cost(limits.measure(path, traded))

    def _held(
        self, network: AllocationNetwork, sample: Sample, data: PathData, rows: slice
    ) -> tuple[Floats, Floats, Floats]:
        """Weights of one member over some rows, the daily net returns of holding them, and trades.

        The `burn_in` rows before them build up the state.
        """
        seen = with_lead(rows, self.burn_in)
        weights = self._member_weights(
            network, sample.features[seen], sample.series[seen], data.cut(seen)
        )[rows.start - seen.start :]
        own = data.cut(rows)
        path, traded = held_path(
            weights, own.returns, cost_per_side=self.cost_per_side, held=own.held
        )
        return weights, path, traded

    def _pace(self, evaluation: int) -> float:
        """Multipliers move as fast as the weights do: by the learning rate over its peak."""
        step = min((evaluation + 1) * self.evaluate_every, self.max_steps)
        return one_cycle(step - 1, self.max_steps, 1.0)


class RiskLimitedLSTM(ConstrainedForecaster):
    r"""An LSTM's scores and the portfolio they make, trained together under risk limits.

    With scores z of mean 0 and variance 1 over the stocks of a date, volatilities
    :math:`\sigma_i` and market series m, the weights are

    .. math:: w_{ti} = \underbrace{\mathrm{sigmoid}(u^\top m_t + v)}_{\text{exposure}} \;
              \mathrm{softmax}_i \left(a z_{ti} - b \log \sigma_{ti} \right)

    and the loss, over the daily net returns of a random sequence of rows of the training path,
    is

    .. math:: -\lambda_S \, \mathrm{Sharpe} - \lambda_R \, \overline{r} \cdot 252
              + \lambda_{ic} \sum_h (1 - \overline{\mathrm{IC}}_h)
              + \sum_k \text{augmented Lagrangian of limit } k

    Every `evaluate_every` steps the limits are measured on the whole training path, which moves
    the multipliers (`models.allocation_network`). After training the mean weights of the
    ensemble are scaled by one factor, the largest up to 1 with which every limit holds on the
    path of the fit.

    Parameters
    ----------
    limits : PathLimits or mapping, optional
        In the user's units; by default there is none. A mapping has the names of `PathLimits`.
    weighting : {"softmax", "sparsemax"}, default="softmax"
        Sparsemax leaves stocks out altogether (Martins, Astudillo, 2016, ICML,
        https://arxiv.org/abs/1602.02068).
    weight_cap : float, default=0.1
        Largest share of the portfolio in one stock, in (0, 1]. With fewer than 1 / weight_cap
        stocks the rest is cash.
    temperature : float, optional
        1 / a: small picks few stocks. By default it is learned, from 1.
    sharpe_weight, return_weight : float, default=1.0, 1.0
        :math:`\lambda_S` and :math:`\lambda_R`. The Sharpe ratio is blind to exposure; the mean
        return is what makes a portfolio use the risk that the limits leave.
    cost_per_side : float, default=0.001
        Share of the value traded.
    gate_learning_rate : float, default=1e-2
        Peak for the slopes u of the gate, six times that for its level v and for the threshold of
        the CVaR, which have far to go; `learning_rate` is that of all the rest.
    select_by : {"objective", "rank_ic"}, default="objective"
        What chooses the state to keep, and stops a training early, where there is a validation
        block: what the block's portfolio earns by :math:`\lambda_S` and :math:`\lambda_R` less
        the cost of its broken limits (`PathLimits.violation_cost`), or the Rank IC of the scores.
    **settings
        The parameters of `LSTMForecaster`, with other defaults for ``max_steps=150``,
        ``mse_weight=0.0`` and ``patience=None``. A study (`model_factory`) passes on from
        ``[network]`` all but `learning_rate`, `weight_decay`, `mse_weight`, `validation_share`,
        `evaluate_every` and `patience`, which it ignores: for those six the values here stand.

    Attributes
    ----------
    members_, best_steps_, market_scale_, chunk_
        As in `LSTMForecaster`.
    history_ : list of dict
        Per evaluation: seed, step, train_loss, train_ic, validation_rank_ic and
        validation_objective (NaN without a validation block), sharpe and exposure (mean) of the
        training path, and ``limits: {name: {value, limit, violation, multiplier}}``.
    exposure_scale_ : float
        The factor of the calibration, 1 where training met the limits by itself.
    limits_ : dict
        ``{name: {limit, trained, value, violation}}`` of the ensemble on the path of the fit:
        `trained` before the calibration, `value` after it.

    Notes ----- A member's first trade comes from cash. Cash earns nothing. Limits hold on the
    past they were trained on; the future owes them nothing.

    References
    ----------
    Zhang, Zohren, Roberts (2020), "Deep Learning for Portfolio Optimization", J. Financial Data
    Science 2. https://doi.org/10.3905/jfds.2020.1.042

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> features = rng.standard_normal((80, 10, 2)).astype(np.float32)
    >>> returns = 0.02 * rng.standard_normal((80, 5, 10))
    >>> small = {"hidden": 4, "burn_in": 5, "chunk": 20, "max_steps": 2, "n_seeds": 1}
    >>> model = RiskLimitedLSTM(limits={"volatility": 0.05}, **small)
    >>> known = {"volatility": np.full((80, 10), 0.02), "market": features[:, 0]}
    >>> model = model.fit(features, features[..., 0], returns=returns, **known)
    >>> bool(model.limits_["volatility"]["value"] <= 0.05)
    True
    >>> model.predict_weights(features, **known).shape
    (80, 10)
    """

    label = "LSTM with limits"

    def _trunk(self, n_inputs: int, n_heads: int, generator: Generator) -> SequenceNetwork:
        return LSTMNetwork(n_inputs, n_heads, **self._shape(), generator=generator)
