"""Plain formulas that the library is tested against, and does not need itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats.mstats import hdquantiles

Array = NDArray[np.float64]


def mse(predicted: Array, actual: Array, known: NDArray[np.bool_]) -> float:
    """Mean squared error over the known pairs."""
    return float(np.square(predicted[known] - actual[known]).mean())


def cvar_rockafellar_uryasev(
    returns: ArrayLike, *, level: float = 0.95, threshold: float | None = None
) -> Array:
    """Objective of Rockafellar and Uryasev (2000), ``c + mean(max(-r - c, 0)) / (1 - level)``.

    Without a threshold c it is the minimum, which one of the losses attains: the CVaR.
    """
    losses = -np.asarray(returns, dtype=np.float64)
    cuts = losses if threshold is None else np.full_like(losses[:1], threshold)
    beyond = np.maximum(losses[None] - cuts[:, None], 0.0).mean(axis=1)
    return (cuts + beyond / round(1.0 - level, 12)).min(axis=0)


def value_at_risk_harrell_davis(returns: Array, *, level: float = 0.95) -> Array:
    """Value at risk by SciPy's quantile of Harrell and Davis (1982)."""
    return -np.asarray(hdquantiles(returns, prob=[1.0 - level], axis=0))[0]
