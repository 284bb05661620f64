"""Settings: explained, checked, refused by name, and the same after a round trip."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
import re
import tomllib
import types
import typing
from pathlib import Path

import pytest

from alphakeel.config import (
    RENAMED,
    AllocationConfig,
    CleaningConfig,
    CostConfig,
    DataConfig,
    LimitsConfig,
    NetworkConfig,
    OverlayConfig,
    StudyConfig,
    TargetConfig,
    WalkForwardConfig,
    config_from_dict,
    config_to_dict,
    config_to_toml,
    load_config,
)
from alphakeel.errors import ConfigError
from alphakeel.settings import Section

KEY = re.compile(r"^(?:# )?(\w+) =")


def keys_of(text: str) -> list[str]:
    """Full names of all keys of a settings file, those commented out included."""
    found, prefix = [], ""
    for line in text.splitlines():
        if line.startswith("["):
            prefix = line[1 : line.index("]")] + "."
        elif match := KEY.match(line):
            found.append(prefix + match[1])
    return found


def options_of(config: StudyConfig) -> dict[str, dataclasses.Field]:
    """Every option by its full name."""
    found = {}
    for spec in dataclasses.fields(config):
        value = getattr(config, spec.name)
        if isinstance(value, Section):
            found |= {f"{spec.name}.{own.name}": own for own in dataclasses.fields(value)}
        else:
            found[spec.name] = spec
    return found


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


class TestTwoFiles:
    def test_both_files_give_the_same_settings(self) -> None:
        for every in (False, True):
            text = config_to_toml(every=every)
            assert config_from_dict(tomllib.loads(text)) == StudyConfig()

    def test_the_short_file_has_the_common_keys_and_the_long_one_all(self) -> None:
        short, long = keys_of(config_to_toml(every=False)), keys_of(config_to_toml())
        options = options_of(StudyConfig())
        assert 20 <= len(short) <= 30
        assert short == [name for name in long if name in short]
        assert set(short) == {name for name, own in options.items() if own.metadata["common"]}
        assert sorted(long) == sorted(options)

    def test_a_chosen_value_is_never_left_out(self) -> None:
        config = StudyConfig(seed=7, limits=LimitsConfig(cvar_95=0.02, volatility=None))
        text = config_to_toml(config, every=False)
        assert config_from_dict(tomllib.loads(text)) == config
        assert "limits.max_drawdown" not in keys_of(text)

    @pytest.mark.parametrize("every", [False, True])
    def test_every_question_is_asked_once(self, every: bool) -> None:
        lines = config_to_toml(every=every).splitlines()
        asked = [line for line in lines if line.startswith("# ====")]
        assert len(asked) == len(set(asked)) == 7
        assert all(line.endswith("? ====") for line in asked)
        headers = [line for line in lines if line.startswith("[")]
        assert len(headers) == len(set(headers))

    def test_the_short_file_says_how_to_get_all_keys(self) -> None:
        assert "alphakeel init --all" in "".join(config_to_toml(every=False).splitlines()[:3])

    @pytest.mark.parametrize("name", options_of(StudyConfig()))
    def test_every_explanation_stands_by_itself(self, name: str) -> None:
        text = options_of(StudyConfig())[name].metadata["help"]
        assert not re.match(r"\.\.\.|(it|its|they|this|these|and|or|but|how it)\b", text), text
        assert not re.search(r"(\.\.\.|[,;:.]|\b(it|its|this|these|both|above|below))$", text), text
        assert "\n" not in text
        line = next(x for x in config_to_toml().splitlines() if x.startswith(f"# {text}"))
        assert len(line) <= 120


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_key_is_refused_with_its_new_name(old: str, new: str) -> None:
    section, key = old.split(".")
    sentence = re.escape(f"setting {old} is now called {new}.")
    with pytest.raises(ConfigError, match=f"^{sentence}$"):
        config_from_dict({section: {key: 1}})
    options = options_of(StudyConfig())
    assert new in options
    assert old not in options


class TestKeywords:
    def test_all_some_and_by_prefix(self) -> None:
        overlay = OverlayConfig(brake_floor=0.5)
        assert list(overlay.keywords()) == [spec.name for spec in dataclasses.fields(overlay)]
        assert overlay.keywords(only=("band", "elsewhere")) == {"band": 0.1}
        assert "band" not in overlay.keywords(without=("band",))
        assert overlay.keywords(prefix="brake_") == {
            "start": 0.1,
            "full": 0.2,
            "floor": 0.5,
            "halflife": 126.0,
        }

    def test_the_root_gives_its_own_options_only(self) -> None:
        assert set(StudyConfig().keywords()) == {"models", "custom_models", "seed", "jobs"}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"sead": 1}, ["unknown setting sead", "seed"]),
        ({"network": {"drop_out": 0.1}}, ["network.drop_out", "network.dropout"]),
        ({"rebalance": 3}, ["rebalance", "walk_forward.rebalance"]),
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
        (
            {"allocation": {"method": "enhanced_index", "neutral": "dollar"}},
            ["allocation.neutral", "enhanced_index"],
        ),
        ({"allocation": {"hedge": True, "neutral": "beta"}}, ["allocation.hedge"]),
        (
            {
                "allocation": {
                    "method": "enhanced_index",
                    "benchmark": "index",
                    "active_weight_limit": 0.01,
                }
            },
            ["allocation.active_weight_limit", "only the returns are known"],
        ),
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


def optional_settings() -> list[tuple[str, str]]:
    """Every setting that may be "none", as (section, key)."""
    found = []
    for section in dataclasses.fields(StudyConfig):
        own = getattr(StudyConfig(), section.name)
        if dataclasses.is_dataclass(own):
            hints = typing.get_type_hints(type(own))
            found += [
                (section.name, key.name)
                for key in dataclasses.fields(own)
                if isinstance(hints[key.name], types.UnionType)
                and type(None) in hints[key.name].__args__
            ]
    return found


@pytest.mark.parametrize(("section", "key"), optional_settings())
def test_none_survives_a_settings_file(section: str, key: str) -> None:
    chosen = config_from_dict({section: {key: "none"}})
    assert getattr(getattr(chosen, section), key) is None
    assert config_from_dict(tomllib.loads(config_to_toml(chosen))) == chosen
