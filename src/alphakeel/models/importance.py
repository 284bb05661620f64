"""Which factors drive the scores: in general, and for one stock on one day.

How much of the forecast's quality hangs on a factor: shuffle it, and see what becomes of the
Rank IC (`permutation_importance`). How much of the scores themselves comes from a factor, and
from how far back: split them (`models.attribution`). A factor may do much to the scores and
nothing for their quality; `Drivers` has both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from alphakeel.errors import ConfigError, DataError
from alphakeel.models.attribution import attribute
from alphakeel.models.base import Forecaster, check_features, check_integer
from alphakeel.models.custom_forecasters import SequenceModel
from alphakeel.models.sequence import SequenceForecaster
from alphakeel.stats.cross_section import rank_ic

__all__ = ["Drivers", "Importance", "explain_score", "find_drivers", "permutation_importance"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Importance:
    """Rank IC with all factors as they are, and with one of them shuffled.

    `base` (n_rows,) is averaged over horizons, NaN where there is none; `shuffled` is
    (n_repeats, n_rows, n_factors).
    """

    base: Floats
    shuffled: Floats

    @property
    def drop(self) -> Floats:
        """Rank IC lost with each factor shuffled, (n_rows, n_factors); above 0 it helps."""
        return self.base[:, None] - self.shuffled.mean(axis=0)


@dataclass(frozen=True, eq=False)
class Drivers:
    """What drove the scores of one fit, on rows that it has not seen.

    `drop` (n_rows, n_factors) is the Rank IC lost with a factor shuffled, NaN where there is
    none. `attribution` (n_lags, n_factors) is the mean absolute share of a factor at a lag in
    the scores; all add up to 1, or are 0 if the scores of a date never differ. Lag 0 is the
    date of the score, the only one for models without memory. NaN for a model of the user's that
    may read earlier dates and other stocks.
    """

    names: tuple[str, ...]
    drop: Floats
    attribution: Floats


def permutation_importance(
    model: Forecaster,
    features: ArrayLike,
    targets: ArrayLike,
    *,
    rng: np.random.Generator,
    rows: slice | NDArray[np.intp] | None = None,
    mask: ArrayLike | None = None,
    market: ArrayLike | None = None,
    repeats: int = 5,
) -> Importance:
    """Shuffle one factor at a time across the stocks of each date, and measure the Rank IC.

    A shuffled factor keeps its distribution on every date and loses its link with the stocks.
    It is shuffled in all rows, so that no memory of the model can keep what the date hides. Two
    factors that say the same stand in for each other: neither seems to matter alone. See
    Breiman (2001), "Random Forests", https://doi.org/10.1023/A:1010933404324.

    Parameters
    ----------
    model : Forecaster
        Fitted, on rows before those measured.
    features, mask, market
        As in `Forecaster.predict`.
    targets : array of shape (n_dates, n_assets) or (n_dates, n_assets, n_horizons)
        What followed; NaN where unknown.
    rng : numpy Generator
        Source of the shuffles.
    rows : slice or ndarray of int, optional
        Rows measured; the others only feed the model's memory. All by default.
    repeats : int, default=5
        Shuffles of each factor, ``repeats * n_factors + 1`` predictions in all.

    Examples
    --------
    >>> from alphakeel.models.linear import LinearForecaster
    >>> rng = np.random.default_rng(0)
    >>> features = rng.standard_normal((40, 30, 2))
    >>> targets = features[..., 0]
    >>> model = LinearForecaster().fit(features, targets)
    >>> permutation_importance(model, features, targets, rng=rng).drop.mean(axis=0).round(1)
    array([1., 0.])
    """
    check_integer("repeats", repeats, at_least=1)
    inputs = check_features(features, mask, market)
    targets = np.asarray(targets, dtype=np.float64)
    if targets.ndim not in (2, 3) or targets.shape[:2] != inputs.present.shape:
        raise DataError(
            f"targets have shape {targets.shape}, but the features have "
            f"{inputs.present.shape[0]} dates and {inputs.present.shape[1]} assets"
        )
    rows = slice(None) if rows is None else rows
    targets = targets[rows].reshape(*targets[rows].shape[:2], -1)

    def measure(cube: NDArray[np.float32]) -> Floats:
        scores = model.predict(cube, mask=inputs.present, market=inputs.market)
        return rank_ic(scores[rows], targets).mean(axis=1)

    cube = np.array(inputs.values)
    base = measure(cube)
    shuffled = np.empty((repeats, len(base), cube.shape[2]))
    here = np.argsort(~inputs.present, axis=1, kind="stable")
    for repeat in range(repeats):
        keys = np.where(inputs.present, rng.random(inputs.present.shape), 2.0)
        other = np.argsort(keys, axis=1, kind="stable")
        for k in range(cube.shape[2]):
            own = inputs.values[:, :, k]
            # What is absent comes last in both orders, and so stays where it is.
            np.put_along_axis(cube[:, :, k], here, np.take_along_axis(own, other, axis=1), axis=1)
            shuffled[repeat, :, k] = measure(cube)
            cube[:, :, k] = own
    return Importance(base, shuffled)


def find_drivers(
    model: Forecaster,
    features: ArrayLike,
    targets: ArrayLike,
    *,
    names: Sequence[str],
    rng: np.random.Generator,
    rows: slice | NDArray[np.intp],
    mask: ArrayLike | None = None,
    market: ArrayLike | None = None,
    repeats: int = 2,
    lags: int = 26,
    dates: int = 4,
    max_assets: int = 150,
    explained_assets: int = 25,
) -> Drivers:
    """Permutation importance and mean absolute attributions, at a bounded cost.

    Arguments as in `permutation_importance`; the state of a network starts with the first row
    given, so give some before `rows`. Of more than `max_assets` stocks as many are drawn at
    random: the Rank IC is then that of a smaller universe, the same in expectation and less
    exact. Attributed are the scores of `explained_assets` random stocks on each of `dates`
    dates, evenly spread over `rows`.
    """
    inputs = check_features(features, mask, market)
    targets = np.asarray(targets)
    if len(names) != inputs.values.shape[2]:
        raise ConfigError(f"{len(names)} names for {inputs.values.shape[2]} factors")
    check_integer("dates", dates, at_least=1)
    check_integer("explained_assets", explained_assets, at_least=1)
    n_assets = inputs.values.shape[1]
    if n_assets > check_integer("max_assets", max_assets, at_least=2):
        some = np.sort(rng.choice(n_assets, size=max_assets, replace=False))
        inputs = check_features(inputs.values[:, some], inputs.present[:, some], inputs.market)
        targets = targets[:, some]
    if not isinstance(model, (SequenceForecaster, SequenceModel)):  # no memory to warm up
        inputs = check_features(inputs.values[rows], inputs.present[rows], inputs.market[rows])
        targets, rows = targets[rows], slice(None)
    given = {"mask": inputs.present, "market": inputs.market}
    importance = permutation_importance(
        model, inputs.values, targets, rng=rng, rows=rows, repeats=repeats, **given
    )
    if isinstance(model, SequenceModel):
        return Drivers(tuple(names), importance.drop, np.full((1, len(names)), np.nan))
    measured = np.arange(len(inputs.values))[rows]
    parts = []
    for row in measured[np.unique(np.linspace(0, len(measured) - 1, dates).round().astype(int))]:
        listed = np.flatnonzero(inputs.present[row])
        if len(listed) < 2:
            continue
        some = np.sort(rng.choice(listed, size=min(len(listed), explained_assets), replace=False))
        attribution = attribute(
            model,
            inputs.values,
            row=int(row),
            assets=some,
            rng=rng,
            lags=lags,
            steps=8,
            tolerance=None,
            **given,
        )
        parts.append(attribution.mean_absolute())
    total = np.mean(parts, axis=0) if parts else np.zeros((1, len(names)))
    return Drivers(tuple(names), importance.drop, total / (total.sum() or 1.0))


def explain_score(
    model: Forecaster,
    features: ArrayLike,
    market: ArrayLike | None,
    mask: ArrayLike | None,
    row: int,
    asset: int,
    factor_names: Sequence[str],
    *,
    lags: int | None = None,
    steps: int = 32,
    top: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """Why one stock has its score on one day.

    Parameters
    ----------
    model : Forecaster
        Fitted. A network is explained by integrated gradients, another model by Shapley values.
    features, market, mask
        As in `Forecaster.predict`; rows after `row` are not read.
    row, asset : int
        The day and the stock; it has a score on that day.
    factor_names : sequence of str
        Names of the factors, in their order.
    lags, steps
        As in `integrated_gradients`.
    top : int, default=3
        Lags named for each factor.
    seed : int, default=0
        Of the orders that Shapley values are sampled from.

    Returns
    -------
    DataFrame, one row a factor, the largest contribution (up or down) first
        factor; value (its standardised rank on that day); contribution (in units of the score;
        all of them add up to `score` less `baseline`); top_lags (the rows back from which most of
        it came, as text, the largest first). ``attrs`` has `score`, `baseline` (the score in the
        middle of every ranking) and `gap` (the error of the sum).

    Raises
    ------
    ConfigError
        If the names do not match the factors, or a number is out of range.
    DataError
        If shapes do not fit, or the stock has no score on that day.

    Examples
    --------
    >>> from alphakeel.models.linear import LinearForecaster
    >>> features = np.random.default_rng(0).standard_normal((30, 20, 2))
    >>> model = LinearForecaster().fit(features, features @ [1.0, -0.5])
    >>> explain_score(model, features, None, None, 9, 4, ["momentum", "size"]).factor.tolist()
    ['momentum', 'size']
    """
    shape = np.shape(features)
    if len(shape) == 3 and len(factor_names) != shape[2]:
        raise ConfigError(f"{len(factor_names)} factor names for {shape[2]} factors")
    check_integer("top", top, at_least=1)
    attribution = attribute(
        model,
        features,
        row=row,
        assets=[asset],
        rng=np.random.default_rng(seed),
        mask=mask,
        market=market,
        lags=lags,
        steps=steps,
    )
    values = attribution.values[0]
    order = np.argsort(-np.abs(values), axis=0, kind="stable")[:top]
    table = pd.DataFrame(
        {
            "factor": list(factor_names),
            "value": np.asarray(features)[row, asset].astype(np.float64),
            "contribution": values.sum(axis=0),
            "top_lags": [
                ", ".join(str(lag) for lag in lags_of if values[lag, k] != 0.0)
                for k, lags_of in enumerate(order.T)
            ],
        }
    )
    table = table.sort_values("contribution", key=np.abs, ascending=False, kind="stable")
    table = table.reset_index(drop=True)
    table.attrs = {
        "score": float(attribution.scores[0]),
        "baseline": float(attribution.baselines[0]),
        "gap": float(attribution.gap[0]),
    }
    return table
