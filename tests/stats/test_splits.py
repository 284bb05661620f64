"""Folds against brute force over label windows, and against skfolio."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skfolio.model_selection import CombinatorialPurgedCV

from alphakeel.errors import ConfigError
from alphakeel.stats.splits import (
    Labels,
    combinatorial_purged,
    purged_kfold,
    rows_ahead,
    split_validation,
    walk_forward,
)


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
        Labels.even(60, purge),
        starts=range(first, 60, test_size),
        embargo=embargo,
        train_days=train_size,
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
    folds = purged_kfold(Labels.even(n_dates, lag + horizon), n_folds, embargo)
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
    folds = walk_forward(Labels.even(11, 2), starts=(5, 9))
    assert [fold.test for fold in folds] == [slice(5, 9), slice(9, 11)]
    assert [fold.train for fold in folds] == [slice(0, 3), slice(0, 7)]


@settings(max_examples=80, deadline=None)
@given(
    lag=st.integers(1, 2),
    horizon=st.integers(1, 4),
    embargo=st.integers(0, 3),
    n_blocks=st.integers(3, 6),
    data=st.data(),
    # A block of 16 rows outlasts the longest purge on both sides and the longest embargo.
    n_dates=st.integers(6 * 16, 120),
)
def test_no_training_label_overlaps_a_test_block(
    lag: int, horizon: int, embargo: int, n_blocks: int, data: st.DataObject, n_dates: int
) -> None:
    n_test = data.draw(st.integers(1, n_blocks - 1))
    purge = lag + horizon
    folds = combinatorial_purged(Labels.even(n_dates, purge), n_blocks, n_test, embargo)
    assert [fold.blocks for fold in folds] == list(combinations(range(n_blocks), n_test))
    for fold in folds:
        tested = set(fold.test_rows().tolist())
        labels_of_test = {day for row in tested for day in range(row, row + purge + 1)}
        closed = {
            day for part in fold.test for day in range(part.stop, part.stop + purge + embargo)
        }
        train = fold.train_rows().tolist()
        assert train == sorted(set(train))
        for row in range(n_dates):
            own = set(range(row, row + purge + 1))
            # The rule, row by row: out if tested, if its label enters a test block, if a test
            # label reaches it, or if it is under the embargo.
            out = row in tested or own & tested or row in labels_of_test or row in closed
            assert (row in train) == (not out)


@pytest.mark.parametrize(("n_dates", "n_blocks", "n_test"), [(120, 6, 2), (100, 5, 3), (96, 4, 2)])
@pytest.mark.parametrize(("purge", "embargo"), [(0, 0), (3, 2), (6, 0)])
def test_equal_blocks_are_skfolios(
    n_dates: int, n_blocks: int, n_test: int, purge: int, embargo: int
) -> None:
    theirs = CombinatorialPurgedCV(n_blocks, n_test, purge, embargo).split(np.empty((n_dates, 1)))
    ours = combinatorial_purged(Labels.even(n_dates, purge), n_blocks, n_test, embargo)
    for fold, (train, tests) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(fold.train_rows(), train)
        np.testing.assert_array_equal(fold.test_rows(), np.concatenate(tests))


def test_one_test_block_is_purged_kfold() -> None:
    ours = combinatorial_purged(Labels.even(100, 3), 7, 1, embargo=2)
    for fold, known in zip(ours, purged_kfold(Labels.even(100, 3), 7, 2), strict=True):
        assert fold.test == (known.test,)
        np.testing.assert_array_equal(fold.train_rows(), known.train_rows())


class TestUnevenDays:
    """Rows any number of days apart, against brute force by days."""

    @settings(max_examples=80, deadline=None)
    @given(
        gaps=st.lists(st.integers(1, 12), min_size=30, max_size=60),
        lag=st.integers(1, 2),
        horizon=st.integers(1, 25),
        embargo=st.integers(0, 6),
        data=st.data(),
    )
    def test_every_label_and_holding_ends_before_the_test(
        self, gaps: list[int], lag: int, horizon: int, embargo: int, data: st.DataObject
    ) -> None:
        days = np.cumsum(gaps)
        labels = Labels.of(days, lag=lag, horizons=(1, horizon))
        n = len(days)
        first = int(np.searchsorted(days, labels.ends[0] + embargo, side="right"))
        if first >= n:
            return
        starts = sorted({first, *data.draw(st.lists(st.integers(first, n - 1), max_size=4))})

        def end(row: int) -> int:
            held = days[row + 1] + lag if row + 1 < n else 0
            return max(int(days[row]) + lag + horizon, int(held))

        for fold in walk_forward(labels, starts=starts, embargo=embargo):
            day = days[fold.test.start]
            clear = [row for row in range(fold.test.start) if end(row) + embargo < day]
            assert clear == list(_rows(fold.train))
        for own in purged_kfold(labels, 3, embargo=embargo) if n > 3 * (horizon + 20) else ():
            last = max(end(row) for row in _rows(own.test))
            for row in own.train_rows().tolist():
                before = end(row) < days[own.test.start]
                assert before or days[row] > last + embargo

    @settings(max_examples=80, deadline=None)
    @given(gaps=st.lists(st.integers(1, 9), min_size=1, max_size=40), span=st.integers(1, 60))
    def test_rows_ahead_count_every_overlap(self, gaps: list[int], span: int) -> None:
        days = np.cumsum(gaps)
        overlaps = [int((days[i + 1 :] < day + span).sum()) for i, day in enumerate(days)]
        most = max(min(n + 1, len(days) - i) for i, n in enumerate(overlaps))
        assert rows_ahead(days, span) == most

    def test_even_rows_are_as_before(self) -> None:
        days = np.arange(0, 400, 5)
        assert [rows_ahead(days, span) for span in (5, 7, 20, 21)] == [1, 2, 4, 5]

    def test_a_rolling_window_is_in_days(self) -> None:
        days = np.array([0, 5, 9, 10, 15, 20, 21, 26])
        (fold,) = walk_forward(Labels(days, days), starts=(7,), train_days=11)
        assert days[fold.train].tolist() == [15, 20, 21]


class TestValidation:
    def test_walk_forward(self) -> None:
        with pytest.raises(ConfigError, match=r"starts at row 6.*embargo of 1.*ends on day 5"):
            walk_forward(Labels.even(20, 5), starts=(6, 11), embargo=1)
        with pytest.raises(ConfigError, match="test row 20 must lie"):
            walk_forward(Labels.even(20, 1), starts=(20,))
        with pytest.raises(ConfigError, match="purge must be at least 0, got -1"):
            walk_forward(Labels.even(20, -1), starts=(9,))
        with pytest.raises(ConfigError, match="embargo must be at least 0, got -1"):
            walk_forward(Labels.even(20, 1), starts=(9,), embargo=-1)
        with pytest.raises(ConfigError, match="train_days must be at least 1"):
            walk_forward(Labels.even(20, 1), starts=(9,), train_days=0)

    def test_purged_kfold(self) -> None:
        with pytest.raises(ConfigError, match="n_folds must be at least 2"):
            purged_kfold(Labels.even(20, 1), 1)
        with pytest.raises(ConfigError, match="3 rows cannot be cut into 4"):
            purged_kfold(Labels.even(3, 1), 4)
        with pytest.raises(ConfigError, match=r"block 1 of 2 .rows 0 to 4 of 10.*embargo of 0"):
            purged_kfold(Labels.even(10, 5), 2)

    def test_split_validation(self) -> None:
        with pytest.raises(ConfigError, match="between 0 and 1, got 1"):
            split_validation(slice(0, 10), 1, 1)
        with pytest.raises(ConfigError, match=r"10 training rows.*purge of 8"):
            split_validation(slice(0, 10), 0.2, 8)
        with pytest.raises(ConfigError, match="both ends"):
            split_validation(slice(None, 10), 0.2, 1)

    def test_combinatorial_purged(self) -> None:
        with pytest.raises(ConfigError, match="6 test blocks of 6"):
            combinatorial_purged(Labels.even(100, 1), 6, 6)
        with pytest.raises(ConfigError, match="cannot be cut into 6"):
            combinatorial_purged(Labels.even(5, 1), 6, 2)
        with pytest.raises(ConfigError, match="at least 0, got -1"):
            combinatorial_purged(Labels.even(50, 1), 6, 2, embargo=-1)
        with pytest.raises(ConfigError, match=r"blocks 0, 1 of 3 leaves no training rows"):
            combinatorial_purged(Labels.even(12, 3), 3, 2, embargo=2)
