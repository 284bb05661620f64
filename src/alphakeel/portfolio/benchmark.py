"""The benchmark that a portfolio is measured against: its weights, its risk, and active exposures.

A benchmark is known by its weights (equal or by market value), or by its returns alone (an index
whose weights the data do not hold). In the factor form of the covariance, ``S = L L' + diag(d)``,
both are the same three numbers: the benchmark's weights b, its exposure to the factors, and the
variance that no stock explains, so that

    tracking error^2 = |L'w - exposure|^2 + sum d (w - b)^2 + variance.

For known weights exposure is ``L'b`` and variance 0. An index is estimated as one more column
beside the stocks: b is 0, and what it does apart from the factors cannot be held.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from alphakeel.errors import DataError
from alphakeel.risk.covariance import FactorCovariance
from alphakeel.stats import rolling
from alphakeel.stats.cross_section import row_sums

__all__ = [
    "STYLES",
    "Active",
    "TrackingBias",
    "cap_weights",
    "style_exposures",
]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

# Exposures that a style limit bounds, where the data have what each is made of.
STYLES = ("size", "beta", "volatility", "momentum")
# Days of momentum, those of them that are known at least, and the last month, which is left out.
YEAR, LEAST, MONTH = 252, 120, 21
# Days in which a realised tracking error loses half of its weight, and the weight of the belief
# that forecasts are right, in days.
BIAS_HALFLIFE, BIAS_PRIOR = 63.0, 40.0
# A forecast of under 10 basis points a year is of the benchmark itself: there is nothing to judge.
BIAS_LEAST = 0.001**2 / 252.0
# Standard deviations beyond which an exposure counts as this many.
WIDEST = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Active:
    """The benchmark of one decision, over its candidates; risk per day.

    Attributes
    ----------
    weights : ndarray of shape (n,)
        Of the benchmark; zeros where it is known by its returns alone.
    exposure : ndarray of shape (n_factors,)
        Of the benchmark to the factors of the covariance.
    variance : float
        Of the benchmark beyond its factors and weights.
    styles : ndarray of shape (n_styles, n)
        Standardised exposures of the stocks; no rows without a style limit.
    by_weights : bool
        Whether `weights` are the benchmark's.
    scale : float
        Factor on the forecast of the tracking error, from what earlier ones were worth.
    """

    weights: FloatArray
    exposure: FloatArray
    variance: float
    styles: FloatArray
    by_weights: bool
    scale: float = 1.0

    @classmethod
    def of_weights(
        cls, weights: FloatArray, covariance: FactorCovariance, styles: FloatArray
    ) -> Active:
        """Of known weights of the candidates, which sum to 1."""
        return cls(weights, weights @ covariance.loadings, 0.0, styles, by_weights=True)

    @classmethod
    def of_last_column(cls, joint: FactorCovariance) -> tuple[FactorCovariance, Active]:
        """Covariance of all columns but the last, and the last one as the benchmark."""
        loadings, specific, kept = joint
        own = FactorCovariance(loadings[:-1], specific[:-1], kept[:-1])
        n = len(specific) - 1
        none = np.zeros((0, n))
        return own, cls(np.zeros(n), loadings[-1], float(specific[-1]), none, by_weights=False)

    def tracking_variance(self, weights: FloatArray, covariance: FactorCovariance) -> float:
        """Variance per day of a portfolio's return less the benchmark's."""
        factors = weights @ covariance.loadings - self.exposure
        own = (weights - self.weights) ** 2 @ covariance.specific
        return float(self.scale**2 * (factors @ factors + own + self.variance))

    def style_deviations(self, weights: FloatArray) -> FloatArray:
        """Exposure to each style less the benchmark's, (n_styles,)."""
        return np.asarray(self.styles @ (weights - self.weights))

    def over(self, periods: float) -> Active:
        """The same over `periods` independent periods."""
        return replace(
            self, exposure=self.exposure * periods**0.5, variance=self.variance * periods
        )


@dataclass(slots=True)
class TrackingBias:
    """How far realised tracking errors went beyond their forecasts, so far.

    An optimiser prefers stocks whose risk is underestimated, so that forecasts made on the past
    are too low for what was chosen by them. `scale` is the root of a weighted mean of the squared
    active returns over their forecast variance, at least 1: multiplied by it the forecasts would
    have been right. Newer days weigh more, and few days leave it near 1.
    """

    squares: float = 0.0
    days: float = 0.0
    targets: FloatArray = field(default_factory=lambda: np.zeros(0))
    benchmark: FloatArray = field(default_factory=lambda: np.zeros(0))
    variance: float = 0.0

    @property
    def scale(self) -> float:
        """Factor on the next forecast."""
        return float(max(1.0, (BIAS_PRIOR + self.squares) / (BIAS_PRIOR + self.days)) ** 0.5)

    def expect(self, targets: FloatArray, benchmark: FloatArray, variance: float) -> None:
        """Keep what was decided, the benchmark (or nothing for an index), and its forecast."""
        self.targets, self.benchmark, self.variance = targets, benchmark, variance

    def realise(self, returns: FloatArray, index: FloatArray | None) -> None:
        """Hold the forecast against the days since, (n_days, n_assets), and the index's returns."""
        if not len(returns) or not self.variance > BIAS_LEAST:
            return
        earned = _held_returns(self.targets, returns)
        base = _held_returns(self.benchmark, returns) if index is None else np.nan_to_num(index)
        decay = 0.5 ** (1.0 / BIAS_HALFLIFE)
        for square in ((earned - base) ** 2 / self.variance).tolist():
            self.squares = decay * self.squares + square
            self.days = decay * self.days + 1.0


