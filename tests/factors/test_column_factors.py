"""Columns of a user's own as factors: as they stand, in own factors, and in every command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import alphakeel as ak
from alphakeel.config import (
    CleaningConfig,
    DataConfig,
    FactorConfig,
    ReportConfig,
    StudyConfig,
    config_to_dict,
    fingerprinted,
)
from alphakeel.errors import ConfigError, DataError
from alphakeel.factors import FACTORS
from alphakeel.factors.base import compute_factors
from alphakeel.factors.custom import column_factors, fault_of, load_factors
from alphakeel.pipeline.plan import Plan
from alphakeel.storage.runs import save_run
from helpers import assert_same_until, run_command

OWN = """
import numpy as np
from alphakeel import factor

@factor(lookback=6, fields=("short_interest", "adj_close"))
def covering(short_interest, adj_close):
    "Change of the short interest over 5 days."
    out = np.full_like(short_interest, np.nan)
    out[5:] = short_interest[5:] - short_interest[:-5]
    return out
"""
COLUMNS = ("Short Interest", "Analyst Revision")


def table() -> pd.DataFrame:
    """Prices of 16 stocks, with a column that tells something of the next week's returns."""
    panel = ak.simulate_market(n_assets=16, n_dates=420, seed=4).panel
    price, rng = np.asarray(panel["adj_close"]), np.random.default_rng(0)
    ahead = np.full(price.shape, np.nan)
    ahead[:-5] = price[5:] / price[:-5] - 1.0
    known = ~np.isnan(price)
    rows, columns = np.nonzero(known)
    frame = {
        "date": panel.observations[rows].astype("datetime64[s]"),
        "ticker": panel.asset_names[columns],
        "adj_close": price[known],
        "Short Interest": rng.uniform(0.0, 9.0, len(rows)).round(3),
        "Analyst Revision": np.nan_to_num(ahead[known]) + rng.normal(0.0, 0.05, len(rows)),
    }
    frame["Analyst Revision"][rng.random(len(rows)) < 0.1] = np.nan
    return pd.DataFrame(frame)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("columns")
    (place / "own.py").write_text(OWN)
    table().to_csv(place / "p.csv", index=False)
    table().drop(columns="Analyst Revision").to_csv(place / "lacking.csv", index=False)
    (place / "study.toml").write_text(
        f"[data]\nsource = 'p.csv'\ncolumns = {json.dumps(COLUMNS)}\n[factors]\ncustom = 'own.py'\n"
    )
    return place


def settings(folder: Path) -> StudyConfig:
    kept = [f.name for f in FACTORS if f.family != "reversal"]
    return StudyConfig(
        models=("linear",),
        data=DataConfig(source=str(folder / "p.csv"), columns=COLUMNS),
        cleaning=CleaningConfig(min_history=60),
        factors=FactorConfig(custom=str(folder / "own.py"), exclude=tuple(kept)),
        report=ReportConfig(drivers=False, n_bootstrap=100),
        jobs=1,
    )


class TestFactors:
    def test_a_column_as_it_stands(self, folder: Path) -> None:
        panel = ak.load_panel(folder / "p.csv", columns=COLUMNS)
        interest, revision = column_factors(COLUMNS)
        assert (interest.name, revision.name) == ("short_interest", "analyst_revision")
        assert (interest.family, interest.lookback, interest.formula) == (
            *("own column", 1, "as given"),
        )
        values = compute_factors(panel, (interest, revision)).values
        for k, name in enumerate(("short_interest", "analyst_revision")):
            np.testing.assert_array_equal(values[..., k], panel[name].astype(np.float32))
        assert fault_of(revision, panel, values[..., 1]) is None

    def test_names_of_factors_are_refused(self, folder: Path) -> None:
        with pytest.raises(ConfigError, match=r"built-in factor has that name.*my_reversal_5"):
            column_factors(["Reversal 5"])
        path = folder / "same.py"
        path.write_text(OWN.replace("def covering", "def short_interest"))
        with pytest.raises(ConfigError, match=r"has the name of a column in data\.columns"):
            load_factors(path, columns=COLUMNS)

    def test_fields_of_own_factors(self, folder: Path) -> None:
        told = r"'short_interest', which is neither a field of the panel nor in data\.columns: add"
        with pytest.raises(ConfigError, match=told):
            load_factors(folder / "own.py")
        assert len(load_factors(folder / "own.py", columns=["Short Interest"]).factors) == 1
        assert len(load_factors(folder / "own.py", fields=["short_interest"]).factors) == 1

    def test_a_panel_without_the_column(self, folder: Path) -> None:
        panel = ak.load_panel(folder / "p.csv", columns=["Short Interest"])
        with pytest.raises(DataError, match="'analyst_revision', and the panel has no such field"):
            Plan.of(panel, settings(folder))

    def test_bundled_data_have_no_columns_to_keep(self) -> None:
        config = StudyConfig(data=DataConfig(columns=("esg",)))
        with pytest.raises(ConfigError, match=r"data\.columns applies to files; sp500 is taken"):
            ak.load_data(config)


def test_the_setting_counts_in_names_of_runs_only_where_it_is_given() -> None:
    plain = fingerprinted(config_to_dict(StudyConfig()))["data"]
    given = fingerprinted(config_to_dict(StudyConfig(data=DataConfig(columns=("esg",)))))["data"]
    assert given == {**plain, "columns": ["esg"]}


class TestStudy:
    def test_screened_held_and_decided_without_a_look_ahead(self, folder: Path) -> None:
        panel, config, name, notes = ak.load_data(settings(folder))
        study = ak.run_study(panel, config, name=name, notes=notes)
        verdicts = study.folds[0].verdicts.set_index("factor")
        assert {"short_interest", "covering"} <= set(verdicts.index)
        assert verdicts.loc["analyst_revision", "family"] == "own column"
        assert verdicts.loc["analyst_revision", "kept"]

        later = table()
        row = study.test.start + 40
        after = later["date"] > study.dates[row]
        noise = np.random.default_rng(1).normal(size=after.sum())
        later.loc[after, list(COLUMNS)] = np.stack([noise, noise[::-1]], axis=1)
        later.to_csv(folder / "later.csv", index=False)
        other, *_ = ak.load_data(
            replace(config, data=replace(config.data, source=str(folder / "later.csv")))
        )
        again = ak.run_study(other, config, name=name, notes=notes)
        assert study.data_hash != again.data_hash
        assert_same_until(study, again, row, "weights", "net_returns")

        run = save_run(study, folder / "runs")
        common = ("--max-age", 10**5, "--strategy", "linear")
        done = run_command("today", run, "--data", folder / "p.csv", "--json", *common)
        assert done.exit_code == 0, done.output
        assert "analyst_revision" in done.output
        done = run_command("today", run, "--data", folder / "lacking.csv", *common)
        assert done.exit_code == 2
        told = "data.columns names 'analyst_revision', and lacking.csv has no such column: "
        assert told in " ".join(done.output.split())

    def test_check_reads_the_settings(self, folder: Path) -> None:
        done = run_command("check", "--config", folder / "study.toml", "--json")
        assert done.exit_code == 0, done.output
        report = json.loads(done.output)
        assert ["Short Interest", "short_interest"] in report["columns"]
        done = run_command(
            *("check", folder / "lacking.csv", "--config", folder / "study.toml", "--quiet")
        )
        assert done.exit_code == 2
        assert run_command("check").exit_code == 2
