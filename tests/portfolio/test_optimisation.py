"""Allocation under limits: equal to references, inside its limits, blind to the future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from skfolio import RiskMeasure
from skfolio.measures import cvar as skfolio_cvar
from skfolio.measures import get_drawdowns
from skfolio.measures import max_drawdown as skfolio_max_drawdown
from skfolio.optimization import MeanRisk, ObjectiveFunction

from alphakeel.errors import ConfigError, DataError
from alphakeel.portfolio.constraints import (
    TOLERANCE,
    Decision,
    Limits,
    bound_of,
    drifted,
    measure,
    scenario_tail,
)
from alphakeel.portfolio.heuristics import equal_weight
from alphakeel.portfolio.optimisation import (
    METHODS,
    Allocation,
    allocate,
    conflict_of,
    expected_returns,
)
from alphakeel.portfolio.programmes import Objective, WarmStart, solve
from alphakeel.risk.covariance import FactorCovariance, factor_covariance

FIRST, N_DATES, N_ASSETS = 60, 90, 8


def a_decision(seed: int = 0, n_assets: int = 12, n_scenarios: int = 200) -> Decision:
    rng = np.random.default_rng(seed)
    market = rng.standard_t(4, (n_scenarios, 1)) * 0.008
    returns = market + rng.standard_t(4, (n_scenarios, n_assets)) * rng.uniform(
        0.005, 0.02, n_assets
    )
    member = np.eye(3)[np.arange(n_assets) % 3].T
    return Decision(
        columns=np.arange(n_assets),
        held=np.zeros(n_assets),
        max_weight=np.full(n_assets, np.inf),
        frozen=np.zeros(n_assets, dtype=bool),
        scenarios=returns,
        rows=np.arange(1000, 1000 + n_scenarios),
        covariance=factor_covariance(returns, n_factors=n_assets),
        sectors=member - member.mean(axis=1, keepdims=True),
        betas=rng.uniform(0.5, 1.5, n_assets),
    )


def a_history(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    decisions = np.arange(FIRST, N_DATES, 5)
    shape = (len(decisions), N_ASSETS)
    returns = rng.normal(0.0, 0.01, (N_DATES, 1)) + rng.normal(0.0, 0.015, (N_DATES, N_ASSETS))
    returns[rng.random(returns.shape) < 0.02] = np.nan
    scores = rng.normal(size=shape)
    scores[rng.random(shape) < 0.1] = np.nan
    scores[rng.random(len(decisions)) < 0.1] = np.nan
    return {
        "returns": returns,
        "decisions": decisions,
        "scores": scores,
        "eligible": rng.random(shape) < 0.85,
        "tradable": rng.random(shape) < 0.85,
        "sectors": np.arange(N_ASSETS) % 3,
        "betas": rng.uniform(0.5, 1.5, shape),
    }


class TestSameAnswerAsSkfolio:
    """Fully invested, capped, with expected returns: the same objective to 1e-6."""

    @pytest.mark.parametrize("seed", [0, 1])
    def test_mean_cvar(self, seed: int) -> None:
        decision = a_decision(seed)
        mu = decision.scenarios.mean(axis=0)
        price, limits = 0.5, Limits(weight_cap=0.3, invested=1.0, confidence=0.95)
        peer = MeanRisk(
            objective_function=ObjectiveFunction.MAXIMIZE_UTILITY,
            risk_measure=RiskMeasure.CVAR,
            risk_aversion=price,
            max_weights=0.3,
            cvar_beta=0.95,
        ).fit(decision.scenarios)
        ours = solve(decision, limits, Objective(mu, cvar_weight=price))
        assert ours is not None

        def objective(w: np.ndarray) -> float:
            return float(-mu @ w + price * skfolio_cvar(decision.scenarios @ w, beta=0.95))

        assert ours.objective == pytest.approx(objective(ours.weights), abs=1e-9)
        assert objective(ours.weights) == pytest.approx(objective(peer.weights_), abs=1e-6)
        assert objective(ours.weights) <= objective(peer.weights_) + 1e-9

    def test_mean_variance_and_its_volatility_limit(self) -> None:
        decision = a_decision(2)
        mu = decision.scenarios.mean(axis=0)
        sample = np.cov(decision.scenarios.T)
        root = np.linalg.cholesky(sample)
        exact = FactorCovariance(root, np.zeros(12), np.ones(12, dtype=bool))
        decision = replace(decision, covariance=exact)
        for price in (1.0, 20.0):
            peer = MeanRisk(
                objective_function=ObjectiveFunction.MAXIMIZE_UTILITY,
                risk_measure=RiskMeasure.VARIANCE,
                risk_aversion=price,
                max_weights=0.3,
            ).fit(decision.scenarios)
            ours = solve(
                decision,
                Limits(weight_cap=0.3, invested=1.0),
                Objective(mu * 252, aversion=2.0 * price),
            )
            assert ours is not None

            def objective(w: np.ndarray, price: float = price) -> float:
                return float(-mu @ w + price * w @ sample @ w)

            assert objective(ours.weights) == pytest.approx(objective(peer.weights_), abs=1e-6)
        low = 1.1 * np.sqrt(252 * peer.weights_ @ sample @ peer.weights_)
        bounded = MeanRisk(
            objective_function=ObjectiveFunction.MAXIMIZE_RETURN,
            max_variance=low**2 / 252,
            max_weights=0.3,
        ).fit(decision.scenarios)
        ours = solve(
            decision, Limits(weight_cap=0.3, invested=1.0, volatility_limit=low), Objective(mu)
        )
        assert ours is not None
        assert mu @ ours.weights == pytest.approx(mu @ bounded.weights_, abs=1e-6)

    def test_cvar_turnover_and_drawdown_limits(self) -> None:
        decision = a_decision(3)
        mu = decision.scenarios.mean(axis=0)
        common = {
            "objective_function": ObjectiveFunction.MAXIMIZE_RETURN,
            "max_weights": 0.3,
            "cvar_beta": 0.9,
        }
        free = solve(decision, Limits(weight_cap=0.3, invested=1.0, confidence=0.9), Objective(mu))
        assert free is not None
        used = measure(free.weights, decision, Limits(confidence=0.9))
        tail, fall = 0.8 * used["cvar"], 0.8 * used["drawdown"]
        for limit, peer_limit in (
            ({"cvar_limit": tail}, {"max_cvar": tail}),
            ({"drawdown_limit": fall}, {"max_max_drawdown": fall}),
        ):
            limits = Limits(weight_cap=0.3, invested=1.0, confidence=0.9, **limit)
            ours = solve(decision, limits, Objective(mu))
            peer = MeanRisk(**common, **peer_limit).fit(decision.scenarios)
            assert ours is not None
            assert mu @ ours.weights == pytest.approx(mu @ peer.weights_, abs=1e-6)
            assert mu @ ours.weights < mu @ free.weights - 1e-6  # the limit cost something

    def test_costs_are_charged_once(self) -> None:
        """skfolio charges its costs on every observation; one over that many is the same."""
        held = np.full(12, 1 / 12)
        decision = replace(a_decision(4), held=held)
        mu = decision.scenarios.mean(axis=0)
        cost = 2e-4
        ours = solve(
            decision,
            Limits(weight_cap=0.3, invested=1.0),
            Objective(mu, cost=cost, cvar_weight=0.1),
        )
        peer = MeanRisk(
            objective_function=ObjectiveFunction.MAXIMIZE_UTILITY,
            risk_measure=RiskMeasure.CVAR,
            risk_aversion=0.1,
            max_weights=0.3,
            transaction_costs=cost,
            previous_weights=held,
        ).fit(decision.scenarios)
        assert ours is not None

        def objective(w: np.ndarray) -> float:
            trades = np.abs(w - held).sum()
            return float(
                -mu @ w + cost * trades + 0.1 * skfolio_cvar(decision.scenarios @ w, beta=0.95)
            )

        assert ours.objective == pytest.approx(objective(ours.weights), abs=1e-9)
        assert objective(ours.weights) <= objective(peer.weights_) + 1e-6


class TestMeasures:
    @given(st.integers(0, 10**6), st.sampled_from([0.9, 0.95, 0.973]), st.integers(20, 220))
    @settings(max_examples=40, deadline=None)
    def test_tail_is_that_of_skfolio(self, seed: int, level: float, n: int) -> None:
        returns = np.random.default_rng(seed).standard_t(3, n) * 0.01
        var, cvar = scenario_tail(-returns, level)
        assert var in -returns
        assert np.mean(-returns > var) <= 1.0 - level + 1e-12
        assert np.mean(-returns >= var) >= 1.0 - level - 1e-12
        assert cvar == pytest.approx(skfolio_cvar(returns, beta=level), abs=1e-12)
        assert var <= cvar + 1e-15

    def test_drawdown_is_that_of_skfolio_from_a_start_of_zero(self) -> None:
        decision = a_decision(5)
        w = np.full(12, 1 / 12)
        falls = get_drawdowns(np.concatenate([[0.0], decision.scenarios @ w]), compounded=False)
        assert measure(w, decision, Limits())["drawdown"] == pytest.approx(
            skfolio_max_drawdown(falls), abs=1e-12
        )

    def test_drift_is_what_holdings_do(self) -> None:
        rng = np.random.default_rng(0)
        w, returns = np.array([0.3, 0.5]), rng.normal(0, 0.02, (7, 2))
        value, cash = w.copy(), 0.2
        for day in returns:
            value = value * (1 + day)
        np.testing.assert_allclose(drifted(w, returns), value / (value.sum() + cash), rtol=1e-14)


class TestWarmStart:
    def test_a_warm_year_equals_cold_days(self) -> None:
        rng = np.random.default_rng(0)
        returns = rng.normal(0, 0.01, (140, 1)) + rng.standard_t(4, (140, 20)) * 0.012
        limits = Limits(weight_cap=0.2, invested=1.0, turnover_limit=0.4, cvar_limit=0.025)
        held, warm = np.full(20, 0.05), WarmStart()
        base = a_decision(0, 20, 100)
        for day in range(40):
            decision = replace(
                base, held=held, scenarios=returns[day : day + 100], rows=np.arange(day, day + 100)
            )
            objective = Objective(rng.normal(0, 1e-3, 20), cost=1e-4, cvar_weight=0.3)
            ours = solve(decision, limits, objective, warm=warm)
            cold = solve(decision, limits, objective)
            assert ours is not None
            assert cold is not None
            assert ours.objective == pytest.approx(cold.objective, abs=1e-9)
            held = drifted(ours.weights, returns[day + 100 : day + 101])


class TestInfeasible:
    def test_names_the_limits_in_conflict(self) -> None:
        decision = replace(a_decision(), held=np.full(12, 1 / 12))
        tight = Limits(weight_cap=0.05, turnover_limit=0.1, sector_limit=0.5, drawdown_limit=5.0)
        assert solve(decision, tight, Objective(np.zeros(12))) is None
        assert conflict_of(decision, tight) == ("weight", "turnover")
        assert conflict_of(decision, Limits(weight_cap=0.05, invested=0.9)) == (
            "invested",
            "weight",
        )
        assert conflict_of(decision, Limits(volatility_limit=0.01, invested=1.0)) == (
            "volatility",
            "invested",
        )

    def test_every_named_limit_is_needed(self) -> None:
        for seed in range(4):
            decision = replace(a_decision(seed), held=np.full(12, 1 / 12))
            limits = Limits(
                weight_cap=0.2,
                cvar_limit=0.006,
                drawdown_limit=0.05,
                turnover_limit=0.2,
                max_names=6,
            )
            assert solve(decision, limits, Objective(np.zeros(12), cost=1.0)) is None
            named = conflict_of(decision, limits)
            assert "turnover" in named
            others = frozenset(bound_of(limits)) - frozenset(named)
            for name in named:
                objective = Objective(np.zeros(12), cost=1.0)
                assert solve(decision, limits, objective, relaxed=others | {name}) is not None

    def test_a_suspended_stock_over_the_cap_keeps_its_weight_and_is_reported(self) -> None:
        returns = np.zeros((100, 2))
        returns[:, 0] = np.random.default_rng(0).normal(0.0, 0.01, 100)
        returns[:, 1] = np.random.default_rng(1).normal(0.0, 0.01, 100)
        returns[81:91, 0] = 0.05
        tradable = np.array([[True, True], [False, True]])
        allocation = allocate(
            "equal_weight",
            returns=returns,
            decisions=np.array([80, 90]),
            eligible=np.ones((2, 2), dtype=bool),
            tradable=tradable,
            limits=Limits(weight_cap=0.5),
            lag=0,
        )
        expected = drifted(allocation.weights[0], returns[81:91])[0]
        assert allocation.weights[1, 0] == pytest.approx(expected, abs=1e-12)
        assert allocation.records[1].breached["weight"] == pytest.approx(expected - 0.5)
        assert "suspended" in allocation.records[1].reason

    def test_turnover_gives_way_before_capital(self) -> None:
        history = a_history(0) | {"tradable": None}
        eligible = np.ones((6, N_ASSETS), dtype=bool)
        eligible[3, :4] = False
        allocation = allocate(
            "equal_weight",
            **(history | {"eligible": eligible}),
            limits=Limits(weight_cap=0.2, turnover_limit=0.25),
            smoothing=1.0,
        )
        record = allocation.records[3]
        assert record.status == "more_turnover"
        assert record.conflict == ("eligible", "turnover")
        assert set(record.breached) == {"turnover"}
        assert not allocation.weights[3, :4].any()
        held = drifted(allocation.weights[2], history["returns"][72:76])
        assert record.used["turnover"] == pytest.approx(held[:4].sum(), abs=1e-6)


LIMITS = st.builds(
    Limits,
    weight_cap=st.sampled_from([0.1, 0.2, 0.5, 1.0]),
    volatility_limit=st.sampled_from([None, 0.05, 0.15]),
    cvar_limit=st.sampled_from([None, 0.005, 0.02]),
    var_limit=st.sampled_from([None, 0.01]),
    drawdown_limit=st.sampled_from([None, 0.03, 0.1]),
    sector_limit=st.sampled_from([None, 0.05, 0.2]),
    max_names=st.sampled_from([None, 2, 5]),
    turnover_limit=st.sampled_from([None, 0.1, 0.5]),
    invested=st.sampled_from([0.0, 0.5]),
)
SHORTS = st.builds(
    Limits,
    weight_cap=st.sampled_from([0.2, 0.5]),
    volatility_limit=st.sampled_from([None, 0.05]),
    cvar_limit=st.sampled_from([None, 0.01]),
    turnover_limit=st.sampled_from([None, 0.3]),
    neutral=st.sampled_from(["dollar", "beta"]),
    gross=st.sampled_from([1.0, 2.0]),
)


def check_limits(allocation: Allocation, history: dict[str, np.ndarray], limits: Limits) -> None:
    """Recompute each limit from the inputs; every excess has to stand in the record."""
    held, since = np.zeros(N_ASSETS), 0
    returns = history["returns"]
    for i, row in enumerate(history["decisions"]):
        held = drifted(held, returns[since + 1 : row + 1])
        held[np.isnan(returns[row]) & ~history["eligible"][i]] = 0.0
        since, record, w = row, allocation.records[i], allocation.weights[i]
        if record.status == "silent":
            assert np.isnan(w).all()
            continue
        told = record.breached
        stuck, can = ~history["tradable"][i], history["eligible"][i]
        np.testing.assert_allclose(w[stuck], held[stuck], atol=1e-12)
        if "eligible" not in told:
            assert not w[~can & ~stuck].any()
            assert (np.abs(w[~can]) <= TOLERANCE).all()
        past = np.where(np.isnan(returns), 0.0, returns)[max(0, row - 49) : row + 1]
        exact = ~np.isnan(returns[max(0, row - 49) : row + 1][:, w != 0]).any()
        var, cvar = scenario_tail(-(past @ w), limits.confidence)
        path = np.concatenate([[0.0], np.cumsum(past @ w)])
        truth = {
            "weight": np.abs(w).max(),
            "turnover": np.abs(w - held).sum(),
            "names": np.count_nonzero(np.abs(w) > TOLERANCE),
            "gross": np.abs(w).sum(),
            "volatility": record.used["volatility"],
            "sector": record.used["sector"],
        }
        if exact:
            truth |= {
                "var": var,
                "cvar": cvar,
                "drawdown": (np.maximum.accumulate(path) - path).max(),
            }
        for name, bound in bound_of(limits).items():
            if name in truth:
                excess = truth[name] - bound
                assert excess <= told.get(name, 0.0) + 2 * TOLERANCE, (name, record)
        if not limits.neutral and "gross" not in told:
            assert (w >= 0.0).all()
            assert w.sum() <= 1.0 + TOLERANCE
        if limits.neutral and "neutral" not in told:
            g = np.ones(N_ASSETS) if limits.neutral == "dollar" else history["betas"][i]
            assert abs(g @ w) <= 2 * TOLERANCE
        if limits.invested and "invested" not in told:
            assert w.sum() >= limits.invested - TOLERANCE
        assert bool(told) == bool(record.reason)
        if record.status == "optimal" and told:
            assert "suspended" in record.reason
            assert (stuck & (held != 0)).any()
        held, since = w.copy(), row + 1


class TestNoLimitIsBrokenSilently:
    @given(
        seed=st.integers(0, 10**6),
        limits=LIMITS,
        method=st.sampled_from(["mean_cvar", "mean_variance", "minimum_variance", "equal_weight"]),
        smoothing=st.sampled_from([0.25, 1.0]),
    )
    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def test_long_only(self, seed: int, limits: Limits, method: str, smoothing: float) -> None:
        history = a_history(seed)
        options = {"window": 50, "strength": 0.3, "smoothing": smoothing}
        allocation = allocate(method, **history, limits=limits, **options)
        if method == "minimum_variance":
            limits = replace(limits, invested=0.0)
        check_limits(allocation, history, limits)

    @given(seed=st.integers(0, 10**6), limits=SHORTS, smoothing=st.sampled_from([0.25, 1.0]))
    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def test_long_short(self, seed: int, limits: Limits, smoothing: float) -> None:
        history = a_history(seed)
        allocation = allocate(
            "mean_variance",
            **history,
            limits=limits,
            window=50,
            strength=0.3,
            smoothing=smoothing,
        )
        check_limits(allocation, history, limits)
        assert (allocation.weights < -0.01).any()


class TestAllocate:
    @pytest.mark.parametrize("method", METHODS)
    def test_nothing_after_a_decision_moves_it(self, method: str) -> None:
        history = a_history(3)
        limits = Limits(weight_cap=0.4, sector_limit=0.3, cvar_limit=0.03, turnover_limit=0.6)
        if method == "enhanced_index":
            history["benchmark"] = equal_weight(history["eligible"])
            limits = replace(limits, tracking_error_limit=0.05)
        before = allocate(method, **history, limits=limits, window=50, strength=0.3)
        rng, cut = np.random.default_rng(9), 3
        scrambled = {name: np.array(value) for name, value in history.items()}
        scrambled["returns"][history["decisions"][cut] + 1 :] = rng.normal(
            0, 0.05, scrambled["returns"][history["decisions"][cut] + 1 :].shape
        )
        scrambled["scores"][cut + 1 :] = rng.normal(size=scrambled["scores"][cut + 1 :].shape)
        scrambled["eligible"][cut + 1 :] = rng.random((2, N_ASSETS)) < 0.5
        if method == "enhanced_index":
            scrambled["benchmark"] = equal_weight(scrambled["eligible"])
        after = allocate(method, **scrambled, limits=limits, window=50, strength=0.3)
        np.testing.assert_array_equal(before.weights[: cut + 1], after.weights[: cut + 1])
        assert not np.array_equal(before.weights[cut + 1 :], after.weights[cut + 1 :])

    def test_minimum_variance_beats_every_target(self) -> None:
        history = a_history(1) | {"tradable": None, "eligible": np.ones((6, N_ASSETS), dtype=bool)}
        options = {"window": 50, "smoothing": 1.0, "limits": Limits(weight_cap=1.0)}
        least = allocate("minimum_variance", **history, **options).used("volatility")
        for method in ("equal_weight", "inverse_volatility", "risk_parity", "hrp"):
            allocation = allocate(method, **history, **options)
            np.testing.assert_allclose(allocation.weights.sum(axis=1), 1.0, atol=1e-6)
            assert (least <= allocation.used("volatility") + 1e-7).all()

    def test_targets_are_kept_where_no_limit_binds(self) -> None:
        history = a_history(2) | {"tradable": None, "eligible": np.ones((6, N_ASSETS), dtype=bool)}
        options = {"window": 50, "smoothing": 1.0, "limits": Limits(weight_cap=1.0)}
        equal = allocate("equal_weight", **history, **options)
        np.testing.assert_allclose(equal.weights, 1 / N_ASSETS, atol=1e-6)
        parity = allocate("risk_parity", **history, **options)
        row = history["decisions"][-1]
        past = history["returns"][row - 49 : row + 1]
        past = np.where(np.isnan(past), np.nanmean(past, axis=1, keepdims=True), past)
        w = parity.weights[-1]
        share = w * (np.cov(past.T) @ w)
        np.testing.assert_allclose(share / share.sum(), 1 / N_ASSETS, atol=1e-3)

    def test_names_are_few_and_well_chosen(self) -> None:
        """Against all subsets of four stocks."""
        from itertools import combinations

        decision = a_decision(6, 8, 100)
        limits = Limits(weight_cap=0.5, invested=1.0, max_names=4)
        objective = Objective(decision.scenarios.mean(axis=0), cvar_weight=1.0)
        ours = solve(decision, limits, objective)
        assert ours is not None
        assert np.count_nonzero(ours.weights) <= 4
        values = []
        for chosen in combinations(range(8), 4):
            mask = np.isin(np.arange(8), chosen)
            best = solve(decision.keeping(mask), replace(limits, max_names=None), objective)
            values.append(best.objective if best is not None else np.inf)
        assert ours.objective <= np.quantile(values, 0.1)

    def test_expected_returns_by_hand(self) -> None:
        scores, volatility = np.array([2.0, 0.0, np.nan]), np.array([0.2, 0.4, 0.9])
        np.testing.assert_allclose(
            expected_returns(scores, volatility, strength=0.03), [0.02, -0.04, 0.0], atol=1e-15
        )

    def test_refusals(self) -> None:
        history = a_history(0)
        with pytest.raises(ConfigError, match="method is 'cvar'"):
            allocate("cvar", **history)
        with pytest.raises(ConfigError, match="needs scores"):
            allocate("mean_cvar", **(history | {"scores": None}))
        with pytest.raises(ConfigError, match="sectors"):
            allocate("hrp", **(history | {"sectors": None}), limits=Limits(sector_limit=0.1))
        with pytest.raises(ConfigError, match="betas"):
            allocate("mean_variance", **(history | {"betas": None}), limits=Limits(neutral="beta"))
        with pytest.raises(DataError, match="scores have shape"):
            allocate("mean_cvar", **(history | {"scores": np.zeros((2, 2))}))
        with pytest.raises(DataError, match="rise"):
            allocate("hrp", **(history | {"decisions": history["decisions"][::-1]}))
        with pytest.raises(ConfigError, match="volatility limit"):
            Limits(volatility_limit=-0.1)
        with pytest.raises(ConfigError, match="smoothing"):
            allocate("hrp", **history, smoothing=0.0)
