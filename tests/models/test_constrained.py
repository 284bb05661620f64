"""The network that gives weights: what they may be, what they may see, and which limits hold."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from alphakeel.errors import ConfigError, DataError, NotFittedError
from alphakeel.models.allocation_network import AllocationNetwork, PathData, PathLimits, cap_shares
from alphakeel.models.base import Forecaster
from alphakeel.models.composition import CANDIDATES, smooth_path, smooth_steps
from alphakeel.models.constrained import (
    ConstrainedForecaster,
    RiskLimitedAttention,
    RiskLimitedCNNLSTM,
    RiskLimitedGRU,
    RiskLimitedLSTM,
)
from alphakeel.models.networks import LSTMNetwork
from alphakeel.models.restore import restore
from alphakeel.portfolio.exposure import limit_exposure
from alphakeel.stats.drawdown_control import window_drawdown
from alphakeel.stats.performance import annual_volatility, held_path, value_at_risk

TRUNKS = (RiskLimitedLSTM, RiskLimitedGRU, RiskLimitedAttention, RiskLimitedCNNLSTM)

SMALL: dict[str, Any] = {
    "hidden": 6,
    "burn_in": 4,
    "chunk": 30,
    "max_steps": 12,
    "evaluate_every": 4,
    "n_seeds": 2,
    "device": "cpu",
}
N_DATES, N_ASSETS = 110, 14
LEAD = 10


@pytest.fixture
def sample() -> dict[str, Any]:
    """A market in two regimes, which its series show, with a little to know about each stock."""
    rng = np.random.default_rng(1)
    features = rng.standard_normal((N_DATES, N_ASSETS, 3)).astype(np.float32)
    turbulent = np.repeat(rng.random(N_DATES // 10) < 0.4, 10)
    shock = np.where(turbulent, 0.025, 0.008)[:, None] * rng.standard_normal((N_DATES, 5))
    own = 0.012 * rng.standard_normal((N_DATES, 5, N_ASSETS))
    drift = 0.0005 + 0.002 * features[:, None, :, 0] - 0.002 * turbulent[:, None, None]
    returns = shock[..., None] + own + drift
    targets = np.stack([returns.sum(axis=1), returns.sum(axis=1)], axis=-1)
    targets[-2:], returns[-1:] = np.nan, np.nan
    mask = rng.random((N_DATES, N_ASSETS)) > 0.1
    features[~mask & (rng.random(mask.shape) < 0.5)] = np.nan
    returns[:, :, 3][~mask[:, 3]] = np.nan
    market = np.stack([turbulent + 0.1 * rng.standard_normal(N_DATES), rng.random(N_DATES)], axis=1)
    volatility = 0.02 * np.exp(0.3 * rng.standard_normal((N_DATES, N_ASSETS)))
    volatility[:, 5] = np.nan
    return {
        "features": features,
        "targets": targets,
        "mask": mask,
        "market": market,
        "returns": returns,
        "volatility": volatility,
    }


@pytest.mark.parametrize("smoothing", [0.3, 1.0])
def test_goes_on_from_its_memory_to_the_bit(sample: dict[str, Any], smoothing: float) -> None:
    """Scores, and compositions that trade a part of the way from the one before."""
    model = RiskLimitedLSTM(**SMALL, smoothing=smoothing).fit(**sample)
    own = known(sample)
    whole = model.predict_from(None, **own)
    begun = model.predict_from(None, **{name: x[:80] for name, x in own.items()}).memory
    assert begun.row == 64
    rest = model.predict_from(begun, **{name: x[64:] for name, x in own.items()})
    np.testing.assert_array_equal(rest.scores, whole.scores[64:])
    np.testing.assert_array_equal(rest.weights, whole.weights[64:])
    assert rest.memory.row == 64  # no whole block since
    np.testing.assert_array_equal(
        model.predict_from(rest.memory, **{name: x[64:] for name, x in own.items()}).weights,
        rest.weights,
    )


def known(sample: dict[str, Any]) -> dict[str, Any]:
    """What is known when weights are asked for."""
    return {k: v for k, v in sample.items() if k not in ("targets", "returns", "daily", "days")}


def path_of(model: RiskLimitedLSTM, sample: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Daily net returns and turnover of the composition at the exposure of its limits."""
    shares = model.predict_weights(**known(sample))
    daily = sample["returns"][:-1].reshape(-1, N_ASSETS)
    # The lag's two days before the first trade, and as many for the last decision's.
    daily = np.concatenate([np.full((LEAD, N_ASSETS), np.nan), daily])
    rows = LEAD - 2 + 5 * np.arange(N_DATES - 1)
    exposure = limit_exposure(
        shares[:-1],
        daily,
        rows,
        limits=model._limits().active(),
        factors=model.safety_factors_,
        cost_per_side=model.cost_per_side,
    ).exposure
    weights = shares[:-1] * exposure[:, None]
    return held_path(weights, sample["returns"][:-1], cost_per_side=model.cost_per_side)


