"""The search: blind to the test years, resumable, honest about how often it looked."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from skfolio.containers import AssetPanel

from alphakeel.config import (
    AllocationConfig,
    LimitsConfig,
    NetworkConfig,
    StudyConfig,
    TargetConfig,
    WalkForwardConfig,
    config_from_dict,
    config_to_toml,
    load_config,
)
from alphakeel.data.simulation import simulate_market
from alphakeel.errors import ConfigError, DataError
from alphakeel.pipeline.dataset import prepare_dataset
from alphakeel.pipeline.fitting import RISK_HORIZON, forecast_volatility
from alphakeel.pipeline.model_results import Forecast
from alphakeel.pipeline.plan import Plan
from alphakeel.provenance import hash_panel
from alphakeel.report import findings
from alphakeel.selection.cross_validation import limit_excess, make_splits, trade_block
from alphakeel.selection.deflation import Deflation
from alphakeel.selection.search import tune
from alphakeel.selection.search_database import lock_folder
from alphakeel.selection.search_space import (
    Choice,
    SearchPlan,
    Space,
    Span,
    Tuning,
    default_space,
    sample_point,
    settings_at,
    write_tuning,
)
from alphakeel.selection.trial_log import RUNS, TrialLedger, TrialRecord, record_run
from alphakeel.selection.trial_log import TestSetUse as Use
from alphakeel.stats import performance
from alphakeel.study import run_study
from helpers import run_command, scrambled_after, tiny_config, write_prices

LINEAR = SearchPlan(model="linear", n_trials=6, blocks=3)
TINY = StudyConfig(
    network=NetworkConfig(hidden=3, max_steps=3, burn_in=4, chunk=12, evaluate_every=2)
)
TINY_SPACE: Space = (
    Choice("network.hidden", (2, 3)),
    Span("network.learning_rate", 1e-3, 1e-1, log=True),
)


@pytest.fixture(scope="module")
def panel() -> AssetPanel:
    return simulate_market(n_assets=14, n_dates=900, seed=3, signal=0.1).panel


@pytest.fixture(scope="module")
def linear(panel: AssetPanel) -> Tuning:
    return tune(panel, plan=LINEAR)


class TestTestYears:
    @pytest.mark.parametrize("splitter", ["kfold", "combinatorial"])
    def test_scrambling_them_changes_no_number(self, panel: AssetPanel, splitter: str) -> None:
        plan = replace(LINEAR, n_trials=3, splitter=splitter, held_out=1)
        days = Plan.of(panel, StudyConfig()).test
        other = scrambled_after(panel, days.start - 1, how="fill")
        assert hash_panel(other) != hash_panel(panel)
        before, after = TrialLedger(), TrialLedger()
        found, again = (
            tune(p, plan=plan, ledger=ledger) for p, ledger in ((panel, before), (other, after))
        )
        pd.testing.assert_frame_equal(found.trials, again.trials)
        assert found.config == again.config
        for one, two in zip(before.of(found.data_hash), after.of(again.data_hash), strict=True):
            np.testing.assert_array_equal(one.returns, two.returns)

    def test_the_last_validation_day_comes_before_the_test(self, linear: Tuning) -> None:
        assert linear.validated[1] < str(linear.config.walk_forward.test_start)


AS_STUDIED = {
    "default": {},
    "optimised": {"allocation": {"method": "mean_cvar", "window": 120}},
    "short": {"allocation": {"neutral": "dollar"}},
    "network volatility": {"allocation": {"volatility": "network"}, "network": {"max_steps": 2}},
    "market rules": {"costs": {"preset": "us", "wealth": 1e9}},
    "tight overlay": {"overlay": {"target_volatility": 0.03, "bear_exposure": 0.2}},
}


class TestTradedAsStudied:
    """A search judges the portfolio that the study trades, whatever the settings."""

    @pytest.mark.parametrize("case", AS_STUDIED)
    def test_a_block_is_traded_as_the_test_is(self, panel: AssetPanel, case: str) -> None:
        config = tiny_config(**AS_STUDIED[case])
        study = run_study(panel, config)
        dataset, block = study.dataset, study.plan.tested
        forecast = Forecast(study.models["linear"].scores, None)
        volatility = forecast_volatility(dataset, study.plan)[block]
        ewma = np.array_equal(volatility, dataset.volatility[block], equal_nan=True)
        assert ewma != (case == "network volatility")
        for overlay, ledger in (
            (False, study.strategies["Linear"]),
            (True, study.overlaid["Linear"]),
        ):
            own = trade_block(dataset, forecast, volatility, block, study.config, overlay=overlay)
            assert own.days == study.test
            np.testing.assert_array_equal(own.returns, ledger.net_returns)
            np.testing.assert_array_equal(own.turnover, ledger.turnover)

    @pytest.mark.parametrize("case", ["optimised", "short", "market rules", "tight overlay"])
    def test_what_the_settings_say_changes_the_value_of_a_trial(
        self, panel: AssetPanel, case: str
    ) -> None:
        overlay = case == "tight overlay"
        plan = replace(LINEAR, n_trials=1, objective="sharpe", overlay=overlay)
        base = tune(panel, plan=plan).trials["value"][0]
        other = tune(panel, config_from_dict(AS_STUDIED[case]), plan).trials["value"][0]
        assert other != base

    def test_the_overlay_is_evaluated_on_request(self, panel: AssetPanel) -> None:
        plan = replace(LINEAR, n_trials=1, objective="sharpe")
        ledger = TrialLedger()
        without = tune(panel, plan=plan, ledger=ledger).trials["value"][0]
        under = tune(panel, plan=replace(plan, overlay=True), ledger=ledger).trials["value"][0]
        assert under != without
        assert len(ledger.of(hash_panel(panel))) == 2  # no trial stands for the other


class TestSplits:
    def test_labels_of_the_risk_network_are_purged_too(self, panel: AssetPanel) -> None:
        near = replace(StudyConfig().target, horizons=(1,))
        config = replace(
            StudyConfig(), target=near, allocation=AllocationConfig(volatility="network")
        )
        study = Plan.of(panel, config)
        dataset = prepare_dataset(panel[: study.test.start].to_panel(), study.before_test())
        for split in make_splits(dataset, study.config, LINEAR):
            train, first = dataset.decisions[split.train], dataset.decisions[split.test[0].start]
            ahead = train[train < first]
            assert (ahead + RISK_HORIZON < first).all()

    @pytest.mark.parametrize(
        ("plan", "n_splits"),
        [
            (SearchPlan(model="linear", blocks=4), 4),
            (SearchPlan(model="linear", blocks=3, splitter="combinatorial", held_out=1), 3),
        ],
    )
    def test_no_training_label_meets_a_validation_label(
        self, panel: AssetPanel, plan: SearchPlan, n_splits: int
    ) -> None:
        study = Plan.of(panel, StudyConfig())
        cut, config = panel[: study.test.start].to_panel(), study.config
        dataset = prepare_dataset(cut, study.before_test())
        splits = make_splits(dataset, config, plan)
        assert len(splits) == n_splits
        lag, longest = config.target.lag, max(config.target.horizons)
        tested = np.zeros(len(dataset.decisions))
        for split in splits:
            train = dataset.decisions[split.train]
            for block in split.test:
                tested[block] += 1
                rows = dataset.decisions[block]
                ahead = train[train < rows[0]]
                assert (ahead + lag + longest <= rows[0] + lag).all()
                behind = train[train > rows[-1]]
                assert (behind >= rows[-1] + lag + longest).all()
                assert not np.isin(rows, train).any()
        assert len(set(tested[dataset.first :])) == 1

    def test_a_day_evaluated_twice_counts_once(self) -> None:
        ledger = TrialLedger()
        target = TargetConfig(horizons=(5,))
        plan = replace(LINEAR, n_trials=1, splitter="combinatorial", held_out=2, blocks=4)
        config = StudyConfig(target=target, walk_forward=WalkForwardConfig(embargo=0))
        long = simulate_market(n_assets=12, n_dates=1100, seed=3).panel
        found = tune(long, config, plan, ledger=ledger)
        (record,) = ledger.of(found.data_hash)
        assert len(record.split_rank_ic) == 6
        days = np.asarray(long.observations, "datetime64[D]")
        first, last = (np.searchsorted(days, np.datetime64(d)) for d in found.validated)
        assert len(record.returns) == last - first + 1
        assert np.isfinite(record.returns).all()

    def test_too_few_training_rows_are_refused(self, panel: AssetPanel) -> None:
        plan = replace(LINEAR, splitter="combinatorial", held_out=2)
        with pytest.raises(ConfigError, match="decisions to train on"):
            tune(panel, plan=plan)


class TestResumption:
    def test_a_search_in_two_runs_ends_as_one_in_one(
        self, panel: AssetPanel, linear: Tuning, tmp_path: Path
    ) -> None:
        tune(panel, plan=replace(LINEAR, n_trials=2), folder=tmp_path)
        found = tune(panel, plan=LINEAR, folder=tmp_path)
        ours, theirs = (t.trials.drop(columns="reason") for t in (found, linear))
        pd.testing.assert_frame_equal(ours, theirs)
        assert found.deflation == linear.deflation

    def test_a_killed_trial_is_proposed_again(
        self, panel: AssetPanel, linear: Tuning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from alphakeel.selection import cross_validation

        calls = 0
        honest = cross_validation.fit_and_score

        def dying(*args: object) -> object:
            nonlocal calls
            calls += 1
            if calls == 8:
                raise KeyboardInterrupt
            return honest(*args)

        monkeypatch.setattr(cross_validation, "fit_and_score", dying)
        with pytest.raises(KeyboardInterrupt):
            tune(panel, StudyConfig(jobs=1), LINEAR, folder=tmp_path)
        found = tune(panel, StudyConfig(jobs=1), LINEAR, folder=tmp_path)
        assert calls > 8
        columns = ["state", "value", "linear.method", "linear.alpha"]
        pd.testing.assert_frame_equal(found.trials[columns], linear.trials[columns])

    def test_the_number_of_trials_counts_earlier_runs(
        self, panel: AssetPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = tune(panel, plan=replace(LINEAR, n_trials=2), folder=tmp_path)
        monkeypatch.setattr(
            "alphakeel.selection.cross_validation.fit_and_score", None
        )  # nothing is fitted
        again = tune(panel, plan=replace(LINEAR, n_trials=2), folder=tmp_path)
        pd.testing.assert_frame_equal(first.trials, again.trials)

    def test_jobs_change_no_number(self, panel: AssetPanel, linear: Tuning) -> None:
        alone_ = tune(panel, StudyConfig(jobs=1), LINEAR)
        pd.testing.assert_frame_equal(alone_.trials, linear.trials)

    def test_one_search_at_a_time(self, panel: AssetPanel, tmp_path: Path) -> None:
        with lock_folder(tmp_path), pytest.raises(DataError, match="another search is at work"):
            tune(panel, plan=LINEAR, folder=tmp_path)

    def test_a_file_that_is_no_study_is_refused(self, panel: AssetPanel, tmp_path: Path) -> None:
        (tmp_path / "study.db").write_text("not a database, however long it may be" * 20)
        with pytest.raises(DataError, match=r"study\.db cannot be used"):
            tune(panel, plan=LINEAR, folder=tmp_path)


class TestSearch:
    def test_networks_are_searched_and_the_best_is_the_best(self, panel: AssetPanel) -> None:
        plan = SearchPlan(model="lstm", n_trials=4, blocks=2, pruner="none")
        found = tune(panel, TINY, plan, space=TINY_SPACE)
        assert found.trials["state"].eq("complete").all()
        assert found.best["value"] == found.trials["value"].max()
        params = found.best["params"]
        assert found.config.network.hidden == params["network.hidden"]
        assert found.config.network.learning_rate == params["network.learning_rate"]
        assert found.config.network.n_seeds == TINY.network.n_seeds
        assert found.config.models == ("linear", "lstm")

    def test_the_recorded_sharpe_is_that_of_the_recorded_returns(self, panel: AssetPanel) -> None:
        ledger = TrialLedger()
        found = tune(panel, plan=replace(LINEAR, n_trials=2), ledger=ledger)
        records = ledger.of(found.data_hash)
        assert len(records) == 2
        for record in records:
            returns = np.array(record.returns)
            assert record.sharpe == pytest.approx(float(performance.sharpe(returns)))
            assert record.rank_ic == pytest.approx(np.mean(record.split_rank_ic))

    def test_under_limits_a_trial_that_keeps_them_wins(self, panel: AssetPanel) -> None:
        loose = LimitsConfig(volatility=2.0, max_drawdown=0.99, var_95=0.5)
        plan = replace(LINEAR, n_trials=4, objective="sharpe")
        found = tune(panel, StudyConfig(limits=loose), plan)
        assert found.best["feasible"]
        assert found.best["value"] == found.trials["value"].max()
        tight = LimitsConfig(volatility=0.001, max_drawdown=None, var_95=None)
        broken = tune(panel, StudyConfig(limits=tight), plan)
        assert not broken.best["feasible"]
        complete = broken.trials[broken.trials["state"] == "complete"].set_index("number")
        assert complete["max_excess"].idxmin() == broken.best["number"]
        assert "No trial kept all limits" in " ".join(broken.describe())

    def test_poor_trials_are_pruned(self, panel: AssetPanel) -> None:
        # One step at no rate to speak of against fits that learn: hopeless from the first split.
        space: Space = (Span("linear.alpha", 1e-3, 1e3, log=True),)
        config = replace(StudyConfig(), linear=replace(StudyConfig().linear, method="ridge"))
        found = tune(panel, config, replace(LINEAR, n_trials=16), space=space)
        pruned = found.trials[found.trials["state"] == "pruned"]
        assert len(pruned) > 0
        assert found.trials["state"].iloc[:5].eq("complete").all()
        assert found.deflation.n_trials == 16
        assert found.deflation.n_compared == 16 - len(pruned)

    def test_a_trial_known_from_the_ledger_is_not_fitted_again(
        self, panel: AssetPanel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ledger, plan = TrialLedger(), replace(LINEAR, pruner="none")
        first = tune(panel, plan=plan, ledger=ledger)
        monkeypatch.setattr("alphakeel.selection.cross_validation.fit_and_score", None)
        again = tune(panel, plan=plan, ledger=ledger)
        assert again.trials["reason"].eq("known from the ledger").all()
        assert again.best == first.best
        assert again.deflation.n_trials == first.deflation.n_trials

    def test_a_setting_that_cannot_be_fitted_fails_and_the_search_goes_on(
        self, panel: AssetPanel
    ) -> None:
        space: Space = (Choice("linear.method", ("pooled", "fama_macbeth")),)
        found = tune(panel, plan=LINEAR, space=space)
        failed = found.trials[found.trials["state"] == "failed"]
        assert failed["linear.method"].eq("fama_macbeth").all()
        assert failed["reason"].str.contains("Fama-MacBeth").all()
        only: Space = (Choice("linear.method", ("fama_macbeth",)),)
        with pytest.raises(ConfigError, match="no trial of linear could be fitted: Fama-MacBeth"):
            tune(panel, plan=LINEAR, space=only)

    def test_progress_tells_the_best_so_far(self, panel: AssetPanel) -> None:
        told = []
        tune(panel, plan=replace(LINEAR, n_trials=3), on_progress=told.append)
        assert [p.share for p in told] == pytest.approx([0, 1 / 3, 2 / 3, 1])
        assert "best Rank IC" in told[-1].detail

    @pytest.mark.parametrize("pruner", ["hyperband", "none"])
    def test_other_pruners_search_too(self, panel: AssetPanel, pruner: str) -> None:
        found = tune(panel, plan=replace(LINEAR, n_trials=3, pruner=pruner))
        assert len(found.trials) == 3


class TestSpace:
    @pytest.mark.parametrize(
        "model", ["linear", "lstm", "gru", "attention", "cnn_lstm", "mlp", "lstm_limited"]
    )
    def test_every_point_of_a_default_space_is_a_valid_setting(self, model: str) -> None:
        rng = np.random.default_rng(0)
        config = StudyConfig()
        for n_rows in (30, 500):
            space = default_space(model, config, n_rows=n_rows, breadth=100)
            for _ in range(40):
                point = sample_point(space, rng)
                settings = settings_at(config, point)
                if model != "linear":
                    assert settings.network.burn_in + 8 <= n_rows

    def test_scaled_limits_are_tighter_and_absent_ones_stay_absent(self) -> None:
        scaled = settings_at(StudyConfig(), {"limits.scale": 0.5}).limits
        assert scaled.max_drawdown == pytest.approx(0.1)
        assert scaled.cvar_95 is None

    def test_a_name_that_is_no_setting_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"network\.hiden"):
            settings_at(StudyConfig(), {"network.hiden": 3})


def record(key: str, *, complete: bool = True, data: str = "d", n_days: int = 3) -> TrialRecord:
    returns = [0.01, float("nan"), -0.02, 0.03][:n_days]
    return TrialRecord(
        key, data, "tune", "linear", {"linear.alpha": 1.0}, complete, [0.1], 0.1, 1.0, "2020-01-01",
        "2020-01-03", returns, {"volatility": -0.1},
    )  # fmt: skip


class TestLedger:
    def test_trials_survive_the_process_and_are_told_apart_by_data(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "trials.jsonl"
        ledger = TrialLedger(path)
        for key in ("a", "b", "a"):
            ledger.add(record(key))
        ledger.add(record("c", data="other"))
        again = TrialLedger(path)
        assert (again.count("d"), again.count("other"), again.count("none")) == (2, 1, 0)
        assert len(path.read_text().splitlines()) == 3
        np.testing.assert_array_equal(again.of("d")[0].returns, record("a").returns)
        assert again.of("d")[0].over == {"volatility": -0.1}

    def test_two_writers_see_each_other(self, tmp_path: Path) -> None:
        one, two = (TrialLedger(tmp_path / "t.jsonl") for _ in range(2))
        assert one.add(record("a"))
        assert not two.add(record("a"))
        assert two.add(record("b"))
        one.add(record("c"))
        assert one.count("d") == 3

    def test_many_writers_at_once_lose_no_line(self, tmp_path: Path) -> None:
        path = tmp_path / "t.jsonl"
        long = replace(record("x"), returns=[0.001234567] * 3000)

        def write(writer: int) -> None:
            ledger = TrialLedger(path)
            for number in range(15):
                ledger.add(replace(long, key=f"{writer}-{number}"))
                ledger.add(replace(long, key="shared"))

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(write, range(6)))
        ledger = TrialLedger(path)
        assert ledger.unread_lines == []
        assert ledger.count("d") == 6 * 15 + 1

    def test_runs_and_searches_share_a_file_but_not_a_count(self, tmp_path: Path) -> None:
        ledger = TrialLedger(tmp_path / "t.jsonl")
        ledger.add(record("a"))
        ledger.add(replace(record("b"), source="run", study="s", sharpe=9.0, gross_sharpe=9.5))
        again = TrialLedger(tmp_path / "t.jsonl")
        assert (again.count("d"), again.sharpes("d")) == (1, [1.0])
        assert again.returns("d").shape == (2, 1)
        assert [(r.key, r.study, r.gross_sharpe) for r in again.of("d", RUNS)] == [("b", "s", 9.5)]

    def test_prices_are_no_ledger(self, tmp_path: Path) -> None:
        file = tmp_path / "prices.csv"
        file.write_text("date,ticker,adj_close\n2020-01-02,AAPL,75.0\n", encoding="utf-8")
        before = file.read_bytes()
        with pytest.raises(DataError, match=r"prices\.csv is not a file of trials"):
            TrialLedger(file).count("")
        assert file.read_bytes() == before

    @pytest.mark.parametrize(
        "damage",
        [
            lambda line: line[:60],
            lambda line: b"\0" * len(line),
            lambda line: line.replace(b'"sharpe":1.0', b'"sharpe":1' + b"0" * 400),
            lambda line: line.replace(b'"data":"d"', b'"data":["d"]'),
            lambda line: line.replace(b'"first":"2020-01-01"', b'"first":{}'),
            lambda line: line.replace(b'"study":""', b'"study":[1]'),
            lambda line: line.replace(b'"complete":true', b'"complete":"no"'),
        ],
    )
    def test_damaged_lines_are_named_and_the_others_count(
        self, tmp_path: Path, damage: Callable[[bytes], bytes]
    ) -> None:
        path = tmp_path / "t.jsonl"
        for key in "abcd":
            TrialLedger(path).add(record(key))
        lines = path.read_bytes().split(b"\n")
        lines[1], lines[2] = damage(lines[1]), b"\n" + lines[2]
        path.write_bytes(b"\n".join(lines))
        ledger = TrialLedger(path)
        assert (ledger.count("d"), ledger.returns("d").shape) == (3, (2, 3))
        assert ledger.unread_lines == [2]
        assert ledger.unread_note() == f"1 line of {path} cannot be read and is ignored (line 2)"
        ledger.add(record("e"))
        with path.open("ab") as file:
            file.write(b"{}\n")
        ledger.add(record("f"))
        assert ledger.unread_lines == [2, 7], "the empty line counts, and later ones go on"

    def test_a_ledger_whose_only_line_is_damaged_goes_on(self, tmp_path: Path) -> None:
        path = tmp_path / "t.jsonl"
        TrialLedger(path).add(record("a"))
        path.write_bytes(path.read_bytes()[:80] + b"\n")
        ledger = TrialLedger(path)
        assert (ledger.count("d"), ledger.unread_lines) == (0, [1])
        ledger.add(record("a"))
        assert TrialLedger(path).count("d") == 1

    def test_a_folder_is_no_ledger(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"cannot read the trials in .*: Is a directory\.$"):
            TrialLedger(tmp_path)
        (tmp_path / "wall").write_text("")
        with pytest.raises(DataError, match=r"cannot write the trial to .*wall/t\.jsonl: "):
            TrialLedger(tmp_path / "wall" / "t.jsonl").add(record("a"))

    def test_lines_without_the_later_fields_are_read(self, tmp_path: Path) -> None:
        path = tmp_path / "t.jsonl"
        TrialLedger(path).add(record("a"))
        plain = json.loads(path.read_text())
        for name in ("gross_sharpe", "study", "date"):
            del plain[name]
        path.write_text(json.dumps(plain) + "\n")
        assert TrialLedger(path).of("d")[0].sharpe == 1.0

    def test_a_line_cut_short_is_passed_over(self, tmp_path: Path) -> None:
        path = tmp_path / "t.jsonl"
        TrialLedger(path).add(record("a"))
        whole = path.read_bytes()
        with path.open("ab") as file:
            file.write(whole[:40])
        ledger = TrialLedger(path)
        assert ledger.count("d") == 1
        ledger.add(record("b"))
        assert TrialLedger(path).count("d") == 2

    def test_a_pruned_trial_counts_and_is_completed_once(self) -> None:
        ledger = TrialLedger()
        assert ledger.add(record("a", complete=False))
        assert ledger.count("d") == 1
        assert ledger.find("a") is None
        assert ledger.add(record("a"))
        assert not ledger.add(record("a", complete=False))
        assert ledger.find("a") is not None
        assert ledger.count("d") == 1

    def test_returns_stand_side_by_side_on_days_that_all_know(self) -> None:
        ledger = TrialLedger()
        for key in "abc":
            ledger.add(record(key))
        ledger.add(record("shorter", n_days=2))
        assert ledger.returns("d").shape == (2, 3)
        assert ledger.returns("none").size == 0

    def test_every_search_on_the_data_counts(self, panel: AssetPanel, tmp_path: Path) -> None:
        ledger = TrialLedger(tmp_path / "t.jsonl")
        one = tune(panel, plan=replace(LINEAR, n_trials=3, pruner="none"), ledger=ledger)
        plan = replace(LINEAR, n_trials=3, pruner="none", blocks=4)
        two = tune(panel, plan=plan, ledger=ledger)
        assert two.deflation.n_trials > one.deflation.n_trials
        assert two.deflation.n_trials == ledger.count(two.data_hash)
        assert two.deflation.n_compared == two.deflation.n_trials  # both judge the same days


class TestLimits:
    def test_excess_over_each_limit_is_that_of_the_metrics(self) -> None:
        rng = np.random.default_rng(0)
        days, turnover = rng.normal(0, 0.01, 400), rng.uniform(0, 0.1, 400)
        over = limit_excess(
            days,
            turnover,
            {"volatility": 0.1, "var_95": 0.02, "cvar_95": None, "turnover": 10.0},
        )
        assert set(over) == {"volatility", "var_95", "turnover"}
        assert over["volatility"] == pytest.approx(days.std(ddof=1) * 252**0.5 / 0.1 - 1)
        assert over["turnover"] == pytest.approx(turnover.mean() * 252 / 10 - 1)
        tail = np.quantile(-days, 0.95, method="inverted_cdf")
        assert over["var_95"] == pytest.approx(tail / 0.02 - 1, abs=0.05)


@pytest.fixture(scope="module")
def prices(panel: AssetPanel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prices(panel, tmp_path_factory.mktemp("data"))


class TestCommand:
    def test_it_writes_settings_that_load_and_tables(self, prices: Path, tmp_path: Path) -> None:
        out = tmp_path / "tuning"
        arguments = ("--data", prices, "--model", "linear", "--blocks", "3", "--out", out)
        done = run_command("tune", *arguments, "--trials", "2", "--quiet")
        assert done.exit_code == 0, done.output
        assert done.output == ""
        done = run_command("tune", *arguments, "--trials", "3", "--jobs", "1", "--json")
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        config = load_config(out / "best.toml")
        assert config.linear.method == told["best"]["params"]["linear.method"]
        assert config_to_toml(config) == (out / "best.toml").read_text()
        assert len(pd.read_csv(out / "trials.csv")) == told["trials"]["run"] == 3
        assert json.loads((out / "tuning.json").read_text())["deflation"]["n_trials"] >= 1
        lines = [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]
        assert {line["data"] for line in lines} == {told["data_hash"]}
        assert len({line["key"] for line in lines}) == len(lines)

    def test_the_overlay_is_evaluated_on_request(self, prices: Path, tmp_path: Path) -> None:
        arguments = ("--data", prices, "--model", "linear", "--blocks", "3", "--trials", "1")
        arguments += ("--objective", "sharpe", "--json", "--ledger", tmp_path / "trials.jsonl")
        told = [
            json.loads(run_command("tune", *arguments, "--out", tmp_path / "out", *more).stdout)
            for more in ((), ("--overlay",))
        ]
        assert [one["overlay"] for one in told] == [False, True]
        plain, overlaid = (one["best"] for one in told)
        assert plain["params"] == overlaid["params"]
        assert plain["rank_ic"] == overlaid["rank_ic"]
        assert plain["sharpe"] != overlaid["sharpe"]
        assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 2

    def test_in_words(self, prices: Path, tmp_path: Path) -> None:
        done = run_command(
            "tune", "--data", prices, "--model", "linear", "--blocks", "3", "--trials", "3",
            "--out", tmp_path,
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        for words in ("3 trials", "Best: trial", "linear.method = ", "best.toml"):
            assert words in done.stdout

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--model", "lstn"), "model must be one of"),
            (("--model", "svr"), "svr has no settings to tune"),
            (("--trials", "0"), "trials must be at least 1"),
            (("--objective", "profit"), "objective must be one of"),
            (("--splitter", "combinatorial", "--blocks", "2"), "leaves none to train on"),
            (("--model", "linear", "--blocks", "200"), "no training rows|cannot be cut"),
            (("--pruner", "shears"), "pruner must be one of"),
            (("--out", "/dev/null/tuning"), "cannot use the folder"),
        ],
    )
    def test_what_cannot_work_is_told_in_one_sentence(
        self, prices: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
    ) -> None:
        done = run_command("tune", "--data", prices, "--out", tmp_path, *arguments)
        assert done.exit_code == 2, done.output
        (line,) = done.stderr.strip().splitlines()
        assert line.startswith("alphakeel: ")
        assert any(word in line for word in words.split("|")), line

    def test_a_folder_that_cannot_be_written_is_told(self, linear: Tuning) -> None:
        with pytest.raises(DataError, match="cannot write the search"):
            write_tuning(linear, "/dev/null/tuning")


def test_trials_are_drawn_from_seeds_of_their_own(linear: Tuning) -> None:
    alphas = linear.trials["linear.alpha"].dropna().tolist()
    assert all(one != two for one, two in pairwise(alphas))


class TestTestSetUse:
    DEFLATION = Deflation(8, 6, 0.4, 0.9, 0.3, 0.97, 900.0, 2500)

    def test_it_says_how_often_the_data_were_looked_at(self) -> None:
        claim, detail = Use(3, 8, 6, "LSTM", self.DEFLATION).describe()
        assert claim == (
            "3 different studies of these data, 8 portfolios of models: the deflated Sharpe ratio "
            "of LSTM is 0.97."
        )
        assert "the best of 8 trials without skill would show 0.30" in detail
        assert "2 were tested over other days" in detail
        alone = replace(self.DEFLATION, n_trials=1, n_compared=1, deflated_sharpe=float("nan"))
        claim, detail = Use(1, 1, 1, "Linear", alone).describe()
        assert claim.startswith("The first study of these data, 1 portfolio of a model: ")
        assert claim.endswith("of Linear is not known.")
        assert "other days" not in detail

    @pytest.mark.parametrize(
        ("deflated", "tone"), [(0.94, "worse"), (0.96, "unclear"), (float("nan"), "unclear")]
    )
    def test_it_may_object_but_never_praises(self, deflated: float, tone: str) -> None:
        seen = Use(2, 4, 4, "LSTM", replace(self.DEFLATION, deflated_sharpe=deflated))
        assert findings._deflation_statement(seen).tone == tone

    def test_cash_all_along_has_no_sharpe_ratio_and_still_counts(self, panel: AssetPanel) -> None:
        study = run_study(panel, tiny_config())
        still = replace(
            study.strategies["Linear"],
            net_returns=np.zeros_like(study.strategies["Linear"].net_returns),
            gross_returns=np.zeros_like(study.strategies["Linear"].net_returns),
        )
        flat = replace(
            study,
            portfolios=replace(
                study.portfolios,
                strategies={**study.strategies, "Linear": still},
                overlaid={**study.overlaid, "Linear": still},
            ),
        )
        ledger = TrialLedger()
        seen = record_run(flat, ledger)
        assert (seen.n_studies, seen.n_portfolios) == (1, 1)
        assert np.isnan(seen.deflation.deflated_sharpe)
        json.dumps(seen.to_dict(), allow_nan=False)
