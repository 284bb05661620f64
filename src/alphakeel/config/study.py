"""Settings of a study: small frozen dataclasses, read from TOML, every key explained.

A key is the keyword of the function or class that it sets; those receive plain numbers and never
see these classes. Help text, valid range and default stand together, so that `alphakeel init`,
the checks and the error messages cannot drift apart.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphakeel.config.data import (
    CleaningConfig,
    DataConfig,
    FactorConfig,
    ScreenConfig,
)
from alphakeel.config.models import (
    COMBINED,
    LIMITED,
    MODELS,
    BoostingConfig,
    CombinedConfig,
    LimitsConfig,
    LinearConfig,
    NetworkConfig,
    TargetConfig,
    WalkForwardConfig,
)
from alphakeel.config.portfolio import (
    AllocationConfig,
    CostConfig,
    OverlayConfig,
    ReportConfig,
)
from alphakeel.errors import ConfigError
from alphakeel.settings import (
    Section,
    build,
    common_option,
    option,
    plain_values,
    read_toml,
    section,
    to_toml,
)

__all__ = [
    "RENAMED",
    "StudyConfig",
    "config_from_dict",
    "config_to_dict",
    "config_to_toml",
    "fingerprinted",
    "load_config",
]

# The questions that a settings file answers, in its order.
_MODELS = "Which models, and how hard are they trained?"
_DATA = "Which data?"
_TEST = "When is it tested?"
_HOLD = "What do I hold?"
_RISK = "What may it risk?"
_COST = "What does trading cost?"
_REPORT = "What is reported?"

# Keys that had another name in an earlier version, and their name now.
RENAMED = {
    "network.seeds": "network.n_seeds",
    "boosting.trees": "boosting.n_trees",
    "allocation.holding": "allocation.holding_period",
    "overlay.volatility": "overlay.target_volatility",
    "overlay.var_95": "overlay.var_cap",
    "costs.per_side": "costs.cost_per_side",
    "report.bootstrap": "report.n_bootstrap",
    "walk_forward.rebalance_every": "walk_forward.rebalance",
}

# Keys that a later version added, and the value that is as it was before.
ADDED = {"custom_models": "", "network.rows": "decisions", "data.columns": []}


@dataclass(frozen=True)
class StudyConfig(Section):
    """Everything that decides a study's numbers, the data apart.

    Parameters
    ----------
    models : tuple of str
        Any of `MODELS`, ``"combined"``, and models of the file `custom_models`. The linear
        benchmark always runs; ``"lightgbm"`` needs an extra package.
    custom_models : str
        Path of a Python file with models of the user's own, see `alphakeel.load_models`; it is run
        if `models` names one of them.
    seed : int
        The one seed from which every random draw follows.
    jobs : int
        Fits run at the same time; it does not change any number.
    target, linear, network, boosting, combined, data, cleaning, factors, screen : sections
    walk_forward, allocation, limits, overlay, costs, report : sections
        Each a frozen dataclass of its own.

    Raises
    ------
    ConfigError
        If a value has the wrong type, is out of range, or contradicts another.

    Examples
    --------
    >>> config = StudyConfig(models=("linear",), costs=CostConfig(cost_per_side=0.0005))
    >>> config.costs.cost_per_side
    0.0005
    """

    models: tuple[str, ...] = common_option(
        ("linear", "lstm", "lstm_limited"),
        "models: linear (always), lstm, gru, attention, cnn_lstm (each also _limited), mlp, "
        "lightgbm, svr, combined, your own",
        question=_MODELS,
    )
    custom_models: str = option(
        "", "path of a Python file with models of your own (empty: none)", question=_MODELS
    )
    seed: int = option(0, "seed of every random draw", low=0, question=_MODELS)
    jobs: int = common_option(
        2, "fits that run at the same time; it changes no number", low=1, question=_MODELS
    )
    target: TargetConfig = section(TargetConfig, _MODELS)
    linear: LinearConfig = section(LinearConfig, _MODELS)
    network: NetworkConfig = section(NetworkConfig, _MODELS)
    boosting: BoostingConfig = section(BoostingConfig, _MODELS)
    combined: CombinedConfig = section(CombinedConfig, _MODELS)
    data: DataConfig = section(DataConfig, _DATA)
    cleaning: CleaningConfig = section(CleaningConfig, _DATA)
    factors: FactorConfig = section(FactorConfig, _DATA)
    screen: ScreenConfig = section(ScreenConfig, _DATA)
    walk_forward: WalkForwardConfig = section(WalkForwardConfig, _TEST)
    allocation: AllocationConfig = section(AllocationConfig, _HOLD)
    limits: LimitsConfig = section(LimitsConfig, _RISK)
    overlay: OverlayConfig = section(OverlayConfig, _RISK)
    costs: CostConfig = section(CostConfig, _COST)
    report: ReportConfig = section(ReportConfig, _REPORT)

    def _check(self) -> None:
        if not self.models:
            raise ConfigError(f"models is empty: name at least one of {', '.join(MODELS)}.")
        self._refuse_unknown("models", self.models, (*MODELS, COMBINED))
        self._refuse_unknown("combined.members", self.combined.members, MODELS)
        if COMBINED in self.models:
            self._check_combined()
        if self.target.networks == "residuals" and self.linear.method == "auto":
            raise ConfigError(
                'target.networks = "residuals" needs to know which linear model leaves them: name '
                "the linear.method."
            )
        if self.target.networks == "residuals" and self.network.rows == "days":
            raise ConfigError(
                "residuals (target.networks) are known on decisions only, and network.rows = "
                '"days" learns from every day: leave one of the two at its default.'
            )
        if self.costs.preset == "cn":
            self._check_china()

    def _refuse_unknown(self, where: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
        """Refuse a model of ours that does not exist; what a file has is known once it was run."""
        for name in names:
            if name in known or (self.custom_models and name != COMBINED):
                continue
            near = difflib.get_close_matches(name, known, 1)
            hint = (
                f"did you mean {near[0]}?"
                if near
                else "name the file of your own in custom_models."
            )
            raise ConfigError(f"{where} must be one of {', '.join(known)}, not {name!r}; {hint}")

    @property
    def own_models(self) -> tuple[str, ...]:
        """Those of `models` that are the user's own."""
        return tuple(name for name in dict.fromkeys(self.models) if name not in (*MODELS, COMBINED))

    @property
    def members(self) -> tuple[str, ...]:
        """The models whose scores are combined; empty without ``"combined"``."""
        if COMBINED not in self.models:
            return ()
        fitted = dict.fromkeys(("linear", *(name for name in self.models if name != COMBINED)))
        return self.combined.members or tuple(name for name in fitted if name not in LIMITED)

    def _check_combined(self) -> None:
        """A member is one of the models of the study: nothing is fitted that is not reported."""
        for name in self.members:
            if name not in ("linear", *self.models):
                raise ConfigError(
                    f'combined.members names "{name}", which is not in models: add it there, so '
                    "that it is fitted and reported by itself too."
                )
        if len(self.members) < 2:
            raise ConfigError(
                f'models has "{COMBINED}" and there is nothing to combine with '
                f"{self.members[0]}: add a model, or name models under limits in combined.members."
            )

    def _check_china(self) -> None:
        """Which A shares may be bought on margin or sold short is a dated list that we lack."""
        borrows = None
        if self.allocation.neutral is not None:
            borrows = f'allocation.neutral = "{self.allocation.neutral}"'
        elif self.overlay.max_exposure > 1.0:
            borrows = f"overlay.max_exposure = {self.overlay.max_exposure:g}"
        if borrows is not None:
            raise ConfigError(
                f'{borrows} borrows, and costs.preset = "cn" does not know which A shares may be '
                "bought on margin or sold short on which day: leave it out, or take another preset."
            )


