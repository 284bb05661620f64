"""Imports point one way: no module may import from its own floor's neighbours or from above."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "alphakeel"

FLOORS = [
    {"errors", "progress"},
    {"stats", "settings"},
    {"config"},
    {"data", "models", "portfolio"},
    {"factors"},
    {"alpha", "custom_factors"},
    {"evidence", "resume", "roster"},
    {"results"},
    {"preparation", "provenance"},
    {"arena", "fitting"},
    {"strategies", "plan"},
    {"study"},
    {"tuning"},
    {"degree"},
    {"audit"},
    {"checkpoints"},
    {"model_files"},
    {"artifacts"},
    {"report"},
    {"cli"},
    {"__main__"},
]
# The door opens on every floor, and its names are loaded only when asked for.
DOOR = "__init__"
# `factors` reads panels through one room of `data` only; the other wings of that floor are
# closed to each other.
ONLY_STUDY_AND_THE_EDGE_KNOW_CONFIG = {
    "roster",
    "results",
    "preparation",
    "provenance",
    "arena",
    "fitting",
    "strategies",
    "plan",
    "study",
    "tuning",
    "degree",
    "audit",
    "artifacts",
    "report",
    "cli",
}


def wing_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def floor_of(wing: str) -> int:
    return next(i for i, wings in enumerate(FLOORS) if wing in wings)


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


def test_every_module_has_a_floor() -> None:
    known = set().union(*FLOORS) | {DOOR}
    assert len(FILES) > 100
    assert {wing_of(path) for path in FILES} <= known


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_down(path: Path) -> None:
    wing = wing_of(path)
    if wing == DOOR:
        return
    for name, line in imports_of(path):
        parts = name.split(".")
        if parts[0] != "alphakeel" or len(parts) < 2 or parts[1] == "__version__":
            continue
        target = parts[1]
        assert target == wing or floor_of(target) < floor_of(wing), (
            f"{path.name}:{line}: {wing} may not import {target}"
        )
        if target == "config":
            assert wing in ONLY_STUDY_AND_THE_EDGE_KNOW_CONFIG, (
                f"{path.name}:{line}: {wing} must receive plain numbers, not settings"
            )


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_libraries_stay_in_their_rooms(path: Path) -> None:
    wing = wing_of(path)
    allowed = {
        "torch": {"models"},
        "safetensors": {"checkpoints"},
        "plotly": {"report"},
        "jinja2": {"report"},
        "typer": {"cli"},
        "rich": {"cli"},
        "skfolio": {
            "data",
            "portfolio",
            "provenance",
            "arena",
            "strategies",
            "plan",
            "study",
            "tuning",
            "degree",
            "factors",
            "alpha",
        },
        "optuna": {"tuning"},
        "pickle": set(),
        "yaml": set(),
    }
    for name, line in imports_of(path):
        rooms = allowed.get(name.split(".")[0])
        assert rooms is None or wing in rooms, f"{path.name}:{line}: {wing} may not import {name}"


def test_arithmetic_wings_never_see_a_panel() -> None:
    for path in FILES:
        if wing_of(path) in {"stats", "models", "portfolio"}:
            names = {name.split(".")[0] for name, _ in imports_of(path)}
            # skfolio is barred for its panel; `heuristics.py` hands plain arrays to its optimisers.
            barred = {"pathlib", "io", "os"} | (
                set() if path.name == "heuristics.py" else {"skfolio"}
            )
            assert not names & barred, path


def test_only_targets_look_ahead() -> None:
    """A negative lag, shift or roll outside `factors/targets.py` would read the future."""
    for path in FILES:
        if path.name == "targets.py":
            continue
        text = path.read_text(encoding="utf-8")
        for bad in (".shift(-", "lag=-", "bfill(", "np.roll("):
            assert bad not in text, f"{path.relative_to(SOURCE)} contains {bad}"
