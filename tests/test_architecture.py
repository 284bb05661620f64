"""Imports point one way: no module may import from its own layer's neighbours or from above."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

import alphakeel

SOURCE = Path(__file__).resolve().parents[1] / "src" / "alphakeel"

LAYERS = [
    {"errors"},
    {"files", "progress"},
    {"stats", "settings", "user_code"},
    {"config", "data", "models", "risk", "backtest"},
    {"portfolio", "factors", "model_factory", "feeds"},
    {"evaluation", "provenance"},
    {"pipeline"},
    {"results", "skfolio_alpha"},
    {"study"},
    {"selection", "storage"},
    {"live"},
    {"audit", "report"},
    {"cli"},
    {"__main__"},
]
# The public names come from every layer, and are loaded only when asked for.
PUBLIC_NAMES = "__init__"
# Everything else is handed plain numbers.
MAY_READ_SETTINGS = {
    "config",
    "model_factory",
    "provenance",
    "pipeline",
    "results",
    "study",
    "selection",
    "storage",
    "live",
    "audit",
    "report",
    "cli",
}
ALLOWED_IN = {
    "torch": {"models"},
    "safetensors": {"storage"},
    "plotly": {"report"},
    "jinja2": {"report"},
    "typer": {"cli"},
    "rich": {"cli"},
    "skfolio": {
        "data",
        "portfolio",
        "factors",
        "provenance",
        "pipeline",
        "skfolio_alpha",
        "study",
        "selection",
        "storage",
        "live",
    },
    "optuna": {"selection"},
    "mlflow": {"storage"},
    "httpx": {"feeds"},
    "yfinance": {"feeds"},
    "baostock": {"feeds"},
    "akshare": {"feeds"},
    "tushare": {"feeds"},
    "pickle": set(),
    "yaml": set(),
}
# A search asks the pipeline: it neither prepares data nor fits or trades by itself.
# A feed hands its answers over; `data/` alone writes them.
NOT_IN_FEEDS = {"write_bytes", "write_text", "to_parquet", "to_csv", "open", "unlink", "mkdir"}
NOT_IN_SELECTION = (
    "alphakeel.data.cleaning",
    "alphakeel.factors.base",
    "alphakeel.backtest",
    "alphakeel.models",
)
# ... and names its trials as fits are named.
BUT_IN_SELECTION = "alphakeel.models.persistence"
MOST_LINES, FEWEST_LINES = 700, 150
# Files below that, each with its reason.
SHORT_FILES = {
    "errors.py": "the whole hierarchy at a glance, imported by all",
    "progress.py": "imported by all, imports nothing",
    "provenance.py": "what a run records of its data and versions",
    "model_factory.py": "models by name: apart from the models, which know no settings",
    "user_code.py": "what the loaders of a user's own factors and models share",
    "models/custom_forecasters.py": "needs torch, which the decorator of a user's models does not",
    "pipeline/own_models.py": "how a user's models are tried, by a study and by the audit",
    "live/own_models.py": "what is other about models whose fits are not saved",
    "audit/findings.py": "what every check of the audit returns",
    "backtest/ledger.py": "the result of a backtest, read by those who run none",
    "config/data.py": "the sections of the data",
    "pipeline/checkpoints.py": "finished steps, kept for whoever computes in steps",
    "pipeline/cross_fits.py": "what is fitted on a part of the training decisions, for two stages",
    "pipeline/model_results.py": "what the fits return, read by those who fit nothing",
    "pipeline/rows.py": "which rows a model reads, for fits, explanations and live decisions",
    "pipeline/calendar.py": "every rule of the calendar, each a function of past dates",
    "data/known_shapes.py": "files of well-known sources, named where one is refused",
    "data/adjustment.py": "dividends and splits, as arrays",
    "data/staging.py": "what a fetch has brought so far",
    "data/store_lock.py": "one writer at a time",
    "data/bundled.py": "one table of data sets that ship with a package",
    "data/spreadsheets.py": "the one way to write a table for people, for runs and searches",
    "data/universe.py": "who is in the sample",
    "feeds/akshare.py": "one source a file",
    "feeds/qlib.py": "one source a file",
    "feeds/rates.py": "one source a file",
    "feeds/stooq.py": "one source a file",
    "feeds/tushare.py": "one source a file",
    "feeds/failures.py": "why a feed gave nothing, at a glance",
    "feeds/session.py": "how a service is asked, whichever it is",
    "feeds/sources.py": "sources by name, so that no source knows another",
    "evaluation/attribution.py": "what each step added",
    "evaluation/ic_differences.py": "one test and its table",
    "evaluation/recommendation.py": "one rule, and the sentence that states it",
    "factors/targets.py": "the only file that looks ahead",
    "models/composition.py": "chosen out of fold, and held alike in training and after it",
    "models/restore.py": "knows every model, so that no model has to",
    "stats/blas_threads.py": "one lock for all who set the threads of the process",
    "storage/mlflow_log.py": "the only file that knows MLflow",
    "live/daily.py": "a job that is done alone and once",
    "live/comparison.py": "saved runs side by side, for the command and for a page",
    "pipeline/screening.py": "the stage between the data set and the fits",
    "stats/exposure_rules.py": "the formulas that a backtest and the training of networks share",
    "selection/deflation.py": "the correction for selection bias, shared by search and curve",
}


def package_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def layer_of(package: str) -> int:
    return next(i for i, packages in enumerate(LAYERS) if package in packages)


def imports_of(path: Path) -> list[tuple[str, int]]:
    """Absolute module names imported anywhere in a file, lazily or not, with line numbers."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write imports out in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(name, node.lineno) for name in names]
    return found


