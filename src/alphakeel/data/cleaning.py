"""From prices as delivered to prices fit for research: causal, and every change on record.

Nothing here reads a later day: a price that looks wrong is only provisional on the day it
appears, and the next day's price is believed whatever it is. A bad tick so never arrives in the
research prices, and a real jump arrives one day late. What a portfolio truly earns is kept
apart, untouched, in the field `accounting_close`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skfolio.containers import AssetPanel, Field2D

from alphakeel.data.cleaning_ledger import ELIGIBLE, CleaningLedger, LedgerWriter
from alphakeel.data.cleaning_rules import (
    last_known,
    liquidity,
    smallest,
    stale,
    suspects,
    too_many_missing,
)
from alphakeel.errors import ConfigError, LookAheadWarning
from alphakeel.stats.crosssection import winsorize

__all__ = ["RULES", "CleanResult", "CleaningLedger", "clean"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SPIKE = "suspect jump: last price carried"
GAP = "gap: last value carried"
INTERPOLATED = "gap: interpolated"
VALUED = "no price: valued at the last one"
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


@dataclass(frozen=True, eq=False)
class CleanResult:
    """Cleaned data and what was done to them.

    Attributes
    ----------
    panel : AssetPanel
        Research values in the fields of the input, plus `accounting_close`: the adjusted close
        as delivered, carried forward while the stock is listed and has no price, and never
        altered otherwise. `estimation_mask` is False on suspect and missing days. Arrays of
        fields in which nothing changed are shared with the input panel.
    eligible : bool ndarray of shape (n_dates, n_assets)
        Fit for the sample, judged at each close by what was known then.
    filled : bool ndarray of shape (n_dates, n_assets)
        The research price of the day is not the day's own.
    ledger : CleaningLedger
        Every changed number and every exclusion.
    """

    panel: AssetPanel
    eligible: Bools
    filled: Bools
    ledger: CleaningLedger


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
) -> CleanResult:
    """Clean a panel and select the sample, using at each date only what was known then.

    Parameters
    ----------
    panel : AssetPanel
        With `adj_close`; it is not changed.
    max_gap : int
        Days for which a missing value is replaced by the last one; 0: never.
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
        If more than half of the date's stocks look suspect, it is the market that moved, and none
        is. A stock with fewer than 20 returns is judged by the date's median scale.
    stale_days : int
        So many days in a row without a new price, and without known volume, make a stock stale.
    winsor_limit : float
        `earnings_to_price` and `book_to_price` are pulled in to the date's median +- this many
        robust standard deviations (1.4826 MAD). Prices are never winsorised.
    min_history : int
        Days with a price, in the panel up to date, before a stock may enter the sample.
    max_missing : float
        Largest share of days without a price among the listed days of the last 252.
    min_price : float
        Smallest last traded `close` (or `adj_close`), in the data's currency; 0: any.
    drop_illiquid, drop_small : float
        Share of each date's listed stocks, those with the smallest 60-day mean of close x volume
        or with the smallest `market_cap`, that is left out; 0: none. Needs these fields.

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
    >>> from alphakeel.data.simulate import simulate_market
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
    active = panel.active_mask
    raw = panel["adj_close"]
    keys = tuple(panel.keys())
    ledger = LedgerWriter((*keys, "accounting_close", ELIGIBLE), RULES)

    suspect = suspects(raw, spike_sigmas, spike_min_move)
    fields = dict(panel.fields)
    for name in (name for name in _PRICED if name in fields):
        values = panel[name]
        values = _carry_suspects(name, values, suspect, ledger)
        values = _fill_gaps(name, values, active, max_gap, gap_fill, ledger)
        if name in _RATIOS:
            values = _winsorise(name, values, winsor_limit, active, ledger)
        if values is not panel[name]:
            fields[name] = Field2D(values, inactive_policy=fields[name].inactive_policy)

    missing = active & np.isnan(raw)
    accounting = raw
    if missing.any():
        accounting = np.where(missing, last_known(raw)[0], raw)
        ledger.changed("accounting_close", VALUED, missing, raw, accounting)
    fields["accounting_close"] = Field2D(accounting)

    research = fields["adj_close"].values
    volume = panel["volume"] if "volume" in keys else None
    traded_price = panel["close" if "close" in keys else "adj_close"]
    reasons = {
        NO_PRICE: np.isnan(research),
        HISTORY: np.cumsum(~np.isnan(raw), axis=0, dtype=np.int32) < min_history,
        MISSING: too_many_missing(missing, active, max_missing),
        STALE: stale(accounting, volume, stale_days),
    }
    if min_price > 0.0:
        reasons[LOW_PRICE] = last_known(traded_price)[0] < min_price
    if drop_illiquid > 0.0 and volume is not None:
        reasons[ILLIQUID] = smallest(liquidity(traded_price, volume), drop_illiquid, active)
    if drop_small > 0.0:
        reasons[SMALL] = smallest(fields["market_cap"].values, drop_small, active)
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
    record = ledger.close(panel.observations, panel.asset_names)
    return CleanResult(panel=cleaned, eligible=eligible, filled=filled, ledger=record)


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


def _carry_suspects(name: str, values: Floats, suspect: Bools, ledger: LedgerWriter) -> Floats:
    """Replace the values of suspect days by the last good ones."""
    if not suspect.any():
        return values
    stocks = np.flatnonzero(suspect.any(axis=0))
    block, doubtful = values[:, stocks], suspect[:, stocks]
    carried = last_known(np.where(doubtful, np.nan, block))[0]
    out = values.copy()
    out[:, stocks] = np.where(doubtful, carried, block)
    ledger.changed(name, SPIKE, suspect, values, out)
    return out


def _fill_gaps(
    name: str, values: Floats, active: Bools, max_gap: int, how: str, ledger: LedgerWriter
) -> Floats:
    """Replace missing values of listed stocks, at most `max_gap` days after a known one."""
    gaps = active & np.isnan(values)
    if max_gap == 0 or not gaps.any():
        return values
    before, source = last_known(values)
    age = np.arange(len(values), dtype=np.int32)[:, None] - source
    gaps &= (source >= 0) & (age <= max_gap)
    out = np.where(gaps, before, values)
    if how == "interpolate":
        after, mirrored = last_known(values[::-1])
        after, ahead = after[::-1], len(values) - 1 - mirrored[::-1]
        between = gaps & (mirrored[::-1] >= 0)
        weight = age / np.maximum(ahead - source, 1)
        out = np.where(between, before + (after - before) * weight, out)
        ledger.changed(name, INTERPOLATED, between, values, out)
        gaps &= ~between
    ledger.changed(name, GAP, gaps, values, out)
    return out


def _winsorise(
    name: str, values: Floats, limit: float, active: Bools, ledger: LedgerWriter
) -> Floats:
    """Pull in what lies too far from the date's median."""
    out = np.asarray(winsorize(values, limit, active), dtype=np.float64)
    moved = active & (out != values) & ~np.isnan(values)
    if not moved.any():
        return values
    ledger.changed(name, WINSORISED, moved, values, out)
    return out
