r"""Support-vector regression, at a cost that is linear in the number of stock-dates.

Exact kernel regression holds a kernel value for every pair of training entries: 275,000 of them
(500 dates x 550 stocks) would need 605 GB, and time grows faster still. Two measures bound it, and
both are stated settings: at most `max_entries` random stock-dates are fitted, and the kernel is
replaced by Nystroem's approximation on `components` of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.kernel_approximation import Nystroem
from sklearn.svm import LinearSVR

from alphakeel.errors import ConvergenceError
from alphakeel.models.base import Inputs, check_integers, check_number
from alphakeel.models.sampling import MarketScale
from alphakeel.models.state import expect
from alphakeel.models.tabular import TabularForecaster, rows_of

__all__ = ["SupportVectorForecaster"]

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

MAX_ITERATIONS = 1000
# Factors have unit variance. One beyond this has no neighbour, and is pulled in so that the
# square of its distance stays finite.
FARTHEST = 1e6


class SupportVectorForecaster(TabularForecaster):
    r"""Scores from support-vector regression with a Gaussian kernel: a reference.

    .. math:: \min_{w, b} \tfrac12 \lVert w \rVert^2
              + C \sum_i \max(0, |w^\top \phi(z_i) + b - y_i| - \epsilon)^2,
              \qquad \phi(z)^\top \phi(z') \approx e^{-\gamma \lVert z - z' \rVert^2}

    with :math:`\phi` of Nystroem [2]_ and the primal solver of liblinear [3]_. The squared loss
    outside the tube keeps the problem smooth, so that it is solved, not stopped.

    Parameters
    ----------
    C : float, default=0.01
        Weight of the errors of all entries against the size of w; smaller is smoother.
    epsilon : float, default=0.1
        Half-width of the tube in which errors cost nothing, in units of the target.
    gamma : float, optional
        Inverse squared width of the kernel. By default 1 over twice the number of columns.
    components : int, default=256
        Columns of the approximation; lowered to the number of entries.
    max_entries : int, default=50_000
        Most stock-dates fitted, drawn at random from those with a known target.
    n_seeds, seed : int, default=1, 0
        Members and the first one's seed, from which its entries and landmarks are drawn.

    Attributes
    ----------
    landmarks_ : float64 ndarray of shape (n_seeds, components, n_columns)
    weights_ : float64 ndarray of shape (n_seeds, components)
        Score per unit of kernel with each landmark.
    offsets_ : float64 ndarray of shape (n_seeds,)
    market_mean_, market_deviation_ : float64 ndarray of shape (n_series,)
        By which market series are scaled, held within 5 deviations, 0 where unknown.

    References
    ----------
    .. [1] Smola, Schoelkopf (2004), "A tutorial on support vector regression", Statistics and
       Computing 14. https://doi.org/10.1023/B:STCO.0000035301.49549.88
    .. [2] Williams, Seeger (2001), "Using the Nystroem Method to Speed Up Kernel Machines",
       NeurIPS 13.
    .. [3] Ho, Lin (2012), "Large-scale Linear Support Vector Regression", JMLR 13.
       https://jmlr.org/papers/v13/ho12a.html

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> features = rng.standard_normal((60, 20, 2))
    >>> model = SupportVectorForecaster(components=30).fit(features, np.sin(features[..., 0]))
    >>> bool(np.corrcoef(model.predict(features).ravel(), features[..., 0].ravel())[0, 1] > 0.8)
    True
    """

    label = "SVR"

    def __init__(
        self,
        *,
        C: float = 0.01,
        epsilon: float = 0.1,
        gamma: float | None = None,
        components: int = 256,
        max_entries: int = 50_000,
        n_seeds: int = 1,
        seed: int = 0,
    ) -> None:
        self.C = C
        self.epsilon = epsilon
        self.gamma = gamma
        self.components = components
        self.max_entries = max_entries
        self.n_seeds = n_seeds
        self.seed = seed

    def _check_settings(self) -> None:
        check_number("C", self.C, low=0.0, low_open=True)
        check_number("epsilon", self.epsilon, low=0.0)
        if self.gamma is not None:
            check_number("gamma", self.gamma, low=0.0, low_open=True)
        check_integers(self, "components", at_least=1)
        check_integers(self, "max_entries", at_least=2)

    def _fit_members(self, inputs: Inputs, goals: Floats32) -> None:
        scale = MarketScale.of(inputs.market)
        self.market_mean_, self.market_deviation_ = scale.mean, scale.deviation
        known = np.flatnonzero(np.isfinite(goals))
        fits = [self._fit_one(inputs, goals, known, self.seed + k) for k in range(self.n_seeds)]
        self.landmarks_ = np.stack([landmarks for landmarks, _, _ in fits])
        self.weights_ = np.stack([weights for _, weights, _ in fits])
        self.offsets_ = np.array([offset for _, _, offset in fits])

    def _fit_one(
        self, inputs: Inputs, goals: Floats32, known: NDArray[np.intp], seed: int
    ) -> tuple[Floats, Floats, float]:
        rng = np.random.default_rng(seed)
        if len(known) > self.max_entries:
            known = rng.choice(known, size=self.max_entries, replace=False, shuffle=False)
        chosen = np.zeros(goals.shape, dtype=np.bool_)
        chosen.ravel()[known] = True
        table = self._scaled(rows_of(inputs, chosen))
        nystroem = Nystroem(
            gamma=self._gamma(),
            n_components=min(self.components, len(table)),
            random_state=int(rng.integers(2**31)),
        )
        # With squared errors and dual=False liblinear draws no random numbers.
        machine = LinearSVR(
            C=self.C,
            epsilon=self.epsilon,
            loss="squared_epsilon_insensitive",
            dual=False,
            max_iter=MAX_ITERATIONS,
        )
        machine.fit(nystroem.fit_transform(table), goals[chosen])
        if machine.n_iter_ >= MAX_ITERATIONS:
            raise ConvergenceError(
                f"support-vector regression did not settle in {MAX_ITERATIONS} iterations with "
                f"C={self.C:g}; lower C"
            )
        weights = nystroem.normalization_.T @ machine.coef_
        return nystroem.components_, weights, float(np.ravel(machine.intercept_)[0])

    def _score(self, table: Floats32) -> Floats32:
        rows = self._scaled(table)
        total = np.zeros(len(rows))
        for landmarks, weights, offset in zip(
            self.landmarks_, self.weights_, self.offsets_, strict=True
        ):
            total += _gaussian(rows, landmarks, self._gamma()) @ weights + offset
        return np.asarray(total / len(self.landmarks_), dtype=np.float32)

    def _gamma(self) -> float:
        columns = self.n_factors_in_ + self.n_market_in_
        return 0.5 / columns if self.gamma is None else float(self.gamma)

    def _scaled(self, table: Floats32) -> Floats:
        scale = MarketScale(self.market_mean_, self.market_deviation_)
        factors, market = np.split(table, [self.n_factors_in_], axis=1)
        pulled_in = factors.clip(-FARTHEST, FARTHEST)
        return np.concatenate([pulled_in, scale.apply(market)], axis=1, dtype=np.float64)

    def _set_learned(self, learned: dict[str, Any]) -> None:
        columns = int(learned["n_factors_in_"]) + int(learned["n_market_in_"])
        n_seeds, components = np.shape(learned["weights_"])
        expect("landmarks_", learned["landmarks_"], (n_seeds, components, columns), np.float64)
        expect("weights_", learned["weights_"], (n_seeds, components), np.float64)
        expect("offsets_", learned["offsets_"], (n_seeds,), np.float64)
        for name in ("market_mean_", "market_deviation_"):
            expect(name, learned[name], (int(learned["n_market_in_"]),), np.float64)
        super()._set_learned(learned)


def _gaussian(x: Floats, landmarks: Floats, gamma: float) -> Floats:
    """Kernel values of shape (n_rows, n_landmarks)."""
    squares = (x * x).sum(axis=1)[:, None] + (landmarks * landmarks).sum(axis=1)
    return np.asarray(np.exp(-gamma * np.maximum(squares - 2.0 * (x @ landmarks.T), 0.0)))
