"""Frames of fractions to tables of text that people read: per cent, thousands, intervals."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from alphakeel.model_factory import under_overlay

__all__ = ["Cell", "Column", "ReportTable", "make_table", "p_text", "show"]

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
class ReportTable:
    """A table of text: a row begins with `n_keys` headings, a row in `breaks` begins a group."""

    caption: str
    head: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    n_keys: int = 1
    folded: bool = False
    kind: str = "table"
    breaks: tuple[int, ...] = ()


COLUMNS: dict[str, Column] = {
    "annual_return": Column("Return", "percent", "Compounded, per year, after costs"),
    "annual_volatility": Column("Volatility", "percent", "Of daily returns, times root 252"),
    "sharpe": Column("Sharpe", "ratio", "Mean over standard deviation of returns, annualised"),
    "max_drawdown": Column("Max drawdown", "percent", "Largest loss from a peak, compounded"),
    "var_95": Column("VaR 95 %", "percent2", "Historical, one day"),
    "cvar_95": Column("CVaR 95 %", "percent2", "Mean loss on the days beyond VaR"),
    "calmar": Column("Calmar", "ratio", "Annual return over maximum drawdown"),
    "sortino": Column("Sortino", "ratio", "Mean over downside deviation, annualised"),
    "turnover": Column("Turnover", "times", "Times a year that the whole portfolio is replaced"),
    "cost_drag": Column("Cost", "percent2", "Annual return lost to costs"),
    "beta": Column("Beta", "ratio", "To the market index"),
    "max_drawdown_change": Column("Max drawdown, change", "change", "Negative: a smaller loss"),
    "sharpe_difference": Column("Sharpe, difference", "signed", "Positive: better"),
    "sharpe_change": Column("Sharpe, change", "change", "As a share of the benchmark's"),
    "var_95_change": Column("VaR 95 %, change", "change", "Negative: a smaller loss"),
    "ic": Column("IC", "small", "Mean correlation of scores and returns across stocks"),
    "rank_ic": Column("Rank IC", "small", "The same of ranks (Spearman)"),
    "nw_t": Column("t", "ratio", "Newey-West, which allows for overlapping returns"),
    "icir": Column("ICIR", "ratio", "Mean over standard deviation of the IC"),
    "hit_rate": Column("Hit rate", "percent", "Share of dates with a positive Rank IC"),
    "n": Column("Dates", "count"),
    "q_value": Column(
        "q", "p", "Expected share of false discoveries among this factor and all stronger ones"
    ),
    "coverage": Column("Coverage", "percent", "Share of stock-days on which the factor is known"),
    "sign_stability": Column("Sign stability", "percent", "Share of sub-periods of the same sign"),
    "cluster": Column("Representative", "text", "The strongest factor of its correlated group"),
    "vif": Column("VIF", "ratio", "Variance inflation by the other factors"),
    "kept": Column("Kept", "flag"),
    "annual_turnover": Column(
        "Turnover", "times", "Times a year that the whole portfolio is replaced"
    ),
    "mean_invested": Column("Invested", "percent", "Mean share of wealth in stocks"),
    "cost_share_of_initial_wealth": Column("Total costs", "percent", "Share of the initial wealth"),
    "gross_annual_return": Column("Return before costs", "percent2", "Compounded, per year"),
    "net_annual_return": Column("Return after costs", "percent2", "Compounded, per year"),
    "trading_days": Column("Days with trades", "count"),
    "blocked_orders": Column("Blocked orders", "count", "The stock was suspended that day"),
    "forced_sales": Column("Forced sales", "count", "Delisted, paid at the last price"),
    "mean_cash": Column("Cash", "percent", "Mean share of wealth"),
    "cells": Column("Cells", "count", "Values changed, or stock-days left out of the sample"),
    "tickers": Column("Tickers", "count"),
    "limit_orders": Column("At price limits", "count", "Orders refused at a price limit"),
    "cut_orders": Column("Cut orders", "count", "Larger than the allowed share of the volume"),
    "small_orders": Column("Below a lot", "count", "Orders rounded down to zero lots"),
    "weight": Column("Weight", "percent"),
    "average": Column("Average weight", "percent"),
    "exceedances": Column("Exceedances", "count", "Days that lost more than the VaR"),
    "rate": Column("Share", "percent", "Expected: 5 % at a level of 95 %"),
    "kupiec_p": Column("Kupiec p", "p", "Is the number of exceedances right?"),
    "independence_p": Column("Clusters p", "p", "Do exceedances cluster? Christoffersen"),
    "conditional_p": Column("Both p", "p", "Number and clusters together: Christoffersen"),
    "dynamic_p": Column("Dynamic p", "p", "Can exceedances be predicted? Engle and Manganelli"),
    "mean_var": Column("Mean VaR", "percent2", "Of the forecasts"),
    "verdict": Column("Result", "text"),
    "mean_exposure": Column("Mean exposure", "percent", "Share of wealth invested"),
    "least_exposure": Column("Minimum", "percent", "Smallest exposure"),
    "changes": Column("Changes a year", "count", "Days on which the exposure was changed"),
    "days": Column("Days", "count"),
    "mean_return": Column("Mean per day", "percent3"),
    "deepest_drawdown": Column(
        "Deepest drawdown", "percent", "Reached on days of the regime, along the full path"
    ),
    "drawdown_share": Column(
        "Share of max drawdown", "percent", "Part of it that occurred on these days"
    ),
    "total_return": Column("Return", "percent"),
    "share_of_market": Column("Share of market", "ratio", "Return over the return of the market"),
    "exposure_before": Column("Exposure before", "percent", "At the close before the window"),
    "alone": Column("Alone", "percent2", "Only this factor falls"),
    "together": Column("Together", "percent2", "The others move as they usually do"),
    "slope": Column("Slope", "ratio"),
    "r2": Column("R²", "ratio"),
    "recognised": Column("Recognised", "text"),
    "lag_days": Column("Days late", "count"),
    "already": Column("Already labelled", "flag", "The label was left from an earlier leg"),
    "missed": Column("Move missed", "percent", "Of the index, before it was recognised"),
    "rung": Column("Step", "text"),
    "active_return": Column(
        "Active return", "percent", "252 times the mean daily return over the benchmark's"
    ),
    "active_return_difference": Column(
        "Active return, difference", "percent", "To the baseline; the benchmark cancels"
    ),
    "tracking_error": Column(
        "Tracking error", "percent", "Standard deviation of the active return, annualised"
    ),
    "tracking_error_limit": Column("Allowed", "percent", "Limit of the forecast tracking error"),
    "information_ratio": Column("Information ratio", "ratio", "Active return over tracking error"),
    "information_ratio_difference": Column("Information ratio, difference", "signed"),
    "relative_drawdown": Column(
        "Relative drawdown", "percent", "Largest fall of wealth over the benchmark's"
    ),
    "mean_hedge": Column("Mean hedge", "percent", "Index sold short, a share of wealth"),
    "largest_hedge": Column("Largest hedge", "percent"),
    "least_beta": Column("Least beta", "ratio", "Forecast at a decision"),
    "largest_beta": Column("Largest beta", "ratio", "Forecast at a decision"),
    "hedge_cost": Column("Cost of hedge", "percent2", "A year, a share of wealth"),
}


def show(value: Any, kind: str) -> str:
    r"""Format one value for people: fractions as per cent; None and NaN as a dash.

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


def p_text(p: float) -> str:
    """A p-value with its sign: ``p = 0.37`` or ``p < 0.01``."""
    text = show(p, "p")
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def make_table(
    frame: pd.DataFrame,
    caption: str,
    *,
    kind: str | None = None,
    columns: Mapping[str, Column] | None = None,
    folded: bool = False,
) -> ReportTable:
    """Lay a frame out: a named index as headings, ``x_low`` and ``x_high`` in small print.

    `columns` go before the known ones; `kind` is the format of columns that neither knows.
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
    return ReportTable(caption, tuple(head), rows, n_keys, folded, breaks=breaks)


def _breaks(index: pd.Index[Any]) -> tuple[int, ...]:
    """Where a new group begins: another first level, or the first strategy with the overlay."""
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
        column = known[parts[-1]]
        return Column(" · ".join([*parts[:-1], column.label]), column.kind, column.about)
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
        parts.append(p_text(p))
    return ", ".join(parts)


def _words(name: str) -> str:
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]
