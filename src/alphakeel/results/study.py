"""The result of a study: every number, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.config import StudyConfig
from alphakeel.data.cleaning import CleanResult
from alphakeel.evidence.recognition import MarketRegimes
from alphakeel.evidence.stress import Stress
from alphakeel.evidence.track import Outcome
from alphakeel.portfolio.backtest import Ledger
from alphakeel.results.parts import Books, FoldResult, ModelResult
from alphakeel.results.tables import all_tables
from alphakeel.roster import EQUAL_WEIGHT

__all__ = ["Study"]

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Study:
    """The result of `run_study`: every number, and the tables made of them.

    Attributes
    ----------
    config : StudyConfig
        The settings, with dates filled in.
    name : str
        Name of the data.
    dates : ndarray of shape (n_dates,), datetime64[D]
    asset_names : ndarray of shape (n_assets,)
    decision_rows : ndarray of int
        Rows of `dates` at whose close scores are made.
    test : slice
        Rows of `dates` that the backtests cover.
    models : dict of str to ModelResult
    folds : tuple of FoldResult
    books : Books
        Every portfolio, bare and under the overlay, with its risk forecasts.
    regimes : MarketRegimes or None
        Bull, bear and range-bound, in hindsight and as known at the time; None without an index.
    stress : Stress
    seeds : dict of (str, int) to Outcome
        Each network of an ensemble traded by itself, by model and seed, without the overlay;
        empty without `report.sensitivity`.
    seed_ics : dict of (str, int) to ndarray of shape (n_decisions,)
        Its Rank IC at the longest horizon.
    decay : dict of str to ndarray of shape (n_decisions, n_horizons)
        Rank IC of each model's scores at each of `decay_horizons`.
    decay_horizons : tuple of int
        Trading days.
    market_returns : ndarray of shape (n_test,) or None
        Simple daily returns of the index; None where the data have none.
    cleaning : CleanResult
        The cleaned panel with its ledger of changes.
    cleaning_counts, data_quality : DataFrame
    left_out : DataFrame
        Factors that the data could not give, with the reason.
    notes : tuple of str
        What a reader should know: survivorship, definitions that the data forced, ...
    seconds : dict of str to float
        Wall time by stage.
    versions : dict of str to str
    data_hash : str
        SHA-256 of the panel as it was handed in.
    """

    config: StudyConfig
    name: str
    dates: npt.NDArray[np.datetime64]
    asset_names: npt.NDArray[np.str_]
    decision_rows: npt.NDArray[np.intp]
    test: slice
    models: dict[str, ModelResult]
    folds: tuple[FoldResult, ...]
    books: Books
    regimes: MarketRegimes | None
    stress: Stress
    seeds: dict[tuple[str, int], Outcome]
    seed_ics: dict[tuple[str, int], Floats]
    decay: dict[str, Floats]
    decay_horizons: tuple[int, ...]
    market_returns: Floats | None
    cleaning: CleanResult
    cleaning_counts: pd.DataFrame
    data_quality: pd.DataFrame
    left_out: pd.DataFrame
    notes: tuple[str, ...]
    seconds: dict[str, float]
    versions: dict[str, str]
    data_hash: str

    @property
    def strategies(self) -> dict[str, Ledger]:
        """The portfolios without the overlay, by label."""
        return self.books.strategies

    @property
    def overlaid(self) -> dict[str, Ledger]:
        """The same portfolios under the overlay, by the same labels."""
        return self.books.overlaid

    def every_ledger(self) -> dict[str, Ledger]:
        """The strategies, bare and then under the overlay, by label."""
        return self.books.every_ledger()

    def ladder(self) -> dict[str, list[tuple[str, Ledger]]]:
        """By model, the rungs that its result stands on, from equal weight to the overlay."""
        found: dict[str, list[tuple[str, Ledger]]] = {}
        for model in self.models.values():
            label = model.label
            steps = [("equal weight", self.strategies[EQUAL_WEIGHT])]
            if label in self.books.rungs:
                steps.append(("+ scores", self.books.rungs[label]))
            steps.append(("+ allocation", self.strategies[label]))
            found[label] = [*steps, ("+ overlay", self.overlaid[label])]
        return found

    def table_1(self) -> pd.DataFrame:
        """Maximum drawdown, Sharpe ratio and VaR of every strategy, with intervals."""
        return self.tables()["table_1"]

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table of the study by name; all values are fractions."""
        return {name: table.copy() for name, table in self._tables.items()}

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        """Computed once: the bootstrap takes a moment."""
        return all_tables(self)
