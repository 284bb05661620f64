"""Limits in the user's units, and multipliers that find the weight of each by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from alphakeel.errors import ConfigError
from alphakeel.models.allocation_network import (
    GREATEST_STIFFNESS,
    Multipliers,
    PathLimits,
    smooth_risks,
)
from alphakeel.stats import performance
from alphakeel.stats.drawdown_control import window_drawdown

NAMES = ("volatility", "max_drawdown", "var_95", "cvar_95", "turnover")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, 0.0, -0.1, float("nan"), float("inf"), True, "0.1"])
def test_what_is_no_limit_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"limit {name} must be .*above 0") as error:
        PathLimits(**{name: value})  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", NAMES[:4])
def test_percents_are_taken_for_what_they_are(name: str) -> None:
    with pytest.raises(ConfigError, match=r"at most 1, not 12 .*fraction"):
        PathLimits(**{name: 12})


def test_active_limits_only() -> None:
    assert PathLimits().active() == {}
    assert PathLimits(turnover=12, var_95=0.015).active() == {"var_95": 0.015, "turnover": 12.0}


def test_measures_are_those_of_the_report() -> None:
    rng = np.random.default_rng(0)
    returns, traded = 0.01 * rng.standard_normal(500), rng.random(100)
    found = PathLimits(0.1, 0.1, 0.01, 0.02, 10.0).measure(returns, traded)
    summary = performance.summary(returns)
    assert found["volatility"] == summary["annual_volatility"]
    assert found["max_drawdown"] == window_drawdown(returns).max() < summary["max_drawdown"]
    assert found["var_95"] == summary["var_95"]
    assert found["cvar_95"] == summary["cvar_95"]
    assert found["turnover"] == pytest.approx(traded.sum() / (500 / 252))


def test_smooth_risks_are_near_the_measures() -> None:
    rng = np.random.default_rng(0)
    returns, traded = 0.01 * rng.standard_normal(1000), rng.random(200)
    limits = PathLimits(0.1, 0.1, 0.01, 0.02, 10.0)
    exact = limits.measure(returns, traded)
    threshold = torch.tensor(exact["var_95"], dtype=torch.float64)
    smooth = smooth_risks(
        limits.active(), torch.tensor(returns), torch.tensor(traded), threshold
    ).numpy()
    np.testing.assert_allclose(smooth, list(exact.values()), rtol=0.02)


def test_a_broken_limit_gains_weight_and_a_kept_one_loses_it() -> None:
    multipliers = Multipliers(PathLimits(volatility=0.1))
    first = multipliers.update({"volatility": 0.15})["volatility"]
    assert first["violation"] == pytest.approx(0.5)
    assert first["multiplier"] > 0
    second = multipliers.update({"volatility": 0.15})["volatility"]
    assert second["multiplier"] > first["multiplier"]
    for _ in range(20):
        last = multipliers.update({"volatility": 0.05})["volatility"]
    assert last["multiplier"] == 0.0
    assert last["violation"] == 0.0
    assert last == {"value": 0.05, "limit": 0.1, "violation": 0.0, "multiplier": 0.0}


def test_stiffness_grows_while_stuck_and_is_bounded() -> None:
    multipliers = Multipliers(PathLimits(volatility=0.1))
    stiffness = []
    for _ in range(60):
        multipliers.update({"volatility": 0.2})
        stiffness.append(float(multipliers.stiffness))
    assert stiffness[0] < stiffness[3] < stiffness[-1] == GREATEST_STIFFNESS


def test_a_limit_that_does_not_bind_costs_nothing() -> None:
    multipliers = Multipliers(PathLimits(volatility=0.1))
    risk = torch.tensor([0.08], requires_grad=True)
    multipliers.penalty(risk).backward()
    assert float(risk.grad) == 0.0


def test_no_limit_no_record() -> None:
    multipliers = Multipliers(PathLimits())
    assert multipliers.update({}) == {}
    assert list(multipliers.parameters()) == []


def test_multipliers_travel_with_the_state() -> None:
    one, other = Multipliers(PathLimits(var_95=0.01)), Multipliers(PathLimits(var_95=0.01))
    one.update({"var_95": 0.02})
    other.load_state_dict(one.state_dict())
    assert one.update({"var_95": 0.015}) == other.update({"var_95": 0.015})


def test_the_multiplier_finds_the_shadow_price() -> None:
    """Minimise a (x - 2)^2 / 2 with x <= 1: the multiplier must become a, whatever a is."""
    for slope in (0.5, 1.5):
        multipliers = Multipliers(PathLimits(max_drawdown=1.0))
        x = torch.tensor([0.2], requires_grad=True)
        for _ in range(60):
            for _ in range(15):
                loss = 0.5 * slope * (x - 2.0).square().sum() + multipliers.penalty(x)
                (gradient,) = torch.autograd.grad(loss, x)
                with torch.no_grad():
                    x -= 0.1 * gradient
            multipliers.update({"max_drawdown": float(x.detach())})
        assert float(x.detach()) == pytest.approx(1.0, abs=0.01)
        assert float(multipliers.multiplier) == pytest.approx(slope, rel=0.05)
