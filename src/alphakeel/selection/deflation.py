"""The correction for selection bias: a choice against every trial run on the same data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from alphakeel.stats import performance
from alphakeel.stats.selection_bias import overfitting_probability, track_record

__all__ = ["Deflation", "deflate", "overfitting_of"]

Floats = npt.NDArray[np.float64]

# Days that a block of CSCV should hold at least: a month, so that blocks remember little.
_DAYS_A_BLOCK = 21


@dataclass(frozen=True)
class Deflation:
    """The Sharpe ratio of a choice, corrected for the number of trials it was chosen from.

    Attributes
    ----------
    n_trials : int
        Different trials in the ledger on these data, pruned ones included; of a study, the
        portfolios of models in all studies.
    n_compared : int
        Trials over the same days, from which the overfitting probability is computed.
    overfitting_probability : float
        See `alphakeel.stats.selection_bias`; 0.5 is chance. NaN with fewer than two trials.
    sharpe : float
        Of the choice, annual.
    expected_maximum_sharpe : float
        Of the best of `n_trials` trials without skill, annual; NaN where fewer than two trials tell
        how far they lie apart.
    deflated_sharpe : float
        Probability that the true Sharpe ratio exceeds that; NaN likewise.
    minimum_days : float
        Days of such returns until a Sharpe ratio above 0 is shown at 95 %; infinite if it is not.
    n_days : int
        Days of the choice's returns.
    """

    n_trials: int
    n_compared: int
    overfitting_probability: float
    sharpe: float
    expected_maximum_sharpe: float
    deflated_sharpe: float
    minimum_days: float
    n_days: int

    def describe(self) -> list[str]:
        """The numbers in sentences."""
        lines = []
        if math.isfinite(self.overfitting_probability):
            lines.append(
                f"Choosing the best of {self.n_compared} by Sharpe ratio fails on the other half "
                f"of the days with probability {self.overfitting_probability:.2f} (0.5: chance)."
            )
        if math.isfinite(self.deflated_sharpe):
            lines.append(
                f"Sharpe ratio {self.sharpe:.2f}; the best of {self.n_trials} trials without skill "
                f"would show {self.expected_maximum_sharpe:.2f}: it is better than that with "
                f"probability {self.deflated_sharpe:.2f}."
            )
        if math.isfinite(self.minimum_days):
            lines.append(
                f"Days needed to show that it is above 0 at 95 %: {self.minimum_days:,.0f} (there "
                f"are {self.n_days:,})."
            )
        elif self.minimum_days > 0:
            lines.append(
                "The Sharpe ratio is not above 0, so no number of such days can show that it is."
            )
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None where a number is not known."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def deflate(
    chosen: Floats, compared: Floats, *, n_trials: int, sharpes: Sequence[float]
) -> Deflation:
    """Correct the Sharpe ratio of a choice for the trials that it was chosen from.

    Parameters
    ----------
    chosen : ndarray of shape (n_days,)
        Simple daily returns of the choice.
    compared : ndarray of shape (n_days, n_compared)
        The same of all candidates, the choice included, over common days.
    n_trials : int
        Different trials ever run on these data.
    sharpes : sequence of float
        Annual Sharpe ratios of those over comparable days, for the spread among trials.
    """
    n_trials = max(n_trials, 1)
    common: dict[str, Any] = {
        "n_trials": n_trials,
        "n_compared": compared.shape[1] if compared.ndim == 2 else 0,
        "overfitting_probability": overfitting_of(compared),
        "n_days": len(chosen),
    }
    unknown = float("nan")
    if len(chosen) < 2 or chosen.max() == chosen.min():
        return Deflation(
            **common,
            sharpe=float(performance.sharpe(chosen)) if len(chosen) > 1 else unknown,
            expected_maximum_sharpe=unknown,
            deflated_sharpe=unknown,
            minimum_days=unknown,
        )
    comparable = n_trials == 1 or len(sharpes) > 1
    record = track_record(
        chosen,
        trial_sharpes=sharpes if comparable and n_trials > 1 else None,
        n_trials=n_trials if comparable else 1,
    )
    return Deflation(
        **common,
        sharpe=record.sharpe,
        expected_maximum_sharpe=record.expected_maximum if comparable else unknown,
        deflated_sharpe=record.deflated if comparable else unknown,
        minimum_days=record.minimum_days,
    )


def overfitting_of(returns: Floats) -> float:
    """Overfitting probability of choosing a column by Sharpe ratio; NaN with fewer than two."""
    moving = returns[:, returns.std(axis=0) > 0] if returns.size else returns
    n_blocks = min(16, len(moving) // _DAYS_A_BLOCK // 2 * 2)
    if moving.shape[1] < 2 or n_blocks < 4:
        return float("nan")
    return overfitting_probability(moving, n_blocks=n_blocks).probability
