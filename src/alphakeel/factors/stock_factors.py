"""Factors of a stock's own prices, of its trading, and of what the company earns, owns and pays.

Volume is raw shares, so a split breaks its series; raw close times raw volume (dollar volume, in
the panel's currency) does not break, and every factor of trading is made of that.

Yields rather than multiples: earnings over price is continuous where earnings pass through zero,
and P/E is not. The panel's ratios are those public at the day's close.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.factors.arrays import Moments, PanelArrays, positive, required
from alphakeel.factors.base import Factor
from alphakeel.stats.rolling import (
    lag,
    skew_from_sums,
    trailing_max,
    trailing_sums,
    variance_from_sums,
)

__all__ = [
    "FUNDAMENTAL_FACTORS",
    "PRICE_FACTORS",
    "VOLUME_FACTORS",
]

Array = NDArray[Any]

_PARKINSON = 1.0 / (4.0 * math.log(2.0))

# A day's total return above its price return is taken for a dividend between these bounds:
# below is the rounding of adjusted prices, above is a split.
_SMALLEST_DIVIDEND = 0.001
_LARGEST_DIVIDEND = 0.15


def momentum_12_1(arrays: PanelArrays) -> Array:
    """Log return from 252 to 21 days ago."""
    return arrays.change(252, 21)


def momentum_6_1(arrays: PanelArrays) -> Array:
    """Log return from 126 to 21 days ago."""
    return arrays.change(126, 21)


def momentum_3_1(arrays: PanelArrays) -> Array:
    """Log return from 63 to 21 days ago."""
    return arrays.change(63, 21)


def reversal_5(arrays: PanelArrays) -> Array:
    """Minus the log return of 5 days."""
    return -arrays.change(5)


def reversal_21(arrays: PanelArrays) -> Array:
    """Minus the log return of 21 days."""
    return -arrays.change(21)


def volatility_20(arrays: PanelArrays) -> Array:
    """Standard deviation of 20 daily log returns, per day."""
    return arrays.returns.std(20)


def volatility_60(arrays: PanelArrays) -> Array:
    """Standard deviation of 60 daily log returns, per day."""
    return arrays.returns.std(60)


def volatility_252(arrays: PanelArrays) -> Array:
    """Standard deviation of 252 daily log returns, per day."""
    return arrays.returns.std(252)


def volatility_trend(arrays: PanelArrays) -> Array:
    """Log ratio of the 20-day to the 252-day volatility."""
    return np.log(arrays.returns.std(20) / positive(arrays.returns.std(252)))


def range_volatility_20(arrays: PanelArrays) -> Array:
    """Volatility from daily highs and lows, per day."""
    ranges = Moments(np.log(arrays["high"] / arrays["low"]), (20,))
    return np.sqrt(ranges.squares[20] / ranges.count[20] * _PARKINSON)


def skewness_60(arrays: PanelArrays) -> Array:
    """Skewness of 60 daily log returns."""
    r = arrays.returns
    return skew_from_sums(r.count[60], r.total[60], r.squares[60], r.cubes(60))


def max_return_21(arrays: PanelArrays) -> Array:
    """Largest daily log return of 21 days."""
    return trailing_max(arrays.log_returns, 21, min_count=required(21))


def distance_to_high_252(arrays: PanelArrays) -> Array:
    """Log of the price over its 252-day high, at most 0."""
    return arrays.log_price - trailing_max(arrays.log_price, 252, min_count=required(252))


def mean_gap_20(arrays: PanelArrays) -> Array:
    """Price over its 20-day mean, less 1."""
    return arrays["adj_close"] / arrays.prices.mean(20) - 1.0


def mean_gap_200(arrays: PanelArrays) -> Array:
    """Price over its 200-day mean, less 1."""
    return arrays["adj_close"] / arrays.prices.mean(200) - 1.0


def relative_strength_14(arrays: PanelArrays) -> Array:
    """Share of gains in the sum of 14 daily moves: 0 to 1."""
    r = arrays.returns
    enough = r.count[14] * 0.0
    return 0.5 + 0.5 * r.total[14] / positive(r.absolute[14]) + enough


def intraday_return_20(arrays: PanelArrays) -> Array:
    """Mean log return from open to close over 20 days."""
    return Moments(arrays.intraday_returns, (20,)).mean(20)


def overnight_return_20(arrays: PanelArrays) -> Array:
    """Mean log return from close to open over 20 days, dividends and splits undone."""
    return Moments(arrays.log_returns - arrays.intraday_returns, (20,)).mean(20)


def close_location_20(arrays: PanelArrays) -> Array:
    """Mean place of the close within the day's range over 20 days: -1 at the low, 1 at the high."""
    width = positive(arrays["high"] - arrays["low"])
    place = (2.0 * arrays["close"] - arrays["high"] - arrays["low"]) / width
    return Moments(place, (20,)).mean(20)


