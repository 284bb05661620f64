"""Adjusted p-values against statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from alphakeel.errors import DataError
from alphakeel.factors.screening import FactorScreen
from alphakeel.stats.newey_west import false_discovery_q_values

METHODS = ["bh", "by"]


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60, deadline=None)
@given(p=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40))
def test_statsmodels(method: str, p: list[float]) -> None:
    expected = multipletests(p, 0.05, f"fdr_{method}")[1]
    ours = false_discovery_q_values(p, method)
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("method", METHODS)
def test_untested_hypotheses_do_not_count(method: str) -> None:
    p = np.array([0.01, np.nan, 0.04, 0.03, np.nan])
    got = false_discovery_q_values(p, method)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(p))
    np.testing.assert_array_equal(got[[0, 2, 3]], false_discovery_q_values(p[[0, 2, 3]], method))
    assert np.isnan(false_discovery_q_values([np.nan, np.nan], method)).all()
    assert false_discovery_q_values([], method).shape == (0,)


def test_refusals() -> None:
    with pytest.raises(DataError, match=r"p-value 1 is 1\.5"):
        false_discovery_q_values([0.1, 1.5])
    with pytest.raises(DataError, match="shape"):
        false_discovery_q_values(np.zeros((2, 2)))


@pytest.mark.parametrize("method", ["benjamini_hochberg", "benjamini_yekutieli"])
def test_noise_passes_a_screen_at_its_rate(method: str) -> None:
    """With nothing to find, the chance that any factor passes is the false discovery rate."""
    rng = np.random.default_rng(5)
    passed = 0
    for _ in range(60):
        values, targets = rng.standard_normal((60, 25, 8)), rng.standard_normal((60, 25))
        screen = FactorScreen(
            min_abs_t=0.0,
            min_sign_stability=0.0,
            min_keep=1,
            false_discovery_rate=0.2,
            discovery_method=method,
        ).fit(values, targets)
        words = screen.verdicts_["verdict"]
        assert words.str.contains("Benjamini-").all()
        passed += bool(words.str.startswith("kept: Rank").any())
    limit = 0.2 if method == "benjamini_hochberg" else 0.2 / sum(1 / k for k in range(1, 9))
    assert passed / 60 <= limit + 3 * np.sqrt(limit * (1 - limit) / 60)
    assert passed > 0
