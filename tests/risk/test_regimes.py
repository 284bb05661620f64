"""Regimes: published bear markets, brute force, no look-ahead, and a Table II that adds up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jumpmodels.jump import JumpModel
from skfolio.datasets import load_sp500_index

from alphakeel.errors import ConfigError, DataError
from alphakeel.evaluation.regimes import (
    agreement_table,
    drawdown_shares,
    find_regimes,
    lag_table,
    regime_table,
)
from alphakeel.risk import regimes
from alphakeel.risk.market_phases import (
    Regime,
    TurningPoints,
    filter_turning_points,
    legs,
    market_phases,
)
from alphakeel.risk.regimes import (
    jump_regimes,
    label_of_day,
    recognition_lags,
    trend_volatility_regimes,
)
from alphakeel.stats import bootstrap, performance
from alphakeel.stats.sharpe import sharpe_differences, sharpe_intervals
from helpers import random_walk

BULL, BEAR, RANGE = int(Regime.BULL), int(Regime.BEAR), int(Regime.RANGE_BOUND)


@pytest.fixture(scope="module")
def sp500() -> tuple[np.ndarray, np.ndarray]:
    """S&P 500 price index 1990 to 2022: dates and closes."""
    series = load_sp500_index()["SP500"]
    return series.index.to_numpy().astype("datetime64[D]"), series.to_numpy(dtype=np.float64)


def between(dates: np.ndarray, first: str, last: str) -> np.ndarray:
    return (dates >= np.datetime64(first)) & (dates <= np.datetime64(last))


class TestFilter:
    def test_published_bear_markets(self, sp500) -> None:
        """Ned Davis Research's list of falls of 20 % (Hartford Funds, "Bear markets", 2023).

        One date is not in it: the rise of 20.7 % from 23 July to 22 August 2002 ends a falling
        leg by the letter of the rule; the list lets the leg run on to 9 October.
        """
        dates, prices = sp500
        points = filter_turning_points(prices, rise=0.20, fall=0.20)
        found = [str(dates[row]) for row in points.rows]
        published = (
            ("2000-03-24", "2001-09-21", -0.3677),
            ("2002-01-04", "2002-10-09", -0.3375),
            ("2007-10-09", "2008-11-20", -0.5193),
            ("2009-01-06", "2009-03-09", -0.2762),
            ("2020-02-19", "2020-03-23", -0.3392),
            ("2022-01-03", "2022-10-12", -0.2543),
        )
        expected = [day for first, last, _ in published for day in (first, last)]
        expected[expected.index("2002-10-09")] = "2002-07-23"
        # The trough of 2022 is not confirmed by a rise of 20 % before the data end.
        assert found == ["1990-10-11", *expected[:-1]]
        assert points.peak.tolist() == [False] + [True, False] * 5 + [True]
        low, high = (prices[dates == np.datetime64(d)][0] for d in ("2002-07-23", "2002-08-22"))
        assert high / low - 1.0 == pytest.approx(0.207, abs=5e-4)
        for first, last, fall in published:
            start, end = (prices[dates == np.datetime64(d)][0] for d in (first, last))
            assert end / start - 1.0 == pytest.approx(fall, abs=6e-5)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 10_000), st.floats(0.02, 0.3), st.floats(0.02, 0.3))
    def test_against_brute_force(self, seed: int, rise: float, fall: float) -> None:
        """The definition, read from the whole path at every step instead of running extremes."""
        prices = random_walk(250, seed=seed, scale=0.02)
        points = filter_turning_points(prices, rise=rise, fall=fall)
        expected: list[tuple[int, bool]] = []
        since, state = 0, None
        for t in range(len(prices)):
            past = prices[since : t + 1]
            top = since + len(past) - 1 - int(np.argmax(past[::-1]))
            bottom = since + len(past) - 1 - int(np.argmin(past[::-1]))
            if state in (None, "up") and prices[t] <= (1.0 - fall) * prices[top]:
                expected.append((top, True))
                since, state = top, "down"
            elif state in (None, "down") and prices[t] >= (1.0 + rise) * prices[bottom]:
                expected.append((bottom, False))
                since, state = bottom, "up"
        assert list(zip(points.rows.tolist(), points.peak.tolist(), strict=True)) == expected

    def test_legs_alternate_and_are_deep_enough(self, sp500) -> None:
        _, prices = sp500
        points = filter_turning_points(prices)
        assert (np.diff(points.rows) > 0).all()
        assert (points.peak[1:] != points.peak[:-1]).all()
        moves = prices[points.rows[1:]] / prices[points.rows[:-1]] - 1.0
        assert (moves[points.peak[:-1]] <= -0.15).all()
        assert (moves[~points.peak[:-1]] >= 0.20).all()

    def test_legs_hold_the_days_from_after_the_peak_to_the_trough(self) -> None:
        prices = np.array([100.0, 110.0, 120.0, 100.0, 90.0, 99.0, 110.0])
        labels = legs(filter_turning_points(prices), len(prices))
        assert labels.tolist()[1:] == [BULL, BULL, BEAR, BEAR, BULL, BULL]
        still = legs(filter_turning_points(np.array([1.0, 1.01, 1.0])), 3)
        assert still.tolist() == [int(Regime.UNKNOWN)] * 3

    def test_validation(self) -> None:
        prices = random_walk(50, seed=0, scale=0.02)
        with pytest.raises(ConfigError, match="fall"):
            filter_turning_points(prices, fall=1.0)
        with pytest.raises(DataError, match="row 3"):
            filter_turning_points(np.array([1.0, 1.0, 1.0, np.nan]))
        with pytest.raises(DataError, match="row 1"):
            filter_turning_points(np.array([1.0, 0.0]))
        with pytest.raises(DataError, match="shape"):
            filter_turning_points(prices[:, None])
        with pytest.raises(ConfigError, match="window"):
            market_phases(prices, window=0)


class TestMarketPhases:
    def test_crashes_are_bear(self, sp500) -> None:
        dates, prices = sp500
        labels = market_phases(prices)
        assert (labels[between(dates, "2020-02-20", "2020-03-23")] == BEAR).all()
        assert (labels[between(dates, "2020-03-24", "2020-05-29")] == BULL).all()
        assert (labels[between(dates, "2008-09-01", "2008-10-10")] == BEAR).all()
        year = labels[between(dates, "2008-01-01", "2008-12-31")]
        assert (year == BEAR).mean() > 0.6
        assert (labels[between(dates, "2017-02-01", "2017-12-29")] != BEAR).all()

    def test_on_the_other_copy_of_the_index(self, sp500, shared_data: Path) -> None:
        """The index beside the real panel, from 1999 to 2016: same closes, same labels inside."""
        frame = pd.read_parquet(shared_data / "us" / "index.parquet")
        own = pd.to_datetime(frame["date"]).to_numpy().astype("datetime64[D]")
        labels = market_phases(frame["close"].to_numpy(dtype=np.float64))
        dates, prices = sp500
        both = market_phases(prices)
        inside = between(own, "2001-01-01", "2016-06-01")
        assert (labels[inside] == both[np.isin(dates, own[inside])]).all()
        assert (labels[between(own, "2008-09-01", "2008-10-10")] == BEAR).all()

    @pytest.mark.parametrize("seed", range(4))
    def test_range_bound_against_brute_force(self, seed: int) -> None:
        prices = random_walk(400, seed=seed, scale=0.01)
        labels = market_phases(prices, window=25, efficiency=0.8)
        points = filter_turning_points(prices, rise=0.1, fall=0.1)
        bear = legs(points, 400) == BEAR
        for t in range(1, 400):
            start = max([0, *(row for row in points.rows if row < t)])
            end = min([399, *(row for row in points.rows if row >= t)])
            a, b = max(start, t - 25), min(end, t + 25)
            steps = np.abs(np.diff(np.log(prices[a : b + 1])))
            ratio = abs(np.log(prices[b] / prices[a])) / steps.sum()
            aimless = ratio < 0.8 / np.sqrt(len(steps))
            assert labels[t] == (BEAR if bear[t] else RANGE if aimless else BULL)
        assert {BEAR, RANGE, BULL} >= set(labels.tolist()) > {BEAR}

    def test_scale_of_the_index_is_irrelevant(self) -> None:
        np.testing.assert_array_equal(
            market_phases(random_walk(700, seed=3, scale=0.02)),
            market_phases(2000.0 * random_walk(700, seed=3, scale=0.02)),
        )


class TestCausal:
    @pytest.mark.parametrize(
        "label",
        [
            trend_volatility_regimes,
            lambda p: jump_regimes(p, min_history=300, refit_every=90),
            lambda p: jump_regimes(p, min_history=300, refit_every=90, n_states=2, first=330),
        ],
        ids=["trend", "jump 3", "jump 2"],
    )
    def test_scramble_the_future(self, label) -> None:
        prices = random_walk(620, seed=1, scale=0.02)
        before = label(prices)
        assert len(set(before.tolist())) >= 3, "a constant label would pass anything"
        for t in (345, 480, 619):
            scrambled = prices.copy()
            scrambled[t + 1 :] = random_walk(620, seed=99, scale=0.05)[t + 1 :]
            np.testing.assert_array_equal(label(scrambled)[: t + 1], before[: t + 1])
            np.testing.assert_array_equal(label(prices[: t + 1]), before[: t + 1])

    def test_trend_and_volatility_against_pandas(self) -> None:
        prices = random_walk(900, seed=5, scale=0.02)
        labels = trend_volatility_regimes(prices)
        level = pd.Series(np.log(prices))
        square = level.diff() ** 2
        up = level > level.rolling(200).mean()
        wild = square.ewm(halflife=20).mean() > square.ewm(halflife=500).mean()
        expected = np.select([up & ~wild, ~up & wild], [BULL, BEAR], RANGE)
        expected[:252] = int(Regime.UNKNOWN)
        np.testing.assert_array_equal(labels, expected)

    def test_jump_model_is_the_librarys(self) -> None:
        """One fit, features by pandas: the same states as jumpmodels gives, online."""
        prices = random_walk(500, seed=7, scale=0.02)
        labels = jump_regimes(prices, min_history=400, refit_every=100, n_states=2, n_init=4)
        returns = pd.Series(np.log(prices)).diff().fillna(0.0)
        losses = returns.clip(upper=0.0) ** 2

        def deviation(days: float) -> pd.Series:
            return np.sqrt(losses.ewm(halflife=days).mean()) + 1e-5

        columns = [np.log(deviation(10))]
        columns += [returns.ewm(halflife=h).mean() / deviation(h) for h in (20, 60)]
        x = np.column_stack(columns)[60:]
        x = np.clip((x - x[:340].mean(axis=0)) / x[:340].std(axis=0), -3.0, 3.0)
        model = JumpModel(n_components=2, jump_penalty=50.0, n_init=4, random_state=0)
        model.fit(x[:340], ret_ser=returns.to_numpy()[60:400], sort_by="ret")
        states = np.asarray(model.predict_online(x))[339:]
        np.testing.assert_array_equal(labels[399:499], np.where(states == 0, BULL, BEAR)[:100])
        assert (labels[:399] == Regime.UNKNOWN).all()

    def test_jump_model_finds_planted_regimes(self) -> None:
        rng = np.random.default_rng(0)
        truth = np.tile(np.repeat([BULL, BEAR], [400, 200]), 3)
        returns = np.where(
            truth == BULL, rng.normal(0.001, 0.006, 1800), rng.normal(-0.003, 0.02, 1800)
        )
        labels = jump_regimes(np.exp(np.cumsum(returns)), n_states=2, min_history=1200)
        known = labels != Regime.UNKNOWN
        assert (labels[known] == truth[known]).mean() > 0.75, "always bull: 0.67"

    def test_later_start_saves_fits_only(self) -> None:
        prices = random_walk(600, seed=2, scale=0.02)
        every = jump_regimes(prices, min_history=300, refit_every=1000)
        late = jump_regimes(prices, min_history=300, refit_every=1000, first=299)
        np.testing.assert_array_equal(every, late)

    def test_label_of_day_is_yesterdays(self) -> None:
        labels = trend_volatility_regimes(random_walk(400, seed=5, scale=0.02))
        np.testing.assert_array_equal(label_of_day(labels)[1:], labels[:-1])

    def test_validation(self) -> None:
        prices = random_walk(400, seed=0, scale=0.02)
        with pytest.raises(ConfigError, match="n_states"):
            jump_regimes(prices, n_states=4)
        with pytest.raises(ConfigError, match="min_history"):
            jump_regimes(prices, min_history=100)
        with pytest.raises(DataError, match="does not move"):
            jump_regimes(np.full(400, 100.0), min_history=300)
        with pytest.raises(ConfigError, match="halflives"):
            trend_volatility_regimes(prices, halflife=600.0)

    def test_module_reads_no_hindsight(self) -> None:
        """The causal module takes names from the other one, but no labelling."""
        for name in ("market_phases", "filter_turning_points", "legs"):
            assert not hasattr(regimes, name)


class TestRecognition:
    def test_lags_by_hand(self) -> None:
        labels = np.array([1, 1, 1, 0, -1, -1, -1, 0, 1, 1, -1], dtype=np.int8)
        points = TurningPoints(np.array([2, 5, 9]), np.array([True, False, True]))
        np.testing.assert_array_equal(recognition_lags(labels, points), [2.0, 3.0, 1.0])
        labels[8:10] = 0
        np.testing.assert_array_equal(recognition_lags(labels, points), [2.0, np.nan, 1.0])

    def test_no_label_no_lag(self) -> None:
        labels = np.array([-2, -2, -1, -1], dtype=np.int8)
        points = TurningPoints(np.array([1]), np.array([True]))
        assert np.isnan(recognition_lags(labels, points)).all()
        with pytest.raises(DataError, match="turning point"):
            recognition_lags(labels[:1], points)

    def test_tables_on_the_sp500(self, sp500) -> None:
        dates, prices = sp500
        inside = slice(*np.searchsorted(dates, np.array(["1999-01-01", "2004-01-01"], "M8[D]")))
        market = find_regimes(prices[: inside.stop], dates[: inside.stop], first=inside.start - 1)
        late = lag_table(market, inside)
        assert set(late["rule"]) == set(market.causal)
        for row in late.itertuples():
            at = np.searchsorted(dates, np.datetime64(row.turning_point, "D"))
            wanted = BEAR if row.kind == "peak" else BULL
            labels = market.causal[row.rule]
            if np.isfinite(row.lag_days):
                seen = at + int(row.lag_days)
                assert labels[seen] == wanted
                assert (labels[at:seen] != wanted).all()
                assert row.missed == pytest.approx(prices[seen] / prices[at] - 1.0)
                assert row.already == (row.lag_days == 0)
        table = agreement_table(market, inside)
        truth = market.hindsight[inside]
        for rule, labels in market.causal.items():
            own = labels[inside]
            known = own != Regime.UNKNOWN
            assert table.loc[(rule, "bear"), "agreement"] == pytest.approx(
                (own == truth)[known].mean()
            )
            assert table.loc[rule, "share_of_days"].sum() == pytest.approx(1.0)
            said = known & (own == BEAR)
            assert table.loc[(rule, "bear"), "right"] == pytest.approx((truth == BEAR)[said].mean())
            rows = np.arange(inside.start, inside.stop)[said]
            after = (prices[rows + 1] / prices[rows] - 1.0)[rows + 1 < inside.stop]
            assert table.loc[(rule, "bear"), "next_day_return"] == pytest.approx(
                252.0 * after.mean()
            )

    def test_rules_without_labels_are_left_out(self) -> None:
        days = np.arange("2001-01-01", "2001-07-20", dtype="datetime64[D]")
        market = find_regimes(random_walk(len(days), seed=0, scale=0.02), days)
        assert agreement_table(market).empty
        assert lag_table(market).empty


@pytest.fixture(scope="module")
def paths() -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(3)
    market = rng.standard_t(4, 900) * 0.008
    prices = np.exp(np.cumsum(np.log1p(market)))
    strategies = {
        "market": market,
        "half": market / 2,
        "other": 0.5 * market + rng.normal(3e-4, 0.006, 900),
    }
    return strategies, market_phases(prices, rise=0.06, fall=0.06, window=20)


class TestTable2:
    def table(self, paths, **options) -> pd.DataFrame:
        returns, labels = paths
        chosen = {"baseline": "market", "level": 0.9, "n_bootstrap": 200, "seed": 1} | options
        return regime_table(returns, labels, **chosen)

    def test_figures_of_each_regime(self, paths) -> None:
        returns, labels = paths
        table = self.table(paths)
        assert list(table.index.levels[0].sort_values()) == ["all", "bear", "bull", "range-bound"]
        for regime in (Regime.BULL, Regime.BEAR, Regime.RANGE_BOUND):
            for name, r in returns.items():
                own, row = r[labels == regime], table.loc[(regime.text, name)]
                assert row["days"] == len(own) >= 20
                assert row["mean_return"] == pytest.approx(own.mean())
                assert row["annual_return"] == pytest.approx(performance.annual_return(own))
                assert row["sharpe"] == pytest.approx(performance.sharpe(own))
                assert row["var_95"] == pytest.approx(-np.quantile(own, 0.05))
                assert row["mean_return_low"] < row["mean_return"] < row["mean_return_high"]
        whole = table.loc["all"]
        assert whole.loc["other", "sharpe"] == pytest.approx(performance.sharpe(returns["other"]))
        assert whole.loc["other", "deepest_drawdown"] == pytest.approx(
            performance.max_drawdown(returns["other"])
        )

    def test_regimes_add_up_to_the_whole(self, paths) -> None:
        table = self.table(paths)
        parts = table.drop("all", level=0)
        total = (parts["days"] * parts["mean_return"]).groupby("strategy").sum()
        whole = table.loc["all"]
        np.testing.assert_allclose(
            total.loc[whole.index], whole["days"] * whole["mean_return"], atol=1e-12
        )
        np.testing.assert_allclose(parts["drawdown_share"].groupby("strategy").sum(), 1.0)
        np.testing.assert_allclose(
            parts["deepest_drawdown"].groupby("strategy").max().loc[whole.index],
            whole["deepest_drawdown"],
        )

    def test_intervals_are_those_of_the_plain_bootstrap(self, paths) -> None:
        """Counting draws gives what writing every resample out gives."""
        returns, labels = paths
        table = self.table(paths)
        columns = np.column_stack(list(returns.values()))[labels == BULL]
        block = max(bootstrap.optimal_block_length(np.abs(column)) for column in columns.T)
        drawn = bootstrap.bootstrap_samples(
            lambda r: r.mean(axis=0), columns, n_bootstrap=200, block_length=block, seed=1
        )
        low, high = np.quantile(drawn, (0.05, 0.95), axis=0)
        np.testing.assert_allclose(table.loc["bull", "mean_return_low"], low)
        np.testing.assert_allclose(table.loc["bull", "mean_return_high"], high)
        gaps = drawn - drawn[:, :1]
        row = table.loc[("bull", "other")]
        np.testing.assert_allclose(
            row[["mean_return_difference_low", "mean_return_difference_high"]].astype(float),
            np.quantile(gaps[:, 2], (0.05, 0.95)),
        )
        p = 2.0 * (min((gaps[:, 2] <= 0).sum(), (gaps[:, 2] >= 0).sum()) + 1.0) / 201.0
        assert row["mean_return_difference_p"] == pytest.approx(min(1.0, p))

    def test_sharpe_ratios_are_tested_as_in_table_1(self, paths) -> None:
        returns, labels = paths
        table = self.table(paths)
        columns = np.column_stack(list(returns.values()))[labels == BULL]
        boot = {"level": 0.9, "n_bootstrap": 200, "seed": 1}
        own = sharpe_intervals(columns, **boot)
        np.testing.assert_allclose(
            table.loc["bull", ["sharpe", "sharpe_low", "sharpe_high"]].astype(float),
            [(test.estimate, test.low, test.high) for test in own],
        )
        gap = sharpe_differences(columns, columns[:, 0], **boot)[2]
        row = table.loc[("bull", "other")]
        assert row["sharpe"] == pytest.approx(performance.sharpe(columns[:, 2]))
        np.testing.assert_allclose(
            row["sharpe_difference":"sharpe_difference_p"].astype(float),
            (gap.estimate, gap.low, gap.high, gap.p_value),
        )
        assert table.loc[("bull", "market"), "sharpe_difference":"sharpe_difference_p"].isna().all()

    def test_half_the_market_has_its_sharpe(self, paths) -> None:
        table = self.table(paths)
        np.testing.assert_allclose(
            table.xs("half", level=1)["sharpe"].astype(float),
            table.xs("market", level=1)["sharpe"].astype(float),
        )

    def test_short_regimes_say_so(self, paths) -> None:
        returns, labels = paths
        few = np.full(len(labels), BULL, dtype=np.int8)
        few[300:319] = BEAR
        few[0] = Regime.UNKNOWN
        table = self.table((returns, few))
        row = table.loc[("bear", "other")]
        assert row["days"] == 19
        assert "20 days" in row["note"]
        assert row.drop(["days", "drawdown_share", "deepest_drawdown", "note"]).isna().all()
        assert np.isfinite(row["deepest_drawdown"])
        assert table.loc[("not labelled", "other"), "days"] == 1
        assert table.loc[("range-bound", "other"), "days"] == 0
        assert np.isnan(table.loc[("range-bound", "other"), "deepest_drawdown"])

    def test_cash_has_no_sharpe_and_no_drawdown(self, paths) -> None:
        returns, labels = paths
        table = self.table((returns | {"cash": np.zeros(len(labels))}, labels))
        row = table.loc[("bull", "cash")]
        assert row["mean_return"] == row["deepest_drawdown"] == 0.0
        assert row[["sharpe", "sharpe_low", "sharpe_difference_p", "drawdown_share"]].isna().all()
        assert np.isfinite(row["mean_return_difference_p"])

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 10_000))
    def test_drawdown_shares_against_brute_force(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        returns, labels = rng.normal(0.0, 0.02, 60), rng.integers(-1, 2, 60)
        wealth = np.append(1.0, np.cumprod(1.0 + returns))
        pairs = [(wealth[b] / wealth[a], a, b) for a in range(61) for b in range(a + 1, 61)]
        _, peak, trough = min(pairs)
        shares = drawdown_shares(returns, labels)
        lost = np.log(wealth[peak] / wealth[trough])
        for kind in (-1, 0, 1):
            days = [t for t in range(peak, trough) if labels[t] == kind]
            expected = -np.log1p(returns[days]).sum() / lost
            assert shares.get(Regime(kind), 0.0) == pytest.approx(expected)

    def test_validation(self, paths) -> None:
        returns, labels = paths
        with pytest.raises(ConfigError, match="baseline"):
            self.table(paths, baseline="nobody")
        with pytest.raises(DataError, match="days"):
            self.table((returns, labels[:-1]))
