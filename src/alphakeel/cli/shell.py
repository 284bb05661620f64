"""What all commands share: settings, one progress bar, errors in one sentence, exit codes."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alphakeel.errors import (
    AlphakeelError,
    ConfigError,
    ConvergenceError,
    LookAheadWarning,
    ResumeWarning,
)

if TYPE_CHECKING:
    from alphakeel.config import StudyConfig
    from alphakeel.progress import Progress

__all__ = [
    "ConfigOption",
    "DataArgument",
    "DataOption",
    "FreshOption",
    "JsonOption",
    "Kept",
    "LedgerOption",
    "OverlayOption",
    "QuietOption",
    "Stopped",
    "announce_code",
    "catch_signals",
    "data_given",
    "ignore_signals",
    "listen",
    "plain_errors",
    "progress_bar",
    "read_settings",
    "refuse_own_model",
    "without_collector",
]

# Where a file cannot grow, through no fault of the program.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

DataArgument = Annotated[
    str | None,
    typer.Argument(help="The same as --data.", show_default=False),
]
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


def data_given(argument: str | None, option: str | None) -> str | None:
    """The data named after a command, or by --data."""
    if argument is not None and option is not None:
        raise ConfigError(f"{argument} and --data {option} name two sources: give one.")
    return option if argument is None else argument


def read_settings(data: str | None, config: Path | None, jobs: int | None = None) -> StudyConfig:
    """Settings from a file, overridden by the command line; its paths may start beside it."""
    from dataclasses import replace

    from alphakeel.config import StudyConfig, load_config

    settings = load_config(config) if config is not None else StudyConfig()
    if config is not None:
        factors, models = (
            _beside(config, path) for path in (settings.factors.custom, settings.custom_models)
        )
        own = replace(settings.factors, custom=factors)
        settings = replace(settings, factors=own, custom_models=models)
    if config is not None and data is None:
        settings = replace(settings, data=replace(settings.data, source=_found(settings, config)))
    if data is not None:
        settings = replace(settings, data=replace(settings.data, source=data))
    return settings if jobs is None else replace(settings, jobs=jobs)


def _beside(config: Path, path: str) -> str:
    """The path of a file of the user's, found beside the settings where it is there."""
    beside = config.parent / path  # which an absolute path replaces
    return str(beside.resolve()) if path and beside.exists() else path


def _found(settings: StudyConfig, config: Path) -> str:
    """`data.source` as seen from here, or from the settings file where it is not here."""
    from alphakeel.data.bundled import BUNDLED
    from alphakeel.errors import DataError

    source = settings.data.source
    here, beside = Path(source), config.parent / source
    if source in BUNDLED or here.exists():
        return source
    if beside.exists():
        return str(beside)
    if here.is_absolute() or config.parent.resolve() == Path.cwd():
        return source
    raise DataError(
        f"data.source of {config} is {source}, and there is no such file or folder in {Path.cwd()} "
        f"nor in {config.parent.resolve()}."
    )


class Stopped(BaseException):
    """A signal asks the command to end."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        self.exit_code = 128 + number


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# The signal that was caught; a second one ends the process at once.
_caught: list[int] = []


def catch_signals() -> None:
    """Turn Ctrl-C and SIGTERM into `Stopped`, raised wherever the command is."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _stop)
    sys.unraisablehook = _send_again


