"""What came out: findings, Table I, wealth, years and the quality of forecasts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from alphakeel.portfolio.phases import Regime
from alphakeel.report import figures, heatmaps, verdict
from alphakeel.report.cells import Column, make_table, show
from alphakeel.report.hazard_figures import shade
from alphakeel.report.page import Block, Chart, Section, View, Words, listing, pivot
from alphakeel.roster import EQUAL_WEIGHT, LABELS, under_overlay
from alphakeel.stats import metrics

__all__ = ["calendar", "course", "forecasts", "performance", "summary"]


def summary(view: View) -> Section:
    """Findings, key figures and three charts: what fits a screen."""
    table = view.tables["table_1"]
    shown = [n for n in (*view.focus, EQUAL_WEIGHT) if n in table.index]
    charts = tuple(
        Chart(
            f"interval-{key}",
            figures.interval_plot(
                *(_by_name(table.loc[shown, c]) for c in (key, f"{key}_low", f"{key}_high")),
                percent=percent,
            ),
            title,
            alt="With intervals; the numbers of every strategy are in Table I.",
            narrow=True,
        )
        for key, title, percent in (
            ("sharpe", "Sharpe ratio", False),
            ("max_drawdown", "Maximum drawdown", True),
            ("var_95", "Value at risk, one day", True),
        )
    )
    findings = verdict.findings(view.study, view.tables, view.hero, view.seen)
    cards = verdict.cards(view.tables, view.hero, view.focus)
    said = verdict.bottom_line(view.tables, view.hero)
    blocks: tuple[Block, ...] = (
        Words("bottom", (said,)),
        Words("verdict", findings),
        Words("cards", cards),
        *charts,
    )
    return Section("summary", "In short", verdict.scope(view.study), blocks)


def _by_name(column: pd.Series[float]) -> dict[str, float]:
    return {str(name): float(value) for name, value in column.items()}


def performance(view: View) -> Section:
    """Table I, bare and under the overlay, and the two comparisons with the linear model."""
    level = show(view.study.config.report.level, "whole")
    tables, linear = view.tables, LABELS["linear"]
    return Section(
        "performance",
        "Performance",
        f"All returns are after costs. Small print gives {level} block-bootstrap intervals: two "
        "strategies whose intervals overlap widely have not been told apart. The overlay is the "
        "same for every strategy: it holds less of a portfolio when its risk is high.",
        (
            make_table(
                tables["table_1"],
                "Table I. Every strategy over the whole test, bare and then under the overlay",
            ),
            *view.laid_out(
                tables["table_1_difference"],
                f"As the paper compares: everyone against plain {linear.lower()}. Sharpe ratios "
                "as a difference with the two-sided p of Ledoit and Wolf, and all three figures "
                "as a change in per cent. Rows under the overlay hold less risk than what they "
                "are compared with.",
            ),
            make_table(
                tables["table_1_fair"],
                "At equal risk, the fair comparison: everyone under the same overlay, against "
                f"{under_overlay(linear)}.",
            ),
        ),
    )


def course(view: View) -> Section:
    """Wealth over time, with the state of the market behind it, and drawdowns."""
    returns = view.with_market()
    hidden = set(returns) - set(view.focus)
    drawdowns = {name: metrics.drawdown_series(r) for name, r in returns.items()}
    worst = {name: float(np.max(d)) for name, d in drawdowns.items()}
    wealth = figures.equity_curves(view.dates, returns, hidden=hidden)
    regimes, tinted = view.study.regimes, ""
    if regimes is not None:
        labels = regimes.hindsight[view.study.test]
        shade(wealth, view.dates, [Regime(int(label)).text for label in labels])
        tinted = " Tinted: bear (orange) and range-bound markets (grey), as hindsight has them."
    return Section(
        "course",
        "Wealth",
        "The same colour stands for the same strategy in every chart, and a broken line for the "
        "overlay. Click a name to hide it, or to show one that is paler." + view.on_market(),
        (
            Chart(
                "equity",
                wealth,
                "Growth of 1, after costs. Equal steps upwards are equal per cent." + tinted,
                "Wealth at the end: "
                + listing({n: float(np.prod(1 + r)) for n, r in returns.items()}, "ratio"),
            ),
            Chart(
                "drawdown",
                figures.drawdown_curves(view.dates, drawdowns, hidden=hidden),
                "Loss since the last peak.",
                "Largest loss: " + listing(worst, "percent"),
            ),
        ),
    )


def calendar(view: View) -> Section:
    """Years and months."""
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
    return pivot(long, "year", "strategy", what, list(view.drawn()))


def forecasts(view: View) -> Section:
    """How well scores rank stocks, before any portfolio is built on them."""
    study = view.study
    horizons = study.config.target.horizons
    days = study.dates[study.decisions]
    charts = []
    for h, horizon in enumerate(horizons):
        series = {m.label: m.rank_ic[:, h] for m in study.models.values()}
        shown = np.any([np.isfinite(v) for v in series.values()], axis=0)
        if not shown.any():
            continue
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
