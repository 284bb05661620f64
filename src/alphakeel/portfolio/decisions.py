"""What each decision knows, cut from the whole history without looking past its row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError, DataError
from alphakeel.portfolio.covariance import COVARIANCES
from alphakeel.portfolio.forecast import check_rows
from alphakeel.portfolio.limits import PERIODS, Decision, Limits

__all__ = ["Inputs", "drifted"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# Fewer scenarios say nothing about a tail: the book stays in cash until there are so many.
MIN_SCENARIOS = 20


def drifted(weights: FloatArray, returns: FloatArray) -> FloatArray:
    """Weights after some days of returns without trades; cash earns nothing.

    Parameters
    ----------
    weights : ndarray of shape (n_assets,)
        Share of wealth in each stock, negative for shorts.
    returns : ndarray of shape (n_days, n_assets)
        Simple returns; NaN counts as zero.

    Returns
    -------
    ndarray of shape (n_assets,)

    Examples
    --------
    >>> drifted(np.array([0.5, 0.5]), np.array([[1.0, 0.0]])).round(4)
    array([0.6667, 0.3333])
    """
    values = weights * np.prod(1.0 + np.nan_to_num(returns, nan=0.0), axis=0)
    return np.asarray(values / (1.0 + values.sum() - weights.sum()))


class Inputs:
    """Checked inputs of all decisions.

    Parameters are those of :func:`.optimise.allocate`.

    Raises
    ------
    ConfigError
        If a limit needs an input that is missing.
    DataError
        If shapes do not fit.
    """

    def __init__(
        self,
        returns: FloatArray,
        rows: IntArray,
        eligible: BoolArray,
        *,
        limits: Limits,
        scores: FloatArray | None,
        volatility: FloatArray | None,
        tradable: BoolArray | None,
        sectors: IntArray | None,
        betas: FloatArray | None,
    ) -> None:
        self.returns = np.asarray(returns, np.float64)
        self.eligible = np.asarray(eligible)
        if self.returns.ndim != 2 or np.isinf(self.returns).any():
            raise DataError("returns have to be finite or NaN, of shape (n_dates, n_assets)")
        n_rows, n_assets = len(np.atleast_1d(rows)), self.returns.shape[1]
        if self.eligible.shape != (n_rows, n_assets) or self.eligible.dtype != np.bool_:
            raise DataError(
                f"eligible has shape {self.eligible.shape} and type {self.eligible.dtype}; give "
                f"bool of {(n_rows, n_assets)}"
            )
        self.rows = check_rows(rows, n_rows, len(self.returns))
        if (np.diff(self.rows) <= 0).any():
            raise DataError("rows have to rise from decision to decision")
        if limits.sector_limit is not None and sectors is None:
            raise ConfigError("the sector limit needs the stocks' sectors")
        if limits.neutral == "beta" and betas is None:
            raise ConfigError("a beta-neutral book needs the stocks' betas")
        shape = self.eligible.shape
        self.scores = _fitting("scores", scores, shape)
        self.volatility = _fitting("volatility", volatility, shape)
        self.betas = _fitting("betas", betas, shape)
        self.tradable = _fitting("tradable", tradable, shape)
        if sectors is not None and np.ndim(sectors) == 1:
            sectors = np.tile(sectors, (n_rows, 1))
        self.sectors = _fitting("sectors", sectors, shape)

    def present(self, i: int, held: FloatArray) -> FloatArray:
        """What is held without stocks that have ended: those are paid out in cash."""
        ended = np.isnan(self.returns[self.rows[i]]) & ~self.eligible[i]
        return np.where(ended, 0.0, held)

    def frozen(self, i: int) -> BoolArray:
        """Stocks that cannot be traded."""
        if self.tradable is None:
            return np.zeros(self.eligible.shape[1], dtype=np.bool_)
        return np.asarray(~self.tradable[i])

    def decision(
        self,
        i: int,
        held: FloatArray,
        *,
        window: int,
        min_share: float,
        covariance: str,
        scored: bool,
    ) -> Decision | None:
        """Everything about decision `i`, or None without a candidate or enough history."""
        row = int(self.rows[i])
        start = max(0, row - window + 1)
        past = self.returns[start : row + 1]
        if len(past) < MIN_SCENARIOS:
            return None
        enough = (~np.isnan(past)).sum(axis=0) >= min_share * len(past)
        can_hold, stuck = self.eligible[i] & enough, self.frozen(i)
        columns = np.flatnonzero((can_hold & ~stuck) | (held != 0.0))
        if columns.size == 0:
            return None
        mine, can_hold, stuck = held[columns], can_hold[columns], stuck[columns]
        room = np.where(can_hold, np.inf, 0.0)
        if scored and self.scores is not None:
            room[can_hold & np.isnan(self.scores[i, columns])] = -1.0
            room = np.where(room < 0.0, np.abs(mine), room)
        room = np.where(stuck & self.eligible[i, columns], np.abs(mine), room)
        scenarios = _without_gaps(past[:, columns])
        estimate = COVARIANCES[covariance](scenarios)
        if self.volatility is not None:
            estimate = estimate.rescaled(self.volatility[i, columns] / PERIODS**0.5)
        betas = np.ones(columns.size) if self.betas is None else self.betas[i, columns]
        return Decision(
            columns=columns,
            held=mine,
            room=room,
            frozen=stuck,
            scenarios=scenarios,
            rows=np.arange(start, row + 1),
            covariance=estimate,
            sectors=self._sector_rows(i, columns, can_hold),
            betas=np.where(np.isnan(betas), 1.0, betas),
        )

    def _sector_rows(self, i: int, columns: IntArray, can_hold: BoolArray) -> FloatArray:
        if self.sectors is None:
            return np.zeros((0, columns.size))
        labels = self.sectors[i, columns]
        member = (labels[None, :] == np.unique(labels)[:, None]).astype(np.float64)
        share = member @ can_hold / max(int(can_hold.sum()), 1)
        return np.asarray(member - share[:, None])


def _without_gaps(past: FloatArray) -> FloatArray:
    """Returns whose gaps hold the mean of the others on that day (zero if there are none)."""
    known = ~np.isnan(past)
    filled = np.where(known, past, 0.0)
    if known.all():
        return filled
    mean = filled.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.where(known, filled, mean[:, None])


def _fitting(name: str, values: npt.ArrayLike | None, shape: tuple[int, int]) -> FloatArray | None:
    if values is None:
        return None
    array = np.asarray(values)
    if array.shape != shape:
        raise DataError(f"{name} have shape {array.shape}; give {shape}")
    return array
