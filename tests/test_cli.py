"""The command line as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from alphakeel.cli import app
from alphakeel.data.panel import panel_to_long
from alphakeel.data.simulate import simulate_market

SETTINGS = """
models = ["linear"]
[walk_forward]
refit_every = 200
[report]
bootstrap = 100
"""


def alphakeel(*args: str | Path) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "prices.csv"
    panel = simulate_market(n_assets=12, n_dates=800, seed=2, signal=0.1).panel
    frame = panel_to_long(panel).drop(columns=["market_index"], errors="ignore")
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("settings") / "study.toml"
    path.write_text(SETTINGS)
    return path


def one_sentence(result: Result) -> str:
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("alphakeel: ")
    return lines[0]


def test_help_answers_without_heavy_imports() -> None:
    code = (
        "import sys; from alphakeel.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'torch', 'numpy', 'pandas', 'skfolio', 'plotly'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("run", "check", "init"):
        assert command in done.stdout


def test_run_prints_a_table_and_writes_a_report(
    prices: Path, settings: Path, tmp_path: Path
) -> None:
    done = alphakeel("run", "--data", prices, "--config", settings, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    for words in ("Table I", "Equal weight", "Minimum variance", "Linear", "report.html"):
        assert words in done.output
    (folder,) = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert (folder / "report.html").stat().st_size > 100_000
    table = pd.read_csv(folder / "tables" / "table_1.csv", index_col=0)
    assert "Linear" in table.index
    facts = json.loads((folder / "run.json").read_text())
    assert len(facts["data_hash"]) == 64
    assert facts["versions"]["torch"]


def test_a_run_folder_runs_again_to_the_same_numbers(
    prices: Path, settings: Path, tmp_path: Path
) -> None:
    first = alphakeel("run", "--config", settings, "--data", prices, "--out", tmp_path, "--json")
    document = json.loads(first.stdout)
    again = alphakeel(
        "run", "--config", Path(document["run"]) / "study.toml", "--out", tmp_path / "b", "--json"
    )
    repeated = json.loads(again.stdout)
    assert repeated["tables"] == document["tables"]
    assert repeated["data_hash"] == document["data_hash"]


def test_quiet_prints_nothing(prices: Path, settings: Path, tmp_path: Path) -> None:
    done = alphakeel("run", "--data", prices, "--config", settings, "--out", tmp_path, "--quiet")
    assert done.exit_code == 0
    assert done.output == ""


def test_init_writes_what_run_reads(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    assert alphakeel("init", path).exit_code == 0
    assert "exists" in one_sentence(alphakeel("init", path))
    assert alphakeel("init", path, "--force").exit_code == 0


class TestBadInput:
    def test_missing_data(self, tmp_path: Path) -> None:
        assert "nowhere.csv" in one_sentence(alphakeel("run", "--data", tmp_path / "nowhere.csv"))

    def test_missing_settings(self, tmp_path: Path) -> None:
        sentence = one_sentence(alphakeel("run", "--config", tmp_path / "no.toml"))
        assert "cannot read" in sentence

    def test_unknown_setting(self, tmp_path: Path) -> None:
        path = tmp_path / "bad.toml"
        path.write_text("[network]\nhiden = 3")
        assert "did you mean network.hidden?" in one_sentence(alphakeel("run", "--config", path))

    def test_output_folder_is_a_file(self, prices: Path, settings: Path, tmp_path: Path) -> None:
        wall = tmp_path / "wall"
        wall.write_text("")
        done = alphakeel("run", "--data", prices, "--config", settings, "--out", wall, "--quiet")
        assert "cannot write" in one_sentence(done)


class TestCheck:
    def test_good_file(self, prices: Path) -> None:
        done = alphakeel("check", prices)
        assert done.exit_code == 0, done.output
        assert "12 tickers" in done.output

    def test_bad_file_is_told_by_ticker_and_date(self, prices: Path, tmp_path: Path) -> None:
        frame = pd.read_csv(prices)
        frame.loc[40, "adj_close"] = -1.0
        path = tmp_path / "bad.csv"
        frame.to_csv(path, index=False)
        done = alphakeel("check", path)
        assert done.exit_code == 2
        assert str(frame.loc[40, "ticker"]) in done.output
        assert str(frame.loc[40, "date"])[:10] in done.output

    def test_json(self, prices: Path) -> None:
        document = json.loads(alphakeel("check", prices, "--json").stdout)
        assert document["n_assets"] == 12
        assert document["problems"] == []
