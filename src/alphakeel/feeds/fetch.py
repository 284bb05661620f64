"""From a request to a store: universe, bars, filings, index; complete, or refused with a table.

Answers are staged as they come. They enter the store together, once everything is there or the
user accepts what is missing; until then readers see the last good state.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from alphakeel.data.entry import check_new_days
from alphakeel.data.quality import QualityFinding
from alphakeel.data.staging import Staging
from alphakeel.data.store import DataStore, StoreWriter
from alphakeel.errors import ConfigError, DataError
from alphakeel.feeds.base import Feed, Tables, check_day, check_rows
from alphakeel.feeds.failures import FeedError, Missing, NoDataError, WrongDataError
from alphakeel.feeds.session import Session, SessionClock

__all__ = ["FetchReport", "FetchRequest", "fetch", "update_request"]

# Days before the newest stored bar that an update asks for again, to notice a rewritten history.
OVERLAP = 10
# A universe may lose so many of its members from one list to the next.
LARGEST_LOSS = 0.2
# Relative difference of closes beyond which history counts as rewritten, not as rounded.
REWRITTEN = 0.002
# Days of filings before the start that a trailing year, and the one before it, are made of.
EARLIER_FILINGS = 900
# Days that an update asks for as a whole; beyond them it is quicker to ask stock by stock.
MOST_DAYS = 40
# Share of the stocks of a store that may have no newer rows: they were delisted since.
LARGEST_SILENCE = 0.02
PARTS = ("bars", "fundamentals", "index", "rates")


@dataclass(frozen=True)
class FetchRequest:
    """What to fetch.

    Attributes
    ----------
    universe : str
        As the source names it, comma-separated tickers, or "store": those of the store.
    start, end : date
    what : tuple of str
        Of "bars", "fundamentals", "index" and "rates".
    allow_partial : bool
        Keep what is there although something is missing.
    update : bool
        From the newest stored day of each stock on.
    """

    universe: str
    start: dt.date
    end: dt.date
    what: tuple[str, ...] = ("bars",)
    allow_partial: bool = False
    update: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the manifest."""
        plain = asdict(self)
        return {**plain, "start": str(self.start), "end": str(self.end), "what": list(self.what)}


@dataclass(frozen=True)
class FetchReport:
    """What a fetch has brought, and what is missing."""

    source: str
    committed: bool
    tickers: int
    added: Mapping[str, int]  # new rows by table
    missing: tuple[Missing, ...]
    last_day: str  # newest bar of the store; empty if it has none
    age_days: int  # of that bar
    requests: int
    notes: tuple[str, ...] = field(default=())
    findings: tuple[QualityFinding, ...] = field(default=())  # doubtful in the days that are new
    finding_counts: Mapping[str, int] = field(default_factory=dict)  # by kind

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        plain = {"added": dict(self.added), "finding_counts": dict(self.finding_counts)}
        return {**asdict(self), **plain, "notes": list(self.notes)}


def update_request(store: DataStore, source: str, end: dt.date, **changes: Any) -> FetchRequest:
    """The request that brings a store up to date: the last one, from its newest days on."""
    kept = store.requests.get(source)
    if kept is None:
        have = ", ".join(sorted(store.requests))
        why = (
            f"the store {store.path} was not fetched from {source} but from {have}"
            if have
            else f"there is no store at {store.path} that a fetch has filled"
        )
        raise ConfigError(f"{why}: name its folder with --out, or fetch once with --universe and "
                          "--start.")  # fmt: skip
    return FetchRequest(
        universe=kept["universe"],
        start=dt.date.fromisoformat(kept["start"]),
        end=end,
        what=tuple(kept["what"]),
        update=True,
        **changes,
    )


def fetch(
    feed: Feed,
    request: FetchRequest,
    path: str | Path,
    *,
    clock: SessionClock | None = None,
    on_progress: Callable[[float, str], None] | None = None,
    fresh: bool = False,
) -> FetchReport:
    """Fetch into a store, all or nothing unless the request allows a part.

    A fetch that was cut short goes on where it stopped when it is asked for again.

    Raises
    ------
    FeedError
        If not even the universe could be had.
    ConfigError
        If the request cannot be served.
    """
    clock = clock or SessionClock()
    store = DataStore(path)
    _check(feed, request, clock.today())
    session = Session(feed.pace, clock, on_progress)
    with store.writer() as writer, feed:
        staging = Staging(store.path, {"source": feed.name, **_key(request)}, fresh=fresh)
        job = _Job(feed, request, store, staging, session, clock.today())
        tickers = job.universe()
        notes: list[str] = []
        missing = job.parts(tickers, notes)
        added: dict[str, int] = {}
        complete = not missing or request.allow_partial
        known = store.last_date("bars")
        if complete:
            added = job.commit(writer, missing, notes)
            staging.discard()
    since = known + dt.timedelta(days=1) if request.update and known else request.start
    findings, counts = _doubtful(store, added, since, clock.today(), notes)
    last = store.last_date("bars")
    return FetchReport(
        source=feed.name,
        committed=complete,
        tickers=len(tickers),
        added=added,
        missing=tuple(missing),
        last_day="" if last is None else str(last),
        age_days=0 if last is None else (clock.today() - last).days,
        requests=session.requests,
        notes=tuple(notes),
        findings=tuple(findings),
        finding_counts=counts,
    )


