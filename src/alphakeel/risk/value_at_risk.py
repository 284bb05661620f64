"""Forecasts of value at risk and expected shortfall, known at each close, about the next day.

Row t of every forecast uses rows up to t and is about the return of row t + 1. Returns are simple
daily returns as fractions; NaN is missing and left out, never zero. Forecasts are losses as
positive fractions. Quantiles and tail means follow `stats.performance`: linear interpolation for
VaR, the last day in part for CVaR. The formulas and what was tried are in
``docs/value-at-risk.md``.

`scenario_var` gives today's weights the returns of the past. `tracking_scale` corrects a forecast
by how often it was exceeded so far, without any assumption about the returns. `portfolio_var`, the
default, does both.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from alphakeel.errors import ConfigError, DataError
from alphakeel.progress import run_in_threads
from alphakeel.risk.volatility import check_rows
from alphakeel.stats import rolling
from alphakeel.stats.cross_section import row_sums
from alphakeel.stats.performance import check_labels, check_labels_at

__all__ = [
    "TailForecast",
    "portfolio_var",
    "row_blocks",
    "scenario_var",
    "tail_of",
    "tracking_scale",
    "weighted_returns",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Half-lives, in rows, of the two parts of the volatility in `scenario_var`, and the weight of a
# fall over that of a rise: chosen on US stocks of 2001 to 2011, see docs/value-at-risk.md.
OWN_HALFLIFE, STOCKS_HALFLIFE = 4.0, 2.0
FALL, RISE = 1.5, 0.5
# Rows before the window in which the volatility settles, ten half-lives; most rows of a block.
SETTLE = 40
BLOCK = 64
# Stocks in one matrix product: fewer than what BLAS adds up in parts.
STOCKS_AT_ONCE = 192
# Blocks of rows that are computed side by side.
BLOCKS_AT_ONCE = 2


def scenario_var(
    weights: FloatArray,
    returns: FloatArray,
    rows: IntArray,
    *,
    level: float = 0.95,
    window: int = 500,
    min_count: int = 100,
    volatility: FloatArray | None = None,
) -> TailForecast:
    """Tail of given weights: what they would have earned on past days, at today's volatility.

    Without `volatility` the portfolio as a whole is filtered: its past returns under today's
    weights are divided by the volatility of the day before and multiplied by today's. That
    volatility is the geometric mean of two: of the portfolio's own squared returns, where a fall
    weighs three times as much as a rise, and of the mean squared return of the stocks in it, each
    smoothed twice.

    With `volatility`, each stock's past returns are scaled by its own, before the weights.

    Parameters
    ----------
    weights : ndarray of shape (n_rows, n_assets)
        Weights held over the day after each row, shares of wealth, the rest in cash (such as
        ``Ledger.weights``, any exposure included); a row with NaN gives NaN.
    returns : ndarray of shape (n_dates, n_assets)
        Simple returns per day, fractions; NaN where there is none. A missing return counts as
        the weighted mean of the others on that day; a day with half of the portfolio or less is
        left out.
    rows : ndarray of shape (n_rows,) of int
        Row of `returns` at the close of which each forecast is made.
    level : float, default=0.95
        Confidence, in (0, 1).
    window : int, default=500
        Past days used as scenarios.
    min_count : int, default=100
        Scenarios needed.
    volatility : ndarray of shape (n_dates, n_assets), optional
        Forecast of each stock's volatility known at each close, in any unit; NaN or 0 where
        there is none. A stock without one today counts as the others.

    Returns
    -------
    TailForecast
        Arrays of shape (n_rows,); 0 for a portfolio in cash.

    References
    ----------
    Hull, J. and White, A. (1998). Incorporating volatility updating into the historical
    simulation method for value-at-risk. https://doi.org/10.21314/JOR.1998.001

    Barone-Adesi, G., Giannopoulos, K. and Vosper, L. (1999). VaR without correlations for
    portfolios of derivative securities. Journal of Futures Markets 19(5), 583-602.
    """
    check_labels_at(rows, returns, weights=weights)
    check_labels(returns=returns, volatility=volatility)
    w, r = np.asarray(weights, dtype=np.float64), np.asarray(returns, dtype=np.float64)
    share = _check_level(level)
    _check_window(window, min_count)
    if w.ndim != 2 or r.ndim != 2 or w.shape[1] != r.shape[1]:
        raise DataError(
            f"weights {w.shape} and returns {r.shape} do not fit: give (n_rows, n_assets) and "
            "(n_dates, n_assets)"
        )
    if np.isinf(r).any():
        raise DataError("returns hold an infinite value; mark a missing return with NaN")
    rows = check_rows("rows", rows, len(w), len(r))
    if volatility is not None:
        today = _check_volatility(volatility, r.shape)
        surprise = _quotient(r, rolling.lag(today, 1))
    length = window + SETTLE

    def of_block(members: IntArray) -> TailForecast:
        held = w[members]
        if volatility is None:
            past, squares = _returns_and_squares(held, r, rows[members], length)
            return _filtered_tail(past, squares, window, share, min_count)
        scaled = _scaled_weights(held, today[rows[members]])
        past = weighted_returns(scaled, surprise, rows[members], window)
        return tail_of(past, share, min_count)

    var, cvar = np.full(len(w), np.nan), np.full(len(w), np.nan)
    blocks = list(row_blocks(rows))
    tails = run_in_threads([partial(of_block, members) for members in blocks], BLOCKS_AT_ONCE)
    for members, tail in zip(blocks, tails, strict=True):
        var[members], cvar[members] = tail
    var[(w == 0.0).all(axis=1)] = cvar[(w == 0.0).all(axis=1)] = 0.0
    return TailForecast(var, cvar)


def portfolio_var(
    weights: FloatArray,
    returns: FloatArray,
    earned: FloatArray,
    *,
    first: int = 0,
    level: float = 0.95,
    window: int = 500,
    min_count: int = 100,
    rate: float = 0.01,
) -> TailForecast:
    """The default forecast for a portfolio that is held and changed day by day.

    `scenario_var` of the weights at every close, times the factor of `tracking_scale`, which keeps
    the exceedances of what the portfolio truly earned at ``1 - level``.

    Parameters
    ----------
    weights : ndarray of shape (n_days, n_assets)
        Weights after the trades of each close, such as ``Ledger.weights``, any exposure
        included.
    returns : ndarray of shape (n_dates, n_assets)
        Simple returns of the stocks, fractions; NaN where there is none. They may begin before
        and end after the days of the weights.
    earned : ndarray of shape (n_days,)
        Simple returns of the portfolio, such as ``Ledger.net_returns``.
    first : int, default=0
        Row of `returns` that is the first row of `weights` and `earned`.
    level, window, min_count
        As in `scenario_var`.
    rate : float, default=0.01
        As in `tracking_scale`.

    Returns
    -------
    TailForecast
        Arrays of shape (n_days,); the last row is about the day after the last.

    Examples
    --------
    >>> returns = np.random.default_rng(0).normal(0.0, 0.01, (700, 4))
    >>> weights = np.full((200, 4), 0.25)
    >>> forecast = portfolio_var(weights, returns, returns[500:].mean(axis=1), first=500)
    >>> forecast.var[[0, -1]].round(4), forecast.cvar[[0, -1]].round(4)
    (array([0.0097, 0.0072]), array([0.012 , 0.0101]))
    """
    days = np.arange(first, first + len(weights))
    check_labels_at(days, returns, weights=weights)
    check_labels(weights=weights, earned=earned)
    base = scenario_var(weights, returns, days, level=level, window=window, min_count=min_count)
    scale = tracking_scale(earned, base.var, level=level, rate=rate)
    return TailForecast(base.var * scale, base.cvar * scale)


def _check_volatility(volatility: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    v = np.asarray(volatility, dtype=np.float64)
    if v.shape != shape or (v < 0.0).any() or np.isinf(v).any():
        raise DataError(
            f"volatility {v.shape} has to be finite, not negative, and of shape {shape}"
        )
    return np.where(v > 0.0, v, np.nan)


def _filtered_tail(
    past: FloatArray, squares: FloatArray, window: int, share: float, min_count: int
) -> TailForecast:
    """Tail of each row's scenarios at the volatility of its last column."""
    own = past * past * np.where(past < 0.0, FALL, RISE)
    volatility = (_smooth(own, OWN_HALFLIFE) * _smooth(squares, STOCKS_HALFLIFE)) ** 0.25
    # Half of the rows to settle in have to be there: a volatility of two days scales nothing.
    settled = np.cumsum(~np.isnan(past), axis=1) >= SETTLE // 2
    volatility[~settled] = np.nan
    surprise = _quotient(past[:, 1:], volatility[:, :-1])[:, -window:]
    tail = tail_of(surprise, share, min_count)
    return TailForecast(*(part * volatility[:, -1] for part in tail))


