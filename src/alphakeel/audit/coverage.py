"""Reads of the future on a few dates only: every date tested at the price of a few dozen panels.

A value that reads h days ahead shows only if the future is changed within h days after it. One cut
tests all dates before it against reads that reach past it, and a read of one day ahead on one day a
month only if the cut happens to lie there. Testing every date by a cut of its own costs as many
panels as there are dates.

A factor of a known lookback needs fewer. In one panel stretches of unchanged rows, a lookback long,
alternate with stretches of noise: wherever a whole lookback is unchanged, the value must be. The
panels shift the pattern until every date was the last before a stretch of noise: lookback plus
63 panels cover all dates, all stocks, and all reads of up to 63 days ahead. With fewer panels the
unchanged stretches are longer, and reads of a few days ahead are seen on a share of the dates.

What moves is a suspect, for the lookback may be understated. It is tried again with noise after
its date alone, which needs no lookback: what still moves has read the future. A factor whose
suspects do not is longer than it says, and is cut at dates drawn one from each of equal spans.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.audit.findings import Finding, day_text, leak
from alphakeel.factors.custom import differs

__all__ = ["DateCoverage", "check_every_date", "coverage_text", "panels_for"]

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Rows = NDArray[np.intp]
Values = Callable[[Any], Floats]

REACHES = (1, 5, 21)
_FARTHEST = 63  # rows of noise after each unchanged stretch
_TRIES = 12  # suspects tried one by one
# Cells (dates x stocks) that one factor is computed on by default: a second or two.
_CELLS = 3e7
_LEAST_PANELS = 8
_SPREAD = 1.0  # of the noise, in logs


@dataclass(frozen=True)
class DateCoverage:
    """How far ahead of each row the data were changed when its value was compared.

    `nearest`, (n_dates - 1,): the nearest of these distances in rows, 1 at best; n_dates where the
    row was not compared. The last row has no future.
    """

    nearest: Rows

    def share(self, reach: int) -> float:
        """Share of the dates on which a read of up to `reach` days ahead shows."""
        return float((self.nearest <= reach).mean()) if len(self.nearest) else 1.0

    def with_less(self, other: DateCoverage) -> DateCoverage:
        """What both cover."""
        return DateCoverage(np.maximum(self.nearest, other.nearest))


def panels_for(shape: tuple[int, ...], *, full: bool) -> int:
    """Panels on which one factor of a user's is computed; `full`: as many as it needs."""
    return shape[0] if full else max(_LEAST_PANELS, int(_CELLS / max(1, shape[0] * shape[1])))


def coverage_text(coverage: DateCoverage) -> str:
    """Shares of the dates on which reads of some days ahead show, in the order of `REACHES`."""
    *first, last = (_percent(coverage.share(reach)) for reach in REACHES)
    return f"{', '.join(first)} and {last} of the dates"


def _percent(share: float) -> str:
    """Rounded down: 100 % means every date."""
    return f"{math.floor(100 * share)} %"


def check_every_date(
    panel: Any,
    compute: Values,
    values: Floats,
    names: Sequence[str],
    lookback: int,
    n_panels: int,
    rng: np.random.Generator,
) -> tuple[dict[str, Finding], DateCoverage]:
    """Findings on factors that read the future on any date, by name, and the dates covered.

    `compute` gives the factors' values, (n_dates, n_assets, n_names), of a panel; `values` are
    those of this one. No factor looks back further than `lookback`, as they say.
    """
    trial = _Trial(panel, compute, values, rng)
    patterns = _patterns(len(values), lookback, n_panels)
    suspects: list[list[tuple[int, int]]] = [[] for _ in names]
    nearest = np.full(len(values) - 1, len(values), dtype=np.intp)
    for number, changed in enumerate(patterns):
        ahead = _distance_ahead(changed, lookback)
        rows = np.flatnonzero(ahead)
        nearest[rows] = np.minimum(nearest[rows], ahead[rows])
        moved = trial.moved(changed, rows)
        for k, of_factor in enumerate(suspects):
            of_factor += [(number, int(row)) for row in rows[moved[:, :, k].any(axis=1)]]
    findings: dict[str, Finding] = {}
    longer: list[int] = [] if patterns else list(range(len(names)))
    for k, name in enumerate(names):
        if suspects[k]:
            found = _first_read(trial, name, k, [(patterns[n], row) for n, row in suspects[k]])
            if found is None:
                longer.append(k)
            else:
                findings[name] = found
    covered = DateCoverage(nearest) if patterns else DateCoverage(np.zeros_like(nearest))
    if longer:
        by_cuts, cuts = _cuts(trial, names, longer, 2 * n_panels, rng)
        findings |= by_cuts
        covered = covered.with_less(cuts)
    return findings, covered


