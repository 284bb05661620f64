"""Cross-sectional arithmetic: references, properties, and each date on its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats import cross_section

Array = NDArray[np.floating]

UNARY: dict[str, Callable[..., Array]] = {
    "rank": cross_section.rank,
    "rank_scaled": cross_section.rank_scaled,
    "zscore": cross_section.zscore,
    "winsorize": lambda x, mask=None: cross_section.winsorize(x, 2.0, mask),
}
PAIRS: dict[str, Callable[..., Array]] = {"ic": cross_section.ic, "rank_ic": cross_section.rank_ic}


def _sample(seed: int = 0, shape: tuple[int, ...] = (90, 37), ties: bool = True) -> Array:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    if ties:
        x[::2] = np.round(x[::2], 1)
    x[rng.random(shape) < 0.1] = np.nan
    x[7] = np.nan
    x[8] = 1.5
    x[9, 3] = np.inf
    x[10, 4] = -np.inf
    x[11] = -0.0
    x[11, ::2] = 0.0
    return x


def _spearman(a: Array, b: Array, min_assets: int = 5) -> float:
    ok = np.isfinite(a) & np.isfinite(b)
    a, b = a[ok], b[ok]
    if len(a) < min_assets or np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(scipy_stats.spearmanr(a, b).statistic)


def _spearman_table(a: Array, b: Array) -> Array:
    pairs = zip(a, b, strict=True)
    return np.array([[_spearman(x, goal) for goal in y.T] for x, y in pairs])


class TestReferences:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_rank_is_scipy_rankdata(self, dtype: type) -> None:
        x = _sample().astype(dtype)
        ours = cross_section.rank(x)
        assert ours.dtype == dtype
        expected = scipy_stats.rankdata(
            np.where(np.isfinite(x), x, np.nan), axis=1, nan_policy="omit"
        )
        np.testing.assert_array_equal(ours, expected)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_rank_ic_is_scipy_spearmanr(self, dtype: type) -> None:
        a = _sample(1).astype(dtype)
        b = np.stack([_sample(s, ties=s % 2 == 0) for s in (2, 3, 4)], axis=2).astype(dtype)
        expected = _spearman_table(a, b)
        np.testing.assert_allclose(cross_section.rank_ic(a, b), expected, rtol=1e-13, atol=1e-15)
        np.testing.assert_array_equal(
            cross_section.rank_ic(a, b[:, :, 1]), cross_section.rank_ic(a, b)[:, 1]
        )

    def test_rank_ic_without_gaps_shares_the_scores_ranks(self) -> None:
        rng = np.random.default_rng(3)
        a, b = rng.integers(0, 9, (40, 30)).astype(float), rng.standard_normal((40, 30, 2))
        expected = _spearman_table(a, b)
        np.testing.assert_allclose(cross_section.rank_ic(a, b), expected, rtol=1e-13)

    def test_ic_is_numpy_corrcoef(self) -> None:
        a, b = _sample(1), _sample(2)
        expected = []
        for x, y in zip(a, b, strict=True):
            ok = np.isfinite(x) & np.isfinite(y)
            constant = not ok.any() or np.ptp(x[ok]) == 0 or np.ptp(y[ok]) == 0
            expected.append(np.nan if constant else np.corrcoef(x[ok], y[ok])[0, 1])
        np.testing.assert_allclose(cross_section.ic(a, b), expected, rtol=1e-12, atol=1e-15)

    def test_winsorize_is_median_and_mad(self) -> None:
        x = _sample(ties=False)
        clean = np.where(np.isfinite(x), x, np.nan)
        for row, ours in zip(clean, cross_section.winsorize(x, 1.5), strict=True):
            if not np.isfinite(row).any():
                continue
            median = np.nanmedian(row)
            half = 1.5 * 1.4826 * np.nanmedian(np.abs(row - median))
            expected = np.clip(row, median - half, median + half) if half > 0 else row
            np.testing.assert_allclose(ours, expected, rtol=1e-15)


class TestDoublesCloserThanTheirIndexBits:
    """The fast sort borrows mantissa bits; neighbours that differ there must still be right."""

    def test_neighbouring_doubles(self) -> None:
        rng = np.random.default_rng(0)
        x = 1.0 + rng.integers(0, 40, (20, 600)) * np.finfo(float).eps
        x[::2] *= -1.0
        x[5, ::7] = np.nan
        expected = scipy_stats.rankdata(x, axis=1, nan_policy="omit")
        np.testing.assert_array_equal(cross_section.rank(x), expected)

    def test_the_largest_doubles_beside_missing_ones(self) -> None:
        big = np.finfo(float).max
        x = np.array([[np.nan, big, np.nan, np.nextafter(big, 0), 1.0, -big, np.nan, 5e-324, 0.0]])
        np.testing.assert_array_equal(
            cross_section.rank(x), [[np.nan, 6, np.nan, 5, 4, 1, np.nan, 3, 2]]
        )


class TestEachDateAlone:
    """The scramble test in its strongest form: a date's output is a function of its row."""

    @pytest.mark.parametrize("name", UNARY)
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_future_cannot_reach_back(self, name: str, dtype: type) -> None:
        func, x = UNARY[name], _sample().astype(dtype)
        noisy = x.copy()
        noisy[50:] = np.random.default_rng(9).standard_normal(x[50:].shape) * 1e30
        noisy[60, 3], noisy[61, 4] = np.inf, np.nan
        np.testing.assert_array_equal(func(x)[:50], func(noisy)[:50])

    @pytest.mark.parametrize("name", PAIRS)
    def test_future_cannot_reach_back_in_a_correlation(self, name: str) -> None:
        a, b = _sample(1), _sample(2)
        noisy_a, noisy_b = a.copy(), b.copy()
        noisy_a[50:], noisy_b[50:] = 1e300 * b[50:], -1e300 * a[50:]
        func = PAIRS[name]
        np.testing.assert_array_equal(func(a, b)[:50], func(noisy_a, noisy_b)[:50])

    @pytest.mark.parametrize("name", UNARY)
    def test_rows_and_block_size_do_not_matter(
        self, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        x = _sample()
        func = UNARY[name]
        whole = func(x)
        single = [func(x[t : t + 1])[0] for t in range(len(x))]
        np.testing.assert_array_equal(whole, single)
        monkeypatch.setattr("alphakeel.stats.cross_section.BLOCK_VALUES", 100)
        np.testing.assert_array_equal(func(x), UNARY[name](np.asfortranarray(x)))

    @pytest.mark.parametrize("name", PAIRS)
    def test_rows_do_not_matter_to_a_correlation(self, name: str) -> None:
        a, b = _sample(1), _sample(2)
        whole = PAIRS[name](a, b)
        for rows in (slice(0, 1), slice(13, 29), slice(40, 90, 7)):
            np.testing.assert_array_equal(PAIRS[name](a[rows], b[rows]), whole[rows])


class TestProperties:
    @pytest.mark.parametrize("name", UNARY)
    def test_input_is_not_mutated_and_mask_is_nan(self, name: str) -> None:
        x = _sample()
        before = x.copy()
        keep = np.random.default_rng(4).random(x.shape) < 0.8
        ours = UNARY[name](x, mask=keep)
        np.testing.assert_array_equal(x, before)
        np.testing.assert_array_equal(ours, UNARY[name](np.where(keep, x, np.nan)))
        assert np.isnan(ours[~keep | ~np.isfinite(x)]).all()

    def test_pairs_do_not_mutate_and_honour_the_mask(self) -> None:
        a, b = _sample(1), _sample(2)
        copies = a.copy(), b.copy()
        keep = np.random.default_rng(4).random(a.shape) < 0.8
        for func in PAIRS.values():
            np.testing.assert_array_equal(func(a, b, keep), func(np.where(keep, a, np.nan), b))
        np.testing.assert_array_equal(a, copies[0])
        np.testing.assert_array_equal(b, copies[1])

    def test_order_of_assets_is_irrelevant(self) -> None:
        a, b = _sample(1), _sample(2)
        shuffled = np.random.default_rng(0).permutation(a.shape[1])
        np.testing.assert_array_equal(
            cross_section.rank(a)[:, shuffled], cross_section.rank(a[:, shuffled])
        )
        np.testing.assert_array_equal(
            cross_section.rank_ic(a, b), cross_section.rank_ic(a[:, shuffled], b[:, shuffled])
        )

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.floats(allow_nan=True, width=64), min_size=1, max_size=20))
    @example([np.inf, np.finfo(float).max, np.finfo(float).max])
    def test_any_row_ranks_like_scipy(self, row: list[float]) -> None:
        x = np.array([row])
        clean = np.where(np.isfinite(x), x, np.nan)
        expected = scipy_stats.rankdata(clean, axis=1, nan_policy="omit")
        np.testing.assert_array_equal(cross_section.rank(x), expected)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.floats(-1e308, 1e308), min_size=2, max_size=20))
    def test_scores_have_mean_zero_and_unit_variance(self, row: list[float]) -> None:
        for ours in (cross_section.rank_scaled([row])[0], cross_section.zscore([row])[0]):
            assert abs(ours.mean()) < 1e-9
            assert ours.std() == pytest.approx(1.0, abs=1e-9) or (ours == 0.0).all()

    def test_rank_ic_ignores_monotone_maps_and_flips_with_sign(self) -> None:
        a, b = _sample(1, ties=False), _sample(2)
        a = np.where(np.isfinite(a), a, np.nan)
        np.testing.assert_array_equal(
            cross_section.rank_ic(np.exp(a), b), cross_section.rank_ic(a, b)
        )
        np.testing.assert_array_equal(cross_section.rank_ic(-a, b), -cross_section.rank_ic(a, b))


