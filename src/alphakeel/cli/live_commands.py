"""The commands after a study: today, monitor, daily."""

from __future__ import annotations

import datetime as dt
import json
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alphakeel.cli.shell import (
    DataOption,
    JsonOption,
    QuietOption,
    announce_code,
    plain_errors,
    without_collector,
)
from alphakeel.errors import ConfigError, DataError

if TYPE_CHECKING:
    from alphakeel.live.decision import DailyDecision
    from alphakeel.live.monitor import Monitor
    from alphakeel.storage.saved_runs import SavedRun

__all__ = ["DISAGREES", "LOCKED", "daily", "monitor", "today"]

# Exit codes of `monitor` and `daily`, beside those of every command.
DISAGREES, LOCKED = 4, 5
MAX_AGE = 7

RunArgument = Annotated[
    str | None,
    typer.Argument(help="Folder or name of a run. [default: the newest]", show_default=False),
]
RunsOption = Annotated[Path, typer.Option("--runs", help="Folder that keeps the runs.")]
StrategyOption = Annotated[
    str | None,
    typer.Option(
        "--strategy",
        help="A label of Table I, or a model such as lstm or lstm+overlay, or cash. "
        "[default: the one that the run recommends]",
        show_default=False,
    ),
]
HoldingsOption = Annotated[
    Path | None,
    typer.Option("--holdings", help="CSV with the columns ticker and shares; CASH is cash."),
]
CashOption = Annotated[float | None, typer.Option("--cash", help="Cash, besides the holdings.")]
MinTradeOption = Annotated[
    float, typer.Option("--min-trade", help="Smallest order, in currency.", show_default=False)
]
KeepCashOption = Annotated[
    float, typer.Option("--keep-cash", help="Cash that is not invested.", show_default=False)
]
FractionalOption = Annotated[bool, typer.Option("--fractional", help="Trade fractions of a share.")]
AgeOption = Annotated[int, typer.Option("--max-age", help="Days that the data may be old.", min=0)]
AsOfOption = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        help="Decide as of this day, YYYY-MM-DD: nothing later is read. [default: the last]",
        show_default=False,
    ),
]
RefitOption = Annotated[
    bool, typer.Option("--refit", help="Fit anew where the date of the next fit has passed.")
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for CSV, JSON and the baskets of brokers."),
]


