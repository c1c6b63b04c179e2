"""engine: <backend>/model.qdq.onnx becomes the runtime's own file, kept only if it computes that graph."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import backends
from pipeline.artifacts import Workspace
from pipeline.errors import EngineRefused
from pipeline.evaluation import FILE as REFERENCE
from pipeline.evaluation import Reference
from pipeline.parity import Parity, compare
from pipeline.recipe import Recipe
from pipeline.stages import file_digest

if TYPE_CHECKING:
    from pipeline.backends import Array

log = logging.getLogger(__name__)

NAME = "engine"
RECORD = "engine.json"  # what was built from what, and how it compares
SAMPLES = 4  # held-out samples of the parity check, run as one batch


def inputs(recipe: Recipe, workspace: Workspace) -> dict[str, Any]:
    """Returns everything the engine depends on."""
    name = backends.choose(recipe.backend)
    return {
        "backend": name,
        "qdq": file_digest(workspace, f"{name}/model.qdq.onnx"),
        "reference": file_digest(workspace, REFERENCE),
        **{f"version {package}": found for package, found in backends.get(name).version().items()},
    }


def outputs(recipe: Recipe) -> list[str]:
    """Returns the files of the chosen backend."""
    name = backends.choose(recipe.backend)
    return [f"{name}/{file}" for file in (*backends.get(name).FILES, RECORD)]


def run(recipe: Recipe, workspace: Workspace, area: Path) -> None:
    """Writes the engine and engine.json.

    Raises EngineRefused, and leaves the earlier files as they are, when the engine is not the graph.
    """
    name = backends.choose(recipe.backend)
    backend = backends.get(name)
    graph = workspace.path(f"{name}/model.qdq.onnx")
    reference = Reference.read(workspace).first(SAMPLES)
    start = time.perf_counter()
    backend.build(graph, area / name, recipe)
    seconds = time.perf_counter() - start
    log.info("engine: %s built in %.1f s, checking it against the graph", name, seconds)
    engine = backend.load(area / name, recipe.verification.threads)
    results = check(graph, engine(reference.inputs), reference, recipe.verification.threads)
    refuse(results, name)
    record = {
        "backend": name,
        "qdq_sha256": file_digest(workspace, f"{name}/model.qdq.onnx"),
        "versions": backend.version(),
        "build_seconds": round(seconds, 3),
        "parity": {"samples": reference.samples, "outputs": [p.to_json() for p in results]},
    }
    (area / name / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


def check(graph: Path, found: Mapping[str, Array], reference: Reference, threads: int | None) -> list[Parity]:
    """Returns the parity of an engine's outputs `found` with the exact QDQ graph, output by output."""
    from pipeline.reference import exact_session

    return compare(exact_session(graph, threads)(reference.inputs), found, reference.outputs)


def refuse(results: list[Parity], backend: str) -> None:
    """Raises EngineRefused naming every output that is wrong."""
    wrong = [f"  {p.output}: {p.reason}" for p in results if p.reason is not None]
    if wrong:
        others = [n for n in backends.names() if n != backend and backends.get(n).unavailable_reason() is None]
        raise EngineRefused(
            f"the {backend} engine does not compute its QDQ graph and is refused; earlier artifacts are "
            "unchanged:\n"
            + "\n".join(wrong)
            + f"\nUse BACKEND={' or '.join(others) or '…'}, keep the family's rewrites "
            "on, or switch off the quantizers before the operator at fault (--set placement.disable=…)."
        )
