"""What figures of daily returns share: the form returns have to have, and a safe quotient."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alphakeel.errors import DataError

__all__ = ["Array", "Statistic", "check_returns", "days_last", "ratio", "refuse_ruin"]

Array = NDArray[np.float64]
Statistic: TypeAlias = np.float64 | Array


def check_returns(values: ArrayLike, *, least: int = 2, name: str = "returns") -> Array:
    """One or several series as finite float64, long enough; refused where a value is missing."""
    r = np.asarray(values, dtype=np.float64)
    if r.ndim not in (1, 2):
        raise DataError(
            f"{name} must have shape (n_dates,) or (n_dates, n_columns), got {r.shape}."
        )
    if len(r) < least:
        raise DataError(f"{name} cover {len(r)} days; at least {least} are needed.")
    known = np.isfinite(r)
    if not known.all():
        where = tuple(int(i) for i in np.argwhere(~known)[0])
        raise DataError(
            f"{name} hold {r[where]} at row {where[0]}"
            + (f", column {where[1]}" if r.ndim == 2 else "")
            + "; every day of a strategy must be known: fill or cut it before measuring."
        )
    return r


def refuse_ruin(r: Array) -> None:
    """Refuse a loss of more than everything, through which wealth cannot be compounded."""
    if r.size and r.min() < -1.0:
        row = int(np.argwhere(r < -1.0)[0][0])
        raise DataError(
            f"returns fall below -1 at row {row} ({r.min()}): wealth cannot be compounded "
            "through a loss of more than everything."
        )


def ratio(numerator: Statistic, denominator: Statistic | float) -> Statistic:
    """Quotient, NaN over a zero."""
    bottom = np.asarray(denominator, dtype=np.float64)
    safe = np.where(bottom != 0.0, bottom, 1.0)
    return np.where(bottom != 0.0, numerator / safe, np.nan)[()]


def days_last(r: Array) -> Array:
    """Days last and contiguous: NumPy sorts that axis several times as fast."""
    return np.ascontiguousarray(r.T)