def _smooth(x: FloatArray, halflife: float) -> FloatArray:
    """Exponentially weighted mean of the exponentially weighted mean, along the last axis.

    The weights rise for a few rows before they fall: the newest value alone moves it little.
    """
    decay = 0.5 ** (1.0 / halflife)
    for _ in range(2):
        known = ~np.isnan(x)
        total = lfilter([1.0], [1.0, -decay], np.where(known, x, 0.0), axis=-1)
        x = _quotient(total, lfilter([1.0], [1.0, -decay], known.astype(np.float64), axis=-1))
    return x


def weighted_returns(weights: FloatArray, x: FloatArray, rows: IntArray, length: int) -> FloatArray:
    """Weighted sums of the stocks over the `length` rows up to each row, (n_rows, length).

    Missing stocks count as the weighted mean of the others; NaN where half of the weight or more
    is missing, and before the first row.
    """
    window = _Window(weights, x, rows, length)
    return window.sums(window.weights, window.part)


def _returns_and_squares(
    weights: FloatArray, x: FloatArray, rows: IntArray, length: int
) -> tuple[FloatArray, FloatArray]:
    """`weighted_returns`, and those of the squares by the sizes of the weights."""
    window = _Window(weights, x, rows, length)
    past = window.sums(window.weights, window.part)
    return past, window.sums(np.abs(window.weights), window.part * window.part)


