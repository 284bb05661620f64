"""A store of any size: seconds to fill it, to read it into a panel, and for a day's update.

python benchmarks/store_load.py [stocks] [years]      (5000 stocks x 11 years by default)

With ``--beside`` the same rows are also read by pandas from one CSV file and, where the Python of
an environment with pyqlib is named, dumped and loaded by Qlib:
python benchmarks/store_load.py 500 11 --beside [PYTHON]
"""

from __future__ import annotations

import datetime as dt
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from alphakeel.data.loading import load_panel
from alphakeel.data.store import DataStore
from alphakeel.feeds.base import Feed, Pace, Tables
from alphakeel.feeds.fetch import FetchRequest, fetch
from alphakeel.feeds.session import SessionClock

FIRST = 2005


def rows(days: np.ndarray, tickers: np.ndarray, rng: np.random.Generator) -> pa.Table:
    n = len(days) * len(tickers)
    close = 10.0 * np.exp(rng.normal(0.0, 0.02, n))
    codes = pa.DictionaryArray.from_arrays(
        np.tile(np.arange(len(tickers), dtype=np.int32), len(days)), tickers
    )
    return pa.table(
        {
            "date": np.repeat(days, len(tickers)),
            "ticker": codes.cast(pa.string()),
            "open": close,
            "high": close * 1.01,
            "low": close * 0.99,
            "close": close,
            "volume": rng.integers(1, 1_000_000, n).astype(float),
            "pe": close,
            "pb": close / 3.0,
        }
    )


class Market(Feed):
    """Gives the next day of every stock, as baostock does."""

    name = "benchmark"
    pace = Pace(interval=0.0)

    def __init__(self, last: pd.DataFrame, day: dt.date) -> None:
        self._last, self._day = last, day

    def calendar(self, start: dt.date, end: dt.date) -> Tables:
        return {"calendar": pd.DataFrame({"date": [self._last["date"].iloc[0], self._day]})}

    def bars(self, ticker: str, start: dt.date, end: dt.date) -> Tables:
        raise AssertionError("the days hold every stock")

    def day(self, day: dt.date) -> Tables:
        return {"bars": self._last.assign(date=day)}


def timed(what: str, started: tuple[float, float]) -> None:
    wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{what:<24} {cpu:6.1f} s CPU {wall:6.1f} s wall {peak:5.1f} GB so far")


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def beside(stocks: int, years: int, python: str | None) -> None:
    """The same rows by pandas from one CSV file, and by Qlib from a file a stock."""
    rng = np.random.default_rng(0)
    tickers = np.array([f"sh{600000 + i}" for i in range(stocks)])
    days = np.arange(f"{FIRST}-01-01", f"{FIRST + years}-01-01", dtype="datetime64[D]")
    frame = rows(days[np.is_busday(days)], tickers, rng).drop_columns(["pe", "pb"]).to_pandas()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bars.csv"
        frame.to_csv(file, index=False)
        started = now()
        read = pd.read_csv(file, parse_dates=["date"])
        timed(f"pandas read_csv, {len(read):,} rows", started)
        started = now()
        wide = {name: read.pivot(index="date", columns="ticker", values=name)
                for name in ("open", "high", "low", "close", "volume")}  # fmt: skip
        timed(f"pandas pivot to {wide['close'].shape}", started)
        started = now()
        panel = load_panel(file)
        timed(f"alphakeel, the same CSV {panel.active_mask.shape}", started)
        if python is None:
            return
        (Path(folder) / "csv").mkdir()
        for ticker, own in frame.assign(factor=1.0).groupby("ticker"):
            own.to_csv(Path(folder) / "csv" / f"{ticker}.csv", index=False)
        peer = Path(__file__).parent / "peers" / "qlib_store.py"
        done = subprocess.run([python, str(peer), folder], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"Qlib failed: {done.stderr[-2000:]}")
        told = json.loads(done.stdout.splitlines()[-1])
        spent = f"dump {told['dump']:.1f} s CPU, load {told['load']:.1f} s CPU"
        print(f"Qlib {told['version']} {spent}")


def main(stocks: int = 5000, years: int = 11) -> None:
    rng = np.random.default_rng(0)
    tickers = np.array([f"sh{600000 + i}" for i in range(stocks)])
    with tempfile.TemporaryDirectory() as folder:
        store, started = DataStore(folder), now()
        with store.writer() as writer:
            for year in range(FIRST, FIRST + years):
                days = np.arange(f"{year}-01-01", f"{year + 1}-01-01", dtype="datetime64[D]")
                table = rows(days[np.is_busday(days)], tickers, rng)
                writer.append("bars", table, source="benchmark", adjustment="raw")
            writer.commit()
        timed("fill the store", started)
        started = now()
        panel = load_panel(folder)
        timed(f"panel {panel.active_mask.shape}", started)
        del panel
        last = store.last_date("bars")
        newest = store.read("bars", years=(last.year, last.year)).to_pandas()
        newest = newest[newest["date"] == last].dropna(axis="columns", how="all")
        day = last + dt.timedelta(days=3 if last.weekday() == 4 else 1)
        request = FetchRequest("store", dt.date(FIRST, 1, 1), day, update=True)
        started = now()
        clock = SessionClock(today=lambda: day)
        report = fetch(Market(newest, day), request, Path(folder), clock=clock)
        timed(f"update of {report.added['bars']} stocks", started)


if __name__ == "__main__":
    words = sys.argv[1:]
    numbers = [int(word) for word in words if word.isdigit()]
    main(*numbers)
    if "--beside" in words:
        after = words[words.index("--beside") + 1 :]
        beside(*(numbers or (500, 11)), after[0] if after else None)
