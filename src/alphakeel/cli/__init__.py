"""The command line: commands, one progress bar, exit codes.

Exit codes: 0 done; 1 a bug; 2 bad input or settings, named in one sentence; 3 the audit found
a leak; 4 reality does not agree with the backtest (monitor, daily); 5 another process does the
daily job; 130 stopped by Ctrl-C, 143 by SIGTERM.
Heavy libraries are imported inside the commands, so that ``--help`` returns at once.
"""

from __future__ import annotations

import codecs
import errno
import gc
import io
import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from alphakeel import __version__
from alphakeel.cli.commands import audit, check, degree, init, run, tune
from alphakeel.cli.fetch import fetch
from alphakeel.cli.live_commands import daily, monitor, today
from alphakeel.cli.run_commands import runs
from alphakeel.cli.shell import Stopped, catch_signals, ignore_signals

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["app", "main"]

app = typer.Typer(
    name="alphakeel",
    help="Alpha on an even keel: deep multi-factor models with their risk kept in bounds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    fetch,
    check,
    run,
    today,
    monitor,
    daily,
    runs,
    audit,
    init,
    tune,
    degree,
):
    app.command()(command)


# What a terminal without UTF-8 shows instead of a few signs; of others a question mark.
_PLAIN = str.maketrans(
    "\u202f\u00a0\u2013\u2014\u2212\u2018\u2019\u201c\u201d\u2026\u00d7\u2022", "  ---''\"\".x*"
)


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding cannot say by what comes near it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    return "".join(c if c.isascii() else "?" for c in text), error.end


class _Outlet(io.FileIO):
    """Output that a reader may leave, as `head` does: the rest is dropped, and nothing ends by it.

    Where a disk is full, that is said once, and the rest is dropped, too.
    """

    failed = False

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EPIPE and not self.failed:
                self.failed = True
                raise
            return memoryview(data).nbytes


def _write_anywhere() -> None:
    """Let no character end a command whose output is not in UTF-8, and no reader that has left."""
    codecs.register_error("alphakeel", _plainly)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        stream.reconfigure(errors="alphakeel")
        with suppress(OSError):  # a stream in memory, or one that is closed
            if not stream.isatty():
                outlet = io.BufferedWriter(_Outlet(stream.fileno(), "w", closefd=False))
                line_buffering = stream.line_buffering
                text = io.TextIOWrapper(outlet, stream.encoding, "alphakeel", None, line_buffering)
                setattr(sys, name, text)


def main() -> None:
    """Run the command line; the entry point of the `alphakeel` command."""
    # Arrow's own pool keeps the memory that a file took, a hundred megabytes for 500 stocks.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    catch_signals()
    _write_anywhere()
    try:
        app()
    except SystemExit as end:
        code = end.code
    except OSError as error:  # of --help: a command says so by itself
        with suppress(OSError):
            typer.echo(f"alphakeel: cannot write: {error.strerror}.", err=True)
        code = 2
    except Stopped as stop:  # outside of a command
        typer.echo(f"alphakeel: stopped by {stop.name}.", err=True)
        code = stop.exit_code
    ignore_signals()
    if code and threading.active_count() > 1:
        # A thread that did not end in time is still at work, and a normal exit aborts on it.
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 1)
    gc.freeze()  # the system takes back all memory: no cycle has to be found first
    sys.exit(code)


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
