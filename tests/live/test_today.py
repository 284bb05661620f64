"""`today` decides what the backtest decided, to the bit, and refuses what it cannot trust."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from live_study import N_DATES, Saved, save_small
from skfolio.containers import AssetPanel

from alphakeel.cli.shell import without_collector
from alphakeel.data.loading import load_panel
from alphakeel.data.panel import panel_to_long
from alphakeel.data.simulation import simulate_market
from alphakeel.errors import AlphakeelError, ConfigError, DataError
from alphakeel.live.decision import decide, live_folder
from alphakeel.live.replay import (
    MEMORY,
    explained_from,
    later_fits,
    plan_of,
    refit,
    replay,
    same_past,
)
from alphakeel.model_factory import under_overlay
from alphakeel.models.risk_network import RiskForecaster
from alphakeel.pipeline.fitting import forecast_volatility
from alphakeel.pipeline.simulator import Simulator
from alphakeel.pipeline.strategies import compute_weights, trade_weights
from alphakeel.results import Study
from alphakeel.stats.drawdown_control import window_drawdown
from alphakeel.storage.runs import save_run, write_checksums
from alphakeel.storage.saved_runs import SavedRun, open_run
from alphakeel.study import run_study
from helpers import run_command, tiny_config

MODELS = ("linear", "lstm", "lstm_limited", "combined")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    learned = {"weights": "learned", "shrinkage": 20}
    return save_small(tmp_path_factory.mktemp("runs"), *MODELS, combined=learned)


@pytest.fixture(scope="module")
def short(saved: Saved, tmp_path_factory: pytest.TempPathFactory) -> SavedRun:
    """A run of the same study on the data of half of the test."""
    day = saved.decision_days[len(saved.decision_days) // 2]
    walk = replace(saved.study.config.walk_forward, test_end=None)
    config = replace(saved.study.config, walk_forward=walk)
    study = run_study(saved.until(day), config, name="short")
    return open_run(save_run(study, tmp_path_factory.mktemp("short")))


@pytest.fixture(scope="module")
def prices(saved: Saved, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The panel as a file, with the index."""
    path = tmp_path_factory.mktemp("data") / "prices.parquet"
    panel_to_long(saved.panel).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def targets(saved: Saved) -> dict[str, np.ndarray]:
    """Target weights of every test day by strategy, made again as the study makes them."""
    study = saved.study
    volatility = forecast_volatility(study.dataset, study.plan)[study.plan.tested]
    simulator = Simulator.of(study.dataset, study.config, study.test)
    decided, _ = compute_weights(study.models, volatility, simulator, study.config)
    out = {}
    for label, weights in decided.items():
        traded = trade_weights(weights, None, simulator, study.config)
        for name, own in ((label, traded.plain), (under_overlay(label), traded.held)):
            ledger = study.every_ledger()[name]
            np.testing.assert_array_equal(own.ledger.weights, ledger.weights)
            out[name] = own.targets
    return out


def labels_of(study: Study) -> list[str]:
    return list(study.every_ledger())


