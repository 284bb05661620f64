"""From scores to weights in one piece: forecasters trained on the portfolio's path and its limits.

The network scores the stocks; a softmax turns scores and volatilities into the shares of a
long-only composition; what the limits allow of it today is held, and the rest is cash
(`models.exposure`). All of it learns from the net returns of the path under the limits. How far
forecasts of risk fall short is measured out of fold (`models.safety_factors`).
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from torch import Generator

from alphakeel.errors import ConfigError, DataError
from alphakeel.models.allocation_network import AllocationNetwork, PastData, PathData, PathLimits
from alphakeel.models.base import (
    Features,
    Memory,
    Prediction,
    check_features,
    check_integers,
    check_number,
    check_targets,
)
from alphakeel.models.composition import (
    CANDIDATES,
    SLOW_CANDIDATES,
    Composition,
    best_composition,
    merit,
    smooth_path,
    trail,
)
from alphakeel.models.constrained_training import Exposure, PathObjective, PathSampler, past_of
from alphakeel.models.ensemble import shows_shared_parameters
from alphakeel.models.losses import MIN_ASSETS
from alphakeel.models.networks import (
    ROWS_AT_ONCE,
    AttentionNetwork,
    CNNLSTMNetwork,
    GRUNetwork,
    LSTMNetwork,
    SequenceNetwork,
    run,
)
from alphakeel.models.persistence import Prefixed
from alphakeel.models.safety_factors import by_limit, find_factors
from alphakeel.models.sampling import (
    MIN_CHUNK,
    Sample,
    mean_of_heads,
    validator,
    with_lead,
)
from alphakeel.models.sequence import SequenceForecaster, mean_score
from alphakeel.models.training import one_cycle, one_thread, training_dtype
from alphakeel.stats.cross_section import zscore
from alphakeel.stats.exposure_rules import LIMITED, WINDOW
from alphakeel.stats.performance import PERIODS_PER_YEAR, held_path, sharpe
from alphakeel.stats.splits import Labels, PurgedFold, purged_kfold

__all__ = [
    "ConstrainedForecaster",
    "RiskLimitedAttention",
    "RiskLimitedCNNLSTM",
    "RiskLimitedGRU",
    "RiskLimitedLSTM",
]

# Rows that attention reaches back: a year of weekly decisions.
ATTENTION_ROWS = 52

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
        smoothing: float | None = None,
        sharpe_weight: float = 1.0,
        return_weight: float = 1.0,
        path_gradient: float = 0.0,
        cost_per_side: float = 0.001,
        lag: int = 1,
        calibration_blocks: int = 2,
        select_by: str = "objective",
        max_steps: int = 75,
        mse_weight: float = 0.0,
        evaluate_every: int = 25,
        patience: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(
            max_steps=max_steps,
            mse_weight=mse_weight,
            evaluate_every=evaluate_every,
            patience=patience,
            **settings,
        )
        self.limits = limits
        self.weighting = weighting
        self.weight_cap = weight_cap
        self.temperature = temperature
        self.smoothing = smoothing
        self.sharpe_weight = sharpe_weight
        self.return_weight = return_weight
        self.path_gradient = path_gradient
        self.cost_per_side = cost_per_side
        self.lag = lag
        self.calibration_blocks = calibration_blocks
        self.select_by = select_by

    @abstractmethod
    def _trunk(self, n_inputs: int, n_heads: int, generator: Generator) -> SequenceNetwork:
        """Build the network that scores, with weights drawn from `generator`."""

    def _network(self, n_inputs: int, n_heads: int, generator: Generator) -> AllocationNetwork:
        return AllocationNetwork(
            self._trunk(n_inputs, n_heads, generator),
            self._limits(),
            weighting=self.weighting,
            weight_cap=self.weight_cap,
            temperature=self.temperature_,
            smoothing=self.smoothing_,
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
        daily: ArrayLike | None = None,
        days: ArrayLike | None = None,
    ) -> Self:
        """Find the safety factors out of fold, and train the ensemble.

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
        daily, days : arrays of shape (n_all_days, n_assets) and (n_dates,) of int, optional
            Simple returns of every day, also before the first row, and the row's own day in them:
            the risk of today's composition is forecast from the days up to it. By default rows
            follow each other, and `returns` of the rows before are all that a row knows.
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
        past = (
            PastData.before(returns, self.lag)
            if daily is None or days is None
            else PastData.of(daily, days, len(targets))
        )
        data = replace(data, past=past)
        factors, promised = self._cross_fit(inputs, targets, returns, volatility, data)
        self.safety_factors_ = factors
        composition = (self.temperature_, self.smoothing_)
        sample = self._sample(inputs, targets, min(len(targets), data.n_priced))
        fit_data = (sample.features, sample.series, targets, sample.n_fit)
        path_data = (data.returns, data.log_volatility, data.held)
        read = (*path_data, past.returns, past.known, past.days, factors, composition)
        shares = np.zeros((data.n_priced, inputs.present.shape[1]))
        with one_thread():
            for member in self._new_members(device, *fit_data, *read):
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
                priced = slice(0, data.n_priced)
                shares += self._member_shares(
                    network, sample.features[priced], sample.series[priced], data
                )
        trained = self._limits().measure(*self._path(shares / self.n_seeds, data)[1:])
        self.limits_ = by_limit(self._limits(), trained, promised, factors)
        return self

    def predict_weights(
        self,
        features: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
        volatility: ArrayLike,
    ) -> Floats:
        """Composition that each row decides; row t reads rows 0 to t only.

        Arguments as in `fit`. Float64 of shape (n_dates, n_assets), at least 0, with a sum of 1
        per row, or of less where `weight_cap` leaves too few stocks. 0 where masked, or where the
        volatility is not known. How much of it is held depends on the path of the portfolio's own
        wealth: `portfolio.exposure.limit_exposure` says so, with `safety_factors_`.
        """
        known = {"mask": mask, "market": market, "volatility": volatility}
        weights = self.predict_from(None, features, **known).weights
        assert weights is not None  # noqa: S101  (`_predict` gives them)
        return weights

    def _predict(
        self, memory: Memory | None, inputs: Features, volatility: ArrayLike | None
    ) -> Prediction:
        if volatility is None:
            raise DataError(f"{type(self).__name__} needs the stocks' volatility to predict from")
        data = PathData.of(None, volatility, inputs.present)
        scores, shares = self._empty_scores(inputs), np.zeros(inputs.present.shape)
        arrays: dict[str, NDArray[Any]] = {}
        for member, (network, heads, parts) in enumerate(self._run_members(inputs, memory)):
            name, own = f"shares/{member}", cast(AllocationNetwork, network)
            scores[member] = zscore(mean_of_heads(heads, inputs.present), inputs.present)
            before = None if memory is None else memory.arrays[name][0]
            wanted = own.wanted_shares(heads, data)
            cap, there = own.weight_cap, data.investable
            shares += smooth_path(wanted, there, own.smoothing, cap, before)
            path = trail(wanted, own.smoothing, before)
            last = len(wanted) // ROWS_AT_ONCE * ROWS_AT_ONCE - 1
            kept = path[last] if last >= 0 else before
            arrays |= parts if kept is None else {**parts, name: kept[None]}
        return Prediction(
            mean_score(scores), shares / len(self.members_), self._memory(memory, inputs, arrays)
        )

    def factor_rows(self, n_dates: int) -> Floats:
        """Safety factors on so many rows, (n_dates, 4), in the order of `LIMITED`; 1: no limit."""
        factors = [self.safety_factors_.get(name, 1.0) for name in LIMITED]
        return np.tile(np.asarray(factors, dtype=np.float64), (n_dates, 1))

    def _cross_fit(
        self,
        inputs: Features,
        targets: Floats32,
        returns: ArrayLike,
        volatility: ArrayLike,
        data: PathData,
    ) -> tuple[dict[str, float], dict[str, float] | None]:
        """Safety factors, and what the out-of-fold path realises with them.

        One network for each block of rows, fitted on the other rows, purged, with a share of the
        steps that goes by the number of blocks. On its path the composition is chosen first.
        Factors of 1, no promise and a learned temperature without limits, with fewer than two
        blocks, or where a side is too short to fit on.
        """
        limits = self._limits()
        self.compositions_: list[dict[str, Any]] = []
        self.temperature_ = self.temperature
        self.smoothing_ = 1.0 if self.smoothing is None else self.smoothing
        plain = {name: 1.0 for name in LIMITED if name in limits.active()}
        usable = np.isfinite(targets[: data.n_priced]).any(axis=2).sum(axis=1) >= MIN_ASSETS
        begin = int(usable.argmax())
        folds = self._calibration_folds(usable[begin:]) if limits.active() else ()
        if not folds:
            return plain, None
        held_out = np.asarray(volatility, dtype=np.float64)
        fitted: list[tuple[slice, AllocationNetwork, Floats32]] = []
        for number, fold in enumerate(folds):
            rows, until = begin + fold.train_rows(), slice(0, begin + fold.test.stop)
            model = self._calibration_model(number)
            past = past_of(data)
            model.fit(
                inputs.values[rows],
                targets[rows],
                mask=inputs.present[rows],
                market=inputs.market[rows],
                returns=np.asarray(returns)[rows],
                volatility=held_out[rows],
                daily=np.where(past.known, past.returns, np.nan)[WINDOW:],
                days=past.days[rows] - WINDOW,
            )
            network = cast(AllocationNetwork, model.members_[0])
            series = model.market_scale_.apply(inputs.market[until])
            heads = run(
                network, inputs.values[until], series, warm_up=self.warm_up, block=model.chunk_
            )
            block = slice(begin + fold.test.start, begin + fold.test.stop)
            fitted.append((block, network, heads))
        path = slice(begin, data.n_priced)
        terms: dict[str, Any] = {"lag": self.lag, "cost_per_side": self.cost_per_side}

        def shares_of(composition: Composition) -> Floats:
            shares = np.zeros((data.n_priced, inputs.present.shape[1]))
            for block, network, heads in fitted:
                network.temperature, network.smoothing = composition
                shares[block] = network.numpy_shares(heads, data)[block]
            return shares[path]

        def earned(shares: Floats) -> Floats:
            """Daily net returns of compositions that are held in full."""
            own = data.cut(path)
            cost = self.cost_per_side
            return held_path(shares, own.returns, cost_per_side=cost, held=own.held)[0]

        there = data.investable[path]
        market = earned(there / np.maximum(there.sum(axis=1, keepdims=True), 1))
        chosen, self.compositions_ = best_composition(
            self._affordable(shares_of, data.cut(path)),
            lambda own: merit(earned(shares_of(own)), market),
        )
        self.temperature_, self.smoothing_ = chosen
        return find_factors(shares_of(chosen), data.cut(path), limits, **terms)

    def _affordable(
        self, shares_of: Callable[[Composition], Floats], data: PathData
    ) -> tuple[Composition, ...]:
        """Candidates that agree with the parameters given, and keep a limit on turnover.

        Of none that keeps it, the one that trades least.
        """
        limit = self._limits().turnover
        known = dict.fromkeys(
            Composition(
                own.temperature if self.temperature is None else self.temperature,
                own.smoothing if self.smoothing is None else self.smoothing,
            )
            for own in CANDIDATES + (SLOW_CANDIDATES if limit is not None else ())
        )
        if limit is None:
            return tuple(known)
        self.safety_factors_ = dict.fromkeys(self._limits().active(), 1.0)
        only = PathLimits(turnover=limit)
        traded = {
            own: only.measure(*self._path(shares_of(own), data)[1:])["turnover"] for own in known
        }
        kept = tuple(own for own, value in traded.items() if value <= limit)
        return kept or (min(traded, key=lambda own: traded[own]),)

    def _calibration_folds(self, usable: NDArray[np.bool_]) -> tuple[PurgedFold, ...]:
        """Blocks of the rows to hold out; none where a side has too few `usable` rows to fit on."""
        least = self.burn_in + MIN_CHUNK
        if self.calibration_blocks < 2 or len(usable) < self.calibration_blocks * (
            least + self.purge
        ):
            return ()
        labels = Labels.even(len(usable), self.purge)
        folds = purged_kfold(labels, self.calibration_blocks)
        sides = [usable[fold.train_rows()][self.burn_in :].sum() for fold in folds]
        return folds if min(sides) >= MIN_CHUNK else ()

    def _calibration_model(self, number: int) -> Self:
        """The estimator of one network that holds a block out: a share of the steps, one seed."""
        model = clone(self).set_params(
            n_seeds=1,
            max_steps=-(-self.max_steps // self.calibration_blocks),
            calibration_blocks=0,
            validation_share=0.0,
            on_progress=None,
        )
        model.store = None if self.store is None else Prefixed(self.store, f"block-{number}")
        return cast(Self, model)

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
        if self.smoothing is not None:
            check_number(
                "smoothing", self.smoothing, low=0.0, high=1.0, low_open=True, high_open=False
            )
        for name in ("sharpe_weight", "return_weight"):
            check_number(name, getattr(self, name), low=0.0)
        if self.sharpe_weight == 0 and self.return_weight == 0:
            raise ConfigError("sharpe_weight and return_weight are both 0; the path has no aim")
        check_number("path_gradient", self.path_gradient, low=0.0, high=1.0, high_open=False)
        check_number("cost_per_side", self.cost_per_side, low=0.0, high=0.1)
        check_integers(self, "lag", "calibration_blocks", at_least=0)
        return device

    def _member_shares(
        self, network: SequenceNetwork, features: Floats32, series: Floats32, data: PathData
    ) -> Floats:
        """Composition of one member at every row."""
        heads = run(network, features, series, warm_up=self.warm_up, block=self.chunk_)
        return cast(AllocationNetwork, network).numpy_shares(heads, data)

    def _exposure(self) -> Exposure:
        return Exposure(self._limits().active(), self.safety_factors_, self.lag, self.cost_per_side)

    def _objective(
        self, network: AllocationNetwork, sample: Sample, data: PathData
    ) -> PathObjective:
        given = (network, sample, data)
        return PathObjective(
            network,
            exposure=self._exposure(),
            measure=partial(self._measure_path, *given),
            ic_weight=self.ic_weight,
            mse_weight=self.mse_weight,
            sharpe_weight=self.sharpe_weight,
            return_weight=self.return_weight,
            path_gradient=self.path_gradient,
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
        weights, path, traded = self._held(network, sample, data, slice(0, sample.n_fit))
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
        shares = self._member_shares(
            network, sample.features[seen], sample.series[seen], data.cut(seen)
        )[rows.start - seen.start :]
        return self._path(shares, data.cut(rows))

    def _path(self, shares: Floats, data: PathData) -> tuple[Floats, Floats, Floats]:
        """Weights of compositions under the limits, their daily net returns, and trades."""
        own = shares[: data.n_priced]
        weights = own * self._exposure().of_path(own, data)[:, None]
        path, traded = held_path(
            weights, data.returns, cost_per_side=self.cost_per_side, held=data.held
        )
        return weights, path, traded

    def _pace(self, evaluation: int) -> float:
        """Multipliers move as fast as the weights do: by the learning rate over its peak."""
        step = min((evaluation + 1) * self.evaluate_every, self.max_steps)
        return one_cycle(step - 1, self.max_steps, 1.0)


class RiskLimitedLSTM(ConstrainedForecaster):
    r"""An LSTM's scores and the portfolio they make, trained together under risk limits.

    With scores z of mean 0 and variance 1 over the stocks of a date and volatilities
    :math:`\sigma_i`, the composition and the weights are

    .. math:: s_{ti} = \mathrm{softmax}_i \left(a z_{ti} - b \log \sigma_{ti} \right), \qquad
              w_{ti} = \min(1, A^{vol}_t, A^{VaR}_t, A^{CVaR}_t, A^{dd}_t) \; s_{ti}

    where each A is the exposure that a limit allows today: the limit over a forecast from the
    composition's own past returns, and for the drawdown the distance of the portfolio's wealth
    from the floor over what it may lose (`stats.exposure_rules`, `stats.drawdown_control`). The
    loss, over the daily net returns of a random sequence of rows of the training path, is

    .. math:: -\lambda_S \, \mathrm{Sharpe} - \lambda_R \, \overline{r} \cdot 252
              + \lambda_{ic} \sum_h (1 - \overline{\mathrm{IC}}_h)
              + \sum_k \text{augmented Lagrangian of limit } k

    Every `evaluate_every` steps the limits are measured on the whole training path, which moves
    the multipliers (`models.allocation_network`): they are for the turnover, and for what the
    forecasts miss. Before that, networks fitted on other rows say how much larger than forecast
    risk turns out to be (`models.safety_factors`).

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
        1 / a: small picks few stocks. By default it is chosen out of fold among
        `models.composition.CANDIDATES`; without a calibration it is learned, from 1.
    smoothing : float, optional
        Share of the way to a new composition that a decision trades, in (0, 1]. By default chosen
        out of fold like the temperature; without a calibration 1.
    sharpe_weight, return_weight : float, default=1.0, 1.0
        :math:`\lambda_S` and :math:`\lambda_R`. The Sharpe ratio is blind to the level of
        exposure; the mean return is not.
    path_gradient : float, default=0.0
        Share of the path's slopes that reach the scores, in [0, 1]. At 0 scores learn from ranks
        alone, and b and the exposure from the path; with 1 what the top of the ranking had learned
        did not hold out of sample.
    cost_per_side : float, default=0.001
        Share of the value traded.
    lag : int, default=1
        Days between a decision and its trade: the newest days that a decision does not know.
    calibration_blocks : int, default=2
        Blocks of the training rows, each held out once to find the safety factors; below 2 there
        is no calibration, and the factors are 1.
    select_by : {"objective", "rank_ic"}, default="objective"
        What chooses the state to keep, and stops a training early, where there is a validation
        block: what the block's portfolio earns by :math:`\lambda_S` and :math:`\lambda_R` less
        the cost of its broken limits (`PathLimits.violation_cost`), or the Rank IC of the scores.
    **settings
        The parameters of `LSTMForecaster`, with other defaults for ``mse_weight=0.0``,
        ``evaluate_every=25`` and ``patience=None``. A study (`model_factory`)
        passes on from ``[network]`` all but `learning_rate`, `weight_decay`, `mse_weight`,
        `validation_share`, `evaluate_every` and `patience`, which it ignores: for those six the
        values here stand.

    Attributes
    ----------
    members_, best_steps_, market_scale_, chunk_
        As in `LSTMForecaster`.
    history_ : list of dict
        Per evaluation: seed, step, train_loss, train_ic, validation_rank_ic and
        validation_objective (NaN without a validation block), sharpe and exposure (mean) of the
        training path, and ``limits: {name: {value, limit, violation, multiplier}}``.
    temperature_, smoothing_ : float
        As given or chosen; the temperature is None where it is learned.
    compositions_ : list of dict
        Every candidate with its merit out of fold: the annual Sharpe ratio, net, had the market
        earned 5 % a year (`models.composition.merit`).
    safety_factors_ : dict
        By limit, how much larger than forecast a risk is taken to be, at least 1.
    limits_ : dict
        ``{name: {limit, trained, promised, safety}}``: realised by the ensemble on the path of the
        fit, and by networks that were not fitted on it (NaN without a calibration).

    Notes
    -----
    A member's first trade comes from cash. Cash earns nothing.

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
    >>> sorted(model.limits_["volatility"])
    ['limit', 'promised', 'safety', 'trained']
    >>> model.predict_weights(features, **known).shape
    (80, 10)
    """

    label = "LSTM with limits"

    def _trunk(self, n_inputs: int, n_heads: int, generator: Generator) -> SequenceNetwork:
        return LSTMNetwork(n_inputs, n_heads, **self._shape(), generator=generator)


class RiskLimitedGRU(ConstrainedForecaster):
    """`RiskLimitedLSTM` with gated recurrent units; the same parameters and attributes.

    Examples
    --------
    >>> RiskLimitedGRU(limits={"volatility": 0.1}).get_params()["limits"]
    {'volatility': 0.1}
    """

    label = "GRU with limits"

    def _trunk(self, n_inputs: int, n_heads: int, generator: Generator) -> SequenceNetwork:
        return GRUNetwork(n_inputs, n_heads, **self._shape(), generator=generator)


class RiskLimitedAttention(ConstrainedForecaster):
    """`RiskLimitedLSTM` that also attends to its states of the last 52 rows; the same parameters.

    Examples
    --------
    >>> RiskLimitedAttention(limits={"volatility": 0.1}).get_params()["limits"]
    {'volatility': 0.1}
    """

    label = "LSTM + attention with limits"

    def _trunk(self, n_inputs: int, n_heads: int, generator: Generator) -> SequenceNetwork:
        window = min(ATTENTION_ROWS, self.burn_in + self.chunk_)
        return AttentionNetwork(
            n_inputs, n_heads, **self._shape(), window=window, generator=generator
        )


class RiskLimitedCNNLSTM(ConstrainedForecaster):
    """`RiskLimitedLSTM` with two convolutions before its LSTM; the same parameters.

    Examples
    --------
    >>> RiskLimitedCNNLSTM(limits={"volatility": 0.1}).get_params()["limits"]
    {'volatility': 0.1}
    """

    label = "CNN-LSTM with limits"

    def _trunk(self, n_inputs: int, n_heads: int, generator: Generator) -> SequenceNetwork:
        return CNNLSTMNetwork(
            n_inputs, n_heads, **self._shape(), kernel=3, convolutions=2, generator=generator
        )
