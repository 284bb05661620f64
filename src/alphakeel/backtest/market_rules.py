"""Price limits, lots, volume, same-day sales, margin; costs and rules of whole markets by date.

Every array has time on axis 0 and stocks on axis 1, the rows of the backtest. A row is about the
close at which an order of that row is filled, so nothing here reads a later row.

`us_market` and `cn_market` take the dates and whatever arrays there are, and say in words what
they charge and forbid, so that a report can print it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from alphakeel.backtest import costs
from alphakeel.backtest.costs import MarketCost, rates_on, square_root_impact
from alphakeel.errors import ConfigError, DataError
from alphakeel.stats.rolling import trailing_mean, trailing_std

__all__ = [
    "Margin",
    "MarketRules",
    "TradingConstraints",
    "board_limits",
    "boards_of",
    "cn_market",
    "price_limits",
    "reference_prices",
    "us_market",
]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
StrArray = npt.NDArray[np.str_]
Dates = npt.NDArray[np.datetime64]
IntArray = npt.NDArray[np.int64]

ADV_WINDOW, VOLATILITY_WINDOW = 20, 60
CN_LOT, CN_MINIMUM = 100, 5.0
BOARDS = ("main", "chinext", "star", "beijing")
CHINEXT_REFORM = np.datetime64("2020-08-24")

_BEIJING = ("43", "82", "83", "87", "88", "920")  # first digits of codes; 900 is a B share
BLOCK = 64


@dataclass(frozen=True, slots=True, eq=False)
class MarketRules:
    """Costs and trading constraints of a country that belong together.

    `text` has one sentence a rule, with its source or the word "assumed".
    """

    cost: MarketCost
    constraints: TradingConstraints
    text: tuple[str, ...]

    def between(self, rows: slice) -> MarketRules:
        """The same on some rows only: build it on all history, then cut to the test."""

        def cut(whole: MarketCost | TradingConstraints) -> dict[str, Any]:
            values = {field.name: getattr(whole, field.name) for field in fields(whole)}
            return {k: v[rows] for k, v in values.items() if isinstance(v, np.ndarray)}

        cost = replace(self.cost, **cut(self.cost))
        constraints = replace(self.constraints, **cut(self.constraints))
        return MarketRules(cost, constraints, self.text)


def us_market(
    dates: Dates,
    *,
    close: FloatArray | None = None,
    volume: FloatArray | None = None,
    accounting: FloatArray | None = None,
    participation: float = 0.1,
    impact: float = 1.0,
    rows: slice | None = None,
) -> MarketRules:
    """Dated costs and the volume limit of US stocks, with the text for a report.

    Parameters
    ----------
    dates : ndarray of shape (n_dates,) of datetime64
        Days of the backtest.
    close, volume : ndarray of shape (n_dates, n_assets), optional
        Raw closes in dollars and shares traded. Without them orders are neither limited by
        volume nor charged for impact.
    accounting : ndarray of shape (n_dates, n_assets), optional
        Total-return closes, for the volatility that impact needs.
    participation : float, default=0.1
        Largest order, as a share of the day's traded value.
    impact : float, default=1.0
        Coefficient of the square-root law; 0 for none.
    rows : slice, optional
        The dates that are asked for, all by default; `text` is about all of them.

    Examples
    --------
    >>> days = np.array(["2015-06-01", "2020-06-01"], dtype="datetime64[D]")
    >>> market = us_market(days)
    >>> market.cost.charge(np.array([1e6, -1e6]), row=0).round(2)
    array([450. , 468.4])
    >>> market.cost.charge(np.array([1e6, -1e6]), row=1).round(2)
    array([300. , 322.1])
    """
    read, asked = _rows_read(rows, len(dates))
    close, volume, accounting = _cut(read, close, volume, accounting)
    capacity, strength, volume_text = _volume_terms(
        close, volume, accounting, participation, impact, currency="USD"
    )
    slippage = rates_on(costs.ASSUMED_US_SLIPPAGE, dates)
    fee = rates_on(costs.US_SECTION_31, dates)
    commission = rates_on(costs.ASSUMED_US_COMMISSION, dates)
    text = (
        f"Commission {_range(commission)} a side, assumed, none from 7 October 2019.",
        f"Fee of the SEC (Section 31) on sales, {_range(fee)} by its advisories.",
        f"Half the spread and slippage {_range(slippage)} a side, assumed for large companies.",
        *volume_text,
        "Single shares, no price limits, sale on the day of purchase allowed.",
    )
    commission, slippage, fee = _cut(read, commission, slippage, fee)
    cost = MarketCost(commission, slippage, slippage + fee, impact=strength)
    return MarketRules(cost, TradingConstraints(capacity=capacity), text).between(asked)


def cn_market(
    dates: Dates,
    *,
    close: FloatArray,
    accounting: FloatArray | None = None,
    volume: FloatArray | None = None,
    boards: StrArray | None = None,
    special: BoolArray | None = None,
    lot: int = CN_LOT,
    minimum: float = CN_MINIMUM,
    participation: float = 0.1,
    impact: float = 1.0,
    rows: slice | None = None,
) -> MarketRules:
    """Dated costs and trading constraints of Chinese A shares, with the text for a report.

    Wealth has to be in yuan.

    Parameters
    ----------
    dates : ndarray of shape (n_dates,) of datetime64
        Days of the backtest; a day may have several rows (T+1 binds between them).
    close : ndarray of shape (n_dates, n_assets)
        Raw closes in yuan, NaN where there is none: for lots and price limits.
    accounting : ndarray of shape (n_dates, n_assets), optional
        Total-return closes: they show the days with a dividend or a split, on which the price
        limit starts from another price than the close before, and give the volatility for impact.
    volume : ndarray of shape (n_dates, n_assets), optional
        Shares traded. Without it orders are neither limited by volume nor charged for impact.
    boards, special : ndarray, optional
        As for :func:`board_limits`: all on the main board and none special by default.
    lot, minimum : int and float, default=100 and 5.0
        Shares of a lot; least commission of an order, in yuan.
    participation, impact, rows
        As for :func:`us_market`.

    Examples
    --------
    >>> days = np.array(["2023-08-25", "2023-08-28"], dtype="datetime64[D]")
    >>> market = cn_market(days, close=np.array([[10.0], [11.0]]))
    >>> market.constraints.at_up_limit.ravel().tolist()
    [False, True]
    >>> [market.cost.charge(np.array([-1e6]), row).round(2).item() for row in (0, 1)]
    [2310.0, 1810.0]
    """
    if lot < 1 or lot != int(lot):
        raise ConfigError(f"lot is {lot!r}; give a whole number of shares")
    read, asked = _rows_read(rows, len(dates))
    close, volume, accounting, special = _cut(read, close, volume, accounting, special)
    close = np.asarray(close, dtype=np.float64)
    capacity, strength, volume_text = _volume_terms(
        close, volume, accounting, participation, impact, currency="CNY"
    )
    limits = board_limits(dates[read], close.shape[1], boards=boards, special=special)
    reference = None if accounting is None else reference_prices(close, accounting)
    at_up, at_down = price_limits(close, limits, reference=reference)
    del limits, reference
    days = np.asarray(dates[read]).astype("datetime64[D]").astype(np.int64)
    transfer = rates_on(costs.CN_TRANSFER_FEE, dates)
    slippage = rates_on(costs.ASSUMED_CN_SLIPPAGE, dates)
    buy, sell = (rates_on(tax, dates) for tax in (costs.CN_STAMP_TAX_BUY, costs.CN_STAMP_TAX_SELL))
    commission = rates_on(costs.ASSUMED_CN_COMMISSION, dates)
    text = (
        f"Commission {_range(commission)} a side, assumed, at least CNY {minimum:g} an order.",
        f"Stamp tax {_range(sell)} on sales and {_range(buy)} on buys, by its dates.",
        f"Transfer fee {_range(transfer)} a side.",
        f"Half the spread and slippage {_range(slippage)} a side, assumed.",
        *volume_text,
        f"Orders in whole lots of {lot} shares; odd shares are sold with the whole position.",
        "No buy at the upper price limit, no sale at the lower one.",
        "Limits: 10 %, on STAR and from 24 August 2020 on ChiNext 20 %, in Beijing 30 %"
        + (", for ST stocks of the 10 % boards 5 %." if special is not None else "; ST not known."),
        "Shares bought on a day are sold on a later one (T+1), which one trade a day cannot break.",
    )
    constraints = TradingConstraints(
        at_up_limit=at_up,
        at_down_limit=at_down,
        lot_value=close * lot,
        capacity=capacity,
        day=days,
    )
    fees = transfer + slippage
    commission, buy, sell = _cut(read, commission, fees + buy, fees + sell)
    cost = MarketCost(commission, buy, sell, minimum=minimum, impact=strength)
    return MarketRules(cost, constraints, text).between(asked)


def _rows_read(rows: slice | None, n_dates: int) -> tuple[slice, slice]:
    """The rows that the rules of some rows are made of, and where those lie among them."""
    start, stop, _ = (rows or slice(None)).indices(n_dates)
    # A volatility of returns, as known on the row before.
    first = max(0, start - max(ADV_WINDOW, VOLATILITY_WINDOW) - 1)
    return slice(first, stop), slice(start - first, stop - first)


def _cut(rows: slice, *arrays: Any) -> tuple[Any, ...]:
    """The rows of each array that there is."""
    return tuple(None if values is None else values[rows] for values in arrays)


def boards_of(tickers: StrArray) -> StrArray:
    """Boards of Chinese shares from their six-digit codes, as `cn_market` takes them.

    688 and 689 are "star", 300 to 302 "chinext"; 43, 82, 83, 87, 88 and 920, and any code with the
    mark of the Beijing Stock Exchange (.BJ, bj, .BSE), "beijing"; all others "main".

    Examples
    --------
    >>> boards_of(np.array(["sh600519", "300059.SZ", "sh688981", "835185.BJ"]))
    array(['main', 'chinext', 'star', 'beijing'], dtype='<U7')
    """
    return np.array([_board_of(str(ticker)) for ticker in tickers], dtype="<U7")


def _board_of(ticker: str) -> str:
    code = "".join(letter for letter in ticker if letter.isdigit())
    mark = "".join(letter for letter in ticker.lower() if letter.isalpha())
    growth = {"688": "star", "689": "star", "300": "chinext", "301": "chinext", "302": "chinext"}
    if mark in ("bj", "bse") or (len(code) == 6 and code.startswith(_BEIJING)):
        return "beijing"
    return growth.get(code[:3], "main")


def board_limits(
    dates: Dates,
    n_assets: int,
    *,
    boards: StrArray | None = None,
    special: BoolArray | None = None,
) -> FloatArray:
    """Price limit of every stock on every day, as a fraction, (n_dates, n_assets).

    Main board: 10 % from 16 December 1996, 5 % for ST from 1998. STAR: 20 % from its opening on 22
    July 2019. ChiNext: 20 % from 24 August 2020. Beijing: 30 % throughout, from the selected tier
    of 27 July 2020 on that became the exchange on 15 November 2021. `special` marks special
    treatment (ST, *ST): 5 % on the main board, and on ChiNext until its reform; no
    other limit than the board's on the growth boards after. `boards` are all "main" by default. The
    first days of a new listing, which have wider limits or none, are not known here: mark them as
    you need.
    """
    dates = np.asarray(dates)
    shape = (len(dates), n_assets)
    boards = np.full(n_assets, "main") if boards is None else np.asarray(boards)
    if boards.shape != (n_assets,) or not np.isin(boards, BOARDS).all():
        raise DataError(f"boards have shape {boards.shape}; give one of {BOARDS} for each stock")
    wide = (boards == "star") | ((dates >= CHINEXT_REFORM)[:, None] & (boards == "chinext"))
    beijing = np.broadcast_to(boards == "beijing", shape)
    limits = np.where(beijing, 0.3, np.where(wide, 0.2, 0.1))
    if special is not None:
        if np.shape(special) != shape or np.asarray(special).dtype != np.bool_:
            raise DataError(f"special has shape {np.shape(special)}; give bool of {shape}")
        limits[special & ~wide & ~beijing] = 0.05
    return limits


def _volume_terms(
    close: FloatArray | None,
    volume: FloatArray | None,
    accounting: FloatArray | None,
    participation: float,
    impact: float,
    *,
    currency: str,
) -> tuple[FloatArray | None, FloatArray | None, tuple[str, ...]]:
    """Largest orders, impact, and the words for both; None without volumes."""
    if not 0.0 < participation <= 1.0:
        raise ConfigError(f"participation is {participation!r}; give a share of volume in (0, 1]")
    if not 0.0 <= impact <= 10.0:
        raise ConfigError(f"impact is {impact!r}; give 0 to 10 (1 is usual)")
    if volume is None:
        return None, None, ("Any size of order, without market impact: no volumes were given.",)
    if close is None:
        raise DataError("a limit on volume needs the raw closes besides the volumes; give close")
    traded = np.asarray(volume, dtype=np.float64) * close
    capacity = traded * participation
    text = f"Orders up to {participation:.0%} of the day's traded value in {currency}, cut to it."
    if accounting is None or impact == 0.0:
        return capacity, None, (text, "No market impact.")
    returns = np.full(traded.shape, np.nan)
    np.divide(accounting[1:], accounting[:-1], out=returns[1:])
    returns -= 1.0
    usual = trailing_mean(traded, ADV_WINDOW, min_count=1)
    volatility = trailing_std(returns, VOLATILITY_WINDOW, min_count=2)
    # Both as known on the row before the order.
    strength = np.zeros(traded.shape)
    strength[1:] = square_root_impact(volatility[:-1], usual[:-1], coefficient=impact)
    capacity[0] = 0.0
    capacity[1:][~((usual[:-1] > 0.0) & (volatility[:-1] >= 0.0))] = 0.0
    words = (
        f"Market impact {impact:g} x daily volatility x square root of the order over the usual "
        f"traded value ({VOLATILITY_WINDOW} and {ADV_WINDOW} days before the order)."
    )
    return capacity, strength, (text, words)


def _range(rates: FloatArray) -> str:
    """Smallest and largest rate, in per cent."""
    low, high = 100.0 * float(rates.min()), 100.0 * float(rates.max())
    return f"{low:.4g} %" if low == high else f"{low:.4g} to {high:.4g} %"


@dataclass(frozen=True, slots=True, eq=False)
class TradingConstraints:
    """Which orders a market carries out; what is left out does not bind.

    Parameters
    ----------
    at_up_limit, at_down_limit : ndarray of shape (n_dates, n_assets) of bool, optional
        Closes at the price limits: no buy at the upper, no sale at the lower one. See
        :func:`price_limits`.
    lot_value : ndarray of shape (n_dates, n_assets), optional
        Price of one lot, in currency: the raw close times the shares of a lot. Orders are
        rounded towards zero to whole lots; a position that is given up is sold whole, odd shares
        with it. NaN where there is no price. Wealth has to be in the same currency.
    capacity : ndarray of shape (n_dates, n_assets), optional
        Largest order, in currency: the allowed share of the traded value. Larger orders are cut
        to it. NaN: nothing can be traded.
    day : ndarray of shape (n_dates,) of int, optional
        Trading day of each row: shares bought on a row cannot be sold on a later row of the same
        day (T+1). Rows of daily closes are a day each, so that this binds only where several
        rows share a day.
    """

    at_up_limit: BoolArray | None = None
    at_down_limit: BoolArray | None = None
    lot_value: FloatArray | None = None
    capacity: FloatArray | None = None
    day: IntArray | None = None

    def __post_init__(self) -> None:
        for name in ("at_up_limit", "at_down_limit"):
            value = getattr(self, name)
            if value is not None and np.asarray(value).dtype != np.bool_:
                raise DataError(f"{name} has type {np.asarray(value).dtype}; give bool")

    @property
    def binds(self) -> bool:
        """Whether any constraint is given."""
        return any(getattr(self, field.name) is not None for field in fields(self))

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse arrays of another shape than the prices, negative capacities and bad lots."""
        for field in fields(self):
            value = getattr(self, field.name)
            wanted = shape[:1] if field.name == "day" else shape
            if value is not None and np.shape(value) != wanted:
                raise DataError(
                    f"{field.name} of the market rules has shape {np.shape(value)}; give {wanted}"
                )
        if self.lot_value is not None and np.fmin.reduce(self.lot_value, axis=None) <= 0.0:
            row, column = np.argwhere(self.lot_value <= 0.0)[0]
            raise DataError(f"lot_value[{row}, {column}] is not positive; mark it missing with NaN")
        if self.capacity is not None and np.fmin.reduce(self.capacity, axis=None) < 0.0:
            row, column = np.argwhere(self.capacity < 0.0)[0]
            raise DataError(f"capacity[{row}, {column}] is negative; give the largest order")


