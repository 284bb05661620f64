"""A line chart as a small SVG file, for pages of the documentation that a benchmark draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 62, 150, 22, 46
COLOURS = ("#1f5fa8", "#c2571a", "#4a7c3a", "#7a4ea3")


def write_chart(
    path: Path,
    x: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    *,
    x_title: str,
    y_title: str,
    limit: str,
) -> None:
    """Draw lines over `x`, with the diagonal on which a value would stand exactly at its limit."""
    top = 1.08 * max(max(x), *(max(values) for values in lines.values()))

    def at(a: float, b: float) -> str:
        across = LEFT + a / top * (WIDTH - LEFT - RIGHT)
        return f"{across:.1f},{HEIGHT - BOTTOM - b / top * (HEIGHT - TOP - BOTTOM):.1f}"

    def label(a: float, b: float, text: str, **more: str) -> str:
        across, down = at(a, b).split(",")
        rest = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
        return f'<text x="{across}" y="{down}"{rest}>{escape(text)}</text>'

    ticks = [k * 0.04 for k in range(int(top / 0.04) + 1)]
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            'font-family="sans-serif" font-size="12" fill="#444">'
        ),
        f"<title>{escape(y_title)} against {escape(x_title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for tick in ticks:
        parts.append(f'<polyline points="{at(0, tick)} {at(top, tick)}" stroke="#e4e4e4"/>')
        parts.append(label(0, tick, f"{tick:.0%}", text_anchor="end", dx="-8", dy="4"))
        parts.append(label(tick, 0, f"{tick:.0%}", text_anchor="middle", dy="18"))
    parts.append(
        f'<polyline points="{at(0, 0)} {at(top, top)}" stroke="#888" stroke-dasharray="4 4"/>'
    )
    parts.append(label(top, top, limit, dx="6", dy="4"))
    order = sorted(range(len(x)), key=lambda k: x[k])
    for colour, (name, values) in zip(COLOURS, lines.items(), strict=False):
        points = [at(x[k], values[k]) for k in order]
        parts.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" '
            'stroke-width="2"/>'
        )
        parts += [
            f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="3.5" fill="{colour}"/>'
            for p in points
        ]
        parts.append(label(x[order[-1]], values[order[-1]], name, fill=colour, dx="8", dy="4"))
    parts.append(label(top / 2, 0, x_title, text_anchor="middle", dy="38"))
    parts.append(label(0, top, y_title, dx="-54", dy="-8"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>\n"]), encoding="utf-8")
