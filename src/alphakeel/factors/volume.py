"""Factors of trading: how much, how it changes, and how far prices move for it.

Volume is raw shares, so a split breaks its series; raw close times raw volume (dollar volume, in
the panel's currency) does not break, and everything here is made of that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.factors.arrays import PanelArrays
from alphakeel.factors.base import Factor
from alphakeel.factors.moments import Moments, positive
from alphakeel.stats.doubling import trailing_sums, variance_from_sums

__all__ = ["VOLUME_FACTORS"]

Array = NDArray[Any]


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