@dataclass(frozen=True, slots=True, eq=False)
class Margin:
    """Leave to borrow: leverage and short positions, and what they cost.

    Parameters
    ----------
    max_gross : float, default=1.0
        Largest sum of absolute weights. Long-only with 1.0 never borrows.
    short : bool, default=False
        Whether weights may be negative.
    financing_rate : float, default=0.0
        Annual rate on negative cash, as a fraction, on top of what cash earns.
    borrow_rate : float or ndarray of shape (n_assets,), default=0.0
        Annual fee on the value of short positions, as a fraction.

    Notes
    -----
    Interest and fees accrue a 252nd part of the annual rate on every row that a debt is held,
    on its value after the trades of the row before. Proceeds of short sales lie in cash
    and earn nothing, whatever other cash earns.
    """

    max_gross: float = 1.0
    short: bool = False
    financing_rate: float = 0.0
    borrow_rate: float | FloatArray = 0.0

    def __post_init__(self) -> None:
        if not 1.0 <= self.max_gross <= 10.0:
            raise ConfigError(f"max_gross is {self.max_gross!r}; give 1.0 to 10.0 times wealth")
        for name in ("financing_rate", "borrow_rate"):
            rate = np.asarray(getattr(self, name))
            if not np.all((rate >= 0.0) & (rate <= 1.0)):
                raise ConfigError(
                    f"{name} is outside [0, 1]; give an annual fraction (3 % are 0.03)"
                )

    @property
    def default(self) -> bool:
        """Whether this is long-only without leverage."""
        return self.max_gross == 1.0 and not self.short

    @property
    def carries(self) -> bool:
        """Whether a debt may arise that costs something."""
        return not self.default and bool(
            np.any(self.financing_rate) or (self.short and np.any(self.borrow_rate))
        )


