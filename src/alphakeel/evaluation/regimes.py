"""Table II: every strategy in bull, bear and range-bound markets, and how good causal labels are.

Drawdown is computed on the full path and attributed to the regime in which it fell: one of the days
of a regime joined together was never suffered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.errors import ConfigError, DataError
from alphakeel.risk.market_phases import Regime, TurningPoints, filter_turning_points, market_phases
from alphakeel.risk.regimes import jump_regimes, recognition_lags, trend_volatility_regimes
from alphakeel.stats import bootstrap, performance
from alphakeel.stats.sharpe import sharpe_differences, sharpe_intervals

__all__ = [
    "JUMP_RULE",
    "LEAST_DAYS",
    "MarketRegimes",
    "TREND_RULE",
    "agreement_table",
    "drawdown_shares",
    "find_regimes",
    "lag_table",
    "regime_table",
]

Floats = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int8]

# A regime with fewer days has no statistics, only a note.
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

# Names of the causal rules in tables.
TREND_RULE, JUMP_RULE = "trend and volatility", "jump model"
_LAG = ("turning_point", "kind", "move", "rule", "recognised", "lag_days", "already", "missed")
_AGREEMENT = (
    "share_of_days",
    "right",
    "found",
    "agreement",
    "median_lag",
    "recognised",
    "already",
    "next_day_return",
)


def regime_table(
    returns: Mapping[str, Floats],
    labels: Labels,
    *,
    baseline: str,
    level: float,
    n_bootstrap: int,
    seed: int,
    riskless: Floats | None = None,
) -> pd.DataFrame:
    """Every strategy in every regime.

    Parameters
    ----------
    returns : mapping of str to ndarray of shape (n_days,)
        Simple net returns by strategy, over the same days, without NaN.
    labels : ndarray of shape (n_days,) of int8
        Regime of each day's return: `market_phases` as it is, a causal label after
        `label_of_day`.
    baseline, level, n_bootstrap, seed
        As in `strategy_tables`.
    riskless : ndarray of shape (n_days,), optional
        Return of cash of each day: Sharpe ratios are of the returns above it.

    Returns
    -------
    DataFrame indexed by (regime, strategy); the first regime is "all"
        days; mean_return (per day) and sharpe with _low and _high; annual_return (compounded over
        the regime's days); var_95 (historical, daily); drawdown_share (as `drawdown_shares`);
        deepest_drawdown (on the full path, reached on days of this regime);
        mean_return_difference and sharpe_difference to the baseline with _low, _high and
        two-sided _p; note. Intervals resample the regime's days in blocks, the same for all
        strategies; those of Sharpe ratios are studentised. With fewer than 20 days only days and
        drawdowns are given.

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
    falls = performance.drawdown_series(columns)
    shares = {name: drawdown_shares(column, labels) for name, column in returns.items()}
    kinds = [*_ORDER, *([Regime.UNKNOWN] if (labels == Regime.UNKNOWN).any() else [])]
    groups = {"all": np.ones(len(labels), dtype=np.bool_)}
    groups |= {kind.text: labels == kind for kind in kinds}
    share_of = {kind.text: kind for kind in kinds}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for regime, days in groups.items():
        cash = np.zeros(int(days.sum())) if riskless is None else riskless[days]
        figures = _figures(columns[days], cash, names.index(baseline), level, n_bootstrap, seed)
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
    """Shares of the log loss from peak to trough of the maximum drawdown, by regime of the day.

    They add up to 1, below 0 where the strategy gained; empty if wealth never fell.

    Examples
    --------
    >>> shares = drawdown_shares(np.array([0.1, -0.2, 0.0, -0.3]), np.array([1, -1, 0, 0]))
    >>> {regime.text: round(share, 3) for regime, share in shares.items()}
    {'bear': 0.385, 'range-bound': 0.615}
    """
    falls = performance.drawdown_series(returns)
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
    returns: Floats, riskless: Floats, base: int, level: float, n_bootstrap: int, seed: int
) -> list[dict[str, Any]]:
    """Figures of the days of one regime by strategy, (n_days, n_strategies) in."""
    excess = returns - riskless[:, None]
    n_days, n_strategies = returns.shape
    if n_days < LEAST_DAYS:
        return [{"days": n_days} | dict.fromkeys(_COLUMNS, np.nan)] * n_strategies
    mean = returns.mean(axis=0)
    annual = np.asarray(performance.annual_return(returns))
    sharpe = np.asarray(performance.sharpe(excess))
    var = np.asarray(performance.value_at_risk(returns))
    drawn = _resampled_means(returns, n_bootstrap, seed)
    own = sharpe_intervals(excess, level=level, n_bootstrap=n_bootstrap, seed=seed)
    gaps = sharpe_differences(
        excess, excess[:, base], level=level, n_bootstrap=n_bootstrap, seed=seed
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

    One product of the counts of each day in each resample with the returns.
    """
    n_days = len(returns)
    block = max(bootstrap.optimal_block_length(np.abs(column)) for column in returns.T)
    rows = bootstrap.bootstrap_indices(n_days, block, n_bootstrap, seed)
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


@dataclass(frozen=True, eq=False)
class MarketRegimes:
    """Regimes of a market index, in hindsight and as known at each close.

    Attributes
    ----------
    dates : ndarray of shape (n_dates,), datetime64[D]
    prices : ndarray of shape (n_dates,)
        Level of the index.
    hindsight : ndarray of shape (n_dates,) of int8
        `market_phases`: the label of each day's return, for reports only.
    points : TurningPoints
        Peaks and troughs of the zigzag behind `hindsight`.
    causal : dict of str to ndarray of shape (n_dates,) of int8
        Labels known at each close, by rule.
    """

    dates: npt.NDArray[np.datetime64]
    prices: Floats
    hindsight: Labels
    points: TurningPoints
    causal: dict[str, Labels]


def find_regimes(
    prices: Floats,
    dates: npt.NDArray[np.datetime64],
    *,
    first: int = 0,
    zigzag: float = 0.10,
    seed: int = 0,
) -> MarketRegimes:
    """Label every day of an index, in hindsight and by both causal rules.

    Parameters
    ----------
    prices : ndarray of shape (n_dates,)
        Level of the index, with history before the test for the causal rules.
    dates : ndarray of shape (n_dates,), datetime64[D]
    first : int, default=0
        First row that needs a label of the jump model: the day before the test.
    zigzag : float, default=0.10
        Fall, and rise, that makes a turning point in hindsight.
    seed : int, default=0
        Of the jump model.

    Examples
    --------
    >>> days = np.arange("2001-01-01", "2002-02-05", dtype="datetime64[D]")
    >>> regimes = find_regimes(np.exp(np.linspace(0.0, 1.0, 400)), days)
    >>> Regime(regimes.hindsight[200]).text, sorted(regimes.causal)
    ('bull', ['jump model', 'trend and volatility'])
    """
    index = np.asarray(prices, dtype=np.float64)
    return MarketRegimes(
        dates=np.asarray(dates, dtype="datetime64[D]"),
        prices=index,
        hindsight=market_phases(index, rise=zigzag, fall=zigzag),
        points=filter_turning_points(index, rise=zigzag, fall=zigzag),
        causal={
            TREND_RULE: trend_volatility_regimes(index),
            JUMP_RULE: jump_regimes(index, first=first, seed=seed),
        },
    )


def lag_table(market: MarketRegimes, test: slice = slice(None)) -> pd.DataFrame:
    """How late each causal rule recognised each leg of the market, for turning points in `test`.

    Returns
    -------
    DataFrame, one row a turning point and rule
        turning_point (date), kind ("peak" or "trough"), move (of the index in the leg that begins
        there, up to the next turning point or the last day), rule, recognised (date; NaT where
        the leg ended first), lag_days (trading days), already (the label was left from an earlier
        leg, so that lag 0 is chance), missed (the move of the index up to the recognition).
    """
    rows = []
    first, stop, _ = test.indices(len(market.prices))
    ends = np.append(market.points.rows, len(market.prices) - 1)[1:]
    for rule, labels in market.causal.items():
        lags = recognition_lags(labels, market.points)
        for row, end, peak, lag in zip(
            market.points.rows, ends, market.points.peak, lags, strict=True
        ):
            if not first <= row < stop or labels[row] == Regime.UNKNOWN:
                continue
            recognised = np.isfinite(lag)
            at = int(row + lag) if recognised else int(row)
            rows.append(
                {
                    "turning_point": market.dates[row],
                    "kind": "peak" if peak else "trough",
                    "move": float(market.prices[end] / market.prices[row] - 1.0),
                    "rule": rule,
                    "recognised": market.dates[at] if recognised else np.datetime64("NaT"),
                    "lag_days": float(lag),
                    "already": bool(lag == 0.0),
                    "missed": float(market.prices[at] / market.prices[row] - 1.0)
                    if recognised
                    else np.nan,
                }
            )
    table = pd.DataFrame(rows, columns=list(_LAG))
    return table.sort_values(["turning_point", "rule"], kind="stable", ignore_index=True)


def agreement_table(market: MarketRegimes, test: slice = slice(None)) -> pd.DataFrame:
    """How well causal labels agree with hindsight on the days of `test` that have one.

    Returns
    -------
    DataFrame indexed by (rule, regime); rules without any label are left out
        share_of_days, right (precision: share of the days so labelled that are so in hindsight),
        found (recall: share of the days so in hindsight that were so labelled), agreement (share
        of all days on which the two are equal), median_lag (trading days from the peak to "bear",
        from the trough to "bull", over the legs recognised after they began), recognised and
        already (shares of the legs that were recognised later, and that had the label from an
        earlier leg), next_day_return (mean return of the index on the day after the label, times
        252).
    """
    late = lag_table(market, test)
    rows: dict[tuple[str, str], dict[str, float]] = {}
    following = np.append(market.prices[1:] / market.prices[:-1] - 1.0, np.nan)[test]
    truth = market.hindsight[test]
    for rule, every in market.causal.items():
        labels = every[test]
        known = labels != Regime.UNKNOWN
        if not known.any():
            continue
        for regime in _ORDER:
            labelled, actual = known & (labels == regime), known & (truth == regime)
            kind = {Regime.BEAR: "peak", Regime.BULL: "trough"}.get(regime)
            legs = late[(late["rule"] == rule) & (late["kind"] == kind)]
            anew = legs["lag_days"] > 0.0
            rows[rule, regime.text] = {
                "share_of_days": _mean(labelled[known]),
                "right": _mean(actual[labelled]),
                "found": _mean(labelled[actual]),
                "agreement": _mean(labels[known] == truth[known]),
                "median_lag": float(legs["lag_days"][anew].median()),
                "recognised": _mean(anew.to_numpy()),
                "already": _mean(legs["already"].to_numpy(dtype=np.bool_)),
                "next_day_return": _mean(following[labelled & np.isfinite(following)]) * 252.0,
            }
    index = pd.MultiIndex.from_arrays(
        [[rule for rule, _ in rows], [regime for _, regime in rows]], names=["rule", "regime"]
    )
    return pd.DataFrame(list(rows.values()), index=index, columns=list(_AGREEMENT))


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")
