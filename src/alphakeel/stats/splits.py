"""Which decision dates train and which test: integers only.

Row t stands for a decision date. Its label is the return from row ``t + lag`` to row
``t + lag + horizon``, known at row ``t + purge`` with ``purge = lag + horizon``, counted in rows
and rounded up where rows are every fifth date, say. So **a training row t comes before the first
test row s only if t + purge < s**: the last training label is known at row ``s - 1``. A smaller
purge would let prices from inside the test into the training labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from alphakeel.errors import ConfigError

__all__ = [
    "CombinatorialFold",
    "Fold",
    "PurgedFold",
    "combinatorial_purged",
    "purge_length",
    "purged_kfold",
    "split_validation",
    "walk_forward",
]


@dataclass(frozen=True)
class Fold:
    """A block of test rows and the rows that train for it; ``train.stop + purge <= test.start``."""

    train: slice
    test: slice
    purge: int


@dataclass(frozen=True)
class PurgedFold:
    """One block of test rows, and one or two ranges of rows around it that train, in order."""

    train: tuple[slice, ...]
    test: slice
    purge: int
    embargo: int

    def train_rows(self) -> NDArray[np.intp]:
        """Return the training rows as one increasing array of indices."""
        return _indices(self.train)


@dataclass(frozen=True)
class CombinatorialFold:
    """Some blocks of test rows, one range each, and the ranges around them that train, in order."""

    train: tuple[slice, ...]
    test: tuple[slice, ...]  # neighbouring blocks are not joined
    blocks: tuple[int, ...]  # number of each test block among all, from 0
    purge: int
    embargo: int

    def train_rows(self) -> NDArray[np.intp]:
        """Return the training rows as one increasing array of indices."""
        return _indices(self.train)

    def test_rows(self) -> NDArray[np.intp]:
        """Return the test rows as one increasing array of indices."""
        return _indices(self.test)


def purge_length(*, lag: int, horizons: Sequence[int], step: int = 1) -> int:
    """Rows that a training label reaches ahead, rounded up: the one formula behind every purge.

    `lag` and the longest of `horizons` are in days, `step` in days between two rows.

    Examples
    --------
    >>> purge_length(lag=1, horizons=(5, 20), step=5)
    5
    """
    return -(-(lag + max(horizons)) // step)


def walk_forward(
    n_dates: int,
    *,
    first_test: int,
    test_size: int,
    purge: int,
    embargo: int = 0,
    train_size: int | None = None,
) -> tuple[Fold, ...]:
    """Consecutive test blocks from `first_test` to the last row, trained on the rows before them.

    Training stops at ``test.start - purge - embargo``. `train_size` caps its rows (rolling); by
    default all the past trains (expanding). The last block may be shorter than `test_size`.

    Examples
    --------
    >>> for fold in walk_forward(10, first_test=6, test_size=3, purge=2):
    ...     print(fold.train, fold.test)
    slice(0, 4, None) slice(6, 9, None)
    slice(0, 7, None) slice(9, 10, None)
    """
    _at_least(test_size=(test_size, 1), purge=(purge, 0), embargo=(embargo, 0))
    if train_size is not None:
        _at_least(train_size=(train_size, 1))
    if not 0 < first_test < n_dates:
        raise ConfigError(
            f"the first test row {first_test} must lie after row 0 and before the last of "
            f"{n_dates} rows; start the test earlier or bring more dates."
        )
    gap = purge + embargo
    if first_test <= gap:
        raise ConfigError(
            f"no training rows: the test starts at row {first_test}, and the purge of {purge} and "
            f"embargo of {embargo} rows leave nothing before it; start the test after row {gap}."
        )
    folds = []
    for start in range(first_test, n_dates, test_size):
        stop = start - gap
        oldest = 0 if train_size is None else max(0, stop - train_size)
        test = slice(start, min(start + test_size, n_dates))
        folds.append(Fold(train=slice(oldest, stop), test=test, purge=purge))
    return tuple(folds)


def purged_kfold(
    n_dates: int, n_folds: int, purge: int, embargo: int = 0
) -> tuple[PurgedFold, ...]:
    """Cut the rows into blocks; each is tested once, by what was trained on both sides of it.

    Training rows whose label overlaps a label of the test are left out: before the block those
    with ``t + purge >= test.start``, after it those with ``t < test.stop + purge``. The embargo
    leaves out further rows after that, against the serial correlation of features. López de Prado
    (2018), Advances in Financial Machine Learning, Wiley, chapter 7.

    Examples
    --------
    >>> purged_kfold(12, 3, purge=1, embargo=1)[1].train
    (slice(0, 3, None), slice(10, 12, None))
    """
    _at_least(n_folds=(n_folds, 2), purge=(purge, 0), embargo=(embargo, 0))
    if n_dates < n_folds:
        raise ConfigError(f"{n_dates} rows cannot be cut into {n_folds} blocks.")
    edges = [n_dates * k // n_folds for k in range(n_folds + 1)]
    folds = []
    for number in range(n_folds):
        test = slice(edges[number], edges[number + 1])
        sides = (slice(0, test.start - purge), slice(test.stop + purge + embargo, n_dates))
        train = tuple(side for side in sides if side.start < side.stop)
        if not train:
            raise ConfigError(
                f"block {number + 1} of {n_folds} (rows {test.start} to {test.stop - 1} of "
                f"{n_dates}) has no training rows after a purge of {purge} and an embargo of "
                f"{embargo}; use more blocks or more dates."
            )
        folds.append(PurgedFold(train=train, test=test, purge=purge, embargo=embargo))
    return tuple(folds)


def combinatorial_purged(
    n_dates: int, n_blocks: int, n_test_blocks: int, purge: int, embargo: int = 0
) -> tuple[CombinatorialFold, ...]:
    """Cut the rows into blocks; every choice of a few of them is tested by what the rest trained.

    Each block is tested by several folds: a distribution of results where k-fold gives one. Purge
    and embargo act around each test block as in `purged_kfold`.

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

    `skfolio.model_selection.CombinatorialPurgedCV` gives the same folds where `n_dates` is a
    multiple of `n_blocks` (a test compares them). Otherwise it adds the remainder to the last
    block; it refuses a single test block, and it hands out folds without training rows.

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


