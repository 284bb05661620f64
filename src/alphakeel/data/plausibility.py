"""What the numbers of a source say about how they are to be taken.

A file does not say that its volume counts lots, that its dates are weeks, that a column is an index
or that two tickers are one stock: the numbers show it. Each finding is read rightly with a note, or
refused in a sentence.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from alphakeel.data.columns import same_letters
from alphakeel.data.grid import Grid
from alphakeel.data.validation import Problem, place

__all__ = ["tickers_alike"]


def _prices(grid: Grid) -> NDArray[np.float64]:
    """The prices that returns are taken from."""
    return grid.fields.get("adj_close", grid.fields.get("close", np.empty((0, 0))))


def tickers_alike(grid: Grid, where: str) -> tuple[list[Problem], list[str]]:
    """Tickers that differ in case or Unicode form only: one stock, if never traded together.

    With prices on one date they are two stocks (BACpK is a preferred share, BACPK is none), which a
    note names; without, one stock was written in two ways, which is refused.
    """
    alike: dict[str, list[int]] = defaultdict(list)
    for position, ticker in enumerate(grid.tickers):
        alike[same_letters(str(ticker))].append(position)
    problems, together = [], []
    priced = np.isfinite(_prices(grid))
    for group in alike.values():
        for first, second in pairwise(group):
            names = f"{grid.tickers[first]} and {grid.tickers[second]}"
            if (priced[:, first] & priced[:, second]).any():
                together.append(names)
            else:
                text = (
                    f"{names} differ in case or form of letters only and have no price on the same "
                    f"date: write one of them throughout, if they are one stock, or rename one"
                    f"{place(where)}."
                )
                problems.append(Problem(str(grid.tickers[first]), "", "ticker", text))
    if not together:
        return problems, []
    listed = "; ".join(together[:5])
    return problems, [f"{listed} are taken as two stocks, though their letters differ in case only"]
