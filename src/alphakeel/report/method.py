"""How each number of the report is defined, in words.

The end of the report: data, method, and what to hold against the result.
"""

from __future__ import annotations

import pandas as pd

from alphakeel.config import StudyConfig, config_to_toml
from alphakeel.report.sections import Section, View, Words
from alphakeel.report.table_cells import make_table, show

__all__ = [
    "cautions",
    "conventions",
    "cost_sentence",
    "data",
    "method",
]


def cost_sentence(config: StudyConfig) -> str:
    """What a trade costs, in one sentence.

    Examples
    --------
    >>> cost_sentence(StudyConfig())
    'Every trade costs 0.10\u202f% of its value on each side.'
    """
    if config.costs.preset == "flat":
        rate = show(config.costs.cost_per_side, "percent2")
        return f"Every trade costs {rate} of its value on each side."
    return (
        f'Costs and rules are those of the market "{config.costs.preset}" at the time, with the '
        "impact of the order; the method section has them in words."
    )


def _overlay(config: StudyConfig) -> str:
    """The rules of the overlay, in words."""
    own, rules = config.overlay, []
    usual = own.max_exposure == 1.0
    if own.target_volatility is not None:
        rules.append(
            f"at which its forecast volatility is {show(own.target_volatility, 'whole')} a year"
        )
    if own.var_cap is not None:
        rules.append(f"at which its forecast one-day 95 % VaR is {show(own.var_cap, 'whole')}")
    if own.bear_exposure is not None:
        rules.append(f"of {show(own.bear_exposure, 'whole')} while the trend rule says bear")
    if not rules and own.brake_start is None:
        share = "in full" if usual else f"at an exposure of {own.max_exposure:g}"
        return f"No rule of the overlay is switched on: it holds every portfolio {share}."
    said = "Each day it holds the smallest share of a portfolio " if rules else "It holds all "
    text = said + (", or ".join(rules) if rules else "of a portfolio") + ", never more than all"
    if not usual:
        said = "Each day it holds a portfolio at the smallest exposure "
        text = said + "".join(f"{rule}, or " for rule in rules) + f"of {own.max_exposure:g}"
    if own.brake_start is not None:
        text += (
            f"; from a drawdown of {show(own.brake_start, 'whole')} on it holds less, down to "
            f"{show(own.brake_floor, 'whole')} of that share at {show(own.brake_full, 'whole')}"
        )
    text += ". The rest is cash, which earns nothing."
    if own.max_exposure > 1.0:
        text += f" Borrowed cash costs {show(config.costs.financing_rate, 'percent2')} a year."
    return text + " It reads the past only."


