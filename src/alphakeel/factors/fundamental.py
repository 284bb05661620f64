"""Factors of what a company earns, owns, pays and is worth.

Yields rather than multiples: earnings over price is continuous where earnings pass through zero,
and P/E is not. The panel's ratios are those public at the day's close.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.factors.arrays import PanelArrays
from alphakeel.factors.base import Factor
from alphakeel.factors.moments import Moments, positive
from alphakeel.stats.timeseries import lag

__all__ = ["FUNDAMENTAL_FACTORS"]

Array = NDArray[Any]

# A day's total return above its price return is taken for a dividend between these bounds:
# below is the rounding of adjusted prices, above is a split.
_SMALLEST_DIVIDEND = 0.001
_LARGEST_DIVIDEND = 0.15


def earnings_yield(arrays: PanelArrays) -> Array:
    """Earnings over price: the inverse of P/E."""
    return arrays["earnings_to_price"]


def book_yield(arrays: PanelArrays) -> Array:
    """Book value over price: the inverse of P/B."""
    return arrays["book_to_price"]


def earnings_yield_change_252(arrays: PanelArrays) -> Array:
    """Change of the earnings yield over 252 days."""
    return arrays["earnings_to_price"] - lag(arrays["earnings_to_price"], 252)


def book_yield_change_252(arrays: PanelArrays) -> Array:
    """Change of the book yield over 252 days."""
    return arrays["book_to_price"] - lag(arrays["book_to_price"], 252)


def return_on_equity(arrays: PanelArrays) -> Array:
    """Earnings over book value; NaN where book value is not above zero."""
    return arrays["earnings_to_price"] / positive(arrays["book_to_price"])


def size(arrays: PanelArrays) -> Array:
    """Log of the market capitalisation."""
    return np.log(positive(arrays["market_cap"]))


def dividend_yield_252(arrays: PanelArrays) -> Array:
    """Dividends of 252 days as the adjusted close shows them beside the raw close."""
    price_return = np.log(arrays["close"])
    price_return = price_return - lag(price_return, 1)
    paid = arrays.log_returns - price_return
    known = np.isfinite(paid)
    np.copyto(paid, 0.0, where=known & ~((paid > _SMALLEST_DIVIDEND) & (paid < _LARGEST_DIVIDEND)))
    yearly = Moments(paid, (252,))
    return yearly.total[252] + 0.0 * yearly.count[252]


_BASU = "Basu 1977, doi:10.1111/j.1540-6261.1977.tb01979.x"
_FAMA_FRENCH = "Fama & French 1992, doi:10.1111/j.1540-6261.1992.tb04398.x"
_EP = ("earnings_to_price",)
_BP = ("book_to_price",)

FUNDAMENTAL_FACTORS: tuple[Factor, ...] = (
    Factor("earnings_yield", "value", 1, _EP, earnings_yield, "E/P[t]", _BASU),
    Factor("book_yield", "value", 1, _BP, book_yield, "B/P[t]", _FAMA_FRENCH),
    Factor("earnings_yield_change_252", "value", 253, _EP, earnings_yield_change_252,
           "E/P[t] - E/P[t-252]", "practice"),
    Factor("book_yield_change_252", "value", 253, _BP, book_yield_change_252,
           "B/P[t] - B/P[t-252]", "Gerakos & Linnainmaa 2018, doi:10.1093/rfs/hhx101"),
    Factor("return_on_equity", "quality", 1, (*_EP, *_BP), return_on_equity,
           "E/P[t] / B/P[t]", "Haugen & Baker 1996, doi:10.1016/0304-405X(95)00868-F"),
    Factor("size", "size", 1, ("market_cap",), size, "log(market_cap[t])",
           "Banz 1981, doi:10.1016/0304-405X(81)90018-0"),
    Factor("dividend_yield_252", "value", 253, ("adj_close", "close"), dividend_yield_252,
           "sum(d, 252), d = r - log(close[t] / close[t-1]) where 0.001 < d < 0.15, else 0",
           "Litzenberger & Ramaswamy 1979, doi:10.1016/0304-405X(79)90012-6"),
)  # fmt: skip
