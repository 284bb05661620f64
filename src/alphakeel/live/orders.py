"""From holdings to target weights: orders in whole shares or lots, within the cash there is.

Orders are never sent anywhere: they are a table, and files in the columns that brokers document.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.errors import ConfigError, DataError
from alphakeel.files import regular_file

__all__ = [
    "Account",
    "OrderTerms",
    "alpaca_basket",
    "ib_basket",
    "order_shares",
    "read_account",
    "shares_of",
    "split_notes",
]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

IB_COLUMNS = (
    *("Action", "Quantity", "Symbol", "SecType", "Exchange", "Currency", "TimeInForce"),
    *("OrderType", "BasketTag"),
)
CASH_ROWS = ("cash", "$cash")
_TICKER, _SHARES = ("ticker", "symbol", "code"), ("shares", "quantity", "qty", "position")
# Shares after a split for each before: less may be a large dividend.
LEAST_SPLIT = 1.2
# Shares that differ from a whole number by less are whole: a file may have rounded.
_WHOLE = 1e-6


@dataclass(frozen=True)
class Account:
    """What is held: shares by ticker, and cash; `cash` None where nobody has said."""

    shares: Mapping[str, float] = field(default_factory=dict)
    cash: float | None = None


@dataclass(frozen=True)
class OrderTerms:
    """How orders are made.

    Attributes
    ----------
    lot : int
        Shares of a lot; orders are whole lots, and odd shares are sold with the whole position.
    fractional : bool, default=False
        Any share of a share may be traded; the lot does not count then.
    min_trade : float, default=0.0
        Orders of a smaller value are left out, in currency.
    keep_cash : float, default=0.0
        Cash that is not invested, in currency.
    borrow : float, default=0.0
        Cash that may be borrowed, as a share of wealth.
    short : bool, default=False
        Whether shares may be sold that are not held.
    """

    lot: int = 1
    fractional: bool = False
    min_trade: float = 0.0
    keep_cash: float = 0.0
    borrow: float = 0.0
    short: bool = False

    def __post_init__(self) -> None:
        for name in ("min_trade", "keep_cash"):
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                raise ConfigError(f"{name} is {value!r}; give an amount of currency, at least 0.")
        if self.fractional and self.lot > 1:
            raise ConfigError(
                f"this market trades in lots of {self.lot} shares: fractional shares are not "
                "possible there; leave --fractional out."
            )


def read_account(path: str | Path) -> Account:
    """Read holdings from a CSV file: a column of tickers and one of shares.

    The columns are ``ticker`` (or ``symbol``) and ``shares`` (or ``quantity``), others are
    ignored; a row with the ticker ``CASH`` gives the cash.

    Raises
    ------
    DataError
        If the file cannot be read, a column is missing, a number is none, or a ticker occurs
        twice; names the row.
    """
    place = Path(path)
    try:
        text = regular_file(place).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {place}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{place} is no text in UTF-8: {error.reason}.") from error
    rows = list(csv.reader(io.StringIO(text)))
    heads = [head.strip().casefold() for head in rows[0]] if rows else []
    columns = [next((n for n in names if n in heads), None) for names in (_TICKER, _SHARES)]
    if None in columns:
        raise DataError(
            f"{place} needs a column `ticker` and a column `shares` in its first row; it has "
            f"{', '.join(heads) or 'nothing'}."
        )
    name_at, shares_at = (heads.index(str(name)) for name in columns)
    shares: dict[str, float] = {}
    cash = None
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(name_at, shares_at):
            raise DataError(f"{place}, row {number}: it has {len(row)} of {len(heads)} cells.")
        ticker, text = row[name_at].strip(), row[shares_at].strip()
        value = _number(text, f"{place}, row {number}, {ticker or 'no ticker'}")
        if ticker.casefold() in CASH_ROWS:
            cash = value
        elif not ticker or ticker in shares:
            why = "twice in the file" if ticker else "without a ticker"
            raise DataError(f"{place}, row {number}: {ticker or 'a holding'} is {why}.")
        else:
            shares[ticker] = value
    return Account(shares, cash)


def _number(text: str, where: str) -> float:
    try:
        value = float(text.replace(",", "").replace("_", "") if text.count(".") <= 1 else text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: {text!r} is no number of shares.")
    return value


def shares_of(account: Account, assets: Sequence[str], terms: OrderTerms) -> Floats:
    """Shares held by stock, (n_assets,); what cannot be is refused, by ticker.

    Raises
    ------
    DataError
        If a ticker is not in the data, or shares are negative or no whole number where the terms do
        not allow it.
    """
    place = {name: k for k, name in enumerate(assets)}
    held = np.zeros(len(assets))
    for ticker, shares in account.shares.items():
        if ticker not in place:
            near = difflib.get_close_matches(ticker, place, 1)
            raise DataError(
                f"the holdings have {shares:g} shares of {ticker}, which the data do not have"
                + (f"; did you mean {near[0]}?" if near else ".")
                + " Leave out what the strategy is not about."
            )
        if shares < 0.0 and not terms.short:
            raise DataError(
                f"the holdings have {shares:g} shares of {ticker}, and this run sells nothing "
                "short: give at least 0."
            )
        if not terms.fractional and abs(shares - round(shares)) > _WHOLE:
            raise DataError(
                f"the holdings have {shares:g} shares of {ticker}, no whole number; add "
                "--fractional to trade fractions of a share."
            )
        held[place[ticker]] = shares if terms.fractional else round(shares)
    if account.cash is not None and account.cash < 0.0 and terms.borrow == 0.0:
        raise DataError(
            f"the cash is {account.cash:,.2f}, and this run borrows nothing: give at least 0."
        )
    return held


def split_notes(
    shares: Floats,
    close: Floats,
    adjusted: Floats,
    dates: npt.NDArray[np.datetime64],
    assets: Sequence[str],
) -> tuple[str, ...]:
    """A sentence for each stock held whose shares were split or joined on one of some days.

    Closes as traded and adjusted, (n_dates, n_assets): their ratio jumps on the day of a split.
    Dividends move it less than `LEAST_SPLIT`, and are in the cash of the account.

    Examples
    --------
    >>> days = np.arange("2014-06-06", "2014-06-09", dtype="datetime64[D]")
    >>> traded, adjusted = np.array([[644.0], [93.0], [94.0]]), np.array([[92.0], [93.0], [94.0]])
    >>> split_notes(np.array([70.0]), traded, adjusted, days, ["AAPL"])[0][:45]
    'The shares of AAPL were split 7:1 on 2014-06-'
    """
    notes = []
    for column in np.flatnonzero(shares).tolist():
        factor = close[:, column] / adjusted[:, column]
        known = np.flatnonzero(np.isfinite(factor) & (factor > 0.0))
        ratios = factor[known[:-1]] / factor[known[1:]]
        for row, ratio in zip(known[1:], ratios, strict=True):
            if 1.0 / LEAST_SPLIT < ratio < LEAST_SPLIT:
                continue
            split = ratio > 1.0
            text = f"split {ratio:.4g}:1" if split else f"joined 1:{1.0 / ratio:.4g}"
            notes.append(
                f"The shares of {assets[column]} were {text} on {dates[row]}: the holdings have to "
                "give them as they are since then."
            )
    return tuple(notes)


def order_shares(
    weights: Floats,
    held: Floats,
    price: Floats,
    cash: float,
    *,
    terms: OrderTerms,
    charge: Callable[[Floats], Floats],
    tradable: Bools,
) -> Floats:
    """Shares to buy (positive) and to sell (negative) of every stock, (n_assets,).

    Orders lead from `held` towards `weights` of the wealth that is left after their cost and
    `keep_cash`, rounded towards zero to whole lots; a position that is given up is sold whole.
    Where cash falls short (a stock cannot be sold, a sale was rounded) all buys are made smaller by
    one factor, as in the backtest.

    Parameters
    ----------
    weights : ndarray of shape (n_assets,)
        Target weights, the rest is cash.
    held, price : ndarray of shape (n_assets,)
        Shares, and the price of one; a price may be NaN where nothing is held or wanted.
    cash : float
    terms : OrderTerms
    charge : callable
        Cost of orders of given values, in currency, (n_assets,).
    tradable : ndarray of shape (n_assets,) of bool
        Stocks that can be traded: others get no order.

    Raises
    ------
    DataError
        If there is less cash than is to be kept.

    Examples
    --------
    >>> order_shares(
    ...     np.array([0.5, 0.5]),
    ...     np.array([10.0, 0.0]),
    ...     np.array([30.0, 7.0]),
    ...     700.0,
    ...     terms=OrderTerms(),
    ...     charge=np.zeros_like,
    ...     tradable=np.array([True, True]),
    ... )
    array([ 6., 71.])
    """
    known = np.where(np.isfinite(price), price, 0.0)
    wealth = float(cash + held @ known)
    if terms.keep_cash > max(wealth, 0.0):
        raise DataError(
            f"the cash to keep is {terms.keep_cash:,.2f}, and the account is worth only "
            f"{wealth:,.2f}: keep less."
        )
    free = tradable & (known > 0.0)
    cost = 0.0
    for _ in range(4):  # the cost of the orders moves their size, and less each time
        target = weights * max(wealth - terms.keep_cash - cost, 0.0)
        exact = np.where(free, np.divide(target, known, out=np.zeros_like(target), where=free), 0.0)
        wanted = np.where(free, exact - held, 0.0)
        cost = float(charge(wanted * known).sum())
    orders = _rounded(wanted, held, weights, terms)
    orders[np.abs(orders * known) < terms.min_trade] = 0.0
    return _within_cash(orders, held, weights, known, cash, wealth, terms, charge)


def _rounded(wanted: Floats, held: Floats, weights: Floats, terms: OrderTerms) -> Floats:
    """Orders in whole lots, towards zero; whole positions are sold with their odd shares."""
    if terms.fractional:
        return np.where(weights == 0.0, np.where(wanted != 0.0, -held, 0.0), wanted)
    lots = np.trunc(wanted / terms.lot + np.sign(wanted) * 1e-9) * terms.lot
    given_up = (weights == 0.0) & (wanted != 0.0)
    return np.where(given_up, -held, lots) + 0.0


def _within_cash(
    orders: Floats,
    held: Floats,
    weights: Floats,
    price: Floats,
    cash: float,
    wealth: float,
    terms: OrderTerms,
    charge: Callable[[Floats], Floats],
) -> Floats:
    """The orders, their buys made smaller until they can be paid."""
    if terms.short:
        return orders  # proceeds of shorts are cash: gross exposure is what is limited
    spare = terms.borrow * wealth
    full = orders.copy()
    fill = 1.0
    for _ in range(60):
        value = orders * price
        left = cash - float(value.sum()) - float(charge(value).sum()) - terms.keep_cash
        buys = float(value[value > 0.0].sum())
        if left >= -spare - 1e-9 * max(wealth, 1.0) or buys == 0.0:
            return orders
        fill *= max(0.0, 1.0 - (-left - spare) / buys) * (1.0 - 1e-12)
        smaller = _rounded(np.where(full > 0.0, full * fill, full), held, weights, terms)
        orders = np.where(full > 0.0, smaller, full)
    return np.where(full > 0.0, 0.0, full)


def ib_basket(orders: pd.DataFrame, tag: str, currency: str = "USD") -> str:
    """Orders as a basket file of Interactive Brokers' TWS BasketTrader: market on close.

    Columns: https://www.ibkrguides.com/traderworkstation/basket-fields.htm (read in 2026).
    """
    return _csv(
        IB_COLUMNS,
        [
            [side.upper(), _plain(n), ticker, "STK", "SMART", currency, "DAY", "MOC", tag]
            for ticker, side, n in _rows(orders)
        ],
    )


def alpaca_basket(orders: pd.DataFrame, tag: str) -> str:
    """Orders in the fields of Alpaca's order request: market orders on the close.

    Fields: https://docs.alpaca.markets/docs/working-with-orders (read in 2026). Alpaca takes
    fractions of a share for the time in force ``day`` only, so these are written with it.
    """
    rows = []
    for ticker, side, n in _rows(orders):
        when = "cls" if n == int(n) else "day"
        name = f"{tag}-{ticker}"[:48]
        rows.append([ticker, _plain(n), side, "market", when, name])
    return _csv(["symbol", "qty", "side", "type", "time_in_force", "client_order_id"], rows)


def _rows(orders: pd.DataFrame) -> list[tuple[str, str, float]]:
    sent = orders[orders["shares"] > 0.0]
    return list(zip(sent["ticker"], sent["side"], sent["shares"].map(float), strict=True))


def _plain(n: float) -> str:
    return str(int(n)) if n == int(n) else f"{n:.6f}".rstrip("0")


def _csv(head: Sequence[str], rows: list[list[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return out.getvalue()
