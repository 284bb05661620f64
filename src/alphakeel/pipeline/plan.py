"""The plan of a study, made before anything is computed: decisions, folds, models, factors."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from skfolio.containers import AssetPanel

from alphakeel.config import COMBINED, StudyConfig
from alphakeel.data.panel import market_index, riskless_rate
from alphakeel.errors import ConfigError, DataError
from alphakeel.factors import FACTORS
from alphakeel.factors.base import Factor
from alphakeel.factors.custom import CustomFactors, column_factors, load_factors
from alphakeel.model_factory import LABELS, check_models, models_asked_for, reads_days
from alphakeel.models.custom import CustomModels
from alphakeel.pipeline.calendar import decision_days, default_test_start, refit_rows
from alphakeel.provenance import hash_panel, versions_at_work
from alphakeel.stats.splits import Fold, Labels, walk_forward

__all__ = ["Plan", "labels_of"]

# Fewer days have no standard error of a Sharpe ratio.
_LEAST_DAYS = 10


@dataclass(frozen=True, eq=False)
class Plan:
    """Days, decisions, folds, models and factors of a study.

    Attributes
    ----------
    config : StudyConfig
        The settings, with the test window filled in.
    name : str
        Of the data.
    custom : CustomFactors
        The user's own factors.
    custom_models : CustomModels
        The user's own models, those that `models` names.
    library : tuple of Factor
        Every factor to compute: those that the settings leave out are not among them.
    models : tuple of str
        The linear one first, for everything is compared with it, and the combined one last.
    assets : tuple of str
    dates : ndarray of shape (n_dates,), datetime64[D]
    test : slice
        Days of the test.
    decisions : ndarray of shape (n_decisions,) of int
        Days at whose close there is a decision; the folds count these.
    folds : tuple of Fold
        Of the walk-forward, purged by the longest label and the embargo.
    notes : tuple of str
        On the calendar, for the reader.
    panel_hash : str
        SHA-256 of the whole panel as it was handed in.
    versions : dict of str to str
        Of every package, and of the user's own factors and models, that can move a number.
    """

    config: StudyConfig
    name: str
    custom: CustomFactors
    custom_models: CustomModels
    library: tuple[Factor, ...]
    models: tuple[str, ...]
    assets: tuple[str, ...]
    dates: npt.NDArray[np.datetime64]
    test: slice
    decisions: npt.NDArray[np.intp]
    folds: tuple[Fold, ...]
    notes: tuple[str, ...]
    panel_hash: str
    versions: dict[str, str]

    @classmethod
    def of(
        cls,
        panel: AssetPanel,
        config: StudyConfig,
        name: str = "panel",
        *,
        panel_hash: str | None = None,
    ) -> Plan:
        """Plan a study of a panel; settings that contradict each other or the data are refused.

        The panel is hashed unless its hash is given.
        """
        columns = config.data.columns
        custom = load_factors(config.factors.custom, columns=columns, fields=panel.fields)
        kept = column_factors(columns)
        library = (*FACTORS, *kept, *custom.factors)
        _refuse_unknown_factors(config, library)
        check_models(config)
        own = models_asked_for(config)
        _refuse_lacking_columns(panel, kept)
        _refuse_lacking_fields(panel, config)
        dates = np.asarray(panel.observations, dtype="datetime64[D]")
        decisions = decision_days(dates, config.walk_forward.rebalance)
        test, note = _find_test(dates, decisions, config)
        config = _with_test_dates(config, dates[test])
        decisions = decisions[decisions < test.stop]
        return cls(
            config=config,
            name=name,
            custom=custom,
            custom_models=own,
            library=tuple(f for f in library if f.name not in config.factors.exclude),
            models=_in_order(config.models),
            assets=tuple(map(str, panel.asset_names)),
            dates=dates,
            test=test,
            decisions=decisions,
            folds=_make_folds(decisions, dates, test, config),
            notes=tuple(filter(None, (note, _unused_models(config)))),
            panel_hash=hash_panel(panel) if panel_hash is None else panel_hash,
            versions=versions_at_work(config) | custom.versions | own.versions,
        )

    @property
    def fitted(self) -> tuple[str, ...]:
        """The models that are fitted: all but the combined one."""
        return tuple(model for model in self.models if model != COMBINED)

    @property
    def labels(self) -> dict[str, str]:
        """What a reader calls each model of ours, and of the user's, by its name."""
        return {**LABELS, **self.custom_models.labels}

    @property
    def reads_days(self) -> bool:
        """Whether a model reads days between decisions."""
        return any(reads_days(model, self.config) for model in self.models)

    @property
    def tested(self) -> slice:
        """The decisions of the test, as a range of `decisions`."""
        return slice(int(np.searchsorted(self.decisions, self.test.start)), len(self.decisions))

    def before_test(self) -> Plan:
        """The same plan on the days before the test, which a search may read."""
        return replace(
            self,
            dates=self.dates[: self.test.start],
            test=slice(self.test.start, self.test.start),
            decisions=self.decisions[: self.tested.start],
            folds=(),
        )


