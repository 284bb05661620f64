"""What the terminal shows of an audit and of a check of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from alphakeel.audit import Audit

__all__ = ["print_audit", "print_check"]


def print_audit(audit: Audit) -> None:
    """Every finding with its verdict and evidence, and their number."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)  # a file or a pipe has no width of its own
    shown = Table("Test", "Verdict", "Evidence", box=SIMPLE_HEAD, pad_edge=False)
    colours = {"ok": "green", "warning": "yellow", "leak": "bold red"}
    for finding in audit.findings:
        verdict = f"[{colours[finding.verdict]}]{finding.verdict}[/]"
        shown.add_row(finding.test, verdict, escape(finding.evidence))
    console.print(shown)
    leaks = len(audit.leaks())
    told = "no leak" if not leaks else "1 leak" if leaks == 1 else f"{leaks} leaks"
    warned = sum(finding.verdict == "warning" for finding in audit.findings)
    console.print(
        f"{escape(audit.name)}: {told}, {warned} warning{'' if warned == 1 else 's'}, "
        f"{len(audit.findings)} findings in {audit.seconds:.0f} s."
    )


def print_check(report: Any) -> None:
    """How the data are understood, and what is wrong with them."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console: Console = Console()
    console.print(f"[bold]{escape(str(report.path))}[/] read as: {escape(report.layout)}")
    if report.n_assets:
        console.print(
            f"{report.n_assets} tickers, {report.n_dates} dates, "
            f"{report.first_date} to {report.last_date}"
        )
    if report.columns:
        shown = Table("Column in the file", "Understood as")
        for column, meaning in report.columns:
            shown.add_row(escape(str(column)), escape(str(meaning)))
        console.print(shown)
    for note in report.notes:
        console.print(f"Note: {escape(note)}")
    if not report.problems:
        console.print("[green]No problems found: a study can run on it.[/]")
        return
    shown = Table("Ticker", "Date", "Field", "What is wrong")
    for problem in report.problems[:50]:
        cells = (problem.ticker, problem.date, problem.field, problem.message)
        shown.add_row(*(escape(str(cell or "")) for cell in cells))
    console.print(shown)
    hidden = len(report.problems) - 50
    if hidden > 0:
        console.print(f"... and {hidden} more; --json prints them all.")
    typer.echo(f"alphakeel: {len(report.problems)} problems found.", err=True)
