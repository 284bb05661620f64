"""The contract that every forecaster keeps, and the checks that they share.

A forecaster sees arrays only. Time comes first: row t is a decision date, and what it may use
for row t are rows 0 to t. Features arrive standardised per date (0 stands for missing), targets
are what followed each date and are NaN where unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alphakeel.errors import ConfigError, DataError, NotFittedError
from alphakeel.models.persistence import ModelState

__all__ = [
    "AllocatingForecaster",
    "EnsembleForecaster",
    "Features",
    "Forecaster",
    "Memory",
    "Prediction",
    "RememberingForecaster",
    "check_columns",
    "check_features",
    "check_fitted",
    "check_integer",
    "check_integers",
    "check_number",
    "check_targets",
]

Floats32 = NDArray[np.float32]
Bools = NDArray[np.bool_]


@runtime_checkable
class Forecaster(Protocol):
    """What the study asks of a model: fit on the past, score every stock on every date.

    Implementations follow scikit-learn: `__init__` only stores its arguments, `fit` checks them
    and returns the object, learned state ends in an underscore.
    """

    def fit(
        self,
        features: ArrayLike,
        targets: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
    ) -> Self:
        """Learn from training rows only.

        Parameters
        ----------
        features : array of shape (n_dates, n_assets, n_factors)
            Standardised factors known at each date; 0 stands for missing. An entry with a NaN
            or infinite factor counts as masked.
        targets : array of shape (n_dates, n_assets) or (n_dates, n_assets, n_horizons)
            What followed; NaN where unknown.
        mask : bool array of shape (n_dates, n_assets), optional
            False removes an entry from the loss and from every cross-section.
        market : array of shape (n_dates, n_series), optional
            Series equal for all stocks on a date (index trend, volatility); NaN is unknown.
        """
        ...

    def predict(
        self,
        features: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
    ) -> Floats32:
        """Scores of shape (n_dates, n_assets), float32; row t reads rows 0 to t only.

        Higher means a better expected rank on that date. Only differences within a date mean
        anything. NaN where masked, or where the model cannot say.
        """
        ...

    def state(self) -> ModelState:
        """Everything learned, from which `alphakeel.models.restore` makes the model again."""
        ...


@runtime_checkable
class AllocatingForecaster(Forecaster, Protocol):
    """A forecaster that also says how to divide the wealth between the stocks."""

    def predict_weights(
        self,
        features: ArrayLike,
        *,
        volatility: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Composition of shape (n_dates, n_assets); row t reads rows 0 to t only."""
        ...

    def factor_rows(self, n_dates: int) -> NDArray[np.float64]:
        """Safety factors of its limits on so many rows, (n_dates, n_limits)."""
        ...


@runtime_checkable
class EnsembleForecaster(Forecaster, Protocol):
    """A forecaster made of several members."""

    def predict_members(
        self, features: ArrayLike, *, mask: ArrayLike | None = None, market: ArrayLike | None = None
    ) -> Floats32:
        """Scores of each member, (n_members, n_dates, n_assets)."""
        ...


@dataclass(frozen=True, eq=False)
class Memory:
    """What a model with a memory carries from the rows that it has read to those that follow.

    Attributes
    ----------
    row : int
        Rows that were read.
    arrays : dict of str to ndarray
        By name, with the stocks on axis 1.
    """

    row: int
    arrays: dict[str, NDArray[np.float32 | np.float64]]

    def of_stocks(self, columns: NDArray[np.intp]) -> Memory:
        """The memory of some stocks, in this order."""
        return Memory(self.row, {k: np.take(x, columns, axis=1) for k, x in self.arrays.items()})

    def beside(self, other: Memory) -> Memory:
        """The memory of these stocks and then of others, after the same rows."""
        joined = {k: np.concatenate([x, other.arrays[k]], axis=1) for k, x in self.arrays.items()}
        return Memory(self.row, joined)


@dataclass(frozen=True, eq=False)
class Prediction:
    """Scores and weights as `Forecaster` and `AllocatingForecaster` give them, and the memory.

    `weights` is None of a model without them, `memory` of a model that starts anew now and then.
    """

    scores: Floats32
    weights: NDArray[np.float64] | None
    memory: Memory | None


@runtime_checkable
class RememberingForecaster(Forecaster, Protocol):
    """A forecaster whose predictions can go on from where earlier ones ended."""

    def predict_from(
        self,
        memory: Memory | None,
        features: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
        volatility: ArrayLike | None = None,
    ) -> Prediction:
        """Scores (and weights) of rows that follow a memory, None being before any row.

        They are those of one call over all rows, to the bit. `volatility` is for models that
        allocate.
        """
        ...


