"""Frames of fractions to tables of text that people read: per cent, thousands, intervals."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alphakeel.model_factory import under_overlay

__all__ = ["Cell", "Column", "Table", "make_table", "show"]

MINUS = "\N{MINUS SIGN}"
THIN = "\N{NARROW NO-BREAK SPACE}"
UNKNOWN = "–"
_OVERLAY = under_overlay("")
_COMPANIONS = ("_low", "_high", "_p")


@dataclass(frozen=True)
class Column:
    """How one column is headed, formatted and explained (`about` is the tooltip)."""

    label: str
    kind: str = "ratio"
    about: str = ""


@dataclass(frozen=True)
class Cell:
    """Text of one cell, its small print (an interval) and whether it is a number."""

    text: str
    note: str = ""
    number: bool = True


@dataclass(frozen=True)
class Table:
    """A table ready for the page; the first `n_keys` cells of each row are its headings.

    A line is drawn above the rows in `breaks`: a new group begins there.
    """

    caption: str
    head: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    n_keys: int = 1
    folded: bool = False
    kind: str = "table"
    breaks: tuple[int, ...] = ()


def _column(label: str, kind: str, about: str = "") -> Column:
    return Column(label, kind, about)


COLUMNS: dict[str, Column] = {
    "annual_return": _column("Return", "percent", "Compounded, per year, after costs"),
    "annual_volatility": _column("Volatility", "percent", "Of daily returns, times root 252"),
    "sharpe": _column("Sharpe", "ratio", "Mean over standard deviation of daily returns, annual"),
    "max_drawdown": _column("Max drawdown", "percent", "Largest loss from a peak, compounded"),
    "var_95": _column("VaR 95 %", "percent2", "Historical, one day"),
    "cvar_95": _column("CVaR 95 %", "percent2", "Mean loss on the days beyond VaR"),
    "calmar": _column("Calmar", "ratio", "Annual return over maximum drawdown"),
    "sortino": _column("Sortino", "ratio", "Mean over downside deviation, annual"),
    "turnover": _column("Turnover", "times", "Times a year that the whole portfolio is replaced"),
    "cost_drag": _column("Cost", "percent2", "Return a year lost to costs"),
    "beta": _column("Beta", "ratio", "To the market index"),
    "max_drawdown_change": _column("Max drawdown", "change", "Negative: a smaller loss"),
    "sharpe_difference": _column("Sharpe, difference", "signed", "Positive: better"),
    "sharpe_change": _column("Sharpe, change", "change", "As a share of the benchmark's"),
    "var_95_change": _column("VaR 95 %", "change", "Negative: a smaller loss"),
    "ic": _column("IC", "small", "Mean correlation of scores and returns across stocks"),
    "rank_ic": _column("Rank IC", "small", "The same of ranks (Spearman)"),
    "nw_t": _column("t", "ratio", "Newey-West, which allows for overlapping returns"),
    "icir": _column("ICIR", "ratio", "Mean over standard deviation of the IC"),
    "hit_rate": _column("Hit rate", "percent", "Share of dates with a positive Rank IC"),
    "n": _column("Dates", "count"),
    "q_value": _column(
        "q", "p", "Share of false factors to expect among this one and all that are stronger"
    ),
    "coverage": _column("Coverage", "percent", "Share of stock-days on which it is known"),
    "sign_stability": _column("Sign stability", "percent", "Share of sub-periods of one sign"),
    "cluster": _column("Stands for it", "text", "The strongest of the factors that say the same"),
    "vif": _column("VIF", "ratio", "How far the other factors explain this one"),
    "kept": _column("Kept", "flag"),
    "annual_turnover": _column("Turnover", "times", "Times a year that it is all replaced"),
    "mean_invested": _column("Invested", "percent", "Mean share of wealth in stocks"),
    "cost_share_of_initial_wealth": _column("Costs in all", "percent", "Of the initial wealth"),
    "gross_annual_return": _column("Return before costs", "percent2", "Compounded, per year"),
    "net_annual_return": _column("Return after costs", "percent2", "Compounded, per year"),
    "trading_days": _column("Days with trades", "count"),
    "blocked_orders": _column("Blocked orders", "count", "The stock was suspended that day"),
    "forced_sales": _column("Forced sales", "count", "Delisted, paid out at the last price"),
    "mean_cash": _column("Cash", "percent", "Mean share of wealth"),
    "cells": _column("Cells", "count", "Numbers changed, or stock-days held out of the sample"),
    "tickers": _column("Tickers", "count"),
    "limit_orders": _column("At price limits", "count", "Orders refused at a price limit"),
    "cut_orders": _column("Cut orders", "count", "Larger than the allowed share of the volume"),
    "small_orders": _column("Below a lot", "count", "Orders rounded away to whole lots"),
    "weight": _column("Weight", "percent"),
    "average": _column("Average weight", "percent"),
    "exceedances": _column("Exceedances", "count", "Days that lost more than the VaR"),
    "rate": _column("Share", "percent", "To compare with 5 % at a level of 95 %"),
    "kupiec_p": _column("Kupiec p", "p", "Is their number right?"),
    "independence_p": _column("Clusters p", "p", "Do they come in clusters? Christoffersen"),
    "conditional_p": _column("Both p", "p", "Number and clusters together: Christoffersen"),
    "dynamic_p": _column("Dynamic p", "p", "Could they be foretold? Engle and Manganelli"),
    "mean_var": _column("Mean VaR", "percent2", "Of the forecasts"),
    "verdict": _column("Verdict", "text"),
    "mean_exposure": _column("Mean exposure", "percent", "Share of wealth that was held"),
    "least_exposure": _column("Least", "percent", "Smallest exposure"),
    "changes": _column("Changes a year", "count", "Days on which exposure was decided anew"),
    "days": _column("Days", "count"),
    "mean_return": _column("Mean a day", "percent3"),
    "deepest_drawdown": _column(
        "Deepest drawdown", "percent", "Reached on days of the regime, on the full path"
    ),
    "drawdown_share": _column(
        "Of the max drawdown", "percent", "Part of the largest loss that fell on these days"
    ),
    "total_return": _column("Return", "percent"),
    "share_of_market": _column("Of the market's", "ratio", "Its return over the market's"),
    "exposure_before": _column("Exposure before", "percent", "At the close before"),
    "alone": _column("Alone", "percent2", "Only this factor falls"),
    "together": _column("Together", "percent2", "The others move as they usually do"),
    "slope": _column("Slope", "ratio"),
    "r2": _column("R²", "ratio"),
    "recognised": _column("Recognised", "text"),
    "lag_days": _column("Days late", "count"),
    "already": _column("Already there", "flag", "The label was left from an earlier leg"),
    "missed": _column("Move missed", "percent", "Of the index, until it was recognised"),
    "seconds": _column("Seconds", "count1"),
}


def show(value: Any, kind: str) -> str:
    r"""Format one value for people; fractions become per cent.

    Parameters
    ----------
    value : object
        A number, text, flag or date; None and NaN become a dash.
    kind : str
        ``whole``, ``percent``, ``percent2``, ``percent3``, ``change``, ``points``, ``points2``,
        ``ratio``, ``signed``, ``small``, ``times``, ``count``, ``count1``, ``p``, ``flag`` or
        ``text``.

    Examples
    --------
    >>> show(-0.1234, "percent"), show(12345, "count"), show(float("nan"), "ratio")
    ('−12.3\u202f%', '12,345', '–')
    """
    if value is None or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return UNKNOWN
    if kind == "flag":
        return "yes" if value else "no"
    if kind == "text" or not isinstance(value, (int, float, np.integer, np.floating)):
        return str(value)
    formats = {
        "whole": f"{100 * value:.4g}{THIN}%",
        "percent": f"{100 * value:.1f}{THIN}%",
        "percent2": f"{100 * value:.2f}{THIN}%",
        "percent3": f"{100 * value:.3f}{THIN}%",
        "change": f"{100 * value:+.0f}{THIN}%",
        "points": f"{100 * value:+.1f}",
        "points2": f"{100 * value:+.2f}",
        "ratio": f"{value:.2f}",
        "signed": f"{value:+.2f}",
        "small": f"{value:.3f}",
        "times": f"{value:.1f}{THIN}×",
        "count": f"{value:,.0f}",
        "count1": f"{value:,.1f}",
        "p": "< 0.01" if value < 0.01 else f"{value:.2f}",
    }
    text = formats[kind]
    is_zero = not any(c in "123456789" for c in text)
    return text.lstrip("-+") if is_zero and kind != "p" else text.replace("-", MINUS)


def make_table(
    frame: pd.DataFrame,
    caption: str,
    *,
    kind: str | None = None,
    columns: Mapping[str, Column] | None = None,
    folded: bool = False,
) -> Table:
    """Lay a frame out: its index as headings, ``x_low`` and ``x_high`` as small print under ``x``.

    Parameters
    ----------
    frame : DataFrame
        A named index (or several levels) becomes the row headings; an unnamed one is left out.
    caption : str
    kind : str, optional
        Format of columns that are not known by name; default by their type.
    columns : mapping, optional
        Formats that go before the known ones.
    folded : bool
        The page shows the table only when asked.

    Returns
    -------
    Table
    """
    known = {**COLUMNS, **(columns or {})}
    levels = [name for name in frame.index.names if name is not None]
    breaks = _breaks(frame.index)
    flat = frame.reset_index() if levels else frame
    n_keys = len(levels) or 1
    keys = [c for c in flat.columns if not _is_companion(c, flat)]
    head = [_heading(c, flat, known, kind, is_key=i < n_keys) for i, c in enumerate(keys)]
    rows = tuple(
        tuple(
            Cell(
                show(row[c], h.kind),
                _small_print(row, c, h.kind),
                number=h.kind not in ("text", "flag"),
            )
            for c, h in zip(keys, head, strict=True)
        )
        for row in flat.to_dict("records")
    )
    return Table(caption, tuple(head), rows, n_keys, folded, breaks=breaks)


def _breaks(index: pd.Index[Any]) -> tuple[int, ...]:
    """Where a new group begins: another first level, or the first strategy under the overlay."""
    first = [str(value) for value in index.get_level_values(0)]
    if index.nlevels == 1:
        first = [str(value.endswith(_OVERLAY)) for value in first]
    return tuple(k for k in range(1, len(first)) if first[k] != first[k - 1])


def _is_companion(name: Hashable, frame: pd.DataFrame) -> bool:
    text = str(name)
    return any(text.endswith(s) and text[: -len(s)] in frame.columns for s in _COMPANIONS)


def _heading(
    name: Hashable,
    frame: pd.DataFrame,
    known: Mapping[str, Column],
    kind: str | None,
    *,
    is_key: bool,
) -> Column:
    parts = [str(p) for p in name] if isinstance(name, tuple) else [str(name)]
    label = " · ".join(p for p in parts if p)
    values = frame[name]
    if is_key and not pd.api.types.is_float_dtype(values):
        return Column(known[label].label if label in known else _words(label), "text")
    if parts[-1] in known:
        found = known[parts[-1]]
        return Column(" · ".join([*parts[:-1], found.label]), found.kind, found.about)
    if pd.api.types.is_bool_dtype(values):
        return Column(_words(label), "flag")
    if not pd.api.types.is_numeric_dtype(values):
        return Column(_words(label), "text")
    by_type = "count" if pd.api.types.is_integer_dtype(values) else "ratio"
    return Column(_words(label), kind or by_type)


def _small_print(row: Mapping[Hashable, Any], name: Hashable, kind: str) -> str:
    low, high, p = (row.get(f"{name}{s}") for s in _COMPANIONS)
    parts = [] if low is None or np.isnan(low) else [f"{show(low, kind)} to {show(high, kind)}"]
    if p is not None and not np.isnan(p):
        below = show(p, "p")
        parts.append(f"p {below}" if below.startswith("<") else f"p = {below}")
    return ", ".join(parts)


def _words(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]
