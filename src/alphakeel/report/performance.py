"""Summary, Table I, attribution, confirmation, wealth, years, sensitivity, forecasts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from alphakeel.model_factory import EQUAL_WEIGHT, LABELS, hedged, under_overlay
from alphakeel.report import charts
from alphakeel.report import findings as findings_in_words
from alphakeel.report.risk import var_frame
from alphakeel.report.risk_charts import shade
from alphakeel.report.sections import (
    Array,
    Block,
    Chart,
    ReportSection,
    TextBlock,
    View,
    listing,
    pivot,
)
from alphakeel.report.table_cells import Column, make_table, show
from alphakeel.risk.market_phases import Regime
from alphakeel.stats import performance as metrics

__all__ = [
    "active",
    "attribution",
    "calendar",
    "confirmation",
    "forecasts",
    "performance",
    "sensitivity",
    "summary",
    "wealth",
]

STEPS = ["annual_return", "annual_volatility", "sharpe", "sharpe_added", "sharpe_added_low",
          "sharpe_added_high", "sharpe_added_p", "max_drawdown", "max_drawdown_added",
          "var_95", "var_95_added", "cost_drag"]  # fmt: skip
STEP_COLUMNS = {
    "sharpe_added": Column("Sharpe, change", "signed", "This step less the one before"),
    "max_drawdown_added": Column("Drawdown, change", "points", "In percentage points"),
    "var_95_added": Column("VaR, change", "points2", "In percentage points"),
}


def summary(view: View) -> ReportSection:
    """Findings, key figures and three charts: what fits a screen."""
    table = view.tables["table_1"]
    shown = [n for n in (*view.highlighted, EQUAL_WEIGHT) if n in table.index]
    intervals = tuple(
        Chart(
            f"interval-{key}",
            charts.interval_plot(
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
            ("var_95", "Value at risk 95 %, one day", True),
        )
    )
    findings = findings_in_words.findings(view.study, view.tables, view.focus, view.seen)
    figures = findings_in_words.key_figures(view.tables, view.focus, view.highlighted)
    blocks: tuple[Block, ...] = (
        *(TextBlock("conclusion", (warning,)) for warning in view.study.warnings),
        TextBlock("conclusion", (findings_in_words.conclusion(view.tables, view.focus),)),
        TextBlock("findings", findings),
        TextBlock("key_figures", figures, f"Key figures of {view.focus}"),
        *intervals,
    )
    return ReportSection("summary", "Summary", findings_in_words.scope(view.study), blocks)


def _by_name(column: pd.Series[float]) -> dict[str, float]:
    return {str(name): float(value) for name, value in column.items()}


def performance(view: View) -> ReportSection:
    """Table I, without and with the overlay, and the two comparisons with the linear model."""
    level = show(view.study.config.report.level, "whole")
    tables, linear = view.tables, LABELS["linear"]
    return ReportSection(
        "performance",
        "Performance",
        f"All returns are after costs. Small print gives {level} intervals; whether two strategies "
        "differ is tested in the two tables of differences. The overlay is the same for every "
        "strategy: it lowers the exposure of a portfolio when its risk is high.",
        (
            make_table(
                tables["table_1"],
                "Table I. All strategies over the whole test, without and then with the overlay",
            ),
            *view.make_tables(
                tables["table_1_difference"],
                f"The paper's comparison: every strategy against {linear} without the overlay. "
                "Sharpe ratios as a difference with the two-sided p-value of Ledoit and Wolf; all "
                "three measures as a change in per cent. Strategies with the overlay take less "
                "risk than what they are compared with.",
            ),
            make_table(
                tables["table_1_fair"],
                "Comparison at equal risk: every strategy with the overlay, against "
                f"{under_overlay(linear)}",
            ),
        ),
    )


def active(view: View) -> ReportSection:
    """Every portfolio over its benchmarks, the models over the linear one, and hedged."""
    tables, linear = view.tables, LABELS["linear"]
    years = tables["active_by_year"]
    chosen = str(years["benchmark"].iloc[-1])
    own = years[(years["benchmark"] == chosen) & years["strategy"].isin(view.highlighted)]
    own = own.assign(year=own["year"].astype(str)).set_index(["strategy", "year"])
    blocks: list[Block] = [
        *view.make_tables(
            tables["active"],
            "Active return, tracking error and information ratio of every portfolio, by benchmark",
        ),
    ]
    if len(tables["active_difference"]):
        blocks.append(
            make_table(
                tables["active_difference"],
                f"Against {linear}: does a model earn more over the benchmark? Models under the "
                "overlay are compared with the linear one under it",
            )
        )
    blocks += [
        make_table(
            tables["ladder"][["active_return", *_with_ends("tracking_error", "information_ratio")]],
            f"After each step of the attribution, over {chosen}",
            folded=True,
        ),
        make_table(
            own.drop(columns=["benchmark", "days"]), f"By year, over {chosen}", folded=len(own) > 12
        ),
        *_hedge_blocks(view),
    ]
    return ReportSection(
        "active",
        "Over the benchmark",
        "A portfolio of stocks rises and falls with the market; what is over the benchmark is what "
        "the choice of stocks earned, and varies far less. Equal weight, and a benchmark by market "
        "value, pay the same costs as every portfolio; an index pays none.",
        tuple(blocks),
    )


def _with_ends(*names: str) -> list[str]:
    ends = ["active_return_low", "active_return_high"]
    return ends + [f"{name}{end}" for name in names for end in ("", "_low", "_high")]


def _hedge_blocks(view: View) -> list[Block]:
    """The hedged portfolios, where the settings ask for them."""
    if "hedged" not in view.tables:
        return []
    linear, costs = LABELS["linear"], view.study.config.costs
    return [
        make_table(
            view.tables["hedged"],
            "Hedged: each portfolio with its beta to the market index sold short by futures, at "
            f"{show(costs.hedge_rate, 'percent2')} a year and "
            f"{show(costs.hedge_cost_per_side, 'percent2')} a trade",
        ),
        make_table(
            view.tables["hedged_difference"],
            f"Hedged portfolios against {hedged(linear)}",
            folded=True,
        ),
        make_table(
            var_frame(view.tables["hedged_value_at_risk"]),
            "VaR forecasts of the hedged portfolios",
            folded=True,
        ),
    ]


def wealth(view: View) -> ReportSection:
    """Wealth over time, with the state of the market behind it, and drawdowns."""
    returns = view.with_market()
    hidden = set(returns) - set(view.highlighted)
    drawdowns = {name: metrics.drawdown_series(r) for name, r in returns.items()}
    worst = {name: float(np.max(d)) for name, d in drawdowns.items()}
    growth = charts.equity_curves(view.dates, returns, hidden=hidden)
    regimes, shaded = view.study.regimes, ""
    if regimes is not None:
        labels = regimes.hindsight[view.study.test]
        shade(growth, view.dates, [Regime(int(label)).text for label in labels])
        shaded = " Shaded: bear (orange) and range-bound markets (grey), labelled in hindsight."
    return ReportSection(
        "wealth",
        "Wealth",
        "A strategy has the same colour in every chart; a broken line of that colour is the same "
        "strategy with the overlay. Click a name in a legend to hide or show it."
        + view.market_note(),
        (
            Chart(
                "equity",
                growth,
                "Growth of 1 after costs, on a logarithmic axis." + shaded,
                "Final wealth: "
                + listing({n: float(np.prod(1 + r)) for n, r in returns.items()}, "ratio"),
            ),
            Chart(
                "drawdown",
                charts.drawdown_curves(view.dates, drawdowns, hidden=hidden),
                "Drawdown: loss since the last peak.",
                "Maximum drawdown: " + listing(worst, "percent"),
            ),
        ),
    )


def calendar(view: View) -> ReportSection:
    """Calendar years and months."""
    return ReportSection(
        "years",
        "Years",
        "A Sharpe ratio may rest on one good year; look at the years in which the model lost.",
        (
            make_table(_by_year(view, "total_return"), "Return after costs", kind="percent"),
            make_table(
                _by_year(view, "max_drawdown"),
                "Deepest drawdown reached in the year, from the highest wealth so far",
                kind="percent",
            ),
            Chart(
                "months",
                charts.month_heatmap(view.dates, view.net[view.focus]),
                f"{view.focus}: monthly returns after costs, in per cent. Blue is a gain, orange "
                "a loss.",
                alt="The table above has the years.",
            ),
        ),
    )


def _by_year(view: View, what: str) -> pd.DataFrame:
    """One row per year, one column per strategy."""
    long = view.tables["by_year"].assign(year=lambda t: t["year"].astype(str))
    return pivot(long, "year", "strategy", what, list(view.charted()))


def forecasts(view: View) -> ReportSection:
    """How well scores rank stocks, before any portfolio is built on them."""
    study = view.study
    horizons = study.config.target.horizons
    days = study.dates[study.decisions]
    blocks: list[Block] = []
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
        blocks.append(
            Chart(
                f"ic-{horizon}",
                charts.line_chart(days[shown], summed, unit="cumulative Rank IC", height=320),
                f"Cumulative Rank IC over {horizon} days. A steady slope is a steady signal; where "
                "the line is flat there is none.",
                "Mean: " + listing(mean, "small"),
                narrow=len(horizons) > 1,
            )
        )
    table = make_table(
        view.tables["ic"],
        "Information coefficients out of sample, with intervals. A mean Rank IC whose interval "
        "contains zero is no evidence of skill.",
        columns={"horizon": Column("Horizon", "text")},
    )
    return ReportSection(
        "forecasts",
        "Forecasts",
        "The correlation across stocks, on each decision date, between scores and the returns "
        "that followed: the quality of a forecast before any portfolio is built on it.",
        (*blocks, table, *_score_differences(view), *_choices(view)),
    )


CHOICE_COLUMNS = {
    "fold": Column("Fold", "text"),
    "unit": Column("Unit of the target", "text"),
    "method": Column("Regression", "text"),
    "alpha": Column("Ridge", "ratio", "Strength, in units of a factor's variance"),
    "rank_ic": Column("Rank IC", "small", "On training decisions that were not fitted on"),
    "chosen": Column("Chosen", "flag"),
}


def _choices(view: View) -> list[Block]:
    """What each model chose to be trained on, fold by fold."""
    table = view.tables["choices"]
    if table.empty:
        return []
    shown = table.assign(fold=table["fold"].astype(str)).set_index(["model", "fold"])
    caption = (
        "by purged cross-validation on the training decisions of each fold: the highest mean Rank "
        "IC with plain returns over the longest horizon. Networks were compared by one seed with "
        "a third of their steps"
    )
    taken = shown[shown["chosen"]].drop(columns="chosen")
    return [
        make_table(taken, f"Chosen {caption}.", columns=CHOICE_COLUMNS),
        make_table(shown, "Every setting to choose from", columns=CHOICE_COLUMNS, folded=True),
    ]


# Horizons in days whose differences are shown at once; the others are in a folded table.
_SHOWN_HORIZONS = (5, 20, 60)
DIFFERENCE_COLUMNS = {
    "horizon": Column("Horizon", "text"),
    "ic": Column("IC", "small"),
    "ic_benchmark": Column("IC, linear", "small"),
    "ic_difference": Column("IC, difference", "small", "Paired: same decisions, same stocks"),
    "ic_difference_t": Column("t", "ratio", "Newey-West, which allows for overlapping returns"),
    "rank_ic": Column("Rank IC", "small"),
    "rank_ic_benchmark": Column("Rank IC, linear", "small"),
    "rank_ic_difference": Column("Rank IC, difference", "small", "Paired, of ranks"),
    "rank_ic_difference_t": Column("t of Rank IC", "ratio", "Newey-West"),
}


def _score_differences(view: View) -> list[Block]:
    """Every other model's scores against the linear one's: a sentence, and the table."""
    table = view.tables["ic_differences"]
    if table.empty:
        return []
    horizon, level = findings_in_words.yardstick(view.tables["ic"]), view.study.config.report.level
    said = findings_in_words.compare_scores(table, view.focus, horizon, level)
    at = table.index.get_level_values("horizon")
    shown = at.isin({*view.study.config.target.horizons, *_SHOWN_HORIZONS})
    caption = (
        f"Against {LABELS['linear']}: mean difference of the daily coefficients, with Newey-West "
        "intervals. Only stocks count that both models score"
    )
    blocks: list[Block] = [] if said is None else [TextBlock("text", (said.claim, said.detail))]
    blocks.append(make_table(table[shown], f"{caption}.", columns=DIFFERENCE_COLUMNS))
    if not shown.all():
        every = make_table(
            table, f"{caption}: all horizons.", columns=DIFFERENCE_COLUMNS, folded=True
        )
        blocks.append(every)
    return blocks


def attribution(view: View) -> ReportSection:
    """The steps from equal weight to the overlay, and what each added."""
    table = view.tables["ladder"]
    models = [str(m) for m in dict.fromkeys(table.index.get_level_values("model"))]
    steps = max(([str(r) for r in table.loc[model].index] for model in models), key=len, default=[])
    hidden = [model for model in models if model not in view.highlighted]
    step_charts = [
        Chart(
            f"steps-{key}",
            charts.step_chart(
                steps,
                {m: table[key].xs(m, level="model").reindex(steps).to_numpy(float) for m in models},
                percent=percent,
                hidden=hidden,
            ),
            title,
            alt="Step by step; the table below has the numbers.",
            narrow=True,
        )
        for key, title, percent in (
            ("sharpe", "Sharpe ratio after each step", False),
            ("max_drawdown", "Maximum drawdown after each step", True),
            ("var_95", "Value at risk after each step", True),
        )
    ]
    return ReportSection(
        "attribution",
        "Attribution",
        "Each step adds one component, over the same days and with the same costs: all stocks with "
        "equal weights; the stocks that the model scores best, with equal weights (+ scores); with "
        "the weights of the allocation (+ allocation); with the overlay (+ overlay).",
        (
            TextBlock("text", _contributions(view)),
            *step_charts,
            *view.make_tables(
                table[STEPS],
                "Performance after each step, net of costs",
                columns=STEP_COLUMNS,
            ),
            make_table(
                view.tables["attribution"],
                "Contribution of each step. They add up to the total; costs are already deducted",
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


def _contributions(view: View) -> tuple[str, ...]:
    """What the network adds, and what the overlay adds, between the paper's two ends."""
    focus, linear = view.focus, LABELS["linear"]
    rows = view.tables["table_1"]
    ends = (linear, focus, under_overlay(focus))
    if focus == linear or any(name not in rows.index for name in ends):
        return (_overlay_contribution(view, linear),) if linear in rows.index else ()
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
            f"({show(middle - first, step)}{unit} by the network, "
            f"{show(last - middle, step)}{unit} by the overlay)"
        )
    row = view.tables["table_1_difference"].loc[focus].to_dict()
    low, high = float(row["sharpe_difference_low"]), float(row["sharpe_difference_high"])
    zero = "which includes zero" if low <= 0 <= high else "which does not include zero"
    network = (
        "The network's own contribution to the Sharpe ratio has an interval of "
        f"{show(low, 'signed')} to {show(high, 'signed')}, {zero}. "
        f"{_overlay_contribution(view, focus)}"
    )
    return (
        f"From {linear} without the overlay to {ends[2]}: {'; '.join(moves)}.",
        network,
        _overlay_contribution(view, linear),
    )


