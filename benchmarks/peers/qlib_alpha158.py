"""Qlib: the 158 expressions of Alpha158 from its own binary store, one process, no cache."""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from _peer import load, report

from _clock import best_cpu_seconds


def write_store(folder: Path, panel: dict[str, np.ndarray], dates: pd.DatetimeIndex) -> None:
    """Qlib's format: per stock and field the start index and the values, as float32."""
    days = dates.strftime("%Y-%m-%d")
    (folder / "calendars").mkdir(parents=True)
    (folder / "calendars" / "day.txt").write_text("\n".join(days) + "\n")
    n_assets = panel["close"].shape[1]
    (folder / "instruments").mkdir()
    (folder / "instruments" / "all.txt").write_text(
        "".join(f"S{i:04d}\t{days[0]}\t{days[-1]}\n" for i in range(n_assets))
    )
    for i in range(n_assets):
        home = folder / "features" / f"s{i:04d}"
        home.mkdir(parents=True)
        for field, values in panel.items():
            np.append(0.0, values[:, i]).astype("<f4").tofile(home / f"{field}.day.bin")


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    import qlib
    from qlib.contrib.data.loader import Alpha158DL
    from qlib.data import D

    fields = ("open", "high", "low", "close", "volume")
    panel = dict(zip(fields, load(folder, *fields), strict=True))
    panel["vwap"] = (panel["high"] + panel["low"] + panel["close"]) / 3.0
    dates = pd.bdate_range("2010-01-04", periods=len(panel["close"]))
    store = folder / "qlib_store"
    write_store(store, panel, dates)
    qlib.init(
        provider_uri=str(store),
        kernels=1,
        expression_cache=None,
        dataset_cache=None,
        logging_level=40,
    )
    expressions, names = Alpha158DL.get_feature_config()
    frames: list[pd.DataFrame] = []
    seconds = best_cpu_seconds(
        lambda: frames.append(D.features(D.instruments("all"), expressions, freq="day")),
        repeats=1,
        warm_up=False,
    )
    expected = (panel["close"].size, len(names))
    if frames[0].shape != expected:
        raise SystemExit(f"Qlib returned {frames[0].shape} values; expected {expected}.")
    rate = frames[0].size / seconds
    report("Qlib Alpha158", version("pyqlib"), rate, note=f"{len(names)} factors, {seconds:.0f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
