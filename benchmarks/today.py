"""Time and memory of `alphakeel today` in a process of its own, from the command to the table.

::

    python benchmarks/today.py runs/<run> --data prices/ --as-of 2020-09-25 --strategy lstm+overlay

Run it twice: the first time Python compiles alphakeel, as an installation has done already.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time


def main() -> int:
    began = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-m", "alphakeel", "today", *sys.argv[1:]],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = {
        "exit_code": done.returncode,
        "wall_s": round(time.perf_counter() - began, 2),
        "cpu_s": round(used.ru_utime + used.ru_stime, 2),
        "peak_gb": round(used.ru_maxrss / 1e6, 2),
    }
    print(json.dumps(figures), done.stderr, sep="\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
