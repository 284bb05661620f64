"""No number of the past may move when the future is removed or replaced.

The strongest test, because it needs no idea of how a leak would look. Stage by stage: the cleaned
data, each factor, the scaled features, the screen, the scores, the weights, on panels that are cut,
scrambled or have holes. Later stages repeat the errors of earlier ones, so the first one at fault
is named.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.audit.dated import DatedArray, arrays_of_days, dated_arrays, first_difference
from alphakeel.audit.findings import Finding, day_text, leak, ok
from alphakeel.config import COMBINED, StudyConfig
from alphakeel.data.cleaning import CleaningLedger, CleanResult
from alphakeel.data.panel import universe_mask
from alphakeel.errors import AlphakeelError, LookAheadWarning
from alphakeel.factors.base import Factor, compute_factors
from alphakeel.factors.custom import CustomFactors, differs
from alphakeel.pipeline.dataset import Dataset, prepare_dataset
from alphakeel.pipeline.plan import Plan
from alphakeel.results import Study
from alphakeel.study import run_study

__all__ = [
    "Prepared",
    "all_values",
    "check_cleaning",
    "check_days",
    "check_factor_values",
    "check_study",
    "cut",
    "cut_off",
    "factor_cuts",
    "linear_only",
    "rounding_of",
    "unchanged",
    "prepare_study",
    "with_gaps",
    "with_noise",
    "with_splits",
    "without_models",
    "study_cuts",
    "ending_on",
]

Floats = NDArray[np.floating[Any]]

_HOW = {
    "cut": "later days are removed",
    "holes": "later days are removed (tried with gaps in the data)",
    "scramble": "later days are replaced by noise",
    "split": "a later split halves the adjusted prices of some stocks",
}
# What is in the unit of adjusted prices, and says nothing by its level.
_LEVELS = frozenset({"adj_close", "accounting_close", "price", "last_price"})
_SPLIT_SHARE = 0.3

_ROUNDING = 1e-4
_HOLE_ROWS = 3
_HOLE_SHARE = 0.3


def rounding_of(study: Study) -> float:
    """How far numbers of a study may move with its number of stocks, as a share of the largest.

    Nothing on a CPU. A user's own factor or model may sum over stocks in an order that depends on
    how many there are, and a GPU does.
    """
    if study.plan.custom.factors or study.plan.custom_models.models:
        return _ROUNDING
    if study.plan.models == ("linear",):
        return 0.0
    from alphakeel.models.ensemble import choose_device  # imports torch

    return 0.0 if choose_device(study.config.network.device).type == "cpu" else _ROUNDING


def factor_cuts(n_dates: int, test_start: int) -> tuple[int, ...]:
    """Rows after which the future is changed: across the data, with the start of the test."""
    spread = np.linspace(0.15, 0.95, 4) * n_dates
    return tuple(sorted({int(row) for row in (*spread, test_start)}))


def study_cuts(study: Study) -> tuple[tuple[str, int], ...]:
    """How and after which row the future of a whole study is changed.

    The first decision of a test shows training labels that reach into it; a day of trading in the
    middle of a test shows everything else.
    """
    starts = [int(np.searchsorted(study.dates, fold.test[0])) for fold in study.folds]
    tested = study.decisions[study.decisions >= study.test.start]
    within = tested[tested <= (starts[-1] + study.test.stop) // 2]
    last = int(within[-1]) + study.config.target.lag
    middle = max(starts[len(starts) // 2], int(tested[min(2, len(tested) - 1)]))
    plans = [("scramble", starts[0]), ("cut", middle), ("scramble", last), ("cut", last)]
    plans += [("split", last)]
    fits = range(study.test.start, study.test.stop - 1)
    return tuple(dict.fromkeys(plan for plan in plans if plan[1] in fits))


def check_factor_values(
    panel: Any,
    factors: tuple[Factor, ...],
    values: Floats,
    names: tuple[str, ...],
    row: int,
    rng: np.random.Generator,
) -> dict[str, Finding]:
    """Findings on factors whose values up to a row change with the future, by name.

    `values`, (n_dates, n_assets, n_factors), are those on the whole cleaned panel.
    """
    findings: dict[str, Finding] = {}
    for how, of, before, after in _variants(panel, factors, values, names, row, rng):
        for k, name in enumerate(names):
            moved = differs(before[..., k], after[..., k])
            if name not in findings and moved.any():
                findings[name] = _moved_factor(of, name, moved, row, how)
    return findings


def _variants(
    panel: Any,
    factors: tuple[Factor, ...],
    values: Floats,
    names: tuple[str, ...],
    row: int,
    rng: np.random.Generator,
) -> Iterator[tuple[str, Any, Floats, Floats]]:
    """Values up to the row as they are, and with another future; with the panel of the stocks.

    Stocks that are listed after the row are no columns of a cut.
    """
    rows = slice(0, row + 1)
    past = _listed(cut(panel, row))
    columns = np.isin(panel.asset_names, past.asset_names)
    yield "cut", past, values[rows][:, columns], all_values(past, factors, names)
    after = all_values(with_noise(panel, row, rng), factors, names)
    yield "scramble", panel, values[rows], after[rows]
    holed = with_gaps(panel, row, rng)
    past = _listed(cut(holed, row))
    try:
        before, after = all_values(holed, factors, names), all_values(past, factors, names)
    except AlphakeelError:
        return  # a user's function need not stand gaps that its data do not have
    yield "holes", past, before[rows][:, columns], after


def _listed(panel: Any) -> Any:
    """The panel without columns of stocks that are listed on none of its days."""
    listed = np.asarray(panel.active_mask).any(axis=0)
    return panel if listed.all() else panel.isel(assets=np.flatnonzero(listed))


def all_values(panel: Any, factors: tuple[Factor, ...], names: tuple[str, ...]) -> Floats:
    """Values of factors by stock and of the market alike, (n_dates, n_assets, n_names)."""
    computed = compute_factors(panel, [replace(f, lookback=1) for f in factors])
    own = {name: k for k, name in enumerate(computed.names)}
    market = {name: k for k, name in enumerate(computed.market_names)}
    out = np.full((*panel.active_mask.shape, len(names)), np.nan, dtype=np.float32)
    for k, name in enumerate(names):
        if name in own:
            out[..., k] = computed.values[..., own[name]]
        elif name in market:
            out[..., k] = computed.market[:, market[name]][:, None]
    return out


def _moved_factor(panel: Any, name: str, moved: NDArray[np.bool_], row: int, how: str) -> Finding:
    first = int(np.argmax(moved.any(axis=1)))
    last = int(np.flatnonzero(moved.any(axis=1))[-1])
    stock = str(panel.asset_names[int(np.argmax(moved[last]))])
    day, edge = day_text(panel.observations[last]), day_text(panel.observations[row])
    reach = row - first + 1
    ahead = "1 day" if reach == 1 else f"{reach} days"
    return leak(
        "factors",
        f"{name} for {stock} on {day} changes when {_HOW[how]} after {edge}: it reads the future, "
        f"at least {ahead} ahead.",
        factor=name,
        date=day,
        ticker=stock,
    )


def check_cleaning(
    base: CleanResult,
    panel: Any,
    row: int,
    cleaned: Callable[[Any], CleanResult],
    rng: np.random.Generator,
) -> Finding | None:
    """Finding on cleaned data or a sample up to a row that change with the future, or None."""
    holed = with_gaps(panel, row, rng)
    pairs = (
        ("cut", base, cleaned(cut(panel, row))),
        ("scramble", base, cleaned(with_noise(panel, row, rng))),
        ("holes", cleaned(holed), cleaned(cut(holed, row))),
    )
    for how, before, after in pairs:
        for name in before.panel.keys():  # noqa: SIM118
            moved = differs(before.panel[name][: row + 1], after.panel[name][: row + 1])
            if moved.any():
                return _moved_field(panel, name, moved, row, how)
        moved = before.eligible[: row + 1] != after.eligible[: row + 1]
        if moved.any():
            return _moved_field(panel, "the sample", moved, row, how)
    return None


def _moved_field(panel: Any, name: str, moved: NDArray[np.bool_], row: int, how: str) -> Finding:
    last = int(np.flatnonzero(moved.any(axis=1))[-1])
    stock = str(panel.asset_names[int(np.argmax(moved[last]))])
    day, edge = day_text(panel.observations[last]), day_text(panel.observations[row])
    return leak(
        "cleaning",
        f"cleaning reads the future: {name} of {stock} on {day} changes when {_HOW[how]} "
        f"after {edge}.",
        factor=name,
        date=day,
        ticker=stock,
    )


def check_study(
    study: Study, panel: Any, how: str, row: int, rng: np.random.Generator, *, rounding: float = 0.0
) -> Finding | None:
    """Run the study with another future after a row; the finding on the first stage that moved.

    Removed is everything that came later: days, and the stocks that nobody could have known of.
    What is left of every dated number has to be the same to the bit, or to `rounding` times the
    largest of its day. After a split, which rescales adjusted prices, it is always to rounding.
    """
    other_panel, config, columns = _another_future(panel, study.plan, how, row, rng)
    other = run_study(other_panel, config)
    again = dated_arrays(other, row, np.arange(len(columns)))
    edge = f"{_HOW[how]} after {day_text(study.dates[row])}"
    rounding = _ROUNDING if how == "split" else rounding
    return _first_moved(dated_arrays(study, row, columns), again, how, edge, rounding)


def check_days(
    base: Prepared, how: str, row: int, rng: np.random.Generator, *, rounding: float = 0.0
) -> Finding | None:
    """The same of what networks read on the days between decisions, where nothing is fitted."""
    plan = base.plan
    other_panel, config, columns = _another_future(base.panel, plan, how, row, rng)
    other = prepare_study(other_panel, config, plan.library).dataset
    again = arrays_of_days(other, row, np.arange(len(columns)))
    edge = f"{_HOW[how]} after {day_text(plan.dates[row])}"
    rounding = _ROUNDING if how == "split" else rounding
    return _first_moved(arrays_of_days(base.dataset, row, columns), again, how, edge, rounding)


def _another_future(
    panel: Any, plan: Plan, how: str, row: int, rng: np.random.Generator
) -> tuple[Any, StudyConfig, NDArray[np.intp]]:
    """The panel with another future, the settings for it, and the columns that are left."""
    if how == "cut":
        other, columns = cut_off(panel, row)
        return other, ending_on(plan.config, plan.dates[row]), columns
    other = with_splits(panel, rng) if how == "split" else with_noise(panel, row, rng)
    return other, plan.config, np.arange(len(plan.assets))


def _first_moved(
    arrays: Iterator[DatedArray],
    again: Iterator[DatedArray],
    how: str,
    edge: str,
    rounding: float,
) -> Finding | None:
    """The finding on the first array that is another one with another future."""
    others = {(x.stage, x.name): x for x in again}
    for before in arrays:
        if how == "split" and (before.stage == "fits" or before.name[0] in _LEVELS):
            continue  # the trees of one fit may part where two stocks are equal but for rounding
        after = others.get((before.stage, before.name))
        place: tuple[int, int] | None = (0, 0)
        if after is not None:
            place = first_difference(before, after, rounding=rounding)
        if place is not None:
            return _moved_stage(before, place, edge)
    return None


# Why a stage moves, where the stages before it do not.
_WHY = {
    "cleaning": "cleaning reads the future",
    "factors": "it reads the future",
    "scaling": "scaling is fitted on rows outside training",
    "screen": "the screen is fitted on rows outside training",
    "scores": "a fit or a forecast has seen rows outside training",
    "fits": "the fit has seen rows outside training",
    "weights": "weights have seen the future",
    "regimes": "the labels read the future",
}


def _moved_stage(moved: DatedArray, place: tuple[int, int], edge: str) -> Finding:
    """The finding on a dated number that changes with the future."""
    day = day_text(moved.days[place[0]]) if len(moved.days) else ""
    label = moved.labels[place[1]] if moved.labels else ""
    if moved.stage == "screen":
        figure, fold = moved.name
        what = f"the screen's {figure} of {label} in {fold}, trained until {day},"
        return leak(
            "screen", f"{what} changes when {edge}: {_WHY['screen']}.", factor=label, date=day
        )
    stock = f" of {label}" if label else ""
    what = f"{_phrase(moved)}{stock}{_portfolio(moved)} on {day}"
    test = "scores" if moved.stage == "fits" else moved.stage
    factor = moved.name[0] if moved.stage in ("cleaning", "factors", "scaling") else ""
    return leak(
        test,
        f"{what} changes when {edge}: {_WHY[moved.stage]}.",
        factor=factor,
        date=day,
        ticker=label,
    )


def _phrase(moved: DatedArray) -> str:
    """A dated array in words."""
    if moved.stage == "scaling":
        return f"the scaled {' of '.join(moved.name)}"
    if moved.stage == "scores":
        return f"{moved.name[0]}'s {' of '.join(_singular(part) for part in moved.name[1:])}"
    if moved.stage == "fits":
        return f"{moved.name[0]}'s fit of {moved.name[1]} ({moved.name[2]})"
    if moved.stage == "weights":
        return f"{' '.join(moved.name[1:-1])}'s {_singular(moved.name[-1])}"
    return " ".join(moved.name)


def _portfolio(moved: DatedArray) -> str:
    """Which of a strategy's portfolios is meant, where it is not the one without the overlay."""
    if moved.stage != "weights" or moved.name[0] == "strategies":
        return ""
    return f" ({moved.name[0].replace('_', ' ')})"


