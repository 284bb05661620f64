"""Factors of a stock beside its market and its industry, and the state of the market itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphakeel.factors.arrays import CrossSection, PanelArrays, positive, required
from alphakeel.factors.base import Factor
from alphakeel.stats.rolling import (
    trailing_mean,
    trailing_std,
    trailing_sum,
    trailing_sums,
    variance_from_sums,
)

__all__ = ["MARKET_FACTORS"]

Array = NDArray[Any]

# A downside beta from fewer falling days than this (of about 115 in 252) is noise.
_MIN_DOWN_DAYS = 50.0


def beta_252(arrays: PanelArrays) -> Array:
    """Slope of the stock's daily log returns on the market's, 252 days."""
    return arrays.with_index.slope[252]


def market_correlation_252(arrays: PanelArrays) -> Array:
    """Correlation of the stock's daily log returns with the market's, 252 days."""
    joint = arrays.with_index
    scale = np.sqrt(positive(joint.index_squares[252]) * positive(joint.stock_squares[252]))
    return np.clip(joint.cross(252) / scale, -1.0, 1.0)


def downside_beta_252(arrays: PanelArrays) -> Array:
    """Slope on the market over the days on which it fell, 252 days."""
    joint = arrays.with_index
    down = (joint.a.values < 0.0).astype(np.float64)
    a, b = joint.a.values * down, joint.b.values * down
    n, sa, sb, saa, sab = (
        trailing_sums(x, (252,))[252] for x in (down * joint.b.known, a, b, a * a, a * b)
    )
    np.copyto(n, np.nan, where=n < _MIN_DOWN_DAYS)
    n += 0.0 * joint.b.count[252]
    spread = variance_from_sums(n, sa, saa, ddof=0) * n
    return (sab - sa * sb / n) / positive(spread)


def residual_volatility_60(arrays: PanelArrays) -> Array:
    """Standard deviation of what a regression on the market leaves, 60 days, per day."""
    joint = arrays.with_index
    return np.sqrt(joint.residual_squares[60] / (joint.b.count[60] - 2.0))


def residual_skewness_252(arrays: PanelArrays) -> Array:
    """Skewness of what a regression on the market leaves, 252 days."""
    joint = arrays.with_index
    beta, n = joint.slope[252], joint.b.count[252]
    bbb, bba, baa, aaa = joint.third
    third = (bbb - beta * (3.0 * bba - beta * (3.0 * baa - beta * aaa))) / n
    spread = positive(joint.residual_squares[252] / n)
    return third / (spread * np.sqrt(spread))


def coskewness_252(arrays: PanelArrays) -> Array:
    """Standardised covariance of the residual with the market's squared deviation, 252 days."""
    joint = arrays.with_index
    beta, n = joint.slope[252], joint.b.count[252]
    _, _, baa, aaa = joint.third
    spread = np.sqrt(positive(joint.residual_squares[252] / n))
    return (baa - beta * aaa) / (spread * positive(joint.index_squares[252]))


def industry_return_1(arrays: PanelArrays) -> Array:
    """Day's return of the sector's other stocks."""
    return arrays.industry_returns


def industry_return_20(arrays: PanelArrays) -> Array:
    """Return of the sector's other stocks over 20 days."""
    return _industry(arrays, 20)


def industry_return_126(arrays: PanelArrays) -> Array:
    """Return of the sector's other stocks over 126 days."""
    return _industry(arrays, 126)


def industry_gap_20(arrays: PanelArrays) -> Array:
    """Return of the stock less that of its sector's other stocks, 20 days."""
    return arrays.change(20) - _industry(arrays, 20)


def _industry(arrays: PanelArrays, window: int) -> Array:
    moments = arrays.industry
    return moments.total[window] + 0.0 * moments.count[window]


def index_return_1(table: CrossSection) -> Array:
    """Day's log return of the market."""
    return table.index_returns


def index_return_5(table: CrossSection) -> Array:
    """Log return of the market over 5 days."""
    return trailing_sum(table.index_returns, 5)


def index_return_20(table: CrossSection) -> Array:
    """Log return of the market over 20 days."""
    return trailing_sum(table.index_returns, 20, min_count=required(20))


def index_return_60(table: CrossSection) -> Array:
    """Log return of the market over 60 days."""
    return trailing_sum(table.index_returns, 60, min_count=required(60))


def index_volatility_20(table: CrossSection) -> Array:
    """Standard deviation of 20 daily market returns, per day."""
    return trailing_std(table.index_returns, 20, min_count=required(20))


def index_volatility_60(table: CrossSection) -> Array:
    """Standard deviation of 60 daily market returns, per day."""
    return trailing_std(table.index_returns, 60, min_count=required(60))


def index_trend_200(table: CrossSection) -> Array:
    """Log level of the market less the mean of its last 200 log levels."""
    return -_paths(table.index_returns, 200).mean(axis=1)


def index_drawdown_252(table: CrossSection) -> Array:
    """Fall of the market from its 252-day high, as a positive fraction."""
    return 1.0 - np.exp(-_paths(table.index_returns, 252).max(axis=1))


def breadth_20(table: CrossSection) -> Array:
    """Share of stocks that rose over 20 days."""
    return table.rising_share


def breadth_200(table: CrossSection) -> Array:
    """Share of stocks above their 200-day mean price."""
    return table.above_mean_share


def dispersion_20(table: CrossSection) -> Array:
    """Mean over 20 days of the standard deviation across stocks of the day's returns."""
    return trailing_mean(table.dispersion, 20, min_count=required(20))


