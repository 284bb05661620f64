"""The risk head: HAR and the network against hand sums, other libraries, and the future."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone

from alphakeel.errors import ConfigError, DataError, NotFittedError
from alphakeel.models.har import (
    HAR_INPUTS,
    HARForecaster,
    har_inputs,
    log_realised_volatility,
    returns_ahead,
    volatility_target,
)
from alphakeel.models.risk_network import (
    RiskForecaster,
    RiskLoss,
    decode,
    encode,
    pinball,
    student_t_nll,
)
from alphakeel.stats.rolling import realised_volatility

SMALL: dict[str, Any] = {
    "hidden": 4,
    "burn_in": 4,
    "chunk": 30,
    "max_steps": 4,
    "n_seeds": 2,
    "device": "cpu",
}
FIELDS = ("volatility", "quantile", "dof", "location", "scale")


def make_returns(n_days: int = 500, n_assets: int = 12, seed: int = 0) -> np.ndarray:
    """Student-t returns whose log volatility is a slow autoregression, in part the market's."""
    rng = np.random.default_rng(seed)
    shocks = rng.standard_normal((n_days, n_assets)) + rng.standard_normal((n_days, 1))
    level = np.zeros((n_days, n_assets))
    for day in range(1, n_days):
        level[day] = 0.98 * level[day - 1] + 0.08 * shocks[day]
    tails = rng.standard_t(5, (n_days, n_assets)) / np.sqrt(5 / 3)
    return 0.015 * np.exp(level) * tails


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray]:
    return make_returns(), np.arange(60, 500, 5)


class TestMeasures:
    def test_realised_volatility_is_a_hand_sum(self) -> None:
        daily = make_returns(40, 2)
        daily[35, 1] = np.nan
        found = realised_volatility(daily, 10, min_count=8)
        assert found[30, 0] == pytest.approx(np.sqrt(np.mean(daily[21:31, 0] ** 2)), rel=1e-12)
        assert found[39, 1] == pytest.approx(np.sqrt(np.nanmean(daily[30:40, 1] ** 2)), rel=1e-12)
        assert np.isnan(found[:7]).all()

    def test_target_covers_the_days_after_the_decision_and_not_the_decision(self) -> None:
        daily, decisions = make_returns(60, 3), np.array([20, 39, 40])
        target = volatility_target(daily, decisions, 20)
        expected = np.log(np.sqrt(252 * np.mean(daily[21:41] ** 2, axis=0)))
        np.testing.assert_allclose(target[0], expected, rtol=1e-12)
        assert np.isfinite(target[1]).all()
        assert np.isnan(target[2]).all()  # day 60 is not there

    def test_returns_ahead_are_those_of_the_next_days(self) -> None:
        daily = make_returns(30, 2)
        ahead = returns_ahead(daily, np.array([10, 28]), 3)
        np.testing.assert_array_equal(ahead[0, 1], daily[11:14, 1])
        assert np.isnan(ahead[1, :, 1:]).all()

    def test_quiet_days_have_a_finite_logarithm(self) -> None:
        level = log_realised_volatility(np.zeros((30, 1)), 20)
        assert level[-1, 0] == pytest.approx(np.log(1e-3 * np.sqrt(252)))

    def test_inputs_match_a_slow_computation(self) -> None:
        daily = make_returns(400, 4)
        daily[394:398, 2] = np.nan
        found = dict(zip(HAR_INPUTS, har_inputs(daily, [399])[0].T, strict=True))

        def level(days: int, of: np.ndarray = daily) -> np.ndarray:
            return np.log(np.sqrt(252 * np.nanmean(of[400 - days : 400] ** 2, axis=0)))

        daily_deviation = np.exp(level(60)) / np.sqrt(252)
        month = daily[380:400]
        down = np.nansum(np.minimum(month, 0) ** 2, axis=0) / np.nansum(month**2, axis=0)
        index = np.nanmean(daily, axis=1)[:, None]
        expected = {
            "log_rv_60_to_market": level(60) - level(60).mean(),
            "log_rv_20_to_60": level(20) - level(60),
            "log_rv_252_to_60": level(252) - level(60),
            "return_20": np.nansum(month, axis=0) / (daily_deviation * np.sqrt(20)),
            "downside": down,
            "largest_move": np.log(np.nanmax(np.abs(month), axis=0) / daily_deviation),
            "market_log_rv_20": np.full(4, level(20).mean()),
            "market_log_rv_5_to_20": np.full(4, level(5, index) - level(20, index)),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-12, err_msg=name)
        assert np.isnan(found["return_5"][2])
        assert np.isfinite(found["return_5"][[0, 1, 3]]).all()

    def test_no_input_moves_when_the_future_does(self, sample: tuple[Any, Any]) -> None:
        daily, decisions = sample
        scrambled = daily.copy()
        scrambled[301:] = np.random.default_rng(9).permutation(scrambled[301:] * 7.0)
        past = decisions <= 300
        np.testing.assert_array_equal(
            har_inputs(daily, decisions)[past], har_inputs(scrambled, decisions)[past]
        )


