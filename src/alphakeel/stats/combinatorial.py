"""Combinatorial purged cross-validation: integers only, with the conventions of `stats.folds`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from alphakeel.errors import ConfigError

__all__ = ["CombinatorialFold", "combinatorial_purged", "n_paths", "path_folds"]


@dataclass(frozen=True)
class CombinatorialFold:
    """Some blocks of test rows and the rows around them that train for them.

    Attributes
    ----------
    train : tuple of slice
        Half-open ranges of rows, in order.
    test : tuple of slice
        One range a test block, in order; neighbouring blocks are not joined.
    blocks : tuple of int
        Number of each test block among all, from 0.
    purge, embargo : int
        As in `combinatorial_purged`.
    """

    train: tuple[slice, ...]
    test: tuple[slice, ...]
    blocks: tuple[int, ...]
    purge: int
    embargo: int

    def train_rows(self) -> NDArray[np.intp]:
        """Return the training rows as one increasing array of indices."""
        return _indices(self.train)

    def test_rows(self) -> NDArray[np.intp]:
        """Return the test rows as one increasing array of indices."""
        return _indices(self.test)


def combinatorial_purged(
    n_dates: int, n_blocks: int, n_test_blocks: int, purge: int, embargo: int = 0
) -> tuple[CombinatorialFold, ...]:
    """Cut the rows into blocks; every choice of a few of them is tested by what the rest trained.

    Each block is tested by several folds, so that their tests can be strung together into
    several paths over all rows (`path_folds`): a distribution of results where k-fold gives one.
    Purge and embargo act around each test block as in `purged_kfold`.

    Parameters
    ----------
    n_dates : int
        Rows in all.
    n_blocks : int
        Blocks, at least 2; their sizes differ by one row at most.
    n_test_blocks : int
        Blocks that test in each fold, from 1 to ``n_blocks - 1``.
    purge : int
        Rows that a label reaches ahead, ``lag + horizon``.
    embargo : int, default=0
        Further rows left out after each test block.

    Returns
    -------
    tuple of CombinatorialFold
        ``n_blocks! / (n_test_blocks! (n_blocks - n_test_blocks)!)`` folds, in the order of their
        block numbers.

    Raises
    ------
    ConfigError
        If a fold would have no training rows, or a number is out of range.

    Notes
    -----
    Rows after a test block train for it, which no trader could have done: for choosing settings,
    never for stating a result.

    References
    ----------
    López de Prado, M. (2018). Advances in Financial Machine Learning, chapter 12. Wiley.

    Examples
    --------
    >>> for fold in combinatorial_purged(12, 3, 2, purge=1):
    ...     print(fold.blocks, fold.train_rows())
    (0, 1) [ 9 10 11]
    (0, 2) [5 6]
    (1, 2) [0 1 2]
    """
    if not 1 <= n_test_blocks < n_blocks:
        raise ConfigError(
            f"{n_test_blocks} test blocks of {n_blocks}: test at least one and train on one."
        )
    if purge < 0 or embargo < 0:
        raise ConfigError(f"purge and embargo must be at least 0, got {purge} and {embargo}.")
    if n_dates < n_blocks:
        raise ConfigError(f"{n_dates} rows cannot be cut into {n_blocks} blocks.")
    edges = [n_dates * k // n_blocks for k in range(n_blocks + 1)]
    folds = []
    for blocks in combinations(range(n_blocks), n_test_blocks):
        test = tuple(slice(edges[k], edges[k + 1]) for k in blocks)
        free = np.ones(n_dates, dtype=np.bool_)
        for part in test:
            free[max(0, part.start - purge) : part.stop + purge + embargo] = False
        if not free.any():
            raise ConfigError(
                f"testing blocks {', '.join(map(str, blocks))} of {n_blocks} leaves no training "
                f"rows after a purge of {purge} and an embargo of {embargo}; use more blocks, "
                "fewer test blocks or more dates."
            )
        folds.append(CombinatorialFold(_runs(free), test, blocks, purge, embargo))
    return tuple(folds)


def n_paths(n_blocks: int, n_test_blocks: int) -> int:
    """How many paths over all rows the folds of `combinatorial_purged` can be strung into.

    Examples
    --------
    >>> n_paths(6, 2)
    5
    """
    return comb(n_blocks - 1, n_test_blocks - 1)


def path_folds(folds: tuple[CombinatorialFold, ...]) -> NDArray[np.intp]:
    """Which fold tests each block on each path.

    Parameters
    ----------
    folds : tuple of CombinatorialFold
        All that `combinatorial_purged` gave, in its order.

    Returns
    -------
    ndarray of int of shape (n_paths, n_blocks)
        Path p goes through block k as tested by ``folds[result[p, k]]``; every test of every fold
        is on exactly one path.

    Examples
    --------
    >>> path_folds(combinatorial_purged(12, 3, 2, purge=1))
    array([[0, 0, 1],
           [1, 2, 2]])
    """
    n_blocks = 1 + max(max(fold.blocks) for fold in folds)
    tested = [[i for i, fold in enumerate(folds) if k in fold.blocks] for k in range(n_blocks)]
    return np.array(tested, dtype=np.intp).T


def _indices(parts: tuple[slice, ...]) -> NDArray[np.intp]:
    return np.concatenate([np.arange(s.start, s.stop, dtype=np.intp) for s in parts])


def _runs(free: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Ranges of consecutive True."""
    turns = np.flatnonzero(np.diff(np.concatenate([[False], free, [False]]).astype(np.int8)))
    return tuple(slice(int(a), int(b)) for a, b in zip(turns[::2], turns[1::2], strict=True))
