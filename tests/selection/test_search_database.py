"""A search's file that somebody has changed is refused in one sentence, before it is used."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from skfolio.containers import AssetPanel

from alphakeel.data.simulation import simulate_market
from alphakeel.errors import DataError
from alphakeel.selection import search_database
from alphakeel.selection.search import tune
from alphakeel.selection.search_space import SearchPlan
from helpers import run_command, write_prices

PLAN = SearchPlan(model="linear", n_trials=2, blocks=3)
MORE = replace(PLAN, n_trials=3)


@pytest.fixture(scope="module")
def panel() -> AssetPanel:
    return simulate_market(n_assets=12, n_dates=900, seed=3, signal=0.1).panel


@pytest.fixture(scope="module")
def finished(panel: AssetPanel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    tune(panel, plan=PLAN, folder=folder)
    return folder


@pytest.fixture
def file(finished: Path, tmp_path: Path) -> Path:
    """The file of a search of two trials, to be changed; the ledger is beside it."""
    return Path(shutil.copytree(finished, tmp_path / "search")) / "study.db"


def statements(*every: str) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        with sqlite3.connect(path) as database:
            for each in every:
                database.execute(each)
        database.close()

    return change


def instead(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


DISTRIBUTION = "UPDATE trial_params SET distribution_json = "
FLOAT = '{"name": "FloatDistribution", "attributes": {"low": 0, "high": 1e9}}'

FILES = {
    "cut": (lambda p: p.write_bytes(p.read_bytes()[:5000]), "malformed"),
    "last pages cut": (lambda p: p.write_bytes(p.read_bytes()[:-40_000]), "malformed"),
    "random": (lambda p: p.write_bytes(os.urandom(50_000)), "not a database"),
    "pipe": (instead(os.mkfifo), "a named pipe"),
    "endless": (instead(lambda p: p.symlink_to("/dev/zero")), "a device"),
    "folder": (instead(lambda p: p.mkdir()), "directory"),
    "huge": (lambda p: os.truncate(p, 2**40), "1048576 MiB"),
    "trigger": (
        statements("CREATE TRIGGER t AFTER INSERT ON trials BEGIN DELETE FROM trials; END"),
        "it holds 't', which is no table",
    ),
    "view": (
        statements(
            "ALTER TABLE trial_heartbeats RENAME TO h",
            "CREATE VIEW trial_heartbeats AS SELECT * FROM h",
        ),
        "it holds 'trial_heartbeats', which is no table",
    ),
    "long text": (
        statements("UPDATE trial_user_attributes SET value_json = hex(zeroblob(40000))"),
        "a text of 80000 characters stands in trial_user_attributes",
    ),
    "nested": (
        statements(f"UPDATE trial_user_attributes SET value_json = '{'[' * 60_000}'"),
        "RecursionError",
    ),
    "no JSON": (statements(DISTRIBUTION + "'gASVK'"), "JSONDecodeError"),
    "no state": (statements("UPDATE trials SET state = 'X'"), "LookupError"),
}
TRIALS = {
    "value": ("UPDATE trial_values SET value = 0.9", "its value is 0.9, and "),
    "setting": (
        "UPDATE trial_params SET param_value = 1 - param_value WHERE param_name = 'linear.method'",
        "its settings are not those that were fitted",
    ),
    "range": (DISTRIBUTION + f"'{FLOAT}'", "is no setting of this search"),
    "report": (
        "UPDATE trial_intermediate_values SET intermediate_value = 5.0 WHERE step = 1",
        "it reports 5.0 after split 2",
    ),
    "no such split": (
        "UPDATE trial_intermediate_values SET step = 99 WHERE step = 1",
        "it reports a split 100",
    ),
    "key": ("DELETE FROM trial_user_attributes WHERE key = 'key'", "its settings are not"),
    "reason": ("UPDATE trial_user_attributes SET value_json = '1' WHERE key = 'reason'", "reason"),
}


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices are those of POSIX")
@pytest.mark.parametrize("case", FILES)
def test_what_is_no_search(panel: AssetPanel, file: Path, case: str) -> None:
    change, reason = FILES[case]
    change(file)
    with pytest.raises(DataError) as refused:
        tune(panel, plan=MORE, folder=file.parent)
    assert str(refused.value).startswith(f"{file} cannot be used as a search's file (")
    assert reason in str(refused.value)
    assert str(refused.value).endswith("); move it away, or give another folder.")


@pytest.mark.parametrize("case", TRIALS)
def test_what_no_search_has_written(panel: AssetPanel, file: Path, case: str) -> None:
    statement, reason = TRIALS[case]
    statements(statement)(file)
    with pytest.raises(DataError, match=r"^trial [01] in .* was changed, or belongs to") as refused:
        tune(panel, plan=MORE, folder=file.parent)
    assert reason in str(refused.value)


def test_too_many_trials(panel: AssetPanel, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_database, "MOST_TRIALS", 1)
    with pytest.raises(DataError, match="it holds 2 trials, more than 1"):
        tune(panel, plan=MORE, folder=file.parent)


def test_an_untouched_one_goes_on(panel: AssetPanel, file: Path) -> None:
    assert len(tune(panel, plan=MORE, folder=file.parent).trials) == 3


def test_killed_between_two_marks(
    panel: AssetPanel, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that was fitted and not marked as done is proposed again, not counted as failed."""
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "tell", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            tune(panel, plan=MORE, folder=file.parent)
    found = tune(panel, plan=MORE, folder=file.parent)
    assert list(found.trials["state"]) == ["complete"] * 3
    assert found.trials["reason"].iloc[-1] == "known from the ledger"


def test_a_full_disk_in_the_middle(
    panel: AssetPanel, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        try:
            raise sqlite3.OperationalError("database or disk is full")
        except sqlite3.Error as error:
            raise optuna.exceptions.StorageInternalError("An exception is raised.") from error

    monkeypatch.setattr(optuna.Study, "tell", full)
    with pytest.raises(DataError, match=r"study\.db: .*disk is full; put that right and run again"):
        tune(panel, plan=MORE, folder=file.parent)


def test_the_command_says_it_in_one_sentence(tmp_path: Path) -> None:
    prices = write_prices(simulate_market(n_assets=12, n_dates=900, seed=3).panel, tmp_path)
    (tmp_path / "study.db").write_bytes(b"SQLite format 3\0" + bytes(5000))
    done = run_command("tune", "--data", prices, "--model", "linear", "--out", tmp_path)
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith("alphakeel: ")
    assert "cannot be used as a search's file" in line
