"""Paired differences of IC and Rank IC to a benchmark: which scores rank stocks better.

Two models are measured on the same decisions and the same stocks, so that what moves both
correlations alike (how far stocks differed on a date, which could be ranked at all) cancels. No
portfolio is involved, so neither the market's own volatility nor costs hide the difference, and the
test finds what differences of Sharpe ratios over the same days cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from alphakeel.stats.cross_section import ic, rank_ic
from alphakeel.stats.newey_west import newey_west_interval

__all__ = ["COLUMNS", "ic_difference_table"]

Floats = npt.NDArray[np.floating[Any]]

_MEASURES = {"ic": ic, "rank_ic": rank_ic}
_OF_EACH = ("", "_benchmark", *(f"_difference{end}" for end in ("", "_low", "_high", "_t", "_p")))
COLUMNS = (
    *(f"{measure}{what}" for measure in _MEASURES for what in _OF_EACH),
    "n",
)


def ic_difference_table(
    scores: Mapping[str, Floats],
    benchmark: str,
    horizons: Sequence[int],
    forward_of: Callable[[int], Floats],
    *,
    lags: Sequence[int],
    level: float,
) -> pd.DataFrame:
    """Mean differences of the daily IC and Rank IC of each model to those of a benchmark.

    Parameters
    ----------
    scores : mapping of str to ndarray of shape (n_decisions, n_assets)
        By model, the benchmark among them; NaN where there is none.
    benchmark : str
    horizons : sequence of int
        In trading days.
    forward_of : callable
        Forward returns of a horizon, (n_decisions, n_assets).
    lags : sequence of int
        Of each horizon the decisions whose forward returns overlap: those of `newey_west_tstat`.
    level : float
        Confidence of each interval.

    Returns
    -------
    DataFrame indexed by (model, horizon)
        Of ``ic`` and ``rank_ic`` the means of the model and of the benchmark, their difference
        with _low, _high (Newey-West, at `level`), t and two-sided p; n, the decisions. Only stocks
        that both models score on a decision count. NaN with fewer than two decisions.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> later = rng.standard_normal((200, 30))
    >>> scores = {"Linear": rng.standard_normal((200, 30)), "LSTM": later + 3.0}
    >>> table = ic_difference_table(
    ...     scores, "Linear", (5,), lambda horizon: later, lags=(1,), level=0.95
    ... )
    >>> table[["rank_ic", "n"]].round(3)
                   rank_ic    n
    model horizon
    LSTM  5            1.0  200
    """
    base = scores[benchmark]
    others = {name: own for name, own in scores.items() if name != benchmark}
    both = {name: np.isfinite(own) & np.isfinite(base) for name, own in others.items()}
    rows: dict[tuple[str, int], dict[str, float]] = {
        (name, horizon): {} for name in others for horizon in horizons
    }
    for horizon, lag in zip(horizons, lags, strict=True):
        forward = forward_of(horizon)
        for name, own in others.items():
            rows[name, horizon] = _differences(own, base, forward, both[name], lag, level)
    index = pd.MultiIndex.from_tuples(list(rows), names=["model", "horizon"])
    return pd.DataFrame(list(rows.values()), index=index, columns=list(COLUMNS))


def _differences(
    own: Floats, base: Floats, forward: Floats, both: npt.NDArray[np.bool_], lags: int, level: float
) -> dict[str, float]:
    """One row of the table: a model against the benchmark at one horizon."""
    row: dict[str, float] = {}
    for measure, correlation in _MEASURES.items():
        one, other = (correlation(scores, forward, both) for scores in (own, base))
        known = np.isfinite(one) & np.isfinite(other)
        found = newey_west_interval((one - other)[known], lags, level=level)
        row |= {
            measure: float(one[known].mean()) if found.n else np.nan,
            f"{measure}_benchmark": float(other[known].mean()) if found.n else np.nan,
            f"{measure}_difference": found.mean,
            f"{measure}_difference_low": found.low,
            f"{measure}_difference_high": found.high,
            f"{measure}_difference_t": found.t,
            f"{measure}_difference_p": found.p,
            "n": found.n,
        }
    return row
