"""The commands: run, check, audit, init, tune, degree."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alphakeel.cli.printing import print_audit, print_check, print_study
from alphakeel.cli.shell import (
    ConfigOption,
    DataArgument,
    DataOption,
    FreshOption,
    JsonOption,
    LedgerOption,
    OverlayOption,
    QuietOption,
    announce_code,
    data_given,
    listen,
    plain_errors,
    progress_bar,
    read_settings,
    refuse_own_model,
)
from alphakeel.errors import AlphakeelError, ConfigError
from alphakeel.files import write_atomically

__all__ = [
    "audit",
    "check",
    "degree",
    "init",
    "run",
    "tune",
]

if TYPE_CHECKING:
    from alphakeel.data.loading import DataReport
    from alphakeel.results import Study
    from alphakeel.selection.trial_log import TestSetUse, TrialLedger


def run(
    path: DataArgument = None,
    data: DataOption = None,
    config: ConfigOption = None,
    out: Annotated[Path, typer.Option("--out", help="Folder that keeps the runs.")] = Path("runs"),
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    fresh: FreshOption = False,
) -> None:
    """Run the study: data, cleaning, factors, screen, models, backtest, report.

    Without options it takes the bundled real prices of 20 S&P 500 stocks and tests 2010 to 2020.
    A run that was killed resumes when the same command is given again, and fits of finished runs in
    the same folder are taken where nothing that they read has changed.
    """
    with plain_errors() as kept:
        settings = read_settings(data_given(path, data), config)
        from alphakeel.provenance import load_data
        from alphakeel.selection.trial_log import TrialLedger, record_run
        from alphakeel.storage.checkpoints import DiskStore
        from alphakeel.storage.runs import forget_progress, save_run, summary_json
        from alphakeel.storage.saved_models import SavedFits
        from alphakeel.study import run_study

        store = DiskStore(out / ".resume", fresh=fresh)
        kept.folder = store.folder
        if settings.report.mlflow:
            from alphakeel.storage.mlflow_log import require_mlflow

            require_mlflow()
        with progress_bar(hidden=quiet or as_json) as on_progress:
            # A test that cannot be counted is not looked at.
            trials_seen = TrialLedger(ledger or out / "trials.jsonl")
            trials_seen.check_writable()
            panel, settings, name, notes = load_data(settings)
            announce_code(settings, quiet=quiet)
            listener = listen(on_progress, kept, quiet=quiet)
            study = run_study(
                panel,
                settings,
                name=name,
                notes=notes,
                on_progress=listener,
                store=store,
                finished=None if fresh else SavedFits(out),
            )
        use = record_run(study, trials_seen)
        _warn_of_unread(trials_seen)
        folder = save_run(study, out, more=lambda place: _write_report(study, place, use))
        kept.saved = folder
        forget_progress(study, store)
        _log_to_mlflow(folder, settings.report.mlflow)
        report = (folder / "report.html").resolve()
        if as_json:
            places = {"run": str(folder), "report": str(report)}
            document = {**summary_json(study), "trials": use.to_dict(), **places}
            typer.echo(json.dumps(document, ensure_ascii=False))
        elif not quiet:
            print_study(study, folder, report, use)


def _log_to_mlflow(folder: Path, database: str) -> None:
    """Log a saved run into MLflow where the settings name a database; warn where that fails."""
    if not database:
        return
    from alphakeel.storage.mlflow_log import log_run
    from alphakeel.storage.saved_runs import open_run

    try:
        log_run(open_run(folder), database)
    except AlphakeelError as error:
        typer.echo(f"warning: {error}", err=True)


def _warn_of_unread(ledger: TrialLedger) -> None:
    if note := ledger.unread_note():
        typer.echo(f"warning: {note}.", err=True)


def _write_report(study: Study, folder: Path, use: TestSetUse) -> None:
    """Write the report, and the count of trials in it, into the folder of a run."""
    from alphakeel.report.page import write_report

    write_report(study, folder / "report.html", use)
    text = json.dumps(use.to_dict(), indent=1, allow_nan=False)
    write_atomically(folder / "trials.json", text.encode(), durable=False)


def check(
    path: Annotated[
        str | None, typer.Argument(help="File or folder of prices.", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="The same.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Settings whose data.columns are looked for."),
    ] = None,
    market: Annotated[
        str | None,
        typer.Option("--market", help="Exchange whose days are expected: XNYS, XSHG, ..."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option("--csv", help="Write every finding into this file, one a row."),
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--html", help="Write a page of the findings by severity.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say how a file, folder or store of prices is understood, and what is wrong with it.

    Exit code 0 when the data are right, 2 when they are not. What is only doubtful (bad ticks,
    splits that were missed, spin-offs, stale prices, missing days, P/E that jump without a filing,
    amounts in another unit) is listed by severity and changes nothing. Where a study with the
    default settings needs more than there is, the last line says so. Of settings only the data and
    their columns of your own are read.
    """
    with plain_errors():
        from alphakeel.data.loading import inspect_path
        from alphakeel.factors.custom import column_factors

        given = data_given(path, data)
        if given is None and config is None:
            raise ConfigError("no data are named: give a file or folder of prices, or --config.")
        settings = read_settings(given, config)
        columns = settings.data.columns
        column_factors(columns)  # refuses names that factors have
        report = inspect_path(settings.data.source, market=market, columns=columns)
        if table is not None:
            _write_findings(report, table)
        if page is not None:
            from alphakeel.report.plain_page import check_page

            _write(page, check_page(report))
        lacking = "" if report.panel is None else _what_a_study_lacks(report.panel, columns)
        if as_json:
            document = {**report.to_dict(), "lacking": lacking}
            typer.echo(json.dumps(document, ensure_ascii=False))
        elif not quiet:
            print_check(report, lacking)
        if report.problems:
            raise typer.Exit(2)


