"""Which strategy to hold, by a rule that uses intervals.

1. **A strategy** is recommended over the benchmark only where the data prove it: the interval of
   its paired difference of Sharpe ratios to the benchmark lies above zero, at a level that allows
   for the number of strategies that were compared (Bonferroni). Among several the one with the
   highest lower end is recommended.
2. **The benchmark** (equal weight, without the overlay) otherwise: the burden of proof is on
   whoever trades more.
3. **Nothing** (cash) where the benchmark's own Sharpe ratio is not above zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from alphakeel.evaluation.performance import HasReturns
from alphakeel.stats import performance as metrics
from alphakeel.stats.sharpe import sharpe_differences, sharpe_intervals

__all__ = ["NOTHING", "Recommendation", "recommend", "recommendation_table"]

# What is held where nothing is recommended.
NOTHING = "Cash"


@dataclass(frozen=True)
class Recommendation:
    """What to hold, and why, in one sentence.

    Attributes
    ----------
    strategy : str
        Label of a strategy, of the benchmark, or `NOTHING`.
    reason : str
    """

    strategy: str
    reason: str


def recommendation_table(
    ledgers: Mapping[str, HasReturns],
    candidates: Sequence[str],
    *,
    benchmark: str,
    level: float,
    n_bootstrap: int,
    seed: int,
) -> pd.DataFrame:
    """What the rule looks at: each candidate's Sharpe ratio less the benchmark's.

    Parameters
    ----------
    ledgers : mapping of str to HasReturns
        By strategy, all over the same days.
    candidates : sequence of str
        Strategies that may be recommended, without the benchmark.
    benchmark : str
    level : float
        Confidence of all intervals together: each has ``1 - (1 - level) / n_candidates``.
    n_bootstrap, seed : int

    Returns
    -------
    DataFrame indexed by strategy, the benchmark first
        sharpe with _low and _high (of the benchmark alone, at `level`; else NaN), difference with
        _low and _high (paired, of the candidates), level (of the row's interval).
    """
    base = np.asarray(ledgers[benchmark].excess_returns)
    own = sharpe_intervals(base[:, None], level=level, n_bootstrap=n_bootstrap, seed=seed)[0]
    nan = float("nan")
    rows = [
        {
            "sharpe": float(metrics.sharpe(base)),
            "sharpe_low": own.low,
            "sharpe_high": own.high,
            **dict.fromkeys(("difference", "difference_low", "difference_high"), nan),
            "level": level,
        }
    ]
    if candidates:
        each = 1.0 - (1.0 - level) / len(candidates)
        returns = np.column_stack([ledgers[name].excess_returns for name in candidates])
        tests = sharpe_differences(returns, base, level=each, n_bootstrap=n_bootstrap, seed=seed)
        sharpe = np.atleast_1d(metrics.sharpe(returns))
        for k, test in enumerate(tests):
            rows.append(
                {
                    "sharpe": float(sharpe[k]),
                    "sharpe_low": nan,
                    "sharpe_high": nan,
                    "difference": float(sharpe[k]) - rows[0]["sharpe"],
                    "difference_low": test.low,
                    "difference_high": test.high,
                    "level": each,
                }
            )
    return pd.DataFrame(rows, index=pd.Index([benchmark, *candidates], name="strategy"))


def recommend(table: pd.DataFrame) -> Recommendation:
    """Apply the rule of this module to `recommendation_table`.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {
    ...         "sharpe": [0.5, 0.8],
    ...         "sharpe_low": [0.1, np.nan],
    ...         "sharpe_high": [0.9, np.nan],
    ...         "difference": [np.nan, 0.3],
    ...         "difference_low": [np.nan, -0.1],
    ...         "difference_high": [np.nan, 0.7],
    ...         "level": [0.95, 0.95],
    ...     },
    ...     index=["Equal weight", "LSTM + overlay"],
    ... )
    >>> recommend(table).strategy
    'Equal weight'
    """
    benchmark, others = str(table.index[0]), table.iloc[1:]
    own = table.iloc[0]
    compared = others[np.isfinite(others["difference"])]
    sure = f"{own['level']:.0%}"
    if not own["sharpe"] > 0.0:
        reason = (
            f"hold nothing: {benchmark} had a Sharpe ratio of {own['sharpe']:.2f}, with {sure} "
            f"confidence between {own['sharpe_low']:.2f} and {own['sharpe_high']:.2f}; these "
            "stocks have not paid, and no strategy is a reason to hold them"
        )
        if len(compared) and compared["sharpe"].max() > own["sharpe"]:
            best = compared["sharpe"].idxmax()
            reason += f". {best} came out best, at {compared['sharpe'].max():.2f}"
        return Recommendation(NOTHING, f"{reason}.")
    if not len(compared):
        return Recommendation(benchmark, f"hold {benchmark}: there is nothing to compare it with.")
    proven = compared[compared["difference_low"] > 0.0]
    chosen = proven["difference_low"] if len(proven) else compared["difference"]
    name = str(chosen.idxmax())
    best = compared.loc[name]
    ratios = f"a Sharpe ratio of {best['sharpe']:.2f}, and {benchmark} {own['sharpe']:.2f}"
    reach = f"{best['difference_low']:.2f} to {best['difference_high']:.2f}"
    allowed = f"{sure} confidence, allowing for {len(others)} strategies compared"
    if len(proven):
        return Recommendation(
            name,
            f"hold {name}: it had {ratios}; the difference is surely above zero, {reach} at "
            f"{allowed}.",
        )
    if best["difference"] <= 0.0:
        return Recommendation(
            benchmark,
            f"hold {benchmark}: no strategy came out better. The nearest, {name}, had {ratios}; "
            f"the difference may be anything from {reach} ({allowed}).",
        )
    return Recommendation(
        benchmark,
        f"hold {benchmark}: {name} came out best, but that may well be luck. It had {ratios}, and "
        f"the true difference may be anything from {reach} ({allowed}).",
    )