_JEGADEESH_TITMAN = "Jegadeesh & Titman 1993, doi:10.1111/j.1540-6261.1993.tb04702.x"
_ANG = "Ang, Hodrick, Xing & Zhang 2006, doi:10.1111/j.1540-6261.2006.00836.x"
_LOU = "Lou, Polk & Skouras 2019, doi:10.1016/j.jfineco.2019.03.011"
_P = ("adj_close",)

PRICE_FACTORS: tuple[Factor, ...] = (
    Factor("momentum_12_1", "momentum", 253, _P, momentum_12_1,
           "log(P[t-21] / P[t-252])", _JEGADEESH_TITMAN),
    Factor("momentum_6_1", "momentum", 127, _P, momentum_6_1,
           "log(P[t-21] / P[t-126])", _JEGADEESH_TITMAN),
    Factor("momentum_3_1", "momentum", 64, _P, momentum_3_1,
           "log(P[t-21] / P[t-63])", "practice"),
    Factor("reversal_5", "reversal", 6, _P, reversal_5,
           "-log(P[t] / P[t-5])", "Lehmann 1990, doi:10.2307/2937816"),
    Factor("reversal_21", "reversal", 22, _P, reversal_21,
           "-log(P[t] / P[t-21])", "Jegadeesh 1990, doi:10.1111/j.1540-6261.1990.tb05110.x"),
    Factor("volatility_20", "volatility", 21, _P, volatility_20, "std(r, 20)", _ANG),
    Factor("volatility_60", "volatility", 61, _P, volatility_60, "std(r, 60)", "practice"),
    Factor("volatility_252", "volatility", 253, _P, volatility_252, "std(r, 252)", "practice"),
    Factor("volatility_trend", "volatility", 253, _P, volatility_trend,
           "log(std(r, 20) / std(r, 252))", "practice"),
    Factor("range_volatility_20", "volatility", 20, ("high", "low"), range_volatility_20,
           "sqrt(mean(log(high / low)^2, 20) / (4 log 2))", "Parkinson 1980, doi:10.1086/296071"),
    Factor("skewness_60", "shape", 61, _P, skewness_60, "skewness(r, 60)",
           "Amaya, Christoffersen, Jacobs & Vasquez 2015, doi:10.1016/j.jfineco.2015.02.009"),
    Factor("max_return_21", "shape", 22, _P, max_return_21, "max(r, 21)",
           "Bali, Cakici & Whitelaw 2011, doi:10.1016/j.jfineco.2010.08.014"),
    Factor("distance_to_high_252", "trend", 252, _P, distance_to_high_252,
           "log(P[t] / max(P, 252))",
           "George & Hwang 2004, doi:10.1111/j.1540-6261.2004.00695.x"),
    Factor("mean_gap_20", "trend", 20, _P, mean_gap_20, "P[t] / mean(P, 20) - 1",
           "Brock, Lakonishok & LeBaron 1992, doi:10.1111/j.1540-6261.1992.tb04681.x"),
    Factor("mean_gap_200", "trend", 200, _P, mean_gap_200, "P[t] / mean(P, 200) - 1",
           "Brock, Lakonishok & LeBaron 1992, doi:10.1111/j.1540-6261.1992.tb04681.x"),
    Factor("relative_strength_14", "trend", 15, _P, relative_strength_14,
           "(1 + sum(r, 14) / sum(abs(r), 14)) / 2", "practice (Wilder's RSI with plain sums)"),
    Factor("intraday_return_20", "session", 20, ("open", "close"), intraday_return_20,
           "mean(log(close / open), 20)", _LOU),
    Factor("overnight_return_20", "session", 21, ("adj_close", "open", "close"),
           overnight_return_20, "mean(r - log(close / open), 20)", _LOU),
    Factor("close_location_20", "session", 20, ("high", "low", "close"), close_location_20,
           "mean((2 close - high - low) / (high - low), 20)", "practice (Chaikin)"),
)  # fmt: skip


