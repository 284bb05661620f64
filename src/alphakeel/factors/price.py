"""Factors of a stock's own prices: momentum, reversal, trend, volatility, shape of returns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.factors.arrays import PanelArrays
from alphakeel.factors.base import Factor
from alphakeel.factors.moments import Moments, positive, required
from alphakeel.stats.doubling import skew_from_sums
from alphakeel.stats.timeseries import trailing_max

__all__ = ["PRICE_FACTORS"]

Array = NDArray[Any]

_PARKINSON = 1.0 / (4.0 * math.log(2.0))


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
