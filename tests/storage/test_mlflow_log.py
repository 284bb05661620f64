"""MLflow, for real where it is installed."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

from alphakeel.errors import ConfigError
from alphakeel.storage.mlflow_log import log_run, require_mlflow
from alphakeel.storage.runs import save_run
from alphakeel.storage.saved_runs import list_runs, open_run
from helpers import run_command
from small_study import PRICES, study_of

INSTALLED = all(find_spec(name) for name in ("mlflow", "sqlalchemy", "alembic"))


@pytest.mark.skipif(INSTALLED, reason="MLflow is installed")
def test_without_mlflow_it_is_said_before_anything_is_computed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not installed"):
        require_mlflow()
    settings = tmp_path / "study.toml"
    settings.write_text(f'[report]\nmlflow = "{tmp_path / "mlflow.db"}"\n')
    told = run_command("run", "--config", settings, "--out", tmp_path / "runs")
    assert told.exit_code == 2
    assert "alphakeel[mlflow]" in told.output
    assert list_runs(tmp_path / "runs") == []


@pytest.mark.skipif(not INSTALLED, reason="MLflow is not installed: pip install alphakeel[mlflow]")
@pytest.mark.filterwarnings("ignore")
def test_a_run_is_logged_once(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    study = study_of(PRICES)
    run = open_run(save_run(study, tmp_path / "runs"))
    database = tmp_path / "log" / "mlflow.db"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = log_run(run, database)
        assert log_run(run, database) == made
        client = MlflowClient(tracking_uri=f"sqlite:///{database}")
        logged = client.get_run(made)
    assert logged.data.params["allocation.quantile"] == str(study.config.allocation.quantile)
    sharpe = study.table_1().loc["Linear", "sharpe"]
    assert logged.data.metrics["linear.sharpe"] == pytest.approx(sharpe)
    assert logged.data.tags["data_hash"] == study.data_hash
    assert logged.info.status == "FINISHED"
    kept = {path.name for path in (tmp_path / "log").rglob("*") if path.is_file()}
    assert {"mlflow.db", "study.toml", "run.json"} <= kept


@pytest.mark.skipif(not INSTALLED, reason="MLflow is not installed: pip install alphakeel[mlflow]")
def test_the_setting_turns_it_on(tmp_path: Path) -> None:
    settings = tmp_path / "study.toml"
    settings.write_text(
        'models = ["linear"]\n[report]\nn_bootstrap = 100\ndrivers = false\nsensitivity = false\n'
        f'mlflow = "{tmp_path / "mlflow.db"}"\n'
    )
    told = run_command(
        "run", "--data", "synthetic", "--config", settings, "--out", tmp_path / "runs", "--quiet"
    )
    assert told.exit_code == 0, told.output
    assert (tmp_path / "mlflow.db").is_file()
