"""Models and portfolio: factors, importance, holdings, training limits, costs, training."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.pipeline.model_results import ModelResult
from alphakeel.report import charts, method
from alphakeel.report.sections import (
    YEAR,
    Array,
    Block,
    Chart,
    ReportSection,
    TextBlock,
    View,
    listing,
)
from alphakeel.report.table_cells import Column, make_table
from alphakeel.stats import rolling

__all__ = [
    "costs",
    "drivers",
    "factors",
    "limits",
    "portfolio",
    "training",
]

SMALL_UNIVERSE = 40
LISTED_HOLDINGS = 10
DRAWN_FACTORS = 12
SMALL_TABLE = 12
SCREEN_COLUMNS = ["family", "coverage", "rank_ic", "nw_t", "q_value", "sign_stability", "vif",
                  "kept", "network", "verdict"]  # fmt: skip


def factors(view: View) -> ReportSection:
    """Which factors were kept in each fold, and why."""
    folds = view.study.folds
    lead = (
        "In each fold, every factor is screened on the training data only. The linear model is "
        "given the factors that are kept; networks are also given factors that are weak alone, "
        "because they may matter in combination."
    )
    if not folds or not len(folds[-1].verdicts):
        return ReportSection(
            "factors", "Factors", lead, (TextBlock("text", ("No factor was screened.",)),)
        )
    last = folds[-1]
    names = list(dict.fromkeys(str(f) for fold in folds for f in fold.verdicts["factor"]))
    by_fold = [fold.verdicts.set_index(fold.verdicts["factor"].astype(str)) for fold in folds]
    strength = np.column_stack([v["rank_ic"].reindex(names).to_numpy(float) for v in by_fold])
    kept = np.column_stack(
        [v["kept"].reindex(names, fill_value=False).to_numpy(bool) for v in by_fold]
    )
    always = int(kept.all(axis=1).sum())
    return ReportSection(
        "factors",
        "Factors",
        lead,
        (
            Chart(
                "kept",
                charts.factor_heatmap(names, [str(f.test[0])[:7] for f in folds], strength, kept),
                "Factors kept in each fold (columns: first month of its test). Colour: Rank IC on "
                "the training data; a dot: not kept.",
                f"{always} of {len(names)} factors were kept in every fold.",
            ),
            make_table(
                last.verdicts.set_index("factor")[SCREEN_COLUMNS].sort_values(
                    "kept", ascending=False, kind="stable"
                ),
                f"Screening in the last fold, trained {last.train[0]} to {last.train[1]}: "
                f"{int(last.verdicts['kept'].sum())} of {len(last.verdicts)} factors kept. The "
                "run's folder has the tables of every fold.",
                folded=True,
            ),
        ),
    )


DRIVER_COLUMNS = {
    "rank_ic_drop": Column("Rank IC lost", "small", "Mean over dates, with this factor shuffled"),
    "score_share": Column("Share of scores", "percent", "Of all absolute contributions"),
    "top_lag": Column("Top lag", "count", "Rows back that contributed most"),
    "mean_lag": Column("Mean lag", "count1", "Average lag, weighted by contribution"),
    "folds": Column("Folds", "count", "Folds in which the model was given the factor"),
}


def drivers(view: View) -> ReportSection:
    """What the scores depend on."""
    table = view.tables["drivers"]
    blocks: list[Block] = []
    tables: list[Block] = []
    for model in view.study.models.values():
        own = table[table.index.get_level_values("model") == model.label].droplevel("model")
        if own.empty:
            continue
        first = own.head(DRAWN_FACTORS)
        helped = own[own["rank_ic_drop_low"] > 0.0]
        blocks.append(
            Chart(
                f"drivers-{model.name}",
                charts.driver_bars(
                    [str(factor) for factor in first.index],
                    *(first[f"rank_ic_drop{end}"].to_numpy(float) for end in ("", "_low", "_high")),
                    name=model.label,
                ),
                f"{model.label}: Rank IC lost when one factor is shuffled across the stocks of "
                "each test date, with intervals.",
                f"{len(helped)} of {len(own)} factors have an interval wholly above zero"
                + "".join(f"{', ' if i else ': '}{name}" for i, name in enumerate(helped.index))
                + ".",
                alt="A table below lists every factor.",
                narrow=True,
            )
        )
        tables.append(
            make_table(own, f"{model.label}: every factor", columns=DRIVER_COLUMNS, folded=True)
        )
    blocks += _combination(view)
    if not blocks:
        blocks.append(TextBlock("text", ("No model was explained in this study.",)))
    return ReportSection(
        "drivers",
        "Factor importance",
        "Two measures, both on test data that no fit has seen. Rank IC lost: how much worse the "
        "ranking is when the factor is shuffled; correlated factors can replace each other, so "
        "that none of them seems to matter. Share of scores: how much of the scores comes from the "
        "factor, useful or not, and from how many rows back: decisions, or days of a network that "
        "reads every day.",
        (*blocks, *tables),
    )


def _combination(view: View) -> list[Block]:
    """That the combined model has no drivers of its own, and how its members are weighted."""
    weights = view.tables["combined"]
    if weights.empty:
        return []
    said = (
        "The combined model has no fit and so no drivers of its own: its score is the weighted "
        "mean of its members' ranks, and depends on what theirs depend on."
    )
    table = weights.assign(fold=weights["fold"].astype(str)).set_index(["fold", "member"])
    columns = {
        "weight": Column("Weight", "percent"),
        "rank_ic": Column("Rank IC before", "small", "That learned weights come from"),
        "decisions": Column("Decisions", "count", "That learned weights come from"),
    }
    caption = "Weights of the members of the combined model"
    return [
        TextBlock("text", (said,)),
        make_table(table, caption, columns=columns, folded=len(table) > SMALL_TABLE),
    ]


def portfolio(view: View) -> ReportSection:
    """What was held."""
    study, ledger = view.study, view.ledger
    # Weights move little between decisions: one point per decision is what a reader can see.
    decided = study.decisions[study.decisions >= study.test.start] - study.test.start
    breadth = {n: _effective_names(b.weights) for n, b in study.strategies.items()}
    mean = {n: float(np.nanmean(v)) if np.isfinite(v).any() else 0.0 for n, v in breadth.items()}
    blocks: list[Block] = []
    if len(study.asset_names) <= SMALL_UNIVERSE:
        blocks.append(
            Chart(
                "weights",
                charts.weights_area(
                    view.dates[decided],
                    ledger.weights[decided],
                    1.0 - ledger.weights[decided].sum(axis=1),
                    [str(name) for name in study.asset_names],
                ),
                f"{view.focus}: share of wealth in each stock; the largest on average are named.",
                alt="The table below lists the largest holdings.",
            )
        )
    blocks.append(
        Chart(
            "breadth",
            charts.line_chart(
                view.dates[decided],
                {n: v[decided] for n, v in breadth.items()},
                unit="stocks",
                zero=True,
                hidden=view.others,
            ),
            "Effective number of stocks: one over the sum of squared weights, regardless of cash "
            "and signs.",
            "Mean: " + listing(mean, "count1"),
        )
    )
    blocks.append(
        make_table(
            _holdings(ledger.weights, study.asset_names),
            f"{view.focus}: largest holdings at the close of {view.dates[-1]}",
        )
    )
    return ReportSection(
        "portfolio", "Portfolio", "What was held, and how diversified it was.", tuple(blocks)
    )


def _effective_names(weights: Array) -> Array:
    total = np.abs(weights).sum(axis=1)
    squares = np.sum(weights**2, axis=1)
    held = squares > 0
    return np.where(held, total**2 / np.where(held, squares, 1.0), np.nan)


def _holdings(weights: Array, names: npt.NDArray[np.str_]) -> pd.DataFrame:
    order = np.argsort(-np.abs(weights[-1]), kind="stable")[:LISTED_HOLDINGS]
    order = order[weights[-1, order] != 0]
    frame = pd.DataFrame(
        {
            "ticker": [str(names[i]) for i in order],
            "weight": weights[-1, order],
            "average": weights.mean(axis=0)[order],
        }
    )
    return frame.set_index("ticker")


def costs(view: View) -> ReportSection:
    """Turnover and the costs of trading."""
    every = view.study.every_ledger()
    ledgers = {name: every[name] for name in view.charted()}
    stacked = np.column_stack([ledger.turnover for ledger in ledgers.values()])
    trailing = dict(zip(ledgers, rolling.trailing_sum(stacked / 2.0, YEAR).T, strict=True))
    paid = {n: np.cumsum(ledger.gross_returns - view.net[n]) for n, ledger in ledgers.items()}
    return ReportSection(
        "costs",
        "Costs",
        method.cost_sentence(view.study.config),
        (
            Chart(
                "turnover",
                charts.line_chart(
                    view.dates,
                    trailing,
                    unit="times per year",
                    zero=True,
                    height=320,
                    hidden=view.others,
                ),
                f"Turnover over the trailing {YEAR} days: how often the whole portfolio was "
                "replaced.",
                alt="The means are in the table below.",
                narrow=True,
            ),
            Chart(
                "paid",
                charts.line_chart(
                    view.dates,
                    paid,
                    unit="of wealth",
                    percent=True,
                    zero=True,
                    height=320,
                    hidden=view.others,
                ),
                "Cumulative costs: the sum of each day's costs as a share of wealth.",
                "Total: " + listing({n: float(v[-1]) for n, v in paid.items()}, "percent"),
                narrow=True,
            ),
            make_table(view.tables["costs"], "Trading and its costs", kind="percent2"),
        ),
    )


def training(view: View) -> ReportSection:
    """The training curve of every fit."""
    fitted = [m for m in view.study.models.values() if m.history]
    lead = (
        "Each line is one fit with one seed. Lines far apart mean that the seed matters; scores "
        "are averaged over seeds. Where a validation block was set aside, lines show the Rank IC "
        "on it; otherwise the IC on the training data, which is too optimistic."
    )
    if not fitted:
        none = TextBlock("text", ("No model was trained step by step in this study.",))
        return ReportSection("training", "Training", lead, (none,))
    blocks: list[Block] = []
    for model in fitted:
        validated = any(np.isfinite(entry["validation_rank_ic"]) for entry in model.history)
        value, what = (
            ("validation_rank_ic", "Rank IC on the validation block")
            if validated
            else ("train_ic", "IC on the training data")
        )
        blocks.append(
            Chart(
                f"training-{model.name}",
                charts.training_curves(model.history, value, what),
                f"{model.label}: {what} during training.",
                alt="The run's folder holds every value.",
            )
        )
        if validated:
            blocks.append(
                make_table(
                    _best_table(model),
                    f"{model.label}: best validation Rank IC, and its range over seeds",
                    kind="small",
                )
            )
    seeds = view.tables.get("seeds")
    if seeds is not None and len(seeds):
        caption = "Each network of an ensemble by itself, without the overlay: variation over seeds"
        blocks.append(
            make_table(seeds.set_index(["model", "seed"]), caption, folded=len(seeds) > 8)
        )
    return ReportSection("training", "Training", lead, tuple(blocks))


LIMIT_NAMES = {
    "volatility": "volatility, annual",
    "max_drawdown": "maximum drawdown",
    "var_95": "VaR 95 %, one day",
    "cvar_95": "CVaR 95 %, one day",
    "turnover": "turnover, both sides, annual",
}
LIMIT_COLUMNS = {
    "allowed": Column("Limit", "ratio"),
    "trained": Column("In training", "ratio", "On the path of the fit"),
    "promised": Column("Promised", "ratio", "By networks that were not fitted on the path"),
    "safety": Column("Safety factor", "ratio", "On the forecast of the risk, found out of fold"),
    "realised": Column("Realised", "ratio", "In the test"),
    "excess": Column("Over the limit", "change", "Above zero: the limit was violated"),
}


COMPOSITION_COLUMNS = {
    "model": Column("Model", "text"),
    "temperature": Column("Temperature", "ratio", "Small picks few stocks"),
    "smoothing": Column("Share of the way", "percent", "Traded at each decision"),
    "merit": Column("Sharpe ratio", "ratio", "Out of fold, had the market earned 5 % a year"),
}


def _compositions(view: View) -> list[Block]:
    """How concentrated and how slow the composition of each network under limits is, by fold."""
    table = view.tables["compositions"]
    if table.empty:
        return []
    shown = table.assign(fold=table["fold"].astype(str)).set_index(["model", "fold"])
    caption = "Composition chosen in each fold, by networks that were not fitted on its path"
    taken = shown[shown["chosen"]].drop(columns="chosen")
    every = "Every composition to choose from"
    return [
        make_table(taken, caption, columns=COMPOSITION_COLUMNS),
        make_table(shown, every, columns=COMPOSITION_COLUMNS, folded=True),
    ]


def limits(view: View) -> ReportSection:
    """Limits that models were trained under, and their realised values."""
    table = view.tables["limits"]
    lead = (
        "Limits that a model holds its portfolio under. Promised is what networks that were not "
        "fitted on a part of the training data realise on it; a drawdown is from the highest "
        "wealth of the last 252 days. No limit can be guaranteed: realised is what came out."
    )
    if table.empty:
        none = TextBlock("text", ("No model of this study was trained under limits.",))
        return ReportSection("limits", "Limits", lead, (none,))
    blocks: list[Block] = []
    for name in table["limit"].unique():
        own = table[table["limit"] == name].drop(columns="limit").set_index(["model", "period"])
        kinds = "times" if name == "turnover" else "percent2"
        columns = {
            key: Column(c.label, c.kind if key in ("excess", "safety") else kinds, c.about)
            for key, c in LIMIT_COLUMNS.items()
        }
        blocks.append(make_table(own, f"Limit on {LIMIT_NAMES[name]}", columns=columns))
    blocks += _compositions(view)
    for model in (m for m in view.study.models.values() if m.label in set(table["model"])):
        for name in table.loc[table["model"] == model.label, "limit"].unique():
            for what, about in (
                ("violation", "violation on the training path (above zero: violated)"),
                ("multiplier", "Lagrange multiplier"),
            ):
                key = f"{name}_{what}"
                blocks.append(
                    Chart(
                        f"limits-{model.name}-{name}-{what}",
                        charts.training_curves(model.history, key, what),
                        f"{model.label}: {about} of the limit on {LIMIT_NAMES[name]}.",
                        alt="The run's folder holds every value.",
                        narrow=True,
                    )
                )
    return ReportSection("limits", "Limits", lead, tuple(blocks))


def _best_table(model: ModelResult) -> pd.DataFrame:
    """One row per fold: best validation Rank IC of each seed, and its range over seeds."""
    history = pd.DataFrame(model.history)
    best = history.groupby(["fold", "seed"])["validation_rank_ic"].max().unstack("seed")
    best.index = pd.Index([str(int(fold) + 1) for fold in best.index], name="fold")
    seeds = [f"seed {seed}" for seed in best.columns]
    best.columns = pd.Index(seeds)
    best["mean"] = best[seeds].mean(axis=1)
    best["spread"] = best[seeds].max(axis=1) - best[seeds].min(axis=1)
    return best
