"""What a study returns: frozen values, and the tables made of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.config import StudyConfig
from alphakeel.data.cleaning import CleanResult
from alphakeel.evidence import ladder, risk, sweeps, tables
from alphakeel.evidence.recognition import MarketRegimes, agreement_table, lag_table
from alphakeel.evidence.regimes import regime_table
from alphakeel.evidence.stress import Stress
from alphakeel.evidence.track import Outcome, Track, outcome_of
from alphakeel.models.explain import Drivers
from alphakeel.models.state import ModelState
from alphakeel.portfolio.backtest import Ledger
from alphakeel.portfolio.optimise import Record
from alphakeel.portfolio.overlay import Overlay
from alphakeel.portfolio.regimes import label_of_day
from alphakeel.portfolio.tails import TailForecast
from alphakeel.roster import EQUAL_WEIGHT, LABELS, under_overlay
from alphakeel.stats import metrics

__all__ = ["LABELS", "Books", "FoldResult", "ModelResult", "Study"]

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
        return {
            **self._performance_tables(),
            **self._origin_tables(),
            **self._regime_tables(),
            **self._risk_tables(),
            **self._score_tables(),
            **self._confirmation_tables(),
            "screen": self.screen_table(),
            "cleaning": self.cleaning_counts,
            "data_quality": self.data_quality,
            "left_out": self.left_out,
        }

    @property
    def _boot(self) -> dict[str, Any]:
        report = self.config.report
        return {"level": report.level, "n_boot": report.bootstrap, "seed": self.config.seed}

    @property
    def _step(self) -> int:
        return self.config.walk_forward.rebalance_every

    def _performance_tables(self) -> dict[str, pd.DataFrame]:
        """Table I, bare and at equal risk, and its parts by year and period."""
        every, linear = self.every_ledger(), LABELS["linear"]
        overlaid = {under_overlay(name): ledger for name, ledger in self.overlaid.items()}
        market, days = self.market_returns, self.dates[self.test]
        performance, difference = tables.strategy_tables(
            every, market, baseline=linear, **self._boot
        )
        _, fair = tables.strategy_tables(
            overlaid, market, baseline=under_overlay(linear), **self._boot
        )
        return {
            "table_1": performance,
            "table_1_difference": difference,
            "table_1_fair": fair,
            "by_year": tables.by_year_table(every, days),
            "periods": sweeps.period_table(every, days, cuts=self._cuts),
            "costs": tables.cost_table(every),
        }

    @property
    def _cuts(self) -> tuple[np.datetime64, ...]:
        confirm = self.config.report.confirm_from
        return () if confirm is None else (np.datetime64(confirm),)

    def _confirmation_tables(self) -> dict[str, pd.DataFrame]:
        """Table I and the ladder on the days that nobody saw while settings were chosen."""
        if not self._cuts:
            return {}
        first = int(np.searchsorted(self.dates[self.test], self._cuts[0]))
        days = slice(first, None)
        every = {name: outcome_of(ledger, days) for name, ledger in self.every_ledger().items()}
        held = {label: every[label] for label in map(under_overlay, self.overlaid)}
        market = None if self.market_returns is None else self.market_returns[days]
        linear = LABELS["linear"]
        table, change = tables.strategy_tables(every, market, baseline=linear, **self._boot)
        _, fair = tables.strategy_tables(held, market, baseline=under_overlay(linear), **self._boot)
        rungs: dict[str, list[tuple[str, Track]]] = {
            model: [(rung, outcome_of(ledger, days)) for rung, ledger in steps]
            for model, steps in self.ladder().items()
        }
        forecasts = {
            name: TailForecast(*(part[days] for part in forecast))
            for name, forecast in self.books.value_at_risk.items()
        }
        return {
            "confirm_table_1": table,
            "confirm_table_1_difference": change,
            "confirm_table_1_fair": fair,
            "confirm_ladder": ladder.ladder_table(rungs, **self._boot),
            "confirm_value_at_risk": risk.var_table(every, forecasts),
        }

    def _origin_tables(self) -> dict[str, pd.DataFrame]:
        """Where results come from, and what they depend on."""
        rungs = ladder.ladder_table(self.ladder(), **self._boot)
        return {
            "ladder": rungs,
            "attribution": ladder.attribution_table(rungs),
            "cost_sweep": sweeps.sweep_table(self.books.cost_sweep, over="per_side"),
            "capacity": sweeps.sweep_table(self.books.size_sweep, over="wealth"),
            "decisions": risk.decision_table(self.books.records),
        }

    def _regime_tables(self) -> dict[str, pd.DataFrame]:
        """Table II, and what the causal labels are worth; nothing without an index."""
        if self.regimes is None:
            return {}
        net = {name: ledger.net_returns for name, ledger in self.every_ledger().items()}
        boot = {"baseline": LABELS["linear"], **self._boot}
        causal = {
            rule: regime_table(net, label_of_day(labels)[self.test], **boot)
            for rule, labels in self.regimes.causal.items()
        }
        return {
            "table_2": regime_table(net, self.regimes.hindsight[self.test], **boot),
            "table_2_causal": pd.concat(causal, names=["rule"]),
            "regime_lags": lag_table(self.regimes, self.test),
            "regime_agreement": agreement_table(self.regimes, self.test),
        }

    def _risk_tables(self) -> dict[str, pd.DataFrame]:
        """Forecasts of risk against what came, limits, overlay and stress."""
        every = self.every_ledger()
        days, target = self.dates[self.test], self.config.overlay.volatility
        return {
            "value_at_risk": risk.var_table(every, self.books.value_at_risk),
            "overlay": risk.overlay_table(self.books.overlays),
            "volatility": risk.volatility_table(self.overlaid, days, target=target),
            "limits": self.limits_table(),
            **self.stress.tables,
        }

    def _score_tables(self) -> dict[str, pd.DataFrame]:
        """How well scores rank stocks, how long they do, and what drives them."""
        series = {model.label: (model.ic, model.rank_ic) for model in self.models.values()}
        drivers = {model.label: model.drivers for model in self.models.values()}
        horizons, step = self.config.target.horizons, self._step
        return {
            "ic": tables.ic_table(series, horizons, step=step, **self._boot),
            "seeds": tables.seed_table(self.seeds, self.seed_ics),
            "decay": sweeps.decay_table(self.decay, self.decay_horizons, step=step, **self._boot),
            "drivers": tables.importance_table(
                drivers, lags=-(-max(horizons) // step), **self._boot
            ),
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
