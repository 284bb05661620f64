"""Forward returns: the right rows, and nothing from before the trade."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from alphakeel.errors import ConfigError, DataError
from alphakeel.factors.targets import forward_returns, rank_forward
from helpers import random_walk


def prices(n_dates: int = 60, n_assets: int = 9) -> np.ndarray:
    return random_walk(n_dates, n_assets, seed=3, scale=0.02, start=1.0)


@pytest.mark.parametrize(("lag", "horizon"), [(0, 1), (1, 5), (2, 20)])
def test_hand_count(lag: int, horizon: int) -> None:
    price = prices()
    found = forward_returns(price, lag=lag, horizon=horizon)
    for t in (0, 7, len(price) - lag - horizon - 1):
        np.testing.assert_allclose(
            found[t], np.log(price[t + lag + horizon] / price[t + lag]), rtol=1e-10, atol=1e-15
        )
    assert np.all(np.isnan(found[len(price) - lag - horizon :]))
    assert np.all(np.isfinite(found[: len(price) - lag - horizon]))


def test_rows_before_the_trade_and_after_the_exit_do_not_matter() -> None:
    price, t = prices(), 30
    expected = forward_returns(price, lag=1, horizon=5)[t]
    changed = price.copy()
    changed[: t + 1] = 1e30
    changed[t + 7 :] = np.nan
    changed[t + 2 : t + 6] = 1e-30
    np.testing.assert_array_equal(forward_returns(changed, lag=1, horizon=5)[t], expected)


def test_unknown_prices_are_unknown_returns() -> None:
    price = prices()
    price[10, 2], price[20, 3] = np.nan, 0.0
    found = forward_returns(price, horizon=5)
    assert np.isnan(found[[9, 4], 2]).all()
    assert np.isnan(found[[19, 14], 3]).all()
    assert np.isfinite(found[10, 2])
    assert not np.isinf(found).any()


def forward_of(price: np.ndarray, *horizons: int) -> np.ndarray:
    return np.stack([forward_returns(price, horizon=h) for h in horizons], axis=-1)


def test_short_history_has_no_target() -> None:
    assert np.all(np.isnan(forward_returns(prices(4), lag=1, horizon=20)))


def test_ranks_per_date_and_horizon() -> None:
    price = prices()
    mask = np.random.default_rng(0).random(price.shape) < 0.8
    before = price.copy()
    found = rank_forward(forward_of(price, 5, 20), mask)
    np.testing.assert_array_equal(price, before)
    assert found.shape == (*price.shape, 2)
    assert found.dtype == np.float32
    returns = forward_returns(price, lag=1, horizon=20)
    for t in (0, 12, 38):
        ranks = rankdata(returns[t, mask[t]])
        expected = (ranks - ranks.mean()) / ranks.std()
        np.testing.assert_allclose(found[t, mask[t], 1], expected, rtol=1e-5, atol=1e-6)
        assert np.all(np.isnan(found[t, ~mask[t]]))


def test_ranks_of_return_for_risk() -> None:
    price = prices()
    scale = np.random.default_rng(1).uniform(0.1, 0.6, price.shape)
    scale[12, :3] = [np.nan, 0.0, -0.2]
    found = rank_forward(forward_of(price, 5, 20), scale=scale)
    for t in (0, 12, 38):
        known = scale[t] > 0.0
        ratio = np.log(price[t + 6] / price[t + 1])[known] / scale[t, known]
        ranks = rankdata(ratio)
        expected = (ranks - ranks.mean()) / ranks.std()
        np.testing.assert_allclose(found[t, known, 0], expected, rtol=1e-5, atol=1e-6)
        assert np.isnan(found[t, ~known]).all()
    plain = rank_forward(forward_of(price, 5, 20))
    assert not np.allclose(found[0], plain[0])
    same = rank_forward(forward_of(price, 5, 20), scale=np.full(price.shape, 0.3))
    np.testing.assert_array_equal(same, plain)


def test_the_scale_of_other_days_does_not_matter() -> None:
    price, t = prices(), 30
    scale = np.random.default_rng(1).uniform(0.1, 0.6, price.shape)
    expected = rank_forward(forward_of(price, 5), scale=scale)[t]
    scale[:t], scale[t + 1 :] = 99.0, np.nan
    np.testing.assert_array_equal(rank_forward(forward_of(price, 5), scale=scale)[t], expected)


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match="lag is -1"):
        forward_returns(prices(), lag=-1, horizon=5)
    with pytest.raises(ConfigError, match="horizon is 0"):
        forward_returns(prices(), horizon=0)
    with pytest.raises(DataError, match="price has shape"):
        forward_returns(prices()[:, 0], horizon=1)
    with pytest.raises(DataError, match="scale has shape"):
        rank_forward(forward_of(prices(), 5), scale=np.ones(9))
