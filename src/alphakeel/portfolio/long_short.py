"""The best stocks long and the worst ones short, neutral in money or in market beta."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError, DataError
from alphakeel.portfolio.allocation import top_quantile

__all__ = ["cap_gross", "long_short_quantile"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def long_short_quantile(
    scores: FloatArray,
    volatility: FloatArray,
    *,
    eligible: BoolArray,
    betas: FloatArray | None = None,
    gross: float = 2.0,
    quantile: float = 0.2,
    weight_cap: float = 0.1,
    smoothing: float = 0.25,
) -> FloatArray:
    """Hold the best-scored stocks and sell the worst ones short, by inverse volatility.

    Each side is a :func:`.allocation.top_quantile` book (the short one of the scores with their
    sign turned) worth half of `gross`. Then the heavier side is scaled down to the other: in money,
    or, with `betas`, in weight times beta. So `gross` is never exceeded.

    Parameters
    ----------
    scores, volatility, eligible
        As for :func:`.allocation.top_quantile`.
    betas : ndarray of shape (n_rows, n_assets), optional
        Market betas known at each decision: the sides are then equal in beta, not in money. NaN
        counts as 1.
    gross : float, default=2.0
        Longs plus shorts over wealth.
    quantile : float, default=0.2
        Share of the candidates on each side, in (0, 0.5].
    weight_cap : float, default=0.1
        Largest size of a weight over wealth.
    smoothing : float, default=0.25
        As for :func:`.allocation.top_quantile`, on each side by itself.

    Returns
    -------
    ndarray of shape (n_rows, n_assets)
        Target weights, negative for shorts; NaN where nothing was decided. Zeros (cash) where
        a side is empty, or where the betas of a side do not sum to more than zero: no scaling
        makes the two neutral then.

    Raises
    ------
    ConfigError
        If a setting is out of range.
    DataError
        If shapes differ.

    Notes
    -----
    A stock that fades out of one side while it enters the other is held at the difference, so
    that with smoothing the gross may be less than asked for.

    References
    ----------
    E. Fama, K. French (1993), Common risk factors in the returns on stocks and bonds, Journal of
    Financial Economics 33, doi:10.1016/0304-405X(93)90023-5 (one unit long, one unit short).

    Examples
    --------
    >>> scores = np.array([[0.9, 0.5, 0.1, 0.7]])
    >>> even = {"volatility": np.full((1, 4), 0.2), "eligible": np.ones((1, 4), dtype=bool)}
    >>> long_short_quantile(scores, **even, quantile=0.25, weight_cap=1.0)
    array([[ 1.,  0., -1.,  0.]])
    >>> betas = np.array([[2.0, 1.0, 1.0, 1.0]])
    >>> long_short_quantile(scores, **even, betas=betas, quantile=0.25, weight_cap=1.0)
    array([[ 0.5,  0. , -1. ,  0. ]])
    """
    if not 0.0 < gross < np.inf or not 0.0 < quantile <= 0.5:
        raise ConfigError(
            f"gross is {gross!r} and quantile {quantile!r}; give a positive sum and at most half "
            "of the stocks a side"
        )
    scores, half = np.asarray(scores, np.float64), 0.5 * gross
    if betas is not None and np.shape(betas) != scores.shape:
        raise DataError(f"betas have shape {np.shape(betas)} but scores have {scores.shape}")
    best, worst = (
        top_quantile(
            sign * scores,
            volatility,
            eligible=eligible,
            quantile=quantile,
            weight_cap=min(weight_cap / half, 1.0),
            smoothing=smoothing,
        )
        for sign in (1.0, -1.0)
    )
    load = np.ones(scores.shape) if betas is None else np.nan_to_num(betas, nan=1.0)
    longs, shorts = (best * load).sum(axis=1), (worst * load).sum(axis=1)
    lighter = np.where((longs > 0.0) & (shorts > 0.0), np.minimum(longs, shorts), 0.0)
    lighter[np.isnan(longs)] = np.nan
    one = np.divide(lighter, longs, out=lighter.copy(), where=longs > 0.0)
    other = np.divide(lighter, shorts, out=lighter.copy(), where=shorts > 0.0)
    return np.asarray(half * (one[:, None] * best - other[:, None] * worst))


def cap_gross(weights: FloatArray, gross: float) -> FloatArray:
    """Scale down the rows whose sizes sum to more than `gross`; rows of NaN stay.

    Examples
    --------
    >>> cap_gross(np.array([[1.5, -1.5], [0.5, -0.5]]), 2.0)
    array([[ 1. , -1. ],
           [ 0.5, -0.5]])
    """
    size = np.abs(weights).sum(axis=1)
    share = np.divide(gross, size, out=np.ones(len(size)), where=size > gross)
    return np.asarray(weights * share[:, None])
