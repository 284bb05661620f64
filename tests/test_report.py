"""The report: complete, self-contained, deterministic, and safe with hostile text."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from alphakeel.config import ReportConfig, StudyConfig
from alphakeel.errors import DataError
from alphakeel.report import cells, figures, heatmaps, html, outcome, palette, verdict

HOSTILE = ("<script>alert(1)</script>", "</script><img src=x onerror=alert(2)>", "%{x} & \"q\" 'q'")
STRATEGIES = {"Equal weight": 0.0002, "Minimum variance": 0.0001, "Linear": 0.0002, "LSTM": 0.0004}


def fake_ledger(rng: np.random.Generator, n_dates: int, n_assets: int, drift: float) -> Any:
    weights = rng.dirichlet(np.full(n_assets, 0.4), n_dates) * rng.uniform(0.9, 1, (n_dates, 1))
    gross = drift + 0.008 * rng.standard_t(4, n_dates) * (1 + np.sin(np.arange(n_dates) / 90) / 2)
    costs = np.where(np.arange(n_dates) % 5 == 0, 2e-4, 0.0)
    net = gross - costs
    return SimpleNamespace(
        weights=weights,
        turnover=costs * 1000,
        costs=costs,
        gross_returns=gross,
        net_returns=net,
        cash=(1.0 - weights.sum(axis=1)) * np.cumprod(1.0 + net),
        wealth=np.cumprod(1.0 + net),
        initial=1.0,
    )


def fake_tables(names: list[str], horizons: tuple[int, ...], years: list[int]) -> dict[str, Any]:
    rng = np.random.default_rng(1)

    def with_interval(base: str, center: float, width: float) -> dict[str, Any]:
        value = center + width * rng.normal(size=len(names)) / 4
        return {base: value, f"{base}_low": value - width, f"{base}_high": value + width}

    index = pd.Index(names, name="strategy")
    table_1 = pd.DataFrame(
        {
            "annual_return": 0.1, "annual_volatility": 0.18,
            **with_interval("sharpe", 0.6, 0.5), **with_interval("max_drawdown", 0.3, 0.1),
            **with_interval("var_95", 0.015, 0.002),
            "cvar_95": 0.025, "calmar": 0.4, "sortino": 0.9, "turnover": 4.0, "cost_drag": 0.004,
            "beta": 0.95,
        },
        index=index,
    )  # fmt: skip
    change = pd.DataFrame(
        {
            f"{k}{s}": v
            for k in ("max_drawdown_change", "sharpe_difference", "var_95_change")
            for s, v in (("", 0.1), ("_low", -0.2), ("_high", 0.4), ("_p", 0.37))
        },
        index=index.drop("Linear"),
    )
    pairs = pd.MultiIndex.from_product([["Linear", "LSTM"], horizons], names=["model", "horizon"])
    ic = pd.DataFrame(
        {"ic": 0.01, "rank_ic": 0.012, "rank_ic_low": -0.01, "rank_ic_high": 0.034, "nw_t": 1.2,
         "icir": 0.1, "hit_rate": 0.52, "n": 120},
        index=pairs,
    )  # fmt: skip
    by_year = pd.DataFrame(
        [{"year": y, "strategy": n, "total_return": 0.05, "max_drawdown": 0.1}
         for y in years for n in names]
    )  # fmt: skip
    pairs = pd.MultiIndex.from_product(
        [["Linear", "LSTM"], ["factor_0", "<i>factor</i>"]], names=["model", "factor"]
    )
    drivers = pd.DataFrame(
        {"rank_ic_drop": 0.01, "rank_ic_drop_low": [-0.01, 0.002, np.nan, -0.003],
         "rank_ic_drop_high": 0.02, "score_share": 0.5, "top_lag": 1, "mean_lag": 2.5, "folds": 2},
        index=pairs,
    )  # fmt: skip
    limits = pd.DataFrame(
        {"model": "LSTM", "period": ["fold 1", "test"], "limit": "volatility", "allowed": 0.12,
         "trained": [0.13, np.nan], "realised": [0.12, 0.14], "excess": [0.0, 0.17]}
    )  # fmt: skip
    costs = pd.DataFrame({"annual_turnover": 4.0, "blocked_orders": 3}, index=index)
    return {"table_1": table_1, "table_1_difference": change, "ic": ic, "by_year": by_year,
            "costs": costs, "drivers": drivers, "limits": limits}  # fmt: skip


def fake_verdicts(n_factors: int, rng: np.random.Generator) -> pd.DataFrame:
    kept = rng.random(n_factors) < 0.6
    return pd.DataFrame(
        {
            "factor": [f"factor_{i}" for i in range(n_factors)], "family": "price",
            "coverage": 0.98, "ic": 0.01, "rank_ic": rng.normal(0, 0.02, n_factors), "nw_t": 1.5,
            "sign_stability": 0.75, "cluster": 1, "vif": 2.0,
            "verdict": np.where(kept, "kept", "left out: |t| below 1"), "kept": kept,
        }
    )  # fmt: skip


def fake_study(
    n_dates: int = 320, n_assets: int = 6, n_factors: int = 5, n_steps: int = 4, **changes: Any
) -> Any:
    """A study of random numbers, with every attribute that the report reads."""
    rng = np.random.default_rng(0)
    dates = np.arange(n_dates + 100) + np.datetime64("2010-01-04")
    config = StudyConfig(report=ReportConfig(bootstrap=100))
    horizons = config.target.horizons
    rows = np.arange(0, n_dates + 100, 5)
    tested = (rows >= 100)[:, None]
    names = [f"T{i}" for i in range(n_assets)]
    names[: len(HOSTILE)] = HOSTILE
    verdicts = fake_verdicts(n_factors, rng)
    fold = SimpleNamespace(
        train=(dates[0], dates[80]), test=(dates[100], dates[-1]), verdicts=verdicts,
        selected=dict.fromkeys(("linear", "lstm"), tuple(verdicts.loc[verdicts["kept"], "factor"])),
    )  # fmt: skip

    def model(name: str, label: str, history: list[dict[str, Any]]) -> Any:
        ic = np.where(tested, rng.normal(0.01, 0.1, (len(rows), len(horizons))), np.nan)
        return SimpleNamespace(name=name, label=label, ic=ic, rank_ic=ic, history=history)

    history = [
        {"fold": f, "seed": s, "step": 10 * k, "train_loss": 1.0,
         "train_ic": 0.1, "volatility_violation": 0.01, "volatility_multiplier": 0.5,
             "validation_rank_ic": 0.03 * (1 - np.exp(-k / 3)) + rng.normal(0, 0.004)}
        for f in range(2) for s in range(3) for k in range(n_steps)
    ]  # fmt: skip
    tables = fake_tables(list(STRATEGIES), horizons, sorted({int(str(d)[:4]) for d in dates}))
    study = SimpleNamespace(
        config=config,
        name="<b>hostile</b> data",
        dates=dates,
        asset_names=np.array(names),
        decision_rows=rows,
        test=slice(100, n_dates + 100),
        models={"linear": model("linear", "Linear", []), "lstm": model("lstm", "LSTM", history)},
        folds=(fold, fold),
        strategies={k: fake_ledger(rng, n_dates, n_assets, v) for k, v in STRATEGIES.items()},
        market_returns=0.01 * rng.standard_normal(n_dates),
        cleaning_counts=pd.DataFrame({"rule": ["spike"], "cells": [3], "tickers": [2]}),
        left_out=pd.DataFrame({"factor": ["size"], "reason": ["needs market_cap"]}),
        data_quality=pd.DataFrame({"field": ["adj_close"], "coverage": [0.99]}),
        notes=("Survivors only: </script><script>alert(3)</script>",),
        seconds={"clean": 0.5, "fit": 12.0},
        versions={"alphakeel": "0.1.0", "numpy": "2.4"},
        data_hash="ab" * 32,
        tables=lambda: tables,
    )
    vars(study).update(changes)
    return study


@pytest.fixture(scope="module")
def page() -> str:
    return html.render_report(fake_study())


class Tags(HTMLParser):
    """Collect start tags, and the text of scripts, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script" and data.strip():
            self.scripts.append(data)


