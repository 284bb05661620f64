"""The daily job: alone, not twice, and never half a decision."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from live_study import Saved, save_small

from alphakeel.data.loading import load_panel
from alphakeel.data.panel import panel_to_long
from alphakeel.live.daily import LOCK, LockedError, locked
from alphakeel.live.decision import decide, live_folder
from alphakeel.live.journal import Journal
from alphakeel.storage.saved_runs import open_run
from helpers import run_command

LABEL = "Linear + overlay"
KILLS = 20
# Kills the job of another day at a random moment, each in a process of its own, and says so.
KILLER = """
import os, signal, sys, time
import numpy as np
from alphakeel.cli import main
import alphakeel.live.monitor, alphakeel.report.plain_page, alphakeel.data.loading
import alphakeel.study, alphakeel.storage.saved_runs

def child(day):
    pid = os.fork()
    if not pid:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1), os.dup2(null, 2)
        sys.argv = ["alphakeel", "daily", *sys.argv[2:], "--as-of", day]
        try:
            main()
        except SystemExit as end:
            os._exit(int(end.code or 0))
        os._exit(0)
    return pid

days = sys.argv[1].split(",")
began = time.monotonic()
_, status = os.waitpid(child(days[0]), 0)
whole = time.monotonic() - began
assert os.waitstatus_to_exitcode(status) in (0, 4), status
killed = 0
for day, share in zip(days[1:], np.random.default_rng(5).uniform(0.0, 1.0, len(days) - 1)):
    pid = child(day)
    time.sleep(share * whole)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    killed += os.WIFSIGNALED(status)
print(killed)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    return save_small(tmp_path_factory.mktemp("runs"), "linear")


@pytest.fixture
def job(saved: Saved, tmp_path: Path) -> list[str]:
    """Arguments of the job, on a copy of the run and the data in a file."""
    shutil.copytree(saved.run.folder, tmp_path / "runs" / saved.run.name)
    data = tmp_path / "prices.parquet"
    panel_to_long(saved.panel).to_parquet(data)
    run = tmp_path / "runs" / saved.run.name
    return [str(run), "--data", str(data), "--strategy", LABEL, "--cash", "100000"]


def files_in(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.name != LOCK
    }


def test_a_day_is_done_once(saved: Saved, job: list[str], tmp_path: Path) -> None:
    last = str(saved.study.dates[-1])
    first = run_command("daily", *job, "--as-of", last)
    assert first.exit_code in (0, 4), first.output
    folder = live_folder(open_run(job[0]))
    page = (folder / "daily" / "index.html").read_text(encoding="utf-8")
    assert page.index(f"<h1>{LABEL}") < page.index("<h2>Orders") < page.index("still work")
    assert "<script" not in page
    before = files_in(tmp_path)
    again = run_command("daily", *job, "--as-of", last)
    assert again.exit_code == first.exit_code
    assert "Nothing new since" in again.output
    assert files_in(tmp_path) == before
    # Other data are something new.
    os.utime(tmp_path / "prices.parquet", ns=(1, 1))
    assert "Nothing new" not in run_command("daily", *job, "--as-of", last).output


def test_old_data_are_refused_and_nothing_is_written(job: list[str], tmp_path: Path) -> None:
    before = files_in(tmp_path)
    told = run_command("daily", *job)
    assert told.exit_code == 2
    assert "--max-age" in told.output
    assert files_in(tmp_path) == before


def test_the_update_comes_first(saved: Saved, job: list[str], tmp_path: Path) -> None:
    last, mark = str(saved.study.dates[-1]), tmp_path / "updated"
    done = run_command("daily", *job, "--as-of", last, "--update", f"touch {mark}")
    assert done.exit_code in (0, 4)
    assert mark.is_file()
    told = run_command("daily", *job, "--as-of", last, "--update", "false")
    assert told.exit_code == 2
    assert "exit code 1" in told.output
    told = run_command("daily", *job, "--as-of", last, "--update", "no-such-command-at-all")
    assert told.exit_code == 2


def test_one_at_a_time(saved: Saved, job: list[str]) -> None:
    folder = live_folder(open_run(job[0])) / "daily"
    with locked(folder):
        mine = f"process {os.getpid()} on .*, for 0 minutes"
        with pytest.raises(LockedError, match=mine), locked(folder):
            pass
        told = run_command("daily", *job, "--as-of", str(saved.study.dates[-1]))
        assert told.exit_code == 5
    with locked(folder):  # it ends with its owner
        assert json.loads((folder / LOCK).read_text())["process"] == os.getpid()


def test_killed_at_random_moments(saved: Saved, job: list[str]) -> None:
    days = [str(day) for day in saved.study.dates[-KILLS - 1 :]]
    killed = subprocess.run(
        [sys.executable, "-c", KILLER, ",".join(days), *job],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    assert int(killed.stdout) > KILLS // 2
    journal = Journal(live_folder(open_run(job[0])) / "journal")
    entries = journal.entries(LABEL)  # refuses what is not whole
    made = [str(entry.day) for entry in entries]
    assert len(made) == len(set(made))
    assert set(made) <= set(days)
    kept = {path: path.read_bytes() for path in journal.folder.rglob("*.json")}
    for day in days[1::4]:
        assert run_command("daily", *job, "--as-of", day).exit_code in (0, 4)
    after = journal.entries(LABEL)
    assert set(days[1::4]) <= {str(entry.day) for entry in after}
    assert {path: path.read_bytes() for path in kept} == kept
    panel = load_panel(job[2])
    for entry in after[:3]:
        decision = decide(job[0], panel, strategy=LABEL, day=entry.day)
        assert decision.weights == entry.weights
