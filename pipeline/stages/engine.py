"""engine: <backend>/model.qdq.onnx becomes the runtime's own file, kept only if it computes that graph."""

from __future__ import annotations

import errno
import json
import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import backends
from pipeline.artifacts import Workspace
from pipeline.errors import EngineRefused, PipelineError
from pipeline.evaluation import FILE as REFERENCE
from pipeline.evaluation import Reference, one_by_one
from pipeline.parity import Parity, compare
from pipeline.recipe import Recipe
from pipeline.reference import exact_session
from pipeline.stages import code_digest, file_digest

log = logging.getLogger(__name__)

NAME = "engine"
RECORD = "engine.json"  # what was built from what, and how it compares
SAMPLES = 4  # held-out samples of the parity check, run one by one and as one batch


def inputs(recipe: Recipe, workspace: Workspace) -> dict[str, Any]:
    """Returns everything the engine depends on."""
    name = backends.choose(recipe.backend)
    return {
        "backend": name,
        "qdq": file_digest(workspace, f"{name}/model.qdq.onnx"),
        "reference": file_digest(workspace, REFERENCE),
        "code": code_digest("backends", "parity.py", "reference.py", "evaluation.py", "stages/engine.py"),
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
    build(backend, graph, area / name, recipe)
    seconds = time.perf_counter() - start
    log.info("engine: %s built in %.1f s, checking it against the graph", name, seconds)
    engine = backend.load(area / name, recipe.verification.threads)
    results = check(engine, graph, reference, recipe)
    refuse(results, name)
    rows = [{"way": way, **parity.to_json()} for way, parities in results.items() for parity in parities]
    record = {
        "backend": name,
        "qdq_sha256": file_digest(workspace, f"{name}/model.qdq.onnx"),
        "versions": backend.version(),
        "build_seconds": round(seconds, 3),
        "parity": {"samples": reference.samples, "outputs": rows},
    }
    (area / name / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


def build(backend: backends.Backend, graph: Path, area: Path, recipe: Recipe) -> None:
    """Calls the backend's build; a runtime's own exception becomes a full disk's OSError or EngineRefused."""
    try:
        backend.build(graph, area, recipe)
    except (PipelineError, OSError):
        raise
    except Exception as error:  # runtimes raise what they like, and none has a class for a full disk
        if shutil.disk_usage(area.parent).free < graph.stat().st_size:
            raise OSError(errno.ENOSPC, "no space left for the engine", str(area)) from error
        said = str(error).strip()[:500] or type(error).__name__
        raise EngineRefused(f"{backend.NAME} builds no engine from {graph}: {said}") from error


def check(engine: backends.Engine, graph: Path, reference: Reference, recipe: Recipe) -> dict[str, list[Parity]]:
    """Returns the parity of an engine with its graph, by the way that it ran: samples one by one, and as one batch."""
    exact = exact_session(graph, recipe.verification.threads)(reference.inputs)
    found = {"one by one": one_by_one(engine, reference.inputs), "as one batch": engine(reference.inputs)}
    return {way: compare(exact, outputs, reference.outputs) for way, outputs in found.items()}


def refuse(results: Mapping[str, list[Parity]], backend: str) -> None:
    """Raises EngineRefused naming every output that is wrong, and whether alone or in a batch."""
    wrong = [f"  {p.output}, {way}: {p.reason}" for way, found in results.items() for p in found if p.reason]
    if wrong:
        others = [n for n in backends.names() if n != backend and backends.get(n).unavailable_reason() is None]
        raise EngineRefused(
            f"the {backend} engine does not compute its QDQ graph and is refused; earlier artifacts are unchanged:\n"
            + "\n".join(wrong)
            + f"\nUse BACKEND={' or '.join(others) or '…'}, keep the family's rewrites on, or switch off the "
            "quantizers before the operator at fault (--set placement.disable=…)."
        )
