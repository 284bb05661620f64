"""The verdict in plain words, drawn from the tables by rule, so that it cannot flatter."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import pandas as pd

from alphakeel.config import StudyConfig
from alphakeel.evidence.tables import strategy_tables
from alphakeel.report.cells import show
from alphakeel.results import LABELS, Study

__all__ = ["Card", "Finding", "cards", "compare", "conventions", "scope", "findings"]

Numbers = Mapping[Hashable, float]

RIVALS = {"Linear": "the linear benchmark", "Equal weight": "equal weight"}
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
    """One sentence on what was tested, on what and when."""
    days = study.dates[study.test]
    fits = len(study.folds)
    return (
        f"{study.name}: {len(study.asset_names)} stocks, tested from {days[0]} to {days[-1]} "
        f"({len(days):,} days), with {fits} {'fit' if fits == 1 else 'fits'} on the past only, "
        f"a decision every {study.config.walk_forward.rebalance_every} days, and "
        f"{show(study.config.costs.per_side, 'percent2')} of cost a side."
    )


def findings(study: Study, tables: Mapping[str, pd.DataFrame], hero: str) -> tuple[Finding, ...]:
    """One finding per rival, one on the model under limits, and one on the forecasts themselves.

    Parameters
    ----------
    study : Study
    tables : mapping of str to DataFrame
        ``study.tables()``.
    hero : str
        The strategy in focus.

    Returns
    -------
    tuple of Finding
    """
    level, names = study.config.report.level, tables["table_1"].index
    said = [
        compare(hero, rival, tables["table_1"], _differences(study, tables, rival), level)
        for rival in RIVALS
        if rival in names and rival != hero
    ]
    limited, linear = LABELS["lstm_limited"], LABELS["linear"]
    if limited in names and limited != hero and linear in names:
        gaps = _differences(study, tables, linear)
        said.append(compare(limited, linear, tables["table_1"], gaps, level))
    return (*said, _forecast_finding(tables["ic"], hero))


def _differences(study: Study, tables: Mapping[str, pd.DataFrame], rival: str) -> pd.DataFrame:
    """Every strategy against a rival, paired day by day; against the linear one it is at hand."""
    if rival == LABELS["linear"]:
        return tables["table_1_difference"]
    report = study.config.report
    return strategy_tables(
        study.strategies,
        study.market_returns,
        baseline=rival,
        level=report.level,
        n_boot=report.bootstrap,
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
    tone = "better" if low > 0 else "worse" if high < 0 else "unclear"
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
        f"a difference of {show(difference['sharpe_difference'], 'signed')}, with a "
        f"{show(level, 'whole')} interval of {show(low, 'signed')} to {show(high, 'signed')}"
        f"{zero}. {_risk(own, theirs, difference)}"
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


def cards(tables: Mapping[str, pd.DataFrame], hero: str) -> tuple[Card, ...]:
    """Key figures of the strategy in focus beside those of its rivals."""
    table = tables["table_1"]
    result = []
    for key, label, kind in _CARDS:
        row = table.loc[hero]
        interval = ""
        if f"{key}_low" in table:
            interval = f"{show(row[f'{key}_low'], kind)} to {show(row[f'{key}_high'], kind)}"
        rivals = [n for n in RIVALS if n in table.index and n != hero]
        others = tuple((n, show(table.loc[n, key], kind)) for n in rivals)
        result.append(Card(label, show(row[key], kind), interval, others))
    return tuple(result)


def conventions(config: StudyConfig) -> tuple[tuple[str, str], ...]:
    """How each number of the report is defined, as pairs of term and meaning."""
    lag, walk, report = config.target.lag, config.walk_forward, config.report
    level = show(report.level, "whole")
    return (
        (
            "Time",
            (
                "Day t means its close. A score made at the close of day t uses nothing later, "
                f"is traded at the close of day t + {lag}, and earns from there on."
            ),
        ),
        ("Returns", "Simple returns per day, after costs, compounded. A year has 252 days."),
        (
            "Sharpe ratio",
            (
                "Mean over standard deviation of daily returns, times the root of 252, "
                "with no riskless rate taken off."
            ),
        ),
        ("Maximum drawdown", "Largest fall from a peak of compounded wealth, as a share of it."),
        (
            "VaR and CVaR",
            (
                f"Historical: the loss that {level} of the days stay within, and the "
                "mean loss on the other days. One day, positive numbers."
            ),
        ),
        (
            "Calmar, Sortino",
            (
                "Annual return over maximum drawdown; mean return over downside "
                "deviation, annualised."
            ),
        ),
        (
            "Intervals",
            (
                f"{level}, from a block bootstrap with {report.bootstrap:,} resamples of "
                "days; all strategies share the resampled days."
            ),
        ),
        (
            "Rank IC",
            (
                "Spearman correlation across stocks of scores with forward log returns over "
                f"{' and '.join(str(h) for h in config.target.horizons)} days, from the "
                f"close of day t + {lag}. t values are Newey-West."
            ),
        ),
        (
            "Walk-forward",
            (
                f"A fit every {walk.refit_every} days on the past only. Training rows "
                "end before any label could reach into the test, less an embargo of "
                f"{walk.embargo} days."
            ),
        ),
        (
            "Costs",
            (
                f"{show(config.costs.per_side, 'percent2')} of the traded value on each side. "
                "Between decisions the weights drift with prices."
            ),
        ),
    )