def _overlay_contribution(view: View, model: str) -> str:
    """What the overlay did to one model, with the interval of its step."""
    row = view.tables["ladder"].xs(model, level="model").loc["+ overlay"].to_dict()
    low, high = float(row["sharpe_added_low"]), float(row["sharpe_added_high"])
    verdict = "not significant" if low <= 0 <= high else "significant"
    return (
        f"On {model}, the overlay changed the maximum drawdown by "
        f"{show(float(row['max_drawdown_added']), 'points')} points, the VaR by "
        f"{show(float(row['var_95_added']), 'points2')} points, the annual return by "
        f"{show(float(row['annual_return_added']), 'points')} points and the Sharpe ratio by "
        f"{show(float(row['sharpe_added']), 'signed')} (interval {show(low, 'signed')} to "
        f"{show(high, 'signed')}: {verdict})."
    )


def confirmation(view: View) -> ReportSection:
    """Table I and the steps on days that were not seen while settings were chosen."""
    since, tables = view.study.config.report.confirm_from, view.tables
    lead = "Settings that were chosen on one period have to be evaluated on another."
    if "confirm_table_1" not in tables:
        text = (
            "No confirmation period was set aside in this study: report.confirm_from names the "
            "first day whose results were not seen while settings were chosen. Without it, every "
            "result here may be due in part to that choice."
        )
        return ReportSection("confirmation", "Confirmation", lead, (TextBlock("text", (text,)),))
    linear = LABELS["linear"]
    return ReportSection(
        "confirmation",
        "Confirmation",
        f"{lead} These tables cover only the days from {since} on, which were set aside.",
        (
            make_table(tables["confirm_table_1"], f"Table I from {since} on"),
            make_table(
                tables["confirm_table_1_fair"],
                "Comparison at equal risk: every strategy with the overlay, against "
                f"{under_overlay(linear)}",
            ),
            make_table(
                tables["confirm_table_1_difference"],
                f"The paper's comparison: every strategy against {linear} without the overlay",
                folded=True,
            ),
            make_table(
                tables["confirm_ladder"][STEPS],
                "Performance after each step",
                columns=STEP_COLUMNS,
                folded=True,
            ),
            make_table(
                var_frame(tables["confirm_value_at_risk"]),
                "VaR forecasts",
                folded=True,
            ),
        ),
    )


