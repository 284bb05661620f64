"""The tables of a study, group by group; all values are fractions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alphakeel.evidence import ladder, risk, sweeps, tables
from alphakeel.evidence.recognition import agreement_table, lag_table
from alphakeel.evidence.regimes import regime_table
from alphakeel.evidence.track import Track, outcome_of
from alphakeel.portfolio.regimes import label_of_day
from alphakeel.portfolio.tails import TailForecast
from alphakeel.roster import LABELS, under_overlay
from alphakeel.stats import metrics

if TYPE_CHECKING:
    from alphakeel.results.study import Study

__all__ = ["all_tables"]


def all_tables(study: Study) -> dict[str, pd.DataFrame]:
    """Every table by name, in the order in which they are written."""
    return {
        **_performance_tables(study),
        **_origin_tables(study),
        **_regime_tables(study),
        **_risk_tables(study),
        **_score_tables(study),
        **_confirmation_tables(study),
        "screen": _screen_table(study),
        "cleaning": study.cleaning_counts,
        "data_quality": study.data_quality,
        "left_out": study.left_out,
    }


def _boot(study: Study) -> dict[str, Any]:
    report = study.config.report
    return {"level": report.level, "n_bootstrap": report.n_bootstrap, "seed": study.config.seed}


def _step(study: Study) -> int:
    return study.config.walk_forward.rebalance_every


def _performance_tables(study: Study) -> dict[str, pd.DataFrame]:
    """Table I, bare and at equal risk, and its parts by year and period."""
    every, linear = study.every_ledger(), LABELS["linear"]
    overlaid = {under_overlay(name): ledger for name, ledger in study.overlaid.items()}
    market, days = study.market_returns, study.dates[study.test]
    performance, difference = tables.strategy_tables(every, market, baseline=linear, **_boot(study))
    _, fair = tables.strategy_tables(
        overlaid, market, baseline=under_overlay(linear), **_boot(study)
    )
    return {
        "table_1": performance,
        "table_1_difference": difference,
        "table_1_fair": fair,
        "by_year": tables.by_year_table(every, days),
        "periods": sweeps.period_table(every, days, cuts=_cuts(study)),
        "costs": tables.cost_table(every),
    }


def _cuts(study: Study) -> tuple[np.datetime64, ...]:
    confirm = study.config.report.confirm_from
    return () if confirm is None else (np.datetime64(confirm),)


def _confirmation_tables(study: Study) -> dict[str, pd.DataFrame]:
    """Table I and the ladder on the days that nobody saw while settings were chosen."""
    if not _cuts(study):
        return {}
    first = int(np.searchsorted(study.dates[study.test], _cuts(study)[0]))
    days = slice(first, None)
    every = {name: outcome_of(ledger, days) for name, ledger in study.every_ledger().items()}
    held = {label: every[label] for label in map(under_overlay, study.overlaid)}
    market = None if study.market_returns is None else study.market_returns[days]
    linear = LABELS["linear"]
    table, change = tables.strategy_tables(every, market, baseline=linear, **_boot(study))
    _, fair = tables.strategy_tables(held, market, baseline=under_overlay(linear), **_boot(study))
    rungs: dict[str, list[tuple[str, Track]]] = {
        model: [(rung, outcome_of(ledger, days)) for rung, ledger in steps]
        for model, steps in study.ladder().items()
    }
    forecasts = {
        name: TailForecast(*(part[days] for part in forecast))
        for name, forecast in study.books.value_at_risk.items()
    }
    return {
        "confirm_table_1": table,
        "confirm_table_1_difference": change,
        "confirm_table_1_fair": fair,
        "confirm_ladder": ladder.ladder_table(rungs, **_boot(study)),
        "confirm_value_at_risk": risk.var_table(every, forecasts),
    }


def _origin_tables(study: Study) -> dict[str, pd.DataFrame]:
    """Where results come from, and what they depend on."""
    rungs = ladder.ladder_table(study.ladder(), **_boot(study))
    return {
        "ladder": rungs,
        "attribution": ladder.attribution_table(rungs),
        "cost_sweep": sweeps.sweep_table(study.books.cost_sweep, over="cost_per_side"),
        "capacity": sweeps.sweep_table(study.books.size_sweep, over="wealth"),
        "decisions": risk.decision_table(study.books.records),
    }


def _regime_tables(study: Study) -> dict[str, pd.DataFrame]:
    """Table II, and what the causal labels are worth; nothing without an index."""
    if study.regimes is None:
        return {}
    net = {name: ledger.net_returns for name, ledger in study.every_ledger().items()}
    boot = {"baseline": LABELS["linear"], **_boot(study)}
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
    """Forecasts of risk against what came, limits, overlay and stress."""
    every = study.every_ledger()
    days, target = study.dates[study.test], study.config.overlay.target_volatility
    return {
        "value_at_risk": risk.var_table(every, study.books.value_at_risk),
        "overlay": risk.overlay_table(study.books.overlays),
        "volatility": risk.volatility_table(study.overlaid, days, target=target),
        "limits": _limits_table(study),
        **study.stress.tables,
    }


def _score_tables(study: Study) -> dict[str, pd.DataFrame]:
    """How well scores rank stocks, how long they do, and what drives them."""
    series = {model.label: (model.ic, model.rank_ic) for model in study.models.values()}
    drivers = {model.label: model.drivers for model in study.models.values()}
    horizons, step = study.config.target.horizons, _step(study)
    return {
        "ic": tables.ic_table(series, horizons, step=step, **_boot(study)),
        "seeds": tables.seed_table(study.seeds, study.seed_ics),
        "decay": sweeps.decay_table(study.decay, study.decay_horizons, step=step, **_boot(study)),
        "drivers": tables.importance_table(drivers, lags=-(-max(horizons) // step), **_boot(study)),
    }


def _limits_table(study: Study) -> pd.DataFrame:
    """Every limit of a model trained under limits: in each fold's training, and in the test.

    Columns: model, period ("fold 1", ..., "test"), limit (its name), allowed, trained (in
    sample, before the calibration of exposure; NaN in the test), realised, excess (realised
    over allowed, less 1; above 0 the limit was broken).
    """
    rows = []
    for model in study.models.values():
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
        ledger = study.strategies[model.label]
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


def _screen_table(study: Study) -> pd.DataFrame:
    """Every factor's verdict in every fold."""
    parts = [
        fold.verdicts.assign(fold=i, test_start=str(fold.test[0]))
        for i, fold in enumerate(study.folds)
    ]
    return pd.concat(parts, ignore_index=True)
