"""Runs of tiny checkpoints: their recipes, the options that give them, and what a folder of artifacts holds."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from helpers.once import once
from pipeline.recipe import Recipe

# what random weights are not held to
WAIVED = {"budgets.relative_drop": 1, "budgets.agreement": 0, "budgets.sqnr_db": 0, "budgets.speedup": 0}


def snapshot(folder: Path) -> dict[str, str]:
    """Returns {file: digest of its bytes} of everything in a folder except the lock."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


def recipe_for(name: str, folder: Path, checkpoint: Path, data: Path, **more: object) -> Recipe:
    """Returns the recipe of a tiny checkpoint: 8 samples to calibrate, 8 to judge, 32 tokens or 64 pixels."""
    overrides = {
        "folder": folder,
        "checkpoint": str(checkpoint),
        "data": str(data),
        "shapes.sequence_length": 32,
        "shapes.image_size": 64,
        "calibration.samples": 8,
        "calibration.batch_size": 4,
        "verification.samples": 8,
        "verification.threads": 1,
        **{key.replace("__", "."): value for key, value in more.items()},
    }
    return Recipe.load("segformer" if name == "segformer" else "bert", overrides=overrides)


def options_of(recipe: Recipe) -> list[str]:
    """Returns the command-line options that give `recipe`."""
    settings = {
        "shapes.sequence_length": recipe.shapes.sequence_length,
        "shapes.image_size": recipe.shapes.image_size,
        "calibration.samples": recipe.calibration.samples,
        "calibration.batch_size": recipe.calibration.batch_size,
        "verification.samples": recipe.verification.samples,
        "verification.threads": recipe.verification.threads,
    }
    options = [x for key, value in settings.items() for x in ("--set", f"{key}={value}")]
    named = {"--checkpoint": recipe.checkpoint, "--data": recipe.data, "--output": str(recipe.folder)}
    return options + [x for key, value in named.items() if value is not None for x in (key, value)]


def run_stages(recipe: Recipe, *names: str) -> Recipe:
    """Returns the recipe after these stages of it ran."""
    from pipeline.stages import build

    for name in names:
        build.run_stage(name, recipe)
    return recipe


def continued(
    factory: pytest.TempPathFactory,
    name: str,
    source: Recipe,
    stages: list[str],
    backends: list[str] | None = None,
) -> Recipe:
    """Returns the recipe of a copy of a folder in which these stages ran too (for each backend), once a session."""

    def fill(folder: Path) -> None:
        shutil.copytree(source.folder, folder, dirs_exist_ok=True)
        for backend in backends or [source.backend]:
            run_stages(source.model_copy(update={"folder": folder, "backend": backend}), *stages)

    return source.model_copy(update={"folder": once(factory, name, fill)})
