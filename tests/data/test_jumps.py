"""Jumps that nobody can have earned: closed lines, and what is said of suspect moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from skfolio.containers import AssetPanel, Field2D

import alphakeel as ak
from alphakeel.audit.lookahead import check_study
from alphakeel.audit.run import run_audit
from alphakeel.data.cleaning import CLOSED, SPIKE, clean, find_jumps
from alphakeel.data.jumps import describe_ends, describe_gaps, describe_jumps, likely_cause
from alphakeel.data.loading import inspect_path
from alphakeel.evaluation.performance import dominant_days
from alphakeel.report.page import render_report
from alphakeel.results import Study
from alphakeel.study import run_study
from helpers import random_walk, tiny_config

Floats = NDArray[np.float64]
GAP = slice(300, 340)  # dates without a price
NAMES = np.array([f"S{i}" for i in range(20)])


def panel_of(prices: Floats, **fields: Floats) -> AssetPanel:
    """A panel of stocks that are all listed throughout."""
    days = pd.bdate_range("2015-01-01", periods=len(prices)).to_numpy().astype("datetime64[D]")
    everywhere = np.ones(prices.shape, dtype=np.bool_)
    return AssetPanel(
        {name: Field2D(x) for name, x in {"adj_close": prices, **fields}.items()},
        days,
        np.array([f"S{i}" for i in range(prices.shape[1])]),
        active_mask=everywhere,
        estimation_mask=np.isfinite(prices),
    )


def with_new_company(level: float = 9.0, gap: slice = GAP, n: int = 20) -> Floats:
    """Prices of which those of the last stock are of another company after a gap."""
    prices = random_walk(600, n, start=50.0)
    prices[gap, -1] = np.nan
    prices[gap.stop :, -1] *= level
    return prices


class TestClosedLines:
    def test_a_fall_is_borne(self) -> None:
        """It may be a crash in a long halt: a loss that is left out flatters."""
        prices = with_new_company(level=0.1)
        result = clean(panel_of(prices), min_history=60)
        assert not result.jumps.closed.any()
        np.testing.assert_array_equal(
            result.panel["accounting_close"][GAP.stop :], prices[GAP.stop :]
        )

    @pytest.mark.parametrize("level", [9.0, 2.0])
    def test_nobody_earns_the_jump(self, level: float) -> None:
        result = clean(panel_of(with_new_company(level)), min_history=60)
        accounting = result.panel["accounting_close"][:, -1]
        assert accounting[GAP.stop] == accounting[GAP.start - 1]
        raw = with_new_company(level)[:, -1]
        later = slice(GAP.stop, None)
        np.testing.assert_allclose(
            accounting[later] / accounting[GAP.stop], raw[later] / raw[GAP.stop], rtol=1e-14
        )
        np.testing.assert_array_equal(accounting[: GAP.start], raw[: GAP.start])
        np.testing.assert_array_equal(result.panel["adj_close"][later, -1], accounting[later])

    def test_the_new_company_needs_a_history_of_its_own(self) -> None:
        result = clean(panel_of(with_new_company()), min_history=60, max_missing=1.0)
        back = np.flatnonzero(result.eligible[GAP.stop :, -1])
        assert back[0] == 59
        other = clean(panel_of(with_new_company(level=1.0)), min_history=60, max_missing=1.0)
        assert other.eligible[GAP.stop, -1]

    def test_every_number_that_moved_is_on_record(self) -> None:
        panel = panel_of(with_new_company())
        result = clean(panel, min_history=60)
        ledger = result.ledger
        for name in ("adj_close", "accounting_close"):
            values = panel["adj_close"].copy()
            mine = np.flatnonzero(ledger.field_code == ledger.field_names.index(name))
            for k in mine:
                cell = (ledger.row[k], ledger.column[k])
                np.testing.assert_equal(values[cell], ledger.before[k])
                values[cell] = ledger.after[k]
            np.testing.assert_array_equal(values, result.panel[name])
        assert ledger.counts().set_index("rule").loc[CLOSED, "tickers"] == 1

    def test_a_suspension_that_ends_where_it_began_is_one(self) -> None:
        prices = with_new_company(level=1.1)
        result = clean(panel_of(prices), min_history=60)
        assert not result.jumps.closed.any()
        np.testing.assert_array_equal(
            result.panel["accounting_close"][GAP.stop :], prices[GAP.stop :]
        )

    def test_five_dates_are_no_gap_and_six_are(self) -> None:
        for n_dates, closed in ((5, False), (6, True)):
            prices = with_new_company(gap=slice(300, 300 + n_dates))
            jumps = find_jumps(prices, 8.0, 0.2, max_gap=5)
            assert jumps.closed.any() == closed
            assert jumps.suspect.any() != closed

    def test_max_gap_is_that_of_the_settings(self) -> None:
        prices = with_new_company()
        assert not clean(panel_of(prices), max_gap=40).jumps.closed.any()
        assert clean(panel_of(prices), max_gap=39).jumps.closed.any()

    def test_after_a_year_a_smaller_move_is_enough(self) -> None:
        for n_dates, closed in ((200, False), (260, True)):
            gap = slice(300, 300 + n_dates)
            prices = with_new_company(level=1.0, gap=gap)
            prices[gap.stop :, -1] *= 1.35 * prices[299, -1] / prices[gap.stop, -1]
            assert find_jumps(prices, 8.0, 0.2, max_gap=5).closed.any() == closed

    def test_a_study_earns_no_jump_and_no_later_day_moves_it(self) -> None:
        market = ak.simulate_market(n_assets=20, n_dates=600, seed=2).panel
        fields = {name: field.values.copy() for name, field in market.fields.items()}
        fields["adj_close"][400:440, 3] = np.nan
        fields["adj_close"][440:, 3] *= 8.0
        mask = market.estimation_mask.copy()
        mask[400:440, 3] = False
        panel = AssetPanel(
            {n: f.with_values(fields[n]) for n, f in market.fields.items()},
            market.observations,
            market.asset_names,
            active_mask=market.active_mask,
            estimation_mask=mask,
        )
        walk = {"test_start": str(panel.observations[360])[:10], "refit_every": 60}
        study = run_study(panel, tiny_config(walk_forward=walk))
        held = study.strategies["Equal weight"].weights[440 - study.test.start - 1, 3]
        assert held > 0.01
        assert np.abs(study.dataset.returns[400:441, 3]).max() == 0.0
        assert any("gap ends at a much higher price" in note for note in study.notes)
        for row in (420, 439, 440, 500):
            finding = check_study(study, panel, "cut", row, np.random.default_rng(0))
            assert finding is None, finding


class TestSentences:
    @pytest.mark.parametrize(
        ("move", "later", "words"),
        [
            (0.25, 0.25, "(as a split of 4:1)"),
            (30.3, 30.0, "(as a reverse split of 1:30)"),
            (101.0, 1.01, "(as prices in hundredths on one day)"),
            (0.0099, 0.01, "(as prices in hundreds)"),
            (1.7, 1.01, "(and back, as an error)"),
            (0.42, 0.41, ""),
            (0.5, np.nan, "(as a split of 2:1)"),
        ],
    )
    def test_what_a_jump_looks_like(self, move: float, later: float, words: str) -> None:
        assert likely_cause(move, later) == words

    def test_one_note_with_a_count_and_three_examples(self) -> None:
        prices = random_walk(300, 20, start=50.0)
        for column in range(5):
            prices[100 + column :, column] /= 4.0 + column
        jumps = find_jumps(prices, 8.0, 0.2, max_gap=5)
        notes = describe_jumps(prices, jumps, panel_of(prices).observations, NAMES)
        assert len(notes) == 1
        assert notes[0].startswith("5 jumps are suspect (S4 -8")
        assert "as a split of 8:1" in notes[0]
        assert "and 2 more" in notes[0]

    def test_clean_prices_need_no_word(self) -> None:
        prices = random_walk(300, 20, start=50.0)
        days = panel_of(prices).observations
        assert not describe_jumps(prices, find_jumps(prices, 8.0, 0.2, max_gap=5), days, NAMES)
        assert not describe_gaps(prices, days, NAMES)
        assert not describe_ends(prices, days, NAMES)

    def test_gaps_and_ends(self) -> None:
        prices = with_new_company(level=1.0)
        days = panel_of(prices).observations
        note = describe_gaps(prices, days, NAMES)[0]
        assert note.startswith(
            f"1 gap of more than 5 dates without a price, of S19 from {days[300]}"
        )
        assert "(40 dates)" in note
        prices[500:, 2] = np.nan
        prices[490:500, 2] *= np.linspace(0.9, 0.1, 10)
        note = describe_ends(prices, days, NAMES)[0]
        assert note.startswith(f"1 stock ends before the last date (S2 on {days[499]})")
        assert "S2 had lost more than half" in note


class TestWhereTheyAreSaid:
    def csv(self, folder: Path, prices: Floats) -> Path:
        panel = panel_of(prices)
        frame = pd.DataFrame(prices, pd.DatetimeIndex(panel.observations, name="date"), NAMES)
        frame.stack().rename("adj_close").rename_axis(["date", "ticker"]).to_csv(folder / "p.csv")
        return folder / "p.csv"

    def test_check(self, tmp_path: Path) -> None:
        prices = random_walk(300, 20, start=50.0)
        prices[100:, 3] /= 4.0
        prices[150, 5] *= 100.0
        notes = " ".join(inspect_path(self.csv(tmp_path, prices)).notes)
        days = panel_of(prices).observations
        assert f"S3 -75% on {days[100]} (as a split of 4:1)" in notes
        assert f"on {days[150]} (as prices in hundredths on one day)" in notes

    def test_audit(self) -> None:
        market = ak.simulate_market(n_assets=12, n_dates=900, seed=1).panel
        prices = market["adj_close"].copy()
        prices[700:, 2] *= 5.0
        field = market.fields["adj_close"].with_values(prices)
        panel = AssetPanel(
            {**market.fields, "adj_close": field},
            market.observations,
            market.asset_names,
            active_mask=market.active_mask,
            estimation_mask=market.estimation_mask,
        )
        found = [f for f in run_audit(panel).findings if f.test == "jumps"]
        assert [f.verdict for f in found] == ["warning"]
        assert "S0003 +393% on 2012-09-10 (as a reverse split of 1:5)" in found[0].evidence


@pytest.fixture(scope="module")
def study() -> Study:
    """A study in which one stock rises by 30 times in a day."""
    market = ak.simulate_market(n_assets=12, n_dates=700, seed=1).panel
    prices = market["adj_close"].copy()
    prices[600:, 2] *= 30.0
    field = market.fields["adj_close"].with_values(prices)
    panel = AssetPanel(
        {**market.fields, "adj_close": field},
        market.observations,
        market.asset_names,
        active_mask=market.active_mask,
        estimation_mask=market.estimation_mask,
    )
    walk = {"test_start": str(panel.observations[460])[:10], "refit_every": 60}
    return run_study(panel, tiny_config(walk_forward=walk))


class TestDaysOnWhichAResultHangs:
    def test_it_is_the_first_note_and_first_in_the_report(self, study: Study) -> None:
        day = study.dates[600]
        assert study.notes[0].startswith(f"The results hang on one day: {day} makes ")
        assert f"{study.asset_names[2]} moved most in it" in study.notes[0]
        assert "a jump that cleaning suspects" in study.notes[0]
        page = render_report(study)
        assert page.index("The results hang on one day") < page.index("Key figures")

    def test_it_is_printed_first(self, study: Study, capsys: Any, tmp_path: Path) -> None:
        from alphakeel.cli.printing import print_study

        print_study(study, tmp_path, tmp_path / "report.html")
        text = capsys.readouterr().out
        assert text.strip().startswith("The results hang on one day")
        assert text.count("The results hang on one day") == 1

    def test_share_and_strategies(self, study: Study) -> None:
        days = dominant_days(study.every_ledger(), study.dataset.returns[study.test])
        assert days[0].row == 600 - study.test.start
        assert days[0].column == 2
        net = study.every_ledger()[days[0].strategies[0]].net_returns
        away = (net - net.mean()) ** 2
        assert days[0].share == pytest.approx(away[days[0].row] / away.sum())
        assert study.cleaning.counts().set_index("rule").loc[SPIKE, "cells"] > 0

    def test_a_plain_market_has_none(self) -> None:
        panel = ak.simulate_market(n_assets=12, n_dates=700, seed=1).panel
        walk = {"test_start": str(panel.observations[460])[:10], "refit_every": 60}
        assert run_study(panel, tiny_config(walk_forward=walk)).warnings == ()