def test_is_a_forecaster_with_scores(sample: dict[str, Any]) -> None:
    model = RiskLimitedLSTM(**SMALL)
    assert isinstance(model, Forecaster)
    assert model.fit(**sample) is model
    scores = model.predict(sample["features"], mask=sample["mask"], market=sample["market"])
    np.testing.assert_array_equal(np.isfinite(scores), sample["mask"])


@pytest.mark.parametrize("weighting", ["softmax", "sparsemax"])
@pytest.mark.parametrize("weight_cap", [0.12, 1.0])
def test_weights_are_a_long_only_portfolio(
    sample: dict[str, Any], weighting: str, weight_cap: float
) -> None:
    model = RiskLimitedLSTM(**SMALL, weighting=weighting, weight_cap=weight_cap).fit(**sample)
    weights = model.predict_weights(**known(sample))
    assert weights.shape == (N_DATES, N_ASSETS)
    assert (weights >= 0).all()
    assert (weights.sum(axis=1) <= 1 + 1e-6).all()
    assert weights.max() <= weight_cap + 1e-6
    assert (weights[~sample["mask"]] == 0).all()
    assert (weights[:, 5] == 0).all(), "no volatility, no weight"
    if weight_cap == 1.0:
        np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    weighting=st.sampled_from(["softmax", "sparsemax"]),
    cap=st.floats(0.02, 1.0),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 1e6]),
    share=st.floats(0.0, 1.0),
)
def test_any_network_gives_a_portfolio(
    seed: int, weighting: str, cap: float, scale: float, share: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    trunk = LSTMNetwork(2, 2, hidden=2, layers=1, dropout=0.0, generator=generator)
    network = AllocationNetwork(
        trunk, PathLimits(), weighting=weighting, weight_cap=cap, temperature=None
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(generator=generator)
    heads = scale * torch.randn(5, 9, 2, generator=generator)
    investable = torch.rand(5, 9, generator=generator) < share
    weights = network.shares(heads, torch.randn(5, 9, generator=generator), investable)
    assert torch.isfinite(weights).all()
    assert (weights >= 0).all()
    assert (weights.sum(-1) <= 1 + 1e-5).all()
    assert (weights <= cap + 1e-6).all()
    assert (weights[~investable] == 0).all()
    weights.sum().backward()
    for parameter in (network.log_sharpness, network.log_tilt):
        assert torch.isfinite(parameter.grad).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12), st.floats(0.05, 1.0))
def test_capped_shares(shares: list[float], cap: float) -> None:
    given_ = torch.tensor(shares, dtype=torch.float64)
    given_ = given_ / given_.sum().clamp_min(1e-9)
    found = cap_shares(given_, cap)
    assert (found <= cap + 1e-12).all()
    assert (found >= given_.clamp_max(cap) - 1e-12).all()
    assert float(found.sum()) <= float(given_.sum()) + 1e-9


