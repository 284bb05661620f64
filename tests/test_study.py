"""The whole study: causal, reproducible, honest about signal and about none."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skfolio.containers import AssetPanel

from alphakeel.config import (
    MODELS,
    AllocationConfig,
    BoostingConfig,
    CleaningConfig,
    CostConfig,
    FactorConfig,
    LinearConfig,
    NetworkConfig,
    OverlayConfig,
    ReportConfig,
    ScreenConfig,
    StudyConfig,
    TargetConfig,
    WalkForwardConfig,
)
from alphakeel.data.cleaning import clean
from alphakeel.data.simulation import simulate_market
from alphakeel.errors import ConfigError, ConvergenceError, DataError
from alphakeel.factors.screening import FactorScreen
from alphakeel.model_factory import LABELS
from alphakeel.models.linear import LinearForecaster
from alphakeel.models.sequence import LSTMForecaster
from alphakeel.models.tabular import LightGBMForecaster
from alphakeel.pipeline.model_results import DECAY
from alphakeel.pipeline.strategies import _limits_of
from alphakeel.portfolio.constraints import Limits
from alphakeel.portfolio.overlay import Brake
from alphakeel.progress import Progress
from alphakeel.provenance import hash_panel
from alphakeel.results import Study
from alphakeel.stats.newey_west import newey_west_tstat
from alphakeel.study import run_study
from helpers import assert_same_until, scrambled_after
from small_study import DAYS, PRICES, assert_finite_tables, day, study_of, without_index

QUICK = StudyConfig(
    models=("linear", "lstm"),
    network=NetworkConfig(hidden=8, max_steps=12, n_seeds=2, burn_in=8, chunk=26),
    walk_forward=WalkForwardConfig(refit_every=150),
    report=ReportConfig(n_bootstrap=100),
)


@pytest.fixture(scope="module")
def panel() -> AssetPanel:
    return simulate_market(n_assets=24, n_dates=1100, seed=3).panel


@pytest.fixture(scope="module")
def study(panel: AssetPanel) -> Study:
    return run_study(panel, QUICK, name="simulated")


class TestNoLookAhead:
    def test_scrambling_the_future_moves_nothing_in_the_past(
        self, panel: AssetPanel, study: Study
    ) -> None:
        row = study.test.start + 230  # inside the second fold's test rows
        other = run_study(scrambled_after(panel, row, seed=1, sigma=3.0), QUICK)
        past = study.decisions <= row
        for name, model in study.models.items():
            np.testing.assert_array_equal(
                model.scores[past], other.models[name].scores[past], err_msg=name
            )
            assert np.isfinite(model.scores[past]).any()
        days = slice(0, row - study.test.start + 1)
        names = ("weights", "trades", "costs", "net_returns", "wealth", "cash")
        assert_same_until(study, other, row, *names)
        for label, ledger in study.portfolios.scores_only.items():
            np.testing.assert_array_equal(
                ledger.weights[days], other.portfolios.scores_only[label].weights[days]
            )
        for label, forecast in study.portfolios.value_at_risk.items():
            again = other.portfolios.value_at_risk[label]
            np.testing.assert_array_equal(forecast.var[days], again.var[days], err_msg=label)
        for rule, labels in study.regimes.causal.items():
            np.testing.assert_array_equal(
                labels[: row + 1], other.regimes.causal[rule][: row + 1], err_msg=rule
            )
        for label, plan in study.portfolios.overlays.items():
            np.testing.assert_array_equal(
                plan.exposure[days], other.portfolios.overlays[label].exposure[days], err_msg=label
            )
        assert not np.array_equal(
            study.strategies["LSTM"].wealth, other.strategies["LSTM"].wealth
        ), "the scrambled future must show after the cut, or this test proves nothing"

    def test_training_labels_end_before_the_test(self, study: Study) -> None:
        reach = study.config.target.lag + max(study.config.target.horizons)
        for fold in study.folds:
            last = int(np.searchsorted(study.dates, fold.train[1]))
            first = int(np.searchsorted(study.dates, fold.test[0]))
            assert last + reach < first

    def test_scores_exist_on_test_rows_only(self, study: Study) -> None:
        before = study.decisions < study.test.start
        for model in study.models.values():
            assert np.isnan(model.scores[before]).all()
            assert np.isfinite(model.scores[~before]).any(axis=1).all()

    @pytest.mark.parametrize(
        ("model", "changes"),
        [
            ("lstm_limited", {}),
            ("linear", {"allocation": AllocationConfig(volatility="network")}),
            (
                "linear",
                {
                    "allocation": AllocationConfig(
                        method="mean_cvar", var_limit=0.02, benchmarks=("hrp",), window=120
                    ),
                    "costs": CostConfig(preset="us"),
                },
            ),
        ],
    )
    def test_risk_models_do_not_look_ahead_either(
        self, panel: AssetPanel, model: str, changes: dict[str, Any]
    ) -> None:
        """Limits in the training, the risk network behind weights, an optimiser in a market."""
        config = replace(
            QUICK,
            models=(model,),
            network=replace(QUICK.network, n_seeds=1),
            walk_forward=WalkForwardConfig(refit_every=300),
            **changes,
        )
        name = {"lstm_limited": "LSTM with limits", "linear": "Linear"}[model]
        first = run_study(panel, config)
        row = first.test.start + 330
        second = run_study(scrambled_after(panel, row, seed=2, sigma=3.0), config)
        days = slice(0, row - first.test.start + 1)
        before, after = first.strategies[name], second.strategies[name]
        np.testing.assert_array_equal(before.weights[days], after.weights[days])
        assert (before.weights[days].sum(axis=1) > 0).any()
        assert not np.array_equal(before.weights, after.weights)


class TestReproducible:
    def test_to_the_bit_whatever_the_number_of_jobs(self, panel: AssetPanel, study: Study) -> None:
        again = run_study(panel, replace(QUICK, jobs=1))
        for name, model in study.models.items():
            np.testing.assert_array_equal(model.scores, again.models[name].scores)
        for name, ledger in study.every_ledger().items():
            np.testing.assert_array_equal(ledger.wealth, again.every_ledger()[name].wealth)
        for name, table in study.tables().items():
            assert table.equals(again.tables()[name]), name

    def test_another_seed_gives_another_network_and_the_same_benchmarks(
        self, panel: AssetPanel, study: Study
    ) -> None:
        other = run_study(panel, replace(QUICK, seed=1))
        assert not np.array_equal(
            study.models["lstm"].scores, other.models["lstm"].scores, equal_nan=True
        )
        np.testing.assert_array_equal(
            study.strategies["Linear"].wealth, other.strategies["Linear"].wealth
        )

    def test_hash_knows_one_changed_cell(self, panel: AssetPanel) -> None:
        other = panel.copy(deep=True)
        values = other["adj_close"].copy()
        values[5, np.flatnonzero(np.isfinite(values[5]))[0]] *= 1.01
        other["adj_close"] = values
        assert hash_panel(panel) == hash_panel(panel.copy(deep=True)) != hash_panel(other)

    def test_the_panel_is_not_touched(self, panel: AssetPanel) -> None:
        before = hash_panel(panel)
        run_study(panel, replace(QUICK, models=("linear",)))
        assert hash_panel(panel) == before


class TestTables:
    def test_strategies_and_intervals(self, study: Study) -> None:
        table = study.table_1()
        without_overlay = ["Equal weight", "Minimum variance", "Linear", "LSTM"]
        assert list(table.index) == [
            *without_overlay,
            *(f"{name} + overlay" for name in without_overlay),
        ]
        for what in ("sharpe", "max_drawdown", "var_95"):
            assert (table[f"{what}_low"] <= table[f"{what}_high"]).all()
        assert ((table.max_drawdown > 0) & (table.max_drawdown < 1)).all()

    def test_attribution_leads_from_equal_weight_to_the_overlay(self, study: Study) -> None:
        steps_of, table = study.tables()["ladder"], study.table_1()
        names = ["equal weight", "+ scores", "+ allocation", "+ overlay"]
        for model in ("Linear", "LSTM"):
            steps = steps_of.loc[model]
            assert list(steps.index) == names
            assert steps.sharpe.iloc[0] == table.sharpe["Equal weight"]
            assert steps.sharpe.iloc[2] == table.sharpe[model]
            assert steps.sharpe.iloc[3] == table.sharpe[f"{model} + overlay"]
            gained = steps.sharpe_added.iloc[1:].sum()
            assert gained == pytest.approx(steps.sharpe.iloc[-1] - steps.sharpe.iloc[0])
        parts = study.tables()["attribution"].loc["LSTM"]
        for figure in ("annual_return", "sharpe", "max_drawdown", "var_95"):
            assert parts[figure][names].sum() == pytest.approx(parts[figure]["total"])

    def test_scores_without_allocation_are_equal_weights(self, study: Study) -> None:
        scored = study.portfolios.scores_only["LSTM"]
        undisturbed = (scored.blocked == 0) & (scored.forced_sales == 0)
        on = study.decisions[study.decisions >= study.test.start] - study.test.start + 1
        on = [row for row in on if row < len(undisturbed) and undisturbed[row]]
        assert len(on) > 50
        held = [row[row > 0] for row in scored.weights[on]]
        assert all(np.ptp(row) < 1e-12 for row in held)
        assert {len(row) for row in held} == {math.ceil(0.25 * study.asset_names.size)}

    def test_the_seeds_stand_beside_their_mean(self, study: Study) -> None:
        seeds = study.tables()["seeds"]
        assert list(zip(seeds.model, seeds.seed, strict=True)) == [("LSTM", 0), ("LSTM", 1)]
        assert seeds.sharpe.nunique() == 2
        alone = run_study(
            simulate_market(n_assets=24, n_dates=1100, seed=3).panel,
            replace(QUICK, network=replace(QUICK.network, n_seeds=1)),
        )
        first, only = seeds.iloc[0], alone.table_1().loc["LSTM"]
        for figure in ("annual_return", "sharpe", "max_drawdown", "var_95"):
            assert first[figure] == pytest.approx(only[figure], rel=1e-6)
        ic = alone.tables()["ic"].rank_ic["LSTM", 20]
        assert first.rank_ic == pytest.approx(ic, rel=1e-6)

    def test_costs_only_ever_take(self, study: Study) -> None:
        sweep = study.tables()["cost_sweep"]
        assert set(sweep.strategy) == set(study.every_ledger())
        for _, runs in sweep.groupby("strategy"):
            assert runs.annual_return.is_monotonic_decreasing
            assert runs.cost_per_side.is_monotonic_increasing
        paid = sweep.set_index(["strategy", "cost_per_side"]).annual_return["LSTM", 0.001]
        assert paid == pytest.approx(study.table_1().annual_return["LSTM"])

    def test_decay_agrees_with_the_scores_own_horizons(self, study: Study) -> None:
        ic = study.tables()["ic"].rank_ic
        decay = study.tables()["decay"].set_index(["model", "horizon"]).rank_ic
        for model, horizon in itertools.product(("Linear", "LSTM"), (5, 20)):
            assert decay[model, horizon] == pytest.approx(ic[model, horizon])

    def test_the_overlay_is_the_same_rule_for_everyone(self, study: Study) -> None:
        for name, plan in study.portfolios.overlays.items():
            assert ((plan.exposure >= 0) & (plan.exposure <= 1)).all(), name
            plain, held = study.strategies[name], study.overlaid[name]
            assert held.weights.sum(axis=1).mean() < plain.weights.sum(axis=1).mean(), name

    def test_every_table_has_rows(self, study: Study) -> None:
        for name, table in study.tables().items():
            assert len(table) > 0 or name in (
                "left_out",
                "limits",
                "decisions",
                "combined",
                "choices",
                "compositions",
            ), name

    def test_verdict_on_every_factor_in_every_fold(self, study: Study) -> None:
        for fold in study.folds:
            kept = set(fold.verdicts.loc[fold.verdicts.kept, "factor"])
            assert kept == set(fold.selected["linear"])
            given = set(fold.verdicts.loc[fold.verdicts.network, "factor"])
            assert given == set(fold.selected["lstm"])
            assert fold.verdicts.verdict.str.len().min() > 5

    def test_progress_rises_to_one(self, panel: AssetPanel) -> None:
        seen: list[Progress] = []
        run_study(panel, replace(QUICK, models=("linear",)), on_progress=seen.append)
        shares = [p.share for p in seen]
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1.0)
        assert {
            "cleaning",
            "factors",
            "screening",
            "fitting",
            "explaining",
            "forecasting risk",
            "backtest",
            "stress tests",
        } == {p.stage for p in seen}


class TestSignal:
    """What the simulator plants is found, and nothing where nothing is planted."""

    CONFIG = replace(
        QUICK,
        target=TargetConfig(horizons=(5,)),
        network=NetworkConfig(hidden=32, max_steps=120, n_seeds=1),
        walk_forward=WalkForwardConfig(refit_every=1000),
    )

    def test_nonlinear_signal_is_seen_by_the_network_only(self) -> None:
        planted = simulate_market(n_assets=120, n_dates=1900, seed=6, signal=0.2, nonlinear=1.0)
        study = run_study(planted.panel, self.CONFIG)
        daily = {name: model.rank_ic[:, 0] for name, model in study.models.items()}
        gain = newey_west_tstat(daily["lstm"] - daily["linear"])
        assert gain.t > 3.0
        assert np.nanmean(daily["lstm"]) > 2.0 * np.nanmean(daily["linear"])
        assert study.tables()["ic"].loc[("LSTM", 5), "rank_ic_low"] > 0.0
        paired = study.tables()["ic_differences"].loc[("LSTM", 5)]
        assert paired["rank_ic_difference"] == pytest.approx(gain.mean)
        assert paired["rank_ic_difference_low"] > 0.0

    def test_no_signal_no_rank_ic(self) -> None:
        nothing = simulate_market(n_assets=100, n_dates=1800, seed=6, signal=0.0)
        table = run_study(nothing.panel, self.CONFIG).tables()["ic"]
        assert ((table.rank_ic_low < 0) & (table.rank_ic_high > 0)).all(), table


def test_every_model_goes_through_the_study() -> None:
    """Networks and references beside the benchmark: scores on every test row, a strategy each."""
    models = tuple(m for m in MODELS if m != "lightgbm" or find_spec("lightgbm"))
    models = (*models, "combined")
    config = replace(
        QUICK,
        models=models,
        network=replace(QUICK.network, max_steps=3, evaluate_every=3, n_seeds=1),
        walk_forward=WalkForwardConfig(refit_every=1000),
    )
    panel = simulate_market(n_assets=12, n_dates=900, seed=1).panel
    study = run_study(panel, config)
    assert list(study.models) == list(models)
    labels = [LABELS[model] for model in models]
    assert list(study.strategies) == ["Equal weight", "Minimum variance", *labels]
    tested = study.decisions >= study.test.start
    for name, model in study.models.items():
        assert np.isfinite(model.scores[tested]).any(axis=1).all(), name
        if name == "combined":
            assert name not in study.folds[0].selected
            continue
        given = study.folds[0].selected["linear" if name == "linear" else "lstm"]
        assert study.folds[0].selected[name] == given


def test_settings_and_estimators_agree_on_defaults() -> None:
    """A default lives in the settings and in the estimator: they must not drift apart."""
    for keywords, known in (
        (NetworkConfig().keywords(without=("rows",)), LSTMForecaster().get_params()),
        (LinearConfig().keywords(), LinearForecaster().get_params()),
        (BoostingConfig().keywords(), LightGBMForecaster().get_params()),
        (ScreenConfig().keywords(without=("networks_keep_weak",)), FactorScreen().get_params()),
        (CleaningConfig().keywords(), clean.__kwdefaults__),
        (OverlayConfig().keywords(prefix="brake_"), asdict(Brake())),
    ):
        for name, value in keywords.items():
            assert known[name] == value, name


def test_every_limit_of_the_settings_is_a_limit_of_the_optimiser() -> None:
    chosen = {
        "weight_cap": 0.2, "volatility_limit": 0.1, "var_limit": 0.01, "cvar_limit": 0.02,
        "drawdown_limit": 0.3, "sector_limit": 0.4, "turnover_limit": 0.5, "max_names": 6,
        "invested": 0.7, "tracking_error_limit": 0.03, "active_weight_limit": 0.02,
        "style_limit": 0.2,
    }  # fmt: skip
    config = StudyConfig(allocation=AllocationConfig(**chosen, method="enhanced_index"))
    assert _limits_of(config) == Limits(**chosen)
    assert set(chosen) == {f.name for f in fields(Limits)} - {"confidence", "neutral", "gross"}
    absolute = _limits_of(StudyConfig(allocation=AllocationConfig(**chosen, method="mean_cvar")))
    assert absolute.tracking_error_limit is None  # it has no benchmark


class TestBadRequests:
    def test_too_little_history(self, panel: AssetPanel) -> None:
        early = replace(
            QUICK,
            walk_forward=replace(QUICK.walk_forward, test_start=panel.observations[100].item()),
        )
        with pytest.raises(DataError, match="100 days precede the test start"):
            run_study(panel, early)

    def test_test_window_outside_the_data(self, panel: AssetPanel) -> None:
        import datetime as dt

        late = replace(
            QUICK, walk_forward=replace(QUICK.walk_forward, test_start=dt.date(2050, 1, 1))
        )
        with pytest.raises(ConfigError, match="the data run from"):
            run_study(panel, late)

    def test_unknown_factor(self, panel: AssetPanel) -> None:
        with pytest.raises(ConfigError, match="did you mean"):
            run_study(panel, replace(QUICK, factors=FactorConfig(exclude=("reversal_55",))))

    def test_a_fit_that_diverges_names_fold_factor_and_stock(self, panel: AssetPanel) -> None:
        explosive = replace(
            QUICK, models=("lstm",), network=replace(QUICK.network, learning_rate=1.0)
        )
        object.__setattr__(explosive.network, "learning_rate", 1e30)
        with pytest.raises(ConvergenceError, match=r"LSTM, fold \d of \d, factor \w+, stock \w+"):
            run_study(panel, explosive)


def test_positions_that_end_with_their_stock_are_counted() -> None:
    gone = (PRICES["ticker"] == PRICES["ticker"].iloc[0]) & (PRICES["date"] >= DAYS[500])
    study = study_of(PRICES[~gone])
    held = study.strategies["Equal weight"].forced_sales.sum()
    assert held == 1
    (note,) = (said for said in study.notes if said.startswith("Positions whose stock ended"))
    assert "1 of Equal weight" in note
    assert not any("stock ended" in said for said in study_of(PRICES).notes)


class TestIncompleteIndex:
    @pytest.mark.parametrize(
        ("missing", "beta"),
        [(DAYS[:100], True), (DAYS[480:483], False), (DAYS[:400], False)],
        ids=["starts late", "gap in the test", "starts in the test"],
    )
    def test_what_needs_the_whole_index_is_left_out_and_said(
        self, missing: Any, beta: bool, tmp_path: Path
    ) -> None:
        study = study_of(without_index(lambda date: date.isin(missing)))
        assert study.regimes is None
        assert np.isfinite(study.table_1()["beta"]).all() == beta
        note = f"no value on {len(missing)} of {len(DAYS)} days, the first {str(missing[0])[:10]}"
        assert any(note in said for said in study.notes)
        assert_finite_tables(study, tmp_path)

    def test_index_that_never_moves(self, tmp_path: Path) -> None:
        study = study_of(PRICES.assign(market_index=100.0))
        assert "factor_shocks" not in study.tables()
        assert_finite_tables(study, tmp_path)

    def test_market_that_never_turns(self, tmp_path: Path) -> None:
        study = study_of(PRICES, report={"zigzag": 0.5})
        assert study.regimes is not None
        assert not len(study.regimes.points.rows)
        assert study.tables()["regime_lags"].empty
        assert_finite_tables(study, tmp_path)


class TestShortTests:
    @pytest.mark.parametrize("last", [14, 30, 60])
    def test_last_days_of_the_data(self, last: int, tmp_path: Path) -> None:
        study = study_of(PRICES, walk_forward={"test_start": day(-last)})
        decay, lag = study.tables()["decay"].set_index("horizon"), study.config.target.lag
        for horizon in DECAY:
            decided = study.decisions[study.plan.tested]
            known = int((decided + lag + horizon < study.test.stop).sum())
            assert np.isfinite(decay.loc[horizon, "rank_ic"]) == (known >= 2), horizon
        assert_finite_tables(study, tmp_path)

    @pytest.mark.parametrize("left", [10, 400])
    def test_confirmation_of_a_few_days_and_of_all(self, left: int, tmp_path: Path) -> None:
        study = study_of(PRICES, report={"confirm_from": day(-left)})
        assert len(study.tables()["confirm_table_1"]) == len(study.every_ledger())
        assert_finite_tables(study, tmp_path)


def test_cash_has_no_share_of_its_risk(tmp_path: Path) -> None:
    study = study_of(PRICES, allocation={"method": "mean_variance", "strength": 0.0})
    assert not study.strategies["Linear"].net_returns.any()
    risk = study.tables()["value_at_risk"].loc["Linear"]
    assert risk["days"] == 0
    assert np.isnan(risk[["rate", "kupiec_p", "mean_var"]].to_numpy(dtype=float)).all()
    change = study.tables()["table_1_difference"]
    assert change[["max_drawdown_change", "var_95_change"]].isna().all().all()
    assert_finite_tables(study, tmp_path)
