"""One rule for every fault of every source: nothing lost, nothing wrong stored, one sentence."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from alphakeel.data.store import TABLES, DataStore
from alphakeel.errors import AlphakeelError
from alphakeel.feeds.base import Feed
from alphakeel.feeds.fetch import FetchReport, FetchRequest, fetch
from alphakeel.feeds.session import SessionClock


@dataclass
class FakeTime:
    """Time that passes only by waiting."""

    today: dt.date
    at: float = 0.0
    waits: list[float] = field(default_factory=list)

    def clock(self) -> SessionClock:
        return SessionClock(now=lambda: self.at, sleep=self._sleep, today=lambda: self.today)

    def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.at += seconds


def contents(path: Path) -> dict[str, pd.DataFrame]:
    """Every table of a store, sorted."""
    store = DataStore(path)
    tables = {name: store.read(name).to_pandas() for name in TABLES}
    return {
        name: frame.sort_values(list(TABLES[name].key)).reset_index(drop=True)
        for name, frame in tables.items()
        if len(frame)
    }


def same(left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        pd.testing.assert_frame_equal(left[name], right[name])


def one_sentence(text: str) -> None:
    assert text.endswith("."), text
    assert "\n" not in text
    assert "Traceback" not in text
    assert 20 < len(text) < 500, text


@dataclass
class Case:
    """A source behind a server, and what a whole fetch of it gives."""

    make: Callable[[], Feed]
    server: Any
    request: FetchRequest
    today: dt.date

    def fetch(self, path: Path, **options: Any) -> FetchReport:
        time = FakeTime(self.today)
        return fetch(self.make(), self.request, path, clock=time.clock(), **options)

    def survives(self, path: Path, fault: Callable, reasons: set[str]) -> None:
        """The fault stops the fetch with one sentence and changes nothing; then it goes on."""
        whole = path / "whole"
        self.server.fault = None
        assert self.fetch(whole).committed
        store = path / "store"
        self.server.fault = fault
        found = self._reasons(store)
        assert found
        assert found <= reasons
        assert not DataStore(store).parts
        self.server.fault = None
        report = self.fetch(store)
        assert report.committed, report.missing
        same(contents(store), contents(whole))
        assert DataStore(store).verify() == []

    def _reasons(self, store: Path) -> set[str]:
        """Why a fetch has failed; each reason is one sentence."""
        try:
            report = self.fetch(store)
        except AlphakeelError as error:
            one_sentence(str(error))
            return {getattr(error, "reason", str(error))}
        assert not report.committed, "a fetch with a fault was stored"
        own = [entry for entry in report.missing if entry.reason != "not asked"]
        for entry in own:
            one_sentence(entry.message)
        return {entry.reason for entry in own}

    def heals(self, path: Path, fault: Callable) -> None:
        """The fault passes: a fetch that tries again gives the whole."""
        whole = path / "whole"
        self.server.fault = None
        assert self.fetch(whole).committed
        self.server.fault = fault
        report = self.fetch(path / "store")
        assert report.committed, report.missing
        same(contents(path / "store"), contents(whole))
