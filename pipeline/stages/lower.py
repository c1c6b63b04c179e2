"""lower: the candidate graph becomes one backend's QDQ graph: placement, migration, scales, dialect. Needs no torch.

Beside the graph it writes what the graph computes of a few held-out samples, in ONNX Runtime, node by node as written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline import backends, placement, selection
from pipeline.artifacts import Workspace
from pipeline.evaluation import EXACT, Reference
from pipeline.evaluation import FILE as REFERENCE
from pipeline.lowering import Candidates
from pipeline.recipe import Recipe
from pipeline.stages import code_digest, file_digest, versions

NAME = "lower"
CODE = (
    "graph", "backends", "placement.py", "scales.py", "lowering.py", "selection.py", "reference.py", "evaluation.py",
    "../calibration",
)  # fmt: skip


def inputs(recipe: Recipe, workspace: Workspace) -> dict[str, Any]:
    name = backends.name_of(recipe.backend)
    return {
        "candidates.onnx": file_digest(workspace, "candidates.onnx"),
        "calibration.json": file_digest(workspace, "calibration.json"),
        "calibration.npz": file_digest(workspace, "calibration.npz"),
        "selection": file_digest(workspace, f"{name}/{selection.FILE}") if selection.is_asked(recipe) else None,
        "backend": name,
        "method": recipe.calibration.method,
        "percentile": recipe.calibration.percentile,
        "migration": recipe.calibration.migration,
        "placement": recipe.placement.model_dump(mode="json"),
        "dialect": list(backends.get(name).dialect(recipe)),
        "reference": file_digest(workspace, REFERENCE),
        "sequence_length": recipe.shapes.sequence_length,
        "float engines": float_precisions(recipe),
        "model.onnx": file_digest(workspace, "model.onnx") if float_precisions(recipe) else None,
        **by_default(recipe),
        "code": code_digest(*CODE, "stages/lower.py"),
        **versions("onnx", "onnx-ir", "onnxruntime"),
    }


def by_default(recipe: Recipe) -> dict[str, str]:
    """Returns the default placement, an entry per kind: `status` then names the one that changed."""
    kinds = placement.default(backends.name_of(recipe.backend), recipe.family).kinds
    return {f"{kind} by default": "on" if kind in kinds else "off" for kind in placement.KINDS}


def outputs(recipe: Recipe) -> list[str]:
    backend = backends.name_of(recipe.backend)
    names = ["model.qdq.onnx", "placement.json", EXACT, *(f"model.{p}.onnx" for p in float_precisions(recipe))]
    return [f"{backend}/{name}" for name in names]


def float_precisions(recipe: Recipe) -> list[str]:
    """Returns the precisions beside int8 that the engine stage builds engines of."""
    backend: Any = backends.get(backends.name_of(recipe.backend))
    return [p for p in backend.precisions(recipe) if p != "int8"] if hasattr(backend, "precisions") else []


def run(recipe: Recipe, workspace: Workspace, area: Path) -> None:
    import numpy as np

    from pipeline.graph.write import write_checked
    from pipeline.reference import exact_outputs

    name = backends.name_of(recipe.backend)
    backend: Any = backends.get(name)
    choice = selection.choice_of(recipe, workspace)
    lowered = Candidates(recipe, workspace).lower(choice)
    (area / name).mkdir()
    graph = area / name / "model.qdq.onnx"
    write_checked(lowered.graph, graph)
    exact = exact_outputs(graph, Reference.read(workspace), recipe.verification.threads)
    np.savez(area / name / EXACT, allow_pickle=False, **exact)
    for precision in float_precisions(recipe):
        content = backend.float_graph(workspace.path("model.onnx"), recipe, precision)
        (area / name / f"model.{precision}.onnx").write_bytes(content)
    document = {"backend": name, "calibration": vars(choice), **lowered.to_json()}
    (area / name / "placement.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
