"""Artifact folders of tiny models for the tests of gpu-test, and its steps in this process, where TensorRT is faked."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.once import once
from helpers.runs import run_stages
from pipeline.recipe import Recipe

BATCHES = (1, 4, 8)


def make(recipe: Recipe, folder: Path, target: str = "8.6", **more: Any) -> Path:
    """Returns `folder`, an exported tiny model lowered for TensorRT. more: settings."""
    shutil.copytree(recipe.folder, folder, dirs_exist_ok=True)
    own = {"folder": folder, "backend": "tensorrt", "tensorrt.target": target, "shapes.batches": BATCHES}
    own |= {"budgets.relative_drop": 1, "budgets.agreement": 0}  # random weights have no accuracy
    run_stages(Recipe.load(recipe.family, overrides={**own, **more}, defaults=recipe.model_dump()), "lower")
    return folder


def lowered(factory: pytest.TempPathFactory, exported: Callable[[str], Recipe], to: Path, target: str = "8.6") -> Path:
    """Returns `to`, a copy of a tiny BERT's folder with graphs for TensorRT, which are made once a session."""
    made = once(factory, f"gpu-lowered-{target}", lambda folder: make(exported("bert"), folder, target))
    return Path(shutil.copytree(made, to))


def in_this_process(what: str, function: str, *arguments: Any) -> Any:
    """Returns what `pipeline.measure.process.call` does, as it goes through JSON, without another process."""
    module, _, name = function.partition(":")
    found = getattr(importlib.import_module(module), name)(*json.loads(json.dumps(arguments)))
    return json.loads(json.dumps(found, allow_nan=False))


def dies(*arguments: Any) -> None:
    """Ends its process as a crash in C++ does."""
    os.kill(os.getpid(), signal.SIGSEGV)