def sensitivity(view: View) -> ReportSection:
    """Costs, wealth, horizon and period."""
    blocks = [*_cost_blocks(view), *_size_blocks(view), *_decay_blocks(view), *_periods(view)]
    return ReportSection(
        "sensitivity",
        "Sensitivity",
        "The same decisions under other assumptions: a result should not depend on one of them.",
        tuple(blocks),
    )


def _curves(
    table: pd.DataFrame, names: list[str], x: str, y: str, scale: float = 1.0
) -> dict[str, tuple[Array, Array]]:
    curves = {}
    for name in names:
        own = table[table["strategy"] == name].sort_values(x)
        if len(own):
            curves[name] = (scale * own[x].to_numpy(dtype=float), own[y].to_numpy(dtype=float))
    return curves


def _cost_blocks(view: View) -> list[Block]:
    table = view.tables["cost_sweep"]
    if table.empty:
        text = "Other costs were not computed: report.sensitivity is off."
        return [TextBlock("text", (text,))]
    names = list(view.charted())
    points = table.assign(cost_per_side=(1e4 * table["cost_per_side"]).round(6))
    wide = pivot(points, "strategy", "cost_per_side", "sharpe", list(view.net))
    wide.columns = pd.Index([f"{bp:g} bp" for bp in wide.columns])
    returns = pivot(points, "strategy", "cost_per_side", "annual_return", list(view.net))
    returns.columns = wide.columns
    return [
        Chart(
            "cost-sweep",
            charts.sweep_chart(
                _curves(table, names, "cost_per_side", "sharpe", 1e4),
                x_title="cost per side, in basis points",
                y_title="Sharpe ratio",
                hidden=view.others,
            ),
            "Sharpe ratio against the cost per side. The decisions are the same at every cost.",
            alt="The table below has the numbers.",
            narrow=True,
        ),
        *_capacity_chart(view),
        *view.make_tables(wide, "Sharpe ratio by cost per side, in basis points"),
        make_table(returns, "Annual return by cost per side", kind="percent", folded=True),
    ]


