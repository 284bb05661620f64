"""The report: complete, self-contained, deterministic, and safe with hostile text."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from alphakeel.config import CostConfig, OverlayConfig, ReportConfig, StudyConfig
from alphakeel.errors import DataError
from alphakeel.evaluation import active, attribution, performance, risk
from alphakeel.evaluation.recommendation import Recommendation
from alphakeel.evaluation.regimes import (
    MarketRegimes,
    agreement_table,
    find_regimes,
    lag_table,
    regime_table,
)
from alphakeel.evaluation.risk import stress
from alphakeel.model_factory import under_overlay
from alphakeel.models.custom import CustomModels
from alphakeel.portfolio.overlay import overlay
from alphakeel.report import charts, findings, method, risk_charts, style, table_cells
from alphakeel.report import page as report_page
from alphakeel.report import performance as performance_section
from alphakeel.report import risk as risk_section
from alphakeel.report.sections import View
from alphakeel.risk.regimes import label_of_day
from alphakeel.risk.value_at_risk import TailForecast

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
        invested=weights.sum(axis=1),
        costs=costs,
        gross_returns=gross,
        net_returns=net,
        riskless=np.zeros(n_dates),
        excess_returns=net,
        cash=(1.0 - weights.sum(axis=1)) * np.cumprod(1.0 + net),
        wealth=np.cumprod(1.0 + net),
        initial=1.0,
    )


def fake_tables(names: list[str], horizons: tuple[int, ...], years: list[int]) -> dict[str, Any]:
    """Tables of invented numbers, for the strategies without and with the overlay."""
    names = [*names, *map(under_overlay, names)]
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
        }
        | {"sharpe_change": 0.17},
        index=index.drop("Linear"),
    )
    fair = change[[name.endswith("overlay") for name in change.index]].drop("Linear + overlay")
    pairs = pd.MultiIndex.from_product([["Linear", "LSTM"], horizons], names=["model", "horizon"])
    ic = pd.DataFrame(
        {"ic": 0.01, "rank_ic": 0.012, "rank_ic_low": -0.01, "rank_ic_high": 0.034, "nw_t": 1.2,
         "icir": 0.1, "hit_rate": 0.52, "n": 120},
        index=pairs,
    )  # fmt: skip
    paired = pd.DataFrame(
        {f"{m}{end}": v for m in ("ic", "rank_ic")
         for end, v in (("", 0.03), ("_benchmark", 0.02), ("_difference", 0.01),
                        ("_difference_low", -0.01), ("_difference_high", 0.03),
                        ("_difference_t", 1.0), ("_difference_p", 0.3))} | {"n": 120},
        index=pd.MultiIndex.from_product([["LSTM"], (*horizons, 60)], names=["model", "horizon"]),
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
         "trained": [0.13, np.nan], "promised": [0.12, 0.12], "safety": [1.04, np.nan],
         "realised": [np.nan, 0.14], "excess": [np.nan, 0.17]}
    )  # fmt: skip
    costs = pd.DataFrame({"annual_turnover": 4.0, "blocked_orders": 3}, index=index)
    return {"table_1": table_1, "table_1_difference": change, "table_1_fair": fair, "ic": ic,
            "ic_differences": paired, "combined": pd.DataFrame(), "choices": pd.DataFrame(),
            "compositions": pd.DataFrame(),
            "by_year": by_year, "costs": costs, "drivers": drivers, "limits": limits}  # fmt: skip


BOOT = {"level": 0.95, "n_bootstrap": 100, "seed": 0}


def fake_portfolios(
    ledgers: Mapping[str, Any], rng: np.random.Generator, *, empty: bool = False
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Portfolios of random ledgers, the same with the overlay, and the tables made of them."""
    n_dates, n_assets = next(iter(ledgers.values())).weights.shape
    dates = np.arange(n_dates) + np.datetime64("2010-04-14")
    overlaid = {name: fake_ledger(rng, n_dates, n_assets, 0.0001) for name in ledgers}
    every = {**ledgers, **{under_overlay(name): ledger for name, ledger in overlaid.items()}}
    plans = {
        name: overlay(
            ledger.net_returns,
            decided=np.arange(n_dates) % 5 == 0,
            target_volatility=0.08,
            volatility=np.linspace(0.05, 0.2, n_dates),
        )
        for name, ledger in ledgers.items()
    }
    forecast = {
        name: TailForecast(np.full(n_dates, 0.015), np.full(n_dates, 0.02)) for name in every
    }
    steps_of = {
        name: [("equal weight", ledgers["Equal weight"]), ("+ scores", overlaid["Equal weight"]),
               ("+ allocation", ledgers[name]), ("+ overlay", overlaid[name])]
        for name in ledgers if name in ("Linear", "LSTM")
    }  # fmt: skip
    cost = {} if empty else {(n, r): x for n, x in every.items() for r in (0.0, 0.001)}
    size = {} if empty else {(n, w): ledgers[n] for n in steps_of for w in (1e6, 1e9)}
    base = {"Equal weight": ledgers["Equal weight"].net_returns}
    steps = attribution.ladder_table(steps_of, **BOOT).join(
        active.active_steps(steps_of, base["Equal weight"], **BOOT)
    )
    pairs = [("LSTM", "Linear")] if "LSTM" in ledgers else []
    decisions = pd.DataFrame(
        [] if empty else [("LSTM", "least_breach", 7, "volatility, invested", "<b>why</b>"),
                          ("LSTM", "optimal", 93, "", "")],
        columns=["strategy", "status", "decisions", "conflict", "example"],
    )  # fmt: skip
    ics = {name: rng.normal(0.01, 0.1, (60, 2)) for name in steps_of}
    tables = {
        "ladder": steps,
        "active": active.active_table(every, base, **BOOT),
        "active_difference": active.active_differences(every, base, pairs, **BOOT),
        "active_by_year": active.active_by_year(
            every, base, dates, limits={("Equal weight", "LSTM"): 0.05}
        ),
        "attribution": attribution.attribution_table(steps),
        "cost_sweep": performance.sweep_table(cost, over="cost_per_side"),
        "capacity": performance.sweep_table(size, over="wealth"),
        "decay": performance.decay_table({} if empty else ics, (1, 20), lags=(1, 4), **BOOT),
        "periods": performance.period_table(every, dates),
        "decisions": decisions,
        "value_at_risk": risk.var_table(every, forecast),
        "overlay": risk.overlay_table(plans),
        "volatility": risk.volatility_table(overlaid, dates, target=0.08),
    }
    portfolios = SimpleNamespace(
        overlays=plans,
        value_at_risk=forecast,
        market_text=() if empty else ("Buys at the upper limit <i>wait</i>.",),
    )
    return portfolios, overlaid, tables


