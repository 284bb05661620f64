"""Small pages without scripts: the decision of a day, runs side by side, a check of data.

Curves are SVG inside the page, so that it is a few kilobytes and opens anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from alphakeel.data.loading import DataReport
    from alphakeel.live.decision import DailyDecision
    from alphakeel.live.monitor import Monitor

__all__ = ["check_page", "compare_page", "daily_page"]

Floats = npt.NDArray[np.float64]

COLOURS = ("#1b6ca8", "#c44e21", "#2f8f4e", "#7a4fa3", "#8a6d1d", "#b0306a", "#3b8f98", "#555555")
WIDTH, HEIGHT, MARGIN = 860, 300, 46
POINTS = 800  # of a curve: more cannot be seen
ROWS = 200  # of one kind of finding: the table of all is the CSV
SEVERITIES = {
    "error": "Errors: wrong in all likelihood",
    "warning": "Warnings: look at them",
    "note": "Notes: good to know",
}
STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.5rem 0}
th,td{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid #8884;vertical-align:top}
td.n,th.n{text-align:right}.scroll{overflow-x:auto}.lead{font-size:1.1rem}
.bad{color:#c02020;font-weight:600}svg{width:100%;height:auto}small{color:#777}
"""


def daily_page(decision: DailyDecision, monitor: Monitor | None, trouble: str = "") -> str:
    """One page that opens with the decision of the day, then whether it still works.

    Parameters
    ----------
    decision : DailyDecision
    monitor : Monitor or None
        None where there is nothing to monitor yet; `trouble` says why.
    trouble : str
    """
    invested = float(decision.targets["weight"].sum()) if len(decision.targets) else 0.0
    word = "New decision" if decision.new else f"In force since {decision.decided}"
    risk = decision.risk
    holding = (
        f"{len(decision.targets)} stocks, {invested:.1%} of wealth, {1.0 - invested:.1%} cash. "
        f"{decision.reason}"
    )
    expected = (
        f"Volatility {risk['volatility']:.1%} a year; one-day VaR 95 % {risk['var_95']:.2%}"
        + (
            f"; drawdown of the next year under {risk['drawdown_95']:.0%} in 19 of 20."
            if np.isfinite(risk["drawdown_95"])
            else "."
        )
    )
    parts = [
        f"<h1>{escape(decision.strategy)}, after the close of {decision.day}</h1>",
        f'<p class="lead">{word}: {escape(holding)}</p>',
        *(f'<p class="bad">{escape(text)}</p>' for text in decision.warnings),
        f"<p>{escape(decision.hedge_text)}</p>" if decision.hedge else "",
        _orders(decision),
        "<h2>Target weights</h2>",
        _table(_shown_targets(decision)),
        "<h2>Expected risk</h2>",
        f"<p>{expected}</p>",
        _table(_per_cent(decision.limits, ("allowed", "before", "after"))),
    ]
    if monitor is None:
        parts += ["<h2>Does it still work?</h2>", f"<p>{escape(trouble)}</p>"]
    else:
        parts += _monitored(monitor)
    parts.append(f"<p><small>Run {escape(decision.run)}. No order was sent to anybody.</small></p>")
    return _page(f"{decision.strategy}, {decision.day}", parts)


def check_page(report: DataReport) -> str:
    """One page of a check of data: what is unusable, then what is doubtful by severity.

    Text of the data is escaped. Of a kind with many findings the first 200 are shown.
    """
    axes = (
        f"{report.n_assets:,} tickers, {report.n_dates:,} dates, {report.first_date} to "
        f"{report.last_date}, read as: {report.layout}."
    )
    counted = {name: sum(f.severity == name for f in report.findings) for name in SEVERITIES}
    told = ", ".join(f"{n:,} {name}{'' if n == 1 else 's'}" for name, n in counted.items())
    parts = [f"<h1>Check of {escape(report.path)}</h1>", f'<p class="lead">{escape(axes)}</p>']
    if report.problems:
        rows = [(p.ticker, p.date, p.field, p.message) for p in report.problems]
        parts += [
            f'<p class="bad">Unusable as it is: {len(rows):,} problems.</p>',
            _table(pd.DataFrame(rows[:ROWS], columns=["ticker", "date", "field", "what is wrong"])),
            _more(len(rows)),
        ]
    else:
        parts.append(f"<p>Usable. Doubtful: {told}.</p>")
    for severity, title in SEVERITIES.items():
        if counted[severity]:
            parts += [f"<h2>{escape(title)}</h2>", *_of_severity(report, severity)]
    columns = pd.DataFrame(report.columns, columns=["column of the source", "understood as"])
    notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
    parts += ["<h2>How it was read</h2>", _table(columns), f"<ul>{notes}</ul>"]
    return _page(f"alphakeel check: {report.path}", parts)


