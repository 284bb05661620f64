"""A day more of data changes nothing before it: decisions, fits and numbers, to the bit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skfolio.containers import AssetPanel

from alphakeel.audit.dated import dated_arrays, first_difference
from alphakeel.audit.lookahead import cut
from alphakeel.config import StudyConfig
from alphakeel.data.bundled import load_bundled
from alphakeel.pipeline import fitting
from alphakeel.pipeline.calendar import decision_days, default_test_start, refit_rows
from alphakeel.pipeline.dataset import Dataset, prepare_dataset
from alphakeel.pipeline.fitting import fit_key
from alphakeel.pipeline.plan import Plan
from alphakeel.results import Study
from alphakeel.stats.exposure_rules import WINDOW
from alphakeel.storage.checkpoints import DiskStore
from alphakeel.storage.runs import forget_progress, save_run
from alphakeel.storage.saved_models import SavedFits
from alphakeel.study import run_study
from helpers import TINY_NETWORK, tiny_config

Dates = np.ndarray
EVERY = ("weekly", "monthly", 1, 2, 7, 21)


@pytest.fixture(scope="module")
def panel() -> AssetPanel:
    """Real trading days, with their holidays: twelve stocks from January 2010 to May 2017."""
    whole = load_bundled("sp500")
    dates = np.asarray(whole.observations, dtype="datetime64[D]")
    first = int(np.searchsorted(dates, np.datetime64("2010-01-01")))
    return whole[np.arange(first, first + 1870)].to_panel().isel(assets=slice(0, 12))


@st.composite
def trading_days(draw: st.DrawFn) -> Dates:
    """Weekdays with holidays, single or weeks long, and at times a weekend of trading."""
    first = draw(st.dates(pd.Timestamp("1980-01-01").date(), pd.Timestamp("2020-01-01").date()))
    days = np.datetime64(first) + np.arange(draw(st.integers(2, 500)))
    kept = np.is_busday(days)
    for _ in range(draw(st.integers(0, 6))):
        at, size = draw(st.integers(0, len(days) - 1)), draw(st.integers(1, 11))
        kept[at : at + size] = draw(st.booleans())
    kept[[0, -1]] = True
    return days[kept]


class TestDecisionDays:
    @settings(max_examples=150, deadline=None)
    @given(dates=trading_days(), every=st.sampled_from(EVERY), data=st.data())
    def test_neither_end_of_the_data_moves_one(
        self, dates: Dates, every: str | int, data: st.DataObject
    ) -> None:
        whole = set(dates[decision_days(dates, every)])
        first = data.draw(st.integers(0, len(dates) - 1))
        last = data.draw(st.integers(first, len(dates) - 1))
        part = dates[first : last + 1]
        found = set(part[decision_days(part, every)])
        # Of the first day of the data nobody knows the trading day before.
        inside = set(part[1:])
        assert found & inside == whole & inside

    @settings(max_examples=100, deadline=None)
    @given(dates=trading_days())
    def test_a_week_has_one_on_its_friday_or_the_trading_day_after(self, dates: Dates) -> None:
        found = dates[decision_days(dates, "weekly")]
        weekday = (found.astype(int) + 3) % 7
        for day in found[weekday != 4]:
            friday = day - (day.astype(int) + 3 - 4) % 7
            assert friday not in dates
            assert day == dates[dates > friday][0]
        fridays = dates[(dates.astype(int) + 3) % 7 == 4]
        assert set(fridays) <= set(found)

    def test_real_holidays(self) -> None:
        days = load_bundled("sp500").observations
        dates = np.asarray(days, dtype="datetime64[D]")
        weekly = set(dates[decision_days(dates, "weekly")].astype(str))
        # Good Friday 2015-04-03: the Monday after it. Nobody knew on Monday 2001-09-10 that it
        # would be the last trading day of its week.
        assert {"2015-03-27", "2015-04-06", "2015-04-10"} <= weekly
        assert not {"2015-04-02", "2001-09-10"} & weekly
        assert "2001-09-17" in weekly
        monthly = set(dates[decision_days(dates, "monthly")].astype(str))
        assert {"2015-03-31", "2015-04-30", "2015-05-29", "2013-04-01"} <= monthly

    def test_every_fifth_weekday_is_a_week(self) -> None:
        dates = np.arange("1990-01-01", "2024-01-01", dtype="datetime64[D]")
        dates = dates[np.is_busday(dates)]
        np.testing.assert_array_equal(decision_days(dates, 5), decision_days(dates, "weekly"))
        assert (np.diff(decision_days(dates, 7)) == 7).all()


class TestTestStart:
    def test_it_is_a_year_after_five(self, panel: AssetPanel) -> None:
        dates = np.asarray(panel.observations, dtype="datetime64[D]")
        starts = {default_test_start(dates[:n], 294) for n in range(1520, len(dates), 10)}
        assert starts == {(int(np.searchsorted(dates, np.datetime64("2015-01-01"))), "")}

    def test_short_data_say_so(self, panel: AssetPanel) -> None:
        dates = np.asarray(panel.observations, dtype="datetime64[D]")
        starts = [default_test_start(dates[:n], 294) for n in range(900, 1500, 10)]
        assert len(set(starts)) == 1
        row, note = starts[0]
        assert str(dates[row]) == "2012-06-01"
        assert "2015-01-01" in note
        assert "walk_forward.test_start" in note
        plan = Plan.of(cut(panel, 950), tiny_config())
        assert plan.notes == (note,)
        assert str(plan.config.walk_forward.test_start) == "2012-06-01"

    def test_a_refit_is_not_moved_by_later_days(self, panel: AssetPanel) -> None:
        dates = np.asarray(panel.observations, dtype="datetime64[D]")
        rows = decision_days(dates, "weekly")
        rows = rows[rows > 1250]
        for every in ("yearly", "quarterly", 90):
            whole = refit_rows(dates[rows], rows, every)
            for n in range(1, len(rows)):
                part = refit_rows(dates[rows[:n]], rows[:n], every)
                assert part == [row for row in whole if row < n]
        years = dates[rows][refit_rows(dates[rows], rows, "yearly")].astype(str)
        assert years.tolist() == ["2014-12-26", "2015-01-02", "2016-01-04", "2017-01-06"]


def assert_same_past(whole: Study, other: Study, row: int) -> None:
    """Every dated number up to a row is the same in both, to the bit."""
    columns = np.arange(len(whole.asset_names))
    mine = {(x.stage, x.name): x for x in dated_arrays(other, row, columns)}
    compared = 0
    for before in dated_arrays(whole, row, columns):
        after = mine[before.stage, before.name]
        np.testing.assert_array_equal(before.days, after.days)
        assert first_difference(before, after) is None, (before.stage, before.name)
        compared += 1
    assert compared > 100


class TestADayMore:
    @pytest.mark.parametrize(
        ("walk", "model"),
        [
            ({"rebalance": "weekly", "refit_every": 252}, "lstm_limited"),
            ({"rebalance": "monthly", "refit_every": "quarterly"}, "linear"),
            ({"rebalance": 7, "refit_every": "yearly"}, "linear"),
        ],
        ids=["weekly", "monthly", "7 weekdays"],
    )
    def test_changes_nothing_before_it(
        self, panel: AssetPanel, walk: dict[str, Any], model: str
    ) -> None:
        config = tiny_config(walk_forward=walk, models=["linear", model], network=TINY_NETWORK)
        whole = run_study(panel, config)
        assert str(whole.config.walk_forward.test_start)[:7] in ("2015-01",)
        # A Wednesday, a Thursday before a holiday, a Friday, and a day on which a fold begins.
        days = ("2016-06-15", "2017-04-13", "2016-12-02", str(whole.folds[-1].test[0]))
        for day in days if model == "linear" else days[:2]:
            row = int(np.searchsorted(whole.dates, np.datetime64(day)))
            other = run_study(cut(panel, row), config)
            decided = whole.decisions[whole.decisions <= row]
            np.testing.assert_array_equal(other.decisions, decided)
            assert_same_past(whole, other, row)


def _count_fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    fitted: list[str] = []
    fit = fitting._fit

    def counted(forecaster: Any, *args: Any) -> None:
        fitted.append(type(forecaster).__name__)
        fit(forecaster, *args)

    monkeypatch.setattr(fitting, "_fit", counted)
    return fitted


class TestReuse:
    WALK: ClassVar[dict[str, Any]] = {"refit_every": 120, "rebalance": "weekly"}

    @pytest.fixture
    def config(self) -> StudyConfig:
        return tiny_config(walk_forward=self.WALK, models=["linear", "lstm"], network=TINY_NETWORK)

    def test_only_new_folds_are_fitted(
        self,
        panel: AssetPanel,
        config: StudyConfig,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        fitted = _count_fits(monkeypatch)
        earlier = run_study(cut(panel, 1600), config, store=DiskStore(tmp_path / ".resume"))
        assert len(fitted) == 2 * len(earlier.folds)
        save_run(earlier, tmp_path)
        forget_progress(earlier, DiskStore(tmp_path / ".resume"))
        assert not (tmp_path / ".resume").exists()
        fresh = run_study(panel, config)
        fitted.clear()
        updated = run_study(panel, config, finished=SavedFits(tmp_path))
        new = len(fresh.folds) - len(earlier.folds)
        assert new > 0
        assert len(fitted) == 2 * new
        assert_same_past(fresh, updated, len(fresh.dates) - 1)
        for name, table in fresh.tables().items():
            pd.testing.assert_frame_equal(table, updated.tables()[name], check_exact=True)
        for model in fresh.models:
            assert repr(fresh.models[model].history) == repr(updated.models[model].history)
            assert fresh.models[model].keys == updated.models[model].keys
        fitted.clear()
        longer = run_study(panel, config, finished=SavedFits(save_run(fresh, tmp_path).parent))
        assert fitted == []
        assert_same_past(fresh, longer, len(fresh.dates) - 1)

    def test_what_a_fit_reads_is_in_its_key(self, panel: AssetPanel) -> None:
        def keys(panel: AssetPanel, **changed: Any) -> set[str]:
            terms = {"walk_forward": self.WALK, "models": ["linear"], **changed}
            return set(run_study(panel, tiny_config(**terms)).models["linear"].keys)

        part = cut(panel, 1600)
        study = run_study(part, tiny_config(walk_forward=self.WALK))
        first = set(study.models["linear"].keys)
        for same in (
            {"overlay": {"target_volatility": 0.2}},
            {"costs": {"cost_per_side": 0.0}},
            {"report": {"n_bootstrap": 101}},
        ):
            assert keys(part, **same) == first
        for other in (
            {"linear": {"method": "ridge"}},
            {"target": {"horizons": [5]}},
            {"factors": {"exclude": [study.folds[0].selected["linear"][0]]}},
        ):
            assert study.models["linear"].keys[0] not in keys(part, **other)
        touched = part.copy(deep=True)
        values = touched["adj_close"].copy()
        values[400, 3] *= 1.01
        touched.fields["adj_close"] = touched.fields["adj_close"].with_values(values)
        assert not keys(touched) & first

    def test_what_a_limited_fit_reads_is_in_its_key(self, panel: AssetPanel) -> None:
        """Its returns by day before and between its rows, and volatilities; nothing later."""
        config = tiny_config(walk_forward=self.WALK, models=["lstm_limited"], network=TINY_NETWORK)
        plan = Plan.of(cut(panel, 1600), config)
        whole = prepare_dataset(panel, Plan.of(panel, config))
        # A window of training that begins late, so that days before it are not read.
        train, unknown = slice(60, plan.folds[0].train.stop), 5
        eligible = whole.eligible.copy()
        eligible[train, unknown] = False
        whole = replace(whole, eligible=eligible)
        days = whole.decisions[train]
        first, last = int(days[0]) - WINDOW + 1, int(whole.decisions[train.stop]) + whole.lag
        assert first > 1

        def key(dataset: Dataset) -> str:
            return fit_key(dataset, train, dataset.names[:3], "lstm_limited", config)

        def touched(name: str, row: int, stock: int = 3) -> str:
            values = getattr(whole, name).copy()
            values[row, stock] += 0.01
            return key(replace(whole, **{name: values}))

        mine = key(whole)
        for row in (first, int(days[0]) - 1, int(days[0]), int(days[-1]), last):
            assert touched("returns", row) != mine, row
            assert touched("returns", row, unknown) == mine
        for row in (first - 1, last + 1, len(whole.returns) - 1):
            assert touched("returns", row) == mine, row
        assert touched("volatility", train.start) != mine
        assert touched("volatility", train.start - 1) == mine
        assert touched("volatility", train.stop) == mine
        part = whole.cut(slice(0, last + 30))
        assert len(part.decisions) < len(whole.decisions)
        assert key(part) == mine

    def test_a_limited_fit_that_is_scored_again_holds_the_same(
        self, panel: AssetPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Composition, safety factors and what is held of it, by the saved model."""
        limits = {"volatility": 0.08, "max_drawdown": 0.06, "var_95": 0.008, "cvar_95": 0.012}
        terms = {"network": TINY_NETWORK, "limits": limits}
        config = tiny_config(walk_forward=self.WALK, models=["lstm_limited"], **terms)
        part, fitted = cut(panel, 1600), _count_fits(monkeypatch)
        study = run_study(part, config)
        save_run(study, tmp_path)
        fitted.clear()
        again = run_study(part, config, finished=SavedFits(tmp_path))
        assert fitted == []
        before, after = study.models["lstm_limited"], again.models["lstm_limited"]
        for name in ("weights", "safety", "scores"):
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
        assert (before.safety[study.plan.tested] > 1.0).any()
        assert_same_past(study, again, 1600)
        weights = study.strategies[before.label].weights
        assert weights.sum(axis=1).max() < 1.0, "limits bind"

    @pytest.mark.parametrize("damage", ["arrays", "card", "other code"])
    def test_a_fit_that_was_tampered_with_is_made_again(
        self,
        panel: AssetPanel,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        damage: str,
    ) -> None:
        config, part = tiny_config(walk_forward=self.WALK), cut(panel, 1600)
        study = run_study(part, config)
        place = save_run(study, tmp_path) / "models" / "linear" / "fold_0"
        if damage == "arrays":
            path = place / "model.safetensors"
            path.write_bytes(path.read_bytes()[:-1] + b"x")
        elif damage == "card":
            path = place / "model.json"
            path.write_text(path.read_text().replace('"history"', '"History"'))
        fitted = _count_fits(monkeypatch)
        if damage == "other code":
            monkeypatch.setattr("alphakeel.storage.saved_models.made_by", lambda: "other code")
            again = run_study(part, config, finished=SavedFits(tmp_path))
        else:
            with pytest.warns(UserWarning, match="a saved fit cannot be used.*fitted again"):
                again = run_study(part, config, finished=SavedFits(tmp_path))
        assert len(fitted) == (len(study.folds) if damage == "other code" else 1)
        assert_same_past(study, again, 1600)


def test_uneven_weeks_are_held_day_by_day(panel: AssetPanel) -> None:
    """The daily returns of the decisions join to every day, once: none is missing or double."""
    plan = Plan.of(panel, tiny_config())
    dataset = prepare_dataset(panel, plan)
    rows = slice(20, len(plan.decisions) - 1)
    held = dataset.holding_returns(rows)
    assert len({int(n) for n in np.isfinite(held[..., 0]).sum(axis=1)}) > 1
    joined = held[np.isfinite(held).any(axis=2)]
    first, last = plan.decisions[20] + dataset.lag, plan.decisions[-1] + dataset.lag
    if last >= len(plan.dates):
        last = plan.decisions[-2] + dataset.lag
    np.testing.assert_array_equal(joined, dataset.returns[first + 1 : last + 1])
    spacing = [b - a for a, b in pairwise(plan.decisions.tolist())]
    assert set(spacing) >= {4, 5}
