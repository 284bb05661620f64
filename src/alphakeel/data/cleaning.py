"""From prices as delivered to prices fit for research: causal, and every change on record.

Nothing here reads a later day: a price that looks wrong is only provisional on the day it
appears, and the next day's price is believed whatever it is. A bad tick so never arrives in the
research prices, and a real jump arrives one day late. What a portfolio truly earns is kept
apart, untouched, in the field `accounting_close`. A stock is compared with the universe of its
day: with the members, where membership is known, so that a stock that joins later moves nothing.

The rules are functions of plain arrays, (n_dates, n_assets); a ledger records what they did.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skfolio.containers import AssetPanel, Field2D

from alphakeel.data.panel import universe_mask
from alphakeel.errors import ConfigError, LookAheadWarning
from alphakeel.stats.cross_section import rank, winsorize
from alphakeel.stats.rolling import last_known, last_known_before, trailing_mean

__all__ = [
    "CleanResult",
    "CLOSED",
    "CleaningLedger",
    "ELIGIBLE",
    "Jumps",
    "LedgerWriter",
    "RULES",
    "SPIKE",
    "clean",
    "find_jumps",
    "liquidity",
    "smallest",
    "stale",
    "suspects",
    "too_many_missing",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
# Rows and columns of some entries, as `np.nonzero` gives them.
Cells = tuple[NDArray[np.intp], ...]

SPIKE = "suspect jump: last price carried"
GAP = "gap: last value carried"
INTERPOLATED = "gap: interpolated"
VALUED = "no price: valued at the last one"
CLOSED = "gap that ends far above: old line closed"
WINSORISED = "outlier of the date: winsorised"
NO_PRICE = "out: no recent price"
HISTORY = "out: too little history"
MISSING = "out: too many missing days"
STALE = "out: stale price"
LOW_PRICE = "out: price too low"
ILLIQUID = "out: illiquid"
SMALL = "out: too small"
NOT_MEMBER = "out: not in the index"
RULES = (
    SPIKE,
    GAP,
    INTERPOLATED,
    VALUED,
    CLOSED,
    WINSORISED,
    NO_PRICE,
    HISTORY,
    MISSING,
    STALE,
    LOW_PRICE,
    ILLIQUID,
    SMALL,
    NOT_MEMBER,
)

# Fields that contain the day's price: a suspect price makes all of them suspect.
_PRICED = (
    "adj_close",
    "open",
    "high",
    "low",
    "close",
    "market_cap",
    "earnings_to_price",
    "book_to_price",
)
_RATIOS = ("earnings_to_price", "book_to_price")

_RECORD_WINDOW = 252
_LIQUIDITY_WINDOW = 60
_KNOWN_SCALE = 20  # returns before a stock's own scale is trusted
_SCALE_STEP = 0.02  # weight of the newest return: half-life of 34 days
_MEAN_TO_SIGMA = np.sqrt(np.pi / 2.0)  # mean |x| to standard deviation, under a normal
_CAP = 4.0  # sigmas that one return may contribute to the scale
# A gap of more dates than `max_gap`, and than the first of these, closes a line if the price after
# it is beyond so many sigmas; after the last of these the smallest suspect move is enough.
_LEAST_GAP, _GAP_SIGMAS, _LONG_GAP = 5, 3.0, 250

ELIGIBLE = "eligible"


class Jumps(NamedTuple):
    """Moves that are not believed at once, (n_dates, n_assets) each."""

    suspect: Bools  # prices that jump too far to be believed before they are confirmed
    closed: Bools  # first prices after a gap that ends far above


@dataclass(frozen=True, eq=False)
class CleanResult:
    """Cleaned data and what was done to them.

    Attributes
    ----------
    panel : AssetPanel
        Research values in the fields of the input, plus `accounting_close`: the adjusted close
        as delivered, carried forward while the stock is listed and has no price, and never
        altered otherwise, except that after a closed line it goes on from the price before.
        `estimation_mask` is False on suspect and missing days. Arrays of fields in which nothing
        changed are shared with the input panel.
    eligible : bool ndarray of shape (n_dates, n_assets)
        Fit for the sample, decided at each close by what was known then.
    filled : bool ndarray of shape (n_dates, n_assets)
        The research price of the day is not the day's own.
    ledger : CleaningLedger
        Every changed number and every exclusion.
    jumps : Jumps
        Prices that are suspect, and lines that a gap closed.
    """

    panel: AssetPanel
    eligible: Bools
    filled: Bools
    ledger: CleaningLedger
    jumps: Jumps


def clean(
    panel: AssetPanel,
    *,
    max_gap: int = 5,
    gap_fill: str = "carry",
    spike_sigmas: float = 8.0,
    spike_min_move: float = 0.2,
    stale_days: int = 10,
    winsor_limit: float = 10.0,
    min_history: int = 252,
    max_missing: float = 0.1,
    min_price: float = 0.0,
    drop_illiquid: float = 0.0,
    drop_small: float = 0.0,
    record: bool = True,
    owned: bool = False,
) -> CleanResult:
    """Clean a panel and select the sample, using at each date only what was known then.

    Parameters
    ----------
    panel : AssetPanel
        With `adj_close`; it is not changed, unless it is `owned`.
    max_gap : int
        Days for which a missing value is replaced by the last one; 0: never. A longer gap (of at
        least 6 dates) that ends far above closes the old line: the price after it is beyond
        `spike_min_move` and three robust standard deviations, or after 250 dates beyond
        `spike_min_move` alone. Adjusted prices then go on from the last one, so that nobody earns
        the jump, and the stock needs `min_history` days again, as another company would.
    gap_fill : {"carry", "interpolate"}
        "interpolate" draws a straight line to the next value, as the paper does (Li and Gu,
        2025, doi:10.48550/arXiv.2507.00332); it reads the future and warns. `accounting_close` is
        carried in either case.
    spike_sigmas : float
        A change of the adjusted close beyond this many trailing robust standard deviations
        (times the square root of the days since the last price) ...
    spike_min_move : float
        ... and beyond this fraction of the last price is suspect: prices and valuations of that
        day are replaced by the last good ones. The stock's next price is accepted whatever it is.
        If more than half of the date's universe looks suspect, it is the market that moved, and
        none is. A stock with fewer than 20 returns is compared with the universe's median scale.
    stale_days : int
        So many days in a row without a new price, and without known volume, make a stock stale.
    winsor_limit : float
        `earnings_to_price` and `book_to_price` are pulled in to the median of the date's universe
        +- this many robust standard deviations (1.4826 MAD). Prices are never winsorised.
    min_history : int
        Days with a price, in the panel up to date, before a stock may enter the sample.
    max_missing : float
        Largest share of days without a price among the listed days of the last 252.
    min_price : float
        Smallest last traded `close` (or `adj_close`), in the data's currency; 0: any.
    drop_illiquid, drop_small : float
        Share of each date's universe, those with the smallest 60-day mean of close x volume
        or with the smallest `market_cap`, that is left out; 0: none. Needs these fields.
    record : bool
        Fill the ledger; without it there are no rows in it, and less time and memory are needed.
    owned : bool
        The panel is given away: fields that change are taken out of it one by one, which keeps
        them from being in memory twice.

    Returns
    -------
    CleanResult

    Raises
    ------
    ConfigError
        If a setting is out of range, or needs a field that the panel does not have.

    Warns
    -----
    LookAheadWarning
        With ``gap_fill="interpolate"``.

    Notes
    -----
    The scale is a running mean of absolute log returns (times sqrt(pi/2), newest weight 0.02),
    each capped at four current standard deviations, so that errors barely move it. Rules that
    delete a jump after seeing it reverse would remove true moves too (AIG in September 2008).

    Examples
    --------
    >>> from alphakeel.data.simulation import simulate_market
    >>> result = clean(simulate_market(n_assets=30, n_dates=400, seed=1).panel)
    >>> bool(result.eligible[:251].any()), bool(result.eligible[300:].any())
    (False, True)
    """
    _check(
        panel,
        {"max_gap": max_gap, "stale_days": stale_days, "min_history": min_history},
        {
            "spike_sigmas": spike_sigmas,
            "spike_min_move": spike_min_move,
            "winsor_limit": winsor_limit,
        },
        {"max_missing": max_missing, "drop_illiquid": drop_illiquid, "drop_small": drop_small},
        min_price,
        gap_fill,
    )
    if gap_fill == "interpolate":
        warnings.warn(
            "gap_fill='interpolate' fills missing values from later days, as the paper does; "
            "results look ahead: use 'carry' for anything you mean to trade.",
            LookAheadWarning,
            stacklevel=2,
        )
    active, universe = panel.active_mask, universe_mask(panel)
    raw = panel["adj_close"]
    keys = tuple(panel.keys())
    traded_price = None
    if min_price > 0.0 or drop_illiquid > 0.0:
        traded_price = panel["close" if "close" in keys else "adj_close"]
    ledger = LedgerWriter((*keys, "accounting_close", ELIGIBLE), RULES, record=record)

    jumps = find_jumps(raw, spike_sigmas, spike_min_move, universe, max_gap=max_gap)
    suspect, fields = jumps.suspect, dict(panel.fields)
    doubted = np.nonzero(suspect)
    raw = _on_from_old_lines(raw, jumps.closed, ledger)
    for name in (name for name in _PRICED if name in fields):
        values = raw if name == "adj_close" else panel[name]
        values = _carry_suspects(name, values, doubted, ledger)
        values = _fill_gaps(name, values, active, max_gap, gap_fill, ledger)
        if name in _RATIOS:
            values = _winsorise(name, values, winsor_limit, active, universe, ledger)
        if values is not panel[name]:
            fields[name] = Field2D(values, inactive_policy=fields[name].inactive_policy)
            if owned:
                del panel[name]

    missing = active & np.isnan(raw)
    accounting = raw
    if missing.any():
        accounting, cells = raw.copy(), np.nonzero(missing)
        accounting[cells] = last_known_before(raw, *cells)
        ledger.changed("accounting_close", VALUED, cells, raw, accounting)
    fields["accounting_close"] = Field2D(accounting)

    research = fields["adj_close"].values
    volume = panel["volume"] if "volume" in keys else None
    reasons = {
        NO_PRICE: np.isnan(research),
        HISTORY: _too_young(raw, jumps.closed, min_history),
        MISSING: too_many_missing(missing, active, max_missing),
        STALE: stale(accounting, volume, stale_days),
    }
    if traded_price is not None and min_price > 0.0:
        reasons[LOW_PRICE] = last_known(traded_price)[0] < min_price
    if traded_price is not None and drop_illiquid > 0.0 and volume is not None:
        reasons[ILLIQUID] = smallest(liquidity(traded_price, volume), drop_illiquid, universe)
    if drop_small > 0.0:
        reasons[SMALL] = smallest(fields["market_cap"].values, drop_small, universe)
    if "member" in keys:
        reasons[NOT_MEMBER] = panel["member"] == 0.0
    eligible = active.copy()
    for rule, out in reasons.items():
        out &= active
        ledger.held_out(rule, out, active)
        eligible &= ~out

    cleaned = AssetPanel(
        fields,
        panel.observations,
        panel.asset_names,
        active_mask=active.copy(),
        estimation_mask=panel.estimation_mask & ~suspect & ~missing,
    )
    filled = (missing & ~np.isnan(research)) | suspect
    written = ledger.close(panel.observations, panel.asset_names)
    return CleanResult(cleaned, eligible, filled, written, jumps)


def _check(
    panel: AssetPanel,
    counts: dict[str, int],
    scales: dict[str, float],
    shares: dict[str, float],
    min_price: float,
    gap_fill: str,
) -> None:
    for name, count in counts.items():
        least = 0 if name == "max_gap" else 1
        if count < least:
            raise ConfigError(f"clean: {name} must be at least {least}, got {count!r}.")
    for name, scale in scales.items():
        if not scale > 0.0:
            raise ConfigError(f"clean: {name} must be positive, got {scale!r}.")
    for name, share in shares.items():
        if not 0.0 <= share <= 1.0:
            raise ConfigError(f"clean: {name} must be from 0 to 1, got {share!r}.")
    if not min_price >= 0.0:
        raise ConfigError(f"clean: min_price must be 0 or positive, got {min_price!r}.")
    if gap_fill not in ("carry", "interpolate"):
        raise ConfigError(f"clean: gap_fill must be 'carry' or 'interpolate', got {gap_fill!r}.")
    for name, field in (("drop_illiquid", "volume"), ("drop_small", "market_cap")):
        if shares[name] > 0.0 and field not in panel:
            raise ConfigError(
                f"clean: {name} needs the field {field!r}, which the panel does not have: "
                f"set it to 0 or add the field."
            )


def _carry_suspects(name: str, values: Floats, suspect: Cells, ledger: LedgerWriter) -> Floats:
    """Replace the values of suspect days by the last good ones."""
    if not len(suspect[0]):
        return values
    out = values.copy()
    out[suspect] = np.nan
    out[suspect] = last_known_before(out, *suspect)
    ledger.changed(name, SPIKE, suspect, values, out)
    return out


def _on_from_old_lines(prices: Floats, closed: Bools, ledger: LedgerWriter) -> Floats:
    """Prices that go on from the last one before a gap that closed a line, whatever comes after."""
    if not closed.any():
        return prices
    out, columns = prices.copy(), np.flatnonzero(closed.any(axis=0))
    for column in columns:
        line, known = out[:, column], np.flatnonzero(~np.isnan(prices[:, column]))
        for row in np.flatnonzero(closed[:, column]):
            before = known[np.searchsorted(known, row) - 1]
            line[row:] *= line[before] / line[row]
            line[row] = line[before]  # to the bit: the day has no return
    rows, places = np.nonzero(~np.isnan(prices[:, columns]))
    for name in ("adj_close", "accounting_close"):
        ledger.changed(name, CLOSED, (rows, columns[places]), prices, out)
    return out


def _too_young(prices: Floats, closed: Bools, min_history: int) -> Bools:
    """Fewer days with a price than needed up to each date; the first of a new line counts as 1."""
    out = np.empty(prices.shape, dtype=bool)
    days = np.zeros(prices.shape[1], dtype=np.int32)
    for row, ends, young in zip(prices, closed, out, strict=True):
        days += ~np.isnan(row)
        days[ends] = 1
        np.less(days, min_history, out=young)
    return out


def _fill_gaps(
    name: str, values: Floats, active: Bools, max_gap: int, how: str, ledger: LedgerWriter
) -> Floats:
    """Replace missing values of listed stocks, at most `max_gap` days after a known one."""
    gaps = active & np.isnan(values)
    if max_gap == 0 or not gaps.any():
        return values
    if how == "interpolate":
        return _interpolated(name, values, gaps, max_gap, ledger)
    cells = np.nonzero(gaps)
    out = values.copy()
    out[cells] = last_known_before(values, *cells, most=max_gap)
    ledger.changed(name, GAP, cells, values, out)
    return out


def _interpolated(
    name: str, values: Floats, gaps: Bools, max_gap: int, ledger: LedgerWriter
) -> Floats:
    """The same on a line to the next value, where there is one."""
    before, source = last_known(values)
    age = np.arange(len(values), dtype=np.int32)[:, None] - source
    gaps &= (source >= 0) & (age <= max_gap)
    after, mirrored = last_known(values[::-1])
    after, ahead = after[::-1], len(values) - 1 - mirrored[::-1]
    between = gaps & (mirrored[::-1] >= 0)
    weight = age / np.maximum(ahead - source, 1)
    out = np.where(gaps, before, values)
    out = np.where(between, before + (after - before) * weight, out)
    ledger.changed(name, INTERPOLATED, np.nonzero(between), values, out)
    ledger.changed(name, GAP, np.nonzero(gaps & ~between), values, out)
    return out


def _winsorise(
    name: str, values: Floats, limit: float, active: Bools, universe: Bools, ledger: LedgerWriter
) -> Floats:
    """Pull in what lies too far from the median of the date's universe."""
    out = np.asarray(winsorize(values, limit, active, among=universe), dtype=np.float64)
    moved = active & (out != values) & ~np.isnan(values)
    if not moved.any():
        return values
    ledger.changed(name, WINSORISED, np.nonzero(moved), values, out)
    return out


