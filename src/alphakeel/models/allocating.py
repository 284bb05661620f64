"""From scores to weights in one piece: forecasters trained on the portfolio's path and its limits.

The network scores the stocks; a softmax turns scores and volatilities into shares of a long-only
book; a gate that reads the state of the market says how much of the wealth the book gets, and the
rest is cash. All of it learns from the net returns of the path under the limits.
"""

from __future__ import annotations

from torch import Generator

from alphakeel.models.networks import LSTMNetwork, SequenceNetwork
from alphakeel.models.weighing import AllocatingForecaster

__all__ = ["AllocatingForecaster", "RiskLimitedLSTM"]


class RiskLimitedLSTM(AllocatingForecaster):
    r"""An LSTM's scores and the portfolio they make, trained together under risk limits.

    With scores z of mean 0 and variance 1 over the stocks of a date, volatilities
    :math:`\sigma_i` and market series m, the weights are

    .. math:: w_{ti} = \underbrace{\mathrm{sigmoid}(u^\top m_t + v)}_{\text{exposure}} \;
              \mathrm{softmax}_i \left(a z_{ti} - b \log \sigma_{ti} \right)

    and the loss, over the daily net returns of a random stretch of the training path, is

    .. math:: -\lambda_S \, \mathrm{Sharpe} - \lambda_R \, \overline{r} \cdot 252
              + \lambda_{ic} \sum_h (1 - \overline{\mathrm{IC}}_h)
              + \sum_k \text{augmented Lagrangian of limit } k

    Every `evaluate_every` steps the limits are measured on the whole training path, which moves
    the multipliers (`models.limits`). After training the mean weights of the ensemble are scaled
    by one factor, the largest up to 1 with which every limit holds on the path of the fit.

    Parameters
    ----------
    limits : Limits or mapping, optional
        In the user's units; by default there is none. A mapping has the names of `Limits`.
    weighting : {"softmax", "sparsemax"}, default="softmax"
        Sparsemax leaves stocks out altogether (Martins, Astudillo, 2016, ICML,
        https://arxiv.org/abs/1602.02068).
    weight_cap : float, default=0.1
        Largest share of the book in one stock, in (0, 1]. With fewer than 1 / weight_cap stocks
        the rest is cash.
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
    hidden, layers, dropout, burn_in, chunk, batch_assets, max_steps, learning_rate, weight_decay
        As in `LSTMForecaster`. A step's stretches each hold one portfolio of its stocks.
    ic_weight, mse_weight : float, default=1.0, 0.0
        As in `LSTMForecaster`.
    validation_share : float, default=0.0
        As in `LSTMForecaster`, but 0 here: limits should have seen all there is.
    select_by : {"objective", "rank_ic"}, default="objective"
        What chooses the state to keep, and stops a training early, where there is a validation
        block: what the block's portfolio earns by :math:`\lambda_S` and :math:`\lambda_R` less
        the price of its broken limits (`Limits.price`), or the Rank IC of the scores.
    purge, evaluate_every, patience, n_seeds, seed, warm_up, device, precision, input_noise
        As in `LSTMForecaster`.
    on_progress : callable, optional
        As in `LSTMForecaster`.

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

    Notes
    -----
    A member's first trade comes from cash. Cash earns nothing. Limits hold on the past they were
    trained on; the future owes them nothing.

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
