"""Allocators that need no expected returns, computed by skfolio on one window of returns."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from skfolio.optimization import (
    HierarchicalRiskParity,
    InverseVolatility,
    RiskBudgeting,
)

from alphakeel.errors import AlphakeelError

__all__ = ["CLASSIC", "classic_weights"]

FloatArray = npt.NDArray[np.float64]

CLASSIC: dict[str, Callable[[], object]] = {
    "inverse_volatility": InverseVolatility,
    "risk_parity": RiskBudgeting,
    "hrp": HierarchicalRiskParity,
}


def classic_weights(method: str, returns: FloatArray) -> FloatArray:
    """Fully invested long-only weights of one of the classic allocators.

    Parameters
    ----------
    method : {"inverse_volatility", "risk_parity", "hrp"}
        In proportion to one over volatility; equal contributions to variance; hierarchical
        risk parity.
    returns : ndarray of shape (n_dates, n_assets)
        Simple returns without gaps.

    Returns
    -------
    ndarray of shape (n_assets,)

    Raises
    ------
    AlphakeelError
        If skfolio finds no solution.

    References
    ----------
    S. Maillard, T. Roncalli, J. Teiletche (2010), The properties of equally weighted risk
    contribution portfolios, Journal of Portfolio Management 36(4), doi:10.3905/jpm.2010.36.4.060.
    M. Lopez de Prado (2016), Building diversified portfolios that outperform out of sample,
    Journal of Portfolio Management 42(4), doi:10.3905/jpm.2016.42.4.059.

    Examples
    --------
    >>> returns = np.random.default_rng(0).normal(0.0, [0.01, 0.03], (250, 2))
    >>> classic_weights("inverse_volatility", returns).round(2)
    array([0.75, 0.25])
    """
    if returns.shape[1] == 1:
        return np.ones(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = CLASSIC[method]().fit(returns)  # type: ignore[attr-defined]
        except Exception as error:  # whatever a solver raises becomes one sentence
            raise AlphakeelError(
                f"skfolio found no {method} portfolio of {returns.shape[1]} stocks: {error}"
            ) from error
    return np.asarray(model.weights_, np.float64)