def fake_stress(every: Mapping[str, Any], market: Any, dates: Any, rng: np.random.Generator) -> Any:
    n_dates, n_assets = len(dates), next(iter(every.values())).weights.shape[1]
    first = n_dates - len(next(iter(every.values())).net_returns)
    returns = 0.01 * rng.standard_normal((n_dates, n_assets))
    return stress(every, returns, market, dates, slice(first, n_dates), horizon=60, seed=0)


def fake_regimes(prices: Any, dates: Any, every: Mapping[str, Any]) -> tuple[MarketRegimes, Any]:
    found = find_regimes(prices, dates, first=99)
    test = slice(100, len(dates))
    net = {name: ledger.net_returns for name, ledger in every.items()}
    boot = {"baseline": "Linear", **BOOT}
    causal = {
        rule: regime_table(net, label_of_day(labels)[test], **boot)
        for rule, labels in found.causal.items()
    }
    return found, {
        "table_2": regime_table(net, found.hindsight[test], **boot),
        "table_2_causal": pd.concat(causal, names=["rule"]),
        "regime_lags": lag_table(found, test),
        "regime_agreement": agreement_table(found, test),
    }


def fake_verdicts(n_factors: int, rng: np.random.Generator) -> pd.DataFrame:
    kept = rng.random(n_factors) < 0.6
    return pd.DataFrame(
        {
            "factor": [f"factor_{i}" for i in range(n_factors)], "family": "price",
            "coverage": 0.98, "ic": 0.01, "rank_ic": rng.normal(0, 0.02, n_factors), "nw_t": 1.5,
            "sign_stability": 0.75, "cluster": 1, "vif": 2.0, "q_value": 0.123,
            "verdict": np.where(kept, "kept", "left out: |t| below 1"), "kept": kept,
            "network": True,
        }
    )  # fmt: skip


