"""What the terminal shows of a decision, of its journal, and of the runs there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from alphakeel.live.decision import DailyDecision
    from alphakeel.live.monitor import Monitor

__all__ = ["console_of", "print_decision", "print_monitor", "table_of"]

# Rows of a table on the terminal; the files have all.
MOST_ROWS = 30


def print_decision(decision: DailyDecision, age: int, written: Path | None) -> None:
    """Print what to hold, the orders, the risk, the limits and the warnings."""
    from rich.markup import escape

    console = console_of()
    when = "today" if age == 0 else "1 day ago" if age == 1 else f"{age} days ago"
    console.print(
        f"\n[bold]{escape(decision.strategy)}[/], after the close of {decision.day} ({when})"
    )
    console.print(f"Why: {escape(decision.reason)}", highlight=False)
    console.print(f"Run: {escape(decision.run)}", highlight=False)
    if len(decision.targets):
        console.print(_targets(decision, console.width))
    invested = float(decision.targets["weight"].sum())
    exposure = "" if decision.exposure == 1.0 else f", overlay exposure {decision.exposure:.0%}"
    console.print(f"Stocks {invested:.1%}, cash {1.0 - invested:.1%}{exposure}.")
    if decision.hedge_text:
        console.print(decision.hedge_text, highlight=False)
    if decision.orders is not None:
        _print_orders(console, decision)
    _print_risk(console, decision)
    for warning in decision.warnings:
        console.print(f"[yellow]Note:[/] {escape(warning)}", highlight=False)
    trade = {1: "the next close", 2: "the second close from now"}.get(
        decision.lag, f"the close {decision.lag} trading days from now"
    )
    then = (
        f"The backtest trades this at {trade}."
        if decision.new
        else "The backtest trades nothing now."
    )
    console.print(f"{then} Nothing has been sent to anybody.", highlight=False)
    if written is not None:
        console.print(f"Files   {escape(str(written))}", soft_wrap=True)


def _targets(decision: DailyDecision, width: int) -> Table:
    """Target weights, with as many reasons as there is room for."""
    table = _table("Target weights", ["Stock"], ["Weight"])
    explained = (decision.targets["for_1"] != "").any()
    wide = width >= 76 and explained
    if wide:
        table.add_column("Speaks for it", overflow="fold")
        table.add_column("Speaks against it", overflow="fold")
    count = 3 if width >= 118 else 2 if width >= 96 else 1
    for row in decision.targets.head(MOST_ROWS).to_dict("records"):
        cells = [str(row["ticker"]), f"{row['weight']:.2%}"]
        if wide:
            for side in ("for", "against"):
                named = [row[f"{side}_{n + 1}"] for n in range(count)]
                cells.append(", ".join(text for text in named if text))
        table.add_row(*map(_safe, cells))
    _more(table, len(decision.targets))
    return table


def _print_orders(console: Console, decision: DailyDecision) -> None:
    from rich.markup import escape

    orders, account = decision.orders, decision.account
    assert orders is not None  # noqa: S101  (asked only where there is an account)
    if len(orders):
        wide = console.width >= 60
        table = _table(
            "Orders", ["Side", "Stock"], ["Shares", *(["Price"] if wide else []), "Value"]
        )
        for row in orders[orders["shares"] > 0.0].head(MOST_ROWS).to_dict("records"):
            price = [f"{row['price']:,.2f}"] if wide else []
            shares = f"{row['shares']:,.6f}".rstrip("0").rstrip(".")
            table.add_row(row["side"], _safe(row["ticker"]), shares, *price, f"{row['value']:,.0f}")
        _more(table, int((orders["shares"] > 0.0).sum()))
        console.print(table)
        for row in orders[orders["note"] != ""].to_dict("records"):
            console.print(f"  {escape(row['ticker'])}: {row['note']}.", highlight=False)
    else:
        console.print("No orders: the account holds what it should.")
    console.print(
        f"Account {account['wealth']:,.2f}: cash {account['cash']:,.2f} before, "
        f"{account['cash_after']:,.2f} after; orders cost about {account['cost']:,.2f} and turn "
        f"over {account['turnover']:.1%}.",
        highlight=False,
    )


def _print_risk(console: Console, decision: DailyDecision) -> None:
    from math import isfinite

    risk = decision.risk
    fall = risk["drawdown_95"]
    console.print(
        f"Expected: volatility {risk['volatility']:.1%} a year; one-day VaR 95 % "
        f"{risk['var_95']:.2%}"
        + (
            f"; next year's drawdown stays under {fall:.0%} in 19 of 20." if isfinite(fall) else "."
        ),
        highlight=False,
    )
    if len(decision.limits):
        table = _table("Limits", ["Limit"], ["Allowed", "Before", "After"])
        for row in decision.limits.to_dict("records"):
            count = row["limit"] == "stocks held"
            shown = [
                f"{row[name]:.0f}" if count else f"{row[name]:.2%}"
                for name in ("allowed", "before", "after")
            ]
            table.add_row(row["limit"], *shown)
        console.print(table)


def table_of(title: str, frame: Any) -> Table:
    """A frame as a table of the terminal; numbers as they are written."""
    names = [str(name) for name in frame.columns]
    numbers = [name for name in names if frame[name].dtype.kind in "fi"]
    table = _table(title, [], [])
    for name in names:
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for row in frame.to_dict("records"):
        table.add_row(*(_safe(_text(row[name])) for name in names))
    return table


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}"
    return str(value)


def _table(title: str, texts: list[str], numbers: list[str]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title=title, title_justify="left"
    )
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _more(table: Table, n_rows: int) -> None:
    if n_rows > MOST_ROWS:
        table.caption = f"... and {n_rows - MOST_ROWS} more; --out writes them all."


def _safe(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def console_of() -> Console:
    """The terminal, or 100 columns for a file or a pipe."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal and "COLUMNS" not in console._environ:
        console = Console(width=100)  # a file or a pipe has no width of its own
    return console


def print_monitor(monitor: Monitor) -> None:
    """Print the verdict, what it rests on, the drift of factors, and the journal."""
    from rich.markup import escape

    console = console_of()
    colour = {"agrees": "green", "does not agree": "bold red"}.get(monitor.verdict.word, "yellow")
    console.print(f"\n[bold]{escape(monitor.strategy)}[/] of run {escape(monitor.run)}")
    console.print(f"[{colour}]Verdict: {escape(monitor.verdict.sentence)}[/]", highlight=False)
    answer = "yes" if monitor.retrain[0] else "no"
    console.print(f"Retrain now? {answer}: {escape(monitor.retrain[1])}", highlight=False)
    if len(monitor.measures):
        console.print(table_of("Live against the backtest", monitor.measures))
    if len(monitor.drift):
        console.print(table_of("Factors that moved most", monitor.drift.head(5)))
    names = ["day", "stocks", "invested"]
    names += [name for name in ("return", "rank_ic", "same") if name in monitor.decisions]
    console.print(table_of("Journal, the latest last", monitor.decisions[names].tail(10)))
    if "hindsight" in monitor.decisions and monitor.decisions["hindsight"].any():
        number = int(monitor.decisions["hindsight"].sum())
        console.print(
            f"[dim]Note: {number} of {len(monitor.decisions)} decisions were written more than a "
            "week after their day: they are no live record.[/]"
        )