def labels_of(
    decisions: npt.NDArray[np.intp], config: StudyConfig, *further: int
) -> tuple[Labels, int]:
    """Labels of decisions for `stats.splits`, and the embargo, in days; `further` horizons in days.

    A decision is judged by its forward returns, and by what is held until the next one is traded.
    """
    horizons = (*config.target.horizons, *further)
    labels = Labels.of(decisions, lag=config.target.lag, horizons=horizons)
    return labels, config.walk_forward.embargo


def _unused_models(config: StudyConfig) -> str:
    """A note where a file of models is named for nothing."""
    if not config.custom_models or config.own_models:
        return ""
    return (
        f"custom_models names {Path(config.custom_models).name}, and models names none of its "
        "models: the file was not run."
    )


def _in_order(models: Sequence[str]) -> tuple[str, ...]:
    """The linear model first, and the combined one, which needs the others, last."""
    fitted = tuple(model for model in models if model not in ("linear", COMBINED))
    return ("linear", *fitted, *((COMBINED,) if COMBINED in models else ()))


def _make_folds(
    decisions: npt.NDArray[np.intp],
    dates: npt.NDArray[np.datetime64],
    test: slice,
    config: StudyConfig,
) -> tuple[Fold, ...]:
    walk = config.walk_forward
    first = int(np.searchsorted(decisions, test.start))
    tested = decisions[first:]
    labels, embargo = labels_of(decisions, config)
    return walk_forward(
        labels,
        starts=[first + row for row in refit_rows(dates[tested], tested, walk.refit_every)],
        embargo=embargo,
        train_days=walk.train_days or None,
    )


def _find_test(
    dates: npt.NDArray[np.datetime64], decisions: npt.NDArray[np.intp], config: StudyConfig
) -> tuple[slice, str]:
    """Days of the test, which begins with a decision, and a note on that."""
    walk, note = config.walk_forward, ""
    shortest = config.cleaning.min_history + 2 * (config.target.lag + max(config.target.horizons))
    if walk.test_start is not None:
        start = int(np.searchsorted(dates, np.datetime64(walk.test_start)))
    else:
        start, note = default_test_start(dates, shortest)
    stop = len(dates)
    if walk.test_end is not None:
        stop = int(np.searchsorted(dates, np.datetime64(walk.test_end), side="right"))
    tested = decisions[(decisions >= start) & (decisions < stop)]
    begin = int(tested[0]) if len(tested) else stop
    if stop - begin < _LEAST_DAYS or len(tested) < 2:
        raise ConfigError(
            f"walk_forward leaves {max(0, stop - begin)} test days and {len(tested)} decisions "
            f"between {walk.test_start or 'the default start'} and {walk.test_end or 'the end'}, "
            f"and at least {_LEAST_DAYS} days and 2 decisions are needed; the data run from "
            f"{dates[0]} to {dates[-1]}."
        )
    _check_confirmation(dates, slice(begin, stop), config)
    if start < shortest:
        raise DataError(
            f"only {start} days precede the test start {dates[start]}, and at least {shortest} "
            f"are needed to train on (data start {dates[0]}); start the test later or add history."
        )
    return slice(begin, stop), note


