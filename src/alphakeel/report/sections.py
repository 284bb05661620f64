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
from alphakeel.report.table_cells import ReportTable, make_table, show
from alphakeel.results import Study

if TYPE_CHECKING:
    from alphakeel.selection.trial_log import TestSetUse

__all__ = [
    "YEAR",
    "Array",
    "Block",
    "Chart",
    "ReportSection",
    "View",
    "TextBlock",
    "focus_of",
    "listing",
    "pivot",
]

Array = npt.NDArray[np.float64]

YEAR = 252
LONGEST_TABLE = 12


@dataclass(frozen=True)
class Chart:
    """A figure, its caption, its numbers in words, and (for screen readers) where else they are."""

    key: str
    figure: go.Figure
    caption: str
    note: str = ""
    alt: str = ""
    narrow: bool = False
    kind: str = "chart"


@dataclass(frozen=True)
class TextBlock:
    """Paragraphs, a list, pairs of term and meaning, or preformatted text."""

    kind: str
    items: tuple[Any, ...]
    title: str = ""


Block = Chart | ReportTable | TextBlock


@dataclass(frozen=True)
class ReportSection:
    """One heading of the report and the blocks below it."""

    key: str
    title: str
    lead: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class View:
    """A study with its tables computed once, cut to the days of the test.

    `net` has every strategy, without and then with the overlay. `highlighted` are those that charts
    show at first: the strategy in focus and the linear benchmark, without and with the overlay.
    `seen` tells how many studies of these data there were, where they are counted.
    """

    study: Study
    tables: Mapping[str, pd.DataFrame]
    dates: npt.NDArray[np.datetime64]
    net: Mapping[str, Array]
    focus: str
    highlighted: tuple[str, ...]
    seen: TestSetUse | None = None

    @classmethod
    def of(cls, study: Study, seen: TestSetUse | None = None) -> View:
        """Compute the tables (the bootstrap runs here) and pick the strategy in focus."""
        focus = focus_of(study)
        net = {name: ledger.net_returns for name, ledger in study.every_ledger().items()}
        pair = [n for n in dict.fromkeys((focus, LABELS["linear"])) if n in net]
        highlighted = (*pair, *(n for n in map(under_overlay, pair) if n in net))
        days = study.dates[study.test]
        return cls(study, study.tables(), days, net, focus, highlighted, seen)

    @property
    def ledger(self) -> Ledger:
        """The ledger of the strategy in focus."""
        return self.study.strategies[self.focus]

    @property
    def others(self) -> tuple[str, ...]:
        """The other strategies without the overlay: in the legends of charts, hidden at first."""
        return tuple(name for name in self.study.strategies if name not in self.highlighted)

    def charted(self) -> dict[str, Array]:
        """Net returns of the strategies in charts: the highlighted ones first."""
        return {name: self.net[name] for name in (*self.highlighted, *self.others)}

    def highlighted_rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows about the highlighted strategies and equal weight."""
        level = "strategy" if "strategy" in frame.index.names else "model"
        return frame[frame.index.get_level_values(level).isin((*self.highlighted, EQUAL_WEIGHT))]

    def make_tables(
        self, frame: pd.DataFrame, caption: str, **options: Any
    ) -> tuple[ReportTable, ...]:
        """One table, or where it is long the highlighted rows and the whole one folded below.

        Options are those of `make_table`.
        """
        short = self.highlighted_rows(frame)
        if len(frame) <= LONGEST_TABLE or len(short) == len(frame):
            return (make_table(frame, caption, **options),)
        whole = make_table(frame, "The same for all strategies", **{**options, "folded": True})
        return make_table(short, caption, **options), whole

    def with_market(self) -> dict[str, Array]:
        """Net returns of what charts have, and of the index where it is known on every day."""
        market = self.study.market_returns
        if market is None or not np.isfinite(market).all():
            return self.charted()
        return {**self.charted(), "Market index": market.astype(np.float64)}

    def market_note(self) -> str:
        """Why the index is not in the charts, where it is not."""
        market = self.study.market_returns
        if market is None:
            return " The data contain no market index."
        gaps = int(np.sum(~np.isfinite(market)))
        return f" The market index is not drawn: it is unknown on {gaps} days." if gaps else ""


def focus_of(study: Study) -> str:
    """The strategy in focus: the LSTM, or else the last one."""
    names = list(study.strategies)
    return "LSTM" if "LSTM" in names else names[-1]


def listing(values: Mapping[str, float], kind: str) -> str:
    """Values by name in one line, the same numbers as a chart shows."""
    return ", ".join(f"{name} {show(value, kind)}" for name, value in values.items()) + "."


def pivot(
    frame: pd.DataFrame, rows: str, columns: str, values: str, names: Sequence[str]
) -> pd.DataFrame:
    """A long table with one row (or one column) per strategy, in the order of `names`.

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
    known = [name for name in names if name in (wide.index if rows == "strategy" else wide.columns)]
    return wide.loc[known] if rows == "strategy" else wide[known]
