"""Colours, type and axes: how every figure of the report looks. No other module sets a colour."""

from __future__ import annotations

import html
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alphakeel.model_factory import under_overlay

__all__ = [
    "Style",
    "date_text",
    "faint",
    "layout",
    "name_text",
    "numbers",
    "ramp",
    "strategy_style",
    "swatch",
]


@dataclass(frozen=True)
class Style:
    """How one strategy is drawn everywhere: colour, dash (for grey printing) and width."""

    color: str
    dash: str = "solid"
    width: float = 1.6


# After Okabe and Ito, moved to a lightness with a contrast above 3.7 on white and on near-black.
BLUE, VERMILION, GREEN, GREY = "#1f7fc4", "#d9560b", "#0b9470", "#7d848e"
PURPLE, OCHRE = "#b8609a", "#b07a00"
KNOWN = {
    "LSTM": Style(VERMILION, width=2.4),
    "Linear": Style(BLUE, width=1.9),
    "Minimum variance": Style(GREEN, "dash"),
    "Equal weight": Style(PURPLE, "dot", 1.9),
    "Market index": Style(GREY, "dot"),
    # The other models: where hues are close, dashes differ.
    "GRU": Style("#b3559f", "longdash"),
    "LSTM + attention": Style("#5b6bd6", "dash"),
    "CNN-LSTM": Style(OCHRE, "dashdot"),
    "MLP": Style("#338e9c", "dashdot"),
    "LightGBM": Style("#6f8f1f", "longdashdot"),
    "SVR": Style("#8a6d4b", "longdashdot"),
}
# With the overlay a strategy keeps its hue and changes its dash.
OVERLAY = under_overlay("")
OVERLAID_DASH = {"solid": "dash", "dash": "dot", "dot": "dashdot"}
OTHERS = (OCHRE, "#5b6bd6", "#8a6d4b", "#3d9aa8", "#a3478f", "#6f8f1f")
DASHES = ("solid", "dash", "dashdot")
# Tol's muted scheme: nine hues that are distinct for the colour-blind, for holdings.
HOLDINGS = (
    "#4477aa", "#ddcc77", "#117733", "#cc6677", "#88ccee", "#aa4499", "#44aa99", "#999933",
    "#882255",
)  # fmt: skip
REST, CASH = "#a9adb5", "rgba(128,128,128,0.18)"
# Cividis-like ends through a neutral middle: order survives in grey and for the colour-blind.
DIVERGING = {
    "light": [[0.0, "#b4480a"], [0.25, "#e3a57a"], [0.5, "#f1f1ee"], [0.75, "#86b8dc"],
              [1.0, "#1766a6"]],
    "dark": [[0.0, "#f0915a"], [0.25, "#96532c"], [0.5, "#2a3038"], [0.75, "#2f6a99"],
             [1.0, "#6cb2ea"]],
}  # fmt: skip
SEQUENTIAL = [(31, 58, 117), (31, 127, 196), (11, 148, 112), (176, 160, 0)]
INK_MID = "#6b5bb5"  # the value-at-risk line: readable on white and on black, no strategy's colour
# The binding rule of the overlay; grey is none.
RULES = {
    "leverage": REST,
    "volatility": BLUE,
    "var": OCHRE,
    "throttle": PURPLE,
    "brake": VERMILION,
}
# Regimes as tints behind lines, on white and on black.
TINTS = {"bear": "rgba(200,80,20,0.17)", "range-bound": "rgba(128,136,148,0.17)"}
TARGET = "#7d848e"
GRID = "rgba(128,128,128,0.22)"
INK = "#3a4048"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
LONGEST_NAME, LONGEST_TICKER = 28, 14


def strategy_style(name: str) -> Style:
    """Style of a strategy, the same in every figure and report, whatever else is drawn.

    Examples
    --------
    >>> strategy_style("Linear").color, strategy_style("Mine") == strategy_style("Mine")
    ('#1f7fc4', True)
    >>> strategy_style("Linear + overlay").color, strategy_style("Linear + overlay").dash
    ('#1f7fc4', 'dash')
    """
    if name in KNOWN:
        return KNOWN[name]
    if name.endswith(OVERLAY):
        plain = strategy_style(name.removesuffix(OVERLAY))
        return Style(plain.color, OVERLAID_DASH.get(plain.dash, "dot"), plain.width)
    digest = zlib.crc32(name.encode("utf-8", "replace"))
    return Style(OTHERS[digest % len(OTHERS)], DASHES[digest // 97 % len(DASHES)])


def swatch(name: str) -> str:
    """CSS of the dot beside a strategy's name: a ring with the overlay.

    Examples
    --------
    >>> swatch("Linear"), swatch("Linear + overlay")
    ('background:#1f7fc4', 'box-shadow:inset 0 0 0 .14em #1f7fc4')
    """
    color = strategy_style(name).color
    ring = name.endswith(OVERLAY)
    return f"box-shadow:inset 0 0 0 .14em {color}" if ring else f"background:{color}"


def faint(color: str, opacity: float) -> str:
    """A colour ``#rrggbb`` at the given opacity."""
    red, green, blue = (int(color[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def layout(height: int, hovermode: str = "x unified") -> dict[str, Any]:
    """Frame, axes, type and legend shared by all figures."""
    axis = {"gridcolor": GRID, "zerolinecolor": "rgba(128,128,128,0.55)", "zeroline": False,
            "linecolor": GRID, "automargin": True,
            "title": {"standoff": 8, "font": {"size": 12}}}  # fmt: skip
    return {
        "template": "none",
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 12, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12.5, "color": INK},
        "hovermode": hovermode,
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.01,
            "yanchor": "bottom",
            "itemwidth": 30,
            "traceorder": "normal",
        },
        "xaxis": dict(axis),
        "yaxis": dict(axis),
    }


def name_text(name: str, longest: int = LONGEST_NAME) -> str:
    """A name from the data, harmless inside plotly's markup and short enough for a legend."""
    plain = " ".join(str(name).split())
    short = plain if len(plain) <= longest else plain[: longest - 1] + "…"
    return html.escape(short).replace("%{", "%&#123;")


def date_text(dates: npt.NDArray[np.datetime64]) -> list[str]:
    """Dates as plotly reads them."""
    return [str(day) for day in dates.astype("datetime64[D]")]


def numbers(values: Any, digits: int = 6) -> list[float | None]:
    """As many significant digits as a screen shows; None for NaN and infinity."""
    array = np.asarray(values, dtype=np.float64)
    return [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in array]


def ramp(position: int, count: int) -> str:
    """A colour along the sequential scale, from the first fold to the last."""
    place = position / max(count - 1, 1) * (len(SEQUENTIAL) - 1)
    left = min(int(place), len(SEQUENTIAL) - 2)
    share = place - left
    mix = [round(a + (b - a) * share) for a, b in zip(*SEQUENTIAL[left : left + 2], strict=True)]
    return f"rgb({mix[0]},{mix[1]},{mix[2]})"