def _held_returns(weights: FloatArray, returns: FloatArray) -> FloatArray:
    """Daily returns of weights that drift; NaN counts as 0, cash earns nothing."""
    held = np.flatnonzero(weights)
    growth = np.cumprod(1.0 + np.nan_to_num(returns[:, held]), axis=0)
    value = 1.0 + row_sums((growth - 1.0) * weights[held])
    return np.asarray(value / np.concatenate([[1.0], value[:-1]]) - 1.0)


def cap_weights(market_value: FloatArray, eligible: BoolArray, days: npt.ArrayLike) -> FloatArray:
    """Weights in proportion to market value among the eligible stocks, (n_decisions, n_assets).

    Parameters
    ----------
    market_value : ndarray of shape (n_decisions, n_assets)
        Known at the decision; NaN or not above 0: the stock is not in the benchmark.
    eligible : ndarray of shape (n_decisions, n_assets) of bool
    days : sequence of n_decisions days
        Named where a decision has eligible stocks and not one market value.

    Returns
    -------
    ndarray of shape (n_decisions, n_assets)
        Rows sum to 1, or to 0 where no stock is eligible.

    Examples
    --------
    >>> cap_weights(np.array([[3.0, 1.0, np.nan]]), np.ones((1, 3), bool), ["2015-01-05"])
    array([[0.75, 0.25, 0.  ]])
    """
    held = np.where(eligible & (market_value > 0.0), market_value, 0.0)
    total = row_sums(held)
    empty = np.flatnonzero((total <= 0.0) & eligible.any(axis=1))
    if len(empty):
        raise DataError(
            f"no stock of the sample has a market value on {np.asarray(days)[empty[0]]}, and the "
            "cap-weighted benchmark needs them: complete the column market_cap, start the test "
            'later, or set allocation.benchmark to "equal_weight".'
        )
    return np.asarray(np.divide(held, total[:, None], out=held, where=total[:, None] > 0.0))


def style_exposures(
    returns: FloatArray,
    decisions: IntArray,
    eligible: BoolArray,
    *,
    volatility: FloatArray,
    market_value: FloatArray | None = None,
    betas: FloatArray | None = None,
) -> tuple[tuple[str, ...], FloatArray]:
    """Standardised exposures of the stocks to styles, known at each decision.

    Parameters
    ----------
    returns : ndarray of shape (n_dates, n_assets)
        Simple daily returns; rows after a decision are not read for it.
    decisions : ndarray of shape (n_decisions,) of int
    eligible : ndarray of shape (n_decisions, n_assets) of bool
        The sample among which exposures are standardised.
    volatility : ndarray of shape (n_decisions, n_assets)
        Forecasts, in any unit.
    market_value, betas : ndarray of shape (n_decisions, n_assets), optional
        Without them there is no size, and no beta.

    Returns
    -------
    names : tuple of str
        Of `STYLES` those that there are.
    exposures : ndarray of shape (n_decisions, n_assets, n_styles)
        Mean 0 and standard deviation 1 among the eligible stocks of the date, at most `WIDEST` in
        size; 0 where unknown. Size and volatility are logarithms, momentum is the log return of
        the last year without its last month.
    """
    growth = np.log1p(np.where(returns > -1.0, returns, np.nan))
    year = rolling.trailing_sum(growth, YEAR, min_count=LEAST)[decisions]
    month = rolling.trailing_sum(growth, MONTH, min_count=1)[decisions]
    found: dict[str, FloatArray] = {}
    if market_value is not None:
        found["size"] = _log(market_value)
    if betas is not None:
        found["beta"] = betas
    found["volatility"] = _log(volatility)
    found["momentum"] = year - month
    values = [_standardised(found[name], eligible) for name in STYLES if name in found]
    return tuple(name for name in STYLES if name in found), np.stack(values, axis=-1)


def _log(values: FloatArray) -> FloatArray:
    return np.log(np.where(values > 0.0, values, np.nan))


def _standardised(values: FloatArray, eligible: BoolArray) -> FloatArray:
    """Deviations from the mean of the eligible stocks, in standard deviations."""
    known = eligible & np.isfinite(values)
    n = np.maximum(known.sum(axis=1), 1)
    filled = np.where(known, values, 0.0)
    off = np.where(known, filled - (row_sums(filled) / n)[:, None], 0.0)
    spread = np.sqrt(row_sums(off * off) / n)[:, None]
    scaled = np.divide(off, spread, out=np.zeros_like(off), where=spread > 0.0)
    return np.clip(scaled, -WIDEST, WIDEST)
