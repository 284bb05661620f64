"""Portfolios held against a benchmark: closed forms, limits, what forecasts were worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alphakeel.errors import ConfigError, DataError
from alphakeel.portfolio.benchmark import Active, TrackingBias, cap_weights, style_exposures
from alphakeel.portfolio.constraints import PERIODS, TOLERANCE, Decision, Limits, measure
from alphakeel.portfolio.optimisation import allocate, conflict_of
from alphakeel.portfolio.programmes import Objective, solve
from alphakeel.risk.covariance import factor_covariance

N_DATES, N_ASSETS = 130, 24


def a_history(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    decisions = np.arange(100, N_DATES, 6)
    shape = (len(decisions), N_ASSETS)
    own = rng.normal(0.0, 0.012, (N_DATES, N_ASSETS))
    eligible = rng.random(shape) < 0.9
    return {
        "returns": rng.normal(0.0, 0.01, (N_DATES, 1)) * rng.uniform(0.5, 1.5, N_ASSETS) + own,
        "decisions": decisions,
        "scores": rng.normal(size=shape),
        "eligible": eligible,
        "benchmark": cap_weights(np.exp(rng.normal(size=shape)), eligible, decisions),
        "sectors": np.arange(N_ASSETS) % 4,
        "styles": rng.normal(size=(*shape, 2)),
    }


def a_decision(seed: int = 0, *, n: int = 12) -> Decision:
    """Candidates with a benchmark of unequal weights and a full-rank covariance."""
    rng = np.random.default_rng(seed)
    past = rng.normal(0.0, 0.01, (200, 1)) + rng.normal(0.0, 0.015, (200, n))
    covariance, weights = factor_covariance(past, n_factors=3), rng.dirichlet(np.full(n, 5.0))
    return Decision(
        columns=np.arange(n),
        held=weights.copy(),
        max_weight=np.full(n, np.inf),
        frozen=np.zeros(n, dtype=bool),
        scenarios=past,
        rows=np.arange(200),
        covariance=covariance,
        sectors=np.zeros((0, n)),
        betas=np.ones(n),
        active=Active.of_weights(weights, covariance, np.zeros((0, n))),
    )


class TestClosedForms:
    def test_active_weights_where_nothing_binds(self) -> None:
        """``w - b = S^-1 (alpha - m) / aversion``, with m such that they sum to zero."""
        decision, aversion = a_decision(), 10.0
        assert decision.active is not None
        alpha = 0.01 * np.random.default_rng(1).normal(size=12)
        ours = solve(
            decision, Limits(weight_cap=1.0, invested=1.0), Objective(alpha, aversion=aversion)
        )
        assert ours is not None
        inverse = np.linalg.inv(PERIODS * decision.covariance.matrix)
        shift = inverse.sum(axis=1) @ alpha / inverse.sum()
        truth = decision.active.weights + inverse @ (alpha - shift) / aversion
        assert (truth > 0.0).all()
        np.testing.assert_allclose(ours.weights, truth, atol=1e-6)

    def test_a_factor_on_the_forecast_is_a_larger_aversion(self) -> None:
        decision = a_decision()
        assert decision.active is not None
        alpha = 0.01 * np.random.default_rng(1).normal(size=12)
        limits = Limits(weight_cap=1.0, invested=1.0)
        doubled = replace(decision, active=replace(decision.active, scale=2.0))
        ours = solve(doubled, limits, Objective(alpha, aversion=1.0))
        same = solve(decision, limits, Objective(alpha, aversion=4.0))
        assert ours is not None
        assert same is not None
        np.testing.assert_allclose(ours.weights, same.weights, atol=1e-6)
        tight = replace(limits, tracking_error_limit=0.02)
        held = solve(doubled, tight, Objective(20.0 * alpha))
        assert held is not None
        assert measure(held.weights, doubled, tight)["tracking_error"] == pytest.approx(0.02)
        assert measure(held.weights, decision, tight)["tracking_error"] == pytest.approx(0.01)

    @pytest.mark.parametrize("scores", [np.nan, 1.0])
    def test_without_an_opinion_it_is_the_benchmark(self, scores: float) -> None:
        """The first portfolio is bought at once; without costs every later one is as near."""
        history = a_history()
        history["scores"] = np.full_like(history["scores"], scores)
        history["scores"][:, 0] = 1.0  # a row without any score decides nothing
        allocation = allocate(
            "enhanced_index",
            **history,
            limits=Limits(weight_cap=1.0),
            window=90,
            cost_per_side=0.0,
            smoothing=1.0,
        )
        np.testing.assert_allclose(allocation.weights, history["benchmark"], atol=2e-6)
        assert (allocation.used("tracking_error") < 1e-4).all()

    def test_strong_opinions_use_the_limit_up(self) -> None:
        limits = Limits(weight_cap=1.0, tracking_error_limit=0.03)
        options = {"limits": limits, "window": 90, "strength": 0.5, "smoothing": 1.0}
        by_weights = allocate("enhanced_index", **a_history(), **options)
        np.testing.assert_allclose(by_weights.used("tracking_error"), 0.03, atol=1e-6)
        assert all("tracking_error" in record.binding for record in by_weights.records)
        assert (by_weights.weights.sum(axis=1) > 1.0 - 1e-6).all()

    def test_an_index_known_by_its_returns(self) -> None:
        """Its tracking error is that of the joint covariance of stocks and index."""
        history = a_history(3)
        history["eligible"][:] = True
        index = history["returns"] @ history.pop("benchmark")[0]
        del history["styles"], history["sectors"]
        options = {
            "limits": Limits(weight_cap=1.0, tracking_error_limit=0.07),
            "window": 90,
            "smoothing": 1.0,
        }
        allocation = allocate("enhanced_index", **history, benchmark_returns=index, **options)
        row, w = history["decisions"][0], allocation.weights[0]
        past = np.column_stack([history["returns"], index])[row - 89 : row + 1]
        joint = factor_covariance(past)
        truth = np.sqrt(PERIODS * joint.portfolio_variance(np.append(w, -1.0)))
        assert allocation.used("tracking_error")[0] == pytest.approx(truth, rel=1e-9)
        assert allocation.used("tracking_error")[0] <= 0.07 + TOLERANCE
        later = history["decisions"][1] + 1  # other days after it move no decision by a bit
        history["returns"][later:], index[later:] = 0.03, -0.02
        again = allocate("enhanced_index", **history, benchmark_returns=index, **options)
        np.testing.assert_array_equal(again.weights[:2], allocation.weights[:2])
        assert (again.weights[2:] != allocation.weights[2:]).any()


class TestLimits:
    @given(
        seed=st.integers(0, 10**6),
        error=st.sampled_from([None, 0.02, 0.05]),
        weight=st.sampled_from([None, 0.01]),
        sector=st.sampled_from([None, 0.0, 0.03]),
        style=st.sampled_from([None, 0.1]),
        smoothing=st.sampled_from([0.25, 1.0]),
    )
    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def test_none_is_broken(
        self,
        seed: int,
        error: float | None,
        weight: float | None,
        sector: float | None,
        style: float | None,
        smoothing: float,
    ) -> None:
        """Recomputed from the inputs; where nothing is suspended the benchmark keeps them all."""
        history = a_history(seed)
        limits = Limits(
            weight_cap=1.0,
            tracking_error_limit=error,
            active_weight_limit=weight,
            sector_limit=sector,
            style_limit=style,
        )
        allocation = allocate(
            "enhanced_index", **history, limits=limits, window=90, smoothing=smoothing
        )
        assert {record.status for record in allocation.records} == {"optimal"}
        off = allocation.weights - history["benchmark"]
        member = np.eye(4)[history["sectors"]]
        slack = 3e-6
        assert (np.abs(off.sum(axis=1)) < slack).all()
        assert (allocation.weights >= 0.0).all()
        assert (allocation.weights[~history["eligible"]] == 0.0).all()
        for bound, used in (
            (error, allocation.used("tracking_error")),
            (weight, np.abs(off)),
            (sector, np.abs(off @ member)),
            (style, np.abs(np.einsum("ia,ias->is", off, history["styles"]))),
        ):
            assert bound is None or (used <= bound + slack).all()

    def test_what_cannot_be_met_is_named(self) -> None:
        """A benchmark stock above the cap; and suspended stocks that are not held."""
        decision = a_decision()
        assert decision.active is not None
        largest = float(decision.active.weights.max())
        limits = Limits(
            weight_cap=0.6 * largest, invested=0.9, active_weight_limit=0.01, style_limit=None
        )
        assert conflict_of(decision, limits) == ("active_weight", "weight")
        history = a_history(5)
        tradable = np.random.default_rng(0).random(history["eligible"].shape) < 0.6
        allocation = allocate(
            "enhanced_index",
            **history,
            tradable=tradable,
            limits=Limits(weight_cap=1.0, tracking_error_limit=0.001, active_weight_limit=0.01),
            window=90,
        )
        first = allocation.records[0]
        assert first.status == "least_breach"
        assert {"tracking_error", "active_weight"} <= set(first.breached)
        assert "tracking_error" in first.reason
        assert allocation.weights[0].sum() <= 1.0 + TOLERANCE

    def test_refusals(self) -> None:
        history = a_history()
        with pytest.raises(ConfigError, match="needs a benchmark"):
            allocate("enhanced_index", **(history | {"benchmark": None}))
        with pytest.raises(ConfigError, match="tracking error limit needs a benchmark"):
            allocate(
                "mean_variance",
                **(history | {"benchmark": None}),
                limits=Limits(tracking_error_limit=0.1),
            )
        index = {"benchmark": None, "benchmark_returns": np.zeros(N_DATES)}
        for limits in (Limits(active_weight_limit=0.1), Limits(sector_limit=0.1)):
            with pytest.raises(ConfigError, match="only its returns are known"):
                allocate("enhanced_index", **(history | index), limits=limits)
        with pytest.raises(DataError, match="2015-01-06"):
            cap_weights(
                np.array([[1.0], [np.nan]]), np.ones((2, 1), bool), ["2015-01-05", "2015-01-06"]
            )


def test_cap_weights_and_styles_against_plain_loops() -> None:
    rng = np.random.default_rng(0)
    returns, rows = rng.normal(0.0, 0.02, (300, 9)), np.array([280, 299])
    value, eligible = np.exp(rng.normal(size=(2, 9))), rng.random((2, 9)) < 0.8
    value[0, 1] = np.nan
    weights = cap_weights(value, eligible, rows)
    names, styles = style_exposures(
        returns, rows, eligible, volatility=rng.random((2, 9)), market_value=value
    )
    assert names == ("size", "volatility", "momentum")
    for i, row in enumerate(rows):
        total = sum(value[i, k] for k in range(9) if eligible[i, k] and value[i, k] > 0.0)
        for k in range(9):
            own = value[i, k] / total if eligible[i, k] and value[i, k] > 0.0 else 0.0
            assert weights[i, k] == pytest.approx(own, rel=1e-14)
        past = np.log1p(returns[row - 251 : row - 20]).sum(axis=0)
        mean, spread = past[eligible[i]].mean(), past[eligible[i]].std()
        np.testing.assert_allclose(
            styles[i, eligible[i], 2], (past[eligible[i]] - mean) / spread, rtol=1e-9
        )
        assert (styles[i, ~eligible[i]] == 0.0).all()


def test_forecasts_that_were_too_low_are_raised() -> None:
    """Realised at three times the forecast, and never lowered where they were too high."""
    rng, variance = np.random.default_rng(0), 0.001**2
    weights, benchmark = np.array([0.6, 0.4]), np.array([0.5, 0.5])
    for factor, expected in ((3.0, 3.0), (0.3, 1.0)):
        bias, squares, days = TrackingBias(), 0.0, 0.0
        for _ in range(60):
            gap = rng.normal(0.0, factor * 0.001, 10)
            returns = np.column_stack([10.0 * gap, np.zeros(10)])
            bias.expect(weights, benchmark, variance)
            bias.realise(returns, None)
            values = np.array([weights, benchmark])
            for day in returns:
                grown = values * (1.0 + day)
                earned = grown.sum(axis=1) / values.sum(axis=1) - 1.0
                values, decay = grown, 0.5 ** (1 / 63)
                squares = decay * squares + (earned[0] - earned[1]) ** 2 / variance
                days = decay * days + 1.0
        truth = max(1.0, (40.0 + squares) / (40.0 + days)) ** 0.5
        assert bias.scale == pytest.approx(truth, rel=1e-9)
        assert bias.scale == pytest.approx(expected, rel=0.25)
