"""The end of the report: data, method, and what to hold against the result."""

from __future__ import annotations

import pandas as pd

from alphakeel.config import config_to_toml
from alphakeel.report import conventions
from alphakeel.report.cells import make_table
from alphakeel.report.page import Section, View, Words

__all__ = ["cautions", "data", "method"]


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
            Words("terms", conventions.conventions(study.config), "Conventions"),
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
