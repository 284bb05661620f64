"""Exposure under limits in a backtest: by hand, without the future, and never above a limit."""

from __future__ import annotations

import numpy as np
import pytest

from alphakeel.data.simulation import simulate_market
from alphakeel.errors import DataError
from alphakeel.portfolio.exposure import LimitedPath, composition_risk, limit_exposure
from alphakeel.stats.drawdown_control import window_drawdown
from alphakeel.stats.exposure_rules import CUSHION_DAYS, CUSHION_SIGMAS, HALFLIFE, MIN_DAYS, WINDOW
from alphakeel.stats.performance import (
    PERIODS_PER_YEAR,
    annual_volatility,
    conditional_value_at_risk,
    value_at_risk,
)
from helpers import noise_after

N_DAYS, N_ASSETS = 2200, 12
LIMITS = {"volatility": 0.12, "var_95": 0.015, "max_drawdown": 0.2}


def turbulent(seed: int, n_days: int = N_DAYS) -> np.ndarray:
    """Stocks with one market in them, whose volatility clusters, jumps and stays."""
    rng = np.random.default_rng(seed)
    log_scale = np.zeros(n_days)
    for t in range(1, n_days):
        log_scale[t] = 0.985 * log_scale[t - 1] + 0.09 * rng.standard_normal()
    shocks = rng.standard_t(5, n_days) / np.sqrt(5 / 3)
    common = 0.012 * np.exp(log_scale) * shocks
    own = 0.012 * np.exp(log_scale)[:, None] * rng.standard_normal((n_days, N_ASSETS))
    return np.asarray(common[:, None] + own)