@pytest.mark.parametrize("t", [12, 60, 108])
def test_weights_do_not_see_the_future(sample: dict[str, Any], t: int) -> None:
    model = RiskLimitedLSTM(**SMALL, limits=PathLimits(volatility=0.1)).fit(**sample)
    before = model.predict_weights(**known(sample))
    rng = np.random.default_rng(t)
    later = N_DATES - 1 - t
    sample["features"][t + 1 :] = 1e6 * rng.standard_normal((later, N_ASSETS, 3))
    sample["features"][-1, 0] = np.nan
    sample["mask"][t + 1 :] = rng.random((later, N_ASSETS)) > 0.5
    sample["market"][t + 1 :] = 1e9 * rng.standard_normal((later, 2))
    sample["volatility"][t + 1 :] = rng.random((later, N_ASSETS))
    after = model.predict_weights(**known(sample))
    np.testing.assert_array_equal(after[: t + 1], before[: t + 1])


def test_returns_where_masked_and_rows_not_yet_known_teach_nothing(sample: dict[str, Any]) -> None:
    model = RiskLimitedLSTM(**SMALL, limits=PathLimits(max_drawdown=0.1))
    sample["daily"] = sample["returns"][:-1].reshape(-1, N_ASSETS)  # what was, masked or not
    sample["days"] = np.maximum(5 * np.arange(N_DATES) - 2, 0)
    before = model.fit(**sample).predict_weights(**known(sample))
    sample["returns"] = np.where(sample["mask"][:, None], sample["returns"], 0.7)
    sample["returns"][-1] = np.nan
    after = model.fit(**sample).predict_weights(**known(sample))
    np.testing.assert_array_equal(after, before)


LIMITS = [
    PathLimits(volatility=0.08),
    PathLimits(max_drawdown=0.06),
    PathLimits(var_95=0.006),
    PathLimits(cvar_95=0.01),
    PathLimits(turnover=5.0),
    PathLimits(volatility=0.10, max_drawdown=0.10, var_95=0.008),
]


@pytest.mark.parametrize("limits", LIMITS, ids=lambda x: "+".join(x.active()))
def test_limits_are_kept_by_the_exposure(sample: dict[str, Any], limits: PathLimits) -> None:
    model = RiskLimitedLSTM(**SMALL, limits=limits).fit(**sample)
    free = RiskLimitedLSTM(**SMALL).fit(**sample)
    realised = limits.measure(*path_of(model, sample))
    unlimited = limits.measure(*path_of(free, sample))
    assert any(unlimited[name] > limit for name, limit in limits.active().items())
    for name, limit in limits.active().items():
        assert model.limits_[name]["limit"] == limit
        assert model.limits_[name]["trained"] == pytest.approx(realised[name], rel=1e-5)
        assert np.isfinite(model.limits_[name]["promised"])
        if name != "turnover":  # which training lowers step by step
            assert 1.0 <= model.limits_[name]["safety"] < 2.0
            assert realised[name] <= limit * 1.1


def test_the_turnover_is_learned_where_the_path_teaches_scores(sample: dict[str, Any]) -> None:
    settings_ = SMALL | {"max_steps": 150, "n_seeds": 1, "calibration_blocks": 0}
    settings_ |= {"path_gradient": 1.0}
    free = RiskLimitedLSTM(**settings_).fit(**sample)
    model = RiskLimitedLSTM(**settings_, limits={"turnover": 8.0}).fit(**sample)
    traded = PathLimits(turnover=8.0).measure(*path_of(free, sample))["turnover"]
    assert model.limits_["turnover"]["trained"] < 0.85 * traded
    assert max(entry["limits"]["turnover"]["multiplier"] for entry in model.history_) > 0.0


@pytest.mark.parametrize("trunk", TRUNKS, ids=lambda x: x.__name__)
def test_every_trunk_keeps_limits(
    sample: dict[str, Any], trunk: type[ConstrainedForecaster]
) -> None:
    settings_: dict[str, Any] = SMALL | {"limits": {"volatility": 0.08}}
    model = trunk(**settings_).fit(**sample)
    path, _ = path_of(model, sample)
    assert path.std(ddof=1) * np.sqrt(252) < 0.09
    again = restore(model.state())
    assert type(again) is trunk
    assert again.safety_factors_ == model.safety_factors_
    np.testing.assert_array_equal(
        again.predict_weights(**known(sample)), model.predict_weights(**known(sample))
    )


