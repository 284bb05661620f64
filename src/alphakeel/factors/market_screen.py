"""Series that are the same for all stocks on a date, judged against the market's next return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from alphakeel.errors import DataError
from alphakeel.factors.screen_figures import newey_west_lags

__all__ = ["screen_market_series"]

FloatArray = NDArray[np.floating[Any]]


def screen_market_series(
    market: FloatArray,
    next_market_return: FloatArray,
    names: Sequence[str],
    *,
    horizon: int = 1,
    min_abs_t: float = 1.65,
) -> pd.DataFrame:
    r"""Relate series that are the same for all stocks to the market's next return.

    A market-wide series has no cross-sectional IC. This regresses the market's next return on
    each series alone, ``r[t] = a + b x[t] + e[t]``, with Newey-West standard errors. The table
    informs; it drops nothing: a network uses such a series to condition on the state of the
    market, which a linear regression of returns does not see.

    Parameters
    ----------
    market : ndarray of shape (n_dates, n_series)
        Values known at each close; NaN where unknown.

    next_market_return : ndarray of shape (n_dates,)
        What followed each row, as a fraction over `horizon` rows; NaN where unknown.

    names : sequence of str of length n_series

    horizon : int, default=1
        Rows that the return reaches over; Newey-West lags are at least ``horizon - 1``.

    min_abs_t : float, default=1.65
        \|t\| from which the verdict speaks of a relation.

    Returns
    -------
    verdicts : DataFrame
        `series, n_dates, slope, r2, nw_t, p_value, verdict`; `slope` is the change of the next
        return (fraction) for one standard deviation of the series. NaN where undefined.

    Raises
    ------
    DataError
        If shapes disagree.

    Notes
    -----
    Persistent series (a trend, a valuation level) bias the slope and its t upwards [1]_, so a
    \|t\| just above 2 is weak evidence.

    References
    ----------
    .. [1] Stambaugh, R. (1999). Predictive regressions. Journal of Financial Economics 54(3).
       doi:10.1016/S0304-405X(99)00041-0

    Examples
    --------
    >>> import numpy as np
    >>> x = np.sin(np.arange(400.0))[:, None]
    >>> noise = np.random.default_rng(0).standard_normal(400)
    >>> table = screen_market_series(x, 0.01 * x[:, 0] + 0.01 * noise, ["wave"])
    >>> bool(table.loc[0, "nw_t"] > 5)
    True
    """
    market = np.asarray(market, dtype=np.float64)
    returns = np.asarray(next_market_return, dtype=np.float64)
    if market.ndim != 2 or returns.shape != market.shape[:1] or len(names) != market.shape[1]:
        raise DataError(
            f"market has shape {market.shape}, next_market_return {returns.shape} and there are "
            f"{len(names)} names; expected (n_dates, n_series), (n_dates,) and n_series names."
        )
    rows = []
    for name, series in zip(names, market.T, strict=True):
        n, slope, r2, t = _predictive_regression(series, returns, horizon)
        p = float(2.0 * scipy_stats.norm.sf(abs(t))) if np.isfinite(t) else np.nan
        if not np.isfinite(t):
            word = "cannot be judged: too few dates, or a constant series"
        elif abs(t) >= min_abs_t:
            word = f"related: {slope:+.2%} of next return per standard deviation (t {t:.1f})"
        else:
            word = f"no relation of its own (t {t:.1f}); kept as a state for the sequence model"
        rows.append((name, n, slope, r2, t, p, word))
    columns = ["series", "n_dates", "slope", "r2", "nw_t", "p_value", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def _predictive_regression(
    x: FloatArray, y: FloatArray, horizon: int
) -> tuple[int, float, float, float]:
    """Dates used, slope per standard deviation, R2 and Newey-West t of the slope."""
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    n = int(x.size)
    if n < 10 or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        return n, np.nan, np.nan, np.nan
    x = (x - x.mean()) / x.std()
    y = y - y.mean()
    slope = float(x @ y) / n
    residual = y - slope * x
    score = x * residual
    lags = newey_west_lags(n, horizon)
    long_run = float(score @ score)
    for j in range(1, lags + 1):
        long_run += 2.0 * (1.0 - j / (lags + 1.0)) * float(score[j:] @ score[:-j])
    t = slope * n / np.sqrt(long_run) if long_run > 0 else np.nan
    return n, slope, 1.0 - float(residual @ residual) / float(y @ y), float(t)
