"""The findings in plain words, derived from the tables by fixed rules."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from alphakeel.evaluation.performance import strategy_tables
from alphakeel.model_factory import EQUAL_WEIGHT, LABELS, LIMITED, under_overlay
from alphakeel.pipeline.calendar import rebalance_text
from alphakeel.pipeline.simulator import describe_borrowing, describe_cash
from alphakeel.report.table_cells import p_text, show
from alphakeel.results import Study

if TYPE_CHECKING:
    from alphakeel.selection.trial_log import TestSetUse

__all__ = [
    "KeyFigure",
    "Statement",
    "cash_statements",
    "compare",
    "compare_scores",
    "conclusion",
    "findings",
    "key_figures",
    "scope",
    "yardstick",
]

Numbers = Mapping[Hashable, float]

BENCHMARK_NAMES = {
    LABELS["linear"]: "the linear benchmark",
    EQUAL_WEIGHT: "equal weight",
}
_CASH_WORTH_A_WORD = 0.05
_FORCED = {
    "less_invested": "by holding more cash",
    "more_turnover": "by exceeding the turnover limit",
    "least_breach": "in part",
}
_SIGNIFICANCE = 0.05  # p below which a test rejects
_PASSED = "pass every test"
_UNTESTED = "could not be tested"
_FAILED_NUMBER = "have the wrong number of exceedances"
_FAILED_TIME = "have the right number of exceedances, but these are clustered or predictable"
_KEY_FIGURES = (
    ("annual_return", "Annual return", "percent"),
    ("annual_volatility", "Annual volatility", "percent"),
    ("sharpe", "Sharpe ratio", "ratio"),
    ("max_drawdown", "Maximum drawdown", "percent"),
    ("var_95", "VaR 95 %, one day", "percent2"),
    ("turnover", "Annual turnover", "times"),
)


@dataclass(frozen=True)
class Statement:
    """One finding: tone (``better``, ``worse``, ``unclear``), claim, and the numbers behind it."""

    tone: str
    claim: str
    detail: str


@dataclass(frozen=True)
class KeyFigure:
    """A key figure with its interval and the values of other strategies."""

    label: str
    value: str
    interval: str
    others: tuple[tuple[str, str], ...]


def scope(study: Study) -> str:
    """What was tested, on what and when, at what cost, and what was borrowed."""
    days = study.dates[study.test]
    fits, costs = len(study.folds), study.config.costs
    paid = (
        f"costs are {show(costs.cost_per_side, 'percent2')} per side"
        if costs.preset == "flat"
        else f'costs and trading rules are those of the market "{costs.preset}"'
    )
    fitted = "once, on earlier data only" if fits == 1 else f"{fits} times, on earlier data only"
    tested = (
        f"{study.name}: {len(study.asset_names)} stocks, tested out of sample from {days[0]} to "
        f"{days[-1]} ({len(days):,} days). Models are fitted {fitted}; portfolios are rebalanced "
        f"{rebalance_text(study.config.walk_forward.rebalance)}; {paid}."
    )
    told = (tested, *describe_borrowing(study.config), describe_cash(study.config))
    return " ".join(text for text in told if text)


def conclusion(tables: Mapping[str, pd.DataFrame], focus: str) -> str:
    """Which of the two models is ahead, in scores and in portfolios, as the intervals allow."""
    linear, difference = LABELS["linear"], tables["table_1_difference"]
    sentences = []
    scores = compare_scores(tables["ic_differences"], focus, yardstick(tables["ic"]))
    if scores is not None:
        sentences.append(scores.claim)
    if focus != linear:
        alone = _tone(difference.loc[focus].to_dict())
        equal_risk = _tone(tables["table_1_fair"].loc[under_overlay(focus)].to_dict())
        verbs = {
            "better": "outperforms",
            "worse": "underperforms",
            "unclear": "is statistically indistinguishable from",
        }
        sentences.append(
            f"In Sharpe ratio {focus} {verbs[alone]} {linear}, both without the overlay and at "
            "equal risk."
            if alone == equal_risk
            else f"In Sharpe ratio {focus} {verbs[alone]} {linear} without the overlay, and "
            f"{verbs[equal_risk]} it at equal risk."
        )
    if under_overlay(linear) in difference.index:
        sentences.append(_overlay_alone(difference.loc[under_overlay(linear)].to_dict()))
    return " ".join(sentences)


def _overlay_alone(row: Numbers) -> str:
    """What the overlay does to the linear model, for which no network is needed."""
    parts = []
    for key, words in (("max_drawdown", "maximum drawdown"), ("var_95", "VaR")):
        low, high = row[f"{key}_change_low"], row[f"{key}_change_high"]
        doubt = "" if low > 0 or high < 0 else " (not significant)"
        parts.append(f"{words} by {show(row[f'{key}_change'], 'change')}{doubt}")
    sharpe = {
        "better": "it raises the Sharpe ratio",
        "worse": "it lowers the Sharpe ratio",
        "unclear": "the change in the Sharpe ratio is not significant",
    }[_tone(row)]
    return (
        f"The overlay, which needs no network, changes the linear model's {' and '.join(parts)}; "
        f"{sharpe}."
    )


def _tone(row: Numbers) -> str:
    """What the interval of the difference of Sharpe ratios allows to be said."""
    if row["sharpe_difference_low"] > 0:
        return "better"
    return "worse" if row["sharpe_difference_high"] < 0 else "unclear"


def findings(
    study: Study, tables: Mapping[str, pd.DataFrame], focus: str, seen: TestSetUse | None = None
) -> tuple[Statement, ...]:
    """The scores, the comparisons and the risk forecasts, each with what can be claimed of it.

    The paired difference of Rank IC comes first: it is the test that finds most.
    `focus` is the strategy in focus, `tables` is ``study.tables()``, `seen` counts the studies.
    """
    level, table = study.config.report.level, tables["table_1"]
    linear, differences = LABELS["linear"], tables["table_1_difference"]
    overlaid, overlaid_linear = under_overlay(focus), under_overlay(linear)
    statements = []
    scores = compare_scores(tables["ic_differences"], focus, yardstick(tables["ic"]), level)
    if scores is not None:
        statements.append(scores)
    if focus != linear:
        statements.append(compare(focus, linear, table, differences, level))
    if overlaid in table.index:
        statements.append(_as_the_paper(overlaid, linear, differences))
    if focus != linear and overlaid in table.index:
        equal_risk = compare(overlaid, overlaid_linear, table, tables["table_1_fair"], level)
        statements.append(equal_risk)
        if "confirm_table_1_fair" in tables:
            own, change = tables["confirm_table_1"], tables["confirm_table_1_fair"]
            again = compare(overlaid, overlaid_linear, own, change, level)
            since = study.config.report.confirm_from
            statements.append(
                replace(again, claim=f"In the confirmation period, from {since}: {again.claim}")
            )
    statements.append(_var_statement(tables["value_at_risk"], focus))
    statements.append(_forecast_statement(tables["ic"], focus))
    if EQUAL_WEIGHT in table.index and focus != EQUAL_WEIGHT:
        against = _differences(study, focus, EQUAL_WEIGHT)
        statements.append(compare(focus, EQUAL_WEIGHT, table, against, level))
    for limited in (LABELS[name] for name in LIMITED):
        if limited not in table.index or limited == focus:
            continue
        statements.append(compare(limited, linear, table, differences, level))
    if seen is not None:
        statements.append(_deflation_statement(seen))
    return tuple(statements)


def _capped(study: Study) -> list[str]:
    """Models whose best stocks, each at its cap, are not the whole portfolio."""
    alloc, sentences = study.config.allocation, []
    tested = study.decisions >= study.test.start
    breadth = float(np.median(study.dataset.eligible[tested].sum(axis=1)))
    if breadth * alloc.quantile * alloc.weight_cap >= 1.0 - _CASH_WORTH_A_WORD:
        return []
    for model in study.models.values():
        ledger = study.strategies[model.label]
        cash = 1.0 - float(np.median(ledger.invested[ledger.invested > 0.0]))
        if cash > _CASH_WORTH_A_WORD:
            sentences.append(
                f"{model.label} keeps {cash:.0%} in cash, because the best {alloc.quantile:.0%} of "
                f"{breadth:.0f} stocks take at most {alloc.weight_cap:.0%} each: raise "
                "allocation.weight_cap or allocation.quantile to invest it."
            )
    return sentences


def cash_statements(study: Study, tables: Mapping[str, pd.DataFrame]) -> tuple[str, ...]:
    """Cash that limits force on portfolios without the overlay, and limits that did not hold."""
    sentences = []
    alloc = study.config.allocation
    if alloc.method == "top_quantile" and alloc.neutral is None:
        sentences += _capped(study)
    decisions = tables["decisions"]
    columns = ("strategy", "status", "decisions", "conflict")
    for strategy, status, number, conflict in zip(*(decisions[c] for c in columns), strict=True):
        if status in _FORCED:
            total = int(decisions["decisions"][decisions["strategy"] == strategy].sum())
            limits = f" (limit: {conflict})" if conflict else ""
            sentences.append(
                f"{strategy}: {number} of {total} decisions could satisfy their limits only "
                f"{_FORCED[status]}{limits}."
            )
    return tuple(sentences)


def _deflation_statement(seen: TestSetUse) -> Statement:
    """The best Sharpe ratio, deflated by all the studies that were run on these data."""
    claim, detail = seen.describe()
    doubted = seen.deflation.deflated_sharpe < 1.0 - _SIGNIFICANCE
    return Statement("worse" if doubted else "unclear", claim, detail)


def _as_the_paper(overlaid: str, linear: str, differences: pd.DataFrame) -> Statement:
    """A strategy with the overlay against the linear one without: changes in per cent."""
    row = differences.loc[overlaid].to_dict()
    tone = _tone(row)
    less = all(row[f"{key}_change_high"] < 0 for key in ("max_drawdown", "var_95"))
    claim = {
        "better": f"{overlaid} outperformed {linear} without the overlay.",
        "worse": f"{overlaid} underperformed {linear} without the overlay.",
        "unclear": f"{overlaid} is statistically indistinguishable in Sharpe ratio from {linear} "
        "without the overlay" + (", at lower risk." if less else "."),
    }[tone]
    gained = show(row["sharpe_change"], "change")
    if np.isnan(row["sharpe_change"]):
        gained = show(row["sharpe_difference"], "signed")
    detail = (
        f"The paper's comparison: maximum drawdown {show(row['max_drawdown_change'], 'change')}, "
        f"Sharpe ratio {gained} ({p_text(row['sharpe_difference_p'])}), "
        f"VaR {show(row['var_95_change'], 'change')}. "
        "The risks are not equal: only one side has the overlay."
    )
    return Statement(tone, claim, detail)


def _var_statement(table: pd.DataFrame, focus: str) -> Statement:
    """Whether losses exceeded their forecast as often as they should."""
    own = [name for name in (focus, under_overlay(focus)) if name in table.index]
    p_values = table[["kupiec_p", "independence_p", "conditional_p", "dynamic_p"]]
    passed = ~p_values.lt(_SIGNIFICANCE).any(axis=1) & p_values["kupiec_p"].notna()
    count = f"Over all strategies, {int(passed.sum())} of {len(table)} forecasts {_PASSED}."
    results = {}
    for name in own:
        number = float(table["kupiec_p"].loc[name])
        failed = _FAILED_NUMBER if number < _SIGNIFICANCE else _FAILED_TIME
        results[name] = _UNTESTED if np.isnan(number) else _PASSED if passed[name] else failed
    tested = _UNTESTED not in results.values()
    tone = "unclear" if not tested else "better" if passed[own].all() else "worse"
    claim = f"The VaR forecasts of {focus} {results[focus]}"
    if len(set(results.values())) > 1:
        claim += f"; those of {own[1]} {results[own[1]]}"
    texts = {name: str(table["verdict"].loc[name]) for name in own}
    same = len(set(texts.values())) == 1
    detail = texts[focus] if same else " ".join(f"{name}: {text}" for name, text in texts.items())
    return Statement(tone, f"{claim}.", f"{detail} {count}")


def _differences(study: Study, focus: str, benchmark: str) -> pd.DataFrame:
    """One strategy against a benchmark that no table of the study compares it with."""
    report = study.config.report
    return strategy_tables(
        {name: study.strategies[name] for name in (benchmark, focus)},
        study.market_returns,
        baseline=benchmark,
        level=report.level,
        n_bootstrap=report.n_bootstrap,
        seed=study.config.seed,
    )[1]


def compare(
    name: str, benchmark: str, table: pd.DataFrame, differences: pd.DataFrame, level: float
) -> Statement:
    """Compare two rows of Table I, claiming no more than the interval of the Sharpe ratios allows.

    `differences` has the changes against `benchmark` with their intervals at `level`.
    """
    difference = differences.loc[name].to_dict()
    low, high = difference["sharpe_difference_low"], difference["sharpe_difference_high"]
    tone = _tone(difference)
    words = BENCHMARK_NAMES.get(benchmark, benchmark)
    claim = {
        "better": f"{name} outperformed {words}.",
        "worse": f"{name} underperformed {words}.",
        "unclear": f"{name} is statistically indistinguishable from {words}.",
    }[tone]
    zero = ", which includes zero" if low <= 0 <= high else ""
    own, other = table.loc[name].to_dict(), table.loc[benchmark].to_dict()
    detail = (
        f"Sharpe ratio {show(own['sharpe'], 'ratio')} against {show(other['sharpe'], 'ratio')}: "
        f"difference {show(difference['sharpe_difference'], 'signed')}, with a "
        f"{show(level, 'whole')} interval of {show(low, 'signed')} to {show(high, 'signed')}"
        f"{zero}. {_risk(own, other, difference)}"
    )
    return Statement(tone, claim, detail)


def _risk(own: Numbers, other: Numbers, difference: Numbers) -> str:
    """Whether drawdown and value at risk differ significantly."""
    parts = []
    for key, words, kind in (
        ("max_drawdown", "Maximum drawdown", "percent"),
        ("var_95", "one-day VaR", "percent2"),
    ):
        low, high = difference[f"{key}_change_low"], difference[f"{key}_change_high"]
        larger = "significantly larger" if low > 0 else "not significant"
        size = "significantly smaller" if high < 0 else larger
        parts.append(f"{words} {show(own[key], kind)} against {show(other[key], kind)} ({size})")
    return "; ".join(parts) + "."


def yardstick(ic: pd.DataFrame) -> int:
    """The horizon that scores are compared at: the longest that is forecast."""
    return int(max(ic.index.get_level_values("horizon")))


def compare_scores(
    table: pd.DataFrame, focus: str, horizon: int, level: float = 0.95
) -> Statement | None:
    """Whether a model ranks stocks better than the linear one, by their paired Rank ICs.

    The claim is about `horizon` alone, so that no horizon is picked for its result; the detail has
    the others, and the other models. None where the model in focus is not compared.

    Examples
    --------
    >>> ends = {"": 0.03, "_low": 0.01, "_high": 0.05, "_t": 2.9, "_p": 0.004}
    >>> row = {f"rank_ic_difference{end}": value for end, value in ends.items()}
    >>> row |= {"rank_ic": 0.09, "rank_ic_benchmark": 0.06}
    >>> names = ["model", "horizon"]
    >>> index = pd.MultiIndex.from_tuples([("LSTM", 20)], names=names)
    >>> compare_scores(pd.DataFrame([row], index=index), "LSTM", 20).claim
    'LSTM ranks stocks better than the linear benchmark over 20 days (Rank IC 0.090 against 0.060).'
    """
    if focus not in table.index.get_level_values("model"):
        return None
    own = table.loc[focus]
    row = own.loc[horizon]
    low, high = row["rank_ic_difference_low"], row["rank_ic_difference_high"]
    tone = "better" if low > 0 else "worse" if high < 0 else "unclear"
    words = {
        "better": "ranks stocks better than",
        "worse": "ranks stocks worse than",
        "unclear": "is statistically indistinguishable in ranking stocks from",
    }[tone]
    claim = (
        f"{focus} {words} the linear benchmark over {horizon} days (Rank IC "
        f"{show(row['rank_ic'], 'small')} against {show(row['rank_ic_benchmark'], 'small')})."
    )
    others = [
        _difference_text(own.loc[h], "over 1 day" if h == 1 else f"over {h} days")
        for h in own.index
        if h != horizon
    ]
    rest = [
        _difference_text(table.loc[model, horizon], str(model))
        for model in dict.fromkeys(table.index.get_level_values("model"))
        if model != focus
    ]
    detail = (
        "The test with the most power: daily Rank ICs on the same stocks, with a "
        f"{show(level, 'whole')} interval. Difference "
        f"{_difference_text(row, f'over {horizon} days')}"
        + (f"; {', '.join(others)}" if others else "")
        + (f". Other models over {horizon} days: {', '.join(rest)}." if rest else ".")
    )
    return Statement(tone, claim, detail)


def _difference_text(row: Any, what: str) -> str:
    """One difference of Rank IC with its interval and t."""
    low, high = (show(row[f"rank_ic_difference_{end}"], "small") for end in ("low", "high"))
    return (
        f"{what} {show(row['rank_ic_difference'], 'small')} ({low} to {high}, "
        f"t {show(row['rank_ic_difference_t'], 'ratio')})"
    )


def _forecast_statement(ic: pd.DataFrame, focus: str) -> Statement:
    """Whether the forecasts ranked stocks better than chance, at each horizon."""
    models = ic.index.get_level_values(0)
    name = focus if focus in models else models[-1]
    rows = ic[models == name]
    above, below = rows["rank_ic_low"].gt(0), rows["rank_ic_high"].lt(0)
    forecasts = f"The forecasts of {name}"
    if above.all():
        tone, claim = "better", f"{forecasts} ranked stocks better than chance."
    elif above.any() and not below.any():
        tone, claim = "unclear", f"{forecasts} ranked stocks better than chance at some horizons."
    elif below.any():
        tone, claim = "worse", f"{forecasts} ranked stocks worse than chance."
    else:
        tone, claim = "unclear", f"{forecasts} are statistically indistinguishable from chance."
    parts = [
        f"{show(row['rank_ic'], 'small')} over {horizon} days "
        f"({show(row['rank_ic_low'], 'small')} to {show(row['rank_ic_high'], 'small')})"
        for horizon, row in rows.droplevel(0).iterrows()
    ]
    return Statement(tone, claim, f"Mean Rank IC out of sample: {', '.join(parts)}.")


def key_figures(
    tables: Mapping[str, pd.DataFrame], focus: str, highlighted: Sequence[str]
) -> tuple[KeyFigure, ...]:
    """Key figures of the strategy in focus beside those of the other highlighted ones."""
    table = tables["table_1"]
    result = []
    names = [n for n in (*highlighted, EQUAL_WEIGHT) if n in table.index and n != focus]
    for key, label, kind in _KEY_FIGURES:
        row = table.loc[focus]
        interval = ""
        if f"{key}_low" in table:
            interval = f"{show(row[f'{key}_low'], kind)} to {show(row[f'{key}_high'], kind)}"
        others = tuple((n, show(table.loc[n, key], kind)) for n in names)
        result.append(KeyFigure(label, show(row[key], kind), interval, others))
    return tuple(result)