def test_safety_factors_come_from_rows_that_were_not_fitted(sample: dict[str, Any]) -> None:
    """Whatever the ensemble is trained to, the promise is that of the two held-out blocks."""
    limits = {"volatility": 0.08, "max_drawdown": 0.06}
    model = RiskLimitedLSTM(**SMALL, limits=limits).fit(**sample)
    longer = RiskLimitedLSTM(**SMALL | {"n_seeds": 1, "seed": 0}, limits=limits).fit(**sample)
    assert longer.safety_factors_ == model.safety_factors_
    for name in limits:
        assert longer.limits_[name]["promised"] == model.limits_[name]["promised"]
        assert longer.limits_[name]["trained"] != model.limits_[name]["trained"]
    none = RiskLimitedLSTM(**SMALL, limits=limits, calibration_blocks=0).fit(**sample)
    assert none.safety_factors_ == {"volatility": 1.0, "max_drawdown": 1.0}
    assert np.isnan(none.limits_["volatility"]["promised"])


def test_too_few_rows_promise_nothing(sample: dict[str, Any]) -> None:
    few = {name: values[:30] for name, values in sample.items()}
    model = RiskLimitedLSTM(**SMALL | {"chunk": 12}, limits={"volatility": 0.08}).fit(**few)
    assert model.safety_factors_ == {"volatility": 1.0}
    assert np.isnan(model.limits_["volatility"]["promised"])


def test_days_before_the_first_row_are_known(sample: dict[str, Any]) -> None:
    """With the days given, the first rows are held; without, nothing is known of their risk."""
    n_days = LEAD + 5 * (N_DATES - 1)
    rng = np.random.default_rng(0)
    before = 0.01 * rng.standard_normal((300, N_ASSETS))
    daily = np.concatenate([before, sample["returns"][:-1].reshape(-1, N_ASSETS)])
    days = 300 - 2 + 5 * np.arange(N_DATES)
    settings_: dict[str, Any] = SMALL | {"limits": {"volatility": 0.5}, "calibration_blocks": 0}
    with_days = RiskLimitedLSTM(**settings_).fit(**sample, daily=daily, days=days)
    without = RiskLimitedLSTM(**settings_).fit(**sample)
    assert n_days < len(daily)
    assert with_days.history_[0]["exposure"] > without.history_[0]["exposure"] + 0.05
    with pytest.raises(DataError, match="daily has shape"):
        RiskLimitedLSTM(**settings_).fit(**sample, daily=daily, days=days + 300)


def test_tighter_limits_mean_less_risk(sample: dict[str, Any]) -> None:
    realised = []
    for limit in (0.20, 0.12, 0.08, 0.04):
        model = RiskLimitedLSTM(**SMALL | {"max_steps": 24}, limits={"volatility": limit})
        path, _ = path_of(model.fit(**sample), sample)
        realised.append(path.std())
    assert realised == sorted(realised, reverse=True)
    assert realised[-1] < 0.5 * realised[0]


def test_history_shows_limits_and_multipliers(sample: dict[str, Any]) -> None:
    limits = PathLimits(volatility=0.5, turnover=2)
    model = RiskLimitedLSTM(**SMALL, limits=limits).fit(**sample)
    assert [(entry["seed"], entry["step"]) for entry in model.history_] == [
        (seed, step) for seed in (0, 1) for step in (4, 8, 12)
    ]
    last = model.history_[-1]
    assert set(last["limits"]) == {"volatility", "turnover"}
    assert set(last["limits"]["volatility"]) == {"value", "limit", "violation", "multiplier"}
    assert last["limits"]["volatility"]["multiplier"] == 0
    assert last["limits"]["turnover"]["multiplier"] > 0
    assert 0 < last["exposure"] <= 1
    assert np.isfinite(last["sharpe"])
    assert model.best_steps_ == [12, 12]


