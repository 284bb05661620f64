"""Survivors, index members, and the dates on which figures were published and restated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binom, hypergeom

from alphakeel.audit.findings import Finding, day_text, leak, ok, warn
from alphakeel.errors import DataError
from alphakeel.factors.targets import forward_returns
from alphakeel.stats.cross_section import rank_ic
from alphakeel.stats.newey_west import newey_west_tstat

__all__ = ["check_members", "check_publication", "check_restated", "check_table"]

Floats = NDArray[np.floating[Any]]

_SURE = 4.0
_QUARTER_ENDS = (3, 6, 9, 12)
_LEAST_CHANGES = 5


def check_members(panel: Any) -> Finding:
    """The universe must not be that of the last day, without the companies that failed."""
    active = panel.active_mask
    days = panel.observations
    everyone_stays = bool(active[-1].all())
    if "member" not in panel:
        if everyone_stays:
            return warn(
                "survivorship",
                f"all {active.shape[1]} stocks are listed on the last day and no membership is "
                "given: companies that failed are missing, and levels of return are too high for "
                "all strategies alike.",
                date=day_text(days[-1]),
            )
        gone = int((~active[-1]).sum())
        return ok("survivorship", f"{gone} of {active.shape[1]} stocks leave before the end.")
    member = panel["member"]
    changes = (np.diff(np.nan_to_num(member, nan=0.0), axis=0) != 0.0) & active[1:] & active[:-1]
    if not changes.any() and everyone_stays:
        return leak(
            "survivorship",
            "membership never changes and every member survives to the last day: it is that of "
            f"{day_text(days[-1])}, unknown on {day_text(days[0])}; give each stock's spells.",
            factor="member",
            date=day_text(days[0]),
        )
    knowing = _members_that_never_fail(panel, member, changes) or _knowing_members(panel, member)
    if knowing is not None:
        return knowing
    text = f"membership changes {int(changes.sum())} times"
    if everyone_stays:
        return warn(
            "survivorship",
            f"{text}, yet all {active.shape[1]} stocks are listed on the last day: members that "
            "failed have no prices, and levels of return are too high for all strategies alike.",
            date=day_text(days[-1]),
        )
    gone = int((~active[-1]).sum())
    return ok("survivorship", f"{text}, and {gone} of {active.shape[1]} stocks leave.")


def _members_that_never_fail(
    panel: Any, member: Floats, changes: NDArray[np.bool_]
) -> Finding | None:
    """A fixed list without any of the stocks that leave was drawn up at the end."""
    if changes.any():
        return None
    gone = ~panel.active_mask[-1] & panel.active_mask.any(axis=0)
    listed = (np.nan_to_num(member, nan=0.0) > 0.5).any(axis=0)
    n, left, inside = len(gone), int(gone.sum()), int(listed.sum())
    chance = float(hypergeom.sf(0, n, left, inside))  # that one of them is on a list by lot
    if (gone & listed).any() or 1.0 - chance > 1e-3:
        return None
    days = panel.observations
    return leak(
        "survivorship",
        f"membership never changes, and none of the {left} of {n} stocks that leave is ever a "
        f"member: the list is that of {day_text(days[-1])}, unknown on {day_text(days[0])}; give "
        "each stock's spells.",
        factor="member",
        date=day_text(days[0]),
    )


def _knowing_members(panel: Any, member: Floats) -> Finding | None:
    """Members that outperform later were dated too early: joining an index follows a rise."""
    for horizon in (20, 120):
        forward = forward_returns(panel["adj_close"], lag=1, horizon=horizon)
        daily = rank_ic(np.where(panel.active_mask, member, np.nan), forward)
        if np.isfinite(daily).sum() < 30:
            continue
        stat, mean = newey_west_tstat(daily, lags=2 * horizon), float(np.nanmean(daily))
        if stat.t > _SURE and mean > 0.1:
            day = int(np.argmax(np.isfinite(daily)))
            return leak(
                "survivorship",
                f"members outperform others by a mean Rank IC of {mean:+.2f} over the {horizon} "
                "days to come: membership is dated too early.",
                factor="member",
                date=day_text(panel.observations[day]),
            )
    return None


def check_publication(panel: Any, table: pd.DataFrame | None) -> list[Finding]:
    """Fundamentals must move when they are published, not when the period ends."""
    findings = [] if table is None else check_table(table)
    for name in ("earnings_to_price", "book_to_price"):
        if name not in panel:
            continue
        jumps = _jumps(panel, name)
        if jumps is None:
            continue
        fault = (
            _early(panel, name, jumps, table)
            or _together(panel, name, jumps)
            or _at_period_end(panel, name, jumps)
        )
        if fault is not None:
            findings.append(fault)
    if findings:
        return findings
    given = [n for n in ("earnings_to_price", "book_to_price") if n in panel]
    return [
        ok(
            "fundamentals",
            f"{' and '.join(given)} change on days spread as those of filings are."
            if given
            else "the data have no fundamentals.",
        )
    ]


def _jumps(panel: Any, name: str) -> NDArray[np.bool_] | None:
    """Days on which the figure behind a yield changes; None where only the price shows."""
    for price in ("market_cap", "close", "adj_close"):
        if price not in panel:
            continue
        with np.errstate(all="ignore"):
            figure = np.log(np.abs(panel[name] * panel[price]))
        change = np.full(figure.shape, np.nan)
        change[1:] = figure[1:] - figure[:-1]
        known = np.isfinite(change)
        jumps = known & (np.abs(np.where(known, change, 0.0)) > 1e-3)
        if known.any() and 0 < jumps.sum() < 0.1 * known.sum():
            return jumps
    return None


def _together(panel: Any, name: str, jumps: NDArray[np.bool_]) -> Finding | None:
    """Companies do not file on the same day, least of all at the end of their quarter."""
    known = np.isfinite(panel[name]).sum(axis=1)
    number = jumps.sum(axis=1)
    share = np.where(known > 0, number / np.maximum(known, 1), 0.0)
    together = float((number * share).sum() / number.sum())
    if together < 0.5:
        return None
    worst = int(np.argmax(share))
    day = panel.observations[worst]
    busy = pd.DatetimeIndex(panel.observations.astype("datetime64[s]"))
    near = busy - pd.Timedelta(days=7)
    at_end = np.isin((near + pd.offsets.MonthEnd(0)).month, _QUARTER_ENDS) & (
        (busy.day <= 7) & np.isin(near.month, _QUARTER_ENDS)
        | (busy.day >= 25) & np.isin(busy.month, _QUARTER_ENDS)
    )
    at_once = float(number[at_end].sum() / number.sum())
    text = f"{share[worst]:.0%} of the stocks' {name} change together on {day_text(day)}"
    at = {"factor": name, "date": day_text(day)}
    if at_once > 0.8:
        return leak(
            "fundamentals",
            f"{text}, as their quarters end: figures are used weeks before they are published; "
            "date them by available_date.",
            **at,
        )
    return warn("fundamentals", f"{text}: the dates are not those of the filings.", **at)


def _at_period_end(panel: Any, name: str, jumps: NDArray[np.bool_]) -> Finding | None:
    """Stocks, be they few, whose figures change as their quarters end, time and again.

    Filings spread over weeks: of a stock's changes a twentieth falls on the last day of a quarter
    or the two after it, and in real filings never half.
    """
    days = pd.DatetimeIndex(panel.observations.astype("datetime64[s]"))
    quarter = np.asarray(days.quarter)
    opens = np.concatenate([[False], quarter[1:] != quarter[:-1]])
    near = opens | np.concatenate([opens[1:], [False]]) | np.concatenate([[False], opens[:-1]])
    number, at_end = jumps.sum(axis=0), (jumps & near[:, None]).sum(axis=0)
    chance = binom.sf(at_end - 1, number, near.mean()) * len(number)
    often = at_end > 0.7 * np.maximum(number, 1)
    dated = np.flatnonzero((number >= _LEAST_CHANGES) & often & (chance < 1e-3))
    if not len(dated):
        return None
    moved = np.flatnonzero(jumps[:, dated].any(axis=1) & near)
    ended = set(quarter[np.maximum(moved - 2, 0)].tolist())
    names = [str(stock) for stock in panel.asset_names[dated[:3]]]
    more = f" and {len(dated) - 3} others" if len(dated) > 3 else ""
    first = int(np.argmax(jumps[:, dated[0]] & near))
    day = day_text(panel.observations[first])
    # Half-years filed 90 days later fall on quarter ends too, but never on those of December.
    found = leak if len(ended) > 2 or 4 in ended else warn
    return found(
        "fundamentals",
        f"{name} of {', '.join(names)}{more} changes as quarters end on {at_end[dated].sum()} of "
        f"{number[dated].sum()} occasions, first on {day}, where filings come weeks later: date "
        "it by available_date.",
        factor=name,
        date=day,
        ticker=names[0],
    )


def _early(
    panel: Any, name: str, jumps: NDArray[np.bool_], table: pd.DataFrame | None
) -> Finding | None:
    """Figures that move between a period's end and its publication."""
    if table is None or not {"period_end", "available_date"} <= set(table.columns):
        return None
    days = panel.observations.astype("datetime64[D]")
    early: list[tuple[np.datetime64, str]] = []
    late = 0
    for stock, rows in _reports(table).groupby("ticker"):
        where = np.flatnonzero(panel.asset_names == stock)
        if not len(where):
            continue
        moved = days[jumps[:, where[0]]]
        ends = rows["period_end"].to_numpy().astype("datetime64[D]")
        public = rows["available_date"].to_numpy().astype("datetime64[D]")
        for day in moved:
            inside = ((ends <= day) & (day < public)).any()
            just_public = ((public <= day) & (day <= public + 7)).any()
            if inside and not just_public:
                early.append((day, str(stock)))
            else:
                late += 1
    if len(early) < 10 or len(early) < late:
        return None
    day, stock = min(early)
    return leak(
        "fundamentals",
        f"{name} changes before the figures are public on {len(early)} of {len(early) + late} "
        f"occasions, first that of {stock} on {day}: date it by available_date.",
        factor=name,
        date=str(day),
        ticker=stock,
    )


