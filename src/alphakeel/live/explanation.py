"""Why a decision is what it is: the factors behind each stock, and the limits before and after."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.evaluation.recommendation import NOTHING
from alphakeel.live.replay import MEMORY, Replay
from alphakeel.model_factory import EQUAL_WEIGHT, LIMITED, under_overlay
from alphakeel.models.custom import OwnForecaster
from alphakeel.models.linear import LinearForecaster
from alphakeel.pipeline.fitting import LAGS
from alphakeel.pipeline.rows import ModelRows
from alphakeel.portfolio.exposure import composition_risk
from alphakeel.risk.value_at_risk import scenario_var
from alphakeel.risk.volatility import ex_ante_volatility
from alphakeel.stats.drawdown_control import window_drawdown

__all__ = ["limits_table", "reads_past", "reasons_of", "volatility_of"]

Floats = npt.NDArray[np.float64]

# Stocks that are explained, those of the largest weight; the others are small.
MOST_EXPLAINED = 100
# Points of the integral, as a study explains its models.
POINTS = 8
YEAR, HALFLIFE = 252, 20.0
OPTIMISED = ("mean_variance", "mean_cvar", "enhanced_index")
# Limits of section [limits], in words.
OWN_LIMITS = {
    "volatility": "volatility a year",
    "var_95": "VaR 95 % of a day",
    "cvar_95": "CVaR 95 % of a day",
    "max_drawdown": "drawdown in 252 days",
}


def reasons_of(
    own: Replay, at: int, columns: npt.NDArray[np.intp]
) -> dict[int, dict[tuple[str, int], str]]:
    """The three factors that speak most for and against each stock, by column.

    Contributions are in units of the score: coefficient times rank for the linear model, what
    `models.attribution` gives for the others.
    """
    dataset = own.dataset
    scored = columns[dataset.eligible[at, columns]][:MOST_EXPLAINED]
    if not len(scored) or own.forecaster is None or reads_past(own.forecaster):
        return {}
    parts = _contributions(own, at, scored)
    reasons: dict[int, dict[tuple[str, int], str]] = {}
    for k, values in zip(scored.tolist(), parts, strict=True):
        order = np.argsort(-values, kind="stable")
        ups = [j for j in order if values[j] > 0.0][:3]
        downs = [j for j in order[::-1] if values[j] < 0.0][:3]
        reasons[k] = {
            (side, n): f"{own.factors[j]} {values[j]:+.2f}"
            for side, chosen in (("for", ups), ("against", downs))
            for n, j in enumerate(chosen)
        }
    return reasons


def reads_past(model: Any) -> bool:
    """Whether it is a model of the user's that reads earlier dates: nobody can say by what."""
    return isinstance(model, OwnForecaster) and model.reads == "past"


def _contributions(own: Replay, at: int, columns: npt.NDArray[np.intp]) -> Floats:
    """Contribution of every factor to the score of some stocks, (n_columns, n_factors)."""
    dataset, model = own.dataset, own.forecaster
    if isinstance(model, LinearForecaster):
        chosen = dataset.columns(own.factors)
        ranks = dataset.features[at, columns][:, chosen].astype(np.float64)
        return np.asarray(ranks * model.coef_)
    assert model is not None  # noqa: S101  (asked only of strategies with a model)
    from alphakeel.models.attribution import attribute  # needs torch, which is slow to import

    assert own.model is not None  # noqa: S101  (the one whose fit this is)
    read = ModelRows.of(dataset, own.model, own.config)
    rows, dataset = read.span(slice(max(0, at + 1 - MEMORY), at + 1)), read.dataset
    split = attribute(
        model,
        dataset.features_of(own.factors, rows),
        row=rows.stop - 1 - rows.start,
        assets=columns,
        rng=np.random.default_rng(0),
        mask=dataset.eligible[rows],
        market=dataset.market[rows],
        lags=LAGS * read.step,
        steps=POINTS,
        tolerance=None,
    )
    return np.asarray(split.values.sum(axis=1))


def limits_table(own: Replay, before: Floats, after: Floats, label: str) -> pd.DataFrame:
    """Limits that the settings put on this strategy, with what is used before and after.

    `before` are the weights held, `after` those once the orders are carried out (the targets where
    no account was given).
    """
    config, margin = own.config, own.portfolio.margin
    alloc = config.allocation
    rows: list[tuple[Any, ...]] = []
    uses = [_uses(own, weights) for weights in (before, after)]

    def add(name: str, allowed: float | None, use: str) -> None:
        if allowed is not None:
            rows.append((name, float(allowed), *(one[use] for one in uses)))

    columns = ["limit", "allowed", "before", "after"]
    if label == NOTHING:
        return pd.DataFrame(rows, columns=columns)
    plain = label.removesuffix(under_overlay(""))
    if plain != EQUAL_WEIGHT:
        cap = alloc.weight_cap * (max(1.0, config.overlay.max_exposure) if own.under else 1.0)
        add("largest weight", cap, "weight")
    add("longs plus shorts over wealth", margin.max_gross, "gross")
    if own.under:
        add("volatility a year (overlay aims at)", config.overlay.target_volatility, "volatility")
        add("VaR 95 % of a day (overlay)", config.overlay.var_cap, "var")
    if own.model is not None and alloc.method in OPTIMISED:
        add("volatility a year", alloc.volatility_limit, "volatility")
        add("VaR 95 % of a day", alloc.var_limit, "var")
        add("CVaR 95 % of a day", alloc.cvar_limit, "cvar")
        add("drawdown along the scenarios", alloc.drawdown_limit, "drawdown")
        add("stocks held", alloc.max_names, "names")
        add("deviation of a sector", alloc.sector_limit, "sector")
    if own.model is not None and alloc.method == "enhanced_index":
        add("tracking error a year", alloc.tracking_error_limit, "tracking_error")
        add("deviation of a stock's weight", alloc.active_weight_limit, "active_weight")
        add("deviation of a style", alloc.style_limit, "style")
    if own.model is not None and alloc.method in OPTIMISED and alloc.turnover_limit is not None:
        traded = float(np.abs(after - before).sum())
        rows.append(("bought plus sold over wealth", alloc.turnover_limit, 0.0, traded))
    if own.model in LIMITED:
        rows += _own_limits(own, before, after)
    return pd.DataFrame(rows, columns=columns)


