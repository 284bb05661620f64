"""Adjusted prices know no later action, and holders get what a delisting pays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphakeel.backtest.costs import ProportionalCost
from alphakeel.backtest.engine import run_backtest
from alphakeel.data.adjustment import (
    DELISTING_GAP,
    CorporateActions,
    adjusted_close,
    with_delisting_returns,
)
from alphakeel.data.grid import Grid
from alphakeel.data.loading import load_panel
from alphakeel.data.store import DataStore
from alphakeel.errors import DataError

DAYS = pd.bdate_range("2015-01-01", periods=60)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_no_action_moves_a_level_before_it(data) -> None:
    """Cut at any date, with or without the actions after it: earlier levels keep every bit."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n_dates, n_assets, n_actions = 30, 3, 8
    close = np.exp(rng.normal(3.0, 0.2, (n_dates, n_assets)))
    close[rng.random(close.shape) < 0.1] = np.nan
    rows, columns = rng.integers(0, n_dates, n_actions), rng.integers(0, n_assets, n_actions)
    values = [np.where(rng.random(n_actions) < 0.5, rng.uniform(0.2, 4.0, n_actions), np.nan)
              for _ in range(3)]  # fmt: skip
    whole = adjusted_close(close, CorporateActions(rows, columns, *values))
    cut = data.draw(st.integers(1, n_dates - 1))
    known = rows < cut
    before = CorporateActions(rows[known], columns[known], *(v[known] for v in values))
    np.testing.assert_array_equal(adjusted_close(close[:cut], before), whole[:cut])
    np.testing.assert_array_equal(adjusted_close(close, before)[:cut], whole[:cut])


def folder_of(path: Path, **securities: list) -> Path:
    """Three stocks; the last one ends after 30 of 60 days."""
    path.mkdir()
    rows = [(day, name, 10.0 + 0.1 * t + i, 1000.0)
            for t, day in enumerate(DAYS) for i, name in enumerate("ABC")
            if name != "C" or t < 30]  # fmt: skip
    prices = pd.DataFrame(rows, columns=["date", "symbol", "close", "volume"])
    prices.assign(adj_close=prices["close"]).to_parquet(path / "prices.parquet")
    pd.DataFrame({"symbol": list("ABC"), **securities}).to_parquet(path / "securities.parquet")
    return path


def wealth(panel) -> np.ndarray:
    """Of a holder of the third stock from the first day on, without costs."""
    prices = pd.DataFrame(np.where(panel.active_mask, panel["adj_close"], np.nan))
    carried = prices.ffill().where(panel.active_mask).to_numpy()
    weights = np.full(carried.shape, np.nan)
    weights[0] = [0.0, 0.0, 1.0]
    return run_backtest(weights, carried, lag=0, cost=ProportionalCost(0.0)).wealth


def test_a_stated_delisting_return_is_the_last_one_of_a_holder(tmp_path: Path) -> None:
    plain = load_panel(folder_of(tmp_path / "plain"))
    path = folder_of(tmp_path / "stated", delisting_return=[None, 0.5, -0.4])
    stated = load_panel(path)
    final = wealth(plain)[-1]
    assert final == pytest.approx(14.9 / 12.0)
    np.testing.assert_array_equal(wealth(stated)[:30], wealth(plain)[:30])
    np.testing.assert_allclose(wealth(stated)[30:], 0.6 * final)
    assert not stated.estimation_mask[30, 2], "nobody can trade at that price"
    assert stated["close"][30, 2] == stated["close"][29, 2]
    np.testing.assert_array_equal(stated["adj_close"][:, :2], plain["adj_close"][:, :2])


def test_an_assumed_return_comes_when_it_is_known_that_no_price_follows(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "plain")
    assumed = load_panel(path, delisting_return=-0.3)
    row = 29 + 1 + DELISTING_GAP
    np.testing.assert_array_equal(wealth(assumed)[:row], wealth(load_panel(path))[:row])
    np.testing.assert_allclose(wealth(assumed)[row:], 0.7 * 14.9 / 12.0)
    # Until then data that end earlier give the same prices: nothing told them of the end.
    cut = load_panel(path, end=str(DAYS[row - 1].date()), delisting_return=-0.3)
    np.testing.assert_array_equal(cut["adj_close"], assumed["adj_close"][:row])


def test_a_store_states_delisting_returns_too(tmp_path: Path) -> None:
    rows = pd.DataFrame([(day.date(), name, 10.0 + 0.1 * t + i, 1000.0)
                         for t, day in enumerate(DAYS) for i, name in enumerate("ABC")
                         if name != "C" or t < 30],
                        columns=["date", "ticker", "close", "volume"])  # fmt: skip
    store = DataStore(tmp_path / "store")
    securities = {"as_of": DAYS[-1].date(), "ticker": ["C"], "delisting_return": [-1.0]}
    with store.writer() as writer:
        writer.append("bars", rows, source="by hand", adjustment="raw")
        securities = pd.DataFrame(securities)
        writer.append("securities", securities, source="by hand", adjustment="raw")
        writer.commit()
    assert wealth(load_panel(store.path))[-1] == pytest.approx(1e-4 * 14.9 / 12.0)


def test_a_return_that_is_no_fraction_is_refused(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "wrong", delisting_return=[None, None, -40.0])
    with pytest.raises(DataError, match=r"delisting_return of C in .* is -40"):
        load_panel(path)


def test_a_stock_that_trades_to_the_end_gets_no_delisting_return() -> None:
    grid = Grid(DAYS.to_numpy(), np.array(["A", "B"]), {"adj_close": np.full((60, 2), 5.0)})
    same, notes = with_delisting_returns(grid, {"A": -0.5}, assumed=-0.3)
    np.testing.assert_array_equal(same.fields["adj_close"], 5.0)
    assert "0 end before the last date" in notes[0]
