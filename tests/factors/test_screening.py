"""FactorScreen: planted truth found, words for every verdict, nothing from outside its rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.base import clone
from statsmodels.stats.outliers_influence import variance_inflation_factor

from alphakeel.errors import ConfigError, DataError, NotFittedError
from alphakeel.factors import screening_statistics
from alphakeel.factors.screening import FactorScreen
from alphakeel.factors.screening_statistics import cross_sections
from alphakeel.stats.cross_section import ic, rank_ic

T, N = 260, 40
NAMES = ["signal", "signal_copy", "negative", "noise", "patchy", "absent", "earnings_yield"]
FAMILIES = ["price", "price", "price", "price", "volume", "volume", "valuation"]


def planted(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Factors of known worth, two horizons, a mask with holes."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((T, N, len(NAMES))).astype(np.float32)
    values[..., 1] = np.exp(values[..., 0] + 0.2 * values[..., 1])
    values[..., 4][rng.random((T, N)) < 0.7] = np.nan
    values[..., 5] = np.nan
    signal = 0.3 * values[..., 0] - 0.2 * values[..., 2]
    targets = signal[..., None] + rng.standard_normal((T, N, 2))
    targets[-3:, :, 1] = np.nan
    return values, targets, rng.random((T, N)) < 0.9


def orthogonal_noise(values: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Noise whose Rank IC has alternating sign, hence a t of about zero by construction."""
    order = scipy_stats.rankdata(targets[..., 0], axis=1)
    noise = order * np.where(np.arange(len(values)) % 2, 1.0, -1.0)[:, None]
    return noise.astype(np.float32)


@pytest.fixture(scope="module")
def fitted() -> FactorScreen:
    values, targets, mask = planted()
    values[..., 3] = orthogonal_noise(values, targets)
    values[..., 6] = -orthogonal_noise(values, targets)
    values[..., 6] += 8 * np.random.default_rng(9).standard_normal((T, N))
    return FactorScreen(min_keep=1, min_abs_t=2.0).fit(values, targets, mask, NAMES, FAMILIES)


