"""The command line: commands, one progress bar, exit codes.

Exit codes: 0 done; 1 our fault; 2 bad input or settings, told in one sentence; 3 the audit found
a leak; 130 interrupted.
Heavy libraries are imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alphakeel import __version__
from alphakeel.errors import (
    AlphakeelError,
    ConfigError,
    ConvergenceError,
    LookAheadWarning,
    ResumeWarning,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from alphakeel.audit import Audit
    from alphakeel.config import StudyConfig
    from alphakeel.progress import Progress
    from alphakeel.results import Study

__all__ = ["app", "main"]

# The exit code of a program that Ctrl-C has ended.
_INTERRUPTED = 130

app = typer.Typer(
    name="alphakeel",
    help="Alpha on an even keel: deep multi-factor models with their risk kept in bounds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="File or folder of prices, or a bundled name: sp500, synthetic. [default: sp500]",
        show_default=False,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Settings in TOML; `alphakeel init` writes them, explained."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]


def main() -> None:
    """Run the command line; the entry point of the `alphakeel` command."""
    try:
        app()
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            # Threads may still be fitting: Python would wait for none of them, and abort.
            sys.stdout.flush()
            os._exit(_INTERRUPTED)
        raise


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"alphakeel {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Alpha on an even keel: deep multi-factor models with their risk kept in bounds."""


@app.command()
def run(
    data: DataOption = None,
    config: ConfigOption = None,
    out: Annotated[Path, typer.Option("--out", help="Folder that keeps the runs.")] = Path("runs"),
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew, whatever a killed run has left.")
    ] = False,
) -> None:
    """Run the study: data, cleaning, factors, screen, models, backtest, report.

    Without options it takes the bundled real prices of 20 S&P 500 stocks and tests 2010 to 2020.
    A run that was killed goes on where it was when the same command is given again.
    """
    with _plain_errors():
        settings = _settings(data, config)
        from alphakeel.artifacts import forget_progress, save_run, summary_json
        from alphakeel.checkpoints import DiskStore
        from alphakeel.report.html import write_report
        from alphakeel.study import load_data, run_study

        with _progress_bar(hidden=quiet or as_json) as on_progress:
            panel, settings, name = load_data(settings)
            store = DiskStore(out / ".resume", fresh=fresh)
            listener = on_progress if quiet else _telling_of_resumption(on_progress)
            study = run_study(panel, settings, name=name, on_progress=listener, store=store)
        folder = save_run(study, out)
        report = write_report(study, folder / "report.html")
        forget_progress(study, store)
        if as_json:
            document = {**summary_json(study), "run": str(folder), "report": str(report)}
            typer.echo(json.dumps(document, ensure_ascii=False))
        elif not quiet:
            _print_study(study, folder, report)


