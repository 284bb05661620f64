"""What each factor, at each lag, added to the score of a stock.

A score is a place in the cross-section of its date. What is attributed is therefore the
distance between the score of a stock and the score that it would have with all its factors in
the middle of the ranking (0, the baseline), while the other stocks and the market stay as they
were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from alphakeel.errors import ConfigError, DataError
from alphakeel.models.base import (
    Features,
    Forecaster,
    check_columns,
    check_features,
    check_fitted,
    check_integer,
)
from alphakeel.models.networks import SequenceNetwork, assemble, run
from alphakeel.models.sequence import SequenceForecaster
from alphakeel.models.training import one_thread

__all__ = [
    "Attribution",
    "attribute",
    "integrate",
    "integrated_gradients",
    "linear_in_heads",
    "shapley_values",
]

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

# Stock-dates that one pass forward and backward holds.
BLOCK_ENTRIES = 65_536
# Most points of the integral.
MAX_STEPS = 2048


@dataclass(frozen=True, eq=False)
class Attribution:
    """Scores of some stocks on one date, split over factors and lags.

    `values` (n_stocks, n_lags, n_factors) are in units of the score; lag 0 is the date itself,
    lag k lies k rows before, 0 for lags before the first row. `scores` and `baselines`
    (n_stocks,) are with the factors as they were, and with all of them (over the lags given) at
    0.
    """

    values: Floats
    scores: Floats
    baselines: Floats

    @property
    def gap(self) -> Floats:
        """What the values do not account for, (n_stocks,): the error of the numerical integral."""
        return self.scores - self.baselines - self.values.sum(axis=(1, 2))

    def mean_absolute(self) -> Floats:
        """Mean over the stocks of the absolute values, (n_lags, n_factors)."""
        return np.abs(self.values).mean(axis=0)


def attribute(
    model: Forecaster,
    features: ArrayLike,
    *,
    row: int,
    assets: Sequence[int] | NDArray[np.intp],
    rng: np.random.Generator,
    mask: ArrayLike | None = None,
    market: ArrayLike | None = None,
    lags: int | None = None,
    steps: int = 32,
    tolerance: float | None = 1e-3,
) -> Attribution:
    """`integrated_gradients` for the networks, `shapley_values` (at lag 0) for the others.

    `rng` is read for models that are no network; `lags`, `steps`, `tolerance` for networks.
    """
    if isinstance(model, SequenceForecaster):
        return integrated_gradients(
            model,
            features,
            row=row,
            assets=assets,
            mask=mask,
            market=market,
            lags=lags,
            steps=steps,
            tolerance=tolerance,
        )
    return shapley_values(
        model, features, row=row, assets=assets, mask=mask, market=market, rng=rng
    )


def integrated_gradients(
    model: SequenceForecaster,
    features: ArrayLike,
    *,
    row: int,
    assets: Sequence[int] | NDArray[np.intp],
    mask: ArrayLike | None = None,
    market: ArrayLike | None = None,
    lags: int | None = None,
    steps: int = 32,
    tolerance: float | None = 1e-3,
) -> Attribution:
    r"""Integrated gradients of the scores of a sequence model, per factor and lag.

    .. math:: a_{lk} = x_{t-l,k} \int_0^1
              \frac{\partial s(u x)}{\partial x_{t-l,k}} \, du

    along the straight line from the baseline 0 to the stock's own factors x (Sundararajan,
    Taly, Yan, 2017, https://arxiv.org/abs/1703.01365), as a Gauss-Legendre sum. The score s is
    the ensemble's: the mean over members and heads of their z-scores, with the mean and the
    standard deviation of the date held where the real cross-section has them.

    Parameters
    ----------
    model : SequenceForecaster
        Fitted.
    features, mask, market
        As in `Forecaster.predict`; rows after `row` are not read.
    row : int
        Date whose scores are explained.
    assets : sequence of int
        Stocks to explain; each has a score on that date.
    lags : int, optional
        Rows that are attributed, `row` included; the ones before them stay as they were, and start
        `burn_in` rows earlier, as in training. By default all rows that `predict` reads: the score
        explained is then exactly its score.
    steps : int, default=32
        Points of the sum.
    tolerance : float, optional, default=1e-3
        Where the values of a stock miss the change of its score by more than this, the points are
        doubled, up to 2,048: smooth networks need no more than 32, ones with kinks (ReLU) hundreds.
        None leaves it at `steps`; `Attribution.gap` has what is missing either way.

    Examples
    --------
    >>> from alphakeel.models.sequence import LSTMForecaster
    >>> features = np.random.default_rng(0).standard_normal((60, 10, 2)).astype(np.float32)
    >>> model = LSTMForecaster(hidden=4, burn_in=5, chunk=20, max_steps=2, n_seeds=1)
    >>> split = integrated_gradients(
    ...     model.fit(features, features[..., 0]), features, row=59, assets=[3, 7]
    ... )
    >>> split.values.shape, bool(np.abs(split.gap).max() < 1e-3)
    ((2, 60, 2), True)
    """
    check_fitted(model, "members_")
    check_integer("steps", steps, at_least=1)
    inputs, chosen = _checked(features, mask, market, row, assets)
    given = check_columns(inputs, model.n_factors_in_, model.n_market_in_, by="the explanation")
    start = _first_row(model, row)
    n_lags = row - start + 1
    if lags is not None:
        n_lags = min(check_integer("lags", lags, at_least=1), n_lags)
        start = max(start, row + 1 - n_lags - model.burn_in)
    window = slice(start, row + 1)
    series = model.market_scale_.apply(inputs.market[window])
    cube, present = inputs.values[window], inputs.present[row]
    shape = (len(chosen), n_lags if lags is None else lags, given[0])
    values, scores, baselines = np.zeros(shape), np.zeros(len(chosen)), np.zeros(len(chosen))
    with one_thread():
        for network in model.members_:
            heads = run(network, cube, series)[-1, :, : model.n_horizons_].astype(np.float64)
            weights, score = linear_in_heads(heads, present)
            x = assemble(cube[:, chosen], series)
            slopes, change = integrate(
                network, x, weights, n_lags, given[0], steps=steps, tolerance=tolerance
            )
            values[:, :n_lags] += slopes / len(model.members_)
            scores += score[chosen] / len(model.members_)
            baselines += (score[chosen] - change) / len(model.members_)
    return Attribution(values, scores, baselines)


def shapley_values(
    model: Forecaster,
    features: ArrayLike,
    *,
    row: int,
    assets: Sequence[int] | NDArray[np.intp],
    rng: np.random.Generator,
    mask: ArrayLike | None = None,
    market: ArrayLike | None = None,
    permutations: int = 8,
) -> Attribution:
    """Shapley values of the factors for any model without memory, sampled over orders.

    In a random order the stock's factors go from 0 to their own values one after the other;
    what the score gains at a factor's turn, averaged over `permutations` orders, is its value.
    Every second order is the one before it reversed. For a linear model the result is exact,
    `coef_` times factor; `gap` is 0 but for rounding in any case. The model's score of a stock
    depends on that stock's features and on the market of the date alone, else it is refused.
    Arguments as in `integrated_gradients`. See Strumbelj, Kononenko (2014),
    https://doi.org/10.1007/s10115-013-0679-x.

    Examples
    --------
    >>> from alphakeel.models.linear import LinearForecaster
    >>> rng = np.random.default_rng(0)
    >>> features = rng.standard_normal((30, 20, 2))
    >>> model = LinearForecaster().fit(features, features @ [1.0, -0.5])
    >>> split = shapley_values(model, features, row=9, assets=[4], rng=rng)
    >>> bool(np.allclose(split.values[0, 0], features[9, 4] * [1.0, -0.5], atol=1e-5))
    True
    """
    check_integer("permutations", permutations, at_least=1)
    inputs, chosen = _checked(features, mask, market, row, assets)
    x = inputs.values[row, chosen]
    n_stocks, n_factors = x.shape
    n_variants = permutations * (n_factors + 1)
    known = model.predict(
        inputs.values[: row + 1], mask=inputs.present[: row + 1], market=inputs.market[: row + 1]
    )[row, chosen].astype(np.float64)
    # Each variant is a date of its own, on which the stocks have so many factors of theirs.
    cube = np.repeat(x[None], n_variants, axis=0)
    path = cube.reshape(permutations, n_factors + 1, n_stocks, n_factors)
    orders = np.empty((permutations, n_stocks, n_factors), dtype=np.intp)
    for p, stock in np.ndindex(permutations, n_stocks):
        orders[p, stock] = orders[p - 1, stock, ::-1] if p % 2 else rng.permutation(n_factors)
        for done in range(n_factors + 1):
            path[p, done, stock, orders[p, stock, done:]] = 0.0
    market_then = np.broadcast_to(inputs.market[row], (n_variants, inputs.market.shape[1]))
    scores = model.predict(cube, market=market_then).astype(np.float64)
    scores = scores.reshape(permutations, n_factors + 1, n_stocks)
    if not np.allclose(scores[:, -1], known, rtol=1e-3, atol=1e-5):
        raise ConfigError(
            f"this {type(model).__name__} scores a stock by earlier dates or by other stocks as "
            "well; Shapley values are for models that do neither"
        )
    gains = np.moveaxis(np.diff(scores, axis=1), 1, 2)
    by_factor = np.empty_like(gains)
    np.put_along_axis(by_factor, orders, gains, axis=2)
    return Attribution(by_factor.mean(axis=0)[:, None], known, scores[:, 0].mean(axis=0))


def _checked(
    features: ArrayLike,
    mask: ArrayLike | None,
    market: ArrayLike | None,
    row: int,
    assets: Sequence[int] | NDArray[np.intp],
) -> tuple[Features, NDArray[np.intp]]:
    inputs = check_features(features, mask, market)
    n_dates, n_assets = inputs.present.shape
    if check_integer("row", row, at_least=0) >= n_dates:
        raise ConfigError(f"row is {row}, but the features end with row {n_dates - 1}")
    chosen = np.asarray(assets, dtype=np.intp)
    if chosen.ndim != 1 or len(chosen) == 0 or chosen.min() < 0 or chosen.max() >= n_assets:
        raise ConfigError(
            f"assets must be a list of columns from 0 to {n_assets - 1}, not {assets!r}"
        )
    absent = chosen[~inputs.present[row, chosen]]
    if len(absent):
        raise DataError(f"the stock in column {absent[0]} has no score in row {row} to explain")
    return inputs, chosen


def _first_row(model: SequenceForecaster, row: int) -> int:
    """The first row that `predict` reads for the score of `row`."""
    if model.warm_up is None:
        return 0
    return max(0, row // model.chunk_ * model.chunk_ - model.warm_up)


def linear_in_heads(heads: Floats, present: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Score of the date as a linear function of its heads: slope of each head, and the score."""
    centred = heads - heads[present].mean(axis=0)
    deviation = heads[present].std(axis=0)
    weights = np.where(deviation > 0, 1.0 / np.where(deviation > 0, deviation, 1.0), 0.0)
    score = centred @ weights
    spread = score[present].std()
    if spread == 0:
        return np.zeros_like(weights), np.zeros_like(score)
    return weights / spread, score / spread


