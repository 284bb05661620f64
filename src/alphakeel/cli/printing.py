"""What the terminal shows of a study, of an audit and of a check of the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

__all__ = [
    "doubtful_table",
    "next_steps",
    "print_audit",
    "print_check",
    "print_study",
]

NARROW = 72  # columns, below which a table would be cut
MOST_UNKNOWN = 30  # columns that are not used, by name

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from alphakeel.audit import Audit
    from alphakeel.data.quality import QualityFinding
    from alphakeel.results import Study
    from alphakeel.selection.trial_log import TestSetUse


def print_study(study: Study, folder: Path, report: Path, use: TestSetUse | None = None) -> None:
    """Print the tables, the findings in words, and the paths of the rest."""
    from rich.console import Console
    from rich.markup import escape

    from alphakeel.report.findings import (
        cash_statements,
        compare_scores,
        conclusion,
        findings,
        scope,
        yardstick,
    )
    from alphakeel.report.sections import focus_of

    console = Console()
    if not console.is_terminal:
        console = Console(width=100)  # a file or a pipe has no width of its own
    tables = study.tables()
    level, focus = study.config.report.level, focus_of(study)
    for warning in study.warnings:
        console.print(f"\n[bold red]{escape(warning)}[/]", highlight=False)
    console.print(f"\n{escape(scope(study))}\n", highlight=False)
    if console.width < NARROW:
        lines = _performance_lines(tables["table_1"], level) + _active_lines(tables["active"])
        for line in lines:
            console.print(escape(line), highlight=False)
    else:
        console.print(_performance(tables["table_1"], level, wide=console.width >= 100))
        console.print(_active(tables["active"], tables["active_difference"], level))
        console.print(_attribution(tables["ladder"]))
        console.print(_forecasts(tables["ic"], level))
    console.print(f"[bold]{escape(conclusion(tables, focus))}[/]", highlight=False)
    signs = {"better": "[green]+[/]", "worse": "[red]-[/]", "unclear": "[dim]=[/]"}
    for finding in findings(study, tables, focus, use):
        console.print(f" {signs[finding.tone]} {escape(finding.claim)}", highlight=False)
    for statement in cash_statements(study, tables):
        console.print(f" [dim]=[/] {escape(statement)}", highlight=False)
    for note in study.notes[len(study.warnings) :]:
        console.print(f"[dim]Note: {escape(note)}[/]")
    console.print(f"\nReport  {escape(str(report))}", soft_wrap=True)
    console.print(f"Open    {escape(report.resolve().as_uri())}", soft_wrap=True)
    console.print(f"Numbers {escape(str(folder))}", soft_wrap=True)
    scores = compare_scores(tables["ic_differences"], focus, yardstick(tables["ic"]), level)
    if scores is not None:
        console.print(f"\n{escape(scores.claim)} {escape(scores.detail)}", highlight=False)
    reason = study.recommendation().reason
    console.print(f"\n{escape(reason[:1].upper() + reason[1:])}", highlight=False)
    for command, what in next_steps(folder):
        console.print(f"[bold]{escape(command)}[/]  {what}", soft_wrap=True, highlight=False)


def next_steps(folder: Path) -> tuple[tuple[str, str], ...]:
    """Commands that go on from a run, and what each says."""
    name = str(folder)
    return (
        (f"alphakeel today {name}", "what to hold tomorrow"),
        (f"alphakeel audit --config {folder / 'study.toml'}", "whether the study looks ahead"),
        (f"alphakeel monitor {name}", "later: whether reality agrees with the backtest"),
    )


def _performance(table: Any, level: float, *, wide: bool) -> Table:
    """Table I for the terminal, intervals in brackets; a narrow one omits the volatility."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from alphakeel.model_factory import under_overlay

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


def _performance_lines(table: Any, level: float) -> list[str]:
    """Table I for a narrow terminal: a strategy a paragraph, no cell cut."""
    lines = [f"Table I: out of sample, net of costs ({level:.0%} intervals)"]
    for name, row in table.iterrows():
        lines += [
            str(name),
            f"  Return {row.annual_return:.1%}, volatility {row.annual_volatility:.1%}",
            f"  Sharpe {row.sharpe:.2f} {_interval(row, 'sharpe', 1, 2)}",
            f"  Drawdown {row.max_drawdown:.0%} {_interval(row, 'max_drawdown', 100, 0)}",
            f"  VaR 95 % {row.var_95:.1%} {_interval(row, 'var_95', 100, 1)}",
        ]
    return lines


