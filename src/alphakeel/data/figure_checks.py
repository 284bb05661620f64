"""What is doubtful beside the prices: corporate actions, valuations, money traded, filings.

Each check takes arrays or a table and returns findings; one that lacks what it needs returns none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alphakeel.data.adjustment import CorporateActions, adjusted_close
from alphakeel.data.grid import Grid
from alphakeel.data.price_checks import Bars, Doubt, log_returns, typical_move
from alphakeel.data.validation import previous_valid

__all__ = [
    "action_checks",
    "amount_checks",
    "filing_checks",
    "Told",
    "missing_figures",
    "newest_filing",
    "ratio_jumps",
]

Matrix = NDArray[np.float64]


class Told(NamedTuple):
    """A finding that is no single price."""

    severity: str
    kind: str
    ticker: str
    date: str
    message: str


_USUAL_SPLITS = np.array([1.0, 1.2, 1.25, 4 / 3, 1.5, 5 / 3, 1.75, 2.5, *range(2, 11), 12, 15, 20,
                          25, 30, 40, 50, 100])  # fmt: skip
_USUAL_SLACK = 0.005
_SPLIT_UNSEEN = 0.25  # log distance of the price from where the split should put it
_DIVIDEND_TIMES, _DIVIDEND_SHARE, _DIVIDEND_FEWEST = 5.0, 0.02, 4
_SPIN_OFF = 0.10  # of the price, as a dividend
_MOVE, _MOVE_TIMES = 0.05, 5.0
_DISAGREES = 0.01
_UNIT = 0.3  # of a power of ten
_OFF = 0.15
_RATIO_JUMP = 0.2
_FILED_DAYS = 7  # before the jump
_LATE_DAYS = 130
_DIFFERENT = 0.10
_REPEATS = 3
_EXTREME = {"earnings_to_price": ("P/E", 1000.0), "book_to_price": ("P/B", 200.0)}
_KNOWN = {"earnings_to_price": "P/E", "book_to_price": "P/B", "market_cap": "market value"}
_LEAST_KNOWN = 0.3  # of a day's stocks: days on which a figure is there at all


def action_checks(bars: Bars, actions: CorporateActions, *, own: bool) -> Iterator[Doubt]:
    """Splits and dividends that the prices do not bear out; `own`: adj_close is not made of them.

    Positions of the actions are those of the bars.
    """
    shape = bars.close.shape
    split, paid = np.full(shape, np.nan), np.full(shape, np.nan)
    use = actions.rows < len(bars.close)
    at = actions.rows[use], actions.columns[use]
    split[at], paid[at] = actions.splits[use], actions.dividends[use]
    with np.errstate(invalid="ignore", divide="ignore"):
        real = np.isfinite(split) & (split > 0) & (split != 1.0)
        step = np.where(real, np.log(split), np.nan)
        size = np.exp(np.abs(step))
        share = paid / bars.close_before
    odd = np.zeros(shape, dtype=bool)
    for t, i in np.argwhere(real):
        odd[t, i] = np.min(np.abs(_USUAL_SPLITS / size[t, i] - 1.0)) > _USUAL_SLACK
    yield Doubt("warning", "split of an unusual ratio", odd,
                lambda t, i: f"has a split of {split[t, i]:.6g} for 1: perhaps a spin-off or a "
                "dividend entered as a split")  # fmt: skip
    with np.errstate(invalid="ignore"):
        unseen = (np.abs(bars.raw + step) > _SPLIT_UNSEEN) & (np.abs(bars.raw) < np.abs(step) / 2)
    yield Doubt("error", "split that the price does not show", unseen,
                lambda t, i: f"has a split of {split[t, i]:.6g} for 1, and its price moves "
                f"{100 * np.expm1(bars.raw[t, i]):+.0f} %")  # fmt: skip
    far = _large_dividends(paid, share)
    yield Doubt("warning", "dividend far above the others", far,
                lambda t, i: f"has a dividend of {paid[t, i]:.6g}, {100 * share[t, i]:.1f} % of "
                "its price and far above its others: perhaps a spin-off or a slip")  # fmt: skip
    with np.errstate(invalid="ignore"):
        days = (real | (share > _SPIN_OFF)) & (np.abs(bars.returns) > _MOVE)
    for t, i in np.argwhere(days):
        usual = typical_move(bars.returns, t, i)
        days[t, i] = not abs(bars.returns[t, i]) <= _MOVE_TIMES * usual
    yield Doubt("warning", "move on the day of a split or spin-off", days & ~unseen,
                lambda t, i: f"moves {100 * np.expm1(bars.returns[t, i]):+.0f} % adjusted on the "
                "day of a split or spin-off")  # fmt: skip
    if own:
        made = log_returns(adjusted_close(bars.close, actions))
        with np.errstate(invalid="ignore"):
            off = np.abs(made - bars.returns) > _DISAGREES
        yield Doubt("error", "adjusted close that the actions do not give", off,
                    lambda t, i: f"moves {100 * np.expm1(bars.returns[t, i]):+.1f} % by its "
                    f"adjusted close and {100 * np.expm1(made[t, i]):+.1f} % by close, split and "
                    "dividend")  # fmt: skip


def _large_dividends(paid: Matrix, share: Matrix) -> NDArray[np.bool_]:
    """Dividends of a multiple of what the stock usually pays, and of a share of its price."""
    result = np.zeros(paid.shape, dtype=bool)
    for i in np.flatnonzero(np.nanmax(share, axis=0, initial=0.0) > _DIVIDEND_SHARE):
        rows = np.flatnonzero(paid[:, i] > 0)
        usual = np.median(paid[rows, i])
        few = len(rows) < _DIVIDEND_FEWEST
        limit = _SPIN_OFF if few else _DIVIDEND_SHARE
        large = share[rows, i] > limit
        if not few:
            large &= paid[rows, i] > _DIVIDEND_TIMES * usual
        result[rows[large], i] = True
    return result


def amount_checks(bars: Bars, amount: Matrix) -> Iterator[Doubt]:
    """Money traded that is not close times volume, in the usual unit of the stock."""
    volume = bars.fields.get("volume")
    if volume is None:
        return
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.log10(amount / (volume * bars.close))
    ratio[~np.isfinite(ratio)] = np.nan
    own = np.full(ratio.shape[1], np.nan)
    known = np.isfinite(ratio).any(axis=0)
    own[known] = np.nanmedian(ratio[:, known], axis=0)
    first = np.isfinite(ratio) & (np.cumsum(np.isfinite(ratio), axis=0) == 1)
    unit = first & (np.abs(own) > _UNIT)
    yield Doubt("error", "amount in another unit", unit,
                lambda _t, i: f"and later has an amount of {10 ** own[i]:.3g} times close x "
                "volume: lots, thousands or another currency")  # fmt: skip
    with np.errstate(invalid="ignore"):
        off = np.abs(ratio - own) > _OFF
        if {"high", "low"} <= bars.fields.keys():
            mean = ratio - np.where(np.abs(own) > _UNIT, own, 0.0)
            high = np.log10(bars.fields["high"] / bars.close)
            low = np.log10(bars.fields["low"] / bars.close)
            off &= (mean > high + 0.01) | (mean < low - 0.01)
    yield Doubt("warning", "amount that is not close x volume", off,
                lambda t, i: f"has an amount of {10 ** ratio[t, i]:.3g} times close x volume, and "
                f"usually {10 ** own[i]:.3g} times")  # fmt: skip


def ratio_jumps(bars: Bars, filed: Matrix) -> Iterator[Doubt]:
    """Earnings or book that jump on a day before which nothing was filed, where filings are known.

    `filed`, (n_dates, n_assets): days since 1970 of the newest filing up to each date.
    """
    value = bars.fields.get("market_cap")
    for name, (label, _) in _EXTREME.items():
        ratio = bars.fields.get(name)
        if ratio is None:
            continue
        base = bars.close if value is None else value
        figure = ratio * base
        before = previous_valid(figure)
        with np.errstate(invalid="ignore", divide="ignore"):
            change = figure / before
            jumped = (np.abs(change - 1.0) > _RATIO_JUMP) & np.isfinite(change)
            if value is None:  # a figure per share changes with a split
                jumped &= np.abs(bars.returns - bars.raw) < 0.01
        jumped &= np.isfinite(filed)  # before its first filing nobody knows what was filed
        with np.errstate(invalid="ignore"):
            jumped[1:] &= filed[1:] < bars.dates[:-1, None].astype(np.int64) - _FILED_DAYS
        for t, i in np.argwhere(jumped):
            since = bars.dates[np.flatnonzero(np.isfinite(figure[:t, i]))[-1]].astype(np.int64)
            jumped[t, i] = filed[t, i] < since - _FILED_DAYS
        implied = "earnings" if name == "earnings_to_price" else "a book value"
        yield Doubt("warning", f"{label} that jumps without a filing", jumped,
                    _jump_text(label, implied, change))  # fmt: skip


def _jump_text(label: str, implied: str, change: Matrix) -> Any:
    return lambda t, i: (
        f"has a {label} that implies {implied} of {change[t, i]:.3g} times the day before's, and "
        "no filing came between"
    )


def missing_figures(grid: Grid) -> list[Told]:
    """What of P/E, P/B and market value is missing, for whom, and whether that tells the future."""
    told: list[Told] = []
    priced = np.isfinite(grid.fields["adj_close"])
    last = len(priced) - 1 - np.argmax(priced[::-1], axis=0)
    ended = last < len(priced) - 21
    for name, label in _KNOWN.items():
        if name not in grid.fields:
            continue
        known = np.isfinite(grid.fields[name]) & priced
        days = known.sum(axis=1) >= _LEAST_KNOWN * np.maximum(priced.sum(axis=1), 1)
        start = str(grid.dates[np.argmax(days)]) if days.any() else ""
        share = known.sum() / max(priced.sum(), 1)
        if share < 0.95:
            told.append(Told("note", "figures missing", "", start,
                         f"{label} is known for {100 * share:.0f} % of the prices, and for three "
                         f"in ten stocks or more from {start or 'no date'} on."))  # fmt: skip
        count, total = known[days].sum(axis=0), priced[days].sum(axis=0)
        told += _tells_the_end(label, count, total, ended, start)
        told += _by_sector(grid, label, count, total, start)
        for i in np.flatnonzero((total > 0) & (count < 0.5 * total) & (count > 0)):
            told.append(Told("note", "figures missing for most days", str(grid.tickers[i]), start,
                         f"{grid.tickers[i]} has a {label} on {100 * count[i] / total[i]:.0f} % of "
                         "its days."))  # fmt: skip
        if name in _EXTREME:
            told += _extremes(grid, name, known)
    return told


def _tells_the_end(
    label: str, count: NDArray[Any], total: NDArray[Any], ended: NDArray[np.bool_], start: str
) -> list[Told]:
    """A warning where a figure is missing for the stocks that end, and there for the others."""
    gone, stayed = ended & (total > 0), ~ended & (total > 0)
    if gone.sum() < 5 or not stayed.any():
        return []
    of_gone, of_stayed = (float(count[own].sum() / total[own].sum()) for own in (gone, stayed))
    if of_gone > 0.8 * of_stayed:
        return []
    return [Told("warning", "missing figures that tell of the end", "", start,
             f"{label} is known on {100 * of_gone:.0f} % of the days of the {int(gone.sum())} "
             f"stocks whose prices end, and on {100 * of_stayed:.0f} % of the others': that it is "
             "missing tells the future, so never rank by it.")]  # fmt: skip


def _by_sector(
    grid: Grid, label: str, count: NDArray[Any], total: NDArray[Any], start: str
) -> list[Told]:
    """Sectors for which a figure is known much less often than for the rest."""
    if grid.sectors is None:
        return []
    told: list[Told] = []
    codes, overall = grid.sectors[-1], count.sum() / max(total.sum(), 1)
    for code, sector in enumerate(grid.sector_levels):
        own = codes == code
        if own.sum() >= 5 and count[own].sum() < 0.6 * overall * total[own].sum():
            told.append(Told("note", "figures missing in a sector", "", start,
                         f"{label} is known on {100 * count[own].sum() / total[own].sum():.0f} % "
                         f"of the days of {sector}, and on {100 * overall:.0f} % of all: a factor "
                         "on it is one without that sector."))  # fmt: skip
    return told


def _extremes(grid: Grid, name: str, known: NDArray[np.bool_]) -> list[Told]:
    """How many ratios are so large that their denominator is next to nothing."""
    label, limit = _EXTREME[name]
    far = known.copy()
    with np.errstate(invalid="ignore"):
        far &= grid.fields[name] < 1.0 / limit
        far &= grid.fields[name] > -1.0 / limit
    if not far.any():
        return []
    t, i = np.argwhere(far)[0]
    return [Told("note", f"{label} beyond {limit:.0f}", str(grid.tickers[i]), str(grid.dates[t]),
             f"{label} lies beyond {limit:.0f} in {int(far.sum()):,} rows "
             f"({100 * far.sum() / known.sum():.2g} %), the first {grid.tickers[i]} on "
             f"{grid.dates[t]}.")]  # fmt: skip


def filing_checks(facts: pd.DataFrame, estimated: int = 0) -> list[Told]:
    """Filings that cannot be, come late, repeat a figure or disagree with each other.

    `facts` has `ticker`, `item`, `period_start`, `period_end`, `available_date`, `value`;
    `estimated` is the number of filings whose day is not known but set.
    """
    told: list[Told] = []
    if estimated:
        told.append(Told("note", "filing day estimated", "", "",
                     f"the day of {estimated:,} filings is not known but estimated."))  # fmt: skip
    if not len(facts):
        return told
    table = facts[["ticker", "item", "value"]].copy()
    for name in ("period_start", "period_end", "available_date"):
        table[name] = pd.to_datetime(facts[name])
    table = table[table["value"].notna()]
    lag_days = (table["available_date"] - table["period_end"]).dt.days
    early = table[lag_days < 0].drop_duplicates(["ticker", "available_date"])
    told += [
        Told("error", "filed before its period ended", ticker, _day(day),
         f"{ticker} on {_day(day)} files figures of a period that ends on "
         f"{_day(end)}.")
        for ticker, day, end in early[["ticker", "available_date", "period_end"]].itertuples(
            index=False)
    ]  # fmt: skip
    late = table[lag_days > _LATE_DAYS].drop_duplicates(["ticker", "available_date", "period_end"])
    told += _by_ticker(
        late,
        "note",
        "filed late",
        f"periods that became public more than {_LATE_DAYS} days after their end",
    )
    zero = table[(table["value"] == 0) & table["item"].isin(("net_income", "equity", "revenue"))]
    told += _by_ticker(zero, "note", "figure of zero", "figures that are zero")
    table = table.sort_values(["ticker", "item", "period_start", "period_end", "available_date"])
    told += _by_ticker(_repeated(table), "warning", "figure that repeats",
                       f"balances that are those of {_REPEATS - 1} periods before, to the last "
                       "digit")  # fmt: skip
    told += _by_ticker(_disagreeing(table), "note", "filings that disagree",
                       f"figures that a later filing or another source puts {_DIFFERENT:.0%} or "
                       "more apart")  # fmt: skip
    return told


def _by_ticker(rows: pd.DataFrame, severity: str, kind: str, what: str) -> list[Told]:
    """One finding a stock: how many of its figures, and the first."""
    told: list[Told] = []
    for ticker, own in rows.groupby("ticker", sort=True):
        first = own.sort_values("available_date", kind="stable").iloc[0]
        day = _day(first["available_date"])
        told.append(Told(severity, kind, str(ticker), day,
                     f"{ticker} has {len(own)} {what}, the first {first['item']} of the period to "
                     f"{_day(first['period_end'])}, public on {day}."))  # fmt: skip
    return told


def _repeated(table: pd.DataFrame) -> pd.DataFrame:
    """Balances that are the same at three ends of a period in a row."""
    rows = table[table["item"].isin(("equity", "assets")) & (table["value"] != 0)]
    rows = rows.drop_duplicates(["ticker", "item", "period_end"])
    key = rows.groupby(["ticker", "item"], sort=False)
    same = pd.Series(True, index=rows.index)
    for back in range(1, _REPEATS):
        same &= rows["value"] == key["value"].shift(back)
    return rows[same]


def _disagreeing(table: pd.DataFrame) -> pd.DataFrame:
    """Figures of one period that differ from the first ones that were filed."""
    rows = table[table["item"].isin(("net_income", "equity"))]
    keys = ["ticker", "item", "period_start", "period_end"]
    first = rows.groupby(keys, sort=False, dropna=False)["value"].transform("first")
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = (rows["value"] / first - 1.0).abs() > _DIFFERENT
    return rows[apart]


def _day(value: Any) -> str:
    return str(value)[:10]


def newest_filing(
    filings: Mapping[str, NDArray[np.int64]],
    dates: NDArray[np.datetime64],
    tickers: NDArray[np.str_],
) -> Matrix:
    """Day of the newest filing up to each date, in days since 1970; NaN before the first."""
    days = dates.astype("datetime64[D]").astype(np.int64)
    result = np.full((len(dates), len(tickers)), np.nan)
    for i, ticker in enumerate(tickers):
        own = filings.get(str(ticker))
        if own is None or not len(own):
            continue
        at = np.searchsorted(own, days, side="right") - 1
        result[:, i] = np.where(at >= 0, own[np.maximum(at, 0)], np.nan)
    return result
