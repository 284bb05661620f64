"""The result of a study: every number in one frozen value, and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.backtest.ledger import Ledger
from alphakeel.config import StudyConfig
from alphakeel.data.cleaning import SPIKE, CleaningLedger
from alphakeel.data.panel import market_index
from alphakeel.evaluation import active, attribution, risk
from alphakeel.evaluation import performance as performance_tables
from alphakeel.evaluation.ic_differences import ic_difference_table
from alphakeel.evaluation.performance import HasReturns, return_series
from alphakeel.evaluation.recommendation import Recommendation, recommend, recommendation_table
from alphakeel.evaluation.regimes import MarketRegimes, agreement_table, lag_table, regime_table
from alphakeel.evaluation.risk import Stress
from alphakeel.model_factory import EQUAL_WEIGHT, LABELS, hedged, under_overlay
from alphakeel.models.persistence import ModelState
from alphakeel.pipeline.benchmark import RELATIVE, benchmark_label
from alphakeel.pipeline.choices import choice_table
from alphakeel.pipeline.combination import COLUMNS as COMBINATION_COLUMNS
from alphakeel.pipeline.dataset import Dataset, Provenance
from alphakeel.pipeline.model_results import DECAY, ModelResult
from alphakeel.pipeline.plan import Plan
from alphakeel.pipeline.screening import Screens
from alphakeel.pipeline.strategies import Portfolios
from alphakeel.risk.regimes import label_of_day
from alphakeel.risk.value_at_risk import TailForecast
from alphakeel.stats import performance as metrics
from alphakeel.stats.cross_section import rank_ic
from alphakeel.stats.drawdown_control import window_drawdown
from alphakeel.stats.rolling import simple_returns

__all__ = ["FoldResult", "Study"]

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class FoldResult:
    """One fold: its dates, and the factors that its models were given.

    Attributes
    ----------
    train, test : tuple of datetime64[D]
        First and last decision date; the last training label ends before `test`.
    selected : dict of str to tuple of str
        Factors by model, as screened on the training decisions.
    verdicts : DataFrame
        One row a factor: coverage, IC, Rank IC, t, cluster, VIF, the verdict in words, `kept` by
        the linear model, given to the `network`.
    """

    train: tuple[np.datetime64, np.datetime64]
    test: tuple[np.datetime64, np.datetime64]
    selected: dict[str, tuple[str, ...]]
    verdicts: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Study:
    """The result of `run_study`: every number, and its tables.

    Attributes
    ----------
    plan : Plan
        Settings with dates filled in, days, decisions, folds, versions.
    dataset : Dataset
        The cleaned panel, factors and targets.
    screens : tuple of Screens
        The factors of each fold.
    models : dict of str to ModelResult
        Scores of each model, the linear one first.
    portfolios : Portfolios
        Every portfolio, without and under the overlay, with its risk forecasts.
    regimes : MarketRegimes or None
        Bull, bear and range-bound, in hindsight and as known at the time; None without an index.
    stress : Stress
    seconds : dict of str to float
        Wall time by stage.
    risk_networks : tuple of ModelState
        Of each fold, where `allocation.volatility` is "network".
    """

    plan: Plan
    dataset: Dataset
    screens: tuple[Screens, ...]
    models: dict[str, ModelResult]
    portfolios: Portfolios
    regimes: MarketRegimes | None
    stress: Stress
    seconds: dict[str, float]
    risk_networks: tuple[ModelState, ...] = ()

    @property
    def config(self) -> StudyConfig:
        """The settings, with dates filled in."""
        return self.plan.config

    @property
    def name(self) -> str:
        """Name of the data."""
        return self.plan.name

    @property
    def dates(self) -> npt.NDArray[np.datetime64]:
        """Every day of the data, (n_dates,), datetime64[D]."""
        return self.plan.dates

    @property
    def test(self) -> slice:
        """Rows of `dates` that the backtests cover."""
        return self.plan.test

    @property
    def decisions(self) -> npt.NDArray[np.intp]:
        """Rows of `dates` at whose close scores are made."""
        return self.plan.decisions

    @property
    def asset_names(self) -> npt.NDArray[np.str_]:
        """Tickers, (n_assets,)."""
        return self.dataset.assets

    @property
    def versions(self) -> dict[str, str]:
        """Of every package, and of the user's own factors, that can move a number."""
        return self.plan.versions

    @property
    def _provenance(self) -> Provenance:
        provenance = self.dataset.provenance
        assert provenance is not None  # noqa: S101  (every study prepares its own data set)
        return provenance

    @property
    def data_hash(self) -> str:
        """SHA-256 of the panel as it was handed in."""
        return self._provenance.panel_hash

    @property
    def cleaning(self) -> CleaningLedger:
        """Every number that cleaning changed, and every exclusion from the sample."""
        return self._provenance.ledger

    @property
    def data_quality(self) -> pd.DataFrame:
        """Coverage of each field as handed in, fractions."""
        return self._provenance.quality

    @property
    def left_out(self) -> pd.DataFrame:
        """Factors that the data could not give, with the reason."""
        omitted = self._provenance.omitted
        return pd.DataFrame({"factor": list(omitted), "reason": list(omitted.values())})

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the reader: days on which all hangs, survivorship, definitions, ..."""
        return (*self.warnings, *self._provenance.cautions, *self._held_to_the_end())

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What comes before any number: single days that make a tenth of a strategy's variance."""
        days = performance_tables.dominant_days(
            self.every_ledger(), self.dataset.returns[self.test]
        )
        return tuple(_day_in_words(self, day) for day in days)

    def _held_to_the_end(self) -> tuple[str, ...]:
        """How many positions ended with their stock, by strategy, in a sentence; or nothing."""
        counts = {name: int(ledger.forced_sales.sum()) for name, ledger in self.strategies.items()}
        told = [f"{count} of {name}" for name, count in counts.items() if count]
        if not told:
            return ()
        text = f"Positions whose stock ended were paid out at its last price: {', '.join(told)}."
        if self.config.data.delisting_return == 0.0:
            text += " If holders got less, state or assume a delisting return (docs/data.md)."
        return (text,)

    @property
    def market_returns(self) -> Floats | None:
        """Simple daily returns of the index on the test days; None unless all are known."""
        level = market_index(self.dataset.panel)
        if level is None:
            return None
        returns = simple_returns(level[:, None])[self.test, 0]
        return returns if np.isfinite(returns).all() else None

    @cached_property
    def folds(self) -> tuple[FoldResult, ...]:
        """Each fit of the walk-forward: its days, factors and verdicts."""
        days = self.dates[self.decisions]
        return tuple(
            FoldResult(
                train=(days[fold.train][0], days[fold.train][-1]),
                test=(days[fold.test][0], days[fold.test][-1]),
                selected={model: screens.names(model) for model in self.plan.fitted},
                verdicts=screens.verdicts(),
            )
            for fold, screens in zip(self.plan.folds, self.screens, strict=True)
        )

    @property
    def strategies(self) -> dict[str, Ledger]:
        """The portfolios without the overlay, by label."""
        return self.portfolios.strategies

    @property
    def overlaid(self) -> dict[str, Ledger]:
        """The same portfolios under the overlay, by the same labels."""
        return self.portfolios.overlaid

    def every_ledger(self) -> dict[str, Ledger]:
        """The strategies without the overlay, and then under it, by label."""
        return self.portfolios.every_ledger()

    def ladder(self) -> dict[str, list[tuple[str, Ledger]]]:
        """By model, the steps of its result, from equal weight to the overlay."""
        ladder: dict[str, list[tuple[str, Ledger]]] = {}
        for model in self.models.values():
            label = model.label
            steps = [("equal weight", self.strategies[EQUAL_WEIGHT])]
            if label in self.portfolios.scores_only:
                steps.append(("+ scores", self.portfolios.scores_only[label]))
            steps.append(("+ allocation", self.strategies[label]))
            ladder[label] = [*steps, ("+ overlay", self.overlaid[label])]
        return ladder

    def table_1(self) -> pd.DataFrame:
        """Maximum drawdown, Sharpe ratio and VaR of every strategy, with intervals."""
        return self.tables()["table_1"]

    def recommendation(self) -> Recommendation:
        """Which strategy to hold, and why: `evaluation.recommendation` has the rule."""
        return recommend(self._tables["recommendation"])

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table of the study by name; all values are fractions."""
        return {name: table.copy() for name, table in self._tables.items()}

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        """Computed once: the bootstrap takes a moment."""
        return _all_tables(self)


def _day_in_words(study: Study, day: performance_tables.DominantDay) -> str:
    """That results hang on one day, and on which stock's move, in a sentence."""
    row = study.test.start + day.row
    ticker, ledger = study.asset_names[day.column], study.cleaning
    rest = len(day.strategies) - 1
    others = f" (and as much or less of {rest} other{'s' if rest > 1 else ''})" if rest else ""
    doubted = (
        (ledger.row == row)
        & (ledger.column == day.column)
        & (ledger.rule_code == ledger.rule_names.index(SPIKE))
    ).any()
    return (
        f"The results hang on one day: {study.dates[row]} makes {day.share:.0%} of the variance of "
        f"{day.strategies[0]}{others}, and {ticker} moved most in it, by {day.move:+,.0%}"
        + (", a jump that cleaning suspects" if doubted else "")
        + ": check that price before reading any other number."
    )


