"""Cash that earns and costs: a hand computation, the ledger's balance, and every Sharpe ratio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphakeel.backtest.costs import ProportionalCost
from alphakeel.backtest.engine import run_backtest
from alphakeel.backtest.market_rules import Margin
from alphakeel.data.loading import load_panel
from alphakeel.data.panel import panel_from_long, panel_to_long, riskless_rate
from alphakeel.errors import ConfigError, DataError
from alphakeel.portfolio.overlay import overlay, overlay_targets
from alphakeel.results import Study
from alphakeel.selection.trial_log import TrialLedger, record_run
from alphakeel.stats import performance
from helpers import with_fields
from small_study import DAYS, PRICES, day, study_of

NONE = np.nan


class TestByHand:
    def test_cash_earns_from_the_day_after(self) -> None:
        """Half in a stock that gains 10 %, half in cash at 1 % and then 2 % a day."""
        prices = np.array([[10.0], [10.0], [11.0], [11.0]])
        targets = np.array([[0.5], [NONE], [NONE], [NONE]])
        cash = np.array([0.0, 0.01, 0.01, 0.02])
        ledger = run_backtest(targets, prices, lag=1, cost=ProportionalCost(0.0), riskless=cash)
        # All in cash until the close of day 1: 1.01, of which half buys stock.
        # Day 2: 0.505 * 1.1 in stock, 0.505 * 1.01 in cash; day 3: cash earns 2 %.
        stock, idle = 0.505 * 1.1, 0.505 * 1.01
        wealth = [1.0, 1.01, stock + idle, stock + idle * 1.02]
        np.testing.assert_allclose(ledger.wealth, wealth, rtol=0, atol=1e-15)
        np.testing.assert_allclose(ledger.interest, [0.0, 0.01, 0.00505, idle * 0.02], atol=1e-15)
        assert (ledger.carry == 0.0).all()
        np.testing.assert_allclose(ledger.gross_returns, ledger.net_returns, atol=0)
        np.testing.assert_array_equal(ledger.excess_returns, ledger.net_returns - cash)
        assert ledger.imbalance(prices).max() < 1e-15

    def test_borrowed_cash_costs_the_rate_and_the_spread(self) -> None:
        """1.5 in a flat stock: 0.5 borrowed at 252 % a year of the margin and 0.1 % a day."""
        prices, targets = np.full((3, 1), 4.0), np.array([[1.5], [NONE], [NONE]])
        margin = Margin(max_gross=2.0, financing_rate=0.252)
        cash = np.array([0.0, 0.002, 0.001])
        ledger = run_backtest(
            targets, prices, lag=0, cost=ProportionalCost(0.0), margin=margin, riskless=cash
        )
        first = 0.5 * (0.001 + 0.002)
        second = (0.5 + first) * (0.001 + 0.001)
        np.testing.assert_allclose(ledger.carry, [0.0, first, second], atol=1e-15)
        np.testing.assert_allclose(ledger.wealth, [1.0, 1.0 - first, 1.0 - first - second])
        assert (ledger.interest == 0.0).all()
        assert ledger.imbalance(prices).max() < 1e-15

    def test_proceeds_of_short_sales_earn_nothing(self) -> None:
        """Long 0.6, short 0.4: of 0.8 in cash 0.4 are proceeds, and 0.4 earn 1 %."""
        prices = np.full((2, 2), 5.0)
        targets = np.array([[0.6, -0.4], [NONE, NONE]])
        margin = Margin(max_gross=2.0, short=True, borrow_rate=0.0)
        ledger = run_backtest(
            targets,
            prices,
            lag=0,
            cost=ProportionalCost(0.0),
            margin=margin,
            riskless=np.array([0.0, 0.01]),
        )
        np.testing.assert_allclose(ledger.interest, [0.0, 0.004], atol=1e-16)
        assert ledger.imbalance(prices).max() < 1e-15

    @pytest.mark.parametrize(
        ("riskless", "words"),
        [
            (np.zeros(3), "each of the 4 rows"),
            (np.array([0.0, np.nan, 0.0, 0.0]), "each of the 4 rows"),
            (np.array([0.1, 0.0, 0.0, 0.0]), r"riskless\[0\] is 0.1"),
        ],
    )
    def test_refused(self, riskless: np.ndarray, words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            run_backtest(np.full((4, 1), 0.5), np.ones((4, 1)), riskless=riskless)


class TestLedger:
    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10_000), most=st.sampled_from([1.0, 1.6]), short=st.booleans())
    def test_it_balances(self, seed: int, most: float, short: bool) -> None:
        rng = np.random.default_rng(seed)
        prices = 10.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, (60, 4)), axis=0))
        prices[40:, 3] = np.nan  # delisted
        targets = np.full(prices.shape, np.nan)
        for row in range(0, 60, 7):
            weights = rng.dirichlet(np.ones(5))[:4] * most
            targets[row] = weights * (rng.choice([-1.0, 1.0], 4) if short else 1.0)
        margin = Margin(max_gross=most, short=short, financing_rate=0.05, borrow_rate=0.02)
        cash = np.append(0.0, rng.uniform(-0.0001, 0.0004, 59))
        ledger = run_backtest(targets, prices, margin=margin, riskless=cash)
        assert ledger.imbalance(prices).max() < 1e-12
        before = np.append(1.0, ledger.wealth[:-1])
        np.testing.assert_allclose(
            ledger.gross_returns - ledger.net_returns, (ledger.costs + ledger.carry) / before
        )

    def test_a_rate_of_zero_is_none(self) -> None:
        rng = np.random.default_rng(1)
        prices = 10.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, (50, 3)), axis=0))
        targets = np.full(prices.shape, np.nan)
        targets[::9] = rng.dirichlet(np.ones(4), len(targets[::9]))[:, :3]
        plain = run_backtest(targets, prices)
        zero = run_backtest(targets, prices, riskless=np.zeros(50))
        np.testing.assert_allclose(zero.wealth, plain.wealth, rtol=1e-14)

    def test_the_overlay_foresees_what_the_backtest_pays(self) -> None:
        """Wealth that the brake watches and wealth of the backtest, with cash and with debt."""
        rng = np.random.default_rng(5)
        prices = np.exp(np.cumsum(rng.normal(0.0, 0.01, (80, 2)), axis=0))
        targets = np.full(prices.shape, np.nan)
        targets[::6] = 0.45
        cash = np.append(0.0, rng.uniform(0.0, 0.001, 79))
        own = run_backtest(targets, prices, lag=0, cost=ProportionalCost(0.0), riskless=cash)
        for most in (0.6, 1.5):
            plan = overlay(
                own.net_returns,
                decided=np.isfinite(targets[:, 0]),
                max_exposure=most,
                lag=0,
                cost_per_side=0.0,
                invested=own.weights.sum(axis=1),
                financing_rate=0.1,
                riskless=cash,
                band=0.0,
            )
            margin = Margin(max_gross=max(1.0, most), financing_rate=0.1)
            held = run_backtest(
                overlay_targets(targets, own.weights, plan, lag=0),
                prices,
                lag=0,
                cost=ProportionalCost(0.0),
                margin=margin,
                riskless=cash,
            )
            np.testing.assert_allclose(plan.wealth, held.wealth, rtol=1e-9)


def _every_sharpe(study: Study) -> dict[str, np.ndarray]:
    """Net returns less those of cash, computed here, by strategy."""
    rate = study.config.costs.cash_rate
    annual = np.full(len(study.dates), rate) if isinstance(rate, float) else None
    if annual is None:
        known = riskless_rate(study.dataset.panel)
        assert known is not None
        annual = known
    cash = np.append(0.0, annual[study.test][:-1] / 252.0)
    return {name: own.net_returns - cash for name, own in study.every_ledger().items()}


@pytest.fixture(scope="module")
def plain() -> Study:
    return study_of(PRICES)


@pytest.fixture(scope="module")
def earning() -> Study:
    return study_of(PRICES, costs={"cash_rate": 0.05}, report={"sensitivity": True})


class TestStudy:
    def test_every_portfolio_earns(self, plain: Study, earning: Study) -> None:
        for name, ledger in earning.every_ledger().items():
            price = earning.dataset.price[earning.test]
            assert ledger.imbalance(price).max() < 1e-10, name
            assert ledger.wealth[-1] > plain.every_ledger()[name].wealth[-1], name
            assert (ledger.interest[1:] > 0.0).any(), name
        before = next(iter(plain.every_ledger().values()))
        assert (before.interest == 0.0).all()
        assert (before.riskless == 0.0).all()

    def test_all_sharpe_ratios_are_above_cash(self, earning: Study) -> None:
        excess = _every_sharpe(earning)
        tables = earning.tables()
        years = earning.dates[earning.test].astype("datetime64[Y]").astype(int) + 1970
        base = excess["Linear"]
        for name, returns in excess.items():
            sharpe = float(performance.sharpe(returns))
            row = tables["table_1"].loc[name]
            assert row["sharpe"] == pytest.approx(sharpe, abs=1e-12)
            assert row["sharpe_low"] < sharpe < row["sharpe_high"]
            assert tables["table_2"].loc[("all", name), "sharpe"] == pytest.approx(sharpe)
            own = tables["by_year"].query("strategy == @name").set_index("year")
            for year in own.index:
                if (years == year).sum() >= 20:
                    wanted = float(performance.sharpe(returns[years == year]))
                    assert own.loc[year, "sharpe"] == pytest.approx(wanted)
            periods = tables["periods"].query("strategy == @name")["sharpe"].to_numpy()
            thirds = [float(performance.sharpe(r)) for r in np.array_split(returns, 3)]
            np.testing.assert_allclose(periods, thirds)
            if name != "Linear":
                gap = sharpe - float(performance.sharpe(base))
                row = tables["table_1_difference"].loc[name]
                assert row["sharpe_difference"] == pytest.approx(gap, abs=1e-12)
        ladder = tables["ladder"]
        assert ladder.loc[("Linear", "+ allocation"), "sharpe"] == pytest.approx(
            float(performance.sharpe(base))
        )
        sweep = tables["cost_sweep"].query("strategy == 'Linear' and cost_per_side == 0.001")
        assert sweep["sharpe"].to_numpy() == pytest.approx([float(performance.sharpe(base))])
        seen = TrialLedger()
        record_run(earning, seen)
        best = {r.model: r.sharpe for r in seen.of(earning.data_hash, ("run",))}
        assert best["Linear"] == pytest.approx(float(performance.sharpe(base)))

    def test_no_table_changes_without_a_rate(self, plain: Study) -> None:
        again = study_of(PRICES, costs={"cash_rate": 0})
        for name, table in plain.tables().items():
            pd.testing.assert_frame_equal(table, again.tables()[name], check_exact=True)

    def test_a_rate_by_date_is_known_the_day_before(self) -> None:
        rate = np.linspace(0.01, 0.06, len(DAYS))
        by_day = dict(zip(DAYS, rate, strict=True))
        frame = PRICES.assign(riskless_rate=PRICES["date"].map(by_day))
        study = study_of(frame, costs={"cash_rate": "data"})
        ledger = study.strategies["Linear"]
        start = study.test.start
        np.testing.assert_allclose(
            ledger.riskless[1:], rate[start : study.test.stop - 1] / 252.0, rtol=1e-15
        )
        later, row = rate.copy(), start + 60
        later[row:] += 0.03
        moved = PRICES.assign(riskless_rate=PRICES["date"].map(dict(zip(DAYS, later, strict=True))))
        other = study_of(moved, costs={"cash_rate": "data"})
        for name, own in study.every_ledger().items():
            wealth = other.every_ledger()[name].wealth
            np.testing.assert_array_equal(own.wealth[:61], wealth[:61], err_msg=name)
        assert (ledger.wealth[61:] != other.strategies["Linear"].wealth[61:]).all()
        excess = _every_sharpe(study)["Linear"]
        assert study.table_1().loc["Linear", "sharpe"] == pytest.approx(
            float(performance.sharpe(excess))
        )

    def test_data_without_a_rate(self) -> None:
        with pytest.raises(DataError, match=r"riskless\.csv.*or give costs\.cash_rate a number"):
            study_of(PRICES, costs={"cash_rate": "data"})
        late = PRICES.assign(riskless_rate=np.where(PRICES["date"] < DAYS[500], np.nan, 0.03))
        with pytest.raises(DataError, match=r"none is known that is at most 92 days old"):
            study_of(late, costs={"cash_rate": "data"})

    @pytest.mark.parametrize("rate", ["prices", 0.7, True])
    def test_settings_out_of_range(self, rate: Any) -> None:
        with pytest.raises(ConfigError, match=r"costs\.cash_rate"):
            study_of(PRICES, costs={"cash_rate": rate})


class TestSideFile:
    def _folder(self, folder: Path, rates: str, name: str = "riskless.csv") -> Path:
        PRICES.drop(columns=["market_index"]).to_csv(folder / "prices.csv", index=False)
        (folder / name).write_text(rates)
        return folder

    def test_it_is_carried_forward(self, tmp_path: Path) -> None:
        rates = f"date,rate\n{day(10)},0.05\n{day(40)},0.02\n"
        rate = riskless_rate(load_panel(self._folder(tmp_path, rates)))
        assert rate is not None
        assert np.isnan(rate[:10]).all()
        assert (rate[10:40] == 0.05).all()
        known = np.isfinite(rate[40:])
        age = (DAYS[40:] - DAYS[40]).astype("timedelta64[D]").astype(int)
        np.testing.assert_array_equal(known, age <= 92)
        assert (rate[40:][known] == 0.02).all()

    @pytest.mark.parametrize(
        ("rates", "words"),
        [
            ("date,rate\n2010-01-04,5.25\n", r"fraction \(5\.25 % is 0\.0525\)"),
            ("date,yield\n2010-01-04,0.05\n", "needs the columns date and rate"),
            ("date,rate\n2010-01-05,0.05\n2010-01-04,0.05\n", "in order"),
            ("date,rate\n2010-01-04,0.05\n2010-01-04,0.04\n", "one row per date"),
            ("date,rate\n1990-01-05,0.05\n", "no rate that is known"),
            ("date,rate\n2010-01-04,high\n", "riskless rate has in row 1"),
        ],
    )
    def test_faults_in_one_sentence(self, tmp_path: Path, rates: str, words: str) -> None:
        with pytest.raises(DataError, match=words):
            load_panel(self._folder(tmp_path, rates))

    def test_a_panel_keeps_it(self) -> None:
        frame = PRICES.assign(riskless_rate=0.04)
        panel = panel_from_long(frame)
        again = panel_from_long(panel_to_long(panel))
        np.testing.assert_array_equal(riskless_rate(panel), riskless_rate(again))
        assert riskless_rate(with_fields(panel, volume=1.0)) is not None
