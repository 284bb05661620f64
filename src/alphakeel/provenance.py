"""Where a study's numbers come from: data by name, their hash, versions, what to beware of."""

from __future__ import annotations

import datetime as dt
import hashlib
import platform
from dataclasses import replace
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from skfolio.containers import AssetPanel

from alphakeel.config import StudyConfig
from alphakeel.data.bundled import BUNDLED, load_bundled
from alphakeel.data.cleaning import Jumps
from alphakeel.data.jumps import describe_ends, describe_jumps
from alphakeel.data.loading import read_panel
from alphakeel.data.panel import market_index
from alphakeel.errors import ConfigError
from alphakeel.factors.base import FactorSet

__all__ = [
    "as_sentence",
    "cautions",
    "describe_fields",
    "hash_panel",
    "load_data",
    "versions_at_work",
]

# Rows that are copied together to be hashed, of an array that does not lie in order.
_ROWS_HASHED = 256


def load_data(config: StudyConfig) -> tuple[AssetPanel, StudyConfig, str, tuple[str, ...]]:
    """Load the panel that the settings name, and complete the settings with its test window.

    Returns
    -------
    panel : AssetPanel
    config : StudyConfig
        With `walk_forward.test_start` and `test_end` filled in for bundled data.
    name : str
    notes : tuple of str
        How files were understood, where that moves numbers; sentences.

    Raises
    ------
    DataError
        If the data cannot be read or are wrong.
    """
    data = config.data
    if data.source in BUNDLED:
        panel = _between(load_bundled(data.source), data.start, data.end)
        if data.top:
            raise ConfigError(f"data.top applies to files; {data.source} is taken whole.")
        if data.universe not in ("members", "all"):
            raise ConfigError(f"data.universe {data.universe!r} is in no list of {data.source}.")
        if data.delisting_return:
            raise ConfigError(
                f"data.delisting_return applies to files; {data.source} is taken as it is."
            )
        if data.columns:
            raise ConfigError(f"data.columns applies to files; {data.source} is taken as it is.")
        window = BUNDLED[data.source].test_window
        if window is not None and data.start is None and data.end is None:
            start, end = (dt.date.fromisoformat(day) for day in window)
            walk = config.walk_forward
            walk = replace(walk, test_start=walk.test_start or start, test_end=walk.test_end or end)
            config = replace(config, walk_forward=walk)
        return panel, config, data.source, ()
    panel, notes = read_panel(
        data.source,
        start=data.start,
        end=data.end,
        universe=data.universe,
        top=data.top or None,
        delisting_return=data.delisting_return,
        columns=data.columns,
    )
    name = data.source.rstrip("/").rsplit("/", 1)[-1]
    return panel, config, name, tuple(map(as_sentence, notes))


def as_sentence(note: str) -> str:
    """A note with a capital letter and a full stop."""
    return f"{note[0].upper()}{note[1:]}."


def _between(panel: AssetPanel, start: dt.date | None, end: dt.date | None) -> AssetPanel:
    """The part of a panel between two dates, both included."""
    dates = np.asarray(panel.observations, dtype="datetime64[D]")
    keep = np.ones(len(dates), dtype=np.bool_)
    if start is not None:
        keep &= dates >= np.datetime64(start)
    if end is not None:
        keep &= dates <= np.datetime64(end)
    if keep.sum() < 2:
        raise ConfigError(
            f"data.start {start} and data.end {end} leave {keep.sum()} dates; "
            f"the data run from {dates[0]} to {dates[-1]}."
        )
    return panel if keep.all() else panel[np.flatnonzero(keep)].to_panel()


def hash_panel(panel: AssetPanel) -> str:
    """SHA-256 over dates, tickers, masks and fields: the same data, the same hash."""
    digest = hashlib.sha256()
    digest.update(np.asarray(panel.observations, dtype="datetime64[D]").tobytes())
    digest.update("\n".join(map(str, panel.asset_names)).encode())
    for name in sorted(panel.fields):
        digest.update(name.encode())
        _add(digest, panel[name])
    _add(digest, panel.active_mask)
    _add(digest, panel.estimation_mask)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, values: npt.NDArray[Any]) -> None:
    """Hash the bytes of an array row by row, as they lie in memory where they lie in order."""
    rows = len(values) if values.flags.c_contiguous else _ROWS_HASHED
    for start in range(0, len(values), max(rows, 1)):
        digest.update(np.ascontiguousarray(values[start : start + rows]).view(np.uint8).data)


def versions_at_work(config: StudyConfig) -> dict[str, str]:
    """Versions of Python and of every package that can move a number."""
    packages = ["alphakeel", "numpy", "scipy", "pandas", "scikit-learn", "skfolio", "torch"]
    packages += ["lightgbm"] if "lightgbm" in config.models else []
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{package: metadata.version(package) for package in packages},
    }


def describe_fields(panel: AssetPanel) -> pd.DataFrame:
    """Coverage of each field over listed stock-days, as fractions."""
    active = panel.active_mask
    rows = []
    for name, field in panel.fields.items():
        known = ~field.missing_mask & active
        days = np.flatnonzero(known.any(axis=1))
        rows.append(
            {
                "field": name,
                "coverage": known.sum() / active.sum(),
                "tickers": int(known.any(axis=0).sum()),
                "first_date": str(panel.observations[days[0]]) if len(days) else "",
                "last_date": str(panel.observations[days[-1]]) if len(days) else "",
            }
        )
    return pd.DataFrame(rows)


def cautions(
    panel: AssetPanel, factors: FactorSet, name: str, config: StudyConfig, jumps: Jumps
) -> tuple[str, ...]:
    """What a reader must know before believing a number; `jumps` are those of its cleaning.

    Settings name the bundled prices even where a panel was handed in: only data of that `name`,
    as `load_data` gives it, are these prices.
    """
    bundled = BUNDLED.get(name) if name == config.data.source else None
    known = [] if bundled is None else [bundled.caution]
    prices, tickers = panel["adj_close"], panel.asset_names
    dates = np.asarray(panel.observations, dtype="datetime64[D]")
    doubts = describe_jumps(prices, jumps, dates, tickers)
    doubts += describe_ends(prices, dates, tickers)
    notes = [*known, *map(as_sentence, doubts), *factors.notes]
    if factors.omitted:
        notes.append(
            f"{len(factors.omitted)} of {len(factors.omitted) + len(factors.names)} factors need "
            "fields that these data lack; the report lists them."
        )
    index = market_index(panel)
    if index is not None and not np.isfinite(index).all():
        gaps = np.flatnonzero(~np.isfinite(index))
        notes.append(
            f"The market index has no value on {len(gaps)} of {len(index)} days, the first "
            f"{np.datetime64(panel.observations[gaps[0]], 'D')}: what needs all of it (regimes, "
            "market shocks, beta) is left out."
        )
    if not known and bool(panel.active_mask[-1].all()):
        notes.append(
            "Every stock of this panel is still listed on its last day: companies that failed or "
            "were bought are missing, so levels of return are too high for all strategies alike "
            "(survivorship bias)."
        )
    return tuple(notes)
