"""What a section is made of, and the view of a study that all sections share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from alphakeel.backtest.ledger import Ledger
from alphakeel.model_factory import EQUAL_WEIGHT, LABELS, under_overlay
from alphakeel.report.table_cells import Table, make_table, show
from alphakeel.results import Study

if TYPE_CHECKING:
    from alphakeel.selection.trial_log import TestSetUse

__all__ = [
    "YEAR",
    "Array",
    "Block",
    "Chart",
    "Section",
    "View",
    "Words",
    "hero_of",
    "listing",
    "pivot",
]

Array = npt.NDArray[np.float64]

YEAR = 252
LONGEST_TABLE = 12


@dataclass(frozen=True)
class Chart:
    """A figure, what it shows, its numbers in words, and (unseen) where else to find them."""

    key: str
    figure: go.Figure
    caption: str
    note: str = ""
    alt: str = ""
    narrow: bool = False
    kind: str = "chart"


@dataclass(frozen=True)
class Words:
    """Paragraphs, a list, pairs of term and meaning, or preformatted text."""

    kind: str
    items: tuple[Any, ...]
    title: str = ""


Block = Chart | Table | Words


@dataclass(frozen=True)
class Section:
    """One heading of the report and what stands under it."""

    key: str
    title: str
    lead: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class View:
    """A study with its tables computed once, cut to the days of the test.

    `net` has every strategy, bare and then under the overlay. `focus` names those that charts
    show unasked: the hero and the linear benchmark, bare and under the overlay. `seen` tells how
    many studies of these data there were, where they are counted.
    """

    study: Study
    tables: Mapping[str, pd.DataFrame]
    dates: npt.NDArray[np.datetime64]
    net: Mapping[str, Array]
    hero: str
    focus: tuple[str, ...]
    seen: TestSetUse | None = None

    @classmethod
    def of(cls, study: Study, seen: TestSetUse | None = None) -> View:
        """Compute the tables (the bootstrap runs here) and pick the strategy in focus."""
        hero = hero_of(study)
        net = {name: ledger.net_returns for name, ledger in study.every_ledger().items()}
        pair = [n for n in dict.fromkeys((hero, LABELS["linear"])) if n in net]
        focus = (*pair, *(n for n in map(under_overlay, pair) if n in net))
        return cls(study, study.tables(), study.dates[study.test], net, hero, focus, seen)

    @property
    def book(self) -> Ledger:
        """The ledger of the strategy in focus."""
        return self.study.strategies[self.hero]

    @property
    def rest(self) -> tuple[str, ...]:
        """The other bare strategies: charts have them, but show them only when asked."""
        return tuple(name for name in self.study.strategies if name not in self.focus)

    def drawn(self) -> dict[str, Array]:
        """Net returns of what charts have: the focus first, then the rest."""
        return {name: self.net[name] for name in (*self.focus, *self.rest)}

    def in_focus(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows about the focus and equal weight of a table indexed by strategy or model."""
        level = "strategy" if "strategy" in frame.index.names else "model"
        return frame[frame.index.get_level_values(level).isin((*self.focus, EQUAL_WEIGHT))]

    def laid_out(self, frame: pd.DataFrame, caption: str, **options: Any) -> tuple[Table, ...]:
        """One table; where it would be long, the focus, with every strategy folded below.

        Options are those of `make_table`.
        """
        short = self.in_focus(frame)
        if len(frame) <= LONGEST_TABLE or len(short) == len(frame):
            return (make_table(frame, caption, **options),)
        whole = make_table(frame, "The same for every strategy", **{**options, "folded": True})
        return make_table(short, caption, **options), whole

    def with_market(self) -> dict[str, Array]:
        """Net returns of what charts have, and of the index where the data know it every day."""
        market = self.study.market_returns
        if market is None or not np.isfinite(market).all():
            return self.drawn()
        return {**self.drawn(), "Market index": market.astype(np.float64)}

    def on_market(self) -> str:
        """Why the index is not in the charts, where it is not."""
        market = self.study.market_returns
        if market is None:
            return " The data have no market index."
        gaps = int(np.sum(~np.isfinite(market)))
        return f" The market index is left out: {gaps} of its days are unknown." if gaps else ""


def hero_of(study: Study) -> str:
    """The strategy in focus: the LSTM, or else the last one."""
    names = list(study.strategies)
    return "LSTM" if "LSTM" in names else names[-1]


def listing(values: Mapping[str, float], kind: str) -> str:
    """Values by name in one line, the same numbers as a chart shows."""
    return ", ".join(f"{name} {show(value, kind)}" for name, value in values.items()) + "."


def pivot(
    frame: pd.DataFrame, rows: str, columns: str, values: str, names: Sequence[str]
) -> pd.DataFrame:
    """One row a strategy (in the order of `names`) or one column a strategy, of a long table.

    Examples
    --------
    >>> long = pd.DataFrame({"strategy": ["a", "b"], "year": [2010, 2010], "x": [0.1, 0.2]})
    >>> pivot(long, "strategy", "year", "x", ["b", "a"])
              2010
    strategy
    b          0.2
    a          0.1
    """
    wide = frame.pivot(index=rows, columns=columns, values=values).rename_axis(columns=None)
    held = [name for name in names if name in (wide.index if rows == "strategy" else wide.columns)]
    return wide.loc[held] if rows == "strategy" else wide[held]