def _singular(name: str) -> str:
    return name.replace("_", " ").removesuffix("s")


def unchanged(test: str, what: str, times: int) -> Finding:
    """The finding of a test that passed."""
    return ok(test, f"{what} do not depend on later data ({times} dates tested).")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A panel as handed in, the plan of its study, and the data set that the fits read."""

    panel: Any
    plan: Plan
    dataset: Dataset

    @property
    def ledger(self) -> CleaningLedger:
        """What cleaning changed."""
        assert self.dataset.provenance is not None  # noqa: S101  (prepared from a panel)
        return self.dataset.provenance.ledger


def prepare_study(panel: Any, config: StudyConfig, factors: Sequence[Factor]) -> Prepared:
    """Plan and prepare as `run_study` does, but refuse no factor: its faults are findings."""
    plan = replace(Plan.of(panel, config), custom=CustomFactors(), library=tuple(factors))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LookAheadWarning)  # a finding of its own
        return Prepared(panel, plan, prepare_dataset(panel, plan))


def cut(panel: Any, row: int) -> Any:
    """The panel as it was at the close of a row, with every stock: no later day."""
    return panel[np.arange(row + 1)].to_panel()


def cut_off(panel: Any, row: int) -> tuple[Any, NDArray[np.intp]]:
    """The panel as somebody had it at the close of a row, and the columns that are left.

    Neither later days nor the stocks that were not in the universe by then: whoever joins or is
    listed later was not in the data.
    """
    past = cut(panel, row)
    known = np.flatnonzero(universe_mask(past).any(axis=0))
    return past.isel(assets=known), known


def linear_only(config: StudyConfig) -> StudyConfig:
    """Settings with the linear model only, which goes through the same stages in seconds.

    The user's own models stay: nobody else has tried them.
    """
    report = replace(config.report, drivers=False, sensitivity=False)
    return replace(config, models=("linear", *config.own_models), report=report)


def without_models(base: Prepared, names: Collection[str]) -> Prepared:
    """The same study without some of the user's models, and without the one that combines them."""
    plan = base.plan
    left = tuple(name for name in plan.models if name not in {*names, COMBINED})
    custom = tuple(own for own in plan.custom_models.models if own.name not in names)
    plan = replace(
        plan,
        config=replace(plan.config, models=left),
        models=left,
        custom_models=replace(plan.custom_models, models=custom),
    )
    return replace(base, plan=plan)


