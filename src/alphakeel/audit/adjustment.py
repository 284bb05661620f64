"""Levels that know what comes later: adjusted prices, adjusted volumes, today's shares, the index.

A price adjusted backward is the price of the day times all later splits and dividends: returns
stay, the level is knowledge of the future. What a factor makes of it is tested by multiplying each
stock's whole adjusted history by a number, as a later split would. Whether volumes and market
values are those of the day shows on the days of splits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alphakeel.audit.findings import Finding, day_text, leak, ok, warn
from alphakeel.data.panel import market_index
from alphakeel.factors.custom import differs
from alphakeel.stats.rolling import simple_returns

__all__ = ["adjusted_when", "check_fields", "check_levels"]

Floats = NDArray[np.floating[Any]]
Values = Callable[[Any], Floats]
When = Literal["backward", "forward", "unknown", "never"]

_RAW = ("open", "high", "low", "close")
_ADJUSTED = ("adj_close", "accounting_close")
_SAME = 1e-4  # logs: two prices that differ by rounding
_SPLIT = np.log(1.2)
_LEAST_SPLITS = 5
_AROUND = 10  # days before and after a split
_SURE = 4.0
_LONG = 500  # days in which some stock pays a dividend


def adjusted_when(panel: Any) -> When:
    """How the adjusted close is adjusted: from the end back, from the start on, or never.

    "unknown" without a raw close to compare with.
    """
    if "close" not in panel:
        return "unknown"
    ratio = _log_ratio(panel["adj_close"], panel["close"])
    known = np.isfinite(ratio)
    stocks = np.flatnonzero(known.any(axis=0))
    first = ratio[known.argmax(axis=0)[stocks], stocks]
    spread = np.nanmax(ratio[:, stocks], axis=0) - np.nanmin(ratio[:, stocks], axis=0)
    varies = spread > _SAME
    if not varies.any():
        return "never"
    return "forward" if (np.abs(first[varies]) < 1e-3).mean() > 0.9 else "backward"


def _log_ratio(a: Floats, b: Floats) -> Floats:
    with np.errstate(all="ignore"):
        ratio = np.log(a / b)
    ratio[~np.isfinite(ratio)] = np.nan
    return ratio


def check_levels(
    panel: Any,
    compute: Values,
    values: Floats,
    names: Sequence[str],
    when: When,
    rng: np.random.Generator,
) -> dict[str, Finding]:
    """Findings on factors of the level of adjusted prices, by name.

    `compute` gives values, (n_dates, n_assets, n_names), of a panel; `values` are those of this,
    and `when` says how its adjusted close is adjusted.
    """
    fields = [name for name in _ADJUSTED if name in panel]
    # Years without a dividend: then open to close are adjusted as well, or nothing is.
    if when == "never" and len(panel.observations) > _LONG:
        fields += [name for name in _RAW if name in panel]
    factor = np.exp(rng.choice([-1.0, 1.0], panel.n_assets) * rng.uniform(0.3, 1.2, panel.n_assets))
    rescaled = _rescaled(panel, fields, factor)
    moved = _moved(values, compute(rescaled))
    if not moved.any():
        return {}
    if "volume" in panel:
        also_volume = _moved(values, compute(_rescaled(rescaled, ["volume"], 1.0 / factor)))
    else:
        also_volume = moved
    return {
        name: _level_finding(panel, name, moved[..., k], also_volume[..., k], when)
        for k, name in enumerate(names)
        if moved[..., k].any()
    }


def _rescaled(panel: Any, fields: Sequence[str], factor: Floats) -> Any:
    """The panel with each stock's whole history of some fields multiplied by its own number."""
    copy = panel.copy()
    for name in fields:
        copy.fields[name] = copy.fields[name].with_values(copy.fields[name].values * factor)
    return copy


def _moved(before: Floats, after: Floats) -> NDArray[np.bool_]:
    pairs = zip(np.moveaxis(before, -1, 0), np.moveaxis(after, -1, 0), strict=True)
    return np.stack([differs(a, b) for a, b in pairs], axis=-1)


def _level_finding(
    panel: Any,
    name: str,
    moved: NDArray[np.bool_],
    also_volume: NDArray[np.bool_],
    when: When,
) -> Finding:
    """A level is a leak; money volume of adjusted prices only where volumes are raw."""
    row = int(np.argmax(moved.any(axis=1)))
    stock = str(panel.asset_names[int(np.argmax(moved[row]))])
    day = day_text(panel.observations[row])
    at = {"factor": name, "date": day, "ticker": stock}
    text = (
        f"{name} for {stock} on {day} changes when the stock's whole adjusted history is rescaled"
    )
    if not also_volume.any():
        hint = "" if when == "never" else "; take close * volume"
        return warn(
            "levels",
            f"{text}, and not when volumes are rescaled with it: right only if volumes are "
            f"adjusted for the same splits{hint}.",
            **at,
        )
    if when in ("forward", "never"):
        why = (
            "depends on where its history begins"
            if when == "forward"
            else "may be adjusted for later splits, which these data cannot show"
        )
        return warn(
            "levels", f"{text}: the level of the price {why}; use returns, or market_cap.", **at
        )
    return leak(
        "levels",
        f"{text}, as a later split or dividend does: the level of an adjusted price knows them; "
        "use returns, or the raw close.",
        **at,
    )


def check_fields(panel: Any) -> list[Finding]:
    """Volumes and market values of other days' shares, and an index dated a day early."""
    findings = [
        found
        for check in (_split_volume, _split_market_cap, _constant_shares, _early_index)
        if (found := check(panel)) is not None
    ]
    return findings or [
        ok("levels", "volumes, market values and the index are those of their days.")
    ]