def _own_limits(own: Replay, before: Floats, after: Floats) -> list[tuple[Any, ...]]:
    """The limits of a network that allocates under them, with the forecasts that it goes by.

    A forecast is multiplied by the safety factor of the fit; the drawdown is that of the backtest's
    portfolio, since its highest wealth of the last year.
    """
    limits, model = own.config.limits, own.forecaster
    returns = own.dataset.returns
    at = np.array([len(returns) - 1])
    factors: dict[str, float] = getattr(model, "safety_factors_", {})
    found = []
    for weights in (before, after):
        risk = composition_risk(weights[None], returns, at)
        forecast = {"volatility": risk.volatility[0] * YEAR**0.5}
        forecast |= {"var_95": risk.var[0], "cvar_95": risk.cvar[0]}
        known = {name: x * factors.get(name, 1.0) for name, x in forecast.items()}
        held = known if weights.any() else dict.fromkeys(known, 0.0)
        found.append(held | {"max_drawdown": window_drawdown(own.portfolio.ledger.net_returns)[-1]})
    return [
        (f"{text} (the network's)", float(allowed), *(float(one[name]) for one in found))
        for name, text in OWN_LIMITS.items()
        if (allowed := getattr(limits, name)) is not None
    ]


def _uses(own: Replay, weights: Floats) -> dict[str, float]:
    """How much of each limit some weights use, by what is known on the last day."""
    returns = own.dataset.returns
    at, relative = np.array([len(returns) - 1]), _relative_uses(own, weights)
    if not weights.any():
        names = ("weight", "gross", "volatility", "var", "cvar", "drawdown", "names", "sector")
        return {**dict.fromkeys(names, 0.0), **relative}
    tail = scenario_var(weights[None], returns, at)
    window = np.nan_to_num(returns[-own.config.allocation.window :]) @ weights
    path = np.concatenate([[0.0], np.cumsum(window)])
    return relative | {
        "weight": float(np.abs(weights).max()),
        "gross": float(np.abs(weights).sum()),
        "volatility": volatility_of(weights, returns),
        "var": float(tail.var[0]),
        "cvar": float(tail.cvar[0]),
        "drawdown": float((np.maximum.accumulate(path) - path).max()),
        "names": float(np.count_nonzero(weights)),
        "sector": _sector_deviation(own, weights),
    }


def _relative_uses(own: Replay, weights: Floats) -> dict[str, float]:
    """The same of the limits against a benchmark, as it was at the last decision."""
    benchmark = own.simulator.benchmark
    if benchmark is None:
        return {}
    if benchmark.weights is None:
        assert benchmark.returns is not None  # noqa: S101  (a benchmark has one or the other)
        joint = np.column_stack([own.dataset.returns, benchmark.returns])
        return {"tracking_error": _volatility_of_past(np.append(weights, -1.0), joint)}
    off = weights - benchmark.weights[-1]
    uses = {
        "tracking_error": _volatility_of_past(off, own.dataset.returns),
        "active_weight": float(np.abs(off).max()),
    }
    if benchmark.styles is not None:
        uses["style"] = float(np.abs(off @ benchmark.styles[-1]).max())
    return uses


def volatility_of(weights: Floats, returns: Floats) -> float:
    """Annual volatility of weights on the last day, from their own past returns."""
    if not (weights < 0.0).any():
        at = np.array([len(returns) - 1])
        return float(ex_ante_volatility(weights[None], returns, at)[0])
    return _volatility_of_past(weights, returns)


def _volatility_of_past(weights: Floats, returns: Floats) -> float:
    """The same of longs and shorts, which have no mean to fill a gap with: it counts as 0."""
    past = np.nan_to_num(returns[-YEAR:]) @ weights
    decay = 0.5 ** (np.arange(len(past))[::-1] / HALFLIFE)
    return float(np.sqrt(YEAR * (decay @ past**2) / decay.sum()))


def _sector_deviation(own: Replay, weights: Floats) -> float:
    """Largest deviation of a sector from its share of the sample, or its weight in a benchmark."""
    sectors: Any = own.simulator.sectors
    if sectors is None:
        return float("nan")
    codes, sample = sectors[-1], own.simulator.eligible[-1]
    total, number = float(weights.sum()), max(int(sample.sum()), 1)
    benchmark = own.simulator.benchmark
    if benchmark is not None and benchmark.weights is not None:
        away = weights - benchmark.weights[-1]
        return max(abs(float(away[codes == code].sum())) for code in np.unique(codes))
    off = [
        abs(
            float(weights[codes == code].sum())
            - total * float((sample & (codes == code)).sum()) / number
        )
        for code in np.unique(codes)
    ]
    return max(off, default=0.0)
