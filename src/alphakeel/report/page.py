"""What a section is made of, and the view of a study that all sections share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from alphakeel.portfolio.backtest import Ledger
from alphakeel.report.cells import Table, show
from alphakeel.results import Study

__all__ = ["YEAR", "Array", "Block", "Chart", "Section", "View", "Words", "listing"]

Array = npt.NDArray[np.float64]

YEAR = 252


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
    """A study with its tables computed once, cut to the days of the test."""

    study: Study
    tables: Mapping[str, pd.DataFrame]
    dates: npt.NDArray[np.datetime64]
    net: Mapping[str, Array]
    hero: str

    @classmethod
    def of(cls, study: Study) -> View:
        """Compute the tables (the bootstrap runs here) and pick the strategy in focus."""
        names = list(study.strategies)
        hero = "LSTM" if "LSTM" in names else names[-1]
        net = {name: ledger.net_returns for name, ledger in study.strategies.items()}
        return cls(study, study.tables(), study.dates[study.test], net, hero)

    @property
    def book(self) -> Ledger:
        """The ledger of the strategy in focus."""
        return self.study.strategies[self.hero]

    def with_market(self) -> dict[str, Array]:
        """Net returns of the strategies, and of the index where the data know it every day."""
        market = self.study.market_returns
        if market is None or not np.isfinite(market).all():
            return dict(self.net)
        return {**self.net, "Market index": market.astype(np.float64)}

    def on_market(self) -> str:
        """Why the index is not in the charts, where it is not."""
        market = self.study.market_returns
        if market is None:
            return " The data have no market index."
        gaps = int(np.sum(~np.isfinite(market)))
        return f" The market index is left out: {gaps} of its days are unknown." if gaps else ""


def listing(values: Mapping[str, float], kind: str) -> str:
    """Values by name in one line, the same numbers as a chart shows."""
    return ", ".join(f"{name} {show(value, kind)}" for name, value in values.items()) + "."