def _splits(panel: Any) -> tuple[Floats, NDArray[np.intp], NDArray[np.intp]] | None:
    """Sizes of splits in logs, with row and column; None where there are too few."""
    if "close" not in panel:
        return None
    ratio = _log_ratio(panel["adj_close"], panel["close"])
    step = np.diff(ratio, axis=0, prepend=np.nan)
    with np.errstate(invalid="ignore"):
        rows, columns = np.nonzero(np.abs(step) > _SPLIT)
    if len(rows) < _LEAST_SPLITS:
        return None
    return step[rows, columns], rows, columns


def _answer(change: Floats, size: Floats) -> tuple[float, float]:
    """Median change per size of split, and how many errors of the median it is from 0."""
    known = np.isfinite(change)
    if known.sum() < _LEAST_SPLITS:
        return 0.0, 0.0
    share = change[known] / size[known]
    median = float(np.median(share))
    spread = 1.4826 * float(np.median(np.abs(share - median)))
    error = 1.2533 * spread / np.sqrt(known.sum())
    return median, abs(median) / max(error, 1e-9)


def _split_volume(panel: Any) -> Finding | None:
    """Raw close times volume must not jump when shares are split."""
    if "volume" not in panel or (splits := _splits(panel)) is None:
        return None
    size, rows, columns = splits
    with np.errstate(all="ignore"):
        money = np.log(panel["close"] * panel["volume"])
    money[~np.isfinite(money)] = np.nan
    change = np.full(len(rows), np.nan)
    for n, (row, column) in enumerate(zip(rows, columns, strict=True)):
        before = money[max(0, row - _AROUND) : row, column]
        after = money[row : row + _AROUND, column]
        if np.isfinite(before).any() and np.isfinite(after).any():
            change[n] = np.nanmedian(after) - np.nanmedian(before)
    median, sure = _answer(change, size)
    if median > -0.5 or sure < _SURE:
        return None
    day = day_text(panel.observations[rows.min()])
    return leak(
        "levels",
        f"on {len(rows)} days of splits volume does not change as the shares do (by "
        f"{1 + median:.2f} of the split): volumes are adjusted for later splits, and close * "
        "volume of the past knows them.",
        factor="volume",
        date=day,
        ticker=str(panel.asset_names[columns[int(np.argmin(rows))]]),
    )


def _split_market_cap(panel: Any) -> Finding | None:
    """The market value must not fall with the raw close when shares are split."""
    if "market_cap" not in panel or (splits := _splits(panel)) is None:
        return None
    size, rows, columns = splits
    growth = _log_ratio(panel["market_cap"][1:], panel["market_cap"][:-1])
    total = _log_ratio(panel["adj_close"][1:], panel["adj_close"][:-1])
    median, sure = _answer((growth - total)[rows - 1, columns], size)
    if median > -0.5 or sure < _SURE:
        return None
    return _todays_shares(
        panel,
        f"market_cap falls with the raw close on {len(rows)} days of splits",
        int(columns[int(np.argmin(rows))]),
    )


def _constant_shares(panel: Any) -> Finding | None:
    """A market value that is the adjusted close times one number ignores dividends and issues."""
    if "market_cap" not in panel or "close" not in panel:
        return None
    pays = _range(_log_ratio(panel["adj_close"], panel["close"])) > 0.01
    if pays.sum() < _LEAST_SPLITS:
        return None
    fixed = pays & (_range(_log_ratio(panel["market_cap"], panel["adj_close"])) < _SAME)
    if fixed.sum() < 0.5 * pays.sum():
        return None
    return _todays_shares(
        panel,
        f"market_cap of {fixed.sum()} of {pays.sum()} stocks with splits or dividends is the "
        "adjusted close times one number",
        int(np.argmax(fixed)),
    )


def _range(x: Floats) -> Floats:
    """Largest less smallest known value by column, 0 where there is none."""
    known = np.isfinite(x)
    high = np.where(known, x, -np.inf).max(axis=0)
    low = np.where(known, x, np.inf).min(axis=0)
    return np.where(known.any(axis=0), high - low, 0.0)


def _todays_shares(panel: Any, text: str, column: int) -> Finding:
    known = np.isfinite(panel["market_cap"][:, column])
    return leak(
        "levels",
        f"{text}: it is made of the shares of another day, and its past knows later splits.",
        factor="market_cap",
        date=day_text(panel.observations[int(np.argmax(known))]),
        ticker=str(panel.asset_names[column]),
    )


def _early_index(panel: Any) -> Finding | None:
    """An index that moves with the stocks' next day is dated a day early."""
    level = market_index(panel)
    if level is None:
        return None
    index = simple_returns(level[:, None])[:, 0]
    returns = simple_returns(panel["adj_close"])
    known = np.isfinite(returns)
    number = known.sum(axis=1)
    stocks = np.where(known, returns, 0.0).sum(axis=1) / np.maximum(number, 1)
    stocks[number == 0] = np.nan
    same, ahead = _correlation(index, stocks), _correlation(index[:-1], stocks[1:])
    if not ahead > max(same, 0.3):
        return None
    return leak(
        "levels",
        f"market_index correlates by {ahead:.2f} with the stocks' mean return of the next day, and "
        f"by {same:.2f} with that of its own: it is dated a day early.",
        factor="market_index",
        date=day_text(panel.observations[1]),
    )


def _correlation(a: Floats, b: Floats) -> float:
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 60:
        return float("nan")
    return float(np.corrcoef(a[known], b[known])[0, 1])