def ignore_signals() -> None:
    """Let nothing stop a process whose exit code is known."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _stop(number: int, _frame: object) -> None:
    if _caught:
        os._exit(128 + number)
    _caught.append(number)
    raise Stopped(number)


def _send_again(ignored: Any) -> None:
    """Python drops what is raised in a finalizer: there a signal would be lost."""
    if not isinstance(ignored.exc_value, Stopped):
        sys.__unraisablehook__(ignored)
        return
    number = _caught.pop()
    again = threading.Timer(0.01, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


@dataclass
class Kept:
    """What of a command outlives its process.

    Attributes
    ----------
    folder : Path, optional
        Of the progress that the same command goes on from; None for a command that cannot.
    progress : str
        What is in it, in words; "" if nothing is known to be.
    saved : Path, optional
        Of the finished result.
    """

    folder: Path | None = None
    progress: str = ""
    saved: Path | None = None

    def describe(self) -> str:
        """The end of the sentence that says why the command ended."""
        if self.saved is not None:
            return f"; the result is saved in {self.saved}"
        if self.folder is None:
            return ""
        if self.progress:
            return (
                f" with {self.progress} kept in {self.folder}; the same command goes on from there"
            )
        if self.folder.exists():
            return f"; the same command goes on from what is in {self.folder}"
        return " before anything was done that could be kept"


@contextmanager
def plain_errors() -> Iterator[Kept]:
    """Turn exceptions into one sentence and an exit code; the command says what it keeps."""
    kept = Kept()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", LookAheadWarning)
        warnings.simplefilter("always", ResumeWarning)
        warnings.showwarning = lambda message, *_args, **_kw: typer.echo(
            f"warning: {message}", err=True
        )
        try:
            yield kept
        except (typer.Exit, typer.Abort):
            raise
        except (Exception, KeyboardInterrupt, Stopped) as error:
            sentence, code = _explain(error, kept)
            with suppress(OSError):
                typer.echo(f"alphakeel: {sentence}", err=True)
            raise typer.Exit(code) from error


@contextmanager
def without_collector() -> Iterator[None]:
    """Look for no unused cycles of objects: among those of the libraries it takes a second."""
    looked = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looked:
            gc.enable()


def _explain(error: BaseException, kept: Kept) -> tuple[str, int]:
    """An error in one sentence, and its exit code."""
    if _caught or not isinstance(error, Exception):
        # Whatever it is, it came of the signal: a library may turn one exception into another.
        stop = Stopped(_caught[0]) if _caught else Stopped()
        return f"stopped by {stop.name}{kept.describe()}.", stop.exit_code
    if isinstance(error, ConvergenceError):
        return f"the fit failed: {error}", 1
    if isinstance(error, AlphakeelError):
        return str(error), 2
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        where = "" if error.filename is None else f" {error.filename}"
        return f"cannot write{where}: {error.strerror}{kept.describe()}.", 2
    bug = f"this is a bug in alphakeel: {type(error).__name__}: {error}. Please report it"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="alphakeel-", suffix=".log", delete=False, encoding="utf-8"
        ) as log:
            traceback.print_exception(error, file=log)
    except OSError:
        return bug, 1
    return f"{bug} with {log.name}", 1


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


def listen(
    on_progress: Callable[[Progress], None] | None, kept: Kept, *, quiet: bool
) -> Callable[[Progress], None]:
    """Print in one line what a killed run has left, note what is kept, and pass the rest on."""
    from alphakeel.progress import KEPT

    def listener(progress: Progress) -> None:
        if progress.stage == KEPT:
            kept.progress = progress.detail
        elif progress.stage == "resuming" and not quiet:
            # Every task calls twice, when it begins and when it ends.
            if progress.detail not in announced:
                typer.echo(f"resuming: {progress.detail}", err=True)
                announced.add(progress.detail)
        elif on_progress is not None:
            on_progress(progress)

    announced: set[str] = set()
    return listener


def announce_code(settings: StudyConfig, *, quiet: bool) -> None:
    """Say which files of the user's are about to be run."""
    paths = [settings.factors.custom, settings.custom_models if settings.own_models else ""]
    for path in dict.fromkeys(filter(None, paths)):
        if not quiet:
            typer.echo(f"runs code of yours: {Path(path).resolve()}", err=True)


def refuse_own_model(settings: StudyConfig, model: str, what: str) -> None:
    """Refuse to search a model of the user's: its settings stand in its file."""
    if model in settings.own_models:
        raise ConfigError(
            f"{model} is a model of your own, with no settings here to {what}: set it in "
            f"{Path(settings.custom_models).name}, or choose a model of ours."
        )
