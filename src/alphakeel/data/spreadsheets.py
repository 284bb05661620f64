"""CSV tables for people, who open them in a spreadsheet: no text in them becomes a formula."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd

from alphakeel.files import write_atomically

__all__ = ["csv_text", "write_csv"]

# A cell that begins like this is computed when it is opened: a ticker "=cmd|..." would run.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
# A plus and one word: it computes nothing, and labels such as "+ overlay" keep their names.
_PLUS_A_WORD = re.compile(r"\+ [a-z]+")


def write_csv(frame: pd.DataFrame, path: Path, *, index: bool) -> None:
    """Write a table as CSV, with an apostrophe before every text that would be a formula.

    Texts are cells, headers and the index. Numbers stay as they are, also those held as text.
    The file is written whole or not at all.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "table.csv"
    ...     write_csv(pd.DataFrame({"ticker": ["=A1", "A"], "pnl": [-1, 2]}), file, index=False)
    ...     print(file.read_text().strip())
    ticker,pnl
    '=A1,-1
    A,2
    """
    write_atomically(Path(path), csv_text(frame, index=index).encode(), durable=False)


def csv_text(frame: pd.DataFrame, *, index: bool) -> str:
    """What `write_csv` writes."""
    safe = frame.copy(deep=False)
    safe.columns, safe.index = _escaped_labels(frame.columns), _escaped_labels(frame.index)
    for place, dtype in enumerate(frame.dtypes):
        if _may_hold_text(dtype):
            cells = frame.iloc[:, place].astype(object).map(_escaped)
            safe.isetitem(place, cells.to_numpy(dtype=object))
    return str(safe.to_csv(None, index=index))


def _escaped_labels(labels: pd.Index) -> pd.Index:
    """Headers or an index, of one or of several levels, with their names."""
    names = [_escaped(name) for name in labels.names]
    if isinstance(labels, pd.MultiIndex):
        rows = [tuple(map(_escaped, row)) for row in labels]
        return pd.MultiIndex.from_tuples(rows, names=names) if rows else labels.set_names(names)
    safe = pd.Index([*map(_escaped, labels)]) if _may_hold_text(labels.dtype) else labels
    return safe.set_names(names)


def _may_hold_text(dtype: Any) -> bool:
    return (
        isinstance(dtype, pd.CategoricalDtype)
        or pd.api.types.is_object_dtype(dtype)
        or pd.api.types.is_string_dtype(dtype)
    )


def _escaped(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if _PLUS_A_WORD.fullmatch(value):
        return value
    text = value.replace("\r", " ")  # unquoted in a CSV, what follows it would be a cell of its own
    return f"'{text}" if value.startswith(_FORMULA) and not _is_number(value) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
