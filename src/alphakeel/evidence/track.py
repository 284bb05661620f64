"""The record of a portfolio that tables read: returns before and after costs, and turnover."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Outcome", "Track", "outcome_of"]

Floats = npt.NDArray[np.floating[Any]]


class Track(Protocol):
    """What a table needs of a backtest; a `Ledger` has it, and so has an `Outcome`."""

    @property
    def net_returns(self) -> Floats:
        """Simple returns of each day after costs."""
        ...

    @property
    def gross_returns(self) -> Floats:
        """The same before that day's costs."""
        ...

    @property
    def turnover(self) -> Floats:
        """Value bought plus sold, over wealth."""
        ...

    @property
    def invested(self) -> Floats:
        """Share of wealth in stocks after each day's trades."""
        ...


@dataclass(frozen=True, eq=False)
class Outcome:
    """What is kept of a backtest that was one of many, or of some of its days."""

    net_returns: Floats
    gross_returns: Floats
    turnover: Floats
    invested: Floats


def outcome_of(track: Track, days: slice = slice(None)) -> Outcome:
    """Returns, turnover and share of wealth invested of a backtest, on some of its days."""
    return Outcome(
        track.net_returns[days],
        track.gross_returns[days],
        track.turnover[days],
        track.invested[days],
    )
