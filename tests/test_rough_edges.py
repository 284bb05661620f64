"""Odd data and settings: each works, or is refused in one sentence before anything is fitted."""

from __future__ import annotations

import json
import os
import tomllib
import types
import typing
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from skfolio.containers import AssetPanel

from alphakeel import cli
from alphakeel.config import OverlayConfig, StudyConfig, config_from_dict, config_to_toml
from alphakeel.data.bundled import load_bundled
from alphakeel.data.panel import panel_from_long, panel_to_long
from alphakeel.errors import ConfigError, DataError
from alphakeel.evaluation.performance import with_interval
from alphakeel.factors import FACTORS
from alphakeel.factors.custom import load_factors
from alphakeel.factors.screening import FactorScreen
from alphakeel.pipeline.fitting import DECAY
from alphakeel.pipeline.simulator import Simulator
from alphakeel.pipeline.strategies import apply_overlay
from alphakeel.results import Study
from alphakeel.risk.value_at_risk import TailForecast
from alphakeel.selection.trial_log import TrialLedger
from alphakeel.storage.runs import save_run, summary_json
from alphakeel.study import run_study

LONG = panel_to_long(load_bundled("synthetic", n_assets=8, n_dates=560, seed=1))
DAYS = np.sort(LONG["date"].unique())
TICKERS = sorted(LONG["ticker"].unique())
QUICK: dict[str, Any] = {
    "models": ["linear"],
    "jobs": 1,
    "report": {"n_bootstrap": 100, "drivers": False, "sensitivity": False},
}


def day(row: int) -> str:
    return str(DAYS[row])[:10]


def settings(**changed: dict[str, Any]) -> StudyConfig:
    merged = {name: {**QUICK.get(name, {}), **section} for name, section in changed.items()}
    return config_from_dict({**QUICK, **merged})


def study_of(frame: pd.DataFrame, **changed: dict[str, Any]) -> Study:
    return run_study(panel_from_long(frame), settings(**changed), name="odd")


def without_index(when: Callable[[pd.Series], Any]) -> pd.DataFrame:
    return LONG.assign(market_index=LONG["market_index"].mask(when(LONG["date"])))


def assert_tells_numbers(study: Study, folder: Path) -> None:
    """Every table, and a run folder, without an infinite number."""
    for name, table in study.tables().items():
        numbers = table.select_dtypes("number").to_numpy(dtype=np.float64)
        assert not np.isinf(numbers).any(), name
    json.dumps(summary_json(study), allow_nan=False)
    assert (save_run(study, folder) / "run.json").is_file()


# A study that cannot end must not begin: these refusals come before the first fit.
REFUSED: dict[str, tuple[dict[str, dict[str, Any]], tuple[str, ...]]] = {
    "a test of nine days": (
        {"walk_forward": {"test_start": day(-9)}},
        ("walk_forward", "9 test days", "at least 10"),
    ),
    "two days, traded daily": (
        {"walk_forward": {"test_start": day(-2), "rebalance_every": 1}},
        ("2 test days", "at least 10"),
    ),
    "nothing to confirm": (
        {"report": {"confirm_from": "2100-01-01"}},
        ("report.confirm_from 2100-01-01", "0 days", "at least 10"),
    ),
    "one day to confirm": (
        {"report": {"confirm_from": day(-1)}},
        ("report.confirm_from", "1 days", f"to {day(-1)}"),
    ),
    "no factor": (
        {"factors": {"exclude": [factor.name for factor in FACTORS]}},
        ("factors.exclude", "keep at least one"),
    ),
    "no stock is dear enough": (
        {"cleaning": {"min_price": 1e9}},
        ("at most 0 stocks", "to train on", "[cleaning]"),
    ),
}


