"""The command line as a user meets it."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kurtosis, norm, skew
from typer.testing import Result

from alphakeel import cli
from alphakeel.data.simulation import simulate_market
from helpers import run_command, write_prices

SETTINGS = """
models = ["linear"]
[walk_forward]
refit_every = 200
[report]
n_bootstrap = 100
"""


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    panel = simulate_market(n_assets=12, n_dates=800, seed=2, signal=0.1).panel
    return write_prices(panel, tmp_path_factory.mktemp("data"))


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
    done = run_command("run", "--data", prices, "--config", settings, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    for words in ("Table I", "Equal weight", "Minimum variance", "Linear", "report.html"):
        assert words in done.output
    assert "The first study of these data, 2 portfolios of models: the deflated" in done.output
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir() and path.name[0] != "."]
    assert (folder / "report.html").stat().st_size > 100_000
    table = pd.read_csv(folder / "tables" / "table_1.csv", index_col=0)
    assert "Linear" in table.index
    facts = json.loads((folder / "run.json").read_text())
    assert len(facts["data_hash"]) == 64
    assert facts["versions"]["torch"]


def test_how_files_were_understood_is_said_by_run_and_audit(
    prices: Path, settings: Path, tmp_path: Path
) -> None:
    table = pd.read_csv(prices) if prices.is_file() else pd.read_csv(next(prices.glob("*.csv")))
    wide = table.pivot(index="date", columns="ticker", values="adj_close")
    level = np.exp(np.log(wide).diff().mean(axis=1).fillna(0).cumsum())
    file = tmp_path / "odd.csv"
    wide.assign(**{"^GSPC": level}).to_csv(file)
    done = run_command("run", "--data", file, "--config", settings, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    words = "^GSPC is no stock but an index or a rate"
    assert words in " ".join(done.output.split())
    (facts,) = (tmp_path / "out").glob("*/run.json")
    notes = json.loads(facts.read_text())["notes"]
    assert any(words in note and "taken as the market index" in note for note in notes)
    done = run_command("audit", "--data", file, "--config", settings, "--json")
    assert any(words in note for note in json.loads(done.stdout)["notes"])


def test_a_run_folder_runs_again_to_the_same_numbers(
    prices: Path, settings: Path, tmp_path: Path
) -> None:
    first = run_command("run", "--config", settings, "--data", prices, "--out", tmp_path, "--json")
    document = json.loads(first.stdout)
    again = run_command(
        "run", "--config", Path(document["run"]) / "study.toml", "--out", tmp_path / "b", "--json"
    )
    repeated = json.loads(again.stdout)
    assert repeated["tables"] == document["tables"]
    assert repeated["data_hash"] == document["data_hash"]


def test_quiet_prints_nothing(prices: Path, settings: Path, tmp_path: Path) -> None:
    done = run_command("run", "--data", prices, "--config", settings, "--out", tmp_path, "--quiet")
    assert done.exit_code == 0
    assert done.output == ""


def test_init_writes_what_run_reads(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    assert run_command("init", path).exit_code == 0
    short = path.read_text()
    assert "exists" in one_sentence(run_command("init", path))
    assert run_command("init", path, "--all", "--force").exit_code == 0
    assert len(path.read_text()) > 2 * len(short)


def test_an_old_key_is_refused_with_its_new_name(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    path.write_text("[network]\nseeds = 5")
    sentence = one_sentence(run_command("run", "--config", path))
    assert sentence.endswith("setting network.seeds is now called network.n_seeds.")


def changed(settings: Path, folder: Path, text: str) -> Path:
    path = folder / "changed.toml"
    path.write_text(settings.read_text() + text)
    return path


class TestTrials:
    """Every study that was run on the same data is a look at its test."""

    def run(self, prices: Path, config: Path, out: Path, *more: str | Path) -> dict[str, Any]:
        arguments = ("--data", prices, "--config", config, "--out", out, "--json", *more)
        done = run_command("run", *arguments)
        assert done.exit_code == 0, done.output
        assert not done.stderr or done.stderr.startswith("resuming: "), "fits of an earlier run"
        assert len(done.stderr.splitlines()) <= 1
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def test_different_studies_count_and_the_same_one_counts_once(
        self, prices: Path, settings: Path, tmp_path: Path
    ) -> None:
        first = self.run(prices, settings, tmp_path)
        once = (tmp_path / "trials.jsonl").read_bytes()
        copy = tmp_path / "copy.csv"
        copy.write_bytes(prices.read_bytes())
        # The same prices elsewhere, and other intervals in the report: no other portfolio.
        idle = changed(settings, tmp_path, "level = 0.9\n")
        again = self.run(copy, idle, tmp_path)
        assert (tmp_path / "trials.jsonl").read_bytes() == once
        assert again["trials"] == first["trials"]
        assert (first["trials"]["n_studies"], first["trials"]["n_portfolios"]) == (1, 2)
        held = changed(settings, tmp_path, "[overlay]\ntarget_volatility = 0.05\n")
        second = self.run(prices, held, tmp_path)
        # Without the overlay it is the same portfolio: only the one under the overlay is new.
        assert (second["trials"]["n_studies"], second["trials"]["n_portfolios"]) == (2, 3)
        lines = [json.loads(x) for x in (tmp_path / "trials.jsonl").read_text().splitlines()]
        assert [line["source"] for line in lines] == ["run"] * 4
        assert {line["data"] for line in lines} == {first["data_hash"]}
        assert lines[2]["params"]["overlay.target_volatility"] == 0.05
        assert lines[0]["date"] == dt.date.today().isoformat()
        for line, document in ((lines[0], first), (lines[1], first), (lines[3], second)):
            own = Path(document["run"]) / "series"
            for name, what in (("net_returns", "sharpe"), ("gross_returns", "gross_sharpe")):
                returns = pd.read_csv(own / f"{name}.csv", index_col=0)[line["model"]]
                sharpe = returns.mean() / returns.std() * 252**0.5
                assert line[what] == pytest.approx(sharpe, rel=1e-9)
            assert (line["first"], line["last"]) == (str(returns.index[0]), str(returns.index[-1]))
        assert json.loads((Path(second["run"]) / "trials.json").read_text()) == second["trials"]
        report = (Path(second["run"]) / "report.html").read_text(encoding="utf-8")
        assert "2 different studies of these data, 3 portfolios of models" in report

        # The deflated Sharpe ratio by the formula of Bailey and Lopez de Prado (2014), a day.
        returns = [np.array(line["returns"]) for line in (lines[0], lines[1], lines[3])]
        sharpes = [one.mean() / one.std(ddof=1) for one in returns]
        own = max(returns[0], returns[2], key=lambda one: one.mean() / one.std(ddof=1))
        n, sharpe, gamma = 3, own.mean() / own.std(ddof=1), 0.5772156649015329
        spread = np.std(sharpes, ddof=1)
        quantiles = norm.ppf(1 - 1 / n), norm.ppf(1 - 1 / (n * np.e))
        expected = spread * ((1 - gamma) * quantiles[0] + gamma * quantiles[1])
        tails = 1 - skew(own) * sharpe + (kurtosis(own, fisher=False) - 1) / 4 * sharpe**2
        deflated = norm.cdf((sharpe - expected) * np.sqrt((len(own) - 1) / tails))
        found = second["trials"]["deflation"]
        assert found["deflated_sharpe"] == pytest.approx(deflated, abs=2e-4)
        assert found["expected_maximum_sharpe"] == pytest.approx(expected * 252**0.5, rel=1e-6)

    def test_another_test_period_counts_but_does_not_widen_the_spread(
        self, prices: Path, settings: Path, tmp_path: Path
    ) -> None:
        first = self.run(prices, settings, tmp_path)
        days = pd.to_datetime(pd.read_csv(prices)["date"].unique()).sort_values()
        later = tmp_path / "later.toml"
        later.write_text(
            settings.read_text().replace(
                "refit_every", f"test_start = {days[-150].date()}\nrefit_every"
            )
        )
        elsewhere = ("--ledger", tmp_path / "trials.jsonl")
        second = self.run(prices, later, tmp_path / "b", *elsewhere)["trials"]
        assert (second["n_studies"], second["n_portfolios"], second["n_comparable"]) == (2, 4, 2)
        assert second["deflation"]["n_trials"] == 4
        assert second["deflation"]["n_compared"] == 2
        assert 145 < second["deflation"]["n_days"] <= 150, "from the first decision on"
        assert first["trials"]["deflation"]["n_trials"] == 2
        assert not (tmp_path / "b" / "trials.jsonl").exists()

    def test_a_test_that_cannot_be_counted_is_not_looked_at(
        self, prices: Path, settings: Path, tmp_path: Path
    ) -> None:
        ledger = tmp_path / "ledger.csv"
        ledger.write_text("date,ticker,adj_close\n2020-01-02,AAPL,75.0\n")
        before = ledger.read_bytes()
        done = run_command(
            *("run", "--data", prices, "--config", settings, "--out", tmp_path / "runs"),
            *("--ledger", ledger, "--json"),
        )
        assert "ledger.csv is not a file of trials" in one_sentence(done)
        assert ledger.read_bytes() == before
        assert not (tmp_path / "runs").exists(), "nothing is computed first"

    def test_a_ledger_that_cannot_grow_costs_no_fit(
        self, prices: Path, settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A full disk takes half of the line, and `os.write` does not call that an error."""
        arguments = ("run", "--data", prices, "--config", settings, "--out", tmp_path, "--json")
        write = os.write
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda handle, line: write(handle, line[: len(line) // 2]))
            sentence = one_sentence(run_command(*arguments))
        assert sentence.endswith("trials.jsonl: No space left on device.")
        assert not list(tmp_path.glob("*/report.html")), "a report would not know its trials"
        done = run_command(*arguments)
        assert "resuming: 3 of 3 fits done" in done.stderr
        assert json.loads(done.stdout)["trials"]["n_studies"] == 1

    def test_damaged_lines_are_told_of_and_kept(
        self, prices: Path, settings: Path, tmp_path: Path
    ) -> None:
        self.run(prices, settings, tmp_path)
        ledger = tmp_path / "trials.jsonl"
        whole = ledger.read_bytes().splitlines()
        damaged = b"\n".join([whole[0][:90], b"[" * 9000, b'{"key": [1]}', whole[1], b""])
        ledger.write_bytes(damaged)
        done = run_command(
            *("run", "--data", prices, "--config", settings, "--out", tmp_path, "--json")
        )
        assert done.exit_code == 0, done.output
        (line,) = (x for x in done.stderr.splitlines() if not x.startswith("resuming: "))
        assert "3 lines of" in line
        assert "cannot be read" in line
        assert "(lines 1, 2, 3)" in line
        assert ledger.read_bytes() == damaged + whole[0] + b"\n", "what was lost is written again"
        assert json.loads(done.stdout)["trials"]["n_portfolios"] == 2


class TestBadInput:
    def test_missing_data(self, tmp_path: Path) -> None:
        assert "nowhere.csv" in one_sentence(run_command("run", "--data", tmp_path / "nowhere.csv"))

    def test_missing_settings(self, tmp_path: Path) -> None:
        sentence = one_sentence(run_command("run", "--config", tmp_path / "no.toml"))
        assert "cannot read" in sentence

    def test_unknown_setting(self, tmp_path: Path) -> None:
        path = tmp_path / "bad.toml"
        path.write_text("[network]\nhiden = 3")
        assert "did you mean network.hidden?" in one_sentence(run_command("run", "--config", path))

    def test_output_folder_is_a_file(self, prices: Path, settings: Path, tmp_path: Path) -> None:
        wall = tmp_path / "wall"
        wall.write_text("")
        done = run_command("run", "--data", prices, "--config", settings, "--out", wall, "--quiet")
        assert "cannot write" in one_sentence(done)


class TestCheck:
    def test_good_file(self, prices: Path) -> None:
        done = run_command("check", prices)
        assert done.exit_code == 0, done.output
        assert "12 tickers" in done.output

    def test_bad_file_is_told_by_ticker_and_date(self, prices: Path, tmp_path: Path) -> None:
        frame = pd.read_csv(prices)
        frame.loc[40, "adj_close"] = -1.0
        path = tmp_path / "bad.csv"
        frame.to_csv(path, index=False)
        done = run_command("check", path)
        assert done.exit_code == 2
        assert str(frame.loc[40, "ticker"]) in done.output
        assert str(frame.loc[40, "date"])[:10] in done.output

    def test_json(self, prices: Path) -> None:
        document = json.loads(run_command("check", prices, "--json").stdout)
        assert document["n_assets"] == 12
        assert document["problems"] == []


def test_a_thread_that_is_still_at_work_does_not_see_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python would end it at its own end, and abort in the midst of a product of matrices."""
    ended: list[int] = []

    def failed() -> None:
        raise SystemExit(2)

    monkeypatch.setattr(cli, "app", failed)
    monkeypatch.setattr(cli, "catch_signals", lambda: None)
    monkeypatch.setattr(cli, "ignore_signals", lambda: None)
    monkeypatch.setattr(os, "_exit", ended.append)
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    with pytest.raises(SystemExit):
        cli.main()
    over.set()
    thread.join()
    assert ended == [2]


class TestCodeOfTheUsers:
    """A file of factors is a program: who is about to run it is told which one."""

    FACTORS = (
        "import sys\n"
        "from alphakeel import factor\n"
        "print('it runs', file=sys.stderr)\n"
        "@factor(lookback=1, fields=('close',))\n"
        "def level(close):\n"
        "    return close\n"
    )

    @pytest.fixture
    def arguments(self, prices: Path, settings: Path, tmp_path: Path) -> tuple[Path | str, ...]:
        (tmp_path / "mine.py").write_text(self.FACTORS)
        (tmp_path / "link.py").symlink_to("mine.py")
        own = changed(settings, tmp_path, "[factors]\ncustom = 'link.py'\n")
        return ("--data", prices, "--config", own)

    @pytest.mark.parametrize("command", ["run", "tune", "degree", "audit"])
    def test_it_is_named_before_it_runs(
        self,
        arguments: tuple[Path | str, ...],
        tmp_path: Path,
        command: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (tmp_path / "mine.py").write_text(self.FACTORS + "raise SystemExit('stop here')")
        done = run_command(command, *arguments, "--json")
        assert done.exit_code == 2
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        assert lines[0] == f"runs code of yours: {tmp_path / 'mine.py'}"
        assert "it runs" in lines[1:] or "it runs" in capsys.readouterr().err

    def test_quiet_and_init(self, arguments: tuple[Path | str, ...], tmp_path: Path) -> None:
        done = run_command("run", *arguments, "--out", tmp_path / "runs", "--quiet")
        assert done.exit_code == 0, done.output
        assert "runs code" not in done.stderr
        assert "it runs" not in run_command("init", tmp_path / "new.toml").output


class TestWhereDataAreNamed:
    def test_after_the_command_as_for_check(
        self, prices: Path, settings: Path, tmp_path: Path
    ) -> None:
        done = run_command("run", prices, "--config", settings, "--out", tmp_path, "--json")
        assert done.exit_code == 0, done.output
        notes = json.loads(done.stdout)["notes"]
        assert notes
        twice = run_command("run", prices, "--data", prices)
        assert "name two sources: give one" in one_sentence(twice)

    def test_beside_the_settings_file_and_the_message_says_where(self, tmp_path: Path) -> None:
        from alphakeel.cli.shell import read_settings

        (tmp_path / "here.csv").write_text("x")
        path = tmp_path / "study.toml"
        path.write_text("[data]\nsource = 'here.csv'\n")
        assert read_settings(None, path).data.source == str(tmp_path / "here.csv")
        path.write_text("[data]\nsource = 'gone.csv'\n")
        message = one_sentence(run_command("run", "--config", path))
        assert str(tmp_path) in message
        assert str(Path.cwd()) in message

    def test_a_mark_and_windows_paths(self, tmp_path: Path) -> None:
        from alphakeel.cli.shell import read_settings

        path = tmp_path / "study.toml"
        path.write_text("\ufeffseed = 5\n", encoding="utf-8")
        assert read_settings(None, path).seed == 5
        path.write_text('[data]\nsource = "C:\\Users\\me"\n')
        assert "in single quotes, as in 'C:\\data'" in one_sentence(
            run_command("run", "--config", path)
        )


class TestWhatCheckShows:
    def short(self, folder: Path, n: int = 800) -> Path:
        days = pd.bdate_range("2015-01-02", periods=n)
        walk = np.random.default_rng(0).normal(0, 0.01, (n, 8)).cumsum(axis=0)
        frame = pd.DataFrame(50 * np.exp(walk), pd.Index(days, name="date"), list("ABCDEFGH"))
        table = frame.stack().rename("close").rename_axis(["date", "ticker"]).reset_index()
        table.assign(foo="bar").to_csv(folder / "p.csv", index=False)
        return folder / "p.csv"

    def test_each_column_with_a_value_and_those_not_used(self, tmp_path: Path) -> None:
        done = run_command("check", self.short(tmp_path))
        assert done.exit_code == 0, done.output
        assert "First value" in done.output
        row = next(line for line in done.output.splitlines() if "foo" in line)
        assert "not used" in row
        assert "bar" in row
        assert "years ago" in done.output
        document = json.loads(run_command("check", self.short(tmp_path), "--json").stdout)
        assert document["unknown_columns"] == ["foo"]
        assert document["samples"]["date"] == "2015-01-02"
        assert document["lacking"] == ""

    @pytest.mark.parametrize(("n", "stocks"), [(100, "ABCDEFGH"), (500, "ABC")])
    def test_what_run_refuses_check_does_not_pass(
        self, n: int, stocks: str, tmp_path: Path
    ) -> None:
        path = self.short(tmp_path, n=n)
        rows = pd.read_csv(path)
        rows[rows["ticker"].isin(list(stocks))].to_csv(path, index=False)
        checked, ran = run_command("check", path), run_command("run", path)
        assert (checked.exit_code, ran.exit_code) == (0, 2)
        assert "a study can run on it" not in checked.output
        sentence = ran.stderr.strip().removeprefix("alphakeel: ")
        assert " ".join(sentence.split()) in " ".join(checked.stdout.split())

    @pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
    def test_any_encoding_of_the_terminal(self, encoding: str, tmp_path: Path) -> None:
        path = self.short(tmp_path)
        text = path.read_text().replace("foo", "\u6536\u2013")
        path.write_text(text, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "alphakeel", "check", str(path)],
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )
        assert done.returncode == 0, done.stderr
        shown = done.stdout.decode(encoding)
        assert "?-" in shown or "?\u2013" in shown
        assert "not used" in shown

    @pytest.mark.skipif(os.name == "nt", reason="pipes are told otherwise on Windows")
    def test_a_reader_that_has_left_ends_nothing(self, tmp_path: Path) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", "alphakeel", "check", str(self.short(tmp_path)), "--json"]
        done = subprocess.run(command, check=False, stdout=writer, stderr=subprocess.PIPE)
        os.close(writer)
        assert (done.returncode, done.stderr) == (0, b"")


def test_cash_that_caps_force_is_said(prices: Path, settings: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(SETTINGS + "[allocation]\nquantile = 0.25\nweight_cap = 0.2\n")
    done = run_command("run", prices, "--config", own, "--out", tmp_path / "runs")
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    assert "Linear keeps 40% in cash, because the best 25% of 12 stocks take at most 20%" in text


def test_a_narrow_terminal_cuts_no_cell(
    prices: Path, settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    done = run_command("run", prices, "--config", settings, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert "\u2026" not in done.stdout
    assert "Sharpe " in done.stdout
