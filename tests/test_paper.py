"""What docs/paper.md says of the code is there, its examples run, and its bound on Sharpe holds."""

from __future__ import annotations

import ast
import doctest
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphakeel.config import StudyConfig, config_from_dict
from alphakeel.evaluation.regimes import regime_table
from alphakeel.stats import performance

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "alphakeel"
PAGE = ROOT / "docs" / "paper.md"
TEXT = PAGE.read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`([a-z_]+(?:\.\w+)+)`", TEXT)))


def is_setting(name: str) -> bool:
    section, _, option = name.partition(".")
    return hasattr(getattr(StudyConfig(), section, None), option)


def is_in_the_code(name: str) -> bool:
    """Whether a module has the rest of the name: defined there, or offered in its `__all__`."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = SOURCE.joinpath(*parts[:cut]).with_suffix(".py")
        if module.is_file():
            node: ast.AST | None = ast.parse(module.read_text(encoding="utf-8"))
            if len(parts) == cut + 1 and parts[cut] in offered(node):
                return True
            for part in parts[cut:]:
                node = next((n for n in getattr(node, "body", ()) if defines(n, part)), None)
            return node is not None
    return False


def offered(module: ast.AST | None) -> set[str]:
    lists = [
        n.value
        for n in getattr(module, "body", ())
        if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"
    ]
    return set(ast.literal_eval(lists[0])) if lists else set()


def defines(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name


@pytest.mark.parametrize("name", NAMES)
def test_every_name_on_the_page_exists(name: str) -> None:
    assert is_setting(name) or is_in_the_code(name), f"paper.md names {name}, which is nowhere"


def test_a_name_that_is_nowhere_is_noticed() -> None:
    assert len(NAMES) > 60
    assert is_setting("cleaning.gap_fill")
    assert is_in_the_code("results.Study.table_1")
    for name in (
        "cleaning.gap_filled",
        "stats.performance.sharp",
        "stats.nothing.mse",
        "nothing.mse",
    ):
        assert not is_setting(name)
        assert not is_in_the_code(name)


def test_the_examples_give_what_the_page_says() -> None:
    blocks = re.findall(r"```pycon\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) >= 6
    examples = doctest.DocTestParser().get_doctest("".join(blocks), {}, PAGE.name, str(PAGE), 0)
    assert doctest.DocTestRunner().run(examples).failed == 0


def test_the_settings_nearest_to_the_paper_are_settings() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    config = config_from_dict(tomllib.loads(block))
    assert config.cleaning.gap_fill == "interpolate"
    assert config.network.ic_weight == 0.0


@settings(max_examples=200, deadline=None)
@given(
    shape=st.lists(
        st.tuples(st.integers(2, 60), st.floats(-0.05, 0.05), st.floats(1e-4, 0.1)),
        min_size=2,
        max_size=4,
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_partition_has_a_better_whole_than_its_best_part(
    shape: list[tuple[int, float, float]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    parts = [mean + volatility * rng.standard_normal(n) for n, mean, volatility in shape]
    whole = np.concatenate(parts)
    best = max(part.mean() / part.std() for part in parts)
    if whole.mean() > 0.0:
        assert whole.mean() / whole.std() <= best * (1.0 + 1e-9)


def test_our_table_ii_obeys_the_bounds() -> None:
    rng = np.random.default_rng(0)
    for seed in range(5):
        labels = rng.integers(-1, 2, 600).astype(np.int8)
        days = rng.normal(0.001 * labels + 0.003, 0.01 + 0.005 * (labels < 0))
        table = regime_table(
            {"portfolio": days},
            labels,
            baseline="portfolio",
            level=0.95,
            n_bootstrap=100,
            seed=seed,
        ).xs("portfolio", level="strategy")
        regimes = table.drop(index="all")
        whole = table.loc["all"]
        assert whole["sharpe"] == pytest.approx(performance.sharpe(days))
        assert 0.0 < whole["sharpe"] < regimes["sharpe"].max()
        assert regimes["var_95"].min() < whole["var_95"] < regimes["var_95"].max()
        assert regimes["drawdown_share"].sum() == pytest.approx(1.0)
