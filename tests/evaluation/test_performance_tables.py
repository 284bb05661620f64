"""Table I and what each step added: every interval is the one that its docstring promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from alphakeel.evaluation.attribution import attribution_table, ladder_table
from alphakeel.evaluation.performance import ReturnSeries, strategy_tables, with_interval
from alphakeel.stats import bootstrap
from alphakeel.stats import performance as metrics
from alphakeel.stats.sharpe import sharpe_differences, sharpe_intervals
from alphakeel.stats.var_intervals import value_at_risk_changes, value_at_risk_intervals

Array = NDArray[np.float64]
BOOT = {"level": 0.9, "n_bootstrap": 200, "seed": 3}


@pytest.fixture(scope="module")
def portfolios() -> dict[str, ReturnSeries]:
    rng = np.random.default_rng(0)
    market = 0.01 * rng.standard_t(5, 600) + 0.0005
    found = {}
    for name, beta, noise in (("Linear", 1.0, 0.003), ("LSTM", 0.6, 0.004), ("Other", 1.3, 0.002)):
        net = beta * market + noise * rng.standard_normal(600)
        turnover = rng.uniform(0.0, 0.1, 600)
        found[name] = ReturnSeries(
            net, net + 0.001 * turnover, np.zeros(600), turnover, np.ones(600)
        )
    return found


def _columns(portfolios: dict[str, ReturnSeries]) -> Array:
    return np.column_stack([one.net_returns for one in portfolios.values()])


def _percentiles(statistic, columns: Array) -> Array:
    block = max(bootstrap.optimal_block_length(np.abs(column)) for column in columns.T)
    return bootstrap.bootstrap_samples(
        statistic, columns, n_bootstrap=200, block_length=block, seed=3
    )


class TestTableOne:
    def test_sharpe_ratios_have_studentised_limits(self, portfolios) -> None:
        performance, difference = strategy_tables(portfolios, None, baseline="Linear", **BOOT)
        columns = _columns(portfolios)
        own = sharpe_intervals(columns, **BOOT)
        np.testing.assert_array_equal(performance["sharpe_low"], [test.low for test in own])
        np.testing.assert_array_equal(performance["sharpe_high"], [test.high for test in own])
        np.testing.assert_allclose(performance["sharpe"], metrics.sharpe(columns), rtol=1e-12)
        _, *gaps = sharpe_differences(columns, columns[:, 0], **BOOT)
        for name, gap in zip(("LSTM", "Other"), gaps, strict=True):
            row = difference.loc[name]
            assert row["sharpe_difference"] == pytest.approx(gap.estimate)
            assert row["sharpe_difference_low":"sharpe_difference_p"].tolist() == [
                gap.low,
                gap.high,
                gap.p_value,
            ]
            base = performance.loc["Linear", "sharpe"]
            assert row["sharpe_change"] == pytest.approx(gap.estimate / base)

    def test_no_per_cent_of_a_benchmark_that_earned_nothing(self, portfolios) -> None:
        loser = {
            **portfolios,
            "Loser": replace(portfolios["Other"], net_returns=-portfolios["LSTM"].net_returns),
        }
        performance, difference = strategy_tables(loser, None, baseline="Loser", **BOOT)
        assert performance.loc["Loser", "sharpe"] < 0.0
        assert difference["sharpe_change"].isna().all()
        assert np.isfinite(difference["sharpe_difference"]).all()

    def test_drawdowns_have_percentile_limits(self, portfolios) -> None:
        performance, difference = strategy_tables(portfolios, None, baseline="Linear", **BOOT)
        drawn = _percentiles(metrics.max_drawdown, _columns(portfolios))
        low, high = np.quantile(drawn, (0.05, 0.95), axis=0)
        np.testing.assert_allclose(performance["max_drawdown_low"], low, rtol=1e-12)
        np.testing.assert_allclose(performance["max_drawdown_high"], high, rtol=1e-12)
        changes = drawn[:, 1] / drawn[:, 0] - 1.0
        row = difference.loc["LSTM"].filter(like="max_drawdown_change")
        figures = performance["max_drawdown"]
        assert row.iloc[0] == pytest.approx(figures["LSTM"] / figures["Linear"] - 1.0)
        assert row.iloc[1:3].tolist() == pytest.approx(np.quantile(changes, (0.05, 0.95)).tolist())
        fewer = min((changes <= 0).sum(), (changes >= 0).sum())
        assert row.iloc[3] == pytest.approx(min(1.0, 2.0 * (fewer + 1.0) / 201.0))

    def test_var_has_the_limits_of_its_slow_waves(self, portfolios) -> None:
        performance, difference = strategy_tables(portfolios, None, baseline="Linear", **BOOT)
        columns = _columns(portfolios)
        own = value_at_risk_intervals(columns, level=0.9)
        assert performance["var_95_low"].tolist() == [one.low for one in own]
        assert performance["var_95_high"].tolist() == [one.high for one in own]
        for name, net in zip(("LSTM", "Other"), columns.T[1:], strict=True):
            (gap,) = value_at_risk_changes(net, columns[:, 0], level=0.9)
            row = difference.loc[name].filter(like="var_95_change").tolist()
            assert row == pytest.approx([gap.estimate, gap.low, gap.high, gap.p_value])
            figures = performance["var_95"]
            assert row[0] == pytest.approx(figures[name] / figures["Linear"] - 1.0)

    def test_trading_and_beta(self, portfolios) -> None:
        market = portfolios["Linear"].net_returns
        performance, _ = strategy_tables(portfolios, market, baseline="Linear", **BOOT)
        row, one = performance.loc["LSTM"], portfolios["LSTM"]
        assert row["turnover"] == pytest.approx(126.0 * one.turnover.mean())
        gross = np.prod(1.0 + one.gross_returns) ** (252 / 600)
        net = np.prod(1.0 + one.net_returns) ** (252 / 600)
        assert row["cost_drag"] == pytest.approx(gross - net)
        assert row["beta"] == pytest.approx(np.polyfit(market, one.net_returns, 1)[0])
        assert performance.loc["Linear", "beta"] == pytest.approx(1.0)


class TestAttribution:
    def test_each_step_is_compared_with_the_one_before(self, portfolios) -> None:
        table = ladder_table({"model": list(portfolios.items())}, **BOOT)
        columns = _columns(portfolios)
        assert table.index.tolist() == [("model", name) for name in portfolios]
        assert table.iloc[0].filter(like="_added").isna().all()
        for k in (1, 2):
            (gap,) = sharpe_differences(columns[:, k], columns[:, k - 1], **BOOT)
            row = table.iloc[k]
            assert row["sharpe_added"] == pytest.approx(gap.estimate)
            assert row["sharpe_added_low"] == gap.low
            assert row["sharpe_added_high"] == gap.high
            assert row["sharpe_added_p"] == gap.p_value
            deeper = metrics.max_drawdown(columns[:, k]) - metrics.max_drawdown(columns[:, k - 1])
            assert row["max_drawdown_added"] == pytest.approx(deeper)

    def test_parts_add_up(self, portfolios) -> None:
        steps = ladder_table({"model": list(portfolios.items())}, **BOOT)
        parts = attribution_table(steps).loc["model"]
        np.testing.assert_allclose(parts.iloc[:3].sum(), parts.loc["total"])
        top = steps.iloc[-1]
        assert parts.loc["costs", "annual_return"] == -top["cost_drag"]
        assert parts.loc["total", "sharpe"] == top["sharpe"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_interval_of_resamples_without_a_value(bad: float) -> None:
    row = with_interval("x", 0.5, np.array([0.1, bad, 0.2]), (0.025, 0.975))
    assert row["x"] == 0.5
    assert np.isnan([row["x_low"], row["x_high"], row["x_p"]]).all()
