"""Is a value-at-risk forecast right? Tests of how often and when it was exceeded.

A forecast is right when a loss beyond it comes as often as promised (unconditional coverage) and
tells nothing about the next one (independence). Returns are simple daily returns as fractions,
forecasts are losses as positive fractions, `level` is their confidence in (0, 1). By default a
forecast stands on the row of the day on which it was made and is about the return of the next row
(``lag=1``). A day without a forecast or without a return is NaN and is left out, and no pair of
days is formed across it.

The p-values are those of the chi-squared limits. A sample that holds nothing to judge, such as
no exceedance at all in a test of clustering, has the statistic 0 and p-value 1, never NaN: the
count beside them says how much that proves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy
from scipy.stats import chi2

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats import rolling
from alphakeel.stats.performance import check_labels, tail_share

__all__ = [
    "VarEvaluation",
    "VarTest",
    "christoffersen_independence",
    "conditional_coverage",
    "dynamic_quantile",
    "evaluate",
    "exceedances",
    "kupiec",
    "tick_loss",
]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VarEvaluation:
    """All tests of one forecast, from `evaluate`."""

    coverage: VarTest  # `kupiec`
    independence: VarTest  # `christoffersen_independence`
    conditional: VarTest  # `conditional_coverage`
    dynamic: VarTest  # `dynamic_quantile`
    tick_loss: float  # mean, in units of return: the lower, the sharper the forecast

    def verdict(self, *, significance: float = 0.05) -> str:
        """The tests in a sentence; a p-value below `significance` counts as failed."""
        c = self.coverage
        counted = (
            f"{c.exceedances} exceedances in {c.n} days, {100 * c.rate:.1f} % against "
            f"{100 * c.expected:g} % expected"
        )
        faults = []
        if c.p_value < significance:
            word = "too often" if c.rate > c.expected else "too rarely"
            faults.append(f"the forecast was exceeded {word} (Kupiec p {c.p_value:.3f})")
        if self.independence.p_value < significance:
            faults.append(
                "an exceedance makes the next one more or less likely "
                f"(Christoffersen p {_p_text(self.independence.p_value)})"
            )
        if not faults and self.conditional.p_value < significance:
            faults.append(
                "frequency and clustering are rejected together "
                f"(conditional coverage p {_p_text(self.conditional.p_value)})"
            )
        if not faults and self.dynamic.p_value < significance:
            faults.append(
                "exceedances can be predicted from earlier days "
                f"(dynamic quantile p {_p_text(self.dynamic.p_value)})"
            )
        return f"{counted}: {' and '.join(faults) or 'no test rejects the forecast'}."


def dynamic_quantile(
    hits: ArrayLike,
    forecast: ArrayLike | None = None,
    *,
    level: float = 0.95,
    lags: int = 4,
    lag: int = 1,
) -> VarTest:
    """Test that exceedances cannot be predicted from earlier ones and from the forecast itself.

    A regression of ``hit - p`` on a constant, its own last `lags` values and the day's forecast
    (where given): under the null hypothesis all coefficients are zero, and ``b' X'X b / (p (1 -
    p))`` is chi-squared with as many degrees of freedom as X has rank. The counts are of all known
    days, the statistic of those with `lags` known days before them. Without an exceedance the lags
    are constant, and what remains tests the coverage. Engle and Manganelli (2004),
    https://doi.org/10.1198/073500104000000370.
    """
    check_labels(hits=hits, forecast=forecast)
    hits, p = _check_hits(hits), tail_share(level)
    if lags < 0:
        raise ConfigError(f"lags is {lags!r}; give 0 or more earlier days")
    centred = hits - p
    columns = [np.ones_like(centred)]
    columns += [rolling.lag(centred, k) for k in range(1, lags + 1)]
    if forecast is not None:
        columns.append(_pair_up(hits, forecast, lag)[1])
    table = np.column_stack([centred, *columns])
    table = table[~np.isnan(table).any(axis=1)]
    if not len(table):
        raise DataError(f"no day is known together with the {lags} days before it; give more days")
    # The squared length of the hits' projection, in a basis of the columns: no inverse to blow up.
    left, sizes, _ = np.linalg.svd(
        table[:, 1:] / np.linalg.norm(table[:, 1:], axis=0).clip(1e-300), full_matrices=False
    )
    basis = left[:, sizes > sizes[0] * 1e-9]
    projected = table[:, 0] @ basis
    return _outcome(float(projected @ projected) / (p * (1.0 - p)), basis.shape[1], hits, p)


def tick_loss(
    returns: ArrayLike, forecast: ArrayLike, *, level: float = 0.95, lag: int = 1
) -> float:
    """Mean tick (pinball) loss, in units of return: the score that the true quantile makes least.

    ``mean((r + v) (p - [r < -v]))`` with ``p = 1 - level`` and the forecast v: a day beyond the
    forecast costs its excess times `level`, any other day the unused margin times p. NaN if no day
    has both. Koenker and Bassett (1978), https://doi.org/10.2307/1913643.
    """
    p = tail_share(level)
    r, bound = _pair_up(returns, forecast, lag)
    margin = r + bound
    margin = margin[~np.isnan(margin)]
    return float((margin * (p - (margin < 0.0))).mean()) if margin.size else float("nan")


def _p_text(p: float) -> str:
    return "below 0.001" if p < 0.001 else f"{p:.3f}"


def evaluate(
    returns: ArrayLike, forecast: ArrayLike, *, level: float = 0.95, lag: int = 1, lags: int = 4
) -> VarEvaluation:
    """All tests and the tick loss of one forecast; `lags` are those of `dynamic_quantile`.

    Examples
    --------
    >>> returns = np.random.default_rng(1).normal(0.0, 0.01, 2000)
    >>> evaluate(returns, np.full(2000, 0.01645)).verdict()
    '96 exceedances in 1999 days, 4.8 % against 5 % expected: no test rejects the forecast.'
    """
    hits = exceedances(returns, forecast, lag=lag)
    return VarEvaluation(
        coverage=kupiec(hits, level=level),
        independence=christoffersen_independence(hits, level=level),
        conditional=conditional_coverage(hits, level=level),
        dynamic=dynamic_quantile(hits, forecast, level=level, lags=lags, lag=lag),
        tick_loss=tick_loss(returns, forecast, level=level, lag=lag),
    )


@dataclass(frozen=True, slots=True)
class VarTest:
    """Outcome of one test of a value-at-risk forecast."""

    statistic: float  # chi-squared if the forecast is right; at least 0
    p_value: float  # chance of a statistic at least this large if the forecast is right
    degrees_of_freedom: int
    n: int  # days with both a forecast and a return
    exceedances: int  # those on which the loss was larger
    rate: float  # share of exceedances, a fraction
    expected: float  # ``1 - level``


def exceedances(returns: ArrayLike, forecast: ArrayLike, *, lag: int = 1) -> Array:
    """Days with ``return < -forecast``: 1.0, others 0.0, NaN where either is missing.

    The return of row t is tested against the forecast of row ``t - lag``; ``lag=0`` for forecasts
    that stand on the day that they are about.
    """
    r, bound = _pair_up(returns, forecast, lag)
    return np.where(np.isnan(r) | np.isnan(bound), np.nan, r < -bound)


def kupiec(hits: ArrayLike, *, level: float = 0.95) -> VarTest:
    """Likelihood-ratio test that exceedances come as often as promised.

    With x exceedances in n days and ``p = 1 - level``,
    ``2 [x log(x / np) + (n - x) log((n - x) / (n - np))]``, one degree of freedom. Without an
    exceedance that is ``-2 n log(level)``: enough days without one are evidence against a forecast
    too. Kupiec (1995), https://doi.org/10.3905/jod.1995.407942.
    """
    hits, p = _check_hits(hits), tail_share(level)
    n, x = _counts(hits)
    ratio = _bernoulli(x, n, x / n) - _bernoulli(x, n, p)
    return _outcome(2.0 * ratio, 1, hits, p)


def christoffersen_independence(hits: ArrayLike, *, level: float = 0.95) -> VarTest:
    """Likelihood-ratio test that an exceedance makes the next no more and no less likely.

    A first-order Markov chain, in which the chance of an exceedance depends on the day before,
    against one chance for all days; one degree of freedom. Pairs of days in which one is missing
    are left out. `level` only gives the expected share in the result. Christoffersen (1998),
    https://doi.org/10.2307/2527341.
    """
    hits, p = _check_hits(hits), tail_share(level)
    return _outcome(_independence_ratio(hits), 1, hits, p)


def conditional_coverage(hits: ArrayLike, *, level: float = 0.95) -> VarTest:
    """Test of coverage and independence together: the sum of both statistics.

    Two degrees of freedom. Like most programs, the part for coverage counts every day, also the
    first, on which the paper (Christoffersen 1998) conditions.
    """
    hits, p = _check_hits(hits), tail_share(level)
    total = kupiec(hits, level=level).statistic + _independence_ratio(hits)
    return _outcome(total, 2, hits, p)


def _independence_ratio(hits: Array) -> float:
    before, after = hits[:-1], hits[1:]
    both = ~np.isnan(before) & ~np.isnan(after)
    before, after = before[both], after[both]
    if not before.size:
        return 0.0
    total = _bernoulli(after.sum(), len(after), after.mean())
    split = 0.0
    for state in (0.0, 1.0):
        group = after[before == state]
        if group.size:
            split += _bernoulli(group.sum(), len(group), group.mean())
    return 2.0 * (split - total)


def _bernoulli(x: float, n: float, chance: float) -> float:
    """Log likelihood of x exceedances in n days; 0 log 0 is 0."""
    return float(xlogy(x, chance) + xlogy(n - x, 1.0 - chance))


def _outcome(statistic: float, freedom: int, hits: Array, p: float) -> VarTest:
    """A statistic with its p-value and the counts behind it."""
    n, x = _counts(hits)
    statistic = max(statistic, 0.0)  # a ratio of equal likelihoods may round below
    tail = float(chi2.sf(statistic, freedom))
    return VarTest(statistic, tail, freedom, n, x, x / n, p)


def _counts(hits: Array) -> tuple[int, int]:
    return int(np.count_nonzero(~np.isnan(hits))), int(np.nansum(hits))


def _pair_up(returns: ArrayLike, forecast: ArrayLike, lag: int) -> tuple[Array, Array]:
    """Returns and the forecasts about them, side by side."""
    check_labels(returns=returns, forecast=forecast)
    r = np.asarray(returns, dtype=np.float64)
    bound = np.asarray(forecast, dtype=np.float64)
    if r.ndim != 1 or r.shape != bound.shape:
        raise DataError(
            f"returns {r.shape} and forecast {bound.shape} have to be two series of one length"
        )
    if np.isinf(r).any() or np.isinf(bound).any():
        raise DataError("returns or forecast hold an infinite value; mark a missing day with NaN")
    if lag < 0:
        raise ConfigError(f"lag is {lag!r}; a forecast cannot be about an earlier day: give 0 or 1")
    return r, rolling.lag(bound, lag)


def _check_hits(hits: ArrayLike) -> Array:
    """One series of 0, 1 and NaN with something known in it; anything else is refused."""
    h = np.asarray(hits, dtype=np.float64)
    known = h[~np.isnan(h)]
    if h.ndim != 1 or not known.size or not np.isin(known, (0.0, 1.0)).all():
        raise DataError(
            "hits have to be one series of 0, 1 and NaN with at least one known day, as "
            f"`exceedances` makes it; got shape {h.shape} with {known.size} known values"
        )
    return h
