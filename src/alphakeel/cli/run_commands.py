"""The command about runs that are saved: list, show, compare, prune."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alphakeel.cli.shell import JsonOption, QuietOption, plain_errors
from alphakeel.errors import ConfigError, DataError
from alphakeel.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

    from alphakeel.storage.saved_runs import SavedRun

__all__ = ["runs"]

ACTIONS = ("list", "show", "compare", "prune")


def runs(
    action: Annotated[str, typer.Argument(help="list, show, compare or prune.")] = "list",
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Runs, by name, by the end of it, or by path.", show_default=False),
    ] = None,
    folder: Annotated[Path, typer.Option("--runs", help="Folder that keeps the runs.")] = Path(
        "runs"
    ),
    strategy: Annotated[
        str | None,
        typer.Option("--strategy", help="Whose curve is compared. [default: the recommended one]"),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the comparison as one page.")
    ] = None,
    keep: Annotated[int, typer.Option("--keep", help="Runs that prune keeps, the newest.")] = 10,
    yes: Annotated[bool, typer.Option("--yes", help="Prune without asking.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List the runs, show one, compare several, or delete old ones.

    Runs with a journal are never deleted.
    """
    with plain_errors():
        if action not in ACTIONS:
            raise ConfigError(f"{action!r} is no action; give one of {', '.join(ACTIONS)}.")
        asked = names or []
        if action == "list":
            document = _list(folder, quiet=quiet or as_json)
        elif action == "show":
            document = _show(asked, folder, quiet=quiet or as_json)
        elif action == "compare":
            document = _compare(asked, folder, strategy, html, quiet=quiet or as_json)
        else:
            document = _prune(folder, keep, sure=yes or as_json or quiet)
            if not (quiet or as_json):
                typer.echo(f"Deleted {', '.join(document['deleted']) or 'nothing'}.")
        if as_json:
            typer.echo(json.dumps(document, ensure_ascii=False))


def _list(folder: Path, *, quiet: bool) -> dict[str, Any]:
    from alphakeel.live.comparison import runs_table

    table = runs_table(folder)
    if not quiet:
        if not len(table):
            typer.echo(f"No runs in {folder}: `alphakeel run` makes one.")
        else:
            _print({"Runs, the newest last": table})
    return {"runs": _records(table)}


def _show(names: list[str], folder: Path, *, quiet: bool) -> dict[str, Any]:
    from alphakeel.storage.saved_runs import find_run

    if len(names) > 1:
        raise ConfigError("show takes one run; `alphakeel runs compare` takes several.")
    run = find_run(names[0] if names else None, folder)
    table, recommended = run.table("table_1"), run.recommendation()
    shown = table[["strategy", "annual_return", "sharpe", "sharpe_low", "sharpe_high"]].join(
        table[["max_drawdown", "var_95"]]
    )
    if not quiet:
        about = run.about
        tested = f"tested {about['test_start']} to {about['test_end']}"
        typer.echo(
            f"{run.name}: {about['name']}, {about['n_assets']} stocks, {tested}, {len(run.folds)} "
            f"fits of {', '.join(run.models)}."
        )
        typer.echo(recommended.reason[:1].upper() + recommended.reason[1:])
        _print({"Table I": shown})
    return {
        "run": run.name,
        "folder": str(run.folder),
        "recommended": recommended.strategy,
        "reason": recommended.reason,
        "table_1": _records(table),
    }


def _compare(
    names: list[str], folder: Path, strategy: str | None, html: Path | None, *, quiet: bool
) -> dict[str, Any]:
    from alphakeel.live.comparison import curves_of, differing_settings, side_by_side
    from alphakeel.report.plain_page import compare_page
    from alphakeel.storage.saved_runs import find_run

    opened: list[SavedRun] = [find_run(name, folder) for name in names]
    settings, tables = differing_settings(opened), side_by_side(opened)
    if html is not None:
        page = compare_page(settings, tables, curves_of(opened, strategy))
        try:
            write_atomically(html, page.encode(), durable=False)
        except OSError as error:
            raise DataError(f"cannot write {html}: {error.strerror}.") from error
    if not quiet:
        _print({"Settings that differ": settings, **tables})
        if html is not None:
            typer.echo(f"Page    {html}")
    return {
        "settings": _records(settings),
        "tables": {name: _records(table) for name, table in tables.items()},
    }


def _prune(folder: Path, keep: int, *, sure: bool) -> dict[str, Any]:
    from alphakeel.live.comparison import prune
    from alphakeel.storage.saved_runs import list_runs

    number = max(len(list_runs(folder)) - keep, 0)
    if number and not sure:
        typer.confirm(f"Delete up to {number} runs in {folder}?", abort=True)
    return {"deleted": list(prune(folder, keep))}


def _print(tables: dict[str, pd.DataFrame]) -> None:
    from alphakeel.cli.live_printing import console_of, table_of

    console = console_of()
    for title, table in tables.items():
        console.print(table_of(title, table))


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    def plain(value: Any) -> Any:
        return None if isinstance(value, float) and value != value else value

    return [{str(k): plain(v) for k, v in row.items()} for row in table.to_dict("records")]
