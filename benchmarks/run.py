"""Run the benchmarks: `python benchmarks/run.py [SUITE ...]`, suites as in `_suites.py`.

Each suite runs in a process of its own, one thread, and so does each peer, in an environment of
its own under `benchmarks/.envs` that is made when it is first needed. Results are printed and
written to `benchmarks/latest.json`. A peer that cannot be installed or fails has `peer_value`
null and says why. Exit code 1 if one of our own suites failed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "src")]

from _suites import MARK, PEERS, SUITES, Peer, write_inputs  # noqa: E402

ENVIRONMENTS = HERE / ".envs"
ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMBA_NUM_THREADS",
    ),
    "1",
)
SUITE_LIMIT_S, PEER_LIMIT_S, INSTALL_LIMIT_S = 900, 600, 1800

Row = dict[str, Any]


class MeasurementError(Exception):
    """A process that did not deliver; the message is one line that says why."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}")
    parser.add_argument("--no-peers", action="store_true", help="measure alphakeel alone")
    parser.add_argument("--output", type=Path, default=HERE / "latest.json")
    options = parser.parse_args()
    unknown = sorted(set(options.suites) - set(SUITES))
    if unknown:
        parser.error(f"unknown suite {unknown[0]!r}: choose from {', '.join(SUITES)}.")

    chosen = options.suites or list(SUITES)
    rows: list[Row] = []
    for suite in chosen:
        rows += run_suite(suite, with_peers=not options.no_peers)
    write(rows, options.output, keep_others=len(chosen) < len(SUITES))
    return 1 if any(row["value"] is None for row in rows) else 0


def run_suite(suite: str, *, with_peers: bool) -> list[Row]:
    """Measure one suite, then its peers on the same inputs."""
    say(f"\n{suite}: measuring alphakeel ...")
    try:
        command = [sys.executable, str(HERE / f"bench_{suite}.py")]
        printed, peak_mb = execute(command, SUITE_LIMIT_S, ours=True)
        rows = [row_of(suite, measured) for measured in read_rows(suite, printed)]
    except MeasurementError as failure:
        rows = [row_of(suite, {"name": suite, "value": None, "unit": "", "note": str(failure)})]
    else:
        if suite != "study":  # which measures its own child
            name = f"peak memory of the {suite} suite"
            rows.append(row_of(suite, {"name": name, "value": round(peak_mb, 1), "unit": "MB"}))
    if with_peers and rows[0]["value"] is not None:
        peers = [peer for peer in PEERS if peer.suite == suite]
        if peers:
            with tempfile.TemporaryDirectory(prefix="alphakeel-bench-") as folder:
                write_inputs(suite, Path(folder))
                for peer in peers:
                    join(rows, peer, run_peer(peer, Path(folder)))
    for row in rows:
        say(sentence(row))
    return rows


def run_peer(peer: Peer, folder: Path) -> Row:
    """One peer's measurement; with `value` None and the reason where it failed."""
    say(f"  {peer.label}: running ...")
    try:
        python = environment(peer.environment) if peer.environment else Path(sys.executable)
        script = HERE / "peers" / f"{peer.script}.py"
        command = [str(python), str(script), str(folder)]
        printed, _ = execute(command, PEER_LIMIT_S, ours=peer.environment is None)
        lines = [line for line in printed.splitlines() if line.startswith(MARK)]
        if not lines:
            raise MeasurementError(f"{script.name} printed no measurement")
    except MeasurementError as failure:
        return {"peer": peer.label, "value": None, "note": str(failure)}
    return dict(json.loads(lines[-1].removeprefix(MARK)))


def environment(name: str) -> Path:
    """Python of the peer's own environment, made or renewed if its requirements changed."""
    requirements = HERE / "peers" / f"{name}.txt"
    home = ENVIRONMENTS / name
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    stamp = home / "installed.txt"
    wanted = f"python {sys.version_info[0]}.{sys.version_info[1]}\n{requirements.read_text()}"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    say(f"  installing {requirements.name} into {home.relative_to(HERE.parent)} ...")
    execute([sys.executable, "-m", "venv", "--clear", str(home)], INSTALL_LIMIT_S)
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    execute([str(python), *install, "-r", str(requirements)], INSTALL_LIMIT_S)
    stamp.write_text(wanted)
    return python


