"""The study on the bundled real data, as a user runs it: all cores, from the command line.

Run with ``python benchmarks/bench_study.py``; prints the measurements as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def measure() -> list[Row]:
    """The study on the bundled real data, as a user runs it, and the time to show the help."""
    python = [sys.executable, "-m", "alphakeel"]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1] / "src")}
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        env.pop(variable, None)  # a user has all cores
    shown = min(_timed([*python, "--help"], env)[0] for _ in range(3))
    wall, cpu, peak_mb = _timed([*python, "run", "--quiet"], env)
    return [
        {"name": "study on bundled data, wall clock", "value": wall, "unit": "s"},
        {"name": "study on bundled data, CPU", "value": cpu, "unit": "CPU s"},
        {"name": "peak memory of the study", "value": round(peak_mb, 1), "unit": "MB"},
        {"name": "alphakeel --help, wall clock", "value": shown, "unit": "s"},
    ]


def _timed(command: list[str], env: dict[str, str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MB of a command and the processes it waited for."""
    with tempfile.TemporaryDirectory(prefix="alphakeel-bench-") as folder:
        complaints = Path(folder) / "stderr.txt"
        with complaints.open("wb") as stderr:
            start = time.perf_counter()
            process = subprocess.Popen(
                command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=stderr
            )
            _, status, used = os.wait4(process.pid, 0)
            wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            why = complaints.read_text(errors="replace").strip()[-300:]
            raise SystemExit(f"{' '.join(command[1:])} ended with {process.returncode}: {why}")
    scale = 1.0 if sys.platform == "darwin" else 1024.0
    return round(wall, 3), round(used.ru_utime + used.ru_stime, 3), used.ru_maxrss * scale / 1e6


if __name__ == "__main__":
    print(json.dumps(measure()))