def ending_on(config: StudyConfig, day: np.datetime64) -> StudyConfig:
    """Settings whose test ends on a day."""
    walk = replace(config.walk_forward, test_end=day.astype("datetime64[D]").astype(object))
    return replace(config, walk_forward=walk)


def with_noise(panel: Any, row: int, rng: np.random.Generator) -> Any:
    """The panel with every number after a row scrambled; masks and gaps are kept.

    Numbers are multiplied by log-normal noise, memberships and ST flags are drawn anew.
    """
    copy = panel.copy(deep=True)
    for name, field in copy.fields.items():
        values = field.values.copy()
        if not np.issubdtype(values.dtype, np.floating):
            continue
        future = values[row + 1 :]
        if name in ("member", "st"):
            drawn = rng.integers(0, 2, future.shape).astype(np.float64)
            values[row + 1 :] = np.where(np.isnan(future), np.nan, drawn)
        else:
            noise = np.exp(rng.normal(0.0, 1.0, future.shape))
            if name in ("market_index", "riskless_rate"):
                noise[:] = noise[:, :1]
            values[row + 1 :] = future * noise
        copy.fields[name] = field.with_values(values)
    return copy


def with_splits(panel: Any, rng: np.random.Generator) -> Any:
    """The panel as downloaded after a split of some stocks: their adjusted prices are halved."""
    copy = panel.copy(deep=True)
    chosen = rng.random(panel.active_mask.shape[1]) < _SPLIT_SHARE
    chosen[rng.integers(len(chosen))] = True
    field = copy.fields["adj_close"]
    copy.fields["adj_close"] = field.with_values(field.values * np.where(chosen, 0.5, 1.0))
    return copy


def with_gaps(panel: Any, row: int, rng: np.random.Generator) -> Any:
    """The panel with gaps: some stocks lose their numbers on a row and the two before it."""
    copy = panel.copy(deep=True)
    holes = np.zeros(copy.active_mask.shape, dtype=np.bool_)
    chosen = rng.random(holes.shape[1]) < _HOLE_SHARE
    chosen[rng.integers(len(chosen))] = True
    holes[max(0, row + 1 - _HOLE_ROWS) : row + 1, chosen] = True
    for name, field in copy.fields.items():
        if np.issubdtype(field.values.dtype, np.floating) and name not in (
            "market_index",
            "riskless_rate",
            "member",
        ):
            copy.fields[name] = field.with_values(np.where(holes, np.nan, field.values))
    return copy
