"""lower: the candidate graph becomes one backend's QDQ graph: placement, migration, scales, dialect. Needs no torch.

Beside the graph it writes what the graph computes of a few held-out samples, in ONNX Runtime, node by node as written,
and how far its neighbours are from that.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from pipeline import backends
from pipeline.judge.evaluation import EXACT, Reference
from pipeline.judge.evaluation import FILE as REFERENCE
from pipeline.judge.soundness import Expected
from pipeline.lowering import Candidates, document, placement, selection
from pipeline.measure import machine
from pipeline.measure.versions import versions
from pipeline.run import Run
from pipeline.stages.code import code_digest

log = logging.getLogger(__name__)

NAME = "lower"


def inputs(run: Run) -> dict[str, Any]:
    recipe, backend = run.recipe, run.backend
    own_float = backends.own_float_graphs(backend, recipe)
    return {
        "candidates.onnx": run.digest("candidates.onnx"),
        "calibration.json": run.digest("calibration.json"),
        "calibration.npz": run.digest("calibration.npz"),
        "selection": run.digest(f"{backend.NAME}/{selection.FILE}") if selection.is_asked(recipe) else None,
        "backend": backend.NAME,
        "method": recipe.calibration.method,
        "percentile": recipe.calibration.percentile,
        "migration": recipe.calibration.migration,
        "placement": recipe.placement.model_dump(mode="json"),
        "processor": None if backend.ON_GPU else machine.processor_class(),
        "dialect": list(backend.dialect(recipe)),
        "reference": run.digest(REFERENCE),
        "sequence_length": recipe.shapes.sequence_length,
        "float engines": own_float,
        "model.onnx": run.digest("model.onnx") if own_float else None,
        **placement.by_default(backend.NAME, recipe.family),
        "code": code_digest(__name__, run.sha256),
        **versions("onnx", "onnx-ir", "onnxruntime"),
    }


def outputs(run: Run) -> list[str]:
    own_float = backends.own_float_graphs(run.backend, run.recipe)
    names = ["model.qdq.onnx", document.FILE, EXACT, *(f"model.{precision}.onnx" for precision in own_float)]
    return [f"{run.backend.NAME}/{name}" for name in names]


def make(run: Run, area: Path) -> None:
    from pipeline.graph.write import write_checked

    backend, folder = run.backend, area / run.backend.NAME
    choice = selection.choice_of(run)
    default = placement.default(backend.NAME, run.recipe.family)
    if default.note:
        log.info("placement: %s", default.note)
    if default.origin == "user":
        log.info("placement: %s on %s is %s", run.recipe.family, backend.NAME, default)
    lowered = Candidates(run).lower(choice)
    folder.mkdir()
    graph = folder / "model.qdq.onnx"
    write_checked(lowered.graph, graph)
    threads = run.recipe.verification.threads
    Expected.computed(graph, Reference.read(run.workspace), threads).write(folder / EXACT)
    for precision in backends.own_float_graphs(backend, run.recipe):
        content = backend.float_graph(run.workspace.path("model.onnx"), run.recipe, precision)
        (folder / f"model.{precision}.onnx").write_bytes(content)
    placed = {
        "backend": backend.NAME,
        "calibration": vars(choice),
        "measured_on": default.measured_on,
        "default_of": default.origin,
        "saturation": None if backend.ON_GPU else document.at_risk(lowered.graph),
        **lowered.to_json(),
    }
    (folder / document.FILE).write_text(json.dumps(placed, indent=1), encoding="utf-8")
