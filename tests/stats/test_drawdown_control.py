"""Exposure under a drawdown limit: against a plain loop, its slopes, and what it keeps."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from alphakeel.errors import DataError
from alphakeel.stats.drawdown_control import (
    ControlInputs,
    control_drawdown,
    drawdown_slopes,
    window_drawdown,
)
from alphakeel.stats.performance import drawdown_series

LIMIT, COST, WINDOW, LAG = 0.2, 0.002, 30, 2


def inputs_of(seed: int, *, n: int = 40, lag: int = 1, portfolios: int = 2) -> ControlInputs:
    """Decisions at uneven distances in a rough market."""
    rng = np.random.default_rng(seed)
    first = np.concatenate([[0], np.cumsum(rng.integers(1, 8, n))])
    growth = np.empty((first[-1], portfolios))
    for a, b in pairwise(first):
        daily = rng.normal(-0.001, 0.03, (b - a, portfolios))
        growth[a:b] = np.cumprod(1.0 + daily, axis=0) - 1.0
    return ControlInputs(
        ceiling=rng.uniform(0.2, 1.0, (n, portfolios)),
        rate=rng.uniform(2.0, 6.0, (n, portfolios)),
        growth=growth,
        turnover=rng.uniform(0.0, 0.5, (n, portfolios)),
        first=first,
        seen=np.maximum(first[:-1] - lag, 0),
    )


def by_hand(inputs: ControlInputs, column: int) -> list[float]:
    """The rule for one portfolio in plain numbers."""
    wealth, exposures, before = [1.0], [], 0.0
    for t in range(len(inputs.ceiling)):
        seen = wealth[: int(inputs.seen[t]) + 1]
        cushion = max(0.0, 1.0 - (1.0 - LIMIT) * max(seen[-WINDOW:]) / seen[-1])
        e = min(inputs.ceiling[t, column], cushion * inputs.rate[t, column])
        traded = abs(e - before) + min(e, before) * inputs.turnover[t, column]
        value = wealth[-1] * (1.0 - COST * traded)
        days = slice(int(inputs.first[t]), int(inputs.first[t + 1]))
        wealth += [value * (1.0 + e * gain) for gain in inputs.growth[days, column].tolist()]
        exposures.append(e)
        before = e
    return exposures


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("lag", [0, 1, 3])
def test_is_a_plain_loop(seed: int, lag: int) -> None:
    inputs = inputs_of(seed, lag=lag)
    path = control_drawdown(inputs, LIMIT, cost_per_side=COST, peak_days=WINDOW)
    for column in range(2):
        np.testing.assert_allclose(
            path.exposure[:, column], by_hand(inputs, column), rtol=0, atol=1e-13
        )


def side_by_side(one: ControlInputs, two: ControlInputs) -> ControlInputs:
    """Two portfolios whose decisions are of unequal length, as one: shorter steps are filled up."""
    longest = np.maximum(np.diff(one.first), np.diff(two.first))
    first = np.append(0, np.cumsum(longest))
    growth, held = np.zeros((first[-1], 2)), np.zeros((first[-1], 2), dtype=np.bool_)
    for column, own in enumerate((one, two)):
        for t, (a, b) in enumerate(pairwise(own.first)):
            days = slice(int(first[t]), int(first[t + 1]))
            growth[days, column] = own.growth[b - 1, 0]
            growth[first[t] : first[t] + b - a, column] = own.growth[a:b, 0]
            held[first[t] : first[t] + b - a, column] = True
    own = {
        name: np.concatenate([getattr(one, name), getattr(two, name)], axis=1)
        for name in ("ceiling", "rate", "turnover")
    }
    seen = np.maximum(first[:-1] - LAG, 0)
    return ControlInputs(growth=growth, first=first, seen=seen, held=held, **own)


@pytest.mark.parametrize("seed", range(5))
def test_portfolios_of_unequal_steps_are_as_each_alone(seed: int) -> None:
    """Days that a portfolio does not have count neither for the peak nor for what is known."""
    alone = [inputs_of(seed + 10 * k, lag=LAG, portfolios=1) for k in range(2)]
    both = side_by_side(*alone)
    path = control_drawdown(both, LIMIT, cost_per_side=COST, peak_days=WINDOW)
    for column, own in enumerate(alone):
        expected = control_drawdown(own, LIMIT, cost_per_side=COST, peak_days=WINDOW)
        np.testing.assert_array_equal(path.exposure[:, column], expected.exposure[:, 0])
        np.testing.assert_array_equal(path.cushion[:, column], expected.cushion[:, 0])
        own_days = path.wealth[1:, column][both.held[:, column]]
        np.testing.assert_array_equal(own_days, expected.wealth[1:, 0])


def test_slopes_of_unequal_steps_are_those_of_each_alone() -> None:
    alone = [inputs_of(3 + k, n=14, lag=LAG, portfolios=1) for k in range(2)]
    both = side_by_side(*alone)
    slope = np.random.default_rng(0).normal(size=both.ceiling.shape)
    path = control_drawdown(both, LIMIT, cost_per_side=COST)
    found = drawdown_slopes(both, path, slope, LIMIT, cost_per_side=COST)
    for column, own in enumerate(alone):
        expected = drawdown_slopes(
            own,
            control_drawdown(own, LIMIT, cost_per_side=COST),
            slope[:, [column]],
            LIMIT,
            cost_per_side=COST,
        )
        for name in ("ceiling", "rate", "turnover"):
            np.testing.assert_allclose(
                getattr(found, name)[:, column], getattr(expected, name)[:, 0], atol=1e-14
            )
        for t in range(len(own.ceiling)):  # the last growth stands on the days that are no days
            mine = found.growth[both.first[t] : both.first[t + 1], column]
            theirs = expected.growth[own.first[t] : own.first[t + 1], 0]
            np.testing.assert_allclose(mine[: len(theirs) - 1], theirs[:-1], atol=1e-14)
            assert mine[len(theirs) - 1 :].sum() == pytest.approx(theirs[-1], abs=1e-14)


def test_without_a_limit_the_ceiling_is_held() -> None:
    inputs = inputs_of(0)
    path = control_drawdown(inputs, None)
    np.testing.assert_array_equal(path.exposure, inputs.ceiling)
    assert (path.cushion == 1.0).all()


@pytest.mark.parametrize("t", [5, 20, 33])
def test_a_decision_does_not_know_its_own_days(t: int) -> None:
    inputs = inputs_of(1)
    before = control_drawdown(inputs, LIMIT).exposure
    later = {name: getattr(inputs, name).copy() for name in ("ceiling", "rate", "turnover")}
    for values in later.values():
        values[t + 1 :] *= 0.5
    growth = inputs.growth.copy()
    growth[int(inputs.seen[t]) :] = 0.3
    changed = ControlInputs(growth=growth, first=inputs.first, seen=inputs.seen, **later)
    np.testing.assert_array_equal(
        control_drawdown(changed, LIMIT).exposure[: t + 1], before[: t + 1]
    )


@pytest.mark.parametrize("limit", [LIMIT, None])
@pytest.mark.parametrize("from_cash", [True, False])
def test_slopes_are_differences(limit: float | None, from_cash: bool) -> None:
    inputs = inputs_of(3, n=14)
    terms: dict[str, Any] = {"cost_per_side": COST, "from_cash": from_cash}
    weights = np.random.default_rng(0).normal(size=inputs.ceiling.shape)

    def value(changed: ControlInputs) -> float:
        return float((weights * control_drawdown(changed, limit, **terms).exposure).sum())

    path = control_drawdown(inputs, limit, **terms)
    found = drawdown_slopes(inputs, path, weights, limit, **terms)
    fields = {name: getattr(inputs, name) for name in inputs.__dataclass_fields__}
    for name in ("ceiling", "rate", "growth", "turnover"):
        for place in np.ndindex(fields[name].shape):
            both = []
            for step in (1e-6, -1e-6):
                moved = fields[name].copy()
                moved[place] += step
                both.append(value(ControlInputs(**{**fields, name: moved})))
            slope = (both[0] - both[1]) / 2e-6
            assert getattr(found, name)[place] == pytest.approx(slope, abs=1e-6), (name, place)


def test_a_falling_market_is_left_before_the_limit() -> None:
    n = 300
    inputs = ControlInputs(
        ceiling=np.ones((n, 1)),
        rate=np.full((n, 1), 4.0),
        growth=np.full((n, 1), -0.01),
        turnover=np.zeros((n, 1)),
        first=np.arange(n + 1),
        seen=np.maximum(np.arange(n) - 1, 0),
    )
    path = control_drawdown(inputs, LIMIT)
    assert window_drawdown(path.wealth[1:, 0] / path.wealth[:-1, 0] - 1.0).max() < LIMIT
    assert path.exposure[200, 0] < 1e-3
    # A peak of the year before no longer counts, and the portfolio invests again.
    assert path.exposure[-1, 0] > 0.2


def test_a_window_of_all_days_is_the_whole_drawdown() -> None:
    returns = np.random.default_rng(0).normal(0.0, 0.02, 200)
    np.testing.assert_allclose(window_drawdown(returns, days=201), drawdown_series(returns))
    assert (window_drawdown(returns, days=20) <= drawdown_series(returns) + 1e-15).all()


def test_what_cannot_be_is_refused() -> None:
    inputs = inputs_of(0)
    fields = {name: getattr(inputs, name) for name in inputs.__dataclass_fields__}
    with pytest.raises(DataError, match="knows days that it earns itself"):
        ControlInputs(**{**fields, "seen": fields["first"][1:]})
    with pytest.raises(DataError, match="give one for each"):
        ControlInputs(**{**fields, "seen": fields["seen"][1:]})
    with pytest.raises(DataError, match="has to rise"):
        ControlInputs(**{**fields, "growth": fields["growth"][1:]})