def _of_severity(report: DataReport, severity: str) -> list[str]:
    """A table for each kind of one severity, folded where it is long."""
    kinds: dict[str, list[tuple[str, str, str]]] = {}
    for finding in report.findings:
        if finding.severity == severity:
            row = (finding.ticker, finding.date, finding.message)
            kinds.setdefault(finding.kind, []).append(row)
    parts = []
    for kind, rows in kinds.items():
        opened = " open" if len(rows) <= 10 else ""
        table = _table(pd.DataFrame(rows[:ROWS], columns=["ticker", "date", "finding"]))
        head = f"<summary>{escape(kind)}: {len(rows):,}</summary>"
        parts.append(f"<details{opened}>{head}{table}{_more(len(rows))}</details>")
    return parts


def _more(n_rows: int) -> str:
    return f"<p>and {n_rows - ROWS:,} more: --csv writes them all</p>" if n_rows > ROWS else ""


def _orders(decision: DailyDecision) -> str:
    if decision.orders is None:
        return ""
    account = decision.account
    return (
        "<h2>Orders</h2>"
        + _table(decision.orders.drop(columns=["cost"]))
        + f"<p>Account {account['wealth']:,.2f}; cash {account['cash']:,.2f} before and "
        f"{account['cash_after']:,.2f} after; orders cost about {account['cost']:,.2f}.</p>"
    )


def _shown_targets(decision: DailyDecision) -> pd.DataFrame:
    table = decision.targets
    shown = table[["ticker"]].assign(weight=[f"{value:.2%}" for value in table["weight"]])
    for side in ("for", "against"):
        columns = [f"{side}_{n + 1}" for n in range(3)]
        joined = table[columns].apply(lambda row: ", ".join(text for text in row if text), axis=1)
        shown[f"speaks {side} it"] = joined if len(table) else []
    return shown


def _monitored(monitor: Monitor) -> list[str]:
    """The verdict, what it rests on, the curve in its cone, and the factors that moved."""
    measures, drift = monitor.measures, monitor.drift
    answer = "Yes" if monitor.retrain[0] else "No"
    bad = ' class="bad"' if monitor.verdict.word == "does not agree" else ""
    parts = [
        "<h2>Does it still work?</h2>",
        f"<p{bad}>Verdict: {escape(monitor.verdict.sentence)}</p>",
        f"<p>Retrain now? {answer}: {escape(monitor.retrain[1])}</p>",
    ]
    if monitor.ledger is not None and len(monitor.days) > 1:
        wealth = monitor.ledger.wealth / monitor.ledger.wealth[0]
        curves = {
            "live": wealth,
            "low end of the backtest": monitor.cone[:, 0],
            "its median": monitor.cone[:, 1],
            "its high end": monitor.cone[:, 2],
        }
        parts.append(curves_svg(monitor.days, curves))
    if len(measures):
        parts.append(_table(measures))
    if len(drift):
        parts += ["<h2>Factors since the last fit</h2>", _table(drift.head(10))]
    parts += ["<h2>Journal</h2>", _table(monitor.decisions.tail(20)[::-1])]
    return parts