def suspects(
    prices: Floats, sigmas: float, min_move: float, universe: Bools | None = None
) -> Bools:
    """Prices that jump too far to be believed before they are confirmed; see `find_jumps`."""
    return find_jumps(prices, sigmas, min_move, universe, max_gap=len(prices)).suspect


def find_jumps(
    prices: Floats,
    sigmas: float,
    min_move: float,
    universe: Bools | None = None,
    *,
    max_gap: int,
) -> Jumps:
    """Prices that jump too far to be believed, never two in succession, and lines that end.

    A suspect move exceeds `sigmas` robust standard deviations, per square root of days since the
    last good price, and the fraction `min_move` of that price. A line ends where more than
    `max_gap` dates without a price end in a rise beyond `min_move` and `_GAP_SIGMAS`. Prices are
    positive; NaN where missing. `universe` are the stocks whose scales and jumps stand for the
    market's, by default all.
    """
    n_dates, n_assets = prices.shape
    suspect, closed = np.zeros((2, n_dates, n_assets), dtype=bool)
    up = np.log1p(min_move)
    down = np.log1p(-min_move) if min_move < 1.0 else -np.inf
    longest = max(max_gap, _LEAST_GAP) + 1

    last = np.full(n_assets, np.nan)  # last good log price
    last_row = np.zeros(n_assets)
    seen = np.zeros(n_assets, dtype=np.int32)  # returns that made the scale
    scale = np.zeros(n_assets)
    doubted = np.zeros(n_assets, dtype=bool)  # the stock's newest price was suspect
    for row in range(n_dates):
        now = np.log(prices[row])
        known = ~np.isnan(now)
        move = now - last
        root_days = np.sqrt(np.maximum(row - last_row, 1.0))
        own = seen >= _KNOWN_SCALE
        own_scale = scale
        if (known & ~own).any():
            typical = _median_of(scale, own if universe is None else own & universe[row])
            own_scale = np.where(own, scale, typical)
        jump = ((move > up) | (move < down)) & ~doubted
        ends = np.zeros(n_assets, dtype=bool)
        if jump.any():
            sizes, gap = np.abs(move) / (own_scale * root_days), row - last_row
            # A gain nobody can have had; a fall may be a crash in a long halt, and is borne.
            far = (sizes > _GAP_SIGMAS) | (gap > _LONG_GAP)
            ends = jump & (move > up) & (gap > longest) & far
            jump &= ~ends & (np.abs(move) > sigmas * own_scale * root_days)
            counted = known if universe is None else known & universe[row]
            if 2 * np.count_nonzero(jump & counted) > np.count_nonzero(counted):
                jump[:] = False
            suspect[row], closed[row] = jump, ends
        good = known & ~jump
        size = np.minimum(_MEAN_TO_SIGMA * np.abs(move) / root_days, _CAP * own_scale)
        measured = good & ~np.isnan(size) & ~ends
        step = np.maximum(_SCALE_STEP, 1.0 / (seen + 1.0))
        scale = np.where(measured, scale + step * (size - scale), scale)
        seen += measured
        last = np.where(good, now, last)
        last_row[good] = row
        doubted = np.where(known, jump, doubted)
    return Jumps(suspect, closed)


