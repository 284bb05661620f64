"""Settings of a study: small frozen dataclasses, read from TOML, every key explained.

A key is the keyword of the function or class that it sets; those receive plain numbers and never
see these classes. Help text, valid range and default stand together, so that `alphakeel init`,
the checks and the error messages cannot drift apart.
"""

from alphakeel.config.data import (
    CleaningConfig,
    DataConfig,
    FactorConfig,
    ScreenConfig,
)
from alphakeel.config.models import (
    COMBINED,
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
from alphakeel.config.study import (
    RENAMED,
    StudyConfig,
    config_from_dict,
    config_to_dict,
    config_to_toml,
    fingerprinted,
    load_config,
)

__all__ = [
    "AllocationConfig",
    "BoostingConfig",
    "COMBINED",
    "CombinedConfig",
    "CleaningConfig",
    "CostConfig",
    "DataConfig",
    "FactorConfig",
    "LimitsConfig",
    "LinearConfig",
    "MODELS",
    "NetworkConfig",
    "OverlayConfig",
    "RENAMED",
    "ReportConfig",
    "ScreenConfig",
    "StudyConfig",
    "TargetConfig",
    "WalkForwardConfig",
    "config_from_dict",
    "config_to_dict",
    "config_to_toml",
    "fingerprinted",
    "load_config",
]
