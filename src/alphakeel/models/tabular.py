"""Models that see one stock-date at a time, as references: boosted trees and support vectors.

Exact kernel regression holds a value for every pair of training entries: 275,000 of them (500
dates x 550 stocks) would need 605 GB, and time grows faster still. Two stated settings bound
it: at most `max_entries` random stock-dates are fitted, and the kernel is replaced by
Nystroem's approximation on `components` of them, so that the cost is linear in the number of
stock-dates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import ModuleType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.kernel_approximation import Nystroem
from sklearn.svm import LinearSVR

from alphakeel.errors import ConfigError, ConvergenceError, DataError
from alphakeel.models.base import (
    Features,
    check_columns,
    check_features,
    check_fitted,
    check_integer,
    check_integers,
    check_number,
    check_targets,
)
from alphakeel.models.persistence import Persistent, expect
from alphakeel.models.sampling import MarketScale
from alphakeel.progress import raise_if_cancelled
from alphakeel.stats.cross_section import rank_ic
from alphakeel.stats.splits import split_validation

__all__ = [
    "LightGBMForecaster",
    "SupportVectorForecaster",
    "TabularForecaster",
    "import_lightgbm",
    "rows_of",
]

Floats32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

# Prediction lays out about this many values at a time.
TABLE_ROWS = 4_096

MAX_ITERATIONS = 1000
# Factors have unit variance. One beyond this has no neighbour, and is pulled in so that the
# square of its distance stays finite.
FARTHEST = 1e6


class TabularForecaster(Persistent, ABC):
    """Base of the forecasters without memory that are fitted on a table of stock-dates.

    A row of the table holds the factors of one stock on one date and the market series of that
    date. With several horizons the target is their plain average, over entries where all are
    known, as in `LinearForecaster`. Several members that differ in their seeds are averaged.
    """

    label: ClassVar[str]
    n_seeds: int
    seed: int

    def fit(
        self,
        features: ArrayLike,
        targets: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
    ) -> Self:
        """Fit the members; arguments as in `Forecaster.fit`."""
        check_integers(self, "n_seeds", at_least=1)
        check_integers(self, "seed", at_least=0)
        self._check_settings()
        inputs = check_features(features, mask, market)
        target: Floats32 = check_targets(targets, inputs).mean(axis=2)
        if not np.isfinite(target).any():
            raise DataError("no entry has all horizons known; there is nothing to learn from")
        self.n_factors_in_, self.n_market_in_ = inputs.values.shape[2], inputs.market.shape[1]
        self._fit_members(inputs, target)
        return self

    def predict(
        self,
        features: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        market: ArrayLike | None = None,
    ) -> Floats32:
        """Mean score of the members, of shape (n_dates, n_assets); NaN where masked."""
        check_fitted(self, "n_factors_in_")
        inputs = check_features(features, mask, market)
        given = check_columns(inputs, self.n_factors_in_, self.n_market_in_)
        scores = np.full(inputs.present.shape, np.nan, dtype=np.float32)
        dates, stocks = np.nonzero(inputs.present)
        # Tables of one shape, filled up with zeros: the last bits of their products do not hang on
        # how many other entries there are.
        table = np.zeros((TABLE_ROWS, sum(given)), dtype=np.float32)
        for start in range(0, len(dates), TABLE_ROWS):
            part = slice(start, start + TABLE_ROWS)
            t, i = dates[part], stocks[part]
            table[: len(t), : given[0]] = inputs.values[t, i]
            table[: len(t), given[0] :] = inputs.market[t]
            table[len(t) :] = 0.0
            scores[t, i] = self._score(table)[: len(t)]
        return scores

    @abstractmethod
    def _check_settings(self) -> None:
        """Refuse settings out of range."""

    @abstractmethod
    def _fit_members(self, inputs: Features, target: Floats32) -> None:
        """Fit on the entries whose target, of shape (n_dates, n_assets), is finite."""

    @abstractmethod
    def _score(self, table: Floats32) -> Floats32:
        """Score each row of a table laid out as by `rows_of`."""


def rows_of(inputs: Features, chosen: Bools) -> Floats32:
    """Chosen stock-dates as a table of shape (n_chosen, n_factors + n_series), dates first.

    Market series may be NaN or infinite: that is for the model to settle.

    >>> inputs = check_features(np.ones((2, 3, 1)), market=[[5.0], [7.0]])
    >>> rows_of(inputs, np.eye(2, 3, dtype=bool))
    array([[1., 5.],
           [1., 7.]], dtype=float32)
    """
    dates = np.nonzero(chosen)[0]
    n_factors = inputs.values.shape[2]
    table = np.empty((len(dates), n_factors + inputs.market.shape[1]), dtype=np.float32)
    table[:, :n_factors] = inputs.values[chosen]
    table[:, n_factors:] = inputs.market[dates]
    return table


def import_lightgbm() -> ModuleType:
    """Import the optional package, or raise a ConfigError on how to install it."""
    try:
        import lightgbm
    except ImportError as error:
        raise ConfigError(
            "the model lightgbm needs the package lightgbm; pip install alphakeel[boosting]"
        ) from error
    except OSError as error:  # the package is there, the OpenMP library that it loads is not
        raise ConfigError(
            f"the package lightgbm cannot be loaded ({error}); install the library that it names, "
            "or leave the model lightgbm out"
        ) from error
    return lightgbm


# Histograms by column, on one thread: the order of every sum is fixed.
_QUIET = {"verbosity": -1, "num_threads": 1, "deterministic": True, "force_col_wise": True}


class LightGBMForecaster(TabularForecaster):
    """Scores from gradient-boosted trees on the factors and the market of a row.

    Least squares on the targets. The number of trees is the one whose Rank IC on a purged
    validation block at the end is best, as for the networks. Needs ``alphakeel[boosting]``.

    Parameters
    ----------
    n_trees : int, default=300
        Trees at most.
    learning_rate : float, default=0.05
        Share of each tree that is added, in (0, 1].
    leaves : int, default=15
        Leaves of a tree, at least 2.
    min_leaf : int, default=200
        Fewest stock-dates of a leaf; lowered to a hundredth of the entries where those are few.
    feature_share, entry_share : float, default=0.7, 0.7
        Share of the columns, and of the stock-dates, that a tree is grown on, in (0, 1].
    ridge : float, default=10.0
        Penalty on the squares of leaf values.
    validation_share : float, default=0.2
        Share of the rows, at the end, that choose the number of trees, in [0, 0.5]; 0 keeps
        all trees and trains on all rows.
    purge : int, default=5
        Rows left out before the validation block; at least the horizon plus the lag, in rows.
    evaluate_every : int, default=10
        Trees between validations.
    patience : int, optional, default=5
        Validations without a better one before growing stops. None grows all trees.
    n_seeds, seed : int, default=1, 0
        Members, and the seed of the first; they differ in the columns and entries drawn.

    Attributes
    ----------
    boosters_ : list of str
        The members in LightGBM's own text format, cut to their best number of trees.
    best_trees_ : list of int
    history_ : list of dict
        Per evaluation: seed, step (trees), train_loss (mean square error over all training
        entries), train_ic (NaN: not measured), validation_rank_ic.

    Notes
    -----
    One thread and LightGBM's deterministic mode: the same bits for the same seed.

    References
    ----------
    Ke et al. (2017), "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS 30.

    Examples
    --------
    >>> LightGBMForecaster(n_trees=50).get_params()["n_trees"]
    50
    """

    label = "LightGBM"

    def __init__(
        self,
        *,
        n_trees: int = 300,
        learning_rate: float = 0.05,
        leaves: int = 15,
        min_leaf: int = 200,
        feature_share: float = 0.7,
        entry_share: float = 0.7,
        ridge: float = 10.0,
        validation_share: float = 0.2,
        purge: int = 5,
        evaluate_every: int = 10,
        patience: int | None = 5,
        n_seeds: int = 1,
        seed: int = 0,
    ) -> None:
        self.n_trees = n_trees
        self.learning_rate = learning_rate
        self.leaves = leaves
        self.min_leaf = min_leaf
        self.feature_share = feature_share
        self.entry_share = entry_share
        self.ridge = ridge
        self.validation_share = validation_share
        self.purge = purge
        self.evaluate_every = evaluate_every
        self.patience = patience
        self.n_seeds = n_seeds
        self.seed = seed

    def _check_settings(self) -> None:
        check_integers(self, "n_trees", "min_leaf", "evaluate_every", at_least=1)
        check_integers(self, "leaves", at_least=2)
        check_integers(self, "purge", at_least=0)
        if self.patience is not None:
            check_integer("patience", self.patience, at_least=1)
        for name in ("learning_rate", "feature_share", "entry_share"):
            check_number(
                name, getattr(self, name), low=0.0, high=1.0, low_open=True, high_open=False
            )
        check_number("ridge", self.ridge, low=0.0)
        check_number("validation_share", self.validation_share, low=0.0, high=0.5, high_open=False)
        import_lightgbm()

    def _fit_members(self, inputs: Features, target: Floats32) -> None:
        lightgbm = import_lightgbm()
        chosen, held = self._split(np.isfinite(target))
        data = lightgbm.Dataset(
            _finite(rows_of(inputs, chosen)),
            target[chosen],
            params={**_QUIET, "feature_pre_filter": False},
        )
        validation = _ValidationBlock(_finite(rows_of(inputs, held)), target, held)
        self.boosters_: list[str] = []
        self.best_trees_: list[int] = []
        self.history_: list[dict[str, Any]] = []
        for member in range(self.n_seeds):
            self._grow(lightgbm, data, int(chosen.sum()), validation, self.seed + member)

    def _split(self, known: Bools) -> tuple[Bools, Bools]:
        """Entries to fit on, and those that choose the number of trees."""
        if self.validation_share == 0:
            return known, np.zeros_like(known)
        fit, block = split_validation(slice(0, len(known)), self.validation_share, self.purge)
        chosen, held = known.copy(), known.copy()
        chosen[fit.stop :], held[: block.start] = False, False
        for where, entries in (("before", chosen), ("in", held)):
            if not entries.any():
                raise DataError(
                    f"no target is known {where} the validation block (the last "
                    f"{block.stop - block.start} rows); set validation_share to 0 to do without"
                )
        return chosen, held

    def _grow(
        self,
        lightgbm: ModuleType,
        data: Any,
        n_entries: int,
        validation: _ValidationBlock,
        seed: int,
    ) -> None:
        """Grow one member, tree by tree."""
        settings = {
            **_QUIET,
            "feature_pre_filter": False,
            "objective": "regression",
            "metric": "l2",
            "learning_rate": self.learning_rate,
            "num_leaves": self.leaves,
            "min_data_in_leaf": max(1, min(self.min_leaf, n_entries // 100)),
            "feature_fraction": self.feature_share,
            "bagging_fraction": self.entry_share,
            "bagging_freq": 1,
            "lambda_l2": self.ridge,
            "seed": seed % (2**31),
        }
        booster = lightgbm.Booster(settings, data)
        validation.restart()
        best, best_trees, grown = -np.inf, self.n_trees, 0
        while grown < self.n_trees:
            raise_if_cancelled()
            trees = min(self.evaluate_every, self.n_trees - grown)
            for _ in range(trees):
                booster.update()
            grown += trees
            score = validation.rank_ic_after(booster, grown - trees, trees)
            self.history_.append(
                {
                    "seed": seed,
                    "step": grown,
                    "train_loss": float(booster.eval_train()[0][2]),
                    "train_ic": float("nan"),
                    "validation_rank_ic": score,
                }
            )
            if not np.isfinite(score):
                continue
            if score > best:
                best, best_trees = score, grown
            elif self.patience is not None and (
                grown - best_trees >= self.patience * self.evaluate_every
            ):
                break
        self.best_trees_.append(best_trees)
        self.boosters_.append(booster.model_to_string(num_iteration=best_trees))

    def _members(self) -> list[Any]:
        """The boosters, read from their text once."""
        read = getattr(self, "_read", None)
        if read is None or read[0] is not self.boosters_:
            lightgbm = import_lightgbm()
            boosters = [lightgbm.Booster(model_str=text) for text in self.boosters_]
            read = self._read = (self.boosters_, boosters)
        return read[1]

    def _score(self, table: Floats32) -> Floats32:
        table = _finite(table)
        total = np.zeros(len(table))
        for booster in self._members():
            total += booster.predict(table, num_threads=1)
        return np.asarray(total / len(self.boosters_), dtype=np.float32)


class _ValidationBlock:
    """Rank IC of a growing booster on the validation entries, without scoring a tree twice."""

    def __init__(self, table: Floats32, target: Floats32, held: Bools) -> None:
        self.table, self.held = table, held
        dates = held.any(axis=1)
        self.held, self.target = held[dates], target[dates]
        self.restart()

    def restart(self) -> None:
        self.total = np.zeros(len(self.table))

    def rank_ic_after(self, booster: Any, start: int, trees: int) -> float:
        """Mean daily Rank IC with `trees` more trees from `start` on; NaN if there is no block."""
        if len(self.table) == 0:
            return float("nan")
        self.total += booster.predict(
            self.table, start_iteration=start, num_iteration=trees, num_threads=1
        )
        scores = np.full(self.held.shape, np.nan)
        scores[self.held] = self.total
        by_date = rank_ic(scores, self.target)
        return float(np.nanmean(by_date)) if np.isfinite(by_date).any() else 0.0


def _finite(table: Floats32) -> Floats32:
    """Infinite market series become NaN, which trees take as unknown."""
    table[~np.isfinite(table)] = np.nan
    return table


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

    def _fit_members(self, inputs: Features, target: Floats32) -> None:
        scale = MarketScale.of(inputs.market)
        self.market_mean_, self.market_deviation_ = scale.mean, scale.deviation
        known = np.flatnonzero(np.isfinite(target))
        fits = [self._fit_one(inputs, target, known, self.seed + k) for k in range(self.n_seeds)]
        self.landmarks_ = np.stack([landmarks for landmarks, _, _ in fits])
        self.weights_ = np.stack([weights for _, weights, _ in fits])
        self.offsets_ = np.array([offset for _, _, offset in fits])

    def _fit_one(
        self, inputs: Features, target: Floats32, known: NDArray[np.intp], seed: int
    ) -> tuple[Floats, Floats, float]:
        rng = np.random.default_rng(seed)
        if len(known) > self.max_entries:
            known = rng.choice(known, size=self.max_entries, replace=False, shuffle=False)
        chosen = np.zeros(target.shape, dtype=np.bool_)
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
        machine.fit(nystroem.fit_transform(table), target[chosen])
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
