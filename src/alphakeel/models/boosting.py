"""Boosted trees as a reference: what tables of factors give without any memory of their own."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.errors import ConfigError, DataError
from alphakeel.models.base import Inputs, check_integer, check_integers, check_number
from alphakeel.models.tabular import TabularForecaster, rows_of
from alphakeel.stats.crosssection import rank_ic
from alphakeel.stats.folds import split_validation

__all__ = ["LightGBMForecaster", "import_lightgbm"]

Floats32 = NDArray[np.float32]
Bools = NDArray[np.bool_]


def import_lightgbm() -> ModuleType:
    """Import the optional package, or say how to get it.

    Raises
    ------
    ConfigError
        If it is absent, or its library cannot be loaded.
    """
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

    def _fit_members(self, inputs: Inputs, goals: Floats32) -> None:
        lightgbm = import_lightgbm()
        chosen, held = self._split(np.isfinite(goals))
        data = lightgbm.Dataset(
            _finite(rows_of(inputs, chosen)),
            goals[chosen],
            params={**_QUIET, "feature_pre_filter": False},
        )
        judge = _Judge(_finite(rows_of(inputs, held)), goals, held)
        self.boosters_: list[str] = []
        self.best_trees_: list[int] = []
        self.history_: list[dict[str, Any]] = []
        for member in range(self.n_seeds):
            self._grow(lightgbm, data, int(chosen.sum()), judge, self.seed + member)

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
        self, lightgbm: ModuleType, data: Any, n_entries: int, judge: _Judge, seed: int
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
        judge.restart()
        best, best_trees, grown = -np.inf, self.n_trees, 0
        while grown < self.n_trees:
            trees = min(self.evaluate_every, self.n_trees - grown)
            for _ in range(trees):
                booster.update()
            grown += trees
            score = judge.rank_ic_after(booster, grown - trees, trees)
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


class _Judge:
    """Rank IC of a growing booster on the validation entries, without scoring a tree twice."""

    def __init__(self, table: Floats32, goals: Floats32, held: Bools) -> None:
        self.table, self.held = table, held
        dates = held.any(axis=1)
        self.held, self.goals = held[dates], goals[dates]
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
        by_date = rank_ic(scores, self.goals)
        return float(np.nanmean(by_date)) if np.isfinite(by_date).any() else 0.0


def _finite(table: Floats32) -> Floats32:
    """Infinite market series become NaN, which trees take as unknown."""
    table[~np.isfinite(table)] = np.nan
    return table
