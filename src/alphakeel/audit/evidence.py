"""Evidence in the numbers: skill that is implausibly high, or where there can be none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.audit.findings import Finding, day_text, leak, ok, warn
from alphakeel.audit.lookahead import Prepared
from alphakeel.backtest.costs import ProportionalCost
from alphakeel.backtest.engine import run_backtest
from alphakeel.backtest.market_rules import Margin
from alphakeel.factors.targets import forward_returns
from alphakeel.models.custom import OwnModel
from alphakeel.pipeline.choices import fit_inputs
from alphakeel.pipeline.fitting import fit_and_score
from alphakeel.pipeline.own_models import fault_of_model
from alphakeel.pipeline.simulator import short_margin
from alphakeel.portfolio.heuristics import cap_gross
from alphakeel.results import Study
from alphakeel.stats.cross_section import rank_ic
from alphakeel.stats.newey_west import newey_west_tstat
from alphakeel.stats.performance import sharpe

__all__ = [
    "check_duplicates",
    "check_lag",
    "check_own_models",
    "check_shuffled_labels",
    "check_targets",
]

Floats = NDArray[np.floating[Any]]

# Factors of daily equity data have a mean Rank IC of a few hundredths.
_IMPLAUSIBLE, _STRANGE, _SURE = 0.25, 0.15, 10.0
_IDENTICAL = 0.9995
_CHANCE = 4.0  # one in 16,000, in both directions
_FIELDS = (
    "open",
    "high",
    "low",
    "close",
    "adj_close",
    "volume",
    "market_cap",
    "earnings_to_price",
    "book_to_price",
)


def check_targets(base: Prepared, values: Floats) -> list[Finding]:
    """Factors, and fields of the data, whose Rank IC with forward returns is implausible.

    `values` of the data set's factors, (n_dates, n_assets, n_values), in their order.
    """
    dataset = base.dataset
    price, lag = dataset.price, dataset.lag
    targets = [("the next day's return", forward_returns(price, lag=0, horizon=1))]
    targets += [
        (f"the return of {h} days after the trade", forward_returns(price, lag=lag, horizon=h))
        for h in dataset.horizons
    ]
    findings = []
    for k, name in enumerate(dataset.names):
        finding = _correlation_finding(base, name, values[..., k], targets, name)
        if finding is not None:
            findings.append(finding)
    for name in _FIELDS:
        if name in base.panel:
            change = _log_change(base.panel[name])
            finding = _correlation_finding(
                base, name, change, targets, f"the daily change of {name}"
            )
            if finding is not None:
                findings.append(finding)
    n = len(dataset.names)
    return findings or [
        ok("target", f"none of {n} factors correlates implausibly with later returns.")
    ]


def _log_change(level: Floats) -> Floats:
    """Log of each day's ratio to the day before; NaN where the sign changes."""
    out = np.full(level.shape, np.nan)
    with np.errstate(all="ignore"):
        out[1:] = np.log(level[1:] / level[:-1])
    out[~np.isfinite(out)] = np.nan
    return out


def _correlation_finding(
    base: Prepared, name: str, values: Floats, targets: Sequence[tuple[str, Floats]], what: str
) -> Finding | None:
    worst: tuple[float, str, Floats] | None = None
    for text, target in targets:
        daily = rank_ic(values, target)
        known = daily[np.isfinite(daily)]
        if len(known) < 30:
            continue
        mean = float(known.mean())
        # A perfect correlation never varies, and has a t of NaN.
        unsure = abs(newey_west_tstat(daily).t) <= _SURE
        if not unsure and (worst is None or abs(mean) > abs(worst[0])):
            worst = (mean, text, daily)
    if worst is None or abs(worst[0]) < _STRANGE:
        return None
    mean, text, series = worst
    first = int(np.argmax(np.nan_to_num(np.abs(series)) > _STRANGE))
    finding_of = leak if abs(mean) > _IMPLAUSIBLE else warn
    return finding_of(
        "target",
        f"{what} has a mean Rank IC of {mean:+.2f} with {text}; a few hundredths would be high: "
        "it contains later prices, or its dates are too early.",
        factor=name,
        date=day_text(base.plan.dates[first]),
    )


def check_duplicates(base: Prepared) -> list[Finding]:
    """Pairs of factors with the same ranks on every date, up to the sign."""
    dataset = base.dataset
    features = dataset.features[dataset.eligible].astype(np.float64)
    size = np.sqrt((features**2).sum(axis=0))
    with np.errstate(all="ignore"):
        alike = (features.T @ features) / np.outer(size, size)
    names = dataset.names
    day = day_text(dataset.dates[dataset.decisions[0]])
    findings = [
        warn(
            "duplicates",
            f"{names[j]} ranks the stocks as {names[i]} does "
            f"(correlation of ranks {alike[i, j]:+.4f}): it adds nothing and is counted twice.",
            factor=names[j],
            date=day,
        )
        for i, j in zip(*np.triu_indices(len(names), 1), strict=True)
        if abs(alike[i, j]) > _IDENTICAL
    ]
    return findings or [ok("duplicates", f"no two of {len(names)} factors rank the stocks alike.")]