class TestDegenerate:
    def test_constant_and_short_rows(self) -> None:
        flat = np.full((1, 6), 0.1)
        assert (cross_section.rank_scaled(flat) == 0.0).all()
        assert (cross_section.zscore(flat) == 0.0).all()
        assert (cross_section.rank(flat) == 3.5).all()
        np.testing.assert_array_equal(cross_section.winsorize(flat, 1.0), flat)
        rising = np.arange(6.0)[None]
        for func in PAIRS.values():
            assert np.isnan(func(flat, rising)).all()
            assert np.isnan(func(rising[:, :4], rising[:, :4])).all()
            assert func(rising[:, :4], rising[:, :4], min_assets=4) == 1.0

    def test_mad_of_zero_leaves_the_date(self) -> None:
        x = np.array([[0.0, 0.0, 0.0, 0.0, 50.0]])
        np.testing.assert_array_equal(cross_section.winsorize(x, 3.0), x)

    def test_huge_and_tiny_values_do_not_overflow(self) -> None:
        x = np.array([[1.0, 2.0, 3.0, 4.0, 6.0]])
        for scale in (1e-300, 1e300):
            np.testing.assert_allclose(
                cross_section.zscore(x * scale), cross_section.zscore(x), rtol=1e-13
            )
            np.testing.assert_allclose(cross_section.ic(x * scale, x), 1.0)

    def test_empty_inputs(self) -> None:
        for shape in ((0, 5), (3, 0)):
            assert cross_section.rank(np.empty(shape)).shape == shape
            assert cross_section.rank_ic(np.empty(shape), np.empty((*shape, 2))).shape == (
                shape[0],
                2,
            )