def compare_page(
    settings: pd.DataFrame, tables: Mapping[str, pd.DataFrame], curves: Mapping[str, pd.Series]
) -> str:
    """Runs side by side: the settings that differ, tables, and the curves of wealth.

    Parameters
    ----------
    settings : DataFrame
        setting, and one column a run.
    tables : mapping of str to DataFrame
        By title.
    curves : mapping of str to Series
        Wealth by day, by name.
    """
    parts = ["<h1>Runs compared</h1>", "<h2>Settings that differ</h2>", _table(settings)]
    if curves:
        days = np.unique(
            np.concatenate([s.index.to_numpy("datetime64[D]") for s in curves.values()])
        )
        index = pd.DatetimeIndex(days)
        aligned = {name: own.reindex(index).to_numpy() for name, own in curves.items()}
        parts += ["<h2>Wealth</h2>", curves_svg(days, aligned)]
    for title, table in tables.items():
        parts += [f"<h2>{escape(title)}</h2>", _table(table)]
    return _page("Runs compared", parts)


def curves_svg(days: npt.NDArray[np.datetime64], curves: Mapping[str, Floats]) -> str:
    """Curves over the same days as one SVG with a legend; NaN leaves a gap."""
    at = np.unique(np.linspace(0, len(days) - 1, min(len(days), POINTS)).astype(int))
    values = np.concatenate([np.asarray(own, dtype=np.float64)[at] for own in curves.values()])
    known = values[np.isfinite(values)]
    if not len(known) or len(at) < 2:
        return ""
    low, high = float(known.min()), float(known.max())
    high = high if high > low else low + 1.0
    x = MARGIN + (WIDTH - 2 * MARGIN) * (at / (len(days) - 1))
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 24 * len(curves)}" role="img">']
    for share in (0.0, 0.5, 1.0):
        y, value = _height(low + share * (high - low), low, high), low + share * (high - low)
        parts.append(
            f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y:.1f}" y2="{y:.1f}" stroke="#8885"/>'
            f'<text x="0" y="{y + 4:.1f}" font-size="12" fill="currentColor">{value:.3g}</text>'
        )
    for place, day in ((MARGIN, days[0]), (WIDTH - MARGIN - 60, days[-1])):
        parts.append(
            f'<text x="{place}" y="{HEIGHT - 8}" font-size="12" fill="currentColor">{day}</text>'
        )
    for k, (name, own) in enumerate(curves.items()):
        colour = COLOURS[k % len(COLOURS)]
        parts += [
            f'<polyline points="{piece}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
            for piece in _pieces(x, np.asarray(own, dtype=np.float64)[at], low, high)
        ]
        y = HEIGHT + 24 * k + 12
        parts.append(
            f'<rect x="{MARGIN}" y="{y - 9}" width="18" height="4" fill="{colour}"/>'
            f'<text x="{MARGIN + 26}" y="{y}" font-size="13" fill="currentColor">'
            f"{escape(name)}</text>"
        )
    return "".join([*parts, "</svg>"])


def _height(value: float, low: float, high: float) -> float:
    return HEIGHT - 30 - (HEIGHT - 50) * (value - low) / (high - low)


def _pieces(x: Floats, y: Floats, low: float, high: float) -> list[str]:
    """Points of a curve, cut where it has gaps."""
    pieces: list[list[str]] = [[]]
    for place, value in zip(x.tolist(), y.tolist(), strict=True):
        if np.isfinite(value):
            pieces[-1].append(f"{place:.1f},{_height(value, low, high):.1f}")
        elif pieces[-1]:
            pieces.append([])
    return [" ".join(piece) for piece in pieces if len(piece) > 1]


def _per_cent(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    shown = table.copy()
    for name in columns:
        shown[name] = [
            f"{value:.0f}" if limit == "stocks held" else f"{value:.2%}"
            for value, limit in zip(table[name], table["limit"], strict=True)
        ]
    return shown


def _table(frame: pd.DataFrame) -> str:
    """A frame as an HTML table, its text escaped."""
    if not len(frame):
        return "<p>none</p>"
    number = [frame[name].dtype.kind in "fi" for name in frame.columns]
    head = "".join(
        f"<th{' class=n' if n else ''}>{escape(str(name))}</th>"
        for name, n in zip(frame.columns, number, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=n' if n else ''}>{escape(_text(value))}</td>"
            for value, n in zip(row, number, strict=True)
        )
        + "</tr>"
        for row in frame.itertuples(index=False, name=None)
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def _text(value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "" if value != value else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return str(value)


def _page(title: str, parts: Sequence[str]) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        + "\n".join(part for part in parts if part)
        + "</body></html>\n"
    )
