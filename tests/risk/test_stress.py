"""Stress: windows against every window, shocks against other libraries, the fan's coverage."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from alphakeel.errors import ConfigError, DataError
from alphakeel.risk.stress import (
    drawdown_fan,
    fan_table,
    portfolio_shock,
    portfolio_shock_table,
    replay_table,
    shock_table,
    spread_returns,
    worst_windows,
)
from alphakeel.stats import performance


def daily(seed: int, n: int = 500, scale: float = 0.01) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(4, n) * scale / np.sqrt(2.0)


class TestWindows:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 6))
    def test_against_brute_force(self, seed: int, length: int, count: int) -> None:
        """Every window compounded, the worst taken, all that touch it struck out, and again."""
        r = daily(seed, 80)
        left = {s: np.prod(1.0 + r[s : s + length]) - 1.0 for s in range(80 - length + 1)}
        expected = []
        while left and len(expected) < count:
            start = min(left, key=left.__getitem__)
            if left[start] >= 0.0:
                break
            expected.append([start, start + length])
            left = {s: move for s, move in left.items() if abs(s - start) >= length}
        assert worst_windows(r, length=length, count=count).tolist() == expected

    def test_edges(self) -> None:
        assert worst_windows(np.full(10, 0.01), length=2).shape == (0, 2)
        assert worst_windows(daily(0, 5), length=6).shape == (0, 2)
        with pytest.raises(ConfigError, match="length"):
            worst_windows(daily(0), length=0)
        with pytest.raises(DataError, match="row 1"):
            worst_windows(np.array([0.1, np.nan, 0.2]), length=1)
        with pytest.raises(DataError, match="above -1"):
            worst_windows(np.array([0.1, -1.0]), length=1)


class TestReplay:
    dates = np.arange("2007-01-01", "2008-05-15", dtype="datetime64[D]")

    def test_figures(self) -> None:
        market, other = daily(1), 0.4 * daily(1) + daily(2) / 3
        exposure = np.random.default_rng(0).uniform(0.2, 1.0, 500)
        table = replay_table(
            {"market": market, "other": other},
            market,
            self.dates,
            exposure={"other": exposure},
            lengths=(1, 20),
            count=2,
        )
        assert len(table) == 2 * 2 * 2
        for row in table.itertuples():
            ends = np.array([row.first, row.last], dtype="datetime64[D]")
            a, b = np.searchsorted(self.dates, ends)
            assert b - a + 1 == row.days
            own = {"market": market, "other": other}[row.strategy][a : b + 1]
            assert row.total_return == pytest.approx(np.prod(1.0 + own) - 1.0)
            assert row.market == pytest.approx(np.prod(1.0 + market[a : b + 1]) - 1.0)
            assert row.share_of_market == pytest.approx(row.total_return / row.market)
            assert row.max_drawdown == pytest.approx(float(performance.max_drawdown(own)))
            if row.strategy == "other":
                assert row.exposure_before == exposure[a - 1]
                assert row.mean_exposure == pytest.approx(exposure[a - 1 : b].mean())
            else:
                assert np.isnan(row.exposure_before)
                assert row.share_of_market == pytest.approx(1.0)
        worst = table[(table["days"] == 1) & (table["rank"] == 1)]
        assert worst["market"].tolist() == pytest.approx([market.min()] * 2)

    def test_a_rising_market_has_no_bad_window(self) -> None:
        table = replay_table({"a": daily(0)}, np.full(500, 0.001), self.dates)
        assert table.empty
        assert "total_return" in table.columns

    def test_validation(self) -> None:
        with pytest.raises(DataError, match="a has shape"):
            replay_table({"a": daily(0, 9)}, daily(0), self.dates)
        with pytest.raises(DataError, match="dates"):
            replay_table({"a": daily(0)}, daily(0), self.dates[:-1])


def market_and_stocks(seed: int = 0, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    market = daily(seed, n)
    betas = np.array([0.3, 0.8, 1.2, 2.0])
    return market, market[:, None] * betas + rng.normal(0.0, 0.008, (n, 4))


class TestPortfolioShock:
    def test_against_least_squares(self) -> None:
        market, stocks = market_and_stocks()
        stocks[:360, 3] = np.nan
        weights = np.array([[0.4, 0.3, 0.2, 0.1], [0.0, 0.0, 0.5, -0.5]])
        rows = np.array([350, 399])
        found = portfolio_shock(weights, stocks, market, rows, shock=-0.1, window=120, min_count=60)
        for k, row in enumerate(rows):
            past = slice(row - 119, row + 1)
            betas = [np.polyfit(market[past], stocks[past, i], 1)[0] for i in range(3)]
            assert found[k] == pytest.approx(weights[k] @ np.array([*betas, 1.0]) * -0.1)

    def test_scramble_the_future(self) -> None:
        market, stocks = market_and_stocks()
        weights = np.random.default_rng(1).dirichlet(np.ones(4), 400)
        before = portfolio_shock(weights, stocks, market)
        other, others = market_and_stocks(9)
        market[301:], stocks[301:], weights[301:] = other[301:], others[301:], 0.25
        after = portfolio_shock(weights, stocks, market)
        np.testing.assert_array_equal(before[:301], after[:301])
        assert not np.allclose(before[301:], after[301:])

    def test_nothing_loses_more_than_all(self) -> None:
        market, stocks = market_and_stocks()
        found = portfolio_shock(
            np.array([[0, 0, 0, 1.0]]), stocks, market, np.array([399]), shock=-0.9
        )
        assert found.tolist() == [-1.0]

    def test_cash_does_not_move_and_nan_stays(self) -> None:
        market, stocks = market_and_stocks()
        rows = np.array([300, 301])
        weights = np.array([[0.0] * 4, [0.5, np.nan, 0.0, 0.0]])
        found = portfolio_shock(weights, stocks, market, rows)
        assert found[0] == 0.0
        assert np.isnan(found[1])

    def test_validation(self) -> None:
        market, stocks = market_and_stocks()
        with pytest.raises(ConfigError, match="shock"):
            portfolio_shock(np.ones((1, 4)), stocks, market, np.array([0]), shock=-1.5)
        with pytest.raises(DataError, match="do not fit"):
            portfolio_shock(np.ones((2, 4)), stocks, market, np.array([0]))


class TestPortfolioShockTable:
    def test_figures(self) -> None:
        market, stocks = market_and_stocks()
        rows = np.arange(100, 400)
        weights = np.random.default_rng(1).dirichlet(np.ones(4), 300)
        table = portfolio_shock_table({"portfolio": weights}, stocks, market, rows, worst_days=10)
        series = portfolio_shock(weights, stocks, market, rows, shock=-0.2)
        row = table.loc[("portfolio", -0.2)]
        assert row["latest"] == series[-1]
        assert row["worst"] == series.min()
        assert row["mean"] == pytest.approx(series.mean())
        assert table["latest"].is_monotonic_decreasing
        days = rows[:-1][np.argsort(market[101:400])[:10]]
        earned = sum(weights[d - 100] @ stocks[d + 1] for d in days)
        expected = sum(
            portfolio_shock(weights[[d - 100]], stocks, market, np.array([d]), shock=market[d + 1])[
                0
            ]
            for d in days
        )
        assert row["check"] == pytest.approx(earned / expected, rel=1e-6)


class TestShockTable:
    def test_against_statsmodels(self) -> None:
        rng = np.random.default_rng(4)
        market = daily(4)
        size = 0.3 * market + rng.normal(0.0, 0.004, 500)
        size[:7] = np.nan
        fund = 0.9 * market - 0.4 * size + rng.standard_t(3, 500) * 0.003
        fund[:7] = market[:7]
        table = shock_table({"fund": fund}, {"market": market, "size": size}, sigmas=2.0, horizon=5)
        x = np.column_stack([market, size])[7:]
        fit = sm.OLS(fund[7:], sm.add_constant(x)).fit(cov_type="HC1")
        rows = table.loc["fund"]
        np.testing.assert_allclose(rows["slope"], fit.params[1:])
        np.testing.assert_allclose(rows["t"], fit.tvalues[1:])
        np.testing.assert_allclose(rows["r2"], fit.rsquared)
        shocks = -2.0 * x.std(axis=0, ddof=1) * np.sqrt(5.0)
        np.testing.assert_allclose(rows["shock"], shocks)
        np.testing.assert_allclose(rows["alone"], fit.params[1:] * shocks)
        for k, factor in enumerate(("market", "size")):
            slope = np.polyfit(x[:, k], fund[7:], 1)[0]
            assert rows.loc[factor, "together"] == pytest.approx(slope * shocks[k])

    def test_validation(self) -> None:
        market = daily(0)
        with pytest.raises(DataError, match="independent"):
            shock_table({"a": market}, {"market": market, "twice": 2.0 * market})
        with pytest.raises(DataError, match="independent"):
            shock_table({"a": market}, {"still": np.zeros(500)})
        with pytest.raises(DataError, match="too few"):
            shock_table({"a": market[:4]}, {"market": market[:4]})
        with pytest.raises(ConfigError, match="sigmas"):
            shock_table({"a": market}, {"market": market}, sigmas=0.0)


class TestFactors:
    def test_spread_by_hand_and_causal(self) -> None:
        rng = np.random.default_rng(1)
        returns, score = rng.normal(0.0, 0.01, (40, 11)), rng.normal(size=(40, 11))
        score[5, :3], returns[6, 4] = np.nan, np.nan
        found = spread_returns(returns, score, quantile=0.3)
        assert np.isnan(found[0])
        for t in range(1, 40):
            usable = np.flatnonzero(np.isfinite(score[t - 1]) & np.isfinite(returns[t]))
            order = usable[np.argsort(score[t - 1, usable])]
            k = int(0.3 * len(order))
            expected = returns[t, order[-k:]].mean() - returns[t, order[:k]].mean()
            assert found[t] == pytest.approx(expected)
        with pytest.raises(ConfigError, match="quantile"):
            spread_returns(returns, score, quantile=0.6)


class TestFan:
    def test_is_the_quantile_of_simulated_paths(self) -> None:
        """Independent normal days: paths drawn directly from the model give the same bounds."""
        rng = np.random.default_rng(0)
        history = rng.normal(0.0, 0.01, 2000)
        history = (history - history.mean()) / history.std() * 0.01 + 0.0004
        fan = drawdown_fan(history, block_length=1, n_bootstrap=2000, horizon=100)
        drift = rng.normal(0.0, 0.01 / np.sqrt(2000), 5000)
        paths = rng.normal(0.0004 + drift, 0.01, (100, 5000))
        direct = np.quantile(performance.max_drawdown(paths), fan.levels)
        np.testing.assert_allclose(fan.bounds, direct, rtol=0.08)

    def test_covers_the_next_year(self) -> None:
        """Of 120 simulated markets, the next year stays under the 90 % bound in nine of ten.

        Two-sided binomial limits of 0.9 at 0.1 %: 97 to 116 of 120.
        """
        inside = 0
        for seed in range(120):
            days = daily(seed, 1512 + 126) + 3e-4
            fan = drawdown_fan(days[:1512], horizon=126, n_bootstrap=200, seed=seed, levels=(0.9,))
            inside += bool(performance.max_drawdown(days[1512:]) < fan.bounds[0])
        assert 97 <= inside <= 116

    def test_shape_and_order(self) -> None:
        fan = drawdown_fan(daily(1), horizon=60, n_bootstrap=200)
        assert fan.quantiles.shape == (60, 5)
        assert fan.days.tolist() == list(range(1, 61))
        assert (np.diff(fan.quantiles, axis=0) >= 0.0).all(), "a deepest fall never heals"
        assert (np.diff(fan.quantiles, axis=1) >= 0.0).all()
        assert (fan.bounds == fan.quantiles[-1]).all()
        assert fan.probability(0.0) == 1.0
        assert fan.probability(fan.bounds[0]) == pytest.approx(0.5, abs=0.01)
        again = drawdown_fan(daily(1), horizon=60, n_bootstrap=200)
        np.testing.assert_array_equal(fan.worst, again.worst)

    def test_table(self) -> None:
        fan = drawdown_fan(daily(1), n_bootstrap=200)
        row = fan_table({"a": fan}).loc["a"]
        assert row["under_95"] == fan.bounds[3]
        assert row["beyond_20"] == (fan.worst > 0.2).mean()

    def test_blocks_keep_clusters(self) -> None:
        """Ten days of losses in a row are likelier in blocks than in shuffled days."""
        history = np.where(np.arange(1000) % 100 < 10, -0.02, 0.0025)
        whole = drawdown_fan(history, block_length=50, n_bootstrap=400)
        shuffled = drawdown_fan(history, block_length=1, n_bootstrap=400)
        assert whole.bounds[0] > shuffled.bounds[0]

    def test_cash_never_falls(self) -> None:
        assert drawdown_fan(np.zeros(300), n_bootstrap=20).bounds.tolist() == [0.0] * 5

    def test_validation(self) -> None:
        with pytest.raises(DataError, match="too few"):
            drawdown_fan(daily(0, 100))
        with pytest.raises(ConfigError, match="levels"):
            drawdown_fan(daily(0), levels=(95,))
