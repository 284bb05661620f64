"""The verdict in plain words, drawn from the tables by rule, so that it cannot flatter."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from alphakeel.evaluation.performance import strategy_tables
from alphakeel.model_factory import EQUAL_WEIGHT, LABELS, under_overlay
from alphakeel.pipeline.simulator import borrowing_text
from alphakeel.report.table_cells import show
from alphakeel.results import Study

if TYPE_CHECKING:
    from alphakeel.selection.trial_log import TestSetUse

__all__ = ["Card", "Finding", "bottom_line", "cards", "compare", "findings", "scope"]

Numbers = Mapping[Hashable, float]

RIVALS = {
    LABELS["linear"]: "the linear benchmark",
    EQUAL_WEIGHT: "equal weight",
}
_OBJECTION = 0.05  # p below which a test objects
_UNTESTED = "could not be tested"
_FAILED_NUMBER = "were wrong in number"
_FAILED_TIME = "were right in number, but exceedances did not come at random"
_CARDS = (
    ("annual_return", "Return a year", "percent"),
    ("annual_volatility", "Volatility", "percent"),
    ("sharpe", "Sharpe ratio", "ratio"),
    ("max_drawdown", "Maximum drawdown", "percent"),
    ("var_95", "VaR 95 %, one day", "percent2"),
    ("turnover", "Turnover a year", "times"),
)


@dataclass(frozen=True)
class Finding:
    """What was found: a tone (``better``, ``worse``, ``unclear``), the finding, the numbers."""

    tone: str
    claim: str
    detail: str


@dataclass(frozen=True)
class Card:
    """A key figure with its interval and the values of its rivals."""

    label: str
    value: str
    interval: str
    others: tuple[tuple[str, str], ...]


def scope(study: Study) -> str:
    """What was tested, on what and when, and what was borrowed for it."""
    days = study.dates[study.test]
    fits, costs = len(study.folds), study.config.costs
    paid = (
        f"{show(costs.cost_per_side, 'percent2')} of cost a side"
        if costs.preset == "flat"
        else f'the costs and rules of the market "{costs.preset}"'
    )
    tested = (
        f"{study.name}: {len(study.asset_names)} stocks, tested from {days[0]} to {days[-1]} "
        f"({len(days):,} days), with {fits} {'fit' if fits == 1 else 'fits'} on the past only, "
        f"a decision every {study.config.walk_forward.rebalance_every} days, and {paid}."
    )
    return " ".join((tested, *borrowing_text(study.config)))


def bottom_line(tables: Mapping[str, pd.DataFrame], hero: str) -> str:
    """Who wins, in two sentences that follow from the intervals by rule.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        ``study.tables()``.
    hero : str
        The strategy in focus.
    """
    linear, difference = LABELS["linear"], tables["table_1_difference"]
    said = []
    if hero != linear:
        bare = _tone(difference.loc[hero].to_dict())
        fair = _tone(tables["table_1_fair"].loc[under_overlay(hero)].to_dict())
        words = {"better": "wins", "worse": "loses", "unclear": "draws"}
        if bare == fair:
            outcome = {
                "better": f"{hero} beats {linear}, alone and at equal risk.",
                "worse": f"{linear} beats {hero}, alone and at equal risk.",
                "unclear": f"Nobody wins: {hero} and {linear} are not told apart, neither alone "
                "nor at equal risk.",
            }[bare]
        else:
            outcome = (
                f"{hero} {words[bare]} against {linear} alone and {words[fair]} at equal risk."
            )
        said.append(outcome)
    if under_overlay(linear) in difference.index:
        said.append(_overlay_alone(difference.loc[under_overlay(linear)].to_dict()))
    return " ".join(said)


def _overlay_alone(row: Numbers) -> str:
    """What the overlay does to the linear model, for which no network is needed."""
    parts = []
    for key, words in (("max_drawdown", "maximum drawdown"), ("var_95", "VaR")):
        low, high = row[f"{key}_change_low"], row[f"{key}_change_high"]
        sure = "" if low > 0 or high < 0 else " (within chance)"
        parts.append(f"{words} by {show(row[f'{key}_change'], 'change')}{sure}")
    moved = {"better": "raises", "worse": "lowers", "unclear": "leaves in doubt"}[_tone(row)]
    sharpe = {"unclear": "with a Sharpe ratio not told apart"}.get(
        _tone(row), f"and {moved} its Sharpe ratio"
    )
    return (
        f"The overlay, which needs no network, changes the linear model's {' and '.join(parts)}, "
        f"{sharpe}."
    )


def _tone(row: Numbers) -> str:
    """What the interval of the difference of Sharpe ratios allows to be said."""
    if row["sharpe_difference_low"] > 0:
        return "better"
    return "worse" if row["sharpe_difference_high"] < 0 else "unclear"


def findings(
    study: Study, tables: Mapping[str, pd.DataFrame], hero: str, seen: TestSetUse | None = None
) -> tuple[Finding, ...]:
    """The comparisons, the risk forecasts and the scores, each with what can be claimed of it.

    Against the linear model bare, under the overlay (as the paper compares) and both under the
    overlay (at equal risk); on the days kept apart, where there are any; the value-at-risk
    forecasts; the scores; equal weight; a model under limits; how much of the best is luck.

    Parameters
    ----------
    study : Study
    tables : mapping of str to DataFrame
        ``study.tables()``.
    hero : str
        The strategy in focus.
    seen : TestSetUse, optional
        How many studies of these data there were.

    Returns
    -------
    tuple of Finding
    """
    level, table = study.config.report.level, tables["table_1"]
    linear, plain = LABELS["linear"], tables["table_1_difference"]
    held, held_linear = under_overlay(hero), under_overlay(linear)
    said = []
    if hero != linear:
        said.append(compare(hero, linear, table, plain, level))
    if held in table.index:
        said.append(_as_the_paper(held, linear, plain))
    if hero != linear and held in table.index:
        fair = compare(held, held_linear, table, tables["table_1_fair"], level)
        said.append(fair)
        if "confirm_table_1_fair" in tables:
            own, change = tables["confirm_table_1"], tables["confirm_table_1_fair"]
            again = compare(held, held_linear, own, change, level)
            since = study.config.report.confirm_from
            said.append(
                replace(again, claim=f"On the days kept apart, from {since}: {again.claim}")
            )
    said.append(_var_finding(tables["value_at_risk"], hero))
    said.append(_forecast_finding(tables["ic"], hero))
    if EQUAL_WEIGHT in table.index and hero != EQUAL_WEIGHT:
        gaps = _differences(study, hero, EQUAL_WEIGHT)
        said.append(compare(hero, EQUAL_WEIGHT, table, gaps, level))
    limited = LABELS["lstm_limited"]
    if limited in table.index and limited != hero:
        said.append(compare(limited, linear, table, plain, level))
    if seen is not None:
        said.append(_deflation_finding(seen))
    return tuple(said)


def _deflation_finding(seen: TestSetUse) -> Finding:
    """What the best Sharpe ratio is worth after all the studies that were run on these data."""
    claim, detail = seen.in_words()
    doubted = seen.deflation.deflated_sharpe < 1.0 - _OBJECTION
    return Finding("worse" if doubted else "unclear", claim, detail)


def _as_the_paper(held: str, linear: str, differences: pd.DataFrame) -> Finding:
    """The overlaid strategy against the plain linear one: changes in per cent, as stated there."""
    row = differences.loc[held].to_dict()
    tone = _tone(row)
    less = all(row[f"{key}_change_high"] < 0 for key in ("max_drawdown", "var_95"))
    words = linear.lower()
    claim = {
        "better": f"{held} beat plain {words}.",
        "worse": f"{held} did worse than plain {words}.",
        "unclear": f"{held} is not distinguishable from plain {words} by Sharpe ratio"
        + (", but risked less." if less else "."),
    }[tone]
    gained = show(row["sharpe_change"], "change")
    if np.isnan(row["sharpe_change"]):
        gained = show(row["sharpe_difference"], "signed")
    detail = (
        f"The paper's comparison: maximum drawdown {show(row['max_drawdown_change'], 'change')}, "
        f"Sharpe ratio {gained} "
        f"({_p_text(row['sharpe_difference_p'])}), VaR {show(row['var_95_change'], 'change')}. "
        "It is not one at equal risk: only one side has the overlay."
    )
    return Finding(tone, claim, detail)


def _p_text(p: float) -> str:
    text = show(p, "p")
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _var_finding(table: pd.DataFrame, hero: str) -> Finding:
    """Whether losses went beyond their forecast as often as they should."""
    own = [name for name in (hero, under_overlay(hero)) if name in table.index]
    p_values = table[["kupiec_p", "independence_p", "conditional_p", "dynamic_p"]]
    passed = ~p_values.lt(_OBJECTION).any(axis=1) & p_values["kupiec_p"].notna()
    count = f"{int(passed.sum())} of all {len(table)} forecasts pass every test."
    held = {}
    for name in own:
        number = float(table["kupiec_p"].loc[name])
        failed = _FAILED_NUMBER if number < _OBJECTION else _FAILED_TIME
        held[name] = _UNTESTED if np.isnan(number) else "held" if passed[name] else failed
    tested = _UNTESTED not in held.values()
    tone = "unclear" if not tested else "better" if passed[own].all() else "worse"
    claim = f"The VaR forecasts of {hero} {held[hero]}"
    if len(set(held.values())) > 1:
        claim += f"; those of {own[1]} {held[own[1]]}"
    told = {name: str(table["verdict"].loc[name]) for name in own}
    same = len(set(told.values())) == 1
    said = told[hero] if same else " ".join(f"{name}: {text}" for name, text in told.items())
    return Finding(tone, f"{claim}.", f"{said} {count}")


def _differences(study: Study, hero: str, rival: str) -> pd.DataFrame:
    """One strategy against a rival that no table of the study compares it with."""
    report = study.config.report
    return strategy_tables(
        {name: study.strategies[name] for name in (rival, hero)},
        study.market_returns,
        baseline=rival,
        level=report.level,
        n_bootstrap=report.n_bootstrap,
        seed=study.config.seed,
    )[1]


def compare(
    hero: str, rival: str, table: pd.DataFrame, differences: pd.DataFrame, level: float
) -> Finding:
    """Compare two strategies, and claim no more than the interval of the Sharpe ratios allows.

    Parameters
    ----------
    hero, rival : str
        Rows of `table`.
    table : DataFrame
        Table I.
    differences : DataFrame
        Strategies against `rival`: ``sharpe_difference`` with ``_low`` and ``_high``, and the
        same of ``max_drawdown_change`` and ``var_95_change``.
    level : float
        Of the intervals.

    Returns
    -------
    Finding
    """
    difference = differences.loc[hero].to_dict()
    low, high = difference["sharpe_difference_low"], difference["sharpe_difference_high"]
    tone = _tone(difference)
    words = RIVALS.get(rival, rival)
    claim = {
        "better": f"{hero} beat {words}.",
        "worse": f"{hero} did worse than {words}.",
        "unclear": f"{hero} is not distinguishable from {words}.",
    }[tone]
    zero = ", which includes zero" if low <= 0 <= high else ""
    own, theirs = table.loc[hero].to_dict(), table.loc[rival].to_dict()
    detail = (
        f"Sharpe ratio {show(own['sharpe'], 'ratio')} against {show(theirs['sharpe'], 'ratio')}: "
        f"{show(difference['sharpe_difference'], 'signed')}, with a {show(level, 'whole')} "
        f"interval of {show(low, 'signed')} to {show(high, 'signed')}{zero}. "
        f"{_risk(own, theirs, difference)}"
    )
    return Finding(tone, claim, detail)


def _risk(own: Numbers, theirs: Numbers, difference: Numbers) -> str:
    """Whether drawdown and value at risk differ by more than chance would have it."""
    parts = []
    for key, words, kind in (
        ("max_drawdown", "Maximum drawdown", "percent"),
        ("var_95", "one-day VaR", "percent2"),
    ):
        low, high = difference[f"{key}_change_low"], difference[f"{key}_change_high"]
        size = "smaller" if high < 0 else "larger" if low > 0 else "not told apart"
        parts.append(f"{words} {show(own[key], kind)} against {show(theirs[key], kind)}: {size}")
    return "; ".join(parts) + "."


def _forecast_finding(ic: pd.DataFrame, hero: str) -> Finding:
    """Whether the forecasts ranked stocks better than chance, at each horizon."""
    models = ic.index.get_level_values(0)
    name = hero if hero in models else models[-1]
    rows = ic[models == name]
    above, below = rows["rank_ic_low"].gt(0), rows["rank_ic_high"].lt(0)
    if above.all():
        tone, claim = "better", f"The forecasts of {name} ranked stocks better than chance."
    elif above.any() and not below.any():
        tone, claim = "unclear", f"The forecasts of {name} beat chance at some horizons only."
    elif below.any():
        tone, claim = "worse", f"The forecasts of {name} ranked stocks worse than chance."
    else:
        tone, claim = "unclear", f"The forecasts of {name} are not distinguishable from chance."
    parts = [
        f"{show(row['rank_ic'], 'small')} over {horizon} days "
        f"({show(row['rank_ic_low'], 'small')} to {show(row['rank_ic_high'], 'small')})"
        for horizon, row in rows.droplevel(0).iterrows()
    ]
    return Finding(tone, claim, f"Mean Rank IC out of sample: {', '.join(parts)}.")


def cards(tables: Mapping[str, pd.DataFrame], hero: str, focus: Sequence[str]) -> tuple[Card, ...]:
    """Key figures of the strategy in focus beside those of its rivals."""
    table = tables["table_1"]
    result = []
    rivals = [n for n in (*focus, EQUAL_WEIGHT) if n in table.index and n != hero]
    for key, label, kind in _CARDS:
        row = table.loc[hero]
        interval = ""
        if f"{key}_low" in table:
            interval = f"{show(row[f'{key}_low'], kind)} to {show(row[f'{key}_high'], kind)}"
        others = tuple((n, show(table.loc[n, key], kind)) for n in rivals)
        result.append(Card(label, show(row[key], kind), interval, others))
    return tuple(result)