def _median_of(scale: Floats, chosen: Bools) -> float:
    """Median of the chosen; infinity, beyond which nothing is suspect, with none."""
    return float(np.median(scale[chosen])) if chosen.any() else np.inf


def too_many_missing(missing: Bools, active: Bools, max_missing: float) -> Bools:
    """More than `max_missing` of the listed days of the trailing year are without a price."""
    out = np.empty(missing.shape, dtype=bool)
    lost, listed = np.zeros((2, missing.shape[1]), dtype=np.int32)
    for row in range(len(missing)):
        for total, mask in ((lost, missing), (listed, active)):
            total += mask[row]
            if row >= _RECORD_WINDOW:
                total -= mask[row - _RECORD_WINDOW]
        np.greater(lost, max_missing * listed, out=out[row])
    return out


def stale(prices: Floats, volume: Floats | None, stale_days: int) -> Bools:
    """`stale_days` rows in a row whose price is not new and comes without volume.

    Prices have gaps carried forward. A volume of NaN or None is unknown, and does not explain a
    repeated price.
    """
    idle = np.zeros(prices.shape, dtype=bool)
    idle[1:] = prices[1:] == prices[:-1]
    if volume is not None:
        idle &= ~(volume > 0.0)
    out = np.empty(prices.shape, dtype=bool)
    days = np.zeros(prices.shape[1], dtype=np.int32)
    for row, still in enumerate(idle):
        days += 1
        days *= still
        np.greater_equal(days, stale_days, out=out[row])
    return out