class TestHAR:
    def test_coefficients_are_those_of_statsmodels(self, sample: tuple[Any, Any]) -> None:
        api = pytest.importorskip("statsmodels.api")
        daily, decisions = sample
        mask = np.random.default_rng(1).random((len(decisions), 12)) < 0.8
        model = HARForecaster().fit(daily, decisions=decisions, mask=mask)
        past = [log_realised_volatility(daily, n)[decisions] for n in (5, 20, 60)]
        target = volatility_target(daily[: decisions[-1] + 1], decisions, 20)
        used = np.isfinite(target) & mask & np.isfinite(np.sum(past, axis=0))
        design = api.add_constant(np.stack([x[used] for x in past], axis=1))
        np.testing.assert_allclose(
            model.coef_, api.OLS(target[used], design).fit().params, rtol=1e-8, atol=1e-10
        )
        assert model.n_entries_ == used.sum()

    def test_forecast_is_the_exponential_of_the_line(self, sample: tuple[Any, Any]) -> None:
        daily, decisions = sample
        model = HARForecaster().fit(daily, decisions=decisions)
        past = [np.log(np.sqrt(252 * np.mean(daily[401 - n : 401, 3] ** 2))) for n in (5, 20, 60)]
        found = model.predict(daily, decisions=[400])[0, 3]
        assert np.log(found) == pytest.approx(model.coef_ @ [1.0, *past], rel=1e-10)

    def test_neither_fit_nor_forecast_reads_the_future(self, sample: tuple[Any, Any]) -> None:
        daily, decisions = sample
        scrambled = daily.copy()
        scrambled[301:] *= -9.0
        fit, past = decisions[decisions <= 300], decisions <= 300
        first = HARForecaster().fit(daily, decisions=fit)
        second = HARForecaster().fit(scrambled, decisions=fit)
        np.testing.assert_array_equal(first.coef_, second.coef_)
        np.testing.assert_array_equal(
            first.predict(daily, decisions=decisions)[past],
            first.predict(scrambled, decisions=decisions)[past],
        )

    def test_unknown_and_masked_are_nan(self, sample: tuple[Any, Any]) -> None:
        daily, decisions = sample[0].copy(), sample[1]
        daily[440:, 2] = np.nan
        mask = np.ones((len(decisions), 12), dtype=bool)
        mask[:, 5] = False
        found = (
            HARForecaster()
            .fit(daily, decisions=decisions, mask=mask)
            .predict(daily, decisions=decisions, mask=mask)
        )
        assert np.isnan(found[:, 5]).all()
        assert np.isnan(found[-1, 2])
        assert np.isfinite(found[-1, [0, 1, 3, 4]]).all()

    def test_survives_saving(self, sample: tuple[Any, Any]) -> None:
        daily, decisions = sample
        model = HARForecaster().fit(daily, decisions=decisions)
        again = HARForecaster.from_state(model.state())
        np.testing.assert_array_equal(
            model.predict(daily, decisions=decisions), again.predict(daily, decisions=decisions)
        )


