"""Combinatorial purged cross-validation against brute force over label windows."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphakeel.errors import ConfigError
from alphakeel.stats import folds as folds_module
from alphakeel.stats.combinatorial import combinatorial_purged, n_paths, path_folds
from alphakeel.stats.folds import purged_kfold


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


@pytest.mark.parametrize(("n_blocks", "n_test"), [(6, 2), (5, 1), (5, 3), (4, 3)])
def test_paths_use_every_test_once(n_blocks: int, n_test: int) -> None:
    folds = combinatorial_purged(120, n_blocks, n_test, purge=2)
    paths = path_folds(folds)
    # López de Prado (2018), section 12.4: phi[N, k] = k / N * binomial(N, k).
    assert len(paths) == n_paths(n_blocks, n_test) == n_test * comb(n_blocks, n_test) // n_blocks
    used = [(int(fold), block) for path in paths for block, fold in enumerate(path)]
    assert sorted(used) == sorted((i, k) for i, fold in enumerate(folds) for k in fold.blocks)
    for path in paths:
        rows = np.concatenate(
            [
                np.arange(part.start, part.stop)
                for block, i in enumerate(path)
                for part in [folds[i].test[folds[i].blocks.index(block)]]
            ]
        )
        np.testing.assert_array_equal(rows, np.arange(120))


def test_one_test_block_is_purged_kfold() -> None:
    ours = combinatorial_purged(100, 7, 1, purge=3, embargo=2)
    for fold, known in zip(ours, purged_kfold(100, 7, 3, 2), strict=True):
        assert fold.test == (known.test,)
        np.testing.assert_array_equal(fold.train_rows(), known.train_rows())


def test_folds_offers_the_names() -> None:
    assert folds_module.combinatorial_purged is combinatorial_purged


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="6 test blocks of 6"):
        combinatorial_purged(100, 6, 6, purge=1)
    with pytest.raises(ConfigError, match="cannot be cut into 6"):
        combinatorial_purged(5, 6, 2, purge=1)
    with pytest.raises(ConfigError, match="at least 0, got -1"):
        combinatorial_purged(50, 6, 2, purge=-1)
    with pytest.raises(ConfigError, match=r"blocks 0, 1 of 3 leaves no training rows"):
        combinatorial_purged(12, 3, 2, purge=3, embargo=2)
