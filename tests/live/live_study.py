"""A small study that is saved: 14 simulated stocks, a linear model and two tiny networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from skfolio.containers import AssetPanel

from alphakeel.data.simulation import simulate_market
from alphakeel.results import Study
from alphakeel.storage.runs import save_run
from alphakeel.storage.saved_runs import SavedRun, open_run
from alphakeel.study import run_study
from helpers import TINY_NETWORK, tiny_config

N_DATES = 800


@dataclass(frozen=True, eq=False)
class Saved:
    """A study, its panel, and the run that it was saved as."""

    panel: AssetPanel
    study: Study
    run: SavedRun

    def row(self, day: np.datetime64) -> int:
        """Row of a day among the days of the test."""
        return int(np.searchsorted(self.study.dates, day)) - self.study.test.start

    def until(self, day: np.datetime64) -> AssetPanel:
        """The panel as it was on a day."""
        n_days = int(np.searchsorted(self.study.dates, day, side="right"))
        return self.panel.isel(observations=slice(0, n_days)).to_panel()

    @property
    def decision_days(self) -> np.ndarray:
        """The days of the test on which something was decided."""
        return self.study.dates[self.study.decisions[self.study.plan.tested]]


def save_small(folder: Path, *models: str, **sections: object) -> Saved:
    panel = simulate_market(n_assets=14, n_dates=N_DATES, seed=3).panel
    config = tiny_config(
        models=list(models), network=TINY_NETWORK, walk_forward={"refit_every": 100}, **sections
    )
    study = run_study(panel, config, name="simulated")
    return Saved(panel, study, open_run(save_run(study, folder)))
