"""What a study settles before anything is computed: days, decisions, folds, models, factors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from skfolio.containers import AssetPanel

from alphakeel.arena import refuse_lacking
from alphakeel.config import StudyConfig
from alphakeel.custom_factors import CustomFactors, load_factors
from alphakeel.factors import FACTORS
from alphakeel.factors.base import Factor
from alphakeel.preparation import (
    find_test_days,
    make_folds,
    refuse_unknown_factors,
    with_test_dates,
)
from alphakeel.provenance import versions_at_work
from alphakeel.roster import check_models
from alphakeel.stats.folds import Fold

__all__ = ["Plan"]


@dataclass(frozen=True, eq=False)
class Plan:
    """What a study will do.

    Attributes
    ----------
    config : StudyConfig
        The settings, with the test window filled in.
    custom : CustomFactors
        The user's own factors.
    library : tuple of Factor
        Every factor to compute: those that the settings leave out are not among them.
    models : tuple of str
        The linear one first: everything is compared with it.
    assets : tuple of str
    dates : ndarray of shape (n_dates,), datetime64[D]
    days : slice
        Those of the test.
    rows : ndarray of shape (n_decisions,) of int
        Days at whose close there is a decision; the folds count these.
    folds : tuple of Fold
    versions : dict of str to str
        Of every package, and of the user's own factors, that can move a number.
    """

    config: StudyConfig
    custom: CustomFactors
    library: tuple[Factor, ...]
    models: tuple[str, ...]
    assets: tuple[str, ...]
    dates: npt.NDArray[np.datetime64]
    days: slice
    rows: npt.NDArray[np.intp]
    folds: tuple[Fold, ...]
    versions: dict[str, str]

    @classmethod
    def of(cls, panel: AssetPanel, config: StudyConfig) -> Plan:
        """Plan a study of a panel, and refuse at once what could not end.

        Raises
        ------
        ConfigError, DataError
            If settings contradict each other or the data.
        """
        custom = load_factors(config.factors.custom)
        library = (*FACTORS, *custom.factors)
        refuse_unknown_factors(config, library)
        check_models(config)
        refuse_lacking(panel, config)
        dates = np.asarray(panel.observations, dtype="datetime64[D]")
        days = find_test_days(dates, config)
        config = with_test_dates(config, dates[days])
        # The grid of decisions is anchored at the first test day, so that testing starts with one.
        step = config.walk_forward.rebalance_every
        rows = np.arange(days.start % step, days.stop, step)
        return cls(
            config=config,
            custom=custom,
            library=tuple(f for f in library if f.name not in config.factors.exclude),
            models=("linear", *(model for model in config.models if model != "linear")),
            assets=tuple(map(str, panel.asset_names)),
            dates=dates,
            days=days,
            rows=rows,
            folds=make_folds(rows, days, config),
            versions=versions_at_work(config) | custom.versions,
        )
