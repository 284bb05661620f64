"""Commands: search settings on the years before the test, and measure what searching gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from alphakeel.cli.shell import (
    ConfigOption,
    DataOption,
    FreshOption,
    JsonOption,
    LedgerOption,
    QuietOption,
    plain_errors,
    progress_bar,
    read_settings,
    telling_of_resumption,
)

__all__ = ["degree", "tune"]


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
    ledger: LedgerOption = None,
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
    with plain_errors(resumes=True):
        settings = read_settings(data, config, jobs)
        from alphakeel.study import load_data
        from alphakeel.tuning import SearchPlan, TrialLedger, write_tuning
        from alphakeel.tuning import tune as search

        plan = SearchPlan(
            model=model,
            n_trials=trials,
            objective=objective,
            splitter=splitter,
            blocks=blocks,
            pruner=pruner,
            n_seeds=seeds,
        )
        with progress_bar(hidden=quiet or as_json) as on_progress:
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


def degree(
    data: DataOption = None,
    config: ConfigOption = None,
    model: Annotated[str, typer.Option("--model", help="Network that is trained.")] = "lstm",
    trials: Annotated[int, typer.Option("--trials", help="Settings tried.")] = 12,
    seeds: Annotated[int, typer.Option("--seeds", help="Networks at each degree.")] = 3,
    out: Annotated[Path, typer.Option("--out", help="Folder for the figure.")] = Path("tuning"),
    ledger: LedgerOption = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", help="Fits at the same time.", min=1)
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    fresh: FreshOption = False,
) -> None:
    """Measure what more steps, trials and units give, in validation and out of sample.

    The paper's Figure 2: a few minutes on the bundled prices. What was killed goes on where it
    was when the same command is given again.
    """
    with plain_errors(resumes=True):
        settings = read_settings(data, config, jobs)
        from alphakeel.checkpoints import DiskStore
        from alphakeel.degree import DegreePlan, run_degree_study, write_degrees
        from alphakeel.report.degree import write_degree_page
        from alphakeel.study import load_data
        from alphakeel.tuning import TrialLedger

        plan = DegreePlan(model=model, n_trials=trials, n_seeds=seeds)
        with progress_bar(hidden=quiet or as_json) as on_progress:
            panel, settings, name = load_data(settings)
            store = DiskStore(out / ".resume", fresh=fresh)
            found = run_degree_study(
                panel,
                settings,
                plan,
                ledger=TrialLedger(ledger or out / "trials.jsonl"),
                name=name,
                on_progress=on_progress if quiet else telling_of_resumption(on_progress),
                store=store,
            )
        write_degrees(found, out)
        page = write_degree_page(found, out / "degrees.html")
        store.discard(found.key)
        if as_json:
            typer.echo(json.dumps({**found.summary(), "page": str(page)}, ensure_ascii=False))
        elif not quiet:
            typer.echo("\n".join([*found.in_words(), f"Figure  {page}"]))
