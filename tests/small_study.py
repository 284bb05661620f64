"""Studies of eight synthetic stocks, from a table that a test may change first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from alphakeel.data.bundled import load_bundled
from alphakeel.data.panel import panel_from_long, panel_to_long
from alphakeel.results import Study
from alphakeel.storage.runs import save_run, summary_json
from alphakeel.study import run_study
from helpers import tiny_config

PRICES = panel_to_long(load_bundled("synthetic", n_assets=8, n_dates=560, seed=1))
DAYS = np.sort(PRICES["date"].unique())


def day(row: int) -> str:
    return str(DAYS[row])[:10]


def study_of(prices: pd.DataFrame, **sections: dict[str, Any]) -> Study:
    return run_study(panel_from_long(prices), tiny_config(**sections), name="small")


def without_index(when: Callable[[pd.Series], Any]) -> pd.DataFrame:
    """The prices, with no value of the index on these dates."""
    return PRICES.assign(market_index=PRICES["market_index"].mask(when(PRICES["date"])))


def assert_finite_tables(study: Study, folder: Path) -> None:
    """Every table, and a run folder, without an infinite number."""
    for name, table in study.tables().items():
        numbers = table.select_dtypes("number").to_numpy(dtype=np.float64)
        assert not np.isinf(numbers).any(), name
    json.dumps(summary_json(study), allow_nan=False)
    assert (save_run(study, folder) / "run.json").is_file()