@app.command()
def check(
    path: Annotated[str, typer.Argument(help="File or folder of prices.", show_default=False)],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say how a file or folder of prices is understood, and what is wrong with it.

    Exit code 0 when a study can run on it, 2 when it cannot.
    """
    with _plain_errors():
        from alphakeel.data.files import inspect_path

        report = inspect_path(path)
        if as_json:
            typer.echo(json.dumps(report.to_dict(), ensure_ascii=False))
        elif not quiet:
            _print_check(report)
        if report.problems:
            raise typer.Exit(2)


@app.command()
def audit(
    data: DataOption = None,
    config: ConfigOption = None,
    earlier: Annotated[
        str | None,
        typer.Option("--earlier", help="The same data as downloaded earlier: what was rewritten?"),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Rerun the study's own models, not the linear one only.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Try to catch a study looking ahead: its data, its settings, its own factors.

    Exit code 3 when a leak is found; 0 otherwise, warnings or not.
    """
    with _plain_errors():
        settings = _settings(data, config)
        from alphakeel.audit import run_audit
        from alphakeel.data.files import load_panel
        from alphakeel.data.reports import read_reports
        from alphakeel.study import load_data

        with _progress_bar(hidden=quiet or as_json) as on_progress:
            panel, settings, name = load_data(settings)
            found = run_audit(
                panel,
                settings,
                name=name,
                fundamentals=read_reports(settings.data.source),
                earlier=None if earlier is None else load_panel(earlier),
                full=full,
                on_progress=on_progress,
            )
        if as_json:
            typer.echo(json.dumps(found.to_dict(), ensure_ascii=False))
        elif not quiet:
            _print_audit(found)
        if found.verdict == "leak":
            raise typer.Exit(3)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write.")] = Path("study.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a settings file in which every key is explained."""
    with _plain_errors():
        from alphakeel.config import config_to_toml

        if path.exists() and not force:
            raise ConfigError(f"{path} exists; add --force to replace it, or name another file.")
        try:
            path.write_text(config_to_toml(), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}.") from error
        typer.echo(f"Wrote {path}. Edit it, then: alphakeel run --config {path}")


@app.command()
def tune(
    data: DataOption = None,
    config: ConfigOption = None,
    model: Annotated[str, typer.Option("--model", help="Model whose settings are searched.")] = (
        "lstm"
    ),
    trials: Annotated[
        int, typer.Option("--trials", help="Trials in all; those of earlier runs count.")
    ] = 20,
    objective: Annotated[
        str,
        typer.Option("--objective", help="rank_ic, or sharpe under the limits of the settings."),
    ] = "rank_ic",
    splitter: Annotated[
        str, typer.Option("--splitter", help="kfold or combinatorial, purged and embargoed.")
    ] = "kfold",
    blocks: Annotated[
        int, typer.Option("--blocks", help="Blocks that the years before the test are cut into.")
    ] = 4,
    pruner: Annotated[str, typer.Option("--pruner", help="median, hyperband or none.")] = "median",
    seeds: Annotated[int, typer.Option("--seeds", help="Networks averaged in a trial.")] = 1,
    out: Annotated[
        Path, typer.Option("--out", help="Folder that keeps the search, to go on from.")
    ] = Path("tuning"),
    ledger: Annotated[
        Path | None,
        typer.Option(
            "--ledger", help="File of all trials ever run. [default: trials.jsonl in the folder]"
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", help="Splits fitted at the same time.", min=1)
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Search a model's settings by purged cross-validation on the years before the test.

    A search that was killed goes on where it was when the same command is given again; more
    trials go on from those there are. The best settings are in best.toml, ready to run.
    """
    with _plain_errors():
        settings = _settings(data, config, jobs)
        from alphakeel.study import load_data
        from alphakeel.tuning import SearchPlan, TrialLedger, write_tuning
        from alphakeel.tuning import tune as search

        plan = SearchPlan(
            model=model,
            trials=trials,
            objective=objective,
            splitter=splitter,
            blocks=blocks,
            pruner=pruner,
            seeds=seeds,
        )
        with _progress_bar(hidden=quiet or as_json) as on_progress:
            panel, settings, name = load_data(settings)
            found = search(
                panel,
                settings,
                plan,
                folder=out,
                ledger=TrialLedger(ledger or out / "trials.jsonl"),
                name=name,
                on_progress=on_progress,
            )
        best = write_tuning(found, out)
        if as_json:
            typer.echo(json.dumps({**found.summary(), "settings": str(best)}, ensure_ascii=False))
        elif not quiet:
            typer.echo("\n".join([*found.in_words(), f"Run it: alphakeel run --config {best}"]))


@app.command()
def degree(
    data: DataOption = None,
    config: ConfigOption = None,
    model: Annotated[str, typer.Option("--model", help="Network that is trained.")] = "lstm",
    trials: Annotated[int, typer.Option("--trials", help="Settings tried.")] = 12,
    seeds: Annotated[int, typer.Option("--seeds", help="Networks at each degree.")] = 3,
    out: Annotated[Path, typer.Option("--out", help="Folder for the figure.")] = Path("tuning"),
    ledger: Annotated[
        Path | None,
        typer.Option(
            "--ledger", help="File of all trials ever run. [default: trials.jsonl in the folder]"
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", help="Fits at the same time.", min=1)
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure what more steps, trials and units give, in validation and out of sample.

    The paper's Figure 2: a few minutes on the bundled prices.
    """
    with _plain_errors():
        settings = _settings(data, config, jobs)
        from alphakeel.degree import DegreePlan, run_degree_study, write_degrees
        from alphakeel.report.degree import write_degree_page
        from alphakeel.study import load_data
        from alphakeel.tuning import TrialLedger

        plan = DegreePlan(model=model, trials=trials, seeds=seeds)
        with _progress_bar(hidden=quiet or as_json) as on_progress:
            panel, settings, name = load_data(settings)
            found = run_degree_study(
                panel,
                settings,
                plan,
                ledger=TrialLedger(ledger or out / "trials.jsonl"),
                name=name,
                on_progress=on_progress,
            )
        write_degrees(found, out)
        page = write_degree_page(found, out / "degrees.html")
        if as_json:
            typer.echo(json.dumps({**found.summary(), "page": str(page)}, ensure_ascii=False))
        elif not quiet:
            typer.echo("\n".join([*found.in_words(), f"Figure  {page}"]))


def _settings(data: str | None, config: Path | None, jobs: int | None = None) -> StudyConfig:
    from dataclasses import replace

    from alphakeel.config import StudyConfig, load_config

    settings = load_config(config) if config is not None else StudyConfig()
    if config is not None and settings.factors.custom:
        beside = config.parent / settings.factors.custom  # which an absolute path replaces
        if beside.is_file():
            own = replace(settings.factors, custom=str(beside.resolve()))
            settings = replace(settings, factors=own)
    if data is not None:
        settings = replace(settings, data=replace(settings.data, source=data))
    return settings if jobs is None else replace(settings, jobs=jobs)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn exceptions into one sentence and an exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", LookAheadWarning)
        warnings.simplefilter("always", ResumeWarning)
        warnings.showwarning = lambda message, *_args, **_kw: typer.echo(
            f"warning: {message}", err=True
        )
        try:
            yield
        except ConvergenceError as error:
            typer.echo(f"alphakeel: the fit failed: {error}", err=True)
            raise typer.Exit(1) from error
        except AlphakeelError as error:
            typer.echo(f"alphakeel: {error}", err=True)
            raise typer.Exit(2) from error
        except KeyboardInterrupt:
            typer.echo("alphakeel: interrupted.", err=True)
            raise typer.Exit(_INTERRUPTED) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            with tempfile.NamedTemporaryFile(
                "w", prefix="alphakeel-", suffix=".log", delete=False, encoding="utf-8"
            ) as log:
                traceback.print_exc(file=log)
            typer.echo(
                f"alphakeel: this is our fault, not yours: {type(error).__name__}: {error}. "
                f"Please report it with {log.name}",
                err=True,
            )
            raise typer.Exit(1) from error


@contextmanager
def _progress_bar(*, hidden: bool) -> Iterator[Callable[[Progress], None] | None]:
    """One bar for the whole study, on standard error."""
    if hidden:
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("[bold]{task.fields[stage]:<10}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.description}", markup=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=1.0, stage="loading")
        yield lambda p: bar.update(task, completed=p.share, description=p.detail, stage=p.stage)


def _telling_of_resumption(
    on_progress: Callable[[Progress], None] | None,
) -> Callable[[Progress], None]:
    """Say in one line what is left of a killed run; hand everything else on."""

    def listener(progress: Progress) -> None:
        if progress.stage == "resuming":
            # Two calls come for each piece of work: its begin and its end.
            if progress.detail not in told:
                typer.echo(f"resuming: {progress.detail}", err=True)
                told.add(progress.detail)
        elif on_progress is not None:
            on_progress(progress)

    told: set[str] = set()
    return listener


def _print_study(study: Study, folder: Path, report: Path) -> None:
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
    for found in findings(study, tables, hero):
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


def _print_audit(audit: Audit) -> None:
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


def _print_check(report: Any) -> None:
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
