"""Tables of active returns against plain loops."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from alphakeel.evaluation.active import (
    active_by_year,
    active_differences,
    active_steps,
    active_table,
)
from alphakeel.evaluation.performance import ReturnSeries
from alphakeel.stats.performance import information_ratio

BOOT = {"level": 0.95, "n_bootstrap": 200, "seed": 0}
DAYS = np.arange("2014-06-01", "2016-06-01", dtype="datetime64[D]")


def a_run(net: np.ndarray) -> ReturnSeries:
    zero = np.zeros_like(net)
    return ReturnSeries(net, net, zero, zero, zero + 1.0)


@pytest.fixture(scope="module")
def runs() -> dict[str, ReturnSeries]:
    rng = np.random.default_rng(0)
    market = rng.normal(0.0004, 0.012, len(DAYS))
    return {
        "Equal weight": a_run(market),
        "Linear": a_run(market + rng.normal(0.0002, 0.003, len(DAYS))),
        "LSTM": a_run(market + rng.normal(0.0006, 0.003, len(DAYS))),
    }


def test_figures_are_those_of_a_plain_loop(runs: dict[str, ReturnSeries]) -> None:
    base = runs["Equal weight"].net_returns
    index = np.random.default_rng(9).normal(0.0, 0.01, len(DAYS))
    table = active_table(runs, {"Equal weight": base, "Market index": index}, **BOOT)
    assert list(table.loc["Equal weight"].index) == ["Linear", "LSTM"]
    assert list(table.loc["Market index"].index) == list(runs)
    for name in ("Linear", "LSTM"):
        row, net = table.loc[("Equal weight", name)], runs[name].net_returns
        total = 0.0
        for own, other in zip(net, base, strict=True):
            total += own - other
        mean = total / len(net)
        squares = sum((own - other - mean) ** 2 for own, other in zip(net, base, strict=True))
        error = sqrt(squares / (len(net) - 1)) * sqrt(252)
        assert row["active_return"] == pytest.approx(252 * mean, rel=1e-9)
        assert row["tracking_error"] == pytest.approx(error, rel=1e-9)
        assert row["information_ratio"] == pytest.approx(252 * mean / error, rel=1e-9)
        assert row["information_ratio"] == pytest.approx(float(information_ratio(net, base)))
        wealth = np.cumprod((1.0 + net) / (1.0 + base))
        peak = np.maximum.accumulate(np.append(1.0, wealth))
        assert row["relative_drawdown"] == pytest.approx((1 - np.append(1.0, wealth) / peak).max())
        for what in ("active_return", "tracking_error", "information_ratio"):
            assert row[f"{what}_low"] < row[what] < row[f"{what}_high"], what
    assert table.loc[("Equal weight", "LSTM"), "active_return_p"] < 0.05


def test_the_difference_of_models_is_paired_and_free_of_the_benchmark(
    runs: dict[str, ReturnSeries],
) -> None:
    bases = {"Equal weight": runs["Equal weight"].net_returns, "Market index": np.zeros(len(DAYS))}
    table = active_differences(runs, bases, [("LSTM", "Linear")], **BOOT)
    alone = active_table(runs, bases, **BOOT)["active_return"]
    for benchmark in bases:
        row = table.loc[(benchmark, "LSTM")]
        gap = alone[benchmark, "LSTM"] - alone[benchmark, "Linear"]
        assert row["active_return_difference"] == pytest.approx(gap, rel=1e-9)
        assert row["baseline"] == "Linear"
    ends = [f"active_return_difference{end}" for end in ("", "_low", "_high", "_p")]
    same = table[ends].to_numpy(dtype=float)
    np.testing.assert_array_equal(same[0], same[1])
    assert not len(active_differences(runs, bases, [], **BOOT))


def test_by_year_and_by_step(runs: dict[str, ReturnSeries]) -> None:
    base = runs["Equal weight"].net_returns
    years = active_by_year(
        runs, {"Equal weight": base}, DAYS, limits={("Equal weight", "LSTM"): 0.05}
    )
    own = years[years["strategy"] == "LSTM"].set_index("year")
    inside = DAYS.astype("datetime64[Y]") == np.datetime64("2015")
    active = (runs["LSTM"].net_returns - base)[inside]
    assert own.loc[2015, "tracking_error"] == pytest.approx(active.std(ddof=1) * sqrt(252))
    assert own.loc[2015, "active_return"] == pytest.approx(252 * active.mean())
    assert (own["tracking_error_limit"] == 0.05).all()
    assert years.loc[years["strategy"] == "Linear", "tracking_error_limit"].isna().all()
    steps = {"LSTM": [("equal weight", runs["Equal weight"]), ("+ allocation", runs["LSTM"])]}
    ladder = active_steps(steps, base, **BOOT)
    assert ladder.loc[("LSTM", "equal weight")].isna().all()
    whole = active_table(runs, {"Equal weight": base}, **BOOT)
    for name in ("active_return", "tracking_error", "information_ratio", "information_ratio_low"):
        assert ladder.loc[("LSTM", "+ allocation"), name] == pytest.approx(
            whole.loc[("Equal weight", "LSTM"), name], rel=0.2
        )
