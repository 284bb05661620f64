"""Sixty days of real prices, one by one: journal, orders and monitor agree with the backtest."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alphakeel.data.loading import load_panel
from alphakeel.live.decision import decide, live_folder
from alphakeel.live.journal import Journal
from alphakeel.live.monitor import monitor_run
from alphakeel.live.orders import Account
from alphakeel.storage.runs import save_run
from alphakeel.storage.saved_runs import open_run
from alphakeel.study import run_study
from helpers import tiny_config, with_fields

LABEL = "Linear + overlay"
DAYS, WEALTH = 60, 1e7


def test_sixty_days(shared_data: Path, tmp_path: Path) -> None:
    panel = load_panel(shared_data / "us", start="2012-01-01", end="2016-12-31", top=60)
    # An account whose dividends and splits are in the price: shares are those of adjusted prices.
    panel = with_fields(panel, close=panel["adj_close"])
    config = tiny_config(models=["linear"], walk_forward={"refit_every": 252})
    whole = run_study(panel, config, name="us")
    days = whole.dates[-DAYS - 1 :]
    early = panel.isel(observations=slice(0, len(whole.dates) - DAYS)).to_panel()
    walk = replace(config.walk_forward, test_start=whole.config.walk_forward.test_start)
    before = run_study(early, replace(config, walk_forward=walk), name="us")
    run = open_run(save_run(before, tmp_path))
    journal = Journal(live_folder(run) / "journal")

    ledger = whole.every_ledger()[LABEL]
    prices = whole.dataset.price
    assets = [str(name) for name in whole.asset_names]
    cost = config.costs.cost_per_side
    # The account holds what the backtest holds, in whole shares.
    first = len(prices) - DAYS - 1
    held = np.floor(np.nan_to_num(ledger.weights[-DAYS - 1] * WEALTH / prices[first]))
    cash = WEALTH - float(held @ np.nan_to_num(prices[first]))
    wealth = [WEALTH]
    for number, day in enumerate(days[:-1]):
        row = first + number
        shares = {assets[k]: float(held[k]) for k in np.flatnonzero(held)}
        decision = decide(
            run, panel, Account(shares, cash), strategy=LABEL, day=day, refit_now=True
        )
        assert journal.record(decision, dt.date.fromisoformat(str(day))) == ""
        assert decision.orders is not None
        assert decision.account["cash_after"] >= 0.0
        # The orders are carried out at the next close, at the cost that the run assumes.
        for order in decision.orders.to_dict("records"):
            k = assets.index(order["ticker"])
            signed = order["shares"] * {"buy": 1.0, "sell": -1.0}.get(order["side"], 0.0)
            value = signed * prices[row + 1, k]
            held[k] += signed
            cash -= value + cost * abs(value)
        assert (held >= 0.0).all()
        wealth.append(cash + float(held @ np.nan_to_num(prices[row + 1])))

    # Weights to the bit: what was decided is what the backtest traded.
    result = monitor_run(run, panel, strategy=LABEL)
    assert len(result.decisions) == DAYS
    assert result.decisions["same"].all()
    tradable = whole.dataset.tradable
    for entry in journal.entries(LABEL):
        row = int(np.searchsorted(whole.dates, entry.day)) + 1
        if entry.decision["new"] and tradable[row].all():
            at = row - whole.test.start
            wanted = {assets[k]: ledger.weights[at, k] for k in np.flatnonzero(ledger.weights[at])}
            assert entry.weights == wanted

    # Wealth: shares are counted at one close and traded at the next, in whole shares.
    own, theirs = np.array(wealth) / WEALTH, ledger.wealth[-DAYS - 1 :] / ledger.wealth[-DAYS - 1]
    np.testing.assert_allclose(own, theirs, atol=5e-4)
    live = result.ledger
    assert live is not None
    assert result.verdict.word in ("agrees", "cannot say yet")
    assert result.measures.set_index("measure").loc["turnover a year", "live"] == pytest.approx(
        float(ledger.turnover[-DAYS + 1 :].mean() * 126.0), rel=0.05
    )
