"""Which factors a model is given, screened on training rows only, with reasons in words.

The screen is handed arrays and nothing else: rows that are not handed in cannot matter. It asks
five questions of each factor, in this order, and the first "no" is its verdict:

1. coverage: is it known for enough of the eligible stock-days?
2. strength: is its Rank IC beyond noise (Newey-West t) at one horizon at least, with the same sign
   in most sub-periods, and, on request, under a limit on false discoveries?
3. novelty: does a stronger factor already say the same (mean cross-sectional rank correlation)?
4. collinearity, on request: do the others together already say the same (VIF)?
5. the minimum: if too few are left, the strongest come back, and their verdict says so.

The statistics come from `screening_statistics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from alphakeel.errors import ConfigError, DataError, NotFittedError
from alphakeel.factors.screening_statistics import (
    DISCOVERY_METHODS,
    CrossSections,
    HorizonFigures,
    best_horizons,
    check_horizons,
    check_names,
    cross_sections,
    discovery_q_values,
    horizon_figures,
    inflation,
)

__all__ = [
    "Candidates",
    "FactorScreen",
    "Rules",
    "choose",
    "verdict_table",
]

FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]


class FactorScreen(BaseEstimator):
    r"""Screen factors by coverage, predictive strength and redundancy.

    Parameters
    ----------
    min_coverage : float, default=0.5
        Smallest share (fraction) of eligible stock-days on which a factor must be known.

    min_abs_t : float, default=1.0
        Smallest Newey-West \|t\| of the factor's mean Rank IC, at any horizon. The default is
        lenient: it removes noise, and leaves the weights to the model.

    max_correlation : float, default=0.9
        Of two factors whose absolute mean cross-sectional rank correlation exceeds this, only
        the stronger (by \|t\|) stays.

    min_keep : int, default=5
        If fewer pass, the strongest others are added up to this number, and their verdict
        says so. Never a factor that a kept one already represents.

    min_sign_stability : float, default=0.5
        Smallest share of sub-periods in which the mean Rank IC has the sign of the whole.

    n_subperiods : int, default=5
        Equal consecutive pieces of the dates on which the Rank IC is defined.

    max_vif : float or None, default=None
        If given, the weakest factor whose variance inflation exceeds it is dropped, until none
        does. None reports the VIF and drops nothing: networks and ridge stand collinearity.

    false_discovery_rate : float or None, default=None
        If given, a factor's q-value must not exceed it: of the factors that pass, no more than
        this share are expected to be noise. A factor's p-value is its smallest over horizons
        times their number (Bonferroni). The q-values are reported in any case.

    discovery_method : {"benjamini_hochberg", "benjamini_yekutieli"}
        How p-values become q-values. The first (default) [2]_ holds for factors that are
        independent or positively dependent, the second [3]_ for any dependence, at the price of
        less power.

    keep_families : sequence of str, default=("valuation",)
        Families exempt from the strength test, not from coverage, correlation and VIF: earnings
        and book yield have Rank IC of about zero alone and help inside a network.

    min_assets : int, default=5
        Fewest jointly known stocks for which a date's IC is defined.

    Attributes
    ----------
    selected_ : tuple of str
        Names of the kept factors, in the order handed in.

    support_ : ndarray of shape (n_factors,), bool
        True where kept.

    verdicts_ : DataFrame, one row a factor
        `factor, family, coverage, ic, rank_ic, nw_t, q_value, horizon, sign_stability, cluster,
        vif, verdict, kept`. IC figures are those of the `horizon` with the largest \|t\|; `cluster`
        is the name of the factor that represents it; `vif` is against the other kept factors.
        NaN where it could not be computed.

    by_horizon_ : DataFrame, one row a factor and horizon
        `factor, horizon, n_dates, ic, ic_t, rank_ic, nw_t, p_value, sign_stability`.

    rank_ic_ : ndarray of shape (n_dates, n_factors, n_horizons)
        Rank IC of each date, NaN where undefined.

    correlation_ : ndarray of shape (n_factors, n_factors)
        Mean cross-sectional rank correlation, NaN where two factors never met.

    Notes
    -----
    Clusters are greedy: factors are visited from the strongest to the weakest, and each joins
    the strongest kept factor that it is too close to. So no two kept factors ever exceed
    `max_correlation`, which average linkage does not promise. Ties in strength go by name.

    References
    ----------
    .. [1] Newey, W. and West, K. (1987). A simple, positive semi-definite, heteroskedasticity
       and autocorrelation consistent covariance matrix. Econometrica 55(3). doi:10.2307/1913610
    .. [2] Benjamini, Y. and Hochberg, Y. (1995). Controlling the false discovery rate. Journal
       of the Royal Statistical Society B 57(1). doi:10.1111/j.2517-6161.1995.tb02031.x
    .. [3] Benjamini, Y. and Yekutieli, D. (2001). The control of the false discovery rate in
       multiple testing under dependency. Annals of Statistics 29(4). doi:10.1214/aos/1013699998

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> values = rng.standard_normal((250, 40, 3))
    >>> values[..., 1] = values[..., 0] + 0.3 * values[..., 1]
    >>> targets = 0.1 * values[..., 0] + rng.standard_normal((250, 40))
    >>> screen = FactorScreen(min_keep=1, min_abs_t=2.0)
    >>> screen.fit(values, targets, names=["value", "value_copy", "noise"]).selected_
    ('value',)
    """

    def __init__(
        self,
        *,
        min_coverage: float = 0.5,
        min_abs_t: float = 1.0,
        max_correlation: float = 0.9,
        min_keep: int = 5,
        min_sign_stability: float = 0.5,
        n_subperiods: int = 5,
        max_vif: float | None = None,
        false_discovery_rate: float | None = None,
        discovery_method: str = "benjamini_hochberg",
        keep_families: Sequence[str] = ("valuation",),
        min_assets: int = 5,
    ) -> None:
        self.min_coverage = min_coverage
        self.min_abs_t = min_abs_t
        self.max_correlation = max_correlation
        self.min_keep = min_keep
        self.min_sign_stability = min_sign_stability
        self.n_subperiods = n_subperiods
        self.max_vif = max_vif
        self.false_discovery_rate = false_discovery_rate
        self.discovery_method = discovery_method
        self.keep_families = keep_families
        self.min_assets = min_assets

    def fit(
        self,
        values: FloatArray,
        targets: FloatArray,
        mask: BoolArray | None = None,
        names: Sequence[str] | None = None,
        families: Sequence[str] | None = None,
        horizons: Sequence[int] | None = None,
    ) -> Self:
        """Screen every factor on the rows handed in.

        Parameters
        ----------
        values : ndarray of shape (n_dates, n_assets, n_factors)
            Factor values, raw or ranked, NaN where unknown. (Features whose missing values
            were set to 0 would count as known.)

        targets : ndarray of shape (n_dates, n_assets) or (n_dates, n_assets, n_horizons)
            What followed each row, as log returns or ranks; NaN where unknown.

        mask : ndarray of shape (n_dates, n_assets), bool, optional
            True where the stock was eligible. None: everywhere.

        names, families : sequence of str of length n_factors, optional
            Default `factor_0, factor_1, ...`, all of family "".

        horizons : sequence of int of length n_horizons, optional
            How many rows each target reaches over. Newey-West lags are at least
            ``horizon - 1``, since consecutive targets overlap by that much. Default: all 1.

        Returns
        -------
        self : FactorScreen

        Raises
        ------
        ConfigError
            If a setting is out of range.
        DataError
            If shapes disagree, names repeat, a value is infinite, or no factor can be judged.
        """
        self._check_settings()
        sections = cross_sections(values, targets, mask, names, self.min_assets)
        return self.fit_cross_sections(sections, names, families, horizons)

    def fit_cross_sections(
        self,
        sections: CrossSections,
        names: Sequence[str] | None = None,
        families: Sequence[str] | None = None,
        horizons: Sequence[int] | None = None,
    ) -> Self:
        """Screen every factor on cross-sections that were ranked before: `fit`, without its pass.

        Parameters
        ----------
        sections : CrossSections
            From `cross_sections` with the screen's `min_assets`, restricted to the training rows by
            ``sections.on(rows)``.

        names, families, horizons
            As in `fit`.

        Returns
        -------
        self : FactorScreen

        Examples
        --------
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> values = rng.standard_normal((250, 40, 3))
        >>> targets = 0.1 * values[..., 0] + rng.standard_normal((250, 40))
        >>> sections = cross_sections(values, targets)
        >>> screen = FactorScreen(min_keep=1, min_abs_t=2.0)
        >>> for train in (slice(0, 150), slice(0, 200)):
        ...     screen.fit_cross_sections(sections.on(train)).selected_
        ('factor_0',)
        ('factor_0',)
        """
        self._check_settings()
        if sections.min_assets != self.min_assets:
            raise ConfigError(
                f"the cross-sections were computed with min_assets={sections.min_assets} but the "
                f"screen has min_assets={self.min_assets}; give both the same."
            )
        _, n_factors, n_horizons = sections.rank_ic.shape
        labels, groups = check_names(names, families, n_factors)
        reach = check_horizons(horizons, n_horizons)

        self.names_, self.families_ = labels, groups
        self.rank_ic_, self.correlation_ = sections.rank_ic, sections.mean_correlation()
        figures = horizon_figures(sections, labels, reach, self.n_subperiods)
        self.by_horizon_ = pd.DataFrame(figures)
        best = best_horizons(figures, n_horizons)
        q_values = discovery_q_values(best, n_horizons, self.discovery_method)
        candidates = Candidates(
            labels, groups, sections.coverage(), best, q_values, self.correlation_
        )
        if not (candidates.strength >= 0).any():
            raise DataError(
                "no factor can be judged: no date has enough stocks on which a factor and a "
                f"target are both known (min_assets={self.min_assets}); give more rows or stocks."
            )
        rules = Rules(**{name: getattr(self, name) for name in Rules._fields})
        choice = choose(candidates, rules)
        self.support_ = np.zeros(n_factors, dtype=bool)
        self.support_[choice.kept] = True
        self.selected_ = tuple(np.array(labels, dtype=object)[self.support_])
        self.verdicts_ = verdict_table(candidates, choice, rules)
        return self

    def transform(self, values: FloatArray) -> FloatArray:
        """Keep the columns (last axis, in the order of `fit`) of the selected factors."""
        if not hasattr(self, "support_"):
            raise NotFittedError("FactorScreen is not fitted: call fit before transform.")
        if values.shape[-1] != self.support_.size:
            raise DataError(
                f"values have {values.shape[-1]} factors on their last axis but the screen was "
                f"fitted on {self.support_.size}; hand in the same factors in the same order."
            )
        return values[..., self.support_]

    def _check_settings(self) -> None:
        for name in ("min_coverage", "max_correlation", "min_sign_stability"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} is {getattr(self, name)!r} but must lie in [0, 1].")
        if not self.min_abs_t >= 0.0:
            raise ConfigError(f"min_abs_t is {self.min_abs_t!r} but must be at least 0.")
        for name, least in (("min_keep", 1), ("n_subperiods", 1), ("min_assets", 3)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)!r} but must be >= {least}.")
        if self.max_vif is not None and not self.max_vif > 1.0:
            raise ConfigError(f"max_vif is {self.max_vif!r} but must exceed 1, or be None.")
        rate = self.false_discovery_rate
        if rate is not None and not 0.0 < rate < 1.0:
            raise ConfigError(f"false_discovery_rate is {rate!r} but must lie in (0, 1).")
        if self.discovery_method not in DISCOVERY_METHODS:
            raise ConfigError(
                f"discovery_method is {self.discovery_method!r} but must be one of "
                f"{', '.join(DISCOVERY_METHODS)}."
            )
        if isinstance(self.keep_families, str):
            raise ConfigError(f"keep_families is a string: write ({self.keep_families!r},).")


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
    """What is known of the factors that are up for judgement."""

    names: tuple[str, ...]
    families: tuple[str, ...]
    coverage: FloatArray  # share of eligible stock-days on which each is known
    best: tuple[HorizonFigures, ...]  # each at its strongest horizon
    q_values: FloatArray  # NaN if not tested
    correlation: FloatArray  # (n_factors, n_factors) of ranks, NaN where two never met

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


class _Choice(NamedTuple):
    """What was decided of each factor, by position."""

    kept: list[int]
    rescued: set[int]  # of the kept: those that only fill up to `min_keep`
    leader: NDArray[np.int_]  # (n_factors,), the factor that represents it
    reasons: list[str | None]  # why it fails; None where it passes


def choose(candidates: Candidates, rules: Rules) -> _Choice:
    """Ask the questions in order: own statistics, novelty, collinearity, the minimum."""
    reasons = [_weakness(candidates, k, rules) for k in range(len(candidates.names))]
    kept: list[int] = []
    leader = np.arange(len(candidates.names))
    for k in candidates.order:
        if reasons[k] is None:
            leader[k] = _representative(k, kept, candidates.closeness, rules.max_correlation)
            if leader[k] == k:
                kept.append(k)
                continue
            value, other = candidates.correlation[k, leader[k]], candidates.names[leader[k]]
            reasons[k] = f"correlation {value:.2f} with {other}, which is stronger"
    if rules.max_vif is not None:
        _limit_inflation(candidates, rules.max_vif, kept, reasons)
    rescued = _fill(candidates, rules, kept)
    for k in candidates.order:
        if k not in kept and leader[k] == k and candidates.strength[k] >= 0:
            leader[k] = _representative(k, kept, candidates.closeness, rules.max_correlation)
    return _Choice(kept, rescued, leader, reasons)


def verdict_table(candidates: Candidates, choice: _Choice, rules: Rules) -> pd.DataFrame:
    """One row a factor, as `FactorScreen.verdicts_` describes it."""
    best = candidates.best
    n_factors = len(candidates.names)
    return pd.DataFrame(
        {
            "factor": candidates.names,
            "family": candidates.families,
            "coverage": candidates.coverage,
            "ic": [row.ic for row in best],
            "rank_ic": [row.rank_ic for row in best],
            "nw_t": [row.nw_t for row in best],
            "q_value": candidates.q_values,
            "horizon": [row.horizon for row in best],
            "sign_stability": [row.sign_stability for row in best],
            "cluster": [candidates.names[k] for k in choice.leader],
            "vif": [inflation(candidates.correlation, k, choice.kept) for k in range(n_factors)],
            "verdict": [_verdict(candidates, k, choice, rules) for k in range(n_factors)],
            "kept": np.isin(np.arange(n_factors), choice.kept),
        }
    )


def _weakness(candidates: Candidates, k: int, rules: Rules) -> str | None:
    """Why a factor fails by its own statistics; None where it passes."""
    row, coverage = candidates.best[k], candidates.coverage[k]
    if coverage == 0.0:
        return "known on no eligible stock-day"
    if coverage < rules.min_coverage:
        return f"coverage {_share(coverage)}, below {_share(rules.min_coverage)}"
    if not np.isfinite(row.nw_t):
        return "Rank IC undefined: too few stocks or dates, or the same value for all"
    if candidates.families[k] in rules.keep_families:
        return None
    if abs(row.nw_t) < rules.min_abs_t:
        return f"{_strength(row)}, weaker than t {rules.min_abs_t:g}"
    if row.sign_stability < rules.min_sign_stability:
        return f"{_strength(row)}, but {_signs(row, rules)}"
    if not rules.discovers(candidates.q_values[k]):
        return (
            f"{_strength(row)}, not significant at a false discovery rate of "
            f"{rules.false_discovery_rate:g} ({_discovery_text(candidates.q_values[k], rules)})"
        )
    return None


def _limit_inflation(
    candidates: Candidates, limit: float, kept: list[int], reasons: list[str | None]
) -> None:
    """Drop the weakest factor whose VIF exceeds the limit until none does."""
    while len(kept) > 1:
        vif = [inflation(candidates.correlation, k, kept) for k in kept]
        over = [
            (candidates.strength[k], candidates.names[k], k, v)
            for k, v in zip(kept, vif, strict=True)
            if v > limit
        ]
        if not over:
            return
        _, _, weakest, value = min(over)
        kept.remove(weakest)
        reasons[weakest] = f"VIF {value:.1f} against the other factors, above {limit:g}"


def _fill(candidates: Candidates, rules: Rules, kept: list[int]) -> set[int]:
    """Add the strongest others up to `min_keep`: well-covered factors before the rest."""
    covered = [k for k in candidates.order if candidates.coverage[k] >= rules.min_coverage]
    sparse = [k for k in candidates.order if candidates.coverage[k] < rules.min_coverage]
    rescued: set[int] = set()
    for k in (*covered, *sparse):
        if len(kept) >= rules.min_keep:
            break
        if k in kept or candidates.strength[k] < 0:
            continue
        if _representative(k, kept, candidates.closeness, rules.max_correlation) == k:
            kept.append(k)
            rescued.add(k)
    return rescued


def _representative(k: int, kept: list[int], closeness: FloatArray, limit: float) -> int:
    """The kept factor closest to `k` beyond the limit, or `k` itself."""
    near = [(closeness[k, j], -i, j) for i, j in enumerate(kept) if closeness[k, j] > limit]
    return max(near)[2] if near else k


def _verdict(candidates: Candidates, k: int, choice: _Choice, rules: Rules) -> str:
    if k in choice.rescued:
        return f"kept to reach min_keep={rules.min_keep}, although: {choice.reasons[k]}"
    if k not in choice.kept:
        return f"dropped: {choice.reasons[k]}"
    row, q_value = candidates.best[k], candidates.q_values[k]
    words = f"kept: {_strength(row)}, {_signs(row, rules)}"
    if rules.false_discovery_rate is not None:
        words += f", {_discovery_text(q_value, rules)}"
    weak = (
        abs(row.nw_t) < rules.min_abs_t
        or row.sign_stability < rules.min_sign_stability
        or not rules.discovers(q_value)
    )
    if weak:
        words += f"; family {candidates.families[k]!r} is exempt from the strength test"
    return words


def _discovery_text(q_value: float, rules: Rules) -> str:
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
