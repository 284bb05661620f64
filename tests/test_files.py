"""Only regular files are read: what waits for a writer or never ends is refused in one sentence.

The readers run in a process of its own, so that one that hangs or fills the memory fails.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from alphakeel.files import regular_file
from alphakeel.models.persistence import ModelState
from alphakeel.storage.saved_models import save_model

SECONDS = 60  # a machine under load needs ten to import everything
MEMORY = 2**33  # bytes of address space

# File by the call that reads it, in an empty folder.
READERS = {
    "prices": ("prices.csv", "load_panel('prices.csv')"),
    "prices in Parquet": ("prices.parquet", "load_panel('prices.parquet')"),
    "our own format": ("ours/prices.csv", "load_panel('ours')"),
    "files of stocks": ("stocks/B.csv", "load_panel('stocks')"),
    "beside the prices": ("beside/fundamentals.csv", "read_reports('beside')"),
    "settings": ("own.toml", "load_config('own.toml')"),
    "factors": ("factors.py", "load_factors('factors.py')"),
    "trials": ("trials.jsonl", "TrialLedger('trials.jsonl')"),
    "model": ("model/model.json", "load_model('model')"),
    "arrays of a model": ("saved/model.safetensors", "load_model('saved')"),
    "data set": ("dataset/dataset.json", "load_dataset('dataset')"),
    "panel of a data set": ("panel/panel/_metadata.json", "load_dataset('panel')"),
    "check": ("check.csv", "command('check', 'check.csv')"),
    "run": ("run.toml", "command('run', '--config', 'run.toml')"),
    "factors beside the settings": (
        "beside/factors.py",
        "command('run', '--data', 'synthetic', '--config', 'beside/study.toml')",
    ),
}
# In a folder of tables a folder is not taken for one.
NOT_OF_FOLDERS = {
    *("prices", "our own format", "files of stocks", "prices in Parquet", "check"),
    "panel of a data set",
}

CHILD = """
import json, sys
from typer.testing import CliRunner
from alphakeel import load_config, load_dataset, load_factors, load_panel
from alphakeel.cli import app
from alphakeel.data.loading import read_reports
from alphakeel.selection.trial_log import TrialLedger
from alphakeel.storage.saved_models import load_model

def command(*args):
    done = CliRunner().invoke(app, args, env={"COLUMNS": "500"})
    raise SystemExit(f"exit code {done.exit_code}: {' '.join(done.output.split())}")

for name, call in json.load(sys.stdin):
    print(name, end="\\t", flush=True)
    try:
        eval(call)
        print("read\\t", flush=True)
    except (Exception, SystemExit) as error:
        print(type(error).__name__, " ".join(str(error).split()), sep="\\t", flush=True)
"""


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def read_all(readers: dict[str, tuple[str, str]], folder: Path) -> dict[str, tuple[str, str]]:
    """Type and message of what each reader raised."""
    calls = [(name, call) for name, (_, call) in readers.items()]
    try:
        done = subprocess.run(
            [sys.executable, "-c", CHILD],
            cwd=folder,
            input=json.dumps(calls).encode(),
            capture_output=True,
            timeout=SECONDS,
            preexec_fn=limited,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"hangs: {(error.stdout or b'').decode().splitlines()[-1:]}")
    assert done.returncode == 0, done.stderr.decode()[-500:]
    lines = (line.split("\t") for line in done.stdout.decode().splitlines())
    return {name: (kind, message) for name, kind, message in lines}


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.skipif(os.name != "posix", reason="named pipes and devices are files on POSIX")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (a_pipe, "is a named pipe, and only regular files are read"),
        (link_to_zero, "is a device, and only regular files are read"),
        (a_folder, "Is a directory"),
    ],
)
def test_only_regular_files_are_read(
    make: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    readers = {
        name: reader
        for name, reader in READERS.items()
        if make is not a_folder or name not in NOT_OF_FOLDERS
    }
    for file, _ in readers.values():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    state = ModelState({}, {"class": "LinearForecaster", "params": {}, "learned": {}})
    save_model(state, tmp_path / "saved", factors=[], train_window=("", ""), data_hash="")
    (tmp_path / "saved" / "model.safetensors").unlink()
    for name in ("stocks", "panel"):
        (tmp_path / name).mkdir(exist_ok=True)
    lines = "Date,Close\n2015-01-02,5\n2015-01-05,6\n"
    (tmp_path / "stocks" / "A.csv").write_text(lines, encoding="utf-8")
    (tmp_path / "panel" / "dataset.json").write_text("{}", encoding="utf-8")
    settings = 'models = ["linear"]\n[factors]\ncustom = "factors.py"\n'
    (tmp_path / "beside" / "study.toml").write_text(settings, encoding="utf-8")
    for file, _ in readers.values():
        make(tmp_path / file)
    for name, (kind, message) in read_all(readers, tmp_path).items():
        by_command = "command(" in readers[name][1]
        assert kind in (("SystemExit",) if by_command else ("DataError", "ConfigError")), (
            f"{name}: {kind} {message}"
        )
        assert words in message, f"{name}: {message}"
        # The place beside the settings is resolved, links included.
        assert Path(readers[name][0]).name in message or "/dev/zero" in message, (
            f"{name}: {message}"
        )
        assert not by_command or message.startswith("exit code 2:"), f"{name}: {message}"


@pytest.mark.skipif(os.name != "posix", reason="sockets are files on POSIX")
def test_a_socket_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("prices.csv")
        with pytest.raises(OSError, match="it is a socket"):
            regular_file(Path("prices.csv"))


def test_a_link_to_a_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("date", encoding="utf-8")
    (tmp_path / "link.csv").symlink_to("real.csv")
    assert regular_file(tmp_path / "link.csv").read_text(encoding="utf-8") == "date"
