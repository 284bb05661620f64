"""Who is in the data, and what is missing, as a message from the future.

Prices may be right to the last digit while their selection knows the end: a list of today's
members, fundamentals of the companies that are still there, sectors named after the winners. None
of it moves when later days are removed, for it is in the data. It shows in what comes after:
returns around joins and leaves, delistings of the stocks without a figure, returns of those with a
label.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact

from alphakeel.audit.findings import Finding, day_text, leak, ok, warn
from alphakeel.data.panel import sector_codes
from alphakeel.stats.newey_west import newey_west_tstat
from alphakeel.stats.rolling import simple_returns

__all__ = ["check_joins", "check_missing", "check_sectors"]

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

_YEAR = 250
_EVENT = 60  # days after a join or a leave
_LEAST_EVENTS = 10
_SURE = 4.0
_LARGE, _STRANGE = 0.10, 0.05  # mean abnormal return after an event
_LABEL_SURE, _LABEL_LARGE = 5.0, 0.10  # a year
_STEP = 21  # days between two looks at who is missing
_FIELDS = ("earnings_to_price", "book_to_price", "market_cap", "volume", "sector")


def check_joins(panel: Any) -> list[Finding]:
    """An event study: what members do after they join, and others after they leave.

    Each day's mean return of the stocks that joined (left) within 60 days, less that of the other
    members; t of Newey and West, so that events that overlap count once.
    """
    if "member" not in panel:
        return []
    member = np.nan_to_num(panel["member"], nan=0.0) > 0.5
    returns = _stock_returns(panel)
    both = panel.active_mask[1:] & panel.active_mask[:-1]
    joins = np.vstack([np.zeros((1, member.shape[1]), bool), member[1:] & ~member[:-1] & both])
    leaves = np.vstack([np.zeros((1, member.shape[1]), bool), ~member[1:] & member[:-1] & both])
    texts: list[str] = []
    findings = _members_that_stay(panel, member)
    for what, events, sign in (("join", joins, 1.0), ("leave", leaves, -1.0)):
        number = int(events.sum())
        if number < _LEAST_EVENTS:
            continue
        mean, t = _after(events, member, returns)
        text = (
            f"stocks that {what} the universe return {mean:+.1%} against its other members over "
            f"the {_EVENT} days after (t {t:+.1f}, {number} events)"
        )
        texts.append(text)
        if sign * mean > _STRANGE and sign * t > _SURE:
            row = int(np.argmax(events.any(axis=1)))
            found = leak if sign * mean > _LARGE else warn
            findings.append(
                found(
                    "membership",
                    f"{text}: they are dated too early, or know what comes.",
                    factor="member",
                    date=day_text(panel.observations[row]),
                    ticker=str(panel.asset_names[int(np.argmax(events[row]))]),
                )
            )
    return findings or [ok("membership", f"{'; '.join(texts) or 'too few joins and leaves'}.")]


def _members_that_stay(panel: Any, member: Bools) -> list[Finding]:
    """A warning where stocks are delisted, and never within a year of having been members."""
    gone, last = _gone(panel)
    columns = np.flatnonzero(gone)
    if not len(columns) or not member.any(axis=1).all():
        return []
    within = [member[max(0, last[n] - _YEAR) : last[n] + 1, n].any() for n in columns]
    share = float(member.sum() / np.asarray(panel.active_mask).sum())
    if any(within) or (1.0 - share) ** len(columns) > 1e-3:
        return []
    first = int(columns[int(np.argmin(last[columns]))])
    return [
        warn(
            "membership",
            f"none of the {len(columns)} stocks that are delisted was a member in its last "
            f"{_YEAR} days, where {share:.0%} of the stocks are members: they may have been chosen "
            "by who stayed.",
            factor="member",
            date=day_text(panel.observations[last[first]]),
            ticker=str(panel.asset_names[first]),
        )
    ]


def _stock_returns(panel: Any) -> Floats:
    """Simple returns, NaN where not both prices are known."""
    returns = simple_returns(panel["adj_close"])
    returns[~np.isfinite(returns)] = np.nan
    return returns


def _after(events: Bools, member: Bools, returns: Floats) -> tuple[float, float]:
    """Mean abnormal return over the days after events, and its t."""
    past = np.cumsum(np.vstack([np.zeros((1, events.shape[1]), int), events]), axis=0)
    rows = np.arange(len(events))
    recent = past[rows] > past[np.maximum(rows - _EVENT, 0)]  # an event 1 to 60 days ago
    held = np.vstack([member[:1], member[:-1]])
    gap = _row_means(returns, recent) - _row_means(returns, held & ~recent)
    gap = gap[np.isfinite(gap)]
    if len(gap) < _EVENT:
        return float("nan"), float("nan")
    weight = newey_west_tstat(gap)
    return _EVENT * weight.mean, weight.t


def _row_means(values: Floats, chosen: Bools) -> Floats:
    """Mean of each row's known values among the chosen; NaN without any."""
    known = chosen & np.isfinite(values)
    number = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def check_sectors(panel: Any) -> list[Finding]:
    """No label of a sector may tell which stocks will rise."""
    codes = sector_codes(panel)
    if codes is None:
        return []
    returns = _stock_returns(panel)
    before = np.vstack([np.full((1, codes.shape[1]), -1), codes[:-1]])
    findings = []
    for code in np.unique(codes[codes >= 0]):
        inside = before == code
        yearly, t = _ahead_of(returns, inside, (before >= 0) & ~inside)
        if abs(t) > _LABEL_SURE and abs(yearly) > _LABEL_LARGE:
            row = int(np.argmax(inside.any(axis=1)))
            label = str(np.asarray(panel.fields["sector"].levels)[code])
            findings.append(
                leak(
                    "membership",
                    f"stocks with the sector {label} return {yearly:+.0%} a year more than the "
                    f"others on the day after (t {t:+.1f}): the label follows later returns.",
                    factor="sector",
                    date=day_text(panel.observations[row]),
                )
            )
    return findings


