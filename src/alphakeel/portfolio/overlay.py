"""How much of a portfolio to hold: exposure by a volatility target, a VaR cap and a drawdown.

The *portfolio* here is the backtest of a composition alone. The overlay reads what it earned and
forecasts of its risk, decides each day which share of wealth follows it (the rest is cash), and
writes the targets of the overlaid portfolio. It never changes the composition, so the same overlay
can be put on every portfolio. Rules, with an example by hand, are in ``docs/overlay.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from alphakeel.errors import ConfigError, DataError
from alphakeel.risk.volatility import check_series
from alphakeel.stats.performance import check_labels

__all__ = [
    "Brake",
    "Overlay",
    "overlay",
    "overlay_targets",
]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

COMPONENTS = ("leverage", "volatility", "var", "throttle", "brake")
DAYS_PER_YEAR = 252


@dataclass(frozen=True, slots=True)
class Brake:
    """Exposure falls with the drawdown of the overlaid wealth, and comes back with time.

    The drawdown is measured from a fading peak: the distance of the peak above wealth halves every
    `halflife` rows, so a loss that is not followed by others is forgotten and exposure returns,
    whether or not wealth has recovered. Where losses go on, the drawdown deepens as usual.

    Parameters
    ----------
    start, full : float, default=0.1 and 0.2
        Drawdowns, as fractions, at which the brake begins and at which it stands at `floor`;
        linear between them. ``0 <= start < full < 1``.
    floor : float, default=0.25
        Smallest factor on exposure, in [0, 1]. 1 never brakes.
    halflife : float, default=126.0
        Rows in which the distance to the peak halves; infinity keeps the true peak, and exposure
        comes back only as wealth recovers.
    """

    start: float = 0.1
    full: float = 0.2
    floor: float = 0.25
    halflife: float = 126.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.start < self.full < 1.0:
            raise ConfigError(
                f"the brake starts at a drawdown of {self.start!r} and is full at {self.full!r}; "
                "give fractions with 0 <= start < full < 1"
            )
        if not 0.0 <= self.floor <= 1.0:
            raise ConfigError(f"the brake's floor is {self.floor!r}; give a fraction in [0, 1]")
        if not self.halflife > 0.0:
            raise ConfigError(f"the brake's half-life is {self.halflife!r}; give rows, above 0")

    def factor(self, drawdown: float) -> float:
        """Factor on exposure at a drawdown (a positive fraction)."""
        way = (drawdown - self.start) / (self.full - self.start)
        return 1.0 - (1.0 - self.floor) * min(max(way, 0.0), 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Overlay:
    """What the overlay decided; every array has shape (n_dates,), is read-only and free of NaN.

    Attributes
    ----------
    exposure : ndarray of float
        Share of wealth that is to follow the portfolio, as decided at or before each close: the
        latest decision, or from its trade on the share that it has drifted to.
    decided : ndarray of bool
        Rows on which the exposure (and with it a row of targets) is decided anew.
    effective : ndarray of float
        Share of wealth that follows the portfolio after the trades of each close: what earns its
        return of the next day.
    wealth : ndarray of float
        Overlaid wealth at each close before that close's trades, from 1, by the portfolio's returns
        and the cost rate: what the brake watches. The backtest of the targets has the true one.
    leverage, volatility, var, throttle : ndarray of float
        Largest exposure that each component allows; infinity for one that is off or does not
        limit. Exposure is decided at the smallest of them times the brake.
    brake : ndarray of float
        Factor in [floor, 1]; 1 where it is off.
    """

    exposure: FloatArray
    decided: BoolArray
    effective: FloatArray
    wealth: FloatArray
    leverage: FloatArray
    volatility: FloatArray
    var: FloatArray
    throttle: FloatArray
    brake: FloatArray

    def __post_init__(self) -> None:
        for field in fields(self):
            getattr(self, field.name).setflags(write=False)

    def bound(self) -> dict[str, BoolArray]:
        """Days on which each component held exposure down, by its name.

        The tightest of the four limits binds (all of them where several tie); the brake binds
        wherever its factor is below 1.
        """
        limits = np.stack([getattr(self, name) for name in COMPONENTS[:-1]])
        tightest = np.asarray(limits == limits.min(axis=0))
        return {**dict(zip(COMPONENTS, tightest, strict=False)), "brake": self.brake < 1.0}


def overlay(
    returns: FloatArray,
    *,
    decided: BoolArray,
    target_volatility: float | None = None,
    volatility: FloatArray | None = None,
    var_cap: float | None = None,
    value_at_risk: FloatArray | None = None,
    throttle: FloatArray | None = None,
    brake: Brake | None = None,
    max_exposure: float = 1.0,
    band: float = 0.1,
    lag: int = 1,
    cost_per_side: float = 0.001,
    invested: FloatArray | None = None,
    financing_rate: float = 0.0,
    riskless: FloatArray | None = None,
) -> Overlay:
    """Decide at each close how much of wealth follows the portfolio.

    Wanted is the smallest of the limits that are on, times the brake. It is decided when the
    composition is decided anew (there is a trade anyway), when it is further from the exposure in
    force than the band, and when that exposure is above a limit: the band excuses distance from
    the volatility target, never a broken cap.

    Parameters
    ----------
    returns : ndarray of shape (n_dates,)
        Net simple returns of the portfolio as fractions; NaN where it held nothing
        (:func:`portfolio_returns`). Row t is known at close t.
    decided : ndarray of shape (n_dates,) of bool
        Rows on which the portfolio's composition is decided.
    target_volatility : float, optional
        Annual volatility at which the portfolio is held, as a fraction. Needs `volatility`.
    volatility : ndarray of shape (n_dates,), optional
        Annual volatility forecast of the portfolio known at each close
        (:func:`portfolio_volatility`). NaN is unknown risk: no exposure.
    var_cap : float, optional
        Largest one-day value at risk of the overlaid portfolio, a positive fraction of wealth.
        Needs `value_at_risk`.
    value_at_risk : ndarray of shape (n_dates,), optional
        Forecast of the portfolio's one-day value at risk (at the level that the cap is meant for),
        a positive fraction, known at each close. NaN is unknown risk: no exposure.
    throttle : ndarray of shape (n_dates,), optional
        Largest exposure that a regime allows, known at each close, at least 0; NaN has no opinion.
    brake : Brake, optional
        Brake on the drawdown of the overlaid wealth; off by default.
    max_exposure : float, default=1.0
        Leverage cap. Above 1 the final backtest needs a `Margin` of as much; a portfolio that holds
        cash borrows only where exposure times `invested` is above 1.
    band : float, default=0.1
        No-trade band, relative to the exposure in force: 0.1 leaves 0.50 until 0.55 or 0.45 is
        wanted. 0 trades every day.
    lag : int, default=1
        Rows between decision and trade, as in the backtest.
    cost_per_side : float, default=0.001
        Cost of a change of exposure as a fraction of the value traded, for `Overlay.wealth`.
    invested : ndarray of shape (n_dates,), optional
        Share of the portfolio in stocks after each close's trades, longs less shorts (the sum of
        `Ledger.weights`); 1 by default. The rest is cash, and used before any is borrowed.
    financing_rate : float, default=0.0
        Annual interest on borrowed cash above that on cash, for `Overlay.wealth`: a 252nd part a
        row.
    riskless : ndarray of shape (n_dates,), optional
        Return of cash from the row before to each row, which `returns` have in them already, for
        `Overlay.wealth`: what does not follow the portfolio earns it. Nothing by default.

    Returns
    -------
    Overlay
        Exposure, the rows on which it is decided, and the limit of each component.

    Raises
    ------
    ConfigError
        If a setting is out of range, or a target comes without its forecast.
    DataError
        If a series has the wrong shape or impossible values.

    References
    ----------
    A. Moreira, T. Muir (2017), Volatility-managed portfolios, doi:10.1111/jofi.12513.
    S. Grossman, Z. Zhou (1993), doi:10.1111/j.1467-9965.1993.tb00044.x (exposure in proportion to
    the distance from a floor under the peak).

    Examples
    --------
    >>> calm, rough = np.full(3, 0.1), np.full(3, 0.4)
    >>> plan = overlay(
    ...     np.zeros(6),
    ...     decided=np.zeros(6, dtype=bool),
    ...     target_volatility=0.1,
    ...     volatility=np.concatenate([calm, rough]),
    ... )
    >>> plan.exposure
    array([1.  , 1.  , 1.  , 0.25, 0.25, 0.25])
    >>> plan.effective
    array([1.  , 1.  , 1.  , 1.  , 0.25, 0.25])
    """
    check_labels(
        returns=returns,
        decided=decided,
        volatility=volatility,
        value_at_risk=value_at_risk,
        throttle=throttle,
        invested=invested,
        riskless=riskless,
    )
    returns = check_series("returns", returns, len(np.atleast_1d(returns)))
    n_dates = len(returns)
    decided = np.asarray(decided)
    if decided.shape != (n_dates,) or decided.dtype != np.bool_:
        raise DataError(
            f"decided has shape {decided.shape} and type {decided.dtype}; give bool of ({n_dates},)"
        )
    if (returns <= -1.0).any():
        raise DataError(f"returns[{int((returns <= -1.0).argmax())}] is -100 % or less")
    if lag != int(lag) or lag < 0:
        raise ConfigError(f"lag is {lag!r}; give a whole number of rows, at least 0")
    shares = {"band": band, "cost_per_side": cost_per_side, "financing_rate": financing_rate}
    for name, value in shares.items():
        if not 0.0 <= value < 1.0:
            raise ConfigError(f"{name} is {value!r}; give a fraction in [0, 1)")
    if not 0.0 < max_exposure < np.inf:
        raise ConfigError(f"max_exposure is {max_exposure!r}; give a positive number")

    limits = {
        "leverage": np.full(n_dates, float(max_exposure)),
        "volatility": _allowed("target_volatility", target_volatility, volatility, n_dates),
        "var": _allowed("var_cap", var_cap, value_at_risk, n_dates),
        "throttle": _regime_limit(throttle, n_dates),
    }
    caps = np.minimum(np.minimum(limits["leverage"], limits["var"]), limits["throttle"])
    stocks = np.ones(n_dates)
    if invested is not None:
        stocks = np.nan_to_num(check_series("invested", invested, n_dates))
    cash = np.zeros(n_dates)
    if riskless is not None:
        cash = check_series("riskless", riskless, n_dates)
    path = _Path(n_dates, brake, int(lag), cost_per_side, financing_rate / DAYS_PER_YEAR)
    path.simulate(np.nan_to_num(returns), decided, caps, limits["volatility"], band, stocks, cash)
    return Overlay(
        path.exposure, path.decided, path.effective, path.wealth, **limits, brake=path.factor
    )


class _Path:
    """The overlaid wealth and its exposure, day by day: the brake depends on both."""

    def __init__(
        self, n_dates: int, brake: Brake | None, lag: int, cost_per_side: float, interest: float
    ) -> None:
        self.brake, self.lag, self.cost_per_side, self.interest = (
            brake,
            lag,
            cost_per_side,
            interest,
        )
        self.exposure, self.effective = np.empty(n_dates), np.empty(n_dates)
        self.wealth, self.factor = np.empty(n_dates), np.ones(n_dates)
        self.decided = np.zeros(n_dates, dtype=np.bool_)

    def simulate(
        self,
        returns: FloatArray,
        composed: BoolArray,
        caps: FloatArray,
        aims: FloatArray,
        band: float,
        stocks: FloatArray,
        cash: FloatArray,
    ) -> None:
        """Earn, decide, trade: once for every close."""
        brake, lag = self.brake, self.lag
        persistence = 0.0 if brake is None else 0.5 ** (1.0 / brake.halflife)
        wealth = peak = 1.0
        held = decision = float(min(caps[0], aims[0]))
        latest = -lag - 1  # row of the latest decision
        debt = 0.0  # over wealth, after the trades of the row before
        for t, earned in enumerate(returns.tolist()):
            growth = 1.0 + held * earned - debt * self.interest + (1.0 - held) * float(cash[t])
            if not growth > 0.0:
                raise DataError(
                    f"at an exposure of {held:.2f} the return of {earned} on row {t} loses all "
                    "wealth; lower max_exposure"
                )
            wealth *= growth
            held *= (1.0 + earned) / growth
            self.wealth[t] = wealth

            if brake is not None:
                peak = wealth + max(peak - wealth, 0.0) * persistence
                self.factor[t] = brake.factor(1.0 - wealth / peak)
            wanted = float(min(caps[t], aims[t]) * self.factor[t])
            in_force = decision if latest >= t - lag else held
            beyond = abs(wanted - in_force) > band * in_force
            if composed[t] or beyond or in_force > caps[t]:
                self.decided[t], latest = True, t
                in_force = decision = wanted
            self.exposure[t] = in_force

            if t >= lag and self.decided[t - lag]:
                traded = float(self.exposure[t - lag])
                wealth *= 1.0 - self.cost_per_side * abs(traded - held)
                held = traded
            self.effective[t] = held
            debt = max(held * float(stocks[t]) - 1.0, 0.0)


def overlay_targets(
    targets: FloatArray, weights: FloatArray, plan: Overlay, *, lag: int = 1
) -> FloatArray:
    """Target weights of the overlaid portfolio.

    Where the composition is decided, its target times the exposure; where only the exposure is
    decided, the portfolio's composition times the exposure; NaN elsewhere. The composition on
    row t is the newest target that is not traded yet, if there is one (else the portfolio would be
    pulled back to the old composition just after it had moved to the new one), and the weights
    held after the trades of close t otherwise.

    Parameters
    ----------
    targets : ndarray of shape (n_dates, n_assets)
        Targets of the portfolio without the overlay; rows of NaN decide nothing.
    weights : ndarray of shape (n_dates, n_assets)
        Its weights after each close's trades: `Ledger.weights` of its backtest.
    plan : Overlay
        The exposure.
    lag : int, default=1
        Rows between decision and trade: that of the portfolio's backtest.

    Returns
    -------
    ndarray of shape (n_dates, n_assets)
        Targets for the final backtest, at the same lag. With nothing switched on they are
        `targets`.
    """
    targets, weights = np.asarray(targets, np.float64), np.asarray(weights, np.float64)
    n_dates = len(plan.exposure)
    if targets.shape != weights.shape or targets.ndim != 2 or len(targets) != n_dates:
        raise DataError(
            f"targets have shape {targets.shape} and weights {weights.shape}; give (n_dates, "
            f"n_assets) with the {n_dates} rows of the overlay"
        )
    composed = ~np.isnan(targets).all(axis=1)
    if (composed & ~plan.decided).any():
        row = int((composed & ~plan.decided).argmax())
        raise DataError(
            f"targets are decided on row {row} but not marked in `decided`: make `decided` from "
            "the rows of the targets"
        )
    newest = np.maximum.accumulate(np.where(composed, np.arange(n_dates), -1))
    rows = np.flatnonzero(plan.decided & (newest >= 0))
    recent = newest[rows]
    pending = (recent > rows - lag) | (recent == rows)
    composition = np.where(pending[:, None], targets[recent], weights[rows])
    out = np.full(targets.shape, np.nan)
    out[rows] = plan.exposure[rows, None] * composition
    return out


def _allowed(
    name: str, target: float | None, forecast: FloatArray | None, n_dates: int
) -> FloatArray:
    """Exposure at which a forecast risk meets its target: none where the risk is unknown."""
    if target is None:
        return np.full(n_dates, np.inf)
    if not 0.0 < target < np.inf:
        raise ConfigError(f"{name} is {target!r}; give a positive fraction")
    what = {"target_volatility": "volatility", "var_cap": "value_at_risk"}[name]
    if forecast is None:
        raise ConfigError(f"{name} needs `{what}`, the forecast to hold against it")
    forecast = check_series(what, forecast, n_dates)
    _refuse_negative(what, forecast)
    allowed = np.full(n_dates, np.inf)
    np.divide(target, forecast, out=allowed, where=forecast > 0.0)
    return np.where(np.isnan(forecast), 0.0, allowed)


def _regime_limit(throttle: FloatArray | None, n_dates: int) -> FloatArray:
    if throttle is None:
        return np.full(n_dates, np.inf)
    limit = check_series("throttle", throttle, n_dates)
    _refuse_negative("throttle", limit)
    return np.where(np.isnan(limit), np.inf, limit)


def _refuse_negative(name: str, series: FloatArray) -> None:
    if (series < 0.0).any():
        row = int((series < 0.0).argmax())
        raise DataError(f"{name}[{row}] is {series[row]}; give a number of at least 0")