def split_validation(train: slice, share: float, purge: int) -> tuple[slice, slice]:
    """Cut the share (0, 1) of last rows off a training range, and leave out `purge` rows before it.

    Examples
    --------
    >>> split_validation(slice(0, 100), share=0.2, purge=6)
    (slice(0, 74, None), slice(80, 100, None))
    """
    _at_least(purge=(purge, 0))
    if not 0.0 < share < 1.0:
        raise ConfigError(f"the validation share must lie between 0 and 1, got {share!r}.")
    if train.start is None or train.stop is None or train.step not in (None, 1):
        raise ConfigError(f"the training range needs both ends and step 1, got {train}.")
    n_rows = train.stop - train.start
    first = train.stop - max(1, round(share * n_rows))
    if first - purge <= train.start:
        raise ConfigError(
            f"{n_rows} training rows leave none to fit after {train.stop - first} for "
            f"validation (share {share:g}) and a purge of {purge}; use more rows or a lower share."
        )
    return slice(train.start, first - purge), slice(first, train.stop)


def _at_least(**limits: tuple[int, int]) -> None:
    for name, (value, least) in limits.items():
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}.")


def _indices(parts: tuple[slice, ...]) -> NDArray[np.intp]:
    return np.concatenate([np.arange(s.start, s.stop, dtype=np.intp) for s in parts])


def _runs(free: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Ranges of consecutive True."""
    turns = np.flatnonzero(np.diff(np.concatenate([[False], free, [False]]).astype(np.int8)))
    return tuple(slice(int(a), int(b)) for a, b in zip(turns[::2], turns[1::2], strict=True))
