"""How a vendor quotes: prices adjusted or as traded, volume in shares or in lots.

Columns beside the prices tell it: a factor of adjustment, a flag, the splits, the money traded.
What they say is held against the numbers, and the frame comes out in our units: `close` as traded
and `volume` in shares.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alphakeel.data.columns import normalised_name
from alphakeel.data.validation import place
from alphakeel.errors import DataError

__all__ = ["CODED", "HINTS", "TOLD", "Quotation", "hints_in", "in_our_units"]

# Names that hint at how prices and volume are meant, by what they hold; as in `SPELLINGS`.
HINTS: dict[str, tuple[str, ...]] = {
    "amount": (
        *("amount", "money", "成交额", "成交金额", "turnovervalue", "dnvaltrd", "거래대금"),
        *("売買代金", "turnoverlacs", "ttltrdval"),
    ),
    "adjusting_factor": ("adjfactor", "复权因子"),  # adjusted = close x factor
    "daily_factor": ("adjustmentfactor",),  # of one day: new shares for old, inverted
    "adjusted_factor": ("factor",),  # close is adjusted; as traded = close / factor
    "adjustflag": ("adjustflag",),  # 1 and 2: adjusted; 3: as traded
    "splits": ("stocksplits",),
    "total_return": ("ret",),  # CRSP: with dividends, as a fraction; beside PRC only
    "delisting_return": ("dlret",),
    "dividends": ("dividends",),
}
# What a column of hints is taken for, in the words of a report.
TOLD = {
    "amount": "money traded, held against volume",
    "adjusting_factor": "factor of adjustment",
    "adjusted_factor": "factor of adjustment",
    "daily_factor": "factor of the day's split",
    "adjustflag": "whether close is adjusted",
    "total_return": "return with dividends",
    "delisting_return": "return on delisting",
    "splits": "splits, held against close",
    "dividends": "whether close is adjusted",
}
# Returns of CRSP, with letters where there is none.
CODED = ("total_return", "delisting_return")
_HINT_OF = {word: name for name, words in HINTS.items() for word in words}
_PRICES = ("open", "high", "low", "close")
LARGE_STEP = 0.03  # of a log factor: larger than what a price moves on most days
LOT = 100.0
MONEY_TWICE = 2e-4  # of a log10: 0.05 %, more than rounding does
# Money / (close x volume) as a power of ten, and the shares that one of volume is then. Vendors
# give money in units, thousands, ten thousands, lakhs or millions; lots are of 100 shares.
_SHARES = {0: 1.0, -3: 1.0, -4: 1.0, -5: 1.0, -6: 1.0, 2: LOT, -1: LOT}


@dataclass(frozen=True)
class Quotation:
    """What was found, and done, about the units of a source."""

    notes: list[str] = field(default_factory=list)
    adjusted: str = ""  # why `close` is adjusted although no column is called so


def hints_in(columns: list[str]) -> dict[str, str]:
    """The columns that tell how prices and volume are meant: hint to column."""
    found: dict[str, str] = {}
    for column in columns:
        name = _HINT_OF.get(normalised_name(column))
        if name is not None:
            found.setdefault(name, column)
    return found


def in_our_units(frame: pd.DataFrame, where: str) -> tuple[pd.DataFrame, Quotation]:
    """Rows with `close` as traded, `adj_close` where a factor gives it, and `volume` in shares.

    The frame has the fields of a panel, `date`, `ticker` and any hints, which are taken out.
    """
    found = Quotation()
    hints = [name for name in HINTS if name in frame.columns]
    if not hints:
        return frame, found
    if "close" in frame.columns and "adj_close" not in frame.columns:
        frame, found = _adjusted(frame, where)
    if {"amount", "close", "volume"} <= set(frame.columns):
        volume, notes = _in_shares(frame, where)
        frame = frame.assign(volume=volume)
        found.notes.extend(notes)
    return frame.drop(columns=hints), found


def _adjusted(frame: pd.DataFrame, where: str) -> tuple[pd.DataFrame, Quotation]:
    """Give both levels of the close, where a factor, a flag or the splits tell which one it is."""
    for name in ("adjusting_factor", "adjusted_factor"):
        if name in frame.columns and (frame[name].to_numpy() != 1.0).any():
            return _by_factor(frame, name, where)
    if "daily_factor" in frame.columns and (frame["daily_factor"].dropna() != 1.0).any():
        return _by_daily_factor(frame, where)
    if "total_return" in frame.columns:
        return _from_returns(frame)
    if "adjustflag" in frame.columns:
        flags = set(frame["adjustflag"].dropna().unique())
        if len(flags) > 1:
            raise DataError(
                f"adjustflag is {' and '.join(f'{flag:g}' for flag in sorted(flags)[:3])} in one "
                f"source: download all stocks with the same one{place(where)}."
            )
        if flags <= {1.0, 2.0} and flags:
            return frame, Quotation(adjusted=f"adjustflag is {flags.pop():g}")
    if {"splits", "dividends"} <= set(frame.columns):
        ratio = frame["splits"].to_numpy()
        steps = np.log(np.where(ratio > 0, ratio, 1.0))
        if _votes(frame, steps) != "raw":
            return frame, Quotation(
                adjusted="it stands beside Dividends and Stock Splits without an Adj Close, as "
                "yfinance writes it under auto_adjust"
            )
    return frame, Quotation()


def _from_returns(frame: pd.DataFrame) -> tuple[pd.DataFrame, Quotation]:
    """Adjusted prices from returns with dividends, where they are those of the close.

    A row without a return keeps the change of the close.
    """
    moves = _steps(frame, np.log(frame["close"].to_numpy()))
    given = frame["total_return"].to_numpy().copy()
    if "delisting_return" in frame.columns:
        last = frame["delisting_return"].to_numpy()
        given = np.where(np.isfinite(last), (1 + np.nan_to_num(given)) * (1 + last) - 1, given)
    with np.errstate(invalid="ignore", divide="ignore"):
        steps = np.log1p(given)
        away = np.abs(steps - moves)
    if not np.isfinite(away).any() or np.nanmedian(away) > 0.005:
        return frame, Quotation()  # of other dates, or in per cent
    steps = np.where(np.isfinite(steps), steps, np.nan_to_num(moves))
    rows = frame[["ticker", "close"]].assign(step=steps)
    rows = rows.iloc[np.argsort(frame["date"].to_numpy(), kind="stable")]
    stocks = rows.groupby("ticker", observed=True)
    rows["step"] = rows["step"].where(stocks.cumcount() > 0, 0.0)  # the first close is the level
    level = np.exp(rows.groupby("ticker", observed=True)["step"].cumsum())
    adjusted = (stocks["close"].transform("first") * level).reindex(frame.index)
    note = "adj_close is made of the returns with dividends (RET, DLRET) beside the close"
    return frame.assign(adj_close=adjusted), Quotation([note])


def _by_daily_factor(frame: pd.DataFrame, where: str) -> tuple[pd.DataFrame, Quotation]:
    """Adjusted prices from the factor of each day's split: 0.5 where two shares are made of one.

    It stands on the first day after the split (J-Quants) or on the last before (JPX): the close
    tells, which falls with it.
    """
    factor = frame["daily_factor"].to_numpy()
    if (factor <= 0).any():
        raise DataError(f"a factor of adjustment is not above 0: correct it{place(where)}.")
    logs = np.log(np.where(np.isfinite(factor), factor, 1.0))
    moves = _steps(frame, np.log(frame["close"].to_numpy()))
    order = np.lexsort((frame["date"].to_numpy(), frame["ticker"].cat.codes.to_numpy()))
    codes = frame["ticker"].cat.codes.to_numpy()[order]
    day_before = np.concatenate([[0.0], logs[order][:-1]])
    delayed = np.where(np.diff(codes, prepend=-2) == 0, day_before, 0.0)
    later = np.empty(len(logs))
    later[order] = delayed
    away = []
    for steps in (logs, later):
        at = (np.abs(steps) > LARGE_STEP) & np.isfinite(moves)
        away.append(np.median(np.abs(moves[at] - steps[at])) if at.any() else np.inf)
    if min(away) > 0.2:
        return frame, Quotation(
            ["the close does not step where AdjustmentFactor does, so it is not used"]
        )
    steps = (logs, later)[int(np.argmin(away))]
    rows = pd.DataFrame({"ticker": frame["ticker"], "step": steps}).iloc[order]
    level = np.exp(rows.groupby("ticker", observed=True)["step"].cumsum()).reindex(frame.index)
    note = "adj_close is close without the splits in AdjustmentFactor; dividends are left out"
    return frame.assign(adj_close=frame["close"] / level.to_numpy()), Quotation([note])


def _by_factor(frame: pd.DataFrame, name: str, where: str) -> tuple[pd.DataFrame, Quotation]:
    """Both levels of the prices from a factor between them."""
    factor = frame[name].to_numpy()
    bad = ~(np.isfinite(factor) & (factor > 0)) & np.isfinite(frame["close"].to_numpy())
    for row in np.flatnonzero(bad)[:1]:
        raise DataError(
            f"the factor of {frame['ticker'].iloc[row]} on {frame['date'].iloc[row]:%Y-%m-%d} is "
            f"{factor[row]:g}, but must be above 0 beside a close: complete it or leave the column "
            f"out{place(where)}."
        )
    steps = _steps(frame, np.log(np.where(bad | ~(factor > 0), 1.0, factor)))
    vote = _votes(frame, steps)
    if vote == "both":
        raise DataError(
            "the close of some stocks steps with the factor and that of others does not: leave the "
            f"factor out and name adjusted prices adj_close{place(where)}."
        )
    adjusted = vote == "adjusted" if vote else name == "adjusted_factor"
    reason = "as it does not step where the factor does" if vote else "as its name says"
    if adjusted:
        traded = {field: frame[field] / factor for field in _PRICES if field in frame.columns}
        if "volume" in frame.columns:
            traded["volume"] = frame["volume"] * factor
        note = f"close is adjusted, {reason}: prices as traded are those divided by the factor"
        return frame.assign(adj_close=frame["close"], **traded), Quotation([note])
    # From each stock's first factor on, so that later rows do not change earlier ones.
    order = np.argsort(frame["date"].to_numpy(), kind="stable")
    first = frame.iloc[order].groupby("ticker", observed=True)[name].transform("first")
    reason = "as it steps where the factor does" if vote else "as the factor's name says"
    note = f"close is as traded, {reason}: adj_close is close x factor"
    adj = frame["close"] * frame[name] / first.reindex(frame.index)
    return frame.assign(adj_close=adj), Quotation([note])


def _steps(frame: pd.DataFrame, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Changes of values from one row of a stock to its next by date, in the frame's own order."""
    order = np.lexsort((frame["date"].to_numpy(), frame["ticker"].cat.codes.to_numpy()))
    codes = frame["ticker"].cat.codes.to_numpy()[order]
    change = np.diff(values[order], prepend=np.nan)
    change[np.diff(codes, prepend=-2) != 0] = np.nan
    result = np.empty(len(values))
    result[order] = change
    return result


