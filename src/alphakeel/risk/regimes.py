"""Bull, bear and range-bound markets as far as they can be known at each close.

The label of row t reads the index up to row t and nothing later, so that it may feed a model or
be used from day t + 1 on; against a return of day t, set the label of row t - 1. Labels in
hindsight, for reports only, are in :mod:`.market_phases`. Late as they must be, causal labels
are a poor reason to cut exposure: ``docs/regimes.md`` has the measured lag.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError, DataError
from alphakeel.risk.market_phases import FloatArray, LabelArray, Regime, TurningPoints, check_prices
from alphakeel.stats import rolling

__all__ = ["jump_regimes", "label_of_day", "recognition_lags", "trend_volatility_regimes"]

# Added to downside deviations, far below any market's: a rising window has none.
_LEAST_DEVIATION = 1e-5
# States by falling mean return, for two and for three of them.
_STATES = {
    2: (Regime.BULL, Regime.BEAR),
    3: (Regime.BULL, Regime.RANGE_BOUND, Regime.BEAR),
}
# Halflives of the features, in days, and rows before the first of them is used.
_DEVIATION_HALFLIFE = 10.0
_SORTINO_HALFLIVES = (20.0, 60.0)
_WARM_UP = 60


def trend_volatility_regimes(
    prices: FloatArray,
    *,
    trend: int = 200,
    halflife: float = 20.0,
    long_halflife: float = 500.0,
    min_count: int = 252,
) -> LabelArray:
    """Market regime at each close, by trend and volatility.

    Bull: the index is above its mean of `trend` days and its volatility is calm. Bear: it is
    below and volatility is high. Range-bound: the two disagree. Volatility is high where its
    exponentially weighted estimate with the short halflife exceeds the one with the long.

    Parameters
    ----------
    prices : ndarray of shape (n_dates,)
        Level of the index, above 0.
    trend : int, default=200
        Days of the moving average of the log level.
    halflife, long_halflife : float, default=20.0 and 500.0
        In days; the short one has to be below the long one.
    min_count : int, default=252
        Returns needed for a label.

    Returns
    -------
    ndarray of shape (n_dates,) of int8
        Labels as numbered by `Regime`; `Regime.UNKNOWN` before there is enough history.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> calm, wild = rng.normal(0.001, 0.005, 600), rng.normal(-0.003, 0.02, 200)
    >>> labels = trend_volatility_regimes(np.exp(np.cumsum(np.append(calm, wild))))
    >>> [Regime(label).text for label in labels[[100, 550, 780]]]
    ['not labelled', 'bull', 'bear']
    """
    level = np.log(check_prices(prices))
    if trend < 2 or min_count < 1 or not 0.0 < halflife < long_halflife:
        raise ConfigError(
            f"trend {trend!r}, min_count {min_count!r} and halflives {halflife!r}, "
            f"{long_halflife!r}: give at least 2 days, at least 1, and a short below a long one."
        )
    returns = np.diff(level, prepend=np.nan)
    mean = rolling.trailing_mean(level, trend)
    volatility, usual = (
        rolling.ew_volatility(returns, days, min_count=min_count)
        for days in (halflife, long_halflife)
    )
    known = ~(np.isnan(mean) | np.isnan(usual))
    up, wild = level > mean, volatility > usual
    labels = np.where(up & ~wild, Regime.BULL, np.where(~up & wild, Regime.BEAR, 0))
    return np.where(known, labels, Regime.UNKNOWN).astype(np.int8)


def jump_regimes(
    prices: FloatArray,
    *,
    n_states: int = 3,
    jump_penalty: float = 50.0,
    min_history: int = 1000,
    max_history: int = 3000,
    refit_every: int = 252,
    first: int = 0,
    n_init: int = 3,
    seed: int = 0,
) -> LabelArray:
    """Market regime at each close, by a statistical jump model.

    Days are clustered by three features of the index (log of the exponentially weighted downside
    deviation, halflife 10 days; Sortino ratios, halflives 20 and 60), and every change of state
    costs `jump_penalty`. States are ordered by the mean return of the days that they were fitted
    on. A model is fitted on the close of row `first` (at the earliest ``min_history - 1``) and
    every `refit_every` rows after it, on at most `max_history` rows up to and including that
    close; features are standardised by those rows and clipped at three deviations. In between,
    the state of each close is the end of the best path up to it (online inference), so that no
    label is revised.

    Parameters
    ----------
    prices : ndarray of shape (n_dates,)
        Level of the index, above 0.
    n_states : int, default=3
        3 for bull, range-bound and bear; 2 for bull and bear.
    jump_penalty : float, default=50.0
        0 is plain clustering; the larger, the fewer changes.
    min_history, max_history : int, default=1000 and 3000
        Rows that a fit needs and takes at most.
    refit_every : int, default=252
        Rows from one fit to the next.
    first : int, default=0
        First row that needs a label: a fit takes half a second or so.
    n_init : int, default=3
        Random starts of each fit, besides the last fit's centres.
    seed : int, default=0

    Returns
    -------
    ndarray of shape (n_dates,) of int8
        Labels as numbered by `Regime`; `Regime.UNKNOWN` before the first fit.

    References
    ----------
    P. Nystrup, E. Lindström, H. Madsen (2020), doi:10.1016/j.eswa.2020.113307.
    Y. Shu, C. Yu, J. M. Mulvey (2024), doi:10.1057/s41260-024-00376-x (features, refitting; two
    states there).
    """
    values = check_prices(prices)
    if n_states not in _STATES or not jump_penalty >= 0.0 or min(n_init, refit_every) < 1:
        raise ConfigError(
            f"n_states {n_states!r}, jump_penalty {jump_penalty!r}, n_init {n_init!r} and "
            f"refit_every {refit_every!r}: give 2 or 3, 0 or more, and at least 1 of the others."
        )
    if not 4 * _WARM_UP <= min_history <= max_history:
        raise ConfigError(
            f"min_history is {min_history!r} and max_history {max_history!r}; the first has to be "
            f"at least {4 * _WARM_UP} rows and at most the second."
        )
    # The library draws its charts with matplotlib: imported only where a model is fitted.
    from jumpmodels.jump import JumpModel

    returns = np.diff(np.log(values), prepend=np.log(values[0]))
    features = _downside_features(returns)
    model = JumpModel(
        n_components=n_states, jump_penalty=jump_penalty, n_init=n_init, random_state=seed
    )
    named = np.array(_STATES[n_states], dtype=np.int8)
    labels = np.full(len(values), Regime.UNKNOWN, dtype=np.int8)
    for row in range(max(min_history - 1, first), len(values), refit_every):
        start = max(_WARM_UP, row + 1 - max_history)
        past, until = slice(start, row + 1), slice(start, row + refit_every)
        scaled = _standardise(features[until], features[past])
        model.fit(scaled[: row + 1 - start], ret_ser=returns[past], sort_by="ret")
        states = np.asarray(model.predict_online(scaled))
        labels[row : row + refit_every] = named[states[row - start :]]
    return labels


def label_of_day(labels: LabelArray) -> LabelArray:
    """Causal labels set against the returns of the days on which they could be used.

    Row t holds the label of row t - 1; row 0 is `Regime.UNKNOWN`.
    """
    return np.append(np.int8(Regime.UNKNOWN), np.asarray(labels, dtype=np.int8)[:-1])


def recognition_lags(labels: LabelArray, points: TurningPoints) -> FloatArray:
    """Rows from each turning point (of hindsight) until a causal label names the new leg.

    From a peak to the first close from then on labelled bear, from a trough to the first labelled
    bull; 0 where the label was there already. NaN where the next turning point (or the end) came
    first, or where there was no label yet at the turning point.
    """
    labels = np.asarray(labels)
    rows = points.rows.tolist()
    if rows and rows[-1] >= len(labels):
        raise DataError(
            f"the last turning point is row {rows[-1]}; there are {len(labels)} labels."
        )
    lags = np.full(len(rows), np.nan)
    for k, row in enumerate(rows):
        stop = rows[k + 1] if k + 1 < len(rows) else len(labels)
        wanted = Regime.BEAR if points.peak[k] else Regime.BULL
        named = np.flatnonzero(labels[row:stop] == wanted)
        if named.size and labels[row] != Regime.UNKNOWN:
            lags[k] = named[0]
    return lags


def _downside_features(returns: FloatArray) -> FloatArray:
    """Log downside deviation and two Sortino ratios of each close, (n_dates, 3)."""
    losses = np.minimum(returns, 0.0) ** 2

    def deviation(halflife: float) -> FloatArray:
        return np.asarray(np.sqrt(rolling.ewma(losses, halflife)) + _LEAST_DEVIATION)

    sortino = [rolling.ewma(returns, days) / deviation(days) for days in _SORTINO_HALFLIVES]
    return np.column_stack([np.log(deviation(_DEVIATION_HALFLIFE)), *sortino])


def _standardise(features: FloatArray, past: FloatArray) -> npt.NDArray[np.float64]:
    """Features in standard deviations of the past ones, clipped at three."""
    scale = past.std(axis=0)
    if not (scale > 0.0).all():
        raise DataError("the index does not move in the rows of a fit; check its level.")
    return np.asarray(np.clip((features - past.mean(axis=0)) / scale, -3.0, 3.0))
