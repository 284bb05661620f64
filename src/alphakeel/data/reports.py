"""Company reports as filed, beside the prices of a folder: each with the day it became public."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from alphakeel.data.layouts import as_series
from alphakeel.data.tables import SUFFIXES, read_table

__all__ = ["read_reports"]


def read_reports(source: str | Path) -> pd.DataFrame | None:
    """Read `fundamentals.parquet` (or `.csv`, ...) of a folder of prices.

    Parameters
    ----------
    source : str or Path
        The folder; anything else has no reports.

    Returns
    -------
    DataFrame or None
        The table's own columns, unchecked; None where there is no such file.

    Raises
    ------
    DataError
        If the file cannot be read.

    Examples
    --------
    >>> read_reports("sp500") is None
    True
    """
    files = (Path(source) / f"fundamentals{suffix}" for suffix in SUFFIXES)
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        return None
    columns = read_table(found).columns
    return pd.DataFrame({name: as_series(values) for name, values in columns.items()})