class TestLosses:
    def test_likelihood_is_scipys(self) -> None:
        rng = np.random.default_rng(0)
        x, location, log_scale = rng.standard_normal((3, 50))
        dof = rng.uniform(2.1, 30.0, 50)
        found = student_t_nll(*(torch.from_numpy(v) for v in (x, location, log_scale, dof)))
        expected = -stats.t.logpdf(x, dof, location, np.exp(log_scale))
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)

    def test_tick_loss_is_least_at_the_quantile(self) -> None:
        values = torch.from_numpy(np.random.default_rng(0).standard_normal(4001))
        grid = torch.linspace(-3.0, 0.0, 601, dtype=torch.float64)
        losses = pinball(values[:, None], grid, 0.05).mean(dim=0)
        best = float(grid[losses.argmin()])
        assert best == pytest.approx(float(np.quantile(values.numpy(), 0.05)), abs=0.01)

    def test_gradients_are_right_in_float64(self) -> None:
        rng = np.random.default_rng(0)
        heads = torch.from_numpy(rng.standard_normal((3, 6, 5))).requires_grad_()
        targets = torch.from_numpy(rng.standard_normal((3, 6, 4)))
        known = torch.from_numpy(rng.random((3, 6, 4)) < 0.8)
        loss = RiskLoss(0.05)
        assert torch.autograd.gradcheck(lambda h: loss(h, targets, known).total, (heads,))

    def test_unknown_targets_have_no_influence(self) -> None:
        rng = np.random.default_rng(0)
        heads = torch.from_numpy(rng.standard_normal((3, 6, 5)))
        targets = torch.from_numpy(rng.standard_normal((3, 6, 4)))
        known = torch.from_numpy(rng.random((3, 6, 4)) < 0.8)
        loss = RiskLoss(0.05)
        other = torch.where(known, targets, 99.0)
        assert loss(heads, targets, known).total == loss(heads, other, known).total
        nothing = loss(heads, targets, torch.zeros_like(known)).total
        assert float(nothing) == 0.0

    def test_targets_and_forecasts_are_in_the_same_units(self, sample: tuple[Any, Any]) -> None:
        daily, decisions = sample
        base = np.full((len(decisions), 12), 0.3)
        allowed = np.ones((len(decisions), 12), dtype=bool)
        allowed[3, 4] = False
        targets = encode(daily, decisions, base, allowed, horizon=20, days=2)
        heads = np.zeros((len(decisions), 12, 5), dtype=np.float32)
        heads[..., 0] = targets[..., 0]
        heads[..., 1] = targets[..., 1]
        forecast = decode(heads, base, 0.05)
        wanted = np.exp(volatility_target(daily, decisions, 20))
        ok = np.isfinite(targets).all(axis=2)
        np.testing.assert_allclose(forecast.volatility[ok], wanted[ok], rtol=1e-5)
        np.testing.assert_allclose(
            forecast.location[ok],
            returns_ahead(daily, decisions, 1)[..., 0][ok],
            rtol=1e-5,
            atol=1e-9,
        )
        assert np.isnan(targets[3, 4]).all()