def conventions(config: StudyConfig) -> tuple[tuple[str, str], ...]:
    """How each number of the report is defined, as pairs of term and meaning."""
    lag, walk, report = config.target.lag, config.walk_forward, config.report
    level = show(report.level, "whole")
    horizons = " and ".join(str(h) for h in config.target.horizons)
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
                "In tables of results historical: the loss that "
                f"{show(0.95, 'whole')} of the days stay within, and the mean loss on the other "
                "days. One day, positive numbers."
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
                f"{level}. Sharpe ratios and their differences: studentised block bootstrap "
                "(Ledoit and Wolf, 2008). VaR and its changes: standard error "
                "of the share of days beyond it from its slow waves, which see spells of "
                "volatility, and Student's t. Rank IC, mean returns and changes of drawdown: "
                f"percentiles of a block bootstrap. Each bootstrap has {report.n_bootstrap:,} "
                "resamples of days that all strategies share. "
                "A maximum drawdown has no true value: its interval is the range of the drawdowns "
                "of histories put together from blocks of these days. In simulations at 95 % it "
                "held the mean drawdown 87 to 94 times in a hundred and that of another history "
                "75 to 81 times."
            ),
        ),
        (
            "Target",
            (
                "Models learn the rank, among the stocks of a date, of the log return over "
                f"{horizons} days from the close of day t + {lag}"
                + (
                    ", divided by the stock's own volatility as known at the close of day t."
                    if config.target.unit == "volatility"
                    else "."
                )
            ),
        ),
        (
            "Rank IC",
            (
                f"Spearman correlation across stocks of scores with log returns over {horizons} "
                f"days, from the close of day t + {lag}. t values are Newey-West."
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
        ("Costs", f"{cost_sentence(config)} Between decisions the weights drift with prices."),
        ("Overlay", _overlay(config)),
        (
            "Ledoit and Wolf",
            (
                "The p of a difference of Sharpe ratios is from their studentised block "
                "bootstrap (2008): it allows for fat tails and for days that depend on each other."
            ),
        ),
        (
            "VaR forecasts",
            (
                "A forecast made at the close of day t is about the portfolio held then and the "
                "return of day t + 1. Kupiec's test asks whether the number of exceedances is "
                "right, Christoffersen's whether they come in clusters, the dynamic quantile "
                "test of Engle and Manganelli whether they could be foretold. A p below 0.05 is "
                "an objection; with many tests, one in twenty objects by chance."
            ),
        ),
        (
            "Regimes",
            (
                "In hindsight a bear market is a falling leg of the index of at least "
                f"{show(report.zigzag, 'whole')}; days of rising legs around which it went "
                "nowhere are range-bound; the rest is bull. Nobody knew these labels at the "
                "time: they sort results and decide nothing."
            ),
        ),
        (
            "Fan of drawdowns",
            (
                f"Stationary bootstrap of the test's days, {report.fan_days} days ahead, with "
                "the error of the mean in it. It knows nothing that the test has not seen."
            ),
        ),
    )


def data(view: View) -> Section:
    """What the data hold, and what cleaning changed."""
    study = view.study
    return Section(
        "data",
        "Data",
        "Cleaning reads the past only and writes every change into a ledger, which the folder of "
        "the run holds in full.",
        (
            make_table(study.data_quality, "What the data hold"),
            make_table(study.cleaning.counts(), "What cleaning changed, by rule"),
            make_table(
                study.left_out.set_index("factor"),
                f"Factors that the data could not give: {len(study.left_out)}",
                folded=True,
            ),
        ),
    )


def method(view: View) -> Section:
    """Conventions, folds, settings, versions."""
    study = view.study
    folds = pd.DataFrame(
        {
            "fold": [str(i + 1) for i in range(len(study.folds))],
            "train from": [str(f.train[0]) for f in study.folds],
            "train to": [str(f.train[1]) for f in study.folds],
            "test from": [str(f.test[0]) for f in study.folds],
            "test to": [str(f.test[1]) for f in study.folds],
            **{
                f"factors, {model.label}": [len(f.selected[name]) for f in study.folds]
                for name, model in study.models.items()
            },
        }
    ).set_index("fold")
    seconds = pd.DataFrame(
        {"stage": list(study.seconds), "seconds": list(study.seconds.values())}
    ).set_index("stage")
    text = study.portfolios.market_text
    rules = (Words("list", text, "Market rules and costs"),) if text else ()
    versions = tuple((name, version) for name, version in study.versions.items())
    return Section(
        "method",
        "Method",
        "The same data, settings, versions and seed give the same numbers again.",
        (
            Words("terms", conventions(study.config), "Conventions"),
            *rules,
            make_table(folds, "Walk-forward: what each fold was trained and tested on"),
            Words("code", (config_to_toml(study.config),), "Settings"),
            Words("terms", (*versions, ("data, SHA-256", study.data_hash)), "Versions and data"),
            make_table(seconds, "Wall time by stage"),
        ),
    )


def cautions(view: View) -> Section:
    """What to hold against the result."""
    notes = view.study.notes or ("The study recorded no caution about these data.",)
    general = (
        (
            "A backtest is one path of history. The settings were chosen by people who know that "
            "history, and no interval in this report accounts for that."
        ),
        (
            "Trades are assumed to be made at the close without moving the price; dividends count "
            "only where the data's adjusted close includes them."
        ),
    )
    return Section(
        "cautions",
        "Notes",
        "Read these before believing a number.",
        (Words("list", (*notes, *general)),),
    )