def _reports(table: pd.DataFrame) -> pd.DataFrame:
    out = table.rename(columns={"symbol": "ticker"}) if "ticker" not in table else table.copy()
    for name in ("period_end", "available_date"):
        if name in out:
            out[name] = pd.to_datetime(out[name], errors="coerce")
    return out.dropna(subset=[c for c in ("period_end", "available_date") if c in out])


def check_table(table: pd.DataFrame) -> list[Finding]:
    """Every report must have the day it became public, after its period."""
    if "ticker" not in table and "symbol" not in table:
        raise DataError("the table of fundamentals has no column ticker (or symbol).")
    if "available_date" not in table:
        return [
            warn(
                "fundamentals",
                "the fundamentals have no available_date: when figures were known is unknown.",
            )
        ]
    if "period_end" not in table:
        return []
    rows = _reports(table)
    findings = []
    soon = rows[rows["available_date"] <= rows["period_end"]].sort_values("available_date")
    if len(soon):
        first = soon.iloc[0]
        findings.append(
            leak(
                "fundamentals",
                f"{len(soon)} of {len(rows)} reports are available before their period is over, "
                f"first that of {first['ticker']} for {day_text(first['period_end'])}, on "
                f"{day_text(first['available_date'])}.",
                date=day_text(first["available_date"]),
                ticker=str(first["ticker"]),
            )
        )
    # Two sources may round differently; one source that holds two values has restated.
    every = ("ticker", "period_end", "period_type", "available_date", "source")
    keys = [name for name in every if name in rows]
    numbers = [c for c in rows.select_dtypes("number").columns if c not in keys]
    twice = rows[rows.duplicated(keys, keep=False)]
    if len(twice) and numbers:
        spread = twice.groupby(keys, observed=True)[numbers].nunique().max(axis=1)
        restated = spread[spread > 1]
        if len(restated):
            at = dict(zip(keys, restated.index[0], strict=True))
            findings.append(
                warn(
                    "fundamentals",
                    f"{len(restated)} reports hold two values for one period and one "
                    f"available_date, first that of {at['ticker']} for "
                    f"{day_text(at['period_end'])}: one may be a restatement dated too early.",
                    date=day_text(at["available_date"]),
                    ticker=str(at["ticker"]),
                )
            )
    return findings