class TestRefusals:
    @pytest.mark.parametrize("case", REFUSED)
    def test_one_sentence_before_any_fit(self, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_fit(*_: Any) -> None:
            raise AssertionError("a model was fitted")

        monkeypatch.setattr("alphakeel.pipeline.fitting.fit_and_score", no_fit)
        changed, words = REFUSED[case]
        with pytest.raises((ConfigError, DataError)) as caught:
            study_of(LONG, **changed)
        assert all(word in str(caught.value) for word in words), str(caught.value)

    @pytest.mark.parametrize(
        ("kept", "where"),
        [(LONG["ticker"].isin(TICKERS[:3]), "to train on"),
         ((LONG["date"] < DAYS[330]) | LONG["ticker"].isin(TICKERS[:3]), "of the test")],
        ids=["three stocks", "three left in the test"],
    )  # fmt: skip
    def test_too_few_stocks(self, kept: pd.Series, where: str) -> None:
        with pytest.raises(DataError, match=f"at most 3 stocks on .* {where}.*at least 5"):
            study_of(LONG[kept])

    def test_china_without_closes_as_traded(self) -> None:
        with pytest.raises(DataError, match=r"column `close`.*set costs.preset to \"flat\"\.$"):
            study_of(LONG.drop(columns="close"), costs={"preset": "cn"})

    @pytest.mark.parametrize("gap", [DAYS[:100], DAYS[300:303], DAYS], ids=["late", "gap", "none"])
    def test_bear_exposure_needs_the_index_of_every_day(self, gap: Any) -> None:
        frame = without_index(lambda date: date.isin(gap))
        with pytest.raises(DataError, match=r"bear_exposure.*value on every day.*\.$"):
            study_of(frame, overlay={"bear_exposure": 0.5})


class TestOddIndex:
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
        assert_tells_numbers(study, tmp_path)

    def test_index_that_never_moves(self, tmp_path: Path) -> None:
        study = study_of(LONG.assign(market_index=100.0))
        assert "factor_shocks" not in study.tables()
        assert_tells_numbers(study, tmp_path)

    def test_market_that_never_turns(self, tmp_path: Path) -> None:
        study = study_of(LONG, report={"zigzag": 0.5})
        assert study.regimes is not None
        assert not len(study.regimes.points.rows)
        assert study.tables()["regime_lags"].empty
        assert_tells_numbers(study, tmp_path)


class TestShortTests:
    @pytest.mark.parametrize("last", [10, 30, 60])
    def test_last_days_of_the_data(self, last: int, tmp_path: Path) -> None:
        study = study_of(LONG, walk_forward={"test_start": day(-last)})
        decay, lag = study.tables()["decay"].set_index("horizon"), study.config.target.lag
        for horizon in DECAY:
            known = len([row for row in range(0, last, 5) if row + lag + horizon < last])
            assert np.isfinite(decay.loc[horizon, "rank_ic"]) == (known >= 2), horizon
        assert_tells_numbers(study, tmp_path)

    @pytest.mark.parametrize("left", [10, 400])
    def test_confirmation_of_a_few_days_and_of_all(self, left: int, tmp_path: Path) -> None:
        study = study_of(LONG, report={"confirm_from": day(-left)})
        assert len(study.tables()["confirm_table_1"]) == len(study.every_ledger())
        assert_tells_numbers(study, tmp_path)

    def test_few_training_rows_leave_no_sign_to_be_stable(self) -> None:
        rng = np.random.default_rng(0)
        values, targets = rng.normal(size=(3, 8, 2)), rng.normal(size=(3, 8, 1))
        screen = FactorScreen(min_keep=2).fit(
            values, targets, np.ones((3, 8), dtype=bool), ("a", "b"), ("x", "y")
        )
        assert len(screen.selected_) == 2


class TestLimits:
    def test_no_breach_is_a_loan(self) -> None:
        """Limits that cannot be met together give way; a long-only book still owes nothing."""
        alloc = {
            "method": "mean_variance",
            "sector_limit": 0.0,
            "invested": 1.0,
            "weight_cap": 1.0,
        }
        study = run_study(
            load_bundled("synthetic", n_assets=12, n_dates=700, seed=1), settings(allocation=alloc)
        )
        broken = [
            r.breached for r in study.portfolios.records["Linear"] if r.status == "least_breach"
        ]
        assert broken
        assert not any("gross" in breached for breached in broken)

    def test_cash_has_no_share_of_its_risk(self, tmp_path: Path) -> None:
        study = study_of(LONG, allocation={"method": "mean_variance", "strength": 0.0})
        assert not study.strategies["Linear"].net_returns.any()
        risk = study.tables()["value_at_risk"].loc["Linear"]
        assert risk["days"] == 0
        assert np.isnan(risk[["rate", "kupiec_p", "mean_var"]].to_numpy(dtype=float)).all()
        change = study.tables()["table_1_difference"]
        assert change[["max_drawdown_change", "var_95_change"]].isna().all().all()
        assert_tells_numbers(study, tmp_path)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_interval_of_resamples_without_a_value(self, bad: float) -> None:
        row = with_interval("x", 0.5, np.array([0.1, bad, 0.2]), (0.025, 0.975))
        assert row["x"] == 0.5
        assert np.isnan([row["x_low"], row["x_high"], row["x_p"]]).all()


class TestOverlay:
    @pytest.mark.parametrize("lag", [1, 2, 3])
    def test_without_rules_it_changes_nothing(self, lag: int) -> None:
        off = {"target_volatility": "none", "var_cap": "none", "brake_start": "none"}
        study = study_of(LONG, target={"lag": lag}, overlay=off)
        for name, ledger in study.strategies.items():
            np.testing.assert_array_equal(ledger.net_returns, study.overlaid[name].net_returns)

    @pytest.mark.parametrize("lag", [2, 3])
    def test_scrambling_the_future_moves_nothing_in_the_past(self, lag: int) -> None:
        chosen = settings(target={"lag": lag}, overlay={"bear_exposure": 0.3})
        panel = panel_from_long(LONG)
        study = run_study(panel, chosen)
        row = study.test.start + 91
        other = run_study(shaken_after(panel, row), chosen)
        past = slice(0, row - study.test.start + 1)
        for name, ledger in study.every_ledger().items():
            again = other.every_ledger()[name]
            np.testing.assert_array_equal(ledger.net_returns[past], again.net_returns[past], name)
            np.testing.assert_array_equal(ledger.weights[past], again.weights[past], name)
        for name, plan in study.portfolios.overlays.items():
            np.testing.assert_array_equal(
                plan.exposure[past], other.portfolios.overlays[name].exposure[past], name
            )


def shaken_after(panel: AssetPanel, row: int) -> AssetPanel:
    """The panel with every number after `row` multiplied by noise."""
    rng = np.random.default_rng(0)
    copy = panel.copy(deep=True)
    for name, field in copy.fields.items():
        values = field.values.copy()
        if np.issubdtype(values.dtype, np.floating):
            noise = np.exp(rng.normal(0.0, 0.1, values[row + 1 :].shape))
            values[row + 1 :] *= noise[:, :1] if name == "market_index" else noise
        copy.fields[name] = field.with_values(values)
    return copy


class TestCustomFactorFiles:
    @pytest.mark.parametrize(
        ("text", "told"),
        [("import sys\nsys.exit(3)\n", r"own\.py, line 2: SystemExit: 3\."),
         ("\0", r"own\.py: source code .*null bytes\.")],
        ids=["exits", "not text"],
    )  # fmt: skip
    def test_a_file_that_cannot_be_run(self, text: str, told: str, tmp_path: Path) -> None:
        file = tmp_path / "own.py"
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=rf"^{told}$"):
            load_factors(file)

    def test_a_factor_that_exits(self, tmp_path: Path) -> None:
        file = tmp_path / "own.py"
        file.write_text(
            "from alphakeel import factor\n"
            "@factor(lookback=2, fields=('adj_close',), family='own')\n"
            "def leaves(adj_close):\n"
            "    raise SystemExit('done')\n",
            encoding="utf-8",
        )
        with pytest.raises(ConfigError, match=r"'leaves' \(own\.py, line 4\) fails: SystemExit"):
            study_of(LONG, factors={"custom": str(file)})


