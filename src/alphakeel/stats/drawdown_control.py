"""Exposure that leaves a drawdown limit standing: a recursion over decisions, and its slopes.

The portfolio is a composition of stocks, held at an exposure and the rest in cash. At each decision
the distance of its own wealth from the floor under its highest wealth of the last days says how
much may be lost, and a rate how much exposure a unit of that distance bears. Grossman and Zhou
(1993), https://doi.org/10.1111/j.1467-9965.1993.tb00044.x, and Cvitanic and Karatzas (1995), show
that exposure in proportion to that distance is optimal under such a limit; Yang and Zhong (2012),
https://doi.org/10.2139/ssrn.2053854, take the peak of a rolling window, so that an old peak does
not keep a portfolio in cash for years.

`control_drawdown` is the only place in which exposure and wealth move each other: backtests run it,
and so does the training of networks, for which `drawdown_slopes` goes back through it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alphakeel.errors import DataError

__all__ = [
    "PEAK_DAYS",
    "ControlInputs",
    "ControlSlopes",
    "ControlledPath",
    "control_drawdown",
    "drawdown_slopes",
    "window_drawdown",
]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

# Days in which a peak counts.
PEAK_DAYS = 252
# Wealth below this share of the first is ruin; its slope is that of this share.
RUIN = 1e-9


@dataclass(frozen=True, eq=False)
class ControlInputs:
    """What decides the exposure of portfolios side by side, apart from their own wealth.

    Attributes
    ----------
    ceiling : ndarray of shape (n_decisions, n_portfolios)
        Largest exposure that all else allows, in [0, 1].
    rate : ndarray of shape (n_decisions, n_portfolios)
        Exposure that each unit of cushion (a fraction of wealth) bears, at least 0.
    growth : ndarray of shape (n_days, n_portfolios)
        Gain of the composition, fully invested, from the trade of its decision to the end of each
        day: a fraction of the value at that trade.
    turnover : ndarray of shape (n_decisions, n_portfolios)
        Share of the composition that each decision trades, both sides.
    first : ndarray of shape (n_decisions + 1,) of int
        First day that each decision earns, as a row of `growth`; the last entry is the end.
    seen : ndarray of shape (n_decisions,) of int
        Days of `growth` that are known when the decision is made; at most `first`.
    held : ndarray of shape (n_days, n_portfolios) of bool, optional
        False on days that a portfolio does not have, where decisions of several portfolios side by
        side are of unequal length: they follow its own days before the next decision, with the
        growth of the last of those. Neither the days that are known nor those of the peak count
        them: portfolios have as many days less to see as `seen` is before `first`.
    """

    ceiling: Floats
    rate: Floats
    growth: Floats
    turnover: Floats
    first: Rows
    seen: Rows
    held: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        """Refuse a decision that would know a day that it has not seen."""
        n_decisions = len(self.ceiling)
        if len(self.first) != n_decisions + 1 or len(self.seen) != n_decisions:
            raise DataError(
                f"first has {len(self.first)} entries and seen {len(self.seen)}; give one for each "
                f"of {n_decisions} decisions, and the end to first"
            )
        if int(self.first[-1]) != len(self.growth) or (np.diff(self.first) < 0).any():
            raise DataError(f"first has to rise to the {len(self.growth)} days of growth")
        if (self.seen > self.first[:-1]).any() or (self.seen < 0).any():
            row = int(np.argmax((self.seen > self.first[:-1]) | (self.seen < 0)))
            raise DataError(f"decision {row} knows days that it earns itself")
        if self.held is not None and self.held.shape != np.shape(self.growth):
            raise DataError(
                f"held has shape {self.held.shape}; give that of growth, {np.shape(self.growth)}"
            )

    def windows(self, peak_days: int) -> tuple[Rows, Rows]:
        """First and last known row of wealth in the window of each peak, by decision."""
        if self.held is None:
            last = np.asarray(self.seen, dtype=np.intp)[:, None]
            return np.maximum(last - peak_days + 1, 0), last
        # Wealth on a row is that after so many of the portfolio's own days.
        own = np.zeros((len(self.held) + 1, self.held.shape[1]), dtype=np.intp)
        np.cumsum(self.held, axis=0, out=own[1:])
        first = np.asarray(self.first[:-1])
        ends = np.maximum(own[first] - (first - self.seen)[:, None], 0)
        columns = zip(own.T, ends.T, strict=True)
        found = [
            [np.searchsorted(days, np.maximum(row, 0)) for row in (end - peak_days + 1, end)]
            for days, end in columns
        ]
        oldest, last = (np.stack(part, axis=1) for part in zip(*found, strict=True))
        return oldest, last


class ControlledPath(NamedTuple):
    """What `control_drawdown` decided.

    Attributes
    ----------
    exposure : ndarray of shape (n_decisions, n_portfolios)
    cushion : ndarray of shape (n_decisions, n_portfolios)
        Distance from the floor at each decision, a fraction of wealth; 1 without a limit.
    wealth : ndarray of shape (n_days + 1, n_portfolios)
        From 1, at the end of each day.
    peak : ndarray of shape (n_decisions, n_portfolios) of int
        Row of `wealth` of the highest known wealth of the window.
    """

    exposure: Floats
    cushion: Floats
    wealth: Floats
    peak: Rows


class ControlSlopes(NamedTuple):
    """Slopes of a number in the arrays of `ControlInputs` that have one."""

    ceiling: Floats
    rate: Floats
    growth: Floats
    turnover: Floats


def control_drawdown(
    inputs: ControlInputs,
    limit: float | None,
    *,
    cost_per_side: float = 0.0,
    from_cash: bool = True,
    peak_days: int = PEAK_DAYS,
    cash: Floats | None = None,
) -> ControlledPath:
    r"""Decide exposures under a limit on the drawdown of the portfolio's own wealth.

    With W the wealth known at a decision, P its highest value in the window of `peak_days` days
    that ends there, and L the limit, the cushion and the exposure are

    .. math:: k = \max\Bigl(0, 1 - (1 - L) \frac{P}{W}\Bigr), \qquad
              e = \min(\text{ceiling}, k \cdot \text{rate})

    Costs are `cost_per_side` times what a change of exposure and of the composition trade at most,
    :math:`|e - e'| + \min(e, e') \cdot \text{turnover}`. Without `from_cash` the first exposure is
    held already, as in a piece of a longer path. `cash` (n_days,) is the gain of cash since the
    trade of its decision, as `growth` is that of the composition; cash earns nothing by default,
    which is what `drawdown_slopes` goes by.

    Examples
    --------
    >>> flat, days = np.ones((3, 1)), np.arange(4)
    >>> inputs = ControlInputs(
    ...     ceiling=flat,
    ...     rate=5.0 * flat,
    ...     growth=np.array([[-0.1], [0.0], [0.1]]),
    ...     turnover=0.0 * flat,
    ...     first=days,
    ...     seen=days[:-1],
    ... )
    >>> control_drawdown(inputs, 0.2).exposure[:, 0].round(4)
    array([1.    , 0.5556, 0.5556])
    """
    ceiling, rate, growth, turnover = (
        np.asarray(x, dtype=np.float64)
        for x in (inputs.ceiling, inputs.rate, inputs.growth, inputs.turnover)
    )
    n_decisions, n_portfolios = ceiling.shape
    wealth = np.ones((len(growth) + 1, n_portfolios))
    exposure, cushion = np.zeros_like(ceiling), np.ones_like(ceiling)
    peak = np.zeros(ceiling.shape, dtype=np.intp)
    columns, before = np.arange(n_portfolios), np.zeros(n_portfolios)
    oldest, known = inputs.windows(peak_days)
    for t in range(n_decisions):
        start, stop = int(inputs.first[t]), int(inputs.first[t + 1])
        if limit is None:
            held = ceiling[t].copy()
        else:
            peak[t] = _highest(wealth, oldest[t], known[t])
            now = np.maximum(wealth[known[t], columns], RUIN)
            cushion[t] = np.maximum(1.0 - (1.0 - limit) * wealth[peak[t], columns] / now, 0.0)
            held = np.minimum(ceiling[t], cushion[t] * rate[t])
        if t > 0 or from_cash:
            traded = np.abs(held - before) + np.minimum(held, before) * turnover[t]
        else:
            traded = np.zeros(n_portfolios)
        opening = wealth[start] * (1.0 - cost_per_side * traded)
        gain = held * growth[start:stop]
        if cash is not None:
            gain += (1.0 - held) * cash[start:stop, None]
        wealth[start + 1 : stop + 1] = opening * (1.0 + gain)
        exposure[t], before = held, held
    return ControlledPath(exposure, cushion, wealth, peak)


def _highest(wealth: Floats, oldest: Rows, last: Rows) -> Rows:
    """Row of the highest wealth of each portfolio's window; one window may serve all."""
    low, high = int(oldest.min()), int(last.max())
    span = wealth[low : high + 1]
    if len(oldest) > 1:
        rows = np.arange(low, high + 1)[:, None]
        span = np.where((rows >= oldest) & (rows <= last), span, -np.inf)
    return low + span.argmax(axis=0)


