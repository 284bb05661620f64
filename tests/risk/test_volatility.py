"""Forecasts of risk: references, missing values, no look-ahead."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skfolio.moments import LedoitWolf

from alphakeel.errors import ConfigError, DataError
from alphakeel.risk.covariance import wide_ledoit_wolf_covariance
from alphakeel.risk.volatility import ew_volatility, ex_ante_volatility
from helpers import noise_after


def random_returns(seed: int, n_dates: int = 120, n_assets: int = 7, gaps: float = 0.0):
    rng = np.random.default_rng(seed)
    market = rng.normal(0.0, 0.01, (n_dates, 1))
    returns = market + rng.normal(0.0, 0.015, (n_dates, n_assets))
    returns[rng.random(returns.shape) < gaps] = np.nan
    return returns


class TestVolatility:
    def test_equals_pandas(self) -> None:
        returns = random_returns(0, gaps=0.1)
        frame = pd.DataFrame(returns**2)
        expected = np.sqrt(
            frame.ewm(halflife=15, adjust=True, ignore_na=False, min_periods=20).mean() * 252
        )
        np.testing.assert_allclose(ew_volatility(returns, halflife=15), expected, rtol=1e-10)

    def test_annualisation_is_a_factor(self) -> None:
        returns = random_returns(1)
        daily = ew_volatility(returns, annualise=None)
        np.testing.assert_allclose(ew_volatility(returns, annualise=252), daily * 252**0.5)
        assert np.isnan(daily[:19]).all()
        assert not np.isnan(daily[19:]).any()

    def test_scrambled_future_leaves_the_past_to_the_bit(self) -> None:
        returns = random_returns(2, gaps=0.1)
        base = ew_volatility(returns)
        for t in (0, 30, 77, 118):
            other = noise_after(returns, t, seed=t, sigma=1e6)
            np.testing.assert_array_equal(ew_volatility(other)[: t + 1], base[: t + 1])

    @pytest.mark.parametrize("kwargs", [{"halflife": 0.0}, {"min_count": 0}])
    def test_settings_out_of_range(self, kwargs: dict[str, float]) -> None:
        with pytest.raises(ConfigError, match="have to be positive"):
            ew_volatility(random_returns(0), **kwargs)  # type: ignore[arg-type]

    def test_infinite_return(self) -> None:
        with pytest.raises(DataError, match=r"returns\[1, 0\] is infinite"):
            ew_volatility(np.array([[0.0], [np.inf]]))


def ledoit_wolf(returns: np.ndarray, *, min_share: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    model = wide_ledoit_wolf_covariance(returns, min_share=min_share)
    return model.matrix, model.kept


class TestCovariance:
    def test_without_gaps_it_is_skfolios_ledoit_wolf(self) -> None:
        returns = random_returns(3)
        matrix, kept = ledoit_wolf(returns)
        np.testing.assert_allclose(
            matrix, LedoitWolf().fit(returns).covariance_, rtol=1e-10, atol=1e-18
        )
        assert kept.all()

    @given(seed=st.integers(0, 10**6), gaps=st.floats(0.0, 0.9))
    @settings(max_examples=40, deadline=None)
    def test_is_positive_semi_definite_whatever_is_missing(self, seed: int, gaps: float) -> None:
        returns = random_returns(seed, n_dates=30, n_assets=40, gaps=gaps)
        copy = returns.copy()
        matrix, kept = ledoit_wolf(returns, min_share=0.5)
        np.testing.assert_array_equal(returns, copy)
        n_kept = int(kept.sum())
        assert matrix.shape == (n_kept, n_kept)
        np.testing.assert_array_equal(kept, (~np.isnan(returns)).mean(axis=0) >= 0.5)
        if n_kept:
            np.testing.assert_allclose(matrix, matrix.T)
            assert np.linalg.eigvalsh(matrix).min() > -1e-16

    def test_gaps_at_random_do_not_shift_variances(self) -> None:
        returns = np.random.default_rng(4).normal(0.0, 0.01, (4000, 3))
        full = ledoit_wolf(returns)[0]
        returns[::3, 1] = np.nan
        part = ledoit_wolf(returns, min_share=0.5)[0]
        np.testing.assert_allclose(np.diag(part), np.diag(full), rtol=0.05)

    def test_asset_order_does_not_matter(self) -> None:
        returns = random_returns(5, gaps=0.05)
        order = np.random.default_rng(0).permutation(returns.shape[1])
        one, other = ledoit_wolf(returns)[0], ledoit_wolf(returns[:, order])[0]
        np.testing.assert_allclose(other, one[np.ix_(order, order)], rtol=1e-10)

    def test_refusals(self) -> None:
        with pytest.raises(ConfigError, match="min_share"):
            ledoit_wolf(random_returns(0), min_share=0.0)
        with pytest.raises(DataError, match="at least two rows"):
            ledoit_wolf(random_returns(0)[:1])


class TestPortfolioVolatility:
    def test_equals_the_weighted_volatility_of_the_portfolios_own_returns(self) -> None:
        returns = random_returns(6)
        weights = np.random.default_rng(1).dirichlet(np.ones(7), 3)
        rows = np.array([40, 80, 119])
        answer = ex_ante_volatility(weights, returns, rows, halflife=10, window=500)
        for weight, row, value in zip(weights, rows, answer, strict=True):
            own = (returns @ weight)[:, None]
            np.testing.assert_allclose(value, ew_volatility(own, halflife=10)[row, 0], rtol=1e-12)

    def test_missing_returns_count_as_the_mean_of_the_others(self) -> None:
        returns = np.repeat(random_returns(7, n_assets=1), 4, axis=1)
        weights, rows = np.full((1, 4), 0.25), np.array([119])
        whole = ex_ante_volatility(weights, returns, rows)
        returns[::4, 2] = np.nan
        np.testing.assert_allclose(ex_ante_volatility(weights, returns, rows), whole)

    def test_unknown_cash_and_undecided(self) -> None:
        weights = np.array([[0.5] * 7, [0.0] * 7, [np.nan] * 7])
        answer = ex_ante_volatility(weights, random_returns(8), np.array([10, 50, 60]))
        np.testing.assert_array_equal(answer, [np.nan, 0.0, np.nan])

    def test_scrambled_future_leaves_the_past_to_the_bit(self) -> None:
        returns, rows = random_returns(9, gaps=0.1), np.array([30, 60, 90])
        weights = np.random.default_rng(1).dirichlet(np.ones(7), 3)
        base = ex_ante_volatility(weights, returns, rows)
        for i, row in enumerate(rows):
            other = noise_after(returns, row, seed=i, sigma=1e6)
            again = ex_ante_volatility(weights, other, rows)
            np.testing.assert_array_equal(again[: i + 1], base[: i + 1])

    def test_refusals(self) -> None:
        returns, weights = random_returns(0), np.full((1, 7), 0.1)
        with pytest.raises(DataError, match="rows run from 120 to 120 but there are 120 dates"):
            ex_ante_volatility(weights, returns, np.array([120]))
        with pytest.raises(DataError, match="weights are about 6 stocks, returns 7"):
            ex_ante_volatility(weights[:, 1:], returns, np.array([50]))
        with pytest.raises(ConfigError, match="have to be positive"):
            ex_ante_volatility(weights, returns, np.array([50]), window=0)
