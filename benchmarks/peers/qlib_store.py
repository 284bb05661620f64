"""Qlib: CSV files to its binary store, and six fields of it back through `D.features`.

Its own `scripts/dump_bin.py` is not in the package; this does the same for a new store: each file
is read by pandas, put on the calendar and written as float32.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

FIELDS = ("open", "high", "low", "close", "volume", "factor")


def dump(source: Path, store: Path) -> None:
    """Files of one stock each to Qlib's store."""
    frames = {file.stem: pd.read_csv(file, parse_dates=["date"]) for file in source.glob("*.csv")}
    calendar = np.unique(np.concatenate([frame["date"].to_numpy() for frame in frames.values()]))
    (store / "calendars").mkdir(parents=True)
    days = pd.DatetimeIndex(calendar).strftime("%Y-%m-%d")
    (store / "calendars" / "day.txt").write_text("\n".join(days) + "\n")
    (store / "instruments").mkdir()
    lines = [f"{name}\t{days[0]}\t{days[-1]}\n" for name in sorted(frames)]
    (store / "instruments" / "all.txt").write_text("".join(lines))
    for name, frame in frames.items():
        home = store / "features" / name.lower()
        home.mkdir(parents=True)
        rows = frame.set_index("date").reindex(calendar)
        for field in FIELDS:
            np.append(0.0, rows[field].to_numpy()).astype("<f4").tofile(home / f"{field}.day.bin")


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    import qlib
    from qlib.data import D

    store, started = folder / "qlib", time.process_time()
    dump(folder / "csv", store)
    dumped = time.process_time() - started
    options = {"kernels": 1, "expression_cache": None, "dataset_cache": None, "logging_level": 40}
    qlib.init(provider_uri=str(store), **options)
    started = time.process_time()
    frame = D.features(D.instruments("all"), [f"${name}" for name in FIELDS], freq="day")
    loaded = time.process_time() - started
    told = {"version": version("pyqlib"), "dump": dumped, "load": loaded, "rows": len(frame)}
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
