"""alphakeel: alpha on an even keel.

A deep multi-factor model for equities and linear benchmarks, fitted walk-forward without
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
_PUBLIC = {
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
    "simulate_market": "data.simulation",
    "load_panel": "data.loading",
    "panel_from_long": "data.panel",
    "panel_from_wide": "data.panel",
    "clean": "data.cleaning",
    "FACTORS": "factors",
    "Factor": "factors.base",
    "compute_factors": "factors.base",
    "factor": "factors.custom",
    "load_factors": "factors.custom",
    "model": "models.custom",
    "load_models": "model_factory",
    "FactorScreen": "factors.screening",
    "DeepAlpha": "skfolio_alpha",
    "explain_score": "models.importance",
    "LinearForecaster": "models.linear",
    "LSTMForecaster": "models.sequence",
    "GRUForecaster": "models.sequence",
    "AttentionForecaster": "models.sequence",
    "CNNLSTMForecaster": "models.sequence",
    "MLPForecaster": "models.sequence",
    "LightGBMForecaster": "models.tabular",
    "SupportVectorForecaster": "models.tabular",
    "run_backtest": "backtest.engine",
    "Ledger": "backtest.ledger",
    "Plan": "pipeline.plan",
    "Dataset": "pipeline.dataset",
    "prepare_dataset": "pipeline.dataset",
    "save_dataset": "storage.datasets",
    "load_dataset": "storage.datasets",
    "Study": "results",
    "load_data": "provenance",
    "run_study": "study",
    "run_audit": "audit",
    "save_run": "storage.runs",
    "open_run": "storage.saved_runs",
    "decide": "live.decision",
    "monitor_run": "live.monitor",
    "write_report": "report.page",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from alphakeel.audit import run_audit
    from alphakeel.backtest.engine import run_backtest
    from alphakeel.backtest.ledger import Ledger
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
    from alphakeel.data.bundled import load_bundled
    from alphakeel.data.cleaning import clean
    from alphakeel.data.loading import load_panel
    from alphakeel.data.panel import panel_from_long, panel_from_wide
    from alphakeel.data.simulation import simulate_market
    from alphakeel.errors import AlphakeelError, ConfigError, DataError
    from alphakeel.factors import FACTORS
    from alphakeel.factors.base import Factor, compute_factors
    from alphakeel.factors.custom import factor, load_factors
    from alphakeel.factors.screening import FactorScreen
    from alphakeel.live.decision import decide
    from alphakeel.live.monitor import monitor_run
    from alphakeel.model_factory import load_models
    from alphakeel.models.custom import model
    from alphakeel.models.importance import explain_score
    from alphakeel.models.linear import LinearForecaster
    from alphakeel.models.sequence import (
        AttentionForecaster,
        CNNLSTMForecaster,
        GRUForecaster,
        LSTMForecaster,
        MLPForecaster,
    )
    from alphakeel.models.tabular import LightGBMForecaster, SupportVectorForecaster
    from alphakeel.pipeline.dataset import Dataset, prepare_dataset
    from alphakeel.pipeline.plan import Plan
    from alphakeel.provenance import load_data
    from alphakeel.report.page import write_report
    from alphakeel.results import Study
    from alphakeel.skfolio_alpha import DeepAlpha
    from alphakeel.storage.datasets import load_dataset, save_dataset
    from alphakeel.storage.runs import save_run
    from alphakeel.storage.saved_runs import open_run
    from alphakeel.study import run_study


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"alphakeel.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'alphakeel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
