"""Paired differences of IC: the same decisions and the same stocks for both models."""

from __future__ import annotations

import numpy as np
import pytest

from alphakeel.evaluation.ic_differences import ic_difference_table
from alphakeel.stats.cross_section import ic, rank_ic
from alphakeel.stats.newey_west import newey_west_interval


def test_only_what_both_models_score_counts() -> None:
    rng = np.random.default_rng(2)
    forward = rng.standard_normal((60, 20))
    base, own = (0.1 * forward + rng.standard_normal((60, 20)) for _ in range(2))
    base[:, :4], own[:, 16:] = np.nan, np.nan
    own[10], forward[20] = np.nan, np.nan
    scores = {"Linear": base, "LSTM": own}
    table = ic_difference_table(scores, "Linear", (5,), lambda _: forward, lags=(3,), level=0.9)
    row, known = table.loc["LSTM", 5], np.delete(np.arange(60), [10, 20])
    assert (len(table), row["n"]) == (1, 58)
    cells = (known, slice(4, 16))
    for measure, correlation in (("ic", ic), ("rank_ic", rank_ic)):
        one, other = (correlation(x[cells], forward[cells]) for x in (own, base))
        found = newey_west_interval(one - other, 3, level=0.9)
        names = [measure, *(f"{measure}_{what}" for what in ("benchmark", "difference"))]
        assert row[names].tolist() == pytest.approx([one.mean(), other.mean(), found.mean])
        ends = [f"{measure}_difference_{end}" for end in ("low", "high", "t", "p")]
        assert row[ends].tolist() == pytest.approx(list(found[2:]))


def test_nothing_to_compare() -> None:
    scores = np.full((30, 8), np.nan)
    options = {"lags": (1,), "level": 0.95}
    alone = ic_difference_table({"Linear": scores}, "Linear", (5,), lambda _: scores, **options)
    assert alone.empty
    assert alone.index.names == ["model", "horizon"]
    both = {"Linear": scores, "LSTM": scores}
    table = ic_difference_table(both, "Linear", (5,), lambda _: scores, **options)
    assert table.loc["LSTM", 5].isna().sum() == table.shape[1] - 1
    assert table.loc["LSTM", 5]["n"] == 0