def today(
    run: RunArgument = None,
    data: DataOption = None,
    holdings: HoldingsOption = None,
    cash: CashOption = None,
    strategy: StrategyOption = None,
    max_age: AgeOption = MAX_AGE,
    min_trade: MinTradeOption = 0.0,
    keep_cash: KeepCashOption = 0.0,
    fractional: FractionalOption = False,
    as_of: AsOfOption = None,
    refit: RefitOption = False,
    out: OutOption = None,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say what to hold after the last close, and what to trade for it, by a saved run.

    The targets are those that the backtest would have had. No order is ever sent. Every decision
    goes to the journal of the run, once.
    """
    with plain_errors(), without_collector():
        from alphakeel.live.decision import decide
        from alphakeel.storage.saved_runs import find_run

        opened = find_run(run, runs)
        panel = load_newer(opened, data, strategy, quiet=quiet)
        age = _age(panel, as_of, max_age)
        decision = decide(
            opened,
            panel,
            holdings,
            cash=cash,
            strategy=strategy,
            day=as_of,
            min_trade=min_trade,
            keep_cash=keep_cash,
            fractional=fractional,
            refit_now=refit,
            owned=True,
        )
        written = None if out is None else write_decision(decision, out)
        difference = record(opened, decision)
        if difference:
            typer.echo(f"warning: {difference}", err=True)
        if as_json:
            typer.echo(json.dumps({**decision.to_dict(), "age_days": age}, ensure_ascii=False))
        elif not quiet:
            from alphakeel.cli.live_printing import print_decision

            print_decision(decision, age, written)


def load_newer(run: SavedRun, data: str | None, strategy: str | None, *, quiet: bool) -> Any:
    """The data of a run as they are now, or other ones, read by the run's own settings.

    Says first what code of the user's the strategy needs.

    Meanwhile torch is imported, which takes as long, where the strategy has networks.
    """
    from dataclasses import replace

    from alphakeel.live.decision import strategy_of
    from alphakeel.live.own_models import settings_of
    from alphakeel.model_factory import LIMITED, NETWORKS
    from alphakeel.provenance import load_data

    model = run.model_of(strategy_of(run, strategy)[0])
    fitted = () if model is None else run.fitted(model)
    announce_code(settings_of(run, fitted), quiet=quiet)
    if not {*NETWORKS, *LIMITED}.isdisjoint(fitted):
        Thread(target=import_module, args=("alphakeel.models.constrained",), daemon=True).start()
    own = run.config.data
    section = replace(own, source=own.source if data is None else data, end=None)
    panel, *_ = load_data(replace(run.config, data=section))
    return panel


def record(run: SavedRun, decision: DailyDecision) -> str:
    """Write a decision into the journal of its run."""
    from alphakeel.live.decision import live_folder
    from alphakeel.live.journal import Journal

    return Journal(live_folder(run) / "journal").record(decision, dt.date.today())


def _age(panel: Any, as_of: str | None, max_age: int) -> int:
    """Days since the last day of the data; too many are refused."""
    import numpy as np

    days = np.asarray(panel.observations, dtype="datetime64[D]")
    now = np.datetime64(dt.date.today(), "D")
    if as_of is not None:
        try:
            now = np.datetime64(dt.date.fromisoformat(as_of), "D")
        except ValueError as error:
            raise ConfigError(f"--as-of is {as_of!r}; give a day as YYYY-MM-DD.") from error
        days = days[days <= now]
        if not len(days):
            raise DataError(f"the data begin after {as_of}: there is nothing to decide on.")
    age = int((now - days[-1]).astype(int))
    if age > max_age:
        raise DataError(
            f"the data end on {days[-1]}, {age} days ago, and --max-age allows {max_age}: bring "
            "newer data, or allow more days."
        )
    return age


def write_decision(decision: DailyDecision, out: Path) -> Path:
    """Write a decision into a folder of its own, all or nothing; the same one, the same bytes."""
    from alphakeel.data.spreadsheets import write_csv
    from alphakeel.files import folder_all_or_nothing, slug
    from alphakeel.live.orders import alpaca_basket, ib_basket

    target = out / f"{decision.day}-{slug(decision.strategy)}"
    tag = f"{decision.day}-{decision.run[-8:]}"
    with folder_all_or_nothing(target, "the decision") as scratch:
        text = json.dumps(decision.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        (scratch / "decision.json").write_text(text, encoding="utf-8")
        write_csv(decision.targets, scratch / "targets.csv", index=False)
        write_csv(decision.limits, scratch / "limits.csv", index=False)
        if decision.orders is not None:
            write_csv(decision.orders, scratch / "orders.csv", index=False)
            for name, text in (
                ("interactive_brokers.csv", ib_basket(decision.orders, tag)),
                ("alpaca.csv", alpaca_basket(decision.orders, tag)),
            ):
                (scratch / name).write_text(text, encoding="utf-8", newline="")
    return target


def monitor(
    run: RunArgument = None,
    data: DataOption = None,
    strategy: StrategyOption = None,
    fills: Annotated[
        Path | None,
        typer.Option("--fills", help="CSV of trades: date, ticker, side, shares, price."),
    ] = None,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Hold the journal of a run against its backtest, and say whether it still works.

    Exit code 4 where reality does not agree with the backtest; 0 otherwise.
    """
    with plain_errors(), without_collector():
        from alphakeel.live.monitor import monitor_run
        from alphakeel.storage.saved_runs import find_run

        opened = find_run(run, runs)
        panel = load_newer(opened, data, strategy, quiet=quiet)
        result = monitor_run(opened, panel, strategy=strategy, fills=fills)
        if as_json:
            typer.echo(json.dumps(result.to_dict(), ensure_ascii=False))
        elif not quiet:
            from alphakeel.cli.live_printing import print_monitor

            print_monitor(result)
        if _disagrees(result):
            raise typer.Exit(DISAGREES)


def _disagrees(result: Monitor) -> bool:
    from alphakeel.live.monitor import DISAGREES as WORD

    return result.verdict.word == WORD


def daily(
    run: RunArgument = None,
    data: DataOption = None,
    holdings: HoldingsOption = None,
    cash: CashOption = None,
    strategy: StrategyOption = None,
    max_age: AgeOption = MAX_AGE,
    min_trade: MinTradeOption = 0.0,
    keep_cash: KeepCashOption = 0.0,
    fractional: FractionalOption = False,
    as_of: AsOfOption = None,
    refit: RefitOption = False,
    update: Annotated[
        str | None,
        typer.Option("--update", help="Command that brings newer data first, run without a shell."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of pages and files. [default: beside runs]")
    ] = None,
    runs: RunsOption = Path("runs"),
    quiet: QuietOption = False,
) -> None:
    """Do all that a day needs: newer data, check, today, monitor, one page.

    On data that have not changed nothing is done twice. Exit codes: 0 done; 2 bad or old data;
    4 done, and reality does not agree with the backtest; 5 another process is doing it.
    """
    with plain_errors(), without_collector():
        from alphakeel.live import daily as job
        from alphakeel.live.decision import live_folder
        from alphakeel.storage.saved_runs import find_run

        opened = find_run(run, runs)
        folder = out or live_folder(opened) / "daily"
        options = {
            "holdings": _content(holdings),
            "cash": cash,
            "strategy": strategy,
            "min_trade": min_trade,
            "keep_cash": keep_cash,
            "fractional": fractional,
            "as_of": as_of,
            "refit": refit,
        }
        try:
            with job.locked(folder):
                if update is not None:
                    job.run_update(update)
                source = opened.config.data.source if data is None else data
                key = job.state_key(opened, source, options)
                state = job.read_state(folder)
                if state.get("key") == key and Path(str(state.get("page"))).is_file():
                    _refuse_old(state, as_of, max_age)
                    done = f"Nothing new since {state['day']}. {state['sentence']}"
                else:
                    panel = load_newer(opened, data, strategy, quiet=quiet)
                    _age(panel, as_of, max_age)
                    state = _do(opened, panel, folder, options | {"holdings": holdings})
                    job.write_state(folder, {**state, "key": key})
                    done = str(state["sentence"])
        except job.LockedError as error:
            typer.echo(f"alphakeel: {error}", err=True)
            raise typer.Exit(LOCKED) from error
        if not quiet:
            typer.echo(f"{done}\nPage    {state['page']}")
        if state["code"]:
            raise typer.Exit(int(state["code"]))


def _content(path: Path | None) -> str:
    """What the holdings are, so that a change of them is one."""
    if path is None:
        return ""
    from alphakeel.files import regular_file

    try:
        return regular_file(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from error


def _refuse_old(state: dict[str, Any], as_of: str | None, max_age: int) -> None:
    now = dt.date.today() if as_of is None else dt.date.fromisoformat(as_of)
    age = (now - dt.date.fromisoformat(str(state["day"]))).days
    if age > max_age:
        raise DataError(
            f"the data end on {state['day']}, {age} days ago, and --max-age allows {max_age}: "
            "bring newer data, or allow more days."
        )


def _do(run: SavedRun, panel: Any, folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Decide, write, monitor, and put all of it on one page."""
    from alphakeel.files import write_atomically
    from alphakeel.live.decision import decide_and_replay
    from alphakeel.live.monitor import monitor_run
    from alphakeel.report.plain_page import daily_page

    decision, own = decide_and_replay(
        run,
        panel,
        options["holdings"],
        cash=options["cash"],
        strategy=options["strategy"],
        day=options["as_of"],
        min_trade=options["min_trade"],
        keep_cash=options["keep_cash"],
        fractional=options["fractional"],
        refit_now=options["refit"],
        recent=False,
    )
    write_decision(decision, folder)
    difference = record(run, decision)
    if difference:
        typer.echo(f"warning: {difference}", err=True)
    result = monitor_run(run, panel, strategy=decision.strategy, day=options["as_of"], own=own)
    page = folder / f"{decision.day}.html"
    write_atomically(page, daily_page(decision, result).encode(), durable=True)
    write_atomically(folder / "index.html", page.read_bytes(), durable=True)
    return {
        "day": str(decision.day),
        "page": str(page),
        "sentence": f"{decision.day}, {decision.strategy}. Verdict: {result.verdict.sentence}",
        "code": DISAGREES if _disagrees(result) else 0,
    }
