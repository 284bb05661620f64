r"""Linear factor models: the benchmark that a network has to beat.

Everything is estimated from moments per date, taken in one pass over the data: with the
deviations :math:`\tilde x, \tilde y` from the means of the date,

.. math:: A_t = \sum_i \tilde x_{ti} \tilde x_{ti}^\top, \qquad
          b_t = \sum_i \tilde x_{ti} \tilde y_{ti}.

Deviations, because what all stocks of a date share cannot move a ranking of them: they stand for
one intercept per date.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alphakeel.errors import ConfigError, DataError
from alphakeel.models.base import (
    check_features,
    check_fitted,
    check_integer,
    check_number,
    check_targets,
)
from alphakeel.models.persistence import Persistent, expect

__all__ = ["LinearForecaster"]

Floats = NDArray[np.float64]

# Rows are taken in blocks of about this many float64 values (16 MB), to stay inside caches.
BLOCK_VALUES = 2_000_000
# Directions of the factors weaker than this share of the strongest one count as collinear.
COLLINEAR = 1e-10


class LinearForecaster(Persistent):
    r"""Scores linear in the factors: pooled least squares, ridge, or Fama-MacBeth.

    Parameters
    ----------
    method : {"pooled", "ridge", "fama_macbeth"}, default="pooled"
        - ``"pooled"``: least squares over all stocks and dates with an intercept per date,
          :math:`\beta = (\sum A_t)^{+} \sum b_t`. Collinear factors share the smallest
          coefficients that fit.
        - ``"ridge"``: :math:`\beta = (\sum A_t / n + \alpha I)^{-1} \sum b_t / n`, n entries.
        - ``"fama_macbeth"``: a regression on each date, :math:`\beta_t = A_t^{-1} b_t`, and
          their mean over dates [1]_. Dates with fewer than two stocks more than there are
          factors, or with collinear factors, are left out.
    alpha : float, default=1.0
        Strength of the ridge, in units of a factor's variance (1 for standardised factors).
        Read by ``"ridge"`` only.
    lags : int, optional
        Lags of the Newey-West errors [2]_. By default ``floor(4 (T / 100)^(2/9))``. Targets that
        overlap over m rows need at least m - 1.

    Attributes
    ----------
    coef_ : float64 ndarray of shape (n_factors,)
        Score per unit of each factor, in units of the target.
    standard_error_ : float64 ndarray of shape (n_factors,)
        For Fama-MacBeth the Newey-West error of the mean of :math:`\beta_t`. For the others the
        error of Driscoll and Kraay [3]_, that is Newey-West on the sums of the scores per date:
        it allows for stocks that move together and for overlapping targets. A ridge's errors
        say nothing of its bias.
    tstat_ : float64 ndarray of shape (n_factors,)
        Coefficient over error; NaN where the error is zero.
    premia_ : float64 ndarray of shape (n_dates, n_factors)
        Fama-MacBeth only: :math:`\beta_t`, NaN on dates left out.
    n_entries_ : int
        Stock-dates used.
    n_dates_ : int
        Dates used.

    Notes
    -----
    With several horizons the target is their plain average, over entries where all are known:
    ranks of comparable scale are expected.

    `market` is accepted and ignored: a series equal for all stocks on a date moves all linear
    scores of that date alike, and so cannot change their order.

    References
    ----------
    .. [1] Fama, MacBeth (1973), "Risk, Return, and Equilibrium", J. Political Economy 81.
       https://doi.org/10.1086/260061
    .. [2] Newey, West (1987), "A Simple, Positive Semi-Definite, Heteroskedasticity and
       Autocorrelation Consistent Covariance Matrix", Econometrica 55.
       https://doi.org/10.2307/1913610
    .. [3] Driscoll, Kraay (1998), "Consistent Covariance Matrix Estimation with Spatially
       Dependent Panel Data", Review of Economics and Statistics 80.
       https://doi.org/10.1162/003465398557825

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> features = rng.standard_normal((50, 30, 2))
    >>> targets = features @ [0.5, -0.2] + 0.1 * rng.standard_normal((50, 30))
    >>> LinearForecaster().fit(features, targets).coef_.round(2)
    array([ 0.5, -0.2])
    """

    label = "Linear"

    def __init__(
        self,
        method: str = "pooled",
        *,
        alpha: float = 1.0,
        lags: int | None = None,
    ) -> None:
        self.method = method
        self.alpha = alpha
        self.lags = lags

    def fit(
        self,
        features: ArrayLike,
        targets: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
    ) -> Self:
        """Estimate the coefficients; arguments as in `Forecaster.fit`.

        DataError if nothing is known, or Fama-MacBeth finds fewer than two usable dates.
        """
        self.fit_all([self], features, targets, mask=mask, market=market)
        return self

    @staticmethod
    def fit_all(
        forecasters: Sequence[LinearForecaster],
        features: ArrayLike,
        targets: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
    ) -> Sequence[LinearForecaster]:
        """Fit several on the same rows, each as `fit` does: the moments are taken once."""
        checked = [forecaster._checked_settings() for forecaster in forecasters]
        inputs = check_features(features, mask, market)
        target: Floats = check_targets(targets, inputs).mean(axis=2, dtype=np.float64)
        moments = _moments_by_date(inputs.values, target)
        for forecaster, (alpha, lags) in zip(forecasters, checked, strict=True):
            forecaster._fit_moments(*moments, alpha, lags)
        return forecasters

    def _checked_settings(self) -> tuple[float, int | None]:
        """Strength of the ridge, and lags; ConfigError for a setting out of range."""
        if self.method not in ("pooled", "ridge", "fama_macbeth"):
            raise ConfigError(
                f"method must be 'pooled', 'ridge' or 'fama_macbeth', not {self.method!r}"
            )
        alpha = check_number("alpha", self.alpha, low=0.0)
        return alpha, None if self.lags is None else check_integer("lags", self.lags, at_least=0)

    def _fit_moments(
        self, gram: Floats, moment: Floats, count: Floats, alpha: float, lags: int | None
    ) -> None:
        """Estimate the coefficients from the moments of each date."""
        if self.method == "fama_macbeth":
            self._fit_by_date(gram, moment, count, lags)
        else:
            self._fit_pooled(gram, moment, count, lags, alpha if self.method == "ridge" else None)
        self.n_factors_in_ = moment.shape[1]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self.coef_ / self.standard_error_
        self.tstat_ = np.where(self.standard_error_ > 0, ratio, np.nan)

    def predict(
        self,
        features: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
    ) -> NDArray[np.float32]:
        """Scores ``features @ coef_`` of shape (n_dates, n_assets); NaN where masked."""
        check_fitted(self, "coef_")
        inputs = check_features(features, mask, market)
        if inputs.values.shape[2] != self.n_factors_in_:
            raise DataError(
                f"the model was fitted on {self.n_factors_in_} factors, but predict was given "
                f"{inputs.values.shape[2]}"
            )
        scores = np.full(inputs.present.shape, np.nan, dtype=np.float32)
        for rows in _blocks(inputs.values):
            with np.errstate(invalid="ignore", over="ignore"):  # masked entries may hold anything
                # Term by term: a matrix product may round an entry by what else is in the matrix.
                block = np.einsum("tik,k->ti", inputs.values[rows].astype(np.float64), self.coef_)
                scores[rows] = np.where(inputs.present[rows], block, np.nan)
        return scores

    def _set_learned(self, learned: dict[str, Any]) -> None:
        n_factors = check_integer("n_factors_in_", learned["n_factors_in_"], at_least=1)
        for name in ("coef_", "standard_error_", "tstat_"):
            expect(name, learned[name], (n_factors,), np.float64)
        if "premia_" in learned:
            expect("premia_", learned["premia_"], (len(learned["premia_"]), n_factors), np.float64)
        super()._set_learned(learned)

    def _fit_pooled(
        self, gram: Floats, moment: Floats, count: Floats, lags: int | None, alpha: float | None
    ) -> None:
        n_entries = count.sum()
        total = gram.sum(axis=0)
        if alpha is not None:
            total = total + alpha * n_entries * np.eye(len(total))
        inverse = np.linalg.pinv(total, rcond=COLLINEAR, hermitian=True)
        self.coef_ = inverse @ moment.sum(axis=0)
        used = count > 1
        by_date = (moment - gram @ self.coef_)[used]
        covariance = inverse @ _long_run_sum(by_date, lags) @ inverse
        self.standard_error_ = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        self.n_entries_, self.n_dates_ = int(n_entries), int(used.sum())

    def _fit_by_date(self, gram: Floats, moment: Floats, count: Floats, lags: int | None) -> None:
        n_factors = moment.shape[1]
        used = count >= n_factors + 2
        strength = np.linalg.eigvalsh(gram[used])
        used[used] = strength[:, 0] > COLLINEAR * strength[:, -1]
        if used.sum() < 2:
            raise DataError(
                f"Fama-MacBeth needs dates with at least {n_factors + 2} stocks for {n_factors} "
                f"factors that are not collinear, but found {int(used.sum())} of {len(used)} (at "
                f"most {int(count.max())} stocks on a date); use fewer factors or pooled"
            )
        premia = np.linalg.solve(gram[used], moment[used][..., None])[..., 0]
        self.coef_ = premia.mean(axis=0)
        covariance = _long_run_sum(premia - self.coef_, lags) / len(premia) ** 2
        self.standard_error_ = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        self.premia_ = np.full(moment.shape, np.nan)
        self.premia_[used] = premia
        self.n_entries_, self.n_dates_ = int(count[used].sum()), int(used.sum())


def _blocks(features: NDArray[np.float32]) -> list[slice]:
    n_dates, n_assets, n_factors = features.shape
    step = max(1, BLOCK_VALUES // (n_assets * n_factors))
    return [slice(start, min(start + step, n_dates)) for start in range(0, n_dates, step)]


def _moments_by_date(
    features: NDArray[np.float32], target: Floats
) -> tuple[Floats, Floats, Floats]:
    """Gram matrices (T, K, K), moments with the target (T, K) and stocks (T,) of each date."""
    n_dates, _, n_factors = features.shape
    gram = np.empty((n_dates, n_factors, n_factors))
    moment = np.empty((n_dates, n_factors))
    count = np.empty(n_dates)
    for rows in _blocks(features):
        used = np.isfinite(target[rows])
        number = used.sum(axis=1)
        share = 1.0 / np.maximum(number, 1)
        x = np.where(used[..., None], features[rows].astype(np.float64), 0.0)
        x -= x.sum(axis=1, keepdims=True) * share[:, None, None]
        x *= used[..., None]
        y = np.where(used, target[rows], 0.0)
        y -= (y.sum(axis=1) * share)[:, None]
        y *= used
        across = x.transpose(0, 2, 1)
        gram[rows], moment[rows] = across @ x, (across @ y[..., None])[..., 0]
        count[rows] = number
    return gram, moment, count


def _long_run_sum(series: Floats, lags: int | None) -> Floats:
    """Sum of outer products of the rows, with Bartlett-weighted neighbours (Newey-West)."""
    n_rows = len(series)
    lags = int(4 * (n_rows / 100) ** (2 / 9)) if lags is None else lags
    total = series.T @ series
    for lag in range(1, min(lags, n_rows - 1) + 1):
        cross = series[lag:].T @ series[:-lag]
        total += (1 - lag / (lags + 1)) * (cross + cross.T)
    return total
