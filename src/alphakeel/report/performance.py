"""What came out: findings, Table I, wealth, years and the quality of forecasts.

Where a result comes from, whether it is confirmed, and what it depends on.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from alphakeel.model_factory import EQUAL_WEIGHT, LABELS, under_overlay
from alphakeel.report import charts as figures
from alphakeel.report import findings as finding_texts
from alphakeel.report.risk import var_frame
from alphakeel.report.risk_charts import shade
from alphakeel.report.sections import Array, Block, Chart, Section, View, Words, listing, pivot
from alphakeel.report.table_cells import Column, make_table, show
from alphakeel.risk.market_phases import Regime
from alphakeel.stats import performance as metrics

__all__ = [
    "calendar",
    "confirmation",
    "course",
    "forecasts",
    "ladder",
    "performance",
    "sensitivity",
    "summary",
]

LADDER = ["annual_return", "annual_volatility", "sharpe", "sharpe_added", "sharpe_added_low",
          "sharpe_added_high", "sharpe_added_p", "max_drawdown", "max_drawdown_added",
          "var_95", "var_95_added", "cost_drag"]  # fmt: skip
LADDER_COLUMNS = {
    "sharpe_added": Column("Added to Sharpe", "signed", "This rung less the one below"),
    "max_drawdown_added": Column("To drawdown", "points", "In percentage points"),
    "var_95_added": Column("To VaR", "points2", "In percentage points"),
}


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
    findings = finding_texts.findings(view.study, view.tables, view.hero, view.seen)
    cards = finding_texts.cards(view.tables, view.hero, view.focus)
    said = finding_texts.bottom_line(view.tables, view.hero)
    blocks: tuple[Block, ...] = (
        Words("bottom", (said,)),
        Words("verdict", findings),
        Words("cards", cards),
        *charts,
    )
    return Section("summary", "In short", finding_texts.scope(view.study), blocks)


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
                figures.month_heatmap(view.dates, view.net[view.hero]),
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


def ladder(view: View) -> Section:
    """The rungs from equal weight to the overlay, and what each added."""
    table = view.tables["ladder"]
    models = [str(m) for m in dict.fromkeys(table.index.get_level_values("model"))]
    rungs = max(([str(r) for r in table.loc[model].index] for model in models), key=len, default=[])
    hidden = [model for model in models if model not in view.focus]
    charts = [
        Chart(
            f"ladder-{key}",
            figures.ladder_chart(
                rungs,
                {m: table[key].xs(m, level="model").reindex(rungs).to_numpy(float) for m in models},
                percent=percent,
                hidden=hidden,
            ),
            title,
            alt="Rung by rung; the table below has the numbers.",
            narrow=True,
        )
        for key, title, percent in (
            ("sharpe", "Sharpe ratio, rung by rung", False),
            ("max_drawdown", "Maximum drawdown", True),
            ("var_95", "Value at risk, one day", True),
        )
    ]
    return Section(
        "origin",
        "Where it comes from",
        "The same days and costs on every rung: all stocks alike, then the model's best stocks "
        "alike (+ scores), then with its weights (+ allocation), then under the overlay. Each "
        "step is what that part added.",
        (
            Words("text", _parts(view)),
            *charts,
            *view.laid_out(
                table[LADDER],
                "The ladder, rung by rung, after costs",
                columns=LADDER_COLUMNS,
            ),
            make_table(
                view.tables["attribution"],
                "What each part added. The parts add up to the total; costs are in them already",
                columns={
                    "annual_return": Column("Return", "points", "In percentage points"),
                    "annual_volatility": Column("Volatility", "points", "In percentage points"),
                    "sharpe": Column("Sharpe", "signed"),
                    "max_drawdown": Column("Max drawdown", "points", "In percentage points"),
                    "var_95": Column("VaR 95 %", "points2", "In percentage points"),
                },
                folded=True,
            ),
        ),
    )


def _parts(view: View) -> tuple[str, ...]:
    """What the network adds, and what the overlay adds, between the paper's two ends."""
    hero, linear = view.hero, LABELS["linear"]
    rows = view.tables["table_1"]
    ends = (linear, hero, under_overlay(hero))
    if hero == linear or any(name not in rows.index for name in ends):
        return (_overlay_part(view, linear),) if linear in rows.index else ()
    moves = []
    for key, words, kind in (
        ("max_drawdown", "the maximum drawdown", "percent"),
        ("var_95", "the one-day VaR", "percent2"),
        ("sharpe", "the Sharpe ratio", "ratio"),
    ):
        first, middle, last = (float(rows[key].loc[name]) for name in ends)
        step = {"percent": "points", "percent2": "points2", "ratio": "signed"}[kind]
        unit = "" if kind == "ratio" else " points"
        moves.append(
            f"{words} goes from {show(first, kind)} to {show(last, kind)} "
            f"({show(middle - first, step)}{unit} by the network, {show(last - middle, step)} by "
            "the overlay)"
        )
    row = view.tables["table_1_difference"].loc[hero].to_dict()
    low, high = float(row["sharpe_difference_low"]), float(row["sharpe_difference_high"])
    sure = "which chance alone could do" if low <= 0 <= high else "which is more than chance"
    own = (
        f"The network's own step in the Sharpe ratio has an interval of {show(low, 'signed')} to "
        f"{show(high, 'signed')}, {sure}. {_overlay_part(view, hero)}"
    )
    return (
        f"From plain {linear.lower()} to {ends[2]}: {'; '.join(moves)}.",
        own,
        _overlay_part(view, linear),
    )


