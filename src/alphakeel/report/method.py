"""The end of the report: data, method (how each number is defined) and cautions."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from alphakeel.config import StudyConfig, config_to_toml
from alphakeel.model_factory import LABELS, LIMITED, NETWORKS, reads_days
from alphakeel.pipeline.calendar import rebalance_text, refit_text
from alphakeel.pipeline.checkpoints import IDLE
from alphakeel.report.sections import ReportSection, TextBlock, View
from alphakeel.report.table_cells import make_table, show
from alphakeel.results import Study

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
        f'Costs and rules are those of the market "{config.costs.preset}" at the time, plus market '
        "impact; the method section lists them."
    )


def _overlay(config: StudyConfig) -> str:
    """The rules of the overlay, in words."""
    own, rules = config.overlay, []
    usual = own.max_exposure == 1.0
    if own.target_volatility is not None:
        rules.append(
            f"the one at which forecast volatility is {show(own.target_volatility, 'whole')} a year"
        )
    if own.var_cap is not None:
        rules.append(
            f"the one at which the forecast one-day 95 % VaR is {show(own.var_cap, 'whole')}"
        )
    if own.bear_exposure is not None:
        rules.append(
            f"{show(own.bear_exposure, 'whole')} while the trend rule indicates a bear market"
        )
    if not rules and own.brake_start is None:
        share = "in full" if usual else f"at an exposure of {own.max_exposure:g}"
        return f"No rule of the overlay is active: every portfolio is held {share}."
    largest = show(1.0, "whole") if usual else f"{own.max_exposure:g}"
    text = "Each day the exposure to a portfolio is "
    text += f"the smallest of: {', '.join(rules)}, and {largest}" if rules else largest
    if own.brake_start is not None:
        text += (
            f"; beyond a drawdown of {show(own.brake_start, 'whole')} it is reduced, down to "
            f"{show(own.brake_floor, 'whole')} of that at {show(own.brake_full, 'whole')}"
        )
    cash, above = config.costs.cash_rate, ""
    if cash == 0.0:
        text += ". The rest is cash, which earns nothing."
    else:
        text += f". The rest is cash, which earns {_cash_words(config)}."
        above = " above that"
    if own.max_exposure > 1.0:
        cost = show(config.costs.financing_rate, "percent2")
        text += f" Borrowed cash costs {cost} a year{above}."
    return text + " Only past data are used."


def _cash_words(config: StudyConfig) -> str:
    """What cash earns."""
    rate = config.costs.cash_rate
    if isinstance(rate, float):
        return f"{show(rate, 'percent2')} a year, a 252nd part a day"
    return "the annual rate that was known the day before (riskless_rate), a 252nd part a day"


def _sharpe_words(config: StudyConfig) -> str:
    """What a Sharpe ratio is of."""
    if config.costs.cash_rate == 0.0:
        return (
            "Mean over standard deviation of daily returns, times the square root of 252; "
            "no risk-free rate is subtracted."
        )
    return (
        "Mean over standard deviation of daily returns less those of cash, times the square root "
        f"of 252. Cash earns {_cash_words(config)}, in every portfolio and benchmark."
    )


_UNIT_TEXT = {
    "volatility": ", divided by the stock's own volatility as known at the close of day t.",
    "return": ".",
    "auto": ". Whether it is divided first by the stock's own volatility, as known at the close of "
    "day t, each model chooses in each fold by purged cross-validation on its training decisions.",
}


def conventions(config: StudyConfig) -> tuple[tuple[str, str], ...]:
    """How each number of the report is defined, as pairs of term and meaning."""
    lag, walk, report = config.target.lag, config.walk_forward, config.report
    level = show(report.level, "whole")
    horizons = " and ".join(str(h) for h in config.target.horizons)
    return (
        (
            "Time",
            (
                "Day t means the close of day t. A score computed at that close uses no later "
                f"data, is traded at the close of day t + {lag}, and earns returns from there on."
            ),
        ),
        ("Returns", "Simple daily returns after costs, compounded. A year has 252 days."),
        ("Sharpe ratio", _sharpe_words(config)),
        ("Maximum drawdown", "Largest fall from a peak of compounded wealth, as a share of it."),
        (
            "VaR and CVaR",
            (
                "In the tables of results, historical: the loss that is not exceeded on "
                f"{show(0.95, 'whole')} of the days, and the mean loss on the other days. One day, "
                "as positive numbers."
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
                "(Ledoit and Wolf, 2008). VaR and its changes: standard error of the share of "
                "exceedances from its lowest-frequency cosines, which allows for volatility "
                "clustering, and Student's t. Rank IC, mean returns and changes of drawdown: "
                f"percentiles of a block bootstrap. Each bootstrap has {report.n_bootstrap:,} "
                "resamples of days, the same for all strategies. A maximum drawdown has no true "
                "value: its interval is the range of drawdowns in histories resampled from blocks "
                "of these days. In simulations at 95 % it contained the mean drawdown 87 to 94 "
                "times in a hundred, and the drawdown of another history 75 to 81 times."
            ),
        ),
        (
            "Target",
            (
                "Models learn the rank, among the stocks of a date, of the log return over "
                f"{horizons} days from the close of day t + {lag}" + _UNIT_TEXT[config.target.unit]
            ),
        ),
        *_rows_read(config),
        (
            "Rank IC",
            (
                f"Spearman correlation across stocks of scores with log returns over {horizons} "
                f"days from the close of day t + {lag}. t values are Newey-West."
            ),
        ),
        (
            "Walk-forward",
            (
                f"Decisions {rebalance_text(walk.rebalance)}, by a rule of the calendar that a day "
                f"more of data does not move. A fit {refit_text(walk.refit_every)}, on past data "
                "only. Training ends before any label could overlap the test, less an embargo of "
                f"{walk.embargo} days."
            ),
        ),
        ("Costs", f"{cost_sentence(config)} Between decisions the weights drift with prices."),
        ("Overlay", _overlay(config)),
        (
            "Ledoit and Wolf",
            (
                "The p-value of a difference of Sharpe ratios is from their studentised block "
                "bootstrap (2008), which allows for fat tails and serial dependence."
            ),
        ),
        (
            "VaR forecasts",
            (
                "A forecast made at the close of day t is for the portfolio held then and the "
                "return of day t + 1. Kupiec's test asks whether the number of exceedances is "
                "right, Christoffersen's whether they cluster, the dynamic quantile test of Engle "
                "and Manganelli whether they can be predicted. A p-value below 0.05 rejects the "
                "forecast; with many tests, one in twenty rejects by chance."
            ),
        ),
        (
            "Regimes",
            (
                "In hindsight, a bear market is a falling leg of the index of at least "
                f"{show(report.zigzag, 'whole')}; days of rising legs around which the index made "
                "no net progress are range-bound; the rest is bull. These labels were not known at "
                "the time: they sort results and enter no decision."
            ),
        ),
        (
            "Drawdown fan",
            (
                f"Stationary bootstrap of the days of the test, {report.fan_days} days ahead, "
                "including the estimation error of the mean. It covers only market conditions that "
                "occurred in the test."
            ),
        ),
    )


def _rows_read(config: StudyConfig) -> tuple[tuple[str, str], ...]:
    """Which rows networks learn from and read, where there are networks."""
    daily = [LABELS[model] for model in config.models if reads_days(model, config)]
    if daily:
        text = (
            f"{', '.join(daily)}: every trading day, from the first to the last training decision "
            "to learn from, and up to the decision to score it. All other models: decisions only. "
            "Factors are screened, and forecasts measured and traded, on decisions."
        )
    elif any(model in (*NETWORKS, *LIMITED) for model in config.models):
        text = "All models learn from decisions and read decisions, not the days between them."
    else:
        return ()
    return (("Rows", text),)


def data(view: View) -> ReportSection:
    """What the data contain, and what cleaning changed."""
    study = view.study
    return ReportSection(
        "data",
        "Data",
        "Cleaning uses past data only and records every change in a ledger, which is in the run's "
        "folder.",
        (
            make_table(study.data_quality, "What the data contain"),
            make_table(study.cleaning.counts(), "Changes made by cleaning, by rule"),
            make_table(
                study.left_out.set_index("factor"),
                f"Factors that cannot be computed from these data: {len(study.left_out)}",
                folded=True,
            ),
        ),
    )


def method(view: View) -> ReportSection:
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
                if name in study.folds[0].selected
            },
        }
    ).set_index("fold")
    text = study.portfolios.market_text
    rules = (TextBlock("list", text, "Market rules and costs"),) if text else ()
    versions = (*study.versions.items(), ("data, SHA-256", study.data_hash))
    return ReportSection(
        "method",
        "Method",
        "The same data, settings, versions and seed give identical numbers.",
        (
            TextBlock("terms", conventions(study.config), "Conventions"),
            *rules,
            *_own_models(study),
            make_table(folds, "Walk-forward: training and test days of each fold"),
            TextBlock("code", (config_to_toml(study.config, without=IDLE),), "Settings"),
            TextBlock("terms", versions, "Versions and data"),
        ),
    )


def _own_models(study: Study) -> tuple[TextBlock, ...]:
    """What the user's own models are; nothing without any."""
    custom = study.plan.custom_models
    if not custom.models:
        return ()
    terms = tuple((own.label, own.about or f"the function {own.name}") for own in custom.models)
    file = Path(study.config.custom_models).name
    return (TextBlock("terms", terms, f"Models of the user's own, from {file}"),)


def cautions(view: View) -> ReportSection:
    """What limits the results."""
    notes = view.study.notes or ("No caution was recorded about these data.",)
    impact = ", without market impact" if view.study.config.costs.preset == "flat" else ""
    general = (
        (
            "A backtest is one path of history. Its settings were chosen by people who know that "
            "history, and no interval in this report accounts for it."
        ),
        (
            f"Trades are assumed to be made at the closing price{impact}; dividends count only "
            "where the data's adjusted close includes them."
        ),
    )
    return ReportSection(
        "cautions",
        "Cautions",
        "Read these before relying on a number.",
        (TextBlock("list", (*notes, *general)),),
    )
