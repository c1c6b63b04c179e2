"""The sections of the report that are read off the artifacts: sizes, calibration, what the stages took."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pipeline import backends
from pipeline.artifacts import Workspace
from pipeline.evaluation import read_json
from pipeline.memory import PeakMemory
from pipeline.recipe import Recipe
from pipeline.stages import ORDER, record_name


def float_graphs(workspace: Workspace) -> dict[str, Path]:
    """Returns the float graphs to compare with: the checkpoint as it is, and rewritten where it was."""
    if "original.onnx" not in workspace.manifest.files:
        return {"float_ort": workspace.path("model.onnx")}
    return {
        "float_ort": workspace.path("original.onnx"),
        "float_ort_rewritten": workspace.path("model.onnx"),
    }


def sizes(workspace: Workspace, name: str, float_onnx: Path) -> dict[str, int]:
    """Returns the `size` section, bytes."""

    def size(file: str) -> int:
        return workspace.path(file).stat().st_size

    return {
        "float_onnx": float_onnx.stat().st_size,
        "qdq_onnx": size(f"{name}/model.qdq.onnx"),
        "engine": sum(size(f"{name}/{file}") for file in backends.get(name).FILES),
    }


def calibration(recipe: Recipe, workspace: Workspace) -> dict[str, Any]:
    """Returns the `calibration` section; the method is the recipe's, the table holds them all."""
    table = read_json(workspace, "calibration.json")
    method = recipe.calibration.method
    chosen = {"percentile": recipe.calibration.percentile} if method == "percentile" else {}
    return {"method": method, **chosen, **{key: table[key] for key in ("batches", "samples", "seconds")}}


def earlier_stages(recipe: Recipe, workspace: Workspace, present: str) -> list[dict[str, Any]]:
    """Returns the stages before this one; a skipped one has the figures of the earlier run that made its files."""
    recorded = workspace.manifest.stages
    done = {n: recorded[key] for n in ORDER if (key := record_name(n, recipe)) in recorded}
    return [
        {
            "name": name,
            "seconds": done[name]["seconds"],
            "peak_rss_bytes": done[name]["peak_rss_bytes"],
            "skipped": name not in workspace.ran,
        }
        for name in ORDER
        if name in done and name != present
    ]


def this_stage(name: str, start: float) -> dict[str, Any]:
    """Returns this stage's own entry, up to the writing of the report."""
    seconds = round(time.perf_counter() - start, 3)
    return {"name": name, "seconds": seconds, "peak_rss_bytes": PeakMemory().peak(), "skipped": False}
