"""lower: the candidate graph becomes one backend's QDQ graph: placement, migration, scales, dialect. Needs no torch.

Beside the graph it writes what the graph computes of a few held-out samples, in ONNX Runtime, node by node as written,
and how far its neighbours are from that.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import backends
from pipeline.backends._policy import KINDS
from pipeline.judge.evaluation import EXACT, Reference, read_json
from pipeline.judge.evaluation import FILE as REFERENCE
from pipeline.judge.soundness import Expected
from pipeline.lowering import Candidates, placement, selection
from pipeline.measure import machine
from pipeline.stages import file_digest, versions
from pipeline.stages.code import code_digest

if TYPE_CHECKING:
    from pipeline.artifacts import Workspace
    from pipeline.recipe import Recipe

log = logging.getLogger(__name__)

NAME = "lower"
PLACEMENT = "placement.json"
WORST = 5  # products that are named


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
        "processor": None if backends.on_gpu(name) else machine.processor_class(),
        "dialect": list(backends.get(name).dialect(recipe)),
        "reference": file_digest(workspace, REFERENCE),
        "sequence_length": recipe.shapes.sequence_length,
        "float engines": float_precisions(name, recipe),
        "model.onnx": file_digest(workspace, "model.onnx") if float_precisions(name, recipe) else None,
        **by_default(recipe),
        "code": code_digest(__name__),
        **versions("onnx", "onnx-ir", "onnxruntime"),
    }


def by_default(recipe: Recipe) -> dict[str, str]:
    """Returns the default placement, an entry per kind: `status` then names the one that changed."""
    kinds = placement.default(backends.name_of(recipe.backend), recipe.family).policy.kinds
    return {f"{kind} by default": "on" if kind in kinds else "off" for kind in KINDS}


def outputs(recipe: Recipe) -> list[str]:
    backend = backends.name_of(recipe.backend)
    names = ["model.qdq.onnx", PLACEMENT, EXACT, *(f"model.{p}.onnx" for p in float_precisions(backend, recipe))]
    return [f"{backend}/{name}" for name in names]


def float_precisions(name: str, recipe: Recipe) -> list[str]:
    """Returns the precisions of which a backend wants the float model in a dialect of its own."""
    own = hasattr(backends.get(name), "float_graph")
    return [p for p in backends.precisions(name, recipe) if p != "int8"] if own else []


def saturation(workspace: Workspace, name: str) -> dict[str, Any] | None:
    """Returns the section of placement.json on what may saturate; None where nothing is known, and on a GPU."""
    found: dict[str, Any] | None = read_json(workspace, f"{name}/{PLACEMENT}").get("saturation")
    return found


def run(recipe: Recipe, workspace: Workspace, area: Path) -> None:
    from pipeline.graph.write import write_checked

    name = backends.name_of(recipe.backend)
    backend: Any = backends.get(name)
    choice = selection.choice_of(recipe, workspace)
    default = placement.default(name, recipe.family)
    if default.note:
        log.info("placement: %s", default.note)
    if default.origin == "user":
        log.info("placement: %s on %s is %s", recipe.family, name, default)
    lowered = Candidates(recipe, workspace).lower(choice)
    (area / name).mkdir()
    graph = area / name / "model.qdq.onnx"
    write_checked(lowered.graph, graph)
    Expected.computed(graph, Reference.read(workspace), recipe.verification.threads).write(area / name / EXACT)
    for precision in float_precisions(name, recipe):
        content = backend.float_graph(workspace.path("model.onnx"), recipe, precision)
        (area / name / f"model.{precision}.onnx").write_bytes(content)
    document = {
        "backend": name,
        "calibration": vars(choice),
        "measured_on": default.measured_on,
        "default_of": default.origin,
        "saturation": None if backends.on_gpu(name) else at_risk(lowered.graph),
        **lowered.to_json(),
    }
    (area / name / PLACEMENT).write_text(json.dumps(document, indent=1), encoding="utf-8")


def at_risk(graph: Any) -> dict[str, Any]:
    """Returns {processor: the class that a graph was made for, products, may_saturate, worst: the names of a few}."""
    from pipeline.graph.saturation_risk import risks

    found = risks(graph)
    worst = [str(risk.node.name) for risk in found if risk.may_saturate]
    return {
        "processor": machine.processor_class(),
        "products": len(found),
        "may_saturate": len(worst),
        "worst": worst[:WORST],
    }