def _patterns(n_dates: int, lookback: int, most: int) -> list[Bools]:
    """Rows changed, panel by panel; none where a lookback leaves no room for two stretches."""
    if 2 * lookback > n_dates:
        return []

    def period(gap: int) -> int:
        return lookback - 1 + gap + _FARTHEST

    gap = 1
    while gap < _FARTHEST and math.ceil(period(gap) / gap) > most:
        gap += 1
    starts = np.arange(0, period(gap), gap)
    if len(starts) > most:
        starts = starts[np.linspace(0, len(starts) - 1, most).astype(int)]
    phase = np.arange(n_dates)[None, :] + starts[:, None]
    return list(phase % period(gap) >= lookback - 1 + gap)


def _distance_ahead(changed: Bools, lookback: int) -> Rows:
    """Rows to the next changed one, where the lookback is unchanged; 0 where not to be compared."""
    rows = np.arange(len(changed))
    last = np.maximum.accumulate(np.where(changed, rows, -1))
    following = np.where(changed, rows, len(rows))
    following = np.minimum.accumulate(following[::-1])[::-1]
    unchanged = (last < 0) | (rows - last >= lookback)
    return np.where(unchanged & (following < len(rows)), following - rows, 0)


class _Trial:
    """A panel, its factors' values, and two ways in which its rows may be changed."""

    def __init__(
        self, panel: Any, compute: Values, values: Floats, rng: np.random.Generator
    ) -> None:
        self.panel, self.values = panel, values
        self._compute = compute
        # Prices that revert and prices that drift: a sign fitted to one is wrong for the other.
        self._noise = [_noisy_fields(panel, rng, drift) for drift in (0.0, 0.05)]
        self._turn = 0

    def moved(self, changed: Bools, rows: Rows) -> Bools:
        """Where values on some rows move, (n_rows, n_assets, n_names), with other rows changed."""
        noise = self._noise[self._turn % len(self._noise)]
        self._turn += 1
        return self._differences(changed, rows, noise)

    def moved_before(self, changed: Bools, row: int) -> Bools:
        """Where values up to a row move, with changed rows that are all after it."""
        rows = np.arange(row + 1)
        after = changed & (np.arange(len(changed)) > row)
        out = self._differences(after, rows, self._noise[0])
        return out if out.any() else self._differences(after, rows, self._noise[1])

    def moved_by_cut(self, row: int) -> Bools:
        """Where values up to a row move, with the later rows removed."""
        rows = np.arange(row + 1)
        after = self._compute(self.panel[rows].to_panel())
        return _differences(self.values[rows], after)

    def _differences(self, changed: Bools, rows: Rows, noise: dict[str, NDArray[Any]]) -> Bools:
        copy = self.panel.copy()
        for name, values in noise.items():
            field = copy.fields[name]
            mixed = np.where(changed[:, None], values, field.values)
            copy.fields[name] = field.with_values(mixed)
        return _differences(self.values[rows], self._compute(copy)[rows])


