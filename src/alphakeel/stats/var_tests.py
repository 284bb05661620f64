"""Is a value-at-risk forecast right? Tests of how often and when it was exceeded.

A forecast is right when a loss beyond it comes as often as promised (unconditional coverage) and
tells nothing about the next one (independence). Returns are simple daily returns as fractions,
forecasts are losses as positive fractions. By default a forecast stands on the row of the day on
which it was made and is about the return of the next row (``lag=1``). A day without a forecast or
without a return is NaN and is left out, and no pair of days is formed across it.

The p-values are those of the chi-squared limits. A sample that holds nothing to judge, such as
no exceedance at all in a test of clustering, has the statistic 0 and p-value 1, never NaN: the
count beside them says how much that is worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from alphakeel.errors import ConfigError, DataError
from alphakeel.stats.coverage import (
    VarTest,
    check_hits,
    christoffersen_independence,
    conditional_coverage,
    exceedances,
    kupiec,
    outcome,
    pair_up,
    shift,
)
from alphakeel.stats.tail_risk import tail_share

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


@dataclass(frozen=True, slots=True)
class VarEvaluation:
    """All tests of one forecast, from `evaluate`.

    Attributes
    ----------
    coverage, independence, conditional, dynamic : VarTest
        `kupiec`, `christoffersen_independence`, `conditional_coverage`, `dynamic_quantile`.
    tick_loss : float
        Mean tick loss, in units of return: the lower, the sharper the forecast.
    """

    coverage: VarTest
    independence: VarTest
    conditional: VarTest
    dynamic: VarTest
    tick_loss: float

    def verdict(self, *, significance: float = 0.05) -> str:
        """What the tests say, as a sentence.

        Parameters
        ----------
        significance : float, default=0.05
            p-value below which a test counts as failed.
        """
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
                "one exceedance changes the odds of the next "
                f"(Christoffersen p {_in_words(self.independence.p_value)})"
            )
        if not faults and self.conditional.p_value < significance:
            faults.append(
                "frequency and clustering together do not fit "
                f"(conditional coverage p {_in_words(self.conditional.p_value)})"
            )
        if not faults and self.dynamic.p_value < significance:
            faults.append(
                "exceedances can be foretold from the days before "
                f"(dynamic quantile p {_in_words(self.dynamic.p_value)})"
            )
        return f"{counted}: {' and '.join(faults) or 'no test objects'}."


def dynamic_quantile(
    hits: ArrayLike,
    forecast: ArrayLike | None = None,
    *,
    level: float = 0.95,
    lags: int = 4,
    lag: int = 1,
) -> VarTest:
    """Test that exceedances cannot be foretold from earlier ones and from the forecast itself.

    A regression of ``hit - p`` on a constant, its own last `lags` values and the day's forecast:
    under the null hypothesis all coefficients are zero, and ``b' X'X b / (p (1 - p))`` is
    chi-squared with as many degrees of freedom as X has rank.

    Parameters
    ----------
    hits : array of shape (n_dates,)
        1 or True on days of an exceedance; NaN is left out, and so is a day with a NaN among the
        last `lags`.
    forecast : array of shape (n_dates,), optional
        The forecasts, as given to `exceedances`; left out of the regression by default.
    level : float, default=0.95
        Confidence of the forecast, in (0, 1).
    lags : int, default=4
        Earlier days in the regression.
    lag : int, default=1
        As in `exceedances`.

    Returns
    -------
    VarTest
        The counts are of all known days, the statistic of those that the regression can use.
        Without an exceedance the lags are constant, and what remains tests the coverage.

    Raises
    ------
    DataError
        If no day has enough known days before it, and as in `kupiec`.
    ConfigError
        If `level` is out of range or `lags` negative.

    References
    ----------
    Engle, R. F. and Manganelli, S. (2004). CAViaR: conditional autoregressive value at risk by
    regression quantiles. Journal of Business & Economic Statistics 22(4), 367-381.
    https://doi.org/10.1198/073500104000000370

    Examples
    --------
    >>> hits = np.random.default_rng(0).random(1000) < 0.05
    >>> dynamic_quantile(hits).degrees_of_freedom
    5
    """
    hits, p = check_hits(hits), tail_share(level)
    if lags < 0:
        raise ConfigError(f"lags is {lags!r}; give 0 or more earlier days")
    centred = hits - p
    columns = [np.ones_like(centred)]
    columns += [shift(centred, k) for k in range(1, lags + 1)]
    if forecast is not None:
        columns.append(pair_up(hits, forecast, lag)[1])
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
    return outcome(float(projected @ projected) / (p * (1.0 - p)), basis.shape[1], hits, p)


def tick_loss(
    returns: ArrayLike, forecast: ArrayLike, *, level: float = 0.95, lag: int = 1
) -> float:
    """Mean tick (pinball) loss: the score that the true quantile makes least.

    ``mean((r + v) (p - [r < -v]))`` with ``p = 1 - level`` and the forecast v: a day beyond the
    forecast costs its excess times `level`, any other day the unused room times p.

    Parameters
    ----------
    returns, forecast : arrays of shape (n_dates,)
        As in `exceedances`.
    level : float, default=0.95
        Confidence of the forecast, in (0, 1).
    lag : int, default=1
        As in `exceedances`.

    Returns
    -------
    float
        In units of return; NaN if no day has both.

    References
    ----------
    Koenker, R. and Bassett, G. (1978). Regression quantiles. Econometrica 46(1), 33-50.
    https://doi.org/10.2307/1913643

    Examples
    --------
    >>> round(tick_loss([-0.03, 0.01], [0.02, 0.02], lag=0), 5)
    0.0055
    """
    p = tail_share(level)
    r, bound = pair_up(returns, forecast, lag)
    room = r + bound
    room = room[~np.isnan(room)]
    return float((room * (p - (room < 0.0))).mean()) if room.size else float("nan")


def _in_words(p: float) -> str:
    return "below 0.001" if p < 0.001 else f"{p:.3f}"


def evaluate(
    returns: ArrayLike, forecast: ArrayLike, *, level: float = 0.95, lag: int = 1, lags: int = 4
) -> VarEvaluation:
    """All tests and the tick loss of one forecast.

    Parameters
    ----------
    returns, forecast : arrays of shape (n_dates,)
        As in `exceedances`.
    level : float, default=0.95
        Confidence of the forecast, in (0, 1).
    lag : int, default=1
        As in `exceedances`.
    lags : int, default=4
        Earlier days in `dynamic_quantile`.

    Returns
    -------
    VarEvaluation

    Examples
    --------
    >>> returns = np.random.default_rng(1).normal(0.0, 0.01, 2000)
    >>> evaluate(returns, np.full(2000, 0.01645)).verdict()
    '96 exceedances in 1999 days, 4.8 % against 5 % expected: no test objects.'
    """
    hits = exceedances(returns, forecast, lag=lag)
    return VarEvaluation(
        coverage=kupiec(hits, level=level),
        independence=christoffersen_independence(hits, level=level),
        conditional=conditional_coverage(hits, level=level),
        dynamic=dynamic_quantile(hits, forecast, level=level, lags=lags, lag=lag),
        tick_loss=tick_loss(returns, forecast, level=level, lag=lag),
    )
