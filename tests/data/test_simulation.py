"""The simulated market: what is planted is there, what is not planted is not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from skfolio.containers import AssetPanel

from alphakeel.data.panel import panel_from_wide, panel_to_wide, validate
from alphakeel.data.simulation import BEAR, BULL, Simulation, simulate_market
from alphakeel.errors import ConfigError, DataError
from alphakeel.stats.cross_section import ic, rank_scaled, zscore

PRICED = ("open", "high", "low", "close", "adj_close")
FIELDS = (*PRICED, "volume", "market_cap", "earnings_to_price", "book_to_price")


@pytest.fixture(scope="module")
def market() -> Simulation:
    return simulate_market(n_assets=60, n_dates=900, seed=4)


@pytest.fixture(scope="module")
def large() -> Simulation:
    return simulate_market(n_assets=300, n_dates=1800, seed=11, signal=0.05, suspension_rate=0.0)


@pytest.fixture(scope="module")
def nonlinear() -> Simulation:
    """All of the signal is nonlinear."""
    return simulate_market(
        n_assets=200, n_dates=1500, seed=5, signal=0.1, nonlinear=1.0, suspension_rate=0.0
    )


def forward_five_days(panel: AssetPanel) -> np.ndarray:
    log_price = np.log(panel["adj_close"])
    out = np.full_like(log_price, np.nan)
    out[:-6] = log_price[6:] - log_price[1:-5]
    return out


def lagged(x: np.ndarray, days: int) -> np.ndarray:
    out = np.full_like(x, np.nan)
    out[days:] = x[:-days]
    return out


def trailing_mean(x: np.ndarray, days: int) -> np.ndarray:
    return pd.DataFrame(x).rolling(days).mean().to_numpy()


def known_factors(panel: AssetPanel) -> dict[str, np.ndarray]:
    """Ranks of what the docstring says the signal is made of, from the visible fields alone."""
    price = np.log(panel["adj_close"])
    trading = np.log(panel["close"] * panel["volume"])
    raw = {
        "recent": price - lagged(price, 21),
        "momentum": lagged(price, 21) - lagged(price, 252),
        "earnings": panel["earnings_to_price"],
        "volume": trailing_mean(trading, 20) - trailing_mean(trading, 252),
    }
    return {name: rank_scaled(values) for name, values in raw.items()}


def r_squared(y: np.ndarray, *features: np.ndarray) -> float:
    """Pooled least squares of the signal's z-score on date-wise ranks."""
    columns = np.stack([x[260:].ravel() for x in features], axis=1)
    target = zscore(y)[260:].ravel()
    ok = np.isfinite(columns).all(axis=1) & np.isfinite(target)
    x, t = columns[ok], target[ok]
    residual = t - x @ np.linalg.lstsq(x, t, rcond=None)[0]
    return 1.0 - residual.var() / t.var()


class TestShape:
    def test_fields_and_masks(self, market: Simulation) -> None:
        panel = market.panel
        assert set(panel.keys()) == {*FIELDS, "sector", "market_index"}
        assert panel.active_mask.shape == (900, 60)
        for name in FIELDS:
            np.testing.assert_array_equal(np.isfinite(panel[name]), panel.estimation_mask)
        assert market.true_signal.shape == (900, 60)
        np.testing.assert_array_equal(np.isnan(market.true_signal), ~panel.active_mask)
        assert set(np.unique(market.regimes)) <= {0, 1, 2}
        assert panel.observations.dtype == "datetime64[D]"
        assert np.is_busday(panel.observations).all()

    def test_panel_passes_the_library_s_own_checks(self, market: Simulation) -> None:
        validate(market.panel)
        damaged = simulate_market(n_assets=3, n_dates=40, seed=0).panel
        day, stock = np.argwhere(damaged.estimation_mask)[50]
        damaged["adj_close"][day, stock] *= -1.0
        with pytest.raises(DataError, match="adj_close"):
            validate(damaged)

    def test_masks_are_what_a_loader_would_derive(self, market: Simulation) -> None:
        panel = market.panel
        frames = {name: panel_to_wide(panel, name) for name in FIELDS}
        loaded = panel_from_wide(frames)
        np.testing.assert_array_equal(loaded.active_mask, panel.active_mask)
        np.testing.assert_array_equal(loaded.estimation_mask, panel.estimation_mask)

    def test_bars_are_consistent(self, market: Simulation) -> None:
        panel, on = market.panel, market.panel.estimation_mask
        bar = {name: panel[name][on] for name in PRICED}
        assert (bar["low"] <= np.minimum(bar["open"], bar["close"])).all()
        assert (bar["high"] >= np.maximum(bar["open"], bar["close"])).all()
        assert (bar["low"] > 0).all()
        assert (panel["volume"][on] >= 1).all()

    def test_listings_delistings_suspensions(self) -> None:
        panel = simulate_market(
            n_assets=100, n_dates=800, seed=2, listing_rate=0.1, delisting_rate=0.1
        ).panel
        active = panel.active_mask
        assert (~active[0]).sum() == 10
        assert (~active[-1]).sum() == 10
        assert (np.abs(np.diff(active.astype(int), axis=0)).sum(axis=0) <= 1).all()
        assert 0 < 1 - panel.estimation_mask.sum() / active.sum() < 0.01

    @pytest.mark.parametrize(("n_assets", "n_dates"), [(2, 2), (3, 40), (5, 300)])
    def test_small_sizes(self, n_assets: int, n_dates: int) -> None:
        small = simulate_market(n_assets=n_assets, n_dates=n_dates, suspension_rate=0.1)
        assert small.panel.active_mask.shape == (n_dates, n_assets)
        assert np.isfinite(small.true_signal[small.panel.active_mask]).all()


