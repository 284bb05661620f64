"""Combinatorial purged cross-validation against brute force over label windows, and skfolio."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skfolio.model_selection import CombinatorialPurgedCV

from alphakeel.errors import ConfigError
from alphakeel.stats.splits import combinatorial_purged, purged_kfold


@settings(max_examples=80, deadline=None)
@given(
    lag=st.integers(1, 2),
    horizon=st.integers(1, 4),
    embargo=st.integers(0, 3),
    n_blocks=st.integers(3, 6),
    data=st.data(),
    n_dates=st.integers(90, 120),
)
def test_no_training_label_overlaps_a_test_block(
    lag: int, horizon: int, embargo: int, n_blocks: int, data: st.DataObject, n_dates: int
) -> None:
    n_test = data.draw(st.integers(1, n_blocks - 1))
    purge = lag + horizon
    folds = combinatorial_purged(n_dates, n_blocks, n_test, purge, embargo)
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
    ours = combinatorial_purged(n_dates, n_blocks, n_test, purge, embargo)
    for fold, (train, tests) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(fold.train_rows(), train)
        np.testing.assert_array_equal(fold.test_rows(), np.concatenate(tests))


def test_one_test_block_is_purged_kfold() -> None:
    ours = combinatorial_purged(100, 7, 1, purge=3, embargo=2)
    for fold, known in zip(ours, purged_kfold(100, 7, 3, 2), strict=True):
        assert fold.test == (known.test,)
        np.testing.assert_array_equal(fold.train_rows(), known.train_rows())


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="6 test blocks of 6"):
        combinatorial_purged(100, 6, 6, purge=1)
    with pytest.raises(ConfigError, match="cannot be cut into 6"):
        combinatorial_purged(5, 6, 2, purge=1)
    with pytest.raises(ConfigError, match="at least 0, got -1"):
        combinatorial_purged(50, 6, 2, purge=-1)
    with pytest.raises(ConfigError, match=r"blocks 0, 1 of 3 leaves no training rows"):
        combinatorial_purged(12, 3, 2, purge=3, embargo=2)
