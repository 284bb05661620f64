"""What a study trades: inside its limits, and under its overlay."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alphakeel.backtest.costs import ProportionalCost
from alphakeel.backtest.market_rules import Margin
from alphakeel.config import OverlayConfig
from alphakeel.data.bundled import load_bundled
from alphakeel.data.panel import panel_from_long
from alphakeel.errors import DataError
from alphakeel.pipeline.fitting import forecast_volatility
from alphakeel.pipeline.simulator import Simulator
from alphakeel.pipeline.strategies import allocate_scores, apply_overlay, benchmark_weights
from alphakeel.risk.value_at_risk import TailForecast
from alphakeel.study import run_study
from helpers import assert_same_until, scrambled_after, tiny_config
from small_study import DAYS, PRICES, study_of


def test_no_breach_is_a_loan() -> None:
    """Limits that cannot be met together give way; a long-only portfolio still owes nothing."""
    alloc = {
        "method": "mean_variance",
        "sector_limit": 0.0,
        "invested": 1.0,
        "weight_cap": 1.0,
    }
    study = run_study(
        load_bundled("synthetic", n_assets=12, n_dates=800, seed=1), tiny_config(allocation=alloc)
    )
    broken = [r.breached for r in study.portfolios.records["Linear"] if r.status == "least_breach"]
    assert broken
    assert not any("gross" in breached for breached in broken)


def test_sweep_of_costs_is_a_backtest_at_each() -> None:
    """Also at the study's own cost, which is not run again."""
    study = study_of(PRICES, costs={"cost_per_side": 0.001}, report={"sensitivity": True})
    simulator = Simulator.of(study.dataset, study.config, study.test)
    ledger = study.strategies["Linear"]
    decided = np.full(ledger.weights.shape, np.nan)
    rows = simulator.decisions - simulator.start
    model = study.models["linear"]
    decided[rows] = allocate_scores(
        model.scores[-len(rows) :],
        forecast_volatility(study.dataset, study.plan)[-len(rows) :],
        simulator,
        study.config,
    )[0]
    sweep = study.portfolios.cost_sweep
    assert len({rate for name, rate in sweep if name == "Linear"}) == 6
    for (name, rate), swept in sweep.items():
        if name == "Linear":
            again = simulator.backtest_at_cost(
                decided, cost=ProportionalCost(rate), margin=Margin()
            )
            np.testing.assert_array_equal(swept.net_returns, again.net_returns)


class TestOverlay:
    @pytest.mark.parametrize("lag", [1, 2, 3])
    def test_without_rules_it_changes_nothing(self, lag: int) -> None:
        off = {"target_volatility": "none", "var_cap": "none", "brake_start": "none"}
        study = study_of(PRICES, target={"lag": lag}, overlay=off)
        for name, ledger in study.strategies.items():
            np.testing.assert_array_equal(ledger.net_returns, study.overlaid[name].net_returns)

    @pytest.mark.parametrize("lag", [2, 3])
    def test_scrambling_the_future_moves_nothing_in_the_past(self, lag: int) -> None:
        chosen = tiny_config(target={"lag": lag}, overlay={"bear_exposure": 0.3})
        panel = panel_from_long(PRICES)
        study = run_study(panel, chosen)
        row = study.test.start + 91
        other = run_study(scrambled_after(panel, row, how="multiply", sigma=0.1), chosen)
        assert_same_until(study, other, row, "net_returns", "weights")
        past = slice(0, row - study.test.start + 1)
        for name, plan in study.portfolios.overlays.items():
            np.testing.assert_array_equal(
                plan.exposure[past], other.portfolios.overlays[name].exposure[past], name
            )


def test_a_forecast_that_expects_gains_holds_nothing_down() -> None:
    """A quantile of wild past returns can be a gain: a VaR below 0."""
    returns = np.random.default_rng(0).normal(0.0, 0.01, (300, 3))
    simulator = Simulator(
        returns=returns,
        price=np.cumprod(1.0 + returns, axis=0)[200:],
        tradable=np.ones((100, 3), dtype=bool),
        eligible=np.ones((20, 3), dtype=bool),
        sectors=None,
        history=returns[:200].mean(axis=1),
        bear=None,
        decisions=np.arange(200, 300, 5),
        start=200,
        lag=1,
        market=None,
        cost_per_side=0.001,
        wealth=1.0,
    )
    portfolio = simulator.trade(np.full((20, 3), 1 / 3))
    rules = OverlayConfig(target_volatility=None, var_cap=0.01, brake_start=None)
    for level, exposure in ((-0.01, 1.0), (0.0, 1.0), (0.02, 0.5)):
        risk = TailForecast(np.full(100, level), np.full(100, level))
        plan = apply_overlay(portfolio, risk, simulator, rules)[1]
        np.testing.assert_allclose(plan.exposure, exposure, rtol=0.02)


class TestBenchmark:
    def test_cap_weight_is_by_the_last_known_market_value(self) -> None:
        """To the bit, by the sample of the day; a gap keeps the value before it."""
        rows = PRICES["date"].isin(DAYS[400:420]) & (PRICES["ticker"] == PRICES["ticker"].iloc[0])
        prices = PRICES.assign(market_cap=PRICES["market_cap"].mask(rows))
        study = study_of(prices, allocation={"benchmark": "cap_weight"})
        simulator = Simulator.of(study.dataset, study.config, study.test)
        weights = benchmark_weights("Cap weight", simulator, study.config)
        value = pd.DataFrame(study.dataset.panel["market_cap"]).ffill().to_numpy()
        for row, own, inside in zip(simulator.decisions, weights, simulator.eligible, strict=True):
            held = np.where(inside, value[row], 0.0)
            np.testing.assert_allclose(own, held / held.sum(), rtol=1e-14)
        table = study.tables()["active"]
        net = {name: ledger.net_returns for name, ledger in study.every_ledger().items()}
        off = net["Linear"] - net["Cap weight"]
        row = table.loc[("Cap weight", "Linear")]
        assert row["tracking_error"] == pytest.approx(off.std(ddof=1) * 252**0.5)
        assert study.table_1().loc["Linear", "active_return"] == row["active_return"]
        assert np.isnan(study.table_1().loc["Cap weight", "active_return"])

    @pytest.mark.parametrize(
        ("lacking", "settings", "word"),
        [
            ("market_cap", {"benchmark": "cap_weight"}, "market_cap"),
            ("market_index", {"benchmark": "index"}, "market index"),
            ("market_index", {"hedge": True}, "allocation.hedge"),
            ("sector", {"method": "enhanced_index", "sector_limit": 0.1}, "sectors"),
        ],
    )
    def test_what_the_data_lack_is_refused(
        self, lacking: str, settings: dict[str, object], word: str
    ) -> None:
        with pytest.raises(DataError, match=word):
            study_of(PRICES.drop(columns=lacking), allocation=settings)