def fake_study(
    n_dates: int = 320,
    n_assets: int = 6,
    n_factors: int = 5,
    n_steps: int = 4,
    *,
    models: tuple[str, ...] = ("Linear", "LSTM"),
    index: bool = True,
    empty: bool = False,
    **changes: Any,
) -> Any:
    """A study of random numbers, with every attribute that the report reads."""
    rng = np.random.default_rng(0)
    dates = np.arange(n_dates + 100) + np.datetime64("2010-01-04")
    config = StudyConfig(report=ReportConfig(n_bootstrap=100))
    horizons = config.target.horizons
    decisions = np.arange(0, n_dates + 100, 5)
    tested = (decisions >= 100)[:, None]
    names = [f"T{i}" for i in range(n_assets)]
    names[: len(HOSTILE)] = HOSTILE
    verdicts = fake_verdicts(n_factors, rng)
    fold = SimpleNamespace(
        train=(dates[0], dates[80]), test=(dates[100], dates[-1]), verdicts=verdicts,
        selected=dict.fromkeys(("linear", "lstm"), tuple(verdicts.loc[verdicts["kept"], "factor"])),
    )  # fmt: skip

    def model(name: str, label: str, history: list[dict[str, Any]]) -> Any:
        ic = np.where(tested, rng.normal(0.01, 0.1, (len(decisions), len(horizons))), np.nan)
        parts = {"ic": ic, "rank_ic": ic, "history": history, "fitted": ("one fit",)}
        return SimpleNamespace(name=name, label=label, **parts)

    history = [
        {"fold": f, "seed": s, "step": 10 * k, "train_loss": 1.0,
         "train_ic": 0.1, "volatility_violation": 0.01, "volatility_multiplier": 0.5,
             "validation_rank_ic": 0.03 * (1 - np.exp(-k / 3)) + rng.normal(0, 0.004)}
        for f in range(2) for s in range(3) for k in range(n_steps)
    ]  # fmt: skip
    drifts = {k: v for k, v in STRATEGIES.items() if k not in ("Linear", "LSTM") or k in models}
    strategies = {k: fake_ledger(rng, n_dates, n_assets, v) for k, v in drifts.items()}
    tables = fake_tables(list(strategies), horizons, sorted({int(str(d)[:4]) for d in dates}))
    for name in ("ic", "drivers"):
        tables[name] = tables[name].loc[list(models)]
    portfolios, overlaid, made = fake_portfolios(strategies, rng, empty=empty)
    every = {**strategies, **{under_overlay(name): ledger for name, ledger in overlaid.items()}}
    market = np.append(np.nan, 0.012 * rng.standard_normal(n_dates + 99))
    stressed = fake_stress(every, market if index else None, dates, rng)
    tables |= made | stressed.tables
    regimes = None
    if index:
        prices = 100.0 * np.cumprod(1.0 + np.nan_to_num(market))
        regimes, sorted_by = fake_regimes(prices, dates, every)
        tables |= sorted_by
    study = SimpleNamespace(
        warnings=(),
        config=config,
        plan=SimpleNamespace(custom_models=CustomModels()),
        name="<b>hostile</b> data",
        dates=dates,
        asset_names=np.array(names),
        dataset=SimpleNamespace(eligible=np.ones((len(decisions), 100), dtype=bool)),
        decisions=decisions,
        test=slice(100, n_dates + 100),
        models={
            label.lower(): model(label.lower(), label, history if label == "LSTM" else [])
            for label in models
        },
        folds=(fold, fold),
        strategies=strategies,
        overlaid=overlaid,
        every_ledger=lambda: every,
        portfolios=portfolios,
        stress=stressed,
        regimes=regimes,
        market_returns=market[100:] if index else None,
        cleaning=SimpleNamespace(
            counts=lambda: pd.DataFrame({"rule": ["spike"], "cells": [3], "tickers": [2]})
        ),
        left_out=pd.DataFrame({"factor": ["size"], "reason": ["needs market_cap"]}),
        data_quality=pd.DataFrame({"field": ["adj_close"], "coverage": [0.99]}),
        notes=("Survivors only: </script><script>alert(3)</script>",),
        seconds={"clean": 0.5, "fit": 12.0},
        versions={"alphakeel": "0.1.0", "numpy": "2.4"},
        data_hash="ab" * 32,
        tables=lambda: tables,
        recommendation=lambda: Recommendation("Equal weight", "hold Equal weight: no proof."),
    )
    vars(study).update(changes)
    return study


