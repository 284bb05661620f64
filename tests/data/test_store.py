"""A store keeps what was committed, whatever happens while it is written."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset
import pytest

from alphakeel.data import store as store_module
from alphakeel.data.loading import inspect_path, load_panel
from alphakeel.data.store import MOST_PARTS, TABLES, DataStore, is_store, table_of
from alphakeel.errors import ConfigError, DataError

RAW = {"source": "by hand", "adjustment": "raw"}


def bars(days: list[str], close: float = 10.0, tickers: tuple[str, ...] = ("A", "B")):
    rows = [(dt.date.fromisoformat(d), t) for d in days for t in tickers]
    prices = close + 0.1 * np.arange(len(rows))
    return pd.DataFrame(rows, columns=["date", "ticker"]).assign(
        open=prices, high=prices + 1, low=prices - 1, close=prices, volume=100.0
    )


def fill(path: Path, frame: pd.DataFrame, table: str = "bars") -> int:
    with DataStore(path).writer() as writer:
        count = writer.append(table, frame, **RAW)
        writer.commit()
    return count


OLD = ["2014-12-30", "2014-12-31", "2015-01-02"]
NEW = ["2015-01-05", "2015-01-06"]


def test_what_is_written_is_read_and_partitioned_by_year(tmp_path: Path) -> None:
    assert fill(tmp_path, bars(OLD)) == 6
    store = DataStore(tmp_path)
    assert is_store(tmp_path)
    assert [(p.year, p.rows) for p in store.parts_of("bars")] == [(2014, 4), (2015, 2)]
    assert store.last_date("bars") == dt.date(2015, 1, 2)
    assert store.read("bars", ["ticker", "close"], years=(2015, 2015)).num_rows == 2
    assert store.verify() == []


def test_the_folder_is_read_as_it_lies(tmp_path: Path) -> None:
    fill(tmp_path, bars(OLD))
    fill(tmp_path, bars(NEW, 11.0))
    dataset = pyarrow.dataset.dataset(tmp_path / "bars", partitioning="hive")
    assert dataset.to_table().num_rows == 10
    frame = pd.read_parquet(tmp_path / "bars")
    assert sorted(frame["year"].astype(int).unique()) == [2014, 2015]


def test_duckdb_and_polars_read_the_folder(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    polars = pytest.importorskip("polars")
    fill(tmp_path, bars(OLD))
    query = f"SELECT count(*), max(year) FROM read_parquet('{tmp_path}/bars/**/*.parquet')"
    assert duckdb.sql(query).fetchall() == [(6, 2015)]
    assert polars.read_parquet(f"{tmp_path}/bars/**/*.parquet").height == 6


def test_the_same_rows_again_change_nothing_and_other_values_replace_them(tmp_path: Path) -> None:
    fill(tmp_path, bars(OLD))
    before = DataStore(tmp_path).parts
    assert fill(tmp_path, bars(OLD)) == 0
    assert DataStore(tmp_path).parts == before
    revised = bars(OLD)
    revised.loc[0, "close"] = 10.5
    assert fill(tmp_path, revised) == 1
    table = DataStore(tmp_path).read("bars").to_pandas()
    assert len(table) == 6
    first = table[(table["ticker"] == "A") & (table["date"] == dt.date(2014, 12, 30))]
    assert first["close"].tolist() == [10.5]
    assert DataStore(tmp_path).verify() == []


def test_many_small_parts_are_put_together(tmp_path: Path) -> None:
    days = [str(day) for day in pd.bdate_range("2015-01-01", periods=MOST_PARTS + 2).date]
    for day in days:
        fill(tmp_path, bars([day]))
    store = DataStore(tmp_path)
    assert len(store.parts_of("bars")) <= 3
    assert store.read("bars").num_rows == 2 * len(days)
    assert len(list(tmp_path.glob("bars/year=2015/*"))) == len(store.parts_of("bars"))


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it, nothing cleans up."""


