"""Table II: what each strategy did in bull, bear and range-bound markets.

Drawdown is computed on the full path and attributed to the regime in which it fell: a drawdown of
the days of one regime, stitched together, is one that nobody ever suffered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.errors import ConfigError, DataError
from alphakeel.portfolio.phases import Regime
from alphakeel.stats import inference, metrics
from alphakeel.stats.sharpe_tests import sharpe_differences, sharpe_intervals

__all__ = ["LEAST_DAYS", "drawdown_shares", "regime_table"]

Floats = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int8]

# Days below which a regime has no statistics, only a note.
LEAST_DAYS = 20
# Resamples counted at a time: 512 x 2,770 days of float64 are 11 MiB.
_CHUNK = 512
_COLUMNS = (
    "mean_return",
    "mean_return_low",
    "mean_return_high",
    "annual_return",
    "sharpe",
    "sharpe_low",
    "sharpe_high",
    "var_95",
    "mean_return_difference",
    "mean_return_difference_low",
    "mean_return_difference_high",
    "mean_return_difference_p",
    "sharpe_difference",
    "sharpe_difference_low",
    "sharpe_difference_high",
    "sharpe_difference_p",
)
_ORDER = (Regime.BULL, Regime.BEAR, Regime.RANGE_BOUND)


def regime_table(
    returns: Mapping[str, Floats],
    labels: Labels,
    *,
    baseline: str,
    level: float,
    n_bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """Every strategy in every regime.

    Parameters
    ----------
    returns : mapping of str to ndarray of shape (n_days,)
        Simple net returns by strategy, all over the same days, without NaN.
    labels : ndarray of shape (n_days,) of int8
        Regime of each day's return: `market_phases` as it is, a causal label after
        `label_of_day`.
    baseline : str
        The strategy that the others are compared with.
    level : float
        Confidence of the intervals, for example 0.95.
    n_bootstrap : int
        Resamples.
    seed : int

    Returns
    -------
    DataFrame indexed by (regime, strategy); the first regime is "all"
        days; mean_return (per day) and sharpe with _low and _high; annual_return (compounded over
        the regime's days); var_95 (historical, daily); drawdown_share (part of the strategy's
        maximum drawdown, in log losses from its peak to its trough, that fell on days of this
        regime: adds up to 1, below 0 where the strategy gained); deepest_drawdown (the deepest
        point below the highest wealth so far, on the full path, reached on days of this regime);
        mean_return_difference and sharpe_difference to the baseline with _low, _high and
        two-sided _p; note. Intervals resample the regime's days in blocks, the same for all
        strategies; those of Sharpe ratios are studentised, as in Table I. With fewer than 20 days
        only days and drawdowns are given.

    Raises
    ------
    ConfigError
        If the baseline is not among the strategies.
    DataError
        If lengths differ.

    Examples
    --------
    >>> days = np.random.default_rng(0).normal(0.0, 0.01, 100)
    >>> labels = np.repeat(np.array([1, -1], dtype=np.int8), [90, 10])
    >>> table = regime_table({"a": days, "b": days + 0.001}, labels, baseline="a",
    ...                      level=0.95, n_bootstrap=100, seed=0)
    >>> table.loc[("bull", "b"), ["days", "mean_return_difference"]].round(6).tolist()
    [90.0, 0.001]
    >>> table.loc[("bear", "b"), "note"]
    'fewer than 20 days'
    """
    if baseline not in returns:
        raise ConfigError(f"the baseline {baseline!r} is not a strategy: {', '.join(returns)}.")
    labels = np.asarray(labels)
    if any(len(column) != len(labels) for column in returns.values()):
        raise DataError(f"every strategy needs the {len(labels)} days that have a label.")
    names = list(returns)
    columns = np.column_stack([np.asarray(column, dtype=np.float64) for column in returns.values()])
    falls = metrics.drawdown_series(columns)
    shares = {name: drawdown_shares(column, labels) for name, column in returns.items()}
    kinds = [*_ORDER, *([Regime.UNKNOWN] if (labels == Regime.UNKNOWN).any() else [])]
    groups = {"all": np.ones(len(labels), dtype=np.bool_)}
    groups |= {kind.text: labels == kind for kind in kinds}
    share_of = {kind.text: kind for kind in kinds}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for regime, days in groups.items():
        figures = _figures(columns[days], names.index(baseline), level, n_bootstrap, seed)
        for i, name in enumerate(names):
            part = shares[name].get(share_of[regime], 0.0) if regime != "all" else 1.0
            rows[regime, name] = figures[i] | {
                "drawdown_share": part if falls[:, i].any() else np.nan,
                "deepest_drawdown": float(falls[days, i].max()) if days.any() else np.nan,
                "note": "" if days.sum() >= LEAST_DAYS else f"fewer than {LEAST_DAYS} days",
            }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["regime", "strategy"])
    return table


def drawdown_shares(returns: Floats, labels: Labels) -> dict[Regime, float]:
    """Which regimes a strategy's maximum drawdown fell in.

    Parameters
    ----------
    returns : ndarray of shape (n_days,)
        Simple returns.
    labels : ndarray of shape (n_days,) of int8
        Regime of each day's return.

    Returns
    -------
    dict of Regime to float
        Log loss between the peak and the trough of the maximum drawdown by regime, over the whole
        loss: adds up to 1; empty if wealth never fell.

    Examples
    --------
    >>> shares = drawdown_shares(np.array([0.1, -0.2, 0.0, -0.3]), np.array([1, -1, 0, 0]))
    >>> {regime.text: round(share, 3) for regime, share in shares.items()}
    {'bear': 0.385, 'range-bound': 0.615}
    """
    falls = metrics.drawdown_series(returns)
    trough = int(np.argmax(falls))
    if falls[trough] == 0.0:
        return {}
    start = int(np.flatnonzero(falls[:trough] == 0.0).max(initial=-1)) + 1
    with np.errstate(divide="ignore"):
        lost = -np.log1p(np.asarray(returns)[start : trough + 1])
    inside = np.asarray(labels)[start : trough + 1]
    return {
        kind: float(lost[inside == kind].sum() / lost.sum())
        for kind in Regime
        if (inside == kind).any()
    }


def _figures(
    returns: Floats, base: int, level: float, n_bootstrap: int, seed: int
) -> list[dict[str, Any]]:
    """Figures of the days of one regime by strategy, (n_days, n_strategies) in."""
    n_days, n_strategies = returns.shape
    if n_days < LEAST_DAYS:
        return [{"days": n_days} | dict.fromkeys(_COLUMNS, np.nan)] * n_strategies
    mean = returns.mean(axis=0)
    annual = np.asarray(metrics.annual_return(returns))
    sharpe = np.asarray(metrics.sharpe(returns))
    var = np.asarray(metrics.value_at_risk(returns))
    drawn = _resampled_means(returns, n_bootstrap, seed)
    own = sharpe_intervals(returns, level=level, n_bootstrap=n_bootstrap, seed=seed)
    gaps = sharpe_differences(
        returns, returns[:, base], level=level, n_bootstrap=n_bootstrap, seed=seed
    )
    tails = ((1.0 - level) / 2.0, (1.0 + level) / 2.0)
    rows: list[dict[str, Any]] = []
    for i, (ratio, gap) in enumerate(zip(own, gaps, strict=True)):
        figures = (
            float(mean[i]),
            *_limits(drawn[:, i], tails),
            float(annual[i]),
            *(float(sharpe[i]), ratio.low, ratio.high),
            float(var[i]),
        )
        compared = (np.nan,) * 8
        if i != base:
            beyond = drawn[:, i] - drawn[:, base]
            compared = (
                float(mean[i] - mean[base]),
                *_limits(beyond, tails),
                _p_value(beyond),
                *(float(sharpe[i] - sharpe[base]), gap.low, gap.high, gap.p_value),
            )
        rows.append({"days": n_days} | dict(zip(_COLUMNS, (*figures, *compared), strict=True)))
    return rows


def _resampled_means(returns: Floats, n_bootstrap: int, seed: int) -> Floats:
    """Mean returns of block resamples, (n_bootstrap, n_strategies).

    A resample is the number of times that each day was drawn: the means are one product of these
    counts with the returns, and no resample is ever written out.
    """
    n_days = len(returns)
    block = max(inference.optimal_block_length(np.abs(column)) for column in returns.T)
    rows = inference.bootstrap_indices(n_days, block, n_bootstrap, seed)
    centre = returns.mean(axis=0)
    away = returns - centre
    sums = np.empty((n_bootstrap, returns.shape[1]))
    for first in range(0, n_bootstrap, _CHUNK):
        chunk = rows[first : first + _CHUNK]
        flat = (chunk + n_days * np.arange(len(chunk))[:, None]).ravel()
        counts = np.bincount(flat, minlength=n_days * len(chunk)).reshape(len(chunk), n_days)
        sums[first : first + _CHUNK] = counts.astype(np.float64) @ away
    return centre + sums / n_days


def _limits(drawn: Floats, tails: tuple[float, float]) -> tuple[float, float]:
    low, high = np.quantile(drawn, tails)
    return float(low), float(high)


def _p_value(gaps: Floats) -> float:
    """Two-sided bootstrap p of `no difference`; NaN where a resample has none."""
    if np.isnan(gaps).any():
        return float("nan")
    fewer = min(int((gaps <= 0.0).sum()), int((gaps >= 0.0).sum()))
    return min(1.0, 2.0 * (fewer + 1.0) / (len(gaps) + 1.0))