def _ahead_of(returns: Floats, inside: Bools, others: Bools) -> tuple[float, float]:
    """Mean return of some stocks less that of others, a year, and its t; 0 with too few days."""
    gap = _row_means(returns, inside) - _row_means(returns, others)
    gap = gap[np.isfinite(gap)]
    if len(gap) < _YEAR:
        return 0.0, 0.0
    statistic = newey_west_tstat(gap)
    return _YEAR * statistic.mean, statistic.t


def check_missing(panel: Any) -> list[Finding]:
    """A figure that is missing must not tell that its stock will be delisted, or fall."""
    active = panel.active_mask
    traded = active & np.isfinite(panel["adj_close"])
    findings, tried = [], []
    for name in _FIELDS:
        if name not in panel:
            continue
        values = panel[name]
        absent = traded & (values < 0 if name == "sector" else ~np.isfinite(values))
        if not absent.any() or not (traded & ~absent).any():
            continue
        tried.append(name)
        found = (
            _never_known(panel, name, absent, traded)
            or _missing_before_delisting(panel, name, absent, traded)
            or _missing_before_returns(panel, name, absent, traded)
        )
        if found is not None:
            findings.append(found)
    text = f"whether {' or '.join(tried)} is missing tells nothing of later delistings and returns."
    return findings or [ok("missing", text if tried else "no figure is missing while others are.")]


