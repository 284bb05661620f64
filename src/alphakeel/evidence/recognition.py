"""How late causal labels of the market are, and how often they are right, against hindsight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.portfolio.phases import Regime, market_phases
from alphakeel.portfolio.regimes import (
    jump_regimes,
    recognition_lags,
    trend_volatility_regimes,
)
from alphakeel.portfolio.turning_points import TurningPoints, filter_turning_points

__all__ = [
    "JUMP_RULE",
    "TREND_RULE",
    "MarketRegimes",
    "agreement_table",
    "find_regimes",
    "lag_table",
]

Floats = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int8]
# What a reader calls the causal rules.
TREND_RULE, JUMP_RULE = "trend and volatility", "jump model"
_ORDER = (Regime.BULL, Regime.BEAR, Regime.RANGE_BOUND)
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


@dataclass(frozen=True, eq=False)
class MarketRegimes:
    """Labels of one market, in hindsight and as known at each close.

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
        Labels known at each close, by the name of the rule.
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
    """Label every day of an index, by hindsight and by both causal rules.

    Parameters
    ----------
    prices : ndarray of shape (n_dates,)
        Level of the index, all the history there is: causal rules need some before the test.
    dates : ndarray of shape (n_dates,), datetime64[D]
    first : int, default=0
        First row that needs a label of the jump model: the day before the test.
    zigzag : float, default=0.10
        Fall, and rise, that makes a turning point in hindsight.
    seed : int, default=0
        Of the jump model.

    Returns
    -------
    MarketRegimes

    Raises
    ------
    DataError
        If prices are too few, missing or not above 0.

    Examples
    --------
    >>> days = np.arange("2001-01-01", "2002-02-05", dtype="datetime64[D]")
    >>> found = find_regimes(np.exp(np.linspace(0.0, 1.0, 400)), days)
    >>> Regime(found.hindsight[200]).text, sorted(found.causal)
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
    """How late each causal rule named each new leg of the market.

    Parameters
    ----------
    market : MarketRegimes
    test : slice, optional
        Rows in which turning points count.

    Returns
    -------
    DataFrame, one row a turning point and rule
        turning_point (date), kind ("peak" or "trough"), move (of the index in the leg that begins
        there, up to the next turning point or the last day), rule, recognised (date; NaT where
        the leg ended first), lag_days (trading days), already (the label was there at the turning
        point, left from an earlier leg: lag 0 by luck), missed (the move of the index up to the
        recognition).
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
            seen = np.isfinite(lag)
            at = int(row + lag) if seen else int(row)
            rows.append(
                {
                    "turning_point": market.dates[row],
                    "kind": "peak" if peak else "trough",
                    "move": float(market.prices[end] / market.prices[row] - 1.0),
                    "rule": rule,
                    "recognised": market.dates[at] if seen else np.datetime64("NaT"),
                    "lag_days": float(lag),
                    "already": bool(lag == 0.0),
                    "missed": float(market.prices[at] / market.prices[row] - 1.0)
                    if seen
                    else np.nan,
                }
            )
    table = pd.DataFrame(rows, columns=list(_LAG))
    return table.sort_values(["turning_point", "rule"], kind="stable", ignore_index=True)


def agreement_table(market: MarketRegimes, test: slice = slice(None)) -> pd.DataFrame:
    """How well causal labels agree with hindsight, and what the index earned after them.

    Parameters
    ----------
    market : MarketRegimes
    test : slice, optional
        Rows that count; days without a causal label are left out.

    Returns
    -------
    DataFrame indexed by (rule, regime); rules without any label are left out
        share_of_days, right (share of the days so labelled that are so in hindsight), found
        (share of the days that are so in hindsight that were so labelled), agreement (share of
        all days on which the two are equal, the same for all rows of a rule), median_lag (trading
        days from the peak to "bear", from the trough to "bull", over the legs recognised after
        they began), recognised and already (shares of the legs that were recognised later, and
        that had the label from an earlier leg), next_day_return (mean return of the index on the
        day after the label, times 252).
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
            said, was = known & (labels == regime), known & (truth == regime)
            kind = {Regime.BEAR: "peak", Regime.BULL: "trough"}.get(regime)
            legs = late[(late["rule"] == rule) & (late["kind"] == kind)]
            anew = legs["lag_days"] > 0.0
            rows[rule, regime.text] = {
                "share_of_days": _mean(said[known]),
                "right": _mean(was[said]),
                "found": _mean(said[was]),
                "agreement": _mean(labels[known] == truth[known]),
                "median_lag": float(legs["lag_days"][anew].median()),
                "recognised": _mean(anew.to_numpy()),
                "already": _mean(legs["already"].to_numpy(dtype=np.bool_)),
                "next_day_return": _mean(following[said & np.isfinite(following)]) * 252.0,
            }
    index = pd.MultiIndex.from_arrays(
        [[rule for rule, _ in rows], [regime for _, regime in rows]], names=["rule", "regime"]
    )
    return pd.DataFrame(list(rows.values()), index=index, columns=list(_AGREEMENT))


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")