class TestRegression:
    def test_planted_factors_get_their_due(self, fitted: FactorScreen) -> None:
        table = fitted.verdicts_.set_index("factor")
        assert fitted.selected_ == ("signal", "negative", "earnings_yield")
        assert table.kept.tolist() == [True, False, True, False, False, False, True]
        assert table.loc["signal_copy", "cluster"] == "signal"
        assert "with signal, which is stronger" in table.loc["signal_copy", "verdict"]
        assert table.loc["negative", "rank_ic"] < -0.1
        assert table.loc["noise", "verdict"].startswith("dropped: Rank IC")
        assert table.loc["patchy", "verdict"] == "dropped: coverage 29 %, below 50 %"
        assert table.loc["absent", "verdict"] == "dropped: known on no eligible stock-day"
        assert table.loc["signal", "verdict"].startswith("kept: Rank IC 0.2")
        assert table.loc["signal", "verdict"].endswith("same sign in 5 of 5 sub-periods")
        assert "'valuation' is exempt" in table.loc["earnings_yield", "verdict"]
        assert np.isnan(table.loc["absent", ["ic", "rank_ic", "nw_t", "vif"]].astype(float)).all()

    def test_equals_exact_rank_ic_where_the_same_stocks_are_known(self) -> None:
        values, targets, mask = planted()
        got = FactorScreen().fit(values, targets, mask, NAMES, FAMILIES).rank_ic_
        for k in (0, 1, 2, 3, 6):
            exact = rank_ic(values[..., k], targets, mask)
            np.testing.assert_allclose(got[:, k], exact, atol=2e-6)

    def test_close_to_exact_rank_ic_where_stocks_differ(self) -> None:
        values, targets, mask = planted()
        rng = np.random.default_rng(1)
        values[rng.random(values.shape) < 0.1] = np.nan
        targets[rng.random(targets.shape) < 0.1] = np.nan
        got = FactorScreen().fit(values, targets, mask, NAMES, FAMILIES).rank_ic_
        exact = rank_ic(values[..., 0], targets, mask)
        assert np.nanmax(np.abs(got[:, 0] - exact)) < 0.08
        assert abs(np.nanmean(got[:, 0]) - np.nanmean(exact)) < 1e-3

    def test_ic_is_pearson_even_for_huge_values(self) -> None:
        values, targets, mask = planted()
        values[..., 0] *= np.float32(1e30)
        got = FactorScreen().fit(values, targets, mask, NAMES, FAMILIES).by_horizon_
        exact = np.nanmean(ic(values[..., 0], targets, mask), axis=0)
        np.testing.assert_allclose(got.ic[:2], exact, atol=1e-6)

    def test_ties_are_averaged(self) -> None:
        values, targets, mask = planted()
        values = np.round(values[..., :1], 0)
        got = FactorScreen().fit(values, targets, mask).rank_ic_[:, 0, 0]
        row = mask[7]
        expected = scipy_stats.spearmanr(values[7, row, 0], targets[7, row, 0]).statistic
        assert got[7] == pytest.approx(expected, abs=1e-6)

    def test_correlation_is_mean_rank_correlation(self, fitted: FactorScreen) -> None:
        values, _, mask = planted()
        exact = np.nanmean(rank_ic(values[..., 0], values[..., 1], mask))
        assert fitted.correlation_[0, 1] == pytest.approx(exact, abs=1e-6)
        np.testing.assert_allclose(fitted.correlation_, fitted.correlation_.T)

    def test_vif_agrees_with_statsmodels(self) -> None:
        rng = np.random.default_rng(3)
        values = rng.standard_normal((400, 60, 3))
        values[..., 2] = values[..., 0] + values[..., 1] + 0.7 * values[..., 2]
        targets = values.sum(axis=2) + rng.standard_normal((400, 60))
        table = FactorScreen(min_keep=3, max_correlation=1.0).fit(values, targets).verdicts_
        ranks = scipy_stats.zscore(scipy_stats.rankdata(values, axis=1), axis=1).reshape(-1, 3)
        expected = [variance_inflation_factor(ranks, k) for k in range(3)]
        np.testing.assert_allclose(table.vif, expected, rtol=0.02)


