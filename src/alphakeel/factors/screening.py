"""Which factors earn a place in the model, judged on training rows only, with reasons in words.

The screen is handed arrays and nothing else: rows that are not handed in cannot matter. It asks
five questions of each factor, in this order, and the first "no" is its verdict:

1. coverage: is it known for enough of the eligible stock-days?
2. strength: is its Rank IC beyond noise (Newey-West t) at one horizon at least, with the same sign
   in most sub-periods, and, on request, under a limit on false discoveries?
3. novelty: does a stronger factor already say the same (mean cross-sectional rank correlation)?
4. collinearity, on request: do the others together already say the same (VIF)?
5. the floor: if too few are left, the strongest come back, and their verdict says so.

How the figures are computed is in `screen_figures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from alphakeel.errors import ConfigError, DataError, NotFittedError
from alphakeel.factors.market_screen import screen_market_series
from alphakeel.factors.screen_figures import (
    DISCOVERY_METHODS,
    HorizonFigures,
    check_arrays,
    check_horizons,
    check_names,
    cross_sections,
    discovery_q_values,
    inflation,
    judge_horizons,
)

__all__ = ["FactorScreen", "screen_market_series"]

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
        lenient: it removes noise, and leaves the weighing to the model.

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

    See Also
    --------
    screen_market_series : series that are the same for all stocks on a date.

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
        """Judge every factor on the rows handed in.

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
        values, targets, mask = check_arrays(values, targets, mask)
        n_factors, n_horizons = values.shape[2], targets.shape[2]
        labels, groups = check_names(names, families, n_factors)
        reach = check_horizons(horizons, n_horizons)

        sums = cross_sections(values, targets, mask, labels, self.min_assets)
        self.names_, self.families_ = labels, groups
        self.rank_ic_, self.correlation_ = sums.rank_ic, sums.correlation
        figures = judge_horizons(sums, labels, reach, self.n_subperiods)
        self.by_horizon_ = pd.DataFrame(figures)
        self._decide(sums.coverage, _best_horizons(figures, n_horizons), n_horizons)
        return self

    def transform(self, values: FloatArray) -> FloatArray:
        """Keep the columns of the selected factors.

        Parameters
        ----------
        values : ndarray of shape (..., n_factors)
            Any array whose last axis is the factors in the order of `fit`.

        Returns
        -------
        selected : ndarray of shape (..., n_selected)

        Raises
        ------
        NotFittedError
            If called before `fit`.
        DataError
            If the last axis has another length.
        """
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

    def _decide(self, coverage: FloatArray, best: list[HorizonFigures], n_horizons: int) -> None:
        """Turn the figures into `support_`, `verdicts_` and `selected_`."""
        strength = np.nan_to_num(np.abs(np.array([row.nw_t for row in best])), nan=-1.0)
        if not (strength >= 0).any():
            raise DataError(
                "no factor can be judged: no date has enough stocks on which a factor and a "
                f"target are both known (min_assets={self.min_assets}); give more rows or stocks."
            )
        order = sorted(range(strength.size), key=lambda k: (-strength[k], self.names_[k]))
        q_values = discovery_q_values(best, n_horizons, self.discovery_method)
        reasons = self._weaknesses(coverage, best, q_values)
        closeness = np.nan_to_num(np.abs(self.correlation_), nan=0.0)

        kept: list[int] = []
        leader = np.arange(strength.size)
        for k in order:
            if reasons[k] is None:
                self._join(k, kept, leader, closeness, reasons)
        self._limit_vif(kept, strength, reasons)
        rescued = self._fill(order, strength, coverage, kept, closeness)
        for k in order:
            if k not in kept and leader[k] == k and strength[k] >= 0:
                leader[k] = _representative(k, kept, closeness, self.max_correlation)

        self.support_ = np.zeros(strength.size, dtype=bool)
        self.support_[kept] = True
        self.selected_ = tuple(np.array(self.names_, dtype=object)[self.support_])
        self.verdicts_ = self._table(coverage, best, q_values, leader, kept, rescued, reasons)

    def _weaknesses(
        self, coverage: FloatArray, best: list[HorizonFigures], q_values: FloatArray
    ) -> list[str | None]:
        """Why a factor fails on its own figures; None where it passes."""
        reasons: list[str | None] = []
        for k, row in enumerate(best):
            reason = None
            protected = self.families_[k] in self.keep_families
            if coverage[k] == 0.0:
                reason = "known on no eligible stock-day"
            elif coverage[k] < self.min_coverage:
                reason = f"coverage {_share(coverage[k])}, below {_share(self.min_coverage)}"
            elif not np.isfinite(row.nw_t):
                reason = "Rank IC undefined: too few stocks or dates, or the same value for all"
            elif not protected and abs(row.nw_t) < self.min_abs_t:
                reason = f"{_strength(row)}, weaker than t {self.min_abs_t:g}"
            elif not protected and row.sign_stability < self.min_sign_stability:
                reason = f"{_strength(row)}, but {self._signs(row.sign_stability)}"
            elif not protected and not self._discovered(q_values[k]):
                rate = self.false_discovery_rate
                reason = (
                    f"{_strength(row)}, not significant at a false discovery rate of {rate:g} "
                    f"({self._found(q_values[k])})"
                )
            reasons.append(reason)
        return reasons

    def _join(
        self,
        k: int,
        kept: list[int],
        leader: NDArray[np.int_],
        closeness: FloatArray,
        reasons: list[str | None],
    ) -> None:
        """Keep factor `k`, or put it into the cluster of the stronger factor closest to it."""
        leader[k] = _representative(k, kept, closeness, self.max_correlation)
        if leader[k] == k:
            kept.append(k)
            return
        value = self.correlation_[k, leader[k]]
        reasons[k] = f"correlation {value:.2f} with {self.names_[leader[k]]}, which is stronger"

    def _limit_vif(self, kept: list[int], strength: FloatArray, reasons: list[str | None]) -> None:
        """Drop the weakest factor over `max_vif` until none is left."""
        if self.max_vif is None:
            return
        while len(kept) > 1:
            vif = [inflation(self.correlation_, k, kept) for k in kept]
            over = [
                (strength[k], self.names_[k], k, v)
                for k, v in zip(kept, vif, strict=True)
                if v > self.max_vif
            ]
            if not over:
                return
            _, _, weakest, value = min(over)
            kept.remove(weakest)
            reasons[weakest] = f"VIF {value:.1f} against the other factors, above {self.max_vif:g}"

    def _fill(
        self,
        order: list[int],
        strength: FloatArray,
        coverage: FloatArray,
        kept: list[int],
        closeness: FloatArray,
    ) -> set[int]:
        """Add the strongest others up to `min_keep`: well-covered factors before the rest."""
        covered = [k for k in order if coverage[k] >= self.min_coverage]
        sparse = [k for k in order if coverage[k] < self.min_coverage]
        rescued: set[int] = set()
        for k in (*covered, *sparse):
            if len(kept) >= self.min_keep:
                break
            if k in kept or strength[k] < 0:
                continue
            if _representative(k, kept, closeness, self.max_correlation) == k:
                kept.append(k)
                rescued.add(k)
        return rescued

    def _table(
        self,
        coverage: FloatArray,
        best: list[HorizonFigures],
        q_values: FloatArray,
        leader: NDArray[np.int_],
        kept: list[int],
        rescued: set[int],
        reasons: list[str | None],
    ) -> pd.DataFrame:
        words, inflations = [], []
        for k, row in enumerate(best):
            inflations.append(inflation(self.correlation_, k, kept))
            if k in rescued:
                word = f"kept to reach min_keep={self.min_keep}, although: {reasons[k]}"
            elif k in kept:
                word = f"kept: {_strength(row)}, {self._signs(row.sign_stability)}"
                weak = (
                    abs(row.nw_t) < self.min_abs_t
                    or row.sign_stability < self.min_sign_stability
                    or not self._discovered(q_values[k])
                )
                if self.false_discovery_rate is not None:
                    word += f", {self._found(q_values[k])}"
                if weak:
                    word += f"; family {self.families_[k]!r} is exempt from the strength test"
            else:
                word = f"dropped: {reasons[k]}"
            words.append(word)
        return pd.DataFrame(
            {
                "factor": self.names_,
                "family": self.families_,
                "coverage": coverage,
                "ic": [row.ic for row in best],
                "rank_ic": [row.rank_ic for row in best],
                "nw_t": [row.nw_t for row in best],
                "q_value": q_values,
                "horizon": [row.horizon for row in best],
                "sign_stability": [row.sign_stability for row in best],
                "cluster": [self.names_[k] for k in leader],
                "vif": inflations,
                "verdict": words,
                "kept": self.support_,
            }
        )

    def _discovered(self, q_value: float) -> bool:
        """Whether a factor passes the limit on false discoveries; all do if there is none."""
        return self.false_discovery_rate is None or bool(q_value <= self.false_discovery_rate)

    def _found(self, q_value: float) -> str:
        authors = "-".join(name.title() for name in self.discovery_method.split("_"))
        return f"q {q_value:.3f}, {authors}"

    def _signs(self, stability: float) -> str:
        pieces = self.n_subperiods
        if np.isnan(stability):
            return f"too few dates for {pieces} sub-periods"
        return f"same sign in {round(stability * pieces)} of {pieces} sub-periods"


def _best_horizons(by_horizon: Sequence[HorizonFigures], n_horizons: int) -> list[HorizonFigures]:
    """Each factor's horizon with the largest |t|; the first one if none has a t."""
    groups = [by_horizon[i : i + n_horizons] for i in range(0, len(by_horizon), n_horizons)]
    return [max(group, key=lambda row: np.nan_to_num(abs(row.nw_t), nan=-1.0)) for group in groups]


def _representative(k: int, kept: list[int], closeness: FloatArray, limit: float) -> int:
    """The kept factor closest to `k` beyond the limit, or `k` itself."""
    near = [(closeness[k, j], -i, j) for i, j in enumerate(kept) if closeness[k, j] > limit]
    return max(near)[2] if near else k


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _strength(row: HorizonFigures) -> str:
    return f"Rank IC {row.rank_ic:.3f} (t {row.nw_t:.1f})"