class TestProperty:
    """On every past decision day the decision is the backtest's."""

    @pytest.mark.parametrize("label", ["Equal weight", "Linear"])
    @pytest.mark.parametrize("under", [False, True])
    def test_every_decision_day_of_cheap_strategies(
        self, saved: Saved, targets: dict[str, np.ndarray], label: str, under: bool
    ) -> None:
        for day in saved.decision_days:
            self.assert_as_in_the_backtest(
                saved, targets, under_overlay(label) if under else label, day
            )

    @pytest.mark.parametrize("label", ["LSTM", "LSTM with limits", "Combined", "Minimum variance"])
    @pytest.mark.parametrize("under", [False, True])
    def test_some_decision_days_of_the_others(
        self, saved: Saved, targets: dict[str, np.ndarray], label: str, under: bool
    ) -> None:
        for day in saved.decision_days[[0, 1, 7, -20, -1]]:
            self.assert_as_in_the_backtest(
                saved, targets, under_overlay(label) if under else label, day
            )

    def test_every_day_under_the_overlay(
        self, saved: Saved, targets: dict[str, np.ndarray]
    ) -> None:
        """Exposure is decided daily."""
        label = under_overlay("Linear")
        for day in saved.study.dates[saved.study.test][-25:]:
            self.assert_as_in_the_backtest(saved, targets, label, day)

    def assert_as_in_the_backtest(
        self, saved: Saved, targets: dict[str, np.ndarray], label: str, day: np.datetime64
    ) -> None:
        """Targets, holdings and wealth up to this day."""
        live, cut = plan_of(saved.run, saved.panel, day)
        assert cut.n_observations == int(np.searchsorted(saved.study.dates, day)) + 1
        own = replay(saved.run, live, cut, label)
        ledger, row = saved.study.every_ledger()[label], saved.row(day)
        for name in ("weights", "wealth", "net_returns"):
            np.testing.assert_array_equal(
                getattr(own.portfolio.ledger, name),
                getattr(ledger, name)[: row + 1],
                f"{label} {day}",
            )
        np.testing.assert_array_equal(
            own.portfolio.targets, targets[label][: row + 1], f"{label} {day}"
        )

    @pytest.mark.parametrize("label", ["Linear", "Equal weight + overlay"])
    def test_factors_of_recent_days_are_enough(self, saved: Saved, label: str) -> None:
        """Where the run has the scores, only the days that the last ones read are gone through."""
        for day in saved.study.dates[saved.study.test][[0, 37, -61, -1]]:
            live, cut = plan_of(saved.run, saved.panel, day)
            whole = replay(saved.run, live, cut, label, same=True)
            own = replay(saved.run, live, cut, label, same=True, recent=True)
            assert own.since == len(live.plan.decisions) - 1
            np.testing.assert_array_equal(own.portfolio.targets, whole.portfolio.targets)
            last = slice(own.since, None)
            for name in whole.factors:
                (k,), (j,) = (x.dataset.columns([name]) for x in (own, whole))
                np.testing.assert_array_equal(
                    own.dataset.features[last, :, k], whole.dataset.features[last, :, j]
                )
            before = explained_from(own, own.since - 3).dataset
            np.testing.assert_array_equal(
                before.features_of(whole.factors, slice(own.since - 3, None)),
                whole.dataset.features_of(whole.factors, slice(own.since - 3, None)),
            )

    def test_between_two_decisions_nothing_is_replayed_twice(
        self, saved: Saved, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Under the overlay the portfolio is decided on days without new scores as well; a panel
        that is given away gives the same.
        """
        live, cut = plan_of(saved.run, saved.panel)
        own = replay(saved.run, live, cut, under_overlay("Linear"), same=True)
        traded = np.flatnonzero(~np.isnan(own.portfolio.targets).all(axis=1))
        rows = np.setdiff1d(traded + own.simulator.start, live.plan.decisions)[-2:]
        assert len(rows) == 2
        calls: list[str] = []
        monkeypatch.setattr(
            "alphakeel.live.decision.replay",
            lambda *given, **named: (calls.append(given[3]), replay(*given, **named))[1],
        )
        for day in live.plan.dates[rows]:
            given = {"day": day, "strategy": "linear+overlay", "cash": 1e6}
            decision, panel = decide(saved.run, saved.panel, **given), saved.panel.copy()
            assert decide(saved.run, panel, **given, owned=True).to_dict() == decision.to_dict()
            assert len(panel.fields) < len(saved.panel.fields)
        assert len(calls) == 4

    def test_what_the_run_has_scored_is_not_scored_again(
        self, saved: Saved, targets: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Compositions of a network under limits too; a run of an earlier version has none."""
        read: list[int] = []
        load = SavedRun.fit
        monkeypatch.setattr(
            SavedRun, "fit", lambda *given: (read.append(given[2]), load(*given))[1]
        )
        live, cut = plan_of(saved.run, saved.panel)
        kept = {name: x for name, x in saved.run.sums.items() if "series/composition_" not in name}
        assert len(kept) == len(saved.run.sums) - 1
        last, label = len(saved.run.folds) - 1, "LSTM with limits"
        for run, fits in ((saved.run, [last]), (replace(saved.run, sums=kept), [*range(last + 1)])):
            own = replay(run, live, cut, label, same=True)
            assert read == fits
            assert own.overlay is None
            np.testing.assert_array_equal(own.portfolio.targets, targets[label])
            read.clear()

    def test_a_network_whose_scores_are_known_is_explained_alike(
        self, saved: Saved, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        decision = decide(saved.run, saved.panel, strategy="lstm")
        monkeypatch.setattr("alphakeel.live.replay._first_needed", lambda *_: 0)
        whole = decide(saved.run, saved.panel, strategy="lstm")
        assert decision.to_dict() == whole.to_dict()
        assert (decision.targets["for_1"] != "").any()

    def test_scores_after_the_run_hang_on_no_earlier_row(
        self, saved: Saved, tmp_path: Path
    ) -> None:
        early = saved.until(saved.decision_days[-8])
        config = saved.study.config
        walk = replace(config.walk_forward, test_end=None)
        short = run_study(early, replace(config, models=("linear",), walk_forward=walk), name="s")
        run = open_run(save_run(short, tmp_path))
        live, cut = plan_of(run, saved.panel)
        whole = replay(run, live, cut, "Linear", same=True)
        own = replay(run, live, cut, "Linear", same=True, recent=True)
        assert own.since == len(live.plan.decisions) - 7
        np.testing.assert_array_equal(own.scores, whole.scores)
        np.testing.assert_array_equal(own.portfolio.targets, whole.portfolio.targets)

    def test_data_that_end_there_give_the_same(self, saved: Saved) -> None:
        for day in saved.decision_days[[4, 11, -3]]:
            for label in labels_of(saved.study):
                whole = decide(saved.run, saved.panel, day=day, strategy=label, cash=1e6)
                ended = decide(saved.run, saved.until(day), strategy=label, cash=1e6)
                same = {"data_hash": "", "warnings": []}
                assert whole.to_dict() | same == ended.to_dict() | same

    @pytest.mark.parametrize("label", ["LSTM", "LSTM with limits", "Combined + overlay"])
    def test_networks_go_on_from_what_they_remember(
        self, saved: Saved, short: SavedRun, label: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        day = _last_before_refit(saved, short)
        live, cut = plan_of(short, saved.panel, day)
        own = replay(short, live, cut, label, same=True, recent=True)
        # Rows from 64 on are scored, the last whole block; those that explain begin earlier.
        assert own.since == len(live.plan.decisions) - MEMORY > 0
        monkeypatch.setattr(SavedRun, "memory_on", lambda *_: None)
        whole = replay(short, live, cut, label, same=True, recent=True)
        assert whole.since == 0
        np.testing.assert_array_equal(own.scores, whole.scores)
        np.testing.assert_array_equal(own.portfolio.targets, whole.portfolio.targets)
        monkeypatch.undo()
        if label == "Combined + overlay":
            return  # the combined model has no memory of its own: its members have
        model = short.model_of(label)
        files = {name: x for name, x in short.sums.items() if "memory" not in name}
        assert len(files) == len(short.sums) - 2
        assert replace(short, sums=files).memory(model) is None
        assert short.memory("linear") is None

    def test_a_stock_listed_after_the_run_has_a_memory_too(
        self, saved: Saved, short: SavedRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One with prices of the run's days would have moved the ranks of the others."""
        day = _last_before_refit(saved, short)
        listed = np.datetime64(short.about["data_end"], "D") + 1
        for first, remembered in ((listed, True), (listed - 700, False)):
            panel = _with_a_stock(saved.until(day), first)
            assert same_past(short, panel)
            live, cut = plan_of(short, panel)
            own = replay(short, live, cut, "LSTM", same=True, recent=True)
            assert (own.since > 0) == remembered
            monkeypatch.setattr(SavedRun, "memory_on", lambda *_: None)
            whole = replay(short, live, cut, "LSTM", same=True)
            monkeypatch.undo()
            np.testing.assert_array_equal(own.scores, whole.scores)

    def test_days_after_the_run_continue_it(self, saved: Saved, short: SavedRun) -> None:
        """A run on shorter data, and today on longer: the decisions of a study of the longer."""
        run = short
        assert same_past(run, saved.panel)
        live, _ = plan_of(run, saved.panel)
        assert live.refit_due is not None
        before = saved.study.dates[: saved.row(live.refit_due) + saved.study.test.start]
        for label in ("Linear", under_overlay("LSTM"), "LSTM with limits"):
            at = before[-2:][0]
            own = decide(run, saved.panel, strategy=label, day=at)
            same = decide(saved.run, saved.panel, strategy=label, day=at)
            assert own.weights == same.weights
            assert own.refit_due is None
        late = decide(run, saved.panel, strategy="linear")
        assert late.refit_due == live.refit_due
        assert any("--refit" in text for text in late.warnings)
        # Fitted anew, it is the study of the longer data again, and only what is new was fitted.
        anew = decide(run, saved.panel, strategy="linear", refit_now=True)
        longer = decide(saved.run, saved.panel, strategy="linear")
        assert anew.weights == longer.weights
        assert anew.refit_due is None
        extra = live_folder(run) / "models" / "linear"
        made = {path.name: path.stat().st_mtime_ns for path in extra.iterdir()}
        assert len(made) == len(saved.study.folds) - len(run.folds)
        again = decide(run, saved.panel, strategy="linear", refit_now=True)
        assert again.to_dict() == anew.to_dict()
        assert {path.name: path.stat().st_mtime_ns for path in extra.iterdir()} == made
        fits = later_fits(run, "linear", extra.parent)
        live, cut = plan_of(run, saved.panel, None, fits)
        assert refit(live, cut, fits) == ()
        # The combined model needs the fits of its members; those of the linear one are there.
        assert decide(run, saved.panel, strategy="combined").refit_due == late.refit_due
        anew = decide(run, saved.panel, strategy="combined", refit_now=True)
        assert anew.weights == decide(saved.run, saved.panel, strategy="combined").weights
        assert any("(linear, lstm)" in text for text in anew.warnings)
        assert {path.name: path.stat().st_mtime_ns for path in extra.iterdir()} == made


def _last_before_refit(saved: Saved, run: SavedRun) -> np.datetime64:
    """The last decision of the saved study that the last fit of a shorter run makes."""
    live, _ = plan_of(run, saved.panel)
    assert live.refit_due is not None
    days = saved.decision_days
    return days[days < live.refit_due][-1]


def _with_a_stock(panel: AssetPanel, first: np.datetime64) -> AssetPanel:
    """The panel with one more stock, the first one again, that has prices from a day on."""
    listed = np.asarray(panel.observations, dtype="datetime64[D]") >= first

    def wider(values: np.ndarray, nothing: object) -> np.ndarray:
        return np.column_stack([values, np.where(listed, values[:, 0], nothing)])

    fields = {
        name: field.with_values(wider(field.values, -1 if field.is_categorical else np.nan))
        for name, field in panel.fields.items()
    }
    masks = (wider(mask, False) for mask in (panel.active_mask, panel.estimation_mask))
    return AssetPanel(fields, panel.observations, [*panel.asset_names, "ZZ"], *masks)


def test_a_linear_model_is_decided_without_what_is_slow_to_import(
    saved: Saved, prices: Path, tmp_path: Path
) -> None:
    """Importing took longer than deciding: torch alone two seconds."""
    code = "import sys; from alphakeel.cli import app; app(sys.argv[1:], standalone_mode=False); "
    run = shutil.copytree(saved.run.folder, tmp_path / saved.run.name)
    given = ("today", run, "--data", prices, "--strategy", "linear+overlay", "--cash", "1e6")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{code} print(*sys.modules)",
            *given,
            "--max-age",
            "99999",
            "--quiet",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert "alphakeel.live.decision" in loaded
    slow = {"torch", "skfolio.optimization", "lightgbm", "sklearn.covariance", "sklearn.svm"}
    others = {"matplotlib", "jinja2", "optuna", "mlflow", "httpx", "IPython"}
    own = {f"alphakeel.{name}" for name in ("report", "selection", "audit", "feeds", "study")}
    assert not (slow | others | own) & loaded


def test_no_cycles_are_looked_for_while_a_decision_is_made() -> None:
    assert gc.isenabled()
    with without_collector():
        assert not gc.isenabled()
    assert gc.isenabled()


class TestDecision:
    def test_the_recommended_strategy_and_why(self, saved: Saved) -> None:
        recommended = saved.study.recommendation()
        decision = decide(saved.run, saved.panel)
        assert decision.strategy == recommended.strategy
        assert decision.reason == recommended.reason
        assert decision.orders is None

    def test_cash_sells_everything(self, saved: Saved) -> None:
        ticker = str(saved.study.asset_names[0])
        decision = decide(saved.run, saved.panel, {ticker: 10}, cash=5.0, strategy="cash")
        assert decision.weights == {}
        assert decision.orders is not None
        assert decision.orders[["ticker", "side", "shares"]].to_numpy().tolist() == [
            [ticker, "sell", 10.0]
        ]

    def test_orders_lead_to_the_targets(self, saved: Saved) -> None:
        decision = decide(saved.run, saved.panel, cash=1e7, strategy="linear")
        assert decision.orders is not None
        wealth = decision.account["wealth"]
        value = dict(zip(decision.orders["ticker"], decision.orders["value"], strict=True))
        price = dict(zip(decision.orders["ticker"], decision.orders["price"], strict=True))
        for ticker, weight in decision.weights.items():
            spent = decision.account["cost"] * weight
            assert -price[ticker] - spent - 1e-6 <= value[ticker] - weight * wealth <= 1e-6
        assert decision.account["cash_after"] >= 0.0
        held = dict(zip(decision.orders["ticker"], decision.orders["shares"], strict=True))
        again = decide(
            saved.run,
            saved.panel,
            held,
            cash=decision.account["cash_after"],
            strategy="linear",
        )
        assert again.orders is not None
        assert again.account["turnover"] < 0.01

    def test_risk_and_limits(self, saved: Saved) -> None:
        decision = decide(saved.run, saved.panel, cash=1e7, strategy="lstm+overlay")
        risk = decision.risk
        assert 0.0 < risk["volatility"] < 0.2
        assert 0.0 < risk["var_95"] < risk["cvar_95"] < 0.05
        assert 0.0 < risk["drawdown_95"] < 1.0
        limits = decision.limits.set_index("limit")
        assert (limits["before"] == 0.0).all()
        assert limits.loc["largest weight", "after"] <= limits.loc["largest weight", "allowed"]
        assert limits.loc["longs plus shorts over wealth", "after"] <= 1.0

    @pytest.mark.parametrize("label", ["LSTM with limits", "LSTM with limits + overlay"])
    def test_limits_of_a_network_under_limits(self, saved: Saved, label: str) -> None:
        decision = decide(saved.run, saved.panel, cash=1e7, strategy=label)
        limits = decision.limits.set_index("limit")
        section = saved.study.config.limits
        forecast = limits.loc["volatility a year (the network's)"]
        assert forecast["allowed"] == section.volatility
        factor = saved.run.fit("lstm_limited", len(saved.run.folds) - 1).safety_factors_
        assert forecast["before"] == 0.0
        assert forecast["after"] >= decision.risk["volatility"] * 0.5
        if label == "LSTM with limits" and decision.new:
            assert forecast["after"] <= 1.02 * section.volatility
        named = {"volatility", "var_95", "cvar_95", "max_drawdown"} & set(factor)
        own = [name for name in limits.index if name.endswith("(the network's)")]
        assert len(own) == sum(getattr(section, name) is not None for name in named)
        fallen = saved.study.every_ledger()[label].net_returns
        assert limits.loc["drawdown in 252 days (the network's)", "after"] == pytest.approx(
            window_drawdown(fallen)[-1]
        )

    def test_reasons_of_the_linear_model_are_coefficient_times_rank(self, saved: Saved) -> None:
        decision = decide(saved.run, saved.panel, strategy="linear")
        last = len(saved.run.folds) - 1
        model = saved.run.fit("linear", last)
        names = saved.run.folds[last].selected["linear"]
        row = int(np.searchsorted(saved.study.dates[saved.study.decisions], decision.decided))
        first = decision.targets.iloc[0]
        column = list(saved.study.asset_names).index(first["ticker"])
        ranks = saved.study.dataset.features[row, column, saved.study.dataset.columns(names)]
        parts = ranks.astype(float) * model.coef_
        best = int(np.argmax(parts))
        assert first["for_1"] == f"{names[best]} {parts[best]:+.2f}"
        worst = int(np.argmin(parts))
        assert first["against_1"] == f"{names[worst]} {parts[worst]:+.2f}"

    @pytest.mark.parametrize("label", ["LSTM", "LSTM with limits"])
    def test_networks_have_reasons(self, saved: Saved, label: str) -> None:
        decision = decide(saved.run, saved.panel, strategy=label)
        assert (decision.targets["for_1"] != "").any()
        assert set(decision.scores) == set(map(str, saved.study.asset_names))

    def test_changed_data_are_said_to_be(self, saved: Saved) -> None:
        changed = saved.panel.copy(deep=True)
        changed.fields["adj_close"].values[5, 0] *= 1.01
        texts = decide(saved.run, changed, strategy="linear").warnings
        assert any("not those that the run was made on" in text for text in texts)


class TestRefusals:
    """One sentence each, and nothing written."""

    def refused(self, saved: Saved, message: str, kind: type = DataError, **given: object) -> None:
        panel = given.pop("panel", saved.panel)
        holdings = given.pop("holdings", None)
        with pytest.raises(kind, match=message) as caught:
            decide(saved.run, panel, holdings, **given)  # type: ignore[arg-type]
        assert isinstance(caught.value, AlphakeelError)

    def test_unknown_ticker(self, saved: Saved) -> None:
        near = str(saved.study.asset_names[0])
        self.refused(saved, f"did you mean {near}", holdings={near + "X": 1}, strategy="linear")

    def test_negative_shares(self, saved: Saved) -> None:
        name = str(saved.study.asset_names[0])
        self.refused(saved, "sells nothing short", holdings={name: -1}, strategy="linear")

    def test_part_of_a_share(self, saved: Saved) -> None:
        name = str(saved.study.asset_names[0])
        self.refused(saved, "--fractional", holdings={name: 1.5}, strategy="linear")
        decision = decide(
            saved.run, saved.panel, {name: 1.5}, cash=1e4, strategy="linear", fractional=True
        )
        assert decision.orders is not None
        assert (decision.orders["shares"] % 1.0 != 0.0).any()

    def test_short_cash(self, saved: Saved) -> None:
        self.refused(saved, "borrows nothing", cash=-1.0, strategy="linear")
        self.refused(saved, "keep less", cash=10.0, keep_cash=20.0, strategy="linear")

    def test_unknown_strategy(self, saved: Saved) -> None:
        self.refused(saved, "has no strategy 'oracle'", ConfigError, strategy="oracle")

    def test_data_before_the_test(self, saved: Saved) -> None:
        early = saved.study.dates[saved.study.test.start - 1]
        self.refused(saved, "there is no decision", day=early, strategy="linear")

    def test_lost_days(self, saved: Saved) -> None:
        self.refused(
            saved,
            "days were added or lost",
            panel=saved.panel.isel(observations=slice(30, None)),
            strategy="linear",
        )

    def test_other_versions(self, saved: Saved, tmp_path: Path) -> None:
        run = open_run(self.changed_run(saved, tmp_path, "numpy"))
        with pytest.raises(ConfigError, match=r"was made with numpy 0\.1"):
            decide(run, saved.panel, strategy="linear")

    def changed_run(self, saved: Saved, folder: Path, package: str) -> Path:
        """A run with another version in its description and matching checksums."""
        place = folder / "changed"
        shutil.copytree(saved.run.folder, place)
        about = json.loads((place / "run.json").read_text())
        about["versions"][package] = "0.1"
        (place / "run.json").write_text(json.dumps(about))
        write_checksums(place)
        return place

    @pytest.mark.parametrize(
        "file",
        ["run.json", "study.toml", "models/linear/fold_0/model.safetensors", "checksums.json"],
    )
    def test_tampered_run(self, saved: Saved, tmp_path: Path, file: str) -> None:
        place = tmp_path / "run"
        shutil.copytree(saved.run.folder, place)
        data = bytearray((place / file).read_bytes())
        spot = data.rfind(b"0", 0, len(data) - 3)
        data[spot : spot + 1] = b"1"
        (place / file).write_bytes(bytes(data))
        with pytest.raises(DataError, match=r"changed|not whole|not part"):
            decide(place, saved.panel, strategy="linear")

    def test_a_file_that_is_gone(self, saved: Saved, tmp_path: Path) -> None:
        place = tmp_path / "run"
        shutil.copytree(saved.run.folder, place)
        (place / "models/linear/fold_0/model.json").unlink()
        with pytest.raises(DataError, match=r"cannot read .*model\.json"):
            decide(place, saved.panel, strategy="linear")
        with pytest.raises(DataError, match="is no run"):
            decide(tmp_path, saved.panel)


class TestCommand:
    def test_files_and_bytes_again(self, saved: Saved, prices: Path, tmp_path: Path) -> None:
        place = tmp_path / "runs" / saved.run.name
        shutil.copytree(saved.run.folder, place)
        last = str(saved.study.dates[-1])
        command = ["today", place, "--data", prices, "--as-of", last, "--strategy", "lstm"]
        command += ["--cash", "100000", "--out", tmp_path / "out"]
        first = run_command(*command)
        assert first.exit_code == 0, first.output
        assert "Target weights" in first.output
        assert "Nothing has been sent" in first.output
        files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        names = {path.name for path in files if "out" in path.parts}
        assert names == {
            "decision.json",
            "targets.csv",
            "limits.csv",
            "orders.csv",
            "interactive_brokers.csv",
            "alpaca.csv",
        }
        again = run_command(*command)
        assert again.output == first.output
        assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == files
        basket = (tmp_path / "out").rglob("interactive_brokers.csv")
        head, order, *_ = next(basket).read_text().splitlines()
        assert head == (
            "Action,Quantity,Symbol,SecType,Exchange,Currency,TimeInForce,OrderType,BasketTag"
        )
        assert order.startswith("BUY,")
        assert ",STK,SMART,USD,DAY,MOC," in order
        rows = next((tmp_path / "out").rglob("alpaca.csv")).read_text().splitlines()
        assert rows[0] == "symbol,qty,side,type,time_in_force,client_order_id"
        assert ",buy,market,cls," in rows[1]

    def test_json_has_weights_to_the_bit(self, saved: Saved, prices: Path, tmp_path: Path) -> None:
        place = tmp_path / saved.run.name
        shutil.copytree(saved.run.folder, place)
        last = str(saved.study.dates[-1])
        told = run_command(
            "today", place, "--data", prices, "--as-of", last, "--strategy", "linear", "--json"
        )
        document = json.loads(told.stdout)
        decision = decide(saved.run, load_panel(prices), strategy="linear")
        assert {row["ticker"]: row["weight"] for row in document["targets"]} == decision.weights
        assert document["age_days"] == 0

    @pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
    def test_the_table_fits(
        self, saved: Saved, prices: Path, width: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", str(width))
        last = str(saved.study.dates[-1])
        told = run_command(
            *("today", saved.run.folder, "--data", prices, "--as-of", last),
            *("--strategy", "linear+overlay", "--cash", "1e6"),
        )
        assert told.exit_code == 0, told.output
        assert max(map(len, told.output.splitlines())) <= width

    def test_old_data(self, saved: Saved, prices: Path, tmp_path: Path) -> None:
        place = tmp_path / saved.run.name
        shutil.copytree(saved.run.folder, place)
        before = sorted(tmp_path.rglob("*"))
        told = run_command("today", place, "--data", prices, "--out", tmp_path / "out")
        assert told.exit_code == 2
        assert "--max-age allows 7" in told.output
        assert told.output.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("ticker,shares\nNOPE,1\n", "which the data do not have"),
            ("ticker,shares\n{0},-3\n", "sells nothing short"),
            ("ticker,shares\n{0},2.5\n", "no whole number"),
            ("ticker,shares\n{0},many\n", "is no number of shares"),
            ("ticker,shares\n{0},1\n{0},2\n", "twice in the file"),
            ("ticker,shares\n{0}\n", "cells"),
            ("name,count\n{0},1\n", "needs a column"),
            ("ticker,shares\nCASH,-5\n", "borrows nothing"),
        ],
    )
    def test_bad_holdings(
        self, saved: Saved, prices: Path, tmp_path: Path, text: str, message: str
    ) -> None:
        place = tmp_path / saved.run.name
        shutil.copytree(saved.run.folder, place)
        mine = tmp_path / "holdings.csv"
        mine.write_text(text.format(str(saved.study.asset_names[0])))
        before = sorted(tmp_path.rglob("*"))
        told = run_command(
            *("today", place, "--data", prices, "--as-of", str(saved.study.dates[-1])),
            *("--holdings", mine, "--strategy", "linear", "--out", tmp_path / "out"),
        )
        assert told.exit_code == 2
        assert message in told.output
        assert told.output.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before

    def test_no_run(self, tmp_path: Path) -> None:
        told = run_command("today", "--runs", tmp_path)
        assert told.exit_code == 2
        assert "there is no run" in told.output


def test_a_panel_is_not_changed(saved: Saved) -> None:
    panel: AssetPanel = saved.panel.copy(deep=True)
    decide(saved.run, panel, strategy="linear", cash=1e5)
    for name in saved.panel.fields:
        np.testing.assert_array_equal(panel[name], saved.panel[name])


@pytest.mark.parametrize(
    "sections",
    [
        {
            "allocation": {"method": "mean_cvar", "benchmarks": ["risk_parity"], "window": 120},
            "overlay": {"max_exposure": 1.5, "bear_exposure": 0.5},
            "costs": {"preset": "us"},
        },
        {
            "allocation": {"volatility": "network", "neutral": "beta"},
            "costs": {"cash_rate": 0.03},
            "overlay": {"max_exposure": 1.2, "brake_start": 0.01, "brake_full": 0.05},
        },
        {
            "allocation": {
                "method": "enhanced_index",
                "benchmark": "cap_weight",
                "active_weight_limit": 0.2,
                "style_limit": 0.5,
                "window": 120,
                "hedge": True,
            },
        },
    ],
    ids=[
        "optimised, levered, US rules",
        "risk network, beta-neutral, braked",
        "against market values, hedged",
    ],
)
def test_other_settings_are_replayed_as_well(
    tmp_path: Path, sections: dict[str, dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = save_small(tmp_path, "linear", **sections)
    monkeypatch.setattr(RiskForecaster, "fit", None)  # today loads every fit
    days = saved.study.dates[saved.study.test][[60, -2]]
    labels = ["Linear", under_overlay("Linear")]
    if "benchmarks" in sections["allocation"]:
        labels += ["Risk parity", under_overlay("Risk parity")]
    if "benchmark" in sections["allocation"]:
        labels += ["Cap weight"]
    for day in days:
        live, cut = plan_of(saved.run, saved.panel, day)
        for label in labels:
            own = replay(saved.run, live, cut, label)
            ledger = saved.study.every_ledger()[label]
            for name in ("weights", "wealth", "costs", "cash"):
                np.testing.assert_array_equal(
                    getattr(own.portfolio.ledger, name),
                    getattr(ledger, name)[: saved.row(day) + 1],
                    f"{label} {day} {name}",
                )
    decision = decide(saved.run, saved.panel, cash=1e6, strategy="linear+overlay")
    assert decision.orders is not None
    json.dumps(decision.to_dict(), allow_nan=False)
    assert decision.hedge == {}  # the overlay has a market exposure of its own
    if "hedge" in sections["allocation"]:
        plain = decide(saved.run, saved.panel, strategy="linear")
        series = saved.study.portfolios.hedged["Linear"]
        assert plain.hedge["beta"] == series.beta[np.isfinite(series.beta)][-1]
        stocks = 1.0 / (1.0 + 0.15 * plain.hedge["beta"])
        if not plain.new:
            stocks = series.scale[-1]
        assert plain.hedge["stocks"] == pytest.approx(stocks, rel=1e-12)
        assert "sell the market index short" in plain.hedge_text
        assert "tracking error a year" in set(plain.limits["limit"])
        hedged = saved.run.series("hedged_returns")["Linear + hedge"]
        np.testing.assert_allclose(hedged, series.net_returns, atol=1e-15)


@pytest.mark.parametrize(
    ("asked", "label"),
    [
        ("minimum_variance+overlay", "Minimum variance + overlay"),
        ("minimum  variance", "Minimum variance"),
        ("equal_weight + overlay", "Equal weight + overlay"),
        ("LSTM_limited", "LSTM with limits"),
        ("lstm_with_limits+overlay", "LSTM with limits + overlay"),
    ],
)
def test_a_strategy_by_its_label_or_by_a_word(saved: Saved, asked: str, label: str) -> None:
    assert saved.run.label_of(asked) == label


@pytest.mark.parametrize("strategy", ["equal_weight", "equal_weight+overlay", "linear"])
def test_data_of_prices_alone_are_decided(tmp_path: Path, strategy: str) -> None:
    """The factor that is computed for a data set's sake is one that the data can feed."""
    panel = simulate_market(n_assets=14, n_dates=N_DATES, seed=3).panel
    prices = AssetPanel(
        {"adj_close": panel["adj_close"]}, panel.observations, np.asarray(panel.asset_names)
    )
    study = run_study(prices, tiny_config(models=["linear"]), name="prices")
    decision = decide(save_run(study, tmp_path), prices, strategy=strategy, cash=1e5)
    held = sum(decision.weights.values())
    assert 0.0 < held <= 1.0 + 1e-12
