"""Which decision dates train and which test: integers only.

A row stands for a decision, on some *day*; days count trading days, and rows may lie any number of
days apart. What a row is judged by, its label, is known on the day `ends`: the forward return of a
decision on day d from ``d + lag`` to ``d + lag + horizon``, say. So **a row trains for a test whose
first row is decided on day s only if its label ends before s**. Anything later would let prices
from inside the test into the training labels. An embargo leaves out further days.
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
    "Labels",
    "PurgedFold",
    "combinatorial_purged",
    "purge_length",
    "purged_kfold",
    "rows_ahead",
    "split_validation",
    "walk_forward",
]

Days = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Labels:
    """The day on which each row is decided, and the one on which all that it is judged by is known.

    Attributes
    ----------
    days : ndarray of shape (n_rows,) of int
        Increasing.
    ends : ndarray of shape (n_rows,) of int
    """

    days: Days
    ends: Days

    @classmethod
    def of(cls, days: Days, *, lag: int, horizons: Sequence[int]) -> Labels:
        """Labels of decisions: the longest forward return, and what is held until the next trade.

        Examples
        --------
        >>> Labels.of(np.array([0, 5, 30]), lag=1, horizons=(5, 20)).ends
        array([21, 31, 51])
        """
        days = np.asarray(days, dtype=np.intp)
        ends = days + (lag + max(horizons))
        ends[:-1] = np.maximum(ends[:-1], days[1:] + lag)
        return cls(days, ends)

    @classmethod
    def even(cls, n_rows: int, purge: int) -> Labels:
        """A row on every day, each with a label that reaches `purge` days ahead."""
        _at_least(purge=(purge, 0))
        days = np.arange(n_rows, dtype=np.intp)
        return cls(days, days + purge)

    def __len__(self) -> int:
        return len(self.days)

    def since(self, row: int) -> Labels:
        """The labels from a row on."""
        return Labels(self.days[row:], self.ends[row:])

    def known_before(self, day: int) -> int:
        """Number of rows, from the first on, whose labels end before a day."""
        return int(np.searchsorted(np.maximum.accumulate(self.ends), day))


@dataclass(frozen=True)
class Fold:
    """A block of test rows and the rows that train for it: their labels end before it begins."""

    train: slice
    test: slice


@dataclass(frozen=True)
class PurgedFold:
    """One block of test rows, and one or two ranges of rows around it that train, in order."""

    train: tuple[slice, ...]
    test: slice

    def train_rows(self) -> NDArray[np.intp]:
        """Return the training rows as one increasing array of indices."""
        return _indices(self.train)


@dataclass(frozen=True)
class CombinatorialFold:
    """Some blocks of test rows, one range each, and the ranges around them that train, in order."""

    train: tuple[slice, ...]
    test: tuple[slice, ...]  # neighbouring blocks are not joined
    blocks: tuple[int, ...]  # number of each test block among all, from 0

    def train_rows(self) -> NDArray[np.intp]:
        """Return the training rows as one increasing array of indices."""
        return _indices(self.train)

    def test_rows(self) -> NDArray[np.intp]:
        """Return the test rows as one increasing array of indices."""
        return _indices(self.test)


def purge_length(*, lag: int, horizons: Sequence[int], step: int = 1) -> int:
    """Rows that a label reaches ahead where rows lie `step` days apart, rounded up.

    `lag` and the longest of `horizons` are in days.

    Examples
    --------
    >>> purge_length(lag=1, horizons=(5, 20), step=5)
    5
    """
    return -(-(lag + max(horizons)) // step)


def rows_ahead(days: Days, span: int) -> int:
    """Rows until `span` days have passed, rounded up, where that takes the most of them.

    So many rows overlap at most in what they say of the next `span` days: the lags of a
    Newey-West variance, and the purge of a model that knows no days.

    Examples
    --------
    >>> rows_ahead(np.arange(0, 100, 5), 21), rows_ahead(np.array([0, 5, 9, 10, 15, 20]), 5)
    (5, 2)
    """
    days = np.asarray(days)
    if not len(days):
        return 1
    reach = np.searchsorted(days, days + span) - np.arange(len(days))
    return int(reach.max())


def walk_forward(
    labels: Labels,
    *,
    starts: Sequence[int],
    embargo: int = 0,
    train_days: int | None = None,
) -> tuple[Fold, ...]:
    """Consecutive test blocks up to the last row, each trained on the rows before it.

    Parameters
    ----------
    labels : Labels
        Of all rows.
    starts : sequence of int
        First row of each test block, in order.
    embargo : int, default=0
        Days left out between the end of the training labels and the first day of a test.
    train_days : int, optional
        Length of the training window (rolling); by default all the past trains (expanding).

    Examples
    --------
    >>> for fold in walk_forward(Labels.even(10, purge=2), starts=(6, 9)):
    ...     print(fold.train, fold.test)
    slice(0, 4, None) slice(6, 9, None)
    slice(0, 7, None) slice(9, 10, None)
    """
    _at_least(embargo=(embargo, 0))
    if train_days is not None:
        _at_least(train_days=(train_days, 1))
    folds, n_rows = [], len(labels)
    for start, stop in zip(starts, (*starts[1:], n_rows), strict=True):
        if not 0 < start < stop <= n_rows:
            raise ConfigError(
                f"the test row {start} must lie after row 0 and before the last of {n_rows} rows; "
                "start the test earlier or bring more dates."
            )
        first = labels.days[start]
        last = labels.known_before(first - embargo)
        if last < 1:
            raise ConfigError(
                f"no training rows: the test starts at row {start}, on day {first}, and labels "
                f"that end by then, with an embargo of {embargo} days, leave nothing before it; "
                f"start the test later (the first label ends on day {labels.ends[0]})."
            )
        oldest = 0
        if train_days is not None:
            since = labels.days[last - 1] - train_days
            oldest = int(np.searchsorted(labels.days, since, side="right"))
        folds.append(Fold(train=slice(oldest, last), test=slice(start, stop)))
    return tuple(folds)


def purged_kfold(labels: Labels, n_folds: int, embargo: int = 0) -> tuple[PurgedFold, ...]:
    """Cut the rows into blocks; each is tested once, by what was trained on both sides of it.

    Training rows whose label overlaps a label of the test are left out: before the block those
    whose label ends in it, after it those decided before the last label of the block has ended. The
    embargo leaves out further days after that, against the serial correlation of features. López de
    Prado (2018), Advances in Financial Machine Learning, Wiley, chapter 7.

    Examples
    --------
    >>> purged_kfold(Labels.even(12, purge=1), 3, embargo=1)[1].train
    (slice(0, 3, None), slice(10, 12, None))
    """
    _at_least(n_folds=(n_folds, 2), embargo=(embargo, 0))
    n_rows = len(labels)
    if n_rows < n_folds:
        raise ConfigError(f"{n_rows} rows cannot be cut into {n_folds} blocks.")
    edges = [n_rows * k // n_folds for k in range(n_folds + 1)]
    folds = []
    for number in range(n_folds):
        test = slice(edges[number], edges[number + 1])
        before, after = _clear_of(labels, test, embargo)
        train = tuple(s for s in (slice(0, before), slice(after, n_rows)) if s.start < s.stop)
        if not train:
            raise ConfigError(
                f"block {number + 1} of {n_folds} (rows {test.start} to {test.stop - 1} of "
                f"{n_rows}) has no training rows after the purge and an embargo of "
                f"{embargo} days; use more blocks or more dates."
            )
        folds.append(PurgedFold(train=train, test=test))
    return tuple(folds)


def _clear_of(labels: Labels, test: slice, embargo: int) -> tuple[int, int]:
    """Rows that may train for a block: those before the first number, those from the second on."""
    before = labels.known_before(labels.days[test.start])
    known = labels.ends[test].max() + embargo
    return before, int(np.searchsorted(labels.days, known, side="right"))


def combinatorial_purged(
    labels: Labels, n_blocks: int, n_test_blocks: int, embargo: int = 0
) -> tuple[CombinatorialFold, ...]:
    """Cut the rows into blocks; every choice of a few of them is tested by what the rest trained.

    Each block is tested by several folds: a distribution of results where k-fold gives one. Purge
    and embargo act around each test block as in `purged_kfold`.

    Parameters
    ----------
    labels : Labels
        Of all rows.
    n_blocks : int
        Blocks, at least 2; their sizes differ by one row at most.
    n_test_blocks : int
        Blocks that test in each fold, from 1 to ``n_blocks - 1``.
    embargo : int, default=0
        Further days left out after each test block.

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

    `skfolio.model_selection.CombinatorialPurgedCV` gives the same folds where the number of rows is
    a multiple of `n_blocks` (a test compares them). Otherwise it adds the remainder to the last
    block; it refuses a single test block, and it hands out folds without training rows.

    References
    ----------
    López de Prado, M. (2018). Advances in Financial Machine Learning, chapter 12. Wiley.

    Examples
    --------
    >>> for fold in combinatorial_purged(Labels.even(12, purge=1), 3, 2):
    ...     print(fold.blocks, fold.train_rows())
    (0, 1) [ 9 10 11]
    (0, 2) [5 6]
    (1, 2) [0 1 2]
    """
    if not 1 <= n_test_blocks < n_blocks:
        raise ConfigError(
            f"{n_test_blocks} test blocks of {n_blocks}: test at least one and train on one."
        )
    _at_least(embargo=(embargo, 0))
    n_rows = len(labels)
    if n_rows < n_blocks:
        raise ConfigError(f"{n_rows} rows cannot be cut into {n_blocks} blocks.")
    edges = [n_rows * k // n_blocks for k in range(n_blocks + 1)]
    folds = []
    for blocks in combinations(range(n_blocks), n_test_blocks):
        test = tuple(slice(edges[k], edges[k + 1]) for k in blocks)
        free = np.ones(n_rows, dtype=np.bool_)
        for part in test:
            before, after = _clear_of(labels, part, embargo)
            free[before:after] = False
        if not free.any():
            raise ConfigError(
                f"testing blocks {', '.join(map(str, blocks))} of {n_blocks} leaves no training "
                f"rows after the purge and an embargo of {embargo} days; use more blocks, "
                "fewer test blocks or more dates."
            )
        folds.append(CombinatorialFold(_runs(free), test, blocks))
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
