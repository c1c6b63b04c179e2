"""Every backend, family and task has all names of its protocol, as mypy sees them; a new file is checked on arrival."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import ROOT
from pipeline import backends, families, tasks

MODULES = {
    "pipeline.backends.Backend": [f"pipeline.backends.{name}" for name in backends.files()],
    "pipeline.families.Family": [f"pipeline.families.{name}" for name in families.names()],
    "pipeline.tasks.Task": [f"pipeline.tasks.{name.replace('-', '_')}" for name in tasks.names()],
}


def checked(protocols: dict[str, list[str]], folder: Path) -> str:
    """Returns what mypy says of modules taken for their protocols."""
    lines = [f"import {module}" for modules in protocols.values() for module in modules]
    lines += [f"import {protocol.rpartition('.')[0]}" for protocol in protocols]
    for number, (protocol, modules) in enumerate(protocols.items()):
        lines += [f"p{number}_{n}: {protocol} = {module}" for n, module in enumerate(modules)]
    (folder / "snippet.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    answer = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(folder / "snippet.py")],
        cwd=ROOT,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return answer.stdout + answer.stderr


def test_modules_are_of_their_protocols(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    said = checked(MODULES, tmp_path)
    assert said.startswith("Success"), said


def test_a_module_that_lacks_names_is_found(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    said = checked({"pipeline.backends.Backend": ["pipeline.families.bert"]}, tmp_path)
    assert 'expression has type Module, variable has type "Backend"' in said
