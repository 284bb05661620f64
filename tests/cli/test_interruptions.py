"""Full disks, signals, kills: a documented exit code, one sentence, the same bytes in the end.

`pytest -m stress tests/cli/test_interruptions.py` does it fifty times at random moments (about ten
minutes on two cores); the default suite has one case of each kind.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from alphakeel.data.simulation import simulate_market
from alphakeel.storage.runs import TIMINGS
from helpers import run_command, write_prices

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")

SETTINGS = """
models = ["linear", "lstm"]
jobs = 2
[walk_forward]
refit_every = 200
[cleaning]
min_history = 60
[network]
hidden = 8
burn_in = 4
chunk = 24
max_steps = 60
evaluate_every = 4
n_seeds = 1
device = "cpu"
[report]
n_bootstrap = 100
drivers = false
"""
MAIN = "from alphakeel.cli import main\nmain()"

# The disk is full when the second network has something to write; the first is still training.
FULL_DISK = """
import errno, os, re
from alphakeel.storage import checkpoints
write, training = checkpoints.write_atomically, []
def full(path, data, *, durable):
    fit = re.search("fit-[0-9a-f]+", str(path))
    if fit and "fitted" not in str(path) and fit[0] not in training:
        training.append(fit[0])
    if fit and fit[0] in training[1:]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    write(path, data, durable=durable)
checkpoints.write_atomically = full
"""
# The signal comes when the last linear fit is kept: networks are training.
SIGNAL = """
import os
from alphakeel.storage import checkpoints
put, fitted = checkpoints.DiskStore.put, []
def noticed(self, key, state):
    put(self, key, state)
    if key.endswith("/fitted"):
        fitted.append(key)
    if len(fitted) == 2:
        os.kill(os.getpid(), {number})
checkpoints.DiskStore.put = noticed
"""


@dataclass(frozen=True)
class Job:
    """A study of two folds: where its prices and settings are, and what it writes."""

    prices: Path
    settings: Path
    files: dict[str, bytes]

    def command(self, out: Path) -> list[str]:
        return [
            *("run", "--data", str(self.prices), "--config", str(self.settings)),
            *("--out", str(out), "--json"),
        ]

    def start(self, out: Path, before: str = "") -> subprocess.Popen[str]:
        """The command in a process of its own, as a terminal starts it."""
        return subprocess.Popen(
            [sys.executable, "-c", before + MAIN, *self.command(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            # Where the tests run in the background, Ctrl-C is ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def end(self, out: Path, before: str = "") -> tuple[int, list[str]]:
        """Exit code of the command, and the lines of its standard error."""
        with self.start(out, before) as process:
            error = process.communicate()[1]
        return process.returncode, error.splitlines()

    def goes_on(self, out: Path) -> str:
        """Give the same command again: the same bytes, and nothing else left; what it said."""
        done = run_command(*self.command(out))
        assert done.exit_code == 0, done.output
        assert contents(Path(json.loads(done.stdout)["run"])) == self.files
        left = {path.name for path in out.iterdir() if path.name[0] == "."}
        assert left == set(), "what was half done must not stay"
        return done.stderr


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run but the one that says how long it took."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != TIMINGS)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(paths)}


def scratch(folder: Path) -> list[str]:
    """What something was being written under."""
    return [str(path) for path in folder.rglob(".*-*") if path.name.partition("-")[0] in SCRATCH]


SCRATCH = (".writing", ".saving", ".old")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("study")
    prices = write_prices(
        simulate_market(n_assets=10, n_dates=560, seed=2, signal=0.1).panel, folder
    )
    settings = folder / "study.toml"
    settings.write_text(SETTINGS)
    job = Job(prices, settings, {})
    done = run_command(*job.command(folder / "out"))
    assert done.exit_code == 0, done.output
    return Job(prices, settings, contents(Path(json.loads(done.stdout)["run"])))


def test_a_run_says_nowhere_but_in_its_timings_how_it_came_about(job: Job, tmp_path: Path) -> None:
    alone = tmp_path / "study.toml"
    alone.write_text(SETTINGS.replace("jobs = 2", "jobs = 1"))
    done = run_command(*Job(job.prices, alone, {}).command(tmp_path / "out"))
    folder = Path(json.loads(done.stdout)["run"])
    found = contents(folder)
    assert found.keys() == job.files.keys()
    assert [name for name, data in found.items() if data != job.files[name]] == []
    assert {"report.html", "run.json", "study.toml", "trials.json"} < found.keys()
    timings = json.loads((folder / TIMINGS).read_text())
    assert timings["jobs"] == 1
    assert {"prepare", "fit", "trade"} < timings["seconds"].keys()


def test_a_disk_that_fills_while_two_fits_run(job: Job, tmp_path: Path) -> None:
    code, lines = job.end(tmp_path, FULL_DISK)
    assert (code, len(lines)) == (2, 1), lines
    assert "No space left on device; put that right and run again" in lines[0]
    assert scratch(tmp_path) == []
    assert "resuming: 2 of 4 fits done" in job.goes_on(tmp_path)


@pytest.mark.parametrize(
    ("number", "name", "code"), [(signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "Ctrl-C", 130)]
)
def test_a_signal_says_what_is_kept(
    job: Job, tmp_path: Path, number: signal.Signals, name: str, code: int
) -> None:
    ended, lines = job.end(tmp_path, SIGNAL.format(number=int(number)))
    assert ended == code, lines
    kept = f"2 of 4 fits kept in {tmp_path / '.resume'}"
    (line,) = lines
    assert line.startswith(f"alphakeel: stopped by {name} with {kept}; the same command goes on")
    assert scratch(tmp_path) == []
    if number == signal.SIGTERM:
        assert "resuming: 2 of 4 fits done" in job.goes_on(tmp_path)


SHELL = """
import os, signal, sys, time
import typer
from alphakeel.cli import shell
shell.catch_signals()
def stop():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)
class Finalizer:
    def __del__(self):
        stop()
