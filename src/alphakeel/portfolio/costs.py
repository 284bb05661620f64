"""What trading costs: one call prices the orders of one date.

A cost model answers :meth:`CostModel.charge` for the orders of one date, in currency, one cost
a stock. It is handed the row of the date, so that a dated schedule (commission, stamp tax) or
one that depends on that day's volume (impact) looks its own numbers up by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError

__all__ = ["CostModel", "ProportionalCost"]

FloatArray = npt.NDArray[np.float64]


class CostModel(Protocol):
    """The cost of a date's orders.

    The backtest asks several times a date while it sizes the orders, so an answer may depend
    on nothing but the arguments. An order of zero costs zero, and the cost of an order grows
    by less than its size.
    """

    def charge(self, trades: FloatArray, row: int, *, out: FloatArray | None = None) -> FloatArray:
        """Cost of every order of one date.

        Parameters
        ----------
        trades : ndarray of shape (n_assets,)
            Signed orders in currency: positive buys, negative sells. Not changed.
        row : int
            Row of the date on the time axis of the backtest.
        out : ndarray of shape (n_assets,), optional
            Where to write the answer, so that a loop over dates allocates nothing.

        Returns
        -------
        ndarray of shape (n_assets,)
            Costs in currency, never negative.
        """
        ...


@dataclass(frozen=True, slots=True)
class ProportionalCost:
    """The same share of the traded value for every buy and every sell.

    Parameters
    ----------
    rate : float, default=0.001
        Cost of one side as a fraction of the traded value (0.001 is 10 basis points), in
        [0, 0.1].

    Raises
    ------
    ConfigError
        If `rate` is out of range, as when basis points are given for a fraction.

    Examples
    --------
    >>> ProportionalCost(0.001).charge(np.array([100.0, -50.0, 0.0]), row=0)
    array([0.1 , 0.05, 0.  ])
    """

    rate: float = 0.001

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate <= 0.1:
            raise ConfigError(
                f"cost rate {self.rate!r} is outside [0, 0.1]; give a fraction of the traded "
                "value a side (10 basis points are 0.001)"
            )

    def charge(self, trades: FloatArray, row: int, *, out: FloatArray | None = None) -> FloatArray:  # noqa: ARG002
        """Cost of every order, `rate` times its absolute value; see :meth:`CostModel.charge`."""
        costs = np.abs(trades, out=out)
        costs *= self.rate
        return costs
