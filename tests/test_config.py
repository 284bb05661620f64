"""Settings: explained, checked, refused by name, and the same after a round trip."""

from __future__ import annotations

import datetime as dt
import itertools
import tomllib
from pathlib import Path

import pytest

from alphakeel.config import (
    AllocationConfig,
    CleaningConfig,
    CostConfig,
    DataConfig,
    NetworkConfig,
    StudyConfig,
    TargetConfig,
    WalkForwardConfig,
    config_from_dict,
    config_to_dict,
    config_to_toml,
    load_config,
)
from alphakeel.errors import ConfigError


def test_round_trip_through_toml() -> None:
    config = StudyConfig(
        models=("linear",),
        seed=7,
        data=DataConfig(source='a "quoted"\\path\n', start=dt.date(2001, 2, 3)),
        target=TargetConfig(horizons=(1, 10)),
    )
    assert config_from_dict(tomllib.loads(config_to_toml(config))) == config


def test_round_trip_through_dict() -> None:
    config = StudyConfig(data=DataConfig(end=dt.date(2020, 1, 1)))
    assert config_from_dict(config_to_dict(config)) == config


def test_every_key_is_explained() -> None:
    lines = config_to_toml().splitlines()
    for before, line in itertools.pairwise(lines):
        if " = " in line and not line.startswith("#"):
            assert before.startswith("# "), line


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"sead": 1}, ["unknown setting sead", "seed"]),
        ({"network": {"drop_out": 0.1}}, ["network.drop_out", "network.dropout"]),
        ({"rebalance_every": 3}, ["rebalance_every", "walk_forward.rebalance_every"]),
        ({"network": {"dropout": -0.1}}, ["network.dropout", "at least 0"]),
        ({"network": {"hidden": 3.5}}, ["network.hidden", "whole number"]),
        ({"network": {"hidden": True}}, ["network.hidden", "whole number"]),
        ({"network": 3}, ["network must be a table"]),
        ({"network": {"ic_weight": 0, "mse_weight": 0}}, ["both zero"]),
        ({"models": ["lsmt"]}, ["models", "lsmt", "did you mean lstm"]),
        ({"models": "lstm"}, ["models must be a list"]),
        ({"models": []}, ["models is empty"]),
        ({"costs": {"cost_per_side": "cheap"}}, ["costs.cost_per_side", "number"]),
        ({"costs": {"cost_per_side": float("nan")}}, ["costs.cost_per_side", "finite"]),
        ({"target": {"horizons": []}}, ["target.horizons is empty"]),
        ({"target": {"horizons": [5, 5]}}, ["repeats"]),
        ({"target": {"lag": 0}}, ["target.lag", "at least 1"]),
        ({"data": {"start": "last year"}}, ["data.start", "YYYY-MM-DD"]),
        (
            {"walk_forward": {"test_start": "2015-01-01", "test_end": "2014-01-01"}},
            ["test_start 2015-01-01", "2014-01-01"],
        ),
    ],
)
def test_wrong_settings_are_refused_in_one_sentence(raw: dict, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_dict(raw)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "make",
    [
        lambda: AllocationConfig(quantile=0.0),
        lambda: CleaningConfig(gap_fill="spline"),
        lambda: CostConfig(cost_per_side=-0.1),
        lambda: NetworkConfig(n_seeds=0),
        lambda: WalkForwardConfig(refit_every=1),
    ],
)
def test_python_callers_get_the_same_checks(make) -> None:
    with pytest.raises(ConfigError):
        make()


def test_broken_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path / "absent.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("seed = = 3")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(bad)
    bad.write_bytes(b"\xff\xfe\x00s")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(bad)
