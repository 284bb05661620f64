"""What the terminal shows of a study: its tables, its verdict, and where to find the rest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from alphakeel.results import Study
    from alphakeel.tuning import Seen

__all__ = ["print_study"]


def print_study(study: Study, folder: Path, report: Path, seen: Seen | None = None) -> None:
    """Tables, the verdict in words, and where to find the rest."""
    from rich.console import Console
    from rich.markup import escape

    from alphakeel.report.page import hero_of
    from alphakeel.report.verdict import bottom_line, findings, scope

    console = Console()
    if not console.is_terminal:
        console = Console(width=100)  # a file or a pipe has no width of its own
    tables = study.tables()
    level, hero = study.config.report.level, hero_of(study)
    console.print(f"\n{escape(scope(study))}\n", highlight=False)
    console.print(_performance(tables["table_1"], level, wide=console.width >= 100))
    console.print(_ladder(tables["ladder"]))
    console.print(_forecasts(tables["ic"], level))
    console.print(f"[bold]{escape(bottom_line(tables, hero))}[/]", highlight=False)
    signs = {"better": "[green]+[/]", "worse": "[red]-[/]", "unclear": "[dim]=[/]"}
    for found in findings(study, tables, hero, seen):
        console.print(f" {signs[found.tone]} {escape(found.claim)}", highlight=False)
    for note in study.notes:
        console.print(f"[dim]Note: {escape(note)}[/]")
    console.print(f"\nReport  {escape(str(report))}", soft_wrap=True)
    console.print(f"Open    {escape(report.resolve().as_uri())}", soft_wrap=True)
    console.print(f"Numbers {escape(str(folder))}", soft_wrap=True)


def _performance(table: Any, level: float, *, wide: bool) -> Table:
    """Table I for the terminal, intervals in brackets; a narrow one leaves the sides out."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from alphakeel.roster import under_overlay

    shown = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=f"Table I: out of sample, net of costs ({level:.0%} intervals)",
    )
    shown.add_column("Strategy", no_wrap=True, min_width=16)
    titles = ["Return", "Sharpe", "Max drawdown", "VaR 95 %"]
    if wide:
        titles = ["Return", "Volat.", *titles[1:]]
    for title in titles:
        shown.add_column(title, justify="right", no_wrap=True)
    below = False
    for name, row in table.iterrows():
        if str(name).endswith(under_overlay("")) and not below:
            shown.add_section()
            below = True
        cells = [
            f"{row.annual_return:.1%}",
            f"{row.sharpe:.2f} {_interval(row, 'sharpe', 1, 2)}",
            f"{row.max_drawdown:.0%} {_interval(row, 'max_drawdown', 100, 0)}",
            f"{row.var_95:.1%} {_interval(row, 'var_95', 100, 1)}",
        ]
        if wide:
            cells.insert(1, f"{row.annual_volatility:.1%}")
        shown.add_row(str(name), *cells)
    return shown


def _ladder(table: Any) -> Table:
    """Sharpe ratio and drawdown of every model, rung by rung."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    shown = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        title="Where it comes from: Sharpe ratio (max drawdown)",
    )
    rungs = list(dict.fromkeys(table.index.get_level_values("rung")))
    shown.add_column("Model", no_wrap=True)
    for rung in rungs:
        shown.add_column(str(rung), justify="right", no_wrap=True)
    for model, steps in table.groupby(level="model", sort=False):
        own = steps.droplevel("model")
        cells = [
            f"{own.loc[rung, 'sharpe']:.2f} ({own.loc[rung, 'max_drawdown']:.0%})"
            if rung in own.index
            else ""
            for rung in rungs
        ]
        shown.add_row(str(model), *cells)
    return shown


def _interval(row: Any, name: str, scale: float, digits: int) -> str:
    low, high = scale * row[f"{name}_low"], scale * row[f"{name}_high"]
    return f"[{low:.{digits}f}, {high:.{digits}f}]"


def _forecasts(table: Any, level: float) -> Table:
    """Rank IC of the scores, by model and horizon."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    shown = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        title=f"Scores: correlation with what came after ({level:.0%} intervals)",
    )
    for title in ("Model", "Horizon"):
        shown.add_column(title)
    for title in ("IC", "Rank IC", "t", "> 0"):
        shown.add_column(title, justify="right", no_wrap=True)
    for (model, horizon), row in table.iterrows():
        shown.add_row(
            str(model),
            f"{horizon} days",
            f"{row.ic:+.3f}",
            f"{row.rank_ic:+.3f} [{row.rank_ic_low:+.3f}, {row.rank_ic_high:+.3f}]",
            f"{row.nw_t:.1f}",
            f"{row.hit_rate:.0%}",
        )
    return shown