class TestPage:
    def test_all_sections_are_there_and_in_the_contents(self, page: str) -> None:
        tags = Tags(page).tags
        ids = [a["id"] for t, a in tags if t == "section"]
        links = [a["href"] for t, a in tags if t == "a" and (a["href"] or "").startswith("#")]
        assert ids == [
            "summary", "performance", "course", "risk", "years", "forecasts", "factors", "drivers",
            "portfolio", "limits", "costs", "training", "data", "method", "cautions",
        ]  # fmt: skip
        assert [f"#{i}" for i in ids] == list(dict.fromkeys(links))

    def test_loads_nothing(self, page: str) -> None:
        for tag, attributes in Tags(page).tags:
            assert tag not in ("link", "iframe", "object", "embed", "base", "img"), tag
            assert "src" not in attributes
            assert not any(name.startswith("on") for name in attributes)
            assert "://" not in (attributes.get("href") or "")
        style = page[page.index("<style>") : page.index("</style>")]
        assert "url(" not in style
        assert "@import" not in style
        assert "default-src 'none'" in page

    def test_drawing_library_is_inlined_once(self, page: str) -> None:
        assert page.count("* plotly.js v") == 1
        assert len([t for t, _ in Tags(page).tags if t == "script"]) == 3

    def test_hostile_text_stays_text(self, page: str) -> None:
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert "&lt;b&gt;hostile&lt;/b&gt;" in page
        assert page.count("</script>") == 3

    def test_every_chart_has_its_place_and_words(self, page: str) -> None:
        parsed = Tags(page)
        stored = json.loads(parsed.scripts[0])
        charts = {a["id"]: a for t, a in parsed.tags if a.get("class") == "chart"}
        assert set(charts) == set(stored["figures"])
        assert all(a["role"] == "img" and len(a["aria-label"] or "") > 20 for a in charts.values())

    def test_same_study_same_text(self, page: str) -> None:
        assert html.render_report(fake_study()) == page

    def test_colour_of_a_strategy_is_the_same_everywhere(self, page: str) -> None:
        stored = json.loads(Tags(page).scripts[0])["figures"]
        colors = {
            trace["line"]["color"]
            for figure in stored.values()
            for trace in figure["data"]
            if trace.get("name") == "LSTM"
        }
        assert colors == {palette.KNOWN["LSTM"].color}

    def test_stays_small(self, page: str) -> None:
        assert len(page.encode()) < 6e6

    def test_linear_only_study_without_index_has_a_report(self) -> None:
        study = fake_study(n_dates=120, market_returns=None, notes=())
        study.models.pop("lstm")
        study.strategies.pop("LSTM")
        tables = fake_tables(list(study.strategies), study.config.target.horizons, [2010])
        tables["ic"] = tables["ic"].drop("LSTM", level=0)
        study.tables = lambda: tables
        text = html.render_report(study)
        assert "No model was trained step by step" in text
        assert "Linear is not distinguishable from equal weight" in text

    def test_many_stocks_show_holdings_and_breadth_only(self) -> None:
        parts = {s.key: s for s in html.build_sections(fake_study(n_assets=60))}
        assert [getattr(b, "key", b.kind) for b in parts["portfolio"].blocks] == [
            "breadth", "table",
        ]  # fmt: skip


