"""Risk: its forecasts against what came, volatility, exposure, limits.

How strategies stood the states of the market: regimes, replays, shocks, the fan of drawdowns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from alphakeel.model_factory import EQUAL_WEIGHT, under_overlay
from alphakeel.report import charts, risk_charts
from alphakeel.report.sections import (
    YEAR,
    Array,
    Block,
    Chart,
    Section,
    View,
    Words,
    listing,
    pivot,
)
from alphakeel.report.table_cells import Column, Table, make_table, show
from alphakeel.stats import performance
from alphakeel.stats import rolling as timeseries

__all__ = [
    "regimes",
    "risk",
    "stress",
    "var_frame",
]

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
        constant = float(performance.value_at_risk(view.net[name]))
        forecast = np.asarray(view.study.portfolios.value_at_risk[name].var, dtype=np.float64)
        known_before = np.append(np.nan, forecast[:-1])
        charts.append(
            Chart(
                "exceedances" if name == view.hero else "exceedances-overlay",
                risk_charts.return_chart(
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
    figure = charts.line_chart(
        view.dates, annual, unit="a year", percent=True, zero=True,
        hidden=set(returns) - set(view.focus),
    )  # fmt: skip
    aimed = ""
    if target is not None:
        risk_charts.mark_target(figure, target)
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
            risk_charts.bound_chart(
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


def regimes(view: View) -> Section:
    """Table II: what each strategy did in bull, bear and range-bound markets."""
    lead = (
        "Bull, bear and range-bound markets as hindsight has them. They sort the results and "
        "decide nothing; how late a rule without hindsight would have been is below."
    )
    if "table_2" not in view.tables:
        none = Words(
            "text", ("The data have no market index, so there are no regimes to sort by.",)
        )
        return Section("regimes", "Regimes", lead, (none,))
    table = view.tables["table_2"]
    kinds = [str(k) for k in dict.fromkeys(table.index.get_level_values("regime")) if k != "all"]
    days = {kind: float(table["days"].xs(kind, level="regime").iloc[0]) for kind in kinds}
    return Section(
        "regimes",
        "Regimes",
        lead,
        (
            Chart(
                "regimes",
                risk_charts.regime_bars(
                    kinds,
                    *(
                        {n: YEAR * _over(table, kinds, n, f"mean_return{end}") for n in view.focus}
                        for end in ("", "_low", "_high")
                    ),
                ),
                "Mean daily return by regime, times 252, with intervals. Wide intervals are short "
                "regimes.",
                "Days: " + listing(days, "count"),
            ),
            _regime_table(
                view.in_focus(table),
                "Table II. The strategies in focus by regime; differences are to plain linear",
            ),
            _regime_table(table, "Table II for every strategy", folded=True),
            _regime_table(
                view.tables["table_2_causal"].rename_axis(index={"rule": "known by"}),
                "The same by labels that were known at the close before, by rule",
                folded=True,
            ),
            *_lag_blocks(view),
        ),
    )


def _over(table: pd.DataFrame, kinds: Sequence[str], name: str, column: str) -> Array:
    return np.array([float(table.loc[(kind, name), column]) for kind in kinds])  # type: ignore[arg-type]


def _regime_table(table: pd.DataFrame, caption: str, *, folded: bool = False) -> Table:
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
            "What rules without hindsight are worth: how often their label is right, how many of "
            "the days they find, how late they are, and what the index earned on the day after",
            columns={
                "share_of_days": Column("Share of days", "percent", "So labelled"),
                "right": Column("Right", "percent", "Of the days so labelled"),
                "found": Column("Found", "percent", "Of the days that were so"),
                "agreement": Column("Agreement", "percent", "Of all days, for the rule"),
                "median_lag": Column("Days late", "count", "Median over the legs recognised"),
                "recognised": Column("Legs recognised", "percent", "After they began"),
                "already": Column("By luck", "percent", "The label was left from before"),
                "next_day_return": Column("Next day, a year", "percent", "Mean of the index"),
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
                "Every turning point of the index, and when each rule knew",
                columns={
                    "kind": Column("Kind", "text"),
                    "move": Column("Move of the leg", "percent", "Up to the next turning point"),
                },
                folded=True,
            )
        )
    return blocks


def stress(view: View) -> Section:
    """Replays, shocks and the fan of drawdowns."""
    blocks = [*_fan_blocks(view), *_replay_blocks(view), *_shock_blocks(view)]
    if "replay" not in view.tables:
        blocks.append(
            Words("text", ("Replays and shocks need a market index, which the data have not.",))
        )
    return Section(
        "stress",
        "Stress",
        "What the worst stretches on record did to each strategy, what a fall of the market would "
        "do, and how deep the next year may go.",
        tuple(blocks),
    )


def _fan_blocks(view: View) -> list[Block]:
    pair = [n for n in (view.hero, under_overlay(view.hero)) if n in view.study.stress.fans]
    fans = {name: view.study.stress.fans[name] for name in pair}
    reach = 1.05 * max((float(fan.quantiles.max()) for fan in fans.values()), default=1.0)
    blocks: list[Block] = []
    for name, fan in fans.items():
        ahead = len(fan.days)
        time = "year" if ahead == YEAR else f"{ahead} days"
        sure = int(np.argmin(np.abs(fan.levels - 0.95)))
        blocks.append(
            Chart(
                "fan" if name == view.hero else "fan-overlay",
                risk_charts.fan_chart(fan.days, fan.levels, fan.quantiles, name=name, reach=reach),
                f"{name}: with {show(float(fan.levels[sure]), 'whole')} confidence the drawdown of "
                f"the next {time} stays under {show(float(fan.bounds[sure]), 'percent')}.",
                "Bootstrapped from the days of the test; a kind of market that the test has not "
                "seen is not in it.",
                alt="The ends of the fans are in the table below.",
                narrow=True,
            )
        )
    table = view.tables["drawdown_fan"]
    columns = {}
    for column in map(str, table):
        way, _, number = column.partition("_")
        columns[column] = (
            Column(f"{number} %", "percent", "The drawdown stays under this with this probability")
            if way == "under"
            else Column(f"P > {number} %", "percent", "Probability of a deeper drawdown")
        )
    return [*blocks, *view.laid_out(table, "Where the fans end, by strategy", columns=columns)]


def _replay_blocks(view: View) -> list[Block]:
    if "replay" not in view.tables:
        return []
    replay = view.tables["replay"].assign(
        first=lambda t: [str(day)[:10] for day in t["first"]],
        last=lambda t: [str(day)[:10] for day in t["last"]],
    )
    replay["stretch"] = [
        f"{days} {'day' if days == 1 else 'days'} to {last}"
        for days, last in zip(replay["days"], replay["last"], strict=True)
    ]
    wide = replay.pivot_table(
        index=["stretch", "market"], columns="strategy", values="total_return", sort=False
    ).rename_axis(columns=None)
    shown = (*view.focus, EQUAL_WEIGHT)
    wide = wide[[n for n in shown if n in wide.columns]].reset_index("market")
    percent = {str(name): Column(str(name), "percent") for name in wide}
    return [
        make_table(
            wide.rename(columns={"market": "Market"}),
            "The worst stretches of the market over 1, 5, 20 and 60 days, and what the strategies "
            "returned in them",
            columns={"Market": Column("Market", "percent"), **percent},
        ),
        make_table(
            replay.drop(columns=["rank", "stretch"]).set_index(["strategy", "first", "last"]),
            "The same in full: share of the market's fall, drawdown, exposure",
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
            view.laid_out(
                wide.loc[order],
                "If the market fell in one day: return by the betas of the stocks held, for the "
                "mean of all portfolios held in the test and for the worst. Check: what the "
                "market's worst days took, over what the betas gave.",
                kind="percent",
                columns={"check": Column("Check", "ratio", "Above 1: the betas said too little")},
            )
        )
    if "factor_shocks" in view.tables:
        table = view.tables["factor_shocks"]
        wide = table["together"].unstack("factor")
        order = [n for n in view.net if n in wide.index]
        blocks.extend(
            view.laid_out(
                wide.loc[order, list(dict.fromkeys(table.index.get_level_values("factor")))]
                .rename_axis(columns=None),
                "If the market, momentum or volatility fell by three standard deviations in a "
                "day, the others moving as they usually do",
                kind="percent2",
            )
        )  # fmt: skip
        blocks.append(
            make_table(
                table,
                "The same in full: size of the fall, slope with its t, alone and together",
                columns={"shock": Column("Fall", "percent"), "t": Column("t", "ratio")},
                folded=True,
            )
        )
    return blocks