def liquidity(prices: Floats, volume: Floats) -> Floats:
    """Mean of price x volume over the last 60 days, in the data's currency; NaN if none known."""
    # Absurd numbers may overflow to infinity: the top of any ranking, which is what they are.
    with np.errstate(over="ignore"):
        return trailing_mean(prices * volume, _LIQUIDITY_WINDOW, min_count=1)


def smallest(values: Floats, share: float, universe: Bools) -> Bools:
    """Lowest `share` of the known values of each date's universe."""
    ranks = rank(values, universe)
    known = np.count_nonzero(~np.isnan(ranks), axis=1)[:, None]
    return ranks <= share * known


@dataclass(frozen=True, eq=False)
class CleaningLedger:
    """Every change, one row each, in columns.

    A changed number has its value before and after. A stock that a rule takes out of the sample
    has a row with field ``"eligible"`` going from 1 to 0 on the first day out, and one going from
    0 to 1 on the day the rule lets it back in: a stock is eligible while listed and held out by
    no rule. Rows follow the order in which rules were applied.
    """

    row: NDArray[np.int32]  # position in `dates`; this and the next five: (n_changes,)
    column: NDArray[np.int32]  # position in `asset_names`
    field_code: NDArray[np.int8]  # position in `field_names`
    rule_code: NDArray[np.int8]  # position in `rule_names`
    before: NDArray[np.float64]  # in the field's unit; NaN: missing
    after: NDArray[np.float64]
    days_out: NDArray[np.int64]  # (n_rules,) stock-days held out; 0 for rules that change numbers
    dates: NDArray[np.datetime64]  # (n_dates,) days
    asset_names: NDArray[np.str_]  # (n_assets,)
    field_names: tuple[str, ...]
    rule_names: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.row)

    def to_frame(self) -> pd.DataFrame:
        """`ticker`, `date`, `field`, `before`, `after`, `rule`, by date, ticker and field."""
        order = np.lexsort((self.field_code, self.column, self.row))
        return pd.DataFrame(
            {
                "ticker": self.asset_names[self.column[order]],
                "date": self.dates[self.row[order]].astype("datetime64[s]"),
                "field": _labels(self.field_code[order], self.field_names),
                "before": self.before[order],
                "after": self.after[order],
                "rule": _labels(self.rule_code[order], self.rule_names),
            }
        )

    def counts(self) -> pd.DataFrame:
        """Numbers changed, or stock-days held out, and `tickers` concerned, by rule."""
        changed = np.bincount(self.rule_code[self._is_change()], minlength=len(self.rule_names))
        tickers = [
            len(np.unique(self.column[self.rule_code == code]))
            for code in range(len(self.rule_names))
        ]
        return pd.DataFrame(
            {"rule": list(self.rule_names), "cells": changed + self.days_out, "tickers": tickers}
        )

    def counts_by_ticker(self) -> pd.DataFrame:
        """Numbers changed by stock and rule; for rules that hold stocks out, how often."""
        n_rules = len(self.rule_names)
        begins = self._is_change() | (self.after == 0.0)
        cell = self.column[begins].astype(np.int64) * n_rules + self.rule_code[begins]
        table = np.bincount(cell, minlength=len(self.asset_names) * n_rules)
        return pd.DataFrame(
            table.reshape(-1, n_rules),
            index=pd.Index(self.asset_names, name="ticker"),
            columns=pd.Index(self.rule_names, name="rule"),
        )

    def _is_change(self) -> NDArray[np.bool_]:
        return self.field_code != self.field_names.index(ELIGIBLE)


