"""The calendar of a study: days with a decision, the default start of the test, days with a refit.

Every rule is a function of the dates up to the day that it speaks of, so that a day more moves
nothing before it, and whoever decides at a close knows that it is a decision day.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = [
    "days_apart",
    "decision_days",
    "default_test_start",
    "rebalance_text",
    "refit_rows",
    "refit_text",
]

Dates = npt.NDArray[np.datetime64]
Rows = npt.NDArray[np.intp]

# Weekdays are counted from a Friday, so that every fifth one is a week's last.
_ORIGIN = np.datetime64("1800-01-03")

# Years of data before the default test, and days of it that there must be.
YEARS_BEFORE = 5
DAYS_OF_TEST = 252
# Days that short data must have beyond the shortest history that a study can train on.
DAYS_MORE = 63


def decision_days(dates: Dates, rebalance: str | int) -> Rows:
    """Rows of `dates` at whose close there is a decision.

    Decisions are due on fixed weekdays of the calendar: on Fridays (``"weekly"``), on the last
    weekday of a month (``"monthly"``), or on every N-th weekday counted from Friday 3 January 1800.
    The decision is made on the due day, or, where that was no trading day, on the first trading day
    after it. So a day is a decision by its own date and that of the trading day before it.

    Examples
    --------
    Good Friday 2024 was the last weekday of a week, and of March:

    >>> dates = np.array(["2024-03-22", "2024-03-27", "2024-03-28", "2024-04-01", "2024-04-05"],
    ...                  dtype="datetime64[D]")
    >>> decision_days(dates, "weekly"), decision_days(dates, "monthly")
    (array([0, 3, 4]), array([3]))
    """
    if rebalance == 1:
        return np.arange(len(dates))
    due = _months_due(dates) if rebalance == "monthly" else _weekdays_due(dates, rebalance)
    # How many were due by the trading day before; by the day before the first one of the data.
    before = np.concatenate([dates[:1] - 1, dates[:-1]])
    past = _months_due(before) if rebalance == "monthly" else _weekdays_due(before, rebalance)
    return np.flatnonzero(due > past)


def _weekdays_due(dates: Dates, rebalance: str | int) -> Rows:
    """Number of due weekdays from the origin up to each date, itself included."""
    every = 5 if rebalance == "weekly" else int(rebalance)
    weekdays = np.busday_count(_ORIGIN, dates + 1)
    return np.asarray(-(-weekdays // every))


def _months_due(dates: Dates) -> Rows:
    """Number of months whose last weekday has come, up to each date."""
    month = dates.astype("datetime64[M]")
    last = np.busday_offset((month + 1).astype("datetime64[D]") - 1, 0, roll="backward")
    return np.asarray(month.astype(np.intp) + (dates >= last))


def default_test_start(dates: Dates, shortest: int) -> tuple[int, str]:
    """Row on which the test starts by default, by the first date alone; and a note on short data.

    The first trading day of the first year that begins at least `YEARS_BEFORE` years after the
    first date, which counts as a year's first within its first week. Data that do not reach
    `DAYS_OF_TEST` days beyond that are short: then it is the first trading day of a month, the
    first after twice the `shortest` number of days that a study can train on, or, where that leaves
    too few days as well, after the shortest and `DAYS_MORE`.

    Examples
    --------
    >>> days = np.arange("2000-01-03", "2012-01-01", dtype="datetime64[D]")
    >>> row, note = default_test_start(days, 294)
    >>> str(days[row]), note
    ('2005-01-01', '')
    """
    first = dates[0] - 7
    year = first.astype("datetime64[Y]") + 1 + YEARS_BEFORE
    start = int(np.searchsorted(dates, year.astype("datetime64[D]")))
    if len(dates) - start >= DAYS_OF_TEST:
        return start, ""
    for least, left in ((2 * shortest, DAYS_OF_TEST), (shortest + DAYS_MORE, 1)):
        month = dates[min(least, len(dates) - 1)].astype("datetime64[M]") + 1
        start = int(np.searchsorted(dates, month.astype("datetime64[D]")))
        if len(dates) - start >= left:
            break
    return start, (
        f"The data do not reach a year beyond {year}-01-01, where the test starts by default: it "
        f"starts with the first month that has {least} trading days before it. Set "
        "walk_forward.test_start to keep it there when there are more data."
    )


def refit_rows(decided: Dates, days: Rows, refit_every: str | int) -> list[int]:
    """Positions in the test's decisions with a new fit: the first, and as the setting says.

    `decided` are their dates and `days` their rows. ``"yearly"`` and ``"quarterly"`` are the first
    decision of each calendar year or quarter; a number is the first decision after each such number
    of trading days from the first one.

    Examples
    --------
    >>> decided = np.array(["2020-11-27", "2020-12-31", "2021-01-29", "2021-04-30"],
    ...                    dtype="datetime64[D]")
    >>> rows = np.array([0, 23, 42, 105])
    >>> refit_rows(decided, rows, "yearly"), refit_rows(decided, rows, 20)
    ([0, 2], [0, 1, 2, 3])
    """
    if refit_every == "yearly":
        period = decided.astype("datetime64[Y]").astype(np.intp)
    elif refit_every == "quarterly":
        period = decided.astype("datetime64[M]").astype(np.intp) // 3
    else:
        period = (days - days[0]) // int(refit_every)
    return [0, *(np.flatnonzero(np.diff(period)) + 1).tolist()]


def days_apart(rebalance: str | int) -> int:
    """Trading days from one decision to the next, by the rule and not by the data.

    >>> days_apart("weekly"), days_apart("monthly"), days_apart(10)
    (5, 21, 10)
    """
    words: dict[str | int, int] = {"weekly": 5, "monthly": 21}
    return words.get(rebalance, 1) if isinstance(rebalance, str) else rebalance


def rebalance_text(rebalance: str | int) -> str:
    """When decisions are made, in words.

    >>> rebalance_text("weekly"), rebalance_text(10)
    ('every week', 'every 10 trading days')
    """
    words = {"weekly": "every week", "monthly": "every month", 1: "every trading day"}
    return words.get(rebalance, f"every {rebalance} trading days")


def refit_text(refit_every: str | int) -> str:
    """When models are fitted, in words.

    >>> refit_text("yearly"), refit_text(504)
    ('every year', 'every 504 days')
    """
    words: dict[str | int, str] = {"yearly": "every year", "quarterly": "every quarter"}
    return words.get(refit_every, f"every {refit_every} days")