def _active(table: Any, differences: Any, level: float) -> Table:
    """Portfolios without the overlay over each benchmark, and models over the linear one."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    shown = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=f"Over the benchmark, a year ({level:.0%} intervals)",
    )
    shown.add_column("Strategy", no_wrap=True, min_width=16)
    for title in ("Active return", "Tracking error", "Inf. ratio", "p"):
        shown.add_column(title, justify="right", no_wrap=True)
    gaps = dict(_by_benchmark(differences))
    for benchmark, rows in _by_benchmark(table):
        shown.add_section()
        shown.add_row(f"[dim]over {benchmark}[/]")
        for name, row in rows.iterrows():
            shown.add_row(
                str(name),
                f"{row.active_return:+.1%} {_interval(row, 'active_return', 100, 1)}",
                f"{row.tracking_error:.1%} {_interval(row, 'tracking_error', 100, 1)}",
                f"{row.information_ratio:.2f} {_interval(row, 'information_ratio', 1, 2)}",
                f"{row.active_return_p:.2f}",
            )
        compared = gaps.get(benchmark)
        for name, row in () if compared is None else compared.iterrows():
            gap = f"{row.active_return_difference:+.1%}"
            shown.add_row(
                f"{name} less {row.baseline}",
                f"{gap} {_interval(row, 'active_return_difference', 100, 1)}",
                "",
                f"{row.information_ratio_difference:+.2f} "
                f"{_interval(row, 'information_ratio_difference', 1, 2)}",
                f"{row.active_return_difference_p:.2f}",
            )
    return shown


def _active_lines(table: Any) -> list[str]:
    """The same for a narrow terminal, a line a portfolio."""
    lines = []
    for benchmark, rows in _by_benchmark(table):
        lines.append(f"Over {benchmark}: active return, tracking error, information ratio")
        lines += [
            f"  {name}: {row.active_return:+.1%}, {row.tracking_error:.1%}, "
            f"{row.information_ratio:.2f} {_interval(row, 'information_ratio', 1, 2)}"
            for name, row in rows.iterrows()
        ]
    return lines


def _by_benchmark(table: Any) -> list[tuple[str, Any]]:
    """Rows without the overlay by benchmark."""
    from alphakeel.model_factory import under_overlay

    if not len(table):
        return []
    overlaid = table.index.get_level_values("strategy").str.endswith(under_overlay(""))
    plain = table[~overlaid].groupby(level="benchmark", sort=False)
    return [(str(name), rows.droplevel("benchmark")) for name, rows in plain]


def _attribution(table: Any) -> Table:
    """Sharpe ratio and drawdown of every model, step by step."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    shown = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        title="Attribution by step: Sharpe ratio (max drawdown)",
    )
    steps = list(dict.fromkeys(table.index.get_level_values("rung")))
    shown.add_column("Model", no_wrap=True)
    for step in steps:
        shown.add_column(str(step), justify="right", no_wrap=True)
    for model, rows in table.groupby(level="model", sort=False):
        own = rows.droplevel("model")
        cells = [
            f"{own.loc[step, 'sharpe']:.2f} ({own.loc[step, 'max_drawdown']:.0%})"
            if step in own.index
            else ""
            for step in steps
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
        title=f"Scores: correlation with later returns ({level:.0%} intervals)",
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


def print_audit(audit: Audit, notes: Sequence[str] = ()) -> None:
    """Print every finding with its verdict and evidence, their number, and notes on the data."""
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
    leak_text = "no leak" if not leaks else "1 leak" if leaks == 1 else f"{leaks} leaks"
    warned = sum(finding.verdict == "warning" for finding in audit.findings)
    console.print(
        f"{escape(audit.name)}: {leak_text}, {warned} warning{'' if warned == 1 else 's'}, "
        f"{len(audit.findings)} findings in {audit.seconds:.0f} s."
    )
    for note in notes:
        console.print(f"Note: {escape(note)}")


def doubtful_table(findings: Sequence[QualityFinding], counts: Mapping[str, int]) -> Table:
    """Kinds of findings, the gravest first, each with its number and its first sentence."""
    from rich.markup import escape
    from rich.table import Table

    shown = Table("Doubtful", "", "Times", "For example")
    colours = {"error": "bold red", "warning": "yellow", "note": "dim"}
    for kind, count in counts.items():
        first = next(finding for finding in findings if finding.kind == kind)
        severity = f"[{colours[first.severity]}]{first.severity}[/]"
        shown.add_row(escape(kind), severity, f"{count:,}", escape(first.message))
    return shown


def print_check(report: Any, lacking: str = "") -> None:
    """Print how the data are understood, what is wrong, and what a study would lack in them."""
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
        shown = Table("Column in the file", "Understood as", "First value")
        for column, meaning in report.columns:
            sample = report.samples.get(column, "")
            shown.add_row(escape(str(column)), escape(str(meaning)), escape(sample))
        for column in report.unknown[:MOST_UNKNOWN]:
            shown.add_row(escape(column), "[dim]not used[/]", escape(report.samples[column]))
        console.print(shown)
        rest = len(report.unknown) - MOST_UNKNOWN
        if rest > 0:
            console.print(f"... and {rest} more columns that are not used.")
    for note in report.notes:
        console.print(f"Note: {escape(note)}")
    if report.counts:
        console.print(doubtful_table(report.findings, report.counts))
        console.print("--csv FILE writes every one, --html FILE a page of them.")
    if not report.problems and lacking:
        refused = "No problems found, but a study with the default settings cannot run:"
        console.print(f"{refused} {escape(lacking)}")
        return
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
    counted = "1 problem" if len(report.problems) == 1 else f"{len(report.problems)} problems"
    typer.echo(f"alphakeel: {counted} found.", err=True)
