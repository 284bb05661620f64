"""The long-only portfolio of least variance under a weight cap, exactly, by an active set.

The optimum is known once it is known which stocks stand at zero and which at the cap: the weights
of the others solve linear equations, in as many unknowns as there are such stocks or factors,
whichever is fewer. `least_variance` starts from all stocks, puts those at a bound whose weights
come out beyond it, and lets those go that their marginal variance draws back, many at a time. A
step that lowers the variance is kept, any other is replaced by one of the classical method, one
stock at a time; so no set of bounds comes twice, and the search ends. A feasible active set
method: P. Hungerlaender, F. Rendl (2015), doi:10.1137/140966782; the classical one: J. Nocedal,
S. Wright (2006), Numerical Optimization, section 16.5.

There is no start to hand over and no tolerance of weights: they are those of the last equations,
whatever way led to them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from alphakeel.risk.covariance import FactorCovariance

__all__ = ["least_variance"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Least specific variance, as a share of the mean variance: below it equations of more stocks than
# factors have no precise answer. The shrinkage of real returns is a thousand times as large.
MIN_SPECIFIC = 1e-6
# Marginal variances that differ by less than this share of the largest are equal.
TOLERANCE = 1e-11
# A change of the variance by less than this share is rounding.
ROUNDING = 1e-14
# Steps that lowered the variance; real data take 2 to 10.
MAX_STEPS = 1000


class _Portfolio(NamedTuple):
    """The optimum given who stands at a bound: `free` at none, `high` at the cap, others at 0."""

    weights: FloatArray
    free: BoolArray
    high: BoolArray


def least_variance(covariance: FactorCovariance, cap: float) -> FloatArray | None:
    """Weights of ``min w' S w, sum w = 1, 0 <= w <= cap`` for ``S = L L' + diag(d)``.

    Parameters
    ----------
    covariance : FactorCovariance
        Of n_kept stocks; their mean variance has to be positive and finite.
    cap : float
        Largest weight, more than ``1 / n_kept``.

    Returns
    -------
    ndarray of shape (n_kept,) or None
        The weights, to rounding: every stock between the bounds has the same marginal variance,
        none at zero a smaller and none at the cap a larger one. None where the search does not end.

    Examples
    --------
    >>> known = np.ones(3, dtype=bool)
    >>> covariance = FactorCovariance(np.zeros((3, 1)), np.array([1.0, 2.0, 4.0]), known)
    >>> least_variance(covariance, 0.5)
    array([0.5       , 0.33333333, 0.16666667])
    """
    scale = float(covariance.variance.mean())
    if not 0.0 < scale < np.inf:
        return None
    programme = _Programme(
        np.ascontiguousarray(covariance.loadings) / scale**0.5,
        np.maximum(covariance.specific / scale, MIN_SPECIFIC),
        cap,
    )
    n = len(programme.specific)
    best = programme.bind(np.ones(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_))
    for _ in range(MAX_STEPS):
        gradient = programme.gradient(best.weights)
        level = gradient[best.free].mean()
        gain = np.where(best.high, gradient - level, level - gradient)
        gain[best.free] = 0.0
        leaving = gain > TOLERANCE * gradient.max()
        if not leaving.any():
            return best.weights
        variance = best.weights @ gradient
        trial = programme.bind(best.free | leaving, best.high & ~leaving)
        less = trial.weights @ programme.gradient(trial.weights)
        if not less < variance * (1.0 - ROUNDING):
            first = np.arange(n) == gain.argmax()
            trial = programme.walk(best.weights, best.free | first, best.high & ~first)
        best = trial
    return None


class _Programme:
    """Factor loadings (n, k) and specific variances (n,) in units of the mean variance, a cap."""

    def __init__(self, loadings: FloatArray, specific: FloatArray, cap: float) -> None:
        self.loadings, self.specific, self.cap = loadings, specific, cap

    def gradient(self, weights: FloatArray) -> FloatArray:
        """Marginal variance of every stock, ``S w``."""
        held = np.flatnonzero(weights)
        factors = weights[held] @ self.loadings[held]
        return np.asarray(self.loadings @ factors + self.specific * weights)

    def bind(self, free: BoolArray, high: BoolArray) -> _Portfolio:
        """Put free stocks beyond a bound there until none is: those below zero first.

        So those that go to the cap have room: what they were given sums to less than the whole.
        Where no stock is left to take the rest, those at zero are free again.
        """
        while True:
            if not free.any():
                free = ~high
            weights = self.between(free, high)
            below = weights < 0.0
            if below.any():
                # All below zero: the caps have spent the whole, and by rounding more.
                below[weights.argmax()] &= below.sum() < free.sum()
                free = free & ~below
                continue
            above = weights > self.cap
            if not above.any():
                return _Portfolio(weights, free, high)
            free, high = free & ~above, high | above

    def walk(self, weights: FloatArray, free: BoolArray, high: BoolArray) -> _Portfolio:
        """Go from feasible weights towards the optimum of the free stocks, from bound to bound."""
        free, high = free.copy(), high.copy()
        while True:
            aim = self.between(free, high)
            above = free & (aim > self.cap)
            out = above | (aim < 0.0)
            if not out.any() or free.sum() == 1:
                return _Portfolio(np.minimum(aim, self.cap), free, high)
            bound = np.where(above, self.cap, 0.0)
            room = np.full(len(aim), np.inf)
            room[out] = (bound[out] - weights[out]) / (aim[out] - weights[out])
            first = int(room.argmin())
            weights = np.clip(weights + room[first] * (aim - weights), 0.0, self.cap)
            weights[first] = bound[first]
            free[first], high[first] = False, above[first]

    def between(self, free: BoolArray, high: BoolArray) -> FloatArray:
        """Weights of least variance with the others at their bounds, whatever their sign."""
        weights, rest = np.where(high, self.cap, 0.0), 1.0 - self.cap * np.count_nonzero(high)
        if free.sum() == 1:
            weights[free] = max(rest, 0.0)
            return weights
        loadings, specific = self.loadings[free], self.specific[free]
        pull = self.loadings[high].sum(axis=0) * self.cap
        right = np.column_stack([np.ones(len(specific)), -(loadings @ pull)])
        # S_FF w = level * 1 - S_FU cap, solved for both parts of the right side at once.
        one, fixed = _solve(loadings, specific, right).T
        weights[free] = fixed + (rest - fixed.sum()) / one.sum() * one
        return weights


def _solve(loadings: FloatArray, specific: FloatArray, right: FloatArray) -> FloatArray:
    """Solve ``(L L' + diag(d)) x = right`` in as few unknowns as there are: stocks or factors."""
    n, n_factors = loadings.shape
    if n <= n_factors:
        matrix = loadings @ loadings.T
        matrix[np.diag_indices(n)] += specific
        return np.asarray(cho_solve(_factored(matrix), right, check_finite=False))
    root = np.sqrt(specific)[:, None]
    scaled, aim = loadings / root, right / root
    matrix = scaled.T @ scaled
    matrix[np.diag_indices(n_factors)] += 1.0
    factored = _factored(matrix)

    def inverse(y: FloatArray) -> FloatArray:
        return np.asarray(y - scaled @ cho_solve(factored, scaled.T @ y, check_finite=False))

    x = inverse(aim)
    x += inverse(aim - x - scaled @ (scaled.T @ x))  # the rounding of a difference of large numbers
    return np.asarray(x / root)


def _factored(matrix: FloatArray) -> tuple[FloatArray, bool]:
    factored: tuple[FloatArray, bool] = cho_factor(matrix, overwrite_a=True, check_finite=False)
    return factored
