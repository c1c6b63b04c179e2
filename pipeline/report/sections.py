"""The sections of the report that are read off the artifacts: sizes, image size, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline import backends
from pipeline.judge.evaluation import read_json
from pipeline.judge.reference import CUDA
from pipeline.lowering import selection

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.run import Run

FLOAT = "float ONNX Runtime"


def float_name(report: Mapping[str, Any]) -> str:
    """Returns what a report's speed-up is over: float ONNX Runtime, and for an engine on a GPU, where that ran."""
    provider, backend = (report.get("latency") or {}).get("float_provider"), report.get("backend")
    if provider is None or backend not in backends.names() or not backends.on_gpu(backend):
        return FLOAT
    return f"{FLOAT} on {'CUDA' if provider == CUDA else 'the CPU'}"


def sizes(workspace: Workspace, name: str) -> dict[str, int]:
    """Returns the `size` section in bytes; the float graph and the engine were already read, and so checked."""
    recorded = workspace.manifest.files

    def size(file: str) -> int:
        return int(recorded[file]["bytes"])

    return {
        "float_onnx": size("original.onnx" if "original.onnx" in recorded else "model.onnx"),
        "qdq_onnx": workspace.path(f"{name}/model.qdq.onnx").stat().st_size,
        "engine": sum(size(f"{name}/{file}") for file in backends.get(name).FILES),
    }


def image_size(run: Run) -> dict[str, Any] | None:
    """Returns the `image_size` section, the engine's and the checkpoint's own; None for models without images."""
    from pipeline.tasks import _image_processing

    file = _image_processing.FILE
    if file not in run.workspace.manifest.files:
        return None
    folder = run.workspace.path(file).parent
    return {
        "engine": _image_processing.engine_size(folder, run.recipe)._asdict(),
        "checkpoint": _image_processing.own_size(folder),
        "same": _image_processing.other_size(folder, run.recipe) is None,
        "window_stride": stride._asdict() if (stride := run.recipe.shapes.window_stride) else None,
    }


def calibration(run: Run) -> dict[str, Any]:
    """Returns the `calibration` section: of all methods in the table, the one that the engine was made with."""
    recipe, workspace, name = run.recipe, run.workspace, run.backend.NAME
    table = read_json(workspace, "calibration.json")
    lowered = read_json(workspace, f"{name}/placement.json")
    chosen = dict(lowered["calibration"])
    if chosen["method"] != "percentile":
        del chosen["percentile"]
    section = {
        **chosen,
        "asked": recipe.calibration.method,
        "migrations": len(lowered["migrations"]),
        "placement": {key: lowered.get(key) for key in ("default_of", "measured_on")},  # older folders name no owner
        "batches": table["batches"],
        "samples": table["samples"],
        "seconds": workspace.manifest.stages["calibrate"]["seconds"],
    }
    if selection.is_asked(recipe):
        section["candidates"] = read_json(workspace, f"{name}/{selection.FILE}")["rows"]
    return section