def load_config(path: str | Path) -> StudyConfig:
    """Read settings from a TOML file.

    Keys that the file leaves out keep their defaults. ConfigError if it cannot be read or parsed,
    or a key is unknown, mistyped or out of range.
    """
    return config_from_dict(read_toml(path))


def config_from_dict(raw: typing.Mapping[str, Any]) -> StudyConfig:
    """Build settings from nested mappings, refusing unknown and renamed keys by name."""
    return typing.cast(StudyConfig, build(StudyConfig, raw, RENAMED))


def config_to_dict(config: StudyConfig) -> dict[str, Any]:
    """Settings as nested plain values (dates as ISO text), ready for JSON."""
    return typing.cast("dict[str, Any]", plain_values(config))


def fingerprinted(
    settings: typing.Mapping[str, Any], *, without: Collection[str] = ()
) -> dict[str, Any]:
    """Plain settings for a fingerprint, but those of the root `without` which it is wanted.

    A key that a later version added does not count at the value that is as it was before, so that
    checkpoints and trials of earlier versions are found.

    Examples
    --------
    >>> "rows" in fingerprinted(config_to_dict(StudyConfig()))["network"]
    False
    """
    kept = {name: value for name, value in settings.items() if name not in without}
    for path, before in ADDED.items():
        section, _, key = path.rpartition(".")
        if not section and kept.get(key) == before:
            del kept[key]
        own = kept.get(section)
        if isinstance(own, dict) and own.get(key) == before:
            kept[section] = {name: value for name, value in own.items() if name != key}
    return kept


def config_to_toml(
    config: StudyConfig | None = None, *, every: bool = True, without: tuple[str, ...] = ()
) -> str:
    """Settings as a TOML file in which every key is explained; by default all defaults.

    `every=False` leaves out the keys that few people change, unless they are not at their default.
    Reading the text back gives the same settings; keys without a value are commented out, keys of
    the root `without` which it is wanted are left out.
    """
    title = ["Settings of an alphakeel study."]
    if every:
        title[0] += " Every key is shown with its default or chosen value."
    else:
        title[0] += " These are the keys that most people change."
        title.append(
            "A key that is left out keeps its default. All keys: alphakeel init --all all.toml"
        )
    return to_toml(config or StudyConfig(), title, every=every, without=without)
