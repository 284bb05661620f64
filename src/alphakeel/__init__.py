"""alphakeel: alpha on an even keel.

A deep multi-factor model for equities beside honest linear benchmarks, walked forward without
look-ahead and backtested with costs. The names below are loaded when first used, so that
``import alphakeel`` and ``alphakeel --help`` stay quick.

Examples
--------
>>> import alphakeel as ak
>>> panel = ak.load_bundled("sp500")
>>> panel
AssetPanel(n_observations=8313, n_assets=20, n_fields=3)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module that defines it.
_DOOR = {
    "AlphakeelError": "errors",
    "ConfigError": "errors",
    "DataError": "errors",
    "AllocationConfig": "config",
    "CleaningConfig": "config",
    "CostConfig": "config",
    "DataConfig": "config",
    "FactorConfig": "config",
    "LimitsConfig": "config",
    "LinearConfig": "config",
    "NetworkConfig": "config",
    "ReportConfig": "config",
    "ScreenConfig": "config",
    "StudyConfig": "config",
    "TargetConfig": "config",
    "WalkForwardConfig": "config",
    "load_config": "config",
    "load_bundled": "data.bundled",
    "simulate_market": "data.simulate",
    "load_panel": "data.files",
    "panel_from_long": "data.panel",
    "panel_from_wide": "data.panel",
    "clean": "data.cleaning",
    "FACTORS": "factors",
    "Factor": "factors.base",
    "compute_factors": "factors.base",
    "factor": "factors.custom",
    "load_factors": "custom_factors",
    "FactorScreen": "factors.screening",
    "DeepAlpha": "alpha",
    "explain_score": "models.explain",
    "LinearForecaster": "models.linear",
    "LSTMForecaster": "models.sequence",
    "GRUForecaster": "models.zoo",
    "AttentionForecaster": "models.zoo",
    "CNNLSTMForecaster": "models.zoo",
    "MLPForecaster": "models.zoo",
    "LightGBMForecaster": "models.boosting",
    "SupportVectorForecaster": "models.kernel",
    "backtest": "portfolio.backtest",
    "Ledger": "portfolio.backtest",
    "Study": "results",
    "load_data": "study",
    "run_study": "study",
    "run_audit": "audit",
    "save_run": "artifacts",
    "write_report": "report.html",
}

__all__ = ["__version__", *_DOOR]

if TYPE_CHECKING:
    from alphakeel.alpha import DeepAlpha
    from alphakeel.artifacts import save_run
    from alphakeel.audit import run_audit
    from alphakeel.config import (
        AllocationConfig,
        CleaningConfig,
        CostConfig,
        DataConfig,
        FactorConfig,
        LimitsConfig,
        LinearConfig,
        NetworkConfig,
        ReportConfig,
        ScreenConfig,
        StudyConfig,
        TargetConfig,
        WalkForwardConfig,
        load_config,
    )
    from alphakeel.custom_factors import load_factors
    from alphakeel.data.bundled import load_bundled
    from alphakeel.data.cleaning import clean
    from alphakeel.data.files import load_panel
    from alphakeel.data.panel import panel_from_long, panel_from_wide
    from alphakeel.data.simulate import simulate_market
    from alphakeel.errors import AlphakeelError, ConfigError, DataError
    from alphakeel.factors import FACTORS
    from alphakeel.factors.base import Factor, compute_factors
    from alphakeel.factors.custom import factor
    from alphakeel.factors.screening import FactorScreen
    from alphakeel.models.boosting import LightGBMForecaster
    from alphakeel.models.explain import explain_score
    from alphakeel.models.kernel import SupportVectorForecaster
    from alphakeel.models.linear import LinearForecaster
    from alphakeel.models.sequence import LSTMForecaster
    from alphakeel.models.zoo import (
        AttentionForecaster,
        CNNLSTMForecaster,
        GRUForecaster,
        MLPForecaster,
    )
    from alphakeel.portfolio.backtest import Ledger, backtest
    from alphakeel.report.html import write_report
    from alphakeel.results import Study
    from alphakeel.study import load_data, run_study


def __getattr__(name: str) -> Any:
    if name in _DOOR:
        return getattr(import_module(f"alphakeel.{_DOOR[name]}"), name)
    raise AttributeError(f"module 'alphakeel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