def drawdown_slopes(
    inputs: ControlInputs,
    path: ControlledPath,
    slope: Floats,
    limit: float | None,
    *,
    cost_per_side: float = 0.0,
    from_cash: bool = True,
) -> ControlSlopes:
    """Slopes in the inputs of a number whose slope in the exposures of `path` is `slope`.

    The chain rule backwards through every decision: what is risked today moves the wealth, and with
    it the exposure, of every later one. Other arguments as they were for `control_drawdown`.
    """
    first, growth, held = inputs.first, inputs.growth, path.exposure
    columns, known = np.arange(held.shape[1]), inputs.windows(PEAK_DAYS)[1]
    before = np.concatenate([np.zeros_like(held[:1]), held[:-1]])
    smaller, side, less = np.minimum(held, before), np.sign(held - before), held < before
    traded = np.abs(held - before) + smaller * inputs.turnover
    cost = np.full(len(held), cost_per_side)
    if not from_cash:
        cost[:1] = 0.0
    start = path.wealth[first[:-1]]
    kept = 1.0 - cost[:, None] * traded
    opening, charge = start * kept, -cost[:, None] * start
    more, again = side + less * inputs.turnover, ~less * inputs.turnover - side
    capped, of_now, of_high = _cushion_slopes(inputs, path, limit)
    of_wealth, of_held = np.zeros_like(path.wealth), np.array(slope, dtype=np.float64)
    of_traded = np.zeros_like(held)
    for t in range(len(held) - 1, -1, -1):
        # What the days of a decision are worth is complete once every later one was gone through.
        a, b = int(first[t]), int(first[t + 1])
        later = of_wealth[a + 1 : b + 1]
        by_growth = (later * growth[a:b]).sum(axis=0)
        of_opening = later.sum(axis=0) + held[t] * by_growth
        of_wealth[a] += of_opening * kept[t]
        of_traded[t] = charge[t] * of_opening
        of_held[t] += by_growth * opening[t] + of_traded[t] * more[t]
        if t > 0:
            of_held[t - 1] += of_traded[t] * again[t]
        if limit is not None:
            of_wealth[path.peak[t], columns] += of_held[t] * of_high[t]
            of_wealth[known[t], columns] += of_held[t] * of_now[t]
    return ControlSlopes(
        ceiling=np.where(capped, of_held, 0.0),
        rate=np.where(capped, 0.0, of_held * path.cushion),
        growth=of_wealth[1:] * np.repeat(opening * held, np.diff(first), axis=0),
        turnover=of_traded * smaller,
    )


