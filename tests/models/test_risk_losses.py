"""Losses with risk in them against their NumPy twins, and their gradients against differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.autograd import gradcheck

from alphakeel.errors import ConfigError, DataError
from alphakeel.models import losses
from alphakeel.models.allocation_network import (
    Multipliers,
    PathLimits,
    cap_shares,
    smooth_risks,
    sparsemax,
)
from alphakeel.models.losses import ScoreLoss, centred_ranks, mean_daily_rank_ic, soft_ranks
from alphakeel.stats import performance
from alphakeel.stats.cross_section import rank, rank_ic
from alphakeel.stats.drawdown_control import window_drawdown
from references import cvar_rockafellar_uryasev, value_at_risk_harrell_davis


@pytest.fixture
def returns() -> Tensor:
    """Daily returns of three paths over 90 days, float64."""
    rng = np.random.default_rng(0)
    return torch.tensor(0.0004 + 0.012 * rng.standard_t(4, (90, 3)))


TWINS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[..., object]]] = {
    "volatility": (losses.annual_volatility, performance.annual_volatility),
    "negative_sharpe": (losses.negative_sharpe, lambda r: -performance.sharpe(r)),
    "mean_return": (losses.mean_annual_return, lambda r: 252 * r.mean(axis=0)),
    "cvar": (losses.conditional_value_at_risk, performance.conditional_value_at_risk),
    "cvar_70": (
        lambda r: losses.conditional_value_at_risk(r, level=0.7),
        lambda r: performance.conditional_value_at_risk(r, level=0.7),
    ),
    "cvar_threshold": (
        lambda r: losses.conditional_value_at_risk(r, torch.tensor(0.013).to(r)),
        lambda r: cvar_rockafellar_uryasev(r, threshold=float(torch.tensor(0.013))),
    ),
    "var": (losses.value_at_risk, value_at_risk_harrell_davis),
    "drawdowns": (losses.drawdowns, performance.drawdown_series),
    "max_drawdown": (losses.max_drawdown, performance.max_drawdown),
}


@pytest.mark.parametrize("name", TWINS)
def test_equals_that_of_numpy(returns: Tensor, name: str) -> None:
    loss, twin = TWINS[name]
    np.testing.assert_allclose(loss(returns).numpy(), twin(returns.numpy()), rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(
        loss(returns[:, 0]).numpy(), twin(returns[:, 0].numpy()), rtol=1e-5, atol=1e-12
    )


@pytest.mark.parametrize("name", TWINS)
def test_gradient(returns: Tensor, name: str) -> None:
    assert gradcheck(TWINS[name][0], returns.clone().requires_grad_())


def test_gradient_of_the_threshold(returns: Tensor) -> None:
    threshold = torch.tensor(0.011, dtype=torch.float64, requires_grad=True)
    assert gradcheck(
        lambda r, c: losses.conditional_value_at_risk(r, c),
        (returns.clone().requires_grad_(), threshold),
    )


def test_learning_the_threshold_finds_the_cvar(returns: Tensor) -> None:
    r = returns[:, 0]
    threshold = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    for step in range(1000):
        loss = losses.conditional_value_at_risk(r, threshold)
        (slope,) = torch.autograd.grad(loss, threshold)
        with torch.no_grad():
            threshold -= 0.001 / (1 + 0.1 * step) * slope
    expected = float(performance.conditional_value_at_risk(r.numpy()))
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize("n", [21, 252])
def test_harrell_davis_is_scipys(n: int, level: float) -> None:
    r = 0.01 * np.random.default_rng(n).standard_normal(n)
    expected = float(value_at_risk_harrell_davis(r, level=level))
    ours = float(losses.value_at_risk(torch.tensor(r), level=level))
    assert ours == pytest.approx(expected, rel=1e-9)


def test_harrell_davis_is_near_the_historical_quantile() -> None:
    r = 0.01 * np.random.default_rng(5).standard_normal(5000)
    smooth, plain = losses.value_at_risk(torch.tensor(r)), performance.value_at_risk(r)
    assert float(smooth) == pytest.approx(float(plain), rel=0.01)


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0])
def test_levels_out_of_range(returns: Tensor, level: float) -> None:
    with pytest.raises(ConfigError, match="level must lie between 0 and 1"):
        losses.value_at_risk(returns, level=level)


def test_cash_has_finite_slopes() -> None:
    returns = torch.zeros(60, requires_grad=True)
    for loss, _ in TWINS.values():
        (slope,) = torch.autograd.grad(loss(returns).sum(), returns)
        assert torch.isfinite(slope).all()


def test_ruin_has_a_slope() -> None:
    returns = torch.tensor([0.1, -1.0, 0.2], requires_grad=True)
    loss = losses.max_drawdown(returns)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1.0, abs=1e-5)
    assert torch.isfinite(returns.grad).all()


@pytest.fixture
def path() -> tuple[Tensor, np.ndarray]:
    """Weights (7 steps, 2 portfolios, 4 stocks) and daily returns (7, 3 days, 2, 4)."""
    rng = np.random.default_rng(3)
    weights = rng.random((7, 2, 4))
    weights /= weights.sum(axis=-1, keepdims=True) * 1.2
    return torch.tensor(weights), 0.03 * rng.standard_normal((7, 3, 2, 4))


def growth_of(returns: np.ndarray) -> Tensor:
    return torch.tensor(np.cumprod(1 + returns, axis=1) - 1)


def test_held_path_equals_that_of_numpy(path: tuple[Tensor, np.ndarray]) -> None:
    weights, returns = path
    net, traded = losses.held_path(weights, growth_of(returns), cost_per_side=0.002)
    for k in range(2):
        expected = performance.held_path(
            weights[:, k].numpy(), returns[:, :, k], cost_per_side=0.002
        )
        np.testing.assert_allclose(net[:, k].numpy(), expected[0], atol=1e-14)
        np.testing.assert_allclose(traded[:, k].numpy(), expected[1], atol=1e-14)


def test_held_path_by_hand() -> None:
    """A ledger in currency, stock by stock and day by day."""
    rng = np.random.default_rng(8)
    weights, returns = rng.random((5, 3)) / 4, 0.05 * rng.standard_normal((5, 2, 3))
    wealth, holdings, expected, turnover = 1.0, np.zeros(3), [], []
    for w, days in zip(weights, returns, strict=True):
        traded = np.abs(w - holdings / wealth).sum()
        turnover.append(traded)
        invested = wealth * (1 - 0.001 * traded)
        holdings, cash = w * invested, (1 - w.sum()) * invested
        for day in days:
            holdings = holdings * (1 + day)
            expected.append((holdings.sum() + cash) / wealth - 1)
            wealth = holdings.sum() + cash
    net, traded_found = performance.held_path(weights, returns, cost_per_side=0.001)
    np.testing.assert_allclose(net, expected, atol=1e-14)
    np.testing.assert_allclose(traded_found, turnover, atol=1e-14)


def test_a_piece_of_a_path_starts_with_what_it_holds(path: tuple[Tensor, np.ndarray]) -> None:
    weights, returns = path
    growth = growth_of(returns)
    _, traded = losses.held_path(weights, growth, cost_per_side=0.0, from_cash=False)
    assert (traded[0] == 0).all()
    assert torch.equal(traded[1:], losses.held_path(weights, growth, cost_per_side=0.0)[1][1:])


def test_gradient_of_held_path(path: tuple[Tensor, np.ndarray]) -> None:
    weights, returns = path
    growth = growth_of(returns)
    assert gradcheck(
        lambda w: losses.held_path(w, growth, cost_per_side=0.002),
        weights.clone().requires_grad_(),
    )


def test_unpriced_stocks_keep_their_value() -> None:
    returns = np.array([[[0.1, np.nan], [0.1, np.nan]]])
    net, _ = performance.held_path([[0.5, 0.5]], returns)
    np.testing.assert_allclose(np.prod(1 + net) - 1, 0.5 * 0.21)


def test_paths_that_do_not_fit() -> None:
    with pytest.raises(DataError, match="do not fit"):
        performance.held_path(np.zeros((3, 2)), np.zeros((3, 5, 4)))


@pytest.fixture
def case() -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(0)
    scores, targets = rng.standard_normal((2, 6, 12, 2))
    targets = np.round(targets, 1)  # ties
    known = rng.random((6, 12, 2)) > 0.2
    known[1, 4:] = False
    return torch.tensor(scores), torch.tensor(targets * known), torch.tensor(known)


def test_rank_ic_tends_to_spearman(case: tuple[Tensor, ...]) -> None:
    scores, targets, known = (x.numpy() for x in case)
    for h in range(2):
        twin = np.nanmean(rank_ic(scores[..., h], targets[..., h], known[..., h]))
        use = [
            spearmanr(s[k], y[k])[0]
            for s, y, k in zip(*(x[..., h] for x in (scores, targets, known)), strict=True)
            if k.sum() >= 5
        ]
        assert twin == pytest.approx(np.mean(use), abs=1e-12)
    errors = []
    for temperature in (0.3, 0.03, 1e-5):
        found = mean_daily_rank_ic(*case, temperature=temperature).numpy()
        twins = [
            np.nanmean(rank_ic(scores[..., h], targets[..., h], known[..., h])) for h in (0, 1)
        ]
        errors.append(np.abs(found - twins).max())
    assert max(errors[:2]) < 0.02
    assert errors[2] < 1e-7


def test_exact_ranks_are_those_of_the_cross_section(case: tuple[Tensor, ...]) -> None:
    _, targets, known = case
    for h in range(2):
        expected = rank(targets[..., h].numpy(), known[..., h].numpy())
        expected = np.nan_to_num(expected - np.nanmean(expected, axis=1, keepdims=True))
        np.testing.assert_allclose(centred_ranks(targets, known)[..., h].numpy(), expected)


def test_soft_ranks_by_hand(case: tuple[Tensor, ...]) -> None:
    scores, _, known = case
    found = soft_ranks(scores, known, 0.2)[0, :, 0].numpy()
    s, k = scores[0, :, 0].numpy(), known[0, :, 0].numpy()
    z = (s - s[k].mean()) / np.sqrt(s[k].var() + 1e-8)
    sigmoid = 1 / (1 + np.exp(-(z[:, None] - z[None, :]) / 0.2))
    expected = np.where(k, (sigmoid[:, k] - 0.5).sum(axis=1), 0)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_blocks_of_dates_change_nothing(
    case: tuple[Tensor, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = mean_daily_rank_ic(*case)
    monkeypatch.setattr("alphakeel.models.losses.BLOCK_PAIRS", 1)
    torch.testing.assert_close(mean_daily_rank_ic(*case), whole, rtol=1e-14, atol=0)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_gradient_of_the_rank_ic(case: tuple[Tensor, ...], temperature: float) -> None:
    scores, targets, known = case
    assert gradcheck(
        lambda s: mean_daily_rank_ic(s, targets, known, temperature=temperature),
        scores.clone().requires_grad_(),
    )


def test_score_loss_takes_the_rank_ic(case: tuple[Tensor, ...]) -> None:
    plain, mixed = ScoreLoss(1.0, 0.1)(*case), ScoreLoss(1.0, 0.1, rank_ic_weight=0.5)(*case)
    extra = 0.5 * (1 - mean_daily_rank_ic(*case)).sum()
    assert float(mixed.total) == pytest.approx(float(plain.total + extra), rel=1e-12)


def test_gradients_of_smooth_risks_and_penalty(returns: Tensor) -> None:
    limits = PathLimits(volatility=0.1, max_drawdown=0.1, var_95=0.01, cvar_95=0.02, turnover=9.0)
    multipliers = Multipliers(limits)
    multipliers.update({name: 1.3 * limit for name, limit in limits.active().items()})
    traded = torch.rand(18, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    threshold = torch.tensor(0.012, dtype=torch.float64)
    inputs = tuple(x.clone().requires_grad_() for x in (returns, traded, threshold))
    assert gradcheck(lambda r, t, c: smooth_risks(limits.active(), r, t, c), inputs)
    assert gradcheck(
        lambda r, t, c: multipliers.penalty(smooth_risks(limits.active(), r, t, c)), inputs
    )


@pytest.mark.parametrize("share", [sparsemax, lambda x: cap_shares(torch.softmax(x, -1), 0.3)])
def test_gradients_of_shares(share: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert gradcheck(share, x.requires_grad_())


def test_sparsemax_is_the_projection_onto_the_simplex() -> None:
    x = torch.randn(50, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = sparsemax(x)
    torch.testing.assert_close(found.sum(-1), torch.ones(50, dtype=torch.float64))
    assert (found >= 0).all()
    # Optimality: x - found equals one number where found > 0, and is at most that elsewhere.
    gap = x - found
    level = torch.where(found > 0, gap, -torch.inf).amax(-1, keepdim=True)
    assert ((gap - level).abs()[found > 0] < 1e-12).all()
    assert (gap <= level + 1e-12).all()


@pytest.mark.parametrize("days", [2, 7, 30, 61, 100])
def test_drawdowns_of_a_window_are_those_of_the_backtest(days: int) -> None:
    returns = 0.02 * np.random.default_rng(days).standard_normal((60, 3))
    found = losses.drawdowns(torch.tensor(returns), days=days).numpy()
    for column in range(3):
        expected = window_drawdown(returns[:, column], days=days)
        np.testing.assert_allclose(found[:, column], expected, atol=1e-12)
    given = torch.tensor(returns, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: losses.max_drawdown(x, days=days), (given,))
