"""Columns of no known name that a user keeps: their fields, the files beside the prices, faults."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from skfolio.containers import AssetPanel

from alphakeel.data.columns import SPELLINGS, field_of, identifier, normalised_name, recognise
from alphakeel.data.layouts import Reading, kind_of, read_wide
from alphakeel.data.quotation import TOLD, hints_in
from alphakeel.data.side_files import add_rows, add_values
from alphakeel.data.tables import Table, first_values, read_table, stem_of
from alphakeel.data.tickers import match_tickers
from alphakeel.data.validation import PANEL_FIELDS, PRICE_FIELDS, Problem
from alphakeel.errors import ConfigError, DataError

__all__ = [
    "add_columns",
    "coverage_notes",
    "is_beside_prices",
    "lacking_columns",
    "own_fields",
    "tables_beside",
]

# Names that a panel, or a file, has for something else.
_TAKEN = {
    *(*PANEL_FIELDS, *SPELLINGS, "member", "market_index", "riskless_rate", "accounting_close"),
}


def own_fields(columns: Sequence[str]) -> dict[str, str]:
    """The field of each column that a user keeps, by the column's normalised name.

    ``"name = Column"`` gives the field of a column another name.

    Raises
    ------
    ConfigError
        If a name is that of something else, or stands there twice.

    Examples
    --------
    >>> own_fields(["short_interest", "Analyst Revision"])
    {'shortinterest': 'short_interest', 'analystrevision': 'analyst_revision'}
    >>> own_fields(["margin_debt = 融资余额"])
    {'融资余额': 'margin_debt'}
    """
    fields: dict[str, str] = {}
    for column in columns:
        label, _, header = column.rpartition("=")
        name, field = normalised_name(header), identifier(label or header)
        said = f"data.columns names {column!r}"
        known = next((f for f, row in SPELLINGS.items() if name in row), field_of(header))
        hint = next(iter(hints_in([header])), None)
        if not name:
            raise ConfigError(f"{said}, which has no letter and no digit: give a column's name.")
        if known is not None or hint is not None:
            meaning = known if hint is None else TOLD[hint]
            raise ConfigError(
                f"{said}, which is read anyway ({meaning}): take it out of data.columns, or give "
                "the column another name if it holds something else."
            )
        if field in _TAKEN:
            raise ConfigError(
                f"{said}, and {field} is another field of a panel: give it another name, as "
                f'"my_{field} = {header.strip()}" does.'
            )
        if not field.isascii() or not field:
            raise ConfigError(
                f"{said}, and a field needs a name in Latin letters: give it one, as "
                f'"my_name = {header.strip()}" does.'
            )
        if name in fields or field in fields.values():
            raise ConfigError(f"{said}, which stands there twice: name each column once.")
        fields[name] = field
    return fields


def is_beside_prices(table: Table) -> bool:
    """Whether a file has columns that a user keeps and no prices.

    That is one with a row per date and stock, or dates and stocks under the name of the column.
    """
    if not table.own or table.levels:
        return False
    kind = kind_of(table)
    if kind == "wide":
        return normalised_name(stem_of(table.name)) in table.own
    understood, _ = recognise(list(table.columns), where=table.name, own=table.own)
    kept = understood.keys() & set(table.own.values())
    return kind == "long" and bool(kept) and not understood.keys() & set(PRICE_FIELDS)


def tables_beside(files: Sequence[Path], own: Mapping[str, str], reading: Reading) -> list[Table]:
    """Those of the files of a folder that hold the user's own columns; a damaged one is told."""
    tables = []
    for file in files:
        try:
            table = read_table(file, own)
            if is_beside_prices(table):
                tables.append(table)
        except DataError as error:
            if normalised_name(stem_of(file.name)) in own:
                reading.problems.append(Problem("", "", "", str(error)))
    return tables


def add_columns(reading: Reading, tables: Sequence[Table]) -> None:
    """Join files that are `is_beside_prices`; their faults become problems."""
    for table in tables if len(reading.grid.dates) else ():
        try:
            _add_table(reading, table)
        except DataError as error:
            reading.problems.append(Problem("", "", "", str(error)))


def _add_table(reading: Reading, table: Table) -> None:
    """Place the columns of a file on the dates and stocks of the prices."""
    if kind_of(table) != "wide":
        reading.samples = {**first_values([table]), **reading.samples}
        add_rows(reading, table, tuple(table.own.values()))
        return
    name = table.own[normalised_name(stem_of(table.name))]
    beside = read_wide([table], [name], where=table.name)
    reading.problems += beside.problems
    reading.notes += beside.notes
    for column, meaning in beside.columns:
        if meaning != "date":
            reading.columns += ((column, name),)
            reading.samples[column] = beside.samples[column]
    grid = beside.grid
    if not len(grid.dates):
        return
    match = match_tickers(grid.tickers, reading.grid.tickers, what=table.name)
    reading.cautions.append(match.note)
    rows, columns = np.nonzero(~np.isnan(grid.fields[name]))
    stocks = pd.Series(grid.tickers[columns]).map(match.ticker_of)
    values = {name: grid.fields[name][rows, columns]}
    add_values(reading, values, grid.dates[rows], stocks, table)


def lacking_columns(reading: Reading, own: Mapping[str, str], path: Path) -> list[Problem]:
    """The columns that a user keeps and no file has, each with the nearest names that are there."""
    found = reading.grid.fields.keys()
    others = {column for column, _ in reading.columns} | set(reading.grid.tickers.tolist())
    unused = [column for column in reading.samples if column not in others]
    names = {normalised_name(column): column for column in unused}
    problems = []
    for name, field in own.items():
        if field in found:
            continue
        near = [names[key] for key in difflib.get_close_matches(name, names, 3)]
        if near:
            hint = f"did you mean {' or '.join(repr(column[:24]) for column in near)}?"
        elif reading.layout == "store":
            hint = f"put a file with date, ticker and {field} into the folder of the store."
        elif names:
            listed = ", ".join(repr(column[:24]) for column in list(names.values())[:12])
            hint = f"the columns without another use are {listed}."
        else:
            hint = "every column there is has another use; add the column, or take it out."
        said = f"data.columns names {field!r}, and {path.name} has no such column"
        problems.append(Problem("", "", field, f"{said}: {hint}"))
    return problems


def coverage_notes(panel: AssetPanel, own: Mapping[str, str]) -> list[str]:
    """How much of each column that a user keeps is known over the listed stock-days."""
    notes = []
    active = panel.active_mask
    for name in own.values():
        known = ~np.isnan(panel[name]) & active
        days = panel.observations[known.any(axis=1)].astype("datetime64[D]")
        when = f", from {days[0]} to {days[-1]}" if len(days) else ""
        notes.append(
            f"{name} is kept as a field and a factor: known on {known.sum() / active.sum():.0%} of "
            f"stock-days, for {int(known.any(axis=0).sum())} of {active.shape[1]} stocks{when}"
        )
    return notes