def _cushion_slopes(
    inputs: ControlInputs, path: ControlledPath, limit: float | None
) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """Where the ceiling binds, and slopes of the exposure in today's wealth and in the peak."""
    if limit is None:
        none = np.zeros_like(path.exposure)
        return np.ones(none.shape, dtype=np.bool_), none, none
    capped = inputs.ceiling <= path.cushion * inputs.rate
    pressed = np.where(capped | (path.cushion <= 0.0), 0.0, inputs.rate) * (1.0 - limit)
    wealth = np.take_along_axis(path.wealth, inputs.windows(PEAK_DAYS)[1], axis=0)
    now = np.maximum(wealth, RUIN)
    high = np.take_along_axis(path.wealth, path.peak, axis=0)
    return capped, np.where(wealth > RUIN, pressed * high / (now * now), 0.0), -pressed / now


def window_drawdown(returns: NDArray[np.floating], *, days: int = PEAK_DAYS) -> Floats:
    """Loss since the highest wealth of the last `days` closes, this one among them, day by day.

    Simple returns of one portfolio, (n_days,); the start counts as wealth 1. With as many days as
    there are returns it is `stats.performance.drawdown_series`.

    Examples
    --------
    >>> window_drawdown(np.array([0.25, -0.2, 0.0]), days=2).round(4)
    array([0. , 0.2, 0. ])
    """
    wealth = np.concatenate([[1.0], np.cumprod(1.0 + np.asarray(returns, dtype=np.float64))])
    before = np.concatenate([np.full(days - 1, -np.inf), wealth])
    peak = np.lib.stride_tricks.sliding_window_view(before, days).max(axis=1)
    return np.asarray(1.0 - wealth[1:] / peak[1:])