def _doubtful(
    store: DataStore, added: Mapping[str, int], since: dt.date, today: dt.date, notes: list[str]
) -> tuple[list[QualityFinding], dict[str, int]]:
    """What `alphakeel check` would ask about in the days that a fetch has brought."""
    if not any(added.values()) or not store.parts_of("bars"):
        return [], {}
    try:
        return check_new_days(store, since, today=today)
    except DataError as error:
        notes.append(f"what was stored is no panel yet: {str(error).rstrip('.')}")
        return [], {}


def _check(feed: Feed, request: FetchRequest, today: dt.date) -> None:
    """Refuse what cannot be served before anything is asked."""
    if request.start > request.end:
        raise ConfigError(f"start {request.start} lies after end {request.end}.")
    if request.end > today:
        raise ConfigError(f"end {request.end} lies in the future (today is {today}).")
    for part in request.what:
        if part not in PARTS:
            raise ConfigError(f"{part!r} cannot be fetched: choose from {', '.join(PARTS)}.")
        if not feed.offers(part):
            raise ConfigError(f"{feed.name} does not offer {part}: take another source for it.")


def _key(request: FetchRequest) -> dict[str, Any]:
    """What makes two requests the same work."""
    plain = request.to_dict()
    del plain["allow_partial"]
    return plain


