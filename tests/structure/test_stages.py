"""Stages are no libraries: nothing takes anything from one, so that data flows through files alone."""

from __future__ import annotations

import inspect

import pytest

from pipeline import stages
from pipeline.stages import code

STAGES = {f"pipeline.stages.{name}" for name in stages.ORDER}
FILES = sorted((code.ROOT / "pipeline").rglob("*.py"))


def test_no_file_imports_a_stage() -> None:
    taken = {
        f"{file.relative_to(code.ROOT)} -> {name}"
        for file in FILES
        for name in code.imported(file)
        if ".".join(name.split(".")[:3]) in STAGES
    }
    assert not taken, taken


@pytest.mark.parametrize("name", stages.ORDER)
def test_every_stage_has_the_same_names(name: str) -> None:
    stage = stages.load(name)
    assert name == stage.NAME
    shared = {"assist": ["run"]} if name in ("calibrate", "verify") else {}
    for function, parameters in {"inputs": ["run"], "outputs": ["run"], "make": ["run", "area"], **shared}.items():
        assert list(inspect.signature(getattr(stage, function)).parameters) == parameters
