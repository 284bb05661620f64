"""The skfolio adapter: causal, in skfolio's habits, and used by its optimisers."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from skfolio.alpha import BaseAlpha
from skfolio.containers import AssetPanel
from sklearn.base import clone
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

import alphakeel as ak
from alphakeel.errors import ConfigError, DataError
from alphakeel.factors.base import standardise
from alphakeel.factors.targets import forward_returns
from alphakeel.skfolio_alpha import DeepAlpha
from alphakeel.stats.cross_section import rank_ic
from helpers import scrambled_after

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "skfolio_alpha.py"
FACTOR_NAMES = ("reversal_21", "momentum_12_1", "volatility_20")


def linear(**settings: object) -> DeepAlpha:
    return DeepAlpha(ak.LinearForecaster(), factors=FACTOR_NAMES, **settings)


def small_lstm() -> ak.LSTMForecaster:
    return ak.LSTMForecaster(
        hidden=6, burn_in=8, chunk=30, max_steps=6, n_seeds=1, purge=5, device="cpu"
    )


@pytest.fixture(scope="module")
def panel() -> AssetPanel:
    return ak.simulate_market(n_assets=40, n_dates=700, seed=2, signal=0.3, nonlinear=0.0).panel


class TestForecast:
    def test_an_alpha_for_every_stock_of_the_last_day(self, panel: AssetPanel) -> None:
        model = linear(ic=0.05, horizons=(5,)).fit(panel)
        listed = panel.estimation_mask[-1]
        assert isinstance(model, BaseAlpha)
        assert model.alpha_.shape == (40,)
        np.testing.assert_array_equal(np.isfinite(model.alpha_), listed)
        np.testing.assert_allclose(np.nanmean(model.scores_), 0.0, atol=1e-12)
        np.testing.assert_allclose(np.nanstd(model.scores_), 1.0)
        np.testing.assert_allclose(
            model.alpha_, 0.05 * model.volatility_ * model.scores_ / np.sqrt(5)
        )
        assert model.n_assets_ == 40
        np.testing.assert_array_equal(model.asset_names_, panel.asset_names)

    def test_scores_are_the_forecaster_s_on_the_last_day(self, panel: AssetPanel) -> None:
        model = linear(step=4).fit(panel)
        by_name = {factor.name: factor for factor in ak.FACTORS}
        values = ak.compute_factors(panel, [by_name[name] for name in FACTOR_NAMES]).values[-1:]
        last = standardise(values, panel.estimation_mask[-1:])
        scores = model.forecaster_.predict(last, mask=panel.estimation_mask[-1:])[0]
        expected = (scores - np.nanmean(scores)) / np.nanstd(scores)
        np.testing.assert_allclose(model.scores_, expected, atol=1e-4)

    def test_labels_end_within_the_panel(self, panel: AssetPanel) -> None:
        model = linear(step=5, lag=2, horizons=(5, 10)).fit(panel)
        every = len(range((700 - 1) % 5, 700, 5))
        # With lag 2 and the shorter horizon of 5, a label needs 7 days; the last rows lie 0 and
        # 5 days before the end. The first four, up to row 19, have no volatility of 20 returns.
        assert model.n_fit_rows_ == every - 2 - 4

    def test_finds_a_planted_signal_out_of_sample(self, panel: AssetPanel) -> None:
        price = np.asarray(panel["adj_close"])
        earned = forward_returns(price, lag=1, horizon=5)
        days = range(400, 690, 10)
        model = DeepAlpha(ak.LinearForecaster(), horizons=(5,))
        found = [model.fit(panel[: day + 1]).alpha_ for day in days]
        assert np.nanmean(rank_ic(np.array(found), earned[list(days)])) > 0.1

    def test_does_not_see_the_future(self, panel: AssetPanel) -> None:
        """Fitted on the rows up to t, whatever comes after t."""
        part = linear().fit(panel[:600]).alpha_
        other = scrambled_after(panel, 599)
        np.testing.assert_array_equal(linear().fit(other[:600]).alpha_, part)

    def test_a_network_by_default_and_the_same_bits_again(self, panel: AssetPanel) -> None:
        assert isinstance(DeepAlpha()._forecaster((5, 20)), ak.LSTMForecaster)
        model = DeepAlpha(small_lstm())
        first = model.fit(panel).alpha_
        np.testing.assert_array_equal(model.fit(panel).alpha_, first)
        assert len(model.factor_names_) > 10

    def test_prices_or_returns_are_the_same(self, panel: AssetPanel) -> None:
        price = np.asarray(panel["adj_close"], dtype=np.float64)
        full = np.isfinite(price).all(axis=0)
        own = {"adj_close": price[:, full]}
        dates, names = panel.observations, np.asarray(panel.asset_names)[full]
        by_price = linear().fit(AssetPanel(own, dates, names))
        returns = np.zeros_like(own["adj_close"])
        returns[1:] = own["adj_close"][1:] / own["adj_close"][:-1] - 1.0
        by_returns = AssetPanel({"returns": returns}, dates, names)
        np.testing.assert_allclose(linear().fit(by_returns).alpha_, by_price.alpha_, atol=1e-9)
        assert "adj_close" not in by_returns

    def test_idiosyncratic_volatility_is_used_where_there_is_one(self, panel: AssetPanel) -> None:
        other = panel.copy()
        other["idio_variances"] = np.where(panel.active_mask, 0.0004, np.nan)
        model = linear().fit(other)
        np.testing.assert_allclose(model.volatility_[panel.active_mask[-1]], 0.02)


class TestEstimator:
    def test_clone_and_parameters(self, panel: AssetPanel) -> None:
        model = linear(ic=0.1)
        assert clone(model).get_params()["ic"] == 0.1
        assert set(model.get_params(deep=False)) == set(inspect.signature(DeepAlpha).parameters)
        assert model.get_params()["forecaster__alpha"] == 1.0
        with pytest.raises(SklearnNotFittedError):
            check_is_fitted(model)
        check_is_fitted(model.fit(panel))
        assert not hasattr(model.forecaster, "coef_")

    def test_a_fitted_forecaster_is_used_as_it_is_and_survives_clones(
        self, panel: AssetPanel
    ) -> None:
        fitted = linear().fit(panel[:500])
        frozen = DeepAlpha(FrozenEstimator(fitted.forecaster_), factors=fitted.factor_names_)
        later = clone(frozen).fit(panel)
        np.testing.assert_array_equal(later.forecaster_.coef_, fitted.forecaster_.coef_)
        assert not np.array_equal(later.alpha_, fitted.alpha_, equal_nan=True)

    def test_the_panel_is_not_changed(self, panel: AssetPanel) -> None:
        before = {name: field.values.copy() for name, field in panel.fields.items()}
        linear().fit(panel)
        assert list(panel.fields) == list(before)
        for name, values in before.items():
            np.testing.assert_array_equal(panel[name], values)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"horizons": ()}, "horizons is empty"),
        ({"horizons": (0,)}, "horizons must be"),
        ({"lag": 0}, "lag must be"),
        ({"step": 0}, "step must be"),
        ({"ic": 0.0}, "ic must be"),
        ({"ic": 2.0}, "ic must be"),
        ({"factors": ["nonsense"]}, "'nonsense', which is none of"),
        ({"factors": []}, "no factor of single stocks"),
        (
            {"forecaster": ak.LSTMForecaster(purge=4, validation_share=0.2)},
            "purge of 4 rows is shorter",
        ),
    ],
)
def test_settings_that_cannot_be_right(panel: AssetPanel, settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DeepAlpha(**{"forecaster": ak.LinearForecaster(), **settings}).fit(panel)


def test_data_that_cannot_be_used(panel: AssetPanel) -> None:
    with pytest.raises(DataError, match="not on a ndarray"):
        linear().fit(np.zeros((5, 5)))  # type: ignore[arg-type]
    volume_only = AssetPanel({"volume": np.ones((30, 3))}, panel.observations[:30], ["A", "B", "C"])
    with pytest.raises(DataError, match="no adj_close and no returns; it has volume"):
        linear().fit(volume_only)
    with pytest.raises(DataError, match=r"'momentum_12_1' needs .* dates of history"):
        linear().fit(panel[:100])
    with pytest.raises(DataError, match="no target of the panel's 23 days"):
        DeepAlpha(ak.LinearForecaster(), factors=["reversal_5"], horizons=(30,)).fit(panel[:23])


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    weights = runpy.run_path(str(EXAMPLE))["main"]()
    assert weights.sum() == pytest.approx(1.0, abs=1e-6)
    assert (weights > -1e-8).all()
    assert weights.max() <= 0.1 + 1e-6
    said = capsys.readouterr().out
    assert "stocks held after the close of" in said
    held, average = (float(share) for share in re.findall(r"(-?[\d.]+)% of", said))
    assert held > average + 0.2
