"""What the result is made of: factors, drivers, holdings, limits, costs, training."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.pipeline.fitting import ModelResult
from alphakeel.report import charts as figures
from alphakeel.report import method
from alphakeel.report.sections import YEAR, Array, Block, Chart, Section, View, Words, listing
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
VERDICT = ["family", "coverage", "rank_ic", "nw_t", "q_value", "sign_stability", "vif", "kept",
           "network", "verdict"]  # fmt: skip


def factors(view: View) -> Section:
    """Which factors each fold kept, and why."""
    folds = view.study.folds
    lead = (
        "Each fold judges every factor on its training rows only. The linear model sees what is "
        "kept; networks also see factors that are weak alone, for they may count in combination."
    )
    if not folds or not len(folds[-1].verdicts):
        return Section("factors", "Factors", lead, (Words("text", ("No factor was screened.",)),))
    last = folds[-1]
    names = list(dict.fromkeys(str(f) for fold in folds for f in fold.verdicts["factor"]))
    by_fold = [fold.verdicts.set_index(fold.verdicts["factor"].astype(str)) for fold in folds]
    strength = np.column_stack([v["rank_ic"].reindex(names).to_numpy(float) for v in by_fold])
    kept = np.column_stack(
        [v["kept"].reindex(names, fill_value=False).to_numpy(bool) for v in by_fold]
    )
    always = int(kept.all(axis=1).sum())
    return Section(
        "factors",
        "Factors",
        lead,
        (
            Chart(
                "kept",
                figures.factor_heatmap(names, [str(f.test[0])[:7] for f in folds], strength, kept),
                "Factors kept by each fold (columns: first month of its test). Colour: Rank IC on "
                "training rows; a dot: not kept.",
                f"{always} of {len(names)} factors were kept by every fold.",
            ),
            make_table(
                last.verdicts.set_index("factor")[VERDICT].sort_values(
                    "kept", ascending=False, kind="stable"
                ),
                f"Verdicts of the last fold, trained {last.train[0]} to {last.train[1]}: "
                f"{int(last.verdicts['kept'].sum())} of {len(last.verdicts)} kept. The folder of "
                "the run has those of every fold.",
                folded=True,
            ),
        ),
    )


DRIVER_COLUMNS = {
    "rank_ic_drop": Column("Rank IC lost", "small", "On average, with this factor shuffled"),
    "score_share": Column("Share of scores", "percent", "Of all factors' absolute contributions"),
    "top_lag": Column("Top lag", "count", "Decisions back from which most of it came"),
    "mean_lag": Column("Mean lag", "count1", "The same on average, weighted by contribution"),
    "folds": Column("Folds", "count", "In which the model was given the factor"),
}


def drivers(view: View) -> Section:
    """What moves the scores."""
    table = view.tables["drivers"]
    charts: list[Block] = []
    tables: list[Block] = []
    for model in view.study.models.values():
        own = table[table.index.get_level_values("model") == model.label].droplevel("model")
        if own.empty:
            continue
        first = own.head(DRAWN_FACTORS)
        helped = own[own["rank_ic_drop_low"] > 0.0]
        charts.append(
            Chart(
                f"drivers-{model.name}",
                figures.driver_bars(
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
    if not charts:
        charts.append(Words("text", ("No model was explained in this study.",)))
    return Section(
        "drivers",
        "What drives the scores",
        "Two measures, both on test rows that no fit has seen. Rank IC lost: how much worse the "
        "ranking gets without the factor's order; factors that say the same stand in for each "
        "other, so that none of them may seem to matter. Share of scores: how much of the scores "
        "comes from the factor, useful or not, and from how many decisions back.",
        (*charts, *tables),
    )


def portfolio(view: View) -> Section:
    """What was held."""
    study, book = view.study, view.book
    # Weights move little between decisions: one row a decision is what a reader can see.
    rows = np.arange(0, len(view.dates), study.config.walk_forward.rebalance_every)
    breadth = {n: _effective_names(b.weights) for n, b in study.strategies.items()}
    mean = {n: float(np.nanmean(v)) if np.isfinite(v).any() else 0.0 for n, v in breadth.items()}
    blocks: list[Block] = []
    if len(study.asset_names) <= SMALL_UNIVERSE:
        blocks.append(
            Chart(
                "weights",
                figures.weights_area(
                    view.dates[rows],
                    book.weights[rows],
                    1.0 - book.weights[rows].sum(axis=1),
                    [str(name) for name in study.asset_names],
                ),
                f"{view.hero}: share of wealth in each stock, the largest on average by name.",
                alt="The table below lists the largest holdings.",
            )
        )
    blocks.append(
        Chart(
            "breadth",
            figures.line_chart(
                view.dates[rows],
                {n: v[rows] for n, v in breadth.items()},
                unit="names",
                zero=True,
                hidden=view.rest,
            ),
            "Effective number of names: one over the sum of squared weights, cash and signs apart.",
            "Mean: " + listing(mean, "count1"),
        )
    )
    blocks.append(
        make_table(
            _holdings(book.weights, study.asset_names),
            f"{view.hero}: largest holdings at the close of {view.dates[-1]}",
        )
    )
    return Section(
        "portfolio", "Portfolio", "What was held, and how widely it was spread.", tuple(blocks)
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


def costs(view: View) -> Section:
    """What trading took."""
    every = view.study.every_ledger()
    books = {name: every[name] for name in view.drawn()}
    stacked = np.column_stack([b.turnover for b in books.values()])
    trailing = dict(zip(books, rolling.trailing_sum(stacked / 2.0, YEAR).T, strict=True))
    paid = {n: np.cumsum(b.gross_returns - view.net[n]) for n, b in books.items()}
    return Section(
        "costs",
        "Costs",
        method.cost_sentence(view.study.config),
        (
            Chart(
                "turnover",
                figures.line_chart(
                    view.dates,
                    trailing,
                    unit="times a year",
                    zero=True,
                    height=320,
                    hidden=view.rest,
                ),
                f"Turnover over the trailing {YEAR} days: how often the whole portfolio was "
                "replaced.",
                alt="The means are in the table below.",
                narrow=True,
            ),
            Chart(
                "paid",
                figures.line_chart(
                    view.dates,
                    paid,
                    unit="of wealth",
                    percent=True,
                    zero=True,
                    height=320,
                    hidden=view.rest,
                ),
                "Costs paid since the start: each day's share of wealth, added up.",
                "At the end: " + listing({n: float(v[-1]) for n, v in paid.items()}, "percent"),
                narrow=True,
            ),
            make_table(view.tables["costs"], "What trading took", kind="percent2"),
        ),
    )


def training(view: View) -> Section:
    """The course of every fit."""
    fitted = [m for m in view.study.models.values() if m.history]
    lead = (
        "Each line is one fit of one seed. Lines far apart mean that the seed matters; scores are "
        "averaged over seeds. Where rows were kept apart to validate on, the line shows the Rank "
        "IC on them; else the IC on the rows of the fit, which flatters."
    )
    if not fitted:
        none = Words("text", ("No model was trained step by step in this study.",))
        return Section("training", "Training", lead, (none,))
    blocks: list[Block] = []
    for model in fitted:
        validated = any(np.isfinite(entry["validation_rank_ic"]) for entry in model.history)
        value, what = (
            ("validation_rank_ic", "Rank IC on validation rows")
            if validated
            else ("train_ic", "IC on training rows")
        )
        blocks.append(
            Chart(
                f"training-{model.name}",
                figures.training_curves(model.history, value, what),
                f"{model.label}: {what} during training.",
                alt="The run's folder holds every value.",
            )
        )
        if validated:
            blocks.append(
                make_table(
                    _best_table(model),
                    f"{model.label}: best Rank IC on validation rows, and its spread over seeds",
                    kind="small",
                )
            )
    seeds = view.tables.get("seeds")
    if seeds is not None and len(seeds):
        caption = "Each network of an ensemble by itself, without the overlay: the draw of the seed"
        blocks.append(
            make_table(seeds.set_index(["model", "seed"]), caption, folded=len(seeds) > 8)
        )
    return Section("training", "Training", lead, tuple(blocks))


LIMIT_NAMES = {
    "volatility": "volatility, annual",
    "max_drawdown": "maximum drawdown",
    "var_95": "VaR 95 %, one day",
    "cvar_95": "CVaR 95 %, one day",
    "turnover": "turnover, both sides, annual",
}
LIMIT_COLUMNS = {
    "allowed": Column("Limit", "ratio"),
    "trained": Column("After training", "ratio", "Before exposure was calibrated"),
    "realised": Column("Realised", "ratio", "In a fold: on the rows of its training"),
    "excess": Column("Over the limit", "change", "Above zero the limit was broken"),
}


def limits(view: View) -> Section:
    """Limits that models were trained under, and what became of them."""
    table = view.tables["limits"]
    lead = (
        "Limits that a model was trained under. On the rows of its training they hold; of the test "
        "nobody can promise it, and the table says what happened."
    )
    if table.empty:
        none = Words("text", ("No model of this study was trained under limits.",))
        return Section("limits", "Limits", lead, (none,))
    blocks: list[Block] = []
    for name in table["limit"].unique():
        own = table[table["limit"] == name].drop(columns="limit").set_index(["model", "period"])
        kinds = "times" if name == "turnover" else "percent2"
        columns = {
            key: Column(c.label, c.kind if key == "excess" else kinds, c.about)
            for key, c in LIMIT_COLUMNS.items()
        }
        blocks.append(make_table(own, f"Limit on {LIMIT_NAMES[name]}", columns=columns))
    for model in (m for m in view.study.models.values() if m.label in set(table["model"])):
        for name in table.loc[table["model"] == model.label, "limit"].unique():
            for what, about in (
                ("violation", "violation on the training path (above zero: broken)"),
                ("multiplier", "Lagrange multiplier"),
            ):
                key = f"{name}_{what}"
                blocks.append(
                    Chart(
                        f"limits-{model.name}-{name}-{what}",
                        figures.training_curves(model.history, key, what),
                        f"{model.label}: {about} of the limit on {LIMIT_NAMES[name]}.",
                        alt="The run's folder holds every value.",
                        narrow=True,
                    )
                )
    return Section("limits", "Limits", lead, tuple(blocks))


def _best_table(model: ModelResult) -> pd.DataFrame:
    """One row per fold: best validation Rank IC of each seed, and the spread over seeds."""
    history = pd.DataFrame(model.history)
    best = history.groupby(["fold", "seed"])["validation_rank_ic"].max().unstack("seed")
    best.index = pd.Index([str(int(fold) + 1) for fold in best.index], name="fold")
    seeds = [f"seed {seed}" for seed in best.columns]
    best.columns = pd.Index(seeds)
    best["mean"] = best[seeds].mean(axis=1)
    best["spread"] = best[seeds].max(axis=1) - best[seeds].min(axis=1)
    return best