class TestLostFiles:
    def test_an_interrupted_save_leaves_the_older_run_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        study = study_of(LONG)
        run = save_run(
            study, tmp_path, more=lambda folder: (folder / "report.html").write_text("1")
        )
        names = sorted(path.name for path in run.rglob("*"))

        def interrupted(folder: Path) -> None:
            (folder / "report.html").write_text("2")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            save_run(study, tmp_path, more=interrupted)
        replace, seen = os.replace, []

        def once(source: Path, target: Path) -> None:
            seen.append(target)
            if len(seen) == 2:  # the older run is out of the way, the new one not in its place
                raise KeyboardInterrupt
            replace(source, target)

        monkeypatch.setattr("alphakeel.storage.runs.os.replace", once)
        with pytest.raises(KeyboardInterrupt):
            save_run(study, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [run.name]
        assert sorted(path.name for path in run.rglob("*")) == names
        assert (run / "report.html").read_text() == "1"

    def test_prices_are_no_ledger(self, tmp_path: Path) -> None:
        file = tmp_path / "prices.csv"
        file.write_text("date,ticker,adj_close\n2020-01-02,AAPL,75.0\n", encoding="utf-8")
        before = file.read_bytes()
        with pytest.raises(DataError, match=r"prices\.csv is not a file of trials"):
            TrialLedger(file).count("")
        assert file.read_bytes() == before

    def test_interrupted_threads_are_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Python would end them at its own end, and abort in the midst of a product of matrices."""
        ended: list[int] = []

        def interrupted() -> None:
            raise SystemExit(130)

        monkeypatch.setattr(cli, "app", interrupted)
        monkeypatch.setattr(os, "_exit", ended.append)
        with pytest.raises(SystemExit):
            cli.main()
        assert ended == [130]


def optional_settings() -> list[tuple[str, str]]:
    """Every setting that may be "none", as (section, key)."""
    found = []
    for section in fields(StudyConfig):
        own = getattr(StudyConfig(), section.name)
        if is_dataclass(own):
            hints = typing.get_type_hints(type(own))
            found += [
                (section.name, key.name)
                for key in fields(own)
                if isinstance(hints[key.name], types.UnionType)
            ]
    return found


@pytest.mark.parametrize(("section", "key"), optional_settings())
def test_none_survives_a_settings_file(section: str, key: str) -> None:
    chosen = config_from_dict({section: {key: "none"}})
    assert getattr(getattr(chosen, section), key) is None
    assert config_from_dict(tomllib.loads(config_to_toml(chosen))) == chosen


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
    settings = OverlayConfig(target_volatility=None, var_cap=0.01, brake_start=None)
    for level, exposure in ((-0.01, 1.0), (0.0, 1.0), (0.02, 0.5)):
        risk = TailForecast(np.full(100, level), np.full(100, level))
        plan = apply_overlay(portfolio, risk, simulator, settings)[1]
        np.testing.assert_allclose(plan.exposure, exposure, rtol=0.02)
