"""The command line: commands, one progress bar, exit codes.

Exit codes: 0 done; 1 a bug; 2 bad input or settings, named in one sentence; 3 the audit found
a leak; 130 interrupted.
Heavy libraries are imported inside the commands, so that ``--help`` returns at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from alphakeel import __version__
from alphakeel.cli.commands import audit, check, degree, init, run, tune
from alphakeel.cli.fetch import fetch
from alphakeel.cli.shell import INTERRUPTED

__all__ = ["app", "main"]

app = typer.Typer(
    name="alphakeel",
    help="Alpha on an even keel: deep multi-factor models with their risk kept in bounds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (fetch, check, run, audit, init, tune, degree):
    app.command()(command)


def main() -> None:
    """Run the command line; the entry point of the `alphakeel` command."""
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            # Threads may still be fitting, and a normal exit would abort on them.
            sys.stdout.flush()
            os._exit(INTERRUPTED)
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