def price_limits(
    close: FloatArray, limit: FloatArray | float, *, reference: FloatArray | None = None
) -> tuple[BoolArray, BoolArray]:
    """Where a raw close stands at its upper and at its lower price limit, two masks.

    The limits are the reference times one plus or minus `limit` (a fraction, whole per cents; NaN:
    none), rounded half up to the cent, as the trading rules of the exchanges of Shanghai and
    Shenzhen say. Computed in whole cents, so that no rounding of a float moves a limit. The
    reference is the close of the row before by default; after a dividend or a split it is another
    one, see :func:`reference_prices`. False where a price is missing and, without `reference`, on
    row 0.
    """
    close = np.asarray(close, dtype=np.float64)
    limit = np.asarray(limit, dtype=np.float64)
    per_cent = np.rint(100.0 * limit)
    if np.nanmax(np.abs(per_cent - 100.0 * limit), initial=0.0) > 1e-9:
        raise DataError("a price limit is not a whole per cent; give fractions like 0.1 or 0.05")
    per_cent = np.broadcast_to(per_cent, close.shape)
    at_up, at_down = np.zeros(close.shape, np.bool_), np.zeros(close.shape, np.bool_)
    for start in range(0 if reference is not None else 1, len(close), BLOCK):
        rows = slice(start, min(start + BLOCK, len(close)))
        before = close[start - 1 : rows.stop - 1] if reference is None else reference[rows]
        cents, base, width = np.rint(100.0 * close[rows]), np.rint(100.0 * before), per_cent[rows]
        with np.errstate(invalid="ignore"):  # comparisons with NaN are False
            at_up[rows] = cents >= np.floor((base * (100.0 + width) + 50.0) / 100.0)
            at_down[rows] = cents <= np.floor((base * (100.0 - width) + 50.0) / 100.0)
    return at_up, at_down


def reference_prices(close: FloatArray, accounting: FloatArray) -> FloatArray:
    """Price from which the day's limits are measured, dividends and splits taken out.

    The raw close of the row before, or, where it and the total-return close (`accounting`) moved
    apart by more than 0.01 % (an ex-day), the raw price of today that would have been no change, to
    the cent.
    """
    close = np.asarray(close, dtype=np.float64)
    reference = np.full(close.shape, np.nan)
    for start in range(1, len(close), BLOCK):
        rows, before = (
            slice(start, start + BLOCK),
            slice(start - 1, min(start + BLOCK, len(close)) - 1),
        )
        last = close[before]
        unchanged = close[rows] * (accounting[before] / accounting[rows])
        with np.errstate(invalid="ignore"):
            ex = np.abs(unchanged - last) > 1e-4 * last
        reference[rows] = np.where(ex, np.floor(100.0 * unchanged + 0.5 + 1e-6) / 100.0, last)
    return reference
