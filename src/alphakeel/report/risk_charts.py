"""Figures of risk: returns with their VaR forecast, exposure, regimes, and the drawdown fan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from alphakeel.report.style import (
    INK_MID,
    REST,
    RULES,
    TARGET,
    TINTS,
    date_text,
    faint,
    layout,
    name_text,
    numbers,
    strategy_style,
)

__all__ = ["exposure_chart", "fan_chart", "mark_target", "regime_bars", "return_chart", "shade"]

Array = npt.NDArray[np.floating[Any]]
Dates = npt.NDArray[np.datetime64]

# What a reader calls the rules of the overlay.
RULE_NAMES = {
    "leverage": "maximum exposure",
    "volatility": "volatility target",
    "var": "VaR cap",
    "throttle": "bear throttle",
    "brake": "drawdown brake",
}


def return_chart(
    dates: Dates,
    returns: Array,
    limit: Array,
    constant: float,
    *,
    name: str,
) -> go.Figure:
    """Daily returns, their VaR forecast, and the exceedances.

    `limit` is the value at risk known at the close before (NaN while unknown), `constant` that of
    the whole period: positive fractions.
    """
    x, color = date_text(dates), strategy_style(name).color
    where = np.flatnonzero(returns < -limit)
    figure = go.Figure(
        [
            go.Scatter(
                x=x, y=numbers(returns, 4), mode="lines", name="daily return",
                line={"color": REST, "width": 0.8}, hovertemplate="%{y:.2%}",
            ),
            go.Scatter(
                x=x, y=numbers(-limit, 4), mode="lines", name="VaR forecast",
                line={"color": INK_MID, "width": 1.6}, hovertemplate="%{y:.2%}",
            ),
            go.Scatter(
                x=[x[i] for i in where], y=numbers(returns[where], 4), mode="markers",
                name="exceedance", marker={"color": color, "size": 5},
                hovertemplate="%{y:.2%}",
            ),
        ]
    )  # fmt: skip
    figure.update_layout(**layout(360))
    figure.add_hline(y=-constant, line={"color": color, "dash": "dash", "width": 1.2})
    figure.update_xaxes(type="date", range=[x[0], x[-1]])
    figure.update_yaxes(title_text="return per day", tickformat="~%")
    return figure


def mark_target(figure: go.Figure, target: float) -> go.Figure:
    """Add a dotted line at a target, a fraction."""
    figure.add_hline(y=target, line={"color": TARGET, "dash": "dot", "width": 1.4})
    return figure


def shade(figure: go.Figure, dates: Dates, labels: Sequence[str]) -> go.Figure:
    """Shade the days of bear and range-bound markets behind a figure, which is changed in place.

    `labels` has the name of each day's regime; names without a tint stay white.

    Examples
    --------
    >>> days = np.arange("2020-01-01", "2020-01-05", dtype="datetime64[D]")
    >>> figure = shade(go.Figure(), days, ["bull", "bear", "bear", "bull"])
    >>> [(shape.x0, shape.x1) for shape in figure.layout.shapes]
    [('2020-01-02', '2020-01-04')]
    """
    x, names = date_text(dates), np.asarray(labels)
    starts = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
    stops = np.append(starts[1:], len(names) - 1)
    figure.update_layout(
        shapes=[
            {
                "type": "rect", "layer": "below", "line": {"width": 0}, "xref": "x",
                "yref": "paper", "y0": 0, "y1": 1, "x0": x[start], "x1": x[stop],
                "fillcolor": TINTS[names[start]],
            }
            for start, stop in zip(starts, stops, strict=True)
            if names[start] in TINTS
        ]
    )  # fmt: skip
    return figure


def exposure_chart(
    dates: Dates,
    exposure: Array,
    rules: Mapping[str, npt.NDArray[np.bool_]],
    others: Mapping[str, Array],
) -> go.Figure:
    """Exposure over time, in the colour of the binding rule.

    `rules` are as from `Overlay.bound`; where several bind, the last one gives the colour. `others`
    are exposures of other strategies, hidden in the legend.
    """
    x = date_text(dates)
    held = np.zeros(len(x), dtype=np.intp)
    for k, bound in enumerate(rules.values()):
        held[np.asarray(bound)] = k
    figure = go.Figure()
    for k, rule in enumerate(rules):
        if not (held == k).any():
            continue
        # Each colour ends on the first day of the next one, so that the line does not break.
        own = (held == k) | np.append(False, held[:-1] == k)
        figure.add_scatter(
            x=x, y=numbers(np.where(own, exposure, np.nan), 4), mode="lines",
            name=RULE_NAMES[rule], line={"color": RULES[rule], "width": 1.8},
            hovertemplate="%{y:.1%}",
        )  # fmt: skip
    for name, values in others.items():
        style = strategy_style(name)
        figure.add_scatter(
            x=x, y=numbers(values, 4), mode="lines", name=name_text(name), visible="legendonly",
            line={"color": style.color, "dash": style.dash, "width": 1.3},
            hovertemplate="%{y:.1%}",
        )  # fmt: skip
    figure.update_layout(**layout(320))
    figure.update_xaxes(type="date", range=[x[0], x[-1]])
    figure.update_yaxes(title_text="exposure", tickformat="~%", rangemode="tozero")
    return figure


def regime_bars(
    regimes: Sequence[str], mean: Mapping[str, Array], low: Mapping[str, Array],
    high: Mapping[str, Array],
) -> go.Figure:  # fmt: skip
    """Mean return of every strategy in every regime (fractions), as bars with intervals."""
    figure = go.Figure()
    for name, values in mean.items():
        style = strategy_style(name)
        plain = style.dash == "solid"
        figure.add_bar(
            x=list(regimes), y=numbers(values), name=name_text(name),
            marker={
                "color": style.color if plain else faint(style.color, 0.35),
                "line": {"color": style.color, "width": 1.2},
            },
            error_y={
                "type": "data", "symmetric": False, "array": numbers(high[name] - values),
                "arrayminus": numbers(values - low[name]), "color": INK_MID, "thickness": 1.2,
                "width": 3,
            },
            hovertemplate="%{y:.1%}",
        )  # fmt: skip
    figure.update_layout(**layout(340), barmode="group", bargap=0.3)
    figure.update_xaxes(showgrid=False, type="category")
    figure.update_yaxes(title_text="mean, annualised", tickformat="~%", zeroline=True)
    return figure


def fan_chart(
    days: npt.NDArray[np.integer[Any]], levels: Array, quantiles: Array, *, name: str, reach: float
) -> go.Figure:
    """Quantiles of the maximum drawdown of the next days, as a fan that opens downwards.

    `quantiles` of shape (horizon, n_levels) are positive fractions, not exceeded with the
    probabilities in `levels`; `reach` is the lower end of the axis, so that charts compare.
    """
    color = strategy_style(name).color
    some = np.unique(np.linspace(0, len(days) - 1, min(len(days), 90)).astype(np.intp))
    x = [int(day) for day in days[some]]
    figure = go.Figure()
    for k, level in enumerate(levels):
        figure.add_scatter(
            x=x, y=numbers(-quantiles[some, k], 4), mode="lines", name=f"{100 * level:g} %",
            line={"color": color, "width": 2.0 if level == 0.95 else 0.8},
            fill="tozeroy" if k == 0 else "tonexty",
            fillcolor=faint(color, 0.42 * (1 - k / len(levels)) + 0.03),
            hovertemplate="%{y:.1%}",
        )  # fmt: skip
    figure.update_layout(**layout(330))
    figure.update_xaxes(title_text="trading days ahead")
    figure.update_yaxes(title_text="drawdown", tickformat="~%", range=[-reach, 0])
    return figure
