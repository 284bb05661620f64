"""Figures of a study: computed numbers in, plotly figures out. `style` has the colours.

Names that come from data (tickers, sectors, factors) are escaped, because plotly reads text as
simple HTML. Names in `hidden` appear only in the legend until they are clicked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from alphakeel.report.style import (
    CASH,
    DIVERGING,
    HOLDINGS,
    INK_MID,
    LONGEST_TICKER,
    OVERLAY,
    REST,
    date_text,
    layout,
    name_text,
    numbers,
    ramp,
    strategy_style,
)

__all__ = [
    "drawdown_curves",
    "driver_bars",
    "equity_curves",
    "factor_heatmap",
    "interval_plot",
    "line_chart",
    "month_heatmap",
    "step_chart",
    "sweep_chart",
    "training_curves",
    "weights_area",
]

Array = npt.NDArray[np.floating[Any]]
Dates = npt.NDArray[np.datetime64]


def line_chart(
    dates: Dates,
    series: Mapping[str, Array],
    *,
    unit: str = "",
    percent: bool = False,
    log: bool = False,
    zero: bool = False,
    height: int = 380,
    hidden: Collection[str] = (),
) -> go.Figure:
    """Lines over time, one per name; NaN leaves a gap.

    `percent` shows fractions as per cent; `zero` lets the value axis begin (or end) at zero.
    """
    x = date_text(dates)
    shape = ".1%" if percent else ".3~f"
    figure = go.Figure(
        [
            go.Scatter(
                x=x,
                y=numbers(values),
                name=name_text(name),
                mode="lines",
                line={
                    "color": strategy_style(name).color,
                    "dash": strategy_style(name).dash,
                    "width": strategy_style(name).width,
                },
                hovertemplate=f"%{{y:{shape}}}",
                visible="legendonly" if name in hidden else True,
            )
            for name, values in series.items()
        ]
    )
    figure.update_layout(**layout(height))
    figure.update_xaxes(type="date", range=[x[0], x[-1]])
    figure.update_yaxes(
        title_text=unit,
        type="log" if log else "linear",
        tickformat="~%" if percent else None,
        rangemode="tozero" if zero else "normal",
    )
    if log:
        figure.update_yaxes(tickvals=_log_ticks(series), tickformat="~g")
    return figure


def equity_curves(
    dates: Dates, returns: Mapping[str, Array], *, hidden: Collection[str] = ()
) -> go.Figure:
    """Growth of 1, on a logarithmic axis, from simple daily returns after costs (fractions)."""
    wealth = {name: np.cumprod(1.0 + np.asarray(values)) for name, values in returns.items()}
    return line_chart(
        dates, wealth, unit="growth of 1 (log axis)", log=True, height=460, hidden=hidden
    )


def drawdown_curves(
    dates: Dates, drawdowns: Mapping[str, Array], *, hidden: Collection[str] = ()
) -> go.Figure:
    """Loss since the last peak (positive fractions), drawn downwards."""
    below = {name: -np.asarray(values) for name, values in drawdowns.items()}
    return line_chart(
        dates, below, unit="below the last peak", percent=True, zero=True, hidden=hidden
    )


def interval_plot(
    estimate: Mapping[str, float],
    low: Mapping[str, float],
    high: Mapping[str, float],
    *,
    percent: bool = False,
) -> go.Figure:
    """Estimates with their intervals, one row per strategy, the first on top."""
    shape = ".1%" if percent else ".2f"
    figure = go.Figure()
    for name, value in estimate.items():
        figure.add_scatter(
            x=numbers([value]),
            y=[name_text(name)],
            mode="markers",
            marker={
                "color": strategy_style(name).color,
                "size": 10,
                "symbol": "circle-open" if name.endswith(OVERLAY) else "circle",
                "line": {"width": 2, "color": strategy_style(name).color},
            },
            error_x={
                "type": "data",
                "symmetric": False,
                "array": numbers([high[name] - value]),
                "arrayminus": numbers([value - low[name]]),
                "color": strategy_style(name).color,
                "thickness": 2,
                "width": 5,
            },
            hovertemplate=f"%{{x:{shape}}} ({_shown(low[name], shape)} to "
            f"{_shown(high[name], shape)})<extra></extra>",
            showlegend=False,
        )
    figure.update_layout(**layout(96 + 34 * len(estimate), "closest"))
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    figure.update_xaxes(tickformat="~%" if percent else None, zeroline=True)
    return figure


def driver_bars(
    factors: Sequence[str], drop: Array, low: Array, high: Array, *, name: str
) -> go.Figure:
    """Rank IC lost with each factor shuffled, as bars with intervals (NaN: none), first on top."""
    color = strategy_style(name).color
    ticks = [name_text(factor) for factor in factors]
    figure = go.Figure(
        go.Bar(
            x=numbers(drop),
            y=ticks,
            orientation="h",
            marker={"color": color, "opacity": 0.75},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": numbers(high - drop),
                "arrayminus": numbers(drop - low),
                "color": INK_MID,
                "thickness": 1.2,
                "width": 3,
            },
            customdata=list(zip(numbers(low), numbers(high), strict=True)),
            hovertemplate="%{y}: %{x:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f})"
            "<extra></extra>",
            showlegend=False,
        )
    )
    figure.update_layout(**layout(96 + 24 * len(ticks), "closest"))
    figure.update_yaxes(
        autorange="reversed", showgrid=False, ticks="", type="category",
        tickmode="array", tickvals=ticks, tickfont={"size": 11},
    )  # fmt: skip
    figure.update_xaxes(title_text="Rank IC lost when shuffled", zeroline=True)
    return figure


def weights_area(
    dates: Dates, weights: Array, cash: Array, names: Sequence[str], *, top: int = 9
) -> go.Figure:
    """Shares of wealth stacked over time: the `top` largest stocks on average, the rest, and cash.

    `weights` of shape (n_dates, n_assets) and `cash` are fractions of wealth. What is negative
    (shorts, borrowed cash) is stacked downwards from zero.
    """
    x = date_text(dates)
    order = np.argsort(-np.abs(weights).mean(axis=0), kind="stable")
    first = order[: min(top, len(HOLDINGS))]
    layers = [
        (name_text(names[i], LONGEST_TICKER), weights[:, i], HOLDINGS[k])
        for k, i in enumerate(first)
    ]
    if len(order) > len(first):
        others = weights[:, order[len(first) :]].sum(axis=1)
        layers.append((f"{len(order) - len(first)} others", others, REST))
    if np.max(np.abs(cash)) > 1e-4:
        layers.append(("cash", cash, CASH))
    stacked = [
        (name, np.where(np.abs(part) < 1e-6, 0.0, part), color, group)
        for group, side in (("one", np.maximum), ("below", np.minimum))
        for name, values, color in layers
        if (part := side(values, 0.0)).min() < -1e-6 or group == "one"
    ]
    ends = [
        np.sum([part for _, part, _, own in stacked if own == group], axis=0)
        for group in ("one", "below")
    ]
    figure = go.Figure(
        [
            go.Scatter(
                x=x, y=numbers(part, digits=4), name=name, mode="lines", stackgroup=group,
                line={"width": 0, "color": color}, fillcolor=color, hovertemplate="%{y:.1%}",
                legendgroup=name, showlegend=group == "one",
            )
            for name, part, color, group in stacked
        ]
    )  # fmt: skip
    low = float(np.min(ends[1], initial=0.0))
    high = float(np.max(ends[0], initial=1.0)) if low < 0.0 else 1.0
    figure.update_layout(**layout(400))
    figure.update_xaxes(type="date", range=[x[0], x[-1]])
    figure.update_yaxes(title_text="share of wealth", tickformat=".0%", range=[low, high])
    return figure


def training_curves(
    history: Sequence[Mapping[str, Any]],
    value: str = "validation_rank_ic",
    title: str = "Rank IC on the validation block",
) -> go.Figure:
    """A measure over gradient steps, one line per fold and seed of `history`."""
    runs: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for entry in history:
        key = (int(entry["fold"]), int(entry["seed"]))
        runs.setdefault(key, []).append((entry["step"], entry[value]))
    folds = sorted({fold for fold, _ in runs})
    figure = go.Figure()
    seen: set[int] = set()
    for (fold, seed), points in sorted(runs.items()):
        steps, values = zip(*sorted(points), strict=True)
        color = ramp(folds.index(fold), len(folds))
        figure.add_scatter(
            x=numbers(steps),
            y=numbers(values),
            mode="lines" if len(steps) > 1 else "markers",
            name=f"fold {fold + 1}",
            legendgroup=f"fold {fold}",
            showlegend=fold not in seen,
            line={"color": color, "width": 1.3},
            marker={"color": color},
            hovertemplate=f"fold {fold + 1}, seed {seed}, step %{{x}}: %{{y:.3f}}<extra></extra>",
        )
        seen.add(fold)
    figure.update_layout(**layout(380, "closest"))
    figure.update_xaxes(title_text="gradient steps")
    figure.update_yaxes(title_text=title, zeroline=True)
    return figure


def _shown(value: float, shape: str) -> str:
    return format(value, shape) if np.isfinite(value) else "unknown"


def _log_ticks(series: Mapping[str, Array]) -> list[float]:
    """Ticks 1, 2, 5 of each decade that the values touch, and finer ones where they touch one."""
    every = np.concatenate([np.asarray(v, dtype=np.float64) for v in series.values()])
    every = every[np.isfinite(every) & (every > 0)]
    if not every.size:
        return [1.0]
    if (ratio := every.max() / every.min()) < 2.0:
        width = (0.05 if ratio < 1.4 else 0.1) * 10.0 ** np.round(np.log10(every.max()))
        first, last = int(np.ceil(every.min() / width)), int(np.floor(every.max() / width))
        return [float(f"{k * width:.6g}") for k in range(first, last + 1)] or [1.0]
    low, high = np.floor(np.log10(every.min())), np.ceil(np.log10(every.max()))
    decades = 10.0 ** np.arange(low, high + 1)
    steps = (1, 1.5, 2, 3, 5, 7) if ratio < 10 else (1, 2, 5)
    return [float(f"{d * s:.6g}") for d in decades for s in steps]


def month_heatmap(dates: Dates, returns: Array) -> go.Figure:
    """Compounded return of every month (from simple daily returns), one row per year."""
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
    """Which factors were kept in each fold, coloured by Rank IC on its training data.

    `strength` and `kept` have shape (n_factors, n_folds); a cell that is not kept shows a dot.
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
    """Lines with markers over the values of an assumption: (x, y) by strategy.

    `ticks` are texts of the assumption's values, on a logarithmic axis; `spread` has the (low,
    high) ends of intervals.
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


def step_chart(
    steps: Sequence[str],
    series: Mapping[str, Array],
    *,
    percent: bool = False,
    hidden: Collection[str] = (),
) -> go.Figure:
    """A measure after each step, one line per model; a NaN is a step that a model does not have."""
    figure = go.Figure()
    ticks = [name_text(step).replace("equal ", "equal<br>") for step in steps]
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
