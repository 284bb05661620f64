"""Saved runs: found, listed, compared, deleted; and what to do next after a run."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from live_study import Saved, save_small

from alphakeel.errors import DataError
from alphakeel.evaluation.recommendation import NOTHING, recommend
from alphakeel.live.decision import decide, live_folder
from alphakeel.live.journal import Journal
from alphakeel.storage.saved_runs import find_run, list_runs, open_run
from helpers import run_command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def two(folder: Path) -> tuple[Saved, Saved]:
    return (
        save_small(folder, "linear"),
        save_small(folder, "linear", allocation={"quantile": 0.5}),
    )


def test_a_run_is_read_as_it_was(two: tuple[Saved, Saved]) -> None:
    saved = two[0]
    # The number of fits at a time is no setting of a result.
    assert saved.run.config == replace(saved.study.config, jobs=saved.run.config.jobs)
    assert saved.run.models == saved.study.plan.models
    assert saved.run.labels == tuple(saved.study.every_ledger())
    assert saved.run.recommendation() == saved.study.recommendation()
    assert [fold.test for fold in saved.run.folds] == [fold.test for fold in saved.study.folds]
    weights = saved.run.weights("Linear + overlay").to_numpy()
    assert (weights == saved.study.every_ledger()["Linear + overlay"].weights).all()


def test_found_by_name(two: tuple[Saved, Saved], folder: Path) -> None:
    first, second = (saved.run.name for saved in two)
    assert [path.name for path in list_runs(folder)] == [first, second]
    assert find_run(None, folder).name == second
    assert find_run(first[-8:], folder).name == first
    assert find_run(str(folder / first), "elsewhere").name == first
    with pytest.raises(DataError, match="there is no run 'nope'"):
        find_run("nope", folder)
    with pytest.raises(DataError, match="2 runs are called"):
        find_run("20", folder)


def test_list_and_show(two: tuple[Saved, Saved], folder: Path) -> None:
    told = json.loads(run_command("runs", "--runs", folder, "--json").stdout)
    assert [row["run"] for row in told["runs"]] == [saved.run.name for saved in two]
    shown = run_command("runs", "show", two[0].run.name, "--runs", folder)
    assert shown.exit_code == 0
    assert "Table I" in shown.output
    assert "No runs in" in run_command("runs", "--runs", folder / "none").output
    assert run_command("runs", "paint").exit_code == 2


def test_compare(two: tuple[Saved, Saved], folder: Path, tmp_path: Path) -> None:
    names = [saved.run.name for saved in two]
    page = tmp_path / "compare.html"
    told = run_command("runs", "compare", *names, "--runs", folder, "--html", page, "--json")
    document = json.loads(told.stdout)
    differing = {row["setting"]: row for row in document["settings"]}
    assert set(differing) == {"allocation.quantile"}
    assert differing["allocation.quantile"][names[1]] == "0.5"
    sharpe = {row["strategy"]: row for row in document["tables"]["sharpe"]}
    assert sharpe["Linear"][names[0]] == two[0].study.table_1().loc["Linear", "sharpe"]
    text = page.read_text(encoding="utf-8")
    assert text.count("<polyline") >= 2
    assert "<script" not in text
    alone = run_command("runs", "compare", names[0], "--runs", folder)
    assert alone.exit_code == 2
    assert "two runs or more" in alone.output


def test_prune_keeps_the_newest_and_those_with_a_journal(tmp_path: Path) -> None:
    runs = [
        save_small(tmp_path, "linear", allocation={"quantile": quantile})
        for quantile in (0.3, 0.4, 0.5)
    ]
    first = open_run(runs[0].run.folder)
    decision = decide(first, runs[0].panel, strategy="linear")
    Journal(live_folder(first) / "journal").record(decision, dt.date(2020, 1, 1))
    told = run_command("runs", "prune", "--runs", tmp_path, "--keep", "1", "--yes")
    assert told.exit_code == 0
    assert runs[1].run.name in told.output
    assert {path.name for path in list_runs(tmp_path)} == {runs[0].run.name, runs[2].run.name}


def test_the_end_of_a_run_says_what_comes_next(tmp_path: Path) -> None:
    settings = tmp_path / "study.toml"
    settings.write_text(
        'models = ["linear"]\n[report]\nn_bootstrap = 100\ndrivers = false\nsensitivity = false\n'
    )
    told = run_command(
        "run", "--data", "synthetic", "--config", settings, "--out", tmp_path / "runs"
    )
    assert told.exit_code == 0, told.output
    lines = " ".join(told.output.split())
    (run,) = list_runs(tmp_path / "runs")
    reason = open_run(run).recommendation().reason
    assert " ".join(reason.split())[1:] in lines
    for command in ("alphakeel today", "alphakeel audit", "alphakeel monitor"):
        assert command in lines


class TestRecommendation:
    def table(self, base: float, *rows: tuple[float, float, float]) -> pd.DataFrame:
        nan = float("nan")
        names = ["Equal weight", *(f"Strategy {k + 1}" for k in range(len(rows)))]
        return pd.DataFrame(
            [
                (base, base - 0.5, base + 0.5, nan, nan, nan, 0.95),
                *((base + d, nan, nan, d, low, high, 0.99) for d, low, high in rows),
            ],
            columns=[
                *("sharpe", "sharpe_low", "sharpe_high"),
                *("difference", "difference_low", "difference_high", "level"),
            ],
            index=pd.Index(names, name="strategy"),
        )

    def test_a_proven_strategy(self) -> None:
        table = self.table(0.5, (0.9, -0.1, 1.9), (0.4, 0.1, 0.7), (0.3, 0.2, 0.4))
        assert recommend(table).strategy == "Strategy 3"
        told = "it had a Sharpe ratio of 0.80, and Equal weight 0.50"
        assert told in recommend(table).reason
        assert "0.20 to 0.40 at 95% confidence, allowing for 3 strat" in recommend(table).reason

    def test_the_benchmark_without_proof(self) -> None:
        own = recommend(self.table(0.5, (0.9, -0.1, 1.9)))
        assert own.strategy == "Equal weight"
        assert "Strategy 1 came out best, but that may well be luck" in own.reason
        assert "anything from -0.10 to 1.90" in own.reason

    def test_the_benchmark_where_nothing_was_better(self) -> None:
        own = recommend(self.table(0.5, (-0.2, -1.0, 0.6), (-0.1, -0.8, 0.6)))
        assert own.strategy == "Equal weight"
        assert "no strategy came out better. The nearest, Strategy 2, had" in own.reason

    def test_nothing_where_the_benchmark_lost(self) -> None:
        own = recommend(self.table(-0.1, (0.9, 0.1, 1.9)))
        assert own.strategy == NOTHING
        assert own.reason.endswith("Strategy 1 came out best, at 0.80.")