def dollar_volume_20(arrays: PanelArrays) -> Array:
    """Log of the mean dollar volume of 20 days."""
    return np.log(positive(arrays.dollar_volumes.mean(20)))


def volume_surprise_20(arrays: PanelArrays) -> Array:
    """Log of the day's dollar volume over its 20-day mean."""
    return np.log(positive(arrays.dollar_volume) / arrays.dollar_volumes.mean(20))


def volume_trend_5_60(arrays: PanelArrays) -> Array:
    """Log of the 5-day over the 60-day mean dollar volume."""
    volumes = arrays.dollar_volumes
    return np.log(positive(volumes.mean(5)) / volumes.mean(60))


def volume_trend_20_252(arrays: PanelArrays) -> Array:
    """Log of the 20-day over the 252-day mean dollar volume."""
    volumes = arrays.dollar_volumes
    return np.log(positive(volumes.mean(20)) / volumes.mean(252))


def volume_variation_60(arrays: PanelArrays) -> Array:
    """Standard deviation of the dollar volume over its mean, 60 days."""
    return arrays.dollar_volumes.std(60) / positive(arrays.dollar_volumes.mean(60))


def turnover_20(arrays: PanelArrays) -> Array:
    """Mean share of the company traded per day, 20 days."""
    turnover = arrays.dollar_volume / positive(arrays["market_cap"])
    return Moments(turnover, (20,)).mean(20)


def illiquidity_60(arrays: PanelArrays) -> Array:
    """Log of the mean absolute return per unit of currency traded, 60 days."""
    impact = np.abs(arrays.log_returns) / positive(arrays.dollar_volume)
    return np.log(positive(Moments(impact, (60,)).mean(60)))


def signed_volume_20(arrays: PanelArrays) -> Array:
    """Share of dollar volume on rising days less that on falling days, 20 days: -1 to 1."""
    volume = Moments(arrays.dollar_volume, (20,), known=arrays.returns.known > 0.0)
    signed = trailing_sums(np.sign(arrays.returns.values) * volume.values, (20,))[20]
    return signed / positive(volume.total[20]) + 0.0 * volume.count[20]


def price_volume_correlation_20(arrays: PanelArrays) -> Array:
    """Correlation of daily log returns with log dollar volume, 20 days."""
    logs = np.log(positive(arrays.dollar_volume))
    volume = Moments(logs, (20,), known=arrays.returns.known > 0.0)
    returns = Moments(arrays.log_returns, (20,), known=volume.known > 0.0)
    n = volume.count[20]
    product = trailing_sums(volume.values * returns.values, (20,))[20]
    cross = product - volume.total[20] * returns.total[20] / n
    left, right = (
        variance_from_sums(n, m.total[20], m.squares[20], ddof=0) * n for m in (volume, returns)
    )
    return np.clip(cross / np.sqrt(positive(left) * positive(right)), -1.0, 1.0)


_V = ("close", "volume")
_DV = "DV = close * volume; "