@pytest.mark.parametrize("by", ["objective", "rank_ic"])
def test_validation_keeps_the_best_state(sample: dict[str, Any], by: str) -> None:
    settings = {**SMALL, "max_steps": 20, "learning_rate": 0.05, "n_seeds": 3}
    model = RiskLimitedLSTM(**settings, validation_share=0.3, purge=2, select_by=by).fit(**sample)
    for member, best in enumerate(model.best_steps_):
        mine = [entry for entry in model.history_ if entry["seed"] == member]
        assert max(mine, key=lambda e: e[f"validation_{by}"])["step"] == best
    # The two criteria choose different states here, so that each test can fail.
    other = {"objective": "rank_ic", "rank_ic": "objective"}[by]
    best_by_other = [
        max((e for e in model.history_ if e["seed"] == m), key=lambda e: e[f"validation_{other}"])
        for m in range(3)
    ]
    assert [entry["step"] for entry in best_by_other] != model.best_steps_


def test_the_objective_is_the_value_of_the_validation_path(sample: dict[str, Any]) -> None:
    limits = PathLimits(volatility=0.05, turnover=2.0)
    settings = {**SMALL, "n_seeds": 1, "max_steps": 4, "limits": limits}
    model = RiskLimitedLSTM(**settings, validation_share=0.3, purge=2).fit(**sample)
    cut = 33  # 0.3 of the 109 priced rows, and the 4 rows of burn-in before them
    rows = slice(109 - cut - 4, 109)
    inside = {k: v[rows] for k, v in known(sample).items()}
    shares = model.predict_weights(**inside)[4:]
    returns = np.nan_to_num(sample["returns"][109 - cut : 109])
    past = np.concatenate([np.full((2, N_ASSETS), np.nan), sample["returns"][:109].reshape(-1, 14)])
    exposure = limit_exposure(
        shares,
        past,
        5 * np.arange(109 - cut, 109),
        limits=limits.active(),
        factors=model.safety_factors_,
        cost_per_side=model.cost_per_side,
    ).exposure
    weights = shares * exposure[:, None]
    path, traded = held_path(weights, returns, cost_per_side=model.cost_per_side)
    sharpe = path.mean() / path.std(ddof=1) * np.sqrt(252)
    excess = {k: np.log(v / limits.active()[k]) for k, v in limits.measure(path, traded).items()}
    price = sum(2.0 * max(0.0, x) ** 2 for x in excess.values())
    assert price > 0.1
    expected = sharpe + 252 * path.mean() - price
    assert model.history_[-1]["validation_objective"] == pytest.approx(expected, abs=1e-4)


def test_the_same_bits_again_also_in_threads(sample: dict[str, Any]) -> None:
    model = RiskLimitedLSTM(**SMALL, limits=PathLimits(volatility=0.1, cvar_95=0.01))
    before = torch.random.get_rng_state()
    once = model.fit(**sample).predict_weights(**known(sample))

    def again(_: int) -> np.ndarray:
        return clone(model).fit(**sample).predict_weights(**known(sample))

    with ThreadPoolExecutor(3) as pool:
        for weights in pool.map(again, range(3)):
            np.testing.assert_array_equal(weights, once)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_state_brings_everything_back(sample: dict[str, Any]) -> None:
    model = RiskLimitedLSTM(**SMALL, limits=PathLimits(volatility=0.1)).fit(**sample)
    again = RiskLimitedLSTM.from_state(model.state())
    np.testing.assert_array_equal(
        again.predict_weights(**known(sample)), model.predict_weights(**known(sample))
    )
    assert again.limits_ == model.limits_
    assert repr(again.history_) == repr(model.history_)  # NaN is no validation


class KilledError(Exception):
    """Stands for kill -9."""


