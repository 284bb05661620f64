"""What the documents promise: their examples run, and their links lead somewhere."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

import alphakeel
from alphakeel.cli import app
from alphakeel.config import RENAMED, StudyConfig, config_to_dict

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if ":" in path:
            continue
        linked = page.parent / path if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\s-]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in anchors, f"{page.name} links to {target}"


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


PACKAGE = ROOT / "src" / "alphakeel"
# `study` is left out: on the pages it is a study that was run.
NAMES = {p.stem for p in PACKAGE.iterdir() if re.fullmatch(r"[a-z]\w+(\.py)?", p.name)} - {"study"}
DOTTED = re.compile(rf"(?<![\w./-])(?:alphakeel|{'|'.join(sorted(NAMES))})(?:\.\w+)+(?![\w/*-])")
SETTINGS = {
    f"{section}.{key}"
    for section, keys in config_to_dict(StudyConfig()).items()
    if isinstance(keys, dict)
    for key in keys
}
SETTING = re.compile(
    rf"(?<![\w./-])(?:{'|'.join(sorted({s.split('.')[0] for s in SETTINGS}))})\.[a-z]\w*(?![\w.(/])"
)
FILE = re.compile(r"\.(csv|db|html|json|md|npz|parquet|py|toml)$")
# Results of a day name the code of that day.
CURRENT = [page for page in PAGES if page.parent.name != "results"]


def code_in(page: Path) -> list[str]:
    """What a page has between single backticks; without the tables of the changelog."""
    text = page.read_text(encoding="utf-8")
    if page.name == "CHANGELOG.md":
        text = re.sub(r"### (?:Renamed|Moved)\n.*?(?=\n##)", "", text, flags=re.DOTALL)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]


def resolves(name: str) -> bool:
    """Whether a dotted name is a module of the package, or leads to an attribute of one."""
    parts = name.removeprefix("alphakeel.").split(".")
    for n in range(len(parts), -1, -1):
        try:
            thing = importlib.import_module(".".join(("alphakeel", *parts[:n])))
        except ModuleNotFoundError:
            continue
        for part in parts[n:-1]:
            thing = getattr(thing, part, None)
        # A field of a dataclass without a default is no attribute of the class.
        fields = getattr(thing, "__dataclass_fields__", {})
        return n == len(parts) or hasattr(thing, parts[-1]) or parts[-1] in fields
    return False


@pytest.mark.parametrize("page", CURRENT, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_names_of_the_code_exist(page: Path) -> None:
    for code in code_in(page):
        if re.fullmatch(r"[\w./-]+\.py", code):
            near = (PACKAGE, ROOT, page.parent)
            assert any((folder / code).is_file() for folder in near), f"{page.name}: {code}"
        for name in DOTTED.findall(code):
            known = name in SETTINGS or FILE.search(name) or resolves(name)
            assert known, f"{page.name}: {name}"


@pytest.mark.parametrize("page", CURRENT, ids=lambda p: str(p.relative_to(ROOT)))
def test_settings_exist(page: Path) -> None:
    for code in code_in(page):
        for name in SETTING.findall(code):
            known = name in SETTINGS or FILE.search(name) or resolves(name)
            assert known, f"{page.name}: {name}"


def test_every_renamed_setting_is_in_the_changelog() -> None:
    table = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for old, new in RENAMED.items():
        assert old not in SETTINGS
        assert new in SETTINGS
        assert f"`{old}`" in table, f"CHANGELOG.md does not name {old}"


def test_public_names_exist_and_are_typed() -> None:
    for name in alphakeel.__all__:
        assert getattr(alphakeel, name) is not None
    source = Path(alphakeel.__file__).read_text(encoding="utf-8")
    typed = source[source.index("if TYPE_CHECKING") : source.index("def __getattr__")]
    for name in alphakeel.__all__[1:]:
        assert re.search(rf"\b{name}\b", typed), f"{name} is missing for type checkers"