def _labels(codes: NDArray[np.int8], names: Sequence[str]) -> pd.Categorical[str]:
    return pd.Categorical.from_codes(codes, categories=pd.Index(names))


class LedgerWriter:
    """Collects changes while cleaning runs; all names that may occur are given first."""

    def __init__(
        self, field_names: Sequence[str], rule_names: Sequence[str], *, record: bool = True
    ) -> None:
        self._record = record
        self._fields = tuple(field_names)
        self._rules = tuple(rule_names)
        self._days_out = np.zeros(len(self._rules), dtype=np.int64)
        none = np.empty(0)
        codes = none.astype(np.int8)
        self._pieces: list[tuple[NDArray[Any], ...]] = [
            (none.astype(np.int32), none.astype(np.int32), codes, codes, none, none)
        ]

    def changed(
        self,
        field: str,
        rule: str,
        cells: Cells,
        before: NDArray[np.float64],
        after: NDArray[np.float64],
    ) -> None:
        """Record those of some cells, in the order of dates, whose value really changed."""
        if not self._record:
            return
        row, column = cells
        old, new = before[row, column], after[row, column]
        differ = ~((old == new) | (np.isnan(old) & np.isnan(new)))
        self._append(field, rule, row[differ], column[differ], old[differ], new[differ])

    def held_out(self, rule: str, out: NDArray[np.bool_], active: NDArray[np.bool_]) -> None:
        """Record when a rule starts and stops to hold listed stocks out of the sample."""
        if not self._record:
            return
        self._days_out[self._rules.index(rule)] = np.count_nonzero(out)
        begins, ends = out.copy(), np.zeros_like(out)
        begins[1:] &= ~out[:-1]
        ends[1:] = out[:-1] & ~out[1:] & active[1:]
        for where, before, after in ((begins, 1.0, 0.0), (ends, 0.0, 1.0)):
            row, column = np.nonzero(where)
            ones = np.ones(len(row))
            self._append(ELIGIBLE, rule, row, column, before * ones, after * ones)

    def _append(
        self,
        field: str,
        rule: str,
        row: NDArray[np.intp],
        column: NDArray[np.intp],
        before: NDArray[np.float64],
        after: NDArray[np.float64],
    ) -> None:
        codes = (self._fields.index(field), self._rules.index(rule))
        field_code, rule_code = (np.full(len(row), code, dtype=np.int8) for code in codes)
        self._pieces.append(
            (row.astype(np.int32), column.astype(np.int32), field_code, rule_code, before, after)
        )

    def close(self, dates: NDArray[np.datetime64], asset_names: NDArray[np.str_]) -> CleaningLedger:
        """Return the finished ledger."""
        joined = [np.concatenate(piece) for piece in zip(*self._pieces, strict=True)]
        for values in joined:
            values.flags.writeable = False
        row, column, field_code, rule_code, before, after = joined
        return CleaningLedger(
            row=row,
            column=column,
            field_code=field_code,
            rule_code=rule_code,
            before=before,
            after=after,
            days_out=self._days_out,
            dates=dates,
            asset_names=asset_names,
            field_names=self._fields,
            rule_names=self._rules,
        )
