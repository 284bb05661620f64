"""Figure 2: curves that a brute-force count agrees with, and test years that choose nothing."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from skfolio.containers import AssetPanel
from typer.testing import Result

from alphakeel.config import NetworkConfig, ReportConfig, StudyConfig, config_to_toml
from alphakeel.data.simulation import simulate_market
from alphakeel.errors import ConfigError, DataError
from alphakeel.models.persistence import ModelState
from alphakeel.pipeline.plan import Plan
from alphakeel.progress import Progress
from alphakeel.report.validation_curve import curve_figure, render_curve, write_curve_page
from alphakeel.selection.search_space import Space, Span
from alphakeel.selection.trial_log import TrialLedger
from alphakeel.selection.validation_curve import run_validation_curve
from alphakeel.selection.validation_curve_fits import (
    AXES,
    METRICS,
    PERIODS,
    CurvePlan,
    CurveRunner,
    ValidationCurve,
    best_of,
    by_degree,
    diminishing,
    doublings,
    paired_gains,
    write_degrees,
)
from alphakeel.stats import performance
from helpers import run_command, scrambled_after, write_prices

CONFIG = StudyConfig(
    network=NetworkConfig(hidden=3, max_steps=4, burn_in=4, chunk=12),
    report=ReportConfig(n_bootstrap=100),
)
PLAN = CurvePlan(steps=(1, 4), hidden=(2, 3), n_trials=3, n_seeds=2, refits=2)
SPACE: Space = (Span("network.learning_rate", 1e-3, 1e-1, log=True),)


@pytest.fixture(scope="module")
def panel() -> AssetPanel:
    return simulate_market(n_assets=12, n_dates=900, seed=3, signal=0.1).panel


@pytest.fixture(scope="module")
def study(panel: AssetPanel) -> tuple[ValidationCurve, TrialLedger]:
    ledger = TrialLedger()
    return run_validation_curve(panel, CONFIG, PLAN, space=SPACE, ledger=ledger), ledger


class TestStudy:
    def test_each_degree_is_evaluated_in_both_periods(
        self, study: tuple[ValidationCurve, TrialLedger]
    ) -> None:
        found, _ = study
        degrees = {axis: sorted(set(own["degree"])) for axis, own in found.table.groupby("axis")}
        assert degrees == {"steps": [1, 4], "hidden": [2, 3], "trials": [1, 2, 3]}
        assert (found.table.groupby(["axis", "degree"])["period"].nunique() == 2).all()
        for metric in METRICS:
            own = found.table
            assert (own[f"{metric}_low"] <= own[metric] + 1e-12).all()
            assert (own[f"{metric}_high"] >= own[metric] - 1e-12).all()
        assert found.validated[1] < str(found.tested[0])

    def test_the_settings_as_they_are_stand_on_all_axes(
        self, study: tuple[ValidationCurve, TrialLedger]
    ) -> None:
        runs = study[0].runs
        own = [
            runs[(runs["axis"] == axis) & (runs["degree"] == degree)][[*METRICS]].to_numpy()
            for axis, degree in (("steps", 4), ("hidden", 3), ("trials", 1))
        ]
        np.testing.assert_array_equal(own[0], own[1])
        np.testing.assert_array_equal(own[0], own[2])

    def test_every_setting_is_one_trial_in_the_ledger(
        self, study: tuple[ValidationCurve, TrialLedger]
    ) -> None:
        found, ledger = study
        # 2 + 2 degrees and 3 trials, of which the settings as they are occur three times.
        assert ledger.count(found.data_hash) == 5
        assert {own.n_trials for own in found.deflation.values()} == {5}
        for record in ledger.of(found.data_hash):
            assert (record.first, record.last) == found.validated
            assert record.sharpe == pytest.approx(
                float(performance.sharpe(record.returns)), abs=1e-6
            )

    def test_the_test_years_choose_nothing_and_train_nothing_before_them(
        self, panel: AssetPanel, study: tuple[ValidationCurve, TrialLedger]
    ) -> None:
        found, ledger = study
        days = Plan.of(panel, CONFIG).test
        other = scrambled_after(panel, days.start - 1, how="fill")
        seen = TrialLedger()
        again = run_validation_curve(other, CONFIG, PLAN, space=SPACE, ledger=seen)
        for one, two in ((found.table, again.table), (found.runs, again.runs)):
            pd.testing.assert_frame_equal(
                *(t[t["period"] == "validation"].reset_index(drop=True) for t in (one, two))
            )
        chosen = ["axis", "metric", "diminishing", "best"]
        pd.testing.assert_frame_equal(found.points[chosen], again.points[chosen])
        assert found.summary()["deflation"] == again.summary()["deflation"]
        for one, two in zip(ledger.of(found.data_hash), seen.of(again.data_hash), strict=True):
            assert one.returns == two.returns
        # ... while the numbers out of sample do move.
        late = found.table["period"] == "out of sample"
        assert not found.table[late].equals(again.table[late])

    def test_jobs_change_no_number(
        self, panel: AssetPanel, study: tuple[ValidationCurve, TrialLedger]
    ) -> None:
        alone = run_validation_curve(panel, replace(CONFIG, jobs=1), PLAN, space=SPACE)
        pd.testing.assert_frame_equal(alone.table, study[0].table)


class Killed(BaseException):
    """Stands for the end of the process: nothing may catch it on the way."""


class Memory:
    """A store that loses its process after so many states were put."""

    def __init__(self, lives: int) -> None:
        self.states: dict[str, ModelState] = {}
        self.lives = lives

    def get(self, key: str) -> ModelState | None:
        return self.states.get(key)

    def put(self, key: str, state: ModelState) -> None:
        self.states[key] = state
        self.lives -= 1
        if self.lives == 0:
            raise Killed


class TestResumption:
    ALONE = replace(CONFIG, jobs=1)

    @pytest.mark.parametrize("model", ["lstm", "lstm_limited"])
    def test_killed_twice_and_run_again_it_gives_the_same_bits(
        self, panel: AssetPanel, study: tuple[ValidationCurve, TrialLedger], model: str
    ) -> None:
        plan = replace(PLAN, model=model) if model == "lstm" else replace(
            PLAN, model=model, steps=(1, 2), hidden=(2, 3), n_trials=2
        )  # fmt: skip
        seen = TrialLedger()
        run = partial(run_validation_curve, panel, self.ALONE, plan, space=SPACE)
        whole, ledger = study if model == "lstm" else (run(ledger=seen), seen)
        store = Memory(4)  # the word that it was begun, and three networks
        with pytest.raises(Killed):
            run(store=store)
        assert len(store.states) == 4
        store.lives = 3
        with pytest.raises(Killed):
            run(store=store)
        assert len(store.states) == 6
        told: list[Progress] = []
        again = TrialLedger()
        found = run(store=store, ledger=again, on_progress=told.append)
        assert "5 of " in next(p.detail for p in told if p.stage == "resuming")
        for name in ("table", "runs", "points"):
            pd.testing.assert_frame_equal(
                getattr(found, name), getattr(whole, name), check_exact=True
            )
        assert found.summary()["deflation"] == whole.summary()["deflation"]
        assert again.of(found.data_hash) == ledger.of(whole.data_hash)

    def test_what_was_done_is_not_done_again_unless_anything_differs(
        self, panel: AssetPanel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plan = replace(PLAN, steps=(1, 2), hidden=(2, 3), n_trials=2)
        store = Memory(-1)
        whole = run_validation_curve(panel, CONFIG, plan, space=SPACE, store=store)

        def no_fit(*_: object) -> None:
            raise AssertionError("a network was fitted")

        monkeypatch.setattr("alphakeel.selection.validation_curve_fits.fit_and_score", no_fit)
        again = run_validation_curve(panel, replace(CONFIG, jobs=1), plan, space=SPACE, store=store)
        pd.testing.assert_frame_equal(again.runs, whole.runs, check_exact=True)
        other: Space = (Span("network.learning_rate", 1e-3, 1e-2, log=True),)
        for changed, own, space in (
            (replace(CONFIG, seed=1), plan, SPACE),
            (CONFIG, replace(plan, refits=1), SPACE),
            (CONFIG, plan, other),
        ):
            with pytest.raises(AssertionError, match="was fitted"):
                run_validation_curve(panel, changed, own, space=space, store=store)


class TestCurves:
    def test_the_best_of_the_first_k_agrees_with_every_order(self) -> None:
        rng = np.random.default_rng(1)
        frames = [
            pd.DataFrame(
                {
                    "degree": range(1, 6),
                    "period": period,
                    **{m: rng.normal(size=5) for m in METRICS},
                }
            )
            for period in PERIODS
        ]
        table = best_of(pd.concat(frames), seed=0)
        judged, tested = (frame["sharpe"].to_numpy() for frame in frames)
        for k in (1, 2, 4, 5):
            picks = [max(order[:k], key=lambda i: judged[i])
                     for order in itertools.permutations(range(5))]  # fmt: skip
            own = table[table["degree"] == k].set_index("period")["sharpe"]
            assert own["validation"] == pytest.approx(np.mean(judged[picks]), abs=0.12)
            assert own["out of sample"] == pytest.approx(np.mean(tested[picks]), abs=0.12)
        validated = table[table["period"] == "validation"]["sharpe"]
        assert validated.is_monotonic_increasing
        assert validated.iloc[-1] == pytest.approx(judged.max())

    def test_bands_and_errors_are_those_of_the_seeds(self) -> None:
        values = np.array([0.1, 0.2, 0.6])
        runs = pd.DataFrame({"degree": 5, "seed": range(3), "period": "validation",
                             **dict.fromkeys(METRICS, values)})  # fmt: skip
        (row,) = by_degree(runs).to_dict("records")
        assert row["sharpe"] == pytest.approx(0.3)
        assert (row["sharpe_low"], row["sharpe_high"]) == (0.1, 0.6)
        assert row["sharpe_se"] == pytest.approx(np.std(values, ddof=1) / np.sqrt(3))

    def test_gains_are_paired_by_seed(self) -> None:
        runs = pd.DataFrame(
            [(d, s, "validation", s + 0.1 * d) for d in (1, 2, 4) for s in (0, 5)],
            columns=["degree", "seed", "period", "sharpe"],
        )
        degrees, gains, errors = paired_gains(runs, "sharpe")
        assert degrees == [1, 2, 4]
        np.testing.assert_allclose(gains, [0.1, 0.2])
        np.testing.assert_allclose(errors, 0.0, atol=1e-12)

    @pytest.mark.parametrize(
        ("gains", "point"),
        [([0.2, 0.2, 0.05], 25), ([0.05, 0.2, 0.2], 5), ([0.2, 0.2, 0.2], 50),
         ([0.2, np.nan, 0.2], 10)],
    )  # fmt: skip
    def test_returns_diminish_where_a_gain_is_within_its_error(
        self, gains: list[float], point: int
    ) -> None:
        assert diminishing([5, 10, 25, 50], np.array(gains), np.full(3, 0.1)) == point

    def test_doublings_end_with_all(self) -> None:
        assert doublings(1) == [1]
        assert doublings(16) == [1, 2, 4, 8, 16]


class TestPage:
    def test_the_page_stands_alone_and_says_what_was_found(
        self, study: tuple[ValidationCurve, TrialLedger], tmp_path: Path
    ) -> None:
        found = replace(study[0], name="<b>mine</b>")
        page = write_curve_page(found, tmp_path / "new" / "degrees.html").read_text("utf-8")
        assert page == render_curve(found)
        assert "<b>mine" not in page
        assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
        for axis, unit in AXES.items():
            assert f'id="{axis}"' in page
            assert f"More {unit}" in page

    @pytest.mark.parametrize("axis", AXES)
    def test_the_figure_draws_the_table(
        self, study: tuple[ValidationCurve, TrialLedger], axis: str
    ) -> None:
        figure = curve_figure(study[0], axis)
        lines = [trace for trace in figure.data if trace.mode == "lines+markers"]
        assert len(lines) == len(METRICS) * len(PERIODS)
        own = study[0].table
        own = own[(own["axis"] == axis) & (own["period"] == "validation")]
        np.testing.assert_allclose(
            np.array(lines[0].y, float), own["rank_ic"].to_numpy(), rtol=1e-5
        )
        assert list(lines[0].x) == list(own["degree"])

    def test_every_number_is_written(
        self, study: tuple[ValidationCurve, TrialLedger], tmp_path: Path
    ) -> None:
        folder = write_degrees(study[0], tmp_path)
        assert len(pd.read_csv(folder / "degrees.csv")) == len(study[0].table)
        assert len(pd.read_csv(folder / "degree_runs.csv")) == len(study[0].runs)
        told = json.loads((folder / "degrees.json").read_text())
        assert set(told["deflation"]) == set(AXES)
        with pytest.raises(DataError, match="cannot write"):
            write_degrees(study[0], "/dev/null/figures")
        with pytest.raises(DataError, match="cannot write"):
            write_curve_page(study[0], "/dev/null/page.html")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "linear"}, "no validation curve"),
        ({"n_seeds": 1}, "seeds must be at least 2"),
        ({"steps": (10, 5)}, "rising whole numbers"),
        ({"hidden": (4,)}, "two or more"),
        ({"validation_share": 1.0}, "between 0 and 1"),
    ],
)
def test_plans_that_cannot_work_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        CurvePlan(**settings)


def test_an_interrupted_command_goes_on_and_writes_figure_and_numbers(
    panel: AssetPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = partial(CurvePlan, steps=(1, 2), hidden=(2, 3))
    monkeypatch.setattr("alphakeel.selection.validation_curve_fits.CurvePlan", small)
    monkeypatch.setattr("alphakeel.storage.checkpoints.made_by", lambda: "this code")
    (tmp_path / "study.toml").write_text(config_to_toml(replace(CONFIG, jobs=1)))
    prices = write_prices(panel, tmp_path)
    out = tmp_path / "out"

    def degree() -> Result:
        return run_command(
            "degree", "--data", prices, "--config", tmp_path / "study.toml",
            "--trials", "2", "--seeds", "2", "--out", out,
        )  # fmt: skip

    forecast, calls = CurveRunner.forecast, itertools.count(1)

    def interrupted(*args: Any) -> Any:
        if next(calls) == 4:
            raise KeyboardInterrupt
        return forecast(*args)

    with monkeypatch.context() as patch:
        patch.setattr(CurveRunner, "forecast", interrupted)
        broken = degree()
    assert broken.exit_code == 130
    kept = f"3 of 9 fits kept in {tmp_path / 'out' / '.resume'}"
    assert broken.stderr.startswith(f"alphakeel: stopped by Ctrl-C with {kept}; the same command")
    assert [path.name for path in out.iterdir()] == [".resume"]
    done = degree()
    assert done.exit_code == 0, done.output
    assert done.stderr == "resuming: 3 of 9 fits done\n"
    for unit in AXES.values():
        assert f"More {unit}: returns diminish at" in done.stdout
    written = {path.name for path in out.iterdir()}
    assert {"degrees.html", "degrees.csv", "degrees.json", "trials.jsonl"} <= written
    assert ".resume" not in written, "a finished study leaves nothing to go on from"


@pytest.mark.parametrize("overlay", [False, True])
def test_the_command_evaluates_the_overlay_on_request(
    overlay: bool, panel: AssetPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = []

    def refused(panel: AssetPanel, config: StudyConfig, plan: CurvePlan, **_: Any) -> None:
        plans.append(plan)
        raise DataError("seen enough.")

    monkeypatch.setattr("alphakeel.selection.validation_curve.run_validation_curve", refused)
    arguments = ("degree", "--data", write_prices(panel, tmp_path), "--out", tmp_path / "out")
    done = run_command(*arguments, *["--overlay"] * overlay)
    assert done.exit_code == 2, done.output
    assert plans == [CurvePlan(overlay=overlay)]


def test_the_command_refuses_in_one_sentence(tmp_path: Path) -> None:
    done = run_command("degree", "--model", "linear", "--out", tmp_path)
    assert done.exit_code == 2
    (line,) = done.stderr.strip().splitlines()
    assert "linear has no validation curve" in line