def read_rows(suite: str, printed: str) -> list[Row]:
    """The rows that a suite printed: a JSON list of them, alone on standard output."""
    try:
        rows = json.loads(printed)
    except json.JSONDecodeError as error:
        raise MeasurementError(f"bench_{suite}.py did not print JSON: {error}") from None
    rows = rows if isinstance(rows, list) else [rows]
    if not rows or any(not {"name", "value", "unit"} <= row.keys() for row in rows):
        raise MeasurementError(f"bench_{suite}.py printed no rows of name, value and unit")
    return rows


def execute(command: list[str], limit_s: float, *, ours: bool = False) -> tuple[str, float]:
    """Standard output and peak MB of a command on one thread.

    Raises
    ------
    MeasurementError
        If it does not start, ends with another code than 0, or takes too long.
    """
    name = " ".join(Path(part).name for part in command[:4])
    # A peer must not see our packages, nor anybody's PYTHONPATH.
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | ONE_THREAD
    if ours:
        env["PYTHONPATH"] = str(HERE.parent / "src")
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                command, stdout=out, stderr=err, env=env, start_new_session=True
            )
        except OSError as error:
            raise MeasurementError(f"{name} did not start: {error}") from None
        alarm = threading.Timer(limit_s, os.killpg, (process.pid, signal.SIGKILL))
        alarm.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that it started
            raise
        finally:
            in_time = alarm.is_alive()
            alarm.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace").strip())
    if not in_time:
        raise MeasurementError(f"{name} took more than {limit_s:g} s")
    if process.returncode != 0:
        last = (texts[1] or texts[0] or "no message").splitlines()[-1]
        raise MeasurementError(f"{name} ended with code {process.returncode}: {last[:300]}")
    return texts[0], used.ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0) / 1e6


def row_of(suite: str, measured: Row) -> Row:
    """The published keys of one of our measurements, and what a reader may ask next."""
    row: Row = {"name": measured["name"], "value": measured["value"], "unit": measured["unit"]}
    row |= {"peer": None, "peer_value": None, "ratio": None, "suite": suite}
    return row | {key: measured[key] for key in ("note", "peak_mb", "check") if key in measured}


def join(rows: list[Row], peer: Peer, result: Row) -> None:
    """Set a peer beside our row; a second peer gets a copy of the row."""
    place = next((i for i, row in enumerate(rows) if row["name"].startswith(peer.row)), None)
    if place is None:
        note = f"no measurement of ours is named {peer.row!r}"
        rows.append(row_of(peer.suite, {"name": peer.row, "value": None, "unit": "", "note": note}))
        place = len(rows) - 1
    row = rows[place]
    if row["peer"] is not None:
        row = {key: row[key] for key in row if not key.startswith("peer_") and key != "note"}
        rows.insert(place + 1, row)
    value = result["value"]
    row["peer"], row["peer_value"], row["ratio"] = result["peer"], value, None
    for key in ("note", "peak_mb"):
        if key in result:
            row[f"peer_{key}"] = result[key]
    if not agrees(row.get("check"), result.get("check")):
        row["peer_value"] = None
        row["peer_note"] = f"computes another number: {result['check']} against {row['check']}"
    elif value is not None and row["value"] is not None:
        ours, theirs = float(row["value"]), float(value)
        row["ratio"] = round(ours / theirs if peer.more_is_better else theirs / ours, 2)


def agrees(ours: list[float] | None, theirs: list[float] | None) -> bool:
    """Whether both computed the same numbers, where both said what they computed."""
    if ours is None or theirs is None:
        return True
    return all(abs(a - b) < 1e-9 for a, b in zip(ours, theirs, strict=True))


def write(rows: list[Row], path: Path, *, keep_others: bool) -> None:
    """Write the rows; suites that were not run keep the rows of their last run."""
    if keep_others and path.is_file():
        ran = {row["suite"] for row in rows}
        rows = [row for row in json.loads(path.read_text()) if row.get("suite") not in ran] + rows
        rows.sort(key=lambda row: SUITES.index(row["suite"]))
    path.write_text(json.dumps(rows, indent=2) + "\n")
    say(f"\nWrote {path}")


def sentence(row: Row) -> str:
    """One measurement as a line for people."""
    if row["value"] is None:
        return f"  FAILED {row['name']}: {row['note']}"
    line = f"  {row['name']}: {row['value']:.4g} {row['unit']}"
    if row["peer"] and row["ratio"] is None:
        line += f" | {row['peer']}: no figure ({row.get('peer_note', 'no reason given')})"
    elif row["peer"]:
        line += f" | {row['peer']}: {row['peer_value']:.4g} | {row['ratio']:g} times"
    return line


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
