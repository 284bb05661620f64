"""What many test files need: small panels and settings, scrambled futures, comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skfolio.containers import AssetPanel, Field2D
from typer.testing import CliRunner, Result

from alphakeel.backtest.ledger import Ledger
from alphakeel.cli import app
from alphakeel.config import StudyConfig, config_from_dict
from alphakeel.data.panel import panel_to_long
from alphakeel.models.persistence import ModelState
from alphakeel.results import Study
from alphakeel.storage.checkpoints import checksum

Array = NDArray[np.float64]

TINY_STUDY: dict[str, Any] = {
    "models": ["linear"],
    "jobs": 1,
    "report": {"n_bootstrap": 100, "drivers": False, "sensitivity": False},
}
TINY_NETWORK: dict[str, Any] = {
    "hidden": 8,
    "burn_in": 4,
    "chunk": 24,
    "max_steps": 8,
    "evaluate_every": 4,
    "n_seeds": 1,
    "device": "cpu",
}


def tiny_config(**sections: Any) -> StudyConfig:
    """Settings of a quick study; a section given here is added to that of `TINY_STUDY`."""
    merged = {
        name: {**TINY_STUDY.get(name, {}), **section} if isinstance(section, dict) else section
        for name, section in sections.items()
    }
    return config_from_dict({**TINY_STUDY, **merged})


def with_fields(panel: AssetPanel, **values: ArrayLike) -> AssetPanel:
    """A copy with these fields; NaN where a stock is not listed."""
    copy = panel.copy(deep=True)
    for name, array in values.items():
        copy.fields[name] = Field2D(np.where(copy.active_mask, array, np.nan))
    return copy


def scrambled_after(
    panel: AssetPanel,
    row: int,
    *,
    seed: int = 0,
    sigma: float = 2.0,
    how: Literal["replace", "fill", "multiply"] = "replace",
) -> AssetPanel:
    """The panel with every number after `row` replaced or multiplied by log-normal noise.

    "fill" puts noise where a number is missing, too. Masks are kept, and the index, one series
    for all stocks, remains one.
    """
    rng, copy = np.random.default_rng(seed), panel.copy(deep=True)
    for name, field in copy.fields.items():
        values = field.values.copy()
        if not np.issubdtype(values.dtype, np.floating):
            continue
        future = values[row + 1 :]
        noise = np.exp(rng.normal(0.0, sigma, future.shape))
        if name == "market_index":
            noise[:] = noise[:, :1]
        if how == "multiply":
            noise *= future
        elif how == "replace":
            noise[np.isnan(future)] = np.nan
        values[row + 1 :] = noise
        copy.fields[name] = field.with_values(values)
    return copy


def noise_after(values: Array, row: int, *, seed: int = 0, sigma: float) -> Array:
    """A copy with normal noise in the rows after `row`."""
    copy = values.copy()
    copy[row + 1 :] = np.random.default_rng(seed).normal(0.0, sigma, copy[row + 1 :].shape)
    return copy


def with_future_of(
    inputs: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], row: int
) -> dict[str, np.ndarray]:
    """The inputs up to `row`, the others' rows after it."""
    return {
        name: np.concatenate([values[: row + 1], other[name][row + 1 :]])
        for name, values in inputs.items()
    }


def assert_same_until(study: Study, other: Study, row: int, *names: str) -> None:
    """Every ledger of two studies agrees to the bit in these arrays, up to this row."""
    days = slice(0, row - study.test.start + 1)
    for strategy, ledger in study.every_ledger().items():
        again = other.every_ledger()[strategy]
        for name in names:
            np.testing.assert_array_equal(
                getattr(ledger, name)[days], getattr(again, name)[days], f"{strategy} {name}"
            )


def ledger_arrays(ledger: Ledger) -> dict[str, np.ndarray]:
    return {n: getattr(ledger, n) for n in Ledger.__dataclass_fields__ if n != "initial"}


def assert_same_state(a: ModelState, b: ModelState) -> None:
    assert checksum(a.meta) == checksum(b.meta)
    assert a.arrays.keys() == b.arrays.keys()
    for name, x in a.arrays.items():
        assert x.dtype == b.arrays[name].dtype
        np.testing.assert_array_equal(x, b.arrays[name], err_msg=name)


def model_sample(n_dates: int, seed: int) -> dict[str, np.ndarray]:
    """Three factors of twelve stocks, the first of which moves both targets."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n_dates, 12, 3)).astype(np.float32)
    return {
        "features": features,
        "targets": features[..., :1] + rng.standard_normal((n_dates, 12, 2)),
        "mask": rng.random((n_dates, 12)) > 0.1,
        "market": rng.random((n_dates, 2)),
    }


def autoregression(rho: float, n: int, seed: int = 0) -> Array:
    """A stationary series, x[t] = rho x[t - 1] + a standard normal shock."""
    noise = np.random.default_rng(seed).standard_normal(n)
    x = np.empty(n)
    x[0] = noise[0] / np.sqrt(1 - rho**2)
    for t in range(1, n):
        x[t] = rho * x[t - 1] + noise[t]
    return x


def random_walk(*shape: int, seed: int = 0, scale: float = 0.01, start: float = 100.0) -> Array:
    """Prices whose daily log returns are normal."""
    steps = np.random.default_rng(seed).normal(0.0, scale, shape)
    return start * np.exp(np.cumsum(steps, axis=0))


def run_command(*args: str | Path) -> Result:
    """The command line in this process."""
    return CliRunner().invoke(app, [str(arg) for arg in args])


def write_prices(panel: AssetPanel, folder: Path) -> Path:
    """The panel without its index as prices.csv."""
    path = folder / "prices.csv"
    frame = panel_to_long(panel).drop(columns=["market_index"], errors="ignore")
    frame.to_csv(path, index=False)
    return path
