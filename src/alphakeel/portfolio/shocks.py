"""What a fall of the market, of a sector or of a style would cost a book.

Two ways: by the holdings and their betas known that day (`book_shock`), and by the strategy's own
returns regressed on those of factors (`shock_table`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.errors import ConfigError, DataError
from alphakeel.portfolio.stress import check_series, worst_windows
from alphakeel.stats import timeseries

__all__ = ["book_shock", "book_shock_table", "shock_table", "spread_returns"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Share of the market's move below which a book's betas leave nothing to check.
CANCELLED = 0.05


def book_shock(
    weights: FloatArray,
    returns: FloatArray,
    market: FloatArray,
    rows: IntArray | None = None,
    *,
    shock: float = -0.10,
    window: int = 252,
    min_count: int = 60,
) -> FloatArray:
    """What a book would earn on a day on which the market moves by `shock`.

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
        Return of the book, negative for a loss, as known at each close.

    Raises
    ------
    ConfigError
        If the shock is below -1.
    DataError
        If shapes do not fit.

    Notes
    -----
    Betas are those of ordinary days. Correlations rise in a crash, so that the true loss of a
    book of low-beta stocks tends to be larger: ``docs/stress.md`` compares this figure with what
    was lost on the market's worst days.

    Examples
    --------
    >>> market = np.tile([0.01, -0.01], 50)
    >>> stocks = np.column_stack([2.0 * market, 0.5 * market])
    >>> book_shock(np.array([[0.6, 0.2]]), stocks, market, np.array([99])).round(4)
    array([-0.13])
    """
    if not shock >= -1.0:
        raise ConfigError(f"shock is {shock!r}; the market cannot fall by more than 1 (100 %).")
    index = np.asarray(market, dtype=np.float64)
    stocks, book = np.asarray(returns, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    at = np.arange(len(stocks)) if rows is None else np.asarray(rows)
    if index.shape != stocks.shape[:1] or book.shape != (len(at), stocks.shape[1]):
        raise DataError(
            f"weights {book.shape}, {len(at)} rows, returns {stocks.shape} and market "
            f"{index.shape} do not fit: give (n_rows, n_assets), (n_dates, n_assets), (n_dates,)."
        )
    beta = timeseries.trailing_beta(stocks, index, window, min_count=min_count)[at]
    moves = np.maximum(np.where(np.isnan(beta), 1.0, beta) * shock, -1.0)
    return np.asarray((book * moves).sum(axis=1))


def book_shock_table(
    books: Mapping[str, FloatArray],
    returns: FloatArray,
    market: FloatArray,
    rows: IntArray,
    *,
    shocks: Sequence[float] = (-0.05, -0.10, -0.20),
    worst_days: int = 20,
) -> pd.DataFrame:
    """What each book would lose if the market fell in a day, and how good that figure has been.

    Parameters
    ----------
    books : mapping of str to ndarray of shape (n_rows, n_assets)
        Holdings by strategy, as in `book_shock`.
    returns, market, rows
        As in `book_shock`; rows in ascending order.
    shocks : sequence of float, default=(-0.05, -0.10, -0.20)
        Returns of the market.
    worst_days : int, default=20
        Days of the market, its worst after any of the rows, on which the figure is checked.

    Returns
    -------
    DataFrame indexed by (strategy, shock)
        latest (return of the book held on the last row), mean and worst (over all rows), check
        (what the books held at the closes before the market's worst days earned on these days,
        over what their betas gave for the fall that came: above 1 they lost more; NaN where
        the betas of longs and shorts cancel to less than a twentieth, and leave nothing to check).

    Examples
    --------
    >>> market = np.tile([0.01, -0.02], 60)
    >>> book = {"half": np.full((20, 1), 0.5)}
    >>> table = book_shock_table(book, market[:, None], market, np.arange(99, 119))
    >>> table.loc[("half", -0.1)].round(3).tolist()
    [-0.05, -0.05, -0.05, 1.0]
    """
    index, stocks = np.asarray(market, dtype=np.float64), np.asarray(returns, dtype=np.float64)
    at = np.asarray(rows)
    before = at[at + 1 < len(index)]
    worst = worst_windows(index[before + 1], length=1, count=worst_days)[:, 0]
    after = before[worst] + 1
    found: dict[tuple[str, float], dict[str, float]] = {}
    for name, weights in books.items():
        per_unit = book_shock(weights, stocks, index, at, shock=-1e-6) / -1e-6
        earned = (weights[worst] * np.nan_to_num(stocks[after])).sum(axis=1)
        fall = index[after]
        expected = float((per_unit[worst] * fall).sum())
        whole = float((np.abs(weights[worst]).sum(axis=1) * np.abs(fall)).sum())
        for shock in shocks:
            losses = book_shock(weights, stocks, index, at, shock=shock)
            found[name, shock] = {
                "latest": float(losses[-1]),
                "mean": float(losses.mean()),
                "worst": float(losses.min()),
                "check": earned.sum() / expected if abs(expected) > CANCELLED * whole else np.nan,
            }
    table = pd.DataFrame.from_dict(found, orient="index")
    table.index = pd.MultiIndex.from_tuples(found, names=["strategy", "shock"])
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
        robust, HC1), alone, together (returns of the strategy), r2 (of the joint regression).

    Raises
    ------
    ConfigError
        If `sigmas` or `horizon` is not positive.
    DataError
        If lengths differ, days are too few or one factor is a combination of the others.

    References
    ----------
    H. White (1980), A heteroskedasticity-consistent covariance matrix estimator and a direct
    test for heteroskedasticity, Econometrica 48(4), 817-838, doi:10.2307/1912934.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> market, size = rng.normal(0, 0.01, 500), rng.normal(0, 0.005, 500)
    >>> fund = {"fund": 0.8 * market - 0.3 * size}
    >>> table = shock_table(fund, {"market": market, "size": size})
    >>> table["slope"].round(3).tolist()
    [0.8, -0.3]
    """
    if not sigmas > 0.0 or horizon < 1:
        raise ConfigError(f"sigmas is {sigmas!r} and horizon {horizon!r}; give positive numbers.")
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
        y = check_series(column, strategy, known.size)[known]
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

    Parameters
    ----------
    returns : ndarray of shape (n_dates, n_assets)
        Simple returns; NaN where there is none.
    characteristic : ndarray of shape (n_dates, n_assets)
        As known at each close; the stocks of a day are chosen by the row before. NaN takes no part.
    quantile : float, default=0.2
        Share of the stocks on either side, each equally weighted, at most one half.

    Returns
    -------
    ndarray of shape (n_dates,)
        NaN where a side is empty, row 0 included.

    Examples
    --------
    >>> spread_returns(np.array([[0.0, 0.0], [0.01, 0.03]]), np.array([[1, 2], [5, 4.0]]),
    ...                quantile=0.5)
    array([ nan, 0.02])
    """
    if not 0.0 < quantile <= 0.5:
        raise ConfigError(f"quantile is {quantile!r}; give a share of at most 0.5.")
    known = timeseries.lag(np.asarray(characteristic, dtype=np.float64), 1)
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
    total = np.where(known, returns, 0.0).sum(axis=1)
    return np.asarray(np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0))