def _overlay_part(view: View, model: str) -> str:
    """What the overlay did to one model, with the interval of its step."""
    row = view.tables["ladder"].xs(model, level="model").loc["+ overlay"].to_dict()
    low, high = float(row["sharpe_added_low"]), float(row["sharpe_added_high"])
    sure = "not told apart from zero" if low <= 0 <= high else "more than chance"
    return (
        f"On {model} the overlay changed the maximum drawdown by "
        f"{show(float(row['max_drawdown_added']), 'points')} points, the VaR by "
        f"{show(float(row['var_95_added']), 'points2')}, the return a year by "
        f"{show(float(row['annual_return_added']), 'points')} and the Sharpe ratio by "
        f"{show(float(row['sharpe_added']), 'signed')} ({show(low, 'signed')} to "
        f"{show(high, 'signed')}: {sure})."
    )


def confirmation(view: View) -> Section:
    """Table I and the ladder on the days that nobody saw while settings were chosen."""
    since, tables = view.study.config.report.confirm_from, view.tables
    lead = "Settings that were chosen on some days have to be judged on others."
    if "confirm_table_1" not in tables:
        text = (
            "No days were kept apart in this study: report.confirm_from names the first day whose "
            "results nobody saw while settings were chosen. Without it, every result here may owe "
            "something to that choice."
        )
        return Section("confirmation", "Confirmation", lead, (Words("text", (text,)),))
    linear = LABELS["linear"]
    return Section(
        "confirmation",
        "Confirmation",
        f"{lead} These tables cover the days from {since} on only, which were kept apart.",
        (
            make_table(tables["confirm_table_1"], f"Table I from {since} on"),
            make_table(
                tables["confirm_table_1_fair"],
                f"At equal risk: everyone under the same overlay, against {under_overlay(linear)}",
            ),
            make_table(
                tables["confirm_table_1_difference"],
                f"As the paper compares: everyone against plain {linear.lower()}",
                folded=True,
            ),
            make_table(
                tables["confirm_ladder"][LADDER],
                "The ladder",
                columns=LADDER_COLUMNS,
                folded=True,
            ),
            make_table(
                var_frame(tables["confirm_value_at_risk"]),
                "VaR forecasts",
                folded=True,
            ),
        ),
    )


def sensitivity(view: View) -> Section:
    """Costs, size, horizon and period."""
    blocks = [*_cost_blocks(view), *_size_blocks(view), *_decay_blocks(view), *_periods(view)]
    return Section(
        "sensitivity",
        "Sensitivity",
        "The same decisions under other assumptions: a result should not hang on one of them.",
        tuple(blocks),
    )


def _curves(
    table: pd.DataFrame, names: list[str], x: str, y: str, scale: float = 1.0
) -> dict[str, tuple[Array, Array]]:
    found = {}
    for name in names:
        own = table[table["strategy"] == name].sort_values(x)
        if len(own):
            found[name] = (scale * own[x].to_numpy(dtype=float), own[y].to_numpy(dtype=float))
    return found


