"""Packs of tiny models for the tests of gpu-test."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.bench.gpu_test import pack, variants
from pipeline.bench.gpu_test.variants import Subject
from pipeline.recipe import Recipe

BATCHES = (1, 4, 8)


def settings(recipe: Recipe) -> dict[str, Any]:
    """Returns the settings with which a tiny model's artifacts are up to date."""
    return {
        "checkpoint": recipe.checkpoint,
        "data": recipe.data,
        "shapes.sequence_length": recipe.shapes.sequence_length,
        "shapes.image_size": recipe.shapes.image_size,
        "calibration.samples": recipe.calibration.samples,
        "calibration.batch_size": recipe.calibration.batch_size,
        "verification.samples": recipe.verification.samples,
        "verification.threads": 1,
        "budgets.relative_drop": 1,  # random weights have no accuracy
        "budgets.agreement": 0,
    }


def make(recipe: Recipe, root: Path, targets: Sequence[str] = variants.TARGETS, name: str = "tiny") -> Path:
    """Returns the pack of an exported tiny model, as if it were trained."""
    shutil.copytree(recipe.folder, root / f"gpu-{name}")
    subject = Subject(name, recipe.family, judged=8, settings=settings(recipe), batches=BATCHES)
    pack.run(root / "pack", subjects=[subject], targets=targets, root=root)
    return root / "pack"
