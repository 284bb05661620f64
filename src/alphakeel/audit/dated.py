"""Every dated number of a study up to a day: what another future must not move by a bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.models.persistence import ModelState
from alphakeel.pipeline.dataset import Dataset
from alphakeel.pipeline.model_results import DECAY
from alphakeel.results import Study
from alphakeel.stats.exposure_rules import LIMITED

__all__ = ["DatedArray", "arrays_of_days", "dated_arrays", "first_difference"]

Array = NDArray[Any]
Days = NDArray[np.datetime64]
Columns = NDArray[np.intp]

_BY_DAY = ("sample", "price", "last_price", "returns")
_LABELS = ("targets", "forward")


@dataclass(frozen=True, eq=False)
class DatedArray:
    """Values up to a day.

    Attributes
    ----------
    stage : str
        ``"cleaning"``, ``"factors"``, ``"scaling"``, ``"screen"``, ``"scores"``, ``"fits"``,
        ``"weights"`` or ``"regimes"``.
    name : tuple of str
        Of the array in its stage, unique.
    values : ndarray of shape (n_days, ...)
    days : ndarray of shape (n_days,), datetime64[D]
        On which each row was known; of a fit and of a screen the last day of training.
    labels : tuple of str
        Tickers, or factors in a screen, of the second axis; empty where it has no names.
    """

    stage: str
    name: tuple[str, ...]
    values: Array
    days: Days
    labels: tuple[str, ...] = ()


def dated_arrays(study: Study, row: int, columns: Columns) -> Iterator[DatedArray]:
    """Every dated array of a study, known at the close of a row, in the order of the stages.

    Forward returns, and what is measured by them, are given where they were known by then.
    `columns` are the stocks to give, in the order that is wanted. Tables without dates are sums of
    these arrays.
    """
    yield from _of_dataset(study, row, columns)
    yield from arrays_of_days(study.dataset, row, columns)
    yield from _of_screens(study, row)
    yield from _of_scores(study, row, columns)
    yield from _of_fits(study, row)
    yield from _of_portfolios(study, row, columns)
    if study.regimes is not None:
        days = study.dates[: row + 1]
        for rule, labels in study.regimes.causal.items():
            yield DatedArray("regimes", (rule,), labels[: row + 1], days)


def first_difference(
    one: DatedArray, other: DatedArray, *, rounding: float = 0.0
) -> tuple[int, int] | None:
    """Row, and place on the second axis, of the first value that differs; None if none does.

    By a bit, or by more than `rounding` times the largest value of its row.
    """
    a, b = one.values, other.values
    if a.shape != b.shape:
        return 0, 0
    moved = a != b
    if np.issubdtype(a.dtype, np.floating):
        moved &= ~(np.isnan(a) & np.isnan(b))
        if rounding:
            largest = np.abs(np.nan_to_num(a.reshape(len(a), -1))).max(axis=1, initial=0.0)
            slack = (rounding * largest).reshape(-1, *[1] * (a.ndim - 1))
            moved &= ~(np.abs(a - b) <= slack)
    if not moved.any():
        return None
    flat = moved.reshape(len(moved), -1)
    day = int(np.argmax(flat.any(axis=1)))
    return day, int(np.argmax(flat[day])) if one.labels else 0


def _tickers(study: Study, columns: Columns) -> tuple[str, ...]:
    return tuple(map(str, study.asset_names[columns]))


def _of_dataset(study: Study, row: int, columns: Columns) -> Iterator[DatedArray]:
    dataset, days, stocks = study.dataset, study.dates[: row + 1], _tickers(study, columns)
    cleaned = {name: dataset.panel[name] for name in dataset.panel.keys()}  # noqa: SIM118
    cleaned |= {name: getattr(dataset, name) for name in _BY_DAY}
    for name, values in cleaned.items():
        yield DatedArray("cleaning", (name,), values[: row + 1, columns], days, stocks)
    decided = study.decisions[study.decisions <= row]
    past, days = slice(0, len(decided)), study.dates[decided]
    for stage, values in (("factors", dataset.raw), ("scaling", dataset.features)):
        for k, name in enumerate(dataset.names):
            yield DatedArray(stage, (name,), values[past, columns, k], days, stocks)
    for k, name in enumerate(dataset.market_names):
        yield DatedArray("factors", (name,), dataset.market[past, k], days)
    for name in ("volatility", "eligible"):
        yield DatedArray("scaling", (name,), getattr(dataset, name)[past, columns], days, stocks)
    for h, horizon in enumerate(dataset.horizons):
        known = _known(study, row, horizon)
        for name in _LABELS:
            values = getattr(dataset, name)[: len(known), columns, h]
            yield DatedArray(
                "scaling", (name, f"{horizon} days"), values, study.dates[known], stocks
            )


def arrays_of_days(dataset: Dataset, row: int, columns: Columns) -> Iterator[DatedArray]:
    """What networks read on days, up to the last decision at a row; nothing where none does."""
    daily, decided = dataset.daily, dataset.decisions[dataset.decisions <= row]
    if daily is None or not len(decided):
        return
    past = slice(0, int(decided[-1]) + 1)
    days, stocks = dataset.dates[past], tuple(map(str, dataset.assets[columns]))
    for k, name in enumerate(daily.names):
        values = daily.features[past, columns, k]
        yield DatedArray("scaling", (name, "every day"), values, days, stocks)
    for k, name in enumerate(daily.market_names):
        yield DatedArray("factors", (name, "of every day"), daily.market[past, k], days)
    for name in ("volatility", "eligible"):
        values = getattr(daily, name)[past, columns]
        yield DatedArray("scaling", (name, "every day"), values, days, stocks)
    for h, horizon in enumerate(daily.horizons):
        known = slice(0, max(0, min(past.stop, row + 1 - daily.lag - horizon)))
        for name in _LABELS:
            values = getattr(daily, name)[known, columns, h]
            label = (name, f"{horizon} days", "every day")
            yield DatedArray("scaling", label, values, dataset.dates[known], stocks)


def _known(study: Study, row: int, horizon: int) -> NDArray[np.intp]:
    """Decisions whose forward return is known at a row."""
    return study.decisions[study.decisions + study.config.target.lag + horizon <= row]


def _past_folds(study: Study, row: int) -> Iterator[tuple[int, Any, Days]]:
    """Folds whose test has begun by a row, with the last day of their training."""
    for number, fold in enumerate(study.folds):
        if fold.test[0] <= study.dates[row]:
            yield number, fold, np.array([fold.train[1]])


def _of_screens(study: Study, row: int) -> Iterator[DatedArray]:
    for number, fold, day in _past_folds(study, row):
        table = fold.verdicts.set_index("factor").sort_index()
        factors = tuple(map(str, table.index))
        for name in table.columns:
            values = table[name].to_numpy()
            values = values.astype(str) if values.dtype == object else values
            yield DatedArray("screen", (name, f"fold {number + 1}"), values[None], day, factors)


def _of_scores(study: Study, row: int, columns: Columns) -> Iterator[DatedArray]:
    decided = study.decisions[study.decisions <= row]
    days, past, stocks = study.dates[decided], slice(0, len(decided)), _tickers(study, columns)
    horizons = study.config.target.horizons
    for model in study.models.values():
        by_stock = {"scores": model.scores}
        if model.weights is not None:
            by_stock["target weights"] = model.weights
        if model.members is not None:
            by_stock |= {f"scores of network {k + 1}": own for k, own in enumerate(model.members)}
        for name, values in by_stock.items():
            yield DatedArray("scores", (model.label, name), values[past][:, columns], days, stocks)
        if model.safety is not None:
            own = model.safety[past]
            yield DatedArray("scores", (model.label, "safety factors"), own, days, LIMITED)
        for name, spans in (("ic", horizons), ("rank_ic", horizons), ("decay", DECAY)):
            for h, horizon in enumerate(spans):
                known = _known(study, row, horizon)
                values = getattr(model, name)[: len(known), h]
                label = (model.label, name, f"{horizon} days")
                yield DatedArray("scores", label, values, study.dates[known])


def _of_fits(study: Study, row: int) -> Iterator[DatedArray]:
    for number, _, day in _past_folds(study, row):
        for model in study.models.values():
            if model.combination is not None:
                own = model.combination.query("fold == @number")["weight"].to_numpy()
                yield DatedArray(
                    "fits", (model.label, f"fold {number + 1}", "weights"), own[None], day
                )
                continue
            chosen = model.choices[number]
            known = np.append(chosen.rank_ics, float(chosen.best))
            yield DatedArray(
                "fits", (model.label, f"fold {number + 1}", "choice"), known[None], day
            )
            fitted = model.fitted[number]
            arrays = fitted.arrays if isinstance(fitted, ModelState) else {}  # the user's has none
            for name, values in arrays.items():
                label = (model.label, f"fold {number + 1}", name)
                yield DatedArray("fits", label, np.asarray(values)[None], day)


def _of_portfolios(study: Study, row: int, columns: Columns) -> Iterator[DatedArray]:
    """Every array by test day inside the portfolios, whatever it is called."""
    n_days, until = study.test.stop - study.test.start, row - study.test.start + 1
    if until <= 0:
        return
    days, stocks = study.dates[study.test][:until], _tickers(study, columns)
    for name, values in _leaves(study.portfolios, ()):
        if not values.ndim or len(values) != n_days:
            continue
        if values.ndim == 2 and values.shape[1] == len(study.asset_names):
            yield DatedArray("weights", name, values[:until, columns], days, stocks)
        else:
            yield DatedArray("weights", name, values[:until], days)
    for label, records in study.portfolios.records.items():
        known = [record for record in records if record.row <= row]  # rows of all days
        at = study.dates[[record.row for record in known]]
        for use in sorted({use for record in known for use in record.used}):
            used = np.array([record.used.get(use, np.nan) for record in known])
            yield DatedArray("weights", ("use of limits", label, use), used, at)


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Array]]:
    """Arrays inside dataclasses, named tuples and mappings, with their paths."""
    if isinstance(value, np.ndarray):
        yield path, value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _leaves(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, Mapping):
        for key, own in value.items():
            label = key if isinstance(key, str) else " ".join(map(str, key))
            yield from _leaves(own, (*path, label))
    elif hasattr(value, "_asdict"):
        yield from _leaves(value._asdict(), path)
