"""What `make mutation` is told about the source is still true of it; the run itself takes an hour and is no test."""

from __future__ import annotations

import ast
import json

import pytest

import mutation
from helpers import ROOT
from mutation.equal import EQUAL
from mutation.hand import FAULTS


@pytest.mark.parametrize("pattern", mutation.SCOPE)
def test_what_is_mutated_is_there(pattern: str) -> None:
    files, _, functions = pattern.partition("::")
    found = list(ROOT.glob(files))
    assert found and all((ROOT / judges).exists() for judges in mutation.SCOPE[pattern])
    names = {n.name for file in found for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef)}
    assert {name for name in functions.split(",") if name} <= names


def test_modules_are_named_once() -> None:
    modules = [scope.module for scope in mutation.scopes()]
    assert len(modules) == len(set(modules)) and {file for file, _, _ in FAULTS} <= set(modules)


@pytest.mark.parametrize(("file", "before", "after"), FAULTS)
def test_faults_put_in_by_hand_have_their_place(file: str, before: str, after: str) -> None:
    source = (ROOT / file).read_text(encoding="utf-8")
    assert source.count(before) == 1
    ast.parse(source.replace(before, after))


@pytest.mark.parametrize("module", EQUAL)
def test_what_is_called_no_fault_is_in_the_source_and_has_a_reason(module: str) -> None:
    lines = {line.strip() for line in (ROOT / module).read_text(encoding="utf-8").splitlines()}
    for (before, after), reason in EQUAL[module].items():
        assert set(before.split(" ⏎ ")) <= lines and after != before and reason


def test_the_published_share_is_the_target() -> None:
    found = json.loads((ROOT / "results" / "mutation.json").read_text(encoding="utf-8"))["modules"]
    assert sum(m["killed"] for m in found) >= 0.95 * sum(m["tried"] for m in found)