class TestNetwork:
    def test_beats_har_and_its_quantile_covers(self) -> None:
        daily = make_returns(1600, 40, seed=3)
        decisions = np.arange(60, 1600, 5)
        fit, test = decisions <= 1200, decisions > 1220
        model = RiskForecaster(
            hidden=16, burn_in=10, chunk=60, max_steps=100, learning_rate=1e-2, device="cpu"
        )
        forecast = model.fit(daily, decisions=decisions[fit]).predict(daily, decisions=decisions)
        har = (
            HARForecaster().fit(daily, decisions=decisions[fit]).predict(daily, decisions=decisions)
        )
        truth = volatility_target(daily, decisions, 20)[test]
        error = {
            name: np.nanmean((truth - np.log(x[test])) ** 2)
            for name, x in {"har": har, "network": forecast.volatility}.items()
        }
        assert error["network"] < 0.99 * error["har"]
        ahead = returns_ahead(daily, decisions, 5)[test]
        below = ahead < forecast.quantile[test][..., None]
        assert 0.035 < below[np.isfinite(ahead)].mean() < 0.065
        deviation = forecast.scale * np.sqrt(forecast.dof / (forecast.dof - 2.0))
        standard = ahead / deviation[test][..., None]
        assert 0.85 < np.nanstd(standard) < 1.15

    def test_neither_fit_nor_forecast_reads_the_future(self, sample: tuple[Any, Any]) -> None:
        daily, decisions = sample
        market = np.random.default_rng(2).standard_normal((len(decisions), 2))
        scrambled, other = daily.copy(), market.copy()
        scrambled[301:] = np.random.default_rng(9).permutation(scrambled[301:] * -7.0)
        past = decisions <= 300
        other[~past] = 50.0
        first, second = (
            RiskForecaster(**SMALL).fit(x, decisions=decisions[past], market=market[past])
            for x in (daily, scrambled)
        )
        a = first.predict(daily, decisions=decisions, market=market)
        b = second.predict(scrambled, decisions=decisions, market=other)
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(a, name)[past], getattr(b, name)[past])
            assert not np.array_equal(getattr(a, name)[~past], getattr(b, name)[~past])

    def test_unknown_and_masked_are_nan_everywhere(self, sample: tuple[Any, Any]) -> None:
        daily, decisions = sample[0].copy(), sample[1]
        daily[440:, 2] = np.nan
        mask = np.ones((len(decisions), 12), dtype=bool)
        mask[:, 5] = False
        model = RiskForecaster(**SMALL).fit(daily, decisions=decisions, mask=mask)
        forecast = model.predict(daily, decisions=decisions, mask=mask)
        for name in FIELDS:
            values = getattr(forecast, name)
            assert values.dtype == np.float64
            assert np.isnan(values[:, 5]).all()
            assert np.isnan(values[-1, 2])
            assert np.isfinite(values[1:, [0, 1, 3, 4]]).all()

    def test_same_bits_alone_and_in_threads(self, sample: tuple[Any, Any]) -> None:
        daily, decisions = sample

        def volatility(_: int) -> np.ndarray:
            model = RiskForecaster(**SMALL).fit(daily, decisions=decisions)
            return model.predict(daily, decisions=decisions).volatility

        alone = volatility(0)
        with ThreadPoolExecutor(2) as pool:
            for other in pool.map(volatility, range(2)):
                np.testing.assert_array_equal(alone, other)

    def test_one_member_is_the_network_of_its_seed(self, sample: tuple[Any, Any]) -> None:
        daily, decisions = sample
        both = RiskForecaster(**SMALL).fit(daily, decisions=decisions)
        second = RiskForecaster(**SMALL | {"n_seeds": 1, "seed": 1}).fit(daily, decisions=decisions)
        ours, theirs = both.members_[1].state_dict(), second.members_[0].state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    def test_survives_saving_to_the_bit(self, sample: tuple[Any, Any]) -> None:
        daily, decisions = sample
        market = np.random.default_rng(2).standard_normal((len(decisions), 1))
        model = RiskForecaster(**SMALL).fit(daily, decisions=decisions, market=market)
        again = RiskForecaster.from_state(model.state())
        a, b = (m.predict(daily, decisions=decisions, market=market) for m in (model, again))
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        state = model.state()
        state.arrays["learned/members_/0/head_bias"] = np.zeros(3, dtype=np.float32)
        with pytest.raises(DataError, match="head_bias of network 0"):
            RiskForecaster.from_state(state)

    def test_goes_on_after_a_kill_with_the_same_bits(self, sample: tuple[Any, Any]) -> None:
        daily, decisions = sample
        whole = (
            RiskForecaster(**SMALL)
            .fit(daily, decisions=decisions)
            .predict(daily, decisions=decisions)
        )
        saved: dict[str, Any] = {}

        class Memory:
            get, put = staticmethod(saved.get), staticmethod(saved.__setitem__)

        steps: list[tuple[int, int]] = []

        def kill_in_the_second_member(member: int, step: int, *_: float) -> None:
            steps.append((member, step))
            if member == 1 and step == 2 and len(steps) < 7:
                raise KeyboardInterrupt

        model = RiskForecaster(**SMALL, on_progress=kill_in_the_second_member)
        model.store = Memory()
        with pytest.raises(KeyboardInterrupt):
            model.fit(daily, decisions=decisions)
        trained = len(steps)
        again = model.fit(daily, decisions=decisions).predict(daily, decisions=decisions)
        np.testing.assert_array_equal(whole.volatility, again.volatility)
        assert [step for step in steps[trained:] if step[0] == 0] == [(0, 4)]  # not trained anew

    def test_inputs_are_left_alone_and_clone_works(self, sample: tuple[Any, Any]) -> None:
        daily, decisions = sample
        before = daily.copy()
        model = clone(RiskForecaster(**SMALL)).fit(daily, decisions=decisions)
        model.predict(daily, decisions=decisions)
        np.testing.assert_array_equal(daily, before)