@dataclass
class _Job:
    """One fetch at work."""

    feed: Feed
    request: FetchRequest
    store: DataStore
    staging: Staging
    session: Session
    today: dt.date

    def universe(self) -> list[str]:
        """Tickers to ask for, and the tables that came with them."""
        name = self.request.universe
        if name == "store":
            stored = sorted(self.store.newest("bars"))
            if not stored:
                raise ConfigError(
                    f"the store {self.store.path} holds no stock: fetch bars into it first, or "
                    "name tickers."
                )
            return stored
        if "," in name or not self.feed.offers("universe"):
            named = sorted({ticker.strip() for ticker in name.split(",") if ticker.strip()})
            if not named and {"bars", "fundamentals"} & set(self.request.what):
                raise ConfigError(f"the universe {name!r} names no ticker.")
            return named
        if f"universe/{name}" not in self.staging.done:
            asked = self.session.ask(
                lambda: self.feed.universe(name, self.request.start, self.request.end)
            )
            self._refuse_shrunk(asked)
            self.staging.add(f"universe/{name}", asked)
        tables = self.staging.tables()
        found: set[str] = set()
        for table in ("securities", "members"):
            if table in tables:
                found |= set(tables[table].column("ticker").to_pylist())
        if not found:
            raise WrongDataError(f"{self.feed.name} names no stock of the universe {name}.")
        return sorted(found)

    def parts(self, tickers: Sequence[str], notes: list[str]) -> list[Missing]:
        """Ask for every part of the request; returns what is missing."""
        missing: list[Missing] = []
        days = self._trading_days(notes)
        starts = self._starts() if self.request.update else {}
        for part in self.request.what:
            if part in ("index", "rates"):
                ask, items = partial(self._series, part), [self.request.universe]
            else:
                ask, items = partial(self._of_stock, part, days, starts), list(tickers)
            if part == "bars":
                items, lost = self._by_day(items, days, starts)
                missing += lost
            absent = self.session.collect(items, ask, self.staging, part)
            missing += self._without_silent(absent, part, len(tickers), notes)
        return missing

    def _by_day(
        self, tickers: list[str], days: np.ndarray | None, starts: Mapping[str, dt.date]
    ) -> tuple[list[str], list[Missing]]:
        """In an update, ask for whole days where the source has them; returns the stocks left.

        Those are asked for one by one: new in the store, behind it, ended, or changed since.
        """
        last = self.store.last_date("bars")
        if not self.request.update or not self.feed.offers("day") or days is None or last is None:
            return tickers, []
        wanted = [day for day in days.astype(object) if last <= day <= self.request.end]
        if not 0 < len(wanted) <= MOST_DAYS:
            return tickers, []
        newest = last - dt.timedelta(days=OVERLAP)
        current = {ticker for ticker, start in starts.items() if start == newest} & set(tickers)
        ask = partial(self._of_day, current)
        texts = [str(day) for day in wanted]
        missing = self.session.collect(texts, ask, self.staging, "day", may_come=True)
        if missing:
            return [], missing
        table = self.staging.tables().get("bars")
        counts = Counter([] if table is None else table.column("ticker").to_pylist())
        short = {ticker for ticker in current if counts[ticker] < len(wanted)}
        if len(short) > max(3, LARGEST_SILENCE * len(current)):
            text = f"{self.feed.name} gives %d of {len(wanted)} days of it: its days are not whole."
            lost = sorted(short)
            return [], [Missing(t, "day", "wrong data", text % counts[t]) for t in lost]
        return sorted((set(tickers) - current) | short), []

    def _of_day(self, tickers: set[str], text: str) -> Tables:
        """One day of all stocks: checked, those left out that are not ours or were rewritten."""
        day = dt.date.fromisoformat(text)
        bars = self.feed.day(day)["bars"]
        other = bars.loc[bars["date"] != day, "date"]
        if len(other):
            raise WrongDataError(f"{self.feed.name} was asked for {day} and gave {other.iloc[0]}.")
        bars = check_day(bars[bars["ticker"].isin(tickers)], day, where=self.feed.name)
        closes = self._stored_closes()
        old = np.array([closes.get(t, {}).get(day, np.nan) for t in bars["ticker"]])
        off = np.abs(bars["close"].to_numpy() / old - 1.0) > REWRITTEN
        return {"bars": bars[~off]}

    def _without_silent(
        self, absent: list[Missing], part: str, total: int, notes: list[str]
    ) -> list[Missing]:
        """In an update, a few stocks without newer rows are no failure: they ended."""
        silent = [m for m in absent if m.reason in ("empty", "not listed")]
        if not self.request.update or not silent:
            return absent
        if part == "bars" and len(silent) > max(3, LARGEST_SILENCE * total):
            return absent
        named = ", ".join(entry.ticker for entry in silent[:10])
        notes.append(f"{len(silent)} stocks have no newer {part}: {named}")
        return [entry for entry in absent if entry not in silent]

    def commit(
        self, writer: StoreWriter, missing: Sequence[Missing], notes: list[str]
    ) -> dict[str, int]:
        """Bring everything staged into the store, in one step."""
        added: dict[str, int] = {}
        for name, table in self.staging.tables().items():
            rows = _distinct(self._news(table) if name == "securities" else table)
            added[name] = writer.append(
                name, rows, source=self.feed.name, adjustment=self.feed.adjustment
            )
        kept = {**self.request.to_dict(), "missing": [asdict(entry) for entry in missing]}
        if self.request.update:
            kept["update"] = False
        writer.remember(self.feed.name, kept)
        writer.commit()
        if missing:
            notes.append(f"{len(missing)} answers are missing, and were accepted as such")
        return added

    def _news(self, table: pa.Table) -> pa.Table:
        """Rows of the list of securities that say what the newest stored ones do not."""
        columns = [name for name in table.column_names if name != "as_of"]
        stored = self.store.read("securities", ["as_of", *columns]).to_pandas()
        newest = stored.sort_values("as_of", kind="stable").drop_duplicates("ticker", keep="last")
        asked = table.to_pandas()[columns]
        known = asked.merge(newest[columns], on=columns, how="left", indicator=True)["_merge"]
        return table.filter(pa.array((known == "left_only").to_numpy()))

    def _of_stock(
        self, part: str, days: np.ndarray | None, starts: Mapping[str, dt.date], ticker: str
    ) -> Tables:
        """Ask for one part of one stock, and check it."""
        start = starts.get(ticker, self.request.start)
        if part == "fundamentals":
            start = self._first_filing()
        tables = getattr(self.feed, part)(ticker, start, self.request.end)
        checked = check_rows(
            tables,
            ticker,
            start,
            self.request.end,
            today=self.today,
            where=self.feed.name,
            trading_days=days if part == "bars" and self.feed.every_day else None,
        )
        if not len(checked.get(part, ())):
            raise NoDataError(
                f"{self.feed.name} has no {part} of {ticker} from {start} to {self.request.end}."
            )
        if part == "bars" and ticker in starts:
            self._refuse_rewritten(ticker, checked["bars"])
        return checked

    def _first_filing(self) -> dt.date:
        """From which day on filings are asked for."""
        newest = self.store.last_date("fundamentals") if self.request.update else None
        if newest is not None:
            return newest - dt.timedelta(days=10 * OVERLAP)
        return self.request.start - dt.timedelta(days=EARLIER_FILINGS)

    def _series(self, part: str, name: str) -> Tables:
        """Ask for an index or a rate."""
        return dict(getattr(self.feed, part)(name, self.request.start, self.request.end))

    def _trading_days(self, notes: list[str]) -> np.ndarray | None:
        """Trading days as the source states them; None where it does not.

        A calendar that bars are not held against may be refused: some sources sell it apart.
        """
        if not self.feed.offers("calendar") or "bars" not in self.request.what:
            return None
        if "calendar/all" not in self.staging.done:
            try:
                asked = self.session.ask(
                    lambda: self.feed.calendar(self.request.start, self.request.end)
                )
            except FeedError as error:
                if self.feed.every_day:
                    raise
                notes.append(f"without a calendar: {str(error).rstrip('.')}")
                return None
            self.staging.add("calendar/all", asked)
        table = self.staging.tables().get("calendar")
        return None if table is None else np.unique(table.column("date").to_numpy())

    def _starts(self) -> dict[str, dt.date]:
        """From which day on each stock is asked for: a few days before its newest bar."""
        back = dt.timedelta(days=OVERLAP)
        newest = self.store.newest("bars")
        return {ticker: max(day - back, self.request.start) for ticker, day in newest.items()}

    def _refuse_shrunk(self, asked: Tables) -> None:
        """Refuse a list of members that is far shorter than the one before it."""
        lists = asked.get("members")
        if lists is None or not len(lists) or not self.feed.steady_lists:
            return
        sizes = lists.groupby("date")["ticker"].nunique()
        stored = self.store.read("members", ["date", "ticker"]).to_pandas()
        if len(stored):
            newest = stored[stored["date"] == stored["date"].max()]
            sizes = pd.concat([pd.Series({newest["date"].iloc[0]: len(newest)}), sizes])
        sizes = sizes.sort_index()
        shrunk = np.flatnonzero(sizes.to_numpy()[1:] < (1 - LARGEST_LOSS) * sizes.to_numpy()[:-1])
        if len(shrunk):
            at = int(shrunk[0])
            raise WrongDataError(
                f"{self.feed.name} lists {sizes.iloc[at + 1]} members of {self.request.universe} "
                f"on {sizes.index[at + 1]} after {sizes.iloc[at]} on {sizes.index[at]}: the list "
                "is not whole; try again later."
            )

    def _refuse_rewritten(self, ticker: str, fresh: pd.DataFrame) -> None:
        """Refuse bars that the source has put on another scale since they were stored."""
        known = self._stored_closes().get(ticker)
        if known is None or not len(fresh):
            return
        pairs = zip(fresh["date"], fresh["close"], strict=True)
        both = [(day, close, known[day]) for day, close in pairs if day in known]
        if not both:
            return
        ratios = np.array([new / old for _, new, old in both])
        if (np.abs(ratios - 1.0) > REWRITTEN).all() and np.ptp(ratios) < REWRITTEN:
            raise WrongDataError(
                f"{self.feed.name} gives {ticker} on another scale than before (times "
                f"{ratios[0]:.4g} on {both[0][0]}): fetch all of it again, without --update."
            )

    def _stored_closes(self) -> dict[str, dict[dt.date, float]]:
        """Closes of the days that an update asks for again."""
        if not hasattr(self, "_closes"):
            last = self.store.last_date("bars")
            since = (last or self.today).year
            table = self.store.read("bars", ["ticker", "date", "close"], years=(since - 1, since))
            frame = table.to_pandas()
            frame = frame[frame["date"] >= (last or self.today) - dt.timedelta(days=2 * OVERLAP)]
            self._closes: dict[str, dict[dt.date, float]] = {
                str(ticker): dict(zip(own["date"], own["close"], strict=True))
                for ticker, own in frame.groupby("ticker")
            }
        return self._closes


def _distinct(table: pa.Table) -> pa.Table:
    """A table without repeated rows: lists of different answers may overlap."""
    return table.group_by(table.column_names).aggregate([])


def refuse_missing(report: FetchReport) -> None:
    """Raise the sentence that says how much is missing, if the store was left as it was."""
    if report.committed:
        return
    n = len(report.missing)
    served = (
        f"the store still holds everything up to {report.last_day} ({report.age_days} days ago)"
        if report.last_day
        else "nothing was stored"
    )
    raise FeedError(
        f"{n} of the answers of {report.source} {'is' if n == 1 else 'are'} missing, for example "
        f"{report.missing[0].ticker} ({report.missing[0].reason}): {served}; the same command goes "
        "on from here, --allow-partial takes what is there."
    )