class TestProperties:
    def test_rows_that_are_not_handed_in_cannot_matter(self) -> None:
        values, targets, mask = planted()
        t = 200
        before = FactorScreen().fit(values[:t], targets[:t], mask[:t], NAMES, FAMILIES)
        rng = np.random.default_rng(6)
        values[t:] = 1e30 * rng.standard_normal(values[t:].shape)
        targets[t:] = 1e9 * rng.standard_normal(targets[t:].shape)
        mask[t:] = ~mask[t:]
        after = FactorScreen().fit(values[:t], targets[:t], mask[:t], NAMES, FAMILIES)
        pd.testing.assert_frame_equal(before.verdicts_, after.verdicts_, check_exact=True)
        np.testing.assert_array_equal(before.rank_ic_, after.rank_ic_)
        np.testing.assert_array_equal(before.correlation_, after.correlation_)

    def test_a_date_ic_does_not_depend_on_later_rows(self) -> None:
        values, targets, mask = planted()
        whole = FactorScreen().fit(values, targets, mask, NAMES, FAMILIES).rank_ic_
        part = FactorScreen().fit(values[:150], targets[:150], mask[:150], NAMES, FAMILIES)
        np.testing.assert_array_equal(whole[:150], part.rank_ic_)

    def test_masked_entries_cannot_matter(self) -> None:
        values, targets, mask = planted()
        before = FactorScreen().fit(values, targets, mask, NAMES, FAMILIES).verdicts_
        values[~mask], targets[~mask] = np.inf, -np.inf
        after = FactorScreen().fit(values, targets, mask, NAMES, FAMILIES).verdicts_
        pd.testing.assert_frame_equal(before, after, check_exact=True)

    @settings(max_examples=5, deadline=None)
    @given(st.integers(0, 2**31))
    def test_asset_order_is_irrelevant(self, seed: int) -> None:
        values, targets, mask = planted()
        p = np.random.default_rng(seed).permutation(N)
        one = FactorScreen().fit(values, targets, mask, NAMES, FAMILIES)
        two = FactorScreen().fit(values[:, p], targets[:, p], mask[:, p], NAMES, FAMILIES)
        assert one.selected_ == two.selected_
        np.testing.assert_allclose(one.rank_ic_, two.rank_ic_, atol=1e-6)
        assert one.verdicts_.verdict.tolist() == two.verdicts_.verdict.tolist()

    def test_factor_order_is_irrelevant(self) -> None:
        values, targets, mask = planted()
        p = np.random.default_rng(7).permutation(len(NAMES))
        one = FactorScreen().fit(values, targets, mask, NAMES, FAMILIES)
        two = FactorScreen().fit(
            values[..., p], targets, mask, [NAMES[i] for i in p], [FAMILIES[i] for i in p]
        )
        assert set(one.selected_) == set(two.selected_)
        assert two.selected_ == tuple(NAMES[i] for i in p if NAMES[i] in one.selected_)

    def test_inputs_are_not_mutated(self) -> None:
        arrays = planted()
        copies = [a.copy() for a in arrays]
        FactorScreen().fit(*arrays, NAMES, FAMILIES)
        for array, copy in zip(arrays, copies, strict=True):
            np.testing.assert_array_equal(array, copy)

    @pytest.mark.parametrize("limit", [0.1, 0.5, 0.9])
    def test_kept_factors_are_never_too_close(self, limit: float) -> None:
        rng = np.random.default_rng(8)
        common = rng.standard_normal((120, 50, 1))
        values = common + rng.uniform(0.1, 2.0, 12) * rng.standard_normal((120, 50, 12))
        targets = common[..., 0] + rng.standard_normal((120, 50))
        screen = FactorScreen(max_correlation=limit, min_keep=12).fit(values, targets)
        inside = np.abs(screen.correlation_[np.ix_(screen.support_, screen.support_)])
        assert (inside[~np.eye(len(inside), dtype=bool)] <= limit).all()
        named = dict(zip(screen.names_, screen.support_, strict=True))
        assert all(named[leader] for leader in screen.verdicts_.cluster)

    def test_noise_keeps_the_floor_and_says_so(self) -> None:
        rng = np.random.default_rng(10)
        values = rng.standard_normal((100, 30, 6))
        screen = FactorScreen(min_abs_t=50.0, min_keep=2).fit(
            values, rng.standard_normal((100, 30))
        )
        assert len(screen.selected_) == 2
        strongest = np.sort(np.abs(screen.verdicts_.nw_t))[-2:]
        kept = screen.verdicts_[screen.verdicts_.kept]
        np.testing.assert_array_equal(np.sort(np.abs(kept.nw_t)), strongest)
        assert kept.verdict.str.startswith("kept to reach min_keep=2, although: Rank IC").all()

    def test_false_discovery_control_only_removes(self) -> None:
        values, targets, mask = planted()
        free = FactorScreen(min_keep=1).fit(values, targets, mask, NAMES, FAMILIES)
        strict = FactorScreen(min_keep=1, false_discovery_rate=1e-6).fit(
            values, targets, mask, NAMES, FAMILIES
        )
        assert set(strict.selected_) <= set(free.selected_)
        assert "signal" in strict.selected_
        words = strict.verdicts_.set_index("factor")["verdict"]
        assert words["signal"].endswith("q 0.000, Benjamini-Hochberg")
        pd.testing.assert_series_equal(free.verdicts_["q_value"], strict.verdicts_["q_value"])
        assert not free.verdicts_["verdict"].str.contains("Benjamini").any()

    def test_max_vif_breaks_a_triangle(self) -> None:
        rng = np.random.default_rng(11)
        values = rng.standard_normal((200, 40, 3))
        values[..., 2] = values[..., 0] + values[..., 1] + 0.2 * values[..., 2]
        targets = values.sum(axis=2) + rng.standard_normal((200, 40))
        screen = FactorScreen(min_keep=1, max_vif=5.0).fit(values, targets)
        assert screen.support_.sum() == 2
        assert screen.verdicts_.verdict.str.contains("VIF .* against the other factors").sum() == 1

    def test_overlap_lowers_t(self) -> None:
        rng = np.random.default_rng(12)
        values = np.repeat(rng.standard_normal((1, 60, 1)), 400, axis=0)
        shocks = rng.standard_normal((420, 60)) + 0.05 * values[0, :, 0]
        targets = np.stack([shocks[t : t + 20].sum(axis=0) for t in range(400)])
        naive = FactorScreen().fit(values, targets, horizons=[1]).verdicts_.nw_t[0]
        honest = FactorScreen().fit(values, targets, horizons=[20]).verdicts_.nw_t[0]
        assert 0 < honest < naive

    def test_transform_and_clone(self, fitted: FactorScreen) -> None:
        values, _, _ = planted()
        np.testing.assert_array_equal(fitted.transform(values)[..., 0], values[..., 0])
        assert fitted.transform(values).shape == (T, N, 3)
        assert clone(fitted).get_params() == fitted.get_params()


