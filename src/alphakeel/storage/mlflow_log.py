"""Runs in MLflow: settings as parameters, Table I as metrics, in an embedded SQLite database.

MLflow is optional (``pip install 'alphakeel[mlflow]'``), and is imported only where the setting
`report.mlflow` names a database.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alphakeel.config import config_to_dict
from alphakeel.errors import ConfigError, DataError
from alphakeel.files import slug
from alphakeel.storage.saved_runs import SavedRun

__all__ = ["log_run", "require_mlflow"]

EXPERIMENT = "alphakeel"
TAG = "alphakeel.run"
# MLflow cuts nothing: a longer value is an error there.
LONGEST = 500
FIGURES = (
    *("annual_return", "annual_volatility", "sharpe", "sharpe_low", "sharpe_high"),
    *("max_drawdown", "var_95", "turnover", "cost_drag"),
)
# Files of a run that are kept beside the database.
ARTIFACTS = ("study.toml", "run.json", "report.html")


def require_mlflow() -> None:
    """Refuse to go on without MLflow, before anything is computed."""
    missing = [name for name in ("mlflow", "sqlalchemy", "alembic") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"report.mlflow is set, and {missing[0]} is not installed: "
            "pip install 'alphakeel[mlflow]', or leave the setting out."
        )


def log_run(run: SavedRun, database: str | Path) -> str:
    """Log a saved run into an SQLite database of MLflow; a run that is there already stays.

    Parameters
    ----------
    run : SavedRun
    database : str or Path
        Made if it does not exist; ``mlflow ui --backend-store-uri sqlite:///<database>`` shows it.

    Returns
    -------
    str
        MLflow's id of the run.

    Raises
    ------
    ConfigError
        If MLflow is not installed.
    DataError
        If the database cannot be written.
    """
    require_mlflow()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    place = Path(database).resolve()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(tracking_uri=f"sqlite:///{place}")
        experiment = _experiment(client, place)
        known = client.search_runs([experiment], filter_string=f"tags.`{TAG}` = '{run.name}'")
        if known:
            return str(known[0].info.run_id)
        made = client.create_run(experiment, run_name=run.name, tags=_tags(run)).info.run_id
        for name, value in _parameters(run).items():
            client.log_param(made, name, value)
        for name, number in _metrics(run).items():
            client.log_metric(made, name, number)
        for file in ARTIFACTS:
            if (run.folder / file).is_file():
                client.log_artifact(made, str(run.folder / file))
        client.set_terminated(made)
    except (MlflowException, OSError) as error:
        raise DataError(f"cannot log the run into {place}: {error}") from error
    return str(made)


def _experiment(client: Any, place: Path) -> str:
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    beside = (place.parent / f"{place.stem}_artifacts").as_uri()
    return str(client.create_experiment(EXPERIMENT, artifact_location=beside))


def _tags(run: SavedRun) -> dict[str, str]:
    versions = {f"version.{name}": str(text) for name, text in run.about["versions"].items()}
    return {
        TAG: run.name,
        "data": str(run.about["name"]),
        "data_hash": str(run.about["data_hash"]),
        "recommended": run.recommendation().strategy,
        **versions,
    }


def _parameters(run: SavedRun) -> dict[str, str]:
    out = {}
    for section, values in config_to_dict(run.config).items():
        own = values if isinstance(values, Mapping) else {"": values}
        for key, value in own.items():
            out[f"{section}.{key}".rstrip(".")] = str(value)[:LONGEST]
    return out


def _metrics(run: SavedRun) -> dict[str, float]:
    out = {}
    for row in run.table("table_1").to_dict("records"):
        for figure in FIGURES:
            value = row.get(figure)
            if isinstance(value, (int, float)) and math.isfinite(value):
                out[f"{slug(str(row['strategy']))}.{figure}"] = float(value)
    return out