def command():
    with shell.plain_errors():
        {body}
try:
    command()
except typer.Exit as end:
    sys.exit(end.exit_code)
"""


@pytest.mark.parametrize(
    "body",
    [
        "stop()",
        "Finalizer(); time.sleep(20.0)",
        "\n        try: stop()\n        except shell.Stopped: raise ImportError('numpy')",
        "\n        try: stop()\n        finally: stop()",
    ],
    ids=["anywhere", "in a finalizer", "turned into another error", "twice"],
)
def test_a_signal_is_never_lost(body: str) -> None:
    began = SHELL.replace("{body}", body)
    done = subprocess.run([sys.executable, "-c", began], capture_output=True, text=True, timeout=15)
    assert done.returncode == 143, done.stderr
    assert done.stderr in ("alphakeel: stopped by SIGTERM.\n", "")


def moments(seed: int) -> np.random.Generator:
    return np.random.default_rng([2026, seed])


@pytest.fixture(scope="module")
def seconds(job: Job, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long the command takes in a process of its own."""
    began = time.perf_counter()
    code, lines = job.end(tmp_path_factory.mktemp("undisturbed"))
    assert (code, lines) == (0, [])
    return time.perf_counter() - began


KINDS = [
    *((signal.SIGKILL, number) for number in range(20)),
    *((signal.SIGINT, number) for number in range(10)),
    *((signal.SIGTERM, number) for number in range(10)),
]


@pytest.mark.stress
@pytest.mark.parametrize(
    ("number", "case"), KINDS, ids=[f"{number.name}-{case}" for number, case in KINDS]
)
def test_at_a_random_moment(
    job: Job, seconds: float, tmp_path: Path, number: signal.Signals, case: int
) -> None:
    # Two in three after the libraries are loaded, which takes longest.
    share = moments(100 * number + case).uniform(0.4 if case % 3 else 0.0, 1.0)
    delay = float(share * seconds)
    with job.start(tmp_path) as process:
        time.sleep(delay)
        process.send_signal(number)
        error = process.communicate()[1]
    code = process.returncode
    # Before the command has begun a signal ends Python itself: a shell shows the same code.
    code = 128 - code if code < 0 else code
    print(f"{number.name} after {delay:.2f} s of {seconds:.2f}: {code}, {error.strip()!r}")
    assert code == 128 + number or (code == 0 and share > 0.6), error
    if code and number != signal.SIGKILL and "Traceback" not in error:
        assert len(error.splitlines()) <= 1, error
        assert scratch(tmp_path) == []
    tmp_path.mkdir(exist_ok=True)
    job.goes_on(tmp_path)


@contextmanager
def disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes."""
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(options, check=False, capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here: it takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.stress
@pytest.mark.parametrize("case", range(10))
def test_a_disk_of_a_random_size(job: Job, tmp_path: Path, case: int) -> None:
    whole = sum(map(len, job.files.values()))
    # Half of the cases among the checkpoints, which are small, half among the files of the run.
    size = int(moments(case).uniform(*((4096, 2**17) if case % 2 else (2**17, whole))))
    with disk(tmp_path, size):
        code, lines = job.end(tmp_path)
        print(f"a disk of {size} bytes: {code}, {lines}")
        assert (code, len(lines)) == (2, 1), lines
        assert "No space left on device" in lines[0]
        assert scratch(tmp_path) == []
        more = ["mount", "-o", "remount,size=256m", str(tmp_path)]
        subprocess.run(more, check=True)
        job.goes_on(tmp_path)