class TestSeed:
    def test_same_seed_same_bits(self) -> None:
        one, two = (simulate_market(n_assets=10, n_dates=320, seed=9) for _ in range(2))
        for name in one.panel.keys():  # noqa: SIM118
            np.testing.assert_array_equal(one.panel[name], two.panel[name])
        np.testing.assert_array_equal(one.true_signal, two.true_signal)

    def test_other_seed_other_market(self) -> None:
        one, two = (simulate_market(n_assets=10, n_dates=50, seed=s) for s in (1, 2))
        assert not np.array_equal(one.panel["adj_close"], two.panel["adj_close"])

    def test_the_signal_changes_nothing_but_returns(self) -> None:
        with_signal, without = (
            simulate_market(n_assets=10, n_dates=400, seed=3, signal=s) for s in (0.05, 0.0)
        )
        np.testing.assert_array_equal(with_signal.regimes, without.regimes)
        np.testing.assert_array_equal(
            with_signal.panel.estimation_mask, without.panel.estimation_mask
        )
        assert not np.array_equal(with_signal.panel["adj_close"], without.panel["adj_close"])


class TestMarket:
    def test_regimes_differ(self) -> None:
        sim = simulate_market(n_assets=40, n_dates=6000, seed=0, start="1995-01-02")
        index = np.diff(np.log(sim.panel["market_index"][:, 0]))
        regime = sim.regimes[1:]
        bull, bear = index[regime == BULL], index[regime == BEAR]
        assert bull.mean() > 0 > bear.mean()
        assert bear.std() > 1.5 * bull.std()

    def test_volatility_clusters_and_tails_are_fat(self, large: Simulation) -> None:
        returns = np.diff(np.log(large.panel["adj_close"]), axis=0)
        full = returns[:, np.isfinite(returns).all(axis=0)]
        size = np.abs(full - full.mean(axis=0))
        a, b = size[:-1] - size.mean(axis=0), size[1:] - size.mean(axis=0)
        assert (a * b).mean() / size.var(axis=0).mean() > 0.1
        z = (full - full.mean(axis=0)) / full.std(axis=0)
        assert (z**4).mean() > 5

    def test_volume_rises_with_the_size_of_moves(self, large: Simulation) -> None:
        returns = np.abs(np.diff(np.log(large.panel["adj_close"]), axis=0))
        volume = np.diff(np.log(large.panel["volume"]), axis=0)
        assert np.nanmean(ic(returns, volume)) > 0.1

    def test_index_is_the_capitalisation_weighted_return(self) -> None:
        panel = simulate_market(
            n_assets=8, n_dates=60, seed=1, suspension_rate=0.0, listing_rate=0.0
        ).panel
        growth = panel["adj_close"][1:] / panel["adj_close"][:-1] - 1
        weight = panel["market_cap"][:-1]
        expected = (weight * growth).sum(axis=1) / weight.sum(axis=1)
        level = panel["market_index"][:, 0]
        np.testing.assert_allclose(level[1:] / level[:-1] - 1, expected, atol=1e-12)

    def test_adjusted_close_holds_dividends_and_undoes_splits(self, large: Simulation) -> None:
        panel = large.panel
        gap = np.diff(np.log(panel["adj_close"]) - np.log(panel["close"]), axis=0)
        gap = gap[np.isfinite(gap)]
        paid = gap[np.abs(gap) > 1e-9]
        splits = paid[paid > 0.5]
        assert len(splits) > 0
        np.testing.assert_allclose(np.mod(splits + 0.01, np.log(2)) - 0.01, 0.0, atol=0.011)
        dividends = paid[paid < 0.5]
        assert ((dividends > 0.0) & (dividends < 0.011)).all()
        assert np.nanmax(panel["close"]) <= 200 * (1 + 1e-12)

    def test_fundamentals_move_only_when_published(self, large: Simulation) -> None:
        book_value = large.panel["book_to_price"] * large.panel["market_cap"]
        changed = np.abs(np.diff(np.log(book_value), axis=0)) > 1e-9
        days = np.arange(1, len(book_value)) + 320  # rows of the burn-in come before the first date
        when = (days[:, None] % 63 + np.zeros_like(changed))[changed]
        assert when.size > 0
        assert (when >= 20).all()
        assert (when <= 60).all()


