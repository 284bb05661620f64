"""Models of the user's as forecasters: of tables of stock-dates, and of sequences.

Every array that is handed over is a copy: whatever the user's code writes into it is lost.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alphakeel.models.base import (
    Features,
    check_columns,
    check_features,
    check_fitted,
    check_targets,
)
from alphakeel.models.custom import OwnForecaster, OwnModel
from alphakeel.models.sampling import MarketScale
from alphakeel.models.tabular import TabularForecaster, rows_of

__all__ = ["SequenceModel", "TableModel"]

Floats32 = NDArray[np.float32]


class TableModel(OwnForecaster, TabularForecaster):
    """An estimator of scikit-learn's kind on a table of stock-dates.

    A row holds the ranks of the factors of one stock on one date, and the market series of that
    date, brought to the mean and the deviation of the training decisions, 0 where unknown. The
    target is the plain average over horizons.
    """

    reads = "row"
    n_seeds = 1

    def __init__(self, own: OwnModel, seed: int) -> None:
        self.own = own
        self.seed = seed

    def _check_settings(self) -> None:
        """Settings are the user's own."""

    def _fit_members(self, inputs: Features, target: Floats32) -> None:
        self.market_scale_ = MarketScale.of(inputs.market)
        known = np.isfinite(target)
        estimator = self.own.estimator(self.seed)
        self.own.call("fit", estimator.fit, self._table(rows_of(inputs, known)), target[known])
        self.estimator_ = estimator

    def _score(self, table: Floats32) -> Floats32:
        returned = self.own.call("predict", self.estimator_.predict, self._table(table))
        return self.own.scores(returned, (len(table),))

    def _table(self, rows: Floats32) -> Floats32:
        """A copy of a table with its market series scaled."""
        factors, market = np.split(rows, [self.n_factors_in_], axis=1)
        return np.concatenate([factors, self.market_scale_.apply(market)], axis=1)


class SequenceModel(OwnForecaster):
    """An estimator with the methods of `Forecaster`, on dates x stocks x factors.

    What is masked is 0 in the features and NaN in the targets; market series are scaled as for
    `TableModel`.
    """

    reads = "past"

    def __init__(self, own: OwnModel, seed: int) -> None:
        self.own = own
        self.seed = seed

    def fit(
        self,
        features: ArrayLike,
        targets: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
    ) -> Self:
        """Fit the user's estimator; arguments as in `Forecaster.fit`."""
        inputs = check_features(features, mask, market)
        known = check_targets(targets, inputs)
        self.market_scale_ = MarketScale.of(inputs.market)
        estimator = self.own.estimator(self.seed)
        cube, keywords = self._given(inputs)
        self.own.call("fit", estimator.fit, cube, known, **keywords)
        self.n_factors_in_, self.n_market_in_ = inputs.values.shape[2], inputs.market.shape[1]
        self.estimator_ = estimator
        return self

    def predict(
        self, features: ArrayLike, *, mask: ArrayLike | None = None, market: ArrayLike | None = None
    ) -> Floats32:
        """Scores of shape (n_dates, n_assets); NaN where masked."""
        check_fitted(self, "estimator_")
        inputs = check_features(features, mask, market)
        check_columns(inputs, self.n_factors_in_, self.n_market_in_)
        cube, keywords = self._given(inputs)
        returned = self.own.call("predict", self.estimator_.predict, cube, **keywords)
        scores = self.own.scores(returned, inputs.present.shape)
        scores[~inputs.present] = np.nan
        return scores

    def _given(self, inputs: Features) -> tuple[Floats32, dict[str, Any]]:
        """Copies of the features, the mask and the market."""
        cube = np.where(inputs.present[..., None], inputs.values, np.float32(0.0))
        market = self.market_scale_.apply(inputs.market)
        return cube, {"mask": inputs.present.copy(), "market": market}
