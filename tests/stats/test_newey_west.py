"""Newey-West, summaries of the IC and adjusted p-values against statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from alphakeel.errors import ConfigError, DataError
from alphakeel.factors.screening import FactorScreen
from alphakeel.stats import newey_west
from alphakeel.stats.newey_west import false_discovery_q_values
from helpers import autoregression

METHODS = ["bh", "by"]


class TestNeweyWest:
    @pytest.mark.parametrize("lags", [0, 1, 5, 20])
    def test_statsmodels_hac(self, lags: int) -> None:
        x = autoregression(0.5, 400) + 0.1
        fit = sm.OLS(x, np.ones(400)).fit(cov_type="HAC", cov_kwds={"maxlags": lags})
        ours = newey_west.newey_west_tstat(x, lags)
        assert ours.mean == pytest.approx(fit.params[0])
        assert ours.t == pytest.approx(fit.tvalues[0], rel=1e-10)
        assert ours.p == pytest.approx(fit.pvalues[0], rel=1e-8)
        interval = newey_west.newey_west_interval(x, lags, level=0.9)
        assert (interval.mean, interval.t, interval.p) == ours
        assert interval[2:4] == pytest.approx(fit.conf_int(0.1)[0], rel=1e-10)

    def test_gaps_default_lags_and_degenerate_series(self) -> None:
        x = autoregression(0.2, 100)
        gappy = np.insert(x, [3, 50], np.nan)
        assert newey_west.newey_west_tstat(gappy) == newey_west.newey_west_tstat(x, lags=4)
        assert np.isnan(newey_west.newey_west_tstat([0.1, 0.1, 0.1]).t)
        assert newey_west.newey_west_tstat([0.1, 0.1]).mean == 0.1
        assert np.isnan(newey_west.newey_west_tstat([np.nan]).mean)
        with pytest.raises(DataError, match="infinite"):
            newey_west.newey_west_tstat([1.0, np.inf])
        with pytest.raises(ConfigError, match="got -1"):
            newey_west.newey_west_tstat(x, lags=-1)
        assert np.isnan(newey_west.newey_west_interval([0.1, 0.1])[2:]).all()
        with pytest.raises(ConfigError, match="between 0 and 1"):
            newey_west.newey_west_interval(x, level=95)


class TestICSummary:
    def test_parts(self) -> None:
        x = 0.03 + 0.1 * autoregression(0.3, 600)
        gappy = np.insert(x, 40, np.nan)
        ours = newey_west.ic_summary(gappy, lags=4, n_bootstrap=200, seed=1)
        assert ours == newey_west.ic_summary(x, lags=4, n_bootstrap=200, seed=1)
        assert (ours.n_dates, ours.mean) == (600, x.mean())
        assert ours.icir == x.mean() / x.std(ddof=1)
        assert (ours.mean, ours.t, ours.p) == newey_west.newey_west_tstat(x, 4)
        assert ours.hit_rate == (x > 0).mean()
        assert ours.interval.low < ours.mean < ours.interval.high

    def test_constant_and_short(self) -> None:
        assert np.isnan(newey_west.ic_summary([0.1, 0.1, 0.1], n_bootstrap=10).icir)
        with pytest.raises(DataError, match="1 of 2 dates"):
            newey_west.ic_summary([0.1, np.nan])


class TestQValues:
    @pytest.mark.parametrize("method", METHODS)
    @settings(max_examples=60, deadline=None)
    @given(p=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40))
    def test_statsmodels(self, method: str, p: list[float]) -> None:
        expected = multipletests(p, 0.05, f"fdr_{method}")[1]
        ours = false_discovery_q_values(p, method)
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-300)

    @pytest.mark.parametrize("method", METHODS)
    def test_untested_hypotheses_do_not_count(self, method: str) -> None:
        p = np.array([0.01, np.nan, 0.04, 0.03, np.nan])
        got = false_discovery_q_values(p, method)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(p))
        np.testing.assert_array_equal(
            got[[0, 2, 3]], false_discovery_q_values(p[[0, 2, 3]], method)
        )
        assert np.isnan(false_discovery_q_values([np.nan, np.nan], method)).all()
        assert false_discovery_q_values([], method).shape == (0,)

    def test_refusals(self) -> None:
        with pytest.raises(DataError, match=r"p-value 1 is 1\.5"):
            false_discovery_q_values([0.1, 1.5])
        with pytest.raises(DataError, match="shape"):
            false_discovery_q_values(np.zeros((2, 2)))

    @pytest.mark.parametrize("method", ["benjamini_hochberg", "benjamini_yekutieli"])
    def test_noise_passes_a_screen_at_its_rate(self, method: str) -> None:
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
