"""Figures against an assumption: costs, size, horizon, and the rungs of the ladder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from alphakeel.report.palette import layout, name_text, numbers, strategy_style

__all__ = ["ladder_chart", "sweep_chart"]

Array = npt.NDArray[np.floating[Any]]


def sweep_chart(
    series: Mapping[str, tuple[Array, Array]],
    *,
    x_title: str,
    y_title: str,
    percent: bool = False,
    ticks: Mapping[float, str] | None = None,
    spread: Mapping[str, tuple[Array, Array]] | None = None,
    hidden: Collection[str] = (),
) -> go.Figure:
    """Lines with markers over the values of an assumption.

    Parameters
    ----------
    series : mapping of str to (x, y)
        Arrays of the same length, by strategy.
    x_title, y_title : str
    percent : bool
        Values are fractions and are shown as per cent.
    ticks : mapping of float to str, optional
        Texts of the assumption's values; its axis is then logarithmic.
    spread : mapping of str to (low, high), optional
        Ends of intervals.
    hidden : collection of str
        Names that wait in the legend until they are clicked.

    Examples
    --------
    >>> x = np.array([0.0, 10.0])
    >>> chart = sweep_chart({"Linear": (x, x / 10)}, x_title="basis points", y_title="Sharpe")
    >>> list(chart.data[0].y)
    [0.0, 1.0]
    """
    figure = go.Figure()
    for name, (x, y) in series.items():
        style = strategy_style(name)
        bars = None
        if spread is not None:
            low, high = spread[name]
            bars = {
                "type": "data", "symmetric": False, "array": numbers(high - y),
                "arrayminus": numbers(y - low), "thickness": 1.2, "width": 3,
                "color": style.color,
            }  # fmt: skip
        figure.add_scatter(
            x=numbers(x), y=numbers(y), name=name_text(name), mode="lines+markers", error_y=bars,
            line={"color": style.color, "dash": style.dash, "width": style.width},
            marker={"size": 6}, hovertemplate="%{y:.1%}" if percent else "%{y:.3~f}",
            visible="legendonly" if name in hidden else True,
        )  # fmt: skip
    figure.update_layout(**layout(340))
    figure.update_xaxes(title_text=x_title, type="log" if ticks else "linear")
    if ticks:
        figure.update_xaxes(tickvals=list(ticks), ticktext=list(ticks.values()))
    figure.update_yaxes(title_text=y_title, tickformat="~%" if percent else None, zeroline=True)
    return figure


def ladder_chart(
    rungs: Sequence[str],
    series: Mapping[str, Array],
    *,
    percent: bool = False,
    hidden: Collection[str] = (),
) -> go.Figure:
    """A figure of merit on every rung, a line a model, so that each step can be seen.

    Parameters
    ----------
    rungs : sequence of str, length n_rungs
        From the lowest to the highest.
    series : mapping of str to ndarray of shape (n_rungs,)
        By model; NaN where a model has no such rung, which the line then skips.
    percent : bool
        Values are fractions and are shown as per cent.
    hidden : collection of str
        Models that wait in the legend until they are clicked.
    """
    figure = go.Figure()
    ticks = [name_text(rung).replace("equal ", "equal<br>") for rung in rungs]
    for name, values in series.items():
        style = strategy_style(name)
        known = np.isfinite(values)
        figure.add_scatter(
            x=[t for t, k in zip(ticks, known, strict=True) if k],
            y=numbers(np.asarray(values)[known]),
            name=name_text(name), mode="lines+markers",
            line={"color": style.color, "dash": style.dash, "width": style.width},
            marker={"size": 8}, hovertemplate="%{y:.1%}" if percent else "%{y:.2f}",
            visible="legendonly" if name in hidden else True,
        )  # fmt: skip
    figure.update_layout(**layout(300))
    figure.update_xaxes(
        type="category", categoryorder="array", categoryarray=ticks, showgrid=False, tickangle=0,
        tickfont={"size": 11}, range=[-0.3, len(ticks) - 0.7],
    )  # fmt: skip
    figure.update_yaxes(tickformat="~%" if percent else None, rangemode="tozero")
    return figure
