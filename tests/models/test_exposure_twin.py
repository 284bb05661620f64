"""Exposure in training: the twin of the backtest's, its slopes, and what it may know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from alphakeel.models.allocation_network import PastData, PathData
from alphakeel.models.constrained_training import Exposure, growth_of, path_risk
from alphakeel.models.exposure import Past, composition_risk, exposure_of, own_path
from alphakeel.portfolio import exposure as twin
from alphakeel.stats.exposure_rules import WINDOW, CompositionRisk

N_ASSETS, STEP, LAG, BEFORE = 7, 5, 1, 300
LIMITS = {"volatility": 0.10, "var_95": 0.010, "cvar_95": 0.014, "max_drawdown": 0.08}
FACTORS = {"volatility": 1.05, "var_95": 1.1, "cvar_95": 1.0, "max_drawdown": 1.2}
EACH = [LIMITS, *({name: limit} for name, limit in LIMITS.items())]


def market(seed: int, n_decisions: int = 60) -> dict[str, np.ndarray]:
    """Calm and rough days, holes, a stock that is listed late, and a composition each week."""
    rng = np.random.default_rng(seed)
    n_days = BEFORE + STEP * n_decisions + LAG + 1
    rough = np.exp(0.6 * np.repeat(rng.standard_normal(n_days // 20 + 1), 20)[:n_days])
    common = 0.008 * rough * rng.standard_normal(n_days)
    daily = common[:, None] + 0.01 * rough[:, None] * rng.standard_normal((n_days, N_ASSETS))
    daily[rng.random(daily.shape) < 0.02] = np.nan
    daily[: BEFORE - 100, 2] = np.nan
    decisions = BEFORE + STEP * np.arange(n_decisions)
    shares = rng.dirichlet(np.full(N_ASSETS, 0.7), n_decisions)
    shares[rng.random(shares.shape) < 0.2] = 0.0
    shares[5] = 0.0
    held = decisions[:, None] + LAG + 1 + np.arange(STEP)
    return {"shares": shares, "daily": daily, "decisions": decisions, "returns": daily[held]}


def path_data(data: dict[str, np.ndarray]) -> PathData:
    past = PastData.of(data["daily"], data["decisions"], len(data["decisions"]))
    present = np.ones(data["shares"].shape, dtype=np.bool_)
    return PathData.of(data["returns"], np.ones(present.shape), present, past)


@pytest.mark.parametrize("seed", range(3))
def test_risk_is_that_of_the_backtest(seed: int) -> None:
    data = market(seed)
    found = path_risk(data["shares"], path_data(data))
    expected = twin.composition_risk(data["shares"], data["daily"], data["decisions"])
    held = data["shares"].any(axis=1)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine[held, 0], theirs[held], rtol=1e-6)
        assert np.isnan(theirs[~held]).all()
        assert torch.isnan(mine[~held]).all()


@pytest.mark.parametrize("limits", EACH, ids="+".join)
@pytest.mark.parametrize("seed", range(3))
def test_exposure_is_that_of_the_backtest(seed: int, limits: dict[str, float]) -> None:
    data = market(seed)
    mine = Exposure(limits, FACTORS, LAG, 0.001).of_path(data["shares"], path_data(data))
    theirs = twin.limit_exposure(
        data["shares"],
        data["daily"],
        data["decisions"],
        limits=limits,
        factors=FACTORS,
        lag=LAG,
        cost_per_side=0.001,
    )
    np.testing.assert_allclose(mine, theirs.exposure, rtol=1e-6, atol=1e-9)
    assert mine[5] == 0.0, "a composition without stocks has no risk that is known"
    assert (mine <= 1.0).all()
    assert mine.min() < 0.9 * mine.max()


def uneven(seed: int) -> dict[str, np.ndarray]:
    """`market` with weeks of two to five days; those after a shorter one are unknown."""
    data, rng = market(seed), np.random.default_rng(seed)
    spacing = rng.integers(2, STEP + 1, len(data["decisions"]))
    spacing[-1] = STEP
    data["decisions"] = BEFORE + np.append(0, np.cumsum(spacing)[:-1])
    place = np.arange(STEP)
    held = data["decisions"][:, None] + LAG + 1 + place
    data["returns"] = np.where((place < spacing[:, None])[..., None], data["daily"][held], np.nan)
    data["daily"] = data["daily"][: data["decisions"][-1] + LAG + STEP + 1]
    return data


@pytest.mark.parametrize("limits", EACH, ids="+".join)
@pytest.mark.parametrize("lag", [1, 2])
def test_uneven_steps_are_held_as_in_the_backtest(limits: dict[str, float], lag: int) -> None:
    """Wealth, its peak and what is known of it go by the days that there were."""
    data = uneven(4)
    path = path_data(data)
    assert path.held is not None
    # A trade of row t is `LAG` days after its decision, whatever lag its knowledge has.
    known = data["decisions"] - (lag - LAG)
    theirs = twin.limit_exposure(
        data["shares"],
        data["daily"],
        known,
        limits=limits,
        factors=FACTORS,
        lag=lag,
        cost_per_side=0.001,
    )
    past = PastData.of(data["daily"], known, len(known))
    mine = Exposure(limits, FACTORS, lag, 0.001).of_path(data["shares"], replace(path, past=past))
    np.testing.assert_allclose(mine, theirs.exposure, rtol=1e-6, atol=1e-9)
    assert mine.min() < 0.9 * mine.max()


def test_sequences_of_unequal_steps_are_held_as_each_alone() -> None:
    runs = [uneven(seed) for seed in (1, 2)]
    paths = [path_data(run) for run in runs]
    shares = torch.tensor(np.stack([run["shares"] for run in runs], axis=1))
    growth = torch.stack([growth_of(path.returns) for path in paths], dim=2)
    held = torch.tensor(np.stack([path.held for path in paths], axis=2))
    risks = [path_risk(run["shares"], path) for run, path in zip(runs, paths, strict=True)]
    risk = CompositionRisk(*(torch.cat(part, dim=1) for part in zip(*risks, strict=True)))
    terms: dict[str, Any] = {"limits": LIMITS, "factors": FACTORS, "lag": LAG, "from_cash": True}
    both = exposure_of(risk, *own_path(shares, growth), cost_per_side=0.001, held=held, **terms)
    for k, (run, path) in enumerate(zip(runs, paths, strict=True)):
        alone = Exposure(LIMITS, FACTORS, LAG, 0.001).of_path(run["shares"], path)
        np.testing.assert_allclose(both[:, k], alone, rtol=1e-12)


def small_past(seed: int, n_decisions: int, n_sequences: int) -> tuple[Past, Tensor]:
    rng = np.random.default_rng(seed)
    n_days = WINDOW + STEP * n_decisions
    returns = 0.015 * rng.standard_normal((n_sequences, n_days, 3))
    known = rng.random(returns.shape) > 0.05
    day = WINDOW - 1 + STEP * np.arange(n_decisions)
    past = Past(
        torch.tensor(np.where(known, returns, 0.0)),
        torch.tensor(known),
        torch.tensor(np.tile(day, (n_sequences, 1))),
    )
    growth = np.cumprod(1.0 + 0.02 * rng.standard_normal((n_decisions, STEP, n_sequences, 3)), 1)
    return past, torch.tensor(growth - 1.0)


def test_slopes_of_volatility_are_differences() -> None:
    past, _ = small_past(0, 3, 2)
    shares = torch.rand(3, 2, 3, dtype=torch.float64) + 0.2

    def volatilities(x: Tensor) -> tuple[Tensor, Tensor]:
        risk = composition_risk(x, past)
        return risk.volatility, risk.usual

    assert torch.autograd.gradcheck(volatilities, (shares.requires_grad_(),))


@pytest.mark.parametrize("limits", EACH, ids="+".join)
def test_slopes_of_exposure_are_differences(limits: dict[str, float]) -> None:
    """All the way from the composition through the portfolio's wealth, the tail's shape given."""
    past, growth = small_past(1, 12, 2)
    shares = torch.rand(12, 2, 3, dtype=torch.float64) + 0.2
    shares = shares / shares.sum(dim=-1, keepdim=True)
    given = composition_risk(shares, past)
    shape = (given.var / given.volatility, given.cvar / given.volatility)

    def exposures(x: Tensor) -> Tensor:
        own = composition_risk(x, past)
        tail = (own.volatility * part for part in shape)
        terms: dict[str, Any] = {"limits": limits, "factors": FACTORS, "lag": LAG}
        risk = CompositionRisk(own.volatility, own.usual, *tail)
        return exposure_of(risk, *own_path(x, growth), cost_per_side=0.001, **terms)

    assert torch.autograd.gradcheck(exposures, (shares.requires_grad_(),), atol=1e-6)
    assert float(exposures(shares).detach().min()) < 1.0, "a limit binds"


def test_a_composition_without_stocks_has_finite_slopes() -> None:
    past, growth = small_past(2, 4, 1)
    shares = torch.full((4, 1, 3), 1 / 3, dtype=torch.float64)
    shares[1] = 0.0
    shares.requires_grad_()
    terms: dict[str, Any] = {"limits": LIMITS, "factors": FACTORS, "lag": LAG}
    risk = composition_risk(shares, past)
    exposure = exposure_of(risk, *own_path(shares, growth), cost_per_side=0.001, **terms)
    assert exposure[1] == 0.0
    exposure.sum().backward()
    assert torch.isfinite(shares.grad).all()


def test_rows_that_follow_each_other_know_the_returns_of_those_before() -> None:
    data = market(0)
    past = PastData.before(data["returns"], LAG)
    for t in (0, 1, 7):
        returns, known, day = past.of_rows(slice(t, t + 1))
        seen = returns[: day[0] + 1][known[: day[0] + 1].any(axis=1)]
        expected = np.nan_to_num(data["returns"].reshape(-1, N_ASSETS)[: max(0, t * STEP - LAG)])
        np.testing.assert_allclose(seen, expected, atol=1e-7)


def test_rows_after_shorter_ones_know_the_days_that_there_were() -> None:
    data = uneven(0)
    past = PastData.before(data["returns"], LAG)
    days = data["returns"][np.isfinite(data["returns"]).any(axis=2)]
    for t in (1, 7, 30):
        returns, known, day = past.of_rows(slice(t, t + 1))
        begun = int(data["decisions"][t] - data["decisions"][0])
        expected = np.nan_to_num(days[: begun - LAG])[-WINDOW:]
        np.testing.assert_allclose(
            returns[day[0] + 1 - len(expected) : day[0] + 1], expected, atol=1e-7
        )
        assert int(known[: day[0] + 1].any(axis=1).sum()) == len(expected)
