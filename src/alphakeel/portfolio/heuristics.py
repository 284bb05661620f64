"""Target weights at decision rows, from scores and volatilities, without an optimiser's limits.

Every function takes plain arrays with one row a decision and returns weights of the same shape:
at most 1 in sum, the rest in cash. A row of NaN means that nothing was decided. The weights of a
decision depend on that row and earlier ones only. All are long-only but `long_short_quantile`.
`classic_weights` has skfolio compute allocators that need no expected returns.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from alphakeel.errors import AlphakeelError, ConfigError, DataError
from alphakeel.portfolio.active_set import least_variance
from alphakeel.risk.covariance import wide_ledoit_wolf_covariance
from alphakeel.risk.volatility import check_rows, ex_ante_volatility
from alphakeel.stats.blas_threads import one_blas_thread
from alphakeel.stats.cross_section import row_sums
from alphakeel.stats.performance import check_labels, check_labels_at

__all__ = [
    "CLASSIC",
    "cap_gross",
    "capped_proportional",
    "classic_weights",
    "equal_weight",
    "long_short_quantile",
    "minimum_variance",
    "scale_to_volatility",
    "top_quantile",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# Weights under a basis point cost a ticket and change nothing.
MIN_WEIGHT = 1e-4

# Classes of skfolio, which is imported when one is asked for: that takes a third of a second.
CLASSIC = {
    "inverse_volatility": "InverseVolatility",
    "risk_parity": "RiskBudgeting",
    "hrp": "HierarchicalRiskParity",
}


def top_quantile(
    scores: FloatArray,
    volatility: FloatArray,
    *,
    eligible: BoolArray,
    tradable: BoolArray | None = None,
    quantile: float = 0.2,
    weight_cap: float = 0.1,
    smoothing: float = 0.25,
    min_names: int = 1,
    target_volatility: float | None = None,
    returns: FloatArray | None = None,
    decisions: IntArray | None = None,
) -> FloatArray:
    """Hold the best-scored stocks in inverse proportion to their volatility.

    Parameters
    ----------
    scores : ndarray of shape (n_decisions, n_assets)
        Higher is better; NaN where the model has no opinion. A row without any score decides
        nothing (weights NaN).
    volatility : ndarray of shape (n_decisions, n_assets)
        Volatility forecasts, any unit; a stock without a positive one is not selected.
    eligible : ndarray of shape (n_decisions, n_assets) of bool
        Stocks that may be held; any other gets weight zero at once.
    tradable : ndarray of shape (n_decisions, n_assets) of bool, optional
        False where a stock is known to be suspended: it is not selected anew and keeps the
        weight that it had; the others share what that leaves of the whole.
    quantile : float, default=0.2
        Share of the candidates that is selected (rounded up), in (0, 1].
    weight_cap : float, default=0.1
        Largest weight of a stock, in (0, 1]. What the cap cuts off goes to the others in
        proportion; if too few are selected to be fully invested under the cap
        (``n_selected * weight_cap < 1``), the rest stays in cash.
    smoothing : float, default=0.25
        Share of the way from the old composition to the new one that is traded at each
        decision; 1 goes all the way. Only the composition is smoothed, never the exposure.
    min_names : int, default=1
        Least number of stocks to select; with fewer candidates the row stays in cash.
    target_volatility : float, optional
        Annual volatility above which exposure is reduced by :func:`scale_to_volatility`. Needs
        `returns` and `decisions`.
    returns : ndarray of shape (n_dates, n_assets), optional
        Daily simple returns for the volatility of the whole portfolio.
    decisions : ndarray of shape (n_decisions,) of int, optional
        Row of `returns` on which each decision is made.

    Returns
    -------
    ndarray of shape (n_decisions, n_assets)
        Target weights.

    Notes
    -----
    Equal scores are ranked by lower volatility, then by column. The weights of stocks that are
    no longer selected are dropped once they have faded below a basis point.

    Examples
    --------
    >>> scores = np.array([[0.9, 0.5, 0.1, 0.7]])
    >>> volatility = np.array([[0.2, 0.1, 0.1, 0.1]])
    >>> eligible = np.ones((1, 4), dtype=bool)
    >>> top_quantile(scores, volatility, eligible=eligible, quantile=0.5, weight_cap=1.0).round(3)
    array([[0.333, 0.   , 0.   , 0.667]])
    """
    _check_settings(quantile=quantile, weight_cap=weight_cap, smoothing=smoothing)
    if min_names < 1:
        raise ConfigError(f"min_names is {min_names!r}; give at least 1")
    check_labels(scores=scores, volatility=volatility, eligible=eligible, tradable=tradable)
    scores, volatility = np.asarray(scores, np.float64), np.asarray(volatility, np.float64)
    eligible = _check_mask("eligible", eligible, scores.shape)
    if volatility.shape != scores.shape:
        raise DataError(f"volatility has shape {volatility.shape} but scores have {scores.shape}")
    usable = np.isfinite(scores) & np.isfinite(volatility) & (volatility > 0.0) & eligible
    stuck = np.zeros_like(usable)
    if tradable is not None:
        stuck = eligible & ~_check_mask("tradable", tradable, scores.shape)
        usable &= ~stuck

    selected = _select_top(scores, volatility, usable, quantile, min_names)
    inverse = np.divide(1.0, volatility, out=np.zeros_like(volatility), where=selected)
    fresh = capped_proportional(inverse, cap=weight_cap)
    silent = np.asarray(np.isnan(scores).all(axis=1))
    weights = _smooth(fresh, eligible, stuck, silent, weight_cap, smoothing)
    if target_volatility is not None:
        if returns is None or decisions is None:
            raise ConfigError("target_volatility needs the stocks' returns and the decision rows")
        forecast = ex_ante_volatility(weights, returns, decisions)
        weights = scale_to_volatility(weights, forecast, target=target_volatility)
    return weights


def equal_weight(eligible: BoolArray) -> FloatArray:
    """Hold every eligible stock with the same weight; zeros (cash) where none is eligible."""
    eligible = _check_mask("eligible", eligible, np.shape(eligible))
    return np.asarray(eligible / np.maximum(eligible.sum(axis=1, keepdims=True), 1))


def minimum_variance(
    returns: FloatArray,
    decisions: IntArray,
    eligible: BoolArray,
    *,
    window: int = 252,
    weight_cap: float = 0.1,
    min_share: float = 0.8,
) -> FloatArray:
    """Long-only portfolio of least variance under a weight cap.

    Minimises ``w' S w`` subject to ``sum w = 1``, ``0 <= w <= weight_cap``, with S the
    Ledoit-Wolf covariance of the window that ends on the decision's row. R. Clarke, H. de Silva,
    S. Thorley (2011), Minimum-variance portfolio composition, doi:10.3905/jpm.2011.37.2.031.

    Parameters
    ----------
    returns : ndarray of shape (n_dates, n_assets)
        Simple returns as fractions; NaN where there is none.
    decisions : ndarray of shape (n_decisions,) of int
        Row of `returns` on which each decision is made: the last one that it uses.
    eligible : ndarray of shape (n_decisions, n_assets) of bool
        Stocks that may be held at each decision.
    window : int, default=252
        Rows of returns used; fewer at the start of the history.
    weight_cap : float, default=0.1
        Largest weight, in (0, 1]; with too few stocks to be fully invested under it, all are
        held at the cap and the rest stays in cash.
    min_share : float, default=0.8
        Share of `window` (not of what there is of it) in which a stock needs a return to be
        considered.

    Returns
    -------
    ndarray of shape (n_decisions, n_assets)
        Target weights; zeros (cash) where no stock has enough history.
    """
    _check_settings(weight_cap=weight_cap, min_share=min_share)
    if window < 2:
        raise ConfigError(f"window is {window!r}; give at least 2 rows")
    check_labels_at(decisions, returns, eligible=eligible)
    returns = np.asarray(returns, np.float64)
    eligible = _check_mask("eligible", eligible, (len(decisions), returns.shape[1]))
    decisions = check_rows("decision rows", decisions, len(eligible), len(returns))
    weights = np.zeros(eligible.shape)
    with one_blas_thread():
        for i, row in enumerate(decisions.tolist()):
            past = returns[max(0, row - window + 1) : row + 1]
            weights[i] = _least_variance(past, eligible[i], row, window, weight_cap, min_share)
    return weights


def scale_to_volatility(weights: FloatArray, forecast: FloatArray, *, target: float) -> FloatArray:
    """Move a share of each portfolio to cash so that its forecast volatility is at most `target`.

    `forecast` and `target` are in one unit. Exposure is only ever reduced: no leverage. Where the
    forecast is NaN the risk is unknown and the portfolio stays in cash; rows of NaN weights stay.
    """
    if not 0.0 < target < np.inf:
        raise ConfigError(f"target volatility is {target!r}; give a positive fraction a year")
    exposure = np.ones(len(weights))
    np.divide(target, forecast, out=exposure, where=forecast > target)
    exposure[np.isnan(forecast)] = 0.0
    return weights * exposure[:, None]


def capped_proportional(
    raw: FloatArray, *, cap: float, budget: FloatArray | float = 1.0
) -> FloatArray:
    """Weights in proportion to non-negative `raw` under a cap, by exact water-filling.

    ``min(cap, s * raw)`` with the one scale `s` a row that spends the budget (one number or one a
    row): the excess of capped stocks goes to the others in proportion. Where all positive entries
    at the cap do not reach the budget, they stay there.
    """
    raw = raw / np.maximum(raw.max(axis=1, keepdims=True, initial=0.0), np.finfo(float).tiny)
    spend = np.broadcast_to(np.asarray(budget, np.float64), raw.shape[:1])[:, None]
    largest = -np.sort(-raw, axis=1)
    # tail[k]: what is left to share in proportion once the k largest stand at the cap.
    tail = np.cumsum(largest[:, ::-1], axis=1)[:, ::-1]
    left = spend - cap * np.arange(raw.shape[1])
    scale = np.divide(left, tail, out=np.zeros_like(tail), where=(tail > 0.0) & (left > 0.0))
    fits = (scale > 0.0) & (scale * largest <= cap)
    chosen = np.take_along_axis(scale, fits.argmax(axis=1)[:, None], axis=1)
    at_cap = np.where(raw > 0.0, cap, 0.0)
    spends = fits.any(axis=1, keepdims=True)
    weights = np.where(spends, np.minimum(chosen * raw, cap), at_cap)
    return np.where(spend > 0.0, weights, 0.0)


def _select_top(
    scores: FloatArray, volatility: FloatArray, usable: BoolArray, quantile: float, min_names: int
) -> BoolArray:
    """Mask of the best-scored share of the usable stocks of each row."""
    n_usable = usable.sum(axis=1)
    # The small slack keeps 0.2 * 20 at four names whatever its last bit.
    wanted = np.maximum(np.ceil(quantile * n_usable - 1e-9), min_names)
    wanted = np.where(n_usable >= min_names, wanted, 0)
    order = np.lexsort((volatility, np.where(usable, -scores, np.inf)), axis=1)
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(order.shape[1])[None, :], axis=1)
    return np.asarray(usable & (place < wanted[:, None]))


def _smooth(
    fresh: FloatArray,
    eligible: BoolArray,
    stuck: BoolArray,
    silent: BoolArray,
    cap: float,
    smoothing: float,
) -> FloatArray:
    """Move a share of the way to each fresh composition, at the fresh exposure.

    After a row in cash the next composition is taken whole: there is nothing to smooth from.
    """
    weights = np.full(fresh.shape, np.nan)
    last = np.zeros(fresh.shape[1])
    for i in np.flatnonzero(~silent).tolist():
        held = np.where(eligible[i], last, 0.0)
        unsold = np.where(stuck[i], held, 0.0)
        budget = min(float(row_sums(fresh[i])), 1.0 - float(row_sums(unsold)))
        blend = fresh[i]
        if held.any() and smoothing < 1.0:
            blend = (1.0 - smoothing) * held + smoothing * fresh[i]
        faded = (blend < MIN_WEIGHT) & (fresh[i] == 0.0)
        blend = np.where(stuck[i] | faded, 0.0, blend)
        last = unsold + capped_proportional(blend[None], cap=cap, budget=budget)[0]
        weights[i] = last
    return weights


def _least_variance(
    past: FloatArray,
    eligible: BoolArray,
    row: int,
    window: int,
    weight_cap: float,
    min_share: float,
) -> FloatArray:
    """Minimum-variance weights of one decision, from the returns up to its row."""
    weights = np.zeros(len(eligible))
    enough = (~np.isnan(past)).sum(axis=0) >= max(2.0, min_share * window)
    columns = np.flatnonzero(eligible & enough)
    if columns.size * weight_cap <= 1.0:
        weights[columns] = weight_cap
        return weights
    covariance = wide_ledoit_wolf_covariance(past[:, columns], min_share=min_share)
    solution = least_variance(covariance, weight_cap)
    if solution is None:
        raise AlphakeelError(
            f"there is no minimum-variance portfolio on row {row}: give rows "
            f"{row + 1 - len(past)} to {row} without extreme values and with some return "
            "other than zero"
        )
    weights[columns] = solution / max(1.0, solution.sum())
    return weights


def _check_settings(**shares: float) -> None:
    for name, value in shares.items():
        if not 0.0 < value <= 1.0:
            raise ConfigError(f"{name} is {value!r}; give a fraction in (0, 1]")


def _check_mask(name: str, mask: BoolArray, shape: tuple[int, ...]) -> BoolArray:
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.shape != shape or mask.dtype != np.bool_:
        raise DataError(
            f"{name} has shape {mask.shape} and type {mask.dtype}; give bool of {shape}"
        )
    return mask


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

    Each side is a :func:`top_quantile` portfolio (the short one of the scores with their sign
    turned) of half of `gross`. Then the heavier side is scaled down to the other: in money, or,
    with `betas`, in weight times beta. So `gross` is never exceeded. One unit long, one unit short:
    E. Fama, K. French (1993), doi:10.1016/0304-405X(93)90023-5.

    Parameters
    ----------
    scores, volatility, eligible
        As for :func:`top_quantile`.
    betas : ndarray of shape (n_decisions, n_assets), optional
        Market betas known at each decision: the sides are then equal in beta, not in money. NaN
        counts as 1.
    gross : float, default=2.0
        Longs plus shorts over wealth. A stock that fades out of one side while it enters the other
        is held at the difference, so that with smoothing the gross may be less.
    quantile : float, default=0.2
        Share of the candidates on each side, in (0, 0.5].
    weight_cap : float, default=0.1
        Largest size of a weight over wealth.
    smoothing : float, default=0.25
        As for :func:`top_quantile`, on each side by itself.

    Returns
    -------
    ndarray of shape (n_decisions, n_assets)
        Target weights, negative for shorts; NaN where nothing was decided. Zeros (cash) where
        a side is empty, or where the betas of a side do not sum to more than zero: no scaling
        makes the two neutral then.
    """
    if not 0.0 < gross < np.inf or not 0.0 < quantile <= 0.5:
        raise ConfigError(
            f"gross is {gross!r} and quantile {quantile!r}; give a positive sum and at most half "
            "of the stocks a side"
        )
    check_labels(scores=scores, volatility=volatility, eligible=eligible, betas=betas)
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
    longs, shorts = row_sums(best * load), row_sums(worst * load)
    lighter = np.where((longs > 0.0) & (shorts > 0.0), np.minimum(longs, shorts), 0.0)
    lighter[np.isnan(longs)] = np.nan
    one = np.divide(lighter, longs, out=lighter.copy(), where=longs > 0.0)
    other = np.divide(lighter, shorts, out=lighter.copy(), where=shorts > 0.0)
    return np.asarray(half * (one[:, None] * best - other[:, None] * worst))


