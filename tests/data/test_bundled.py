"""Data that come with the installation."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from skfolio.datasets import load_sp500_dataset

from alphakeel.data.bundled import BUNDLED, SECTORS, load_bundled
from alphakeel.data.panel import market_index, panel_to_wide, validate
from alphakeel.data.simulation import GICS_SECTORS
from alphakeel.errors import ConfigError, DataError


def test_sp500_holds_the_shipped_prices() -> None:
    panel = load_bundled("sp500")
    validate(panel)
    shipped = load_sp500_dataset()
    assert set(panel.keys()) == {"adj_close", "sector", "market_index"}
    np.testing.assert_array_equal(panel_to_wide(panel, "adj_close")[shipped.columns], shipped)
    assert panel.active_mask.all()
    index = market_index(panel)
    assert index is not None
    assert index[0] == 359.69


def test_sp500_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(*where: object) -> None:
        asked.append(where)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(OSError, match="no network"):
        socket.create_connection(("127.0.0.1", 9), timeout=1)
    assert len(asked) == 1  # so that a request would have been seen
    assert load_bundled("sp500").n_assets == 20
    assert len(asked) == 1


def test_sectors_are_gics_and_cover_every_stock() -> None:
    panel = load_bundled("sp500")
    assert sorted(SECTORS) == panel.asset_names.tolist()
    assert set(SECTORS.values()) <= set(GICS_SECTORS)
    labels = panel.decode_categorical_field("sector")[0]
    assert dict(zip(panel.asset_names.tolist(), labels.tolist(), strict=True)) == dict(SECTORS)


def test_synthetic_takes_the_simulator_s_options() -> None:
    panel = load_bundled("synthetic", n_assets=7, n_dates=50, seed=1)
    assert panel.active_mask.shape == (50, 7)


def test_windows_lie_inside_the_data() -> None:
    panel = load_bundled("sp500")
    window = BUNDLED["sp500"].test_window
    assert window is not None
    start, end = (np.datetime64(day) for day in window)
    assert panel.observations[0] < start < end < panel.observations[-1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sp50", "did you mean 'sp500'"),
        ("Synthetics", "did you mean 'synthetic'"),
        ("zzz", "there are sp500, synthetic"),
    ],
)
def test_unknown_name(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_bundled(name)


def test_unknown_option() -> None:
    with pytest.raises(ConfigError, match="did you mean 'n_assets'"):
        load_bundled("synthetic", n_asset=5)
    with pytest.raises(ConfigError, match="takes no option 'seed'"):
        load_bundled("sp500", seed=5)