def test_a_crash_at_any_write_leaves_the_old_state_or_the_new(tmp_path: Path, monkeypatch) -> None:
    """Every replace, unlink and mkdir of a commit is once the last thing that happens."""
    seen = set()
    for step in range(60):
        path = tmp_path / str(step)
        fill(path, bars(OLD))
        count = [0]

        def dying(real, count=count, step=step):
            def call(*args, **kwargs):
                if count[0] >= step:
                    raise Killed
                count[0] += 1
                return real(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(store_module.os, "replace", dying(os.replace))
            patch.setattr(store_module.os, "fsync", dying(os.fsync))
            patch.setattr(Path, "unlink", dying(Path.unlink))
            try:
                revised = pd.concat([bars(OLD[1:], 20.0), bars(NEW, 11.0)])
                fill(path, revised)
                finished = True
            except Killed:
                finished = False
        state = (
            DataStore(path).read("bars").sort_by([("date", "ascending"), ("ticker", "ascending")])
        )
        assert state.num_rows in (6, 10)
        seen.add(state.num_rows)
        closes = state.column("close").to_pylist()
        assert closes[:2] == [10.0, 10.1]
        assert closes[2] == (10.2 if state.num_rows == 6 else 20.0)
        fill(path, bars(["2016-01-04"]))  # the next writer clears up
        files = {str(f.relative_to(path)) for f in path.glob("bars/year=*/*")}
        assert files == {part.file for part in DataStore(path).parts}
        assert DataStore(path).verify() == []
        if finished:
            break
    assert finished
    assert seen == {6, 10}


def test_a_killed_writer_frees_the_lock_and_a_live_one_is_named(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from alphakeel.data.store import DataStore\n"
        f"with DataStore({str(tmp_path)!r}).writer():\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(DataError, match=rf"written by process {process.pid} on .* minutes"):
            fill(tmp_path, bars(OLD))
    finally:
        process.kill()
        process.communicate()

    assert fill(tmp_path, bars(OLD)) == 6


def test_a_reader_in_the_middle_of_a_commit_sees_whole_states(tmp_path: Path) -> None:
    fill(tmp_path, bars(OLD))
    with DataStore(tmp_path).writer() as writer:
        writer.append("bars", bars(NEW), **RAW)
        assert DataStore(tmp_path).read("bars").num_rows == 6
        assert len(list(tmp_path.glob("bars/**/*.parquet"))) == 2
        writer.commit()
        assert DataStore(tmp_path).read("bars").num_rows == 10


def test_damage_is_found(tmp_path: Path) -> None:
    fill(tmp_path, bars(OLD))
    part = tmp_path / DataStore(tmp_path).parts[0].file
    data = bytearray(part.read_bytes())
    data[40] ^= 1
    part.write_bytes(bytes(data))
    assert "its checksum differs" in DataStore(tmp_path).verify()[0]
    part.unlink()
    with pytest.raises(DataError, match="is missing from the store"):
        DataStore(tmp_path).read("bars")


def test_a_changed_manifest_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, bars(OLD))
    file = tmp_path / "manifest.json"
    body = json.loads(file.read_text())
    body["parts"] = body["parts"][:1]
    file.write_text(json.dumps(body))
    with pytest.raises(DataError, match="changed by hand or damaged"):
        DataStore(tmp_path).read("bars")
    file.write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        DataStore(tmp_path).read("bars")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f.assign(colour="red"), "column 'colour' is not one of the table bars"),
        (lambda f: pd.concat([f, f]), "two rows for date 2014-12-30, ticker A"),
        (lambda f: f.assign(ticker=[None, *f["ticker"][1:]]), "ticker is missing"),
        (lambda f: f.assign(close="ten"), "column 'close' of bars is no double"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change, text: str) -> None:
    with pytest.raises(DataError, match=text):
        table_of(change(bars(OLD)), "bars")


