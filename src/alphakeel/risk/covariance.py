"""Covariance of the stocks in factor form, from one window of past returns.

Every estimator returns loadings and specific variances, ``S = L L' + diag(d)``: positive
semi-definite by construction, cheap in an optimiser (a few factors instead of a square matrix)
and rescaled to better volatilities without touching the correlations.

All take `returns` of shape (n_dates, n_assets), simple returns as fractions with NaN where there
is none, that end on the decision's row, so nothing here sees the future. A stock with returns on
less than `min_share` of the rows is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError, DataError

__all__ = [
    "COVARIANCES",
    "FactorCovariance",
    "clipped_covariance",
    "ewma_covariance",
    "factor_covariance",
    "ledoit_wolf_covariance",
    "wide_ledoit_wolf_covariance",
]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class FactorCovariance(NamedTuple):
    """Covariance per period of the stocks for which there were enough returns.

    Attributes
    ----------
    loadings : ndarray of shape (n_kept, n_factors)
        Exposure to uncorrelated factors of unit variance.
    specific : ndarray of shape (n_kept,)
        Variance that no factor explains; at least zero.
    kept : ndarray of shape (n_assets,) of bool
        Which stocks of the input it is about.
    """

    loadings: FloatArray
    specific: FloatArray
    kept: BoolArray

    @property
    def matrix(self) -> FloatArray:
        """The square matrix, of shape (n_kept, n_kept)."""
        return np.asarray(self.loadings @ self.loadings.T + np.diag(self.specific))

    @property
    def variance(self) -> FloatArray:
        """The diagonal of the matrix, of shape (n_kept,)."""
        return np.asarray((self.loadings**2).sum(axis=1) + self.specific)

    def portfolio_variance(self, weights: FloatArray) -> float:
        """Variance per period of a portfolio of the kept stocks."""
        return float(((weights @ self.loadings) ** 2).sum() + weights**2 @ self.specific)

    def over(self, periods: float) -> FactorCovariance:
        """The covariance of `periods` independent periods."""
        return FactorCovariance(self.loadings * periods**0.5, self.specific * periods, self.kept)

    def rescaled(self, volatility: FloatArray) -> FactorCovariance:
        """The same correlations with other volatilities per period; NaN or 0 keeps the own one."""
        own = np.sqrt(self.variance)
        usable = np.isfinite(volatility) & (volatility > 0.0) & (own > 0.0)
        scale = np.divide(volatility, own, out=np.ones_like(own), where=usable)
        return FactorCovariance(self.loadings * scale[:, None], self.specific * scale**2, self.kept)


def ewma_covariance(
    returns: FloatArray, *, halflife: float = 60.0, min_share: float = 0.8
) -> FactorCovariance:
    """Covariance in which a return `k` rows old weighs ``0.5^(k / halflife)``.

    The weighted rows are the factors; there is no specific variance. RiskMetrics Technical
    Document (1996), section 5.2.
    """
    if not halflife > 0.0:
        raise ConfigError(f"halflife is {halflife!r}; give a positive number of rows")
    window, kept = _centred(returns, min_share)
    weight = 0.5 ** (np.arange(len(window))[::-1] / halflife)
    loadings = (window * np.sqrt(weight / weight.sum())[:, None]).T
    return FactorCovariance(loadings, np.zeros(len(loadings)), kept)


def ledoit_wolf_covariance(returns: FloatArray, *, min_share: float = 0.8) -> FactorCovariance:
    """Ledoit-Wolf shrinkage towards a scaled identity.

    O. Ledoit, M. Wolf (2004), doi:10.1016/S0047-259X(03)00096-4.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage  # slow to import, seldom needed

    window, kept = _centred(returns, min_share)
    if not kept.any():
        return FactorCovariance(window.T, np.zeros(0), kept)
    return _shrunk(window, kept, float(ledoit_wolf_shrinkage(window, assume_centered=True)))


def wide_ledoit_wolf_covariance(returns: FloatArray, *, min_share: float = 0.8) -> FactorCovariance:
    """The same to rounding, for many more stocks than dates: its cost grows with the stocks.

    scikit-learn sums over pairs of stocks, this over pairs of dates where these are fewer.
    """
    window, kept = _centred(returns, min_share)
    n_dates, n_kept = window.shape
    if not n_kept:
        return FactorCovariance(window.T, np.zeros(0), kept)
    product = window @ window.T if n_dates < n_kept else window.T @ window
    # Of the sample covariance S, of mean variance m: |S|^2, |S - m I|^2, and the error of S.
    total = float(np.vdot(product, product)) / n_dates**2
    away = total - float((window**2).sum() / n_dates) ** 2 / n_kept
    error = (float((np.vecdot(window, window) ** 2).sum()) / n_dates - total) / n_dates
    return _shrunk(window, kept, min(error / away, 1.0) if min(error, away) > 0.0 else 0.0)


