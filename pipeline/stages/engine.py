"""engine: <backend>/model.qdq.onnx becomes the runtime's own file, kept only if it computes that graph.

On a backend with several precisions, float engines of the same model are built beside it, and the fastest one that is
sound and within the accuracy budgets is kept: never an int8 engine that is slower.
"""

from __future__ import annotations

import errno
import json
import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import backends
from pipeline.artifacts import Workspace
from pipeline.errors import EngineRefused, PipelineError
from pipeline.evaluation import EXACT, PROBES, Reference, one_by_one, read_exact, read_json
from pipeline.evaluation import FILE as REFERENCE
from pipeline.parity import Parity, compare
from pipeline.recipe import Recipe
from pipeline.stages import code_digest, file_digest, lower

if TYPE_CHECKING:
    from pipeline.evaluation import Arrays

log = logging.getLogger(__name__)

NAME = "engine"
RECORD = "engine.json"  # what was built from what, and how it compares


def inputs(recipe: Recipe, workspace: Workspace) -> dict[str, Any]:
    """Returns everything the engine depends on."""
    name = backends.choose(recipe.backend)
    backend: Any = backends.get(name)
    graphs = [f"{name}/model.{p}.onnx" for p in lower.float_precisions(recipe)]
    return {
        "backend": name,
        "qdq": file_digest(workspace, f"{name}/model.qdq.onnx"),
        **(backend.settings(recipe) if hasattr(backend, "settings") else {}),
        **{graph: file_digest(workspace, graph) for graph in graphs},
        "exact": file_digest(workspace, f"{name}/{EXACT}"),
        "reference": file_digest(workspace, REFERENCE),
        "code": code_digest("backends", "parity.py", "evaluation.py", "stages/engine.py"),
        **{f"version {package}": found for package, found in backend.version().items()},
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
    backend: Any = backends.get(name)
    graph = workspace.path(f"{name}/model.qdq.onnx")
    source = Source(graph, read_exact(workspace, name), Reference.read(workspace))
    start = time.perf_counter()
    if hasattr(backend, "build_fastest"):
        rows = build_fastest(backend, source, area / name, recipe, workspace)
    else:
        rows = []
        build(backend, graph, area / name, recipe)
    seconds = time.perf_counter() - start
    log.info("engine: %s built in %.1f s, checking it against the graph", name, seconds)
    engine = backend.load(area / name, recipe.verification.threads)
    results = check(engine, source, recipe)
    refuse(results, name)
    record = {
        "backend": name,
        "qdq_sha256": file_digest(workspace, f"{name}/model.qdq.onnx"),
        "versions": backend.version(),
        "build_seconds": round(seconds, 3),
        "parity": {
            "samples": min(PROBES, source.reference.samples),
            "outputs": [{"way": way, **p.to_json()} for way, parities in results.items() for p in parities],
        },
        "precisions": rows,
    }
    (area / name / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")


@dataclass(frozen=True)
class Source:
    """What engines are held to: their graph, what it computes of the first PROBES held-out samples, and these."""

    qdq: Path
    exact: Arrays
    reference: Reference

    def expected(self, precision: str) -> tuple[Arrays, Arrays | None]:
        """Returns what an engine should give, and for int8 the float outputs that say how much quantization moved."""
        original = self.reference.first(PROBES).outputs
        return (self.exact, original) if precision == "int8" else (original, None)


def build_fastest(
    backend: Any, source: Source, area: Path, recipe: Recipe, workspace: Workspace
) -> list[dict[str, Any]]:
    """Returns a row for each precision that was built; the fastest one that may ship is in `area`."""
    from pipeline import latency, tasks, verdict
    from pipeline.measures import accuracy

    task = tasks.get(read_json(workspace, "quantizers.json")["task"])
    budgets = verdict.budgets(recipe.budgets, task)
    feeds = source.reference.first(1).inputs

    def judge(precision: str, engine: backends.Engine) -> str | None:
        wrong = faults(check(engine, source, recipe))
        if not wrong:
            found = one_by_one(engine, source.reference.inputs, f"{precision} on held-out samples")
            wrong = verdict.accuracy_reasons(accuracy(task, source.reference, found)[0], budgets)
        return "; ".join(wrong) or None

    def seconds(engines: Mapping[str, backends.Engine]) -> Mapping[str, list[float]]:
        for engine in engines.values():
            engine.prepare({name: x.shape for name, x in feeds.items()})
        asked = recipe.verification
        return latency.interleave(
            {name: partial(engine, feeds) for name, engine in engines.items()}, warmup=asked.warmup, runs=asked.runs
        )

    rows: list[dict[str, Any]] = backend.build_fastest(source.qdq, area, recipe, judge, seconds)
    return rows


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


def check(engine: backends.Engine, source: Source, recipe: Recipe) -> dict[str, list[Parity]]:
    """Returns the parity of an engine with its graph, by the way that it ran: samples one by one, and as one batch.

    The batch is not larger than the largest that the recipe asks for: an engine may take no larger one.
    """
    samples = source.reference.first(PROBES)
    exact, original = source.expected(precision_of(engine))
    count = min(PROBES, max(recipe.shapes.batches))
    together = engine(samples.first(count).inputs)
    return {
        "one by one": compare(exact, one_by_one(engine, samples.inputs), original),
        "as one batch": compare(first(exact, count), together, original and first(original, count)),
    }


def first(arrays: Arrays, count: int) -> Arrays:
    return {name: x[:count] for name, x in arrays.items()}


def precision_of(engine: backends.Engine) -> str:
    """Returns "fp16" or "fp32" for an engine of the float model, "int8" for all others."""
    return str(getattr(engine, "precision", "int8"))


def faults(results: Mapping[str, list[Parity]]) -> list[str]:
    """Returns a sentence for every output that is wrong, with whether alone or in a batch."""
    return [f"{p.output}, {way}: {p.reason}" for way, found in results.items() for p in found if p.reason]


def refuse(results: Mapping[str, list[Parity]], backend: str) -> None:
    """Raises EngineRefused naming every output that is wrong."""
    wrong = faults(results)
    if wrong:
        others = [name for name in backends.usable() if name != backend]
        raise EngineRefused(
            f"the {backend} engine does not compute its QDQ graph and is refused; earlier artifacts are unchanged:\n  "
            + "\n  ".join(wrong)
            + f"\nUse BACKEND={' or '.join(others) or '…'}, keep the family's rewrites on, or switch off the "
            "quantizers before the operator at fault (--set placement.disable=…)."
        )
