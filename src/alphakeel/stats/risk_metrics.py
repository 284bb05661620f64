"""The four risk figures of many portfolios in one pass over their returns.

Each is what the function of `stats.metrics` of the same name answers, to rounding: this module
shares the work. Deviation and worst days are taken of blocks that are laid out days last and fit
in the processor's cache, and only the days of large losses are sorted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alphakeel.stats import metrics

__all__ = ["RiskMetrics", "risk_metrics"]

Array = NDArray[np.float64]

# Returns of a block, 512 KB; up to this many portfolios, one pass along time each is quicker than
# a step for all of them.
BLOCK_VALUES = 65536
NARROW = 100


class RiskMetrics(NamedTuple):
    """Risk of one portfolio (arrays of shape ()) or of several (of shape (n_portfolios,)).

    Attributes
    ----------
    annual_volatility, max_drawdown, value_at_risk, conditional_value_at_risk : ndarray
        As the functions of these names in `stats.metrics`; losses are positive fractions, the
        last two of one day.
    """

    annual_volatility: Array
    max_drawdown: Array
    value_at_risk: Array
    conditional_value_at_risk: Array


def risk_metrics(
    returns: ArrayLike,
    *,
    level: float = 0.95,
    periods_per_year: float = metrics.PERIODS_PER_YEAR,
) -> RiskMetrics:
    """Annual volatility, maximum drawdown, VaR and CVaR in one call.

    Parameters
    ----------
    returns : array of shape (n_dates,) or (n_dates, n_portfolios)
        Simple returns per day, fractions; at least two days, none missing.
    level : float, default=0.95
        Confidence of VaR and CVaR, in (0, 1).
    periods_per_year : float, default=252

    Returns
    -------
    RiskMetrics

    Raises
    ------
    DataError
        If a return is missing, or below -1 (a loss of more than everything).
    ConfigError
        If `level` is out of range.

    Examples
    --------
    >>> risk = risk_metrics([0.01, -0.02, 0.015, 0.0], level=0.5)
    >>> [round(float(figure), 4) for figure in risk]
    [0.2457, 0.02, -0.005, 0.01]
    """
    r = metrics.check_returns(returns)
    metrics.refuse_ruin(r)
    share = metrics.tail_share(level)
    table = r.reshape(len(r), -1)
    deviation, var, cvar = np.empty((3, table.shape[1]))
    width = max(1, BLOCK_VALUES // len(r))
    for begin in range(0, table.shape[1], width):
        block = slice(begin, begin + width)
        rows = np.ascontiguousarray(table[:, block].T)
        deviation[block], var[block], cvar[block] = _deviation_and_tail(rows, share)
    drawdown = _drawdown(table) if table.shape[1] > NARROW else metrics.max_drawdown(table)
    figures = (deviation * np.sqrt(periods_per_year), drawdown, var, cvar)
    return RiskMetrics(*(np.asarray(figure).reshape(r.shape[1:]) for figure in figures))


def _deviation_and_tail(rows: Array, share: float) -> tuple[Array, Array, Array]:
    """Daily deviation, VaR and CVaR of portfolios of shape (n_portfolios, n_dates)."""
    n = rows.shape[1]
    deviation = rows.std(axis=1, ddof=1)
    # By range: the deviation of equal numbers may come out as a rounding error.
    deviation[rows.min(axis=1) == rows.max(axis=1)] = 0.0
    position, mass = share * (n - 1), share * n
    low, whole = int(position), min(int(mass), n - 1)
    between, rest = position - low, mass - whole
    high = min(low + 1, n - 1)
    count = max(high, whole) + 1
    worst = np.empty((len(rows), count))
    for i, cut in enumerate(rows.mean(axis=1) - deviation):
        worst[i] = _lowest(rows[i], count, cut)
    var = -((1.0 - between) * worst[:, low] + between * worst[:, high])
    cvar = -(worst[:, :whole].sum(axis=1) + rest * worst[:, whole]) / mass
    return deviation, var, cvar


def _lowest(row: Array, count: int, cut: float) -> Array:
    """The `count` lowest values, sorted.

    A standard deviation below the mean there are mostly enough of them, and a seventh to sort.
    """
    low = row[row < cut]
    if low.size < count:
        low = np.partition(row, count - 1)[:count]
    low.sort()
    return low[:count]


def _drawdown(table: Array) -> Array:
    """Maximum drawdown of many portfolios, all of them one day further at a time."""
    wealth, peak, kept = np.ones((3, table.shape[1]))
    growth, share = np.empty((2, table.shape[1]))
    for row in table:
        np.add(row, 1.0, out=growth)
        np.multiply(wealth, growth, out=wealth)
        np.maximum(peak, wealth, out=peak)
        np.divide(wealth, peak, out=share)
        np.minimum(kept, share, out=kept)
    return 1.0 - kept
