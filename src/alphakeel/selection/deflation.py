"""How much of the best is luck: a choice, weighed against every trial run on the same data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alphakeel.stats import performance
from alphakeel.stats.selection_bias import overfitting_probability, track_record

__all__ = ["Luck", "luck_of", "overfitting_of"]

Floats = npt.NDArray[np.float64]

# Days that a block of CSCV should hold at least: a month, so that blocks remember little.
_DAYS_A_BLOCK = 21


@dataclass(frozen=True)
class Luck:
    """What a choice is worth, knowing how many there were to choose from.

    Attributes
    ----------
    n_trials : int
        Different trials in the ledger on these data, pruned ones included: what the deflation
        counts. Of a study, the portfolios of models in all studies.
    n_compared : int
        Trials over the same days that the overfitting probability is computed from.
    overfitting_probability : float
        See `alphakeel.stats.selection_bias`; 0.5 is pure luck. NaN with fewer than two trials.
    sharpe : float
        Of the choice, annual.
    expected_maximum_sharpe : float
        What the best of `n_trials` worthless trials would be expected to show, annual; NaN where
        fewer than two trials tell how far they lie apart.
    deflated_sharpe : float
        Probability that the true Sharpe ratio exceeds that; NaN likewise.
    minimum_days : float
        Days of such returns that it takes to show, at 95 %, that the Sharpe ratio is above 0;
        infinite if it is not.
    n_days : int
        Days that there are.
    """

    n_trials: int
    n_compared: int
    overfitting_probability: float
    sharpe: float
    expected_maximum_sharpe: float
    deflated_sharpe: float
    minimum_days: float
    n_days: int

    def in_words(self) -> list[str]:
        """The numbers as sentences, for a reader who knows none of their names."""
        lines = []
        if math.isfinite(self.overfitting_probability):
            lines.append(
                f"Choosing the best of {self.n_compared} by Sharpe ratio fails on the other half "
                f"of the days with probability {self.overfitting_probability:.2f} (0.5: luck)."
            )
        if math.isfinite(self.deflated_sharpe):
            lines.append(
                f"Sharpe ratio {self.sharpe:.2f}; the best of {self.n_trials} worthless trials "
                f"would show {self.expected_maximum_sharpe:.2f}: it is better than that with "
                f"probability {self.deflated_sharpe:.2f}."
            )
        if math.isfinite(self.minimum_days):
            lines.append(
                f"Days needed to show that it is above 0 at 95 %: {self.minimum_days:,.0f} (there "
                f"are {self.n_days:,})."
            )
        elif self.minimum_days > 0:
            lines.append("No number of such days shows a Sharpe ratio above 0: it is not.")
        return lines

    def plain(self) -> dict[str, Any]:
        """Plain values, None where a number is not known."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def luck_of(chosen: Floats, compared: Floats, *, n_trials: int, sharpes: Sequence[float]) -> Luck:
    """Weigh a choice.

    Parameters
    ----------
    chosen : ndarray of shape (n_days,)
        Returns of what was chosen, simple, a day.
    compared : ndarray of shape (n_days, n_trials)
        Of all that it was chosen from, itself included, over days that all share.
    n_trials : int
        Different trials ever run on these data.
    sharpes : sequence of float
        Annual Sharpe ratios of those over comparable days: how far trials lie apart.
    """
    n_trials = max(n_trials, 1)
    facts: dict[str, Any] = {
        "n_trials": n_trials,
        "n_compared": compared.shape[1] if compared.ndim == 2 else 0,
        "overfitting_probability": overfitting_of(compared),
        "n_days": len(chosen),
    }
    nothing = float("nan")
    if len(chosen) < 2 or chosen.max() == chosen.min():
        return Luck(
            **facts,
            sharpe=float(performance.sharpe(chosen)) if len(chosen) > 1 else nothing,
            expected_maximum_sharpe=nothing,
            deflated_sharpe=nothing,
            minimum_days=nothing,
        )
    comparable = n_trials == 1 or len(sharpes) > 1
    record = track_record(
        chosen,
        trial_sharpes=sharpes if comparable and n_trials > 1 else None,
        n_trials=n_trials if comparable else 1,
    )
    return Luck(
        **facts,
        sharpe=record.sharpe,
        expected_maximum_sharpe=record.expected_maximum if comparable else nothing,
        deflated_sharpe=record.deflated if comparable else nothing,
        minimum_days=record.minimum_days,
    )


def overfitting_of(returns: Floats) -> float:
    """Overfitting probability of choosing among columns by Sharpe ratio; NaN where none is.

    Examples
    --------
    >>> overfitting_of(np.zeros((100, 1)))
    nan
    """
    moving = returns[:, returns.std(axis=0) > 0] if returns.size else returns
    n_blocks = min(16, len(moving) // _DAYS_A_BLOCK // 2 * 2)
    if moving.shape[1] < 2 or n_blocks < 4:
        return float("nan")
    return overfitting_probability(moving, n_blocks=n_blocks).probability
