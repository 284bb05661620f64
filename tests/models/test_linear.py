"""The linear benchmark, against other implementations and on its own properties."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from alphakeel.errors import ConfigError, DataError
from alphakeel.models.linear import LinearForecaster

TRUE = np.array([0.5, -0.2, 0.0, 0.1])


def make_sample(seed: int = 0, n_dates: int = 60, n_assets: int = 25) -> tuple[np.ndarray, ...]:
    """Features, targets with a common move and a persistent error, and a mask with gaps."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n_dates, n_assets, len(TRUE))).astype(np.float32)
    slopes = TRUE + 0.1 * np.cumsum(rng.standard_normal((n_dates, 4)), axis=0) / 8
    targets = np.einsum("tnk,tk->tn", features, slopes) + rng.standard_normal((n_dates, 1))
    targets += 0.3 * rng.standard_normal((n_dates, n_assets))
    mask = rng.random((n_dates, n_assets)) > 0.1
    targets[rng.random((n_dates, n_assets)) < 0.05] = np.nan
    return features, targets, mask


def demeaned(features: np.ndarray, targets: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """The same sample stacked, less date means, with the date of each row: the slow way."""
    xs, ys, dates = [], [], []
    for t in range(len(targets)):
        ok = mask[t] & np.isfinite(targets[t])
        x, y = features[t, ok].astype(float), targets[t, ok].astype(np.float32).astype(float)
        xs.append(x - x.mean(axis=0))
        ys.append(y - y.mean())
        dates.append(np.full(ok.sum(), t))
    return np.concatenate(xs), np.concatenate(ys), np.concatenate(dates)


class TestReferences:
    def test_pooled_matches_statsmodels_with_driscoll_kraay_errors(self) -> None:
        sample = make_sample()
        x, y, dates = demeaned(*sample)
        settings = {"time": dates, "maxlags": 3, "use_correction": False}
        expected = sm.OLS(y, x).fit(cov_type="hac-groupsum", cov_kwds=settings)
        model = LinearForecaster("pooled", lags=3).fit(sample[0], sample[1], mask=sample[2])
        np.testing.assert_allclose(model.coef_, expected.params, rtol=1e-9)
        np.testing.assert_allclose(model.standard_error_, expected.bse, rtol=1e-8)
        np.testing.assert_allclose(model.tstat_, expected.tvalues, rtol=1e-8)
        assert (model.n_entries_, model.n_dates_) == (len(y), len(sample[1]))

    def test_ridge_matches_its_normal_equations(self) -> None:
        sample = make_sample()
        x, y, _ = demeaned(*sample)
        expected = np.linalg.solve(x.T @ x + 0.7 * len(y) * np.eye(4), x.T @ y)
        model = LinearForecaster("ridge", alpha=0.7).fit(sample[0], sample[1], mask=sample[2])
        np.testing.assert_allclose(model.coef_, expected, rtol=1e-9)

    def test_fama_macbeth_matches_a_regression_per_date(self) -> None:
        features, targets, mask = make_sample()
        slopes = []
        for t in range(len(targets)):
            ok = mask[t] & np.isfinite(targets[t])
            fitted = sm.OLS(targets[t, ok], sm.add_constant(features[t, ok].astype(float))).fit()
            slopes.append(fitted.params[1:])
        model = LinearForecaster("fama_macbeth", lags=2).fit(features, targets, mask=mask)
        np.testing.assert_allclose(model.premia_, slopes, atol=1e-6)
        for k in range(4):
            series = sm.OLS(model.premia_[:, k], np.ones(len(slopes)))
            kwds = {"maxlags": 2, "use_correction": False}
            expected = series.fit(cov_type="HAC", cov_kwds=kwds)
            np.testing.assert_allclose(model.coef_[k], expected.params[0], rtol=1e-9)
            np.testing.assert_allclose(model.standard_error_[k], expected.bse[0], rtol=1e-9)


class TestProperties:
    def test_ridge_of_zero_is_pooled_and_a_huge_ridge_is_nothing(self) -> None:
        features, targets, mask = make_sample()
        pooled = LinearForecaster("pooled").fit(features, targets, mask=mask)
        none = LinearForecaster("ridge", alpha=0.0).fit(features, targets, mask=mask)
        huge = LinearForecaster("ridge", alpha=1e12).fit(features, targets, mask=mask)
        np.testing.assert_allclose(none.coef_, pooled.coef_, rtol=1e-9)
        assert np.abs(huge.coef_).max() < 1e-10

    def test_collinear_factors_share_the_coefficient(self) -> None:
        features, targets, mask = make_sample()
        once = LinearForecaster().fit(features[..., :1], targets, mask=mask)
        twice = LinearForecaster().fit(features[..., [0, 0]], targets, mask=mask)
        np.testing.assert_allclose(twice.coef_, once.coef_[[0, 0]] / 2, rtol=1e-9)

    @pytest.mark.parametrize("method", ["pooled", "ridge", "fama_macbeth"])
    def test_what_a_date_shares_does_not_matter(self, method: str) -> None:
        features, targets, mask = make_sample()
        shift = np.linspace(-3, 3, len(targets))[:, None]
        plain = LinearForecaster(method).fit(features, targets, mask=mask)
        moved = LinearForecaster(method).fit(features, targets + shift, mask=mask)
        np.testing.assert_allclose(moved.coef_, plain.coef_, atol=1e-6)

    def test_several_horizons_are_averaged(self) -> None:
        features, targets, mask = make_sample()
        both = LinearForecaster().fit(features, np.stack([targets, 3 * targets], 2), mask=mask)
        mean = LinearForecaster().fit(features, 2 * targets, mask=mask)
        np.testing.assert_allclose(both.coef_, mean.coef_, rtol=1e-6)

    def test_dates_with_too_few_stocks_have_no_premium(self) -> None:
        features, targets, mask = make_sample()
        mask[7, 5:] = False
        model = LinearForecaster("fama_macbeth").fit(features, targets, mask=mask)
        assert np.isnan(model.premia_[7]).all()
        assert model.n_dates_ == len(targets) - 1

    def test_a_date_with_one_stock_changes_nothing(self) -> None:
        features, targets, mask = make_sample()
        mask[7] = False
        without = LinearForecaster().fit(features, targets, mask=mask)
        mask[7, np.flatnonzero(np.isfinite(targets[7]))[0]] = True
        one = LinearForecaster().fit(features, targets, mask=mask)
        np.testing.assert_allclose(one.coef_, without.coef_, rtol=1e-12)
        np.testing.assert_allclose(one.standard_error_, without.standard_error_, rtol=1e-9)


class TestValidation:
    def test_unknown_method(self) -> None:
        features, targets, _ = make_sample()
        with pytest.raises(ConfigError, match="'pooled', 'ridge' or 'fama_macbeth', not 'lasso'"):
            LinearForecaster("lasso").fit(features, targets)

    @pytest.mark.parametrize("settings", [{"alpha": -1.0}, {"alpha": np.nan}, {"lags": 1.5}])
    def test_bad_settings(self, settings: dict[str, float]) -> None:
        features, targets, _ = make_sample()
        with pytest.raises(ConfigError, match=next(iter(settings))):
            LinearForecaster("ridge", **settings).fit(features, targets)

    def test_fama_macbeth_needs_more_stocks_than_factors(self) -> None:
        features, targets, _ = make_sample(n_assets=5)
        with pytest.raises(DataError, match="at least 6 stocks for 4 factors"):
            LinearForecaster("fama_macbeth").fit(features, targets)
