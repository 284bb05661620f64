"""From single fits to curves: means and bands by degree, and where returns diminish."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.stats import inference, metrics
from alphakeel.stats.sharpe_tests import SharpeEstimate, sharpe_intervals

__all__ = [
    "METRICS",
    "PERIODS",
    "best_of",
    "by_degree",
    "diminishing",
    "doublings",
    "ensemble",
    "paired_gains",
]

Floats = npt.NDArray[np.float64]

PERIODS = ("validation", "out of sample")
METRICS = ("rank_ic", "sharpe", "annual_return")
# By which validated number the best trial is picked, for the curve of each metric.
PICKED_BY = {"rank_ic": "rank_ic", "sharpe": "sharpe", "annual_return": "sharpe"}
_ORDERS = 500


def by_degree(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean, band and standard error over seeds, one row a degree and period.

    Parameters
    ----------
    runs : DataFrame
        One row a fit: degree, seed, period, and the metrics.

    Examples
    --------
    >>> runs = pd.DataFrame({"degree": [5, 5], "seed": [0, 1], "period": ["validation"] * 2,
    ...                      "rank_ic": [0.1, 0.3], "sharpe": [1, 1], "annual_return": [0, 0]})
    >>> by_degree(runs)[["rank_ic", "rank_ic_low", "rank_ic_high"]].round(2).to_numpy().tolist()
    [[0.2, 0.1, 0.3]]
    """
    rows = []
    for (degree, period), group in runs.groupby(["degree", "period"], sort=False):
        row: dict[str, object] = {"degree": degree, "period": period}
        for metric in METRICS:
            values = group[metric].to_numpy(dtype=np.float64)
            row |= {
                metric: values.mean(),
                f"{metric}_low": values.min(),
                f"{metric}_high": values.max(),
                f"{metric}_se": _standard_error(values),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def best_of(trials: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """The best of the first k trials by validation, k a doubling, over random orders of them.

    Parameters
    ----------
    trials : DataFrame
        One row a trial and period: degree (its number), period, and the metrics.
    seed : int
        Of the orders.

    Returns
    -------
    DataFrame
        As `by_degree`; the band holds the middle 90 % of the orders, and no standard error is
        given: the orders are not independent.
    """
    wide = {p: trials[trials["period"] == p].sort_values("degree") for p in PERIODS}
    n_trials = len(wide[PERIODS[0]])
    rng = np.random.default_rng(seed)
    orders = np.array([rng.permutation(n_trials) for _ in range(_ORDERS)])
    rows = []
    for k in doublings(n_trials):
        for period in PERIODS:
            row: dict[str, object] = {"degree": k, "period": period}
            for metric in METRICS:
                judged = wide[PERIODS[0]][PICKED_BY[metric]].to_numpy(dtype=np.float64)
                picked = orders[np.arange(_ORDERS), judged[orders[:, :k]].argmax(axis=1)]
                values = wide[period][metric].to_numpy(dtype=np.float64)[picked]
                row[metric] = values.mean()
                row[f"{metric}_low"], row[f"{metric}_high"] = np.quantile(values, [0.05, 0.95])
                row[f"{metric}_se"] = np.nan
            rows.append(row)
    return pd.DataFrame(rows)


def doublings(n: int) -> list[int]:
    """1, 2, 4, ... and n.

    Examples
    --------
    >>> doublings(12)
    [1, 2, 4, 8, 12]
    """
    return sorted({2**i for i in range(n.bit_length()) if 2**i <= n} | {n})


def diminishing(degrees: list[int], gains: Floats, errors: Floats) -> int:
    """The first degree after which the gain is no larger than its standard error.

    Parameters
    ----------
    degrees : list of int
        Rising.
    gains, errors : ndarray of shape (n_degrees - 1,)
        Mean gain from each degree to the next, and its standard error.

    Examples
    --------
    >>> diminishing([5, 10, 25], np.array([0.02, 0.001]), np.array([0.004, 0.004]))
    10
    """
    for degree, gain, error in zip(degrees, gains, errors, strict=False):
        if not gain > error:
            return degree
    return degrees[-1]


def paired_gains(runs: pd.DataFrame, metric: str) -> tuple[list[int], Floats, Floats]:
    """Degrees, and the validation gain from each to the next with its standard error over seeds."""
    wide = runs[runs["period"] == PERIODS[0]].pivot(index="degree", columns="seed", values=metric)
    wide = wide.sort_index()
    steps = np.diff(wide.to_numpy(dtype=np.float64), axis=0)
    errors = np.array([_standard_error(step) for step in steps])
    return [int(d) for d in wide.index], steps.mean(axis=1), errors


def ensemble(
    returns: Floats, correlations: Floats, *, level: float, n_bootstrap: int, seed: int
) -> pd.DataFrame:
    """Block-bootstrap intervals of the ensembles' metrics, one row a degree.

    Studentised for Sharpe ratios, percentiles for Rank IC and annual return.

    Parameters
    ----------
    returns : ndarray of shape (n_days, n_degrees)
        Simple returns a day of each degree's ensemble.
    correlations : ndarray of shape (n_rows, n_degrees)
        Its Rank IC by decision row; rows with a NaN are left out.
    level : float
    n_bootstrap, seed : int
    """
    known = correlations[np.isfinite(correlations).all(axis=1)]
    draws: dict[str, Any] = {"level": level, "n_bootstrap": n_bootstrap, "seed": seed}
    of: dict[str, Sequence[inference.Interval | SharpeEstimate]] = {
        "rank_ic": inference.bootstrap_intervals(_mean, known, **draws),
        "sharpe": sharpe_intervals(returns, **draws),
        "annual_return": inference.bootstrap_intervals(metrics.annual_return, returns, **draws),
    }
    columns: dict[str, list[float]] = {}
    for metric, found in of.items():
        columns[f"ensemble_{metric}"] = [i.estimate for i in found]
        columns[f"ensemble_{metric}_low"] = [i.low for i in found]
        columns[f"ensemble_{metric}_high"] = [i.high for i in found]
    return pd.DataFrame(columns)


def _mean(values: Floats) -> Floats:
    return np.asarray(values.mean(axis=0))


def _standard_error(values: Floats) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
