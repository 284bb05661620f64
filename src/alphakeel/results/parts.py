"""The parts of a result: one fold, one model, and every portfolio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.evidence.track import Outcome
from alphakeel.models.explain import Drivers
from alphakeel.models.state import ModelState
from alphakeel.portfolio.backtest import Ledger
from alphakeel.portfolio.optimise import Record
from alphakeel.portfolio.overlay import Overlay
from alphakeel.portfolio.tails import TailForecast
from alphakeel.roster import under_overlay

__all__ = ["Books", "FoldResult", "ModelResult"]

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class FoldResult:
    """One fit and the rows it was tested on.

    Attributes
    ----------
    train, test : tuple of datetime64[D]
        First and last decision date of either; the last training label ends before `test`.
    selected : dict of str to tuple of str
        Factors that each model was given, as judged on this fold's training rows.
    verdicts : DataFrame
        One row a factor: coverage, IC, Rank IC, t, cluster, VIF, the verdict in words, `kept` by
        the linear model, given to the `network`.
    """

    train: tuple[np.datetime64, np.datetime64]
    test: tuple[np.datetime64, np.datetime64]
    selected: dict[str, tuple[str, ...]]
    verdicts: pd.DataFrame


@dataclass(frozen=True, eq=False)
class ModelResult:
    """Out-of-sample scores of one model and how good they were.

    Attributes
    ----------
    name, label : str
        ``"lstm"`` and what a reader calls it.
    scores : ndarray of shape (n_decisions, n_assets)
        NaN before the first test date and where no score was made.
    ic, rank_ic : ndarray of shape (n_decisions, n_horizons)
        Cross-sectional correlation of scores with forward log returns; NaN outside the test.
    history : list of dict
        For networks, one entry per validation: fold, seed, step, losses, validation Rank IC.
    fitted : tuple of ModelState
        The model as fitted for each fold; `alphakeel.models.restore` makes it again.
    weights : ndarray of shape (n_decisions, n_assets), optional
        Target weights of a model that allocates by itself; NaN before the test.
    limits : DataFrame, optional
        Each limit of each fold on its training path: limit, trained (before the calibration of
        exposure), value (after it), violation.
    drivers : tuple of Drivers
        Which factors drove the scores of each fold's test rows.
    """

    name: str
    label: str
    scores: Floats
    ic: Floats
    rank_ic: Floats
    history: list[dict[str, Any]]
    fitted: tuple[ModelState, ...] = ()
    drivers: tuple[Drivers, ...] = ()
    weights: Floats | None = None
    limits: pd.DataFrame | None = None


@dataclass(frozen=True, eq=False)
class Books:
    """Every portfolio of a study, each over the test days.

    Attributes
    ----------
    strategies : dict of str to Ledger
        By label, without the overlay.
    overlaid : dict of str to Ledger
        The same under the overlay, by the same labels.
    overlays : dict of str to Overlay
        What the overlay decided for each.
    rungs : dict of str to Ledger
        Scores without an allocation, by model: the rung of the ladder below the strategy.
    records : dict of str to tuple of Record
        What an optimiser noted at each decision, for the strategies that have one.
    value_at_risk : dict of str to TailForecast
        One-day 95 % VaR and CVaR of every strategy, bare and overlaid: row t is about the day
        after it.
    cost_sweep, size_sweep : dict of (str, float) to Outcome
        The same decisions at other costs of one side, and with more money; empty where the
        settings or the data leave them out.
    market_text : tuple of str
        The market rules and costs in words; empty with one flat cost.
    """

    strategies: dict[str, Ledger]
    overlaid: dict[str, Ledger]
    overlays: dict[str, Overlay]
    rungs: dict[str, Ledger]
    records: dict[str, tuple[Record, ...]]
    value_at_risk: dict[str, TailForecast]
    cost_sweep: dict[tuple[str, float], Outcome]
    size_sweep: dict[tuple[str, float], Outcome]
    market_text: tuple[str, ...]

    def every_ledger(self) -> dict[str, Ledger]:
        """The strategies, bare and then under the overlay, by label."""
        held = {under_overlay(name): ledger for name, ledger in self.overlaid.items()}
        return {**self.strategies, **held}