class TestSignal:
    @pytest.mark.parametrize("nonlinear", [0.0, 0.5, 1.0])
    def test_stated_strength_is_the_attainable_ic(self, nonlinear: float) -> None:
        sim = simulate_market(n_assets=200, n_dates=1500, seed=8, signal=0.1, nonlinear=nonlinear)
        measured = np.nanmean(ic(sim.true_signal, forward_five_days(sim.panel)))
        assert measured == pytest.approx(0.1, abs=0.02)

    def test_default_strength(self, large: Simulation) -> None:
        measured = np.nanmean(ic(large.true_signal, forward_five_days(large.panel)))
        assert measured == pytest.approx(0.05, abs=0.015)

    def test_true_signal_is_an_unbiased_forecast(self, large: Simulation) -> None:
        realised = forward_five_days(large.panel)[:-6]
        market = np.nanmean(realised, axis=1, keepdims=True)
        realised = realised - market
        ok = np.isfinite(realised) & np.isfinite(large.true_signal[:-6])
        x, y = large.true_signal[:-6][ok], realised[ok]
        assert (x @ y) / (x @ x) == pytest.approx(1.0, abs=0.25)

    def test_no_signal_is_exactly_none(self) -> None:
        sim = simulate_market(n_assets=200, n_dates=1500, seed=6, signal=0.0)
        assert (sim.true_signal[sim.panel.active_mask] == 0.0).all()
        realised = forward_five_days(sim.panel)
        for name, values in known_factors(sim.panel).items():
            daily = ic(values, realised)[260::6]  # labels that do not overlap
            daily = daily[np.isfinite(daily)]
            assert abs(daily.mean()) < 3.5 * daily.std() / np.sqrt(len(daily)), name

    def test_linear_part_is_visible_to_a_linear_model(self) -> None:
        sim = simulate_market(
            n_assets=200, n_dates=1200, seed=5, signal=0.1, nonlinear=0.0, suspension_rate=0.0
        )
        assert r_squared(sim.true_signal, *known_factors(sim.panel).values()) > 0.8

    def test_nonlinear_part_is_invisible_to_a_linear_model(self, nonlinear: Simulation) -> None:
        seen = known_factors(nonlinear.panel)
        price = np.log(nonlinear.panel["adj_close"])
        move = price - lagged(price, 1)
        more = [
            move,
            price - lagged(price, 5),
            price - lagged(price, 60),
            trailing_mean(move**2, 60),
            np.log(nonlinear.panel["volume"]),
            nonlinear.panel["book_to_price"],
            nonlinear.panel["market_cap"],
        ]
        ranks = [rank_scaled(values) for values in more]
        assert r_squared(nonlinear.true_signal, *seen.values(), *ranks) < 0.02

    def test_nonlinear_part_can_be_learned_from_what_is_visible(
        self, nonlinear: Simulation
    ) -> None:
        seen = known_factors(nonlinear.panel)
        assert r_squared(nonlinear.true_signal, -seen["recent"] * seen["volume"]) > 0.7


class TestValidation:
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("n_assets", 1),
            ("n_dates", 1),
            ("signal", -0.1),
            ("signal", 0.9),
            ("nonlinear", 1.5),
            ("listing_rate", 0.2),
            ("suspension_rate", float("nan")),
        ],
    )
    def test_out_of_range(self, option: str, value: float) -> None:
        with pytest.raises(ConfigError, match=option):
            simulate_market(**{option: value})  # type: ignore[arg-type]
