"""What makes market data unfit for use, each finding one sentence with ticker, date and field.

The checks collect instead of raising, so that a whole file can be checked in one pass; `panel`
raises the first finding, `loading` lists them all.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alphakeel.errors import DataError
from alphakeel.stats.rolling import lag, last_known

__all__ = [
    "FIRST_DATE",
    "MAX_PROBLEMS",
    "PANEL_FIELDS",
    "PRICE_FIELDS",
    "REPORT_FIELDS",
    "Problem",
    "check_dates",
    "check_tickers",
    "check_values",
    "place",
    "previous_valid",
    "raise_first",
    "ticker_fault",
]

PRICE_FIELDS = ("open", "high", "low", "close", "adj_close")
# Ratios of what companies reported, as known on each date.
REPORT_FIELDS = (
    "net_margin",
    "earnings_growth",
    "revenue_growth",
    "accruals",
    "gross_profitability",
    "leverage",
)
PANEL_FIELDS = (
    *PRICE_FIELDS,
    *("volume", "market_cap", "earnings_to_price", "book_to_price", "st"),
    *REPORT_FIELDS,
)

FIRST_DATE = np.datetime64("1900-01-01")
MAX_PROBLEMS = 1000
MAX_TICKER_LENGTH = 64
# No currency quotes a share at a million million; back-adjusted prices of stocks with many
# reverse splits do reach thousands of millions.
MAX_PRICE = 1e12
# The other end: below it, squares of prices come near the smallest number that can be stored.
MIN_PRICE = 1e-12
MAX_GROWTH = 101.0  # + 10,000 % between two prices
MIN_GROWTH = 1e-4  # - 99.99 %
_TOGETHER = 256  # stocks that are looked at together, to hold no large copies


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the data."""

    ticker: str  # where it is wrong; empty where the problem concerns no single one
    date: str
    field: str
    message: str  # one sentence that ends with a full stop


def raise_first(problems: Sequence[Problem], hint: str = "") -> None:
    """Raise the first problem, if any, with the number of others; `hint` how to see them."""
    if not problems:
        return
    message = problems[0].message.rstrip(".")
    if len(problems) > 1:
        many = "at least " if len(problems) >= MAX_PROBLEMS else ""
        message += f" (and {many}{len(problems) - 1} more{hint})"
    raise DataError(f"{message}.")


def place(where: str) -> str:
    """The end of a sentence that names the file, or nothing for a frame."""
    return f" (in {where})" if where else ""


def check_dates(dates: NDArray[np.datetime64], *, today: dt.date, where: str) -> list[Problem]:
    """Check a date axis: known, increasing, from 1900 on, not in the future.

    One day after `today` is allowed, for markets east of here.
    """
    tail = place(where)
    last = np.datetime64(today, "D") + 1
    problems = [
        Problem("", "", "date", f"the date in row {row + 1} is missing{tail}.")
        for row in np.flatnonzero(np.isnat(dates))[:MAX_PROBLEMS]
    ]
    for row in np.flatnonzero(dates < FIRST_DATE)[:MAX_PROBLEMS]:
        day = str(dates[row])
        text = f"date {day} lies before {FIRST_DATE}, the first date accepted: correct it{tail}."
        problems.append(Problem("", day, "date", text))
    for row in np.flatnonzero(dates > last)[:MAX_PROBLEMS]:
        day = str(dates[row])
        text = f"date {day} lies in the future (today is {today}): correct it{tail}."
        problems.append(Problem("", day, "date", text))
    steps = np.diff(dates).astype(np.int64)
    for row in np.flatnonzero(steps == 0)[:MAX_PROBLEMS]:
        day = str(dates[row])
        text = f"date {day} occurs more than once: keep one row per date{tail}."
        problems.append(Problem("", day, "date", text))
    if not np.isnat(dates).any():
        for row in np.flatnonzero(steps < 0)[:MAX_PROBLEMS]:
            day = str(dates[row + 1])
            text = f"dates are not sorted: {day} comes after {dates[row]}: sort them{tail}."
            problems.append(Problem("", day, "date", text))
    return problems[:MAX_PROBLEMS]


def ticker_fault(ticker: str) -> str:
    """Why a ticker cannot be used, or an empty string."""
    if not ticker:
        return "is empty"
    if len(ticker) > MAX_TICKER_LENGTH:
        return f"has {len(ticker)} characters, more than {MAX_TICKER_LENGTH}"
    if "<" in ticker or ">" in ticker:
        return "holds markup"
    if not ticker.isprintable():
        return "holds characters that cannot be printed"
    return ""


