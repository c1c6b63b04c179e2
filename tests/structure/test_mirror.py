"""Tests stand where what they test stands: a test file for a module, a folder for a package, and no way in between."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import ROOT

TESTS = ROOT / "tests"
WITHOUT_A_MODULE = ("end_to_end", "structure")  # whole runs, and the source tree itself
TOOLS = ("helpers", "campaign", "mutation", "without_vnni")
FILES = sorted(TESTS.rglob("test_*.py"))


def sources(test: Path) -> Iterator[Path]:
    """Yields the files that a test file may be the mirror of, a module or a package with or without underscore."""
    *folders, name = test.relative_to(TESTS).parts
    name = name.removeprefix("test_").removesuffix(".py")
    starts = [ROOT] if folders[:1] == ["calibration"] else [ROOT / "pipeline"]
    for folder in folders:
        starts = [start / prefixed for start in starts for prefixed in (folder, f"_{folder}")]
    for start in starts:
        if folders and start.name.removeprefix("_") == name:
            yield start / "__init__.py"
        for prefixed in (name, f"_{name}"):
            yield start / f"{prefixed}.py"
            yield start / prefixed / "__init__.py"


def imports(file: Path) -> Iterator[str]:
    """Yields the dotted name of everything that a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(TESTS)))
def test_a_test_file_mirrors_a_module(file: Path) -> None:
    if file.relative_to(TESTS).parts[0] not in WITHOUT_A_MODULE:
        known = list(sources(file))
        assert any(source.is_file() for source in known), f"none of {', '.join(str(path) for path in known)} exists"


def test_what_mirrors_nothing_is_seen() -> None:
    assert (ROOT / "pipeline/graph/hoist.py") in sources(TESTS / "graph" / "test_hoist.py")
    assert (ROOT / "pipeline/backends/_tensorrt/api.py") in sources(TESTS / "backends" / "tensorrt" / "test_api.py")
    assert (ROOT / "pipeline/recipe.py") in sources(TESTS / "test_recipe.py")
    assert not any(source.is_file() for source in sources(TESTS / "graph" / "test_graph_passes.py"))


@pytest.mark.parametrize("file", [*FILES, *TESTS.rglob("helpers/*.py")], ids=lambda file: str(file.relative_to(TESTS)))
def test_no_test_file_is_imported(file: Path) -> None:
    """What two test files need stands in tests/helpers, fixtures in tests/conftest.py."""
    parts = {part for name in imports(file) for part in name.split(".")}
    assert not [part for part in parts if part in {"conftest", "tests"} | {test.stem for test in FILES}]


def test_every_other_module_is_a_helper_or_of_a_tool_beside_the_tests() -> None:
    strangers = [path for path in TESTS.rglob("*.py") if path not in FILES and path.name != "conftest.py"]
    assert {path.parent for path in strangers} == {TESTS / name for name in TOOLS}