def _all_tables(study: Study) -> dict[str, pd.DataFrame]:
    """Every table by name, in the order of writing."""
    over = _active_tables(study)
    return {
        **_performance_tables(study, over),
        **over,
        **_hedge_tables(study),
        **_attribution_tables(study),
        **_regime_tables(study),
        **_risk_tables(study),
        **_score_tables(study),
        **_confirmation_tables(study),
        "screen": _screen_table(study),
        "cleaning": study.cleaning.counts(),
        "data_quality": study.data_quality,
        "left_out": study.left_out,
    }


def _boot(study: Study) -> dict[str, Any]:
    report = study.config.report
    return {"level": report.level, "n_bootstrap": report.n_bootstrap, "seed": study.config.seed}


def _lags(study: Study, horizons: Sequence[int]) -> list[int]:
    """For each horizon in days the decisions of the test whose forward returns overlap."""
    return [study.dataset.rows_ahead(h, study.plan.tested) for h in horizons]


def _with_active(table: pd.DataFrame, over: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Table I with the measures over the chosen benchmark; those of the benchmark are NaN."""
    measured = over["active"]
    chosen = measured.index.get_level_values("benchmark")[-1]
    return table.join(measured.loc[chosen][list(active.MEASURES)])


def _performance_tables(study: Study, over: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Table I, without the overlay and at equal risk, and its parts by year and period.

    `over` are the tables of `_active_tables`.
    """
    every, linear = study.every_ledger(), LABELS["linear"]
    overlaid = {under_overlay(name): ledger for name, ledger in study.overlaid.items()}
    market, days = study.market_returns, study.dates[study.test]
    performance, difference = performance_tables.strategy_tables(
        every, market, baseline=linear, **_boot(study)
    )
    _, fair = performance_tables.strategy_tables(
        overlaid, market, baseline=under_overlay(linear), **_boot(study)
    )
    return {
        "table_1": _with_active(performance, over),
        "table_1_difference": difference,
        "table_1_fair": fair,
        "by_year": performance_tables.by_year_table(every, days),
        "periods": performance_tables.period_table(every, days, cuts=_cuts(study)),
        "costs": performance_tables.cost_table(every),
        "recommendation": recommendation_table(
            every,
            [name for name in every if name != EQUAL_WEIGHT],
            benchmark=EQUAL_WEIGHT,
            **_boot(study),
        ),
    }


def _benchmarks(study: Study, days: slice = slice(None)) -> dict[str, Floats]:
    """Net returns of what portfolios are measured against: equal weight, and what was chosen.

    An index pays no costs; without its value on every day it is left out.
    """
    chosen, returns = benchmark_label(study.config), {}
    for label in dict.fromkeys((EQUAL_WEIGHT, chosen)):
        ledger = study.strategies.get(label)
        own = study.market_returns if ledger is None else ledger.net_returns
        if own is not None:
            returns[label] = own[days]
    return returns


def _active_pairs(study: Study) -> list[tuple[str, str]]:
    """Every model and the linear one, without and then under the overlay."""
    linear = LABELS["linear"]
    others = [model.label for model in study.models.values() if model.label != linear]
    plain = [(label, linear) for label in others]
    return plain + [(under_overlay(label), under_overlay(linear)) for label in others]


def _active_tables(study: Study, days: slice = slice(None)) -> dict[str, pd.DataFrame]:
    """Every portfolio over equal weight and over the chosen benchmark."""
    every = {name: return_series(ledger, days) for name, ledger in study.every_ledger().items()}
    bases, alloc = _benchmarks(study, days), study.config.allocation
    limits: dict[tuple[str, str], float] = {}
    if alloc.method == RELATIVE and alloc.tracking_error_limit is not None:
        scored = [model.label for model in study.models.values() if model.weights is None]
        chosen = benchmark_label(study.config)
        limits = {(chosen, label): alloc.tracking_error_limit for label in scored}
    return {
        "active": active.active_table(every, bases, **_boot(study)),
        "active_difference": active.active_differences(
            every, bases, _active_pairs(study), **_boot(study)
        ),
        "active_by_year": active.active_by_year(
            every, bases, study.dates[study.test][days], limits=limits
        ),
    }


def _hedge_tables(study: Study) -> dict[str, pd.DataFrame]:
    """The portfolios with the market sold against them; nothing where none is hedged."""
    own = study.portfolios.hedged
    if not own:
        return {}
    ledgers: dict[str, HasReturns] = {hedged(name): series for name, series in own.items()}
    performance, difference = performance_tables.strategy_tables(
        ledgers, study.market_returns, baseline=hedged(LABELS["linear"]), **_boot(study)
    )
    sold = active.hedge_table(
        {hedged(name): series.hedge for name, series in own.items()},
        {hedged(name): series.hedge_costs for name, series in own.items()},
        {hedged(name): series.beta for name, series in own.items()},
    )
    forecasts = {hedged(name): tail for name, tail in study.portfolios.hedged_risk.items()}
    return {
        "hedged": performance.join(sold),
        "hedged_difference": difference,
        "hedged_value_at_risk": risk.var_table(ledgers, forecasts),
    }


def _cuts(study: Study) -> tuple[np.datetime64, ...]:
    confirm = study.config.report.confirm_from
    return () if confirm is None else (np.datetime64(confirm),)


def _confirmation_tables(study: Study) -> dict[str, pd.DataFrame]:
    """Table I and the ladder on the confirmation days, which were not seen in choosing settings."""
    if not _cuts(study):
        return {}
    first = int(np.searchsorted(study.dates[study.test], _cuts(study)[0]))
    days = slice(first, None)
    every = {name: return_series(ledger, days) for name, ledger in study.every_ledger().items()}
    held = {label: every[label] for label in map(under_overlay, study.overlaid)}
    market = None if study.market_returns is None else study.market_returns[days]
    linear = LABELS["linear"]
    table, change = performance_tables.strategy_tables(
        every, market, baseline=linear, **_boot(study)
    )
    _, fair = performance_tables.strategy_tables(
        held, market, baseline=under_overlay(linear), **_boot(study)
    )
    ladder: dict[str, list[tuple[str, HasReturns]]] = {
        model: [(step, return_series(ledger, days)) for step, ledger in steps]
        for model, steps in study.ladder().items()
    }
    forecasts = {
        name: TailForecast(*(part[days] for part in forecast))
        for name, forecast in study.portfolios.value_at_risk.items()
    }
    over = _active_tables(study, days)
    return {
        "confirm_table_1": _with_active(table, over),
        "confirm_table_1_difference": change,
        "confirm_table_1_fair": fair,
        "confirm_ladder": attribution.ladder_table(ladder, **_boot(study)),
        "confirm_value_at_risk": risk.var_table(every, forecasts),
        **{f"confirm_{name}": own for name, own in over.items()},
    }


def _attribution_tables(study: Study) -> dict[str, pd.DataFrame]:
    """The ladder, the attribution, the sweeps of costs and size, and the optimiser's decisions."""
    steps = study.ladder()
    ladder = attribution.ladder_table(steps, **_boot(study))
    base = list(_benchmarks(study).values())[-1]
    return {
        "ladder": ladder.join(active.active_steps(steps, base, **_boot(study))),
        "attribution": attribution.attribution_table(ladder),
        "cost_sweep": performance_tables.sweep_table(
            study.portfolios.cost_sweep, over="cost_per_side"
        ),
        "capacity": performance_tables.sweep_table(study.portfolios.size_sweep, over="wealth"),
        "decisions": risk.decision_table(study.portfolios.records),
    }


def _regime_tables(study: Study) -> dict[str, pd.DataFrame]:
    """Table II, and how good the causal labels are; nothing without an index."""
    if study.regimes is None:
        return {}
    net = {name: ledger.net_returns for name, ledger in study.every_ledger().items()}
    cash = study.strategies[EQUAL_WEIGHT].riskless
    boot = {"baseline": LABELS["linear"], "riskless": cash, **_boot(study)}
    causal = {
        rule: regime_table(net, label_of_day(labels)[study.test], **boot)
        for rule, labels in study.regimes.causal.items()
    }
    return {
        "table_2": regime_table(net, study.regimes.hindsight[study.test], **boot),
        "table_2_causal": pd.concat(causal, names=["rule"]),
        "regime_lags": lag_table(study.regimes, study.test),
        "regime_agreement": agreement_table(study.regimes, study.test),
    }


def _risk_tables(study: Study) -> dict[str, pd.DataFrame]:
    """Risk forecasts against realised risk, limits, overlay and stress."""
    every = study.every_ledger()
    days, target = study.dates[study.test], study.config.overlay.target_volatility
    return {
        "value_at_risk": risk.var_table(every, study.portfolios.value_at_risk),
        "overlay": risk.overlay_table(study.portfolios.overlays),
        "volatility": risk.volatility_table(study.overlaid, days, target=target),
        "limits": _limits_table(study),
        "compositions": _compositions(study),
        **study.stress.tables,
    }


def _score_tables(study: Study) -> dict[str, pd.DataFrame]:
    """Rank IC of the scores, its decay, its spread over seeds, and the factors that drive it."""
    series = {model.label: (model.ic, model.rank_ic) for model in study.models.values()}
    drivers = {model.label: model.drivers for model in study.models.values()}
    decay = {model.label: model.decay for model in study.models.values()}
    horizons = study.config.target.horizons
    lags = _lags(study, horizons)
    return {
        "ic": performance_tables.ic_table(series, horizons, lags=lags, **_boot(study)),
        "ic_differences": _ic_differences(study),
        "combined": _combined_weights(study),
        "choices": choice_table(study.models),
        "seeds": performance_tables.seed_table(study.portfolios.members, _member_rank_ic(study)),
        "decay": performance_tables.decay_table(
            decay, DECAY, lags=_lags(study, DECAY), **_boot(study)
        ),
        "drivers": performance_tables.importance_table(drivers, lags=max(lags), **_boot(study)),
    }


def _ic_differences(study: Study) -> pd.DataFrame:
    """Every other model's IC and Rank IC against the linear one's, at each horizon."""
    tested, dataset = study.plan.tested, study.dataset
    horizons = sorted({*study.config.target.horizons, *DECAY})
    return ic_difference_table(
        {model.label: model.scores[tested] for model in study.models.values()},
        LABELS["linear"],
        horizons,
        lambda horizon: dataset.forward_of(horizon)[tested],
        lags=_lags(study, horizons),
        level=study.config.report.level,
    )


def _combined_weights(study: Study) -> pd.DataFrame:
    """Weights of the members of the combined model in each fold, from 1; no rows without it."""
    parts = [m.combination for m in study.models.values() if m.combination is not None]
    table = pd.concat(parts) if parts else pd.DataFrame(columns=list(COMBINATION_COLUMNS))
    return table.assign(fold=table["fold"] + 1, member=table["member"].map(study.plan.labels))


def _member_rank_ic(study: Study) -> dict[tuple[str, int], Floats]:
    """Rank IC of each network at the longest horizon, (n_decisions,), by label and seed."""
    forward = study.dataset.forward[..., -1]
    return {
        (model.label, seed): np.asarray(rank_ic(scores, forward))
        for model in study.models.values()
        if model.members is not None
        for seed, scores in enumerate(model.members)
    }


def _compositions(study: Study) -> pd.DataFrame:
    """What each network under limits chose its composition from, fold by fold, out of fold."""
    found = [
        model.compositions.assign(model=model.label)
        for model in study.models.values()
        if model.compositions is not None
    ]
    columns = ["model", "fold", "temperature", "smoothing", "merit", "chosen"]
    return pd.concat(found)[columns] if found else pd.DataFrame(columns=columns)


def _limits_table(study: Study) -> pd.DataFrame:
    """Every limit of a model trained under limits: allowed, promised and realised.

    In a fold trained is the path of the fit, promised that of networks that were not fitted on it
    (NaN without a calibration), safety the factor on the forecast of the risk. In a calendar year,
    and in the whole test, promised is the largest promise of the folds that were held then; excess
    is realised over allowed, less 1: above 0 the limit was broken.
    """
    columns = ["model", "period", "limit", "allowed", "trained", "promised", "safety", "realised"]
    rows: list[dict[str, Any]] = []
    for model in study.models.values():
        if model.limits is None or model.limits.empty:
            continue
        own = model.limits.rename(columns={"limit": "allowed", "limit_name": "limit"})
        in_folds = own.assign(model=model.label, period=[f"fold {fold}" for fold in own["fold"]])
        rows += [
            {str(name): value for name, value in record.items()}
            for record in in_folds.drop(columns="fold").to_dict("records")
        ]
        rows += _realised_limits(study, model.label, own)
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(excess=table["realised"] / table["allowed"] - 1.0)


def _realised_limits(study: Study, label: str, own: pd.DataFrame) -> list[dict[str, Any]]:
    """What a model's portfolio made of each limit, by calendar year and in the whole test."""
    ledger, days = study.strategies[label], study.dates[study.test]
    begun = study.dates[[study.decisions[fold.test.start] for fold in study.plan.folds]]
    fold_of = np.searchsorted(begun, days, side="right")
    years = days.astype("datetime64[Y]")
    periods = {str(year): years == year for year in np.unique(years)}
    periods["test"] = np.ones(len(days), dtype=np.bool_)
    fallen = window_drawdown(ledger.net_returns)
    rows = []
    for period, inside in periods.items():
        if inside.sum() < 2:
            continue
        earned = ledger.net_returns[inside]
        realised = {
            "volatility": metrics.annual_volatility(earned),
            "max_drawdown": fallen[inside].max(),
            "var_95": metrics.value_at_risk(earned),
            "cvar_95": metrics.conditional_value_at_risk(earned),
            "turnover": ledger.turnover[inside].mean() * metrics.PERIODS_PER_YEAR,
        }
        held = own[own["fold"].isin(np.unique(fold_of[inside]))]
        for name, part in held.groupby("limit", sort=False):
            rows.append(
                {
                    "model": label,
                    "period": period,
                    "limit": name,
                    "allowed": part["allowed"].iloc[0],
                    "promised": part["promised"].max(),
                    "realised": float(realised[str(name)]),
                }
            )
    return rows


def _screen_table(study: Study) -> pd.DataFrame:
    """Every factor's verdict in every fold."""
    parts = [
        fold.verdicts.assign(fold=i, test_start=str(fold.test[0]))
        for i, fold in enumerate(study.folds)
    ]
    return pd.concat(parts, ignore_index=True)