def check_own_models(base: Prepared) -> dict[str, Finding]:
    """Findings on the user's models by name: scores of the last fold that move with the future."""
    plan, findings = base.plan, {}
    fold = plan.folds[-1]
    for own in plan.custom_models.models:
        read = fit_inputs(base.dataset, fold.train, own.name, plan.config, own)
        forecast = fit_and_score(
            read.dataset, fold.train, fold.test.stop, read.names, own.name, read.config, own=own
        )
        fitted: Any = forecast.forecaster
        fault = fault_of_model(fitted, read.dataset, read.names, fold.test, forecast.scores)
        if fault is not None:
            found = leak if fault.kind == "future" else warn
            text = f"{own.place} {fault.sentence}"
            findings[own.name] = found("scores", text, date=fault.day, ticker=fault.ticker)
    return findings


def check_shuffled_labels(
    base: Prepared, rng: np.random.Generator, times: int = 3, own: OwnModel | None = None
) -> Finding:
    """With labels shuffled within each date the IC of the scores must be 0, within chance.

    Of the linear model, or of one of the user's own.
    """
    daily, plan = [], base.plan
    model = "linear" if own is None else own.name
    whose = "" if own is None else f"{own.label}: "
    for _ in range(times):
        dataset = base.dataset
        known = np.isfinite(dataset.targets).all(axis=2) & dataset.eligible
        order = _shuffle(known, rng)
        take = (np.arange(len(order))[:, None], order)
        dataset = replace(
            dataset, targets=dataset.targets[take], forward=dataset.forward[take], daily=None
        )
        for fold in plan.folds:
            read = fit_inputs(dataset, fold.train, model, plan.config, own)
            forecast = fit_and_score(
                read.dataset, fold.train, fold.test.stop, read.names, model, read.config, own=own
            )
            tested = dataset.forward[fold.test][..., 0]
            daily.append(rank_ic(forecast.scores[fold.test], tested))
    series = np.concatenate(daily)
    mean, t = float(np.nanmean(series)), float(newey_west_tstat(series).t)
    half = abs(mean / t) * _CHANCE if t else np.inf
    evidence = (
        f"{whose}with labels shuffled within each date the Rank IC is {mean:+.4f}, and chance "
        f"allows 0 +- {half:.4f} (t {t:+.1f}, {times} shuffle{'s' if times > 1 else ''})"
    )
    if abs(t) > _CHANCE:
        day = day_text(plan.dates[plan.decisions[plan.folds[0].test.start]])
        return leak("shuffled", f"{evidence}: the fit has seen its test labels.", date=day)
    return ok("shuffled", f"{evidence}.")


def _shuffle(known: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.intp]:
    """A random order of the columns on each date; unknown ones keep their place."""
    order = np.tile(np.arange(known.shape[1]), (len(known), 1))
    for row, mask in enumerate(known):
        order[row, mask] = rng.permutation(np.flatnonzero(mask))
    return order


def check_lag(study: Study) -> list[Finding]:
    """Scores with a Rank IC on the first day only may use what is not yet public."""
    price = study.dataset.price
    lag, findings = study.config.target.lag, []
    for model in study.models.values():
        for horizon in study.config.target.horizons:
            now, later = (
                rank_ic(
                    model.scores,
                    forward_returns(price, lag=d, horizon=horizon, rows=study.decisions),
                )
                for d in (lag, lag + 1)
            )
            if np.isfinite(later).sum() < 30:
                continue
            strength, drop = newey_west_tstat(now), newey_west_tstat(now - later)
            a, b = float(np.nanmean(now)), float(np.nanmean(later))
            if strength.t > 3.0 and b < 0.5 * a and drop.t > 3.0:
                first = int(np.argmax(np.isfinite(now)))
                findings.append(
                    warn(
                        "lag",
                        f"{model.label}'s Rank IC with {horizon}-day returns falls from {a:+.3f} "
                        f"to {b:+.3f} when traded one day later: it may know the next day.",
                        date=day_text(study.dates[study.decisions[first]]),
                    )
                )
    return findings or [ok("lag", _sharpe_text(study))]


def _sharpe_text(study: Study) -> str:
    """Sharpe ratios as traded, and as traded one day later."""
    lag, days = study.config.target.lag, study.test
    dataset = study.dataset
    decisions = study.decisions[study.decisions >= days.start] - days.start
    decisions = decisions[decisions + lag < days.stop - days.start]
    parts = []
    for model in study.models.values():
        ledger = study.strategies[model.label]
        margin = (short_margin(study.config) if model.weights is None else None) or Margin()
        held, target = ledger.weights[decisions + lag], np.full(ledger.weights.shape, np.nan)
        target[decisions] = cap_gross(
            held if margin.short else np.maximum(held, 0.0), margin.max_gross
        )
        later = run_backtest(
            target,
            dataset.price[days],
            tradable=dataset.tradable[days],
            lag=lag + 1,
            cost=ProportionalCost(study.config.costs.cost_per_side),
            margin=margin,
        )
        before, after = (float(sharpe(x.excess_returns)) for x in (ledger, later))
        parts.append(f"{model.label}'s Sharpe ratio {before:.2f} becomes {after:.2f}")
    return f"traded one day later, {' and '.join(parts)}: no collapse of the Rank IC."