@pytest.fixture(scope="module")
def page() -> str:
    return report_page.render_report(fake_study())


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


class TestView:
    def test_long_tables_show_the_highlighted_and_fold_the_rest(self) -> None:
        view = View.of(fake_study(n_dates=120))
        names = [*view.net, *(f"more {i}" for i in range(5))]
        index = pd.Index(names, name="strategy")
        short, whole = view.make_tables(pd.DataFrame({"x": 1.0}, index=index), "x")
        assert [row[0].text for row in short.rows] == [
            "Equal weight", "Linear", "LSTM", "Linear + overlay", "LSTM + overlay",
        ]  # fmt: skip
        assert [row[0].text for row in whole.rows] == names
        assert (short.folded, whole.folded) == (False, True)
        assert len(view.make_tables(pd.DataFrame({"x": 1.0}, index=index[:8]), "x")) == 1


class TestPage:
    def test_all_sections_are_there_and_in_the_contents(self, page: str) -> None:
        tags = Tags(page).tags
        ids = [a["id"] for t, a in tags if t == "section"]
        links = [a["href"] for t, a in tags if t == "a" and (a["href"] or "").startswith("#")]
        assert ids == [
            "summary", "performance", "active", "attribution", "confirmation", "wealth", "risk",
            "regimes", "stress", "years", "sensitivity", "forecasts", "factors", "drivers",
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
        assert report_page.render_report(fake_study()) == page

    def test_colour_of_a_strategy_is_the_same_everywhere(self, page: str) -> None:
        stored = json.loads(Tags(page).scripts[0])["figures"]
        colors = {
            trace["line" if "line" in trace else "marker"]["color"]
            for figure in stored.values()
            for trace in figure["data"]
            if trace.get("name") == "LSTM"
        }
        assert colors == {style.KNOWN["LSTM"].color}

    def test_stays_small(self, page: str) -> None:
        assert len(page.encode()) < 6e6

    def test_linear_only_study_without_index_has_a_report(self) -> None:
        study = fake_study(n_dates=120, models=("Linear",), index=False, empty=True, notes=())
        text = report_page.render_report(study)
        for said in (
            "No model was trained step by step",
            "Linear is statistically indistinguishable from equal weight",
            "no market index, so there are no regimes",
            "Replays and shocks need a market index",
            "No confirmation period was set aside",
            "Other costs were not computed",
            "Capacity was not measured",
        ):
            assert said in text, said
        assert "Market rules and costs" not in text

    def test_unknown_numbers_are_dashes_and_claim_nothing(self) -> None:
        study = fake_study(n_dates=120)
        tables = study.tables()
        for name, table in tables.items():
            shares = table.select_dtypes("floating").columns
            if name not in ("cost_sweep", "capacity"):
                tables[name] = table.assign(**dict.fromkeys(shares, np.nan))
        text = report_page.render_report(study)
        words = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL)
        assert not re.search(r"\bnan\b|\bNaN\b|\bNone\b", words)
        assert "The VaR forecasts of LSTM could not be tested." in words
        assert "In Sharpe ratio LSTM is statistically indistinguishable from Linear, both" in words
        tones = {f.tone for f in findings.findings(study, tables, "LSTM")[:4]}
        assert tones == {"unclear"}

    def test_strategies_under_the_overlay_come_last_and_apart(self, page: str) -> None:
        table = page[page.index("Table I. All") :].split("</table>")[0]
        names = re.findall(r'<th scope="row"><i style="[^"]*"></i>([^<]*)</th>', table)
        assert names == [*STRATEGIES, *map(under_overlay, STRATEGIES)]
        assert table.count('class="break"') == 1

    def test_market_rules_and_limits_are_stated_in_words(self, page: str) -> None:
        assert "Buys at the upper limit &lt;i&gt;wait&lt;/i&gt;." in page
        assert "LSTM: at 7 of 100 decisions not all limits could be satisfied" in page
        assert "limits violated by as little as possible" in page
        assert "&lt;b&gt;why&lt;/b&gt;" in page

    def test_confirmation_period_has_tables_and_a_statement(self) -> None:
        study = fake_study(n_dates=120)
        tables = study.tables()
        for name in ("table_1", "table_1_difference", "table_1_fair", "ladder", "value_at_risk"):
            tables[f"confirm_{name}"] = tables[name]
        study.config = replace(
            study.config, report=ReportConfig(n_bootstrap=100, confirm_from=dt.date(2010, 6, 1))
        )
        text = report_page.render_report(study)
        assert "Table I from 2010-06-01 on" in text
        assert (
            "In the confirmation period, from 2010-06-01: LSTM + overlay is statistically" in text
        )

    def test_charts_show_the_highlighted_and_keep_the_others_in_the_legend(self, page: str) -> None:
        stored = json.loads(Tags(page).scripts[0])["figures"]
        shown = {t["name"] for t in stored["equity"]["data"] if t["visible"] is True}
        assert shown == {"LSTM", "Linear", "LSTM + overlay", "Linear + overlay"}
        assert {t["name"] for t in stored["equity"]["data"]} - shown == {
            "Equal weight", "Minimum variance", "Market index",
        }  # fmt: skip

    def test_many_stocks_show_holdings_and_breadth_only(self) -> None:
        parts = {s.key: s for s in report_page.build_sections(fake_study(n_assets=60))}
        assert [getattr(b, "key", b.kind) for b in parts["portfolio"].blocks] == [
            "breadth", "table",
        ]  # fmt: skip


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch, page: str) -> Any:
    """A study whose page is made already: what is tested is the writing."""
    study = SimpleNamespace()
    monkeypatch.setattr(
        report_page, "render_report", lambda wanted, _: {id(study): page}[id(wanted)]
    )
    return study