class TestWriting:
    def test_writes_and_replaces(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "report.html"
        assert html.write_report(fake_study(), path) == path.resolve()
        path.write_text("old")
        html.write_report(fake_study(), path)
        assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
        assert [p.name for p in path.parent.iterdir()] == ["report.html"]

    def test_error_leaves_the_old_file_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "report.html"
        path.write_text("old")

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(html.os, "replace", full)
        with pytest.raises(DataError, match="No space left"):
            html.write_report(fake_study(), path)
        assert path.read_text() == "old"
        assert [p.name for p in tmp_path.iterdir()] == ["report.html"]

    @pytest.mark.parametrize("name", ["", "report.txt", "file/report.html"])
    def test_refuses_what_it_cannot_write(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "file").write_text("a file, not a folder")
        with pytest.raises(DataError, match="cannot write the report"):
            html.write_report(fake_study(), tmp_path / name)


class TestVerdict:
    @pytest.mark.parametrize(
        ("low", "high", "tone", "words"),
        [
            (-0.1, 0.5, "unclear", "not distinguishable"),
            (0.1, 0.5, "better", "beat"),
            (-0.5, -0.1, "worse", "did worse"),
            (0.0, 0.5, "unclear", "includes zero"),
            (np.nan, np.nan, "unclear", "not distinguishable"),
        ],
    )
    def test_claims_no_more_than_the_interval(
        self, low: float, high: float, tone: str, words: str
    ) -> None:
        table = pd.DataFrame(
            {"sharpe": 0.8, "max_drawdown": 0.3, "var_95": 0.02}, index=["LSTM", "Linear"]
        )
        difference = pd.DataFrame(
            {"sharpe_difference": 0.2, "sharpe_difference_low": low, "sharpe_difference_high": high,
             "max_drawdown_change_low": -0.1, "max_drawdown_change_high": 0.2,
             "var_95_change_low": 0.01, "var_95_change_high": 0.2},
            index=["LSTM"],
        )  # fmt: skip
        found = verdict.compare("LSTM", "Linear", table, difference, 0.95)
        assert found.tone == tone
        assert words in found.claim + found.detail
        assert "VaR 2.00\u202f% against 2.00\u202f%: larger." in found.detail
        assert "drawdown 30.0\u202f% against 30.0\u202f%: not told apart" in found.detail


class TestCells:
    @pytest.mark.parametrize(
        ("value", "kind", "text"),
        [
            (0.12345, "percent", "12.3\u202f%"),
            (-0.0123, "percent2", "\N{MINUS SIGN}1.23\u202f%"),
            (-1e-9, "ratio", "0.00"),
            (1e-9, "p", "< 0.01"),
            (0.95, "whole", "95\u202f%"),
            (0.4, "change", "+40\u202f%"),
            (float("nan"), "percent", "–"),
            (None, "text", "–"),
            (float("inf"), "ratio", "inf"),
            (np.True_, "flag", "yes"),
            (1234567, "count", "1,234,567"),
            ("<b>", "text", "<b>"),
        ],
    )
    def test_show(self, value: Any, kind: str, text: str) -> None:
        assert cells.show(value, kind) == text

    def test_intervals_become_small_print(self) -> None:
        frame = pd.DataFrame(
            {"sharpe": [0.5], "sharpe_low": [-0.1], "sharpe_high": [1.1], "sharpe_p": [0.2]},
            index=pd.Index(["LSTM"], name="strategy"),
        )
        table = cells.make_table(frame, "x")
        assert [c.label for c in table.head] == ["Strategy", "Sharpe"]
        assert table.rows[0][1].note == "\N{MINUS SIGN}0.10 to 1.10, p = 0.20"


class TestFigures:
    def test_long_arrays_are_stored_once_and_restored(self) -> None:
        days = np.arange(100) + np.datetime64("2020-01-01")
        values = np.linspace(1, 2, 100)
        values[3] = np.nan
        chart = figures.line_chart(days, {"a": values, "b": values})
        stored = json.loads(html.figures_json({"one": chart, "two": chart}))
        assert len(stored["arrays"]) == 2
        key = stored["figures"]["two"]["data"][1]["y"]["$"]
        restored = stored["arrays"][key]
        assert restored[3] is None
        rest = np.array(restored[:3] + restored[4:])
        np.testing.assert_allclose(rest, np.delete(values, 3), rtol=1e-5)

    def test_months_compound_days(self) -> None:
        days = np.arange(59) + np.datetime64("2021-01-01")
        returns = np.full(59, 0.01)
        table = heatmaps.month_heatmap(days, returns).data[0].z
        np.testing.assert_allclose(table[0][:2], [1.01**31 - 1, 1.01**28 - 1], rtol=1e-5)
        assert table[0][2] is None

    def test_inputs_stay_as_they_were(self) -> None:
        study = fake_study()
        before = {k: v.weights.copy() for k, v in study.strategies.items()}
        html.render_report(study)
        for name, book in study.strategies.items():
            np.testing.assert_array_equal(book.weights, before[name])

    def test_huge_names_are_cut(self) -> None:
        chart = figures.line_chart(
            np.array(["2020-01-01"], dtype="datetime64[D]"), {"N" * 5000: np.array([1.0])}
        )
        assert len(chart.data[0].name) < 40

    def test_trailing_var_does_not_see_its_own_day(self) -> None:
        rng = np.random.default_rng(3)
        returns = 0.01 * rng.standard_normal(400)
        limit = outcome.trailing_var(returns, 0.95, window=50)
        changed = returns.copy()
        changed[200:] = -0.9
        np.testing.assert_array_equal(
            limit[:201], outcome.trailing_var(changed, 0.95, window=50)[:201]
        )
        assert np.isnan(limit[:50]).all()

    def test_settings_travel_in_full(self, page: str) -> None:
        config = replace(fake_study().config, seed=987654)
        assert "seed = 987654" in html.render_report(fake_study(config=config))
        assert "rebalance_every" in re.sub(r"\s", "", page)
