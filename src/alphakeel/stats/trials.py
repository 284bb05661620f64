"""Many trials, one winner: how many they truly are, and what the best shows by luck alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats.blocks import check_returns

__all__ = ["effective_trials", "expected_maximum_sharpe"]

_EULER = 0.5772156649015329


def expected_maximum_sharpe(n_trials: float, trial_variance: float) -> float:
    """Sharpe ratio that the best of some worthless trials is expected to show.

    Parameters
    ----------
    n_trials : float
        Independent trials, at least 1; one trial was not chosen and is expected to show 0.
    trial_variance : float
        Variance of the trials' Sharpe ratios among each other, annual.

    Returns
    -------
    float
        Annual, like ``sqrt(trial_variance)``.

    References
    ----------
    Bailey, D. H. and López de Prado, M. (2014). The deflated Sharpe ratio: correcting for selection
    bias, backtest overfitting and non-normality. Journal of Portfolio Management 40(5), 94-107.
    https://doi.org/10.3905/jpm.2014.40.5.094

    Examples
    --------
    >>> round(expected_maximum_sharpe(100, 0.25), 3)
    1.265
    """
    if not n_trials >= 1:
        raise ConfigError(f"n_trials must be at least 1, got {n_trials!r}.")
    if not trial_variance >= 0:
        raise ConfigError(f"trial_variance must be at least 0, got {trial_variance!r}.")
    if n_trials == 1:
        return 0.0
    first, second = ndtri(1.0 - 1.0 / n_trials), ndtri(1.0 - 1.0 / (n_trials * np.e))
    # The expansion is for many trials; between one and two it may fall below zero.
    best = max(0.0, (1.0 - _EULER) * first + _EULER * second)
    return float(np.sqrt(trial_variance) * best)


def effective_trials(returns: ArrayLike) -> float:
    """How many independent trials some correlated ones amount to.

    What all trials share moves none of them ahead of the others, and is taken out first: trials
    with equal correlations count in full, exact copies once. Of the rest, the number is the
    participation ratio of its eigenvalues, ``(sum of l)^2 / sum of l^2``, less what noise adds
    to the squares.

    Parameters
    ----------
    returns : array of shape (n_dates, n_trials)
        Returns of every trial, without NaN.

    Returns
    -------
    float
        From 1 to n_trials. Deflate with this number *and* the variance of the Sharpe ratios among
        the trials, which are smaller the more the trials share.

    Raises
    ------
    DataError
        If a trial's returns are constant.

    Notes
    -----
    Bailey and López de Prado (2014) interpolate between 1 and n_trials by the mean correlation.
    That counts what is shared twice (it lowers the variance among the trials as well) and counts
    ten copies of each of ten trials as 91.

    Examples
    --------
    >>> days = np.random.default_rng(0).standard_normal((1500, 4))
    >>> round(effective_trials(np.hstack([days, days, days])), 1)
    4.0
    """
    r = check_returns(returns, "returns", ndim=(2,))
    still = np.flatnonzero(r.max(axis=0) == r.min(axis=0))
    if still.size:
        raise DataError(f"trial {still[0]} has constant returns; leave it out.")
    n, n_trials = r.shape
    z = (r - r.mean(axis=0)) / r.std(axis=0)
    z -= z.mean(axis=1, keepdims=True)
    # Traces only: the smaller of the two Gram matrices has the same ones.
    gram = (z.T @ z if n_trials <= n else z @ z.T) / n
    total, squares = float(np.trace(gram)), float((gram * gram).sum())
    if total < 1e-9:
        return 1.0
    squares = max(squares - total * total / n, total * total / n_trials)
    return float(np.clip(1.0 + total * total / squares, 1.0, n_trials))
