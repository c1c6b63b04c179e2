"""lower: the candidate graph becomes one backend's QDQ graph: placement, scales, dialect. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import backends, placement
from pipeline.artifacts import Workspace
from pipeline.errors import InputError
from pipeline.recipe import Recipe
from pipeline.stages import code_digest, file_digest, versions

NAME = "lower"


def inputs(recipe: Recipe, workspace: Workspace) -> dict[str, Any]:
    return {
        "candidates.onnx": file_digest(workspace, "candidates.onnx"),
        "calibration.json": file_digest(workspace, "calibration.json"),
        "backend": backends.choose(recipe.backend),
        "method": recipe.calibration.method,
        "percentile": recipe.calibration.percentile,
        "placement": recipe.placement.model_dump(mode="json"),
        "code": code_digest("graph", "backends", "placement.py", "scales.py", "stages/lower.py"),
        **versions("onnx", "onnx-ir"),
    }


def outputs(recipe: Recipe) -> list[str]:
    backend = backends.choose(recipe.backend)
    return [f"{backend}/model.qdq.onnx", f"{backend}/placement.json"]


def run(recipe: Recipe, workspace: Workspace, area: Path) -> None:
    import onnx_ir as ir

    from calibration import CalibrationTable
    from pipeline.graph.write import write_checked

    name = backends.choose(recipe.backend)
    backend = backends.get(name)
    quantizers = json.loads(workspace.path("quantizers.json").read_text(encoding="utf-8"))["quantizers"]
    table = CalibrationTable.read(workspace.path("calibration.json"))
    degenerate = {n: r.degenerate for n, r in table.records.items() if r.degenerate}
    decisions = placement.decide(quantizers, backend.PLACEMENT, recipe.placement, degenerate)
    enabled = {d.name for d in decisions if d.enabled}
    if not enabled:
        raise InputError("the placement leaves no quantizer on: nothing would run in int8.")
    scales = read_scales(table, recipe, enabled)
    graph = lower(ir.load(workspace.path("candidates.onnx")), enabled, scales, backend.DIALECT)
    (area / name).mkdir()
    write_checked(graph, area / name / "model.qdq.onnx")
    document = [{**vars(d), "scale": scales[d.name].tolist() if d.enabled else None} for d in decisions]
    text = json.dumps({"backend": name, "quantizers": document}, indent=1)
    (area / name / "placement.json").write_text(text, encoding="utf-8")


def read_scales(table: Any, recipe: Recipe, enabled: set[str]) -> dict[str, np.ndarray]:
    """Returns {quantizer: scale} by the recipe's method; weights take their per-channel maximum."""
    from pipeline.scales import to_scale

    method, percentile = recipe.calibration.method, recipe.calibration.percentile
    scales = {}
    for name in enabled:
        record = table.records[name]
        amax = record.amax_for("max") if record.axis is not None else record.amax_for(method, percentile)
        scales[name] = to_scale(amax)
    return scales


def lower(graph: Any, enabled: set[str], scales: Mapping[str, np.ndarray], dialect: tuple[str, ...]) -> Any:
    """Returns the graph with the enabled pairs at their scales, in a backend's dialect."""
    from pipeline.graph import BY_NAME, keep_pairs, set_scales
    from pipeline.graph.fold import fold_transposed_weights

    keep_pairs(graph, enabled)
    fold_transposed_weights(graph)
    set_scales(graph, scales)
    for name in dialect:
        BY_NAME[name](graph)
    return graph
