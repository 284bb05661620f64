"""What the numbers of a source say about its dates and its stocks.

No file says that its dates are weeks, that Saturdays repeat Friday's prices or that a column is an
index. The numbers show it; what they show is read rightly with a note, or refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from alphakeel.data.grid import Grid
from alphakeel.data.validation import Problem, place, previous_valid
from alphakeel.stats.rolling import lag

__all__ = [
    "index_like",
    "market_value_faults",
    "moves_like_no_price",
    "only_trading_days",
    "spacing_fault",
    "without_index",
]

# Between one price of a stock and its next, in calendar days: up to 1.5 is daily.
_SPACINGS = ((5, 9, "a week"), (10, 20, "two weeks"), (21, 40, "a month"), (80, 100, "a quarter"))
DAILY = 1.5
LEAST_PRICES = 8  # of a stock, to tell how far its dates are apart
MOST_DATES_A_YEAR = 300  # more: the market never closes

# Names that no stock has: ^GSPC, .SPX, EUR=, EURUSD=X, ES=F; 399001 and 000300 in China.
_NO_STOCK = re.compile(
    r"\^.+|\.[a-z]{2,6}|[a-z]{3,6}=(x|f)?|(sz)?399\d{3}(\.(sz|xshe))?"
    r"|sh000\d{3}|000\d{3}\.(sh|ss|xshg)",
    re.IGNORECASE,
)
# Names of indices that are, or were, those of stocks as well: the numbers decide.
_INDEX_NAMES = {
    *("spx", "gspc", "sp500", "s&p500", "sp500index", "inx", "ndx", "ixic", "dji", "djia", "rut"),
    *("vix", "dax", "gdaxi", "ftse", "ukx", "cac", "cac40", "sx5e", "stoxx50", "n225", "nikkei"),
    *("topix", "hsi", "csi300", "hs300", "kospi", "ks11", "bvsp", "ibov", "sensex", "nifty"),
    *("nifty50", "wig20", "ibex", "smi", "market", "mkt", "index", "benchmark"),
}
LEAST_DATES, LEAST_NOISE = 60, 0.5  # to tell returns or volume from prices
_TOGETHER = 256  # stocks that are looked at together, to hold no large copies
_UNIT_JUMP = 2.5  # of a logarithm to base 10: units differ by 1,000 at least
LEAST_CORRELATION = 0.7  # of an index with the mean of the stocks, to be taken for the market's


def spacing_fault(grid: Grid, where: str) -> list[Problem]:
    """Refuse dates that are not daily: every window, horizon and yearly figure counts days."""
    apart = _days_apart(grid)
    if not np.isfinite(apart) or apart <= DAILY:
        return []
    named = [name for low, high, name in _SPACINGS if low <= apart <= high]
    dates = ", ".join(map(str, grid.dates[:3]))
    text = (
        f"the dates are {named[0] if named else f'{apart:.0f} days'} apart ({dates}, ...), but a "
        "study counts trading days, 252 to a year, in every lookback, horizon and yearly figure: "
        f"give daily prices{place(where)}."
    )
    return [Problem("", str(grid.dates[0]), "date", text)]


def _days_apart(grid: Grid) -> float:
    """The usual number of calendar days from one price of a stock to its next."""
    medians, days = [], grid.dates.astype(np.int64).astype(np.int32)
    for known in np.ascontiguousarray(np.isfinite(grid.fields["adj_close"]).T):
        gaps = np.diff(days[known])
        if len(gaps) >= LEAST_PRICES - 1:
            gaps.sort()
            medians.append((gaps[(len(gaps) - 1) // 2] + gaps[len(gaps) // 2]) / 2.0)
    return float(np.median(medians)) if medians else np.nan


def only_trading_days(grid: Grid, notes: list[str]) -> Grid:
    """Leave out dates that only repeat prices, where weekends do; say it if there are no weekends.

    Prices that were carried over weekends make days without a return, and volatility too low.
    """
    weekday = (grid.dates.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday; 0 is Monday
    weekend = weekday >= 5
    prices = grid.fields["adj_close"]
    with np.errstate(invalid="ignore"):
        moved = (np.isfinite(prices) & (prices != previous_valid(prices))).any(axis=1)
    moved[:1] = ~weekend[:1]
    if weekend.sum() >= 2 and moved[weekend].mean() <= 0.05:
        wide = np.isfinite(prices).sum(axis=1) >= 5  # a few stocks may all stand still on a day
        idle = ~moved & (weekend | wide)
        first = str(grid.dates[idle][0])
        notes.append(
            f"{idle.sum()} dates that only repeat the prices of the date before are left out, the "
            f"first {first}: they are weekends and holidays"
        )
        return grid.rows(~idle)
    years = float((grid.dates[-1] - grid.dates[0]).astype(np.int64)) / 365.25
    if years > 0.1 and (len(grid.dates) - 1) / years > MOST_DATES_A_YEAR:
        n_year = round((len(grid.dates) - 1) / years)
        notes.append(
            f"prices move on weekends, too ({n_year} dates a year): yearly figures count 252 days "
            f"to a year, so volatility is {np.sqrt(252 / n_year):.2f} times what it is by the "
            "calendar"
        )
    return grid


def moves_like_no_price(grid: Grid) -> str:
    """Why the numbers can hardly be prices, in words to follow "adj_close"; or an empty string.

    A price starts each day near that of the day before: over 60 days the variance of its changes is
    a tenth of that of its level. Of returns, volume, turnover and ratios it is half to twice of it.
    """
    prices = grid.fields["adj_close"]
    if len(prices) < LEAST_DATES:
        return ""
    ratios = []
    for start in range(0, prices.shape[1], _TOGETHER):
        with np.errstate(invalid="ignore", divide="ignore"):
            level = np.log(prices[:, start : start + _TOGETHER])
            changes = np.diff(level, axis=0)
            known = np.isfinite(changes).sum(axis=0) >= LEAST_DATES // 2
            if known.any():
                variance = np.nanvar(changes[:, known], axis=0)
                ratios.append(variance / np.nanvar(level[:, known], axis=0))
    if not ratios:
        return ""
    ratio = np.concatenate(ratios)
    typical = float(np.median(ratio[np.isfinite(ratio)])) if np.isfinite(ratio).any() else 0.0
    if typical < LEAST_NOISE:
        return ""
    return "is as far from one day to the next as between any two days, as returns and volume are"


def market_value_faults(grid: Grid, where: str, notes: list[str]) -> list[Problem]:
    """Refuse market values in several units; note it where all are in thousands or millions.

    market_cap / close are a company's shares: they do not change by 300 times from one row to the
    next, and no day's volume is a multiple of them.
    """
    if "market_cap" not in grid.fields:
        return []
    jumps: list[tuple[int, int, float]] = []  # row, column, size
    usual = np.full(len(grid.tickers), np.nan)  # log of a day's volume over the shares
    for start in range(0, len(grid.tickers), _TOGETHER):
        part = slice(start, start + _TOGETHER)
        shares = _log_shares(grid, part)
        with np.errstate(invalid="ignore"):
            steps = np.abs(shares - previous_valid(shares))
            found = np.argwhere(steps > _UNIT_JUMP).tolist()
        jumps += [(row, start + column, steps[row, column]) for row, column in found]
        if "volume" in grid.fields:
            usual[part] = _usual_turnover(grid.fields["volume"][:, part], shares)
    for row, column, size in sorted(jumps)[:1]:
        ticker, day = str(grid.tickers[column]), str(grid.dates[row])
        text = (
            f"market_cap of {ticker} changes by {10**size:,.0f} times on {day} and its close does "
            f"not ({len(jumps)} such changes): give market values in one unit{place(where)}."
        )
        return [Problem(ticker, day, "market_cap", text)]
    known = np.isfinite(usual)
    if not known.any():
        return []
    own = usual[known]
    names, typical = grid.tickers[known], float(np.median(own))
    far = np.flatnonzero((own > 0) & (own - typical > _UNIT_JUMP))
    if len(far):
        ticker = str(names[far[0]])
        text = (
            f"market_cap of {ticker} is in another unit than that of most stocks: by it "
            f"{10 ** own[far[0]]:,.0f} times all its shares are traded on a usual day, of others "
            f"{10**typical:.2g} times: give market values in one unit{place(where)}."
        )
        return [Problem(ticker, "", "market_cap", text)]
    if typical > 0:
        notes.append(
            "market_cap is not in the currency of the prices but in thousands, millions or so (by "
            f"it {10**typical:,.0f} times all shares are traded on a usual day): only the order of "
            "stocks by it is used"
        )
    return []


def _log_shares(grid: Grid, part: slice) -> NDArray[np.float64]:
    """Logarithm of the number of shares of some stocks, to base 10."""
    price = grid.fields.get("close", grid.fields["adj_close"])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.log10(grid.fields["market_cap"][:, part] / price[:, part]))


def _usual_turnover(
    volume: NDArray[np.float64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Median over time of log volume less log shares; NaN for stocks without any."""
    with np.errstate(invalid="ignore", divide="ignore"):
        turnover = np.log10(volume) - shares
    turnover[~np.isfinite(turnover)] = np.nan
    ordered = np.sort(turnover.T, axis=1)  # NaN last
    count = np.isfinite(ordered).sum(axis=1, keepdims=True)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=1)
    high = np.take_along_axis(ordered, np.minimum(count // 2, ordered.shape[1] - 1), axis=1)
    return np.asarray((low + high)[:, 0] / 2.0)


def index_like(grid: Grid) -> list[int]:
    """The columns that are an index or an exchange rate: by name, or by name and numbers."""
    found = [i for i, ticker in enumerate(grid.tickers) if _NO_STOCK.fullmatch(str(ticker))]
    words = [
        i
        for i, ticker in enumerate(grid.tickers)
        if i not in found and str(ticker).casefold().replace(" ", "") in _INDEX_NAMES
    ]
    others = [i for i in range(len(grid.tickers)) if i not in found and i not in words]
    close = _correlations(grid, words, others)
    return sorted([*found, *(i for i in words if close.get(i, 0.0) >= LEAST_CORRELATION)])


def without_index(grid: Grid, notes: list[str]) -> Grid:
    """Take indices and exchange rates out of the stocks; the closest becomes the market index.

    Closest to the mean return of the stocks, and only where the data give no index of their own.
    """
    found = index_like(grid)
    if not found:
        return grid
    names = [str(grid.tickers[i]) for i in found]
    others = [i for i in range(len(grid.tickers)) if i not in found]
    listed = ", ".join(names[:8])
    if len(others) < 2:
        return grid
    kind = "is no stock but an index or a rate" if len(names) == 1 else "are no stocks but indices"
    note = f"{listed} {kind}, by name, and cannot be held: left out"
    close = _correlations(grid, found, others)
    best = max(close, key=lambda i: close[i], default=-1)
    chosen = None
    if grid.index is None and close.get(best, 0.0) >= LEAST_CORRELATION:
        chosen = grid.fields["adj_close"][:, best]
        note += f"; {grid.tickers[best]} is taken as the market index"
    notes.append(note)
    kept = grid.columns(np.array(others))
    return kept if chosen is None else replace(kept, index=chosen)


def _correlations(grid: Grid, columns: Sequence[int], others: Sequence[int]) -> dict[int, float]:
    """Correlation of each column's daily returns with the mean of those of others."""
    if not columns or len(others) < 2:
        return {}
    prices = grid.fields["adj_close"]
    with np.errstate(invalid="ignore", divide="ignore"):
        returns = np.log(prices / lag(prices, 1))
    known = np.isfinite(returns[:, others])
    total = np.where(known, returns[:, others], 0.0).sum(axis=1)
    market = np.divide(
        total, known.sum(axis=1), out=np.full(len(total), np.nan), where=known.any(axis=1)
    )
    return {i: _correlation(returns[:, i], market) for i in columns}


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 10 or a[both].std() == 0 or b[both].std() == 0:
        return 0.0
    return float(np.corrcoef(a[both], b[both])[0, 1])
