"""Folds against brute force over label windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphakeel.errors import ConfigError
from alphakeel.stats.splits import purged_kfold, split_validation, walk_forward


def _label_window(row: int, lag: int, horizon: int) -> set[int]:
    """Rows whose closes enter a decision's row or its label."""
    return {row} | set(range(row + lag, row + lag + horizon + 1))


def _rows(part: slice) -> range:
    return range(part.start, part.stop)


@settings(max_examples=80, deadline=None)
@given(
    lag=st.integers(1, 3),
    horizon=st.integers(1, 6),
    embargo=st.integers(0, 3),
    test_size=st.integers(1, 15),
    extra=st.integers(1, 25),
    train_size=st.none() | st.integers(1, 20),
)
def test_no_training_label_reaches_into_the_test(
    lag: int, horizon: int, embargo: int, test_size: int, extra: int, train_size: int | None
) -> None:
    purge = lag + horizon
    first = purge + embargo + extra
    folds = walk_forward(
        60,
        first_test=first,
        test_size=test_size,
        purge=purge,
        embargo=embargo,
        train_size=train_size,
    )
    tested = [row for fold in folds for row in _rows(fold.test)]
    assert tested == list(range(first, 60))
    for fold in folds:
        for row in _rows(fold.train):
            assert max(_label_window(row, lag, horizon)) < fold.test.start - embargo
        # Conservative, yet not wasteful: the next row's label would reach the first test row.
        assert max(_label_window(fold.train.stop, lag, horizon)) == fold.test.start - embargo
        assert fold.train.start == max(0, fold.train.stop - (train_size or 60))
        assert len(_rows(fold.train)) >= 1
        assert fold.purge == purge


@settings(max_examples=80, deadline=None)
@given(
    lag=st.integers(1, 2),
    horizon=st.integers(1, 4),
    embargo=st.integers(0, 3),
    n_folds=st.integers(2, 6),
    n_dates=st.integers(36, 60),
)
def test_kfold_labels_are_disjoint(
    lag: int, horizon: int, embargo: int, n_folds: int, n_dates: int
) -> None:
    folds = purged_kfold(n_dates, n_folds, lag + horizon, embargo)
    assert [row for fold in folds for row in _rows(fold.test)] == list(range(n_dates))
    sizes = [len(_rows(fold.test)) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    for fold in folds:
        span = range(fold.test.start, fold.test.stop + lag + horizon)
        train = set(fold.train_rows().tolist())
        for row in train:
            assert set(range(row, row + lag + horizon + 1)).isdisjoint(_rows(fold.test))
            assert row not in span
            assert not span.stop <= row < span.stop + embargo
        left_out = set(range(n_dates)) - train - set(_rows(fold.test))
        assert len(left_out) <= 2 * (lag + horizon) + embargo
        np.testing.assert_array_equal(fold.train_rows(), sorted(train))


@settings(max_examples=80, deadline=None)
@given(start=st.integers(0, 9), share=st.floats(0.05, 0.5), purge=st.integers(0, 8))
def test_validation_comes_last_behind_a_purge(start: int, share: float, purge: int) -> None:
    fit, validation = split_validation(slice(start, start + 50), share, purge)
    assert (fit.start, validation.stop) == (start, start + 50)
    assert validation.start - fit.stop == purge
    assert len(_rows(validation)) == max(1, round(share * 50))
    assert all(row + purge < validation.start for row in _rows(fit))


def test_the_last_block_is_kept_when_short() -> None:
    folds = walk_forward(11, first_test=5, test_size=4, purge=2)
    assert [fold.test for fold in folds] == [slice(5, 9), slice(9, 11)]
    assert [fold.train for fold in folds] == [slice(0, 3), slice(0, 7)]


class TestValidation:
    def test_walk_forward(self) -> None:
        with pytest.raises(ConfigError, match=r"starts at row 6.*purge of 5 and embargo of 1"):
            walk_forward(20, first_test=6, test_size=5, purge=5, embargo=1)
        with pytest.raises(ConfigError, match="first test row 20 must lie"):
            walk_forward(20, first_test=20, test_size=5, purge=1)
        with pytest.raises(ConfigError, match="test_size must be at least 1, got 0"):
            walk_forward(20, first_test=9, test_size=0, purge=1)
        with pytest.raises(ConfigError, match="purge must be at least 0, got -1"):
            walk_forward(20, first_test=9, test_size=1, purge=-1)
        with pytest.raises(ConfigError, match="train_size must be at least 1"):
            walk_forward(20, first_test=9, test_size=1, purge=1, train_size=0)

    def test_purged_kfold(self) -> None:
        with pytest.raises(ConfigError, match="n_folds must be at least 2"):
            purged_kfold(20, 1, 1)
        with pytest.raises(ConfigError, match="3 rows cannot be cut into 4"):
            purged_kfold(3, 4, 1)
        with pytest.raises(ConfigError, match=r"block 1 of 2 .rows 0 to 4 of 10.*purge of 5"):
            purged_kfold(10, 2, 5)

    def test_split_validation(self) -> None:
        with pytest.raises(ConfigError, match="between 0 and 1, got 1"):
            split_validation(slice(0, 10), 1, 1)
        with pytest.raises(ConfigError, match=r"10 training rows.*purge of 8"):
            split_validation(slice(0, 10), 0.2, 8)
        with pytest.raises(ConfigError, match="both ends"):
            split_validation(slice(None, 10), 0.2, 1)
