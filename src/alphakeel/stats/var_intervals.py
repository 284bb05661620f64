r"""How sure is a historical value at risk, and do two differ, where volatility comes in spells.

A share p of the days loses more than the VaR. To first order, the logarithm of the estimate is off
by the mean over days of

    psi[t] = slope / VaR * (1[r[t] <= -VaR] - p),
    slope  = (VaR((1 - h) p) - VaR((1 + h) p)) / (2 h p),

with VaR(q) the loss that a share q of the days exceeds (Bahadur's representation with Siddiqui's
slope of the quantile). Days beyond the VaR come in spells that last for months; a
kernel with an automatic bandwidth sees next to nothing of them from one day to the next. So the
variance of the mean is read from its slowest waves (`sharpe.cosine_variance`), and the price of
having only a few is Student's t of as many degrees of freedom in place of the normal.

One VaR takes 6 waves and h = 0.6: so wide a chord is steeper than the tangent, by a tenth for
normal returns, and offsets the spells that a history does not show. Two strategies on the same days
share most of their spells: 12 waves and h = 0.4. Both were chosen by simulated coverage
(`studies/coverage_own.py`).

The logarithm keeps limits positive; its difference is the share by which two VaRs differ, and needs
no resampling. Returns are simple and per day, as fractions; losses are positive.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats.bootstrap import Interval, check_series
from alphakeel.stats.performance import check_level, tail_share, value_at_risk
from alphakeel.stats.sharpe import cosine_variance

__all__ = ["value_at_risk_changes", "value_at_risk_intervals"]

Array = NDArray[np.float64]

# Waves, and h: half the chord over the share of days beyond the VaR.
_OWN_WAVES, _OWN_REACH = 6, 0.6
_PAIR_WAVES, _PAIR_REACH = 12, 0.4
_LEAST_DAYS = 10


def value_at_risk_intervals(
    returns: ArrayLike, *, var_level: float = 0.95, level: float = 0.95
) -> tuple[Interval, ...]:
    """Each strategy's historical value at risk of one day, with its interval.

    Parameters
    ----------
    returns : array of shape (n_dates,) or (n_dates, n_strategies)
        Simple returns per day, fractions, without NaN; on some hundred days at least, of which
        some must lie beyond the VaR for the limits to mean anything.
    var_level : float, default=0.95
        Confidence of the value at risk, of 0.5 or more.
    level : float, default=0.95
        Confidence of the interval, in (0, 1).

    Returns
    -------
    tuple of Interval, one per strategy
        Limits NaN where the VaR is not a loss, or the returns around it are all equal.

    Raises
    ------
    DataError
        If returns are missing, or are of fewer than 10 days.
    ConfigError
        If a confidence is out of range.

    References
    ----------
    Bahadur, R. R. (1966). A note on quantiles in large samples. Annals of Mathematical Statistics
    37, 577-580. https://doi.org/10.1214/aoms/1177699450
    Siddiqui, M. M. (1960). Distribution of quantiles in samples from a bivariate population.
    Journal of Research of the National Bureau of Standards 64B, 145-150.
    https://doi.org/10.6028/jres.064B.017

    Examples
    --------
    >>> days = np.random.default_rng(0).normal(0.0, 0.01, 2500)
    >>> (own,) = value_at_risk_intervals(days)
    >>> round(own.estimate, 4), own.low < 0.01645 < own.high
    (0.0161, True)
    """
    r = check_series(returns, "returns", ndim=(1, 2))
    estimate, influence = _log_influence(r.reshape(len(r), -1), var_level, _OWN_REACH)
    reach = _quantile(level, _OWN_WAVES) * _standard_error(influence, _OWN_WAVES)
    low, high = estimate * np.exp(-reach), estimate * np.exp(reach)
    return tuple(
        Interval(float(e), float(a), float(b), level)
        for e, a, b in zip(estimate, low, high, strict=True)
    )


def value_at_risk_changes(
    returns: ArrayLike, baseline: ArrayLike, *, var_level: float = 0.95, level: float = 0.95
) -> tuple[Interval, ...]:
    """By what share the value at risk of strategies differs from that of a baseline.

    Parameters
    ----------
    returns : array of shape (n_dates,) or (n_dates, n_strategies)
        Simple returns per day, fractions, without NaN.
    baseline : array of shape (n_dates,)
        The strategy that each is compared with, on the same days.
    var_level, level
        As in `value_at_risk_intervals`.

    Returns
    -------
    tuple of Interval, one per strategy
        Of ``VaR / VaR of the baseline - 1`` (-0.3: 30 % less to lose), with a two-sided p-value of
        no difference. NaN where the baseline has no VaR; limits and p-value also where one of the
        two has none of its own.

    Raises
    ------
    DataError
        If returns are missing, of different lengths, or of fewer than 10 days.
    ConfigError
        If a confidence is out of range.

    Examples
    --------
    >>> market = np.random.default_rng(0).normal(0.0, 0.01, 2500)
    >>> (half,) = value_at_risk_changes(0.5 * market, market)
    >>> round(half.estimate, 6), round(half.low, 6), half.p_value
    (-0.5, -0.5, 0.0)
    """
    r = check_series(returns, "returns", ndim=(1, 2))
    b = check_series(baseline, "baseline", ndim=(1,))
    if len(b) != len(r):
        raise DataError(f"returns cover {len(r)} days but the baseline {len(b)}.")
    value, influence = _log_influence(np.column_stack([r, b]), var_level, _PAIR_REACH)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = value[:-1] / value[-1]
        ratio[~np.isfinite(ratio)] = np.nan
        apart = np.log(ratio)
    n_waves = min(_PAIR_WAVES, len(r) - 1)
    error = _standard_error(influence[:, :-1] - influence[:, -1:], n_waves)
    reach = _quantile(level, n_waves) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        # Of one strategy and itself: no difference, and no doubt about it.
        t = np.where((apart == 0.0) & (error == 0.0), 0.0, np.abs(apart) / error)
    p = 2.0 * stdtr(n_waves, -t)
    low, high = ratio * np.exp(-reach), ratio * np.exp(reach)
    return tuple(
        Interval(float(e) - 1.0, float(a) - 1.0, float(b) - 1.0, level, float(q))
        for e, a, b, q in zip(ratio, low, high, p, strict=True)
    )


def _log_influence(r: Array, var_level: float, reach: float) -> tuple[Array, Array]:
    """VaR of each column, and what each day adds to its logarithm; NaN where it has none."""
    share = tail_share(var_level)
    if len(r) < _LEAST_DAYS:
        raise DataError(
            f"{len(r)} days are too few for an interval of a VaR; at least {_LEAST_DAYS} needed."
        )
    if share > 0.5:
        raise ConfigError(f"an interval needs a var_level of 0.5 at least, got {var_level!r}.")
    value, outer, inner = (
        np.asarray(value_at_risk(r, level=1.0 - share * times))
        for times in (1.0, 1.0 - reach, 1.0 + reach)
    )
    slope = (outer - inner) / (2.0 * reach * share)
    beyond = r <= -value
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where((value > 0.0) & (slope > 0.0), slope / value, np.nan)
    return value, scale * (beyond - beyond.mean(axis=0))


def _standard_error(influence: Array, n_waves: int) -> Array:
    """Of the mean of each column; NaN where it has one."""
    known = np.isfinite(influence).all(axis=0)
    error = np.full(influence.shape[1], np.nan)
    if known.any():
        error[known] = np.sqrt(cosine_variance(influence[:, known], n_waves) / len(influence))
    return error


def _quantile(level: float, n_waves: int) -> float:
    check_level(level)
    return float(stdtrit(n_waves, (1.0 + level) / 2.0))