VOLUME_FACTORS: tuple[Factor, ...] = (
    Factor("dollar_volume_20", "volume", 20, _V, dollar_volume_20,
           _DV + "log(mean(DV, 20))",
           "Brennan, Chordia & Subrahmanyam 1998, doi:10.1016/S0304-405X(98)00028-2"),
    Factor("volume_surprise_20", "volume", 20, _V, volume_surprise_20,
           _DV + "log(DV[t] / mean(DV, 20))",
           "Gervais, Kaniel & Mingelgrin 2001, doi:10.1111/0022-1082.00349"),
    Factor("volume_trend_5_60", "volume", 60, _V, volume_trend_5_60,
           _DV + "log(mean(DV, 5) / mean(DV, 60))", "practice"),
    Factor("volume_trend_20_252", "volume", 252, _V, volume_trend_20_252,
           _DV + "log(mean(DV, 20) / mean(DV, 252))", "practice"),
    Factor("volume_variation_60", "volume", 60, _V, volume_variation_60,
           _DV + "std(DV, 60) / mean(DV, 60)",
           "Chordia, Subrahmanyam & Anshuman 2001, doi:10.1016/S0304-405X(00)00080-5"),
    Factor("turnover_20", "volume", 20, (*_V, "market_cap"), turnover_20,
           _DV + "mean(DV / market_cap, 20)",
           "Datar, Naik & Radcliffe 1998, doi:10.1016/S1386-4181(97)00004-9"),
    Factor("illiquidity_60", "liquidity", 61, ("adj_close", *_V), illiquidity_60,
           _DV + "log(mean(abs(r) / DV, 60))",
           "Amihud 2002, doi:10.1016/S1386-4181(01)00024-6"),
    Factor("signed_volume_20", "volume", 21, ("adj_close", *_V), signed_volume_20,
           _DV + "sum(sign(r) DV, 20) / sum(DV, 20)", "practice (Granville's on-balance volume)"),
    Factor("price_volume_correlation_20", "volume", 21, ("adj_close", *_V),
           price_volume_correlation_20, _DV + "corr(r, log(DV), 20)", "practice"),
)  # fmt: skip


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


def net_margin(arrays: PanelArrays) -> Array:
    """Net income of the last four quarters over their revenue."""
    return arrays["net_margin"]


def gross_profitability(arrays: PanelArrays) -> Array:
    """Gross profit of the last four quarters over total assets."""
    return arrays["gross_profitability"]


def accruals(arrays: PanelArrays) -> Array:
    """Net income less operating cash flow of the last four quarters, over total assets."""
    return arrays["accruals"]


def leverage(arrays: PanelArrays) -> Array:
    """Liabilities over total assets."""
    return arrays["leverage"]


def earnings_growth(arrays: PanelArrays) -> Array:
    """Change of a year's net income from the year before, over book value."""
    return arrays["earnings_growth"]


def revenue_growth(arrays: PanelArrays) -> Array:
    """Growth of a year's revenue over the year before."""
    return arrays["revenue_growth"]


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
    Factor("net_margin", "quality", 1, ("net_margin",), net_margin,
           "net income / revenue, trailing year, as filed up to t - 1",
           "Soliman 2008, doi:10.2308/accr.2008.83.3.823"),
    Factor("gross_profitability", "quality", 1, ("gross_profitability",), gross_profitability,
           "gross profit / assets, as filed up to t - 1",
           "Novy-Marx 2013, doi:10.1016/j.jfineco.2013.01.003"),
    Factor("accruals", "quality", 1, ("accruals",), accruals,
           "(net income - operating cash flow) / assets, as filed up to t - 1",
           "Sloan 1996, The Accounting Review 71(3)"),
    Factor("leverage", "quality", 1, ("leverage",), leverage,
           "liabilities / assets, as filed up to t - 1",
           "Bhandari 1988, doi:10.1111/j.1540-6261.1988.tb03952.x"),
    Factor("earnings_growth", "growth", 1, ("earnings_growth",), earnings_growth,
           "(net income - net income a year ago) / book value, as filed up to t - 1",
           "Foster, Olsen & Shevlin 1984, The Accounting Review 59(4)"),
    Factor("revenue_growth", "growth", 1, ("revenue_growth",), revenue_growth,
           "revenue / revenue a year ago - 1, as filed up to t - 1",
           "Lakonishok, Shleifer & Vishny 1994, doi:10.1111/j.1540-6261.1994.tb04772.x"),
    Factor("size", "size", 1, ("market_cap",), size, "log(market_cap[t])",
           "Banz 1981, doi:10.1016/0304-405X(81)90018-0"),
    Factor("dividend_yield_252", "value", 253, ("adj_close", "close"), dividend_yield_252,
           "sum(d, 252), d = r - log(close[t] / close[t-1]) where 0.001 < d < 0.15, else 0",
           "Litzenberger & Ramaswamy 1979, doi:10.1016/0304-405X(79)90012-6"),
)  # fmt: skip
