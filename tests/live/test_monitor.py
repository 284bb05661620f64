"""Journal and monitor: what was decided stands, and reality is held against the backtest."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from live_study import Saved, save_small

from alphakeel.errors import DataError
from alphakeel.files import slug
from alphakeel.live.decision import DailyDecision, decide, live_folder
from alphakeel.live.drift import population_stability, read_fills
from alphakeel.live.journal import Journal
from alphakeel.live.monitor import (
    AGREES,
    CANNOT_SAY,
    DISAGREES,
    _overlap,
    _step,
    days_needed,
    monitor_run,
    verdict_of,
)
from alphakeel.storage.saved_runs import SavedRun, open_run
from helpers import run_command

LABEL = "Linear + overlay"
DAYS = 40


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return save_small(tmp_path_factory.mktemp("runs"), "linear")


@pytest.fixture(scope="module")
def followed(saved: Saved) -> Saved:
    """The run with a journal of its last days, one decision a day."""
    for day in saved.study.dates[-DAYS:]:
        decision = decide(saved.run, saved.panel, strategy=LABEL, day=day)
        assert journal_of(saved.run).record(decision, dt.date.fromisoformat(str(day))) == ""
    return saved


def journal_of(run: SavedRun) -> Journal:
    return Journal(live_folder(run) / "journal")


def copy_of(saved: Saved, folder: Path) -> SavedRun:
    shutil.copytree(saved.run.folder, folder / saved.run.name)
    return open_run(folder / saved.run.name)


class TestJournal:
    def decision(self, run: SavedRun, saved: Saved, **given: object) -> DailyDecision:
        return decide(run, saved.panel, strategy="linear", **given)  # type: ignore[arg-type]

    def test_what_is_read_is_what_was_decided(self, followed: Saved) -> None:
        entries = journal_of(followed.run).entries(LABEL)
        assert [entry.day for entry in entries] == list(followed.study.dates[-DAYS:])
        assert journal_of(followed.run).strategies() == (LABEL,)
        last = decide(followed.run, followed.panel, strategy=LABEL)
        assert entries[-1].weights == last.weights
        assert not entries[-1].in_hindsight

    def test_the_first_decision_of_a_day_stands(self, saved: Saved, tmp_path: Path) -> None:
        run = copy_of(saved, tmp_path)
        decision, journal = self.decision(run, saved), journal_of(run)
        assert journal.record(decision, dt.date(2020, 1, 1)) == ""
        files = {path: path.read_bytes() for path in journal.folder.rglob("*") if path.is_file()}
        assert journal.record(decision, dt.date(2020, 1, 2)) == ""
        changed = saved.panel.copy(deep=True)
        changed.fields["adj_close"].values[-30:, 0] *= 0.5
        other = decide(run, changed, strategy="linear")
        assert "the first stands" in journal.record(other, dt.date(2020, 1, 2))
        again = {path: path.read_bytes() for path in journal.folder.rglob("*") if path.is_file()}
        assert again == files

    def test_a_changed_file_is_refused(self, saved: Saved, tmp_path: Path) -> None:
        run = copy_of(saved, tmp_path)
        journal = journal_of(run)
        journal.record(self.decision(run, saved), dt.date(2020, 1, 1))
        (path,) = (journal.folder / slug("Linear")).glob("*.json")
        whole = path.read_text()
        path.write_text(whole.replace('"decided"', '"Decided"'))
        with pytest.raises(DataError, match="changed after it was written"):
            journal.entries("Linear")
        path.write_text(whole[:200])
        with pytest.raises(DataError, match="is no decision"):
            monitor_run(run, saved.panel, strategy="linear")

    def test_a_decision_in_hindsight_is_known_as_one(self, saved: Saved, tmp_path: Path) -> None:
        run = copy_of(saved, tmp_path)
        journal_of(run).record(self.decision(run, saved), dt.date(2100, 1, 1))
        assert journal_of(run).entries("Linear")[0].in_hindsight


class TestMonitor:
    def test_the_journal_is_the_backtest(self, followed: Saved) -> None:
        """Weights to the bit on every day, and the wealth that the backtest made of them."""
        result = monitor_run(followed.run, followed.panel, strategy=LABEL)
        assert result.decisions["same"].all()
        assert len(result.decisions) == DAYS
        ledger = followed.study.every_ledger()[LABEL]
        live = result.ledger
        assert live is not None
        # It begins in cash, so that it holds what the backtest holds after its first trade.
        first = 1 + int(np.flatnonzero((live.weights == ledger.weights[-DAYS:]).all(axis=1))[1:][0])
        np.testing.assert_allclose(
            live.net_returns[first + 1 :], ledger.net_returns[-DAYS:][first + 1 :], atol=2e-4
        )

    def test_every_measure(self, followed: Saved) -> None:
        result = monitor_run(followed.run, followed.panel, strategy=LABEL)
        measures = result.measures.set_index("measure")
        assert {"Rank IC", "return", "VaR 95 % exceeded", "turnover a year"} <= set(measures.index)
        assert measures.loc["return", "low"] < measures.loc["return", "high"]
        assert measures["p"].dropna().between(0.0, 1.0).all()
        assert result.verdict.word in (AGREES, CANNOT_SAY, DISAGREES)
        assert result.verdict.sentence.endswith(".")
        assert set(result.drift.columns) == {"factor", "psi", "usual", "drifted"}
        assert len(result.drift) > 0
        assert (result.cone[0] == 1.0).all()
        assert (np.diff(result.cone[1:], axis=1) >= 0.0).all()
        json.dumps(result.to_dict(), allow_nan=False)

    def test_a_crash_that_the_backtest_does_not_know_is_seen(self, followed: Saved) -> None:
        fallen = followed.panel.copy(deep=True)
        for name in ("adj_close", "close", "open", "high", "low"):
            if name in fallen.fields:
                drop = np.cumprod(np.full(DAYS - 5, 0.98))[:, None]
                fallen.fields[name].values[-DAYS + 5 :] *= drop
        result = monitor_run(followed.run, fallen, strategy=LABEL)
        assert result.verdict.word == DISAGREES
        assert result.retrain[0]
        assert "return" in result.verdict.sentence or "VaR" in result.verdict.sentence

    def test_nothing_to_monitor(self, saved: Saved) -> None:
        with pytest.raises(DataError, match="has no decision for Equal weight"):
            monitor_run(saved.run, saved.panel, strategy="Equal weight")

    def test_cash(self, saved: Saved, tmp_path: Path) -> None:
        run = copy_of(saved, tmp_path)
        journal_of(run).record(decide(run, saved.panel, strategy="cash"), dt.date(2020, 1, 1))
        result = monitor_run(run, saved.panel, strategy="cash")
        assert result.verdict.word == CANNOT_SAY
        assert not result.retrain[0]

    def test_data_without_a_day_of_the_journal(self, followed: Saved) -> None:
        with pytest.raises(DataError, match="do not have the day"):
            monitor_run(followed.run, followed.until(followed.study.dates[-3]), strategy=LABEL)

    def test_slippage_of_fills(self, followed: Saved, tmp_path: Path) -> None:
        day, name = followed.study.dates[-5], str(followed.study.asset_names[0])
        panel = followed.study.dataset.panel
        close = (panel["close"] if "close" in panel.fields else panel["adj_close"])[-5, 0]
        path = tmp_path / "fills.csv"
        path.write_text(
            f"date,ticker,side,shares,price\n{day},{name},buy,10,{close * 1.002}\n"
            f"{day},{name},sell,10,{close * 0.998}\n"
        )
        result = monitor_run(followed.run, followed.panel, strategy=LABEL, fills=path)
        row = result.measures.set_index("measure").loc["slippage of a side"]
        assert row["live"] == pytest.approx(0.002)
        assert row["expected"] == followed.study.config.costs.cost_per_side
        path.write_text("date,ticker,side,shares,price\n2020-01-01,A,hold,1,1\n")
        with pytest.raises(DataError, match="row 2: give a date, buy or sell"):
            read_fills(path)


def test_days_between_decisions_are_those_that_there_were(saved: Saved) -> None:
    """Two weeks of five days and three decisions a day apart are 13 days for five steps."""
    dataset = replace(saved.study.dataset, decisions=np.array([0, 5, 10, 11, 12, 13]))
    own: Any = SimpleNamespace(dataset=dataset)
    assert _step(own) == 13 / 5
    assert _overlap(own) == dataset.rows_ahead(max(dataset.horizons)) == 6


class TestVerdict:
    def measures(self, *p: float) -> pd.DataFrame:
        rows = [(f"test {k}", 0.0, 1.0, 0.5, 1.5, value, 10) for k, value in enumerate(p)]
        return pd.DataFrame(rows, columns=["measure", "live", "expected", "low", "high", "p", "n"])

    def test_the_three_verdicts(self) -> None:
        assert verdict_of(self.measures(0.5, 0.3), 100.0, 200).word == AGREES
        early = verdict_of(self.measures(0.5, 0.3), 100.0, 40)
        assert (early.word, early.days_needed) == (CANNOT_SAY, 60)
        assert "60 more" in early.sentence
        assert verdict_of(self.measures(0.5, 0.01), 100.0, 200).word == DISAGREES
        # Three tests at 5 % together: 0.03 alone is no evidence.
        assert verdict_of(self.measures(0.5, 0.03, 0.4), 100.0, 200).word == AGREES

    def test_no_edge_can_be_confirmed(self) -> None:
        verdict = verdict_of(self.measures(0.5), days_needed(-0.01, 0.1), 1000)
        assert (verdict.word, verdict.days_needed) == (CANNOT_SAY, None)

    def test_power_is_what_it_says(self) -> None:
        """After so many observations a mean of 0 is told from the expected one 4 times in 5."""
        n = int(np.ceil(days_needed(0.05, 0.1)))
        rng = np.random.default_rng(0)
        means = rng.normal(0.0, 0.1, (20_000, n)).mean(axis=1)
        seen = (means - 0.05) / (0.1 / np.sqrt(n)) < -1.6449
        assert seen.mean() == pytest.approx(0.8, abs=0.02)

    def test_population_stability_by_hand(self) -> None:
        expected = (0.2 - 0.5) * np.log(0.2 / 0.5) + (0.8 - 0.5) * np.log(0.8 / 0.5)
        assert population_stability(np.array([5, 5]), np.array([2, 8])) == pytest.approx(expected)
        assert population_stability(np.array([3, 7]), np.array([30, 70])) == pytest.approx(0.0)


class TestCommand:
    def test_monitor_and_its_exit_code(self, followed: Saved, tmp_path: Path) -> None:
        from alphakeel.data.panel import panel_to_long

        path = tmp_path / "prices.parquet"
        panel_to_long(followed.panel).to_parquet(path)
        told = run_command(
            "monitor", followed.run.folder, "--data", path, "--strategy", LABEL, "--json"
        )
        document = json.loads(told.stdout)
        assert told.exit_code == (4 if document["verdict"] == DISAGREES else 0)
        words = run_command(
            "monitor", followed.run.folder, "--data", path, "--strategy", LABEL
        ).output
        assert "Retrain now?" in words
        assert "Verdict" in words