def cap_gross(weights: FloatArray, gross: float) -> FloatArray:
    """Scale down the rows whose sizes sum to more than `gross`; rows of NaN stay."""
    size = row_sums(np.abs(weights))
    share = np.divide(gross, size, out=np.ones(len(size)), where=size > gross)
    return np.asarray(weights * share[:, None])


def classic_weights(method: str, returns: FloatArray) -> FloatArray:
    """Fully invested long-only weights of one of `CLASSIC`, from simple returns without gaps.

    Risk parity (equal contributions to variance): S. Maillard et al. (2010),
    doi:10.3905/jpm.2010.36.4.060; hierarchical risk parity: M. Lopez de Prado (2016),
    doi:10.3905/jpm.2016.42.4.059.

    Examples
    --------
    >>> returns = np.random.default_rng(0).normal(0.0, [0.01, 0.03], (250, 2))
    >>> classic_weights("inverse_volatility", returns).round(2)
    array([0.75, 0.25])
    """
    if returns.shape[1] == 1:
        return np.ones(1)
    from skfolio import optimization

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = getattr(optimization, CLASSIC[method])().fit(returns)
        except Exception as error:  # whatever a solver raises becomes one sentence
            raise AlphakeelError(
                f"skfolio found no {method} portfolio of {returns.shape[1]} stocks: {error}"
            ) from error
    return np.asarray(model.weights_, np.float64)
