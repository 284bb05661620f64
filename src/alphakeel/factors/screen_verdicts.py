"""Which factors a screen keeps, and the words for it: figures and rules in, verdicts out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alphakeel.factors.screen_figures import HorizonFigures, inflation

__all__ = ["Candidates", "Choice", "Rules", "choose", "verdict_table"]

FloatArray = NDArray[np.floating[Any]]


class Rules(NamedTuple):
    """The settings of a `FactorScreen` that decide; described there."""

    min_coverage: float
    min_abs_t: float
    max_correlation: float
    min_keep: int
    min_sign_stability: float
    n_subperiods: int
    max_vif: float | None
    false_discovery_rate: float | None
    discovery_method: str
    keep_families: Sequence[str]

    def discovers(self, q_value: float) -> bool:
        """Whether a factor passes the limit on false discoveries; all do if there is none."""
        return self.false_discovery_rate is None or bool(q_value <= self.false_discovery_rate)


@dataclass(frozen=True, eq=False)
class Candidates:
    """What is known of the factors that are up for judgement.

    Attributes
    ----------
    names, families : tuple of str of length n_factors
    coverage : ndarray of shape (n_factors,)
        Share of eligible stock-days on which each is known.
    best : tuple of HorizonFigures of length n_factors
        Each at its strongest horizon.
    q_values : ndarray of shape (n_factors,)
        NaN if not judged.
    correlation : ndarray of shape (n_factors, n_factors)
        Mean cross-sectional rank correlation, NaN where two factors never met.
    """

    names: tuple[str, ...]
    families: tuple[str, ...]
    coverage: FloatArray
    best: tuple[HorizonFigures, ...]
    q_values: FloatArray
    correlation: FloatArray

    @cached_property
    def strength(self) -> FloatArray:
        """Absolute t of each, -1 where there is none."""
        return np.nan_to_num(np.abs(np.array([row.nw_t for row in self.best])), nan=-1.0)

    @cached_property
    def closeness(self) -> FloatArray:
        """Absolute correlation, 0 where two factors never met."""
        return np.nan_to_num(np.abs(self.correlation), nan=0.0)

    @cached_property
    def order(self) -> list[int]:
        """From the strongest to the weakest, ties by name."""
        return sorted(range(len(self.names)), key=lambda k: (-self.strength[k], self.names[k]))


class Choice(NamedTuple):
    """What was decided of each factor, by position."""

    kept: list[int]
    rescued: set[int]  # of the kept: those that only fill up to `min_keep`
    leader: NDArray[np.int_]  # (n_factors,), the factor that represents it
    reasons: list[str | None]  # why it fails; None where it passes


def choose(found: Candidates, rules: Rules) -> Choice:
    """Ask the questions in order: own figures, novelty, collinearity, the floor."""
    reasons = [_weakness(found, k, rules) for k in range(len(found.names))]
    kept: list[int] = []
    leader = np.arange(len(found.names))
    for k in found.order:
        if reasons[k] is None:
            leader[k] = _representative(k, kept, found.closeness, rules.max_correlation)
            if leader[k] == k:
                kept.append(k)
                continue
            value, other = found.correlation[k, leader[k]], found.names[leader[k]]
            reasons[k] = f"correlation {value:.2f} with {other}, which is stronger"
    if rules.max_vif is not None:
        _limit_inflation(found, rules.max_vif, kept, reasons)
    rescued = _fill(found, rules, kept)
    for k in found.order:
        if k not in kept and leader[k] == k and found.strength[k] >= 0:
            leader[k] = _representative(k, kept, found.closeness, rules.max_correlation)
    return Choice(kept, rescued, leader, reasons)


def verdict_table(found: Candidates, choice: Choice, rules: Rules) -> pd.DataFrame:
    """One row a factor, as `FactorScreen.verdicts_` describes it."""
    best = found.best
    n_factors = len(found.names)
    return pd.DataFrame(
        {
            "factor": found.names,
            "family": found.families,
            "coverage": found.coverage,
            "ic": [row.ic for row in best],
            "rank_ic": [row.rank_ic for row in best],
            "nw_t": [row.nw_t for row in best],
            "q_value": found.q_values,
            "horizon": [row.horizon for row in best],
            "sign_stability": [row.sign_stability for row in best],
            "cluster": [found.names[k] for k in choice.leader],
            "vif": [inflation(found.correlation, k, choice.kept) for k in range(n_factors)],
            "verdict": [_verdict(found, k, choice, rules) for k in range(n_factors)],
            "kept": np.isin(np.arange(n_factors), choice.kept),
        }
    )


def _weakness(found: Candidates, k: int, rules: Rules) -> str | None:
    """Why a factor fails on its own figures; None where it passes."""
    row, coverage = found.best[k], found.coverage[k]
    if coverage == 0.0:
        return "known on no eligible stock-day"
    if coverage < rules.min_coverage:
        return f"coverage {_share(coverage)}, below {_share(rules.min_coverage)}"
    if not np.isfinite(row.nw_t):
        return "Rank IC undefined: too few stocks or dates, or the same value for all"
    if found.families[k] in rules.keep_families:
        return None
    if abs(row.nw_t) < rules.min_abs_t:
        return f"{_strength(row)}, weaker than t {rules.min_abs_t:g}"
    if row.sign_stability < rules.min_sign_stability:
        return f"{_strength(row)}, but {_signs(row, rules)}"
    if not rules.discovers(found.q_values[k]):
        return (
            f"{_strength(row)}, not significant at a false discovery rate of "
            f"{rules.false_discovery_rate:g} ({_found(found.q_values[k], rules)})"
        )
    return None


def _limit_inflation(
    found: Candidates, limit: float, kept: list[int], reasons: list[str | None]
) -> None:
    """Drop the weakest factor whose VIF exceeds the limit until none does."""
    while len(kept) > 1:
        vif = [inflation(found.correlation, k, kept) for k in kept]
        over = [
            (found.strength[k], found.names[k], k, v)
            for k, v in zip(kept, vif, strict=True)
            if v > limit
        ]
        if not over:
            return
        _, _, weakest, value = min(over)
        kept.remove(weakest)
        reasons[weakest] = f"VIF {value:.1f} against the other factors, above {limit:g}"


def _fill(found: Candidates, rules: Rules, kept: list[int]) -> set[int]:
    """Add the strongest others up to `min_keep`: well-covered factors before the rest."""
    covered = [k for k in found.order if found.coverage[k] >= rules.min_coverage]
    sparse = [k for k in found.order if found.coverage[k] < rules.min_coverage]
    rescued: set[int] = set()
    for k in (*covered, *sparse):
        if len(kept) >= rules.min_keep:
            break
        if k in kept or found.strength[k] < 0:
            continue
        if _representative(k, kept, found.closeness, rules.max_correlation) == k:
            kept.append(k)
            rescued.add(k)
    return rescued


def _representative(k: int, kept: list[int], closeness: FloatArray, limit: float) -> int:
    """The kept factor closest to `k` beyond the limit, or `k` itself."""
    near = [(closeness[k, j], -i, j) for i, j in enumerate(kept) if closeness[k, j] > limit]
    return max(near)[2] if near else k


def _verdict(found: Candidates, k: int, choice: Choice, rules: Rules) -> str:
    if k in choice.rescued:
        return f"kept to reach min_keep={rules.min_keep}, although: {choice.reasons[k]}"
    if k not in choice.kept:
        return f"dropped: {choice.reasons[k]}"
    row, q_value = found.best[k], found.q_values[k]
    words = f"kept: {_strength(row)}, {_signs(row, rules)}"
    if rules.false_discovery_rate is not None:
        words += f", {_found(q_value, rules)}"
    weak = (
        abs(row.nw_t) < rules.min_abs_t
        or row.sign_stability < rules.min_sign_stability
        or not rules.discovers(q_value)
    )
    if weak:
        words += f"; family {found.families[k]!r} is exempt from the strength test"
    return words


def _found(q_value: float, rules: Rules) -> str:
    authors = "-".join(name.title() for name in rules.discovery_method.split("_"))
    return f"q {q_value:.3f}, {authors}"


def _signs(row: HorizonFigures, rules: Rules) -> str:
    pieces = rules.n_subperiods
    if np.isnan(row.sign_stability):
        return f"too few dates for {pieces} sub-periods"
    return f"same sign in {round(row.sign_stability * pieces)} of {pieces} sub-periods"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _strength(row: HorizonFigures) -> str:
    return f"Rank IC {row.rank_ic:.3f} (t {row.nw_t:.1f})"