@pytest.mark.parametrize("at", [3, 9, 14, 21])
def test_a_fit_goes_on_from_where_it_was_killed(sample: dict[str, Any], at: int) -> None:
    class Memory(dict):  # type: ignore[type-arg]
        def put(self, key: str, state: Any) -> None:
            self[key] = state

    model = RiskLimitedLSTM(**SMALL, limits=PathLimits(volatility=0.1, max_drawdown=0.05))
    expected = model.fit(**sample).predict_weights(**known(sample))
    memory, count = Memory(), 0

    def kill(*_: object) -> None:
        nonlocal count
        count += 1
        if count == at:
            raise KilledError

    broken = clone(model).set_params(on_progress=kill)
    broken.store = memory  # type: ignore[assignment]
    with pytest.raises(KilledError):
        broken.fit(**sample)
    resumed = clone(model)
    resumed.store = memory  # type: ignore[assignment]
    resumed.fit(**sample)
    np.testing.assert_array_equal(resumed.predict_weights(**known(sample)), expected)
    assert repr(resumed.history_) == repr(model.history_)  # NaN is no validation


def test_weights_are_the_mean_of_the_members(sample: dict[str, Any]) -> None:
    model = RiskLimitedLSTM(**SMALL).fit(**sample)
    alone = [
        RiskLimitedLSTM(**SMALL | {"n_seeds": 1}, seed=seed)
        .fit(**sample)
        .predict_weights(**known(sample))
        for seed in (0, 1)
    ]
    np.testing.assert_allclose(model.predict_weights(**known(sample)), np.mean(alone, axis=0))


