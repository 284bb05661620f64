"""Days and stocks that come later move no dated number of a study, not by a bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from skfolio.containers import AssetPanel

import alphakeel as ak
from alphakeel.audit.dated import DatedArray, dated_arrays, first_difference
from alphakeel.audit.lookahead import check_study, cut_off
from alphakeel.data import cleaning
from alphakeel.data.panel import universe_mask
from alphakeel.factors import base as factors_base
from alphakeel.results import Study
from alphakeel.study import run_study
from helpers import TINY_NETWORK, tiny_config, with_fields

CUT = 560
# Sixteen outputs at least: narrower products of MKL round a row by its place among the others.
NETWORK = {**TINY_NETWORK, "hidden": 16, "batch_assets": 12, "n_seeds": 2}
ALL_NETWORKS = ["lstm", "gru", "attention", "cnn_lstm", "mlp", "lstm_limited"]
LIMITED = ["lstm_limited", "gru_limited", "attention_limited", "cnn_lstm_limited"]
EVERY_LIMIT = {"cvar_95": 0.01, "var_95": 0.006, "volatility": 0.06, "max_drawdown": 0.05}
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "networks, and their combination": {
        "models": [*ALL_NETWORKS, "combined"],
        "network": NETWORK,
        "combined": {"weights": "learned", "shrinkage": 5},
    },
    "networks under limits": {"models": LIMITED, "network": NETWORK, "limits": EVERY_LIMIT},
    "boosted trees and support vectors": {"models": ["lightgbm", "svr"]},
    "mean-variance, beta neutral": {"allocation": {"method": "mean_variance", "neutral": "beta"}},
    "mean-CVaR": {"allocation": {"method": "mean_cvar"}},
    "dollar neutral": {"allocation": {"neutral": "dollar"}},
    "the risk network": {"allocation": {"volatility": "network"}, "network": NETWORK},
    "rules of the Chinese market": {"costs": {"preset": "cn"}},
    "the smallest left out": {"cleaning": {"drop_illiquid": 0.1, "drop_small": 0.1}},
    "settings that are chosen": {
        "target": {"unit": "auto", "horizons": [5]},
        "linear": {"method": "auto"},
        "cleaning": {"min_history": 60},
    },
    "drivers and sensitivity": {"report": {"drivers": True, "sensitivity": True}},
    "networks that read every day": {
        "models": ["lstm"],
        "network": {**NETWORK, "rows": "days", "n_seeds": 1, "max_steps": 4},
        "report": {"sensitivity": True},
    },
}


def growing_market(with_index: bool = True) -> AssetPanel:
    """Forty stocks, of which some are listed, and some join the index, long after the start."""
    market = ak.simulate_market(n_assets=40, n_dates=700, seed=1, listing_rate=0.1).panel
    rng, member = np.random.default_rng(5), np.ones((700, 40))
    for column in rng.choice(40, 14, replace=False):
        member[: rng.integers(0, 700), column] = 0.0
    fields = {name: field for name, field in market.fields.items() if name != "market_index"}
    if not with_index:
        market = AssetPanel(
            fields,
            market.observations,
            market.asset_names,
            active_mask=market.active_mask,
            estimation_mask=market.estimation_mask,
        )
    return with_fields(market, member=member)


@pytest.fixture(scope="module")
def panel() -> AssetPanel:
    return growing_market()


def study_of(panel: AssetPanel, **settings: Any) -> Study:
    walk = {"test_start": str(panel.observations[460])[:10], "refit_every": 60}
    return run_study(panel, tiny_config(walk_forward=walk, **settings))


def moved(study: Study, panel: AssetPanel, how: str) -> str:
    """What another future moves, in a sentence; empty if nothing."""
    finding = check_study(study, panel, how, CUT, np.random.default_rng(0))
    return "" if finding is None else finding.evidence


class TestNothingMoves:
    @pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
    def test_when_later_days_and_stocks_are_removed(
        self, panel: AssetPanel, settings: dict[str, Any]
    ) -> None:
        assert moved(study_of(panel, **settings), panel, "cut") == ""

    def test_without_an_index(self) -> None:
        panel = growing_market(with_index=False)
        study = study_of(panel)
        assert moved(study, panel, "cut") == ""
        assert moved(study, panel, "scramble") == ""

    def test_when_later_days_are_noise(self, panel: AssetPanel) -> None:
        study = study_of(panel, models=["lstm"], network=NETWORK)
        assert moved(study, panel, "scramble") == ""

    @pytest.mark.parametrize("models", [["linear"], ["lstm"]])
    def test_when_a_later_split_rescales_adjusted_prices(
        self, panel: AssetPanel, models: list[str]
    ) -> None:
        assert moved(study_of(panel, models=models, network=NETWORK), panel, "split") == ""

    def test_the_cut_takes_stocks_away(self, panel: AssetPanel) -> None:
        past, columns = cut_off(panel, CUT)
        assert past.active_mask.shape == (CUT + 1, len(columns))
        assert len(columns) < 40
        assert universe_mask(past).any(axis=0).all()


class TestWhatIsCompared:
    def test_every_stage_and_every_kind_of_array(self, panel: AssetPanel) -> None:
        study = study_of(panel, models=["lstm", "lstm_limited"], network=NETWORK)
        arrays = list(dated_arrays(study, CUT, np.arange(40)))
        assert len({(x.stage, x.name) for x in arrays}) == len(arrays)
        stages = {
            stage: [x for x in arrays if x.stage == stage] for stage in {x.stage for x in arrays}
        }
        assert set(stages) == {
            "cleaning", "factors", "scaling", "screen", "scores", "fits", "weights", "regimes",
        }  # fmt: skip
        assert len(arrays) > 500
        for x in arrays:
            assert len(x.days) == len(x.values), x.name
            assert (x.days <= study.dates[CUT]).all(), x.name
        named = {x.name for x in stages["weights"]}
        for label in (*study.strategies,):
            assert ("strategies", label, "weights") in named
            assert ("overlaid", label, "net_returns") in named
            assert ("value_at_risk", label, "var") in named

    def test_benchmark_and_hedge_are_compared_on_their_days(self, panel: AssetPanel) -> None:
        """Use of limits on every past decision, by its day; hedges and their risk by day."""
        relative = {
            "method": "enhanced_index",
            "benchmark": "cap_weight",
            "style_limit": 0.5,
            "sector_limit": 0.2,
            "hedge": True,
        }
        study = study_of(panel, allocation=relative)
        assert moved(study, panel, "cut") == ""
        named = {x.name: x for x in dated_arrays(study, CUT, np.arange(40))}
        used = named["use of limits", "Linear", "tracking_error"]
        past = study.decisions[(study.decisions >= study.test.start) & (study.decisions <= CUT)]
        np.testing.assert_array_equal(used.days, study.dates[past])
        assert np.isfinite(used.values).all()
        for what in ("hedge", "scale", "net_returns", "beta", "hedge_costs"):
            assert len(named["hedged", "Linear", what].values) == CUT - study.test.start + 1
        assert ("hedged_risk", "Linear", "var") in named
        assert ("strategies", "Cap weight", "weights") in named

    def test_forward_returns_only_where_they_are_known(self, panel: AssetPanel) -> None:
        study = study_of(panel)
        for x in dated_arrays(study, CUT, np.arange(40)):
            if x.name == ("forward", "20 days"):
                last = int(np.searchsorted(study.dates, x.days[-1]))
                assert last + study.config.target.lag + 20 <= CUT
                assert np.isfinite(x.values[-1]).any()

    def test_one_bit_is_a_difference_and_nan_is_none(self) -> None:
        days = np.array(["2024-01-02", "2024-01-03"], dtype="datetime64[D]")
        values = np.array([[1.0, np.nan], [2.0, 3.0]])
        one = DatedArray("weights", ("x",), values, days, ("A", "B"))
        other = values.copy()
        assert first_difference(one, replace(one, values=other)) is None
        other[1, 1] = np.nextafter(3.0, 4.0)
        assert first_difference(one, replace(one, values=other)) == (1, 1)
        assert first_difference(one, replace(one, values=values[:1])) == (0, 0)


class TestSeededFaults:
    """What the audit was blind to while it kept the columns."""

    def test_outliers_judged_by_stocks_that_are_no_members_yet(
        self, panel: AssetPanel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cleaning, "universe_mask", lambda panel: np.array(panel.active_mask))
        assert "cleaning reads the future" in moved(study_of(panel), panel, "cut")

    def test_a_market_of_stocks_that_are_no_members_yet(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        panel = growing_market(with_index=False)
        monkeypatch.setattr(
            factors_base, "universe_mask", lambda panel: np.array(panel.active_mask)
        )
        assert "it reads the future" in moved(study_of(panel), panel, "cut")

    def test_random_draws_among_stocks_that_are_not_listed_yet(
        self, panel: AssetPanel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from alphakeel.pipeline import fitting

        def everybody(
            forecaster: Any, dataset: Any, features: Any, targets: Any, train: Any
        ) -> None:
            own = {"mask": dataset.eligible[train], "market": dataset.market[train]}
            forecaster.fit(features, targets, **own)

        monkeypatch.setattr(fitting, "_fit", everybody)
        study = study_of(panel, models=["lstm"], network={**NETWORK, "batch_assets": 120})
        assert "LSTM's score of" in moved(study, panel, "cut")