def check_restated(panel: Any, earlier: Any) -> list[Finding]:
    """Values that differ from an earlier download of the same data.

    Prices are compared by returns: an adjusted close is scaled by every later dividend.
    """
    days, at, before = np.intersect1d(panel.observations, earlier.observations, return_indices=True)
    names, columns, others = np.intersect1d(
        panel.asset_names, earlier.asset_names, return_indices=True
    )
    if len(days) < 2 or not len(names):
        raise DataError("the earlier download has no dates or no tickers in common with the data.")
    findings = []
    for name in panel.keys():  # noqa: SIM118
        if name not in earlier or not np.issubdtype(panel[name].dtype, np.floating):
            continue
        a = panel[name][np.ix_(at, columns)]
        b = earlier[name][np.ix_(before, others)]
        if name == "adj_close":
            a, b = a[1:] / a[:-1], b[1:] / b[:-1]
        both = np.isfinite(a) & np.isfinite(b)
        gap = np.abs(np.where(both, a, 0.0) - np.where(both, b, 0.0))
        changed = gap > 1e-4 * np.maximum(np.abs(np.where(both, a, 0.0)), 1e-12)
        if changed.any():
            row = int(np.argmax(changed.any(axis=1)))
            stock = str(names[int(np.argmax(changed[row]))])
            day = day_text(days[row + (name == "adj_close")])
            findings.append(
                leak(
                    "restated",
                    f"{name} of {stock} on {day} and {int(changed.sum()) - 1} other values differ "
                    "from the earlier download: the past was rewritten, and the study reads what "
                    "was not known then.",
                    factor=name,
                    date=day,
                    ticker=stock,
                )
            )
    return findings or [ok("restated", f"{len(days)} dates of {len(names)} stocks are unchanged.")]