class TestValidation:
    def test_shapes_and_dtypes(self) -> None:
        x = np.zeros((3, 4))
        with pytest.raises(DataError, match="n_dates, n_assets"):
            cross_section.rank(np.zeros(3))
        with pytest.raises(DataError, match="mask must be boolean"):
            cross_section.rank(x, mask=np.ones((3, 4)))
        with pytest.raises(DataError, match="targets have shape"):
            cross_section.rank_ic(x, np.zeros((4, 3)))
        with pytest.raises(ConfigError, match="positive"):
            cross_section.winsorize(x, 0.0)


class TestSumsInOrder:
    """A stock that does not count is no part of a sum, not of its last bit."""

    def test_zeros_anywhere_change_no_bit(self) -> None:
        rng = np.random.default_rng(0)
        for n in (1, 5, 128, 300, 1000):
            x = rng.normal(0.0, 1.0, (7, n)) * 10.0 ** rng.integers(-8, 8, (7, n))
            wide = np.zeros((7, 2 * n + 3))
            wide[:, np.sort(rng.choice(2 * n + 3, n, replace=False))] = x
            np.testing.assert_array_equal(cross_section.row_sums(wide), cross_section.row_sums(x))
            np.testing.assert_allclose(cross_section.row_sums(x), x.sum(axis=1), rtol=1e-9)

    def test_only_what_is_valid_counts(self) -> None:
        x = np.array([[1.0, np.nan, 2.0]])
        assert cross_section.row_sums(x, np.array([[True, False, True]]))[0] == 3.0
        assert cross_section.row_sums(np.empty((2, 0))).tolist() == [0.0, 0.0]

    @pytest.mark.parametrize("n_rows", [1, 2, 3, 8, 63, 64])
    def test_stocks_first_gives_the_same_bits(self, n_rows: int) -> None:
        rng = np.random.default_rng(n_rows)
        for n_assets in (1, 2, 9, 500):
            buffer = rng.normal(0.0, 1.0, (n_assets, 64))
            x = buffer[:, :n_rows]
            np.testing.assert_array_equal(cross_section.column_sums(x), cross_section.row_sums(x.T))