FILES = sorted(SOURCE.rglob("*.py"))


def test_every_module_has_a_layer() -> None:
    known = set().union(*LAYERS) | {PUBLIC_NAMES}
    assert len(FILES) > 100
    assert {package_of(path) for path in FILES} <= known


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    package = package_of(path)
    if package == PUBLIC_NAMES:
        return
    for name, line in imports_of(path):
        parts = name.split(".")
        if parts[0] != "alphakeel" or len(parts) < 2 or parts[1] == "__version__":
            continue
        target = parts[1]
        assert target == package or layer_of(target) < layer_of(package), (
            f"{path.name}:{line}: {package} may not import {target}"
        )
        if target == "config":
            assert package in MAY_READ_SETTINGS, (
                f"{path.name}:{line}: {package} must receive plain numbers, not settings"
            )


def test_no_public_name_is_hidden_by_a_module() -> None:
    """Importing `alphakeel.x` sets the attribute `x` of the package, whatever it was before."""
    modules = {path.stem if path.stem != "__init__" else path.parent.name
               for path in (*SOURCE.glob("*.py"), *SOURCE.glob("*/__init__.py"))}  # fmt: skip
    assert not modules & set(alphakeel.__all__)


def test_no_two_modules_import_each_other() -> None:
    """A circle would hide behind a lazy import or one for type checkers."""
    modules = {
        ".".join(("alphakeel", *p.relative_to(SOURCE).with_suffix("").parts)): p for p in FILES
    }
    above = {
        name: {".".join(n.split(".")[:k]) for n, _ in imports_of(path) for k in (2, 3)}
        & set(modules)
        for name, path in modules.items()
        if path.name != "__init__.py"
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for other in above.get(name, ()):
                visit(other, (*trail, name))
            done.add(name)

    for name in modules:
        visit(name, ())


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_libraries_stay_where_they_belong(path: Path) -> None:
    package = package_of(path)
    for name, line in imports_of(path):
        allowed = ALLOWED_IN.get(name.split(".")[0])
        assert allowed is None or package in allowed, (
            f"{path.name}:{line}: {package} may not import {name}"
        )


def test_arithmetic_never_sees_a_panel_or_a_file() -> None:
    for path in FILES:
        if package_of(path) in {"stats", "models", "risk", "backtest", "portfolio"}:
            names = {name.split(".")[0] for name, _ in imports_of(path)}
            # skfolio is barred for its panel; `heuristics.py` hands plain arrays to its optimisers.
            own = set() if path.name == "heuristics.py" else {"skfolio"}
            assert not names & ({"pathlib", "io", "os"} | own), path


def test_selection_asks_the_pipeline() -> None:
    for path in FILES:
        if package_of(path) == "selection":
            for name, line in imports_of(path):
                barred = name.startswith(NOT_IN_SELECTION) and not name.startswith(BUT_IN_SELECTION)
                assert not barred, f"{path.name}:{line}: selection may not import {name}"


def test_feeds_write_nothing() -> None:
    for path in FILES:
        if package_of(path) == "feeds":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                    assert called not in NOT_IN_FEEDS, f"{path.name}:{node.lineno} calls {called}"


def test_a_public_class_has_its_name_for_itself() -> None:
    found = defaultdict(list)
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(SOURCE)))
    assert {name: files for name, files in found.items() if len(files) > 1} == {}


def test_a_file_is_one_idea() -> None:
    lines = {str(p.relative_to(SOURCE)): p.read_text("utf-8").count("\n") for p in FILES}
    assert {name: n for name, n in lines.items() if n > MOST_LINES} == {}
    short = {name for name, n in lines.items() if n < FEWEST_LINES and "__" not in name}
    assert short <= set(SHORT_FILES)


def test_only_targets_look_ahead() -> None:
    """A negative lag, shift or roll outside `factors/targets.py` would read the future."""
    for path in FILES:
        if path.name == "targets.py":
            continue
        text = path.read_text(encoding="utf-8")
        for bad in (".shift(-", "lag=-", "bfill(", "np.roll("):
            assert bad not in text, f"{path.relative_to(SOURCE)} contains {bad}"
