"""The first half of the report: findings, wealth, risk, years and the quality of forecasts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from alphakeel.report import figures, heatmaps, verdict
from alphakeel.report.cells import Column, make_table, show
from alphakeel.report.page import YEAR, Array, Block, Chart, Section, View, Words, listing
from alphakeel.stats import metrics, timeseries

__all__ = ["OUTCOME", "trailing_var"]

VOLATILITY_WINDOW = 63


def _summary(view: View) -> Section:
    table = view.tables["table_1"]
    charts = tuple(
        Chart(
            f"interval-{key}",
            figures.interval_plot(
                *(_by_name(table[column]) for column in (key, f"{key}_low", f"{key}_high")),
                percent=percent,
            ),
            title,
            alt="Every strategy with its interval; the numbers are in Table I.",
            narrow=True,
        )
        for key, title, percent in (
            ("sharpe", "Sharpe ratio", False),
            ("max_drawdown", "Maximum drawdown", True),
            ("var_95", "Value at risk, one day", True),
        )
    )
    findings = verdict.findings(view.study, view.tables, view.hero)
    cards = verdict.cards(view.tables, view.hero)
    blocks: tuple[Block, ...] = (Words("verdict", findings), Words("cards", cards), *charts)
    return Section("summary", "In short", verdict.scope(view.study), blocks)


def _by_name(column: pd.Series[float]) -> dict[str, float]:
    return {str(name): float(value) for name, value in column.items()}


def _performance(view: View) -> Section:
    level = show(view.study.config.report.level, "whole")
    tables = view.tables
    return Section(
        "performance",
        "Performance",
        f"All returns are after costs. Small print gives {level} block-bootstrap intervals: two "
        "strategies whose intervals overlap widely have not been told apart.",
        (
            make_table(tables["table_1"], "Table I. Every strategy over the whole test"),
            make_table(
                tables["table_1_difference"],
                "Against the linear benchmark: the difference of Sharpe ratios, and changes as a "
                "share of its figures. Both share the resampled days, so the comparison is "
                "paired; p is two-sided.",
            ),
        ),
    )


def _course(view: View) -> Section:
    returns = view.with_market()
    drawdowns = {name: metrics.drawdown_series(r) for name, r in returns.items()}
    worst = {name: float(np.max(d)) for name, d in drawdowns.items()}
    return Section(
        "course",
        "Wealth",
        "The same colour stands for the same strategy in every chart. Click a name to hide it."
        + view.on_market(),
        (
            Chart(
                "equity",
                figures.equity_curves(view.dates, returns),
                "Growth of 1, after costs. Equal steps upwards are equal per cent.",
                "Wealth at the end: "
                + listing({n: float(np.prod(1 + r)) for n, r in returns.items()}, "ratio"),
            ),
            Chart(
                "drawdown",
                figures.drawdown_curves(view.dates, drawdowns),
                "Loss since the last peak.",
                "Largest loss: " + listing(worst, "percent"),
            ),
        ),
    )


def _risk(view: View) -> Section:
    level = view.study.config.report.level
    stacked = np.column_stack(list(view.with_market().values()))
    rolling = timeseries.trailing_std(stacked, VOLATILITY_WINDOW) * np.sqrt(YEAR)
    volatility = dict(zip(view.with_market(), rolling.T, strict=True))
    invested = {n: book.weights.sum(axis=1) for n, book in view.study.strategies.items()}
    limits = {name: trailing_var(r, level) for name, r in view.net.items()}
    hero = view.net[view.hero]
    constant = float(metrics.value_at_risk(hero, level=level))
    return Section(
        "risk",
        "Risk",
        "Whether risk was steady, and whether the days of large loss could be expected.",
        (
            Chart(
                "volatility",
                figures.line_chart(view.dates, volatility, unit="a year", percent=True, zero=True),
                f"Volatility over the trailing {VOLATILITY_WINDOW} days, annualised.",
                "Mean: "
                + listing({n: float(np.nanmean(v)) for n, v in volatility.items()}, "percent")
                if len(hero) >= VOLATILITY_WINDOW
                else "The test is shorter than the window.",
            ),
            Chart(
                "exposure",
                figures.line_chart(
                    view.dates, invested, unit="of wealth", percent=True, zero=True, height=260
                ),
                "Share of wealth in stocks; the rest is cash.",
                "Mean: " + listing({n: float(v.mean()) for n, v in invested.items()}, "percent"),
            ),
            Chart(
                "exceedances",
                figures.return_chart(view.dates, hero, limits[view.hero], constant, name=view.hero),
                f"{view.hero}: daily returns and the days beyond the historical VaR of the "
                f"trailing {YEAR} days, as it was known the evening before. Dashed: historical "
                f"VaR of the whole test, {show(constant, 'percent2')}.",
                alt="The counts are in the table below.",
            ),
            make_table(
                _exceedance_table(view.net, limits, level),
                f"Days that lost more than the trailing VaR at {show(level, 'whole')}. In "
                "clusters, or far more than expected, they say that the VaR reacted too late.",
            ),
        ),
    )


def trailing_var(returns: Array, level: float, window: int = YEAR) -> Array:
    """Historical VaR of the trailing window, as known on the evening before each day.

    Parameters
    ----------
    returns : ndarray of shape (n_dates,)
        Simple returns per day, as fractions.
    level : float
        Such as 0.95.
    window : int
        Days.

    Returns
    -------
    ndarray of shape (n_dates,)
        Positive fractions; NaN on the first `window` days.
    """
    limit = np.full(len(returns), np.nan)
    if len(returns) > window:
        past = sliding_window_view(returns, window)[:-1]
        limit[window:] = metrics.value_at_risk(past.T, level=level)
    return limit


def _exceedance_table(
    returns: Mapping[str, Array], limits: Mapping[str, Array], level: float
) -> pd.DataFrame:
    rows = {}
    for name, values in returns.items():
        known = np.isfinite(limits[name])
        count = int(np.sum(values[known] < -limits[name][known]))
        days = int(known.sum())
        rows[name] = {
            "days": days,
            "exceedances": count,
            "expected": days * (1.0 - level),
            "share": count / days if days else float("nan"),
            "worst_day": float(values.min()),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")


def _calendar(view: View) -> Section:
    return Section(
        "years",
        "Years",
        "One good year can carry a Sharpe ratio; look for the years that went against the model.",
        (
            make_table(_by_year(view, "total_return"), "Return after costs", kind="percent"),
            make_table(
                _by_year(view, "max_drawdown"),
                "Deepest point of the year below the last peak, years before included",
                kind="percent",
            ),
            Chart(
                "months",
                heatmaps.month_heatmap(view.dates, view.net[view.hero]),
                f"{view.hero}: return of every month in per cent, after costs. Blue is a gain, "
                "orange a loss.",
                alt="The table above has the years.",
            ),
        ),
    )


def _by_year(view: View, what: str) -> pd.DataFrame:
    """One row a year, one column a strategy."""
    long = view.tables["by_year"].assign(year=lambda t: t["year"].astype(str))
    return long.pivot(index="year", columns="strategy", values=what)[list(view.net)]


def _forecasts(view: View) -> Section:
    study = view.study
    horizons = study.config.target.horizons
    days = study.dates[study.decision_rows]
    charts = []
    for h, horizon in enumerate(horizons):
        series = {m.label: m.rank_ic[:, h] for m in study.models.values()}
        shown = np.any([np.isfinite(v) for v in series.values()], axis=0)
        summed = {name: np.cumsum(np.nan_to_num(v[shown])) for name, v in series.items()}
        mean = {
            n: float(np.nanmean(v)) if np.isfinite(v).any() else float("nan")
            for n, v in series.items()
        }
        charts.append(
            Chart(
                f"ic-{horizon}",
                figures.line_chart(days[shown], summed, unit="sum of Rank IC", height=320),
                f"Rank IC over {horizon} days, added up over decisions. A steady slope is a "
                "steady signal; a flat stretch is none.",
                "Mean: " + listing(mean, "small"),
                narrow=len(horizons) > 1,
            )
        )
    table = make_table(
        view.tables["ic"],
        "Information coefficients out of sample, with intervals. A mean Rank IC whose interval "
        "holds zero is no evidence of skill.",
        columns={"horizon": Column("Horizon", "text")},
    )
    return Section(
        "forecasts",
        "Forecasts",
        "The correlation across stocks, on each decision date, between scores and the returns "
        "that followed. It says how good a forecast is before any portfolio is built on it.",
        (*charts, table),
    )


OUTCOME = (_summary, _performance, _course, _risk, _calendar, _forecasts)
