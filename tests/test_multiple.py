"""Adjusted p-values against statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from alphakeel.errors import DataError
from alphakeel.factors.screening import FactorScreen
from alphakeel.stats.multiple import benjamini_hochberg, benjamini_yekutieli, holm

STEP_UP = [(benjamini_hochberg, "fdr_bh"), (benjamini_yekutieli, "fdr_by")]
ADJUST = [benjamini_hochberg, benjamini_yekutieli, holm]


@pytest.mark.parametrize(("ours", "theirs"), STEP_UP)
@settings(max_examples=60, deadline=None)
@given(p=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40))
def test_statsmodels(ours: object, theirs: str, p: list[float]) -> None:
    np.testing.assert_allclose(ours(p), multipletests(p, 0.05, theirs)[1], rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("n", [1, 7, 40])
def test_statsmodels_holm(n: int) -> None:  # statsmodels collects garbage on every call: no draws
    p = np.random.default_rng(n).choice([0.0, 0.001, 0.01, 0.02, 0.3, 0.9, 1.0], n)
    np.testing.assert_allclose(holm(p), multipletests(p, 0.05, "holm")[1], rtol=1e-12)


@pytest.mark.parametrize("adjust", ADJUST)
def test_untested_hypotheses_do_not_count(adjust: object) -> None:
    p = np.array([0.01, np.nan, 0.04, 0.03, np.nan])
    got = adjust(p)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(p))
    np.testing.assert_array_equal(got[[0, 2, 3]], adjust(p[[0, 2, 3]]))
    assert np.isnan(adjust([np.nan, np.nan])).all()
    assert adjust([]).shape == (0,)


def test_refusals() -> None:
    with pytest.raises(DataError, match=r"p-value 1 is 1\.5"):
        benjamini_hochberg([0.1, 1.5])
    with pytest.raises(DataError, match="shape"):
        holm(np.zeros((2, 2)))


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