def integrate(
    network: SequenceNetwork,
    inputs: Floats32,
    weights: Floats,
    n_lags: int,
    n_factors: int,
    *,
    steps: int,
    tolerance: float | None,
) -> tuple[Floats, Floats]:
    """Values (n_stocks, n_lags, n_factors), and the change of the score ``outputs[-1] @ weights``.

    `inputs` are (n_rows, n_stocks, n_inputs); `steps` points are doubled while a stock's values
    miss its change by more than `tolerance`, up to `MAX_STEPS`.
    """
    while True:
        values, change = _integrate(network, inputs, weights, n_lags, n_factors, steps)
        missed = float(np.abs(change - values.sum(axis=(1, 2))).max())
        if tolerance is None or not missed > tolerance or 2 * steps > MAX_STEPS:
            return values, change
        steps *= 2


def _integrate(
    network: SequenceNetwork,
    inputs: Floats32,
    weights: Floats,
    n_lags: int,
    n_factors: int,
    steps: int,
) -> tuple[Floats, Floats]:
    """`integrate` with a fixed number of points."""
    device = next(network.parameters()).device
    x = torch.from_numpy(inputs).to(device)
    base = x.clone()
    base[-n_lags:, :, :n_factors] = 0.0
    slope = torch.as_tensor(weights, dtype=x.dtype, device=device)
    nodes, shares = np.polynomial.legendre.leggauss(steps)
    n_rows, n_stocks, _ = x.shape
    stock, node = (grid.ravel() for grid in np.indices((n_stocks, steps)))
    size = max(1, BLOCK_ENTRIES // n_rows)
    mean = np.zeros((n_stocks, n_lags, n_factors))
    with torch.enable_grad():
        for first in range(0, len(stock), size):
            which, where = stock[first : first + size], node[first : first + size]
            place = torch.as_tensor((nodes[where] + 1.0) / 2.0, dtype=x.dtype, device=device)
            point = torch.lerp(base[:, which], x[:, which], place[None, :, None])
            point.requires_grad_()
            outputs = network(point)[0][-1, :, : len(weights)]
            gradient = torch.autograd.grad((outputs @ slope).sum(), point)[0]
            part = gradient[-n_lags:, :, :n_factors].flip(0).transpose(0, 1)
            share = shares[where] / 2.0
            np.add.at(mean, which, part.cpu().numpy() * share[:, None, None])
    with torch.inference_mode():
        ends = network(torch.cat([x, base], dim=1))[0][-1, :, : len(weights)].double().cpu()
    change = (ends[:n_stocks] - ends[n_stocks:]).numpy() @ weights
    distance = (x - base)[-n_lags:, :, :n_factors].flip(0).transpose(0, 1).cpu().numpy()
    return mean * distance, change
