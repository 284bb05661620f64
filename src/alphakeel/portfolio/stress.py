"""What could go wrong: the worst stretches on record, and how deep the next year may go.

Returns are simple returns a day; losses are negative returns, drawdowns positive fractions. What
shocks to the market and to factors would do is in :mod:`.shocks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats import inference, metrics, timeseries

__all__ = [
    "DrawdownFan",
    "drawdown_fan",
    "fan_table",
    "replay_table",
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


def worst_windows(returns: FloatArray, *, length: int, count: int = 5) -> IntArray:
    """Worst stretches of some length that do not overlap, the worst first.

    Parameters
    ----------
    returns : ndarray of shape (n_dates,)
        Simple returns of the market, or of any strategy.
    length : int
        Days of a stretch.
    count : int, default=5
        Stretches at most.

    Returns
    -------
    ndarray of shape (n_found, 2) of int
        First row and the row after the last. Each is the worst stretch that overlaps no worse
        one; stretches without a loss are left out.

    Raises
    ------
    ConfigError
        If a number is below 1.
    DataError
        If returns are missing or not one series.

    Examples
    --------
    >>> worst_windows(np.array([0.01, -0.02, -0.03, 0.01, -0.04]), length=2, count=2)
    array([[1, 3],
           [3, 5]])
    """
    if length < 1 or count < 1:
        raise ConfigError(f"length is {length!r} and count {count!r}; give at least 1 of each.")
    r = check_series(returns, "returns")
    if len(r) < length:
        return np.empty((0, 2), dtype=np.int64)
    total = np.append(0.0, np.cumsum(np.log1p(r)))
    moves = total[length:] - total[:-length]
    found: list[int] = []
    for start in np.argsort(moves, kind="stable").tolist():
        if len(found) == count or moves[start] >= 0.0:
            break
        if all(abs(start - other) >= length for other in found):
            found.append(start)
    starts = np.array(found, dtype=np.int64)
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
    """What every strategy did in the worst stretches of the market.

    Parameters
    ----------
    returns : mapping of str to ndarray of shape (n_dates,)
        Simple net returns by strategy.
    market : ndarray of shape (n_dates,)
        Simple returns of what chooses the stretches: the index, or the baseline.
    dates : ndarray of shape (n_dates,), datetime64
    exposure : mapping of str to ndarray of shape (n_dates,), optional
        Share of wealth in stocks after each day's trades (a ledger's ``weights.sum(axis=1)``).
    lengths : sequence of int, default=(1, 5, 20, 60)
        Days of a stretch.
    count : int, default=3
        Stretches of each length, as found by `worst_windows`.

    Returns
    -------
    DataFrame, one row a stretch and strategy
        days, rank (1 is the worst of that length), first and last (dates), market (its return),
        strategy, total_return, share_of_market (total_return over the market's), max_drawdown
        (within the stretch, from its first day on), exposure_before (at the close before) and
        mean_exposure (held into the days of the stretch); NaN without exposures, and before the
        first row.

    Raises
    ------
    DataError
        If lengths differ or returns are missing.

    Examples
    --------
    >>> market = np.array([0.01, -0.05, -0.03, 0.02])
    >>> days = np.arange("2020-03-01", "2020-03-05", dtype="datetime64[D]")
    >>> half = {"half": market / 2}
    >>> table = replay_table(half, market, days, lengths=(2,), count=1)
    >>> table[["market", "total_return", "share_of_market"]].round(4).values.tolist()
    [[-0.0785, -0.0396, 0.5048]]
    """
    index = check_series(market, "market")
    strategies = {name: check_series(column, name, len(index)) for name, column in returns.items()}
    if len(dates) != len(index):
        raise DataError(f"there are {len(dates)} dates but {len(index)} returns of the market.")
    # What was held into a day is what was left after the trades of the day before.
    held = {
        name: timeseries.lag(np.asarray(share, dtype=np.float64), 1)
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
                        "max_drawdown": float(metrics.max_drawdown(column[first:stop])),
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
    resample of the whole history, so that the fan is a forecast and not a description.

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

    Returns
    -------
    DrawdownFan

    Raises
    ------
    ConfigError
        If a number is out of range.
    DataError
        If there are fewer returns than days ahead.

    Notes
    -----
    Unconditional: it knows neither today's volatility nor what never happened in the history.

    References
    ----------
    D. N. Politis, J. P. Romano (1994), The stationary bootstrap, Journal of the American
    Statistical Association 89, 1303-1313, doi:10.1080/01621459.1994.10476870.

    Examples
    --------
    >>> history = np.random.default_rng(0).normal(0.0004, 0.01, 2520)
    >>> fan = drawdown_fan(history, n_bootstrap=500)
    >>> fan.bounds.round(2)
    array([0.15, 0.2 , 0.26, 0.29, 0.35])
    """
    r = check_series(returns, "returns")
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
            inference.optimal_block_length(r), inference.optimal_block_length(np.abs(away))
        )
    paths, again = np.random.default_rng(seed).spawn(2)
    rows = inference.bootstrap_indices(len(r), block_length, n_bootstrap, paths)[:, :horizon]
    redrawn = inference.bootstrap_indices(len(r), block_length, n_bootstrap, again)
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
    """The end of each strategy's fan, as a table.

    Parameters
    ----------
    fans : mapping of str to DrawdownFan
        By strategy, all with the same levels.
    depths : sequence of float, default=(0.1, 0.2, 0.3)
        Drawdowns whose probability is wanted, fractions.

    Returns
    -------
    DataFrame, one row a strategy
        under_50, ... under_99 (the drawdown that the horizon stays under with that probability
        in per cent), beyond_10, ... (probability of a drawdown deeper than that per cent).

    Examples
    --------
    >>> still = drawdown_fan(np.zeros(300), n_bootstrap=20, levels=(0.95,))
    >>> fan_table({"cash": still}, depths=(0.1,))
              under_95  beyond_10
    strategy
    cash           0.0        0.0
    """
    rows = [
        {f"under_{100 * p:g}": float(x) for p, x in zip(fan.levels, fan.bounds, strict=True)}
        | {f"beyond_{100 * depth:g}": fan.probability(depth) for depth in depths}
        for fan in fans.values()
    ]
    return pd.DataFrame(rows, index=pd.Index(list(fans), name="strategy"))


def check_series(values: FloatArray, name: str, length: int | None = None) -> FloatArray:
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
