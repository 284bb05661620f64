"""What the documents promise: their examples run, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import alphakeel

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


def test_the_door_opens_on_every_name_it_promises() -> None:
    for name in alphakeel.__all__:
        assert getattr(alphakeel, name) is not None
    source = Path(alphakeel.__file__).read_text(encoding="utf-8")
    typed = source[source.index("if TYPE_CHECKING") : source.index("def __getattr__")]
    for name in alphakeel.__all__[1:]:
        assert re.search(rf"\b{name}\b", typed), f"{name} is missing for type checkers"
