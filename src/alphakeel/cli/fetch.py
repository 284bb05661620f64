"""The command fetch: market data from a source into a store."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alphakeel.cli.shell import FreshOption, JsonOption, QuietOption, plain_errors, progress_bar
from alphakeel.errors import ConfigError

if TYPE_CHECKING:
    from alphakeel.feeds.fetch import FetchReport, FetchRequest
    from alphakeel.progress import Progress

__all__ = ["fetch"]

# Rows of the table of what is missing that are printed; --json has them all.
MOST_ROWS = 40


def fetch(
    source: Annotated[
        str,
        typer.Argument(
            help="baostock, yahoo, edgar, rates, qlib, stooq, akshare or tushare.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the store.")] = Path("store"),
    universe: Annotated[
        str | None,
        typer.Option(
            "--universe",
            help="As the source names it (csi300, sec, ...), tickers with commas, or store.",
        ),
    ] = None,
    start: Annotated[str | None, typer.Option("--start", help="First day, 2005-01-01.")] = None,
    end: Annotated[str | None, typer.Option("--end", help="Last day. [default: today]")] = None,
    what: Annotated[
        str | None,
        typer.Option(
            "--what", help="bars, fundamentals, index, rates, with commas. [default: by source]"
        ),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="The same as last time, from the newest days on.")
    ] = False,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Store what is there, though not all is.")
    ] = False,
    contact: Annotated[
        str | None,
        typer.Option("--contact", help="Name and e-mail address, as the SEC asks for edgar."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Folder that qlib or stooq reads.")
    ] = None,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fetch market data into a store: resumable, throttled, checked, complete or refused.

    A fetch that was cut short goes on when the same command is given again. Exit code 2 when
    something is missing; the store is then as it was, unless --allow-partial is given.
    """
    with plain_errors() as kept:
        kept.folder = out
        from alphakeel.feeds.fetch import fetch as run_fetch
        from alphakeel.feeds.fetch import refuse_missing
        from alphakeel.feeds.sources import open_feed

        request = _request(source, out, universe, start, end, what, update, allow_partial)
        feed = open_feed(source, contact=contact, folder=folder)
        with progress_bar(hidden=quiet or as_json) as bar:
            report = run_fetch(feed, request, out, on_progress=_listener(bar), fresh=fresh)
        if as_json:
            typer.echo(json.dumps({**report.to_dict(), "store": str(out)}, ensure_ascii=False))
        elif not quiet:
            _print(report, out)
        refuse_missing(report)


def _request(
    source: str,
    out: Path,
    universe: str | None,
    start: str | None,
    end: str | None,
    what: str | None,
    update: bool,
    allow_partial: bool,
) -> FetchRequest:
    """What is asked for, from the options or from the store."""
    from alphakeel.data.store import DataStore
    from alphakeel.feeds.fetch import FetchRequest, update_request

    last = dt.date.today() if end is None else _day(end, "--end")
    if update:
        if universe is not None or start is not None or what is not None:
            raise ConfigError(
                "--update repeats the last fetch: leave out universe, start and what."
            )
        return update_request(DataStore(out), source, last, allow_partial=allow_partial)
    default = {"edgar": "fundamentals", "rates": "rates"}.get(source, "bars")
    if source in ("baostock", "yahoo") and what is None:
        default = "bars,index"
    if universe is None:
        if source != "rates":
            raise ConfigError("name the stocks with --universe: an index, tickers, or store.")
        universe = "treasury"
    if start is None:
        raise ConfigError("name the first day with --start, for example 2005-01-01.")
    parts = tuple(word.strip() for word in (what or default).split(",") if word.strip())
    return FetchRequest(universe, _day(start, "--start"), last, parts, allow_partial=allow_partial)


def _day(text: str, option: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{option} is {text!r}: write a date like 2005-01-31.") from error


def _listener(
    bar: Callable[[Progress], None] | None,
) -> Callable[[float, str], None] | None:
    """Progress of a fetch as the bar shows it."""
    if bar is None:
        return None
    from alphakeel.progress import Progress

    return lambda share, text: bar(Progress("fetching", share, text))


def _print(report: FetchReport, out: Path) -> None:
    """Say what has come, and what is missing."""
    for note in report.notes:
        typer.echo(f"note: {note}.")
    if report.missing:
        typer.echo(f"{'ticker':<14} {'what':<13} {'reason':<15} message")
        for entry in report.missing[:MOST_ROWS]:
            typer.echo(f"{entry.ticker:<14} {entry.what:<13} {entry.reason:<15} {entry.message}")
        if len(report.missing) > MOST_ROWS:
            typer.echo(f"... and {len(report.missing) - MOST_ROWS} more (--json lists them all)")
    if report.committed:
        rows = ", ".join(f"{count:,} {table}" for table, count in report.added.items() if count)
        age = f"; the last day is {report.last_day}" if report.last_day else ""
        typer.echo(f"{out}: {rows or 'nothing new'} from {report.source}{age}.")
        if report.finding_counts:
            from rich.console import Console

            from alphakeel.cli.printing import doubtful_table

            Console().print(doubtful_table(report.findings, report.finding_counts))
            typer.echo(f"All of them, and older ones: alphakeel check {out} --html report.html")
        if report.last_day:
            typer.echo(f"Run it: alphakeel run --data {out}")
