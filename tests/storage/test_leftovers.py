"""What a killed process was writing is cleared by the next one; what is being written stays."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alphakeel.files import folder_all_or_nothing, write_atomically

pytestmark = pytest.mark.skipif(os.name != "posix", reason="no process is killed by signal 9")

# Each says "ready" in the middle of its work, and then waits.
START = """
import os, sys
from pathlib import Path
from alphakeel.files import folder_all_or_nothing, write_atomically
def wait(*_):
    print("ready", flush=True)
    sys.stdin.read()
"""
SAVING = """
with folder_all_or_nothing(Path("run"), "the run") as scratch:
    (scratch / "half").write_text("1")
    wait()
"""
WRITING = """
os.replace = wait
write_atomically(Path("model.json"), b"new", durable=False)
"""
MOVING = """
replace = os.replace
def once(source, target):
    replace(source, target)
    os.replace = wait
os.replace = once
with folder_all_or_nothing(Path("run"), "the run") as scratch:
    (scratch / "whole").write_text("new")
"""


@contextmanager
def at_work(code: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process in the middle of its work; killed in the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", START + code],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def save(folder: Path, name: str = "run", text: str = "mine") -> None:
    with folder_all_or_nothing(folder / name, "the run") as scratch:
        (scratch / "whole").write_text(text, encoding="utf-8")


def names(folder: Path) -> list[str]:
    """What is in the folder, without what is random in the names."""
    return sorted(path.name.partition("-")[0] for path in folder.iterdir())


def test_a_folder_half_saved(tmp_path: Path) -> None:
    with at_work(SAVING, tmp_path):
        save(tmp_path)
        assert names(tmp_path) == [".saving", "run"], "another run was disturbed"
        (scratch,) = tmp_path.glob(".saving-*")
        assert (scratch / "half").exists()
    assert names(tmp_path) == [".saving", "run"]
    save(tmp_path)
    assert names(tmp_path) == ["run"]


def test_a_file_half_written(tmp_path: Path) -> None:
    with at_work(WRITING, tmp_path):
        write_atomically(tmp_path / "model.json", b"mine", durable=False)
        assert names(tmp_path) == [".writing", "model.json"], "another run was disturbed"
    write_atomically(tmp_path / "model.json", b"mine", durable=False)
    assert names(tmp_path) == ["model.json"]


def test_a_run_put_aside_comes_back(tmp_path: Path) -> None:
    save(tmp_path, text="old")
    with at_work(MOVING, tmp_path):
        pass
    assert names(tmp_path) == [".old", ".saving"]
    save(tmp_path, "another")
    assert names(tmp_path) == ["another", "run"]
    assert (tmp_path / "run" / "whole").read_text(encoding="utf-8") == "old"


def test_what_is_put_aside_is_no_loss_where_a_run_has_the_name(tmp_path: Path) -> None:
    save(tmp_path, text="old")
    with at_work(MOVING, tmp_path):
        save(tmp_path, text="third")
    save(tmp_path, "another")
    assert names(tmp_path) == ["another", "run"]
    assert (tmp_path / "run" / "whole").read_text(encoding="utf-8") == "third"


@pytest.mark.parametrize("name", [".saving-ours", ".saving-host-1-999999999-x", ".writing-abc"])
def test_what_says_nothing_of_its_process_stays(name: str, tmp_path: Path) -> None:
    """Of another host, of an older version, or somebody's own."""
    (tmp_path / name).mkdir()
    save(tmp_path)
    write_atomically(tmp_path / "file", b"", durable=False)
    assert (tmp_path / name).is_dir()
