"""What all commands share: settings, one progress bar, errors in one sentence, exit codes."""

from __future__ import annotations

import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alphakeel.errors import AlphakeelError, ConvergenceError, LookAheadWarning, ResumeWarning

if TYPE_CHECKING:
    from alphakeel.config import StudyConfig
    from alphakeel.progress import Progress

__all__ = [
    "INTERRUPTED",
    "ConfigOption",
    "DataOption",
    "FreshOption",
    "JsonOption",
    "LedgerOption",
    "OverlayOption",
    "QuietOption",
    "plain_errors",
    "progress_bar",
    "read_settings",
    "announce_resumption",
]

# The exit code of a program that Ctrl-C has ended.
INTERRUPTED = 130

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
LedgerOption = Annotated[
    Path | None,
    typer.Option("--ledger", help="Ledger of all trials. [default: trials.jsonl in the folder]"),
]
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Start over, without the progress of a killed run.")
]
OverlayOption = Annotated[
    bool, typer.Option("--overlay", help="Evaluate the portfolio under the overlay.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]


def read_settings(data: str | None, config: Path | None, jobs: int | None = None) -> StudyConfig:
    """Settings from a file, overridden by the command line."""
    from dataclasses import replace

    from alphakeel.config import StudyConfig, load_config

    settings = load_config(config) if config is not None else StudyConfig()
    if config is not None and settings.factors.custom:
        beside = config.parent / settings.factors.custom  # which an absolute path replaces
        if beside.exists():
            own = replace(settings.factors, custom=str(beside.resolve()))
            settings = replace(settings, factors=own)
    if data is not None:
        settings = replace(settings, data=replace(settings.data, source=data))
    return settings if jobs is None else replace(settings, jobs=jobs)


@contextmanager
def plain_errors(*, resumes: bool = False) -> Iterator[None]:
    """Turn exceptions into one sentence and an exit code; `resumes`: the command can resume."""
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
            again = "; the same command resumes from here" if resumes else ""
            typer.echo(f"alphakeel: interrupted{again}.", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            with tempfile.NamedTemporaryFile(
                "w", prefix="alphakeel-", suffix=".log", delete=False, encoding="utf-8"
            ) as log:
                traceback.print_exc(file=log)
            typer.echo(
                f"alphakeel: this is a bug in alphakeel: {type(error).__name__}: {error}. "
                f"Please report it with {log.name}",
                err=True,
            )
            raise typer.Exit(1) from error


@contextmanager
def progress_bar(*, hidden: bool) -> Iterator[Callable[[Progress], None] | None]:
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


def announce_resumption(
    on_progress: Callable[[Progress], None] | None,
) -> Callable[[Progress], None]:
    """Print in one line what a killed run has left; pass everything else on."""

    def listener(progress: Progress) -> None:
        if progress.stage == "resuming":
            # Every task calls twice, when it begins and when it ends.
            if progress.detail not in announced:
                typer.echo(f"resuming: {progress.detail}", err=True)
                announced.add(progress.detail)
        elif on_progress is not None:
            on_progress(progress)

    announced: set[str] = set()
    return listener