def test_every_table_says_what_it_is_dated_by() -> None:
    for table in TABLES.values():
        assert table.dated_by in table.columns


def test_a_store_is_loaded_with_returns_that_hold_dividends_and_splits(tmp_path: Path) -> None:
    frame = bars([*OLD, *NEW])
    frame.loc[frame["date"] >= dt.date(2015, 1, 2), ["open", "high", "low", "close"]] /= 2
    fill(tmp_path, frame)
    days = [dt.date(2015, 1, 2), dt.date(2015, 1, 5)]
    actions = pd.DataFrame({"date": days, "ticker": "A", "split": [2.0, None]})
    actions["dividend"] = [None, 0.5]
    fill(tmp_path, actions, "actions")
    panel = load_panel(tmp_path)
    a = panel["close"][:, 0]
    growth = [a[1] / a[0], 2 * a[2] / a[1], (a[3] + 0.5) / a[2], a[4] / a[3]]
    adjusted = panel["adj_close"][:, 0]
    np.testing.assert_allclose(adjusted[1:] / adjusted[:-1], growth)
    # A split or dividend says nothing about the days before it: not by a bit.
    early = load_panel(tmp_path, end="2015-01-02")
    assert early["adj_close"].tolist() == panel["adj_close"][:3].tolist()
    report = inspect_path(tmp_path)
    assert report.layout == "store"
    assert any("by hand (raw)" in note for note in report.notes)


def test_a_reference_price_counts_before_actions(tmp_path: Path) -> None:
    frame = bars(OLD).assign(previous_close=np.nan)
    frame.loc[frame.index[2:], "previous_close"] = [5.0, 5.05, 10.2, 10.3]
    fill(tmp_path, frame)
    actions = pd.DataFrame({"date": [dt.date(2014, 12, 31)], "ticker": "A", "split": [7.0]})
    fill(tmp_path, actions, "actions")
    panel = load_panel(tmp_path)
    np.testing.assert_allclose(
        panel["adj_close"][1] / panel["adj_close"][0], [10.2 / 5, 10.3 / 5.05]
    )


def test_members_count_from_their_list_to_the_next(tmp_path: Path) -> None:
    fill(tmp_path, bars([*OLD, *NEW], tickers=("A", "B", "C")))
    lists = pd.DataFrame(
        [("2014-12-31", "A"), ("2014-12-31", "B"), ("2015-01-05", "B"), ("2015-01-05", "C")],
        columns=["date", "ticker"],
    ).assign(index="csi300")
    lists["date"] = pd.to_datetime(lists["date"]).dt.date
    fill(tmp_path, lists, "members")
    member = load_panel(tmp_path)["member"]
    assert np.isnan(member[0]).all()
    assert member[1:].tolist() == [[1, 1, 0]] * 2 + [[0, 1, 1]] * 2
    assert load_panel(tmp_path, universe="csi300")["member"].tolist()[1:] == member[1:].tolist()
    with pytest.raises(ConfigError, match=r"does not list its members: .* csi300"):
        load_panel(tmp_path, universe="csi500")


def test_an_action_on_a_day_without_a_trade_counts_from_the_next_price(tmp_path: Path) -> None:
    frame = bars([*OLD, *NEW])
    more = bars([*OLD, *NEW], tickers=("C",))
    frame = frame[~((frame["ticker"] == "A") & (frame["date"] == dt.date(2015, 1, 2)))]
    fill(tmp_path, pd.concat([frame, more]))
    actions = pd.DataFrame({"date": [dt.date(2015, 1, 2)], "ticker": "A", "split": [2.0]})
    fill(tmp_path, actions, "actions")
    panel = load_panel(tmp_path)
    ratio = panel["adj_close"][:, 0] / panel["close"][:, 0]
    np.testing.assert_array_equal(ratio[[0, 1, 3, 4]], [1, 1, 2, 2])
