"""Borrowing in a study: shorts, leverage, what they cost, and the flags of Chinese stocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from skfolio.containers import AssetPanel

from alphakeel.config import (
    AllocationConfig,
    CostConfig,
    OverlayConfig,
    load_config,
)
from alphakeel.data.cleaning import clean
from alphakeel.data.panel import panel_from_long, panel_to_long
from alphakeel.data.simulation import simulate_market
from alphakeel.errors import ConfigError
from alphakeel.pipeline.plan import Plan
from alphakeel.pipeline.simulator import market_of
from alphakeel.pipeline.strategies import _margins_of
from alphakeel.report.charts import weights_area
from alphakeel.report.method import conventions
from alphakeel.results import Study
from alphakeel.risk.stress import portfolio_shock_table
from alphakeel.study import run_study
from helpers import assert_same_until, run_command, scrambled_after, tiny_config

BASE = tiny_config(walk_forward={"refit_every": 200, "test_start": "2011-10-04"})
ONLY_VOLATILITY = OverlayConfig(target_volatility=0.16, var_cap=None, brake_start=None)


@pytest.fixture(scope="module")
def panel() -> AssetPanel:
    return simulate_market(n_assets=20, n_dates=760, seed=3).panel


@pytest.fixture(scope="module")
def short(panel: AssetPanel) -> Study:
    config = replace(
        BASE,
        allocation=AllocationConfig(neutral="dollar", gross=1.6),
        costs=CostConfig(borrow_rate=0.0252),
        report=replace(BASE.report, sensitivity=True),
    )
    return run_study(panel, config)


class TestShorts:
    def test_scored_portfolios_are_neutral_and_benchmarks_stay_long(self, short: Study) -> None:
        for name, ledger in short.every_ledger().items():
            if name.startswith("Linear"):
                assert (ledger.weights < 0.0).any()
                # The day of a trade: neutral to the rounding of the costs' solution.
                traded = np.flatnonzero(ledger.turnover > 0.0)
                assert np.abs(ledger.weights[traded].sum(axis=1)).max() < 0.05
                assert np.abs(ledger.weights).sum(axis=1).max() < 1.6 * 1.1
            else:
                assert (ledger.weights >= 0.0).all()
                assert not ledger.carry.any()
        assert (short.portfolios.scores_only["Linear"].weights >= 0.0).all()

    def test_the_fee_is_a_252nd_part_of_the_shorts_a_day(self, short: Study) -> None:
        ledger = short.strategies["Linear"]
        debt = np.maximum(-ledger.weights, 0.0).sum(axis=1) * ledger.wealth
        expected = np.concatenate([[0.0], debt[:-1] * 0.0001])
        np.testing.assert_allclose(ledger.carry, expected, rtol=1e-9, atol=1e-15)
        assert ledger.carry.sum() > 0.0

    def test_every_decision_keeps_the_gross(self, short: Study) -> None:
        bought = short.overlaid["Linear"]
        days = np.flatnonzero(bought.turnover > 0.0)
        assert np.abs(bought.weights[days]).sum(axis=1).max() <= 1.6 + 1e-9

    def test_tables_and_sweeps_are_whole(self, short: Study) -> None:
        for outcome in (
            *short.portfolios.cost_sweep.values(),
            *short.portfolios.size_sweep.values(),
        ):
            assert np.isfinite(outcome.net_returns).all()
        steps = short.tables()["ladder"]
        top = steps.loc["Linear"].iloc[1:]
        columns = ["annual_return", "sharpe", "var_95", "max_drawdown"]
        assert np.isfinite(top[columns].to_numpy()).all()
        risk = short.portfolios.value_at_risk["Linear"].var
        assert (risk[30:] > 0.0).all()

    def test_the_run_says_who_sells_short(self, short: Study) -> None:
        text = " ".join(short.portfolios.market_text)
        assert "longs equal shorts in money" in text
        assert "stay long only" in text

    @pytest.mark.parametrize(
        "allocation",
        [
            AllocationConfig(neutral="beta"),
            AllocationConfig(method="mean_variance", neutral="beta", gross=1.2, window=120),
        ],
    )
    def test_beta_neutral_portfolios_are_blind_to_the_future(
        self, panel: AssetPanel, allocation: AllocationConfig
    ) -> None:
        config = replace(
            BASE,
            allocation=allocation,
            overlay=OverlayConfig(max_exposure=1.5, target_volatility=0.2),
        )
        first = run_study(panel, config)
        row = first.test.start + 150
        second = run_study(scrambled_after(panel, row, how="multiply", sigma=0.01), config)
        assert_same_until(first, second, row, "weights", "carry", "wealth")
        days = slice(0, row - first.test.start + 1)
        assert (first.strategies["Linear"].weights[days] < 0.0).any()
        for name, ledger in first.every_ledger().items():
            assert not np.array_equal(ledger.wealth, second.every_ledger()[name].wealth)
        if allocation.method == "top_quantile":
            own = first.dataset.betas
            held = first.strategies["Linear"]
            traded = np.flatnonzero(held.turnover > 0.0)
            beta = np.nan_to_num(own[first.test][traded - 1], nan=1.0)
            assert np.abs((held.weights[traded] * beta).sum(axis=1)).max() < 1e-9


class TestLeverage:
    def test_a_calm_portfolio_reaches_its_target_only_on_margin(self, panel: AssetPanel) -> None:
        realised = {}
        for most in (1.0, 1.5):
            overlay = replace(ONLY_VOLATILITY, max_exposure=most)
            study = run_study(panel, replace(BASE, overlay=overlay))
            ledger = study.overlaid["Minimum variance"]
            realised[most] = float(ledger.net_returns[5:].std() * 252**0.5)
            assert bool(ledger.carry.any()) is (most > 1.0)
            assert np.abs(ledger.weights).sum(axis=1).max() <= most * 1.05
        assert realised[1.0] < 0.85 * 0.16
        assert abs(realised[1.5] / 0.16 - 1.0) < 0.1

    def test_borrowed_cash_is_paid_for(self, panel: AssetPanel) -> None:
        overlay = replace(ONLY_VOLATILITY, max_exposure=1.5)
        config = replace(BASE, overlay=overlay, costs=CostConfig(financing_rate=0.0504))
        study = run_study(panel, config)
        ledger = study.overlaid["Minimum variance"]
        debt = np.maximum(-ledger.cash, 0.0)
        np.testing.assert_allclose(ledger.carry[1:], debt[:-1] * 0.0002, rtol=1e-9, atol=1e-15)
        assert ledger.carry.sum() > 0.0
        # The portfolio itself stays as it is, and the overlay's own wealth has paid as well.
        assert not study.strategies["Minimum variance"].carry.any()
        plan = study.portfolios.overlays["Minimum variance"]
        np.testing.assert_allclose(plan.wealth[-1], ledger.wealth[-1], rtol=0.01)
        assert "borrowed cash costs 5.04 % a year" in " ".join(study.portfolios.market_text)


class TestRefused:
    def test_beta_without_an_index(self, panel: AssetPanel) -> None:
        frame = panel_to_long(panel).drop(columns="market_index")
        config = replace(BASE, allocation=AllocationConfig(neutral="beta"))
        with pytest.raises(ConfigError, match="needs a market index") as caught:
            run_study(panel_from_long(frame), config)
        assert "\n" not in str(caught.value)
        Plan.of(panel, config)  # with an index nothing is refused

    @pytest.mark.parametrize(
        ("toml", "words"),
        [
            ('[allocation]\nneutral = "dollar"\ninvested = 0.5', ["invested", "neutral"]),
            ('[allocation]\nneutral = "dollar"\nquantile = 0.6', ["quantile", "at most 0.5"]),
            ('[allocation]\nneutral = "money"', ["allocation.neutral", "dollar, beta"]),
            ('[allocation]\nneutral = "beta"\n[costs]\npreset = "cn"', ["neutral", "cn"]),
            ('[overlay]\nmax_exposure = 1.5\n[costs]\npreset = "cn"', ["max_exposure", "cn"]),
            ("[overlay]\nmax_exposure = 5.0", ["max_exposure", "at most 3"]),
        ],
    )
    def test_contradictions_end_with_two_and_one_sentence(
        self, tmp_path: Path, toml: str, words: list[str]
    ) -> None:
        file = tmp_path / "study.toml"
        file.write_text(toml)
        with pytest.raises(ConfigError) as caught:
            load_config(file)
        assert "\n" not in str(caught.value)
        for word in words:
            assert word in str(caught.value)
        done = run_command("run", "--config", file, "--data", "synthetic")
        assert done.exit_code == 2

    def test_none_is_said_in_toml(self, tmp_path: Path) -> None:
        file = tmp_path / "study.toml"
        file.write_text('[allocation]\nneutral = "none"\n[costs]\npreset = "cn"')
        assert load_config(file).allocation.neutral is None


class TestSpecialTreatment:
    def test_a_flagged_stock_stops_at_five_per_cent(self) -> None:
        days = pd.bdate_range("2015-01-05", periods=40)
        close = {"000001": np.full(40, 10.0), "000002": np.full(40, 10.0)}
        for path in close.values():
            path[30:] = 10.5  # + 5 % on row 30
            path[35:] = 11.55  # + 10 % on row 35
        flag = np.r_[np.full(33, 1.0), np.full(7, np.nan)]  # no longer from row 33 on
        rows = [
            {"date": day, "ticker": ticker, "close": path[i], "adj_close": path[i], "st": st[i]}
            for ticker, path, st in (
                ("000001", close["000001"], flag),
                ("000002", close["000002"], np.full(40, np.nan)),
            )
            for i, day in enumerate(days)
        ]
        config = replace(BASE, costs=CostConfig(preset="cn"))

        def at_limit(frame: pd.DataFrame) -> Any:
            cleaned = clean(panel_from_long(frame)).panel
            market = market_of(cleaned, "cn", config, slice(None))
            return market.constraints.at_up_limit, " ".join(market.text)

        found, text = at_limit(pd.DataFrame(rows))
        assert found[30].tolist() == [True, False]
        assert found[35].tolist() == [True, True]
        assert "for ST stocks of the 10 % boards 5 %" in text
        plain, text = at_limit(pd.DataFrame(rows).drop(columns="st"))
        assert plain[30].tolist() == [False, False]
        assert "ST not known" in text


class TestReported:
    def test_models_that_allocate_by_themselves_stay_long(self) -> None:
        config = replace(BASE, allocation=AllocationConfig(neutral="dollar"))
        models: Any = {
            "linear": SimpleNamespace(label="Linear", weights=None),
            "lstm_limited": SimpleNamespace(label="Limited", weights=np.zeros((2, 2))),
        }
        margins = _margins_of(models, config)
        assert list(margins) == ["Linear"]
        assert margins["Linear"].short
        assert margins["Linear"].max_gross == 2.0
        assert _margins_of(models, BASE) == {}

    def test_the_report_draws_shorts_and_debt_below_zero(self) -> None:
        days = np.arange("2020-01-01", "2020-01-04", dtype="datetime64[D]")
        weights = np.array([[0.6, -0.5], [-0.2, 0.4], [0.9, 0.6]])
        figure = weights_area(days, weights, 1.0 - weights.sum(axis=1), ["A", "B"])
        above = sum(np.array(t.y, float) for t in figure.data if t.stackgroup == "one")
        below = sum(np.array(t.y, float) for t in figure.data if t.stackgroup == "below")
        np.testing.assert_allclose(above + below, 1.0)
        np.testing.assert_allclose(below, [-0.5, -0.2, -0.5])
        assert tuple(figure.layout.yaxis.range) == (-0.5, 1.5)
        plain = weights_area(days, np.abs(weights) / 2.0, np.zeros(3), ["A", "B"])
        assert {t.stackgroup for t in plain.data} == {"one"}
        assert tuple(plain.layout.yaxis.range) == (0.0, 1.0)

    def test_the_report_says_how_far_exposure_goes(self) -> None:
        said = dict(conventions(replace(BASE, overlay=OverlayConfig(max_exposure=1.5))))["Overlay"]
        assert "and 1.5;" in said
        assert "Borrowed cash costs" in said
        usual = dict(conventions(BASE))["Overlay"]
        assert "and 100\u202f%;" in usual
        assert "orrowed" not in usual

    def test_betas_that_cancel_leave_no_shock_to_check(self) -> None:
        market = np.tile([0.01, -0.02], 60)
        stocks = np.c_[market, market * 1.01]
        portfolios = {"long": np.full((20, 2), 0.5), "neutral": np.tile([1.0, -1.0], (20, 1))}
        table = portfolio_shock_table(portfolios, stocks, market, np.arange(99, 119))
        assert np.isnan(table.loc["neutral", "check"]).all()
        np.testing.assert_allclose(table.loc["long", "check"], 1.0, rtol=1e-6)
