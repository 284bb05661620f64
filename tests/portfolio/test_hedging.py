"""The hedge: what it earns, costs and knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from alphakeel.errors import DataError
from alphakeel.portfolio.hedging import HedgedPortfolio, composition_betas, hedge_portfolio


def series(n: int = 60, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    index, betas = rng.normal(0.0, 0.01, n), np.full(n, np.nan)
    betas[::5] = rng.uniform(0.6, 1.3, len(betas[::5]))
    net = 1.1 * index + rng.normal(0.0, 0.004, n)
    return {
        "net_returns": net,
        "gross_returns": net + 0.0001,
        "turnover": np.full(n, 0.1),
        "invested": np.where(np.arange(n) < 2, 0.0, 0.95),
        "index": index,
        "riskless": np.full(n, 0.00008),
        "betas": betas,
    }


TERMS = {"lag": 2, "rate": 0.05, "cost_per_side": 0.0003, "stock_cost": 0.001, "margin": 0.2}


def held(own: dict[str, Any], **terms: Any) -> HedgedPortfolio:
    return hedge_portfolio(**own, **{**TERMS, **terms})


def test_the_market_hedged_with_itself_earns_cash_less_the_carry() -> None:
    index = np.random.default_rng(0).normal(0.0, 0.01, 100)
    cash = np.full(100, 0.0001)
    own = {**series(100), "net_returns": index, "gross_returns": index, "index": index}
    hedged = held(
        {**own, "riskless": cash, "betas": np.ones(100)},
        lag=1, cost_per_side=0.0, stock_cost=0.0,
    )  # fmt: skip
    per_day = hedged.hedge[1:-1]
    expected = per_day * (0.0001 - 0.05 / 252) + (1.0 - hedged.scale[1:-1]) * 0.0001
    np.testing.assert_allclose(hedged.net_returns[2:], expected, atol=1e-15)
    np.testing.assert_allclose(hedged.hedge[1:], 1.0 / 1.2, rtol=1e-12)


def test_wealth_adds_up_day_by_day() -> None:
    """Against a plain account of stocks, cash and futures, in currency."""
    own = series()
    hedged = held(own)
    stocks, cash, short, wealth = 100.0, 0.0, 0.0, [100.0]
    for t in range(60):
        stocks *= 1.0 + own["net_returns"][t]
        cash *= 1.0 + 0.00008
        cash -= short * (own["index"][t] - 0.00008 + 0.05 / 252)
        short *= 1.0 + own["index"][t]
        if t >= 2 and np.isfinite(own["betas"][t - 2]):
            total, beta = stocks + cash, own["betas"][t - 2]
            new = total / (1.0 + 0.2 * beta)
            moved = abs(new - stocks) * own["invested"][t - 1]
            paid = 0.001 * moved + 0.0003 * abs(beta * new - short)
            stocks, short, cash = new, beta * new, total - new - paid
        wealth.append(stocks + cash)
        assert hedged.scale[t] == pytest.approx(stocks / wealth[-1], rel=1e-12)
        assert hedged.hedge[t] == pytest.approx(short / wealth[-1], rel=1e-12)
    truth = np.array(wealth[1:]) / np.array(wealth[:-1]) - 1.0
    np.testing.assert_allclose(hedged.net_returns, truth, atol=1e-14)
    assert (hedged.gross_returns > hedged.net_returns).all()


def test_later_days_move_nothing_and_a_loss_calls_for_cash() -> None:
    own = series()
    cut = {name: values[:31].copy() for name, values in own.items()}
    whole, part = held(own), held(cut)
    for name in ("net_returns", "gross_returns", "hedge", "scale", "turnover", "hedge_costs"):
        np.testing.assert_array_equal(getattr(whole, name)[:31], getattr(part, name), name)
    own["betas"][1:] = np.nan
    own["index"][:] = 0.0
    own["index"][10] = 0.15  # more than half of what secures the hedge
    own["net_returns"] = own["gross_returns"] = np.zeros(60)
    called = held(own)
    assert called.scale[11] > called.scale[9]
    assert called.scale[12] == pytest.approx(called.scale[9], rel=1e-3)
    own["index"][10] = 3.0  # beyond all wealth: closed out
    ended = held(own)
    assert ended.net_returns[10] == -1.0
    assert not ended.net_returns[11:].any()
    assert not ended.hedge[10:].any()
    own["index"][10] = np.nan
    with pytest.raises(DataError, match="no return on day 10"):
        held(own)


def test_beta_is_the_slope_of_what_is_held() -> None:
    rng = np.random.default_rng(1)
    index = rng.normal(0.0, 0.01, 400)
    returns = index[:, None] * rng.uniform(0.5, 1.5, 6) + rng.normal(0.0, 0.01, (400, 6))
    weights = np.array([[0.3, 0.3, 0.2, 0.0, 0.0, 0.0], [np.nan] * 6, [0.0] * 6, [0.2] * 6])
    rows = np.array([300, 310, 320, 399])
    betas = composition_betas(weights, returns, index, rows)
    for i in (0, 3):
        days = slice(rows[i] - 251, rows[i] + 1)
        slope = np.polyfit(index[days], returns[days] @ weights[i], 1)[0]
        assert betas[i] == pytest.approx(slope, rel=1e-10)
    assert np.isnan(betas[1])
    assert betas[2] == 0.0
    early = composition_betas(weights[:1], returns, index, np.array([40]))
    assert early[0] == pytest.approx(0.8)  # too short a past: as the market
    noise = returns.copy()
    noise[301:] = 9.0
    assert composition_betas(weights[:1], noise, index, rows[:1])[0] == betas[0]
