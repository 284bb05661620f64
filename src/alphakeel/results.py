"""What a study returns: frozen values, and the tables made of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel import tables
from alphakeel.config import StudyConfig
from alphakeel.data.cleaning import CleanResult
from alphakeel.models.explain import Drivers
from alphakeel.models.state import ModelState
from alphakeel.portfolio.backtest import Ledger
from alphakeel.roster import LABELS
from alphakeel.stats import metrics

__all__ = ["LABELS", "FoldResult", "ModelResult", "Study"]

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
    strategies : dict of str to Ledger
        Each ledger covers ``dates[test]``.
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
    strategies: dict[str, Ledger]
    market_returns: Floats | None
    cleaning: CleanResult
    cleaning_counts: pd.DataFrame
    data_quality: pd.DataFrame
    left_out: pd.DataFrame
    notes: tuple[str, ...]
    seconds: dict[str, float]
    versions: dict[str, str]
    data_hash: str

    def table_1(self) -> pd.DataFrame:
        """Maximum drawdown, Sharpe ratio and VaR of every strategy, with intervals."""
        return self.tables()["table_1"]

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table of the study by name; all values are fractions."""
        return {name: table.copy() for name, table in self._tables.items()}

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        """Computed once: the bootstrap takes a moment."""
        report = self.config.report
        boot: dict[str, Any] = {
            "level": report.level,
            "n_boot": report.bootstrap,
            "seed": self.config.seed,
        }
        performance, difference = tables.strategy_tables(
            self.strategies, self.market_returns, baseline=LABELS["linear"], **boot
        )
        step = self.config.walk_forward.rebalance_every
        correlations = tables.ic_table(
            {model.label: (model.ic, model.rank_ic) for model in self.models.values()},
            self.config.target.horizons,
            step=step,
            **boot,
        )
        return {
            "table_1": performance,
            "table_1_difference": difference,
            "ic": correlations,
            "drivers": tables.importance_table(
                {model.label: model.drivers for model in self.models.values()},
                lags=-(-max(self.config.target.horizons) // step),
                **boot,
            ),
            "limits": self.limits_table(),
            "by_year": tables.by_year_table(self.strategies, self.dates[self.test]),
            "costs": tables.cost_table(self.strategies),
            "screen": self.screen_table(),
            "cleaning": self.cleaning_counts,
            "data_quality": self.data_quality,
            "left_out": self.left_out,
        }

    def limits_table(self) -> pd.DataFrame:
        """Every limit of a model trained under limits: in each fold's training, and in the test.

        Columns: model, period ("fold 1", ..., "test"), limit (its name), allowed, trained (in
        sample, before the calibration of exposure; NaN in the test), realised, excess (realised
        over allowed, less 1; above 0 the limit was broken).
        """
        rows = []
        for model in self.models.values():
            if model.limits is None or model.limits.empty:
                continue
            own = model.limits
            for fold, name, allowed, trained, value in zip(
                own["fold"],
                own["limit_name"],
                own["limit"],
                own["trained"],
                own["value"],
                strict=True,
            ):
                rows.append((model.label, f"fold {fold}", name, allowed, trained, value))
            ledger = self.strategies[model.label]
            tested = {
                "volatility": metrics.annual_volatility(ledger.net_returns),
                "max_drawdown": metrics.max_drawdown(ledger.net_returns),
                "var_95": metrics.value_at_risk(ledger.net_returns),
                "cvar_95": metrics.conditional_value_at_risk(ledger.net_returns),
                "turnover": ledger.turnover.mean() * metrics.PERIODS_PER_YEAR,
            }
            allowed_by = dict(zip(own["limit_name"], own["limit"], strict=True))
            rows += [
                (model.label, "test", name, allowed, float("nan"), float(tested[name]))
                for name, allowed in allowed_by.items()
            ]
        columns = ["model", "period", "limit", "allowed", "trained", "realised"]
        table = pd.DataFrame(rows, columns=columns)
        return table.assign(excess=table["realised"] / table["allowed"] - 1.0)

    def screen_table(self) -> pd.DataFrame:
        """Every factor's verdict in every fold."""
        parts = [
            fold.verdicts.assign(fold=i, test_start=str(fold.test[0]))
            for i, fold in enumerate(self.folds)
        ]
        return pd.concat(parts, ignore_index=True)
