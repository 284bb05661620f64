"""What chance decides in the simulated market: calendar, regimes, shocks, volumes, companies.

Whole arrays, drawn before any price is known. `simulate` turns them into prices, where the
planted signal feeds back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BEAR",
    "BULL",
    "GICS_SECTORS",
    "QUARTER",
    "RANGE",
    "Shocks",
    "Stocks",
    "draw_listings",
    "draw_regimes",
    "draw_returns",
    "draw_stocks",
    "draw_suspensions",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

BULL, BEAR, RANGE = 0, 1, 2
GICS_SECTORS = (
    "Communication Services",
    "Consumer Discretionary",
    "Consumer Staples",
    "Energy",
    "Financials",
    "Health Care",
    "Industrials",
    "Information Technology",
    "Materials",
    "Real Estate",
    "Utilities",
)

# Rows: bull, bear, range-bound. Spells last 250, 80 and 120 days on average.
_TRANSITION = np.array(
    [
        [1 - 1 / 250, 0.5 / 250, 0.5 / 250],
        [0.6 / 80, 1 - 1 / 80, 0.4 / 80],
        [0.6 / 120, 0.4 / 120, 1 - 1 / 120],
    ]
)
_DRIFT = np.array([5.5e-4, -1.4e-3, -1e-4])  # log return per day
_MARKET_VOL = np.array([0.007, 0.016, 0.009])  # per day
_CRASH_CHANCE = np.array([1 / 2000, 1 / 150, 1 / 2000])  # per day
_GARCH_NEWS, _GARCH_MEMORY = 0.06, 0.92
_TAIL_DF = 5  # degrees of freedom of Student's t: finite kurtosis, fat tails
QUARTER = 63


def draw_listings(
    rng: np.random.Generator, n_dates: int, n_assets: int, listing: float, delisting: float
) -> Bools:
    """Active mask: late listings and early delistings, of different stocks."""
    active = np.ones((n_dates, n_assets), dtype=bool)
    order = rng.permutation(n_assets)
    n_late, n_gone = int(listing * n_assets), int(delisting * n_assets)
    late, gone = order[:n_late], order[n_late : n_late + n_gone]
    first = (n_dates * rng.uniform(0.1, 0.6, n_late)).astype(int)
    last = (n_dates * rng.uniform(0.4, 0.9, n_gone)).astype(int)
    days = np.arange(n_dates)[:, None]
    active[:, late] = days >= first
    active[:, gone] = days <= last
    return active


def draw_suspensions(rng: np.random.Generator, active: Bools, rate: float) -> Bools:
    """Estimation mask: active less suspension spells, never on the first or last listed day."""
    n_dates, n_assets = active.shape
    begins = rng.random(active.shape) < rate / 5.0
    rows, columns = np.nonzero(begins)
    length = rng.geometric(1 / 5.0, rows.size)
    change = np.zeros((n_dates + 1, n_assets), dtype=np.int32)
    np.add.at(change, (rows, columns), 1)
    np.add.at(change, (np.minimum(rows + length, n_dates), columns), -1)
    suspended = np.cumsum(change[:-1], axis=0) > 0
    stocks = np.arange(n_assets)
    suspended[active.argmax(axis=0), stocks] = False
    suspended[n_dates - 1 - active[::-1].argmax(axis=0), stocks] = False
    traded = active & ~suspended
    closed = ~traded.any(axis=1)  # a panel wants one traded stock on every date
    traded[closed] = active[closed]
    return traded


def draw_regimes(rng: np.random.Generator, n_days: int) -> NDArray[np.int64]:
    """A Markov chain over bull, bear and range-bound."""
    edges = _TRANSITION.cumsum(axis=1)
    draws = rng.random(n_days)
    out = np.empty(n_days, dtype=np.int64)
    state = BULL
    for day in range(n_days):
        state = min(int(np.searchsorted(edges[state], draws[day], side="right")), RANGE)
        out[day] = state
    return out


@dataclass(frozen=True, eq=False)
class Shocks:
    """Returns without the signal and their cross-sectional dispersion. Rows include burn-in."""

    returns: Floats  # (n_days, n_assets) log
    surprise: Floats  # (n_days, n_assets) own shock in standard deviations of its calm level
    volatility: Floats  # (n_days, n_assets) own, per day
    dispersion: Floats  # (n_days,) expected cross-sectional standard deviation


def draw_returns(
    rng: np.random.Generator, regimes: NDArray[np.int64], sectors: NDArray[np.int64]
) -> Shocks:
    """Market, sector and own shocks: symmetric, fat-tailed, clustered; crashes hit all alike."""
    n_days, n_assets = len(regimes), len(sectors)
    n_sectors = len(GICS_SECTORS)
    beta = np.clip(rng.normal(1.0, 0.3, n_assets), 0.2, 2.0)
    own_level = 0.014 * np.exp(rng.normal(0.0, 0.3, n_assets))
    stress = _MARKET_VOL[regimes] / _MARKET_VOL[BULL]
    own_stress = np.sqrt(stress)

    tails = np.sqrt((_TAIL_DF - 2) / _TAIL_DF)
    heat = _garch(rng.standard_t(_TAIL_DF, (n_days, 1 + n_sectors)) * tails)
    market = heat[0][:, 0] * _MARKET_VOL[regimes]
    sector = heat[0][:, 1:] * (0.005 * own_stress)[:, None]
    own_shock, own_heat = _garch(rng.standard_t(_TAIL_DF, (n_days, n_assets)) * tails)
    volatility = np.sqrt(own_heat) * own_level * own_stress[:, None]

    crash = np.where(
        rng.random(n_days) < _CRASH_CHANCE[regimes], -0.03 - rng.exponential(0.02, n_days), 0.0
    )
    common = _DRIFT[regimes] + crash
    returns = own_shock * (own_level * own_stress[:, None])
    returns += common[:, None] + market[:, None] * beta + sector[:, sectors]

    market_variance = heat[1][:, 0] * _MARKET_VOL[regimes] ** 2
    sector_variance = heat[1][:, 1:].mean(axis=1) * (0.005 * own_stress) ** 2
    dispersion = np.sqrt(
        beta.var() * market_variance + sector_variance + (volatility**2).mean(axis=1)
    )
    surprise = np.abs(own_shock)
    surprise += np.abs(market + crash)[:, None] / _MARKET_VOL[BULL]
    return Shocks(returns, surprise, volatility, dispersion)


def _garch(noise: Floats) -> tuple[Floats, Floats]:
    """Shocks of unit mean variance with GARCH(1,1) clustering, and that variance."""
    shock, variance = np.empty_like(noise), np.empty_like(noise)
    level = np.ones(noise.shape[1])
    floor = 1.0 - _GARCH_NEWS - _GARCH_MEMORY
    for day in range(len(noise)):
        variance[day] = level
        shock[day] = np.sqrt(level) * noise[day]
        level = floor + _GARCH_NEWS * shock[day] ** 2 + _GARCH_MEMORY * level
        np.minimum(level, 16.0, out=level)  # four times the usual volatility, at most
    return shock, variance


@dataclass(frozen=True, eq=False)
class Stocks:
    """What is drawn for each stock before prices are known. Rows include burn-in."""

    log_volume: Floats  # (n_days, n_assets) shares traded, before splits
    payout: Floats  # (n_days, n_assets) log of the dividend factor, cumulated; 0 or negative
    log_shares: Floats  # (n_assets,)
    log_price: Floats  # (n_assets,) at the start of the burn-in
    book_ratio: Floats  # (n_assets,) long-run log book-to-price
    profitability: Floats  # (n_quarters, n_assets) return on book, annual
    book_noise: Floats  # (n_quarters, n_assets)
    lag: NDArray[np.int64]  # (n_quarters, n_assets) trading days from quarter's end to publication


def draw_stocks(rng: np.random.Generator, n_days: int, n_assets: int, shocks: Shocks) -> Stocks:
    """Volumes that rise with the size of shocks, dividends, and what companies will report."""
    n_quarters = n_days // QUARTER + 1
    log_price = rng.normal(3.5, 0.6, n_assets)
    log_cap = rng.normal(22.5, 1.2, n_assets)
    log_shares = log_cap - log_price

    mood = _autoregression(rng.normal(0.0, 1.0, (n_days, n_assets)), 0.97) * 0.35
    log_volume = log_shares + np.log(0.004) + rng.normal(0.0, 0.4, n_assets)
    log_volume = log_volume + mood + 0.4 * np.log1p(shocks.surprise)
    log_volume += rng.normal(0.0, 0.25, (n_days, n_assets))

    dividend = np.where(rng.random(n_assets) < 0.7, rng.uniform(0.002, 0.01, n_assets), 0.0)
    phase = rng.integers(0, QUARTER, n_assets)
    pays = (np.arange(n_days)[:, None] + phase) % QUARTER == 0
    payout = np.cumsum(pays * np.log1p(-dividend), axis=0)

    mean_profit = rng.normal(0.12, 0.07, n_assets)
    wobble = _autoregression(rng.normal(0.0, 1.0, (n_quarters, n_assets)), 0.85) * 0.05
    return Stocks(
        log_volume=log_volume,
        payout=payout,
        log_shares=log_shares,
        log_price=log_price,
        book_ratio=rng.normal(-0.9, 0.5, n_assets),
        profitability=mean_profit + wobble,
        book_noise=rng.normal(0.0, 0.04, (n_quarters, n_assets)),
        lag=rng.integers(20, 61, (n_quarters, n_assets)),
    )


def _autoregression(noise: Floats, memory: float) -> Floats:
    """AR(1) of unit variance."""
    out = noise.copy()
    scale = np.sqrt(1.0 - memory**2)
    for day in range(1, len(out)):
        out[day] = memory * out[day - 1] + scale * noise[day]
    return out
