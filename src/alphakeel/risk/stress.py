"""What could go wrong: the worst windows on record, shocks, and how deep the next year may go.

Returns are simple returns a day; losses are negative returns, drawdowns positive fractions.

What a fall of the market, of a sector or of a style would cost a portfolio is computed in two
ways: by the holdings and their betas known that day (`portfolio_shock`), and by the strategy's
own returns regressed on those of factors (`shock_table`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats import bootstrap, performance, rolling
from alphakeel.stats.cross_section import row_sums

__all__ = [
    "DrawdownFan",
    "portfolio_shock",
    "portfolio_shock_table",
    "drawdown_fan",
    "fan_table",
    "replay_table",
    "shock_table",
    "spread_returns",
    "worst_windows",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
DateArray = npt.NDArray[np.datetime64]

# Worst return of a drawn day: all but a millionth of wealth.
RUIN = -1.0 + 1e-6

_REPLAY = (
    "days",
    "rank",
    "first",
    "last",
    "market",
    "strategy",
    "total_return",
    "share_of_market",
    "max_drawdown",
    "exposure_before",
    "mean_exposure",
)

# Share of the market's move below which a portfolio's betas leave nothing to check.
CANCELLED = 0.05


def worst_windows(returns: FloatArray, *, length: int, count: int = 5) -> IntArray:
    """At most `count` windows of `length` days with the largest losses, the worst first.

    First row and the row after the last, (n_windows, 2). Each is the worst window that overlaps no
    worse one; windows without a loss are left out.
    """
    if length < 1 or count < 1:
        raise ConfigError(f"length is {length!r} and count {count!r}; give at least 1 of each.")
    r = _check_returns(returns, "returns")
    if len(r) < length:
        return np.empty((0, 2), dtype=np.int64)
    total = np.append(0.0, np.cumsum(np.log1p(r)))
    moves = total[length:] - total[:-length]
    chosen: list[int] = []
    for start in np.argsort(moves, kind="stable").tolist():
        if len(chosen) == count or moves[start] >= 0.0:
            break
        if all(abs(start - other) >= length for other in chosen):
            chosen.append(start)
    starts = np.array(chosen, dtype=np.int64)
    return np.column_stack([starts, starts + length])


def replay_table(
    returns: Mapping[str, FloatArray],
    market: FloatArray,
    dates: DateArray,
    *,
    exposure: Mapping[str, FloatArray] | None = None,
    lengths: Sequence[int] = (1, 5, 20, 60),
    count: int = 3,
) -> pd.DataFrame:
    """What every strategy did in the worst windows of the market.

    Parameters
    ----------
    returns : mapping of str to ndarray of shape (n_dates,)
        Simple net returns by strategy.
    market : ndarray of shape (n_dates,)
        Simple returns of what chooses the windows: the index, or the baseline.
    dates : ndarray of shape (n_dates,), datetime64
    exposure : mapping of str to ndarray of shape (n_dates,), optional
        Share of wealth in stocks after each day's trades (a ledger's ``weights.sum(axis=1)``).
    lengths : sequence of int, default=(1, 5, 20, 60)
        Days of a window.
    count : int, default=3
        Windows of each length, by `worst_windows`.

    Returns
    -------
    DataFrame, one row a window and strategy
        days, rank (1 is the worst of that length), first and last (dates), market (its return),
        strategy, total_return, share_of_market (total_return over the market's), max_drawdown
        (within the window, from its first day on), exposure_before (at the close before) and
        mean_exposure (held into the days of the window); NaN without exposures, and before the
        first row.
    """
    named = {f"returns of {name}": column for name, column in returns.items()}
    named |= {f"exposure of {name}": share for name, share in (exposure or {}).items()}
    performance.check_labels(market=market, **named)
    index = _check_returns(market, "market")
    strategies = {
        name: _check_returns(column, name, len(index)) for name, column in returns.items()
    }
    if len(dates) != len(index):
        raise DataError(f"there are {len(dates)} dates but {len(index)} returns of the market.")
    # What was held into a day is what was left after the trades of the day before.
    held = {
        name: rolling.lag(np.asarray(share, dtype=np.float64), 1)
        for name, share in (exposure or {}).items()
    }
    unknown = np.full(len(index), np.nan)
    rows = []
    for length in lengths:
        for rank, (first, stop) in enumerate(worst_windows(index, length=length, count=count), 1):
            fall = _compound(index[first:stop])
            for name, column in strategies.items():
                inside = held.get(name, unknown)[first:stop]
                gain = _compound(column[first:stop])
                rows.append(
                    {
                        "days": length,
                        "rank": rank,
                        "first": dates[first],
                        "last": dates[stop - 1],
                        "market": fall,
                        "strategy": name,
                        "total_return": gain,
                        "share_of_market": gain / fall,
                        "max_drawdown": float(performance.max_drawdown(column[first:stop])),
                        "exposure_before": float(inside[0]),
                        "mean_exposure": float(inside.mean()),
                    }
                )
    return pd.DataFrame(rows, columns=list(_REPLAY))


@dataclass(frozen=True, eq=False)
class DrawdownFan:
    """Distribution of the drawdowns of the next `horizon` days.

    Attributes
    ----------
    days : ndarray of shape (horizon,)
        1, 2, ..., horizon.
    levels : ndarray of shape (n_levels,)
        Probabilities of the quantiles, for example 0.5, 0.75, 0.95.
    quantiles : ndarray of shape (horizon, n_levels)
        Quantiles of the deepest drawdown within the first k days, positive fractions.
    bounds : ndarray of shape (n_levels,)
        Their last row: with probability ``levels[j]`` the drawdown stays under ``bounds[j]``.
    worst : ndarray of shape (n_bootstrap,)
        The deepest drawdown of each path, ascending.
    """

    days: IntArray
    levels: FloatArray
    quantiles: FloatArray
    bounds: FloatArray
    worst: FloatArray

    def probability(self, drawdown: float) -> float:
        """Share of the paths whose drawdown goes deeper."""
        return float((self.worst > drawdown).mean())


def drawdown_fan(
    returns: FloatArray,
    *,
    horizon: int = 252,
    levels: Sequence[float] = (0.5, 0.75, 0.9, 0.95, 0.99),
    n_bootstrap: int = 2000,
    block_length: float | None = None,
    seed: int = 0,
) -> DrawdownFan:
    """How deep the drawdown of the next year may go, by the stationary bootstrap.

    Paths of `horizon` days are drawn in blocks from the history, wealth is compounded from 1, and
    the drawdown counts from the highest wealth of the path, its start included. The drift of the
    history is an estimate too: each path is shifted by the error of the mean of one more
    resample of the whole history, so that the fan is a forecast and not a description. It is
    unconditional: it knows neither today's volatility nor what never happened in the history.

    Parameters
    ----------
    returns : ndarray of shape (n_dates,)
        Simple net returns of a strategy, without NaN, at least `horizon` of them.
    horizon : int, default=252
        Days ahead.
    levels : sequence of float
        Probabilities in (0, 1), ascending.
    n_bootstrap : int, default=2000
        Paths.
    block_length : float, optional
        Mean days of a block; by default the longer of `optimal_block_length` of the returns and
        of their absolute deviations.
    seed : int, default=0

    References
    ----------
    D. N. Politis, J. P. Romano (1994), doi:10.1080/01621459.1994.10476870.

    Examples
    --------
    >>> history = np.random.default_rng(0).normal(0.0004, 0.01, 2520)
    >>> fan = drawdown_fan(history, n_bootstrap=500)
    >>> fan.bounds.round(2)
    array([0.15, 0.2 , 0.26, 0.29, 0.35])
    """
    r = _check_returns(returns, "returns")
    probabilities = np.asarray(levels, dtype=np.float64)
    if horizon < 1 or n_bootstrap < 1 or not ((probabilities > 0.0) & (probabilities < 1.0)).all():
        raise ConfigError(
            f"horizon {horizon!r}, n_bootstrap {n_bootstrap!r} and levels {tuple(levels)!r}: "
            "give at least 1, at least 1 and probabilities between 0 and 1."
        )
    if len(r) < horizon:
        raise DataError(f"{len(r)} days of returns are too few for {horizon} days ahead.")
    away = r - r.mean()
    if block_length is None:
        block_length = max(
            bootstrap.optimal_block_length(r), bootstrap.optimal_block_length(np.abs(away))
        )
    paths, again = np.random.default_rng(seed).spawn(2)
    rows = bootstrap.bootstrap_indices(len(r), block_length, n_bootstrap, paths)[:, :horizon]
    redrawn = bootstrap.bootstrap_indices(len(r), block_length, n_bootstrap, again)
    error = away[redrawn].mean(axis=1)
    # In logarithms: a path of wild returns may reach any wealth.
    growth = np.cumsum(np.log1p(np.maximum(r[rows] + error[:, None], RUIN)).T, axis=0)
    peak = np.maximum.accumulate(np.maximum(growth, 0.0), axis=0)
    falls = -np.expm1(growth - peak)
    deepest = np.maximum.accumulate(falls, axis=0)
    quantiles = np.quantile(deepest, probabilities, axis=1).T
    return DrawdownFan(
        days=np.arange(1, horizon + 1),
        levels=probabilities,
        quantiles=quantiles,
        bounds=quantiles[-1],
        worst=np.sort(deepest[-1]),
    )


def fan_table(
    fans: Mapping[str, DrawdownFan], *, depths: Sequence[float] = (0.1, 0.2, 0.3)
) -> pd.DataFrame:
    """The end of each strategy's fan as a table, one row a strategy; all have the same levels.

    under_50, ... under_99: the drawdown that the horizon stays under with that probability in per
    cent; beyond_10, ...: probability of a drawdown deeper than that per cent, one for each of
    `depths`.
    """
    rows = [
        {f"under_{100 * p:g}": float(x) for p, x in zip(fan.levels, fan.bounds, strict=True)}
        | {f"beyond_{100 * depth:g}": fan.probability(depth) for depth in depths}
        for fan in fans.values()
    ]
    return pd.DataFrame(rows, index=pd.Index(list(fans), name="strategy"))


def _check_returns(values: FloatArray, name: str, length: int | None = None) -> FloatArray:
    """One series of finite returns, of the length asked for."""
    r = np.asarray(values, dtype=np.float64)
    if r.ndim != 1 or not len(r) or (length is not None and len(r) != length):
        wanted = "one return a day" if length is None else f"{length} returns"
        raise DataError(f"{name} has shape {r.shape}; give {wanted}.")
    bad = ~(np.isfinite(r) & (r > -1.0))
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"{name} is {r[row]} at row {row}; every day needs a return above -1.")
    return r


def _compound(returns: FloatArray) -> float:
    return float(np.prod(1.0 + returns) - 1.0)


def portfolio_shock(
    weights: FloatArray,
    returns: FloatArray,
    market: FloatArray,
    rows: IntArray | None = None,
    *,
    shock: float = -0.10,
    window: int = 252,
    min_count: int = 60,
) -> FloatArray:
    """What a portfolio would earn on a day on which the market moves by `shock`.

    Every holding moves by its own beta times the shock, its beta being that of the last `window`
    days known at the close; nothing falls by more than all of its value.

    Parameters
    ----------
    weights : ndarray of shape (n_rows, n_assets)
        Share of wealth in each stock at the closes in `rows`; the rest is cash and does not move.
        Negative weights are shorts. A row with a NaN gives NaN.
    returns : ndarray of shape (n_dates, n_assets)
        Simple returns of the stocks; NaN where there is none.
    market : ndarray of shape (n_dates,)
        Simple returns of the index.
    rows : ndarray of shape (n_rows,) of int, optional
        Row of `returns` at whose close each row of `weights` is held; by default all rows.
    shock : float, default=-0.10
        Return of the market, -0.10 is a fall of 10 %.
    window, min_count : int, default=252 and 60
        Days of a beta, and those it needs. With fewer, the stock is taken to move with the
        market (beta 1).

    Returns
    -------
    ndarray of shape (n_rows,)
        Return of the portfolio, negative for a loss, as known at each close.

    Notes
    -----
    Betas are those of ordinary days. Correlations rise in a crash, so that the true loss of a
    portfolio of low-beta stocks tends to be larger: ``docs/stress.md`` compares this figure with
    what was lost on the market's worst days.

    Examples
    --------
    >>> market = np.tile([0.01, -0.01], 50)
    >>> stocks = np.column_stack([2.0 * market, 0.5 * market])
    >>> portfolio_shock(np.array([[0.6, 0.2]]), stocks, market, np.array([99])).round(4)
    array([-0.13])
    """
    if not shock >= -1.0:
        raise ConfigError(f"shock is {shock!r}; the market cannot fall by more than 1 (100 %).")
    performance.check_labels(returns=returns, market=market)
    index = np.asarray(market, dtype=np.float64)
    stocks, held = np.asarray(returns, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    at = np.arange(len(stocks)) if rows is None else np.asarray(rows)
    if index.shape != stocks.shape[:1] or held.shape != (len(at), stocks.shape[1]):
        raise DataError(
            f"weights {held.shape}, {len(at)} rows, returns {stocks.shape} and market "
            f"{index.shape} do not fit: give (n_rows, n_assets), (n_dates, n_assets), (n_dates,)."
        )
    beta = rolling.trailing_beta(stocks, index, window, min_count=min_count)[at]
    moves = np.maximum(np.where(np.isnan(beta), 1.0, beta) * shock, -1.0)
    return row_sums(held * moves)


def portfolio_shock_table(
    portfolios: Mapping[str, FloatArray],
    returns: FloatArray,
    market: FloatArray,
    rows: IntArray,
    *,
    shocks: Sequence[float] = (-0.05, -0.10, -0.20),
    worst_days: int = 20,
) -> pd.DataFrame:
    """What each portfolio would lose if the market fell in a day, and a check of that figure.

    Parameters
    ----------
    portfolios : mapping of str to ndarray of shape (n_rows, n_assets)
        Weights by strategy, as in `portfolio_shock`.
    returns, market, rows
        As in `portfolio_shock`; rows in ascending order.
    shocks : sequence of float, default=(-0.05, -0.10, -0.20)
        Returns of the market.
    worst_days : int, default=20
        Days of the market, its worst after any of the rows, on which the figure is checked.

    Returns
    -------
    DataFrame indexed by (strategy, shock)
        latest (return of the portfolio held on the last row), mean and worst (over all rows),
        check (what the portfolios held at the closes before the market's worst days earned on these
        days, over what their betas gave for the fall that came: above 1 they lost more; NaN where
        the betas of longs and shorts cancel to less than a twentieth, and leave nothing to check).
    """
    performance.check_labels(returns=returns, market=market)
    index, stocks = np.asarray(market, dtype=np.float64), np.asarray(returns, dtype=np.float64)
    at = np.asarray(rows)
    before = at[at + 1 < len(index)]
    worst = worst_windows(index[before + 1], length=1, count=worst_days)[:, 0]
    after = before[worst] + 1
    losses_by: dict[tuple[str, float], dict[str, float]] = {}
    for name, weights in portfolios.items():
        per_unit = portfolio_shock(weights, stocks, index, at, shock=-1e-6) / -1e-6
        earned = row_sums(weights[worst] * np.nan_to_num(stocks[after]))
        fall = index[after]
        expected = float((per_unit[worst] * fall).sum())
        whole = float((row_sums(np.abs(weights[worst])) * np.abs(fall)).sum())
        for shock in shocks:
            losses = portfolio_shock(weights, stocks, index, at, shock=shock)
            losses_by[name, shock] = {
                "latest": float(losses[-1]),
                "mean": float(losses.mean()),
                "worst": float(losses.min()),
                "check": earned.sum() / expected if abs(expected) > CANCELLED * whole else np.nan,
            }
    table = pd.DataFrame.from_dict(losses_by, orient="index")
    table.index = pd.MultiIndex.from_tuples(losses_by, names=["strategy", "shock"])
    return table


def shock_table(
    returns: Mapping[str, FloatArray],
    factors: Mapping[str, FloatArray],
    *,
    sigmas: float = 3.0,
    horizon: int = 1,
) -> pd.DataFrame:
    """What each strategy would earn if a factor fell by some standard deviations.

    Strategy returns are regressed on the factors by least squares over all days. `alone` moves
    one factor and holds the others still: the slope of the joint regression times the shock.
    `together` lets the others move as they have moved with it: the slope on that factor alone
    times the shock.

    Parameters
    ----------
    returns : mapping of str to ndarray of shape (n_dates,)
        Simple returns by strategy.
    factors : mapping of str to ndarray of shape (n_dates,)
        Returns of the market, of sectors, of styles (`spread_returns`). Days on
        which any factor is NaN are left out.
    sigmas : float, default=3.0
        Size of the fall in standard deviations of the factor.
    horizon : int, default=1
        Days over which it falls: the deviation grows with the root of it.

    Returns
    -------
    DataFrame indexed by (strategy, factor)
        shock (return of the factor), slope (joint regression) with its t (heteroskedasticity
        robust, HC1: H. White (1980), doi:10.2307/1912934), alone, together (returns of the
        strategy), r2 (of the joint regression).
    """
    if not sigmas > 0.0 or horizon < 1:
        raise ConfigError(f"sigmas is {sigmas!r} and horizon {horizon!r}; give positive numbers.")
    performance.check_labels(**factors)
    performance.check_labels(**returns)
    names = list(factors)
    x = np.column_stack([np.asarray(column, dtype=np.float64) for column in factors.values()])
    known = np.isfinite(x).all(axis=1)
    x = x[known]
    if len(x) <= 2 * len(names) + 2:
        raise DataError(
            f"{len(x)} days with all {len(names)} factors are too few for a regression."
        )
    deviation = x.std(axis=0, ddof=1)
    design = np.column_stack([np.ones(len(x)), x])
    if np.linalg.matrix_rank((x - x.mean(axis=0)) / np.where(deviation > 0, deviation, 1)) < len(
        names
    ):
        raise DataError(f"the factors {', '.join(names)} are not independent: leave one out.")
    inverse = np.linalg.inv(design.T @ design)
    away = x - x.mean(axis=0)
    shocks = -sigmas * deviation * np.sqrt(horizon)
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for strategy, column in returns.items():
        y = _check_returns(column, strategy, known.size)[known]
        slopes = inverse @ (design.T @ y)
        left = y - design @ slopes
        meat = (design * left[:, None] ** 2).T @ design * (len(x) / (len(x) - design.shape[1]))
        errors = np.sqrt(np.diag(inverse @ meat @ inverse))
        spread = float(((y - y.mean()) ** 2).sum())
        single = away.T @ (y - y.mean()) / (away * away).sum(axis=0)
        for k, factor in enumerate(names):
            rows[strategy, factor] = {
                "shock": float(shocks[k]),
                "slope": float(slopes[k + 1]),
                "t": float(slopes[k + 1] / errors[k + 1]) if errors[k + 1] > 0.0 else np.nan,
                "alone": float(slopes[k + 1] * shocks[k]),
                "together": float(single[k] * shocks[k]),
                "r2": 1.0 - float(left @ left) / spread if spread > 0.0 else np.nan,
            }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["strategy", "factor"])
    return table


def spread_returns(
    returns: FloatArray, characteristic: FloatArray, *, quantile: float = 0.2
) -> FloatArray:
    """Return of the stocks high in a characteristic less that of the low ones: a style factor.

    The characteristic is the one known at each close, and the stocks of a day are chosen by the row
    before; each side is the share `quantile` of them, equally weighted. NaN takes no part; the
    result is NaN where a side is empty, row 0 included.
    """
    if not 0.0 < quantile <= 0.5:
        raise ConfigError(f"quantile is {quantile!r}; give a share of at most 0.5.")
    performance.check_labels(returns=returns, characteristic=characteristic)
    known = rolling.lag(np.asarray(characteristic, dtype=np.float64), 1)
    usable = np.isfinite(known) & np.isfinite(returns)
    order = np.argsort(np.where(usable, known, np.inf), axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(order.shape[1]), order.shape), axis=1)
    total = usable.sum(axis=1, keepdims=True)
    size = np.floor(quantile * total)
    low = usable & (rank < size)
    high = usable & (rank >= total - size)
    return _mean_of(returns, high) - _mean_of(returns, low)


def _mean_of(returns: FloatArray, member: npt.NDArray[np.bool_]) -> FloatArray:
    """Mean of the members' known returns a day; NaN without one."""
    known = member & np.isfinite(returns)
    count = known.sum(axis=1)
    total = row_sums(returns, known)
    return np.asarray(np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0))
