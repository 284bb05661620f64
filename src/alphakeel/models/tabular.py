"""What models that see one stock-date at a time share: cubes laid out as tables, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alphakeel.errors import DataError
from alphakeel.models.base import (
    Inputs,
    check_columns,
    check_fitted,
    check_inputs,
    check_integers,
    check_targets,
)
from alphakeel.models.state import Persistent

__all__ = ["TabularForecaster", "rows_of"]

Floats32 = NDArray[np.float32]
Bools = NDArray[np.bool_]

# Prediction lays out about this many values at a time.
BLOCK_VALUES = 1_000_000


class TabularForecaster(Persistent, ABC):
    """Base of the forecasters without memory that are fitted on a table of stock-dates.

    A row of the table holds the factors of one stock on one date and the market series of that
    date. With several horizons the target is their plain average, over entries where all are
    known, as in `LinearForecaster`. Several members that differ in their seeds are averaged.

    Attributes
    ----------
    n_factors_in_, n_market_in_ : int
        Factors and market series of the fit.
    """

    label: ClassVar[str]
    n_seeds: int
    seed: int

    def fit(
        self,
        features: ArrayLike,
        targets: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
    ) -> Self:
        """Fit the members; arguments as in `Forecaster.fit`.

        Raises
        ------
        ConfigError
            If a setting is out of range, there is no factor, or a needed package is absent.
        DataError
            If shapes do not fit, or too little is known.
        """
        check_integers(self, "n_seeds", at_least=1)
        check_integers(self, "seed", at_least=0)
        self._check_settings()
        inputs = check_inputs(features, mask, market)
        goals = check_targets(targets, inputs).mean(axis=2)
        if not np.isfinite(goals).any():
            raise DataError("no entry has all horizons known; there is nothing to learn from")
        self.n_factors_in_, self.n_market_in_ = inputs.features.shape[2], inputs.market.shape[1]
        self._fit_members(inputs, goals)
        return self

    def predict(
        self,
        features: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
    ) -> Floats32:
        """Mean score of the members, of shape (n_dates, n_assets); NaN where masked.

        Raises
        ------
        NotFittedError
            If the model has not been fitted.
        DataError
            If the factors or market series differ in number from the fit's.
        """
        check_fitted(self, "n_factors_in_")
        inputs = check_inputs(features, mask, market)
        given = check_columns(inputs, self.n_factors_in_, self.n_market_in_)
        scores = np.full(inputs.present.shape, np.nan, dtype=np.float32)
        step = max(1, BLOCK_VALUES // (inputs.present.shape[1] * sum(given)))
        for start in range(0, len(scores), step):
            rows = slice(start, start + step)
            present = inputs.present[rows]
            # Absent stocks are scored as zeros and dropped: were they left out, the shape of the
            # table, and with it the last bits of its products, would hang on other dates' masks.
            table = np.zeros((*present.shape, sum(given)), dtype=np.float32)
            table[..., : given[0]][present] = inputs.features[rows][present]
            table[..., given[0] :] = inputs.market[rows, None]
            found = self._score(table.reshape(-1, sum(given))).reshape(present.shape)
            scores[rows][present] = found[present]
        return scores

    @abstractmethod
    def _check_settings(self) -> None:
        """Refuse settings out of range."""

    @abstractmethod
    def _fit_members(self, inputs: Inputs, goals: Floats32) -> None:
        """Fit on the entries whose goal, of shape (n_dates, n_assets), is finite."""

    @abstractmethod
    def _score(self, table: Floats32) -> Floats32:
        """Score each row of a table laid out as by `rows_of`."""


def rows_of(inputs: Inputs, chosen: Bools) -> Floats32:
    """Chosen stock-dates as a table of shape (n_chosen, n_factors + n_series), dates first.

    Market series may be NaN or infinite: that is for the model to settle.

    Examples
    --------
    >>> inputs = check_inputs(np.ones((2, 3, 1)), market=[[5.0], [7.0]])
    >>> rows_of(inputs, np.eye(2, 3, dtype=bool))
    array([[1., 5.],
           [1., 7.]], dtype=float32)
    """
    dates = np.nonzero(chosen)[0]
    n_factors = inputs.features.shape[2]
    table = np.empty((len(dates), n_factors + inputs.market.shape[1]), dtype=np.float32)
    table[:, :n_factors] = inputs.features[chosen]
    table[:, n_factors:] = inputs.market[dates]
    return table