@dataclass(frozen=True)
class Features:
    """Checked features of one call.

    `values` (dates, assets, factors) and `market` (dates, series) are as given; `present` is
    True inside the mask where every factor is finite. Elsewhere `values` may hold anything.
    """

    values: Floats32
    present: Bools
    market: Floats32


def check_features(
    features: ArrayLike, mask: ArrayLike | None = None, market: ArrayLike | None = None
) -> Features:
    """Check shapes and mark the entries that may be used; an infinite value counts as missing."""
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which counts as missing
        values = np.asarray(features, dtype=np.float32)
    if values.ndim != 3:
        raise DataError(
            f"features have {values.ndim} axes; give (dates, assets, factors), also for one factor"
        )
    n_dates, n_assets, n_factors = values.shape
    if n_factors == 0:
        raise ConfigError("no factor is left to learn from; keep at least one")
    if n_dates == 0 or n_assets == 0:
        raise DataError(f"features hold no entry: {n_dates} dates x {n_assets} assets")
    # Sums carry NaN and infinities through, at a fraction of the memory of isfinite on everything.
    with np.errstate(invalid="ignore"):
        present = np.isfinite(values.sum(axis=2, dtype=np.float64))
    if mask is not None:
        allowed = np.asarray(mask, dtype=bool)
        if allowed.shape != (n_dates, n_assets):
            raise DataError(
                f"mask has shape {allowed.shape}, but the features have {n_dates} dates and "
                f"{n_assets} assets"
            )
        present &= allowed
    if market is None:
        return Features(values, present, np.empty((n_dates, 0), dtype=np.float32))
    with np.errstate(over="ignore"):
        series = np.asarray(market, dtype=np.float32)
    if series.ndim != 2 or len(series) != n_dates:
        raise DataError(
            f"market has shape {series.shape}; give (dates, series) with {n_dates} dates"
        )
    return Features(values, present, series)


def check_targets(targets: ArrayLike, inputs: Features) -> Floats32:
    """A copy of the targets as float32 of shape (n_dates, n_assets, n_horizons).

    NaN where unknown or not present in `inputs`, so that they say by themselves what enters a
    loss.
    """
    with np.errstate(over="ignore"):
        values = np.array(targets, dtype=np.float32)
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[:2] != inputs.present.shape or values.shape[2] == 0:
        raise DataError(
            f"targets have shape {np.shape(targets)}, but the features have "
            f"{inputs.present.shape[0]} dates and {inputs.present.shape[1]} assets"
        )
    values[~(np.isfinite(values) & inputs.present[..., None])] = np.nan
    if np.isnan(values).all():
        raise DataError("no target is known inside the mask; there is nothing to learn from")
    return values


def check_fitted(model: object, learned: str) -> None:
    """Raise NotFittedError if the model lacks the attribute that its fit ends with."""
    if not hasattr(model, learned):
        raise NotFittedError(f"this {type(model).__name__} is not fitted; call fit first")


def check_columns(
    inputs: Features, n_factors: int, n_market: int, *, by: str = "predict"
) -> tuple[int, int]:
    """Number of factors and of market series; a DataError if they are not those of the fit."""
    given = (inputs.values.shape[2], inputs.market.shape[1])
    if given != (n_factors, n_market):
        raise DataError(
            f"the model was fitted on {n_factors} factors and {n_market} market series, but {by} "
            f"was given {given[0]} and {given[1]}"
        )
    return given


def check_integer(name: str, value: object, *, at_least: int) -> int:
    """Return a whole number, or raise a ConfigError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < at_least:
        raise ConfigError(f"{name} must be a whole number of at least {at_least}, not {value!r}")
    return int(value)


def check_integers(owner: object, *names: str, at_least: int) -> None:
    """`check_integer` for several settings of an object."""
    for name in names:
        check_integer(name, getattr(owner, name), at_least=at_least)


def check_number(
    name: str,
    value: object,
    *,
    low: float,
    high: float = float("inf"),
    low_open: bool = False,
    high_open: bool = True,
) -> float:
    """Return a finite number within its range, or raise a ConfigError."""
    number = np.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    above = number > low if low_open else number >= low
    below = number < high if high_open else number <= high
    if not (np.isfinite(number) and above and below):
        left, right = "(" if low_open else "[", ")" if high_open else "]"
        raise ConfigError(
            f"{name} must be a number in {left}{low:g}, {high:g}{right}, not {value!r}"
        )
    return number