def average_correlation_60(table: CrossSection) -> Array:
    """Average pairwise correlation that the variance of the equal-weight portfolio implies."""
    portfolio = trailing_std(table.equal_weight_returns, 60, min_count=required(60)) ** 2
    own = table.mean_variance / table.volatility_count
    return np.clip((portfolio - own) / positive(table.mean_volatility**2 - own), -1.0, 1.0)


def _paths(returns: Array, window: int) -> Array:
    """Log levels of the last `window` rows relative to the current one, (n_dates, window).

    Levels are added up backwards from the current row, so that they are made of the window's
    returns and nothing earlier. Days without a return count as 0; NaN with too few of them.
    """
    steps = window - 1
    padded = np.concatenate([np.full(steps, np.nan), returns])
    views = np.lib.stride_tricks.sliding_window_view(padded, steps)[1:]
    known = np.isfinite(views)
    back = np.where(known, views, 0.0)[:, ::-1]
    levels = np.zeros((len(returns), window))
    np.cumsum(-back, axis=1, out=levels[:, 1:])
    levels[known.sum(axis=1) < required(steps)] = np.nan
    return levels


_P = ("adj_close",)
_S = ("adj_close", "sector")
_FAMA_MACBETH = "Fama & MacBeth 1973, doi:10.1086/260061"
_GRINBLATT = "Moskowitz & Grinblatt 1999, doi:10.1111/0022-1082.00146"
_INDUSTRY = "I = log(1 + mean simple return of the sector's other stocks); "
_PAPER = "the study's market index return"

MARKET_FACTORS: tuple[Factor, ...] = (
    Factor("beta_252", "market risk", 253, _P, beta_252,
           "cov(r, m, 252) / var(m, 252)", _FAMA_MACBETH),
    Factor("downside_beta_252", "market risk", 253, _P, downside_beta_252,
           "cov(r, m) / var(m) over the days of 252 with m < 0, at least 50",
           "Ang, Chen & Xing 2006, doi:10.1093/rfs/hhj035"),
    Factor("market_correlation_252", "market risk", 253, _P, market_correlation_252,
           "corr(r, m, 252)",
           "Asness, Frazzini, Gormsen & Pedersen 2020, doi:10.1016/j.jfineco.2019.07.003"),
    Factor("residual_volatility_60", "volatility", 61, _P, residual_volatility_60,
           "std(e, 60) with divisor n - 2, e = r - a - beta m",
           "Ang, Hodrick, Xing & Zhang 2006, doi:10.1111/j.1540-6261.2006.00836.x"),
    Factor("residual_skewness_252", "shape", 253, _P, residual_skewness_252,
           "mean(e^3, 252) / mean(e^2, 252)^1.5, e = r - a - beta m",
           "Boyer, Mitton & Vorkink 2010, doi:10.1093/rfs/hhp041"),
    Factor("coskewness_252", "shape", 253, _P, coskewness_252,
           "mean(e (m - mean(m))^2) / (sqrt(mean(e^2)) mean((m - mean(m))^2)), 252 days",
           "Harvey & Siddique 2000, doi:10.1111/0022-1082.00247"),
    Factor("industry_return_1", "industry", 2, _S, industry_return_1,
           _INDUSTRY + "I[t]", "the study's industry index return, without the stock itself"),
    Factor("industry_return_20", "industry", 21, _S, industry_return_20,
           _INDUSTRY + "sum(I, 20)", _GRINBLATT),
    Factor("industry_return_126", "industry", 127, _S, industry_return_126,
           _INDUSTRY + "sum(I, 126)", _GRINBLATT),
    Factor("industry_gap_20", "industry", 21, _S, industry_gap_20,
           _INDUSTRY + "log(P[t] / P[t-20]) - sum(I, 20)",
           "Da, Liu & Schaumburg 2014, doi:10.1287/mnsc.2013.1766"),
    Factor("index_return_1", "index return", 2, _P, index_return_1, "m[t]", _PAPER, "market"),
    Factor("index_return_5", "index return", 6, _P, index_return_5, "sum(m, 5)", _PAPER, "market"),
    Factor("index_return_20", "index return", 21, _P, index_return_20, "sum(m, 20)", _PAPER,
           "market"),
    Factor("index_return_60", "index return", 61, _P, index_return_60, "sum(m, 60)", _PAPER,
           "market"),
    Factor("index_volatility_20", "index risk", 21, _P, index_volatility_20, "std(m, 20)",
           "practice", "market"),
    Factor("index_volatility_60", "index risk", 61, _P, index_volatility_60, "std(m, 60)",
           "practice", "market"),
    Factor("index_trend_200", "index trend", 200, _P, index_trend_200,
           "log(M[t]) - mean(log(M), 200), M the market's level",
           "Brock, Lakonishok & LeBaron 1992, doi:10.1111/j.1540-6261.1992.tb04681.x", "market"),
    Factor("index_drawdown_252", "index risk", 252, _P, index_drawdown_252,
           "1 - M[t] / max(M, 252)", "practice", "market"),
    Factor("breadth_20", "breadth", 21, _P, breadth_20,
           "share of stocks with P[t] > P[t-20]", "practice", "market"),
    Factor("breadth_200", "breadth", 200, _P, breadth_200,
           "share of stocks with P[t] > mean(P, 200)", "practice", "market"),
    Factor("dispersion_20", "breadth", 21, _P, dispersion_20,
           "mean over 20 days of the cross-sectional std of simple returns",
           "Stivers & Sun 2010, doi:10.1017/S0022109010000384", "market"),
    Factor("average_correlation_60", "breadth", 61, _P, average_correlation_60,
           "(s^2 - v / n) / (u^2 - v / n): s^2 the variance of equal-weight log returns, v and u "
           "the mean variance and volatility of n stocks, 60 days",
           "Pollet & Wilson 2010, doi:10.1016/j.jfineco.2010.02.011", "market"),
)  # fmt: skip
