"""Risk: its forecasts against what came, volatility, exposure, limits."""

from __future__ import annotations

import numpy as np
import pandas as pd

from alphakeel.report import figures, hazard_figures
from alphakeel.report.cells import Column, make_table, show
from alphakeel.report.page import YEAR, Block, Chart, Section, View, Words, listing, pivot
from alphakeel.roster import under_overlay
from alphakeel.stats import metrics, timeseries

__all__ = ["risk", "var_frame"]

VOLATILITY_WINDOW = 63
STATUS = {
    "optimal": "all limits kept",
    "silent": "no score, nothing decided",
    "no_history": "cash, for want of returns",
    "less_invested": "kept by holding more cash",
    "more_turnover": "kept by trading more than allowed",
    "least_breach": "limits broken by as little as possible",
}
OVERLAY_COLUMNS = {
    "leverage": Column("Largest", "percent", "Share of days at the largest exposure allowed"),
    "volatility": Column("Volatility target", "percent", "Share of days on which it bound"),
    "var": Column("VaR cap", "percent", "Share of days on which it bound"),
    "throttle": Column("Bear throttle", "percent", "Share of days on which it bound"),
    "brake": Column("Drawdown brake", "percent", "Share of days on which it was on"),
}


def risk(view: View) -> Section:
    """Volatility, exposure, and the VaR forecasts against what came."""
    blocks: list[Block] = [*_var_blocks(view), *_volatility_blocks(view), *_exposure_blocks(view)]
    blocks += _decision_blocks(view.tables["decisions"])
    return Section(
        "risk",
        "Risk",
        "Whether the days of large loss were expected the evening before, and whether risk was "
        "held where the overlay aimed.",
        tuple(blocks),
    )


def _decision_blocks(decisions: pd.DataFrame) -> list[Block]:
    """Limits that an optimiser could not keep, in words."""
    if decisions.empty:
        return []
    said = []
    for name, own in decisions.groupby("strategy", sort=False):
        kept = own["status"].isin(("optimal", "silent", "no_history"))
        broken, every = int(own.loc[~kept, "decisions"].sum()), int(own["decisions"].sum())
        conflicts = [c for c in dict.fromkeys(own.loc[~kept, "conflict"]) if c]
        why = f"; most often in each other's way: {'; '.join(conflicts)}" if conflicts else ""
        said.append(
            f"{name}: at {broken:,} of {every:,} decisions not every limit could be kept{why}."
            if broken
            else f"{name}: every limit was kept at all {every:,} decisions."
        )
    table = decisions.assign(status=decisions["status"].map(lambda s: STATUS.get(s, s)))
    return [
        Words("list", tuple(said), "Limits at the decisions"),
        make_table(
            table.set_index("strategy"),
            "What the optimiser could and could not keep, with an example of each",
            folded=True,
        ),
    ]


def _var_blocks(view: View) -> list[Block]:
    pair = [n for n in (view.hero, under_overlay(view.hero)) if n in view.net]
    table = view.tables["value_at_risk"]
    level = "95\N{NARROW NO-BREAK SPACE}%"
    charts: list[Block] = []
    for name in pair:
        constant = float(metrics.value_at_risk(view.net[name]))
        forecast = np.asarray(view.study.portfolios.value_at_risk[name].var, dtype=np.float64)
        known_before = np.append(np.nan, forecast[:-1])
        charts.append(
            Chart(
                "exceedances" if name == view.hero else "exceedances-overlay",
                hazard_figures.return_chart(
                    view.dates, view.net[name], known_before, constant, name=name
                ),
                f"{name}: daily returns, the one-day {level} VaR forecast the evening before, and "
                "the days that lost more. Dashed: historical VaR of the whole test, "
                f"{show(constant, 'percent2')}.",
                str(table.loc[name, "verdict"]),
            )
        )
    return [
        *charts,
        *view.laid_out(
            var_frame(table),
            f"VaR forecasts of every strategy at {level}. A p below 0.05 objects: too many or too "
            "few exceedances, or in clusters, or foreseeable.",
        ),
    ]


def var_frame(table: pd.DataFrame) -> pd.DataFrame:
    """The tests of VaR forecasts, and of their verdict what the columns do not say."""
    objection = table["verdict"].astype(str).str.split(": ", n=1).str[-1]
    return table.drop(columns="tick_loss").assign(verdict=objection)


def _volatility_blocks(view: View) -> list[Block]:
    returns = view.with_market()
    rolling = timeseries.trailing_std(np.column_stack(list(returns.values())), VOLATILITY_WINDOW)
    annual = dict(zip(returns, (rolling * np.sqrt(YEAR)).T, strict=True))
    enough = len(view.dates) >= VOLATILITY_WINDOW
    mean = {n: float(np.nanmean(v)) for n, v in annual.items()} if enough else {}
    target = view.study.config.overlay.target_volatility
    figure = figures.line_chart(
        view.dates, annual, unit="a year", percent=True, zero=True,
        hidden=set(returns) - set(view.focus),
    )  # fmt: skip
    aimed = ""
    if target is not None:
        hazard_figures.mark_target(figure, target)
        aimed = f" Dotted: what the overlay aims at, {show(target, 'whole')}."
    blocks: list[Block] = [
        Chart(
            "volatility",
            figure,
            f"Volatility over the trailing {VOLATILITY_WINDOW} days, annualised." + aimed,
            "Mean: " + listing(mean, "percent")
            if enough
            else "The test is shorter than the window.",
        )
    ]
    yearly = view.tables["volatility"]
    if len(yearly):
        long = yearly.assign(year=yearly["year"].astype(str))
        wide = pivot(long, "year", "strategy", "annual_volatility", list(view.study.overlaid))
        against = "" if target is None else f", to compare with {show(target, 'whole')}"
        blocks.append(
            make_table(
                wide, f"Realised volatility of every year under the overlay{against}",
                kind="percent",
            )
        )  # fmt: skip
    return blocks


def _exposure_blocks(view: View) -> list[Block]:
    plans = view.study.portfolios.overlays
    if view.hero not in plans:
        return []
    own = plans[view.hero]
    rules = own.bound()
    mean = {name: float(plan.exposure.mean()) for name, plan in plans.items()}
    return [
        Chart(
            "exposure",
            hazard_figures.bound_chart(
                view.dates,
                own.exposure,
                rules,
                {n: p.exposure for n, p in plans.items() if n != view.hero},
            ),
            f"{under_overlay(view.hero)}: share of the portfolio that was held, in the colour of "
            "the rule that kept it there; the rest is cash.",
            "Mean exposure: " + listing(mean, "percent"),
        ),
        make_table(
            view.tables["overlay"],
            "Exposure under the overlay, and how often each rule was the tightest",
            columns=OVERLAY_COLUMNS,
        ),
    ]
