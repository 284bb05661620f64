"""What a market and a broker allow: price limits, lots, volume, same-day sales, margin.

Every array has time on axis 0 and stocks on axis 1, the rows of the backtest. A row is about the
close at which an order of that row is filled, so nothing here reads a later row.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError, DataError

__all__ = ["Margin", "MarketRules", "price_limits", "reference_prices"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

BLOCK = 64


@dataclass(frozen=True, slots=True, eq=False)
class MarketRules:
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

    Raises
    ------
    DataError
        If an array has the wrong type.

    Examples
    --------
    >>> rules = MarketRules(lot_value=100.0 * np.array([[9.87, 25.0], [9.90, np.nan]]))
    >>> rules.binds
    True
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
        """Whether any rule is given."""
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
        Annual rate on negative cash, as a fraction.
    borrow_rate : float or ndarray of shape (n_assets,), default=0.0
        Annual fee on the value of short positions, as a fraction.

    Raises
    ------
    ConfigError
        If a number is out of range.

    Notes
    -----
    Interest and fees accrue a 252nd part of the annual rate on every row that a debt is held,
    on its value after the trades of the row before. Proceeds of short sales lie in cash
    and earn nothing.

    Examples
    --------
    >>> Margin(max_gross=2.0, short=True, borrow_rate=0.01).carries
    True
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
        """Whether this is the long-only book without leverage."""
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
    """Where a close stands at its upper and at its lower price limit.

    Parameters
    ----------
    close : ndarray of shape (n_dates, n_assets)
        Raw closes, as quoted; NaN where there is none.
    limit : float or ndarray that broadcasts to (n_dates, n_assets)
        Allowed move from the reference, as a fraction (0.1 is 10 %); whole per cents. NaN: none.
    reference : ndarray of shape (n_dates, n_assets), optional
        Price from which the move is measured; the close of the row before by default. On days
        with a dividend or a split it is another one: see :func:`reference_prices`.

    Returns
    -------
    at_up, at_down : ndarray of shape (n_dates, n_assets) of bool
        False where a price is missing and, without `reference`, on row 0.

    Notes
    -----
    The limits are the reference times one plus or minus `limit`, rounded half up to the cent, as
    the rules of the exchanges of Shanghai and Shenzhen say (trading rules, chapter on price
    limits). Computed in whole cents, so that no rounding of a float moves a limit.

    Examples
    --------
    >>> up, down = price_limits(np.array([[10.05, 10.05], [11.06, 9.05]]), 0.1)
    >>> up[1].tolist(), down[1].tolist()
    ([True, False], [False, True])
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

    Parameters
    ----------
    close, accounting : ndarray of shape (n_dates, n_assets)
        Raw closes and total-return closes of the same days; NaN where there is none.

    Returns
    -------
    ndarray of shape (n_dates, n_assets)
        The raw close of the row before, or, where the two prices moved apart by more than 0.01 %
        (an ex-day), the raw price of today that would have been no change, to the cent.

    Examples
    --------
    >>> reference_prices(np.array([[10.0], [5.2]]), np.array([[10.0], [10.4]]))[1]
    array([5.])
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