class TestCrossSections:
    PER_DATE = ("ic", "rank_ic", "correlation", "known", "eligible")

    @pytest.mark.parametrize("block_values", [1, 1 << 12, 1 << 30])
    @pytest.mark.parametrize("n_factors", [1, 7])
    @pytest.mark.parametrize(
        "rows", [slice(0, 150), slice(37, 201), slice(9, 10), np.array([3, 4, 90, 259])]
    )
    def test_a_date_follows_from_its_own_row_whatever_the_block(
        self,
        monkeypatch: pytest.MonkeyPatch,
        block_values: int,
        n_factors: int,
        rows: slice | np.ndarray,
    ) -> None:
        values, targets, mask = planted()
        values = values[..., :n_factors]
        whole = cross_sections(values, targets, mask).on(rows)
        monkeypatch.setattr(screening_statistics, "BLOCK_VALUES", block_values)
        alone = cross_sections(values[rows], targets[rows], mask[rows])
        for figure in self.PER_DATE:
            np.testing.assert_array_equal(getattr(whole, figure), getattr(alone, figure))

    def test_what_other_rows_hold_cannot_matter(self) -> None:
        values, targets, mask = planted()
        before = cross_sections(values, targets, mask).on(slice(50, 200))
        rng = np.random.default_rng(13)
        for outside in (slice(0, 50), slice(200, T)):
            values[outside] = 1e30 * rng.standard_normal(values[outside].shape)
            targets[outside] = np.nan
            mask[outside] = ~mask[outside]
        after = cross_sections(values, targets, mask).on(slice(50, 200))
        for figure in self.PER_DATE:
            np.testing.assert_array_equal(getattr(before, figure), getattr(after, figure))

    def test_a_fold_judged_on_them_is_a_fold_judged_alone(self) -> None:
        values, targets, mask = planted()
        sections = cross_sections(values, targets, mask, NAMES)
        for train in (slice(0, 120), slice(40, 230)):
            alone = FactorScreen(max_vif=5.0).fit(
                values[train], targets[train], mask[train], NAMES, FAMILIES, (1, 5)
            )
            shared = FactorScreen(max_vif=5.0).fit_cross_sections(
                sections.on(train), NAMES, FAMILIES, (1, 5)
            )
            pd.testing.assert_frame_equal(alone.verdicts_, shared.verdicts_, check_exact=True)
            pd.testing.assert_frame_equal(alone.by_horizon_, shared.by_horizon_, check_exact=True)
            np.testing.assert_array_equal(alone.correlation_, shared.correlation_)
            assert alone.selected_ == shared.selected_

    def test_pooled_figures_are_those_of_their_rows(self) -> None:
        values, targets, mask = planted()
        train = slice(20, 170)
        sections = cross_sections(values, targets, mask).on(train)
        known = np.isfinite(values[train][mask[train]])
        np.testing.assert_array_equal(sections.coverage(), known.mean(axis=0))
        exact = rank_ic(values[train, :, 1], values[train, :, 2], mask[train])
        assert sections.mean_correlation()[1, 2] == pytest.approx(np.mean(exact), abs=1e-6)
        assert np.isnan(sections.mean_correlation()[5]).all()

    def test_a_slice_is_not_copied(self) -> None:
        sections = cross_sections(*planted())
        assert np.shares_memory(sections.on(slice(3, 9)).correlation, sections.correlation)

    def test_another_min_assets_is_refused(self) -> None:
        sections = cross_sections(*planted(), min_assets=10)
        with pytest.raises(ConfigError, match="min_assets=10 but the screen has min_assets=5"):
            FactorScreen().fit_cross_sections(sections)
        assert FactorScreen(min_assets=10).fit_cross_sections(sections).selected_

    def test_infinite_value_is_found_in_any_block(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(screening_statistics, "BLOCK_VALUES", 1 << 12)
        values, targets, _ = planted()
        values[201, 7, 2] = -np.inf
        with pytest.raises(DataError, match=r"'negative' is infinite at row 201, asset column 7"):
            cross_sections(values, targets, names=NAMES)


class TestValidation:
    def test_transform_before_fit(self) -> None:
        with pytest.raises(NotFittedError, match="call fit before transform"):
            FactorScreen().transform(np.zeros((2, 2, 2)))

    def test_transform_other_factors(self, fitted: FactorScreen) -> None:
        with pytest.raises(DataError, match="fitted on 7"):
            fitted.transform(np.zeros((2, 2, 2)))

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("min_coverage", 1.5),
            ("max_correlation", -0.1),
            ("min_sign_stability", 2.0),
            ("min_abs_t", float("nan")),
            ("min_keep", 0),
            ("n_subperiods", 0),
            ("min_assets", 2),
            ("max_vif", 1.0),
            ("false_discovery_rate", 1.0),
            ("discovery_method", "bonferroni"),
            ("keep_families", "valuation"),
        ],
    )
    def test_settings_out_of_range(self, setting: str, value: object) -> None:
        values, targets, mask = planted()
        with pytest.raises(ConfigError, match=setting):
            FactorScreen(**{setting: value}).fit(values, targets, mask)

    def test_infinite_value_names_factor_row_and_column(self) -> None:
        values, targets, _ = planted()
        values[100, 7, 2] = np.inf
        with pytest.raises(DataError, match=r"'negative' is infinite at row 100, asset column 7"):
            FactorScreen().fit(values, targets, names=NAMES)
        values[100, 7, 2], targets[3, 4, 1] = 0.0, 1e300
        with pytest.raises(DataError, match=r"target 1 is infinite at row 3, asset column 4"):
            FactorScreen().fit(values, targets, names=NAMES)

    def test_nothing_to_judge(self) -> None:
        values, targets, mask = planted()
        with pytest.raises(DataError, match="no factor can be judged"):
            FactorScreen().fit(np.full_like(values, np.nan), targets, mask)
        with pytest.raises(DataError, match="no factor can be judged"):
            FactorScreen().fit(values, targets, np.zeros_like(mask))
        with pytest.raises(DataError, match="nothing to screen"):
            FactorScreen().fit(values[:0], targets[:0])

    def test_shapes_and_names_that_disagree(self) -> None:
        values, targets, mask = planted()
        with pytest.raises(DataError, match="expected"):
            FactorScreen().fit(values[:5], targets)
        with pytest.raises(DataError, match="expected bool"):
            FactorScreen().fit(values, targets, mask.astype(float))
        with pytest.raises(DataError, match="7 factors but 2 names"):
            FactorScreen().fit(values, targets, names=["a", "b"])
        with pytest.raises(DataError, match="repeated: a"):
            FactorScreen().fit(values, targets, names=["a"] * 7)
        with pytest.raises(DataError, match="2 targets"):
            FactorScreen().fit(values, targets, horizons=[5])


def test_few_training_rows_leave_no_sign_to_be_stable() -> None:
    rng = np.random.default_rng(0)
    values, targets = rng.normal(size=(3, 8, 2)), rng.normal(size=(3, 8, 1))
    screen = FactorScreen(min_keep=2).fit(
        values, targets, np.ones((3, 8), dtype=bool), ("a", "b"), ("x", "y")
    )
    assert len(screen.selected_) == 2