def _differences(before: Floats, after: Floats) -> Bools:
    """Where values, (n_dates, n_assets, n_names), differ by more than rounding."""
    moved = [differs(before[..., k], after[..., k]) for k in range(before.shape[-1])]
    return np.stack(moved, axis=-1)


def _noisy_fields(panel: Any, rng: np.random.Generator, drift: float) -> dict[str, NDArray[Any]]:
    """Every number scrambled: log-normal noise about a trend of each stock's own.

    Memberships, ST flags and sectors are drawn anew; gaps are kept.
    """
    shape = panel.active_mask.shape
    trend = drift * rng.choice([-1.0, 1.0], shape[1]) * (np.arange(shape[0]) % _FARTHEST)[:, None]
    out: dict[str, NDArray[Any]] = {}
    for name, field in panel.fields.items():
        values = field.values
        if name == "sector":
            order = rng.permuted(np.arange(shape[1])[None, :].repeat(shape[0], axis=0), axis=1)
            drawn = np.take_along_axis(values, order, axis=1)
            out[name] = np.where((values >= 0) & (drawn >= 0), drawn, values)
        elif not np.issubdtype(values.dtype, np.floating):
            continue
        elif name in ("member", "st"):
            drawn = rng.integers(0, 2, shape).astype(values.dtype)
            out[name] = np.where(np.isnan(values), np.nan, drawn)
        else:
            noise = np.exp(trend + rng.normal(0.0, _SPREAD, shape))
            if name == "market_index":
                noise[:] = noise[:, :1]
            out[name] = values * noise
    return out


def _first_read(
    trial: _Trial, name: str, k: int, suspects: Sequence[tuple[Bools, int]]
) -> Finding | None:
    """The finding on the first suspect, of some, that moves with noise after its date alone."""
    if not suspects:
        return None
    picked = np.unique(np.linspace(0, len(suspects) - 1, _TRIES).astype(int))
    dates = len({row for _, row in suspects})
    for changed, row in (suspects[int(n)] for n in picked):
        moved = trial.moved_before(changed, row)[..., k]
        if moved.any():
            return _read_ahead(trial.panel, name, moved, dates)
    return None


def _cuts(
    trial: _Trial, names: Sequence[str], chosen: Sequence[int], most: int, rng: np.random.Generator
) -> tuple[dict[str, Finding], DateCoverage]:
    """Findings of cuts at dates drawn one from each of equal spans, and what they cover."""
    n_dates = len(trial.values)
    edges = np.linspace(0, n_dates - 1, min(most, n_dates - 1) + 1).astype(int)
    rows = np.unique(rng.integers(edges[:-1], np.maximum(edges[1:], edges[:-1] + 1)))
    findings: dict[str, Finding] = {}
    for row in rows:
        if len(findings) == len(chosen):
            break
        moved = trial.moved_by_cut(int(row))
        for k in chosen:
            if names[k] not in findings and moved[..., k].any():
                findings[names[k]] = _read_ahead(trial.panel, names[k], moved[..., k], 1)
    dates = np.arange(n_dates - 1)
    following = np.append(rows, 2 * n_dates)[np.searchsorted(rows, dates)]
    return findings, DateCoverage(np.minimum(following - dates + 1, n_dates))


def _read_ahead(panel: Any, name: str, moved: Bools, dates: int) -> Finding:
    """The finding on a factor; `moved`, (n_rows, n_assets), ends with the last row left as is."""
    first, last = np.flatnonzero(moved.any(axis=1))[[0, -1]]
    stock = str(panel.asset_names[int(np.argmax(moved[last]))])
    day, reach = day_text(panel.observations[last]), len(moved) - int(first)
    ahead = "1 day" if reach == 1 else f"{reach} days"
    often = f", and so may those on {dates - 1} other dates" if dates > 1 else ""
    return leak(
        "factors",
        f"{name} for {stock} on {day} changes when later days are replaced by noise: it reads the "
        f"future, at least {ahead} ahead{often}.",
        factor=name,
        date=day,
        ticker=stock,
    )
