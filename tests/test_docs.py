"""What the documents promise: their examples run, and their links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

import alphakeel
from alphakeel.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_readme_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    exec(compile("\n".join(blocks), "README.md", "exec"), {})
    assert "sharpe" in capsys.readouterr().out
    assert (tmp_path / "report.html").is_file()


def test_quickstart_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "quickstart.md").read_text(), re.DOTALL
    )
    exec(compile(block, "quickstart.md", "exec"), {})
    assert "sharpe" in capsys.readouterr().out
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_and_their_options_exist(page: Path) -> None:
    blocks = re.findall(r"```\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    for line in lines:
        words = shlex.split(line, comments=True) if line.startswith("alphakeel ") else []
        if not words or words[1] == "--help":
            continue
        command = get_command(app).commands[words[1]]
        known = {option for parameter in command.params for option in parameter.opts}
        asked = {word for word in words[2:] if word.startswith("--")}
        assert asked <= known, f"{page.name}: alphakeel {words[1]} has no {asked - known}"


def test_public_names_exist_and_are_typed() -> None:
    for name in alphakeel.__all__:
        assert getattr(alphakeel, name) is not None
    source = Path(alphakeel.__file__).read_text(encoding="utf-8")
    typed = source[source.index("if TYPE_CHECKING") : source.index("def __getattr__")]
    for name in alphakeel.__all__[1:]:
        assert re.search(rf"\b{name}\b", typed), f"{name} is missing for type checkers"
