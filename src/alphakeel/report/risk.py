"""Risk: VaR forecasts, volatility, exposure and limits; regimes; replays, shocks and drawdowns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from alphakeel.model_factory import EQUAL_WEIGHT, LABELS, under_overlay
from alphakeel.report import charts, risk_charts
from alphakeel.report.sections import (
    YEAR,
    Array,
    Block,
    Chart,
    ReportSection,
    TextBlock,
    View,
    listing,
    pivot,
)
from alphakeel.report.table_cells import Column, ReportTable, make_table, show
from alphakeel.stats import performance, rolling

__all__ = [
    "regimes",
    "risk",
    "stress",
    "var_frame",
]

VOLATILITY_WINDOW = 63
STATUS = {
    "optimal": "all limits satisfied",
    "silent": "no scores, so no decision",
    "no_history": "cash, because returns are missing",
    "less_invested": "satisfied by holding more cash",
    "more_turnover": "satisfied by exceeding the turnover limit",
    "least_breach": "limits violated by as little as possible",
}
OVERLAY_COLUMNS = {
    "leverage": Column("Maximum", "percent", "Share of days at the maximum exposure"),
    "volatility": Column("Volatility target", "percent", "Share of days on which it was binding"),
    "var": Column("VaR cap", "percent", "Share of days on which it was binding"),
    "throttle": Column("Bear throttle", "percent", "Share of days on which it was binding"),
    "brake": Column("Drawdown brake", "percent", "Share of days on which it was active"),
}


def risk(view: View) -> ReportSection:
    """VaR forecasts against realised losses, volatility and exposure."""
    blocks: list[Block] = [*_var_blocks(view), *_volatility_blocks(view), *_exposure_blocks(view)]
    blocks += _decision_blocks(view.tables["decisions"])
    return ReportSection(
        "risk",
        "Risk",
        "Whether large losses were within the forecast made at the close before, and whether the "
        "overlay kept the risk near its target.",
        tuple(blocks),
    )


def _decision_blocks(decisions: pd.DataFrame) -> list[Block]:
    """Limits that an optimiser could not satisfy, in words."""
    if decisions.empty:
        return []
    sentences = []
    for name, own in decisions.groupby("strategy", sort=False):
        satisfied = own["status"].isin(("optimal", "silent", "no_history"))
        violated, every = int(own.loc[~satisfied, "decisions"].sum()), int(own["decisions"].sum())
        conflicts = [c for c in dict.fromkeys(own.loc[~satisfied, "conflict"]) if c]
        why = f"; most frequent conflicts: {'; '.join(conflicts)}" if conflicts else ""
        sentences.append(
            f"{name}: at {violated:,} of {every:,} decisions not all limits could be "
            f"satisfied{why}."
            if violated
            else f"{name}: all limits were satisfied at all {every:,} decisions."
        )
    table = decisions.assign(status=decisions["status"].map(lambda s: STATUS.get(s, s)))
    return [
        TextBlock("list", tuple(sentences), "Limits of the optimiser"),
        make_table(
            table.set_index("strategy"),
            "Decisions by outcome of the optimiser, with an example of each",
            folded=True,
        ),
    ]


def _var_blocks(view: View) -> list[Block]:
    pair = [n for n in (view.focus, under_overlay(view.focus)) if n in view.net]
    table = view.tables["value_at_risk"]
    level = "95\N{NARROW NO-BREAK SPACE}%"
    charts: list[Block] = []
    for name in pair:
        constant = float(performance.value_at_risk(view.net[name]))
        forecast = np.asarray(view.study.portfolios.value_at_risk[name].var, dtype=np.float64)
        known_before = np.append(np.nan, forecast[:-1])
        charts.append(
            Chart(
                "exceedances" if name == view.focus else "exceedances-overlay",
                risk_charts.return_chart(
                    view.dates, view.net[name], known_before, constant, name=name
                ),
                f"{name}: daily returns, the one-day {level} VaR forecast made at the close "
                "before, and its exceedances. Dashed: historical VaR of the whole test, "
                f"{show(constant, 'percent2')}.",
                str(table.loc[name, "verdict"]),
            )
        )
    return [
        *charts,
        *view.make_tables(
            var_frame(table),
            f"VaR forecasts of all strategies at {level}. A p-value below 0.05 rejects a forecast: "
            "too many or too few exceedances, or clustered, or predictable.",
        ),
    ]


def var_frame(table: pd.DataFrame) -> pd.DataFrame:
    """The tests of VaR forecasts, and of their result in words what the columns do not say."""
    reason = table["verdict"].astype(str).str.split(": ", n=1).str[-1]
    return table.drop(columns="tick_loss").assign(verdict=reason)


def _volatility_blocks(view: View) -> list[Block]:
    returns = view.with_market()
    daily = rolling.trailing_std(np.column_stack(list(returns.values())), VOLATILITY_WINDOW)
    annual = dict(zip(returns, (daily * np.sqrt(YEAR)).T, strict=True))
    enough = len(view.dates) >= VOLATILITY_WINDOW
    mean = {n: float(np.nanmean(v)) for n, v in annual.items()} if enough else {}
    target = view.study.config.overlay.target_volatility
    figure = charts.line_chart(
        view.dates, annual, unit="annualised", percent=True, zero=True,
        hidden=set(returns) - set(view.highlighted),
    )  # fmt: skip
    dotted = ""
    if target is not None:
        risk_charts.mark_target(figure, target)
        dotted = f" Dotted: the overlay's target, {show(target, 'whole')}."
    blocks: list[Block] = [
        Chart(
            "volatility",
            figure,
            f"Volatility over the trailing {VOLATILITY_WINDOW} days, annualised." + dotted,
            "Mean: " + listing(mean, "percent")
            if enough
            else "The test is shorter than this window.",
        )
    ]
    yearly = view.tables["volatility"]
    if len(yearly):
        long = yearly.assign(year=yearly["year"].astype(str))
        wide = pivot(long, "year", "strategy", "annual_volatility", list(view.study.overlaid))
        target_text = "" if target is None else f" (target: {show(target, 'whole')})"
        blocks.append(
            make_table(
                wide, f"Realised volatility by calendar year, with the overlay{target_text}",
                kind="percent",
            )
        )  # fmt: skip
    return blocks


def _exposure_blocks(view: View) -> list[Block]:
    plans = view.study.portfolios.overlays
    if view.focus not in plans:
        return []
    own = plans[view.focus]
    rules = own.bound()
    mean = {name: float(plan.exposure.mean()) for name, plan in plans.items()}
    return [
        Chart(
            "exposure",
            risk_charts.exposure_chart(
                view.dates,
                own.exposure,
                rules,
                {n: p.exposure for n, p in plans.items() if n != view.focus},
            ),
            f"{under_overlay(view.focus)}: exposure, in the colour of the rule that was binding; "
            "the rest is cash.",
            "Mean exposure: " + listing(mean, "percent"),
        ),
        make_table(
            view.tables["overlay"],
            "Exposure with the overlay, and how often each rule was binding",
            columns=OVERLAY_COLUMNS,
        ),
    ]


def regimes(view: View) -> ReportSection:
    """Table II: what each strategy did in bull, bear and range-bound markets."""
    lead = (
        "Bull, bear and range-bound markets, labelled in hindsight. The labels sort results and "
        "enter no decision; the last tables show how late rules without hindsight are."
    )
    if "table_2" not in view.tables:
        none = TextBlock(
            "text", ("The data contain no market index, so there are no regimes to sort by.",)
        )
        return ReportSection("regimes", "Regimes", lead, (none,))
    table = view.tables["table_2"]
    kinds = [str(k) for k in dict.fromkeys(table.index.get_level_values("regime")) if k != "all"]
    days = {kind: float(table["days"].xs(kind, level="regime").iloc[0]) for kind in kinds}
    return ReportSection(
        "regimes",
        "Regimes",
        lead,
        (
            Chart(
                "regimes",
                risk_charts.regime_bars(
                    kinds,
                    *(
                        {
                            n: YEAR * _over(table, kinds, n, f"mean_return{end}")
                            for n in view.highlighted
                        }
                        for end in ("", "_low", "_high")
                    ),
                ),
                "Mean daily return by regime, times 252, with intervals. An interval is wide where "
                "a regime has few days.",
                "Days: " + listing(days, "count"),
            ),
            _regime_table(
                view.highlighted_rows(table),
                "Table II. The main strategies by regime; differences are to "
                f"{LABELS['linear']} without the overlay",
            ),
            _regime_table(table, "Table II for all strategies", folded=True),
            _regime_table(
                view.tables["table_2_causal"],
                "The same with labels known at the close before, by rule",
                folded=True,
            ),
            *_lag_blocks(view),
        ),
    )


def _over(table: pd.DataFrame, kinds: Sequence[str], name: str, column: str) -> Array:
    return np.array([float(table.loc[(kind, name), column]) for kind in kinds])  # type: ignore[arg-type]


def _regime_table(table: pd.DataFrame, caption: str, *, folded: bool = False) -> ReportTable:
    wanted = ["days", "annual_return", "sharpe", "sharpe_low", "sharpe_high", "var_95",
              "deepest_drawdown", "drawdown_share", "sharpe_difference", "sharpe_difference_low",
              "sharpe_difference_high", "sharpe_difference_p"]  # fmt: skip
    if table["note"].astype(bool).any():
        wanted.append("note")
    return make_table(table[wanted], caption, folded=folded)


def _lag_blocks(view: View) -> list[Block]:
    agreement, lags = view.tables["regime_agreement"], view.tables["regime_lags"]
    blocks: list[Block] = [
        make_table(
            agreement,
            "Rules without hindsight: how often their label is right, what share of the days they "
            "detect, how late they are, and the return of the index on the next day",
            columns={
                "share_of_days": Column("Share of days", "percent", "With this label"),
                "right": Column("Precision", "percent", "Share of these days that are right"),
                "found": Column("Recall", "percent", "Share of the regime's days detected"),
                "agreement": Column("Accuracy", "percent", "Share of all days that are right"),
                "median_lag": Column("Days late", "count", "Median over the legs recognised"),
                "recognised": Column("Legs recognised", "percent", "After they began"),
                "already": Column("Already labelled", "percent", "Legs whose label was left over"),
                "next_day_return": Column(
                    "Next-day return", "percent", "Mean of the index, annualised"
                ),
            },
        )
    ]
    if len(lags):
        text = lags.assign(
            turning_point=[str(day)[:10] for day in lags["turning_point"]],
            recognised=["never" if pd.isna(day) else str(day)[:10] for day in lags["recognised"]],
        )
        blocks.append(
            make_table(
                text.set_index(["turning_point", "rule"]),
                "All turning points of the index, and when each rule recognised them",
                columns={
                    "kind": Column("Kind", "text"),
                    "move": Column("Move of the leg", "percent", "Up to the next turning point"),
                },
                folded=True,
            )
        )
    return blocks


def stress(view: View) -> ReportSection:
    """Replays, shocks and the drawdown fan."""
    blocks = [*_fan_blocks(view), *_replay_blocks(view), *_shock_blocks(view)]
    if "replay" not in view.tables:
        blocks.append(
            TextBlock(
                "text", ("Replays and shocks need a market index, which the data do not contain.",)
            )
        )
    return ReportSection(
        "stress",
        "Stress tests",
        "What the worst periods on record did to each strategy, what a fall of the market would "
        "do, and how deep the next drawdown may be.",
        tuple(blocks),
    )


def _fan_blocks(view: View) -> list[Block]:
    pair = [n for n in (view.focus, under_overlay(view.focus)) if n in view.study.stress.fans]
    fans = {name: view.study.stress.fans[name] for name in pair}
    reach = 1.05 * max((float(fan.quantiles.max()) for fan in fans.values()), default=1.0)
    blocks: list[Block] = []
    for name, fan in fans.items():
        ahead = len(fan.days)
        time = "year" if ahead == YEAR else f"{ahead} days"
        at = int(np.argmin(np.abs(fan.levels - 0.95)))
        blocks.append(
            Chart(
                "fan" if name == view.focus else "fan-overlay",
                risk_charts.fan_chart(fan.days, fan.levels, fan.quantiles, name=name, reach=reach),
                f"{name}: with probability {show(float(fan.levels[at]), 'whole')}, the maximum "
                f"drawdown of the next {time} is at most "
                f"{show(float(fan.bounds[at]), 'percent')}.",
                "Bootstrapped from the days of the test: market conditions that did not occur in "
                "the test are not covered.",
                alt="The quantiles on the last day are in the table below.",
                narrow=True,
            )
        )
    table = view.tables["drawdown_fan"]
    columns = {}
    for column in map(str, table):
        way, _, number = column.partition("_")
        columns[column] = (
            Column(
                f"{number} %",
                "percent",
                "Not exceeded with this probability",
            )
            if way == "under"
            else Column(f"P > {number} %", "percent", "Probability of a deeper drawdown")
        )
    return [
        *blocks,
        *view.make_tables(
            table, "Maximum drawdown at the end of the fan, by strategy", columns=columns
        ),
    ]


def _replay_blocks(view: View) -> list[Block]:
    if "replay" not in view.tables:
        return []
    replay = view.tables["replay"].assign(
        first=lambda t: [str(day)[:10] for day in t["first"]],
        last=lambda t: [str(day)[:10] for day in t["last"]],
    )
    replay["window"] = [
        f"{days} {'day' if days == 1 else 'days'} to {last}"
        for days, last in zip(replay["days"], replay["last"], strict=True)
    ]
    wide = replay.pivot_table(
        index=["window", "market"], columns="strategy", values="total_return", sort=False
    ).rename_axis(columns=None)
    shown = (*view.highlighted, EQUAL_WEIGHT)
    wide = wide[[n for n in shown if n in wide.columns]].reset_index("market")
    percent = {str(name): Column(str(name), "percent") for name in wide}
    return [
        make_table(
            wide.rename(columns={"market": "Market"}),
            "The market's worst windows of 1, 5, 20 and 60 days, and the returns of the strategies "
            "in them",
            columns={"Market": Column("Market", "percent"), **percent},
        ),
        make_table(
            replay.drop(columns=["rank", "window"]).set_index(["strategy", "first", "last"]),
            "All measures: share of the market's fall, drawdown, exposure",
            columns={"market": Column("Market", "percent")},
            folded=True,
        ),
    ]


def _shock_blocks(view: View) -> list[Block]:
    blocks: list[Block] = []
    if "market_shocks" in view.tables:
        table = view.tables["market_shocks"]
        falls = [float(f) for f in dict.fromkeys(table.index.get_level_values("shock"))]
        wide = pd.DataFrame(
            {
                f"{what} {show(fall, 'whole')}": table.xs(fall, level="shock")[key]
                for key, what in (("mean", "mean,"), ("worst", "worst,"))
                for fall in falls
            }
        )
        wide["check"] = table.xs(falls[0], level="shock")["check"]
        order = [n for n in view.net if n in wide.index]
        blocks.extend(
            view.make_tables(
                wide.loc[order],
                "Market shock: return if the market fell by this much in one day, from the betas "
                "of the stocks held; mean and worst of all portfolios held in the test. Check: "
                "loss on the market's worst days, over the loss that the betas give.",
                kind="percent",
                columns={"check": Column("Check", "ratio", "Above 1: betas understate the loss")},
            )
        )
    if "factor_shocks" in view.tables:
        table = view.tables["factor_shocks"]
        wide = table["together"].unstack("factor")
        order = [n for n in view.net if n in wide.index]
        blocks.extend(
            view.make_tables(
                wide.loc[order, list(dict.fromkeys(table.index.get_level_values("factor")))]
                .rename_axis(columns=None),
                "Factor shock: return if the market, momentum or volatility fell by three standard "
                "deviations in one day, the others moving as they usually do",
                kind="percent2",
            )
        )  # fmt: skip
        blocks.append(
            make_table(
                table,
                "All measures: size of the shock, slope with its t value, alone and together",
                columns={"shock": Column("Shock", "percent"), "t": Column("t", "ratio")},
                folded=True,
            )
        )
    return blocks