def _votes(frame: pd.DataFrame, steps: NDArray[np.float64]) -> str:
    """Whether the close is "raw" or "adjusted" by what it does where the factor steps.

    There, prices as traded fall by the step, and adjusted ones do not. "both" if stocks differ, ""
    if there is no step.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        moves = _steps(frame, np.log(frame["close"].to_numpy()))
        large = (np.abs(steps) > LARGE_STEP) & np.isfinite(moves)
    if not large.any():
        return ""
    still = np.mean(np.abs(moves[large]) < np.abs(moves[large] + steps[large]))
    return "adjusted" if still > 0.7 else "raw" if still < 0.3 else "both"


def _in_shares(frame: pd.DataFrame, where: str) -> tuple[pd.Series, list[str]]:
    """Volume in shares, by the money that was traded."""
    volume = frame["volume"]
    with np.errstate(invalid="ignore", divide="ignore"):
        per_share = np.log10((frame["amount"] / (frame["close"] * volume)).to_numpy())
        per_money = np.log10((frame["amount"] / volume).to_numpy())
    known = per_money[np.isfinite(per_money)]
    power = float(np.round(np.median(known))) if len(known) else np.nan
    # The same money twice, in every row: prices do not all stand so near a power of ten.
    if len(known) and np.mean(np.abs(known - power) < MONEY_TWICE) >= 0.95:
        shares = volume * 10.0**power / frame["close"]
        return shares, ["volume is money, as the money traded shows: it is divided by close"]
    powers = _powers(frame, per_share)
    if powers.empty:
        money = _powers(frame, per_money)
        if len(money) and money.nunique() == 1:
            shares = volume * 10.0 ** money.iloc[0] / frame["close"]
            return shares, ["volume is money, as the money traded shows: it is divided by close"]
        return volume, []
    unknown = powers[~powers.isin(_SHARES)]
    units = powers.map(_SHARES)
    if len(unknown) or units.nunique() > 1:
        strange = unknown if len(unknown) else units[units != units.mode().iloc[0]]
        odd = strange.index[0]
        beside = "" if len(unknown) else ", otherwise than that of other stocks"
        raise DataError(
            f"the money traded of {odd} is 1e{int(powers[odd])} of close x volume{beside}, so the "
            "unit of one of them is in doubt: give volume in shares and close in the currency of "
            f"the money, or leave the column of money out{place(where)}."
        )
    if units.iloc[0] == LOT:
        return volume * LOT, [
            "volume is in lots of 100, as the money traded shows: it is multiplied by 100"
        ]
    return volume, []


def _powers(frame: pd.DataFrame, logs: NDArray[np.float64]) -> pd.Series:
    """Each stock's ratio as a power of ten over its last rows; empty if they are near none.

    The last rows, because adjusted prices drift away from the money further back.
    """
    rows = pd.DataFrame({"ticker": frame["ticker"], "date": frame["date"], "log": logs})
    rows = rows[np.isfinite(logs)].sort_values("date", kind="stable")
    last = rows.groupby("ticker", observed=True).tail(20)
    medians = last.groupby("ticker", observed=True)["log"].median()
    away = (last["log"] - last["ticker"].map(medians).astype(float)).abs()
    near = (medians - medians.round()).abs() < 0.15
    if not len(medians) or near.mean() < 0.8 or away.median() > 0.1:
        return pd.Series(dtype=np.float64)
    return medians[near].round()
