"""Trailing statistics: pandas as the reference, and windows that hold nothing but themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphakeel.errors import ConfigError
from alphakeel.stats import rolling
from alphakeel.stats.rolling import COLUMN_BLOCK, trailing_sums

N_DATES, N_ASSETS = 90, COLUMN_BLOCK + 5  # more than one block of columns


def sample(seed: int = 0, missing: float = 0.15) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(0.001, 0.02, (N_DATES, N_ASSETS))
    x[rng.random(x.shape) < missing] = np.nan
    return x


SINGLE: dict[str, tuple[Callable[..., Any], Callable[[Any], Any]]] = {
    "sum": (rolling.trailing_sum, lambda r: r.sum()),
    "mean": (rolling.trailing_mean, lambda r: r.mean()),
    "std": (rolling.trailing_std, lambda r: r.std()),
    "max": (rolling.trailing_max, lambda r: r.max()),
}


def all_functions() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Every statistic as a function of one array, at a window of 21 rows."""
    calls = {name: (lambda x, f=f: f(x, 21, min_count=15)) for name, (f, _) in SINGLE.items()}
    calls["beta"] = lambda x: rolling.trailing_beta(x, x[:, 0], 21, min_count=8)
    calls["lag"] = lambda x: rolling.lag(x, 21)
    calls["ewma"] = lambda x: rolling.ewma(x, 5.0)
    calls["ew_volatility"] = lambda x: rolling.ew_volatility(x, 5.0)
    return calls


class TestReference:
    @pytest.mark.parametrize("window", [1, 2, 3, 7, 16, 21, 63, 200])
    @pytest.mark.parametrize("name", SINGLE)
    def test_single_series_match_pandas(self, name: str, window: int) -> None:
        ours, theirs = SINGLE[name]
        x = sample()
        min_count = max(1, window // 2)
        if window > N_DATES:
            min_count = N_DATES // 2
        expected = theirs(pd.DataFrame(x).rolling(window, min_periods=min_count)).to_numpy()
        np.testing.assert_allclose(ours(x, window, min_count=min_count), expected, atol=1e-12)

    @pytest.mark.parametrize("n_assets", [3, 200])  # two ways of the same arithmetic
    def test_last_known_values_match_pandas(self, n_assets: int) -> None:
        x = np.tile(sample(missing=0.6), (1, 200))[:, :n_assets]
        x[:20, :2] = np.nan
        values, rows = rolling.last_known(x)
        np.testing.assert_array_equal(values, pd.DataFrame(x).ffill().to_numpy())
        known = rows >= 0
        np.testing.assert_array_equal(known, np.isfinite(values))
        of_rows = np.take_along_axis(x, np.maximum(rows, 0), axis=0)
        np.testing.assert_array_equal(of_rows[known], values[known])

    def test_beta_matches_pandas(self) -> None:
        y, x = sample(1), sample(2)[:, 0]
        known = np.isfinite(y) & np.isfinite(x)[:, None]
        left = pd.DataFrame(np.where(known, y, np.nan))
        right = pd.DataFrame(np.where(known, x[:, None], np.nan))
        expected = left.rolling(20, min_periods=10).cov(right)
        expected = expected / right.rolling(20, min_periods=10).var()
        np.testing.assert_allclose(
            rolling.trailing_beta(y, x, 20, min_count=10),
            expected.to_numpy(),
            rtol=1e-9,
            atol=1e-14,
        )

    def test_std_with_another_divisor(self) -> None:
        x = sample()
        expected = pd.DataFrame(x).rolling(10, min_periods=5).std(ddof=0)
        np.testing.assert_allclose(
            rolling.trailing_std(x, 10, min_count=5, ddof=0), expected.to_numpy(), atol=1e-12
        )

    def test_ewma_matches_pandas(self) -> None:
        x = sample()
        expected = pd.DataFrame(x).ewm(halflife=7.0, min_periods=5).mean().to_numpy()
        np.testing.assert_allclose(rolling.ewma(x, 7.0, min_count=5), expected, rtol=1e-12)
        np.testing.assert_allclose(
            rolling.ew_volatility(x, 7.0, min_count=5),
            np.sqrt(pd.DataFrame(x**2).ewm(halflife=7.0, min_periods=5).mean().to_numpy()),
            rtol=1e-12,
        )

    @settings(max_examples=60, deadline=None)
    @given(
        x=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40),
        window=st.integers(1, 50),
        other=st.integers(1, 50),
    )
    def test_doubling_adds_up_the_window(self, x: list[float], window: int, other: int) -> None:
        values = np.array(x)
        found = trailing_sums(values, (window, other))[window]
        plain = [values[max(0, t - window + 1) : t + 1].sum() for t in range(len(values))]
        np.testing.assert_allclose(found, plain, atol=1e-9)
        np.testing.assert_array_equal(found, trailing_sums(values, (window,))[window])

    def test_one_dimension_is_one_column(self) -> None:
        x = sample()
        np.testing.assert_array_equal(
            rolling.trailing_std(x[:, 3], 20, min_count=10),
            rolling.trailing_std(x, 20, min_count=10)[:, 3],
        )