def test_no_market_series(sample: dict[str, Any]) -> None:
    del sample["market"]
    model = RiskLimitedLSTM(**SMALL, limits=PathLimits(volatility=0.1)).fit(**sample)
    assert model.limits_["volatility"]["trained"] <= 0.11
    assert (model.predict_weights(**known(sample)).sum(axis=1) > 0).all()


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"limits": {"volatility": 0}}, "limit volatility must be above 0"),
        ({"limits": {"vol": 0.1}}, "limits names 'vol', which is no limit"),
        ({"select_by": "loss"}, "select_by must be .objective. or .rank_ic."),
        ({"weighting": "max"}, "weighting must be 'softmax' or 'sparsemax'"),
        ({"weight_cap": 0.0}, "weight_cap must be a number in"),
        ({"temperature": 0.0}, "temperature must be a number in"),
        ({"cost_per_side": -0.1}, "cost_per_side must be a number in"),
        ({"calibration_blocks": -1}, "calibration_blocks must be"),
        ({"lag": 0.5}, "lag must be"),
        ({"sharpe_weight": 0.0, "return_weight": 0.0}, "the path has no aim"),
    ],
)
def test_settings_that_cannot_be(
    sample: dict[str, Any], settings_: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        RiskLimitedLSTM(**SMALL, **settings_).fit(**sample)


def test_data_that_cannot_be(sample: dict[str, Any]) -> None:
    model = RiskLimitedLSTM(**SMALL)
    with pytest.raises(NotFittedError):
        model.predict_weights(**known(sample))
    with pytest.raises(DataError, match="needs returns and volatility"):
        model.fit(**known(sample), targets=sample["targets"])
    with pytest.raises(DataError, match="volatility has shape"):
        model.fit(**sample | {"volatility": sample["volatility"][1:]})
    with pytest.raises(DataError, match="returns have shape"):
        model.fit(**sample | {"returns": sample["returns"][:, 0]})
    hole = sample["returns"].copy()
    hole[40, 2] = np.nan
    with pytest.raises(DataError, match="row 40 has a day on which no stock has a return"):
        model.fit(**sample | {"returns": hole})
    hole[40, 2] = -1.5
    with pytest.raises(DataError, match="below -1 at row 40"):
        model.fit(**sample | {"returns": hole})
    model.fit(**sample)
    with pytest.raises(DataError, match="fitted on 3 factors and 2 market series"):
        model.predict_weights(**known(sample) | {"market": None})


def test_a_fixed_temperature_concentrates() -> None:
    generator = torch.Generator().manual_seed(0)
    largest = []
    for temperature in (0.25, 1.0, 4.0):
        network = AllocationNetwork(
            LSTMNetwork(2, 1, hidden=2, layers=1, dropout=0.0, generator=generator),
            PathLimits(),
            weighting="softmax",
            weight_cap=1.0,
            temperature=temperature,
        )
        heads = np.random.default_rng(0).standard_normal((4, 20, 1)).astype(np.float32)
        data = PathData.of(None, np.ones((4, 20)), np.ones((4, 20), dtype=bool))
        weights = network.numpy_shares(heads, data)
        largest.append(weights.max())
    assert largest[0] > largest[1] > largest[2]


def test_the_composition_is_the_best_of_its_candidates_out_of_fold(sample: dict[str, Any]) -> None:
    model = RiskLimitedLSTM(**SMALL, limits={"volatility": 0.08}).fit(**sample)
    best = max(model.compositions_, key=lambda tried: tried["merit"])
    assert (model.temperature_, model.smoothing_) == (best["temperature"], best["smoothing"])
    assert len(model.compositions_) == len(CANDIDATES)
    given = RiskLimitedLSTM(**SMALL, limits={"volatility": 0.08}, temperature=0.7).fit(**sample)
    assert {tried["temperature"] for tried in given.compositions_} == {0.7}
    assert given.temperature_ == 0.7
    none = RiskLimitedLSTM(**SMALL).fit(**sample)
    assert (none.temperature_, none.smoothing_, none.compositions_) == (None, 1.0, [])


def test_the_composition_keeps_a_limit_on_turnover(sample: dict[str, Any]) -> None:
    everyone = sample | {"mask": np.ones_like(sample["mask"])}

    def under(limit: float) -> RiskLimitedLSTM:
        return RiskLimitedLSTM(**SMALL, limits={"turnover": limit}).fit(**everyone)

    loose = under(1e3)
    limit = 0.75 * loose.limits_["turnover"]["promised"]
    tight, hopeless = under(limit), under(0.01)
    assert tight.limits_["turnover"]["promised"] <= limit
    assert 1 < len(tight.compositions_) < len(loose.compositions_)
    assert len(hopeless.compositions_) == 1


def test_the_path_teaches_the_scores_nothing(sample: dict[str, Any]) -> None:
    """But for the clipping of all slopes together, which binds here in no step."""
    other = sample | {"returns": sample["returns"][:, ::-1, ::-1]}
    settings = SMALL | {"n_seeds": 1, "calibration_blocks": 0, "learning_rate": 1e-4}
    shown = {"mask": sample["mask"], "market": sample["market"]}

    def moved(share: float) -> float:
        scores = [
            RiskLimitedLSTM(**settings, limits={"volatility": 0.05}, path_gradient=share)
            .fit(**data)
            .predict(sample["features"], **shown)
            for data in (sample, other)
        ]
        return float(np.nanmax(np.abs(scores[0] - scores[1])))

    assert moved(0.0) == 0.0
    assert moved(1.0) > 1e-4


@pytest.mark.parametrize("smoothing", [0.25, 0.6, 1.0])
def test_smoothed_compositions(smoothing: float) -> None:
    """Like its twin with slopes; a row reads no later one, keeps its sum, and no cap is broken."""
    rng = np.random.default_rng(3)
    investable = rng.random((30, 8)) > 0.2
    shares = rng.dirichlet(np.ones(8), 30) * investable
    shares /= shares.sum(axis=1, keepdims=True)
    found = smooth_path(shares, investable, smoothing, 1.0)
    assert not found[~investable].any()
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    tensors = (torch.from_numpy(x)[:, None] for x in (shares, investable))
    twin = smooth_steps(*tensors, smoothing)
    np.testing.assert_allclose(twin[:, 0].numpy(), found, atol=1e-12)
    np.testing.assert_array_equal(
        smooth_path(shares[:20], investable[:20], smoothing, 1.0), found[:20]
    )
    by_hand = np.zeros(8)
    for t in range(5):
        by_hand = (1.0 - smoothing) * by_hand + smoothing * shares[t]
    by_hand = np.where(investable[4], by_hand, 0.0)
    np.testing.assert_allclose(found[4], by_hand / by_hand.sum())
    capped = smooth_path(np.minimum(shares, 0.3), investable, smoothing, 0.3)
    assert capped.max() <= 0.3


def _day_by_day(weights: np.ndarray, returns: np.ndarray, cost: float) -> np.ndarray:
    """Net returns of a path, one known day after another: an independent twin of `held_path`."""
    wealth, stocks, path = 1.0, np.zeros(weights.shape[1]), []
    for target, days in zip(weights, returns, strict=True):
        before = wealth
        wealth *= 1.0 - cost * np.abs(target - stocks / wealth).sum()
        stocks, cash = target * wealth, wealth * (1.0 - target.sum())
        for day in days[np.isfinite(days).any(axis=1)]:
            stocks = stocks * (1.0 + np.nan_to_num(day))
            wealth = stocks.sum() + cash
            path.append(wealth / before - 1.0)
            before = wealth
    return np.array(path)


class TestUnevenSteps:
    """Weeks with a holiday are shorter: their risk is that of the days that there were."""

    LIMITS: ClassVar[PathLimits] = PathLimits(
        volatility=0.08, var_95=0.01, max_drawdown=0.06, turnover=40.0
    )

    def test_limits_are_measured_day_by_day(self, sample: dict[str, Any]) -> None:
        returns = sample["returns"].copy()
        returns[::3, 4] = np.nan
        returns[::7, 2:] = np.nan
        model = RiskLimitedLSTM(**SMALL, limits=self.LIMITS)
        model.fit(**sample | {"returns": returns})
        shares = model.predict_weights(**known(sample))[:-1]
        there = np.isfinite(returns[:-1]).any(axis=2)
        daily = np.concatenate([np.full((LEAD, N_ASSETS), np.nan), returns[:-1][there]])
        days = LEAD - 2 + np.append(0, np.cumsum(there.sum(axis=1))[:-1])
        assert set(np.diff(days)) == {2, 4, 5}
        exposure = limit_exposure(
            shares,
            daily,
            days,
            limits=self.LIMITS.active(),
            factors=model.safety_factors_,
            cost_per_side=model.cost_per_side,
        ).exposure
        path = _day_by_day(shares * exposure[:, None], returns[:-1], model.cost_per_side)
        assert len(path) == there.sum()
        wanted = {
            "volatility": annual_volatility(path),
            "var_95": value_at_risk(path),
            "max_drawdown": window_drawdown(path).max(),
        }
        for name, value in wanted.items():
            assert model.limits_[name]["trained"] == pytest.approx(value, rel=1e-5)
            assert np.isfinite(model.limits_[name]["promised"])
            assert value <= getattr(self.LIMITS, name) * 1.1

    def test_a_day_that_never_is_changes_nothing(self, sample: dict[str, Any]) -> None:
        longer = np.concatenate(
            [sample["returns"], np.full((N_DATES, 1, N_ASSETS), np.nan)], axis=1
        )
        plain = RiskLimitedLSTM(**SMALL, limits=self.LIMITS).fit(**sample)
        padded = RiskLimitedLSTM(**SMALL, limits=self.LIMITS).fit(**sample | {"returns": longer})
        np.testing.assert_allclose(
            padded.predict_weights(**known(sample)),
            plain.predict_weights(**known(sample)),
            rtol=1e-3,
            atol=1e-6,
        )
        for name, factor in plain.safety_factors_.items():
            assert padded.safety_factors_[name] == pytest.approx(factor, rel=1e-3)

    def test_a_day_in_the_middle_is_a_fault(self, sample: dict[str, Any]) -> None:
        hole = sample["returns"].copy()
        hole[40, 0] = np.nan
        with pytest.raises(DataError, match="row 40 has a day on which no stock has a return"):
            RiskLimitedLSTM(**SMALL).fit(**sample | {"returns": hole})