def _gone(panel: Any) -> tuple[Bools, NDArray[np.intp]]:
    """Stocks that have left, and the last row of every stock.

    One that is silent for less than a year at the end of the data may be suspended.
    """
    active = panel.active_mask
    n_dates = len(active)
    last = n_dates - 1 - active[::-1].argmax(axis=0)
    return active.any(axis=0) & (last < n_dates - 1 - min(_YEAR, n_dates // 5)), last


def _never_known(panel: Any, name: str, absent: Bools, traded: Bools) -> Finding | None:
    """Only a snapshot of survivors lacks a figure for all the life of those that will leave.

    A company may be without earnings for long; not before each delisting, and hardly anywhere else.
    Only dates count on which the figure is known of a quarter of the stocks: before it was
    collected at all, its absence says nothing.
    """
    gone, _ = _gone(panel)
    begun = absent.sum(axis=1) <= 0.75 * traded.sum(axis=1)
    absent, traded = absent & begun[:, None], traded & begun[:, None]
    alive = traded.sum(axis=0) >= min(_YEAR, len(traded) // 2)
    never = alive & (absent.sum(axis=0) == traded.sum(axis=0))
    left, stayed = alive & gone, alive & ~gone
    if left.sum() < 5 or stayed.sum() < 5:
        return None
    a, b = int((never & left).sum()), int((never & stayed).sum())
    share_left, share_stayed = a / left.sum(), b / stayed.sum()
    table = np.array([[a, left.sum() - a], [b, stayed.sum() - b]])
    p = fisher_exact(table, alternative="greater").pvalue
    if p > 1e-4 or share_left < 0.5 or share_stayed > 0.1:
        return None
    column = int(np.argmax(never & left))
    return leak(
        "missing",
        f"{name} is missing for all the life of {share_left:.0%} of the {left.sum()} stocks that "
        f"are delisted and of {share_stayed:.0%} of the {stayed.sum()} others: it was collected "
        "from survivors, and missing says delisted.",
        factor=name,
        date=day_text(panel.observations[int(np.argmax(traded[:, column]))]),
        ticker=str(panel.asset_names[column]),
    )


def _missing_before_delisting(
    panel: Any, name: str, absent: Bools, traded: Bools
) -> Finding | None:
    """Stocks without a figure are delisted within a year more often than the others."""
    gone, last = _gone(panel)
    looks = np.arange(0, len(traded) - _YEAR, _STEP)
    if not len(looks) or not gone.any():
        return None
    soon = gone[None, :] & (last[None, :] <= looks[:, None] + _YEAR)
    known = traded & ~absent
    of_absent = _row_means(soon.astype(np.float64), absent[looks])
    of_known = _row_means(soon.astype(np.float64), known[looks])
    gap = of_absent - of_known
    gap = gap[np.isfinite(gap)]
    leaving = len(np.unique(np.nonzero(soon & absent[looks])[1]))
    if len(gap) < 12 or leaving < 5:
        return None
    t = newey_west_tstat(gap, lags=_YEAR // _STEP + 1).t
    a, b = float(np.nanmean(of_absent)), float(np.nanmean(of_known))
    if not (t > _SURE and a > 2.0 * b):
        return None
    return warn(
        "missing",
        f"{a:.1%} of the stocks without {name} are delisted within {_YEAR} days, and {b:.1%} of "
        f"those with it (t {t:+.1f}): never use missingness as a feature, and keep these stocks "
        "in the universe.",
        factor=name,
        date=day_text(panel.observations[looks[int(np.argmax(absent[looks].any(axis=1)))]]),
    )


def _missing_before_returns(panel: Any, name: str, absent: Bools, traded: Bools) -> Finding | None:
    """Stocks without a figure return more, or less, than the others on the day after."""
    known = traded & ~absent
    yearly, t = _ahead_of(_stock_returns(panel)[1:], absent[:-1], known[:-1])
    if abs(t) <= _SURE or abs(yearly) < _LABEL_LARGE:
        return None
    return warn(
        "missing",
        f"stocks without {name} return {yearly:+.0%} a year more than those with it on the day "
        f"after (t {t:+.1f}): what is missing may have been decided later.",
        factor=name,
        date=day_text(panel.observations[int(np.argmax(absent.any(axis=1)))]),
    )
