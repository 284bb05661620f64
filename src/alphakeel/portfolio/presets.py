"""Costs and rules of a whole market at once, by date: the United States and China.

A preset takes the dates and whatever arrays there are, and says in words what it charges and
forbids, so that a report can print it. Every array is about rows up to its own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError, DataError
from alphakeel.portfolio import schedules
from alphakeel.portfolio.costs import MarketCost, square_root_impact
from alphakeel.portfolio.rules import MarketRules, price_limits, reference_prices
from alphakeel.portfolio.schedules import rates_on
from alphakeel.stats.timeseries import trailing_mean, trailing_std

__all__ = ["boards_of", "Market", "board_limits", "cn_market", "us_market"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
StrArray = npt.NDArray[np.str_]
Dates = npt.NDArray[np.datetime64]

ADV_WINDOW, VOLATILITY_WINDOW = 20, 60
CN_LOT, CN_MINIMUM = 100, 5.0
BOARDS = ("main", "chinext", "star")
CHINEXT_REFORM = np.datetime64("2020-08-24")


@dataclass(frozen=True, slots=True, eq=False)
class Market:
    """A cost model and rules that belong together; `text` says what they are.

    Attributes
    ----------
    cost : MarketCost
        For the argument `cost` of the backtest.
    rules : MarketRules
        For its argument `rules`.
    text : tuple of str
        One sentence a rule, with its source or the word "assumed".
    """

    cost: MarketCost
    rules: MarketRules
    text: tuple[str, ...]

    def between(self, rows: slice) -> Market:
        """The same market on some rows only: build it on all history, then cut to the test."""

        def cut(whole: MarketCost | MarketRules) -> dict[str, Any]:
            values = {field.name: getattr(whole, field.name) for field in fields(whole)}
            return {k: v[rows] for k, v in values.items() if isinstance(v, np.ndarray)}

        cost, rules = replace(self.cost, **cut(self.cost)), replace(self.rules, **cut(self.rules))
        return Market(cost, rules, self.text)


def us_market(
    dates: Dates,
    *,
    close: FloatArray | None = None,
    volume: FloatArray | None = None,
    accounting: FloatArray | None = None,
    participation: float = 0.1,
    impact: float = 1.0,
) -> Market:
    """Costs and rules of US stocks.

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

    Returns
    -------
    Market
        Dated costs, the volume limit, and the text for a report.

    Raises
    ------
    ConfigError
        If `participation` or `impact` is out of range.
    DataError
        If arrays that are needed together are not all given.

    Examples
    --------
    >>> days = np.array(["2015-06-01", "2020-06-01"], dtype="datetime64[D]")
    >>> market = us_market(days)
    >>> market.cost.charge(np.array([1e6, -1e6]), row=0).round(2)
    array([450. , 468.4])
    >>> market.cost.charge(np.array([1e6, -1e6]), row=1).round(2)
    array([300. , 322.1])
    """
    capacity, strength, volume_text = _volume_terms(
        close, volume, accounting, participation, impact, currency="USD"
    )
    slippage = rates_on(schedules.ASSUMED_US_SLIPPAGE, dates)
    fee = rates_on(schedules.US_SECTION_31, dates)
    commission = rates_on(schedules.ASSUMED_US_COMMISSION, dates)
    text = (
        f"Commission {_range(commission)} a side, assumed, none from 7 October 2019.",
        f"Fee of the SEC (Section 31) on sales, {_range(fee)} by its advisories.",
        f"Half the spread and slippage {_range(slippage)} a side, assumed for large companies.",
        *volume_text,
        "Single shares, no price limits, sale on the day of purchase allowed.",
    )
    cost = MarketCost(commission, slippage, slippage + fee, impact=strength)
    return Market(cost, MarketRules(capacity=capacity), text)


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
) -> Market:
    """Costs and rules of Chinese A shares.

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
    lot : int, default=100
        Shares of a lot.
    minimum : float, default=5.0
        Least commission of an order, in yuan.
    participation : float, default=0.1
        Largest order, as a share of the day's traded value.
    impact : float, default=1.0
        Coefficient of the square-root law; 0 for none.

    Returns
    -------
    Market
        Dated costs, rules, and the text for a report. Wealth has to be in yuan.

    Raises
    ------
    ConfigError, DataError
        If a number is out of range or an array does not fit.

    Examples
    --------
    >>> days = np.array(["2023-08-25", "2023-08-28"], dtype="datetime64[D]")
    >>> market = cn_market(days, close=np.array([[10.0], [11.0]]))
    >>> market.rules.at_up_limit.ravel().tolist()
    [False, True]
    >>> [market.cost.charge(np.array([-1e6]), row).round(2).item() for row in (0, 1)]
    [2310.0, 1810.0]
    """
    if lot < 1 or lot != int(lot):
        raise ConfigError(f"lot is {lot!r}; give a whole number of shares")
    close = np.asarray(close, dtype=np.float64)
    capacity, strength, volume_text = _volume_terms(
        close, volume, accounting, participation, impact, currency="CNY"
    )
    limits = board_limits(dates, close.shape[1], boards=boards, special=special)
    reference = None if accounting is None else reference_prices(close, accounting)
    at_up, at_down = price_limits(close, limits, reference=reference)
    days = np.asarray(dates).astype("datetime64[D]").astype(np.int64)
    transfer = rates_on(schedules.CN_TRANSFER_FEE, dates)
    slippage = rates_on(schedules.ASSUMED_CN_SLIPPAGE, dates)
    buy, sell = (
        rates_on(tax, dates) for tax in (schedules.CN_STAMP_TAX_BUY, schedules.CN_STAMP_TAX_SELL)
    )
    commission = rates_on(schedules.ASSUMED_CN_COMMISSION, dates)
    text = (
        f"Commission {_range(commission)} a side, assumed, at least CNY {minimum:g} an order.",
        f"Stamp tax {_range(sell)} on sales and {_range(buy)} on buys, by its dates.",
        f"Transfer fee {_range(transfer)} a side.",
        f"Half the spread and slippage {_range(slippage)} a side, assumed.",
        *volume_text,
        f"Orders in whole lots of {lot} shares; odd shares are sold with the whole position.",
        "No buy at the upper price limit, no sale at the lower one.",
        "Limits: 10 %, on STAR and from 24 August 2020 on ChiNext 20 %"
        + (", for ST stocks of the 10 % boards 5 %." if special is not None else "; ST not known."),
        "Shares bought on a day are sold on a later one (T+1), which one trade a day cannot break.",
    )
    rules = MarketRules(
        at_up_limit=at_up,
        at_down_limit=at_down,
        lot_value=close * lot,
        capacity=capacity,
        day=days,
    )
    fees = transfer + slippage
    cost = MarketCost(commission, fees + buy, fees + sell, minimum=minimum, impact=strength)
    return Market(cost, rules, text)


def boards_of(tickers: StrArray) -> StrArray:
    """Tell the board of a Chinese share from its code: 688 and 689 STAR, 300 to 302 ChiNext.

    Parameters
    ----------
    tickers : ndarray of shape (n_assets,) of str
        Six digits, with or without the exchange before or after them (``sz300059``,
        ``300059.SZ``).

    Returns
    -------
    ndarray of shape (n_assets,) of str
        "main", "chinext" or "star", as `cn_market` takes them.

    Examples
    --------
    >>> boards_of(np.array(["sh600519", "300059.SZ", "sh688981"]))
    array(['main', 'chinext', 'star'], dtype='<U7')
    """
    codes = ["".join(c for c in str(ticker) if c.isdigit()) for ticker in tickers]
    growth = {"688": "star", "689": "star", "300": "chinext", "301": "chinext", "302": "chinext"}
    return np.array([growth.get(code[:3], "main") for code in codes], dtype="<U7")


def board_limits(
    dates: Dates,
    n_assets: int,
    *,
    boards: StrArray | None = None,
    special: BoolArray | None = None,
) -> FloatArray:
    """Price limit of every stock on every day, as a fraction.

    Parameters
    ----------
    dates : ndarray of shape (n_dates,) of datetime64
        Days.
    n_assets : int
        Stocks.
    boards : ndarray of shape (n_assets,) of str, optional
        "main", "chinext" or "star"; all "main" by default.
    special : ndarray of shape (n_dates, n_assets) of bool, optional
        Where a stock is under special treatment (ST, *ST): 5 % on the main board, and on ChiNext
        until its reform; no other limit than the board's on the growth boards after.

    Returns
    -------
    ndarray of shape (n_dates, n_assets)
        0.1, 0.2 or 0.05.

    Notes
    -----
    Main board: 10 % from 16 December 1996, 5 % for ST from 1998. STAR: 20 % from its opening on 22
    July 2019. ChiNext: 20 % from 24 August 2020. The first days of a new listing, which have
    wider limits or none, are not known here: mark them as you need.

    Examples
    --------
    >>> days = np.array(["2020-08-21", "2020-08-24"], dtype="datetime64[D]")
    >>> board_limits(days, 2, boards=np.array(["main", "chinext"])).tolist()
    [[0.1, 0.1], [0.1, 0.2]]
    """
    dates = np.asarray(dates)
    shape = (len(dates), n_assets)
    boards = np.full(n_assets, "main") if boards is None else np.asarray(boards)
    if boards.shape != (n_assets,) or not np.isin(boards, BOARDS).all():
        raise DataError(f"boards have shape {boards.shape}; give one of {BOARDS} for each stock")
    wide = (boards == "star") | ((dates >= CHINEXT_REFORM)[:, None] & (boards == "chinext"))
    limits = np.where(wide, 0.2, 0.1)
    if special is not None:
        if np.shape(special) != shape or np.asarray(special).dtype != np.bool_:
            raise DataError(f"special has shape {np.shape(special)}; give bool of {shape}")
        limits[special & ~wide] = 0.05
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