def _check_confirmation(
    dates: npt.NDArray[np.datetime64], test: slice, config: StudyConfig
) -> None:
    confirm = config.report.confirm_from
    if confirm is None:
        return
    left = test.stop - max(test.start, int(np.searchsorted(dates, np.datetime64(confirm))))
    if left < _LEAST_DAYS:
        raise ConfigError(
            f"report.confirm_from {confirm} leaves {max(0, left)} days of the test, and at "
            f"least {_LEAST_DAYS} are needed; the test runs from {dates[test.start]} to "
            f"{dates[test.stop - 1]}."
        )


def _with_test_dates(config: StudyConfig, tested: npt.NDArray[np.datetime64]) -> StudyConfig:
    """Settings with the test window filled in, so that a run folder records it."""
    first, last = (day.astype(dt.date) for day in tested[[0, -1]])
    walk = replace(config.walk_forward, test_start=first, test_end=last)
    return replace(config, walk_forward=walk)


def _refuse_unknown_factors(config: StudyConfig, library: Sequence[Factor]) -> None:
    """Refuse an excluded factor that does not exist, naming the nearest, and to exclude all."""
    known = {factor.name for factor in library}
    for name in config.factors.exclude:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise ConfigError(
                f"factors.exclude names {name!r}, which is no factor"
                + (f"; did you mean {near[0]}?" if near else ".")
            )
    if known <= set(config.factors.exclude):
        raise ConfigError("factors.exclude leaves no factor: keep at least one.")


def _refuse_lacking_columns(panel: AssetPanel, kept: Sequence[Factor]) -> None:
    """Refuse a column of the user's own that the panel lacks."""
    for factor in kept:
        if factor.name not in panel.fields:
            raise DataError(
                f"data.columns names {factor.name!r}, and the panel has no such field: read the "
                "data with it, as load_panel(path, columns=[...]) does, or take it out."
            )


def _refuse_lacking_fields(panel: AssetPanel, config: StudyConfig) -> None:
    """Refuse settings that need what the data lack, before anything is fitted."""
    index = market_index(panel)
    if config.allocation.neutral == "beta" and index is None:
        raise ConfigError(
            'allocation.neutral = "beta" needs a market index, and the data have none: give one '
            '(docs/data-format.md), or set allocation.neutral to "dollar".'
        )
    _refuse_lacking_benchmark(panel, config)
    if config.costs.preset == "cn" and "close" not in panel.fields:
        raise DataError(
            'costs.preset = "cn" needs the closes as traded, for price limits and lots: give the '
            'data a column `close` beside the adjusted one, or set costs.preset to "flat".'
        )
    if config.costs.cash_rate == "data" and riskless_rate(panel) is None:
        raise DataError(
            'costs.cash_rate = "data" needs a rate of cash by date, and the data have none: put '
            "riskless.csv with the columns date and rate beside the prices (docs/data-format.md), "
            "or give costs.cash_rate a number."
        )
    if config.overlay.bear_exposure is not None and (index is None or not np.isfinite(index).all()):
        raise DataError(
            "overlay.bear_exposure needs a market index with a value on every day, and the "
            "data have none: give one, or leave the setting out."
        )


def _refuse_lacking_benchmark(panel: AssetPanel, config: StudyConfig) -> None:
    """Refuse a benchmark, a limit against it or a hedge that the data do not allow."""
    alloc, index = config.allocation, market_index(panel)
    if alloc.benchmark == "cap_weight" and "market_cap" not in panel.fields:
        raise DataError(
            'allocation.benchmark = "cap_weight" needs market values, and the data have no column '
            'market_cap: give one (docs/data-format.md), or set it to "equal_weight".'
        )
    limits_sectors = alloc.method == "enhanced_index" and alloc.sector_limit is not None
    if limits_sectors and "sector" not in panel.fields:
        raise DataError(
            "allocation.sector_limit needs the stocks' sectors, and the data have none: give a "
            "column sector (docs/data-format.md), or leave the limit out."
        )
    wants = ["allocation.hedge"] if alloc.hedge else []
    if alloc.benchmark == "index":
        wants.append('allocation.benchmark = "index"')
    if wants and (index is None or not np.isfinite(index).all()):
        raise DataError(
            f"{wants[0]} needs a market index with a value on every day, and the data have none: "
            "give one (docs/data-format.md), or leave the setting out."
        )
