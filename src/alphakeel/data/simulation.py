"""A market whose truth is known: regimes, crashes, and a planted signal of stated strength.

Everything random but the signal is drawn first, as whole arrays: calendar, regimes, shocks,
volumes, companies. One loop over dates then feeds the signal back into prices, because tomorrow's
drift depends on yesterday's characteristics. The same seed gives the same shocks, calendar and
masks whatever the strength of the signal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skfolio.containers import AssetPanel, Field2D, FieldCategorical, InactivePolicy

from alphakeel.errors import ConfigError

__all__ = [
    "BEAR",
    "BULL",
    "GICS_SECTORS",
    "QUARTER",
    "RANGE",
    "Shocks",
    "Simulation",
    "Stocks",
    "draw_listings",
    "draw_regimes",
    "draw_returns",
    "draw_stocks",
    "draw_suspensions",
    "simulate_market",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_BURN_IN = 320  # a year of momentum and a first published quarter before the first date
_REACTION = 6  # days from a characteristic to the drift it causes
_HORIZON = 5

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


@dataclass(frozen=True, eq=False)
class Simulation:
    """A simulated market and the truth behind it.

    Attributes
    ----------
    panel : AssetPanel
        Fields `open high low close adj_close volume market_cap earnings_to_price book_to_price
        sector market_index`, as a loader would deliver them.
    true_signal : ndarray of shape (n_dates, n_assets)
        Stock-specific part of E[log P(t+6) - log P(t+1) | day t's close], log return over five
        days; all 0 if `signal` is 0; NaN where the stock is not listed.
    regimes : int ndarray of shape (n_dates,)
        0 bull, 1 bear, 2 range-bound.
    """

    panel: AssetPanel
    true_signal: Floats
    regimes: NDArray[np.int64]


def simulate_market(
    *,
    n_assets: int = 100,
    n_dates: int = 2770,
    seed: int = 0,
    signal: float = 0.05,
    nonlinear: float = 0.5,
    start: str = "2010-01-04",
    listing_rate: float = 0.05,
    delisting_rate: float = 0.04,
    suspension_rate: float = 0.002,
) -> Simulation:
    """Simulate daily prices, volumes and fundamentals with a planted, learnable signal.

    The log return of stock i on day u is ::

        r[u,i] = drift(regime u) + crash[u] + beta_i m[u] + s[u, sector i] + v[u,i] + e[u-6,i]

    with market, sector and own shocks m, s, v: Student-t (5 degrees of freedom), symmetric, with
    GARCH(1,1) volatility scaled by the regime. Drift and crashes are the same for all stocks, so
    that nothing but `e` moves the expected order of the cross-section. The planted signal is ::

        e[t,i] = signal * c[t] * (sqrt(1 - nonlinear) * L[t,i] + sqrt(nonlinear) * Q[t,i])
        L      = z( R(earnings_to_price) + R(momentum) - R(recent) )
        Q      = z( -R(recent) * R(volume),
                    less its regression on R of the four characteristics )
        recent    log P(t) - log P(t-21)
        momentum  log P(t-21) - log P(t-252)
        volume    mean of log(close * volume) over 20 days less its mean over 252 days

    where P is the total-return price, R the date's ranks scaled to unit variance, z the date's
    z-score, and c[t] the cross-sectional dispersion of returns times a constant that gives the
    five-day sum the stated strength. L and Q are uncorrelated on every date: no linear model on
    ranks sees Q. Stocks that have fallen on high volume rebound, those that have fallen on low
    volume go on falling (Campbell, Grossman & Wang 1993; Llorente et al. 2002). Because the
    reaction starts six days on, ``true_signal[t] = e[t-4] + ... + e[t]`` is the exact conditional
    expectation of the stock-specific log return from the close of t+1 to the close of t+6.

    Parameters
    ----------
    n_assets, n_dates : int
        Size; at least 2 of each.
    seed : int
        Same seed, same market, bit for bit.
    signal : float
        Mean cross-sectional correlation of `true_signal` with the realised log return from t+1 to
        t+6: the information coefficient (IC) that nobody can beat. 0: exactly no signal.
    nonlinear : float
        Share of the signal's variance that is nonlinear, 0 to 1.
    start : str
        First date (YYYY-MM-DD); dates are weekdays from there on.
    listing_rate, delisting_rate : float
        Share of the stocks that list after the first date, or are delisted before the last one
        (at their last price, independently of their returns); 0 to 0.1 each.
    suspension_rate : float
        Share of stock-days without any data, in spells of 5 days on average; 0 to 0.1.

    Returns
    -------
    Simulation
        Panel, true signal, regimes. Prices are in one currency, `adj_close` includes dividends
        and undoes splits, starting from the close of the first day (so it never looks ahead);
        earnings and book values appear 20 to 60 trading days after their quarter's end.

    Raises
    ------
    ConfigError
        If an argument is out of range.

    References
    ----------
    Campbell, J., Grossman, S., Wang, J. (1993). Trading volume and serial correlation in stock
    returns. QJE 108, 905-939. https://doi.org/10.2307/2118454
    Llorente, G., Michaely, R., Saar, G., Wang, J. (2002). Dynamic volume-return relation of
    individual stocks. RFS 15, 1005-1047. https://doi.org/10.1093/rfs/15.4.1005

    Examples
    --------
    >>> market = simulate_market(n_assets=20, n_dates=300, seed=7)
    >>> market.panel.active_mask.shape
    (300, 20)
    >>> bool((market.panel["low"] <= market.panel["close"])[market.panel.estimation_mask].all())
    True
    """
    _check(n_assets, n_dates, signal, nonlinear, listing_rate, delisting_rate, suspension_rate)
    rngs = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(6)]
    dates = np.busday_offset(np.datetime64(start, "D"), np.arange(n_dates), roll="forward").astype(
        "datetime64[D]"
    )
    active = draw_listings(rngs[0], n_dates, n_assets, listing_rate, delisting_rate)
    traded = draw_suspensions(rngs[1], active, suspension_rate)

    total = n_dates + _BURN_IN
    regimes = draw_regimes(rngs[2], total)
    sectors = rngs[3].permutation(np.arange(n_assets) % len(GICS_SECTORS))
    shocks = draw_returns(rngs[4], regimes, sectors)
    stocks = draw_stocks(rngs[5], total, n_assets, shocks)
    listed = np.vstack([np.broadcast_to(active[0], (_BURN_IN, n_assets)), active])
    path = _feedback(stocks, shocks, listed, signal, nonlinear)

    rows = slice(_BURN_IN, None)
    true_signal = np.where(active, path.expected[rows], np.nan)
    fields = _fields(rngs[5], stocks, shocks, path, rows)
    for values in fields.values():
        values[~traded] = np.nan
    panel_fields = {name: Field2D(values) for name, values in fields.items()}
    panel_fields["sector"] = FieldCategorical(
        np.where(active, sectors, -1).astype(np.int16), levels=np.array(GICS_SECTORS)
    )
    index = _index(path.log_price[rows], path.log_cap[rows], active)
    panel_fields["market_index"] = Field2D(
        np.broadcast_to(index[:, None], active.shape), inactive_policy=InactivePolicy.IGNORE
    )
    width = max(4, len(str(n_assets)))
    names = np.array([f"S{i:0{width}d}" for i in range(1, n_assets + 1)])
    panel = AssetPanel(panel_fields, dates, names, active_mask=active, estimation_mask=traded)
    return Simulation(panel=panel, true_signal=true_signal, regimes=regimes[rows])


def _check(
    n_assets: int,
    n_dates: int,
    signal: float,
    nonlinear: float,
    listing_rate: float,
    delisting_rate: float,
    suspension_rate: float,
) -> None:
    for name, count in (("n_assets", n_assets), ("n_dates", n_dates)):
        if count < 2:
            raise ConfigError(f"simulate_market needs {name} of at least 2, got {count}.")
    shares = {
        "signal": (signal, 0.5),
        "nonlinear": (nonlinear, 1.0),
        "listing_rate": (listing_rate, 0.1),
        "delisting_rate": (delisting_rate, 0.1),
        "suspension_rate": (suspension_rate, 0.1),
    }
    for name, (value, high) in shares.items():
        if not 0.0 <= value <= high:
            raise ConfigError(f"simulate_market: {name} must be from 0 to {high:g}, got {value!r}.")


@dataclass(frozen=True, eq=False)
class _Path:
    """Prices and fundamentals once the signal has fed back. Rows include burn-in."""

    log_price: Floats  # (n_days, n_assets) total return
    log_cap: Floats  # (n_days, n_assets)
    earnings_yield: Floats
    book_yield: Floats
    expected: Floats  # (n_days, n_assets) exact five-day conditional expectation


def _feedback(
    stocks: Stocks, shocks: Shocks, listed: Bools, signal: float, nonlinear: float
) -> _Path:
    """The one loop in which prices feed characteristics and characteristics feed prices."""
    n_days, n_assets = shocks.returns.shape
    log_price = np.empty((n_days, n_assets))
    log_cap, earnings_yield, book_yield = (np.empty_like(log_price) for _ in range(3))
    impulse = np.zeros_like(log_price)  # e[t]
    score = np.zeros_like(log_price)
    running = np.zeros((n_days + 1, n_assets))  # sums of log dollar volume before each day
    persistence = 0.9  # standard deviation of the mean of five daily scores, learned as it goes

    price = stocks.log_price
    book = price + stocks.log_shares + stocks.book_ratio
    reported = [np.exp(book), stocks.profitability[0] * np.exp(book)]  # book, earnings: known
    pending, publication = [reported[0], reported[1]], np.full(n_assets, -1)
    for day in range(n_days):
        price = price + shocks.returns[day]
        if day >= _REACTION:
            price += impulse[day - _REACTION]
        log_price[day] = price
        log_cap[day] = price + stocks.payout[day] + stocks.log_shares

        if day % QUARTER == 0:
            quarter = day // QUARTER
            book = book + 0.1 * (log_cap[day] + stocks.book_ratio - book)
            book += stocks.book_noise[quarter]
            value = np.exp(book)
            pending = [value, stocks.profitability[quarter] * value]
            publication = day + stocks.lag[quarter]
        public = publication == day
        if public.any():
            reported = [
                np.where(public, new, old) for new, old in zip(pending, reported, strict=True)
            ]
        cap = np.exp(log_cap[day])
        book_yield[day], earnings_yield[day] = reported[0] / cap, reported[1] / cap

        trading = log_cap[day] - stocks.log_shares + stocks.log_volume[day]
        running[day + 1] = running[day] + trading
        if signal > 0.0 and day >= 252:
            recent_volume = (running[day + 1] - running[day - 19]) / 20.0
            usual_volume = (running[day + 1] - running[day - 251]) / 252.0
            traits = np.stack(
                [
                    earnings_yield[day],
                    log_price[day - 21] - log_price[day - 252],
                    price - log_price[day - 21],
                    recent_volume - usual_volume,
                ]
            )
            on = listed[day]
            score[day, on] = _score(traits[:, on], nonlinear)
            spread = score[day - 4 : day + 1, on].mean(axis=0).std()
            persistence += 0.02 * (spread - persistence)
            # Five impulses add up to `signal` standard deviations of a five-day return.
            impulse[day] = score[day] * (
                signal * shocks.dispersion[day] / (np.sqrt(_HORIZON) * max(persistence, 0.1))
            )
    expected = impulse.copy()
    for age in range(1, _HORIZON):
        expected[age:] += impulse[:-age]
    return _Path(log_price, log_cap, earnings_yield, book_yield, expected)


def _score(traits: Floats, nonlinear: float) -> Floats:
    """One date's score of unit variance: sqrt(1 - nonlinear) L + sqrt(nonlinear) Q."""
    n = traits.shape[1]
    order = np.argsort(traits, axis=1)
    ranks = np.empty_like(traits)
    scale = np.sqrt(max(n * n - 1, 1) / 12.0)
    np.put_along_axis(ranks, order, (np.arange(n) - (n - 1) / 2.0)[None] / scale, axis=1)
    earnings, momentum, recent, volume = ranks

    linear = earnings + momentum - recent
    interaction = -recent * volume
    interaction -= interaction.mean()
    gram = ranks @ ranks.T
    gram[np.diag_indices(4)] += 1e-9 * n  # fewer than five stocks: singular
    interaction -= np.linalg.solve(gram, ranks @ interaction) @ ranks
    return np.sqrt(1.0 - nonlinear) * _unit(linear) + np.sqrt(nonlinear) * _unit(interaction)


def _unit(values: Floats) -> Floats:
    deviation = values - values.mean()
    spread = deviation.std()
    return deviation / spread if spread > 1e-6 else np.zeros_like(values)


def _fields(
    rng: np.random.Generator, stocks: Stocks, shocks: Shocks, path: _Path, rows: slice
) -> dict[str, Floats]:
    """Open, high, low, close, volume and valuation, with splits above a price of 200."""
    adjusted = path.log_price[rows]
    close = adjusted + stocks.payout[rows] - stocks.payout[rows][0]
    splits = np.maximum.accumulate(np.maximum(np.ceil((close - np.log(200.0)) / np.log(2.0)), 0.0))
    close = close - splits * np.log(2.0)
    adjusted = adjusted - splits[0] * np.log(2.0)  # both start from the same price
    move = np.diff(path.log_price, axis=0)[_BURN_IN - 1 :]
    sigma = shocks.volatility[rows]
    opened = close - 0.7 * move + 0.3 * sigma * rng.standard_normal(close.shape)
    high = np.maximum(opened, close) + 0.4 * sigma * np.abs(rng.standard_normal(close.shape))
    low = np.minimum(opened, close) - 0.4 * sigma * np.abs(rng.standard_normal(close.shape))
    volume = np.rint(np.exp(stocks.log_volume[rows] + splits * np.log(2.0)))
    logs = {"open": opened, "high": high, "low": low, "close": close, "adj_close": adjusted}
    fields = {name: np.exp(values) for name, values in logs.items()}
    fields["volume"] = np.maximum(volume, 1.0)
    fields["market_cap"] = np.exp(path.log_cap[rows])
    fields["earnings_to_price"] = path.earnings_yield[rows].copy()
    fields["book_to_price"] = path.book_yield[rows].copy()
    return fields


def _index(log_price: Floats, log_cap: Floats, active: Bools) -> Floats:
    """Level of the capitalisation-weighted total-return index of the listed stocks."""
    held = active[1:] & active[:-1]
    weight = np.where(held, np.exp(log_cap[:-1]), 0.0)
    growth = (weight * np.expm1(np.diff(log_price, axis=0))).sum(axis=1) / weight.sum(axis=1)
    return 1000.0 * np.concatenate([[1.0], np.cumprod(1.0 + growth)])


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
    common_garch = _garch(rng.standard_t(_TAIL_DF, (n_days, 1 + n_sectors)) * tails)
    market = common_garch[0][:, 0] * _MARKET_VOL[regimes]
    sector = common_garch[0][:, 1:] * (0.005 * own_stress)[:, None]
    own_shock, own_variance = _garch(rng.standard_t(_TAIL_DF, (n_days, n_assets)) * tails)
    volatility = np.sqrt(own_variance) * own_level * own_stress[:, None]

    crash = np.where(
        rng.random(n_days) < _CRASH_CHANCE[regimes], -0.03 - rng.exponential(0.02, n_days), 0.0
    )
    common = _DRIFT[regimes] + crash
    returns = own_shock * (own_level * own_stress[:, None])
    returns += common[:, None] + market[:, None] * beta + sector[:, sectors]

    market_variance = common_garch[1][:, 0] * _MARKET_VOL[regimes] ** 2
    sector_variance = common_garch[1][:, 1:].mean(axis=1) * (0.005 * own_stress) ** 2
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

    activity = _autoregression(rng.normal(0.0, 1.0, (n_days, n_assets)), 0.97) * 0.35
    log_volume = log_shares + np.log(0.004) + rng.normal(0.0, 0.4, n_assets)
    log_volume = log_volume + activity + 0.4 * np.log1p(shocks.surprise)
    log_volume += rng.normal(0.0, 0.25, (n_days, n_assets))

    dividend = np.where(rng.random(n_assets) < 0.7, rng.uniform(0.002, 0.01, n_assets), 0.0)
    phase = rng.integers(0, QUARTER, n_assets)
    pays = (np.arange(n_days)[:, None] + phase) % QUARTER == 0
    payout = np.cumsum(pays * np.log1p(-dividend), axis=0)

    mean_profit = rng.normal(0.12, 0.07, n_assets)
    profit_cycle = _autoregression(rng.normal(0.0, 1.0, (n_quarters, n_assets)), 0.85) * 0.05
    return Stocks(
        log_volume=log_volume,
        payout=payout,
        log_shares=log_shares,
        log_price=log_price,
        book_ratio=rng.normal(-0.9, 0.5, n_assets),
        profitability=mean_profit + profit_cycle,
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