def check_tickers(tickers: Sequence[str] | NDArray[np.str_], *, where: str) -> list[Problem]:
    """Check the asset axis: unique, short, printable names."""
    problems = []
    tail = place(where)
    seen: set[str] = set()
    for ticker in map(str, tickers):
        fault = ticker_fault(ticker)
        if fault:
            short = ticker if len(ticker) <= 24 else f"{ticker[:24]}..."
            text = f"ticker {short!r} {fault}: give the stock's plain symbol{tail}."
            problems.append(Problem(short, "", "ticker", text))
        elif ticker in seen:
            text = f"ticker {ticker} occurs more than once: keep one column per stock{tail}."
            problems.append(Problem(ticker, "", "ticker", text))
        seen.add(ticker)
    return problems[:MAX_PROBLEMS]


def check_values(
    dates: NDArray[np.datetime64],
    tickers: NDArray[np.str_],
    fields: Mapping[str, NDArray[np.float64]],
    *,
    where: str,
) -> list[Problem]:
    """Check every number: finite, prices positive and credible, no negative volume, st 0 or 1.

    NaN is missing, never a problem. At most `MAX_PROBLEMS`, ordered by field.
    """
    problems: list[Problem] = []
    tail = place(where)

    def add(name: str, bad: NDArray[np.bool_], values: NDArray[np.float64], fault: str) -> None:
        if len(problems) >= MAX_PROBLEMS or not bad.any():
            return
        for t, i in np.argwhere(bad)[: MAX_PROBLEMS - len(problems)]:
            ticker, day = str(tickers[i]), str(dates[t])
            told = fault.replace("{ticker}", ticker)
            text = f"{name} of {ticker} on {day} is {values[t, i]:.6g}, {told}{tail}."
            problems.append(Problem(ticker, day, name, text))

    for name, values in fields.items():
        if name == "adj_close" and fields.get("close") is values:
            continue  # the close stands in for it, and is checked under its own name
        infinite = np.isinf(values)
        add(name, infinite, values, "not a finite number: correct it or leave it empty")
        if name in PRICE_FIELDS:
            bad = (values <= 0) & ~infinite
            if bad.any():
                share = bad.sum() / max(int(np.isfinite(values).sum()), 1)
                fault = f"but a price must be positive: {_advice(values[bad], share)}"
                add(name, bad, values, fault)
            fault = f"above {MAX_PRICE:.0e}, which no price reaches: correct it or leave it empty"
            add(name, (values > MAX_PRICE) & ~infinite, values, fault)
        elif name == "volume":
            fault = "but a volume cannot be negative: correct it or leave it empty"
            add(name, (values < 0) & ~infinite, values, fault)
        elif name == "market_cap":
            fault = "but a market value must be positive: correct it or leave it empty"
            add(name, (values <= 0) & ~infinite, values, fault)
        elif name == "st":
            fault = "but special treatment is 1 (yes) or 0 (no): correct it or leave it empty"
            add(name, ~np.isin(values, (0.0, 1.0)) & np.isfinite(values), values, fault)
    if not problems and "adj_close" in fields:
        problems += _check_growth(dates, tickers, fields["adj_close"], tail)
    for name in PRICE_FIELDS if not problems else ():
        if name in fields and not (name == "adj_close" and fields.get("close") is fields[name]):
            fault = (
                f"below {MIN_PRICE:.0e}, which no price reaches: multiply all prices of {{ticker}} "
                "by one number, or leave it out"
            )
            add(name, fields[name] < MIN_PRICE, fields[name], fault)
    return problems


def _advice(bad: NDArray[np.float64], share: float) -> str:
    """What to do about prices of 0 or less: a loss must not be erased, returns are no prices."""
    if share >= 0.1 and (bad < 0).any():
        return f"{share:.0%} of the numbers are not, as if they were returns; give prices"
    if (bad == 0).any():
        return (
            "if the shares became worthless, write a ten-thousandth of the price before (a blank "
            "would hide the loss), otherwise correct it"
        )
    return "correct it"


def previous_valid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Last value before each row that is not NaN; NaN where none is known."""
    return lag(last_known(values)[0], 1)


def _check_growth(
    dates: NDArray[np.datetime64],
    tickers: NDArray[np.str_],
    prices: NDArray[np.float64],
    tail: str,
) -> list[Problem]:
    """Check the change from one known price to the next; prices are positive here."""
    found: list[tuple[int, int, float]] = []  # row, column, price before
    for start in range(0, prices.shape[1], _TOGETHER):
        own = prices[:, start : start + _TOGETHER]
        previous = previous_valid(own)
        growth = own / previous
        bad = np.argwhere((growth > MAX_GROWTH) | (growth < MIN_GROWTH))
        found += [(int(t), start + int(i), previous[t, i]) for t, i in bad]
    problems = []
    for t, i, before in sorted(found)[:MAX_PROBLEMS]:
        ticker, day, after = str(tickers[i]), str(dates[t]), prices[t, i]
        text = (
            f"adj_close of {ticker} goes from {before:.6g} to {after:.6g} on {day}, a return of "
            f"{after / before - 1:.4g}, outside -0.9999 to 100: correct the price{tail}."
        )
        problems.append(Problem(ticker, day, "adj_close", text))
    return problems
