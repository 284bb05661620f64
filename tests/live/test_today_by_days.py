"""`today` with networks that read every day: the backtest's decisions, and on from its memory."""

from __future__ import annotations

import numpy as np
import pytest
from live_study import Saved
from skfolio.containers import AssetPanel

from alphakeel.data.simulation import simulate_market
from alphakeel.live.decision import decide
from alphakeel.live.replay import explained_from, plan_of, replay
from alphakeel.storage.checkpoints import read_arrays
from alphakeel.storage.runs import memory_file, save_run
from alphakeel.storage.saved_runs import open_run
from alphakeel.study import run_study
from helpers import TINY_NETWORK, tiny_config

LABEL = "LSTM"


@pytest.fixture(scope="module")
def later() -> AssetPanel:
    """The panel of a later day: 40 days more than the run has."""
    return simulate_market(n_assets=14, n_dates=800, seed=3).panel


@pytest.fixture(scope="module")
def saved(later: AssetPanel, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    panel = later.isel(observations=slice(0, 760)).to_panel()
    config = tiny_config(
        models=["lstm"],
        network=TINY_NETWORK | {"rows": "days", "burn_in": 20, "chunk": 60, "max_steps": 4},
        walk_forward={"refit_every": 200},
    )
    study = run_study(panel, config, name="simulated")
    return Saved(panel, study, open_run(save_run(study, tmp_path_factory.mktemp("runs"))))


def test_every_decision_is_the_backtest_s(saved: Saved) -> None:
    ledger = saved.study.strategies[LABEL]
    for day in saved.decision_days[[0, 17, -1]]:
        live, cut = plan_of(saved.run, saved.panel, day)
        own, row = replay(saved.run, live, cut, LABEL), saved.row(day)
        for name in ("weights", "net_returns"):
            np.testing.assert_array_equal(
                getattr(own.portfolio.ledger, name), getattr(ledger, name)[: row + 1], str(day)
            )


def test_later_decisions_go_on_from_the_memory_of_days(saved: Saved, later: AssetPanel) -> None:
    memory = saved.study.models["lstm"].memory
    assert memory is not None
    kept, last = saved.run.memory("lstm") or (memory, None)
    assert last == saved.study.dates[memory.row - 1]  # rows are days
    assert kept.row == memory.row
    _, texts = read_arrays((saved.run.folder / memory_file("lstm")).read_bytes())
    assert len(texts) == 1  # of several the order would change from run to run
    live, cut = plan_of(saved.run, later)
    whole = replay(saved.run, live, cut, LABEL)
    own = replay(saved.run, live, cut, LABEL, same=True, recent=True)
    assert 0 < own.since <= np.searchsorted(live.plan.decisions, memory.row)
    assert len(live.plan.decisions) > len(saved.study.decisions) + 5
    np.testing.assert_array_equal(own.scores, whole.scores)
    np.testing.assert_array_equal(own.portfolio.targets, whole.portfolio.targets)


def test_it_is_explained_by_the_days(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reasons of a decision that the run has are those of a replay from the first day on."""
    decision = decide(saved.run, saved.panel, strategy="lstm")
    monkeypatch.setattr("alphakeel.live.replay._first_needed", lambda *_: 0)
    whole = decide(saved.run, saved.panel, strategy="lstm")
    assert decision.to_dict() == whole.to_dict()
    assert (decision.targets["for_1"] != "").any()


def test_an_older_decision_is_explained_by_its_days(saved: Saved) -> None:
    """Factors of days are reached back for as those of decisions are."""
    live, cut = plan_of(saved.run, saved.panel)
    whole = replay(saved.run, live, cut, LABEL, same=True)
    own = replay(saved.run, live, cut, LABEL, same=True, recent=True)
    reached = explained_from(own, own.since - 7).dataset
    assert reached.daily is not None
    assert whole.dataset.daily is not None
    day = int(live.plan.decisions[own.since - 7])
    columns = [whole.dataset.names.index(name) for name in reached.names]
    for one, other, row in (
        (reached, whole.dataset, own.since - 7),
        (reached.daily, whole.dataset.daily, day),
    ):
        np.testing.assert_array_equal(one.features[row:], other.features[row:][:, :, columns])
        np.testing.assert_array_equal(one.market[row:], other.market[row:])