class TestWriting:
    def test_writes_and_replaces(self, tmp_path: Path, ready: Any) -> None:
        path = tmp_path / "new" / "report.html"
        assert report_page.write_report(ready, path) == path.resolve()
        path.write_text("old")
        report_page.write_report(ready, path)
        assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
        assert [p.name for p in path.parent.iterdir()] == ["report.html"]

    def test_error_leaves_the_old_file_whole(
        self, tmp_path: Path, ready: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "report.html"
        path.write_text("old")

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(DataError, match="No space left"):
            report_page.write_report(ready, path)
        assert path.read_text() == "old"
        assert [p.name for p in tmp_path.iterdir()] == ["report.html"]

    @pytest.mark.skipif(os.name != "posix", reason="no process is killed by signal 9")
    def test_what_a_killed_process_left_is_cleared(self, tmp_path: Path, ready: Any) -> None:
        killed = (
            "import os, signal, sys\n"
            "from alphakeel.report import page\n"
            "page.render_report = lambda *_: 'half a page'\n"
            "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
            "page.write_report(None, 'report.html')\n"
        )
        done = subprocess.run([sys.executable, "-c", killed], cwd=tmp_path, check=False)
        assert done.returncode == -signal.SIGKILL
        assert len(list(tmp_path.iterdir())) == 1
        report_page.write_report(ready, tmp_path / "report.html")
        assert [p.name for p in tmp_path.iterdir()] == ["report.html"]

    @pytest.mark.parametrize("name", ["", "report.txt", "file/report.html"])
    def test_refuses_what_it_cannot_write(self, tmp_path: Path, ready: Any, name: str) -> None:
        (tmp_path / "file").write_text("a file, not a folder")
        with pytest.raises(DataError, match="cannot write the report"):
            report_page.write_report(ready, tmp_path / name)


class TestConsole:
    def test_run_fits_a_hundred_columns_and_ends_with_the_conclusion(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from alphakeel.cli.printing import print_study

        study = fake_study(n_dates=120)
        study.name = "[bold]brackets[/] stay"
        print_study(study, Path("runs/x"), Path("runs/x/report.html"))
        said = capsys.readouterr().out
        tables, _, end = said.partition("Report  ")
        assert max(map(len, tables.splitlines())) <= 100
        for words in ("[bold]brackets[/] stay", "Table I", "Minimum variance + overlay",
                      "+ allocation", "VaR forecasts of LSTM"):  # fmt: skip
            assert words in tables, words
        assert findings.conclusion(study.tables(), "LSTM").split(".")[0] in " ".join(tables.split())
        assert "runs/x/report.html" in end
        assert "Hold Equal weight: no proof." in end
        assert "alphakeel today runs/x" in end


class TestFindings:
    @pytest.mark.parametrize(
        ("low", "high", "tone", "words"),
        [
            (-0.1, 0.5, "unclear", "indistinguishable"),
            (0.1, 0.5, "better", "outperformed"),
            (-0.5, -0.1, "worse", "underperformed"),
            (0.0, 0.5, "unclear", "includes zero"),
            (np.nan, np.nan, "unclear", "indistinguishable"),
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
        found = findings.compare("LSTM", "Linear", table, difference, 0.95)
        assert found.tone == tone
        assert words in found.claim + found.detail
        assert "VaR 2.00\u202f% against 2.00\u202f% (significantly larger)." in found.detail
        assert "drawdown 30.0\u202f% against 30.0\u202f% (not significant)" in found.detail

    @pytest.mark.parametrize(
        ("alone", "equal_risk", "words"),
        [
            ((-0.2, 0.4), (-0.3, 0.1), "LSTM is statistically indistinguishable from Linear, both"),
            ((0.1, 0.4), (0.1, 0.3), "LSTM outperforms Linear, both without the overlay"),
            ((-0.4, -0.1), (-0.4, -0.1), "LSTM underperforms Linear, both without the overlay"),
            (
                (0.1, 0.4),
                (-0.3, 0.1),
                (
                    "LSTM outperforms Linear without the overlay, and is statistically "
                    "indistinguishable from it at equal risk"
                ),
            ),
        ],
    )
    def test_conclusion_follows_the_intervals(
        self, alone: tuple[float, float], equal_risk: tuple[float, float], words: str
    ) -> None:
        tables = fake_tables(["Linear", "LSTM"], (5,), [2010])
        ends = ["sharpe_difference_low", "sharpe_difference_high"]
        tables["table_1_difference"].loc["LSTM", ends] = alone
        tables["table_1_fair"].loc["LSTM + overlay", ends] = equal_risk
        said = findings.conclusion(tables, "LSTM")
        first, rest = said.split(" In Sharpe ratio ")
        assert "indistinguishable in ranking stocks from the linear benchmark over 5 days" in first
        assert rest.startswith(words)
        assert "The overlay, which needs no network" in said
        assert "not significant" in said

    @pytest.mark.parametrize(
        ("low", "high", "tone", "words"),
        [(0.001, 0.02, "better", "better than"), (-0.02, -0.001, "worse", "worse than")],
    )
    def test_scores_come_first_and_last(
        self, low: float, high: float, tone: str, words: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from alphakeel.cli.printing import print_study

        study = fake_study(n_dates=120)
        tables = study.tables()
        paired = tables["ic_differences"]
        ends = ["rank_ic_difference_low", "rank_ic_difference_high"]
        paired.loc[("LSTM", 20), ends] = (low, high)
        (first, *_) = findings.findings(study, tables, "LSTM")
        claim = f"LSTM ranks stocks {words} the linear benchmark over 20 days"
        assert (first.tone, first.claim.startswith(claim)) == (tone, True)
        assert "over 60 days 0.010" in first.detail
        assert findings.conclusion(tables, "LSTM").startswith(claim)
        study.tables = lambda: tables
        assert claim in report_page.render_report(study).split("Forecasts</h2>")[-1]
        print_study(study, Path("runs/x"), Path("runs/x/report.html"))
        assert claim in " ".join(capsys.readouterr().out.split("Numbers ")[-1].split())

    def test_findings_hold_every_comparison(self) -> None:
        study = fake_study(n_dates=120)
        claims = [f.claim for f in findings.findings(study, study.tables(), "LSTM")]
        start = "is statistically indistinguishable "
        assert [c.split(start)[-1] for c in claims if start in c] == [
            (
                "in ranking stocks from the linear benchmark over 20 days "
                "(Rank IC 0.030 against 0.020)."
            ),
            "from the linear benchmark.",
            "in Sharpe ratio from Linear without the overlay.",
            "from Linear + overlay.",
            "from equal weight.",
        ]
        assert sum("VaR forecasts of LSTM" in c for c in claims) == 1

    @pytest.mark.parametrize(
        ("kupiec", "dynamic", "tone", "words"),
        [
            (0.5, 0.5, "better", "pass every test"),
            (0.01, 0.5, "worse", "wrong number"),
            (0.5, 0.01, "worse", "right number"),
        ],
    )
    def test_var_statement_is_that_of_the_tests(
        self, kupiec: float, dynamic: float, tone: str, words: str
    ) -> None:
        study = fake_study(n_dates=120)
        tables = study.tables()
        own = tables["value_at_risk"].assign(
            kupiec_p=kupiec, dynamic_p=dynamic, independence_p=0.5, conditional_p=0.5
        )
        found = findings.findings(study, {**tables, "value_at_risk": own}, "LSTM")
        statement = next(f for f in found if "VaR" in f.claim)
        assert (statement.tone, words in statement.claim) == (tone, True)
        assert ("; those of" in statement.claim) is False

    def test_var_statements_that_differ_are_both_given(self) -> None:
        study = fake_study(n_dates=120)
        tables = study.tables()
        own = tables["value_at_risk"].assign(
            kupiec_p=0.5, dynamic_p=0.5, independence_p=0.5, conditional_p=0.5
        )
        own.loc["LSTM + overlay", "kupiec_p"] = 0.001
        found = findings.findings(study, {**tables, "value_at_risk": own}, "LSTM")
        statement = next(f for f in found if "VaR" in f.claim)
        assert statement.claim == (
            "The VaR forecasts of LSTM pass every test; those of LSTM + overlay have the wrong "
            "number of exceedances."
        )
        assert statement.tone == "worse"
        assert f"{len(own) - 1} of {len(own)} forecasts" in statement.detail

    def test_parts_of_network_and_overlay_add_up(self) -> None:
        study = fake_study(n_dates=120)
        table = study.tables()["table_1"]
        table.loc[["Linear", "LSTM", "LSTM + overlay"], "max_drawdown"] = [0.40, 0.35, 0.15]
        said = performance_section.attribution(View.of(study)).blocks[0].items[0]
        minus = table_cells.MINUS
        assert (
            "maximum drawdown goes from 40.0\u202f% to 15.0\u202f% "
            f"({minus}5.0 points by the network, {minus}20.0 points by the overlay)"
        ) in said


class TestConventions:
    def test_overlay_is_described_as_it_is_set(self) -> None:
        config = StudyConfig(
            overlay=OverlayConfig(target_volatility=None, var_cap=0.02, brake_start=None)
        )
        said = dict(method.conventions(config))["Overlay"]
        assert "VaR is 2\u202f%" in said
        assert "volatility" not in said
        assert "drawdown" not in said
        off = OverlayConfig(target_volatility=None, var_cap=None, brake_start=None)
        assert "No rule" in dict(method.conventions(StudyConfig(overlay=off)))["Overlay"]

    def test_costs_of_a_market_are_not_stated_as_flat(self) -> None:
        config = StudyConfig(costs=CostConfig(preset="us"))
        assert "0.10" not in method.cost_sentence(config)


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
        assert table_cells.show(value, kind) == text

    def test_intervals_become_small_print(self) -> None:
        frame = pd.DataFrame(
            {"sharpe": [0.5], "sharpe_low": [-0.1], "sharpe_high": [1.1], "sharpe_p": [0.2]},
            index=pd.Index(["LSTM"], name="strategy"),
        )
        table = table_cells.make_table(frame, "x")
        assert [c.label for c in table.head] == ["Strategy", "Sharpe"]
        assert table.rows[0][1].note == "\N{MINUS SIGN}0.10 to 1.10, p = 0.20"


class TestFigures:
    def test_long_arrays_are_stored_once_and_restored(self) -> None:
        days = np.arange(100) + np.datetime64("2020-01-01")
        values = np.linspace(1, 2, 100)
        values[3] = np.nan
        chart = charts.line_chart(days, {"a": values, "b": values})
        stored = json.loads(report_page.figures_json({"one": chart, "two": chart}))
        assert len(stored["arrays"]) == 2
        key = stored["figures"]["two"]["data"][1]["y"]["$"]
        restored = stored["arrays"][key]
        assert restored[3] is None
        rest = np.array(restored[:3] + restored[4:])
        np.testing.assert_allclose(rest, np.delete(values, 3), rtol=1e-5)

    def test_months_compound_days(self) -> None:
        days = np.arange(59) + np.datetime64("2021-01-01")
        returns = np.full(59, 0.01)
        table = charts.month_heatmap(days, returns).data[0].z
        np.testing.assert_allclose(table[0][:2], [1.01**31 - 1, 1.01**28 - 1], rtol=1e-5)
        assert table[0][2] is None

    def test_inputs_stay_as_they_were(self) -> None:
        study = fake_study()
        before = {k: v.weights.copy() for k, v in study.strategies.items()}
        report_page.render_report(study)
        for name, ledger in study.strategies.items():
            np.testing.assert_array_equal(ledger.weights, before[name])

    def test_huge_names_are_cut(self) -> None:
        chart = charts.line_chart(
            np.array(["2020-01-01"], dtype="datetime64[D]"), {"N" * 5000: np.array([1.0])}
        )
        assert len(chart.data[0].name) < 40

    def test_forecast_meets_the_return_of_the_day_after(self) -> None:
        study = fake_study(n_dates=120)
        net = study.strategies["LSTM"].net_returns
        forecast = np.full(120, 1.0)
        worst = int(np.argmin(net))
        forecast[worst - 1] = 1e-9  # known the evening before the worst day
        study.portfolios.value_at_risk["LSTM"] = TailForecast(forecast, forecast)
        chart = next(b for b in risk_section.risk(View.of(study)).blocks if b.key == "exceedances")
        assert list(chart.figure.data[2].x) == [str(study.dates[study.test][worst])]

    def test_exposure_has_one_colour_a_day(self) -> None:
        days = np.arange(4) + np.datetime64("2020-01-01")
        rules = {
            "leverage": np.array([True, True, False, False]),
            "volatility": np.array([False, True, True, False]),
            "brake": np.array([False, False, False, True]),
        }
        chart = risk_charts.exposure_chart(days, np.array([1.0, 0.9, 0.5, 0.2]), rules, {})
        drawn = {trace.name: list(trace.y) for trace in chart.data}
        assert drawn == {  # each line reaches into the first day of the next
            "maximum exposure": [1.0, 0.9, None, None],
            "volatility target": [None, 0.9, 0.5, 0.2],
            "drawdown brake": [None, None, None, 0.2],
        }

    def test_tints_cover_the_days_of_their_regime(self) -> None:
        days = np.arange(6) + np.datetime64("2020-01-01")
        labels = ["bear", "bear", "bull", "range-bound", "bull", "bear"]
        chart = risk_charts.shade(charts.line_chart(days, {"a": np.ones(6)}), days, labels)
        assert [(s.x0, s.x1, s.fillcolor) for s in chart.layout.shapes] == [
            ("2020-01-01", "2020-01-03", style.TINTS["bear"]),
            ("2020-01-04", "2020-01-05", style.TINTS["range-bound"]),
            ("2020-01-06", "2020-01-06", style.TINTS["bear"]),
        ]

    def test_fan_opens_downwards(self) -> None:
        days, levels = np.arange(1, 201), np.array([0.5, 0.95])
        quantiles = np.linspace(0.0, 1.0, 200)[:, None] * np.array([0.1, 0.3])
        chart = risk_charts.fan_chart(days, levels, quantiles, name="LSTM", reach=0.3)
        assert [trace.y[-1] for trace in chart.data] == [-0.1, -0.3]
        assert [trace.name for trace in chart.data] == ["50 %", "95 %"]

    def test_step_that_a_model_does_not_have_is_skipped(self) -> None:
        chart = charts.step_chart(
            ["equal weight", "+ scores", "+ overlay"], {"a": np.array([0.5, np.nan, 0.7])}
        )
        assert list(chart.data[0].x) == ["equal<br>weight", "+ overlay"]
        assert list(chart.data[0].y) == [0.5, 0.7]

    def test_settings_travel_in_full(self, page: str) -> None:
        config = replace(fake_study().config, seed=987654)
        assert "seed = 987654" in report_page.render_report(fake_study(n_dates=120, config=config))
        assert "rebalance" in re.sub(r"\s", "", page)