def _cost_blocks(view: View) -> list[Block]:
    table = view.tables["cost_sweep"]
    if table.empty:
        text = ("Other costs were not tried: report.sensitivity is off.",)
        return [Words("text", text)]
    names = list(view.drawn())
    points = table.assign(cost_per_side=(1e4 * table["cost_per_side"]).round(6))
    wide = pivot(points, "strategy", "cost_per_side", "sharpe", list(view.net))
    wide.columns = pd.Index([f"{bp:g} bp" for bp in wide.columns])
    returns = pivot(points, "strategy", "cost_per_side", "annual_return", list(view.net))
    returns.columns = wide.columns
    return [
        Chart(
            "cost-sweep",
            figures.sweep_chart(
                _curves(table, names, "cost_per_side", "sharpe", 1e4),
                x_title="basis points a side",
                y_title="Sharpe ratio",
                hidden=view.rest,
            ),
            "Sharpe ratio against the cost of one side. Decisions are the same at every cost.",
            alt="The table below has the numbers.",
            narrow=True,
        ),
        *_capacity_chart(view),
        *view.laid_out(wide, "Sharpe ratio by the cost of one side, in basis points"),
        make_table(returns, "Return a year by the cost of one side", kind="percent", folded=True),
    ]


def _capacity_chart(view: View) -> list[Block]:
    table = view.tables["capacity"]
    if table.empty:
        return []
    names = list(dict.fromkeys(table["strategy"]))
    return [
        Chart(
            "capacity",
            figures.sweep_chart(
                _curves(table, names, "wealth", "annual_return"),
                x_title="wealth at the start, in the currency of the prices",
                y_title="return a year",
                percent=True,
                ticks={float(size): _money(float(size)) for size in table["wealth"].unique()},
                hidden=[n for n in names if n not in view.focus],
            ),
            "Return a year against wealth: larger orders pay more impact, and may not be filled.",
            alt="The table below has the numbers.",
            narrow=True,
        )
    ]


def _money(size: float) -> str:
    """A sum in millions or billions."""
    return f"{size / 1e9:g} bn" if size >= 1e9 else f"{size / 1e6:g} m"


def _size_blocks(view: View) -> list[Block]:
    table = view.tables["capacity"]
    if table.empty:
        text = (
            "Capacity was not measured: it needs volumes and closes as traded, and "
            "report.sensitivity."
        )
        return [Words("text", (text,))]
    long = table.assign(wealth=table["wealth"].map(_money))
    return [
        make_table(
            long.set_index(["strategy", "wealth"]),
            "Capacity: the same decisions with more money, in a market where size matters. Where "
            "turnover falls, orders were cut to the allowed share of the volume.",
            folded=len(table) > 8,
        )
    ]


def _decay_blocks(view: View) -> list[Block]:
    table = view.tables["decay"]
    if table.empty:
        return []
    names = list(dict.fromkeys(str(m) for m in table["model"]))
    own: Mapping[str, pd.DataFrame] = {n: table[table["model"] == n] for n in names}

    def column(name: str, key: str) -> Array:
        return np.asarray(own[name][key], dtype=np.float64)

    return [
        Chart(
            "decay",
            figures.sweep_chart(
                {n: (column(n, "horizon"), column(n, "rank_ic")) for n in names},
                x_title="days ahead",
                y_title="mean Rank IC",
                spread={n: (column(n, "rank_ic_low"), column(n, "rank_ic_high")) for n in names},
                hidden=[n for n in names if n not in view.focus],
            ),
            "How far ahead the scores rank stocks: mean Rank IC by horizon, with intervals.",
            alt="The table below has the numbers.",
        ),
        make_table(
            table.assign(horizon=table["horizon"].astype(str)).set_index(["model", "horizon"]),
            "Rank IC by horizon, in days",
            folded=True,
        ),
    ]


def _periods(view: View) -> list[Block]:
    table = view.tables["periods"]
    long = table.assign(period=table["first"] + " to " + table["last"])
    wide = pivot(long, "strategy", "period", "sharpe", list(view.net))
    return [
        *view.laid_out(wide, "Sharpe ratio in parts of the test"),
        make_table(table.set_index(["strategy", "first", "last"]), "The same in full", folded=True),
    ]
