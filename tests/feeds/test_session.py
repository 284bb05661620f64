"""Asking at a pace, trying again, going on where it stopped, and saying how far it is."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pandas as pd
import pytest

from alphakeel.data.staging import Staging
from alphakeel.feeds.base import Pace
from alphakeel.feeds.failures import (
    BlockedError,
    ChangedFormatError,
    NoDataError,
    UnreachableError,
)
from alphakeel.feeds.session import Session
from feeds.surviving import FakeTime

DAY = dt.date(2015, 1, 2)


def one(ticker: str) -> dict[str, pd.DataFrame]:
    return {"bars": pd.DataFrame({"date": [DAY], "ticker": [ticker], "close": [10.0]})}


def failing(error: Exception, times: int):
    left = [times]

    def call():
        if left[0]:
            left[0] -= 1
            raise error
        return one("A")

    return call


@pytest.fixture
def time() -> FakeTime:
    return FakeTime(DAY)


def session(time: FakeTime, **options) -> Session:
    return Session(Pace(interval=1.0, tries=4, first_wait=2.0, longest_wait=60.0), time.clock(),
                   **options)  # fmt: skip


def test_requests_keep_their_distance(time: FakeTime) -> None:
    asked = session(time)
    for _ in range(3):
        asked.ask(lambda: one("A"))
    assert time.waits == [1.0, 1.0]


def test_waits_double_and_end(time: FakeTime) -> None:
    asked = session(time)
    asked.ask(failing(UnreachableError("the line is cut."), 3))
    assert [wait for wait in time.waits if wait > 1.0] == [2.0, 4.0, 8.0]
    with pytest.raises(UnreachableError):
        asked.ask(failing(UnreachableError("the line is cut."), 4))


def test_a_stated_wait_counts_unless_it_is_too_long(time: FakeTime) -> None:
    asked = session(time)
    asked.ask(failing(BlockedError("no.", retry_after=30.0), 1))
    assert time.waits[-1] == 30.0
    requests = asked.requests
    with pytest.raises(BlockedError):
        asked.ask(failing(BlockedError("no.", retry_after=3600.0), 1))
    assert asked.requests == requests + 1


def test_what_will_not_pass_is_not_tried_again(time: FakeTime) -> None:
    asked = session(time)
    for error in (ChangedFormatError("new."), NoDataError("none.")):
        with pytest.raises(type(error)):
            asked.ask(failing(error, 1))
    assert asked.requests == 2


def test_one_failing_stock_stops_nobody_and_three_in_a_row_stop_all(
    time: FakeTime, tmp_path: Path
) -> None:
    bad = {"B", "E", "F", "G"}

    def fetch(ticker: str):
        if ticker in bad:
            raise ChangedFormatError(f"{ticker} has changed.")
        return one(ticker)

    staging = Staging(tmp_path, {"a": 1})
    missing = session(time).collect(list("ABCDEFGHI"), fetch, staging, "bars")
    assert {(m.ticker, m.reason) for m in missing} == {
        *((ticker, "changed format") for ticker in bad),
        ("H", "not asked"),
        ("I", "not asked"),
    }
    bad.clear()
    asked: list[str] = []

    def again(ticker: str):
        asked.append(ticker)
        return one(ticker)

    assert not session(time).collect(list("ABCDEFGHI"), again, staging, "bars")
    assert asked == list("BEFGHI")
    tickers = staging.tables()["bars"].column("ticker").to_pylist()
    assert sorted(tickers) == list("ABCDEFGHI")


def test_progress_tells_rate_and_time_left(time: FakeTime, tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    asked = session(time, on_progress=lambda share, text: told.append((share, text)))
    asked.collect(list("ABCD"), one, Staging(tmp_path, {}), "bars")
    assert [share for share, _ in told] == [0.25, 0.5, 0.75, 1.0]
    assert told[2][1] == "bars 3 of 4, 90 a minute, 0 min left (C)"


@pytest.mark.parametrize("cut", [1, 10, 200, 400])
def test_a_torn_record_is_cut_off_and_fetched_again(cut: int, tmp_path: Path) -> None:
    staging = Staging(tmp_path, {"a": 1})
    for ticker in "ABC":
        staging.add(f"bars/{ticker}", one(ticker))
    (log,) = (tmp_path / ".fetch").glob("*.log")
    log.write_bytes(log.read_bytes()[:-cut])
    again = Staging(tmp_path, {"a": 1})
    assert list(again.done) == ["bars/A", "bars/B"]
    again.add("bars/C", one("C"))
    assert sorted(again.tables()["bars"].column("ticker").to_pylist()) == ["A", "B", "C"]


def test_damage_in_the_middle_ends_what_is_believed(tmp_path: Path) -> None:
    staging = Staging(tmp_path, {"a": 1})
    for ticker in "ABC":
        staging.add(f"bars/{ticker}", one(ticker))
    (log,) = (tmp_path / ".fetch").glob("*.log")
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 0xFF
    log.write_bytes(bytes(data))
    assert list(Staging(tmp_path, {"a": 1}).done) == ["bars/A"]


def test_another_request_has_a_log_of_its_own(tmp_path: Path) -> None:
    Staging(tmp_path, {"end": "2015-01-02"}).add("bars/A", one("A"))
    other = Staging(tmp_path, {"end": "2015-01-05"})
    assert not other.done
    assert not Staging(tmp_path, {"end": "2015-01-02"}, fresh=True).done
