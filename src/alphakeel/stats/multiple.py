"""P-values of many hypotheses at once, adjusted for their number.

An adjusted p-value is the smallest level at which the procedure rejects that hypothesis:
``adjusted <= 0.1`` are the discoveries at a false discovery rate (or family-wise error) of 10 %.
For a false discovery rate it is also called the q-value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alphakeel.errors import DataError

__all__ = ["benjamini_hochberg", "benjamini_yekutieli", "holm"]

Array = NDArray[np.float64]


def benjamini_hochberg(p_values: ArrayLike) -> Array:
    """Adjusted p-values that bound the expected share of false discoveries.

    Valid for independent tests, and for tests with positive regression dependence.

    Parameters
    ----------
    p_values : array of shape (n_tests,)
        In [0, 1]; NaN is a hypothesis that was not tested, and does not count.

    Returns
    -------
    ndarray of shape (n_tests,)
        ``min over j >= i of p(j) n / j`` in the order of the p-values, at most 1; NaN stays NaN.

    Raises
    ------
    DataError
        If a p-value lies outside [0, 1].

    References
    ----------
    Benjamini, Y. and Hochberg, Y. (1995). Controlling the false discovery rate. Journal of the
    Royal Statistical Society B 57, 289-300. https://doi.org/10.1111/j.2517-6161.1995.tb02031.x

    Examples
    --------
    >>> benjamini_hochberg([0.01, 0.04, 0.03, 0.8]).round(4)
    array([0.04  , 0.0533, 0.0533, 0.8   ])
    """
    p, place = _in_order(p_values)
    return _step_up(p, place, np.size(p_values), 1.0)


def benjamini_yekutieli(p_values: ArrayLike) -> Array:
    """Adjusted p-values that bound the share of false discoveries under any dependence.

    Benjamini and Hochberg's times ``1 + 1/2 + ... + 1/n``: the price of not knowing how the tests
    hang together.

    Parameters
    ----------
    p_values : array of shape (n_tests,)
        As in `benjamini_hochberg`.

    Returns
    -------
    ndarray of shape (n_tests,)

    Raises
    ------
    DataError
        If a p-value lies outside [0, 1].

    References
    ----------
    Benjamini, Y. and Yekutieli, D. (2001). The control of the false discovery rate in multiple
    testing under dependency. Annals of Statistics 29, 1165-1188.
    https://doi.org/10.1214/aos/1013699998

    Examples
    --------
    >>> benjamini_yekutieli([0.01, 0.04, 0.03, 0.8]).round(4)
    array([0.0833, 0.1111, 0.1111, 1.    ])
    """
    p, place = _in_order(p_values)
    return _step_up(p, place, np.size(p_values), float((1.0 / np.arange(1, p.size + 1)).sum()))


def holm(p_values: ArrayLike) -> Array:
    """Adjusted p-values that bound the chance of a single false discovery, under any dependence.

    Parameters
    ----------
    p_values : array of shape (n_tests,)
        As in `benjamini_hochberg`.

    Returns
    -------
    ndarray of shape (n_tests,)
        ``max over j <= i of p(j) (n - j + 1)`` in the order of the p-values, at most 1.

    Raises
    ------
    DataError
        If a p-value lies outside [0, 1].

    References
    ----------
    Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal
    of Statistics 6, 65-70. https://www.jstor.org/stable/4615733

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03, 0.8]).round(4)
    array([0.04, 0.09, 0.09, 0.8 ])
    """
    p, place = _in_order(p_values)
    out = np.full(np.size(p_values), np.nan)
    out[place] = np.minimum(np.maximum.accumulate(p * np.arange(p.size, 0, -1)), 1.0)
    return out


def _in_order(p_values: ArrayLike) -> tuple[Array, NDArray[np.intp]]:
    """Return the known p-values in increasing order, and where each came from."""
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1:
        raise DataError(f"p-values must have shape (n_tests,), got {p.shape}.")
    bad = np.flatnonzero((p < 0.0) | (p > 1.0))
    if bad.size:
        raise DataError(f"p-value {bad[0]} is {p[bad[0]]}; p-values lie between 0 and 1.")
    place = np.flatnonzero(~np.isnan(p))
    place = place[np.argsort(p[place], kind="stable")]
    return p[place], place


def _step_up(p: Array, place: NDArray[np.intp], n: int, price: float) -> Array:
    out = np.full(n, np.nan)
    scaled = p * (price * p.size) / np.arange(1, p.size + 1)
    out[place] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return out
