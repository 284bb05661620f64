r"""Volatility from past volatility: what a risk model reads, what it forecasts, and HAR.

Realised volatility over n days up to and including t, annual: :math:`RV_n(t) =
\sqrt{\tfrac{252}{n} \sum_{k=0}^{n-1} r_{t-k}^2}`. The functions take daily returns (days,
assets), simple, fractions, NaN where there is none, and give values at decisions: increasing
days, of which each reads itself and the days before. All NumPy.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alphakeel.errors import DataError
from alphakeel.models.base import check_fitted, check_integer
from alphakeel.models.persistence import Persistent
from alphakeel.stats.cross_section import row_sums
from alphakeel.stats.rolling import realised_volatility, trailing_max, trailing_mean, trailing_sum

__all__ = [
    "HAR_INPUTS",
    "HARForecaster",
    "check_returns",
    "har_inputs",
    "log_realised_volatility",
    "returns_ahead",
    "volatility_target",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Indices = NDArray[np.intp]

HAR_INPUTS = (
    "log_rv_60_to_market",
    "log_rv_1_to_20",
    "log_rv_5_to_20",
    "log_rv_20_to_60",
    "log_rv_252_to_60",
    "return_5",
    "return_20",
    "downside",
    "largest_move",
    "market_log_rv_20",
    "market_log_rv_5_to_20",
    "market_return_20",
)
DAYS_PER_YEAR = 252.0
# A day of 0.1 % is as quiet as a day counts: prices come in ticks, and a day without a change
# has no logarithm.
QUIET_DAY = 1e-3
# A window is known when this share of its returns is.
KNOWN_SHARE = 0.75
COMPONENTS = (5, 20, 60)


def check_returns(
    returns: ArrayLike, decisions: ArrayLike, mask: ArrayLike | None
) -> tuple[Floats, Indices, Bools]:
    """Returns, decisions and mask as arrays that fit one another."""
    daily = np.asarray(returns, dtype=np.float64)
    if daily.ndim != 2 or daily.size == 0:
        raise DataError(f"returns have shape {daily.shape}; give (days, assets)")
    if np.isinf(daily).any():
        day, asset = np.argwhere(np.isinf(daily))[0]
        raise DataError(f"returns[{day}, {asset}] is infinite; mark a missing return with NaN")
    chosen = np.asarray(decisions)
    if chosen.ndim != 1 or not len(chosen) or not np.issubdtype(chosen.dtype, np.integer):
        raise DataError(f"decisions have shape {chosen.shape}; give one whole number a decision")
    if chosen[0] < 0 or chosen[-1] >= len(daily) or np.any(np.diff(chosen) <= 0):
        raise DataError(f"decisions must increase, and lie within the {len(daily)} days of returns")
    shape = (len(chosen), daily.shape[1])
    allowed = np.ones(shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    if allowed.shape != shape:
        raise DataError(f"mask has shape {allowed.shape}, but there are {shape} decisions x assets")
    return daily, chosen.astype(np.intp), allowed


def check_universe(universe: ArrayLike | None, daily: Floats) -> Bools:
    """The stocks that count in means of each day, all by default."""
    if universe is None:
        return np.ones(daily.shape, dtype=bool)
    among = np.asarray(universe, dtype=bool)[: len(daily)]
    if among.shape != daily.shape:
        raise DataError(f"universe has shape {among.shape}, but returns have {daily.shape}")
    return among


def log_realised_volatility(returns: Floats, window: int) -> Floats:
    """Log annual realised volatility of the last `window` days, the current one included.

    NaN where fewer than three quarters of the window's returns are known. Volatilities below
    0.1 % a day count as 0.1 %.

    >>> np.exp(log_realised_volatility(np.array([0.01, -0.01]), 2)).round(4)
    array([   nan, 0.1587])
    """
    daily = realised_volatility(returns, window, min_count=_needed(window))
    return np.log(np.maximum(daily, QUIET_DAY) * np.sqrt(DAYS_PER_YEAR))


def volatility_target(returns: Floats, decisions: Indices, horizon: int) -> Floats:
    """Log realised volatility of days t+1 to t+horizon: the future, for fits and tests alone.

    NaN where the days are not all within `returns`, or too few returns are known.
    """
    return _ahead(log_realised_volatility(returns, horizon), decisions + horizon)


def returns_ahead(returns: Floats, decisions: Indices, days: int) -> Floats:
    """Returns of days t+1 to t+days, (n_decisions, n_assets, days); NaN where unknown."""
    return np.stack([_ahead(returns, decisions + day) for day in range(1, days + 1)], axis=2)


def _ahead(values: Floats, decisions: Indices) -> Floats:
    out = np.full((len(decisions), values.shape[1]), np.nan)
    inside = decisions < len(values)
    out[inside] = values[decisions[inside]]
    return out


def har_inputs(
    returns: ArrayLike, decisions: ArrayLike, universe: ArrayLike | None = None
) -> Floats:
    r"""What the volatility network reads of each stock, known at each decision; NaN where unknown.

    (n_decisions, n_assets, n_inputs) in the order of `HAR_INPUTS`: :math:`\log RV_{60}`, less
    its mean over the stocks; the logarithms of the ratios :math:`RV_1 / RV_{20}`, :math:`RV_5 /
    RV_{20}`, :math:`RV_{20} / RV_{60}` and :math:`RV_{252} / RV_{60}`; the sums of 5 and of 20
    daily returns, in standard deviations of such a sum by :math:`RV_{60}`; the share of 20-day
    variance from negative returns; the logarithm of the largest absolute return of 20 days in
    daily standard deviations; and three series of the market, equal for all stocks: the mean of
    the stocks' :math:`\log RV_{20}`, and of the equally weighted index of all stocks
    :math:`\log RV_5 / RV_{20}` and its 20-day return in standard deviations. The stocks of the
    means are those of the `universe` of each day, (n_days, n_assets), by default all.
    """
    daily, chosen, _ = check_returns(returns, decisions, None)
    among = check_universe(universe, daily)
    level = {n: log_realised_volatility(daily, n)[chosen] for n in (1, 5, 20, 60, 252)}
    deviation = np.exp(level[60]) / np.sqrt(DAYS_PER_YEAR)
    largest = trailing_max(np.abs(daily), 20, min_count=_needed(20))[chosen]
    columns = [
        level[60] - _mean_known(level[60], among[chosen])[:, None],
        level[1] - level[20],
        level[5] - level[20],
        level[20] - level[60],
        level[252] - level[60],
        _sum(daily, 5)[chosen] / (deviation * np.sqrt(5.0)),
        _sum(daily, 20)[chosen] / (deviation * np.sqrt(20.0)),
        _downside_share(daily, 20)[chosen],
        np.log(np.maximum(largest, QUIET_DAY) / deviation),
        *(series[:, None] for series in _market_inputs(daily, chosen, level[20], among)),
    ]
    return np.stack([np.broadcast_to(column, level[60].shape) for column in columns], axis=2)


class HARForecaster(Persistent):
    r"""Heterogeneous autoregression of log realised volatility, one for all stocks.

    .. math:: \log RV_h(t + h) = c + \beta_5 \log RV_5(t) + \beta_{20} \log RV_{20}(t)
              + \beta_{60} \log RV_{60}(t) + \varepsilon

    by least squares over all stocks and decisions of the sample, with weeks, months and
    quarters in place of Corsi's days, weeks and months (2009, J. Financial Econometrics 7,
    https://doi.org/10.1093/jjfinec/nbp001): daily data hold no realised volatility of a single
    day.

    Parameters
    ----------
    horizon : int, default=20
        Days ahead, h.

    Attributes
    ----------
    coef_ : float64 ndarray of shape (4,)
        Intercept, then the slopes on 5, 20 and 60 days.
    residual_deviation_ : float
        Standard deviation of the residuals, in logarithms.
    n_entries_ : int
        Stock-decisions used.

    Examples
    --------
    >>> daily = np.random.default_rng(0).normal(0.0, 0.01, (400, 20))
    >>> decisions = np.arange(100, 400, 5)
    >>> HARForecaster().fit(daily, decisions=decisions).predict(daily, decisions=decisions).shape
    (60, 20)
    """

    def __init__(self, horizon: int = 20) -> None:
        self.horizon = horizon

    def fit(
        self, returns: ArrayLike, *, decisions: ArrayLike, mask: ArrayLike | None = None
    ) -> Self:
        """Estimate the coefficients from days up to the last of `decisions`, and none after it.

        Decisions within `horizon` days of the last one have no target yet and are left out.
        `mask` (n_decisions, n_assets) says which stock-decisions count.
        """
        horizon = check_integer("horizon", self.horizon, at_least=2)
        daily, chosen, allowed = check_returns(returns, decisions, mask)
        daily = daily[: chosen[-1] + 1]
        past, future = _components(daily, chosen), volatility_target(daily, chosen, horizon)
        used = np.isfinite(past).all(axis=2) & np.isfinite(future) & allowed
        self.n_entries_ = int(used.sum())
        if self.n_entries_ < 10 * past.shape[2]:
            raise DataError(
                f"only {self.n_entries_} decisions have 60 days before and {horizon} days after "
                "them within the training sample; give more days or more stocks"
            )
        design, target = past[used], future[used]
        self.coef_: Floats = np.asarray(np.linalg.lstsq(design, target, rcond=None)[0], np.float64)
        self.residual_deviation_ = float(np.std(target - design @ self.coef_))
        return self

    def predict(
        self, returns: ArrayLike, *, decisions: ArrayLike, mask: ArrayLike | None = None
    ) -> Floats:
        """Annual volatility over the next `horizon` days, of shape (n_decisions, n_assets).

        The exponential of the expected logarithm, that is about the median. Reads the last 60
        days; NaN outside the mask, and where too few of those returns are known.
        """
        check_fitted(self, "coef_")
        daily, chosen, allowed = check_returns(returns, decisions, mask)
        # A sum term by term: a matrix product may round a row by what else is in the matrix.
        terms = _components(daily, chosen) * self.coef_
        level = terms[..., 0] + terms[..., 1] + terms[..., 2] + terms[..., 3]
        return np.where(allowed, np.exp(level), np.nan)


def _components(daily: Floats, decisions: Indices) -> Floats:
    """Regressors of HAR: 1 and the three log volatilities, (n_decisions, n_assets, 4)."""
    levels = [log_realised_volatility(daily, n)[decisions] for n in COMPONENTS]
    return np.stack([np.ones_like(levels[0]), *levels], axis=2)


def _market_inputs(
    daily: Floats, decisions: Indices, level: Floats, among: Bools
) -> tuple[Floats, Floats, Floats]:
    """Mean log volatility of the universe, and its index's volatility ratio and return."""
    index = _mean_known(daily, among)
    short, long = (log_realised_volatility(index, n)[decisions] for n in (5, 20))
    move = _sum(index, 20)[decisions] / (np.exp(long) * np.sqrt(20.0 / DAYS_PER_YEAR))
    return _mean_known(level, among[decisions]), short - long, move


def _downside_share(daily: Floats, window: int) -> Floats:
    """Share of the sum of squares from negative returns, in [0, 1]; one half where none moved."""
    down = trailing_mean(np.square(np.minimum(daily, 0.0)), window, min_count=_needed(window))
    total = trailing_mean(np.square(daily), window, min_count=_needed(window))
    share = np.divide(down, total, out=np.full_like(total, 0.5), where=total > 0.0)
    return np.where(np.isnan(total), np.nan, share)


def _sum(daily: Floats, window: int) -> Floats:
    return trailing_sum(daily, window, min_count=_needed(window))


def _mean_known(values: Floats, among: Bools) -> Floats:
    """Mean over the universe of what is known on each date; NaN where nothing is."""
    known = np.isfinite(values) & among
    number = np.count_nonzero(known, axis=1)
    total = row_sums(values, known)
    return np.divide(total, number, out=np.full(len(values), np.nan), where=number > 0)


def _needed(window: int) -> int:
    return max(1, int(np.ceil(KNOWN_SHARE * window)))
