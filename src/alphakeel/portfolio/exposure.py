r"""How much of a composition may be held: exposure that keeps limits by what is known each day.

A composition (shares that sum to 1) is held at an exposure, the rest is cash:

.. math:: e_t = \min(1, A^{vol}_t, A^{VaR}_t, A^{CVaR}_t, A^{dd}_t)

Volatility and tail are those of today's composition on past days, so correlations are in them
without a matrix; the drawdown is that of the portfolio's own wealth, in
`stats.drawdown_control`. `models.exposure` is the same in torch, for training. The reasoning is in
``docs/risk-in-the-loss.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from alphakeel.errors import DataError
from alphakeel.risk.value_at_risk import row_blocks, tail_of, weighted_returns
from alphakeel.stats.cross_section import row_sums
from alphakeel.stats.drawdown_control import ControlInputs, control_drawdown
from alphakeel.stats.exposure_rules import (
    HALFLIFE,
    MIN_DAYS,
    WINDOW,
    CompositionRisk,
    ceiling_of,
    drawdown_rate,
)
from alphakeel.stats.performance import check_labels_at, tail_share

__all__ = ["LimitedPath", "composition_risk", "limit_exposure"]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class LimitedPath:
    """What `limit_exposure` decided.

    Attributes
    ----------
    exposure : ndarray of shape (n_decisions,)
    ceiling : ndarray of shape (n_decisions,)
        What volatility, VaR and CVaR would allow.
    cushion : ndarray of shape (n_decisions,)
        Distance of wealth from the floor of the drawdown limit, a fraction; 1 without one.
    wealth : ndarray of shape (n_days + 1,)
        From 1; the first day is the one after the first trade.
    """

    exposure: Floats
    ceiling: Floats
    cushion: Floats
    wealth: Floats


def composition_risk(
    shares: Floats, returns: Floats, decisions: Rows, *, window: int = WINDOW
) -> CompositionRisk:
    """Forecast the risk of each decision's composition from its returns on past days.

    The tail is filtered historical simulation (Hull and White, 1998,
    https://doi.org/10.21314/JOR.1998.001): past returns over the volatility of the day before,
    times today's. Arguments as in `limit_exposure`; a missing return counts as the weighted mean of
    the others.

    Examples
    --------
    >>> returns = np.tile([[0.01], [-0.01]], (100, 1))
    >>> composition_risk(np.ones((1, 1)), returns, np.array([199])).volatility
    array([0.01])
    """
    out = CompositionRisk(*(np.full(len(shares), np.nan) for _ in CompositionRisk._fields))
    for rows in row_blocks(decisions):
        past = weighted_returns(shares[rows], returns, decisions[rows], window)
        for place, part in zip(out, _forecast(past), strict=True):
            place[rows] = part
    return out


def _forecast(past: Floats) -> CompositionRisk:
    """Risk of portfolios from their own returns, (n_rows, window), today's last."""
    known = ~np.isnan(past)
    squares = np.where(known, past * past, 0.0)
    count = np.cumsum(known, axis=1)
    decay = 0.5 ** (1.0 / HALFLIFE)
    weight = lfilter([1.0], [1.0, -decay], known.astype(np.float64), axis=1)
    total = lfilter([1.0], [1.0, -decay], squares, axis=1)
    enough = count >= MIN_DAYS
    variance = np.where(enough, total / np.where(weight > 0.0, weight, 1.0), np.nan)
    before = variance[:, :-1]
    shocks = np.full(before.shape, np.nan)
    np.divide(past[:, 1:], np.sqrt(before), out=shocks, where=before > 0.0)
    tail = tail_of(shocks, tail_share(0.95), MIN_DAYS)
    today = np.sqrt(variance[:, -1])
    mean = row_sums(squares) / np.maximum(count[:, -1], 1)
    usual = np.sqrt(np.where(enough[:, -1], mean, np.nan))
    return CompositionRisk(today, usual, today * tail.var, today * tail.cvar)


def limit_exposure(
    shares: Floats,
    returns: Floats,
    decisions: Rows,
    *,
    limits: Mapping[str, float],
    factors: Mapping[str, Floats | float] | None = None,
    lag: int = 1,
    cost_per_side: float = 0.0,
    end: int | None = None,
    riskless: Floats | None = None,
) -> LimitedPath:
    """Decide at each close how much of a composition is held under limits.

    Parameters
    ----------
    shares : ndarray of shape (n_decisions, n_assets)
        Compositions, at least 0, with a sum of at most 1; what is left is cash.
    returns : ndarray of shape (n_dates, n_assets)
        Simple daily returns, fractions; NaN where there is none.
    decisions : ndarray of shape (n_decisions,) of int
        Row of `returns` at whose close each is decided; rising.
    limits : mapping of str to float
        Any of ``volatility`` (annual), ``var_95``, ``cvar_95`` (daily) and ``max_drawdown``
        (from the highest wealth of the last 252 days); others are ignored.
    factors : mapping of str to ndarray of shape (n_decisions,) or float, optional
        By which a risk is taken to be larger than its forecast, by the name of its limit; 1 where
        left out.
    lag : int, default=1
        Rows between decision and trade.
    cost_per_side : float, default=0.0
        Share of the value traded, for the portfolio's own wealth.
    end : int, optional
        Last row of `returns` that the last decision earns; by default the last of all.
    riskless : ndarray of shape (n_dates,), optional
        Return of cash on each row, known the row before; by default cash earns nothing.

    Returns
    -------
    LimitedPath
        Exposure 0 where the risk is unknown. Row t knows `returns` up to the decision's row.

    Examples
    --------
    >>> returns = np.tile([[0.02], [-0.02]], (100, 1))
    >>> decisions = np.array([150, 155])
    >>> limits = {"volatility": 0.12}
    >>> path = limit_exposure(np.ones((2, 1)), returns, decisions, limits=limits)
    >>> path.exposure.round(3)
    array([0.378, 0.378])
    """
    check_labels_at(decisions, returns, shares=shares)
    shares, returns = np.asarray(shares, dtype=np.float64), np.asarray(returns, dtype=np.float64)
    if shares.shape != (len(decisions), returns.shape[1]):
        raise DataError(
            f"shares have shape {shares.shape}; give ({len(decisions)}, {returns.shape[1]}), one "
            "row for each decision and one column for each stock of the returns"
        )
    if (np.diff(decisions) <= 0).any():
        raise DataError("decisions have to rise: each is made on a later day than the one before")
    applied = {name: np.ones(len(shares)) for name in limits} | dict(factors or {})
    risk = composition_risk(shares, returns, decisions)
    ceiling = ceiling_of(np, risk, limits, applied)
    rate = drawdown_rate(np, risk, applied.get("max_drawdown", 1.0))
    growth, turnover, first, cash = _held(shares, returns, decisions, lag, end, riskless)
    seen = np.minimum(first[:-1], np.maximum(decisions - decisions[0] - lag, 0))
    path = control_drawdown(
        ControlInputs(
            ceiling[:, None], rate[:, None], growth[:, None], turnover[:, None], first, seen
        ),
        limits.get("max_drawdown"),
        cost_per_side=cost_per_side,
        cash=cash,
    )
    return LimitedPath(path.exposure[:, 0], ceiling, path.cushion[:, 0], path.wealth[:, 0])


def _held(
    shares: Floats,
    returns: Floats,
    decisions: Rows,
    lag: int,
    end: int | None,
    riskless: Floats | None,
) -> tuple[Floats, Floats, Rows, Floats | None]:
    """Growth of each held composition by day, what each decision trades, its first day, cash's."""
    last = len(returns) - 1 if end is None else end
    edges = np.minimum(np.append(decisions + lag, last), last)
    first = edges - edges[0]
    growth, turnover = np.zeros(int(first[-1])), np.zeros(len(shares))
    drifted = np.zeros(shares.shape[1])
    cash = None if riskless is None else np.zeros(len(growth))
    for t, own in enumerate(shares):
        held = np.flatnonzero(own)
        daily = np.nan_to_num(returns[edges[t] + 1 : edges[t + 1] + 1][:, held])
        gains = np.cumprod(1.0 + daily, axis=0) - 1.0
        days = slice(int(first[t]), int(first[t + 1]))
        growth[days] = row_sums(gains * own[held])
        if cash is not None and riskless is not None:
            cash[days] = np.cumprod(1.0 + riskless[edges[t] + 1 : edges[t + 1] + 1]) - 1.0
            growth[days] += (1.0 - row_sums(own)) * cash[days]
        turnover[t] = float(row_sums(np.abs(own - drifted)))
        drifted = own.copy()
        if len(gains):
            drifted[held] = own[held] * (1.0 + gains[-1]) / (1.0 + growth[first[t + 1] - 1])
    return growth, turnover, first, cash