class _Window:
    """The stocks that some rows hold, over all days that these rows look back on."""

    def __init__(self, weights: FloatArray, x: FloatArray, rows: IntArray, length: int) -> None:
        start = max(0, int(rows.min()) - length + 1)
        held = _by_first_day(weights != 0.0)
        part = x[start : int(rows.max()) + 1, held]
        known = ~np.isnan(part)
        self.weights, self.part = weights[:, held], np.where(known, part, 0.0)
        size = np.abs(self.weights)
        total = row_sums(size)[:, None]
        covered = _product(size, known.astype(np.float64))
        self.share = _quotient(total, covered)
        self.thin = covered <= 0.5 * total
        self.place = rows[:, None] - start + np.arange(1 - length, 1)

    def sums(self, weights: FloatArray, values: FloatArray) -> FloatArray:
        """Weighted sums of values over the stocks, by row and day before it."""
        sums = _product(weights, values) * self.share
        sums[self.thin] = np.nan
        taken = np.take_along_axis(sums, np.maximum(self.place, 0), axis=1)
        return np.where(self.place >= 0, taken, np.nan)


def _by_first_day(held: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Columns that are held on some row, by the first of these rows."""
    columns = np.flatnonzero(held.any(axis=0))
    return np.asarray(columns[np.argsort(held[:, columns].argmax(axis=0), kind="stable")])


def _product(weights: FloatArray, x: FloatArray) -> FloatArray:
    """``weights @ x.T``, some stocks at a time, in matrices of whole blocks filled up with zeros.

    A matrix product adds up the stocks in their order as long as they are few; so those that a
    row does not hold and that come after its own, with weights of zero, change no bit of it. And
    products of one shape are made alike: how many rows and days there are changes none either.
    """
    n_rows, n_days = len(weights), len(x)
    own, past = _in_blocks(weights), _in_blocks(x)
    out = np.zeros((len(own), len(past)))
    for first in range(0, own.shape[1], STOCKS_AT_ONCE):
        stocks = slice(first, first + STOCKS_AT_ONCE)
        out += own[:, stocks] @ past[:, stocks].T
    return out[:n_rows, :n_days]


def _in_blocks(values: FloatArray) -> FloatArray:
    """Values with zeros up to whole blocks of rows and of stocks."""
    shape = (
        -(-n // size) * size for n, size in zip(values.shape, (BLOCK, STOCKS_AT_ONCE), strict=True)
    )
    out = np.zeros(tuple(shape))
    out[: len(values), : values.shape[1]] = values
    return out


def row_blocks(rows: IntArray) -> Iterator[IntArray]:
    """Positions in `rows` in groups that lie close together in time."""
    order, begin = np.argsort(rows, kind="stable"), 0
    for i in range(1, len(order) + 1):
        far = i < len(order) and rows[order[i]] - rows[order[begin]] >= 5 * BLOCK
        if i == len(order) or i - begin == BLOCK or far:
            yield order[begin:i]
            begin = i


def _scaled_weights(weights: FloatArray, volatility: FloatArray) -> FloatArray:
    """Weights times volatility; a stock without one has the mean of the others'."""
    size = np.where(np.isnan(volatility), 0.0, np.abs(weights))
    known = np.where(np.isnan(volatility), 0.0, volatility)
    mean = _quotient(row_sums(size * known), row_sums(size))
    return np.where(
        weights == 0.0, 0.0, weights * np.where(np.isnan(volatility), mean[:, None], volatility)
    )


class TailForecast(NamedTuple):
    """VaR and CVaR (expected shortfall) of a day, positive fractions; NaN without history."""

    var: FloatArray
    cvar: FloatArray


def tail_of(x: FloatArray, share: float, min_count: int) -> TailForecast:
    """VaR and CVaR of the known values along the last axis; NaN where fewer than `min_count`.

    `share` is that of the days beyond the VaR, ``1 - level``.
    """
    width = x.shape[-1]
    count = width - np.isnan(x).sum(axis=-1)
    enough = count >= min_count
    n = np.where(enough, count, 1)
    deepest = min(int(share * width) + 1, width - 1)
    # The lowest order statistics; NaN sorts behind every number.
    worst = np.sort(np.partition(x, deepest, axis=-1)[..., : deepest + 1], axis=-1)
    position, mass = share * (n - 1), share * n
    low = position.astype(np.int64)
    between = position - low
    at_low, at_high = _pick(worst, low), _pick(worst, np.minimum(low + 1, n - 1))
    quantile = (1.0 - between) * at_low + between * at_high
    whole = mass.astype(np.int64)
    sums = np.cumsum(np.concatenate([np.zeros((*worst.shape[:-1], 1)), worst], axis=-1), axis=-1)
    mean = (_pick(sums, whole) + (mass - whole) * _pick(worst, whole)) / mass
    return TailForecast(np.where(enough, -quantile, np.nan), np.where(enough, -mean, np.nan))


def _pick(x: FloatArray, place: IntArray) -> FloatArray:
    return np.asarray(np.take_along_axis(x, place[..., None], axis=-1)[..., 0])


def _check_window(window: int, min_count: int) -> None:
    """Refuse a window that cannot hold the known days asked for."""
    if not 1 <= min_count <= window:
        raise ConfigError(
            f"min_count is {min_count!r}; give a number of known days from 1 to the window of "
            f"{window!r} rows"
        )


def _quotient(top: FloatArray, bottom: FloatArray) -> FloatArray:
    """Quotient, NaN over anything but a positive number."""
    out = np.full(np.broadcast(top, bottom).shape, np.nan)
    np.divide(top, bottom, out=out, where=np.greater(bottom, 0.0))
    return out


def tracking_scale(
    returns: FloatArray, forecast: FloatArray, *, level: float = 0.95, rate: float = 0.01
) -> FloatArray:
    """Factor that follows the quantile: a step up at an exceedance, a small one down otherwise.

    ``c <- c + rate * (exceeded - (1 - level))``, starting from 1: quantile tracking, the
    proportional part of conformal PID control, on losses in units of the base forecast. After n
    counted days the share of exceedances is ``1 - level + (c - 1) / (rate * n)``, exactly. The
    factor on row t knows the returns up to row t.

    Parameters
    ----------
    returns : ndarray of shape (n_dates,) or (n_dates, n_series)
        Simple returns per day, fractions; NaN where there is none.
    forecast : ndarray of the shape of `returns`
        Base forecast of the value at risk, a positive fraction, on the row before the day that
        it is about. A day without a forecast, or with 0 (all cash), is not counted.
    level : float, default=0.95
        Confidence, in (0, 1).
    rate : float, default=0.01
        Size of a step, in units of the base forecast: 0.01 adds 0.95 % of it after an
        exceedance and takes 0.05 % away on each other day. 0 leaves the base as it is.

    References
    ----------
    Angelopoulos, A. N., Candes, E. J. and Tibshirani, R. J. (2023). Conformal PID control for
    time series prediction. NeurIPS 36. https://doi.org/10.48550/arXiv.2307.16895
    """
    check_labels(returns=returns, forecast=forecast)
    r, base = _check_pair(returns, forecast)
    share = _check_level(level)
    if not 0.0 <= rate < np.inf:
        raise ConfigError(f"rate is {rate!r}; give a step of 0 or more")
    scale = np.ones_like(r)
    for t in range(1, len(r)):
        with np.errstate(invalid="ignore"):
            exceeded = r[t] < -scale[t - 1] * base[t - 1]
        counted = ~np.isnan(r[t]) & (base[t - 1] > 0.0)
        scale[t] = scale[t - 1] + np.where(counted, rate * (exceeded - share), 0.0)
    return scale


def _check_pair(returns: FloatArray, forecast: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns and forecasts as float64 of one shape, refused where infinite."""
    r, base = np.asarray(returns, dtype=np.float64), np.asarray(forecast, dtype=np.float64)
    if r.ndim not in (1, 2) or r.shape != base.shape:
        raise DataError(
            f"returns {r.shape} and forecast {base.shape} have to be of one shape, (n_dates,) or "
            "(n_dates, n_series)"
        )
    if np.isinf(r).any() or np.isinf(base).any():
        raise DataError("returns or forecast hold an infinite value; mark a missing day with NaN")
    return r, base


def _check_level(level: float) -> float:
    """Share of the days beyond the forecast, ``1 - level``."""
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level must lie between 0 and 1 (0.95 is 95 %), got {level!r}.")
    return round(1.0 - level, 12)