def _shrunk(window: FloatArray, kept: BoolArray, shrinkage: float) -> FactorCovariance:
    """From centred returns, a share of the way to their mean variance on the diagonal."""
    n_dates, n_kept = window.shape
    mean_variance = float((window**2).sum() / (n_dates * n_kept))
    return FactorCovariance(
        np.sqrt((1.0 - shrinkage) / n_dates) * window.T,
        np.full(n_kept, shrinkage * mean_variance),
        kept,
    )


def clipped_covariance(returns: FloatArray, *, min_share: float = 0.8) -> FactorCovariance:
    """Covariance whose correlations keep only eigenvalues that noise cannot make.

    Eigenvalues of the correlation matrix under the Marchenko-Pastur edge
    ``(1 + sqrt(n_kept / n_dates))^2`` are replaced by their mean; the diagonal is then set back to
    one. L. Laloux et al. (1999), doi:10.1103/PhysRevLett.83.1467.
    """
    window, kept = _centred(returns, min_share)
    own, values, vectors = _principal(window)
    edge = (1.0 + np.sqrt(len(own) / len(window))) ** 2
    signal = values > edge
    noise = float(values[~signal].mean()) if not signal.all() else 0.0
    loadings = vectors[:, signal] * np.sqrt(np.maximum(values[signal] - noise, 0.0))
    return _with_unit_diagonal(loadings, own, kept)


def factor_covariance(
    returns: FloatArray, *, n_factors: int = 10, min_share: float = 0.8
) -> FactorCovariance:
    """Statistical factor model: at most `n_factors` principal components of the correlations.

    G. Connor, R. Korajczyk (1988), doi:10.1016/0304-405X(88)90062-1.
    """
    if n_factors < 1:
        raise ConfigError(f"n_factors is {n_factors!r}; give at least 1")
    window, kept = _centred(returns, min_share)
    own, values, vectors = _principal(window)
    loadings = vectors[:, -n_factors:] * np.sqrt(np.maximum(values[-n_factors:], 0.0))
    return _with_unit_diagonal(loadings, own, kept)


COVARIANCES: dict[str, Callable[..., FactorCovariance]] = {
    "factor": factor_covariance,
    "clipped": clipped_covariance,
    "ledoit_wolf": ledoit_wolf_covariance,
    "ewma": ewma_covariance,
}


def _centred(returns: FloatArray, min_share: float) -> tuple[FloatArray, BoolArray]:
    """Centred returns of the stocks with enough of them, gaps at zero, variances kept."""
    returns = np.asarray(returns, np.float64)
    if not 0.0 < min_share <= 1.0:
        raise ConfigError(f"min_share is {min_share!r}; give a share in (0, 1]")
    if returns.ndim != 2 or len(returns) < 2:
        raise DataError(
            f"returns have shape {returns.shape}; a covariance needs (n_dates, n_assets) "
            "with at least two rows"
        )
    if np.isinf(returns).any():
        row, column = np.argwhere(np.isinf(returns))[0]
        raise DataError(f"returns[{row}, {column}] is infinite; mark a missing return with NaN")
    known = ~np.isnan(returns)
    kept = known.sum(axis=0) >= max(2.0, min_share * len(returns))
    known = known[:, kept]
    counts = known.sum(axis=0)
    window = np.where(known, returns[:, kept], 0.0)
    window = np.where(known, window - window.sum(axis=0) / counts, 0.0)
    return window * np.sqrt(len(returns) / counts), kept


def _principal(window: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Volatilities, and eigenvalues (rising) and eigenvectors of the correlations."""
    own = np.sqrt((window**2).mean(axis=0))
    scaled = window / np.where(own > 0.0, own, 1.0)
    values, vectors = np.linalg.eigh(scaled.T @ scaled / len(window))
    return own, values, vectors


def _with_unit_diagonal(loadings: FloatArray, own: FloatArray, kept: BoolArray) -> FactorCovariance:
    """From loadings of correlations to a covariance with the volatilities `own`."""
    specific = np.maximum(1.0 - (loadings**2).sum(axis=1), 0.0)
    return FactorCovariance(loadings * own[:, None], specific * own**2, kept)
