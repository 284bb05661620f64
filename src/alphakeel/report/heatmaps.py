"""Two heat maps: the return of every month, and the factors that each fold kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from alphakeel.report.palette import DIVERGING, layout, name_text, numbers

__all__ = ["factor_heatmap", "month_heatmap"]

Array = npt.NDArray[np.floating[Any]]
Dates = npt.NDArray[np.datetime64]


def month_heatmap(dates: Dates, returns: Array) -> go.Figure:
    """Compounded return of every month, a row per year.

    Parameters
    ----------
    dates : ndarray of shape (n_dates,), datetime64
    returns : ndarray of shape (n_dates,)
        Simple returns per day, as fractions.
    """
    months = dates.astype("datetime64[M]").astype(np.int64)
    first_year, last_year = months[0] // 12, months[-1] // 12
    growth = np.full((last_year - first_year + 1) * 12, np.nan)
    place = months - first_year * 12
    growth[np.unique(place)] = 0.0
    np.add.at(growth, place, np.log1p(returns))
    table = np.expm1(growth).reshape(-1, 12)
    ends = float(np.nanmax(np.abs(table))) or 1.0
    text = [["" if np.isnan(v) else f"{100 * v:.1f}".replace("-", "\N{MINUS SIGN}") for v in row]
            for row in table]  # fmt: skip
    figure = go.Figure(
        go.Heatmap(
            z=[numbers(row) for row in table],
            x=["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
            y=[str(1970 + int(year)) for year in range(first_year, last_year + 1)],
            text=text,
            texttemplate="%{text}",
            textfont={"size": 10},
            colorscale=DIVERGING["light"],
            meta=DIVERGING,
            zmin=-ends,
            zmax=ends,
            xgap=2,
            ygap=2,
            showscale=False,
            hovertemplate="%{y} %{x}: %{z:.2%}<extra></extra>",
        )
    )
    figure.update_layout(**layout(90 + 26 * len(table), "closest"))
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False, ticks="")
    figure.update_xaxes(side="top", showgrid=False, ticks="")
    return figure


def factor_heatmap(
    names: Sequence[str], folds: Sequence[str], strength: Array, kept: npt.NDArray[np.bool_]
) -> go.Figure:
    """Which factors each fold kept, coloured by Rank IC on its training rows.

    Parameters
    ----------
    names : sequence of str, length n_factors
    folds : sequence of str, length n_folds
    strength : ndarray of shape (n_factors, n_folds)
        Rank IC on training rows.
    kept : ndarray of bool of shape (n_factors, n_folds)
        False leaves the cell empty but for a dot.
    """
    shown = np.where(kept, strength, np.nan)
    known = np.abs(shown[np.isfinite(shown)])
    ends = float(known.max()) if known.size and known.max() > 0 else 1.0
    ticks = [name_text(name) for name in names]
    figure = go.Figure(
        go.Heatmap(
            z=[numbers(row) for row in shown],
            x=list(folds),
            y=ticks,
            text=[["" if k else "·" for k in row] for row in kept],
            texttemplate="%{text}",
            colorscale=DIVERGING["light"],
            meta=DIVERGING,
            zmin=-ends,
            zmax=ends,
            xgap=3,
            ygap=2,
            colorbar={
                "title": {"text": "Rank IC", "font": {"size": 12}},
                "thickness": 10,
                "len": 0.5,
                "outlinewidth": 0,
            },
            hovertemplate="%{y}<br>test from %{x}<br>Rank IC %{z:.3f}<extra></extra>",
        )
    )
    figure.update_layout(**layout(110 + 19 * len(ticks), "closest"))
    figure.update_yaxes(
        autorange="reversed", showgrid=False, ticks="", type="category",
        tickmode="array", tickvals=ticks, tickfont={"size": 11},
    )  # fmt: skip
    figure.update_xaxes(side="top", showgrid=False, ticks="", type="category")
    return figure
