"""No number of the past may move when the future is removed or replaced.

The strongest test, because it needs no idea of how a leak would look. Stage by stage: the cleaned
data, each factor, the scaled features, the screen, the scores, the weights, on panels that are cut,
scrambled or have holes. Later stages repeat the errors of earlier ones, so the first one at fault
is named.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.audit.findings import Finding, day_text, leak, ok
from alphakeel.config import StudyConfig
from alphakeel.data.cleaning import CleaningLedger, CleanResult
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
    "check_factor_values",
    "check_study",
    "cut",
    "factor_cuts",
    "linear_only",
    "unchanged",
    "prepare_study",
    "with_gaps",
    "with_noise",
    "study_cuts",
    "ending_on",
]

Floats = NDArray[np.floating[Any]]

_HOW = {
    "cut": "later days are removed",
    "holes": "later days are removed (tried with gaps in the data)",
    "scramble": "later days are replaced by noise",
}

_HOLE_ROWS = 3
_HOLE_SHARE = 0.3


def factor_cuts(n_dates: int, test_start: int) -> tuple[int, ...]:
    """Rows after which the future is changed: across the data, with the start of the test."""
    spread = np.linspace(0.15, 0.95, 4) * n_dates
    return tuple(sorted({int(row) for row in (*spread, test_start)}))


def study_cuts(study: Study) -> tuple[tuple[str, int], ...]:
    """How and after which row the future of a whole study is changed.

    The first decision of a test shows training labels that reach into it; a day of trading in the
    middle of a test shows everything else.
    """
    step = study.config.walk_forward.rebalance_every
    starts = [int(np.searchsorted(study.dates, fold.test[0])) for fold in study.folds]
    lag = study.config.target.lag
    within = (study.test.stop - starts[-1]) // 2 // step * step
    last = starts[-1] + within + lag
    middle = max(starts[len(starts) // 2], study.test.start + 2 * step)
    plans = [("scramble", starts[0]), ("cut", middle), ("scramble", last), ("cut", last)]
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
    study: Study,
    base: Prepared,
    factors: tuple[Factor, ...],
    how: str,
    row: int,
    rng: np.random.Generator,
) -> list[Finding]:
    """Run the study with another future after a row; the finding on the first stage that moved."""
    config, dates = base.plan.config, base.plan.dates
    if how == "cut":
        other_panel, config = cut(base.panel, row), ending_on(config, dates[row])
    else:
        other_panel = with_noise(base.panel, row, rng)
    edge = f"{_HOW[how]} after {day_text(dates[row])}"
    moved = _moved_features(base, prepare_study(other_panel, config, factors), row, edge)
    if moved is not None:
        return [moved]
    other = run_study(other_panel, config)
    first = (
        _moved_screen(study, other, dates[row], edge)
        or _moved_scores(study, other, row, edge)
        or _moved_weights(study, other, row, edge)
    )
    return [] if first is None else [first]


def _moved_features(base: Prepared, other: Prepared, row: int, edge: str) -> Finding | None:
    one, two = base.dataset, other.dataset
    past = int(np.searchsorted(base.plan.decisions, row, side="right"))
    moved = np.abs(one.features[:past] - two.features[:past]) > 1e-3
    for k, name in enumerate(one.names):
        # A raw value that moved is the factor's fault, and the test of factors reports it.
        if name not in two.names:
            continue
        raw_moved = differs(one.raw[:past, :, k], two.raw[:past, :, k]).any()
        if moved[..., k].any() and not raw_moved:
            last = int(np.flatnonzero(moved[..., k].any(axis=1))[-1])
            stock = str(base.panel.asset_names[int(np.argmax(moved[last, :, k]))])
            day = day_text(base.plan.dates[base.plan.decisions[last]])
            return leak(
                "scaling",
                f"the scaled {name} of {stock} on {day} changes when {edge}, and the factor itself "
                "does not: scaling is fitted on rows outside training.",
                factor=name,
                date=day,
                ticker=stock,
            )
    return None


def _moved_screen(study: Study, other: Study, day: np.datetime64, edge: str) -> Finding | None:
    for number, (a, b) in enumerate(zip(study.folds, other.folds, strict=False), start=1):
        if a.test[0] > day:
            break
        figures = [
            c for c in ("coverage", "rank_ic", "nw_t") if c in a.verdicts and c in b.verdicts
        ]
        x, y = a.verdicts.set_index("factor"), b.verdicts.set_index("factor")
        shared = x.index.intersection(y.index)
        gap = ~np.isclose(
            x.loc[shared, figures].to_numpy(float),
            y.loc[shared, figures].to_numpy(float),
            rtol=1e-3,
            atol=1e-4,
            equal_nan=True,
        )
        if gap.any():
            name = str(shared[int(np.argmax(gap.any(axis=1)))])
            train = f"{day_text(a.train[0])} to {day_text(a.train[1])}"
            return leak(
                "screen",
                f"the screen's figures for {name} in fold {number}, trained on {train}, change "
                f"when {edge}: the screen is fitted on rows outside training.",
                factor=name,
                date=day_text(a.test[0]),
            )
    return None


def _moved_scores(study: Study, other: Study, row: int, edge: str) -> Finding | None:
    past = study.decisions <= row
    for name, model in study.models.items():
        a, b = model.scores[past], other.models[name].scores[: past.sum()]
        moved = differs(a, b)
        if moved.any():
            first = int(np.argmax(moved.any(axis=1)))
            day = day_text(study.dates[study.decisions[first]])
            stock = str(study.asset_names[int(np.argmax(moved[first]))])
            return leak(
                "scores",
                f"{model.label}'s score of {stock} on {day} changes when {edge}: a fit or a "
                "forecast has seen rows outside training.",
                date=day,
                ticker=stock,
            )
    return None


def _moved_weights(study: Study, other: Study, row: int, edge: str) -> Finding | None:
    days = slice(0, row - study.test.start + 1)
    pairs = [
        (label, ledger, again[label])
        for ledgers, again in (
            (study.strategies, other.strategies),
            (study.overlaid, other.overlaid),
        )
        for label, ledger in ledgers.items()
    ]
    for label, ledger, later in pairs:
        moved = np.abs(ledger.weights[days] - later.weights[days]) > 1e-4
        if moved.any():
            first = int(np.argmax(moved.any(axis=1)))
            day = day_text(study.dates[study.test][first])
            stock = str(study.asset_names[int(np.argmax(moved[first]))])
            return leak(
                "weights",
                f"{label}'s weight of {stock} on {day} changes when {edge}: weights have seen "
                "the future.",
                date=day,
                ticker=stock,
            )
    return None


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
    """The panel as it was at the close of a row: nothing later."""
    return panel[np.arange(row + 1)].to_panel()


def linear_only(config: StudyConfig) -> StudyConfig:
    """Settings with the linear model only, which goes through the same stages in seconds."""
    report = replace(config.report, drivers=False, sensitivity=False)
    return replace(config, models=("linear",), report=report)


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
            if name == "market_index":
                noise[:] = noise[:, :1]
            values[row + 1 :] = future * noise
        copy.fields[name] = field.with_values(values)
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
            "member",
        ):
            copy.fields[name] = field.with_values(np.where(holes, np.nan, field.values))
    return copy
