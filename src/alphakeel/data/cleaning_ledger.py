"""The record of everything that cleaning changed or left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["ELIGIBLE", "CleaningLedger", "LedgerWriter"]

ELIGIBLE = "eligible"


@dataclass(frozen=True, eq=False)
class CleaningLedger:
    """Every change, one row each, in columns.

    A changed number has its value before and after. A stock that a rule takes out of the sample
    has a row with field ``"eligible"`` going from 1 to 0 on the first day out, and one going from
    0 to 1 on the day the rule lets it back in: a stock is eligible while listed and held out by
    no rule. Rows follow the order in which rules were applied.

    Attributes
    ----------
    row, column : int32 ndarray of shape (n_changes,)
        Position in `dates` and `asset_names`.
    field_code, rule_code : int8 ndarray of shape (n_changes,)
        Position in `field_names` and `rule_names`.
    before, after : float64 ndarray of shape (n_changes,)
        In the field's unit; NaN: missing.
    days_out : int64 ndarray of shape (n_rules,)
        Stock-days that the rule held out of the sample; 0 for rules that change numbers.
    dates : datetime64[D] ndarray of shape (n_dates,)
    asset_names : str ndarray of shape (n_assets,)
    field_names, rule_names : tuple of str
    """

    row: NDArray[np.int32]
    column: NDArray[np.int32]
    field_code: NDArray[np.int8]
    rule_code: NDArray[np.int8]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    days_out: NDArray[np.int64]
    dates: NDArray[np.datetime64]
    asset_names: NDArray[np.str_]
    field_names: tuple[str, ...]
    rule_names: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.row)

    def to_frame(self) -> pd.DataFrame:
        """Return all rows by date, ticker and field.

        Returns
        -------
        DataFrame
            Columns `ticker`, `date`, `field`, `before`, `after`, `rule`.
        """
        order = np.lexsort((self.field_code, self.column, self.row))
        return pd.DataFrame(
            {
                "ticker": self.asset_names[self.column[order]],
                "date": self.dates[self.row[order]].astype("datetime64[s]"),
                "field": _labels(self.field_code[order], self.field_names),
                "before": self.before[order],
                "after": self.after[order],
                "rule": _labels(self.rule_code[order], self.rule_names),
            }
        )

    def counts(self) -> pd.DataFrame:
        """Return what each rule did, rules that did nothing included.

        Returns
        -------
        DataFrame
            Columns `rule`, `cells` (numbers changed, or stock-days held out of the sample) and
            `tickers` (stocks concerned).
        """
        changed = np.bincount(self.rule_code[self._is_change()], minlength=len(self.rule_names))
        tickers = [
            len(np.unique(self.column[self.rule_code == code]))
            for code in range(len(self.rule_names))
        ]
        return pd.DataFrame(
            {"rule": list(self.rule_names), "cells": changed + self.days_out, "tickers": tickers}
        )

    def counts_by_ticker(self) -> pd.DataFrame:
        """Return the numbers changed by stock and rule.

        Returns
        -------
        DataFrame of shape (n_assets, n_rules)
            Changed numbers; for rules that hold stocks out, how often they did.
        """
        n_rules = len(self.rule_names)
        begins = self._is_change() | (self.after == 0.0)
        cell = self.column[begins].astype(np.int64) * n_rules + self.rule_code[begins]
        table = np.bincount(cell, minlength=len(self.asset_names) * n_rules)
        return pd.DataFrame(
            table.reshape(-1, n_rules),
            index=pd.Index(self.asset_names, name="ticker"),
            columns=pd.Index(self.rule_names, name="rule"),
        )

    def _is_change(self) -> NDArray[np.bool_]:
        return self.field_code != self.field_names.index(ELIGIBLE)


def _labels(codes: NDArray[np.int8], names: Sequence[str]) -> pd.Categorical[str]:
    return pd.Categorical.from_codes(codes, categories=pd.Index(names))


class LedgerWriter:
    """Collects changes while cleaning runs.

    Parameters
    ----------
    field_names, rule_names : sequence of str
        All that may occur, `ELIGIBLE` among the fields.
    """

    def __init__(self, field_names: Sequence[str], rule_names: Sequence[str]) -> None:
        self._fields = tuple(field_names)
        self._rules = tuple(rule_names)
        self._days_out = np.zeros(len(self._rules), dtype=np.int64)
        self._pieces: list[tuple[NDArray[Any], ...]] = []

    def changed(
        self,
        field: str,
        rule: str,
        where: NDArray[np.bool_],
        before: NDArray[np.float64],
        after: NDArray[np.float64],
    ) -> None:
        """Record the cells of `where` whose value really changed."""
        row, column = np.nonzero(where)
        old, new = before[row, column], after[row, column]
        differ = ~((old == new) | (np.isnan(old) & np.isnan(new)))
        self._append(field, rule, row[differ], column[differ], old[differ], new[differ])

    def held_out(self, rule: str, out: NDArray[np.bool_], active: NDArray[np.bool_]) -> None:
        """Record when a rule starts and stops to hold listed stocks out of the sample."""
        self._days_out[self._rules.index(rule)] = np.count_nonzero(out)
        begins, ends = out.copy(), np.zeros_like(out)
        begins[1:] &= ~out[:-1]
        ends[1:] = out[:-1] & ~out[1:] & active[1:]
        for where, before, after in ((begins, 1.0, 0.0), (ends, 0.0, 1.0)):
            row, column = np.nonzero(where)
            ones = np.ones(len(row))
            self._append(ELIGIBLE, rule, row, column, before * ones, after * ones)

    def _append(
        self,
        field: str,
        rule: str,
        row: NDArray[np.intp],
        column: NDArray[np.intp],
        before: NDArray[np.float64],
        after: NDArray[np.float64],
    ) -> None:
        codes = (self._fields.index(field), self._rules.index(rule))
        field_code, rule_code = (np.full(len(row), code, dtype=np.int8) for code in codes)
        self._pieces.append(
            (row.astype(np.int32), column.astype(np.int32), field_code, rule_code, before, after)
        )

    def close(self, dates: NDArray[np.datetime64], asset_names: NDArray[np.str_]) -> CleaningLedger:
        """Return the finished ledger."""
        joined = [np.concatenate(piece) for piece in zip(*self._pieces, strict=True)]
        for values in joined:
            values.flags.writeable = False
        row, column, field_code, rule_code, before, after = joined
        return CleaningLedger(
            row=row,
            column=column,
            field_code=field_code,
            rule_code=rule_code,
            before=before,
            after=after,
            days_out=self._days_out,
            dates=dates,
            asset_names=asset_names,
            field_names=self._fields,
            rule_names=self._rules,
        )