def _capacity_chart(view: View) -> list[Block]:
    table = view.tables["capacity"]
    if table.empty:
        return []
    names = list(dict.fromkeys(table["strategy"]))
    return [
        Chart(
            "capacity",
            charts.sweep_chart(
                _curves(table, names, "wealth", "annual_return"),
                x_title="initial wealth, in the currency of the prices",
                y_title="annual return",
                percent=True,
                ticks={float(size): _money(float(size)) for size in table["wealth"].unique()},
                hidden=[n for n in names if n not in view.highlighted],
            ),
            "Annual return against initial wealth: larger orders have more market impact, and may "
            "not be filled.",
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
            "Capacity was not measured: it needs traded volumes, unadjusted closes and "
            "report.sensitivity."
        )
        return [TextBlock("text", (text,))]
    long = table.assign(wealth=table["wealth"].map(_money))
    return [
        make_table(
            long.set_index(["strategy", "wealth"]),
            "Capacity: the same decisions with more initial wealth, with market impact and a limit "
            "on each order's share of the volume. Where turnover falls, orders were cut to that "
            "limit.",
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
            charts.sweep_chart(
                {n: (column(n, "horizon"), column(n, "rank_ic")) for n in names},
                x_title="days ahead",
                y_title="mean Rank IC",
                spread={n: (column(n, "rank_ic_low"), column(n, "rank_ic_high")) for n in names},
                hidden=[n for n in names if n not in view.highlighted],
            ),
            "Decay of the forecasts: mean Rank IC by horizon, with intervals.",
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
        *view.make_tables(wide, "Sharpe ratio by part of the test"),
        make_table(
            table.set_index(["strategy", "first", "last"]), "All measures by part", folded=True
        ),
    ]