def _write_findings(report: DataReport, path: Path) -> None:
    """Write what is unusable, then what is doubtful, as a table."""
    from dataclasses import astuple

    import pandas as pd

    from alphakeel.data.spreadsheets import csv_text

    rows = [("problem", p.field, p.ticker, p.date, p.message) for p in report.problems]
    rows += [astuple(finding) for finding in report.findings]
    columns = ["severity", "kind", "ticker", "date", "message"]
    _write(path, csv_text(pd.DataFrame(rows, columns=columns), index=False))


def _write(path: Path, text: str) -> None:
    """Write a file of a report whole or not at all."""
    if path.is_dir():
        raise ConfigError(f"cannot write {path}: it is a folder; name a file in it.")
    try:
        # A name from data may hold half a surrogate pair, which UTF-8 cannot write.
        write_atomically(path, text.encode("utf-8", "xmlcharrefreplace"), durable=False)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}.") from error


def _what_a_study_lacks(panel: Any, columns: tuple[str, ...]) -> str:
    """Why `run` with the default settings would refuse data that are right in themselves."""
    from alphakeel.config import DataConfig, StudyConfig
    from alphakeel.errors import AlphakeelError
    from alphakeel.pipeline.dataset import check_sample
    from alphakeel.pipeline.plan import Plan

    try:
        config = StudyConfig(data=DataConfig(columns=columns))
        plan = Plan.of(panel, config, "data", panel_hash="")  # nothing is kept of this plan
        check_sample(panel, plan)
    except AlphakeelError as error:
        return str(error)
    return ""