class TestRefusals:
    @pytest.mark.parametrize(
        ("setting", "message"),
        [
            ({"horizon": 1}, "horizon must be a whole number"),
            ({"dropout": -0.1}, "dropout must be a number"),
            ({"level": 0.0}, "level must be a number"),
            ({"n_seeds": 0}, "n_seeds must be a whole number"),
            ({"burn_in": 85}, "burn_in of 85 rows leaves fewer than 8 of the 88"),
            ({"device": "abacus"}, "device must be"),
        ],
    )
    def test_settings(self, sample: tuple[Any, Any], setting: dict[str, Any], message: str) -> None:
        daily, decisions = sample
        with pytest.raises(ConfigError, match=message):
            RiskForecaster(**SMALL | setting).fit(daily, decisions=decisions)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"decisions": np.array([60, 60, 70])}, "decisions must increase"),
            (
                {"decisions": np.array([60, 500])},
                "decisions must increase, and lie within the 500 days",
            ),
            ({"decisions": np.array([60.5])}, "one whole number a decision"),
            ({"mask": np.ones((3, 12), dtype=bool)}, "mask has shape"),
            ({"market": np.ones(88)}, "market has shape"),
            ({"returns": np.zeros(500)}, r"give \(days, assets\)"),
            ({"returns": np.full((500, 12), np.inf)}, "is infinite"),
            ({"returns": np.full((500, 12), np.nan)}, "only 0 decisions have 60 days before"),
        ],
    )
    def test_arrays(self, sample: tuple[Any, Any], change: dict[str, Any], message: str) -> None:
        given = {"returns": sample[0], "decisions": sample[1]} | change
        with pytest.raises(DataError, match=message):
            RiskForecaster(**SMALL).fit(given.pop("returns"), **given)

    def test_predict_before_fit_and_with_other_series(self, sample: tuple[Any, Any]) -> None:
        daily, decisions = sample
        for model in (RiskForecaster(), HARForecaster()):
            with pytest.raises(NotFittedError, match="is not fitted"):
                model.predict(daily, decisions=decisions)
        model = RiskForecaster(**SMALL).fit(daily, decisions=decisions)
        with pytest.raises(DataError, match="fitted on 0 market series"):
            model.predict(daily, decisions=decisions, market=np.ones((len(decisions), 2)))
