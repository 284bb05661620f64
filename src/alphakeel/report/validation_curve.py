"""The paper's Figure 2, a validation curve of how far a model is optimised, as one HTML page."""

from __future__ import annotations

import html
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from alphakeel.errors import DataError
from alphakeel.files import write_atomically
from alphakeel.report.page import figures_json, plotly_script
from alphakeel.report.style import BLUE, GREY, VERMILION, faint, layout, name_text, numbers
from alphakeel.selection.validation_curve_fits import AXES, ValidationCurve

__all__ = ["curve_figure", "render_curve", "write_curve_page"]

SHOWN = {"rank_ic": "Rank IC", "sharpe": "Sharpe ratio", "annual_return": "annual return"}
COLORS = {"validation": BLUE, "out of sample": VERMILION}
DASHES = {"validation": "dash", "out of sample": "solid"}


def curve_figure(study: ValidationCurve, axis: str) -> go.Figure:
    """Rank IC, Sharpe ratio and annual return against one of `AXES`, with bands over seeds.

    One panel per metric; the vertical line is where returns diminish in validation.
    """
    figure = make_subplots(rows=1, cols=len(SHOWN), horizontal_spacing=0.09)
    own = study.table[study.table["axis"] == axis]
    for column, (metric, title) in enumerate(SHOWN.items(), start=1):
        percent = metric == "annual_return"
        for period, color in COLORS.items():
            curve = own[own["period"] == period].sort_values("degree")
            x = [int(degree) for degree in curve["degree"]]
            low, high = numbers(curve[f"{metric}_low"]), numbers(curve[f"{metric}_high"])
            figure.add_scatter(
                x=x + x[::-1], y=high + low[::-1], fill="toself", line={"width": 0},
                fillcolor=faint(color, 0.16), hoverinfo="skip", showlegend=False, mode="lines",
                row=1, col=column,
            )  # fmt: skip
            figure.add_scatter(
                x=x,
                y=numbers(curve[metric]),
                name=period,
                legendgroup=period,
                showlegend=column == 1,
                mode="lines+markers",
                line={"color": color, "dash": DASHES[period], "width": 2.0},
                hovertemplate="%{x}: %{y:.1%}" if percent else "%{x}: %{y:.3f}",
                row=1,
                col=column,
            )
        here = study.points[(study.points["axis"] == axis) & (study.points["metric"] == metric)]
        figure.add_vline(
            x=int(here["diminishing"].iloc[0]),
            line={"color": GREY, "dash": "dot", "width": 1.4},
            row=1,
            col=column,
        )
        ticks = sorted({int(degree) for degree in own["degree"]})
        figure.update_xaxes(
            type="log", tickvals=ticks, ticktext=[str(t) for t in ticks], title_text=AXES[axis],
            row=1, col=column,
        )  # fmt: skip
        figure.update_yaxes(
            title_text=title, tickformat="~%" if percent else None, row=1, col=column
        )
    frame = layout(340, "closest")
    axes = {key: frame.pop(key) for key in ("xaxis", "yaxis")}
    figure.update_layout(**frame)
    figure.update_xaxes(**{k: v for k, v in axes["xaxis"].items() if k != "title"})
    figure.update_yaxes(**{k: v for k, v in axes["yaxis"].items() if k != "title"})
    return figure


def render_curve(study: ValidationCurve) -> str:
    """Text of the page; the same study gives the same text."""
    figures = {axis: curve_figure(study, axis) for axis in AXES}
    sections = "\n".join(_section(study, axis) for axis in AXES)
    return _PAGE.format(
        title=f"{html.escape(study.label)} on {name_text(study.name)}: the degree of optimisation",
        lead=_lead(study),
        sections=sections,
        figures=figures_json(figures),
        plotly=plotly_script(),
    )


def write_curve_page(study: ValidationCurve, path: str | Path) -> Path:
    """Write the page as one HTML file that needs no network; DataError if it cannot be written."""
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        text = render_curve(study).encode("utf-8", "xmlcharrefreplace")
        write_atomically(target, text, durable=False)
    except OSError as error:
        raise DataError(f"cannot write the page to {target}: {error.strerror}.") from error
    return target.resolve()


def _lead(study: ValidationCurve) -> str:
    return (
        f"Validation {study.validated[0]} to {study.validated[1]}; out of sample "
        f"{study.tested[0]} to {study.tested[1]}, net of costs, for evaluation only: nothing is "
        f"selected by it. Lines are means over single networks of {study.plan.n_seeds} seeds, and "
        "bands their range; for trials, the mean and the central 90 % over random orders of the "
        "best of the first k. The dotted line is the first degree beyond which the next one gains "
        "no more in validation than the standard error over seeds."
    )


def _section(study: ValidationCurve, axis: str) -> str:
    deflation = study.deflation[axis]
    points = study.points[study.points["axis"] == axis].set_index("metric")["diminishing"]
    first = (
        f"Returns diminish at {points['rank_ic']} {AXES[axis]} by Rank IC, at {points['sharpe']} "
        "by Sharpe ratio."
    )
    facts = [first, *deflation.describe()]
    items = "".join(f"<li>{html.escape(fact)}</li>" for fact in facts)
    title = f"More {AXES[axis]}"
    return (
        f'<section><h2>{title}</h2><div class="chart" id="{axis}" role="img" '
        f'aria-label="{title}: {html.escape(facts[0])}"></div><ul>{items}</ul></section>'
    )


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline';
 script-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
 color: #23272e; background: #fff }}
h1 {{ font-size: 1.5rem }} h2 {{ font-size: 1.15rem; margin-top: 2rem }}
.chart {{ min-height: 340px }} li {{ margin: .2rem 0 }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{lead}</p>
{sections}
<script>{plotly}</script>
<script id="data" type="application/json">{figures}</script>
<script>
const data = JSON.parse(document.getElementById("data").textContent);
const full = value => Array.isArray(value) ? value.map(full)
  : value && typeof value === "object"
  ? ("$" in value ? data.arrays[value.$]
    : Object.fromEntries(Object.entries(value).map(([k, v]) => [k, full(v)])))
  : value;
for (const [key, figure] of Object.entries(data.figures)) {{
  const drawn = full(figure);
  Plotly.newPlot(key, drawn.data, drawn.layout, {{responsive: true, displayModeBar: false}});
}}
</script>
</body>
</html>
"""