def audit(
    path: DataArgument = None,
    data: DataOption = None,
    config: ConfigOption = None,
    earlier: Annotated[
        str | None,
        typer.Option(
            "--earlier",
            help="An earlier download of the same data, to find values rewritten since.",
        ),
    ] = None,
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Try every factor on every date, and rerun the study's own models, not the "
            "linear one only.",
        ),
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Test a study for look-ahead: its data, its settings, its own factors.

    Exit code 3 when a leak is found; 0 otherwise, warnings or not.
    """
    with plain_errors():
        settings = read_settings(data_given(path, data), config)
        from alphakeel.audit import run_audit
        from alphakeel.data.loading import load_panel, read_reports
        from alphakeel.provenance import load_data

        with progress_bar(hidden=quiet or as_json) as on_progress:
            panel, settings, name, notes = load_data(settings)
            announce_code(settings, quiet=quiet)
            result = run_audit(
                panel,
                settings,
                name=name,
                fundamentals=read_reports(settings.data.source),
                earlier=None
                if earlier is None
                else load_panel(earlier, columns=settings.data.columns),
                full=full,
                on_progress=on_progress,
            )
        if as_json:
            document = {**result.to_dict(), "notes": list(notes)}
            typer.echo(json.dumps(document, ensure_ascii=False))
        elif not quiet:
            print_audit(result, notes)
        if result.verdict == "leak":
            raise typer.Exit(3)


def init(
    path: Annotated[Path, typer.Argument(help="Where to write.")] = Path("study.toml"),
    every: Annotated[
        bool, typer.Option("--all", help="Write every key, the rare ones too.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a settings file: the keys that most people change, each explained."""
    with plain_errors():
        from alphakeel.config import config_to_toml

        if path.exists() and not force:
            raise ConfigError(f"{path} exists; add --force to replace it, or name another file.")
        try:
            write_atomically(path, config_to_toml(every=every).encode(), durable=False)
        except OSError as error:
            raise ConfigError(f"cannot write {path}: {error.strerror}.") from error
        typer.echo(f"Wrote {path}. Edit it, then: alphakeel run --config {path}")


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
    overlay: OverlayOption = False,
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the search, to resume from.")
    ] = Path("tuning"),
    ledger: LedgerOption = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", help="Splits fitted at the same time.", min=1)
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Search a model's settings by purged cross-validation on the years before the test.

    A search that was killed resumes when the same command is given again; more trials are added
    to those there are. The best settings are in best.toml, ready to run.
    """
    with plain_errors() as kept:
        settings = read_settings(data, config, jobs)
        refuse_own_model(settings, model, "tune")
        from alphakeel.provenance import load_data
        from alphakeel.selection.search import tune as search
        from alphakeel.selection.search_space import SearchPlan, write_tuning
        from alphakeel.selection.trial_log import TrialLedger

        plan = SearchPlan(
            model=model,
            n_trials=trials,
            objective=objective,
            splitter=splitter,
            blocks=blocks,
            pruner=pruner,
            n_seeds=seeds,
            overlay=overlay,
        )
        kept.folder = out
        with progress_bar(hidden=quiet or as_json) as on_progress:
            panel, settings, name, _ = load_data(settings)
            trials_seen = TrialLedger(ledger or out / "trials.jsonl")
            announce_code(replace(settings, models=(model,)), quiet=quiet)
            result = search(
                panel,
                settings,
                plan,
                folder=out,
                ledger=trials_seen,
                name=name,
                on_progress=listen(on_progress, kept, quiet=quiet),
            )
        _warn_of_unread(trials_seen)
        best = write_tuning(result, out)
        if as_json:
            typer.echo(json.dumps({**result.summary(), "settings": str(best)}, ensure_ascii=False))
        elif not quiet:
            typer.echo("\n".join([*result.describe(), f"Run it: alphakeel run --config {best}"]))


def degree(
    data: DataOption = None,
    config: ConfigOption = None,
    model: Annotated[str, typer.Option("--model", help="Network that is trained.")] = "lstm",
    trials: Annotated[int, typer.Option("--trials", help="Settings tried.")] = 12,
    seeds: Annotated[int, typer.Option("--seeds", help="Networks at each degree.")] = 3,
    overlay: OverlayOption = False,
    out: Annotated[Path, typer.Option("--out", help="Folder for the figure.")] = Path("tuning"),
    ledger: LedgerOption = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", help="Fits at the same time.", min=1)
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    fresh: FreshOption = False,
) -> None:
    """Measure the effect of more steps, trials and units, in validation and out of sample.

    The paper's Figure 2: a few minutes on the bundled prices. A run that was killed resumes when
    the same command is given again.
    """
    with plain_errors() as kept:
        settings = read_settings(data, config, jobs)
        refuse_own_model(settings, model, "vary")
        from alphakeel.provenance import load_data
        from alphakeel.report.validation_curve import write_curve_page
        from alphakeel.selection.trial_log import TrialLedger
        from alphakeel.selection.validation_curve import run_validation_curve
        from alphakeel.selection.validation_curve_fits import CurvePlan, write_degrees
        from alphakeel.storage.checkpoints import DiskStore

        plan = CurvePlan(model=model, n_trials=trials, n_seeds=seeds, overlay=overlay)
        store = DiskStore(out / ".resume", fresh=fresh)
        kept.folder = store.folder
        with progress_bar(hidden=quiet or as_json) as on_progress:
            panel, settings, name, _ = load_data(settings)
            announce_code(replace(settings, models=(model,)), quiet=quiet)
            trials_seen = TrialLedger(ledger or out / "trials.jsonl")
            curve = run_validation_curve(
                panel,
                settings,
                plan,
                ledger=trials_seen,
                name=name,
                on_progress=listen(on_progress, kept, quiet=quiet),
                store=store,
            )
        _warn_of_unread(trials_seen)
        write_degrees(curve, out)
        page = write_curve_page(curve, out / "degrees.html")
        kept.saved = page
        store.discard(curve.key)
        if as_json:
            typer.echo(json.dumps({**curve.summary(), "page": str(page)}, ensure_ascii=False))
        elif not quiet:
            typer.echo("\n".join([*curve.describe(), f"Figure  {page}"]))
