"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real market data, where the machine has one."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    path = Path(os.environ.get("ALPHAKEEL_SHARED_DATA", default))
    if not (path / "us" / "prices.parquet").is_file():
        pytest.skip(
            f"real market data not found at {path}: set ALPHAKEEL_SHARED_DATA to its folder"
        )
    return path