def decided(returns: np.ndarray, step: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(300, len(returns), step)
    shares = np.random.default_rng(1).dirichlet(np.full(N_ASSETS, 3.0), len(rows))
    return shares, rows


def earned(path: LimitedPath) -> np.ndarray:
    return path.wealth[1:] / path.wealth[:-1] - 1.0


def test_one_decision_by_hand() -> None:
    returns = turbulent(0)[:700]
    returns[350:360, 3] = np.nan
    shares = np.random.default_rng(2).dirichlet(np.ones(N_ASSETS))[None]
    past = []
    for day in returns[700 - WINDOW : 700]:
        known = ~np.isnan(day)
        past.append((day[known] @ shares[0, known]) / shares[0, known].sum())
    volatility = []
    for day in range(WINDOW):
        weights = 0.5 ** (np.arange(day, -1, -1) / HALFLIFE)
        volatility.append(np.sqrt(weights @ np.square(past[: day + 1]) / weights.sum()))
    shocks = np.array([past[d] / volatility[d - 1] for d in range(MIN_DAYS, WINDOW)])
    sigma, usual = volatility[-1], np.sqrt(np.mean(np.square(past)))
    risk = composition_risk(shares, returns, np.array([699]))
    assert risk.volatility[0] == pytest.approx(sigma, rel=1e-12)
    assert risk.usual[0] == pytest.approx(usual, rel=1e-12)
    assert risk.var[0] == pytest.approx(sigma * value_at_risk(shocks), rel=1e-12)
    assert risk.cvar[0] == pytest.approx(sigma * conditional_value_at_risk(shocks), rel=1e-12)
    allowed = {
        "volatility": 0.1 / (sigma * np.sqrt(PERIODS_PER_YEAR)),
        "var_95": 0.01 / risk.var[0],
        "cvar_95": 0.012 / risk.cvar[0],
        "max_drawdown": 0.1 / (CUSHION_SIGMAS * np.sqrt(CUSHION_DAYS) * max(sigma, usual)),
    }
    limits = dict(zip(allowed, (0.1, 0.01, 0.012, 0.1), strict=True))
    for name, limit in limits.items():
        path = limit_exposure(shares, returns, np.array([699]), limits={name: limit})
        assert path.exposure[0] == pytest.approx(min(1.0, allowed[name]), rel=1e-12)
        twice = limit_exposure(
            shares, returns, np.array([699]), limits={name: limit}, factors={name: 2.0}
        )
        assert twice.exposure[0] == pytest.approx(min(1.0, allowed[name] / 2.0), rel=1e-12)


@pytest.mark.parametrize("rate", [0.0, 2e-4])
def test_wealth_is_that_of_the_held_stocks_and_of_cash(rate: float) -> None:
    returns = turbulent(1)
    shares, rows = decided(returns)
    shares *= np.where(np.arange(len(shares)) % 3, 1.0, 0.8)[:, None]  # some of it in cash
    earns = rate * np.linspace(0.5, 1.5, len(returns))
    terms = {"limits": {"volatility": 0.1, "max_drawdown": 0.12}, "lag": 2}
    path = limit_exposure(shares, returns, rows, riskless=earns if rate else None, **terms)
    value = [1.0]
    for t, row in enumerate(rows):
        last = rows[t + 1] + 2 if t + 1 < len(rows) else len(returns) - 1
        stocks = value[-1] * path.exposure[t] * shares[t]
        cash = value[-1] - stocks.sum()
        for day in range(row + 3, min(last, len(returns) - 1) + 1):
            stocks, cash = stocks * (1.0 + returns[day]), cash * (1.0 + earns[day])
            value.append(cash + stocks.sum())
    np.testing.assert_allclose(path.wealth, value, rtol=1e-10)
    nothing = limit_exposure(shares, returns, rows, riskless=np.zeros(len(returns)), **terms)
    without = limit_exposure(shares, returns, rows, **terms)
    np.testing.assert_array_equal(nothing.exposure, without.exposure)
    assert np.array_equal(path.exposure, without.exposure) == (rate == 0.0)


@pytest.mark.parametrize("step", [1, 5, 21])
def test_no_decision_knows_what_comes_after_its_day(step: int) -> None:
    returns = turbulent(2, 900)
    shares, rows = decided(returns, step)
    earns = np.random.default_rng(3).uniform(0.0, 1e-3, len(returns))
    before = limit_exposure(shares, returns, rows, limits=LIMITS, riskless=earns).exposure
    for t in (3, len(rows) // 2):
        changed = noise_after(returns, int(rows[t]), sigma=0.1)
        later = np.where(np.arange(len(earns)) > rows[t], 2.0 * earns, earns)
        after = limit_exposure(shares, changed, rows, limits=LIMITS, riskless=later).exposure
        np.testing.assert_array_equal(after[: t + 1], before[: t + 1])
        assert not np.array_equal(after, before)


@pytest.mark.parametrize("seed", range(3))
def test_limits_hold_in_every_year(seed: int) -> None:
    panel = simulate_market(n_assets=N_ASSETS, n_dates=N_DAYS, seed=seed).panel
    price = panel["adj_close"]
    returns = np.concatenate([np.full((1, N_ASSETS), np.nan), price[1:] / price[:-1] - 1.0])
    shares, rows = decided(returns)
    own = earned(limit_exposure(shares, returns, rows, limits=LIMITS, cost_per_side=0.001))
    years = [own[k : k + 252] for k in range(0, len(own) - 200, 252)]
    assert max(annual_volatility(year) for year in years) <= 1.10 * LIMITS["volatility"]
    assert window_drawdown(own).max() <= LIMITS["max_drawdown"]
    assert value_at_risk(own) <= LIMITS["var_95"]
    whole = earned(limit_exposure(shares, returns, rows, limits={}))
    assert annual_volatility(whole) > 1.2 * LIMITS["volatility"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("volatility", (0.3, 0.2, 0.12, 0.06)),
        ("var_95", (0.03, 0.02, 0.012, 0.006)),
        ("cvar_95", (0.04, 0.03, 0.015, 0.008)),
        ("max_drawdown", (0.4, 0.3, 0.2, 0.1)),
    ],
)
def test_a_tighter_limit_means_less_of_its_risk(name: str, values: tuple[float, ...]) -> None:
    measures = {
        "volatility": annual_volatility,
        "var_95": value_at_risk,
        "cvar_95": conditional_value_at_risk,
        "max_drawdown": lambda own: window_drawdown(own).max(),
    }
    for seed in range(3):
        returns = turbulent(seed)
        shares, rows = decided(returns)
        realised = [
            float(measures[name](earned(limit_exposure(shares, returns, rows, limits={name: x}))))
            for x in values
        ]
        assert realised == sorted(realised, reverse=True), seed


def test_unknown_risk_is_not_taken() -> None:
    returns = turbulent(0)[: 3 * MIN_DAYS]
    rows = np.array([MIN_DAYS - 10, 2 * MIN_DAYS + 10])
    shares = np.full((2, N_ASSETS), 1.0 / N_ASSETS)
    exposure = limit_exposure(shares, returns, rows, limits=LIMITS).exposure
    assert exposure[0] == 0.0
    assert exposure[1] > 0.0


def test_what_does_not_fit_is_refused() -> None:
    returns = turbulent(0)[:400]
    with pytest.raises(DataError, match="shares have shape"):
        limit_exposure(np.ones((1, 3)), returns, np.array([350]), limits=LIMITS)
    with pytest.raises(DataError, match="decisions have to rise"):
        limit_exposure(
            np.ones((2, N_ASSETS)) / N_ASSETS, returns, np.array([350, 350]), limits=LIMITS
        )