class TestProperties:
    @pytest.mark.parametrize("most", [None, 1, 5, 40])
    def test_last_known_before_is_last_known_where_it_is_asked(self, most: int | None) -> None:
        """A few cells of few columns, and many cells of many."""
        rng = np.random.default_rng(3)
        narrow = rng.standard_normal((200, 6))
        narrow[rng.random(narrow.shape) < 0.3] = np.nan
        narrow[20:110, 2], narrow[:50, 3], narrow[:, 4] = np.nan, np.nan, np.nan
        for x in (narrow, np.tile(narrow, 40)):
            cells = np.nonzero(np.isnan(x))
            values, source = rolling.last_known(x)
            if most is not None:
                values = np.where(np.arange(200)[:, None] - source <= most, values, np.nan)
            got = rolling.last_known_before(x, *cells, most=most)
            np.testing.assert_array_equal(got, values[cells])
            assert 0 < np.isfinite(got).sum() < len(got)
            np.testing.assert_array_equal(values[:, :6], values[:, -6:])

    @pytest.mark.parametrize("name", all_functions())
    @pytest.mark.parametrize("noise", [1e30, np.nan])
    def test_the_future_is_not_read(self, name: str, noise: float) -> None:
        func, x, t = all_functions()[name], sample(), 50
        scrambled = x.copy()
        scrambled[t + 1 :] = noise
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(func(scrambled)[: t + 1], func(x)[: t + 1])

    @pytest.mark.parametrize("name", [n for n in all_functions() if not n.startswith("ew")])
    def test_what_left_the_window_leaves_no_trace(self, name: str) -> None:
        """A bad price long ago must not live on in the rounding, as in a difference of sums."""
        func, x, t = all_functions()[name], sample(), 50
        polluted = x.copy()
        polluted[: t - 21] = 1e30
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(func(polluted)[t:], func(x)[t:])

    @pytest.mark.parametrize("name", all_functions())
    def test_input_survives_and_order_is_irrelevant(self, name: str) -> None:
        func, x = all_functions()[name], sample()
        before = x.copy()
        found = func(x)
        np.testing.assert_array_equal(x, before)
        order = np.r_[0, np.random.default_rng(1).permutation(np.arange(1, N_ASSETS))]
        np.testing.assert_array_equal(func(x[:, order]), found[:, order])

    def test_a_constant_has_no_spread(self) -> None:
        x = np.full((60, 2), 0.1)
        assert np.all(rolling.trailing_std(x, 20)[19:] == 0.0)
        assert np.all(np.isnan(rolling.trailing_beta(sample()[:60], x[:, 0], 20)))

    def test_missing_rows_everywhere(self) -> None:
        x = np.full((30, 2), np.nan)
        for func in all_functions().values():
            assert np.all(np.isnan(func(x)))


class TestValidation:
    def test_settings_out_of_range(self) -> None:
        x = sample()
        with pytest.raises(ConfigError, match="window is 0"):
            rolling.trailing_sum(x, 0)
        with pytest.raises(ConfigError, match="min_count is 30"):
            rolling.trailing_mean(x, 20, min_count=30)
        with pytest.raises(ConfigError, match="rows is -1"):
            rolling.lag(x, -1)
        with pytest.raises(ConfigError, match=r"halflife is 0\.0"):
            rolling.ewma(x, 0.0)

    def test_lag_beyond_the_start(self) -> None:
        assert np.all(np.isnan(rolling.lag(np.ones((3, 2)), 5)))
        np.testing.assert_array_equal(rolling.lag(np.ones((3, 2)), 0), np.ones((3, 2)))
